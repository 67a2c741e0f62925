"""Which range to quantize, from histograms: the methods of `HistogramObserver.params`.

Within a bin the data count as spread evenly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._reference import Array


class Histograms(NamedTuple):
    """A row a channel; bins beyond a channel's last are empty and have no width."""

    edges: Array  #: float64, the first is the least element and the last the greatest
    counts: Array  #: int64, one fewer than edges


def percentile(h: Histograms, percent: float) -> tuple[Array, Array]:
    """The range between the percentiles 100 - percent and percent.

    Each is within its bin of the order statistic; 100 gives the least and the greatest element.
    """
    return _quantile(h, 1 - percent / 100), _quantile(h, percent / 100)


def _quantile(h: Histograms, fraction: float) -> Array:
    below = np.cumsum(h.counts, axis=1)
    rank = fraction * below[:, -1:]
    at = np.argmax((below >= rank) & (h.counts > 0), axis=1)[:, None]
    left, right, count, upto = (
        np.take_along_axis(values, at, axis=1)
        for values in (h.edges, h.edges[:, 1:], h.counts, below)
    )
    within = np.clip((rank - (upto - count)) / count, 0, 1)
    return np.asarray(np.clip(left + within * (right - left), left, right)[:, 0])
