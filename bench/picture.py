"""Draw `zp.compare` of real data: the picture of README.

    python -m bench.picture -o docs/compare.svg

The data are the token embeddings of wordllama, which it needs, and matplotlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import zeropoint as zp
from zeropoint import files

from .calibration import inside


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.picture", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="FILE.svg or FILE.png")
    options = parser.parse_args(arguments)
    table = inside("wordllama", "weights/l2_supercat_256.safetensors")
    draw(zp.compare(files.read_tensor(table, "embedding.weight")), options.output)
    return 0


def draw(comparison: zp.Comparison, path: Path) -> None:
    import matplotlib

    # text stays text, and the same figures give the same file
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "zeropoint"})
    matplotlib.use("agg")
    from matplotlib import pyplot

    import zeropoint.plot

    figure, axis = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    zeropoint.plot.compare(comparison, ax=axis)
    axis.set_title("zp.compare: 32000 embeddings of 256 numbers, of wordllama", fontsize=10)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


if __name__ == "__main__":
    raise SystemExit(main())
