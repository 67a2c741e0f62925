"""The parity tests print what they compared when all is done; `backend` is the parent's fixture."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import zeropoint as zp

LINES = pytest.StashKey[dict[str, list[str]]]()  #: text of a line: the backends it holds for


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = {}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash[LINES]
    if lines:
        terminalreporter.section("parity with the engines")
    for text, backends in lines.items():
        terminalreporter.write_line(f"{text}, backend {', '.join(backends)}")


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Adds a line to the summary: what was left out, or what cannot be matched."""

    def add(text: str, backend: str) -> None:
        request.config.stash[LINES].setdefault(text, []).append(backend)

    return add


@pytest.fixture
def record(note: Callable[[str, str], None]) -> Callable[[str, str, str, int, int], None]:
    """Adds a count to the summary.  A comparison of nothing proves nothing, so it is an error."""

    def add(engine: str, what: str, backend: str, n: int, differences: int) -> None:
        assert n > 0, f"{engine} {what}: nothing was compared"
        assert zp.backend() == backend
        note(f"{engine} {what}: {n:,} compared, {differences:,} differences", backend)

    return add
