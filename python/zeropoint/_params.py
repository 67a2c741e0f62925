"""`QuantParams`: scale, zero point and the recipe, validated once and then immutable."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from . import _backend, _checks, _conventions, _reference
from ._checks import INT32
from ._layout import Layout
from ._reference import Array, working_dtype

_FIELDS = (
    "scale",
    "zero_point",
    "dtype",
    "qmin",
    "qmax",
    "axis",
    "block_size",
    "convention",
    "include_zero",
)


class QuantParams:
    """The parameters of 8-bit affine quantization; immutable, equal and hashed by value.

    ``quantize``: ``q = clip(round(x / scale + zero_point), qmin, qmax)`` in the arithmetic of the
    convention (`zeropoint.CONVENTIONS`); ``dequantize``: ``x' = (q - zero_point) * scale``.

    Parameters
    ----------
    scale
        Size of one step, in the unit of the data: finite and > 0.  A scalar; with `axis` a 1-D
        array, one scale per channel; with `block_size` an array of the data's shape with `axis`
        divided by `block_size`.  Python numbers and lists of them are stored as float32, NumPy
        scalars and arrays of any library keep float32 or float64 (float16 and bfloat16 widen to
        float32).
    zero_point
        The code of 0: an integer or integers in the shape of `scale`; one integer serves all.  In
        [qmin, qmax], with ``include_zero=False`` any int32.  Read as `scale` is.
    dtype
        ``"uint8"`` or ``"int8"``: the type of the codes.
    qmin, qmax
        First and last code in use; the ends of `dtype` unless given.
    axis
        The channel axis, or the axis that is cut into blocks; may be negative.
    block_size
        Elements per block along `axis`, as in ONNX opset 21; the last block may be short.
    convention
        Whose bits: ``"numpy"``, ``"onnx"``, ``"torch"``, ``"tflite"`` or ``"ggml"``, or an alias.
    include_zero
        False where the range need not hold 0 (``numpy`` convention alone), see `choose_params`.

    Raises
    ------
    TypeError
        A zero point that is not an integer; a scale that is not a real number; a `dtype` that is
        not uint8 or int8.
    ValueError
        A scale that is not finite and positive, a zero point or a range outside its bounds,
        shapes that do not fit, an unknown name.
    """

    __slots__ = ("_scale", "_zero_point", *_FIELDS[2:], "_native")

    _scale: Any
    _zero_point: Any
    dtype: np.dtype[Any]
    qmin: int
    qmax: int
    axis: int | None
    block_size: int | None
    convention: str
    include_zero: bool
    _native: Any  # the core's form of the same parameters; None where the core is absent

    def __init__(
        self,
        scale: Any,
        zero_point: Any,
        dtype: Any = "uint8",
        *,
        qmin: int | None = None,
        qmax: int | None = None,
        axis: int | None = None,
        block_size: int | None = None,
        convention: str = "numpy",
        include_zero: bool = True,
    ) -> None:
        if hasattr(self, "_native"):
            raise AttributeError("QuantParams is immutable; build a new one")
        rest = (dtype, qmin, qmax, axis, block_size, convention, include_zero)
        _initialise(self, scale, zero_point, *rest)

    @property
    def scale(self) -> Any:
        """numpy.float32 or float64, or a read-only array of them."""
        return _view(self._scale)

    @property
    def zero_point(self) -> Any:
        """An int, or a read-only int32 array."""
        return _view(self._zero_point)

    # -- use ------------------------------------------------------------------------------------

    def quantize(self, x: Any, *, out: Array | None = None, check_finite: bool = False) -> Array:
        """`zeropoint.quantize(x, self, out=out, check_finite=check_finite)`."""
        return quantize(x, self, out=out, check_finite=check_finite)

    def dequantize(self, q: Any, *, dtype: Any = None, out: Array | None = None) -> Array:
        """`zeropoint.dequantize(q, self, dtype=dtype, out=out)`."""
        return dequantize(q, self, dtype=dtype, out=out)

    def fake_quantize(self, x: Any, *, out: Array | None = None) -> Array:
        """`zeropoint.fake_quantize(x, self, out=out)`."""
        return fake_quantize(x, self, out=out)

    # -- value ----------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> QuantParams:
        """The same parameters but for `changes`, all checked anew, as by `dataclasses.replace`.

        Another `dtype` needs the zero point, qmin and qmax that go with it: see
        `zeropoint.flip_signedness`.

        Raises
        ------
        TypeError
            A name that is none of the constructor's; what the constructor raises.
        ValueError
            What the constructor raises.
        """
        for name in changes:
            if name not in _FIELDS:
                raise TypeError(f"QuantParams has no {name!r}; it has {', '.join(_FIELDS)}")
        return QuantParams(**self._fields() | changes)

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _FIELDS}

    def _key(self) -> tuple[Any, ...]:
        scale, zero = np.asarray(self.scale), np.asarray(self.zero_point)
        rest = (getattr(self, name) for name in _FIELDS[2:])
        return scale.dtype.name, scale.shape, scale.tobytes(), zero.tobytes(), *rest

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, QuantParams) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"QuantParams is immutable; use replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("QuantParams is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(QuantParams, **self._fields()), ()

    @_backend.ieee
    def __repr__(self) -> str:
        """The call that makes them; of arrays, in angle brackets, the range and what fits."""
        double = np.asarray(self._scale).dtype == np.float64
        scale = _shown(self._scale, self.block_size, "float64 " * double)
        if double and self.axis is None:
            scale = f"float64({scale})"
        zero = _shown(self._zero_point, self.block_size)
        text = f"QuantParams(scale={scale}, zero_point={zero}, dtype={self.dtype.name!r}"
        info = np.iinfo(self.dtype)
        defaults = info.min, info.max, None, None, "numpy", True
        for name, default in zip(_FIELDS[3:], defaults, strict=True):
            value = getattr(self, name)
            if value != default:
                text += f", {name}={value!r}"
        return text + ")"

    @_backend.ieee
    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact.

        ``shape`` is there only where there are no scales, because nested lists would lose it.
        """
        scale = np.asarray(self.scale)
        fields = self._fields()
        fields["scale"] = scale.tolist()
        fields["scale_dtype"] = scale.dtype.name
        fields["zero_point"] = np.asarray(self.zero_point).tolist()
        fields["dtype"] = self.dtype.name
        if scale.size == 0 and scale.ndim > 1:
            fields["shape"] = list(scale.shape)
        return fields

    @classmethod
    @_backend.ieee
    def from_dict(cls, fields: dict[str, Any]) -> QuantParams:
        """The parameters that `to_dict` wrote; ValueError for unknown or missing keys."""
        if not isinstance(fields, dict):
            raise TypeError(f"from_dict takes a dict, not {type(fields).__name__}")
        known = {*_FIELDS, "scale_dtype", "shape"}
        unknown, missing = set(fields) - known, {"scale", "zero_point"} - set(fields)
        if unknown or missing:
            raise ValueError(
                f"not the dictionary of a QuantParams: unknown keys {sorted(map(str, unknown))}, "
                f"missing keys {sorted(missing)}"
            )
        kind = fields.get("scale_dtype", "float32")
        if kind not in ("float32", "float64"):
            raise ValueError(f"scale_dtype {_checks.shown(kind)} must be 'float32' or 'float64'")
        for name, kinds in (("scale", (int, float)), ("zero_point", (int,))):
            if not _holds_only(fields[name], kinds):
                raise TypeError(
                    f"{name} must hold {' or '.join(kind.__name__ for kind in kinds)} values "
                    f"alone, not {_checks.shown(fields[name])}"
                )
        values = {name: fields[name] for name in _FIELDS if name in fields}
        with np.errstate(over="ignore"):
            values["scale"] = np.asarray(values["scale"], kind)
        if "shape" in fields:
            if values["scale"].size:
                raise ValueError("shape is only for scales without elements; leave it out")
            values["scale"] = np.empty(_empty_shape(fields["shape"]), kind)
            values["zero_point"] = 0
        return cls(**values)

    # -- for the rest of the package -------------------------------------------------------------

    def _recipe(self) -> dict[str, Any]:
        """All but scale and zero point, as keywords: those of a tile of the data."""
        return {name: getattr(self, name) for name in _FIELDS[2:]}

    def _check_fits(self, shape: tuple[int, ...]) -> Layout:
        """The layout over data of `shape`; ValueError unless the parameters fit it."""
        if self.axis is None:  # one scale fits all
            return Layout(shape)
        layout = Layout(shape, _checks.normal_axis(self.axis, len(shape)), self.block_size)
        if np.shape(self._scale) != layout.params_shape:
            raise ValueError(
                f"scale has shape {np.shape(self._scale)}; data of shape {shape} with axis "
                f"{self.axis} and block_size {self.block_size} needs shape {layout.params_shape}"
            )
        return layout

    def _check_precision(self, dtype: np.dtype[Any]) -> None:
        """ValueError where the scale (or 1/s) is lost in the working precision of the data."""
        scale = self._scale
        if scale.dtype == np.float64 and dtype != np.float64:
            _check_cast(np.asarray(scale), dtype, self.convention)

    def _spread(self, layout: Layout) -> tuple[Array, Array]:
        """Scale and zero point, ready to broadcast against the data."""
        scale, zero = np.asarray(self._scale), np.asarray(self._zero_point, np.int32)
        return layout.spread(scale), layout.spread(zero)


@_backend.ieee
def _check_cast(scale: Array, dtype: np.dtype[Any], convention: str) -> None:
    with np.errstate(all="ignore"):
        cast = scale.astype(dtype)
    _checks.check_scales(cast, convention, f"scale, cast to {dtype} as the data is, ")


@_backend.ieee
def _initialise(
    self: QuantParams,
    scale: Any,
    zero_point: Any,
    dtype: Any,
    qmin: Any,
    qmax: Any,
    axis: Any,
    block_size: Any,
    convention: Any,
    include_zero: Any,
) -> None:
    """The constructor of `QuantParams`, once: sets its slots."""
    canonical = _conventions.canonical(convention)
    include_zero = _checks.flag(include_zero, "include_zero")
    _checks.zero_included(include_zero, convention, canonical)
    dtype = _checks.code_dtype(dtype)
    qmin, qmax = _checks.code_range(qmin, qmax, dtype)
    axis = _checks.axis(axis)
    block_size = _checks.block(block_size, axis)
    scales = _checks.scales(scale, canonical)
    axis = _checks.granularity(scales.shape, axis, block_size)
    bounds = (qmin, qmax) if include_zero else (INT32.min, INT32.max)
    zeros = _checks.zero_points(zero_point, scales.shape, *bounds)
    scales, zeros = _frozen(scales), _frozen(zeros)
    values = (
        scales if scales.ndim else scales[()],
        zeros if zeros.ndim else int(zeros),
        *(dtype, qmin, qmax, axis, block_size, canonical, include_zero),
    )
    for name, value in zip(QuantParams.__slots__, values, strict=False):  # all but the last
        object.__setattr__(self, name, value)
    object.__setattr__(self, "_native", _backend.native_params(scales, zeros, self))


def _shown(value: Any, block_size: int | None, dtype: str = "") -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    if value.size == 0:
        return f"<{dtype}array of shape {value.shape}>"
    rest = f"{' x '.join(map(str, value.shape))} {'channels' if block_size is None else 'blocks'}"
    if value.ndim == 1 and value.size <= 8:
        rest = f"[{', '.join(map(str, value))}]"
    return f"<{dtype}{value.min()!s}..{value.max()!s}: {rest}>"


def _empty_shape(shape: object) -> tuple[int, ...]:
    """The shape that a dictionary gives for scales without elements; else ValueError."""
    if isinstance(shape, list) and 0 in shape and _holds_only(shape, (int,), 1):
        with contextlib.suppress(ValueError, OverflowError, MemoryError):
            return np.empty(shape, np.float64).shape
    raise ValueError(f"shape {_checks.shown(shape)} must be a list of lengths, one of them 0")


def _holds_only(value: Any, kinds: tuple[type, ...], depth: int = 64) -> bool:
    """Whether `value`, or everything in it if it is a list, is one of `kinds`.

    No array has more dimensions than `depth`, so deeper lists are not looked at.
    """
    if isinstance(value, list):
        return depth > 0 and all(_holds_only(item, kinds, depth - 1) for item in value)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _view(value: Any) -> Any:
    """A new view each time, because shape and dtype of a read-only array can be set."""
    return value.view() if isinstance(value, np.ndarray) else value


def _frozen(x: Array) -> Array:
    """A copy over memory that cannot be made writeable again."""
    return np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)


# ---------------------------------------------------------------------------------------------
# The functions on elements: the methods above are these


def checked(
    params: object, wrong: tuple[Any, ...] = (), call: str = "", option: str = ", out=out"
) -> QuantParams:
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
            f"options go by keyword, and {len(wrong)} came by position; pass for example "
            f"{call}params{option})"
        )
    return params


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
        float16, bfloat16, float32 or float64, any shape and strides: anything that NumPy can view.
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
    params = checked(params, wrong, "zp.quantize(x, ")
    x = _checks.real_array(x)
    layout = params._check_fits(x.shape)
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
        lambda x: quantize_by_reference(x, params, layout),
    )


def quantize_by_reference(x: Array, params: QuantParams, layout: Layout) -> Array:
    how = {name: getattr(params, name) for name in ("qmin", "qmax", "convention", "dtype")}
    return _reference.quantize(x, *params._spread(layout), **how)


def _dequantize(q: Array, params: QuantParams, layout: Layout, dtype: np.dtype[Any]) -> Array:
    return _reference.dequantize(q, *params._spread(layout), dtype=dtype)


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
    params = checked(params, wrong, "zp.dequantize(q, ")
    q = _checks.exact_array(q, params.dtype, "q", "these are not codes of params.dtype")
    if dtype is not None:
        target = _checks.real_dtype(dtype)
    elif isinstance(out, np.ndarray):
        target = _checks.real_dtype(out.dtype, "out's dtype")
    else:
        target = np.dtype(np.float32)
    layout = params._check_fits(q.shape)
    out = _checks.output(out, q.shape, target)
    return _backend.elementwise(
        "dequantize_into",
        q,
        target,
        out,
        (params._native,),
        lambda q: _dequantize(q, params, layout, target),
    )


def fake_quantize(x: Any, params: QuantParams, *wrong: Never, out: Array | None = None) -> Array:
    """``dequantize(quantize(x))`` in one pass: what quantization makes of `x`, in its own dtype.

    Parameters, errors and the treatment of NaN and Inf are those of `quantize`; `out` has the
    dtype of `x` and may be `x` itself.
    """
    params = checked(params, wrong, "zp.fake_quantize(x, ")
    x = _checks.real_array(x)
    layout = params._check_fits(x.shape)
    params._check_precision(working_dtype(x.dtype))
    out = _checks.output(out, x.shape, x.dtype)
    return _backend.elementwise(
        "fake_quantize_into",
        x,
        x.dtype,
        out,
        (params._native,),
        lambda x: _dequantize(quantize_by_reference(x, params, layout), params, layout, x.dtype),
    )


if not TYPE_CHECKING:  # the functions above answer what the core's builtins decline
    quantize, dequantize, fake_quantize, _initialise = _backend.builtins(
        quantize, dequantize, fake_quantize, _initialise, params_type=QuantParams
    )
