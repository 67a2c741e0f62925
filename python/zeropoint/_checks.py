"""The one place for checks of arguments; what both backends get has passed through here.

Every error names the argument, the value and the mend.
"""

from __future__ import annotations

import itertools
import operator
import reprlib
from typing import Any

import numpy as np

from ._extras import missing
from ._pieces import contiguous, pieces
from ._reference import Array, widen

CODE_DTYPES = (np.dtype(np.uint8), np.dtype(np.int8))
INT32 = np.iinfo(np.int32)
INT64 = np.iinfo(np.int64)
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_CPU = 1  # DLPack's kDLCPU
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


# ---------------------------------------------------------------------------------------------
# Scalars


def integer(value: object, name: str) -> int:
    """`value` as a Python int; floats and bools are a TypeError."""
    if isinstance(value, (bool, np.bool_)) or (
        isinstance(value, np.ndarray) and (value.ndim > 0 or value.dtype.kind not in "iu")
    ):
        raise TypeError(f"{name} must be an integer, not {_told(value)}; pass for example 0")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, not {_told(value)}; pass int({name})"
        ) from None


def flag(value: object, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {_told(value)}")
    return bool(value)


def code_dtype(dtype: object, name: str = "dtype") -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except Exception:  # NumPy has many for what is no dtype
        found = None
    if found not in CODE_DTYPES:
        raise ValueError(f"{name} {shown(dtype)} is not a type of codes; choose uint8 or int8")
    return found  # type: ignore[no-any-return]


def real_dtype(dtype: object, name: str = "dtype") -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except Exception:  # NumPy has many for what is no dtype
        raise TypeError(
            f"{name} {shown(dtype)} is not a dtype; choose one of {_listed(_FLOATS)}"
        ) from None
    if found.name not in _FLOATS or not found.isnative:
        raise TypeError(
            f"{name} {shown(dtype)} is not supported; choose a native {_listed(_FLOATS)}"
        )
    return found  # type: ignore[no-any-return]


def code_range(qmin: object, qmax: object, dtype: np.dtype[Any]) -> tuple[int, int]:
    """qmin and qmax with the dtype's ends as defaults; qmin < qmax, both inside the dtype."""
    info = np.iinfo(dtype)
    low = int(info.min) if qmin is None else integer(qmin, "qmin")
    high = int(info.max) if qmax is None else integer(qmax, "qmax")
    for name, value in (("qmin", low), ("qmax", high)):
        if not info.min <= value <= info.max:
            raise ValueError(
                f"{name} {value} is outside {dtype.name}; it must lie in [{info.min}, {info.max}]"
            )
    ordered(low, high)
    return low, high


def ordered(qmin: int, qmax: int) -> None:
    if qmin >= qmax:
        raise ValueError(f"qmin {qmin} must be less than qmax {qmax}; swap them or widen the range")


def block(value: object) -> int:
    size = integer(value, "block_size")
    if not 1 <= size <= INT64.max:
        raise ValueError(f"block_size {size} must be at least 1, and at most the axis' length")
    return size


def axis(value: object) -> int:
    """An axis of an array that is not known yet."""
    found = integer(value, "axis")
    if not INT32.min <= found <= INT32.max:
        raise ValueError(f"axis {found} is beyond the dimensions of any array")
    return found


def name(value: object, argument: str, choices: tuple[str, ...], more: str = "") -> str:
    """One of some names."""
    if not isinstance(value, str) or value not in choices:
        told = shown(value) if isinstance(value, (str, type(None))) else repr(_told(value))
        raise ValueError(
            f"{argument} {told} is unknown; choose {' or '.join(map(repr, choices))}{more}"
        )
    return value


def normal_axis(axis: int, ndim: int) -> int:
    """`axis` counted from 0; out of bounds: numpy.exceptions.AxisError."""
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


# ---------------------------------------------------------------------------------------------
# Arrays


def array(x: object, name: str) -> Array:
    """`x` as an ndarray, without a copy where NumPy or DLPack can view it; native byte order."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill it first, for example {name}.filled(0)")
    if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack_device__"):
        found = _from_dlpack(x, name)
    else:
        try:
            found = np.asarray(x)
        except (ValueError, TypeError, BufferError) as error:
            raise TypeError(f"{name} cannot be viewed as an array: {error}") from None
    return found if found.dtype.isnative else contiguous(found)


def _from_dlpack(x: Any, name: str) -> Array:
    device, index = x.__dlpack_device__()
    if device != _CPU:
        raise TypeError(
            f"{name} is on device {int(device)}:{index} (DLPack's numbering), not on the CPU; "
            f"copy it first, for example {name}.cpu()"
        )
    if getattr(x, "requires_grad", False):
        raise TypeError(f"{name} requires grad; pass {name}.detach()")
    if getattr(x, "is_neg", bool)():  # torch: the memory holds -x
        raise TypeError(f"{name} has torch's negative bit set; pass {name}.resolve_neg()")
    if str(getattr(x, "dtype", "")) == "torch.bfloat16":
        # NumPy's DLPack has no bfloat16; the same memory goes through as 16-bit integers
        import sys

        try:
            import ml_dtypes
        except ImportError as error:
            raise missing("bfloat16", "bfloat16") from error
        bits = np.from_dlpack(x.view(sys.modules["torch"].int16))
        return bits.view(ml_dtypes.bfloat16)
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name} cannot be viewed through DLPack: {error}") from None


def real_array(x: object, name: str = "x") -> Array:
    """`x` as an array of float16, bfloat16, float32 or float64; anything else is a TypeError."""
    found = array(x, name)
    if found.dtype.name not in _FLOATS:
        raise TypeError(
            f"{name} has dtype {found.dtype}; convert it to one of {_listed(_FLOATS)} first, "
            f"for example {name}.astype(numpy.float32)"
        )
    return found


def number_array(x: object, name: str = "x") -> Array:
    """Like `real_array`, and integers too."""
    found = array(x, name)
    if found.dtype.name not in _FLOATS + _INTEGERS:
        raise TypeError(
            f"{name} has dtype {found.dtype}; convert it to a float or an integer dtype first"
        )
    return found


def exact_array(x: object, dtype: np.dtype[Any], name: str, mend: str) -> Array:
    """`x` as an array that already has `dtype`."""
    found = array(x, name)
    if found.dtype != dtype:
        raise TypeError(f"{name} has dtype {found.dtype} where {dtype} is needed; {mend}")
    return found


def output(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """`out`, if given, is a writeable ndarray of just this shape and dtype."""
    if out is None:
        return None
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError("out is a masked array; pass out.data")
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, not {_told(out)}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(
            f"out has dtype {out.dtype.str if not out.dtype.isnative else out.dtype} where native "
            f"{dtype} is needed; pass numpy.empty({shape}, {dtype.name!r})"
        )
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape} where {shape} is needed")
    if not out.flags.writeable:
        raise ValueError("out is read-only; pass a writeable array")
    return out


def finite(x: Array, name: str) -> None:
    """ValueError with the count and the first index if `x` has a NaN or an Inf."""
    count, where = 0, tuple[int, ...]()
    for piece in pieces(x.shape):
        bad = ~np.isfinite(widen(x[piece]))
        found = int(np.count_nonzero(bad))
        if found and not count:
            first = np.unravel_index(int(np.argmax(bad)), bad.shape)
            starts = (part.start for part in piece if isinstance(part, slice))
            offsets = itertools.zip_longest(first, starts, fillvalue=0)
            where = tuple(int(i) + start for i, start in offsets)
        count += found
    if count:
        raise ValueError(
            f"{name} has {count} NaN or Inf of {x.size} elements, the first ({x[where]}) at index "
            f"{where}; replace them, for example by numpy.nan_to_num({name})"
        )


def shown(value: object) -> str:
    """`repr(value)` for an error, short: what comes from a file may be long, or nested deeply."""
    return printable(_SHORT.repr(value))


def printable(text: object, longest: int | None = None) -> str:
    """`text` in one line that a terminal shows and does not obey; the rest as in `repr`: ``\\x1b``.

    For what others wrote, names in files say: it may move the cursor, or turn the text around.
    What is longer than `longest` loses its middle.
    """
    text = str(text)
    if longest is not None and len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1]


def _told(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    return f"{type(value).__name__} {shown(value)}"
