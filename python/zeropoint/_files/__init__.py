"""Behind `zeropoint.files`: tensors in files, read and written tile by tile.

- `source`: what a file holds, and the elements of each tensor in their order; the headers are read
  by `npy`, `npz` and `safetensors`, which trust nothing in them (`jsontext` reads JSON)
- `folder`: the files of a model's folder; `container`: one file or such a folder, opened
- `likely`: what a file is that is not of the format its name says
- `quantized`: what a quantized tensor is made of, for all formats; `formats`: their table, with a
  module for each (`own` is that of zeropoint)
- `tiles`: how a tensor is cut into chunks that share no parameters, and tiles that fit the memory
- `work`: copy, quantize and dequantize one tensor, tile by tile; `jobs`: all of a container
- `target`: writing beside the target, the rename, and Fortran order into C order
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .._checks import listed
from . import folder, gguf, likely, npy, npz, safetensors
from .container import Container
from .source import Source, fault, opened

_FORMATS = {
    ".npy": npy.source,
    ".npz": npz.source,
    ".safetensors": safetensors.source,
    ".gguf": gguf.source,
}
SUFFIXES = tuple(_FORMATS)
_RECENT = 2e9  # ns in which a file may change twice, and its times only once
_LeaveOut = Callable[[str], bool] | None
_last: Container | None = None  # what was read last, but for what may have changed since


@contextlib.contextmanager
def open_container(path: Path, leave_out: _LeaveOut = None) -> Iterator[Container]:
    """The file or the folder at `path`, its headers read and checked.

    What is no array is an error, unless `leave_out` is true of its name.
    """
    with contextlib.ExitStack() as stack:
        yield _open(path, stack, leave_out)


@contextlib.contextmanager
def open_again(path: Path, leave_out: _LeaveOut = None) -> Iterator[Container]:
    """The same, for callers that read one tensor per call: what was read last is kept.

    All is read anew unless all files are the same and were written to some time before.
    """
    global _last
    now, last = time.time_ns(), _last
    with contextlib.ExitStack() as stack:
        container = _unchanged(last, path, stack)
        keep = container is not None
        if container is None:
            container = _open(path, stack, leave_out)
            newest = max(max(state[-2:]) for state in container.states)
            keep = container.format != "npz" and newest + _RECENT < now
        if keep:
            _last = container
        yield container


def _unchanged(last: Container | None, path: Path, stack: contextlib.ExitStack) -> Container | None:
    """The container `last` with its files opened again; None if it is not what `path` holds now."""
    if last is None or last.path != path:
        return None
    try:
        files = [stack.enter_context(opened(one.path)) for one in last.shards]
        again = last.again(files)
        return again if again.states == last.states else None
    except (OSError, ValueError):  # what is wrong is said where all is read
        return None


def _open(path: Path, stack: contextlib.ExitStack, leave_out: _LeaveOut) -> Container:
    if not path.is_dir():
        _check_suffix(path)
        container = Container(path, (_read(path, stack.enter_context(opened(path))),))
    else:
        found = folder.read(path)
        shards = tuple(
            _read(path / name, stack.enter_context(opened(path / name))) for name in found.shards
        )
        folder.check(found, {one.path.name: one.tensors for one in shards})
        container = Container(path, shards, found)
    if container.format != "npz":  # the only files with members that are no arrays
        return container
    for name, tensor in list(container.tensors.items()):
        if tensor.flaw is None:
            continue
        if leave_out is None or not leave_out(name):
            raise fault(
                container.path_of(tensor),
                f"its member {name!r} {tensor.flaw}",
                "exclude it when the file is quantized",
            )
        container.leave_out(name, tensor.flaw)
    return container


def _check_suffix(path: Path) -> None:
    if path.suffix not in _FORMATS:
        raise fault(
            path, f"its name does not end in {listed(SUFFIXES)}", "pass such a file, or a folder"
        )


def _read(path: Path, file: BinaryIO) -> Source:
    try:
        return _FORMATS[path.suffix](file, path)
    except ValueError:
        file.seek(0)
        if found := likely.what(file.read(likely.HEAD), path.suffix):
            raise fault(path, *found) from None
        raise
