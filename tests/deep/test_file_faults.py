"""Every fault at every call of every file job, and a disk that is full after so many bytes.

Not for every run: ``nox -s deep``.  It needs strace (``apt-get install strace``).
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.file_faults import CASES, Job


@pytest.mark.parametrize(("job", "suffix", "exists"), CASES, ids=str)
def test_every_fault_at_every_call(
    tmp_path: Path, job: str, suffix: str, exists: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    start, made = time.monotonic(), Job(tmp_path, job, suffix, exists)
    outcomes = Counter(made.run(fault) for fault in made.faults())
    assert outcomes["old"] > 10
    assert outcomes["old+"] > 1
    assert outcomes["new"] > 1
    with capsys.disabled():
        spent = time.monotonic() - start
        print(f"\n{job} to {made.target.name}, {exists=}: {outcomes.total()} faults", end=" ")
        print(f"at {len(made.calls)} calls in {spent:.0f} s, none torn: {dict(outcomes)}")


@pytest.mark.parametrize(("job", "suffix", "exists"), CASES, ids=str)
def test_a_disk_full_anywhere(
    tmp_path: Path, job: str, suffix: str, exists: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    start, made = time.monotonic(), Job(tmp_path, job, suffix, exists)
    rooms = range(0, made.largest, 5)  # all places in a word
    for room in rooms:
        made.fill_disk(room)
    with capsys.disabled():
        spent = time.monotonic() - start
        print(f"\n{job} to {made.target.name}, {exists=}: {len(rooms)} full disks in {spent:.0f} s")
