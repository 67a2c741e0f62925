"""The host's rounding mode, FTZ/DAZ and traps change nothing in the results, and are left alone."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="sets MXCSR through glibc's fenv_t on x86-64",
)

Array = np.ndarray[Any, Any]

MXCSR = 28  # its offset in glibc's fenv_t
ROUND = {"nearest": 0x0000, "down": 0x2000, "up": 0x4000, "zero": 0x6000}
FLUSH = {"ieee": 0x0000, "daz": 0x0040, "ftz": 0x8000, "ftz+daz": 0x8040}
#: exceptions that end the process (SIGFPE), as after feenableexcept: invalid, division by zero and
#: overflow; and all but inexact, which Python's own arithmetic raises at every step
TRAPS = {"usual": 0x0680, "all": 0x0F80}
STATES = [mode | flush for flush in FLUSH.values() for mode in ROUND.values()]
STATES += [TRAPS["usual"] | ROUND["down"], TRAPS["all"]]
FEW = STATES[:16:5] + STATES[16:]  #: every mode and every flush once, and the traps
NEEDED = 0x1F80
STICKY = 0x003F


@functools.cache
def libm() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("m"))


def mxcsr() -> int:
    state = (ctypes.c_ubyte * 32)()
    libm().fegetenv(state)
    return int.from_bytes(bytes(state[MXCSR : MXCSR + 4]), "little")


@contextmanager
def host_state(bits: int) -> Iterator[None]:
    saved = (ctypes.c_ubyte * 32)()
    libm().fegetenv(saved)
    changed = (ctypes.c_ubyte * 32)(*saved)
    changed[MXCSR : MXCSR + 4] = list((NEEDED ^ bits).to_bytes(4, "little"))
    libm().fesetenv(changed)
    try:
        yield
    finally:
        libm().fesetenv(saved)


@pytest.mark.parametrize("flush", FLUSH)
@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_same_bits_and_state_kept(native: str, convention: str, mode: str, flush: str) -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate(
        [
            rng.normal(size=5000) * 4,
            (rng.integers(-300, 300, 500) + 0.5) * 0.03,
            rng.normal(size=500) * 1e-40,
        ]
    ).astype(np.float32)
    scales = (0.03, 3e-38 if convention in zp._reference.BY_RECIPROCAL else 1e-40)
    for data in (x, x.astype(np.float16), x.astype(np.float64)):
        for scale in scales:
            params = zp.QuantParams(scale, 100, convention=convention)
            with zp.use_backend("reference"):
                codes, values = params.quantize(data), params.fake_quantize(data)
            with host_state(ROUND[mode] | FLUSH[flush]):
                before = mxcsr()
                params = zp.QuantParams(scale, 100, convention=convention)
                got = params.quantize(data), params.fake_quantize(data)
                after = mxcsr()
            assert got[0].tobytes() == codes.tobytes()
            assert got[1].tobytes() == values.tobytes()
            assert after & ~STICKY == before & ~STICKY  # Python itself may raise flags


@pytest.mark.parametrize("state", STATES)
def test_the_core_finds_the_reciprocal_in_a_state_of_its_own(native: str, state: int) -> None:
    """Without `QuantParams` around it, as for C++."""
    core: Any = zp._backend._core
    rng = np.random.default_rng(6)
    scale = rng.uniform(0.01, 1, 300).astype(np.float32)
    params = zp.QuantParams(scale, 0, "int8", axis=1, convention="torch")
    x = (rng.integers(-300, 300, (40, 300)) / 2).astype(np.float32) * scale
    with host_state(state):
        prepared = zp._backend.native_params(params.scale, params.zero_point, params)
        got = np.empty(x.shape, np.int8)
        core.quantize_into(zp._backend.current().isa, x, got, prepared)
    with zp.use_backend("reference"):
        np.testing.assert_array_equal(got, params.quantize(x))


def in_children(check: Callable[[int], list[str]], states: list[int]) -> None:
    """Forks a child for each state, which calls `check` and prints what it finds to be wrong."""
    for state in states:
        child = os.fork()
        if child == 0:
            print(
                "".join(f"{name} in state {state:#x}\n" for name in check(state)),
                end="",
                flush=True,
            )
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the child in state {state:#x} ended with {status}"


def found_in_a_process(function: Callable[..., None], *arguments: str) -> str:
    """What `function` of this file prints in a process of its own."""
    code = f"import sys; from {__name__} import {function.__name__} as f; f(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- in several threads ------------------------------------------------------------------------

RNG = np.random.default_rng(5)
#: rows of plain numbers, of half steps and of subnormal numbers; long enough for several threads
LARGE = np.stack(
    [
        RNG.normal(size=100_000) * 4,
        (RNG.integers(-300, 300, 100_000) + 0.5) * 0.03,
        RNG.normal(size=100_000) * 1e-40,
    ]
).astype(np.float32)
DTYPES = [np.dtype(d) for d in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)]
REALS = {dtype: LARGE.astype(dtype) for dtype in DTYPES}
FLOAT32 = np.dtype(np.float32)
Q = RNG.integers(0, 256, LARGE.shape, np.uint8)
ACC = RNG.integers(-(10**5), 10**5, LARGE.shape, np.int32)


def operations() -> dict[str, Callable[[], Array]]:
    """Every operation, with parameters that nobody has used yet."""
    calls: dict[str, Callable[[], Array]] = {}

    def add(name: str, function: Callable[..., Array], *arguments: Any, **keywords: Any) -> None:
        calls[name] = functools.partial(function, *arguments, **keywords)

    for convention in zp.CONVENTIONS:
        tiny = 3e-39 if convention in zp._reference.BY_RECIPROCAL else 1e-40
        blocks: Any = [[0.03, 0.1], [0.03, tiny], [tiny, 0.3]]
        for how, scale, axis, size in (
            ("", 0.03, None, None),
            ("tiny", tiny, None, None),
            ("rows", [0.03] * 3, 0, None),
            ("blocks", blocks, 1, 50_000),
        ):
            p = zp.QuantParams(scale, 100, axis=axis, block_size=size, convention=convention)
            for real, x in REALS.items() if convention == "numpy" else [(FLOAT32, LARGE)]:
                name = f"{real} {convention} {how}"
                add(f"quantize {name}", p.quantize, x)
                add(f"fake_quantize {name}", p.fake_quantize, x)
                if convention == "numpy":
                    add(f"dequantize {name}", p.dequantize, Q, dtype=real)
    for real, x in REALS.items():
        add(f"round {real}", zp.round, x)
        add(f"round away {real}", zp.round, x, ties="away")
        add(f"saturate {real}", zp.saturate, x, -1, 1)
        add(f"saturate_cast {real}", zp.saturate_cast, x, "int8")
        for axis in (None, 0, 1):
            add(
                f"min_max {real} {axis}",
                lambda x, axis: np.stack(zp.min_max(x, channel_axis=axis)),
                x,
                axis,
            )
            add(f"quantize_dynamic {real} {axis}", dynamic, x, axis=axis)
            if axis != 1:  # a table of 100,000 channels is too large
                add(f"histogram {real} {axis}", histogram, x, axis)
    for rule in CHOICES:
        add(f"quantize_dynamic {rule}", dynamic, LARGE, axis=0, **rule)
    add("requantize", zp.requantize, ACC, 0.00123, zp.QuantParams(0.03, 100))
    for real, x in REALS.items():
        few = np.ascontiguousarray(x[:, ::100])
        for axis in (None, 0):
            add(f"MinMaxObserver {real} {axis}", observed, zp.MinMaxObserver, few, axis)
            if real in (np.float32, np.float64):  # the two precisions
                add(f"HistogramObserver {real} {axis}", observed, zp.HistogramObserver, few, axis)
        for scale in (0.03, tiny):
            add(f"error_stats {real} {scale}", error_stats, few, scale)
    for i, scale in enumerate(SCALES):
        add(f"QuantParams {i}", parameters, scale)
    return calls


#: that a float32 cannot hold, or only as a subnormal number, and one that is subnormal itself
SCALES = (0.1, 1e-40, np.float64(5e-324), [1 / 3, 2e-39], np.float32(1e-40))


def as_bytes(*values: Any) -> Array:
    return np.frombuffer(repr(values).encode(), np.uint8)


def parameters(scale: Any) -> Array:
    axis = 0 if isinstance(scale, list) else None
    params = zp.QuantParams(scale, 3, "int8", axis=axis)
    return as_bytes(params, zp.QuantParams.from_dict(params.to_dict()) == params)


def observed(kind: Any, x: Array, axis: int | None) -> Array:
    """What an observer finds: at once, in chunks that are merged, and from its dictionary."""
    whole = kind(axis=axis).update(x)
    parts = [kind(axis=axis).update(x[:, i::3]) for i in range(3)]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    again = kind.from_dict(whole.to_dict())
    methods = ("minmax", "percentile", "entropy") if kind is zp.HistogramObserver else ()
    found = [whole.params("int8"), *(whole.params("int8", method=method) for method in methods)]
    return as_bytes(whole.to_dict(), merged == whole, again == whole, [p.to_dict() for p in found])


def error_stats(x: Array, scale: float) -> Array:
    return as_bytes(zp.error_stats(x, zp.QuantParams(scale, 100)))


CHOICES: list[dict[str, Any]] = [
    *({"zero_point_from": rule} for rule in ("max", "min", "least_error")),
    {"symmetric": True},
    {"include_zero": False},
    *({"convention": convention} for convention in ("onnx", "torch", "tflite", "ggml")),
]


def dynamic(x: Array, **how: Any) -> Array:
    try:
        q, params = zp.quantize_dynamic(x, **how)
    except ValueError as error:  # constant rows
        return np.frombuffer(str(error).encode(), np.uint8)
    parts = q, np.asarray(params.scale), np.asarray(params.zero_point)
    return np.frombuffer(b"".join(part.tobytes() for part in parts), np.uint8)


def histogram(x: Array, axis: int | None) -> Array:
    exponents = np.full(1 if axis is None else len(x), -8, np.int64)
    parts = zp._backend.histogram(x, axis, exponents)
    return np.frombuffer(b"".join(part.tobytes() for part in parts), np.uint8)


def in_threads(isa: str, which: str = "few") -> None:
    """Prints the operations that a state of the host changes, and those that change the state.

    Each state has a child of its own, whose pool starts in that state.
    """
    with zp.use_backend("reference"):
        expected = {name: call().tobytes() for name, call in operations().items()}
    zp.set_num_threads(4)

    def check(state: int) -> list[str]:
        wrong = []
        with host_state(state):
            calls = operations()
        for name, call in calls.items():
            with host_state(state):
                before = mxcsr()
                got = call()
                after = mxcsr()
            if got.tobytes() != expected[name]:
                wrong.append(name)
            if after & ~STICKY != before & ~STICKY:
                wrong.append(f"the state after {name}")
        return wrong

    with zp.use_backend(isa):
        states = STATES if which == "all" else FEW
        in_children(check, states)
    print(len(expected) * len(states))


@pytest.mark.slow("all operations in a process for each state")
def test_every_operation_in_threads(native: str, note: Any) -> None:
    *wrong, calls = found_in_a_process(in_threads, native).splitlines()
    assert not wrong, "\n".join(wrong)
    note(f"host states, {native}: {int(calls):,} calls in 4 threads: 0 differ")


# ---- what NumPy does about floating-point errors -----------------------------------------------


@pytest.mark.parametrize("backend", zp.backends())
def test_seterr_is_no_concern_of_ours(backend: str) -> None:
    """Whoever has NumPy raise what overflows means sums of his own."""
    failed = []
    with zp.use_backend(backend), np.errstate(all="raise"):
        for name, call in operations().items():
            try:
                call()
            except FloatingPointError as error:
                failed.append(f"{name}: {error}")
        try:
            zp.compare(np.float64([3e300, 1e-320, -3e300]))
        except FloatingPointError as error:
            failed.append(f"compare: {error}")
    assert not failed, "\n".join(failed)


# ---- the import --------------------------------------------------------------------------------


IMPORT = f"""
import ctypes, ctypes.util, os, numpy
libm = ctypes.CDLL(ctypes.util.find_library("m"))

def state():
    now = (ctypes.c_ubyte * 32)()
    libm.fegetenv(now)
    return now

def control():  # all of it but the flags of exceptions
    return int.from_bytes(bytes(state()[{MXCSR}:{MXCSR + 4}]), "little") & ~0x3F

for bits in {STATES}:
    if (child := os.fork()) == 0:
        changed = state()
        changed[{MXCSR}:{MXCSR + 4}] = list(({NEEDED} ^ bits).to_bytes(4, "little"))
        libm.fesetenv(changed)
        before = control()
        import zeropoint
        os._exit(before != control() or before != ({NEEDED} ^ bits) & ~0x3F)
    assert os.waitpid(child, 0)[1] == 0, bits
"""


def test_import_leaves_the_state_alone() -> None:
    """In every state that it can be in; NumPy, whose state is not ours, is there already."""
    subprocess.run([sys.executable, "-c", IMPORT], check=True)
