"""``.npz`` archives: zip files of ``.npy`` members, stored or deflated, never unpickled."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from . import npy
from .source import AGAIN, Header, Source, Tensor, fault, size_of

_DIRECTORY = 1 << 24  # bytes; zipfile reads a directory at once, and takes twenty times as much
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that numpy.savez writes
_LOCAL = struct.Struct("<26xHH")  # of a local header: the lengths of name and extra field
_ENCRYPTED = 1  # a bit of a member's flags
_RATIO = 1032  # bytes that deflate makes of one at most: 258 of two bits


def source(file: BinaryIO, path: Path) -> Source:
    """The arrays of a .npz file, in the order of its directory."""
    bounded = _Bounded(file)
    with _faults(path, bounded):
        archive = zipfile.ZipFile(bounded)
    members: dict[str, zipfile.ZipInfo] = {}
    tensors = []
    _check_disjoint(archive, bounded, path)
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise fault(path, f"it has two members {name!r}", AGAIN)
        if name == info.filename:
            members[name] = info
            tensors.append(_flawed(info, name, "is not a .npy file"))
            continue
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
            raise fault(
                path,
                f"its member {name!r} is encrypted or compressed in another way than deflate",
                "write it with numpy.savez",
            )
        if not info.file_size <= _RATIO * info.compress_size <= _RATIO * size_of(file):
            raise fault(path, f"its member {name!r} cannot have {info.file_size} bytes", AGAIN)
        members[name] = info
        with _member(archive, info, path) as member:
            try:
                tensors.append(npy.read_header(member.read, info.file_size, path, name))
            except npy.NoArrayError as found:
                tensors.append(_flawed(info, name, found.what))

    @contextlib.contextmanager
    def stream(tensor: Tensor) -> Iterator[_Member]:
        with _member(archive, members[tensor.name], path) as member:
            member.read(tensor.start)
            yield member

    return Source(path, file, Header(tensors), stream)


def _flawed(info: zipfile.ZipInfo, name: str, flaw: str) -> Tensor:
    return Tensor(name, "?", None, False, (), False, 0, info.file_size, flaw)


def _check_disjoint(archive: zipfile.ZipFile, file: _Bounded, path: Path) -> None:
    """ValueError if members overlap: then a small file could hold any amount of data."""
    end, before = 0, ""
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise fault(path, f"its members {before!r} and {info.filename!r} overlap", AGAIN)
        with _faults(path, file):
            file.seek(info.header_offset)
            name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
        end = info.header_offset + _LOCAL.size + name + extra + info.compress_size
        before = info.filename
    if end > archive.start_dir:
        raise fault(path, f"its member {before!r} overlaps the directory", AGAIN)


class _Bounded:
    """A file for `zipfile` that refuses negative offsets and oversized directories."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.seekable = file.tell, file.seekable
        self.error: OSError | None = None  #: of a read; `zipfile` takes it for a damaged archive

    def seek(self, at: int, whence: int = 0) -> int:
        if whence == 0 and at < 0:
            raise zipfile.BadZipFile(f"an offset of {at}")
        return self._file.seek(at, whence)

    def read(self, n: int = -1) -> bytes:
        if n > _DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {n} bytes")
        try:
            return self._file.read(n)
        except OSError as error:
            self.error = error
            raise


class _Member:
    """A member of an archive, decompressed; its checksum is compared at its end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path

    def read(self, n: int) -> bytes:
        with _faults(self._path):
            return self._file.read(n)

    def readinto(self, view: memoryview) -> int:
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Iterator[_Member]:
    with _faults(path):
        file = archive.open(info)
    with file:
        yield _Member(file, path)  # type: ignore[arg-type]


@contextlib.contextmanager
def _faults(path: Path, bounded: _Bounded | None = None) -> Iterator[None]:
    """Turn the errors of `zipfile` for damaged archives into ours."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
    ) as error:
        if bounded and bounded.error:
            raise bounded.error from None
        raise fault(path, f"the archive is damaged ({error})", AGAIN) from None
