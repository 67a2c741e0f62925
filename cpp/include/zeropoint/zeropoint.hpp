// zeropoint: exact and fast 8-bit affine quantization for CPUs.
//
//     q  = clip(round(x / scale + zero_point), qmin, qmax)
//     x' = (q - zero_point) * scale
//
// Codes Q are std::uint8_t or std::int8_t; data X are float, float16 or bfloat16.  Arithmetic is
// done in float, whatever the host's rounding mode and flush-to-zero flags, and gives the same bits
// on every CPU and for any number of threads.  NaN becomes qmin, +-Inf become the ends.
//
//     const auto params = zeropoint::choose_params<std::uint8_t>(x, n);
//     zeropoint::quantize(x, q, n, params);
//
// Arrays are C-contiguous.  Input and output must not overlap, except that fake_quantize, round,
// saturate and rescale may work in place.  All functions may be called from several threads at
// once.  Bad parameters throw std::invalid_argument before anything is written, with a message that
// names the argument, the value and the fix; nothing else throws, but for std::bad_alloc from what
// is not noexcept.  While ZEROPOINT_STREAM_FROM in the environment is not a number (core.hpp), all
// that check their arguments throw std::invalid_argument; noexcept calls go on as if it were not
// set.
//
// For pipelines: Quantizer, AxisQuantizer and Requantizer check their parameters once and take what
// memory they need; their calls are noexcept.
//
// C++17.  `find_package(zeropoint CONFIG REQUIRED)`, target `zeropoint::zeropoint`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "zeropoint/core.hpp"

namespace zeropoint {

// ---- types -----------------------------------------------------------------------------------

/// numpy, onnx, torch, tflite or ggml: a whole recipe of arithmetic (conventions.def).
using core::Convention;
/// max, min, least_error, or the convention's default_rule (core.hpp).
using core::ZeroPointFrom;

/// IEEE 754 binary16 and bfloat16 as their bits: storage, not arithmetic.  Memory of any type of
/// the same format (_Float16, __half, Eigen::half) can be passed by reinterpret_cast.
struct float16 {
    std::uint16_t bits;
};
struct bfloat16 {
    std::uint16_t bits;
};

/// Parameters of a whole tensor; make_params sets the full range of Q.  Valid: scale finite and > 0
/// (under torch 1 / scale finite too); qmin < qmax, both codes of Q; zero_point in [qmin, qmax], or
/// with include_zero == false (numpy convention alone) any.
struct Params {
    float scale = 1;
    std::int32_t zero_point = 0, qmin = 0, qmax = 255;
    Convention convention = Convention::numpy;
    bool include_zero = true;
};

/// Parameters along an axis: one pair per channel (block_size 0), or one for every `block_size`
/// elements along the axis, in the array's own order with the axis divided by block_size (rounded
/// up), as in ONNX opset 21.
struct AxisParams {
    std::vector<float> scale = {};
    std::vector<std::int32_t> zero_point = {0};  ///< as many as scales, or one for all
    std::int32_t qmin = 0, qmax = 255;
    std::size_t axis = 0, block_size = 0;
    Convention convention = Convention::numpy;
    bool include_zero = true;
};

using Shape = std::vector<std::size_t>;

/// How codes become codes under other parameters: the nearest to the real value, halves where the
/// target's convention sends them; as LiteRT's QUANTIZE with its default kernels, or its reference
/// kernels; dequantized and quantized, in float.
enum class Arithmetic : std::uint8_t { exact, litert, litert_reference, in_float };

// ---- for the templates -------------------------------------------------------------------------

namespace detail {

using core::ConstView;
using core::DType;
using core::View;

template <class X>
constexpr DType real_dtype() {
    static_assert(
        std::is_same_v<X, float> || std::is_same_v<X, float16> || std::is_same_v<X, bfloat16>,
        "data are float, zeropoint::float16 or zeropoint::bfloat16");
    return std::is_same_v<X, float>     ? DType::f32
           : std::is_same_v<X, float16> ? DType::f16
                                        : DType::bf16;
}
template <class Q>
constexpr DType code_dtype() {
    static_assert(std::is_same_v<Q, std::uint8_t> || std::is_same_v<Q, std::int8_t>,
                  "codes are std::uint8_t or std::int8_t");
    return std::is_same_v<Q, std::uint8_t> ? DType::u8 : DType::i8;
}
template <class X>
constexpr ConstView view(const X* x) {
    return {x, real_dtype<X>()};
}
template <class X>
constexpr View view(X* x) {
    return {x, real_dtype<X>()};
}
template <class Q>
constexpr int first_code = std::is_signed_v<Q> ? -128 : 0;

core::Params checked(const Params&, DType code);
core::Params checked(const AxisParams&, DType code);
core::Layout layout(const Shape&, const AxisParams&);
core::Layout layout(const Shape&, std::size_t axis, std::size_t block_size);
core::Requantization requantization(const std::vector<double>& acc_scale, const Params&,
                                    DType code);
core::Requantization requantization(const std::vector<double>& acc_scale, const AxisParams&,
                                    DType code);
void check_bounds(std::int64_t qmin, std::int64_t qmax);
std::size_t isa() noexcept;

Params choose(ConstView x, std::size_t n, DType code, const core::Choice&);
AxisParams choose(ConstView x, const Shape&, std::size_t axis, std::size_t block_size, DType code,
                  const core::Choice&);
std::pair<float, float> min_max(ConstView x, std::size_t n);

/// What codes become, and the largest error of the values that they stand for.
struct Table {
    core::Tables codes;
    double max_abs_error;
};
using Function = double (*)(double value, void* context);
AxisParams along(const Params&);  ///< one scale for all
/// The layout of both; the axis is that of the one which has several scales, if any has.
core::Layout layout(const Shape&, const AxisParams& source, const AxisParams& target);
/// For `channels` channels, or one where the parameters are of a tensor.
Table rescaling(const AxisParams& source, DType from, const AxisParams& target, DType to,
                std::size_t channels, Arithmetic);
Table tabulated(Function, void* context, const AxisParams& source, DType from,
                const AxisParams& target, DType to, std::size_t channels);
/// Of uint8 pixels of images of one shape; of (pixel / scale - mean) / std.
std::pair<core::Layout, Table> image(const std::vector<double>& mean,
                                     const std::vector<double>& std, double scale,
                                     const AxisParams& target, DType to, const Shape&,
                                     std::size_t channel_axis);
/// A callable of any type as a Function, `context` being its address.
template <class F>
double call(double value, void* context) {
    return (*static_cast<F*>(context))(value);
}

}  // namespace detail

/// How to choose parameters for codes Q: the fields of core::Choice, with the full range of Q.
template <class Q>
struct Choice : core::Choice {
    Choice() {
        qmin = detail::first_code<Q>;
        qmax = qmin + 255;
    }
};

// ---- the machine -------------------------------------------------------------------------------

/// The instruction sets that this CPU can run and the library has code for, best first; the last
/// one is "baseline".
std::vector<std::string> isas();
/// The one that calls use: the best, unless set_isa named another.
std::string isa();
/// Process-wide; "" is the best.  Throws std::invalid_argument, with the choices, for any other
/// name.
void set_isa(const std::string& name);

/// Threads that a large call may use, process-wide; 0 means the CPUs that this process may use.
/// Small calls never leave the calling thread.
using core::get_num_threads;
using core::set_num_threads;

// ---- parameters --------------------------------------------------------------------------------

/// Parameters with the full range of codes of Q.  Throws std::invalid_argument for invalid ones.
template <class Q>
Params make_params(float scale, std::int32_t zero_point,
                   Convention convention = Convention::numpy) {
    constexpr int qmin = detail::first_code<Q>;
    const Params params{scale, zero_point, qmin, qmin + 255, convention};
    detail::checked(params, detail::code_dtype<Q>());
    return params;
}

/// Scale and zero point for n elements.  Throws std::invalid_argument where there is no data, a NaN
/// or an Inf, no finite scale, a zero point beyond std::int32_t, or constant data without
/// include_zero.
template <class Q, class X>
Params choose_params(const X* x, std::size_t n, const Choice<Q>& how) {
    return detail::choose(detail::view(x), n, detail::code_dtype<Q>(), how);
}
template <class Q, class X>
Params choose_params(const X* x, std::size_t n, ZeroPointFrom from = ZeroPointFrom::min,
                     bool include_zero = true) {
    Choice<Q> how;
    how.zero_point_from = from;
    how.include_zero = include_zero;
    return choose_params<Q>(x, n, how);
}
/// The same for each channel along `axis`, or for each block of `block_size` elements along it.
template <class Q, class X>
AxisParams choose_params(const X* x, const Shape& shape, std::size_t axis,
                         std::size_t block_size = 0, const Choice<Q>& how = {}) {
    return detail::choose(detail::view(x), shape, axis, block_size, detail::code_dtype<Q>(), how);
}

/// Minimum and maximum of n elements; a zero is +0.  Throws std::invalid_argument for no data, NaN,
/// Inf.
template <class X>
std::pair<float, float> min_max(const X* x, std::size_t n) {
    return detail::min_max(detail::view(x), n);
}

// ---- prepared operations -----------------------------------------------------------------------

/// quantize and dequantize with one scale and zero point, checked once.
template <class Q>
class Quantizer {
public:
    /// Throws std::invalid_argument for invalid parameters.
    explicit Quantizer(const Params& params)
        : params_(detail::checked(params, detail::code_dtype<Q>())) {}

    template <class X>
    void quantize(const X* x, Q* q, std::size_t n) const noexcept {
        core::quantize(detail::isa(), detail::view(x), q, core::Layout::tensor(n), params_);
    }
    template <class X>
    void dequantize(const Q* q, X* x, std::size_t n) const noexcept {
        core::dequantize(detail::isa(), q, detail::view(x), core::Layout::tensor(n), params_);
    }
    /// dequantize(quantize(x)) in one pass; y may be x.
    template <class X>
    void fake_quantize(const X* x, X* y, std::size_t n) const noexcept {
        core::fake_quantize(detail::isa(), detail::view(x), y, core::Layout::tensor(n), params_);
    }

private:
    core::Params params_;
};

/// quantize and dequantize arrays of one shape with parameters along an axis, checked once.
template <class Q>
class AxisQuantizer {
public:
    /// Throws std::invalid_argument for invalid parameters, or ones that do not fit the shape.
    AxisQuantizer(const AxisParams& params, const Shape& shape)
        : layout_(detail::layout(shape, params)),
          params_(detail::checked(params, detail::code_dtype<Q>())) {}

    template <class X>
    void quantize(const X* x, Q* q) const noexcept {
        core::quantize(detail::isa(), detail::view(x), q, layout_, params_);
    }
    template <class X>
    void dequantize(const Q* q, X* x) const noexcept {
        core::dequantize(detail::isa(), q, detail::view(x), layout_, params_);
    }
    /// dequantize(quantize(x)) in one pass; y may be x.
    template <class X>
    void fake_quantize(const X* x, X* y) const noexcept {
        core::fake_quantize(detail::isa(), detail::view(x), y, layout_, params_);
    }

private:
    core::Layout layout_;
    core::Params params_;
};

/// int32 accumulators to 8-bit codes: clip(rint(float(acc) * M) + zero_point) with
/// M = float(acc_scale / scale), the quotient in double.
template <class Q>
class Requantizer {
public:
    /// `acc_scale` is the size of one unit of the accumulators, usually the product of the scales
    /// of the two factors.  Throws std::invalid_argument where a scale or M is not finite and > 0.
    Requantizer(double acc_scale, const Params& params)
        : requantization_(detail::requantization({acc_scale}, params, detail::code_dtype<Q>())) {}
    void operator()(const std::int32_t* acc, Q* q, std::size_t n) const noexcept {
        core::requantize(detail::isa(), acc, q, core::Layout::tensor(n), requantization_);
    }

private:
    core::Requantization requantization_;
};

/// The same for arrays of one shape with an acc_scale for each channel of `params` (block_size 0),
/// or one for all.
template <class Q>
class AxisRequantizer {
public:
    AxisRequantizer(const std::vector<double>& acc_scale, const AxisParams& params,
                    const Shape& shape)
        : layout_(detail::layout(shape, params)),
          requantization_(detail::requantization(acc_scale, params, detail::code_dtype<Q>())) {}
    void operator()(const std::int32_t* acc, Q* q) const noexcept {
        core::requantize(detail::isa(), acc, q, layout_, requantization_);
    }

private:
    core::Layout layout_;
    core::Requantization requantization_;
};

// ---- codes to codes ----------------------------------------------------------------------------

/// A function from codes P to codes Q, as a table of all 256; `r` may be where `q` is.
template <class P, class Q>
class Lookup {
public:
    explicit Lookup(detail::Table table) : table_(std::move(table)) {}
    void operator()(const P* q, Q* r, std::size_t n) const noexcept {
        core::lookup(detail::isa(), q, r, core::Layout::tensor(n), table_.codes);
    }
    /// The largest |function(value) - value of the code|, over the codes from the source's qmin to
    /// its qmax where that is finite; saturation counts.
    double max_abs_error() const noexcept { return table_.max_abs_error; }
    /// 256 bytes: the code whose byte is b becomes the one whose byte is at [b].
    const std::uint8_t* table() const noexcept { return table_.codes.bytes(); }

private:
    detail::Table table_;
};

/// The same for arrays of one shape, with a table for each channel.
template <class P, class Q>
class AxisLookup {
public:
    AxisLookup(const core::Layout& layout, detail::Table table)
        : layout_(layout), table_(std::move(table)) {}
    void operator()(const P* q, Q* r) const noexcept {
        core::lookup(detail::isa(), q, r, layout_, table_.codes);
    }
    double max_abs_error() const noexcept { return table_.max_abs_error; }
    /// 256 bytes for each channel; in all, where each side has one scale.
    const std::uint8_t* table() const noexcept { return table_.codes.bytes(); }

private:
    core::Layout layout_;
    detail::Table table_;
};

/// Codes P under `source` to codes Q under `target`.  Throws std::invalid_argument for invalid
/// parameters; under LiteRT's arithmetics also for zero points outside [qmin, qmax], and for a
/// scale 2^31 times that of the target or more.
template <class P, class Q>
Lookup<P, Q> make_rescale(const Params& source, const Params& target,
                          Arithmetic arithmetic = Arithmetic::exact) {
    return Lookup<P, Q>(detail::rescaling(detail::along(source), detail::code_dtype<P>(),
                                          detail::along(target), detail::code_dtype<Q>(), 1,
                                          arithmetic));
}
/// The same per channel.  Either may have one scale for all; else both have the same axis.
template <class P, class Q>
AxisLookup<P, Q> make_rescale(const AxisParams& source, const AxisParams& target,
                              const Shape& shape, Arithmetic arithmetic = Arithmetic::exact) {
    const core::Layout layout = detail::layout(shape, source, target);
    return {layout, detail::rescaling(source, detail::code_dtype<P>(), target,
                                      detail::code_dtype<Q>(), layout.axis, arithmetic)};
}

/// What codes become by any function of one double that returns one: computed in double from the
/// values (q - zero_point) * scale, and quantized in double by the target's convention.  NaN
/// becomes qmin, and Inf saturates.
template <class P, class Q, class F>
Lookup<P, Q> make_lookup(F function, const Params& source, const Params& target) {
    return Lookup<P, Q>(detail::tabulated(&detail::call<F>, &function, detail::along(source),
                                          detail::code_dtype<P>(), detail::along(target),
                                          detail::code_dtype<Q>(), 1));
}
/// The same per channel, as make_rescale.
template <class P, class Q, class F>
AxisLookup<P, Q> make_lookup(F function, const AxisParams& source, const AxisParams& target,
                             const Shape& shape) {
    const core::Layout layout = detail::layout(shape, source, target);
    return {layout, detail::tabulated(&detail::call<F>, &function, source, detail::code_dtype<P>(),
                                      target, detail::code_dtype<Q>(), layout.axis)};
}

/// uint8 pixels to a model's codes, quantize((pixel / scale - mean) / std): images of one shape, of
/// which channel_axis has the channels.  `mean` and `std` are one number, or one for each channel.
template <class Q>
AxisLookup<std::uint8_t, Q> image_lookup(const std::vector<double>& mean,
                                         const std::vector<double>& std, const AxisParams& params,
                                         const Shape& shape, std::size_t channel_axis,
                                         double scale = 255) {
    auto made =
        detail::image(mean, std, scale, params, detail::code_dtype<Q>(), shape, channel_axis);
    return {made.first, std::move(made.second)};
}
template <class Q>
AxisLookup<std::uint8_t, Q> image_lookup(const std::vector<double>& mean,
                                         const std::vector<double>& std, const Params& params,
                                         const Shape& shape, std::size_t channel_axis,
                                         double scale = 255) {
    return image_lookup<Q>(mean, std, detail::along(params), shape, channel_axis, scale);
}

// ---- single calls: as above, with the checks in each call --------------------------------------

template <class Q, class X>
void quantize(const X* x, Q* q, std::size_t n, const Params& params) {
    Quantizer<Q>(params).quantize(x, q, n);
}
template <class Q, class X>
void quantize(const X* x, Q* q, const Shape& shape, const AxisParams& params) {
    AxisQuantizer<Q>(params, shape).quantize(x, q);
}
template <class Q, class X>
void dequantize(const Q* q, X* x, std::size_t n, const Params& params) {
    Quantizer<Q>(params).dequantize(q, x, n);
}
template <class Q, class X>
void dequantize(const Q* q, X* x, const Shape& shape, const AxisParams& params) {
    AxisQuantizer<Q>(params, shape).dequantize(q, x);
}
/// dequantize(quantize(x)) in one pass; Q, the type of the codes, is named by the caller.
template <class Q, class X>
void fake_quantize(const X* x, X* y, std::size_t n, const Params& params) {
    Quantizer<Q>(params).fake_quantize(x, y, n);
}
template <class Q, class X>
void fake_quantize(const X* x, X* y, const Shape& shape, const AxisParams& params) {
    AxisQuantizer<Q>(params, shape).fake_quantize(x, y);
}

template <class Q>
void requantize(const std::int32_t* acc, Q* q, std::size_t n, double acc_scale,
                const Params& params) {
    Requantizer<Q>(acc_scale, params)(acc, q, n);
}
template <class Q>
void requantize(const std::int32_t* acc, Q* q, const Shape& shape,
                const std::vector<double>& acc_scale, const AxisParams& params) {
    AxisRequantizer<Q>(acc_scale, params, shape)(acc, q);
}

/// Of tables that are made in each call: a tenth of a millisecond or less.
template <class P, class Q>
void rescale(const P* q, Q* r, std::size_t n, const Params& source, const Params& target,
             Arithmetic arithmetic = Arithmetic::exact) {
    make_rescale<P, Q>(source, target, arithmetic)(q, r, n);
}
template <class P, class Q>
void rescale(const P* q, Q* r, const Shape& shape, const AxisParams& source,
             const AxisParams& target, Arithmetic arithmetic = Arithmetic::exact) {
    make_rescale<P, Q>(source, target, shape, arithmetic)(q, r);
}

/// Chooses parameters from the data and quantizes with them (ONNX's DynamicQuantizeLinear under
/// Convention::onnx).  Errors as choose_params.
template <class Q, class X>
Params quantize_dynamic(const X* x, Q* q, std::size_t n, const Choice<Q>& how = {}) {
    const Params params = choose_params<Q>(x, n, how);
    quantize(x, q, n, params);
    return params;
}
template <class Q, class X>
AxisParams quantize_dynamic(const X* x, Q* q, const Shape& shape, std::size_t axis,
                            std::size_t block_size = 0, const Choice<Q>& how = {}) {
    AxisParams params = choose_params<Q>(x, shape, axis, block_size, how);
    quantize(x, q, shape, params);
    return params;
}

/// clip(x, qmin, qmax); NaN passes through; y may be x.  Throws std::invalid_argument if qmin >
/// qmax.
template <class X>
void saturate(const X* x, X* y, std::size_t n, std::int64_t qmin, std::int64_t qmax) {
    detail::check_bounds(qmin, qmax);
    core::saturate(detail::isa(), detail::view(x), y, n, qmin, qmax);
}
/// The nearest integers, halves to even or away from 0; NaN, Inf and the sign of 0 pass through; y
/// may be x.
enum class Ties { even, away };
template <class X>
void round(const X* x, X* y, std::size_t n, Ties ties = Ties::even) noexcept {
    core::round(detail::isa(), detail::view(x), y, n, ties == Ties::away);
}
/// Rounds halves to even, clips to the range of Q, casts: never wraps.  NaN becomes the minimum of
/// Q.
template <class Q, class X>
void saturate_cast(const X* x, Q* q, std::size_t n) noexcept {
    core::saturate_cast(detail::isa(), detail::view(x), {q, detail::code_dtype<Q>()}, n);
}

}  // namespace zeropoint
