"""A ``.gguf`` file from its parts, sound or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence

U32, STRING, ARRAY = 4, 8, 9


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def u32(key: str | bytes, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def info(
    name: str | bytes, shape: Sequence[int] = (4, 32), kind: int = 0, offset: int = 0
) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    return text(name) + dims + struct.pack("<IQ", kind, offset)


def made(
    pairs: Sequence[bytes] = (),
    infos: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    aligned: int = 32,
) -> bytes:
    counts = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(infos)
    return head + bytes(-len(head) % aligned if infos else 0) + data
