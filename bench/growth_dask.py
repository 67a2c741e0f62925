"""How time and memory grow with the data: one process, and Dask workers.

    python -m bench.growth_dask FILE.json --measure          run, and write FILE.json
    python -m bench.growth_dask FILE.json                    print its table
    python -m bench.growth_dask FILE.json --update PAGE.md   put it between the page's markers

The job: choose the parameters for a memory-mapped float32 file, quantize it, write the codes to
another file.  It reads 4 bytes an element twice and writes 1; the input is in the page cache as
far as that holds it.  Every system uses one thread a process and chunks of `CHUNK` elements, and
every system's codes must be the same bytes.  Needs the extra ``dask``, and disk space for 5 bytes
an element (20 GiB for 4 Gi); the files are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import zeropoint as zp

from .cli import _sizes
from .jobs import GI, MI
from .machine import describe
from .report import put, size_name

CHUNK = 16 * MI  #: elements: 64 MiB of float32, a few ms of work a task
SIZES = [MI, 16 * MI, 64 * MI, 256 * MI, GI, 4 * GI]
ROUNDS = 3  # the best of, for each system in turn

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    system: str
    elements: int
    params_seconds: float  #: the pass that chooses the parameters
    codes_seconds: float  #: the pass that makes and writes the codes
    peak_mib: float  #: largest resident set of a process that did the work, mapped pages included

    @property
    def ns_per_element(self) -> float:
        return (self.params_seconds + self.codes_seconds) / self.elements * 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth_dask", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, metavar="FILE.json")
    parser.add_argument("--measure", action="store_true", help="run first")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="such as 1Mi,64Mi,4Gi")
    parser.add_argument("--folder", type=Path, help="for the data (default: the temporary one)")
    parser.add_argument("--update", type=Path, metavar="PAGE.md", help="the page to rewrite")
    options = parser.parse_args(arguments)
    if options.measure:
        os.environ["ZEROPOINT_NUM_THREADS"] = "1"  # for the workers, which inherit it
        head = {
            "command": f"python -m bench.growth_dask --sizes {','.join(map(str, options.sizes))}",
            "chunk": CHUNK,
            "rounds": ROUNDS,
            **describe(["dask", "distributed", "numpy"]),
        }
        rows = measure(sorted(options.sizes), options.folder)
        document = {**head, "rows": [asdict(row) for row in rows]}
        options.run.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads(options.run.read_text(encoding="utf-8"))
    text = markdown(document, [Row(**row) for row in document["rows"]])
    return put(text, options.update, "growth")


# ---------------------------------------------------------------------------------------------
# The data: the first `size` elements of one file.  Slices of it are mapped when they are read.


@dataclass(frozen=True)
class Source:
    path: str
    size: int

    ndim = 1
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int]:
        return (self.size,)

    def __getitem__(self, key: Any) -> Array:
        part = key[0] if isinstance(key, tuple) else key
        start, stop, _ = part.indices(self.size)
        return np.memmap(self.path, self.dtype, "r", start * self.dtype.itemsize, (stop - start,))


@dataclass(frozen=True)
class Target:
    path: str

    def __setitem__(self, key: Any, codes: Array) -> None:
        with open(self.path, "r+b") as file:
            file.seek((key[0] if isinstance(key, tuple) else key).start)
            file.write(codes.data)


def parts(size: int) -> Iterator[slice]:
    for start in range(0, size, CHUNK):
        yield slice(start, min(start + CHUNK, size))


def make(path: Path, size: int) -> None:
    """Normal numbers, another distribution in every chunk."""
    with open(path, "wb") as file:
        for number, part in enumerate(parts(size)):
            random = np.random.default_rng(number)
            x = random.standard_normal(part.stop - part.start, np.float32)
            file.write((x * np.float32(1 + number % 7)).data)
        os.fsync(file.fileno())


# ---------------------------------------------------------------------------------------------
# The systems.  Each returns the seconds of its two passes, and its largest resident set in MiB.


def one_process(source: Source, target: Target) -> tuple[float, float, float]:
    """zeropoint itself, chunk after chunk."""
    started = time.perf_counter()
    observer = zp.MinMaxObserver()
    for part in parts(source.size):
        observer.update(source[part])
    params = observer.params()
    middle = time.perf_counter()
    codes = np.empty(min(CHUNK, source.size), np.uint8)
    for part in parts(source.size):
        target[part] = params.quantize(source[part], out=codes[: part.stop - part.start])
    return middle - started, time.perf_counter() - middle, peak()


def with_workers(client: Any, source: Source, target: Target) -> tuple[float, float, float]:
    """`zeropoint.dask` on the workers of `client`."""
    import dask.array as da

    import zeropoint.dask as zd

    a = da.from_array(source, chunks=CHUNK, inline_array=True)
    started = time.perf_counter()
    params = zd.choose_params(a)
    middle = time.perf_counter()
    zd.quantize(a, params).store(target, lock=False)
    return middle - started, time.perf_counter() - middle, max(client.run(peak).values())


def peak() -> float:
    """The largest resident set of this process so far, in MiB."""
    [line] = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


# ---------------------------------------------------------------------------------------------
# The run


def measure(sizes: Sequence[int], folder: Path | None) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=folder) as room:
        path, target = Path(room, "x.f32"), Target(str(Path(room, "codes.u8")))
        _say(f"writing {size_name(max(sizes))} elements")
        make(path, max(sizes))
        for size in sizes:
            source = Source(str(path), size)
            sums = set()
            for system, run in SYSTEMS.items():
                _say(f"{size_name(size)}: {system}")
                with open(target.path, "wb") as file:
                    file.truncate(size)
                rows.append(Row(system, size, *run(source, target)))
                _say(f"  {rows[-1].ns_per_element:.2f} ns an element")
                sums.add(checksum(target.path))
            if len(sums) != 1:
                raise AssertionError(f"the systems differ at {size} elements")
    return rows


def best(run: Callable[[], tuple[float, float, float]]) -> tuple[float, float, float]:
    """The round with the shortest total time; the peak memory of all rounds."""
    results = [run() for _ in range(ROUNDS)]
    params, codes, _ = min(results, key=lambda result: result[0] + result[1])
    return params, codes, max(result[2] for result in results)


def in_a_process(source: Source, target: Target) -> tuple[float, float, float]:
    """`one_process` in a new process, so that its memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return best(lambda: process.submit(one_process, source, target).result())


def on_workers(count: int) -> Callable[[Source, Target], tuple[float, float, float]]:
    def run(source: Source, target: Target) -> tuple[float, float, float]:
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster) as client,
        ):
            client.run(lambda: __import__("zeropoint.dask"))  # what is imported once, is not timed
            return best(lambda: with_workers(client, source, target))

    return run


SYSTEMS = {
    "one process": in_a_process,
    "1 worker": on_workers(1),
    "2 workers": on_workers(2),
}


def checksum(path: str) -> int:
    found = 0
    with open(path, "rb") as file:
        while part := file.read(CHUNK):
            found = zlib.crc32(part, found)
    return found


def _say(text: str) -> None:
    print(f"bench.growth_dask: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------
# The page


def markdown(document: dict[str, Any], rows: Sequence[Row]) -> str:
    """Where it ran, the table, and what it means for larger data."""
    machine, versions = document["machine"], document["versions"]
    where = (
        f"Measured on {machine['cpu']}, {machine['cores']} cores; dask {versions['dask']}, "
        f"{document['date'][:10]}, commit {document['commit']}; chunks of "
        f"{size_name(document['chunk'])} elements, best of {document['rounds']} rounds. Time per "
        "element for both passes, and the largest resident memory of a process:"
    )
    found = {(row.system, row.elements): row for row in rows}
    sizes = sorted({row.elements for row in rows})
    lines = [f"| elements | {' | '.join(SYSTEMS)} |", "|---" * (1 + len(SYSTEMS)) + "|"]
    for size in sizes:
        cells = [
            f"{row.ns_per_element:.2f} ns, {row.peak_mib:.0f} MiB"
            for row in (found[system, size] for system in SYSTEMS)
        ]
        lines.append(f"| {size_name(size)} | {' | '.join(cells)} |")
    one, two = (found[system, sizes[-1]] for system in ("1 worker", "2 workers"))
    return "\n\n".join([where, "\n".join(lines), _larger(one, two, document["chunk"])])


def _larger(one: Row, two: Row, chunk: int) -> str:
    """The arithmetic for data that nobody measured here."""
    checkpoint, embeddings = 1e12 / 4, 1e9 * 768
    ns = one.ns_per_element
    seconds = checkpoint * ns * 1e-9
    tasks = 2 * checkpoint / chunk
    low, high = tasks * 0.2e-3, tasks * 1e-3
    return (
        f"**1 TB of float32**, a checkpoint, is {_short(checkpoint)} elements: N workers like "
        f"these would need {_short(checkpoint)} x {ns:.2f} ns / N = {seconds:.0f} s / N. **10^9 "
        f"embeddings** of 768 dimensions are {_short(embeddings)} elements: "
        f"{embeddings * ns * 1e-9:.0f} s / N. (Here two workers, beside the scheduler, were "
        f"{ns / two.ns_per_element:.2f} times as fast as one.) Two things can be slower. Storage: "
        f"a worker at this rate reads {8 / ns:.1f} GB/s, as from a page cache; storage that "
        "delivers B GB/s in all needs 2000 / B s for the two passes over 1 TB, whatever the number "
        f"of workers. The scheduler: these are {tasks:.0f} tasks on chunks of {size_name(chunk)} "
        f"elements, which take it {low:.0f} to {high:.0f} s at the 0.2 to 1 ms per task that "
        f"Dask's best practices give; so with more than about {seconds / high:.0f} workers use "
        "larger chunks."
    )


def _short(number: float) -> str:
    return f"{number:.3g}".replace("e+", "e")


if __name__ == "__main__":
    raise SystemExit(main())
