"""`zeropoint.diagnose`: mistakes by hand are named, and correct codes are never blamed."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from tests import mistakes
from zeropoint import _diagnose, _recipes
from zeropoint._chunks import chunks
from zeropoint._layout import Layout
from zeropoint.embeddings import EmbeddingQuantizer

COMBINATIONS = [(c, d) for c in mistakes.CONVENTIONS for d in ("uint8", "int8")]
DATA = np.random.default_rng(5).normal(0, 1, (24, 24)).astype(np.float32)
DATA *= np.linspace(0.3, 2, 24, dtype=np.float32)[:, None]


def random_case(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Data, parameters of any kind, and another convention of this kind."""
    real = rng.choice([np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
    shape = tuple(rng.integers(1, 7, rng.integers(0, 4)))
    x = np.asarray(rng.standard_normal(shape) * rng.choice([1, 10, 300]), real)
    special = rng.choice([np.nan, np.inf, -np.inf, 0, 1e4])
    x = np.where(rng.random(shape) < 0.1, np.asarray(special, real), x).astype(real)
    axis = None if not shape or rng.random() < 0.4 else int(rng.integers(len(shape)))
    block = None if axis is None or rng.random() < 0.6 else int(rng.integers(1, 4))
    over = Layout(shape, axis, block).params_shape
    dtype = rng.choice(["uint8", "int8"])
    info = np.iinfo(dtype)
    qmin, qmax = info.min + rng.choice([0, 1, 10]), info.max - rng.choice([0, 3])
    nan = rng.choice([None, qmin, qmax])
    how = {"dtype": dtype, "axis": axis, "block_size": block, "qmin": qmin, "qmax": qmax}
    how["nan_code"] = nan
    numbers = np.asarray(np.exp(rng.uniform(-5, 1, over)), rng.choice(["float32", "float64"]))
    if rng.random() < 0.7:
        zero = rng.integers(qmin + 1, qmax, over)
        params = zp.QuantParams(numbers, zero, convention=rng.choice([*zp.CONVENTIONS]), **how)
        return x, params, params.replace(convention=rng.choice([*zp.CONVENTIONS]))
    name = rng.choice([*zp.OFFSET_CONVENTIONS])
    offset = np.asarray(rng.standard_normal(over), numbers.dtype)
    scale, span = (numbers, None) if name == "cf" else (None, numbers * 255)
    params = zp.OffsetParams(scale, offset, span=span, convention=name, **how)
    return x, params, params


@pytest.mark.parametrize("seed", range(4))
def test_correct_codes_are_never_blamed(seed):
    rng = np.random.default_rng(seed)
    for _ in range(250):
        x, params, other = random_case(rng)
        q = np.asarray(zp.quantize(x, other))
        found = zp.diagnose(x, q, params)
        assert found.best.mistakes == ()
        assert found.best.matched == found.size == q.size
        assert other.convention in found.same
        assert found.correct == np.array_equal(q, zp.quantize(x, params))
        assert found.remaining == ()


def test_recipes_of_conventions_are_the_reference():
    """Element by element, and tile by tile."""
    rng = np.random.default_rng(7)
    for _ in range(200):
        x, params, _ = random_case(rng)
        x = x.reshape(x.shape or (1,))
        q = np.asarray(zp.quantize(x, params))
        problem = _recipes.Problem(x, q, params)
        recipe = _recipes.base(params.convention)
        points = _recipes.Evaluation(problem, _recipes.Points(problem, np.arange(x.size)))
        assert points.matches(points.codes(recipe)).all()
        for tile in chunks(x.shape, 7):
            part = _recipes.Evaluation(problem, _recipes.Tile(problem, "same", x, q, tile))
            assert part.matches(part.codes(recipe)).all()


# ---------------------------------------------------------------------------------------------
# The table


@pytest.mark.parametrize("part", range(4))
def test_every_mistake_is_named(part):
    """Each with one convention and dtype; `tests/deep` has all, on real data."""
    named = 0
    for k, (convention, dtype) in enumerate(COMBINATIONS):
        for n, (key, x, params, q) in enumerate(mistakes.cases(DATA, convention, dtype)):
            if (n + k) % 8 == 0 and n % 4 == part:
                named += mistakes.check(key, x, params, q)
    assert named > 8


def test_the_table_has_the_mistakes_of_the_catalogue():
    keys = {m.key for m in _recipes.CATALOGUE}
    assert {*mistakes.PER_TENSOR, *mistakes.PER_CHANNEL} <= keys
    assert len({*mistakes.PER_TENSOR, *mistakes.PER_CHANNEL}) >= 30
    assert len({m.name for m in _recipes.CATALOGUE}) == len(keys)


S, Z = np.float32(0.02), np.float32(120)
PARAMS = zp.QuantParams(S, 120)


def clip(y, dtype=np.uint8):
    return np.clip(y, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def wrapped(y, dtype=np.uint8):
    return y.astype(np.int64).astype(dtype)


@pytest.mark.parametrize(
    ("mistakes", "codes"),
    [
        (("truncated", "wrapped"), lambda x: wrapped(x / S + Z)),
        (("truncated", "zero_point_forgotten"), lambda x: clip(np.trunc(x / S))),
        (("wrapped", "zero_point_wrong_sign"), lambda x: wrapped(np.rint(x / S) - Z)),
        (("truncated", "uint8_read_as_int8"), lambda x: clip(x / S + Z).view(np.int8)),
        (("truncated", "transposed"), lambda x: clip(x / S + Z).T),
        (("truncated", "scale_rounded"), lambda x: clip(x / np.float32(0.0214) + Z)),
        (("zero_point_twice", "doubled_255"), lambda x: clip(np.rint(x / 255 / S) + 2 * Z)),
        (("truncated", "wrapped", "missing_255"), lambda x: wrapped(x * 255 / S + Z)),
        (("truncated", "wrapped", "zero_point_forgotten"), lambda x: wrapped(x / S)),
    ],
)
def test_several_mistakes(mistakes, codes):
    x = np.random.default_rng(0).normal(0, 2, (60, 40)).astype(np.float32)
    params = PARAMS
    if "scale_rounded" in mistakes:
        params = zp.QuantParams(np.float32(0.021374), 120)
    if "missing_255" in mistakes:
        x = np.abs(x) / 8
    found = zp.diagnose(x, codes(x), params)
    assert {*found.best.mistakes} == {*mistakes}
    assert found.best.share == 1


def test_mistakes_with_the_same_codes_are_named_together():
    x = np.abs(DATA)
    found = zp.diagnose(x, clip(x / S + Z), PARAMS)
    paragraph = str(found).split("\n\n")[0]
    assert paragraph.startswith(
        "truncated, or floored (the same codes on these data), of `numpy`: this explains all 576 "
        "codes. The fraction is cut off"
    )
    assert any(each.startswith("floored of `numpy`, ") for each in found.best.also)
    assert not found.correct


def test_correct_codes():
    x = np.array([0.01, -3, 5, 0.03], np.float32)  # ties, which to even and away are the same here
    q = zp.quantize(x, PARAMS)
    found = zp.diagnose(x, q, PARAMS)
    assert str(found).split("\n\n")[0] == "equal to `numpy` in all 4 codes"
    assert found.correct
    assert found.same[0] == "numpy"
    assert "Fix" not in str(found)
    wide = zp.diagnose(x, q.astype(np.int32), PARAMS)
    assert wide.correct
    assert "q is int32, and params.dtype is uint8." in str(wide)


def test_codes_of_another_convention():
    """That it is another is in the paragraph, and what it did there."""
    x = (np.arange(-100, 100) + np.float32(0.5)).astype(np.float32)
    params = zp.QuantParams(1, 128, convention="onnx")
    q = zp.quantize(x, params.replace(convention="tflite"))
    found = zp.diagnose(x, q, params)
    assert str(found).split("\n\n")[0] == (
        "equal to `tflite` in all 200 codes; the parameters say `onnx`, of which 100 differ (ties "
        "away from zero)"
    )
    assert found.best.mistakes == ()
    assert found.same == ("tflite", "ggml")
    assert not found.correct
    assert found.best.fix == "params = params.replace(convention='tflite')"


def test_what_is_left():
    q = zp.quantize(DATA, PARAMS).copy()
    q[:, 17] ^= 1
    found = zp.diagnose(DATA, q, PARAMS)
    assert found.best.mistakes == ()
    assert (found.best.matched, found.size) == (576 - 24, 576)
    text = str(found)
    assert text.startswith("nearest to `numpy`, which explains 552 of 576 codes (95.83 %)\n\n")
    assert "Left: 24 codes, all at index 17 of axis 1, each within 1 of what is expected" in text
    assert [r.index for r in found.remaining] == [(k, 17) for k in range(10)]
    first = found.remaining[0]
    assert (first.value, first.code) == (DATA[0, 17], q[0, 17])
    assert first.expected == zp.quantize(DATA, PARAMS)[0, 17]
    assert found.best.fix == "q = zp.quantize(x, params)"
    found = zp.diagnose(DATA, zp.quantize(np.clip(DATA, -1, 1), PARAMS), PARAMS)
    assert ", all with code 70 or 170;" in str(found)


def test_no_mistake_is_invented():
    """Noise has no name."""
    rng = np.random.default_rng(1)
    found = zp.diagnose(DATA, rng.integers(0, 256, DATA.shape).astype(np.uint8), PARAMS)
    assert str(found).startswith("no known mistake explains these codes; the nearest, ")
    stochastic = clip(np.floor(DATA / S + Z + rng.random(DATA.shape)))
    found = zp.diagnose(DATA, stochastic, PARAMS)
    assert found.best.mistakes == ()
    assert "each within 1 of what is expected" in str(found)


# ---------------------------------------------------------------------------------------------
# Layouts, channels, other parameters


def test_layouts_of_pictures():
    x = np.random.default_rng(2).normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
    params = zp.choose_params(x, axis=1)
    q = zp.quantize(x, params)
    for codes in (q.transpose(0, 2, 3, 1), q.transpose(0, 2, 3, 1).reshape(q.shape)):
        found = zp.diagnose(x, codes, params)
        assert found.best.mistakes == ("transposed",)
        assert "x.transpose(0, 2, 3, 1)" in found.best.text
        assert found.best.share == 1
    memory = x.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)  # NCHW taken for NHWC
    found = zp.diagnose(x, zp.quantize(memory, params), params)
    assert found.best.mistakes == ("transposed",)
    found = zp.diagnose(x, zp.quantize(x[:, ::-1], params), params)
    assert found.best.mistakes == ("channels_reversed",)
    found = zp.diagnose(x, zp.quantize(x[:, :, ::-1], params), params)
    assert found.best.mistakes == ("reversed",)


def test_other_parameters():
    x = np.random.default_rng(3).normal(0, 1, (40, 30)).astype(np.float32)
    stale = zp.diagnose(x, clip(np.rint(x / np.float32(0.0137)) + 91), PARAMS)
    assert stale.best.mistakes == ("other_parameters",)
    assert stale.best.fix == "params = params.replace(scale=0.0137, zero_point=91)"
    own = zp.choose_params(x, "int8", symmetric=True, axis=1)
    found = zp.diagnose(x, zp.quantize(x, own), zp.QuantParams(0.02, 0, "int8"))
    assert found.best.mistakes == ("other_parameters",)
    assert found.best.fix == "params = zp.choose_params(x, 'int8', symmetric=True, axis=1)"
    names: dict[str, Any] = {"params": own}
    line = zp.diagnose(x, (x * 93).astype(np.int8), own).best.fix.partition("  #")[0]
    assert line == "q = zp.quantize(x, params)"  # of two mistakes
    exec(zp.diagnose(x, np.rint(x * 37).astype(np.int8), own).best.fix, names)
    assert (names["params"].axis, names["params"].zero_point) == (None, 0)
    blocks = zp.choose_params(x, "int8", axis=1, block_size=16)
    found = zp.diagnose(x, zp.quantize(x, blocks), own)
    assert found.best.fix == "params = zp.choose_params(x, 'int8', axis=1, block_size=16)"
    span = x.max() - x.min()
    found = zp.diagnose(x, (255 * (x - x.min()) / span).astype(np.uint8), PARAMS)
    assert found.best.mistakes == ("truncated", "other_parameters")
    assert "The same codes on these data: `" in str(found)  # and a tool, with one range for all


ROWS = np.random.default_rng(8).normal(0, 1, (700, 24)).astype(np.float32)
ROWS *= np.linspace(0.3, 2, 24, dtype=np.float32)


@pytest.mark.parametrize(
    ("real", "how"),
    [
        (np.float32, ("sentence-transformers",)),
        (np.float64, ("sentence-transformers", "uint8")),
        (np.float16, ("faiss",)),
        (np.float64, ("faiss", "int8")),
    ],
)
def test_codes_of_a_quantizer_of_embeddings(real, how):
    """Whatever parameters are meant: what is named has all codes, and the line repairs it."""
    x = ROWS.astype(real)
    quantizer = EmbeddingQuantizer(*how).fit(x)
    q = quantizer.transform(x)
    meant = zp.choose_params(x, "int8"), zp.choose_params(x, q.dtype, axis=1)
    for params in (*meant, zp.choose_params(x, q.dtype, convention="cf")):
        found = zp.diagnose(x, q, params)
        assert (found.best.mistakes, found.best.share) == (("other_parameters",), 1)
        assert found.best.convention == how[0]
        assert not found.correct
        assert str(found).startswith(f"equal to `{how[0]}` in all 16800 codes, with the parameters")
        scope: dict[str, Any] = {"zp": zp, "np": np, "x": x}
        exec(found.best.fix, scope)
        assert scope["params"].replace(axis=-1) == quantizer.params
        line = found.best.fix.partition("  # or those of ")[2]
        exec(f"params = {line}", scope | {"EmbeddingQuantizer": EmbeddingQuantizer})
        assert repr(EmbeddingQuantizer(*how))[1:].startswith(line.partition(".fit")[0][:-1])


def test_codes_of_a_file_of_measurements():
    """As xarray packs them, NaN among them, beside parameters with a zero point."""
    x = ROWS + np.float32(280)
    x[::7, ::5] = np.nan
    packed = zp.choose_params(x, convention="cf", nan_code=255, skip_nan=True)
    for how in ({"dtype": "uint8", "nan_code": 255}, {"dtype": "int8"}):
        found = zp.diagnose(x, zp.quantize(x, packed), zp.QuantParams(0.02, 100, **how))
        assert (found.best.convention, found.best.share) == ("cf", 1)
        scope: dict[str, Any] = {"zp": zp, "x": x}
        exec(found.best.fix, scope)
        assert scope["params"] == packed
    q = zp.quantize(ROWS, zp.choose_params(ROWS, convention="tflite", axis=1))
    q[5, ::2] ^= 1
    found = zp.diagnose(ROWS, q, zp.choose_params(ROWS, convention="cf"))
    assert found.best.matched == ROWS.size - 12
    assert [r.index for r in found.remaining] == [(5, k) for k in range(0, 20, 2)]
    assert "Left: 12 codes, all at index 5 of axis 0, each within 1" in str(found)


def test_a_fit_to_few_codes_is_a_guess():
    x = np.random.default_rng(3).normal(0, 1, 30).astype(np.float32)
    found = zp.diagnose(x, clip(np.rint(x / np.float32(0.0137)) + 91), PARAMS)
    if found.best.mistakes:
        assert "a guess" in found.best.text


@pytest.mark.parametrize("convention", zp.OFFSET_CONVENTIONS)
def test_real_offsets(convention):
    x = np.random.default_rng(4).normal(3, 1, (50, 20)).astype(np.float32)
    params = zp.choose_params(x, "int8" if convention == "cf" else "uint8", convention=convention)
    s, o = params.scale, params.offset
    floors = convention != "cf"
    y = (x - o) / s if convention != "faiss" else 255 * ((x - o) / params.span)
    wrong = {
        "ceiled": np.ceil(y),
        "offset forgotten": (np.floor if floors else np.rint)(x / s),
        "ties to even" if floors else "floored": np.rint(y) if floors else np.floor(y),
        "offset subtracted after the division": (np.floor if floors else np.rint)(x / s - o),
    }
    for name, codes in wrong.items():
        found = zp.diagnose(x, clip(codes, params.dtype), params)
        assert found.best.share == 1
        assert name in str(found).split("\n\n")[0]


# ---------------------------------------------------------------------------------------------
# Large arrays: a sample, then all of them

LARGE = np.random.default_rng(6).normal(0, 1, (200, 300)).astype(np.float32)


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        zp.choose_params(LARGE / 2, "int8", axis=0),
        zp.choose_params(LARGE / 2, axis=1, convention="torch"),
        zp.choose_params(LARGE / 2, "int8", axis=1, block_size=7),
    ],
)
def test_shares_are_exact(params):
    """Of what is explained in part, beside a count by other means."""
    spread = Layout(LARGE.shape, params.axis, params.block_size).spread
    s, z = spread(np.asarray(params.scale)), spread(np.asarray(params.zero_point))
    y = LARGE * (1 / s) if params.convention == "torch" else LARGE / s
    codes = clip(np.ceil(y + z), params.dtype)
    wrong = codes.copy()
    wrong[::7, ::11] ^= 3
    found = zp.diagnose(LARGE, wrong, params)
    assert found.best.mistakes == ("ceiled",)
    assert found.best.matched == np.count_nonzero(wrong == codes)
    assert found.size == LARGE.size
    assert all(wrong[r.index] != codes[r.index] == r.expected for r in found.remaining)
    assert len(found.remaining) == 10


def test_one_code_of_many():
    q = zp.quantize(LARGE, PARAMS)
    q[77, 123] ^= 64
    found = zp.diagnose(LARGE, q, PARAMS)
    assert (found.best.matched, found.best.mistakes) == (LARGE.size - 1, ())
    assert [r.index for r in found.remaining] == [(77, 123)]
    x = LARGE.copy()
    x[55, 66] = np.nan  # what no sample would meet
    q = zp.quantize(x, PARAMS)
    q[55, 66] = 255
    found = zp.diagnose(x, q, PARAMS)
    assert (found.best.mistakes, found.best.share) == (("nan_to_qmax",), 1)


def test_mistakes_of_many_with_the_same_codes():
    found = zp.diagnose(LARGE, zp.quantize(LARGE, PARAMS) ^ np.uint8(128), PARAMS)
    assert str(found).startswith("uint8 read as int8, or off by 128 (the same codes on these data)")


def test_large_transposed():
    params = zp.choose_params(LARGE, "int8", axis=0)
    q = zp.quantize(LARGE, params)
    for codes in (q.T, q.T.reshape(q.shape)):
        found = zp.diagnose(LARGE, codes, params)
        assert (found.best.mistakes, found.best.share) == (("transposed",), 1)
    found = zp.diagnose(LARGE[::2, ::3], q[::2, ::3], params._over(*_halves(params)))
    assert found.correct


def _halves(params):
    return params.scale[::2], params.zero_point[::2]


def test_other_parameters_of_many():
    found = zp.diagnose(LARGE, clip(np.rint(LARGE / np.float32(0.0137)) + 91), PARAMS)
    assert found.best.mistakes == ("other_parameters",)
    assert found.best.share > 0.999


def test_memory():
    """The longest search, of codes that nothing explains, wants less than the data have."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(1 << 21, np.float32)
    q = rng.integers(0, 256, x.shape, np.uint8)
    zp.diagnose(x[:100], q[:100], PARAMS)  # what is imported and built once
    tracemalloc.start()
    found = zp.diagnose(x, q, PARAMS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.best.share < 0.05
    assert peak < 3 * x.nbytes + 100e6


# ---------------------------------------------------------------------------------------------
# Little data, other dtypes, errors


@pytest.mark.parametrize("shape", [(0,), (), (1,), (2,), (3, 0)])
def test_little_data(shape):
    x = np.full(shape, 0.31, np.float32)
    found = zp.diagnose(x, zp.quantize(x, PARAMS), PARAMS)
    assert found.correct
    if x.size:
        found = zp.diagnose(x, np.full(shape, 7, np.uint8), PARAMS)
        assert str(found).startswith(f"all {x.size} codes are 7, which tells little: ")
        assert found.remaining[0].index == (() if x.ndim == 0 else (0,))
    else:
        assert str(found).startswith("no codes: the array is empty")
    assert found.to_dict()["text"] == str(found)


def test_nearly_constant_codes():
    """Pixels that were not divided by 255 first: what gives one code explains nearly all."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    p = zp.QuantParams(np.float32(0.0187), -14, "int8", convention="litert")
    x = ((pixels / 255 - mean) / std).astype(np.float32)
    q = p.quantize(((pixels - mean) / std).astype(np.float32))
    found = str(zp.diagnose(x, q, p))
    alike = np.count_nonzero(q == 127)
    assert found.startswith(f"{alike} of {q.size} codes (")
    assert " are 127, which tells little, and no known mistake gives the others: were " in found
    sparse = np.where(np.random.default_rng(1).random(x.shape) < 0.97, 0, x)
    codes = p.replace(scale=p.scale * np.float32(1.7)).quantize(sparse)
    codes.flat[::7] ^= 1
    assert "far too large" not in str(zp.diagnose(sparse, codes, p))


def test_constants():
    found = zp.diagnose(DATA, np.full(DATA.shape, 120, np.uint8), PARAMS)
    assert str(found).startswith("all 576 codes are 120, which tells little: ")
    found = zp.diagnose(DATA, np.full(DATA.shape, 3, np.uint8), PARAMS.replace(qmin=9))
    assert str(found).startswith("all 576 codes are 3, which tells little: no known mistake ")
    found = zp.diagnose(np.ones(50, np.float32), np.full(50, 170, np.uint8), PARAMS)
    assert found.correct
    assert "All codes are 170, which tells little." in str(found)


@pytest.mark.parametrize("real", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_dtypes_of_data(real):
    x = DATA.astype(real)
    y = x.astype(np.float64 if real == np.float64 else np.float32)
    found = zp.diagnose(x, clip(y / y.dtype.type(S) + 120), PARAMS)
    assert (found.best.mistakes, found.best.share) == (("truncated",), 1)


def test_codes_of_other_dtypes():
    y = np.rint(DATA / S + Z)
    for dtype in (np.int16, np.int32, np.int64):
        found = zp.diagnose(DATA * 4, np.rint(DATA * 4 / S + Z).astype(dtype), PARAMS)
        assert (found.best.mistakes, found.best.share) == (("not_clipped",), 1)
    found = zp.diagnose(DATA, np.clip(DATA / S + Z, 0, 255), PARAMS)
    assert found.best.mistakes == ("not_rounded",)
    found = zp.diagnose(DATA, (np.clip(y, 0, 255) - Z) * S, PARAMS)
    assert found.best.mistakes == ("dequantized",)


def test_nan_among_the_data():
    x = DATA.copy()
    x[::3, ::4] = np.nan
    marked = PARAMS.replace(nan_code=255, qmax=254)
    for params in (PARAMS, marked):
        assert zp.diagnose(x, zp.quantize(x, params), params).correct
    found = zp.diagnose(x, np.where(np.isnan(x), 0, zp.quantize(x, marked)), marked)
    assert found.best.share == 1
    assert str(found).startswith("nan_code forgotten, or NaN to code 0 (the same codes")
    found = zp.diagnose(x, np.where(np.isnan(x), 0, zp.quantize(x, PARAMS)), PARAMS)
    assert found.correct
    narrow = PARAMS.replace(qmin=5)
    found = zp.diagnose(x, np.where(np.isnan(x), 0, zp.quantize(x, narrow)), narrow)
    assert found.best.mistakes == ("nan_to_0",)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((DATA, np.zeros((3, 4), np.uint8), PARAMS), ValueError, "q has shape .3, 4. and x has"),
        ((DATA, DATA > 0, PARAMS), TypeError, "q has dtype bool and must have floats or integers"),
        ((DATA > 0, DATA, PARAMS), TypeError, "x has dtype bool"),
        ((DATA, DATA, 0.02), TypeError, "params must be a QuantParams or OffsetParams, not float"),
        ((DATA, DATA, zp.QuantParams([1, 2], 0, axis=0)), ValueError, "scale has shape"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        zp.diagnose(*arguments)


def test_off_by_one_that_wraps():
    q = zp.quantize(DATA * 4, PARAMS)
    found = zp.diagnose(DATA * 4, q + 1, PARAMS)
    assert (found.best.mistakes, found.best.share) == (("off_by_1",), 1)


def test_no_parameters_at_all():
    x = DATA * 300
    found = zp.diagnose(x, x.astype(np.int32), PARAMS)
    assert {*found.best.mistakes} == {"parameters_forgotten", "truncated", "not_clipped"}
    found = zp.diagnose(x, wrapped(np.trunc(x)), PARAMS)
    assert {*found.best.mistakes} == {"parameters_forgotten", "truncated", "wrapped"}


def test_fixes_are_code():
    """The line that is shown runs, and gives the right codes where it makes any."""
    cases = {
        "truncated": clip(DATA / S + Z),
        "uint8_read_as_int8": zp.quantize(DATA, PARAMS).view(np.int8),
        "uint8_read_as_int8 ": zp.quantize(DATA, PARAMS).view(np.int8).astype(np.int32),
        "off_by_128": (zp.quantize(DATA, PARAMS).astype(np.int16) - 128).astype(np.int8),
        "other_parameters": clip(np.rint(DATA / np.float32(0.0137)) + 91),
    }
    for key, q in cases.items():
        found = zp.diagnose(DATA, q, PARAMS)
        assert found.best.mistakes == (key.strip(),)
        names: dict[str, Any] = {"zp": zp, "np": np, "x": DATA, "q": q, "params": PARAMS}
        exec(found.best.fix, names)
        np.testing.assert_array_equal(names["q"], zp.quantize(DATA, names["params"]))


def test_it_is_imported_when_it_is_used():
    code = (
        "import sys, zeropoint as zp; assert 'zeropoint._diagnose' not in sys.modules; "
        "assert 'diagnose' in dir(zp); zp.diagnose; zp.Diagnosis; import zeropoint._diagnose"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="has no attribute 'diagnosis'"):
        zp.diagnosis  # noqa: B018


def test_the_ranking_is_deterministic():
    x = LARGE[:10]
    q = np.where(x > 1, 3, zp.quantize(x, PARAMS))
    assert _diagnose.ranked(x, q, PARAMS) == _diagnose.ranked(x, q, PARAMS)
