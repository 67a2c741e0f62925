"""This zeropoint against another installation of it, measured in turns.

    python -m bench against OTHER/bin/python --jobs 'quantize,axis*' --sizes 64Ki,1Mi

OTHER is a virtual environment with another zeropoint, and with what else is to be measured:

    git worktree add ../before main~10
    python -m venv ../other && ../other/bin/python -m pip install ../before ".[bench]"

The suite is that of this checkout in both.  Each round starts both once, so what disturbs the
machine meets both, and a process that was lucky with its memory is one of several.  The rounds
are the batches of `bench compare`, which says what is faster.  Without --systems it measures
zeropoint, and what shows the noise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import compare, report
from .machine import ROOT
from .suite import Row

Run = tuple[compare.Head, list[Row]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench against",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="All other arguments are those of python -m bench.  A is OTHER, B is this one.  "
        "Exit code: as of compare, or that of a run that failed.",
    )
    parser.add_argument("other", metavar="PYTHON", help="the interpreter of the other installation")
    parser.add_argument("--rounds", type=_rounds, default=7, help="starts of each (default: 7)")
    compare.add_options(parser)
    options, others = parser.parse_known_args(arguments)
    if any(each.split("=")[0] == "--json" for each in others):
        parser.error("--json is for one run; --html FILE writes a page of the comparison")
    other = shutil.which(options.other)
    if other is None:
        print(f"bench against: {options.other} is no program: give a python", file=sys.stderr)
        return 2
    if not any(each.split("=")[0] == "--systems" for each in others):
        others += ["--systems", "zeropoint*,numpy,numpy-out,bare-loop,np.rint"]
    pythons = os.path.abspath(other), sys.executable
    found: tuple[list[Run], list[Run]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        for turn in range(options.rounds):
            print(f"bench against: round {turn + 1} of {options.rounds}", file=sys.stderr)
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                command = [pythons[which], "-m", "bench", *others, "--json", str(path)]
                done = subprocess.run(
                    command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
                if done.returncode:
                    print(done.stderr, end="", file=sys.stderr)
                    print(f"bench against: {pythons[which]} failed", file=sys.stderr)
                    return done.returncode
                found[which].append(report.load(path))
    for runs, python in zip(found, pythons, strict=True):
        runs[0][0]["commit"] = f"in {python}"  # what is recorded is this checkout's, in both
    return compare.show(merged(found[0]), merged(found[1]), options)


def merged(runs: Sequence[Run]) -> Run:
    """Several runs of the same as one: each is a batch, the best of all is the time."""
    rows: dict[tuple[str, int, int, str], list[Row]] = {}
    for _, found in runs:
        for row in found:
            rows.setdefault((*row.cell, row.system), []).append(row)
    return runs[0][0], [
        replace(
            min(each, key=lambda row: row.seconds),
            wrong=max(row.wrong for row in each),
            samples=sum(row.samples for row in each),
            median_seconds=statistics.median(row.median_seconds or row.seconds for row in each),
            batches=tuple(row.seconds for row in each),
        )
        for each in rows.values()
    ]


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 2 rounds")
    return int(text)
