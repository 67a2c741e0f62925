"""How many neighbours 8-bit codes find in real text: for docs/measured.md.

    python -m bench.recall FILE.json --measure            search, and write FILE.json
    python -m bench.recall FILE.json                      print its table
    python -m bench.recall FILE.json --update PAGE.md     put it between the page's markers
    python -m bench.recall FILE.json --plot FILE.svg      draw it

Data and search are those of `examples/text_search.py`, which needs wordllama; the plot needs
matplotlib.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import ROOT, describe
from .report import load_rows, put, save

CANDIDATES = (10, 12, 15, 20, 30, 40, 50)
SHOWN = (20, 50)  #: of these, in the table
#: colour (of Okabe and Ito's palette), marker, line
LINES = {
    "sentence-transformers": ("#0072b2", "o", "-"),
    "faiss": ("#009e73", "s", "--"),
    "faiss, uniform=True": ("#e69f00", "^", "-"),
    "rows": ("#000000", "D", "-"),
    "codes multiplied as they are": ("#d55e00", "X", ":"),
    "(x * 127).astype(int8)": ("#cc79a7", "P", "-."),
}


@dataclass(frozen=True)
class Row:
    style: str
    bytes_per_row: int
    float_query: float  #: recall@10 of float32 queries
    code_query: float  #: of queries that are codes too
    rescored: dict[str, float]  #: by the number of candidates, which JSON makes text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.recall", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, metavar="FILE.json")
    parser.add_argument("--measure", action="store_true", help="search first")
    parser.add_argument("--update", type=Path, metavar="PAGE.md", help="the page to rewrite")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="the drawing to write")
    options = parser.parse_args(arguments)
    if options.measure:
        example = runpy.run_path(str(ROOT / "examples/text_search.py"), run_name="text_search")
        table, queries = example["data"]()
        shapes = {"rows": len(table), "dimensions": table.shape[1], "queries": len(queries)}
        head = {"data": shapes, **describe(["numpy", "wordllama"])}
        rows = example["measured"](table, queries, CANDIDATES)
        save(options.run, head, "rows", list(rows))
    head, rows = load_rows(options.run, Row)
    if options.plot:
        return draw(head, rows, options.plot)
    return put(text(head, rows), options.update, "recall")


def text(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """The table, and what it was measured with."""
    data, versions = head["data"], head["versions"]
    lines = [
        "| codes | bytes a row | float32 query | 8-bit query | "
        + " | ".join(f"best of {n}, rescored" for n in SHOWN)
        + " |",
        "|---|" + "---|" * (3 + len(SHOWN)),
    ]
    for row in rows:
        figures = row.float_query, row.code_query, *(row.rescored[str(n)] for n in SHOWN)
        cells = [f"{figure:.4f}" for figure in figures]
        if min(figures) < 0.98:
            cells = [f"**{c}**" if f < 0.98 else c for f, c in zip(figures, cells, strict=True)]
        lines.append(f"| {_name(row.style)} | {row.bytes_per_row:,} | {' | '.join(cells)} |")
    lines += [
        "",
        f"{data['rows']:,} sentences of the documentation of Python {versions['python']}, "
        f"{data['queries']} others as queries; wordllama {versions['wordllama']}, "
        f"{data['dimensions']} dimensions; {head['date'][:10]}.",
    ]
    return "\n".join(lines)


def _name(style: str) -> str:
    is_text = style in ("float32", "codes multiplied as they are")
    return style if is_text else f"`{style}`"


def draw(head: dict[str, Any], rows: Sequence[Row], path: Path) -> int:
    """The share of the true neighbours that are lost, against the number of candidates."""
    try:
        import matplotlib
    except ImportError:
        print("bench.recall: needs matplotlib: python -m pip install matplotlib", file=sys.stderr)
        return 2
    # text stays text, and the same run gives the same file
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "zeropoint"})
    matplotlib.use("agg")
    from matplotlib import pyplot

    none = 0.1 / head["data"]["queries"]  # one neighbour of all queries
    figure, axis = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    for row in rows:
        if row.style in LINES:
            colour, marker, line = LINES[row.style]
            lost = [max(1 - row.rescored[str(n)], none / 2) for n in CANDIDATES]
            axis.plot(
                CANDIDATES, lost, color=colour, marker=marker, linestyle=line, label=row.style
            )
    axis.set_yscale("log")
    axis.set_ylim(none / 2.6, 0.3)
    ticks = {0.1: "10 %", 0.01: "1 %", 0.001: "0.1 %", none / 2: "none"}
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.minorticks_off()
    axis.set_xticks(CANDIDATES)
    axis.set_xlabel("candidates found by 8-bit codes, then ordered by float32 vectors")
    axis.set_ylabel("of the ten true neighbours lost")
    axis.set_title(
        f"{head['data']['rows']:,} sentences, {head['data']['dimensions']} dimensions", fontsize=10
    )
    axis.grid(color="#e6e6e6")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
