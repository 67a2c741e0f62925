"""The header of ``.npy`` files (numpy.lib.format), read without evaluating anything."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .source import AGAIN, NUMPY, Header, Source, Tensor, check_shape, fault, size_of

_MAGIC = b"\x93NUMPY"
_LONGEST = 1 << 16  # bytes of a header; NumPy's own are below a thousand
_SAVE = "write it with numpy.save"
_WORDS = {word[1:]: name for name, word in NUMPY.items()}

#: one entry of the dictionary: a string, a bool or a tuple of integers (Python 2 wrote 3L)
_FIELD = re.compile(
    r"""\s* (?P<quote>['"])(?P<key>\w{1,20})(?P=quote) \s*:\s*
    (?: (?P<marks>['"])(?P<text>[^'"\\]*)(?P=marks) | (?P<flag>True|False)
      | \((?P<tuple>[-0-9L,\s]*)\) )
    \s* (?:,|(?=\}))""",
    re.VERBOSE | re.ASCII,
)


class NoArrayError(Exception):
    """There is no array of plain numbers: what was found instead, and the fix."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what, self.fix = what, fix


def source(file: BinaryIO, path: Path) -> Source:
    """The one array of a .npy file; its name is that of the file."""
    try:
        tensor = read_header(file.read, size_of(file), path, path.stem)
    except NoArrayError as found:
        raise fault(path, f"{path.stem!r} {found.what}", found.fix) from None
    return Source(path, file, Header([tensor]))


def read_header(read: Callable[[int], bytes], total: int, path: Path, name: str) -> Tensor:
    """The array of `total` bytes, header and all, whose first bytes `read` gives."""
    magic = read(8)
    if magic[:6] != _MAGIC or len(magic) < 8:
        raise NoArrayError("does not start as a .npy file", _SAVE)
    version = tuple(magic[6:])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise fault(path, f"the .npy version {version} of {name!r} is unknown", _SAVE)
    form = "<H" if version == (1, 0) else "<I"
    raw = read(struct.calcsize(form))
    if len(raw) < struct.calcsize(form):
        raise fault(path, f"{name!r} ends inside its header", AGAIN)
    (length,) = struct.unpack(form, raw)
    start = len(magic) + len(raw) + length
    if start > total:
        raise fault(path, f"the header of {name!r} would end at byte {start} of {total}", AGAIN)
    if length > _LONGEST:
        raise fault(path, f"the header of {name!r}, of {length} bytes, is too large", _SAVE)
    label, fortran, shape = _fields(read(length).decode("latin1"), path, name)
    dtype = _dtype(label, path, name)
    check_shape(shape, path, name)
    needed = math.prod(shape) * dtype.itemsize
    if needed != total - start:
        raise fault(
            path,
            f"shape {shape} of {dtype} takes {needed} bytes, and {name!r} has {total - start}",
            AGAIN,
        )
    return Tensor(
        name,
        label,
        _WORDS.get(dtype.str[1:]),
        dtype.str[0] == ">",
        shape,
        fortran and len(shape) > 1 and needed > 0,  # else both orders are the same
        start,
        needed,
    )


def _fields(text: str, path: Path, name: str) -> tuple[str, bool, tuple[int, ...]]:
    """descr, fortran_order and shape from the text of a Python dictionary."""
    found: dict[str, Any] = {}
    text = text.strip()
    if re.search(r"""['"]descr['"]\s*:\s*\[""", text):
        raise NoArrayError("holds records", "save one field as an array of its own")
    at = 1
    while entry := _FIELD.match(text, at):
        key = entry["key"]
        if key in found:
            break
        at = entry.end()
        if entry["text"] is not None:
            found[key] = entry["text"]
        elif entry["flag"]:
            found[key] = entry["flag"] == "True"
        else:
            found[key] = _lengths(entry["tuple"])
    kinds = {"descr": str, "fortran_order": bool, "shape": tuple}
    if (
        text[:1] != "{"
        or text[at:].strip() != "}"
        or {key: type(value) for key, value in found.items()} != kinds
    ):
        raise fault(path, f"the header of {name!r} is not that of an array", _SAVE)
    return found["descr"], found["fortran_order"], found["shape"]


def _lengths(text: str) -> tuple[int, ...] | None:
    """The integers of a tuple: ``3, 4``, ``3,`` or nothing; None for anything else."""
    if not text.strip():
        return ()
    words = [word.strip() for word in text.split(",")]
    if len(words) > 1 and words[-1] == "":
        words.pop()
    elif len(words) == 1:
        return None  # (3) is a number
    if not all(re.fullmatch(r"-?[0-9]{1,30}L?", word) for word in words):
        return None
    return tuple(int(word.rstrip("L")) for word in words)


def _dtype(label: str, path: Path, name: str) -> np.dtype[Any]:
    if re.fullmatch(r"[<>=|]?O[0-9]{0,3}", label):
        raise NoArrayError("holds Python objects, which are never loaded", "convert it first")
    try:
        if re.fullmatch(r"[<>=|]?[biufcSUVmM][0-9]{1,6}(\[\w{1,10}\])?", label):
            return np.dtype(label)
    except (TypeError, ValueError):
        pass
    raise fault(path, f"{name!r} has dtype {label!r}, no plain dtype", "convert it to float32")


def write_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """All that stands before the data of an array in C order."""
    text = repr({"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape})
    fixed = len(_MAGIC) + 2 + 2
    padded = text + " " * (-(fixed + len(text) + 1) % 64) + "\n"  # the data starts at k * 64
    return _MAGIC + bytes([1, 0]) + struct.pack("<H", len(padded)) + padded.encode("ascii")
