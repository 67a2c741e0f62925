"""The public functions.

The core's builtins stand for them; what these decline the functions here convert, by `_checks`, or
explain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, TypeVar

import numpy as np

from . import _backend, _checks, _reference
from ._choice import choose_params as choose_params
from ._choice import min_max as min_max
from ._choice import quantize_dynamic as quantize_dynamic
from ._chunks import chunks
from ._params import OffsetParams, QuantParams, checked
from ._params import dequantize as dequantize
from ._params import fake_quantize as fake_quantize
from ._params import quantize as quantize
from ._reference import Array

_Kind = TypeVar("_Kind", QuantParams, OffsetParams)


def requantize(
    acc: Any, acc_scale: Any, params: QuantParams, *wrong: Never, out: Array | None = None
) -> Array:
    """int32 accumulators to 8-bit codes: ``clip(rint(float32(acc) * M) + zero_point)``.

    ``M = float32(float64(acc_scale) / params.scale)``, the float multiplier of ONNX Runtime's and
    XNNPACK's requantization.  TFLite's fixed-point multiplier is another arithmetic and is not
    matched.  The convention of `params` has no effect.

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
    checked(params, wrong, "zp.requantize(acc, acc_scale, ")
    if not isinstance(params, QuantParams):
        raise TypeError(
            "params is an OffsetParams, and no engine requantizes to a real offset; pass a "
            "QuantParams, or quantize acc * acc_scale"
        )
    acc = _checks.exact_array(acc, np.dtype(np.int32), "acc", "pass acc.astype(numpy.int32)")
    if params.block_size is not None:
        raise ValueError(
            f"params has block_size {params.block_size}; requantize works per tensor or per channel"
        )
    layout = params._check_fits(acc.shape)
    zero = np.asarray(params.zero_point)
    if zero.size and not params.qmin <= zero.min() <= zero.max() <= params.qmax:
        raise ValueError(
            f"zero_point must lie in [qmin, qmax] = [{params.qmin}, {params.qmax}] for requantize"
        )
    multiplier = _multiplier(acc_scale, params)
    out = _checks.output(out, acc.shape, params.dtype)

    def reference(acc: Array) -> Array:
        return _reference.requantize(
            acc,
            layout.spread(multiplier),
            params._spread(layout)[1],
            qmin=params.qmin,
            qmax=params.qmax,
            dtype=params.dtype,
        )

    return _backend.elementwise(
        "requantize_into", acc, params.dtype, out, (params._native, multiplier), reference
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


def flip_signedness(q: Any, params: _Kind) -> tuple[Array, _Kind]:
    """uint8 codes to int8 or back, exactly: codes, zero point and range move by 128.

    Returns the codes of the other dtype and their parameters.  `dequantize` gives the same values
    (but for zero points beyond 2^24, possible with ``include_zero=False``, which float32 rounds).

    Raises
    ------
    TypeError
        `q` is not of ``params.dtype``.
    ValueError
        Parameters that do not fit; a zero point that leaves int32; a `cf` offset that cannot move
        by 128 steps without a change of the values.
    """
    checked(params, call="zp.flip_signedness(q, ")
    q = _checks.exact_array(q, params.dtype, "q", "these are not codes of params.dtype")
    params._check_fits(q.shape)
    by = -128 if params.dtype == np.uint8 else 128
    other = np.dtype(np.int8 if by < 0 else np.uint8)
    nan = params.nan_code
    changes = {"dtype": other, "qmin": params.qmin + by, "qmax": params.qmax + by}
    changes["nan_code"] = None if nan is None else nan + by
    if isinstance(params, QuantParams):
        zero = params.zero_point  # the sum may leave int32: ValueError
        changes["zero_point"] = zero + by if params.axis is None else zero.astype(np.int64) + by
    elif params.convention == "cf":
        changes["offset"] = params.offset - by * params.scale
    moved = params.replace(**changes)
    if isinstance(params, OffsetParams):
        _check_same_values(params, moved, by)
    codes = np.empty(q.shape, other)
    for chunk in chunks(q.shape):
        np.bitwise_xor(q[chunk].view(np.uint8), np.uint8(128), out=codes[chunk].view(np.uint8))
    return codes, moved


@_backend.ieee
def _check_same_values(params: OffsetParams, moved: OffsetParams, by: int) -> None:
    """ValueError unless all codes keep their values."""
    codes = np.arange(params.qmin, params.qmax + 1).reshape(-1, *[1] * params._arrays[0].ndim)
    double = np.dtype(np.float64)
    before = params._decoded(codes.astype(params.dtype), *params._arrays, double)
    after = moved._decoded((codes + by).astype(moved.dtype), *moved._arrays, double)
    if not np.array_equal(before, after):
        raise ValueError(
            "the offset of params, moved by 128 steps, is rounded, and so are the values; quantize "
            f"the data anew to {moved.dtype}"
        )


# ---------------------------------------------------------------------------------------------
# Saturate and round


def saturate(x: Any, qmin: int, qmax: int, *, out: Array | None = None) -> Array:
    """``clip(x, qmin, qmax)`` in the dtype of `x`; NaN passes through.

    Parameters
    ----------
    x
        float16, bfloat16, float32, float64, uint8, int8, int16, int32 or int64.
    qmin, qmax
        Integers with qmin <= qmax that the dtype of `x` can hold exactly.
    out
        An array in the shape and dtype of `x`; it may be `x` itself.

    Raises
    ------
    TypeError
        `x` or `out` is of another dtype; bounds that are not integers.
    ValueError
        Bounds that the dtype does not hold, or that are swapped; `out` of a wrong shape.
    """
    x = _checks.number_array(x)
    if x.dtype.kind == "u" and x.dtype.itemsize > 1:
        raise TypeError(
            f"x has dtype {x.dtype}; saturate takes floats, signed integers and uint8: convert x "
            "first"
        )
    low, high = _checks.integer(qmin, "qmin"), _checks.integer(qmax, "qmax")
    if low > high:
        raise ValueError(f"qmin {low} must not be greater than qmax {high}; swap them")
    for name, value in (("qmin", low), ("qmax", high)):
        if not _holds_exactly(x.dtype, value):
            raise ValueError(f"{name} {value} is not a {x.dtype}; choose a value that it can hold")
    out = _checks.output(out, x.shape, x.dtype)
    return _backend.elementwise(
        "saturate_into", x, x.dtype, out, (low, high), lambda x: _reference.saturate(x, low, high)
    )


def _holds_exactly(dtype: np.dtype[Any], value: int) -> bool:
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return bool(info.min <= value <= info.max)
    bits, largest = _checks.FLOATS[dtype.name]
    int64 = _checks.INT64
    if not int64.min <= value <= int64.max or abs(value) > largest:
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

    Raises
    ------
    TypeError
        `x` holds no numbers; another `dtype`, or one of `out`.
    ValueError
        `out` of a wrong shape.
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
        Where halves go: ``"even"`` (IEEE 754, `numpy.rint`) or ``"away"`` from zero, as in C.
    out
        An array in the shape and dtype of `x`; it may be `x` itself.

    Raises
    ------
    TypeError
        `x` or `out` is of another dtype.
    ValueError
        Other `ties`; `out` of a wrong shape.
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


if not TYPE_CHECKING:
    requantize, saturate, saturate_cast, round = _backend.builtins(
        requantize, saturate, saturate_cast, round
    )
