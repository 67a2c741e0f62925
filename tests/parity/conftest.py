"""The parity tests count what they compare; `note` and `backend` are the parent's fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import zeropoint as zp


@pytest.fixture
def record(note: Callable[..., None]) -> Callable[[str, str, str, int, int], None]:
    """Adds a count to the summary.  A comparison of nothing proves nothing, so it is an error."""

    def add(engine: str, what: str, backend: str, n: int, differences: int) -> None:
        assert n > 0, f"{engine} {what}: nothing was compared"
        assert zp.backend() == backend
        note(f"{engine} {what}: {n:,} compared, {differences:,} differences", backend)

    return add
