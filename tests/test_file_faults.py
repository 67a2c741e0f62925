"""A fault in the middle of a job leaves the old file or folder, or the new; a few of all places.

``tests/deep/test_file_faults.py`` goes through all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .file_faults import CASES, Fault, Job

pytestmark = pytest.mark.slow("every fault of a disk, in processes")


def some(job: Job) -> list[Fault]:
    """The first and the last call of the kinds that write; the faults take turns."""
    chosen = []
    names = ("mkdir", "openat", "write", "fsync", "rename", "renameat", "renameat2", "unlinkat")
    for name in names:
        of_name = [fault for fault in job.faults() if fault.name == name]
        # 3 faults a call, and 4 = 3 + 1: another fault for each call
        chosen += [*of_name[:1], *of_name[4:5], *of_name[-1:]]
    return list(dict.fromkeys(chosen))


@pytest.mark.parametrize(("job", "suffix", "exists"), [CASES[0], CASES[3], CASES[8]], ids=str)
def test_a_fault_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, job: str, suffix: str, exists: bool, note: Any
) -> None:
    made = Job(tmp_path, job, suffix, exists)
    outcomes = [made.run(fault) for fault in some(made)]
    assert "old" in outcomes
    assert "new" in outcomes  # the sync of the directory comes after the rename
    full = range(0, made.largest, made.largest // 20)
    for room in full:
        made.fill_disk(room)
    note(f"{job} to {made.target.name}: {len(outcomes)} injected faults, {len(full)} full disks")
