"""The tools of the formats that checkpoints are in: compressed-tensors, and gguf's quantizers."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import numpy as np

from ..check import ANY, Arithmetic
from ..jobs import Array, Case, dtype_of
from ..operations import Result
from .base import Call, Declined, System, module, one_thread


class CompressedTensors(System):
    """Scales and codes as its compressors make them, less the zero points, which are all 0."""

    name = "compressed-tensors"
    package = "compressed-tensors"
    keywords = ("symmetric",)

    def __init__(self) -> None:
        self._torch = module("torch")
        self._arguments = module("compressed_tensors.quantization").QuantizationArgs
        self._parameters = module("compressed_tensors.quantization.utils").calculate_qparams
        self._quantize = module("compressed_tensors.quantization.lifecycle.forward").quantize

    def context(self, threads: int) -> contextlib.AbstractContextManager[Any]:
        self._torch.set_num_threads(threads)
        return contextlib.nullcontext()

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        job, torch = case.job, self._torch
        if not (job.real == "bfloat16" and job.keywords):
            raise Declined("measured on symmetric bfloat16 weights")
        how: dict[str, Any] = {"num_bits": 8, "symmetric": True, "dynamic": False}
        if job.block is None:
            how |= {"strategy": "channel"}
        else:
            how |= {"strategy": "group", "group_size": job.block}
        arguments = self._arguments(**how)
        x = torch.from_numpy(case.x.view(np.uint16)).view(torch.bfloat16)
        groups = x if job.block is None else x.unflatten(1, (-1, job.block))

        def run() -> Any:
            ends = (end(groups, -1, keepdim=True) for end in (torch.amin, torch.amax))
            scale, _ = self._parameters(*ends, arguments)
            scale = scale if job.block is None else scale[..., 0]
            return self._quantize(x, scale, None, arguments, dtype=torch.int8), scale

        def result(found: Any) -> Result:
            codes, scale = found
            scale = scale.float().numpy().reshape(_parameter_shape(case))
            return codes.numpy(), scale, np.zeros(scale.shape, np.int32)

        return Call(run, result, Arithmetic("rint(x / s) in bfloat16, s = max|x| / 127.5", _codes))


def _parameter_shape(case: Case) -> tuple[int, ...]:
    rows, columns = case.shape
    return (rows,) if case.job.block is None else (rows, columns // case.job.block)


def _codes(case: Case) -> Result:
    """What compressed-tensors computes: each operation is rounded to bfloat16."""
    x, bfloat16 = case.x, dtype_of("bfloat16")
    groups = x.reshape(*_parameter_shape(case), -1).astype(np.float32)
    scale = (np.abs(groups).max(-1, keepdims=True) / np.float32(127.5)).astype(bfloat16)
    scaled = (groups / scale.astype(np.float32)).astype(bfloat16).astype(np.float32)
    codes = np.rint(np.clip(scaled, -128, 127)).astype(np.int8).reshape(x.shape)
    scale = scale[..., 0].astype(np.float32)
    return codes, scale, np.zeros(scale.shape, np.int32)


class GGUF(System):
    """gguf's quantizers, as convert_hf_to_gguf calls them."""

    name = "gguf"
    package = "gguf"

    def __init__(self) -> None:
        self._quants = module("gguf.quants")
        self._type = module("gguf").GGMLQuantizationType.Q8_0

    def quantize_q8_0(self, case: Case, threads: int) -> Call:
        one_thread("gguf", threads)
        return Call(partial(self._quants.quantize, case.source, self._type), _arrays, ANY)

    def dequantize_q8_0(self, case: Case, threads: int) -> Call:
        one_thread("gguf", threads)
        blocks, dtype = case.source, dtype_of(case.job.real)

        def run() -> Array:
            values: Array = self._quants.dequantize(blocks, self._type)
            return values.astype(dtype, copy=False)

        return Call(run, _arrays, ANY)


def _arrays(result: Array) -> Result:
    return (result,)
