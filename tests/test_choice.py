"""The choice of parameters in the core against the reference: every rule, range and convention."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _reference
from zeropoint._choice import Choice

RNG = np.random.default_rng(13)
RANGES = [("uint8", 0, 255), ("uint8", 1, 255), ("int8", -128, 127), ("int8", -127, 100)]
RANGES += [("int8", -128, 99), ("uint8", 7, 22)]


def ends(steps: int, real: type) -> np.ndarray:
    """Rows of a minimum and a maximum: halves, ordinary, tiny, subnormal, huge."""
    halves = np.arange(-2, steps + 3) + 0.5  # a scale of 1, and zero points half way
    rows = [np.stack([-halves, steps - halves], axis=1)]
    info = np.finfo(real)
    units = [1.0, 1e-6, float(info.smallest_normal), float(info.smallest_subnormal) * 50]
    for unit in units:
        rows.append(RNG.normal(size=(100, 2)) * unit * 30)
        rows.append(np.abs(RNG.normal(size=(20, 2))) * unit + unit * 100)
    rows.append(RNG.uniform(-1, 1, (200, 2)) * float(info.max))
    return np.sort(np.concatenate(rows).astype(real), axis=1)


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize(("dtype", "qmin", "qmax"), RANGES)
def test_rules(isa: str, dtype: str, qmin: int, qmax: int, convention: str, real: type) -> None:
    """`verify` compares the bits of scale and zero point."""
    x = ends(qmax - qmin, real)
    if convention in _reference.BY_RECIPROCAL:
        x = x[np.abs(x).max(axis=1) > 1e-30]  # 1 / scale must be finite
    for rule in (None, "max", "min", "least_error"):
        zp.choose_params(
            x, dtype, zero_point_from=rule, qmin=qmin, qmax=qmax, axis=0, convention=convention
        )


def hard_ranges(real: type) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of numbers: at and near the ends of the format, NaN and Inf, and any bits."""
    info = np.finfo(real)
    units = [info.smallest_subnormal, info.smallest_normal, info.max, real(1)]
    numbers = [factor * unit for unit in units for factor in (1, 3, 0.5, 127.5, 1 / 300)]
    numbers = [*numbers, 1e-6, 0, np.inf, np.nan]
    hard = np.unique(np.array([*numbers, *(-number for number in numbers)], real))
    bits = np.frombuffer(RNG.bytes(800 * hard.itemsize), real).reshape(2, -1)
    pairs = np.stack([pair.ravel() for pair in np.meshgrid(hard, hard)])
    near = [RNG.uniform(-1, 1, (2, 300)) * unit for unit in (info.max, info.smallest_normal * 99)]
    low, high = np.concatenate([pairs, bits, *near], axis=1, dtype=real)
    ordered = ~(low > high)
    return low[ordered], high[ordered]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize(("qmin", "qmax"), [(0, 255), (-128, 127), (-127, 127), (3, 4), (-7, -2)])
def test_hard_ranges(qmin: int, qmax: int, convention: str, real: type) -> None:
    """The bits of the reference wherever that gives valid parameters, and none anywhere else."""
    core = pytest.importorskip("zeropoint._core")
    low, high = hard_ranges(real)
    hows = [(rule, True, False) for rule in (None, "max", "min", "least_error")]
    if qmax - qmin > 1:
        hows += [(None, True, True)]
    if convention == "numpy":
        hows += [(rule, False, False) for rule in (None, "max", "least_error")]
    for rule, include_zero, symmetric in hows:
        dtype = np.dtype(np.int8 if qmin < 0 else np.uint8)
        choice = Choice(
            dtype,
            zero_point_from=rule,
            include_zero=include_zero,
            symmetric=symmetric,
            qmin=qmin,
            qmax=qmax,
            convention=convention,
        )
        finite = np.isfinite(low) & np.isfinite(high)
        scale, zero = np.full((2, low.size), np.nan)
        scale[finite], zero[finite] = _reference.choose(
            low[finite], high[finite], **choice.keywords
        )
        valid = np.isfinite(scale) & (zero >= -(2.0**31)) & (zero < 2.0**31)
        valid &= include_zero | (low != high)
        if convention in _reference.BY_RECIPROCAL:
            valid &= np.isfinite(1 / scale.astype(real))
        found = core.choose(low[valid], high[valid], choice.native)
        assert found[0].tobytes() == scale[valid].astype(real).tobytes()
        assert found[1].tobytes() == zero[valid].astype(np.int32).tobytes()
        for i in np.flatnonzero(~valid)[:: 1 + low.size // 50]:
            assert core.choose(low[i : i + 1], high[i : i + 1], choice.native) is None, (
                low[i],
                high[i],
            )
        assert 0 < valid.sum() < valid.size


@pytest.mark.parametrize("qmin", [-128, -127, -5])
@pytest.mark.parametrize("qmax", [-2, 0, 99, 127])
def test_symmetric(isa: str, qmin: int, qmax: int) -> None:
    x = ends(255, np.float32)
    params = zp.choose_params(x, "int8", symmetric=True, qmin=qmin, qmax=qmax, axis=0)
    assert (params.zero_point == (qmin + qmax + 1) // 2).all()


def test_the_multiplier_of_requantize_is_rounded_once() -> None:
    acc_scale = RNG.uniform(1e-5, 1e-3, 300)
    for scale in (np.float32(0.3), np.float64(0.3)):
        params = zp.QuantParams(np.full(300, scale), 0, axis=0)
        expected = (acc_scale / np.asarray(params.scale, np.float64)).astype(np.float32)
        assert zp._api._multiplier(acc_scale, params).tobytes() == expected.tobytes()


@pytest.mark.parametrize("how", [{"symmetric": True}, {"zero_point_from": "max"}, {"axis": 0}])
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("convention", zp._reference.BY_RECIPROCAL)
def test_some_conventions_need_one_over_the_scale(
    backend: str, convention: str, real: type, how: dict[str, Any]
) -> None:
    """Parameters that `QuantParams` would refuse are not chosen on any path either."""
    x = np.array([0, 70, 40], real) * np.finfo(real).smallest_subnormal
    how = {"zero_point_from": "min"} | how if "symmetric" not in how else how
    x = x.reshape(1, -1) if "axis" in how else x
    for choose in (zp.choose_params, zp.quantize_dynamic):
        assert choose(x, convention="onnx", **how)
        with pytest.raises(ValueError, match=f"1/scale must be finite under the {convention} "):
            choose(x, convention=convention, **how)


@pytest.mark.parametrize(
    ("real", "low", "high", "zero_point"),
    [
        ("float64", -2147483647, -2147483392, 2147483647),
        ("float64", -2147483648, -2147483393, None),
        ("float64", 2147483648, 2147483903, -2147483648),
        ("float64", 2147483649, 2147483904, None),
        ("float32", -8421504, -8421503, 2147483392),
        ("float32", -8421505, -8421504, None),  # the zero point would be 2^31
        ("float32", 8421505, 8421506, -2147483648),
        ("float32", 8421506, 8421507, None),
    ],
)
def test_zero_points_at_the_ends_of_int32(
    backend: str, real: str, low: float, high: float, zero_point: int | None
) -> None:
    x = np.array([low, high], real)
    if zero_point is None:
        with pytest.raises(ValueError, match="beyond int32"):
            zp.choose_params(x, zero_point_from="min", include_zero=False)
    else:
        params = zp.choose_params(x, zero_point_from="min", include_zero=False)
        assert params.zero_point == zero_point


class Count:
    """An integer whose value may change, as that of a tensor of torch."""

    value = 0

    def __index__(self) -> int:
        return self.value


def test_what_may_change_is_not_remembered() -> None:
    count = Count()
    for count.value in (0, 5):
        qmin: Any = count
        assert zp.choose_params([-1.0, 2.0], qmin=qmin).qmin == count.value
        assert zp.MinMaxObserver().update([-1.0, 2.0]).params(qmin=qmin).qmin == count.value


# ---------------------------------------------------------------------------------------------
# Real offsets: `cf`


def rounds(number: Fraction, real: Any) -> Any:
    """A fraction to the nearest number of `real`, halves to even."""
    if real is np.float64:
        return np.float64(number.numerator / number.denominator)  # Python rounds it so
    near = np.float32(number.numerator / number.denominator)
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    even = {float(x): int(x.view(np.uint32)) % 2 for x in around}
    return min(around, key=lambda x: (abs(Fraction(float(x)) - number), even[float(x)]))


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize(("dtype", "qmin", "qmax"), RANGES)
def test_cf_by_exact_fractions(dtype: str, qmin: int, qmax: int, real: Any) -> None:
    """Ordinary ranges: the literal formula, each operation rounded."""
    for low, high in RNG.normal(size=(60, 2)).cumsum(axis=1).astype(real):
        low, high = sorted((low, high))
        exact = Fraction(float(low)), Fraction(float(high))
        span = rounds(exact[1] - exact[0], real)
        scale = rounds(Fraction(float(span)) / (qmax - qmin), real)
        product = rounds(qmin * Fraction(float(scale)), real)
        offset = rounds(exact[0] - Fraction(float(product)), real)
        x = np.array([low, high])
        params = zp.choose_params(x, dtype, qmin=qmin, qmax=qmax, convention="cf")
        assert (params.scale, params.offset) == (scale, offset)
        assert type(params.scale) is type(params.offset) is real


def test_cf_by_hand() -> None:
    def chosen(*x: float, dtype: str = "uint8", **keywords: Any) -> tuple[float, float]:
        params = zp.choose_params(np.float32(x), dtype, convention="cf", **keywords)
        return float(params.scale), float(params.offset)

    assert chosen(10, 265) == (1, 10)
    assert chosen(10, 265, dtype="int8") == (1, 138)
    assert chosen(10, 264, nan_code=255) == (1, 10)
    assert chosen(10, 264, nan_code=0) == (1, 9)
    assert chosen(-1, -0.5, qmin=1, qmax=2) == (0.5, -1.5)
    # constant: a step of 1, and the code nearest to 0
    assert chosen(7, 7) == (1, 7)
    assert chosen(7, 7, dtype="int8") == (1, 7)
    assert chosen(7, 7, nan_code=0) == (1, 6)
    assert chosen(0, 0, nan_code=0) == (1, -1)
    tenth = float(np.float32(0.1))  # which 1 + (0.1 - 1) is not
    assert chosen(0.1, 0.1, nan_code=0) == (tenth, 0)
    # Numbers from 2^24 on are 2 apart.  For int8 and 22 of them, of step 22 / 255, the offset is
    # 11.04 above and stored as 12, from where the first is code -139.1.  With 2 more on either side
    # the step is 26 / 255, the offset 11.05 and again 12, and the ends have codes -118 and 98.
    start, step = 2.0**24, float(np.float32(26 / 255))
    assert chosen(start, start + 22, dtype="int8") == (step, start + 12)
    params = zp.choose_params(np.float32([start, start + 22]), "int8", convention="cf")
    assert params.quantize(np.float32([start, start + 22])).tolist() == [-118, 98]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize(("qmin", "qmax"), [(0, 255), (1, 255), (-128, 127), (-127, 127), (3, 9)])
def test_cf_keeps_the_ends(qmin: int, qmax: int, real: Any) -> None:
    """However the offset is rounded, no end gets a code beyond, and constants come back."""
    low, high = hard_ranges(real)
    fits = np.isfinite(low) & np.isfinite(high - low)
    low, high = low[fits], high[fits]
    many = RNG.integers(1, 2000, low.size)
    near = low + (np.spacing(np.abs(low)) * many).astype(real)
    fits = np.isfinite(near)
    low, high = np.concatenate([low, low[fits]]), np.concatenate([high, near[fits]])
    how = {"qmin": qmin, "qmax": qmax, "convention": "cf"}
    scale, offset = _reference.choose_by_offset(low, high, **how)
    assert scale.dtype == offset.dtype == real
    assert (scale > 0).all()
    known = np.isfinite(offset)
    assert qmin != 0 or known.all()
    for end in low, high:
        codes = np.rint((end - offset) / scale)[known & (low < high)]
        assert ((codes >= qmin) & (codes <= qmax)).all()
    literal = (low - qmin * _reference.step(low, high, qmax - qmin, low.dtype)) == offset
    assert qmin != 0 or literal[low < high].all()  # an offset that is not rounded changes nothing
    constant = np.unique(low)
    scale, offset = _reference.choose_by_offset(constant, constant, **how)
    codes = np.clip(np.rint((constant - offset) / scale), qmin, qmax).astype(real)
    np.testing.assert_array_equal(codes * scale + offset, constant)


def test_an_offset_beyond_the_dtype() -> None:
    x = np.float32([-3.4e38, 0])
    with pytest.raises(ValueError, match=r"too far from 0: min - 1 \* scale is beyond float32"):
        zp.choose_params(x, convention="cf", nan_code=0)
    assert zp.choose_params(x, convention="cf").offset == x[0]
