"""faiss's scalar quantizer, QT_8bit and QT_8bit_uniform: training, codes and values.

The convention is ``faiss``.  Codes and values are compared bit for bit.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import testing
from zeropoint.embeddings import EmbeddingQuantizer

from . import data

faiss = pytest.importorskip("faiss")

ENGINE = "faiss"
QTYPES = {False: "QT_8bit", True: "QT_8bit_uniform"}
#: faiss fuses product and sum where these are multiples of 8
DIMENSIONS = (1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 33, 64, 100, 128, 384, 385)
CODES = np.arange(256, dtype=np.uint8)


def quantizer(dimensions: int, uniform: bool, trained: Any = None) -> Any:
    found = faiss.ScalarQuantizer(dimensions, getattr(faiss.ScalarQuantizer, QTYPES[uniform]))
    if trained is not None:
        faiss.copy_array_to_vector(np.ascontiguousarray(trained, np.float32), found.trained)
    return found


def table(dimensions: int, rows: int = 300, seed: int = 0) -> data.Array:
    """Each dimension with a spread and an offset of its own."""
    rng = np.random.default_rng([seed, dimensions])
    spread, offset = np.exp(rng.uniform(-9, 9, (2, dimensions)))
    return (rng.normal(size=(rows, dimensions)) * spread + offset).astype(np.float32)


@functools.cache
def trained_ranges(dimensions: int, uniform: bool) -> tuple[data.Array, data.Array]:
    """Minima and spans with a history: tables', subnormal, huge, one-sided, and those of a point.

    One for each dimension; where one serves all of them, one of these (another for each number).
    """
    x = table(dimensions, seed=1)
    low, span = x.min(axis=0), x.max(axis=0) - x.min(axis=0)
    lows = [0, -0.0, 1, -1, -123.456, 1e-45, -1e-39, 3e38, -3e38, 2.0**-126, 1e30, 0.1]
    spans = [0, 1e-45, 1e-40, 2.0**-126, 1e-30, 1e-3, 1, 255, 510, 1e30, 3.4e38, 1 / 3, 0.1]
    rng = np.random.default_rng([2, dimensions])
    odd = rng.random(dimensions) < 0.5
    low = np.where(odd, rng.choice(lows, dimensions), low).astype(np.float32)
    span = np.where(odd, rng.choice(spans, dimensions), span).astype(np.float32)
    return (low[0], span[0]) if uniform else (low, span)


def offset_params(low: Any, span: Any, dimensions: int, uniform: bool) -> zp.OffsetParams:
    return zp.OffsetParams(
        None,
        low,
        "uint8",
        span=span,
        axis=None if uniform else -1,
        convention="faiss",
        fused=dimensions % 8 == 0,
    )


@functools.cache
def answers(dimensions: int, uniform: bool) -> tuple[Any, ...]:
    """faiss's codes of hard inputs, and its values of all codes, for ranges of many sizes."""
    low, span = trained_ranges(dimensions, uniform)
    x = testing.inputs(offset_params(low, span, dimensions, uniform)).x
    x = np.ascontiguousarray(np.broadcast_to(x.reshape(len(x), -1), (len(x), dimensions)))
    ends = [np.atleast_1d(low), np.atleast_1d(span)]
    theirs = quantizer(dimensions, uniform, np.concatenate(ends))
    every = np.ascontiguousarray(np.broadcast_to(CODES[:, None], (256, dimensions)))
    encoded = theirs.compute_codes(x)
    return low, span, x, encoded, theirs.decode(encoded), every, theirs.decode(every)


@pytest.mark.parametrize("uniform", QTYPES)
def test_codes_and_values(backend, record, uniform):
    codes, values = data.Tally(), data.Tally()
    for dimensions in DIMENSIONS:
        low, span, x, encoded, back, every, decoded = answers(dimensions, uniform)
        p = offset_params(low, span, dimensions, uniform)
        codes.add(zp.quantize(x, p), encoded, x, (dimensions, p))
        values.add(zp.dequantize(every, p), decoded, every, (dimensions, p))
        values.add(zp.fake_quantize(x, p), back, x, (dimensions, p))
    record(ENGINE, f"{QTYPES[uniform]} codes", backend, codes.n, codes.differences)
    record(ENGINE, f"{QTYPES[uniform]} values", backend, values.n, values.differences)
    assert codes.differences == 0, codes.first
    assert values.differences == 0, values.first


def fitted(x: data.Array, uniform: bool) -> EmbeddingQuantizer:
    return EmbeddingQuantizer("faiss", uniform=uniform).fit(x)


@pytest.mark.parametrize("uniform", QTYPES)
def test_whole_quantizer(backend, record, uniform):
    """Training, codes and values of tables; and a query by itself."""
    trained, codes, values = data.Tally(), data.Tally(), data.Tally()
    for dimensions in DIMENSIONS:
        x = table(dimensions)
        x[:, dimensions // 2] = x[0, dimensions // 2]  # a dimension that is one value
        ours, theirs = fitted(x, uniform), quantizer(dimensions, uniform)
        theirs.train(x)
        trained.add(ours.export_faiss(), faiss.vector_to_array(theirs.trained))
        more = np.concatenate([x, table(dimensions, seed=3)])
        encoded = theirs.compute_codes(more)
        codes.add(ours.transform(more), encoded, more, dimensions)
        values.add(ours.inverse_transform(encoded), theirs.decode(encoded), encoded, dimensions)
        codes.add(ours.transform(more[5]), encoded[5], more[5], dimensions)
    for what, tally in ("trained vectors", trained), ("codes", codes), ("values", values):
        record(ENGINE, f"{QTYPES[uniform]} fitted: {what}", backend, tally.n, tally.differences)
        assert tally.differences == 0, tally.first


@pytest.mark.parametrize("uniform", QTYPES)
def test_from_faiss(backend, record, uniform):
    """However it was trained: ranges by other statistics, or wider."""
    tally = data.Tally()
    kinds = faiss.ScalarQuantizer
    for dimensions in (12, 16):
        x = np.random.default_rng(6).normal(size=(300, dimensions)).astype(np.float32)
        for statistic, argument in (
            (kinds.RS_minmax, 0.0),
            (kinds.RS_minmax, 0.25),
            (kinds.RS_meanstd, 2.0),
            (kinds.RS_quantiles, 0.05),
            (kinds.RS_optim, 0.0),
        ):
            theirs = quantizer(dimensions, uniform)
            theirs.rangestat, theirs.rangestat_arg = statistic, argument
            theirs.train(x)
            trained = faiss.vector_to_array(theirs.trained)
            ours = EmbeddingQuantizer.from_faiss(trained, dimensions)
            assert ours.uniform == uniform
            np.testing.assert_array_equal(ours.export_faiss(), trained)
            encoded = theirs.compute_codes(x)
            tally.add(ours.transform(x), encoded, x, (statistic, argument))
            tally.add(ours.inverse_transform(encoded), theirs.decode(encoded))
            again = EmbeddingQuantizer.from_dict(json.loads(json.dumps(ours.to_dict())))
            tally.add(again.inverse_transform(encoded), theirs.decode(encoded))
    record(ENGINE, f"{QTYPES[uniform]} from_faiss", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize("real", ["float16", "float64"])
def test_other_floats(backend, record, real):
    """faiss's Python API rounds them to float32; so do we."""
    tally = data.Tally()
    for dimensions in (9, 16):
        x = np.random.default_rng(4).normal(size=(2000, dimensions)).astype(real)
        index = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_8bit)
        index.train(np.float32(x))
        ours = fitted(x, False)
        tally.add(ours.export_faiss(), faiss.vector_to_array(index.sq.trained))
        tally.add(ours.transform(x), index.sa_encode(np.float32(x)), x, dimensions)
    record(ENGINE, f"QT_8bit of {real}", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize("uniform", QTYPES)
def test_an_index_takes_our_codes(backend, uniform):
    """Our vector and codes in an index: the neighbours and distances of one that faiss made."""
    dimensions = 48
    x = np.random.default_rng(5).normal(size=(3000, dimensions)).astype(np.float32)
    kind = getattr(faiss.ScalarQuantizer, QTYPES[uniform])
    theirs = faiss.IndexScalarQuantizer(dimensions, kind)
    theirs.train(x)
    theirs.add(x)
    ours = fitted(x, uniform)
    index = faiss.IndexScalarQuantizer(dimensions, kind)
    faiss.copy_array_to_vector(ours.export_faiss(), index.sq.trained)
    index.is_trained = True
    index.add_sa_codes(ours.transform(x))
    for found, wanted in zip(index.search(x[:50], 10), theirs.search(x[:50], 10), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        ours.inverse_transform(ours.transform(x)), index.reconstruct_n(0, len(x))
    )


PLAIN = """
import sys
import faiss, numpy as np
rows = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, 16)
found = faiss.ScalarQuantizer(16, faiss.ScalarQuantizer.QT_8bit)
found.train(rows)
sys.stdout.buffer.write(found.decode(found.compute_codes(rows)).tobytes())
"""


@pytest.mark.slow("a process that imports faiss")
def test_without_vectors_faiss_never_fuses(note):
    """`fused=False` is faiss on a CPU without AVX2, whatever the number of dimensions."""
    x = table(16)
    ran = subprocess.run(
        [sys.executable, "-c", PLAIN],
        input=x.tobytes(),
        env={**os.environ, "FAISS_SIMD_LEVEL": "NONE"},
        capture_output=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    theirs = np.frombuffer(ran.stdout, np.float32).reshape(x.shape)
    p = fitted(x, False).params
    assert p.fused
    apart = zp.fake_quantize(x, p.replace(fused=False))
    np.testing.assert_array_equal(apart, theirs)
    differing = np.count_nonzero(zp.fake_quantize(x, p) != theirs)
    assert differing > 0
    note(
        f"{ENGINE} without vector units rounds product and sum apart: fused=False is the same, "
        f"fused=True differs in {differing:,} of {x.size:,} values"
    )


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield
