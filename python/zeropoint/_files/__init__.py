"""Behind `zeropoint.files`: tensors in files, read and written tile by tile.

- `source`: what a file holds, and the elements of each tensor in their order; the headers are read
  by `npy`, `npz` and `safetensors`, which trust nothing in them (`jsontext` reads JSON)
- `likely`: what a file is that is not of the format its name says
- `tiles`: how a tensor is cut into chunks that share no parameters, and tiles that fit the memory
- `work`: copy, quantize and dequantize, tile by tile
- `target`: writing beside the target, the rename, and Fortran order into C order
- `quantized`: what a quantized tensor is made of in a ``.safetensors`` file
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .._checks import listed
from . import gguf, likely, npy, npz, safetensors
from .source import Header, Source, fault, opened, state_of

_FORMATS = {
    ".npy": npy.source,
    ".npz": npz.source,
    ".safetensors": safetensors.source,
    ".gguf": gguf.source,
}
SUFFIXES = tuple(_FORMATS)
_RECENT = 2e9  # ns in which a file may change twice, and its times only once
_last: tuple[Path, tuple[int, ...], Header] | None = None


@contextlib.contextmanager
def open_source(path: Path, leave_out: Callable[[str], bool] | None = None) -> Iterator[Source]:
    """The file at `path`, its header read and checked: .npy, .npz or .safetensors.

    What is no array is an error, unless `leave_out` is true of its name.
    """
    _check_suffix(path)
    with opened(path) as file:
        yield _read(path, file, leave_out)


@contextlib.contextmanager
def open_again(path: Path, leave_out: Callable[[str], bool] | None = None) -> Iterator[Source]:
    """The same, for callers that read one tensor per call: the last header is kept.

    It is read anew unless the file is the same and was written to some time before.
    """
    global _last
    _check_suffix(path)
    with opened(path) as file:
        state, last = state_of(file), _last
        if last is not None and last[:2] == (path, state):
            yield Source(path, file, last[2])
            return
        source = _read(path, file, leave_out)
        changed = max(state[-2:])
        if path.suffix != ".npz" and changed + _RECENT < time.time_ns():
            _last = path, state, source.header
        yield source


def _check_suffix(path: Path) -> None:
    if path.suffix not in _FORMATS:
        raise fault(path, f"its name does not end in {listed(SUFFIXES)}", "pass such a file")


def _read(path: Path, file: BinaryIO, leave_out: Callable[[str], bool] | None) -> Source:
    try:
        source = _FORMATS[path.suffix](file, path)
    except ValueError:
        file.seek(0)
        if found := likely.what(file.read(likely.HEAD), path.suffix):
            raise fault(path, *found) from None
        raise
    for name, tensor in list(source.tensors.items()):
        if tensor.flaw is None:
            continue
        if leave_out is None or not leave_out(name):
            raise fault(
                path,
                f"its member {name!r} {tensor.flaw}",
                "exclude it when the file is quantized",
            )
        source.left_out[name] = tensor.flaw
        del source.tensors[name]
    return source
