// The public functions as builtins.  pybind11's dispatch and a Python frame would cost a small
// array several times what its loop does, so these read their arguments by hand.  What an answer
// declines goes to the Python function of the same name and signature, which converts or explains.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace {

constexpr std::size_t most_arguments = 14;

// The arguments of a call in the order of the signature; null where the call gives none.
struct Given {
    PyObject* values[most_arguments] = {};
    PyObject* const* names = nullptr;
    std::size_t count = 0;
    py::handle operator[](std::size_t i) const { return values[i]; }
    py::handle or_none(std::size_t i) const { return values[i] ? values[i] : Py_None; }
};

// None where it declines.
using Answer = py::object (*)(std::size_t isa, const Given&);

class Entry {
public:
    // Its references live as long as the process: the module is never unloaded.
    void open(py::object python, const std::vector<py::str>& names, std::size_t positional,
              Answer answer) {
        if (names.size() > most_arguments) throw py::value_error("too many arguments");
        python_ = python.release();
        count_ = names.size();
        positional_ = static_cast<Py_ssize_t>(positional);
        answer_ = answer;
        for (std::size_t i = 0; i < count_; ++i) {
            names_[i] = py::str(names[i]).release().ptr();
            PyUnicode_InternInPlace(&names_[i]);
        }
    }
    static void set_state(py::object state) { state_ = state.release(); }

    PyObject* operator()(PyObject* const* args, Py_ssize_t n, PyObject* names) const noexcept {
        try {
            Given given;
            given.names = names_;
            given.count = count_;
            if (read(args, n, names, given)) {
                py::object result = attempt(given);
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
    // False where Python has to say what is wrong.
    bool read(PyObject* const* args, Py_ssize_t n, PyObject* keywords, Given& given) const {
        if (n > positional_) return false;
        std::copy(args, args + n, given.values);
        const Py_ssize_t more = keywords ? PyTuple_GET_SIZE(keywords) : 0;
        for (Py_ssize_t k = 0; k < more; ++k) {
            // names in source code are interned; Python takes those that are not
            const auto* end = names_ + count_;
            const auto* found = std::find(names_, end, PyTuple_GET_ITEM(keywords, k));
            if (found == end || given.values[found - names_]) return false;
            given.values[found - names_] = args[n + k];
        }
        return true;
    }

    // Null: a Python error is set.
    py::object attempt(const Given& given) const try {
        PyObject* state = nullptr;
        if (PyContextVar_Get(state_.ptr(), nullptr, &state) < 0) throw py::error_already_set();
        const auto held = py::reinterpret_steal<py::object>(state);
        const long isa = state ? PyLong_AsLong(PyTuple_GET_ITEM(state, 0)) : -1;
        return isa < 0 ? py::none() : answer_(static_cast<std::size_t>(isa), given);
    } catch (py::error_already_set& error) {
        error.restore();
        return py::object();
    }

    py::handle python_;
    PyObject* names_[most_arguments] = {};
    std::size_t count_ = 0;
    Py_ssize_t positional_ = 0;
    Answer answer_ = nullptr;
    inline static py::handle state_;  // the context variable of `_backend`; its first item: the ISA
};

// What CPython calls, and what it keeps a pointer to.
struct Builtin {
    Entry entry;
    std::string doc;
    PyMethodDef definition;
};

template <Builtin* builtins, std::size_t i>
PyObject* enter(PyObject*, PyObject* const* args, Py_ssize_t n, PyObject* names) {
    return builtins[i].entry(args, n, names);
}

using Enter = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);

template <Builtin* builtins, std::size_t... i>
constexpr std::array<Enter, sizeof...(i)> enters(std::index_sequence<i...>) {
    return {&enter<builtins, i>...};
}

}  // namespace
