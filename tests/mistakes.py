"""Codes as people compute them by hand, wrongly: the table that `diagnose` is tested with.

Written in plain NumPy, apart from the recipes of the package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import zeropoint as zp

Array = np.ndarray[Any, np.dtype[Any]]
BF16 = ml_dtypes.bfloat16
CONVENTIONS = ("numpy", "onnx", "torch", "tflite")


def away(y: Array) -> Array:
    y = np.asarray(y)
    return np.trunc(y.astype(np.float64) + np.copysign(0.5, y)).astype(y.dtype)


def half_up(y: Array) -> Array:
    y = np.asarray(y)
    return np.floor(y.astype(np.float64) + 0.5).astype(y.dtype)


@dataclass
class Case:
    """Data and parameters, and the arithmetic of one convention by hand."""

    x: Array
    s: Array
    z: Array
    dtype: Any
    convention: str
    params: zp.QuantParams

    @staticmethod
    def of(x: Array, params: zp.QuantParams) -> Case:
        shape = [-1 if k == params.axis else 1 for k in range(x.ndim)]
        s, z = (np.asarray(v, np.float32) for v in (params.scale, params.zero_point))
        if params.axis is not None:
            s, z = s.reshape(shape), z.reshape(shape)
        return Case(x, s, z, params.dtype, params.convention, params)

    @property
    def low(self) -> int:
        return int(np.iinfo(self.dtype).min)

    @property
    def high(self) -> int:
        return int(np.iinfo(self.dtype).max)

    @property
    def other(self) -> Any:
        return np.int8 if self.dtype == np.uint8 else np.uint8

    def divided(self, x: Array, s: Array) -> Array:
        return x * (np.float32(1) / s) if self.convention == "torch" else x / s

    def sum_of(self, y: Array, z: Array, rounding: Callable[[Array], Array]) -> Array:
        return rounding(y + z) if self.convention == "numpy" else rounding(y) + z

    def rounded(self, y: Array) -> Array:
        return away(y) if self.convention == "tflite" else np.rint(y)

    def steps(
        self, x: Any = None, s: Any = None, z: Any = None, rounding: Any = None, y: Any = None
    ) -> Array:
        """The codes before they are clipped."""
        x, s, z = (a if b is None else b for a, b in ((self.x, x), (self.s, s), (self.z, z)))
        with np.errstate(all="ignore"):
            y = self.divided(x, s) if y is None else y
            return self.sum_of(y, z, rounding or self.rounded)

    def clip(self, c: Array) -> Array:
        c = np.where(np.isnan(c), self.params.qmin, c)
        return np.clip(c, self.params.qmin, self.params.qmax).astype(self.dtype)

    def codes(self, **changes: Any) -> Array:
        return self.clip(self.steps(**changes))

    def wrapped(self, c: Array) -> Array:
        return np.nan_to_num(c).astype(np.int64).astype(self.dtype)


def _swapped(c: Case) -> Array:
    return c.clip(c.steps(s=c.z, z=c.s))


def _fused(c: Case) -> Array:
    y = c.x.astype(np.float64) * np.float64(np.float32(1) / c.s) + c.z
    return c.clip(np.rint(y.astype(np.float32)))


def _in_half(half: Any) -> Callable[[Case], Array]:
    def codes(c: Case) -> Array:
        with np.errstate(all="ignore"):
            y = c.x.astype(half) / c.s.astype(half)
            if c.convention == "numpy":
                return c.clip(np.rint((y + c.z.astype(half)).astype(np.float32)))
            return c.codes(y=y.astype(np.float32))

    return codes


def _in_double(c: Case) -> Array:
    y = c.x.astype(np.float64) / c.s.astype(np.float64)
    return c.clip(c.sum_of(y, c.z, c.rounded))


def _stale(c: Case) -> Array:
    return c.codes(s=np.float32(0.37) * c.s.max(), z=c.z.max() + 3)


def _dequantized(c: Case) -> Array:
    return (c.codes().astype(np.float32) - c.z) * c.s


def _by_int32(c: Case) -> Array:
    y = c.steps()
    return c.clip(np.where(np.abs(y) < 2**31, y, -(2.0**31)))


def _early(c: Case) -> Array:
    y = np.clip(c.steps(z=np.float32(0)), c.low, c.high).astype(np.int64)
    return (y + c.z.astype(np.int64)).astype(c.dtype)


def _other_clip(c: Case) -> Array:
    info = np.iinfo(c.other)
    return np.clip(c.steps(), info.min, info.max).astype(np.int64).astype(c.dtype)


def _nan_as(value: Any) -> Callable[[Case], Array]:
    return lambda c: np.where(np.isnan(c.x), value(c), c.codes()).astype(c.dtype)


def _other_rows(c: Case, s: Array, z: Array) -> Array:
    return c.codes(s=s.reshape(c.s.shape), z=z.reshape(c.z.shape))


def _moved(c: Case) -> Array:
    return _other_rows(c, np.roll(c.s.ravel(), 1), np.roll(c.z.ravel(), 1))


def _wrong_axis(c: Case) -> Array:
    """Along the last axis, where a 1-D array broadcasts."""
    return c.codes(s=c.s.ravel(), z=c.z.ravel())


def _pixels(c: Case) -> Array:
    return c.codes(x=c.x * np.float32(255))


#: of parameters for the whole tensor: key of the mistake, and the codes
PER_TENSOR: dict[str, Callable[[Case], Array]] = {
    "truncated": lambda c: c.codes(rounding=np.trunc),
    "floored": lambda c: c.codes(rounding=np.floor),
    "ceiled": lambda c: c.codes(rounding=np.ceil),
    "ties_away": lambda c: c.codes(rounding=away),
    "ties_half_up": lambda c: c.codes(rounding=half_up),
    "reciprocal": lambda c: c.codes(y=c.x * (np.float32(1) / c.s)),
    "fused": _fused,
    "wrapped": lambda c: c.wrapped(c.steps()),
    "not_clipped": lambda c: np.clip(c.steps(), c.low, c.high).astype(c.dtype),
    "clipped_127": lambda c: np.clip(c.steps(), c.low + 1, c.high).astype(c.dtype),
    "clipped_to_other_dtype": _other_clip,
    "clipped_before_zero_point": _early,
    "clipped_on_one_side": lambda c: c.wrapped(np.minimum(c.steps(), c.high)),
    "uint8_read_as_int8": lambda c: c.codes().view(c.other),
    "off_by_128": lambda c: (c.codes().astype(np.int16) - 128 - 2 * c.low).astype(c.other),
    "zero_point_forgotten": lambda c: c.codes(z=np.float32(0)),
    "zero_point_twice": lambda c: c.codes(z=2 * c.z),
    "zero_point_wrong_sign": lambda c: c.codes(z=-c.z),
    "zero_point_of_other_dtype": lambda c: c.codes(z=c.z - 128 - 2 * c.low),
    "scale_inverted": lambda c: c.codes(y=c.x * c.s),
    "swapped": _swapped,
    "parameters_forgotten": lambda c: c.codes(s=np.float32(1), z=np.float32(0)),
    "missing_255": _pixels,
    "doubled_255": lambda c: c.codes(x=c.x / np.float32(255)),
    "relu": lambda c: c.codes(x=np.maximum(c.x, 0)),
    "negated": lambda c: c.codes(x=-c.x),
    "data_integers": lambda c: c.codes(x=np.trunc(c.x)),
    "data_float16": lambda c: c.codes(x=c.x.astype(np.float16).astype(np.float32)),
    "data_bfloat16": lambda c: c.codes(x=c.x.astype(BF16).astype(np.float32)),
    "scale_float16": lambda c: c.codes(s=c.s.astype(np.float16).astype(np.float32)),
    "scale_bfloat16": lambda c: c.codes(s=c.s.astype(BF16).astype(np.float32)),
    "division_float16": _in_half(np.float16),
    "division_bfloat16": _in_half(BF16),
    "computed_float64": _in_double,
    "int32_before_clipping": _by_int32,
    "nan_to_qmax": _nan_as(lambda c: c.high),
    "nan_to_0": _nan_as(lambda c: 0),
    "nan_to_zero_point": _nan_as(lambda c: c.z),
    "not_rounded": lambda c: np.clip(c.steps(rounding=np.asarray), c.low, c.high),
    "dequantized": _dequantized,
    "quantized_twice": lambda c: c.codes(x=c.codes().astype(np.float32)),
    "off_by_1": lambda c: c.clip(c.codes().astype(np.float32) + 1),
    "other_parameters": _stale,
}
#: of parameters for each channel of axis 0 of square data
PER_CHANNEL: dict[str, Callable[[Case], Array]] = {
    "wrong_axis": _wrong_axis,
    "other_channel_order": lambda c: _other_rows(c, c.s.ravel()[::-1], c.z.ravel()[::-1]),
    "one_channel_for_all": lambda c: c.codes(s=c.s.ravel()[0], z=c.z.ravel()[0]),
    "transposed": lambda c: c.codes().T.copy(),
    "truncated": PER_TENSOR["truncated"],
    "wrapped": PER_TENSOR["wrapped"],
    "zero_point_forgotten": PER_TENSOR["zero_point_forgotten"],
}


#: what few data show that have no ties
NEAR_TIES = ("ties_away", "ties_half_up", "reciprocal", "fused", "computed_float64")


def params_for(x: Array, dtype: str, convention: str, key: str, axis: int | None) -> zp.QuantParams:
    """Those of most of the data, so that some are clipped."""
    inside = x[np.isfinite(x)].astype(np.float32)
    cut = np.float32(np.quantile(np.abs(inside), 0.97)) or np.float32(1)
    y = np.clip(np.nan_to_num(x.astype(np.float32)), -cut, cut * np.float32(0.8))
    low, high = (-100, 100) if dtype == "int8" else (20, 230)
    ends = {"qmin": low, "qmax": high} if key == "not_clipped" else {}
    return zp.choose_params(y, dtype, axis=axis, convention=convention, **ends)


def cases(x: Array, convention: str, dtype: str) -> Iterator[tuple[str, Array, Any, Array]]:
    """Key, data, parameters, wrong codes; `x` is square."""
    for key, codes in PER_TENSOR.items():
        y = x
        if key.startswith("nan_"):
            y = x.copy()
            y.flat[3::41] = np.nan
        if key == "int32_before_clipping":
            y = x.copy()
            y.flat[5::37] = 3e30
        if key == "data_integers":
            y = x / np.abs(x).max() * np.float32(40)
        if key in ("swapped", "quantized_twice", "scale_inverted", "dequantized"):
            y = x / np.abs(x).max() * np.float32(200)
        params = params_for(y, dtype, convention, key, None)
        if key in NEAR_TIES:
            y = y.copy()
            steps = np.arange(y[:, ::3].size).reshape(y[:, ::3].shape) % 250 - 125
            y[:, ::3] = (steps + np.float32(0.5)) * params.scale
        yield key, y, params, codes(Case.of(y, params))
    for key, codes in PER_CHANNEL.items():
        params = params_for(x, dtype, convention, key, 0)
        yield key, x, params, codes(Case.of(x, params))


def named(found: zp.Diagnosis, key: str) -> bool:
    """Whether the mistake is the best explanation, or one with the same codes."""
    from zeropoint._recipes import CATALOGUE

    name = next(m.name for m in CATALOGUE if m.key == key)
    best = found.best
    return best.mistakes == (key,) or any(a.startswith(f"{name} of ") for a in best.also)


def harmless(x: Array, q: Array, params: zp.QuantParams) -> bool:
    """Whether the codes are those of a convention all the same."""
    return q.shape == x.shape and any(
        np.array_equal(zp.quantize(x, params.replace(convention=c)), q) for c in zp.CONVENTIONS
    )


def check(key: str, x: Array, params: zp.QuantParams, q: Array) -> bool:
    """Assert that the answer is right; whether there is a mistake to be seen."""
    found = zp.diagnose(x, q, params)
    assert found.best.share == 1, (key, params.convention, found.best)
    if harmless(x, q, params):
        assert found.best.mistakes == (), (key, params.convention, found.best)
        return False
    assert named(found, key), (key, params.convention, str(params.dtype), found.best)
    return True


def packaged(package: str, path: str) -> Path | None:
    """A file of a package, which is found and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], path)
