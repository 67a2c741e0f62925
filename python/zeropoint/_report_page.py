"""The page of `zeropoint.report`: HTML without a script."""

from __future__ import annotations

import math
import re
import statistics

from ._checks import printable
from ._html import BARS, Html, escape, histogram_svg, page, strip_svg, table
from .report import Report, TensorReport, Way

_ROOM = 1_950_000  # bytes of the table and the sections: a page of 1,000 tensors stays below 2 MB
_OPEN = 3  # sections
_MANY, _FEW_BARS = 300, 24  # of more tensors pictures have fewer bars, and few ways are shown

_CSS = (
    "body{max-width:72rem;margin:auto;padding:1rem;overflow-wrap:anywhere}"
    "h1{font-size:1.5rem;line-height:1.2}h2{font-size:1.15rem;margin:2em 0 .5em}"
    ".x{overflow-x:auto;overflow-wrap:normal}.x td,.x th{white-space:nowrap}"
    ".x th[scope=row]{white-space:normal;overflow-wrap:anywhere;min-width:11rem}"
    ".n{display:flex;flex-wrap:wrap;gap:.5rem;margin:1rem 0}"
    ".n div{flex:1 1 9rem;background:var(--panel);padding:.5rem .8rem}"
    "dt,.s,figcaption{color:var(--soft)}dd{margin:0 0 .4em}.n dd{font-size:1.3rem}"
    "details{border-top:1px solid var(--line)}summary{padding:.5rem 0;cursor:pointer}"
    ".p{display:flex;flex-wrap:wrap;gap:1rem 2rem;margin:.5rem 0}"
    "figure{margin:0;max-width:256px}figcaption,.e{font-size:.85rem}"
    ".e{display:flex;justify-content:space-between}"
    ".b{font-weight:600}.w{color:var(--warn)}details>div{padding:0 0 1rem}p{margin:.4em 0}"
)


def html(found: Report) -> str:
    """The whole page."""
    title = f"Quantization report: {printable(found.source, 100)}"
    measured = found.measured
    of_codes = [each for each in found.tensors if each.stats is None and each.codes]
    kept = [each for each in found.tensors if each.stats is None and not each.codes]
    shown = measured + of_codes
    room = _ROOM - len(_overview(found, {each.name: i for i, each in enumerate(shown)}).encode())
    sections, places = list[str](), dict[str, int]()
    for i, each in enumerate(shown):
        section = _section(i, each, found)
        if (room := room - len(section.encode())) < 0:
            break
        sections.append(section)
        places[each.name] = i
    parts = [page(title, _CSS), f"<main><h1>{_breakable(title)}</h1>", _summary(found, places)]
    if found.costly:
        parts.append("<h2>What costs most</h2><ol>")
        for each in found.costly:
            parts.append(
                f"<li>{_link(each, places)}: {escape(_percent(each.cost))} of the error, "
                f"SQNR {_number(each.sqnr_db)} dB. {escape(each.advice or '')}"
            )
        parts.append("</ol>")
    if measured:
        parts += ["<h2>All tensors, worst first</h2>", _overview(found, places)]
    if sections:
        parts += ["<h2>Tensor by tensor</h2>", *sections]
    if hidden := len(shown) - len(sections):
        parts.append(f"<p>The other {hidden:,} tensors are left out, to keep the page small.")
    if kept:
        reasons: dict[str, list[TensorReport]] = {}
        for each in kept:
            reasons.setdefault(each.note or "", []).append(each)
        parts.append("<h2>Not measured</h2><ul>")
        for why, some in reasons.items():
            parts.append(f"<li>{escape(printable(why, 300))}: {_names(some, places, 10)}")
        parts.append("</ul>")
    parts += ["<h2>What the figures mean</h2>", _WORDS]
    return "".join(parts) + "\n"


_WORDS = """<dl class=s><dt class=b>SQNR<dd>10 log10(sum x&sup2; / sum (x&prime; &minus; x)&sup2;),
in dB; 6 dB more are half of the error. <dt class=b>Cost<dd>of a tensor: its part of all error in
the file, if its error counts against its own values, and by the number of its elements. <dt
class=b>Saturated<dd>elements whose code was clipped. <dt class=b>Error by channel<dd>the root mean
square error of each channel, as a part of that of its values. <dt class=b>Ways<dd>those of
<code>zeropoint.compare</code>, measured on all elements.</dl>"""


def _summary(found: Report, places: dict[str, int]) -> str:
    ratios = [each.sqnr_db for each in found.quantized or found.measured]
    what, after = f"as {found.how}", found.bytes_out
    if found.against is not None:
        what = f"as {printable(found.against, 100)} has them"
        after = sum(each.against.bytes if each.against else each.bytes_in for each in found.tensors)
    figures = {
        "tensors measured": f"{len(found.measured):,} of {len(found.tensors):,}",
        "size": f"{_size(found.bytes_in)} → {_size(after)}",
    }
    if ratios:
        figures["worst SQNR"] = f"{_number(min(ratios))} dB"
        figures["median SQNR"] = f"{_number(statistics.median(ratios))} dB"
    cells = "".join(f"<div><dt>{name}<dd>{text}</div>" for name, text in figures.items())
    few = [each for each in found.measured if each.few]
    absent = [each for each in found.tensors if each.note and "NaN" in each.note]
    return "".join(
        [
            f"<p>What quantizing costs: the float tensors {escape(what)}.<dl class=n>{cells}</dl>",
            _warning("few codes are in use, so that most of the data are lost", few, places),
            _warning("not measured, because of NaN or Inf", absent, places),
        ]
    )


def _warning(what: str, tensors: list[TensorReport], places: dict[str, int]) -> str:
    if not tensors:
        return ""
    text = f"{what[0].upper()}{what[1:]}"
    return f"<p><span class=w>{text}</span>: {_names(tensors, places, 5)}."


def _names(tensors: list[TensorReport], places: dict[str, int], n: int) -> str:
    """The first `n`, as links where they have a section."""
    more = f" and {len(tensors) - n:,} more" if len(tensors) > n else ""
    return ", ".join(_link(each, places) for each in tensors[:n]) + more


def _overview(found: Report, places: dict[str, int]) -> Html:
    rows = [
        (
            _link(each, places),
            _number(each.sqnr_db),
            _percent(each.cost),
            f"{each.max_abs_error:.4g}",
            "" if each.against else f"{each.stats.saturated:,}",
            _codes_used(each),
            f"{each.bytes_in:,}",
            each.dtype,
            str(list(each.shape)),
        )
        for each in found.measured
        if each.stats is not None
    ]
    head = ["tensor", "SQNR dB", "cost", "max error", "saturated", "codes", "bytes", "dtype"]
    return _scroll(table(rows, [*head, "shape"], left=(7, 8), inline=False), "all tensors")


def _scroll(inner: Html, label: str) -> Html:
    """A table that is wider than a small screen, and scrolls by itself; by keys too."""
    return Html(f'<div class=x tabindex=0 role=group aria-label="{label}">{inner}</div>')


def _section(i: int, each: TensorReport, found: Report) -> str:
    head = f"{_name(each)} <span class=s>"
    head += f"{escape(each.dtype)} {list(each.shape)}"
    if each.stats is not None:
        head += f", {_number(each.sqnr_db)} dB"
    is_open = " open" if i < _OPEN else ""
    # the place is inside, so that a browser opens the section for a link to it
    parts = [f"<details{is_open}><summary>{head}</span></summary><div id=t{i}>"]
    if each.note is not None:
        note = printable(each.note, 300)
        parts.append(f"<p>{escape(note[0].upper() + note[1:])}.")
    if each.advice is not None and each.stats is not None:
        warn = " class=w" if each.few else ""
        parts.append(f"<p{warn}>{escape(each.advice)}")
    if each.minimum is not None:
        parts.append(f"<p class=s>Range {each.minimum:.6g} to {each.maximum:.6g}.")
    pictures, bars = [], BARS if len(found.measured) <= _MANY else _FEW_BARS
    if each.codes:
        used = sum(1 for count in each.codes if count)
        text = f"{used} of {len(each.codes)} codes in use"
        low, high = each.clipped
        text += f"; clipped: {low:,} at the first, {high:,} at the last" if low or high else ""
        svg = histogram_svg(each.codes, "elements by code", clipped=each.clipped, bars=bars)
        pictures.append(_figure(svg, each.first_code, each.first_code + len(each.codes) - 1, text))
    if len(each.channels) > 1:
        worst = max(range(len(each.channels)), key=lambda at: _order(each.channels[at]))
        text = f"Error by channel of axis {each.axis}: {_percent(each.channels[worst])} at most, "
        text += f"in channel {worst}"
        svg = strip_svg(each.channels, "error by channel", bars=bars)
        pictures.append(_figure(svg, 0, len(each.channels) - 1, text))
    parts.append(f"<div class=p>{''.join(pictures)}</div>")
    if each.ways:
        parts.append(_scroll(_ways(each, found), "ways"))
    return "".join(parts) + "</div></details>"


def _figure(svg: Html, first: int, last: int, text: str) -> str:
    """A picture with the numbers of its first and its last bar."""
    ends = f"<div class=e><span>{first}</span><span>{last}</span></div>"
    return f"<figure>{svg}{ends}<figcaption>{escape(text)}</figcaption></figure>"


def _ways(each: TensorReport, found: Report) -> Html:
    rows: list[tuple[object, ...]] = []
    if (one := each.against) is not None:
        name = f"{printable(found.against or '', 60)}: {one.stored}"
        error = _number(one.sqnr_db), f"{one.max_abs_error:.6g}"
        rows.append((_strong(name), *error, "", _codes_used(each), f"{one.bytes:,}"))
    some = each.ways if len(found.measured) <= _MANY else _best(each.ways)
    if (s := each.stats) is not None:
        figures = _number(s.sqnr_db), f"{s.max_abs_error:.6g}", f"{s.saturated:,}", s.codes_used
        twins = [way for way in some if _figures(way) == figures and way.bytes == each.bytes_out]
        some = [way for way in some if way not in twins]
        name = _marked(found.how, is_best=any(way.best for way in twins))
        rows.append((_strong(name), *figures, f"{each.bytes_out:,}"))
    rows += [
        (_marked(way.name, is_best=way.best), *_figures(way), f"{way.bytes:,}") for way in some
    ]
    head = "way", "SQNR dB", "max error", "saturated", "codes", "bytes"
    return table(rows, head, inline=False)


def _best(ways: tuple[Way, ...]) -> list[Way]:
    """The way with the least error of each kind, in their order."""
    least: dict[str, Way] = {}
    for way in ways:
        if way.kind not in least or way.mse < least[way.kind].mse:
            least[way.kind] = way
    return [*least.values()]


def _figures(way: Way) -> tuple[object, ...]:
    error = _number(way.sqnr_db), f"{way.max_abs_error:.6g}"
    return *error, f"{way.saturated:,}", way.codes_used


def _marked(name: str, *, is_best: bool) -> str:
    return f"{name} (least error)" if is_best else name


def _codes_used(each: TensorReport) -> object:
    found = each.against or each.stats
    return "" if found is None or found.codes_used is None else found.codes_used


def _strong(text: str) -> Html:
    return Html(f"<b>{escape(text)}</b>")


def _link(each: TensorReport, places: dict[str, int]) -> Html:
    name = _name(each)
    return Html(f"<a href=#t{places[each.name]}>{name}</a>") if each.name in places else name


def _name(each: TensorReport) -> Html:
    return _breakable(printable(each.name, 200))


def _breakable(text: str) -> Html:
    """With places where a line may end, as names are long."""
    return Html(re.sub(r"([._/-])(?=\w)", r"\1<wbr>", escape(text)))


def _order(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _number(decibels: float) -> str:
    return "∞" if decibels == math.inf else f"{decibels:.2f}"


def _percent(part: float) -> str:
    if not math.isfinite(part):
        return f"{part}"
    return f"{100 * part:.1f} %" if part >= 0.001 or part == 0 else "< 0.1 %"


def _size(n: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}" if unit != "bytes" else f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:,.3g} GB"
