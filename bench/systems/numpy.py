"""NumPy by hand: the line that people write, and the same steps with `out=` everywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..check import ANY, convention
from ..jobs import HUGE, MEAN, STD, Array, Case
from ..operations import ACCUMULATOR_SCALE, Result
from .base import STRIDED, Call, Declined, System, one_thread

NUMPY = convention("numpy")
HALF = np.float32(0.5)

#: the codes before they are clipped; `s` and `z` are `Case.numbers`
CODES: dict[str, Callable[..., Array]] = {
    "numpy": lambda x, s, z, qmin, n: np.round(x / s + z),
    "cf": lambda x, s, o, qmin, n: np.rint((x - o) / s),
    "faiss": lambda x, span, o, qmin, n: np.floor(n * np.clip((x - o) / span, 0, 1)) + qmin,
    "sentence-transformers": lambda x, s, o, qmin, n: np.floor((x - o) / s) + qmin,
}
#: the values of codes; faiss' need a fused multiply-add, which NumPy has not
VALUES: dict[str, Callable[..., Array]] = {
    "numpy": lambda q, s, z, qmin: (q - z) * s,
    "cf": lambda q, s, o, qmin: q * s + o,
    "sentence-transformers": lambda q, s, o, qmin: (q + (HALF - qmin)) * s + o,
}


class NumPyByHand(System):
    name = "numpy"
    package = "numpy"
    views = (*STRIDED, "big-endian")
    keywords = ("skip_nan", "arithmetic")
    conventions: ClassVar[Collection[str]] = tuple(CODES)
    missing = True

    def prepare(self, case: Case, threads: int) -> Call:
        one_thread("NumPy", threads)
        if case.size >= HUGE:
            raise Declined("its temporaries are several times as large as 1 Gi elements of data")
        return super().prepare(case, threads)

    def quantize(self, case: Case, threads: int) -> Call:
        shape, scale, z = case.broadcast
        x, dtype = case.x.reshape(shape), np.dtype(case.job.codes)
        qmin, qmax = case.code_range
        code, nan_code, n = CODES[case.job.convention], case.nan_code, qmax - qmin

        def run() -> Array:
            codes: Array = np.clip(code(x, scale, z, qmin, n), qmin, qmax)
            if nan_code is not None:
                codes = np.where(np.isnan(x), nan_code, codes)
            return codes.astype(dtype)

        arithmetic = convention(case.job.convention)
        return Call(run, lambda codes: (codes.reshape(case.shape),), arithmetic)

    def dequantize(self, case: Case, threads: int) -> Call:
        q, (_, scale, z), real = case.q, case.broadcast, np.dtype(case.job.real)
        if case.job.convention not in VALUES:
            raise Declined("NumPy has no fused multiply-add")
        value, nan_code, qmin = VALUES[case.job.convention], case.nan_code, case.code_range[0]

        def run() -> Array:
            values = value(q, scale, z, qmin)
            if nan_code is not None:
                values = np.where(q == nan_code, np.nan, values)
            return values.astype(real, copy=False)

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
        along: dict[str, Any] = {}
        if case.job.axis is not None:
            shape, scale, _ = case.broadcast
            x = x.reshape(shape)
            shared = (i for i, n in enumerate(scale.shape) if n == 1 and shape[i] > 1)
            along = {"axis": tuple(shared), "keepdims": True}

        def run() -> tuple[Array, Array, Array]:
            real = x.astype(np.float32, copy=False)
            low = np.minimum(np.min(real, **along), 0)
            high = np.maximum(np.max(real, **along), 0)
            scale = (high - low) / (qmax - qmin)
            z = qmin - np.round(low / scale)
            return np.clip(np.round(real / scale + z), qmin, qmax).astype(dtype), scale, z

        def result(r: tuple[Array, Array, Array]) -> Result:
            return r[0].reshape(case.shape), *(a.reshape(case.scale.shape) for a in r[1:])

        return Call(run, result, NUMPY)

    def requantize(self, case: Case, threads: int) -> Call:
        acc, dtype, z = case.x, np.dtype(case.job.codes), case.zero_point
        multiplier = np.float32(np.float64(ACCUMULATOR_SCALE) / case.scale)
        qmin, qmax = case.code_range

        def run() -> Array:
            real = np.round(acc.astype(np.float32) * multiplier) + z
            codes: Array = np.clip(real, qmin, qmax).astype(dtype)
            return codes

        return Call(run, lambda codes: (codes,), ANY)

    def saturate(self, case: Case, threads: int) -> Call:
        return Call(partial(np.clip, case.x, -1, 1), lambda values: (values,), ANY)

    def saturate_cast(self, case: Case, threads: int) -> Call:
        x, dtype, ends = case.x, np.dtype(case.job.codes), case.code_range

        def run() -> Array:
            codes: Array = np.clip(np.round(x), *ends).astype(dtype)
            return codes

        return Call(run, lambda codes: (codes,), ANY)

    def round(self, case: Case, threads: int) -> Call:
        return Call(partial(np.rint, case.x), lambda values: (values,), ANY)

    def rescale(self, case: Case, threads: int) -> Call:
        return self._through_reals(case, lambda x: x)

    def lookup(self, case: Case, threads: int) -> Call:
        return self._through_reals(case, np.tanh)

    @staticmethod
    def _through_reals(case: Case, function: Callable[[Array], Array]) -> Call:
        q, given, quantize = case.q, case.given, _quantizer(case)
        s, z = given.scale, np.float32(given.zero_point)
        return Call(lambda: quantize(function((q - z) * s)), lambda codes: (codes,), ANY)

    def image_lookup(self, case: Case, threads: int) -> Call:
        pixels, normalized, quantize = case.q, normalize(case), _quantizer(case)
        return Call(lambda: quantize(normalized(pixels)), lambda codes: (codes,), ANY)

    def min_max(self, case: Case, threads: int) -> Call:
        x = case.x
        low, high = (np.nanmin, np.nanmax) if case.job.missing else (np.min, np.max)
        return Call(lambda: (low(x), high(x)), lambda r: (r[0], r[1]), ANY)


class NumPyWithOut(NumPyByHand):
    name = "numpy-out"
    conventions = ("numpy",)
    missing = False

    def prepare(self, case: Case, threads: int) -> Call:
        if case.job.operation not in (
            "quantize",
            "dequantize",
            "fake_quantize",
            "quantize_dynamic",
        ):
            raise Declined("is in the row numpy")
        return super().prepare(case, threads)

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


def _quantize_steps(x: Array, scale: Any, z: Any, qmin: int, qmax: int, out: Array) -> None:
    np.divide(x, scale, out=out)
    np.add(out, z, out=out)
    np.round(out, out=out)
    np.clip(out, qmin, qmax, out=out)


def _quantizer(case: Case) -> Callable[[Array], Array]:
    """The line of the tutorial, for the codes of `Case.wanted`."""
    params = case.wanted
    s, z, ends = params.scale, np.float32(params.zero_point), (params.qmin, params.qmax)

    def quantize(x: Array) -> Array:
        codes: Array = np.clip(np.round(x / s + z), *ends).astype(params.dtype)
        return codes

    return quantize


def normalize(case: Case) -> Callable[[Array], Array]:
    """Pixels to what a network takes, in float32."""
    shape = [1] * len(case.shape)
    shape[case.job.axis or 0] = 3
    mean, std = (np.array(each, np.float32).reshape(shape) for each in (MEAN, STD))
    return lambda pixels: (pixels / np.float32(255) - mean) / std


class NumPyTake(System):
    """The table by NumPy: `take`, a channel at a time; its new result is faster than `out`."""

    name = "numpy-take"
    package = "numpy"
    keywords = ("arithmetic",)

    def rescale(self, case: Case, threads: int) -> Call:
        one_thread("NumPy", threads)
        q, table = case.q, case.table
        return Call(lambda: table.take(q), lambda codes: (codes,), ANY)

    lookup = rescale

    def image_lookup(self, case: Case, threads: int) -> Call:
        one_thread("NumPy", threads)
        axis = case.job.axis or 0
        pairs = [
            (table, np.moveaxis(case.q, axis, 0)[i], np.moveaxis(case.out, axis, 0)[i])
            for i, table in enumerate(case.table)
        ]

        def run() -> None:
            for table, pixels, codes in pairs:
                codes[...] = table.take(pixels)

        return Call(run, lambda _: (case.out,), ANY)
