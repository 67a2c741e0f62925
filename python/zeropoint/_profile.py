"""What a report and a plot show of an array and its codes: code by code, channel by channel."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from . import _checks
from ._backend import ieee
from ._chunks import Chunk, chunks
from ._layout import Layout
from ._params import Params
from ._reference import Array, widen, working_dtype

_TILE = 1 << 15  # elements: what fits a cache


class Profile:
    """Sums over an array and its values after a round trip, in float64; NaN count for nothing."""

    def __init__(self, channels: int = 1) -> None:
        self.signal, self.noise = np.zeros((2, channels))  #: of x^2 and (x' - x)^2, by channel
        self.worst = 0.0  #: the largest |x' - x|; NaN where only x' is
        self.counts = np.zeros(256, np.int64)  #: elements of each code, the lowest first
        self.clipped = 0, 0  #: how many of those of the first and the last were clipped

    @property
    def sqnr_db(self) -> float:
        """10 log10(sum x^2 / sum (x' - x)^2), as in `ErrorStats` but for the order of the sums."""
        return float(_decibels(self.signal.sum(), self.noise.sum()))

    @property
    def sqnr_db_by_channel(self) -> Array:
        return _decibels(self.signal, self.noise)

    @property
    def relative(self) -> Array:
        """The root mean square error of each channel, as a part of that of its values."""
        with np.errstate(all="ignore"):
            return np.where(self.noise == 0, 0, np.sqrt(self.noise / self.signal))

    def add(self, x: Array, back: Array, channels: slice, axis: int | None) -> Array | None:
        """Take in a tile, whose axis has these channels; returns where it is not NaN, if any is."""
        values = widen(x).astype(np.float64, order="C")
        error, present = np.asarray(back - values), None
        signal = _squares(values, axis)
        if np.isnan(signal).any():
            present = ~np.isnan(values)
            values, error = np.where(present, values, 0), np.where(present, error, 0)
            signal = _squares(values, axis)
        self.signal[channels] += signal
        self.noise[channels] += _squares(error, axis)
        self.worst = float(np.maximum(self.worst, np.abs(error).max()))  # NaN stays
        return present

    def count(self, codes: Array) -> None:
        counts = np.bincount(codes.reshape(-1).view(np.uint8), minlength=256)
        self.counts += np.roll(counts, 128) if codes.dtype == np.int8 else counts


def _decibels(signal: Array, noise: Array) -> Array:
    """Inf where nothing is lost, and -Inf where there is no signal, or a value that became Inf."""
    with np.errstate(all="ignore"):
        ratio = 10 * np.log10(signal / noise)
    lost = (signal == 0) | ~np.isfinite(noise)
    return np.asarray(np.where(noise == 0, np.inf, np.where(lost, -np.inf, ratio)))


@ieee
@np.errstate(over="ignore", invalid="ignore")
def profile(
    x: Array, params: Params, axis: int | None = None, *, saturated: int | None = None
) -> Profile:
    """That of `x`, chunk by chunk, as `params` quantize it; channels are those of `axis`.

    `saturated` elements are known to be clipped, as `ErrorStats` has it.
    """
    layout, axis = params._check_fits(x.shape), _axis(axis, x)
    finer = np.promote_types(params._arrays[0].dtype, working_dtype(x.dtype))
    found = Profile(1 if axis is None else x.shape[axis])
    for part, channels in _parts(x.shape, axis):
        tile = x[part]
        first, second = (layout.spread_over(each, part) for each in params._arrays)
        if layout.block is None:
            some = params if layout.axis is None else _over(params, layout, part)
            codes = some.quantize(tile)
            back = some.dequantize(codes, dtype=finer)
        else:  # a block may be cut
            codes = params._codes(tile, first, second)
            back = params._decoded(codes, first, second, finer)
        present = found.add(tile, back, channels, axis)
        found.count(codes if present is None else codes[present])
        if saturated != 0:
            low, high = (
                params._unclipped(
                    tile[at], *(np.broadcast_to(each, tile.shape)[at] for each in (first, second))
                )
                for at in (codes == params.qmin, codes == params.qmax)
            )
            below, above = found.clipped
            below += int(np.count_nonzero(low < params.qmin))
            found.clipped = below, above + int(np.count_nonzero(high > params.qmax))
    lowest = int(np.iinfo(params.dtype).min)
    found.counts = found.counts[params.qmin - lowest : params.qmax - lowest + 1]
    return found


@ieee
@np.errstate(over="ignore", invalid="ignore")
def difference(x: Array, y: Array, axis: int | None = None) -> Profile:
    """The errors of values `y` that stand for those of `x`, of the same shape."""
    axis = _axis(axis, x)
    found = Profile(1 if axis is None else x.shape[axis])
    for part, channels in _parts(x.shape, axis):
        found.add(x[part], widen(y[part]), channels, axis)
    return found


def _squares(x: Array, axis: int | None) -> Array:
    """The sum of squares of each channel; `x` is C-contiguous."""
    if axis is None:
        return np.asarray([np.vdot(x, x)])
    x = x.reshape(math.prod(x.shape[:axis]), x.shape[axis], -1)
    return np.asarray(np.einsum("oci,oci->c", x, x))


def _axis(axis: int | None, x: Array) -> int | None:
    return None if axis is None else _checks.normal_axis(axis, x.ndim)


def _over(params: Params, layout: Layout, part: Chunk) -> Params:
    index = layout.params_index(part)
    return params._over(*(each[index] for each in params._arrays))


def _parts(shape: tuple[int, ...], axis: int | None) -> Iterator[tuple[Chunk, slice]]:
    """Chunks, and the channels that each has."""
    for part in chunks(shape, _TILE):
        cuts = [cut for cut in part if isinstance(cut, slice)]
        whole = axis is None or axis >= len(cuts)
        yield part, slice(None) if whole else cuts[axis or 0]
