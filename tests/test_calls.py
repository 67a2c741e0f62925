"""What the core's builtins answer at once is what Python answers, and errors are Python's own."""

from __future__ import annotations

import inspect
import itertools
import pickle
import pydoc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _checks

from .test_backend import in_pure_python

X = np.random.default_rng(5).normal(size=(6, 40)).astype(np.float32)
P = zp.QuantParams(0.05, 3)
ROWS = zp.QuantParams([0.05, 0.1, 0.2, 0.4, 0.8, 1.6], [3, 4, 5, 6, 7, 8], axis=0)
Q = P.quantize(X)
ACC = Q.astype(np.int32) * 77 - 5000
REALS = np.float16, ml_dtypes.bfloat16, np.float32, np.float64
INTEGERS = np.int8, np.int16, np.int32, np.int64, np.uint8
RULES = None, "max", "min", "least_error"


def scales_of_accumulators() -> list[Any]:
    each = [1e-3 * (i + 1) for i in range(6)]
    one = [1e-3, 1, np.float32(1e-3), np.float64(1e-3)]
    return [(P, s) for s in one] + [
        (ROWS, s) for s in (*one, np.array(each), np.array(each, np.float32))
    ]


def with_out(call: Callable[..., Any], dtype: Any) -> Callable[[], Any]:
    return lambda: call(out=np.empty(X.shape, dtype))


CALLS: dict[str, Callable[[], Any]] = {
    **{
        f"dequantize {dtype}": lambda dtype=dtype: zp.dequantize(Q, P, dtype=dtype)
        for dtype in (*REALS, "float16", "float64", np.dtype("float32"), ml_dtypes.bfloat16, None)
    },
    "dequantize to out": with_out(lambda out: zp.dequantize(Q, P, dtype="f2", out=out), "f2"),
    "quantize checked": lambda: zp.quantize(X, P, check_finite=True),
    "quantize nothing checked": lambda: zp.quantize(X[:0], P, check_finite=True),
    **{
        f"requantize {i}": lambda p=p, s=s: zp.requantize(ACC, s, p)
        for i, (p, s) in enumerate(scales_of_accumulators())
    },
    "requantize to out": with_out(lambda out: zp.requantize(ACC, 1e-3, P, out=out), "u1"),
    **{
        f"saturate {dtype.__name__}": lambda dtype=dtype: zp.saturate((X * 9).astype(dtype), 0, 5)
        for dtype in (*REALS, *INTEGERS)
    },
    "saturate to out": with_out(lambda out: zp.saturate(X, -1, qmax=1, out=out), "f4"),
    **{
        f"saturate_cast {dtype} {code}": lambda dtype=dtype, code=code: zp.saturate_cast(
            (X * 99).astype(dtype), code
        )
        for dtype in (*REALS, *INTEGERS, np.uint32)
        for code in ("uint8", "int8", np.int8, np.dtype("u1"))
    },
    "saturate_cast to out": with_out(lambda out: zp.saturate_cast(X, "int8", out=out), "i1"),
    **{
        f"round {dtype} {ties}": lambda dtype=dtype, ties=ties: zp.round(
            (X * 4).astype(dtype), ties=ties
        )
        for dtype in REALS
        for ties in ("even", "away")
    },
    "round to out": with_out(lambda out: zp.round(X, out=out), "f4"),
    "round in place": lambda: (lambda x: zp.round(x, out=x))(X.copy()),
    **{
        f"min_max {dtype} {axis}": lambda dtype=dtype, axis=axis: zp.min_max(
            X.astype(dtype), channel_axis=axis
        )
        for dtype in REALS
        for axis in (None, 0, -1)
    },
    **{
        f"{f.__name__} {dtype} {code} {axis}": lambda f=f, dtype=dtype, code=code, axis=axis: f(
            X.astype(dtype), code, **axis
        )
        for f in (zp.choose_params, zp.quantize_dynamic)
        for dtype in REALS
        for code in ("uint8", "int8", np.int8)
        for axis in ({}, {"axis": 0}, {"axis": -1}, {"axis": -1, "block_size": 16})
    },
    **{
        f"choose_params {convention} {rule}": lambda convention=convention, rule=rule: (
            zp.choose_params(X, zero_point_from=rule, convention=convention, qmin=1, qmax=99)
        )
        for convention in ("numpy", "onnx", "torch", "litert")
        for rule in RULES
    },
    "choose_params in whole": lambda: zp.choose_params(X + 9, include_zero=False),
    "choose_params symmetric": lambda: zp.choose_params(X, dtype="int8", symmetric=True),
    "quantize_dynamic to out": with_out(lambda out: zp.quantize_dynamic(X, out=out), "u1"),
}


def told(value: Any) -> Any:
    """The bits and the types of a result."""
    if isinstance(value, tuple):
        return [told(each) for each in value]
    if isinstance(value, zp.QuantParams):
        slots = [getattr(value, name) for name in zp.QuantParams.__slots__[:-1]]
        return [told(each) for each in slots]
    if isinstance(value, (np.ndarray, np.generic)):
        writes = value.flags.writeable if isinstance(value, np.ndarray) else None
        return type(value), value.dtype, value.shape, value.tobytes(), writes
    return type(value), value


@pytest.mark.parametrize("name", CALLS)
def test_plain_calls_are_answered_at_once(
    native: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zp.use_backend("reference"):
        expected = told(CALLS[name]())

    def general(*_: Any, **__: Any) -> Never:
        raise AssertionError("not at once")

    for function in ("elementwise", "min_max", "choose", "quotients"):
        monkeypatch.setattr(zp._backend, function, general)
    monkeypatch.setattr(_checks, "scales", general)
    assert told(CALLS[name]()) == expected


SCALES: list[tuple[Any, dict[str, Any]]] = [
    *((scale, {}) for scale in (0.1, 1, 3, np.float32(0.1), np.float64(0.1), 1e-40, 2**53)),
    ([0.1, 0.2], {"axis": 0}),
    ((0.1, 0.2), {"axis": -2}),
    (np.array([0.1, 0.2]), {"axis": 1}),
    (np.array([0.1, 0.2], np.float32), {"axis": 3}),
    (np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), {"axis": -1, "block_size": 3}),
    (np.array([[0.1, 0.2], [0.3, 0.4]]), {"axis": 0, "block_size": 1}),
    ([], {"axis": 0}),
    (np.zeros((0, 2), np.float32), {"axis": 0, "block_size": 4}),
]
RECIPES: list[dict[str, Any]] = [
    {},
    {"dtype": "int8"},
    {"dtype": np.int8, "qmin": -100},
    {"dtype": np.dtype("u1"), "qmax": 10, "qmin": 1},
    {"convention": "onnx"},
    {"include_zero": False},
    {"convention": "numpy", "include_zero": True},
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("scale", "more"), SCALES)
def test_plain_parameters_are_made_at_once(
    scale: Any, more: dict[str, Any], recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = np.shape(scale)
    zeros: list[Any] = [3, -5000] if recipe.get("include_zero") is False else [3]
    if shape:
        zeros += [np.full(shape, 3, dtype) for dtype in ("i4", "i8", "u1", "i1")]
    if len(shape) == 1:
        zeros += [[3] * shape[0], (4,) * shape[0]]
    with zp.use_backend("reference"):
        expected = [zp.QuantParams(scale, zero, **more, **recipe) for zero in zeros]

    def general(*_: Any) -> Never:
        raise AssertionError("not at once")

    if len(zp.backends()) > 1:
        monkeypatch.setattr(_checks, "scales", general)
    for zero, want in zip(zeros, expected, strict=True):
        found = zp.QuantParams(scale, zero, **more, **recipe)
        assert told(found) == told(want)
        if shape == (2,):
            x = np.ones((2, 2, 2, 2), np.float32)
            with zp.use_backend("reference"):
                codes = want.quantize(x)
            assert found.quantize(x).tolist() == codes.tolist()


BAD = [
    *((scale, 3, {}) for scale in (0.0, -1.0, np.nan, np.inf, 1e-60, 1e60, 0, 10**400, True, "1")),
    *((0.1, zero, {}) for zero in (3.0, True, -1, 256, 2**70, None, np.array([3]), [3])),
    *((0.1, 3, {"dtype": dtype}) for dtype in ("uint16", "?", None, [], ">u2")),
    *((0.1, 3, {"qmin": qmin}) for qmin in (-1, 255, 256, 1.0, True)),
    *((0.1, 3, {"qmax": qmax}) for qmax in (0, 2, 256, 2**70)),
    *((0.1, 3, {"convention": name}) for name in ("spam", None, b"onnx")),
    *((0.1, 3, {"include_zero": flag}) for flag in (0, None)),
    (0.1, 3, {"include_zero": False, "convention": "onnx"}),
    (0.1, 2**31, {"include_zero": False}),
    (0.1, -(2**31) - 1, {"include_zero": False}),
    (1e-39, 3, {"convention": "torch"}),
    (0.1, 3, {"axis": 0}),
    (0.1, 3, {"block_size": 2}),
    ([0.1], 3, {}),
    ([0.1, 0.0], 3, {"axis": 0}),
    ([0.1, True], 3, {"axis": 0}),
    ([0.1, 0.2], [3, 256], {"axis": 0}),
    ([0.1, 0.2], [3, 4.0], {"axis": 0}),
    ([0.1, 0.2], [3], {"axis": 0}),
    ([], 256, {"axis": 0}),
    (np.ones((2, 2)), 3, {"axis": 0}),
    (np.ones((2, 2)), np.full((2, 2), 256), {"axis": 0, "block_size": 2}),
    (np.ones((2, 2)), 3, {"axis": 2, "block_size": 2}),
    (np.ones((2, 2)), 3, {"axis": -3, "block_size": 2}),
    (np.ones((2, 2)), 3, {"axis": 0, "block_size": 0}),
]


@pytest.mark.parametrize(("scale", "zero", "more"), BAD)
def test_wrong_parameters_are_explained_by_python(
    scale: Any, zero: Any, more: dict[str, Any]
) -> None:
    with zp.use_backend("reference"), pytest.raises((TypeError, ValueError)) as expected:
        zp.QuantParams(scale, zero, **more)
    with pytest.raises(expected.type) as found:
        zp.QuantParams(scale, zero, **more)
    assert str(found.value) == str(expected.value)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return told(call())
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("dtype", [*REALS, *INTEGERS])
def test_bounds_that_each_dtype_holds(native: str, dtype: Any) -> None:
    """The core's `holds` and Python's are the same."""
    x = np.arange(4).astype(dtype)
    edges = {65504, 65505, 65520, 2**63 - 1, 2**63 - 1024}
    for k in range(65):
        edges |= {2**k + d for d in (-1, 0, 1, 2, 3)}
        edges |= {2**k * m + 2**n for m in (255, 257, 511) for n in (0, k)}
    for edge in sorted(edges | {-edge for edge in edges}):
        low, high = min(edge, 0), max(edge, 0)
        with zp.use_backend("reference"):
            expected = outcome(lambda low=low, high=high: zp.saturate(x, low, high))
        assert outcome(lambda low=low, high=high: zp.saturate(x, low, high)) == expected


@pytest.mark.parametrize(
    "acc_scale",
    [
        *(0.0, -1.0, np.nan, np.inf, 1e-60, 1e60, True, "1", None, 2**53 + 1, [1e-3]),
        *(np.ones((1, 6)), np.ones(5)),
        *(np.array([1, 1, 1, 0, 1, 1.0]), np.array([1, 1, 1, 1e60, 1, 1])),
    ],
    ids=str,
)
def test_steps_of_accumulators_that_python_looks_at(native: str, acc_scale: Any) -> None:
    far = zp.QuantParams(0.1, 1000, include_zero=False)
    for params in (P, ROWS, far, zp.QuantParams([], 3, axis=0)):
        acc = ACC[: np.size(params.scale)] if params.axis == 0 else ACC
        with zp.use_backend("reference"):
            expected = outcome(lambda acc=acc, p=params: zp.requantize(acc, acc_scale, p))
        assert outcome(lambda acc=acc, p=params: zp.requantize(acc, acc_scale, p)) == expected


ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((X,), {"x": X}),
    ((X, "uint8", None), {}),
    ((X,), {"dtype": []}),
    ((X,), {"dtype": "uint16"}),
    ((X, "int8"), {"dtype": "int8"}),
    ((X,), {"rule": "max"}),
    ((X,), {"qmin": np.int64(3)}),
    ((X,), {"qmin": [3]}),
    ((X,), {"qmax": True}),
    ((X,), {"qmax": 3.0}),
    ((X,), {"symmetric": 1}),
    ((X,), {"convention": "spam"}),
    ((X,), {"zero_point_from": "mean"}),
    ((X,), {"".join(("conven", "tion")): "onnx"}),
    ((X,), {"axis": 2}),
    ((X,), {"axis": np.int64(1)}),
    ((X,), {"axis": 2**70}),
    ((X,), {"axis": 1, "block_size": 0}),
    ((X,), {"axis": 1, "block_size": 2**63}),
    ((X,), {"block_size": 2}),
    ((X.tolist(),), {"axis": 1}),
    ((X[:, ::3],), {"axis": 1}),
    ((X[:0],), {}),
    ((X.astype(">f4"),), {}),
    ((X * np.float32(np.nan),), {}),
    ((X * np.float32(np.inf),), {"axis": 1}),
    ((np.ones_like(X),), {"include_zero": False}),
]


@pytest.mark.parametrize(("arguments", "keywords"), ARGUMENTS)
def test_what_is_declined_is_pythons(
    native: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    for function in (zp.choose_params, zp.quantize_dynamic):
        with zp.use_backend("reference"):
            expected = outcome(lambda f=function: f(*arguments, **keywords))
        assert outcome(lambda f=function: f(*arguments, **keywords)) == expected


def test_a_choice_that_is_known_is_of_its_own_arguments(native: str) -> None:
    values = (True, 1, False, 0, None)
    names = "include_zero", "symmetric", "qmin", "qmax"
    keywords: list[dict[str, Any]] = [{name: value} for name in names for value in values]
    keywords += [
        dict(zip(two, pair, strict=True))
        for two in itertools.combinations(names, 2)
        for pair in itertools.product(values, repeat=2)
    ]
    keywords += [{"qmax": qmax} for qmax in range(2, 256)]  # more than are kept
    for each in keywords * 2:
        with zp.use_backend("reference"):
            expected = outcome(lambda each=each: zp.choose_params(X, **each))
        assert outcome(lambda each=each: zp.choose_params(X, **each)) == expected, each


def test_an_interrupt_in_a_dtype_is_not_an_explanation(native: str) -> None:
    asked = []

    class Asked:
        @property
        def dtype(self) -> Never:
            asked.append(1)
            raise KeyboardInterrupt

    for call in (
        lambda: zp.dequantize(Q, P, dtype=Asked()),
        lambda: zp.saturate_cast(X, Asked()),
        lambda: zp.QuantParams(0.1, 3, Asked()),
    ):
        asked.clear()
        with pytest.raises(KeyboardInterrupt):
            call()
        assert asked == [1]


@pytest.mark.parametrize("name", [n for n in zp.__all__ if callable(getattr(zp, n))])
def test_functions_can_be_pickled(name: str) -> None:
    function = getattr(zp, name)
    data = pickle.dumps(function)
    assert pickle.loads(data) is function
    assert b"_core" not in data  # which may be absent where it is read
    assert not function.__module__.endswith("_core")


BUILTINS = [n for n in zp.__all__ if isinstance(getattr(zp, n), types.BuiltinFunctionType)]


@pytest.mark.parametrize("name", BUILTINS)
def test_builtins_are_the_packages(name: str) -> None:
    function = getattr(zp, name)
    assert function.__module__ == "zeropoint"
    assert inspect.getmodule(function) is zp
    assert function.__qualname__ == name
    assert "$module" not in str(inspect.signature(function))
    title = pydoc.plain(pydoc.render_doc(function)).splitlines()[0]
    assert title.endswith(f"built-in function {name} in module zeropoint")


@pytest.mark.skipif(not BUILTINS, reason="the compiled core is absent")
def test_a_pickle_is_read_where_the_core_is_absent(tmp_path: Path) -> None:
    functions = tuple(getattr(zp, name) for name in BUILTINS)
    code = f"import pickle\nprint(*(f.__name__ for f in pickle.loads({pickle.dumps(functions)!r})))"
    assert in_pure_python(tmp_path, code).split() == BUILTINS


def test_parameters_that_move_keep_what_they_have() -> None:
    for dtype, axis in itertools.product(("uint8", "int8"), (None, 0, 1)):
        params = zp.choose_params(X, dtype, axis=axis, convention="onnx")
        q = params.quantize(X)
        codes, moved = zp.flip_signedness(q, params)
        assert zp.dequantize(codes, moved).tobytes() == zp.dequantize(q, params).tobytes()
        back, same = zp.flip_signedness(codes, moved)
        assert back.tobytes() == q.tobytes()
        assert same == params
        assert told(same) == told(params)
