// The fast path: check dtype, layout and parameters once, then allocate and loop.  It declines what
// is not plain by returning None.
#pragma once

#include <optional>
#include <utility>

#include "arrays.h"
#include "gil.h"
#include "parameters.h"

namespace {

// `Run` is a core function.
template <class Run>
py::object fast(std::size_t isa, py::handle x, const zp::ConstView& from,
                const std::optional<zp::Layout>& layout, py::handle out, zp::DType target,
                bool in_place, Run&& run, py::handle descr = {}) {
    check_isa(isa);
    if (!layout) return py::none();
    py::object result = target_for(x, out, target, in_place, descr);
    if (!result) return py::none();
    const zp::View to = target_view(result, target);
    call(layout->size(), [&](zp::Poll poll) { return run(from, to, *layout, poll); });
    return result;
}

py::object quantize(std::size_t isa, py::handle x, const NativeParams& params, py::handle out) {
    const auto from = real_view_of(x);
    if (!from || !params.core.usable_for(from->dtype)) return py::none();
    return fast(
        isa, x, *from, params.layout(x), out, params.core.code(), false,
        [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
            zp::Poll poll) { return zp::quantize(isa, from, to, layout, params.core, poll); });
}

py::object fake_quantize(std::size_t isa, py::handle x, const NativeParams& params,
                         py::handle out) {
    const auto from = real_view_of(x);
    if (!from || !params.core.usable_for(from->dtype)) return py::none();
    return fast(
        isa, x, *from, params.layout(x), out, from->dtype, true,
        [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
            zp::Poll poll) { return zp::fake_quantize(isa, from, to, layout, params.core, poll); });
}

// To `descr`, NumPy's dtype of real numbers; where it is null, to that of `out` or float32.
py::object dequantize_as(py::handle descr, std::size_t isa, py::handle q,
                         const NativeParams& params, py::handle out) {
    const auto from = view_of(q);
    if (!from || from->dtype != params.core.code()) return py::none();
    std::optional<zp::DType> target = zp::DType::f32;
    if (descr)
        target = dtype_of_descr(descr);
    else if (is_array(out))
        target = dtype_of(out);
    if (!is_real(target)) return py::none();
    return fast(
        isa, q, *from, params.layout(q), out, *target, false,
        [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
            zp::Poll poll) { return zp::dequantize(isa, from, to, layout, params.core, poll); },
        descr);
}

py::object dequantize(std::size_t isa, py::handle q, const NativeParams& params, py::handle out) {
    return dequantize_as({}, isa, q, params, out);
}

// ---- the range of the data, and parameters from it -------------------------------------------

struct Range {
    py::array low, high;
};

Range range_of(std::size_t isa, py::handle x, const zp::ConstView& from, const zp::Layout& layout) {
    const py::dtype real = dtype_of_precision(from.dtype);
    const auto shape =
        layout.parameter_shape(proxy(x).dimensions, static_cast<std::size_t>(proxy(x).nd));
    Range range{py::array(real, shape), py::array(real, shape)};
    call(layout.size(),
         [&, low = range.low.mutable_data(), high = range.high.mutable_data()](zp::Poll poll) {
             return zp::min_max(isa, from, low, high, layout, poll);
         });
    return range;
}

bool holds_nan(const py::array& array) {
    const auto any = [&](const auto* v) {
        const auto host = zp::enter_ieee();  // it may have a subnormal number in a comparison trap
        const bool found = std::any_of(v, v + array.size(), [](auto e) { return e != e; });
        zp::leave_ieee(host);
        return found;
    };
    return dtype_of(array) == zp::DType::f64 ? any(static_cast<const double*>(array.data()))
                                             : any(static_cast<const float*>(array.data()));
}

py::object fast_min_max(std::size_t isa, py::handle x, Axis axis) {
    check_isa(isa);
    const auto from = real_view_of(x);
    const auto layout = from ? layout_of(x, axis, 0) : std::nullopt;
    if (!layout || layout->size() == 0) return py::none();
    Range range = range_of(isa, x, *from, *layout);
    if (holds_nan(range.low)) return py::none();
    return py::make_tuple(std::move(range.low), std::move(range.high));
}

// (codes, scale, zero point, Params); codes are None unless asked for.
py::object choose_and_quantize(std::size_t isa, py::handle x, py::handle out, bool with_codes,
                               bool is_signed, const zp::Choice& choice, Axis axis,
                               std::size_t block) {
    check_isa(isa);
    const auto from = real_view_of(x);
    const auto layout = from ? layout_of(x, axis, block) : std::nullopt;
    if (!layout || layout->size() == 0) return py::none();
    const auto code = is_signed ? zp::DType::i8 : zp::DType::u8;
    py::object codes = py::none();
    if (with_codes) codes = target_for(x, out, code, false);
    if (!codes) return py::none();

    const auto chosen = [&]() -> std::pair<py::object, py::object> {
        if (out.is_none() && with_codes) {  // nobody sees what is written before a fault is found
            const auto shape =
                layout->parameter_shape(proxy(x).dimensions, static_cast<std::size_t>(proxy(x).nd));
            py::array scale(dtype_of_precision(from->dtype), shape),
                zero(py::dtype("int32"), shape);
            zp::Outcome outcome{};
            call(layout->size(),
                 [&, to = proxy(codes).data, s = scale.mutable_data(),
                  z = static_cast<std::int32_t*>(zero.mutable_data())](zp::Poll poll) {
                     outcome = zp::quantize_dynamic(isa, *from, to, *layout, choice, s, z, poll);
                     return outcome != zp::Outcome::stopped;
                 });
            if (outcome == zp::Outcome::fault) return {};
            if (outcome == zp::Outcome::done) {
                with_codes = false;
                return {std::move(scale), std::move(zero)};
            }
        }
        const Range range = range_of(isa, x, *from, *layout);
        const py::object found = choose(range.low, range.high, choice);
        if (found.is_none()) return {};
        const auto pair = py::reinterpret_borrow<py::tuple>(found);
        return {pair[0], pair[1]};
    }();
    const auto& [scale, zero] = chosen;
    if (!scale) return py::none();
    const auto make =
        from->dtype == zp::DType::f64 ? &native_params<double> : &native_params<float>;
    NativeParams params = make(scale.cast<py::array>(), zero.cast<py::array>(), choice.qmin,
                               choice.qmax, is_signed, choice.convention, axis, block);
    if (with_codes)
        call(layout->size(), [&, to = target_view(codes, code)](zp::Poll poll) {
            return zp::quantize(isa, *from, to, *layout, params.core, poll);
        });
    return py::make_tuple(std::move(codes), scale, zero, py::cast(std::move(params)));
}

}  // namespace
