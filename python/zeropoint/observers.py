"""Calibration: observers that see data chunk by chunk and then choose the parameters.

An observer's state depends on the data it has seen and on nothing else: any split of the data, any
order of the chunks, any nesting of merges gives the same bits.  So the same code runs on one array,
on a stream, and on many workers whose observers are merged in the end.
"""

from __future__ import annotations

import abc
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Never, Self, Unpack

import numpy as np

from . import _backend, _checks, _clipping, _html, _reference
from ._choice import OBSERVE, SKIP, Choice, ChoiceKeywords, min_max, range_or_none, shows
from ._chunks import channel_copies
from ._params import QuantParams
from ._reference import BINS, Array, bin_number, bins_spanned, joined_bin, widen, working_dtype

__all__ = ["METHODS", "HistogramObserver", "MinMaxObserver"]

METHODS = ("minmax", "percentile", "mse", "entropy")  #: of `HistogramObserver.params`

_MIN_EXPONENT = -126  # of a bin's width; narrower ones would need subnormal arithmetic
_DIGITS = 24  # bins are never narrower than 2**-24 of the largest magnitude
_CHUNK = 1 << 21  # elements counted at a time, and counted again where the range outgrows the bins
_FEW = 128  # elements per channel that are counted one by one
_ROWS = 8  # channels whose ranges are searched at a time
_SOME = 128  # channels whose tables are joined at a time: 4 MiB each


class _Observer(abc.ABC):
    """Of both observers: the range, and how observers are compared, merged and written."""

    def __init__(self, *wrong: Never, axis: int | None = None, skip_nan: bool = False) -> None:
        if wrong:
            name = type(self).__name__
            raise TypeError(
                f"{name} takes axis and skip_nan, and those by keyword; the dtype of the codes "
                f"goes to params: {name}().update(x).params({_checks.shown(wrong[0])})"
            )
        self._axis = _checks.axis(axis)
        self._skip_nan = _checks.flag(skip_nan, "skip_nan")
        self._precision = np.dtype(np.float32)
        # float, or a float64 array of the channels, which holds both precisions; no data, of a
        # channel too where all of it is NaN, is the range that any other widens
        self._low: Any = np.inf
        self._high: Any = -np.inf

    @property
    def axis(self) -> int | None:
        """The channel axis."""
        return self._axis

    @property
    def skip_nan(self) -> bool:
        """Whether NaN are left out."""
        return self._skip_nan

    @property
    def _empty(self) -> bool:
        """Whether not even the number of channels is known."""
        return isinstance(self._low, float) and self._low > self._high

    @property
    def _ends(self) -> tuple[Array, Array]:
        """Minimum and maximum of each channel; of one where there is no axis."""
        return np.atleast_1d(self._low), np.atleast_1d(self._high)

    # -- the data -------------------------------------------------------------------------------

    @_backend.ieee
    def update(self, x: Any) -> Self:
        """Take in the elements of `x`; returns the observer itself.

        Parameters
        ----------
        x
            float16, bfloat16, float32 or float64, any shape and strides.  The first data fix the
            number of channels along `axis`.  No elements, no change.  With ``skip_nan=True`` NaN
            are left out, and a channel may have no others so far.

        Raises
        ------
        TypeError
            `x` is not of a supported float dtype.
        ValueError
            NaN or Inf in `x` (count and first index; with ``skip_nan=True`` Inf alone), another
            number of channels, or (AxisError) no such axis.  The observer is as it was before.
        """
        if type(x) is not np.ndarray or x.size == 0:
            x = _checks.real_array(x)
        if self._axis is not None:
            self._check_channels(x.shape[_checks.normal_axis(self._axis, x.ndim)], "x")
        if x.size:
            self._take(x)
        return self

    def _check_channels(self, found: int, what: str) -> None:
        if not isinstance(self._low, float) and self._low.size != found:
            raise ValueError(
                f"{what} has {found} channels along axis {self._axis}, the observer has seen "
                f"{self._low.size}; use one observer for each number of channels"
            )

    @abc.abstractmethod
    def _take(self, x: Array) -> None:
        """Take in the elements of an array that has some; its channels are checked."""

    def _range_of(self, x: Array, axis: int | None, whole: Array) -> tuple[Array, Array]:
        """Minimum and maximum of `x`, a chunk of `whole`, the channel axis counted from 0; Inf and
        -Inf of channels without data.  ValueError for NaN and Inf."""
        low, high = _backend.min_max(x, axis, None, self._skip_nan)
        self._check_finite(low, high, whole)
        return low, high

    def _check_finite(self, low: Array, high: Array, x: Array) -> None:
        """ValueError where [low, high] is of data with NaN or Inf, which `x` are."""
        if not np.all(((low > -np.inf) & (high < np.inf)) | (low > high)):
            more = "" if self._skip_nan else OBSERVE
            _checks.finite(x, "x", self._axis is not None, nan=self._skip_nan, more=more)

    def _include(self, low: Array, high: Array, precision: np.dtype[Any]) -> None:
        if self._skip_nan and not np.any(low <= high):
            precision = np.dtype(np.float32)  # no data
        if self._axis is None:
            self._low = min(self._low, low.item())
            self._high = max(self._high, high.item())
        else:
            self._low = np.minimum(self._low, low, dtype=np.float64)
            self._high = np.maximum(self._high, high, dtype=np.float64)
        if precision is not self._precision:
            self._precision = np.promote_types(self._precision, precision)

    @_backend.ieee
    def merge(self, other: Self) -> Self:
        """Take in all that `other` has seen, as if its data had come here; returns the observer.

        `other` stays as it is.  Merged with itself, an observer has seen its data twice.

        Raises
        ------
        TypeError
            `other` is not an observer of the same class.
        ValueError
            `other` has another axis, number of channels or `skip_nan`, or the two have seen more
            than 2^63 - 1 elements.  The observer is as it was before.
        """
        if type(other) is not type(self):
            raise TypeError(
                f"other is a {type(other).__name__}; a {type(self).__name__} can only be merged "
                "with another"
            )
        for name in ("axis", "skip_nan"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"other has {name} {theirs}, this observer {mine}; make both with the same "
                    f"{name}"
                )
        if not other._empty:
            self._check_channels(np.size(other._low), "other")
            self._join(other)
        return self

    def _join(self, other: Self) -> None:
        self._include(np.asarray(other._low), np.asarray(other._high), other._precision)

    @_backend.ieee
    def _side_by_side(self, observers: Sequence[Self]) -> Self:
        """Take in observers of consecutive channels, none of them empty; this one is."""
        lows, highs = ([getattr(each, end) for each in observers] for end in ("_low", "_high"))
        precision = functools.reduce(np.promote_types, [each._precision for each in observers])
        self._include(np.concatenate(lows), np.concatenate(highs), precision)
        return self

    def _range(self) -> tuple[Array, Array]:
        """Minimum and maximum in the precision of the data."""
        if self._empty:
            raise ValueError("the observer has seen no data; call update first")
        without = self._low > self._high
        if np.any(without):
            raise ValueError(
                f"the observer has seen no data of channel {int(np.argmax(without))} along axis "
                f"{self._axis} but NaN; update it with some, or leave the channel out"
            )
        return np.asarray(self._low, self._precision), np.asarray(self._high, self._precision)

    # -- value ----------------------------------------------------------------------------------

    def _state(self) -> tuple[Any, ...]:
        ends = np.asarray(self._low), np.asarray(self._high)
        shared = self._axis, self._skip_nan, self._precision.name, ends[0].shape
        return (*shared, *(end.tobytes() for end in ends))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Observer) or type(other) is not type(self):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # an observer changes

    def __repr__(self) -> str:
        given = [] if self._axis is None else [f"axis={self._axis}"]
        given += ["skip_nan=True"] * self._skip_nan
        seen = "no data yet" if self._empty else self._seen()
        return f"<{type(self).__name__}({', '.join(given)}): {seen}>"

    def _seen(self) -> str:
        channels = "" if self._axis is None else f"{self._low.size} channels, "
        if without := int(np.count_nonzero(self._low > self._high)):
            channels += f"{without} of them without data, "
            if without == np.size(self._low):
                return channels[:-2]
        return f"{channels}min {np.min(self._low)}, max {np.max(self._high)}"

    def _repr_html_(self) -> str:
        """The same as a table."""
        return _html.table(self._facts(), caption=type(self).__name__, left=(1,))

    def _facts(self) -> list[tuple[str, object]]:
        facts: list[tuple[str, object]] = [("axis", self._axis), ("skip_nan", self._skip_nan)]
        if self._empty:
            return [*facts, ("seen", "no data yet")]
        if self._axis is not None:
            facts.append(("channels", self._low.size))
        if without := int(np.count_nonzero(self._low > self._high)):
            facts.append(("channels without data", without))
        if without < np.size(self._low):
            low, high = np.min(self._low), np.max(self._high)
            facts += [
                (name, self._precision.type(end)) for name, end in (("min", low), ("max", high))
            ]
        return facts

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact."""
        return {
            "observer": type(self).__name__,
            "axis": self._axis,
            "skip_nan": self._skip_nan,
            "precision": self._precision.name,
            "min": None if self._empty else _finite_or_none(self._low),
            "max": None if self._empty else _finite_or_none(self._high),
        }

    @classmethod
    @_backend.ieee
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
        _checks.name(fields["precision"], "precision", ("float32", "float64"))
        self = cls(axis=fields["axis"], skip_nan=fields["skip_nan"])
        self._fill(fields)
        return self

    def _fill(self, fields: dict[str, Any]) -> None:
        """The data of a dictionary whose keys and names are checked."""
        precision = np.dtype(fields["precision"])
        if fields["min"] is None and fields["max"] is None:
            _checks.name(precision.name, "precision of no data", ("float32",))
            return
        depth = 0 if self._axis is None else 1
        none = depth == 1 and self._skip_nan  # of a channel without data
        low, high = (
            _ends_from(fields[name], name, depth, precision, nothing if none else None)
            for name, nothing in (("min", np.inf), ("max", -np.inf))
        )
        if low.shape == high.shape and np.any(np.isinf(low) != np.isinf(high)):
            raise ValueError("min and max must be None for the same channels")
        if low.shape != high.shape or low.size == 0 or np.any((low > high) & (low < np.inf)):
            raise ValueError("min and max must have one length, and no min may exceed its max")
        if np.all(low > high):
            _checks.name(precision.name, "precision of no data", ("float32",))
        self._include(low, high, precision)


class MinMaxObserver(_Observer):
    """Remembers minimum and maximum, per tensor or per channel.

    `params` gives what `choose_params` gives for all the data at once, to the bit.  `update` and
    `merge` are associative and commutative to the bit.  An observer is not for several threads at
    once: give each thread one of its own and merge them.

    Parameters
    ----------
    axis
        The channel axis, which is kept; it may be negative, and then data of any rank may come.
        None: one range for all.
    skip_nan
        Leave NaN out, which else is an error, as Inf always is.  The observer is to the bit as if
        they had never been in the data.
    """

    def _take(self, x: Array) -> None:
        if self._skip_nan:
            low, high = range_or_none(_checks.real_array(x), self._axis, None, skip_nan=True)
        else:
            try:
                low, high = min_max(x, channel_axis=self._axis)
            except ValueError as error:
                raise ValueError(str(error).replace(SKIP, OBSERVE)) from None
        self._include(low, high, low.dtype)

    @shows(ChoiceKeywords)
    @_backend.ieee
    def params(self, dtype: Any = "uint8", **keywords: Unpack[ChoiceKeywords]) -> QuantParams:
        """The parameters for the data seen; keywords and errors are those of `choose_params`.

        No data: ValueError.
        """
        choice = Choice.of(MinMaxObserver.params, dtype, keywords)
        return choice.params(*self._range(), self._axis)


class HistogramObserver(_Observer):
    """Counts the elements by bins, per tensor or per channel, and chooses the range by a method.

    Bins are 2**k wide and lie between multiples of 2**k; k is the smallest integer with which the
    data seen span at most 4096 bins (for each channel its own).  Counts are integers, and when the
    range grows bins join in pairs, so the histogram is the same as if they had been wide from the
    start.  Zeros have a bin of their own.  `update` and `merge` are associative and commutative to
    the bit.  As with `MinMaxObserver`, each thread has an observer of its own.

    Parameters
    ----------
    axis
        The channel axis, as in `MinMaxObserver`.  A channel takes 32 KiB.
    skip_nan
        Leave NaN out, as in `MinMaxObserver`.
    """

    def __init__(self, *wrong: Never, axis: int | None = None, skip_nan: bool = False) -> None:
        super().__init__(*wrong, axis=axis, skip_nan=skip_nan)
        # a row per channel: k, and how many elements are in bin t, at 1 + t % BINS
        self._table = np.zeros((0, 1 + BINS), np.int64)

    def _take(self, x: Array) -> None:
        x = _checks.real_array(x)
        if not self._empty and x.size < _FEW * len(self._table):
            self._count_few(x)
            return
        chunks = _chunks(x, self._axis)
        first, second = next(chunks), next(chunks, None)
        if second is None:
            self._count(*first, x)
            return
        # a NaN may turn up in the last chunk
        fresh = type(self)(axis=self._axis, skip_nan=self._skip_nan)
        for chunk in itertools.chain([first, second], chunks):
            fresh._count(*chunk, x)
        if not fresh._empty:
            self._absorb(fresh)

    def _take_clipped(self, x: Array, low: Array, high: Array) -> None:
        """Take in finite `x`, clipped to [low, high]: numbers, or an array of the channels each."""
        for chunk, axis in channel_copies(x, self._axis, _CHUNK):
            clipped = np.clip(widen(chunk), low, high).astype(low.dtype)
            self._count(clipped, axis, clipped)

    def _count_few(self, x: Array) -> None:
        """Take in elements so few that a table of their own would take longer."""
        axis = None if self._axis is None else _checks.normal_axis(self._axis, x.ndim)
        low, high = (np.atleast_1d(end) for end in self._range_of(x, axis, x))
        self._reach(low, high)
        self._include(low, high, working_dtype(x.dtype))
        exponents, rows = (
            _reference.spread(each, x.shape, axis, None)
            for each in (self._table[:, 0], np.arange(len(self._table)))
        )
        x, counts = widen(x), np.ones((), np.int64)
        if self._skip_nan:
            present = ~np.isnan(x)
            x, counts = np.where(present, x, x.dtype.type(0)), present.astype(np.int64)
        places = bin_number(x, exponents).astype(np.int64) % BINS
        np.add.at(self._table, (rows, 1 + places), counts)

    def _count(self, chunk: Array, axis: int | None, whole: Array) -> None:
        """Take in a chunk of `whole`, in one pass unless its range needs wider bins."""
        if self._empty:
            low, high = self._range_of(chunk, axis, whole)
            if np.ndim(low) == 0 and low > high:
                return  # all of it NaN
            exponents = _exponents(low, high)
        else:
            exponents = self._table[:, 0].copy()
        while True:
            low, high, table = self._histogram(chunk, axis, exponents, whole)
            if self._empty:
                break
            if self._holds(low, high):  # as most data do: neither range nor bins change
                self._include(low, high, working_dtype(chunk.dtype))
                self._table[:, 1:] += table[:, 1:]
                return
            needed = _exponents(low, high)
            if (needed <= exponents).all():
                break
            exponents = np.maximum(needed, exponents)
        self._add(low, high, working_dtype(chunk.dtype), table)

    def _histogram(
        self, chunk: Array, axis: int | None, exponents: Array, whole: Array
    ) -> tuple[Array, Array, Array]:
        """`_backend.histogram` without NaN, Inf and -Inf the range of channels that have no data.

        ValueError for Inf, and for NaN unless they are skipped.
        """
        low, high, table = _backend.histogram(chunk, axis, exponents)
        if not np.isnan(low).any():
            return low, high, table
        # NaN or Inf.  A minimum in the place of each NaN changes no range, and one bin's count.
        low, high = (np.atleast_1d(end) for end in self._range_of(chunk, axis, whole))
        missing = np.isnan(widen(chunk))
        inside = np.where(low > high, low.dtype.type(0), low)
        filler = _reference.spread(inside, chunk.shape, axis, None).astype(chunk.dtype)
        _, _, table = _backend.histogram(np.where(missing, filler, chunk), axis, exponents)
        others = tuple(i for i in range(chunk.ndim) if i != axis)
        with np.errstate(invalid="ignore"):  # of bins so narrow that all is counted again
            bins = bin_number(inside.astype(np.float64), exponents).astype(np.int64) % BINS
        table[np.arange(len(table)), 1 + bins] -= np.count_nonzero(missing, axis=others)
        return low.astype(np.float64), high.astype(np.float64), table

    def _holds(self, low: Array, high: Array) -> bool:
        """Whether [low, high] lies in the range so far; not if it is NaN."""
        if self._axis is None:  # fast, as chunks are small
            return bool(self._low <= low.item() and high.item() <= self._high)
        # float64 on both sides: a Python float beside a float32 array would be rounded to float32
        low, high = low.astype(np.float64), high.astype(np.float64)
        return bool((low >= self._low).all() and (high <= self._high).all())

    def _side_by_side(self, observers: Sequence[Self]) -> Self:
        self._table = np.concatenate([each._table for each in observers])
        return super()._side_by_side(observers)

    def _join(self, other: Self) -> None:
        if not self._empty:
            for rows in _rows_of(self._table):
                mine, theirs = (
                    table[rows, 1:].sum(axis=1).astype(np.uint64)
                    for table in (self._table, other._table)
                )
                if (mine + theirs >= 2**63).any():
                    raise ValueError(
                        "other has too many elements: counts go to 2**63 - 1 per channel"
                    )
        self._absorb(other)

    def _absorb(self, other: Self) -> None:
        """As `_join`, of counts that do not overflow.

        Some channels at a time, so that Ctrl-C is answered, and not in place, so that it leaves the
        observer as it was.
        """
        ends = other._ends
        joined = np.empty_like(other._table)
        if self._empty:
            for rows in _rows_of(joined):
                joined[rows] = other._table[rows]
        else:
            before, exponents = self._ends, self._table[:, 0]
            if not self._holds(*ends):
                exponents = self._exponents_with(*ends)
            for rows in _rows_of(joined):
                mine, theirs = self._table[rows].copy(), other._table[rows].copy()
                _widen(mine, before[0][rows], before[1][rows], exponents[rows])
                _widen(theirs, ends[0][rows], ends[1][rows], exponents[rows])
                theirs[:, 1:] += mine[:, 1:]
                joined[rows] = theirs
        self._include(*ends, other._precision)
        self._table = joined

    def _add(self, low: Array, high: Array, precision: np.dtype[Any], table: Array) -> None:
        """Take in the counts of data in [low, high]; `table` is used up."""
        if self._empty:
            self._include(low, high, precision)
            self._table = table
            return
        self._reach(low, high)
        self._include(low, high, precision)
        _widen(table, low, high, self._table[:, 0])
        self._table[:, 1:] += table[:, 1:]

    def _reach(self, low: Array, high: Array) -> None:
        """Make the bins wide enough for [low, high] too; there are data already."""
        if not self._holds(low, high):
            _widen(self._table, *self._ends, self._exponents_with(low, high))

    def _exponents_with(self, low: Array, high: Array) -> Array:
        """The exponents for the range so far and [low, high]."""
        return _exponents(np.minimum(self._ends[0], low), np.maximum(self._ends[1], high))

    @shows(ChoiceKeywords)
    @_backend.ieee
    def params(
        self,
        dtype: Any = "uint8",
        *,
        method: str = "mse",
        percentile: float = 99.99,
        **keywords: Unpack[ChoiceKeywords],
    ) -> QuantParams:
        """The parameters for the data seen; what lies beyond the chosen range saturates.

        Parameters
        ----------
        dtype
            ``"uint8"`` or ``"int8"``: the type of the codes.
        method
            How the range is chosen, for each channel by itself:

            ``"minmax"``: all of it; the parameters of `choose_params` to the bit.

            ``"percentile"``: from the percentile ``100 - percentile`` to the percentile
            ``percentile``, each found within its bin; minmax where both are 0, as in data of which
            hardly any are not.  Wu et al., "Integer Quantization for Deep
            Learning Inference: Principles and Empirical Evaluation" (2020).

            ``"mse"``: with the smallest mean squared error of the quantized data, as far as the
            histogram shows it; minmax or the percentile 99.99 where the range found is not surely
            better.  A search over ranges, as in Nagel et al., "A White Paper on
            Neural Network Quantization" (2021), section 3.1.

            ``"entropy"``: with the smallest Kullback-Leibler divergence of the quantized data from
            the data.  Migacz, "8-bit Inference with TensorRT" (GTC 2017).
        percentile
            For the method of that name: more than 50, at most 100, which is minmax.
        **keywords
            How scale and zero point follow from the range: those of `choose_params`.

        Raises
        ------
        ValueError
            No data; an unknown method; what `choose_params` raises.
        """
        _checks.name(method, "method", METHODS)
        percent = _percent(percentile)
        choice = Choice.of(HistogramObserver.params, dtype, keywords)
        low, high = self._range()
        if method != "minmax":
            with np.errstate(all="ignore"):  # an error that overflows is never the smallest
                found = [
                    self._clipped(rows, method, percent, choice)
                    for rows in _rows_of(self._table, _ROWS)
                ]
                ends = np.concatenate(found, axis=1).astype(low.dtype)
            new_low, new_high = (end.reshape(low.shape) for end in ends)
            # where the ends coincide, at 0 or without 0 in the range, there is no scale; that is
            # so if all data are one value, and if all but few are
            widened = choice.include_zero and not choice.has_offset
            fine = (new_low < new_high) | ((new_low != 0) & widened)
            low, high = np.where(fine, new_low, low), np.where(fine, new_high, high)
        return choice.params(low, high, self._axis)

    def _clipped(self, rows: slice, method: str, percent: float, choice: Choice) -> _clipping.Range:
        """The range that a method finds for some channels."""
        # each in a unit of its own: squares of large numbers would overflow
        low, high = self._ends
        unit = _exponent_above(np.maximum(-low, high)[rows])
        h = self._histograms(rows, unit)
        if method == "percentile":
            low, high = _clipping.percentile(h, percent)
        else:
            searched, steps = h, choice.qmax - choice.qmin
            if choice.symmetric:  # the range is that of the magnitudes
                centre = (choice.qmin + choice.qmax + 1) // 2
                searched = self._histograms(rows, unit, magnitudes=True)
                steps = min(choice.qmax - centre, centre - choice.qmin)
            if method == "entropy":
                low, high = _clipping.entropy(searched, steps + 1)
            else:
                levels = functools.partial(self._levels, unit, choice)
                widened = choice.include_zero and not choice.has_offset
                low, high = _clipping.mse(h, searched, widened, levels)
        return np.ldexp(low, unit), np.ldexp(high, unit)

    def _levels(self, unit: Array, choice: Choice, low: Array, high: Array) -> _clipping.Levels:
        """The values of the codes if [low, high] is chosen."""
        low, high = (np.ldexp(end, unit).astype(self._precision) for end in (low, high))
        if choice.has_offset:
            return self._levels_by_offset(unit, choice, low, high)
        scale, zero = _reference.choose(low, high, **choice.keywords)
        scale = np.ldexp(scale.astype(np.float64), -unit)
        ends = choice.qmin - zero, choice.qmax - zero
        return _clipping.Levels(scale, *ends, np.zeros(scale.shape))

    @staticmethod
    def _levels_by_offset(unit: Array, choice: Choice, low: Array, high: Array) -> _clipping.Levels:
        how = {name: getattr(choice, name) for name in ("qmin", "qmax", "convention")}
        kept, offset = _reference.choose_by_offset(low, high, **how)
        steps, by_span = choice.qmax - choice.qmin, choice.convention in _reference.BY_SPAN
        scale = _reference.scale_of(kept, choice.convention, steps).astype(np.float64)
        scale = np.where(scale == 0, 1, scale)
        shift = offset / scale + (0.5 if by_span else 0)
        first, last = (0, steps) if by_span else (choice.qmin, choice.qmax)
        lowest, highest = (np.full(scale.shape, end, np.float64) for end in (first, last))
        return _clipping.Levels(np.ldexp(scale, -unit), lowest, highest, shift)

    def _histograms(
        self, rows: slice, unit: Array, magnitudes: bool = False
    ) -> _clipping.Histograms:
        """Some channels' bins in order, or those of abs(x); edges in units of 2**unit."""
        exponents, counts = self._table[rows, :1], self._table[rows, 1:]
        first, last = (ends[rows, None] for ends in self._bins())
        low, high = (end[rows] for end in self._ends)

        def count(bins: Array) -> Array:
            found = np.take_along_axis(counts, bins % BINS, axis=1)
            return np.where((first <= bins) & (bins <= last), found, 0)

        if magnitudes:
            start, end = _clipping.magnitudes(first, last)
            bins = start + np.arange((end - start).max() + 1)
            found = count(bins) + np.where(bins > 0, count(-bins), 0)
            low, high = _clipping.magnitudes(low, high)
        else:
            bins = first + np.arange((last - first).max() + 1)
            found = count(bins)
        low, high = (np.ldexp(end, -unit)[:, None] for end in (low, high))
        upper = np.ldexp((bins + (bins < 0)).astype(np.float64), exponents - unit[:, None])
        edges = np.concatenate([low, np.minimum(upper, high)], axis=1)
        return _clipping.Histograms(edges, found)

    # -- value ----------------------------------------------------------------------------------

    def _state(self) -> tuple[Any, ...]:
        return (*super()._state(), self._table.tobytes())

    def _seen(self) -> str:
        return f"{self._table[:, 1:].sum()} elements, {super()._seen()}"

    def _facts(self) -> list[tuple[str, object]]:
        return [*super()._facts(), ("elements", self._table[:, 1:].sum())]

    def _repr_html_(self) -> str:
        shown = super()._repr_html_()
        if self._axis is not None or self._empty:
            return shown
        (first,), (last,) = self._bins()
        counts = self._table[0, 1 + np.arange(first, last + 1) % BINS]
        label = f"Histogram of {counts.sum()} elements from {self._low} to {self._high}"
        return shown + _html.histogram_svg(counts, label)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": self._table.copy()}  # which copies do not share

    @_backend.ieee
    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact.

        A channel's ``counts`` go from the bin of min to the bin of max.  Bin 0 holds the zeros, bin
        t > 0 what is in [t - 1, t) times ``2**exponent``, bin -t the same negated.  A negative
        number stands for so many empty bins.  Of a channel without data, min and max are None.
        """
        fields = super().to_dict()
        if self._empty:
            return fields | {"exponent": None, "counts": None}
        exponents = self._table[:, 0].tolist()
        counts = [
            _without_zeros(row[1 + np.arange(first, last + 1) % BINS])
            for row, first, last in zip(self._table, *self._bins(), strict=True)
        ]
        if self._axis is None:
            return fields | {"exponent": exponents[0], "counts": counts[0]}
        return fields | {"exponent": exponents, "counts": counts}

    def _bins(self) -> tuple[Array, Array]:
        """The first and the last bin of each channel; without data the last is before the first."""
        low, high = self._ends
        none = low > high
        first, last = (
            bin_number(np.where(none, 0, end), self._table[:, 0]).astype(np.int64)
            for end in (low, high)
        )
        return first, last - none

    def _fill(self, fields: dict[str, Any]) -> None:
        super()._fill(fields)
        exponents, counts = fields["exponent"], fields["counts"]
        if self._empty:
            if exponents is not None or counts is not None:
                raise ValueError("exponent and counts must be None where min and max are")
            return
        if self._axis is None:
            exponents, counts = [exponents], [counts]
        _numbers(exponents, "exponent", 1, int)
        _numbers(counts, "counts", 2, int)
        expected = _exponents(*self._ends)
        if exponents != expected.tolist():
            raise ValueError(f"exponent must be {expected.tolist()} for this min and max")
        if len(counts) != len(exponents):
            raise ValueError(f"counts must have {len(exponents)} channels, not {len(counts)}")
        self._table = np.zeros((len(exponents), 1 + BINS), np.int64)
        self._table[:, 0] = expected
        for row, short, first, last in zip(self._table, counts, *self._bins(), strict=True):
            if last < first and short:
                raise ValueError("counts must be empty where min and max are None")
            if last < first:
                continue
            row[1 + np.arange(first, last + 1) % BINS] = _with_zeros(short, int(last - first + 1))


# ---------------------------------------------------------------------------------------------
# Bins


def _chunks(x: Array, axis: int | None) -> Iterator[tuple[Array, int | None]]:
    """`x` in contiguous chunks of about `_CHUNK` elements, each with its channel axis."""
    if axis is not None:
        axis = _checks.normal_axis(axis, x.ndim)
    if not x.flags.c_contiguous:
        yield from channel_copies(x, axis, _CHUNK)
        return
    if axis is None:
        x = x.reshape(-1)
    else:
        x, axis = x.reshape(-1, x.shape[axis], math.prod(x.shape[axis + 1 :])), 1
    step = max(1, _CHUNK // math.prod(x.shape[1:]))
    for start in range(0, len(x), step):
        yield x[start : start + step], axis


def _exponents(low: Array, high: Array) -> Array:
    """For each channel the smallest k with which [low, high] spans at most BINS bins of 2**k.

    At least -126, and no bin is narrower than 2**-24 of the largest magnitude.  All three bounds
    grow with the range.  Without data, from Inf to -Inf, it is -126.
    """
    none = low > high
    low, high = np.where(none, 0, low), np.where(none, 0, high)
    if np.size(low) == 1:
        ends = (np.asarray(end).item() for end in (low, high))
        return np.array([_exponent(*ends)], np.int64)
    low, high = np.atleast_1d(low).astype(np.float64), np.atleast_1d(high).astype(np.float64)
    magnitude = _exponent_above(np.maximum(-low, high))
    extent = _exponent_above(high / 2 - low / 2)  # high - low >= 2**extent, before it was rounded
    enough = np.maximum(magnitude - _DIGITS, extent - BINS.bit_length() + 1)
    k = np.asarray(np.maximum(enough, _MIN_EXPONENT))
    while (more := bins_spanned(low, high, k) > BINS).any():
        k += more
    return k


def _exponent(low: float, high: float) -> int:
    """The same for one channel, without NumPy, which takes longer than small data."""

    def above(x: float) -> int:
        return math.frexp(x)[1] if x else _MIN_EXPONENT

    def number(x: float, k: int) -> int:
        return int(math.ldexp(x, -k)) + (x > 0) - (x < 0)

    enough = above(max(-low, high)) - _DIGITS, above(high / 2 - low / 2) - BINS.bit_length() + 1
    k = max(*enough, _MIN_EXPONENT)
    while number(high, k) - number(low, k) + 1 > BINS:
        k += 1
    return k


def _exponent_above(x: Array) -> Array:
    """The exponents of the first powers of two above x, as int64; a small one where x is 0."""
    return np.asarray(np.where(x == 0, _MIN_EXPONENT, np.frexp(x)[1].astype(np.int64)))


def _widen(table: Array, low: Array, high: Array, exponents: Array) -> None:
    """Join the bins of a table into bins of 2**exponents; its data are in [low, high]."""
    for channel in (exponents > table[:, 0]).nonzero()[0]:
        row, exponent = table[channel], exponents[channel]
        if low[channel] > high[channel]:  # no data
            row[0] = exponent
            continue
        first, last = (int(bin_number(end[channel], row[0])) for end in (low, high))
        bins = np.arange(first, last + 1)
        joined = joined_bin(bins, exponent - row[0])
        counts = row[1 + bins % BINS]
        row[0], row[1:] = exponent, 0
        np.add.at(row, 1 + joined % BINS, counts)


def _rows_of(table: Array, some: int = _SOME) -> Iterator[slice]:
    """Some channels at a time: `_SOME` take a few ms."""
    for start in range(0, len(table), some):
        yield slice(start, start + some)


def _percent(value: Any) -> float:
    if not 50 < _checks.number(value, "percentile") <= 100:
        raise ValueError(f"percentile {value} must be more than 50 and at most 100; try 99.99")
    return float(value)


# ---------------------------------------------------------------------------------------------
# Dictionaries


def _finite_or_none(ends: Any) -> Any:
    """`min` or `max` for a dictionary: None where a channel has no data."""
    if isinstance(ends, float):
        return ends
    return [end if math.isfinite(end) else None for end in ends.tolist()]


def _ends_from(
    value: object, name: str, depth: int, precision: np.dtype[Any], nothing: float | None
) -> Array:
    """`min` or `max` of a dictionary as a float64 array, `nothing` where it has None.

    None is an error where that is None.
    """
    none = np.zeros(0, bool)
    if nothing is not None and isinstance(value, list):
        none = np.array([end is None for end in value], bool)
        value = [0 if end is None else end for end in value]
    _numbers(value, name, depth, int, float)
    try:
        found = np.asarray(value, np.float64) + 0  # and -0 is +0
    except OverflowError:
        raise ValueError(f"{name} is beyond float64") from None
    with np.errstate(all="ignore"):
        exact = np.isfinite(found) & (found.astype(precision) == found)
    if not exact.all():
        raise ValueError(f"{name} must be finite and of {precision}, not {_checks.shown(value)}")
    if none.any():
        found[none] = nothing
    return found


def _numbers(value: object, name: str, depth: int, *kinds: type) -> None:
    """TypeError unless `value` is one of `kinds`, or lists of `depth` levels of such."""
    if depth and isinstance(value, list):
        for item in value:
            _numbers(item, name, depth - 1, *kinds)
    elif depth or not isinstance(value, kinds) or isinstance(value, bool):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        wanted = f"{'lists of ' * (depth - 1)}{'a list of ' if depth else ''}{wanted}"
        raise TypeError(
            f"{name} must be {wanted}, not {type(value).__name__} {_checks.shown(value)}"
        )


def _without_zeros(counts: Array) -> list[int]:
    """`counts` as a list with -n in place of n zeros; the first and the last are not zero."""
    filled = np.flatnonzero(counts)
    if filled.size == 0:  # a channel without data
        return []
    gaps = [*(np.diff(filled) - 1).tolist(), 0]
    short: list[int] = []
    for count, gap in zip(counts[filled].tolist(), gaps, strict=True):
        short += [count, -gap] if gap else [count]
    return short


def _with_zeros(short: list[int], size: int) -> Array:
    """The inverse of `_without_zeros`; ValueError unless it has `size` elements."""
    total = sum(n for n in short if n > 0)
    filled = short and short[0] > 0 < short[-1] and 0 not in short
    if not filled or sum(max(-n, 1) for n in short) != size or total >= 2**63:
        raise ValueError(
            f"counts must describe {size} bins for this min and max, the first and last not empty"
        )
    counts = np.array(short, np.int64)
    found = np.zeros(size, np.int64)
    places = np.cumsum(np.where(counts < 0, -counts, 1)) - 1
    found[places[counts > 0]] = counts[counts > 0]
    return found
