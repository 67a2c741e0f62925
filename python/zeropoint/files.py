"""Quantize tensors in files: ``.npy``, ``.npz`` and ``.safetensors``, in bounded memory.

`quantize_file` and `dequantize_file` go from file to file; `save` and `load` write and read codes
and parameters that are in memory, in the same format.

Files are read and written chunk by chunk through plain reads, so memory does not grow with them
(the safetensors library and `numpy.load` would hold whole tensors).  Nothing is ever unpickled.  A
result is written beside its target, synced, and renamed over it: at any moment the target is the
old file or the new one.

A file of codes holds, for a quantized tensor NAME:

=====================  ==========  ===============  ==========================================
``NAME``               U8 or I8    the shape        the codes, in C order
``NAME_scale``         F32 or F64  the parameters'  the scale or scales, as in `QuantParams`
``NAME_zero_point``    I32         the parameters'  the zero points
``zeropoint.version``  metadata    --               ``"1"``
``zeropoint.tensors``  metadata    --               JSON: ``{NAME: {"dtype": "float32", "params":
                                                    QuantParams without scale, zero_point}}``
=====================  ==========  ===============  ==========================================

`quantize_file` copies all other tensors, and the metadata of the source.  ``docs/files.md`` says
more.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np

from . import _checks, _patterns
from ._choice import Choice, ParamsKeywords, shows
from ._chunks import chunks
from ._files import SUFFIXES, npy, open_again, open_source, safetensors, tiles, work
from ._files.quantized import (
    Quantized,
    assembled,
    companions,
    fields_of,
    metadata_of,
    quantized,
    quantized_one,
)
from ._files.source import (
    NUMPY,
    REALS,
    Source,
    Tensor,
    fault,
    real_dtype,
)
from ._files.target import Region, Report, region, replacing
from ._layout import Layout
from ._params import QuantParams
from ._patterns import Patterns
from ._reference import Array

__all__ = [
    "FileInfo",
    "FileSummary",
    "TensorInfo",
    "TensorSummary",
    "dequantize_file",
    "inspect_file",
    "load",
    "quantize_file",
    "read_params",
    "read_tensor",
    "save",
]

_PathLike = str | os.PathLike[str]
_Progress = Callable[[int, int], object]


@_checks.initialised_once
@dataclass(frozen=True)
class TensorSummary:
    """The result for one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str  #: of the values, read or written; in the file's own words if it was kept
    codes: str | None  #: the dtype of the codes, None if it was kept
    axis: int | None  #: counted from 0
    block_size: int | None
    bytes_in: int  #: its own; codes are counted with their parameters
    bytes_out: int
    #: half of the largest step, float rounding comes on top; Inf where a value is beyond the dtype
    error_bound: float | None = None
    kept: str | None = None  #: why it was copied as it is


@_checks.initialised_once
@dataclass(frozen=True)
class FileSummary:
    """The result of `quantize_file` or `dequantize_file`."""

    source: str
    target: str
    bytes_in: int  #: sizes of the two files
    bytes_out: int
    tensors: tuple[TensorSummary, ...]  #: in the order of the source
    #: excluded members of a .npz that a .safetensors file cannot hold, and why
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return asdict(self)


@_checks.initialised_once
@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file."""

    name: str
    dtype: str  #: in the file's own words: ``<f4`` in a .npy, ``F32`` in a .safetensors
    shape: tuple[int, ...]
    order: str  #: ``"C"`` or ``"F"`` (Fortran)
    bytes: int
    #: of a quantized tensor: ``dtype`` of the values, ``params`` (`QuantParams`
    #: without scale and zero point), ``params_shape`` (of the scales)
    quantized: dict[str, Any] | None


@_checks.initialised_once
@dataclass(frozen=True)
class FileInfo:
    """The contents of a file."""

    path: str
    format: str  #: ``"npy"``, ``"npz"`` or ``"safetensors"``
    bytes: int
    metadata: dict[str, str]  #: of a .safetensors file
    tensors: tuple[TensorInfo, ...]  #: in the order of the file

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return asdict(self)


# ---------------------------------------------------------------------------------------------
# The public functions


@shows(ParamsKeywords)
def quantize_file(
    src: _PathLike,
    dst: _PathLike,
    *,
    progress: _Progress | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    dtype: Any = "uint8",
    **keywords: Unpack[ParamsKeywords],
) -> FileSummary:
    """Quantize the float tensors of a file into the ``.safetensors`` file `dst`.

    Parameters and codes are to the bit those of `choose_params` and `quantize` for each tensor.

    Parameters
    ----------
    src
        A ``.npy`` (its tensor is named as the file), ``.npz`` or ``.safetensors`` file.  float16,
        bfloat16 (in ``.safetensors``), float32 and float64 are quantized, in any byte order, in C
        or Fortran order.  Other dtypes are copied.
    dst
        Replaced if it exists, and only once the new file is complete.
    progress
        Called as ``progress(done, total)``, in bytes.
    include, exclude
        Names, or patterns of names (`fnmatch`: ``*``, ``?``, ``[abc]``; case counts).  A tensor is
        quantized if it matches one of `include` (None: all do) and none of `exclude`, else copied.
        Members of a ``.npz`` that ``.safetensors`` cannot hold are left out if they match
        `exclude`.
    dtype, **keywords
        Those of `choose_params`, for all tensors.  A tensor to whose shape they cannot apply (no
        elements, or fewer axes than `axis` needs), or that an axis or blocks would not make
        smaller (a scale for each of few elements), is copied, and the summary says why.

    Returns
    -------
    FileSummary
        Names, shapes, sizes and error bounds; why a tensor was kept as it is.

    Raises
    ------
    ImportError
        bfloat16 tensors where ml_dtypes is not installed.
    OSError
        A file that cannot be read or written.
    TypeError
        No float tensor at all; a tensor of a dtype that safetensors lacks; `dtype` is not uint8
        or int8; an unknown keyword.
    ValueError
        A file that is damaged or hostile; NaN or Inf in a tensor (count and first index); data
        that `choose_params` refuses; nothing left to quantize; names that are taken; a pattern
        that no name matches; a member of a ``.npz`` that is no array of numbers.
    """
    path, target = _paths(src, SUFFIXES, dst, (".safetensors",))
    axis = _checks.axis(keywords.pop("axis", None))
    block = _checks.block(keywords.pop("block_size", None), axis)
    choice = Choice.of(quantize_file, dtype, keywords)
    wanted = _patterns.checked(include, "include")
    unwanted = _patterns.checked(exclude, "exclude") or []
    with open_source(path, functools.partial(_patterns.matches, unwanted)) as source:
        already = quantized(source)
        taken = {key for name in already for key in (name, *companions(name))}
        entries = {name: (one.dtype, one.fields) for name, one in already.items()}
        names = [*source.tensors, *source.left_out]
        included = None if wanted is None else _patterns.chosen(wanted, names, "include")
        excluded = _patterns.chosen(unwanted, names, "exclude")
        jobs = []
        for tensor in source.tensors.values():
            if tensor.word is None and tensor.name in excluded:
                source.left_out[tensor.name] = f"safetensors lacks its dtype, {tensor.label}"
                continue
            kept = "it belongs to a quantized tensor" if tensor.name in taken else None
            kept = kept or _reason_to_keep(tensor, included, excluded, axis)
            job = None if kept else _quantize_job(source, tensor, choice, axis, block)
            kept = kept or (job and _reason_not_worth_it(job.summary))
            if job is None or kept:
                job = _copy_job(source, tensor, kept or "")
            else:
                entries[tensor.name] = job.summary.dtype, fields_of(choice, job.summary.axis, block)
            jobs.append(job)
        _check_some_are_quantized(source, jobs)
        return _run(source, jobs, metadata_of(source.metadata, entries), dst, target, progress)


def dequantize_file(
    src: _PathLike, dst: _PathLike, *, progress: _Progress | None = None, dtype: Any = None
) -> FileSummary:
    """Dequantize the quantized tensors of a file; the others are copied.

    Parameters
    ----------
    src
        A ``.safetensors`` file from `quantize_file` or `save`.
    dst
        A ``.safetensors`` file or, for a file of one tensor, a ``.npy`` file (in C order).
        Replaced if it exists, and only once the new file is complete.
    progress
        Called as ``progress(done, total)``, in bytes.
    dtype
        float16, bfloat16 (not in a ``.npy``), float32 or float64; by default that of each tensor
        before it was quantized.

    Returns
    -------
    FileSummary
        Names, shapes, sizes and error bounds.

    Raises
    ------
    ImportError
        bfloat16 tensors where ml_dtypes is not installed.
    OSError
        A file that cannot be read or written.
    TypeError
        A `dtype` that is not supported, or that ``.npy`` files lack.
    ValueError
        A file that is damaged or hostile, or without a quantized tensor; several tensors for a
        ``.npy``.
    """
    path, target = _paths(src, (".safetensors",), dst, (".safetensors", ".npy"))
    if isinstance(dtype, str) and dtype == "bfloat16":
        dtype = real_dtype(dtype)  # NumPy knows the name once ml_dtypes is imported
    wanted = None if dtype is None else _checks.real_dtype(dtype)
    with open_source(path) as source:
        found = _some_quantized(source)
        params = {key for name in found for key in companions(name)}
        jobs = [
            _dequantize_job(found[name], wanted)
            if name in found
            else _copy_job(source, tensor, "it is not quantized")
            for name, tensor in source.tensors.items()
            if name not in params
        ]
        return _run(source, jobs, metadata_of(source.metadata, {}), dst, target, progress)


def inspect_file(path: _PathLike) -> FileInfo:
    """The contents of a ``.npy``, ``.npz`` or ``.safetensors`` file; reads little but its headers.

    Raises
    ------
    OSError
        A file that cannot be read.
    ValueError
        A file of another kind, or one that is damaged or hostile.
    """
    with open_source(Path(path)) as source:
        found = quantized(source)

        def info(tensor: Tensor) -> TensorInfo:
            one = found.get(tensor.name)
            return TensorInfo(
                name=tensor.name,
                dtype=tensor.label,
                shape=tensor.shape,
                order="F" if tensor.fortran else "C",
                bytes=tensor.bytes,
                quantized=one
                and {"dtype": one.dtype, "params": one.fields, "params_shape": one.scale.shape},
            )

        return FileInfo(
            path=str(source.path),
            format=source.format,
            bytes=source.bytes,
            metadata=source.metadata,
            tensors=tuple(map(info, source.tensors.values())),
        )


def read_tensor(path: _PathLike, name: str) -> Array:
    """The whole tensor `name` of a file: values, or codes.

    Raises
    ------
    ImportError
        A bfloat16 tensor where ml_dtypes is not installed.
    OSError
        A file that cannot be read.
    ValueError
        No such tensor, or one of no numbers that NumPy has; a file that is damaged or hostile.
    """
    with open_again(Path(path), lambda each: each != name) as source:
        tensor = source.tensors.get(name)
        if tensor is None:
            known = _patterns.nearest(name, source.tensors)
            raise fault(source.path, f"it has no tensor {name!r}", known[:300])
        if tensor.word not in (*NUMPY, "BF16"):
            raise fault(source.path, f"tensor {name!r} is of {tensor.label}", "convert it to F32")
        with source.stream(tensor) as stream:
            values = stream.array(tensor.size)
    return values.reshape(tensor.shape, order="F" if tensor.fortran else "C")


def read_params(path: _PathLike, name: str) -> QuantParams:
    """The parameters of the quantized tensor `name` of a ``.safetensors`` file.

    ``dequantize(read_tensor(path, name), read_params(path, name))`` are its values.

    Raises
    ------
    OSError
        A file that cannot be read.
    ValueError
        No such tensor, or it is not quantized; a file that is damaged.
    """
    with open_again(Path(path)) as source:
        one = quantized_one(source, name)
        if one is None:
            raise fault(
                source.path, f"it has no tensor {name!r} that zeropoint quantized", "inspect it"
            )
        return _params_of(source, one)


def save(path: _PathLike, tensors: Mapping[str, tuple[Any, QuantParams]]) -> None:
    """Write codes and their parameters, as `quantize` made them, to a ``.safetensors`` file.

    `load` gives them back to the bit, and all functions here read the file.  For example::

        files.save("table.safetensors", {"table": zeropoint.quantize_dynamic(x, axis=0)})

    Parameters
    ----------
    path
        Replaced if it exists, and only once the new file is complete.
    tensors
        ``{name: (codes, params)}``: codes of ``params.dtype``, of any shape that the parameters
        fit, and a `QuantParams`.  `dequantize_file` takes the values for float32, or float64 where
        the scales are.

    Raises
    ------
    OSError
        A file that cannot be written.
    TypeError
        `tensors` is no mapping; a name that is no string; what is not a pair of codes and a
        QuantParams; codes that are not of ``params.dtype``.
    ValueError
        Nothing to save; parameters that do not fit the shape of the codes; a name that safetensors
        cannot hold, or that is ``NAME_scale`` or ``NAME_zero_point`` of another.
    """
    target = _target(path, "path", (".safetensors",))
    if not isinstance(tensors, Mapping):
        raise TypeError(
            f"tensors must be a dict of names to (codes, params), not {type(tensors).__name__}"
        )
    if not tensors:
        raise ValueError("tensors is empty; pass at least one {name: (codes, params)}")
    contents: dict[str, Array] = {}
    entries: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, pair in tensors.items():
        codes, params, axis = _checked_pair(name, pair)
        scale, zero_point = np.asarray(params.scale), np.asarray(params.zero_point, np.int32)
        for companion in companions(name):
            if companion in tensors:
                raise ValueError(
                    f"tensors has {_checks.shown(companion)}, the name of the parameters of "
                    f"{_checks.shown(name)}; rename one"
                )
        contents |= dict(zip((name, *companions(name)), (codes, scale, zero_point), strict=True))
        entries[name] = scale.dtype.name, fields_of(params, axis, params.block_size)
    words = {np.dtype(code).newbyteorder("="): word for word, code in NUMPY.items()}
    outputs = {name: (words[array.dtype], array.shape) for name, array in contents.items()}
    head, starts = safetensors.write_header(outputs, metadata_of({}, entries), target)
    with replacing(target) as out:
        out.write(head)
        for name, array in contents.items():
            place = Region(out, starts[name])
            for chunk in chunks(array.shape):
                place.write(array[chunk])


def load(path: _PathLike) -> dict[str, tuple[Array, QuantParams]]:
    """The codes and parameters of all quantized tensors of a ``.safetensors`` file.

    It reads what `save` and `quantize_file` wrote.  Tensors that are not quantized are not read:
    `inspect_file` lists them, `read_tensor` reads one.

    Returns
    -------
    dict
        ``{name: (codes, params)}``, in the order in which they were saved.

    Raises
    ------
    OSError
        A file that cannot be read.
    ValueError
        A file that is damaged or hostile, or without a quantized tensor.
    """
    with open_source(Path(path)) as source:
        loaded = {}
        for name, one in _some_quantized(source).items():
            with source.stream(one.codes) as stream:
                codes = stream.array(one.codes.shape)
            loaded[name] = codes, _params_of(source, one)
        source.check_unchanged()
    return loaded


def _params_of(source: Source, one: Quantized) -> QuantParams:
    with source.stream(one.scale) as scale, source.stream(one.zero_point) as zero:
        shape = one.scale.shape
        return assembled(source, one, scale.array(shape), zero.array(shape), one.fields["axis"])


def _some_quantized(source: Source) -> dict[str, Quantized]:
    """The quantized tensors; ValueError where there are none."""
    found = quantized(source)
    if not found:
        raise fault(
            source.path,
            "it holds no tensor that zeropoint quantized",
            "pass a file from quantize_file or save",
        )
    return found


# ---------------------------------------------------------------------------------------------
# Arguments


def _paths(
    src: _PathLike, sources: tuple[str, ...], dst: _PathLike, targets: tuple[str, ...]
) -> tuple[Path, Path]:
    """Source and target of a job from file to file."""
    source = Path(src)
    _check_suffix(source, "src", sources)
    target = _target(dst, "dst", targets)
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"src and dst are the same file, {str(source)!r}; choose another dst")
    return source, target


def _target(path: _PathLike, name: str, suffixes: tuple[str, ...]) -> Path:
    """A file to write, without symbolic links, so that the rename hits the file."""
    _check_suffix(Path(path), name, suffixes)
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"{name} {str(path)!r} is not a regular file; choose another name")
    if not target.parent.is_dir():
        there = str(target.parent)
        raise FileNotFoundError(f"{name} {str(path)!r}: there is no directory {there!r}")
    return target


def _check_suffix(path: Path, name: str, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        raise ValueError(f"{name} {str(path)!r} must be the name of a {' or '.join(suffixes)} file")


def _checked_pair(name: object, pair: object) -> tuple[Array, QuantParams, int | None]:
    """One of `save`'s tensors: codes, params, and their axis counted from 0."""
    if not isinstance(name, str):
        raise TypeError(f"tensors has the name {_checks.shown(name)}; names must be strings")
    what = f"tensors[{_checks.shown(name)}]"
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], QuantParams):
        held = type(pair).__name__
        if isinstance(pair, tuple):
            held += f" of {[type(each).__name__ for each in pair]}"
        raise TypeError(
            f"{what} must be a tuple (codes, QuantParams), not {held}; pass what "
            "zeropoint.quantize_dynamic returns, or (zeropoint.quantize(x, params), params)"
        )
    codes, params = pair
    codes = _checks.exact_array(codes, params.dtype, what, "these are not codes of params.dtype")
    try:
        return codes, params, params._check_fits(codes.shape).axis
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _reason_to_keep(
    tensor: Tensor, included: set[str] | None, excluded: set[str], axis: int | None
) -> str | None:
    """Why a tensor is not to be quantized, or None."""
    rank = len(tensor.shape)
    if tensor.word not in REALS:
        return "its dtype is not quantized"
    if included is not None and tensor.name not in included:
        return "it is not included"
    if tensor.name in excluded:
        return "it is excluded"
    if tensor.size == 0:
        return "it has no elements"
    if axis is not None and not -rank <= axis < rank:
        return f"it has {rank} axes, none of them {axis}"
    return None


def _reason_not_worth_it(planned: TensorSummary) -> str | None:
    """Why codes and scales save nothing, or None; one scale per tensor is always taken."""
    if planned.axis is None or planned.bytes_out < planned.bytes_in:
        return None
    return f"it would not get smaller: {planned.bytes_in} -> {planned.bytes_out} bytes"


# ---------------------------------------------------------------------------------------------
# One job per tensor


class _Job(NamedTuple):
    """A tensor of the source, and the tensors written for it."""

    summary: TensorSummary  #: all but the error bound
    outputs: dict[str, tuple[str, tuple[int, ...]]]  #: dtype (word) and shape, by name
    fortran: bool  #: the elements come in Fortran order
    bytes: int  #: that will be reported
    #: fills the regions of the outputs and returns the size of the largest step
    action: Callable[[Source, list[Region], Report], float | None]


def _copy_job(source: Source, tensor: Tensor, kept: str) -> _Job:
    if tensor.word is None:
        raise TypeError(
            f"{_checks.printable(source.path)}: tensor {tensor.name!r} holds {tensor.label}, which "
            "safetensors lacks; convert it, or exclude it"
        )
    summary = TensorSummary(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.label,
        codes=None,
        axis=None,
        block_size=None,
        bytes_in=tensor.bytes,
        bytes_out=tensor.bytes,
        kept=kept,
    )
    outputs = {tensor.name: (tensor.word, tensor.shape)}
    moved = tensor.bytes * (2 if tensor.fortran else 1)
    return _Job(summary, outputs, tensor.fortran, moved, functools.partial(work.copy, tensor))


def _quantize_job(
    source: Source, tensor: Tensor, choice: Choice, axis: int | None, block: int | None
) -> _Job:
    name, shape = tensor.name, tensor.shape
    for companion in companions(name):
        if companion in source.tensors:
            raise fault(
                source.path,
                f"it has a tensor {companion!r}, the name of the parameters of {name!r}",
                f"rename it, or exclude {name!r}",
            )
    axis = None if axis is None else axis % len(shape)
    scale, zero_point = companions(name)
    per = Layout(shape, axis, block).params_shape
    outputs = {
        name: ("I8" if choice.dtype == np.int8 else "U8", shape),
        scale: ("F64" if tensor.word == "F64" else "F32", per),
        zero_point: ("I32", per),
    }
    summary = TensorSummary(
        name=name,
        shape=shape,
        dtype=tensor.dtype.name,
        codes=choice.dtype.name,
        axis=axis,
        block_size=block,
        bytes_in=tensor.bytes,
        bytes_out=sum(safetensors.size(*output) for output in outputs.values()),
    )
    if tensor.fortran:  # from here on it is an array in C order, with the axes reversed
        shape, axis = shape[::-1], None if axis is None else len(shape) - 1 - axis
    whole = Layout(shape, axis, block).flat
    moved = tensor.bytes * (1 if tiles.is_resident(whole) else 2)
    if tensor.fortran:
        moved += sum(safetensors.size(*output) for output in outputs.values() if len(output[1]) > 1)
    action = functools.partial(work.quantize, tensor, whole, choice)
    return _Job(summary, outputs, tensor.fortran, moved, action)


def _dequantize_job(one: Quantized, wanted: np.dtype[Any] | None) -> _Job:
    name, shape = one.codes.name, one.codes.shape
    dtype = real_dtype(one.dtype) if wanted is None else wanted
    word = {real: word for word, real in REALS.items()}[dtype.name]
    summary = TensorSummary(
        name=name,
        shape=shape,
        dtype=dtype.name,
        codes=one.fields["dtype"],
        axis=one.fields["axis"],
        block_size=one.fields["block_size"],
        bytes_in=one.codes.bytes + one.scale.bytes + one.zero_point.bytes,
        bytes_out=safetensors.size(word, shape),
    )
    action = functools.partial(work.dequantize, one, dtype)
    return _Job(summary, {name: (word, shape)}, False, one.codes.bytes, action)


def _check_some_are_quantized(source: Source, jobs: list[_Job]) -> None:
    if any(job.summary.kept is None for job in jobs):
        return
    tensors = source.tensors.values()
    if not any(tensor.word in REALS for tensor in tensors):
        held = ", ".join(f"{tensor.name!r} of {tensor.label}" for tensor in tensors)
        raise TypeError(
            f"{_checks.printable(source.path)}: it holds no float tensor ({held[:300]}); convert "
            "one to float16, float32 or float64 first"
        )
    reasons = ", ".join(f"{job.summary.name!r}: {job.summary.kept}" for job in jobs)
    raise fault(
        source.path, f"nothing is left to quantize ({reasons})", "see include, exclude, axis"
    )


# ---------------------------------------------------------------------------------------------
# The file as a whole


def _run(
    source: Source,
    jobs: list[_Job],
    metadata: dict[str, str],
    dst: _PathLike,
    target: Path,
    progress: _Progress | None,
) -> FileSummary:
    """Do the jobs: write the target."""
    outputs = {name: output for job in jobs for name, output in job.outputs.items()}
    if Path(dst).suffix == ".npy":
        head, starts = _npy_header(source, outputs)
    else:
        head, starts = safetensors.write_header(outputs, metadata, source.path)
    report = _counter(sum(job.bytes for job in jobs), progress)
    summaries = []
    with replacing(target) as out:
        out.write(head)
        for job in jobs:
            with contextlib.ExitStack() as stack:
                regions = [
                    stack.enter_context(region(out, starts[name], *output, job.fortran, report))
                    for name, output in job.outputs.items()
                ]
                step = job.action(source, regions, report)
            bound = None if step is None else step / 2
            summaries.append(replace(job.summary, error_bound=bound))
        source.check_unchanged()
    return FileSummary(
        source=str(source.path),
        target=os.fspath(dst),
        bytes_in=source.bytes,
        bytes_out=target.stat().st_size,
        tensors=tuple(summaries),
        left_out=dict(source.left_out),
    )


def _npy_header(
    source: Source, outputs: dict[str, tuple[str, tuple[int, ...]]]
) -> tuple[bytes, dict[str, int]]:
    if len(outputs) != 1:
        raise fault(
            source.path,
            f"it holds {len(outputs)} tensors, and a .npy file one",
            "choose a .safetensors file as dst",
        )
    [(name, (word, shape))] = outputs.items()
    if word == "BF16":
        raise TypeError("dtype bfloat16 is not a dtype of .npy files; choose float32")
    head = npy.write_header(np.dtype(NUMPY[word]), shape)
    return head, {name: len(head)}


def _counter(total: int, progress: _Progress | None) -> Report:
    """A function that adds to a count of bytes and reports it to `progress`."""
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return report
