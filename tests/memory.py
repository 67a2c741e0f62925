"""Arrays larger than the memory: a few pages of a file without a name, mapped many times over."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

#: elements that share their memory with those of other windows
WINDOW = 2**22

_NORESERVE, _FIXED = 0x4000, 0x10  # Linux's MAP_NORESERVE and MAP_FIXED


@contextmanager
def repeated(
    n: int, dtype: Any, own: Collection[int] = ()
) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """An array of n elements in windows of `WINDOW`, all of them the same memory.

    The windows numbered in `own`, and the last if it is not a whole one, have memory of their own.
    """
    dtype = np.dtype(dtype)
    size = WINDOW * dtype.itemsize
    whole, rest = divmod(n, WINDOW)
    pages = -(-rest * dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
    total = whole * size + pages
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
        ctypes.c_long,
    )
    libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t

    def mapped(address: int | None, size: int, prot: int, flags: int, file: int, at: int) -> int:
        found = libc.mmap(address, size, prot, flags, file, at)
        if found == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        return int(found)

    file = os.memfd_create("zeropoint")
    start = mapped(None, total, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE, -1, 0)
    try:
        last = [whole] if rest else []
        places = {window: i for i, window in enumerate([*sorted(own), *last], 1)}
        os.ftruncate(file, size * (1 + len(places)))
        for window in [*range(whole), *last]:
            mapped(
                start + window * size,
                size if window < whole else pages,
                mmap.PROT_READ | mmap.PROT_WRITE,
                mmap.MAP_SHARED | _FIXED,
                file,
                places.get(window, 0) * size,
            )
        buffer = (ctypes.c_ubyte * (n * dtype.itemsize)).from_address(start)
        yield np.frombuffer(buffer, dtype)
    finally:
        libc.munmap(start, total)
        os.close(file)
