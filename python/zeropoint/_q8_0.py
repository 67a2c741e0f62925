"""The blocks of GGUF's Q8_0: a float16 scale, little-endian, and 32 int8 codes, in 34 bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _backend, _checks
from ._chunks import contiguous
from ._reference import Q8_0, Array, widen

BLOCK = 32  #: elements of a block
BYTES = 34
OVERFLOW = 65520  #: from here on a scale is rounded to Inf in float16


def quantize(x: Array) -> Array:
    """Blocks (uint8 [n, 34]) of floats of any shape and layout, whose last axis divides by 32.

    float64 is rounded to float32 first, as gguf does.  ValueError for NaN and Inf, and, naming the
    block, for a scale that float16 cannot hold.
    """
    rows = contiguous(x).reshape(-1, BLOCK)
    if rows.dtype == np.float64:
        with np.errstate(all="ignore"):
            rows = rows.astype(np.float32)
    blocks = np.empty((len(rows), BYTES), np.uint8)
    if not _backend.q8_0(rows, blocks):
        _checks.finite(x, "x", shaped=True)
        i = int(np.argmin(np.isfinite(blocks.view(Q8_0)["scale"])))
        scale = np.abs(widen(rows[i])).max() / np.float32(127)
        raise ValueError(
            f"the scale of block {i} would be {scale}, which float16 cannot hold; Q8_0 is for "
            f"values below {127 * OVERFLOW:,}, so scale them down"
        )
    return blocks


def dequantize(blocks: Array, dtype: np.dtype[Any]) -> Array:
    """Values ([n, 32] of `dtype`) of blocks (uint8 of any shape and layout).

    ValueError, naming the block, for a scale that is NaN or Inf.
    """
    rows = contiguous(blocks).reshape(-1, BYTES)
    x = np.empty((len(rows), BLOCK), np.float32 if dtype == np.float64 else dtype)
    if not _backend.q8_0(rows, x):
        _scales(rows)
    return x.astype(dtype, copy=False)


def split(blocks: Array) -> tuple[Array, Array]:
    """Scales (float32 [n]) and codes (int8 [n, 32]) of blocks; errors as in `dequantize`."""
    rows = contiguous(blocks).reshape(-1, BYTES)
    return _scales(rows), np.ascontiguousarray(rows.view(Q8_0)["codes"][:, 0])


def _scales(rows: Array) -> Array:
    scale = widen(rows.view(Q8_0)["scale"][:, 0])
    finite = np.isfinite(scale)
    if not finite.all():
        i = int(np.argmin(finite))
        raise ValueError(f"the scale of block {i} is {scale[i]}: these are not the blocks of Q8_0")
    return scale
