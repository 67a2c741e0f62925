// Parameters: Python's as the core has them, their layout in an array, and how to choose them.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.h"

namespace {

// The enum's value with this name.
template <class Enum, std::size_t n>
Enum named(std::string_view name, const char* const (&names)[n]) {
    const auto* found = std::find(names, names + n, name);
    if (found == names + n) throw py::value_error("unknown name: " + std::string(name));
    return static_cast<Enum>(found - names);
}

// Their names as Python has them.  Made with the module and never freed.
py::handle convention_texts[std::size(zp::convention_names)];

void make_convention_texts() {
    for (std::size_t i = 0; i < std::size(convention_texts); ++i)
        convention_texts[i] = py::str(zp::convention_names[i]).release();
}

std::vector<std::string> conventions() {
    return {std::begin(zp::convention_names), std::end(zp::convention_names)};
}
std::vector<std::string> offset_conventions() {
    return {std::begin(zp::offset_convention_names), std::end(zp::offset_convention_names)};
}

using Axis = std::optional<std::ptrdiff_t>;

std::optional<zp::Layout> layout_of(py::handle array, Axis axis, std::size_t block) {
    if (!axis) return zp::Layout::tensor(size_of(array));
    const auto ndim = static_cast<std::size_t>(proxy(array).nd);
    return zp::Layout::along(proxy(array).dimensions, ndim, *axis, block);
}

struct NativeParams {
    zp::Params core;
    Axis axis;
    std::size_t block;
    std::vector<py::ssize_t> shape;  // of the parameters

    // The layout of `array` if the parameters fit it.
    std::optional<zp::Layout> layout(py::handle array) const {
        const auto found = layout_of(array, axis, block);
        const auto ndim = static_cast<std::size_t>(proxy(array).nd);
        if (!found || !found->fits(core.size(), shape, proxy(array).dimensions, ndim))
            return std::nullopt;
        return found;
    }
};

// A Python object that holds a T, and nothing but the core reads it.  pybind11's own would be in a
// table of all objects, and looked for in one of all types: a quarter of the time of a small call.
template <class T>
struct Held {
    PyObject_HEAD T value;
    inline static PyTypeObject* type = nullptr;  // made with the module and never freed

    static void make_type(py::module_& m, const char* name) {
        PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(&dealloc)}, {0, nullptr}};
        const std::string full = std::string("zeropoint._core.") + name;
        PyType_Spec spec{
            full.c_str(), sizeof(Held), 0,
            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
            slots};
        type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
        if (!type) throw py::error_already_set();
        m.attr(name) = py::handle(reinterpret_cast<PyObject*>(type));
    }
    static const T* in(py::handle object) {
        if (!object || Py_TYPE(object.ptr()) != type) return nullptr;
        return &reinterpret_cast<const Held*>(object.ptr())->value;
    }
    static py::object make(T&& value) {
        Held* made = PyObject_New(Held, type);
        if (!made) throw py::error_already_set();
        new (&made->value) T(std::move(value));
        return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(made));
    }

private:
    static void dealloc(PyObject* self) {
        reinterpret_cast<Held*>(self)->value.~T();
        PyObject_Free(self);
        Py_DECREF(type);
    }
};

// What is held, and the object that holds it: others may drop that while a call runs.
template <class T>
class Owner {
public:
    Owner() = default;  // null
    explicit Owner(py::object holder) : holder_(std::move(holder)), value_(Held<T>::in(holder_)) {}
    explicit operator bool() const { return value_; }
    const T& operator*() const { return *value_; }
    const T* operator->() const { return value_; }

private:
    py::object holder_;
    const T* value_ = nullptr;
};

// `scale`, of this precision, has a number for each zero point; `shape` is theirs.
NativeParams make_native(zp::DType precision, const void* scale, std::vector<std::int32_t> zero,
                         int qmin, int qmax, bool is_signed, zp::Convention convention, Axis axis,
                         std::size_t block, std::optional<int> nan_code,
                         std::vector<py::ssize_t> shape) {
    const auto code = is_signed ? zp::DType::i8 : zp::DType::u8;
    const std::size_t n = zero.size();
    const auto make = [&](const auto* s) -> NativeParams {
        return {{std::vector(s, s + n), std::move(zero), qmin, qmax, code, convention, nan_code},
                axis,
                block,
                std::move(shape)};
    };
    return precision == zp::DType::f64 ? make(static_cast<const double*>(scale))
                                       : make(static_cast<const float*>(scale));
}

// The same from plain arrays.
NativeParams make_params(const py::array& scale, const py::array& zero, int qmin, int qmax,
                         bool is_signed, std::string_view convention, Axis axis, std::size_t block,
                         std::optional<int> nan_code) {
    const auto precision = plain_real(scale);
    expect(precision == zp::DType::f32 || precision == zp::DType::f64);
    if (scale.size() != zero.size()) throw py::value_error("scale and zero point differ in size");
    return make_native(*precision, scale.data(), to_vector<std::int32_t>(zero), qmin, qmax,
                       is_signed, named<zp::Convention>(convention, zp::convention_names), axis,
                       block, nan_code, shape_of(scale));
}

// The same with a real offset for each scale, or span.
NativeParams make_offset_params(const py::array& scale, const py::array& offset, int qmin, int qmax,
                                bool is_signed, std::string_view convention, Axis axis,
                                std::size_t block, std::optional<int> nan_code, bool fused) {
    if (scale.size() != offset.size()) throw py::value_error("scale and offset differ in size");
    const auto recipe = named<zp::OffsetConvention>(convention, zp::offset_convention_names);
    const auto code = is_signed ? zp::DType::i8 : zp::DType::u8;
    const auto make = [&](const auto& s, const auto& o) -> NativeParams {
        return {{s, o, qmin, qmax, code, recipe, fused, nan_code}, axis, block, shape_of(scale)};
    };
    return dtype_of(scale) == zp::DType::f64
               ? make(to_vector<double>(scale), to_vector<double>(offset))
               : make(to_vector<float>(scale), to_vector<float>(offset));
}

// Tables for codes of one dtype, which become codes of another.
struct NativeTables {
    zp::Tables core;
    zp::DType source, target;
    Axis axis;
};

// `table` has 256 bytes for each channel, in the order of the bytes of the codes.
NativeTables make_tables(const py::array& table, bool from_signed, bool to_signed, Axis axis) {
    constexpr auto entries = static_cast<py::ssize_t>(zp::Tables::entries);
    expect(dtype_of(table) == zp::DType::u8 && has_flags(table, plain_flags));
    const std::size_t n = size_of(table) / zp::Tables::entries;
    if (table.ndim() == 0 || table.shape(table.ndim() - 1) != entries || (!axis && n != 1))
        throw py::value_error("a table of 256 bytes, or one for each channel of an axis");
    const auto code = [](bool is_signed) { return is_signed ? zp::DType::i8 : zp::DType::u8; };
    const auto* bytes = static_cast<const std::uint8_t*>(table.data());
    return {{bytes, n}, code(from_signed), code(to_signed), axis};
}

// A choice, and what parameters that follow from it take over as it is.
struct NativeChoice {
    zp::Choice core;
    py::object dtype, qmin, qmax, convention, include_zero, nan_code;
    bool is_signed;
};

NativeChoice make_choice(py::object dtype, std::optional<std::string_view> zero_point_from,
                         py::object include_zero, bool symmetric, py::object qmin, py::object qmax,
                         py::object convention, py::object nan_code) {
    const auto rule = zero_point_from.value_or(zp::rule_names[0]);
    const zp::Choice core{
        named<zp::ZeroPointFrom>(rule, zp::rule_names),
        include_zero.cast<bool>(),
        symmetric,
        qmin.cast<int>(),
        qmax.cast<int>(),
        named<zp::Convention>(convention.cast<std::string_view>(), zp::convention_names)};
    const bool is_signed = dtype.equal(py::reinterpret_borrow<py::object>(dtypes.i8));
    return {core,
            std::move(dtype),
            std::move(qmin),
            std::move(qmax),
            std::move(convention),
            std::move(include_zero),
            std::move(nan_code),
            is_signed};
}

py::handle dtype_of_precision(zp::DType precision) {
    return precision == zp::DType::f64 ? dtypes.f64 : dtypes.f32;
}

struct Chosen {
    py::array scale, zero;
};

// None where there are none: Python explains why.
std::optional<Chosen> choose(const py::array& low, const py::array& high,
                             const zp::Choice& choice) {
    const auto dtype = dtype_of(low);
    expect(dtype == dtype_of(high) && (dtype == zp::DType::f32 || dtype == zp::DType::f64));
    if (!same_shape(low, high) || !has_flags(low, plain_flags) || !has_flags(high, plain_flags))
        throw py::value_error("low and high must be plain arrays of one shape");
    py::array scale = new_array(dtype_of_precision(*dtype), shape_of(low));
    py::array zero = new_array(dtypes.i32, shape_of(low));
    constexpr std::size_t step = std::size_t(1) << 20;  // between two checks for Ctrl-C: 20 ms
    const auto from = [&](const void* data, std::size_t i) {
        return static_cast<const char*>(data) + i * zp::size_of(*dtype);
    };
    for (std::size_t i = 0; i < size_of(low); i += step) {
        if (i > 0 && PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (!zp::choose(*dtype, from(low.data(), i), from(high.data(), i),
                        std::min(step, size_of(low) - i), choice,
                        const_cast<char*>(from(scale.mutable_data(), i)),
                        static_cast<std::int32_t*>(zero.mutable_data()) + i))
            return std::nullopt;
    }
    return Chosen{std::move(scale), std::move(zero)};
}

// float32(a / b) for two plain float64 arrays of one shape.
py::array quotients(const py::array& a, const py::array& b) {
    expect(dtype_of(a) == zp::DType::f64 && dtype_of(b) == zp::DType::f64);
    if (!same_shape(a, b) || !has_flags(a, plain_flags) || !has_flags(b, plain_flags))
        throw py::value_error("a and b must be plain arrays of one shape");
    py::array found = new_array(dtypes.f32, shape_of(a));
    zp::quotients(static_cast<const double*>(a.data()), static_cast<const double*>(b.data()),
                  static_cast<float*>(found.mutable_data()), size_of(a));
    return found;
}

}  // namespace

// How pybind11 passes what is held.
template <class T>
struct HeldCaster {
    template <class>
    using cast_op_type = const T&;
    bool load(py::handle object, bool) { return (value = Held<T>::in(object)) != nullptr; }
    operator const T&() { return *value; }
    static py::handle cast(T&& value, py::return_value_policy, py::handle) {
        return Held<T>::make(std::move(value)).release();
    }
    const T* value = nullptr;
};
template <>
struct py::detail::type_caster<NativeParams> : HeldCaster<NativeParams> {
    static constexpr auto name = const_name("Params");
};
template <>
struct py::detail::type_caster<NativeTables> : HeldCaster<NativeTables> {
    static constexpr auto name = const_name("Tables");
};
template <>
struct py::detail::type_caster<NativeChoice> : HeldCaster<NativeChoice> {
    static constexpr auto name = const_name("Choice");
};
