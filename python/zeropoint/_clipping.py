"""Which range to quantize, from histograms: the methods of `HistogramObserver.params`.

Within a bin the data count as spread evenly.  Arrays have a row per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._reference import Array

Range = tuple[Array, Array]  #: the ends of what is not clipped, one per channel


class Histograms(NamedTuple):
    """Bins beyond a channel's last are empty and have no width."""

    edges: Array  #: float64, from the minimum to the maximum of the data
    counts: Array  #: int64, one fewer than edges


class Levels(NamedTuple):
    """The values that codes stand for: scale * (k + shift) for k = first, ..., last."""

    scale: Array
    first: Array
    last: Array
    shift: Array


def percentile(h: Histograms, percent: float) -> Range:
    """From the percentile 100 - percent to the percentile percent.

    Each lies in the bin of the element that has this rank; 100 gives minimum and maximum.
    """
    return _quantile(h, 1 - percent / 100), _quantile(h, percent / 100)


def _quantile(h: Histograms, fraction: float) -> Array:
    below = np.cumsum(h.counts, axis=1)
    rank = fraction * below[:, -1:]
    at = np.argmax(below >= rank, axis=1)[:, None]
    left, right, count, upto = (
        np.take_along_axis(values, at, axis=1)
        for values in (h.edges, h.edges[:, 1:], h.counts, below)
    )
    within = np.clip((rank - (upto - count)) / count, 0, 1)
    return np.asarray(np.clip(left + within * (right - left), left, right)[:, 0])


def magnitudes(low: Array, high: Array) -> Range:
    """Minimum and maximum of abs(x) for low <= x <= high."""
    return np.maximum(np.maximum(low, -high), 0), np.maximum(-low, high)


# ---------------------------------------------------------------------------------------------
# The mean squared error


def mse(
    h: Histograms,
    searched: Histograms,
    include_zero: bool,
    levels: Callable[[Array, Array], Levels],
) -> Range:
    """The range with the smallest mean squared error of the quantized data, as `h` has them.

    `searched` is `h`, or the histograms of abs(x) if the levels are symmetric; `levels` are those
    of a range.  The search starts at the better of the widest range and the one between the
    percentiles 0.01 and 99.99.  The ends move towards zero (or the median) and back, one by one and
    together, by ever smaller factors, where that helps.
    """
    first, last = low, high = searched.edges[:, 0], searched.edges[:, -1]
    anchor = np.clip(0, first, last) if include_zero else _quantile(h, 0.5)
    error = squared_error(h, levels(low, high))

    def attempt(new_low: Array, new_high: Array) -> None:
        nonlocal low, high, error
        if np.array_equal(new_low, low) and np.array_equal(new_high, high):
            return
        found = squared_error(h, levels(new_low, new_high))
        better = (found < error) & (new_low < new_high)
        low, high = np.where(better, new_low, low), np.where(better, new_high, high)
        error = np.where(better, found, error)

    usual = percentile(h, 99.99)
    attempt(*(usual if searched is h else magnitudes(*usual)))
    safe_low, safe_high, safe_error = low, high, error
    for step in (0.7, 0.85, 0.92, 0.96, 0.98):
        for factor in (step, 1 / step):
            attempt(np.clip(anchor + (low - anchor) * factor, first, anchor), high)
            attempt(low, np.clip(anchor + (high - anchor) * factor, anchor, last))
            attempt(
                np.clip(anchor + (low - anchor) * factor, first, anchor),
                np.clip(anchor + (high - anchor) * factor, anchor, last),
            )
    # the errors are known as far as it is known where in its bin an element lies
    unsure = _doubt(h, levels(low, high)) + _doubt(h, levels(safe_low, safe_high))
    worth_it = safe_error - error > np.maximum(_SURE * unsure, 0.01 * safe_error)
    return np.where(worth_it, low, safe_low), np.where(worth_it, high, safe_high)


_SURE = 3  #: times the standard deviation, see `mse`


def _doubt(h: Histograms, levels: Levels) -> Array:
    """The standard deviation of the mean squared error, for what lies in a bin may be anywhere in
    it, and in clumps of equal elements."""
    y, level = _steps(h, levels)
    square = (y - level) ** 2
    variance = (np.diff(square, axis=1) ** 2 / 12 * h.counts * _clumps(h)).sum(axis=1)
    return np.asarray(np.sqrt(variance) / h.counts.sum(axis=1) * levels.scale**2)


def _clumps(h: Histograms) -> Array:
    """How many equal elements come together, about: the variance of the counts over their mean.

    That is 1 for n elements that fall into bins by chance, and k for n / k that count k times.
    Both are of neighbouring bins, since the data are not spread evenly.  A lonely bin or a steep
    peak may be one clump, so n elements count as at least sqrt(n) / 3 different ones.
    """
    counts, wide = h.counts.astype(np.float64), np.diff(h.edges, axis=1) > 0
    pairs = wide[:, 1:] & wide[:, :-1]
    squares = np.where(pairs, np.diff(counts, axis=1) ** 2, 0)
    sums = np.where(pairs, counts[:, 1:] + counts[:, :-1], 0)
    ends = (0, 0), (1, 1)
    squares, sums = (v[:, 1:] + v[:, :-1] for v in (np.pad(squares, ends), np.pad(sums, ends)))
    most = np.maximum(3 * np.sqrt(counts), 1)
    return np.asarray(np.clip(squares / np.maximum(sums, 1), 1, most))


def _steps(h: Histograms, levels: Levels) -> tuple[Array, Array]:
    """The edges of the bins as such k, and the k of the level that is nearest to each."""
    scale, first, last, shift = (column[:, None] for column in levels)
    y = h.edges / scale - shift
    return y, np.clip(np.rint(y), first, last)


def squared_error(h: Histograms, levels: Levels) -> Array:
    """The mean of (x - x')**2 where x' is the level nearest to x.

    Exact for evenly filled bins.  In units of the scale the integral of (y - n)**2 up to y, with
    n the level of y, is n / 12 + (y - n)**3 / 3 but for a constant.
    """
    y, level = _steps(h, levels)
    y -= level
    square = y * y
    integral = level / 12 + square * y / 3
    width = np.diff(h.edges, axis=1) / levels.scale[:, None]
    with np.errstate(invalid="ignore"):
        mean = np.where(width > 0, np.diff(integral, axis=1) / width, square[:, 1:])
    total = (mean * h.counts).sum(axis=1) / h.counts.sum(axis=1)
    return np.asarray(total * levels.scale**2)


# ---------------------------------------------------------------------------------------------
# The loss of information


def entropy(h: Histograms, codes: int) -> Range:
    """The range with the smallest Kullback-Leibler divergence of the quantized data from the data.

    The method of Szymon Migacz, "8-bit Inference with TensorRT" (GTC 2017).  Candidates are what
    lies within [-t, t] for 64 values of t, from the one with as many bins as there are codes to the
    one that holds all.  What a candidate clips counts in its first and last bin; then its bins are
    merged into `codes` groups, and each group's elements are spread evenly over those of its bins
    that are not empty.  Zeros, which every range represents exactly, are left out.
    """
    found = [
        _entropy_of_channel(edges, counts, codes)
        for edges, counts in zip(h.edges, h.counts, strict=True)
    ]
    low, high = np.array(found).T
    return low, high


def _entropy_of_channel(edges: Array, counts: Array, codes: int) -> tuple[float, float]:
    wide = edges[1:] > edges[:-1]  # not so the zeros' bin, and what is no bin of this channel
    counts, edges = counts[wide], np.concatenate([edges[:1], edges[1:][wide]])
    magnitudes = np.sort(np.abs(edges))
    narrowest, peak = magnitudes[min(codes, len(counts))], magnitudes[-1]
    best, found = np.inf, (edges[0], edges[-1])
    for t in np.linspace(peak, narrowest, 64):
        first = int(np.searchsorted(edges, -t, side="left"))
        last = int(np.searchsorted(edges, t, side="right")) - 1
        divergence = _divergence(counts, first, last, codes)
        if divergence < best:
            best, found = divergence, (edges[first], edges[last])
    return found


def _divergence(counts: Array, first: int, last: int, codes: int) -> float:
    """Of the quantized counts of the bins first to last - 1 from the data clipped to them."""
    inside = counts[first:last]
    data = inside.astype(np.float64)
    if not data.any():
        return np.inf
    data[0] += counts[:first].sum()
    data[-1] += counts[last:].sum()
    filled = data > 0
    group = np.arange(len(data)) * codes // len(data)
    merged = np.bincount(group, inside)
    spread = (merged / np.maximum(np.bincount(group, filled), 1))[group][filled]
    if not spread.all():
        return np.inf  # a bin that holds clipped elements alone has no counterpart among the rest
    data, spread = data[filled] / data.sum(), spread / spread.sum()
    return float((data * np.log(data / spread)).sum())
