"""Draw a run.

    python -m bench.plot FILE.json -o FILE.svg              throughput against size, by system
    python -m bench.plot FILE.json --answers -o FILE.svg    how many times as fast, by case

Needs matplotlib.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .groups import LOADED, Answer, Ratios, answers
from .suite import Row

#: colour (of Okabe and Ito's palette, which colour-blind people can tell apart), marker, line
STYLES = {
    "zeropoint": ("#000000", "o", "-"),
    "zeropoint-avx2": ("#000000", "s", "--"),
    "zeropoint-baseline": ("#000000", "^", ":"),
    "litert": ("#0072b2", "D", "-"),
    "onnxruntime": ("#009e73", "v", "--"),
    "torch": ("#cc79a7", "P", "-."),
    "numba": ("#d55e00", "X", "-"),
    "numpy-out": ("#e69f00", "<", "--"),
    "numpy": ("#e69f00", ">", "-"),
    "bare-loop": ("#999999", "", ":"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__)
    parser.add_argument("run", type=Path, metavar="FILE.json", help="what --json wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="FILE.svg or FILE.png")
    parser.add_argument("--jobs", default="quantize,dequantize", help="comma-separated, in order")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answers", action="store_true", help="a line for each case")
    options = parser.parse_args(arguments)
    try:
        import matplotlib
    except ImportError:
        print("bench.plot: needs matplotlib: python -m pip install matplotlib", file=sys.stderr)
        return 2

    # text stays text, and the same run gives the same file
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "zeropoint"})
    matplotlib.use("agg")
    head, rows = report.load(options.run)
    title = f"{head['machine']['cpu']}, {report.threads_name(options.threads)}"
    if options.answers:
        if not any(row.threads == options.threads for row in rows):
            print(f"bench.plot: the run has no rows of {options.threads} threads", file=sys.stderr)
            return 2
        figure = _answers_figure(rows, options.threads, title)
    else:
        drawn = options.jobs.split(",")
        panels = _panels(rows, drawn, options.threads)
        if empty := [job for job, found in panels.items() if not found]:
            print(f"bench.plot: the run has no rows of {', '.join(empty)}", file=sys.stderr)
            return 2
        figure = _figure(panels, title, _left_out(rows, drawn, options.threads))
    is_svg = options.output.suffix == ".svg"
    figure.savefig(options.output, metadata={"Date": None} if is_svg else None, dpi=150)
    return 0


def _panels(rows: Sequence[Row], jobs: Sequence[str], threads: int) -> dict[str, list[Row]]:
    # one element is a matter of time, not of throughput
    return {
        job: [
            row
            for row in rows
            if (row.job, row.threads) == (job, threads) and row.system in STYLES and row.size > 1
        ]
        for job in jobs
    }


#: what is compared, its colour and marker, and how far from the middle of its case it is drawn
_BESIDE: tuple[tuple[str, str, str, float, str], ...] = (
    ("NumPy by hand", "#e69f00", "D", -0.24, ""),
    ("the fastest other", "#0072b2", "o", 0.0, ""),
    ("the fastest other, AVX2 alone", "#56b4e9", "s", 0.24, "avx2"),
)


def _answers_figure(rows: Sequence[Row], threads: int, title: str) -> Any:
    """The mean of each case as a point, the least and the most as a line through it."""
    from matplotlib import pyplot, ticker

    def of(beside: str, each: Answer) -> Ratios:
        return each.numpy if beside.startswith("NumPy") else each.peer

    found = {isa: answers(rows, threads, isa) for isa in ("", "avx2")}
    groups = [each.group for each in found[""] if each.group is not LOADED]
    figure, axis = pyplot.subplots(figsize=(8, 0.52 * len(groups) + 1.5), layout="constrained")
    axis.axvline(1, color="#444444", linewidth=1)
    for beside, colour, marker, offset, isa in _BESIDE:
        label: str | None = beside
        for each in found[isa]:
            ratios = of(beside, each)
            if each.group not in groups or not ratios.values:
                continue
            y = groups.index(each.group) + offset
            ends = min(ratios.values), max(ratios.values)
            axis.plot(ends, (y, y), color=colour, linewidth=2, solid_capstyle="round")
            style: dict[str, Any] = {"color": colour, "linestyle": "", "markersize": 7, "zorder": 3}
            axis.plot([ratios.mean], [y], marker=marker, label=label, **style)
            label = None  # once in the legend
    axis.set_yticks(range(len(groups)), [group.title for group in groups])
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_xlabel("times as fast (right of 1: zeropoint is faster)")
    axis.grid(axis="x", color="#e6e6e6")
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _left_out(rows: Sequence[Row], jobs: Sequence[str], threads: int) -> str:
    """What a reader must know who sees only the plot."""
    others = sorted({row.job for row in rows} - set(jobs))
    systems = sorted({row.system for row in rows} - set(STYLES))
    counts = sorted({row.threads for row in rows} - {threads})
    return "\n".join(
        (
            "Results go to an existing array (out=) where a system can do that. litert: only "
            "invoke is timed, which passes no array.",
            "litert and torch quantize without exact division, the others with it. bare-loop moves "
            "the same bytes and computes nothing.",
            f"Left out: one element; {', '.join(map(report.threads_name, counts))}; systems "
            f"{', '.join(systems)};",
            f"{len(others)} of {len(others) + len(jobs)} jobs (per channel, per block, float16, "
            "dynamic, ...): docs/speed.md.",
        )
    )


def _figure(panels: dict[str, list[Row]], title: str, note: str) -> Any:
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(5.6 * len(panels), 5.2), squeeze=False, layout="constrained"
    )
    for axis, (job, rows) in zip(axes[0], panels.items(), strict=True):
        ends = {}
        for system, (colour, marker, line) in STYLES.items():
            points = sorted((row.size, row.gelem_per_s) for row in rows if row.system == system)
            if points:
                ours = system.startswith("zeropoint")
                axis.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    linewidth=2.4 if system == "zeropoint" else 1.4,
                    linestyle=line,
                    marker=marker,
                    markersize=5,
                    zorder=3 if ours else 2,
                )
                ends[system] = points[-1]
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        _label(axis, ends)
        sizes = sorted({row.size for row in rows})
        axis.set_xticks(sizes, [report.size_name(size) for size in sizes])
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(ticker.NullLocator())
        axis.set_title(job)
        axis.set_xlabel("elements")
        axis.grid(color="#e6e6e6")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("Gelem/s (10^9 elements per second)")
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(note, fontsize=8, x=0.01, ha="left", color="#444444")
    return figure


def _label(axis: Any, ends: dict[str, tuple[int, float]]) -> None:
    """The name of each line at its right end, moved up or down where two would overlap."""
    right = max(size for size, _ in ends.values())
    low, high = (math.log(y) for y in axis.get_ylim())
    height = (high - low) / 20  # of a name
    order = sorted(ends, key=lambda system: ends[system][1])
    at = [math.log(ends[system][1]) for system in order]
    for _ in range(200):  # neighbours that overlap push each other away
        for i in range(len(at) - 1):
            overlap = max(0.0, height - (at[i + 1] - at[i]))
            at[i], at[i + 1] = at[i] - overlap / 2, at[i + 1] + overlap / 2
    for system, y in zip(order, at, strict=True):
        size, end = ends[system]
        axis.annotate(
            system,
            (size, end),
            xytext=(right * 1.8, math.exp(y)),
            color=STYLES[system][0],
            fontsize=8.5,
            va="center",
            weight="bold" if system == "zeropoint" else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "#bbbbbb",
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 4,
            },
        )


if __name__ == "__main__":
    raise SystemExit(main())
