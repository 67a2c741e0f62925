"""sentence-transformers' `quantize_embeddings`, int8 and uint8: ranges and codes.

The convention is ``sentence-transformers``.  Codes are compared one by one; there are no values,
as the tool has no way back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint.embeddings import EmbeddingQuantizer

from ..exact import neighbours
from . import data

pytest.importorskip("sentence_transformers")
from sentence_transformers.util.quantization import quantize_embeddings

ENGINE = "sentence-transformers"
REALS = ("float16", "float32", "float64")
WIDTH = 96


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """It warns of few rows, and NumPy of what a cast makes of NaN."""
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    with np.errstate(all="ignore"):
        yield


def embeddings(real: str, rows: int = 400, seed: int = 0) -> data.Array:
    """Each dimension with a spread and an offset of its own; one is a single value."""
    rng = np.random.default_rng(seed)
    reach = 3 if real == "float16" else 12
    spread, offset = np.exp(rng.uniform(-reach, reach, (2, WIDTH)))
    x = (rng.normal(size=(rows, WIDTH)) * spread + offset * rng.choice([-1, 1], WIDTH)).astype(real)
    x[:, 5] = x[0, 5]
    return x


@functools.cache
def hard(real: str, seed: int) -> tuple[data.Array, data.Array]:
    """Ranges, float32 [2, WIDTH], and inputs: every step with its neighbours, what saturates."""
    rng = np.random.default_rng(seed)
    reach = 3 if real == "float16" else 40
    low = rng.normal(size=WIDTH) * np.exp(rng.uniform(-reach, reach, WIDTH))
    span = np.exp(rng.uniform(-reach, reach, WIDTH))
    span[::7], low[::11] = 0, 0
    if real != "float16":
        low[3], span[3] = -1e38, 3e38
        low[4], span[4] = 1e-45, 1e-43  # the step is subnormal
        low[6], span[6] = 0, 1e-45  # and here 0
    ranges = np.stack([low, low + span]).astype(np.float32)
    wide = np.float64(ranges)
    with np.errstate(all="ignore"):
        step = np.float64((ranges[1] - ranges[0]) / np.float32(255))
        edges = neighbours(np.arange(-2, 259)[:, None] * step + wide[0], real)
        inside = rng.uniform(-0.1, 1.1, (700, WIDTH)) * (wide[1] - wide[0]) + wide[0]
        ends = neighbours(wide, real)
        special = [0, -0.0, 6e-8, -6e-8, 60000, -60000, np.inf, -np.inf]
    special = np.repeat(np.array(special, real)[:, None], WIDTH, axis=1)
    return ranges, np.concatenate([edges, inside.astype(real), ends, special])


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("real", REALS)
def test_given_ranges(backend, record, real, code):
    tally = data.Tally()
    for seed in range(12):
        ranges, x = hard(real, seed)
        p = zp.OffsetParams(
            None, ranges[0], code, span=ranges[1] - ranges[0], axis=-1, convention=ENGINE
        )
        theirs = quantize_embeddings(x, code, ranges=ranges)
        tally.add(zp.quantize(x, p), theirs, x, (seed, p))
    record(ENGINE, f"{code} of {real}, given ranges", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("real", REALS)
def test_fitted(backend, record, real, code):
    """Ranges from the data itself and from other data, also of another precision; one query."""
    tally = data.Tally()
    for seed in range(8):
        x, others = (embeddings(real, seed=seed + more) for more in (0, 100))
        for fit in x, others, others.astype(np.float64):
            theirs = quantize_embeddings(x, code, calibration_embeddings=fit)
            ours = EmbeddingQuantizer(ENGINE, code).fit(fit)
            tally.add(ours.transform(x), theirs, x, seed)
            tally.add(ours.transform(x[7]), theirs[7], x[7], seed)
    record(ENGINE, f"{code} of {real}, fitted", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


def test_choose_params(backend, record):
    """Of float32 data, `choose_params` has the tool's ranges."""
    tally = data.Tally()
    for seed in range(8):
        x = embeddings("float32", seed=seed)
        p = zp.choose_params(x, "int8", axis=1, convention=ENGINE)
        tally.add(zp.quantize(x, p), quantize_embeddings(x, "int8"), x, p)
    record(ENGINE, "int8, choose_params", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


def test_float64_is_rounded_at_the_ranges_alone(note):
    """The tool computes float64 in float64, with ranges in float32."""
    x = embeddings("float64", rows=5000)
    theirs = quantize_embeddings(x, "int8")
    single = EmbeddingQuantizer(ENGINE).fit(x).transform(x.astype(np.float32))
    differing = np.count_nonzero(single != theirs)
    note(f"{ENGINE} of float64 rounded first: {differing:,} of {x.size:,} codes differ")
    assert differing > 0


def test_a_dimension_and_a_row_too_few():
    """What is an error there is one here."""
    x: Any = embeddings("float32")[:1]
    with pytest.raises(ValueError, match="single embedding"):
        quantize_embeddings(x, "int8")
    with pytest.raises(ValueError, match="x has 1 row "):
        EmbeddingQuantizer(ENGINE).fit(x)
