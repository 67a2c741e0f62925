"""Exact and fast 8-bit affine quantization.

``q = clip(round(x / scale + zero_point), qmin, qmax)`` and back ``x' = (q - zero_point) * scale``,
over uint8 and int8, in C++ kernels that equal the NumPy reference bit for bit.

>>> import numpy as np, zeropoint as zp
>>> x = np.array([-0.75, -0.45, 1.75], np.float32)
>>> params = zp.choose_params(x)
>>> zp.quantize(x, params)
array([  0,  30, 254], dtype=uint8)
"""

from typing import TYPE_CHECKING, Any

from ._api import (
    choose_params,
    dequantize,
    fake_quantize,
    flip_signedness,
    min_max,
    quantize,
    quantize_dynamic,
    requantize,
    round,
    saturate,
    saturate_cast,
)
from ._backend import (
    VerificationError,
    backend,
    backends,
    get_num_threads,
    set_num_threads,
    use_backend,
    verify,
)
from ._compare import Comparison, ErrorStats, compare, error_stats
from ._conventions import CONVENTIONS, OFFSET_CONVENTIONS
from ._params import OffsetParams, QuantParams
from .observers import HistogramObserver, MinMaxObserver

if TYPE_CHECKING:
    from ._diagnose import Diagnosis, diagnose
    from ._lookup import Lookup, image_lookup, rescale
    from ._probe import probe

__version__ = "0.1.0"

#: what is imported when it is first used, and where it is
_LAZY = {
    **dict.fromkeys(("Diagnosis", "diagnose"), "_diagnose"),
    **dict.fromkeys(("Lookup", "image_lookup", "rescale"), "_lookup"),
    "probe": "_probe",
}

__all__ = [
    "CONVENTIONS",
    "OFFSET_CONVENTIONS",
    "Comparison",
    "Diagnosis",
    "ErrorStats",
    "HistogramObserver",
    "Lookup",
    "MinMaxObserver",
    "OffsetParams",
    "QuantParams",
    "VerificationError",
    "backend",
    "backends",
    "choose_params",
    "compare",
    "dequantize",
    "diagnose",
    "error_stats",
    "fake_quantize",
    "flip_signedness",
    "get_num_threads",
    "image_lookup",
    "min_max",
    "probe",
    "quantize",
    "quantize_dynamic",
    "requantize",
    "rescale",
    "round",
    "saturate",
    "saturate_cast",
    "set_num_threads",
    "use_backend",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
