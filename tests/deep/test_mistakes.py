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
        for tensor in onnx.load(path).graph.initializer:
            weights = onnx.numpy_helper.to_array(tensor)
            if weights.dtype == np.float32 and weights.size >= _SIDE**2:
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
    few = right.copy()
    few[::7919, 7] ^= 1
    noise = rng.integers(0, 256, x.size, np.uint8)
    for codes, expected in ((right, ()), (wrong, ("truncated",)), (few, ()), (noise, None)):
        tracemalloc.start()
        start = time.process_time()
        found = zp.diagnose(x.reshape(codes.shape), codes, params)  # noise in one axis
        seconds = time.process_time() - start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{found.best.name}: {seconds:.1f} s of CPU, {peak / x.nbytes:.2f} of the data")
        assert expected is None or found.best.mistakes == expected
        assert peak < x.nbytes
