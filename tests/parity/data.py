"""What every engine is fed: the values at which two recipes of quantization can disagree.

Recipes agree almost everywhere, so random data alone proves little.  They part at the half steps
(where the rounding flips) and at their two float neighbours (where a reciprocal, a fused
multiply-add or an early addition of the zero point lands on the other side), and where the codes
saturate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import zeropoint as zp
from zeropoint import testing

from ..exact import half_steps

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = ("uint8", "int8")
SIZE = 1216  #: elements of a case: room for all inputs of 256 codes

#: Scales with a history: powers of two (half steps are exact), a float32 whose reciprocal is
#: awkward, common image scales.
PLAIN_SCALES = (1.0, 2.0**-7, 0.1, 1 / 255, 0.0078, 1.96185386)


class Case(NamedTuple):
    scale: np.float32
    zero_point: int
    x: Array


def span(dtype: str) -> tuple[int, int]:
    """qmin and qmax of the whole dtype."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def scales(count: int, seed: int = 0) -> Array:
    """`count` float32 scales: the plain ones, then log-uniform ones from 1e-6 to 1e3."""
    rng = np.random.default_rng(seed)
    drawn = np.exp(rng.uniform(np.log(1e-6), np.log(1e3), max(count - len(PLAIN_SCALES), 0)))
    return np.concatenate([PLAIN_SCALES, drawn])[:count].astype(np.float32)


def zero_points(qmin: int, qmax: int) -> list[int]:
    """Every class of zero point: both ends, and odd and even ones beside them and between."""
    middle = (qmin + qmax) // 2
    return sorted({qmin, qmin + 1, middle, middle + 1, qmax - 1, qmax})


def values(
    scale: np.float32,
    zero_point: int,
    qmin: int,
    qmax: int,
    rng: np.random.Generator,
    reach: float = np.inf,
) -> Array:
    """SIZE float32 values for one scale and zero point, those of `zeropoint.testing`, without NaN.

    Mixed, so that bodies of vectors and tails alike meet all kinds.  `reach` bounds abs(x / scale),
    for an engine that wraps beyond it.
    """
    code = "int8" if qmin < 0 else "uint8"
    x = testing.inputs(zp.QuantParams(scale, zero_point, code, qmin=qmin, qmax=qmax)).x
    bound = np.float32(min(reach * float(scale), np.inf))
    return rng.permutation(np.resize(np.clip(x[~np.isnan(x)], -bound, bound), SIZE))


def cases(
    qmin: int, qmax: int, count: int, *, seed: int = 0, reach: float = np.inf
) -> Iterator[Case]:
    """Per-tensor cases: `count` scales, each with every class of zero point."""
    rng = np.random.default_rng(seed)
    for scale in scales(count, seed):
        for zero_point in zero_points(qmin, qmax):
            yield Case(scale, zero_point, values(scale, zero_point, qmin, qmax, rng, reach))


class Channels(NamedTuple):
    scale: Array  #: 1-D float32
    zero_point: Array  #: 1-D int32
    x: Array  #: three axes, the channels along the one that was asked for


def channels(
    qmin: int, qmax: int, count: int, axis: int, *, seed: int = 0, reach: float = np.inf
) -> Channels:
    """`count` channels along `axis`, each with all the edges of its own scale and zero point."""
    rng = np.random.default_rng(seed)
    scale = rng.permutation(scales(count, seed))
    zero_point = np.resize(zero_points(qmin, qmax), count).astype(np.int32)
    rows = [
        values(s, int(z), qmin, qmax, rng, reach) for s, z in zip(scale, zero_point, strict=True)
    ]
    x = np.moveaxis(np.stack(rows).reshape(count, -1, 16), 0, axis)
    return Channels(scale, zero_point, np.ascontiguousarray(x))


def blocks(
    shape: tuple[int, ...], axis: int, block_size: int, qmin: int, qmax: int, *, seed: int = 0
) -> Channels:
    """Blocks of `block_size` along `axis` (the last may be short): each element at an edge.

    The parameters differ from block to block, so every element draws its own kind of edge.
    """
    rng = np.random.default_rng(seed)
    parameters = list(shape)
    parameters[axis] = -(-shape[axis] // block_size)
    scale = rng.choice(scales(100, seed), parameters)
    zero_point = rng.choice(zero_points(qmin, qmax), parameters).astype(np.int32)
    index = np.arange(shape[axis]) // block_size
    own_scale = np.take(scale, index, axis=axis).astype(np.float64)
    steps = rng.integers(qmin - 2, qmax + 3, shape) - np.take(zero_point, index, axis=axis)
    below, half, above = np.split(half_steps(steps, own_scale), 3)
    random = (rng.uniform(steps - 1, steps + 1) * own_scale).astype(np.float32)
    saturating = np.copysign(np.float32(np.inf), half)
    kinds = [half, below, above, random, saturating]
    kind = rng.choice(len(kinds), shape, p=[0.25, 0.25, 0.25, 0.24, 0.01])
    return Channels(scale, zero_point, np.choose(kind, kinds))


def all_codes(dtype: str) -> Array:
    """Every code there is."""
    qmin, qmax = span(dtype)
    return np.arange(qmin, qmax + 1).astype(dtype)


def all_float16() -> Array:
    """Every float16 but the NaNs."""
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return x[~np.isnan(x)]


def nans(dtype: Any = np.float32) -> Array:
    """NaNs among ordinary numbers, so that they meet vector bodies and tails alike."""
    x = np.linspace(-3, 3, 331).astype(dtype)
    x[::3] = np.nan
    return x


def ranges(count: int, seed: int = 0) -> Iterator[Array]:
    """Data whose range is worth a choice of parameters.

    Random sizes, spreads (1e-6 to 1e3) and offsets, so that 0 lies inside, at an end and far
    outside; and ranges whose zero point falls exactly between two codes.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        spread = np.exp(rng.uniform(np.log(1e-6), np.log(1e3)))
        offset = rng.normal() * np.exp(rng.uniform(np.log(1e-6), np.log(1e3)))
        x = rng.normal(size=rng.integers(1, 400)) * spread + rng.choice([0.0, offset])
        yield x.astype(np.float32)
    for low in np.arange(-130, 1, 0.5):
        for unit in (1.0, 0.25, 2.0**-20, 0.1):
            ends = np.linspace(low, low + 255, 511)  # the scale is `unit`: steps and half steps
            x = (ends * unit).astype(np.float32)
            yield np.concatenate([x, np.nextafter(x[1:-1], np.float32(0))])


class Tally:
    """Counts elements whose bits differ and remembers the first."""

    def __init__(self) -> None:
        self.n = self.differences = 0
        self.first = "no difference"

    def add(self, ours: Any, theirs: Any, x: Any = None, about: object = "") -> None:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        unsigned = f"u{ours.dtype.itemsize}"
        differs = np.ascontiguousarray(ours).view(unsigned) != np.ascontiguousarray(theirs).view(
            unsigned
        )
        self.n += ours.size
        found = int(np.count_nonzero(differs))
        if found and not self.differences:
            at = np.unravel_index(int(np.argmax(differs)), ours.shape)
            given = "" if x is None else f"x {np.asarray(x)[at]!r}, "
            self.first = f"{given}ours {ours[at]!r}, theirs {theirs[at]!r} at {at}; {about}"
        self.differences += found
