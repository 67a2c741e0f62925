"""Memory that is short: the right result or MemoryError, and never the end of the process."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

from .memory import WINDOW, repeated
from .test_cpp_package import run
from .test_host_process import in_a_process

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="replaces glibc's malloc"),
    pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent"),
]


@pytest.mark.slow("a build")
def test_every_allocation_of_every_call_in_cpp(tmp_path: Path, note: Any) -> None:
    """tests/outside/allocations.cpp, which says what may happen."""
    package = run(sys.executable, "-m", "zeropoint", "--cmakedir").strip()
    build = tmp_path / "build"
    source = ROOT / "tests" / "outside"
    run("cmake", "-G", "Ninja", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={package}")
    run("cmake", "--build", build, "--target", "allocations")
    counts = run(build / "allocations").splitlines()[-1]
    assert re.fullmatch(r"[1-9]\d+ passed, 0 failed", counts)
    note(f"C++, one allocation failing or all from one on: {counts}")


# ---------------------------------------------------------------------------------------------
# Python

# Only what the core and the C++ library ask for: not all of NumPy survives a failure of its own.
FAILING_MALLOC = """
#include <errno.h>
#include <stddef.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

long asked, first, last; /* allocations [first, last] fail; 0: none */
char *code[4];           /* of two libraries, from here to there: what they ask for counts */

static int refused(char *caller) {
    long number;
    if (__atomic_load_n(&first, __ATOMIC_RELAXED) == 0) return 0;
    if (!(code[0] <= caller && caller < code[1]) && !(code[2] <= caller && caller < code[3]))
        return 0;
    number = __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
    if (number < first || number > last) return 0;
    errno = ENOMEM;
    return 1;
}
#define REFUSED refused(__builtin_return_address(0))
void *malloc(size_t n) { return REFUSED ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return REFUSED ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return REFUSED ? NULL : __libc_realloc(p, n); }
"""

X = (np.random.default_rng(1).normal(size=(24, 8800)) * 4).astype(np.float32)  # for two threads
TENSOR = zp.QuantParams(0.05, 3)
Q = TENSOR.quantize(X)
ACC = Q.astype(np.int32) * 77 - 5000


def fresh(axis: int | None = None, **more: Any) -> zp.QuantParams:
    """Parameters that nobody has used: what the core keeps beside them is made at the first use."""
    scale = 0.05 if axis is None else np.full(X.shape[axis], 0.05, np.float32)
    return zp.QuantParams(scale, 3, axis=axis, **more)


def observed(x: Any) -> Any:
    return zp.HistogramObserver(axis=0).update(x).params()


CALLS: dict[str, Callable[[], Any]] = {
    "quantize": lambda: fresh().quantize(X),
    "quantize float64": lambda: fresh().quantize(X.astype(np.float64)),
    "quantize rows": lambda: fresh(0).quantize(X),
    "quantize columns": lambda: fresh(1).quantize(X),
    "quantize blocks": lambda: zp.choose_params(X, axis=1, block_size=32).quantize(X),
    "quantize few": lambda: fresh(convention="torch").quantize(X[0, :5]),
    "quantize check_finite": lambda: zp.quantize(X, fresh(), check_finite=True),
    "quantize a view": lambda: fresh(1).quantize(X[::-1]),
    "quantize to out": lambda: fresh(0).quantize(X, out=np.empty(X.shape, np.uint8)),
    "dequantize": lambda: fresh().dequantize(Q),
    "dequantize rows": lambda: fresh(0).dequantize(Q, dtype=np.float64),
    "fake_quantize": lambda: fresh().fake_quantize(X),
    "fake_quantize rows": lambda: fresh(0).fake_quantize(X.astype(np.float16)),
    "requantize": lambda: zp.requantize(ACC, 1e-3, fresh()),
    "requantize rows": lambda: zp.requantize(ACC, np.full(24, 1e-3), fresh(0)),
    "quantize_dynamic": lambda: zp.quantize_dynamic(X),
    "choose_params": lambda: zp.choose_params(X),
    "choose_params rows": lambda: zp.choose_params(X, axis=0),
    "min_max": lambda: zp.min_max(X, channel_axis=1),
    "saturate": lambda: zp.saturate(X, -1, 1),
    "saturate_cast": lambda: zp.saturate_cast(X, "int8"),
    "round": lambda: zp.round(X),
    "shift": lambda: zp.flip_signedness(Q, TENSOR),
    "observers": lambda: observed(X[:, :400]),
    "error_stats": lambda: zp.error_stats(X, TENSOR),
}


def told(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    return [told(each) for each in value] if isinstance(value, tuple) else value


def mapped(name: str) -> tuple[int, int]:
    """From where to where the code of a library lies."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if name in line]
    start, end = next(line.split()[0].split("-") for line in lines if " r-xp " in line)
    return int(start, 16), int(end, 16)


def fail_allocations(library: str, *names: str) -> None:
    """Makes each call with its k-th allocation failing, alone or with all that follow, for all k.

    Prints the number of calls, and of those that ended with MemoryError.
    """
    malloc = ctypes.CDLL(library)
    asked, first, last = (ctypes.c_long.in_dll(malloc, name) for name in ("asked", "first", "last"))
    (ctypes.c_size_t * 4).in_dll(malloc, "code")[:] = [*mapped("/_core."), *mapped("/libstdc++.")]
    zp.set_num_threads(2)
    calls = refusals = 0
    for name in names or CALLS:
        call = CALLS[name]
        expected = told(call())
        for lasting in (False, True):
            k = 0
            while True:
                k += 1
                last.value, asked.value, first.value = 2**40 if lasting else k, 0, k
                try:
                    found = call()
                except MemoryError:
                    found = None
                finally:
                    first.value = 0
                calls += 1
                if found is None:
                    refusals += 1
                else:
                    assert told(found) == expected, (name, k, lasting)
                if asked.value < k:
                    break
    print(calls, refusals)


@pytest.fixture(scope="module")
def failing_malloc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.fail("needs a C compiler: install cc, or deselect this test")
    where = tmp_path_factory.mktemp("malloc")
    (where / "failing.c").write_text(FAILING_MALLOC)
    library = where / "failing.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", library, where / "failing.c"]
    subprocess.run(command, check=True)
    return library


@pytest.mark.slow("each allocation of each call fails once")
def test_every_allocation_of_every_call_in_python(failing_malloc: Path, note: Any) -> None:
    how = {
        "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {failing_malloc}",
        "OPENBLAS_NUM_THREADS": "1",
    }
    calls, refusals = map(int, in_a_process(fail_allocations, failing_malloc, **how).split())
    assert calls > refusals > 2 * len(CALLS)
    note(f"Python, the same: {calls} calls, {refusals} MemoryErrors, the others are right")


def quantize_in_little_memory(*more: str) -> None:
    """32,768 scales, with so many bytes of address space left; prints what became of it."""
    scales, length = 2**15, 2**13
    n = scales * length
    with repeated(n, "f4") as x, repeated(n, "u1") as q:
        x[:WINDOW] = np.tile(X.ravel()[:length], WINDOW // length)
        expected = TENSOR.quantize(x[:WINDOW])
        for bytes_left in more:
            q[:WINDOW] = ~expected
            params = zp.QuantParams(np.full(scales, 0.05, np.float32), 3, axis=0)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + int(bytes_left), -1))
            what = ""
            try:
                params.quantize(x.reshape(scales, length), out=q.reshape(scales, length))
            except MemoryError:
                what = "MemoryError"
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
            print(what or ("right" if np.array_equal(q[:WINDOW], expected) else "wrong"))


@pytest.mark.slow("a process that fills its memory")
def test_many_scales_in_little_address_space() -> None:
    bounds = [0, 200_000, 600_000, 1_000_000, 1_300_000]  # streams take 256 KiB, multipliers 896
    large = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is larger finds no room in the heap
    told = in_a_process(quantize_in_little_memory, *bounds, **large).splitlines()
    assert len(told) == len(bounds)
    assert set(told) <= {"right", "MemoryError"}
    assert told[-1] == "right"
