"""Golden tables, worked out by hand.  They oracle the reference and every backend alike."""

from __future__ import annotations

import numpy as np
import pytest

import zeropoint as zp

NAN, INF = np.nan, np.inf
# scale 0.5 and zero point 3 make every step exact, so that the ties are real ties
TIES = [-1.25, -0.75, -0.25, -0.0, 0.25, 0.75, 1.25, 1.75]
# x / s:  -2.5   -1.5   -0.5   -0    0.5   1.5   2.5   3.5
TIE_CODES = {
    "numpy": [0, 2, 2, 3, 4, 4, 6, 6],  # 0.5 1.5 2.5 3 3.5 4.5 5.5 6.5, each to even
    "onnx": [1, 1, 3, 3, 3, 5, 5, 7],  # -2 -2 -0 0 0 2 2 4, plus 3
    "torch": [1, 1, 3, 3, 3, 5, 5, 7],  # 1 / 0.5 is exact
    "tflite": [0, 1, 2, 3, 4, 5, 6, 7],  # -3 -2 -1 0 1 2 3 4, plus 3
    "ggml": [0, 1, 2, 3, 4, 5, 6, 7],
}
ALIASES = {
    "onnxruntime": "onnx",
    "litert": "torch",
    "xnnpack": "torch",
    "litert_reference": "tflite",
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("convention", TIE_CODES)
def test_ties(backend: str, convention: str, dtype: type) -> None:
    params = zp.QuantParams(0.5, 3, convention=convention)
    assert params.quantize(np.array(TIES, dtype)).tolist() == TIE_CODES[convention]


def test_the_reciprocal_is_not_the_quotient(backend: str) -> None:
    # 0.78 / 0.12 is 6.5 in float32, a tie that goes to 6; 0.78 * (1 / 0.12) is the next float
    x, s = np.float32(0.78), np.float32(0.12)
    assert x / s == np.float32(6.5)
    assert x * (np.float32(1) / s) > np.float32(6.5)
    codes = {c: int(zp.quantize(x, zp.QuantParams(s, 0, convention=c))) for c in TIE_CODES}
    assert codes == {"numpy": 6, "onnx": 6, "torch": 7, "tflite": 7, "ggml": 7}


@pytest.mark.parametrize("convention", TIE_CODES)
@pytest.mark.parametrize(("dtype", "low", "high"), [("uint8", 0, 255), ("int8", -128, 127)])
def test_ends(backend: str, convention: str, dtype: str, low: int, high: int) -> None:
    params = zp.QuantParams(0.5, 5, dtype, convention=convention)
    x = np.array([NAN, -NAN, INF, -INF, 1e30, -1e30, 3.4e38, -3.4e38, 1e-45, -0.0], np.float32)
    expected = [low, low, high, low, high, low, high, low, 5, 5]
    assert params.quantize(x).tolist() == expected


def test_sub_range(backend: str) -> None:
    params = zp.QuantParams(1.0, 0, "int8", qmin=-8, qmax=7)
    x = np.array([-9, -8.5, -8, -0.5, 0.5, 6.5, 7, 7.5, 100, NAN], np.float32)
    assert params.quantize(x).tolist() == [-8, -8, -8, 0, 0, 6, 7, 7, 7, -8]


def test_dequantize(backend: str) -> None:
    q = np.array([0, 1, 127, 128, 255], np.uint8)
    params = zp.QuantParams(0.25, 128)
    assert params.dequantize(q).tolist() == [-32.0, -31.75, -0.25, 0.0, 31.75]
    q8 = np.array([-128, -1, 0, 127], np.int8)
    params = zp.QuantParams(0.5, -1, "int8")
    assert params.dequantize(q8).tolist() == [-63.5, 0.0, 0.5, 64.0]


def test_dequantize_rounds_once_from_the_precision_of_the_scale(backend: str) -> None:
    q = np.array([3], np.uint8)
    assert zp.QuantParams(0.1, 0).dequantize(q, dtype="float64")[0] == float(
        np.float32(3) * np.float32(0.1)
    )
    assert zp.QuantParams(np.float64(0.1), 0).dequantize(q, dtype="float64")[0] == 3 * 0.1
    # in float64 1 + 2^-11 + 2^-40 lies above the tie of float16; by way of float32 it would be one
    scale = np.float64(1 + 2**-11 + 2**-40)
    one = np.array([1], np.uint8)
    assert zp.QuantParams(scale, 0).dequantize(one, dtype="float16")[0] == np.float16(1 + 2**-10)


def test_bfloat16_rounds_once(backend: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    one = np.array([1], np.uint8)
    # above the tie between 1 and 1 + 2^-7 by less than float32 can tell
    above = zp.QuantParams(np.float64(1 + 2**-8 + 2**-40), 0)
    tie = zp.QuantParams(np.float64(1 + 2**-8), 0)
    below = zp.QuantParams(np.float64(1 + 2**-8 - 2**-40), 0)
    values = [p.dequantize(one, dtype=ml_dtypes.bfloat16)[0] for p in (above, tie, below)]
    assert [float(v) for v in values] == [1 + 2**-7, 1.0, 1.0]


def test_fake_quantize(backend: str) -> None:
    params = zp.QuantParams(0.5, 3, convention="onnx")
    x = np.array([-1.25, 0.3, 1000, -1000, NAN], np.float32)
    assert params.fake_quantize(x).tolist() == [-1.0, 0.5, 126.0, -1.5, -1.5]


def test_round(backend: str) -> None:
    x = np.array([-2.5, -1.5, -0.5, -0.49999997, -0.0, 0.49999997, 0.5, 1.5, 2.5, 8388607.5])
    for dtype in (np.float32, np.float64):
        even = zp.round(x.astype(dtype))
        away = zp.round(x.astype(dtype), ties="away")
        assert even.tolist() == [-2, -2, 0, 0, 0, 0, 0, 2, 2, 8388608]
        assert away.tolist() == [-3, -2, -1, 0, 0, 0, 1, 2, 3, 8388608]
        assert np.signbit(even).tolist() == [True] * 5 + [False] * 5
        assert np.signbit(away).tolist() == [True] * 5 + [False] * 5
    special = np.array([INF, -INF, 1e30, -1e30, 16777217.0], np.float32)
    assert zp.round(special).tolist() == special.tolist()
    assert np.isnan(zp.round(np.array([NAN], np.float32))).all()


def test_saturate(backend: str) -> None:
    x = np.array([-5, -0.5, 0.5, 300, INF, -INF], np.float32)
    assert zp.saturate(x, 0, 255).tolist() == [0, 0, 0.5, 255, 255, 0]
    assert np.isnan(zp.saturate(np.array([NAN], np.float32), 0, 1)).all()
    assert zp.saturate(np.array([-70000, 5, 70000]), -128, 127).tolist() == [-128, 5, 127]


@pytest.mark.parametrize("bits", [24, 31, 53, 62])
def test_saturate_by_bounds_that_float32_would_round(backend: str, bits: int) -> None:
    """2^24 + 1 and its like: a bound is exact in the dtype of x, whatever other types hold."""
    bound = 2**bits + 1
    x = np.array([bound - 2, bound - 1, bound, bound + 1, bound + 2, 7], np.int64)
    x = np.concatenate([x, -x])
    expected = [min(v, bound) for v in x[:6].tolist()] + [-min(v, bound) for v in x[:6].tolist()]
    assert zp.saturate(x, -bound, bound).tolist() == expected
    if bits < 53:
        assert zp.saturate(x.astype(np.float64), -bound, bound).tolist() == expected
    if bits == 24:
        assert zp.saturate(x.astype(np.int32), -bound, bound).tolist() == expected
    many = np.tile(x, 100)  # beyond the loops' tails
    assert zp.saturate(many, -bound, bound).tolist() == expected * 100


def test_saturate_codes(backend: str) -> None:
    x = np.array([0, 1, 9, 10, 11, 127, 128, 254, 255], np.uint8)
    assert zp.saturate(x, 10, 200).tolist() == [10, 10, 10, 10, 11, 127, 128, 200, 200]
    assert zp.saturate(x, 0, 255).tolist() == x.tolist()
    x = x.view(np.int8)  # 128 is -128
    assert zp.saturate(x, -2, 10).tolist() == [0, 1, 9, 10, 10, 10, -2, -2, -1]
    assert zp.saturate(x, -128, 127).tolist() == x.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "float32"])
def test_saturate_to_one_value(backend: str, dtype: str) -> None:
    x = np.array([0, 6, 7, 8, 127], dtype)
    assert zp.saturate(x, 7, 7).tolist() == [7] * 5


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_saturate_to_the_ends_of_the_dtype(backend: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.min + 1, -1, 0, info.max - 1, info.max], dtype)
    assert zp.saturate(x, info.min, info.max).tolist() == x.tolist()
    assert zp.saturate(x, info.min + 1, info.max - 1).tolist() == [
        *(info.min + 1, info.min + 1, -1, 0, info.max - 1, info.max - 1)
    ]


def test_saturate_cast(backend: str) -> None:
    x = np.array([-1e10, -128.5, -0.5, 0.5, 1.5, 127.5, 254.5, 255.5, 1e10, NAN, INF, -INF])
    for dtype in (np.float32, np.float64):
        u8 = zp.saturate_cast(x.astype(dtype), "uint8")
        assert u8.tolist() == [0, 0, 0, 0, 2, 128, 254, 255, 255, 0, 255, 0]
        i8 = zp.saturate_cast(x.astype(dtype), "int8")
        assert i8.tolist() == [-128, -128, 0, 0, 2, 127, 127, 127, 127, -128, 127, -128]
    for dtype in (np.int16, np.int32, np.int64):
        info = np.iinfo(dtype)
        whole = np.array([info.min, -129, -128, -1, 0, 127, 128, 255, 256, info.max], dtype)
        assert zp.saturate_cast(whole, "uint8").tolist() == [0, 0, 0, 0, 0, 127, 128, 255, 255, 255]
        i8 = zp.saturate_cast(whole, "int8")
        assert i8.tolist() == [-128, -128, -128, -1, 0, 127, 127, 127, 127, 127]
    assert zp.saturate_cast(np.array([0, 127, 128, 255], np.uint8), "int8").tolist() == [
        0,
        127,
        127,
        127,
    ]
    assert zp.saturate_cast(np.array([-128, -1, 0, 127], np.int8), "uint8").tolist() == [
        0,
        0,
        0,
        127,
    ]


def test_requantize(backend: str) -> None:
    acc = np.array([-(2**31), -3, -1, 0, 1, 3, 5, 2**31 - 1], np.int32)
    params = zp.QuantParams(1.0, 10)
    # M = 0.5: -1.5 -0.5 0 0.5 1.5 2.5 to even, plus 10
    assert zp.requantize(acc, 0.5, params).tolist() == [0, 8, 10, 10, 10, 12, 12, 255]
    per_channel = zp.QuantParams([1.0, 2.0], [0, 1], "int8", axis=1)
    acc = np.array([[3, 3], [-7, -7]], np.int32)
    assert zp.requantize(acc, [0.5, 0.5], per_channel).tolist() == [[2, 2], [-4, -1]]


def test_shift(backend: str) -> None:
    params = zp.QuantParams(0.5, 3)
    q, moved = zp.flip_signedness(np.array([0, 3, 128, 255], np.uint8), params)
    assert q.dtype == np.int8
    assert q.tolist() == [-128, -125, 0, 127]
    assert (moved.zero_point, moved.qmin, moved.qmax) == (-125, -128, 127)
    back, original = zp.flip_signedness(q, moved)
    assert back.tolist() == [0, 3, 128, 255]
    assert original == params
    assert type(zp.flip_signedness(np.array(5, np.uint8), params)[0]) is np.ndarray


def test_min_max(backend: str) -> None:
    x = np.array([[3, -0.0, 2], [-5, 0.0, 7]], np.float32)
    assert zp.min_max(x) == (-5, 7)
    low, high = zp.min_max(x, channel_axis=1)
    assert low.tolist() == [-5, 0, 2]
    assert high.tolist() == [3, 0, 7]
    assert not np.signbit(low[1])
    assert not np.signbit(high[1])
    low, high = zp.min_max(x, channel_axis=0)
    assert low.tolist() == [0, -5]
    assert high.tolist() == [3, 7]


def test_per_channel_and_block(backend: str) -> None:
    x = np.array([[1, 2, 3], [10, 20, 30]], np.float32)
    rows = zp.QuantParams([1.0, 10.0], [0, 5], axis=0)
    assert rows.quantize(x).tolist() == [[1, 2, 3], [6, 7, 8]]
    columns = zp.QuantParams([1.0, 2.0, 3.0], 0, axis=-1)
    assert columns.quantize(x).tolist() == [[1, 1, 1], [10, 10, 10]]
    blocks = zp.QuantParams([[1.0, 3.0], [10.0, 30.0]], 0, axis=1, block_size=2)
    assert blocks.quantize(x).tolist() == [[1, 2, 1], [1, 2, 1]]
    down = zp.QuantParams([[1.0, 2.0, 3.0]], 0, axis=0, block_size=2)
    assert down.quantize(x).tolist() == [[1, 1, 1], [10, 10, 10]]


@pytest.mark.parametrize(("alias", "canonical"), ALIASES.items())
def test_aliases(alias: str, canonical: str) -> None:
    assert zp.QuantParams(1.0, 0, convention=alias).convention == canonical


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "least"), [("float16", -24), ("bfloat16", -133)])
def test_subnormal_results(backend: str, precision: type, name: str, least: int) -> None:
    """Below the least subnormal: to its nearest multiple, halves to even."""
    bfloat16 = name == "bfloat16"
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if bfloat16 else name)
    for part, codes in [(0.5, [0, 1, 2]), (0.75, [1, 2, 2]), (0.625, [1, 1, 2])]:
        scale = precision(part * 2.0**least)
        params = zp.QuantParams(scale, 0)
        found = params.dequantize(np.tile(np.array([1, 2, 3], np.uint8), 30), dtype=dtype)
        assert found.astype(np.float64).tolist() == [c * 2.0**least for c in codes] * 30


# ---- real offsets ----------------------------------------------------------------------------


def offsets(convention: str, width: float, offset: float, dtype: str = "uint8", **rest: object):
    """`width` is what the convention keeps: the scale of cf, the span of the others."""
    if convention == "cf":
        return zp.OffsetParams(width, offset, dtype, **rest)
    return zp.OffsetParams(None, offset, dtype, span=width, convention=convention, **rest)


#: (convention, kept): steps of 0.5 from 10 on, of 255 codes; every quotient below is exact
HALF_STEPS = [("cf", 0.5), ("sentence-transformers", 127.5), ("faiss", 127.5)]
FROM_TEN = [9, 9.75, 10, 10.25, 10.5, 10.75, 11.25, 12, 137, 137.5, 138, 1000]
# (x - 10) / 0.5: -2 -0.5 0 0.5 1 1.5 2.5 4 254 255 256 1980
FROM_TEN_CODES = {
    "cf": [0, 0, 0, 0, 1, 2, 2, 4, 254, 255, 255, 255],  # to even
    "sentence-transformers": [0, 0, 0, 0, 1, 1, 2, 4, 254, 255, 255, 255],  # down
    "faiss": [0, 0, 0, 0, 1, 1, 2, 4, 254, 255, 255, 255],  # toward 0
}


@pytest.mark.parametrize("real", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("convention", "width"), HALF_STEPS)
def test_offset_codes(backend: str, convention: str, width: float, real: type) -> None:
    x = np.array(FROM_TEN, real)
    params = offsets(convention, width, 10)
    assert params.scale == 0.5
    assert params.quantize(x).tolist() == FROM_TEN_CODES[convention]
    # int8: the first code is -128, which under cf lies 64 below the offset
    params = offsets(convention, width, 74 if convention == "cf" else 10, "int8")
    assert params.quantize(x).tolist() == [code - 128 for code in FROM_TEN_CODES[convention]]


@pytest.mark.parametrize(("convention", "width"), HALF_STEPS)
def test_offset_ends(backend: str, convention: str, width: float) -> None:
    x = np.array([NAN, -NAN, INF, -INF, 1e30, -1e30, 3.4e38, -3.4e38, 1e-45, -0.0], np.float32)
    params = offsets(convention, width, 0)
    assert params.quantize(x).tolist() == [0, 0, 255, 0, 255, 0, 255, 0, 0, 0]
    params = offsets(convention, width, 0, "int8")
    first = 0 if convention == "cf" else -128
    expected = [-128, -128, 127, -128, 127, -128, 127, -128, first, first]
    assert params.quantize(x).tolist() == expected
    # x - offset overflows
    x = np.array([3e38, -3e38], np.float32)
    assert offsets(convention, width, -3e38).quantize(x).tolist() == [255, 0]
    assert offsets(convention, width, 3e38).quantize(x).tolist() == [0, 0]


def test_the_difference_is_rounded(backend: str) -> None:
    # 3 - 2^-24 is 3 in float32, and 3 / 2 a tie; in float64 it lies below the tie
    x, offset = np.float32(3), 2.0**-24
    assert zp.OffsetParams(2.0, offset).quantize(x) == 2
    assert zp.OffsetParams(2.0, offset).quantize(np.float64(3)) == 1
    assert zp.OffsetParams(np.float64(2), np.float64(offset)).quantize(x) == 1


def test_the_last_code_of_sentence_transformers(backend: str) -> None:
    # float32(1 / 255) is 1 / 255 + 2^-32 * 0.996, so 1 / s is 255 - 0.996 ulp: 255 - 2^-16
    one = np.float32(1)
    assert one / (one / np.float32(255)) == np.float32(255 - 2**-16)
    codes = {c: int(offsets(c, 1.0, 0.0).quantize(one)) for c, _ in HALF_STEPS[1:]}
    assert codes == {"sentence-transformers": 254, "faiss": 255}
    assert zp.OffsetParams(one / np.float32(255), 0.0).quantize(one) == 255  # to nearest


@pytest.mark.parametrize(("dtype", "qmin"), [("uint8", 0), ("uint8", 3), ("int8", -2)])
def test_offset_sub_range(backend: str, dtype: str, qmin: int) -> None:
    """Four steps from 10 to 14: a step is 1, and every quotient is exact."""
    x = np.array([9, 10, 10.75, 11, 13.75, 14, 15, NAN], np.float32)
    for convention in ("sentence-transformers", "faiss"):
        params = offsets(convention, 4, 10, dtype, qmin=qmin, qmax=qmin + 4)
        assert params.quantize(x).tolist() == [qmin + c for c in (0, 0, 0, 1, 3, 4, 4, 0)]
        values = params.dequantize(np.arange(qmin, qmin + 5).astype(dtype))
        assert values.tolist() == [10.5, 11.5, 12.5, 13.5, 14.5]
    params = zp.OffsetParams(1.0, 10 - qmin, dtype, qmin=qmin, qmax=qmin + 4)
    assert params.quantize(x).tolist() == [qmin + c for c in (0, 0, 1, 1, 4, 4, 4, 0)]
    values = params.dequantize(np.arange(qmin, qmin + 5).astype(dtype))
    assert values.tolist() == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("convention", ["sentence-transformers", "faiss"])
def test_a_span_of_zero(backend: str, convention: str) -> None:
    x = np.array([-INF, 6, 7, 7.5, 8, 9.5, NAN], np.float32)
    params = offsets(convention, 0, 7)
    # sentence-transformers takes 1 for the step; the value is the offset all the same
    codes = {"sentence-transformers": [0, 0, 0, 0, 1, 2, 0], "faiss": [0] * 7}
    assert params.quantize(x).tolist() == codes[convention]
    assert params.dequantize(np.array([0, 1, 255], np.uint8)).tolist() == [7, 7, 7]
    assert params.fake_quantize(x).tolist() == [7] * 7
    assert (
        params.quantize(np.float32(INF)) == {"sentence-transformers": 255, "faiss": 0}[convention]
    )


def test_offset_values(backend: str) -> None:
    q = np.array([0, 1, 254, 255], np.uint8)
    assert zp.OffsetParams(0.5, 10.0).dequantize(q).tolist() == [10, 10.5, 137, 137.5]
    assert zp.OffsetParams(0.5, 10.0, "int8").dequantize(q.view(np.int8)).tolist() == [
        *(10, 10.5, 9, 9.5)
    ]
    params = offsets("sentence-transformers", 127.5, 10.0)
    assert params.dequantize(q).tolist() == [10.25, 10.75, 137.25, 137.75]
    params = offsets("sentence-transformers", 127.5, 10.0, "int8")
    assert params.dequantize(q.view(np.int8)).tolist() == [74.25, 74.75, 73.25, 73.75]


def test_offset_values_are_rounded_twice(backend: str) -> None:
    s = np.float32(0.1)
    three = np.array([3], np.uint8)
    want = np.float32(np.float32(np.float32(3) * s) + np.float32(1))
    assert zp.OffsetParams(s, 1.0).dequantize(three, dtype="float64")[0] == float(want)
    params = zp.OffsetParams(np.float64(0.1), np.float64(1))
    assert params.dequantize(three, dtype="float64")[0] == 3 * 0.1 + 1
    # 1 + 2^-11 + 2^-40 lies above the tie of float16; by way of float32 it would be one
    params = zp.OffsetParams(np.float64(2**-11 + 2**-40), np.float64(1))
    one = np.array([1], np.uint8)
    assert params.dequantize(one, dtype="float16")[0] == np.float16(1 + 2**-10)


@pytest.mark.parametrize(("fused", "value"), [(True, 3 * 2**-26), (False, 2**-24)])
def test_one_rounding_or_two(backend: str, fused: bool, value: float) -> None:
    # of code 1 of 4 steps: 3/8 * (1 + 2^-23) = 3/8 + 3 * 2^-26 is a tie, which goes up
    span = np.float32(1 + 2**-23)
    params = offsets("faiss", span, np.float32(-0.375), qmax=4, fused=fused)
    assert params.dequantize(np.array([1], np.uint8)).tolist() == [value]
    assert params.fake_quantize(np.array([0], np.float32)).tolist() == [value]  # 4 * 3/8 is 1.5


@pytest.mark.parametrize("sign", [1, -1])
def test_the_fused_sum_is_rounded_once(backend: str, sign: int) -> None:
    # 3/8 * (1 + 2^-23) is half way between two floats, and an offset that float64 loses decides
    offset = np.float32(sign * 2.0**-100)
    params = offsets("faiss", np.float32(1 + 2**-23), offset, qmax=4, fused=True)
    want = (12582914 if sign > 0 else 12582913) * 2.0**-25
    assert params.dequantize(np.array([1] * 40, np.uint8)).tolist() == [want] * 40


def test_offset_channels_and_blocks(backend: str) -> None:
    x = np.array([[1, 2, 3], [10, 20, 30]], np.float32)
    rows = zp.OffsetParams([1.0, 10.0], [1.0, -10.0], axis=0)
    assert rows.quantize(x).tolist() == [[0, 1, 2], [2, 3, 4]]
    assert rows.dequantize(rows.quantize(x)).tolist() == x.tolist()
    blocks = zp.OffsetParams([[1.0, 3.0], [10.0, 30.0]], [[0, 0], [0, -30.0]], axis=1, block_size=2)
    assert blocks.quantize(x).tolist() == [[1, 2, 1], [1, 2, 2]]


# ---- a code for NaN --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "qmin", "qmax"),
    [
        ({"nan_code": 0}, 1, 255),
        ({"nan_code": 255}, 0, 254),
        ({"qmax": 200, "nan_code": 255}, 0, 200),
        ({"qmin": 5, "qmax": 200, "nan_code": 5}, 6, 200),
        ({"qmin": 5, "nan_code": 0}, 5, 255),
    ],
)
def test_a_code_for_nan(backend: str, given: dict, qmin: int, qmax: int) -> None:
    code = given["nan_code"]
    x = np.array([NAN, 8, -NAN, 9, INF, -INF, 1e30, -1e30], np.float32)
    for params in (zp.QuantParams(1.0, 10, **given), zp.OffsetParams(1.0, -10.0, **given)):
        assert (params.qmin, params.qmax, params.nan_code) == (qmin, qmax, code)
        q = params.quantize(x)
        assert q.tolist() == [code, 18, code, 19, qmax, qmin, qmax, qmin]
        want = [NAN, 8, NAN, 9, *[qmax - 10, qmin - 10] * 2]
        np.testing.assert_array_equal(params.dequantize(q), want)
        np.testing.assert_array_equal(params.fake_quantize(x), want)


@pytest.mark.parametrize("convention", ["sentence-transformers", "faiss"])
def test_a_code_for_nan_leaves_one_step_less(backend: str, convention: str) -> None:
    """n is 254, so a span of 127 has steps of 0.5."""
    x = np.array([NAN, 9, 10, 10.5, 137, 1000], np.float32)
    params = offsets(convention, 127, 10, nan_code=0)
    assert params.scale == 0.5
    assert params.quantize(x).tolist() == [0, 1, 1, 2, 255, 255]
    params = offsets(convention, 127, 10, "int8", nan_code=127)
    assert params.quantize(x).tolist() == [127, -128, -128, -127, 126, 126]
    assert np.isnan(params.dequantize(np.array([127], np.int8))).all()
