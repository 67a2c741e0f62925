"""The one place for checks of arguments, above both backends.

Every error names the argument, the value and the fix.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from . import _foreign
from ._chunks import chunks, contiguous
from ._layout import Layout
from ._reference import BY_RECIPROCAL, Array, widen

CODE_DTYPES = (np.dtype(np.uint8), np.dtype(np.int8))
INT32 = np.iinfo(np.int32)
INT64 = np.iinfo(np.int64)
#: the dtypes of data: bits of the significand, and the largest integer as far as int64 goes
FLOATS = {
    "float16": (11, 65504),
    "bfloat16": (8, 2**63),
    "float32": (24, 2**63),
    "float64": (53, 2**63),
}
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
#: dtype.name itself takes a microsecond
_NAMES = {np.dtype(name): name for name in ("float16", "float32", "float64", *_INTEGERS)}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


# ---------------------------------------------------------------------------------------------
# Scalars


def integer(value: object, name: str) -> int:
    """`value` as a Python int; floats and bools are a TypeError."""
    if not isinstance(value, (int, np.generic, np.ndarray)) and hasattr(value, "dtype"):
        value = array(value, name)
    if isinstance(value, (bool, np.bool_)) or (
        isinstance(value, np.ndarray) and (value.ndim > 0 or value.dtype.kind not in "iu")
    ):
        raise TypeError(f"{name} must be an integer, not {_described(value)}; pass one as an int")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, not {_described(value)}; pass int({name})"
        ) from None


def flag(value: object, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {_described(value)}")
    return bool(value)


def number(value: Any, name: str) -> Any:
    """A single real number, of any size."""
    kinds = (int, float, np.integer, np.floating)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kinds):
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {shown(value)}")
    return value


def dtype_name(dtype: np.dtype[Any]) -> str:
    return _NAMES.get(dtype) or dtype.name


def code_dtype(dtype: object, name: str = "dtype") -> np.dtype[Any]:
    found = _dtype(dtype)
    if found is None or found not in CODE_DTYPES:
        raise TypeError(f"{name} {shown(dtype)} is not a type of codes; choose uint8 or int8")
    return found


def real_dtype(dtype: object, name: str = "dtype") -> np.dtype[Any]:
    found = _dtype(dtype)
    if found is None or dtype_name(found) not in FLOATS or not found.isnative:
        raise TypeError(f"{name} {shown(dtype)} is not supported; choose a native {listed(FLOATS)}")
    return found


def _dtype(dtype: object) -> np.dtype[Any] | None:
    with contextlib.suppress(Exception):  # NumPy raises many kinds
        return np.dtype(dtype)  # type: ignore[call-overload, no-any-return]
    return None


def code_range(
    qmin: object, qmax: object, dtype: np.dtype[Any], nan_code: object = None
) -> tuple[int, int, int | None]:
    """qmin, qmax and nan_code: qmin < qmax, all inside the dtype, whose ends are the defaults.

    A nan_code at an end of the range takes that code out of it.
    """
    info = np.iinfo(dtype)
    low = int(info.min) if qmin is None else integer(qmin, "qmin")
    high = int(info.max) if qmax is None else integer(qmax, "qmax")
    nan = None if nan_code is None else integer(nan_code, "nan_code")
    for name, value in (("qmin", low), ("qmax", high), ("nan_code", nan)):
        if value is not None and not info.min <= value <= info.max:
            raise ValueError(
                f"{name} {value} is outside {dtype.name}; it must lie in [{info.min}, {info.max}]"
            )
    if low >= high:
        raise ValueError(f"qmin {low} must be less than qmax {high}; swap them or widen the range")
    if nan is None or not low <= nan <= high:
        return low, high, nan
    if low < nan < high:
        raise ValueError(
            f"nan_code {nan} lies inside [qmin, qmax] = [{low}, {high}], where data may have it; "
            f"choose an end, {low} or {high}, or a code outside"
        )
    low, high = (low + 1, high) if nan == low else (low, high - 1)
    if low >= high:
        raise ValueError(
            f"nan_code {nan} leaves one code, {low}, of the two from qmin to qmax; widen the range"
        )
    return low, high, nan


def zero_included(include_zero: bool, given: object, convention: str) -> None:
    """ValueError for include_zero=False where the convention, `given` by some name, has none."""
    if not include_zero and convention != "numpy":
        raise ValueError(
            f"include_zero=False is for the numpy convention alone, not {given!r}; the engines "
            "need a range that holds 0"
        )


def axis(value: object, name: str = "axis") -> int | None:
    """An axis, or None, of an array that is not known yet."""
    if value is None:
        return None
    found = integer(value, name)
    if not INT32.min <= found <= INT32.max:
        raise ValueError(f"{name} {found} is beyond the dimensions of any array")
    return found


def block(value: object, axis: int | None) -> int | None:
    """A block size, or None."""
    if value is None:
        return None
    size = integer(value, "block_size")
    if not 1 <= size <= INT64.max:
        raise ValueError(f"block_size {size} must be at least 1, and at most the axis' length")
    if axis is None:
        raise ValueError(f"block_size {size} needs an axis; pass axis=-1 for the last one")
    return size


def layout(
    shape: tuple[int, ...], along: object, block_size: object = None, name: str = "axis"
) -> Layout:
    """The layout over data of `shape`; AxisError where it has no axis `along`."""
    found = axis(along, name)
    size = block(block_size, found)
    return Layout(shape, None if found is None else normal_axis(found, len(shape)), size)


_T = TypeVar("_T")


def initialised_once(cls: type[_T]) -> type[_T]:
    """A class decorator for frozen dataclasses: a second `__init__` would change the instance."""
    first: Callable[..., None] = cls.__init__

    @functools.wraps(first)
    def init(self: Any, *arguments: Any, **keywords: Any) -> None:
        if self.__dict__:
            raise AttributeError(f"{cls.__name__} is immutable; build a new one")
        first(self, *arguments, **keywords)

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def name(value: object, argument: str, choices: tuple[str, ...], more: str = "") -> str:
    """One of some names."""
    if not isinstance(value, str) or value not in choices:
        given = shown(value) if isinstance(value, (str, type(None))) else _described(value)
        raise ValueError(
            f"{argument} {given} is unknown; choose {' or '.join(map(repr, choices))}{more}"
        )
    return value


def normal_axis(axis: int, ndim: int) -> int:
    """`axis` counted from 0; out of bounds: numpy.exceptions.AxisError."""
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


# ---------------------------------------------------------------------------------------------
# Arrays


def array(x: object, name: str, fill: int = 0) -> Array:
    """`x` as an ndarray, without a copy where NumPy or DLPack can view it; native byte order."""
    found = x if type(x) is np.ndarray else _foreign.read(x, name, fill)
    return found if found.dtype.isnative else contiguous(found)


def numbers(value: Any, name: str) -> Array:
    """Scales, zero points or the like: one number, lists of them, or any array of them."""
    if isinstance(value, (list, tuple)):
        value = _foreign.with_arrays_read(value, name)
        bools = _holds_bool(value)
        try:
            found = np.asarray(value)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{name} cannot be read as an array: {error}") from None
    else:
        found = array(value, name, fill=1)
        bools = found.dtype == bool
    if bools:
        raise TypeError(f"{name} must hold numbers, not bools: {shown(value)}")
    return found


def _holds_bool(value: object, depth: int = _foreign.DEPTH) -> bool:
    if isinstance(value, (list, tuple)):
        return depth > 0 and any(_holds_bool(item, depth - 1) for item in value)
    return isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"


def real_array(x: object, name: str = "x") -> Array:
    """`x` as an array of float16, bfloat16, float32 or float64; anything else is a TypeError."""
    found = array(x, name)
    if dtype_name(found.dtype) not in FLOATS:
        raise TypeError(
            f"{name} has dtype {found.dtype} and must have {listed(FLOATS)}; "
            f"{_foreign.conversion(x, found, name)}"
        )
    return found


def number_array(x: object, name: str = "x") -> Array:
    """Like `real_array`, and integers too."""
    found = array(x, name)
    if dtype_name(found.dtype) not in (*FLOATS, *_INTEGERS):
        raise TypeError(
            f"{name} has dtype {found.dtype} and must have floats or integers; "
            f"{_foreign.conversion(x, found, name)}"
        )
    return found


def exact_array(x: object, dtype: np.dtype[Any], name: str, fix: str) -> Array:
    """`x` as an array that already has `dtype`."""
    found = array(x, name)
    if found.dtype != dtype:
        raise TypeError(f"{name} has dtype {found.dtype} where {dtype} is needed; {fix}")
    return found


def output(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """`out`, if given, is a writeable ndarray of just this shape and dtype."""
    if out is None:
        return None
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError("out is a masked array; pass out.data")
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, not {_described(out)}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(
            f"out has dtype {out.dtype.str if not out.dtype.isnative else out.dtype} where native "
            f"{dtype} is needed; pass numpy.empty({shape}, {dtype.name!r})"
        )
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape} where {shape} is needed")
    if not out.flags.writeable:
        raise ValueError("out is read-only; pass a writeable array")
    shared = elements_overlap(out)
    if shared is not False:
        raise ValueError(
            f"out has strides {out.strides} for shape {out.shape}, so its elements "
            f"{'share' if shared else 'may share'} memory; pass one that has memory for each of "
            "them, such as a copy of it"
        )
    return out


def elements_overlap(x: Array) -> bool | None:
    """Whether elements of `x` overlap each other in memory; None where that takes long to find."""
    if x.size == 0 or x.flags.c_contiguous or x.flags.f_contiguous:
        return False
    axes = sorted((abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1)
    item = x.itemsize
    while axes and axes[0][0] == item:  # no gaps along this axis: one larger element
        item *= axes.pop(0)[1]

    def reach(axes: list[tuple[int, int]]) -> int:
        return item + sum(stride * (n - 1) for stride, n in axes)

    while axes and axes[-1][0] >= reach(axes[:-1]):  # nothing meets along this axis
        axes.pop()
    if not axes:
        return False
    count = math.prod(n for _, n in axes)
    if axes[0][0] < item or count * item > reach(axes):
        return True
    if count > 1 << 18:
        return None
    starts = np.zeros(1, np.int64)
    for stride, n in axes:
        starts = np.add.outer(starts, stride * np.arange(n, dtype=np.int64)).ravel()
    starts.sort()
    return bool((np.diff(starts) < item).any())


def finite(x: Array, name: str, shaped: bool = False, nan: bool = False, more: str = "") -> None:
    """ValueError with the count and the first index if `x` has a NaN or an Inf.

    `shaped`: the shape of `x` counts, so that none can be dropped.  `nan`: NaN is fine.  `more` is
    another way out.
    """
    count, where = 0, tuple[int, ...]()
    for chunk in chunks(x.shape):
        values = widen(x[chunk])
        bad = np.isinf(values) if nan else ~np.isfinite(values)
        found = int(np.count_nonzero(bad))
        if found and not count:
            first = np.unravel_index(int(np.argmax(bad)), bad.shape)
            starts = (along.start for along in chunk if isinstance(along, slice))
            offsets = itertools.zip_longest(first, starts, fillvalue=0)
            where = tuple(int(i) + start for i, start in offsets)
        count += found
    if count:
        raise ValueError(
            f"{name} has {count} {'' if nan else 'NaN or '}Inf of {x.size} elements, the first "
            f"({x[where]}) at index {where}; {more}{without_nonfinite(name, shaped, nan=nan)}"
        )


def without_nonfinite(
    name: str, shaped: bool = False, library: str = "numpy", nan: bool = False
) -> str:
    """The advice for NaN and Inf; with `nan` for Inf alone.

    Not `nan_to_num`: it makes 3.4e38 of an Inf, and such a range has one code for all else.
    """
    good = f"~{library}.isinf({name})" if nan else f"{library}.isfinite({name})"
    if shaped:
        return (
            "put a value of your data's range in their place, for example "
            f"{library}.where({good}, {name}, 0)"
        )
    return f"drop them, for example {name}[{good}]"


# ---------------------------------------------------------------------------------------------
# Parameters


def scales(scale: Any, convention: str) -> Array:
    """A fresh float32 or float64 array of valid scales."""
    found, precision = _reals(scale, "scale", "a scale must be finite and > 0")
    check_scales(found, convention, "scale ")
    with np.errstate(all="ignore"):
        cast = np.array(found, precision, order="C")
    check_scales(cast, convention, "scale, stored as float32, ")
    return cast


def _reals(value: Any, name: str, bounds: str) -> tuple[Array, np.dtype[Any]]:
    """Real numbers, and the precision in which they are kept: Python's in float32."""
    found = numbers(value, name)
    if found.dtype.kind in "iu" or isinstance(value, int):
        with contextlib.suppress(OverflowError):  # an int beyond float64 is not finite
            found = np.asarray(found, np.float64)
        if found.dtype == object:
            raise ValueError(f"{name} is beyond float64: {bounds}")
    elif dtype_name(found.dtype) not in FLOATS:
        raise TypeError(f"{name} must be a real number or an array of them, not {shown(value)}")
    plain = isinstance(value, (int, float, list, tuple)) and not isinstance(value, np.generic)
    keep = found.dtype == np.float64 and not plain
    return found, np.dtype(np.float64 if keep else np.float32)


def kept_and_offset(kept: Any, offset: Any, by_span: bool) -> tuple[Array, Array]:
    """Fresh arrays of valid scales, or spans, and of offsets, in the finer of their precisions."""
    name = "span" if by_span else "scale"
    bounds = f"a {name} must be finite and {'>= 0' if by_span else '> 0'}"
    first, one = _reals(kept, name, bounds)
    second, other = _reals(offset, "offset", "an offset must be finite")
    precision = np.promote_types(one, other)
    if second.ndim and second.shape != first.shape:
        raise ValueError(
            f"offset has shape {second.shape} and {name} has shape {first.shape}; they must be the "
            "same, or offset one number"
        )
    with np.errstate(all="ignore"):
        first = np.array(first, precision, order="C")
        second = np.array(np.broadcast_to(second, first.shape), precision, order="C")
        good = np.isfinite(first) & ((first >= 0) if by_span else (first > 0))
    _check_numbers(first, good, name, bounds)
    _check_numbers(second, np.isfinite(second), "offset", "an offset must be finite")
    return first + 0, second + 0  # a zero is +0


def _check_numbers(found: Array, good: Array, name: str, bounds: str) -> None:
    if not np.all(good):
        where = np.unravel_index(int(np.argmin(good)), found.shape)
        raise ValueError(f"{name} {_place(where)}is {found[where]} as {found.dtype}: {bounds}")


def _place(where: tuple[Any, ...]) -> str:
    """Which of several parameters, for an error."""
    if not where:
        return ""
    if len(where) == 1:
        return f"of channel {int(where[0])} "
    return f"of block {tuple(map(int, where))} "


def check_scales(scale: Array, convention: str, what: str) -> None:
    fix = "a scale must be finite and > 0"
    with np.errstate(all="ignore"):
        good = np.isfinite(scale) & (scale > 0)
        if convention in BY_RECIPROCAL and good.all() and scale.dtype.itemsize >= 4:
            good = np.isfinite(1 / scale)
            fix = f"1/scale must be finite under the {convention} convention"
            fix += "; use onnx, or a larger scale"
    if not np.all(good):
        where = np.unravel_index(int(np.argmin(good)), scale.shape)
        raise ValueError(f"{what}{_place(where)}is {scale[where]}: {fix}")


def granularity(
    shape: tuple[int, ...], axis: int | None, block_size: int | None, name: str = "scale"
) -> int | None:
    """ValueError unless scales of `shape` can be these; the axis, from 0 where that is known."""
    if axis is None:
        if shape:
            raise ValueError(
                f"{name} has shape {shape} but axis is None; name the channel axis, or "
                "pass one number"
            )
    elif block_size is None:
        if len(shape) != 1:
            raise ValueError(
                f"{name} has shape {shape}; with axis {axis} it must be 1-D, one {name} per channel"
            )
    elif not shape:
        raise ValueError(
            f"{name} is one number; with block_size {block_size} it needs the data's shape with "
            f"axis {axis} divided by block_size"
        )
    else:
        return normal_axis(axis, len(shape))
    return axis


def zero_points(zero_point: Any, shape: tuple[int, ...], low: int, high: int) -> Array:
    """A fresh int32 array in the `shape` of the scales, all in [low, high]."""
    found = numbers(zero_point, "zero_point")
    if found.ndim == 0:
        if found.dtype.kind in "mM":  # whose item() may be an integer
            raise TypeError(f"zero_point must be an integer, not {found.dtype}")
        found = np.asarray(integer(found.item(), "zero_point"), object)
    elif found.size == 0 and isinstance(zero_point, (list, tuple)):
        found = found.astype(np.int32)
    elif found.dtype == object and all(type(z) is int for z in found.flat):
        pass  # integers beyond int64: out of range, reported below
    elif found.dtype.kind not in "iu":
        raise TypeError(f"zero_point must hold integers, not {found.dtype}")
    if found.ndim and found.shape != shape:
        raise ValueError(
            f"zero_point has shape {found.shape} and scale has shape {shape}; "
            "they must be the same, or zero_point one integer"
        )
    outside = (found < low) | (found > high)
    if np.any(outside):
        value = found[np.unravel_index(int(np.argmax(outside)), found.shape)]
        note = " (any int32)" if low == INT32.min else ""
        raise ValueError(
            f"zero_point {value} is outside [{low}, {high}]{note}; clip it to that range"
        )
    return np.array(np.broadcast_to(found, shape), np.int32, order="C")


# ---------------------------------------------------------------------------------------------
# Messages


def shown(value: object) -> str:
    """`repr(value)` for an error, short: values from files may be long, or nested deeply."""
    return printable(_SHORT.repr(value))


def printable(text: object, longest: int | None = None) -> str:
    """`text` for a terminal, control characters as in `repr`; beyond `longest` it loses its middle.

    Names in files are written by others, and could move the cursor or reverse the text.
    """
    text = str(text)
    if longest is not None and len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(names: Iterable[str]) -> str:
    *others, last = names
    return ", ".join(others) + " or " + last


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    return f"{type(value).__name__} {shown(value)}"
