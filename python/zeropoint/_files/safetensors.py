"""The header of ``.safetensors`` files: 8 bytes of length, JSON, then the tensors end to end."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .. import _checks
from .jsontext import Reader
from .source import AGAIN, NUMPY, Header, Source, Tensor, check_shape, fault, is_name, size_of

_METADATA = "__metadata__"
_LONGEST = 100_000_000  # bytes of a header; the limit of the safetensors library
#: bits per element, of every dtype of the format
_BITS = {
    **{word: 8 * int(code[2:]) for word, code in NUMPY.items()},
    "BF16": 16,
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_FIELDS = ("dtype", "shape", "data_offsets")
#: the three as the library writes them, read at once; anything else goes member by member
_USUAL = re.compile(
    rb'\{"dtype":"(\w+)","shape":\[((?:(?:0|[1-9][0-9]{0,17})(?:,(?!\])|(?=\]))){0,64}+)\],'
    rb'"data_offsets":\[(0|[1-9][0-9]{0,17}),(0|[1-9][0-9]{0,17})\]\}'
)


def source(file: BinaryIO, path: Path) -> Source:
    """Tensors in the order of the file, and metadata; the header is checked against the size."""
    total = size_of(file)
    raw = file.read(8)
    if len(raw) < 8:
        raise fault(path, f"a .safetensors file has at least 8 bytes, and this {len(raw)}", AGAIN)
    (length,) = struct.unpack("<Q", raw)
    if length > _LONGEST:
        raise fault(path, f"its header of {length} bytes is too large", AGAIN)
    start = 8 + length
    if start > total:
        raise fault(path, f"its header would end at byte {start} of {total}", AGAIN)
    tensors, metadata = _header(Reader(file.read(length), path, "its header"), start, path)
    tensors.sort(key=lambda tensor: (tensor.start, tensor.bytes))
    end = start
    for tensor in tensors:
        if tensor.start != end:
            what = "overlaps the one before it" if tensor.start < end else "follows a hole"
            raise fault(path, f"tensor {tensor.name!r} {what}", AGAIN)
        end += tensor.bytes
    if end != total:
        raise fault(path, f"its tensors end at byte {end} of {total}", AGAIN)
    return Source(path, file, Header(tensors, metadata))


def _header(header: Reader, start: int, path: Path) -> tuple[list[Tensor], dict[str, str]]:
    """The tensors, in the order of the header, and the metadata."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] | None = None
    for name in header.members():
        if name != _METADATA:
            tensor = _tensor(name, _entry(header, name, path), start, path)
            if tensors.setdefault(name, tensor) is not tensor:
                raise fault(path, f"tensor {name!r} occurs twice, which the format forbids", AGAIN)
            continue
        if metadata is not None:
            raise fault(path, f"{_METADATA} occurs twice", AGAIN)
        metadata = _metadata(header, path)
    header.end()
    return list(tensors.values()), metadata or {}


def _metadata(header: Reader, path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    if not header.at_object():
        value = header.value()
        if value is None:  # as good as none to the library
            return found
        raise fault(path, f"{_METADATA} is {_checks.shown(value)}, not an object", AGAIN)
    for key in header.members():
        value, what = header.value(), f"{_METADATA}, {key!r}"
        if not isinstance(value, str):
            raise fault(path, f"{what} is {_checks.shown(value)}, not a string", AGAIN)
        if key in found:
            raise fault(path, f"{what} occurs twice, which the format forbids", AGAIN)
        found[key] = value
    return found


def _entry(header: Reader, name: str, path: Path) -> dict[str, Any]:
    """dtype, shape and data_offsets; other members are read past, as the library does."""
    usual = _USUAL.match(header.raw, header.at)
    if usual:
        header.at = usual.end()
        shape = [int(length) for length in usual[2].split(b",")] if usual[2] else []
        return {
            "dtype": usual[1].decode(),
            "shape": shape,
            "data_offsets": [int(usual[3]), int(usual[4])],
        }
    if not header.at_object():
        value = header.value()
        raise fault(path, f"tensor {name!r} is {_checks.shown(value)}, not an object", AGAIN)
    found: dict[str, Any] = {}
    for field in header.members():
        if field not in _FIELDS:
            header.skip()
        elif field in found:
            raise fault(path, f"the {field} of tensor {name!r} occurs twice", AGAIN)
        else:
            found[field] = header.value()
    for field in _FIELDS:
        if field not in found:
            raise fault(path, f"tensor {name!r} lacks its {field}", AGAIN)
    return found


def _tensor(name: str, entry: dict[str, Any], start: int, path: Path) -> Tensor:
    word, shape, offsets = (entry[field] for field in _FIELDS)
    if not isinstance(word, str) or word not in _BITS:
        raise fault(path, f"tensor {name!r} is of the unknown dtype {_checks.shown(word)}", AGAIN)
    if not isinstance(shape, list):
        raise fault(path, f"the shape of tensor {name!r} is not a list", AGAIN)
    check_shape(tuple(shape), path, name)
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int for offset in offsets)
        or not 0 <= offsets[0] <= offsets[1]
    ):
        raise fault(path, f"tensor {name!r} has the data_offsets {_checks.shown(offsets)}", AGAIN)
    size = offsets[1] - offsets[0]
    if math.prod(shape) * _BITS[word] != size * 8:
        raise fault(path, f"tensor {name!r} of {word} {shape} has {size} bytes", AGAIN)
    return Tensor(name, word, word, False, tuple(shape), False, start + offsets[0], size)


def size(word: str, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor."""
    return math.prod(shape) * _BITS[word] // 8


def write_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str], path: Path
) -> tuple[bytes, dict[str, int]]:
    """The header for tensors of these dtypes (words) and shapes, and where each starts.

    The widest dtypes come first, then by name, as in the library's files: every tensor is
    aligned to its elements.  `path` is for the errors.
    """
    for name in tensors:
        if not is_name(name):
            raise fault(path, f"safetensors cannot name a tensor {name!r}", "rename it")
    order = sorted(tensors, key=lambda name: (-_BITS[tensors[name][0]], name))
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    starts, end = {}, 0
    for name in order:
        word, shape = tensors[name]
        starts[name] = end
        end += size(word, shape)
        header[name] = {"dtype": word, "shape": shape, "data_offsets": [starts[name], end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST:
        raise fault(
            path, f"the new header would have {len(text)} bytes", f"{_LONGEST} are the limit"
        )
    first = 8 + len(text)
    return struct.pack("<Q", len(text)) + text, {name: first + at for name, at in starts.items()}
