"""zeropoint's function for each operation, its arguments, and its result as plain arrays."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import zeropoint as zp
from zeropoint import files
from zeropoint.interop import gguf

from .files import Sampled, content
from .jobs import LOOKUPS, Array, Case

#: codes, or values; codes, scales and zero points (dynamic); minimum and maximum (min_max); ...
Result = tuple[Array, ...]

#: one array in, one of the same shape out, so that the reference can work chunk by chunk
ELEMENTWISE = LOOKUPS | {
    *("quantize", "dequantize", "fake_quantize", "requantize", "saturate", "saturate_cast", "round")
}
ACCUMULATOR_SCALE = np.float32(1e-5)  # of the int32 sums that requantize takes


def call(case: Case, convention: str, source: Any, **how: Any) -> Callable[[], Any]:
    """The call of zeropoint for a case; `how` is `out` or a dtype of the result."""
    job = case.job
    keywords = {**dict(job.keywords), **how}
    match job.operation:
        case "quantize" | "dequantize" | "fake_quantize" | "error_stats" as name:
            return partial(getattr(zp, name), source, case.params(convention), **keywords)
        case "flip_signedness":
            return partial(zp.flip_signedness, source, case.params(convention))
        case "quantize_dynamic" | "choose_params" as name:
            layout = {"axis": job.axis, "block_size": job.block}
            keywords |= {key: value for key, value in layout.items() if value is not None}
            keywords["convention"] = convention
            return partial(getattr(zp, name), source, job.codes, **keywords)
        case "requantize":
            params = case.params(convention)
            return partial(zp.requantize, source, ACCUMULATOR_SCALE, params, **keywords)
        case "rescale":
            return partial(zp.rescale, source, case.given, case.wanted, **keywords)
        case "lookup" | "image_lookup":
            return partial(case.lookup, source, **keywords)
        case "saturate":
            return partial(zp.saturate, source, -1, 1, **keywords)
        case "saturate_cast":
            return partial(zp.saturate_cast, source, job.codes, **keywords)
        case "QuantParams":
            if job.axis is None:
                return partial(zp.QuantParams, 0.1, 3)
            return partial(zp.QuantParams, case.scale, case.zero_point, job.codes, axis=job.axis)
        case "MinMaxObserver" | "HistogramObserver" as name:
            return partial(getattr(zp, name)().update, source)
        case "quantize_q8_0":
            return partial(gguf.quantize_q8_0, source)
        case "dequantize_q8_0":
            return partial(gguf.dequantize_q8_0, source, dtype=case.job.real)
        case "quantize_files":
            return partial(source.quantize, **keywords)
        case "dequantize_files":
            back: Callable[[], Any] = source.dequantized(**keywords)
            return back
        case "calibrate":
            return partial(_calibrated, source, **keywords)
        case name:  # round, min_max, compare
            return partial(getattr(zp, name), source, **keywords)


def _calibrated(source: Sampled, **how: Any) -> Any:
    """The range of each activation, or by other methods its parameters; by name."""
    found = importlib.import_module("zeropoint.interop.onnx").calibrate(
        source.path, source.feeds, **how
    )
    if found.method == "minmax":
        return tuple(each._range() for _, each in sorted(found.observers.items()))
    return tuple(found.params(name) for name in sorted(found.tensors))


def arrays(result: Any) -> Result:
    """What zeropoint returned, as arrays that can be compared."""
    if isinstance(result, files.FileSummary):
        return (content(Path(result.target)),)
    if isinstance(result, np.ndarray):
        return (result,)
    if isinstance(result, zp.QuantParams):
        return np.asarray(result.scale), np.asarray(result.zero_point)
    if isinstance(result, zp.MinMaxObserver | zp.HistogramObserver):
        return arrays(result.params("uint8"))
    if isinstance(result, zp.Comparison):
        return arrays(tuple(row.stats for row in result.rows if row.stats is not None))
    if is_dataclass(result):
        return arrays(tuple(asdict(result).values()))  # type: ignore[arg-type]
    if isinstance(result, tuple):
        return tuple(array for each in result for array in arrays(each))
    return (np.asarray(result),)
