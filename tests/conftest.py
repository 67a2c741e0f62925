"""Every test that takes `backend` runs once on each backend; the summary names what really ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

import zeropoint as zp

KNOWN_BACKENDS = (*zp._backend.core_info().get("isas", ()), "reference")
ran: Counter[str] = Counter()


def require(name: str) -> str:
    if name not in zp.backends():
        pytest.skip(f"this machine cannot run {name}: it has {', '.join(zp.backends())}")
    ran[name] += 1
    return name


@pytest.fixture(params=KNOWN_BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with zp.use_backend(require(request.param)):
        yield request.param


@pytest.fixture(params=KNOWN_BACKENDS[:-1])
def native(request: pytest.FixtureRequest) -> Iterator[str]:
    """Like `backend`, the ISAs of the core alone."""
    with zp.use_backend(require(request.param)):
        yield request.param


@pytest.fixture
def isa(native: str) -> Iterator[str]:
    """Like `native`, and every call is compared with the reference."""
    with zp.verify():
        yield native


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write = terminalreporter.write_line
    for name in KNOWN_BACKENDS:
        lacking = "" if name in zp.backends() else "   NOT RUN: this machine lacks it"
        write(f"zeropoint backend {name}: {ran[name]} tests{lacking}")
