"""Q8_0, the 8-bit blocks of GGUF files: the bytes of llama.cpp's and gguf's own quantizers.

>>> weights = np.linspace(-1, 1, 4096, dtype=np.float32).reshape(64, 64)
>>> blocks = quantize_q8_0(weights)  # for GGUFWriter.add_tensor, with raw_dtype Q8_0
>>> blocks.shape
(64, 68)
>>> values = dequantize_q8_0(blocks)

32 elements of a row are a block of 34 bytes: a scale in float16, little-endian, and a code of
int8 each.  Only NumPy is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks, _q8_0
from .._reference import Array

__all__ = ["dequantize_q8_0", "quantize_q8_0"]


def quantize_q8_0(x: Any) -> Array:
    """The blocks of `x`, along its last axis.

    Of each block ``d = max|x| / 127`` and codes ``half_away(x * (1 / d))``, the convention `ggml`,
    in float32; codes 0 where d is 0 or 1 / d is not finite.  What is stored is float16(d), so that
    a block of values below about 3.8e-6 has no value but 0.

    Parameters
    ----------
    x
        float16, bfloat16 or float32, or float64, which is rounded to float32 first, as gguf does;
        any layout; the last axis divides by 32.

    Returns
    -------
    numpy.ndarray
        uint8, in the shape of `x` with the last axis ``n / 32 * 34`` long.

    Raises
    ------
    TypeError
        `x` is not of a supported float dtype.
    ValueError
        The last axis does not divide by 32; NaN or Inf (count and first index); a scale that
        float16 cannot hold, where values are 8,321,040 and more (the block).
    """
    x = _checks.real_array(x)
    if not x.ndim or x.shape[-1] % _q8_0.BLOCK:
        raise ValueError(
            f"x has shape {x.shape}, and Q8_0 needs a last axis that divides by {_q8_0.BLOCK}; "
            "pad it with zeros"
        )
    return _q8_0.quantize(x).reshape(*x.shape[:-1], x.shape[-1] // _q8_0.BLOCK * _q8_0.BYTES)


def dequantize_q8_0(blocks: Any, *, dtype: Any = None) -> Array:
    """The values of blocks: codes times scale in float32, rounded once to `dtype`.

    Parameters
    ----------
    blocks
        uint8, any layout; the last axis divides by 34.
    dtype
        float32 (the default), float16, bfloat16 or float64.

    Returns
    -------
    numpy.ndarray
        In the shape of `blocks` with the last axis ``n / 34 * 32`` long.

    Raises
    ------
    TypeError
        `blocks` is not uint8; `dtype` is not a supported float dtype.
    ValueError
        The last axis does not divide by 34; a scale that is NaN or Inf (the block).
    """
    blocks = _checks.exact_array(blocks, np.dtype(np.uint8), "blocks", "Q8_0 is made of bytes")
    target = _checks.real_dtype(np.float32 if dtype is None else dtype)
    if not blocks.ndim or blocks.shape[-1] % _q8_0.BYTES:
        raise ValueError(
            f"blocks has shape {blocks.shape}, and Q8_0 needs a last axis that divides by "
            f"{_q8_0.BYTES}"
        )
    return _q8_0.dequantize(blocks, target).reshape(
        *blocks.shape[:-1], blocks.shape[-1] // _q8_0.BYTES * _q8_0.BLOCK
    )
