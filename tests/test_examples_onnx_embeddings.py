"""The examples for ONNX weights, embeddings and codes run, and print the figures that they show."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow("real models")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def printed(example: str, *packages: str) -> str:
    """What it prints when it is run as a person does."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{example} needs {package}; its first lines say how to install it")
    command = [sys.executable, str(EXAMPLES / example)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def numbers(text: str, row: str) -> list[list[float]]:
    """The numbers in every row of that name, in order."""
    lines = re.findall(rf"^{re.escape(row)}((?: +-?[\d.,]+%?)+)$", text, re.MULTILINE)
    return [[float(re.sub("[,%]", "", word)) for word in line.split()] for line in lines]


def test_onnx_weights():
    text = printed("onnx_weights.py", "onnx", "onnxruntime", "sympy", "magika", "silero_vad")
    sizes = [row[0] for row in numbers(text, "float")]
    assert sizes == [3_163_737, 2_327_524]
    magika, silero = numbers(text, "zeropoint")
    assert magika[0] < 0.27 * sizes[0]
    assert silero[0] < 0.32 * sizes[1]  # integers and the like are a twentieth of this file
    for (_, sqnr, change, same), at_least in ((magika, 45), (silero, 35)):
        assert sqnr > at_least
        assert change < 0.06
        assert same > 99
    assert magika[3] == 100  # every file's type
    # the point of scales per channel: with one per tensor, Silero no longer detects speech
    assert numbers(text, "one scale per tensor")[1][3] < 50
    for theirs, ours in zip(numbers(text, "onnxruntime"), (magika, silero), strict=True):
        assert theirs[0] > ours[0]
        assert theirs[1] < ours[1] - 10


def test_onnx_calibration():
    text = printed("onnx_calibration.py", "onnx", "onnxruntime", "magika")
    assert "69 tensors, 4 batches, method 'mse'" in text
    for method in ("mse", "minmax"):
        ((size, sqnr, same),) = numbers(text, method)
        assert size < 0.27 * 3_163_737
        assert sqnr > 14
        assert same > 90


def test_embeddings():
    text = printed("embeddings.py", "wordllama")
    ((size, mean, worst, recall, ms),) = numbers(text, "zeropoint, one scale per row")
    assert size == 32000 * (256 + 4)
    assert 1 >= mean > 0.9999
    assert worst > 0.9999
    assert recall > 0.99
    ((_, wrapped_mean, _, wrapped_recall, wrapped_ms),) = numbers(text, "(x * 127).astype(int8)")
    assert wrapped_mean < 0.3
    assert wrapped_recall < 0.2
    assert ms < wrapped_ms
    ((_, _, unit_worst, unit_recall, _),) = numbers(text, "(unit rows * 127).astype(int8)")
    assert unit_worst < worst
    assert unit_recall < 0.98
    for name in ("zeropoint, of unit rows", "sentence-transformers' codes"):
        assert numbers(text, name)[0][3] > 0.99


def test_text_search():
    text = printed("text_search.py", "wordllama")
    styles = ("sentence-transformers", "faiss", "faiss, uniform=True", "rows")
    for style in styles:
        ((size, by_values, by_codes, rescored),) = numbers(text, style)
        assert size == (260 if style == "rows" else 256)
        assert min(by_values, by_codes) > 0.985
        assert rescored > 0.999
    ((_, _, as_they_are, _),) = numbers(text, "codes multiplied as they are")
    assert as_they_are < 0.9
    ((_, _, by_hand, _),) = numbers(text, "(x * 127).astype(int8)")
    assert by_hand < 0.97


def test_codes_to_codes():
    text = printed("codes_to_codes.py", "matplotlib")
    differing = re.findall(r"^(.+?) +\d+ us +\d+ us +([\d,]+)$", text, re.MULTILINE)
    assert [int(n.replace(",", "")) for _, n in differing] == [0, 0, 0, 0, 0, 20_850, 0]
    assert "its worst error is 0.497 steps" in text
