"""Codes to codes: what the 256 codes of a source become is a table, computed once and applied.

`Lookup` is such a table, of any function; `rescale` and `image_lookup` differ in how they fill it.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _backend, _checks, _reference
from ._params import OffsetParams, Params, QuantParams, _frozen, _view
from ._reference import Array

#: of `rescale`
ARITHMETICS = ("exact", "litert", "litert_reference", "float")
_FLOAT64 = np.dtype(np.float64)


class Lookup:
    """An elementwise function from codes to codes, as a table of all 256 of them.

    Parameters
    ----------
    function
        Takes a float64 array, the values of all codes under `source`, of shape (256,), or
        (channels, 256) where one of the parameters has an axis, and returns as many real numbers.
        One that takes single numbers goes through `numpy.vectorize`.  It is called once, with
        NumPy's warnings off, and not kept.
    source
        Parameters of the codes that come in, a QuantParams or an OffsetParams, per tensor or per
        channel.
    target
        Parameters of the codes that go out; if both have an axis, the same and as many channels.

    Raises
    ------
    TypeError
        `function` cannot be called, cannot take an array, or returns what is not real numbers;
        parameters of another type.
    ValueError
        `function` returns another number of values; parameters with `block_size`, or whose axes
        do not fit each other.

    Notes
    -----
    Computed in float64: values by the formula of `dequantize`, with the numbers of `source` widened
    to float64, and codes in the arithmetic of ``target.convention``.  What `function` makes NaN
    becomes ``target.nan_code``, or ``target.qmin`` where there is none; Inf saturates.  A Lookup is
    immutable, equal and hashed by value, and can be pickled, whatever the function.
    """

    __slots__ = ("_native", "_table", "max_abs_error", "source", "target")

    #: The largest ``abs(function(value) - x')``, x' being the value of the code that is given,
    #: over the codes from ``source.qmin`` to ``source.qmax`` where it is finite; saturation counts.
    max_abs_error: float
    source: QuantParams | OffsetParams
    target: QuantParams | OffsetParams
    _table: Array
    _native: Any  #: the core's form of the table; None where the core is absent

    @_backend.ieee
    def __init__(
        self,
        function: Callable[[Array], Any],
        source: QuantParams | OffsetParams,
        target: QuantParams | OffsetParams,
    ) -> None:
        if hasattr(self, "_native"):
            raise AttributeError("Lookup is immutable; build a new one")
        if not callable(function):
            raise TypeError(
                f"function must be callable, not {_checks.shown(function)}; pass for example "
                "numpy.tanh"
            )
        codes = _all_codes(source, _channels(source, target))
        found = _evaluated(function, _decoded(codes, source))
        table = target._codes(found, *_columns(target, _FLOAT64))
        _fill(self, source, target, table, found)

    def __call__(self, q: Any, *, out: Array | None = None) -> Array:
        """The codes that the codes `q` become.

        Parameters
        ----------
        q
            Codes of ``source.dtype``, any shape and strides; where the parameters have an axis, it
            must fit.
        out
            Where to put the codes: an array of ``target.dtype`` in the shape of `q`; it may be or
            overlap `q`.

        Raises
        ------
        TypeError
            `q` is not of ``source.dtype``; `out` is not of ``target.dtype``.
        ValueError
            Parameters that do not fit the shape; `out` of a wrong shape, read-only, or with
            elements that share memory.
        """
        found: Array = _look_up(q, self, self._native, out)
        return found

    @property
    def table(self) -> Array:
        """What each code becomes: ``target.dtype`` [256] or [channels, 256], read-only.

        Column i is for the code ``i + numpy.iinfo(source.dtype).min``.
        """
        found: Array = _view(self._table)
        return found

    def _key(self) -> tuple[Any, ...]:
        return self.source, self.target, self._table.tobytes()

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Lookup) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Lookup is immutable; build a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Lookup is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.source, self.target, self._table, self.max_abs_error)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self._table.shape))
        return (
            f"<Lookup of {shape} codes, max_abs_error={self.max_abs_error:.6g}, from {self.source} "
            f"to {self.target}>"
        )


def _look_up(q: Any, lookup: Lookup, native: Any, out: Array | None) -> Array:
    """What `Lookup.__call__` does; `native` is for the builtin that stands for this function."""
    source, target = lookup.source, lookup.target
    q = _checks.exact_array(q, source.dtype, "q", "pass codes that have the parameters `source`")
    axis = target.axis if source.axis is None else source.axis
    if axis is not None:
        axis = _checks.normal_axis(axis, q.ndim)
        if q.shape[axis] != len(lookup._table):
            raise ValueError(
                f"q has shape {q.shape}, and the table has {len(lookup._table)} channels, along "
                f"axis {axis} of q; pass codes with as many there, or make a table for another "
                "axis (channel_axis of image_lookup)"
            )
    out = _checks.output(out, q.shape, target.dtype)
    return _backend.look_up(q, lookup._table, axis, native, out)


if not TYPE_CHECKING:
    (_look_up,) = _backend.builtins(_look_up)


def _restored(source: Params, target: Params, table: Array, error: float) -> Lookup:
    return _set(object.__new__(Lookup), source, target, table, error)


def _set(self: Lookup, source: Params, target: Params, table: Array, error: float) -> Lookup:
    table = _frozen(table)
    axis = target.axis if source.axis is None else source.axis
    native = _backend.native_tables(table, source.dtype, axis)
    values = (native, table, error, source, target)
    for name, value in zip(Lookup.__slots__, values, strict=True):
        object.__setattr__(self, name, value)
    return self


def _fill(self: Lookup, source: Params, target: Params, table: Array, wanted: Array) -> Lookup:
    """Sets the slots; `wanted` are the values that the codes of `table` stand for."""
    low = _first(source.dtype)
    used = (..., slice(source.qmin - low, source.qmax - low + 1))
    with np.errstate(all="ignore"):
        error = np.abs(wanted - _decoded(table, target))[used]
    return _set(self, source, target, table, float(error.max(initial=0, where=np.isfinite(error))))


# ---------------------------------------------------------------------------------------------
# Parameters, per tensor or per channel, over tables


def _first(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).min)


def _channels(
    source: object, target: object, names: tuple[str, str] = ("source", "target")
) -> tuple[int, ...]:
    """The shape of the parameters together: (), or (channels,)."""
    for name, each in zip(names, (source, target), strict=True):
        if not isinstance(each, Params):
            raise TypeError(
                f"{name} must be a QuantParams or OffsetParams, not {type(each).__name__}; pass "
                "for example zp.QuantParams(scale, zero_point), or what choose_params(x) returns"
            )
        if each.block_size is not None:
            raise ValueError(
                f"{name} has block_size {each.block_size}; pass parameters per tensor or per "
                "channel, which tables work for"
            )
    assert isinstance(source, Params)
    assert isinstance(target, Params)
    both = source.axis is not None and target.axis is not None
    if both and source.axis != target.axis:
        raise ValueError(
            f"the axis of {names[0]} is {source.axis} and that of {names[1]} {target.axis}; name "
            "the same axis in the same way"
        )
    shapes = source._arrays[0].shape, target._arrays[0].shape
    if both and shapes[0] != shapes[1]:
        raise ValueError(
            f"{names[0]} has {shapes[0][0]} channels and {names[1]} {shapes[1][0]}; pass as many "
            "for both, or one scale for all"
        )
    return max(shapes, key=len)


def _columns(params: Params, real: np.dtype[Any] | None = None) -> tuple[Array, Array]:
    """The two arrays so that they broadcast against a table; real numbers perhaps as `real`."""
    first, second = (
        each.astype(real or each.dtype) if each.dtype.kind == "f" else each
        for each in params._arrays
    )
    return first.reshape(*first.shape, 1), second.reshape(*second.shape, 1)


def _in_float64(params: Params) -> Params:
    """Parameters that compute in float64, in which faiss does not fuse."""
    if not isinstance(params, OffsetParams) or not params.fused:
        return params
    span, offset = (each.astype(_FLOAT64) for each in params._arrays)
    return params.replace(span=span, offset=offset, fused=False)


def _decoded(codes: Array, params: Params) -> Array:
    return _in_float64(params)._decoded(codes, *_columns(params, _FLOAT64), _FLOAT64)


def _all_codes(source: Params, channels: tuple[int, ...]) -> Array:
    """Every code there is, for each channel."""
    codes = np.arange(256) + _first(source.dtype)
    return np.broadcast_to(codes.astype(source.dtype), (*channels, 256))


def _evaluated(function: Callable[[Array], Any], values: Array) -> Array:
    """What `function` makes of the values, as float64."""
    fix = "if it is for single numbers, pass numpy.vectorize(function)"
    try:
        with np.errstate(all="ignore"):
            given = function(values)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"function fails on the float64 array of shape {values.shape} that holds the values of "
            f"all codes: {error}; {fix}"
        ) from error
    found = _checks.number_array(given, "function(values)")
    if found.shape != values.shape:
        raise ValueError(
            f"function(values) has shape {found.shape} where {values.shape} is needed, a number "
            f"for each value; {fix}"
        )
    return _reference.widen(found).astype(_FLOAT64)


# ---------------------------------------------------------------------------------------------
# From one tensor's parameters to another's

#: tables by the ids of two parameters, which are kept so that no others get them, or by their
#: values, which takes longer; and by the arithmetic
_remembered: dict[tuple[Any, ...], tuple[Lookup, Params, Params]] = {}
#: of these, and codes in their tables; then they are forgotten
_MOST, _MOST_CODES = 256, 2**24


def rescale(
    q: Any,
    source: QuantParams | OffsetParams,
    target: QuantParams | OffsetParams,
    *,
    arithmetic: str = "exact",
    out: Array | None = None,
) -> Array:
    """Codes under `source` parameters to codes under `target`, of uint8 or int8 in any pair.

    The table is computed at the first call with such parameters and remembered.

    Parameters
    ----------
    q
        Codes of ``source.dtype``, any shape and strides.
    source, target
        QuantParams or OffsetParams, per tensor or per channel; if both have an axis, the same and
        as many channels.
    arithmetic
        ``"exact"``: the code nearest to the real value of ``q``, in exact arithmetic; halves go
        where the convention of `target` sends them.  ``"litert"``: the bits of LiteRT's QUANTIZE
        from codes to codes with its default kernels; ``"litert_reference"``: with its reference
        kernels, gemmlowp's fixed point.  ``"float"``: dequantize, then quantize, in float32
        (float64 where parameters are), as ONNX's pair of DequantizeLinear and QuantizeLinear does
        under the convention ``onnx``.
    out
        Where to put the codes: an array of ``target.dtype`` in the shape of `q`; it may be or
        overlap `q`.

    Returns
    -------
    numpy.ndarray
        Codes of ``target.dtype`` in the shape of `q` (C-contiguous), or `out`.  A
        ``source.nan_code`` becomes ``target.nan_code``, or ``target.qmin`` where there is none.

    Raises
    ------
    TypeError
        `q` is not of ``source.dtype``; `out` is not of ``target.dtype``; other parameters.
    ValueError
        An unknown arithmetic; parameters with `block_size`, or that fit neither each other nor
        the shape; for LiteRT's, an OffsetParams, zero points outside [qmin, qmax], scales that
        are no float32, or a ratio of 2**31 or more; `out` as in `quantize`.
    """
    try:
        found = _remembered[id(source), id(target), arithmetic][0]
    except (KeyError, TypeError):  # TypeError: what is no string may have no hash
        _checks.name(arithmetic, "arithmetic", ARITHMETICS)
        _channels(source, target)
        by_value = source._key(), target._key(), arithmetic
        kept = _remembered.get(by_value)
        found = kept[0] if kept else _rescaling(source, target, arithmetic)
        sizes = {id(each): each._table.size for each, *_ in list(_remembered.values())}
        if len(_remembered) >= _MOST or sum(sizes.values()) >= _MOST_CODES:
            _remembered.clear()
        for key in by_value, (id(source), id(target), arithmetic):
            _remembered[key] = found, source, target
    rescaled: Array = _look_up(q, found, found._native, out)
    return rescaled


@_backend.ieee
def _rescaling(source: Params, target: Params, arithmetic: str) -> Lookup:
    channels = _channels(source, target)
    codes = _all_codes(source, channels)
    if arithmetic == "exact":
        table = _exact(codes, source, target)
    elif arithmetic == "float":
        table = _through_float(codes, source, target)
    else:
        table = _as_litert(codes, source, target, arithmetic == "litert_reference")
    table = table.astype(target.dtype).reshape(codes.shape)
    if source.nan_code is not None:
        nan = target.qmin if target.nan_code is None else target.nan_code
        table[..., source.nan_code - _first(source.dtype)] = nan
    return _fill(object.__new__(Lookup), source, target, table, _decoded(codes, source))


def _exact(codes: Array, source: Params, target: Params) -> Array:
    n = codes.size // 256

    def lines(params: Params) -> list[tuple[Fraction, Fraction]]:
        how = {name: getattr(params, name) for name in ("qmin", "qmax", "convention")}
        found = _reference.line(*params._arrays, **how)
        return found if params.axis is not None else found * n

    return _reference.exact_codes(
        codes.reshape(n, 256),
        lines(source),
        lines(target),
        np.broadcast_to(target._arrays[1] if isinstance(target, QuantParams) else 0, n),
        qmin=target.qmin,
        qmax=target.qmax,
        convention=target.convention,
    )


def _through_float(codes: Array, source: Params, target: Params) -> Array:
    doubles = any(params._arrays[0].dtype == _FLOAT64 for params in (source, target))
    real = np.dtype(np.float64 if doubles else np.float32)
    return target._codes(source._decoded(codes, *_columns(source), real), *_columns(target))


def _as_litert(codes: Array, source: Params, target: Params, reference: bool) -> Array:
    scales = []
    for name, params in (("source", source), ("target", target)):
        if not isinstance(params, QuantParams):
            raise ValueError(
                f"{name} is an OffsetParams, and LiteRT has no real offsets; use arithmetic='exact'"
            )
        params._check_precision(np.dtype(np.float32))
        zero = np.asarray(params.zero_point)
        if zero.size and not params.qmin <= zero.min() <= zero.max() <= params.qmax:
            raise ValueError(
                f"the zero_point of {name} must lie in [qmin, qmax] = [{params.qmin}, "
                f"{params.qmax}] for LiteRT's arithmetic; use arithmetic='exact'"
            )
        scales.append(_columns(params, np.dtype(np.float32))[0])
    with np.errstate(all="ignore"):
        ratio = np.divide(*scales, dtype=np.float64)
    if ratio.size and ratio.max() >= 2.0**_reference.LITERT_SHIFTS:
        raise ValueError(
            f"source.scale / target.scale is {ratio.max():g}, and LiteRT's arithmetic is undefined "
            f"from 2**{_reference.LITERT_SHIFTS} on; use arithmetic='exact'"
        )
    found = _reference.litert_codes(
        codes.astype(np.int64) - _columns(source)[1],
        scales[0],
        scales[1],
        _columns(target)[1],
        xnnpack=not reference and source.dtype == target.dtype,
        reference=reference,
    )
    return np.clip(found, target.qmin, target.qmax)


# ---------------------------------------------------------------------------------------------
# Images


@_backend.ieee
def image_lookup(
    mean: Any,
    std: Any,
    params: QuantParams | OffsetParams,
    *,
    scale: Any = 255,
    channel_axis: int = -1,
) -> Lookup:
    """uint8 pixels to a model's codes: ``quantize((pixel / scale - mean) / std, params)``.

    Parameters
    ----------
    mean, std
        As for torchvision's Normalize: a number, or one for each channel.
    params
        The parameters of the model's input, a QuantParams or an OffsetParams.
    scale
        What pixels are divided by first: 255 where the model was trained on values in [0, 1], 1
        where `mean` and `std` are in units of pixels.
    channel_axis
        Where `mean` or `std` has several numbers: the axis of the channels, -1 for pixels in the
        order height, width, channel (with or without a batch), -3 for channel, height, width.

    Returns
    -------
    Lookup
        Its ``source`` has scale 1 and zero point 0: the value of a pixel is the pixel.

    Raises
    ------
    TypeError
        Numbers that are not real; `params` of another type.
    ValueError
        A `std` or `scale` of 0, numbers that are not finite, or as many as do not fit each other
        or the channels of `params`.

    Notes
    -----
    Computed in float64 and rounded once, to the code.
    """
    axis = _checks.axis(channel_axis, "channel_axis")
    if axis is None:
        raise TypeError("channel_axis must be an integer, not None; -1 is the last axis")
    numbers = []
    for name, value in (("mean", mean), ("std", std), ("scale", scale)):
        found = _checks.numbers(value, name)
        if found.dtype.kind not in "fiu" or found.ndim > (name != "scale") or not found.size:
            raise TypeError(
                f"{name} must be a real number{' or one per channel' * (name != 'scale')}, not "
                f"{_checks.shown(value)}"
            )
        found = found.astype(_FLOAT64)
        if not np.isfinite(found).all() or (name != "mean" and (found == 0).any()):
            raise ValueError(
                f"{name} {_checks.shown(value)} must be finite{' and not 0' * (name != 'mean')}"
            )
        numbers.append(found)
    if numbers[0].ndim and numbers[1].ndim and numbers[0].shape != numbers[1].shape:
        raise ValueError(
            f"mean has {numbers[0].size} numbers and std {numbers[1].size}; pass one for each "
            "channel, or one for all"
        )
    channels = max(numbers, key=np.ndim).shape
    pixels = QuantParams(np.ones(channels, np.float32), 0, axis=axis if channels else None)
    _channels(pixels, params, ("the image of mean, std and channel_axis", "params"))
    of_mean, of_std, by = (each.reshape(*each.shape, 1) for each in numbers)
    return Lookup(lambda x: (x / by - of_mean) / of_std, pixels, params)
