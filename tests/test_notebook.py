"""The notebook of examples/ runs, prints what it shows, and shows nothing of the machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .test_extras import named, used

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "examples/wrong_to_right.ipynb").read_text()
CELLS = json.loads(TEXT)["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


@pytest.mark.slow("starts a kernel")
def test_it_prints_what_it_shows() -> None:
    command = [sys.executable, "-m", "bench.notebook", "--check"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_ends_with_all_codes_of_the_engine() -> None:
    shown = ["".join(output.get("text", "")) for cell in CODE for output in cell["outputs"]]
    first = [text.split("\n")[0] for text in shown if text]
    assert "/255 missing" in first[0]
    assert "wrapped" in first[0]
    assert "truncated" in first[1]
    assert "off by 128" in first[3] or "uint8 read as int8" in first[3]
    assert first[4] == "equal to `onnx` in all 230400 codes"
    assert first[5].startswith("equal to `torch` in all 230400 codes")
    assert first[6:] == [first[4], "230400 of 230400 codes are those of ONNX Runtime"]


def test_nothing_of_the_machine() -> None:
    assert not re.search(r"/(home|root|tmp|usr|work|opt|Users)/|site-packages|[A-Z]:\\\\", TEXT)
    assert "image/" not in TEXT
    assert all(cell["execution_count"] is None for cell in CODE)
    assert {key for cell in CELLS for key in cell["metadata"]} == set()
    assert set(json.loads(TEXT)["metadata"]) == {"kernelspec", "language_info"}


def test_it_names_what_it_needs() -> None:
    commands = re.findall(r"^    (pip install .+)$", "".join(CELLS[0]["source"]), re.MULTILINE)
    alone, extras = named(commands)
    needed = used("\n".join("".join(cell["source"]) for cell in CODE))
    assert commands
    assert alone <= needed <= alone.union(*extras)
    assert all(extra & needed for extra in extras)
