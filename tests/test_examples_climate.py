"""The example on climate data runs, and prints the figures that it is there for."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow("real data")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/climate.py"


def test_climate() -> None:
    for package in "xarray", "netCDF4", "iris_sample_data":
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{EXAMPLE.name} needs {package}")
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = re.findall(r"^(\S.*?) {2,}([\d.]+) +([\d.]+)$", ran.stdout, re.MULTILINE)
    found = {name: (float(one), float(other)) for name, one, other in rows}
    floats, codes = found["file, kB"]
    assert 3.5 < floats / codes < 4
    floats, codes = found["file with zlib, kB"]
    assert floats > 2.5 * codes
    before, after = found["missing values"]
    assert before == after > 100_000
    error, half = found["largest error, half a step, K"]
    assert error <= half + 1e-4
    assert found["values that became missing"][0] > 100
    assert found["values that wrapped around"][0] > 1000
    assert found["values that became missing"][1] == found["values that wrapped around"][1] == 0
    theirs, ours = found["largest error, K"]
    assert theirs > 40
    assert ours < 4
