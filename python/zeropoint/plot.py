"""Pictures of what quantization does to data, by matplotlib.

Each function draws into `ax`, or a figure of its own, and returns the Axes, so that titles, scales
and styles stay in your hands.  The colours do on light and on dark styles.  Needs the packages of
the extra ``plot``.

>>> import numpy as np, zeropoint as zp, zeropoint.plot
>>> x = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
>>> zeropoint.plot.histogram(x, zp.choose_params(x)).get_title()
'16384 elements, 218 of 256 codes in use'
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np

from . import _checks, _compare, _html
from ._backend import ieee
from ._chunks import chunks
from ._compare import Comparison, error_stats
from ._extras import missing
from ._layout import Layout
from ._params import Params, checked
from ._profile import profile
from ._reference import Array, widen, working_dtype

try:
    from matplotlib import pyplot, ticker
    from matplotlib.axes import Axes
except ImportError as error:
    raise missing("plot", "zeropoint.plot") from error

__all__ = ["compare", "error_by_channel", "histogram"]

_OTHERS = "#8a8a8a"  # beside the colours of `_html`, for what is not best
_BEYOND = 8  # the share of the codes that is drawn of what is clipped, at each end: one of so many


@ieee
def histogram(x: Any, params: Params, *, ax: Axes | None = None) -> Axes:
    """How many elements of `x` each code has, and what is clipped at both ends.

    A bar for each code.  What is clipped stands out, where it would be if there were more codes: up
    to an eighth of the codes at each end, the last bar for all that is farther out.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64.  NaN is left out; an Inf is clipped.
    params
        The parameters.  With an axis each channel has values of its own, and only codes are shown.
    ax
        The Axes to draw into; by default those of a new figure.

    Raises
    ------
    TypeError, ValueError
        Those of `zeropoint.quantize`.
    """
    params = checked(params, call="zeropoint.plot.histogram(x, ")
    x = _checks.real_array(x)
    layout = params._check_fits(x.shape)
    params._check_precision(working_dtype(x.dtype))
    codes = params.qmax - params.qmin + 1
    more = -(-codes // _BEYOND)
    counts = _counts(x, params, layout, more)
    inside = counts[more : more + codes]
    ends = int(counts[:more].sum()), int(counts[more + codes :].sum())
    total = int(counts.sum())

    ax = _axes(ax)
    edges = np.arange(params.qmin - more, params.qmax + more + 2) - 0.5
    edges[[0, -1]] += -more / 8, more / 8  # to be seen
    colour = pyplot.rcParams["text.color"]
    ax.axvspan(params.qmin - 0.5, params.qmax + 0.5, color=colour, alpha=0.06, linewidth=0)
    ax.stairs(inside, edges[more : more + codes + 1], fill=True, color=_html.BAR)
    for count, start, code, place, side in (
        (ends[0], 0, params.qmin, 0.01, "left"),
        (ends[1], more + codes, params.qmax, 0.99, "right"),
    ):
        if count:
            part = counts[start : start + more], edges[start : start + more + 1]
            ax.stairs(*part, fill=True, color=_html.CLIPPED)
            text = f"{count} clipped to {code}\n({100 * count / total:.4g} %)"
            ax.text(place, 0.98, text, transform=ax.transAxes, ha=side, va="top", fontsize="small")
    ax.set_xlim(
        edges[0] if ends[0] else params.qmin - 2.5, edges[-1] if ends[1] else params.qmax + 2.5
    )
    ax.margins(y=0.15)  # for the words at the ends
    if params.axis is None:
        _label_values(ax, params)
    ax.set_xlabel(f"code ({params.dtype.name})" + ", of each channel" * (params.axis is not None))
    ax.set_ylabel("elements")
    absent = f", {x.size - total} NaN left out" if total < x.size else ""
    used = np.count_nonzero(inside[1:-1]) + np.count_nonzero(inside[[0, -1]] + ends)
    ax.set_title(f"{total} elements, {used} of {codes} codes in use{absent}")
    return ax


def _counts(x: Array, params: Params, layout: Layout, more: int) -> Array:
    """Elements of each code from qmin - more to qmax + more before they are clipped; those at the
    ends with all that is farther out."""
    first, last = params.qmin - more, params.qmax + more
    counts = np.zeros(last - first + 1, np.int64)
    for part in chunks(x.shape):
        tile = x[part]
        numbers = (layout.spread_over(each, part) for each in params._arrays)
        codes = params._unclipped(tile, *numbers)[~np.isnan(widen(tile))]
        places = np.clip(codes, first, last).astype(np.int64) - first
        counts += np.bincount(places, minlength=counts.size)
    return counts


def _label_values(ax: Axes, params: Params) -> None:
    """A second axis with the values that the codes stand for."""
    ends = np.array([params.qmin, params.qmax], params.dtype)
    low, high = params._decoded(ends, *params._arrays, np.dtype(np.float64)).tolist()
    step = (high - low) / (params.qmax - params.qmin)
    if math.isfinite(step) and step > 0:

        def value_of(code: Any) -> Any:
            return low + (code - params.qmin) * step

        def code_of(value: Any) -> Any:
            return params.qmin + (value - low) / step

        top = ax.secondary_xaxis("top", functions=(value_of, code_of))
        top.set_xlabel("value, in the unit of x")


@ieee
def error_by_channel(
    x: Any,
    params: Params,
    *,
    axis: int | None = None,
    skip_nan: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """The SQNR of each channel of `x`, as `zeropoint.error_stats` has it, and the worst of them.

    Parameters
    ----------
    x, params, skip_nan
        Those of `zeropoint.error_stats`; parameters per tensor, per channel or per block.
    axis
        The axis of the channels; by default that of the parameters.
    ax
        The Axes to draw into; by default those of a new figure.

    Raises
    ------
    TypeError, ValueError
        Those of `zeropoint.error_stats`; no axis.
    """
    params = checked(params, call="zeropoint.plot.error_by_channel(x, ")
    x = _checks.real_array(x)
    axis = params.axis if axis is None else _checks.axis(axis)
    if axis is None:
        raise ValueError("axis is None, and so is that of the parameters; pass for example axis=0")
    axis = _checks.normal_axis(axis, x.ndim)
    whole = error_stats(x, params, skip_nan=skip_nan).sqnr_db
    ratios = profile(x, params, axis, saturated=0).sqnr_db_by_channel
    shown = np.where(np.isfinite(ratios), ratios, 0)
    worst = int(np.argmin(ratios))

    ax = _axes(ax)
    edges = np.arange(ratios.size + 1) - 0.5
    ax.stairs(shown, edges, fill=True, color=_html.BAR)
    point: dict[str, Any] = {
        "marker": "o",
        "linestyle": "",
        "color": _html.CLIPPED,
        "clip_on": False,
    }
    ax.plot(worst, shown[worst], label=f"channel {worst}, the worst: {_db(ratios[worst])}", **point)
    if math.isfinite(whole):
        line = {"color": pyplot.rcParams["text.color"], "linestyle": "--", "linewidth": 1}
        ax.axhline(whole, label=f"all together: {_db(whole)}", **line)
    for ratio, mark, what in ((np.inf, "^", "without error"), (-np.inf, "v", "lost altogether")):
        places = np.flatnonzero(ratios == ratio)
        if places.size:
            how: dict[str, Any] = {
                "color": _OTHERS,
                "label": f"{places.size} {what}",
                "clip_on": False,
            }
            ax.plot(places, np.zeros(places.size), mark, **how)
    ax.legend(fontsize="small", loc="lower right")
    ax.set_xlim(edges[0], edges[-1])
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    ax.set_xlabel(f"channel, along axis {axis}")
    ax.set_ylabel("SQNR (dB)")
    ax.set_title(f"Error of {ratios.size} channels, {params.dtype.name}")
    return ax


def compare(x: Any, *, ax: Axes | None = None, **keywords: Any) -> Axes:
    """The SQNR of each row of `zeropoint.compare`, the best one in colour.

    Parameters
    ----------
    x
        A `zeropoint.Comparison`, or data for `zeropoint.compare`, which `keywords` are for.
    ax
        The Axes to draw into; by default those of a new figure.

    Raises
    ------
    TypeError, ValueError
        Those of `zeropoint.compare`; keywords beside a Comparison.
    """
    if isinstance(x, Comparison) and keywords:
        raise TypeError(f"{', '.join(keywords)} goes with data; pass it to zeropoint.compare")
    comparison = x if isinstance(x, Comparison) else _compare.compare(x, **keywords)
    best = comparison.best
    rows = [(row, row.stats) for row in comparison.rows if row.stats]

    ax = _axes(ax)
    for place, (row, stats) in enumerate(rows):
        length = stats.sqnr_db if math.isfinite(stats.sqnr_db) else 0
        colour = _html.BAR if row is best else _OTHERS
        ax.barh(place, length, color=colour, hatch="//" * row.few)
        text = _db(stats.sqnr_db) + ", few codes" * row.few
        ax.annotate(text, (max(length, 0), place), (4, 0), textcoords="offset points", va="center")
    names = [textwrap.fill(comparison._title(row), 36) for row, _ in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    ax.margins(x=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    # others may be better, with more scales than were asked for
    what = "with one scale" if best.axis is None else "with so many scales"
    ax.set_xlabel(f"SQNR (dB), more is better; in blue the best {what}")
    ax.set_title("Ways to choose scale and zero point, 8 bits")
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax must be an Axes of matplotlib, not {type(ax).__name__}; pass one of those that "
            "pyplot.subplots() gives"
        )
    return ax


def _db(ratio: float) -> str:
    return f"{ratio:.1f} dB"
