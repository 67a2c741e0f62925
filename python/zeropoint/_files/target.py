"""Writing a file that appears whole or not at all, and tensors in another order than read."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import operator
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .._reference import Array
from .source import memory, moving_dtype

Report = Callable[[int], None]  #: takes how many more bytes are done
_TILE = 1 << 22  # elements of a transposition at a time


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `target` at the end, or vanishes if anything is raised.

    It is synced before the rename, and the directory after it.  Whoever may not read `target` may
    not read it while it is written either.
    """
    temporary = target.with_name(f".zeropoint-{secrets.token_hex(8)}.part")
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    try:
        # a new file has the mode that the umask gives all new files, from its creation
        with open(temporary, "xb", opener=_with_mode(0o666 if old is None else 0o600)) as file:
            yield file
            file.flush()
            if old is not None:
                _take_over(file.fileno(), old)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(target.parent)


def _with_mode(mode: int) -> Callable[[str, int], int]:
    return lambda path, flags: os.open(path, flags, mode)


def _take_over(descriptor: int, old: os.stat_result) -> None:
    """Give a file the permissions of another, and its owner and group as far as that is allowed.

    What a group may do is for that group: another one gets nothing.  Set-user-ID and the like go,
    as they go when a file is written to.
    """
    if not hasattr(os, "fchmod"):
        return
    new = os.fstat(descriptor)
    for owner in ((old.st_uid, -1), (-1, old.st_gid)):
        if owner not in ((new.st_uid, -1), (-1, new.st_gid)):
            with contextlib.suppress(OSError):
                os.fchown(descriptor, *owner)
    same_group = os.fstat(descriptor).st_gid == old.st_gid
    os.fchmod(descriptor, old.st_mode & (0o777 if same_group else 0o707))


def _sync_directory(path: Path) -> None:
    try:
        directory = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:
        return  # a directory that may be written to, but not read
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(directory)


class Region:
    """The place of one tensor, written front to back."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._at = file, start

    def write(self, values: Array) -> None:
        """Put the next elements there, little-endian."""
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        self._file.seek(self._at)
        self._file.write(memory(values))
        self._at += values.nbytes


@contextlib.contextmanager
def region(
    out: BinaryIO, start: int, word: str, shape: tuple[int, ...], fortran: bool, report: Report
) -> Iterator[Region]:
    """The region from byte `start` of a tensor of dtype `word` and of `shape`.

    Elements in Fortran order go through an unnamed file beside the target; they are reported.
    """
    if not fortran or len(shape) < 2:
        yield Region(out, start)
        return
    with tempfile.TemporaryFile(dir=Path(out.name).parent) as scratch:
        yield Region(scratch, 0)
        _transpose(scratch, out, start, moving_dtype(word).itemsize, shape, report)


def _transpose(
    source: BinaryIO, out: BinaryIO, start: int, width: int, shape: tuple[int, ...], report: Report
) -> None:
    """Copy an array in Fortran order to one in C order, tile by tile.

    A tile of the whole first axes would be read in one go and written element by element, and the
    other way round; so the edges of a tile grow from both sides to about the same length.
    """
    edges = _edges(shape)
    buffer = np.empty(math.prod(edges), f"u{width}")  # bits of any dtype
    for corner in itertools.product(*map(range, [0] * len(shape), shape, edges)):
        tile = [
            range(first, min(first + edge, length))
            for first, edge, length in zip(corner, edges, shape, strict=True)
        ]
        values = buffer[: math.prod(map(len, tile))]
        view, filled = memory(values), 0
        # Fortran order is C order with the axes reversed
        for first, length in _runs(shape[::-1], tile[::-1]):
            source.seek(first * width)
            filled += source.readinto(view[filled : filled + length * width])  # type: ignore[attr-defined]
        ordered = values.reshape([len(edge) for edge in reversed(tile)]).T
        view, written = memory(np.ascontiguousarray(ordered)), 0
        for first, length in _runs(shape, tile):
            out.seek(start + first * width)
            written += out.write(view[written : written + length * width])
        report(written)


def _edges(shape: tuple[int, ...]) -> list[int]:
    edges = [1] * len(shape)
    room = math.isqrt(_TILE)
    for axis in range(len(shape)):
        edges[axis] = min(shape[axis], room)
        room //= edges[axis]
    room = _TILE // math.prod(edges)
    for axis in reversed(range(len(shape))):
        edge = min(shape[axis], edges[axis] * room)
        room = room * edges[axis] // edge
        edges[axis] = edge
    return edges


def _runs(shape: tuple[int, ...], tile: list[range]) -> Iterator[tuple[int, int]]:
    """The runs (first, length) that `tile` is made of, in an array of `shape` in C order."""
    axis = len(shape) - 1
    while axis > 0 and len(tile[axis]) == shape[axis]:
        axis -= 1
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    for index in itertools.product(*tile[:axis]):
        first = sum(map(operator.mul, index, strides)) + tile[axis].start * strides[axis]
        yield first, len(tile[axis]) * strides[axis]


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:  # stand-in
    target.mkdir()
    yield target


def copy_files(source: Path, names: tuple[str, ...], to: Path, report: Report) -> None:  # stand-in
    pass


def check_folders(src: Path, dst: Path) -> None:  # stand-in
    pass
