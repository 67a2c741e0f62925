"""TFLite's ChooseQuantizationParams: known values, and its formula written out.

No Python package calls it, so no engine runs.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import zeropoint as zp

from . import data


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [(-10, 30, 0.156863, 64), (0, 30, 0.117647, 0), (-10, 0, 0.039216, 255)],
)
def test_known_values(backend, low, high, scale, zero_point):
    x = np.array([low, high], np.float32)
    p = zp.choose_params(x, "uint8", convention="tflite")
    assert p.scale == np.float32((high - low) / 255)
    assert f"{p.scale:.6f}" == f"{scale:.6f}"
    assert p.zero_point == zero_point
    signed = zp.choose_params(x, "int8", convention="tflite")
    assert (signed.scale, signed.zero_point) == (p.scale, zero_point - 128)


def choose(low: float, high: float, qmin: int, qmax: int) -> tuple[float, int]:
    """The formula in Python's floats, which are C's doubles."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (qmax - qmin)
    from_min, from_max = qmin - low / scale, qmax - high / scale
    min_error, max_error = abs(qmin) + abs(low / scale), abs(qmax) + abs(high / scale)
    zero_point = from_min if min_error < max_error else from_max
    if zero_point < qmin:
        return scale, qmin
    if zero_point > qmax:
        return scale, qmax
    return scale, int(math.copysign(math.floor(abs(zero_point) + 0.5), zero_point))


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(
    ("code", "qmin", "qmax"), [("uint8", 0, 255), ("int8", -128, 127), ("int8", -127, 127)]
)
def test_formula(backend, record, code, qmin, qmax, real):
    """In float64 whatever the data; the scale is rounded once, to the precision of the data."""
    scales, zero_points = data.Tally(), data.Tally()
    for x in data.ranges(2000):
        if not x.any():
            continue  # their scale would be 0
        scale, zero_point = choose(float(x.min()), float(x.max()), qmin, qmax)
        p = zp.choose_params(x.astype(real), code, qmin=qmin, qmax=qmax, convention="tflite")
        scales.add(p.scale, np.dtype(real).type(scale), about=p)
        zero_points.add(np.int32(p.zero_point), np.int32(zero_point), about=p)
    for what, tally in (("zero points", zero_points), ("scales", scales)):
        what = f"ChooseQuantizationParams {code} [{qmin}, {qmax}] of {real}, {what}"
        record("TFLite's formula", what, backend, tally.n, tally.differences)
    assert zero_points.differences == 0, zero_points.first
    assert scales.differences == 0, scales.first
