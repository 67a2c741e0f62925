// Behind Python's checks: arrays of any layout in, results written to a given array.  Only memory
// safety is checked here.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "arrays.h"
#include "fast.h"
#include "gil.h"
#include "parameters.h"

namespace {

// Source and target of a call, of one shape.
struct Arrays {
    Arrays(std::size_t isa, const py::array& source, py::array& target) : n(size_of(source)) {
        check_isa(isa);
        const auto from = view_of(source);
        const auto dtype = dtype_of(target);
        expect(from && dtype);
        if (!target_for(source, target, *dtype, from->dtype == *dtype))
            throw py::value_error("the target must be another array of this shape, and writable");
        x = *from;
        y = {target.mutable_data(), *dtype, memory_of(target)};
    }
    zp::ConstView x{};
    zp::View y{};
    std::size_t n;
};

// `function` of the fast path, which declines nothing that has passed Python's checks.
template <auto function>
void into(std::size_t isa, const py::array& source, const py::array& target,
          const NativeParams& params) {
    if (function(isa, source, params, target).is_none())
        throw py::value_error("arrays must be plain, of one shape, and fit the parameters");
}

void requantize_into(std::size_t isa, const py::array& source, py::array target,
                     const NativeParams& params, const py::array& multiplier) {
    const Arrays a(isa, source, target);
    const auto layout = params.layout(source);
    const auto multipliers = to_vector<float>(multiplier);
    expect(a.x.dtype == zp::DType::i32 && a.y.dtype == params.core.code());
    if (!layout || (multipliers.size() != 1 && multipliers.size() != params.core.size()))
        throw py::value_error("parameters or multipliers do not fit the array");
    const zp::Requantization requantization(params.core, multipliers);
    call(a.n, [&](zp::Poll poll) {
        return zp::requantize(isa, a.x, a.y, *layout, requantization, poll);
    });
}

void saturate_into(std::size_t isa, const py::array& source, py::array target, std::int64_t low,
                   std::int64_t high) {
    const Arrays a(isa, source, target);
    const zp::DType t = a.x.dtype;
    expect(t == a.y.dtype && t != zp::DType::u16 && t != zp::DType::u32 && t != zp::DType::u64);
    call(a.n, [&](zp::Poll poll) { return zp::saturate(isa, a.x, a.y, a.n, low, high, poll); });
}

void saturate_cast_into(std::size_t isa, const py::array& source, py::array target) {
    const Arrays a(isa, source, target);
    expect(a.y.dtype == zp::DType::i8 || a.y.dtype == zp::DType::u8);
    call(a.n, [&](zp::Poll poll) { return zp::saturate_cast(isa, a.x, a.y, a.n, poll); });
}

void round_into(std::size_t isa, const py::array& source, py::array target, bool ties_away) {
    const Arrays a(isa, source, target);
    expect(is_real(a.x.dtype) && a.x.dtype == a.y.dtype);
    call(a.n, [&](zp::Poll poll) { return zp::round(isa, a.x, a.y, a.n, ties_away, poll); });
}

std::pair<py::array, py::array> min_max(std::size_t isa, const py::array& source, Axis axis,
                                        std::size_t block) {
    check_isa(isa);
    const auto from = real_view_of(source);
    const auto layout = layout_of(source, axis, block);
    if (!from || !layout || layout->size() == 0)
        throw py::value_error("min_max needs real data, and a valid axis");
    Range range = range_of(isa, source, *from, *layout);
    return {std::move(range.low), std::move(range.high)};
}

// The core's table for the exponents that are given, one for each channel.
py::array histogram(std::size_t isa, const py::array& source, Axis axis,
                    const py::array& exponents) {
    check_isa(isa);
    const auto dtype = plain_real(source);
    const auto layout = layout_of(source, axis, 0);
    if (!dtype || !layout)
        throw py::value_error("histogram needs real data in a plain array, and a valid axis");
    const auto given = to_vector<std::int64_t>(exponents);
    if (given.size() != layout->parameters()) throw py::value_error("an exponent for each channel");
    // of 32 KiB a channel, which the system clears where they are first written to
    py::array table = py::module_::import("numpy").attr("zeros")(
        py::make_tuple(given.size(), zp::histogram_row), "int64");
    call(std::max(layout->size(), static_cast<std::size_t>(table.size())),
         [&, from = source.data(), to = table.mutable_data()](zp::Poll poll) {
             return zp::histogram(isa, {from, *dtype}, given, to, *layout, poll);
         });
    return table;
}

// The sums, how many elements are clipped, which codes are used, and by channel how many elements
// are not zero and how many codes most of these have.
py::tuple errors(std::size_t isa, const py::array& source, const NativeParams& params,
                 double inverse_unit) {
    check_isa(isa);
    const auto dtype = plain_real(source);
    const auto layout = params.layout(source);
    if (!dtype || !layout || layout->size() == 0)
        throw py::value_error("errors needs real data in a plain array that the parameters fit");
    py::array nonzero(py::dtype("int64"), layout->axis), most(py::dtype("int64"), layout->axis);
    zp::Errors found;
    found.inverse_unit = inverse_unit;
    found.nonzero = static_cast<std::int64_t*>(nonzero.mutable_data());
    found.most = static_cast<std::int64_t*>(most.mutable_data());
    const zp::ConstView x{source.data(), *dtype};
    call(layout->size(),
         [&](zp::Poll poll) { return zp::errors(isa, x, *layout, params.core, found, poll); });
    const auto used = std::count(std::begin(found.used), std::end(found.used), 1);
    return py::make_tuple(found.worst, found.absolute, found.noise, found.signal, found.back,
                          found.dot, found.clipped, used, std::move(nonzero), std::move(most));
}

// How this build was made, and what is in it.
py::dict info() {
    py::dict found;
    found["compiler"] =
#if defined(__clang__)
        "Clang " __clang_version__;
#elif defined(__GNUC__)
        "GCC " __VERSION__;
#elif defined(_MSC_VER)
        "MSVC " PYBIND11_TOSTRING(_MSC_VER);
#else
        "unknown";
#endif
    found["isas"] = zp::compiled_isas();
    found["kernels"] = zp::kernel_names();
    return found;
}

}  // namespace
