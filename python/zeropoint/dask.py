"""zeropoint on Dask arrays: arrays larger than memory, on one machine or on many.

Two passes over the data: one chooses the parameters by a tree reduction (`choose_params`,
`observe`), one makes the codes (`quantize`).  The results are those of the functions of the same
name on the whole array, to the bit, for any chunks, scheduler and number of workers.  Needs the
packages of the extra ``dask``.

>>> import dask.array as da, zeropoint.dask as zd
>>> x = da.random.default_rng(0).normal(size=(4000, 256), chunks=(1000, 256)).astype("float32")
>>> params = zd.choose_params(x)  # computed here and now
>>> q = zd.quantize(x, params)  # lazy
>>> q.dtype, q.chunks[0]
(dtype('uint8'), (1000, 1000, 1000, 1000))
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Never, TypeVar, Unpack

import numpy as np

from . import _backend, _checks
from ._choice import OBSERVE, SKIP, Choice, ParamsKeywords, check_some, range_or_none, shows
from ._extras import missing
from ._params import OffsetParams, Params, QuantParams, checked
from ._reference import Array, widen, working_dtype
from .observers import HistogramObserver, MinMaxObserver

try:
    import dask.array as da
except ImportError as error:
    raise missing("dask", "zeropoint.dask") from error

__all__ = ["choose_params", "dequantize", "fake_quantize", "observe", "quantize"]

_Observer = TypeVar("_Observer", MinMaxObserver, HistogramObserver)


# ---------------------------------------------------------------------------------------------
# One pass for the parameters


@shows(ParamsKeywords)
def choose_params(
    a: Any, dtype: Any = "uint8", **keywords: Unpack[ParamsKeywords]
) -> QuantParams | OffsetParams:
    """`zeropoint.choose_params` for the Dask array `a`, computed in one pass over it.

    Parameters
    ----------
    a
        float16, bfloat16, float32 or float64.  Its sizes of chunks may be unknown, unless there is
        a `block_size`, or under ``faiss`` those along the last axis, whose length counts there.
    dtype, **keywords
        Those of `zeropoint.choose_params`.  Chunks that cut blocks are rechunked along `axis`.

    Returns
    -------
    QuantParams or OffsetParams
        As the convention asks; the same bits as from the whole array in memory.

    Raises
    ------
    TypeError
        `a` is not a Dask array of a supported float dtype; `dtype` is not uint8 or int8; an
        unknown keyword.
    ValueError
        As `zeropoint.choose_params`: no data; NaN or Inf, with `skip_nan` Inf alone, with count and
        first index in the whole array (in its chunk, where sizes of chunks are unknown); keywords
        that exclude each other; sizes of chunks that are unknown and needed.
    """
    a = _real(a)
    axis = _checks.axis(keywords.pop("axis", None))
    block_size = _checks.block(keywords.pop("block_size", None), axis)
    skip_nan = _checks.flag(keywords.pop("skip_nan", False), "skip_nan")
    choice = Choice.of(choose_params, dtype, keywords)
    kept: tuple[int, ...] = () if axis is None else (_checks.normal_axis(axis, a.ndim),)
    if block_size is not None:
        a = _whole_blocks(a, kept[0], block_size)
        kept = tuple(range(a.ndim))
    last = range(a.ndim)[-1:]
    if choice.convention == "faiss" and kept != (*last,):
        _check_known(a, last, "values of faiss, which depend on the length of the last axis,")
    ends = functools.partial(range_or_none, axis=axis, block_size=block_size, skip_nan=skip_nan)
    found = _reduced(a, ends, _joined_ranges, kept, skip_nan)
    if found is None:
        raise ValueError(f"a has no data (shape {a.shape}); pass at least one element per channel")
    low, high = (np.block(_each(found, operator.itemgetter(end)).tolist()) for end in (0, 1))
    check_some(low, high, "a")
    length = math.prod(a.shape[-1:]) if _known(a, last) else None  # then it is that of low
    return choice.params(low, high, axis, block_size, length)


def observe(a: Any, observer: _Observer) -> _Observer:
    """Show all of the Dask array `a` to an observer, computed in one pass over it.

    Every chunk fills an observer of its own, and these are merged in a tree.

    Parameters
    ----------
    a
        float16, bfloat16, float32 or float64; its sizes of chunks may be unknown.
    observer
        A MinMaxObserver or a HistogramObserver, fresh or not.

    Returns
    -------
    MinMaxObserver or HistogramObserver
        `observer` itself, as after ``observer.update`` of the whole array, to the bit.

    Raises
    ------
    TypeError
        `a` is not a Dask array of a supported float dtype, or `observer` not an observer.
    ValueError
        NaN or Inf, as for `choose_params` (Inf alone where `observer` skips NaN); another number of
        channels than `observer` has seen; nothing has been taken in then.
    """
    a = _real(a)
    if not isinstance(observer, (MinMaxObserver, HistogramObserver)):
        raise TypeError(
            f"observer must be a MinMaxObserver or a HistogramObserver, not {observer!r}"
        )
    kept: tuple[int, ...] = ()
    if observer.axis is not None:
        kept = (_checks.normal_axis(observer.axis, a.ndim),)
        if _known(a, kept):
            observer._check_channels(a.shape[kept[0]], "a")  # now, not after a long pass
    skip_nan = observer.skip_nan
    fresh = functools.partial(type(observer), axis=observer.axis, skip_nan=skip_nan)
    filled, merged = (functools.partial(each, fresh=fresh) for each in (_filled, _merged))
    found = _reduced(a, filled, merged, kept, skip_nan, OBSERVE)
    if found is not None:
        observer.merge(found.item() if found.ndim == 0 else fresh()._side_by_side(list(found)))
    return observer


# What is measured of a chunk and how results are joined: the range, and an observer


@_backend.ieee
def _joined_ranges(ranges: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    lows, highs = zip(*ranges, strict=True)
    return np.minimum.reduce(lows), np.maximum.reduce(highs)


def _filled(x: Array, *, fresh: Callable[[], Any]) -> Any:
    return fresh().update(x)


def _merged(observers: Sequence[Any], *, fresh: Callable[[], Any]) -> Any:
    # into a new one, because Dask may use what it holds again
    return functools.reduce(lambda merged, each: merged.merge(each), observers, fresh())


# The tree.  Each chunk becomes a record, which travels in an object array of one element:
# (what was measured, or None without data; faults).  A fault is (place of the chunk, how many
# NaN or Inf are in it, index of the first, its text).

_Fault = tuple[tuple[int, ...], int, tuple[int, ...], str]


def _reduced(
    a: Any,
    measure: Callable[[Array], Any],
    join: Callable[[Sequence[Any]], Any],
    kept: tuple[int, ...],
    skip_nan: bool,
    more: str = SKIP,
) -> Array | None:
    """Measure every chunk, join along all axes but those `kept`; computed.

    Returns an object array, one measure for each chunk along the `kept` axes, or None without
    data.  ValueError for Inf, and for NaN unless `skip_nan`.
    """
    records = a.map_blocks(
        _record,
        measure=measure,
        skip_nan=skip_nan,
        dtype=object,
        chunks=tuple((1,) * n for n in a.numblocks),
        meta=np.empty((0,) * a.ndim, object),
    )
    over = tuple(axis for axis in range(a.ndim) if axis not in kept)
    if over:
        records = da.reduction(
            records,
            chunk=_same,
            aggregate=functools.partial(_joined, join=join),
            axis=over,
            keepdims=True,
            dtype=object,
            meta=records._meta,
        )
    found = records.compute()
    faults = [fault for _, faults in found.flat for fault in faults]
    if faults:
        size = f" of {a.size} elements" if _known(a) else ""
        raise _nonfinite(a.chunks, faults, size, bool(kept), skip_nan, "" if skip_nan else more)
    found = _each(found, operator.itemgetter(0)).reshape([found.shape[axis] for axis in kept])
    full = _each(found, lambda measured: measured is not None).astype(bool)
    if full.all():
        return found
    return found[full] if full.any() else None  # chunks without data leave gaps along one axis


def _record(
    x: Array, *, measure: Callable[[Array], Any], skip_nan: bool, block_id: tuple[int, ...]
) -> Array:
    x = _checks.real_array(x, "a")
    faults: list[_Fault] = []
    measured = None
    try:
        if x.size:
            measured = measure(x)
    except ValueError:
        faults = _faults(x, block_id, skip_nan)
        if not faults:
            raise
    return _cell((measured, faults), x.ndim)


def _faults(x: Array, block_id: tuple[int, ...], nan: bool) -> list[_Fault]:
    """One for a chunk that has NaN or Inf; with `nan` NaN is fine."""
    bad = np.isinf(widen(x)) if nan else ~np.isfinite(widen(x))
    if not bad.any():
        return []
    first = tuple(map(int, np.unravel_index(int(np.argmax(bad)), x.shape)))
    return [(block_id, int(np.count_nonzero(bad)), first, str(x[first]))]


def _same(records: Array, axis: Any, keepdims: bool) -> Array:
    return records


def _joined(
    records: Array, axis: Any, keepdims: bool, *, join: Callable[[Sequence[Any]], Any]
) -> Array:
    measured = [measured for measured, _ in records.flat if measured is not None]
    faults = [fault for _, faults in records.flat for fault in faults]
    # with a fault there will be no result
    return _cell((join(measured) if measured and not faults else None, faults), records.ndim)


def _cell(record: Any, ndim: int) -> Array:
    cell = np.empty((1,) * ndim, object)
    cell[(0,) * ndim] = record
    return cell


def _each(cells: Array, function: Callable[[Any], Any]) -> Array:
    results = np.empty(cells.shape, object)
    for place in np.ndindex(cells.shape):
        results[place] = function(cells[place])
    return results


def _nonfinite(
    chunks: tuple[tuple[float, ...], ...],
    faults: Sequence[_Fault],
    size: str,
    shaped: bool,
    nan: bool,
    more: str = "",
) -> ValueError:
    """The error for NaN and Inf, or with `nan` for Inf, in the words of `_checks.finite`."""
    starts = [np.cumsum((0, *sizes)) for sizes in chunks]

    def index(fault: _Fault) -> tuple[Any, ...]:
        chunk, _, place, _ = fault
        return tuple(starts[axis][i] + place[axis] for axis, i in enumerate(chunk))

    if any(math.isnan(start[-1]) for start in starts):
        first = min(faults)
        where = f"index {first[2]} of chunk {first[0]}"
    else:
        first = min(faults, key=index)
        where = f"index {tuple(map(int, index(first)))}"
    count = sum(fault[1] for fault in faults)
    return ValueError(
        f"a has {count} {'' if nan else 'NaN or '}Inf{size}, the first ({first[3]}) at {where}; "
        f"{more}{_checks.without_nonfinite('a', shaped, 'dask.array', nan)}"
    )


# ---------------------------------------------------------------------------------------------
# One pass for the codes


def quantize(a: Any, params: Params, *wrong: Never, check_finite: bool = False) -> Any:
    """`zeropoint.quantize` for every chunk of the Dask array `a`; lazy.

    Parameters
    ----------
    a
        float16, bfloat16, float32 or float64.  Its sizes of chunks may be unknown, but for those
        along ``params.axis``, and all of them with a ``params.block_size``.
    params
        QuantParams or OffsetParams.  Each chunk gets those of its elements.  Chunks that cut blocks
        are rechunked along the axis.
    check_finite
        Raise ValueError where a chunk holds a NaN or an Inf (with ``params.nan_code`` an Inf), once
        that chunk is computed, with the number of them in the chunk and the index of the first in
        `a` (in its chunk, where sizes of chunks are unknown).  Chunks that were computed before it
        may be written by then.

    Returns
    -------
    dask.array.Array
        Codes of ``params.dtype`` in the shape of `a`.

    Raises
    ------
    TypeError, ValueError
        As `zeropoint.quantize`, at once; unknown sizes of chunks where they are needed.
    """
    a = _real(a)
    params = checked(params, wrong, "zd.quantize(a, ", ", check_finite=True")
    params._check_precision(working_dtype(a.dtype))
    if _checks.flag(check_finite, "check_finite"):
        nan = params.nan_code is not None
        a = a.map_blocks(_finite, chunks_of_a=a.chunks, nan=nan, dtype=a.dtype, meta=a._meta)
    return _elementwise("quantize", a, params, params.dtype)


def _finite(x: Array, *, chunks_of_a: Any, nan: bool, block_id: tuple[int, ...]) -> Array:
    """The chunk itself, if its elements are finite, or with `nan` NaN."""
    if faults := _faults(_checks.real_array(x, "a"), block_id, nan):
        size = f" of {x.size} elements in chunk {block_id}"
        raise _nonfinite(chunks_of_a, faults, size, shaped=True, nan=nan)
    return x


def dequantize(q: Any, params: Params, *wrong: Never, dtype: Any = None) -> Any:
    """`zeropoint.dequantize` for every chunk of the Dask array `q`; lazy.

    Parameters and errors are those of `quantize`, for codes; `dtype` is that of the result, by
    default float32.
    """
    params = checked(params, wrong, "zd.dequantize(q, ", ", dtype=dtype")
    _checks.exact_array(_meta(q, "q"), params.dtype, "q", "these are not codes of params.dtype")
    real = _checks.real_dtype(np.float32 if dtype is None else dtype)
    return _elementwise("dequantize", q, params, real, dtype=real)


def fake_quantize(a: Any, params: Params, *wrong: Never) -> Any:
    """`zeropoint.fake_quantize` for every chunk of the Dask array `a`; lazy.

    Parameters and errors are those of `quantize`; the result has the dtype of `a`.
    """
    a = _real(a)
    params = checked(params, wrong, "zd.fake_quantize(a, ", "")
    params._check_precision(working_dtype(a.dtype))
    return _elementwise("fake_quantize", a, params, a.dtype.newbyteorder("="))


def _elementwise(
    operation: str, a: Any, params: Params, target: np.dtype[Any], **options: Any
) -> Any:
    """A method of `params` for every chunk, as a Dask array of `target`."""
    how = {
        "operation": operation,
        "options": options,
        "token": f"zeropoint-{operation}",
        "dtype": target,
        "meta": np.empty((0,) * a.ndim, target),
    }
    every = tuple(range(a.ndim))
    if params.axis is None:
        return da.blockwise(_apply, every, a, every, params=params, **how)
    axis, block_size = _checks.normal_axis(params.axis, a.ndim), params.block_size
    if block_size is None:
        along: tuple[int, ...] = (axis,)
        _check_known(a, along, "parameters along that axis")
        params._check_fits(a.shape)
        chunks = [a.chunks[axis]]
    else:
        along = every
        a = _whole_blocks(a, axis, block_size)
        params._check_fits(a.shape)
        chunks = list(a.chunks)
        chunks[axis] = tuple(-(-size // block_size) for size in chunks[axis])
    # Dask arrays, so that a task carries the parameters of its chunk alone
    cut = (da.from_array(each, chunks=tuple(chunks)) for each in params._arrays)
    inputs = itertools.chain([a, every], *((array, along) for array in cut))
    how["kind"], how["recipe"] = type(params), params._recipe()
    return da.blockwise(_apply_own, every, *inputs, align_arrays=False, **how)


def _apply(x: Array, *, operation: str, options: dict[str, Any], params: Params) -> Any:
    return getattr(params, operation)(x, **options)


def _apply_own(
    x: Array, first: Array, second: Array, *, kind: type[Params], recipe: dict[str, Any], **how: Any
) -> Any:
    return _apply(x, params=kind._made(first, second, recipe), **how)


# ---------------------------------------------------------------------------------------------
# Arrays and their chunks


def _meta(a: Any, name: str) -> Any:
    """An empty array of the kind that the chunks of `a` are."""
    if not isinstance(a, da.Array):
        raise TypeError(
            f"{name} is not a Dask array but {type(a).__name__}; for arrays in memory there is "
            f"zeropoint itself, or pass dask.array.from_array({name})"
        )
    return a._meta


def _real(a: Any) -> Any:
    _checks.real_array(_meta(a, "a"), "a")
    return a


def _known(a: Any, axes: Sequence[int] | None = None) -> bool:
    sizes = a.chunks if axes is None else [a.chunks[axis] for axis in axes]
    return not any(math.isnan(size) for size in itertools.chain.from_iterable(sizes))


def _check_known(a: Any, axes: Sequence[int], what: str) -> None:
    if not _known(a, axes):
        raise ValueError(
            f"the array has unknown sizes of chunks, {a.chunks}, where {what} need them; call "
            "its compute_chunk_sizes() first"
        )


def _whole_blocks(a: Any, axis: int, block_size: int) -> Any:
    """`a` in chunks that hold whole blocks along `axis`, and something along every axis."""
    _check_known(a, range(a.ndim), "blocks")
    chunks = [tuple(size for size in sizes if size) or (0,) for sizes in a.chunks]
    length = a.shape[axis]
    ends = {
        min(-(-end // block_size) * block_size, length) for end in np.cumsum(chunks[axis]).tolist()
    }
    chunks[axis] = tuple(np.diff([0, *sorted(ends)]).tolist())
    return a if tuple(chunks) == a.chunks else a.rechunk(tuple(chunks))
