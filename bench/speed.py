"""The figures of docs/speed.md and the line of README, made from a run and never typed.

    python -m bench.speed FILE.json             print them
    python -m bench.speed FILE.json --update    put them into the pages

What lies between ``<!-- answers:begin -->`` and ``<!-- answers:end -->`` is replaced: a line for
each case; and between ``<!-- bench:begin -->`` and ``<!-- bench:end -->``: all cells, by case, or
README's line.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .groups import LOADED, Group, Ratios, answers, by_group, table
from .jobs import KI, MI
from .machine import ROOT, doubts
from .suite import Row

README_SIZES = (64 * KI, MI, 64 * MI)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("run", type=Path, metavar="FILE.json", help="what --json wrote")
    parser.add_argument("--update", action="store_true", help="rewrite the pages")
    options = parser.parse_args(arguments)
    run = report.load(options.run)
    return max(
        report.put(text(*run), ROOT / page if options.update else None, what)
        for (page, what), text in PARTS.items()
    )


def readme(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """How many times as fast as NumPy, on one thread."""
    found = {(*row.cell, row.system): row.vs_numpy for row in rows}
    ratios = [
        ratio
        for size in README_SIZES
        for system in ("zeropoint-fresh", "zeropoint")
        if (ratio := found.get(("quantize", size, 1, system)))
    ]
    if not ratios:
        return ""
    return (
        f"On one thread `zp.quantize` is {min(ratios):.2g} to {max(ratios):.2g} times as fast as "
        f"that line in NumPy,\non {report.size_name(README_SIZES[0])} to "
        f"{report.size_name(README_SIZES[-1])} elements with {head['zeropoint']['backends'][0]}."
    )


def summary(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """Is it faster for my case?  A line for each."""
    counts = sorted({row.threads for row in rows})
    columns = {"the fastest other": answers(rows, counts[0])}
    for threads in counts[1:]:
        columns[f"on {report.threads_name(threads)}"] = answers(rows, threads)
    columns["AVX2 alone"] = answers(rows, counts[0], "avx2")
    cells = {group: [_linked(group)] for group in by_group(rows) if group is not LOADED}
    numpy = {each.group: each.numpy for each in answers(rows, counts[0])}
    for group, line in cells.items():
        line.append(_bold(numpy.get(group)))
    for found in columns.values():
        ratios = {each.group: each.peer for each in found}
        for group, line in cells.items():
            line.append(_bold(ratios.get(group)))
    titles = ["what I do", "NumPy by hand", *columns]
    machine = head["machine"]
    return (
        f"{markdown(titles, list(cells.values()))}\n\n"
        f"{machine['cpu']}, {machine['cores']} CPUs, backend {head['zeropoint']['backends'][0]}, "
        f"{head['date'][:10]}."
    )


def _linked(group: Group) -> str:
    """With the address that code hosts and the site give to the heading."""
    letters = (c for c in group.title.lower() if c.isalnum() or c in " -")
    return f"[{group.title}](#{''.join(letters).replace(' ', '-')})"


def _bold(found: Ratios | None) -> str:
    if found is None or not found.values:
        return ""
    mean, unit, extremes = str(found).partition(" x")
    return f"**{mean}{unit}**{extremes.replace(' (', '<br>(')}"


def tables(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """Where it ran, and the cells of each group."""
    parts = [_where(head)]
    for group, members in by_group(rows).items():
        text = group.text[0].upper() + group.text[1:]
        titles, lines = table(group, members)
        if lines:
            parts.append(f"### {group.title}\n\n{text}.\n\n{markdown(titles, lines)}")
    return "\n\n".join(parts)


PARTS = {
    ("README.md", "bench"): readme,
    ("docs/speed.md", "answers"): summary,
    ("docs/speed.md", "bench"): tables,
}


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [titles, *lines]
    first, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([first, "|---" * len(titles) + "|", *rest])


def _where(head: dict[str, Any]) -> str:
    machine, ours = head["machine"], head["zeropoint"]
    peers = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    notes = ". ".join(f"{name}: {note}" for name, note in head["notes"].items())
    noise = "".join(f" {each[0].upper()}{each[1:]}." for each in doubts(head))
    backend = head["zeropoint"]["backends"][0]
    return (
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {caches}; zeropoint compiled by "
        f"{ours.get('compiler', 'no compiler (NumPy alone)')}, backend {backend}; {peers}; "
        f"{head['date'][:10]}, commit {head['commit']}. "
        f"Command: `{head['command']}`.{noise} {notes}."
    )


if __name__ == "__main__":
    raise SystemExit(main())
