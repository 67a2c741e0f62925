"""The jobs by what somebody wants to do, and one line for each: is it faster for my case?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .jobs import FEW, FILES, JOBS, LOOKUPS, Job
from .report import aligned, size_name, threads_name, time_name
from .suite import Row

#: conventions whose tools make new results
_NO_OUT = ("cf", "sentence-transformers")
_JOBS = {job.name: job for job in JOBS}


@dataclass(frozen=True)
class Group:
    """What somebody wants to do."""

    name: str
    title: str
    text: str  #: what is in it

    @property
    def jobs(self) -> list[Job]:
        return [job for job in JOBS if _GROUP_OF[job.name] is self]


QUANTIZE = Group("quantize", "Quantize", "float32 to uint8, one scale for the whole array")
DEQUANTIZE = Group("dequantize", "Dequantize", "uint8 to float32, one scale")
FAKE = Group("fake", "Quantize and back", "fake_quantize: float32 to float32 through the codes")
DYNAMIC = Group("dynamic", "Dynamic", "the range found in the data, then quantized")
CHANNELS = Group("channels", "Per channel, per block", "a scale for each row, column or block")
HALF = Group("half", "float16", "to and from codes, one scale")
EMBEDDINGS = Group(
    "embeddings", "Embeddings", "by row or by dimension; the codes of faiss, sentence-transformers"
)
CODES = Group("codes", "Codes to codes", "requantized, activations, pixels: by a table")
LAYOUTS = Group("layouts", "Images, strided views", "permuted, cropped, strided, byte-swapped")
ARRAYS = Group("arrays", "Scientific arrays", "CF packing as in xarray; missing values")
FILES_ = Group("files", "Weights, files of models", "what vLLM, llama.cpp and ComfyUI load")
RANGES = Group("ranges", "Ranges, calibration, errors", "min and max, observers, error_stats")
CALLS = Group("calls", "Small calls", f"up to {FEW} elements: what a call costs")
LOADED = Group("loaded", "A busy machine", "quantize while other processes or threads work")
OTHER = Group("other", "Other", "jobs that this version of the suite does not have")

#: in the order of pages
GROUPS = (
    *(QUANTIZE, DEQUANTIZE, FAKE, DYNAMIC, CHANNELS, HALF, EMBEDDINGS, CODES, LAYOUTS, ARRAYS),
    *(FILES_, RANGES, CALLS, LOADED, OTHER),
)


def group_of_job(job: Job) -> Group:
    """Where a job belongs, whatever the size; the first that fits."""
    weights = job.name.startswith("weights")
    embeddings = "embeddings" in job.name or job.columns is not None
    for fits, group in (
        (max(job.sizes_of(None)) <= FEW, CALLS),
        (bool(job.load), LOADED),
        (job.operation in LOOKUPS, CODES),
        (job.operation in FILES or "q8_0" in job.operation or weights, FILES_),
        (job.missing or job.convention == "cf", ARRAYS),
        (embeddings or job.has_offset, EMBEDDINGS),
        (bool(job.view), LAYOUTS),
        (job.operation == "quantize_dynamic", DYNAMIC),
        (job.axis is not None, CHANNELS),
        (job.real != "float32", HALF),
        (job.operation == "quantize", QUANTIZE),
        (job.operation == "dequantize", DEQUANTIZE),
        (job.operation == "fake_quantize", FAKE),
    ):
        if fits:
            return group
    return RANGES


_GROUP_OF = {job.name: group_of_job(job) for job in JOBS}


def group_of(row: Row) -> Group:
    """Of a row: few elements are a matter of the call, whatever the job."""
    if row.size <= FEW:
        return CALLS
    return _GROUP_OF.get(row.job, OTHER)


def by_group(rows: Iterable[Row]) -> dict[Group, list[Row]]:
    """In the order of `GROUPS`; those without rows are left out."""
    found: dict[Group, list[Row]] = {group: [] for group in GROUPS}
    for row in rows:
        found[group_of(row)].append(row)
    return {group: members for group, members in found.items() if members}


@dataclass(frozen=True)
class Ratios:
    """How many times as fast, over several cells."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The geometric one: twice and half as fast are as fast."""
        return math.exp(math.fsum(map(math.log, self.values)) / len(self.values))

    def __str__(self) -> str:
        if not self.values:
            return ""
        low, high = times(min(self.values)), times(max(self.values))
        return low if low == high else f"{times(self.mean)} ({low[:-2]} to {high[:-2]})"


def times(ratio: float | None) -> str:
    """A ratio of times, as all pages show it."""
    if ratio is None:
        return ""
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return f"{ratio:.{digits}f} x"


@dataclass(frozen=True)
class Answer:
    """A group in one line: ours against NumPy by hand and against the fastest peer."""

    group: Group
    cells: int
    numpy: Ratios
    peer: Ratios


def shown_system(job: Job | None, size: int) -> str:
    """Ours that pages show: with `out`, but with new results where others have no `out`."""
    if job is not None and job.has_out and (size <= FEW or job.convention in _NO_OUT):
        return "zeropoint-fresh"
    return "zeropoint"


def answers(rows: Sequence[Row], threads: int = 1, isa: str = "") -> list[Answer]:
    """One for each group that was measured on so many threads; `isa` is a backend forced."""

    def is_shown(row: Row) -> bool:
        wanted = f"zeropoint-{isa}" if isa else shown_system(_JOBS.get(row.job), row.size)
        return row.threads == threads and row.system == wanted

    return [
        Answer(
            group,
            len(members),
            Ratios(tuple(row.vs_numpy for row in members if row.vs_numpy)),
            Ratios(tuple(row.vs_fastest_peer for row in members if row.vs_fastest_peer)),
        )
        for group, members in by_group(filter(is_shown, rows)).items()
    ]


def answers_text(rows: Sequence[Row]) -> str:
    """Is it faster for my case?  For the terminal, on the fewest threads."""
    threads = min((row.threads for row in rows), default=1)
    lines = [
        (each.group.title, str(each.cells), str(each.numpy), str(each.peer))
        for each in answers(rows, threads)
    ]
    titles = (f"on {threads_name(threads)}", "cells", "NumPy by hand", "the fastest other")
    return f"How many times as fast as\n{aligned([titles, *lines])}"


def table(group: Group, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """All cells of a group: titles and lines.  Columns that say nothing are left out."""
    found = {(*row.cell, row.system): row for row in rows}
    fastest = {
        row.cell: row.system for row in rows if row.role == "peer" and row.vs_fastest_peer == 1
    }
    counts = sorted({row.threads for row in rows})
    columns: dict[str, list[str]] = {}
    cells = dict.fromkeys((row.job, row.size) for row in rows)
    done = []
    for job, size in cells:
        kind = _JOBS.get(job)
        system = shown_system(kind, size)
        line: dict[str, str] = {}
        for threads in counts:
            row = found.get((job, size, threads, system))
            if row is None:
                continue
            name = threads_name(threads)
            line[f"time, {name}"] = time_name(row.seconds)
            if group is LOADED and row.median_seconds:
                line[f"median, {name}"] = time_name(row.median_seconds)
            if row.vs_fastest_peer:
                beside = fastest.get(row.cell, "")
                line[f"as the fastest other, {name}"] = (
                    f"{times(row.vs_fastest_peer)} {beside}".strip()
                )
            if threads != counts[0]:
                continue
            if size > FEW:
                line["Gelem/s"] = f"{row.gelem_per_s:.2g}"
            line["as NumPy by hand"] = times(row.vs_numpy)
            forced = found.get((job, size, threads, "zeropoint-avx2"))
            if forced is not None:
                line["as the fastest other, AVX2 alone"] = times(forced.vs_fastest_peer)
            if group is not CALLS and row.of_plain:
                line["part of plain speed"] = f"{row.of_plain:.0%}"
            copy = found.get((job, size, threads, "file-copy"))
            if copy is not None:
                line["time of a copy"] = times(row.seconds / copy.seconds)
            elif group is CODES and row.of_bare_loop:
                line["time of a copy"] = times(1 / row.of_bare_loop)
            cheapest = found.get((job, size, threads, "np.rint"))
            if cheapest is not None:
                line["calls of np.rint"] = f"{row.seconds / cheapest.seconds:.2g}"
        if line:
            title = f"`{job}`: {kind.title}" if kind else f"`{job}`"
            done.append({"work": title, "elements": size_name(size), **line})
            columns |= {name: [] for name in done[-1] if done[-1][name]}
    order = sorted(columns, key=lambda name: _order(name))
    return order, [[line.get(name, "") for name in order] for line in done]


#: columns from left to right, by how their names begin
_COLUMNS = (
    *("work", "elements", "time, 1 ", "median, 1 ", "Gelem/s", "as NumPy", "calls of"),
    *("as the fastest other, 1 ", "as the fastest other, AVX2", "part of", "time of a copy"),
    *("time, ", "median, ", "as the fastest"),
)


def _order(name: str) -> int:
    return next(i for i, start in enumerate(_COLUMNS) if name.startswith(start))
