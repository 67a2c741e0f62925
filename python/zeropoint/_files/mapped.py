"""Tensors of files as arrays, read-only: larger ones are mapped, so the system pages them in."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .._reference import Array
from . import work
from .container import Container
from .quantized import Quantized
from .source import Tensor, real_dtype
from .target import Region
from .tiles import RESIDENT, TILE


@contextlib.contextmanager
def view(container: Container, tensor: Tensor, scratch: Path | None) -> Iterator[Array]:
    """All of a tensor.  A large member of an archive goes through an unnamed file in `scratch`,
    None being the system's place for such files."""
    order: Any = "F" if tensor.fortran else "C"
    if tensor.bytes <= RESIDENT:
        with container.stream(tensor) as stream:
            yield stream.array(tensor.size).reshape(tensor.shape, order=order)
        return
    if (plain := container.home(tensor).plain) is not None:
        dtype = tensor.dtype if tensor.word == "BF16" else tensor.stored
        yield _mapped(plain, tensor.start, tensor.shape, dtype, order)
        return
    with tempfile.TemporaryFile(dir=scratch) as file:
        with container.stream(tensor) as stream:
            region = Region(file, 0)
            for first in range(0, tensor.size, TILE):
                region.write(stream.array(min(TILE, tensor.size - first)))
        file.flush()
        dtype = tensor.dtype.newbyteorder("<")
        yield _mapped(file, 0, tensor.shape, dtype, order)


@contextlib.contextmanager
def values(container: Container, one: Quantized, scratch: Path | None) -> Iterator[Array]:
    """The values of a quantized tensor, float32 or float64, through such a file."""
    dtype = real_dtype("float64" if one.dtype == "float64" else "float32")
    with tempfile.TemporaryFile(dir=scratch) as file:
        write = work.decode if one.decode else work.dequantize
        write(one, dtype, container, [Region(file, 0)], lambda _: None)
        file.flush()
        yield _mapped(file, 0, one.shape, dtype.newbyteorder("<"), "C")


def _mapped(
    file: BinaryIO, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: Any
) -> Array:
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size == 0:
        return np.empty(shape, dtype)
    skipped = start % mmap.ALLOCATIONGRANULARITY
    memory = mmap.mmap(
        file.fileno(), skipped + size, access=mmap.ACCESS_READ, offset=start - skipped
    )
    return np.ndarray(shape, dtype, memory, skipped, order=order)
