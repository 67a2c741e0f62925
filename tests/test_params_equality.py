"""Two `QuantParams` are equal if every field is, and not otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zeropoint as zp

BLOCKS: dict[str, Any] = {
    "scale": np.array([[0.5, 0.25]], np.float32),
    "zero_point": 3,
    "dtype": "int8",
    "qmin": -100,
    "qmax": 100,
    "axis": 1,
    "block_size": 4,
    "convention": "numpy",
    "include_zero": True,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", np.array([[0.5, 0.125]], np.float32)),
        ("scale", np.array([[0.5, 0.25]], np.float64)),
        ("scale", np.array([[0.5], [0.25]], np.float32)),
        ("zero_point", 4),
        ("zero_point", np.array([[3, 4]])),
        ("dtype", "uint8"),
        ("qmin", -99),
        ("qmax", 99),
        ("axis", 0),
        ("block_size", 5),
        ("convention", "onnx"),
        ("include_zero", False),
    ],
)
def test_every_field_counts(field: str, value: Any) -> None:
    shared = BLOCKS | {"qmin": 0} if field == "dtype" else BLOCKS
    one, same, other = (zp.QuantParams(**f) for f in (shared, shared, shared | {field: value}))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert len({one, same, other}) == 2
