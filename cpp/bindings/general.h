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

// `function` of the fast path, which declines nothing that has passed Python's checks.
template <auto function, class... More>
void into(std::size_t isa, const py::array& source, const py::array& target, const More&... more) {
    if (function(isa, source, more..., target).is_none())
        throw py::value_error(
            "the arrays must be two of one shape, of dtypes that there is a loop for, and fit the "
            "parameters; the target must be writable");
}

py::object requantize_by(std::size_t isa, py::handle acc, const NativeParams& params,
                         const py::array& multiplier, py::handle out) {
    const auto multipliers = to_vector<float>(multiplier);
    if (params.core.has_offset()) return py::none();
    if (multipliers.size() != 1 && multipliers.size() != params.core.size()) return py::none();
    return requantize(isa, acc, params, {params.core, multipliers}, out);
}

std::pair<py::array, py::array> min_max(std::size_t isa, const py::array& source, Axis axis,
                                        std::size_t block, bool skip_nan) {
    check_isa(isa);
    const auto from = real_view_of(source);
    const auto layout = layout_of(source, axis, block);
    if (!from || !layout || layout->size() == 0)
        throw py::value_error("min_max needs real data, and a valid axis");
    Range range = range_of(isa, source, *from, *layout, skip_nan);
    return {std::move(range.low), std::move(range.high)};
}

// The core's table for the exponents that are given, one for each channel.
py::array histogram(std::size_t isa, const py::array& source, Axis axis,
                    const py::array& exponents) {
    check_isa(isa);
    const auto given = to_vector<std::int64_t>(exponents);
    // of 32 KiB a channel, which the system clears where they are first written to
    py::array table = py::module_::import("numpy").attr("zeros")(
        py::make_tuple(given.size(), zp::histogram_row), "int64");
    const auto dtype = plain_real(source);
    const auto layout = layout_of(source, axis, 0);
    if (!dtype || !layout)
        throw py::value_error("histogram needs real data in a plain array, and a valid axis");
    if (given.size() != layout->parameters()) throw py::value_error("an exponent for each channel");
    call(std::max(layout->size(), static_cast<std::size_t>(table.size())),
         [&, from = source.data(), to = table.mutable_data()](zp::Poll poll) {
             return zp::histogram(isa, {from, *dtype}, given, to, *layout, poll);
         });
    return table;
}

// How many blocks of Q8_0 plain arrays hold, one of narrow floats and one of bytes.
std::size_t q8_0_blocks(const py::array& values, const py::array& blocks, const py::array& target) {
    const auto real = plain_real(values);
    const std::size_t n = size_of(blocks) / zp::q8_0_bytes;
    const bool plain = has_flags(blocks, plain_flags) && dtype_of(blocks) == zp::DType::u8;
    if (!real || *real == zp::DType::f64 || !plain || size_of(blocks) != n * zp::q8_0_bytes ||
        size_of(values) != n * zp::q8_0_elements ||
        !has_flags(target, py::detail::npy_api::NPY_ARRAY_WRITEABLE_))
        throw py::value_error("plain arrays, of 32 floats and of 34 bytes for each block");
    return n;
}

// Whether all scales are finite, as they are stored.
bool to_q8_0(std::size_t isa, const py::array& source, const py::array& target) {
    check_isa(isa);
    const std::size_t n = q8_0_blocks(source, target, target);
    bool finite = true;
    call(size_of(source), [&, x = source.data(), to = proxy(target).data](zp::Poll poll) {
        return zp::to_q8_0(isa, {x, *dtype_of(source)}, to, n, finite, poll);
    });
    return finite;
}

bool from_q8_0(std::size_t isa, const py::array& source, const py::array& target) {
    check_isa(isa);
    const std::size_t n = q8_0_blocks(target, source, target);
    bool finite = true;
    call(size_of(target), [&, from = source.data(), x = proxy(target).data](zp::Poll poll) {
        return zp::from_q8_0(isa, from, {x, *dtype_of(target)}, n, finite, poll);
    });
    return finite;
}

// The sums, how many elements are clipped, which codes are used, and by channel how many elements
// are not zero and how many codes most of these have.
py::tuple errors(std::size_t isa, const py::array& source, const NativeParams& params,
                 double inverse_unit) {
    check_isa(isa);
    const auto x = real_view_of(source);
    const auto layout = params.layout(source);
    if (!x || !layout || layout->size() == 0)
        throw py::value_error("errors needs real data that the parameters fit");
    const auto channels = static_cast<py::ssize_t>(layout->axis);
    py::array nonzero = new_array(dtypes.i64, {channels}), most = new_array(dtypes.i64, {channels});
    zp::Errors found;
    found.inverse_unit = inverse_unit;
    found.nonzero = static_cast<std::int64_t*>(nonzero.mutable_data());
    found.most = static_cast<std::int64_t*>(most.mutable_data());
    call(layout->size(),
         [&](zp::Poll poll) { return zp::errors(isa, *x, *layout, params.core, found, poll); });
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
    found["vbmi"] = zp::has_vbmi();
    found["kernels"] = zp::kernel_names();
    return found;
}

}  // namespace
