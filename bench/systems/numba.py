"""Numba: the loops that one would write by hand, compiled, the result's array given.

Each is in the form in which it was found to be fastest, that is, to be vectorised: codes go
through int32, blocks are a dimension of their own, and division is IEEE's (Numba's default checks
for zero like Python).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..check import ANY, convention
from ..jobs import Case
from .base import Call, Declined, System, float32_only, module

ONE = np.float32(1)
ZERO = np.float32(0)
LANES = 128  # running minima; a single one is a chain of operations, which no compiler vectorises


class Numba(System):
    name = "numba"
    package = "numba"

    def __init__(self) -> None:
        self._numba = module("numba")
        self._compiled: dict[tuple[str, str, int], Any] = {}

    def context(self, threads: int) -> contextlib.AbstractContextManager[Any]:
        self._numba.set_num_threads(threads)
        return contextlib.nullcontext()

    def prepare(self, case: Case, threads: int) -> Call:
        float32_only(case)
        if threads > self._numba.config.NUMBA_NUM_THREADS:
            raise Declined(f"started with {self._numba.config.NUMBA_NUM_THREADS} threads")
        return super().prepare(case, threads)

    def _loop(self, make: Callable[..., Any], case: Case, threads: int) -> Any:
        """The compiled loop for the case's convention; each is compiled once."""
        key = (make.__name__, case.job.convention, threads)
        if key not in self._compiled:
            jit = partial(self._numba.njit, parallel=threads > 1, error_model="numpy")
            self._compiled[key] = make(jit, self._numba.prange, case.job.convention, threads)
        return self._compiled[key]

    def quantize(self, case: Case, threads: int) -> Call:
        scale, zero = case.scale, np.asarray(case.zero_point, np.float32)[()]
        args: tuple[Any, ...]
        if case.job.axis is None:
            loop = self._loop(_quantize, case, threads)
            args = (case.x, scale, zero, *_ends(case), case.out)
        elif (case.job.axis == 0) == (case.job.block is None):  # one scale for each run of a row
            loop = self._loop(_quantize_runs, case, threads)
            scale, zero = (a.reshape(case.shape[0], -1) for a in (scale, zero))
            runs = (*scale.shape, -1)
            args = (case.x.reshape(runs), scale, zero, *_ends(case), case.out.reshape(runs))
        else:  # one scale for each column, of all rows or of a block of them
            loop = self._loop(_quantize_columns, case, threads)
            scale, zero = (a.reshape(-1, case.shape[1]) for a in (scale, zero))
            rows = case.shape[0] // len(scale)
            args = (case.x, scale, zero, rows, *_ends(case), case.out)
        return Call(partial(loop, *args), lambda _: (case.out,), convention(case.job.convention))

    def dequantize(self, case: Case, threads: int) -> Call:
        loop = self._loop(_dequantize, case, threads)
        args = (case.q, case.scale, np.float32(case.zero_point), case.out)
        return Call(partial(loop, *args), lambda _: (case.out,), ANY)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        loop = self._loop(_fake_quantize, case, threads)
        args = (case.x, case.scale, np.float32(case.zero_point), *_ends(case), case.out)
        return Call(partial(loop, *args), lambda _: (case.out,), convention(case.job.convention))

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        arithmetic = convention(case.job.convention)
        if case.job.axis is None:
            loop = self._loop(_dynamic, case, threads)
            return Call(
                partial(loop, case.x, *_ends(case), case.out),
                lambda r: (case.out, np.asarray(r[0]), np.asarray(r[1])),
                arithmetic,
            )
        loop = self._loop(_dynamic_rows, case, threads)
        scale, zero = np.empty(case.shape[0], np.float32), np.empty(case.shape[0], np.float32)
        args = (case.x, *_ends(case), case.out, scale, zero)
        return Call(partial(loop, *args), lambda _: (case.out, scale, zero), arithmetic)

    def min_max(self, case: Case, threads: int) -> Call:
        loop = self._loop(_min_max, case, threads)
        return Call(partial(loop, case.x), lambda r: (np.asarray(r[0]), np.asarray(r[1])), ANY)


def _ends(case: Case) -> tuple[Any, Any]:
    """qmin and qmax in the type of the arithmetic: Numba would widen an integer to float64."""
    qmin, qmax = case.code_range
    return np.float32(qmin), np.float32(qmax)


# ---------------------------------------------------------------------------------------------
# The arithmetic.  Argument types are Numba's business: it compiles for the arrays it is given.


def _code_numpy(x: Any, s: Any, z: Any) -> Any:
    return np.rint(x / s + z)


def _code_onnx(x: Any, s: Any, z: Any) -> Any:
    return np.rint(x / s) + z


def _code_torch(x: Any, s: Any, z: Any) -> Any:
    return np.rint(x * (ONE / s)) + z


def _zero_numpy(low: Any, s: Any, qmin: Any) -> Any:
    return qmin - np.rint(low / s)


def _zero_onnx(low: Any, s: Any, qmin: Any) -> Any:
    return np.rint(qmin - low / s)


CODE = {"numpy": _code_numpy, "onnx": _code_onnx, "torch": _code_torch}
ZERO_POINT = {"numpy": _zero_numpy, "onnx": _zero_onnx}


def _clipped(jit: Any, rule: str) -> Any:
    code = jit(CODE[rule], parallel=False)

    def clipped(x: Any, s: Any, z: Any, qmin: Any, qmax: Any) -> Any:
        return min(max(code(x, s, z), qmin), qmax)

    return jit(clipped, parallel=False)


# ---------------------------------------------------------------------------------------------
# The loops.  Each function makes one; `prange` is a plain range unless it is compiled in parallel.


def _quantize(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.size):
            out[i] = np.int32(clipped(x[i], s, z, qmin, qmax))

    return jit(loop)


def _quantize_runs(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.shape[0]):
            for b in range(x.shape[1]):
                scale, zero = s[i, b], z[i, b]
                for j in range(x.shape[2]):
                    out[i, b, j] = np.int32(clipped(x[i, b, j], scale, zero, qmin, qmax))

    return jit(loop)


def _quantize_columns(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, rows: int, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.shape[0]):
            b = i // rows
            for j in range(x.shape[1]):
                out[i, j] = np.int32(clipped(x[i, j], s[b, j], z[b, j], qmin, qmax))

    return jit(loop)


def _dequantize(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    def loop(q: Any, s: Any, z: Any, out: Any) -> None:
        for i in prange(q.size):
            out[i] = (np.float32(q[i]) - z) * s

    return jit(loop)


def _fake_quantize(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.size):
            out[i] = (clipped(x[i], s, z, qmin, qmax) - z) * s

    return jit(loop)


def _min_max(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    def ends(x: Any) -> Any:
        low, high = x[0], x[0]
        rows = x[: x.size // LANES * LANES].reshape(-1, LANES)
        if len(rows) > 1:
            lows, highs = rows[0].copy(), rows[0].copy()
            for i in range(1, len(rows)):
                for j in range(LANES):
                    lows[j] = min(lows[j], rows[i, j])
                    highs[j] = max(highs[j], rows[i, j])
            low, high = lows.min(), highs.max()
        for i in range(rows.size, x.size):
            low, high = min(low, x[i]), max(high, x[i])
        return low, high

    one_part = jit(ends, parallel=False)
    if threads == 1:
        return one_part

    def loop(x: Any) -> Any:
        if x.size < LANES * threads:
            return one_part(x)
        lows, highs = np.empty(threads, x.dtype), np.empty(threads, x.dtype)
        for part in prange(threads):
            start, stop = x.size * part // threads, x.size * (part + 1) // threads
            lows[part], highs[part] = one_part(x[start:stop])
        return lows.min(), highs.max()

    return jit(loop)


def _dynamic(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    min_max = _min_max(jit, prange, rule, threads)
    quantize = _quantize(jit, prange, rule, threads)
    zero_point = jit(ZERO_POINT[rule], parallel=False)

    def loop(x: Any, qmin: Any, qmax: Any, out: Any) -> Any:
        low, high = min_max(x)
        low, high = min(low, ZERO), max(high, ZERO)
        scale = (high - low) / (qmax - qmin)
        zero = zero_point(low, scale, qmin)
        quantize(x, scale, zero, qmin, qmax, out)
        return scale, zero

    return jit(loop, parallel=False)


def _dynamic_rows(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    dynamic = _dynamic(partial(jit, parallel=False), prange, rule, 1)

    def loop(x: Any, qmin: Any, qmax: Any, out: Any, scale: Any, zero: Any) -> None:
        for i in prange(x.shape[0]):
            scale[i], zero[i] = dynamic(x[i], qmin, qmax, out[i])

    return jit(loop)
