"""Where float16 and bfloat16 end: results below the least subnormal."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("dtype", "least"), [(np.dtype(np.float16), -24), (np.dtype(ml_dtypes.bfloat16), -133)], ids=str
)
def test_subnormal_results(backend: str, precision: type, dtype: np.dtype, least: int) -> None:
    """To the nearest multiple of the least subnormal, halves to even."""
    for part, codes in [(0.5, [0, 1, 2]), (0.75, [1, 2, 2]), (0.625, [1, 1, 2])]:
        scale = precision(part * 2.0**least)
        params = zp.QuantParams(scale, 0)
        found = params.dequantize(np.tile(np.array([1, 2, 3], np.uint8), 30), dtype=dtype)
        assert found.astype(np.float64).tolist() == [c * 2.0**least for c in codes] * 30
