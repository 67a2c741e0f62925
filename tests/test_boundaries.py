"""Every limit of the contract from both sides: the value just inside, at, and just outside of it.

A row of `LIMITS` is one limit: what is called with a value, and for each value what comes out, or
the error.  What is right comes from exact fractions, or is written down; sizes at which another way
is taken must not change the result, and there the reference says what is right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _checks, observers
from zeropoint._files import npy, source

from . import exact

INT32, INT64 = 2**31, 2**63
INF = math.inf
RANGES = [("uint8", 0, 255), ("int8", -128, 127), ("uint8", 7, 22), ("int8", -5, 100)]


class Limit(NamedTuple):
    name: str
    call: Callable[[Any], Any]
    cases: list[tuple[Any, Any]]  #: a value; what comes out, or an exception with its message


def error(kind: type[Exception], message: str) -> Exception:
    return kind(message)


def inside(low: int, high: int, message: str, kind: type[Exception] = ValueError) -> Any:
    """Both ends of an interval of integers: what is outside is an error."""
    cases: list[tuple[int, Any]] = [(low - 1, error(kind, message)), (low, low), (low + 1, low + 1)]
    return [*cases, (high - 1, high - 1), (high, high), (high + 1, error(kind, message))]


def up(value: Any) -> Any:
    return np.nextafter(value, np.inf, dtype=np.asarray(value).dtype)


def down(value: Any) -> Any:
    return np.nextafter(value, -np.inf, dtype=np.asarray(value).dtype)


# ---------------------------------------------------------------------------------------------
# Parameters

LIMITS = [
    Limit(
        "int32 zero points",
        lambda z: zp.QuantParams(0.5, z, include_zero=False).zero_point,
        inside(-INT32, INT32 - 1, "is outside [-2147483648, 2147483647]"),
    ),
    Limit(
        "int32 zero points, a list",
        lambda z: zp.QuantParams([0.5], [z], axis=0, include_zero=False).zero_point[0],
        inside(-INT32, INT32 - 1, "is outside [-2147483648, 2147483647]"),
    ),
    Limit(
        "axis",
        lambda axis: zp.QuantParams([0.5], 0, axis=axis).axis,
        inside(-INT32, INT32 - 1, "is beyond the dimensions of any array"),
    ),
    Limit(
        "block_size",
        lambda size: zp.QuantParams([0.5], 0, axis=0, block_size=size).block_size,
        inside(1, INT64 - 1, "must be at least 1, and at most the axis' length"),
    ),
    Limit(
        "the axes of 64 dimensions, among parameters",
        lambda axis: zp.QuantParams(np.full((1,) * 64, 0.5), 0, axis=axis, block_size=1).axis % 64,
        [
            (-65, error(np.exceptions.AxisError, "axis -65 is out of bounds")),
            *((-64, 0), (-63, 1), (62, 62), (63, 63)),
            (64, error(np.exceptions.AxisError, "axis 64 is out of bounds")),
        ],
    ),
    Limit(
        "scale, float32",
        lambda s: zp.QuantParams(np.float32(s), 0).scale,
        [
            (0.0, error(ValueError, "finite and > 0")),
            (-(2.0**-149), error(ValueError, "finite and > 0")),
            *((2.0**-149, 2.0**-149), (2.0**-126, 2.0**-126)),
            (down(np.float32(2.0**-126)), down(np.float32(2.0**-126))),
            (np.finfo(np.float32).max, np.finfo(np.float32).max),
            (np.float32(INF), error(ValueError, "finite and > 0")),
        ],
    ),
    Limit(
        "a Python float as float32: it rounds to 0 or Inf beyond these",
        lambda s: zp.QuantParams(float(s), 0).scale,
        [
            (2.0**-150, error(ValueError, "stored as float32, is 0.0")),
            (up(2.0**-150), 2.0**-149),
            (down(2.0**128 - 2.0**103), np.finfo(np.float32).max),
            (2.0**128 - 2.0**103, error(ValueError, "stored as float32, is inf")),
        ],
    ),
    Limit(
        "a float64 scale for float32 data",
        lambda s: zp.QuantParams(np.float64(s), 0).quantize(np.float32([0]))[0],
        [
            (2.0**-150, error(ValueError, "scale, cast to float32 as the data is, is 0.0")),
            *((up(2.0**-150), 0), (down(2.0**128 - 2.0**103), 0)),
            (2.0**128 - 2.0**103, error(ValueError, "as the data is, is inf")),
        ],
    ),
    Limit(
        "1 / scale under torch",
        lambda s: zp.QuantParams(np.float32(s), 0, convention="torch").quantize(np.float32([s]))[0],
        [
            (down(np.float32(2.0**-128)), error(ValueError, "1/scale must be finite")),
            (np.float32(2.0**-128), error(ValueError, "1/scale must be finite")),
            (up(np.float32(2.0**-128)), 1),
        ],
    ),
    Limit(
        "the codes that symmetric needs",
        lambda n: zp.choose_params(np.float32([-1, 1]), qmin=3, qmax=2 + n, symmetric=True).scale,
        [
            (2, error(ValueError, "symmetric=True needs at least three codes; [3, 4] has two")),
            *((3, 1.0), (4, 1.0), (5, 0.5)),
        ],
    ),
    Limit(
        "percentile",
        lambda p: observers._percent(p),
        [
            (50, error(ValueError, "percentile 50 must be more than 50 and at most 100")),
            *((up(50.0), up(50.0)), (down(100.0), down(100.0)), (100, 100.0)),
            (up(100.0), error(ValueError, "must be more than 50 and at most 100")),
        ],
    ),
]
for dtype, qmin, qmax in RANGES:
    LIMITS += [
        Limit(
            f"zero points in [{qmin}, {qmax}] of {dtype}",
            lambda z, range=(dtype, qmin, qmax): (
                zp.QuantParams(0.5, z, range[0], qmin=range[1], qmax=range[2]).zero_point
            ),
            inside(qmin, qmax, f"is outside [{qmin}, {qmax}]"),
        ),
        Limit(
            f"qmax above qmin {qmin} of {dtype}",
            lambda top, range=(dtype, qmin): (
                zp.QuantParams(0.5, range[1], range[0], qmin=range[1], qmax=top).qmax
            ),
            [
                (qmin - 1, error(ValueError, "outside" if qmin in (0, -128) else "less than qmax")),
                (qmin, error(ValueError, f"qmin {qmin} must be less than qmax {qmin}")),
                (qmin + 1, qmin + 1),
            ],
        ),
    ]
for dtype, low, high in RANGES[:2]:
    LIMITS += [
        Limit(
            f"qmin of {dtype}",
            lambda value, dtype=dtype, high=high: zp.QuantParams(0.5, high, dtype, qmin=value).qmin,
            [*inside(low, high, "outside")[:4], (high, error(ValueError, "less than qmax"))],
        ),
        Limit(
            f"qmax of {dtype}",
            lambda value, dtype=dtype, low=low: zp.QuantParams(0.5, low, dtype, qmax=value).qmax,
            [(low, error(ValueError, "less than qmax")), *inside(low, high, "outside")[2:]],
        ),
    ]


def moved(z: int, dtype: str) -> int:
    """The zero point after `flip_signedness`."""
    params = zp.QuantParams(0.5, z, dtype, include_zero=False)
    return int(zp.flip_signedness(np.zeros(1, dtype), params)[1].zero_point)


LIMITS += [
    Limit(
        "flip_signedness: int32 below",
        lambda z: moved(z, "uint8"),
        [
            (127 - INT32, error(ValueError, "is outside")),
            (128 - INT32, -INT32),
            (INT32 - 1, 2**31 - 129),
        ],
    ),
    Limit(
        "flip_signedness: int32 above",
        lambda z: moved(z, "int8"),
        [
            (INT32 - 128, error(ValueError, "is outside")),
            (INT32 - 129, INT32 - 1),
            (-INT32, 128 - INT32),
        ],
    ),
]


# ---------------------------------------------------------------------------------------------
# What files hold

PATH = Path("some.npy")


def header_of(length: int) -> bytes:
    """A .npy file of no elements whose header has `length` bytes."""
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}"
    raw = text.ljust(length - 1).encode() + b"\n"
    return b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + raw


def read_header(data: bytes, total: int | None = None) -> tuple[int, ...]:
    import io

    size = len(data) if total is None else total
    return npy.read_header(io.BytesIO(data).read, size, PATH, "some").shape


LIMITS += [
    Limit(
        "the dimensions of an array",
        lambda n: source.check_shape((1,) * n, PATH, "w"),
        [(0, None), (63, None), (64, None), (65, error(ValueError, "has 65 dimensions"))],
    ),
    Limit(
        "a dimension",
        lambda n: source.check_shape((n, 0), PATH, "w"),
        [
            (-1, error(ValueError, "not an integer in [0, 2^63)")),
            *((0, None), (1, None)),
            ((INT64 - 1) // 16, None),
            ((INT64 - 1) // 16 + 1, error(ValueError, "has a shape that is too large")),
            (INT64 - 1, error(ValueError, "has a shape that is too large")),
            (INT64, error(ValueError, "not an integer in [0, 2^63)")),
        ],
    ),
    Limit(
        "the length of a .npy header",
        lambda n: read_header(header_of(n)),
        [
            *((2**16 - 1, (0,)), (2**16, (0,))),
            (2**16 + 1, error(ValueError, "of 65537 bytes, is too large")),
        ],
    ),
    Limit(
        "the end of a .npy file",
        lambda more: read_header(header_of(100), 112 + more),
        [
            (-1, error(ValueError, "would end at byte 112 of 111")),
            (0, (0,)),
            (1, error(ValueError, "takes 0 bytes, and 'some' has 1")),
        ],
    ),
]


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [(limit, value, expected) for limit in LIMITS for value, expected in limit.cases],
    ids=lambda part: part.name if isinstance(part, Limit) else None,
)
def test_limits(limit: Limit, value: Any, expected: Any) -> None:
    if isinstance(expected, Exception):
        with pytest.raises(type(expected), match=re.escape(str(expected))):
            limit.call(value)
    else:
        assert limit.call(value) == expected


# ---------------------------------------------------------------------------------------------
# The arithmetic at its ends, on every backend


def beside_the_ends(qmin: int, qmax: int, z: int, s: Any) -> np.ndarray[Any, Any]:
    """Data at and beside every half step near the first and the last code."""
    steps = [end - z + half / 2 for end in (qmin, qmax) for half in range(-5, 6)]
    values = np.array([float(Fraction(step) * Fraction(float(s))) for step in steps])
    return exact.neighbours(values, np.asarray(s).dtype)


@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize(("dtype", "qmin", "qmax"), RANGES)
def test_first_and_last_code(
    backend: str, dtype: str, qmin: int, qmax: int, real: type, convention: str
) -> None:
    s = real(0.1)
    for z in (qmin, qmax, (qmin + qmax) // 2):
        params = zp.QuantParams(s, z, dtype, qmin=qmin, qmax=qmax, convention=convention)
        x = beside_the_ends(qmin, qmax, z, s)
        name = np.dtype(real).name
        expected = [exact.code(v, s, z, qmin, qmax, convention, name) for v in x]
        assert params.quantize(x).tolist() == expected
        assert zp.quantize(np.repeat(x, 40), params).tolist() == np.repeat(expected, 40).tolist()


@pytest.mark.parametrize(
    "z", [sign * (2**24 + by) for sign in (1, -1) for by in (-1, 0, 1, 2)] + [-INT32, INT32 - 1]
)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_zero_points_that_float32_rounds(backend: str, z: int, real: type) -> None:
    """2^24 + 1 is no float32; float64 holds every zero point."""
    name = np.dtype(real).name
    params = zp.QuantParams(real(0.5), z, include_zero=False)
    q = np.array([0, 1, 2, 254, 255], np.uint8)
    found = [exact.as_fraction(v) for v in params.dequantize(q, dtype=name)]
    assert found == [exact.value(int(code), 0.5, z, name, name) for code in q]
    x = np.array([(k - z) * 0.5 for k in range(-3, 259, 3)], real)
    assert params.quantize(x).tolist() == [exact.code(v, 0.5, z, 0, 255, "numpy", name) for v in x]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@np.errstate(over="ignore")
def test_ends_of_the_formats(backend: str, precision: str, dtype: str) -> None:
    """The largest number, where rounding reaches Inf, and the same at the subnormals."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    digits, least = exact.FORMATS[dtype]
    largest = exact.LARGEST[dtype]
    unit = Fraction(2) ** least
    smallest_normal = unit * 2 ** (digits - 1)
    places = [largest, largest + largest / (2**digits - 1) / 2]  # and where it rounds to Inf
    places += [unit / 2, unit, unit * 3 / 2, smallest_normal, smallest_normal - unit / 2]
    real = np.dtype(precision).type
    q = np.array([0, 1, 2, 3], np.uint8)
    target = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    for place in places:
        if place > exact.LARGEST[precision]:
            continue
        for s in exact.neighbours([float(place)], real):
            if not 0 < s < INF:
                continue
            params = zp.QuantParams(s, 1)
            found = params.dequantize(q, dtype=target).astype(np.float64)
            expected = [exact.value(int(code), s, 1, precision, dtype) for code in q]
            assert [exact.as_fraction(v) for v in found] == expected, (s, place)


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("ties", ["even", "away"])
def test_where_every_float_is_an_integer(backend: str, real: type, ties: str) -> None:
    """Halves end at 2^23 and 2^52: round leaves what is beyond as it is."""
    digits = exact.FORMATS[np.dtype(real).name][0]
    edge = 2.0 ** (digits - 1)
    x = exact.neighbours([0.5, 1.5, edge / 2, edge - 1, edge, edge + 1, edge * 2], real)
    x = np.concatenate([x, -x])
    rounded = exact.half_even if ties == "even" else exact.half_away
    assert zp.round(x, ties=ties).tolist() == [float(rounded(Fraction(float(v)))) for v in x]
    assert (
        zp.round(np.repeat(x, 70), ties=ties).tolist()
        == np.repeat(zp.round(x, ties=ties), 70).tolist()
    )


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("target", ["uint8", "int8"])
def test_saturate_cast_at_its_bounds(backend: str, dtype: str, target: str) -> None:
    to, of = np.iinfo(target), np.iinfo(dtype)
    ends = [int(end) + by for i in (to, of) for end in (i.min, i.max) for by in (-1, 0, 1)]
    values = [v for v in [*ends, -1, 0, 1, 127, 128, 255, 256] if of.min <= v <= of.max]
    expected = [min(max(v, int(to.min)), int(to.max)) for v in values]
    assert zp.saturate_cast(np.array(values, dtype), target).tolist() == expected
    assert zp.saturate_cast(np.array(values * 20, dtype), target).tolist() == expected * 20


@pytest.mark.parametrize("real", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("target", "qmin", "qmax"), RANGES[:2])
def test_saturate_cast_of_halves_at_its_bounds(
    backend: str, real: type, target: str, qmin: int, qmax: int
) -> None:
    ends = [end + half / 2 for end in (qmin, qmax) for half in range(-3, 4)]
    x = exact.neighbours(ends, real)
    expected = [min(max(exact.half_even(Fraction(float(v))), qmin), qmax) for v in x]
    assert zp.saturate_cast(x, target).tolist() == expected


#: the first integers beyond 0 that a dtype lacks, or its ends
HELD = {"float16": 2**11, "float32": 2**24, "float64": 2**53}


@pytest.mark.parametrize("dtype", [*HELD, "int16", "int32", "int64"])
def test_saturate_bounds_that_a_dtype_holds(backend: str, dtype: str) -> None:
    def bounds(low: int, high: int) -> list[int]:
        return [int(v) for v in zp.saturate(np.array([-30000, 30000], dtype), low, high)]

    if dtype in HELD:
        edge = HELD[dtype]
        for value in (edge - 1, edge, edge + 2):
            assert bounds(0, value) == [0, min(30000, value)]
            assert bounds(-value, 0) == [max(-30000, -value), 0]
        for low, high in ((0, edge + 1), (-edge - 1, 0)):
            with pytest.raises(ValueError, match=f"{edge + 1} is not a {dtype}"):
                bounds(low, high)
    info = np.iinfo(dtype) if dtype not in HELD else np.iinfo(np.int64)
    least, most = (-65504, 65504) if dtype == "float16" else (int(info.min), int(info.max))
    if dtype in ("float32", "float64"):  # 2^63 - 1 is none of theirs, the number before it is
        most -= most // 2 ** exact.FORMATS[dtype][0]
    assert bounds(least, most) == [-30000, 30000]
    for low, high in ((least - 1, 0), (0, most + 1), (-(2**63) - 2**11, 0), (0, 2**63)):
        with pytest.raises(ValueError, match="is not a"):
            bounds(low, high)
    with pytest.raises(ValueError, match="qmin 6 must not be greater than qmax 5"):
        bounds(6, 5)
    assert bounds(5, 5) == [5, 5]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_saturate_bounds_of_codes(backend: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.max], dtype)
    assert zp.saturate(ends, info.min, info.max).tolist() == ends.tolist()
    for bounds in ((info.min - 1, 5), (5, info.max + 1)):
        with pytest.raises(ValueError, match=f"is not a {dtype}"):
            zp.saturate(ends, *bounds)


@pytest.mark.parametrize(("dtype", "qmin", "qmax"), RANGES)
def test_requantize_at_the_ends_of_int32(backend: str, dtype: str, qmin: int, qmax: int) -> None:
    """float32(acc) rounds from 2^24 on; codes clip at qmin and qmax."""
    edges = [-INT32, INT32 - 1, 2**24 - 1, 2**24 + 1, -(2**24) - 1, 0]
    for step in (1.0, 2.0**-20, 2.0**-24):
        params = zp.QuantParams(1.0, qmin, dtype, qmin=qmin, qmax=qmax)
        near = [int(end / step) + by for end in (0, qmax - qmin) for by in (-1, 0, 1)]
        acc = np.array([v for v in edges + near if -INT32 <= v < INT32], np.int32)
        expected = []
        for v in acc.tolist():
            real = exact.rounded(Fraction(v), "float32")
            assert isinstance(real, Fraction)
            expected.append(min(max(exact.half_even(real * Fraction(step)) + qmin, qmin), qmax))
        assert zp.requantize(acc, step, params).tolist() == expected


# ---------------------------------------------------------------------------------------------
# The choice


def smallest_at_least(value: Fraction, dtype: str) -> Fraction | float:
    digits, least = exact.FORMATS[dtype]
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if value < Fraction(2) ** exponent:
        exponent -= 1
    ulp = Fraction(2) ** max(exponent - digits + 1, least)
    found = math.ceil(value / ulp) * ulp
    return found if found <= exact.LARGEST[dtype] else INF


def expected_scale(low: float, high: float, steps: int, dtype: str) -> Fraction | float:
    """The quotient as the precision rounds it; the next number if that is subnormal or Inf."""
    span = exact.rounded(Fraction(high) - Fraction(low), dtype)
    scale = span if isinstance(span, float) else exact.rounded(span / steps, dtype)
    digits, least = exact.FORMATS[dtype]
    if isinstance(scale, float) or scale < Fraction(2) ** (least + digits - 1):
        return smallest_at_least((Fraction(high) - Fraction(low)) / steps, dtype)
    return scale


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize(("dtype", "qmin", "qmax"), [*RANGES, ("uint8", 9, 10), ("int8", 0, 2)])
def test_scales_at_the_ends_of_the_precision(
    backend: str, dtype: str, qmin: int, qmax: int, real: type
) -> None:
    """Overflow of the range or of the scale, and where the scale becomes subnormal."""
    name, steps = np.dtype(real).name, qmax - qmin
    info = np.finfo(real)
    normal, greatest, least = info.smallest_normal, info.max, info.smallest_subnormal
    pairs = [(-v, v) for v in (greatest, down(greatest), greatest / 2, up(greatest / real(2)))]
    edges = exact.neighbours(
        [float(normal * real(steps)), float(least) * steps, float(least)], real
    )
    pairs += [(real(0), v) for v in edges if v > 0] + [(-v, real(0)) for v in edges if v > 0]
    for low, high in pairs:
        x = np.array([low, high], real)
        expected = expected_scale(float(low), float(high), steps, name)
        if expected == INF:
            with pytest.raises(ValueError, match=f"is too wide: .* / {steps} is beyond {name}"):
                zp.choose_params(x, dtype, qmin=qmin, qmax=qmax)
            continue
        for rule in ("min", "max"):
            params = zp.choose_params(x, dtype, qmin=qmin, qmax=qmax, zero_point_from=rule)
            assert exact.as_fraction(params.scale) == expected, (low, high)


@pytest.mark.parametrize("rule", ["min", "max", "least_error"])
def test_zero_points_at_the_ends_of_int32(backend: str, rule: str) -> None:
    """In float64 every number here is exact: scale 1, and zero point -least for uint8."""
    for least, z in [(1 - INT32, INT32 - 1), (INT32 - 1, 1 - INT32), (INT32, -INT32)]:
        x = np.array([least, least + 255.0])
        params = zp.choose_params(x, include_zero=False, zero_point_from=rule)
        assert (params.scale, params.zero_point) == (1.0, z)
        assert params.quantize(x).tolist() == [0, 255]
    for least in (-INT32, INT32 + 1):
        with pytest.raises(ValueError, match="would be .*, beyond int32"):
            zp.choose_params([least, least + 255.0], include_zero=False, zero_point_from=rule)


def test_the_smallest_scale_of_torch(backend: str) -> None:
    """MinMaxObserver's scale is at least 2^-23, that of the other rules is not."""
    edge = np.float32(255 * 2.0**-23)
    for high in exact.neighbours([edge]):
        scale = exact.rounded(Fraction(float(high)) / 255, "float32")
        params = zp.choose_params(np.float32([0, high]), convention="torch")
        assert exact.as_fraction(params.scale) == max(scale, Fraction(1, 2**23))
        other = zp.choose_params(np.float32([0, high]), convention="torch", zero_point_from="min")
        assert exact.as_fraction(other.scale) == scale


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_blocks_at_the_ends_of_the_axis(backend: str, length: int) -> None:
    """Blocks of one, of all but one, of all, and of more elements than the axis has."""
    x = np.random.default_rng(length).normal(size=(3, length, 2)).astype(np.float32)
    for size in {1, 2, max(1, length - 1), length, length + 1, INT64 - 1}:
        params = zp.choose_params(x, axis=1, block_size=size)
        starts = range(0, length, size)
        for o, b, i in np.ndindex(3, len(starts), 2):
            part = x[o, starts[b] : starts[b] + size, i]
            one = zp.choose_params(part)
            assert params.scale[o, b, i] == one.scale
            assert params.zero_point[o, b, i] == one.zero_point
            codes = params.quantize(x)[o, starts[b] : starts[b] + size, i]
            assert codes.tolist() == one.quantize(part).tolist()
    with pytest.raises(ValueError, match="block_size 0 must be at least 1"):
        zp.choose_params(x, axis=1, block_size=0)


@pytest.mark.parametrize("function", ["choose_params", "min_max"])
def test_axes_of_64_dimensions(backend: str, function: str) -> None:
    shape = (2, *(1,) * 62, 3)
    x = np.arange(6, dtype=np.float32).reshape(shape)
    name = "axis" if function == "choose_params" else "channel_axis"

    def call(x: np.ndarray, axis: int) -> Any:
        return getattr(zp, function)(x, **{name: axis})

    for axis, length in ((0, 2), (63, 3), (-1, 3), (-64, 2), (1, 1), (-63, 1), (62, 1)):
        found = call(x, axis=axis)
        assert (found.scale if function == "choose_params" else found[1]).shape == (length,)
    for axis in (64, -65, 65, -66, INT32 - 1, -INT32):
        with pytest.raises(np.exceptions.AxisError, match=f"axis {axis} is out of bounds"):
            call(x, axis=axis)
    for axis in (INT32, -INT32 - 1):
        with pytest.raises(ValueError, match=f"^{name} {axis} is beyond"):
            call(x, axis=axis)


# ---------------------------------------------------------------------------------------------
# Histograms


@pytest.mark.parametrize(
    ("low", "high", "exponent"),
    [
        # bins 1 to 4096, and one more; with the zeros' bin between, and one more
        *((0.5, 4095.5, 0), (0.5, 4096.0, 1), (0.5, 4096.5, 1), (1.0, 4096.0, 0)),
        *((-0.5, 4093.5, 0), (-0.5, 4094.0, 1), (-4094.5, 0.5, 1), (-4093.5, 0.5, 0)),
        # no bin is narrower than 2^-24 of the largest magnitude
        *((1.0, 1.0, -23), (0.5, 0.5, -24), (1 - 2.0**-24, 1.0, -23), (0.5, 1 - 2.0**-24, -13)),
        # and none than 2^-126
        *((0.0, 2.0**-149, -126), (0.0, 2.0**-114, -125), (0.0, 2.0**-115, -126)),
        *((2.0**-103, 2.0**-103, -126), (2.0**-102, 2.0**-102, -125), (0.0, 2.0**127, 116)),
        (1.0, 2.0**127 - 2.0**103, 115),
    ],
)
def test_bins_of_a_histogram(backend: str, low: float, high: float, exponent: int) -> None:
    observer = observers.HistogramObserver().update(np.array([low, high], np.float32))
    fields = observer.to_dict()
    assert fields["exponent"] == exponent
    width = Fraction(2) ** exponent
    bins = [math.ceil(abs(Fraction(v)) / width + (Fraction(v) % width == 0)) for v in (low, high)]
    first, last = (
        0 if v == 0 else int(math.copysign(b, v)) for v, b in zip((low, high), bins, strict=True)
    )
    assert last - first < 4096
    gap = last - first - 1
    assert fields["counts"] == ([2] if gap < 0 else [1, -gap, 1] if gap else [1, 1])


def test_the_most_elements_that_a_histogram_counts() -> None:
    fields = observers.HistogramObserver().update(np.float32([1, 2])).to_dict()
    short = fields["counts"]
    full = fields | {"counts": [2**63 - 2, *short[1:]]}
    observer = observers.HistogramObserver.from_dict(full)
    assert observer.to_dict() == full
    with pytest.raises(ValueError, match="counts must describe"):
        observers.HistogramObserver.from_dict(fields | {"counts": [2**63 - 1, *short[1:]]})
    one = observers.HistogramObserver().update(np.float32([1]))
    with pytest.raises(ValueError, match=r"other has too many elements: counts go to 2\*\*63 - 1"):
        observer.merge(one)
    almost = observers.HistogramObserver.from_dict(fields | {"counts": [2**63 - 3, *short[1:]]})
    assert almost.merge(one).to_dict()["counts"][0] == 2**63 - 2


# ---------------------------------------------------------------------------------------------
# Sizes at which another way is taken: the same codes on both sides


#: where proofs replace divisions; where the GIL is released; two threads from 2^20 bytes on
SIZES = [8192, 2**17, 2**20 // 5 + 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_sizes_beside_a_change_of_ways(native: str, size: int, convention: str) -> None:
    s = np.float32(0.037)
    params = zp.QuantParams(s, 3, "int8", convention=convention)
    pattern = exact.half_steps(np.arange(-140, 141), s)
    with zp.use_backend("reference"):
        expected = params.quantize(np.resize(pattern, size + 1))
    threads = zp.get_num_threads()
    zp.set_num_threads(2)
    try:
        for n in (size - 1, size, size + 1):
            codes = params.quantize(np.resize(pattern, n))
            assert codes.tobytes() == expected[:n].tobytes()
            back = params.dequantize(codes)
            assert back.tobytes() == ((codes.astype(np.float32) - 3) * s).tobytes()
    finally:
        zp.set_num_threads(threads)


def test_is_name() -> None:
    assert source.is_name("w")
    assert not source.is_name("__metadata__")
    assert not source.is_name("\ud800")


def test_normal_axis() -> None:
    for ndim in (1, 2, 64):
        assert [_checks.normal_axis(a, ndim) for a in (-ndim, -1, 0, ndim - 1)] == [
            *(0, ndim - 1, 0, ndim - 1)
        ]
        for axis in (-ndim - 1, ndim):
            with pytest.raises(np.exceptions.AxisError):
                _checks.normal_axis(axis, ndim)
