// The constructor of QuantParams for numbers, lists of numbers and plain arrays of them.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

#include "arrays.h"
#include "entries.h"
#include "objects.h"
#include "parameters.h"

namespace {

// More are Python's, which answers Ctrl-C between its steps.
constexpr std::size_t most_parameters = std::size_t(1) << 20;

// The items of a list or a tuple, which no other thread can change; null for anything else.
py::object items_of(py::handle object) {
    if (!PyList_CheckExact(object.ptr()) && !PyTuple_CheckExact(object.ptr())) return {};
    auto items = py::reinterpret_steal<py::object>(PySequence_Tuple(object.ptr()));
    if (!items) throw py::error_already_set();
    return items;
}

// Scales as they are given.
struct Scales {
    zp::ConstView view;
    std::size_t n = 1;
    std::vector<py::ssize_t> shape;
    zp::DType kept;  // as which they are kept: Python's numbers become float32, NumPy's stay
    Number one;
    std::vector<double> list;
};

// False where Python has to look.
bool read(py::handle object, Scales& found) {
    if (is_array(object)) {
        const auto dtype = plain_real(object);
        if (!dtype || *dtype < zp::DType::f32 || proxy(object).nd == 0) return false;
        found.view = {proxy(object).data, *dtype};
        found.n = size_of(object);
        found.shape = shape_of(object);
        found.kept = *dtype;
        return found.n <= most_parameters;
    }
    if (const py::object items = items_of(object)) {
        found.n = static_cast<std::size_t>(PyTuple_GET_SIZE(items.ptr()));
        if (found.n > most_parameters) return false;
        found.list.resize(found.n);
        for (std::size_t i = 0; i < found.n; ++i) {
            PyObject* item = PyTuple_GET_ITEM(items.ptr(), static_cast<py::ssize_t>(i));
            if (!PyFloat_CheckExact(item)) return false;
            found.list[i] = PyFloat_AS_DOUBLE(item);
        }
        found.view = {found.list.data(), zp::DType::f64};
        found.shape = {static_cast<py::ssize_t>(found.n)};
        found.kept = zp::DType::f32;
        return true;
    }
    const auto one = number(object);
    if (!one) return false;
    found.one = *one;
    found.view = found.one.view();
    const auto* type = reinterpret_cast<const PyObject*>(Py_TYPE(object.ptr()));
    found.kept = type == types.f64.ptr() ? zp::DType::f64 : zp::DType::f32;
    return true;
}

// The zero points of so many scales, all in [low, high]; none where Python has to look.  `items`
// are those of `object`.
std::optional<std::vector<std::int32_t>> read_zeros(py::handle object, py::handle items,
                                                    const Scales& scales, std::int64_t low,
                                                    std::int64_t high) {
    std::vector<std::int32_t> found(scales.n);
    const auto put = [&](std::size_t i, std::optional<std::int64_t> value) {
        if (!value || *value < low || *value > high) return false;
        found[i] = static_cast<std::int32_t>(*value);
        return true;
    };
    bool good = true;
    if (const auto one = integer(object)) {
        good = *one >= low && *one <= high;
        std::fill(found.begin(), found.end(), static_cast<std::int32_t>(*one));
    } else if (is_array(object) && has_flags(object, plain_flags) &&
               shape_of(object) == scales.shape) {
        const auto copy = [&](const auto* from) {
            for (std::size_t i = 0; i < scales.n && good; ++i) good = put(i, from[i]);
        };
        const void* data = proxy(object).data;
        const auto dtype = dtype_of(object);
        if (dtype == zp::DType::i32)
            copy(static_cast<const std::int32_t*>(data));
        else if (dtype == zp::DType::i64)
            copy(static_cast<const std::int64_t*>(data));
        else if (dtype == zp::DType::u8)
            copy(static_cast<const std::uint8_t*>(data));
        else if (dtype == zp::DType::i8)
            copy(static_cast<const std::int8_t*>(data));
        else
            good = false;
    } else if (items) {
        good = scales.shape == std::vector{PyTuple_GET_SIZE(items.ptr())};
        for (std::size_t i = 0; i < scales.n && good; ++i)
            good = put(i, integer(PyTuple_GET_ITEM(items.ptr(), static_cast<py::ssize_t>(i))));
    } else {
        good = false;
    }
    return good ? std::optional(std::move(found)) : std::nullopt;
}

std::optional<zp::Convention> convention_of(py::handle name) {
    for (std::size_t i = 0; i < std::size(zp::convention_names); ++i)
        if (is_text(name, zp::convention_names[i])) return static_cast<zp::Convention>(i);
    return std::nullopt;
}

namespace answer {

// _initialise(self, scale, zero_point, dtype, qmin, qmax, axis, block_size, convention,
// include_zero, nan_code), which all come by position
py::object initialise(std::size_t, const Given& given) {
    for (std::size_t i = 0; i < slot::count; ++i)
        if (!given[i]) return py::none();
    const auto code = code_of(given[3]);
    const auto convention = convention_of(given[8]);
    const auto include_zero = flag_or(given[9], true);
    if (!code || !convention || !include_zero) return py::none();
    if (!*include_zero && *convention != zp::Convention::numpy) return py::none();
    const bool is_signed = code == zp::DType::i8;
    const int first = is_signed ? -128 : 0, last = first + 255;
    auto qmin = integer_or(given[4], first), qmax = integer_or(given[5], last);
    if (!qmin || !qmax || !(first <= *qmin && *qmin < *qmax && *qmax <= last)) return py::none();
    std::optional<int> nan_code;
    if (!given[10].is_none()) {  // an end of the range moves in
        const auto code = integer(given[10]);
        if (!code || *code < first || *code > last) return py::none();
        *qmin += *code == *qmin;
        *qmax -= *code == *qmax;
        if (*qmin >= *qmax || (*code >= *qmin && *code <= *qmax)) return py::none();
        nan_code = static_cast<int>(*code);
    }

    // before any array is looked at: a new tuple may start the garbage collector, and that Python
    const py::object items = items_of(given[2]);
    Scales scales;
    if (!read(given[1], scales)) return py::none();
    const auto ndim = static_cast<std::int64_t>(scales.shape.size());
    const auto block = integer_or(given[7], 0);
    Axis axis;
    if (given[6].is_none()) {
        if (ndim != 0 || !given[7].is_none()) return py::none();
    } else {
        const auto along = integer(given[6]);
        if (!is_axis(given[6]) || !block) return py::none();
        axis = *along;
        if (given[7].is_none()) {
            if (ndim != 1) return py::none();
        } else {
            if (*block < 1 || *along < -ndim || *along >= ndim) return py::none();
            axis = *along + (*along < 0 ? ndim : 0);
        }
    }
    auto zeros = read_zeros(given[2], items, scales, *include_zero ? *qmin : INT32_MIN,
                            *include_zero ? *qmax : INT32_MAX);
    if (!zeros) return py::none();

    py::object scale, zero;
    Number one;
    one.dtype = scales.kept;
    const py::object bytes = ndim ? fresh_bytes(scales.n * zp::size_of(scales.kept)) : py::object();
    void* data = ndim ? PyBytes_AS_STRING(bytes.ptr()) : one.data();
    if (!zp::store_scales(scales.view, {data, scales.kept}, scales.n, *convention))
        return py::none();
    if (ndim) {
        const bool wide = scales.kept == zp::DType::f64;
        scale = array_over(bytes, wide ? dtypes.f64 : dtypes.f32, scales.shape);
        const py::object zero_bytes = fresh_bytes(scales.n * sizeof(std::int32_t));
        std::memcpy(PyBytes_AS_STRING(zero_bytes.ptr()), zeros->data(),
                    scales.n * sizeof(std::int32_t));
        zero = array_over(zero_bytes, dtypes.i32, scales.shape);
    } else {
        scale = one.scalar();
        zero = py::int_((*zeros)[0]);
    }
    const py::object native =
        py::cast(make_native(scales.kept, data, std::move(*zeros), static_cast<int>(*qmin),
                             static_cast<int>(*qmax), is_signed, *convention, axis,
                             static_cast<std::size_t>(*block), nan_code, std::move(scales.shape)));
    const py::object from = py::int_(*qmin), to = py::int_(*qmax);
    const py::object along = axis ? py::object(py::int_(*axis)) : py::none();
    set_fields(given[0], {scale, zero, is_signed ? dtypes.i8 : dtypes.u8, from, to, along, given[7],
                          convention_texts[static_cast<std::size_t>(*convention)],
                          *include_zero ? Py_True : Py_False, given[10], native});
    return py::bool_(true);
}

}  // namespace answer

}  // namespace
