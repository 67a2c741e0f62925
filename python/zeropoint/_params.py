"""`QuantParams`: scale, zero point and the recipe, validated once and then immutable."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from . import _backend, _checks, _conventions
from ._checks import INT32
from ._reference import Array, spread

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
        array, one scale a channel; with `block_size` an array of the data's shape with `axis`
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
        Elements a block along `axis`, as in ONNX opset 21; the last block may be short.
    convention
        Whose bits: ``"numpy"``, ``"onnx"``, ``"torch"`` or ``"tflite"``, or an alias.
    include_zero
        False where the range need not hold 0 (``numpy`` convention alone), see `choose_params`.

    Raises
    ------
    TypeError
        A zero point that is not an integer; a scale that is not a real number.
    ValueError
        A scale that is not finite and positive, a zero point or a range outside its bounds,
        shapes that do not fit, an unknown name.
    """

    __slots__ = ("_native", "_scale", "_zero_point", *_FIELDS[2:])

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

    @_backend.ieee
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
        fields: dict[str, Any] = {"convention": _conventions.canonical(convention)}
        fields["include_zero"] = _checks.flag(include_zero, "include_zero")
        if not include_zero and fields["convention"] != "numpy":
            raise ValueError(
                f"include_zero=False is for the numpy convention alone, not {convention!r}; "
                "the engines need a range that holds 0"
            )
        fields["dtype"] = _checks.code_dtype(dtype)
        fields["qmin"], fields["qmax"] = _checks.code_range(qmin, qmax, fields["dtype"])
        fields["axis"] = None if axis is None else _checks.axis(axis)
        fields["block_size"] = None if block_size is None else _checks.block(block_size)

        scales = _scale_array(scale, fields["convention"])
        _check_rank(scales, fields)
        zeros = _zero_array(zero_point, scales.shape, fields)
        scales, zeros = _frozen(scales), _frozen(zeros)
        fields["_scale"] = scales if scales.ndim else scales[()]
        fields["_zero_point"] = zeros if zeros.ndim else int(zeros)
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_native", _backend.native_params(scales, zeros, self))

    @classmethod
    def _trusted(
        cls,
        scale: Array,
        zero: Array,
        choice: Any,
        axis: int | None,
        block: int | None,
        native: Any,
    ) -> QuantParams:
        """Parameters that the core has just chosen: nothing is left to check."""
        self = object.__new__(cls)
        put = object.__setattr__
        if axis is None:
            put(self, "_scale", scale[()])
            put(self, "_zero_point", zero.item())
        else:
            put(self, "_scale", _frozen(scale))
            put(self, "_zero_point", _frozen(zero))
            axis = axis if block is None else axis % scale.ndim
        put(self, "dtype", choice.dtype)
        put(self, "qmin", choice.qmin)
        put(self, "qmax", choice.qmax)
        put(self, "axis", axis)
        put(self, "block_size", block)
        put(self, "convention", choice.convention)
        put(self, "include_zero", choice.include_zero)
        put(self, "_native", native)
        return self

    @property
    def scale(self) -> Any:
        """numpy.float32 or float64, or a read-only array of them."""
        return _view(self._scale)

    @property
    def zero_point(self) -> Any:
        """An int, or a read-only int32 array."""
        return _view(self._zero_point)

    # -- use ------------------------------------------------------------------------------------

    def quantize(self, x: Any, *, out: Array | None = None) -> Array:
        """`zeropoint.quantize(x, self, out=out)`."""
        return _api.quantize(x, self, out=out)

    def dequantize(self, q: Any, *, dtype: Any = None, out: Array | None = None) -> Array:
        """`zeropoint.dequantize(q, self, dtype=dtype, out=out)`."""
        return _api.dequantize(q, self, dtype=dtype, out=out)

    def fake_quantize(self, x: Any, *, out: Array | None = None) -> Array:
        """`zeropoint.fake_quantize(x, self, out=out)`."""
        return _api.fake_quantize(x, self, out=out)

    # -- value ----------------------------------------------------------------------------------

    def _key(self) -> tuple[Any, ...]:
        scale, zero = np.asarray(self.scale), np.asarray(self.zero_point)
        rest = (getattr(self, name) for name in _FIELDS[2:])
        return scale.dtype.name, scale.shape, scale.tobytes(), zero.tobytes(), *rest

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, QuantParams) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"QuantParams is immutable; build a new one to change {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("QuantParams is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, tuple(getattr(self, name) for name in _FIELDS)

    @_backend.ieee
    def __repr__(self) -> str:
        """The call that makes them; of arrays, in angle brackets, the range and what fits."""

        def show(value: Any) -> str:
            if not isinstance(value, np.ndarray):
                return str(value)
            if value.size == 0:
                return f"<array of shape {value.shape}>"
            what = "channels" if self.block_size is None else "blocks"
            rest = f"{' x '.join(map(str, value.shape))} {what}"
            if value.ndim == 1 and value.size <= 8:
                rest = f"[{', '.join(map(str, value))}]"
            return f"<{value.min()!s}..{value.max()!s}: {rest}>"

        info = np.iinfo(self.dtype)
        text = f"QuantParams(scale={show(self.scale)}, zero_point={show(self.zero_point)}"
        text += f", dtype={self.dtype.name!r}"
        shown = {
            "qmin": (self.qmin, info.min),
            "qmax": (self.qmax, info.max),
            "axis": (self.axis, None),
            "block_size": (self.block_size, None),
            "convention": (self.convention, "numpy"),
            "include_zero": (self.include_zero, True),
        }
        for name, (value, default) in shown.items():
            if value != default:
                text += f", {name}={value!r}"
        return text + ")"

    @_backend.ieee
    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact.

        Blocks of data without elements have no scales, and only then it has their ``shape``, which
        nested lists would lose.
        """
        scale = np.asarray(self.scale)
        fields = {name: getattr(self, name) for name in _FIELDS}
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

    # -- what the rest of the package asks ------------------------------------------------------

    def _recipe(self) -> dict[str, Any]:
        """All but scale and zero point, as the keywords of parameters for a part of the data."""
        return {name: getattr(self, name) for name in _FIELDS[2:]}

    def _check_fits(self, shape: tuple[int, ...]) -> int | None:
        """ValueError unless the parameters fit data of `shape`; the axis, counted from 0."""
        if self.axis is None:
            return None
        axis = _checks.normal_axis(self.axis, len(shape))
        if self.block_size is None:
            needed: tuple[int, ...] = (shape[axis],)
        else:
            blocks = -(-shape[axis] // self.block_size)
            needed = (*shape[:axis], blocks, *shape[axis + 1 :])
        if np.shape(self.scale) != needed:
            raise ValueError(
                f"scale has shape {np.shape(self.scale)}; data of shape {shape} with axis "
                f"{self.axis} and block_size {self.block_size} needs shape {needed}"
            )
        return axis

    def _check_precision(self, dtype: np.dtype[Any]) -> None:
        """ValueError where the scale (or 1/s) is lost in the working precision of the data."""
        scale = np.asarray(self.scale)
        if scale.dtype != dtype:
            _check_cast(scale, dtype, self.convention)

    def _spread(self, shape: tuple[int, ...], axis: int | None) -> tuple[Array, Array]:
        """Scale and zero point, ready to broadcast against data of `shape`."""
        scale, zero = np.asarray(self.scale), np.asarray(self.zero_point, np.int32)
        return tuple(spread(p, shape, axis, self.block_size) for p in (scale, zero))  # type: ignore[return-value]


@_backend.ieee
def _check_cast(scale: Array, dtype: np.dtype[Any], convention: str) -> None:
    with np.errstate(all="ignore"):
        cast = scale.astype(dtype)
    _check_scale(cast, convention, f"scale, cast to {dtype} as the data is, ")


def _rebuild(*values: Any) -> QuantParams:
    return QuantParams(**dict(zip(_FIELDS, values, strict=True)))


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
    """An array that is new each time: shape and dtype of an array can be set, read-only or not."""
    return value.view() if isinstance(value, np.ndarray) else value


def _frozen(x: Array) -> Array:
    """The same values over memory that nobody can make writeable again."""
    return np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)


def _scale_array(scale: Any, convention: str) -> Array:
    """A fresh float32 or float64 array of valid scales."""
    found = _checks.numbers(scale, "scale")
    if found.dtype.kind in "iu" or isinstance(scale, int):
        with contextlib.suppress(OverflowError):  # an int beyond float64 is no finite scale
            found = np.asarray(found, np.float64)
        if found.dtype == object:
            raise ValueError("scale is beyond float64: a scale must be finite and > 0")
    elif found.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise TypeError(
            f"scale must be a real number or an array of them, not {_checks.shown(scale)}"
        )
    plain = isinstance(scale, (int, float, list, tuple)) and not isinstance(scale, np.generic)
    keep = found.dtype == np.float64 and not plain
    _check_scale(found, convention, "scale ")
    with np.errstate(all="ignore"):
        cast = np.array(found, np.float64 if keep else np.float32, order="C")
    _check_scale(cast, convention, "scale, stored as float32, ")
    return cast


def _check_scale(scale: Array, convention: str, what: str) -> None:
    fix = "a scale must be finite and > 0"
    with np.errstate(all="ignore"):
        good = np.isfinite(scale) & (scale > 0)
        if convention == "torch" and good.all() and scale.dtype.itemsize >= 4:
            good = np.isfinite(1 / scale)
            fix = "1/scale must be finite under the torch convention; use onnx, or a larger scale"
    if not np.all(good):
        where = np.unravel_index(int(np.argmin(good)), scale.shape)
        place = f"of channel {int(where[0])} " if scale.ndim == 1 else ""
        place = f"of block {tuple(map(int, where))} " if scale.ndim > 1 else place
        raise ValueError(f"{what}{place}is {scale[where]}: {fix}")


def _check_rank(scales: Array, fields: dict[str, Any]) -> None:
    axis, block_size, shape = fields["axis"], fields["block_size"], scales.shape
    if axis is None:
        if block_size is not None:
            raise ValueError(
                f"block_size {block_size} needs an axis; pass axis=-1 for the last one"
            )
        if shape:
            raise ValueError(
                f"scale has shape {shape} but axis is None; name the channel axis, or "
                "pass one number"
            )
    elif block_size is None:
        if len(shape) != 1:
            raise ValueError(
                f"scale has shape {shape}; with axis {axis} it must be 1-D, one scale a channel"
            )
    elif not shape:
        raise ValueError(
            f"scale is one number; with block_size {block_size} it needs the data's shape with "
            f"axis {axis} divided by block_size"
        )
    else:
        fields["axis"] = _checks.normal_axis(axis, len(shape))


def _zero_array(zero_point: Any, shape: tuple[int, ...], fields: dict[str, Any]) -> Array:
    """A fresh int32 array of zero points in the shape of the scales."""
    found = _checks.numbers(zero_point, "zero_point")
    if found.ndim == 0:
        if found.dtype.kind in "mM":  # whose item() may be an integer
            raise TypeError(f"zero_point must be an integer, not {found.dtype}")
        found = np.asarray(_checks.integer(found.item(), "zero_point"), object)
    elif found.size == 0 and isinstance(zero_point, (list, tuple)):
        found = found.astype(np.int32)
    elif found.dtype == object and all(type(z) is int for z in found.flat):
        pass  # integers beyond int64: out of range, reported below
    elif found.dtype.kind not in "iu":
        raise TypeError(f"zero_point must hold integers, not {found.dtype}")
    if found.ndim and found.shape != shape:
        raise ValueError(
            f"zero_point has shape {found.shape} and scale has shape {shape}; "
            "they must be the same, or zero_point one integer"
        )
    low, high = (
        (fields["qmin"], fields["qmax"]) if fields["include_zero"] else (INT32.min, INT32.max)
    )
    outside = (found < low) | (found > high)
    if np.any(outside):
        value = found[np.unravel_index(int(np.argmax(outside)), found.shape)]
        fix = "" if fields["include_zero"] or fields["convention"] != "numpy" else " (any int32)"
        raise ValueError(
            f"zero_point {value} is outside [{low}, {high}]{fix}; clip it to that range"
        )
    return np.array(np.broadcast_to(found, shape), np.int32, order="C")


from . import _api  # noqa: E402  (at the end: _api needs the class above)
