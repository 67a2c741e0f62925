// The type-erased core: what the Python bindings use, and any typed API is a thin layer over it.
//
// Arrays are described by a pointer, a dtype, a Layout of the parameters, and where they are not
// plain (C-contiguous, aligned to their element, in native byte order) by a Memory.  Everything
// here is safe to call from many threads at once; nothing here knows Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace zeropoint::core {

/// Floats by width, then integers.
enum class DType : std::uint8_t { f16, bf16, f32, f64, i8, u8, i16, u16, i32, u32, i64, u64 };
std::size_t size_of(DType) noexcept;
/// Whether the dtype holds this integer exactly.
bool holds(DType, std::int64_t) noexcept;

/// A whole recipe of arithmetic: conventions.def.
enum class Convention : std::uint8_t {
#define ZEROPOINT_CONVENTION(name) name,
#include "zeropoint/conventions.def"
};
constexpr const char* convention_names[] = {
#define ZEROPOINT_CONVENTION(name) #name,
#include "zeropoint/conventions.def"
};
/// The same for parameters with a real offset in place of the zero point.
enum class OffsetConvention : std::uint8_t {
#define ZEROPOINT_OFFSET_CONVENTION(name, text) name,
#include "zeropoint/conventions.def"
};
constexpr const char* offset_convention_names[] = {
#define ZEROPOINT_OFFSET_CONVENTION(name, text) text,
#include "zeropoint/conventions.def"
};
/// Whether the convention keeps the span of the data, (qmax - qmin) scales.
constexpr bool keeps_span(OffsetConvention c) noexcept { return c != OffsetConvention::cf; }
/// Whether the convention multiplies by 1 / scale, which then must be finite.
constexpr bool by_reciprocal(Convention c) noexcept {
    return c == Convention::torch || c == Convention::ggml;
}

/// Where the zero point comes from: the convention's default rule; z = qmax - rint(max / s);
/// z = qmin - rint(min / s); of these two the one that moves the ends of the range less.
enum class ZeroPointFrom : std::uint8_t { default_rule, max, min, least_error };
constexpr const char* rule_names[] = {"default_rule", "max", "min", "least_error"};

/// Whether an enum's value is one that `names` has a name for.
template <class Enum, std::size_t n>
constexpr bool is_known(Enum value, const char* const (&)[n]) noexcept {
    return static_cast<std::size_t>(value) < n;
}

/// How parameters lie in an array of outer * axis * inner elements.
///   per tensor:  {1, 1, n}
///   per channel: `axis` channels; block == 1
///   per block:   `axis` is cut into blocks of `block` elements, the last may be short
struct Layout {
    enum class Kind : std::uint8_t { tensor, channel, block };
    Kind kind = Kind::tensor;
    std::size_t outer = 1, axis = 1, inner = 0, block = 1;
    std::size_t dimension = 0;  ///< that of the array which `axis` is the length of

    static Layout tensor(std::size_t n) noexcept {
        Layout layout;
        layout.inner = n;
        return layout;
    }
    /// Per channel of dimension `axis` (below 0: from the last one) of an array with this shape, or
    /// with block_size > 0 per block along it; none where there is no such dimension.
    template <class Length>
    static std::optional<Layout> along(const Length* shape, std::size_t ndim, std::ptrdiff_t axis,
                                       std::size_t block_size) noexcept {
        const std::size_t at = static_cast<std::size_t>(axis) + (axis < 0 ? ndim : 0);
        if (at >= ndim) return std::nullopt;
        Layout layout = tensor(1);
        layout.kind = block_size ? Kind::block : Kind::channel;
        layout.block = block_size ? block_size : 1;
        layout.dimension = at;
        for (std::size_t i = 0; i < ndim; ++i)
            (i < at    ? layout.outer
             : i == at ? layout.axis
                       : layout.inner) *= static_cast<std::size_t>(shape[i]);
        return layout;
    }

    std::size_t size() const noexcept { return outer * axis * inner; }
    std::size_t blocks() const noexcept { return axis / block + (axis % block != 0); }
    std::size_t parameters() const noexcept {
        return kind == Kind::tensor ? 1 : kind == Kind::channel ? axis : outer * blocks() * inner;
    }
    /// The shape of the parameters of an array with this shape.
    template <class Length>
    std::vector<Length> parameter_shape(const Length* shape, std::size_t ndim) const {
        if (kind == Kind::tensor) return {};
        if (kind == Kind::channel) return {shape[dimension]};
        std::vector<Length> found(shape, shape + ndim);
        found[dimension] = static_cast<Length>(blocks());
        return found;
    }
    /// Whether `n` parameters of the shape `given` fit an array with this shape.
    template <class Length>
    bool fits(std::size_t n, const std::vector<Length>& given, const Length* shape,
              std::size_t ndim) const {
        // blocks of another arrangement can have the same number
        return n == parameters() && (kind != Kind::block || given == parameter_shape(shape, ndim));
    }
};

/// How an array lies in memory; without strides it is plain.  With them it may have any strides (in
/// bytes), any alignment, and input also the other byte order.  Arrays are shaped as the Layout of
/// the call has it; only the strides of axes of length 1 mean nothing.
struct Memory {
    static constexpr std::size_t most_dimensions = 64;
    std::size_t dimensions = 0;
    const std::ptrdiff_t* shape = nullptr;
    const std::ptrdiff_t* strides = nullptr;
    bool swapped = false;
};
struct ConstView {
    const void* data;
    DType dtype;
    Memory memory{};
};
struct View {
    void* data;
    DType dtype;
    Memory memory{};
};
/// An array whose dtype the call knows: a pointer to a plain one, or a view.
struct Input {
    Input(const void* plain) noexcept : data(plain) {}
    Input(const ConstView& view) noexcept : data(view.data), memory(view.memory) {}
    const void* data;
    Memory memory{};
};
struct Output {
    Output(void* plain) noexcept : data(plain) {}
    Output(const View& view) noexcept : data(view.data), memory(view.memory) {}
    void* data;
    Memory memory{};
};

/// Asked now and then in a large call; false stops it (the output is then partly written).
struct Poll {
    bool (*keep_going)(void*) = nullptr;
    void* context = nullptr;
};

/// Validated parameters, ready for the loops.  The caller guarantees finite positive scales and
/// qmin < qmax inside the code type; zero points lie in [qmin, qmax] unless the convention is
/// numpy; `nan_code`, the code that stands for NaN, lies outside [qmin, qmax].  Throws
/// std::invalid_argument for an unknown convention.
class Params {
public:
    template <class T>  // float or double
    Params(const std::vector<T>& scale, std::vector<std::int32_t> zero_point, int qmin, int qmax,
           DType code, Convention convention, std::optional<int> nan_code = {});
    /// With an offset for each scale, or for each span (finite and >= 0) where the convention keeps
    /// that.  Under faiss in float, `fused` rounds the product and the sum of a value once.
    template <class T>
    Params(const std::vector<T>& scale, const std::vector<T>& offset, int qmin, int qmax,
           DType code, OffsetConvention convention, bool fused, std::optional<int> nan_code = {});

    std::size_t size() const noexcept;
    DType code() const noexcept;
    DType precision() const noexcept;  ///< of the scale: f32 or f64
    bool has_offset() const noexcept;
    /// Whether the scales survive the cast to the precision in which data of `x` is computed: that
    /// of `x`, but with an offset the wider of the two, which every scale survives.
    bool usable_for(DType x) const;
    /// Takes now the memory that the first call with data other than f64 would take.
    void prepare() const;

    struct Data;
    const Data& data() const noexcept { return *data_; }

private:
    std::shared_ptr<Data> data_;
};

/// `n` scales, f32 or f64, in the precision of `stored`; false where one cannot be a scale there:
/// it must be finite and > 0, and so must 1 / scale where the convention multiplies by it.
bool store_scales(ConstView scale, View stored, std::size_t n, Convention) noexcept;

/// float(a[i] / b[i]), the quotient in double: the multipliers of a Requantization from the scales
/// of its accumulators and of its codes.
void quotients(const double* a, const double* b, float* quotient, std::size_t n) noexcept;

/// What requantize needs, ready for the loops: the zero points and the codes' range of `params`,
/// and one multiplier, or params.size() of them.
class Requantization {
public:
    Requantization(const Params& params, const std::vector<float>& multiplier);
    /// With the multipliers float(double(acc_scale) / scale), for one acc_scale or params.size() of
    /// them, f32 or f64.  None where an acc_scale or a multiplier is not finite and > 0, or a zero
    /// point is beyond the codes' range.
    static std::optional<Requantization> of(const Params& params, ConstView acc_scale,
                                            std::size_t n);

    struct Data;
    const Data& data() const noexcept { return *data_; }

private:
    std::shared_ptr<Data> data_;
};

/// What becomes of codes: n tables of 256 bytes, one for each parameter of a layout per tensor or
/// per channel.  The code whose byte is b becomes the one whose byte is the table's at b.
class Tables {
public:
    static constexpr std::size_t entries = 256;
    Tables(const std::uint8_t* bytes, std::size_t n) : bytes_(bytes, bytes + n * entries) {}
    std::size_t size() const noexcept { return bytes_.size() / entries; }
    const std::uint8_t* bytes() const noexcept { return bytes_.data(); }

private:
    std::vector<std::uint8_t> bytes_;
};

/// The ISAs this CPU can run, best first; functions below take an index into this list.
const std::vector<std::string>& isas();
/// Whether "avx512" of this CPU is with VBMI, which lookup has a loop for.
bool has_vbmi() noexcept;
/// All ISAs in this build; the CPU may lack some.
std::vector<std::string> compiled_isas();
/// "operation A B" for every kernel, in the order of kernels.def.
std::vector<std::string> kernel_names();

/// Threads that a large call may use, process-wide; 0 means the CPUs that this process may use
/// (affinity and cgroup).  Results are the same bits for any number.  A call waits for none that
/// has not got a CPU in time: the others do its part.
void set_num_threads(std::size_t n) noexcept;
std::size_t get_num_threads() noexcept;

/// Throws std::invalid_argument where a variable of the environment that the core reads is set to
/// what it cannot be; the message names it.  The calls below then go on as if it were not set.
///   ZEROPOINT_STREAM_FROM  bytes read and written from which on stores are non-temporal.  Unset:
///     half of the last-level cache, at most 32 MiB; and not where results have no pages yet
/// A whole number of up to 20 digits, below 2^64; empty is not set.  It is read once a process.
void check_environment();

/// Gives the calling thread IEEE 754's default arithmetic (to nearest, subnormals kept), as all
/// functions here do for themselves; returns the state for `leave_ieee`, which puts it back.
std::uint64_t enter_ieee() noexcept;
void leave_ieee(std::uint64_t state) noexcept;

// Each returns false if `poll` stopped it.  Input and output must not overlap, except that
// fake_quantize, saturate, round and lookup may work in place.
bool quantize(std::size_t isa, ConstView x, Output q, const Layout&, const Params&, Poll = {});
bool dequantize(std::size_t isa, Input q, View x, const Layout&, const Params&, Poll = {});
bool fake_quantize(std::size_t isa, ConstView x, Output y, const Layout&, const Params&, Poll = {});
/// clip(rint(float(acc) * multiplier) + z)
bool requantize(std::size_t isa, Input acc, Output q, const Layout&, const Requantization&,
                Poll = {});
/// The bounds are numbers that the dtype holds.
bool saturate(std::size_t isa, ConstView x, Output y, std::size_t n, std::int64_t low,
              std::int64_t high, Poll = {});
bool saturate_cast(std::size_t isa, ConstView x, View q, std::size_t n, Poll = {});
bool round(std::size_t isa, ConstView x, Output y, std::size_t n, bool ties_away, Poll = {});
/// Of bytes, as the tables have them; the layout is per tensor or per channel.
bool lookup(std::size_t isa, Input q, Output r, const Layout&, const Tables&, Poll = {});
/// The blocks of GGUF's Q8_0 (llama.cpp), 34 bytes for 32 elements: float16 of d = max|x| / 127,
/// little-endian, and codes by the ggml convention, 0 where 1 / d is not finite.
constexpr std::size_t q8_0_elements = 32, q8_0_bytes = 34;
/// n blocks of plain f16, bf16 or f32.  `finite` says whether each d is, as it is stored.
bool to_q8_0(std::size_t isa, ConstView x, void* blocks, std::size_t n, bool& finite, Poll = {});
/// code * d of n blocks, computed in float, in the dtype of x, plain f16, bf16 or f32.
bool from_q8_0(std::size_t isa, const void* blocks, View x, std::size_t n, bool& finite, Poll = {});
/// Minimum and maximum for each parameter of the layout, float (double for f64 data); a zero is +0;
/// both are NaN where the data has a NaN or an Inf.
bool min_max(std::size_t isa, ConstView x, void* low, void* high, const Layout&, Poll = {});
/// The same of what is not NaN: then an Inf is an end as any other, and +Inf and -Inf are minimum
/// and maximum where nothing is left.
bool min_max_present(std::size_t isa, ConstView x, void* low, void* high, const Layout&, Poll = {});

/// How many elements lie in each bin, for each parameter of the layout.  `table`, of zeros at
/// first, has a row of 8-byte words for each: minimum and maximum (double), as of min_max; the
/// exponent; and the counts, that of bin t of 2^exponent (scalar.h) at t modulo their number. These
/// mean nothing where the data have a NaN or an Inf, or span more bins than there are.
constexpr std::size_t histogram_row = 3 + 4096;
bool histogram(std::size_t isa, ConstView x, const std::vector<std::int64_t>& exponents,
               void* table, const Layout&, Poll = {});

/// What becomes of x by x' = dequantize(quantize(x)).  The sums are those of _reference.errors, to
/// the bit, whatever threads there are.
struct Errors {
    double inverse_unit = 1;         ///< in: f64 data are in units of a power of two, 1 / this
    double worst = 0, absolute = 0;  ///< of |x' - x|, maximum and sum
    double noise = 0, signal = 0, back = 0, dot = 0;  ///< (x' - x)^2, x^2, x'^2, x x'
    std::int64_t clipped = 0;     ///< elements whose code lay outside [qmin, qmax]
    std::uint8_t used[256] = {};  ///< for each code, as a byte, whether an element has it
    std::int64_t* nonzero =
        nullptr;                   ///< for each channel (index along the axis), how many are not 0
    std::int64_t* most = nullptr;  ///< and the fewest codes that nine of ten of these have
};
bool errors(std::size_t isa, ConstView x, const Layout&, const Params&, Errors&, Poll = {});

/// How to choose parameters from data: scale = (max - min) / (qmax - qmin).
struct Choice {
    ZeroPointFrom zero_point_from = ZeroPointFrom::default_rule;
    bool include_zero = true;  ///< widen the range to hold 0; false: numpy convention alone
    bool symmetric = false;    ///< z in the middle, scale = max|x| / steps; by the default rule
    int qmin = 0, qmax = 255;
    Convention convention = Convention::numpy;
};
/// Why there are no parameters for a range: NaN or Inf in it; no steps in it (constant, and it need
/// not hold 0); no finite scale; no finite 1/scale, which the torch convention needs; a zero point
/// beyond int32; a convention or rule that is not one.
enum class Fault { none, not_finite, constant, too_wide, too_narrow, far_from_zero, unknown };
struct Verdict {
    Fault fault = Fault::none;
    std::size_t index = 0;  ///< of the first range at fault
    explicit operator bool() const noexcept { return fault == Fault::none; }
};
/// Scale and zero point for `n` ranges in `precision` (f32 or f64).
Verdict choose(DType precision, const void* low, const void* high, std::size_t n, const Choice&,
               void* scale, std::int32_t* zero_point) noexcept;

/// min_max, choose and quantize in one pass over memory, where elements that share parameters lie
/// together and stay in the second cache: `apart` where they do not, and nothing has been done.
/// At a `fault` (choose says which) or where `poll` stopped it results are partly written.
enum class Outcome { done, stopped, fault, apart };
Outcome quantize_dynamic(std::size_t isa, ConstView x, void* q, const Layout&, const Choice&,
                         void* scale, std::int32_t* zero_point, Poll = {}) noexcept;

}  // namespace zeropoint::core
