"""Every test that takes `backend` runs once on each backend; the summary names what really ran."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import zeropoint as zp

KNOWN_BACKENDS = (*zp._backend.core_info().get("isas", ()), "reference")


Property = Callable[[str, object], None]


def on(name: str, record_property: Property) -> Iterator[str]:
    if name not in zp.backends():
        pytest.skip(f"this machine cannot run {name}: it has {', '.join(zp.backends())}")
    record_property("backend", name)
    with zp.use_backend(name):
        yield name


@pytest.fixture(params=KNOWN_BACKENDS)
def backend(request: pytest.FixtureRequest, record_property: Property) -> Iterator[str]:
    yield from on(request.param, record_property)


@pytest.fixture(params=KNOWN_BACKENDS[:-1])
def native(request: pytest.FixtureRequest, record_property: Property) -> Iterator[str]:
    """Like `backend`, the ISAs of the core alone."""
    yield from on(request.param, record_property)


@pytest.fixture
def isa(native: str) -> Iterator[str]:
    """Like `native`, and every call is compared with the reference."""
    with zp.verify():
        yield native


@pytest.fixture
def note(record_property: Property) -> Callable[..., None]:
    """Adds a line to the summary: what was compared, or cannot be; with a backend if one is given.

    Properties of tests reach the summary from the workers of pytest-xdist too.
    """

    def add(line: str, backend: str = "") -> None:
        record_property("note", (line, backend))

    return add


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("slow"):
            if not (mark.args and isinstance(mark.args[0], str)):
                raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.slow lacks its reason")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test draws the same numbers whatever ran before it, and in whichever worker."""
    module = getattr(item, "module", None)
    if hasattr(module, "RNG"):
        module.RNG = np.random.default_rng(zlib.crc32(item.name.encode()))


def pytest_runtest_teardown() -> None:
    zp.set_num_threads(0)  # it is the process', and the next test counts on the automatic number


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran: Counter[str] = Counter()
    notes: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for kind, value in report.user_properties:
            if kind == "backend":
                ran[value] += 1
            elif kind == "note":
                line, backend = value
                notes.setdefault(line, []).append(backend)
    if notes:
        terminalreporter.section("what was compared")
    for line, backends in sorted(notes.items()):
        where = f", backend {', '.join(sorted(backends))}" if any(backends) else ""
        terminalreporter.write_line(line + where)
    for name in KNOWN_BACKENDS:
        lacking = "" if name in zp.backends() else "   NOT RUN: this machine lacks it"
        terminalreporter.write_line(f"zeropoint backend {name}: {ran[name]} tests{lacking}")
