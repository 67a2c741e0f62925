"""How parameters are chosen: the keywords, checked once, and the functions that take them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, get_type_hints

import numpy as np

from . import _backend, _checks, _conventions, _reference
from ._params import OffsetParams, QuantParams, quantize
from ._reference import Array

RULES = ("max", "min", "least_error")
_FIXED = (int, type(None))
_CODES = ("qmin", "qmax", "nan_code")
SKIP = "pass skip_nan=True to leave out NaN, or "  #: in the error for NaN
#: the same where another call has the keyword
OBSERVE = "observe with skip_nan=True to leave out NaN, or "


class ChoiceKeywords(TypedDict, total=False):
    """How scale and zero point follow from a range; the defaults are those of `Choice`."""

    zero_point_from: str | None
    include_zero: bool
    symmetric: bool
    qmin: int | None
    qmax: int | None
    convention: str
    nan_code: int | None


class ParamsKeywords(ChoiceKeywords, total=False):
    """And how many ranges there are, None being one for all; and whether NaN are left out."""

    axis: int | None
    block_size: int | None
    skip_nan: bool


@_checks.initialised_once
@dataclass(frozen=True)
class Choice:
    """The checked keywords; `zeropoint.choose_params` explains them.

    The names and the order of the first fields are those of `_reference.choose`, and of the core's
    `Choice`.
    """

    dtype: Any = "uint8"  #: a numpy.dtype once checked
    zero_point_from: str | None = None
    include_zero: bool = True
    symmetric: bool = False
    qmin: Any = None  #: an int once checked
    qmax: Any = None
    convention: str = "numpy"  #: the canonical name once checked
    nan_code: Any = None  #: an int once checked, outside [qmin, qmax]
    native: Any = field(init=False, repr=False, compare=False)  #: the core's form, None without

    @staticmethod
    def of(function: Callable[..., Any], dtype: Any, keywords: ChoiceKeywords) -> Choice:
        """The choice of a call of `function`; cached, as checks take longer than a small array."""
        try:
            # a tensor is an integer too, whose value may change
            if not keywords or all(type(keywords.get(name)) in _FIXED for name in _CODES):
                return _remembered(dtype, **keywords)
        except TypeError:  # unhashable; or wrong, which is explained here or by the constructor
            pass
        known = [p.name for p in _parameters(function) if p.kind is p.KEYWORD_ONLY]
        for name in keywords:
            if name not in known:
                raise TypeError(
                    f"{function.__qualname__} has no keyword {name!r}; it has {', '.join(known)}"
                )
        return Choice(dtype, **keywords)

    def __post_init__(self) -> None:
        offset, rule = _conventions.has_offset(self.convention), self.zero_point_from
        canonical = _conventions.canonical_offset if offset else _conventions.canonical
        convention = canonical(self.convention)
        dtype = _checks.code_dtype(self.dtype)
        qmin, qmax, nan_code = _checks.code_range(self.qmin, self.qmax, dtype, self.nan_code)
        include_zero = _checks.flag(self.include_zero, "include_zero")
        symmetric = _checks.flag(self.symmetric, "symmetric")
        if rule is not None:
            _checks.name(
                rule, "zero_point_from", RULES, ", or None for the convention's default rule"
            )
        unusual = (
            ("zero_point_from", rule, rule is not None),
            ("symmetric", symmetric, symmetric),
            ("include_zero", include_zero, not include_zero),
        )
        for name, given, matters in unusual:
            if offset and matters:
                raise ValueError(
                    f"{name}={given!r} chooses a zero point, which the {convention} convention has "
                    "not: it takes the range as it is; leave it out"
                )
        if symmetric and rule is not None:
            raise ValueError(
                f"symmetric=True fixes the zero point, so zero_point_from {rule!r} cannot apply; "
                "leave one of them out"
            )
        if symmetric and not include_zero:
            raise ValueError(
                "symmetric=True always holds 0, so include_zero=False cannot apply; leave one out"
            )
        if not offset:
            _checks.zero_included(include_zero, self.convention, convention)
        if symmetric and qmax - qmin < 2:
            raise ValueError(f"symmetric=True needs at least three codes; [{qmin}, {qmax}] has two")
        # in place of what was given: numpy.bool_ becomes bool, an alias the canonical name
        self.__dict__.update(dtype=dtype, include_zero=include_zero, symmetric=symmetric)
        self.__dict__.update(qmin=qmin, qmax=qmax, convention=convention, nan_code=nan_code)
        recipe = *self.keywords.values(), nan_code
        self.__dict__["native"] = None if offset else _backend.native_choice(*recipe)

    @property
    def keywords(self) -> dict[str, Any]:
        """Those of `_reference.choose`."""
        names = (each.name for each in fields(self) if each.init and each.name != "nan_code")
        return {name: getattr(self, name) for name in names}

    @property
    def has_offset(self) -> bool:
        """Whether `params` gives an OffsetParams."""
        return _conventions.has_offset(self.convention)

    @_backend.ieee
    def params(
        self,
        low: Array,
        high: Array,
        axis: int | None = None,
        block_size: int | None = None,
        length: int | None = None,
    ) -> QuantParams | Any:
        """The parameters for data in [low, high]: float arrays in the shape of the parameters.

        `length` is that of the last axis of the data, where it is known: faiss' arithmetic depends
        on it.
        """
        if self.has_offset:
            return self._offset_params(low, high, axis, block_size, length)
        constant = low == high
        if not self.include_zero and np.any(constant):
            value = low[np.unravel_index(int(np.argmax(constant)), low.shape)]
            raise ValueError(
                f"x is constant ({value}), so its range has no steps with include_zero=False; "
                "use include_zero=True"
            )
        scale, zero = _backend.choose(low, high, self.native, **self.keywords)
        if not np.isfinite(scale).all():
            raise ValueError(
                f"the range of x is too wide: (max - min) / {self.qmax - self.qmin} is beyond "
                f"{scale.dtype}; scale x down, or use more codes"
            )
        int32 = _checks.INT32
        outside = ~((zero >= int32.min) & (zero <= int32.max))
        if outside.any():
            value = zero[np.unravel_index(int(np.argmax(outside)), zero.shape)]
            raise ValueError(
                f"the zero point would be {value}, beyond int32: x lies too far from 0 for its "
                "range; use include_zero=True, or subtract the mean first"
            )
        shared = ("dtype", "qmin", "qmax", "convention", "include_zero", "nan_code")
        recipe = {name: getattr(self, name) for name in shared}
        return QuantParams(scale, zero.astype(np.int32), axis=axis, block_size=block_size, **recipe)

    def _offset_params(
        self, low: Array, high: Array, axis: int | None, block_size: int | None, length: int | None
    ) -> OffsetParams:
        with np.errstate(all="ignore"):
            wide = ~np.isfinite(high - low)
        finer = "" if low.dtype == np.float64 else ", or convert it to float64"
        if wide.any():
            raise ValueError(
                f"the range of x is too wide: max - min is beyond {low.dtype}; scale x down{finer}"
            )
        how = {name: getattr(self, name) for name in ("qmin", "qmax", "convention")}
        kept, offset = _reference.choose_by_offset(low, high, **how)
        if not np.isfinite(offset).all():
            raise ValueError(
                f"the range of x lies too far from 0: min - {self.qmin} * scale is beyond "
                f"{low.dtype}; scale x down{finer}, or use codes from 0 on"
            )
        fused = None
        if self.convention == "faiss" and length is not None:
            fused = low.dtype == np.float32 and length % 8 == 0
        recipe = how | {"axis": axis, "block_size": block_size, "fused": fused}
        recipe |= {"dtype": self.dtype, "nan_code": self.nan_code}
        return OffsetParams._made(kept, offset, recipe)


_remembered = functools.lru_cache(maxsize=256, typed=True)(Choice)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def shows(keywords: type[ChoiceKeywords]) -> Callable[[_Function], _Function]:
    """A decorator: help() lists the ``**keywords`` with the defaults of `Choice`."""
    defaults = {each.name: each.default for each in fields(Choice)}
    shown = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(name, False if kind is bool else None),
            annotation=kind,
        )
        for name, kind in get_type_hints(keywords).items()
    ]

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*_parameters(function)[:-1], *shown]
        )
        return function

    return decorate


# ---------------------------------------------------------------------------------------------
# The functions


@shows(ParamsKeywords)
def choose_params(
    x: Any, dtype: Any = "uint8", **keywords: Unpack[ParamsKeywords]
) -> QuantParams | Any:
    """Scale and zero point for the data `x`: ``scale = (max - min) / (qmax - qmin)``.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64, not empty, without Inf; without NaN, unless
        `skip_nan`.
    dtype, qmin, qmax
        Type and range of the codes.
    zero_point_from
        ``"max"``: ``qmax - rint(max / scale)``; ``"min"``: ``qmin - rint(min / scale)``;
        ``"least_error"``: of these two the one whose range ends move less in a round trip (the
        larger of both ends' errors, the differences taken in float64), ``"max"`` only if strictly
        better.  None: the convention's default rule (`zeropoint.CONVENTIONS`).
    include_zero
        Widen the range to hold 0 first, as every engine does.  False takes the range as it is
        (``numpy`` convention alone); the zero point may then be any int32.
    symmetric
        ``zero_point = (qmin + qmax + 1) // 2`` and ``scale = max|x| / min(qmax - z, z - qmin)``.
    axis, block_size
        One scale and zero point per channel, or per block, as in `QuantParams`.
    convention
        The convention of the result, an alias is fine.  Those of `zeropoint.OFFSET_CONVENTIONS`
        take the range as it is, zero or not, and have no zero point to choose.  Under ``faiss`` the
        last axis holds the dimensions of a row.
    nan_code
        A code for missing values, as in `QuantParams`.
    skip_nan
        Leave NaN out: the bits are those for the data without them.

    Returns
    -------
    QuantParams or OffsetParams
        As the convention asks.  With a float64 scale for float64 data, else float32.  Float32 data
        with the rules ``max`` and ``min`` and ``include_zero=False`` give the bits of the same
        formulas written in NumPy >= 2.

    Raises
    ------
    TypeError
        `x` is not of a supported float dtype; `dtype` is not uint8 or int8; an unknown keyword.
    ValueError
        No data, or only NaN; NaN or Inf in `x` (count and first index); constant data with
        ``include_zero=False``; a zero point beyond int32; for a real offset a range that overflows;
        options that exclude each other.

    Notes
    -----
    All-zero data: scale 1 and the code nearest to 0.  Where the scale overflows or is subnormal
    it is the smallest number of its precision that is not below the exact quotient.  Data that
    span the whole range of their dtype can dequantize to Inf at an end, half a step beyond its
    largest number; a wider output dtype holds it.
    """
    layout = _layout_of(keywords)
    choice = Choice.of(choose_params, dtype, keywords)
    return _chosen(choice, _checks.real_array(x), *layout)


def _layout_of(keywords: ParamsKeywords) -> tuple[int | None, int | None, bool]:
    """Axis, block size and skip_nan, taken out of the keywords."""
    skip_nan = _checks.flag(keywords.pop("skip_nan", False), "skip_nan")
    return keywords.pop("axis", None), keywords.pop("block_size", None), skip_nan


def _chosen(
    choice: Choice, x: Array, axis: int | None, block_size: int | None, skip_nan: bool
) -> QuantParams | Any:
    ends = range_of(x, axis, block_size, skip_nan=skip_nan)
    return choice.params(*ends, axis, block_size, x.shape[-1] if x.ndim else 1)


@shows(ParamsKeywords)
def quantize_dynamic(
    x: Any, dtype: Any = "uint8", *, out: Array | None = None, **keywords: Unpack[ParamsKeywords]
) -> tuple[Array, QuantParams | Any]:
    """Choose the parameters for `x` and quantize it: ``(codes, params)``.

    Keywords and errors are those of `choose_params`; `out` is as in `quantize`.
    """
    layout = _layout_of(keywords)
    choice = Choice.of(quantize_dynamic, dtype, keywords)
    x = _checks.real_array(x)
    out = _checks.output(out, x.shape, choice.dtype)
    params = _chosen(choice, x, *layout)
    return quantize(x, params, out=out), params


def min_max(x: Any, *, channel_axis: int | None = None, skip_nan: bool = False) -> tuple[Any, Any]:
    """Minimum and maximum of `x` in one pass; a zero is +0.0.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64.
    channel_axis
        The axis that is kept (NumPy's ``axis`` is the one that goes): the results are 1-D, one
        element per channel.
    skip_nan
        Leave NaN out: the bits are those of the data without them.

    Returns
    -------
    tuple
        Two scalars, or two 1-D arrays, of float64 for float64 data and else float32 (the
        working precision, which holds them exactly).

    Raises
    ------
    ValueError
        No data, or only NaN; NaN or Inf in `x` (count and first index); AxisError where there is no
        such axis.
    """
    axis, skip_nan = channel_axis, _checks.flag(skip_nan, "skip_nan")
    low, high = range_of(_checks.real_array(x), axis, None, "channel_axis", skip_nan)
    return (low[()], high[()]) if axis is None else (low, high)


@_backend.ieee
def range_of(
    x: Array,
    axis: int | None,
    block_size: int | None,
    name: str = "axis",
    skip_nan: bool = False,
) -> tuple[Array, Array]:
    """Minimum and maximum in the shape of the parameters; ValueError for Inf and no data, and for
    NaN unless `skip_nan`."""
    low, high = range_or_none(x, axis, block_size, name, skip_nan)
    check_some(low, high)
    return low, high


def check_some(low: Array, high: Array, name: str = "x") -> None:
    """ValueError where a range of `range_or_none` is that of no data."""
    empty = np.asarray(low > high)
    if empty.any():
        place = ""
        if empty.ndim:
            where = tuple(map(int, np.unravel_index(int(np.argmax(empty)), empty.shape)))
            place = f" in channel {where[0]}" if empty.ndim == 1 else f" in block {where}"
        raise ValueError(
            f"{name} has nothing but NaN{place}, so it has no data; pass at least one number per "
            "channel"
        )


def range_or_none(
    x: Array,
    axis: int | None,
    block_size: int | None,
    name: str = "axis",
    skip_nan: bool = False,
) -> tuple[Array, Array]:
    """As `range_of`, but the range of what holds nothing but NaN goes from Inf to -Inf."""
    _, axis, block_size = _checks.layout(x.shape, axis, block_size, name)
    if x.size == 0:
        raise ValueError(f"x has no data (shape {x.shape}); pass at least one element per channel")
    low, high = _backend.min_max(x, axis, block_size, skip_nan)
    if not are_finite(low, high):
        more = "" if skip_nan else SKIP
        _checks.finite(x, "x", shaped=axis is not None, nan=skip_nan, more=more)
    return low, high


def are_finite(low: Array, high: Array) -> bool:
    """Whether all ranges are those of finite data, or of none."""
    return bool((np.isfinite(low) & np.isfinite(high) | (low > high)).all())


if not TYPE_CHECKING:
    choose_params, quantize_dynamic, min_max = _backend.builtins(
        choose_params, quantize_dynamic, min_max, choices=_remembered
    )
