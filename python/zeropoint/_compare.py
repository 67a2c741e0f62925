"""How good are these parameters, and which rule suits this data: `error_stats` and `compare`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from . import _checks
from ._api import RULES, _params, choose_params, dequantize, min_max, quantize
from ._backend import ieee
from ._params import QuantParams
from ._pieces import Piece, pieces
from ._reference import Array, spread, unclipped, working_dtype

_CHUNK = 1 << 18  # elements in float64 at a time


@dataclass(frozen=True)
class ErrorStats:
    """What quantization did to an array; computed in float64, the same for every backend."""

    max_abs_error: float  #: largest |x' - x|, in the unit of x
    mean_abs_error: float
    mse: float  #: mean of (x' - x)^2
    sqnr_db: float  #: 10 log10(sum x^2 / sum (x' - x)^2); Inf where nothing is lost
    cosine: float  #: cosine similarity of x and x'; 1 where both are zero
    saturated: int  #: elements whose code lay outside [qmin, qmax] and was clipped
    codes_used: int  #: distinct codes among the results, of qmax - qmin + 1

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


@ieee
def error_stats(x: Any, params: QuantParams) -> ErrorStats:
    """Quantize and dequantize `x` and measure the error.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64; not empty, without NaN and Inf.
    params
        The parameters, per tensor, per channel or per block; the figures are over all of `x`.

    Raises
    ------
    TypeError
        `x` is not of a supported float dtype.
    ValueError
        No data; NaN or Inf in `x`; parameters that do not fit.
    """
    params = _params(params)
    x = _checks.real_array(x)
    low, high = min_max(x)
    codes = quantize(x, params)
    # back in the precision of the scale or of x, whichever is finer: no rounding is added
    finer = np.promote_types(np.asarray(params.scale).dtype, working_dtype(x.dtype))
    sums = _Sums(max(abs(float(low)), abs(float(high))))
    for part in _parts(x, codes, params, finer):
        sums.add(*part)
    return sums.stats(x.size)


def _parts(
    x: Array, codes: Array, params: QuantParams, finer: np.dtype[Any]
) -> Iterator[tuple[Array, Array, Array, int]]:
    """Pieces of about `_CHUNK` elements: x, codes, what these stand for, how many are clipped."""
    axis = params._check_fits(x.shape)
    # with an axis all at once, by the core: a piece has not all of the parameters
    values = None if axis is None else dequantize(codes, params, dtype=finer)
    both = np.asarray(params.scale), np.asarray(params.zero_point, np.int32)
    for piece in pieces(x.shape, _CHUNK):
        part, q = x[piece], codes[piece]
        scale, zero = (_spread_over(p, x.shape, piece, axis, params.block_size) for p in both)
        code = unclipped(part, scale, zero, params.convention)
        clipped = int(np.count_nonzero((code < params.qmin) | (code > params.qmax)))
        back = dequantize(q, params, dtype=finer) if values is None else values[piece]
        yield part, q, back, clipped


def _spread_over(
    parameter: Array, shape: tuple[int, ...], piece: Piece, axis: int | None, block: int | None
) -> Array:
    """`parameter` in a shape that broadcasts against a piece of data of `shape`."""
    if axis is None:
        return parameter
    if block is None:
        return np.broadcast_to(spread(parameter, shape, axis, None), shape)[piece]
    cuts: list[Any] = [*(cut for cut in piece if isinstance(cut, slice))]
    cuts += [slice(None)] * (len(shape) - len(cuts))
    cuts[axis] = np.arange(*cuts[axis].indices(shape[axis])) // block
    return np.asarray(parameter[tuple(cuts)])


class _Sums:
    """Running sums in units of a power of two near the largest |x|, so that no square overflows."""

    def __init__(self, peak: float) -> None:
        self.unit = math.ldexp(1.0, min(math.frexp(peak)[1], 1023))
        self.worst = self.absolute = self.noise = self.signal = self.back = self.dot = 0.0
        self.saturated = 0
        self.used = np.zeros(256, bool)

    @np.errstate(all="ignore")  # parts that underflow are no part of a sum
    def add(self, x: Array, codes: Array, back: Array, saturated: int) -> None:
        a = x.astype(np.float64).ravel() / self.unit
        b = back.astype(np.float64).ravel() / self.unit
        error = np.abs(b - a)
        self.worst = max(self.worst, float(error.max()))
        self.absolute += float(error.sum())
        self.noise += float((error * error).sum())
        self.signal += float((a * a).sum())
        self.back += float((b * b).sum())
        self.dot += float((a * b).sum())
        self.saturated += saturated
        self.used[codes.view(np.uint8)] = True

    def stats(self, n: int) -> ErrorStats:
        if self.noise == 0:
            sqnr = math.inf
        elif not math.isfinite(self.noise):  # a value beyond the dtype became Inf
            sqnr = -math.inf
        else:
            sqnr = 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf
        norms = math.sqrt(self.signal) * math.sqrt(self.back)
        cosine = min(1.0, self.dot / norms) if norms else float(self.signal == self.back)
        if not math.isfinite(norms):
            cosine = 0.0
        return ErrorStats(
            max_abs_error=self.worst * self.unit,
            mean_abs_error=self.absolute / n * self.unit,
            mse=self.noise / n * self.unit * self.unit,
            sqnr_db=sqnr,
            cosine=cosine,
            saturated=self.saturated,
            codes_used=int(np.count_nonzero(self.used)),
        )


# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonRow:
    """One way to choose the parameters, and what it does to the data."""

    rule: str  #: "max", "min", "least_error" or "symmetric"
    include_zero: bool
    dtype: str
    params: QuantParams | None  #: None where the rule does not work for this data ...
    stats: ErrorStats | None
    problem: str | None  #: ... and then why
    same_as: int | None  #: index of the first row with the same figures and steps

    @property
    def name(self) -> str:
        return self.rule if self.include_zero else f"{self.rule}, zero not included"

    def to_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "include_zero": self.include_zero,
            "dtype": self.dtype,
            "params": self.params.to_dict() if self.params else None,
            "stats": self.stats.to_dict() if self.stats else None,
            "problem": self.problem,
            "same_as": self.same_as,
        }


@dataclass(frozen=True)
class Comparison:
    """The rules side by side; `best` is the row of least mean square error, `str()` a table."""

    rows: tuple[ComparisonRow, ...]
    best: ComparisonRow
    advice: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": [row.to_dict() for row in self.rows],
            "best": self.rows.index(self.best),
            "advice": self.advice,
        }

    def __str__(self) -> str:
        head = ["#", "rule", "dtype", "scale", "zero point", "max error", "MSE", "SQNR dB"]
        lines = [[*head, "saturated", "codes", ""]]
        for i, row in enumerate(self.rows, 1):
            first = [str(i), row.name, row.dtype]
            if row.params is None or row.stats is None:
                lines.append([*first, *["-"] * 7, row.problem or ""])
                continue
            note = "<- best" if row is self.best else ""
            if row.same_as is not None:
                note = f"{note} same as {row.same_as + 1}".strip()
            lines.append([*first, *_parameters(row.params), *stats_cells(row.stats), note])
        return f"{table(lines)}\n\n{self.advice}"


def _parameters(params: QuantParams) -> list[str]:
    def show(value: Any) -> str:
        if np.ndim(value) == 0:
            return f"{value:.7g}" if isinstance(value, np.floating) else str(value)
        low, high = np.min(value), np.max(value)
        return show(low) if low == high else f"{show(low)}..{show(high)}"

    return [show(params.scale), show(params.zero_point)]


def stats_cells(stats: ErrorStats) -> list[str]:
    """The figures of a table row: max error, MSE, SQNR, saturated, codes."""
    return [
        f"{stats.max_abs_error:.6g}",
        f"{stats.mse:.4g}",
        f"{stats.sqnr_db:.2f}",
        str(stats.saturated),
        str(stats.codes_used),
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


@ieee
def compare(x: Any, *, axis: int | None = None, block_size: int | None = None) -> Comparison:
    """Which rule suits this data: the rules side by side, with figures.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64; not empty, without NaN and Inf.
    axis, block_size
        Compare with one scale and zero point per channel, or per block.

    Returns
    -------
    Comparison
        A row for each rule (max, min, least_error with and without include_zero, symmetric) and
        each dtype.  Rows with the same figures name the first of them; a rule that does not work
        for this data says why.
    """
    array = _checks.real_array(x)
    rows: list[ComparisonRow] = []
    known: dict[Any, int] = {}
    for dtype in ("uint8", "int8"):
        for include_zero in (True, False):
            for rule in (*RULES, "symmetric") if include_zero else RULES:
                row = _row(array, rule, include_zero, dtype, axis, block_size)
                if row.params is not None:
                    stats = error_stats(array, row.params)
                    first = known.setdefault((_steps(row.params), stats), len(rows))
                    same_as = first if first != len(rows) else None
                    row = replace(row, stats=stats, same_as=same_as)
                rows.append(row)
    usable = [row for row in rows if row.stats is not None]
    best = min(usable, key=lambda row: row.stats.mse if row.stats else math.inf)
    return Comparison(tuple(rows), best, _advice(usable, best))


def _row(
    x: Array, rule: str, include_zero: bool, dtype: str, axis: int | None, block_size: int | None
) -> ComparisonRow:
    symmetric = rule == "symmetric"
    try:
        params = choose_params(
            x,
            dtype,
            zero_point_from=None if symmetric else rule,
            include_zero=include_zero,
            symmetric=symmetric,
            axis=axis,
            block_size=block_size,
        )
    except ValueError as error:
        if include_zero:  # no data, NaN: the same for every row
            raise
        return ComparisonRow(rule, include_zero, dtype, None, None, str(error), None)
    return ComparisonRow(rule, include_zero, dtype, params, None, None, None)


def _steps(params: QuantParams) -> Any:
    """What two rows share if they give the same values: scale, zero point from qmin, range."""
    scale, zero = np.asarray(params.scale), np.asarray(params.zero_point, np.int64)
    return scale.tobytes(), (zero - params.qmin).tobytes(), params.qmax - params.qmin


def _advice(rows: list[ComparisonRow], best: ComparisonRow) -> str:
    def mse(row: ComparisonRow) -> float:
        return row.stats.mse if row.stats else math.inf

    worst = max(rows, key=mse)
    safe = min((row for row in rows if row.include_zero), key=mse)
    text = f"Best for this data: {best.name} ({best.dtype})"
    if mse(worst) <= mse(best) * 1.001:
        return f"{text}; the rules make no difference here, so take what your engine uses."
    if mse(best) > 0 and math.isfinite(mse(worst)):
        gain = 10 * math.log10(mse(worst) / mse(best))
        text += f", {gain:.2f} dB better than the worst ({worst.name}, {worst.dtype})"
    if best.include_zero:
        return f"{text}; its range holds 0, so every engine can use it."
    if mse(best) > 0 and math.isfinite(mse(safe)):
        loss = 10 * math.log10(mse(safe) / mse(best))
        return (
            f"{text}; engines need a range that holds 0, and there {safe.name} ({safe.dtype}) is "
            f"best, {loss:.2f} dB behind."
        )
    return (
        f"{text}; engines need a range that holds 0, and there {safe.name} ({safe.dtype}) is best."
    )
