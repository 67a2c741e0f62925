"""The whole table of mistakes on real data, and many correct cases: some minutes.

The data are weights of networks that come inside packages: wordllama's table of word vectors and
magika's layers, or random numbers where they are not installed.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from tests import mistakes
from tests.test_diagnose import COMBINATIONS, random_case
from zeropoint import files

Array = np.ndarray[Any, np.dtype[Any]]
_SIDE = 64


def squares() -> Iterator[tuple[str, Array]]:
    """Square float32 arrays."""
    path = mistakes.packaged("wordllama", "weights/l2_supercat_256.safetensors")
    if path is not None:
        table = files.read_tensor(path, "embedding.weight")
        yield "wordllama", table[500 : 500 + _SIDE, :_SIDE].astype(np.float32)
    path = mistakes.packaged("magika", "models/standard_v3_3/model.onnx")
    if path is not None:
        onnx = pytest.importorskip("onnx")
        for node in onnx.load(path).graph.node:
            for attribute in node.attribute:
                if not attribute.HasField("t") or attribute.t.data_type != 1:
                    continue
                weights = onnx.numpy_helper.to_array(attribute.t)
                if weights.size >= 1 << 15:
                    yield f"magika {weights.shape}", weights.ravel()[: _SIDE**2].reshape(-1, _SIDE)
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.3, 2, (_SIDE, 1))
    yield "random", (rng.standard_normal((_SIDE, _SIDE)) * spread).astype(np.float32)


def test_the_whole_table() -> None:
    """Every mistake of every convention and dtype is the first, or has the codes of the first."""
    for name, x in squares():
        cases = seen = 0
        for convention, dtype in COMBINATIONS:
            for key, y, params, q in mistakes.cases(x, convention, dtype):
                cases += 1
                seen += mistakes.check(key, y, params, q)
        print(f"{name}: {cases} cases, {seen} that differ from every convention, all named")
        assert seen > 300


def test_ten_thousand_correct_cases() -> None:
    rng = np.random.default_rng(17)
    for _ in range(10_000):
        x, params, other = random_case(rng)
        found = zp.diagnose(x, np.asarray(zp.quantize(x, other)), params)
        assert found.best.mistakes == (), (params, other)
        assert other.convention in found.same


def test_a_hundred_million() -> None:
    """In seconds, and in less memory than the data have."""
    x = np.empty(10**8, np.float32).reshape(-1, 1000)
    rng = np.random.default_rng(0)
    for part in np.array_split(x, 100):
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    params = zp.choose_params(x, convention="onnx")
    right = zp.quantize(x, params)
    wrong = np.empty_like(right)
    for k in range(0, len(x), 1000):
        wrong[k : k + 1000] = x[k : k + 1000] / params.scale + params.zero_point
    for codes, expected in ((right, ()), (wrong, ("truncated",))):
        tracemalloc.start()
        start = time.perf_counter()
        found = zp.diagnose(x, codes, params)
        seconds = time.perf_counter() - start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{found.best.name}: {seconds:.1f} s, {peak / x.nbytes:.2f} of the data")
        assert (found.best.mistakes, found.best.share) == (expected, 1)
        assert peak < x.nbytes
