// NumPy arrays for the core: pointer, dtype, layout of memory.
#pragma once

#include <pybind11/numpy.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "zeropoint/core.hpp"

namespace py = pybind11;
namespace zp = zeropoint::core;

namespace {

const py::detail::PyArray_Proxy& proxy(py::handle array) {
    return *py::detail::array_proxy(array.ptr());
}

bool is_array(py::handle object) {
    return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_;
}

// ---- dtypes ----------------------------------------------------------------------------------

// ml_dtypes' bfloat16 is known by its name, as in Python, so that ml_dtypes is not imported.
bool is_bfloat16(const py::detail::PyArrayDescr_Proxy* descr) {
    constexpr int first_user_type = 256;  // NPY_USERDEF, which pybind11 does not name
    static std::atomic<int> seen{-1};     // its type number
    if (descr->type_num < first_user_type) return false;  // -1 is that of other new dtypes
    if (descr->type_num == seen.load(std::memory_order_relaxed)) return true;
    const auto* object = reinterpret_cast<const PyObject*>(descr);
    if (py::detail::array_descriptor2_proxy(object)->elsize != 2) return false;
    const std::string_view name = reinterpret_cast<PyTypeObject*>(descr->typeobj)->tp_name;
    if (name.substr(name.rfind('.') + 1) != "bfloat16") return false;
    seen.store(descr->type_num, std::memory_order_relaxed);
    return true;
}

// None for one that the core has no type for, or of foreign byte order.
std::optional<zp::DType> dtype_of_descr(py::handle dtype) {
    using zp::DType;
    constexpr DType c_long = sizeof(long) == 8 ? DType::i64 : DType::i32;
    constexpr DType c_ulong = sizeof(long) == 8 ? DType::u64 : DType::u32;
    // by NumPy's type number from NPY_BYTE, 1, to NPY_DOUBLE
    static constexpr DType dtypes[] = {DType::i8,  DType::u8,  DType::i16, DType::u16,
                                       DType::i32, DType::u32, c_long,     c_ulong,
                                       DType::i64, DType::u64, DType::f32, DType::f64};
    constexpr int half = 23;  // NPY_HALF, which pybind11 does not name
    const auto* descr = py::detail::array_descriptor_proxy(dtype.ptr());
    const int number = descr->type_num;
    if (descr->byteorder == (PY_LITTLE_ENDIAN ? '>' : '<')) return std::nullopt;
    if (number >= 1 && number <= 12) return dtypes[number - 1];
    if (number == half) return DType::f16;
    if (is_bfloat16(descr)) return DType::bf16;
    return std::nullopt;
}

std::optional<zp::DType> dtype_of(py::handle array) { return dtype_of_descr(proxy(array).descr); }

bool is_real(std::optional<zp::DType> dtype) { return dtype && *dtype <= zp::DType::f64; }

// NumPy's dtypes of fresh results, and types of numbers.  Made with the module and never freed: a
// static of `empty_like` would run Python under its guard, for which another thread may wait with
// what Python needs.
struct {
    py::handle f32, f64, u8, i8, i32;
    py::handle u8_name;
} dtypes;
struct {
    py::handle f32, f64;
} types;

void make_dtypes() {
    dtypes = {py::dtype("float32").release(), py::dtype("float64").release(),
              py::dtype("uint8").release(),   py::dtype("int8").release(),
              py::dtype("int32").release(),   py::str("uint8").release()};
    types = {py::object(dtypes.f32.attr("type")).release(),
             py::object(dtypes.f64.attr("type")).release()};
}

// ---- memory ----------------------------------------------------------------------------------

constexpr int plain_flags =
    py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
constexpr int out_flags = plain_flags | py::detail::npy_api::NPY_ARRAY_WRITEABLE_;

bool has_flags(py::handle array, int flags) { return (proxy(array).flags & flags) == flags; }

bool is_plain(py::handle object) { return is_array(object) && has_flags(object, plain_flags); }

// The dtype of a plain array of real numbers, else none.
std::optional<zp::DType> plain_real(py::handle array) {
    const auto dtype = dtype_of(array);
    return has_flags(array, plain_flags) && is_real(dtype) ? dtype : std::nullopt;
}

std::size_t size_of(py::handle array) {
    std::size_t n = 1;
    for (int i = 0; i < proxy(array).nd; ++i)
        n *= static_cast<std::size_t>(proxy(array).dimensions[i]);
    return n;
}

std::vector<py::ssize_t> shape_of(py::handle array) {
    return {proxy(array).dimensions, proxy(array).dimensions + proxy(array).nd};
}

bool same_shape(py::handle a, py::handle b) {
    if (proxy(a).nd != proxy(b).nd) return false;
    for (int i = 0; i < proxy(a).nd; ++i)
        if (proxy(a).dimensions[i] != proxy(b).dimensions[i]) return false;
    return true;
}

bool overlap(py::handle a, std::size_t a_bytes, py::handle b, std::size_t b_bytes) {
    const auto first = reinterpret_cast<std::uintptr_t>(proxy(a).data);
    const auto second = reinterpret_cast<std::uintptr_t>(proxy(b).data);
    return first < second + b_bytes && second < first + a_bytes;
}

// A fresh array in the shape of another; `descr` is NumPy's form of the dtype, which may be null
// for codes, float32, float64 and the dtype of the other.
py::object empty_like(py::handle array, zp::DType dtype, py::handle descr) {
    if (!descr)
        descr = dtype == zp::DType::u8    ? dtypes.u8
                : dtype == zp::DType::i8  ? dtypes.i8
                : dtype == zp::DType::f32 ? dtypes.f32
                : dtype == zp::DType::f64 ? dtypes.f64
                                          : py::handle(proxy(array).descr);
    const auto& api = py::detail::npy_api::get();
    PyObject* result =
        api.PyArray_NewFromDescr_(api.PyArray_Type_, descr.inc_ref().ptr(), proxy(array).nd,
                                  proxy(array).dimensions, nullptr, nullptr, 0, nullptr);
    if (!result) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(result);
}

// Where n results go: `out`, or a fresh array if it is None.  Null where `out` cannot be written at
// once: it must be an ndarray like `x` but of `dtype`, and disjoint from it (`in_place`: or x).
py::object target_for(py::handle x, std::size_t x_bytes, py::handle out, std::size_t n,
                      zp::DType dtype, bool in_place, py::handle descr = {}) {
    if (out.is_none()) return empty_like(x, dtype, descr);
    const bool plain = is_array(out) && dtype_of(out) == dtype && has_flags(out, out_flags) &&
                       same_shape(out, x) &&
                       (!overlap(x, x_bytes, out, n * zp::size_of(dtype)) ||
                        (in_place && proxy(x).data == proxy(out).data));
    return plain ? py::reinterpret_borrow<py::object>(out) : py::object();
}

// ---- checks that memory safety needs ---------------------------------------------------------

void expect(bool condition) {
    if (!condition) throw py::type_error("unexpected dtype");
}

template <class T>
std::vector<T> to_vector(const py::array& array) {
    constexpr auto expected = std::is_same_v<T, float>    ? zp::DType::f32
                              : std::is_same_v<T, double> ? zp::DType::f64
                              : sizeof(T) == 8            ? zp::DType::i64
                                                          : zp::DType::i32;
    expect(dtype_of(array) == expected);
    if (!has_flags(array, plain_flags)) throw py::value_error("parameters are not contiguous");
    const T* data = static_cast<const T*>(array.data());
    return {data, data + array.size()};
}

}  // namespace
