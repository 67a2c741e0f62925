"""Calibration: observers that see data piece by piece and then choose the parameters.

An observer's state depends on the data it has seen and on nothing else: any split of the data, any
order of the pieces, any nesting of merges gives the same bits.  So the same code runs on one array,
on a stream, and on many workers whose observers are merged in the end.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from . import _api, _backend, _checks, _clipping
from ._params import QuantParams
from ._reference import BINS, Array, bin_number, working_dtype

METHODS = ("minmax", "percentile", "mse", "entropy")

_LEAST_EXPONENT = -126  # of a bin's width; narrower ones would need subnormal arithmetic
_PART = 1 << 20  # elements counted at a time: between two passes over them they stay in the cache
_DIGITS = 24  # bins are never narrower than 2**-24 of the largest magnitude


class _Observer:
    """What both observers share: the range, and how observers are compared, copied and written."""

    def __init__(self, dtype: Any = "uint8", *, axis: int | None = None) -> None:
        self._dtype = _checks.code_dtype(dtype)
        self._axis = None if axis is None else _checks.axis(axis)
        self._forget()

    def _forget(self) -> None:
        self._precision = np.dtype(np.float32)
        # float64 holds both precisions; an empty range is one that any other widens
        self._low: Any = np.float64(np.inf)
        self._high: Any = np.float64(-np.inf)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the codes."""
        return self._dtype

    @property
    def axis(self) -> int | None:
        """The channel axis."""
        return self._axis

    @property
    def empty(self) -> bool:
        """Whether no element has been seen yet."""
        return np.ndim(self._low) == 0 and bool(self._low > self._high)

    # -- the data -------------------------------------------------------------------------------

    def update(self, x: Any) -> Self:
        """Take in the elements of `x`; returns the observer itself.

        Parameters
        ----------
        x
            float16, bfloat16, float32 or float64, any shape and strides.  The first data fix the
            number of channels along `axis`.  No elements, no change.

        Raises
        ------
        TypeError
            `x` is not of a supported float dtype.
        ValueError
            NaN or Inf in `x` (count and first index), or another number of channels; nothing has
            been taken in then.
        """
        x = _checks.real_array(x)
        axis = None if self._axis is None else _checks.normal_axis(self._axis, x.ndim)
        if x.size:
            if axis is not None:
                self._check_channels(x.shape[axis], f"x of shape {x.shape}")
            self._take(x, axis)
        return self

    def _check_channels(self, found: int, what: str) -> None:
        if np.ndim(self._low) and np.size(self._low) != found:
            raise ValueError(
                f"{what} has {found} channels along axis {self._axis}; this observer has seen "
                f"{np.size(self._low)}: use one observer for each number of channels"
            )

    def _take(self, x: Array, axis: int | None) -> None:
        raise NotImplementedError

    def _include(self, low: Any, high: Any, precision: np.dtype[Any]) -> None:
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._precision = np.promote_types(self._precision, precision)

    def merge(self, other: Self) -> Self:
        """Take in all that `other` has seen, as if its data had come here; returns the observer.

        `other` stays as it is.  An observer may be merged with itself.

        Raises
        ------
        TypeError
            `other` is not an observer of the same class.
        ValueError
            `other` has another dtype, axis or number of channels; nothing has been taken in then.
        """
        if type(other) is not type(self):
            raise TypeError(
                f"a {type(self).__name__} merges with its like, not with {type(other).__name__}"
            )
        for name in ("dtype", "axis"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"other has {name} {theirs}, this observer {mine}: only observers made with "
                    "the same arguments can be merged"
                )
        if not other.empty:
            self._check_channels(np.size(other._low), "other")
            self._join(other)
        return self

    def _join(self, other: Self) -> None:
        self._include(other._low, other._high, other._precision)

    def _range(self) -> tuple[Array, Array]:
        """Least and greatest element in the precision of the data."""
        if self.empty:
            raise ValueError("the observer has seen no data; call update first")
        low, high = np.asarray(self._low), np.asarray(self._high)
        return low.astype(self._precision), high.astype(self._precision)

    # -- value ----------------------------------------------------------------------------------

    def _state(self) -> tuple[Any, ...]:
        arrays = np.asarray(self._low), np.asarray(self._high)
        shared = self._dtype.name, self._axis, self._precision.name, arrays[0].shape
        return (*shared, *(array.tobytes() for array in arrays))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Observer) or type(other) is not type(self):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        axis = "" if self._axis is None else f", axis={self._axis}"
        return f"<{type(self).__name__}({self._dtype.name!r}{axis}), {self._seen()}>"

    def _seen(self) -> str:
        if self.empty:
            return "no data yet"
        channels = f"{np.size(self._low)} channels, " if np.ndim(self._low) else ""
        return f"{channels}min {np.min(self._low)}, max {np.max(self._high)}"

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact."""
        return {
            "observer": type(self).__name__,
            "dtype": self._dtype.name,
            "axis": self._axis,
            "precision": self._precision.name,
            "min": None if self.empty else np.asarray(self._low).tolist(),
            "max": None if self.empty else np.asarray(self._high).tolist(),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The observer that `to_dict` wrote.

        Raises
        ------
        TypeError, ValueError
            `fields` is not what `to_dict` of this class writes.
        """
        if not isinstance(fields, dict):
            raise TypeError(f"from_dict takes a dict, not {type(fields).__name__}")
        expected = set(cls().to_dict())
        if set(fields) != expected:
            raise ValueError(
                f"not the dictionary of a {cls.__name__}: unknown keys "
                f"{sorted(map(str, set(fields) - expected))}, missing keys "
                f"{sorted(expected - set(fields))}"
            )
        _checks.name(fields["observer"], "observer", (cls.__name__,))
        _checks.name(fields["dtype"], "dtype", ("uint8", "int8"))
        _checks.name(fields["precision"], "precision", ("float32", "float64"))
        self = cls(fields["dtype"], axis=fields["axis"])
        self._fill(fields)
        return self

    def _fill(self, fields: dict[str, Any]) -> None:
        """The data of a dictionary whose keys and names are checked."""
        precision = np.dtype(fields["precision"])
        if fields["min"] is None and fields["max"] is None:
            return
        low, high = (self._ends_from(fields[name], name, precision) for name in ("min", "max"))
        if low.shape != high.shape or np.any(low > high):
            raise ValueError("min and max must have one length, and no min may exceed its max")
        self._include(low[()], high[()], precision)

    def _ends_from(self, value: object, name: str, precision: np.dtype[Any]) -> Array:
        """`min` or `max` of a dictionary as a float64 array."""
        numbers = _listed(value, name, (int, float), 0 if self._axis is None else 1)
        with np.errstate(over="ignore"):
            try:
                found = np.asarray(numbers, np.float64) + 0  # no -0
            except OverflowError:
                raise ValueError(f"{name} is beyond float64") from None
            exact = np.isfinite(found) & (found.astype(precision) == found)
        if not exact.all():
            raise ValueError(f"{name} must be finite and numbers of {precision}, not {value!r}")
        return found


class MinMaxObserver(_Observer):
    """Remembers the least and the greatest element, per tensor or per channel.

    ``params`` gives what `choose_params` gives for all the data at once, to the bit.  `update` and
    `merge` are associative and commutative to the bit.  An observer is not for several threads at
    once: give each thread its own and merge them.

    Parameters
    ----------
    dtype
        ``"uint8"`` or ``"int8"``: the type of the codes.
    axis
        The channel axis, which is kept; it may be negative, and then arrays of several ranks may
        come.  None: one range for all.
    """

    def _take(self, x: Array, axis: int | None) -> None:
        low, high = _api.min_max(x, axis=axis)
        self._include(low, high, low.dtype)

    def params(
        self,
        *,
        zero_point_from: str | None = None,
        include_zero: bool = True,
        symmetric: bool = False,
        qmin: int | None = None,
        qmax: int | None = None,
        convention: str = "numpy",
    ) -> QuantParams:
        """The parameters for the data seen; keywords and errors are those of `choose_params`.

        ValueError if there has been no data.
        """
        low, high = self._range()
        return _api.params_from_range(
            low,
            high,
            dtype=self._dtype,
            zero_point_from=zero_point_from,
            include_zero=include_zero,
            symmetric=symmetric,
            qmin=qmin,
            qmax=qmax,
            axis=self._axis,
            convention=convention,
        )


class HistogramObserver(_Observer):
    """Counts the elements in bins, per tensor or per channel, and chooses the range by a method.

    Bins are 2**k wide and lie at the multiples of 2**k, where k is the smallest integer with which
    the data seen span at most 4096 bins (for each channel its own).  Counts are integers, and when
    the range grows bins are joined in pairs: the histogram is the same as if the bins had been wide
    from the start, whatever the order of the data.  So `update` and `merge` are associative and
    commutative to the bit.  Like `MinMaxObserver`, one observer a thread, merged in the end.

    Parameters
    ----------
    dtype
        ``"uint8"`` or ``"int8"``: the type of the codes.
    axis
        The channel axis, as in `MinMaxObserver`.  A channel takes 32 KiB.
    """

    def _forget(self) -> None:
        super()._forget()
        #: a row a channel: k, and how many elements are in bin t, at 1 + t % BINS
        self._table = np.zeros((0, 1 + BINS), np.int64)

    def _take(self, x: Array, axis: int | None) -> None:
        parts = list(_parts(x, axis))
        if len(parts) == 1:
            self._count(*parts[0], whole=x)
            return
        fresh = type(self)(self._dtype, axis=self._axis)  # self stays as it is if a NaN turns up
        for part in parts:
            fresh._count(*part, whole=x)
        self._join(fresh)

    def _count(self, x: Array, axis: int | None, *, whole: Array) -> None:
        low, high = _backend.min_max(x, axis, None)
        if np.isnan(low).any():
            _checks.finite(whole, "x")
        self._widen(low, high, working_dtype(x.dtype))
        _backend.histogram(x, axis, self._table)

    def _widen(self, low: Any, high: Any, precision: np.dtype[Any]) -> None:
        """Include [low, high] in the range, and let the bins grow to hold it."""
        if self.empty:
            self._include(low, high, precision)
            self._table = np.zeros((np.size(low), 1 + BINS), np.int64)
            self._table[:, 0] = _exponents(self._low, self._high)
            return
        before = self._low, self._high
        self._include(low, high, precision)
        if np.any(self._low < before[0]) or np.any(self._high > before[1]):
            self._rebin(*before, _exponents(self._low, self._high))

    def _rebin(self, low: Any, high: Any, exponents: Array) -> None:
        """Join bins, so that their widths are 2**exponents; all data lie in [low, high]."""
        first, last = (bin_number(np.atleast_1d(end), self._table[:, 0]) for end in (low, high))
        for channel in np.flatnonzero(exponents > self._table[:, 0]):
            row = self._table[channel]
            bins = np.arange(first[channel], last[channel] + 1)
            joined = np.sign(bins) * (np.abs(bins) >> (exponents[channel] - row[0]))
            counts = row[1 + bins % BINS]
            row[0], row[1:] = exponents[channel], 0
            np.add.at(row, 1 + joined % BINS, counts)

    def _join(self, other: Self) -> None:
        theirs = copy.copy(other)
        for one, two in ((self, theirs), (theirs, self)):
            one._widen(two._low, two._high, two._precision)
        self._table[:, 1:] += theirs._table[:, 1:]

    def params(
        self,
        *,
        method: str = "minmax",
        percentile: float = 99.99,
        zero_point_from: str | None = None,
        include_zero: bool = True,
        symmetric: bool = False,
        qmin: int | None = None,
        qmax: int | None = None,
        convention: str = "numpy",
    ) -> QuantParams:
        """The parameters for the data seen."""
        _checks.name(method, "method", METHODS)
        low, high = self._range()
        if method == "percentile":
            found = _clipping.percentile(self._histograms(), percentile)
            low, high = (end.reshape(low.shape).astype(low.dtype) for end in found)
        return _api.params_from_range(
            low,
            high,
            dtype=self._dtype,
            zero_point_from=zero_point_from,
            include_zero=include_zero,
            symmetric=symmetric,
            qmin=qmin,
            qmax=qmax,
            axis=self._axis,
            convention=convention,
        )

    def _seen(self) -> str:
        return f"{self.count} elements, {super()._seen()}"

    @property
    def count(self) -> int:
        """How many elements have been seen."""
        return int(self._table[:, 1:].sum())

    def _state(self) -> tuple[Any, ...]:
        return (*super()._state(), self._table.tobytes())

    def _ends(self) -> tuple[Array, Array]:
        """The first and the last bin of each channel."""
        low, high = np.atleast_1d(self._low), np.atleast_1d(self._high)
        exponents = self._table[:, 0]
        return bin_number(low, exponents), bin_number(high, exponents)

    def _histograms(self) -> _clipping.Histograms:
        """The counts in order, and the edges of the bins, from min to max."""
        first, last = (ends[:, None] for ends in self._ends())
        bins = first + np.arange((last - first).max() + 1)
        counts = np.where(bins <= last, np.take_along_axis(self._table[:, 1:], bins % BINS, 1), 0)
        upper = np.ldexp((bins + (bins >= 0)).astype(np.float64), self._table[:, :1])
        high = np.reshape(self._high, (-1, 1))
        edges = np.concatenate([np.reshape(self._low, (-1, 1)), np.minimum(upper, high)], axis=1)
        return _clipping.Histograms(edges, counts)

    def to_dict(self) -> dict[str, Any]:
        """As `MinMaxObserver.to_dict`, and ``exponent`` and ``counts``: small, exact.

        ``counts`` goes from the bin of min to that of max, where bin t holds the elements x with
        ``trunc(x / 2**exponent) == t``; a negative number stands for so many empty bins.
        """
        fields = super().to_dict()
        if self.empty:
            return fields | {"exponent": None, "counts": None}
        exponents = self._table[:, 0].tolist()
        counts = [
            _without_zeros(row[1 + np.arange(first, last + 1) % BINS])
            for row, first, last in zip(self._table, *self._ends(), strict=True)
        ]
        if self._axis is None:
            return fields | {"exponent": exponents[0], "counts": counts[0]}
        return fields | {"exponent": exponents, "counts": counts}

    def _fill(self, fields: dict[str, Any]) -> None:
        super()._fill(fields)
        exponents, counts = fields["exponent"], fields["counts"]
        if self.empty:
            if exponents is not None or counts is not None:
                raise ValueError("exponent and counts must be None where min and max are")
            return
        if self._axis is None:
            exponents, counts = [exponents], [counts]
        _listed(exponents, "exponent", (int,), 1)
        _listed(counts, "counts", (int,), 2)
        expected = _exponents(self._low, self._high)
        if exponents != expected.tolist():
            raise ValueError(f"exponent must be {expected.tolist()} for this min and max")
        if len(counts) != len(exponents):
            raise ValueError(f"counts must have {len(exponents)} channels, not {len(counts)}")
        self._table = np.zeros((len(exponents), 1 + BINS), np.int64)
        self._table[:, 0] = expected
        for row, short, first, last in zip(self._table, counts, *self._ends(), strict=True):
            row[1 + np.arange(first, last + 1) % BINS] = _with_zeros(short, int(last - first + 1))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": self._table.copy()}  # copies do not share it


def _parts(x: Array, axis: int | None) -> Iterator[tuple[Array, int | None]]:
    """`x` in pieces of about `_PART` elements, each with its channel axis."""
    if x.size <= _PART:
        yield x, axis
        return
    whole = np.ascontiguousarray(x)
    if axis is None:
        rows, step = whole.reshape(-1), _PART
    else:
        inner = int(np.prod(x.shape[axis + 1 :]))
        rows = whole.reshape(-1, x.shape[axis], inner)
        step, axis = max(1, _PART // rows[0].size), 1
    for start in range(0, len(rows), step):
        yield rows[start : start + step], axis


def _exponents(low: Any, high: Any) -> Array:
    """For each channel the least k with which [low, high] spans at most BINS bins of 2**k.

    And at least -126, and so large that no bin is narrower than 2**-24 of the largest magnitude.
    Each of these can only grow when a range does.
    """
    low, high = np.atleast_1d(low), np.atleast_1d(high)

    def exponent(x: Array) -> Array:  # of the power of two above it
        return np.where(x == 0, _LEAST_EXPONENT, np.frexp(x)[1].astype(np.int64))

    peak = exponent(np.maximum(np.abs(low), np.abs(high)))
    # high - low >= 2 ** extent, but for a rounding: with k two less the span is too wide
    extent = exponent(high / 2 - low / 2)
    k = np.maximum(np.maximum(peak - _DIGITS, _LEAST_EXPONENT), extent - BINS.bit_length() + 1)
    while True:
        too_many = bin_number(high, k) - bin_number(low, k) >= BINS
        if not too_many.any():
            return k
        k += too_many


# ---------------------------------------------------------------------------------------------
# Dictionaries


def _without_zeros(counts: Array) -> list[int]:
    """`counts` as a list, -n in place of n zeros; the first and the last are not zero."""
    filled = np.flatnonzero(counts)
    gaps = np.diff(filled) - 1
    short: list[int] = []
    for count, gap in zip(counts[filled].tolist(), [*gaps.tolist(), 0], strict=True):
        short.append(count)
        if gap:
            short.append(-gap)
    return short


def _with_zeros(short: list[int], size: int) -> Array:
    """The inverse of `_without_zeros`: `size` counts; ValueError where they are not."""
    plain = all(-BINS < number < 2**63 for number in short) and short and short[0] > 0 < short[-1]
    if not plain or 0 in short or sum(max(-n, 1) for n in short) != size or sum(short) >= 2**63:
        raise ValueError(f"counts must describe {size} bins, of which the first and last hold data")
    counts = np.array(short, np.int64)
    found = np.zeros(size, np.int64)
    places = np.cumsum(np.where(counts < 0, -counts, 1)) - 1
    found[places[counts > 0]] = counts[counts > 0]
    return found


def _listed(value: object, name: str, kinds: tuple[type, ...], depth: int) -> Any:
    """`value`, lists of `depth` levels that hold numbers of `kinds`; else a TypeError."""
    if depth and isinstance(value, list):
        for item in value:
            _listed(item, name, kinds, depth - 1)
        return value
    if depth or not isinstance(value, kinds) or isinstance(value, bool):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        shape = ("one", "a list of", "a list of lists of")[depth]
        raise TypeError(f"{name} must be {shape} {wanted}, not {type(value).__name__} {value!r:.60}")
    return value
