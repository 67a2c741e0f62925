"""The conventions: whose arithmetic `quantize` matches.  One table for the code, docs and tests.

The order is that of the core's `Convention`; CONTRIBUTING lists what a new one needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ._reference import CODE, OFFSET_CODE


class Convention(NamedTuple):
    """s is the scale, z the zero point, o the offset; n = qmax - qmin."""

    aliases: tuple[str, ...]
    formula: str  #: of `quantize`; every operation is rounded to the working precision
    same_bits_as: str
    default_rule: str  #: what `zero_point_from=None` means, or the choice of a real offset
    value: str = "(q - z) * s"  #: of `dequantize`


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


#: s = span / n where the span is kept
_OFFSET_TABLE = {
    "cf": Convention(
        ("netcdf", "xarray"),
        "clip(rint((x - o) / s), qmin, qmax)",
        "xarray and netCDF4, but for what wraps there",
        "s = (max - min) / n, o = min - qmin * s",
        "q * s + o",
    ),
    "faiss": Convention(
        (),
        "qmin + floor(n * clip((x - o) / span, 0, 1))",
        "faiss's IndexScalarQuantizer, QT_8bit and QT_8bit_uniform",
        "span = max - min, o = min",
        "(q - qmin + 0.5) / n * span + o, the last two fused where 8 divides the dimensions",
    ),
    "sentence-transformers": Convention(
        ("sentence_transformers",),
        "qmin + clip(floor((x - o) / s), 0, n)",
        "sentence-transformers' quantize_embeddings, which has no way back",
        "span = max - min, o = min",
        "(q - qmin + 0.5) * s + o",
    ),
}

#: of `QuantParams`: an integer zero point; read-only, in the order of the core's `Convention`
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(_TABLE)
#: of `OffsetParams`: a real offset; read-only, after those in the core's `Convention`
OFFSET_CONVENTIONS: Mapping[str, Convention] = MappingProxyType(_OFFSET_TABLE)
for _found, _recipes in ((CONVENTIONS, CODE), (OFFSET_CONVENTIONS, OFFSET_CODE)):
    if _found.keys() != _recipes.keys():
        raise ImportError(f"the conventions are {[*_found]}, the reference has {[*_recipes]}")


def _names(table: Mapping[str, Convention]) -> dict[str, str]:
    return {
        name: canonical for canonical, row in table.items() for name in (canonical, *row.aliases)
    }


_BY_NAME, _OFFSETS_BY_NAME = _names(CONVENTIONS), _names(OFFSET_CONVENTIONS)


def has_offset(name: object) -> bool:
    """Whether a convention of this name has a real offset in place of the zero point."""
    return isinstance(name, str) and name in _OFFSETS_BY_NAME


def canonical(name: object) -> str:
    """The canonical name of a convention with a zero point, or of one of its aliases."""
    if has_offset(name):
        raise ValueError(
            f"the {name} convention has a real offset and no zero point; use "
            f"zeropoint.OffsetParams, or choose one of {', '.join(_BY_NAME)}"
        )
    return _canonical(name, _BY_NAME)


def canonical_offset(name: object) -> str:
    """The canonical name of a convention with a real offset, or of one of its aliases."""
    if isinstance(name, str) and name in _BY_NAME:
        raise ValueError(
            f"the {name} convention has a zero point and no real offset; use "
            f"zeropoint.QuantParams, or choose one of {', '.join(_OFFSETS_BY_NAME)}"
        )
    return _canonical(name, _OFFSETS_BY_NAME)


def _canonical(name: object, known: dict[str, str]) -> str:
    if not isinstance(name, str):
        raise TypeError(f"convention must be a string, not {type(name).__name__}")
    if name not in known:
        every = ", ".join([*_BY_NAME, *_OFFSETS_BY_NAME])
        raise ValueError(f"convention {name!r} is unknown; choose one of {every}")
    return known[name]
