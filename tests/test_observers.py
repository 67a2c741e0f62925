"""Observers: what they have seen is all that counts, and the ranges that they choose are good."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import threading
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeropoint as zp
from bench import calibration
from zeropoint import _clipping, _reference, observers
from zeropoint._clipping import Histograms, Levels
from zeropoint._reference import BINS

from .exact import neighbours

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = [zp.MinMaxObserver, zp.HistogramObserver]
REALS = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
RNG = np.random.default_rng(11)


def table(observer: zp.HistogramObserver) -> Array:
    return np.ascontiguousarray(observer._table)


# ---------------------------------------------------------------------------------------------
# Bins


def test_a_histogram_by_hand(backend: str) -> None:
    """[-1, 2] spans 3075 bins of 2**-10, and more than 4096 half as wide."""
    observer = zp.HistogramObserver().update(np.array([0, 1, 2, -1, -0.0, 1.0005], np.float32))
    assert observer.to_dict() == {
        "observer": "HistogramObserver",
        "axis": None,
        "skip_nan": False,
        "precision": "float32",
        "min": -1.0,
        "max": 2.0,
        "exponent": -10,
        # -1 in bin -1025, the zeros in bin 0, 1 and 1.0005 in bin 1025, 2 in bin 2049
        "counts": [1, -1024, 2, -1024, 2, -1023, 1],
    }
    # 3 in bin 3073; 4098 bins are too many, so all join in pairs
    observer.update([3.0, -1.0])
    fields = observer.to_dict()
    assert (fields["exponent"], fields["precision"]) == (-9, "float64")
    assert fields["counts"] == [2, -512, 2, -512, 2, -511, 1, -511, 1]


@pytest.mark.parametrize(
    ("x", "number"),
    [
        *((0.0, 0), (-0.0, 0), (0.25, 1), (0.5, 2), (0.75, 2), (1.0, 3)),
        *((-0.25, -1), (-0.5, -2), (-0.75, -2), (-1.0, -3), (1e-45, 1), (-1e-45, -1)),
    ],
)
def test_bins_of_a_half(x: float, number: int) -> None:
    assert _reference.bin_number(np.float32(x), np.int64(-1)) == number


def exact_bin(x: Any, exponent: int) -> int:
    value = Fraction(float(x)) / Fraction(2) ** exponent
    return (math.floor(abs(value)) + 1) * ((value > 0) - (value < 0))


HARD = np.array(
    [
        *(0.0, -0.0, 1.0, 0.1, 3.4028233e38, -3.4028233e38, 1e30, 1.5, 65504.0),
        *(1.1754944e-38, 1e-40, 1e-45, -1e-45, 2.0**-126, 2.0**-125, 2.0**-100, -(2.0**-90)),
    ],
    np.float32,
)
HARD = neighbours(HARD)


@pytest.mark.parametrize("exponent", [-126, -125, -100, -11, 0, 3, 100, 116])
def test_bins_against_fractions(backend: str, exponent: int) -> None:
    """Every float that is hard, in all channels by itself: the range is its own or wider."""
    with np.errstate(over="ignore"):
        x = neighbours(np.ldexp(np.float32(1), exponent) * np.arange(-5, 6, dtype=np.float32))
    x = np.concatenate([x, HARD])
    x = x[np.abs(x.astype(np.float64)) < 2.0 ** (exponent + 11)]
    for dtype in (np.float32, np.float64):
        low, high, counts = zp._backend.histogram(x.astype(dtype), None, np.array([exponent]))
        assert (low, high) == (x.min(), x.max())
        expected = np.zeros(BINS, np.int64)
        for value in x:
            expected[exact_bin(value, exponent) % BINS] += 1
        assert counts[0, 0] == exponent
        assert counts[0, 1:].tolist() == expected.tolist()


def test_float64_bins_against_fractions(backend: str) -> None:
    largest = np.finfo(np.float64).max
    for scale in (1e-300, 5e-324, 1e-37, 1.0, 1e300, largest / 8):
        x = RNG.uniform(-2, 6, 300) * scale
        observer = zp.HistogramObserver().update(x)
        exponent = observer.to_dict()["exponent"]
        expected = np.zeros(BINS, np.int64)
        for value in x:
            expected[exact_bin(value, exponent) % BINS] += 1
        assert table(observer)[0, 1:].tolist() == expected.tolist()
    fields = zp.HistogramObserver().update([-largest, largest]).to_dict()
    assert (fields["exponent"], fields["counts"]) == (1014, [1, -2047, 1])


def least_exponent(low: float, high: float) -> int:
    """The definition: one by one."""
    magnitude = max(Fraction(abs(low)), Fraction(abs(high)))
    k = -126
    while exact_bin(high, k) - exact_bin(low, k) >= BINS or magnitude >= Fraction(2) ** (k + 24):
        k += 1
    return k


FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(deadline=None)
@given(st.tuples(FLOATS, FLOATS) | st.tuples(*2 * [st.floats(-1e300, 1e300)]))
def test_exponents_are_the_least(ends: tuple[float, float]) -> None:
    low, high = sorted(ends)
    assert observers._exponents(low, high).tolist() == [least_exponent(low, high)]


@settings(deadline=None)
@given(st.integers(-(2**24), 2**24), st.integers(0, 30))
def test_joined_bins(number: int, doublings: int) -> None:
    """The bin of a value when bins are wide is the joined bin of the value when they are narrow."""
    joined = _reference.joined_bin(np.array([number]), np.array([doublings]))[0]
    for inside in (Fraction(1, 7), Fraction(6, 7)):
        value = 0 if number == 0 else math.copysign(1, number) * (abs(number) - 1 + float(inside))
        assert joined == exact_bin(value, doublings)


# ---------------------------------------------------------------------------------------------
# Associative and commutative, to the bit

ALL_PARAMS: list[dict[str, Any]] = [
    {},
    {"symmetric": True, "convention": "onnx"},
    {"zero_point_from": "max", "qmin": 3, "qmax": 90},
]


def params_of_range(observer: Any, dtype: str = "uint8", **keywords: Any) -> zp.QuantParams:
    if isinstance(observer, zp.HistogramObserver):
        keywords["method"] = "minmax"
    return observer.params(dtype, **keywords)


def all_params(observer: Any) -> list[zp.QuantParams]:
    found = [observer.params(**keywords) for keywords in ALL_PARAMS]
    if isinstance(observer, zp.HistogramObserver):
        for method in observers.METHODS:
            found += [observer.params(method=method, symmetric=s) for s in (False, True)]
        found.append(observer.params(method="percentile", percentile=90))
    return found


def merged(parts: list[Any], draw: Callable[[int], int]) -> Any:
    """One observer of several, by merges in any order and nesting."""
    parts = list(parts)
    while len(parts) > 1:
        one = parts.pop(draw(len(parts)))
        two = parts.pop(draw(len(parts)))
        parts.append(one.merge(two))
    return parts[0]


@st.composite
def chunks(draw: Any) -> tuple[list[Array], int | None]:
    """Data in chunks, of which magnitude and dtype differ, and the channel axis."""
    axis = draw(st.sampled_from([None, 0, 1, -1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = []
    for _ in range(draw(st.integers(1, 6))):
        shape = [draw(st.integers(0, 40)), draw(st.integers(1, 9))]
        if axis is not None:
            shape[axis] = 3
        x = rng.standard_normal(shape) * 10.0 ** draw(st.integers(-4, 4))
        x *= rng.integers(0, 2, shape) if draw(st.booleans()) else 1
        found.append(x.astype(draw(st.sampled_from(REALS))))
    return found, axis


@pytest.mark.slow("many random streams")
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data(), given_pieces=chunks())
def test_any_order_and_nesting(
    kind: Any, data: Any, given_pieces: tuple[list[Array], int | None]
) -> None:
    parts, axis = given_pieces
    one = kind(axis=axis)
    for part in parts:
        one.update(part)

    def draw(n: int) -> int:
        return data.draw(st.integers(0, n - 1))

    smaller = [p for part in parts for p in np.array_split(part, 1 + draw(3), axis=axis == 0)]
    order = data.draw(st.permutations(range(len(smaller))))
    many = [kind(axis=axis).update(smaller[i]) for i in order] + [kind(axis=axis)]
    other = merged(many, draw)
    assert other == one
    assert other.to_dict() == one.to_dict()
    if sum(part.size for part in parts):
        assert all_params(other) == all_params(one)
        wide = np.float64 if any(p.dtype == np.float64 and p.size for p in parts) else np.float32
        if axis is None:
            whole = np.concatenate([part.astype(wide).ravel() for part in parts])
        else:
            whole = np.concatenate(
                [np.moveaxis(part, axis, 0).reshape(3, -1).astype(wide) for part in parts], axis=1
            )
        for keywords in ALL_PARAMS:
            same = zp.choose_params(whole, "int8", axis=axis and 0, **keywords)
            mine = params_of_range(one, "int8", **keywords)
            assert (mine.scale == same.scale).all()
            assert mine.scale.dtype == same.scale.dtype
            assert np.array_equal(mine.zero_point, same.zero_point)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_streams_whose_range_grows(backend: str, axis: int | None) -> None:
    x = np.sort(RNG.standard_t(1, 9000).astype(np.float32)).reshape(300, 30)
    x = np.concatenate([x[::2], x[1::2] * 1e-3])
    parts = np.split(x, 30, axis=1 if axis == 0 else 0)
    whole = zp.HistogramObserver(axis=axis).update(x)
    for order in (parts, parts[::-1], sorted(parts, key=np.max)):
        stream = zp.HistogramObserver(axis=axis)
        for part in order:
            stream.update(part)
        assert stream == whole


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_backends_agree(isa: str, dtype: np.dtype[Any], axis: int | None) -> None:
    """Under `verify`, in every layout: long and short runs, a channel a column, odd strides."""
    shapes = [(1, 1, 5), (3, 5, 70), (2, 3, 5000), (40, 3, 9), (1000, 9, 1), (2, 2, 33)]
    for shape in shapes:
        if axis is not None and shape[axis] > 100:
            continue  # a channel takes 32 KiB
        x = (RNG.standard_normal(shape) * 10.0 ** RNG.integers(-3, 3)).astype(dtype)
        x = np.where(RNG.integers(3, size=shape) == 0, dtype.type(0), x)
        for data in (x, x[::-1, :, ::-1], np.asfortranarray(x), np.repeat(x, 2, axis=2)[..., ::2]):
            counts = table(zp.HistogramObserver(axis=axis).update(data))[:, 1:]
            assert np.all(counts.sum(axis=1) * len(counts) == x.size)


@pytest.mark.slow("large arrays")
def test_parts_and_threads(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large data go in parts and to threads; a part whose range outgrows the bins is recounted."""
    x = RNG.standard_normal((60, 40, 500)).astype(np.float32)
    x *= np.geomspace(1e-3, 1e3, 60, dtype=np.float32)[:, None, None]
    one = {axis: zp.HistogramObserver(axis=axis).update(x) for axis in (None, 0, 1, 2)}
    for threads in (1, 2, 5):
        zp.set_num_threads(threads)
        for part in (1000, 1 << 18, 1 << 22):
            monkeypatch.setattr(observers, "_CHUNK", part)
            for axis in (None, 0, 1):
                assert zp.HistogramObserver(axis=axis).update(x) == one[axis]
    zp.set_num_threads(0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_count_overflows(isa: str, dtype: Any) -> None:
    """The core counts in 16 bits before it adds up."""
    zp.set_num_threads(1)
    for n in (255_999, 256_000, 256_001, 900_003):
        for value in (0, 1.5):
            counts = table(zp.HistogramObserver().update(np.full(n, value, dtype)))[0, 1:]
            assert np.max(counts) == np.sum(counts) == n
    zp.set_num_threads(0)


def test_observers_in_threads() -> None:
    """An observer each, merged in the end."""
    parts = np.split(RNG.standard_normal(80_000), 8)
    found = [zp.HistogramObserver() for _ in parts]
    threads = [
        threading.Thread(target=observer.update, args=(part,))
        for observer, part in zip(found, parts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert merged(found, lambda n: n // 2) == zp.HistogramObserver().update(np.concatenate(parts))


def test_the_exponent_of_one_channel_is_that_of_many() -> None:
    n = 20_000
    low, high = (np.ldexp(RNG.normal(size=n), RNG.integers(-300, 300, n)) for _ in range(2))
    low[::7], high[::11] = 0, 0
    close = low * (1 + RNG.integers(0, 3, n) * 2.0 ** -RNG.integers(1, 30, n))
    high = np.where(RNG.random(n) < 0.5, high, close)
    low[:3], high[:3] = [-1.7e308, 0, -5e-324], [1.7e308, 0, 5e-324]
    low, high = np.minimum(low, high), np.maximum(low, high)
    found = [observers._exponent(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True)]
    assert found == observers._exponents(low, high).tolist()


def test_verify_catches_a_wrong_histogram(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = _reference.bin_number
    monkeypatch.setattr(_reference, "bin_number", lambda x, k: right(x, k) + (x == 0.75))
    with pytest.raises(zp.VerificationError, match="histogram on .* differs"):
        zp.HistogramObserver().update(np.array([0.5, 0.75, 1], np.float32))


# ---------------------------------------------------------------------------------------------
# Data of every kind


@pytest.mark.parametrize("kind", KINDS)
def test_hard_data(backend: str, kind: Any) -> None:
    for x in (
        np.zeros(5, np.float32),
        np.array([-0.0], np.float32),
        np.array([1e-45, 3e-45], np.float32),
        np.array([-1e-40, 1e-42], np.float32),
        np.array([3.4028234e38, -3.4028234e38], np.float32),
        np.array([1e30, 1e-30], np.float32),
        np.array([2.0**k for k in range(-20, 20)], np.float32),
        np.full(7, 3.3, np.float32),
        np.float32(2.5),
        np.array([100, 100.001], np.float32),
        np.array([1e308, -1e308, 1e-308]),
        np.array([5e-324]),
        np.arange(1 << 16, dtype=np.uint16).view(np.float16)[:0x7C00],
    ):
        observer = kind().update(x)
        assert params_of_range(observer) == zp.choose_params(x)
        assert kind.from_dict(json.loads(json.dumps(observer.to_dict()))) == observer
        for params in all_params(observer):
            assert np.isfinite(params.scale)


def test_negated_data_have_the_mirrored_histogram() -> None:
    x = RNG.standard_normal(1000)
    fields = zp.HistogramObserver().update(x).to_dict()
    mirrored = zp.HistogramObserver().update(-x).to_dict()
    assert mirrored["counts"] == fields["counts"][::-1]
    assert mirrored["exponent"] == fields["exponent"]


def test_zero_is_positive() -> None:
    observer = zp.MinMaxObserver().update(np.array([-0.0], np.float32))
    assert not np.signbit(observer._range()).any()
    assert observer == zp.MinMaxObserver().update(np.zeros(1, np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_no_data(kind: Any) -> None:
    observer = kind(axis=1)
    assert observer.update(np.zeros((0, 3), np.float32)) is observer
    assert observer == kind(axis=1)
    assert "no data yet" in repr(observer)
    with pytest.raises(ValueError, match="the observer has seen no data; call update first"):
        observer.params()
    observer.update(np.ones((2, 5), np.float32))  # the empty array did not fix the channels
    assert observer.merge(kind(axis=1)) == kind(axis=1).merge(observer)
    assert "5 channels, min 1.0, max 1.0" in repr(observer)


@pytest.mark.parametrize("kind", KINDS)
def test_the_precision_is_the_widest(kind: Any) -> None:
    half, double = np.array([1.5], np.float16), np.array([-0.1])
    assert kind().update(half).params().scale.dtype == np.float32
    for pair in ([half, double], [double, half]):
        observer = kind()
        for x in pair:
            observer.update(x)
        assert params_of_range(observer) == zp.choose_params([-0.1, 1.5])
    assert kind().update(double[:0]).to_dict()["precision"] == "float32"


def test_axes_of_several_ranks() -> None:
    observer = zp.HistogramObserver(axis=-1)
    observer.update(np.ones((4, 3), np.float32)).update(np.ones((2, 5, 3), np.float32) * 2)
    assert table(observer)[:, 1:].sum(axis=1).tolist() == [14, 14, 14]
    params = observer.params(method="mse")
    assert params.axis == -1
    assert params.scale.shape == (3,)


# ---------------------------------------------------------------------------------------------
# Errors


@pytest.mark.parametrize("kind", KINDS)
def test_bad_data_change_nothing(backend: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "_CHUNK", 5)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    nonfinite = x.copy()
    nonfinite[2, 1], nonfinite[2, 3] = np.nan, np.inf
    for axis in (None, 0, 1):
        seen = [kind(axis=axis), kind(axis=axis).update(x / 100)]
        for observer in seen:
            before = copy.deepcopy(observer)
            with pytest.raises(
                ValueError,
                match=r"x has 2 NaN or Inf of 12 .* at index \(2, 1\); observe with skip_nan=True",
            ):
                observer.update(nonfinite)
            assert observer == before
    for wrong in (np.arange(3), [1, 2], "1.0", None, np.ma.masked_array([1.0])):
        with pytest.raises(TypeError, match="x "):
            kind().update(wrong)
    observer = kind(axis=0).update(x)
    with pytest.raises(ValueError, match="x has 4 channels along axis 0, the observer has seen 3"):
        observer.update(x.T)
    with pytest.raises(ValueError, match="other has 4 channels"):
        observer.merge(kind(axis=0).update(x.T))
    with pytest.raises(np.exceptions.AxisError):
        kind(axis=2).update(x)
    assert observer == kind(axis=0).update(x)


def test_bad_merges() -> None:
    with pytest.raises(TypeError, match="other is a HistogramObserver; a MinMaxObserver can only"):
        zp.MinMaxObserver().merge(zp.HistogramObserver())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other has axis 0, this observer None"):
        zp.HistogramObserver().merge(zp.HistogramObserver(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"by keyword; .* goes to params: .*\.params\('int8'\)"):
        kind("int8")
    with pytest.raises(TypeError, match="axis must be an integer"):
        kind(axis=1.0)
    observer = kind().update([1.0, 2.0])
    with pytest.raises(TypeError, match="dtype 'int16' is not a type of codes"):
        observer.params("int16")
    with pytest.raises(
        TypeError, match=rf"{kind.__name__}\.params has no keyword 'axis'; it has .*zero_p"
    ):
        observer.params(axis=0)
    with pytest.raises(ValueError, match="qmin 9 must be less than qmax 3"):
        observer.params(qmin=9, qmax=3)
    with pytest.raises(ValueError, match="symmetric=True fixes the zero point"):
        observer.params(symmetric=True, zero_point_from="min")
    with pytest.raises(ValueError, match="x is constant"):
        params_of_range(kind().update([2.0]), include_zero=False)


def test_the_default_method_is_mse() -> None:
    observer = zp.HistogramObserver().update(np.random.default_rng(5).laplace(size=5000))
    assert observer.params() == observer.params(method="mse") != observer.params(method="minmax")


def test_bad_methods() -> None:
    observer = zp.HistogramObserver().update([1.0, 2.0])
    with pytest.raises(ValueError, match="method 'max' is unknown; choose 'minmax' or 'percent"):
        observer.params(method="max")
    for percentile in (50, 0.1, 100.1, math.nan):
        with pytest.raises(ValueError, match="must be more than 50 and at most 100"):
            observer.params(method="percentile", percentile=percentile)
    for wrong in ("99", None, True):
        with pytest.raises(TypeError, match="percentile must be a number"):
            observer.params(method="percentile", percentile=wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------
# As a value


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind: Any, axis: int | None, real: type) -> None:
    x = RNG.standard_normal((3, 50)).astype(real)
    one = kind(axis=axis).update(x)
    text = json.dumps(one.to_dict())
    copies = [
        copy.copy(one),
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
        kind.from_dict(json.loads(text)),
    ]
    for other in copies:
        assert other == one
        assert type(other) is kind
        assert all_params(other) == all_params(one)
        other.update(x * 1.5).merge(one)
        assert other != one
        assert json.dumps(one.to_dict()) == text
    assert one != "something else"
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    twice = copy.copy(one)
    twice.merge(twice)
    assert twice == copy.copy(one).merge(one) == kind(axis=axis).update(x).update(x)


def test_the_dictionary_is_small() -> None:
    big = zp.HistogramObserver().update(RNG.standard_normal(100_000))
    assert len(json.dumps(big.to_dict())) < 16_000
    sparse = zp.HistogramObserver(axis=0).update(RNG.standard_normal((100, 20)))
    assert len(json.dumps(sparse.to_dict())) < 100 * 300


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=50), st.integers(1, 2**62))
def test_lists_without_zeros(counts: list[int], large: int) -> None:
    counts = [large, *counts, 1]
    short = observers._without_zeros(np.array(counts))
    assert observers._with_zeros(short, len(counts)).tolist() == counts


GOOD = zp.HistogramObserver(axis=0).update([[0.0, 0.5], [-1.0, 1.0]]).to_dict()
HOSTILE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"observer": "MinMaxObserver"}, ValueError, "observer 'MinMaxObserver' is unknown"),
    ({"precision": "float16"}, ValueError, "precision 'float16' is unknown"),
    ({"axis": 1.0}, TypeError, "axis must be an integer"),
    ({"axis": True}, TypeError, "axis must be an integer"),
    ({"axis": None}, TypeError, "min must be int or float, not list"),
    ({"min": 0.0}, TypeError, "min must be a list of int or float, not float 0.0"),
    ({"min": None}, TypeError, "min must be a list"),
    ({"min": None, "max": None}, ValueError, "precision of no data 'float64' is unknown"),
    ({"min": ["0", 0]}, TypeError, "min must be int or float, not str"),
    ({"min": [[0.0], [0.0]]}, TypeError, "min must be int or float, not list"),
    ({"min": [0.0, True]}, TypeError, "min must be int or float, not bool"),
    ({"min": [0.0, math.nan]}, ValueError, "min must be finite"),
    ({"max": [0.5, math.inf]}, ValueError, "max must be finite"),
    ({"max": [0.5, 10**400]}, ValueError, "max is beyond float64"),
    ({"max": [0.5, 1.1], "precision": "float32"}, ValueError, "max must be .* of float32"),
    ({"min": [0.6, -1.0]}, ValueError, "no min may exceed its max"),
    ({"min": [0.0]}, ValueError, "min and max must have one length"),
    ({"min": [], "max": []}, ValueError, "min and max must have one length"),
    ({"exponent": [-12, -11]}, ValueError, r"exponent must be \[-12, -10\]"),
    ({"exponent": [-12.0, -10]}, TypeError, "exponent must be int, not float"),
    ({"exponent": -12}, TypeError, "exponent must be a list of int"),
    ({"counts": [[1, 1]]}, ValueError, "counts must have 2 channels, not 1"),
    ({"counts": [1, 1]}, TypeError, "counts must be a list of int, not int"),
    ({"counts": [[], []]}, ValueError, "counts must describe 2050 bins"),
    ({"counts": [[1, -2048, 1], [1, -2048, 1]]}, ValueError, "counts must describe 2051 bins"),
    ({"counts": [[1, -(10**9), 1], [1, -2049, 1]]}, ValueError, "counts must describe"),
    ({"counts": [[1, -2048, 2**63], [1, -2049, 1]]}, ValueError, "counts must describe"),
    ({"counts": [[1, -2047, 0, 1], [1, -2049, 1]]}, ValueError, "counts must describe"),
    ({"counts": [[1, -2049], [1, -2049, 1]]}, ValueError, "counts must describe"),
    ({"counts": [[1, -2048, 1.0], [1, -2049, 1]]}, TypeError, "counts must be int, not float"),
]


@pytest.mark.parametrize(("change", "error", "message"), HOSTILE)
def test_hostile_dictionaries(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        zp.HistogramObserver.from_dict(GOOD | change)


def test_hostile_dictionaries_by_their_keys() -> None:
    assert zp.HistogramObserver.from_dict(GOOD).to_dict() == GOOD
    same = zp.HistogramObserver.from_dict(GOOD | {"min": [-0.0, -1]})
    assert same == zp.HistogramObserver.from_dict(GOOD)
    with pytest.raises(TypeError, match="from_dict takes a dict, not list"):
        zp.MinMaxObserver.from_dict([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unknown keys \['1', 'more'\], missing keys \[\]"):
        zp.HistogramObserver.from_dict(GOOD | {"more": 1, 1: 1})
    with pytest.raises(ValueError, match=r"unknown keys .*'counts'.*, missing keys \[\]"):
        zp.MinMaxObserver.from_dict(GOOD)
    with pytest.raises(ValueError, match=r"missing keys .*'max'"):
        zp.HistogramObserver.from_dict({"min": 0})
    empty = zp.HistogramObserver().to_dict()
    with pytest.raises(ValueError, match="precision of no data 'float64'"):
        zp.HistogramObserver.from_dict(empty | {"precision": "float64"})
    with pytest.raises(ValueError, match="exponent and counts must be None"):
        zp.HistogramObserver.from_dict(empty | {"counts": [1]})


# ---------------------------------------------------------------------------------------------
# The methods


def histogram(edges: list[float], counts: list[int]) -> Histograms:
    return Histograms(np.array([edges], np.float64), np.array([counts]))


def test_percentiles_by_hand() -> None:
    h = histogram([-1, 0, 0, 1, 3, 3], [1, 2, 0, 5, 0])
    for fraction, value in [(0, -1), (1 / 16, -0.5), (0.25, 0), (0.375, 0), (0.5, 1.4), (1, 3)]:
        assert _clipping._quantile(h, fraction) == [pytest.approx(value)]
    assert _clipping.percentile(h, 100) == ([-1], [3])


@pytest.mark.parametrize("percent", [50.001, 75, 99, 99.9, 99.999, 100])
def test_percentiles_are_in_the_bin_of_the_element(percent: float) -> None:
    relu = np.maximum(RNG.normal(size=90), 0)
    for x in (RNG.standard_normal(5000), RNG.standard_t(2, 777), relu):
        observer = zp.HistogramObserver().update(x)
        exponent = table(observer)[0, 0]
        found = _clipping.percentile(observer._histograms(slice(1), np.zeros(1, int)), percent)
        for end, part in zip(found, (1 - percent / 100, percent / 100), strict=True):
            rank = max(math.ceil(part * x.size), 1)
            element = np.sort(x)[rank - 1]
            assert abs(end - element) <= 2.0**exponent
        if found[0] < found[1]:  # else the whole range, as for data that are nearly all zero
            params = observer.params(method="percentile", percentile=percent)
            assert params == zp.choose_params(np.concatenate(found))


def exact_error(edges: list[Fraction], counts: list[int], levels: list[Fraction]) -> Fraction:
    """The mean squared distance to the nearest level of data that are spread evenly over bins."""
    middles = [(a + b) / 2 for a, b in itertools.pairwise(levels)]
    total = Fraction(0)
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        if left == right:
            total += count * min((left - level) ** 2 for level in levels)
            continue
        cuts = [left, *(middle for middle in middles if left < middle < right), right]
        for a, b in itertools.pairwise(cuts):
            level = min(levels, key=lambda level: abs((a + b) / 2 - level))
            total += count * ((b - level) ** 3 - (a - level) ** 3) / 3 / (right - left)
    return total / sum(counts)


def test_the_expected_error_against_fractions() -> None:
    for _ in range(30):
        n = int(RNG.integers(1, 30))
        edges = np.sort(RNG.integers(-40, 40, n + 1)) / 8
        counts = RNG.integers(0, 9, n)
        counts[0] = 1
        scale, least, count = RNG.integers(1, 30) / 16, RNG.integers(-9, 1), RNG.integers(1, 12)
        levels = [Fraction(float(scale)) * int(least + i) for i in range(count)]
        greatest = levels[-1] / Fraction(float(scale))
        expected = exact_error([Fraction(float(e)) for e in edges], counts.tolist(), levels)
        given_levels = Levels(
            np.array([scale]), np.array([least]), np.array([float(greatest)]), np.zeros(1)
        )
        found = _clipping.squared_error(Histograms(edges[None], counts[None]), given_levels)
        assert found[0] == pytest.approx(float(expected), rel=1e-9, abs=1e-15)


def test_divergence_by_hand() -> None:
    counts = np.array([3, 0, 1, 4, 4, 2, 0, 7])
    assert _clipping._divergence(counts, 0, 8, 8) == 0
    # two groups of the six in the middle: (0, 1, 4), (4, 2, 0); what is clipped counts at the ends
    data = np.array([3, 1, 4, 4, 2, 7]) / 21
    spread = np.array([5 / 3, 5 / 3, 5 / 3, 2, 2, 2]) / 11
    expected = (data * np.log(data / spread)).sum()
    assert _clipping._divergence(counts, 1, 7, 2) == pytest.approx(expected)
    # the last group of 1 bin holds clipped elements alone
    assert _clipping._divergence(counts, 1, 7, 6) == np.inf
    assert _clipping._divergence(np.array([1, 0, 0, 1]), 1, 3, 2) == np.inf


def test_entropy_leaves_zeros_out() -> None:
    x = np.abs(RNG.standard_normal(10_000)).astype(np.float32)
    x[0] = 20
    with_zeros = np.concatenate([x, np.zeros(50_000, np.float32)])
    found = [zp.HistogramObserver().update(d).params(method="entropy") for d in (x, with_zeros)]
    assert found[0] == found[1]
    assert found[0].scale * 255 < 19


@pytest.mark.parametrize(("keywords", "codes"), [({}, 256), ({"symmetric": True}, 128)])
def test_entropy_counts_codes(keywords: dict[str, Any], codes: int) -> None:
    """All of them, or those of the magnitudes."""
    x = np.random.default_rng(3).laplace(size=20_000)
    observer = zp.HistogramObserver().update(x)
    unit = np.zeros(1, np.int64)
    h = observer._histograms(slice(1), unit, magnitudes=codes == 128)
    expected, other = (
        zp.choose_params(np.concatenate(_clipping.entropy(h, n)), "int8", **keywords)
        for n in (codes, 384 - codes)
    )
    assert observer.params("int8", method="entropy", **keywords) == expected != other


FAMILIES: dict[str, Callable[[int], Array]] = {
    "gauss": lambda n: RNG.normal(size=n),
    "laplace": lambda n: RNG.laplace(size=n),
    "uniform": lambda n: RNG.random(n),
    "student": lambda n: RNG.standard_t(3, n),
    "heavy": lambda n: RNG.standard_t(2, n),
    "relu": lambda n: np.maximum(RNG.normal(size=n), 0),
    "negative": lambda n: -np.abs(RNG.normal(size=n)),
    "outlier": lambda n: np.append(RNG.normal(size=n), 300),
    "two hills": lambda n: RNG.normal(size=n) + 9 * RNG.integers(0, 2, n),
    "far": lambda n: RNG.normal(size=n) + 100,
    "pixels": lambda n: RNG.integers(0, 256, n) / 255,
    "one hot": lambda n: (np.arange(n) % 50 == 0) * 1.0,
    "constant": lambda n: np.full(n, 3.0),
}


@pytest.mark.slow("searches many ranges")
@pytest.mark.parametrize("family", FAMILIES)
def test_mse_is_never_worse(family: str) -> None:
    """The real error, beside minmax and the percentile; and it tells how good it could be."""
    x = FAMILIES[family](100_000).astype(np.float32)
    observer = zp.HistogramObserver().update(x)
    cases: list[dict[str, Any]] = [{}, {"symmetric": True}, {"qmax": 15}]
    if family != "constant":
        cases.append({"include_zero": False})
    for keywords in cases:
        errors = {
            method: zp.error_stats(x, observer.params(method=method, **keywords)).mse
            for method in observers.METHODS
        }
        assert errors["mse"] <= 1.001 * min(errors["minmax"], errors["percentile"]), keywords
        anchor = np.float32(0) if keywords.get("include_zero", True) else np.median(x)
        best = min(
            zp.error_stats(x, zp.choose_params(anchor + (x - anchor) * part, **keywords)).mse
            for part in np.geomspace(0.02, 1, 40, dtype=np.float32)
        )
        assert errors["mse"] <= 1.02 * best, keywords


@pytest.mark.parametrize("seed", [19, 669, 773, 823, 934, 1196])
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_careful_with_few_different_values(seed: int, symmetric: bool) -> None:
    """Bins do not tell where in them these are; a range that seems a little better may be worse."""
    rng = np.random.default_rng(seed)
    different = rng.integers(3, 200)
    n = rng.integers(different, 5000)
    values = rng.normal(size=different) * rng.choice([1, 1, 1, 3], different)
    x = rng.choice(values, n).astype(np.float32)
    observer = zp.HistogramObserver().update(x)
    minmax, percentile, mse = (
        zp.error_stats(x, observer.params(method=method, symmetric=symmetric)).mse
        for method in ("minmax", "percentile", "mse")
    )
    assert mse <= 1.001 * min(minmax, percentile)


@pytest.mark.parametrize("keywords", [{}, {"symmetric": True}, {"convention": "torch"}])
def test_percentiles_of_data_that_are_nearly_all_zero(keywords: dict[str, Any]) -> None:
    """Both are 0: that is no range.  Beside a channel that has one."""
    x = np.zeros((2, 100_000), np.float32)
    x[0, 7] = 1e-3
    x[1] = np.linspace(-1, 1, 100_000)
    minmax, found = (
        zp.HistogramObserver(axis=0).update(x).params(method=method, **keywords)
        for method in ("minmax", "percentile")
    )
    assert found.scale[0] == minmax.scale[0] < 1e-5
    assert found.zero_point[0] == minmax.zero_point[0]
    assert found.scale[1] < minmax.scale[1]
    all_zero = zp.HistogramObserver().update(np.zeros(10, np.float32))
    assert all_zero.params(method="percentile", **keywords) == all_zero.params(**keywords)


@pytest.mark.parametrize("n", [1, 500])
@pytest.mark.parametrize("axis", [None, 0])
def test_a_range_that_float32_cannot_tell(n: int, axis: int | None) -> None:
    """Elements a little beyond a float64 range, which in float32 is the same: a bin more."""
    wide, narrow = np.array([0.0, 4095 / 1024 - 1e-12]), np.full(n, 4095 / 1024, np.float32)
    first, second = (np.broadcast_to(x, (2, x.size)) for x in (wide, narrow))
    one, other = (zp.HistogramObserver(axis=axis) for _ in range(2))
    one.update(first).update(second)
    other.update(second).update(first)
    assert one == other
    assert zp.HistogramObserver.from_dict(one.to_dict()) == one
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zp.HistogramObserver().update([1e300]).update(narrow)


def test_more_elements_than_counts_hold() -> None:
    observer = zp.HistogramObserver().update(np.float32([1, 1, -2]))
    for _ in range(61):
        observer.merge(observer)
    before = observer.to_dict()
    with pytest.raises(ValueError, match="other has too many elements"):
        observer.merge(observer)
    assert observer.to_dict() == before
    assert zp.HistogramObserver.from_dict(before) == observer


def test_channels_are_chosen_one_by_one() -> None:
    """More of them than are searched at a time, of very different shapes."""
    rows = [FAMILIES[name](2000)[:2000] * 10.0**k for k in (-3, 0, 2) for name in FAMILIES]
    x = np.array(rows, np.float32)
    together = zp.HistogramObserver(axis=0).update(x)
    assert len(x) > 3 * observers._ROWS
    for method in observers.METHODS:
        for symmetric in (False, True):
            params = together.params("int8", method=method, symmetric=symmetric)
            for i, row in enumerate(x):
                one = zp.HistogramObserver().update(row)
                alone = one.params("int8", method=method, symmetric=symmetric)
                assert params.scale[i] == alone.scale, (method, symmetric, i)
                assert params.zero_point[i] == alone.zero_point


def test_histograms_of_magnitudes() -> None:
    """Made of the histograms of x they are what counting abs(x) gives."""
    for family in FAMILIES.values():
        x = family(3000)
        observer = zp.HistogramObserver().update(x)
        h = observer._histograms(slice(1), np.zeros(1, np.int64), magnitudes=True)
        number = _reference.bin_number(np.abs(x), table(observer)[0, 0]).astype(int)
        one_sign = (x > 0).all() or (x < 0).all()
        start = number.min() if one_sign else 0
        assert h.counts[0].tolist() == np.bincount(number - start).tolist()
        assert h.edges[0, 0] == (np.abs(x).min() if one_sign else 0)
        assert h.edges[0, -1] == np.abs(x).max()
        assert (np.diff(h.edges[0]) >= 0).all()


def test_methods_scale_with_the_data() -> None:
    """Powers of two change nothing but the scale, whatever the precision can hold."""
    x = RNG.laplace(size=3000)
    for method in observers.METHODS:
        base = zp.HistogramObserver().update(x).params(method=method)
        for power in (-100, 100, 1000):
            other = zp.HistogramObserver().update(np.ldexp(x, power)).params(method=method)
            assert other.zero_point == base.zero_point
            assert other.scale == np.ldexp(base.scale, power)


def test_a_percentile_of_one_value() -> None:
    """Where no step is left between the ends it is minmax again."""
    observer = zp.HistogramObserver().update([0.0] * 1000 + [5.0])
    for keywords in ({"include_zero": False}, {}):
        params = observer.params(method="percentile", percentile=60, **keywords)
        assert params == observer.params(method="minmax", **keywords)


# ---------------------------------------------------------------------------------------------
# Real data


@pytest.fixture(scope="module")
def tensors() -> list[calibration.Tensor]:
    try:
        return list(calibration.real_tensors())
    except ImportError as error:
        pytest.skip(f"real data are absent: {error}")


@pytest.mark.slow("hundreds of real channels")
def test_mse_on_channels_of_real_weights(tensors: list[calibration.Tensor]) -> None:
    """Some have few elements, so that the histogram tells the errors roughly."""
    channels = 0
    hows = itertools.cycle(({}, {"symmetric": True}, {"qmin": -8, "qmax": 7}))  # by turns
    for tensor in tensors:
        (x, *more) = tensor.batches
        if more or x.ndim < 2 or x.shape[0] > 512:
            continue
        x = x[:: max(1, len(x) // 64)]
        observer = zp.HistogramObserver(axis=0).update(x)
        keywords = next(hows)
        if tensor.dtype == "uint8" and "qmin" in keywords:
            keywords = {"qmax": 15}
        errors = {}
        for method in ("minmax", "percentile", "mse"):
            params = observer.params(tensor.dtype, method=method, **keywords)
            difference = zp.fake_quantize(x, params) - x
            squares = difference.astype(np.float64).reshape(len(x), -1) ** 2
            errors[method] = squares.mean(axis=1)
        best = np.minimum(errors["minmax"], errors["percentile"])
        assert (errors["mse"] <= 1.001 * best).all(), (tensor.name, keywords)
        channels += len(x)
    assert channels > 400


@pytest.mark.slow("real models")
def test_mse_on_real_data(tensors: list[calibration.Tensor]) -> None:
    assert len(tensors) > 15
    for tensor in tensors:
        observer = zp.HistogramObserver()
        for batch in tensor.batches:
            observer.update(batch)
        x = np.concatenate([batch.ravel() for batch in tensor.batches])[: 1 << 20]
        if x.size == 1 << 20:
            observer = zp.HistogramObserver().update(x)
        for symmetric in (False, True):
            errors = {
                method: zp.error_stats(
                    x, observer.params(tensor.dtype, method=method, symmetric=symmetric)
                ).mse
                for method in ("minmax", "percentile", "mse")
            }
            best = min(errors["minmax"], errors["percentile"])
            assert errors["mse"] <= 1.001 * best, (tensor.name, symmetric, errors)


def test_batches_in_any_order(tensors: list[calibration.Tensor]) -> None:
    for tensor in tensors:
        forwards, backwards = zp.HistogramObserver(), zp.HistogramObserver()
        for batch in tensor.batches:
            forwards.update(batch)
        for batch in tensor.batches[::-1]:
            backwards.merge(zp.HistogramObserver().update(batch))
        assert forwards == backwards


def test_the_page() -> None:
    """Its tables are there."""
    page = (Path(__file__).resolve().parents[1] / "docs/measured.md").read_text()
    for name in ("calibration", "speed"):
        table = page.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]
        assert table.count("\n|") > 5, f"python -m bench.calibration --update, for {name}"


# ---------------------------------------------------------------------------------------------
# Small cases by hand, and in threads


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("kind", [zp.MinMaxObserver, zp.HistogramObserver])
def test_any_order_of_different_ranges(kind: Any, axis: int | None) -> None:
    """Pieces of different ranges: whatever the order, bins join to those of the whole."""
    parts = [RNG.normal(size=(500, 3)).astype(np.float32) * 5.0**k for k in (0, 2, -2, 1)]
    parts[1][::3] = 0
    whole = kind(axis=axis).update(np.concatenate(parts))
    for order in itertools.permutations(parts):
        stream, left, right = (kind(axis=axis) for _ in range(3))
        for i, part in enumerate(order):
            stream.update(part)
            (left if i < 2 else right).update(part)
        assert stream == whole
        assert left.merge(right) == whole


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_same_bits_for_any_number_of_threads(native: str, axis: int | None) -> None:
    x = RNG.normal(size=(700, 1500)).astype(np.float32)
    zp.set_num_threads(1)
    try:
        expected = zp.HistogramObserver(axis=axis).update(x)
        assert expected._table[:, 1:].sum() == x.size
        for threads in (2, 3, 8):
            zp.set_num_threads(threads)
            assert zp.HistogramObserver(axis=axis).update(x) == expected, threads
    finally:
        zp.set_num_threads(0)


@pytest.mark.parametrize("axis", [None, 0])
def test_dictionary_of_real_data(axis: int | None) -> None:
    observer = zp.HistogramObserver(axis=axis).update(RNG.standard_t(2, (3, 100)))
    assert zp.HistogramObserver.from_dict(observer.to_dict()) == observer


def test_percentile_by_hand() -> None:
    """Nothing is in [0, 1]: half of the elements lie below 0 and half above 1."""
    h = histogram([-1, 0, 1, 3], [2, 0, 2])
    for percent, ends in [(100, (-1, 3)), (75, (-0.5, 2)), (62.5, (-0.25, 1.5))]:
        low, high = _clipping.percentile(h, percent)
        assert (low[0], high[0]) == ends
    assert _clipping._quantile(h, 0.5) == [0]


def test_squared_error_by_hand() -> None:
    """1/12 of a step, and (2.5 - 2)**2 + 1/12 for the bin around 2.5, which has no level."""
    levels = Levels(np.array([1.0]), np.array([0]), np.array([2.0]), np.zeros(1))
    assert _clipping.squared_error(histogram([0, 1, 2], [3, 1]), levels) == pytest.approx(1 / 12)
    beyond = _clipping.squared_error(histogram([2, 3], [5]), levels)
    assert beyond == pytest.approx(1 / 4 + 1 / 12)


def test_divergence_of_what_is_clipped() -> None:
    """What is clipped counts at both ends, alike on both sides: nothing is lost."""
    assert _clipping._divergence(np.array([4, 1, 1, 4]), 1, 3, 2) == pytest.approx(0)
    # data 8 and 2 of 10, the codes say 4 and 2 of 6
    expected = 0.8 * np.log(0.8 / (4 / 6)) + 0.2 * np.log(0.2 / (2 / 6))
    found = _clipping._divergence(np.array([4, 4, 2, 0]), 1, 3, 2)
    assert found == pytest.approx(expected)


# ---------------------------------------------------------------------------------------------
# NaN left out


def holey(shape: tuple[int, ...], dtype: np.dtype[Any] = REALS[2], share: float = 0.3) -> Array:
    x = (RNG.standard_normal(shape) * 10.0 ** RNG.integers(-2, 3)).astype(dtype)
    x[RNG.random(shape) < 0.1] = 0
    nan = np.where(RNG.random(shape) < 0.5, np.nan, -np.nan).astype(dtype)
    return np.where(RNG.random(shape) < share, nan, x)


def present(x: Array) -> Array:
    return x[~np.isnan(x.astype(np.float64))]


def assert_as_without_nan(observer: Any, x: Array, axis: int | None) -> None:
    """Each channel of the observer is that of an observer of its data without NaN, to the bit."""
    kind = type(observer)
    channels = [x] if axis is None else list(np.moveaxis(x, axis, 0))
    lows, highs = observer._ends
    assert len(lows) == len(channels)
    for i, data in enumerate(channels):
        want = kind().update(present(data))
        assert (lows[i], highs[i]) == (want._low, want._high)
        if kind is zp.HistogramObserver:
            row = want._table[0] if len(want._table) else np.array([-126] + [0] * BINS)
            assert observer._table[i].tolist() == row.tolist()


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_nan_left_out(
    backend: str, kind: Any, dtype: np.dtype[Any], axis: int | None, monkeypatch: Any
) -> None:
    """In one chunk, in many, and of so few elements that they are counted one by one."""
    x = holey((6, 5, 40), dtype)
    x[3], x[:, 4], x[:, :, -2] = np.nan, np.nan, np.nan
    for size in (1 << 21, 100):
        monkeypatch.setattr(observers, "_CHUNK", size)
        for data in (x, x[::-1, :, ::2], np.asfortranarray(x), x.astype(x.dtype.newbyteorder())):
            observer = kind(axis=axis, skip_nan=True).update(data)
            assert_as_without_nan(observer, data.astype(dtype), axis)
            again = kind.from_dict(json.loads(json.dumps(observer.to_dict())))
            assert again == observer
    monkeypatch.setattr(observers, "_FEW", 1 << 20)
    stream = kind(axis=axis, skip_nan=True)
    for part in (x[:, :2], x[:, 2:]) if axis == 0 else (x[:2], x[2:]):
        stream.update(part)
    assert_as_without_nan(stream, x, axis)


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameters_of_data_with_nan(backend: str, kind: Any) -> None:
    x = holey((40, 50), share=0.5)
    one = kind(skip_nan=True).update(x)
    other = kind().update(present(x))
    assert all_params(one) == all_params(other)
    fields = other.to_dict()
    assert one.to_dict() == fields | {"skip_nan": True}
    for axis in (0, 1):
        channels = kind(axis=axis, skip_nan=True).update(x)
        for keywords in ALL_PARAMS:
            params = params_of_range(channels, **keywords)
            assert params == zp.choose_params(x, axis=axis, skip_nan=True, **keywords)
            for i, data in enumerate(np.moveaxis(x, axis, 0)):
                want = zp.choose_params(present(data), **keywords)
                assert (params.scale[i], params.zero_point[i]) == (want.scale, want.zero_point)


@pytest.mark.slow("many random streams")
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data(), given_pieces=chunks())
def test_any_order_and_nesting_with_nan(
    kind: Any, data: Any, given_pieces: tuple[list[Array], int | None]
) -> None:
    parts, axis = given_pieces
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    share = data.draw(st.sampled_from([0.02, 0.5, 0.95, 1.0]))
    for part in parts:
        part[rng.random(part.shape) < share] = np.nan
    one = kind(axis=axis, skip_nan=True)
    for part in parts:
        one.update(part)

    def draw(n: int) -> int:
        return data.draw(st.integers(0, n - 1))

    smaller = [p for part in parts for p in np.array_split(part, 1 + draw(3), axis=axis == 0)]
    order = data.draw(st.permutations(range(len(smaller))))
    many = [kind(axis=axis, skip_nan=True).update(smaller[i]) for i in order]
    other = merged([*many, kind(axis=axis, skip_nan=True)], draw)
    assert other == one
    assert other.to_dict() == one.to_dict()
    assert kind.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    if np.all(np.asarray(one._low) <= one._high):
        assert all_params(other) == all_params(one)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_without_data(backend: str, kind: Any) -> None:
    nan = np.full((2, 3), np.nan)
    observer = kind(axis=1, skip_nan=True).update(nan)  # which fixes the number of channels
    assert observer.to_dict()["min"] == [None] * 3
    assert observer.to_dict()["precision"] == "float32"
    assert repr(observer).endswith("3 channels, 3 of them without data>")
    with pytest.raises(ValueError, match="x has 5 channels along axis 1, the observer has seen 3"):
        observer.update(np.ones((2, 5)))
    assert kind.from_dict(observer.to_dict()) == observer
    observer.update(np.array([[1, np.nan, 3], [-1, np.nan, 9]], np.float32))
    assert "3 channels, 1 of them without data, min -1.0, max 9.0>" in repr(observer)
    assert observer.to_dict()["max"] == [1, None, 9]
    with pytest.raises(
        ValueError, match=r"seen no data of channel 1 along axis 1 but NaN; update it with some"
    ):
        observer.params()
    assert kind(axis=1, skip_nan=True).merge(observer) == observer
    other = kind(axis=1, skip_nan=True).update(np.array([[np.nan, 2, np.nan]], np.float32))
    for both in (copy.copy(observer).merge(other), copy.copy(other).merge(observer)):
        assert both.to_dict()["max"] == [1, 2, 9]
        assert both == kind(axis=1, skip_nan=True).update(
            np.array([[1, 2, 3], [-1, np.nan, 9]], np.float32)
        )
        both.params()
    one = kind(skip_nan=True).update(nan)
    assert one == kind(skip_nan=True)
    with pytest.raises(ValueError, match="the observer has seen no data; call update first"):
        one.params()


@pytest.mark.parametrize("kind", KINDS)
def test_what_skip_nan_does_not_skip(backend: str, kind: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(observers, "_CHUNK", 5)
    x = holey((3, 4))
    bad = x.copy()
    bad[2, 1], bad[2, 3], bad[0, 0] = -np.inf, np.inf, np.nan
    for axis in (None, 0, 1):
        for observer in (kind(axis=axis, skip_nan=True), kind(axis=axis, skip_nan=True).update(x)):
            before = copy.deepcopy(observer)
            with pytest.raises(ValueError, match=r"x has 2 Inf of 12 .* at index \(2, 1\)"):
                observer.update(bad)
            assert observer == before
    with pytest.raises(ValueError, match="other has skip_nan True, this observer False; make both"):
        kind().merge(kind(skip_nan=True))
    with pytest.raises(TypeError, match="skip_nan must be True or False"):
        kind(skip_nan=1)
    assert kind() != kind(skip_nan=True)
    assert (
        repr(kind(axis=0, skip_nan=True))
        == f"<{kind.__name__}(axis=0, skip_nan=True): no data yet>"
    )
    assert kind(skip_nan=True).skip_nan is True


EMPTY = zp.HistogramObserver(axis=0, skip_nan=True).update([[0.0, 0.5], [np.nan] * 2]).to_dict()
HOSTILE_EMPTY: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"skip_nan": 1}, TypeError, "skip_nan must be True or False"),
    ({"skip_nan": False}, TypeError, "min must be int or float, not NoneType None"),
    ({"min": [0.0, 0.0]}, ValueError, "min and max must be None for the same channels"),
    ({"min": [0.6, None]}, ValueError, "no min may exceed its max"),
    ({"min": [None, None], "max": [None, None]}, ValueError, "precision of no data 'float64'"),
    ({"exponent": [-12, -11]}, ValueError, r"exponent must be \[-12, -126\]"),
    ({"counts": [[1, -2048, 1], [1]]}, ValueError, "counts must be empty where min and max are"),
]


@pytest.mark.parametrize(("change", "error", "message"), HOSTILE_EMPTY)
def test_hostile_dictionaries_of_channels_without_data(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    assert EMPTY["counts"] == [[1, -2048, 1], []]
    assert zp.HistogramObserver.from_dict(EMPTY).to_dict() == EMPTY
    with pytest.raises(error, match=message):
        zp.HistogramObserver.from_dict(EMPTY | change)


# ---------------------------------------------------------------------------------------------
# Parameters with a real offset, and a code for NaN


@pytest.mark.parametrize("convention", list(zp.OFFSET_CONVENTIONS))
@pytest.mark.parametrize("kind", KINDS)
def test_real_offsets(backend: str, kind: Any, convention: str) -> None:
    x = (RNG.normal(size=(6, 40)) + 100).astype(np.float32)
    for axis in (None, 0, 1):
        observer = kind(axis=axis).update(x)
        for rest in ({}, {"nan_code": 0}, {"qmin": 3, "qmax": 90}):
            params = params_of_range(observer, convention=convention, **rest)
            want = zp.choose_params(x, convention=convention, axis=axis, **rest)
            assert params.replace(fused=want.fused) == want
        with pytest.raises(ValueError, match="symmetric"):
            observer.params(convention=convention, symmetric=True)
    assert params_of_range(kind().update([5.0, 5.0]), convention=convention).fake_quantize(
        np.array([5.0])
    ) == [5]


@pytest.mark.parametrize("convention", list(zp.OFFSET_CONVENTIONS))
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_clipping_with_real_offsets(convention: str, dtype: str) -> None:
    """16 codes for data with long tails, far from 0: a range that clips has less error."""
    x = RNG.laplace(size=20_000) + 1e4
    observer = zp.HistogramObserver().update(x)
    how = {"convention": convention, "qmin": 5, "qmax": 20}
    errors = {
        method: zp.error_stats(x, observer.params(dtype, method=method, **how)).mse
        for method in observers.METHODS
    }
    assert errors["mse"] < errors["minmax"] / 2
    params = observer.params(dtype, method="percentile", percentile=99, **how)
    values = params.dequantize(np.array([5, 20], dtype), dtype="float64")
    half = 0 if convention == "cf" else params.scale / 2
    np.testing.assert_allclose(values - half, np.percentile(x, [1, 99]), atol=0.02)


def test_a_code_for_nan_in_params() -> None:
    for kind in KINDS:
        params = kind().update([-1.0, 2.0]).params(nan_code=0)
        assert (params.nan_code, params.qmin) == (0, 1)
