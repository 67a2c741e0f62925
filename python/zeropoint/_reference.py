"""The NumPy reference: every operation of the library, written to be read.

It is the fallback where the core is absent, the oracle in the tests, and what ``verify()`` compares
with.  It sees only valid arrays in native byte order (`_checks` and `_api` stand above both
backends) and imports NumPy alone.

Arithmetic: each operation is rounded to the *working precision*, float32 for float16, bfloat16
and float32 data and float64 for float64 data.  NumPy's ufuncs do exactly that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# ---------------------------------------------------------------------------------------------
# Number formats


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is ml_dtypes' bfloat16 (known by its name: ml_dtypes need not be there)."""
    return dtype.itemsize == 2 and dtype.name == "bfloat16"


def widen(x: Array) -> Array:
    """float16 and bfloat16 become float32, exactly; anything else stays as it is."""
    if x.dtype.itemsize != 2 or x.dtype.kind in "iu":
        return x
    with np.errstate(invalid="ignore"):  # of signalling NaN
        return x.astype(np.float32)


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The precision in which data of `dtype` is computed."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def narrow(y: Array, dtype: np.dtype[Any]) -> Array:
    """`y` (float32 or float64) rounded once, halves to even, to any supported float dtype."""
    if not is_bfloat16(dtype):
        return y.astype(dtype)
    if y.dtype == np.float64:
        y = _round_to_odd(y)
    bits = y.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet_nan = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(y), quiet_nan, rounded).astype(np.uint16).view(dtype)


def _round_to_odd(y: Array) -> Array:
    """float64 to float32 so that a second rounding to fewer bits equals one rounding.

    Where the value is inexact the last bit is set (Boldo and Melquiond, "When double rounding is
    odd", 2005); plain `astype` would round twice on the way to bfloat16.
    """
    f = np.asarray(y.astype(np.float32))
    away = np.abs(f.astype(np.float64)) > np.abs(y)
    toward_zero = np.asarray(np.where(away, np.nextafter(f, np.float32(0)), f))
    inexact = toward_zero.astype(np.float64) != y
    bits = toward_zero.view(np.uint32) | (inexact & ~np.isnan(y)).astype(np.uint32)
    return np.asarray(bits.view(np.float32))


# ---------------------------------------------------------------------------------------------
# Rounding


def round_half_even(x: Array) -> Array:
    """The nearest integer, halves to even (IEEE 754 roundToIntegralTiesToEven)."""
    return np.asarray(np.rint(x))


def round_half_away(x: Array) -> Array:
    """The nearest integer, halves away from zero (C's `round`)."""
    whole = np.trunc(x)
    up = np.abs(x - whole) >= 0.5  # exact: x and its integer part share an exponent range
    return np.asarray(np.copysign(np.where(up, whole + np.copysign(1, x), whole), x))


def round(x: Array, ties: str) -> Array:
    with np.errstate(all="ignore"):
        y = (round_half_even if ties == "even" else round_half_away)(widen(x))
        y = np.where(np.isfinite(y), y, widen(x))
    return narrow(np.asarray(y), x.dtype)


# ---------------------------------------------------------------------------------------------
# Quantize and dequantize

#: The unclipped code of x for scale s and zero point z, all of one float dtype: the five recipes.
CODE: dict[str, Callable[[Array, Array, Array], Array]] = {
    "numpy": lambda x, s, z: round_half_even(x / s + z),
    "onnx": lambda x, s, z: round_half_even(x / s) + z,
    "torch": lambda x, s, z: round_half_even(x * (1 / s)) + z,
    "tflite": lambda x, s, z: round_half_away(x / s) + z,
    "ggml": lambda x, s, z: round_half_away(x * (1 / s)) + z,
}

#: the conventions that multiply by 1 / s, which then must be finite
BY_RECIPROCAL = ("torch", "ggml")


def spread(parameter: Array, shape: tuple[int, ...], axis: int | None, block: int | None) -> Array:
    """`parameter` in a shape that broadcasts against data of `shape`.

    Per tensor it is 0-d; per channel (`axis`) 1-d; per block it has the data's shape with `axis`
    divided by `block`, and every value is repeated `block` times along it (the last block may be
    short).
    """
    if axis is None:
        return parameter
    if block is None:
        return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    index = np.arange(shape[axis]) // block
    return np.take(parameter, index, axis=axis)


def unclipped(x: Array, scale: Array, zero_point: Array, convention: str) -> Array:
    """The code before it is clipped, an integer in the working precision of x."""
    x = widen(x)
    one = x.dtype.type
    with np.errstate(all="ignore"):
        code = CODE[convention](x, scale.astype(one), zero_point.astype(one))
    return np.asarray(code)


def clip(
    code: Array, x: Array, *, qmin: int, qmax: int, nan_code: int | None, dtype: np.dtype[Any]
) -> Array:
    """clip(code, qmin, qmax); where x is NaN, nan_code, or qmin where there is none."""
    found = np.where(np.isnan(code), qmin, np.clip(code, qmin, qmax)).astype(dtype)
    if nan_code is not None:
        found = np.where(np.isnan(widen(x)), dtype.type(nan_code), found)
    return np.asarray(found)


def with_nan(x: Array, q: Array, nan_code: int | None) -> Array:
    """Values x of the codes q, NaN where the code is nan_code."""
    return x if nan_code is None else np.where(q == nan_code, x.dtype.type(np.nan), x)


def quantize(
    x: Array,
    scale: Array,
    zero_point: Array,
    *,
    qmin: int,
    qmax: int,
    convention: str,
    dtype: np.dtype[Any],
    nan_code: int | None = None,
) -> Array:
    """clip(code, qmin, qmax); NaN becomes nan_code, or qmin where there is none."""
    code = unclipped(x, scale, zero_point, convention)
    return clip(code, x, qmin=qmin, qmax=qmax, nan_code=nan_code, dtype=dtype)


def dequantize(
    q: Array,
    scale: Array,
    zero_point: Array,
    *,
    dtype: np.dtype[Any],
    nan_code: int | None = None,
) -> Array:
    """(q - z) * s in the precision of the scale, rounded once to `dtype`."""
    one = scale.dtype.type
    with np.errstate(all="ignore"):
        x = np.asarray((q.astype(one) - zero_point.astype(one)) * scale)
        return narrow(with_nan(x, q, nan_code), dtype)


# ---------------------------------------------------------------------------------------------
# Quantize and dequantize with a real offset

#: The unclipped code of x for the offset o and steps n = qmax - qmin: counted from 0 by cf, whose
#: `s` is the scale; from qmin by the others, which keep the span of the data.
OFFSET_CODE: dict[str, Callable[[Array, Array, Array, int], Array]] = {
    "cf": lambda x, s, o, n: round_half_even((x - o) / s),
    "faiss": lambda x, span, o, n: np.floor(n * np.where(span == 0, 0, (x - o) / span)),
    "sentence-transformers": lambda x, s, o, n: np.floor((x - o) / np.where(s == 0, 1, s)),
}

#: the conventions that keep the span of the data, and not the scale
BY_SPAN = ("faiss", "sentence-transformers")


def scale_of(kept: Array, convention: str, n: int) -> Array:
    """The size of one step: kept by cf, else span / n, 0 where the span is or where it underflows.

    sentence-transformers divides by 1 in place of a step of 0.
    """
    with np.errstate(under="ignore"):
        return np.asarray(kept / kept.dtype.type(n)) if convention in BY_SPAN else kept


@np.errstate(all="ignore")
def unclipped_by_offset(
    x: Array, kept: Array, offset: Array, *, qmin: int, qmax: int, convention: str
) -> Array:
    """The code before it is clipped, in the wider of the precisions of x and the parameters."""
    x, n = widen(x), qmax - qmin
    real = np.promote_types(x.dtype, kept.dtype).type
    divisor = kept if convention == "faiss" else scale_of(kept, convention, n)
    code = OFFSET_CODE[convention](
        x.astype(real, copy=False), divisor.astype(real), offset.astype(real), n
    )
    return np.asarray(code + qmin if convention in BY_SPAN else code)


@np.errstate(all="ignore")
def dequantize_by_offset(
    q: Array,
    kept: Array,
    offset: Array,
    *,
    qmin: int,
    qmax: int,
    convention: str,
    fused: bool,
    dtype: np.dtype[Any],
    nan_code: int | None = None,
) -> Array:
    """The value of a code, in the precision of the parameters, rounded once to `dtype`.

    cf: q * s + o.  The others, with c = q - qmin, the middle of what the code stands for:
    o + (c + 0.5) * s, and o + (c + 0.5) / n * span, `fused` with one rounding after the division.
    """
    real, n = kept.dtype.type, qmax - qmin
    code = q.astype(real)
    if convention == "cf":
        x = code * kept + offset
    else:
        steps = code - real(qmin) + real(0.5)
        if convention == "sentence-transformers":
            x = steps * scale_of(kept, convention, n) + offset
        else:
            part = steps / real(n)
            x = fma32(part, kept, offset) if fused else part * kept + offset
    return narrow(with_nan(np.asarray(x), q, nan_code), dtype)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32, rounded once.

    The product is exact in float64.  The sum is rounded to odd there (Boldo and Melquiond, as in
    `_round_to_odd`), its error being exact by Knuth's TwoSum, so that the last rounding is the only
    one.
    """
    product, more = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = np.asarray(product + more)
    part = total - product
    error = (product - (total - part)) + (more - part)
    even = total.view(np.uint64) % 2 == 0
    toward = np.nextafter(total, np.copysign(np.inf, error))
    return np.asarray(np.where((error != 0) & even, toward, total)).astype(np.float32)


def requantize(
    acc: Array, multiplier: Array, zero_point: Array, *, qmin: int, qmax: int, dtype: np.dtype[Any]
) -> Array:
    """clip(rint(float32(acc) * M) + z, qmin, qmax) for int32 accumulators."""
    with np.errstate(all="ignore"):
        code = np.rint(acc.astype(np.float32) * multiplier) + zero_point.astype(np.float32)
    return np.asarray(np.clip(code, qmin, qmax)).astype(dtype)


# ---------------------------------------------------------------------------------------------
# Codes to codes: what the 256 codes of a source become under a target, a row for each channel


def line(
    first: Array, second: Array, *, qmin: int, qmax: int, convention: str
) -> list[tuple[Fraction, Fraction]]:
    """Slope and start of each channel's line, exactly: code q is worth ``slope * q + start``."""
    found = []
    for kept, other in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
        slope, start = Fraction(kept), Fraction(other)
        if convention in CODE:
            start *= -slope
        elif convention in BY_SPAN:
            slope /= qmax - qmin
            start += (Fraction(1, 2) - qmin) * slope
        found.append((slope, start))
    return found


#: Whether a code half way between two integers goes down, the upper one being `up`; else it goes
#: up.  Each convention rounds the code before or after it adds the zero point z.
HALF_GOES_DOWN: dict[str, Callable[[Array, Array], Array]] = {
    **dict.fromkeys(("numpy", "cf"), lambda up, z: up % 2 == 1),
    **dict.fromkeys(("onnx", "torch"), lambda up, z: (up - z) % 2 == 1),
    **dict.fromkeys(("tflite", "ggml"), lambda up, z: up <= z),
    **dict.fromkeys(BY_SPAN, lambda up, z: up != up),
}


def exact_codes(
    codes: Array,
    source: list[tuple[Fraction, Fraction]],
    target: list[tuple[Fraction, Fraction]],
    zero_point: Array,
    *,
    qmin: int,
    qmax: int,
    convention: str,
) -> Array:
    """The integers nearest to ``t = (value - start) / slope``, each value one of a `line`.

    A ratio of integers for each channel, ``(a q + b) / c``, so nothing is rounded but the code.
    """
    rows = []
    for (slope, start), (width, origin) in zip(source, target, strict=True):
        if width:
            ratio, rest = slope / width, (start - origin) / width
        elif convention == "faiss":  # a span of 0: the first code
            ratio, rest = Fraction(), Fraction(qmin)
        else:  # which sentence-transformers divides by 1
            ratio, rest = slope, start - origin + qmin - Fraction(1, 2)
        c = math.lcm(ratio.denominator, rest.denominator)
        rows.append((int(ratio * c), int(rest * c), c))
    small = all(512 * abs(a) + 2 * abs(b) + c < 2**62 for a, b, c in rows)
    kind = np.int64 if small else object  # Python's integers have no bounds
    table = np.array(rows, kind).reshape(-1, 3)
    a, b, whole = table[:, :1], table[:, 1:2], 2 * table[:, 2:]
    raised = 2 * (a * codes.astype(kind) + b) + whole // 2
    up = np.asarray(raised // whole)
    down = HALF_GOES_DOWN[convention](up, zero_point.astype(kind).reshape(-1, 1))
    return np.asarray(np.clip(up - ((up * whole == raised) & down), qmin, qmax))


LITERT_SHIFTS = 31  #: the largest shift to the left for which LiteRT's multiplication is defined


def fixed_point(ratio: Array) -> tuple[Array, Array]:
    """TFLite's QuantizeMultiplier: ``ratio = multiplier * 2**(shift - 31)``, the first 31 bits.

    Of two float32 the ratio never rounds up to the next power of two.
    """
    fraction, shift = np.frexp(ratio)
    return np.floor(np.ldexp(fraction, 31) + 0.5).astype(np.int64), shift.astype(np.int64)


def litert_codes(
    steps: Array, scale: Array, into: Array, zero_point: Array, *, xnnpack: bool, reference: bool
) -> Array:
    """What LiteRT's QUANTIZE makes of ``steps = q - z``, before it is clipped.

    `scale` and `into`, the scales of input and output, are float32, and all have a column for each
    code and a row for each channel.  With `xnnpack` the delegate's kernel takes ratios in
    [2**-8, 2**7], in 8 bits behind the point.  All else is a saturating rounding doubling high
    multiplication (gemmlowp), then a rounding shift: halves go up, but away from 0 in the
    `reference` kernels.
    """
    multiplier, shift = fixed_point(scale.astype(np.float64) / into.astype(np.float64))
    left, right = np.maximum(shift, 0), np.clip(-shift, 0, 31)  # whose result is 0
    shifted = (steps << left).astype(np.int32).astype(np.int64)  # in 32 bits, which wrap
    high = (shifted * multiplier + 2**30) >> 31
    away = (high < 0) & (right > 0) & reference
    found = (high + ((1 << right) >> 1) - away) >> right
    if xnnpack:
        with np.errstate(over="ignore", under="ignore"):
            narrow_ratio = scale / into
        inside = (narrow_ratio >= 2.0**-8) & (narrow_ratio <= 2.0**7)
        parts = np.rint(np.where(inside, narrow_ratio, 0) * np.float32(256)).astype(np.int64)
        found = np.where(inside, (steps * parts + 128) >> 8, found)
    return np.asarray(found + zero_point)


#: a block of GGUF's Q8_0
Q8_0 = np.dtype([("scale", "<f2"), ("codes", "i1", 32)])


@np.errstate(all="ignore")
def to_q8_0(x: Array) -> Array:
    """Blocks (uint8 [n, 34]) of x [n, 32]: float16 of ``d = max|x| / 127``, computed in float32,
    and the codes that `CODE["ggml"]` has for d, but 0 where 1 / d is not finite."""
    x = widen(x)
    scale = np.abs(x).max(axis=1) / np.float32(127)
    inverse = 1 / scale
    inverse[~np.isfinite(inverse)] = 0
    blocks = np.empty(len(x), Q8_0)
    blocks["scale"] = scale
    blocks["codes"] = round_half_away(x * inverse[:, None])
    return blocks.view(np.uint8).reshape(-1, Q8_0.itemsize)


@np.errstate(all="ignore")
def from_q8_0(blocks: Array, dtype: np.dtype[Any]) -> Array:
    """code * d in float32, rounded once to `dtype`: [n, 32] of blocks [n, 34]."""
    fields = blocks.view(Q8_0)[:, 0]
    scale = fields["scale"].astype(np.float32)
    return narrow(fields["codes"].astype(np.float32) * scale[:, None], dtype)


def lookup(q: Array, table: Array, axis: int | None) -> Array:
    """What each code becomes: ``table[i]``, or of its channel ``table[channel, i]``.

    `i` is the code minus the least one of q's dtype, so that a table has 256 entries.
    """
    index = q.astype(np.intp) - np.iinfo(q.dtype).min
    if axis is None:
        return np.asarray(table[index])
    shape = [1] * q.ndim
    shape[axis] = -1
    channel = np.arange(len(table)).reshape(shape)
    return np.asarray(table[channel, index])


def saturate(x: Array, qmin: int, qmax: int) -> Array:
    """clip(x, qmin, qmax) in x's dtype; NaN passes through."""
    return narrow(np.asarray(np.clip(widen(x), qmin, qmax)), x.dtype)


def saturate_cast(x: Array, dtype: np.dtype[Any]) -> Array:
    """clip(rint(x)) to the whole range of `dtype`; NaN becomes its minimum."""
    info = np.iinfo(dtype)
    if x.dtype.kind not in "iu":
        x = np.rint(widen(x))
        x = np.where(np.isnan(x), info.min, x)
    # as Python ints the bounds of uint8 and int8 fit every dtype but the unsigned ones
    low = max(int(info.min), 0) if x.dtype.kind == "u" else int(info.min)
    high = min(int(info.max), int(np.iinfo(x.dtype).max)) if x.dtype.kind in "iu" else info.max
    return np.asarray(np.clip(x, low, high)).astype(dtype)


def min_max(
    x: Array, axis: int | None, block: int | None, skip_nan: bool = False
) -> tuple[Array, Array]:
    """Minimum and maximum, in the working precision; a zero is +0.0.

    Per tensor 0-d; per channel 1-d; per block in the shape of the parameters.  Where the data has
    a NaN or an Inf both results are NaN.  With `skip_nan` NaN counts for nothing, an Inf is an end
    of the range, and no data are the range from Inf to -Inf.
    """
    y = widen(x)
    low_ends = high_ends = y
    if skip_nan:  # not by fmin and fmax: of a signalling NaN and a number they make a NaN
        real, missing = y.dtype.type, np.isnan(y)
        low_ends = np.where(missing, real(np.inf), y)
        high_ends = np.where(missing, real(-np.inf), y)
    if axis is None or block is None:
        others = tuple(i for i in range(y.ndim) if i != axis)
        low, high = np.minimum.reduce(low_ends, others), np.maximum.reduce(high_ends, others)
    else:
        starts = np.arange(0, y.shape[axis], block)
        low = np.minimum.reduceat(low_ends, starts, axis=axis)
        high = np.maximum.reduceat(high_ends, starts, axis=axis)
    if skip_nan:
        return np.asarray(low + 0), np.asarray(high + 0)
    finite = np.isfinite(low) & np.isfinite(high)
    nan = y.dtype.type(np.nan)
    return np.asarray(np.where(finite, low + 0, nan)), np.asarray(np.where(finite, high + 0, nan))


#: bins of a histogram; a power of two, so that a bin's place is its number modulo BINS
BINS = 4096


def bin_number(x: Array, exponent: Array) -> Array:
    """The number of x's bin among bins of width w = 2**exponent, in the precision of x.

    Bin 0 holds the zeros alone; bin t > 0 holds [(t - 1) w, t w), and -t the same values negated.
    That is exact for every float, for a quotient that underflows too, and two bins of one width
    make one bin of the next.
    """
    with np.errstate(under="ignore", over="ignore"):
        return np.asarray(np.trunc(np.ldexp(x, -exponent)) + np.sign(x))


def joined_bin(number: Array, doublings: Array) -> Array:
    """The bin that holds bin `number` (int64) when the width has doubled so often."""
    return np.sign(number) * ((np.abs(number) - 1 >> doublings) + 1)


def bins_spanned(low: Array, high: Array, exponent: Array) -> Array:
    """How many bins of 2**exponent there are from the one of `low` to the one of `high`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(bin_number(high, exponent) - bin_number(low, exponent) + 1)


def histogram(x: Array, axis: int | None, exponents: Array) -> tuple[Array, Array, Array]:
    """Minimum and maximum (float64), and a table of how many elements each bin holds.

    A row for each channel of `axis`, one row where that is None.  A row of the table is the
    exponent and the counts, bin t of 2**exponent at place t modulo BINS.  The counts mean nothing
    unless minimum and maximum span at most BINS bins (they are NaN where the data have NaN or Inf).
    """
    low, high = (np.atleast_1d(end).astype(np.float64) for end in min_max(x, axis, None))
    with np.errstate(invalid="ignore"):
        number = bin_number(widen(x), spread(exponents, x.shape, axis, None)).astype(np.int64)
    place = number % BINS + BINS * spread(np.arange(exponents.size), x.shape, axis, None)
    counts = np.bincount(place.ravel(), minlength=exponents.size * BINS).reshape(-1, BINS)
    return low, high, np.concatenate([exponents[:, None], counts], axis=1)


# ---------------------------------------------------------------------------------------------
# The error

#: elements in C order that are one chunk of the errors, and the lanes that sum it
CHUNK, _LANES = 1024, 8


@np.errstate(all="ignore")  # what overflows is told, and underflow does not matter in a sum
def errors(pairs: Array, unit: float) -> Array:
    """For each chunk a column: the largest |x' - x|, and the sums of |x' - x|, (x' - x)^2, x^2,
    x'^2 and x x', in `unit`; `pairs` are a row of x, in C order, and a row of x', in float64.

    They are summed in an order that serves vectors and threads: lane j of a chunk sums
    its elements j, j + 8, ... one by one; then neighbours are added, here and in `sum_of_chunks`,
    until one sum is left.
    """
    padded = np.pad(pairs, ((0, 0), (0, -pairs.shape[1] % CHUNK)))
    a, b = padded.reshape(2, -1, CHUNK // _LANES, _LANES) / unit
    error = np.abs(b - a)
    worst = np.fmax.reduce(error, axis=(1, 2), initial=0)
    return np.stack([worst, *map(_sums, (error, error * error, a * a, b * b, a * b))])


def _sums(x: Array) -> Array:
    lanes = np.add.accumulate(x, axis=1)[:, -1]  # one by one, as add.reduce may not be
    while lanes.shape[1] > 1:
        lanes = lanes[:, ::2] + lanes[:, 1::2]
    return lanes[:, 0]


@np.errstate(all="ignore")
def sum_of_chunks(found: Array) -> tuple[float, ...]:
    """The same of all chunks, from theirs, as `errors` has them."""
    sums = found[1:]
    while sums.shape[1] > 1:
        sums = np.pad(sums, ((0, 0), (0, sums.shape[1] % 2)))
        sums = sums[:, ::2] + sums[:, 1::2]
    return float(np.fmax.reduce(found[0])), *sums[:, 0].tolist()


def clipped(code: Array, qmin: int, qmax: int) -> int:
    """How many codes, unclipped, lie outside [qmin, qmax]; those of NaN do."""
    return int(np.count_nonzero(~((code >= qmin) & (code <= qmax))))


MOST = 0.9  # of the nonzero elements, so that a few outliers do not hide the others


def count_codes(
    x: Array, codes: Array, axis: int | None, present: Array | None = None
) -> tuple[Array, Array]:
    """How many elements have each of the 256 codes; and how many of the nonzero elements, in a row
    for each index along the axis (one where that is None).

    Only where `present`, if that is given.
    """
    rows = 1 if axis is None else x.shape[axis]
    row = 0 if axis is None else spread(np.arange(rows), x.shape, axis, None)
    place = np.asarray(codes.view(np.uint8) + 256 * row)
    all_of, zeros = (
        np.bincount(each, minlength=rows * 256).reshape(-1, 256)
        for each in (place.ravel() if present is None else place[present], place[x == 0])
    )
    return all_of.sum(axis=0), all_of - zeros


def fewest(counts: Array) -> Array:
    """How many of the counts of each row, the largest first, make up most of their sum."""
    sums = np.cumsum(np.sort(counts, axis=-1)[..., ::-1], axis=-1)
    return np.asarray((sums < MOST * sums[..., -1:]).sum(axis=-1) + (sums[..., -1] > 0))


# ---------------------------------------------------------------------------------------------
# The choice of scale and zero point

TORCH_SMALLEST_SCALE = 2.0**-23  # torch.ao.quantization.MinMaxObserver: finfo(float32).eps


def choose(
    low: Array,
    high: Array,
    *,
    zero_point_from: str | None,
    include_zero: bool,
    symmetric: bool,
    qmin: int,
    qmax: int,
    convention: str,
    dtype: np.dtype[Any],
) -> tuple[Array, Array]:
    """Scale and zero point (float64 integers, perhaps not finite) for data in [low, high].

    `zero_point_from` is "max", "min", "least_error" or None, the convention's default rule: that
    of ONNX's DynamicQuantizeLinear, torch's MinMaxObserver or TFLite's ChooseQuantizationParams.
    Evaluated in the dtype of `low` and `high`, as NumPy >= 2 does.
    """
    rule, real = zero_point_from, low.dtype.type
    if symmetric:
        centre = (qmin + qmax + 1) // 2
        reach = min(qmax - centre, centre - qmin)
        peak = np.maximum(np.abs(low), np.abs(high))
        scale = step(np.zeros_like(peak), peak, reach, peak.dtype)
        scale = np.where(peak == 0, real(1), scale)
        return scale, np.full(scale.shape, centre, np.float64)

    if include_zero:
        low, high = np.minimum(low, real(0)), np.maximum(high, real(0))
    default_tflite = rule is None and convention == "tflite"
    scale = step(low, high, qmax - qmin, np.dtype(np.float64) if default_tflite else low.dtype)
    if rule is None and convention == "torch":
        scale = np.maximum(scale, real(TORCH_SMALLEST_SCALE))
    empty = scale == 0  # all zeros: scale 1 and the code nearest to 0
    scale = np.where(empty, real(1), scale)

    with np.errstate(all="ignore"):
        from_min = qmin - np.rint(low / scale)
        from_max = qmax - np.rint(high / scale)
        if rule == "max":
            zero_point = from_max
        elif rule == "least_error":
            how = {"qmin": qmin, "qmax": qmax, "convention": convention, "dtype": dtype}
            errors = [
                np.maximum(*(_round_trip_error(end, scale, z, **how) for end in (low, high)))
                for z in (from_max, from_min)
            ]
            zero_point = np.where(errors[0] < errors[1], from_max, from_min)
        elif rule is None and convention == "onnx":
            zero_point = np.clip(np.rint(qmin - low / scale), qmin, qmax)
        elif rule is None and convention == "torch":
            zero_point = np.clip(from_min, qmin, qmax)
        elif default_tflite:
            zero_point = _tflite_zero_point(low, high, scale, qmin, qmax)
        else:
            zero_point = from_min
    zero_point = np.where(empty, np.clip(0, qmin, qmax), zero_point)
    return scale, np.asarray(zero_point, np.float64)


@np.errstate(all="ignore")
def choose_by_offset(
    low: Array, high: Array, *, qmin: int, qmax: int, convention: str
) -> tuple[Array, Array]:
    """Scale or span, and offset, for data in [low, high], a range that does not overflow.

    Evaluated in the dtype of `low` and `high`.  cf: ``scale = (high - low) / n`` and
    ``offset = low - qmin * scale``.  Constant data come back exactly.
    """
    if convention in BY_SPAN:
        return np.asarray(high - low), low

    def chosen(low: Array, high: Array) -> tuple[Array, Array]:
        scale = step(low, high, qmax - qmin, low.dtype)
        return scale, np.asarray(low - qmin * scale)

    def beyond(scale: Array, offset: Array) -> Array:
        """Whether an end gets a code outside [qmin, qmax]."""
        first, last = (round_half_even((end - offset) / scale) for end in (low, high))
        return np.isfinite(offset) & ((first < qmin) | (last > qmax))

    real, largest = low.dtype.type, np.finfo(low.dtype).max
    scale, offset = chosen(low, high)
    # Far from 0 the offset may be rounded by more than a step: such a range is first widened, by
    # as few units in the last place as keep its ends.
    wider = np.spacing(np.maximum(np.abs(low), np.abs(high)))
    while (out := beyond(scale, offset) & (low < high)).any():
        more = chosen(np.maximum(low - wider, -largest), np.minimum(high + wider, largest))
        scale, offset = np.where(out, more[0], scale), np.where(out, more[1], offset)
        wider = 2 * wider
    # Of constant data the step is 1 if that gives the value back, from the code nearest to 0; else
    # the value itself, or a step so small that the offset is the value.
    size, code = np.abs(low), real(min(max(0, qmin), qmax))
    steps = size * (np.finfo(low.dtype).eps / 4096), np.spacing(size), size, np.ones_like(size)
    scale = np.where((low == high) & (low != 0), size, scale)
    for each in steps:
        exact = (low == high) & (each > 0) & (code * each + (low - code * each) == low)
        scale = np.where(exact, each, scale)
    offset = np.where(low == high, low - code * scale, offset)
    return np.asarray(scale), np.asarray(offset)


def step(low: Array, high: Array, steps: int, precision: np.dtype[Any]) -> Array:
    """(high - low) / steps, the size of one step, computed in `precision`, in the dtype of `low`.

    Where that overflows or is subnormal it is instead the smallest number of the dtype that is
    not below the exact quotient, so that no element lies beyond the last code.
    """
    with np.errstate(all="ignore"):
        quotient = (high.astype(precision) - low.astype(precision)) / steps
        scale = np.array(quotient, low.dtype)
    normal = np.isfinite(scale) & (scale >= np.finfo(scale.dtype).smallest_normal)
    for i in np.flatnonzero((high > low) & ~normal):
        exact = (Fraction(float(high.flat[i])) - Fraction(float(low.flat[i]))) / steps
        scale.flat[i] = smallest_at_least(exact, scale.dtype)
    return scale


@np.errstate(all="ignore")
def smallest_at_least(exact: Fraction, dtype: np.dtype[Any]) -> Any:
    """The smallest number of the float `dtype` that is >= `exact`; Inf where there is none."""
    real = dtype.type
    if exact > Fraction(float(np.finfo(dtype).max)):
        return real(np.inf)
    guess = min(real(float(exact)), np.finfo(dtype).max)
    while Fraction(float(guess)) < exact:
        guess = np.nextafter(guess, real(np.inf))
    while guess > 0 and Fraction(float(np.nextafter(guess, real(0)))) >= exact:
        guess = np.nextafter(guess, real(0))
    return guess


def _round_trip_error(end: Array, scale: Array, zero_point: Array, **how: Any) -> Array:
    """How far `end` moves when it is quantized and dequantized, the difference in float64."""
    q = quantize(end, scale, zero_point, **how)
    back = dequantize(q, scale, zero_point, dtype=scale.dtype)
    return np.asarray(np.abs(back.astype(np.float64) - end.astype(np.float64)))


def _tflite_zero_point(low: Array, high: Array, scale: Array, qmin: int, qmax: int) -> Array:
    """TFLite's ChooseQuantizationParams: float64, from the end with the smaller error bound."""
    low, high = low.astype(np.float64), high.astype(np.float64)
    exact = (high - low) / (float(qmax) - float(qmin))
    normal = np.isfinite(exact) & (scale >= np.finfo(scale.dtype).smallest_normal)
    s = np.where(normal, exact, scale.astype(np.float64))
    from_min, from_max = qmin - low / s, qmax - high / s
    use_min = abs(qmin) + np.abs(low / s) < abs(qmax) + np.abs(high / s)
    candidate = np.asarray(np.where(use_min, from_min, from_max))
    return np.clip(round_half_away(candidate), qmin, qmax)
