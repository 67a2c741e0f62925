// The only place that knows pybind11.  Two kinds of functions:
//
// - the fast path (quantize, dequantize, fake_quantize): one look at dtype, layout and parameters,
//   then allocate and loop; whatever is not plain is declined by returning None, and Python
//   normalises or explains it;
// - the *_into functions behind Python's checks: contiguous arrays in, results written to a given
//   array.  They check what memory safety needs and nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "zeropoint/core.hpp"

namespace py = pybind11;
namespace zp = zeropoint::core;

namespace {

// Below this many elements a call is over before another thread could use the GIL.
constexpr std::size_t release_gil_from = 1 << 15;

// ---- NumPy arrays ----------------------------------------------------------------------------

const py::detail::PyArray_Proxy& proxy(py::handle array) {
    return *py::detail::array_proxy(array.ptr());
}

bool is_array(py::handle object) {
    return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_;
}

// NumPy's type number of a native-endian array, else -1.
int type_number(py::handle array) {
    const auto* descr = py::detail::array_descriptor_proxy(proxy(array).descr);
    const char foreign = PY_LITTLE_ENDIAN ? '>' : '<';
    return descr->byteorder == foreign ? -1 : descr->type_num;
}

std::optional<zp::DType> dtype_of(py::handle array) {
    using api = py::detail::npy_api;
    switch (type_number(array)) {
        case 23:  // NPY_HALF, which pybind11 does not name
            return zp::DType::f16;
        case api::NPY_FLOAT_:
            return zp::DType::f32;
        case api::NPY_DOUBLE_:
            return zp::DType::f64;
        case api::NPY_BYTE_:
            return zp::DType::i8;
        case api::NPY_UBYTE_:
            return zp::DType::u8;
        case api::NPY_SHORT_:
            return zp::DType::i16;
        case api::NPY_USHORT_:
            return zp::DType::u16;
        case api::NPY_INT_:
            return zp::DType::i32;
        case api::NPY_UINT_:
            return zp::DType::u32;
        case api::NPY_LONG_:
            return sizeof(long) == 8 ? zp::DType::i64 : zp::DType::i32;
        case api::NPY_ULONG_:
            return sizeof(long) == 8 ? zp::DType::u64 : zp::DType::u32;
        case api::NPY_LONGLONG_:
            return zp::DType::i64;
        case api::NPY_ULONGLONG_:
            return zp::DType::u64;
        default:
            return std::nullopt;
    }
}

constexpr int plain_flags =
    py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
constexpr int out_flags = plain_flags | py::detail::npy_api::NPY_ARRAY_WRITEABLE_;

bool has_flags(py::handle array, int flags) { return (proxy(array).flags & flags) == flags; }

std::size_t size_of(py::handle array) {
    std::size_t n = 1;
    for (int i = 0; i < proxy(array).nd; ++i)
        n *= static_cast<std::size_t>(proxy(array).dimensions[i]);
    return n;
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

// NumPy's dtypes of fresh results.  Made with the module and never freed: a static of `empty_like`
// would run Python under its guard, for which another thread may wait with what Python needs.
struct {
    py::handle f16, f32, f64, u8, i8;
} dtypes;

void make_dtypes() {
    dtypes = {py::dtype("float16").release(), py::dtype("float32").release(),
              py::dtype("float64").release(), py::dtype("uint8").release(),
              py::dtype("int8").release()};
}

py::object empty_like(py::handle array, zp::DType dtype) {
    const py::handle descr = dtype == zp::DType::u8    ? dtypes.u8
                             : dtype == zp::DType::i8  ? dtypes.i8
                             : dtype == zp::DType::f32 ? dtypes.f32
                             : dtype == zp::DType::f64 ? dtypes.f64
                                                       : dtypes.f16;
    const auto& api = py::detail::npy_api::get();
    PyObject* result =
        api.PyArray_NewFromDescr_(api.PyArray_Type_, descr.inc_ref().ptr(), proxy(array).nd,
                                  proxy(array).dimensions, nullptr, nullptr, 0, nullptr);
    if (!result) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(result);
}

// ---- parameters ------------------------------------------------------------------------------

struct NativeParams {
    zp::Params core;
    std::optional<std::ptrdiff_t> axis;
    std::size_t block;
    std::vector<py::ssize_t> shape;  // of the parameters
};

std::optional<zp::Layout> layout_of(py::handle array, std::optional<std::ptrdiff_t> axis_or_none,
                                    std::size_t block) {
    zp::Layout layout;
    if (!axis_or_none) {
        layout.inner = size_of(array);
        return layout;
    }
    const std::ptrdiff_t ndim = proxy(array).nd;
    const std::ptrdiff_t axis = *axis_or_none < 0 ? *axis_or_none + ndim : *axis_or_none;
    if (axis < 0 || axis >= ndim) return std::nullopt;
    const auto length = [&](std::ptrdiff_t i) {
        return static_cast<std::size_t>(proxy(array).dimensions[i]);
    };
    layout.kind = block ? zp::Layout::Kind::block : zp::Layout::Kind::channel;
    layout.block = block ? block : 1;
    layout.axis = length(axis);
    layout.inner = 1;
    for (std::ptrdiff_t i = 0; i < axis; ++i) layout.outer *= length(i);
    for (std::ptrdiff_t i = axis + 1; i < ndim; ++i) layout.inner *= length(i);
    return layout;
}

// The shape that the parameters of an array have.
std::vector<py::ssize_t> parameter_shape(py::handle array, const zp::Layout& layout,
                                         std::optional<std::ptrdiff_t> axis) {
    std::vector<py::ssize_t> shape;
    const std::ptrdiff_t ndim = proxy(array).nd;
    for (std::ptrdiff_t i = 0; axis && i < ndim; ++i) {
        const bool along = i == (*axis < 0 ? *axis + ndim : *axis);
        if (layout.kind == zp::Layout::Kind::channel && !along) continue;
        shape.push_back(layout.kind == zp::Layout::Kind::block && along
                            ? static_cast<py::ssize_t>(layout.blocks())
                            : static_cast<py::ssize_t>(proxy(array).dimensions[i]));
    }
    return shape;
}

// The layout of `array` if the parameters fit it.
std::optional<zp::Layout> fitting_layout(py::handle array, const NativeParams& params) {
    const auto layout = layout_of(array, params.axis, params.block);
    if (!layout || layout->parameters() != params.core.size()) return std::nullopt;
    // blocks of another arrangement can have the same number
    if (params.block && parameter_shape(array, *layout, params.axis) != params.shape)
        return std::nullopt;
    return layout;
}

template <class T>
std::vector<T> to_vector(const py::array& array) {
    constexpr auto expected = std::is_same_v<T, float>    ? zp::DType::f32
                              : std::is_same_v<T, double> ? zp::DType::f64
                              : sizeof(T) == 8            ? zp::DType::i64
                                                          : zp::DType::i32;
    if (dtype_of(array) != expected) throw py::type_error("unexpected dtype of parameters");
    if (!has_flags(array, plain_flags)) throw py::value_error("parameters are not contiguous");
    const T* data = static_cast<const T*>(array.data());
    return {data, data + array.size()};
}

NativeParams make_params(const py::array& scale, const py::array& zero, int qmin, int qmax,
                         bool is_signed, int convention, std::optional<std::ptrdiff_t> axis,
                         std::size_t block) {
    if (convention < 0 || convention > static_cast<int>(zp::Convention::tflite))
        throw py::value_error("unknown convention");
    if (scale.size() != zero.size()) throw py::value_error("scale and zero point differ in size");
    const auto code = is_signed ? zp::DType::i8 : zp::DType::u8;
    const auto recipe = static_cast<zp::Convention>(convention);
    auto zeros = to_vector<std::int32_t>(zero);
    std::vector<py::ssize_t> shape(scale.shape(), scale.shape() + scale.ndim());
    if (dtype_of(scale) == zp::DType::f64)
        return {{to_vector<double>(scale), std::move(zeros), qmin, qmax, code, recipe},
                axis,
                block,
                std::move(shape)};
    return {{to_vector<float>(scale), std::move(zeros), qmin, qmax, code, recipe},
            axis,
            block,
            std::move(shape)};
}

// ---- a call ----------------------------------------------------------------------------------

// Gives up the GIL while it lives.  A thread that asks for it back while the interpreter ends is
// unwound by force (CPython before 3.14), which no noexcept frame survives; it sleeps instead until
// the process is gone, as CPython itself has it from 3.14 on.
class WithoutGil {
public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { take(); }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;
    bool no_signal() noexcept {
        take();
        const bool none = PyErr_CheckSignals() == 0;
        state_ = PyEval_SaveThread();
        return none;
    }

private:
    void take() noexcept {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
    PyThreadState* state_;
};

// Runs `work(poll)`; large ones without the GIL, looking for Ctrl-C between slices.
template <class Work>
void call(std::size_t n, Work&& work) {
    if (n < release_gil_from) {
        work(zp::Poll{});
        return;
    }
    // To take the GIL can mean to wait for a busy thread's turn, so only now and then.
    using Clock = std::chrono::steady_clock;
    static constexpr auto between_looks = std::chrono::milliseconds(50);
    struct Look {
        WithoutGil released;
        Clock::time_point next = Clock::now() + between_looks;
    };
    const auto keep_going = [](void* context) {
        auto& look = *static_cast<Look*>(context);
        if (Clock::now() < look.next) return true;
        const bool fine = look.released.no_signal();
        look.next = Clock::now() + between_looks;
        return fine;
    };
    bool finished;
    {
        Look look;
        finished = work(zp::Poll{keep_going, &look});
    }
    if (!finished) throw py::error_already_set();
}

void check_isa(std::size_t isa) {
    if (isa >= zp::isas().size()) throw py::index_error("no such ISA");
}

// Whether `out` can be written at once: an ndarray like `x` but of `dtype`, and disjoint from it
// (`in_place`: or exactly x).
bool plain_out(py::handle out, py::handle x, std::size_t x_bytes, std::size_t n, zp::DType dtype,
               bool in_place) {
    return is_array(out) && dtype_of(out) == dtype && has_flags(out, out_flags) &&
           same_shape(out, x) &&
           (!overlap(x, x_bytes, out, n * zp::size_of(dtype)) ||
            (in_place && proxy(x).data == proxy(out).data));
}

void expect(bool condition) {
    if (!condition) throw py::type_error("unexpected dtype");
}

bool is_real(std::optional<zp::DType> dtype) {
    return dtype == zp::DType::f32 || dtype == zp::DType::f64 || dtype == zp::DType::f16;
}

// The fast path: `Run` is a core function; None where anything is not plain.
template <class Run>
py::object fast(std::size_t isa, py::handle x, const NativeParams& params, py::handle out,
                zp::DType source, zp::DType target, bool in_place, Run&& run) {
    check_isa(isa);
    const auto layout = fitting_layout(x, params);
    if (!layout) return py::none();
    const std::size_t n = layout->size();
    py::object result;
    if (out.is_none()) {
        result = empty_like(x, target);
    } else {
        if (!plain_out(out, x, n * zp::size_of(source), n, target, in_place)) return py::none();
        result = py::reinterpret_borrow<py::object>(out);
    }
    const void* from = proxy(x).data;
    void* to = proxy(result).data;
    call(n, [&](zp::Poll poll) { return run(from, to, *layout, poll); });
    return result;
}

py::object quantize(std::size_t isa, py::handle x, const NativeParams& params, py::handle out) {
    if (!is_array(x) || !has_flags(x, plain_flags)) return py::none();
    const auto dtype = dtype_of(x);
    if (!is_real(dtype) || !params.core.usable_for(*dtype)) return py::none();
    return fast(isa, x, params, out, *dtype, params.core.code(), false,
                [&](const void* from, void* to, const zp::Layout& layout, zp::Poll poll) {
                    return zp::quantize(isa, {from, *dtype}, to, layout, params.core, poll);
                });
}

py::object fake_quantize(std::size_t isa, py::handle x, const NativeParams& params,
                         py::handle out) {
    if (!is_array(x) || !has_flags(x, plain_flags)) return py::none();
    const auto dtype = dtype_of(x);
    if (!is_real(dtype) || !params.core.usable_for(*dtype)) return py::none();
    return fast(isa, x, params, out, *dtype, *dtype, true,
                [&](const void* from, void* to, const zp::Layout& layout, zp::Poll poll) {
                    return zp::fake_quantize(isa, {from, *dtype}, to, layout, params.core, poll);
                });
}

py::object dequantize(std::size_t isa, py::handle q, const NativeParams& params, py::handle out) {
    if (!is_array(q) || !has_flags(q, plain_flags)) return py::none();
    if (dtype_of(q) != params.core.code()) return py::none();
    std::optional<zp::DType> target = zp::DType::f32;
    if (is_array(out)) target = dtype_of(out);
    if (!is_real(target)) return py::none();
    return fast(isa, q, params, out, params.core.code(), *target, false,
                [&](const void* from, void* to, const zp::Layout& layout, zp::Poll poll) {
                    return zp::dequantize(isa, from, {to, *target}, layout, params.core, poll);
                });
}

// The public quantize, dequantize and fake_quantize themselves.  pybind11's dispatch and a Python
// frame would cost a small array twice what its loop does, so these three read their arguments by
// hand: f(x, params), f(x, params, out=out).  Any other form, and whatever the fast path declines,
// goes on to the Python function that they stand in for.
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

// ---- parameters from the data ----------------------------------------------------------------

zp::Choice make_choice(int rule, bool include_zero, bool symmetric, int qmin, int qmax,
                       int convention) {
    if (rule < 0 || rule > 3 || convention < 0 || convention > 3)
        throw py::value_error("unknown rule or convention");
    return {static_cast<zp::Rule>(rule),
            include_zero,
            symmetric,
            qmin,
            qmax,
            static_cast<zp::Convention>(convention)};
}

struct Range {
    zp::Layout layout;
    zp::DType dtype, precision;
    py::array low, high;
};

py::dtype dtype_of_precision(zp::DType precision) {
    return py::dtype(precision == zp::DType::f64 ? "float64" : "float32");
}

Range range_of(std::size_t isa, py::handle x, zp::DType dtype, const zp::Layout& layout,
               std::optional<std::ptrdiff_t> axis) {
    const auto precision = dtype == zp::DType::f64 ? zp::DType::f64 : zp::DType::f32;
    const py::dtype real = dtype_of_precision(precision);
    const auto shape = parameter_shape(x, layout, axis);
    Range range{layout, dtype, precision, py::array(real, shape), py::array(real, shape)};
    call(layout.size(), [&, from = proxy(x).data, low = range.low.mutable_data(),
                         high = range.high.mutable_data()](zp::Poll poll) {
        return zp::min_max(isa, {from, dtype}, low, high, layout, poll);
    });
    return range;
}

// Of a plain array with data, else nothing.
std::optional<Range> fast_range(std::size_t isa, py::handle x, std::optional<std::ptrdiff_t> axis,
                                std::size_t block) {
    check_isa(isa);
    if (!is_array(x) || !has_flags(x, plain_flags)) return std::nullopt;
    const auto dtype = dtype_of(x);
    const auto layout = layout_of(x, axis, block);
    if (!is_real(dtype) || !layout || layout->size() == 0) return std::nullopt;
    return range_of(isa, x, *dtype, *layout, axis);
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

py::object fast_min_max(std::size_t isa, py::handle x, std::optional<std::ptrdiff_t> axis) {
    auto range = fast_range(isa, x, axis, 0);
    if (!range || holds_nan(range->low)) return py::none();
    return py::make_tuple(std::move(range->low), std::move(range->high));
}

// (scale, zero point), None where there are none: Python explains why.
py::object choose(const py::array& low, const py::array& high, const zp::Choice& choice) {
    const auto dtype = dtype_of(low);
    expect(dtype == dtype_of(high) && (dtype == zp::DType::f32 || dtype == zp::DType::f64));
    if (!same_shape(low, high) || !has_flags(low, plain_flags) || !has_flags(high, plain_flags))
        throw py::value_error("low and high must be plain arrays of one shape");
    const std::vector<py::ssize_t> shape(low.shape(), low.shape() + low.ndim());
    py::array scale(dtype_of_precision(*dtype), shape), zero(py::dtype("int32"), shape);
    constexpr std::size_t step = std::size_t(1) << 20;  // between two looks for Ctrl-C: 20 ms
    const auto from = [&](const void* data, std::size_t i) {
        return static_cast<const char*>(data) + i * zp::size_of(*dtype);
    };
    for (std::size_t i = 0; i < size_of(low); i += step) {
        if (i > 0 && PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (!zp::choose(*dtype, from(low.data(), i), from(high.data(), i),
                        std::min(step, size_of(low) - i), choice,
                        const_cast<char*>(from(scale.mutable_data(), i)),
                        static_cast<std::int32_t*>(zero.mutable_data()) + i))
            return py::none();
    }
    return py::make_tuple(std::move(scale), std::move(zero));
}

// (codes, scale, zero point, Params); codes are None unless asked for.
py::object choose_and_quantize(std::size_t isa, py::handle x, py::handle out, bool with_codes,
                               bool is_signed, const zp::Choice& choice,
                               std::optional<std::ptrdiff_t> axis, std::size_t block) {
    const auto range = fast_range(isa, x, axis, block);
    if (!range) return py::none();
    py::object chosen = choose(range->low, range->high, choice);
    if (chosen.is_none()) return py::none();
    const py::tuple pair = py::reinterpret_steal<py::tuple>(chosen.release());
    NativeParams params =
        make_params(pair[0].cast<py::array>(), pair[1].cast<py::array>(), choice.qmin, choice.qmax,
                    is_signed, static_cast<int>(choice.convention), axis, block);
    py::object codes = py::none();
    if (with_codes) {
        codes =
            fast(isa, x, params, out, range->dtype, params.core.code(), false,
                 [&](const void* from, void* to, const zp::Layout& layout, zp::Poll poll) {
                     return zp::quantize(isa, {from, range->dtype}, to, layout, params.core, poll);
                 });
        if (codes.is_none()) return py::none();
    }
    return py::make_tuple(std::move(codes), pair[0], pair[1], py::cast(std::move(params)));
}

// ---- behind Python's checks ------------------------------------------------------------------

zp::DType dtype_or_throw(py::handle array, bool bfloat16) {
    const auto dtype = dtype_of(array);
    if (!dtype || (bfloat16 && *dtype != zp::DType::u16)) throw py::type_error("unexpected dtype");
    return bfloat16 ? zp::DType::bf16 : *dtype;
}

zp::DType real_or_throw(zp::DType dtype) {
    if (!is_real(dtype) && dtype != zp::DType::bf16) throw py::type_error("not a real dtype");
    return dtype;
}

// Source and target of a general call: C-contiguous, aligned, of one shape.
struct Arrays {
    Arrays(std::size_t isa, const py::array& source, py::array& target, bool source_bf16,
           bool target_bf16)
        : x{source.data(), dtype_or_throw(source, source_bf16)},
          y{target.mutable_data(), dtype_or_throw(target, target_bf16)},
          n(size_of(source)) {
        check_isa(isa);
        if (!has_flags(source, plain_flags) || !has_flags(target, out_flags) ||
            !same_shape(source, target))
            throw py::value_error("arrays must be C-contiguous, aligned and of one shape");
    }
    zp::ConstView x;
    zp::View y;
    std::size_t n;
};

zp::Layout layout_or_throw(const py::array& source, const NativeParams& params) {
    const auto layout = fitting_layout(source, params);
    if (!layout) throw py::value_error("parameters do not fit the array");
    return *layout;
}

void quantize_into(std::size_t isa, const py::array& source, py::array target, bool source_bf16,
                   bool target_bf16, const NativeParams& params) {
    const Arrays a(isa, source, target, source_bf16, target_bf16);
    const auto layout = layout_or_throw(source, params);
    real_or_throw(a.x.dtype);
    expect(a.y.dtype == params.core.code());
    call(a.n, [&](zp::Poll poll) {
        return zp::quantize(isa, a.x, a.y.data, layout, params.core, poll);
    });
}

void dequantize_into(std::size_t isa, const py::array& source, py::array target, bool source_bf16,
                     bool target_bf16, const NativeParams& params) {
    const Arrays a(isa, source, target, source_bf16, target_bf16);
    const auto layout = layout_or_throw(source, params);
    real_or_throw(a.y.dtype);
    expect(a.x.dtype == params.core.code());
    call(a.n, [&](zp::Poll poll) {
        return zp::dequantize(isa, a.x.data, a.y, layout, params.core, poll);
    });
}

void fake_quantize_into(std::size_t isa, const py::array& source, py::array target,
                        bool source_bf16, bool target_bf16, const NativeParams& params) {
    const Arrays a(isa, source, target, source_bf16, target_bf16);
    const auto layout = layout_or_throw(source, params);
    expect(real_or_throw(a.x.dtype) == a.y.dtype);
    call(a.n, [&](zp::Poll poll) {
        return zp::fake_quantize(isa, a.x, a.y.data, layout, params.core, poll);
    });
}

void requantize_into(std::size_t isa, const py::array& source, py::array target, bool source_bf16,
                     bool target_bf16, const NativeParams& params, const py::array& multiplier) {
    const Arrays a(isa, source, target, source_bf16, target_bf16);
    const auto layout = layout_or_throw(source, params);
    const auto multipliers = to_vector<float>(multiplier);
    expect(a.x.dtype == zp::DType::i32 && a.y.dtype == params.core.code());
    if (multipliers.size() != 1 && multipliers.size() != params.core.size())
        throw py::value_error("multiplier does not fit");
    const zp::Requantization requantization(params.core, multipliers);
    call(a.n, [&](zp::Poll poll) {
        return zp::requantize(isa, static_cast<const std::int32_t*>(a.x.data), a.y.data, layout,
                              requantization, poll);
    });
}

void saturate_into(std::size_t isa, const py::array& source, py::array target, bool source_bf16,
                   bool target_bf16, std::int64_t low, std::int64_t high) {
    const Arrays a(isa, source, target, source_bf16, target_bf16);
    const zp::DType t = a.x.dtype;
    const bool whole = t == zp::DType::u8 || t == zp::DType::i8 || t == zp::DType::i16 ||
                       t == zp::DType::i32 || t == zp::DType::i64;
    expect(a.x.dtype == a.y.dtype);
    if (!whole) real_or_throw(a.x.dtype);
    call(a.n,
         [&](zp::Poll poll) { return zp::saturate(isa, a.x, a.y.data, a.n, low, high, poll); });
}

void saturate_cast_into(std::size_t isa, const py::array& source, py::array target,
                        bool source_bf16, bool target_bf16, bool is_signed) {
    const Arrays a(isa, source, target, source_bf16, target_bf16);
    expect(a.y.dtype == (is_signed ? zp::DType::i8 : zp::DType::u8));
    call(a.n, [&](zp::Poll poll) { return zp::saturate_cast(isa, a.x, a.y, a.n, poll); });
}

void round_into(std::size_t isa, const py::array& source, py::array target, bool source_bf16,
                bool target_bf16, bool ties_away) {
    const Arrays a(isa, source, target, source_bf16, target_bf16);
    expect(real_or_throw(a.x.dtype) == a.y.dtype);
    call(a.n, [&](zp::Poll poll) { return zp::round(isa, a.x, a.y.data, a.n, ties_away, poll); });
}

std::pair<py::array, py::array> min_max(std::size_t isa, const py::array& source,
                                        std::optional<std::ptrdiff_t> axis, std::size_t block,
                                        bool bfloat16) {
    check_isa(isa);
    const auto dtype = real_or_throw(dtype_or_throw(source, bfloat16));
    const auto layout = layout_of(source, axis, block);
    if (!layout || layout->size() == 0 || !has_flags(source, plain_flags))
        throw py::value_error("min_max needs data, C-contiguous and aligned, and a valid axis");
    Range range = range_of(isa, source, dtype, *layout, axis);
    return {std::move(range.low), std::move(range.high)};
}

// The core's table for the exponents that are given, one for each channel.
py::array histogram(std::size_t isa, const py::array& source, std::optional<std::ptrdiff_t> axis,
                    bool bfloat16, const py::array& exponents) {
    check_isa(isa);
    const auto dtype = real_or_throw(dtype_or_throw(source, bfloat16));
    const auto layout = layout_of(source, axis, 0);
    if (!layout || !has_flags(source, plain_flags))
        throw py::value_error("histogram needs a plain array and a valid axis");
    const auto given = to_vector<std::int64_t>(exponents);
    if (given.size() != layout->parameters()) throw py::value_error("an exponent for each channel");
    py::array table(py::dtype("int64"), std::vector<std::size_t>{given.size(), zp::histogram_row});
    call(layout->size(), [&, from = source.data(), to = table.mutable_data()](zp::Poll poll) {
        return zp::histogram(isa, {from, dtype}, given, to, *layout, poll);
    });
    return table;
}

// float32(a / b) for two plain float64 arrays of one shape.
py::array quotients(const py::array& a, const py::array& b) {
    expect(dtype_of(a) == zp::DType::f64 && dtype_of(b) == zp::DType::f64);
    if (!same_shape(a, b) || !has_flags(a, plain_flags) || !has_flags(b, plain_flags))
        throw py::value_error("a and b must be plain arrays of one shape");
    py::array found(py::dtype("float32"),
                    std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()));
    zp::quotients(static_cast<const double*>(a.data()), static_cast<const double*>(b.data()),
                  static_cast<float*>(found.mutable_data()), size_of(a));
    return found;
}

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

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    m.doc() = "The compiled core of zeropoint; used by zeropoint._backend alone.";
    make_dtypes();
    try {
        zp::check_environment();  // read now, as Python reads it; the error is Python's
    } catch (const std::invalid_argument&) {
    }
    // made by functions: pybind11 puts a new object on its list in these under a handler of
    // exceptions, and after a constructor under none, where a lack of memory ends the process
    py::class_<NativeParams>(m, "Params");
    py::class_<zp::Choice>(m, "Choice");
    m.def("make_params", &make_params);
    m.def("make_choice", &make_choice);
    m.def("isas", &zp::isas);
    m.def("info", &info);
    m.def("set_num_threads", &zp::set_num_threads);
    m.def("get_num_threads", &zp::get_num_threads);
    m.def("enter_ieee", &zp::enter_ieee);
    m.def("leave_ieee", &zp::leave_ieee);
    m.def("fast_quantize", &quantize);
    m.def("fast_dequantize", &dequantize);
    m.def("fast_fake_quantize", &fake_quantize);
    m.def("make_fast_entries", &make_fast_entries);
    m.def("fast_min_max", &fast_min_max);
    m.def("choose", &choose);
    m.def("choose_and_quantize", &choose_and_quantize);
    m.def("quotients", &quotients);
    m.def("quantize_into", &quantize_into);
    m.def("dequantize_into", &dequantize_into);
    m.def("fake_quantize_into", &fake_quantize_into);
    m.def("requantize_into", &requantize_into);
    m.def("saturate_into", &saturate_into);
    m.def("saturate_cast_into", &saturate_cast_into);
    m.def("round_into", &round_into);
    m.def("min_max", &min_max);
    m.def("histogram", &histogram);
}
