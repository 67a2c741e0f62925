"""What is measured: the table of jobs, and the data of one job at one size.

A new job is a new entry of `JOBS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import zeropoint as zp

Array = np.ndarray[Any, np.dtype[Any]]

KI, MI, GI = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Job:
    """One kind of work.  `operation` is the name of the method that a system needs for it."""

    name: str
    operation: str
    convention: str = "numpy"  #: whose bits zeropoint gives; differences are counted against it
    real: str = "float32"  #: dtype of the real values
    codes: str = "uint8"
    axis: int | None = None  #: with an axis (or two dimensions) the data is a square matrix
    block: int | None = None

    @property
    def title(self) -> str:
        """What the job does, for the heading of a table."""
        what = {
            "quantize": f"{self.real} -> {self.codes}",
            "dequantize": f"{self.codes} -> {self.real}",
            "fake_quantize": f"{self.real} -> {self.codes} -> {self.real}",
            "quantize_dynamic": f"{self.real} -> {self.codes}, parameters chosen",
            "min_max": self.real,
        }[self.operation]
        if self.block is not None:
            what += f", one scale per block of {self.block} along axis {self.axis}"
        elif self.axis is not None:
            what += f", one scale per index of axis {self.axis}"
        same_in_all = self.operation in ("dequantize", "min_max")
        return what if same_in_all else f"{what}, {self.convention} convention"

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """Bytes that each pass over the data must read and write, per element."""
        real = np.dtype(self.real).itemsize
        if self.operation == "quantize_dynamic" and self.axis is None:
            return ((real, 0), (real, 1))  # all data is read before its range is known
        return {
            "quantize": ((real, 1),),
            "dequantize": ((1, real),),
            "fake_quantize": ((real, real),),
            "quantize_dynamic": ((real, 1),),  # a row stays in cache between its two passes
            "min_max": ((real, 0),),
        }[self.operation]

    @property
    def bytes_per_element(self) -> int:
        return sum(read + write for read, write in self.passes)


JOBS = (
    Job("quantize", "quantize"),
    Job("quantize_onnx", "quantize", convention="onnx"),
    Job("quantize_torch", "quantize", convention="torch"),
    Job("dequantize", "dequantize"),
    Job("fake_quantize", "fake_quantize"),
    Job("fake_quantize_torch", "fake_quantize", convention="torch"),
    Job("dynamic", "quantize_dynamic"),
    Job("dynamic_onnx", "quantize_dynamic", convention="onnx"),
    Job("dynamic_rows", "quantize_dynamic", axis=0),
    Job("min_max", "min_max"),
    Job("axis0", "quantize", codes="int8", axis=0),
    Job("axis1", "quantize", codes="int8", axis=1),
    Job("block32", "quantize", codes="int8", axis=1, block=32),
    Job("block32_axis0", "quantize", codes="int8", axis=0, block=32),
    Job("float16", "quantize", real="float16"),
    Job("dequantize_float16", "dequantize", real="float16"),
)

SIZES = (1, KI, 64 * KI, MI, 64 * MI)
HUGE = GI  # only for jobs that can be checked chunk by chunk, and whose results fit into 16 GB


class Case:
    """One job at one size: its data, its parameters, and the array for its result.

    Everything is made on first use, and shared by all systems, so that none is luckier than
    another with its addresses.
    """

    def __init__(self, job: Job, size: int) -> None:
        self.job, self.size = job, size
        side = math.isqrt(size)
        self.shape: tuple[int, ...] = (size,) if job.axis is None else (side, side)

    def why_not(self) -> str | None:
        """Why this job cannot run at this size, None if it can."""
        if self.size >= HUGE and (
            self.job.axis is not None or self.job.operation == "fake_quantize"
        ):
            return "1 Gi elements would need more than 16 GB"
        if self.job.axis is None:
            return None
        if math.prod(self.shape) != self.size or self.shape[0] % (self.job.block or 2):
            return f"size {self.size} is no square matrix with whole blocks"
        return None

    @cached_property
    def x(self) -> Array:
        """Real values, of which about one in a hundred saturates."""
        values = np.random.default_rng(1).standard_normal(self.shape, np.float32)
        values *= np.float32(0.4)
        return values.astype(self.job.real, copy=False)

    @cached_property
    def q(self) -> Array:
        """Codes."""
        codes = np.random.default_rng(2).integers(0, 256, self.shape, np.uint8)
        return codes.view(self.job.codes)

    @property
    def source(self) -> Array:
        return self.q if self.job.operation == "dequantize" else self.x

    @cached_property
    def out(self) -> Array:
        """Where systems that can write to a given array put their result."""
        to_codes = self.job.operation in ("quantize", "quantize_dynamic")
        return np.empty(self.shape, self.job.codes if to_codes else self.job.real)

    def params(self, convention: str) -> zp.QuantParams:
        return zp.QuantParams(
            self.scale,
            self.zero_point,
            self.job.codes,
            axis=self.job.axis,
            block_size=self.job.block,
            convention=convention,
        )

    @property
    def code_range(self) -> tuple[int, int]:
        info = np.iinfo(self.job.codes)
        return int(info.min), int(info.max)

    @cached_property
    def _parameter_shape(self) -> tuple[int, ...]:
        if self.job.axis is None:
            return ()
        if self.job.block is None:
            return (self.shape[self.job.axis],)
        shape = list(self.shape)
        shape[self.job.axis] //= self.job.block
        return tuple(shape)

    @cached_property
    def scale(self) -> Any:
        """float32; rounded to float16 where the data is, for ONNX wants both in one dtype."""
        if self.job.axis is None:
            return np.float32(np.dtype(self.job.real).type(0.0078))
        return np.random.default_rng(3).uniform(0.004, 0.012, self._parameter_shape).astype("f4")

    @cached_property
    def zero_point(self) -> Any:
        if self.job.axis is None:
            return 127
        return np.random.default_rng(4).integers(-20, 21, self._parameter_shape, np.int32)

    @cached_property
    def broadcast(self) -> tuple[tuple[int, ...], Any, Any]:
        """A shape for the data, and float32 scale and zero point that broadcast against it."""
        scale, zero = self.scale, np.float32(self.zero_point)
        if self.job.axis is None:
            return self.shape, scale, zero
        if self.job.block is None:
            column = (-1, 1) if self.job.axis == 0 else (1, -1)
            return self.shape, scale.reshape(column), zero.reshape(column)
        at = self.job.axis + 1
        shape = (*scale.shape[:at], self.job.block, *scale.shape[at:])
        return shape, np.expand_dims(scale, at), np.expand_dims(zero, at)
