"""A conformance kit: inputs at which recipes of quantization differ, and the codes that are right.

>>> from zeropoint import testing
>>> def quantize(x, params):
...     q = np.rint(x / params.scale) + params.zero_point
...     q = np.where(np.isnan(x), params.qmin, q)
...     return q.clip(params.qmin, params.qmax).astype(params.dtype)
>>> testing.assert_conforms(quantize, "onnx")

``python -m zeropoint.testing FILE.json`` writes the same vectors for other languages, see
``docs/reference/vectors.md``.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import _backend, _checks
from ._conventions import CONVENTIONS, OFFSET_CONVENTIONS, canonical, canonical_offset, has_offset
from ._params import OffsetParams, Params, QuantParams, quantize_by_reference
from ._reference import BY_SPAN, Array

__all__ = ["KINDS", "Difference", "Vectors", "assert_conforms", "vectors"]

#: what an input is there for
KINDS = {
    "zero": "0 and -0",
    "subnormal": "so small that the digits of float32 run out",
    "nan": "NaN of either sign: the code is qmin",
    "inf": "Inf and -Inf",
    "huge": "beyond int16, int32, int64, or any float32 once it is divided by the scale",
    "beyond": "beyond [qmin, qmax] by up to 1000 steps: it must saturate there, and not wrap",
    "end": "within two steps of an end of [qmin, qmax], outside of it",
    "random": "anywhere",
    "step": "as many whole steps from the zero point as float32 can say",
    "beside a step": "its neighbours among the floats",
    "half step": "half way between two steps, as near as float32 can say: a tie",
    "beside a half step": "its neighbours among the floats",
}

_NAMES = np.array([*KINDS])
_TINY = (1e-45, 1e-39, 1.1754942e-38, 1.1754944e-38)
_HUGE = (2**15, 2**16, 2**24, 2**31 - 128, 2**31, 2**32, 2**53, 2**63, 2**64, 1e30)
_BEYOND = (5, 50, 127, 128, 129, 200, 255, 256, 257, 300, 511, 512, 700, 1000)
_GOLDEN = 0.6180339887498949  # its multiples fill an interval evenly, and alike everywhere
_MOST = 1 << 18  # elements of all channels together
_SHOWN = 3  # examples of a kind, and parameters of an error


class Vectors(NamedTuple):
    """Inputs for one set of parameters, and the codes that its convention gives them."""

    params: Params  #: a QuantParams or an OffsetParams, one for the whole of `x`
    x: Array  #: float32, 1-D
    q: Array  #: codes of ``params.dtype`` in the shape of `x`, by the NumPy reference
    kinds: Array  #: str in the shape of `x`: which of `KINDS` each input is


@_checks.initialised_once
@dataclass(frozen=True)
class Difference:
    """Codes that differ, of one kind of input; ``str()`` is a line."""

    kind: str  #: of `KINDS`
    size: int  #: inputs of this kind
    count: int  #: of them have another code
    examples: tuple[tuple[float, float, int], ...]  #: the first: input, code, expected code

    def __str__(self) -> str:
        shown = []
        for x, code, wanted in self.examples:
            single = np.float32(x)
            shown.append(
                f"{single!s} (0x{single.view(np.uint32):08x}) is {code} in place of {wanted}"
            )
        return f"{self.kind}: {self.count} of {self.size} differ: {', '.join(shown)}"


class Inputs(NamedTuple):
    """Inputs for parameters of any layout, to be given in equal parts along `axis`."""

    params: Params  #: those of `x`: with blocks, the ones that were given, as often as `calls`
    x: Array  #: float32
    kinds: Array  #: uint8 in the shape of `x`: places in `KINDS`
    calls: int
    axis: int


def vectors(convention: str, dtype: Any = "uint8") -> list[Vectors]:
    """The vectors of a convention: hard inputs for some scales, zero points and ranges of codes.

    Parameters
    ----------
    convention
        A name of `zeropoint.CONVENTIONS` or `zeropoint.OFFSET_CONVENTIONS`, or an alias.
    dtype
        ``"uint8"`` or ``"int8"``: the type of the codes.

    Returns
    -------
    list of Vectors
        The same in each call, and on every machine.

    Raises
    ------
    TypeError, ValueError
        An unknown convention; another dtype.
    """
    return [each._replace(kinds=_NAMES[each.kinds]) for each in _vectors(convention, dtype)]


def _vectors(convention: str, dtype: Any) -> Iterator[Vectors]:
    """The same with places in `KINDS`."""
    known = (canonical_offset if has_offset(convention) else canonical)(convention)
    for params in _params_of(known, _checks.code_dtype(dtype)):
        given = inputs(params)
        yield Vectors(params, given.x, codes(given.x, params), given.kinds)


def assert_conforms(
    function: Callable[[Array, Any], Any], convention: str, dtype: Any = "uint8"
) -> None:
    """Assert that a quantizer gives the codes of a convention, every one.

    Parameters
    ----------
    function
        ``function(x, params) -> codes``: `x` is 1-D float32, `params` the QuantParams or
        OffsetParams to use; the codes are of ``params.dtype`` in the shape of `x`, an array or
        what NumPy can view.  Warnings of NumPy's arithmetic are off while it runs.
    convention, dtype
        As for `vectors`.

    Raises
    ------
    AssertionError
        Other codes, of which it lists some by their kind, or codes of another dtype.
    TypeError, ValueError
        What `vectors` raises; `function` is not callable, or returns no array in the shape of `x`.
        What it raises itself gets a note of what it was given.
    """
    wrong, total, parts = 0, 0, list[str]()
    for params, x, expected, kinds in _vectors(convention, dtype):
        q = called(function, x, params)
        what = f"for {params!r}"
        if q.dtype != params.dtype:
            raise AssertionError(f"function returned {q.dtype} {what}; codes are {params.dtype}")
        differs = q != expected
        wrong, total = wrong + int(np.count_nonzero(differs)), total + x.size
        if differs.any():
            lines = [f"{what}:", *map(str, differences(x, q, expected, kinds))]
            parts.append("\n  ".join(lines))
    if wrong:
        lines = [f"not {convention}: {wrong} of {total} codes differ", *parts[:_SHOWN]]
        if len(parts) > _SHOWN:
            lines.append(f"and for {len(parts) - _SHOWN} other parameters")
        raise AssertionError("\n".join(lines))


def called(function: Callable[..., Any], x: Array, *more: object) -> Array:
    """What a user's quantizer makes of a copy of `x`: an array in the shape of `x`."""
    if not callable(function):
        raise TypeError(
            f"function must be callable and return codes, not {type(function).__name__}; of codes "
            "that there are, zp.diagnose(x, q, params) says how they were made"
        )
    try:
        with np.errstate(all="ignore"):
            found = function(x.copy(), *more)
    except Exception as error:
        given = "".join(f", {each!r}" for each in more)
        error.add_note(f"function was given x, float32 of shape {x.shape}{given}")
        raise
    q = _checks.number_array(found, "function(x)")
    if q.shape != x.shape:
        raise ValueError(
            f"function returned shape {q.shape} for x of shape {x.shape}; return a code for each "
            "element"
        )
    return q.copy()


def differences(x: Array, q: Array, expected: Array, kinds: Array) -> list[Difference]:
    """In which codes `q` and `expected` differ, by kind; `kinds` are places in `KINDS`."""
    differs, found = q != expected, []
    for place, kind in enumerate(KINDS):
        mine = kinds == place
        here = differs & mine
        if here.any():
            some = (each[here][:_SHOWN].tolist() for each in (x, q, expected))
            size, count = (int(np.count_nonzero(each)) for each in (mine, here))
            found.append(Difference(kind, size, count, tuple(zip(*some, strict=True))))
    return found


@_backend.ieee
def codes(x: Array, params: Params) -> Array:
    """The codes of the NumPy reference, whatever backend is in use."""
    return quantize_by_reference(x, params, params._check_fits(x.shape))


@_backend.ieee
def inputs(params: Params) -> Inputs:
    """float32 inputs for given parameters; each channel or block has those of its own numbers.

    Where there are many channels, they share them: each has a part.
    """
    numbers = params._arrays[0]
    if numbers.size == 0:
        raise ValueError("params hold no scale; pass parameters of at least one channel")
    params._check_precision(np.dtype(np.float32))
    plan = _plan(params.qmin, params.qmax, params.convention in BY_SPAN)
    size, block = plan.kinds.size, params.block_size or 1
    length = max(1, min(size, _MOST // numbers.size))
    length = -(-length // block) * block
    channels = np.arange(numbers.size)[:, None]
    begin = channels * length if length < size else channels * 0
    at = (begin + np.arange(length)) % size
    kinds, rows = plan.kinds[at], _made(plan, at, params)
    axis = params.axis
    if axis is None:
        return Inputs(params, rows[0], kinds[0], 1, 0)
    if params.block_size is None:
        # the inputs of a channel lie along the first axis, or along the second if that is theirs
        ndim = max(2, axis + 1, -axis)
        others = [length] + [1] * (ndim - 2)
        x, kinds = (
            np.ascontiguousarray(np.moveaxis(each.reshape(-1, *others), 0, axis))
            for each in (rows, kinds)
        )
        return Inputs(params, x, kinds, 1, axis)
    calls, shape = length // block, numbers.shape
    # along the axis: the calls, in each of them the blocks, and in each of these its elements
    x, kinds = (
        np.moveaxis(each.reshape(*shape, calls, block), (-2, -1), (axis, axis + 2)).reshape(
            *shape[:axis], -1, *shape[axis + 1 :]
        )
        for each in (rows, kinds)
    )
    many = (np.concatenate([each] * calls, axis=axis) for each in params._arrays)
    return Inputs(params._over(*many), x, kinds, calls, axis)


class _Plan(NamedTuple):
    """The inputs of all parameters with the same range of codes, by what makes them."""

    kinds: Array  #: uint8: places in `KINDS`
    code: Array  #: float64: the code whose value it is, whole or not
    toward: Array  #: float32: -Inf or Inf, where the next float from there is meant, or NaN
    value: Array  #: float32: of the first inputs, whatever the parameters; there is no code


@functools.cache
def _plan(low: int, high: int, floors: bool) -> _Plan:
    """For codes in [low, high]; with `floors` they change at whole steps, else half way between.

    The last inputs are those in which recipes differ most, as a loop's tail is there.
    """
    largest = float(np.finfo(np.float32).max)
    fixed = {
        "zero": (0.0, -0.0),
        "subnormal": (*_TINY, *(-each for each in _TINY)),
        "nan": (np.nan, -np.nan),
        "inf": (np.inf, -np.inf),
        "huge": (1e30, -1e30, largest, -largest),
    }
    steps, halves = np.arange(low - 2.0, high + 3), np.arange(low - 1.5, high + 2)
    step, half = (each[(each >= low) & (each <= high)] for each in (steps, halves))
    ends = np.setdiff1d(np.concatenate([steps, halves]), np.concatenate([step, half]))
    huge, far, stay = np.array(_HUGE), np.array(_BEYOND), np.nan
    edges, beside = (step, "beside a step") if floors else (half, "beside a half step")
    found = (
        ("huge", huge, stay),
        ("huge", -huge, stay),
        ("beyond", low - far, stay),
        ("beyond", high + far, stay),
        ("end", ends, -np.inf),
        ("end", ends, stay),
        ("end", ends, np.inf),
        ("random", low - 2 + (high - low + 4) * (np.arange(1, 98) * _GOLDEN % 1), stay),
        ("step", step, stay),
        ("half step", half, stay),
        (beside, edges, -np.inf),
        (beside, edges, np.inf),
    )
    places = [*KINDS]
    kinds = [places.index(kind) for kind in (*fixed, *(kind for kind, _, _ in found))]
    value = np.array([*itertools.chain(*fixed.values())], np.float32)
    sizes = [*map(len, fixed.values()), *(codes.size for _, codes, _ in found)]
    return _Plan(
        np.repeat(kinds, sizes).astype(np.uint8),
        np.concatenate([np.zeros(value.size), *(codes for _, codes, _ in found)]),
        np.repeat([*[stay] * len(fixed), *(toward for _, _, toward in found)], sizes).astype("f4"),
        value,
    )


@np.errstate(all="ignore")
def _made(plan: _Plan, at: Array, params: Params) -> Array:
    """float32 in the shape of `at`, a row for each channel: its inputs at these places."""
    first, second = (each.reshape(-1, 1).astype(np.float64) for each in params._arrays)
    code, toward = plan.code[at], plan.toward[at]
    if isinstance(params, QuantParams):  # with float32 data the scale is float32
        x = (code - second) * first.astype(np.float32)
    elif params.convention in BY_SPAN:
        x = (code - params.qmin) * (first / (params.qmax - params.qmin)) + second
    else:
        x = code * first + second
    x = x.astype(np.float32)  # the nearest
    x = np.where(np.isnan(toward), x, np.nextafter(x, toward))
    return np.where(at < plan.value.size, plan.value[np.minimum(at, plan.value.size - 1)], x)


# ---------------------------------------------------------------------------------------------
# The committed kit

#: scale; zero point, first and last code counted from the first of the dtype.  Powers of two, for
#: which halves are exact; scales of images; a reciprocal that is an ulp off; quotients beyond
#: float32; both ends, odd and even zero points; symmetric and small ranges.
_QUANT = (
    (1.0, 0, 0, 255),
    (2.0**-7, 128, 0, 255),
    (1 / 255, 0, 0, 255),
    (0.1, 13, 0, 255),
    (1.96185386, 255, 0, 255),
    (1e-30, 100, 0, 255),
    (0.0235, 128, 1, 255),
    (3.7, 7, 0, 15),
)
#: size of a step, offset, first and last code counted from the first of the dtype.  Offsets that
#: take digits from x; a subnormal step.
_OFFSET = (
    (0.1, -12.8, 0, 255),
    (1 / 255, 0.5, 1, 255),
    (0.0078, -1e2, 0, 255),
    (3e-39, 1e-38, 0, 255),
    (0.3, -2.25, 0, 15),
)


def _params_of(convention: str, dtype: np.dtype[Any]) -> Iterator[Params]:
    first = int(np.iinfo(dtype).min)
    if not has_offset(convention):
        for scale, zero, low, high in _QUANT:
            yield QuantParams(
                np.float32(scale),
                first + zero,
                dtype,
                qmin=first + low,
                qmax=first + high,
                convention=convention,
            )
        return
    for step, offset, low, high in _OFFSET:
        by_span = convention in BY_SPAN
        yield OffsetParams(
            None if by_span else np.float32(step),
            np.float32(offset),
            dtype,
            span=np.float32(step * (high - low)) if by_span else None,
            qmin=first + low,
            qmax=first + high,
            convention=convention,
        )


def kit() -> str:
    """The vectors of all conventions as JSON, a case a line; numbers are hex digits of their bits.

    A case has one set of parameters, and the codes of all conventions that take it.
    """
    together: dict[tuple[Any, ...], dict[str, Any]] = {}
    for dtype in ("uint8", "int8"):
        for convention in (*CONVENTIONS, *OFFSET_CONVENTIONS):
            for params, x, q, kinds in vectors(convention, dtype):
                first, second = params._arrays
                digits = x.astype(">f4").tobytes().hex()
                case = together.setdefault(
                    (dtype, params.qmin, params.qmax, digits),
                    {
                        "dtype": dtype,
                        "qmin": params.qmin,
                        "qmax": params.qmax,
                        params._names[0]: _bits(first),
                        params._names[1]: int(second)
                        if second.dtype == np.int32
                        else _bits(second),
                        "kinds": [
                            [kind, len([*run])] for kind, run in itertools.groupby(kinds.tolist())
                        ],
                        "x": digits,
                        "codes": {},
                    },
                )
                case["codes"][convention] = q.tobytes().hex()
    head = {"about": "zeropoint's vectors: docs/reference/vectors.md", "format": 1, "kinds": KINDS}
    lines = ",\n".join(map(json.dumps, together.values()))
    return f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n'


def _bits(number: Array) -> str:
    return number.astype(">f4").tobytes().hex()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m zeropoint.testing FILE.json")
    Path(sys.argv[1]).write_text(kit(), encoding="utf-8")
