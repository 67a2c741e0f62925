"""How good are these parameters, and which rule suits this data: `error_stats` and `compare`."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from . import _backend, _checks, _html, _reference
from ._backend import Errors, ieee
from ._choice import RULES, Choice, min_max, range_of
from ._chunks import chunks
from ._layout import Layout, Tile
from ._params import Params, QuantParams, checked
from ._reference import Array, widen, working_dtype
from .observers import HistogramObserver

# elements among which the different values of a channel are counted: where these do not tell, more
_GLANCE, _SAMPLE = 1 << 8, 1 << 16
_TILE = 1 << 15  # elements that the reference measures at a time: what fits a cache
_TOGETHER = 256  # channels whose codes, or different values, are counted at a time


@_checks.initialised_once
@dataclass(frozen=True)
class ErrorStats:
    """The error of quantizing an array; computed in float64, the same for every backend."""

    max_abs_error: float  #: largest ``|x' - x|``, in the unit of x
    mean_abs_error: float
    mse: float  #: mean of (x' - x)^2
    sqnr_db: float  #: 10 log10(sum x^2 / sum (x' - x)^2); Inf where nothing is lost
    cosine: float  #: cosine similarity of x and x'; 1 where both are zero
    saturated: int  #: elements whose code lay outside [qmin, qmax] and was clipped
    codes_used: int  #: distinct codes among the results, of qmax - qmin + 1
    #: the fewest codes that hold 90 % of the nonzero elements; with an axis, in the median channel
    codes_of_most: int
    #: channels where these are fewer than the root of qmax - qmin + 1, so that half of the bits are
    #: idle, though the elements have more than twice as many different values
    few_codes: int
    channels: int  #: 1 without an axis; blocks of one channel are counted together

    @property
    def warning(self) -> str | None:
        """A problem that the other figures do not show, or None."""
        if not self.few_codes:
            return None
        return (
            f"{self._few()}; clip the outliers (HistogramObserver), take more scales (axis, "
            "block_size) or a range that is nearer to the data; zeropoint.compare tries them"
        )

    def _few(self, where: str = "") -> str:
        codes = f"{self.codes_of_most} code{'s' if self.codes_of_most > 1 else ''}"
        if self.channels > 1:
            where += f" in {self.few_codes} of {self.channels} channels"
            codes = "a few codes there"
        return (
            f"few codes are in use{where}: 90 % of the nonzero elements share {codes}, so what "
            "differs among them is lost, and SQNR and cosine do not show it"
        )

    def to_dict(self) -> dict[str, float | int]:
        """A dictionary that `json.dumps` takes."""
        return asdict(self)

    def __str__(self) -> str:
        text = (
            f"max error {self.max_abs_error:.6g}, mean error {self.mean_abs_error:.6g}, "
            f"MSE {self.mse:.4g}, SQNR {self.sqnr_db:.2f} dB, cosine {self.cosine:.7g}, "
            f"{self.saturated} saturated, {self.codes_used} codes used "
            f"(90 % of the nonzero elements in {self.codes_of_most})"
        )
        return text if self.warning is None else f"{text}\nWarning: {self.warning}"

    def _repr_html_(self) -> str:
        *cells, most = stats_cells(self)
        figures = [
            *zip(STATS_HEAD[:-1], cells, strict=True),
            ("codes of 90 % of the nonzero elements", most),
            ("mean error", f"{self.mean_abs_error:.6g}"),
            ("cosine", f"{self.cosine:.7g}"),
        ]
        return _html.table(figures, caption="ErrorStats") + _html.warning(self.warning)


@ieee
def error_stats(x: Any, params: Params, *, skip_nan: bool = False) -> ErrorStats:
    """Quantize and dequantize `x` and measure the error.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64; not empty, without Inf; without NaN, unless
        `skip_nan`.
    params
        The parameters, per tensor, per channel or per block; the figures are over all of `x`.
    skip_nan
        Leave NaN out: the figures are to the bit those of the other elements, in C order.

    Returns
    -------
    ErrorStats
        The figures; `warning` says so where they look good and the codes are ruined all the same,
        as by an outlier that takes the whole range for itself.

    Raises
    ------
    TypeError
        `x` is not of a supported float dtype.
    ValueError
        No data, or only NaN; NaN or Inf in `x`; parameters that do not fit.
    """
    params = checked(params, call="zp.error_stats(x, ")
    x = _checks.real_array(x)
    layout = params._check_fits(x.shape)
    params._check_precision(working_dtype(x.dtype))
    skip_nan = _checks.flag(skip_nan, "skip_nan")
    if x.size == 0:
        min_max(x)  # tells
    ends = functools.partial(range_of, x, None, None, skip_nan=skip_nan)
    return _measured(x, params, layout, ends, elements(x) if skip_nan else x.size)


def elements(x: Array) -> int:
    """How many elements of `x` are not NaN."""
    return sum(int(np.count_nonzero(~np.isnan(widen(x[part])))) for part in chunks(x.shape))


def _without_nan(x: Array, n: int) -> Array:
    """The `n` elements that are not NaN, in C order."""
    found, done = np.empty(n, x.dtype.newbyteorder("=")), 0
    for part in chunks(x.shape):
        some = x[part][~np.isnan(widen(x[part]))]
        found[done : done + some.size] = some
        done += some.size
    return found


@ieee
def _unit(x: Array, params: Params, ends: Callable[[], tuple[Array, Array]]) -> float:
    """In which the sums are taken, so that no square overflows: a power of two.

    `ends` gives the range of `x`.
    """
    first, second = params._arrays
    if np.promote_types(working_dtype(x.dtype), first.dtype) == np.float32:
        return 1.0
    # x' lies between those of the ends, and may be far from x where no code is near
    peak = 0.0
    for end in ends():
        codes = params._codes(np.full(first.shape, end), first, second)
        back = params._decoded(codes, first, second, np.dtype(np.float64))
        peak = max(peak, abs(float(end)), *np.abs([back.min(), back.max()]).tolist())
    peak = min(peak, sys.float_info.max)  # where x' is Inf no unit helps
    return math.ldexp(1.0, min(max(math.frexp(peak)[1], -1021), 1022))  # normal, and so is 1 / unit


def _measured(
    x: Array, params: Params, layout: Layout, ends: Callable[[], tuple[Array, Array]], n: int
) -> ErrorStats:
    """The figures of `x`, of which `n` elements count: the others are NaN, and left out."""
    if n == 0:
        ends()  # tells
    if n < x.size and layout.axis is None:
        x = _without_nan(x, n)
        layout = Layout(x.shape)
    unit = _unit(x, params, ends)
    if n < x.size:  # the rest of a channel has no shape that the core could take
        found = Errors(*_by_reference(x, params, layout, unit, skip_nan=True))
    else:
        found = _backend.errors(
            x, params._native, unit, lambda: _by_reference(x, params, layout, unit)
        )
    if not math.isfinite(found.signal):
        ends()  # tells
    return _stats(x, params, layout.axis, unit, found, n)


def _by_reference(
    x: Array, params: Params, layout: Layout, unit: float, skip_nan: bool = False
) -> tuple[Any, ...]:
    errors = _errors(x, params, layout, unit, skip_nan)
    return (*errors, *_codes_in_use(x, params, layout, skip_nan))


def _errors(
    x: Array, params: Params, layout: Layout, unit: float, skip_nan: bool
) -> tuple[Any, ...]:
    """The figures of `_reference.sum_of_chunks`, and how many codes are clipped."""
    # in the precision of the scale or of x, whichever is finer: no rounding is added
    finer = np.promote_types(params._arrays[0].dtype, working_dtype(x.dtype))
    found, clipped = [], 0
    rest = np.empty((2, 0))  # of x and x': what does not fill a chunk of the sums
    for part in chunks(x.shape, _TILE):
        tile, codes, first, second = _quantized(x, params, layout, part)
        back = params._decoded(codes, first, second, finer)
        unclipped = params._unclipped(tile, first, second)
        if skip_nan:
            present = ~np.isnan(widen(tile))
            tile, back, unclipped = (each[present] for each in (tile, back, unclipped))
        clipped += _reference.clipped(unclipped, params.qmin, params.qmax)
        pairs = np.concatenate([rest, [tile.ravel(), back.ravel()]], axis=1, dtype=np.float64)
        full = pairs.shape[1] // _reference.CHUNK * _reference.CHUNK
        if full:
            found.append(_reference.errors(pairs[:, :full], unit))
        rest = pairs[:, full:]
    if rest.size:
        found.append(_reference.errors(rest, unit))
    return *_reference.sum_of_chunks(np.concatenate(found, axis=1)), clipped


def _codes_in_use(
    x: Array, params: Params, layout: Layout, skip_nan: bool
) -> tuple[int, Array, Array]:
    """How many codes are in use; and of each channel how many elements are not zero, and the fewest
    codes that most of these have."""
    axis = layout.axis
    used, nonzero, most = np.zeros(256, np.int64), [], []
    for first in range(0, layout.length, _TOGETHER):
        counts = np.zeros((min(_TOGETHER, layout.length - first), 256), np.int64)
        for part, channels in _parts_of(layout, first, len(counts)):
            tile, codes, _, _ = _quantized(x, params, layout, part)
            present = ~np.isnan(widen(tile)) if skip_nan else None
            codes_of_all, codes_of_nonzero = _reference.count_codes(tile, codes, axis, present)
            used += codes_of_all
            counts[channels] += codes_of_nonzero
        nonzero.append(counts.sum(axis=1))
        most.append(_reference.fewest(counts))
    return int(np.count_nonzero(used)), np.concatenate(nonzero), np.concatenate(most)


def _parts_of(layout: Layout, first: int, n: int) -> Iterator[tuple[Tile, slice]]:
    """Tiles of `n` channels from `first` on, and which of these each has."""
    shape, axis = list(layout.shape), layout.axis
    if axis is None:
        yield from ((part, slice(None)) for part in chunks(layout.shape, _TILE))
        return
    shape[axis] = n
    for part in chunks(tuple(shape), _TILE):
        cuts = [cut for cut in part if isinstance(cut, slice)]
        cuts += [slice(None)] * (len(shape) - len(cuts))
        start, stop, _ = cuts[axis].indices(n)
        cuts[axis] = slice(first + start, first + stop)
        yield tuple(cuts), slice(start, stop)


def _quantized(
    x: Array, params: Params, layout: Layout, part: Tile
) -> tuple[Array, Array, Array, Array]:
    """A tile of `x`: its elements and their codes, and its parameters, spread."""
    first, second = (layout.spread_over(each, part) for each in params._arrays)
    tile = x[part]
    return tile, params._codes(tile, first, second), first, second


def _stats(
    x: Array, params: Params, axis: int | None, unit: float, found: Errors, n: int
) -> ErrorStats:
    if found.noise == 0:
        sqnr = math.inf
    elif not math.isfinite(found.noise):  # a value beyond the dtype became Inf
        sqnr = -math.inf
    else:
        sqnr = 10 * math.log10(found.signal / found.noise) if found.signal else -math.inf
    norms = math.sqrt(found.signal) * math.sqrt(found.back)
    cosine = min(1.0, found.dot / norms) if norms else float(found.signal == found.back)
    if not math.isfinite(norms):
        cosine = 0.0
    return ErrorStats(
        max_abs_error=found.worst * unit,
        mean_abs_error=found.absolute / n * unit,
        mse=found.noise / n * unit * unit,
        sqnr_db=sqnr,
        cosine=cosine,
        saturated=found.clipped,
        codes_used=found.codes_used,
        codes_of_most=int(np.sort(found.most)[len(found.most) // 2]),
        few_codes=_few_codes(x, params, axis, found),
        channels=len(found.most),
    )


def _few_codes(x: Array, params: Params, axis: int | None, found: Errors) -> int:
    """`few_codes` of `ErrorStats`, as far as samples show it."""
    x = x[None] if axis is None else np.moveaxis(x, axis, 0)
    enough = math.isqrt(params.qmax - params.qmin) + 1  # the root, rounded up
    suspects = ((found.most < enough) & (found.nonzero > 2 * found.most)).nonzero()[0]
    count = 0
    for first in range(0, len(suspects), _TOGETHER):
        some = suspects[first : first + _TOGETHER]
        most = found.most[some]
        seen, different, values = _values_of_most(_sample(x, some, _GLANCE))
        few = values >= 2 * most
        count += int(np.count_nonzero(few))
        if x[0].size <= _GLANCE:
            continue
        # where few values hold less than most elements, so many do not show one of few alone
        unsure = ~few & ((different > most) | (seen < _GLANCE // 3))
        for each in some[unsure]:
            _, _, values = _values_of_most(_sample(x, each[None], _SAMPLE))
            count += int(values[0] >= 2 * found.most[each])
    return count


def _sample(x: Array, channels: Array, size: int) -> Array:
    """Elements of some channels, which the first axis has: a row each; 0 in the place of NaN."""
    n = x[0].size
    if n <= size:
        found = x[channels].reshape(len(channels), n)
    else:
        index = np.random.default_rng(0).integers(0, n, size)
        found = x[(channels[:, None], *np.unravel_index(index, x.shape[1:]))]
    found = found.astype(working_dtype(x.dtype))
    return np.where(np.isnan(found), found.dtype.type(0), found)


def _values_of_most(x: Array) -> tuple[Array, Array, Array]:
    """For each row: the nonzero elements, their different values, and the fewest of most."""
    x = np.sort(x, axis=1)
    starts = np.ones(x.shape, bool)
    starts[:, 1:] = x[:, 1:] != x[:, :-1]
    places = np.flatnonzero(starts)
    counts = np.zeros(x.shape, np.int32)
    counts.ravel()[places] = np.diff(places, append=x.size)
    counts[x == 0] = 0
    different = np.count_nonzero(counts, axis=1)
    return counts.sum(axis=1), different, _reference.fewest(counts)


# ---------------------------------------------------------------------------------------------

#: figures that differ by less of themselves are the same: the rounding of the arithmetic, 2^-14 of
#: a step at most, is 2^-13 of an error of half a step, and 2^-12 of its square
_ROUNDING = 2.0**-12
IN_A_CHANNEL = 32  # elements at least, or the scales would weigh more than an eighth of the data
BLOCK = 32  # elements of a block, as in GGUF's Q8_0
_CLIPPED = 256  # channels at most for which ranges are searched: each takes some ms
_TAILS = (1e-4, 1e-3, 1e-2)  # clipped at each end: the first that leaves many codes in use


@_checks.initialised_once
@dataclass(frozen=True)
class ComparisonRow:
    """One way to choose the parameters, for uint8, and its error."""

    rule: str = "min"  #: or "max", "least_error", "symmetric"
    include_zero: bool = True
    method: str = "minmax"  #: of `HistogramObserver.params`: or one that clips
    percentile: float | None = None  #: of the method of that name
    axis: int | None = None
    block_size: int | None = None
    params: QuantParams | None = None  #: None where it does not work for this data ...
    stats: ErrorStats | None = None
    problem: str | None = None  #: ... and then why
    #: the ways of other names with the same figures, but for the rounding of the arithmetic
    same: tuple[ComparisonRow, ...] = ()

    @property
    def name(self) -> str:
        """The rule or the method, in words."""
        if self.method == "percentile":
            return f"percentile {self.percentile:.6g}"
        if self.method != "minmax":
            return self.method
        return self.rule if self.include_zero else f"{self.rule}, zero not included"

    @property
    def few_fraction(self) -> float:
        """The fraction of the channels in which few codes are in use."""
        return self.stats.few_codes / self.stats.channels if self.stats else 0.0

    @property
    def few(self) -> bool:
        """Whether few codes are in use in so many channels that the data are ruined."""
        return self.few_fraction > 1 - _reference.MOST

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {
            **vars(self),
            "params": self.params.to_dict() if self.params else None,
            "stats": self.stats.to_dict() if self.stats else None,
            "same": [row.name for row in self.same],
        }


@_checks.initialised_once
@dataclass(frozen=True)
class Comparison:
    """The rules side by side, and what else would help; `str()` is a table.

    All is for uint8.  With int8 every figure is the same, and the zero point 128 less.
    """

    rows: tuple[ComparisonRow, ...]  #: first those with the granularity that was asked for

    @property
    def _asked(self) -> list[ComparisonRow]:
        """The rows that work, with the granularity that was asked for."""
        return [row for row in self.rows if row.stats and row.axis == self.rows[0].axis]

    @property
    def best(self) -> ComparisonRow:
        """The row of the smallest mean squared error with the granularity that was asked for.

        If the rules leave few codes in use: among all rows that do not, where there are any.
        """
        found = [row for row in self._asked if not row.few]
        if not any(row.method == "minmax" for row in found):
            found = [row for row in self.rows if row.stats and not row.few] or self._asked
        smallest = min(map(_mse, found)) * (1 + _ROUNDING)
        return next(row for row in found if _mse(row) <= smallest)

    @property
    def warning(self) -> str | None:
        """Which rules leave few codes in use, and which rows help; or None."""
        lost = [row for row in self._asked if row.stats and row.stats.few_codes]
        if not lost or not lost[0].stats:
            return None
        text = lost[0].stats._few(f" in {self._numbers(lost)}")
        helps = [row for row in self.rows if row.stats and row.few_fraction < lost[0].few_fraction]
        if not helps:
            return f"{text}; nothing that was tried here helps"
        return f"{text}; what helps: {self._numbers(helps)}"

    @property
    def advice(self) -> str:
        """The recommendation, in a sentence."""
        best, asked = self.best, self._asked
        rules = [row for row in asked if row.method == "minmax"]
        text = f"Best for this data: {self._title(best)}"
        if best.few:
            return f"{text}, though few codes are in use."
        if best.stats and all(row.few for row in rules):
            clips = f", which clips {best.stats.saturated} elements" * (best.stats.saturated > 0)
            text += f"{clips}; the rules leave few codes in use"
            lowest = min((row for row in self.rows if row.stats), key=_mse)
            if gain := _decibels(best, lowest):
                text += f"; {self._title(lowest)} has {gain:.2f} dB less error, in few codes"
            return f"{text}."
        worst = max(rules, key=_mse)
        if best in rules and _mse(worst) <= _mse(best) * 1.001:
            text += "; the rules make no difference here, so take what your engine uses"
        elif (gain := _decibels(worst, best)) >= 0.005:
            text += f", {gain:.2f} dB better than the worst rule ({self._title(worst)})"
        safe = min((row for row in asked if row.include_zero), key=_mse)
        if not best.include_zero:
            text += f"; engines need a range that holds 0, and there {self._title(safe)} is best"
            if loss := _decibels(safe, best):
                text += f", {loss:.2f} dB behind"
        finer = [row for row in self.rows if row.axis != self.rows[0].axis and not row.few]
        for in_blocks in (False, True):
            some = [row for row in finer if (row.block_size is not None) == in_blocks]
            if some and (gain := _decibels(best, min(some, key=_mse))) >= 1:
                text += f"; {self._title(min(some, key=_mse))} is {gain:.2f} dB better"
        return f"{text}."

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "best": self.rows.index(self.best),
            "warning": self.warning,
            "advice": self.advice,
        }

    def _lines(self) -> list[list[str]]:
        """The table."""
        lines = [["#", "rule", "scale", "zero point", *STATS_HEAD, ""]]
        best = self.best
        for i, row in enumerate(self.rows, 1):
            first = [str(i), self._title(row)]
            if row.params is None or row.stats is None:
                lines.append([*first, *["-"] * 8, row.problem or ""])
                continue
            notes = ["few codes"] if row.stats.few_codes else []
            if notes and row.stats.channels > 1:
                notes = [f"few codes in {row.stats.few_codes} of {row.stats.channels} channels"]
            notes += ["<- best"] if row is best else []
            lines.append([*first, *_parameters(row), *stats_cells(row.stats), ", ".join(notes)])
        return lines

    def __str__(self) -> str:
        text = f"{table(self._lines())}\n\n{_NOTE}  {self.advice}"
        return text if self.warning is None else f"Warning: {self.warning}.\n\n{text}"

    def _repr_html_(self) -> str:
        head, *lines = self._lines()
        shown = _html.table(lines, head, caption=_NOTE, left=(1, len(head) - 1))
        return f"{_html.warning(self.warning)}{shown}{_html.paragraph(self.advice)}"

    def _title(self, row: ComparisonRow) -> str:
        """The names of a row and of those with the same figures."""
        of_rules = [each for each in (row, *row.same) if each.method == "minmax"]
        with_zero = [each.rule for each in of_rules if each.include_zero]
        without = [each.rule for each in of_rules if not each.include_zero]
        names = [each.name for each in (row, *row.same) if each not in of_rules]
        if without and set(without) == {*with_zero} - {"symmetric"}:
            names = [*with_zero, *names, "zero included or not"]
        else:
            names = [*with_zero, *names, *without, *["zero not included"][: len(without)]]
        if row.axis != self.rows[0].axis:
            of_what = f"blocks of {row.block_size}" if row.block_size else "per channel"
            names = [f"{of_what}, axis {row.axis}"]
        return ", ".join(names)

    def _numbers(self, rows: list[ComparisonRow]) -> str:
        numbers = ", ".join(str(self.rows.index(row) + 1) for row in rows)
        return f"row{'s' if len(rows) > 1 else ''} {numbers}"


def _mse(row: ComparisonRow) -> float:
    return row.stats.mse if row.stats else math.inf


def _decibels(worse: ComparisonRow, better: ComparisonRow) -> float:
    """By how much `better` is better; 0 where there is no such number."""
    a, b = _mse(worse), _mse(better)
    return 10 * math.log10(a / b) if b > 0 and 0 < a < math.inf else 0.0


def _parameters(row: ComparisonRow) -> list[str]:
    def show(value: Any) -> str:
        return f"{value:.7g}" if isinstance(value, np.floating) else str(value)

    def span(name: str) -> str:
        found = [np.ravel(getattr(each.params, name)) for each in (row, *row.same)]
        low, high = np.min(np.concatenate(found)), np.max(np.concatenate(found))
        return show(low) if low == high else f"{show(low)}..{show(high)}"

    return [span("scale"), span("zero_point")]


_NOTE = "uint8; for int8 the zero point is 128 less."
#: what `stats_cells` gives
STATS_HEAD = ("max error", "MSE", "SQNR dB", "saturated", "codes", "90 % in")


def stats_cells(stats: ErrorStats) -> list[str]:
    """The figures of a table row, under `STATS_HEAD`."""
    return [
        f"{stats.max_abs_error:.6g}",
        f"{stats.mse:.4g}",
        f"{stats.sqnr_db:.2f}",
        str(stats.saturated),
        str(stats.codes_used),
        str(stats.codes_of_most),
    ]


def table(lines: list[list[str]], left: int = 2) -> str:
    """Rows of cells as aligned text: the first `left` columns and the last one to the left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left or i == last else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def compare(
    x: Any, *, axis: int | None = None, block_size: int | None = None, skip_nan: bool = False
) -> Comparison:
    """Which rule suits this data: the rules side by side, and what else would help, with figures.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64; not empty, without Inf; without NaN, unless
        `skip_nan`.
    axis, block_size
        Compare with one scale and zero point per channel, or per block.
    skip_nan
        Leave NaN out, as in `choose_params` and `error_stats`.

    Returns
    -------
    Comparison
        A row for each rule (max, min, least_error with and without include_zero, symmetric), for
        the methods of `HistogramObserver` that clip (mse, percentile), and, if no axis is given,
        for parameters per channel along the first and the last axis, and in blocks of 32 along
        the last.  Rows with the same figures are one; a rule that does not work for this data says
        why.  Where a rule leaves few codes in use, `warning` says so.
    """
    return compared(x, axis=axis, block_size=block_size, skip_nan=skip_nan)


@ieee
def compared(
    x: Any,
    *,
    axis: int | None = None,
    block_size: int | None = None,
    skip_nan: bool = False,
    finer: bool = True,
    step: Callable[[], object] = lambda: None,
) -> Comparison:
    """`compare`, which calls `step` for each way; with those of another granularity if `finer`."""
    array = _checks.real_array(x)
    skip_nan = _checks.flag(skip_nan, "skip_nan")
    size = elements(array) if skip_nan else array.size
    rows = _Rows(array, axis, block_size, skip_nan, size, step)
    for include_zero in (True, False):
        for rule in (*RULES, "symmetric") if include_zero else RULES:
            rows.add(rule=rule, include_zero=include_zero)
    channels = 1 if axis is None else array.shape[axis]
    n = size // channels
    if block_size is None and n >= IN_A_CHANNEL and channels <= _CLIPPED:
        rows.add(method="mse")
        for tail in sorted({max(tail, 1.5 / n) for tail in _TAILS}):  # an element at least
            rows.add(method="percentile", percentile=100 * (1 - tail))
            if not (rows[0].few and rows[-1].few):
                break
    if finer and axis is None and array.ndim > 1:
        for each in sorted({0, array.ndim - 1}):
            if size // array.shape[each] >= IN_A_CHANNEL:
                rows.add(axis=each)
        if array.shape[-1] > BLOCK:
            rows.add(axis=array.ndim - 1, block_size=BLOCK)
    return Comparison(tuple(rows))


class _Rows(list[ComparisonRow]):
    """The rows of a comparison so far."""

    def __init__(
        self,
        x: Array,
        axis: int | None,
        block_size: int | None,
        skip_nan: bool,
        size: int,
        step: Callable[[], object],
    ) -> None:
        self.step = step
        self.x, self.axis, self.block_size = x, axis, block_size
        self.size = size  #: elements that count
        self.known: dict[Any, ErrorStats] = {}
        # of a granularity, or of the data: what several rows need
        self.range = functools.cache(functools.partial(range_of, x, skip_nan=skip_nan))
        self.observer = functools.cache(
            lambda axis: HistogramObserver(axis=axis, skip_nan=skip_nan).update(x)
        )

    def add(self, **how: Any) -> None:
        """Another row, or another name of one that has the same figures."""
        self.step()
        row = ComparisonRow(**{"axis": self.axis, "block_size": self.block_size} | how)
        try:
            params = self._chosen(row)
        except ValueError as error:
            if not self:  # no data, NaN: the same for every row
                raise
            row = replace(row, problem=str(error))
        else:
            numbers = (np.asarray(p).tobytes() for p in (params.scale, params.zero_point))
            key = *numbers, row.axis, row.block_size
            stats = self.known.get(key)
            if stats is None:
                layout = params._check_fits(self.x.shape)
                stats = self.known[key] = _measured(
                    self.x, params, layout, lambda: self.range(None, None), self.size
                )
            row = replace(row, params=params, stats=stats)
        for i, other in enumerate(self):
            same = (other.axis, other.block_size) == (row.axis, row.block_size)
            if same and _alike(other, row):
                self[i] = replace(other, same=(*other.same, row))
                return
        self.append(row)

    def _chosen(self, row: ComparisonRow) -> QuantParams:
        if row.percentile is not None:
            return _inner_params(self.x, self.observer(row.axis), row.percentile)
        if row.method != "minmax":
            return self.observer(row.axis).params(method=row.method)
        symmetric = row.rule == "symmetric"
        choice = Choice(
            zero_point_from=None if symmetric else row.rule,
            include_zero=row.include_zero,
            symmetric=symmetric,
        )
        ends = self.range(row.axis, row.block_size)
        return choice.params(*ends, row.axis, row.block_size)


def _alike(a: ComparisonRow, b: ComparisonRow) -> bool:
    if a.stats is None or b.stats is None:
        return a.stats is b.stats and a.problem == b.problem
    figures = [(s.max_abs_error, s.mean_abs_error, s.mse) for s in (a.stats, b.stats)]
    return all(math.isclose(*pair, rel_tol=_ROUNDING) for pair in zip(*figures, strict=True))


def _inner_params(x: Array, observer: HistogramObserver, percentile: float) -> QuantParams:
    """The parameters for what lies between the percentiles; `observer` has seen `x`.

    Beside a far outlier all else is in a few bins, so it is counted again until bins are fine.
    """
    before = observer.params(method="minmax")
    while True:
        params = observer.params(method="percentile", percentile=percentile)
        if np.all(np.asarray(params.scale) * 4 > before.scale):
            return params
        # a step wider, because the zero point has been rounded
        scale, zero = np.asarray(params.scale), np.asarray(params.zero_point, np.int32)
        low, high = ((end - zero) * scale for end in (params.qmin - 1, params.qmax + 1))
        observer = HistogramObserver(axis=params.axis, skip_nan=observer.skip_nan)
        before = params
        observer._take_clipped(x, low.astype(scale.dtype), high.astype(scale.dtype))
