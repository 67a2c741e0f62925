"""The parts of `zeropoint.files`: tensors in files, read and written piece by piece.

- `source`: what a file holds, and the elements of each tensor in their order; the headers are read
  by `npy`, `npz` and `safetensors`, which trust nothing in them
- `grid`: how a tensor is cut into pieces that fit the memory and the parameters
- `work`: what is done with the pieces: copy, quantize, dequantize
- `target`: writing beside the target, the rename, and Fortran order into C order
- `quantized`: what a quantized tensor is made of in a ``.safetensors`` file
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from . import npy, npz, safetensors
from .source import Source, fault

_FORMATS = {".npy": npy.source, ".npz": npz.source, ".safetensors": safetensors.source}


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The file at `path`, its header read and checked: .npy, .npz or .safetensors."""
    if path.suffix not in _FORMATS:
        raise fault(path, "its name does not end in .npy, .npz or .safetensors", "pass such a file")
    if path.exists() and not path.is_file():
        raise fault(path, "it is not a regular file", "copy its content to a file")
    with open(path, "rb") as file:
        yield _FORMATS[path.suffix](file, path)
