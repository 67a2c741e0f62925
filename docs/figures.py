"""Draw the figures of conventions.md and of the tutorial: python docs/figures.py

Each is an SVG beside this file, computed by zeropoint and NumPy.  The same code gives the same
file, so `tests/test_figures.py` compares them.  Text is text, on a light card that can be read on
a dark page too; 480 units are wide enough for words, and narrow enough for a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

import numpy as np

import zeropoint as zp

INK, PALE, BLUE, RED = "#1f2328", "#8c959f", "#0b62a8", "#b3261e"
WIDTH = 480


class Drawing:
    """Lines, dots and words, in the order in which they are drawn."""

    def __init__(self, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13" '
            f'fill="{INK}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" '
            'fill="#fbfbf8" stroke="#d0d7de"/>',
        ]

    def text(self, x: float, y: float, words: str, at: str = "middle", **style: object) -> None:
        self._add("text", words, x=x, y=y, text_anchor=at, **style)

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = INK) -> None:
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=color)

    def arrow(self, x1: float, y1: float, x2: float, y2: float, color: str = INK) -> None:
        self.line(x1, y1, x2, y2, color)
        along = np.array([x2 - x1, y2 - y1]) / np.hypot(x2 - x1, y2 - y1)
        across = along[::-1] * (1, -1)
        back = np.array([x2, y2]) - 7 * along
        points = [(x2, y2), back + 3 * across, back - 3 * across]
        self._add("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), fill=color)

    def dot(self, x: float, y: float, color: str = INK, radius: float = 3.5) -> None:
        self._add("circle", cx=x, cy=y, r=radius, fill=color)

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        self._add("rect", x=x, y=y, width=width, height=height, fill=color)

    def curve(self, points: Iterable[tuple[float, float]], color: str) -> None:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add("polyline", points=joined, stroke=color, fill="none", stroke_width=2)

    def path(self, commands: str, color: str) -> None:
        self._add("path", d=commands, fill=color)

    def _add(self, element: str, words: str = "", **attributes: object) -> None:
        written = " ".join(
            f'{name.replace("_", "-")}="{value if isinstance(value, str) else f"{value:g}"}"'
            for name, value in attributes.items()
        )
        self.parts.append(f"<{element} {written}>{escape(words, quote=False)}</{element}>")

    def __str__(self) -> str:
        return "\n".join([*self.parts, "</svg>\n"])


def number_line() -> Drawing:
    """The article's three values and 0, above their codes; some steps around 0, enlarged."""
    params = zp.QuantParams(np.float32(2.5) / 255, 76)
    drawing = Drawing(270, "A line of real numbers above a line of codes")

    def at(value: float) -> float:
        return 40 + (value + 0.75) / 2.5 * 400

    drawing.text(12, 24, "real numbers", "start", fill=PALE)
    drawing.line(30, 60, 450, 60)
    drawing.text(12, 134, "codes", "start", fill=PALE)
    drawing.line(30, 100, 450, 100)
    values = np.float32([-0.75, -0.45, 0, 1.75])
    for value, code in zip(values, params.quantize(values), strict=True):
        color = BLUE if value == 0 else INK
        end = at(params.dequantize(np.array([code]))[0])
        drawing.dot(at(value), 60, color)
        drawing.text(at(value), 48, f"{value:g}", fill=color)
        drawing.arrow(at(value), 66, end, 94, color)
        drawing.text(end, 118, f"{code}", fill=color)
    drawing.text(at(0), 136, "the zero point", fill=BLUE)
    drawing.line(at(0) - 6, 142, 40, 168, PALE)
    drawing.line(at(0) + 6, 142, 440, 168, PALE)
    drawing.text(
        12, 186, "a few steps of it: what lies nearest to a code becomes that code", "start"
    )
    for code in range(73, 80):
        x = 60 + (code - 73) * 60
        drawing.box(x - 29, 200, 58, 20, "#e3ecf5" if code % 2 else "#f0eee6")
        drawing.text(x, 215, f"{code}", fill=BLUE if code == 76 else INK)
        drawing.dot(x, 224, BLUE if code == 76 else INK, 2)
        drawing.text(x, 240, f"{(code - 76) * float(params.scale):.4g}", font_size=11)
    drawing.arrow(300, 252, 240, 252, PALE)
    drawing.arrow(240, 252, 300, 252, PALE)
    drawing.text(308, 256, "one step: the scale", "start", fill=PALE)
    return drawing


def halves() -> Drawing:
    """Where halves go, by each way to make integers."""
    ways: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = [
        ("to even: rint", BLUE, np.rint),
        ("away from zero: C's round", BLUE, lambda y: zp.round(y, ties="away")),
        ("up: floor(y + 0.5)", RED, lambda y: np.floor(y + 0.5)),
        ("cut off: a cast alone", RED, np.trunc),
    ]
    drawing = Drawing(60 * len(ways) + 40, "Where halves go")
    halves = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    for row, (name, color, rounded) in enumerate(ways):
        y = 60 * row + 30
        drawing.text(12, y, name, "start", fill=color)
        for value, code in zip(halves, rounded(halves), strict=True):
            drawing.dot(240 + 70 * value, y + 12, color, 2.5)
            drawing.arrow(240 + 70 * value, y + 12, 240 + 70 * float(code), y + 34, color)
        drawing.line(20, y + 36, 460, y + 36, PALE)
    for code in range(-3, 4):
        drawing.text(240 + 70 * code, 60 * len(ways) + 24, f"{code}")
    return drawing


def order() -> Drawing:
    """Halves to even, before and after an odd zero point was added."""
    drawing = Drawing(190, "The zero point added before and after rounding")
    quotients = np.float32([0.5, 1.5, 2.5, 3.5])
    for row, (name, convention) in enumerate(
        [
            ("rint(x / s + 3), as NumPy is written", "numpy"),
            ("rint(x / s) + 3, as ONNX has it", "onnx"),
        ]
    ):
        y = 76 * row + 26
        drawing.text(12, y, name, "start", fill=BLUE)
        codes = zp.QuantParams(1.0, 3, convention=convention).quantize(quotients)
        for value, code in zip(quotients, codes, strict=True):
            start, end = 60 + 90 * float(value), 60 + 90 * (int(code) - 3)
            drawing.dot(start, y + 22, INK, 2.5)
            drawing.text(start + 8, y + 20, f"{value:g}", "start", font_size=11, fill=PALE)
            drawing.arrow(start, y + 22, end, y + 46, BLUE)
        drawing.line(40, y + 48, 440, y + 48, PALE)
    for code in range(3, 8):
        drawing.text(60 + 90 * (code - 3), 172, f"{code}")
    drawing.text(12, 172, "code", "start", fill=PALE)
    return drawing


def reciprocal() -> Drawing:
    """A value whose quotient is a half, and whose product with 1 / s is the float32 below it."""
    scale, value = np.float32(0.02), np.float32(0.59)
    results = {"x / s": value / scale, "x * (1 / s)": value * (np.float32(1) / scale)}
    half = results["x / s"]
    assert half == 29.5
    drawing = Drawing(150, "Division beside multiplication by the reciprocal")
    drawing.text(
        12, 24, f"x = {value!s}, s = {scale!s}: the float32 numbers around {half!s}", "start"
    )
    drawing.line(20, 80, 460, 80, PALE)
    for tick in range(-3, 4):
        drawing.line(240 + 64 * tick, 74, 240 + 64 * tick, 86, PALE)
    for name, result in results.items():
        x = 240 + 64 * float((result - half) / np.spacing(half))
        drawing.dot(x, 80, BLUE)
        drawing.text(x, 60, name, fill=BLUE)
        drawing.text(x, 108, str(result), fill=PALE)
        drawing.text(x, 132, f"code {np.rint(result):g}", fill=BLUE)
    return drawing


def wrap() -> Drawing:
    """Codes of values within the range and beyond it."""
    drawing = Drawing(230, "Saturation beside wrap-around")
    params = zp.choose_params(np.float32([-0.75, 1.75]))
    x = np.linspace(-1.4, 2.6, 401).astype(np.float32)
    exact = np.rint(x / params.scale + params.zero_point)
    wrapped = exact.astype(np.int64).astype(np.uint8)

    def place(value: float, code: float) -> tuple[float, float]:
        return 60 + (float(value) + 1.4) * 100, 180 - float(code) * 0.6

    left, right = place(-0.75, 0)[0], place(1.75, 0)[0]
    drawing.box(left, 20, right - left, 166, "#eef3f8")
    drawing.text(right - 8, 172, "the range of the parameters", "end", fill=PALE)
    for code in (0, 255):
        drawing.text(52, place(0, code)[1] + 4, f"{code}", "end")
        drawing.line(56, place(0, code)[1], 460, place(0, code)[1], "#d0d7de")
    pieces = np.split(
        np.arange(x.size), np.flatnonzero(np.abs(np.diff(wrapped.astype(int))) > 99) + 1
    )
    for piece in pieces:
        if abs(int(wrapped[piece[0]]) - exact[piece[0]]) > 0:
            drawing.curve([place(x[i], wrapped[i]) for i in piece], RED)
    drawing.curve([place(*pair) for pair in zip(x, params.quantize(x), strict=True)], BLUE)
    for value in (-1, 0, 1, 2):
        drawing.text(place(value, 0)[0], 200, f"{value}")
    drawing.text(60, 220, "blue: zp.quantize", "start", fill=BLUE)
    drawing.text(200, 220, "red: a cast without a clip", "start", fill=RED)
    return drawing


def offset() -> Drawing:
    """Temperatures: the codes of a range that holds 0, and of the range itself."""
    drawing = Drawing(190, "A real offset beside an integer zero point")
    low, high = np.float32(250), np.float32(310)
    x = np.float32([low, high])

    def at(value: float) -> float:
        return 40 + value / 310 * 400

    for row, (name, params) in enumerate(
        [
            ("integer zero point: the range must hold 0", zp.choose_params(x)),
            ("real offset: the range as it is", zp.choose_params(x, convention="cf")),
        ]
    ):
        y = 76 * row + 26
        drawing.text(12, y, f"{name}; steps of {float(params.scale):.2g} K", "start", fill=BLUE)
        drawing.line(40, y + 28, 440, y + 28, PALE)
        codes = np.arange(0, 256, 5, np.uint8)
        for value in params.dequantize(codes):
            drawing.line(at(float(value)), y + 18, at(float(value)), y + 28, BLUE)
        drawing.box(at(250), y + 30, at(310) - at(250), 5, RED)
    drawing.text(12, 160, "a line for every fifth code", "start", fill=PALE)
    drawing.text(at(280), 160, "the data", fill=RED)
    for value in (0, 100, 200, 310):
        drawing.text(at(value), 178, f"{value} K")
    return drawing


def spirals() -> Drawing:
    """The tutorial's model, in float and with all of its tensors quantized."""
    rng = np.random.default_rng(0)

    def readings(n: int) -> tuple[np.ndarray, np.ndarray]:
        kind = np.arange(n) % 3
        radius = rng.uniform(0.1, 1, n)
        angle = 5 * radius + kind * 2 * np.pi / 3 + rng.normal(0, 0.2, n)
        return np.float32([radius * np.cos(angle), radius * np.sin(angle)]).T, kind

    x, kind = readings(3000)
    w1 = rng.normal(0, 3, (2, 512)).astype(np.float32)
    b1 = rng.uniform(-3, 3, 512).astype(np.float32)
    hidden = np.maximum(x @ w1 + b1, 0).astype(np.float64)
    w2 = np.linalg.solve(hidden.T @ hidden + np.eye(512), hidden.T @ np.eye(3)[kind])

    Step = Callable[[str, np.ndarray], np.ndarray]

    def scores(x: np.ndarray, step: Step, weights: Step) -> np.ndarray:
        product = step("product", step("x", x) @ weights("w1", w1))
        hidden = step("hidden", np.maximum(product + weights("b1", b1), 0))
        return step("score", hidden @ weights("w2", w2))

    def exactly(name: str, values: np.ndarray) -> np.ndarray:
        return values.astype(np.float64)

    def in_int8(name: str, values: np.ndarray) -> np.ndarray:
        params = zp.choose_params(values, "int8", symmetric=True, convention="onnx")
        return params.fake_quantize(values)

    def calibrated(x: np.ndarray, method: str) -> Step:
        observers: dict[str, zp.HistogramObserver] = {}

        def observe(name: str, values: np.ndarray) -> np.ndarray:
            observers[name] = zp.HistogramObserver().update(np.ascontiguousarray(values))
            return values.astype(np.float64)

        scores(x, observe, exactly)
        params = {
            name: found.params("int8", method=method, convention="onnx")
            for name, found in observers.items()
        }
        return lambda name, values: params[name].fake_quantize(values)

    knocked = x[:1000].copy()
    knocked[7] = 10, -10
    panels = {
        "float32": (exactly, exactly),
        "int8": (calibrated(x[:1000], "minmax"), in_int8),
        "int8, knocked, minmax": (calibrated(knocked, "minmax"), in_int8),
        "int8, knocked, entropy": (calibrated(knocked, "entropy"), in_int8),
    }
    side = 54
    line = (np.arange(side) + 0.5) / side * 2.2 - 1.1
    grid = np.float32([(a, -b) for b in line for a in line])
    drawing = Drawing(500, "Which kind the model answers for each pair of readings")
    for i, (name, (step, weights)) in enumerate(panels.items()):
        left, top = 21 + 222 * (i % 2), 30 + 238 * (i // 2)
        drawing.text(left + 108, top - 8, name)
        answers = scores(grid, step, weights).argmax(axis=1).reshape(side, side)
        for answer, color in enumerate(("#9ec5e8", "#f0d9a0", "#c9b8dc")):
            runs = []
            for row, cells in enumerate(answers == answer):
                edges = np.flatnonzero(np.diff(np.r_[0, cells.astype(int), 0]))
                for start, end in edges.reshape(-1, 2):
                    first = left + 4 * start
                    runs.append(f"M{first} {top + 4 * row}h{4 * (end - start)}v4H{first}z")
            drawing.path("".join(runs), color)
        for (a, b), its in zip(x[:150], kind, strict=False):
            place = left + (float(a) + 1.1) / 2.2 * 216, top + (1.1 - float(b)) / 2.2 * 216
            drawing.dot(
                round(place[0], 1), round(place[1], 1), ("#0b4f86", "#8a5a00", "#5b2f86")[its], 1.6
            )
    return drawing


FIGURES = {
    "number-line": number_line,
    "halves": halves,
    "order": order,
    "reciprocal": reciprocal,
    "wrap": wrap,
    "offset": offset,
    "spirals": spirals,
}


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (Path(__file__).parent / f"{name}.svg").write_text(str(draw()))
