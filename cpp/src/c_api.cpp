// The C interface: what C hands over becomes what the typed API takes, and exceptions a status.
#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iterator>
#include <limits>
#include <new>
#include <tuple>
#include <utility>

#include "arithmetic.h"
#include "zeropoint/zeropoint.hpp"

// The library's own symbols are hidden; these are not, and cpp/exports.txt lists them.
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#include "zeropoint/zeropoint.h"
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

using namespace zeropoint;
using core::DType;
using core::Layout;

// What is made for a shape, or per tensor for any number of elements.
struct zeropoint_prepared {
    Layout layout;
};
struct zeropoint_quantizer : zeropoint_prepared {
    core::Params params;
};
struct zeropoint_requantizer : zeropoint_prepared {
    core::Requantization requantization;
};
struct zeropoint_lookup : zeropoint_prepared {
    detail::Table table;
};

namespace {

constexpr bool same(int c, core::DType dtype) { return c == static_cast<int>(dtype); }
static_assert(same(ZEROPOINT_FLOAT16, core::DType::f16) &&
              same(ZEROPOINT_BFLOAT16, core::DType::bf16) &&
              same(ZEROPOINT_FLOAT32, core::DType::f32) && same(ZEROPOINT_INT8, core::DType::i8) &&
              same(ZEROPOINT_UINT8, core::DType::u8));
constexpr bool same(int c, Convention convention) { return c == static_cast<int>(convention); }
static_assert(same(ZEROPOINT_NUMPY, Convention::numpy) && same(ZEROPOINT_ONNX, Convention::onnx) &&
              same(ZEROPOINT_TORCH, Convention::torch) &&
              same(ZEROPOINT_TFLITE, Convention::tflite) && same(ZEROPOINT_GGML, Convention::ggml));
constexpr bool same(int c, ZeroPointFrom rule) { return c == static_cast<int>(rule); }
static_assert(same(ZEROPOINT_DEFAULT_RULE, ZeroPointFrom::default_rule) &&
              same(ZEROPOINT_FROM_MAX, ZeroPointFrom::max) &&
              same(ZEROPOINT_FROM_MIN, ZeroPointFrom::min) &&
              same(ZEROPOINT_LEAST_ERROR, ZeroPointFrom::least_error));
constexpr bool same(int c, Arithmetic arithmetic) { return c == static_cast<int>(arithmetic); }
static_assert(same(ZEROPOINT_EXACT, Arithmetic::exact) &&
              same(ZEROPOINT_LITERT, Arithmetic::litert) &&
              same(ZEROPOINT_LITERT_REFERENCE, Arithmetic::litert_reference) &&
              same(ZEROPOINT_IN_FLOAT, Arithmetic::in_float));

// No call that succeeds touches it: the memory of a thread's first use cannot be refused.
thread_local char message[512];

// What `guarded` turns into ZEROPOINT_INVALID_ARGUMENT; the message is written.
struct Refused {};

// MinGW's libstdc++ has its library format as C says, which its `printf` does not mean.
#if defined(__MINGW_PRINTF_FORMAT)
#define ZP_FORMAT __MINGW_PRINTF_FORMAT
#else
#define ZP_FORMAT printf
#endif
[[noreturn, gnu::format(ZP_FORMAT, 1, 2)]] void refuse(const char* format, ...) {
    std::va_list words;
    va_start(words, format);
    std::vsnprintf(message, sizeof message, format, words);
    va_end(words);
    throw Refused();
}

// The status for the exception that is being handled.  One that is none of these, thrown by a
// function of the caller's, ends the process here, and not in frames of another language.
zeropoint_status failed() noexcept {
    try {
        throw;
    } catch (const Refused&) {
    } catch (const std::bad_alloc&) {
        std::snprintf(message, sizeof message, "there is not enough memory");
        return ZEROPOINT_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        std::snprintf(message, sizeof message, "%s", error.what());
    }
    return ZEROPOINT_INVALID_ARGUMENT;
}
template <class Call>
zeropoint_status guarded(const Call& call) noexcept {
    try {
        call();
        return ZEROPOINT_OK;
    } catch (...) {
        return failed();
    }
}

// ---- what C hands over --------------------------------------------------------------------------

template <class T>
T& given(const char* name, T* object) {
    if (!object) refuse("%s is NULL", name);
    return *object;
}

void check_length(const char* name, std::size_t n) {
    if (n > std::numeric_limits<std::size_t>::max() / 8)
        refuse("%s is %zu: memory cannot hold as many elements; check that it is not below 0", name,
               n);
}

// An array of n elements.
template <class T>
T* array(const char* name, T* data, std::size_t n, std::size_t size) {
    if (!data && n) refuse("%s is NULL; %zu elements need memory", name, n);
    if (reinterpret_cast<std::uintptr_t>(data) % size)
        refuse("%s is not aligned to its elements of %zu bytes; copy it", name, size);
    return data;
}
template <class T>
std::vector<T> listed(const char* name, const T* data, const char* length, std::size_t n) {
    check_length(length, n);
    array(name, data, n, sizeof(T));
    return std::vector<T>(data, data + n);
}

Shape shape_of(const std::size_t* shape, std::size_t dimensions) {
    constexpr std::size_t most = core::Memory::most_dimensions;
    if (dimensions > most) refuse("dimensions is %zu, more than %zu", dimensions, most);
    return listed("shape", shape, "dimensions", dimensions);
}

template <class Enum>
Enum chosen(const char* name, std::int32_t value, int count) {
    if (value < 0 || value >= count)
        refuse("%s %d is unknown; zeropoint.h lists them", name, static_cast<int>(value));
    return static_cast<Enum>(value);
}
Convention convention_of(zeropoint_convention convention) {
    return chosen<Convention>("convention", convention, std::size(core::convention_names));
}
DType code_dtype(zeropoint_dtype dtype) {
    if (dtype != ZEROPOINT_UINT8 && dtype != ZEROPOINT_INT8)
        refuse("dtype %d is not one of codes; use ZEROPOINT_UINT8 or ZEROPOINT_INT8",
               static_cast<int>(dtype));
    return static_cast<DType>(dtype);
}
DType real_dtype(zeropoint_dtype dtype) {
    if (dtype < ZEROPOINT_FLOAT16 || dtype > ZEROPOINT_FLOAT32)
        refuse("dtype %d is not one of data; use ZEROPOINT_FLOAT32, _FLOAT16 or _BFLOAT16",
               static_cast<int>(dtype));
    return static_cast<DType>(dtype);
}

core::ConstView reals(const void* x, zeropoint_dtype dtype, std::size_t n) {
    const DType known = real_dtype(dtype);
    check_length("n", n);
    return {array("x", x, n, core::size_of(known)), known};
}

Params params_of(const zeropoint_params& p) {
    return {
        p.scale, p.zero_point, p.qmin, p.qmax, convention_of(p.convention), p.include_zero != 0};
}
AxisParams params_of(const zeropoint_axis_params& p) {
    return {listed("scale", p.scale, "count", p.count),
            listed("zero_point", p.zero_point, "zero_point_count", p.zero_point_count),
            p.qmin,
            p.qmax,
            p.axis,
            p.block_size,
            convention_of(p.convention),
            p.include_zero != 0};
}
core::Choice choice_of(const zeropoint_choice& c) {
    return {
        chosen<ZeroPointFrom>("zero_point_from", c.zero_point_from, std::size(core::rule_names)),
        c.include_zero != 0,
        c.symmetric != 0,
        c.qmin,
        c.qmax,
        convention_of(c.convention)};
}

// ---- operations ---------------------------------------------------------------------------------

// Parameters that C hands over, of one kind or the other, and what they are here.
struct Given {
    Given(const zeropoint_params* tensor) : tensor(tensor) {}
    Given(const zeropoint_axis_params* along) : along(along), by_shape(true) {}
    const zeropoint_params* tensor = nullptr;
    const zeropoint_axis_params* along = nullptr;
    bool by_shape = false;
};
struct Codes {
    Codes(const char* name, const Given& p)
        : params(p.along ? params_of(*p.along) : detail::along(params_of(given(name, p.tensor)))),
          dtype(code_dtype(p.along ? p.along->dtype : p.tensor->dtype)) {}
    AxisParams params;
    DType dtype;
};

// `handle` is set whatever comes of it.
template <class Handle, class Make>
zeropoint_status create(const char* name, Handle** handle, const Make& make) noexcept {
    return guarded([&] {
        given(name, handle) = nullptr;
        *handle = new Handle(make());
    });
}

Layout layout_of(const Given& params, const Codes& codes, const std::size_t* shape,
                 std::size_t dimensions) {
    return params.by_shape ? detail::layout(shape_of(shape, dimensions), codes.params)
                           : Layout::tensor(0);
}
zeropoint_quantizer quantizer_of(const Given& params, const std::size_t* shape = nullptr,
                                 std::size_t dimensions = 0) {
    const Codes codes("params", params);
    return {{layout_of(params, codes, shape, dimensions)},
            detail::checked(codes.params, codes.dtype)};
}
zeropoint_requantizer requantizer_of(const double* acc_scale, std::size_t count,
                                     const Given& params, const std::size_t* shape = nullptr,
                                     std::size_t dimensions = 0) {
    const Codes codes("params", params);
    return {{layout_of(params, codes, shape, dimensions)},
            detail::requantization(listed("acc_scale", acc_scale, "acc_scale_count", count),
                                   codes.params, codes.dtype)};
}

// How a lookup's codes are made: by an arithmetic of rescale, or where that is null by a function.
struct How {
    const zeropoint_arithmetic* arithmetic;
    detail::Function function;
    void* context;
};
zeropoint_lookup lookup_of(const Given& source_params, const Given& target_params,
                           const std::size_t* shape, std::size_t dimensions, const How& how) {
    const Codes source("source", source_params), target("target", target_params);
    const Layout layout = source_params.by_shape ? detail::layout(shape_of(shape, dimensions),
                                                                  source.params, target.params)
                                                 : Layout::tensor(0);
    if (how.arithmetic)
        return {{layout},
                detail::rescaling(
                    source.params, source.dtype, target.params, target.dtype, layout.axis,
                    chosen<Arithmetic>("arithmetic", *how.arithmetic, ZEROPOINT_IN_FLOAT + 1))};
    if (!how.function) refuse("function is NULL");
    return {{layout},
            detail::tabulated(how.function, how.context, source.params, source.dtype, target.params,
                              target.dtype, layout.axis)};
}
zeropoint_status create_quantizer(zeropoint_quantizer** quantizer, const Given& params,
                                  const std::size_t* shape, std::size_t dimensions) noexcept {
    return create("quantizer", quantizer, [&] { return quantizer_of(params, shape, dimensions); });
}
zeropoint_status create_requantizer(zeropoint_requantizer** requantizer, const double* acc_scale,
                                    std::size_t count, const Given& params,
                                    const std::size_t* shape, std::size_t dimensions) noexcept {
    return create("requantizer", requantizer,
                  [&] { return requantizer_of(acc_scale, count, params, shape, dimensions); });
}
zeropoint_status create_lookup(zeropoint_lookup** lookup, const Given& source, const Given& target,
                               const std::size_t* shape, std::size_t dimensions,
                               const How& how) noexcept {
    return create("lookup", lookup,
                  [&] { return lookup_of(source, target, shape, dimensions, how); });
}

struct Normalization {
    const double* mean;
    std::size_t mean_count;
    const double* deviation;
    std::size_t deviation_count;
    double scale;
};
zeropoint_status create_image(zeropoint_lookup** lookup, const Normalization& n,
                              const Given& params, const std::size_t* shape, std::size_t dimensions,
                              std::size_t channel_axis) noexcept {
    return create("lookup", lookup, [&] {
        const Codes target("params", params);
        auto made =
            detail::image(listed("mean", n.mean, "mean_count", n.mean_count),
                          listed("std", n.deviation, "std_count", n.deviation_count), n.scale,
                          target.params, target.dtype, shape_of(shape, dimensions), channel_axis);
        return zeropoint_lookup{{made.first}, std::move(made.second)};
    });
}

enum class Op {
    quantize,
    dequantize,
    fake_quantize,
    requantize,
    lookup,
    saturate,
    round,
    saturate_cast
};
// The names of its arrays, and what is in them: u8 for codes, f32 for data of any dtype.
struct Arrays {
    char in_name[4], out_name[2];
    DType in, out;
};
constexpr Arrays arrays_of[] = {
    {"x", "q", DType::f32, DType::u8},    // quantize
    {"q", "x", DType::u8, DType::f32},    // dequantize
    {"x", "y", DType::f32, DType::f32},   // fake_quantize
    {"acc", "q", DType::i32, DType::u8},  // requantize
    {"q", "r", DType::u8, DType::u8},     // lookup
    {"x", "y", DType::f32, DType::f32},   // saturate
    {"x", "y", DType::f32, DType::f32},   // round
    {"x", "q", DType::f32, DType::u8},    // saturate_cast
};

// `dtype` is that of the data.  Of saturate, `low` and `high` are the bounds; of round, `low` is
// whether ties go away from 0; of saturate_cast the dtype of the codes.
void run(Op op, const zeropoint_prepared& made, const void* in, void* out, zeropoint_dtype dtype,
         std::size_t n, std::int64_t low = 0, std::int64_t high = 0) {
    check_length("n", n);
    const bool any = made.layout.kind == Layout::Kind::tensor && made.layout.size() == 0;
    if (!any && n != made.layout.size())
        refuse("n is %zu, and the shape has %zu elements; pass as many", n, made.layout.size());
    const Layout layout = any ? Layout::tensor(n) : made.layout;
    const Arrays& arrays = arrays_of[static_cast<int>(op)];
    const auto dtype_of = [&](DType what) { return what == DType::f32 ? real_dtype(dtype) : what; };
    const core::ConstView from{in, dtype_of(arrays.in)};
    core::View to{out, dtype_of(arrays.out)};
    array(arrays.in_name, in, n, core::size_of(from.dtype));
    array(arrays.out_name, out, n, core::size_of(to.dtype));
    const std::size_t isa = detail::isa();
    const auto params = [&]() -> const core::Params& {
        return static_cast<const zeropoint_quantizer&>(made).params;
    };
    switch (op) {
        case Op::quantize:
            core::quantize(isa, from, to, layout, params());
            break;
        case Op::dequantize:
            core::dequantize(isa, from, to, layout, params());
            break;
        case Op::fake_quantize:
            core::fake_quantize(isa, from, to, layout, params());
            break;
        case Op::requantize:
            core::requantize(isa, from, to, layout,
                             static_cast<const zeropoint_requantizer&>(made).requantization);
            break;
        case Op::lookup:
            core::lookup(isa, from, to, layout,
                         static_cast<const zeropoint_lookup&>(made).table.codes);
            break;
        case Op::saturate:
            core::saturate(isa, from, to, n, low, high);
            break;
        case Op::round:
            core::round(isa, from, to, n, low != 0);
            break;
        case Op::saturate_cast:
            to.dtype = static_cast<DType>(low);
            core::saturate_cast(isa, from, to, n);
    }
}
zeropoint_status perform(Op op, const zeropoint_prepared* made, const void* in, void* out,
                         zeropoint_dtype dtype, std::size_t n) noexcept {
    return guarded([&] { run(op, given("the handle", made), in, out, dtype, n); });
}
zeropoint_status single(Op op, const zeropoint_params* params, const void* in, void* out,
                        zeropoint_dtype dtype, std::size_t n) noexcept {
    return guarded([&] { run(op, quantizer_of(params), in, out, dtype, n); });
}

zeropoint_params chosen_params(const void* x, zeropoint_dtype dtype, std::size_t n,
                               const zeropoint_choice* choice) {
    const zeropoint_choice& c = given("choice", choice);
    const Params p = detail::choose(reals(x, dtype, n), n, code_dtype(c.dtype), choice_of(c));
    return {p.scale, p.zero_point, p.qmin, p.qmax, c.dtype, c.convention, p.include_zero};
}

}  // namespace

// ---- the library and the machine ----------------------------------------------------------------

const char* zeropoint_version(void) { return ZEROPOINT_VERSION; }

const char* zeropoint_message(void) { return message; }

const char* zeropoint_isa_name(size_t index) {
    const char* name = nullptr;
    guarded([&] {
        if (index < core::isas().size()) name = core::isas()[index].c_str();
    });
    return name;
}
const char* zeropoint_isa(void) { return zeropoint_isa_name(detail::isa()); }
zeropoint_status zeropoint_set_isa(const char* name) {
    return guarded([&] { set_isa(name ? name : ""); });
}

size_t zeropoint_get_num_threads(void) { return get_num_threads(); }
void zeropoint_set_num_threads(size_t n) { set_num_threads(n); }

// ---- parameters ---------------------------------------------------------------------------------

zeropoint_status zeropoint_make_params(float scale, int32_t zero_point, zeropoint_dtype codes,
                                       zeropoint_convention convention, zeropoint_params* params) {
    return guarded([&] {
        zeropoint_params& made = given("params", params);
        const int qmin = code_dtype(codes) == DType::u8 ? 0 : -128;
        const zeropoint_params tried{scale, zero_point, qmin, qmin + 255, codes, convention, 1};
        quantizer_of(&tried);
        made = tried;
    });
}

zeropoint_status zeropoint_make_choice(zeropoint_dtype codes, zeropoint_choice* choice) {
    return guarded([&] {
        const int qmin = code_dtype(codes) == DType::u8 ? 0 : -128;
        given("choice", choice) = {ZEROPOINT_DEFAULT_RULE, 1, 0, qmin, qmin + 255, codes,
                                   ZEROPOINT_NUMPY};
    });
}

zeropoint_status zeropoint_choose_params(const void* x, zeropoint_dtype dtype, size_t n,
                                         const zeropoint_choice* choice, zeropoint_params* params) {
    return guarded([&] { given("params", params) = chosen_params(x, dtype, n, choice); });
}

zeropoint_status zeropoint_parameter_count(const size_t* shape, size_t dimensions, size_t axis,
                                           size_t block_size, size_t* count) {
    return guarded([&] {
        given("count", count) =
            detail::layout(shape_of(shape, dimensions), axis, block_size).parameters();
    });
}

zeropoint_status zeropoint_choose_axis_params(const void* x, zeropoint_dtype dtype,
                                              const size_t* shape, size_t dimensions, size_t axis,
                                              size_t block_size, const zeropoint_choice* choice,
                                              float* scale, int32_t* zero_point, size_t count,
                                              zeropoint_axis_params* params) {
    return guarded([&] {
        const zeropoint_choice& c = given("choice", choice);
        zeropoint_axis_params& made = given("params", params);
        const Shape lengths = shape_of(shape, dimensions);
        const Layout layout = detail::layout(lengths, axis, block_size);
        if (count != layout.parameters())
            refuse(
                "count is %zu, and this shape has %zu parameters along its axis; make room for "
                "as many",
                count, layout.parameters());
        array("scale", scale, count, sizeof *scale);
        array("zero_point", zero_point, count, sizeof *zero_point);
        const AxisParams p = detail::choose(reals(x, dtype, layout.size()), lengths, axis,
                                            block_size, code_dtype(c.dtype), choice_of(c));
        std::copy_n(p.scale.begin(), count, scale);
        std::copy_n(p.zero_point.begin(), count, zero_point);
        made = {scale,  zero_point, count,   count,        axis,          block_size,
                p.qmin, p.qmax,     c.dtype, c.convention, p.include_zero};
    });
}

zeropoint_status zeropoint_min_max(const void* x, zeropoint_dtype dtype, size_t n, float* low,
                                   float* high) {
    return guarded([&] {
        float &least = given("low", low), &most = given("high", high);
        std::tie(least, most) = detail::min_max(reals(x, dtype, n), n);
    });
}

// ---- prepared operations ------------------------------------------------------------------------

zeropoint_status zeropoint_quantizer_create(const zeropoint_params* params,
                                            zeropoint_quantizer** quantizer) {
    return create_quantizer(quantizer, params, nullptr, 0);
}
zeropoint_status zeropoint_quantizer_create_axis(const zeropoint_axis_params* params,
                                                 const size_t* shape, size_t dimensions,
                                                 zeropoint_quantizer** quantizer) {
    return create_quantizer(quantizer, params, shape, dimensions);
}
void zeropoint_quantizer_destroy(zeropoint_quantizer* quantizer) { delete quantizer; }

zeropoint_status zeropoint_quantizer_quantize(const zeropoint_quantizer* quantizer, const void* x,
                                              zeropoint_dtype dtype, void* q, size_t n) {
    return perform(Op::quantize, quantizer, x, q, dtype, n);
}
zeropoint_status zeropoint_quantizer_dequantize(const zeropoint_quantizer* quantizer, const void* q,
                                                void* x, zeropoint_dtype dtype, size_t n) {
    return perform(Op::dequantize, quantizer, q, x, dtype, n);
}
zeropoint_status zeropoint_quantizer_fake_quantize(const zeropoint_quantizer* quantizer,
                                                   const void* x, void* y, zeropoint_dtype dtype,
                                                   size_t n) {
    return perform(Op::fake_quantize, quantizer, x, y, dtype, n);
}

zeropoint_status zeropoint_requantizer_create(double acc_scale, const zeropoint_params* params,
                                              zeropoint_requantizer** requantizer) {
    return create_requantizer(requantizer, &acc_scale, 1, params, nullptr, 0);
}
zeropoint_status zeropoint_requantizer_create_axis(const double* acc_scale, size_t acc_scale_count,
                                                   const zeropoint_axis_params* params,
                                                   const size_t* shape, size_t dimensions,
                                                   zeropoint_requantizer** requantizer) {
    return create_requantizer(requantizer, acc_scale, acc_scale_count, params, shape, dimensions);
}
void zeropoint_requantizer_destroy(zeropoint_requantizer* requantizer) { delete requantizer; }

zeropoint_status zeropoint_requantizer_requantize(const zeropoint_requantizer* requantizer,
                                                  const int32_t* acc, void* q, size_t n) {
    return perform(Op::requantize, requantizer, acc, q, 0, n);
}

zeropoint_status zeropoint_lookup_create_rescale(const zeropoint_params* source,
                                                 const zeropoint_params* target,
                                                 zeropoint_arithmetic arithmetic,
                                                 zeropoint_lookup** lookup) {
    return create_lookup(lookup, source, target, nullptr, 0, {&arithmetic, nullptr, nullptr});
}
zeropoint_status zeropoint_lookup_create_rescale_axis(const zeropoint_axis_params* source,
                                                      const zeropoint_axis_params* target,
                                                      zeropoint_arithmetic arithmetic,
                                                      const size_t* shape, size_t dimensions,
                                                      zeropoint_lookup** lookup) {
    return create_lookup(lookup, source, target, shape, dimensions,
                         {&arithmetic, nullptr, nullptr});
}
zeropoint_status zeropoint_lookup_create(double (*function)(double value, void* context),
                                         void* context, const zeropoint_params* source,
                                         const zeropoint_params* target,
                                         zeropoint_lookup** lookup) {
    return create_lookup(lookup, source, target, nullptr, 0, {nullptr, function, context});
}
zeropoint_status zeropoint_lookup_create_axis(double (*function)(double value, void* context),
                                              void* context, const zeropoint_axis_params* source,
                                              const zeropoint_axis_params* target,
                                              const size_t* shape, size_t dimensions,
                                              zeropoint_lookup** lookup) {
    return create_lookup(lookup, source, target, shape, dimensions, {nullptr, function, context});
}
zeropoint_status zeropoint_lookup_create_image(const double* mean, size_t mean_count,
                                               const double* std, size_t std_count, double scale,
                                               const zeropoint_params* params, const size_t* shape,
                                               size_t dimensions, size_t channel_axis,
                                               zeropoint_lookup** lookup) {
    return create_image(lookup, {mean, mean_count, std, std_count, scale}, params, shape,
                        dimensions, channel_axis);
}
zeropoint_status zeropoint_lookup_create_image_axis(
    const double* mean, size_t mean_count, const double* std, size_t std_count, double scale,
    const zeropoint_axis_params* params, const size_t* shape, size_t dimensions,
    size_t channel_axis, zeropoint_lookup** lookup) {
    return create_image(lookup, {mean, mean_count, std, std_count, scale}, params, shape,
                        dimensions, channel_axis);
}
void zeropoint_lookup_destroy(zeropoint_lookup* lookup) { delete lookup; }

zeropoint_status zeropoint_lookup_apply(const zeropoint_lookup* lookup, const void* q, void* r,
                                        size_t n) {
    return perform(Op::lookup, lookup, q, r, 0, n);
}
zeropoint_status zeropoint_lookup_max_abs_error(const zeropoint_lookup* lookup, double* error) {
    return guarded(
        [&] { given("error", error) = given("the handle", lookup).table.max_abs_error; });
}
zeropoint_status zeropoint_lookup_table(const zeropoint_lookup* lookup, const uint8_t** table,
                                        size_t* count) {
    return guarded([&] {
        const core::Tables& codes = given("the handle", lookup).table.codes;
        given("table", table) = codes.bytes();
        given("count", count) = codes.size();
    });
}

// ---- single calls -------------------------------------------------------------------------------

zeropoint_status zeropoint_quantize(const void* x, zeropoint_dtype dtype, void* q, size_t n,
                                    const zeropoint_params* params) {
    return single(Op::quantize, params, x, q, dtype, n);
}
zeropoint_status zeropoint_dequantize(const void* q, void* x, zeropoint_dtype dtype, size_t n,
                                      const zeropoint_params* params) {
    return single(Op::dequantize, params, q, x, dtype, n);
}
zeropoint_status zeropoint_fake_quantize(const void* x, void* y, zeropoint_dtype dtype, size_t n,
                                         const zeropoint_params* params) {
    return single(Op::fake_quantize, params, x, y, dtype, n);
}
zeropoint_status zeropoint_requantize(const int32_t* acc, void* q, size_t n, double acc_scale,
                                      const zeropoint_params* params) {
    return guarded(
        [&] { run(Op::requantize, requantizer_of(&acc_scale, 1, params), acc, q, 0, n); });
}

zeropoint_status zeropoint_rescale(const void* q, void* r, size_t n, const zeropoint_params* source,
                                   const zeropoint_params* target,
                                   zeropoint_arithmetic arithmetic) {
    return guarded([&] {
        run(Op::lookup, lookup_of(source, target, nullptr, 0, {&arithmetic, nullptr, nullptr}), q,
            r, 0, n);
    });
}

zeropoint_status zeropoint_quantize_dynamic(const void* x, zeropoint_dtype dtype, void* q, size_t n,
                                            const zeropoint_choice* choice,
                                            zeropoint_params* params) {
    return guarded([&] {
        zeropoint_params& made = given("params", params);
        const zeropoint_params found = chosen_params(x, dtype, n, choice);
        run(Op::quantize, quantizer_of(&found), x, q, dtype, n);
        made = found;
    });
}

zeropoint_status zeropoint_saturate(const void* x, void* y, zeropoint_dtype dtype, size_t n,
                                    int64_t qmin, int64_t qmax) {
    return guarded([&] {
        detail::check_bounds(qmin, qmax);
        run(Op::saturate, {}, x, y, dtype, n, qmin, qmax);
    });
}
zeropoint_status zeropoint_round(const void* x, void* y, zeropoint_dtype dtype, size_t n,
                                 zeropoint_ties ties) {
    return guarded([&] { run(Op::round, {}, x, y, dtype, n, chosen<int>("ties", ties, 2)); });
}
zeropoint_status zeropoint_saturate_cast(const void* x, zeropoint_dtype dtype, void* q,
                                         zeropoint_dtype codes, size_t n) {
    return guarded(
        [&] { run(Op::saturate_cast, {}, x, q, dtype, n, static_cast<int>(code_dtype(codes))); });
}
