"""Best of many, in interleaved rounds.

What disturbs a measurement (another process, a change of clock, a full cache) lasts for a while.
So the systems take turns, and what hits one hits its neighbours too; and since a disturbance can
only add time, the shortest time of a system is its truest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from timeit import Timer
from typing import Any

MIN_ROUNDS = 3
LONG = 10.0  # s; who needs as much is not asked again
SAMPLE = 2e-3  # s; far above the clock's resolution and the cost of waking a thread pool
BATCHES = 10  # of two runs without a difference, the lower halves lie apart once in 30
REST = 5e-3  # s; the pools of OpenMP and ONNX Runtime spin for a while before they sleep


class Timed:
    """A callable, and the context (backend, number of threads) that it must run in."""

    def __init__(
        self, run: Callable[[], Any], context: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.times: list[float] = []  #: s a call, of each sample
        self._timer, self._context = Timer(run), context
        self._spent = 0.0

    def take(self, seconds: float) -> bool:
        """Take a sample; False when the time is used up."""
        started = time.perf_counter()
        # The first sample is one call; from then on as many as fill the time of a sample.
        calls = max(1, round(SAMPLE / min(self.times))) if self.times else 1
        with self._context():
            if calls > 1:
                self._timer.timeit(1)  # the data back into the cache, the pool awake
            self.times.append(self._timer.timeit(calls) / calls)
        self._spent += time.perf_counter() - started
        few = len(self.times) < MIN_ROUNDS and self._spent < LONG
        return few or self._spent < seconds


@dataclass(frozen=True)
class Best:
    seconds: float
    samples: int
    median: float  #: what a caller sees on a machine that has other work, too
    batches: tuple[float, ...] = ()  #: the best of each of `BATCHES` parts of the samples, in turn


def best_times(timed: Mapping[str, Timed], seconds: float, rest: bool) -> dict[str, Best]:
    """The shortest time of a call of each; `seconds` for each, at least `MIN_ROUNDS` samples.

    One that has used up its time leaves the rounds.  With `rest` there is a pause between any
    two, so that the idle threads of one do not take the processor from the next.
    """
    running = dict(timed)
    while running:
        for name in list(running):
            if rest:
                time.sleep(REST)
            if not running[name].take(seconds):
                del running[name]
    return {
        name: Best(
            min(each.times), len(each.times), statistics.median(each.times), batches(each.times)
        )
        for name, each in timed.items()
    }


def batches(times: Sequence[float]) -> tuple[float, ...]:
    """The best of each part of the samples: how far they lie apart is how sure the best is.

    The first sample is a single call, which finds cold caches and new pages; where there are
    enough others it does not count.
    """
    times = times[1:] if len(times) > BATCHES else times
    parts = min(BATCHES, len(times))
    edges = [len(times) * i // parts for i in range(parts + 1)]
    return tuple(min(times[a:b]) for a, b in pairwise(edges))
