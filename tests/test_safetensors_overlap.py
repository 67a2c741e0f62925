"""Tensors that overlap, in a file whose length is the sum of theirs."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from zeropoint import files


@pytest.mark.parametrize(
    ("offsets", "what"), [([0, 8, 4, 12], "overlaps the one before"), ([0, 8, 8, 16], None)]
)
def test_overlap(tmp_path: Path, offsets: list[int], what: str | None) -> None:
    entries = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": ends}
        for name, ends in (("a", offsets[:2]), ("b", offsets[2:]))
    }
    text = json.dumps(entries).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    if what is None:
        assert len(files.inspect_file(path).tensors) == 2
        return
    with pytest.raises(ValueError, match=what):
        files.inspect_file(path)
