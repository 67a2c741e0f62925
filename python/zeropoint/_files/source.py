"""Files of tensors: their headers, and the elements of each tensor in the order of the file."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from .._checks import printable
from .._extras import missing
from .._reference import Array

AGAIN = "make or copy the file again"
LARGEST = np.iinfo(np.int64).max  # of one dimension
DIMENSIONS = 64  # of one tensor, as in NumPy
_LARGEST_ITEM = 16  # bytes of an element
_STEP = 1 << 20  # bytes of one read, which a decompressor holds at once

#: the dtypes of safetensors that NumPy has; the file's words name dtypes everywhere in this package
NUMPY = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
}
#: those that can be quantized, by the names that `zeropoint` uses
REALS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


class ForeignError(ValueError):
    """A tensor that is stored in a way that is not read here."""


def fault(path: Path, what: str, fix: str, kind: type[ValueError] = ValueError) -> ValueError:
    """The error for a file that is damaged, hostile or of no use here."""
    if len(what) > 300:  # a hostile file's names and shapes can be of any length
        what = what[:300] + "..."
    return kind(printable(f"{path}: {what}; {fix}"))


class Tensor(NamedTuple):
    """Where a tensor lies in a file."""

    name: str
    label: str  #: its dtype in the file's own words: ``<f4`` in a .npy, ``F32`` in a .safetensors
    word: str | None  #: its dtype in the words of safetensors, None where that has none
    big: bool  #: big-endian
    shape: tuple[int, ...]
    fortran: bool
    start: int  #: its first byte, in the file or in the archive's member
    bytes: int
    flaw: str | None = None  #: why it cannot be read as an array at all

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stored(self) -> np.dtype[Any]:
        """A dtype to move its elements with, in the file's byte order."""
        return moving_dtype(self.word).newbyteorder(">" if self.big else "<")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its elements in memory; bfloat16 needs ml_dtypes."""
        return real_dtype("bfloat16") if self.word == "BF16" else self.stored.newbyteorder("=")


def moving_dtype(word: str | None) -> np.dtype[Any]:
    """A dtype to move elements with: their own, or one of their width, or bytes."""
    return np.dtype(NUMPY.get(word or "", "<u2" if word == "BF16" else "|u1"))


def real_dtype(name: str) -> np.dtype[Any]:
    """One of `REALS` as NumPy's dtype; ImportError for bfloat16 without ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise missing("bfloat16", "bfloat16") from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


class Readable(Protocol):
    """The one method of a file, or of an archive's member, that a `Stream` needs."""

    def readinto(self, view: memoryview, /) -> int | None: ...


class Stream:
    """The elements of one tensor, first to last."""

    def __init__(self, file: Readable, path: Path, tensor: Tensor, seek: Callable[[int], object]):
        self._file, self._path, self._tensor, self._seek = file, path, tensor, seek
        self._at = tensor.start

    def array(self, shape: int | tuple[int, ...], dtype: np.dtype[Any] | None = None) -> Array:
        """The next elements, of `dtype` (the tensor's own), in native byte order."""
        dtype = self._tensor.dtype if dtype is None else dtype
        values = np.empty(shape, dtype)
        view = memory(values)
        self._seek(self._at)
        done = 0
        while done < len(view):
            read = self._file.readinto(view[done : done + _STEP])
            if not read:
                raise fault(
                    self._path,
                    f"it ends inside tensor {self._tensor.name!r}",
                    "keep the file unchanged while it is read, or make it again",
                )
            done += read
        self._at += done
        return values if self._tensor.stored.isnative else values.byteswap(inplace=True)


def memory(values: Array) -> memoryview:
    """The bytes of a C-contiguous array."""
    return values.reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The regular file at `path`; checked once open, since the name may be given to another."""
    flags = os.O_RDONLY  # without O_NONBLOCK the open of a FIFO waits for a writer
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _irregular(path) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _irregular(path)
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        yield file


def _irregular(path: Path) -> ValueError:
    return fault(path, "it is not a regular file", "copy its content to a file")


def size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def state_of(file: BinaryIO | Path) -> tuple[int, ...]:
    """It changes when the file is written to: st_ctime cannot be set."""
    found = os.stat(file if isinstance(file, Path) else file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Header:
    """The tensors and metadata of a file."""

    def __init__(
        self,
        tensors: list[Tensor],
        metadata: dict[str, str] | None = None,
        pairs: dict[str, bytes] | None = None,
    ) -> None:
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.metadata = metadata or {}
        self.pairs = pairs or {}  #: of a .gguf file: the bytes behind `metadata`
        #: of the tensors in zeropoint's own format, once `own` has read them
        self.entries: dict[str, dict[str, Any]] | None = None


class Source:
    """One open file of tensors."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        header: Header,
        member: Callable[[Tensor], contextlib.AbstractContextManager[Readable]] | None = None,
    ) -> None:
        self.path = path
        self.format = path.suffix[1:]
        self.header = header
        self.tensors, self.metadata = header.tensors, header.metadata
        self._file, self._member = file, member
        self.state = state_of(file)
        self.bytes = size_of(file)

    @property
    def plain(self) -> BinaryIO | None:
        """The file, where tensors lie in it as in memory; None for an archive."""
        return self._file if self._member is None else None

    def check_unchanged(self) -> None:
        """ValueError if the file was written to: two passes may then have seen two tensors."""
        if state_of(self._file) != self.state:
            raise fault(self.path, "it changed while it was read", "keep it unchanged meanwhile")

    @contextlib.contextmanager
    def stream(self, tensor: Tensor) -> Iterator[Stream]:
        """The elements of `tensor`; several streams may be open at once."""
        if self._member is None:
            yield Stream(self._file, self.path, tensor, self._file.seek)  # type: ignore[arg-type]
        else:
            with self._member(tensor) as member:
                yield Stream(member, self.path, tensor, lambda at: None)


def check_shape(shape: tuple[Any, ...], path: Path, name: str) -> None:
    """ValueError unless `shape`, read from a file, is one that an array can have."""
    if len(shape) > DIMENSIONS:
        raise fault(
            path, f"tensor {name!r} has {len(shape)} dimensions", f"NumPy has at most {DIMENSIONS}"
        )
    if not all(type(length) is int and 0 <= length <= LARGEST for length in shape):
        raise fault(
            path, f"tensor {name!r} has a dimension that is not an integer in [0, 2^63)", AGAIN
        )
    # NumPy needs this of the dimensions that are not 0, even where one is
    if math.prod(length for length in shape if length) > LARGEST // _LARGEST_ITEM:
        raise fault(path, f"tensor {name!r} has a shape that is too large: {shape}", AGAIN)


def is_name(name: str) -> bool:
    """Whether safetensors can name a tensor so: text, and not its word for the metadata."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name != "__metadata__"
