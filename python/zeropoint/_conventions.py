"""The conventions: whose arithmetic `quantize` matches.  One table for the code, docs and tests.

The order is that of the core's `Convention`; CONTRIBUTING lists what a new one needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ._reference import CODE


class Convention(NamedTuple):
    aliases: tuple[str, ...]
    formula: str  #: of `quantize`; every operation is rounded to the working precision
    same_bits_as: str
    default_rule: str  #: what `zero_point_from=None` means


_TABLE = {
    "numpy": Convention(
        (),
        "clip(rint(x / s + z), qmin, qmax)",
        "NumPy written by hand",
        "min",
    ),
    "onnx": Convention(
        ("onnxruntime",),
        "clip(rint(x / s) + z, qmin, qmax)",
        "ONNX QuantizeLinear, ONNX Runtime",
        "DynamicQuantizeLinear",
    ),
    "torch": Convention(
        ("litert", "xnnpack"),
        "clip(rint(x * (1 / s)) + z, qmin, qmax)",
        "torch.fake_quantize, PT2E/torchao, LiteRT's default kernels, XNNPACK",
        "MinMaxObserver",
    ),
    "tflite": Convention(
        ("litert_reference",),
        "clip(half_away(x / s) + z, qmin, qmax)",
        "the TFLite specification's reference kernels",
        "ChooseQuantizationParams",
    ),
    "ggml": Convention(
        (),
        "clip(half_away(x * (1 / s)) + z, qmin, qmax)",
        "llama.cpp's Q8_0, with the block's float32 scale",
        "min",
    ),
}

#: read-only, in the order of the core's `Convention`
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(_TABLE)
if CONVENTIONS.keys() != CODE.keys():
    raise ImportError(f"the conventions are {[*CONVENTIONS]}, the reference has {[*CODE]}")

_BY_NAME = {
    name: canonical for canonical, row in CONVENTIONS.items() for name in (canonical, *row.aliases)
}


def canonical(name: object) -> str:
    """The canonical name of a convention or of one of its aliases."""
    if not isinstance(name, str):
        raise TypeError(f"convention must be a string, not {type(name).__name__}")
    if name not in _BY_NAME:
        raise ValueError(f"convention {name!r} is unknown; choose one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
