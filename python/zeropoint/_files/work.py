"""The work on one tensor: its elements are read in order, and the results fill regions.

Each function returns the size of the largest step, or None where nothing was quantized; Inf where a
value became Inf.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import _backend, _checks
from .._choice import Choice
from .._layout import Layout
from .._params import QuantParams
from .._reference import Array, widen, working_dtype
from . import tiles
from .quantized import Quantized, assembled
from .source import Source, Tensor, fault
from .target import Region, Report
from .tiles import Tile, params_of, shape_of

_Passes = Callable[[], Iterator[tuple[Tile, Array]]]


def copy(tensor: Tensor, source: Source, regions: list[Region], report: Report) -> None:
    """The same elements."""
    (region,) = regions
    dtype = tensor.stored.newbyteorder("=")
    count = tensor.bytes // dtype.itemsize
    with source.stream(tensor) as stream:
        for first in range(0, count, tiles.TILE):
            values = stream.array(min(tiles.TILE, count - first), dtype)
            region.write(values)
            report(values.nbytes)


def quantize(
    tensor: Tensor,
    whole: Layout,
    choice: Choice,
    source: Source,
    regions: list[Region],
    report: Report,
) -> float:
    """Codes, scales and zero points."""
    codes, scales, zeros = regions
    step, seen = 0.0, 0
    for chunk, passes in _chunks(tensor, whole, source, report):
        low, high = _range(chunk, passes, working_dtype(tensor.dtype))
        if np.isnan(low).any():
            raise _not_finite(tensor, source)
        try:
            params = choice.params(low, high, chunk.axis, chunk.block)
        except ValueError as error:
            counted = f" (counted from element {seen} on)" if seen else ""
            what = f"{source.path}: tensor {tensor.name!r}: {error}{counted}"
            raise ValueError(_checks.printable(what)) from None
        scales.write(np.asarray(params.scale))
        zeros.write(np.asarray(params.zero_point, np.int32))
        for tile, x in passes():
            codes.write(params_of(params, chunk, tile).quantize(x))
        step = max(step, float(np.max(params.scale)))
        seen += chunk.size
    return step


def dequantize(
    one: Quantized, dtype: np.dtype[Any], source: Source, regions: list[Region], report: Report
) -> float:
    """Values of `dtype`."""
    (region,) = regions
    step = 0.0
    with (
        source.stream(one.codes) as codes,
        source.stream(one.scale) as scale,
        source.stream(one.zero_point) as zero,
    ):
        for chunk in tiles.chunks(one.layout.flat):
            shape = chunk.params_shape
            params = assembled(source, one, scale.array(shape), zero.array(shape), chunk.axis)
            may_overflow = _overflows(params, dtype)
            for tile in tiles.tiles(chunk):
                q = codes.array(shape_of(tile))
                values = params_of(params, chunk, tile).dequantize(q, dtype=dtype)
                region.write(values)
                if may_overflow and np.isinf(widen(values)).any():
                    step = np.inf
                report(q.nbytes)
            step = max(step, float(np.max(params.scale)))
    return step


def _overflows(params: QuantParams, dtype: np.dtype[Any]) -> bool:
    """Whether some code stands for more than `dtype` holds."""
    zero = np.asarray(params.zero_point, np.float64)
    with np.errstate(over="ignore"):
        reach = np.maximum(params.qmax - zero, zero - params.qmin) * params.scale
        return bool(np.isinf(reach.max().astype(dtype)))


def _chunks(
    tensor: Tensor, whole: Layout, source: Source, report: Report
) -> Iterator[tuple[Layout, _Passes]]:
    """The chunks of a tensor, each with a function that iterates over its tiles.

    Where chunks are too long for the memory the whole tensor is one, and read again each time.
    """

    def from_file() -> Iterator[tuple[Tile, Array]]:
        with source.stream(tensor) as stream:
            for tile in tiles.tiles(whole):
                values = stream.array(shape_of(tile))
                yield tile, values
                report(values.nbytes)

    def from_memory(chunk: Layout, values: Array) -> Iterator[tuple[Tile, Array]]:
        for tile in tiles.tiles(chunk):
            yield tile, values[tile]

    if not tiles.is_resident(whole):
        yield whole, from_file
        return
    with source.stream(tensor) as stream:
        for chunk in tiles.chunks(whole):
            values = stream.array(chunk.shape)
            yield chunk, functools.partial(from_memory, chunk, values)
            report(values.nbytes)


@_backend.ieee
def _range(chunk: Layout, passes: _Passes, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Minimum and maximum for each scale; NaN where there is a NaN or an Inf."""
    low = np.full(chunk.params_shape, np.inf, dtype)
    high = np.full(chunk.params_shape, -np.inf, dtype)
    for tile, x in passes():
        at = chunk.params_index(tile)
        found = _backend.min_max(x, chunk.axis, chunk.block)
        low[at] = np.minimum(low[at], found[0])
        high[at] = np.maximum(high[at], found[1])
    return low, high


def _not_finite(tensor: Tensor, source: Source) -> ValueError:
    """The error for a tensor with NaN or Inf: their number, and the first in C order."""
    count, first, value, seen = 0, tensor.size, "", 0
    with source.stream(tensor) as stream:
        while seen < tensor.size:
            x = stream.array(min(tiles.TILE, tensor.size - seen))
            bad = np.flatnonzero(~np.isfinite(widen(x)))
            if bad.size:
                index = _c_index(bad + seen, tensor)
                nearest = int(index.argmin())
                if index[nearest] < first:
                    first, value = int(index[nearest]), str(x[bad[nearest]])
            count += bad.size
            seen += x.size
    place = tuple(int(i) for i in np.unravel_index(first, tensor.shape))
    return fault(
        source.path,
        f"tensor {tensor.name!r} has {count} NaN or Inf of {tensor.size} elements, the first "
        f"({value}) at index {place}",
        f"exclude the tensor, or {_checks.without_nonfinite('x', shaped=True)}",
    )


def _c_index(index: Array, tensor: Tensor) -> Array:
    """Positions in the order of the file as positions in C order."""
    if not tensor.fortran:
        return index
    found = np.zeros_like(index)
    stride = tensor.size
    for length in tensor.shape:
        stride //= length
        index, along = np.divmod(index, length)
        found += along * stride
    return found
