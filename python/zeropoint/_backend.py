"""Which implementation answers: the core's ISAs or the NumPy reference; and `verify()`.

Nothing else in the package touches `_core`.  Above this module every call is the same for all
backends; below it there is either a kernel or the reference.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from . import _conventions, _reference
from ._checks import shown
from ._chunks import contiguous, copy, lies_apart, unlike
from ._reference import Array


def _refuse_subinterpreters() -> None:
    """ImportError in any interpreter but the process' first.

    The core keeps Python objects for the whole process, and before Python 3.12 the lock that it
    takes while it is loaded is never given to a subinterpreter: the import would wait for ever.
    """
    api = ctypes.pythonapi  # NumPy has loaded ctypes already
    here, first = (
        ctypes.PYFUNCTYPE(ctypes.c_void_p)((f"PyInterpreterState_{name}", api))()
        for name in ("Get", "Main")
    )
    if here != first:
        raise ImportError(
            "zeropoint cannot be imported in a subinterpreter; import it in the main interpreter, "
            "or use threads or processes"
        )


_core: Any = None
if importlib.util.find_spec(f"{__package__}._core") is not None:
    _refuse_subinterpreters()
    _core = importlib.import_module(f"{__package__}._core")  # one that fails to load is an error
_agrees = not _core or (
    hasattr(_core, "make_tables")
    and _core.conventions() == list(_conventions.CONVENTIONS)
    and _core.offset_conventions() == list(_conventions.OFFSET_CONVENTIONS)
)


def _check_version() -> None:
    """At the first use and not at the import, which a reinstallation needs."""
    if not _agrees:
        raise ImportError(
            "the compiled core is of another version than zeropoint's Python files; reinstall "
            "zeropoint (in a checkout: pip install -e .)"
        )


_NATIVE: tuple[str, ...] = tuple(_core.isas()) if _core else ()
_ALL: tuple[str, ...] = (*_NATIVE, "reference")


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def ieee(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`function` in IEEE 754's default arithmetic, which the kernels take for themselves.

    For what Python and NumPy compute beside the kernels: the host may have set another rounding
    mode, or have subnormal numbers flushed to zero.  Only the core can change that.
    """
    if _core is None:
        return function
    enter, leave = _core.enter_ieee, _core.leave_ieee

    @functools.wraps(function)
    def guarded(*arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> _Result:
        host = enter()
        try:
            return function(*arguments, **keywords)
        finally:
            leave(host)

    return guarded


class VerificationError(AssertionError):
    """Under `verify()`: a kernel's result differs from the reference's."""


class _State(NamedTuple):
    fast: int  #: index of the ISA if calls may go straight to the core, else -1
    isa: int  #: index of the ISA, -1 for the reference
    verify: bool
    chosen: bool  #: named by the user, so that the reference needs no warning


def _state(name: str, verify: bool, chosen: bool) -> _State:
    isa = _NATIVE.index(name) if name in _NATIVE else -1
    return _State(-1 if verify else isa, isa, verify, chosen)


def _named(name: object, source: str) -> str:
    if not isinstance(name, str) or name not in _ALL:
        raise ValueError(
            f"{source} {shown(name)} is not a backend of this machine; choose one of "
            f"{', '.join(_ALL)}"
        )
    return name


def number_from_environment(name: str, fix: str) -> int | None:
    """A whole number of up to 20 digits, below 2^64; None where it is unset or empty.

    The same rules as the core's own (`Setting` in layout.cpp).
    """
    text = os.environ.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) < 2**64):
        raise ValueError(f"{name} {shown(text)} is not a whole number below 2^64; {fix}")
    return int(text)


_from_environment = os.environ.get("ZEROPOINT_BACKEND")
_default = (
    _state(_named(_from_environment, "ZEROPOINT_BACKEND"), False, True)
    if _from_environment
    else _state(_ALL[0], False, False)
)
_current: ContextVar[_State] = ContextVar("zeropoint_backend", default=_default)
current = _current.get
#: how `verify()` asks the reference, which the self-check does once for all backends
ask: ContextVar[Callable[..., Any] | None] = ContextVar("zeropoint_ask", default=None)
_warned = False


def backends() -> tuple[str, ...]:
    """The backends that this machine can run, best first; ``"reference"`` is always the last."""
    return _ALL


def backend() -> str:
    """The backend that answers calls in this context."""
    return _ALL[current().isa]


def reason() -> str:
    """Why `backend()` is the chosen one (for `zeropoint info`)."""
    if current().chosen:
        return "named by use_backend or ZEROPOINT_BACKEND"
    return "the best this CPU runs" if _core else "the compiled core is absent"


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the context (context-local), calls go to the backend `name`.

    Raises ValueError, listing the choices, if this machine does not have it.
    """
    state = _state(_named(name, "backend"), current().verify, True)
    token = _current.set(state)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def verify() -> Iterator[None]:
    """Within the context (context-local), every call also runs on the NumPy reference.

    The first element that differs by a bit raises `VerificationError`; NaNs equal each other.
    """
    token = _current.set(_state(backend(), True, current().chosen))
    try:
        yield
    finally:
        _current.reset(token)


def set_num_threads(n: int) -> None:
    """Threads that a large call may use, process-wide; `n` 0: the CPUs this process may use.

    The environment's ZEROPOINT_NUM_THREADS is the number at import.  Small arrays, and the NumPy
    reference, never leave the calling thread.  Results have the same bits for any number.  A call
    does not wait for a thread that the system gives no CPU: the others do its part.

    Raises
    ------
    TypeError, ValueError
        `n` is not an integer, or is negative.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"n must be an integer, not {type(n).__name__} {n!r}; pass 0 for automatic")
    if n < 0:
        raise ValueError(f"n {n} must not be negative; pass 0 for automatic")
    if _core:
        _core.set_num_threads(min(int(n), 2**31))  # the core has a bound of its own


def get_num_threads() -> int:
    """Threads that a large call may use; 1 where the core is absent."""
    return int(_core.get_num_threads()) if _core else 1


# the core reads this one by itself, at the first call, where it is too late for an error
number_from_environment("ZEROPOINT_STREAM_FROM", "give bytes, or unset it")
_threads = number_from_environment("ZEROPOINT_NUM_THREADS", "use 0 for automatic")
if _threads is not None:
    set_num_threads(_threads)


def core_info() -> dict[str, Any]:
    """Compiler, compiled ISAs, kernels; whether AVX-512 is with VBMI.  Empty without the core."""
    return dict(_core.info()) if _core else {}


# ---------------------------------------------------------------------------------------------
# The core's form of parameters, and the public functions as the core's builtins


def native_params(scale: Array, zero_point: Array, params: Any) -> Any:
    """The core's form of `params`, None where the core is absent."""
    if _core is None:
        return None
    _check_version()
    return _core.make_params(scale, zero_point, *_recipe_of(params))


def native_offset_params(kept: Array, offset: Array, params: Any) -> Any:
    """The core's form of an `OffsetParams`, None where the core is absent."""
    if _core is None:
        return None
    _check_version()
    return _core.make_offset_params(kept, offset, *_recipe_of(params), params.fused)


def _recipe_of(params: Any) -> tuple[Any, ...]:
    codes = params.qmin, params.qmax, params.dtype.kind == "i"
    layout = params.axis, params.block_size or 0
    return *codes, params.convention, *layout, params.nan_code


if _core and _agrees:
    _core.set_state(_current)


def builtins(*functions: Callable[..., Any], **told: Any) -> tuple[Any, ...]:
    """The core's builtins of the same names, which call `functions` for what they decline.

    `told` are what the core must know for it: ``params_type=QuantParams`` and
    ``offset_params_type=OffsetParams``, and as ``choices`` the function that remembers.
    """
    if _core is None or not _agrees:
        return functions
    for name, value in told.items():
        getattr(_core, f"set_{name}")(value)
    return tuple(map(_builtin, functions))


def _builtin(function: Callable[..., Any]) -> Any:
    parameters = inspect.signature(function).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    shown = [p.replace(annotation=p.empty) for p in parameters if p.kind is not p.VAR_POSITIONAL]
    # the form that `inspect` reads
    text = str(inspect.Signature(shown)).replace("(", "($module, ", 1)
    doc = f"{function.__name__}{text}\n--\n\n{function.__doc__}"
    return _core.make_entry(function, [*names, *(p.name for p in keywords)], len(names), doc)


def native_choice(*fields: Any) -> Any:
    """The core's form of a `Choice` of these fields, None where the core is absent."""
    if _core is None:
        return None
    _check_version()
    return _core.make_choice(*fields)


def native_tables(table: Array, source: np.dtype[Any], axis: int | None) -> Any:
    """The core's form of the tables of `_reference.lookup`, None where the core is absent."""
    if _core is None:
        return None
    _check_version()
    is_signed = source.kind == "i"
    # the byte of code -128 is 128
    table = np.roll(table, 128, axis=-1) if is_signed else contiguous(table)
    return _core.make_tables(table.view(np.uint8), is_signed, table.dtype.kind == "i", axis)


# ---------------------------------------------------------------------------------------------
# The general path: valid arrays in any layout


@ieee
def elementwise(
    kernel: str,
    x: Array,
    dtype: np.dtype[Any],
    out: Array | None,
    native: tuple[Any, ...],
    reference: Callable[[Array], Array],
) -> Array:
    """Run one operation that maps `x` to an array of its shape and of `dtype`.

    `kernel` is the core's function, `native` its further arguments; `reference` the same on
    NumPy.  Results go to `out`, or to a fresh C-contiguous array.
    """
    isa, expected = _isa_or_expected(reference, x)
    if isa < 0:
        result: Array = np.ascontiguousarray(expected) if x.ndim else expected
    else:
        result = _run(kernel, isa, x, dtype, out, native, expected)
        if expected is not None:
            _compare(kernel, x, result, expected)
    if out is None:
        return result
    if result is not out:
        copy(out, result)
    return out


def look_up(q: Array, table: Array, axis: int | None, native: Any, out: Array | None) -> Array:
    """`_reference.lookup` on the current backend; `native` is the core's form of the tables."""
    arguments = table.dtype, out, (native,), lambda q: _reference.lookup(q, table, axis)
    return elementwise("lookup_into", q, *arguments)


@ieee
def min_max(
    x: Array, axis: int | None, block: int | None, skip_nan: bool = False
) -> tuple[Array, Array]:
    """`_reference.min_max` on the current backend."""
    isa, expected = _isa_or_expected(_reference.min_max, x, axis, block, skip_nan)
    if isa < 0:
        return expected  # type: ignore[no-any-return]
    low, high = _core.ranges(isa, x.view(np.ndarray), axis, block or 0, skip_nan)
    if expected is not None:
        for got, want in zip((low, high), expected, strict=True):
            _compare("min_max", x, got, want)
    return low, high


@ieee
def histogram(x: Array, axis: int | None, exponents: Array) -> tuple[Array, Array, Array]:
    """`_reference.histogram` on the current backend."""
    isa, expected = _isa_or_expected(_reference.histogram, x, axis, exponents)
    if isa < 0:
        return expected  # type: ignore[no-any-return]
    rows = _core.histogram(isa, contiguous(x), axis, exponents)
    low, high, table = rows[:, 0].view(np.float64), rows[:, 1].view(np.float64), rows[:, 2:]
    if expected is not None:
        counted = _reference.bins_spanned(low, high, exponents) <= _reference.BINS
        _compare("histogram", x, low, expected[0])
        _compare("histogram", x, high, expected[1])
        _compare("histogram", x, table[counted], expected[2][counted])
    return low, high, table


@ieee
def q8_0(source: Array, target: Array) -> bool:
    """`_reference.to_q8_0`, or `from_q8_0` of bytes, on the current backend; both arrays plain.

    Whether the stored scales are finite; where one is not, the target means nothing.
    """
    to = target.dtype == np.uint8
    isa, expected = _isa_or_expected(
        lambda: _reference.to_q8_0(source) if to else _reference.from_q8_0(source, target.dtype)
    )
    if isa < 0:
        target[...] = expected
        blocks = target if to else source
        return bool(np.isfinite(blocks.view(_reference.Q8_0)["scale"]).all())
    if expected is not None:  # an element that is not written must differ
        target[...] = unlike(expected)
    kernel = "to_q8_0" if to else "from_q8_0"
    finite = bool(getattr(_core, kernel)(isa, source.view(np.ndarray), target))
    if expected is not None and finite:
        _compare(kernel, source, target, expected)
    return finite


class Errors(NamedTuple):
    """What quantizing an array does to it; sums in a unit, see `_reference.errors`."""

    worst: float
    absolute: float
    noise: float
    signal: float
    back: float
    dot: float
    clipped: int
    codes_used: int
    nonzero: Array  #: elements of each channel that are not zero
    most: Array  #: how many codes most of these have


@ieee
def errors(x: Array, native: Any, unit: float, reference: Callable[[], tuple[Any, ...]]) -> Errors:
    """What `reference` finds with `_reference`, on the current backend."""
    isa, expected = _isa_or_expected(reference)
    if isa < 0:
        return Errors(*expected)
    found = Errors(*_core.errors(isa, x.view(np.ndarray), native, 1 / unit))
    if expected is not None:
        for got, want in zip(found, expected, strict=True):
            _compare("errors", x, np.asarray(got), np.asarray(want))
    return found


@ieee
def quotients(a: Array, b: Array) -> Array:
    """float32(a / b) for float64 arrays."""
    if current().isa >= 0:
        return np.asarray(_core.quotients(contiguous(a), contiguous(b)))
    with np.errstate(all="ignore"):
        return np.asarray((a / b).astype(np.float32))


@ieee
def choose(low: Array, high: Array, native: Any, **keywords: Any) -> tuple[Array, Array]:
    """`_reference.choose` on the current backend; `native` is the core's form of the keywords."""
    state = _state_for_call()
    found = None
    if state.isa >= 0 and native is not None:
        low, high = np.asarray(low, order="C"), np.asarray(high, order="C")
        found = _core.choose(low, high, native)
    if found is not None and not state.verify:
        return found  # type: ignore[no-any-return]
    expected = _reference.choose(low, high, **keywords)
    if found is not None:
        _compare("choose_params", low, found[0], expected[0])
        _compare("choose_params", low, found[1], expected[1].astype(np.int32))
    return expected


def _isa_or_expected(reference: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    """The ISA's index or -1, and the reference's result where that is needed, else None."""
    state = _state_for_call()
    if state.isa >= 0 and not state.verify:
        return state.isa, None
    asked = ask.get()
    return state.isa, asked(reference, *arguments) if asked else reference(*arguments)


def _state_for_call() -> _State:
    global _warned
    _check_version()
    if _core is None and not _warned and not current().chosen:
        _warned = True
        warnings.warn(
            "zeropoint runs on its NumPy fallback: the compiled core is absent, because it could "
            "not be built at install time; install a C++ compiler and reinstall zeropoint (with "
            "ZEROPOINT_REQUIRE_CORE=1 to see what fails), or set ZEROPOINT_BACKEND=reference",
            RuntimeWarning,
            stacklevel=5,
        )
    return current()


def _run(
    kernel: str,
    isa: int,
    x: Array,
    dtype: np.dtype[Any],
    out: Array | None,
    native: tuple[Any, ...],
    expected: Array | None,
) -> Array:
    direct = out is not None and lies_apart(out) and not np.may_share_memory(out, x)
    target = out if direct and out is not None else np.empty(x.shape, dtype)
    if expected is not None:  # an element that is not written must differ
        target[...] = unlike(expected)
    getattr(_core, kernel)(isa, x.view(np.ndarray), target.view(np.ndarray), *native)
    return target


def _compare(kernel: str, x: Array, got: Array, want: Array) -> None:
    if got.dtype != want.dtype or got.shape != want.shape:
        raise VerificationError(
            f"{kernel} on {backend()} gives {got.dtype}{got.shape}, the reference "
            f"{want.dtype}{want.shape}"
        )
    got, want = np.atleast_1d(got), np.atleast_1d(want)
    unsigned = np.dtype(f"u{got.dtype.itemsize}")
    differs = np.ascontiguousarray(got).view(unsigned) != np.ascontiguousarray(want).view(unsigned)
    if not differs.any():
        return
    if got.dtype.kind not in "iu":
        differs &= ~(np.isnan(_reference.widen(got)) & np.isnan(_reference.widen(want)))
    if differs.any():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(differs)), differs.shape))
        x = np.atleast_1d(x)
        value = f", x {x[first]!r}" if x.shape == got.shape else ""
        raise VerificationError(
            f"{kernel} on {backend()} differs from the reference in {np.count_nonzero(differs)} of "
            f"{got.size} elements, the first at index {first}: got {got[first]!r}, reference "
            f"{want[first]!r}{value}"
        )
