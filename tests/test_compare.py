"""error_stats and compare."""

from __future__ import annotations

import math

import numpy as np
import pytest

import zeropoint as zp

X = np.random.default_rng(11).normal(size=(50, 40)).astype(np.float32) + 1


def test_error_stats_by_hand(backend: str) -> None:
    x = np.array([-1.0, 0.0, 0.3, 1.0, 9.0], np.float32)
    stats = zp.error_stats(x, zp.QuantParams(0.5, 2, qmax=6))
    # codes 0, 2, 3 (0.6 rounds to 1), 4, 6 (20 is clipped); values -1, 0, 0.5, 1, 2
    error = abs(0.5 - float(np.float32(0.3)))
    assert stats.max_abs_error == 7
    assert stats.mean_abs_error == pytest.approx((7 + error) / 5)
    assert stats.mse == pytest.approx((49 + error**2) / 5)
    assert stats.sqnr_db == pytest.approx(10 * math.log10(83.09 / (49 + error**2)), abs=1e-6)
    assert stats.cosine == pytest.approx((1 + 0.15 + 1 + 18) / math.sqrt(83.09 * 6.25), abs=1e-6)
    assert stats.saturated == 1
    assert stats.codes_used == 5


def test_exact_and_zero_data() -> None:
    exact = zp.error_stats(np.array([1.0, 2.0]), zp.QuantParams(1.0, 0))
    assert (exact.mse, exact.sqnr_db, exact.cosine) == (0, math.inf, pytest.approx(1))
    zero = zp.error_stats(np.zeros(3), zp.QuantParams(1.0, 0))
    assert (zero.mse, zero.sqnr_db, zero.cosine, zero.codes_used) == (0, math.inf, 1, 1)
    lost = zp.error_stats(np.zeros(3), zp.QuantParams(1.0, -5, include_zero=False))
    assert (lost.max_abs_error, lost.sqnr_db, lost.cosine) == (5, -math.inf, 0)


def test_no_overflow_at_the_ends_of_float64() -> None:
    x = np.array([-1e308, 0.5e308, 1.7e308])
    stats = zp.error_stats(x, zp.choose_params(x))
    assert 40 < stats.sqnr_db < 70
    assert 0.99 < stats.cosine <= 1


def test_values_that_overflow_are_told_not_raised() -> None:
    comparison = zp.compare(np.array([-3.4028235e38, 3.4028235e38], np.float32))
    assert "-inf" in str(comparison)


def test_chunks_change_nothing_that_matters() -> None:
    x = np.random.default_rng(0).normal(size=700_001).astype(np.float32)
    params = zp.choose_params(x)
    stats = zp.error_stats(x, params)
    error = params.dequantize(params.quantize(x)).astype(np.float64) - x
    assert stats.max_abs_error == np.abs(error).max()
    assert stats.mse == pytest.approx((error**2).mean(), rel=1e-12)


def test_same_on_every_backend() -> None:
    results = set()
    for name in zp.backends():
        with zp.use_backend(name):
            results.add((zp.error_stats(X, zp.choose_params(X, axis=0)), str(zp.compare(X))))
    assert len(results) == 1


def test_rows_and_best(backend: str) -> None:
    comparison = zp.compare(X)
    assert len(comparison.rows) == 14
    assert {row.dtype for row in comparison.rows} == {"uint8", "int8"}
    for row in comparison.rows:
        assert row.params is not None
        assert row.stats == zp.error_stats(X, row.params)
        if row.same_as is not None:
            assert comparison.rows[row.same_as].stats == row.stats
    assert comparison.best.stats.mse == min(row.stats.mse for row in comparison.rows)
    text = str(comparison)
    assert text.count("<- best") == 1
    assert "same as 1" in text
    assert comparison.advice in text
    assert text.splitlines()[0].split()[:3] == ["#", "rule", "dtype"]


def test_data_far_from_zero_wants_zero_not_included() -> None:
    comparison = zp.compare(np.linspace(100, 101, 999, dtype=np.float32))
    assert not comparison.best.include_zero
    assert "engines need a range that holds 0" in comparison.advice


def test_a_rule_that_cannot_work_says_why() -> None:
    comparison = zp.compare(np.full(5, 2.0, np.float32))
    problems = [row.problem for row in comparison.rows if row.params is None]
    assert len(problems) == 6
    assert all("x is constant" in problem for problem in problems)
    assert "x is constant" in str(comparison)


def test_axis_and_blocks() -> None:
    tensor, channel = zp.compare(X * np.arange(1, 41, dtype=np.float32)), None
    channel = zp.compare(X * np.arange(1, 41, dtype=np.float32), axis=1)
    block = zp.compare(X * np.arange(1, 41, dtype=np.float32), axis=0, block_size=7)
    mse = [c.best.stats.mse for c in (tensor, channel, block)]
    assert mse[0] > mse[1] > mse[2]


def test_json() -> None:
    import json

    found = json.loads(json.dumps(zp.compare(X).to_dict()))
    assert found["rows"][found["best"]]["stats"]["mse"] > 0


@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_the_ends_themselves_do_not_count(backend: str, convention: str) -> None:
    """An element is saturated if its code was clipped, not if it is an end."""
    params = zp.QuantParams(1, 0, "int8", qmin=-4, qmax=3, convention=convention)
    for values, saturated in [
        ([-4, -4, 3, 3, 0], 0),
        ([-4.25, 3.25], 0),  # these round to the ends
        ([-5, 3], 1),
        ([-4, 4], 1),
        ([-9, 9, 1e30], 3),
    ]:
        stats = zp.error_stats(np.array(values, np.float32), params)
        assert stats.saturated == saturated


def test_a_scalar_is_data_too(backend: str) -> None:
    for x in (np.float32(3), np.float64(3), np.array(3, np.float16)):
        assert zp.error_stats(x, zp.QuantParams(2, 3)).max_abs_error == 1
    assert zp.compare(np.float32(3)).best.stats
