"""`probe` names the convention of a quantizer, or what is different about it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import testing
from zeropoint._reference import BY_SPAN

PAGE = (Path(__file__).resolve().parents[1] / "docs/conventions.md").read_text()
EVERY = (*zp.CONVENTIONS, *zp.OFFSET_CONVENTIONS)
#: scales and zero points by which all conventions differ
SCALES = np.array([0.1, 1.96185386, 0.0078], np.float32)
ZEROS = np.array([13, 200, 127])
LAYOUTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "per tensor": (0, {}),
    "per channel": (slice(None), {"axis": -1}),
    "blocks": (np.array([[0, 1], [1, 2], [2, 0]]), {"axis": 1, "block_size": 32}),
}


def made(convention: str, dtype: str = "uint8", layout: str = "per tensor") -> Any:
    at, how = LAYOUTS[layout]
    scale, zero = SCALES[at], ZEROS[at]
    how = {"dtype": dtype, "convention": convention, **how}
    if convention in zp.CONVENTIONS:
        return zp.QuantParams(scale, zero + (0 if dtype == "uint8" else -128), **how)
    offset = np.float32(-scale * zero)
    if convention in BY_SPAN:
        return zp.OffsetParams(None, offset, span=scale * np.float32(255), **how)
    return zp.OffsetParams(scale, offset, **how)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("convention", EVERY)
def test_conventions_are_named(convention: str, dtype: str, layout: str) -> None:
    """Whichever the parameters are of, as far as they hold the same numbers."""
    params = made(convention, dtype, layout)
    found = zp.probe(params.quantize, params)
    assert found.same == (convention,)
    assert found.correct
    text = f"This is `{convention}`: equal in all {found.size} codes."
    assert str(found).split("\n\n")[0] == text
    assert found.differences == ()
    if convention in zp.CONVENTIONS:
        others = params.replace(convention="tflite" if convention == "numpy" else "numpy")
        found = zp.probe(params.quantize, others)
        assert found.same == (convention,)
        assert not found.correct
        assert str(found).startswith(text)
        assert f"convention={convention!r}" in str(found)


def test_parameters_that_do_not_tell_apart() -> None:
    params = zp.QuantParams(0.25, 3, convention="torch")
    found = zp.probe(params.quantize, params)
    assert found.same == ("torch", "onnx")
    assert str(found).startswith(
        "This is `torch` or `onnx`, which these parameters do not tell apart: equal in all 1208 "
        "codes.\n\n"
    )


def away(y: Any) -> Any:
    whole = np.trunc(y)
    return whole + np.sign(y) * (np.abs(y - whole) >= 0.5)


def codes(y: Any, nan: int = 0) -> Any:
    return np.where(np.isnan(y), nan, y).clip(0, 255).astype(np.uint8)


S, Z = np.float32(0.1), 13
#: quantizers as people write them; what they are
QUANTIZERS = {
    "truncated": lambda x: codes(x / S + Z),
    "floored": lambda x: codes(np.floor(x / S) + Z),
    "ties_away": lambda x: codes(away(x / S + Z)),
    "ties_half_up": lambda x: codes(np.floor(x / S + np.float32(0.5)) + Z),
    "computed_float64": lambda x: codes(np.rint(x.astype(np.float64) / np.float64(S) + Z)),
    "fused": lambda x: codes(np.rint((x.astype("f8") * (1 / S) + Z).astype("f4"))),
    "scale_inverted": lambda x: codes(np.rint(x * S) + Z),
    "zero_point_forgotten": lambda x: codes(np.rint(x / S)),
    "nan_to_qmax": lambda x: codes(np.rint(x / S) + Z, 255),
    "division_float16": lambda x: codes(np.rint(x.astype("f2") / S.astype("f2")) + Z),
    "wrapped": lambda x: (
        np.where(np.abs(x / S) < 2**31, np.rint(x / S) + Z, 0).astype(np.int64).astype(np.uint8)
    ),
}


@pytest.mark.parametrize("key", QUANTIZERS)
def test_mistakes_are_named(key: str) -> None:
    found = zp.probe(QUANTIZERS[key], zp.QuantParams(S, Z, convention="onnx"))
    best = found.best
    assert key in best.mistakes
    assert best.share > 0.99
    assert not found.correct
    assert not found.same
    text = f"This is `{best.convention}`, but {best.name}: all {found.size} codes. {best.text}\n\n"
    if best.share < 1:
        text = best.name
    assert text.lower() in str(found).split("Beside")[0].lower()
    assert f"Beside `{best.convention}`:\n  " in str(found)
    assert {each.kind for each in found.differences} <= set(testing.KINDS)


def test_what_differs_kind_by_kind() -> None:
    """Counted by hand: 2 NaN; and of 8 subnormals, 2 zeros, ... none."""
    found = zp.probe(QUANTIZERS["nan_to_qmax"], zp.QuantParams(S, Z, convention="onnx"))
    (nan,) = found.differences
    others = zp.probe(QUANTIZERS["nan_to_qmax"], zp.QuantParams(S, Z))
    assert [*map(str, others.differences)] == [str(nan)]  # from `onnx`, whatever params are of
    assert (nan.kind, nan.size, nan.count) == ("nan", 2, 2)
    line = "nan: 2 of 2 differ: nan (0x7fc00000) is 255 in place of 0, nan (0xffc00000) is 255 "
    assert str(nan) == f"{line}in place of 0"
    assert f"\n\nBeside `onnx`:\n  {nan}\n" in str(found)
    text = str(found).split("\n")[0]
    assert text == "This is `onnx`, but NaN to qmax: all 1208 codes. NaN has become qmax."
    fields = json.loads(json.dumps(found.to_dict()))
    assert fields["differences"][0]["count"] == 2
    assert fields["text"] == str(found)


def test_nearest() -> None:
    """One code that no mistake gives."""
    params = made("onnx")

    def quantize(x: Any) -> Any:
        q = zp.quantize(x, params)
        q[x == np.float32(1)] = 77
        return q

    found = zp.probe(quantize, params)
    assert str(found).startswith(
        "Nearest is `onnx`: equal in 1207 of 1208 codes.\n\nBeside `onnx`:"
    )
    (one,) = found.differences
    assert (one.kind, one.count) == ("step", 1)
    assert one.examples == ((1.0, 77, 23),)


def test_codes_without_a_recipe() -> None:
    def noise(x: Any) -> Any:
        return np.random.default_rng(0).integers(0, 256, x.shape).astype(np.uint8)

    found = zp.probe(noise, zp.QuantParams(S, Z))
    assert str(found).startswith("No known mistake explains these codes; the nearest, ")
    assert found.best.share < 0.5
    found = zp.probe(lambda x: np.zeros(x.shape, np.uint8), zp.QuantParams(S, Z))
    assert str(found).startswith("All 1208 codes are 0, which tells little")


def test_the_page() -> None:
    """What it prints is there."""
    code, printed = re.search(
        r"```python\n(import numpy.*?)```\n\n```\n(.*?)```", PAGE, re.S
    ).groups()
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"{printed}\n")


def test_blocks_come_in_several_calls_of_the_parameters_shape() -> None:
    params, shapes = made("onnx", layout="blocks"), set()
    memory = np.empty((3, 64), np.uint8)

    def quantize(x: Any) -> Any:
        shapes.add(x.shape)
        zp.quantize(x, params, out=memory)
        x[:] = 0  # it is the function's own
        return memory  # which the next call overwrites

    assert zp.probe(quantize, params).same == ("onnx",)
    assert shapes == {(3, 64)}


def test_other_results() -> None:
    """Lists, and wider or unrounded codes, are read as `diagnose` reads them."""
    params = made("onnx")
    assert zp.probe(lambda x: zp.quantize(x, params).tolist(), params).same == ("onnx",)
    assert zp.probe(lambda x: zp.quantize(x, params).astype("i4"), params).same == ("onnx",)
    found = zp.probe(lambda x: np.nan_to_num(x / S + Z, nan=0).clip(0, 255), params)
    assert "not_rounded" in found.best.mistakes


def test_many_channels() -> None:
    """More than all inputs fit: each has a part, and they are told."""
    rng = np.random.default_rng(0)
    params = zp.QuantParams(rng.uniform(0.1, 1, 2000).astype("f4"), 7, axis=0, convention="torch")
    assert zp.probe(params.quantize, params).same == ("torch",)


def test_the_paragraph_is_said_once() -> None:
    params = made("onnx")
    found = zp.probe(params.quantize, params)
    assert found.paragraph == str(found).split("\n\n")[0]
    assert found.to_dict()["paragraph"] == found.paragraph


def test_errors() -> None:
    params = made("onnx")
    with pytest.raises(TypeError, match=r"function must be callable .*, not ndarray; of codes"):
        zp.probe(np.zeros(3, np.uint8), params)
    with pytest.raises(TypeError, match="params must be a QuantParams or OffsetParams, not float"):
        zp.probe(params.quantize, 0.1)
    with pytest.raises(ValueError, match=r"returned shape \(1207,\) for x of shape \(1208,\)"):
        zp.probe(lambda x: params.quantize(x[1:]), params)
    with pytest.raises(TypeError, match=r"function\(x\) has dtype object and must have floats or"):
        zp.probe(lambda x: None, params)
    with pytest.raises(ValueError, match="params hold no scale"):
        zp.probe(params.quantize, zp.QuantParams(np.ones(0, "f4"), 0, axis=0))
    with pytest.raises(KeyError) as caught:
        zp.probe(lambda x: {}["scale"], params)
    assert caught.value.__notes__ == ["function was given x, float32 of shape (1208,)"]


def test_no_warnings_of_numpy() -> None:
    """Inputs are made to overflow; what a function makes of that is the answer, and no warning."""
    zp.probe(lambda x: np.clip(x / S * np.float32(1e30), 0, 255).astype(np.uint8), made("onnx"))


def test_it_is_imported_when_it_is_used() -> None:
    program = """if True:
        import sys
        import zeropoint as zp
        assert not {"zeropoint._probe", "zeropoint.testing"} & set(sys.modules)
        assert "probe" in dir(zp)
        zp.probe
        assert "zeropoint._probe" in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True)
