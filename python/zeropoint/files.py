"""Quantize arrays in files: ``.npy`` to ``.safetensors`` and back, in bounded memory.

A file is read and written in chunks of `CHUNK` elements through plain reads, so memory does not
grow with it (the safetensors library and `numpy.load` would hold all of it).  Nothing is ever
unpickled.  A result is written beside its target, synced, and renamed over it: at any moment the
target is the old file or the new one.

A quantized file holds, for an array from ``NAME.npy``:

=====================  ==========  ==============  ==========================================
``NAME``               U8 or I8    its shape       the codes, in C order
``NAME_scale``         F32 or F64  ``[]``          the scale, where other readers look for it
``NAME_zero_point``    I32         ``[]``          the zero point, likewise
``zeropoint.version``  metadata    --              ``"1"``
``zeropoint.tensors``  metadata    --              JSON: ``{NAME: {"dtype": "float32", "params":
                                                   QuantParams.to_dict()}}``
=====================  ==========  ==============  ==========================================
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import math
import operator
import os
import re
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from . import _api, _backend, _checks
from ._params import QuantParams
from ._reference import Array

__all__ = [
    "CHUNK",
    "FileInfo",
    "FileSummary",
    "TensorInfo",
    "dequantize_file",
    "inspect_file",
    "quantize_file",
]

CHUNK = 1 << 20  #: elements at a time: 4 MiB of float32, enough to hide the cost of a call

Progress = Callable[[int, int], object]
_PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FileSummary:
    """What `quantize_file` or `dequantize_file` did."""

    source: str
    target: str
    tensor: str  #: the name of the array
    shape: tuple[int, ...]
    dtype: str  #: of the real values: those that were read, or those that were written
    params: QuantParams
    bytes_in: int  #: sizes of the two files
    bytes_out: int
    error_bound: float  #: half a step, in the unit of the data; float rounding comes on top

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values."""
        return {**vars(self), "shape": list(self.shape), "params": self.params.to_dict()}


@dataclass(frozen=True)
class TensorInfo:
    """One array of a file."""

    name: str
    dtype: str  #: in the file's own words: ``<f4`` in a .npy, ``F32`` in a .safetensors
    shape: tuple[int, ...]
    order: str  #: ``"C"`` or ``"F"`` (Fortran)
    bytes: int
    params: QuantParams | None  #: where these are codes that `quantize_file` wrote ...
    source_dtype: str | None  #: ... and then the dtype that `dequantize_file` restores

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values."""
        params = self.params.to_dict() if self.params else None
        return {**vars(self), "shape": list(self.shape), "params": params}


@dataclass(frozen=True)
class FileInfo:
    """What a file holds."""

    path: str
    format: str  #: ``"npy"`` or ``"safetensors"``
    bytes: int
    tensors: tuple[TensorInfo, ...]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values."""
        return {**vars(self), "tensors": [tensor.to_dict() for tensor in self.tensors]}


# ---------------------------------------------------------------------------------------------
# The public functions


def quantize_file(
    src: _PathLike, dst: _PathLike, *, progress: Progress | None = None, **keywords: Any
) -> FileSummary:
    """Quantize the array of the ``.npy`` file `src` into the ``.safetensors`` file `dst`.

    The file is read twice: for its range, then for the codes.

    Parameters
    ----------
    src
        float16, float32 or float64 in any byte order, in C or Fortran order.
    dst
        Replaced if it exists, and only once the new file is complete.
    progress
        Called as ``progress(done, total)``, in elements read; `total` counts both passes.
    **keywords
        Those of `choose_params`.  Files are quantized per tensor: no `axis`, no `block_size`.

    Returns
    -------
    FileSummary
        Names, shape, parameters, sizes and the error bound.

    Raises
    ------
    OSError
        A file that cannot be read or written.
    TypeError
        An array of another dtype; an unknown keyword.
    ValueError
        A file that is damaged or hostile; NaN or Inf in the data (count and first index over the
        whole array); no data; parameters that `choose_params` refuses.
    """
    source, target = _paths(src, ".npy", dst, ".safetensors")
    for name in ("axis", "block_size"):
        if keywords.get(name) is not None:
            raise ValueError(
                f"{name} {keywords[name]!r} does not work here: a file is quantized per tensor; "
                f"leave {name} out"
            )
    # bad keywords are told at once, not after a long read
    _api.params_from_range(np.zeros((), np.float32), np.ones((), np.float32), **keywords)
    with open(source, "rb") as file:
        array = _npy(file, source)
        _check_real(array, source)
        told = _counter(2 * array.size, progress)
        low, high = _range(file, source, array, told)
        try:
            params = _api.params_from_range(low, high, **keywords)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        with _replacing(target) as out:
            codes_at = _write_safetensors_head(out, array, params)
            pieces = _boxes if array.fortran else _runs_of_chunk
            for values, runs in pieces(file, source, array):
                codes = _api.quantize(values, params)
                _write_runs(out, codes_at, codes, runs)
                told(codes.size)
        size = os.fstat(file.fileno()).st_size
    return _summary(source, dst, array, array.dtype.name, params, size)


def dequantize_file(
    src: _PathLike, dst: _PathLike, *, progress: Progress | None = None, dtype: Any = None
) -> FileSummary:
    """Dequantize the ``.safetensors`` file `src`, from `quantize_file`, into the ``.npy`` `dst`.

    Parameters
    ----------
    src
        A file of one quantized array.
    dst
        Replaced if it exists, and only once the new file is complete.  In C order.
    progress
        Called as ``progress(done, total)``, in elements.
    dtype
        float16, float32 or float64; by default that of the file that was quantized.

    Returns
    -------
    FileSummary
        Names, shape, parameters, sizes and the error bound.

    Raises
    ------
    OSError
        A file that cannot be read or written.
    TypeError
        `dtype` is not a supported float dtype.
    ValueError
        A file that is damaged or hostile, that `quantize_file` did not write, or that holds
        several arrays.
    """
    source, target = _paths(src, ".safetensors", dst, ".npy")
    wanted = None if dtype is None else _checks.real_dtype(dtype)
    if wanted is not None and wanted.name not in _NPY_FLOATS:
        raise TypeError(f"dtype {wanted} is not a dtype of .npy files; choose float32")
    with open(source, "rb") as file:
        tensors, metadata = _safetensors(file, source)
        quantized = _quantized(file, source, tensors, metadata)
        if len(quantized) != 1:
            raise _fault(
                source,
                f"it holds {len(quantized)} arrays that zeropoint quantized",
                "pass a file that quantize_file wrote",
            )
        [(name, (params, source_dtype))] = quantized.items()
        codes = tensors[name]
        real = wanted or np.dtype(source_dtype)
        told = _counter(codes.size, progress)
        with _replacing(target) as out:
            _write_npy_head(out, real, codes.shape)
            for part in _chunks(file, source, codes):
                out.write(_bytes(_api.dequantize(part, params, dtype=real)))
                told(part.size)
        size = os.fstat(file.fileno()).st_size
    return _summary(source, dst, codes, real.name, params, size)


def inspect_file(path: _PathLike) -> FileInfo:
    """What a ``.npy`` or ``.safetensors`` file holds; reads little more than its header.

    Raises
    ------
    OSError
        A file that cannot be read.
    ValueError
        A file of another kind, or one that is damaged or hostile.
    """
    source = Path(path)
    known = ".npy", ".safetensors"
    if source.suffix not in known:
        raise _fault(source, "its name does not end in .npy or .safetensors", "pass such a file")
    quantized: dict[str, tuple[QuantParams, str]] = {}
    with open(source, "rb") as file:
        if source.suffix == ".npy":
            array = _npy(file, source)
            tensors = {array.name: array}
        else:
            tensors, metadata = _safetensors(file, source)
            quantized = _quantized(file, source, tensors, metadata)
        size = os.fstat(file.fileno()).st_size
    return FileInfo(
        str(source),
        source.suffix[1:],
        size,
        tuple(
            TensorInfo(
                name,
                tensor.word,
                tensor.shape,
                "F" if tensor.fortran else "C",
                tensor.bytes,
                *quantized.get(name, (None, None)),
            )
            for name, tensor in tensors.items()
        ),
    )


def read_tensor(path: _PathLike, name: str) -> Array:
    """The whole tensor `name` of a ``.safetensors`` file: floats, or codes."""
    source = Path(path)
    with open(source, "rb") as file:
        tensors, _ = _safetensors(file, source)
        if name not in tensors:
            raise _fault(source, f"it has no tensor {name!r}", f"it has {', '.join(tensors)}")
        tensor = tensors[name]
        if tensor.dtype == _UNREAD:
            raise _fault(source, f"tensor {name!r} is of {tensor.word}", "convert it to F32")
        values = np.empty(tensor.size, tensor.dtype)
        _fill(file, source, tensor.start, values)
    return values.reshape(tensor.shape)


# ---------------------------------------------------------------------------------------------
# Arguments


class _Tensor(NamedTuple):
    """Where an array lies in a file."""

    name: str
    word: str  #: its dtype, in the file's own words
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int  #: its first byte
    bytes: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def _fault(path: Path, fault: str, mend: str) -> ValueError:
    if len(fault) > 300:  # a hostile file's names and shapes can be of any length
        fault = fault[:300] + "..."
    return ValueError(f"{path}: {fault}; {mend}")


_AGAIN = "make or copy the file again"


def _paths(src: _PathLike, src_suffix: str, dst: _PathLike, dst_suffix: str) -> tuple[Path, Path]:
    """Source and target; the target without symbolic links, so that the rename hits the file."""
    source, target = Path(src), Path(os.path.realpath(dst))
    for name, path, suffix in (("src", Path(src), src_suffix), ("dst", Path(dst), dst_suffix)):
        if path.suffix != suffix:
            raise ValueError(f"{name} {str(path)!r} must be the name of a {suffix} file")
    if target.exists():
        if source.exists() and target.samefile(source):
            raise ValueError(f"src and dst are the same file, {str(source)!r}; choose another dst")
        if not target.is_file():
            raise ValueError(f"dst {str(dst)!r} is not a regular file; choose another name")
    elif not target.parent.is_dir():
        raise FileNotFoundError(f"dst {str(dst)!r}: there is no directory {str(target.parent)!r}")
    return source, target


def _check_real(array: _Tensor, source: Path) -> None:
    if array.dtype.name not in _NPY_FLOATS:
        raise TypeError(
            f"{source}: it holds {array.dtype}; convert it to one of {', '.join(_NPY_FLOATS)} first"
        )
    if array.size == 0:
        raise _fault(source, f"it has no data (shape {array.shape})", "pass at least one element")
    if array.name == _METADATA or not _is_utf8(array.name):
        raise _fault(source, "its name cannot name a safetensors tensor", "rename it")


def _is_utf8(name: str) -> bool:
    """False for the names of files whose bytes are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    """A function that adds to a count of elements and tells `progress`."""
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return told


def _summary(
    source: Path, dst: _PathLike, array: _Tensor, dtype: str, params: QuantParams, size: int
) -> FileSummary:
    return FileSummary(
        source=str(source),
        target=os.fspath(dst),
        tensor=array.name,
        shape=array.shape,
        dtype=dtype,
        params=params,
        bytes_in=size,
        bytes_out=os.stat(dst).st_size,
        error_bound=float(params.scale) / 2,
    )


# ---------------------------------------------------------------------------------------------
# Reading elements


def _fill(file: BinaryIO, path: Path, start: int, values: Array) -> None:
    """Read all of `values` from byte `start` on."""
    file.seek(start)
    view = _bytes(values)
    if file.readinto(view) != len(view):  # type: ignore[attr-defined]
        raise _fault(path, "it became shorter while it was read", "keep it unchanged meanwhile")


def _bytes(values: Array) -> memoryview:
    """The memory of a C-contiguous array."""
    return values.reshape(-1).view(np.uint8).data


def _chunks(file: BinaryIO, path: Path, array: _Tensor) -> Iterator[Array]:
    """The elements in the order of the file, `CHUNK` at a time, in one buffer that is reused."""
    buffer = np.empty(min(CHUNK, array.size), array.dtype)
    for first in range(0, array.size, CHUNK):
        part = buffer[: array.size - first]
        _fill(file, path, array.start + first * array.dtype.itemsize, part)
        yield part


def _range(
    file: BinaryIO, path: Path, array: _Tensor, told: Callable[[int], None]
) -> tuple[Array, Array]:
    """Least and greatest element (0-d, in the working precision); the order plays no part."""
    ends: tuple[Array, Array] | None = None
    bad = first_bad = first = 0
    value = ""
    for part in _chunks(file, path, array):
        low, high = _backend.min_max(_checks.real_array(part), None, None)
        if np.isnan(low):
            where = np.flatnonzero(~np.isfinite(part))
            index = _c_index(array, where + first)
            if bad == 0 or index.min() < first_bad:
                first_bad = int(index.min())
                value = str(part[where[index.argmin()]])
            bad += where.size
        elif ends is None:
            ends = low, high
        else:
            ends = np.minimum(ends[0], low), np.maximum(ends[1], high)
        first += part.size
        told(part.size)
    if bad or ends is None:
        place = tuple(int(i) for i in np.unravel_index(first_bad, array.shape))
        raise _fault(
            path,
            f"it has {bad} NaN or Inf of {array.size} elements, the first ({value}) at index "
            f"{place}",
            "replace them, for example by numpy.nan_to_num",
        )
    return np.asarray(ends[0]), np.asarray(ends[1])


def _c_index(array: _Tensor, index: Array) -> Array:
    """Positions in the file as positions in C order."""
    if not array.fortran:
        return index
    return np.asarray(np.ravel_multi_index(np.unravel_index(index, array.shape, "F"), array.shape))


# Pieces of an array with the places of their elements in C order.  A run is (first, length).

_Runs = Iterator[tuple[int, int]]


def _runs_of_chunk(file: BinaryIO, path: Path, array: _Tensor) -> Iterator[tuple[Array, _Runs]]:
    """An array in C order: every chunk is one run."""
    first = 0
    for part in _chunks(file, path, array):
        yield part, iter([(first, part.size)])
        first += part.size


def _boxes(file: BinaryIO, path: Path, array: _Tensor) -> Iterator[tuple[Array, _Runs]]:
    """An array in Fortran order: boxes that are read and written in runs long enough for both.

    A box of the whole first axes would be read in one go and written element by element, and the
    other way round; so the edges of a box grow from both sides to about the same length.
    """
    shape = array.shape
    edges = [1] * len(shape)
    room = math.isqrt(CHUNK)
    for axis in range(len(shape)):
        edges[axis] = min(shape[axis], room)
        room //= edges[axis]
    room = CHUNK // math.prod(edges)
    for axis in reversed(range(len(shape))):
        edge = min(shape[axis], edges[axis] * room)
        room = room * edges[axis] // edge
        edges[axis] = edge
    buffer = np.empty(math.prod(edges), array.dtype)
    for corner in itertools.product(*map(range, [0] * len(shape), shape, edges)):
        box = [
            range(first, min(first + edge, length))
            for first, edge, length in zip(corner, edges, shape, strict=True)
        ]
        values = buffer[: math.prod(map(len, box))]
        filled = 0
        # Fortran order is C order with the axes reversed
        for first, length in _runs(shape[::-1], box[::-1]):
            part = values[filled : filled + length]
            _fill(file, path, array.start + first * array.dtype.itemsize, part)
            filled += length
        yield values.reshape([len(edge) for edge in reversed(box)]).T, _runs(shape, box)


def _runs(shape: tuple[int, ...], box: list[range]) -> _Runs:
    """The runs of consecutive elements that `box` is made of, in an array of `shape` in C order."""
    axis = len(shape) - 1
    while axis > 0 and len(box[axis]) == shape[axis]:
        axis -= 1
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    for index in itertools.product(*box[:axis]):
        first = sum(map(operator.mul, index, strides)) + box[axis].start * strides[axis]
        yield first, len(box[axis]) * strides[axis]


# ---------------------------------------------------------------------------------------------
# Writing


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `target` at the end, or vanishes if anything is raised."""
    temporary = target.with_name(f".zeropoint-{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    # The new file is complete and in place.  A file system that cannot sync a directory may show
    # the old one after a crash, which is the promise too.
    with contextlib.suppress(OSError):
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _write_runs(out: BinaryIO, start: int, codes: Array, runs: _Runs) -> None:
    view = _bytes(codes)
    written = 0
    for first, length in runs:
        out.seek(start + first)
        out.write(view[written : written + length])
        written += length


def _write_npy_head(out: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape})
    fixed = len(_NPY_MAGIC) + 2 + 2
    padded = text + " " * (-(fixed + len(text) + 1) % 64) + "\n"  # the data starts at k * 64
    out.write(_NPY_MAGIC + bytes([1, 0]) + struct.pack("<H", len(padded)) + padded.encode("ascii"))


def _write_safetensors_head(out: BinaryIO, array: _Tensor, params: QuantParams) -> int:
    """Everything but the codes, which come last: at the byte that is returned."""
    scale = np.asarray(params.scale)
    scale = scale.astype(scale.dtype.newbyteorder("<"))
    zero = np.asarray(params.zero_point, "<i4")
    header: dict[str, Any] = {
        _METADATA: {
            _VERSION: "1",
            _TENSORS: json.dumps(
                {array.name: {"dtype": array.dtype.name, "params": params.to_dict()}}
            ),
        }
    }
    end = 0
    for name, word, shape, size in (
        (array.name + "_scale", "F64" if scale.itemsize == 8 else "F32", (), scale.nbytes),
        (array.name + "_zero_point", "I32", (), zero.nbytes),
        (array.name, "I8" if params.dtype == np.int8 else "U8", array.shape, array.size),
    ):
        header[name] = {"dtype": word, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the scale is aligned
    out.write(struct.pack("<Q", len(text)) + text + scale.tobytes() + zero.tobytes())
    return out.tell()


# ---------------------------------------------------------------------------------------------
# The .npy header

_NPY_MAGIC = b"\x93NUMPY"
_NPY_FLOATS = ("float16", "float32", "float64")
_NPY_HEADER = 1 << 16  # bytes; NumPy's own are below a thousand
_LARGEST = np.iinfo(np.int64).max  # of one dimension
_DIMENSIONS = 64  # of one array, as in NumPy


def _npy(file: BinaryIO, path: Path) -> _Tensor:
    """The array of a .npy file, its header checked against its size."""
    total = os.fstat(file.fileno()).st_size
    magic = file.read(8)
    if magic[:6] != _NPY_MAGIC:
        raise _fault(path, "it does not start as a .npy file", "write it with numpy.save")
    version = tuple(magic[6:])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise _fault(path, f".npy version {version} is unknown", "write it with numpy.save")
    form = "<H" if version == (1, 0) else "<I"
    raw = file.read(struct.calcsize(form))
    if len(raw) < struct.calcsize(form):
        raise _fault(path, "it ends inside its header", _AGAIN)
    (length,) = struct.unpack(form, raw)
    start = file.tell() + length
    if start > total:
        raise _fault(path, f"its header would end at byte {start} of {total}", _AGAIN)
    if length > _NPY_HEADER:
        raise _fault(path, f"its header of {length} bytes is too large", "write it with numpy.save")
    word, fortran, shape = _npy_fields(file.read(length), version, path)
    dtype = _npy_dtype(word, path)
    _check_shape(shape, path)
    found = total - start
    if math.prod(shape) * dtype.itemsize != found:
        raise _fault(
            path,
            f"shape {shape} of {dtype} takes {math.prod(shape) * dtype.itemsize} bytes, and there "
            f"are {found}",
            _AGAIN,
        )
    fortran = fortran and len(shape) > 1  # else both orders are the same
    return _Tensor(path.stem, word, dtype, shape, fortran, start, found)


def _npy_fields(raw: bytes, version: tuple[int, ...], path: Path) -> tuple[str, bool, Any]:
    try:
        fields = ast.literal_eval(raw.decode("utf-8" if version == (3, 0) else "latin1").strip())
        keys = set(fields) if isinstance(fields, dict) else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        keys = None
    if keys != {"descr", "fortran_order", "shape"}:
        raise _fault(path, "its header is not that of an array", "write it with numpy.save")
    word, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if type(fortran) is not bool:
        raise _fault(path, "its fortran_order is not a bool", _AGAIN)
    if type(shape) is not tuple:
        raise _fault(path, "its shape is not a tuple", _AGAIN)
    if not isinstance(word, str):
        raise _fault(path, "it holds records", "save one field as an array of its own")
    return word, fortran, shape


def _npy_dtype(word: str, path: Path) -> np.dtype[Any]:
    if re.fullmatch(r"[<>=|]?O\d{0,3}", word):
        raise _fault(path, "it holds Python objects, which are never loaded", "convert it first")
    try:
        if re.fullmatch(r"[<>=|]?[biufcSUV]\d{1,6}", word):
            return np.dtype(word)
    except (TypeError, ValueError):
        pass
    raise _fault(path, f"dtype {word!r} is not a plain dtype", "convert it to float32")


def _check_shape(shape: Any, path: Path) -> None:
    if len(shape) > _DIMENSIONS:
        raise _fault(
            path, f"an array of {len(shape)} dimensions", f"NumPy has at most {_DIMENSIONS}"
        )
    if not all(type(length) is int and 0 <= length <= _LARGEST for length in shape):
        raise _fault(path, "its shape has a dimension that is not an integer in [0, 2^63)", _AGAIN)


# ---------------------------------------------------------------------------------------------
# The safetensors header

_METADATA = "__metadata__"
_VERSION = "zeropoint.version"
_TENSORS = "zeropoint.tensors"
_SAFETENSORS_HEADER = 100_000_000  # bytes; the limit of the safetensors library
#: bits an element of every dtype of the format
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
#: those whose elements are read here; any other is told by its name and size alone
_READ = {"U8": "u1", "I8": "i1", "I32": "<i4", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
_UNREAD = np.dtype("V1")


def _safetensors(file: BinaryIO, path: Path) -> tuple[dict[str, _Tensor], dict[str, str]]:
    """Tensors in the order of the file, and metadata; the header is checked against the size."""
    total = os.fstat(file.fileno()).st_size
    raw = file.read(8)
    if len(raw) < 8:
        raise _fault(path, f"a .safetensors file has at least 8 bytes, and this {len(raw)}", _AGAIN)
    (length,) = struct.unpack("<Q", raw)
    if length > _SAFETENSORS_HEADER:
        raise _fault(path, f"its header of {length} bytes is too large", _AGAIN)
    start = 8 + length
    if start > total:
        raise _fault(path, f"its header would end at byte {start} of {total}", _AGAIN)
    header = _json(file.read(length), path, "its header")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _fault(path, f"{_METADATA} does not map strings to strings", _AGAIN)
    tensors = [_tensor(name, entry, start, path) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.bytes))
    end = start
    for tensor in tensors:
        if tensor.start != end:
            what = "overlaps the one before it" if tensor.start < end else "follows a hole"
            raise _fault(path, f"tensor {tensor.name!r} {what}", _AGAIN)
        end += tensor.bytes
    if end != total:
        raise _fault(path, f"its tensors end at byte {end} of {total}", _AGAIN)
    return {tensor.name: tensor for tensor in tensors}, metadata


def _json(raw: bytes | str, path: Path, what: str) -> dict[str, Any]:
    """A JSON object; keys that occur twice and NaN are faults."""

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
    except (ValueError, RecursionError) as error:
        raise _fault(path, f"{what} is not valid JSON ({error})", _AGAIN) from None
    if not isinstance(found, dict) or not text.startswith("{"):
        raise _fault(path, f"{what} is not a JSON object", _AGAIN)
    return found


def _tensor(name: str, entry: Any, start: int, path: Path) -> _Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _fault(path, f"tensor {name!r} lacks its dtype, shape or data_offsets", _AGAIN)
    word, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(word, str) or word not in _BITS:
        raise _fault(path, f"tensor {name!r} is of the unknown dtype {word!r}", _AGAIN)
    if not isinstance(shape, list):
        raise _fault(path, f"the shape of tensor {name!r} is not a list", _AGAIN)
    _check_shape(tuple(shape), path)
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int for offset in offsets)
        or not 0 <= offsets[0] <= offsets[1]
    ):
        raise _fault(path, f"tensor {name!r} has the data_offsets {offsets!r}", _AGAIN)
    size = offsets[1] - offsets[0]
    if math.prod(shape) * _BITS[word] != size * 8:
        raise _fault(path, f"tensor {name!r} of {word} {shape} has {size} bytes", _AGAIN)
    dtype = np.dtype(_READ.get(word, _UNREAD))
    return _Tensor(name, word, dtype, tuple(shape), False, start + offsets[0], size)


def _quantized(
    file: BinaryIO, path: Path, tensors: dict[str, _Tensor], metadata: dict[str, str]
) -> dict[str, tuple[QuantParams, str]]:
    """Parameters and source dtype of the tensors that `quantize_file` wrote."""
    if _VERSION not in metadata:
        return {}
    if metadata[_VERSION] != "1":
        raise _fault(path, f"{_VERSION} {metadata[_VERSION]!r} is unknown", "upgrade zeropoint")
    found = {}
    for name, entry in _json(metadata.get(_TENSORS, ""), path, _TENSORS).items():
        what = f"{_TENSORS}, {name!r}: "
        if not isinstance(entry, dict) or set(entry) != {"dtype", "params"}:
            raise _fault(path, f"{what}it lacks its dtype or params", _AGAIN)
        if entry["dtype"] not in _NPY_FLOATS:
            raise _fault(path, f"{what}dtype {entry['dtype']!r} is unknown", _AGAIN)
        try:
            params = QuantParams.from_dict(entry["params"])
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _fault(path, f"{what}{error}", _AGAIN) from None
        if params.axis is not None:
            raise _fault(path, f"{what}it is not quantized per tensor", "upgrade zeropoint")
        _check_agreement(file, path, tensors, name, params)
        found[name] = params, entry["dtype"]
    return found


def _check_agreement(
    file: BinaryIO, path: Path, tensors: dict[str, _Tensor], name: str, params: QuantParams
) -> None:
    """The tensors say what the metadata say: other readers go by the tensors."""
    scale, zero = np.asarray(params.scale), np.asarray(params.zero_point, np.int32)
    codes = tensors.get(name)
    if codes is None or codes.dtype != params.dtype:
        raise _fault(path, f"it has no tensor {name!r} of {params.dtype}", _AGAIN)
    for key, expected in ((f"{name}_scale", scale), (f"{name}_zero_point", zero)):
        tensor = tensors.get(key)
        if tensor is None or tensor.dtype.name != expected.dtype.name or tensor.shape != ():
            raise _fault(path, f"it has no tensor {key!r} of {expected.dtype}, shape ()", _AGAIN)
        value = np.empty(1, tensor.dtype)
        _fill(file, path, tensor.start, value)
        if value[0] != expected:
            raise _fault(path, f"{key} is {value[0]}, but {_TENSORS} has {expected}", _AGAIN)
