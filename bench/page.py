"""A run, or two beside each other, as one HTML page: no script, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from zeropoint._html import BAR, CLIPPED, Html, escape, page, paragraph, table

from . import compare, report
from .groups import Group, Ratios, answers, by_group, times
from .groups import table as group_table
from .machine import doubts
from .suite import Row

CSS = (
    "body{max-width:75em;margin:0 auto;padding:1em}h1{font-size:1.5em}"
    "h2{font-size:1.15em;margin:2em 0 .3em}p{max-width:46em;margin:.4em 0}"
    ".wide{overflow-x:auto;margin:.6em 0}.soft{color:var(--soft)}"
    ".doubt{color:var(--warn);padding-left:1.2em;margin:.4em 0}"
    "td{white-space:nowrap}th[scope=row]{min-width:8em;position:sticky;left:0;"
    "background:var(--back)}"
    "td svg{display:inline-block;vertical-align:middle;margin-right:.4em}"
    ".up{color:var(--link);font-weight:600}.down{color:var(--warn);font-weight:600}"
    "summary{cursor:pointer;color:var(--link)}"
    "@media(max-width:600px){td svg{display:none}th,td{padding:.15em .35em}body{padding:.6em}}"
)
_REACH = 64.0  #: where a bar ends


def of_run(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """The page of `python -m bench --html`."""
    counts = sorted({row.threads for row in rows})
    parts = [
        page("zeropoint beside others", CSS),
        "<h1>How fast is zeropoint here?</h1>",
        _machine(head),
        _list(doubts(head)),
    ]
    if not rows:
        return "".join([*parts, paragraph("Nothing was measured."), _skipped(head)])
    parts += [
        "<h2>Is it faster for my case?</h2>",
        paragraph(
            "How many times as fast as NumPy by hand, and as the fastest other system that gives "
            "right results: the mean of all cells, below it the least and the most. Above 1 "
            "zeropoint is faster. Each line leads to its cells."
        ),
        _answers(rows, counts),
    ]
    for group, members in by_group(rows).items():
        parts.append(_group(group, members))
    return "".join([*parts, _skipped(head), _reading(head)])


def _machine(head: dict[str, Any]) -> str:
    machine, ours, versions = head["machine"], head["zeropoint"], head["versions"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    peers = ", ".join(f"{name} {number}" for name, number in versions.items())
    load = "" if machine["load"] is None else f", load {machine['load']} before"
    rows = [
        ("machine", f"{machine['cpu']}, {machine['cores']} CPUs, {caches}, {machine['system']}"),
        (
            "zeropoint",
            f"{ours['version']}, commit {head['commit']}, {ours.get('compiler', 'no core')}; "
            f"backends {', '.join(ours['backends'])}",
        ),
        ("beside", peers),
        ("run", f"{head['date']}{load}: {head['command']}"),
    ]
    lines = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"<details><summary>{escape(machine['cpu'])}</summary><dl>{lines}</dl></details>"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul class=doubt>{items}</ul>" if items else ""


def _wide(text: str) -> str:
    return f"<div class=wide>{text}</div>"


def _bar(ratio: float) -> str:
    """From 1 to the ratio, on a logarithmic scale: to the right is faster."""
    reach = math.log(_REACH)
    part = max(-1.0, min(1.0, math.log(ratio) / reach))
    end = 60 * part if part >= 0 else 20 * max(-1.0, 4 * part)
    x, width, fill = (20.0, end, BAR) if end >= 0 else (20 + end, -end, CLIPPED)
    return (
        '<svg viewBox="0 0 80 10" width="80" height="10" aria-hidden="true">'
        f'<path d="M20 0v10" stroke="currentColor" stroke-width="1"/>'
        f'<rect x="{x:.1f}" y="2" width="{width:.1f}" height="6" fill="{fill}"/></svg>'
    )


def _ratios(found: Ratios) -> Html:
    """The mean, and below it how far the cells lie apart."""
    if not found.values:
        return Html("")
    mean = times(found.mean)
    _, _, extremes = str(found).partition(" x ")
    return Html(f"{_bar(found.mean)}<b>{mean}</b><br/><small class=soft>{escape(extremes)}</small>")


def _answers(rows: Sequence[Row], counts: Sequence[int]) -> str:
    """A line for each group; on the fewest threads, then on more, and without AVX-512."""
    columns = [*((threads, "") for threads in counts), (counts[0], "avx2")]
    titles = ["what I do"]
    cells: dict[Group, list[str]] = {group: [] for group in by_group(rows)}
    for threads, isa in columns:
        found = {each.group: each for each in answers(rows, threads, isa)}
        if not found:
            continue
        first = len(titles) == 1
        where = "AVX2 alone" if isa else report.threads_name(threads)
        titles += [f"as NumPy, {where}"] * first + [f"as the fastest other, {where}"]
        for group, line in cells.items():
            each = found.get(group)
            line += [_ratios(each.numpy) if each else ""] * first
            line.append(_ratios(each.peer) if each else "")
    links = {group: f'<a href="#{group.name}">{escape(group.title)}</a>' for group in cells}
    lines = [(Html(links[group]), *line) for group, line in cells.items()]
    return _wide(table(lines, titles, inline=False))


def _group(group: Group, rows: Sequence[Row]) -> str:
    """Ours in each cell, and everybody below."""
    titles, lines = group_table(group, rows)
    cells = ([_code(line[0]), *line[1:]] for line in lines)
    everybody = [
        (
            row.job,
            report.size_name(row.size),
            row.threads,
            row.system,
            report.time_name(row.seconds),
            times(row.vs_fastest_peer),
            f"wrong: {row.wrong}" if row.wrong else row.differ or "",
        )
        for row in rows
    ]
    heads = ("work", "elements", "threads", "system", "time", "beside fastest", "codes differ")
    return (
        f'<h2 id="{group.name}">{escape(group.title)}</h2>'
        f"<p class=soft>{escape(group.text)}</p>"
        f"{_wide(table(cells, titles, inline=False))}"
        f"<details><summary>Every system, {len(rows)} rows</summary>"
        f"{_wide(table(everybody, heads, left=(3,), inline=False))}</details>"
    )


def _code(text: str) -> Html:
    """A line's first words, whose name of a job is between backticks."""
    _, name, rest = text.split("`", 2)
    return Html(f"<code>{escape(name)}</code>{escape(rest)}")


def _skipped(head: dict[str, Any]) -> str:
    lines = [
        (each["system"], each["reason"], len(each["jobs"]))
        for each in head.get("skipped", [])
        if each["jobs"]
    ]
    if not lines:
        return ""
    body = _wide(table(lines, ("system", "why", "jobs"), left=(1,), inline=False))
    summary = f"<summary>{len(lines)} reasons</summary>"
    return f"<h2>What was left out</h2><details>{summary}{body}</details>"


def _reading(head: dict[str, Any]) -> str:
    notes = "".join(
        f"<li>{escape(f'{name}: {note}.')}</li>" for name, note in head["notes"].items()
    )
    return (
        "<h2>How to read it</h2>"
        f"<pre style=white-space:pre-wrap>{escape(report.LEGEND)}</pre><ul>{notes}</ul>"
    )


def of_comparison(found: compare.Comparison) -> str:
    """The page of `python -m bench compare --html`."""
    heads = "".join(
        f"<dt>{name}</dt><dd>{escape(compare.which(head))}</dd>"
        for name, head in zip("AB", found.heads, strict=True)
    )
    titles, lines = compare.summary(found)
    parts = [
        page("zeropoint: two runs", CSS),
        f"<h1>Is B faster than A?</h1><dl>{heads}</dl>",
        _list(found.doubts),
        paragraph(compare.allowance(found)),
        _wide(table(lines, titles, inline=False)),
    ]
    kinds = {compare.FASTER: "up", compare.SLOWER: "down", compare.NOISE: "soft"}
    for group, changes in compare.grouped(found.changes).items():
        body = [
            [
                Html(f"<span class={kinds[change.verdict]}>{change.verdict}</span>"),
                *compare.cells(change)[1:],
            ]
            for change in sorted(changes, key=lambda change: change.ratio)
        ]
        shown = _wide(table(body, compare.TITLES, left=(1, 4), inline=False))
        parts.append(f'<h2 id="{group.name}">{escape(group.title)}</h2>{shown}')
    return "".join(parts)
