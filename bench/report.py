"""A run as text and as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from .jobs import GI, JOBS, KI, MI
from .suite import EVERY_JOB, EVERYBODY, Row

FORMAT = 1
T = TypeVar("T")

LEGEND = """\
time: the best of many calls.  GB/s: bytes that the job must read and write.
vs peer: the time of the fastest correct peer divided by this one's, on the same threads (> 1:
  faster than it; for one element LiteRT does not count, because its call passes no array).
vs numpy: the same against NumPy by hand.  of bare: the same against the bare loop.
of plain: our speed as a part of our own per tensor, on contiguous float32, the same operation (the
  table `UNITS` of bench/jobs.py names what stands for operations that have no such thing).
median: of many calls, where the best tells little: a second caller, a busy CPU.
differ: elements that are not what the job's convention gives.  WRONG: elements that are not what
  the system's own arithmetic gives.  another arithmetic on this CPU: the system follows none of
  the formulas it is known for, but no code is more than one off the nearest, which is named."""

Table = Sequence[Sequence[str]]


def put(text: str, page: Path | None, what: str) -> int:
    """Print `text`, or put it between the markers named `what` of a page; returns an exit code."""
    if page is None:
        print(text)
        return 0
    begin, end = f"<!-- {what}:begin -->", f"<!-- {what}:end -->"
    before, has_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        print(f"{page} needs {begin} and {end}", file=sys.stderr)
        return 2
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
    return 0


def size_name(size: int) -> str:
    for unit, name in ((GI, "Gi"), (MI, "Mi"), (KI, "Ki")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return str(size)


def threads_name(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def time_name(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}" if seconds < 1e3 * unit else f"{seconds:.0f} s"
    return f"{seconds / 1e-9:.0f} ns"


def cell_table(rows: Sequence[Row]) -> str:
    """The table of one cell."""
    job = next(job for job in JOBS if job.name == rows[0].job)
    one = rows[0].size == 1
    head = (
        f"{job.name} ({job.title}): {size_name(rows[0].size)} elements"
        if not one
        else (f"{job.name} ({job.title}): one element")
    )
    body = [
        (
            row.system,
            "" if row.role == "yardstick" else row.arithmetic,
            time_name(row.seconds),
            "" if row.median_seconds is None else time_name(row.median_seconds),
            "" if one else f"{row.gelem_per_s:.3g}",
            "" if one else f"{row.gbyte_per_s:.3g}",
            _ratio(row.vs_fastest_peer),
            _ratio(row.vs_numpy),
            "" if row.of_bare_loop is None else f"{row.of_bare_loop:.0%}",
            "" if row.of_plain is None else f"{row.of_plain:.0%}",
            _differ(row),
        )
        for row in rows
    ]
    titles = (
        "system",
        "arithmetic",
        "time",
        "median",
        "Gelem/s",
        "GB/s",
        "vs peer",
        "vs numpy",
        "of bare",
        "of plain",
        "differ",
    )
    return f"{head}, {threads_name(rows[0].threads)}\n{aligned([titles, *body])}\n"


def _differ(row: Row) -> str:
    if row.wrong:
        return f"WRONG: {row.wrong}"
    text = str(row.differ or "")
    return f"{text}, another arithmetic on this CPU: {row.another}" if row.another else text


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def aligned(table: Table) -> str:
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in table
    )
    return "\n".join(f"  {line.rstrip()}" for line in lines)


def skipped_lines(skipped: Sequence[dict[str, Any]]) -> str:
    """What no system was measured on, and what is not here at all; the rest is for pages."""
    lines, few = [], set()
    for each in skipped:
        if each["jobs"] == [EVERY_JOB] or each["system"] == EVERYBODY:
            lines.append(f"skipped: {each['system']}: {each['reason']} ({', '.join(each['jobs'])})")
        else:
            few.add(each["system"])
    if few:
        lines.append(
            f"skipped: some jobs of {', '.join(sorted(few))}, which do not have them (--json and "
            "--html say why)"
        )
    return "\n".join(lines)


def save(path: Path, head: dict[str, Any], name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write the run; one row a line, so that two runs can be compared with diff."""
    lines = ",\n".join("    " + json.dumps(_rounded(row)) for row in rows)
    text = json.dumps({"format": FORMAT, **head}, indent=2)
    path.write_text(f'{text[:-2]},\n  "{name}": [\n{lines}\n  ]\n}}\n')


def _rounded(value: Any, digits: int = 6) -> Any:
    """So many significant digits: more would be noise, and noise in a committed file."""
    match value:
        case float():
            return float(f"{value:.{digits}g}")
        case dict():
            return {key: _rounded(each) for key, each in value.items()}
        case list() | tuple():
            return [_rounded(each, 4) for each in value]
    return value


def load(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """A run of the suite that `save` wrote."""
    head, rows = load_rows(path, Row)
    fault = _fault(head, rows)
    if fault:
        raise ValueError(f"{path} is damaged: {fault}; run it again")
    return head, rows


def _fault(head: dict[str, Any], rows: Sequence[Row]) -> str | None:
    """What is not as `save` wrote it."""
    for name in ("machine", "zeropoint", "versions"):
        if not isinstance(head.get(name), dict):
            return f"it has no {name}"
    if not head["zeropoint"].get("backends"):
        return "it has no backends"
    seen = set()
    for row in rows:
        where = f"{row.job} of {row.size} elements by {row.system}"
        for seconds in (row.seconds, *row.batches):
            if not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
                return f"{where} took {seconds!r} s"
        if (*row.cell, row.system) in seen:
            return f"{where} is there twice"
        seen.add((*row.cell, row.system))
    return None


def load_rows(path: Path, kind: type[T]) -> tuple[dict[str, Any], list[T]]:
    """A run with rows of this kind."""
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    found = head.get("format") if isinstance(head, dict) else None
    if found != FORMAT or "rows" not in head:
        raise ValueError(
            f"{path} is not a run of this suite (format {found}, not {FORMAT}); run it again"
        )
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    try:
        rows = [kind(**_known(row, known)) for row in head.pop("rows")]
    except TypeError as error:
        raise ValueError(f"{path} is another kind of run: {error}") from error
    return head, rows


def joined(runs: Sequence[tuple[dict[str, Any], list[Row]]]) -> tuple[dict[str, Any], list[Row]]:
    """Several runs of one machine and commit as one."""
    heads = [head for head, _ in runs]
    first = heads[0]
    for name in ("cpu", "cores", "system"):
        found = {str(head["machine"].get(name)) for head in heads}
        if len(found) > 1:
            raise ValueError(f"runs of two machines are not one: {name} {' and '.join(found)}")
    commits = {head["commit"] for head in heads}
    if len(commits) > 1:
        raise ValueError(f"runs of several commits are not one: {', '.join(sorted(commits))}")
    rows = {(*row.cell, row.system): row for _, found_rows in runs for row in found_rows}
    whole = {
        **first,
        "command": "; ".join(dict.fromkeys(head["command"] for head in heads)),
        "versions": {name: number for head in heads for name, number in head["versions"].items()},
        "notes": {name: note for head in heads for name, note in head["notes"].items()},
        "skipped": [each for head in heads for each in head.get("skipped", [])],
    }
    return whole, list(rows.values())


def _known(row: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """What this version knows: later ones may have added fields.  JSON has no tuples."""
    return {
        key: tuple(each) if isinstance(each, list) else each
        for key, each in row.items()
        if key in known
    }
