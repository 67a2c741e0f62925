"""error_stats and compare."""

from __future__ import annotations

import dataclasses
import math
import re

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
    for row in comparison.rows:
        assert row.params is not None
        assert row.stats == zp.error_stats(X, row.params)
    names = [each.name for row in comparison.rows for each in (row, *row.same)]
    rules = ["max", "min", "least_error", "symmetric"]
    rules += [f"{rule}, zero not included" for rule in ("max", "min", "least_error")]
    assert sorted(names) == sorted([*rules, "mse", "percentile 99.925", "min", "min", "min"])
    assert comparison.best.stats.mse == min(row.stats.mse for row in comparison.rows[:-3])
    assert [(row.axis, row.block_size) for row in comparison.rows[-3:]] == [
        (0, None),
        (1, None),
        (1, 32),
    ]
    assert "blocks of 32, axis 1  " in str(comparison)
    *_, rows, _, blocks = (row.stats.mse for row in comparison.rows)
    best = comparison.best.stats.mse
    for name, mse in (("per channel, axis 0", rows), ("blocks of 32, axis 1", blocks)):
        gain = 10 * math.log10(best / mse)
        assert f"; {name} is {gain:.2f} dB better" in comparison.advice
    text = str(comparison)
    assert text.count("<- best") == 1
    assert comparison.advice in text
    assert text.splitlines()[0].split()[:3] == ["#", "rule", "scale"]
    assert comparison.warning is None
    assert "Warning" not in text


def test_data_far_from_zero_wants_zero_not_included() -> None:
    comparison = zp.compare(np.linspace(100, 101, 999, dtype=np.float32))
    assert not comparison.best.include_zero
    assert "engines need a range that holds 0" in comparison.advice
    assert comparison.warning is not None
    assert comparison.warning.startswith("few codes are in use in rows 1, 2, 4, 5, 6: 90 % of")
    assert comparison.warning.endswith("; what helps: row 3")


def test_a_rule_that_cannot_work_says_why() -> None:
    comparison = zp.compare(np.full(5, 2.0, np.float32))
    [row] = [row for row in comparison.rows if row.params is None]
    assert row.problem is not None
    assert "x is constant" in row.problem
    assert [each.rule for each in (row, *row.same)] == ["max", "min", "least_error"]
    assert "x is constant" in str(comparison)


def test_axis_and_blocks() -> None:
    tensor = zp.compare(X * np.arange(1, 41, dtype=np.float32))
    channel = zp.compare(X * np.arange(1, 41, dtype=np.float32), axis=1)
    block = zp.compare(X * np.arange(1, 41, dtype=np.float32), axis=0, block_size=7)
    mse = [c.best.stats.mse for c in (tensor, channel, block)]
    assert mse[0] > mse[1] > mse[2]


def test_json() -> None:
    import json

    for x in (X, outlier(X)):
        comparison = zp.compare(x)
        found = json.loads(json.dumps(comparison.to_dict()))
        assert found["rows"][found["best"]]["stats"] == comparison.best.stats.to_dict()
        assert found["warning"] == comparison.warning
        assert found["rows"][0]["same"] == [row.name for row in comparison.rows[0].same]
        assert zp.ErrorStats(**found["rows"][0]["stats"]) == comparison.rows[0].stats


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


# ---------------------------------------------------------------------------------------------
# Figures that look good over ruined codes


def outlier(x: np.ndarray, value: float = 1e6) -> np.ndarray:
    found = x.copy()
    found.flat[found.size // 2] = value
    return found


def test_an_outlier_is_warned_of(backend: str) -> None:
    x = outlier(X)
    stats = zp.error_stats(x, zp.choose_params(x))
    assert stats.sqnr_db > 80
    assert stats.cosine > 0.9999999
    assert (stats.codes_used, stats.codes_of_most, stats.few_codes, stats.channels) == (2, 1, 1, 1)
    assert stats.warning is not None
    assert "90 % of the nonzero elements share 1 code, so" in stats.warning
    assert "HistogramObserver" in stats.warning
    assert str(stats).endswith(f"\nWarning: {stats.warning}")

    fine = zp.error_stats(X, zp.choose_params(X))
    assert fine.codes_of_most > 60
    assert fine.warning is None
    assert "Warning" not in str(fine)


RNG = np.random.default_rng(3)
SPARSE = np.where(RNG.random((100, 400)) < 0.02, RNG.normal(size=(100, 400)), 0)


@pytest.mark.parametrize(
    ("x", "few"),
    [
        (SPARSE, False),  # hardly any elements but zeros, each well represented
        (outlier(SPARSE), True),
        (np.full(5000, 0.3), False),  # no more values than codes
        (np.repeat([0.3, 1e6], 500), False),
        (np.where(RNG.random(5000) < 0.5, 0.3, -0.7), False),
        (np.r_[np.full(9500, 0.7), RNG.normal(size=500)], False),  # a background
        (np.r_[RNG.normal(size=9500), RNG.normal(size=500) * 1e6], True),  # many outliers
        (np.linspace(100, 101, 999), True),  # between 0 and the data nothing
        (np.linspace(-1, 1, 15), False),  # fewer elements than 16
        (np.r_[np.linspace(-1, 1, 14), 1e6], True),
        (np.r_[np.repeat(np.linspace(0.01, 1, 12), 9), np.linspace(0.011, 0.9, 9)], False),
        # most of 14 values have 10 codes
        (np.repeat(np.r_[np.geomspace(1e-5, 1e-4, 4), np.linspace(0.5, 1, 10)], 3), False),
        (RNG.laplace(size=100_000), False),
        (np.zeros(9), False),
        (np.r_[RNG.normal(size=100_000) * 1e-300, 1e300], True),
    ],
)
def test_which_data_are_warned_of(x: np.ndarray, few: bool) -> None:
    stats = zp.error_stats(x, zp.choose_params(x))
    assert (stats.warning is not None) == few, stats


@pytest.mark.parametrize(("codes", "few"), [(15, True), (16, False)])
def test_fewer_than_half_of_the_bits_are_few(codes: int, few: bool) -> None:
    params = zp.QuantParams(1.0, 0)
    x = (np.arange(10 * codes) % codes + 1 + np.linspace(-0.1, 0.1, 10 * codes)).astype(np.float32)
    ends = np.array([200.0] * (x.size // 10), np.float32)  # a part that is not most
    stats = zp.error_stats(np.concatenate([x, ends]), params)
    assert (stats.codes_used, stats.codes_of_most) == (codes + 1, codes)
    assert bool(stats.few_codes) == few
    # 4 bits that are asked for are no bits that are idle
    four = zp.error_stats(x[x < 15.4], zp.QuantParams(1.0, 0, qmax=15))
    assert four.warning is None


@pytest.mark.parametrize("axis", [0, 1])
def test_a_ruined_channel_is_found_among_others(backend: str, axis: int) -> None:
    x = np.random.default_rng(1).normal(size=(40, 200, 30)).astype(np.float32)
    x[7, 5] = 0  # nor is a channel with a few zeros more
    x[7, 11, 3] = 1e6
    stats = zp.error_stats(x, zp.choose_params(x, axis=axis))
    assert (stats.few_codes, stats.channels) == (1, x.shape[axis])
    assert stats.codes_of_most > 60
    assert stats.warning is not None
    assert f"in 1 of {x.shape[axis]} channels" in stats.warning
    blocks = zp.error_stats(x, zp.choose_params(x, axis=axis, block_size=10))
    assert blocks.channels == x.shape[axis]


def test_more_channels_than_are_counted_at_a_time(backend: str) -> None:
    x = np.random.default_rng(1).normal(size=(2100, 300)).astype(np.float32)
    x[[3, 44, 2049], 9] = 1e6
    for y, axis in ((x, 0), (np.ascontiguousarray(x.T), 1)):
        found = zp.error_stats(y, zp.choose_params(y, axis=axis))
        assert (found.few_codes, found.channels) == (3, 2100)
        assert found.codes_of_most > 60
        assert found.codes_used == 256


def test_compare_shows_what_helps(backend: str) -> None:
    comparison = zp.compare(outlier(X))
    rules, others = comparison.rows[:3], comparison.rows[3:]
    assert [(row.name, row.few) for row in rules] == [
        ("max", True),
        ("symmetric", True),
        ("mse", True),
    ]
    assert [(row.method, row.axis, row.block_size) for row in others] == [
        ("percentile", None, None),
        ("minmax", 0, None),
        ("minmax", 1, None),
        ("minmax", 1, 32),
    ]
    assert comparison.warning is not None
    assert comparison.warning.endswith("; what helps: rows 4, 5, 6, 7")
    text = str(comparison)
    assert text.startswith(f"Warning: {comparison.warning}.\n\n#")
    assert len(re.findall(r"^\d ", text, re.MULTILINE)) == 7
    assert "few codes in 1 of 50 channels" in text
    assert not comparison.best.few
    assert comparison.best.block_size == 32  # one block is lost there
    assert "the rules leave few codes in use" in comparison.advice
    assert "no difference" not in text
    # the range is that of the others, though a histogram of all has them in one bin
    clipped = others[0].params
    assert clipped is not None
    low, high = np.sort(X.ravel())[[1, -1]]  # of 2000, 1.5 at each end
    assert clipped.scale * 255 == pytest.approx(high - low, rel=0.02)
    assert -clipped.zero_point * clipped.scale == pytest.approx(low, abs=float(clipped.scale))


def test_clipping_goes_as_far_as_it_must() -> None:
    x = np.random.default_rng(5).normal(size=10_000).astype(np.float32)
    x[::500] *= 1e6  # 20, a thousandth at each end
    comparison = zp.compare(x)
    found = {row.percentile: row.few for row in comparison.rows if row.percentile}
    assert list(found.items()) == [
        (pytest.approx(99.985), True),
        (pytest.approx(99.9), True),
        (99.0, False),
    ]
    assert comparison.best.percentile == 99.0


def test_what_differs_by_rounding_alone_is_one_row() -> None:
    """As the two rules of the article do on its own data: half a step at one end or the other."""
    comparison = zp.compare(np.array([-0.75, -0.45, 1.75], np.float32))
    assert [row.name for row in comparison.rows] == ["max", "symmetric"]
    text = str(comparison)
    assert "max, min, least_error, zero included or not  0.009803922      76..77" in text
    assert "1.000" not in comparison.advice


def test_the_best_is_not_the_best_by_the_seventh_digit() -> None:
    found = zp.compare(X)
    first = found.rows[0]
    assert first.stats is not None
    for digits, best in ((1e-6, 0), (1e-2, 1)):
        stats = dataclasses.replace(
            first.stats, mse=first.stats.mse * (1 - digits), max_abs_error=1.0
        )
        rows = first, dataclasses.replace(first, rule="symmetric", stats=stats)
        comparison = zp.Comparison(rows)
        assert comparison.best is rows[best]
        assert ("no difference" in comparison.advice) == (best == 0)


def test_rows_of_another_granularity_stay_apart() -> None:
    rows = zp.compare((RNG.random((40, 40)) > 0.5).astype(np.float32)).rows
    assert [(row.axis, row.block_size) for row in rows] == [
        (None, None),
        (0, None),
        (1, None),
        (1, 32),
    ]


@pytest.mark.parametrize(
    ("shape", "axis", "blocks"),
    [
        ((64, 33), None, 1),
        ((64, 32), None, 0),
        ((9, 4, 65), None, 1),
        ((2112,), None, 0),
        ((64, 33), 0, 0),
    ],
)
def test_blocks_where_they_are_another_granularity(
    shape: tuple[int, ...], axis: int | None, blocks: int
) -> None:
    rows = zp.compare(RNG.random(shape), axis=axis).rows
    assert sum(row.block_size == 32 for row in rows) == blocks


def test_int8_has_the_same_figures_and_a_zero_point_128_less() -> None:
    """As the text of a comparison says."""
    for row in zp.compare(X).rows:
        if row.method != "minmax":
            continue
        for each in (row, *row.same):
            symmetric = each.rule == "symmetric"
            other = zp.choose_params(
                X,
                "int8",
                zero_point_from=None if symmetric else each.rule,
                symmetric=symmetric,
                include_zero=each.include_zero,
                axis=each.axis,
                block_size=each.block_size,
            )
            np.testing.assert_array_equal(other.scale, each.params.scale)
            np.testing.assert_array_equal(
                other.zero_point, np.subtract(each.params.zero_point, 128)
            )
            figures = zp.error_stats(X, other)
            assert figures.mse == pytest.approx(each.stats.mse, rel=2**-12)
            assert figures.max_abs_error == pytest.approx(each.stats.max_abs_error, rel=2**-12)


def test_a_report_of_weights_warns_too() -> None:
    pytest.importorskip("onnx")
    from zeropoint.interop._onnx_weights import Report, Weight

    def weight(x: np.ndarray) -> Weight:
        params = zp.choose_params(x)
        stats = zp.error_stats(x, params)
        return Weight("w", x.shape, "float32", x.nbytes, x.size, params, stats)

    fine, ruined = weight(X), weight(outlier(X))
    assert "few codes" not in str(Report((fine,))).lower()
    assert "Few codes are in use in 1 of them" in str(Report((fine, ruined)))


@pytest.mark.parametrize("values", [(1.0, -1.0), (1.0, 0.3)])
def test_two_values_that_share_a_code_are_warned_of(values: tuple[float, float]) -> None:
    two = np.where(np.random.default_rng(0).random(10000) < 0.5, *values)
    x = np.append(two, 1e6).astype(np.float32)
    assert zp.error_stats(x, zp.choose_params(x)).warning is not None
    assert zp.compare(x).warning is not None
    plain = two.astype(np.float32)
    assert zp.error_stats(plain, zp.choose_params(plain)).warning is None


def test_what_the_best_costs_is_said() -> None:
    """Most codes in use and least squared error are not the same row for heavy tails."""
    found = zp.compare(np.random.default_rng(0).lognormal(size=100000).astype(np.float32))
    least = min((row for row in found.rows if row.stats), key=lambda row: row.stats.mse)
    assert found.best is not least
    assert "dB less error, in few codes" in found.advice


@pytest.mark.parametrize("value", [1e-300, 1e-200, 5e-324])
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (zp.QuantParams(0.1, 300, include_zero=False), 4.5**2),
        (zp.QuantParams(0.1, -7, include_zero=False), 0.7**2),
        (zp.QuantParams([0.1] * 5, [3, 3, 300, 3, 3], axis=0, include_zero=False), 4.5**2 / 5),
        (zp.QuantParams(0.1, 3), 0),
    ],
)
def test_a_large_result_of_small_data(
    backend: str, value: float, params: zp.QuantParams, expected: float
) -> None:
    stats = zp.error_stats(np.full(5, value), params)
    assert stats.mse == pytest.approx(expected, rel=1e-6)  # of the square of a float32 scale
    assert stats.sqnr_db <= 0


def few_codes_by_definition(x: np.ndarray, params: zp.QuantParams) -> int:
    """Of the channels of the last axis."""
    count = 0
    for channel, codes in zip(x.T, params.quantize(x).T, strict=True):
        nonzero = channel != 0
        most, values = (
            zp._reference.fewest(np.unique(each[nonzero], return_counts=True)[1])
            if nonzero.any()
            else 0
            for each in (codes, channel.astype("f8"))
        )
        count += bool(most < 16 and values >= 2 * most and nonzero.sum() > 2 * most)
    return count


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8"])
@pytest.mark.parametrize("n", [3, 100, 256, 257, 2000])
def test_few_codes_of_channels(n: int, dtype: str) -> None:
    """Channels with one value, with some, with many beside an outlier, and mostly zeros."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 600))
    x[0] = 1e4
    x[:, ::5] = x[1, ::5]
    x[:, 1::5] = rng.integers(1, 4, size=x[:, 1::5].shape)
    x[:, 2::5] *= rng.random(x[:, 2::5].shape) < 0.1
    x = x.astype(dtype)
    params = zp.choose_params(x, axis=1)
    stats = zp.error_stats(x, params)
    assert stats.few_codes == few_codes_by_definition(x, params)
    assert stats.few_codes > 200 or n == 3
    assert zp.error_stats(x.T, zp.choose_params(x.T, axis=0)).few_codes == stats.few_codes


def test_channels_of_few_codes_are_glanced_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether many values share a few codes is seen from some of them."""
    sorted_elements = 0
    sort = np.sort

    def counted(x: np.ndarray, *args: object, **keywords: object) -> np.ndarray:
        nonlocal sorted_elements
        sorted_elements += x.size
        return sort(x, *args, **keywords)

    x = np.random.default_rng(3).normal(size=(4096, 30)).astype(np.float32)
    x[:, ::3] = 1
    x[:, 1::3] = np.random.default_rng(3).integers(1, 4, size=(4096, 10))
    x[0, 2::3] = 1e4
    params = zp.choose_params(x, axis=1)
    monkeypatch.setattr(np, "sort", counted)
    assert zp.error_stats(x, params).few_codes == 10
    assert sorted_elements < x.size / 4


# ---------------------------------------------------------------------------------------------
# NaN left out; parameters of either kind


def holey(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    x = (rng.normal(size=shape) + 2).astype(dtype)
    x[rng.random(shape) < 0.1] = 0
    x[rng.random(shape) < 0.3] = np.nan
    return x


def every_kind(x: np.ndarray, axis: int | None, block: int | None) -> list[zp._params.Params]:
    how = {"axis": axis, "block_size": block, "skip_nan": True}
    found = [zp.choose_params(x, convention=name, **how) for name in zp.OFFSET_CONVENTIONS]
    return [
        *(zp.choose_params(x, "int8", **how), zp.choose_params(x, nan_code=0, **how)),
        *(zp.choose_params(x, nan_code=255, convention="cf", **how), *found),
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("axis", "block"), [(None, None), (0, None), (1, None), (1, 16)])
def test_error_stats_without_nan(
    backend: str, axis: int | None, block: int | None, dtype: type
) -> None:
    """The figures of the other elements, each with its own parameters, to the bit."""
    rng = np.random.default_rng(4)
    x = holey(rng, (40, 90), dtype)
    there = ~np.isnan(x)
    for params in every_kind(x, axis, block):
        found = zp.error_stats(x, params, skip_nan=True)
        layout = params._check_fits(x.shape)
        numbers = [np.broadcast_to(a, x.shape)[there] for a in params._spread(layout)]
        if axis is not None:
            one_each = params._recipe() | {"axis": 0, "block_size": None}
            params = params._made(*numbers, one_each)
        want = zp.error_stats(x[there], params)
        for name in ("max_abs_error", "mean_abs_error", "mse", "sqnr_db", "cosine", "saturated"):
            assert getattr(found, name) == getattr(want, name), (params, name)
        assert found.codes_used == want.codes_used
        assert found.channels == (1 if axis is None else x.shape[axis])
        with pytest.raises(ValueError, match="x has .* NaN or Inf"):
            zp.error_stats(x, zp.choose_params(x, skip_nan=True))


def test_codes_of_channels_without_nan(backend: str) -> None:
    """A channel's codes are counted without its NaN, which are not its most frequent code."""
    x = np.tile(np.arange(100, dtype=np.float32), (3, 1))
    x[1, 10:], x[2] = np.nan, np.nan
    params = zp.QuantParams([1.0] * 3, [0] * 3, axis=0, nan_code=255)
    stats = zp.error_stats(x, params, skip_nan=True)
    assert (stats.codes_used, stats.codes_of_most, stats.few_codes) == (100, 9, 0)
    assert (stats.mse, stats.saturated, stats.cosine) == (0, 0, 1)


@pytest.mark.parametrize("axis", [None, 0])
def test_nothing_but_nan(backend: str, axis: int | None) -> None:
    x = np.full((2, 3), np.nan, np.float32)
    params = zp.QuantParams(1.0, 0) if axis is None else zp.QuantParams([1.0] * 2, 0, axis=0)
    with pytest.raises(ValueError, match="no data"):
        zp.error_stats(x, params, skip_nan=True)
    with pytest.raises(ValueError, match="no data"):
        zp.compare(x, axis=axis, skip_nan=True)
    x[0, 0], x[1, 1] = np.inf, 1
    for call in (
        lambda: zp.error_stats(x, params, skip_nan=True),
        lambda: zp.compare(x, axis=axis, skip_nan=True),
    ):
        with pytest.raises(ValueError, match=r"x has 1 Inf of 6 elements, .* at index \(0, 0\)"):
            call()
    with pytest.raises(TypeError, match="skip_nan must be True or False"):
        zp.error_stats(x, params, skip_nan=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="skip_nan must be True or False"):
        zp.compare(x, skip_nan="yes")  # type: ignore[arg-type]


def test_compare_without_nan(backend: str) -> None:
    rng = np.random.default_rng(5)
    x = holey(rng, (30, 2000), np.float32)
    x[3, 7] = 1e4  # so that ranges that clip are tried
    found = zp.compare(x.ravel(), skip_nan=True)
    assert found.to_dict() == zp.compare(x[~np.isnan(x)]).to_dict()
    assert any(row.method == "percentile" for row in found.rows)
    by_row = zp.compare(x, axis=0, skip_nan=True)
    for row in by_row.rows:
        assert row.stats == zp.error_stats(x, row.params, skip_nan=True)
    assert by_row.rows[0].params == zp.choose_params(
        x, axis=0, skip_nan=True, zero_point_from=by_row.rows[0].rule
    )


@pytest.mark.parametrize("convention", list(zp.OFFSET_CONVENTIONS))
def test_error_stats_of_real_offsets_by_hand(backend: str, convention: str) -> None:
    """Steps of 0.5 from 10 on; the embedding conventions mean the middle of a step."""
    x = np.array([10, 10.25, 10.5, 137.5, 200, 9], np.float32)
    if convention == "cf":
        params, errors = zp.OffsetParams(0.5, 10.0), [0, 0.25, 0, 0, 62.5, 1]
    else:
        params = zp.OffsetParams(None, 10.0, span=127.5, convention=convention)
        errors = [0.25, 0, 0.25, 0.25, 62.25, 1.25]
    stats = zp.error_stats(x, params)
    assert stats.max_abs_error == max(errors)
    assert stats.mean_abs_error == np.mean(errors)
    assert stats.mse == np.mean(np.square(errors))
    # 137.5 is the end of the range, which no convention clips
    assert (stats.saturated, stats.codes_used) == (2, 3)


def test_values_beyond_float32_of_float32_data() -> None:
    """No square overflows where the parameters are float64."""
    x = np.array([1, 2, 3], np.float32)
    params = zp.OffsetParams(np.float64(1e200), np.float64(1e200))
    stats = zp.error_stats(x, params)
    assert stats.max_abs_error == 1e200
    assert stats.sqnr_db < -3000


def test_nothing_is_saturated_where_all_data_are_equal(backend: str) -> None:
    """Under faiss a span of 0 gives every number code 0, even where x - offset overflows."""
    spans, offsets = np.float32([0, 4e33]), np.float32([-2.3e33, -2e33])
    params = zp.OffsetParams(None, offsets, span=spans, axis=0, convention="faiss")
    x = np.float32([[3.4028234e38, -3.4028234e38, 0], [0, 1e33, 1.9e33]])
    assert zp.error_stats(x, params).saturated == 0
    alone = zp.OffsetParams(None, offsets[0], span=spans[0], convention="faiss")
    assert zp.error_stats(x[0], alone).saturated == 0
