"""Two runs beside each other: of two commits, or of two machines.

    python -m bench compare A.json B.json [--html PAGE.html] [--fail-over 1.1]

Every ratio says how many times as fast B is as A: above 1 B is faster.  Its interval has two
sources.  Each run keeps the best time of ten parts of its samples, and a time is known to lie
between the best of these and their median.  And on one machine, what did not change between the
runs (NumPy, the peers, loops that only move bytes) shows how far two runs lie apart for no reason:
the interval is widened by the factor that holds for 95% of those.  A row is faster or slower if its
interval does not hold 1.

A time that was taken another day, on a warmer machine or beside other work, is not the same time.
`python -m bench against` takes those of two installations in turns, which is surer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from . import report
from .groups import Group, Ratios, by_group, times
from .machine import doubts
from .suite import Row
from .systems import SYSTEMS

Head = dict[str, Any]

FASTER, SLOWER, NOISE = "faster", "slower", "within noise"
ENOUGH = 8  #: rows of others, to tell what a difference without a reason is

#: whose version says whether a system may have changed
PACKAGES = {kind.name: getattr(kind, "package", "zeropoint") for kind in SYSTEMS}


@dataclass(frozen=True)
class Drift:
    """By which factor the times of what did not change differ, up or down, in all rows but 5%."""

    factor: float = 1.0
    rows: int = 0


@dataclass(frozen=True)
class Change:
    """One row in both runs."""

    a: Row
    b: Row
    drift: Drift = Drift()

    @property
    def ratio(self) -> float:
        """How many times as fast B is."""
        return self.a.seconds / self.b.seconds

    @property
    def interval(self) -> tuple[float, float]:
        """Between what the ratio may be: of the samples, and of two runs without a change."""
        a, b = self.a.seconds, self.b.seconds
        return a / _typical(self.b) / self.drift.factor, _typical(self.a) / b * self.drift.factor

    @property
    def verdict(self) -> str:
        low, high = self.interval
        return FASTER if low > 1 else SLOWER if high < 1 else NOISE


def _typical(row: Row) -> float:
    """The median of the batches' best; runs of older versions have that of all samples."""
    best = statistics.median(row.batches) if row.batches else row.median_seconds
    return max(row.seconds, best or 0)


@dataclass(frozen=True)
class Comparison:
    """Two runs: what changed, and what makes it unsure."""

    heads: tuple[Head, Head]
    changes: list[Change]  #: of the systems that were asked for
    others: list[Change]  #: of peers and yardsticks, the same in both runs
    drift: Drift
    doubts: list[str]

    def of(self, verdict: str) -> list[Change]:
        return [change for change in self.changes if change.verdict == verdict]

    def regressions(self, over: float) -> list[Change]:
        """Slower beyond noise, and more than `over` times as long."""
        return [change for change in self.of(SLOWER) if change.ratio < 1 / over]


class NotComparable(ValueError):
    """The two runs have nothing in common."""


def is_ours(system: str) -> bool:
    return PACKAGES.get(system) == "zeropoint" or system.startswith("zeropoint-")


def compare(
    a: tuple[Head, Sequence[Row]], b: tuple[Head, Sequence[Row]], systems: Sequence[str]
) -> Comparison:
    """The rows that both runs have, of systems with one of these names (* is a wildcard)."""
    (head_a, rows_a), (head_b, rows_b) = a, b
    found_a, found_b = ({(*row.cell, row.system): row for row in rows} for rows in (rows_a, rows_b))
    both = [(found_a[key], found_b[key]) for key in found_a if key in found_b]
    both = [(x, y) for x, y in both if not x.wrong and not y.wrong]
    one_machine = not _machines(head_a, head_b)
    versions_a, versions_b = head_a["versions"], head_b["versions"]

    def unchanged(system: str) -> bool:
        package = PACKAGES.get(system)
        return not is_ours(system) and versions_a.get(package) == versions_b.get(package)

    others = [Change(x, y) for x, y in both if unchanged(x.system)]
    drift = _drift([change.ratio for change in others]) if one_machine else Drift()
    changes = [
        Change(x, y, drift)
        for x, y in both
        if any(fnmatchcase(x.system, pattern) for pattern in systems)
    ]
    if not changes:
        what = _only(rows_a, rows_b, "A") + _only(rows_b, rows_a, "B")
        missing = f"; {'; '.join(what)}" if what else ""
        raise NotComparable(f"no row of {', '.join(systems)} is in both runs{missing}")
    return Comparison(
        (head_a, head_b),
        changes,
        others,
        drift,
        [
            *_machines(head_a, head_b),
            *_circumstances(head_a, head_b),
            *_only(rows_a, rows_b, "A"),
            *_only(rows_b, rows_a, "B"),
            *(
                [f"{drift.rows} rows of others are few to tell two runs without a change"]
                if one_machine and drift.rows < ENOUGH
                else []
            ),
        ],
    )


def _drift(ratios: list[float]) -> Drift:
    if not ratios:
        return Drift()
    factors = sorted(max(ratio, 1 / ratio) for ratio in ratios)
    return Drift(factors[-1 - round(len(factors) * 0.05)], len(factors))


def _machines(a: Head, b: Head) -> list[str]:
    """What says that these are two machines: none of it, and they count as one."""
    return [
        f"two machines, {name}: {a['machine'].get(name)} and {b['machine'].get(name)}"
        for name in ("cpu", "cores", "system")
        if a["machine"].get(name) != b["machine"].get(name)
    ]


def _circumstances(a: Head, b: Head) -> list[str]:
    """What differs beside the machine, and what makes either run noisy."""
    found = [
        f"{what}: {x} and {y}"
        for what, x, y in (
            ("compilers", a["zeropoint"].get("compiler"), b["zeropoint"].get("compiler")),
            ("best backends", a["zeropoint"]["backends"][0], b["zeropoint"]["backends"][0]),
            *(
                (f"versions of {name}", a["versions"][name], b["versions"][name])
                for name in a["versions"]
                if name in b["versions"] and name != "zeropoint"
            ),
            (
                "seconds for each cell",
                a.get("seconds_per_system_and_cell"),
                b.get("seconds_per_system_and_cell"),
            ),
        )
        if x != y
    ]
    in_a, in_b = doubts(a), doubts(b)
    found += [f"both: {each}" for each in in_a if each in in_b]
    found += [f"A: {each}" for each in in_a if each not in in_b]
    return found + [f"B: {each}" for each in in_b if each not in in_a]


def _only(rows: Sequence[Row], others: Sequence[Row], name: str) -> list[str]:
    """What one run has and the other has not."""

    def names(attribute: str) -> list[Any]:
        there = {getattr(row, attribute) for row in others}
        return sorted({getattr(row, attribute) for row in rows} - there)

    found = []
    for what, attribute in (("jobs", "job"), ("systems", "system"), ("threads", "threads")):
        if missing := names(attribute):
            found.append(f"only in {name}, {what}: {', '.join(map(str, missing))}")
    if missing := names("size"):
        found.append(f"only in {name}, sizes: {', '.join(map(report.size_name, missing))}")
    return found


def summary(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """The table of groups: its titles, and its lines."""
    others = by_group(change.b for change in found.others)
    ratio_of = {(*change.b.cell, change.b.system): change.ratio for change in found.others}
    lines = []
    for group, changes in grouped(found.changes).items():
        verdicts = [change.verdict for change in changes]
        beside = [ratio_of[*row.cell, row.system] for row in others.get(group, [])]
        counts = (str(verdicts.count(verdict) or "") for verdict in (FASTER, SLOWER, NOISE))
        ours = Ratios(tuple(change.ratio for change in changes))
        lines.append([group.title, *counts, str(ours), str(Ratios(tuple(beside)))])
    return ["", FASTER, SLOWER, NOISE, "B as fast as A", "the others"], lines


def grouped(changes: Sequence[Change]) -> dict[Group, list[Change]]:
    found = by_group(change.b for change in changes)
    of = {(*change.b.cell, change.b.system): change for change in changes}
    return {
        group: [of[*row.cell, row.system] for row in members] for group, members in found.items()
    }


TITLES = ("verdict", "work", "elements", "threads", "system", "A", "B", "B as fast as A", "between")


def cells(change: Change) -> list[str]:
    """A row as text, under `TITLES`."""
    low, high = change.interval
    return [
        change.verdict,
        change.a.job,
        report.size_name(change.a.size),
        str(change.a.threads),
        change.a.system,
        report.time_name(change.a.seconds),
        report.time_name(change.b.seconds),
        times(change.ratio),
        f"{low:.2f} and {high:.2f}",
    ]


def which(head: Head) -> str:
    """A run in one line."""
    machine, ours = head["machine"], head["zeropoint"]
    return (
        f"zeropoint {ours['version']}, commit {head['commit']}, {head['date'][:16]}, "
        f"{machine['cpu']}, {machine['cores']} CPUs, {ours['backends'][0]}"
    )


def allowance(found: Comparison) -> str:
    """What was taken for noise beside the spread of the samples."""
    if found.drift.rows:
        return (
            f"The times of what did not change ({found.drift.rows} rows of other systems) differ "
            f"by a factor of up to {found.drift.factor:.2f}: the intervals allow for that."
        )
    return "The intervals are of the samples alone: they do not hold what differs between two runs."


def text(found: Comparison, everything: bool = False) -> str:
    """For the terminal."""
    titles, lines = summary(found)
    shown = [change for change in found.changes if everything or change.verdict != NOISE]
    shown.sort(key=lambda change: change.ratio)
    parts = [
        *(f"{name}: {which(head)}" for name, head in zip("AB", found.heads, strict=True)),
        *(f"! {doubt}" for doubt in found.doubts),
        "",
        allowance(found),
        "",
        report.aligned([titles, *lines]),
    ]
    if shown:
        parts += ["", report.aligned([TITLES, *map(cells, shown)])]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench compare",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="Exit code: 0; 1 if --fail-over found a row; 2 if the runs cannot be compared.",
    )
    parser.add_argument("a", type=Path, metavar="A.json", help="a run that --json wrote: before")
    parser.add_argument("b", type=Path, metavar="B.json", help="another: after")
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        runs = report.load(options.a), report.load(options.b)
    except (OSError, ValueError) as error:
        print(f"bench compare: {error}", file=sys.stderr)
        return 2
    return show(*runs, options)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--of",
        default="zeropoint,zeropoint-*",
        metavar="SYSTEMS",
        help="whose rows, comma-separated, * is a wildcard (default: zeropoint,zeropoint-*)",
    )
    parser.add_argument("--all", action="store_true", help="rows within noise too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with all rows")
    parser.add_argument(
        "--fail-over",
        type=_factor,
        metavar="FACTOR",
        help="exit code 1 where B takes more than FACTOR times as long as A, beyond noise; 1.1 say",
    )


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a factor of at least 1 such as 1.1")
    return value


def show(a: tuple[Head, list[Row]], b: tuple[Head, list[Row]], options: argparse.Namespace) -> int:
    """Print, write, and say by the exit code whether something is slower."""
    try:
        found = compare(a, b, options.of.split(","))
    except NotComparable as error:
        print(f"bench compare: {error}", file=sys.stderr)
        return 2
    print(text(found, options.all))
    if options.html:
        from . import page  # which shows what is here

        options.html.write_text(page.of_comparison(found), encoding="utf-8")
    if options.fail_over is None:
        return 0
    slower = found.regressions(options.fail_over)
    print(f"\n{len(slower)} rows take more than {options.fail_over:g} times as long, beyond noise")
    return 1 if slower else 0
