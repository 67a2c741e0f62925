"""Every offset from the forbidden pages, where CI takes four."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .. import test_guard_pages as guard

pytestmark = guard.pytestmark


@pytest.mark.parametrize("streamed", [False, True], ids=["in the caches", "past the caches"])
def test_every_offset(native: str, tmp_path: Path, streamed: bool, capsys: Any) -> None:
    how = {"ZEROPOINT_STREAM_FROM": "0"} if streamed else {}
    done = guard.check(tmp_path, native, "offsets", **how)
    with capsys.disabled():
        where = "past the caches" if streamed else "in the caches"
        print(f"\nguard pages, {native}, every offset, {where}: {done}")
