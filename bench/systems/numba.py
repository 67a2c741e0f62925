"""Numba: the loops that one would write by hand, compiled, the result's array given.

Each is in the form in which it was found to be fastest, that is, to be vectorised: codes go
through int32, blocks are a dimension of their own, and division is IEEE's (Numba's default checks
for zero like Python).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

import zeropoint as zp

from ..check import ANY, convention
from ..jobs import Array, Case, Runs
from .base import STRIDED, Call, Declined, System, float32_only, module

ONE = np.float32(1)
HALF = np.float32(0.5)
ZERO = np.float32(0)
LANES = 128  # running minima; a single one is a chain of operations, which no compiler vectorises


class Numba(System):
    name = "numba"
    package = "numba"
    views = STRIDED
    conventions = (*zp.CONVENTIONS, *zp.OFFSET_CONVENTIONS)
    gives_out: ClassVar[bool] = True
    _compiled: ClassVar[dict[tuple[str, str, int], Any]] = {}  # takes seconds for each loop

    def __init__(self) -> None:
        self._numba = module("numba")

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
        if case.job.axis is None:
            parameters = *_numbers(case), *_ends(case)
            return self._per_tensor(_quantize, _quantize_4d, case, threads, parameters)
        runs = case.runs
        by_column = runs.by_column
        loop = self._loop(_quantize_columns if by_column else _quantize_runs, case, threads)
        x, out = (a.reshape(_rows(runs)) for a in (case.x, case.out))
        args = (x, runs.scale, runs.zero, runs.shape[1], *_ends(case), out)
        return Call(partial(loop, *args), lambda _: (case.out,), convention(case.job.convention))

    def dequantize(self, case: Case, threads: int) -> Call:
        if case.job.convention not in VALUE:
            raise Declined("has no fused multiply-add")
        if case.job.axis is None:
            parameters = *_numbers(case), _ends(case)[0]
            return self._per_tensor(_dequantize, _dequantize_4d, case, threads, parameters)
        runs = case.runs
        if not runs.by_column:
            raise Declined("has no loop for this layout")
        loop = self._loop(_dequantize_columns, case, threads)
        q, out = (a.reshape(_rows(runs)) for a in (case.q, case.out))
        args = (q, runs.scale, runs.zero, runs.shape[1], _ends(case)[0], out)
        return Call(partial(loop, *args), lambda _: (case.out,), ANY)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        parameters = *_numbers(case), *_ends(case)
        return self._per_tensor(_fake_quantize, None, case, threads, parameters)

    def _per_tensor(
        self,
        flat: Callable[..., Any],
        nested: Callable[..., Any] | None,
        case: Case,
        threads: int,
        parameters: tuple[Any, ...],
    ) -> Call:
        """One loop over memory where data and result lie alike, else one for each dimension."""
        source, out = case.source, case.out if self.gives_out else case.new_out()
        views = _in_memory_order(source, out)
        if views is None:
            if nested is None:
                raise Declined("has no loop for this layout")
            flat, views = nested, (_in_4d(source), _in_4d(out))
        loop = self._loop(flat, case, threads)
        arithmetic = convention(case.job.convention) if case.job.by_convention else ANY
        if self.gives_out:
            run = partial(loop, views[0], *parameters, views[1])
            return Call(run, lambda _: (out,), arithmetic)

        shape, dtype = views[1].shape, out.dtype

        def fresh() -> Array:
            result: Array = np.empty(shape, dtype)
            loop(views[0], *parameters, result)
            return result

        return Call(fresh, lambda result: (result.reshape(case.shape),), arithmetic)

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        arithmetic = convention(case.job.convention)
        if case.job.axis is None:
            loop = self._loop(_dynamic, case, threads)
            return Call(
                partial(loop, case.x, *_ends(case), case.out),
                lambda r: (case.out, np.asarray(r[0]), np.asarray(r[1])),
                arithmetic,
            )
        runs, shape = case.runs, case.scale.shape
        if runs.scale.size != case.scale.size:
            raise Declined("has no loop for ranges of several runs each")
        if runs.by_column and len(runs.scale) > 1:
            raise Declined("has no loop for ranges of blocks of rows")
        scale, zero = np.empty_like(runs.scale), np.empty_like(runs.scale)
        loop = self._loop(_dynamic_columns if runs.by_column else _dynamic_runs, case, threads)
        x, out = (a.reshape(_rows(runs)) for a in (case.x, case.out))
        args = (x, *_ends(case), out, scale.reshape(-1), zero.reshape(-1))
        return Call(
            partial(loop, *args),
            lambda _: (case.out, scale.reshape(shape), zero.reshape(shape)),
            arithmetic,
        )

    def min_max(self, case: Case, threads: int) -> Call:
        loop = self._loop(_min_max, case, threads)
        return Call(partial(loop, case.x), lambda r: (np.asarray(r[0]), np.asarray(r[1])), ANY)


class NumbaFresh(Numba):
    """The same loops, a new array for each result."""

    name = "numba-fresh"
    gives_out = False

    def prepare(self, case: Case, threads: int) -> Call:
        if case.job.operation not in ("quantize", "dequantize", "fake_quantize"):
            raise Declined("measured with `out` only")
        if case.job.axis is not None:
            raise Declined("measured with `out` only")
        return super().prepare(case, threads)


def _rows(runs: Runs) -> tuple[int, int]:
    groups, rows, elements = runs.shape
    return groups * rows, elements


def _in_memory_order(source: Array, out: Array) -> tuple[Array, Array] | None:
    """Both flat, as they lie in memory, if every element has the same place in both."""
    order = np.argsort([-stride for stride in source.strides], kind="stable")
    there = source.transpose(order), out.transpose(order)
    if not all(array.flags.c_contiguous for array in there):
        return None
    return there[0].reshape(-1), there[1].reshape(-1)


def _in_4d(array: Array) -> Array:
    shape = array.shape
    return array.reshape(shape[:1] + (1,) * (4 - len(shape)) + shape[1:])


def _numbers(case: Case) -> tuple[Any, Any]:
    return case.numbers[0], np.float32(case.numbers[1])


def _ends(case: Case) -> tuple[Any, Any]:
    """qmin and qmax in the type of the arithmetic: Numba would widen an integer to float64."""
    qmin, qmax = case.code_range
    return np.float32(qmin), np.float32(qmax)


# ---------------------------------------------------------------------------------------------
# The arithmetic.  Argument types are Numba's business: it compiles for the arrays it is given.


def _code_numpy(x: Any, s: Any, z: Any, qmin: Any, n: Any) -> Any:
    return np.rint(x / s + z)


def _code_onnx(x: Any, s: Any, z: Any, qmin: Any, n: Any) -> Any:
    return np.rint(x / s) + z


def _code_torch(x: Any, s: Any, z: Any, qmin: Any, n: Any) -> Any:
    return np.rint(x * (ONE / s)) + z


def _code_cf(x: Any, s: Any, o: Any, qmin: Any, n: Any) -> Any:
    return np.rint((x - o) / s)


def _code_faiss(x: Any, span: Any, o: Any, qmin: Any, n: Any) -> Any:
    return np.floor(n * ((x - o) / span)) + qmin


def _code_embeddings(x: Any, s: Any, o: Any, qmin: Any, n: Any) -> Any:
    return np.floor((x - o) / s) + qmin


def _value(q: Any, s: Any, z: Any, qmin: Any) -> Any:
    return (q - z) * s


def _value_cf(q: Any, s: Any, o: Any, qmin: Any) -> Any:
    return q * s + o


def _value_embeddings(q: Any, s: Any, o: Any, qmin: Any) -> Any:
    return (q + (HALF - qmin)) * s + o


def _zero_numpy(low: Any, s: Any, qmin: Any) -> Any:
    return qmin - np.rint(low / s)


def _zero_onnx(low: Any, s: Any, qmin: Any) -> Any:
    return np.rint(qmin - low / s)


CODE = {
    "numpy": _code_numpy,
    "onnx": _code_onnx,
    "torch": _code_torch,
    "cf": _code_cf,
    "faiss": _code_faiss,
    "sentence-transformers": _code_embeddings,
}
#: faiss' values need a fused multiply-add
VALUE: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("numpy", "onnx", "torch"), _value),
    "cf": _value_cf,
    "sentence-transformers": _value_embeddings,
}
ZERO_POINT = {"numpy": _zero_numpy, "onnx": _zero_onnx}


def _clipped(jit: Any, rule: str) -> Any:
    code = jit(CODE[rule], parallel=False)

    def clipped(x: Any, s: Any, z: Any, qmin: Any, qmax: Any) -> Any:
        return min(max(code(x, s, z, qmin, qmax - qmin), qmin), qmax)

    return jit(clipped, parallel=False)


# ---------------------------------------------------------------------------------------------
# The loops.  Each function makes one; `prange` is a plain range unless it is compiled in parallel.


def _quantize(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.size):
            out[i] = np.int32(clipped(x[i], s, z, qmin, qmax))

    return jit(loop)


def _quantize_4d(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                for k in range(x.shape[2]):
                    for m in range(x.shape[3]):
                        out[i, j, k, m] = np.int32(clipped(x[i, j, k, m], s, z, qmin, qmax))

    return jit(loop)


def _quantize_runs(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, rows: int, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.shape[0]):
            scale, zero = s[i, 0], z[i, 0]
            for j in range(x.shape[1]):
                out[i, j] = np.int32(clipped(x[i, j], scale, zero, qmin, qmax))

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
    value = jit(VALUE[rule], parallel=False)

    def loop(q: Any, s: Any, z: Any, qmin: Any, out: Any) -> None:
        for i in prange(q.size):
            out[i] = value(np.float32(q[i]), s, z, qmin)

    return jit(loop)


def _dequantize_columns(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    value = jit(VALUE[rule], parallel=False)

    def loop(q: Any, s: Any, z: Any, rows: int, qmin: Any, out: Any) -> None:
        for i in prange(q.shape[0]):
            b = i // rows
            for j in range(q.shape[1]):
                out[i, j] = value(np.float32(q[i, j]), s[b, j], z[b, j], qmin)

    return jit(loop)


def _dequantize_4d(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    value = jit(VALUE[rule], parallel=False)

    def loop(q: Any, s: Any, z: Any, qmin: Any, out: Any) -> None:
        for i in prange(q.shape[0]):
            for j in range(q.shape[1]):
                for k in range(q.shape[2]):
                    for m in range(q.shape[3]):
                        out[i, j, k, m] = value(np.float32(q[i, j, k, m]), s, z, qmin)

    return jit(loop)


def _fake_quantize(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)

    def loop(x: Any, s: Any, z: Any, qmin: Any, qmax: Any, out: Any) -> None:
        for i in prange(x.size):
            out[i] = (clipped(x[i], s, z, qmin, qmax) - z) * s

    return jit(loop)


def _min_max(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    def ends(x: Any) -> Any:
        low, high, done = x[0], x[0], 0
        if x.size >= 2 * LANES:
            done = x.size // LANES * LANES
            rows = x[:done].reshape(-1, LANES)
            lows, highs = rows[0].copy(), rows[0].copy()
            for i in range(1, len(rows)):
                for j in range(LANES):
                    lows[j] = min(lows[j], rows[i, j])
                    highs[j] = max(highs[j], rows[i, j])
            low, high = lows.min(), highs.max()
        for i in range(done, x.size):
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


def _dynamic_runs(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    dynamic = _dynamic(partial(jit, parallel=False), prange, rule, 1)

    def loop(x: Any, qmin: Any, qmax: Any, out: Any, scale: Any, zero: Any) -> None:
        for i in prange(x.shape[0]):
            scale[i], zero[i] = dynamic(x[i], qmin, qmax, out[i])

    return jit(loop)


def _dynamic_columns(jit: Any, prange: Any, rule: str, threads: int) -> Any:
    clipped = _clipped(jit, rule)
    zero_point = jit(ZERO_POINT[rule], parallel=False)

    def ends(x: Any) -> Any:
        lows, highs = np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                lows[j] = min(lows[j], x[i, j])
                highs[j] = max(highs[j], x[i, j])
        return lows, highs

    part_ends = jit(ends, parallel=False)

    def loop(x: Any, qmin: Any, qmax: Any, out: Any, scale: Any, zero: Any) -> None:
        n, columns = x.shape
        lows = np.empty((threads, columns), x.dtype)
        highs = np.empty((threads, columns), x.dtype)
        for part in prange(threads):
            lows[part], highs[part] = part_ends(x[n * part // threads : n * (part + 1) // threads])
        for j in range(columns):
            low, high = lows[:, j].min(), highs[:, j].max()
            scale[j] = (high - low) / (qmax - qmin)
            zero[j] = zero_point(low, scale[j], qmin)
        for i in prange(n):
            for j in range(columns):
                out[i, j] = np.int32(clipped(x[i, j], scale[j], zero[j], qmin, qmax))

    return jit(loop)
