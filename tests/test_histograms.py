"""Histograms by hand: bins, their joining, threads, and the arithmetic of the methods."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _clipping
from zeropoint._clipping import Histograms, Levels

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def automatic() -> Iterator[None]:
    yield
    zp.set_num_threads(0)


def histogram(edges: list[float], counts: list[int]) -> Histograms:
    return Histograms(np.array([edges], np.float64), np.array([counts]))


def test_by_hand(backend: str) -> None:
    """[-1, 2] spans 3075 bins of 2**-10, and 6147 of 2**-11, which are more than 4096."""
    observer = zp.HistogramObserver().update(np.array([2, 0, 1, -0.0, -1], np.float32))
    assert observer.to_dict() == {
        "observer": "HistogramObserver",
        "dtype": "uint8",
        "axis": None,
        "precision": "float32",
        "min": -1.0,
        "max": 2.0,
        "exponent": -10,
        # -1 in bin -1025, the zeros in bin 0, 1 in bin 1025, 2 in bin 2049
        "counts": [1, -1024, 2, -1024, 1, -1023, 1],
    }


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("kind", [zp.MinMaxObserver, zp.HistogramObserver])
def test_any_order(kind: Any, axis: int | None) -> None:
    """Pieces of different ranges: whatever the order, bins join to those of the whole."""
    parts = [RNG.normal(size=(500, 3)).astype(np.float32) * 5.0**k for k in (0, 2, -2, 1)]
    parts[1][::3] = 0
    whole = kind(axis=axis).update(np.concatenate(parts))
    for order in itertools.permutations(parts):
        stream, left, right = (kind(axis=axis) for _ in range(3))
        for i, part in enumerate(order):
            stream.update(part)
            (left if i < 2 else right).update(part)
        assert stream == whole
        assert left.merge(right) == whole


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_same_bits_for_any_number_of_threads(native: str, axis: int | None) -> None:
    x = RNG.normal(size=(700, 1500)).astype(np.float32)
    zp.set_num_threads(1)
    expected = zp.HistogramObserver(axis=axis).update(x)
    assert expected._table[:, 1:].sum() == x.size
    for threads in (2, 3, 8):
        zp.set_num_threads(threads)
        assert zp.HistogramObserver(axis=axis).update(x) == expected, threads


@pytest.mark.parametrize("axis", [None, 0])
def test_dictionary(axis: int | None) -> None:
    observer = zp.HistogramObserver(axis=axis).update(RNG.standard_t(2, (3, 100)))
    assert zp.HistogramObserver.from_dict(observer.to_dict()) == observer


def test_percentile_by_hand() -> None:
    """Nothing is in [0, 1]: half of the elements lie below 0 and half above 1."""
    h = histogram([-1, 0, 1, 3], [2, 0, 2])
    for percent, ends in [(100, (-1, 3)), (75, (-0.5, 2)), (62.5, (-0.25, 1.5))]:
        low, high = _clipping.percentile(h, percent)
        assert (low[0], high[0]) == ends
    assert _clipping._quantile(h, 0.5) == [0]


def test_squared_error_by_hand() -> None:
    """1/12 of a step, and (2.5 - 2)**2 + 1/12 for the bin around 2.5, which has no level."""
    levels = Levels(np.array([1.0]), np.array([0]), np.array([2.0]))
    assert _clipping.squared_error(histogram([0, 1, 2], [3, 1]), levels) == pytest.approx(1 / 12)
    beyond = _clipping.squared_error(histogram([2, 3], [5]), levels)
    assert beyond == pytest.approx(1 / 4 + 1 / 12)


def test_divergence_by_hand() -> None:
    """What is clipped counts at both ends, alike on both sides: nothing is lost."""
    assert _clipping._divergence(np.array([4, 1, 1, 4]), 1, 3, 2) == pytest.approx(0)
    # data 8 and 2 of 10, the codes say 4 and 2 of 6
    expected = 0.8 * np.log(0.8 / (4 / 6)) + 0.2 * np.log(0.2 / (2 / 6))
    found = _clipping._divergence(np.array([4, 4, 2, 0]), 1, 3, 2)
    assert found == pytest.approx(expected)
