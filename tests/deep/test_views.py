"""Twenty times the random views of tests/test_views.py."""

from __future__ import annotations

from typing import Any

from ..test_views import run


def test_random_views(capsys: Any) -> None:
    tally = run(20_000)
    with capsys.disabled():
        print(f"\n{tally}")
