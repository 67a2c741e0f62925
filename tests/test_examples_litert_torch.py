"""The examples for LiteRT and torch run, and print the figures that they are there for."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow("real models")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def figures(example: str, *packages: str) -> dict[str, list[float]]:
    """Run it as a person does; the rows of the table that it prints, by name."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{example} needs {package}")
    path = EXAMPLES / example
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = re.findall(r"^(\S.*?)((?: {2,}[\d.]+)+)$", ran.stdout, re.MULTILINE)
    return {name: [float(number) for number in numbers.split()] for name, numbers in rows}


def test_litert_wake_word():
    found = figures("litert_wake_word.py", "ai_edge_litert", "pymicro_wakeword")
    wrong, right = found["wrong codes, %"]
    assert 45 < wrong < 55  # what is cut off instead of rounded
    wrapped, none = found["wrapped around, %"]
    assert 0.3 < wrapped < 0.6
    assert right == none == 0
    by_hand, heard = found["highest probability"]
    assert by_hand < 0.9 < 0.95 <= heard  # the word is missed, and heard
    assert all(0 < us < 1000 for us in found["us a step"])


def test_pipeline():
    found = figures("pipeline.py", "ai_edge_litert", "flatbuffers", "pymicro_wakeword")
    assert found.keys() == {"camera", "microphone"}
    for before, after, most in found.values():
        assert after - before < 1000
        assert most - before < 4000  # an image has 150,528 codes


def test_torch_observers():
    found = figures("torch_observers.py", "torch", "wordllama")
    torch, ours, different = zip(*found.values(), strict=True)
    assert different == (0, 0, 0)
    assert sum(ours) < sum(torch)
