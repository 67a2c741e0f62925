"""torch on the CPU: its quantizing functions, which have no `out`."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..check import ANY, Arithmetic, convention, in_chunks
from ..jobs import Array, Case
from ..operations import Result
from .base import STRIDED, Call, Declined, System, float32_only, module

Formula = Callable[[Array, Any, Any], Array]
ONE = np.float32(1)

#: what torch's kernels compute before they clip, in float32; which of them depends on the CPU and
#: on how they were compiled for it
FORMULAS: dict[str, Formula] = {
    # the product of two float32 is exact in float64
    "rint(fma(x, 1/s, z))": lambda x, s, z: np.rint(
        (x * np.float64(ONE / s) + z).astype(np.float32)
    ),
    "rint(x * (1/s) + z)": lambda x, s, z: np.rint(x * (ONE / s) + np.float32(z)),
    "rint(x * (1/s)) + z": lambda x, s, z: np.rint(x * (ONE / s)) + z,
    "rint(x / s + z)": lambda x, s, z: np.rint(x / s + np.float32(z)),
    "rint(x / s) + z": lambda x, s, z: np.rint(x / s) + z,
}


def nearest(function: Formula) -> tuple[str, bool]:
    """The formula by which `function` makes uint8 codes, and whether all its codes are equal.

    Asked at half steps and their neighbours, where the formulas part, in one run and in short ones.
    """
    differ = dict.fromkeys(FORMULAS, 0)
    steps = (np.arange(-260, 260) + 0.5)[:, None]
    for step, zero in itertools.product((0.0078, 0.1, 1.96185386), (3, 127, 200)):
        scale = np.float32(step)
        half = (steps * np.float64(scale)).astype(np.float32)
        x = np.concatenate([half, np.nextafter(half, -half), np.nextafter(half, 2 * half)]).ravel()
        for run in x, *np.split(x[:350], 50):
            codes = function(run, scale, zero)
            for name, formula in FORMULAS.items():
                want = np.clip(formula(run, scale, zero), 0, 255)
                differ[name] += int(np.count_nonzero(codes != want))
    name = min(differ, key=lambda each: differ[each])
    return name, differ[name] == 0


def _codes(name: str, case: Case, scale: Any, zero: Any) -> Array:
    def codes(x: Array) -> Array:
        code = FORMULAS[name](x, scale, zero)
        clipped: Array = np.clip(code, *case.code_range).astype(case.job.codes)
        return clipped

    return in_chunks(case, codes)


def _dynamic(name: str, case: Case) -> Result:
    """What quantize_per_tensor_dynamic computes: the scale in float64, its zero point TFLite's."""
    qmin, qmax = case.code_range
    low, high = min(float(case.x.min()), 0.0), max(float(case.x.max()), 0.0)
    scale = (high - low) / (qmax - qmin)
    from_min = abs(qmin) - abs(low / scale) < abs(qmax) - abs(high / scale)
    zero = round(qmin - low / scale if from_min else qmax - high / scale)
    zero = min(max(zero, qmin), qmax)
    return _codes(name, case, np.float32(scale), zero), np.asarray(scale), np.asarray(zero)


class Torch(System):
    name = "torch"
    package = "torch"
    views = STRIDED

    def __init__(self) -> None:
        self._torch = module("torch")
        # they are deprecated, and are what people call
        warnings.filterwarnings("ignore", message=".*quantize.*", module="bench")
        warnings.filterwarnings("ignore", message=".*quantize.*", module="timeit")
        self._found: dict[str, tuple[str, bool]] = {}

    def _nearest(self, granularity: str) -> tuple[str, bool]:
        """The formula that torch has on this CPU, `nearest`; asked once."""
        torch = self._torch

        def per_tensor(x: Array, scale: Any, zero: Any) -> Array:
            q = torch.quantize_per_tensor(torch.from_numpy(x), float(scale), zero, torch.quint8)
            codes: Array = q.int_repr().numpy()
            return codes

        def per_channel(x: Array, scale: Any, zero: Any) -> Array:
            how = torch.tensor([float(scale)]), torch.tensor([zero]), 0, torch.quint8
            q = torch.quantize_per_channel(torch.from_numpy(x[None]), *how)
            codes: Array = q.int_repr().numpy()[0]
            return codes

        if granularity not in self._found:
            function = {"per tensor": per_tensor, "per channel": per_channel}[granularity]
            self._found[granularity] = nearest(function)
        return self._found[granularity]

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
            function, (name, exact) = torch.quantize_per_tensor, self._nearest("per tensor")
            scale, zero = case.scale, case.zero_point
            parameters = [float(case.scale), case.zero_point]
        else:
            function, (name, exact) = torch.quantize_per_channel, self._nearest("per channel")
            _, scale, zero = case.broadcast
            zero_points = torch.from_numpy(case.zero_point.astype(np.int64))
            parameters = [torch.from_numpy(case.scale), zero_points, case.job.axis]
        run = partial(function, x, *parameters, self._codes(case))
        arithmetic = Arithmetic(name, lambda case: (_codes(name, case, scale, zero),), exact)
        return Call(run, lambda q: (q.int_repr().numpy(),), arithmetic)

    def dequantize(self, case: Case, threads: int) -> Call:
        if case.job.axis is not None:
            raise Declined("measured per tensor")
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
        name, exact = self._nearest("per tensor")
        return Call(
            run,
            lambda q: (
                q.int_repr().numpy(),
                np.asarray(q.q_scale()),
                np.asarray(q.q_zero_point()),
            ),
            Arithmetic(f"{name}, dynamic", lambda case: _dynamic(name, case), exact),
        )

    def min_max(self, case: Case, threads: int) -> Call:
        run = partial(self._torch.aminmax, self._torch.from_numpy(case.x))
        return Call(run, lambda ends: (ends.min.numpy(), ends.max.numpy()), ANY)

    def _codes(self, case: Case) -> Any:
        return {"uint8": self._torch.quint8, "int8": self._torch.qint8}[case.job.codes]
