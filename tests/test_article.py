"""The article's two programs, restated here, and ours: the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import zeropoint as zp

BACKENDS = zp.backends()


def article_saturate(x: Any, int_max: int, int_min: int) -> Any:
    return np.clip(x, int_min, int_max)


def article_scale(x: Any, int_max: int, int_min: int) -> tuple[Any, Any]:
    scale = (np.max(x) - np.min(x)) / (int_max - int_min)
    return scale, int_max - np.round(np.max(x) / scale)


def article_scale_using_min(x: Any, int_max: int, int_min: int) -> tuple[Any, Any]:
    scale = (np.max(x) - np.min(x)) / (int_max - int_min)
    return scale, int_min - np.round(np.min(x) / scale)


def article_quantize(x: Any, scale: Any, z: Any, int_max: int, int_min: int) -> Any:
    return article_saturate(np.round(x / scale + z), int_max, int_min)


def article_dequantize(q: Any, scale: Any, z: Any) -> Any:
    return ((q - z) * scale).astype(np.float32)


ranges = st.sampled_from([(0, 255), (-128, 127), (-127, 127), (0, 15), (-8, 7), (3, 200)])


def arrays(real: Any) -> st.SearchStrategy[Any]:
    width = np.dtype(real).itemsize * 8
    bound = 1e9
    elements = st.floats(-bound, bound, width=width, allow_nan=False).map(real)
    return hnp.arrays(real, st.integers(2, 40), elements=elements)


@pytest.mark.slow("hundreds of random arrays")
@pytest.mark.parametrize("rule", ["max", "min"])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_same_bits(rule: str, real: Any) -> None:
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(arrays(real), ranges)
    def check(x: Any, limits: tuple[int, int]) -> None:
        qmin, qmax = limits
        with np.errstate(all="ignore"):
            scale_of = article_scale if rule == "max" else article_scale_using_min
            scale, z = scale_of(x, qmax, qmin)
        assume(np.isfinite(scale))
        assume(scale >= np.finfo(real).smallest_normal)  # below: the design's one override
        assume(abs(z) < 2**31)
        dtype = "uint8" if qmin >= 0 else "int8"
        for name in BACKENDS:
            with zp.use_backend(name):
                params = zp.choose_params(
                    x, dtype, zero_point_from=rule, include_zero=False, qmin=qmin, qmax=qmax
                )
                assert params.scale.dtype == scale.dtype
                assert params.scale.tobytes() == scale.tobytes()
                assert params.zero_point == z
                codes = article_quantize(x, scale, z, qmax, qmin)
                q = params.quantize(x)
                assert q.tolist() == codes.tolist()
                back = params.dequantize(q)
                assert back.tobytes() == article_dequantize(q, scale, z).tobytes()
                # the article leaves codes in floats, where rint can give -0; no integer is -0
                assert back.tolist() == article_dequantize(codes, scale, z).tolist()

    check()


def test_the_worked_example(backend: str) -> None:
    """The left columns of the table: what the article's code prints."""
    x = np.array([-0.75, -0.45, 1.75], np.float32)
    expected = {
        "max": (77, [0, 31, 255], [-0.754902, -0.4509804, 1.7450981]),
        "min": (76, [0, 30, 254], [-0.74509805, -0.4509804, 1.7450981]),
    }
    for rule, (z, codes, values) in expected.items():
        params = zp.choose_params(x, zero_point_from=rule, include_zero=False)
        assert params.scale == np.float32(0.009803922)
        assert params.zero_point == z
        assert params.quantize(x).tolist() == codes
        assert params.dequantize(params.quantize(x)).tolist() == [
            float(np.float32(v)) for v in values
        ]


def test_saturate(backend: str) -> None:
    x = np.random.default_rng(0).normal(size=999).astype(np.float32) * 200
    assert zp.saturate(x, 0, 255).tobytes() == article_saturate(x, 255, 0).tobytes()
