"""QuantParams as a value, and the choice of parameters."""

from __future__ import annotations

import array
import dataclasses
import importlib
import importlib.util
import inspect
import json
import pickle
import pkgutil
import pydoc
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import zeropoint as zp
from zeropoint import _backend, _choice, _conventions, _reference

EXAMPLES = [
    zp.QuantParams(0.1, 3),
    zp.QuantParams(np.float64(0.1), -3, "int8", qmin=-127, convention="onnx"),
    zp.QuantParams([0.1, 0.2], [1, 2], axis=-1, convention="litert"),
    zp.QuantParams(np.array([0.1, 0.2]), 0, "int8", axis=0),
    zp.QuantParams([[0.1], [0.2]], 7, axis=1, block_size=32),
    zp.QuantParams(1e-45, -(2**31), include_zero=False),
    zp.QuantParams([], 0, axis=0),
    zp.QuantParams(np.empty((2, 0, 3, 0), np.float32), 0, "int8", axis=1, block_size=2),
]


@pytest.mark.parametrize("params", EXAMPLES, ids=str)
def test_value(params: zp.QuantParams) -> None:
    copies = [
        pickle.loads(pickle.dumps(params)),
        zp.QuantParams.from_dict(json.loads(json.dumps(params.to_dict()))),
        eval(repr(params), {"QuantParams": zp.QuantParams, "float64": np.float64})
        if np.ndim(params.scale) == 0
        else params,
        params.replace(),
    ]
    for copy in copies:
        assert copy == params
        assert hash(copy) == hash(params)
        assert copy.scale.dtype == params.scale.dtype
    assert len(set(EXAMPLES)) == len(EXAMPLES)
    assert params != "something else"


def test_immutable() -> None:
    params = zp.QuantParams([0.1, 0.2], 0, axis=0)
    with pytest.raises(AttributeError, match="immutable"):
        params.scale = 1
    with pytest.raises(AttributeError, match="immutable"):
        del params.scale
    with pytest.raises(ValueError, match="read-only"):
        params.scale[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        params.scale.setflags(write=True)
    source = np.array([0.1, 0.2])
    params = zp.QuantParams(source, 0, axis=0)
    source[0] = 5
    assert params.scale[0] == 0.1


def test_a_second_init() -> None:
    """It would change value and hash; of QuantParams, and of all frozen dataclasses."""
    for params in (zp.QuantParams(0.1, 3), zp.choose_params(np.float32([1, 2]))):
        before = repr(params), hash(params), params.quantize(np.float32([1, 2])).tolist()
        with pytest.raises(AttributeError, match="QuantParams is immutable; build a new one"):
            params.__init__(0.5, 7)  # type: ignore[misc]
        assert (repr(params), hash(params), params.quantize(np.float32([1, 2])).tolist()) == before
    stats = zp.error_stats(np.float32([1, 2]), zp.QuantParams(0.1, 3))
    fields = stats.to_dict()
    with pytest.raises(AttributeError, match="ErrorStats is immutable; build a new one"):
        stats.__init__(*range(7))  # type: ignore[misc]
    assert stats.to_dict() == fields
    assert dataclasses.replace(stats, mse=1.0).mse == 1


def test_every_frozen_dataclass_refuses_a_second_init() -> None:
    found = []
    for module in pkgutil.walk_packages(zp.__path__, "zeropoint."):
        if module.name == "zeropoint.__main__":
            continue
        try:
            members = vars(importlib.import_module(module.name)).values()
        except ImportError:
            continue  # for want of a package
        for cls in members:
            ours = getattr(cls, "__module__", "") == module.name
            if ours and isinstance(cls, type) and dataclasses.is_dataclass(cls):
                found.append(cls.__name__)
                made = object.__new__(cls)
                object.__setattr__(made, dataclasses.fields(cls)[0].name, 1)
                with pytest.raises(AttributeError, match=f"{cls.__name__} is immutable"):
                    made.__init__()  # type: ignore[misc]
    assert {"ErrorStats", "ComparisonRow", "Comparison", "FileSummary"} <= set(found)


def test_arrays_of_parameters_cannot_be_bent() -> None:
    """NumPy lets the shape and the dtype of a read-only array be set."""
    for params in (
        zp.QuantParams([0.5, 0.25], [1, 2], axis=0),
        zp.choose_params(np.float32([[1, 2], [3, 4]]), axis=0),
    ):
        before = repr(params), hash(params), params.to_dict()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer NumPys advise against it
            params.scale.shape = (1, 2)
            params.zero_point.dtype = np.uint32
        assert (repr(params), hash(params), params.to_dict()) == before
        with pytest.raises(ValueError, match="WRITEABLE"):
            params.zero_point.setflags(write=True)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (zp.QuantParams(0.5, 3), "QuantParams(scale=0.5, zero_point=3, dtype='uint8')"),
        (
            zp.QuantParams(np.float64(0.1), 3),
            "QuantParams(scale=float64(0.1), zero_point=3, dtype='uint8')",
        ),
        (
            zp.QuantParams([0.3, 0.1], [1, 2], axis=-1),
            "QuantParams(scale=<0.1..0.3: [0.3, 0.1]>, zero_point=<1..2: [1, 2]>, "
            "dtype='uint8', axis=-1)",
        ),
        (
            zp.QuantParams(np.arange(1, 65) / 64, 0, "int8", axis=1),
            "QuantParams(scale=<float64 0.015625..1.0: 64 channels>, "
            "zero_point=0, dtype='int8', axis=1)",
        ),
        (
            zp.QuantParams(np.arange(1, 33).reshape(4, 8) / 64, 7, axis=1, block_size=2),
            "QuantParams(scale=<float64 0.015625..0.5: 4 x 8 blocks>, "
            "zero_point=7, dtype='uint8', axis=1, block_size=2)",
        ),
        (
            zp.QuantParams([], 0, axis=0),
            "QuantParams(scale=<array of shape (0,)>, zero_point=<array of shape (0,)>, "
            "dtype='uint8', axis=0)",
        ),
    ],
)
def test_repr(params: zp.QuantParams, text: str) -> None:
    """No array poses as the call that would make it again."""
    assert repr(params) == text


@pytest.mark.parametrize(
    ("scale", "zero_point"),
    [
        ([0.5, 0.25], (1, 2)),
        (array.array("f", [0.5, 0.25]), array.array("b", [1, 2])),
        (np.float32([0.5, 0.25]), np.uint64([1, 2])),
        (np.array([0.5, 0.25], ">f4"), np.array([1, 2], ">i2")),
        ([np.float32(0.5), np.array(0.25)], [np.int8(1), np.array(2)]),
        (memoryview(np.float32([0.5, 0.25])), memoryview(np.int64([1, 2]))),
    ],
)
def test_scale_and_zero_point_are_read_alike(scale: Any, zero_point: Any) -> None:
    params = zp.QuantParams(scale, zero_point, axis=0)
    assert params == zp.QuantParams([0.5, 0.25], [1, 2], axis=0)
    assert zp.QuantParams(scale[0], zero_point[0]) == zp.QuantParams(0.5, 1)
    acc = np.arange(6, dtype=np.int32).reshape(2, 3)
    expected = zp.requantize(acc, [0.5, 0.25], params)
    np.testing.assert_array_equal(zp.requantize(acc, scale, params), expected)


def test_precision_of_the_scale() -> None:
    assert zp.QuantParams(0.1, 0).scale.dtype == np.float32
    assert zp.QuantParams([0.1], 0, axis=0).scale.dtype == np.float32
    assert zp.QuantParams(1, 0).scale.dtype == np.float32
    assert zp.QuantParams(np.float64(0.1), 0).scale.dtype == np.float64
    assert zp.QuantParams(np.float16(0.1), 0).scale == np.float32(np.float16(0.1))
    assert zp.QuantParams(array.array("d", [0.1]), 0, axis=0).scale.dtype == np.float64
    assert zp.QuantParams([np.float64(0.1)], 0, axis=0).scale.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"extra": 1}, ValueError, "unknown keys"),
        ({"scale": None}, TypeError, "scale"),
        ({"scale": "0.1"}, TypeError, "scale must hold int or float"),
        ({"zero_point": 1.5}, TypeError, "zero_point must hold int"),
        ({"scale_dtype": "float128"}, ValueError, "scale_dtype"),
        ({"dtype": "int4"}, TypeError, "dtype"),
        ({"scale": 1e39}, ValueError, "scale"),
        ({"scale": [[1.0], [1.0, 2.0]]}, ValueError, "inhomogeneous"),
        ({"include_zero": 1}, TypeError, "include_zero"),
        ({"shape": [0]}, ValueError, "shape is only for scales without elements"),
        ({"scale": [], "shape": [2]}, ValueError, "shape .* one of them 0"),
        ({"scale": [], "shape": [0, 2**62, 2**62]}, ValueError, "shape .* must be a list"),
        ({"scale": [], "shape": [False]}, ValueError, "shape .* must be a list"),
    ],
)
def test_hostile_dict(change: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        zp.QuantParams.from_dict({**EXAMPLES[0].to_dict(), **change})


def test_missing_keys() -> None:
    with pytest.raises(ValueError, match=r"missing keys \['zero_point'\]"):
        zp.QuantParams.from_dict({"scale": 1.0})
    with pytest.raises(TypeError, match="takes a dict"):
        zp.QuantParams.from_dict([])  # type: ignore[arg-type]


# ---- the choice --------------------------------------------------------------------------------

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
data = hnp.arrays(np.float32, st.integers(1, 12), elements=finite)
codes = st.sampled_from(
    [("uint8", None, None), ("int8", None, None), ("int8", -127, 127), ("uint8", 0, 15)]
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(data, codes, st.sampled_from(["max", "min", "least_error", None, "symmetric"]))
def test_no_element_is_off_by_more_than_half_a_step(x: Any, code: Any, rule: Any) -> None:
    """With include_zero 0 is exact, and an error is half a step plus the rounding at most."""
    dtype, qmin, qmax = code
    how = {"symmetric": True} if rule == "symmetric" else {"zero_point_from": rule}
    if (float(x.max()) - float(x.min())) / ((qmax or 255) - (qmin or 0)) > 3.4e38:
        return  # no finite scale: an error, tested elsewhere
    params = zp.choose_params(x, dtype, qmin=qmin, qmax=qmax, **how)
    assert np.isfinite(params.scale)
    assert params.scale > 0
    assert params.qmin <= params.zero_point <= params.qmax
    assert params.fake_quantize(np.zeros(1, np.float32))[0] == 0
    step = Fraction(float(params.scale))
    back = params.dequantize(params.quantize(x), dtype="float64")
    for value, got in zip(x, back, strict=True):
        if np.isinf(got):  # the last code times the scale can overflow float32 by a rounding
            assert abs(value) > 3.4e38
            continue
        error = abs(Fraction(float(got)) - Fraction(float(value)))
        # two roundings of about 255 + |z| steps, each 2^-24, and one of the dequantized value
        slack = (
            step * Fraction(600, 2**24) + abs(Fraction(float(got))) / 2**24 + Fraction(1, 2**149)
        )
        assert error <= step / 2 + slack


@pytest.mark.parametrize("symmetric", [False, True])
def test_sub_ranges(backend: str, symmetric: bool) -> None:
    """Every arithmetic of qmin and qmax, negative and odd sums too, on every backend."""
    x = np.array([-1.0, 0.3, 1.25], np.float32)
    for qmin, qmax in [(-41, 3), (-42, 3), (-8, 7), (-128, -1), (5, 90), (-3, 0), (0, 2)]:
        params = zp.choose_params(x, "int8", symmetric=symmetric, qmin=qmin, qmax=qmax)
        if symmetric:
            centre = (qmin + qmax + 1) // 2
            reach = min(qmax - centre, centre - qmin)
            assert params.zero_point == centre
            assert params.scale == np.float32(1.25) / np.float32(reach)
        else:
            assert params.scale == np.float32(2.25) / np.float32(qmax - qmin)
            assert params.zero_point == qmin - np.rint(np.float32(-1) / params.scale)


def test_formulas() -> None:
    x = np.array([-1.0, 3.0], np.float32)
    params = zp.choose_params(x)
    assert params.scale == np.float32(4) / np.float32(255)
    assert params.zero_point == 64  # 1 / scale is 63.75
    assert zp.choose_params(x, "int8").zero_point == -64
    assert zp.choose_params(np.float32([2, 4])).zero_point == 0  # the range is widened to [0, 4]
    assert zp.choose_params(np.float32([-2, -4])).zero_point == 255
    symmetric = zp.choose_params(x, symmetric=True)
    assert (symmetric.scale, symmetric.zero_point) == (np.float32(3) / np.float32(127), 128)
    symmetric = zp.choose_params(x, "int8", symmetric=True)
    assert (symmetric.scale, symmetric.zero_point) == (np.float32(3) / np.float32(127), 0)


@pytest.mark.parametrize(
    ("convention", "dtype", "scale", "zero_point"),
    [
        ("numpy", "uint8", 1, 0),
        ("numpy", "int8", 1, 0),
        ("onnx", "uint8", 1, 0),
        ("torch", "uint8", 2.0**-23, 0),
        ("torch", "int8", 2.0**-23, -128),
        ("tflite", "int8", 1, 0),
    ],
)
def test_all_zeros(convention: str, dtype: str, scale: float, zero_point: int) -> None:
    params = zp.choose_params(np.zeros(3, np.float32), dtype, convention=convention)
    assert (params.scale, params.zero_point) == (scale, zero_point)
    assert params.fake_quantize(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_constant_data_widens_to_zero() -> None:
    params = zp.choose_params(np.full(3, 2.5, np.float32))
    assert (params.scale, params.zero_point) == (np.float32(2.5) / np.float32(255), 0)


def test_overflow_and_subnormals() -> None:
    wide = zp.choose_params(np.array([-3.4e38, 3.4e38], np.float32))
    assert np.isfinite(wide.scale)
    exact = 2 * Fraction(float(np.float32(3.4e38))) / 255
    assert (
        Fraction(float(np.nextafter(wide.scale, np.float32(0))))
        < exact
        <= Fraction(float(wide.scale))
    )
    tiny = zp.choose_params(np.array([1e-45, 2.8e-45], np.float32))
    assert tiny.scale == np.float32(1e-45)
    huge = zp.choose_params(np.array([-1.7e308, 1.7e308]))
    assert np.isfinite(huge.scale)


def test_tflite_known_values() -> None:
    for low, high, scale, zero in [
        (-10, 30, 0.156863, 64),
        (0, 30, 30 / 255, 0),
        (-10, 0, 10 / 255, 255),
    ]:
        params = zp.choose_params(np.float32([low, high]), convention="tflite")
        assert params.zero_point == zero
        assert params.scale == pytest.approx(scale, abs=1e-6)


def test_least_error_takes_max_only_if_strictly_better() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(4000):
        x = rng.integers(-40, 200, 2).astype(np.float32) / np.float32(rng.integers(1, 64))
        if x.min() == x.max():
            continue
        rules = ("max", "min", "least_error")
        by_rule = {r: zp.choose_params(x, zero_point_from=r, include_zero=False) for r in rules}
        errors = {r: zp.error_stats(x, p).max_abs_error for r, p in by_rule.items()}
        better = "max" if errors["max"] < errors["min"] else "min"
        assert by_rule["least_error"] == by_rule[better]
        if by_rule["max"] != by_rule["min"]:
            seen.add(better)
    assert seen == {"max", "min"}


def test_axis_and_blocks_equal_their_slices(backend: str) -> None:
    x = np.random.default_rng(3).normal(size=(4, 10, 3)).astype(np.float32)
    for rule in ("max", "min", "least_error", None):
        channels = zp.choose_params(x, axis=1, zero_point_from=rule)
        for i in range(10):
            one = zp.choose_params(x[:, i], zero_point_from=rule)
            assert (channels.scale[i], channels.zero_point[i]) == (one.scale, one.zero_point)
    blocks = zp.choose_params(x, axis=1, block_size=4)
    assert blocks.scale.shape == (4, 3, 3)
    last = zp.choose_params(x[2, 8:, 1])
    assert (blocks.scale[2, 2, 1], blocks.zero_point[2, 2, 1]) == (last.scale, last.zero_point)


def test_quantize_dynamic(backend: str) -> None:
    x = np.random.default_rng(3).normal(size=(4, 10)).astype(np.float32)
    q, params = zp.quantize_dynamic(x, "int8", axis=0, symmetric=True)
    assert params == zp.choose_params(x, "int8", axis=0, symmetric=True)
    assert q.tobytes() == params.quantize(x).tobytes()
    out = np.empty_like(q)
    assert zp.quantize_dynamic(x, "int8", out=out)[0] is out


def test_dynamic_looks_at_out_before_the_data(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, ranged = _backend.min_max, []

    def counted(x: Any, *rest: Any) -> Any:
        ranged.append(x.size)
        return right(x, *rest)

    monkeypatch.setattr(_backend, "min_max", counted)
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)

    class Subclass(np.ndarray[Any, Any]):  # which the builtin leaves to Python
        pass

    out = np.zeros((2, 3), np.uint8).view(Subclass)
    codes, params = zp.quantize_dynamic(x, out=out)
    assert codes is out
    assert out.tolist() == params.quantize(x).tolist()
    assert ranged == [6]
    for wrong, error in (
        (np.zeros((2, 3), np.int8), TypeError),
        (np.zeros(6, np.uint8), ValueError),
    ):
        with pytest.raises(error, match="^out has"):
            zp.quantize_dynamic(np.full((2, 3), np.nan), out=wrong)
        assert ranged == [6]


EVERY_FIELD: dict[str, Any] = {
    "scale": np.array([[0.5, 0.25]], np.float32),
    "zero_point": 3,
    "dtype": "int8",
    "qmin": -100,
    "qmax": 100,
    "axis": 1,
    "block_size": 4,
    "convention": "numpy",
    "include_zero": True,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", np.array([[0.5, 0.125]], np.float32)),
        ("scale", np.array([[0.5, 0.25]], np.float64)),
        ("scale", np.array([[0.5], [0.25]], np.float32)),
        ("zero_point", 4),
        ("zero_point", np.array([[3, 4]])),
        ("dtype", "uint8"),
        ("qmin", -99),
        ("qmax", 99),
        ("axis", 0),
        ("block_size", 5),
        ("convention", "onnx"),
        ("include_zero", False),
    ],
)
def test_every_field_counts(field: str, value: Any) -> None:
    shared = EVERY_FIELD | {"qmin": 0} if field == "dtype" else EVERY_FIELD
    one, same, other = (zp.QuantParams(**f) for f in (shared, shared, shared | {field: value}))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert len({one, same, other}) == 2
    assert one.replace(**{"zero_point": 3, field: value}) == other


def test_replace() -> None:
    params = zp.QuantParams(np.float64(0.1), 3, qmax=100, convention="onnx")
    assert params.replace(zero_point=4).scale.dtype == np.float64
    assert params.replace(qmax=None).qmax == 255
    with pytest.raises(TypeError, match="QuantParams has no 'zero'; it has scale, zero_point"):
        params.replace(zero=4)
    with pytest.raises(ValueError, match=r"zero_point 101 is outside \[0, 100\]"):
        params.replace(zero_point=101)
    with pytest.raises(ValueError, match="scale has shape .* but axis is None"):
        params.replace(scale=np.ones(3))


@pytest.mark.parametrize("zero_point", [np.timedelta64(3, "ns"), np.datetime64(3, "ns")])
def test_times_are_no_zero_points(zero_point: Any) -> None:
    with pytest.raises(
        TypeError, match="zero_point must be an integer, not (timedelta|datetime)64"
    ):
        zp.QuantParams(0.1, zero_point)


@pytest.mark.parametrize(
    ("function", "others"),
    [
        (zp.choose_params, ["axis", "block_size", "skip_nan"]),
        (zp.quantize_dynamic, ["out", "axis", "block_size", "skip_nan"]),
        (zp.MinMaxObserver.params, []),
        (zp.HistogramObserver.params, ["method", "percentile"]),
    ],
)
def test_help_shows_the_keywords_and_their_defaults(function: Any, others: list[str]) -> None:
    found = inspect.signature(function).parameters
    keywords = {name: p for name, p in found.items() if p.kind is p.KEYWORD_ONLY}
    assert all(p.kind is not p.VAR_KEYWORD for p in found.values())
    assert set(keywords) == {*_choice.ChoiceKeywords.__annotations__, *others}
    choice = _choice.Choice()
    for name in _choice.ChoiceKeywords.__annotations__:
        given = keywords[name].default
        assert getattr(_choice.Choice(**{name: given}), name) == getattr(choice, name)
    shown = pydoc.plain(pydoc.render_doc(function))  # of a builtin without the types
    assert "include_zero: bool = True" in shown or "include_zero=True" in shown


def test_a_choice_is_remembered_by_type_and_value() -> None:
    def choice(dtype: Any = "uint8", **keywords: Any) -> Any:
        return _choice.Choice.of(zp.choose_params, dtype, keywords)

    assert choice(qmin=1) is choice(qmin=1)
    assert choice("int8", convention="litert") == choice(np.int8, convention="torch")
    assert choice(qmin=1) != choice(qmin=0)
    with pytest.raises(TypeError, match="qmin must be an integer, not bool True"):
        choice(qmin=True)
    with pytest.raises(AttributeError):
        choice().qmin = 3
    with pytest.raises(AttributeError, match="Choice is immutable"):
        choice().__init__(qmin=3)


def test_conventions_are_read_only() -> None:
    with pytest.raises(TypeError):
        zp.CONVENTIONS["numpy"] = zp.CONVENTIONS["onnx"]  # type: ignore[index]


def test_a_convention_without_a_formula_is_no_convention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_reference.CODE, "fifth", _reference.CODE["onnx"])
    spec = importlib.util.spec_from_file_location("zeropoint._again", _conventions.__file__)
    assert spec
    assert spec.loader
    with pytest.raises(ImportError, match=r"the reference has \[.*'fifth'\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_lists_that_are_nested_without_end() -> None:
    scales: list[Any] = []
    scales.append(scales)
    with pytest.raises((TypeError, ValueError), match="scale"):
        zp.QuantParams(scales, 0, axis=0)


def test_no_blocks_of_a_range_without_0() -> None:
    """A zero point that is not there need not lie in [qmin, qmax]."""
    none = np.empty((0, 3), np.float32), np.empty((0, 3), np.int32)
    params = zp.QuantParams(*none, qmin=5, axis=1, block_size=2)
    assert zp.QuantParams.from_dict(params.to_dict()) == params
