"""Embedding tables in Spark and Ray Data: the recipes of examples/scale_out, measured.

    python -m bench.scale_out FILE.json --measure          run, and write FILE.json
    python -m bench.scale_out FILE.json                    print its table
    python -m bench.scale_out FILE.json --update PAGE.md   put it between the page's markers

The job: fit a quantizer on a Parquet table of float32 embeddings, write a table of int8 codes.
Each system runs in a process of its own, with its own workers, and every code that it wrote is
compared with those of one process.  Times are those that the recipes print: the two passes, from
and to Parquet in the page cache, without the start of Spark or Ray.  Needs pyspark, Java, ray,
pyarrow and wordllama (``nox -s spark_ray -- --measure``), and disk space of 0.7 KiB a row.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cli import _sizes
from .jobs import MI
from .machine import describe
from .report import put, size_name

SIZES = [MI, 4 * MI]  #: rows
DIMENSIONS = 64
WORKERS = (1, 2)
RECIPES = Path(__file__).resolve().parent.parent / "examples" / "scale_out"

JAVA_GIB = 1
OBJECTS_MIB = 512
RAY = """
import ray, runpy, sys
ray.init(num_cpus=int(sys.argv[1]), object_store_memory=int(sys.argv[2]) << 20,
         include_dashboard=False, log_to_driver=False)
del sys.argv[:3]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Row:
    system: str
    workers: int
    rows: int
    fit_seconds: float  #: the pass that fits the quantizer
    codes_seconds: float  #: the pass that makes and writes the codes
    peak_mib: float  #: of all its processes together, what they share counted once
    codes: int  #: that were compared with those of one process
    differing: int

    @property
    def seconds(self) -> float:
        return self.fit_seconds + self.codes_seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale_out", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, metavar="FILE.json")
    parser.add_argument("--measure", action="store_true", help="run first")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="rows, such as 256Ki,1Mi")
    parser.add_argument("--folder", type=Path, help="for the data (default: the temporary one)")
    parser.add_argument("--update", type=Path, metavar="PAGE.md", help="the page to rewrite")
    options = parser.parse_args(arguments)
    if options.measure:
        head = {
            "command": f"python -m bench.scale_out --sizes {','.join(map(str, options.sizes))}",
            "dimensions": DIMENSIONS,
            **describe(["pyspark", "ray", "pyarrow", "numpy"]),
        }
        rows = measure(sorted(options.sizes), options.folder)
        document = {**head, "rows": [asdict(row) for row in rows]}
        options.run.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads(options.run.read_text(encoding="utf-8"))
    text = markdown(document, [Row(**row) for row in document["rows"]])
    return put(text, options.update, "recipes")


# ---------------------------------------------------------------------------------------------
# The systems: the command of a recipe, and what its environment gains


def spark(workers: int) -> tuple[list[str], dict[str, str]]:
    conf = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    words = ["--master", f"local[{workers}]", "--driver-memory", f"{JAVA_GIB}g"]
    for name, value in conf.items():
        words += ["--conf", f"{name}={value}"]
    environment = {
        "PYSPARK_SUBMIT_ARGS": " ".join([*words, "pyspark-shell"]),
        "PYSPARK_PYTHON": sys.executable,
    }
    return [sys.executable, str(RECIPES / "spark_embeddings.py")], environment


def ray(workers: int) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-c", RAY, str(workers), str(OBJECTS_MIB)]
    return [*command, str(RECIPES / "ray_embeddings.py")], {"RAY_USAGE_STATS_ENABLED": "0"}


SYSTEMS = {"Spark": spark, "Ray Data": ray}


# ---------------------------------------------------------------------------------------------
# The run


def measure(sizes: Sequence[int], folder: Path | None) -> list[Row]:
    rows: list[Row] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as room:
            table = Path(room, "table.parquet")
            run([*TABLE, "make", str(table), str(size), str(DIMENSIONS)])
            for system in SYSTEMS:
                for workers in WORKERS:
                    _say(f"{size_name(size)} rows: {system}, {workers} workers")
                    rows.append(measured(system, workers, size, table))
                    _say(f"  {rows[-1]}")
    return rows


TABLE = [sys.executable, str(RECIPES / "table.py")]


def measured(system: str, workers: int, size: int, table: Path) -> Row:
    """One run of a recipe, and the comparison of its codes."""
    codes = table.parent / "codes"
    try:
        printed, peak = recipe(system, workers, table, codes)
        [times] = re.findall(r"fitted in ([\d.]+) s, coded in ([\d.]+) s", printed)
        compared, _ = run([*TABLE, "check", str(table), str(codes)])
        [counts] = re.findall(r"([\d,]+) codes compared .* ([\d,]+) differ", compared)
        numbers = [int(count.replace(",", "")) for count in counts]
        return Row(system, workers, size, float(times[0]), float(times[1]), peak, *numbers)
    finally:
        shutil.rmtree(codes, ignore_errors=True)


def recipe(system: str, workers: int, table: Path, codes: Path) -> tuple[str, float]:
    """What a recipe printed, and the peak of its memory in MiB."""
    command, environment = SYSTEMS[system](workers)
    return run([*command, str(table), str(codes)], environment)


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[str, float]:
    """What the command printed, and the peak of the memory of all that it started, in MiB.

    A process belongs to it by a variable in its environment, since Spark and Ray start some that
    leave the tree of processes.  All have ended when this returns: else RuntimeError.
    """
    mark = f"ZEROPOINT_BENCH_RUN={uuid.uuid4().hex}"
    name, value = mark.split("=")
    variables = {**os.environ, "ZEROPOINT_NUM_THREADS": "1", **(environment or {}), name: value}
    ended = threading.Event()
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.5):
            peak = max(peak, sum(map(_pss, family(mark))))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        ran = subprocess.run(command, env=variables, capture_output=True, text=True)
    finally:
        ended.set()
        watching.join()
    if ran.returncode:
        raise RuntimeError(f"{command} failed:\n{ran.stdout}\n{ran.stderr}")
    for _ in range(100):  # some take a moment to end
        if not family(mark):
            return ran.stdout, peak
        threading.Event().wait(0.1)
    raise RuntimeError(f"{command} left processes: {family(mark)}")


def family(mark: str) -> list[int]:
    """The processes that have `mark` in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:  # it has ended, or is another user's
                continue
    return found


def _pss(process: int) -> float:
    """Memory of a process in MiB; a page that several share counts in parts."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(re.findall(r"^Pss:\s*(\d+) kB", text, re.MULTILINE)[0]) / 1024


def _say(text: str) -> None:
    print(f"bench.scale_out: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------
# The page


def markdown(document: dict[str, Any], rows: Sequence[Row]) -> str:
    """Where it ran, the table, and what it means for a billion rows."""
    machine, versions = document["machine"], document["versions"]
    dimensions = document["dimensions"]
    where = (
        f"Measured on {machine['cpu']}, {machine['cores']} cores; pyspark {versions['pyspark']} "
        f"with {JAVA_GIB} GiB for Java, ray {versions['ray']} with {OBJECTS_MIB} MiB of object "
        f"store, pyarrow {versions['pyarrow']}, {document['date'][:10]}, commit "
        f"{document['commit']}; rows of {dimensions} float32. Seconds to fit + to code, and the "
        "memory of all processes together:"
    )
    found = {(row.system, row.workers, row.rows): row for row in rows}
    sizes = sorted({row.rows for row in rows})
    head = ["", *(f"{size_name(size)} rows" for size in sizes), "rows/s between them"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    rates: dict[tuple[str, int], float] = {}
    for system in SYSTEMS:
        for workers in WORKERS:
            cells = [
                f"{row.fit_seconds:.1f} + {row.codes_seconds:.1f} s, {row.peak_mib:.0f} MiB"
                for row in (found[system, workers, size] for size in sizes)
            ]
            few, many = (found[system, workers, size] for size in (sizes[0], sizes[-1]))
            if many.seconds <= few.seconds:
                raise ValueError(
                    f"{system}: {size_name(many.rows)} rows took no longer than "
                    f"{size_name(few.rows)}; measure larger sizes, on a quiet machine"
                )
            rates[system, workers] = (many.rows - few.rows) / (many.seconds - few.seconds)
            name = f"{system}, {workers} worker{'s' * (workers != 1)}"
            rate = f"{rates[system, workers]:,.0f}"
            lines.append(f"| {' | '.join([name, *cells, rate])} |")
    compared, differing = sum(row.codes for row in rows), sum(row.differing for row in rows)
    same = f"Of {compared:,} codes {differing:,} differ from those of one process."
    return "\n\n".join([where, "\n".join(lines), same, _billion(rates, dimensions)])


def _billion(rates: dict[tuple[str, int], float], dimensions: int) -> str:
    """The arithmetic for a billion rows, which are more than was measured here."""
    each = []
    for system in SYSTEMS:
        hours = 1e9 / rates[system, 1] / 3600
        gain = rates[system, 2] / rates[system, 1]
        each.append(
            f"{system} {hours:.1f} h / N for rows of {dimensions}, and "
            f"{hours * 768 / dimensions:.0f} h / N for rows of 768 (two workers were {gain:.2f} "
            "times as fast as one)"
        )
    return (
        "**A billion rows** on N workers like these, from the rate of one worker between the two "
        f"sizes, where the start no longer counts: {'; '.join(each)}. A row of 768 is taken as "
        f"{768 / dimensions:g} of {dimensions}, and storage as fast as this page cache: such a "
        "table has 3 TB, which both passes read, so storage that delivers B GB/s needs 6000 / B s."
    )


if __name__ == "__main__":
    raise SystemExit(main())
