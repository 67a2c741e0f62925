// NumPy arrays for the core: pointer, dtype, layout of memory.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
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

bool is_swapped_descr(py::handle dtype) {
    return py::detail::array_descriptor_proxy(dtype.ptr())->byteorder ==
           (PY_LITTLE_ENDIAN ? '>' : '<');
}
bool is_swapped(py::handle array) { return is_swapped_descr(proxy(array).descr); }

// In whatever byte order; none for one that the core has no type for.
std::optional<zp::DType> any_dtype_of(py::handle dtype) {
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
    if (number >= 1 && number <= 12) return dtypes[number - 1];
    if (number == half) return DType::f16;
    if (is_bfloat16(descr)) return DType::bf16;
    return std::nullopt;
}

// None also for one of foreign byte order.
std::optional<zp::DType> dtype_of_descr(py::handle dtype) {
    return is_swapped_descr(dtype) ? std::nullopt : any_dtype_of(dtype);
}
std::optional<zp::DType> dtype_of(py::handle array) { return dtype_of_descr(proxy(array).descr); }

bool is_real(std::optional<zp::DType> dtype) { return dtype && *dtype <= zp::DType::f64; }

// NumPy's dtypes of fresh results, and types of numbers.  Made with the module and never freed: a
// static of `empty_like` would run Python under its guard, for which another thread may wait with
// what Python needs.
struct {
    py::handle f32, f64, u8, i8, i32, i64;
    py::handle u8_name;
} dtypes;
struct {
    py::handle f32, f64;
} types;

void make_dtypes() {
    dtypes = {py::dtype("float32").release(), py::dtype("float64").release(),
              py::dtype("uint8").release(),   py::dtype("int8").release(),
              py::dtype("int32").release(),   py::dtype("int64").release(),
              py::str("uint8").release()};
    types = {py::object(dtypes.f32.attr("type")).release(),
             py::object(dtypes.f64.attr("type")).release()};
}

// ---- memory ----------------------------------------------------------------------------------

constexpr int plain_flags =
    py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;

bool has_flags(py::handle array, int flags) { return (proxy(array).flags & flags) == flags; }

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

py::ssize_t item_size(py::handle array) {
    return py::detail::array_descriptor2_proxy(proxy(array).descr)->elsize;
}

// How any ndarray lies in memory; it refers to the array's shape and strides.  One without an axis
// has neither: where it is not plain, it has an axis of one element.
zp::Memory memory_of(py::handle array) {
    if (has_flags(array, plain_flags) && !is_swapped(array)) return {};
    const auto& p = proxy(array);
    static constexpr py::ssize_t one = 1;
    if (p.nd == 0) return {1, &one, &one, is_swapped(array)};
    return {static_cast<std::size_t>(p.nd), p.dimensions, p.strides, is_swapped(array)};
}

// Any ndarray as input of the core, none where that has no type for it; and one of real numbers.
std::optional<zp::ConstView> view_of(py::handle array) {
    if (!array || !is_array(array)) return std::nullopt;
    const auto dtype = any_dtype_of(proxy(array).descr);
    if (!dtype) return std::nullopt;
    return zp::ConstView{proxy(array).data, *dtype, memory_of(array)};
}
std::optional<zp::ConstView> real_view_of(py::handle array) {
    const auto view = view_of(array);
    return view && is_real(view->dtype) ? view : std::nullopt;
}

zp::View target_view(py::handle array, zp::DType dtype) {
    return {proxy(array).data, dtype, memory_of(array)};
}

// The bytes from the first that an array has to the one after the last.
struct Extent {
    explicit Extent(py::handle array) {
        const auto& p = proxy(array);
        first = last = reinterpret_cast<std::uintptr_t>(p.data);
        for (int i = 0; i < p.nd; ++i) {
            if (p.dimensions[i] == 0) {
                last = first;
                return;
            }
            const auto reach = static_cast<std::uintptr_t>(p.strides[i] * (p.dimensions[i] - 1));
            (p.strides[i] < 0 ? first : last) += reach;
        }
        last += static_cast<std::uintptr_t>(item_size(array));
    }
    std::uintptr_t first, last;
};

bool overlap(py::handle a, py::handle b) {
    const Extent x(a), y(b);
    return x.first < y.last && y.first < x.last;
}

bool same_memory(py::handle a, py::handle b) {
    const auto &x = proxy(a), &y = proxy(b);
    return x.data == y.data && std::equal(x.strides, x.strides + x.nd, y.strides);
}

// Whether each element has bytes of its own; not known, and false, of strides that do not nest.
bool lies_apart(py::handle array) {
    const auto& p = proxy(array);
    if (has_flags(array, py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_)) return true;
    std::pair<py::ssize_t, py::ssize_t> axes[zp::Memory::most_dimensions];  // stride, length
    auto* end = axes;
    for (int i = 0; i < p.nd; ++i)
        if (p.dimensions[i] != 1) *end++ = {std::abs(p.strides[i]), p.dimensions[i]};
    std::sort(axes, end);
    py::ssize_t reach = item_size(array);
    for (auto* axis = axes; axis != end; ++axis) {
        if (axis->first < reach) return false;
        reach += axis->first * (axis->second - 1);
    }
    return true;
}

py::array new_array(py::handle descr, std::vector<py::ssize_t> shape) {
    return {py::reinterpret_borrow<py::dtype>(descr), std::move(shape)};
}

// A fresh array in the shape of another; `descr` is NumPy's form of the dtype, which may be null
// for codes, float32, float64 and the dtype of the other, but for its byte order.
py::object empty_like(py::handle array, zp::DType dtype, py::handle descr) {
    if (!descr)
        descr = dtype == zp::DType::u8    ? dtypes.u8
                : dtype == zp::DType::i8  ? dtypes.i8
                : dtype == zp::DType::f32 ? dtypes.f32
                : dtype == zp::DType::f64 ? dtypes.f64
                                          : py::handle(proxy(array).descr);
    py::object native;
    if (is_swapped_descr(descr)) descr = native = descr.attr("newbyteorder")("=");
    const auto& api = py::detail::npy_api::get();
    PyObject* result =
        api.PyArray_NewFromDescr_(api.PyArray_Type_, descr.inc_ref().ptr(), proxy(array).nd,
                                  proxy(array).dimensions, nullptr, nullptr, 0, nullptr);
    if (!result) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(result);
}

// Where results go: `out`, or a fresh array if it is None.  Null where `out` cannot be written at
// once: it must be an ndarray like `x` but of `dtype`, and disjoint from it (`in_place`: or x).
py::object target_for(py::handle x, py::handle out, zp::DType dtype, bool in_place,
                      py::handle descr = {}) {
    if (out.is_none()) return empty_like(x, dtype, descr);
    const bool fine = is_array(out) && dtype_of(out) == dtype &&
                      has_flags(out, py::detail::npy_api::NPY_ARRAY_WRITEABLE_) &&
                      same_shape(out, x) && lies_apart(out) &&
                      (!overlap(x, out) || (in_place && same_memory(x, out)));
    return fine ? py::reinterpret_borrow<py::object>(out) : py::object();
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
