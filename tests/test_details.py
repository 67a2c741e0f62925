"""Details of the checks and of the arithmetic that no other test looks at: mutants found them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zeropoint as zp

X = np.linspace(-1, 3, 24, dtype=np.float32).reshape(4, 6)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"axis": True}, TypeError, "axis must be an integer, not bool True"),
        ({"axis": np.True_}, TypeError, "axis must be an integer, not bool"),
        ({"axis": 1.0}, TypeError, "axis must be an integer, not float 1.0"),
        ({"axis": 2**70}, ValueError, "axis 1180591620717411303424 is beyond"),
        (
            {"axis": 1, "block_size": True},
            TypeError,
            "block_size must be an integer, not bool True",
        ),
        ({"axis": 1, "block_size": 2.0}, TypeError, "block_size must be an integer, not float 2.0"),
        ({"axis": 1, "block_size": 0}, ValueError, "block_size 0 must be at least 1"),
        ({"axis": 1, "block_size": -1}, ValueError, "block_size -1 must be at least 1"),
        ({"axis": 1, "block_size": 2**63}, ValueError, "block_size 9223372036854775808 must be"),
        ({"block_size": 2}, ValueError, "block_size 2 needs an axis"),
    ],
)
def test_axis_and_block_size_of_the_choice(
    backend: str, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    """What the fast entry cannot take is explained, and not rounded, nor cut to a machine word."""
    for function in (zp.choose_params, zp.quantize_dynamic):
        with pytest.raises(error, match=message):
            function(X, **keywords)


@pytest.mark.parametrize("kind", [int, np.int8, np.int64])
def test_any_integer_is_an_axis(backend: str, kind: type) -> None:
    expected = zp.choose_params(X, axis=1, block_size=4)
    found = zp.choose_params(X, axis=kind(-1), block_size=kind(4))
    assert (found.scale == expected.scale).all()
    assert zp.min_max(X, axis=kind(1))[0].tolist() == X.min(axis=0).tolist()
    with pytest.raises(TypeError, match="axis must be an integer, not bool True"):
        zp.min_max(X, axis=True)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_one_bad_scale_of_many_accumulators(backend: str, bad: float) -> None:
    acc = np.zeros((4, 3), np.int32)
    params = zp.QuantParams([0.5, 0.5, 0.5], 0, axis=1)
    with pytest.raises(ValueError, match="acc_scale .* must be finite and > 0"):
        zp.requantize(acc, np.array([1.0, bad, 1.0]), params)
    with pytest.raises(ValueError, match="must be a positive float32; .* is too far from"):
        zp.requantize(acc, np.array([1.0, 1e-60 if bad == 0 else 1e60, 1.0]), params)
