// The fast path: check dtype, layout and parameters once, then allocate and loop.  It declines what
// is not plain by returning None, and Python converts it or explains the error.
#pragma once

#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "gil.h"
#include "parameters.h"

namespace {

// `Run` is a core function.
template <class Run>
py::object fast(std::size_t isa, py::handle x, const NativeParams& params, py::handle out,
                zp::DType source, zp::DType target, bool in_place, Run&& run) {
    check_isa(isa);
    const auto layout = params.layout(x);
    if (!layout) return py::none();
    const std::size_t n = layout->size();
    py::object result = target_for(x, n * zp::size_of(source), out, n, target, in_place);
    if (!result) return py::none();
    const zp::ConstView from{proxy(x).data, source};
    const zp::View to{proxy(result).data, target};
    call(n, [&](zp::Poll poll) { return run(from, to, *layout, poll); });
    return result;
}

py::object quantize(std::size_t isa, py::handle x, const NativeParams& params, py::handle out) {
    const auto dtype = is_array(x) ? plain_real(x) : std::nullopt;
    if (!dtype || !params.core.usable_for(*dtype)) return py::none();
    return fast(isa, x, params, out, *dtype, params.core.code(), false,
                [&](zp::ConstView from, zp::View to, const zp::Layout& layout, zp::Poll poll) {
                    return zp::quantize(isa, from, to.data, layout, params.core, poll);
                });
}

py::object fake_quantize(std::size_t isa, py::handle x, const NativeParams& params,
                         py::handle out) {
    const auto dtype = is_array(x) ? plain_real(x) : std::nullopt;
    if (!dtype || !params.core.usable_for(*dtype)) return py::none();
    return fast(isa, x, params, out, *dtype, *dtype, true,
                [&](zp::ConstView from, zp::View to, const zp::Layout& layout, zp::Poll poll) {
                    return zp::fake_quantize(isa, from, to.data, layout, params.core, poll);
                });
}

py::object dequantize(std::size_t isa, py::handle q, const NativeParams& params, py::handle out) {
    if (!is_array(q) || !has_flags(q, plain_flags)) return py::none();
    if (dtype_of(q) != params.core.code()) return py::none();
    std::optional<zp::DType> target = zp::DType::f32;
    if (is_array(out)) target = dtype_of(out);
    if (!is_real(target)) return py::none();
    return fast(isa, q, params, out, params.core.code(), *target, false,
                [&](zp::ConstView from, zp::View to, const zp::Layout& layout, zp::Poll poll) {
                    return zp::dequantize(isa, from.data, to, layout, params.core, poll);
                });
}

// ---- the range of the data, and parameters from it -------------------------------------------

struct Range {
    py::array low, high;
};

Range range_of(std::size_t isa, py::handle x, zp::DType dtype, const zp::Layout& layout) {
    const py::dtype real = dtype_of_precision(dtype);
    const auto shape =
        layout.parameter_shape(proxy(x).dimensions, static_cast<std::size_t>(proxy(x).nd));
    Range range{py::array(real, shape), py::array(real, shape)};
    call(layout.size(), [&, from = proxy(x).data, low = range.low.mutable_data(),
                         high = range.high.mutable_data()](zp::Poll poll) {
        return zp::min_max(isa, {from, dtype}, low, high, layout, poll);
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
    const auto dtype = is_array(x) ? plain_real(x) : std::nullopt;
    const auto layout = dtype ? layout_of(x, axis, 0) : std::nullopt;
    if (!layout || layout->size() == 0) return py::none();
    Range range = range_of(isa, x, *dtype, *layout);
    if (holds_nan(range.low)) return py::none();
    return py::make_tuple(std::move(range.low), std::move(range.high));
}

// (codes, scale, zero point, Params); codes are None unless asked for.
py::object choose_and_quantize(std::size_t isa, py::handle x, py::handle out, bool with_codes,
                               bool is_signed, const zp::Choice& choice, Axis axis,
                               std::size_t block) {
    check_isa(isa);
    const auto dtype = is_array(x) ? plain_real(x) : std::nullopt;
    const auto layout = dtype ? layout_of(x, axis, block) : std::nullopt;
    if (!layout || layout->size() == 0) return py::none();
    const std::size_t n = layout->size();
    const auto code = is_signed ? zp::DType::i8 : zp::DType::u8;
    py::object codes = py::none();
    if (with_codes) codes = target_for(x, n * zp::size_of(*dtype), out, n, code, false);
    if (!codes) return py::none();

    const auto chosen = [&]() -> std::pair<py::object, py::object> {
        if (out.is_none() && with_codes) {  // nobody sees what is written before a fault is found
            const auto shape =
                layout->parameter_shape(proxy(x).dimensions, static_cast<std::size_t>(proxy(x).nd));
            py::array scale(dtype_of_precision(*dtype), shape), zero(py::dtype("int32"), shape);
            zp::Outcome outcome{};
            call(n, [&, from = proxy(x).data, to = proxy(codes).data, s = scale.mutable_data(),
                     z = static_cast<std::int32_t*>(zero.mutable_data())](zp::Poll poll) {
                outcome =
                    zp::quantize_dynamic(isa, {from, *dtype}, to, *layout, choice, s, z, poll);
                return outcome != zp::Outcome::stopped;
            });
            if (outcome == zp::Outcome::fault) return {};
            if (outcome == zp::Outcome::done) {
                with_codes = false;
                return {std::move(scale), std::move(zero)};
            }
        }
        const Range range = range_of(isa, x, *dtype, *layout);
        const py::object found = choose(range.low, range.high, choice);
        if (found.is_none()) return {};
        const auto pair = py::reinterpret_borrow<py::tuple>(found);
        return {pair[0], pair[1]};
    }();
    const auto& [scale, zero] = chosen;
    if (!scale) return py::none();
    const auto make = *dtype == zp::DType::f64 ? &native_params<double> : &native_params<float>;
    NativeParams params = make(scale.cast<py::array>(), zero.cast<py::array>(), choice.qmin,
                               choice.qmax, is_signed, choice.convention, axis, block);
    if (with_codes)
        call(n, [&, from = proxy(x).data, to = proxy(codes).data](zp::Poll poll) {
            return zp::quantize(isa, {from, *dtype}, to, *layout, params.core, poll);
        });
    return py::make_tuple(std::move(codes), scale, zero, py::cast(std::move(params)));
}

// ---- the public functions --------------------------------------------------------------------

// The public quantize, dequantize and fake_quantize themselves.  pybind11's dispatch and a Python
// frame would cost a small array twice what its loop does, so these three read their arguments by
// hand: f(x, params), f(x, params, out=out).  Other forms, and what the fast path declines, go to
// the Python function that they replace.
class FastEntry {
public:
    using Fast = py::object (*)(std::size_t, py::handle, const NativeParams&, py::handle);

    // References that live as long as the process: the module is never unloaded.
    void open(py::object python, Fast fast) {
        python_ = python.release();
        fast_ = fast;
    }
    static void context(py::object state, py::object params_type) {
        state_ = state.release();
        params_type_ = params_type.release();
        native_ = py::str("_native").release();
        out_ = py::str("out").release();
        PyUnicode_InternInPlace(&native_.ptr());
        PyUnicode_InternInPlace(&out_.ptr());
    }

    PyObject* operator()(PyObject* const* args, Py_ssize_t n, PyObject* names) const noexcept {
        const bool has_out =
            names && PyTuple_GET_SIZE(names) == 1 && PyTuple_GET_ITEM(names, 0) == out_.ptr();
        const bool plain = n == 2 && (!names || has_out) &&
                           reinterpret_cast<PyObject*>(Py_TYPE(args[1])) == params_type_.ptr();
        try {
            if (plain) {
                py::object result = attempt(args[0], args[1], has_out ? args[2] : Py_None);
                if (!result || !result.is_none()) return result.release().ptr();
            }
        } catch (const std::bad_alloc&) {
            return PyErr_NoMemory();
        } catch (const std::exception& error) {
            PyErr_SetString(PyExc_RuntimeError, error.what());
            return nullptr;
        }
        return PyObject_Vectorcall(python_.ptr(), args, static_cast<std::size_t>(n), names);
    }

private:
    // Null: a Python error is set.
    py::object attempt(py::handle x, py::handle params, py::handle out) const try {
        PyObject* state = nullptr;
        if (PyContextVar_Get(state_.ptr(), nullptr, &state) < 0) throw py::error_already_set();
        const auto held = py::reinterpret_steal<py::object>(state);
        const long isa = state ? PyLong_AsLong(PyTuple_GET_ITEM(state, 0)) : -1;
        if (isa < 0) return py::none();
        const auto native =
            py::reinterpret_steal<py::object>(PyObject_GetAttr(params.ptr(), native_.ptr()));
        if (!native) throw py::error_already_set();
        return fast_(static_cast<std::size_t>(isa), x, native.cast<const NativeParams&>(), out);
    } catch (py::error_already_set& error) {
        error.restore();
        return py::object();
    }

    py::handle python_;
    Fast fast_ = nullptr;
    inline static py::handle state_, params_type_, native_, out_;
};

FastEntry quantize_entry, dequantize_entry, fake_quantize_entry;

template <FastEntry& entry>
PyObject* enter(PyObject*, PyObject* const* args, Py_ssize_t n, PyObject* names) {
    return entry(args, n, names);
}

// The builtin named `name` in this module, which takes the place of `python`.
template <FastEntry& entry>
py::object make_fast_entry(const py::module_& m, const char* name, const std::string& text,
                           py::object python, FastEntry::Fast fast) {
    entry.open(std::move(python), fast);
    static const std::string doc = text;
    static PyMethodDef definition{
        name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&enter<entry>)),
        METH_FASTCALL | METH_KEYWORDS, doc.c_str()};
    auto module_name = py::reinterpret_steal<py::object>(PyModule_GetNameObject(m.ptr()));
    auto function = py::reinterpret_steal<py::object>(
        PyCFunction_NewEx(&definition, m.ptr(), module_name.ptr()));
    if (!function) throw py::error_already_set();
    m.attr(name) = function;
    return function;
}

// `docs` are the docstrings, each headed by its signature in the form that inspect reads.
py::tuple make_fast_entries(py::object state, py::object params_type, const py::tuple& functions,
                            const std::vector<std::string>& docs) {
    if (functions.size() != 3 || docs.size() != 3) throw py::value_error("three functions");
    FastEntry::context(std::move(state), std::move(params_type));
    const auto m = py::module_::import("zeropoint._core");
    return py::make_tuple(
        make_fast_entry<quantize_entry>(m, "quantize", docs[0], functions[0], &quantize),
        make_fast_entry<dequantize_entry>(m, "dequantize", docs[1], functions[1], &dequantize),
        make_fast_entry<fake_quantize_entry>(m, "fake_quantize", docs[2], functions[2],
                                             &fake_quantize));
}

}  // namespace
