"""A run: every system on every job, size and number of threads; checked, then timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from .check import Oracle, Verdict
from .jobs import FEW, Case, Job
from .loads import BUSY, CALLER, SecondCaller, busy_cpus
from .systems import SYSTEMS, Call, Declined, System
from .timing import Best, Timed, best_times

EVERYBODY, EVERY_JOB = "everybody", "every job"


class OursIsWrong(Exception):
    """zeropoint differs from its reference: there is nothing to time."""


@dataclass(frozen=True)
class Row:
    """What one system did in one cell (a job at a size on a number of threads)."""

    job: str
    size: int
    threads: int
    system: str
    role: str
    moves_arrays: bool
    arithmetic: str
    wrong: int
    differ: int
    seconds: float
    samples: int
    gelem_per_s: float
    gbyte_per_s: float
    vs_fastest_peer: float | None  #: > 1: faster than every peer
    vs_numpy: float | None  #: against NumPy by hand
    of_bare_loop: float | None
    another: int = 0
    of_plain: float | None = None  #: against ours per tensor on contiguous float32
    median_seconds: float | None = None
    batches: tuple[float, ...] = ()  #: s, the best of each part of the samples: `timing.batches`

    @property
    def cell(self) -> tuple[str, int, int]:
        return self.job, self.size, self.threads


class Skips:
    """What was left out, and why."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], list[str]] = {}

    def add(self, system: str, reason: str, job: str = EVERY_JOB) -> None:
        jobs = self._jobs.setdefault((system, reason), [])
        if job not in jobs:
            jobs.append(job)

    def listed(self) -> list[dict[str, object]]:
        return [
            {"system": system, "reason": reason, "jobs": jobs}
            for (system, reason), jobs in self._jobs.items()
        ]


def made(kind: type[System]) -> System | str:
    """A system, or why it cannot be had here."""
    try:
        return kind()
    except ImportError as error:
        return str(error)


def installed(names: Sequence[str], skips: Skips) -> list[System]:
    """The systems of these names that can be had here."""
    systems = []
    for kind in SYSTEMS:
        if kind.name in names:
            system = made(kind)
            if isinstance(system, str):
                skips.add(kind.name, system)
            else:
                systems.append(system)
    return systems


def run(
    systems: Sequence[System],
    jobs: Sequence[Job],
    sizes: tuple[int, ...] | None,
    threads: Sequence[int],
    seconds: float,
    skips: Skips,
    progress: Callable[[str], None],
) -> Iterator[list[Row]]:
    """Measure; yields the rows of each cell as it is done."""
    whole = sum(
        len(threads if size > FEW else threads[:1]) for job in jobs for size in job.sizes_of(sizes)
    )
    done = 0
    for job in jobs:
        if not job.sizes_of(sizes):
            own = ", ".join(map(str, job.sizes_of(None)))
            skips.add(EVERYBODY, f"none of these sizes; its own are {own}", job.name)
        for size in job.sizes_of(sizes):
            case = Case(job, size)
            counts = threads if size > FEW else threads[:1]
            done += len(counts)
            if reason := case.why_not():
                skips.add(EVERYBODY, reason, job.name)
                continue
            entrance = Entrance(case)
            for i, count in enumerate(counts, done + 1 - len(counts)):
                elements = "1 element" if size == 1 else f"{size} elements"
                named = "1 thread" if count == 1 else f"{count} threads"
                progress(f"[{i}/{whole}] {job.name}, {elements}, {named}")
                cell = _Cell(entrance, count)
                for system in systems:
                    cell.enter(system, skips)
                rows = cell.measure(seconds)
                if any(row.role != "yardstick" for row in rows):
                    yield rows


class Entry(NamedTuple):
    """A system's call that has been checked."""

    system: System
    call: Call
    verdict: Verdict
    threads: int

    def timed(self) -> Timed:
        return Timed(self.call.run, self._context)

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        self.call.before()
        with self.system.context(self.threads):
            yield


class Entrance:
    """Who comes through has prepared its call for a case, and its result has been compared."""

    def __init__(self, case: Case) -> None:
        self.case, self._to_check = case, case.to_check()
        self._oracle = Oracle(self._to_check)

    def enter(self, system: System, threads: int) -> Entry | str:
        """The call, or why there is none.  A peer may fail, zeropoint must not."""
        case = self.case
        if case.job.load == CALLER and system.role == "peer":
            return "not called from two threads at once"
        try:
            call = system.prepare(case, threads)
            checked = call if self._to_check is case else system.prepare(self._to_check, threads)
            with system.context(threads):
                verdict = self._verdict(system, checked)
        except Declined as reason:
            return str(reason)
        except Exception as error:
            if system.role == "ours":
                raise
            message = str(error).splitlines() or [""]
            return f"failed: {type(error).__name__}: {message[0]}"
        if system.role == "ours" and verdict.wrong:
            raise OursIsWrong(
                f"{system.name}, {case.job.name}, size {case.size}, threads {threads}: "
                f"{verdict.wrong} elements are not the reference's"
            )
        return Entry(system, call, verdict, threads)

    def _verdict(self, system: System, call: Call) -> Verdict:
        if system.role == "yardstick":
            call.run()
            return Verdict(0, 0)
        return self._oracle.verdict(call)


def times_of(entries: Mapping[Any, Entry], case: Case, seconds: float) -> dict[Any, Best]:
    """The times of these calls, while the machine does what the case's job says."""
    timed = {key: entry.timed() for key, entry in entries.items()}
    rest = any(entry.threads > 1 for entry in entries.values())
    with contextlib.ExitStack() as stack:
        if case.job.load == BUSY:
            stack.enter_context(busy_cpus())
        if case.job.load == CALLER:
            for key, entry in entries.items():
                other = entry.system.prepare(Case(case.job, case.size), entry.threads)
                second = SecondCaller(other.run, entry.system.context(entry.threads))
                stack.callback(second.end)
                timed[key] = Timed(entry.call.run, partial(_both, entry, second))
        return best_times(timed, seconds, rest=rest)


@contextlib.contextmanager
def _both(entry: Entry, second: SecondCaller) -> Iterator[None]:
    with entry.system.context(entry.threads), second.calling():
        yield


class _Cell:
    def __init__(self, entrance: Entrance, threads: int) -> None:
        self._case, self._threads, self._entrance = entrance.case, threads, entrance
        self._entries: dict[str, Entry] = {}

    def enter(self, system: System, skips: Skips) -> None:
        entry = self._entrance.enter(system, self._threads)
        if isinstance(entry, Entry):
            self._entries[system.name] = entry
        elif system.role != "yardstick":
            skips.add(system.name, entry, self._case.job.name)

    def measure(self, seconds: float) -> list[Row]:
        times = times_of(self._entries, self._case, seconds)
        rivals = [times[name].seconds for name in self._entries if self._is_rival(name)]
        fastest = min(rivals, default=None)
        numpy, bare = (
            times[name].seconds if name in times else None for name in ("numpy", "bare-loop")
        )

        def ratio(of: float | None, best: Best) -> float | None:
            return None if of is None else of / best.seconds

        return [
            Row(
                job=self._case.job.name,
                size=self._case.size,
                threads=self._threads,
                system=name,
                role=entry.system.role,
                moves_arrays=entry.system.moves_arrays,
                arithmetic=entry.call.arithmetic.name,
                wrong=entry.verdict.wrong,
                differ=entry.verdict.differ,
                seconds=times[name].seconds,
                samples=times[name].samples,
                gelem_per_s=self._case.size / times[name].seconds / 1e9,
                gbyte_per_s=self._case.size
                * self._case.job.bytes_per_element
                / times[name].seconds
                / 1e9,
                vs_fastest_peer=ratio(fastest, times[name]),
                vs_numpy=ratio(numpy, times[name]),
                of_bare_loop=ratio(bare, times[name]),
                of_plain=self._of_plain(name, times),
                median_seconds=times[name].median,
                another=entry.verdict.another,
                batches=times[name].batches,
            )
            for name, entry in self._entries.items()
        ]

    def _of_plain(self, name: str, times: Mapping[str, Best]) -> float | None:
        if self._entries[name].system.role != "ours":
            return None
        plain = "plain-fresh" if name == "zeropoint-fresh" else "plain"
        return times[plain].seconds / times[name].seconds if plain in times else None

    def _is_rival(self, name: str) -> bool:
        return is_rival(self._entries[name], self._case.size)


def is_rival(entry: Entry, size: int) -> bool:
    """Counts as a fastest peer: right, and for one element from array to array like us."""
    one_element_inside = size == 1 and not entry.system.moves_arrays
    return entry.system.role == "peer" and not entry.verdict.wrong and not one_element_inside
