"""The data of the parity tests can oracle: no two conventions agree on them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

import zeropoint as zp

from . import data

PAIRS = tuple(combinations(zp.CONVENTIONS, 2))


def codes(x, scale, zero_point, dtype, convention, **layout):
    return zp.quantize(x, zp.QuantParams(scale, zero_point, dtype, convention=convention, **layout))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("dtype", data.DTYPES)
def test_conventions_differ(dtype, pair):
    span = data.span(dtype)
    first, second = (
        np.concatenate([codes(x, s, z, dtype, convention) for s, z, x in data.cases(*span, 12)])
        for convention in pair
    )
    assert (first != second).any()
    for found, layout in (
        (data.channels(*span, 20, 1), {"axis": 1}),
        (data.blocks((40, 99), 1, 32, *span), {"axis": 1, "block_size": 32}),
    ):
        first, second = (
            codes(found.x, found.scale, found.zero_point, dtype, c, **layout) for c in pair
        )
        assert (first != second).any()


@pytest.mark.parametrize("dtype", data.DTYPES)
def test_every_edge_is_there(dtype):
    qmin, qmax = data.span(dtype)
    for scale, zero_point, x in data.cases(qmin, qmax, 8):
        assert x.dtype == np.float32
        assert x.shape == (data.SIZE,)
        assert not np.isnan(x).any()
        assert np.isposinf(x).any()
        assert np.isneginf(x).any()
        edges = set()
        for code in range(qmin, qmax):
            half = np.float32((code + 0.5 - zero_point) * np.float64(scale))
            below, above = (np.nextafter(half, np.float32(end)) for end in (-np.inf, np.inf))
            edges.update((below, half, above))
        assert edges <= set(x)
