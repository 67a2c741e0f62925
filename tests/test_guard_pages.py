"""No byte outside the arrays is read or written: they lie against pages that may not be touched.

Each run is a process of its own, for it dies of the first byte too many.  A file that it shares
with the test says during which call.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import itertools
import math
import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp

Array = np.ndarray[Any, Any]

PAGES = 64  # of each array's room, beside the two that fault
SIZES = range(320)
#: runs that are written in whole cache lines, or past the caches; and those that are multiplied
LONG = (*range(1023, 1024 + 65), *range(8191, 8194), 8255, 8256, 8257)
#: every tail of a vector of any type, and both sides of its multiples; `tests/deep` takes them all
FEW = tuple(n for n in (*SIZES, *LONG) if n < 66 or n % 32 in (31, 0, 1))
REALS = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
CODES = [np.dtype(t) for t in (np.uint8, np.int8)]
INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]
CANARY = 0xA5  # as a byte of any of the floats: small and finite
BESIDE = bytes([CANARY]) * 64


class Place(NamedTuple):
    """Where source and target lie: elements from the end of their room, or from its start."""

    source: str
    source_gap: int
    target: str
    target_gap: int


PLACES = (
    Place("end", 0, "end", 0),
    Place("start", 0, "start", 0),
    Place("end", 0, "start", 1),
    Place("start", 3, "end", 0),
)
#: every distance from either page up to a cache line of the shortest elements; for the target in
#: another order (37 is prime to 64), so that the two lie at unlike places in their lines
OFFSETS = tuple(
    Place(near, gap, far, 37 * gap % 64)
    for near, far in (("start", "end"), ("end", "start"))
    for gap in range(64)
)


class Operation(NamedTuple):
    name: str
    source: np.dtype[Any]
    target: np.dtype[Any] | None  #: None: nothing is written, or the source itself
    shape: Callable[[int], tuple[int, ...]]
    prepare: Callable[[int], Any]  #: what `call` needs for a size
    call: Callable[[Array, Array | None, Any], object]
    needs_data: bool = False


class Room:
    """Pages for one array, and a page that faults before and behind them."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self.map = mmap.mmap(-1, (PAGES + 2) * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for guard in (start, start + (PAGES + 1) * page):
            if mprotect(guard, page, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.bytes = memoryview(self.map)[page:-page]
        self.bytes[:] = bytes([CANARY]) * len(self.bytes)
        self.typed = {dtype: np.frombuffer(self.bytes, dtype) for dtype in (*REALS, *INTEGERS)}

    def place(
        self, n: int, shape: tuple[int, ...], dtype: np.dtype[Any], where: str, gap: int
    ) -> tuple[Array, slice]:
        """An array of n elements, full of canaries, and the bytes that it takes."""
        whole = self.typed[dtype]
        start = gap if where == "start" else whole.size - gap - n
        size = dtype.itemsize
        span = slice(start * size, (start + n) * size)
        return whole[start : start + n].reshape(shape), span

    def is_whole(self, span: slice) -> bool:
        """Whether the bytes on either side of what may be written are as they were."""
        before = bytes(self.bytes[max(span.start - len(BESIDE), 0) : span.start])
        behind = bytes(self.bytes[span.stop : span.stop + len(BESIDE)])
        return BESIDE.endswith(before) and BESIDE.endswith(behind)

    def clean(self, span: slice) -> None:
        self.bytes[span] = bytes([CANARY]) * (span.stop - span.start)


# ---------------------------------------------------------------------------------------------
# The operations


def flat(n: int) -> tuple[int, ...]:
    return (n,)


def few(n: int) -> tuple[int, ...]:
    """At least one, and no more than loops of a vector or so are worth."""
    return (min(max(n, 1), 1100),)


def blocks_of_34(n: int) -> tuple[int, ...]:
    return min(n, 1500), 34


def nothing(n: int) -> None:
    return None


def codes_of(real: np.dtype[Any]) -> list[np.dtype[Any]]:
    """Both types of codes where loops differ by them, as float32's do."""
    return CODES if real == np.float32 else CODES[:1]


def operations() -> Iterator[Operation]:
    for real in REALS:
        for convention, dtype in itertools.product(zp.CONVENTIONS, codes_of(real)):
            zero = int(np.iinfo(dtype).max) - 40
            params = zp.QuantParams(0.1, zero, dtype, convention=convention)
            how = f"{real.name} {dtype.name} {convention}"
            yield of_params("quantize", how, real, dtype, flat, lambda n, p=params: p)
        for ties in ("even", "away"):
            call = _round_even if ties == "even" else _round_away
            yield Operation(f"round {real} {ties}", real, real, flat, nothing, call)
            yield Operation(f"round {real} {ties} in place", real, None, flat, nothing, call)
        yield Operation(f"min_max {real}", real, None, flat, nothing, _min_max, True)
        for kind, shape, call in HISTOGRAMS:
            yield Operation(f"histogram {real} {kind}", real, None, shape, nothing, call, True)
        for kind, shape, prepare in [("flat", flat, _tensor), *layouts("onnx")]:
            name = f"errors {real} {kind}"
            yield Operation(name, real, None, shape, prepare, _error_stats, True)
        yield Operation(f"dynamic {real}", real, CODES[0], flat, nothing, _dynamic, True)
        for convention in zp.CONVENTIONS:
            params = zp.QuantParams(0.1, 100, convention=convention)
            for target, how in ((real, ""), (None, " in place")):
                name = f"{real} {convention}{how}"
                yield of_params("fake_quantize", name, real, target, flat, lambda n, p=params: p)
            if real.itemsize == 2 and convention != "numpy":
                continue  # converted first, and then like float32
            for kind, shape, prepare in layouts(convention):
                name = f"{real} {convention} {kind}"
                yield of_params("quantize", name, real, CODES[0], shape, prepare)
                yield of_params("fake_quantize", f"{name} in place", real, None, shape, prepare)
        for kind, shape, prepare in layouts("onnx"):
            name = f"{real} {kind}"
            yield of_params("dequantize", name, CODES[0], real, shape, prepare)
            yield Operation(f"range {name}", real, None, shape, prepare, _range, True)
            yield Operation(f"dynamic {name}", real, None, shape, prepare, _dynamic_by, True)
        for dtype, scale in itertools.product(CODES, (np.float32(0.1), np.float64(0.1))):
            params = zp.QuantParams(scale, 7, dtype)
            how = f"{dtype} {scale.dtype} to {real}"
            yield of_params("dequantize", how, dtype, real, flat, lambda n, p=params: p)
    for real in REALS[:3]:
        yield Operation(f"to_q8_0 {real}", real, CODES[0], blocks_of_34, nothing, _to_q8_0)
        yield Operation(f"from_q8_0 {real}", CODES[0], real, blocks_of_34, nothing, _from_q8_0)
    for number in (*REALS, *(np.dtype(name) for name in ("int16", "int32", "int64"))):
        yield Operation(f"saturate {number}", number, number, flat, nothing, _saturate)
        yield Operation(f"saturate {number} in place", number, None, flat, nothing, _saturate)
    for number in (*REALS, *INTEGERS):
        for dtype in codes_of(number):
            name = f"saturate_cast {number} {dtype}"
            yield Operation(name, number, dtype, flat, nothing, _saturate_cast)
    int32 = np.dtype(np.int32)
    for dtype in CODES:
        params = zp.QuantParams(0.1, 7, dtype)
        yield of_params("requantize", str(dtype), int32, dtype, flat, lambda n, p=params: p)
    for kind, shape, prepare in layouts("onnx"):
        if "axis" in kind:
            yield of_params("requantize", kind, int32, CODES[0], shape, prepare)
    for kind, (shape, axis) in LOOKUPS.items():
        for target, how in ((CODES[1], ""), (None, " in place")):
            prepare = functools.partial(_tables, shape, axis)
            yield Operation(f"lookup {kind}{how}", CODES[0], target, shape, prepare, _look_up)
    yield from views()


def views() -> Iterator[Operation]:
    """Arrays that are gathered, scattered, transposed, or have the other byte order."""
    params = zp.QuantParams(0.1, 100)
    calls = {
        "quantize": lambda x, out: zp.quantize(x, params, out=out),
        "fake_quantize": lambda x, out: zp.fake_quantize(x, params, out=out),
        "dequantize": lambda x, out: zp.dequantize(x, params, out=out),
        "min_max": lambda x, out: zp.min_max(x),
        "errors": lambda x, out: _error_stats(x, out, params),
    }
    for name, real in itertools.product(calls, REALS):
        source = CODES[0] if name == "dequantize" else real
        read_only = name in ("min_max", "errors")
        target = CODES[0] if name == "quantize" else None if read_only else real
        for kind, (shape, look) in VIEWS.items():
            if read_only and kind not in RANGED:
                continue

            def call(
                x: Array, out: Array | None, _: Any, run: Any = calls[name], look: Any = look
            ) -> object:
                return run(*look(x, out))

            how = f"{name} {real}: {kind}"
            yield Operation(how, source, target, shape, nothing, call, read_only)


def _stepped(step: int) -> Callable[[Array, Array | None], tuple[Array, Array | None]]:
    """Every `step`th element, the last one among them."""

    def look(x: Array, out: Array | None) -> tuple[Array, Array | None]:
        steps = slice((x.size - 1) % step, None, step)
        return x[steps], None if out is None else out[steps]

    return look


def _windows(k: int, step: int = 1) -> Callable[[Array, Array | None], tuple[Array, None]]:
    """Rows of k elements that have most of them in common with the next row."""

    def look(x: Array, out: Array | None) -> tuple[Array, None]:
        return np.lib.stride_tricks.sliding_window_view(x, min(k, x.size))[::step], None

    return look


#: shape for a size, and the views of source and target
VIEWS: dict[str, tuple[Callable[[int], tuple[int, ...]], Callable[[Array, Any], Any]]] = {
    **{
        f"transposed {k}": (
            lambda n, k=k: (min(n, 1600), k),
            lambda x, out: (x.T, out.reshape(x.T.shape)),
        )
        for k in (2, 3, 4, 5, 9, 20)
    },
    "transposed, the shorter axis first": (
        lambda n: (9, min(n, 3000)),
        lambda x, out: (x.T, out.reshape(x.T.shape)),
    ),
    **{f"steps of {k}": (flat, _stepped(k)) for k in (2, 3, 4, 5)},
    "backwards": (flat, lambda x, out: (x[::-1], out)),
    "columns of 5": (
        lambda n: (min(n, 6000), 5),
        lambda x, out: (x[:, 2:], None if out is None else out[:, 2:]),
    ),
    "columns of n": (lambda n: (4, min(n, 8000)), lambda x, out: (x[:, 1:], out[:, 1:])),
    **{f"windows of {k}": (few, _windows(k)) for k in (2, 4, 7, 16)},
    "every third window of 5": (few, _windows(5, 3)),
    "windows backwards": (few, _windows(4, -1)),
    "repeated rows": (few, lambda x, out: (np.broadcast_to(x[-5:], (x.size, *x[-5:].shape)), None)),
    "repeated elements": (few, lambda x, out: (np.broadcast_to(x[:, None], (x.size, 5)), None)),
    "the other byte order": (flat, lambda x, out: (x.view(x.dtype.newbyteorder()), out)),
}


#: what the ranges are taken of
RANGED = ("steps of 2", "columns of 5", "windows of 4", "repeated rows")

#: shape for a size, and the axis, block size and shape of the parameters
LAYOUTS: dict[str, tuple[Callable[[int], tuple[int, ...]], Callable[[int], tuple[Any, ...]]]] = {
    "axis 0": (lambda n: (3, n), lambda n: (0, None, (3,))),
    "axis 1": (lambda n: (3, n), lambda n: (1, None, (n,))),
    "blocks 0": (lambda n: (3, n), lambda n: (0, 2, (2, n))),
    "blocks 1": (lambda n: (2, n), lambda n: (1, 5, (2, -(-n // 5)))),
}


def layouts(convention: str) -> Iterator[tuple[str, Any, Callable[[int], zp.QuantParams]]]:
    for kind, (shape, _) in LAYOUTS.items():
        yield kind, shape, functools.partial(layout_params, kind, convention)


@functools.cache
def layout_params(kind: str, convention: str, n: int) -> zp.QuantParams:
    axis, block, shape = LAYOUTS[kind][1](n)
    scale = np.resize(np.float32([0.1, 0.03, 1.7]), shape)
    return zp.QuantParams(scale, 100, axis=axis, block_size=block, convention=convention)


def of_params(
    function: str,
    how: str,
    source: np.dtype[Any],
    target: np.dtype[Any] | None,
    shape: Callable[[int], tuple[int, ...]],
    prepare: Callable[[int], zp.QuantParams],
) -> Operation:
    calls = {
        "quantize": lambda x, out, p: zp.quantize(x, p, out=out),
        "dequantize": lambda q, out, p: zp.dequantize(q, p, out=out),
        "fake_quantize": lambda x, out, p: zp.fake_quantize(x, p, out=out),
        "requantize": lambda acc, out, p: zp.requantize(acc, 0.003, p, out=out),
    }
    return Operation(f"{function} {how}", source, target, shape, prepare, calls[function])


#: shape for a size, and the axis of the tables
LOOKUPS: dict[str, tuple[Callable[[int], tuple[int, ...]], int | None]] = {
    "flat": (flat, None),
    "in rows": (lambda n: (3, n), 0),
    **{f"of {k} channels": (lambda n, k=k: (n, k), 1) for k in (2, 3, 4, 5)},
}


def _tables(shape: Callable[[int], tuple[int, ...]], axis: int | None, n: int) -> Any:
    channels = 1 if axis is None else shape(n)[axis]
    table = np.random.default_rng(n).integers(0, 256, (channels, 256), np.uint8)
    table = table[0] if axis is None else table
    return table, axis, zp._backend.native_tables(table, CODES[0], axis)


def _look_up(q: Array, out: Array | None, given: Any) -> object:
    table, axis, native = given
    if out is None:  # in place
        isa = zp.backends().index(zp.backend())
        return zp._backend._core.lookup_into(isa, q, q, native)
    return zp._backend.look_up(q, table, axis, native, out.view(table.dtype))


def _round_even(x: Array, out: Array | None, _: Any) -> object:
    return zp.round(x, out=out)


def _round_away(x: Array, out: Array | None, _: Any) -> object:
    return zp.round(x, ties="away", out=out)


def _saturate(x: Array, out: Array | None, _: Any) -> object:
    return zp.saturate(x, -100, 100, out=out)


def _saturate_cast(x: Array, out: Array | None, _: Any) -> object:
    assert out is not None
    return zp.saturate_cast(x, out.dtype, out=out)


def _to_q8_0(x: Array, out: Array | None, _: Any) -> object:
    """Blocks of the last values."""
    assert out is not None
    return zp._backend.q8_0(x.reshape(-1)[2 * len(x) :].reshape(-1, 32), out)


def _from_q8_0(blocks: Array, out: Array | None, _: Any) -> object:
    assert out is not None
    return zp._backend.q8_0(blocks, out.reshape(-1)[2 * len(out) :].reshape(-1, 32))


def _min_max(x: Array, out: Array | None, _: Any) -> object:
    return zp.min_max(x)


def _dynamic(x: Array, out: Array | None, _: Any) -> object:
    return zp.quantize_dynamic(x, out=out)


def _range(x: Array, out: Array | None, params: zp.QuantParams) -> object:
    return zp.choose_params(x, axis=params.axis, block_size=params.block_size)


def _dynamic_by(x: Array, out: Array | None, params: zp.QuantParams) -> object:
    return zp.quantize_dynamic(x, axis=params.axis, block_size=params.block_size)[0]


def _tensor(n: int) -> zp.QuantParams:
    return zp.QuantParams(0.1, 100)


def _error_stats(x: Array, out: Array | None, params: zp.QuantParams) -> object:
    return dataclasses.astuple(zp.error_stats(x, params))


def _histogram(axis: int | None) -> Callable[[Array, Array | None, Any], object]:
    """Counts the elements, as `HistogramObserver` does for each chunk of data."""
    exponents = np.zeros(1 if axis is None else 3, np.int64)
    return lambda x, out, _: zp._backend.histogram(x, axis, exponents)


HISTOGRAMS = (
    ("flat", flat, _histogram(None)),
    ("axis 0", lambda n: (3, n), _histogram(0)),
    ("axis 1", lambda n: (n, 3), _histogram(1)),
)


def _too_far(x: Array, out: Array | None, _: Any) -> object:
    """Reads and writes one element more than it was given."""
    assert out is not None
    longer = x.size + 1
    x, out = (np.lib.stride_tricks.as_strided(a, (longer,)) for a in (x, out))
    return zp.quantize(x, zp.QuantParams(0.1, 3), out=out)


def _too_early(x: Array, out: Array | None, _: Any) -> object:
    """Writes the byte before its target."""
    assert out is not None
    before = (ctypes.c_ubyte * (out.size + 1)).from_address(out.ctypes.data - 1)
    return zp.saturate_cast(np.resize(x, out.size + 1), np.uint8, out=np.frombuffer(before, "u1"))


BROKEN = {
    name: Operation(name, np.dtype(np.float32), CODES[0], flat, nothing, call)
    for name, call in (("too far", _too_far), ("too early", _too_early))
}


# ---------------------------------------------------------------------------------------------
# The process


class Plan(NamedTuple):
    operations: list[Operation]
    sizes: tuple[int, ...]
    places: tuple[Place, ...] = PLACES


def plan(which: str) -> Plan:
    """All sizes ("all"), a "few", of these the "long" ones, all "offsets", or one of `BROKEN`."""
    if which in BROKEN:
        return Plan([BROKEN[which]], (1,))
    if which == "offsets":
        return Plan([*operations()], tuple(SIZES), OFFSETS)
    sizes = (*SIZES, *LONG) if which == "all" else FEW
    return Plan([*operations()], tuple(n for n in sizes if which != "long" or n in LONG))


LAST = struct.Struct("3i")  # operation, size and place of the call that is under way


def main(state: str, isa: str, which: str) -> None:
    """Runs every operation at every size and place; prints how many operations and calls."""
    with open(state, "r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    todo, sizes, places = plan(which)
    sources, targets = Room(), Room()
    calls = 0
    with zp.use_backend(isa):
        for (i, operation), n in itertools.product(enumerate(todo), sizes):
            if n == 0 and operation.needs_data:
                continue
            shape = operation.shape(n)
            size = math.prod(shape)
            prepared = operation.prepare(n)
            for j, place in enumerate(places):
                LAST.pack_into(shared, 0, i, n, j)
                x, read = sources.place(size, shape, operation.source, *place[:2])
                out, room, written = x, sources, read
                if operation.target is not None:
                    out, written = targets.place(size, shape, operation.target, *place[2:])
                    room = targets
                operation.call(x, out, prepared)
                calls += 1
                if not room.is_whole(written):
                    raise SystemExit("a byte beside the target was written")
                room.clean(written)
    print(len(todo), calls)


if __name__ == "__main__":
    main(*sys.argv[1:])


# ---------------------------------------------------------------------------------------------
# The tests

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's mprotect"),
    pytest.mark.slow("a hundred thousand calls in a process"),
]


#: for the process; a sanitizer must leave it the signal
OWN = {
    "ZEROPOINT_NUM_THREADS": "1",
    "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:handle_segv=0",
}


def run(tmp_path: Path, isa: str, which: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, what the process printed, and its last call."""
    state = tmp_path / "state"
    state.write_bytes(bytes(LAST.size))
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__, str(state), isa, which],
        env={**os.environ, **OWN, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    i, n, j = LAST.unpack(state.read_bytes())
    todo, _, places = plan(which)
    last = f"{todo[i].name}, n = {n}, {places[j]}"
    return done.returncode, done.stdout + done.stderr, last


def check(tmp_path: Path, isa: str, which: str, **environment: str) -> str:
    """Runs a plan, which must end well; what was done, in words."""
    code, told, last = run(tmp_path, isa, which, **environment)
    assert code == 0, f"{last}: exit code {code}\n{told}"
    number, calls = map(int, told.split())
    return f"{calls:,} calls of {number} operations, 0 faults"


@pytest.mark.parametrize("streamed", [False, True], ids=["in the caches", "past the caches"])
def test_no_byte_outside_the_arrays(native: str, tmp_path: Path, streamed: bool, note: Any) -> None:
    how = {"ZEROPOINT_STREAM_FROM": "0"} if streamed else {}
    done = check(tmp_path, native, "long" if streamed else "few", **how)
    where = "past the caches" if streamed else "in the caches"
    note(f"guard pages, {native}, {where}: {done}")


@pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent")
def test_a_byte_too_many_is_found(tmp_path: Path) -> None:
    isa = zp.backends()[0]
    code, told, last = run(tmp_path, isa, "too far")
    assert code == -signal.SIGSEGV, told
    assert last.startswith("too far, n = 1, Place(source='end'")
    code, told, last = run(tmp_path, isa, "too early")
    assert code == 1
    assert "a byte beside the target was written" in told
    assert last.startswith("too early, n = 1, Place(source='end'")
