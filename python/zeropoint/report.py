"""Where a file's error sits: `write` makes one page of HTML of a file of tensors or of a model.

The figures are those of `zeropoint.error_stats` and `zeropoint.compare`.  The page has no script
and needs no other file.  ``docs/how-to/report.md`` says what each figure means.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from . import _checks, _profile, files
from ._choice import Choice, ParamsKeywords, _layout_of, choose_params, min_max, shows
from ._compare import (
    BLOCK,
    IN_A_CHANNEL,
    Comparison,
    ComparisonRow,
    ErrorStats,
    compared,
    elements,
    error_stats,
)
from ._files import jobs, mapped, open_container, own, tiles
from ._files.container import Container
from ._files.formats import readable, taken
from ._files.jobs import Progress
from ._files.quantized import Quantized
from ._files.source import NUMPY, REALS, Tensor, fault
from ._files.target import replacing
from ._layout import Layout
from ._params import Params
from ._profile import Profile
from ._reference import MOST, Array, working_dtype

__all__ = ["Against", "Report", "TensorReport", "Way", "write"]

_PASSES = 16  # over a tensor, about
_AT_ONCE = 1 << 26  # elements, whose scales in blocks of 32 take some 100 MB
_WORTH = 1.0  # dB: what a way must gain to be advised


@_checks.initialised_once
@dataclass(frozen=True)
class Way:
    """One way to quantize a tensor."""

    name: str
    kind: str  #: "rule", "clipping", "channel" or "block"
    axis: int | None
    block_size: int | None
    sqnr_db: float
    mse: float
    max_abs_error: float
    saturated: int
    codes_used: int  #: of a large tensor that is quantized in slabs: in one of them at most
    few: bool  #: whether few codes are in use, so that most of the data are lost
    bytes: int  #: of codes and parameters
    best: bool = False  #: whether its error is the least


@_checks.initialised_once
@dataclass(frozen=True)
class Against:
    """The error of the values that another file has for a tensor."""

    stored: str  #: how it stores them
    bytes: int
    sqnr_db: float
    mse: float
    max_abs_error: float  #: NaN where a value has become NaN
    codes_used: int | None  #: None for floats


@_checks.initialised_once
@dataclass(frozen=True)
class TensorReport:
    """What the report says of a tensor; without `stats` nothing is known of its error."""

    name: str
    dtype: str  #: NumPy's name
    shape: tuple[int, ...]
    bytes_in: int
    bytes_out: int  #: as `files.quantize_file` would store it
    note: str | None = None  #: why it has no `stats`
    stats: ErrorStats | None = None  #: of the parameters that `files.quantize_file` would choose
    minimum: float | None = None
    maximum: float | None = None
    ways: tuple[Way, ...] = ()
    advice: str | None = None
    against: Against | None = None
    cost: float = 0.0  #: its part of the file's error, see `docs/how-to/report.md`
    first_code: int = 0
    codes: tuple[int, ...] = ()  #: how many elements have each code, from the first on
    clipped: tuple[int, int] = (0, 0)  #: of those at the ends
    axis: int | None = None
    #: along it: the root mean square error of each, as a part of that of the values
    channels: tuple[float, ...] = ()

    @property
    def sqnr_db(self) -> float:
        """That of the other file if there is one; Inf where nothing is known."""
        found = self.against or self.stats
        return math.inf if found is None else found.sqnr_db

    @property
    def few(self) -> bool:
        """Whether few codes are in use in so many channels that the data are ruined."""
        return bool(
            self.stats and not self.against and _is_few(self.stats.few_codes, self.stats.channels)
        )

    @property
    def _rank(self) -> tuple[bool, float]:
        """Worst first: what is lost in few codes, which SQNR does not show."""
        return not self.few, self.sqnr_db

    @property
    def max_abs_error(self) -> float:
        """That of the other file if there is one; NaN where nothing is known."""
        found = self.against or self.stats
        return math.nan if found is None else found.max_abs_error


@_checks.initialised_once
@dataclass(frozen=True)
class Report:
    """What was found in a file, and how it was quantized for that."""

    source: str  #: name without the folder
    how: str  #: the choice of parameters, in words
    bytes_in: int
    bytes_out: int
    tensors: tuple[TensorReport, ...]  #: worst first
    against: str | None = None  #: name of the other file

    @property
    def measured(self) -> list[TensorReport]:
        """The tensors with `stats`."""
        return [each for each in self.tensors if each.stats is not None]

    @property
    def quantized(self) -> list[TensorReport]:
        """Those of them that are codes in the other file, if there is one."""
        return [x for x in self.measured if x.against is None or x.against.codes_used is not None]

    @property
    def costly(self) -> list[TensorReport]:
        """The three tensors that cost most."""
        found = sorted(self.measured, key=lambda each: -each.cost)
        return [each for each in found[:3] if each.cost > 0]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes, without what the pictures show."""
        found = asdict(self)
        for tensor in found["tensors"]:
            for name in ("codes", "clipped", "axis", "channels", "first_code"):
                del tensor[name]
        return found


@shows(ParamsKeywords)
def write(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dtype: Any = "int8",
    against: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **keywords: Unpack[ParamsKeywords],
) -> Report:
    """Write a page of HTML that says what quantizing a file's tensors costs, and what would help.

    Parameters
    ----------
    source
        A ``.npy``, ``.npz``, ``.safetensors`` or ``.gguf`` file, or a model's folder.  Float
        tensors are measured; of those that are quantized already only the codes are shown.
    target
        A ``.html`` file.  Replaced if it exists, and only once the new one is complete.
    dtype, **keywords
        Those of `choose_params`, for all tensors.
    against
        A file or folder that has the same tensors, quantized in any format that `files.load` reads,
        or as floats: the page then shows the error of its values.  Tensors belong together by
        their names, or if both files have one.
    progress
        Called as ``progress(done, total)``, in bytes.

    Returns
    -------
    Report
        The figures of the page.

    Raises
    ------
    ImportError
        bfloat16 tensors where ml_dtypes is not installed.
    OSError
        A file that cannot be read or written.
    TypeError
        `dtype` is not uint8 or int8; an unknown keyword.
    ValueError
        A file that is damaged, or without tensors; options that exclude each other; no tensor that
        both files have.  What is wrong with one tensor, NaN for example, is said on the page.
    """
    path = files._target(target, "target", (".html",))
    from . import _report_page  # with the text of the page, which `measure` has no need of

    found = measure(
        source, dtype, keywords, against=against, progress=progress, scratch=path.parent
    )
    page = _report_page.html(found).encode()
    with replacing(path) as out:
        out.write(page)
    return found


def measure(
    source: str | os.PathLike[str],
    dtype: Any,
    keywords: ParamsKeywords,
    *,
    against: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    scratch: Path | None = None,
    figures_alone: bool = False,
) -> Report:
    """The figures of a report, worst tensors first; `figures_alone`: of `error_stats`, no more.

    `scratch` is the folder of temporary files.
    """
    layout = dict(keywords)
    axis, block, skip_nan = _layout_of(layout)  # type: ignore[arg-type]
    choice = Choice.of(write, dtype, layout)  # type: ignore[arg-type]
    axis = _checks.axis(axis)
    scheme = own.Own(choice, axis, _checks.block(block, axis), skip_nan)
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(open_container(Path(source), lambda _: True))
        other = None
        if against is not None:
            other = _Other(stack.enter_context(open_container(Path(against))), container)
        quantized = {one.parts[0].name: one for one in readable(container).values()}
        parts = taken(quantized.values())
        found: list[TensorReport] = []
        total, done = sum(each.bytes for each in container.tensors.values()), 0
        for tensor in container.tensors.values():
            step = _Steps(done, tensor.bytes, total, progress)
            if tensor.name in quantized:
                found.append(_of_codes(container, quantized[tensor.name]))
            elif tensor.name not in parts:
                job = _Job(container, tensor, scheme, dtype, keywords, scratch)
                found.append(job.report(step, other, figures_alone=figures_alone))
            done += tensor.bytes
            if progress is not None:
                progress(done, total)
        container.check_unchanged()
        found += [TensorReport(n, "?", (), 0, 0, why) for n, why in container.left_out.items()]
        return Report(
            source=container.path.name or str(container.path),
            how=_in_words(choice, axis, block, skip_nan=skip_nan),
            bytes_in=sum(each.bytes_in for each in found),
            bytes_out=sum(each.bytes_out for each in found),
            tensors=tuple(sorted(_with_costs(found), key=lambda each: each._rank)),
            against=None if other is None else other.container.path.name,
        )


def _in_words(choice: Choice, axis: int | None, block: int | None, *, skip_nan: bool) -> str:
    words = [choice.dtype.name, "symmetric" * choice.symmetric]
    words += [choice.convention] * (choice.convention != "numpy")
    words += [f"rule {choice.zero_point_from}"] * (choice.zero_point_from is not None)
    words += ["zero not included"] * (not choice.include_zero)
    info = np.iinfo(choice.dtype)
    if (choice.qmin, choice.qmax) != (info.min, info.max):
        words.append(f"codes {choice.qmin} to {choice.qmax}")
    words.append("per tensor" if axis is None else f"axis {axis}")
    words += [f"blocks of {block}"] * (block is not None) + ["without NaN"] * skip_nan
    return ", ".join(filter(None, words))


def _with_costs(found: list[TensorReport]) -> list[TensorReport]:
    """Each with its part of all error: that of a tensor counts against its own values, and by its
    number of elements."""
    costs = [
        math.prod(each.shape) * min(1.0, 10 ** (-each.sqnr_db / 10)) if each.stats else 0.0
        for each in found
    ]
    total = sum(costs) or 1.0
    return [replace(each, cost=cost / total) for each, cost in zip(found, costs, strict=True)]


class _Steps:
    """Progress within a tensor: a call for each pass over it."""

    def __init__(self, done: int, size: int, total: int, progress: Progress | None) -> None:
        self._done, self._size, self._total, self._progress = done, size, total, progress
        self._passes = 0

    def __call__(self) -> None:
        self._passes += 1
        if self._progress is not None and self._passes < _PASSES:
            self._progress(self._done + self._size * self._passes // _PASSES, self._total)


def dtype_of(tensor: Tensor) -> str:
    """NumPy's name of the dtype, or the file's where NumPy has none."""
    word = tensor.word or ""
    return REALS.get(word) or (np.dtype(NUMPY[word]).name if word in NUMPY else tensor.label)


# ---------------------------------------------------------------------------------------------
# One tensor


@_checks.initialised_once
@dataclass(frozen=True)
class _Job:
    container: Container
    tensor: Tensor
    scheme: own.Own
    dtype: Any
    keywords: ParamsKeywords
    scratch: Path | None

    def report(
        self, step: Callable[[], None], other: _Other | None, *, figures_alone: bool
    ) -> TensorReport:
        tensor = self.tensor
        found = TensorReport(
            tensor.name, dtype_of(tensor), tensor.shape, tensor.bytes, tensor.bytes
        )
        try:
            size, kept = jobs.planned_size(self.container, self.scheme, tensor)
        except ValueError as error:
            size, kept = tensor.bytes, str(error).replace(f"{self.container.path}: ", "")
        found = replace(found, bytes_out=size, note=kept)
        if kept is not None:
            return found
        one = None if other is None else other.partner(tensor.name)
        if other is not None and (one is None or one.shape != tensor.shape):
            has = "no such tensor" if one is None else f"it with shape {list(one.shape)}"
            note = f"{other.container.path.name} has {has}"
            return replace(found, note=note, bytes_out=tensor.bytes)
        with mapped.view(self.container, tensor, self.scratch) as x:
            try:
                params = choose_params(x, self.dtype, **self.keywords)
                step()
                stats = error_stats(x, params, skip_nan=bool(self.scheme.skip_nan))
                low, high = min_max(x, skip_nan=bool(self.scheme.skip_nan))
            except ValueError as error:
                note = str(error).partition(";")[0]  # what follows is the fix for a caller
                note = re.sub(r"^x\b", "it", note)
                return replace(found, note=note, bytes_out=tensor.bytes)
            step()
            found = replace(found, stats=stats, minimum=float(low), maximum=float(high))
            if figures_alone:
                return found
            return self._with_pictures(found, x, params, step, other)

    def _with_pictures(
        self,
        found: TensorReport,
        x: Array,
        params: Params,
        step: Callable[[], None],
        other: _Other | None,
    ) -> TensorReport:
        assert found.stats is not None
        axis = params.axis
        if axis is None and x.ndim > 1:
            axis = 0
        axis = None if axis is None else axis % x.ndim
        seen = _profile.profile(x, params, axis, saturated=found.stats.saturated)
        step()
        skip_nan = bool(self.scheme.skip_nan)
        ways = _ways(x, float(seen.signal.sum()), skip_nan=skip_nan, step=step)
        found = replace(
            found,
            first_code=params.qmin,
            codes=tuple(seen.counts.tolist()),
            clipped=seen.clipped,
            axis=axis,
            ways=ways,
        )
        if other is not None:
            found, seen = other.compared(found, x, axis, self.scratch)
        return replace(
            found,
            channels=tuple(seen.relative.tolist()) if axis is not None else (),
            advice=_advice(found, self.scheme.choice),
        )


def _ways(x: Array, signal: float, *, skip_nan: bool, step: Callable[[], None]) -> tuple[Way, ...]:
    """Those of `compare`; those of a large `x`, with the sum of squares `signal`, slab by slab."""
    at_once = x.size <= _AT_ONCE or x.ndim < 2
    comparison = compared(x, skip_nan=skip_nan, finer=at_once, step=step)
    found = [_way(comparison, row, x) for row in comparison.rows if row.stats is not None]
    for axis, block in () if at_once else ((0, None), (x.ndim - 1, None), (x.ndim - 1, BLOCK)):
        step()
        fits = x.shape[-1] > BLOCK if block else x.size // x.shape[axis] >= IN_A_CHANNEL
        if fits:
            with contextlib.suppress(ValueError):  # nothing but NaN in a channel or a block
                found.append(_in_slabs(x, axis, block, signal, skip_nan=skip_nan))
    fine = [way for way in found if not way.few] or found
    best = min(fine, key=lambda way: way.mse)
    return tuple(replace(way, best=way is best) for way in found)


def _is_few(channels: int, of: int) -> bool:
    """As `ComparisonRow.few`."""
    return channels / of > 1 - MOST


def _way(comparison: Comparison, row: ComparisonRow, x: Array) -> Way:
    assert row.stats is not None
    kind = "rule" if row.method == "minmax" else "clipping"
    if row.axis is not None:
        kind = "block" if row.block_size else "channel"
    return Way(
        comparison._title(row),
        kind,
        row.axis,
        row.block_size,
        row.stats.sqnr_db,
        row.stats.mse,
        row.stats.max_abs_error,
        row.stats.saturated,
        row.stats.codes_used,
        row.few,
        _bytes(x, row.axis, row.block_size),
    )


def _bytes(x: Array, axis: int | None, block: int | None) -> int:
    """Of codes and parameters, as `files.quantize_file` stores them."""
    return x.size + math.prod(Layout(x.shape, axis, block).params_shape) * (
        4 + working_dtype(x.dtype).itemsize
    )


def _in_slabs(x: Array, axis: int, block: int | None, signal: float, *, skip_nan: bool) -> Way:
    """A way whose scales each belong to one slab, or which has few of them."""
    rows = max(1, _AT_ONCE // 4 // x[0].size) if axis == 0 or block else len(x)
    stats, sizes = [], []
    for first in range(0, len(x), rows):
        slab = x[first : first + rows]
        how: dict[str, Any] = {"axis": axis, "block_size": block, "skip_nan": skip_nan}
        stats.append(error_stats(slab, choose_params(slab, **how), skip_nan=skip_nan))
        sizes.append(elements(slab) if skip_nan else slab.size)
    noise = sum(one.mse * size for one, size in zip(stats, sizes, strict=True))
    return Way(
        f"blocks of {block}, axis {axis}" if block else f"per channel, axis {axis}",
        "block" if block else "channel",
        axis,
        block,
        10 * math.log10(signal / noise) if signal and noise else math.inf,
        noise / sum(sizes),
        max(one.max_abs_error for one in stats),
        sum(one.saturated for one in stats),
        max(one.codes_used for one in stats),
        _is_few(sum(one.few_codes for one in stats), sum(one.channels for one in stats)),
        _bytes(x, axis, block),
    )


def _advice(found: TensorReport, choice: Choice) -> str:
    """What would help this tensor, in a sentence: what is cheap first."""
    assert found.stats is not None
    stats, mse = found.stats, (found.against or found.stats).mse
    told, before = list[str](), mse
    for kind in ("rule", "clipping", "channel", "block"):
        some = [way for way in found.ways if way.kind == kind and not way.few]
        if not some:
            continue
        way = min(some, key=lambda way: way.mse)
        if 0 < before < math.inf and way.mse * 10 ** (_WORTH / 10) <= before:
            before, ratio = way.mse, mse / way.mse if way.mse else math.inf
            less = "no error at all" if ratio == math.inf else f"{10 * math.log10(ratio):.1f} dB"
            told.append(f"{less} with {_option(way, choice)}")
    # the other file's format may know no such options
    where = "in zeropoint's own format " if found.against else ""
    helps = f"{where}less error: {', '.join(told)}" if told else ""
    if stats.few_codes and not found.against:
        if stats.channels > 1:
            text = f"In {stats.few_codes:,} of {stats.channels:,} channels few codes are in use"
        else:
            text = "Few codes are in use: 90 % of the nonzero elements "
            text += f"share {stats.codes_of_most:,}"
        return f"{text}; {helps or 'nothing that was tried helps'}."
    if found.max_abs_error == 0:
        return "Nothing is lost."
    if not math.isfinite(found.max_abs_error):
        return "Values have become NaN or Inf."
    return f"{helps[0].upper()}{helps[1:]}." if told else "Nothing that was tried gains 1 dB."


def _option(way: Way, choice: Choice) -> str:
    """The name of a way, and the options that give it in place of those of `choice`."""
    if way.kind == "clipping":
        return f"clipping (HistogramObserver, {way.name})"
    options = []
    if way.axis is not None:
        options.append(f"--axis {-1 if way.axis else 0}")  # the last one fits most tensors so
        options += [f"--block-size {way.block_size}"] * (way.kind == "block")
    is_symmetric = way.name == "symmetric"
    if is_symmetric != choice.symmetric:
        options.append("--symmetric" if is_symmetric else "without --symmetric")
    options += ["--no-include-zero"] * way.name.endswith("zero not included")
    options += ["all 256 codes"] * (choice.qmax - choice.qmin < 255)
    names = {"channel": "a scale per channel", "block": f"blocks of {way.block_size}"}
    shown = f" ({' '.join(options)})" if options else ""
    return names.get(way.kind, way.name) + shown


# ---------------------------------------------------------------------------------------------
# Codes that are there already


def _counted(container: Container, one: Quantized) -> Array:
    """How many elements have each code, from qmin on."""
    found = Profile()
    with one.reader(container) as reader:
        for chunk in tiles.chunks(one.layout.flat):
            reader.params(chunk)
            for tile in tiles.tiles(chunk):
                found.count(reader.codes(tiles.shape_of(tile)))
    first = one.fields["qmin"] - np.iinfo(one.fields["dtype"]).min
    return found.counts[first : first + one.fields["qmax"] - one.fields["qmin"] + 1]


def _stored(one: Quantized) -> str:
    """How a tensor is quantized."""
    axis, block = one.fields["axis"], one.fields["block_size"]
    where = "per tensor" if axis is None else f"along axis {axis}"
    where += f" in blocks of {block}" if block else ""
    return f"{one.fields['dtype']} {where}, {one.format}"


def _of_codes(container: Container, one: Quantized) -> TensorReport:
    counts = _counted(container, one)
    return TensorReport(
        one.name,
        one.fields["dtype"],
        one.shape,
        one.bytes,
        one.bytes,
        note=f"it is quantized already ({_stored(one)}): {np.count_nonzero(counts)} codes are in "
        "use; for its error report the file of the floats, against this one",
        first_code=one.fields["qmin"],
        codes=tuple(counts.tolist()),
    )


def _floats(container: Container) -> dict[str, Tensor]:
    """Its tensors of floats that are no part of a quantized one."""
    parts = taken(readable(container).values())
    return {
        name: tensor
        for name, tensor in container.tensors.items()
        if tensor.word in REALS and name not in parts
    }


class _Other:
    """The file whose values stand for those of the floats of `source`."""

    def __init__(self, container: Container, source: Container) -> None:
        self.container = container
        self._tensors: dict[str, Quantized | Tensor] = {**_floats(container), **readable(container)}
        floats = _floats(source)
        self._alone = len(self._tensors) == len(floats) == 1
        if not any(map(self.partner, floats)):
            few = ", ".join(map(repr, [*self._tensors][:3])) or "none"
            raise fault(
                container.path,
                f"against has no float or quantized tensor that {source.path.name} has as floats "
                f"(it has {few})",
                "pass the file of the floats as source, and one with the same names as against",
            )

    def partner(self, name: str) -> Quantized | Tensor | None:
        """What it has for a tensor of the source."""
        return next(iter(self._tensors.values())) if self._alone else self._tensors.get(name)

    def compared(
        self,
        found: TensorReport,
        x: Array,
        axis: int | None,
        scratch: Path | None,
    ) -> tuple[TensorReport, Profile]:
        """The report with the error of the other's values, and where that sits."""
        one = self.partner(found.name)
        assert one is not None
        read: Any = mapped.view if isinstance(one, Tensor) else mapped.values
        with read(self.container, one, scratch) as y:
            seen = _profile.difference(x, y, axis)
        counts = None if isinstance(one, Tensor) else _counted(self.container, one)
        stored = f"{dtype_of(one)}, not quantized" if isinstance(one, Tensor) else _stored(one)
        used = None if counts is None else int(np.count_nonzero(counts))
        codes = () if counts is None else tuple(counts.tolist())
        mse = float(seen.noise.sum()) / max(1, sum(found.codes))
        against = Against(stored, one.bytes, seen.sqnr_db, mse, seen.worst, used)
        first = found.first_code if isinstance(one, Tensor) else one.fields["qmin"]
        found = replace(found, against=against, first_code=first, codes=codes, clipped=(0, 0))
        return found, seen
