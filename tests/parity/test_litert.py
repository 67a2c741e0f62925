"""LiteRT's QUANTIZE and DEQUANTIZE, from models of one operator made in memory.

Per tensor, QUANTIZE of the default kernels (with and without the XNNPACK delegate) is the
convention ``litert`` (``torch``), that of the reference kernels is ``litert_reference``
(``tflite``).  Per channel QUANTIZE has the reference's arithmetic whichever kernels are asked for.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from bench.engines import litert_model

from . import data

pytest.importorskip("flatbuffers")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")

ENGINE = "LiteRT"
# name: which kernels, and the convention of QUANTIZE per tensor
KERNELS = {
    "default kernels": (interpreter.OpResolverType.AUTO, "litert"),
    "default kernels without delegates": (
        interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "litert",
    ),
    "reference kernels": (interpreter.OpResolverType.BUILTIN_REF, "litert_reference"),
}
# all but the delegate convert x / s to int32 before they clip: Inf and what is beyond wrap
INT32 = 2.0**30
WRAPPING = ("default kernels without delegates", "reference kernels")
# and without the delegate the default kernels have an arithmetic of their own for DEQUANTIZE
DEQUANTIZING = ("default kernels", "reference kernels")


def run(
    operator: str,
    kernels: str,
    code: str,
    x: data.Array,
    scale: Any,
    zero_point: Any,
    axis: int = 0,
) -> data.Array:
    engine = interpreter.Interpreter(
        model_content=litert_model(operator, code, x.shape, scale, zero_point, axis),
        experimental_op_resolver_type=KERNELS[kernels][0],
        num_threads=1,
    )
    engine.allocate_tensors()
    engine.set_tensor(engine.get_input_details()[0]["index"], x)
    engine.invoke()
    return engine.get_tensor(engine.get_output_details()[0]["index"])


def reach(kernels: str) -> float:
    return INT32 if kernels in WRAPPING else np.inf


# ---------------------------------------------------------------------------------------------
# Per tensor


@functools.cache
def quantized(kernels: str, code: str) -> list[tuple[data.Case, data.Array]]:
    return [
        (case, run("QUANTIZE", kernels, code, case.x, case.scale, case.zero_point))
        for case in data.cases(*data.span(code), 180, reach=reach(kernels))
    ]


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("kernels", KERNELS)
def test_quantize(backend, record, kernels, code):
    tally = data.Tally()
    for case, theirs in quantized(kernels, code):
        p = zp.QuantParams(case.scale, case.zero_point, code, convention=KERNELS[kernels][1])
        tally.add(zp.quantize(case.x, p), theirs, case.x, p)
    record(ENGINE, f"QUANTIZE {code}, {kernels}", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@functools.cache
def dequantized(kernels: str, code: str) -> list[tuple[zp.QuantParams, data.Array]]:
    codes = data.all_codes(code)
    return [
        (
            zp.QuantParams(scale, z, code, convention=KERNELS[kernels][1]),
            run("DEQUANTIZE", kernels, code, codes, scale, z),
        )
        for scale in data.scales(100)
        for z in data.zero_points(*data.span(code))
    ]


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("kernels", DEQUANTIZING)
def test_dequantize(backend, record, kernels, code):
    tally = data.Tally()
    codes = data.all_codes(code)
    for p, theirs in dequantized(kernels, code):
        tally.add(zp.dequantize(codes, p), theirs, codes, p)
    record(ENGINE, f"DEQUANTIZE {code}, {kernels}", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


# ---------------------------------------------------------------------------------------------
# Per channel


@functools.cache
def quantized_channels(
    kernels: str, code: str, axis: int
) -> tuple[data.Channels, data.Array, data.Array]:
    """Data, their codes, and those codes dequantized again."""
    found = data.channels(*data.span(code), 40, axis, reach=INT32)
    codes = run("QUANTIZE", kernels, code, found.x, found.scale, found.zero_point, axis)
    back = run("DEQUANTIZE", kernels, code, codes, found.scale, found.zero_point, axis)
    return found, codes, back


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("kernels", KERNELS)
def test_channels(backend, record, kernels, code, axis):
    """Whichever the kernels, QUANTIZE per channel is the convention ``litert_reference``."""
    found, codes, back = quantized_channels(kernels, code, axis)
    p = zp.QuantParams(
        found.scale, found.zero_point, code, axis=axis, convention="litert_reference"
    )
    forth_tally, back_tally = data.Tally(), data.Tally()
    forth_tally.add(zp.quantize(found.x, p), codes, found.x, p)
    back_tally.add(zp.dequantize(codes, p), back, codes, p)
    for operator, tally in (("QUANTIZE", forth_tally), ("DEQUANTIZE", back_tally)):
        what = f"{operator} {code}, {kernels}, axis {axis}"
        record(ENGINE, what, backend, tally.n, tally.differences)
        assert tally.differences == 0, tally.first


# ---------------------------------------------------------------------------------------------
# What cannot be matched


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("kernels", KERNELS)
def test_nan_is_not_matched(backend, note, kernels, code):
    """LiteRT leaves NaN to the CPU, and its own kernels disagree; ours is qmin everywhere."""
    x = data.nans()
    p = zp.QuantParams(0.1, 13, code, convention=KERNELS[kernels][1])
    ours = zp.quantize(x, p)
    assert (ours[np.isnan(x)] == p.qmin).all()
    theirs = run("QUANTIZE", kernels, code, x, np.float32(0.1), 13)
    np.testing.assert_array_equal(ours[~np.isnan(x)], theirs[~np.isnan(x)])
    made = np.unique(theirs[np.isnan(x)]).tolist()
    note(f"{ENGINE} QUANTIZE {code}, {kernels}, makes {made} of NaN, ours [{p.qmin}]", backend)


@pytest.mark.parametrize(("code", "zero_point"), [("uint8", 13), ("int8", 13), ("int8", -13)])
@pytest.mark.parametrize("kernels", WRAPPING)
def test_kernels_that_wrap_beyond_int32(backend, note, kernels, code, zero_point):
    """Inf, and what lies 2**31 steps away: ours saturates, their conversion is undefined."""
    x = np.array([np.inf, 1e30, -1e30, -np.inf], np.float32)
    p = zp.QuantParams(0.1, zero_point, code, convention=KERNELS[kernels][1])
    ours = zp.quantize(x, p)
    np.testing.assert_array_equal(ours, [p.qmax, p.qmax, p.qmin, p.qmin])
    theirs = run("QUANTIZE", kernels, code, x, np.float32(0.1), zero_point)
    note(
        f"{ENGINE} QUANTIZE {code}, {kernels}, zero point {zero_point}, makes "
        f"{theirs.tolist()} of [inf, 1e30, -1e30, -inf], ours {ours.tolist()}: not matched",
        backend,
    )


@pytest.mark.parametrize("code", data.DTYPES)
def test_dequantize_without_delegates_is_not_matched(backend, note, code):
    """There the vector body computes ``q * s + (-z * s)`` and the tail ``(q - z) * s``.

    Ours is ``(q - z) * s`` throughout, as in the delegate and in the reference kernels.
    """
    differing = total = 0
    codes = data.all_codes(code)[:-3]  # 253: a body of whole vectors and a tail of five
    for scale in data.scales(30):
        for z in data.zero_points(*data.span(code)):
            theirs = run("DEQUANTIZE", "default kernels without delegates", code, codes, scale, z)
            ours = zp.dequantize(codes, zp.QuantParams(scale, z, code, convention="litert"))
            np.testing.assert_array_equal(ours[-5:], theirs[-5:])
            differing += np.count_nonzero(ours != theirs)
            total += codes.size
    assert differing > 0
    note(
        f"{ENGINE} DEQUANTIZE {code}, default kernels without delegates, has another arithmetic "
        f"and is not matched: {differing:,} of {total:,} values differ",
        backend,
    )
