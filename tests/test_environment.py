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
    built = set(re.findall(r"^if\.env\.(\w+)", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    page = (ROOT / "docs/reference/environment.md").read_text()
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == READ | built


IMPORT = """
import os
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
    code = IMPORT.format(cases=cases)
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_import() -> None:
    automatic = f"{zp.get_num_threads()} {zp.backends()[0]}"
    for line in told(
        *((name, [""]) for name in sorted(READ)), ("ZEROPOINT_STREAM_FROM", RIGHT[-1:])
    ):
        assert line.endswith(f"' {automatic}")
    if len(zp.backends()) > 1:
        assert told(("ZEROPOINT_NUM_THREADS", RIGHT[1:2]))[0].split()[2] == "7"
    for line in told(*((name, ["abc"]) for name in sorted(READ))):
        name = line.split()[0]
        assert line.startswith(f"{name} 'abc' ValueError {name} 'abc' is not a ")


@pytest.mark.parametrize("name", sorted(READ))
def test_nonsense(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in NONSENSE:
        monkeypatch.setenv(name, text)
        start = re.escape(f"{name} {text!r}"[:60])
        if name == "ZEROPOINT_BACKEND":
            with pytest.raises(ValueError, match=f"^{start}.* is not a backend") as error:
                zp._backend._named(text, name)
        else:
            with pytest.raises(
                ValueError, match=f"^{start}.* whole number below 2.64; fix"
            ) as error:
                zp._backend.number_from_environment(name, "fix")
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for text in RIGHT:
        monkeypatch.setenv(name, text)
        found.append(zp._backend.number_from_environment(name, "fix"))
    assert found == [0, 7, 4096, 2**64 - 1]
    monkeypatch.setenv(name, "")
    assert zp._backend.number_from_environment(name, "fix") is None
