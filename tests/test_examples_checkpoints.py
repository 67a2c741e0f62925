"""The example for checkpoints runs, and each engine's own package agrees with what it wrote."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "checkpoints.py"


@pytest.mark.slow("transformers loads models")
def test_checkpoints() -> None:
    for package in "torch", "transformers", "compressed_tensors", "gguf", "safetensors":
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"NOT RUN: it needs {package}; its first lines say how to install it")
    command = [sys.executable, str(EXAMPLE)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    commands = [line.split()[2] for line in ran.stdout.splitlines() if line.startswith("$ ")]
    assert commands == ["quantize"] * 2 + ["dequantize"] + ["quantize"] * 2
    cosines = re.findall(
        r"loaded by transformers: cosine of the logits (\d\.\d+)$", ran.stdout, re.M
    )
    assert len(cosines) == 2
    assert min(map(float, cosines)) > 0.999
    ratios = [float(each) for each in re.findall(r"\((\d\.\d\d) x\)", ran.stdout)]
    assert len(ratios) == 4
    assert max(ratios) < 0.63
    differ = re.findall(r"; (\d+) of [\d,]+ (bytes|codes and scales) differ from", ran.stdout)
    assert differ == [("0", "bytes"), ("0", "codes and scales")]
    assert "back in torch.bfloat16: no weight is further off than 0.000" in ran.stdout
