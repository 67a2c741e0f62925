"""The command line: ``python -m bench``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from . import against, compare, page, report
from .groups import GROUPS, answers_text
from .jobs import GI, HUGE, JOBS, KI, MI, SIZES, Job
from .machine import describe, doubts, versions
from .suite import OursIsWrong, Row, Skips, installed, run
from .systems import SYSTEMS

#: what `--quick` stands for; arguments given beside it win
QUICK = (
    *("--jobs", "quantize,dequantize,dynamic,axis1,float16,lookup,quantize_faiss_384"),
    *("--sizes", "1,64Ki", "--threads", "1", "--seconds", "0.05"),
)

DESCRIPTION = """\
Measure zeropoint beside NumPy, Numba, ONNX Runtime, torch, LiteRT, OpenCV, faiss,
sentence-transformers, xarray and the tools of formats, on this machine.

  python -m bench --quick                       a look at what is used most, in a minute
  python -m bench --json run.json --html run.html   everything: half an hour or more
  python -m bench --group embeddings            what you do; --list shows groups, jobs, systems
  python -m bench show run.json --html run.html     the page of a run
  python -m bench compare before.json after.json    two machines, or two commits
  python -m bench against OTHER/bin/python          two installations, measured in turns

python -m pip install ".[bench]" installs what it is measured beside; what is missing is left out
and named.  docs/how-to/benchmark.md says how to read the figures."""

COMMANDS = {"compare": compare.main, "against": against.main}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        return COMMANDS[given[0]](given[1:])
    if given and given[0] == "show":
        return _show(given[1:])
    parser = _parser()
    options = parser.parse_args(given)
    if options.list:
        print(_list())
        return 0
    if options.quick:
        options = parser.parse_args([*QUICK, *given])
    sizes = options.sizes
    if options.huge:
        sizes = (*(sizes or SIZES), HUGE)

    skips = Skips()
    systems = installed(options.systems, skips)
    notes = {system.name: system.note for system in systems if system.note}
    head = {
        "command": _command(given),
        "seconds_per_system_and_cell": options.seconds,
        "notes": notes,
        **describe(sorted({system.package for system in systems})),
    }
    print(_heading(head))
    rows: list[Row] = []

    def progress(text: str) -> None:
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def save() -> None:
        whole = {**head, "skipped": skips.listed()}
        if options.json:
            report.save(options.json, whole, "rows", [asdict(row) for row in rows])
        if options.html:
            options.html.write_text(page.of_run(whole, rows), encoding="utf-8")

    try:
        for cell in run(
            systems, options.jobs, sizes, options.threads, options.seconds, skips, progress
        ):
            rows += cell
            print(report.cell_table(cell), flush=True)
            save()  # a long run that is broken off leaves what it has
    except OursIsWrong as error:
        print(f"bench: zeropoint is wrong: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not rows:
        print("bench: nothing to measure", file=sys.stderr)
    save()
    print(report.LEGEND)
    for name, note in notes.items():
        print(f"{name}: {note}.")
    print(answers_text(rows))
    print(report.skipped_lines(skips.listed()))
    return 0 if rows else 2


def _command(given: Sequence[str]) -> str:
    """What was typed, less the name of the result: that is a path on one machine."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--json")
    parser.add_argument("--html")
    return shlex.join(["python", "-m", "bench", *parser.parse_known_args(given)[1]])


def _heading(head: dict[str, object]) -> str:
    machine, ours, found = head["machine"], head["zeropoint"], head["versions"]
    assert isinstance(machine, dict)
    assert isinstance(ours, dict)
    assert isinstance(found, dict)
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    peers = ", ".join(f"{name} {number}" for name, number in found.items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {caches}; load {machine['load']}\n"
        f"zeropoint {ours['version']} ({', '.join(ours['backends'])}; "
        f"{ours.get('compiler', 'no compiled core')}), commit {head['commit']}\n"
        f"{peers}\n" + "".join(f"! {doubt}\n" for doubt in doubts(head))
    )


def _show(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench show",
        allow_abbrev=False,
        description="A run once more, as text or as a page; or several of one machine and commit, "
        "as one: of two with the same cell, the later counts.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="FILE.json", help="what --json wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all as one run")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page")
    options = parser.parse_args(given)
    try:
        head, rows = report.joined([report.load(path) for path in options.runs])
    except (OSError, ValueError) as error:
        print(f"bench show: {error}", file=sys.stderr)
        return 2
    print(_heading(head))
    print(answers_text(rows))
    if options.json:
        report.save(options.json, head, "rows", [asdict(row) for row in rows])
    if options.html:
        options.html.write_text(page.of_run(head, rows), encoding="utf-8")
    return 0


def _list() -> str:
    """What `--group`, `--jobs` and `--systems` take, and what is not installed."""
    lines = []
    for group in GROUPS:
        if group.jobs:
            lines.append(f"{group.name}: {group.title} ({group.text})")
            lines += [f"    {job.name}: {job.title}" for job in group.jobs]
    lines.append("systems:")
    for kind in SYSTEMS:
        found = versions([kind.package])[kind.package].replace("unknown", "is not installed")
        lines.append(f"    {kind.name}: {kind.package} {found}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=DESCRIPTION,
        epilog="Exit code: 0, 1 if zeropoint differs from its reference, 2 for a wrong usage.",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--group",
        type=_groups,
        dest="jobs",
        default=JOBS,
        metavar="NAMES",
        help=f"comma-separated: {', '.join(group.name for group in GROUPS if group.jobs)}",
    )
    chosen.add_argument(
        "--jobs",
        type=_jobs,
        default=JOBS,
        metavar="NAMES",
        help="comma-separated, * is a wildcard (default: all)",
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        help="comma-separated numbers of elements such as 1,1000,64Ki,1Mi; jobs with sizes of "
        "their own are measured at those of them (default: every job's own)",
    )
    parser.add_argument(
        "--huge", action="store_true", help="1 Gi elements too (needs 16 GB of memory)"
    )
    parser.add_argument(
        "--systems",
        type=_systems,
        default=[system.name for system in SYSTEMS],
        metavar="NAMES",
        help="comma-separated, * is a wildcard (default: all that are installed)",
    )
    parser.add_argument(
        "--threads", type=_threads, default=[1, 2], help="comma-separated (default: 1,2)"
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=0.2,
        help="time for each system in each cell (default: 0.2)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the run here")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page, too")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a look in a minute; the same as {shlex.join(QUICK)}",
    )
    parser.add_argument(
        "--list", action="store_true", help="show groups, jobs and systems, and measure nothing"
    )
    return parser


def _jobs(text: str) -> list[Job]:
    names = _matching(text, [job.name for job in JOBS])
    return [job for job in JOBS if job.name in names]


def _groups(text: str) -> list[Job]:
    names = _matching(text, [group.name for group in GROUPS if group.jobs])
    return [job for group in GROUPS if group.name in names for job in group.jobs]


def _systems(text: str) -> list[str]:
    return _matching(text, [system.name for system in SYSTEMS])


def _matching(text: str, names: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    for pattern in text.split(","):
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise argparse.ArgumentTypeError(f"{pattern!r} is none of {', '.join(names)}")
        chosen += found
    return chosen


def _sizes(text: str) -> tuple[int, ...]:
    units = {"Ki": KI, "Mi": MI, "Gi": GI}
    sizes = []
    for size in text.split(","):
        digits, unit = (size[:-2], units[size[-2:]]) if size[-2:] in units else (size, 1)
        if not digits.strip().isdecimal() or int(digits) < 1:
            raise argparse.ArgumentTypeError(f"{size!r} is not a size such as 1000, 64Ki, 1Mi")
        sizes.append(int(digits) * unit)
    return tuple(sorted(set(sizes)))


def _threads(text: str) -> list[int]:
    counts = [int(count) if count.isdecimal() else 0 for count in text.split(",")]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of counts such as 1,2")
    return counts


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds such as 0.5")
    return value
