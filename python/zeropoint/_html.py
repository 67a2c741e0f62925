"""Tables and small pictures as HTML, without a script: of notebooks and of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ._reference import Array

#: a contrast of 3 at least with white and with the dark background below, so one colour serves both
BAR, CLIPPED = "#3987c9", "#d55e00"
BARS, _TOP = 64, 30  # the most bars of a picture; the highest one, in units of the picture

#: the colours of a page, light and dark, and how tables and pictures of this module look on it
CSS = (
    ":root{color-scheme:light dark;--text:#1b1b1b;--soft:#595959;--line:#d4d4d4;--back:#fff;"
    "--panel:#f5f5f5;--link:#005ea2;--warn:#a23b00}"
    "@media(prefers-color-scheme:dark){:root{--text:#e8e8e8;--soft:#a8a8a8;--line:#44474d;"
    "--back:#16181c;--panel:#202329;--link:#8ac4ff;--warn:#ff9d5c}}"
    "body{color:var(--text);background:var(--back);font:15px/1.45 system-ui,sans-serif}"
    "a{color:var(--link)}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "caption{text-align:left;color:var(--soft)}"
    "th,td{padding:.15em .6em;text-align:right;vertical-align:top}"
    "th{font-weight:600}th[scope=row]{font-weight:400}th[scope=row],.t{text-align:left}"
    "tr{border-bottom:1px solid var(--line)}svg{display:block;max-width:100%}"
)


class Html(str):
    """Text that is HTML already: `escape` leaves it as it is."""

    __slots__ = ()


def escape(text: object) -> Html:
    """`text` as HTML, fit for an attribute in quotes too."""
    import html  # here: `import zeropoint` has no need of it

    return text if isinstance(text, Html) else Html(html.escape(str(text)))


def paragraph(text: object) -> Html:
    return Html(f"<p>{escape(text)}</p>")


def warning(text: str | None) -> str:
    """A warning, or nothing."""
    return paragraph(f"Warning: {text}.") if text else ""


def page(title: str, css: str = "") -> Html:
    """How a page begins, with `CSS` and more; its body follows, and needs no end tags."""
    return Html(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{css}</style>"
    )


def table(
    rows: Iterable[Sequence[object]],
    head: Sequence[object] = (),
    *,
    caption: object = "",
    left: Iterable[int] = (),
    inline: bool = True,
) -> Html:
    """A table; the first column names its rows.

    Parameters
    ----------
    rows, head
        The cells: whatever has a `str`, which is escaped unless it is `Html`.
    caption
        What the table shows.
    left
        Columns of text beside the first; all others are numbers.
    inline
        With styles of its own, as a notebook needs; else those of `CSS`, which are shorter.
    """
    left = frozenset(left)
    at_left = ' style="text-align:left"' if inline else " class=t"
    first = "<th scope=row" + ' style="text-align:left;font-weight:normal"' * inline + ">"

    def cells(row: Sequence[object], tag: str) -> str:
        return "".join(
            f"<{tag}{at_left * (i in left)}>{escape(cell)}" for i, cell in enumerate(row, 1)
        )

    parts = ["<table>"]
    if caption:
        style = ' style="text-align:left"' * inline
        parts.append(f"<caption{style}>{escape(caption)}</caption>")
    if head:
        corner = f"<th scope=col{at_left}>{escape(head[0])}"
        parts.append(f"<thead><tr>{corner}{cells(head[1:], 'th scope=col')}</thead>")
    parts.append("<tbody>")
    parts += [f"<tr>{first}{escape(row[0])}{cells(row[1:], 'td')}" for row in rows]
    return Html("".join(parts) + "</table>")


def histogram_svg(
    counts: Any, label: str, *, clipped: tuple[int, int] = (0, 0), bars: int = BARS
) -> Html:
    """How often each code occurs, from the first to the last.

    Parameters
    ----------
    counts
        Integers of the codes qmin to qmax.  Where they are many, neighbours share a bar.
    label
        What the picture shows, for those who do not see it.
    clipped
        How many of the first and of the last code have been clipped: these parts stand out.
    bars
        The most there may be.
    """
    counts = np.asarray(counts)
    starts = _starts(counts.size, bars)
    widths = np.diff(starts, append=counts.size)
    density = np.add.reduceat(counts.astype(np.float64), starts) / widths
    heights, peak = _heights(density)
    ends = ""
    for count, place in zip(clipped, (0, heights.size - 1), strict=True):
        if count and counts.size:
            part = np.ceil(count / widths[place] / peak * _TOP)
            ends += f"M{place} {_TOP}v-{int(min(part, heights[place]))}h1V{_TOP}z"
    return _svg(heights, label, ends)


def strip_svg(values: Any, label: str, *, bars: int = BARS) -> Html:
    """A bar for each channel, 0 or more, from 0 up to the largest.

    Where channels are many, neighbours share a bar, as high as the largest of them.  What is not
    finite is as high as the largest that is.
    """
    values = np.asarray(values, np.float64)
    highest = values[np.isfinite(values)].max(initial=0) or 1
    values = np.where(np.isnan(values), 0, np.minimum(values, highest))
    return _svg(_heights(np.maximum.reduceat(values, _starts(values.size, bars)))[0], label)


def _starts(n: int, bars: int) -> Array:
    """Where each bar begins: all have as many columns, or one more."""
    bars = min(n, bars)
    return np.arange(bars) * n // max(bars, 1)


def _heights(values: Array) -> tuple[Array, float]:
    """Those of bars, 1 at least where there is anything; and what the highest one stands for."""
    peak = float(values.max(initial=0)) or 1.0
    return np.ceil(values / peak * _TOP).astype(np.int64), peak


def _svg(heights: Array, label: str, ends: str = "") -> Html:
    """One path around all bars, which stand on a line."""
    path, before, run = f"M0 {_TOP + 1}v-1", 0, 0
    for height in heights.tolist():
        if height != before:
            path += f"h{run}" * (run > 0) + f"v{before - height}"
            before, run = height, 0
        run += 1
    path += f"h{run}V{_TOP + 1}z"
    ends = f'<path fill="{CLIPPED}" d="{ends}"/>' if ends else ""
    return Html(
        f'<svg viewBox="0 0 {heights.size} {_TOP + 1}" width="256" height="48" role="img" '
        f'preserveAspectRatio="none" fill="{BAR}" aria-label="{escape(label)}">'
        f'<path d="{path}"/>{ends}</svg>'
    )
