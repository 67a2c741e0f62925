"""Arrays of other libraries as NumPy arrays: the one place that reads anything but plain ndarrays.

It views their memory where NumPy can, and refuses what NumPy would misread: memory without data,
missing values, masks.  No library is imported: that of an object is loaded already.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ._extras import missing
from ._reference import Array

# DLPack's kDLCPU, kDLCUDAHost (pinned), kDLROCMHost and kDLCUDAManaged: the CPU reads them all
_READABLE = (1, 3, 11, 13)
_NUMBERS = {bool, int, float, complex, np.ndarray}
DEPTH = 64  # no array has more dimensions


def read(x: Any, name: str, fill: int = 0) -> Array:
    """`x` as an ndarray, without a copy where NumPy or DLPack can view it; else TypeError.

    `fill` is a good value in the place of missing ones.
    """
    if isinstance(x, np.ndarray):
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array; fill it first, for example {name}.filled({fill})"
            )
        mask = getattr(x, "mask", None)  # astropy's
        if isinstance(mask, np.ndarray) and mask.dtype == bool and mask.any():
            raise TypeError(f"{name} is a {_kind(x)} with masked elements; fill or drop them first")
        return np.asarray(x)
    if is_tensor(x):
        return tensor(x, name)
    if callable(getattr(x, "__dask_graph__", None)) and x.__dask_graph__() is not None:
        computed = x.compute()  # which may be a masked array
        if type(computed) is not type(x):
            return read(computed, name, fill)
    if isinstance(x, (list, tuple)):
        x = with_arrays_read(x, name)
    else:
        _check_missing(x, name, fill)
    # pyarrow's columns of rows do not go through DLPack, if they are no tensors over a storage
    rows = hasattr(getattr(x, "type", None), "value_type") and not hasattr(x, "storage")
    if hasattr(x, "__dlpack_device__") and not rows:
        return _from_dlpack(x, name)
    try:
        return np.asarray(x)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # libraries raise many kinds
        raise TypeError(f"{name} cannot be viewed as an array: {error}") from error


def with_arrays_read(x: Any, name: str, depth: int = DEPTH) -> Any:
    """A list or tuple, and in the place of the arrays in it ndarrays: NumPy would strip masks."""
    if depth == 0 or set(map(type, x)) <= _NUMBERS:
        return x
    found = []
    for i, item in enumerate(x):
        if isinstance(item, (list, tuple)):
            item = with_arrays_read(item, f"{name}[{i}]", depth - 1)
        elif not isinstance(item, np.generic) and (
            hasattr(item, "__array__") or hasattr(item, "__dlpack_device__")
        ):
            item = read(item, f"{name}[{i}]")
        found.append(item)
    return found


# ---------------------------------------------------------------------------------------------
# Memory of others


def is_tensor(x: object) -> bool:
    """Whether `x` is a tensor of torch, where some have no memory of their own."""
    return isinstance(x, getattr(sys.modules.get("torch"), "Tensor", ()))


def tensor(x: Any, name: str) -> Array:
    """The memory of torch's tensor `x`; Tensor.numpy() takes a tenth of DLPack's time."""
    torch = sys.modules["torch"]
    is_bfloat16 = x.dtype == torch.bfloat16  # viewed as integers, since NumPy lacks it
    try:
        bits = is_bfloat16 and not (x.requires_grad or _dispatches(x))
        found: Array = (x.view(torch.int16) if bits else x).numpy()
        there = not found.size or (not found.flags.owndata and _in_storage(x, found))
    except Exception as error:  # torch raises many kinds
        raise TypeError(_no_memory(x, name, error)) from error
    if not there:
        raise TypeError(
            f"{name} has no memory of its own for its elements, as in a functional tensor, or its "
            "storage was freed or made smaller; pass a tensor with data"
        )
    return found.view(bfloat16()) if is_bfloat16 else found


def _dispatches(x: Any) -> bool:
    """Whether a class of tensors overrides operations."""
    plain = sys.modules["torch"].Tensor.__torch_dispatch__
    return type(x).__torch_dispatch__ is not plain


def _in_storage(x: Any, found: Array) -> bool:
    """Whether the elements are where torch's memory is; a storage can shrink under a tensor."""
    start, bytes = x.storage_offset() * found.itemsize, x.untyped_storage().nbytes()
    if start + found.nbytes <= bytes and found.flags.c_contiguous:
        return True
    last = sum(stride * (n - 1) for stride, n in zip(found.strides, found.shape, strict=True))
    return bool(start + last + found.itemsize <= bytes)


def _no_memory(x: Any, name: str, error: Exception) -> str:
    """Why torch does not give the memory of a tensor, and the fix."""
    if x.is_meta:
        return f"{name} is on device meta and has no data; pass a tensor that has"
    if not x.is_cpu:
        return (
            f"{name} is on device {x.device}, not on the CPU; copy it first, for example "
            f"{name}.cpu()"
        )
    if x.requires_grad:
        return f"{name} requires grad; pass {name}.detach()"
    why = str(error)
    if _dispatches(x):
        why += f"; a {_kind(x)} has its values elsewhere, or none: pass a plain tensor"
    elif "negative bit" in why:  # the memory holds -x
        why = f"it has torch's negative bit set; pass {name}.resolve_neg()"
    elif x.is_quantized:
        why += f"; pass for example {name}.dequantize()"
    elif x.dtype.is_floating_point and x.dtype.itemsize == 1:
        why += f"; pass for example {name}.float()"
    return f"{name} cannot be viewed as an array: {why}"


def bfloat16() -> Any:
    """The dtype, which NumPy itself lacks."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise missing("bfloat16", "bfloat16") from error
    return ml_dtypes.bfloat16


def _from_dlpack(x: Any, name: str) -> Array:
    reason = "fails"
    try:
        given = x.__dlpack_device__()
        reason = f"gives {given!r}, not a pair of integers"
        device, index = map(int, given)
    except Exception as error:
        raise TypeError(
            f"{name} cannot be viewed through DLPack: its __dlpack_device__() {reason} ({error})"
        ) from error
    if device not in _READABLE:
        raise TypeError(
            f"{name} is on device {device}:{index} (DLPack's numbering), not on the CPU; "
            f"copy it first, for example {name}.cpu()"
        )
    try:
        found = np.from_dlpack(x)
    except MemoryError:
        raise
    except Exception as error:
        try:  # not everything that NumPy reads goes through DLPack
            if hasattr(x, "__array__"):
                return np.asarray(x)
        except Exception:
            pass
        raise TypeError(f"{name} cannot be viewed through DLPack: {error}") from error
    if found.size and found.flags.owndata:  # NumPy allocates for a null address
        raise TypeError(f"{name} has no memory: DLPack gives no address for its elements")
    return found


# ---------------------------------------------------------------------------------------------
# Missing values: what a library keeps beside the values, NumPy reads as NaN


def _check_missing(x: Any, name: str, fill: int) -> None:
    count = _missing(x)
    flat = _flat(x, name)
    if count:
        fills = ("fillna", "fill_null") if flat is None else ()  # no number fills a row
        ways = [f"{name}.{way}({fill})" for way in fills if hasattr(x, way)]
        ways += [
            f"{name}.{way}()" for way in ("dropna", "drop_null", "drop_nulls") if hasattr(x, way)
        ]
        fix = f", for example {' or '.join(ways)}" if ways else ""
        raise TypeError(
            f"{name} has missing values (NA or null), {count} in number; fill or drop them first"
            f"{fix}"
        )
    if flat is not None and _missing(flat[0]):
        raise TypeError(
            f"{name} has missing values (null) within its rows, {_missing(flat[0])} in number; "
            f"fill them first, for example {flat[1]}.fill_null({fill})"
            f".to_numpy().reshape(len({name}), -1)"
        )


def _missing(x: Any) -> int:
    """How many values of a column or a table are marked as missing; a NaN is a value."""
    if hasattr(x, "get_columns"):  # polars' DataFrame
        return sum(map(_missing, x.get_columns()))
    if hasattr(x, "itercolumns"):  # pyarrow's Table
        return sum(map(_missing, x.itercolumns()))
    if callable(getattr(x, "isna", None)):  # pandas
        if getattr(x, "ndim", 1) == 2 and hasattr(x, "items"):
            return sum(_missing(column) for _, column in x.items())
        # pandas marks missing values in NumPy's own dtypes by NaN alone
        return 0 if isinstance(x.dtype, np.dtype) else int(np.count_nonzero(x.isna()))
    count = getattr(x, "null_count", 0)  # Arrow's libraries, and polars' Series
    count = count() if callable(count) else count
    return count if isinstance(count, int) else 0


def _flat(x: Any, name: str) -> tuple[Any, str] | None:
    """The elements of a column of rows end to end, and the code for it; None for other columns.

    Without missing rows, and without empty ones, which polars would show as missing elements.
    """
    found = None
    if hasattr(x, "storage") and hasattr(x, "null_count"):  # pyarrow's extension types
        x, name = x.storage, f"{name}.storage"
    if hasattr(getattr(x, "type", None), "value_type"):
        if hasattr(x, "combine_chunks"):
            x, name = x.combine_chunks(), f"{name}.combine_chunks()"
        for _ in range(DEPTH):  # an object that has every attribute has no end
            if not (hasattr(x.type, "value_type") and hasattr(x, "flatten")):
                break
            x, name = found = x.flatten(), f"{name}.flatten()"
        return found
    for _ in range(DEPTH):
        if not (hasattr(getattr(x, "dtype", None), "inner") and hasattr(x, "explode")):
            break
        rows = x if hasattr(x.dtype, "shape") else x.filter(x.list.len() > 0)
        x, name = found = rows.explode(), f"{name}.explode()"
    return found


# ---------------------------------------------------------------------------------------------
# How to convert an array of another dtype


def conversion(x: Any, found: Array, name: str) -> str:
    """How `x`, which NumPy reads as `found`, becomes an array of floats."""
    if found.dtype == object:
        return _objects(x, found, name)
    if found.dtype.kind == "c":
        return f"pass its real and its imaginary part apart, for example {name}.real"
    if found.dtype.names:
        return (
            "make its fields one axis first, for example "
            f"numpy.stack([{name}[field] for field in {name}.dtype.names], -1)"
        )
    if found.dtype.kind in "mM":
        return (
            "convert times to numbers of a unit first, for example "
            f"({name} - {name}.min()) / numpy.timedelta64(1, 's')"
        )
    return f"convert it first, for example {_cast(x, name)}"


def _cast(x: Any, name: str) -> str:
    if is_tensor(x):
        return f"{name}.float()"
    plain = isinstance(x, np.ndarray) or hasattr(x, "astype")
    return f"{name}.astype(numpy.float32)" if plain else f"numpy.asarray({name}, numpy.float32)"


def _objects(x: Any, found: Array, name: str) -> str:
    """What helps where NumPy sees Python objects: rows, None among numbers, or no array at all."""
    flat = _flat(x, name)
    if flat is not None:
        items = {len(row) for row in found}
        if len(items) == 1:
            return f"join its rows first, for example {flat[1]}.to_numpy().reshape(len({name}), -1)"
    elements = found.ravel().tolist() if found.ndim else [found.item()]
    rows = [hasattr(each, "__len__") and not isinstance(each, (str, bytes)) for each in elements]
    if found.ndim == 1 and rows and all(rows):
        lengths = {len(each) for each in elements}
        if len(lengths) == 1:
            return f"stack its rows first, for example numpy.stack({name})"
        return (
            f"its rows have {min(lengths)} to {max(lengths)} elements: pad them to one length, or "
            "pass them one by one"
        )
    absent = sum(each is None or type(each).__name__ in ("NAType", "NaTType") for each in elements)
    if found.ndim and absent:
        return (
            f"None or NA stand for {absent} of its {found.size} elements: fill or drop them first"
        )
    if found.ndim and any(rows):
        return "some of its elements are arrays or lists: pass one column or row at a time"
    if not found.ndim and not isinstance(elements[0], (int, float)):
        ways = ("toarray", "todense", "collect", "to_numpy", "as_py", "numpy")
        way = next((f", for example {name}.{way}()" for way in ways if hasattr(x, way)), "")
        return f"NumPy does not see an array in a {_kind(x)}; convert it first{way}"
    return f"convert it first, for example {_cast(x, name)}"


def _kind(x: object) -> str:
    return type(x).__name__
