"""Whole domains, by the engine of ``zeropoint verify --deep``; minutes to hours."""

from __future__ import annotations

import time
from typing import Any

import pytest

import zeropoint as zp
from zeropoint import _exhaustive

NATIVE = [name for name in zp.backends() if name != "reference"]


def oracle(capsys: Any, what: str, stage: _exhaustive.Stage) -> int:
    """No difference in any chunk; says how much was compared, and returns it."""
    start = time.perf_counter()
    rows = _exhaustive.rows(stage)
    seconds = time.perf_counter() - start
    elements = sum(row.elements for row in rows)
    for row in rows:
        assert not row.differences, row.first
    with capsys.disabled():
        print(f"\n{what}: {elements:,} elements on {', '.join(NATIVE)}, {seconds:.0f} s: 0 differ")
    return elements


def test_every_float32(capsys: Any) -> None:
    params = list(_exhaustive.with_zero_points(_exhaustive.PAIRS))
    stage = _exhaustive.quantize_float32(NATIVE, params, _exhaustive.CHUNKS)
    elements = oracle(capsys, "quantize, every float32", stage)
    pairs = len(_exhaustive.PAIRS)
    assert elements == 2**32 * len(NATIVE) * 2 * len(zp.CONVENTIONS) * pairs * 2


def test_every_float32_and_back(capsys: Any) -> None:
    params = list(_exhaustive.with_zero_points(_exhaustive.PAIRS))
    stage = _exhaustive.fake_quantize_float32(NATIVE, params, _exhaustive.CHUNKS)
    elements = oracle(capsys, "fake_quantize, every float32", stage)
    assert elements == 2**32 * len(NATIVE) * len(zp.CONVENTIONS) * len(_exhaustive.PAIRS)


def test_every_float32_by_real_offsets(capsys: Any) -> None:
    params = list(_exhaustive.with_offsets())
    stage = _exhaustive.quantize_float32(NATIVE, params, _exhaustive.CHUNKS, short_runs=False)
    elements = oracle(capsys, "quantize, every float32 by real offsets", stage)
    assert elements == 2**32 * len(NATIVE) * len(params)
    stage = _exhaustive.fake_quantize_float32(NATIVE, params, _exhaustive.CHUNKS)
    elements = oracle(capsys, "fake_quantize, every float32 by real offsets", stage)
    assert elements == 2**32 * len(NATIVE) * len(params) // 2


def test_every_code_by_real_offsets(capsys: Any) -> None:
    stage = _exhaustive.dequantize_by_offset(NATIVE, _exhaustive.SCALES)
    what = f"dequantize, 256 codes x {_exhaustive.SCALES:,} real offsets"
    assert oracle(capsys, what, stage) == 256 * _exhaustive.SCALES * len(NATIVE) * 2 * 7


def test_all_zero_points(capsys: Any, request: pytest.FixtureRequest) -> None:
    if "all_zero_points" not in request.config.option.keyword:
        pytest.skip("takes hours; ask for it by -k all_zero_points")
    params = list(_exhaustive.with_zero_points(_exhaustive.ALL_ZERO_POINTS))
    stage = _exhaustive.quantize_float32(NATIVE, params, _exhaustive.CHUNKS, short_runs=False)
    elements = oracle(capsys, "quantize, every float32 by every zero point", stage)
    assert elements == 2**32 * len(NATIVE) * 2 * len(zp.CONVENTIONS) * 256


def test_every_half_by_all_zero_points(capsys: Any) -> None:
    params = list(_exhaustive.with_zero_points(_exhaustive.ALL_ZERO_POINTS))
    stage = _exhaustive.quantize_halves(NATIVE, params)
    elements = oracle(capsys, "quantize, every float16 and bfloat16 by every zero point", stage)
    assert elements == 2 * 2**16 * len(NATIVE) * 2 * len(zp.CONVENTIONS) * 256 * 2


def test_every_code_by_all_zero_points(capsys: Any) -> None:
    stage = _exhaustive.dequantize(NATIVE, _exhaustive.SCALES)
    what = f"dequantize, 256 codes x 256 zero points x {_exhaustive.SCALES:,} scales"
    assert oracle(capsys, what, stage) == 2**16 * _exhaustive.SCALES * len(NATIVE) * 2 * 2


def test_ranges(capsys: Any) -> None:
    stage = _exhaustive.choose_params(NATIVE, _exhaustive.RANGES)
    ranges = sum(len(chunk) for chunk in stage.chunks)
    oracle(capsys, f"choose_params, {ranges:,} ranges, {len(_exhaustive.HOW)} rules", stage)
