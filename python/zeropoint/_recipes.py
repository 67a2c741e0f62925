"""How codes are made, stage by stage, and the mistakes that are made at each stage.

A recipe names a variant of each stage: the layout of the data, their values, the parameters, the
quotient, the rounding, the range of the codes, and how they are stored.  A convention is a recipe;
a mistake replaces a variant.  The recipes of the conventions give the codes of `_reference`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from . import _reference
from ._chunks import Chunk
from ._conventions import CONVENTIONS, OFFSET_CONVENTIONS
from ._layout import Layout
from ._params import OffsetParams, Params
from ._reference import BY_RECIPROCAL, BY_SPAN, Array, round_half_away, widen

_T = TypeVar("_T")

# ---------------------------------------------------------------------------------------------
# The recipe


class Recipe(NamedTuple):
    """The variant of each stage; the defaults are those of NumPy by hand."""

    layout: str = "same"
    values: str = "same"
    source: str = "given"  #: which parameters
    numbers: str = "same"  #: what is made of them
    quotient: str = "divided"
    form: str = "before"  #: when z is added; with a real offset the name of the convention
    rounding: str = "even"
    range: str = "saturated"
    storage: str = "same"


class Mistake(NamedTuple):
    key: str
    name: str
    ways: tuple[tuple[str, str], ...]  #: field of the recipe, and the variant there
    text: str
    fix: str = "q = zp.quantize(x, params)"  #: a line of code
    hint: str = ""  #: what else helps


def base(convention: str) -> Recipe:
    """The recipe of a convention."""
    if convention in OFFSET_CONVENTIONS:
        return Recipe(form=convention, rounding="floor" if convention in BY_SPAN else "even")
    return Recipe(
        quotient="reciprocal" if convention in BY_RECIPROCAL else "divided",
        form="before" if convention == "numpy" else "after",
        rounding="away" if convention in ("tflite", "ggml") else "even",
    )


def bases(params: Params) -> list[str]:
    """The conventions of the kind of `params`, its own first."""
    table = OFFSET_CONVENTIONS if isinstance(params, OffsetParams) else CONVENTIONS
    return sorted(table, key=lambda name: name != params.convention)


# ---------------------------------------------------------------------------------------------
# Variants of each stage: functions of arrays in the working precision


def _bfloat16(y: Array) -> Array:
    """Rounded to bfloat16, in float32."""
    y = np.asarray(y, np.float32)
    bits = y.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    cut = np.asarray(rounded & np.uint32(0xFFFF0000)).view(np.float32)
    return np.asarray(np.where(np.isnan(y), y, cut))


def _float16(y: Array) -> Array:
    return np.asarray(y, np.float16).astype(np.float32)


def _pixels(x: Array) -> Array:
    """x * 255, the integer where x was one divided by 255."""
    y = x * x.dtype.type(255)
    whole = np.rint(y)
    return np.asarray(np.where(np.abs(y - whole) <= np.abs(y) * 2**-20, whole, y))


_VALUES: dict[str, Callable[[Array], Array]] = {
    "same": lambda x: x,
    "times_255": _pixels,
    "by_255": lambda x: x / x.dtype.type(255),
    "by_256": lambda x: x * x.dtype.type(255 / 256),
    "bfloat16": lambda x: _bfloat16(x).astype(x.dtype),
    "float16": lambda x: _float16(x).astype(x.dtype),
    "negated": lambda x: -x,
    "relu": lambda x: np.maximum(x, 0),
    "to_unit": lambda x: (x + 1) / 2,
    "from_unit": lambda x: x * 2 - 1,
    "trunc": np.trunc,
    "rint": np.rint,
}


def _decimal(s: Array) -> Array:
    """The decimal number that a float32 is printed as, in float64."""
    few, place = np.unique(s, return_inverse=True)
    return np.asarray([float(str(v)) for v in few], np.float64)[place.reshape(s.shape)]


# of the two arrays of parameters as they are, and what 128 is added to by another dtype of codes
_NUMBERS: dict[str, Callable[[Array, Array, int], tuple[Array, Array]]] = {
    "same": lambda s, z, half: (s, z),
    "zero_forgotten": lambda s, z, half: (s, z * 0),
    "zero_twice": lambda s, z, half: (s, z * 2),
    "zero_negative": lambda s, z, half: (s, -z),
    "zero_in_steps": lambda s, z, half: (s, z * s),
    "zero_of_other": lambda s, z, half: (s, z + half),
    "inverted": lambda s, z, half: (1 / s, z),
    "unit": lambda s, z, half: (s / s, z * 0),
    "swapped": lambda s, z, half: (z.astype(s.dtype), s),
    "swapped_int": lambda s, z, half: (z.astype(s.dtype), np.trunc(s)),
    "float16": lambda s, z, half: (_float16(s), z),
    "bfloat16": lambda s, z, half: (_bfloat16(s), z),
}

_IN_HALF = {"bfloat16": _bfloat16, "float16": _float16}

_ROUNDING: dict[str, Callable[[Array], Array]] = {
    "even": np.rint,
    "away": round_half_away,
    "up": lambda y: np.floor(y + y.dtype.type(0.5)),
    "plus_half": lambda y: np.trunc(y + y.dtype.type(0.5)),
    "trunc": np.trunc,
    "floor": np.floor,
    "ceil": np.ceil,
    "none": lambda y: y,
    "trunc_sum": np.trunc,  # z, where it is added after the rounding, is then added before
}


class Range(NamedTuple):
    """What the last stages know of the parameters."""

    qmin: int
    qmax: int
    low: int  #: of the dtype
    high: int
    nan_code: int | None

    def wrap(self, c: Array) -> Array:
        """The last 8 bits, as a cast to an integer leaves them; of what int32 cannot hold, 0."""
        fits = np.abs(c) < 2**31
        whole = np.trunc(np.where(fits, c, 0))
        return np.asarray(np.mod(whole - self.low, 256) + self.low)

    def clip(self, c: Array, nan: float | None = None) -> Array:
        """Saturated, NaN as `nan`, or qmin."""
        missing = np.isnan(c)
        c = np.clip(c, self.qmin, self.qmax)
        return np.asarray(np.where(missing, self.qmin if nan is None else nan, c))

    def clip_as_marked(self, c: Array, x: Array) -> Array:
        c = self.clip(c)
        return c if self.nan_code is None else np.asarray(np.where(np.isnan(x), self.nan_code, c))


def _by_integer(r: Range, c: Array, bits: int) -> Array:
    """As x86 converts to integers: of what they cannot hold, the least."""
    most = 2.0 ** (bits - 1)
    return np.asarray(np.where(np.abs(c) < most, c, -most), c.dtype)


def _or_qmin(r: Range, c: Array, end: Callable[[Array, int], Array]) -> Array:
    """Clipped at one end, NaN too."""
    one = end(c, r.qmax if end is np.minimum else r.qmin)
    return np.where(np.isnan(c), r.qmin, r.wrap(one))


def _clipped_early(r: Range, c: Array, z: Array) -> Array:
    return np.asarray(np.clip(c - z, r.low, r.high) + z)


_RANGE: dict[str, Callable[[Range, Array, Array, Array], Array]] = {
    "saturated": lambda r, c, x, z: r.clip_as_marked(c, x),
    "dtype": lambda r, c, x, z: r._replace(qmin=r.low, qmax=r.high).clip_as_marked(c, x),
    "unclipped": lambda r, c, x, z: c,
    "narrow": lambda r, c, x, z: r._replace(qmin=max(r.low + 1, r.qmin)).clip_as_marked(c, x),
    "127": lambda r, c, x, z: r._replace(qmin=r.low + 1, qmax=r.high).clip_as_marked(c, x),
    "wrapped": lambda r, c, x, z: r.wrap(c),
    "int32": lambda r, c, x, z: r.clip_as_marked(_by_integer(r, c, 32), x),
    "int64": lambda r, c, x, z: r.clip_as_marked(_by_integer(r, c, 64), x),
    "other": lambda r, c, x, z: r.wrap(np.clip(c, -128 - r.low, 127 - r.low)),
    "early": lambda r, c, x, z: r.wrap(_clipped_early(r, c, z)),
    "early_twice": lambda r, c, x, z: r.clip(_clipped_early(r, c, z)),
    "above": lambda r, c, x, z: _or_qmin(r, c, np.minimum),
    "below": lambda r, c, x, z: _or_qmin(r, c, np.maximum),
    "nan_0": lambda r, c, x, z: r.clip(c, 0),
    "nan_qmax": lambda r, c, x, z: r.clip(c, r.qmax),
    "nan_zero": lambda r, c, x, z: np.where(np.isnan(x), z, r.clip(c)),
    "nan_qmin": lambda r, c, x, z: r.clip(c),
    "nan_code_0": lambda r, c, x, z: r.clip(c, 0),
}


def _of_other_sign(r: Range, c: Array) -> Array:
    """The bits of uint8 read as int8, or of int8 read as uint8."""
    return np.where(c > 127, c - 256, np.where(c < 0, c + 256, c))


_STORAGE: dict[str, Callable[[Range, Array], Array]] = {
    "same": lambda r, c: c,
    "viewed": _of_other_sign,
    "off_128": lambda r, c: c - (128 + 2 * r.low),
    "off_128_wrapped": lambda r, c: r.wrap(c + 128),
    "off_128_clipped": lambda r, c: np.clip(c - (128 + 2 * r.low), r.low, r.high),
    "cast_clipped": lambda r, c: np.clip(c, -128 - r.low, 127 - r.low),
    "off_1": lambda r, c: r.clip(c + 1),
    "off_minus_1": lambda r, c: r.clip(c - 1),
    "off_1_wrapped": lambda r, c: r.wrap(c + 1),
    "off_minus_1_wrapped": lambda r, c: r.wrap(c - 1),
}


# ---------------------------------------------------------------------------------------------
# The catalogue: commonest first

CATALOGUE: tuple[Mistake, ...] = (
    # what few data show comes first: where the codes are the same, it is what they show
    Mistake(
        "nan_code_forgotten",
        "nan_code forgotten",
        (("range", "nan_qmin"), ("range", "nan_code_0")),
        "NaN has become a code that data have, in place of nan_code",
    ),
    Mistake("nan_to_0", "NaN to code 0", (("range", "nan_0"),), "NaN has become code 0"),
    Mistake("nan_to_qmax", "NaN to qmax", (("range", "nan_qmax"),), "NaN has become qmax"),
    Mistake(
        "nan_to_zero_point",
        "NaN taken for 0.0",
        (("range", "nan_zero"),),
        "NaN has become the code of 0.0",
    ),
    Mistake(
        "int32_before_clipping",
        "converted to int32 before clipping",
        (("range", "int32"), ("range", "int64")),
        "quotients that an int32 (or int64) cannot hold overflow in the conversion, and are "
        "clipped only then",
        hint="np.clip before the cast",
    ),
    Mistake(
        "truncated",
        "truncated",
        (("rounding", "trunc"), ("rounding", "trunc_sum")),
        "the fraction is cut off, as a cast to an integer does it, in place of rounding to the "
        "nearest code",
        hint="np.rint before the cast",
    ),
    Mistake(
        "zero_point_forgotten",
        "zero point forgotten",
        (("numbers", "zero_forgotten"),),
        "the zero point is not added",
    ),
    Mistake(
        "wrapped",
        "wrapped instead of saturated",
        (("range", "wrapped"),),
        "codes beyond the type keep their last 8 bits, as a cast leaves them",
        hint="np.clip before the cast",
    ),
    Mistake(
        "floored",
        "floored",
        (("rounding", "floor"),),
        "codes are rounded down in place of to the nearest",
        hint="np.rint in place of np.floor or //",
    ),
    Mistake(
        "uint8_read_as_int8",
        "uint8 read as int8",
        tuple(("storage", how) for how in ("viewed", "off_128_wrapped", "viewed_wide")),
        "the bytes are those of the other 8-bit type, and are read with the wrong sign",
        "q = q.view(params.dtype)",
    ),
    Mistake(
        "off_by_128",
        "off by 128",
        (("storage", "off_128"), ("storage", "off_128_wrapped"), ("storage", "off_128_clipped")),
        "codes are those of the other 8-bit type, 128 away, and the zero point was not moved along",
        "q, params = zp.flip_signedness(zp.quantize(x, params), params)",
    ),
    Mistake(
        "ties_away",
        "ties away from zero",
        (("rounding", "away"),),
        "halves are rounded away from zero, as C's round() does",
        hint="np.rint, whose halves go to even",
    ),
    Mistake(
        "ties_half_up",
        "ties half up",
        (("rounding", "up"), ("rounding", "plus_half")),
        "halves are rounded up, as floor(y + 0.5) does",
        hint="np.rint, whose halves go to even",
    ),
    Mistake(
        "ties_even",
        "ties to even",
        (("rounding", "even"),),
        "codes are rounded to the nearest, halves to even",
    ),
    Mistake(
        "reciprocal",
        "reciprocal instead of division",
        (("quotient", "reciprocal"),),
        "x is multiplied by 1 / scale, which is rounded, in place of divided by the scale",
        hint="x / scale in place of x * (1 / scale)",
    ),
    Mistake(
        "division",
        "division instead of reciprocal",
        (("quotient", "divided"),),
        "x is divided by the scale in place of multiplied by 1 / scale",
    ),
    Mistake(
        "fused",
        "fused multiply-add (torch's deprecated quantize_per_tensor)",
        (("quotient", "fused"),),
        "x * (1 / scale) + zero_point is rounded once and then to an integer",
        hint="or torch.fake_quantize_per_tensor_affine",
    ),
    Mistake(
        "scale_inverted",
        "scale inverted",
        (("quotient", "multiplied"), ("numbers", "inverted")),
        "x is multiplied by the scale in place of divided by it",
        hint="x / scale",
    ),
    Mistake(
        "zero_point_wrong_sign",
        "zero point with the wrong sign",
        (("numbers", "zero_negative"),),
        "the zero point is subtracted in place of added",
        hint="x / scale + zero_point",
    ),
    Mistake(
        "zero_point_twice",
        "zero point applied twice",
        (("numbers", "zero_twice"),),
        "the zero point is added twice",
    ),
    Mistake(
        "offset_in_steps",
        "offset subtracted after the division",
        (("numbers", "zero_in_steps"),),
        "the offset, which has the unit of the data, is subtracted from x / scale",
        hint="(x - offset) / scale",
    ),
    Mistake(
        "zero_point_of_other_dtype",
        "zero point of the other 8-bit type",
        (("numbers", "zero_of_other"),),
        "the zero point is the one of the other 8-bit type, 128 away",
    ),
    Mistake(
        "not_clipped",
        "not clipped to [qmin, qmax]",
        (("range", "dtype"), ("range", "unclipped")),
        "codes beyond [qmin, qmax] are there",
        hint="np.clip(codes, qmin, qmax)",
    ),
    Mistake(
        "clipped_127",
        "clipped to +-127",
        (("range", "narrow"), ("range", "127")),
        "the first code of the type is left out, as in a narrow range",
        hint="if it is meant: params with qmin=-127, of uint8 qmin=1",
    ),
    Mistake(
        "clipped_to_other_dtype",
        "clipped to the range of the other 8-bit type",
        (("range", "other"), ("storage", "cast_clipped")),
        "uint8 codes are clipped to [-128, 127], or int8 codes to [0, 255]",
        hint="np.clip(codes, qmin, qmax)",
    ),
    Mistake(
        "clipped_before_zero_point",
        "clipped before the zero point is added",
        (("range", "early"), ("range", "early_twice")),
        "x / scale is clipped to the range of the codes, and the zero point is added after that",
        hint="np.clip(np.rint(x / scale) + zero_point, qmin, qmax)",
    ),
    Mistake(
        "clipped_on_one_side",
        "clipped on one side alone",
        (("range", "above"), ("range", "below")),
        "codes are clipped at one end of the range and wrap at the other",
        hint="np.clip(codes, qmin, qmax)",
    ),
    Mistake(
        "missing_255",
        "/255 missing",
        (("values", "times_255"),),
        "the data were 0..255 where the parameters are for 0..1",
        "q = zp.quantize(pixels.astype(np.float32) / 255, params)",
        "pixels / 255",
    ),
    Mistake(
        "doubled_255",
        "/255 doubled",
        (("values", "by_255"),),
        "the data, which are in range already, were divided by 255 once more",
    ),
    Mistake(
        "by_256",
        "/256 instead of /255",
        (("values", "by_256"),),
        "the data were divided by 256 where the parameters are for 0..1",
        hint="pixels / 255",
    ),
    Mistake(
        "other_range_of_data",
        "data scaled to [-1, 1] instead of [0, 1], or the reverse",
        (("values", "from_unit"), ("values", "to_unit")),
        "the data had the other of the two usual ranges",
    ),
    Mistake(
        "parameters_forgotten",
        "parameters not applied",
        (("numbers", "unit"),),
        "the data themselves are taken for codes, as if the scale were 1 and the zero point 0",
    ),
    Mistake(
        "data_integers",
        "data cast to integers before the division",
        (("values", "trunc"), ("values", "rint")),
        "the fraction of the data was lost before they were quantized",
    ),
    Mistake(
        "relu",
        "negative data lost (ReLU)",
        (("values", "relu"),),
        "negative data had become 0 before they were quantized",
    ),
    Mistake(
        "negated", "data with the wrong sign", (("values", "negated"),), "-x took the place of x"
    ),
    Mistake(
        "swapped",
        "scale and zero point swapped",
        (("numbers", "swapped"), ("numbers", "swapped_int")),
        "x is divided by the zero point, and the scale is added",
        hint="zp.QuantParams(scale, zero_point), in this order",
    ),
    Mistake(
        "wrong_axis",
        "wrong axis",
        (("source", "axis"),),
        "the parameters of the channels are taken along another axis",
    ),
    Mistake(
        "other_channel_order",
        "parameters of another channel order",
        (("source", "order"),),
        "the channels got each other's parameters",
    ),
    Mistake(
        "one_channel_for_all",
        "parameters of one channel for all",
        (("source", "one"),),
        "all channels got the parameters of a single one",
    ),
    Mistake(
        "scale_rounded",
        "scale rounded to few digits",
        (("source", "rounded"),),
        "the scale was printed or stored with few digits, and read back",
        hint="keep all digits: repr(scale), or params.to_dict()",
    ),
    Mistake(
        "transposed",
        "transposed layout (NHWC / NCHW)",
        (("layout", "transposed"),),
        "the codes lie in the order of transposed data",
    ),
    Mistake(
        "channels_reversed",
        "channels reversed (RGB / BGR)",
        (("layout", "channels"),),
        "the channels of the data are in reverse order",
    ),
    Mistake(
        "reversed",
        "data in reverse order",
        (("layout", "reversed"),),
        "the data are in reverse order along an axis",
    ),
    Mistake(
        "division_bfloat16",
        "division in bfloat16",
        tuple(("quotient", f"bfloat16{how}") for how in ("", "_x", "_only")),
        "the quotient is computed in bfloat16, which has 8 bits",
        hint="x as float32 before it is divided",
    ),
    Mistake(
        "division_float16",
        "division in float16",
        tuple(("quotient", f"float16{how}") for how in ("", "_x", "_only")),
        "the quotient is computed in float16, which has 11 bits",
        hint="x as float32 before it is divided",
    ),
    Mistake(
        "computed_float64",
        "computed in float64",
        (("quotient", "float64"), ("quotient", "decimal")),
        "the quotient is computed in float64 where the convention has float32",
        hint="np.float32(scale), and x of float32",
    ),
    Mistake(
        "scale_float16",
        "scale rounded to float16",
        (("numbers", "float16"),),
        "the scale was stored as float16",
        hint="keep the scale in float32",
    ),
    Mistake(
        "scale_bfloat16",
        "scale rounded to bfloat16",
        (("numbers", "bfloat16"),),
        "the scale was stored as bfloat16",
        hint="keep the scale in float32",
    ),
    Mistake(
        "data_float16",
        "data rounded to float16",
        (("values", "float16"),),
        "the data were rounded to float16 before they were quantized",
    ),
    Mistake(
        "data_bfloat16",
        "data rounded to bfloat16",
        (("values", "bfloat16"),),
        "the data were rounded to bfloat16 before they were quantized",
    ),
    Mistake("ceiled", "ceiled", (("rounding", "ceil"),), "codes are rounded up"),
    Mistake(
        "not_rounded",
        "not rounded",
        (("rounding", "none"),),
        "these are quotients, no integers",
        hint="np.rint",
    ),
    Mistake(
        "not_quantized",
        "not quantized",
        (("storage", "data"),),
        "these are the data themselves",
    ),
    Mistake(
        "dequantized",
        "dequantized values passed as codes",
        tuple(("storage", f"dequantized{how}") for how in ("", "_cast", "_rint")),
        "these are real values again, (q - zero_point) * scale, and no codes",
    ),
    Mistake(
        "quantized_twice",
        "quantized twice",
        (("storage", "twice"),),
        "the codes were quantized once more, as if they were data",
    ),
    Mistake(
        "off_by_1",
        "off by 1",
        tuple(("storage", f"off_{by}1{end}") for by in ("", "minus_") for end in ("", "_wrapped")),
        "all codes are one beside, as by a zero point that was rounded otherwise",
    ),
    Mistake(
        "other_parameters",
        "other parameters",
        (("source", "rule"), ("source", "fit")),
        "the codes were made with other parameters, as of other data or of a stale file",
    ),
)

# ---------------------------------------------------------------------------------------------
# Recipes on data


class View(NamedTuple):
    """An order in which the codes may lie: that of `x`, of x.transpose(axes), or of x with its
    memory taken for that of an array of x.shape transposed (or with one axis reversed)."""

    kind: str
    shape: tuple[int, ...]  #: in which positions of codes are counted
    axes: tuple[int, ...] = ()

    def coordinates(self, at: Array, x: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Of the elements of x, and of their parameters, for the codes at flat positions."""
        c = np.unravel_index(at, self.shape)
        if self.kind == "order":
            back = tuple(c[k] for k in np.argsort(self.axes))
            return back, back
        if self.kind == "memory":
            lengths = tuple(x.shape[k] for k in self.axes)
            flat = np.ravel_multi_index(tuple(c[k] for k in self.axes), lengths)
            return np.unravel_index(flat, x.shape), c
        if self.kind == "reversed":
            (axis,) = self.axes
            return (*c[:axis], x.shape[axis] - 1 - c[axis], *c[axis + 1 :]), c
        return c, c

    def arrays(self, x: Array, q: Array) -> tuple[Array, Array]:
        """x and q, element by element."""
        if self.kind == "order":
            x = x.transpose(self.axes)
        elif self.kind == "memory":
            lengths = tuple(x.shape[k] for k in self.axes)
            x = x.reshape(lengths).transpose(np.argsort(self.axes))
        elif self.kind == "reversed":
            x = np.flip(x, self.axes)
        return x, q.reshape(self.shape)

    def spread(self, source: Source, shape: tuple[int, ...], tile: Chunk) -> tuple[Array, Array]:
        """The parameters of a tile of such arrays, ready to broadcast; `shape` is that of x."""
        cuts = [cut for cut in tile if isinstance(cut, slice)]
        cuts += [slice(None)] * (len(shape) - len(cuts))
        layout = Layout(shape, source.axis, source.block)
        if self.kind != "order" or source.axis is None:
            return tuple(layout.spread_over(each, tuple(cuts)) for each in source[:2])  # type: ignore[return-value]
        back = tuple(cuts[k] for k in np.argsort(self.axes))
        first, second = (layout.spread_over(each, back) for each in source[:2])
        return first.transpose(self.axes), second.transpose(self.axes)


class Source(NamedTuple):
    """Two arrays of parameters, and where they belong."""

    first: Array
    second: Array
    axis: int | None
    block: int | None = None

    def at(self, coordinates: tuple[Array, ...]) -> tuple[Array, Array]:
        if self.axis is None:
            return self.first, self.second
        where: Any = coordinates[self.axis]
        if self.block is not None:
            where = list(coordinates)
            where[self.axis] = where[self.axis] // self.block
            where = tuple(where)
        return self.first[where], self.second[where]


def _views(x: Array, q: Array) -> dict[str, View]:
    """All orders that the sizes allow, by name."""
    found = {"same": View("same", x.shape)}
    long = [k for k in range(x.ndim) if x.shape[k] > 1]
    if x.size == 0 or len(long) > 4:
        return found
    seen = {tuple(long)}
    for axes in itertools.permutations(range(x.ndim)):
        order = tuple(k for k in axes if k in long)
        shape = tuple(x.shape[k] for k in axes)
        if order in seen or q.shape not in (shape, x.shape):
            continue
        if q.shape == x.shape and any(axes[k] != k for k in range(x.ndim) if k not in long):
            continue
        seen.add(order)
        found[f"transposed: x.transpose{axes}"] = View("order", shape, axes)
        if q.shape == x.shape:
            back = tuple(np.argsort(axes).tolist())
            name = f"transposed: x.reshape{shape}.transpose{back}"
            found[name] = View("memory", x.shape, axes)
    if q.shape == x.shape:
        for k in long:
            kind = "channels" if x.shape[k] == 3 else "reversed"
            cut = ", ".join([*[":"] * k, "::-1"])
            found[f"{kind}: x[{cut}]"] = View("reversed", x.shape, (k,))
    return found


def _sources(x: Array, params: Params) -> dict[str, Source]:
    """The parameters as they are, and as they are confused, by name."""
    (first, second), axis, block = params._arrays, params.axis, params.block_size
    axis = None if axis is None else axis % x.ndim
    found = {"given": Source(first, second, axis, block)}
    for name, scale in _rounded_scales(first):
        found[f"rounded: {name}"] = Source(scale, second, axis, block)
    if axis is None:
        return found
    for other in range(x.ndim):
        layout = Layout(x.shape, other, block)
        if other != axis and layout.params_shape == first.shape:
            found[f"axis: {other} in place of {axis}"] = Source(first, second, other, block)
    n = first.shape[axis if block else 0]
    along = axis if block else 0
    if n > 1:
        orders = {"reversed": np.arange(n)[::-1]}
        orders |= {f"moved by {k}": np.roll(np.arange(n), k) for k in (1, -1)}
        for name, order in orders.items():
            one, two = (np.take(each, order, along) for each in (first, second))
            found[f"order: {name}"] = Source(one, two, axis, block)
        if block is None:
            for k in (0, n - 1):
                found[f"one: {k}"] = Source(first[k], second[k], None)
    return found


def _rounded_scales(s: Array) -> Iterator[tuple[str, Array]]:
    """The scales as they are printed with few digits."""
    if s.size > 1 << 12:
        return
    few, place = np.unique(s, return_inverse=True)
    seen = {s.tobytes()}
    for style, what in (("e", "digits"), ("f", "decimals")):
        for k in range(1, 9):
            n = k - (style == "e")
            short = np.array([float(f"{v:.{n}{style}}") for v in few], s.dtype)[place]
            short = short.reshape(s.shape)
            if short.tobytes() not in seen and (short > 0).all():
                seen.add(short.tobytes())
                yield f"{k} {what}" + f" ({short.flat[0]!s})" * (s.size == 1), short


class Problem:
    """Data, codes and parameters, and what may have been done with them."""

    def __init__(self, x: Array, q: Array, params: Params) -> None:
        self.x, self.q, self.params = x, q, params
        self.views, self.sources = _views(x, q), _sources(x, params)
        info = np.iinfo(params.dtype)
        ends = int(info.min), int(info.max)
        self.range = Range(params.qmin, params.qmax, *ends, params.nan_code)
        self.has_offset = isinstance(params, OffsetParams)
        real = _reference.working_dtype(x.dtype)
        if self.has_offset:
            real = np.promote_types(real, params._arrays[0].dtype)
        self.real = real
        self.some_nan = True  #: until it is known that there are none
        self.matched = 0  #: codes that `params` explain, once they are counted

    def variants(self, field: str, variant: str) -> list[str]:
        """Those of the recipe's field that a way of a mistake stands for here."""
        if field in ("layout", "source"):
            table: dict[str, Any] = self.views if field == "layout" else self.sources
            return [name for name in table if name.startswith(f"{variant}: ")]
        floats, same = self.q.dtype.kind not in "iu", self.q.dtype == self.params.dtype
        wide = floats or self.q.dtype.itemsize > 1
        never = {
            "unclipped": not wide,
            "none": not floats,
            "dequantized": not floats,
            "data": not floats,
            "dequantized_cast": floats,
            "dequantized_rint": floats,
            "viewed": same,
            "off_128": same,
            "nan_qmin": self.params.nan_code is None,
            "nan_code_0": self.params.nan_code is None,
            "viewed_wide": not (wide and self.q.dtype.kind == "u"),
            "decimal": self.params._arrays[0].dtype != np.float32,
        }
        never |= dict.fromkeys(("trunc_sum", "zero_in_steps"), not self.has_offset)
        if not self.some_nan:
            never |= dict.fromkeys((name for name in _RANGE if name.startswith("nan_")), True)
        if self.has_offset:
            never |= dict.fromkeys(
                ("fused", "zero_of_other", "early", "early_twice", "swapped_int"), True
            )
        return [] if never.get(variant, False) else [variant]


class Points:
    """The elements at some positions of the codes, counted in C order."""

    def __init__(self, problem: Problem, at: Array) -> None:
        self.problem, self.at = problem, at
        q = problem.q
        self.q = q[np.unravel_index(at, q.shape)] if q.ndim else q.reshape(1)[at]

    def elements(self, layout: str) -> Array:
        x, view = self.problem.x, self.problem.views[layout]
        return x[view.coordinates(self.at, x)[0]] if x.ndim else x.reshape(1)[self.at]

    def parameters(self, layout: str, source: str) -> tuple[Array, Array]:
        x, found = self.problem.x, self.problem.sources[source]
        if found.axis is None:
            return found.first, found.second
        return found.at(self.problem.views[layout].coordinates(self.at, x)[1])


class Tile:
    """The elements of a tile, in one layout."""

    def __init__(self, problem: Problem, layout: str, x: Array, q: Array, tile: Chunk) -> None:
        self.problem, self.tile, self.q = problem, tile, q[tile]
        self._x = x[tile]

    def elements(self, layout: str) -> Array:
        return self._x

    def parameters(self, layout: str, source: str) -> tuple[Array, Array]:
        view = self.problem.views[layout]
        return view.spread(self.problem.sources[source], self.problem.x.shape, self.tile)


class Evaluation:
    """The codes of recipes on some elements; what recipes share is computed once."""

    def __init__(self, problem: Problem, elements: Points | Tile) -> None:
        self.problem, self.elements = problem, elements
        self._kept: dict[tuple[str, ...], Any] = {}

    @np.errstate(all="ignore")
    def codes(self, r: Recipe) -> Array:
        """In floats: integers but where the recipe does not round, or dequantizes."""
        if r.storage == "data":
            return self._values_of(r)
        c = self._keep(r[:8], self._ranged, r)
        if r.storage == "same":
            return c
        if r.storage == "viewed_wide":
            return np.where(c < 0, c + 2.0 ** (8 * self.elements.q.itemsize), c)
        if r.storage in _STORAGE:
            return _STORAGE[r.storage](self.problem.range, c)
        if r.storage == "twice":
            s, z = self._numbers_of(r)
            y = self._quotient(r, c, s, z)
            return _RANGE[r.range](
                self.problem.range, self._rounded(r, y, z), c, self._addend(r, z)
            )
        values = self._dequantized(r, c)
        q = self.elements.q.dtype
        if q.kind not in "iu":
            return values
        if r.storage == "dequantized_cast":
            return np.trunc(values) if q.itemsize > 1 else self._range_of(q).wrap(values)
        return self._range_of(q).clip(np.rint(values))

    def matches(self, codes: Array) -> Array:
        """Where codes are those that there are."""
        q = self.elements.q
        if q.dtype.kind in "iu":
            return np.asarray(codes == q)
        with np.errstate(all="ignore"):
            codes = widen(_reference.narrow(codes, q.dtype))
            q = widen(q)
            return np.asarray((codes == q) | (np.isnan(codes) & np.isnan(q)))

    def _keep(self, key: tuple[str, ...], function: Callable[[Recipe], _T], r: Recipe) -> _T:
        found: _T | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = function(r)
        return found

    def _range_of(self, dtype: np.dtype[Any]) -> Range:
        info = np.iinfo(dtype)
        return Range(int(info.min), int(info.max), int(info.min), int(info.max), None)

    def _ranged(self, r: Recipe) -> Array:
        c = self._keep(r[:7], self._rounded_of, r)
        second = self._numbers_of(r)[1]
        z = self._addend(r, second)
        c = _RANGE[r.range](self.problem.range, c, self._values_of(r), z)
        if second.dtype.kind == "f" and not self.problem.has_offset and r.rounding != "none":
            return np.trunc(c)  # what is added is no integer, and the cast cuts it off
        return c

    def _rounded_of(self, r: Recipe) -> Array:
        y = self._keep(r[:6], self._quotient_of, r)
        return self._rounded(r, y, self._numbers_of(r)[1])

    def _quotient_of(self, r: Recipe) -> Array:
        return self._quotient(r, self._values_of(r), *self._numbers_of(r))

    def _values_of(self, r: Recipe) -> Array:
        return self._keep(("x", *r[:2]), self._values, r)

    def _values(self, r: Recipe) -> Array:
        x = self._keep(("x", r.layout), lambda r: self.elements.elements(r.layout), r)
        return _VALUES[r.values](np.asarray(widen(x), self.problem.real))

    def _numbers_of(self, r: Recipe) -> tuple[Array, Array]:
        return self._keep(("s", r.layout, *r[2:4], r.form), self._numbers, r)

    def _numbers(self, r: Recipe) -> tuple[Array, Array]:
        s, z = self.elements.parameters(r.layout, r.source)
        given, n = self.problem.params, self.problem.params.qmax - self.problem.params.qmin
        if self.problem.has_offset and (r.form in BY_SPAN) != (given.convention in BY_SPAN):
            if r.form in BY_SPAN:
                s, z = s * s.dtype.type(n), z + s * s.dtype.type(given.qmin)
            else:
                s = s / s.dtype.type(n)
                z = z - s * s.dtype.type(given.qmin)
        half = -128 if given.dtype == np.uint8 else 128
        s, z = _NUMBERS[r.numbers](s, z, half)
        return np.asarray(s), np.asarray(z)

    def _addend(self, r: Recipe, z: Array) -> Array:
        """What is added to a quotient."""
        if not self.problem.has_offset:
            return z.astype(self.problem.real)
        return np.asarray(0 if r.form == "cf" else self.problem.params.qmin, self.problem.real)

    def _quotient(self, r: Recipe, x: Array, s: Array, z: Array) -> Array:
        """Before it is rounded; with z where the form says so."""
        real, how = self.problem.real.type, r.quotient
        if how == "decimal":
            s = _decimal(s)
        if how in ("float64", "decimal"):
            real, how = np.float64, "divided"
            x = x.astype(real)
        s, add = s.astype(real), self._addend(r, z).astype(real)
        n = None
        if self.problem.has_offset:
            x = x - z.astype(real)
            steps = real(self.problem.params.qmax - self.problem.params.qmin)
            if r.form == "sentence-transformers":
                s = s / steps
                s = np.where(s == 0, real(1), s)
            elif r.form == "faiss":
                n, x = steps, np.where(s == 0, real(0), x)
                s = np.where(s == 0, real(1), s)
        if how == "fused":
            if real is np.float64:
                return np.asarray(x * (1 / s) + add)
            return _reference.fma32(x, 1 / s, add)
        half, _, part = how.partition("_")
        cast = _IN_HALF.get(half)
        if cast is not None:  # of all numbers, of x and the results, or of the quotient alone
            y = cast((x if part == "only" else cast(x)) / (s if part else cast(s)))
        elif how == "reciprocal":
            y = x * (1 / s)
        else:
            y = x * s if how == "multiplied" else x / s
        if n is not None:
            y = y * n
        if r.form == "before":
            y = y + add
            y = cast(y) if cast and part != "only" else y
        return np.asarray(y)

    def _rounded(self, r: Recipe, y: Array, z: Array) -> Array:
        if r.rounding == "trunc_sum":
            return np.asarray(np.trunc(y + self._addend(r, z).astype(y.dtype)))
        c = _ROUNDING[r.rounding](y)
        if r.form == "before" or r.quotient == "fused":
            return c
        return np.asarray(c + self._addend(r, z).astype(c.dtype))

    def _dequantized(self, r: Recipe, c: Array) -> Array:
        s, z = self._numbers_of(r)
        params = self.problem.params
        if not self.problem.has_offset:
            return np.asarray((c.astype(s.dtype) - z.astype(s.dtype)) * s)
        how: Any = {"qmin": params.qmin, "qmax": params.qmax, "convention": r.form}
        fused = r.form == "faiss" and s.dtype == np.float32 and bool(getattr(params, "fused", 0))
        return _reference.dequantize_by_offset(c, s, z, fused=fused, dtype=s.dtype, **how)
