"""The reference against exact arithmetic: every formula redone in Fractions, rounded by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeropoint as zp
from zeropoint import _reference

from . import exact

CONVENTIONS = tuple(zp.CONVENTIONS)
scales = st.floats(min_value=2.0**-140, max_value=2.0**120, width=32)
reals = st.floats(width=32, allow_nan=False, allow_infinity=False)


def codes_of(x: Any, s: Any, z: int, convention: str, qmin: int, qmax: int) -> list[int]:
    with zp.use_backend("reference"):
        dtype = "int8" if qmin < 0 else "uint8"
        return zp.QuantParams(s, z, dtype, convention=convention).quantize(x).tolist()


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from(CONVENTIONS), scales, st.integers(-128, 127), reals)
def test_quantize_anywhere(convention: str, s: float, z: int, x: float) -> None:
    if convention in zp._reference.BY_RECIPROCAL and s < 2.0**-126:
        s += 2.0**-126
    values = np.array([x], np.float32)
    want = exact.code(values[0], np.float32(s), z, -128, 127, convention, "float32")
    assert codes_of(values, np.float32(s), z, convention, -128, 127) == [want]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_quantize_at_half_steps(convention: str, real: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(12):
        s = real(np.exp(rng.uniform(np.log(1e-6), np.log(1e3))))
        z = int(rng.integers(0, 256))
        x = exact.half_steps(rng.integers(-z - 2, 258 - z, 40), s, real)
        want = [exact.code(v, s, z, 0, 255, convention, np.dtype(real).name) for v in x]
        assert codes_of(x, s, z, convention, 0, 255) == want


@pytest.mark.slow("thousands of exact fractions")
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dequantize(precision: str, dtype: str) -> None:
    target = np.dtype(
        getattr(pytest.importorskip("ml_dtypes"), dtype) if dtype == "bfloat16" else dtype
    )
    rng = np.random.default_rng(2)
    q = np.arange(256, dtype=np.uint8)
    for i in range(40):
        s = np.dtype(precision).type(np.exp(rng.uniform(-100 if i % 4 == 0 else -9, 7)))
        z = int(rng.integers(0, 256))
        with zp.use_backend("reference"):
            x = zp.QuantParams(s, z).dequantize(q, dtype=target)
        want = [exact.value(int(code), s, z, precision, dtype) for code in q]
        assert [exact.as_fraction(v) for v in x] == want


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_narrow(dtype: str, real: Any) -> None:
    target = np.dtype(
        getattr(pytest.importorskip("ml_dtypes"), dtype) if dtype == "bfloat16" else dtype
    )
    rng = np.random.default_rng(3)
    every = np.arange(0, 1 << 16, 97, dtype=np.uint16).view(target)
    every = every[np.isfinite(_reference.widen(every))].astype(real)
    halves = every[1:] / 2 + every[:-1] / 2
    tiny = rng.normal(size=200).astype(real) * real(2.0**-14)
    x = np.concatenate(
        [exact.neighbours(every[::4], real), exact.neighbours(halves[::4], real), tiny]
    )
    with np.errstate(over="ignore"):
        got = _reference.narrow(x, target)
    want = [exact.rounded(Fraction(float(v)), dtype) for v in x]
    assert [exact.as_fraction(v) for v in got] == want


# ---- real offsets ------------------------------------------------------------------------------

OFFSETS = tuple(zp.OFFSET_CONVENTIONS)
widths = st.one_of(st.just(0.0), st.floats(min_value=0, max_value=2.0**120, width=32), scales)


def offset_params(convention: str, width: Any, offset: Any, **rest: Any) -> zp.OffsetParams:
    if convention == "cf":
        return zp.OffsetParams(width, offset, **rest)
    return zp.OffsetParams(None, offset, span=width, convention=convention, **rest)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(OFFSETS), widths, reals, reals, st.sampled_from(["float32", "float64"]))
def test_offset_codes_anywhere(convention: str, w: float, o: float, x: float, real: str) -> None:
    width, offset, value = (np.dtype(real).type(each) for each in (w, o, x))
    if convention == "cf" and width == 0:
        return
    params = offset_params(convention, width, offset, dtype="int8", qmin=-100, qmax=90)
    with zp.use_backend("reference"):
        code = int(params.quantize(np.array([value]))[0])
    assert code == exact.offset_code(value, width, offset, -100, 90, convention, real)


@pytest.mark.parametrize("convention", OFFSETS)
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(("dtype", "qmin", "qmax"), [("uint8", 0, 255), ("int8", -128, 101)])
def test_offset_codes_where_they_change(
    convention: str, real: str, dtype: str, qmin: int, qmax: int
) -> None:
    """At whole and half steps and beside them; offsets that are small and large beside a step."""
    rng = np.random.default_rng(5)
    one = np.dtype(real).type
    for far in (0, 1, 300, 1e5):
        s = np.exp(rng.uniform(np.log(1e-6), np.log(1e3)))
        offset = one(rng.normal() * s * far)
        width = one(s if convention == "cf" else s * (qmax - qmin))
        params = offset_params(convention, width, offset, dtype=dtype, qmin=qmin, qmax=qmax)
        first = 0 if convention == "cf" else qmin
        steps = np.arange(qmin - 3, qmax + 4, 3) - first
        x = exact.neighbours(np.concatenate([steps, steps + 0.5]) * s + np.float64(offset), one)
        want = [exact.offset_code(v, width, offset, qmin, qmax, convention, real) for v in x]
        with zp.use_backend("reference"):
            assert params.quantize(x).tolist() == want


@pytest.mark.parametrize("convention", OFFSETS)
@pytest.mark.parametrize(("of_params", "of_data"), [("float32", "float64"), ("float64", "float32")])
def test_offset_codes_take_the_wider_precision(
    convention: str, of_params: str, of_data: str
) -> None:
    rng = np.random.default_rng(6)
    width, offset = (np.dtype(of_params).type(v) for v in (0.37, -1.7))
    params = offset_params(convention, width, offset)
    span = 0.37 * (255 if convention == "cf" else 1)
    halves = rng.integers(0, 511, 300) / 510 * span - 1.7
    x = exact.neighbours(halves, np.dtype(of_data).type)
    how = convention, "float64", of_params
    want = [exact.offset_code(v, width, offset, 0, 255, *how) for v in x]
    with zp.use_backend("reference"):
        assert params.quantize(x).tolist() == want


@pytest.mark.slow("thousands of exact fractions")
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_offset_values(precision: str, dtype: str) -> None:
    target = np.dtype(
        getattr(pytest.importorskip("ml_dtypes"), dtype) if dtype == "bfloat16" else dtype
    )
    rng = np.random.default_rng(7)
    for i, convention in enumerate(OFFSETS * 12):
        one = np.dtype(precision).type
        s = np.exp(rng.uniform(-100 if i % 4 == 0 else -9, 7))
        width = one(s if convention == "cf" else s * 255)
        # in half of the cases near to what it cancels
        offset = one(-rng.integers(0, 256) * s if i % 2 else rng.normal() * s * 100)
        fused = bool(i // 3 % 2) if convention == "faiss" and precision == "float32" else None
        qmin, code = (0, "uint8") if i % 5 else (-128, "int8")
        params = offset_params(convention, width, offset, dtype=code, fused=fused)
        q = np.arange(qmin, qmin + 256).astype(code)
        with zp.use_backend("reference"):
            x = params.dequantize(q, dtype=target)
        how = convention, precision, dtype, bool(fused)
        want = [exact.offset_value(int(c), width, offset, qmin, qmin + 255, *how) for c in q]
        assert [exact.as_fraction(v) for v in x] == want


def test_requantize() -> None:
    rng = np.random.default_rng(4)
    acc = rng.integers(-(2**31), 2**31, 500).astype(np.int32)
    for scale, acc_scale in [(0.02, 1e-9), (0.1, 3e-10), (1.0, 7e-8)]:
        params = zp.QuantParams(scale, 7, "int8")
        multiplier = np.float32(np.float64(acc_scale) / np.float64(np.float32(scale)))
        want = []
        for a in acc:
            product = exact.rounded(
                exact.rounded(Fraction(int(a)), "float32") * Fraction(float(multiplier)), "float32"
            )
            want.append(min(max(exact.half_even(product) + 7, -128), 127))
        with zp.use_backend("reference"):
            assert zp.requantize(acc, acc_scale, params).tolist() == want


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_round(x: float) -> None:
    value = np.array([x], np.float32)
    for ties, rule in (("even", exact.half_even), ("away", exact.half_away)):
        got = _reference.round(value, ties)
        assert Fraction(float(got[0])) == rule(Fraction(x))
        assert np.signbit(got[0]) == np.signbit(value[0])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.fractions(min_value=Fraction(1, 2**160), max_value=Fraction(2**127)))
def test_smallest_at_least(quotient: Fraction) -> None:
    found = _reference.smallest_at_least(quotient, np.dtype(np.float32))
    assert Fraction(float(found)) >= quotient
    assert Fraction(float(np.nextafter(found, np.float32(0)))) < quotient


def test_smallest_at_least_beyond_the_largest() -> None:
    assert _reference.smallest_at_least(Fraction(2**128), np.dtype(np.float32)) == np.inf
    assert _reference.smallest_at_least(Fraction(2**1024), np.dtype(np.float64)) == np.inf


@pytest.mark.parametrize(
    ("real", "bits", "nan"),
    [
        ("float16", np.uint16, 0x7C01),
        ("float16", np.uint16, 0xFE00),
        ("float32", np.uint32, 0x7F800001),
        ("float32", np.uint32, 0xFFC12345),
        ("float64", np.uint64, 0x7FF0000000000001),
    ],
)
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("block", [None, 4])
def test_min_max_passes_over_nan_of_any_payload(
    real: str, bits: Any, nan: int, axis: int | None, block: int | None
) -> None:
    """Of a signalling NaN and a number, NumPy's fmin makes a NaN."""
    if block is not None and axis is None:
        pytest.skip("blocks have an axis")
    for place in range(8):
        x = np.arange(1, 9).astype(real)
        x.view(bits)[place] = nan
        rest = np.delete(x, place)
        if axis is None:
            want: Any = (rest.min(), rest.max())
        elif block is None:
            want = x.copy(), x.copy()
            want[0][place], want[1][place] = np.inf, -np.inf
        else:
            halves = [half[np.isfinite(half)] for half in (x[:4], x[4:])]
            want = [half.min() for half in halves], [half.max() for half in halves]
        found = _reference.min_max(x, axis, block, skip_nan=True)
        np.testing.assert_array_equal(np.stack(found), np.stack([*map(np.asarray, want)]))
        x[(place + 1) % 8] = np.inf
        assert _reference.min_max(x, None, None, skip_nan=True)[1] == np.inf
