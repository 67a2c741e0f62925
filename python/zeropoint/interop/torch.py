"""torch: parameters from observers and for torch's operators; zeropoint on CPU tensors.

>>> observer = torch.ao.quantization.MinMaxObserver(dtype=torch.uint8)
>>> observer(x)
>>> p = from_torch(observer)
>>> q = quantize(x, p)  # a tensor: the codes of torch's own operators
>>> scale, zero_point, qmin, qmax, dtype = to_torch(p)

The functions are those of `zeropoint`, with its arguments and errors.  A tensor goes in as a view
of its memory, and what comes back is a tensor over the memory that zeropoint wrote: neither is
copied.  They are not differentiable; to train, give `to_torch` to torch's
``fake_quantize_per_tensor_affine``.
"""

from __future__ import annotations

from typing import Any, Never, Unpack

import numpy as np

import zeropoint as zp

from .. import _foreign
from .._choice import ParamsKeywords, shows
from .._extras import missing

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise missing("torch", "zeropoint.interop.torch") from error

__all__ = [
    "choose_params",
    "dequantize",
    "fake_quantize",
    "from_torch",
    "quantize",
    "quantize_dynamic",
    "to_torch",
]

# by name: the q-dtypes are deprecated, and may be gone from a later torch
_CODES = {
    "torch.uint8": "uint8",
    "torch.quint8": "uint8",
    "torch.int8": "int8",
    "torch.qint8": "int8",
}


# ---------------------------------------------------------------------------------------------
# Parameters


def from_torch(module: Any) -> zp.QuantParams:
    """The parameters that an observer, or the observer of a fake-quantize module, has found.

    Parameters
    ----------
    module
        From ``torch.ao.quantization`` or ``torchao``, or anything with their
        ``calculate_qparams()`` and attributes; on any device.

    Returns
    -------
    QuantParams
        Of the convention ``torch``: the scale (as float32) and zero point that
        ``calculate_qparams()`` returns, which is what torch's conversion takes too.
        `FusedMovingAvgObsFakeQuantize` trains with a ``scale`` of its own, which can differ from
        it in the last bits.

    Raises
    ------
    TypeError
        `module` has no ``calculate_qparams()``.
    ValueError
        A dtype other than uint8, int8, quint8 and qint8; zero points that are not integers; scales
        per group, block or token; an observer that has seen no data, or NaN; a scale or a zero
        point that `QuantParams` refuses.
    """
    kind = type(module).__name__
    if not callable(getattr(module, "calculate_qparams", None)):
        raise TypeError(
            f"module must be an observer or a fake-quantize module, not {kind}: it has no "
            "calculate_qparams()"
        )
    dtype = getattr(module, "dtype", getattr(module, "target_dtype", None))  # the latter: torchao
    if str(dtype) not in _CODES:
        raise ValueError(f"{kind} has dtype {dtype}; choose torch.uint8 or torch.int8 for it")
    observer = getattr(module, "activation_post_process", module)
    low, high = getattr(observer, "min_val", None), getattr(observer, "max_val", None)
    if low is not None and high is not None and not (low.numel() and (low <= high).all()):
        raise ValueError(
            f"{kind} has seen no data, or NaN; call a new one on representative data first"
        )
    try:
        scale, zero = (found.detach().cpu() for found in module.calculate_qparams())
    except Exception as error:  # placeholders raise a bare Exception
        raise ValueError(f"{kind} has no parameters: {error}") from error
    axis = _axis(module)
    if zero.is_floating_point() or (axis is None and scale.numel() != 1):
        how = getattr(module, "qscheme", getattr(module, "granularity", None))
        raise ValueError(
            f"{kind} is {how}; choose one integer zero point per tensor or per channel, as in "
            "per_tensor_affine and per_channel_affine, PerTensor and PerAxis"
        )
    return zp.QuantParams(
        np.float32(scale.item()) if axis is None else scale.float().flatten().numpy(),
        zero.item() if axis is None else zero.flatten().numpy(),
        _CODES[str(dtype)],
        qmin=observer.quant_min,
        qmax=observer.quant_max,
        axis=axis,
        convention="torch",
    )


def _axis(module: Any) -> int | None:
    if "per_channel" in str(getattr(module, "qscheme", None)):
        return int(module.ch_axis)
    return getattr(getattr(module, "granularity", None), "axis", None)  # torchao's PerAxis


def to_torch(params: zp.QuantParams) -> tuple[float | Tensor, int | Tensor, int, int, torch.dtype]:
    """``(scale, zero_point, qmin, qmax, dtype)`` as torch's operators take them.

    Per tensor, scale and zero point are Python numbers; per channel a float32 and an int32 tensor.
    So, with ``params.axis`` for the axis (torch counts it from 0)::

        torch.fake_quantize_per_tensor_affine(x, scale, zero_point, qmin, qmax)
        torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, qmin, qmax)
        torch.ops.quantized_decomposed.quantize_per_tensor(x, scale, zero_point, qmin, qmax, dtype)
        torch.ops.quantized_decomposed.quantize_per_channel(
            x, scale, zero_point, axis, qmin, qmax, dtype)

    (``torch.ao.quantization.fx._decomposed`` has to be imported once for the last two.)
    torch's bits are those of the convention ``torch``: with another one in `params`, they differ
    from zeropoint's at ties.  A float64 scale is rounded to float32, as torch does itself.

    Raises
    ------
    TypeError
        `params` is no QuantParams: these operators have no real offsets.
    ValueError
        Parameters with `block_size` or `nan_code`; a zero point outside [qmin, qmax]; a scale that
        is not finite and > 0 in float32, or whose reciprocal is not finite there.
    """
    if not isinstance(params, zp.QuantParams):
        raise TypeError(
            f"params must be a QuantParams, not {type(params).__name__}: these operators have an "
            "integer zero point; quantize and dequantize of this module take both"
        )
    if params.nan_code is not None:
        raise ValueError(
            f"params has nan_code {params.nan_code}, and these operators have no code for NaN; use "
            "quantize of this module, or params.replace(nan_code=None)"
        )
    if params.block_size is not None:
        raise ValueError(
            f"params has block_size {params.block_size}, and these operators have one scale per "
            "tensor or channel; use quantize of this module, or parameters without block_size"
        )
    with np.errstate(over="ignore"):  # the constructor raises the error
        scale = np.asarray(params.scale, np.float32)
    found = zp.QuantParams(
        scale[()], params.zero_point, params.dtype, axis=params.axis,
        qmin=params.qmin, qmax=params.qmax, convention="torch",
    )  # fmt: skip
    dtype: torch.dtype = getattr(torch, found.dtype.name)
    if found.axis is None:
        return float(found.scale), found.zero_point, found.qmin, found.qmax, dtype
    scales, zeros = torch.tensor(found.scale), torch.tensor(found.zero_point)
    return scales, zeros, found.qmin, found.qmax, dtype


# ---------------------------------------------------------------------------------------------
# Tensors in, tensors out
#
# zeropoint's fast path is f(array, params, out=...): further arguments are passed on only if given.


def quantize(
    x: Tensor,
    params: zp.QuantParams,
    *wrong: Never,
    out: Tensor | None = None,
    check_finite: bool = False,
) -> Tensor:
    """`zeropoint.quantize` of a tensor: a uint8 or int8 tensor, or `out`."""
    more = {"check_finite": check_finite} if check_finite is not False else {}
    return _result(zp.quantize(_array(x, "x"), params, *wrong, out=_target(out), **more), out)


def dequantize(
    q: Tensor,
    params: zp.QuantParams,
    *wrong: Never,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`zeropoint.dequantize` of a tensor; `dtype` is a float of torch's."""
    more = {"dtype": _numpy_dtype(dtype)} if dtype is not None else {}
    return _result(zp.dequantize(_array(q, "q"), params, *wrong, out=_target(out), **more), out)


def fake_quantize(
    x: Tensor, params: zp.QuantParams, *wrong: Never, out: Tensor | None = None
) -> Tensor:
    """`zeropoint.fake_quantize` of a tensor, in its own dtype; `out` may be `x` itself."""
    return _result(zp.fake_quantize(_array(x, "x"), params, *wrong, out=_target(out)), out)


@shows(ParamsKeywords)
def choose_params(
    x: Tensor, dtype: Any = "uint8", **keywords: Unpack[ParamsKeywords]
) -> zp.QuantParams:
    """`zeropoint.choose_params` of a tensor; `dtype` may be torch's."""
    return zp.choose_params(_array(x, "x"), _code_name(dtype), **keywords)


@shows(ParamsKeywords)
def quantize_dynamic(
    x: Tensor,
    dtype: Any = "uint8",
    *,
    out: Tensor | None = None,
    **keywords: Unpack[ParamsKeywords],
) -> tuple[Tensor, zp.QuantParams]:
    """`zeropoint.quantize_dynamic` of a tensor: codes and parameters; `dtype` may be torch's."""
    array, code = _array(x, "x"), _code_name(dtype)
    q, params = zp.quantize_dynamic(array, code, out=_target(out), **keywords)
    return _result(q, out), params


def _array(x: Any, name: str) -> Any:
    """The memory of a tensor as an array."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, not {type(x).__name__}; the functions of zeropoint "
            "itself take arrays"
        )
    return _foreign.tensor(x, name)


def _target(out: Tensor | None) -> Any:
    return None if out is None else _array(out, "out")


def _result(array: Any, out: Tensor | None) -> Tensor:
    """`out`, or a tensor over the memory of `array`."""
    if out is not None:
        torch.autograd.graph.increment_version(out)  # autograd does not see this write
        return out
    if array.dtype.kind == "V":  # bfloat16; dtype.name costs more than a small call
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _code_name(dtype: Any) -> Any:
    return _CODES.get(str(dtype), dtype)


def _numpy_dtype(dtype: Any) -> Any:
    if dtype == torch.bfloat16:
        return _foreign.bfloat16()
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
