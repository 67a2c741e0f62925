"""A large table of embeddings: time and memory beside `quantize_embeddings` and faiss.

    python -m bench.embeddings FILE.json --measure          run, and write FILE.json
    python -m bench.embeddings FILE.json                    print its table
    python -m bench.embeddings FILE.json --update PAGE.md   put it between the page's markers

The rows are pairs of real sentences (`examples/text_search.py`): the mean of their embeddings, by a
fixed random map to 384 dimensions, made unit vectors.  Every system fits the ranges, makes the
codes, and where it has a way back the values, in a process of its own; codes and values of a style
must be the same bytes.  Needs wordllama, and 2 KiB of disk a row; peers that are not installed are
left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint.embeddings import EmbeddingQuantizer

from .machine import ROOT, describe
from .report import load_rows, put, save

Array = np.ndarray[Any, np.dtype[Any]]
DIMENSIONS = 384
BATCH = 1 << 14  # rows
ROUNDS = 3  # the best of


@dataclass(frozen=True)
class Row:
    style: str
    system: str
    threads: int
    rows: int
    codes_seconds: float  #: to fit the ranges and to make the codes
    values_seconds: float | None  #: back from all codes, where the system can
    peak_mib: int  #: resident at most for the codes, these and all else, but not the table

    @property
    def ns(self) -> float:
        return self.codes_seconds / self.rows / DIMENSIONS * 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.embeddings", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, metavar="FILE.json")
    parser.add_argument("--measure", action="store_true", help="run first")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="for the data (default: the temporary one)")
    parser.add_argument("--update", type=Path, metavar="PAGE.md", help="the page to rewrite")
    options = parser.parse_args(arguments)
    if options.measure:
        packages = ["numpy", "wordllama", "faiss-cpu", "sentence-transformers"]
        head = {"rounds": ROUNDS, **describe(packages)}
        measured = measure(options.rows, options.folder)
        save(options.run, head, "rows", [asdict(row) for row in measured])
    return put(text(*load_rows(options.run, Row)), options.update, "embeddings")


# ---------------------------------------------------------------------------------------------
# The data


def make(path: Path, rows: int) -> None:
    """A file of float32 [rows, DIMENSIONS] without a head."""
    import runpy

    example = runpy.run_path(str(ROOT / "examples/text_search.py"), run_name="text_search")
    sentences = example["embedded"](example["sentences"]())
    rng = np.random.default_rng(0)
    turned = sentences @ rng.normal(size=(sentences.shape[1], DIMENSIONS)).astype(np.float32)
    with open(path, "wb") as file:
        for start in range(0, rows, BATCH):
            pairs = rng.integers(len(turned), size=(2, min(BATCH, rows - start)))
            x = turned[pairs[0]] + turned[pairs[1]]
            file.write((x / np.linalg.norm(x, axis=1, keepdims=True)).data)


# ---------------------------------------------------------------------------------------------
# The systems.  Each takes the path of the data and returns what is timed: the codes from the
# table, then the values from the codes, if it can.

Codes = Callable[[], Any]
Values = Callable[[Any], Array] | None


def _table(path: Path) -> Array:
    return np.fromfile(path, np.float32).reshape(-1, DIMENSIONS)


def ours(**arguments: Any) -> Callable[[Path], tuple[Codes, Values]]:
    def prepare(path: Path) -> tuple[Codes, Values]:
        x, quantizer = _table(path), EmbeddingQuantizer(**arguments)
        return lambda: quantizer.fit(x).transform(x), quantizer.inverse_transform

    return prepare


def by_batches(path: Path) -> tuple[Codes, Values]:
    """The table stays in its file, which is read twice."""
    quantizer = EmbeddingQuantizer("sentence-transformers")

    def batches() -> Iterator[Array]:
        with open(path, "rb") as file:
            while (x := np.fromfile(file, np.float32, BATCH * DIMENSIONS)).size:
                yield x.reshape(-1, DIMENSIONS)

    def codes() -> Array:
        for x in batches():
            quantizer.partial_fit(x)
        found = np.empty((path.stat().st_size // 4 // DIMENSIONS, DIMENSIONS), np.int8)
        start = 0
        for x in batches():
            found[start : start + len(x)] = quantizer.transform(x)
            start += len(x)
        return found

    return codes, quantizer.inverse_transform


def sentence_transformers(path: Path) -> tuple[Codes, Values]:
    from sentence_transformers.util.quantization import quantize_embeddings

    x = _table(path)
    return lambda: quantize_embeddings(x, "int8"), None


def faiss(path: Path) -> tuple[Codes, Values]:
    import faiss

    x = _table(path)
    quantizer = faiss.ScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit)

    def codes() -> Array:
        quantizer.train(x)
        found: Array = quantizer.compute_codes(x)
        return found

    return codes, quantizer.decode


SYSTEMS: dict[tuple[str, str], Callable[[Path], tuple[Codes, Values]]] = {
    ("sentence-transformers", "zeropoint"): ours(style="sentence-transformers"),
    ("sentence-transformers", "zeropoint, by batches"): by_batches,
    ("sentence-transformers", "sentence-transformers"): sentence_transformers,
    ("faiss", "zeropoint"): ours(style="faiss"),
    ("faiss", "faiss"): faiss,
    ("rows", "zeropoint"): ours(style="rows"),
}


def _child(style: str, system: str, path: str) -> None:
    """Do it, and print times, memory and checksums as JSON."""
    make_codes, make_values = SYSTEMS[style, system](Path(path))
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    started = time.perf_counter()
    codes = make_codes()
    found = {"codes_seconds": time.perf_counter() - started, "values_seconds": None}
    found["peak_mib"] = _resident("VmHWM") - before
    sums = [zlib.crc32(each) for each in (codes if isinstance(codes, tuple) else (codes,))]
    if make_values is not None:
        started = time.perf_counter()
        values = make_values(codes)
        found["values_seconds"] = time.perf_counter() - started
        sums.append(zlib.crc32(values.data))
    print(json.dumps({**found, "sums": sums}))


def _resident(field: str) -> int:
    """MiB."""
    [line] = re.findall(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) >> 10


def _in_a_process(style: str, system: str, path: Path, threads: int) -> dict[str, Any] | None:
    """What `_child` printed, or None where the system is not installed."""
    code = "import sys; from bench.embeddings import _child; _child(*sys.argv[1:])"
    number = dict.fromkeys(
        ("ZEROPOINT_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, style, system, str(path)],
        cwd=ROOT,
        env={**os.environ, **number},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if system.startswith("zeropoint") or "ModuleNotFoundError" not in last:
            raise RuntimeError(f"{system}, {style}: {last}")
        print(f"bench: {system} is left out: {last}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ---------------------------------------------------------------------------------------------
# The run


def measure(rows: int, folder: Path | None) -> list[Row]:
    best: dict[tuple[str, str, int], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as room:
        path = Path(room, "table.f32")
        make(path, rows)
        cores = len(os.sched_getaffinity(0))
        for _ in range(ROUNDS):
            for threads in sorted({1, cores}):
                sums: dict[tuple[str, int], int] = {}
                for style, system in SYSTEMS:
                    found = _in_a_process(style, system, path, threads)
                    if found is None:
                        continue
                    print(f"bench: {style}, {system}, {threads}: {found}", file=sys.stderr)
                    for number, each in enumerate(found.pop("sums")):  # codes, then values
                        if sums.setdefault((style, number), each) != each:
                            raise AssertionError(f"{system} has other codes or values of {style}")
                    _keep_best(best.setdefault((style, system, threads), found), found)
    order = list(SYSTEMS)
    keys = sorted(best, key=lambda key: (key[2], order.index(key[:2])))
    return [Row(*key, rows=rows, **best[key]) for key in keys]


def _keep_best(best: dict[str, Any], found: dict[str, Any]) -> None:
    for name in "codes_seconds", "values_seconds":
        if found[name] is not None:
            best[name] = min(best[name], found[name])
    best["peak_mib"] = max(best["peak_mib"], found["peak_mib"])


def text(head: dict[str, Any], rows: Sequence[Row]) -> str:
    lines = [
        "| codes | system | threads | ranges and codes | an element | values | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = "-" if row.values_seconds is None else f"{row.values_seconds:.2f} s"
        lines.append(
            f"| `{row.style}` | {row.system} | {row.threads} | {row.codes_seconds:.2f} s "
            f"| {row.ns:.2f} ns | {values} | {row.peak_mib} MiB |"
        )
    table = rows[0].rows * DIMENSIONS * 4 >> 20
    machine, versions = head["machine"], head["versions"]
    peers = ", ".join(f"{name} {number}" for name, number in versions.items())
    lines += [
        "",
        f"{rows[0].rows:,} rows of {DIMENSIONS}, float32: {table:,} MiB, in memory but for "
        '"by batches", which reads them from a file. Memory is the most that was resident beyond '
        f"the table while the codes were made, with the codes. {machine['cpu']}, "
        f"{machine['cores']} cores; {peers}; {head['date'][:10]}, commit {head['commit']}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
