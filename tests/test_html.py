"""HTML of notebooks and of the report: escaped, well formed, and pictures that show the counts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _html

VOID = {"meta"}
MAY_STAY_OPEN = {"html", "th", "td", "tr", "tbody"}


class Parsed(HTMLParser):
    """The texts of the cells, row by row, and attributes; asserts that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not set(self.open) - MAY_STAY_OPEN, self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] != tag:
            assert self.open.pop() in MAY_STAY_OPEN
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def drawn(svg: str) -> list[int]:
    """The heights of the columns of a picture, read off its path."""
    heights, y = [], 0
    ((first, *path),) = re.findall(r'<path d="(M0 31v-1)((?:[hv]-?\d+)*)V31z"/>', svg)
    assert first == "M0 31v-1"
    for letter, number in re.findall(r"([hv])(-?\d+)", path[0]):
        if letter == "v":
            y -= int(number)
        else:
            heights += [y] * int(number)
    return heights


def test_escape() -> None:
    assert _html.escape('<a href="b">\'&') == "&lt;a href=&quot;b&quot;&gt;&#x27;&amp;"
    assert _html.escape(2.5) == "2.5"
    assert _html.escape(_html.escape("<")) == "&lt;"  # once
    assert _html.escape(_html.Html("<b>")) == "<b>"


@pytest.mark.parametrize("inline", [True, False])
def test_table(inline: bool) -> None:
    rows = [["<w>", 1, "a & b"], ['"v"', np.float32(2.5), _html.Html("<b>no</b>")]]
    head, caption = ["tensor <", "n", "note"], "</table>"
    text = _html.table(rows, head, caption=caption, left=[2], inline=inline)
    found = Parsed(text)
    assert found.rows == [head, ["<w>", "1", "a & b"], ['"v"', "2.5", ""]]
    assert "<b>no</b>" in text
    assert caption in found.texts
    assert ("style=" in text) == inline
    notes = [attributes for tag, attributes in found.found if tag == "td"][1::2]
    assert notes == [{"style": "text-align:left"} if inline else {"class": "t"}] * 2
    assert [a["scope"] for tag, a in found.found if tag == "th"] == ["col"] * 3 + ["row"] * 2
    assert Parsed(_html.table([["a", 1]])).rows == [["a", "1"]]


def test_page() -> None:
    text = _html.page("a <b>", "p{margin:0}") + "<p>c</p>"
    found = Parsed(text)
    assert found.found[0] == ("html", {"lang": "en"})
    assert "<title>a &lt;b&gt;</title>" in text
    assert "}p{margin:0}</style>" in text
    assert not re.search("script|http|@import|url", text)
    assert _html.CSS.count("{") == _html.CSS.count("}")


def test_histogram() -> None:
    counts = np.arange(64)
    assert drawn(_html.histogram_svg(counts, "x")) == np.ceil(counts * 30 / 63).tolist()
    # one element of many is seen all the same, and what is not there is not
    assert drawn(_html.histogram_svg([0, 10**9, 0, 1, 0], "x")) == [0, 30, 0, 1, 0]
    assert drawn(_html.histogram_svg([7], "x")) == [30]
    assert drawn(_html.histogram_svg([0, 0], "x")) == [0, 0]
    assert drawn(_html.histogram_svg([], "x")) == []
    assert drawn(_html.histogram_svg(np.ones(256), "x", bars=24)) == [30] * 24


@pytest.mark.parametrize("n", [65, 127, 128, 255, 256])
def test_neighbours_share_a_bar_and_an_even_histogram_stays_even(n: int) -> None:
    heights = drawn(_html.histogram_svg(np.full(n, 3), "x"))
    assert set(heights) == {30}
    assert len(heights) == 64


def test_the_clipped_stand_out() -> None:
    counts = np.full(256, 100)
    counts[[0, 255]] = 300, 100  # 150 and 100 of a code in the first and last bar
    text = _html.histogram_svg(counts, "x", clipped=(200, 0))
    # 200 of 4 codes are 50 of each, of which the highest bar has 150
    assert re.findall(r'<path fill="(.+?)" d="(.+?)"/>', text) == [
        (_html.CLIPPED, "M0 30v-10h1V30z")
    ]
    text = _html.histogram_svg(counts, "x", clipped=(300, 100))
    assert 'd="M0 30v-15h1V30zM63 30v-5h1V30z"' in text
    assert _html.CLIPPED not in _html.histogram_svg(counts, "x")


def test_strip() -> None:
    assert drawn(_html.strip_svg([0, 1, 2, 3], "x")) == [0, 10, 20, 30]
    assert drawn(_html.strip_svg([1, np.nan, np.inf], "x")) == [30, 0, 30]
    assert drawn(_html.strip_svg([np.inf, 0], "x")) == [30, 0]
    assert drawn(_html.strip_svg([], "x")) == []
    errors = np.zeros(700)
    errors[690] = 1e-30  # the worst of its neighbours
    assert drawn(_html.strip_svg(errors, "x")) == [0] * 63 + [30]


def test_a_picture_is_small_and_has_a_text() -> None:
    counts = np.random.default_rng(0).integers(0, 1000, 256)
    for text in (
        _html.histogram_svg(counts, 'w "0" <', clipped=(1, 1)),
        _html.strip_svg(counts, 'w "0" <'),
    ):
        assert len(text) < 800
        (svg,) = (attributes for tag, attributes in Parsed(text).found if tag == "svg")
        assert (svg["role"], svg["aria-label"]) == ("img", 'w "0" <')


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    """Of two colours, as WCAG 2.2 defines it."""
    dark, light = sorted(map(luminance, (a, b)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast() -> None:
    light, dark = (dict(re.findall(r"--(\w+):(#\w+)", css)) for css in _html.CSS.split("@media"))
    for colours in (light, dark):
        for back in (colours["back"], colours["panel"]):
            for name in ("text", "soft", "link", "warn"):
                assert contrast(colours[name], back) >= 4.5, name  # AA, of text
            for bar in (_html.BAR, _html.CLIPPED):
                assert contrast(bar, back) >= 3, bar  # AA, of pictures


# ---------------------------------------------------------------------------------------------
# What objects show in notebooks

X = np.random.default_rng(0).normal(size=(64, 40)).astype(np.float32)
FAR = X.copy()
FAR[0, 0] = 1e4


def shown(thing: object) -> dict[str, str]:
    """The rows of two cells that it shows."""
    return {row[0]: row[1] for row in Parsed(thing._repr_html_()).rows}


def test_parameters() -> None:
    params = zp.QuantParams(0.5, 3, "int8", qmin=-127)
    numbers = {"scale": "0.5", "zero_point": "3", "values": "-65.0..62.0"}
    codes = {"dtype": "int8", "qmin": "-127", "qmax": "127"}
    recipe = {"convention": "numpy", "include_zero": "True"}
    assert shown(params) == numbers | codes | recipe

    params = zp.QuantParams([0.5, 2], [0, 100], axis=1, convention="onnx", nan_code=255)
    numbers = {"scale": "<0.5..2.0: [0.5, 2.0]>", "zero_point": "<0..100: [0, 100]>"}
    codes = {"values": "-200.0..308.0", "dtype": "uint8", "qmin": "0", "qmax": "254"}
    recipe = {"axis": "1", "convention": "onnx", "include_zero": "True", "nan_code": "255"}
    assert shown(params) == numbers | codes | recipe

    found = shown(zp.OffsetParams(np.float64(0.25), 10.0))
    assert found["scale (float64)"] == "0.25"
    assert found["values"] == "10.0..73.75"
    found = shown(zp.choose_params(X, axis=1, convention="faiss"))
    assert found["span"].endswith("40 channels>")
    none = zp.QuantParams(np.empty(0, np.float32), np.empty(0, np.int32), axis=0)
    assert "values" not in shown(none)


def test_error_stats() -> None:
    stats = zp.error_stats(X, zp.choose_params(X))
    found = shown(stats)
    assert found["SQNR dB"] == f"{stats.sqnr_db:.2f}"
    assert found["codes"] == str(stats.codes_used)
    assert found["codes of 90 % of the nonzero elements"] == str(stats.codes_of_most)
    assert len(found) == 8
    assert "Warning" not in stats._repr_html_()
    stats = zp.error_stats(FAR, zp.choose_params(FAR))
    assert _html.escape(stats.warning) in stats._repr_html_()


@pytest.mark.parametrize("x", [X, FAR], ids=["fine", "few codes"])
def test_comparison(x: np.ndarray) -> None:
    comparison = zp.compare(x)
    found = Parsed(comparison._repr_html_())
    head, *rows = found.rows
    assert len(rows) == len(comparison.rows)
    text = re.split(r"  +", str(comparison).split("#", 1)[1].split("\n")[0].strip())
    assert head == ["#", *text, ""]
    left = [attributes.get("style") for tag, attributes in found.found if tag == "td"]
    assert all(left[:: len(head) - 1])  # names
    assert not any(left[1 :: len(head) - 1])  # numbers
    cells = [cell for row in rows for cell in row if cell]
    assert all(cell in str(comparison) for cell in cells)
    assert "<- best" in rows[comparison.rows.index(comparison.best)][-1]
    assert comparison.advice in found.texts
    assert (f"Warning: {comparison.warning}." in found.texts) == (comparison.warning is not None)


def test_diagnosis() -> None:
    params = zp.choose_params(X, "int8", convention="onnx")
    q = zp.quantize(X, params)
    right = zp.diagnose(X, q, params)
    found = Parsed(right._repr_html_())
    assert f"equal to `onnx` in all {X.size} codes" in found.texts
    assert found.rows[0] == ["explanation", "of", "codes", "share"]
    assert found.rows[1][1:] == ["onnx", str(X.size), "100 %"]
    assert "Fix" not in right._repr_html_()

    cut = (X / params.scale + params.zero_point).astype(np.int8)
    cut[0, :3] += 1
    wrong = zp.diagnose(X, cut, params)
    found = Parsed(wrong._repr_html_())
    assert str(wrong).split("\n")[0] in found.texts
    assert found.rows[1][0] == "truncated"
    assert found.rows[1][2] == str(X.size - 3)
    assert "The first of the 3 codes that are left" in found.texts
    first = wrong.remaining[0]
    figures = [f"{first.value:.9g}", f"{first.code:g}", f"{first.expected:g}"]
    assert found.rows[-3] == ["[0, 0]", *figures]
    assert f"Fix: {wrong.best.fix}" in found.texts


def test_observers() -> None:
    known = {"axis": "None", "skip_nan": "False"}
    assert shown(zp.MinMaxObserver()) == known | {"seen": "no data yet"}
    assert shown(zp.MinMaxObserver().update(np.float32([0.1, 3]))) == (
        known | {"min": "0.1", "max": "3.0"}
    )
    x = np.array([[1, np.nan], [np.nan, np.nan]])
    known = {"axis": "0", "skip_nan": "True", "channels": "2", "channels without data": "1"}
    observer = zp.MinMaxObserver(axis=0, skip_nan=True).update(x)
    assert shown(observer) == known | {"min": "1.0", "max": "1.0"}
    nothing = shown(zp.HistogramObserver(axis=0, skip_nan=True).update(x[1:]))
    assert "min" not in nothing

    observer = zp.HistogramObserver().update(np.float32([0, 0, 0, 1, 2]))
    assert shown(observer)["elements"] == "5"
    text = observer._repr_html_()
    assert 'aria-label="Histogram of 5 elements from 0.0 to 2.0"' in text
    heights = drawn(text)
    assert [heights[0], heights[-1]] == [30, 10]  # of three and one, in as many bins
    assert "svg" not in zp.HistogramObserver()._repr_html_()
    assert "svg" not in zp.HistogramObserver(axis=0).update(X)._repr_html_()
