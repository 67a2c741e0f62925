"""A run: every system on every job, size and number of threads; checked, then timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from .check import Oracle, Verdict
from .jobs import Case, Job
from .systems import SYSTEMS, Call, Declined, System
from .timing import Best, Timed, best_times


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


class Skips:
    """What was left out, and why."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], list[str]] = {}

    def add(self, system: str, reason: str, job: str = "every job") -> None:
        jobs = self._jobs.setdefault((system, reason), [])
        if job not in jobs:
            jobs.append(job)

    def listed(self) -> list[dict[str, object]]:
        return [
            {"system": system, "reason": reason, "jobs": jobs}
            for (system, reason), jobs in self._jobs.items()
        ]


def installed(names: Sequence[str], skips: Skips) -> list[System]:
    """The systems of these names that can be had here."""
    systems = []
    for kind in SYSTEMS:
        if kind.name in names:
            try:
                systems.append(kind())
            except ImportError as error:
                skips.add(kind.name, str(error))
    return systems


def run(
    systems: Sequence[System],
    jobs: Sequence[Job],
    sizes: Sequence[int],
    threads: Sequence[int],
    seconds: float,
    skips: Skips,
    progress: Callable[[str], None],
) -> Iterator[list[Row]]:
    """Measure; yields the rows of each cell as it is done."""
    for job in jobs:
        for size in sizes:
            case = Case(job, size)
            if reason := case.why_not():
                skips.add("everybody", reason, job.name)
                continue
            oracle = Oracle(case)
            for count in threads:
                progress(f"{job.name}, size {size}, threads {count}")
                cell = _Cell(case, count, oracle)
                for system in systems:
                    cell.enter(system, skips)
                rows = cell.measure(seconds)
                if any(row.role != "yardstick" for row in rows):
                    yield rows


@dataclass(frozen=True)
class _Entry:
    system: System
    call: Call
    verdict: Verdict


class _Cell:
    def __init__(self, case: Case, threads: int, oracle: Oracle) -> None:
        self._case, self._threads, self._oracle = case, threads, oracle
        self._entries: dict[str, _Entry] = {}

    def enter(self, system: System, skips: Skips) -> None:
        """Prepare and check a system's call.  A peer that fails is left out, ours must not."""
        try:
            call = system.prepare(self._case, self._threads)
            with system.context(self._threads):
                verdict = self._verdict(system, call)
        except Declined as reason:
            if system.role != "yardstick":
                skips.add(system.name, str(reason), self._case.job.name)
            return
        except Exception as error:
            if system.role == "ours":
                raise
            message = str(error).splitlines() or [""]
            skips.add(
                system.name, f"failed: {type(error).__name__}: {message[0]}", self._case.job.name
            )
            return
        if system.role == "ours" and verdict.wrong:
            raise OursIsWrong(
                f"{system.name}, {self._case.job.name}, size {self._case.size}, threads "
                f"{self._threads}: {verdict.wrong} elements are not the reference's"
            )
        self._entries[system.name] = _Entry(system, call, verdict)

    def _verdict(self, system: System, call: Call) -> Verdict:
        if system.role == "yardstick":
            call.run()
            return Verdict(0, 0)
        return self._oracle.verdict(call)

    def measure(self, seconds: float) -> list[Row]:
        timed = {
            name: Timed(entry.call.run, partial(entry.system.context, self._threads))
            for name, entry in self._entries.items()
        }
        times = best_times(timed, seconds, rest=self._threads > 1)
        rivals = [times[name].seconds for name in self._entries if self._is_rival(name)]
        fastest = min(rivals, default=None)
        numpy, bare = (
            times[name].seconds if name in times else None for name in ("numpy", "bare-loop")
        )

        def ratio(of: float | None, best: Best) -> float | None:
            return None if of is None else _rounded(of / best.seconds)

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
                seconds=_rounded(times[name].seconds),
                samples=times[name].samples,
                gelem_per_s=_rounded(self._case.size / times[name].seconds / 1e9),
                gbyte_per_s=_rounded(
                    self._case.size * self._case.job.bytes_per_element / times[name].seconds / 1e9
                ),
                vs_fastest_peer=ratio(fastest, times[name]),
                vs_numpy=ratio(numpy, times[name]),
                of_bare_loop=ratio(bare, times[name]),
                another=entry.verdict.another,
            )
            for name, entry in self._entries.items()
        ]

    def _is_rival(self, name: str) -> bool:
        """Counts as a fastest peer: right, and for one element from array to array like us."""
        entry = self._entries[name]
        one_element_inside = self._case.size == 1 and not entry.system.moves_arrays
        return entry.system.role == "peer" and not entry.verdict.wrong and not one_element_inside


def _rounded(value: float) -> float:
    """Six significant digits: more would be noise, and noise in a committed file."""
    return float(f"{value:.6g}")
