"""Variables of the environment: empty is unset, and nonsense an error that names the variable.

ZEROPOINT_REQUIRE_CORE is the build's (.ci/run); those whose names begin with ZEROPOINT_FUZZ are of
tests/deep alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zeropoint as zp

ROOT = Path(__file__).resolve().parents[1]
READ = {"ZEROPOINT_BACKEND", "ZEROPOINT_NUM_THREADS", "ZEROPOINT_STREAM_FROM"}
NUMBERS = sorted(READ - {"ZEROPOINT_BACKEND"})
NONSENSE = ["abc", " ", "-1", "+1", "1.0", "1e6", "0x10", "5 ", "\u0663", str(2**64), "1" * 5000]
RIGHT = ["0", "007", "4096", str(2**64 - 1)]


def test_these_are_all() -> None:
    found: set[str] = set()
    for path in [*(ROOT / "python").rglob("*.py"), *(ROOT / "cpp").rglob("*.[ch]*")]:
        found |= set(
            re.findall(r'(?:getenv|environ\b.*|environment|Setting \w+)\(?"(\w+)', path.read_text())
        )
    assert {name for name in found if name.startswith("ZEROPOINT_")} == READ


IMPORT = """
import os, sys
sys.path[:0] = {path!r}
import numpy
for name, texts in {cases!r}:
    for text in texts:
        if (child := os.fork()) == 0:
            os.environ[name] = text
            try:
                import zeropoint as zp
                print(name, repr(text), zp.get_num_threads(), zp.backend(), flush=True)
            except ValueError as error:
                print(name, repr(text), "ValueError", error, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
"""


def told(*cases: tuple[str, list[str]]) -> list[str]:
    """What `import zeropoint` says to each text of each variable, in a process each."""
    clean = {name: text for name, text in os.environ.items() if name not in READ}
    code = IMPORT.format(path=[], cases=cases)
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_import() -> None:
    automatic = f"{zp.get_num_threads()} {zp.backends()[0]}"
    for line in told(*((name, [""]) for name in sorted(READ))):
        assert line.endswith(f" '' {automatic}")
    for line in told(("ZEROPOINT_STREAM_FROM", RIGHT)):
        assert line.endswith(automatic)
    if len(zp.backends()) > 1:
        numbers = [line.split()[2] for line in told(("ZEROPOINT_NUM_THREADS", RIGHT[1:]))]
        assert numbers == ["7", "64", "64"]
    refusals = told(*((name, NONSENSE) for name in NUMBERS), ("ZEROPOINT_BACKEND", NONSENSE))
    assert len(refusals) == 3 * len(NONSENSE)
    for line, text in zip(refusals, NONSENSE * 3, strict=True):
        name, said = line.split()[0], line[line.index("ValueError") + len("ValueError ") :]
        assert said.startswith(f"{name} {text!r}"[:60])
        assert "whole number below 2^64; " in said or "is not a backend of this machine" in said
        assert len(said) < 300
