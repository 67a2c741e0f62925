"""The figures of README and docs/speed.md, made from a run and never typed.

    python -m bench.readme FILE.json             print them
    python -m bench.readme FILE.json --update    put them into the two pages
    python -m bench.readme FILE.json --offsets   the tables of real offsets, for docs/speed.md
    python -m bench.readme FILE.json --lookups   the table of codes to codes, for docs/speed.md

The text between ``<!-- bench:begin -->`` and ``<!-- bench:end -->`` is replaced, or of the last two
between ``<!-- offsets:begin -->`` and so on.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zeropoint as zp

from . import jobs, report
from .jobs import (
    FEW,
    FILES,
    JOBS,
    KI,
    LOOKUPS,
    MI,
    OFFSET_SIZES,
    UNITS,
    WIDTHS,
    Case,
    Job,
    job_named,
    offset_job,
)
from .machine import ROOT
from .suite import Row

#: whose codes a convention gives, and ours called in the same way: with `out` or a new result
TOOLS = {
    "faiss": ("faiss", "zeropoint"),
    "sentence-transformers": ("sentence-transformers", "zeropoint-fresh"),
    "cf": ("xarray", "zeropoint-fresh"),
}
OF_FORMATS = FILES | {"quantize_q8_0", "dequantize_q8_0"}
SIZES = (64 * KI, MI, 16 * MI, 64 * MI)
NUMPY_SIZES = (64 * KI, MI, 64 * MI)  # README's

#: jobs of any size, which the tables show at `SIZES`
ANY_SIZE = tuple(job for job in JOBS if job.sizes == jobs.SIZES and job.shape is None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__)
    parser.add_argument("run", type=Path, metavar="FILE.json", help="what --json wrote")
    parser.add_argument("--update", action="store_true", help="rewrite README.md, docs/speed.md")
    for name, what in (("offsets", "the tables of real offsets"), ("lookups", "codes to codes")):
        parser.add_argument(f"--{name}", dest="part", action="store_const", const=name, help=what)
    options = parser.parse_args(arguments)
    run = report.load(options.run)
    if options.part:
        page = ROOT / "docs/speed.md" if options.update else None
        return report.put(PARTS[options.part](*run), page, options.part)
    return max(
        report.put(text(*run), ROOT / page if options.update else None, "bench")
        for page, text in PAGES.items()
    )


def summary(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """For README: how many times as fast as NumPy, on one thread."""
    found = _found(rows, 1)
    ratios = [
        row.vs_numpy
        for size in NUMPY_SIZES
        for system in ("zeropoint-fresh", "zeropoint")
        if (row := found.get(("quantize", size, system))) and row.vs_numpy
    ]
    return (
        f"On one thread `zp.quantize` is {min(ratios):.2g} to {max(ratios):.2g} times as fast as "
        f"that line in NumPy,\non {report.size_name(NUMPY_SIZES[0])} to "
        f"{report.size_name(NUMPY_SIZES[-1])} elements with {_backend(head)}."
    )


def tables(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """For docs/speed.md: where it ran, and all figures."""
    found = {threads: _found(rows, threads) for threads in sorted({row.threads for row in rows})}
    one = found.get(1, {})
    parts = [
        _where(head),
        _numpy(one),
        *(_throughput(each, threads) for threads, each in found.items()),
        _parts(one),
        _whole_arrays(one),
        _small_calls(one),
        _formats(found),
        _loaded(found),
        _lookups(found),
        *(_forced(one, isa) for isa in head["zeropoint"]["backends"][1:2]),
    ]
    return "\n\n".join(part for part in parts if part)


def offsets(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """For docs/speed.md, of a run with the jobs of real offsets."""
    found = {threads: _found(rows, threads) for threads in sorted({row.threads for row in rows})}
    return f"{_where(head)}\n\n{_tools(found)}\n\n{_offsets(found.get(1, {}))}"


def lookups(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """For docs/speed.md, of a run with the jobs from codes to codes."""
    found = {threads: _found(rows, threads) for threads in sorted({row.threads for row in rows})}
    return f"{_where(head)}\n\n{_lookups(found)}"


PARTS = {"offsets": offsets, "lookups": lookups}

Found = dict[tuple[str, int, str], Row]


def _found(rows: Sequence[Row], threads: int) -> Found:
    return {(row.job, row.size, row.system): row for row in rows if row.threads == threads}


def _table(heading: str, titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown, or nothing without lines."""
    if not lines:
        return ""
    rows = [titles, ["---"] * len(titles), *lines]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("| --- ", "|---")
    return f"{heading}\n\n{text.replace('|--- |', '|---|')}" if heading else text


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
        (
            report.size_name(size),
            f"{numpy.gelem_per_s:.2g} Gelem/s",
            _times(fresh.vs_numpy),
            _times(out.vs_numpy),
        )
        for size in NUMPY_SIZES
        if (numpy := found.get(("quantize", size, "numpy")))
        and (fresh := found.get(("quantize", size, "zeropoint-fresh")))
        and (out := found.get(("quantize", size, "zeropoint")))
    ]
    titles = (
        "elements",
        "`np.clip(np.round(x / s + z), 0, 255).astype(np.uint8)`",
        "`zp.quantize(x, params)`",
        "the same with `out=`",
    )
    return _table("", titles, lines)


def _throughput(found: Found, threads: int) -> str:
    lines = []
    for job in ANY_SIZE:
        cells = [_cell(found, job.name, size) for size in SIZES]
        if any(cells):
            lines.append((f"`{job.name}`: {job.title}", *cells))
    heading = (
        f"### {report.threads_name(threads).capitalize()}\n\n"
        "Gelem/s with `out=`, and in brackets how many times as fast as the fastest peer:"
    )
    return _table(heading, ["work", *map(report.size_name, SIZES)], lines)


def _cell(found: Found, job: str, size: int, system: str = "zeropoint") -> str:
    ours = found.get((job, size, system))
    if ours is None:
        return ""
    against = _against(found, ours)
    return f"{ours.gelem_per_s:.2g} ({against})" if against else f"{ours.gelem_per_s:.2g}"


def _against(found: Found, ours: Row) -> str:
    """How many times as fast as the fastest peer."""
    if ours.vs_fastest_peer is None:
        return ""
    return f"{_times(ours.vs_fastest_peer)} {_fastest(found, ours)}"


def _fastest(found: Found, ours: Row) -> str:
    """The peer that the ratio is against: its own ratio is 1."""
    return next(
        row.system
        for row in found.values()
        if (row.job, row.size) == (ours.job, ours.size)
        and row.role == "peer"
        and row.vs_fastest_peer == 1
    )


def _parts(found: Found) -> str:
    """Where a cliff shows itself."""
    lines = []
    for job in JOBS:
        (size,) = job.sizes_of(None) if job.shape is not None else (MI,)
        out, fresh = (found.get((job.name, size, s)) for s in ("zeropoint", "zeropoint-fresh"))
        apart = job.operation in UNITS or job.has_offset
        if size <= FEW or apart or not out or not fresh or out.of_plain is None:
            continue
        cells = [f"{row.gelem_per_s:.2g} | {_percent(row.of_plain)}" for row in (out, fresh)]
        lines.append((f"`{job.name}`: {job.title}", *cells, _against(found, out)))
    heading = (
        "### Layouts and granularities\n\n"
        "Gelem/s on one thread, and which part that is of our own speed per tensor, on as many "
        "contiguous float32.\nWithout a shape the data are a square matrix of 1 Mi elements:"
    )
    titles = ("work", "`out=`", "part", "new result", "part", "`out=` against the fastest peer")
    return _table(heading, titles, lines)


def _whole_arrays(found: Found) -> str:
    lines = []
    for job in JOBS:
        for size in (64 * KI, 64 * MI):
            ours = found.get((job.name, size, "zeropoint"))
            apart = job.operation in UNITS.keys() - LOOKUPS or job.name == "min_max_skip_nan"
            if apart and ours and ours.of_plain:
                unit = f"{1 / ours.of_plain:.3g} x `{job.plain.operation}`"
                cells = (report.size_name(size), report.time_name(ours.seconds), unit)
                lines.append((f"`{job.name}`", *cells, _against(found, ours)))
    heading = "### Errors, ranges and sums\n\nOn one thread, and in passes over as much float32:"
    return _table(heading, ("work", "elements", "time", "passes", "against peers"), lines)


def _small_calls(found: Found) -> str:
    lines = []
    for job in JOBS:
        for size in job.sizes_of(None):
            ours = found.get((job.name, size, _fresh(job)))
            rint = found.get((job.name, size, "np.rint"))
            if size <= FEW and ours and rint:
                calls = f"{ours.seconds / rint.seconds:.2g}"
                elements = report.size_name(size)
                cells = (elements, report.time_name(ours.seconds), calls, _against(found, ours))
                lines.append((f"`{job.name}`: {job.title}", *cells))
    heading = (
        "### Small calls\n\n"
        "Called from Python, with a new result; the unit is `np.rint` of one element:"
    )
    titles = ("work", "elements", "time", "calls of `np.rint`", "against the fastest peer")
    return _table(heading, titles, lines)


def _formats(found: dict[int, Found]) -> str:
    """What other engines load: blocks of Q8_0, and whole jobs from file to file."""
    lines = []
    for job in JOBS:
        if job.operation not in OF_FORMATS:
            continue
        (size,) = job.sizes_of(None)
        rows = [each.get((job.name, size, "zeropoint")) for each in found.values()]
        if rows and (ours := rows[0]):
            times = (f"{row.seconds / size * 1e9:.2f} ns" if row else "" for row in rows)
            one = next(iter(found.values()))
            copy = one.get((job.name, size, "file-copy"))
            other = f"{ours.seconds / copy.seconds:.2f} x a copy's" if copy else ""
            lines.append((f"`{job.name}`: {job.title}", *times, other or _against(one, ours)))
    heading = (
        "### Formats of other engines\n\n"
        "Time an element; on one thread beside the format's own tool or, from file to file in "
        "memory, as a part of\nwhat it takes to copy the floats by the same code:"
    )
    titles = ("work", *map(report.threads_name, found), "beside")
    return _table(heading, titles, lines)


def _lookups(found: dict[int, Found]) -> str:
    """From codes to codes by a table, beside a loop that moves the same bytes."""
    lines = []
    for job in JOBS:
        if job.operation not in LOOKUPS:
            continue
        for size in job.sizes:
            case = Case(job, size)
            plural = "s" * (case.shape[0] > 1)
            name = f"{case.shape[0]} image{plural}" if job.axis else report.size_name(size)
            rows = [each.get((job.name, case.size, "zeropoint")) for each in found.values()]
            if rows and (ours := rows[0]):
                times = (report.time_name(row.seconds) if row else "" for row in rows)
                one = next(iter(found.values()))
                avx2 = _of_copy(one.get((job.name, case.size, "zeropoint-avx2")))
                cells = (*times, _of_copy(ours), avx2, _against(one, ours))
                lines.append((f"`{job.name}`: {job.title}", name, *cells))
    heading = (
        "### Codes to codes\n\n"
        "With `out=`: the time; on one thread, which multiple that is of a loop's that only moves "
        "the bytes, and how\nmany times as fast as the fastest peer:"
    )
    counts = map(report.threads_name, found)
    titles = ("work", "elements", *counts, "of a copy", "on avx2", "against the fastest peer")
    return _table(heading, titles, lines)


def _of_copy(row: Row | None) -> str:
    return f"{1 / row.of_bare_loop:.2f} x" if row and row.of_bare_loop else ""


def _tools(found: dict[int, Found]) -> str:
    """Real offsets and missing values, beside the tools whose codes they are."""
    lines = []
    for job in JOBS:
        if job.shape is None or not job.has_offset:
            continue
        (size,), (tool, system) = job.sizes_of(None), TOOLS[job.convention]
        rows = [each.get((job.name, size, system)) for each in found.values()]
        peers = [each.get((job.name, size, tool)) for each in found.values()]
        if rows and rows[0]:
            times = (f"{row.seconds / size * 1e9:.2f} ns" if row else "" for row in rows)
            beside = (
                _times(peer.seconds / row.seconds) if row and peer else ""
                for row, peer in zip(rows, peers, strict=True)
            )
            against = _against(next(iter(found.values())), rows[0])
            lines.append((f"`{job.name}`: {job.title}", *times, tool, *beside, against))
    heading = (
        "### Real offsets: beside the tools\n\n"
        "Time an element; how many times as fast as the tool whose codes these are, on as many "
        "threads; and as\nthe fastest peer, on one thread.  faiss has `out=` and so have we "
        "beside it, the others make new results:"
    )
    counts = [report.threads_name(threads) for threads in found]
    beside_it = (f"against it, {count}" for count in counts)
    return _table(heading, ("work", *counts, "tool", *beside_it, "fastest peer"), lines)


def _offsets(found: Found) -> str:
    """What a real offset costs, and a code for missing values."""
    columns = itertools.product(WIDTHS, zp.OFFSET_CONVENTIONS)
    rows = [
        *((None, convention, "") for convention in zp.OFFSET_CONVENTIONS),
        *((None, convention, "_missing") for convention in ("numpy", "cf")),
        *((width, convention, "") for width, convention in columns),
    ]
    works = tuple(itertools.product(("quantize", "dequantize"), OFFSET_SIZES))
    lines = []
    for width, convention, missing in rows:
        cells = [
            _part_of(
                found,
                offset_job(convention, operation, width) + missing,
                offset_job("numpy", operation, width),
                size,
            )
            for operation, size in works
        ]
        if any(cells):
            layout = "per tensor, uint8" if width is None else f"{width} columns, int8"
            what = ", missing values" if missing else ""
            lines.append((f"`{convention}`, {layout}{what}", *cells))
    heading = (
        "### Real offsets: beside integer zero points\n\n"
        "Gelem/s with `out=` on one thread, and which part that is of the speed under `numpy` on "
        "the same shape,\nwithout missing values:"
    )
    titles = (f"{operation}, {report.size_name(size)}" for operation, size in works)
    return _table(heading, ("numbers", *titles), lines)


def _part_of(found: Found, job: str, whole: str, size: int) -> str:
    ours, other = (
        found.get((name, Case(job_named(name), size).size, "zeropoint")) for name in (job, whole)
    )
    return (
        f"{ours.gelem_per_s:.2g} ({_percent(other.seconds / ours.seconds)})"
        if ours and other
        else ""
    )


def _loaded(found: dict[int, Found]) -> str:
    lines = []
    for job in JOBS:
        for size in job.sizes_of(None) if job.load else ():
            rows = [each.get((job.name, size, "zeropoint")) for each in found.values()]
            if all(rows):
                lines.append((f"{job.load}, {report.size_name(size)}", *map(_spread, rows)))
    heading = (
        "### When the machine is not ours alone\n\n"
        "`quantize`, best and median time of a call while a process spins on each CPU but one, "
        "and while a second\nPython thread makes the same call:"
    )
    return _table(heading, ["", *map(report.threads_name, found)], lines)


def _spread(row: Row | None) -> str:
    if row is None or row.median_seconds is None:
        return ""
    return f"{report.time_name(row.seconds)}, median {report.time_name(row.median_seconds)}"


def _forced(found: Found, isa: str) -> str:
    """What a CPU without our best instructions would get."""
    system = f"zeropoint-{isa}"
    lines = []
    for job in ANY_SIZE:
        cells = [_cell(found, job.name, size, system) for size in SIZES]
        if any(cells):
            lines.append((f"`{job.name}`", *cells))
    heading = f"### Backend {isa} forced\n\nOne thread, `out=`; the peers use all the CPU has:"
    return _table(heading, ["work", *map(report.size_name, SIZES)], lines)


def _fresh(job: Job) -> str:
    """The system whose row shows new results."""
    return "zeropoint-fresh" if job.has_out else "zeropoint"


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return f"{ratio:.{digits}f} x"


def _percent(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


PAGES = {"README.md": summary, "docs/speed.md": tables}


if __name__ == "__main__":
    raise SystemExit(main())
