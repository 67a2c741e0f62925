"""The blocks of GGUF's Q8_0: a float16 scale, little-endian, and 32 int8 codes, in 34 bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _backend, _checks
from ._params import QuantParams
from ._reference import Array, narrow

BLOCK = 32  #: elements of a block
BYTES = 34
OVERFLOW = 65520  #: from here on a scale is rounded to Inf in float16

_LAYOUT = np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)])


def join(scale: Array, codes: Array) -> Array:
    """Blocks (uint8 [n, 34]) of scales (float32 [n]), rounded to float16, and codes (int8 [n, 32]).

    ValueError, naming the block, where float16 cannot hold the scale.
    """
    large = ~(np.abs(scale) < OVERFLOW)
    if large.any():
        i = int(np.argmax(large))
        raise ValueError(
            f"the scale of block {i} would be {scale[i]}, which float16 cannot hold; Q8_0 is for "
            f"values below {127 * OVERFLOW:,}, so scale them down"
        )
    blocks = np.empty(len(scale), _LAYOUT)
    with np.errstate(under="ignore"):
        blocks["scale"] = scale
    blocks["codes"] = codes
    return blocks.view(np.uint8).reshape(-1, BYTES)


def split(blocks: Array) -> tuple[Array, Array]:
    """Scales (float32 [n]) and codes (int8 [n, 32]) of blocks (uint8, in C order).

    ValueError, naming the block, for a scale that is NaN or Inf.
    """
    fields = np.ascontiguousarray(blocks).reshape(-1).view(_LAYOUT)
    scale = fields["scale"].astype(np.float32)
    bad = ~np.isfinite(scale)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"the scale of block {i} is {scale[i]}: these are not the blocks of Q8_0")
    return scale, np.ascontiguousarray(fields["codes"])


@_backend.ieee
def quantize(x: Array) -> Array:
    """Blocks (uint8 [n, 34]) of `x`, floats whose last axis divides by 32.

    ``d = max|x| / 127``, codes ``half_away(x * (1 / d))``, in float32, and 0 where d is 0 or 1 / d
    is not finite; what is stored is float16(d).
    """
    with np.errstate(all="ignore"):
        rows = np.asarray(x, np.float32 if x.dtype == np.float64 else x.dtype, order="C")
        rows = rows.reshape(x.size // BLOCK, BLOCK)
        if not x.size:
            return np.empty((0, BYTES), np.uint8)
        low, high = _backend.min_max(rows, 0, None)
        if np.isnan(low).any():
            _checks.finite(x, "x", shaped=True)
        scale = np.maximum(-low, high) / np.float32(127)
        usable = np.isfinite(1 / scale)
    params = QuantParams(
        np.where(usable, scale, np.float32(1)), 0, "int8", qmin=-127, axis=0, convention="ggml"
    )
    return join(scale, params.quantize(rows))


@_backend.ieee
def dequantize(blocks: Array, dtype: np.dtype[Any]) -> Array:
    """Values ([n, 32], rounded once to `dtype`) of blocks (uint8, in C order): codes times scale,
    in float32."""
    scale, codes = split(blocks)
    with np.errstate(all="ignore"):
        return narrow(codes.astype(np.float32) * scale[:, None], dtype)
