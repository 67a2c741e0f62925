"""The work on one tensor: its elements are read in order, and the results fill regions.

Each function returns a bound of the error of a value, float rounding aside, or None where nothing
was quantized; Inf where a value became Inf.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import _backend, _checks
from .._choice import are_finite, check_some
from .._layout import Layout
from .._params import Params
from .._reference import Array, widen, working_dtype
from . import tiles
from .container import Container
from .quantized import BlockPlan, Plan, Quantized
from .source import AGAIN, Tensor, fault
from .target import Region, Report
from .tiles import Tile, params_of, shape_of

_PIECE = 1 << 13  # elements: more need fresh pages from malloc, and threads of BLAS
_Passes = Callable[[], Iterator[tuple[Tile, Array]]]


class Sums:
    """Of the squares of values, and of their errors."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def add(self, x: Array, again: Array) -> None:
        """Those of one tile of values, `again` after a round trip, in float64; NaN has none."""
        x, again = x.reshape(-1), again.reshape(-1)
        for first in range(0, x.size, _PIECE):
            piece = slice(first, first + _PIECE)
            values = widen(x[piece]).astype(np.float64, copy=False)
            error = again[piece] - values
            missing = np.isnan(values)
            if missing.any():
                values, error = np.where(missing, 0, values), np.where(missing, 0, error)
            self.signal += float(np.vdot(values, values))
            self.noise += float(np.vdot(error, error))

    @property
    def sqnr_db(self) -> float:
        """10 log10(signal / noise); Inf where nothing is lost."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


def copy(tensor: Tensor, container: Container, regions: list[Region], report: Report) -> None:
    """The same elements."""
    (region,) = regions
    dtype = tensor.stored.newbyteorder("=")
    count = tensor.bytes // dtype.itemsize
    with container.stream(tensor) as stream:
        for first in range(0, count, tiles.TILE):
            values = stream.array(min(tiles.TILE, count - first), dtype)
            region.write(values)
            report(values.nbytes)


def quantize(
    tensor: Tensor,
    whole: Layout,
    plan: Plan,
    sums: Sums | None,
    keep_by: str,
    container: Container,
    regions: list[Region],
    report: Report,
) -> float:
    """Codes and parameters as the plan stores them."""
    writer = plan.writer(regions)
    working = working_dtype(tensor.dtype)
    step, seen = 0.0, 0
    for chunk, passes in _chunks(tensor, whole, container, report):
        low, high = _range(chunk, passes, working, skip_nan=bool(plan.skip_nan))
        if not are_finite(low, high):
            raise _not_finite(tensor, container, keep_by, plan.skip_nan)
        try:
            check_some(low, high)
            params = plan.choose(low, high, chunk.axis, chunk.block)
            writer.params(params)
        except ValueError as error:
            counted = f" (counted from element {seen} on)" if seen else ""
            what = f"{container.path_of(tensor)}: tensor {tensor.name!r}: {error}{counted}"
            raise ValueError(_checks.printable(what)) from None
        may_overflow = _overflows(params, tensor.dtype)
        for tile, x in passes():
            some = params_of(params, chunk, tile)
            codes = some.quantize(x)
            writer.codes(codes)
            if may_overflow and _is_inf(some.dequantize(codes, dtype=tensor.dtype)):
                step = math.inf
            if sums is not None:
                sums.add(x, some.dequantize(codes, dtype=working))
        step = max(step, float(np.max(params.scale)))
        seen += chunk.size
    return step * plan.error


def encode(
    tensor: Tensor,
    plan: BlockPlan,
    sums: Sums | None,
    keep_by: str,
    container: Container,
    regions: list[Region],
    report: Report,
) -> float:
    """Blocks of parameters and codes."""
    (region,) = regions
    bound = 0.0
    with container.stream(tensor) as stream:
        for first in range(0, tensor.size, tiles.TILE):
            block = plan.fields["block_size"]
            x = stream.array((min(tiles.TILE, tensor.size - first) // block, block))
            try:
                blocks, error = plan.encode(x)
            except ValueError as reason:
                if not np.isfinite(widen(x)).all():
                    raise _not_finite(tensor, container, keep_by) from None
                what = f"tensor {tensor.name!r}, from element {first} on: {reason}"
                raise fault(container.path_of(tensor), what, f"or {keep_by} it") from None
            region.write(blocks)
            bound = max(bound, error)
            if sums is not None:
                sums.add(x, plan.decode(blocks, np.dtype(np.float32))[0])
            report(x.nbytes)
    return bound


def decode(
    one: Quantized,
    dtype: np.dtype[Any],
    container: Container,
    regions: list[Region],
    report: Report,
) -> float:
    """Values of `dtype`, of blocks."""
    assert one.decode is not None
    (region,), (part,) = regions, one.parts
    count = one.layout.size // (one.layout.block or 1)
    bound = 0.0
    with container.stream(part) as stream:
        for first in range(0, count, tiles.TILE >> 5):
            shape = min(tiles.TILE >> 5, count - first), part.bytes // count
            try:
                values, error = one.decode(stream.array(shape, np.dtype(np.uint8)), dtype)
            except ValueError as reason:
                what = f"tensor {one.name!r}, from block {first} on: {reason}"
                raise fault(container.path_of(part), what, AGAIN) from None
            region.write(values)
            bound = max(bound, error)
            report(values.size)
    return bound


def dequantize(
    one: Quantized,
    dtype: np.dtype[Any],
    container: Container,
    regions: list[Region],
    report: Report,
) -> float:
    """Values of `dtype`."""
    (region,) = regions
    step = 0.0
    with one.reader(container) as reader:
        for chunk in tiles.chunks(one.layout.flat):
            params = one.assembled(container, *reader.params(chunk), chunk.axis)
            may_overflow = _overflows(params, dtype)
            for tile in tiles.tiles(chunk):
                q = reader.codes(shape_of(tile))
                values = params_of(params, chunk, tile).dequantize(q, dtype=dtype)
                region.write(values)
                if may_overflow and _is_inf(values):
                    step = math.inf
                report(q.nbytes)
            step = max(step, float(np.max(params.scale)))
    return step / 2


@np.errstate(over="ignore")
def _overflows(params: Params, dtype: np.dtype[Any]) -> bool:
    """Whether a code may stand for more than `dtype` holds."""
    scale = np.asarray(params.scale, np.float64)
    origin = params._arrays[1]
    origin = origin * scale if origin.dtype.kind == "i" else origin
    return bool(np.isinf((256 * scale.max() + np.abs(origin).max()).astype(dtype)))


def _is_inf(values: Array) -> bool:
    return bool(np.isinf(widen(values)).any())


def _chunks(
    tensor: Tensor, whole: Layout, container: Container, report: Report
) -> Iterator[tuple[Layout, _Passes]]:
    """The chunks of a tensor, each with a function that iterates over its tiles.

    Where chunks are too long for the memory the whole tensor is one, and read again each time.
    """

    def from_file() -> Iterator[tuple[Tile, Array]]:
        with container.stream(tensor) as stream:
            for tile in tiles.tiles(whole):
                values = stream.array(shape_of(tile))
                yield tile, values
                report(values.nbytes)

    def from_memory(chunk: Layout, values: Array) -> Iterator[tuple[Tile, Array]]:
        for tile in tiles.tiles(chunk):
            yield tile, values[tile]

    if not tiles.is_resident(whole, tensor.stored.itemsize):
        yield whole, from_file
        return
    with container.stream(tensor) as stream:
        for chunk in tiles.chunks(whole):
            values = stream.array(chunk.shape)
            yield chunk, functools.partial(from_memory, chunk, values)
            report(values.nbytes)


@_backend.ieee
def _range(
    chunk: Layout, passes: _Passes, dtype: np.dtype[Any], *, skip_nan: bool
) -> tuple[Array, Array]:
    """Minimum and maximum for each scale, as `_backend.min_max` gives them."""
    low = np.full(chunk.params_shape, np.inf, dtype)
    high = np.full(chunk.params_shape, -np.inf, dtype)
    for tile, x in passes():
        at = chunk.params_index(tile)
        found = _backend.min_max(x, chunk.axis, chunk.block, skip_nan)
        low[at] = np.minimum(low[at], found[0])
        high[at] = np.maximum(high[at], found[1])
    return low, high


def _not_finite(
    tensor: Tensor, container: Container, keep_by: str, skip_nan: bool | None = None
) -> ValueError:
    """The error for a tensor with NaN or Inf: their number, and the first in C order.

    `skip_nan` is as in `Plan`.
    """
    count, nans, first, value, seen = 0, 0, tensor.size, "", 0
    with container.stream(tensor) as stream:
        while seen < tensor.size:
            x = stream.array(min(tiles.TILE, tensor.size - seen))
            values = widen(x)
            nan = np.isnan(values)
            nans += int(np.count_nonzero(nan))
            bad = np.flatnonzero(np.isinf(values) if skip_nan else ~np.isfinite(values))
            if bad.size:
                index = _c_index(bad + seen, tensor)
                nearest = int(index.argmin())
                if index[nearest] < first:
                    first, value = int(index[nearest]), str(x[bad[nearest]])
            count += bad.size
            seen += x.size
    place = tuple(int(i) for i in np.unravel_index(first, tensor.shape))
    fix = f"{keep_by} the tensor, or {_checks.without_nonfinite('x', shaped=True)}"
    if skip_nan is False and nans:
        fix += (
            "; nan_code (--nan-code) and skip_nan=True (--skip-nan) keep NaN as a code of its own"
        )
    return fault(
        container.path_of(tensor),
        f"tensor {tensor.name!r} has {count} {'' if skip_nan else 'NaN or '}Inf of {tensor.size} "
        f"elements, the first ({value}) at index {place}",
        fix,
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
