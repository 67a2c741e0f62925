"""The public functions.

Each asks the core's fast path first; what that declines is normalised or explained here, above
both backends, by `_checks`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from . import _backend, _checks, _conventions, _reference
from ._chunks import chunks
from ._params import QuantParams
from ._reference import Array, working_dtype

RULES = ("max", "min", "least_error")


# ---------------------------------------------------------------------------------------------
# Quantize, dequantize


def quantize(
    x: Any,
    params: QuantParams,
    *wrong: Never,
    out: Array | None = None,
    check_finite: bool = False,
) -> Array:
    """Real values to 8-bit codes: ``clip(round(x / scale + zero_point), qmin, qmax)``.

    The formula to the bit is the one of ``params.convention`` (`zeropoint.CONVENTIONS`).

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64, any shape and strides: whatever NumPy can view.
    params
        The parameters; with an axis their length must fit `x`.
    out
        Where to put the codes: an array of ``params.dtype`` in the shape of `x`, any strides; it
        may overlap `x`.
    check_finite
        Raise ValueError, before anything is written, if `x` holds a NaN or an Inf.  Otherwise NaN
        becomes qmin, and +-Inf qmax or qmin.

    Returns
    -------
    numpy.ndarray
        Codes of ``params.dtype`` in the shape of `x` (C-contiguous), or `out`.

    Raises
    ------
    TypeError
        `x` is not of a supported float dtype, or has missing values, or memory that is not its
        data (as torch's FakeTensor); `out` has another dtype or byte order.
    ValueError
        Parameters that do not fit the shape; a scale that becomes 0 or Inf in the working
        precision; `out` of a wrong shape, read-only, or with elements that share memory.
    """
    params = _params(params, wrong, "zp.quantize(x, ")
    x = _checks.real_array(x)
    axis = params._check_fits(x.shape)
    params._check_precision(working_dtype(x.dtype))
    out = _checks.output(out, x.shape, params.dtype)
    if _checks.flag(check_finite, "check_finite"):
        _checks.finite(x, "x", shaped=True)
    return _backend.elementwise(
        "quantize_into",
        x,
        params.dtype,
        out,
        (params._native,),
        lambda x: _quantize(x, params, axis),
    )


def _quantize(x: Array, params: QuantParams, axis: int | None) -> Array:
    scale, zero = params._spread(x.shape, axis)
    return _reference.quantize(
        x,
        scale,
        zero,
        qmin=params.qmin,
        qmax=params.qmax,
        convention=params.convention,
        dtype=params.dtype,
    )


def _dequantize(q: Array, params: QuantParams, axis: int | None, dtype: np.dtype[Any]) -> Array:
    return _reference.dequantize(q, *params._spread(q.shape, axis), dtype=dtype)


def dequantize(
    q: Any, params: QuantParams, *wrong: Never, dtype: Any = None, out: Array | None = None
) -> Array:
    """8-bit codes to real values: ``(q - zero_point) * scale``.

    Computed in the precision of the scale and rounded once to the output dtype.

    Parameters
    ----------
    q
        Codes of ``params.dtype``, any shape and strides.
    params
        The parameters.
    dtype
        float16, bfloat16, float32 or float64; by default that of `out`, else float32.
    out
        Where to put the values: the shape of `q`; it may overlap `q`.

    Returns
    -------
    numpy.ndarray
        Values in the shape of `q` (C-contiguous), or `out`.

    Raises
    ------
    TypeError
        `q` is not of ``params.dtype``; `dtype` or `out` is not of a supported float dtype.
    ValueError
        Parameters that do not fit the shape; `out` of a wrong shape, read-only, or with elements
        that share memory.
    """
    params = _params(params, wrong, "zp.dequantize(q, ")
    q = _checks.exact_array(q, params.dtype, "q", "these are not codes of params.dtype")
    if dtype is not None:
        target = _checks.real_dtype(dtype)
    elif isinstance(out, np.ndarray):
        target = _checks.real_dtype(out.dtype, "out's dtype")
    else:
        target = np.dtype(np.float32)
    axis = params._check_fits(q.shape)
    out = _checks.output(out, q.shape, target)
    return _backend.elementwise(
        "dequantize_into",
        q,
        target,
        out,
        (params._native,),
        lambda q: _dequantize(q, params, axis, target),
    )


def fake_quantize(x: Any, params: QuantParams, *wrong: Never, out: Array | None = None) -> Array:
    """``dequantize(quantize(x))`` in one pass: what quantization makes of `x`, in its own dtype.

    Parameters, errors and the treatment of NaN and Inf are those of `quantize`; `out` has the
    dtype of `x` and may be `x` itself.
    """
    params = _params(params, wrong, "zp.fake_quantize(x, ")
    x = _checks.real_array(x)
    axis = params._check_fits(x.shape)
    params._check_precision(working_dtype(x.dtype))
    out = _checks.output(out, x.shape, x.dtype)
    return _backend.elementwise(
        "fake_quantize_into",
        x,
        x.dtype,
        out,
        (params._native,),
        lambda x: _dequantize(_quantize(x, params, axis), params, axis, x.dtype),
    )


def requantize(
    acc: Any, acc_scale: Any, params: QuantParams, *wrong: Never, out: Array | None = None
) -> Array:
    """int32 accumulators to 8-bit codes: ``clip(rint(float32(acc) * M) + zero_point)``.

    ``M = float32(float64(acc_scale) / params.scale)``, the float multiplier of ONNX Runtime's and
    XNNPACK's requantization.  TFLite's fixed-point multiplier is another arithmetic and is not
    matched.  The convention of `params` plays no part.

    Parameters
    ----------
    acc
        int32 accumulators, any shape and strides.
    acc_scale
        Size of one step of `acc` (input scale times weight scale): a number, or one per channel
        of ``params.axis``.
    params
        Parameters of the result, per tensor or per channel.
    out
        Where to put the codes, as in `quantize`.

    Raises
    ------
    TypeError
        `acc` is not int32; `acc_scale` is not a real number.
    ValueError
        `acc_scale` or M is not finite and > 0, or does not fit; parameters with `block_size`, or
        with a zero point outside [qmin, qmax].
    """
    params = _params(params, wrong, "zp.requantize(acc, acc_scale, ")
    acc = _checks.exact_array(acc, np.dtype(np.int32), "acc", "pass acc.astype(numpy.int32)")
    if params.block_size is not None:
        raise ValueError(
            f"params has block_size {params.block_size}; requantize works per tensor or per channel"
        )
    axis = params._check_fits(acc.shape)
    zero = np.asarray(params.zero_point)
    if zero.size and not params.qmin <= zero.min() <= zero.max() <= params.qmax:
        raise ValueError(
            f"zero_point must lie in [qmin, qmax] = [{params.qmin}, {params.qmax}] for requantize"
        )
    multiplier = _multiplier(acc_scale, params)
    out = _checks.output(out, acc.shape, params.dtype)
    rescale = QuantParams(
        np.ones_like(multiplier) if multiplier.ndim else 1,
        params.zero_point,
        params.dtype,
        qmin=params.qmin,
        qmax=params.qmax,
        axis=params.axis,
    )

    def reference(acc: Array) -> Array:
        return _reference.requantize(
            acc,
            _reference.spread(multiplier, acc.shape, axis, None),
            rescale._spread(acc.shape, axis)[1],
            qmin=params.qmin,
            qmax=params.qmax,
            dtype=params.dtype,
        )

    return _backend.elementwise(
        "requantize_into", acc, params.dtype, out, (rescale._native, multiplier), reference
    )


@_backend.ieee
def _multiplier(acc_scale: Any, params: QuantParams) -> Array:
    scales = _checks.numbers(acc_scale, "acc_scale")
    if scales.dtype.kind not in "fiu" and scales.dtype.name != "bfloat16":
        raise TypeError(
            f"acc_scale must be a real number or an array of them, not {_checks.shown(acc_scale)}"
        )
    if scales.ndim and scales.shape != np.shape(params.scale):
        raise ValueError(
            f"acc_scale has shape {scales.shape}; pass one number, or one per channel of "
            f"params.axis: shape {np.shape(params.scale)}"
        )
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"acc_scale {_checks.shown(acc_scale)} must be finite and > 0")
    multiplier = _backend.quotients(
        *np.broadcast_arrays(scales.astype(np.float64), np.asarray(params.scale, np.float64))
    )
    if not (np.isfinite(multiplier) & (multiplier > 0)).all():
        raise ValueError(
            f"acc_scale / params.scale must be a positive float32; {_checks.shown(acc_scale)} is "
            "too far from params.scale"
        )
    return multiplier


def flip_signedness(q: Any, params: QuantParams) -> tuple[Array, QuantParams]:
    """uint8 codes to int8 or back, exactly: codes, zero point and range move by 128.

    Returns the codes of the other dtype and their parameters.  `dequantize` gives the same values
    (but for zero points beyond 2^24, possible with ``include_zero=False``, which float32 rounds).
    """
    params = _params(params, call="zp.flip_signedness(q, ")
    q = _checks.exact_array(q, params.dtype, "q", "these are not codes of params.dtype")
    params._check_fits(q.shape)
    by = -128 if params.dtype == np.uint8 else 128
    other = np.dtype(np.int8 if by < 0 else np.uint8)
    zero = np.asarray(params.zero_point, np.int64) + by
    recipe = params._recipe() | {
        "dtype": other,
        "qmin": params.qmin + by,
        "qmax": params.qmax + by,
    }
    moved = QuantParams(params.scale, zero if zero.ndim else int(zero), **recipe)
    codes = np.empty(q.shape, other)
    for chunk in chunks(q.shape):
        np.bitwise_xor(q[chunk].view(np.uint8), np.uint8(128), out=codes[chunk].view(np.uint8))
    return codes, moved


# ---------------------------------------------------------------------------------------------
# The choice of parameters


def choose_params(
    x: Any,
    dtype: Any = "uint8",
    *,
    zero_point_from: str | None = None,
    include_zero: bool = True,
    symmetric: bool = False,
    qmin: int | None = None,
    qmax: int | None = None,
    axis: int | None = None,
    block_size: int | None = None,
    convention: str = "numpy",
) -> QuantParams:
    """Scale and zero point for the data `x`: ``scale = (max - min) / (qmax - qmin)``.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64, not empty, without NaN and Inf.
    dtype, qmin, qmax
        Type and range of the codes.
    zero_point_from
        ``"max"``: ``qmax - rint(max / scale)``; ``"min"``: ``qmin - rint(min / scale)``;
        ``"least_error"``: of these two the one whose range ends move less in a round trip (the
        larger of both ends' errors, the differences taken in float64), ``"max"`` only if strictly
        better.  None: the convention's default rule (`zeropoint.CONVENTIONS`).
    include_zero
        Widen the range to hold 0 first, as every engine does.  False is the article's literal
        formula (``numpy`` convention alone); the zero point may then be any int32.
    symmetric
        ``zero_point = (qmin + qmax + 1) // 2`` and ``scale = max|x| / min(qmax - z, z - qmin)``.
    axis, block_size
        One scale and zero point per channel, or per block, as in `QuantParams`.
    convention
        The convention of the result, an alias is fine.

    Returns
    -------
    QuantParams
        With a float64 scale for float64 data, else float32.  Float32 data with the rules ``max``
        and ``min`` and ``include_zero=False`` give the bits of the article's code on NumPy >= 2.

    Raises
    ------
    TypeError
        `x` is not of a supported float dtype.
    ValueError
        No data; NaN or Inf in `x` (count and first index); constant data with
        ``include_zero=False``; a zero point beyond int32; options that exclude each other.

    Notes
    -----
    All-zero data: scale 1 and the code nearest to 0.  Where the scale overflows or is subnormal
    it is the smallest number of its precision that is not below the exact quotient.  Data that
    span the whole range of their dtype can dequantize to Inf at an end, half a step beyond its
    largest number; a wider output dtype holds it.
    """
    how = (dtype, zero_point_from, include_zero, symmetric, qmin, qmax, convention)
    choice = _choice_for(*how)
    found = _fast_choose(x, None, False, choice, axis, block_size)
    if found is not None:
        return found[1]
    low, high = _range(_checks.real_array(x), axis, block_size)
    return choice.params(low, high, axis, block_size)


def _fast_choose(
    x: Any,
    out: Array | None,
    with_codes: bool,
    choice: _Choice,
    axis: int | None,
    block_size: int | None,
) -> tuple[Array, QuantParams] | None:
    """Range, parameters and codes by the core in one call; None where it declines."""
    isa = _backend.current().fast
    plain = (axis is None or (type(axis) is int and -65 < axis < 65)) and (
        block_size is None
        or (axis is not None and type(block_size) is int and 0 < block_size <= _checks.INT64.max)
    )
    if isa < 0 or choice.native is None or not plain:
        return None
    found = _backend.fast_choose(
        isa, x, out, with_codes, choice.dtype.kind == "i", choice.native, axis, block_size or 0
    )
    if found is None:
        return None
    codes, scale, zero, native = found
    return codes, QuantParams._trusted(scale, zero, choice, axis, block_size, native)


def params_from_range(low: Array, high: Array, **keywords: Any) -> QuantParams:
    """`choose_params` for data that is known to lie in [low, high] (float32 or float64 arrays)."""
    axis, block_size = keywords.pop("axis", None), keywords.pop("block_size", None)
    _check_keywords("choose_params", keywords, _Choice.KEYWORDS)
    return _Choice(**keywords).params(low, high, axis, block_size)


def _check_keywords(function: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"{function} has no keyword {name!r}; it has {', '.join(known)}")


class _Choice:
    """The checked keywords of `choose_params`."""

    KEYWORDS = (
        *("dtype", "zero_point_from", "include_zero", "symmetric"),
        *("qmin", "qmax", "convention"),
    )

    def __init__(
        self,
        dtype: Any = "uint8",
        zero_point_from: Any = None,
        include_zero: Any = True,
        symmetric: Any = False,
        qmin: Any = None,
        qmax: Any = None,
        convention: Any = "numpy",
    ) -> None:
        self.convention = _conventions.canonical(convention)
        self.dtype = _checks.code_dtype(dtype)
        self.qmin, self.qmax = _checks.code_range(qmin, qmax, self.dtype)
        self.include_zero = _checks.flag(include_zero, "include_zero")
        self.symmetric = _checks.flag(symmetric, "symmetric")
        self.rule = rule = zero_point_from
        if rule is not None:
            _checks.name(
                rule, "zero_point_from", RULES, ", or None for the convention's default rule"
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
        if not include_zero and self.convention != "numpy":
            raise ValueError(
                f"include_zero=False is for the numpy convention alone, not {convention!r}"
            )
        if symmetric and self.qmax - self.qmin < 2:
            raise ValueError(
                f"symmetric=True needs at least three codes; [{self.qmin}, {self.qmax}] has two"
            )
        self.native = _backend.native_choice(
            rule, self.include_zero, self.symmetric, self.qmin, self.qmax, self.convention
        )

    def reference(self) -> dict[str, Any]:
        """The keywords of `_reference.choose`."""
        return {
            "rule": self.rule,
            "include_zero": self.include_zero,
            "symmetric": self.symmetric,
            "qmin": self.qmin,
            "qmax": self.qmax,
            "convention": self.convention,
            "dtype": self.dtype,
        }

    @_backend.ieee
    def params(
        self, low: Array, high: Array, axis: int | None, block_size: int | None
    ) -> QuantParams:
        constant = low == high
        if not self.include_zero and np.any(constant):
            value = low[np.unravel_index(int(np.argmax(constant)), low.shape)]
            raise ValueError(
                f"x is constant ({value}), so its range has no steps with include_zero=False; "
                "use include_zero=True"
            )
        scale, zero = _backend.choose(low, high, self.native, **self.reference())
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
        zero = zero.astype(np.int32)
        return QuantParams(
            scale if scale.ndim else scale[()],
            zero if zero.ndim else int(zero),
            self.dtype,
            qmin=self.qmin,
            qmax=self.qmax,
            axis=axis,
            block_size=block_size,
            convention=self.convention,
            include_zero=self.include_zero,
        )


_cached_choice = functools.lru_cache(maxsize=256, typed=True)(_Choice)


_DYNAMIC_KEYWORDS = (*_Choice.KEYWORDS[1:], "axis", "block_size")


def _choice_for(*how: Any) -> _Choice:
    """The checked keywords, remembered: checking them takes longer than a small array."""
    try:
        return _cached_choice(*how)
    except TypeError:  # unhashable; or wrong, and then told by the constructor
        return _Choice(*how)


def quantize_dynamic(
    x: Any, dtype: Any = "uint8", *, out: Array | None = None, **keywords: Any
) -> tuple[Array, QuantParams]:
    """Choose the parameters for `x` and quantize it: ``(codes, params)``.

    The keywords and errors are those of `choose_params`; `out` as in `quantize`.
    """
    _check_keywords("quantize_dynamic", keywords, _DYNAMIC_KEYWORDS)
    fast = _dynamic_by_the_core(x, dtype, out, **keywords)
    if fast is not None:
        return fast
    x = _checks.real_array(x)
    out = _checks.output(out, x.shape, _checks.code_dtype(dtype))
    params = choose_params(x, dtype, **keywords)
    return quantize(x, params, out=out), params


def _dynamic_by_the_core(
    x: Any,
    dtype: Any,
    out: Array | None,
    *,
    zero_point_from: str | None = None,
    include_zero: bool = True,
    symmetric: bool = False,
    qmin: int | None = None,
    qmax: int | None = None,
    axis: int | None = None,
    block_size: int | None = None,
    convention: str = "numpy",
) -> tuple[Array, QuantParams] | None:
    choice = _choice_for(dtype, zero_point_from, include_zero, symmetric, qmin, qmax, convention)
    return _fast_choose(x, out, True, choice, axis, block_size)


def min_max(x: Any, *, axis: int | None = None) -> tuple[Any, Any]:
    """Least and greatest element of `x` in one pass; a zero is +0.0.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64.
    axis
        The channel axis, which is kept: the results are 1-D, one element a channel.

    Returns
    -------
    tuple
        Two scalars, or two 1-D arrays, of float64 for float64 data and else float32 (the
        working precision, which holds them exactly).

    Raises
    ------
    ValueError
        No data; NaN or Inf in `x` (count and first index).
    """
    isa = _backend.current().fast
    if isa >= 0 and (axis is None or (type(axis) is int and -65 < axis < 65)):
        found = _backend.fast_min_max(isa, x, axis)
        if found is not None:
            return (found[0][()], found[1][()]) if axis is None else found
    low, high = _range(_checks.real_array(x), axis, None)
    return (low[()], high[()]) if axis is None else (low, high)


@_backend.ieee
def _range(x: Array, axis: int | None, block_size: int | None) -> tuple[Array, Array]:
    if block_size is not None:
        block_size = _checks.block(block_size)
        if axis is None:
            raise ValueError(
                f"block_size {block_size} needs an axis; pass axis=-1 for the last one"
            )
    if axis is not None:
        axis = _checks.normal_axis(_checks.axis(axis), x.ndim)
    if x.size == 0:
        raise ValueError(f"x has no data (shape {x.shape}); pass at least one element a channel")
    low, high = _backend.min_max(x, axis, block_size)
    if np.isnan(low).any():
        _checks.finite(x, "x", shaped=axis is not None)
    return low, high


# ---------------------------------------------------------------------------------------------
# Saturate and round


def saturate(x: Any, qmin: int, qmax: int, *, out: Array | None = None) -> Array:
    """``clip(x, qmin, qmax)`` in the dtype of `x`, the article's `saturate`; NaN passes through.

    Parameters
    ----------
    x
        float16, bfloat16, float32, float64, int16, int32 or int64.
    qmin, qmax
        Integers with qmin < qmax that the dtype of `x` can hold exactly.
    out
        An array in the shape and dtype of `x`; it may be `x` itself.
    """
    x = _checks.number_array(x)
    if x.dtype.kind in "iu" and x.dtype.name not in ("int16", "int32", "int64"):
        raise TypeError(
            f"x has dtype {x.dtype}; saturate takes floats, int16, int32 and int64: convert x first"
        )
    low, high = _checks.integer(qmin, "qmin"), _checks.integer(qmax, "qmax")
    _checks.ordered(low, high)
    for name, value in (("qmin", low), ("qmax", high)):
        if not _holds_exactly(x.dtype, value):
            raise ValueError(f"{name} {value} is not a {x.dtype}; choose a value that it can hold")
    out = _checks.output(out, x.shape, x.dtype)
    return _backend.elementwise(
        "saturate_into", x, x.dtype, out, (low, high), lambda x: _reference.saturate(x, low, high)
    )


def _holds_exactly(dtype: np.dtype[Any], value: int) -> bool:
    if dtype.kind == "i":
        info = np.iinfo(dtype)
        return bool(info.min <= value <= info.max)
    bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype.name]
    int64 = _checks.INT64
    if not int64.min <= value <= int64.max or (dtype.name == "float16" and abs(value) > 65504):
        return False
    magnitude = abs(value)
    trailing = (magnitude & -magnitude).bit_length() - 1 if magnitude else 0
    return magnitude.bit_length() - trailing <= bits


def saturate_cast(x: Any, dtype: Any, *, out: Array | None = None) -> Array:
    """Round halves to even, clip to the range of `dtype`, cast: never wraps.

    Parameters
    ----------
    x
        Any float dtype that `quantize` takes, or any integer dtype.
    dtype
        ``"uint8"`` or ``"int8"``.  NaN becomes its minimum, +-Inf its ends.
    out
        An array of `dtype` in the shape of `x`.
    """
    target = _checks.code_dtype(dtype)
    x = _checks.number_array(x)
    out = _checks.output(out, x.shape, target)
    return _backend.elementwise(
        "saturate_cast_into",
        x,
        target,
        out,
        (target.kind == "i",),
        lambda x: _reference.saturate_cast(x, target),
    )


def round(x: Any, *, ties: str = "even", out: Array | None = None) -> Array:
    """The nearest integer, in the dtype of `x`; NaN, Inf and the sign of zero pass through.

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64.
    ties
        Where halves go: ``"even"`` (IEEE 754, `numpy.rint`) or ``"away"`` from zero (C `round`).
    out
        An array in the shape and dtype of `x`; it may be `x` itself.
    """
    _checks.name(ties, "ties", ("even", "away"))
    x = _checks.real_array(x)
    out = _checks.output(out, x.shape, x.dtype)
    return _backend.elementwise(
        "round_into",
        x,
        x.dtype,
        out,
        (ties == "away",),
        lambda x: _reference.round(x, ties),
    )


def _params(params: object, wrong: tuple[Any, ...] = (), call: str = "") -> QuantParams:
    """`params`, the last that may come by position; `wrong` are what came after it in `call`."""
    if not isinstance(params, QuantParams):
        given = zip(("scale", "zero_point"), (params, *wrong), strict=False)
        texts = [repr(v) if type(v) in (int, float) else name for name, v in given]
        texts += ["zero_point"] * (len(texts) < 2)
        raise TypeError(
            f"params must be a QuantParams, not {type(params).__name__}; pass for example "
            f"{call}zp.QuantParams({', '.join(texts)})), or what choose_params(x) returns"
        )
    if wrong:
        raise TypeError(
            f"out and other options go by keyword, and {len(wrong)} came by position; pass for "
            f"example {call}params, out=out)"
        )
    return params


if not TYPE_CHECKING:  # to a reader they stay the functions above, which answer what is not plain
    quantize, dequantize, fake_quantize = _backend.fast_entries(
        QuantParams, quantize, dequantize, fake_quantize
    )
# x
