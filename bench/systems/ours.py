"""zeropoint: the best backend with `out` given and with fresh results; the lesser ones forced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np

import zeropoint as zp

from ..check import ANY, convention
from ..jobs import Case
from .base import Call, Declined, System

#: zeropoint without threads has no such function; then it is measured with one thread only
set_num_threads = getattr(zp, "set_num_threads", None)


class Best(System):
    name = "zeropoint"
    role = "ours"
    package = "zeropoint"
    gives_out: ClassVar[bool] = True

    def __init__(self) -> None:
        self.backend = zp.backends()[0]

    def prepare(self, case: Case, threads: int) -> Call:
        if threads != 1 and set_num_threads is None:
            raise Declined("this zeropoint has one thread")
        return super().prepare(case, threads)

    @contextlib.contextmanager
    def context(self, threads: int) -> Iterator[None]:
        if set_num_threads is not None:
            set_num_threads(threads)
        with zp.use_backend(self.backend):
            yield

    def quantize(self, case: Case, threads: int) -> Call:
        params = case.params(case.job.convention)
        run = partial(zp.quantize, case.x, params, **self._out(case))
        return Call(run, lambda codes: (codes,), convention(case.job.convention))

    def fake_quantize(self, case: Case, threads: int) -> Call:
        params = case.params(case.job.convention)
        run = partial(zp.fake_quantize, case.x, params, **self._out(case))
        return Call(run, lambda values: (values,), convention(case.job.convention))

    def dequantize(self, case: Case, threads: int) -> Call:
        # a fresh float16 result has to be asked for; `out` says it by its dtype
        fresh_float16 = not self.gives_out and case.job.real == "float16"
        how = {"dtype": "float16"} if fresh_float16 else self._out(case)
        run = partial(zp.dequantize, case.q, case.params(case.job.convention), **how)
        return Call(run, lambda values: (values,), ANY)

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        rule: dict[str, Any] = {"convention": case.job.convention, "axis": case.job.axis}
        run = partial(zp.quantize_dynamic, case.x, case.job.codes, **rule, **self._out(case))
        return Call(
            run,
            lambda both: (both[0], np.asarray(both[1].scale), np.asarray(both[1].zero_point)),
            convention(case.job.convention),
        )

    def min_max(self, case: Case, threads: int) -> Call:
        if not self.gives_out:
            raise Declined("min_max has no out to do without")
        run = partial(zp.min_max, case.x)
        return Call(run, lambda ends: (np.asarray(ends[0]), np.asarray(ends[1])), ANY)

    def _out(self, case: Case) -> dict[str, Any]:
        return {"out": case.out} if self.gives_out else {}


class BestFresh(Best):
    name = "zeropoint-fresh"
    gives_out = False


def forced(isa: str) -> type[Best]:
    """zeropoint with the backend `isa`, where that is not the best one."""

    class Forced(Best):
        name = f"zeropoint-{isa}"

        def __init__(self) -> None:
            if isa not in zp.backends():
                raise ImportError(f"this machine has no backend {isa}")
            if isa == zp.backends()[0]:
                raise ImportError(f"{isa} is the best backend, and measured as that")
            self.backend = isa

    return Forced


FORCED = tuple(forced(isa) for isa in zp._backend.core_info().get("isas", ())[1:])
