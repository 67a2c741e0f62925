"""Draw a run: throughput against size, one panel a job and one line a system.

    python -m bench.plot FILE.json -o FILE.svg

Needs matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .suite import Row

# One colour a system, the same in every plot; ours are shades of one strong colour.
COLOURS = {
    "zeropoint": "#c1121f",
    "zeropoint-avx2": "#e5734f",
    "zeropoint-baseline": "#f0a58f",
    "litert": "#1b6ca8",
    "onnxruntime": "#2a9d8f",
    "torch": "#8a5aa8",
    "numba": "#b8860b",
    "numpy-out": "#8a8a8a",
    "numpy": "#4d4d4d",
    "bare-loop": "#bbbbbb",
}
MARKERS = "osDv^<>Ph*"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__)
    parser.add_argument("run", type=Path, metavar="FILE.json", help="what --json wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="FILE.svg or FILE.png")
    parser.add_argument("--jobs", default="quantize,dequantize", help="comma-separated, in order")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        import matplotlib
    except ImportError:
        print("bench.plot: needs matplotlib: python -m pip install matplotlib", file=sys.stderr)
        return 2

    head, rows = report.load(options.run)
    panels = {
        job: [
            row
            for row in rows
            if row.job == job
            and row.threads == options.threads
            and row.system in COLOURS
            and row.size > 1  # one element is a matter of time, not of throughput
        ]
        for job in options.jobs.split(",")
    }
    if empty := [job for job, found in panels.items() if not found]:
        print(f"bench.plot: the run has no rows of {', '.join(empty)}", file=sys.stderr)
        return 2
    # text stays text, and the same run gives the same file
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "zeropoint"})
    matplotlib.use("agg")
    figure = _figure(panels, f"{head['machine']['cpu']}, {report.threads_name(options.threads)}")
    is_svg = options.output.suffix == ".svg"
    figure.savefig(options.output, metadata={"Date": None} if is_svg else None, dpi=150)
    return 0


def _figure(panels: dict[str, list[Row]], title: str) -> Any:
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 4.2), squeeze=False, layout="constrained"
    )
    lines: dict[str, Any] = {}
    for axis, (job, rows) in zip(axes[0], panels.items(), strict=True):
        for i, (system, colour) in enumerate(COLOURS.items()):
            points = sorted((row.size, row.gelem_per_s) for row in rows if row.system == system)
            if points:
                role = next(row.role for row in rows if row.system == system)
                (lines[system],) = axis.plot(
                    *zip(*points, strict=True),
                    label=system,
                    color=colour,
                    linewidth=2.4 if role == "ours" else 1.3,
                    linestyle="--" if role == "yardstick" else "-",
                    marker=MARKERS[i],
                    markersize=4,
                    zorder=3 if role == "ours" else 2,
                )
        sizes = sorted({row.size for row in rows})
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [report.size_name(size) for size in sizes])
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(ticker.NullLocator())
        axis.set_title(job)
        axis.set_xlabel("elements")
        axis.grid(color="#e6e6e6")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("Gelem/s")
    figure.suptitle(title, fontsize=10)
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
