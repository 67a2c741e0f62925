"""The fuzzer for longer; not for every run: ``nox -s deep``.

`ZEROPOINT_FUZZ_MINUTES` (60, shared by the parsers) and `ZEROPOINT_FUZZ_SEED` (1) are read from the
environment.  The same seed makes the same mutants: give each long run its own.
"""

from __future__ import annotations

import os

import pytest

from tests.fuzz import PARSERS, report

MINUTES = float(os.environ.get("ZEROPOINT_FUZZ_MINUTES") or "60")
SEED = int(os.environ.get("ZEROPOINT_FUZZ_SEED") or "1")


@pytest.mark.parametrize("name", PARSERS)
def test_fuzz(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(PARSERS[name].needs)
    line = report(name, MINUTES * 60 / len(PARSERS), SEED)
    with capsys.disabled():
        print(f"\n{line}")
