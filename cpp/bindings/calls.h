// What the public functions answer at once: small arrays as fast as large ones allow.  Each returns
// None where it declines.  A dtype may be an object with code of its own, which may do anything to
// the arrays of the call: they are looked at only once it has run.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.h"
#include "constructor.h"
#include "entries.h"
#include "fast.h"
#include "gil.h"
#include "objects.h"
#include "parameters.h"

namespace {

// ---- the range of the data, and parameters from it ----------------------------------------------

// Not finite where Python has to explain: NaN, but for those that are left out; Inf; nothing left.
struct Ends {
    Number low, high;
    bool are_finite() const { return low.is_finite() && high.is_finite(); }
};

Ends ends_of(std::size_t isa, zp::ConstView x, std::size_t n, bool skip_nan = false) {
    Ends ends;
    ends.low.dtype = ends.high.dtype = x.dtype == zp::DType::f64 ? zp::DType::f64 : zp::DType::f32;
    call(n, [&](zp::Poll poll) {
        const auto function = skip_nan ? zp::min_max_present : zp::min_max;
        return function(isa, x, ends.low.data(), ends.high.data(), zp::Layout::tensor(n), poll);
    });
    return ends;
}

namespace answer {

// min_max(x, *, channel_axis, skip_nan)
py::object min_max(std::size_t isa, const Given& given) {
    const py::handle x = given[0], axis = given.or_none(1);
    const auto from = real_view_of(x);
    const auto skip_nan = flag_or(given[2], false);
    if (!from || size_of(x) == 0 || !skip_nan) return py::none();
    if (!axis.is_none())
        return is_axis(axis) && !*skip_nan ? fast_min_max(isa, x, axis.cast<Axis>()) : py::none();
    Ends ends = ends_of(isa, *from, size_of(x), *skip_nan);
    if (!ends.are_finite()) return py::none();
    return py::make_tuple(ends.low.scalar(), ends.high.scalar());
}

}  // namespace answer

// Python's function of a dtype and keywords, what it returns has the core's form; and a dictionary
// of these, because that call takes as long as the rest of a small one.
struct {
    py::handle of, native, known;
} choices;

void set_choices(py::object of) {
    choices.of = of.release();
    choices.native = py::str("native").release();
    choices.known = py::dict().release();
}

py::object new_tuple(PyObject* const* items, std::size_t n) {
    auto made = py::reinterpret_steal<py::object>(PyTuple_New(static_cast<Py_ssize_t>(n)));
    if (!made) throw py::error_already_set();
    for (std::size_t i = 0; i < n; ++i)
        PyTuple_SET_ITEM(made.ptr(), static_cast<Py_ssize_t>(i),
                         py::handle(items[i]).inc_ref().ptr());
    return made;
}

// Null where it is not known.
py::object known_choice(const py::object& key) {
    PyObject* found = nullptr;
#if PY_VERSION_HEX >= 0x030D0000
    PyDict_GetItemRef(choices.known.ptr(), key.ptr(), &found);
#else
    found = PyDict_GetItemWithError(choices.known.ptr(), key.ptr());
    Py_XINCREF(found);
#endif
    if (!found && PyErr_Occurred()) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(found);
}

void remember_choice(const py::object& key, const py::object& native) {
    constexpr py::ssize_t most = 256;  // more than any program has
    if (PyDict_Size(choices.known.ptr()) >= most) PyDict_Clear(choices.known.ptr());
    if (PyDict_SetItem(choices.known.ptr(), key.ptr(), native.ptr()) != 0)
        throw py::error_already_set();
}

// The core's form of the choice of a call whose keywords for it begin at `first`, and end before
// axis, block_size and skip_nan; null where Python has to look.
Owner<NativeChoice> choice_of(const Given& given, std::size_t first) {
    PyObject* values[most_arguments];
    PyObject* names[most_arguments];
    PyObject* parts[2 * most_arguments];  // of the key
    std::size_t n = 0, size = 0;
    const auto add = [&](PyObject* value) {
        parts[size++] = value;
        if (PyLong_CheckExact(value))  // which equals a bool
            parts[size++] = reinterpret_cast<PyObject*>(&PyLong_Type);
        values[n++] = value;
    };
    add(given[1] ? given[1].ptr() : dtypes.u8_name.ptr());
    for (std::size_t i = first; i < given.count - 3; ++i) {
        PyObject* value = given.values[i];
        if (!value) {
            parts[size++] = Py_Ellipsis;
            continue;
        }
        // what has no other value later
        const bool plain = value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value) ||
                           PyUnicode_CheckExact(value);
        if (!plain) return {};
        names[n] = given.names[i];
        add(value);
    }
    py::object key;
    if (PyUnicode_CheckExact(values[0]) || PyType_CheckExact(values[0])) {
        key = new_tuple(parts, size);
        if (auto native = known_choice(key)) return Owner<NativeChoice>(std::move(native));
    }
    const py::object keywords = n > 1 ? new_tuple(names + 1, n - 1) : py::object();
    const auto choice = py::reinterpret_steal<py::object>(
        PyObject_Vectorcall(choices.of.ptr(), values, 1, keywords.ptr()));
    if (choice) {
        auto native =
            py::reinterpret_steal<py::object>(PyObject_GetAttr(choice.ptr(), choices.native.ptr()));
        if (key && native) remember_choice(key, native);
        return Owner<NativeChoice>(std::move(native));
    }
    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError))
        throw py::error_already_set();
    PyErr_Clear();
    return {};
}

// (codes, parameters) of a call whose keywords for the choice begin at `first`; codes are None
// unless asked for.
std::pair<py::object, py::object> chosen(std::size_t isa, const Given& given, std::size_t first,
                                         bool with_codes, py::handle out) {
    const auto skip_nan = flag_or(given[given.count - 1], false);
    if (!skip_nan) return {};
    const Owner<NativeChoice> held = choice_of(given, first);
    if (!held) return {};
    const NativeChoice& choice = *held;
    const py::handle x = given[0];
    const auto from = real_view_of(x);
    if (!from || size_of(x) == 0) return {};
    const py::handle axis = given.or_none(given.count - 3);
    const py::handle block = given.or_none(given.count - 2);
    const auto nan_code = choice.nan_code.cast<std::optional<int>>();
    const auto fields = [&](py::handle scale, py::handle zero, py::handle native) -> Fields {
        return {scale, zero,  choice.dtype,      choice.qmin,         choice.qmax,
                axis,  block, choice.convention, choice.include_zero, choice.nan_code,
                native};
    };
    if (!axis.is_none()) {
        const auto size = integer_or(block, 0);
        if (*skip_nan || !is_axis(axis) || !size || (*size < 1 && !block.is_none())) return {};
        const py::object found =
            choose_and_quantize(isa, x, out, with_codes, choice.is_signed, choice.core, nan_code,
                                axis.cast<Axis>(), static_cast<std::size_t>(*size));
        if (found.is_none()) return {};
        const auto parts = py::reinterpret_borrow<py::tuple>(found);
        const py::object scale = frozen(parts[1]), zero = frozen(parts[2]);
        Fields all = fields(scale, zero, parts[3]);
        const auto from_0 = py::int_(axis.cast<int>() + (axis.cast<int>() < 0) * proxy(x).nd);
        if (!block.is_none()) all[slot::axis] = from_0;
        return {parts[0], new_params(all)};
    }
    if (!block.is_none()) return {};

    const std::size_t n = size_of(x);
    const auto code = choice.is_signed ? zp::DType::i8 : zp::DType::u8;
    py::object codes = py::none();
    if (with_codes) codes = target_for(x, out, code, false);
    if (!codes) return {};
    const Ends ends = ends_of(isa, *from, n, *skip_nan);
    Number scale{ends.low.dtype};
    std::int32_t z = 0;
    if (!zp::choose(scale.dtype, ends.low.bytes, ends.high.bytes, 1, choice.core, scale.bytes, &z))
        return {};
    NativeParams params =
        make_native(scale.dtype, scale.bytes, {z}, choice.core.qmin, choice.core.qmax,
                    choice.is_signed, choice.core.convention, std::nullopt, 0, nan_code, {});
    if (with_codes)
        call(n, [&, to = target_view(codes, code)](zp::Poll poll) {
            return zp::quantize(isa, *from, to, zp::Layout::tensor(n), params.core, poll);
        });
    const py::object native = Held<NativeParams>::make(std::move(params));
    return {std::move(codes), new_params(fields(scale.scalar(), py::int_(z), native))};
}

namespace answer {

// choose_params(x, dtype, *, zero_point_from, ..., axis, block_size, skip_nan)
py::object choose_params(std::size_t isa, const Given& given) {
    auto found = chosen(isa, given, 2, false, Py_None);
    return found.second ? std::move(found.second) : py::none();
}

// quantize_dynamic(x, dtype, *, out, zero_point_from, ..., axis, block_size, skip_nan)
py::object quantize_dynamic(std::size_t isa, const Given& given) {
    auto found = chosen(isa, given, 3, true, given.or_none(2));
    if (!found.second) return py::none();
    return py::make_tuple(std::move(found.first), std::move(found.second));
}

// ---- with parameters ----------------------------------------------------------------------------

// quantize(x, params, *, out, check_finite)
py::object quantize(std::size_t isa, const Given& given) {
    const Owner<NativeParams> native = native_of(given[1]);
    const auto check_finite = flag_or(given[3], false);
    if (!given[0] || !native || !check_finite) return py::none();
    if (*check_finite) {
        const py::handle x = given[0];
        const auto from = real_view_of(x);
        if (!from) return py::none();
        const std::size_t n = size_of(x);
        if (n > 0 && !ends_of(isa, *from, n).are_finite()) return py::none();
    }
    return ::quantize(isa, given[0], *native, given.or_none(2));
}

// dequantize(q, params, *, dtype, out)
py::object dequantize(std::size_t isa, const Given& given) {
    const Owner<NativeParams> native = native_of(given[1]);
    if (!given[0] || !native) return py::none();
    py::object descr;
    if (!given.or_none(2).is_none()) {
        descr = descr_of(given[2]);
        if (!descr) return py::none();
    }
    return dequantize_as(descr, isa, given[0], *native, given.or_none(3));
}

// fake_quantize(x, params, *, out)
py::object fake_quantize(std::size_t isa, const Given& given) {
    const Owner<NativeParams> native = native_of(given[1]);
    if (!given[0] || !native) return py::none();
    return ::fake_quantize(isa, given[0], *native, given.or_none(2));
}

// requantize(acc, acc_scale, params, *, out)
py::object requantize(std::size_t isa, const Given& given) {
    const py::handle steps = given[1];
    const Owner<NativeParams> native = native_of(given[2]);
    if (!given[0] || !steps || !native) return py::none();
    const NativeParams& params = *native;
    if (params.block != 0 || params.core.size() == 0 || params.core.has_offset()) return py::none();
    std::optional<Number> one;
    zp::ConstView step{};
    std::size_t count = 1;
    if (is_array(steps)) {
        const auto dtype = plain_real(steps);
        if (!dtype || *dtype < zp::DType::f32 || shape_of(steps) != params.shape) return py::none();
        step = {proxy(steps).data, *dtype};
        count = size_of(steps);
    } else {
        one = number(steps);
        if (!one) return py::none();
        step = one->view();
    }
    const auto requantization = zp::Requantization::of(params.core, step, count);
    if (!requantization) return py::none();
    return ::requantize(isa, given[0], params, *requantization, given.or_none(3));
}

// _look_up(q, lookup, native, out)
py::object look_up(std::size_t isa, const Given& given) {
    const Owner<NativeTables> tables(py::reinterpret_borrow<py::object>(given.or_none(2)));
    if (!given[0] || !tables) return py::none();
    return ::look_up(isa, given[0], *tables, given.or_none(3));
}

// ---- saturate and round -------------------------------------------------------------------------

// saturate(x, qmin, qmax, *, out)
py::object saturate(std::size_t isa, const Given& given) {
    if (!given[0] || !given[1] || !given[2]) return py::none();
    const auto low = integer(given[1]), high = integer(given[2]);
    if (!low || !high || *low > *high) return py::none();
    return ::saturate(isa, given[0], *low, *high, given.or_none(3));
}

// saturate_cast(x, dtype, *, out)
py::object saturate_cast(std::size_t isa, const Given& given) {
    const auto code = given[1] ? code_of(given[1]) : std::nullopt;
    if (!given[0] || !code) return py::none();
    return ::saturate_cast(isa, given[0], *code == zp::DType::i8, given.or_none(2));
}

// round(x, *, ties, out)
py::object round(std::size_t isa, const Given& given) {
    const py::handle ties = given[1];
    const bool away = ties && is_text(ties, "away");
    if (!given[0] || (ties && !away && !is_text(ties, "even"))) return py::none();
    return ::rounded(isa, given[0], away, given.or_none(2));
}

}  // namespace answer

// ---- all of them --------------------------------------------------------------------------------

constexpr struct {
    std::string_view name;
    Answer answer;
} answers[] = {
    {"_initialise", &answer::initialise},
    {"choose_params", &answer::choose_params},
    {"quantize_dynamic", &answer::quantize_dynamic},
    {"min_max", &answer::min_max},
    {"quantize", &answer::quantize},
    {"dequantize", &answer::dequantize},
    {"fake_quantize", &answer::fake_quantize},
    {"requantize", &answer::requantize},
    {"_look_up", &answer::look_up},
    {"saturate", &answer::saturate},
    {"saturate_cast", &answer::saturate_cast},
    {"round", &answer::round},
};
Builtin builtins[std::size(answers)];

// The builtin that takes the place of a Python function, whose parameters are `names`, the first
// `positional` of them by position too.  `doc` is headed by the signature, as `inspect` reads it.
py::object make_entry(py::object python, const std::vector<py::str>& names, std::size_t positional,
                      std::string doc) {
    static constexpr auto enter = enters<builtins>(std::make_index_sequence<std::size(answers)>());
    const auto name = python.attr("__name__").cast<std::string>();
    std::size_t i = 0;
    while (i < std::size(answers) && answers[i].name != name) ++i;
    if (i == std::size(answers)) throw py::value_error("no answer for " + name);
    Builtin& builtin = builtins[i];
    builtin.doc = std::move(doc);
    builtin.entry.open(std::move(python), names, positional, answers[i].answer);
    const auto function = reinterpret_cast<void (*)()>(enter[i]);
    builtin.definition = {answers[i].name.data(), reinterpret_cast<PyCFunction>(function),
                          METH_FASTCALL | METH_KEYWORDS, builtin.doc.c_str()};
    const auto m = py::module_::import("zeropoint._core");
    // where it is found, in a pickle too, whether or not there is a core
    const py::str home("zeropoint");
    auto made = py::reinterpret_steal<py::object>(
        PyCFunction_NewEx(&builtin.definition, m.ptr(), home.ptr()));
    if (!made) throw py::error_already_set();
    m.attr(answers[i].name.data()) = made;
    return made;
}

}  // namespace
