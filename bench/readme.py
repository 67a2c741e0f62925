"""The figures of README and docs/speed.md, made from a run and never typed.

    python -m bench.readme FILE.json             print them
    python -m bench.readme FILE.json --update    put them into the two pages

The text between ``<!-- bench:begin -->`` and ``<!-- bench:end -->`` is replaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .jobs import JOBS, KI, MI, Job
from .machine import ROOT
from .suite import Row

SIZES = (64 * KI, MI, 64 * MI)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__)
    parser.add_argument("run", type=Path, metavar="FILE.json", help="what --json wrote")
    parser.add_argument("--update", action="store_true", help="rewrite README.md, docs/speed.md")
    options = parser.parse_args(arguments)
    run = report.load(options.run)
    return max(
        report.put(text(*run), ROOT / page if options.update else None, "bench")
        for page, text in PAGES.items()
    )


def summary(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """For README: NumPy beside ours on one thread, and the range of ours against the peers."""
    float32 = {job.name for job in JOBS if job.real == "float32"}
    ranges = []
    for size in SIZES:
        ratios = [
            row.vs_fastest_peer
            for row in rows
            if (row.system, row.size) == ("zeropoint", size)
            and row.job in float32
            and row.vs_fastest_peer is not None
        ]
        if ratios:
            ranges.append(f"{min(ratios):.2g} to {max(ratios):.2g} x on {report.size_name(size)}")
    return (
        f"{_numpy(_found(rows, 1))}\n\n"
        "Beside the fastest of ONNX Runtime, torch, LiteRT and Numba, over all operations on "
        f"float32:\n{', '.join(ranges)} elements.\n"
        f"({head['machine']['cpu']}, backend {_backend(head)}, 1 and 2 threads.)"
    )


def tables(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """For docs/speed.md: where it ran, NumPy beside ours, every job against the fastest peer."""
    parts = [_where(head)]
    for threads in sorted({row.threads for row in rows}):
        found = _found(rows, threads)
        parts += [_numpy(found), _throughput(found, threads)]
        parts += [_one_element(found)] if threads == 1 else []
    return "\n\n".join(part for part in parts if part)


Found = dict[tuple[str, int, str], Row]


def _found(rows: Sequence[Row], threads: int) -> Found:
    return {(row.job, row.size, row.system): row for row in rows if row.threads == threads}


def _backend(head: dict[str, Any]) -> str:
    return str(head["zeropoint"]["backends"][0])


def _where(head: dict[str, Any]) -> str:
    machine, ours = head["machine"], head["zeropoint"]
    peers = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    notes = ". ".join(f"{name}: {note}" for name, note in head["notes"].items())
    return (
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {caches}; zeropoint compiled by "
        f"{ours.get('compiler', 'no compiler (NumPy alone)')}, backend {_backend(head)}; {peers}; "
        f"{head['date'][:10]}, commit {head['commit']}. "
        f"Command: `{head['command']}`. {notes}."
    )


def _numpy(found: Found) -> str:
    """quantize by hand in NumPy, beside ours with a new result and with `out` given."""
    lines = [
        f"| {report.size_name(size)} | {numpy.gelem_per_s:.2g} Gelem/s "
        f"| {_times(fresh.vs_numpy)} | {_times(out.vs_numpy)} |"
        for size in SIZES
        if (numpy := found.get(("quantize", size, "numpy")))
        and (fresh := found.get(("quantize", size, "zeropoint-fresh")))
        and (out := found.get(("quantize", size, "zeropoint")))
    ]
    head = [
        "| elements | `np.clip(np.round(x / s + z), 0, 255).astype(np.uint8)` "
        "| `zp.quantize(x, params)` | the same with `out=` |",
        "|---|---|---|---|",
    ]
    return "\n".join(head + lines) if lines else ""


def _throughput(found: Found, threads: int) -> str:
    lines = []
    for job in JOBS:
        cells = [_cell(found, job.name, size) for size in SIZES]
        if any(cells):
            lines.append(f"| `{job.name}`: {job.title} | {' | '.join(cells)} |")
    head = [
        f"Gelem/s on {report.threads_name(threads)}, and in brackets how many times as fast as "
        "the fastest peer:",
        "",
        f"| work | {' | '.join(f'{report.size_name(size)} elements' for size in SIZES)} |",
        "|---|" + "---|" * len(SIZES),
    ]
    return "\n".join(head + lines) if lines else ""


def _cell(found: Found, job: str, size: int) -> str:
    ours = found.get((job, size, "zeropoint"))
    if ours is None:
        return ""
    if ours.vs_fastest_peer is None:
        return f"{ours.gelem_per_s:.2g}"
    return f"{ours.gelem_per_s:.2g} ({_times(ours.vs_fastest_peer)} {_fastest(found, ours)})"


def _fastest(found: Found, ours: Row) -> str:
    """The peer that the ratio is against: its own ratio is 1."""
    return next(
        row.system
        for row in found.values()
        if (row.job, row.size) == (ours.job, ours.size)
        and row.role == "peer"
        and row.vs_fastest_peer == 1
    )


def _one_element(found: Found) -> str:
    lines = [
        f"| `{job.name}` | {report.time_name(ours.seconds)} "
        f"| {_times(ours.vs_fastest_peer)} {_fastest(found, ours)} |"
        for job in JOBS
        if (ours := found.get((job.name, 1, _fresh(job)))) and ours.vs_fastest_peer is not None
    ]
    head = [
        "One element, new result, called from Python:",
        "",
        "| work | time | against the fastest peer |",
        "|---|---|---|",
    ]
    return "\n".join(head + lines) if lines else ""


def _fresh(job: Job) -> str:
    """The system whose row shows fresh results (those of min_max always are)."""
    return "zeropoint" if job.operation == "min_max" else "zeropoint-fresh"


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return f"{ratio:.{digits}f} x"


PAGES = {"README.md": summary, "docs/speed.md": tables}


if __name__ == "__main__":
    raise SystemExit(main())
