"""Every test that takes `backend` runs once on each backend; the summary names what really ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

import zeropoint as zp

KNOWN_BACKENDS = ("avx512", "avx2", "baseline", "numpy")
ran: Counter[str] = Counter()


@pytest.fixture(params=KNOWN_BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    if name not in zp.backends():
        pytest.skip(f"this machine cannot run {name}: it has {', '.join(zp.backends())}")
    with zp.use_backend(name):
        yield name
    ran[name] += 1


@pytest.fixture(params=KNOWN_BACKENDS[:-1])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Like `backend`, for tests that compare a kernel with the reference."""
    name: str = request.param
    if name not in zp.backends():
        pytest.skip(f"this machine cannot run {name}: it has {', '.join(zp.backends())}")
    with zp.use_backend(name), zp.verify():
        yield name
    ran[name] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write = terminalreporter.write_line
    for name in KNOWN_BACKENDS:
        lacking = "" if name in zp.backends() else "   NOT RUN: this machine lacks it"
        write(f"zeropoint backend {name}: {ran[name]} tests{lacking}")
