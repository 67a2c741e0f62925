"""NumPy by hand: the line that people write, and the same steps with `out=` everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..check import ANY, convention
from ..jobs import HUGE, Array, Case
from .base import Call, Declined, System, one_thread

NUMPY = convention("numpy")


class NumPyByHand(System):
    name = "numpy"
    package = "numpy"

    def prepare(self, case: Case, threads: int) -> Call:
        one_thread("NumPy", threads)
        if case.job.convention != "numpy":
            raise Declined("NumPy by hand has the numpy convention only")
        if case.size >= HUGE:
            raise Declined("its temporaries are several times as large as 1 Gi elements of data")
        return super().prepare(case, threads)

    def quantize(self, case: Case, threads: int) -> Call:
        shape, scale, z = case.broadcast
        x, dtype = case.x.reshape(shape), np.dtype(case.job.codes)
        qmin, qmax = case.code_range

        def run() -> Array:
            codes: Array = np.clip(np.round(x / scale + z), qmin, qmax).astype(dtype)
            return codes

        return Call(run, lambda codes: (codes.reshape(case.shape),), NUMPY)

    def dequantize(self, case: Case, threads: int) -> Call:
        q, (_, scale, z), real = case.q, case.broadcast, np.dtype(case.job.real)

        def run() -> Array:
            values: Array = ((q - z) * scale).astype(real, copy=False)
            return values

        return Call(run, lambda values: (values,), ANY)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        x, (_, scale, z) = case.x, case.broadcast
        qmin, qmax = case.code_range

        def run() -> Array:
            values: Array = (np.clip(np.round(x / scale + z), qmin, qmax) - z) * scale
            return values

        return Call(run, lambda values: (values,), NUMPY)

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        x, dtype = case.x, np.dtype(case.job.codes)
        qmin, qmax = case.code_range
        by_rows: dict[str, Any] = {} if case.job.axis is None else {"axis": 1, "keepdims": True}

        def run() -> tuple[Array, Array, Array]:
            low = np.minimum(np.min(x, **by_rows), 0)
            high = np.maximum(np.max(x, **by_rows), 0)
            scale = (high - low) / (qmax - qmin)
            z = qmin - np.round(low / scale)
            return np.clip(np.round(x / scale + z), qmin, qmax).astype(dtype), scale, z

        return Call(run, lambda r: (r[0], np.squeeze(r[1]), np.squeeze(r[2])), NUMPY)

    def min_max(self, case: Case, threads: int) -> Call:
        x = case.x
        return Call(lambda: (np.min(x), np.max(x)), lambda r: (r[0], r[1]), ANY)


class NumPyWithOut(NumPyByHand):
    name = "numpy-out"

    def quantize(self, case: Case, threads: int) -> Call:
        shape, scale, z = case.broadcast
        x, codes = case.x.reshape(shape), case.out.reshape(shape)
        real = np.empty(shape, np.float32)
        qmin, qmax = case.code_range

        def run() -> None:
            _quantize_steps(x, scale, z, qmin, qmax, real)
            np.copyto(codes, real, casting="unsafe")

        return Call(run, lambda _: (case.out,), NUMPY)

    def dequantize(self, case: Case, threads: int) -> Call:
        q, values, (_, scale, z) = case.q, case.out, case.broadcast
        real = values if values.dtype == np.float32 else np.empty(case.shape, np.float32)

        def run() -> None:
            np.subtract(q, z, out=real)
            np.multiply(real, scale, out=real)
            if real is not values:
                np.copyto(values, real, casting="same_kind")

        return Call(run, lambda _: (values,), ANY)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        x, values, (_, scale, z) = case.x, case.out, case.broadcast
        qmin, qmax = case.code_range

        def run() -> None:
            _quantize_steps(x, scale, z, qmin, qmax, values)
            np.subtract(values, z, out=values)
            np.multiply(values, scale, out=values)

        return Call(run, lambda _: (values,), NUMPY)

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        if case.job.axis is not None:
            raise Declined("NumPy has dynamic_rows in the row numpy")
        x, codes = case.x, case.out
        real = np.empty(case.shape, np.float32)
        qmin, qmax = case.code_range

        def run() -> tuple[Array, Array]:
            low, high = np.minimum(np.min(x), 0), np.maximum(np.max(x), 0)
            scale = (high - low) / (qmax - qmin)
            z = qmin - np.round(low / scale)
            _quantize_steps(x, scale, z, qmin, qmax, real)
            np.copyto(codes, real, casting="unsafe")
            return scale, z

        return Call(run, lambda r: (codes, r[0], r[1]), NUMPY)

    def min_max(self, case: Case, threads: int) -> Call:
        raise Declined("min_max has no out to give")


def _quantize_steps(x: Array, scale: Any, z: Any, qmin: int, qmax: int, out: Array) -> None:
    np.divide(x, scale, out=out)
    np.add(out, z, out=out)
    np.round(out, out=out)
    np.clip(out, qmin, qmax, out=out)
