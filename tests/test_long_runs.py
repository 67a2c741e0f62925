"""Runs of thousands of elements: long channels, parts of the code range, conversions in stages.

The `isa` fixture compares every element with the reference.
"""

from __future__ import annotations

import numpy as np
import pytest

import zeropoint as zp

from .test_kernels import HARD

RNG = np.random.default_rng(3)
RANGES = [("uint8", 3, 200), ("uint8", 0, 255), ("int8", -100, 90), ("int8", 5, 9)]


@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize(("dtype", "qmin", "qmax"), RANGES)
def test_part_of_the_codes(isa: str, dtype: str, qmin: int, qmax: int, convention: str) -> None:
    for scale in (0.25, 0.1):
        steps = RNG.integers(-400, 400, 9001) + RNG.choice([0, 0.5, 0.25], 9001)
        x = RNG.permutation(np.concatenate([HARD, steps * scale]).astype(np.float32))
        for zero in (qmin, qmax):
            params = zp.QuantParams(scale, zero, dtype, qmin=qmin, qmax=qmax, convention=convention)
            params.quantize(x)
            params.fake_quantize(x)


@pytest.mark.parametrize("real", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize(("shape", "axis"), [((3, 9000), 0), ((2, 3, 2500), 1), ((1500, 2), 0)])
def test_channels(isa: str, shape: tuple[int, ...], axis: int, convention: str, real: type) -> None:
    """Every channel is longer than what is done at once, and has parameters of its own."""
    n = shape[axis]
    x = RNG.normal(size=shape).astype(real)
    scale = np.geomspace(0.005, 0.05, n)
    zero = np.arange(100, 100 + n) % 256
    params = zp.QuantParams(scale, zero, axis=axis, convention=convention)
    q = params.quantize(x)
    params.dequantize(q, dtype=real)
    params.fake_quantize(x)
    zp.min_max(x, axis=axis)


@pytest.mark.parametrize("axis", [-1, 0])
def test_blocks(isa: str, axis: int) -> None:
    x = RNG.normal(size=(4, 7000)[:: -1 if axis == 0 else 1]).astype(np.float16)
    params = zp.choose_params(x, axis=axis, block_size=3000)
    params.dequantize(params.quantize(x), dtype=np.float16)
    params.fake_quantize(x)
