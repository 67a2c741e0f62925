"""Quantize tensors in files: ``.npy``, ``.npz``, ``.safetensors``, ``.gguf``; in bounded memory.

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

Of an `OffsetParams` there are ``NAME_scale`` or, of the conventions that keep the span,
``NAME_span``, and ``NAME_offset`` in the same dtype.

`quantize_file` copies all other tensors, and the metadata of the source.  A model's folder is a
source and a target like a file.  ``docs/how-to/files.md`` says more.

A ``.parquet`` file has columns in place of tensors: `zeropoint.arrow`, ``docs/how-to/parquet.md``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from . import _checks, _patterns
from ._choice import Choice, ParamsKeywords, shows
from ._chunks import chunks
from ._files import (
    SUFFIXES,
    gguf,
    jobs,
    linear,
    open_again,
    open_container,
    own,
    safetensors,
)
from ._files.container import Container
from ._files.formats import (
    MODELS,
    check_unquantized,
    check_values,
    none_of,
    not_quantized,
    quantized,
    quantized_one,
    readable,
)
from ._files.jobs import FileSummary, Progress, TensorSummary
from ._files.own import Own, companions, fields_of, metadata_of
from ._files.quantized import Quantized, Scheme
from ._files.source import NUMPY, Tensor, fault, real_dtype
from ._files.target import Region, check_folders, replacing
from ._params import OffsetParams, QuantParams
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
    "quantize_checkpoint",
    "quantize_file",
    "read_params",
    "read_tensor",
    "save",
]

_PathLike = str | os.PathLike[str]


@_checks.initialised_once
@dataclass(frozen=True)
class TensorInfo:
    """One tensor, or column, of a file."""

    name: str
    dtype: str  #: in the file's own words: ``<f4`` in a .npy, ``F32`` in a .safetensors or .gguf
    shape: tuple[int, ...]  #: of a column that is no FixedSizeList the number of rows alone
    order: str  #: ``"C"`` or ``"F"`` (Fortran)
    bytes: int
    #: of a quantized tensor: ``name``, ``dtype`` and ``shape`` of the values, ``format``,
    #: ``params`` (`QuantParams` or `OffsetParams` without their arrays), ``params_shape`` (of
    #: those), ``parts`` (the names of the tensors that it is stored in, this one first)
    quantized: dict[str, Any] | None
    file: str | None = None  #: in a folder, the name of the file that it lies in


@_checks.initialised_once
@dataclass(frozen=True)
class FileInfo:
    """The contents of a file."""

    path: str
    #: ``"npy"``, ``"npz"``, ``"safetensors"``, ``"gguf"``, ``"parquet"`` or ``"folder"``
    format: str
    bytes: int
    #: of a .safetensors, .gguf or .parquet file; of arrays there the length
    metadata: dict[str, str]
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
    progress: Progress | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    stats: bool = False,
    column: str | Sequence[str] | None = None,
    fit: Any = None,
    dtype: Any = "uint8",
    **keywords: Unpack[ParamsKeywords],
) -> FileSummary:
    """Quantize the float tensors of a file into the ``.safetensors`` file `dst`.

    Parameters and codes are to the bit those of `choose_params` and `quantize` for each tensor.
    A ``.gguf`` file becomes one of Q8_0, the same bytes as llama.cpp's llama-quantize writes.  Of a
    ``.parquet`` file columns are quantized, as by `zeropoint.arrow.quantize`.

    Parameters
    ----------
    src
        A ``.npy`` (its tensor is named as the file), ``.npz``, ``.safetensors`` or ``.gguf`` file,
        or a model's folder: its shards are written anew, and all but other weights is copied.
        float16, bfloat16 (not in the first two), float32 and float64 (not of a ``.gguf``) are
        quantized, in any byte order, in C or Fortran order.  Other dtypes are copied.  Of a
        ``.parquet`` file one row group is in memory at a time.
    dst
        A ``.safetensors`` file; a ``.gguf`` or ``.parquet`` file or a folder for such a source.
        Replaced if it exists, and only once the new one is complete; a folder only if it is empty
        or a model's.
    progress
        Called as ``progress(done, total)``, in bytes.
    include, exclude
        Names, or patterns of names (`fnmatch`: ``*``, ``?``, ``[abc]``; case counts).  A tensor is
        quantized if it matches one of `include` (None: all do) and none of `exclude`, else copied.
        Members of a ``.npz`` that ``.safetensors`` cannot hold are left out if they match
        `exclude`.
    stats
        Whether the summary gives the SQNR of each tensor, which takes longer.
    column
        Of a ``.parquet`` file: the name of the column to quantize, or several.  It holds floats or
        float lists of one length, and may have nulls.
    fit
        Of a ``.parquet`` file: ``"all"`` (the default) chooses parameters for all its rows, in a
        pass before that of the codes.  Or parameters or a fitted quantizer, or the name of a file
        with the JSON of their `to_dict`; then `dtype` and keywords are not given.
    dtype, **keywords
        Those of `choose_params`, for all tensors.  A tensor to whose shape they cannot apply (no
        elements, or fewer axes than `axis` needs), or that an axis or blocks would not make
        smaller (a scale for each of few elements), is copied, and the summary says why.  Tensors
        with NaN need `skip_nan` and a `nan_code`, as which NaN is stored.  None for a ``.gguf``
        file: Q8_0 has no options, and llama-quantize's rules say what is copied.

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
        A file that is damaged or hostile; Inf, or NaN unless it is skipped, in a tensor (count and
        first index); `skip_nan` without a `nan_code`; data that `choose_params` refuses; nothing
        left to quantize; tensors that are quantized in the format of another engine; names that are
        taken; a pattern that no name matches; a member of a ``.npz`` that is no array of numbers; a
        ``.gguf`` file that is quantized already, or a block whose scale float16 cannot hold; no
        such column, rows of different lengths, a null within a row.
    """
    if _is_parquet(src):
        kept_by = {"include": include, "exclude": exclude}
        return _quantize_columns(
            src, dst, progress, stats, column, fit, kept_by, dtype, dict(keywords)
        )
    for name, value in (("column", column), ("fit", fit)):
        if value is not None:
            raise ValueError(f"{name} is for .parquet files, and src is {str(src)!r}; leave it out")
    sources = *SUFFIXES, ".parquet"
    path, target = _paths(src, sources, dst, (".gguf" if _is_gguf(src) else ".safetensors",))
    if _is_gguf(src):
        _check_no_options(keywords if dtype == "uint8" else {"dtype": dtype, **keywords})
    axis = _checks.axis(keywords.pop("axis", None))
    block = _checks.block(keywords.pop("block_size", None), axis)
    choice, skip_nan = _choice(dtype, keywords)
    wanted = _patterns.checked(include, "include")
    unwanted = _patterns.checked(exclude, "exclude") or []
    with open_container(path, functools.partial(_patterns.matches, unwanted)) as container:
        names = [*container.tensors, *container.left_out]
        included = None if wanted is None else _patterns.chosen(wanted, names, "include")
        excluded = _patterns.chosen(unwanted, names, "exclude")
        for tensor in list(container.tensors.values()):
            if tensor.word is None and tensor.name in excluded:
                container.leave_out(tensor.name, f"safetensors lacks its dtype, {tensor.label}")

        def reason_to_keep(tensor: Tensor) -> str | None:
            if included is not None and tensor.name not in included:
                return "it is not included"
            return "it is excluded" if tensor.name in excluded else None

        scheme: Scheme = Own(choice, axis, block, skip_nan)
        if _is_gguf(src):
            scheme = gguf.Scheme.of(container, reason_to_keep)
        else:  # floats among the codes of another format would be of no use to its engine
            check_unquantized(container, but=own.NAME)
        return jobs.quantize(
            container, scheme, reason_to_keep, Path(dst), target, progress, stats=stats
        )


def _quantize_columns(
    src: _PathLike,
    dst: _PathLike,
    progress: Progress | None,
    stats: bool,
    column: object,
    fit: Any,
    kept_by: Mapping[str, object],
    dtype: Any,
    keywords: dict[str, Any],
) -> FileSummary:
    """`quantize_file` of a .parquet file."""
    from ._files import parquet  # pyarrow is loaded for such files alone

    path, target = _paths(src, (".parquet",), dst, (".parquet",))
    for name, value in kept_by.items():
        if value is not None:
            raise ValueError(f"{name} is not for .parquet files; name the columns as column")
    names = [column] if isinstance(column, str) else column
    if names is not None and not (
        isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    ):
        raise TypeError(f"column must be a name or a list of names, not {_checks.shown(column)}")
    if fit is None or fit == "all":
        axis = _checks.axis(keywords.pop("axis", None))
        if (block := keywords.pop("block_size", None)) is not None:
            raise ValueError(
                f"block_size {_checks.shown(block)} is not for columns; leave it out, and pass "
                "axis=-1 for a scale for each element of the lists"
            )
        choice, skip_nan = _choice(dtype, keywords)
        how: tuple[Any, Choice | None, int | None, bool] = (None, choice, axis, skip_nan)
    else:
        for name in [*keywords, *(["dtype"] if dtype != "uint8" else [])]:
            raise ValueError(f"{name} is for fit='all'; parameters that are given have their own")
        how = (parquet.given(fit), None, None, False)
    return parquet.quantize(path, Path(dst), target, progress, names, *how, stats=stats)


def quantize_checkpoint(
    src: _PathLike,
    dst: _PathLike,
    *,
    format: str = "compressed-tensors",
    scheme: str | None = None,
    ignore: Patterns = (linear.HEAD,),
    include: Patterns = None,
    scale_divisor: float | None = None,
    per_row: bool = False,
    stats: bool = False,
    progress: Progress | None = None,
) -> FileSummary:
    """Quantize the linear layers of a model to int8, in the format that its engine loads.

    Parameters
    ----------
    src
        A Hugging Face folder (``model.safetensors``, or shards and their index) or, but for
        compressed-tensors, a ``.safetensors`` file.  float16, bfloat16, float32 or float64.
    dst
        A folder, or a file, as `src`.  Replaced if it exists, once the new one is complete.
    format
        ``"compressed-tensors"``: for vLLM and transformers.  ``"comfyui"``: ComfyUI's
        int8_tensorwise.  ``"zeropoint"``: as `quantize_file` writes, a scale for each row.
    scheme
        Of compressed-tensors: ``"W8A8"`` (the default), a scale for each row, and an engine that
        quantizes activations too; ``"W8A16"``, a scale for each 128 elements of a row.
    ignore
        Names or patterns (`fnmatch`) of layers that are kept as they are: the whole name of a
        layer, its last word, or the name of a tensor.  ``lm_head`` stands for all output heads.
    include
        Names or patterns in the same way.  Only what they fit is quantized, even if it is called as
        a router is, or lies transposed as the Conv1D layers of GPT-2.  Embeddings too, but for
        compressed-tensors, which has no codes of them.
    scale_divisor
        Of compressed-tensors, from 127 to 128: 127.5 gives the scales of its own tool,
        ``max|x| / 127.5``, in place of ``max|x| / 127``, which has the smaller error.
    per_row
        Of comfyui: a scale for each row, in place of one for each tensor.
    stats
        Whether the summary gives the SQNR of each tensor, which takes longer.
    progress
        Called as ``progress(done, total)``, in bytes, over the whole folder.

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
        No float tensor at all.
    ValueError
        No weights; a broken index or config.json; a source that is quantized already or holds fp8;
        layers that lie transposed; NaN or Inf in a weight (tensor, count, first index); an option
        that the format lacks; a pattern that no name matches; a target in the source.
    """
    form = MODELS[_checks.name(format, "format", tuple(MODELS))]
    options = {"scheme": scheme, "scale_divisor": scale_divisor}
    options |= {"per_row": _checks.flag(per_row, "per_row") or None}
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in form.options:
            raise ValueError(f"{option} is no option of format {format!r}; leave it out")
    chosen = form.scheme(**given)
    ignored = _patterns.checked(ignore, "ignore") or []
    wanted = _patterns.checked(include, "include")
    if form.of_folders and Path(src).is_file():
        raise ValueError(
            f"src {str(src)!r} is a file, and {format} is a folder with a config.json; pass the "
            "folder of the model"
        )
    path, target = _paths(src, (".safetensors",), dst, (".safetensors",))
    with open_container(path) as container:
        check_values(container)
        return jobs.quantize(
            container,
            chosen,
            linear.selection(container, ignored, wanted, format),
            Path(dst),
            target,
            progress,
            stats=stats,
            keep_by="ignore",
        )


def dequantize_file(
    src: _PathLike, dst: _PathLike, *, progress: Progress | None = None, dtype: Any = None
) -> FileSummary:
    """Dequantize the quantized tensors of a file; the others are copied.

    Parameters
    ----------
    src
        A ``.safetensors`` file from `quantize_file`, `quantize_checkpoint` or `save`, or a folder
        of such; the same of compressed-tensors and ComfyUI, and a ``.gguf`` file with tensors of
        Q8_0, whoever wrote it; a ``.parquet`` file with parameters in the metadata of its columns.
    dst
        A ``.safetensors`` file or, for a file of one tensor, a ``.npy`` file (in C order); a
        ``.gguf`` or ``.parquet`` file or a folder for such a source.  Replaced as by
        `quantize_file`.
    progress
        Called as ``progress(done, total)``, in bytes.
    dtype
        float16, bfloat16 (not in a ``.npy`` or ``.parquet``), float32 or float64 (not in a
        ``.gguf``); by default
        that of each tensor before it was quantized, of a ``.gguf`` float16.

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
    targets = (".gguf",) if _is_gguf(src) else (".safetensors", ".npy")
    targets = (".parquet",) if _is_parquet(src) else targets
    path, target = _paths(src, (".safetensors", ".gguf", ".parquet"), dst, targets)
    if isinstance(dtype, str) and dtype == "bfloat16":
        dtype = real_dtype(dtype)  # NumPy knows the name once ml_dtypes is imported
    wanted = None if dtype is None else _checks.real_dtype(dtype)
    if _is_parquet(src):
        from ._files import parquet

        return parquet.dequantize(path, Path(dst), target, progress, wanted)
    if _is_gguf(src) and wanted == np.float64:
        raise TypeError("dtype float64 is of no use in a .gguf file; choose float16 or float32")
    with open_container(path) as container:
        found = _some_quantized(container)
        return jobs.dequantize(container, found, wanted, Path(dst), target, progress)


def inspect_file(path: _PathLike) -> FileInfo:
    """What a file or a folder holds; headers alone are read.

    `path` is a ``.npy``, ``.npz``, ``.safetensors``, ``.gguf`` or ``.parquet`` file, or a folder.

    Raises
    ------
    OSError
        A file that cannot be read.
    ValueError
        A file of another kind, or one that is damaged or hostile.
    """
    if _is_parquet(path):
        from ._files import parquet

        found = parquet.inspect(Path(path))
        return FileInfo(
            **found | {"tensors": tuple(TensorInfo(**each) for each in found["tensors"])}
        )
    with open_container(Path(path)) as container:
        by_codes = {one.parts[0].name: one for one in readable(container).values()}

        def info(tensor: Tensor) -> TensorInfo:
            one = by_codes.get(tensor.name)
            return TensorInfo(
                name=tensor.name,
                dtype=tensor.label,
                shape=tensor.shape,
                order="F" if tensor.fortran else "C",
                bytes=tensor.bytes,
                quantized=one and _described(one),
                file=container.path_of(tensor).name if container.folder else None,
            )

        return FileInfo(
            path=str(container.path),
            format=container.format,
            bytes=container.bytes,
            metadata=container.metadata,
            tensors=tuple(map(info, container.tensors.values())),
        )


def _described(one: Quantized) -> dict[str, Any]:
    return {
        "name": one.name,
        "format": one.format,
        "dtype": one.dtype,
        "shape": one.shape,
        "params": one.fields,
        "params_shape": one.layout.params_shape,
        "parts": tuple(part.name for part in one.parts),
    }


def read_tensor(path: _PathLike, name: str) -> Array:
    """The whole tensor `name` of a file or a model's folder at `path`: values, or codes.

    Raises
    ------
    ImportError
        A bfloat16 tensor where ml_dtypes is not installed.
    OSError
        A file that cannot be read.
    ValueError
        No such tensor, or one of no numbers that NumPy has; a file that is damaged or hostile.
    """
    with open_again(Path(path), lambda each: each != name) as container:
        tensor = container.tensors.get(name)
        if tensor is None or tensor.word not in (*NUMPY, "BF16"):
            one = quantized_one(container, name)  # stored under other names, or among its scales
            if one is not None:
                with one.reader(container) as reader:
                    reader.params(one.layout)
                    return reader.codes(one.shape)
            if tensor is None:
                raise _unknown(container, name)
            where = container.path_of(tensor)
            raise fault(where, f"tensor {name!r} is of {tensor.label}", "convert it to F32")
        with container.stream(tensor) as stream:
            values = stream.array(tensor.size)
    return values.reshape(tensor.shape, order="F" if tensor.fortran else "C")


def read_params(path: _PathLike, name: str) -> QuantParams | OffsetParams:
    """The parameters of the quantized tensor, or column, `name` of a file or a model's folder.

    ``dequantize(read_tensor(path, name), read_params(path, name))`` are its values.

    Raises
    ------
    OSError
        A file that cannot be read.
    ValueError
        No such tensor, or it is not quantized; a file that is damaged.
    """
    if _is_parquet(path):
        from ._files import parquet

        return parquet.read_params(Path(path), name)  # type: ignore[return-value]
    with open_again(Path(path)) as container:
        one = quantized_one(container, name)
        if one is None:
            raise (
                not_quantized(container, container.tensors[name])
                if name in container.tensors
                else _unknown(container, name)
            )
        with one.reader(container) as reader:
            return one.assembled(container, *reader.params(one.layout), one.fields["axis"])


def save(path: _PathLike, tensors: Mapping[str, tuple[Any, QuantParams | OffsetParams]]) -> None:
    """Write codes and their parameters, as `quantize` made them, to a ``.safetensors`` file.

    `load` gives them back to the bit, and all functions here read the file.  For example::

        files.save("table.safetensors", {"table": zeropoint.quantize_dynamic(x, axis=0)})

    Parameters
    ----------
    path
        Replaced if it exists, and only once the new file is complete.
    tensors
        ``{name: (codes, params)}``: codes of ``params.dtype``, of any shape that the parameters
        fit, and a `QuantParams` or `OffsetParams`.  `dequantize_file` takes the values for float32,
        or float64 where the scales are.

    Raises
    ------
    OSError
        A file that cannot be written.
    TypeError
        `tensors` is no mapping; a name that is no string; what is not a pair of codes and
        parameters; codes that are not of ``params.dtype``.
    ValueError
        Nothing to save; parameters that do not fit the shape of the codes; a name that safetensors
        cannot hold, or that is the one of another's parameters, as ``NAME_scale``.
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
        beside = companions(name, params)
        for companion in beside:
            if companion in tensors:
                raise ValueError(
                    f"tensors has {_checks.shown(companion)}, the name of the parameters of "
                    f"{_checks.shown(name)}; rename one"
                )
        contents |= dict(zip((name, *beside), (codes, *params._arrays), strict=True))
        entries[name] = params._arrays[0].dtype.name, fields_of(params, axis)
    words = {np.dtype(code).newbyteorder("="): word for word, code in NUMPY.items()}
    outputs = {name: (words[array.dtype], array.shape) for name, array in contents.items()}
    head, starts = safetensors.write_header(outputs, metadata_of({}, entries), target)
    with replacing(target) as out:
        out.write(head)
        for name, array in contents.items():
            place = Region(out, starts[name])
            for chunk in chunks(array.shape):
                place.write(array[chunk])


def load(path: _PathLike) -> dict[str, tuple[Array, QuantParams | OffsetParams]]:
    """The codes and parameters of all quantized tensors of a file or a model's folder at `path`.

    It reads what `dequantize_file` reads.  Tensors that are not quantized are not read:
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
    with open_container(Path(path)) as container:
        loaded = {}
        for name, one in _some_quantized(container).items():
            with one.reader(container) as reader:
                found = reader.params(one.layout)
                params = one.assembled(container, *found, one.fields["axis"])
                loaded[name] = reader.codes(one.shape), params
        container.check_unchanged()
    return loaded


def _some_quantized(container: Container) -> dict[str, Quantized]:
    """The quantized tensors; ValueError where there are none."""
    found = quantized(container)
    if not found:
        raise none_of(container)
    return found


def _unknown(container: Container, name: str) -> ValueError:
    known = _patterns.nearest(name, container.tensors)
    return fault(container.path, f"it has no tensor {name!r}", known[:300])


# ---------------------------------------------------------------------------------------------
# Arguments


def _choice(dtype: Any, keywords: Any) -> tuple[Choice, bool]:
    """The choice of `quantize_file`, and whether NaN count for nothing in the ranges."""
    skip_nan = _checks.flag(keywords.pop("skip_nan", False), "skip_nan")
    choice = Choice.of(quantize_file, dtype, keywords)
    if skip_nan and choice.nan_code is None:
        raise ValueError(
            "skip_nan=True needs a nan_code, or NaN would be lost in the file: choose a code that "
            f"data do not get, such as nan_code={choice.qmin}"
        )
    return choice, skip_nan


def _paths(
    src: _PathLike, sources: tuple[str, ...], dst: _PathLike, targets: tuple[str, ...]
) -> tuple[Path, Path]:
    """Source and target of a job from file to file, or from folder to folder."""
    source = Path(src)
    if source.is_dir() and not _is_parquet(source):
        return source, check_folders(source, Path(dst))
    if not source.suffix:
        source.stat()  # a folder that is absent
    _check_suffix(source, "src", sources)
    target = _target(dst, "dst", targets)
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"src and dst are the same file, {str(source)!r}; choose another target")
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


def _check_no_options(keywords: Mapping[str, Any]) -> None:
    for name, value in keywords.items():
        raise ValueError(
            f"{name} is {_checks.shown(value)}, and a .gguf file is quantized to Q8_0: symmetric "
            "int8 in blocks of 32 along the last axis; leave it out"
        )


def _is_parquet(src: _PathLike) -> bool:
    return Path(src).suffix == ".parquet"


def _is_gguf(src: _PathLike) -> bool:
    return Path(src).suffix == ".gguf"


def _check_suffix(path: Path, name: str, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        is_gguf = name == "dst" and ".gguf" in (path.suffix, *suffixes)
        raise ValueError(
            f"{name} {str(path)!r} must be the name of a {' or '.join(suffixes)} file"
            f"{'; a .gguf file is made from one, and only into one' * is_gguf}"
        )


def _checked_pair(
    name: object, pair: object
) -> tuple[Array, QuantParams | OffsetParams, int | None]:
    """One of `save`'s tensors: codes, params, and their axis counted from 0."""
    if not isinstance(name, str):
        raise TypeError(f"tensors has the name {_checks.shown(name)}; names must be strings")
    what = f"tensors[{_checks.shown(name)}]"
    kinds = QuantParams, OffsetParams
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], kinds):
        held = type(pair).__name__
        if isinstance(pair, tuple):
            held += f" of {[type(each).__name__ for each in pair]}"
        raise TypeError(
            f"{what} must be a tuple (codes, QuantParams or OffsetParams), not {held}; pass what "
            "zeropoint.quantize_dynamic returns, or (zeropoint.quantize(x, params), params)"
        )
    codes, params = pair
    codes = _checks.exact_array(codes, params.dtype, what, "these are not codes of params.dtype")
    try:
        return codes, params, params._check_fits(codes.shape).axis
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
