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

py::object requantize(std::size_t isa, py::handle acc, const NativeParams& params,
                      const zp::Requantization& requantization, py::handle out) {
    const auto from = view_of(acc);
    if (!from || from->dtype != zp::DType::i32) return py::none();
    return fast(
        isa, acc, *from, params.layout(acc), out, params.core.code(), false,
        [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
            zp::Poll poll) { return zp::requantize(isa, from, to, layout, requantization, poll); });
}

// Codes of the tables' source to codes of their target.
py::object look_up(std::size_t isa, py::handle q, const NativeTables& tables, py::handle out) {
    const auto from = view_of(q);
    if (!from || from->dtype != tables.source) return py::none();
    const auto layout = layout_of(q, tables.axis, 0);
    if (!layout || layout->parameters() != tables.core.size()) return py::none();
    return fast(
        isa, q, *from, layout, out, tables.target, true,
        [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
            zp::Poll poll) { return zp::lookup(isa, from, to, layout, tables.core, poll); });
}

// ---- saturate and round ----------------------------------------------------------------------

// The bounds are numbers that the dtype of `x` holds.
py::object saturate(std::size_t isa, py::handle x, std::int64_t low, std::int64_t high,
                    py::handle out) {
    const auto from = view_of(x);
    if (!from) return py::none();
    const zp::DType dtype = from->dtype;
    const bool has_loop =
        dtype != zp::DType::u16 && dtype != zp::DType::u32 && dtype != zp::DType::u64;
    if (!has_loop || !zp::holds(dtype, low) || !zp::holds(dtype, high)) return py::none();
    const auto run = [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
                         zp::Poll poll) {
        return zp::saturate(isa, from, to, layout.size(), low, high, poll);
    };
    return fast(isa, x, *from, zp::Layout::tensor(size_of(x)), out, dtype, true, run);
}

py::object saturate_cast(std::size_t isa, py::handle x, bool is_signed, py::handle out) {
    const auto from = view_of(x);
    if (!from) return py::none();
    const auto code = is_signed ? zp::DType::i8 : zp::DType::u8;
    const auto run = [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
                         zp::Poll poll) {
        return zp::saturate_cast(isa, from, to, layout.size(), poll);
    };
    return fast(isa, x, *from, zp::Layout::tensor(size_of(x)), out, code, false, run);
}

// `round` itself is the C library's.
py::object rounded(std::size_t isa, py::handle x, bool ties_away, py::handle out) {
    const auto from = real_view_of(x);
    if (!from) return py::none();
    const auto run = [&](const zp::ConstView& from, const zp::View& to, const zp::Layout& layout,
                         zp::Poll poll) {
        return zp::round(isa, from, to, layout.size(), ties_away, poll);
    };
    return fast(isa, x, *from, zp::Layout::tensor(size_of(x)), out, from->dtype, true, run);
}

// ---- the range of the data, and parameters from it -------------------------------------------

struct Range {
    py::array low, high;
};

// With `skip_nan` of what is not NaN.
Range range_of(std::size_t isa, py::handle x, const zp::ConstView& from, const zp::Layout& layout,
               bool skip_nan = false) {
    const py::handle real = dtype_of_precision(from.dtype);
    const auto shape =
        layout.parameter_shape(proxy(x).dimensions, static_cast<std::size_t>(proxy(x).nd));
    Range range{new_array(real, shape), new_array(real, shape)};
    call(layout.size(),
         [&, low = range.low.mutable_data(), high = range.high.mutable_data()](zp::Poll poll) {
             const auto function = skip_nan ? zp::min_max_present : zp::min_max;
             return function(isa, from, low, high, layout, poll);
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
                               bool is_signed, const zp::Choice& choice,
                               std::optional<int> nan_code, Axis axis, std::size_t block) {
    check_isa(isa);
    const auto from = real_view_of(x);
    const auto layout = from ? layout_of(x, axis, block) : std::nullopt;
    if (!layout || layout->size() == 0) return py::none();
    const auto code = is_signed ? zp::DType::i8 : zp::DType::u8;
    py::object codes = py::none();
    if (with_codes) codes = target_for(x, out, code, false);
    if (!codes) return py::none();

    const auto chosen = [&]() -> std::optional<Chosen> {
        if (out.is_none() && with_codes) {  // nobody sees what is written before a fault is found
            const auto shape =
                layout->parameter_shape(proxy(x).dimensions, static_cast<std::size_t>(proxy(x).nd));
            py::array scale = new_array(dtype_of_precision(from->dtype), shape);
            py::array zero = new_array(dtypes.i32, shape);
            zp::Outcome outcome{};
            call(layout->size(),
                 [&, to = proxy(codes).data, s = scale.mutable_data(),
                  z = static_cast<std::int32_t*>(zero.mutable_data())](zp::Poll poll) {
                     outcome = zp::quantize_dynamic(isa, *from, to, *layout, choice, s, z, poll);
                     return outcome != zp::Outcome::stopped;
                 });
            if (outcome == zp::Outcome::fault) return std::nullopt;
            if (outcome == zp::Outcome::done) {
                with_codes = false;
                return Chosen{std::move(scale), std::move(zero)};
            }
        }
        const Range range = range_of(isa, x, *from, *layout);
        return choose(range.low, range.high, choice);
    }();
    if (!chosen) return py::none();
    const auto& [scale, zero] = *chosen;
    const auto* zeros = static_cast<const std::int32_t*>(zero.data());
    NativeParams params =
        make_native(from->dtype == zp::DType::f64 ? zp::DType::f64 : zp::DType::f32, scale.data(),
                    {zeros, zeros + zero.size()}, choice.qmin, choice.qmax, is_signed,
                    choice.convention, axis, block, nan_code, shape_of(scale));
    if (with_codes)
        call(layout->size(), [&, to = target_view(codes, code)](zp::Poll poll) {
            return zp::quantize(isa, *from, to, *layout, params.core, poll);
        });
    return py::make_tuple(std::move(codes), scale, zero, py::cast(std::move(params)));
}

}  // namespace
