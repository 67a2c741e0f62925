"""The targets of speed, each measured and compared with its bound: ``python -m bench.targets``.

    python -m bench.targets                      all, in minutes
    python -m bench.targets --rows 64Ki,*numba   those whose name holds 64Ki or ends with numba
    python -m bench.targets --json FILE          the run as JSON too

A target is a ratio of two times of the same run: the calls of a target take turns, and the best
time of each counts, for a disturbance can only add time (where it says so, the median).  Results
are compared with the reference first.  Peers are called in their best way, with `out` where they
have it; a target for fresh results compares with fresh results.  The bounds were set for AVX-512.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import zeropoint as zp

from . import report
from .jobs import JOBS, KI, LOOKUPS, MI, OFFSET_SIZES, WIDTHS, Case, job_named, offset_job
from .machine import describe
from .suite import Entrance, Entry, OursIsWrong, made, times_of
from .systems import SYSTEMS, System
from .timing import Best

OURS, FRESH, AVX2, RINT = "zeropoint", "zeropoint-fresh", "zeropoint-avx2", "np.rint"
COPY = "file-copy"
PEERS = "numpy", "numpy-out", "numba", "onnxruntime", "torch", "litert"
#: not onnxruntime-fresh: the memory of a result that was dropped is that of the next one there,
#: and no page of it is new
FRESH_PEERS = "numpy", "numba-fresh", "torch"
#: us that np.rint of one element took on the machine where times were promised in us
RINT_US = 0.23


class Timing(NamedTuple):
    """What is timed: a system on a job."""

    system: str
    job: str
    size: int
    threads: int = 1
    #: this many elements are measured too, and their time taken off: what is left is the loop's,
    #: without the call's fixed cost
    less: int = 0

    def __str__(self) -> str:
        size = report.size_name(self.size) if self.size > 1 else "one element"
        less = f" less {self.less}" if self.less else ""
        threads = f", T{self.threads}" if self.threads > 1 else ""
        return f"{self.system} {self.job} ({size}{less}{threads})"


@dataclass(frozen=True)
class Target:
    """`ours` in relation to the fastest of `others`."""

    name: str
    ours: Timing
    others: tuple[Timing, ...]
    bound: float
    slower: bool = False  #: the bound is of our time in theirs, at most; else of speeds, at least
    median: bool = False

    def ratio(self, ours: float, other: float) -> float:
        return ours / other if self.slower else other / ours

    def met(self, ratio: float) -> bool:
        return ratio <= self.bound if self.slower else ratio >= self.bound


class Result(NamedTuple):
    target: Target
    seconds: float | None = None
    other: Timing | None = None  #: the fastest of the others
    other_seconds: float | None = None
    skipped: str = ""

    @property
    def ratio(self) -> float | None:
        if self.seconds is None or self.other_seconds is None:
            return None
        return self.target.ratio(self.seconds, self.other_seconds)

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "skipped"
        if self.target.met(self.ratio):
            return "met"
        return f"missed by {abs(self.ratio / self.target.bound - 1):.0%}"


# ---------------------------------------------------------------------------------------------
# The table


def _size_of(job: str) -> int:
    (size,) = job_named(job).sizes_of(None)
    return size


def _short(size: int) -> str:
    return report.size_name(size).replace(" ", "")


def _fixed(job: str, size: int = 1) -> Timing:
    """A call with a new result."""
    return Timing(FRESH if job_named(job).has_out else OURS, job, size)


def _small_calls() -> Iterator[Target]:
    quantize = (_fixed("quantize"),)
    for job in ("requantize", "saturate_cast", "round", "dequantize_float16", "saturate"):
        yield Target(f"one element {job}", _fixed(job), quantize, 3, slower=True)
    rint = (Timing(RINT, "quantize", 1),)
    for job in ("quantize", "dequantize", "fake_quantize"):  # the units must not get slower
        yield Target(f"one element {job}", _fixed(job), rint, 1.0, slower=True)
    for job, us in {
        "min_max": 0.35,
        "choose_params": 1,
        "dynamic_onnx": 1.1,
        "QuantParams": 2,
    }.items():
        name = f"one element {job}, {us} us"
        yield Target(name, _fixed(job), rint, us / RINT_US, slower=True)
    runtime = (Timing("onnxruntime", "dynamic_onnx", 1),)
    yield Target("one element dynamic_onnx", _fixed("dynamic_onnx"), runtime, 0.6, slower=True)
    forty = (_fixed("quantize", 40),)
    for job in ("strided_view", "float16", "bfloat16"):
        yield Target(f"40 elements {job}", _fixed(job, 40), forty, 4, slower=True)


def _in_cache() -> Iterator[Target]:
    def against(job: str, other: str, bound: float, ours: str = OURS) -> Target:
        name = f"64Ki {job} against {other}" + (", AVX2 forced" if ours == AVX2 else "")
        mine, theirs = (Timing(system, job, 64 * KI) for system in (ours, other))
        return Target(name, mine, (theirs,), bound)

    for job in ("quantize_onnx", "quantize_torch"):
        yield against(job, "litert", 0.95)
        # Our loop, that is, the call less one of one element.  An invoke passes no array, but its
        # fixed cost is more than a hand-over; so both ways, with it and without.
        loop, invoke = (Timing(system, job, 64 * KI, less=1) for system in (OURS, "litert"))
        name = f"64Ki {job}, our loop against litert's"
        yield Target(f"{name} invoke", loop, (invoke._replace(less=0),), 1.0)
        yield Target(f"{name} loop", loop, (invoke,), 1.0)
    yield against("quantize", "numba", 2.0)
    yield against("dequantize", "litert", 0.97)
    for job in ("fake_quantize", "fake_quantize_torch"):
        peers = tuple(Timing(peer, job, 64 * KI) for peer in PEERS)
        yield Target(f"64Ki {job} against peers", Timing(OURS, job, 64 * KI), peers, 1.3)
    yield against("dynamic_onnx", "onnxruntime", 1.5)
    yield against("quantize", "numba", 1.2, ours=AVX2)
    yield against("dequantize", "numba", 0.95, ours=AVX2)


def _layouts() -> Iterator[Target]:
    def part(job: str, fresh: bool, bound: float, size: int | None = None) -> Target:
        ours, plain = (FRESH, "plain-fresh") if fresh else (OURS, "plain")
        size = size or _size_of(job)
        name = f"part of plain {job}, {'fresh' if fresh else 'out'}"
        return Target(name, Timing(ours, job, size), (Timing(plain, job, size),), bound)

    for job in ("nhwc3", "nhwc64"):
        yield part(job, False, 0.8)
        yield part(job, True, 0.2)
    yield part("every_other", False, 0.4)
    yield part("big_endian", False, 0.7)
    yield part("dynamic_block32", True, 0.45)
    yield part("dynamic_block128", True, 0.7)
    yield part("dynamic_embeddings_rows", True, 0.8)
    size = _size_of("dynamic_filters")
    yield Target(
        "dynamic_filters against numba",
        Timing(FRESH, "dynamic_filters", size),
        (Timing("numba", "dynamic_filters", size),),
        1.3,
    )
    yield part("block32", False, 0.6, MI)
    yield part("float16", False, 0.9, MI)
    yield part("axis1", False, 0.7, MI)


def _in_memory() -> Iterator[Target]:
    rows = itertools.product((16, 64), ("quantize", "dequantize"), (1, 2), (False, True))
    for mi, job, threads, fresh in rows:
        others = FRESH_PEERS if fresh else PEERS
        yield Target(
            f"{mi}Mi {job} T{threads}, {'fresh' if fresh else 'out'}",
            Timing(FRESH if fresh else OURS, job, mi * MI, threads),
            tuple(Timing(other, job, mi * MI, threads) for other in others),
            0.95 if fresh else 1.0,
        )


def _busy() -> Iterator[Target]:
    for size, median in itertools.product((256 * KI, MI, 4 * MI, 16 * MI), (False, True)):
        name = f"busy CPUs {_short(size)} T2, {'median' if median else 'best'}"
        one, two = (Timing(OURS, "quantize_busy", size, threads) for threads in (1, 2))
        yield Target(name, two, (one,), 1.25, slower=True, median=median)


def _whole_arrays() -> Iterator[Target]:
    def passes(job: str, size: int, bound: float) -> Target:
        name = f"{_short(size)} {job} against min_max"
        ours, other = Timing(OURS, job, size), Timing(OURS, "min_max", size)
        return Target(name, ours, (other,), bound, slower=True)

    yield passes("error_stats", 64 * MI, 4)
    yield passes("compare", 64 * MI, 40)
    yield passes("HistogramObserver", 64 * MI, 2)
    yield passes("HistogramObserver", 64 * KI, 4)


def _formats() -> Iterator[Target]:
    """Beside the tools of the formats, and from file to file beside a copy."""

    def against(peer: str, ours: str, job: str, bound: float) -> Target:
        size = _size_of(job)
        mine, theirs = (Timing(system, job, size) for system in (ours, peer))
        return Target(f"{job} against {peer}", mine, (theirs,), bound)

    yield against("compressed-tensors", FRESH, "weights_rows", 5)
    yield against("compressed-tensors", FRESH, "weights_groups", 5)
    yield against("gguf", OURS, "q8_0", 10)
    yield against("gguf", OURS, "q8_0_float16", 10)
    yield against("gguf", OURS, "dequantize_q8_0", 2)
    for job in ("W8A8", "W8A16", "comfyui", "q8_0", "W8A8_back", "q8_0_back"):
        job = f"files_{job}"
        one, two = (Timing(OURS, job, _size_of(job), threads) for threads in (1, 2))
        copy = Timing(COPY, job, one.size)
        yield Target(f"{job} against a copy", one, (copy,), 1.5, slower=True)
        yield Target(f"{job} on two threads against one", two, (one,), 1, slower=True)


def _offsets() -> Iterator[Target]:
    """Real offsets beside integer zero points, missing values beside none, and the tools."""

    def of(part: float, ours: str, other: str, size: int, system: str = OURS) -> Target:
        name = f"{_short(size)} {ours} against {'' if system == OURS else f'{system} '}{other}"
        return Target(name, Timing(OURS, ours, size), (Timing(system, other, size),), part)

    operations = "quantize", "dequantize"
    for size, operation, columns in itertools.product(OFFSET_SIZES, operations, (None, *WIDTHS)):
        integer = offset_job("numpy", operation, columns)
        for convention in zp.OFFSET_CONVENTIONS:
            yield of(0.7, offset_job(convention, operation, columns), integer, size)
    for size, job in itertools.product(OFFSET_SIZES, operations):
        yield of(0.5, f"{job}_missing", job, size)
        yield of(0.5, f"{job}_cf_missing", f"{job}_cf", size)
    for size in (64 * KI, MI, 64 * MI):
        yield of(0.7, "min_max_skip_nan", "min_max", size)
        yield of(2, "min_max_skip_nan", "min_max_skip_nan", size, "numpy")
    embeddings = "sentence-transformers"
    for ours, job, tool, bound in (
        (OURS, "faiss", "faiss", 4),
        (OURS, "faiss_back", "faiss", 1),
        (FRESH, embeddings, embeddings, 8),
        (FRESH, f"{embeddings}_int8", embeddings, 8),
        (FRESH, "cf", "xarray", 5),
        (FRESH, "cf_back", "xarray", 3),
    ):
        mine, theirs = (Timing(system, job, _size_of(job)) for system in (ours, tool))
        yield Target(f"{job} against {tool}", mine, (theirs,), bound)


def _lookups() -> Iterator[Target]:
    """Codes to codes beside a loop that only moves the bytes; the whole of the call counts."""
    jobs = [job for job in JOBS if job.operation in LOOKUPS]
    for system, job, wanted in itertools.product((OURS, AVX2), jobs, (64 * KI, 64 * MI)):
        case = Case(job, wanted)  # of whole images
        size = _short(wanted) if job.axis is None else f"{case.shape[0]} images"
        name = f"{size} {job.name}{' on avx2' * (system == AVX2)} against a copy"
        mine, copy = (Timing(each, job.name, case.size) for each in (system, "bare-loop"))
        yield Target(name, mine, (copy,), 1.5, slower=True)


TARGETS = (
    *_small_calls(),
    *_in_cache(),
    *_layouts(),
    *_in_memory(),
    *_busy(),
    *_whole_arrays(),
    *_formats(),
    *_offsets(),
    *_lookups(),
)


# ---------------------------------------------------------------------------------------------
# The measurement


class Measurement:
    """Measures one target after the other; what the next one needs again is kept."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kinds = {kind.name: kind for kind in SYSTEMS}
        self._systems: dict[str, System | str] = {}
        self._entrances: dict[tuple[str, int], Entrance] = {}

    def result(self, target: Target) -> Result:
        timings = (target.ours, *target.others)
        parts = {
            timing._replace(size=size, less=0)
            for timing in timings
            for size in (timing.size, timing.less)
            if size
        }
        needed = {(part.job, part.size) for part in parts}
        self._entrances = {key: self._entrances.get(key) or _entrance(*key) for key in needed}
        entered = {part: self._enter(part) for part in parts}
        entries = {part: entry for part, entry in entered.items() if isinstance(entry, Entry)}
        case = self._entrances[target.ours.job, target.ours.size].case
        return result_of(target, entered, times_of(entries, case, self._seconds))

    def _system(self, name: str) -> System | str:
        """Made when it is first asked for; the reason if it is not installed."""
        if name == f"zeropoint-{zp.backends()[0]}":
            name = OURS  # forced is what it does anyway
        if name not in self._systems:
            kind = self._kinds.get(name)
            self._systems[name] = made(kind) if kind else "not a backend of this zeropoint"
        return self._systems[name]

    def _enter(self, part: Timing) -> Entry | str:
        entrance = self._entrances[part.job, part.size]
        if reason := entrance.case.why_not():
            return reason
        system = self._system(part.system)
        if isinstance(system, str):
            return system
        entry = entrance.enter(system, part.threads)
        wrong = isinstance(entry, Entry) and system.role == "peer" and entry.verdict.wrong
        return "its result is wrong" if wrong else entry


def _entrance(job: str, size: int) -> Entrance:
    return Entrance(Case(job_named(job), size))


def result_of(
    target: Target, entered: Mapping[Timing, Entry | str], times: Mapping[Timing, Best]
) -> Result:
    def seconds(timing: Timing) -> float | None:
        whole, less = (timing._replace(size=size, less=0) for size in (timing.size, timing.less))
        if whole not in times or (timing.less and less not in times):
            return None
        off = times[less] if timing.less else Best(0, 0, 0)
        got = times[whole]
        return got.median - off.median if target.median else got.seconds - off.seconds

    ours = seconds(target.ours)
    others = {timing: found for timing in target.others if (found := seconds(timing)) is not None}
    if ours is None or not others:
        timings = (target.ours,) if ours is None else target.others
        reasons = {f"{timing.system}: {entered[timing._replace(less=0)]}" for timing in timings}
        return Result(target, ours, skipped="; ".join(sorted(reasons)))
    fastest = min(others, key=lambda timing: others[timing])
    return Result(target, ours, fastest, others[fastest])


# ---------------------------------------------------------------------------------------------
# The command


def line(result: Result) -> str:
    target, ratio = result.target, result.ratio
    bound = f"{'<=' if target.slower else '>='} {target.bound:.3g}"
    if ratio is None or result.other is None or result.other_seconds is None:
        return f"{'skipped':15} {target.name}: {result.skipped}"
    assert result.seconds is not None
    times = f"{report.time_name(result.seconds)} : {report.time_name(result.other_seconds)}"
    return f"{result.verdict:15} {target.name}: {ratio:.3g} ({bound})  [{times} {result.other}]"


def _plain(result: Result) -> dict[str, Any]:
    return {
        "name": result.target.name,
        "verdict": result.verdict,
        "ratio": result.ratio,
        "at_most" if result.target.slower else "at_least": result.target.bound,
        "seconds": result.seconds,
        "other": str(result.other) if result.other else None,
        "other_seconds": result.other_seconds,
        "skipped": result.skipped,
        "median": result.target.median,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.targets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default="*", help="names, comma-separated, * is a wildcard")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each call of a target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the run here")
    parser.add_argument("--list", action="store_true", help="the names, nothing is measured")
    options = parser.parse_args(arguments)
    patterns = [f"*{pattern}*" for pattern in options.rows.split(",")]
    chosen = [
        target
        for target in TARGETS
        if any(fnmatchcase(target.name, pattern) for pattern in patterns)
    ]
    if not chosen:
        print(f"no target is named {options.rows}; --list shows them", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(target.name for target in chosen))
        return 0
    return _run(chosen, options.seconds, options.json)


def _run(chosen: Sequence[Target], seconds: float, path: Path | None) -> int:
    packages = sorted({kind.package for kind in SYSTEMS if hasattr(kind, "package")})
    head = {"seconds_per_call": seconds, **describe(packages)}
    measurement, results = Measurement(seconds), []
    for target in chosen:
        try:
            results.append(measurement.result(target))
        except OursIsWrong as error:
            print(f"bench: zeropoint is wrong: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        print(line(results[-1]), flush=True)
        if path:
            report.save(path, head, "targets", [_plain(result) for result in results])
    count = sum(result.verdict == "met" for result in results)
    skipped = sum(result.verdict == "skipped" for result in results)
    print(f"{count} met, {len(results) - count - skipped} missed, {skipped} skipped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
