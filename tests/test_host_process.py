"""The process around the calls: Ctrl-C, its end, threads that cannot be had, the CPU quota.

Each test runs functions of this file in a process of its own, which may hang or die without taking
the tests with it.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

from .memory import repeated

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow("processes that are interrupted and killed"),
    pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's system calls"),
    pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent"),
]


def in_a_process(function: Any, *arguments: object, before: Any = (), **environment: str) -> str:
    """What a process prints that calls `function`; it must end with exit code 0."""
    name = function.__name__
    # under nohup, or in the background of a script, a process ignores SIGINT from its start
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"from {function.__module__} import {name} as f; f(*sys.argv[1:])"
    done = subprocess.run(
        [*before, sys.executable, "-X", "faulthandler", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


# ---------------------------------------------------------------------------------------------
# Ctrl-C

N = 2**31  # elements: 8 GiB of float32
P = zp.QuantParams(0.1, 100)
ROWS = zp.QuantParams([0.1, 0.2], [3, 200], axis=0)
#: more scales than the core finds multipliers for at once
MANY = zp.QuantParams(np.linspace(0.1, 0.2, N // 8192), 3, axis=0, block_size=8192)
BLOCKS = zp.QuantParams(np.full((2, N // 2**20), 0.1), 3, axis=1, block_size=2**19)


def rows(x: Any) -> Any:
    return x.reshape(2, -1)


#: dtypes of x and out, and the call
CALLS: dict[str, tuple[str, str | None, Any]] = {
    "quantize": ("f4", "u1", lambda x, out: P.quantize(x, out=out)),
    "quantize float16": ("f2", "u1", lambda x, out: P.quantize(x, out=out)),
    "quantize float64": ("f8", "u1", lambda x, out: P.quantize(x, out=out)),
    "quantize rows": ("f4", "u1", lambda x, out: ROWS.quantize(rows(x), out=rows(out))),
    "quantize blocks": ("f4", "u1", lambda x, out: BLOCKS.quantize(rows(x), out=rows(out))),
    "quantize many blocks": ("f4", "u1", lambda x, out: MANY.quantize(x, out=out)),
    "dequantize": ("u1", "f4", lambda q, out: P.dequantize(q, out=out)),
    "fake_quantize": ("f4", "f4", lambda x, out: P.fake_quantize(x, out=out)),
    "fake_quantize in place": ("f4", None, lambda x, out: P.fake_quantize(x, out=x)),
    "requantize": ("i4", "u1", lambda x, out: zp.requantize(x, 1e-3, P, out=out)),
    "saturate": ("f4", "f4", lambda x, out: zp.saturate(x, -1, 1, out=out)),
    "saturate_cast": ("f4", "u1", lambda x, out: zp.saturate_cast(x, "uint8", out=out)),
    "round": ("f4", "f4", lambda x, out: zp.round(x, out=out)),
    "min_max": ("f4", None, lambda x, out: zp.min_max(x)),
    "choose_params": ("f4", None, lambda x, out: zp.choose_params(x)),
    "histogram": ("f4", None, lambda x, out: zp.HistogramObserver().update(x)),
    "quantize_dynamic": ("f4", "u1", lambda x, out: zp.quantize_dynamic(x, out=out)),
    "quantize check_finite": (
        *("f4", "u1"),
        lambda x, out: zp.quantize(x, P, out=out, check_finite=True),
    ),
    "quantize reversed": ("f4", "u1", lambda x, out: P.quantize(x[::-1], out=out)),
    "quantize swapped": ("f4", "u1", lambda x, out: P.quantize(x.view(">f4"), out=out)),
    "min_max reversed": ("f4", None, lambda x, out: zp.min_max(x[::-1])),
    "histogram reversed": ("f4", None, lambda x, out: zp.HistogramObserver().update(x[::-1])),
    "flip_signedness": ("u1", None, lambda q, out: zp.flip_signedness(q, P)),
    "error_stats": ("f4", None, lambda x, out: zp.error_stats(x, P)),
}


def interrupt(name: str, threads: str, times: str) -> None:
    """Interrupts a call of 8 GiB so often; prints the seconds until each came back."""
    source, target, call = CALLS[name]
    zp.set_num_threads(int(threads))
    sent = 0.0

    def send(delay: float) -> None:
        nonlocal sent
        time.sleep(delay)
        sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    rng = random.Random(name)
    with repeated(N, source) as x, repeated(N, target or "u1") as out:
        for _ in range(int(times)):
            sender = threading.Thread(target=send, args=(rng.uniform(0.005, 0.05),))
            finished = False
            try:
                sender.start()
                call(x, out)
                finished = True
                sender.join()
                time.sleep(1)
            except KeyboardInterrupt:
                print("late" if finished else time.perf_counter() - sent)
            sender.join()
            part = x[: 10**6]
            with zp.use_backend("reference"):
                want = P.quantize(part.astype("f4"))
            assert np.array_equal(P.quantize(part.astype("f4")), want)


def latencies(name: str, threads: int, times: int) -> list[float]:
    """Of those interrupts that came while the call ran."""
    told = in_a_process(interrupt, name, threads, times).split()
    assert len(told) == times
    return [float(seconds) for seconds in told if seconds != "late"]


@pytest.mark.parametrize("name", ["quantize", "dequantize", "min_max", "quantize reversed"])
def test_ctrl_c(name: str, note: Any) -> None:
    """tests/deep holds all calls to 100 ms; where others use the machine too, the best does."""
    found = latencies(name, 2, 3)
    assert found
    assert min(found) < 0.1
    note(f"Ctrl-C in {name} of {N:,}: back in {', '.join(f'{s:.3f}' for s in found)} s")


def test_ctrl_c_where_the_tests_ignore_it() -> None:
    """As under nohup: the child has inherited that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert latencies("min_max", 2, 1)
    finally:
        signal.signal(signal.SIGINT, before)


def merge() -> Any:
    """Joins histograms of 4,096 channels, which all have to join their bins."""
    x = np.random.default_rng(1).normal(size=(4096, 200)).astype(np.float32)
    a = zp.HistogramObserver(axis=0).update(x)
    b = zp.HistogramObserver(axis=0).update(x * np.float32(3))
    start, before = a.__dict__.copy(), a._table.copy()

    def call(ask: bool = False) -> None:
        a.__dict__.update(start)
        if ask:  # whatever was interrupted
            assert np.array_equal(a._table, before)
        else:
            a.merge(b)

    return call


def stats(columns: int = 2**17, **along: Any) -> Any:
    x = np.random.default_rng(1).normal(size=(64, columns)).astype(np.float32)
    params = zp.choose_params(x, **along)
    return lambda ask=False: ask or zp.error_stats(x, params)


def stats_on_reference(**along: Any) -> Any:
    call = stats(columns=2**18, **along)

    def on_it(ask: bool = False) -> None:
        with zp.use_backend("reference"):
            call(ask)

    return on_it


def many_channels() -> Any:
    """Channels of one element, each with 256 counts."""
    x = np.random.default_rng(1).normal(size=(1, 2_000_000)).astype(np.float32)
    params = zp.QuantParams(np.full(x.size, 0.05, np.float32), np.full(x.size, 100), axis=1)
    return lambda ask=False: ask or zp._backend.errors(x, params._native, 1.0, lambda: None)


def many_histograms() -> Any:
    """Of 32 KiB each, for a few elements."""
    x = np.random.default_rng(1).normal(size=(20_000, 16)).astype(np.float32)
    exponents = np.full(len(x), -10)
    return lambda ask=False: ask or zp._backend.histogram(x, 0, exponents)


#: what makes a call, of which every moment is looked at
MOMENTS: dict[str, Any] = {
    "merge": merge,
    "error_stats rows": lambda: stats(axis=0),
    "error_stats columns": lambda: stats(axis=1),
    "errors of many channels": many_channels,
    "many histograms": many_histograms,
    "error_stats blocks": lambda: stats(axis=1, block_size=128),
    "error_stats on the reference": stats_on_reference,
    "error_stats columns on the reference": lambda: stats_on_reference(axis=1),
}


def interrupt_at_moments(name: str, times: str) -> None:
    """Interrupts a call at moments all over it; prints for each the seconds until it came back."""
    call = MOMENTS[name]()
    sent = 0.0

    def send() -> None:
        nonlocal sent
        sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    def seconds(delay: float) -> float | None:
        sender, ended = threading.Timer(delay, send), False
        try:
            sender.start()
            call()
            ended = True
            sender.join()
            time.sleep(1)
        except KeyboardInterrupt:
            back = time.perf_counter()
            sender.join()
            return None if ended else back - sent
        return None

    call()  # the first takes longer
    start = time.perf_counter()
    call()
    whole = time.perf_counter() - start
    for moment in range(int(times)):
        # where others use the machine too, the best of three counts
        delay = whole * (moment + 0.5) / int(times)
        found = [seconds(delay)]
        while found[-1] is not None and found[-1] > 0.1 and len(found) < 3:
            found.append(seconds(delay))
        if None not in found:
            print(min(each for each in found if each is not None))
    call(ask=True)


@pytest.mark.parametrize(  # tests/deep has all
    "name",
    ["merge", "error_stats blocks", "error_stats on the reference", "errors of many channels"],
)
def test_ctrl_c_at_any_moment(name: str, note: Any) -> None:
    found = [float(seconds) for seconds in in_a_process(interrupt_at_moments, name, 4).split()]
    assert found
    assert max(found) < 0.1, found
    note(f"Ctrl-C in {name}: back in {', '.join(f'{s:.3f}' for s in found)} s")


# ---------------------------------------------------------------------------------------------
# Handlers of other signals, which Python runs in mid-call


def fork_in_mid_call(name: str, threads: str, times: str) -> None:
    """A handler forks and calls zeropoint while a call runs; the child goes on with that call too.

    Prints how often it did, which is as often as it is told to.  A child that hangs is killed by
    its alarm.  The core looks for signals after 0.05 s, hence the kernel that takes longest; where
    a call ends before all the same, it is made again with twice the data.
    """
    few = np.random.default_rng(2).normal(size=2**21)
    few[-1] = 0.24  # which becomes another number
    x = np.tile(few, 2**4)
    with zp.use_backend("reference"):
        one, want_few = P.fake_quantize(few), P.quantize(few)
    zp.set_num_threads(int(threads))
    children: list[int] = []
    parent = os.getpid()
    out = x

    def handler(*_: object) -> None:
        if out[-1] != one[-1] and os.getpid() == parent:
            child = os.fork()
            if child:
                children.append(child)
            else:
                signal.alarm(60)
            assert np.array_equal(P.quantize(few), want_few)

    signal.signal(signal.SIGPROF, handler)  # not a timer of its own: SIGALRM is the child's
    rng = random.Random(name)
    end = time.monotonic() + 120
    while len(children) < int(times) and time.monotonic() < end:
        before = len(children)
        data = x.copy()
        out = data if name == "in place" else np.zeros_like(x)
        sender = threading.Timer(rng.uniform(0.001, 0.01), os.kill, (parent, signal.SIGPROF))
        sender.start()
        with zp.use_backend("baseline"):
            P.fake_quantize(data, out=out)
        right = bool((out.reshape(-1, few.size) == one).all())
        if os.getpid() != parent:
            os._exit(0 if right else 1)
        assert right
        sender.join()
        if len(children) == before and x.size < 2**27:
            x = np.tile(x, 2)
    print(len(children))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["to out", "in place"])
def test_a_fork_in_mid_call(name: str, threads: int, note: Any) -> None:
    forks = int(in_a_process(fork_in_mid_call, name, threads, 2))
    assert forks == 2, "the calls ended before the core looked for signals"
    note(f"forks from a handler in mid-call, {name}, {threads} threads: {forks} answer")


# ---------------------------------------------------------------------------------------------
# The end of the process

X = np.zeros(2**22, np.float32)


def call_once() -> None:
    P.quantize(X)


def call_in_a_thread() -> None:
    thread = threading.Thread(target=call_once)
    thread.start()
    thread.join()


def call_in_a_child() -> None:
    """The pool is the parent's; the child makes its own, and both end."""
    call_once()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        call_once()


def call_for_ever() -> None:
    while True:
        P.quantize(X)


def leave_daemons_in_calls() -> None:
    for _ in range(2):
        threading.Thread(target=call_for_ever, daemon=True).start()
    time.sleep(0.05)


def end_often(what: str, times: str) -> None:
    """Forks children that call the function and end as a process does, by its last line.

    A child that hangs is killed by its alarm, and so found.
    """
    zp.set_num_threads(3)
    for _ in range(int(times)):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            globals()[what]()
            return
        assert os.waitpid(child, 0)[1] == 0


ENDS = [call_once, call_in_a_thread, call_in_a_child, leave_daemons_in_calls]


@pytest.mark.parametrize("what", ENDS, ids=lambda f: f.__name__)
def test_the_process_ends_well(what: Any) -> None:
    in_a_process(what, ZEROPOINT_NUM_THREADS="3")
    in_a_process(end_often, what.__name__, 5)


# ---------------------------------------------------------------------------------------------
# Threads that cannot be had

NO_THREADS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

int threads_left = 1 << 30;

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (threads_left <= 0) return EAGAIN;
    --threads_left;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(t, a, f, x);
}
"""


def call_with_few_threads(library: str, left: str) -> None:
    """From here on only so many threads can be started, and 8 are wanted."""
    counter = ctypes.c_int.in_dll(ctypes.CDLL(library), "threads_left")
    counter.value = int(left)
    zp.set_num_threads(8)
    x = np.random.default_rng(1).normal(size=2**22).astype(np.float32)
    with zp.use_backend("reference"):
        want = P.quantize(x)
    for _ in range(3):
        assert np.array_equal(P.quantize(x), want)
    threads = len(os.listdir("/proc/self/task"))
    assert (counter.value, threads) == (0, 1 + int(left)), (counter.value, threads)
    counter.value = 100  # and when they can be had again
    assert np.array_equal(P.quantize(x), want)
    assert len(os.listdir("/proc/self/task")) == 8


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_fewer_threads_where_they_cannot_be_started(tmp_path: Path) -> None:
    library = tmp_path / "no_threads.so"
    source = tmp_path / "no_threads.c"
    source.write_text(NO_THREADS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    for left in (0, 1, 5):
        preloaded = f"{os.environ.get('LD_PRELOAD', '')} {library}"  # after a sanitizer's
        how = {"LD_PRELOAD": preloaded, "OPENBLAS_NUM_THREADS": "1"}
        in_a_process(call_with_few_threads, library, left, **how)


# ---------------------------------------------------------------------------------------------
# The CPU quota

QUOTA = 'mount -t tmpfs none /sys/fs/cgroup && echo "$0" > /sys/fs/cgroup/cpu.max && exec "$@"'
MAY_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"],
        capture_output=True,
        check=False,
    ).returncode
    == 0
)


def number_of_threads() -> None:
    print(zp.get_num_threads())


@pytest.mark.skipif(not MAY_MOUNT, reason="this process may not mount a cgroup of its own")
@pytest.mark.parametrize(
    ("quota", "most"),
    [
        ("50000 100000", 1),
        ("199999 100000", 1),
        ("400000 100000", 4),
        ("max 100000", 64),
        ("garbage", 64),
    ],
)
def test_the_default_follows_the_quota(quota: str, most: int) -> None:
    usable = len(os.sched_getaffinity(0))
    told = in_a_process(number_of_threads, before=["unshare", "-rm", "sh", "-c", QUOTA, quota])
    assert int(told) == min(usable, most)


# ---------------------------------------------------------------------------------------------
# Subinterpreters

SUBINTERPRETER = """
import sys
isolated = {isolated}
try:
    import _interpreters as interpreters  # from Python 3.13 on
    number = interpreters.create("isolated" if isolated else "legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    number = interpreters.create(isolated=isolated)

interpreters.run_string(number, '''
import warnings
warnings.simplefilter("ignore")  # NumPy's own, of subinterpreters
try:
    import zeropoint
except ImportError as error:
    print("ImportError:", str(error).splitlines()[0], flush=True)
else:
    print("imported", flush=True)
''')
print("the main interpreter goes on")
"""


@pytest.mark.parametrize("isolated", [False, True])
def test_a_subinterpreter_gets_an_import_error(isolated: bool) -> None:
    """Before the core is loaded, for which Python 3.11 waited for ever."""
    code = SUBINTERPRETER.format(isolated=isolated)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    first, last = done.stdout.splitlines() or ("", done.stderr)
    if isolated and sys.version_info >= (3, 12):  # NumPy refuses before we can
        assert first.startswith("ImportError:")
    else:
        assert first.startswith("ImportError: zeropoint cannot be imported in a subinterpreter")
    assert last == "the main interpreter goes on", done.stderr
