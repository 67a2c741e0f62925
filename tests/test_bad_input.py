"""The bad-input table of the design, row by row, on every backend: same results, same messages."""

from __future__ import annotations

import contextlib
import decimal
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _checks
from zeropoint.observers import HistogramObserver, MinMaxObserver

P = zp.QuantParams(0.5, 10)
NAN, INF = np.nan, np.inf
F32 = np.arange(6, dtype=np.float32).reshape(2, 3)
U8 = np.zeros((2, 3), np.uint8)
CHANNELS = zp.QuantParams([0.5, 0.5, 0.5], 0, axis=1)


def read_only(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = x.copy()
    x.flags.writeable = False
    return x


class Cuda:
    """Something on another device."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("not reached")


class NoPair:
    """Something whose `__dlpack_device__` does not answer with a pair."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __dlpack_device__(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("not reached")


class Sparse:
    """What NumPy reads as one Python object, as a matrix of scipy.sparse."""

    def toarray(self) -> Any:
        return F32

    def __str__(self) -> str:  # the same in every process that collects the tests
        return "sparse"


class Masked(np.ndarray[Any, Any]):
    """A subclass of ndarray with a mask, as astropy has one."""

    mask: Any = np.array([False, True, False])


NOT_REAL = {
    "int": np.arange(3),
    "bool": np.ones(3, bool),
    "complex": np.ones(3, complex),
    "longdouble": np.ones(3, np.longdouble),
    "object": np.array([1.0, None]),
    "decimal": [decimal.Decimal(1)],
    "string": np.array(["1"]),
    "str": "1.0",
    "none": None,
    "list of ints": [1, 2],
    "masked": np.ma.masked_array([1.0, 2.0], [0, 1]),
    "datetime": np.array(["2026-01-01"], "M8[D]"),
    "structured": np.zeros(2, "f4,f4"),
    "ragged": [[1.0], [1.0, 2.0]],
    "device": Cuda(),
    "device None": NoPair(None),
    "device of three": NoPair((1, 0, 0)),
    "device of names": NoPair(("cpu", 0)),
    "device that fails": NoPair(RuntimeError("not now")),
    "masked subclass": np.ones(3).view(Masked),
    "masked in a list": [np.ma.masked_array([1.0], [1]), [2.0]],
    "sparse": Sparse(),
}

Case = tuple[Callable[[], Any], type[Exception], str]
ROWS: dict[str, Case] = {
    # x
    "check_finite": (
        lambda: zp.quantize(np.array([1, NAN, INF], np.float32), P, check_finite=True),
        ValueError,
        r"x has 2 NaN or Inf of 3 elements, the first \(nan\) at index \(1,\)",
    ),
    "check_finite of the method": (
        lambda: P.quantize(np.array([1, NAN, INF], np.float32), check_finite=True),
        ValueError,
        r"x has 2 NaN or Inf of 3 elements, the first \(nan\) at index \(1,\)",
    ),
    "check_finite of the method not a bool": (
        lambda: P.quantize(F32, check_finite=0),  # type: ignore[arg-type]
        TypeError,
        "check_finite must be True or False, not int 0",
    ),
    "check_finite not a bool": (
        lambda: zp.quantize(F32, P, check_finite=1),  # type: ignore[arg-type]
        TypeError,
        "check_finite must be True or False",
    ),
    "NaN in choose_params": (
        lambda: zp.choose_params(np.array([[0, 1], [NAN, INF]], np.float32)),
        ValueError,
        r"x has 2 NaN or Inf of 4 elements, the first \(nan\) at index \(1, 0\)",
    ),
    "Inf in min_max": (
        lambda: zp.min_max(np.array([0, -INF])),
        ValueError,
        r"x has 1 NaN or Inf of 2 elements, the first \(-inf\) at index \(1,\)",
    ),
    "NaN in a channel": (
        lambda: zp.min_max(np.array([[0, 1], [2, NAN]], np.float32), channel_axis=1),
        ValueError,
        r"x has 1 NaN or Inf",
    ),
    "NaN in quantize_dynamic": (
        lambda: zp.quantize_dynamic(np.array([NAN], np.float32)),
        ValueError,
        "x has 1 NaN or Inf",
    ),
    "NaN in error_stats": (
        lambda: zp.error_stats(np.array([NAN], np.float32), P),
        ValueError,
        "x has 1 NaN or Inf",
    ),
    "choose_params of no data": (
        lambda: zp.choose_params(np.zeros((0, 3), np.float32)),
        ValueError,
        r"x has no data \(shape \(0, 3\)\)",
    ),
    "min_max of no data": (lambda: zp.min_max(np.zeros(0)), ValueError, "x has no data"),
    "params missing": (
        lambda: zp.quantize(F32, 0.5),  # type: ignore[arg-type]
        TypeError,
        r"params must be a QuantParams or OffsetParams, not float; pass .* zp\.quantize\(x, "
        r"zp\.QuantParams\(0\.5, zero_point\)\)",
    ),
    "scale and zero point in quantize": (
        lambda: zp.quantize(F32, 0.1, 0),  # type: ignore[arg-type]
        TypeError,
        r"params must be a QuantParams .* zp\.quantize\(x, zp\.QuantParams\(0\.1, 0\)\)",
    ),
    "scales and zero points in quantize": (
        lambda: zp.quantize(F32, [0.1, 0.2], U8),  # type: ignore[arg-type]
        TypeError,
        r"not list; .* zp\.quantize\(x, zp\.QuantParams\(scale, zero_point\)\)",
    ),
    "scale, zero point and range in fake_quantize": (
        lambda: zp.fake_quantize(F32, 0.1, 0, 0, 255),  # type: ignore[arg-type]
        TypeError,
        r"zp\.fake_quantize\(x, zp\.QuantParams\(0\.1, 0\)\)",
    ),
    "scale and zero point in dequantize": (
        lambda: zp.dequantize(U8, 2, 10, out=F32),  # type: ignore[arg-type]
        TypeError,
        r"zp\.dequantize\(q, zp\.QuantParams\(2, 10\)\)",
    ),
    "scale and zero point in requantize": (
        lambda: zp.requantize(U8.astype(np.int32), 0.5, 0.1, 3),  # type: ignore[arg-type]
        TypeError,
        r"zp\.requantize\(acc, acc_scale, zp\.QuantParams\(0\.1, 3\)\)",
    ),
    "out by position": (
        lambda: zp.quantize(F32, P, np.zeros_like(U8)),  # type: ignore[arg-type]
        TypeError,
        r"by keyword, and 1 came by position; .* zp\.quantize\(x, params, out=out\)",
    ),
    "rule that is no string": (
        lambda: zp.choose_params(F32, zero_point_from=3),  # type: ignore[arg-type]
        ValueError,
        "zero_point_from int 3 is unknown",
    ),
    "out by position in requantize": (
        lambda: zp.requantize(U8.astype(np.int32), 0.1, P, U8),  # type: ignore[arg-type]
        TypeError,
        r"zp\.requantize\(acc, acc_scale, params, out=out\)",
    ),
    "codes of another dtype": (
        lambda: zp.dequantize(U8.astype(np.int8), P),
        TypeError,
        "q has dtype int8 where uint8 is needed",
    ),
    "dequantize to int": (
        lambda: zp.dequantize(U8, P, dtype="int32"),
        TypeError,
        "dtype 'int32' is not",
    ),
    "dequantize to nonsense": (
        lambda: zp.dequantize(U8, P, dtype="x8"),
        TypeError,
        "dtype 'x8' is not",
    ),
    "acc not int32": (
        lambda: zp.requantize(F32, 0.1, P),
        TypeError,
        "acc has dtype float32 where int32 is needed",
    ),
    "zero_point above qmax, requantize": (
        lambda: zp.requantize(
            U8.astype(np.int32), 0.1, zp.QuantParams(0.5, 101, qmax=100, include_zero=False)
        ),
        ValueError,
        r"zero_point must lie in \[qmin, qmax\] = \[0, 100\] for requantize",
    ),
    "zero_point below qmin, requantize": (
        lambda: zp.requantize(
            U8.astype(np.int32),
            0.1,
            zp.QuantParams([0.5] * 3, [7, 8, 6], axis=1, qmin=7, include_zero=False),
        ),
        ValueError,
        r"zero_point must lie in \[qmin, qmax\] = \[7, 255\] for requantize",
    ),
    "acc_scale negative": (
        lambda: zp.requantize(U8.astype(np.int32), -1.0, P),
        ValueError,
        "acc_scale -1.0 must be finite and > 0",
    ),
    "ties": (
        lambda: zp.round(F32, ties="up"),
        ValueError,
        "ties 'up' is unknown; choose 'even' or 'away'",
    ),
    # scale
    "scale zero": (
        lambda: zp.QuantParams(0.0, 0),
        ValueError,
        "scale is 0.0: a scale must be finite and > 0",
    ),
    "scale negative": (lambda: zp.QuantParams(-1.0, 0), ValueError, "scale is -1.0"),
    "scale NaN": (lambda: zp.QuantParams(NAN, 0), ValueError, "scale is nan"),
    "scale Inf": (lambda: zp.QuantParams(INF, 0), ValueError, "scale is inf"),
    "scale of a channel": (
        lambda: zp.QuantParams([1.0, 0.0], 0, axis=0),
        ValueError,
        "scale of channel 1 is 0.0",
    ),
    "scale of a block": (
        lambda: zp.QuantParams([[1.0, -2.0]], 0, axis=0, block_size=2),
        ValueError,
        r"scale of block \(0, 1\) is -2.0",
    ),
    "rule an array": (
        lambda: zp.choose_params(F32, zero_point_from=F32),  # type: ignore[arg-type]
        ValueError,
        "zero_point_from .* is unknown; choose 'max' or 'min' or 'least_error'",
    ),
    "scale string": (lambda: zp.QuantParams("1", 0), TypeError, "scale must be a real number"),
    "scale bool": (
        lambda: zp.QuantParams(True, 0),
        TypeError,
        "scale must hold numbers, not bools",
    ),
    "scale lost in float32": (
        lambda: zp.QuantParams(1e-60, 0),
        ValueError,
        "scale, stored as float32, is 0.0",
    ),
    "float64 scale lost for float32 data": (
        lambda: zp.quantize(F32, zp.QuantParams(np.float64(1e-60), 0)),
        ValueError,
        "scale, cast to float32 as the data is, is 0.0",
    ),
    "1/s under torch": (
        lambda: zp.QuantParams(1e-39, 0, convention="torch"),
        ValueError,
        "1/scale must be finite under the torch convention",
    ),
    "1/s under torch, cast": (
        lambda: zp.quantize(F32, zp.QuantParams(np.float64(1e-39), 0, convention="torch")),
        ValueError,
        "1/scale must be finite under the torch convention",
    ),
    # zero point
    "zero_point float": (
        lambda: zp.QuantParams(1.0, 3.0),
        TypeError,
        "zero_point must be an integer",
    ),
    "zero_point NaN": (
        lambda: zp.QuantParams(1.0, NAN),
        TypeError,
        "zero_point must be an integer",
    ),
    "zero_point bool": (
        lambda: zp.QuantParams(1.0, True),
        TypeError,
        "zero_point must hold numbers, not bools",
    ),
    "zero_point NumPy bools": (
        lambda: zp.QuantParams([1.0, 1.0], [0, np.True_], axis=0),
        TypeError,
        "zero_point must hold numbers, not bools",
    ),
    "zero_point arrays of bools": (
        lambda: zp.QuantParams([[1.0]], [np.array([True])], axis=0, block_size=1),
        TypeError,
        "zero_point must hold numbers, not bools",
    ),
    "zero_point no floats": (
        lambda: zp.QuantParams([], np.empty(0), axis=0),
        TypeError,
        "zero_point must hold integers, not float64",
    ),
    "scale masked": (
        lambda: zp.QuantParams(np.ma.masked_array([1.0], [1]), 0, axis=0),
        TypeError,
        r"scale is a masked array; fill it first, for example scale\.filled\(1\)",
    ),
    "scale masked, in a list": (
        lambda: zp.QuantParams([[1.0], np.ma.masked_array([1.0], [1])], 0, axis=0, block_size=1),
        TypeError,
        r"scale\[1\] is a masked array",
    ),
    "axis bool": (lambda: zp.min_max(F32, channel_axis=True), TypeError, "axis must be an integer"),
    "zero_point bools": (
        lambda: zp.QuantParams([1.0, 1.0], [True, 0], axis=0),
        TypeError,
        "zero_point must hold numbers, not bools",
    ),
    "scale bools": (
        lambda: zp.QuantParams([True, 0.5], 0, axis=0),
        TypeError,
        "scale must hold numbers, not bools",
    ),
    "scale ragged": (
        lambda: zp.QuantParams([[1.0], [1.0, 2.0]], 0, axis=0, block_size=2),
        ValueError,
        "scale cannot be read as an array",
    ),
    "scale a huge integer": (lambda: zp.QuantParams(10**400, 0), ValueError, "scale is beyond"),
    "acc_scale masked": (
        lambda: zp.requantize(U8.astype(np.int32), np.ma.masked_array([1.0], [1]), P),
        TypeError,
        "acc_scale is a masked array",
    ),
    "zero_point floats": (
        lambda: zp.QuantParams([1.0], [3.0], axis=0),
        TypeError,
        "zero_point must hold integers, not float64",
    ),
    "zero_point outside": (
        lambda: zp.QuantParams(1.0, 256),
        ValueError,
        r"zero_point 256 is outside \[0, 255\]",
    ),
    "zero_point outside the sub-range": (
        lambda: zp.QuantParams(1.0, -128, "int8", qmin=-127),
        ValueError,
        r"zero_point -128 is outside \[-127, 127\]",
    ),
    "zero_point beyond int32": (
        lambda: zp.QuantParams(1.0, 2**31, include_zero=False),
        ValueError,
        "zero_point 2147483648 is outside",
    ),
    "zero_point far beyond": (lambda: zp.QuantParams(1.0, 2**80), ValueError, "is outside"),
    "data too far from zero": (
        lambda: zp.choose_params(np.array([1e9, 1e9 + 1]), include_zero=False),
        ValueError,
        "zero point would be .*, beyond int32",
    ),
    # range, dtype, names
    "qmin >= qmax": (
        lambda: zp.QuantParams(1.0, 5, qmin=5, qmax=5),
        ValueError,
        "qmin 5 must be less than qmax 5",
    ),
    "qmin outside": (
        lambda: zp.QuantParams(1.0, 0, qmin=-1),
        ValueError,
        "qmin -1 is outside uint8",
    ),
    "qmax outside": (
        lambda: zp.QuantParams(1.0, 0, "int8", qmax=128),
        ValueError,
        "qmax 128 is outside int8",
    ),
    "qmax float": (lambda: zp.QuantParams(1.0, 0, qmax=5.0), TypeError, "qmax must be an integer"),  # type: ignore[arg-type]
    "dtype": (
        lambda: zp.QuantParams(1.0, 0, "int16"),
        TypeError,
        "dtype 'int16' is not a type of codes",
    ),
    "convention": (
        lambda: zp.QuantParams(1.0, 0, convention="tf"),
        ValueError,
        "convention 'tf' is unknown; choose one of numpy",
    ),
    "rule": (
        lambda: zp.choose_params(F32, zero_point_from="mid"),
        ValueError,
        "zero_point_from 'mid' is unknown",
    ),
    "symmetric with a rule": (
        lambda: zp.choose_params(F32, symmetric=True, zero_point_from="max"),
        ValueError,
        "symmetric=True fixes the zero point",
    ),
    "symmetric without zero": (
        lambda: zp.choose_params(F32, symmetric=True, include_zero=False),
        ValueError,
        "symmetric=True always holds 0",
    ),
    "symmetric with two codes": (
        lambda: zp.choose_params(F32, symmetric=True, qmax=1),
        ValueError,
        "symmetric=True needs at least three codes",
    ),
    "include_zero=False for an engine": (
        lambda: zp.choose_params(F32, include_zero=False, convention="onnx"),
        ValueError,
        "include_zero=False is for the numpy convention alone",
    ),
    "constant data": (
        lambda: zp.choose_params(np.full(3, 2.5), include_zero=False),
        ValueError,
        r"x is constant \(2.5\)",
    ),
    "range beyond float32": (
        lambda: zp.choose_params(np.array([-3.4e38, 3.4e38], np.float32), qmax=1),
        ValueError,
        "the range of x is too wide",
    ),
    "saturate reversed": (
        lambda: zp.saturate(F32, 6, 5),
        ValueError,
        "qmin 6 must not be greater than qmax 5",
    ),
    "saturate beyond the dtype": (
        lambda: zp.saturate(F32, 0, 2**24 + 1),
        ValueError,
        "qmax 16777217 is not a float32",
    ),
    "saturate_cast to int16": (
        lambda: zp.saturate_cast(F32, "int16"),
        TypeError,
        "dtype 'int16' is not",
    ),
    # axis and shape
    "axis out of bounds": (
        lambda: zp.min_max(F32, channel_axis=2),
        np.exceptions.AxisError,
        "axis 2 is out of bounds",
    ),
    "axis of the parameters": (
        lambda: zp.quantize(F32, zp.QuantParams([1.0], 0, axis=5)),
        np.exceptions.AxisError,
        "axis 5 is out of bounds",
    ),
    "axis float": (lambda: zp.choose_params(F32, axis=1.0), TypeError, "axis must be an integer"),  # type: ignore[arg-type]
    "length": (
        lambda: zp.quantize(F32.T, CHANNELS),
        ValueError,
        r"scale has shape \(3,\); data of shape \(3, 2\) with axis 1 .* needs shape \(2,\)",
    ),
    "length for dequantize": (
        lambda: zp.dequantize(U8.T.copy(), CHANNELS),
        ValueError,
        r"needs shape \(2,\)",
    ),
    "block shape": (
        lambda: zp.quantize(F32, zp.QuantParams([[1.0]], 0, axis=1, block_size=2)),
        ValueError,
        r"needs shape \(2, 2\)",
    ),
    "block_size zero": (
        lambda: zp.choose_params(F32, axis=0, block_size=0),
        ValueError,
        "block_size 0 must be at least 1",
    ),
    "block_size an array": (
        lambda: zp.choose_params(F32, axis=0, block_size=np.array([2, 3])),  # type: ignore[arg-type]
        TypeError,
        r"block_size must be an integer, not an array of int64 with shape \(2,\); pass one as an",
    ),
    "block_size an array, QuantParams": (
        lambda: zp.QuantParams([[1.0]], 0, axis=0, block_size=np.ones(1, int)),  # type: ignore[arg-type]
        TypeError,
        r"block_size must be an integer, not an array of int64 with shape \(1,\)",
    ),
    "block_size without axis": (
        lambda: zp.choose_params(F32, block_size=2),
        ValueError,
        "block_size 2 needs an axis",
    ),
    "block shape of the same count": (
        lambda: zp.quantize(
            np.ones((3, 4), np.float32),
            zp.QuantParams(np.ones((2, 3), np.float32), 0, axis=1, block_size=2),
        ),
        ValueError,
        r"scale has shape \(2, 3\); data of shape \(3, 4\) .* needs shape \(3, 2\)",
    ),
    "block_size beyond int64": (
        lambda: zp.choose_params(np.ones(4), axis=0, block_size=2**64 - 1),
        ValueError,
        "block_size 18446744073709551615 must be at least 1, and at most",
    ),
    "axis beyond any array": (
        lambda: zp.QuantParams([1.0], 0, axis=2**63),
        ValueError,
        "axis 9223372036854775808 is beyond",
    ),
    "axis beyond, choose_params": (
        lambda: zp.choose_params(F32, axis=10**6),
        np.exceptions.AxisError,
        "axis 1000000 is out of bounds",
    ),
    "scales without axis": (
        lambda: zp.QuantParams([1.0], 0),
        ValueError,
        "scale has shape .* but axis is None",
    ),
    "one scale with axis": (lambda: zp.QuantParams(1.0, 0, axis=0), ValueError, "it must be 1-D"),
    "zero points of another length": (
        lambda: zp.QuantParams([1.0, 1.0], [0], axis=0),
        ValueError,
        r"zero_point has shape \(1,\) and scale has shape \(2,\)",
    ),
    # real offsets, a code for NaN, data without NaN
    "scale of an offset": (
        lambda: zp.OffsetParams([1.0, -1.0], [0.0, 0.0], axis=0),
        ValueError,
        "scale of channel 1 is -1.0 as float32: a scale must be finite and > 0",
    ),
    "offset not finite": (
        lambda: zp.OffsetParams([1.0, 1.0], [0.0, NAN], axis=0),
        ValueError,
        "offset of channel 1 is nan as float32: an offset must be finite",
    ),
    "offset beyond float32": (
        lambda: zp.OffsetParams(1.0, 1e39),
        ValueError,
        "offset is inf as float32: an offset must be finite",
    ),
    "offset a string": (
        lambda: zp.OffsetParams(1.0, "1"),
        TypeError,
        "offset must be a real number or an array of them, not '1'",
    ),
    "offset a bool": (
        lambda: zp.OffsetParams(1.0, True),
        TypeError,
        "offset must hold numbers, not bools",
    ),
    "offsets of another length": (
        lambda: zp.OffsetParams([1.0, 1.0], [0.0], axis=0),
        ValueError,
        r"offset has shape \(1,\) and scale has shape \(2,\)",
    ),
    "span negative": (
        lambda: zp.OffsetParams(None, 1.0, span=-1.0, convention="faiss"),
        ValueError,
        "span is -1.0 as float32: a span must be finite and >= 0",
    ),
    "span of cf": (
        lambda: zp.OffsetParams(None, 1.0, span=1.0),
        ValueError,
        "the cf convention keeps the scale, and not the span; pass span=None and scale=",
    ),
    "scale of faiss": (
        lambda: zp.OffsetParams(1.0, 1.0, convention="faiss"),
        ValueError,
        "the faiss convention keeps the span, and not the scale; pass scale=None and span=",
    ),
    "spans that do not fit": (
        lambda: zp.quantize(
            F32, zp.OffsetParams(None, [0.0] * 2, span=[1.0] * 2, axis=1, convention="faiss")
        ),
        ValueError,
        r"span has shape \(2,\); data of shape \(2, 3\) .* needs shape \(3,\)",
    ),
    "convention without an offset": (
        lambda: zp.OffsetParams(1.0, 1.0, convention="numpy"),
        ValueError,
        "the numpy convention has a zero point and no real offset; use zeropoint.QuantParams",
    ),
    "convention with an offset": (
        lambda: zp.QuantParams(1.0, 0, convention="cf"),
        ValueError,
        "the cf convention has a real offset and no zero point; use zeropoint.OffsetParams",
    ),
    "fused of cf": (
        lambda: zp.OffsetParams(1.0, 0.0, fused=True),
        ValueError,
        "fused=True is for the faiss convention in float32 alone",
    ),
    "fused of float64": (
        lambda: zp.OffsetParams(None, 0.0, span=np.float64(1), convention="faiss", fused=True),
        ValueError,
        "fused=True is for the faiss convention in float32 alone",
    ),
    "fused not a bool": (
        lambda: zp.OffsetParams(None, 0.0, span=1.0, convention="faiss", fused=1),  # type: ignore[arg-type]
        TypeError,
        "fused must be True or False",
    ),
    "nan_code inside": (
        lambda: zp.QuantParams(1.0, 9, nan_code=7),
        ValueError,
        r"nan_code 7 lies inside \[qmin, qmax\] = \[0, 255\].*choose an end, 0 or 255",
    ),
    "nan_code inside, offset": (
        lambda: zp.OffsetParams(1.0, 0.0, "int8", qmin=-5, qmax=5, nan_code=-4),
        ValueError,
        r"nan_code -4 lies inside \[qmin, qmax\] = \[-5, 5\]",
    ),
    "nan_code of another dtype": (
        lambda: zp.choose_params(F32, "int8", nan_code=200),
        ValueError,
        r"nan_code 200 is outside int8; it must lie in \[-128, 127\]",
    ),
    "nan_code a float": (
        lambda: zp.OffsetParams(1.0, 0.0, nan_code=1.0),  # type: ignore[arg-type]
        TypeError,
        "nan_code must be an integer, not float 1.0",
    ),
    "nan_code a bool": (
        lambda: zp.QuantParams(1.0, 3, nan_code=True),
        TypeError,
        "nan_code must be an integer, not bool True",
    ),
    "nan_code that leaves one code": (
        lambda: zp.OffsetParams(1.0, 0.0, qmin=3, qmax=4, nan_code=3),
        ValueError,
        "nan_code 3 leaves one code, 4, of the two from qmin to qmax",
    ),
    "nan_code at the zero point": (
        lambda: zp.QuantParams(1.0, 0, nan_code=0),
        ValueError,
        r"zero_point 0 is outside \[1, 255\]",
    ),
    "zero_point_from, offset": (
        lambda: zp.choose_params(F32, convention="cf", zero_point_from="min"),
        ValueError,
        "zero_point_from='min' chooses a zero point, which the cf convention has not",
    ),
    "symmetric, offset": (
        lambda: zp.choose_params(F32, convention="faiss", symmetric=True),
        ValueError,
        "symmetric=True chooses a zero point, which the faiss convention has not",
    ),
    "include_zero, offset": (
        lambda: zp.quantize_dynamic(F32, convention="xarray", include_zero=False),
        ValueError,
        "include_zero=False chooses a zero point, which the cf convention has not: it takes",
    ),
    "a range that overflows, offset": (
        lambda: zp.choose_params(np.array([-3e38, 3e38], np.float32), convention="cf"),
        ValueError,
        "the range of x is too wide: max - min is beyond float32; scale x down, or convert",
    ),
    "a range that overflows float64, offset": (
        lambda: zp.choose_params(np.array([-1.7e308, 1.7e308]), convention="cf"),
        ValueError,
        "the range of x is too wide: max - min is beyond float64; scale x down$",
    ),
    "NaN without skip_nan": (
        lambda: zp.choose_params(np.array([1, NAN]), convention="faiss", nan_code=0),
        ValueError,
        r"x has 1 NaN or Inf of 2 elements, .* pass skip_nan=True to leave out NaN, or drop them",
    ),
    "Inf with skip_nan": (
        lambda: zp.choose_params(np.array([NAN, INF]), skip_nan=True),
        ValueError,
        r"x has 1 Inf of 2 elements, the first \(inf\) at index \(1,\)",
    ),
    "nothing but NaN": (
        lambda: zp.quantize_dynamic(np.array([NAN, NAN]), skip_nan=True),
        ValueError,
        "x has nothing but NaN, so it has no data",
    ),
    "nothing but NaN in a channel": (
        lambda: zp.min_max(np.array([[1, NAN], [1, NAN]]), channel_axis=1, skip_nan=True),
        ValueError,
        "x has nothing but NaN in channel 1, so it has no data; pass at least one number",
    ),
    "nothing but NaN in a block": (
        lambda: zp.choose_params(
            np.array([[1, 1, NAN], [1, 1, NAN]]), axis=1, block_size=2, skip_nan=True
        ),
        ValueError,
        r"x has nothing but NaN in block \(0, 1\), so it has no data",
    ),
    "skip_nan not a bool": (
        lambda: zp.choose_params(F32, skip_nan=1),  # type: ignore[arg-type]
        TypeError,
        "skip_nan must be True or False, not int 1",
    ),
    "requantize to an offset": (
        lambda: zp.requantize(np.ones(3, np.int32), 1.0, zp.OffsetParams(1.0, 0.0)),  # type: ignore[arg-type]
        TypeError,
        "params is an OffsetParams, and no engine requantizes to a real offset; pass a QuantParams",
    ),
    "codes of another dtype, offset": (
        lambda: zp.OffsetParams(1.0, 0.0).dequantize(np.zeros(2, np.int8)),
        TypeError,
        "q has dtype int8 where uint8 is needed",
    ),
    "replace of another kind": (
        lambda: zp.OffsetParams(1.0, 0.0).replace(zero_point=3),
        TypeError,
        "OffsetParams has no 'zero_point'; it has scale, offset, span",
    ),
    "the dictionary of another kind": (
        lambda: zp.OffsetParams.from_dict(zp.QuantParams(1.0, 0).to_dict()),
        ValueError,
        "not the dictionary of an OffsetParams: unknown keys .*'zero_point'.*missing keys .*offset",
    ),
    # out
    "out not an array": (lambda: P.quantize(F32, out=[0]), TypeError, "out must be a NumPy array"),  # type: ignore[arg-type]
    "out masked": (
        lambda: P.quantize(F32, out=np.ma.masked_array(np.zeros_like(U8), True)),
        TypeError,
        "out is a masked array; pass out.data",
    ),
    "keyword of quantize_dynamic": (
        lambda: zp.quantize_dynamic(F32, colour="red"),
        TypeError,
        "quantize_dynamic has no keyword 'colour'; it has out, zero_point_from",
    ),
    "out dtype": (
        lambda: P.quantize(F32, out=U8.astype(np.int8)),
        TypeError,
        "out has dtype int8 where native uint8 is needed",
    ),
    "out byte order": (
        lambda: P.fake_quantize(F32, out=F32.astype(">f4")),
        TypeError,
        "out has dtype >f4 where native float32",
    ),
    "out of dequantize": (lambda: P.dequantize(U8, out=U8), TypeError, "out's dtype"),
    "out against dtype": (
        lambda: P.dequantize(U8, dtype="float64", out=np.zeros((2, 3), np.float32)),
        TypeError,
        "out has dtype float32 where native float64",
    ),
    "out shape": (
        lambda: P.quantize(F32, out=np.zeros(6, np.uint8)),
        ValueError,
        r"out has shape \(6,\) where \(2, 3\) is needed",
    ),
    "out read-only": (lambda: P.quantize(F32, out=read_only(U8)), ValueError, "out is read-only"),
}


@pytest.mark.parametrize("row", ROWS)
def test_table(backend: str, row: str) -> None:
    call, error, message = ROWS[row]
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


OUT: dict[str, Callable[[Any], Any]] = {
    "quantize": lambda out: zp.quantize(F32, P, out=out),
    "quantize_dynamic": lambda out: zp.quantize_dynamic(F32, out=out),
    "dequantize": lambda out: zp.dequantize(U8, P, out=out),
    "fake_quantize": lambda out: zp.fake_quantize(F32, P, out=out),
    "requantize": lambda out: zp.requantize(U8.astype(np.int32), 0.1, P, out=out),
    "rescale": lambda out: zp.rescale(U8, P, P, out=out),
    "saturate": lambda out: zp.saturate(F32, 0, 5, out=out),
    "saturate of integers": lambda out: zp.saturate(U8.astype(np.int32), 0, 5, out=out),
    "saturate_cast": lambda out: zp.saturate_cast(F32, "uint8", out=out),
    "round": lambda out: zp.round(F32, out=out),
}


def test_every_function_with_out_is_among_them() -> None:
    with_out = {
        name
        for name in zp.__all__
        if callable(getattr(zp, name))
        and not isinstance(getattr(zp, name), type)
        and "out" in inspect.signature(getattr(zp, name)).parameters
    }
    assert with_out == {name.split()[0] for name in OUT}


def advised(error: Exception, x: Any) -> Any:
    """What the code in a message makes of `x`."""
    code = str(error).partition("for example ")[2]
    return eval(code, {"x": x, "numpy": np})


@pytest.mark.parametrize(
    "x",
    [
        np.arange(3),
        [1, 2],
        np.array([decimal.Decimal(1)]),
        np.array(["1.5"]),
        np.ones(3, complex),
        np.zeros(2, "f4,f4"),
        np.ma.masked_array([1.0, 2.0], [0, 1]),
        np.array([[1.0, 2.0], None], object)[:1],
        np.array(["2026-01-01", "2026-01-02"], "M8[D]"),
        Sparse(),
        bytearray(b"abc"),
    ],
    ids=str,
)
def test_the_advice_works(backend: str, x: Any) -> None:
    with pytest.raises(TypeError, match="for example ") as caught:
        zp.quantize(x, P)
    fixed = advised(caught.value, x)
    assert zp.quantize(fixed, P).shape == np.shape(fixed)


def test_none_among_numbers_does_not_become_nan() -> None:
    for x in ([1.0, None], np.array([1.0, None])):
        with pytest.raises(
            TypeError, match="None or NA stand for 1 of its 2 .*fill or drop"
        ) as error:
            zp.quantize(x, P)
        assert "astype" not in str(error.value)
    with pytest.raises(TypeError, match="its rows have 1 to 2 elements: pad them"):
        zp.quantize(np.array([[1.0], [1.0, 2.0]], object), P)


NONFINITE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "choose_params": (zp.choose_params, [1, NAN, INF, -2]),
    "min_max": (zp.min_max, [1, -INF]),
    "quantize_dynamic": (zp.quantize_dynamic, [1, NAN]),
    "compare": (zp.compare, [1, NAN, 3]),
    "error_stats": (lambda x: zp.error_stats(x, P), [1, NAN]),
    "MinMaxObserver": (lambda x: MinMaxObserver().update(x), [1, NAN]),
    "HistogramObserver": (lambda x: HistogramObserver().update(x), [1, INF]),
    "an axis": (lambda x: zp.choose_params(x, axis=0), [[1, NAN], [2, 3]]),
    "an axis of an observer": (
        lambda x: HistogramObserver(axis=0).update(x),
        [[1, NAN], [2, 3]],
    ),
    "check_finite": (lambda x: zp.quantize(x, P, check_finite=True), [1, INF, 2]),
}


@pytest.mark.parametrize("name", NONFINITE)
def test_the_advice_for_nan_and_inf_keeps_the_range(name: str) -> None:
    """Not numpy.nan_to_num, with which all other values get one code."""
    call, data = NONFINITE[name]
    x = np.array(data, np.float32)
    with pytest.raises(ValueError, match="NaN or Inf .*for example ") as caught:
        call(x)
    fixed = advised(caught.value, x)
    call(fixed)
    kept = x[np.isfinite(x)]
    assert zp.choose_params(fixed) == zp.choose_params(kept)
    if "axis" in name or name == "check_finite":
        assert fixed.shape == x.shape


def test_nobody_advises_nan_to_num() -> None:
    for path in Path(zp.__file__).parent.rglob("*.py"):
        assert "nan_to_num(" not in path.read_text(), path


@pytest.mark.parametrize(
    "call",
    [
        lambda x: zp.quantize(x, P),
        lambda x: zp.fake_quantize(x, P),
        zp.choose_params,
        zp.quantize_dynamic,
        zp.min_max,
        zp.round,
        zp.compare,
        lambda x: zp.error_stats(x, P),
    ],
)
def test_only_floats_are_quantized(backend: str, call: Callable[[Any], Any]) -> None:
    for x in NOT_REAL.values():
        with pytest.raises(TypeError, match=r"^x[\[ ]"):
            call(x)


@pytest.mark.parametrize(
    "call",
    [
        lambda out: zp.quantize(np.array([1, NAN], np.float32), P, out=out, check_finite=True),
        lambda out: zp.quantize_dynamic(np.array([1, NAN], np.float32), out=out),
        lambda out: zp.quantize(np.ones(2, np.float32), zp.QuantParams([1.0], 0, axis=0), out=out),
        lambda out: zp.quantize(
            np.ones(2, np.float32), zp.QuantParams(np.float64(1e-60), 0), out=out
        ),
    ],
)
def test_nothing_is_written_before_an_error(backend: str, call: Callable[[Any], Any]) -> None:
    out = np.full(2, 77, np.uint8)
    with pytest.raises(ValueError, match="x has|scale"):
        call(out)
    assert out.tolist() == [77, 77]


@pytest.mark.parametrize("call", OUT.values(), ids=OUT)
@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((2, 3), (0, 1)),  # as torch's expand
        ((2, 3), (1, 1)),
        ((2, 3), (2, 1)),
        ((2, 3), (-2, 1)),
        ((2, 3), (3, 0)),
    ],
)
def test_out_whose_elements_share_memory(
    backend: str, call: Callable[[Any], Any], shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    for dtype in (np.uint8, np.int32, np.float32):
        memory = np.full(24, 77, dtype)
        steps = tuple(stride * memory.itemsize for stride in strides)
        out = np.lib.stride_tricks.as_strided(memory[8:], shape, steps)
        with contextlib.suppress(TypeError):  # of another dtype
            with pytest.raises(ValueError, match="its elements share memory; pass one that has"):
                call(out)
            assert (memory == 77).all()
            break
    else:
        pytest.fail("out had none of the dtypes")


def test_fake_quantize_in_place_of_what_shares_memory(backend: str) -> None:
    x = np.lib.stride_tricks.as_strided(np.full(1, 3.3, np.float32), (4,), (0,))
    with pytest.raises(ValueError, match=r"strides \(0,\) for shape \(4,\)"):
        zp.fake_quantize(x, P, out=x)
    assert x.tolist() == [np.float32(3.3)] * 4


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 2), (2, 3)),  # of elements at 0, 2, 3, 4, 5 and 7
        ((2, 3), (1, 2)),
        ((2, 3), (-1, 2)),
        ((1, 3), (0, 1)),
        ((3, 1), (1, 0)),
        ((2, 0), (0, 0)),
    ],
)
def test_out_whose_elements_have_memory_of_their_own(
    backend: str, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    memory = np.full(16, 77, np.uint8)
    out = np.lib.stride_tricks.as_strided(memory[8:], shape, strides)
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    assert zp.quantize(x, P, out=out) is out
    assert out.tolist() == zp.quantize(x, P).tolist()
    assert np.count_nonzero(memory == 77) == 16 - x.size


def test_overlap_of_elements_is_decided_exactly() -> None:
    rng = np.random.default_rng(0)
    memory = np.zeros(1 << 12, np.uint8)
    found = {True: 0, False: 0}
    for _ in range(3000):
        ndim = rng.integers(1, 5)
        shape = tuple(rng.integers(1, 5, ndim))
        dtype = rng.choice(["u1", "u2", "f4"])
        strides = tuple(rng.integers(-24, 25, ndim))
        x = np.lib.stride_tricks.as_strided(memory[2048:2056].view(dtype)[:1], shape, strides)
        starts = sum(
            np.ix_(*(np.arange(n) * stride for n, stride in zip(shape, strides, strict=True)))
        )
        touched = np.add.outer(np.ravel(starts), np.arange(x.itemsize)).ravel()
        expected = np.unique(touched).size < touched.size
        assert _checks.elements_overlap(x) is expected, (shape, strides, dtype)
        found[expected] += 1
    assert min(found.values()) > 300


def test_overlap_that_takes_long_to_decide() -> None:
    memory = np.zeros(1 << 23, np.uint8)
    shape, strides = (600, 600), (13, 7001)  # the next multiple of both is too far to meet
    out = np.lib.stride_tricks.as_strided(memory, shape, strides)
    assert _checks.elements_overlap(out) is None
    with pytest.raises(ValueError, match="its elements may share memory"):
        zp.quantize(np.zeros(shape, np.float32), P, out=out)
    # of any size where its axes tell
    shape, strides = (1 << 12, 1 << 10), ((1 << 11) - 1, 2)
    out = np.lib.stride_tricks.as_strided(memory, shape, strides)
    assert _checks.elements_overlap(out) is False
    assert _checks.elements_overlap(np.broadcast_to(np.zeros(1), (1 << 40,))) is True


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (1, 1, 1)])
def test_empty_and_scalar(backend: str, shape: tuple[int, ...]) -> None:
    x = np.full(shape, 2.0, np.float32)
    q = P.quantize(x)
    assert isinstance(q, np.ndarray)
    assert (q.shape, q.dtype) == (shape, np.uint8)
    assert (q == 14).all()
    for y in (P.dequantize(q), P.fake_quantize(x), zp.round(x), zp.saturate(x, 0, 5)):
        assert isinstance(y, np.ndarray)
        assert (y.shape, y.dtype) == (shape, np.float32)
        assert (y == 2).all()
    if x.size:
        assert zp.min_max(x) == (2, 2)


def test_subnormal_scales_are_exact(backend: str) -> None:
    for convention in ("numpy", "onnx", "tflite"):
        params = zp.QuantParams(1e-45, 10, convention=convention)  # the smallest float
        x = np.array([1e-45, -3e-45, 2.8e-45, 1.0], np.float32)
        assert params.quantize(x).tolist() == [11, 8, 12, 255]
        assert params.dequantize(np.array([11, 8, 12], np.uint8)).tolist() == x[:3].tolist()


def test_unknown_backend() -> None:
    for name in ("avx1024", "", None):
        with (
            pytest.raises(
                ValueError, match="is not a backend of this machine; choose one of .*reference"
            ),
            zp.use_backend(name),
        ):  # type: ignore[arg-type]
            pass


def test_an_object_that_has_every_attribute() -> None:
    """It has no end of columns, dtypes and graphs."""

    class Everything:
        def __getattr__(self, name: str) -> Any:
            return self

        def __call__(self, *_: Any) -> Any:
            return self

    with pytest.raises(TypeError):
        zp.quantize(Everything(), P)


def test_a_device_that_is_none() -> None:
    class Nowhere:
        def __dlpack_device__(self) -> None:
            return None

    with pytest.raises(TypeError, match="__dlpack_device__.. gives None, not a pair of integers"):
        zp.quantize(Nowhere(), P)


def test_none_gets_no_advice_that_makes_nan_of_it() -> None:
    with pytest.raises(TypeError) as caught:
        zp.quantize(None, P)
    assert "numpy.asarray" not in str(caught.value)
