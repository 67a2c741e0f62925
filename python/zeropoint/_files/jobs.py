"""All tensors of a container, one job each, and the file or folder that they are written to."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .. import _checks
from .._layout import Layout
from . import folder, gguf, npy, safetensors, tiles, work
from .container import Container
from .formats import forget, quantized, taken
from .quantized import AnyPlan, BlockPlan, Output, Quantized, Scheme
from .source import NUMPY, REALS, Source, Tensor, fault, real_dtype
from .target import Region, Report, check_folders, copy_files, region, replacing, replacing_folder

Progress = Callable[[int, int], object]


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
    #: of a value, float rounding comes on top; Inf where a value is beyond the dtype
    error_bound: float | None = None
    kept: str | None = None  #: why it was copied as it is
    sqnr_db: float | None = None  #: where it was asked for: 10 log10(sum x^2 / sum (x' - x)^2)
    convention: str | None = None  #: None if it was kept
    nan_code: int | None = None  #: the code of NaN, if there is one


@_checks.initialised_once
@dataclass(frozen=True)
class FileSummary:
    """What was read and written."""

    source: str
    target: str
    bytes_in: int  #: sizes of the two files, of a folder those with its tensors
    bytes_out: int
    tensors: tuple[TensorSummary, ...]  #: in the order of the source
    #: excluded members of a .npz that a .safetensors file cannot hold, files of a folder that are
    #: other copies of its tensors, and why
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return asdict(self)


class _Job(NamedTuple):
    """A tensor of the source, and the tensors written for it."""

    home: Source  #: the file that it lies in, and whose successor it goes to
    summary: TensorSummary  #: all but what is known in the end
    outputs: dict[str, Output]
    fortran: bool  #: the elements come in Fortran order
    bytes: int  #: that will be reported
    #: fills the regions of the outputs and returns a bound of the error
    action: Callable[[Container, list[Region], Report], float | None]
    sums: work.Sums | None = None


def quantize(
    container: Container,
    scheme: Scheme,
    reason_to_keep: Callable[[Tensor], str | None],
    dst: Path,
    target: Path,
    progress: Progress | None,
    *,
    stats: bool = False,
    keep_by: str = "exclude",
) -> FileSummary:
    """Write `target`, in which all tensors without a reason to keep them are quantized.

    `keep_by` is the argument by which the caller says more of those.
    """
    others = taken(quantized(container).values())
    jobs, planned = [], dict[str, tuple[Tensor, AnyPlan]]()
    for tensor in list(container.tensors.values()):
        kept = "it belongs to a quantized tensor" if tensor.name in others else None
        kept = kept or _no_reals(tensor) or reason_to_keep(tensor) or scheme.reason_to_keep(tensor)
        if kept is None:
            plan = scheme.plan(container, tensor)
            job = _quantize_job(container, tensor, plan, work.Sums() if stats else None, keep_by)
            kept = _reason_not_worth_it(job.summary)
        if kept is None:
            planned[tensor.name] = tensor, plan
            jobs.append(job)
        else:
            jobs.append(_copy_job(container, tensor, kept))
    _check_some_are_quantized(container, jobs, keep_by)
    metadata = {
        one: scheme.metadata(one, {name: planned[name] for name in one.tensors if name in planned})
        for one in container.shards
    }
    gained = scheme.config(container, planned) if container.folder else None
    config = None
    if gained is not None and container.folder:
        config = (folder.config(container.folder) or {}) | gained
    return _run(container, jobs, metadata, config, dst, target, progress)


def dequantize(
    container: Container,
    found: Mapping[str, Quantized],
    wanted: np.dtype[Any] | None,
    dst: Path,
    target: Path,
    progress: Progress | None,
) -> FileSummary:
    """Write `target`, in which the quantized tensors `found` are values."""
    parts = taken(found.values())
    by_codes = {one.parts[0].name: one for one in found.values()}
    jobs = [
        _dequantize_job(container, by_codes[name], wanted)
        if name in by_codes
        else _copy_job(container, tensor, "it is not quantized")
        for name, tensor in container.tensors.items()
        if name in by_codes or name not in parts
    ]
    metadata = {one: forget(one.metadata, found) for one in container.shards}
    config = folder.config(container.folder) if container.folder else None
    stated = folder.quantizations(config)
    for part, key in stated:
        del part[key]
    config = config if stated else None
    return _run(container, jobs, metadata, config, dst, target, progress)


# ---------------------------------------------------------------------------------------------
# One job per tensor


def _size(word: str, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor."""
    return gguf.size(word, shape) if word in gguf.NUMBERS else safetensors.size(word, shape)


def _no_reals(tensor: Tensor) -> str | None:
    if tensor.word not in REALS:
        return "its dtype is not quantized"
    return "it has no elements" if tensor.size == 0 else None


def planned_size(container: Container, scheme: Scheme, tensor: Tensor) -> tuple[int, str | None]:
    """How many bytes `quantize` would write for a tensor of values, and why it would keep it."""
    kept = _no_reals(tensor) or scheme.reason_to_keep(tensor)
    if kept is None:
        plan = scheme.plan(container, tensor)
        planned = _quantize_job(container, tensor, plan, None, "").summary
        kept = _reason_not_worth_it(planned)
    return (planned.bytes_out, None) if kept is None else (tensor.bytes, kept)


def _reason_not_worth_it(planned: TensorSummary) -> str | None:
    """Why codes and scales save nothing, or None; one scale per tensor is always taken."""
    if planned.axis is None or planned.bytes_out < planned.bytes_in:
        return None
    return f"it would not get smaller: {planned.bytes_in} -> {planned.bytes_out} bytes"


def _copy_job(container: Container, tensor: Tensor, kept: str) -> _Job:
    if tensor.word is None:
        raise TypeError(
            f"{_checks.printable(container.path_of(tensor))}: tensor {tensor.name!r} holds "
            f"{tensor.label}, which safetensors lacks; convert it, or exclude it"
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
    action = functools.partial(work.copy, tensor)
    return _Job(container.home(tensor), summary, outputs, tensor.fortran, moved, action)


def _summary(
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    fields: dict[str, Any],
    bytes_in: int,
    bytes_out: int,
) -> TensorSummary:
    """That of a tensor whose parameters have these `fields`."""
    return TensorSummary(
        name=name,
        shape=shape,
        dtype=dtype,
        codes=fields["dtype"],
        axis=fields["axis"],
        block_size=fields["block_size"],
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        convention=fields["convention"],
        nan_code=fields["nan_code"],
    )


def _quantize_job(
    container: Container, tensor: Tensor, plan: AnyPlan, sums: work.Sums | None, keep_by: str
) -> _Job:
    shape, axis, outputs = tensor.shape, plan.fields["axis"], plan.outputs
    bytes_out = sum(_size(*output) for output in outputs.values())
    summary = _summary(tensor.name, shape, tensor.dtype.name, plan.fields, tensor.bytes, bytes_out)
    if tensor.fortran:  # from here on it is an array in C order, with the axes reversed
        shape, axis = shape[::-1], None if axis is None else len(shape) - 1 - axis
    whole = Layout(shape, axis, plan.fields["block_size"]).flat
    moved = tensor.bytes * (1 if tiles.is_resident(whole, tensor.stored.itemsize) else 2)
    if tensor.fortran:
        moved += sum(_size(*output) for output in outputs.values() if len(output[1]) > 1)
    if isinstance(plan, BlockPlan):
        action = functools.partial(work.encode, tensor, plan, sums, keep_by)
    else:
        action = functools.partial(work.quantize, tensor, whole, plan, sums, keep_by)
    return _Job(container.home(tensor), summary, outputs, tensor.fortran, moved, action, sums)


def _dequantize_job(container: Container, one: Quantized, wanted: np.dtype[Any] | None) -> _Job:
    dtype = real_dtype(one.dtype) if wanted is None else wanted
    word = {real: word for word, real in REALS.items()}[dtype.name]
    summary = _summary(
        one.name, one.shape, dtype.name, one.fields, one.bytes, _size(word, one.shape)
    )
    action = functools.partial(work.decode if one.decode else work.dequantize, one, dtype)
    home, outputs = container.home(one.parts[0]), {one.name: (word, one.shape)}
    return _Job(home, summary, outputs, False, one.layout.size, action)


def _check_some_are_quantized(container: Container, jobs: list[_Job], keep_by: str) -> None:
    if any(job.summary.kept is None for job in jobs):
        return
    if not any(tensor.word in REALS for tensor in container.tensors.values()):
        raise TypeError(
            f"{_checks.printable(container.path)}: it holds no float tensor "
            f"({container.first_few()}); convert one to float16, float32 or float64 first"
        )
    reasons = ", ".join(f"{job.summary.name!r}: {job.summary.kept}" for job in jobs)
    raise fault(
        container.path, f"nothing is left to quantize ({reasons})", f"see include and {keep_by}"
    )


# ---------------------------------------------------------------------------------------------
# The target as a whole


class _Shard(NamedTuple):
    """A file to write."""

    name: str
    head: bytes
    starts: dict[str, int]
    end: int  #: its size
    jobs: list[_Job]

    @property
    def bytes(self) -> int:
        outputs = (output for job in self.jobs for output in job.outputs.values())
        return sum(_size(*output) for output in outputs)


def _run(
    container: Container,
    jobs: list[_Job],
    metadata: Mapping[Source, dict[str, str]],
    config: dict[str, Any] | None,
    dst: Path,
    target: Path,
    progress: Progress | None,
) -> FileSummary:
    """Do the jobs: write the target."""
    _check_names(container, jobs)
    write_header = _HEADERS[".safetensors" if container.folder else dst.suffix]
    shards = []
    for source in container.shards:
        some = [job for job in jobs if job.home is source]
        outputs = {name: output for job in some for name, output in job.outputs.items()}
        header = write_header(source, outputs, metadata[source], dst)
        shards.append(_Shard(source.path.name, *header, some))
    copied = container.folder.copied if container.folder else ()
    if container.folder is not None:
        check_folders(container.path, target, (*container.folder.shards, *copied))
    if config is not None:
        copied = tuple(name for name in copied if name != folder.CONFIG)
    total = sum(job.bytes for job in jobs)
    total += sum((container.path / name).stat().st_size for name in copied)
    report = counter(total, progress)
    summaries: list[TensorSummary] = []
    if container.folder is None:
        with replacing(target) as out:
            summaries += _fill(out, container, shards[0], report)
            container.check_unchanged()
        written = target.stat().st_size
    else:
        with replacing_folder(target) as new:
            for shard in shards:
                with open(new / shard.name, "xb") as out:
                    summaries += _fill(out, container, shard, report)
            copy_files(container.path, copied, new, report)
            if config is not None:
                folder.write_config(new, config)
            if container.folder.index is not None:
                weight_map = {name: shard.name for shard in shards for name in shard.starts}
                folder.write_index(
                    new, container.folder, weight_map, sum(shard.bytes for shard in shards)
                )
            written = sum((new / shard.name).stat().st_size for shard in shards)
            container.check_unchanged()
    order = {job.summary.name: at for at, job in enumerate(jobs)}
    return FileSummary(
        source=str(container.path),
        target=os.fspath(dst),
        bytes_in=container.bytes,
        bytes_out=written,
        tensors=tuple(sorted(summaries, key=lambda one: order[one.name])),
        left_out=dict(container.left_out),
    )


def _check_names(container: Container, jobs: Iterable[_Job]) -> None:
    seen: dict[str, str] = {}
    for job in jobs:
        for name in job.outputs:
            if name in seen:
                raise fault(
                    container.path,
                    f"{job.summary.name!r} and {seen[name]!r} would both be stored as {name!r}",
                    "rename one",
                )
            seen[name] = job.summary.name


def _fill(
    out: BinaryIO, container: Container, shard: _Shard, report: Report
) -> list[TensorSummary]:
    """Write one file."""
    out.write(shard.head)
    summaries = []
    for job in shard.jobs:
        with contextlib.ExitStack() as stack:
            regions = [
                stack.enter_context(region(out, shard.starts[name], *output, job.fortran, report))
                for name, output in job.outputs.items()
            ]
            bound = job.action(container, regions, report)
        sqnr = None if job.sums is None else job.sums.sqnr_db
        summaries.append(replace(job.summary, error_bound=bound, sqnr_db=sqnr))
    out.truncate(shard.end)  # with the padding behind the last tensor
    return summaries


_Header = tuple[bytes, dict[str, int], int]


def _safetensors_header(
    source: Source, outputs: dict[str, Output], metadata: dict[str, str], dst: Path
) -> _Header:
    head, starts = safetensors.write_header(outputs, metadata, source.path)
    return head, starts, len(head) + sum(_size(*output) for output in outputs.values())


def _npy_header(
    source: Source, outputs: dict[str, Output], metadata: dict[str, str], dst: Path
) -> _Header:
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
    return head, {name: len(head)}, len(head) + _size(word, shape)


def _gguf_header(
    source: Source, outputs: dict[str, Output], metadata: dict[str, str], dst: Path
) -> _Header:
    gguf.check_part(source.metadata, dst)
    return gguf.write_header(outputs, source.header, source.path)


#: all that stands before the data of a file, where each tensor starts, and the file's size, by its
#: suffix
_HEADERS = {".safetensors": _safetensors_header, ".npy": _npy_header, ".gguf": _gguf_header}


def counter(total: int, progress: Progress | None) -> Report:
    """A function that adds to a count of bytes and reports it to `progress`."""
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return report
