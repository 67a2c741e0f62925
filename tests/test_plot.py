"""The pictures of `zeropoint.plot` show the figures of the functions they are made of."""

from __future__ import annotations

import doctest
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle, StepPatch

import bench.picture
import zeropoint as zp
import zeropoint.plot
from zeropoint import _html

ROOT = Path(__file__).resolve().parents[1]
X = np.random.default_rng(0).normal(size=(6, 500)).astype(np.float32)
X *= np.float32([[1], [2], [3], [4], [5], [0.1]])


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(params=["default", "dark_background"])
def rendered(request: pytest.FixtureRequest) -> Iterator[str]:
    """A light and a dark style; what the test draws in it is rendered, and warns of nothing."""
    with pyplot.style.context(request.param):
        yield request.param
        for number in pyplot.get_fignums():
            pyplot.figure(number).canvas.draw()


def steps(ax: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Heights and edges of what is drawn in steps."""
    found = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
    return [(data.values, data.edges) for data in (patch.get_data() for patch in found)]


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_docstring() -> None:
    assert doctest.testmod(zeropoint.plot) == (0, 3)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("convention", [*zp.CONVENTIONS, *zp.OFFSET_CONVENTIONS])
def test_histogram_of_all_in_range(convention: str, dtype: str) -> None:
    params = zp.choose_params(X, dtype, convention=convention)
    codes = zp.quantize(X, params).astype(np.int64) - params.qmin
    counts = np.bincount(codes.ravel(), minlength=params.qmax - params.qmin + 1)
    ax = zeropoint.plot.histogram(X, params)
    ((heights, edges), *clipped) = steps(ax)
    clipped = sum(int(part.sum()) for part, _ in clipped)
    assert clipped == zp.error_stats(X, params).saturated
    if not clipped:
        assert heights.tolist() == counts.tolist()
    assert edges[0] == params.qmin - 0.5
    assert edges[-1] == params.qmax + 0.5
    used = zp.error_stats(X, params).codes_used
    assert ax.get_title() == f"3000 elements, {used} of {counts.size} codes in use"
    (top,) = ax.child_axes  # the values of the codes
    forward = top._functions[0]
    values = params.dequantize(np.array([params.qmin, params.qmax], dtype))
    np.testing.assert_allclose(forward(np.array([params.qmin, params.qmax])), values, rtol=1e-6)


def test_histogram_of_the_clipped(rendered: str) -> None:
    x = np.float32([-300, -3.6, -1, 0, 0, 126.4, 130, 160, 1e9, np.inf, np.nan])
    params = zp.QuantParams(1, 0, "int8", qmin=-3, qmax=127)
    _, own = pyplot.subplots()
    ax = zeropoint.plot.histogram(x, params, ax=own)
    assert ax is own
    (inside, _), (below, low_edges), (above, high_edges) = steps(ax)
    assert np.flatnonzero(inside).tolist() == [2, 3, 129]
    assert inside[[2, 3, 129]].tolist() == [1, 2, 1]
    assert (low_edges[0], low_edges[1], low_edges[-1]) == (
        -22.625,
        -19.5,
        -3.5,
    )  # an eighth of 131 codes
    assert np.flatnonzero(below).tolist() == [0, 16]
    assert (high_edges[0], high_edges[-2], high_edges[-1]) == (127.5, 143.5, 146.625)
    assert above.tolist() == [0, 0, 1, *[0] * 13, 3]
    assert words(ax) == ["2 clipped to -3\n(20 %)", "4 clipped to 127\n(40 %)"]
    assert ax.get_title() == "10 elements, 5 of 131 codes in use, 1 NaN left out"
    low, high = ax.get_xlim()
    assert (low, high) == (-22.625, 146.625)


def test_histogram_per_channel_and_per_block() -> None:
    for keywords in ({"axis": 0}, {"axis": -1, "block_size": 32}):
        params = zp.choose_params(X, **keywords)
        ax = zeropoint.plot.histogram(X, params)
        counts = np.bincount(zp.quantize(X, params).ravel(), minlength=256)
        assert steps(ax)[0][0].tolist() == counts.tolist()
        assert ax.child_axes == []
        assert ax.get_xlabel() == "code (uint8), of each channel"


def test_the_caller_may_go_on() -> None:
    ax = zeropoint.plot.histogram(X, zp.QuantParams(0.01, 128))
    ax.set_yscale("log")
    ax.set_title("mine")
    assert zeropoint.plot.histogram(np.float32([]), zp.QuantParams(1, 0)).get_title() == (
        "0 elements, 0 of 256 codes in use"
    )
    huge = zp.QuantParams(np.float32(3e38), 0)  # whose values are Inf
    assert zeropoint.plot.histogram(np.float32([1]), huge).child_axes == []


def test_large_data_go_chunk_by_chunk() -> None:
    x = np.random.default_rng(1).normal(size=(3, (1 << 20) - 1)).astype(np.float32)
    params = zp.choose_params(x, axis=0)
    counts = np.bincount(zp.quantize(x, params).ravel(), minlength=256)
    assert steps(zeropoint.plot.histogram(x, params))[0][0].tolist() == counts.tolist()


@pytest.mark.parametrize(
    "keywords",
    [{}, {"axis": 0}, {"axis": 1}, {"axis": 0, "block_size": 4}, {"axis": 1, "block_size": 32}],
    ids=str,
)
@pytest.mark.parametrize("convention", ["onnx", "cf"])
def test_error_by_channel(keywords: dict[str, int], convention: str) -> None:
    params = zp.choose_params(X, convention=convention, **keywords)
    for axis in (0, 1):
        x = X[:, :64] if axis else X
        params = zp.choose_params(x, convention=convention, **keywords)
        ax = zeropoint.plot.error_by_channel(x, params, axis=axis)
        ((heights, _),) = steps(ax)
        back = params.fake_quantize(x).astype(np.float64)
        signal = (x.astype(np.float64) ** 2).sum(1 - axis)
        noise = ((back - x) ** 2).sum(1 - axis)
        np.testing.assert_allclose(heights, 10 * np.log10(signal / noise), rtol=1e-3)
        worst = int(np.argmin(heights))
        legend = [text.get_text() for text in ax.get_legend().get_texts()]
        together = zp.error_stats(x, params).sqnr_db
        assert legend == [
            f"channel {worst}, the worst: {heights[worst]:.1f} dB",
            f"all together: {together:.1f} dB",
        ]


def test_channels_without_error_and_without_signal(rendered: str) -> None:
    x = np.float32([[0, 0], [1, 2], [0.3, 0.7]])
    params = zp.QuantParams([0.5, 1, 0.25], 0, axis=0)
    ax = zeropoint.plot.error_by_channel(x, params)
    assert [text.get_text() for text in ax.get_legend().get_texts()][2:] == ["2 without error"]
    lost = zp.OffsetParams(np.float32([0.5, 1, 0.25]), np.float32([0.1, 0, 0]), axis=0)
    ax = zeropoint.plot.error_by_channel(x, lost)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend[0] == "channel 0, the worst: -inf dB"
    assert legend[2:] == ["1 without error", "1 lost altogether"]
    exact = zeropoint.plot.error_by_channel(x[1:2], zp.QuantParams(1, 0), axis=0)
    assert len(exact.get_legend().get_texts()) == 2
    x[0, 0] = np.nan
    zeropoint.plot.error_by_channel(x, params, skip_nan=True)
    with pytest.raises(ValueError, match="skip_nan=True"):
        zeropoint.plot.error_by_channel(x, params)


def bars(ax: Axes) -> list[float]:
    return [bar.get_width() for bar in ax.patches if isinstance(bar, Rectangle)]


def test_compare() -> None:
    comparison = zp.compare(X)
    ax = zeropoint.plot.compare(comparison)
    rows = [row for row in comparison.rows if row.stats]
    assert bars(ax) == [row.stats.sqnr_db for row in rows]
    assert [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()] == [
        comparison._title(row) for row in rows
    ]
    blue = matplotlib.colors.to_rgba(_html.BAR)
    best = [row for row, bar in zip(rows, ax.patches, strict=True) if bar.get_facecolor() == blue]
    assert best == [comparison.best]
    assert words(ax) == [f"{row.stats.sqnr_db:.1f} dB" for row in rows]
    assert ax.get_xlabel().endswith("in blue the best with one scale")
    again = zeropoint.plot.compare(X, axis=0, ax=pyplot.subplots()[1])
    assert bars(again) == [row.stats.sqnr_db for row in zp.compare(X, axis=0).rows if row.stats]
    assert again.get_xlabel().endswith("in blue the best with so many scales")


def test_compare_of_data_that_are_exact_or_ruined(rendered: str) -> None:
    exact = zeropoint.plot.compare(np.arange(256, dtype=np.float32))
    assert "inf dB" in words(exact)
    assert np.isfinite(bars(exact)).all()
    x = X.copy()
    x[0, 0] = 1e5
    few = zeropoint.plot.compare(x)
    assert any(text.endswith("dB, few codes") for text in words(few))
    with pytest.raises(TypeError, match=r"^axis goes with data; pass it to zeropoint.compare$"):
        zeropoint.plot.compare(zp.compare(X), axis=0)


def test_bad_input() -> None:
    params = zp.choose_params(X)
    with pytest.raises(TypeError, match="params must be a QuantParams"):
        zeropoint.plot.histogram(X, 0.5)
    with pytest.raises(TypeError, match="x has dtype int64"):
        zeropoint.plot.histogram(np.arange(3), params)
    with pytest.raises(ValueError, match="scale has shape"):
        zeropoint.plot.histogram(X, zp.QuantParams([1, 2], 0, axis=0))
    with pytest.raises(ValueError, match=r"^axis is None, and so is .*; pass for example axis=0$"):
        zeropoint.plot.error_by_channel(X, params)
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        zeropoint.plot.error_by_channel(X, params, axis=2)
    with pytest.raises(TypeError, match="params must be a QuantParams"):
        zeropoint.plot.error_by_channel(X, None)
    assert pyplot.get_fignums() == []  # nothing half drawn
    _, several = pyplot.subplots(1, 2)
    with pytest.raises(TypeError, match=r"^ax must be an Axes of matplotlib, not ndarray; pass "):
        zeropoint.plot.compare(X, ax=several)


@pytest.mark.slow("compares 8 million elements")
def test_the_picture_of_readme_shows_the_figures(tmp_path: Path) -> None:
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("needs wordllama")
    assert bench.picture.main(["-o", str(tmp_path / "compare.svg")]) == 0
    drawn, committed = (
        re.findall(r">(.+?)</text>", path.read_text())
        for path in (tmp_path / "compare.svg", ROOT / "docs/compare.svg")
    )
    assert committed == drawn, "python -m bench.picture -o docs/compare.svg"
    assert "](docs/compare.svg)" in (ROOT / "README.md").read_text()
