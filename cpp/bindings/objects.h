// Python objects that the entries read and make: numbers, dtypes, QuantParams.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include "arrays.h"
#include "parameters.h"

namespace {

// ---- arguments: none where Python has to look ---------------------------------------------------

bool is_text(py::handle object, const char* text) {
    return PyUnicode_CheckExact(object.ptr()) &&
           PyUnicode_CompareWithASCIIString(object.ptr(), text) == 0;
}

std::optional<std::int64_t> integer(py::handle object) {
    if (!PyLong_CheckExact(object.ptr())) return std::nullopt;
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
    return overflow ? std::nullopt : std::optional<std::int64_t>(value);
}

// `otherwise` where the argument is None or not given.
std::optional<std::int64_t> integer_or(py::handle object, std::int64_t otherwise) {
    return !object || object.is_none() ? otherwise : integer(object);
}

std::optional<bool> flag_or(py::handle object, bool otherwise) {
    if (!object) return otherwise;
    if (object.ptr() != Py_True && object.ptr() != Py_False) return std::nullopt;
    return object.ptr() == Py_True;
}

// An axis that an array can have.
bool is_axis(py::handle object) {
    constexpr std::int64_t most = zp::Memory::most_dimensions;
    const auto value = integer(object);
    return value && -most <= *value && *value <= most;
}

// One number, or a minimum, in its precision.
struct Number {
    zp::DType dtype = zp::DType::f64;
    alignas(double) unsigned char bytes[sizeof(double)] = {};

    void* data() { return bytes; }
    zp::ConstView view() const { return {bytes, dtype}; }
    bool is_finite() const {  // by its bits: a comparison may trap
        if (dtype == zp::DType::f64) return (bits<std::uint64_t>() << 1) < 0xFFE0000000000000;
        return (bits<std::uint32_t>() << 1) < 0xFF000000;
    }
    py::object scalar() {
        const py::handle descr = dtype == zp::DType::f64 ? dtypes.f64 : dtypes.f32;
        PyObject* made = py::detail::npy_api::get().PyArray_Scalar_(bytes, descr.ptr(), nullptr);
        if (!made) throw py::error_already_set();
        return py::reinterpret_steal<py::object>(made);
    }

private:
    template <class Bits>
    Bits bits() const {
        Bits found;
        std::memcpy(&found, bytes, sizeof found);
        return found;
    }
};

// A float, an int, a NumPy float of 4 or 8 bytes; an int beyond 2^53 is not one.
std::optional<Number> number(py::handle object) {
    Number found;
    const auto* type = reinterpret_cast<const PyObject*>(Py_TYPE(object.ptr()));
    if (PyFloat_CheckExact(object.ptr()) || type == types.f64.ptr()) {
        const double value = PyFloat_AS_DOUBLE(object.ptr());
        std::memcpy(found.bytes, &value, sizeof value);
    } else if (type == types.f32.ptr()) {
        found.dtype = zp::DType::f32;
        py::detail::npy_api::get().PyArray_ScalarAsCtype_(object.ptr(), found.bytes);
    } else {
        constexpr std::int64_t exact = std::int64_t(1) << 53;
        const auto value = integer(object);
        if (!value || *value > exact || *value < -exact) return std::nullopt;
        const double exactly = static_cast<double>(*value);
        std::memcpy(found.bytes, &exactly, sizeof exactly);
    }
    return found;
}

// What NumPy makes a dtype of; null where nothing.
py::object descr_of(py::handle object) {
    PyObject* descr = nullptr;
    if (!object || object.is_none()) return {};
    if (!py::detail::npy_api::get().PyArray_DescrConverter_(object.ptr(), &descr)) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) throw py::error_already_set();
        PyErr_Clear();  // Python explains
    }
    return py::reinterpret_steal<py::object>(descr);
}

// The dtype of codes that an argument names, by default uint8.
std::optional<zp::DType> code_of(py::handle object) {
    if (!object || is_text(object, "uint8")) return zp::DType::u8;
    if (is_text(object, "int8")) return zp::DType::i8;
    const py::object descr = descr_of(object);
    const auto found = descr ? dtype_of_descr(descr) : std::nullopt;
    return found == zp::DType::u8 || found == zp::DType::i8 ? found : std::nullopt;
}

// ---- QuantParams --------------------------------------------------------------------------------

// The slots of QuantParams, in its order; a slot's descriptor sets it where __setattr__ refuses.
namespace slot {
enum {
    scale,
    zero_point,
    dtype,
    qmin,
    qmax,
    axis,
    block_size,
    convention,
    include_zero,
    nan_code,
    native
};
constexpr std::size_t count = 11;
}  // namespace slot

// Made while the package is imported, and never freed.
struct {
    py::handle type, slots[slot::count], no_arguments;
} quant_params;
py::handle offset_params_type;

void set_params_type(py::object type) {
    const py::tuple names = type.attr("_SLOTS");
    if (names.size() != slot::count) throw py::value_error("slots");
    for (std::size_t i = 0; i < slot::count; ++i)
        quant_params.slots[i] = py::object(type.attr(names[i])).release();
    quant_params.no_arguments = py::tuple().release();
    quant_params.type = type.release();
}

void set_offset_params_type(py::object type) { offset_params_type = type.release(); }

using Fields = std::array<py::handle, slot::count>;

void set_fields(py::handle params, const Fields& fields) {
    for (std::size_t i = 0; i < slot::count; ++i) {
        PyObject* descriptor = quant_params.slots[i].ptr();
        if (Py_TYPE(descriptor)->tp_descr_set(descriptor, params.ptr(), fields[i].ptr()) != 0)
            throw py::error_already_set();
    }
}

py::object new_params(const Fields& fields) {
    auto* type = reinterpret_cast<PyTypeObject*>(quant_params.type.ptr());
    auto made = py::reinterpret_steal<py::object>(
        type->tp_new(type, quant_params.no_arguments.ptr(), nullptr));
    if (!made) throw py::error_already_set();
    set_fields(made, fields);
    return made;
}

// The core's form of a QuantParams or an OffsetParams, which have it in the same slot; null for
// what is none, or has not been initialised.
Owner<NativeParams> native_of(py::handle params) {
    if (!params) return {};
    auto* type = reinterpret_cast<PyObject*>(Py_TYPE(params.ptr()));
    if (type != quant_params.type.ptr() && type != offset_params_type.ptr()) return {};
    PyObject* descriptor = quant_params.slots[slot::native].ptr();
    auto found = py::reinterpret_steal<py::object>(
        Py_TYPE(descriptor)->tp_descr_get(descriptor, params.ptr(), type));
    if (!found) PyErr_Clear();  // Python explains
    return Owner<NativeParams>(std::move(found));
}

// ---- arrays over memory that cannot be made writeable again -------------------------------------

py::object fresh_bytes(std::size_t n) {
    auto made = py::reinterpret_steal<py::object>(
        PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(n)));
    if (!made) throw py::error_already_set();
    return made;
}

py::object array_over(const py::object& bytes, py::handle descr,
                      const std::vector<py::ssize_t>& shape) {
    const auto& api = py::detail::npy_api::get();
    auto made = py::reinterpret_steal<py::object>(api.PyArray_NewFromDescr_(
        api.PyArray_Type_, descr.inc_ref().ptr(), static_cast<int>(shape.size()), shape.data(),
        nullptr, PyBytes_AS_STRING(bytes.ptr()), plain_flags, nullptr));
    if (!made || api.PyArray_SetBaseObject_(made.ptr(), bytes.inc_ref().ptr()) != 0)
        throw py::error_already_set();
    return made;
}

// A copy.
py::object frozen(const py::array& array) {
    const py::object bytes = fresh_bytes(static_cast<std::size_t>(array.nbytes()));
    std::memcpy(PyBytes_AS_STRING(bytes.ptr()), array.data(),
                static_cast<std::size_t>(array.nbytes()));
    return array_over(bytes, proxy(array).descr, shape_of(array));
}

}  // namespace
