"""Not rivals but measures: what the machine could do at best."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import numpy as np

from ..check import ANY
from ..jobs import FEW, FILES, KI, WHOLE, Array, Case
from .base import Call, Declined, System, module, one_thread


class BareLoop(System):
    """Moves the bytes of the job and computes nothing.

    With Numba: a compiled loop that reads every element as an integer of its size and writes its
    low bytes; a pass that only reads adds up 64-bit integers.  Its stores are ordinary ones, so
    beyond the caches a loop with streaming stores can be faster.  Without Numba: `np.copyto` of
    half as many bytes as the job reads and writes, for it does both with each.
    """

    name = "bare-loop"
    role = "yardstick"
    package = "numpy"

    def __init__(self) -> None:
        try:
            self._numba = module("numba")
        except ImportError:
            self._numba = None
        self.package = "numba" if self._numba else "numpy"
        self.note = (
            "a Numba loop that reads and writes the same bytes and computes nothing"
            if self._numba
            else "np.copyto of as many bytes, because Numba is not installed"
        )
        self._compiled: dict[bool, tuple[Any, Any]] = {}

    def context(self, threads: int) -> contextlib.AbstractContextManager[Any]:
        if self._numba:
            self._numba.set_num_threads(threads)
        return contextlib.nullcontext()

    def prepare(self, case: Case, threads: int) -> Call:
        if case.size < 64 * KI:
            raise Declined("below 64 Ki elements it would measure how a loop is called")
        if case.job.operation in WHOLE:
            raise Declined("a whole job is more than its loops")
        if not self._numba:
            one_thread("np.copyto", threads)
            return Call(_copy_half(case), lambda _: (), ANY)
        read, move = self._loops(threads > 1)
        passes = [
            partial(move, _elements(case.source), _elements(case.out))
            if write
            else partial(read, _words(case.source))
            for _, write in case.job.passes
        ]

        def run() -> None:
            for each in passes:
                each()

        return Call(run, lambda _: (), ANY)

    def _loops(self, parallel: bool) -> tuple[Any, Any]:
        assert self._numba is not None
        if parallel not in self._compiled:
            njit, prange = self._numba.njit(parallel=parallel), self._numba.prange

            def read(x: Any) -> Any:
                total = np.uint64(0)
                for i in prange(x.size):
                    total += x[i]
                return total

            def move(x: Any, out: Any) -> None:
                for i in prange(x.size):
                    out[i] = x[i]

            self._compiled[parallel] = njit(read), njit(move)
        return self._compiled[parallel]


class Rint(System):
    """np.rint of one float32 element, new result: the cost of the cheapest call of NumPy."""

    name = "np.rint"
    role = "yardstick"
    package = "numpy"

    def prepare(self, case: Case, threads: int) -> Call:
        one_thread("NumPy", threads)
        if case.size > FEW:
            raise Declined(f"measured beside calls of at most {FEW} elements")
        return Call(partial(np.rint, np.ones(1, np.float32)), lambda _: (), ANY)


class FileCopy(System):
    """The file or folder of floats copied, tensor by tensor, by the code that quantizes files."""

    name = "file-copy"
    role = "yardstick"
    package = "zeropoint"

    def prepare(self, case: Case, threads: int) -> Call:
        if case.job.operation not in FILES:
            raise Declined("measured beside jobs from file to file")
        return Call(case.files.copy, lambda _: (), ANY, case.files.clear)


def _elements(array: Array) -> Array:
    """The flat array as unsigned integers of its item size."""
    return array.reshape(-1).view(f"u{array.dtype.itemsize}")


def _words(array: Array) -> Array:
    """The flat array as 64-bit integers (a few bytes that do not fill one are left out)."""
    flat = array.reshape(-1).view(np.uint8)
    return flat[: flat.size // 8 * 8].view(np.uint64)


def _copy_half(case: Case) -> Any:
    count = case.size * case.job.bytes_per_element // 2
    source, target = np.ones(count, np.uint8), np.zeros(count, np.uint8)
    return partial(np.copyto, target, source)
