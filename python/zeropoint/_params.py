"""`QuantParams` and `OffsetParams`: the numbers and the recipe, validated once, then immutable."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self

import numpy as np

from . import _backend, _cf, _checks, _conventions, _html, _reference
from ._checks import INT32
from ._layout import Layout
from ._reference import BY_SPAN, Array, working_dtype

#: what both kinds have beside their two arrays, in the order of the slots
_SHARED = ("dtype", "qmin", "qmax", "axis", "block_size", "convention", "nan_code")


class Params:
    """Parameters of either kind, `QuantParams` or `OffsetParams`: two arrays and the recipe.

    The first array is the scale (or the span), the second the zero point or the offset; both have
    the shape of the layout's parameters.
    """

    __slots__ = (*_SHARED, "_native")

    dtype: np.dtype[Any]
    qmin: int
    qmax: int
    axis: int | None
    block_size: int | None
    convention: str
    nan_code: int | None
    _native: Any  # the core's form of the same parameters; None where the core is absent

    #: what the constructor takes beside the arrays
    _RECIPE: ClassVar[tuple[str, ...]]

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

    def replace(self, **changes: Any) -> Self:
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
        fields = self._fields()
        for name in changes:
            if name not in fields:
                raise TypeError(
                    f"{type(self).__name__} has no {name!r}; it has {', '.join(fields)}"
                )
        return type(self)(**fields | changes)

    def _key(self) -> tuple[Any, ...]:
        first, second = self._arrays
        return first.dtype.char, first.shape, first.tobytes(), second.tobytes(), self._recipe_key()

    def _recipe_key(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._RECIPE)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Params) or type(other) is not type(self):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self._fields()), ()

    @_backend.ieee
    def __repr__(self) -> str:
        """The call that makes them; of arrays, in angle brackets, the range and what fits."""
        text = f"{type(self).__name__}({self._numbers_shown()}, dtype={self.dtype.name!r}"
        info = np.iinfo(self.dtype)
        defaults = {"qmin": info.min, "qmax": info.max} | self._defaults()
        if self.nan_code in (info.min, info.max):  # which has moved an end of the range in
            end = "qmin" if self.nan_code == info.min else "qmax"
            defaults[end] += 1 if end == "qmin" else -1
        for name in self._RECIPE[1:]:
            value = getattr(self, name)
            if value != defaults.get(name):
                text += f", {name}={value!r}"
        return text + ")"

    @_backend.ieee
    def _repr_html_(self) -> str:
        """The same as a table, and the values that the codes stand for."""
        first, second = self._arrays
        rows: list[tuple[str, object]] = []
        for name, each in zip(self._names, (first, second), strict=True):
            of = " (float64)" if each.dtype == np.float64 else ""
            rows.append((name + of, _shown(_number_or_array(each), self.block_size)))
        if first.size:
            ends = (
                self._decoded(np.full(first.shape, code, self.dtype), first, second, first.dtype)
                for code in (self.qmin, self.qmax)
            )
            low, high = (np.asarray(end) for end in ends)
            rows.append(("values", f"{low.min()!s}..{high.max()!s}"))
        rows += [(name, value) for name, value in self._recipe().items() if value is not None]
        return _html.table(rows, caption=type(self).__name__, left=(1,))

    @_backend.ieee
    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact.

        ``shape`` is there only where there are no scales, because nested lists would lose it.
        """
        first, second = self._arrays
        fields = dict(zip(self._names, (first.tolist(), second.tolist()), strict=True))
        fields |= self._recipe()
        fields["scale_dtype"] = first.dtype.name
        fields["dtype"] = self.dtype.name
        if first.size == 0 and first.ndim > 1:
            fields["shape"] = list(first.shape)
        return fields

    @classmethod
    @_backend.ieee
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The parameters that `to_dict` wrote; ValueError for `fields` with other keys."""
        if not isinstance(fields, dict):
            raise TypeError(f"from_dict takes a dict, not {type(fields).__name__}")
        names = cls._names_in(fields)
        unknown = set(fields) - {*names, *cls._RECIPE, "scale_dtype", "shape"}
        missing = set(names) - set(fields)
        if unknown or missing:
            raise ValueError(
                f"not the dictionary of {'an' if cls is OffsetParams else 'a'} {cls.__name__}: "
                f"unknown keys {sorted(map(str, unknown))}, missing keys {sorted(missing)}"
            )
        kind = fields.get("scale_dtype", "float32")
        if kind not in ("float32", "float64"):
            raise ValueError(f"scale_dtype {_checks.shown(kind)} must be 'float32' or 'float64'")
        values = {name: fields[name] for name in cls._RECIPE if name in fields}
        for name in names:
            kinds = (int,) if name == "zero_point" else (int, float)
            if not _holds_only(fields[name], kinds):
                raise TypeError(
                    f"{name} must hold {' or '.join(kind.__name__ for kind in kinds)} values "
                    f"alone, not {_checks.shown(fields[name])}"
                )
            values[name] = fields[name]
            if name != "zero_point":
                with np.errstate(over="ignore"):
                    values[name] = np.asarray(values[name], kind)
        if "shape" in fields:
            if values[names[0]].size:
                raise ValueError("shape is only for scales without elements; leave it out")
            shape = _empty_shape(fields["shape"])
            values |= {n: np.empty(shape, "int32" if n == "zero_point" else kind) for n in names}
        if names[0] != "scale":
            values["scale"] = None
        return cls(**values)

    @property
    def scale(self) -> Any:
        """numpy.float32 or float64, or a read-only array of them."""
        raise NotImplementedError

    def to_cf(self) -> dict[str, Any]:
        """The CF attributes of these parameters, as netCDF and Zarr data are packed.

        Returns
        -------
        dict
            ``scale_factor`` and ``add_offset``, NumPy scalars in the precision of the scale, as
            readers compute in the precision of the attributes; ``_FillValue``, a NumPy scalar, if
            there is a `nan_code`; ``dtype``.  What ``encoding=`` of xarray takes.

        Raises
        ------
        ValueError
            Parameters with an axis, or of a convention whose values are not ``q * scale + offset``;
            an offset that overflows.

        Notes
        -----
        The offset of a `QuantParams` is ``-zero_point * scale``, rounded once: readers give the
        values of `dequantize` but for their last bits.
        """
        if self.axis is not None:
            raise ValueError(
                f"the parameters have axis {self.axis}, and CF attributes describe one scale; pack "
                "each channel as a variable of its own"
            )
        scale, offset = self._cf_numbers()
        if not np.isfinite(offset):
            raise ValueError(
                f"add_offset would be {offset} as {offset.dtype}: that is -zero_point * scale, "
                "which a float64 scale could hold"
            )
        fill = {} if self.nan_code is None else {"_FillValue": self.dtype.type(self.nan_code)}
        return {_cf.SCALE: scale, _cf.OFFSET: offset, **fill, "dtype": self.dtype}

    # -- for the rest of the package: what differs between the two kinds --------------------------

    @property
    def _names(self) -> tuple[str, str]:
        """Those of the two arrays."""
        raise NotImplementedError

    @property
    def _arrays(self) -> tuple[Array, Array]:
        """The two arrays, float32 or float64 and, of zero points, int32; 0-d where they are one."""
        raise NotImplementedError

    @classmethod
    def _made(cls, first: Any, second: Any, recipe: dict[str, Any]) -> Self:
        """Parameters of the two arrays and what `_recipe` gives."""
        raise NotImplementedError

    def _unclipped(self, x: Array, first: Array, second: Array) -> Array:
        """The codes of `x` before they are clipped, for arrays that broadcast against it."""
        raise NotImplementedError

    def _decoded(self, q: Array, first: Array, second: Array, dtype: np.dtype[Any]) -> Array:
        """The values of codes, for arrays that broadcast against them."""
        raise NotImplementedError

    @classmethod
    def _names_in(cls, fields: dict[str, Any]) -> tuple[str, str]:
        """The names that the two arrays must have in the dictionary `fields`."""
        raise NotImplementedError

    def _cf_numbers(self) -> tuple[Any, Any]:
        """CF's scale_factor and add_offset."""
        raise NotImplementedError

    def _fields(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return dict(zip(self._names, map(_number_or_array, self._arrays), strict=True)) | (
            self._recipe()
        )

    def _defaults(self) -> dict[str, Any]:
        """Of the constructor, where they are not None."""
        return {}

    def _numbers_shown(self) -> str:
        raise NotImplementedError

    def _check_precision(self, dtype: np.dtype[Any]) -> None:
        """ValueError where the numbers are lost in the working precision of the data."""

    # -- for the rest of the package -------------------------------------------------------------

    def _recipe(self) -> dict[str, Any]:
        """All but the arrays, as keywords: those of a tile of the data."""
        return {name: getattr(self, name) for name in self._RECIPE}

    def _over(self, first: Any, second: Any) -> Self:
        """The same recipe with other numbers: those of a tile, or of other channels."""
        return self._made(first, second, self._recipe())

    def _codes(self, x: Array, first: Array, second: Array) -> Array:
        """The codes of `x` by the reference, for arrays that broadcast against it."""
        how = {name: getattr(self, name) for name in ("qmin", "qmax", "nan_code", "dtype")}
        return _reference.clip(self._unclipped(x, first, second), x, **how)

    def _check_fits(self, shape: tuple[int, ...]) -> Layout:
        """The layout over data of `shape`; ValueError unless the parameters fit it."""
        if self.axis is None:  # one scale fits all
            return Layout(shape)
        layout = Layout(shape, _checks.normal_axis(self.axis, len(shape)), self.block_size)
        found = self._arrays[0].shape
        if found != layout.params_shape:
            raise ValueError(
                f"{self._names[0]} has shape {found}; data of shape {shape} with axis "
                f"{self.axis} and block_size {self.block_size} needs shape {layout.params_shape}"
            )
        return layout

    def _spread(self, layout: Layout) -> tuple[Array, Array]:
        """The two arrays, ready to broadcast against the data."""
        first, second = self._arrays
        return layout.spread(first), layout.spread(second)


class QuantParams(Params):
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
    nan_code
        A code reserved for missing values: NaN becomes it, data never do, and it dequantizes to
        NaN.  It lies outside [qmin, qmax], or is an end of that range, which then moves in by one.
        None: NaN becomes qmin.

    Raises
    ------
    TypeError
        A zero point that is not an integer; a scale that is not a real number; a `dtype` that is
        not uint8 or int8.
    ValueError
        A scale that is not finite and positive, a zero point or a range outside its bounds, a
        `nan_code` that data could have, shapes that do not fit, an unknown name.
    """

    __slots__ = ("_scale", "_zero_point", "include_zero")

    _scale: Any
    _zero_point: Any
    include_zero: bool

    _RECIPE = (
        "dtype",
        "qmin",
        "qmax",
        "axis",
        "block_size",
        "convention",
        "include_zero",
        "nan_code",
    )
    #: in the order of the core
    _SLOTS = ("_scale", "_zero_point", *_RECIPE, "_native")

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
        nan_code: int | None = None,
    ) -> None:
        if hasattr(self, "_native"):
            raise AttributeError("QuantParams is immutable; build a new one")
        rest = (dtype, qmin, qmax, axis, block_size, convention, include_zero, nan_code)
        _initialise(self, scale, zero_point, *rest)

    @property
    def scale(self) -> Any:
        """numpy.float32 or float64, or a read-only array of them."""
        return _view(self._scale)

    @property
    def zero_point(self) -> Any:
        """An int, or a read-only int32 array."""
        return _view(self._zero_point)

    @property
    def _names(self) -> tuple[str, str]:
        return "scale", "zero_point"

    @classmethod
    def _names_in(cls, fields: dict[str, Any]) -> tuple[str, str]:
        return "scale", "zero_point"

    @property
    def _arrays(self) -> tuple[Array, Array]:
        return np.asarray(self._scale), np.asarray(self._zero_point, np.int32)

    @classmethod
    def _made(cls, first: Any, second: Any, recipe: dict[str, Any]) -> Self:
        return cls(first, second, **recipe)

    def _unclipped(self, x: Array, first: Array, second: Array) -> Array:
        return _reference.unclipped(x, first, second, self.convention)

    def _decoded(self, q: Array, first: Array, second: Array, dtype: np.dtype[Any]) -> Array:
        return _reference.dequantize(q, first, second, dtype=dtype, nan_code=self.nan_code)

    def _defaults(self) -> dict[str, Any]:
        return {"convention": "numpy", "include_zero": True}

    @_backend.ieee
    def _cf_numbers(self) -> tuple[Any, Any]:
        with np.errstate(over="ignore"):
            return self._scale, -self._zero_point * self._scale

    @classmethod
    def from_cf(
        cls,
        attributes: Mapping[str, Any],
        dtype: Any = None,
        *,
        qmin: int | None = None,
        qmax: int | None = None,
        convention: str = "numpy",
    ) -> QuantParams:
        """Parameters from CF attributes, where the offset is a multiple of the scale.

        Parameters
        ----------
        attributes, dtype, qmin, qmax
            As for `OffsetParams.from_cf`.
        convention
            Whose bits.  Values are ``(q - zero_point) * scale``, so they can differ in their last
            bits from those of readers of CF, which `OffsetParams.from_cf` gives.

        Raises
        ------
        TypeError, ValueError
            What `OffsetParams.from_cf` raises; an ``add_offset`` that is no multiple of
            ``scale_factor`` to within the rounding of both; a zero point outside [qmin, qmax] in
            another convention than ``numpy``.
        """
        scale, offset, codes, nan_code = _cf.read(attributes, dtype)
        qmin, qmax = _cf.valid_range(attributes, codes, qmin, qmax)
        zero = _cf.zero_point(scale, offset)
        low, high, _ = _checks.code_range(qmin, qmax, codes, nan_code)
        return cls(
            scale,
            zero,
            codes,
            qmin=qmin,
            qmax=qmax,
            convention=convention,
            include_zero=convention != "numpy" or low <= zero <= high,
            nan_code=nan_code,
        )

    def _numbers_shown(self) -> str:
        scale, zero = (_shown(each, self.block_size) for each in (self._scale, self._zero_point))
        return f"scale={_of_precision(self._scale, scale, self.axis)}, zero_point={zero}"

    def _check_precision(self, dtype: np.dtype[Any]) -> None:
        """ValueError where the scale (or 1/s) is lost in the working precision of the data."""
        scale = self._scale
        if scale.dtype == np.float64 and dtype != np.float64:
            _check_cast(np.asarray(scale), dtype, self.convention)


class OffsetParams(Params):
    """Parameters with a real offset in place of the integer zero point; immutable.

    ``x' = q * scale + offset``, each operation rounded, in the arithmetic of the convention
    (`zeropoint.OFFSET_CONVENTIONS`), and ``q`` saturates in all of them.  Data and parameters are
    computed in the wider of their precisions, as NumPy does.

    Parameters
    ----------
    scale
        Size of one step (``cf`` alone): finite and > 0, in the forms that `QuantParams` takes.
        None where `span` is given: then ``scale`` is ``span / (qmax - qmin)``.
    offset
        The value of code 0 (``cf``), or the smallest value (the other conventions): finite, in the
        shape of the scales; one number serves all.
    dtype, qmin, qmax, axis, block_size, nan_code
        As in `QuantParams`.
    span
        ``max - min`` of the data, which ``faiss`` and ``sentence-transformers`` keep: finite and
        >= 0.  The scale does not give it back: float32(span / 255) * 255 is another number for
        some spans.
    convention
        Whose bits: ``"cf"``, ``"faiss"`` or ``"sentence-transformers"``, or an alias.
    fused
        ``faiss`` alone: whether values are computed with a fused multiply-add, as faiss does where
        the number of dimensions is a multiple of 8.  None: what that rule gives for the number of
        offsets, True for a single one; False in float64, in which faiss does not compute.

    Raises
    ------
    TypeError
        A number that is not real; a `dtype` that is not uint8 or int8.
    ValueError
        A scale, span or offset outside its bounds; a scale where the convention keeps the span, or
        the reverse; what `QuantParams` raises for the rest.
    """

    __slots__ = ("_kept", "_offset", "fused")

    _kept: Any  # the scale, or the span
    _offset: Any
    fused: bool

    _RECIPE = (*_SHARED, "fused")

    def __init__(
        self,
        scale: Any,
        offset: Any,
        dtype: Any = "uint8",
        *,
        span: Any = None,
        qmin: int | None = None,
        qmax: int | None = None,
        axis: int | None = None,
        block_size: int | None = None,
        convention: str = "cf",
        nan_code: int | None = None,
        fused: bool | None = None,
    ) -> None:
        if hasattr(self, "_native"):
            raise AttributeError("OffsetParams is immutable; build a new one")
        rest = (dtype, qmin, qmax, axis, block_size, convention, nan_code, fused)
        _initialise_offset(self, scale, span, offset, *rest)

    @property
    @_backend.ieee
    def scale(self) -> Any:
        """numpy.float32 or float64, or a read-only array of them; 0 where all data are equal."""
        if self.convention not in BY_SPAN:
            return _view(self._kept)
        found = _reference.scale_of(self._arrays[0], self.convention, self.qmax - self.qmin)
        return _view(_number_or_array(_frozen(found)))

    @property
    def span(self) -> Any:
        """As `scale`; None where the convention keeps the scale."""
        return _view(self._kept) if self.convention in BY_SPAN else None

    @property
    def offset(self) -> Any:
        """numpy.float32 or float64, or a read-only array of them."""
        return _view(self._offset)

    @property
    def _names(self) -> tuple[str, str]:
        return ("span" if self.convention in BY_SPAN else "scale"), "offset"

    @classmethod
    def _names_in(cls, fields: dict[str, Any]) -> tuple[str, str]:
        return ("span" if "span" in fields else "scale"), "offset"

    @property
    def _arrays(self) -> tuple[Array, Array]:
        return np.asarray(self._kept), np.asarray(self._offset)

    @classmethod
    def _made(cls, first: Any, second: Any, recipe: dict[str, Any]) -> Self:
        scale, span = (None, first) if recipe["convention"] in BY_SPAN else (first, None)
        return cls(scale, second, span=span, **recipe)

    def _fields(self) -> dict[str, Any]:
        return {"scale": None, "offset": None, "span": None} | super()._fields()

    def _unclipped(self, x: Array, first: Array, second: Array) -> Array:
        how = {name: getattr(self, name) for name in ("qmin", "qmax", "convention")}
        return _reference.unclipped_by_offset(x, first, second, **how)

    def _decoded(self, q: Array, first: Array, second: Array, dtype: np.dtype[Any]) -> Array:
        names = ("qmin", "qmax", "convention", "fused", "nan_code")
        how = {name: getattr(self, name) for name in names}
        return _reference.dequantize_by_offset(q, first, second, dtype=dtype, **how)

    def _defaults(self) -> dict[str, Any]:
        return {"convention": "cf", "fused": _default_fused(self.convention, self._arrays[0])}

    def _cf_numbers(self) -> tuple[Any, Any]:
        if self.convention != "cf":
            raise ValueError(
                f"values of the {self.convention} convention are not q * scale + offset; choose "
                "parameters with convention='cf'"
            )
        return self._kept, self._offset

    @classmethod
    def from_cf(
        cls,
        attributes: Mapping[str, Any],
        dtype: Any = None,
        *,
        qmin: int | None = None,
        qmax: int | None = None,
    ) -> OffsetParams:
        """Parameters from the CF attributes of packed data, in the ``cf`` convention.

        Parameters
        ----------
        attributes
            A mapping with ``scale_factor``, ``add_offset`` or both, such as ``variable.attrs`` of
            data that were read with ``mask_and_scale=False``.  ``_FillValue`` or ``missing_value``
            gives the `nan_code`; ``valid_min``, ``valid_max`` or ``valid_range``, if they are
            integers, qmin and qmax; ``_Unsigned`` the dtype that the bytes stand for (codes must be
            viewed as it).  Float32 numbers make float32 parameters; where one of both is of another
            type, and for a lone ``add_offset``, they are float64, as xarray decodes them.
        dtype
            ``"uint8"`` or ``"int8"``: the type of the codes; by default ``attributes["dtype"]``.
        qmin, qmax
            First and last code that `quantize` may give; `dequantize` takes all.

        Raises
        ------
        TypeError
            `attributes` is not a mapping, a number in it is not real, `dtype` is another type.
        ValueError
            Neither number; numbers out of bounds; no dtype; a fill value that is no code, several
            of them, or one strictly between qmin and qmax.
        """
        scale, offset, codes, nan_code = _cf.read(attributes, dtype)
        qmin, qmax = _cf.valid_range(attributes, codes, qmin, qmax)
        return cls(scale, offset, codes, qmin=qmin, qmax=qmax, nan_code=nan_code)

    def _numbers_shown(self) -> str:
        kept, offset = (_shown(each, self.block_size) for each in (self._kept, self._offset))
        kept = _of_precision(self._kept, kept, self.axis)
        offset = _of_precision(self._offset, offset, self.axis)
        if self.convention in BY_SPAN:
            return f"None, offset={offset}, span={kept}"
        return f"scale={kept}, offset={offset}"


def from_dict(fields: Any) -> QuantParams | OffsetParams:
    """The parameters, of either kind, that `to_dict` wrote."""
    kind = OffsetParams if isinstance(fields, dict) and "offset" in fields else QuantParams
    return kind.from_dict(fields)


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
    nan_code: Any,
) -> None:
    """The constructor of `QuantParams`, once: sets its slots."""
    canonical = _conventions.canonical(convention)
    include_zero = _checks.flag(include_zero, "include_zero")
    _checks.zero_included(include_zero, convention, canonical)
    dtype = _checks.code_dtype(dtype)
    qmin, qmax, nan_code = _checks.code_range(qmin, qmax, dtype, nan_code)
    axis = _checks.axis(axis)
    block_size = _checks.block(block_size, axis)
    scales = _checks.scales(scale, canonical)
    axis = _checks.granularity(scales.shape, axis, block_size)
    bounds = (qmin, qmax) if include_zero else (INT32.min, INT32.max)
    zeros = _checks.zero_points(zero_point, scales.shape, *bounds)
    scales, zeros = _frozen(scales), _frozen(zeros)
    recipe = (dtype, qmin, qmax, axis, block_size, canonical, include_zero, nan_code)
    _set(self, QuantParams._RECIPE, recipe)
    _set(self, ("_scale", "_zero_point"), (_number_or_array(scales), _number_or_array(zeros)))
    _set(self, ("_native",), (_backend.native_params(scales, zeros, self),))


@_backend.ieee
def _initialise_offset(
    self: OffsetParams,
    scale: Any,
    span: Any,
    offset: Any,
    dtype: Any,
    qmin: Any,
    qmax: Any,
    axis: Any,
    block_size: Any,
    convention: Any,
    nan_code: Any,
    fused: Any,
) -> None:
    """The constructor of `OffsetParams`, once: sets its slots."""
    canonical = _conventions.canonical_offset(convention)
    dtype = _checks.code_dtype(dtype)
    qmin, qmax, nan_code = _checks.code_range(qmin, qmax, dtype, nan_code)
    axis = _checks.axis(axis)
    block_size = _checks.block(block_size, axis)
    by_span = canonical in BY_SPAN
    if (span is not None) != by_span or (scale is None) != by_span:
        wanted, other = ("span", "scale") if by_span else ("scale", "span")
        raise ValueError(
            f"the {canonical} convention keeps the {wanted}, and not the {other}; pass "
            f"{other}=None and {wanted}=..."
        )
    kept, offsets = _checks.kept_and_offset(span if by_span else scale, offset, by_span)
    axis = _checks.granularity(kept.shape, axis, block_size, "span" if by_span else "scale")
    kept, offsets = _frozen(kept), _frozen(offsets)
    default = _default_fused(canonical, kept)
    fused = default if fused is None else _checks.flag(fused, "fused")
    if fused and (canonical != "faiss" or kept.dtype != np.float32):
        raise ValueError(
            "fused=True is for the faiss convention in float32 alone; leave it out, or pass "
            "float32 numbers"
        )
    recipe = (dtype, qmin, qmax, axis, block_size, canonical, nan_code, fused)
    _set(self, OffsetParams._RECIPE, recipe)
    _set(self, ("_kept", "_offset"), (_number_or_array(kept), _number_or_array(offsets)))
    _set(self, ("_native",), (_backend.native_offset_params(kept, offsets, self),))


def _default_fused(convention: str, kept: Array) -> bool:
    """Whether faiss fuses, so far as the parameters show."""
    one_for_all = kept.ndim == 0
    return (
        convention == "faiss"
        and kept.dtype == np.float32
        and (one_for_all or kept.shape[-1] % 8 == 0)
    )


def _set(self: Params, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        object.__setattr__(self, name, value)


def _of_precision(value: Any, shown: str, axis: int | None) -> str:
    """float64 is said; NumPy's scalars go by their value."""
    if np.asarray(value).dtype != np.float64:
        return shown
    return f"float64({shown})" if axis is None else shown.replace("<", "<float64 ", 1)


def _number_or_array(x: Array) -> Any:
    """An array of one number and no axis as that number: Python's int for integers."""
    if x.ndim:
        return x
    return x[()] if x.dtype.kind == "f" else int(x)


def _shown(value: Any, block_size: int | None) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    if value.size == 0:
        return f"<array of shape {value.shape}>"
    if value.dtype.kind != "f" and value.min() == value.max():
        return str(value.flat[0])  # one zero point serves all
    rest = f"{' x '.join(map(str, value.shape))} {'channels' if block_size is None else 'blocks'}"
    if value.ndim == 1 and value.size <= 8:
        rest = f"[{', '.join(map(str, value))}]"
    return f"<{value.min()!s}..{value.max()!s}: {rest}>"


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
) -> Params:
    """`params`, the last that may come by position; `wrong` are what came after it in `call`."""
    if not isinstance(params, Params):
        given = zip(("scale", "zero_point"), (params, *wrong), strict=False)
        texts = [repr(v) if type(v) in (int, float) else name for name, v in given]
        texts += ["zero_point"] * (len(texts) < 2)
        raise TypeError(
            f"params must be a QuantParams or OffsetParams, not {type(params).__name__}; pass for "
            "example "
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
    params: Params,
    *wrong: Never,
    out: Array | None = None,
    check_finite: bool = False,
) -> Array:
    """Real values to 8-bit codes: ``clip(round(x / scale + zero_point), qmin, qmax)``.

    The formula to the bit is the one of ``params.convention`` (`zeropoint.CONVENTIONS`, and for a
    real offset `zeropoint.OFFSET_CONVENTIONS`).

    Parameters
    ----------
    x
        float16, bfloat16, float32 or float64, any shape and strides: anything that NumPy can view.
    params
        The parameters, a QuantParams or an OffsetParams; with an axis their length must fit `x`.
    out
        Where to put the codes: an array of ``params.dtype`` in the shape of `x`, any strides; it
        may overlap `x`.
    check_finite
        Raise ValueError, before anything is written, if `x` holds a NaN or an Inf; with
        ``params.nan_code`` only if it holds an Inf.  Otherwise NaN becomes nan_code, or qmin where
        there is none, and +-Inf qmax or qmin.

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
        _checks.finite(x, "x", shaped=True, nan=params.nan_code is not None)
    return _backend.elementwise(
        "quantize_into",
        x,
        params.dtype,
        out,
        (params._native,),
        lambda x: quantize_by_reference(x, params, layout),
    )


def quantize_by_reference(x: Array, params: Params, layout: Layout) -> Array:
    return params._codes(x, *params._spread(layout))


def _dequantize(q: Array, params: Params, layout: Layout, dtype: np.dtype[Any]) -> Array:
    return params._decoded(q, *params._spread(layout), dtype)


def dequantize(
    q: Any,
    params: Params,
    *wrong: Never,
    dtype: Any = None,
    out: Array | None = None,
) -> Array:
    """8-bit codes to real values: ``(q - zero_point) * scale``, or ``q * scale + offset``.

    Computed in the precision of the parameters and rounded once to the output dtype;
    ``params.nan_code`` is NaN.

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


def fake_quantize(x: Any, params: Params, *wrong: Never, out: Array | None = None) -> Array:
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
        quantize,
        dequantize,
        fake_quantize,
        _initialise,
        params_type=QuantParams,
        offset_params_type=OffsetParams,
    )
