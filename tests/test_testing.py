"""The conformance kit: its codes are right, its inputs tell recipes apart, it says what differs."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import testing
from zeropoint._reference import BY_SPAN

from . import exact

DOCS = Path(__file__).resolve().parents[1] / "docs/reference"
PAGE = (DOCS / "vectors.md").read_text()
CODES = ("uint8", "int8")
EVERY = (*zp.CONVENTIONS, *zp.OFFSET_CONVENTIONS)
BLOCKS = {
    language: re.search(rf"```{language}\n(.*?)```", PAGE, re.S)[1]
    for language in ("c", "rust", "js")
}


def code(x: np.float32, params: Any) -> int:
    """By exact fractions."""
    if math.isnan(x):
        return params.qmin
    if math.isinf(x):
        return params.qmax if x > 0 else params.qmin
    first, second = (each.item() for each in params._arrays)
    how = params.qmin, params.qmax, params.convention, "float32"
    if isinstance(params, zp.QuantParams):
        return exact.code(x, first, second, *how)
    return exact.offset_code(x, first, second, *how)


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("convention", EVERY)
def test_codes_are_right(convention: str, dtype: str) -> None:
    """One input of six, another one for each dtype; all of those that are few."""
    for params, x, q, kinds in testing.vectors(convention, dtype):
        assert (params.convention, params.dtype, q.dtype) == (convention, dtype, dtype)
        assert x.dtype == np.float32
        assert x.shape == q.shape == kinds.shape
        few = np.isin(kinds, ["zero", "nan", "inf", "huge", "end"])
        some = few | (np.arange(x.size) % 6 == (dtype == "int8"))
        assert q[some].tolist() == [code(each, params) for each in x[some]]


def test_by_hand() -> None:
    """scale 1, zero point 0."""
    expected = {
        "zero": {0.0: 0},
        "inf": {np.inf: 255, -np.inf: 0},
        "huge": {65536.0: 255, -(2.0**63): 0, float(np.finfo(np.float32).max): 255},
        "beyond": {260.0: 255, 511.0: 255, -1.0 - 127: 0},
        "end": {255.5: 255, 256.0: 255, -0.5: 0, -2.0: 0},
        "step": {0.0: 0, 1.0: 1, 254.0: 254, 255.0: 255},
        "half step": {0.5: 0, 1.5: 2, 2.5: 2, 254.5: 254},
        "beside a half step": {0.49999997: 0, 0.50000006: 1, 1.4999999: 1, 2.4999998: 2},
    }
    (found,) = (v for v in testing.vectors("onnx") if v.params.scale == 1)
    assert set(found.kinds) == set(testing.KINDS) - {"beside a step"}
    assert np.isnan(found.x[found.kinds == "nan"]).all()
    assert not found.q[found.kinds == "nan"].any()
    for kind, codes in expected.items():
        here = found.kinds == kind
        given = dict(zip(found.x[here].tolist(), found.q[here].tolist(), strict=True))
        assert {x: given[float(np.float32(x))] for x in codes} == codes


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("convention", EVERY)
def test_every_backend_conforms(backend: str, convention: str, dtype: str) -> None:
    testing.assert_conforms(zp.quantize, convention, dtype)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *itertools.permutations(zp.CONVENTIONS, 2),
        *itertools.permutations(("faiss", "sentence-transformers"), 2),
    ],
)
def test_no_two_conventions_agree(first: str, second: str) -> None:
    def quantize(x: Any, params: Any) -> Any:
        unfused = {"fused": None} if first in zp.OFFSET_CONVENTIONS else {}
        return zp.quantize(x, params.replace(convention=first, **unfused))

    with pytest.raises(AssertionError, match=f"^not {second}: [1-9]"):
        testing.assert_conforms(quantize, second)


def in_float(x: Any, params: Any) -> Any:
    return np.rint(x / params.scale) + params.zero_point


def saturated(q: Any, params: Any) -> Any:
    return np.where(np.isnan(q), params.qmin, q).clip(params.qmin, params.qmax)


#: quantizers as people write them, and a kind that shows the mistake
MISTAKES = {
    "truncated": ("random", lambda x, p: saturated(np.trunc(x / p.scale + p.zero_point), p)),
    "floored": ("half step", lambda x, p: saturated(np.floor(x / p.scale) + p.zero_point, p)),
    "wrapped": (
        "beyond",
        lambda x, p: np.where(np.isnan(x), p.qmin, in_float(x, p).clip(-2e9, 2e9)),
    ),
    "by int32": (
        "huge",
        lambda x, p: (
            np.where(np.isnan(x), 0, np.rint(x / p.scale) % 2.0**32).astype("i8").astype("i4")
            + p.zero_point
        ).clip(p.qmin, p.qmax),
    ),
    "clipped to the dtype": (
        "end",
        lambda x, p: np.where(np.isnan(x), p.qmin, in_float(x, p)).clip(0, 255),
    ),
    "NaN to qmax": (
        "nan",
        lambda x, p: np.where(np.isnan(x), p.qmax, saturated(in_float(x, p), p)),
    ),
    "Inf to qmin": (
        "inf",
        lambda x, p: saturated(np.where(x == np.inf, p.qmin, in_float(x, p)), p),
    ),
    "float16": (
        "beside a half step",
        lambda x, p: saturated(np.rint((x / p.scale).astype("f2")) + p.zero_point, p),
    ),
    "in float64": (
        "half step",
        lambda x, p: saturated(np.rint(np.float64(x) / np.float64(p.scale)) + p.zero_point, p),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str) -> None:
    kind, quantize = MISTAKES[mistake]

    def wrong(x: Any, params: Any) -> Any:
        return quantize(x, params).astype(np.int64).astype(params.dtype)

    with pytest.raises(AssertionError, match=rf"^not onnx: [\s\S]*\n  {kind}: [1-9]"):
        testing.assert_conforms(wrong, "onnx")


def test_message() -> None:
    """It is the page's, too: kinds, counts, bits, codes."""

    def quantize(x: Any, params: Any) -> Any:
        return zp.quantize(x, params.replace(convention="onnx"))

    with pytest.raises(AssertionError) as caught:
        testing.assert_conforms(quantize, "litert_reference")
    lines = str(caught.value).splitlines()
    assert lines[0] == "not litert_reference: 924 of 8700 codes differ"
    assert lines[-1] == "and for 5 other parameters"
    for line in lines[:3]:
        assert line.replace("litert_reference", "tflite").split(", 4.5")[0] in PAGE
    assert lines[2].endswith("4.5 (0x40900000) is 4 in place of 5")


def test_what_is_no_quantizer() -> None:
    with pytest.raises(ValueError, match=r"returned shape \(1,\) for x of shape \(1208,\)"):
        testing.assert_conforms(lambda x, params: params.quantize(x[:1]), "onnx")
    with pytest.raises(AssertionError, match=r"returned float32 for QuantParams\(.*are uint8"):
        testing.assert_conforms(lambda x, params: x, "onnx")
    with pytest.raises(TypeError, match=r"function\(x\) has dtype object"):
        testing.assert_conforms(lambda x, params: None, "onnx")
    with pytest.raises(TypeError, match="function must be callable and return codes, not int"):
        testing.assert_conforms(3, "onnx")  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError) as caught:
        testing.assert_conforms(lambda x, params: 1 // 0, "faiss")
    note = "function was given x, float32 of shape (1210,), OffsetParams("
    assert caught.value.__notes__[0].startswith(note)
    with pytest.raises(ValueError, match="convention 'onxx' is unknown"):
        testing.vectors("onxx")
    with pytest.raises(TypeError, match="dtype 'int16' is not a type of codes"):
        testing.vectors("onnx", "int16")


def test_x_is_a_copy_and_may_be_changed() -> None:
    def quantize(x: Any, params: Any) -> Any:
        q = zp.quantize(x, params)
        x[:] = 0
        return q

    testing.assert_conforms(quantize, "cf")


# ---------------------------------------------------------------------------------------------
# Inputs for parameters of any layout


LAYOUTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "per tensor": ((), {}),
    "first axis": ((3,), {"axis": 0}),
    "second axis": ((3,), {"axis": 1}),
    "third axis": ((3,), {"axis": 2}),
    "last axis": ((3,), {"axis": -1}),
    "third last axis": ((3,), {"axis": -3}),
    "blocks": ((3, 2), {"axis": 1, "block_size": 32}),
    "blocks of the first axis": ((2, 3, 2), {"axis": 0, "block_size": 700}),
    "large blocks": ((2,), {"axis": 0, "block_size": 2000}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("convention", ["numpy", *zp.OFFSET_CONVENTIONS])
def test_every_channel_meets_every_input(convention: str, layout: str) -> None:
    """As if it were alone."""
    shape, how = LAYOUTS[layout]
    rng = np.random.default_rng(1)
    first = rng.uniform(0.1, 2, shape).astype(np.float32)
    second = rng.integers(0, 255, shape)
    if convention == "numpy":
        params = zp.QuantParams(first, second, convention=convention, **how)
    else:
        width = {"span": first * 255} if convention in BY_SPAN else {}
        params = zp.OffsetParams(
            None if width else first, second.astype("f4"), convention=convention, **width, **how
        )
    found = testing.inputs(params)
    assert found.x.shape == found.kinds.shape
    assert found.x.size % found.calls == 0
    numbers = [
        np.broadcast_to(each, found.x.shape)
        for each in found.params._spread(found.params._check_fits(found.x.shape))
    ]
    for one, two in zip(*(each.ravel() for each in params._arrays), strict=True):
        alone = testing.inputs(
            params._made(one, two, {**params._recipe(), "axis": None, "block_size": None})
        )
        mine = (numbers[0] == one) & (numbers[1] == two)
        wanted = sorted(zip(alone.kinds, alone.x.view("u4"), strict=True))
        assert set(zip(found.kinds[mine], found.x[mine].view("u4"), strict=True)) == set(wanted)
    parts = np.split(found.x, found.calls, found.axis)
    whole = testing.codes(found.x, found.params)
    again = [testing.codes(part, params) for part in parts]
    np.testing.assert_array_equal(np.concatenate(again, found.axis), whole)


def test_many_channels_share_the_inputs() -> None:
    params = zp.QuantParams(np.full(20_000, 0.5, np.float32), 3, axis=0)
    found = testing.inputs(params)
    assert found.x.shape == (20_000, 13)
    alone = testing.inputs(zp.QuantParams(0.5, 3))
    assert {*found.x.view("u4").flat} == {*alone.x.view("u4")}


def test_a_float64_scale_is_that_of_float32_data() -> None:
    one, other = (testing.inputs(zp.QuantParams(np.float64(s), 3)) for s in (0.1, np.float32(0.1)))
    np.testing.assert_array_equal(one.x, other.x)
    with pytest.raises(ValueError, match="scale, cast to float32 as the data is, is 0.0"):
        testing.inputs(zp.QuantParams(np.float64(1e-60), 3))


def test_no_channels() -> None:
    with pytest.raises(ValueError, match="params hold no scale; pass"):
        testing.inputs(zp.QuantParams(np.ones(0, np.float32), 0, axis=0))


# ---------------------------------------------------------------------------------------------
# The file, and the programs of the page


def test_the_file_is_current() -> None:
    text = (DOCS / "vectors.json").read_text()
    assert text == testing.kit(), "python -m zeropoint.testing docs/reference/vectors.json"
    assert len(text) <= 600_000


def test_the_file_holds_the_vectors() -> None:
    cases = json.loads((DOCS / "vectors.json").read_text())["cases"]
    for convention, dtype in itertools.product(EVERY, CODES):
        mine = [case for case in cases if case["dtype"] == dtype and convention in case["codes"]]
        found = testing.vectors(convention, dtype)
        assert len(mine) == len(found)
        for case, (params, x, q, kinds) in zip(mine, found, strict=True):
            numbers = [
                case[name] if name == "zero_point" else bits(case[name])[0]
                for name in params._names
            ]
            assert numbers == [each.item() for each in params._arrays]
            assert (case["qmin"], case["qmax"]) == (params.qmin, params.qmax)
            np.testing.assert_array_equal(bits(case["x"]), x)
            assert bytes.fromhex(case["codes"][convention]) == q.tobytes()
            assert [kind for kind, n in case["kinds"] for _ in range(n)] == kinds.tolist()


def bits(digits: str) -> Any:
    return np.frombuffer(bytes.fromhex(digits), ">f4")


def test_command(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "zeropoint.testing"]
    subprocess.run([*run, "new.json"], cwd=tmp_path, check=True)
    assert (tmp_path / "new.json").read_bytes() == (DOCS / "vectors.json").read_bytes()
    failed = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "usage: python -m zeropoint.testing FILE.json\n"


#: how a program of the page is built, if it is, and run
PROGRAMS = {
    "c": (["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "main.c", "-lm"], ["./a.out"]),
    "rust": (["rustc", "-o", "a.out", "main.rust"], ["./a.out"]),
    "js": (None, ["node", "main.js"]),
}
ROUNDING = {"c": " rintf", "rust": "round_ties_even", "js": "Math.fround"}
WRONG = {"c": " roundf", "rust": "round", "js": ""}


@pytest.mark.parametrize("language", PROGRAMS)
def test_programs(language: str, tmp_path: Path) -> None:
    """Right as they stand; and with another rounding they find that."""
    build, run = PROGRAMS[language]
    program = (build or run)[0]
    if not shutil.which(program):
        pytest.skip(f"NOT RUN: this machine lacks {program}")
    right = BLOCKS[language]
    wrong = right.replace(ROUNDING[language], WRONG[language])
    assert wrong != right
    for text, code in (right, 0), (wrong, 1):
        (tmp_path / f"main.{language}").write_text(text)
        if build:
            subprocess.run(build, cwd=tmp_path, check=True)
        ran = subprocess.run(
            [*run, DOCS / "vectors.json"], cwd=tmp_path, capture_output=True, text=True
        )
        assert ran.returncode == code, ran.stderr
        assert re.fullmatch(
            r"0 of 17400 differ\n" if not code else r"[1-9]\d* of 17400 differ\n", ran.stdout
        )
