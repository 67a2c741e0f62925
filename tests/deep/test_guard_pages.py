"""Every size, and every offset from the forbidden pages, where CI takes few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .. import test_guard_pages as guard

pytestmark = guard.pytestmark


@pytest.mark.parametrize("which", ["all", "offsets"])
@pytest.mark.parametrize("streamed", [False, True], ids=["in the caches", "past the caches"])
def test_every_one(native: str, tmp_path: Path, which: str, streamed: bool, capsys: Any) -> None:
    how = {"ZEROPOINT_STREAM_FROM": "0"} if streamed else {}
    done = guard.check(tmp_path, native, which, **how)
    with capsys.disabled():
        where = "past the caches" if streamed else "in the caches"
        print(f"\nguard pages, {native}, {which}, {where}: {done}")
