"""onnx's own node tests of QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

Their expected outputs come with the onnx package; no engine runs.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

from . import data

onnx = pytest.importorskip("onnx")

ENGINE = "onnx node tests"
OPERATORS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
CODES = ("uint8", "int8")
REALS = ("float32", "float16")


class Case:
    """One test: which operator, its attributes, its inputs and the outputs that are expected."""

    def __init__(self, operator: str, test: Any) -> None:
        self.operator, self.name = operator, test.name
        node = test.model.graph.node[0]
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self.inputs, self.outputs = test.data_sets[0]
        if operator == "DynamicQuantizeLinear":  # may be written out in other operators
            self.attributes = {}

    def foreign_dtypes(self) -> list[str]:
        """The dtypes in it that are not ours: such a test is left out."""
        found = []
        for value in (*self.inputs, *self.outputs):
            if isinstance(value, (np.ndarray, np.generic)):
                found.append(value.dtype.name)
            else:  # a type that NumPy does not have travels as a TensorProto
                found.append(onnx.TensorProto.DataType.Name(value.data_type).lower())
        return sorted({name for name in found if name not in CODES + REALS})

    def params(self) -> zp.QuantParams:
        scale = np.asarray(self.inputs[1], np.float32)
        zero = self.inputs[2] if len(self.inputs) > 2 else np.zeros(scale.shape, np.uint8)
        code = zero.dtype
        layout = {}
        if scale.ndim:
            layout["axis"] = self.attributes.get("axis", 1)
            if self.attributes.get("block_size"):
                layout["block_size"] = self.attributes["block_size"]
        return zp.QuantParams(
            scale if scale.ndim else scale[()],
            zero.astype(np.int32) if zero.ndim else int(zero),
            code,
            convention="onnx",
            **layout,
        )

    def oracle(self, tally: data.Tally) -> None:
        x = self.inputs[0]
        if self.operator == "QuantizeLinear":
            tally.add(zp.quantize(x, self.params()), self.outputs[0], x, self.name)
        elif self.operator == "DequantizeLinear":
            expected = self.outputs[0]
            ours = zp.dequantize(x, self.params(), dtype=expected.dtype)
            tally.add(ours, expected, x, self.name)
        else:
            q, p = zp.quantize_dynamic(x, convention="onnx")
            ours = (q, p.scale, np.uint8(p.zero_point))
            for mine, expected in zip(ours, self.outputs, strict=True):
                tally.add(mine, expected, about=self.name)


@pytest.fixture(scope="session")
def node_cases() -> list[Case]:
    """All tests of the three operators.  Collecting takes seconds, and once a process is enough."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        # the makers of other operators' tests overflow and divide by zero on purpose, and set the
        # shape of an array, which NumPy 2.5 deprecates
        for category in (RuntimeWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        tests = collect_testcases(None)
    found = []
    for test in tests:
        for operator in OPERATORS:
            if test.name.startswith(f"test_{operator.lower()}"):
                found.append(Case(operator, test))
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_node_cases(backend, record, note, node_cases, operator):
    tally, judged = data.Tally(), 0
    skipped: Counter[str] = Counter()
    for case in node_cases:
        if case.operator != operator:
            continue
        foreign = case.foreign_dtypes()
        if foreign:
            skipped[", ".join(foreign)] += 1
        else:
            case.oracle(tally)
            judged += 1
    record(ENGINE, f"{operator}, {judged} tests", backend, tally.n, tally.differences)
    if skipped:
        reasons = "; ".join(f"{count} of {dtypes}" for dtypes, count in sorted(skipped.items()))
        note(
            f"{ENGINE} {operator}: {skipped.total()} left out for their dtypes: {reasons}", backend
        )
    assert judged >= 3
    assert tally.differences == 0, tally.first


def test_zeros_differ_from_the_python_reference(backend):
    """All-zero data: onnx's Python reference has scale 1/255; ONNX Runtime, and we, have 1."""
    from onnx.reference import ReferenceEvaluator

    node = onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    make = onnx.helper.make_tensor_value_info
    real, code = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    graph = onnx.helper.make_graph(
        [node],
        "one_operator",
        [make("x", real, None)],
        [make("y", code, None), make("s", real, None), make("z", code, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)])
    x = np.zeros(4, np.float32)
    codes, scale, zero = ReferenceEvaluator(model).run(None, {"x": x})
    q, p = zp.quantize_dynamic(x, convention="onnx")
    assert (scale, zero) == (np.float32(1 / 255), 0)
    assert (p.scale, p.zero_point) == (1, 0)
    np.testing.assert_array_equal(q, codes)
