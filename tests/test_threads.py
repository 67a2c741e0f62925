"""Threads: the same bits for any number of them, many callers, forks, and the settings."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

import zeropoint as zp
from zeropoint.embeddings import EmbeddingQuantizer

X = (np.random.default_rng(1).normal(size=(300, 1000, 4)) * 3).astype(np.float32)
CORE = len(zp.backends()) > 1
needs_core = pytest.mark.skipif(not CORE, reason="the compiled core is absent")


@pytest.fixture(autouse=True)
def automatic() -> Iterator[None]:
    yield
    zp.set_num_threads(0)


def results(x: np.ndarray) -> bytes:
    found = [*zp.min_max(x), *zp.min_max(x, channel_axis=0), *zp.min_max(x, channel_axis=2)]
    for axis, block in [(None, None), (0, None), (1, None), (2, None), (1, 32), (1, 7), (2, 3)]:
        params = zp.choose_params(x, axis=axis, block_size=block)
        q = params.quantize(x)
        found += [q, params.dequantize(q), params.fake_quantize(x)]
    half = x.astype(np.float16)
    found += [zp.round(x), zp.saturate(half, -2, 2), zp.choose_params(half).quantize(half)]
    for axis in (None, 0, 2):
        found.append(zp.HistogramObserver(axis=axis).update(x)._table)
    return b"".join(np.asarray(value).tobytes() for value in found)


def same_bits(numbers: Iterable[int]) -> None:
    zp.set_num_threads(1)
    expected = results(X)
    for threads in numbers:
        zp.set_num_threads(threads)
        assert results(X) == expected, threads


@pytest.mark.slow("large arrays, many times")
def test_same_bits_for_any_number(native: str) -> None:
    same_bits((2, 3, 5, 16))  # tests/deep: all of them


def test_a_nan_is_found_by_any_thread(native: str) -> None:
    zp.set_num_threads(4)
    for where in [(0, 0, 0), (149, 500, 1), (299, 999, 3)]:
        x = X.copy()
        x[where] = np.nan
        for axis in (None, 0, 1, 2):
            with pytest.raises(ValueError, match="x has 1 NaN or Inf"):
                zp.min_max(x, channel_axis=axis)


def many_callers(callers: int, rounds: int) -> None:
    """Threads that call different operations at once; each gets what it gets alone."""
    zp.set_num_threads(3)
    params = zp.choose_params(X)
    q = params.quantize(X)
    calls: list[Callable[[], np.ndarray]] = [
        lambda: params.quantize(X),
        lambda: params.dequantize(q),
        lambda: np.stack(zp.min_max(X, channel_axis=2)),
        lambda: zp.round(X),
    ]
    expected = [call().tobytes() for call in calls]
    wrong: list[int] = []

    def work(i: int, context: contextvars.Context) -> None:
        for k in range(i, i + rounds):
            k %= len(calls)
            if context.run(calls[k]).tobytes() != expected[k]:
                wrong.append(k)

    threads = [
        threading.Thread(target=work, args=(i, contextvars.copy_context())) for i in range(callers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.slow("eight callers of large arrays")
def test_many_callers(native: str) -> None:
    many_callers(8, 8)


SMALL = X.reshape(-1, 4)[:500]


def first_uses(k: int) -> list[Callable[[], object]]:
    """Calls that make something at their first use: of objects that are new, and of
    keywords that no call has named."""
    chosen = zp.choose_params(SMALL, axis=1)
    params = chosen.replace(scale=chosen.scale * np.float32(1 + k))
    other = params.replace(convention="onnx")
    q = chosen.quantize(SMALL)
    lookup = zp.Lookup(np.sqrt, zp.QuantParams(0.1 + k, 0), zp.QuantParams(0.02, 3))
    quantizer = EmbeddingQuantizer("faiss", "uint8").partial_fit(SMALL)
    return [
        lambda: params.quantize(SMALL),
        lambda: params.quantize(SMALL.astype(np.float64)),
        lambda: params.dequantize(q),
        lambda: params.fake_quantize(SMALL),
        lambda: zp.rescale(q, params, other),
        lambda: lookup(q),
        lambda: quantizer.transform(SMALL),
        lambda: zp.choose_params(SMALL, "int8", qmax=20 + k, symmetric=True).scale,
        lambda: zp.quantize_dynamic(SMALL, axis=0, qmax=20 + k)[0],
        lambda: zp.QuantParams(params.scale, [3, 2, 1, 0], axis=1).zero_point,
        lambda: hash(params),
        lambda: zp.error_stats(SMALL, params),
        lambda: zp.min_max(SMALL, channel_axis=1)[0],
    ]


def meet(callers: int, rounds: int) -> None:
    """Callers who meet at first uses, each on a backend of its own, while the number of threads
    changes; each gets what one gets alone afterwards."""

    def shown(value: object) -> object:
        return value.tobytes() if isinstance(value, np.ndarray) else value

    shared = [first_uses(k) for k in range(rounds)]
    start, faults = threading.Barrier(callers), list[BaseException]()
    found: list[tuple[int, int, object]] = []
    backends = zp.backends()

    def work(i: int) -> None:
        try:
            for k, calls in enumerate(shared):
                mine = backends[(i // 3 + k) % len(backends)]
                start.wait(60)
                with zp.use_backend(mine):
                    for n in range(len(calls)):
                        at = (i % 3 + n) % len(calls)
                        zp.set_num_threads(1 + (i + n) % 3)
                        found.append((k, at, shown(calls[at]())))
                    assert zp.backend() == mine
        except BaseException as fault:
            faults.append(fault)
            start.abort()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not faults, faults
    alone = [[shown(call()) for call in calls] for calls in shared]
    assert len(found) == callers * sum(map(len, shared))
    assert not [(k, at) for k, at, value in found if value != alone[k][at]]


def test_first_uses_at_once() -> None:
    meet(6, 30)


def many_forks(times: int) -> None:
    """Forks while other threads are in calls, and prepare parameters that the child is to use."""
    zp.set_num_threads(3)
    x = np.resize(X, (290, 8192))
    chosen = zp.choose_params(x, axis=0)
    expected = chosen.quantize(x).tobytes()
    newest = [chosen]
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            # fresh ones: what the core keeps beside them is made at their first use
            newest[0] = zp.QuantParams.from_dict(chosen.to_dict())
            newest[0].quantize(x)

    callers = [threading.Thread(target=busy) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(times):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads
                child = os.fork()
            if child == 0:
                signal.alarm(60)  # one that hangs dies, and so is found
                os._exit(0 if newest[0].quantize(x).tobytes() == expected else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for caller in callers:
            caller.join()


@pytest.mark.slow("forty forks beside busy threads")
@needs_core
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_children_answer() -> None:
    """The child has a pool of its own."""
    many_forks(40)


def test_the_number() -> None:
    if not CORE:
        assert zp.get_num_threads() == 1
        return
    zp.set_num_threads(0)
    automatic = zp.get_num_threads()
    assert 1 <= automatic <= (os.cpu_count() or 1)
    zp.set_num_threads(3)
    assert zp.get_num_threads() == 3
    zp.set_num_threads(np.int64(0))
    assert zp.get_num_threads() == automatic
    zp.set_num_threads(10**30)
    assert zp.get_num_threads() == 64  # no more than the pool has
    zp.set_num_threads(0)


def test_bad_numbers() -> None:
    with pytest.raises(ValueError, match="n -1 must not be negative"):
        zp.set_num_threads(-1)
    for wrong in (1.0, True, "2", None):
        with pytest.raises(TypeError, match="n must be an integer"):
            zp.set_num_threads(wrong)  # type: ignore[arg-type]


@needs_core
def test_environment() -> None:
    code = "import zeropoint as zp; print(zp.get_num_threads())"

    def run(value: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ZEROPOINT_NUM_THREADS": value}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert run("5").stdout.strip() == "5"
    assert run("").stdout == run("0").stdout  # tests/test_environment.py has what is refused


@needs_core
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity")
def test_the_default_follows_the_affinity() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "import zeropoint as zp; print(zp.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
