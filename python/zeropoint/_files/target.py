"""Files and folders that appear whole or not at all, and tensors in another order than read."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import math
import operator
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .._reference import Array
from .source import fault, memory, moving_dtype, opened, state_of

Report = Callable[[int], None]  #: takes how many more bytes are done
_TILE = 1 << 22  # elements of a transposition at a time
_BLOCK = 1 << 20  # bytes of a copy at a time
_OF_FILES = (".safetensors", ".npy", ".npz", ".gguf", ".parquet")
_NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_HERE, _EXCHANGE = -100, 2  # Linux's AT_FDCWD and RENAME_EXCHANGE


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
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        _name(error, target)
        raise
    _sync(target.parent)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` at the end, or vanishes if anything is raised.

    All that is in it is synced before.  A folder that is there must be empty or a checkpoint; the
    two change places at once, and then the old one is removed.  `check_folders` gives `target`.
    """
    temporary = target.with_name(f".zeropoint-{secrets.token_hex(8)}.part")
    old = _replaceable(target)
    os.mkdir(temporary, 0o777 if old is None else 0o700)
    try:
        yield temporary
        _sync_all(temporary, old)
        if _replaceable(target) is None:
            os.rename(temporary, target)
            old = None
        else:
            _exchange(temporary, target)
        _sync(target.parent)  # before anything of the old folder goes
        if old is not None:
            shutil.rmtree(temporary)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _name(error, target)
        raise


def _name(error: BaseException, target: Path) -> None:
    """Let an error of a full disk say what it was too full for: a write knows no names."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        error.filename = str(target)


def check_folders(src: Path, dst: Path, names: Iterable[str] = ()) -> Path:
    """The folder to write, without symbolic links; ValueError if that would cost the source.

    `names` are the files of `src` that are read: where they are links, they may lead anywhere.
    """
    target = Path(os.path.realpath(dst))
    if target.suffix in _OF_FILES and not target.is_dir():
        raise fault(
            dst, "the source is a folder, and this the name of a file", "choose another target"
        )
    if not target.parent.is_dir():
        there = str(target.parent)
        raise FileNotFoundError(f"dst {str(dst)!r}: there is no directory {there!r}")
    source = Path(os.path.realpath(src))
    in_target = [name for name in names if _lies_in(source / name, target)]
    if target.exists() and source.exists() and target.samefile(source):
        raise fault(dst, "it is the source", "choose another target")
    if _lies_in(target, source):
        raise fault(dst, f"it lies in the source, {str(src)!r}", "choose another target")
    if _lies_in(source, target):
        raise fault(dst, f"the source, {str(src)!r}, lies in it", "choose another target")
    if in_target:
        what = f"{in_target[0]!r} of the source, {str(src)!r}, is a link into it"
        raise fault(dst, what, "choose another target")
    _replaceable(target)
    return target


def _lies_in(inner: Path, outer: Path) -> bool:
    inner = Path(os.path.realpath(inner))
    places = (inner, *inner.parents) if outer.exists() else ()
    return any(each.exists() and each.samefile(outer) for each in places)


def _replaceable(target: Path) -> os.stat_result | None:
    """The folder that is there, None if nothing is; ValueError if it must not be replaced."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(old.st_mode):
        raise fault(target, "it is no folder", "choose another name")
    if os.path.ismount(target):
        raise fault(target, "it is a mount point, which cannot be replaced", "choose one inside it")
    names = os.listdir(target)
    if names and not any(n == "config.json" or n.endswith(".safetensors") for n in names):
        what = f"it is a folder without weights or config.json, but with {names[0]!r}"
        raise fault(target, what, "choose another name, or remove it")
    return old


def _sync_all(folder: Path, old: os.stat_result | None) -> None:
    def fail(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, topdown=False, onerror=fail):
        for name in names:
            _sync(Path(place, name))
        if old is None or Path(place) != folder:
            _sync(Path(place))
    if old is not None:
        _sync(folder, old)


def _exchange(new: Path, old: Path) -> None:
    """Give two folders each other's names: at once where Linux can, else in three steps.

    Killed between the steps, the old folder is complete beside its name.
    """
    with contextlib.suppress(AttributeError):  # another system
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        if rename(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
            raise OSError(number, os.strerror(number), str(new), None, str(old))
    aside = new.with_suffix(".old")
    try:
        os.rename(old, aside)
        os.rename(new, old)
        os.rename(aside, new)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # the first step failed
            os.rename(aside, new if old.exists() else old)
        raise


def copy_files(folder: Path, names: Iterable[str], to: Path, report: Report) -> None:
    """Copy files of a folder, whatever links lead to them, into the folder `to`.

    They get the permissions of new files, and may be executed where the source may.
    """
    for name in names:
        place = to / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with opened(folder / name) as source:
            before = state_of(source)
            mode = 0o777 if os.fstat(source.fileno()).st_mode & stat.S_IXUSR else 0o666
            with open(place, "xb", opener=_with_mode(mode)) as file:
                while block := source.read(_BLOCK):
                    file.write(block)
                    report(len(block))
            if state_of(source) != before:
                what = "it changed while it was copied"
                raise fault(folder / name, what, "keep it unchanged meanwhile")


def _with_mode(mode: int) -> Callable[[str, int], int]:
    return lambda path, flags: os.open(path, flags, mode)


def _take_over(descriptor: int, old: os.stat_result) -> None:
    """Give a file or folder the permissions of another, and its owner and group as far as allowed.

    What a group may do is for that group: another one gets nothing.  A file's set-user-ID and the
    like go, as they go when it is written to.
    """
    if not hasattr(os, "fchmod"):
        return
    new = os.fstat(descriptor)
    for owner in ((old.st_uid, -1), (-1, old.st_gid)):
        if owner not in ((new.st_uid, -1), (-1, new.st_gid)):
            with contextlib.suppress(OSError):
                os.fchown(descriptor, *owner)
    kept = 0o7777 if stat.S_ISDIR(old.st_mode) else 0o777
    if os.fstat(descriptor).st_gid != old.st_gid:
        kept &= ~0o2070
    os.fchmod(descriptor, old.st_mode & kept)


def _sync(path: Path, old: os.stat_result | None = None) -> None:
    """Write a file or directory to the disk; before, let it take over what `old` is allowed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return  # a directory that may be written to, but not read
    try:
        if old is not None:
            _take_over(descriptor, old)
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(descriptor)


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
