"""Codes to codes: `rescale`, `Lookup`, `image_lookup`; tables by hand, then exact fractions."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _lookup

from .exact import half_away, half_even

CODES = {name: np.arange(256) + int(np.iinfo(name).min) for name in ("uint8", "int8")}
EVERY = {name: codes.astype(name) for name, codes in CODES.items()}
A, B = zp.QuantParams(0.1, 3, "int8"), zp.QuantParams(0.07, 128)


def of(scale: Any, zero_point: Any = 0, dtype: str = "int8", **more: Any) -> zp.QuantParams:
    return zp.QuantParams(scale, zero_point, dtype, **more)


# ---------------------------------------------------------------------------------------------
# By hand


@pytest.mark.parametrize(
    ("convention", "zero_point", "want"),
    [  # of the codes -3, -2, -1, 0, 1, 2, 3: the values -1.5 to 1.5 in steps of a half
        ("numpy", 0, [-2, -1, 0, 0, 0, 1, 2]),
        ("numpy", 1, [0, 0, 0, 1, 2, 2, 2]),  # -0.5 + 1 is a half as well, and even is another
        ("onnx", 1, [-1, 0, 1, 1, 1, 2, 3]),
        ("torch", 1, [-1, 0, 1, 1, 1, 2, 3]),
        ("tflite", 0, [-2, -1, -1, 0, 1, 1, 2]),
        ("tflite", 1, [-1, 0, 0, 1, 2, 2, 3]),
        ("ggml", 0, [-2, -1, -1, 0, 1, 1, 2]),
    ],
)
def test_halves_go_where_the_convention_sends_them(backend, convention, zero_point, want):
    q = np.arange(-3, 4).astype(np.int8)
    target = of(2.0, zero_point, convention=convention)
    assert zp.rescale(q, of(1.0), target).tolist() == want


@pytest.mark.parametrize(
    ("arithmetic", "want"),
    [
        ("exact", [-43, -1, 0, 0, 1, 42, 42]),
        ("float", [-43, -1, 0, 0, 1, 42, 42]),
        # 1/3 in 8 bits behind the point is 85/256: 128 steps are 42.5, and a half goes up
        ("litert", [-42, -1, 0, 0, 1, 42, 42]),
        # two thirds, rounded (halves up), and then a half of it, rounded (halves away from 0)
        ("litert_reference", [-43, -1, -1, 1, 1, 42, 43]),
    ],
)
def test_a_third(arithmetic, want):
    q = np.array([-128, -2, -1, 1, 2, 126, 127], np.int8)
    source, target = of(1.0), of(3.0, convention="onnx")
    assert zp.rescale(q, source, target, arithmetic=arithmetic).tolist() == want


def test_a_quarter():
    """Of mixed dtypes: 5, -5, 6, -6 steps are 1.25, -1.25, 1.5, -1.5."""
    q, source, target = np.array([5, -5, 6, -6], np.int8), of(1.0), of(4.0, 100, "uint8")
    found = {
        name: (zp.rescale(q, source, target, arithmetic=name).astype(int) - 100).tolist()
        for name in _lookup.ARITHMETICS
    }
    assert found["exact"] == found["float"] == [1, -1, 2, -2]
    assert found["litert"] == [2, -1, 2, -1]  # halved twice: 2.5 up to 3, 1.5 up to 2
    assert found["litert_reference"] == [2, -1, 2, -2]  # the second time away from 0


def test_no_double_rounding():
    """0.1f is a bit more than 0.1: 5, 25 and -5 steps are 0.5000000075, 2.5000000373 and the like;
    in float32 they are 0.5 and 2.5, and then the half goes to the even code.
    """
    q = np.array([5, 25, -5], np.int8)
    single, double = np.float32(0.1), np.float64(np.float32(0.1))
    assert zp.rescale(q, of(single), of(1.0)).tolist() == [1, 3, -1]
    for scale, into, want in (
        (single, np.float32(1), [0, 2, 0]),
        (single, np.float64(1), [0, 2, 0]),  # the value is computed as the source is
        (double, np.float32(1), [1, 3, -1]),
    ):
        assert zp.rescale(q, of(scale), of(into), arithmetic="float").tolist() == want


def test_table_and_error(backend):
    found = zp.Lookup(np.tanh, A, B)
    assert found.table.shape == (256,)
    assert found.table.dtype == np.uint8
    values = (CODES["int8"] - 3) * np.float64(np.float32(0.1))
    scale = np.float64(np.float32(0.07))
    want = np.clip(np.rint(np.tanh(values) / scale + 128), 0, 255)
    np.testing.assert_array_equal(found.table, want)
    back = (want - 128) * scale
    assert found.max_abs_error == np.abs(np.tanh(values) - back).max()
    np.testing.assert_array_equal(found(EVERY["int8"]), found.table)
    assert not found.table.flags.writeable


def test_identity_is_rescale(backend):
    for source, target in ((A, B), (B, A), (of(1.5), of(0.3, 7, convention="tflite"))):
        identity = zp.Lookup(lambda x: x, source, target)
        codes = EVERY[source.dtype.name]
        np.testing.assert_array_equal(identity(codes), zp.rescale(codes, source, target))


def test_nan_and_inf():
    source = of(1.0, nan_code=-128)
    np.testing.assert_array_equal(
        zp.Lookup(np.log, source, of(0.1, 5, nan_code=127)).table[[0, 1, 127, 128, 129, 130, 148]],
        [127, 127, 127, -128, 5, 12, 35],  # NaN of the code and of log(-1); log(0) is -Inf
    )
    np.testing.assert_array_equal(
        zp.Lookup(lambda x: 1 / (x - 2), source, of(0.1)).table[[0, 129, 130, 131]],
        [-128, -10, 127, 10],
    )
    codes = np.array([-128, -127, 127], np.int8)
    for arithmetic in _lookup.ARITHMETICS:
        for target, nan in ((of(1.0, nan_code=127), 127), (of(1.0, qmin=-100), -100)):
            got = zp.rescale(codes, source, target, arithmetic=arithmetic)
            assert got.tolist() == [nan, max(-127, target.qmin), target.qmax]


def test_error_is_of_the_codes_in_use():
    identity = [
        zp.Lookup(lambda x: x, of(1.0, qmin=-100, qmax=100), of(1.0, qmin=low, qmax=high))
        for low, high in ((-100, 100), (-100, 99), (-98, 100))
    ]
    assert [each.max_abs_error for each in identity] == [0, 1, 2]
    # Inf, and NaN, are no error
    assert zp.Lookup(np.log, of(1.0), of(1.0)).max_abs_error < 0.5


def test_values_of_offsets_are_in_float64():
    """faiss fuses in float32; a table does not."""
    source = zp.OffsetParams(None, np.float32(0.3), span=np.float32(0.7), convention="faiss")
    assert source.fused
    seen = []
    zp.Lookup(lambda x: seen.append(x) or x, source, B)
    span, offset = np.float64(source.span), np.float64(source.offset)
    np.testing.assert_array_equal(seen[0], (np.arange(256) + 0.5) / 255 * span + offset)


@pytest.mark.parametrize("convention", ["faiss", "sentence-transformers"])
def test_whole_steps_are_not_rounded_down(convention):
    """A value on the border of two codes has the upper one, as floor gives it."""
    target = zp.OffsetParams(None, 10.0, span=255.0, convention=convention)
    q = np.array([9, 10, 11, 12], np.uint8)
    assert zp.rescale(q, of(1.0, 0, "uint8"), target).tolist() == [0, 0, 1, 2]
    nothing = zp.OffsetParams(None, 10.0, span=0.0, convention=convention)
    want = [0, 0, 0, 0] if convention == "faiss" else [0, 0, 1, 2]  # which divides by 1
    assert zp.rescale(q, of(1.0, 0, "uint8"), nothing).tolist() == want
    assert zp.quantize(q.astype(np.float32), nothing).tolist() == want


def test_the_largest_ratio_of_litert():
    below = np.nextafter(np.float32(2.0**31), np.float32(0))
    got = zp.rescale(EVERY["int8"], of(below), of(1.0), arithmetic="litert")
    assert got.shape == (256,)


# ---------------------------------------------------------------------------------------------
# Exact fractions


def value(q: int, p: Any) -> Fraction:
    """Of parameters per tensor."""
    if isinstance(p, zp.QuantParams):
        return (q - p.zero_point) * Fraction(float(p.scale))
    offset = Fraction(float(p.offset))
    if p.convention == "cf":
        return q * Fraction(float(p.scale)) + offset
    span = Fraction(float(p.span))
    return offset + (q - p.qmin + Fraction(1, 2)) * span / (p.qmax - p.qmin)


def code(x: Fraction, p: Any) -> int:
    if isinstance(p, zp.QuantParams):
        t, z = x / Fraction(float(p.scale)), p.zero_point
        if p.convention == "numpy":
            found = half_even(t + z)
        else:
            found = (half_away if p.convention in ("tflite", "ggml") else half_even)(t) + z
        return min(max(found, p.qmin), p.qmax)
    above, n = x - Fraction(float(p.offset)), p.qmax - p.qmin
    if p.convention == "cf":
        return min(max(half_even(above / Fraction(float(p.scale))), p.qmin), p.qmax)
    span = Fraction(float(p.span))
    if span == 0:
        steps = 0 if p.convention == "faiss" else math.floor(above)
    else:
        steps = math.floor(above / span * n)
    return p.qmin + min(max(steps, 0), n)


def drawn(rng: Any, scale: Any, kind: str) -> Any:
    real = rng.choice([np.float32, np.float64])
    dtype = str(rng.choice(["uint8", "int8"]))
    low = int(CODES[dtype][0])
    qmin, qmax = (low, low + 255) if rng.random() < 0.7 else (low + 3, low + 200)
    more: dict[str, Any] = {"dtype": dtype, "qmin": qmin, "qmax": qmax, "convention": kind}
    if kind in zp.OFFSET_CONVENTIONS:
        offset = real(scale * rng.normal() * 100)
        if kind == "cf":
            return zp.OffsetParams(real(scale), offset, **more)
        span = 0 if rng.random() < 0.1 else scale * 255
        return zp.OffsetParams(None, offset, span=real(span), **more)
    zero = int(rng.integers(qmin, qmax + 1))
    if kind == "numpy" and rng.random() < 0.2:
        zero, more["include_zero"] = int(rng.integers(-(2**31), 2**31)), False
    return zp.QuantParams(real(scale), zero, **more)


KINDS = [*zp.CONVENTIONS, *zp.OFFSET_CONVENTIONS]


@pytest.mark.parametrize("kind", KINDS)
def test_exact(kind):
    """Against fractions, with ratios that make halves, and with any; each pair all codes."""
    rng = np.random.default_rng(len(kind))
    for i in range(24):
        scale = np.exp(rng.uniform(-9, 5))
        ratio = rng.choice([0.5, 0.25, 1, 1.5, 2.0**-7, 3]) if i % 2 else np.exp(rng.normal())
        if i % 8 == 6:
            ratio = 2.0 ** rng.integers(-60, 60)
        if i % 8 == 4:
            scale = rng.choice([2.0**-110, 2.0**110])
        source = drawn(rng, scale, KINDS[i % len(KINDS)] if i % 3 else "onnx")
        target = drawn(rng, scale / ratio, kind)
        codes = CODES[source.dtype.name].tolist()
        want = [code(value(q, source), target) for q in codes]
        found = zp.rescale(EVERY[source.dtype.name], source, target)
        assert found.tolist() == want, (source, target)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("arithmetic", _lookup.ARITHMETICS)
def test_channels_are_tensors(backend, arithmetic, axis):
    """Each channel as a tensor of its own, whichever side has channels."""
    rng = np.random.default_rng(axis % 3)
    scales = np.exp(rng.uniform(-3, 3, (2, 5))).astype(np.float32)
    zeros = rng.integers(-128, 128, (2, 5))
    q = rng.integers(-128, 128, (5, 5, 5)).astype(np.int8)
    for which in ("source", "target", "both"):
        sides = []
        for side, s, z, name in zip((0, 1), scales, zeros, ("source", "target"), strict=True):
            dtype = "uint8" if side else "int8"
            z = z + 128 * side
            if which in (name, "both"):
                sides.append([of(s, z, dtype, axis=axis), *map(of, s, z, [dtype] * 5)])
            else:
                sides.append([of(s[0], int(z[0]), dtype)] * 6)
        whole, *parts = zip(*sides, strict=True)
        got = zp.rescale(q, *whole, arithmetic=arithmetic)
        assert got.shape == q.shape
        for i, pair in enumerate(parts):
            want = zp.rescale(np.take(q, i, axis), *pair, arithmetic=arithmetic)
            np.testing.assert_array_equal(np.take(got, i, axis), want)


def test_float_is_dequantize_then_quantize():
    rng = np.random.default_rng(4)
    for kind in KINDS:
        for _ in range(6):
            scale = np.exp(rng.uniform(-5, 5))
            source, target = drawn(rng, scale, "onnx"), drawn(rng, scale * 1.3, kind)
            wide = any(p._arrays[0].dtype == np.float64 for p in (source, target))
            q = EVERY[source.dtype.name]
            x = zp.dequantize(q, source, dtype="float64" if wide else "float32")
            got = zp.rescale(q, source, target, arithmetic="float")
            np.testing.assert_array_equal(got, zp.quantize(x, target))


# ---------------------------------------------------------------------------------------------
# Calls


def test_any_memory(isa):
    """Strides, byte runs, in place, out; each compared with the reference."""
    rng = np.random.default_rng(5)
    q = rng.integers(0, 256, (6, 7, 8)).astype(np.uint8)
    target = zp.QuantParams(np.linspace(0.5, 2, 7), 3, "int8", axis=1)
    source = of(1.0, 100, "uint8")
    want = zp.rescale(q, source, target)
    for view in (q[::-1], q[:, :, ::2], np.asfortranarray(q), q.transpose(0, 1, 2)[1:]):
        got = zp.rescale(view, source, target)
        assert got.flags.c_contiguous
        assert got.shape == view.shape
    np.testing.assert_array_equal(zp.rescale(q[::-1], source, target), want[::-1])
    out = np.empty(q.shape, np.int8)
    assert zp.rescale(q, source, target, out=out) is out
    np.testing.assert_array_equal(out, want)
    place = q.copy()
    zp.rescale(place, source, target, out=place.view(np.int8))
    np.testing.assert_array_equal(place.view(np.int8), want)
    assert zp.rescale(np.uint8(7), source, of(1.0)).shape == ()
    assert zp.rescale(np.empty((0, 7, 1), np.uint8), source, target).shape == (0, 7, 1)


def test_remembered(monkeypatch):
    """By identity, else by value; at most so many."""
    kept, made, make = {}, [], _lookup._rescaling
    monkeypatch.setattr(_lookup, "_remembered", kept)
    monkeypatch.setattr(_lookup, "_MOST", 5)
    monkeypatch.setattr(_lookup, "_rescaling", lambda *given: made.append(given) or make(*given))
    q = EVERY["int8"]
    twice = zp.Lookup(lambda x: 2 * x, A, B).table
    for arithmetic in ("exact", "exact", "float"):
        zp.rescale(q, A, B, arithmetic=arithmetic)
    assert (len(kept), len(made)) == (4, 2)
    for _ in range(9):  # the ids of what is gone may be given again
        np.testing.assert_array_equal(zp.rescale(q, of(0.1, 3), B), zp.rescale(q, A, B))
        np.testing.assert_array_equal(zp.rescale(q, of(0.2, 3), B), twice)
        assert len(kept) <= 6
    assert 2 < len(made) < 20
    monkeypatch.setattr(_lookup, "_MOST", 1000)
    monkeypatch.setattr(_lookup, "_MOST_CODES", 10_000)  # of tables of 256 * 8 codes
    kept.clear()
    most = 0
    for _ in range(9):
        each = of(np.arange(1, 9, dtype=np.float32), axis=0)
        each = each.replace(zero_point=len(made))
        zp.rescale(np.zeros((8, 1), np.int8), each, B)
        most = max(most, len(kept))
    assert most == 2 * 5  # keys: five tables pass 10,000


def test_equal_hashed_pickled():
    first, second = zp.Lookup(np.tanh, A, B), zp.Lookup(lambda x: np.tanh(x), A, B)
    assert first == second
    assert hash(first) == hash(second)
    assert first != zp.Lookup(np.sin, A, B)
    assert first != 3
    copied = pickle.loads(pickle.dumps(second))
    assert copied == first
    assert copied.max_abs_error == first.max_abs_error
    np.testing.assert_array_equal(copied(EVERY["int8"]), first.table)
    assert repr(first).startswith("<Lookup of 256 codes, max_abs_error=0.03")
    for change in (lambda: setattr(first, "table", 1), lambda: first.__init__(np.sin, A, B)):
        with pytest.raises(AttributeError, match="immutable"):
            change()


# ---------------------------------------------------------------------------------------------
# Images

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize("channel_axis", [-1, -3, 0])
def test_image(backend, channel_axis):
    params = of(0.0186, -14)
    pixels = np.moveaxis(np.stack([EVERY["uint8"].reshape(16, 16)] * 3), 0, channel_axis)
    lookup = zp.image_lookup(MEAN, STD, params, channel_axis=channel_axis)
    values = np.stack(
        [(np.arange(256) / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    ).reshape(3, 16, 16)
    want = np.moveaxis(zp.quantize(values, params), 0, channel_axis)
    np.testing.assert_array_equal(lookup(pixels), want)
    assert lookup.source == zp.QuantParams(np.ones(3, np.float32), 0, axis=channel_axis)


def test_image_of_one_mean():
    lookup = zp.image_lookup(127.5, 127.5, of(1 / 127, 0), scale=1)
    assert lookup.table.shape == (256,)
    assert lookup(np.array([[0, 127], [128, 255]], np.uint8)).tolist() == [[-127, 0], [0, 127]]
    per_channel = of(np.array([1.0, 0.5], np.float32), axis=0)
    lookup = zp.image_lookup(0.0, 1.0, per_channel, channel_axis=0, scale=1)
    assert lookup.table[:, 20].tolist() == [20, 40]


# ---------------------------------------------------------------------------------------------
# Bad input

BLOCKS = zp.QuantParams(np.ones((2, 3), np.float32), 0, axis=1, block_size=4)
TWO, THREE = (of(np.ones(n, np.float32), axis=0) for n in (2, 3))
Q = np.zeros((2, 2), np.int8)
BAD = [
    (lambda: zp.rescale(Q, A, B, arithmetic="exakt"), ValueError, "arithmetic 'exakt' is unknown"),
    (lambda: zp.rescale(Q, A, B, arithmetic=["exact"]), ValueError, "arithmetic list .* is unkn"),
    (lambda: zp.rescale(Q, 0.1, B), TypeError, "source must be a QuantParams or OffsetParams"),
    (lambda: zp.rescale(Q, A, None), TypeError, "target must be a QuantParams or OffsetParams"),
    (lambda: zp.rescale(Q, A, BLOCKS), ValueError, "target has block_size 4"),
    (lambda: zp.rescale(Q, TWO, THREE), ValueError, "source has 2 channels and target 3"),
    (
        lambda: zp.rescale(Q, TWO, TWO.replace(axis=1)),
        ValueError,
        "the axis of source is 0 and that of target 1; name the same axis",
    ),
    (lambda: zp.rescale(Q.view(np.uint8), A, B), TypeError, "q has dtype uint8 where int8"),
    (lambda: zp.rescale(Q, THREE, B), ValueError, "the table has 3 channels, along axis 0 of q"),
    (lambda: zp.rescale(Q[0, 0], THREE, B), ValueError, "axis 0 is out of bounds"),
    (lambda: zp.rescale(Q, A, B, out=Q), TypeError, "out has dtype int8"),
    (lambda: zp.rescale(Q, A, B, out=Q[0].view(np.uint8)), ValueError, "out has shape"),
    (
        lambda: zp.rescale(Q, A, zp.OffsetParams(1.0, 0.0), arithmetic="litert"),
        ValueError,
        "target is an OffsetParams, and LiteRT has no real offsets",
    ),
    (
        lambda: zp.rescale(Q, of(1.0, 300, include_zero=False), B, arithmetic="litert_reference"),
        ValueError,
        "the zero_point of source must lie in",
    ),
    (
        lambda: zp.rescale(Q, of(np.float64(1e-60)), B, arithmetic="litert"),
        ValueError,
        "scale, cast to float32",
    ),
    (
        lambda: zp.rescale(Q, of(2.0**31), of(1.0), arithmetic="litert"),
        ValueError,
        "undefined from 2\\*\\*31 on",
    ),
    (lambda: zp.Lookup(3, A, B), TypeError, "function must be callable, not 3"),
    (lambda: zp.Lookup(math.tanh, A, B), TypeError, "numpy.vectorize"),
    (lambda: zp.Lookup(lambda x: x if x > 0 else 0, A, B), ValueError, "numpy.vectorize"),
    (lambda: zp.Lookup(np.sum, A, B), ValueError, r"shape \(\) where \(256,\) is needed"),
    (lambda: zp.Lookup(lambda x: x + 1j, A, B), TypeError, r"function\(values\) has dtype complex"),
    (lambda: zp.Lookup(lambda x: x > 0, A, B), TypeError, r"function\(values\) has dtype bool"),
    (lambda: zp.Lookup(lambda x: None, A, B), TypeError, r"function\(values\)"),
    (lambda: zp.image_lookup(0, 0, A), ValueError, "std 0 must be finite and not 0"),
    (lambda: zp.image_lookup([0, np.nan], 1, A), ValueError, "mean .* must be finite"),
    (lambda: zp.image_lookup(0, 1, A, scale=[1, 2]), TypeError, "scale must be a real number, not"),
    (lambda: zp.image_lookup("a", 1, A), TypeError, "mean"),
    (lambda: zp.image_lookup([0, 1], [1, 1, 1], A), ValueError, "mean has 2 numbers and std 3"),
    (lambda: zp.image_lookup([0, 1], 1, THREE, channel_axis=0), ValueError, "2 channels"),
    (lambda: zp.image_lookup(0, 1, A, channel_axis=0.5), TypeError, "channel_axis"),
    (lambda: zp.image_lookup([0, 1], 1, A, channel_axis=None), TypeError, "channel_axis"),
    (lambda: zp.image_lookup([], 1, A), TypeError, "mean must be a real number or one per"),
    (lambda: zp.image_lookup(0, 1, None), TypeError, "params must be a QuantParams"),
    (
        lambda: zp.image_lookup([0, 1, 2], 1, THREE, channel_axis=-3),
        ValueError,
        "the axis of the image of mean, std and channel_axis is -3 and that of params 0",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD)
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
