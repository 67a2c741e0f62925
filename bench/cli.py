"""The command line: ``python -m bench``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from . import report
from .jobs import GI, HUGE, JOBS, KI, MI, SIZES, Job
from .machine import describe
from .suite import OursIsWrong, Row, Skips, installed, run
from .systems import SYSTEMS

#: what `--preset` stands for, as arguments; those given beside it win
PRESETS = {
    # quantize beside NumPy by hand, with new results on both sides and with `out`
    "numpy": [
        *("--jobs", "quantize", "--sizes", "64Ki,64Mi", "--threads", "1"),
        *("--systems", "zeropoint,zeropoint-fresh,numpy,numpy-out,bare-loop"),
    ],
    "quick": ["--sizes", "1,64Ki", "--threads", "1", "--seconds", "0.05"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)
    if options.preset:
        options = parser.parse_args([*PRESETS[options.preset], *given])
    sizes = options.sizes
    if options.huge:
        sizes = (*(sizes or SIZES), HUGE)

    skips = Skips()
    systems = installed(options.systems, skips)
    head = {
        "command": _command(given),
        "seconds_per_system_and_cell": options.seconds,
        "notes": {system.name: system.note for system in systems if system.note},
        **describe(sorted({system.package for system in systems})),
    }
    print(_heading(head))
    rows: list[Row] = []

    def progress(text: str) -> None:
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def save() -> None:
        if options.json:
            whole = {**head, "skipped": skips.listed()}
            report.save(options.json, whole, "rows", [asdict(row) for row in rows])

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
    for system in systems:
        if system.note:
            print(f"{system.name}: {system.note}.")
    print(report.skipped_lines(skips.listed()))
    return 0 if rows else 2


def _command(given: Sequence[str]) -> str:
    """What was typed, less the name of the result: that is a path on one machine."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--json")
    return shlex.join(["python", "-m", "bench", *parser.parse_known_args(given)[1]])


def _heading(head: dict[str, object]) -> str:
    machine, ours, versions = head["machine"], head["zeropoint"], head["versions"]
    assert isinstance(machine, dict)
    assert isinstance(ours, dict)
    assert isinstance(versions, dict)
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    peers = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {caches}; load {machine['load']}\n"
        f"zeropoint {ours['version']} ({', '.join(ours['backends'])}; "
        f"{ours.get('compiler', 'no compiled core')}), commit {head['commit']}\n"
        f"{peers}\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        allow_abbrev=False,
        description="Measure zeropoint beside NumPy, Numba, ONNX Runtime, torch, LiteRT, OpenCV, "
        "faiss, sentence-transformers, xarray and the tools of formats.",
        epilog="Exit code: 0, 1 if zeropoint differs from its reference, 2 for a wrong usage.",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=JOBS,
        help=f"comma-separated, * is a wildcard: {', '.join(job.name for job in JOBS)}",
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        help="comma-separated numbers of elements such as 1,1000,64Ki,1Mi; jobs with sizes of "
        "their own are measured at those of them (default: every job's own)",
    )
    parser.add_argument("--huge", action="store_true", help="1 Gi elements too (needs 16 GB)")
    parser.add_argument(
        "--systems",
        type=_systems,
        default=[system.name for system in SYSTEMS],
        help=f"comma-separated, * is a wildcard: {', '.join(system.name for system in SYSTEMS)}",
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
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--preset",
        choices=PRESETS,
        help="; ".join(f"{name}: {shlex.join(value)}" for name, value in PRESETS.items()),
    )
    choice.add_argument(
        "--quick",
        dest="preset",
        action="store_const",
        const="quick",
        help="the same as --preset quick: a look in a minute",
    )
    return parser


def _jobs(text: str) -> list[Job]:
    names = _matching(text, [job.name for job in JOBS])
    return [job for job in JOBS if job.name in names]


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
