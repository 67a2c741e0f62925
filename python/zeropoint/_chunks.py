"""Large arrays chunk by chunk.

Python cannot answer Ctrl-C within a call of NumPy's, and such a call may want as much memory as the
array has; between chunks it can, and a chunk wants little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import EllipsisType

import numpy as np

from ._reference import Array

Chunk = tuple[slice | EllipsisType, ...]

_SIZE = 1 << 20  # elements: a few ms


def chunks(shape: tuple[int, ...], size: int = _SIZE) -> Iterator[Chunk]:
    """Indices that cut an array of `shape` into chunks of at most `size` elements, in C order."""
    if math.prod(shape) <= size:
        if 0 not in shape:
            yield (...,)
        return
    within = math.prod(shape[1:])
    step = max(1, size // within)
    for start in range(0, shape[0], step):
        along = slice(start, start + step)
        for rest in chunks(shape[1:], size) if within > size else [(...,)]:
            yield along, *rest


def copy(to: Array, x: Array) -> None:
    """`x` into an array of its shape."""
    for chunk in chunks(x.shape):
        to[chunk] = x[chunk]


def contiguous(x: Array) -> Array:
    """`x` itself if C-contiguous, aligned and in native byte order, else a copy that is."""
    if x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative:
        return x
    found = np.empty(x.shape, x.dtype if x.dtype.isnative else x.dtype.newbyteorder("="))
    copy(found, x)
    return found


def channel_copies(
    x: Array, axis: int | None, size: int = _SIZE
) -> Iterator[tuple[Array, int | None]]:
    """Contiguous chunks of `x`, each with all channels of `axis` and the number of that axis.

    In any order: where there is no axis, in that of the memory.
    """
    if axis is None:
        y = x.transpose(np.argsort([-abs(stride) for stride in x.strides]))
        for chunk in chunks(y.shape, size):
            yield contiguous(y[chunk]), None
    else:
        y = np.moveaxis(x, axis, -1)
        for chunk in chunks(y.shape[:-1], max(1, size // y.shape[-1])):
            yield contiguous(y[chunk]), y.ndim - 1


def lies_apart(x: Array) -> bool:
    """Whether each element has bytes of its own; not known, and False, of strides that do not nest.

    `lies_apart` of the core's bindings is the same.
    """
    reach = x.itemsize
    for step, n in sorted(
        (abs(step), n) for step, n in zip(x.strides, x.shape, strict=True) if n != 1
    ):
        if step < reach:
            return False
        reach += step * (n - 1)
    return True


def unlike(x: Array) -> Array:
    """An array of the shape and dtype of `x`, and no byte the same."""
    return (~np.ascontiguousarray(x).reshape(-1).view(np.uint8)).view(x.dtype).reshape(x.shape)
