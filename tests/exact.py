"""Exact arithmetic to check the reference: Fractions, rounded by hand."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

#: significand bits and least exponent of the unit in the last place
FORMATS = {
    "float16": (11, -24),
    "bfloat16": (8, -133),
    "float32": (24, -149),
    "float64": (53, -1074),
}
LARGEST = {
    "float16": Fraction(65504),
    "bfloat16": Fraction((2**8 - 1) * 2**120),
    "float32": Fraction((2**24 - 1) * 2**104),
    "float64": Fraction((2**53 - 1) * 2**971),
}


def half_even(value: Fraction) -> int:
    return round(value)  # Python rounds a Fraction to the nearest int, halves to even


def half_away(value: Fraction) -> int:
    return int(math.copysign(1, value)) * math.floor(abs(value) + Fraction(1, 2))


def rounded(value: Fraction, dtype: str) -> Fraction | float:
    """`value` rounded once to the float format: to nearest, halves to even; +-inf beyond it."""
    if value == 0:
        return value
    digits, least = FORMATS[dtype]
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    ulp = Fraction(2) ** max(exponent - digits + 1, least)
    result = half_even(value / ulp) * ulp
    infinity = math.inf if value > 0 else -math.inf
    return infinity if abs(result) > LARGEST[dtype] else result


def code(x: Any, s: Any, z: int, qmin: int, qmax: int, convention: str, dtype: str) -> int:
    """The code of one finite x, every operation rounded to `dtype` in exact arithmetic."""

    def fl(value: Fraction | float) -> Fraction | float:
        return value if isinstance(value, float) else rounded(value, dtype)

    x, s = Fraction(float(x)), Fraction(float(s))
    zero = fl(Fraction(z))
    assert isinstance(zero, Fraction)
    v = fl(x / s)
    if convention in ("torch", "ggml"):
        inverse = fl(1 / s)
        assert isinstance(inverse, Fraction)
        v = fl(x * inverse)
    if isinstance(v, float):
        return qmax if v > 0 else qmin
    if convention == "numpy":
        v = fl(v + zero)
        assert isinstance(v, Fraction)
        return min(max(half_even(v), qmin), qmax)
    near = half_away(v) if convention in ("tflite", "ggml") else half_even(v)
    return min(max(near + z, qmin), qmax)


def value(q: int, s: Any, z: int, precision: str, dtype: str) -> Fraction | float:
    """The value of one code: (q - z) * s in `precision`, rounded once more to `dtype`."""
    zero = rounded(Fraction(z), precision)
    assert isinstance(zero, Fraction)
    difference = rounded(Fraction(q) - zero, precision)
    assert isinstance(difference, Fraction)
    product = rounded(difference * Fraction(float(s)), precision)
    return product if isinstance(product, float) else rounded(product, dtype)


def _nearest(value: Fraction | float, dtype: str) -> Fraction | float:
    """`value` rounded once; an infinity stays."""
    return value if isinstance(value, float) else rounded(value, dtype)


def _finite(value: Fraction | float) -> Fraction:
    assert isinstance(value, Fraction)
    return value


def offset_code(
    x: Any,
    width: Any,
    offset: Any,
    qmin: int,
    qmax: int,
    convention: str,
    dtype: str,
    precision: str = "",
) -> int:
    """The code of one finite x by a real offset, every operation rounded to `dtype`.

    `width` is what the convention keeps: the scale of ``cf``, the span of the others.  A scale that
    is derived is rounded to the `precision` of the parameters, if that is another.
    """
    x, width, offset = (Fraction(float(each)) for each in (x, width, offset))
    n = Fraction(qmax - qmin)
    above = _nearest(x - offset, dtype)
    if convention == "cf":
        step, low, high, first = width, qmin, qmax, 0
    elif convention == "faiss":
        if width == 0:
            return qmin
        step, low, high, first = width, 0, qmax - qmin, qmin
    else:
        scale = _finite(_nearest(width / n, precision or dtype))
        step, low, high, first = scale or Fraction(1), 0, qmax - qmin, qmin
    steps = above if isinstance(above, float) else _nearest(above / step, dtype)
    if isinstance(steps, float):
        return first + (high if steps > 0 else low)
    if convention == "cf":
        found = half_even(steps)
    elif convention == "faiss":
        within = min(max(steps, Fraction(0)), Fraction(1))
        found = math.trunc(_finite(_nearest(n * within, dtype)))
    else:
        found = math.floor(steps)
    return first + min(max(found, low), high)


def offset_value(
    q: int,
    width: Any,
    offset: Any,
    qmin: int,
    qmax: int,
    convention: str,
    precision: str,
    dtype: str,
    fused: bool = False,
) -> Fraction | float:
    """The value of one code by a real offset, in `precision`, rounded once more to `dtype`.

    Of ``faiss`` with `fused` product and sum are rounded together.
    """
    width, offset = Fraction(float(width)), Fraction(float(offset))
    n, steps = Fraction(qmax - qmin), Fraction(q - qmin) + Fraction(1, 2)
    if convention == "cf":
        exact = Fraction(q) * width
    elif convention == "faiss":
        exact = _finite(_nearest(steps / n, precision)) * width
    else:
        exact = steps * _finite(_nearest(width / n, precision))
    product = exact if convention == "faiss" and fused else _nearest(exact, precision)
    if isinstance(product, float):
        return product
    return _nearest(_nearest(product + offset, precision), dtype)


def as_fraction(number: Any) -> Fraction | float:
    """A float of any format as a Fraction, or as +-inf."""
    number = float(number)
    return number if math.isinf(number) else Fraction(number)


def neighbours(values: Any, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """The values in `dtype` with the floats just below and above each."""
    v = np.asarray(values, dtype)
    inf = np.asarray(np.inf, dtype)
    return np.concatenate([np.nextafter(v, -inf), v, np.nextafter(v, inf)])


def half_steps(steps: Any, scale: Any, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """The values half way above the whole `steps`, where codes change, as `neighbours` gives them.

    Recipes of quantization part here: below, at and above each half step.
    """
    return neighbours((steps + 0.5) * np.float64(scale), dtype)
