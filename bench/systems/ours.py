"""zeropoint: the best backend with `out` given and with fresh results; the lesser ones forced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

import zeropoint as zp

from .. import operations
from ..check import ANY, convention
from ..jobs import FILES, LOOKUPS, WHOLE, Case
from .base import Call, Declined, System
from .numpy import normalize


class Best(System):
    name = "zeropoint"
    role = "ours"
    package = "zeropoint"
    gives_out: ClassVar[bool] = True
    conventions = (*zp.CONVENTIONS, *zp.OFFSET_CONVENTIONS)
    missing = True

    def __init__(self) -> None:
        self.backend = zp.backends()[0]

    def prepare(self, case: Case, threads: int) -> Call:
        job = case.job
        how: dict[str, Any] = {}
        if self.gives_out and job.has_out:
            how["out"] = case.out
        elif job.operation == "dequantize" and job.real != "float32":
            how["dtype"] = case.out_dtype  # `out` says it by its own
        elif not self.gives_out and not job.has_out:
            raise Declined("is in the row zeropoint: no out to do without")
        run = operations.call(case, job.convention, case.source, **how)
        arithmetic = convention(job.convention) if job.by_convention else ANY
        before = case.files.clear if job.operation in FILES else Call._field_defaults["before"]
        return Call(run, operations.arrays, arithmetic, before)

    @contextlib.contextmanager
    def context(self, threads: int) -> Iterator[None]:
        zp.set_num_threads(threads)
        if self.backend == zp.backend():  # as most people call it: to force one costs some ns
            yield
            return
        with zp.use_backend(self.backend):
            yield


class BestFresh(Best):
    name = "zeropoint-fresh"
    gives_out = False


class FloatPath(Best):
    """Codes to codes without a table: through real values, whose array is given too."""

    name = "zeropoint-float"

    def prepare(self, case: Case, threads: int) -> Call:
        if case.job.operation not in LOOKUPS:
            raise Declined("is measured beside tables")
        x, q, out = np.empty(case.shape, np.float32), case.q, case.out
        given, wanted, normalized = case.given, case.wanted, normalize(case)

        def run() -> None:
            if case.job.operation == "image_lookup":
                zp.quantize(normalized(q), wanted, out=out)
                return
            zp.dequantize(q, given, out=x)
            if case.job.operation == "lookup":
                np.tanh(x, out=x)
            zp.quantize(x, wanted, out=out)

        return Call(run, lambda _: (out,), ANY)


class Plain(Best):
    """What a cliff is measured against: the same operation per tensor, on contiguous float32."""

    name = "plain"
    role = "yardstick"

    def prepare(self, case: Case, threads: int) -> Call:
        if case.job.plain_is_itself or case.job.operation in WHOLE:
            raise Declined("is plain, or a whole job")
        return super().prepare(case.plain(), threads)


class PlainFresh(Plain):
    name = "plain-fresh"
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
