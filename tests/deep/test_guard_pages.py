"""Every offset from the forbidden pages, where CI takes four."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import test_guard_pages as guard

pytestmark = guard.pytestmark


def test_every_offset(native: str, tmp_path: Path, capsys: Any) -> None:
    done = guard.check(tmp_path, native, "offsets")
    with capsys.disabled():
        print(f"\nguard pages, {native}, every offset: {done}")
