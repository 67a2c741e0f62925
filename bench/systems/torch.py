"""torch on the CPU: its quantizing functions, which have no `out`."""

from __future__ import annotations

import contextlib
import warnings
from functools import partial
from typing import Any

import numpy as np

from ..check import ANY, Arithmetic, Result, convention, in_pieces
from ..jobs import Array, Case
from .base import Call, Declined, System, float32_only, module


def _fused(case: Case, scale: Any, zero: Any) -> Array:
    """rint(fma(x, 1/s, z)) in float32: the product of two float32 is exact in float64."""
    reciprocal = np.float64(np.float32(1) / np.float32(scale))

    def codes(x: Array) -> Array:
        code = np.rint((x * reciprocal + zero).astype(np.float32))
        clipped: Array = np.clip(code, *case.code_range).astype(case.job.codes)
        return clipped

    return in_pieces(case, codes)


def _per_tensor(case: Case) -> Result:
    """What quantize_per_tensor computes on a CPU with FMA."""
    return (_fused(case, case.scale, case.zero_point),)


def _per_channel(case: Case) -> Result:
    """What quantize_per_channel computes: rint(x * (1/s) + z), every step rounded to float32."""
    _, scale, zero = case.broadcast
    code = np.rint(case.x * (np.float32(1) / scale) + zero)
    return (np.clip(code, *case.code_range).astype(case.job.codes),)


def _per_tensor_dynamic(case: Case) -> Result:
    """What quantize_per_tensor_dynamic computes: the scale in float64, its zero point TFLite's."""
    qmin, qmax = case.code_range
    low, high = min(float(case.x.min()), 0.0), max(float(case.x.max()), 0.0)
    scale = (high - low) / (qmax - qmin)
    from_min = abs(qmin) - abs(low / scale) < abs(qmax) - abs(high / scale)
    zero = round(qmin - low / scale if from_min else qmax - high / scale)
    zero = min(max(zero, qmin), qmax)
    return _fused(case, scale, zero), np.asarray(scale), np.asarray(zero)


PER_TENSOR = Arithmetic("torch per tensor", _per_tensor)
PER_CHANNEL = Arithmetic("torch per channel", _per_channel)
DYNAMIC = Arithmetic("torch dynamic", _per_tensor_dynamic)


class Torch(System):
    name = "torch"
    package = "torch"

    def __init__(self) -> None:
        self._torch = module("torch")
        # they are deprecated, and are what people call
        warnings.filterwarnings("ignore", message=".*quantize.*", module="bench")
        warnings.filterwarnings("ignore", message=".*quantize.*", module="timeit")

    def context(self, threads: int) -> contextlib.AbstractContextManager[Any]:
        self._torch.set_num_threads(threads)
        return contextlib.nullcontext()

    def prepare(self, case: Case, threads: int) -> Call:
        float32_only(case)
        if case.job.block is not None:
            raise Declined("has no blocks")
        return super().prepare(case, threads)

    def quantize(self, case: Case, threads: int) -> Call:
        torch, x = self._torch, self._torch.from_numpy(case.x)
        if case.job.axis is None:
            function, arithmetic = torch.quantize_per_tensor, PER_TENSOR
            parameters = [float(case.scale), case.zero_point]
        else:
            function, arithmetic = torch.quantize_per_channel, PER_CHANNEL
            zero = torch.from_numpy(case.zero_point.astype(np.int64))
            parameters = [torch.from_numpy(case.scale), zero, case.job.axis]
        run = partial(function, x, *parameters, self._codes(case))
        return Call(run, lambda q: (q.int_repr().numpy(),), arithmetic)

    def dequantize(self, case: Case, threads: int) -> Call:
        q = self._torch._make_per_tensor_quantized_tensor(
            self._torch.from_numpy(case.q), float(case.scale), case.zero_point
        )
        return Call(partial(self._torch.dequantize, q), lambda x: (x.numpy(),), ANY)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        function = self._torch.fake_quantize_per_tensor_affine
        x = self._torch.from_numpy(case.x)
        run = partial(function, x, float(case.scale), case.zero_point, *case.code_range)
        return Call(run, lambda x: (x.numpy(),), convention("torch"))

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        if case.job.axis is not None:
            raise Declined("quantize_per_tensor_dynamic is per tensor")
        function, x = self._torch.quantize_per_tensor_dynamic, self._torch.from_numpy(case.x)
        run = partial(function, x, self._codes(case), reduce_range=False)
        return Call(
            run,
            lambda q: (
                q.int_repr().numpy(),
                np.asarray(q.q_scale()),
                np.asarray(q.q_zero_point()),
            ),
            DYNAMIC,
        )

    def min_max(self, case: Case, threads: int) -> Call:
        run = partial(self._torch.aminmax, self._torch.from_numpy(case.x))
        return Call(run, lambda ends: (ends.min.numpy(), ends.max.numpy()), ANY)

    def _codes(self, case: Case) -> Any:
        return {"uint8": self._torch.quint8, "int8": self._torch.qint8}[case.job.codes]
