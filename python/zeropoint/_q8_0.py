"""The blocks of GGUF's Q8_0: a float16 scale, little-endian, and 32 int8 codes, in 34 bytes."""

from __future__ import annotations

import numpy as np

from ._reference import Array

BLOCK = 32  #: elements of a block
BYTES = 34
LARGEST = np.float32(65520)  #: from here on a scale is rounded to Inf in float16

_LAYOUT = np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)])


def join(scale: Array, codes: Array) -> Array:
    """Blocks (uint8 [n, 34]) of float32 scales [n], rounded to float16, and int8 codes [n, 32].

    ValueError, naming the block, where float16 cannot hold the scale.
    """
    large = scale >= LARGEST
    if large.any():
        i = int(np.argmax(large))
        raise ValueError(
            f"the scale of block {i} would be {scale[i]}, beyond float16: Q8_0 holds values up to "
            "8.3e6; scale x down"
        )
    blocks = np.empty(len(scale), _LAYOUT)
    blocks["scale"], blocks["codes"] = scale, codes
    return blocks.view(np.uint8).reshape(-1, BYTES)


def split(blocks: Array) -> tuple[Array, Array]:
    """Scales (float32 [n]) and codes (int8 [n, 32]) of blocks (uint8, any shape of C order)."""
    fields = blocks.reshape(-1, BYTES).view(_LAYOUT)[:, 0]
    return fields["scale"].astype(np.float32), np.ascontiguousarray(fields["codes"])
