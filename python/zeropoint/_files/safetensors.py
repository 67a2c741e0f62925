"""The header of ``.safetensors`` files: 8 bytes of length, JSON, then the tensors end to end."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .. import _checks
from .source import AGAIN, NUMPY, Source, Tensor, check_shape, fault, is_name, size_of

_METADATA = "__metadata__"
_LONGEST = 100_000_000  # bytes of a header; the limit of the safetensors library
#: bits an element of every dtype of the format
_BITS = {
    **{word: 8 * int(code[2:]) for word, code in NUMPY.items()},
    "BF16": 16,
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


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
    header = parse_json(file.read(length), path, "its header")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise fault(path, f"{_METADATA} does not map strings to strings", AGAIN)
    tensors = [_tensor(name, entry, start, path) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.bytes))
    end = start
    for tensor in tensors:
        if tensor.start != end:
            what = "overlaps the one before it" if tensor.start < end else "follows a hole"
            raise fault(path, f"tensor {tensor.name!r} {what}", AGAIN)
        end += tensor.bytes
    if end != total:
        raise fault(path, f"its tensors end at byte {end} of {total}", AGAIN)
    return Source(path, file, tensors, metadata)


def parse_json(raw: bytes | str, path: Path, what: str) -> dict[str, Any]:
    """A JSON object; keys that occur twice, NaN and text that is no Unicode are faults."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key occurs twice")
        return found

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
        found = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise fault(path, f"{what} is not valid JSON ({error})", AGAIN) from None
    if not isinstance(found, dict) or not text.startswith("{"):
        raise fault(path, f"{what} is not a JSON object", AGAIN)
    return found


def _tensor(name: str, entry: Any, start: int, path: Path) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise fault(path, f"tensor {name!r} lacks its dtype, shape or data_offsets", AGAIN)
    word, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
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
