"""zeropoint.interop.onnx: on small models by hand, and on the real ones of magika and Silero VAD.

The oracles are ONNX's checker and reference evaluator, and ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from zeropoint.interop import onnx as interop  # noqa: E402

FLOATS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
RNG = np.random.default_rng(0)


def initializers(constants: dict[str, Any]) -> list[Any]:
    return [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]


def graph(nodes: list[Any], inputs: Any = (), outputs: Any = (), **constants: Any) -> Any:
    """A graph; inputs and outputs are pairs (name, type) or names of float32 tensors."""

    def values(given: Any) -> list[Any]:
        pairs = [(g, TensorProto.FLOAT) if isinstance(g, str) else g for g in given]
        return [helper.make_tensor_value_info(name, kind, None) for name, kind in pairs]

    return helper.make_graph(nodes, "g", values(inputs), values(outputs), initializers(constants))


def model(*args: Any, opset: int = 21, **constants: Any) -> Any:
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph(*args, **constants), opset_imports=opsets, ir_version=10)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(
        op, inputs.split(), outputs.split(), name=f"{op} {outputs}", **attributes
    )


def runtime(m: Any, *, once: bool = False) -> Any:
    """A session; `once`: the weights are dequantized when it is made, then it is a float model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if once:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(m.SerializeToString(), options)


def bits(x: Any) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def graphs(g: Any) -> Any:
    yield g
    for n in g.node:
        for a in n.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                yield from graphs(a.g)


def nodes(m: Any, op: str) -> list[Any]:
    return [n for g in graphs(m.graph) for n in g.node if n.op_type == op]


def constants(m: Any) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for g in graphs(m.graph) for t in g.initializer}


# ---------------------------------------------------------------------------------------------
# params


def qdq(scale: Any, zero: Any = None, code: str = "uint8", **attributes: Any) -> Any:
    """x -> QuantizeLinear -> codes -> DequantizeLinear -> y"""
    given = "s" if zero is None else "s z"
    stored = {} if zero is None else {"z": np.asarray(zero, code)}
    own = {k: v for k, v in attributes.items() if k != "output_dtype"}
    made = [
        node("QuantizeLinear", f"x {given}", "codes", **attributes),
        node("DequantizeLinear", f"codes {given}", "y", **own),
    ]
    return model(made, ["x"], ["y"], s=scale, **stored)


@pytest.mark.parametrize("tensor", ["x", "codes", "y"])
def test_by_any_of_its_names(tensor):
    expected = zp.QuantParams(0.1, 7, "uint8", convention="onnx")
    assert interop.params(qdq(np.float32(0.1), 7), tensor) == expected


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_scale_is_one_a_tensor(shape):
    m = qdq(np.full(shape, 0.5, np.float32), np.full(shape, -3), "int8", axis=2)
    assert interop.params(m, "x") == zp.QuantParams(0.5, -3, "int8", convention="onnx")


@pytest.mark.parametrize(("attributes", "axis"), [({}, 1), ({"axis": 0}, 0), ({"axis": -1}, -1)])
def test_per_channel(attributes, axis):
    scale, zero = np.array([0.5, 0.25], np.float32), [3, 4]
    found = interop.params(qdq(scale, zero, "int8", **attributes), "x")
    assert found == zp.QuantParams(scale, zero, "int8", axis=axis, convention="onnx")


@pytest.mark.parametrize("axis", [1, -2])
def test_per_block(axis):
    scale = np.array([[[1, 2], [3, 4], [5, 6]]], np.float32)
    found = interop.params(qdq(scale, np.ones((1, 3, 2)), axis=axis, block_size=16), "y")
    ones = np.ones((1, 3, 2), np.int64)
    assert found == zp.QuantParams(scale, ones, axis=1, block_size=16, convention="onnx")
    one_block = interop.params(qdq(scale[:, :1, :1], axis=axis, block_size=16), "y")
    assert one_block.block_size == 16


@pytest.mark.parametrize("real", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_scales_of_other_types(real):
    scale = np.array([0.1, 0.3], real)
    found = interop.params(qdq(scale, [1, 2]), "x")
    assert bits(found.scale) == bits(scale.astype(np.float32))


@pytest.mark.parametrize("how", ["tensor", "value_float", "identity", "identity of a node"])
def test_constants_that_are_nodes(how):
    tensor = numpy_helper.from_array(np.array(0.1, np.float32))
    value = {"value_float": 0.1} if how == "value_float" else {"value": tensor}
    zero = numpy_helper.from_array(np.array(5, np.int8))
    made = [node("Constant", "", "z", value=zero), node("QuantizeLinear", "x s z", "codes")]
    stored = {"t": np.float32(0.1)} if how == "identity" else {}
    if how != "identity":
        made.insert(0, node("Constant", "", "t" if "identity" in how else "s", **value))
    if "identity" in how:
        made.insert(1 if how != "identity" else 0, node("Identity", "t", "s"))
    m = model(made, ["x"], [("codes", TensorProto.INT8)], **stored)
    assert interop.params(m, "x") == zp.QuantParams(0.1, 5, "int8", convention="onnx")


def test_value_floats():
    made = [
        node("Constant", "", "s", value_floats=[0.5, 0.25]),
        node("QuantizeLinear", "x s", "codes", axis=0),
    ]
    m = model(made, ["x"], [("codes", TensorProto.UINT8)])
    expected = zp.QuantParams(np.float32([0.5, 0.25]), 0, axis=0, convention="onnx")
    assert interop.params(m, "codes") == expected


def test_a_missing_zero_point():
    unsigned = zp.QuantParams(0.5, 0, "uint8", convention="onnx")
    signed = zp.QuantParams(0.5, 0, "int8", convention="onnx")
    half = np.float32(0.5)
    for name in ("x", "codes", "y"):
        assert interop.params(qdq(half), name) == unsigned
        assert interop.params(qdq(half, output_dtype=TensorProto.INT8), name) == signed
    lone = node("DequantizeLinear", "codes s", "y")
    weights = model([lone], [], ["y"], codes=np.ones(3, np.int8), s=half)
    given = model([lone], [("codes", TensorProto.INT8)], ["y"], s=half)
    for m in (weights, given):
        assert interop.params(m, "y") == interop.params(m, "codes") == signed
    # an optional input that is left out by an empty name
    explicit = helper.make_node("DequantizeLinear", ["codes", "s", ""], ["y"])
    m = model([explicit], [("codes", TensorProto.INT8)], ["y"], s=half)
    assert interop.params(m, "y") == signed


def test_codes_whose_type_is_not_written_down():
    made = [
        node("Relu", "x", "r"),
        node("DequantizeLinear", "r s", "y"),
    ]
    m = model(made, [("x", TensorProto.INT8)], ["y"], s=np.float32(0.5))
    with pytest.raises(ValueError, match=r"no zero point.*type of 'r'.*infer_shapes"):
        interop.params(m, "y")
    inferred = onnx.shape_inference.infer_shapes(m)
    assert interop.params(inferred, "y") == zp.QuantParams(0.5, 0, "int8", convention="onnx")


def branch(value: float) -> Any:
    made = [node("QuantizeLinear", "x s z", "codes"), node("DequantizeLinear", "codes s z", "out")]
    return graph(made, [], ["out"], s=np.float32(value))


def test_inside_an_if():
    choice = helper.make_node(
        "If", ["which"], ["y"], then_branch=branch(0.5), else_branch=branch(0.5)
    )
    m = model([choice], ["x", ("which", TensorProto.BOOL)], ["y"], z=np.int8(9))
    for name in ("x", "codes", "out"):  # z is the outer graph's
        assert interop.params(m, name) == zp.QuantParams(0.5, 9, "int8", convention="onnx")


def test_quantized_in_two_ways():
    choice = helper.make_node(
        "If", ["which"], ["y"], then_branch=branch(0.5), else_branch=branch(0.25)
    )
    m = model([choice], ["x", ("which", TensorProto.BOOL)], ["y"], z=np.int8(9))
    with pytest.raises(ValueError, match=r"'x' is quantized in 2 ways; name the codes"):
        interop.params(m, "x")


def test_the_taker_comes_before_the_maker():
    made = [
        node("DequantizeLinear", "a s z", "y"),
        node("QuantizeLinear", "y t", "b"),
    ]
    inputs, outputs = [("a", TensorProto.INT16)], [("b", TensorProto.UINT8)]
    m = model(made, inputs, outputs, s=np.float32(0.5), z=np.int16(0), t=np.float32(0.25))
    assert interop.params(m, "y") == zp.QuantParams(0.25, 0, convention="onnx")
    with pytest.raises(ValueError, match="makes 'y' has codes of type INT16"):
        interop.params(m, "a")


def test_a_cast_after_dequantize_is_passed_and_one_of_codes_is_not():
    made = [
        node("QuantizeLinear", "x s", "codes"),
        node("Cast", "codes", "numbers", to=TensorProto.FLOAT),
        node("DequantizeLinear", "codes s", "y"),
        node("Cast", "y", "half", to=TensorProto.FLOAT16),
    ]
    m = model(made, ["x"], ["numbers", ("half", TensorProto.FLOAT16)], s=np.float32(0.5))
    assert interop.params(m, "half") == interop.params(m, "x")
    with pytest.raises(ValueError, match="'numbers' is not quantized"):
        interop.params(m, "numbers")


@pytest.mark.parametrize("code", ["INT4", "UINT4", "INT16", "UINT16", "FLOAT8E4M3FN", "INT32"])
def test_codes_of_other_types(code):
    zero = helper.make_tensor("z", TensorProto.DataType.Value(code), [], [0])
    dequantize = node("DequantizeLinear", "codes s z", "y")
    m = model([dequantize], [("codes", zero.data_type)], ["y"], s=np.float32(0.5))
    m.graph.initializer.append(zero)
    message = f"the DequantizeLinear that makes 'y' has codes of type {code}; only UINT8 and INT8"
    with pytest.raises(ValueError, match=message):
        interop.params(m, "y")


def test_tensors_without_parameters():
    relu = model([node("Relu", "input", "output")], ["input"], ["output"])
    with pytest.raises(ValueError, match="'input' is not quantized: no QuantizeLinear"):
        interop.params(relu, "input")
    with pytest.raises(ValueError, match="'inputs' is not in the model; did you mean 'input'"):
        interop.params(relu, "inputs")
    with pytest.raises(ValueError, match=r"'q' is not in the model; see model\.graph"):
        interop.params(relu, "q")


def test_parameters_that_are_not_there():
    made = [node("QuantizeLinear", "x s z", "codes")]
    outputs = [("codes", TensorProto.UINT8)]
    run_time = model(made, ["x", "s"], outputs, z=np.uint8(0))
    with pytest.raises(ValueError, match="takes 's', which is not a constant"):
        interop.params(run_time, "x")
    run_time = model(made, ["x", ("z", TensorProto.UINT8)], outputs, s=np.float32(1))
    with pytest.raises(ValueError, match="takes 'z', which is not a constant"):
        interop.params(run_time, "codes")
    for bad in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"the QuantizeLinear that makes 'codes': scale is"):
            interop.params(qdq(np.float32(bad)), "x")
    with pytest.raises(ValueError, match="zero_point has shape"):
        interop.params(qdq(np.float32([1, 2]), [1, 2, 3]), "x")
    e8m0 = helper.make_tensor("s", TensorProto.FLOAT8E8M0, [], [1.0])
    m = qdq(np.float32(1))
    m.graph.initializer[0].CopyFrom(e8m0)
    with pytest.raises(ValueError, match="scale must be a real number"):
        interop.params(m, "x")


def test_models_that_are_not(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(qdq(np.float32(0.5)), path)
    assert interop.params(path, "x") == interop.params(str(path), "x")
    path.write_bytes(b"spam")
    with pytest.raises(ValueError, match=r"m\.onnx cannot be read as an ONNX model"):
        interop.params(path, "x")
    with pytest.raises(FileNotFoundError):
        interop.params(tmp_path / "none.onnx", "x")
    with pytest.raises(TypeError, match="model must be a ModelProto or a path, not bytes"):
        interop.params(b"spam", "x")


def test_external_data(tmp_path):
    path = tmp_path / "m.onnx"
    m = qdq(np.full(100, 0.5, np.float32), np.zeros(100))
    weighty = model([node("MatMul", "x w", "y")], ["x"], ["y"], w=RNG.normal(size=(64, 64)))
    weighty.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.eye(64, dtype="f4"), "w"))
    for given, name in ((m, "x"), (weighty, None)):
        onnx.save(given, path, save_as_external_data=True, size_threshold=0, location=f"{name}.bin")
        unloaded = onnx.load(path, load_external_data=False)
        with pytest.raises(ValueError, match="lies in an external file that is not loaded; pass"):
            interop.params(unloaded, name) if name else interop.quantize_weights(unloaded)
    assert len(nodes(interop.quantize_weights(path), "DequantizeLinear")) == 1
    onnx.save(m, path, save_as_external_data=True, size_threshold=0, location="again.bin")
    assert interop.params(path, "x").scale.shape == (100,)


@pytest.mark.parametrize("code", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("shape", "attributes"),
    [((), {}), ((6,), {"axis": 0}), ((8,), {"axis": -1}), ((6, 2), {"axis": 1, "block_size": 4})],
)
def test_the_codes_are_those_of_the_runtime(backend, code, shape, attributes):
    info = np.iinfo(code)
    scale = RNG.uniform(0.01, 0.1, shape).astype(np.float32)
    zero = RNG.integers(info.min, info.max + 1, shape)
    m = qdq(scale, zero, code, **attributes)
    m.graph.output.append(helper.make_tensor_value_info("codes", FLOATS["float32"], None))
    m.graph.output[1].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(code))
    found = interop.params(m, "x")
    step = zp.QuantParams(
        found.scale, 0, code, axis=found.axis, block_size=found.block_size
    ).dequantize(np.ones((6, 8), code))
    x = step * RNG.integers(-300, 300, (6, 8)).astype(np.float32) / 2  # half of them ties
    y, codes = runtime(m).run(None, {"x": x})
    assert np.array_equal(found.quantize(x), codes)
    assert bits(found.dequantize(codes)) == bits(y)


# ---------------------------------------------------------------------------------------------
# calibration_reader, and the model that ONNX Runtime's static quantizer makes with it


def test_calibration(tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    made = [
        node("Conv", "x w", "c", pads=[1, 1]),
        node("Relu", "c", "r"),
        node("Flatten", "r", "f"),
        node("Gemm", "f v b", "y"),
    ]
    stored = {
        "w": RNG.normal(size=(6, 3, 3)).astype(np.float32),
        "v": RNG.normal(size=(120, 7)).astype(np.float32),
        "b": RNG.normal(size=7).astype(np.float32),
    }
    m = model(made, [], ["y"], **stored)
    m.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 20]))
    taken: list[int] = []

    def samples():
        for i in range(5):
            taken.append(i)
            yield {"x": np.random.default_rng(i).normal(size=(2, 3, 20)).astype(np.float32)}

    reader = interop.calibration_reader(samples())
    assert isinstance(reader, CalibrationDataReader)
    assert taken == []
    path = tmp_path / "static.onnx"
    quantize_static(
        onnx.shape_inference.infer_shapes(m),
        path,
        reader,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    assert taken == list(range(5))
    assert reader.get_next() is None

    static = onnx.load(path)
    quantizers = nodes(static, "QuantizeLinear")
    assert len(quantizers) >= 3
    for n in quantizers:  # what goes in, and the codes that come out
        for name, kind in ((n.input[0], TensorProto.FLOAT), (n.output[0], TensorProto.UINT8)):
            if name not in {value.name for value in (*static.graph.output, *static.graph.input)}:
                static.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    x = np.random.default_rng(9).normal(size=(4, 3, 20)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(static.SerializeToString(), options)
    names = [value.name for value in session.get_outputs()]
    values = dict(zip(names, session.run(None, {"x": x}), strict=True)) | {"x": x}
    for n in quantizers:
        found = interop.params(static, n.input[0])
        assert np.array_equal(found.quantize(values[n.input[0]]), values[n.output[0]])
    weights = interop.params(static, "w_quantized")
    assert (weights.dtype, weights.axis, weights.scale.shape) == (np.int8, 0, (6,))
    with pytest.raises(ValueError, match="codes of type INT32"):
        interop.params(static, "b_quantized")


# ---------------------------------------------------------------------------------------------
# quantize_weights


def weights_of(shape: tuple[int, ...], real: str = "float32", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.normal(0.1, rng.uniform(0.1, 2, shape[:1] + (1,) * (len(shape) - 1)), shape).astype(
        ml_dtypes.bfloat16 if real == "bfloat16" else real
    )


def stored(m: Any, name: str) -> tuple[Any, zp.QuantParams]:
    """The codes of a weight, and their parameters, read back from the model."""
    return constants(m)[f"{name}_quantized"], interop.params(m, f"{name}_quantized")


@pytest.mark.parametrize("real", FLOATS)
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"dtype": "uint8"},
        {"symmetric": False},
        {"dtype": "uint8", "symmetric": False, "axis": None},
        {"axis": 0},
        {"axis": -1, "block_size": 10},
        {"block_size": 32},
    ],
)
def test_what_the_consumers_see(real, keywords):
    """To the bit: the reference evaluator, ONNX Runtime and zeropoint agree on the new weight."""
    w = weights_of((70, 50), real)
    m = model([node("Identity", "w", "y")], [], [("y", FLOATS[real])], w=w)
    small = interop.quantize_weights(m, **keywords)
    codes, found = stored(small, "w")
    assert codes.dtype == keywords.get("dtype", "int8")
    chosen = zp.choose_params(
        w,
        codes.dtype,
        symmetric=keywords.get("symmetric", True),
        # the first axis for an operator that nothing is known about; blocks along the other
        axis=keywords.get("axis", 1 if "block_size" in keywords else 0),
        block_size=keywords.get("block_size"),
        convention="onnx",
    )
    assert found == chosen
    assert bits(codes) == bits(zp.quantize(w, chosen))
    expected = zp.dequantize(codes, chosen, dtype=w.dtype)
    assert bits(ReferenceEvaluator(small).run(None, {})[0]) == bits(expected)
    if real != "bfloat16":  # which ONNX Runtime gives to Python as no array
        for once in (False, True):
            assert bits(runtime(small, once=once).run(None, {})[0]) == bits(expected)
    assert interop.params(small, "w") == chosen


def by_operator() -> Any:
    lstm = {"hidden_size": 10}
    yield "MatMul", [None, (60, 50)], {}, 1
    yield "MatMul", [(60, 50), None], {}, 0
    yield "MatMul", [None, (2, 60, 50)], {}, 2
    yield "Gemm", [None, (60, 50)], {}, 1
    yield "Gemm", [None, (60, 50)], {"transB": 1}, 0
    yield "Gemm", [(60, 50), None], {}, 0
    yield "Gemm", [(60, 50), None], {"transA": 1}, 1
    yield "Conv", [None, (30, 20, 3)], {}, 0
    yield "ConvTranspose", [None, (30, 20, 3)], {}, 1
    yield "LSTM", [None, (2, 40, 30), None], {**lstm, "direction": "bidirectional"}, 1
    yield "LSTM", [None, None, (2, 40, 30)], {**lstm, "direction": "bidirectional"}, 1
    yield "GRU", [None, (2, 30, 30), None], {**lstm, "direction": "bidirectional"}, 1
    yield "RNN", [None, (2, 10, 60), None], {**lstm, "direction": "bidirectional"}, 1
    yield "Gather", [(2, 30, 20), None], {"axis": -2}, 1
    yield "Gather", [(60, 50), None], {}, 0
    yield "Add", [None, (1, 60, 50)], {}, 1
    yield "Einsum", [None, (60, 50)], {"equation": "ab,bc->ac"}, 0


@pytest.mark.parametrize(("op", "shapes", "attributes", "axis"), [*by_operator()])
def test_the_channel_axis(op, shapes, attributes, axis):
    shape = next(s for s in shapes if s)
    inputs = " ".join("w" if s else f"x{i}" for i, s in enumerate(shapes))
    m = model([node(op, inputs, "y", **attributes)], [], ["y"], w=weights_of(shape))
    assert stored(interop.quantize_weights(m), "w")[1].axis == axis
    blocks = stored(interop.quantize_weights(m, block_size=16), "w")[1]
    others = [i for i in range(len(shape)) if i != axis]
    assert blocks.axis in others
    assert shape[blocks.axis] == max(shape[i] for i in others)


def test_the_first_use_with_a_known_axis_decides():
    made = [node("Relu", "w", "r"), node("Gather", "w i", "e"), node("MatMul", "x w", "y")]
    m = model(made, ["x"], ["y"], w=weights_of((60, 50)), i=np.int64([1]))
    small = interop.quantize_weights(m)
    assert stored(small, "w")[1].axis == 0  # Gather's
    assert len(nodes(small, "DequantizeLinear")) == 1  # for all three


@pytest.mark.parametrize(
    "w",
    [
        np.ones(5000, np.float32),  # a bias, or the like
        np.ones((1, 5000, 1), np.float32),
        np.ones((31, 33), np.float32),  # 1023 elements
        np.ones((60, 50), np.float64),
        np.ones((60, 50), np.int32),
        np.where(np.eye(50) > 0, -np.inf, 0).astype(np.float32),  # a mask
        np.full((60, 50), np.nan, np.float16),
        np.ones((3000, 2), np.float16),  # 4 bytes a row, and 2 + 4 + 1 in codes
        np.ones((0, 60, 50), np.float32),
    ],
)
def test_what_is_left_alone(w):
    m = model([node("Identity", "w", "y")], [], [("y", helper.np_dtype_to_tensor_dtype(w.dtype))])
    m.graph.initializer.append(numpy_helper.from_array(w, "w"))
    at_least = 1024 if w.size else 0
    assert interop.quantize_weights(m, min_size=at_least) == m
    if w.dtype != np.float16 or not np.isfinite(w).all():  # one scale in all would make it smaller
        assert interop.quantize_weights(m, min_size=at_least, axis=None) == m


def test_min_size_and_exclude():
    m = model([node("MatMul", "x w", "y")], ["x"], ["y"], w=weights_of((32, 32)))
    assert len(nodes(interop.quantize_weights(m), "DequantizeLinear")) == 1
    assert interop.quantize_weights(m, min_size=1025) == m
    assert interop.quantize_weights(m, exclude=["w"]) == m
    with pytest.raises(ValueError, match="exclude names 'v', and the model has no such constant"):
        interop.quantize_weights(m, exclude=["w", "v"])
    with pytest.raises(TypeError, match="exclude must be a collection of names, not 'w'"):
        interop.quantize_weights(m, exclude="w")


def test_what_quantized_operators_take_is_left_alone():
    scale = np.abs(weights_of((64, 32))) + 0.01
    made = [
        node("DequantizeLinear", "codes scale", "a", axis=0, block_size=2),
        node("QuantizeLinear", "w one", "b"),
        helper.make_node("MatMulNBits", ["x", "n", "nscale"], ["c"], domain="com.microsoft"),
    ]
    kept = {"scale": scale, "w": weights_of((50, 60)), "nscale": scale}
    m = model(made, ["x"], ["a", "c"], codes=np.ones((128, 32), np.int8), one=np.float32(1), **kept)
    assert interop.quantize_weights(m) == m


def test_the_model_is_not_modified(tmp_path):
    m = model([node("MatMul", "x w", "y")], ["x"], ["y"], w=weights_of((50, 40)))
    before = m.SerializeToString(deterministic=True)
    small = interop.quantize_weights(m)
    assert m.SerializeToString(deterministic=True) == before
    onnx.save(m, tmp_path / "m.onnx")
    assert interop.quantize_weights(tmp_path / "m.onnx") == small


def test_names_that_are_taken():
    made = [
        node("Identity", "w", "w_quantized"),
        node("Identity", "w", "w_scale"),
        helper.make_node("Identity", ["w"], ["y"], name="w_DequantizeLinear"),
    ]
    m = model(made, [], ["w_quantized", "w_scale", "y"], w=weights_of((50, 40)))
    small = interop.quantize_weights(m)
    (n,) = nodes(small, "DequantizeLinear")
    assert [*n.input] == ["w_quantized_1", "w_scale_1", "w_zero_point"]
    assert n.name == "w_DequantizeLinear_1"
    for y in runtime(small).run(None, {}):
        assert bits(y) == bits(zp.fake_quantize(constants(m)["w"], interop.params(small, "w")))


def test_a_weight_that_is_an_output():
    m = model([], [], ["w"], w=weights_of((50, 40)))
    small = interop.quantize_weights(m)
    expected = zp.fake_quantize(constants(m)["w"], interop.params(small, "w"))
    assert bits(runtime(small).run(None, {})[0]) == bits(expected)


@pytest.mark.parametrize("real", ["float32", "float16"])
def test_weights_in_and_for_the_branches_of_an_if(real):
    """Initializers of the outer graph and of each branch (under one name), and Constant nodes."""
    kind = FLOATS[real]
    shape = (64, 64)

    def body(seed: int) -> Any:
        value = numpy_helper.from_array(weights_of(shape, real, seed))
        made = [
            node("Constant", "", f"c{seed}", value=value),
            node("MatMul", "x outer", "a"),
            node("MatMul", "a inner", "b"),
            node("MatMul", f"b c{seed}", f"out{seed}"),
        ]
        return graph(made, [], [(f"out{seed}", kind)], inner=weights_of(shape, real, seed + 10))

    choice = helper.make_node("If", ["which"], ["y"], then_branch=body(1), else_branch=body(2))
    m = model([choice], [], [("y", kind)], outer=weights_of(shape, real, 3), opset=16)
    m.graph.input.append(helper.make_tensor_value_info("x", kind, [1, 64]))
    m.graph.input.append(helper.make_tensor_value_info("which", TensorProto.BOOL, []))
    m.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, [1, 64]))
    for which in choice.attribute:
        assert which.g.node
    small = interop.quantize_weights(m)
    onnx.checker.check_model(small, full_check=True)
    assert len(nodes(small, "DequantizeLinear")) == 5
    assert len(nodes(small, "Constant")) == 0
    assert len(set(constants(small))) == 15  # all names differ, those of siblings too
    assert interop.report(m, small).bytes == 5 * 64 * 64 * np.dtype(real).itemsize

    expected = onnx.ModelProto()
    expected.CopyFrom(m)
    for g in graphs(expected.graph):
        tensors = [*g.initializer, *(n.attribute[0].t for n in g.node if n.op_type == "Constant")]
        for t in tensors:
            w = numpy_helper.to_array(t)
            last = zp.choose_params(w, "int8", symmetric=True, axis=1)  # MatMul's
            t.CopyFrom(numpy_helper.from_array(zp.fake_quantize(w, last), t.name))
    x = np.random.default_rng(0).normal(size=(1, 64)).astype(real)
    for which in (True, False):
        feed = {"x": x, "which": np.array(which)}
        y = runtime(expected).run(None, feed)[0]
        assert bits(runtime(small, once=True).run(None, feed)[0]) == bits(y)


def test_a_weight_that_a_caller_may_replace():
    m = model([node("MatMul", "x w", "y")], ["x", "w"], ["y"], w=weights_of((50, 40)))
    with pytest.raises(ValueError, match=r"'w' is an input of its graph too.*name it in exclude"):
        interop.quantize_weights(m)
    assert interop.quantize_weights(m, exclude={"w"}) == m


SQUARE = np.linspace(-1, 1, 1600, dtype=np.float32).reshape(40, 40)
TAKES_W = [node("MatMul", "x w", "y")]


def sparse(name: str) -> Any:
    """An initializer [40, 40] with one value."""
    values = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    return helper.make_sparse_tensor(values, indices, [40, 40])


@pytest.mark.parametrize("how", ["initializers", "constants", "both", "a node", "input", "sparse"])
def test_two_tensors_of_one_name(how):
    """ONNX Runtime takes the last; what was made of it had two outputs of one name."""
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(SQUARE))
    before = {"constants": [constant, constant], "both": [constant], "input": [constant]}
    before["a node"] = [node("Identity", "x", "w")]
    inputs = ["x", "w"] if how == "input" else ["x"]
    m = model([*before.get(how, []), *TAKES_W], inputs, ["y"])
    m.graph.initializer.extend(
        initializers({"w": SQUARE} if how not in ("constants", "input") else {})
    )
    if how == "initializers":
        m.graph.initializer.extend(initializers({"w": 2 * SQUARE}))
    if how == "sparse":
        m.graph.sparse_initializer.append(sparse("w"))
    for call in (
        lambda: interop.quantize_weights(m),
        lambda: interop.params(m, "x"),
        lambda: interop.report(m, m),
    ):
        with pytest.raises(
            ValueError, match="tensor 'w' is made twice in one graph, .*; rename or"
        ):
            call()


def test_a_weight_that_hides_another():
    """In the body of an If; a node of that name would make the model invalid."""
    body = graph([node("MatMul", "x w", "out")], [], ["out"], w=2 * SQUARE)
    other = graph([node("MatMul", "x w", "out")], [], ["out"])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=other)
    m = model([choice], ["x", ("c", TensorProto.BOOL)], ["y"], w=SQUARE)
    runtime(m)
    with pytest.raises(
        ValueError, match="weight 'w' hides a tensor of the same name in a graph ar"
    ):
        interop.quantize_weights(m)
    assert not nodes(interop.quantize_weights(m, exclude=["w"]), "DequantizeLinear")


def test_weights_without_a_name_and_names_of_sparse_ones():
    m = model(TAKES_W, ["x"], ["y", "w_quantized"], w=SQUARE)
    m.graph.initializer.extend(initializers({"": SQUARE}))  # nothing can use it
    m.graph.sparse_initializer.append(sparse("w_quantized"))
    runtime(m)
    small = interop.quantize_weights(m)
    runtime(small)
    assert nodes(small, "DequantizeLinear")[0].input[0] == "w_quantized_1"
    assert [w.name for w in interop.report(m, small).weights] == ["w"]


def test_a_tensor_is_named_by_a_string():
    for tensor in (3, ["x"], None):
        with pytest.raises(
            TypeError, match="tensor must be the name of a tensor, not .*; see model"
        ):
            interop.params(qdq(np.float32(0.1)), tensor)


def test_opsets():
    def at(opset: int) -> Any:
        made = [node("MatMul", "x w", "y")]
        m = model(made, [], [], opset=opset, w=weights_of((64, 50)))
        m.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64]))
        m.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 50]))
        return m

    x = np.ones((1, 64), np.float32)
    for opset, keywords in ((10, {"axis": None}), (13, {}), (21, {"block_size": 16})):
        with pytest.raises(
            ValueError, match=rf"is of opset {opset - 1}.* needs opset {opset}; pass"
        ):
            interop.quantize_weights(at(opset - 1), **keywords)
        small = interop.quantize_weights(at(opset), **keywords)
        onnx.checker.check_model(small, full_check=True)
        y, right = (
            runtime(found, once=True).run(None, {"x": x})[0]
            for found in (small, faked(at(opset), small))
        )
        assert bits(y) == bits(right)
        # the fix works
        raised = onnx.version_converter.convert_version(at(opset - 1), opset)
        assert nodes(interop.quantize_weights(raised, **keywords), "DequantizeLinear")
    with pytest.raises(ValueError, match=r"or pass axis=None$"):
        interop.quantize_weights(at(12))
    m = at(13)
    del m.opset_import[:]
    with pytest.raises(ValueError, match="is of opset 0"):
        interop.quantize_weights(m)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"dtype": "int4"}, TypeError, "dtype 'int4' is not a type of codes"),
        ({"axis": "row"}, ValueError, "axis 'row' is unknown; choose 'channel', an integer or"),
        ({"axis": 0.5}, TypeError, "axis must be an integer"),
        ({"axis": 2}, ValueError, "weight 'w': axis 2 is out of bounds"),
        ({"axis": None, "block_size": 4}, ValueError, "block_size 4 needs an axis"),
        ({"block_size": 0}, ValueError, "block_size 0 must be at least 1"),
        ({"symmetric": 1}, TypeError, "symmetric must be True or False"),
        ({"min_size": "big"}, TypeError, "min_size must be an integer"),
        ({"exclude": 3}, TypeError, "exclude must be a collection of names, not 3"),
    ],
)
def test_bad_keywords(keywords, error, message):
    m = model([node("MatMul", "x w", "y")], ["x"], ["y"], w=weights_of((50, 40)))
    with pytest.raises(error, match=message):
        interop.quantize_weights(m, **keywords)


# ---------------------------------------------------------------------------------------------
# report


def test_report():
    w, b = weights_of((50, 40), "float16"), np.ones(40, np.float16)
    m = model([node("MatMul", "x w", "a"), node("Add", "a b", "y")], ["x"], ["y"], w=w, b=b)
    small = interop.quantize_weights(m)
    found = interop.report(m, small)
    first, second = found.weights
    assert (first.name, first.shape, first.dtype, first.bytes) == ("w", (50, 40), "float16", 4000)
    assert first.quantized_bytes == 2000 + 40 * 4 + 40
    assert first.params == interop.params(small, "w")
    assert first.stats == zp.error_stats(w, first.params)
    assert second == interop.Weight("b", (40,), "float16", 80, 80, None, None)
    assert (found.bytes, found.quantized_bytes) == (4080, 2280)
    head, row, _, last = str(found).splitlines()
    assert head.split() == [
        *("weight", "dtype", "shape", "bytes", "8-bit", "max", "error", "SQNR", "dB", "scales")
    ]
    assert row.startswith("w       float16  [50, 40]  4,000  2,200")
    assert row.endswith(f"{first.stats.sqnr_db:.2f}  40, axis 1")
    assert last == "Left alone: 1 of 2 float tensors, 80 bytes.  All: 4,080 -> 2,280 bytes (55.9%)."
    again = json.loads(json.dumps(found.to_dict()))
    assert zp.QuantParams.from_dict(again["weights"][0]["params"]) == first.params
    assert again["weights"][1]["stats"] is None
    blocks = interop.quantize_weights(m, block_size=25)
    assert str(interop.report(m, blocks)).splitlines()[1].endswith("80, axis 0 in blocks of 25")
    empty = interop.report(model([], [], []), model([], [], []))
    assert str(empty).endswith("All: 0 -> 0 bytes (100.0%).")


def test_report_of_another_model():
    m = model([node("Identity", "w", "y")], [], ["y"], w=weights_of((50, 40)))
    other = model([node("Identity", "v", "y")], [], ["y"], v=weights_of((50, 40)))
    with pytest.raises(ValueError, match="has no tensor 'w': it was not made from model"):
        interop.report(m, interop.quantize_weights(other))
    other = model([node("Identity", "w", "y")], [], ["y"], w=weights_of((50, 41)))
    with pytest.raises(ValueError, match=r"'w' in the shape \(50, 41\), and model in \(50, 40\)"):
        interop.report(m, interop.quantize_weights(other))
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch(1), else_branch=branch(1))
    with pytest.raises(ValueError, match="quantized has 3 graphs where model has 1"):
        interop.report(m, model([choice], [], ["y"]))


# ---------------------------------------------------------------------------------------------
# The package


def test_onnx_alone_is_imported():
    code = (
        "import sys, zeropoint.interop.onnx; "
        "assert not {'onnxruntime', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------------
# Real models


def packaged(package: str, path: str) -> Path:
    """A file of a package, which is found and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs {package}: pip install --no-deps magika==1.0.3 silero-vad==6.2.3")
    return Path(spec.submodule_search_locations[0], path)


MAGIKA = "magika", "models/standard_v3_3/model.onnx"
SILERO = "silero_vad", "data/silero_vad.onnx"
#: weights; bytes of all float tensors, before and after; and of the file, before and at most after
REAL = {
    MAGIKA: (3, 3_136_892, 796_714, 3_163_737, 830_000),
    SILERO: (14, 2_181_144, 570_540, 2_327_524, 730_000),
    (SILERO[0], "data/silero_vad_16k_op15.onnx"): (7, 1_238_540, 322_582, 1_289_603, 380_000),
    (SILERO[0], "data/silero_vad_op18_ifless.onnx"): (14, 2_182_684, 572_080, 2_845_718, 1_250_000),
    (SILERO[0], "data/silero_vad_openvino_16k.onnx"): (7, 1_238_540, 322_582, 1_288_203, 380_000),
}


@pytest.mark.parametrize(("package", "path"), REAL)
def test_real_models(package, path):
    count, before, after, size, at_most = REAL[package, path]
    path = packaged(package, path)
    m = onnx.load(path)
    small = interop.quantize_weights(m)
    onnx.checker.check_model(small, full_check=True)
    runtime(small)
    found = interop.report(path, small)
    rows = [w for w in found.weights if w.params]
    assert len(rows) == len(nodes(small, "DequantizeLinear")) == count
    assert (found.bytes, found.quantized_bytes) == (before, after)
    assert 0.25 < after / before < 0.265
    assert m.ByteSize() == size
    assert small.ByteSize() < at_most
    assert all(w.stats.sqnr_db > 31 for w in rows)
    # what is left is small or a vector
    assert all(max(w.shape, default=1) == w.bytes // 4 for w in found.weights if not w.params)


def faked(m: Any, small: Any) -> Any:
    """The float model with each weight replaced by what the 8-bit model makes of it."""
    replaced = onnx.ModelProto()
    replaced.CopyFrom(m)
    found = {w.name: w.params for w in interop.report(m, small).weights if w.params}
    for g in graphs(replaced.graph):
        tensors = [(t.name, t) for t in g.initializer]
        tensors += [(n.output[0], n.attribute[0].t) for n in g.node if n.op_type == "Constant"]
        for name, t in tensors:
            if name in found:
                w = zp.fake_quantize(numpy_helper.to_array(t), found.pop(name))
                t.CopyFrom(numpy_helper.from_array(w, t.name))
    assert not found
    return replaced


def real_feeds() -> Any:
    rng = np.random.default_rng(0)
    yield *MAGIKA, {"bytes": rng.integers(0, 257, (4, 2048)).astype(np.int32)}
    for rate, samples in ((16000, 576), (8000, 288)):
        x = rng.normal(0, 0.1, (1, samples)).astype(np.float32)
        state = np.zeros((2, 1, 128), np.float32)
        yield *SILERO, {"input": x, "state": state, "sr": np.array(rate)}


@pytest.mark.parametrize(("package", "path", "feed"), [*real_feeds()])
def test_real_models_compute_with_exactly_the_dequantized_weights(package, path, feed):
    m = onnx.load(packaged(package, path))
    small = interop.quantize_weights(m)
    expected = runtime(faked(m, small)).run(None, feed)
    for once, tolerance in ((True, 0), (False, 1e-3)):  # False: other kernels
        for y, right in zip(runtime(small, once=once).run(None, feed), expected, strict=True):
            np.testing.assert_allclose(y, right, rtol=0, atol=tolerance)
    float_outputs = runtime(m).run(None, feed)
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(float_outputs, expected, strict=True))


def test_the_codes_of_the_runtimes_own_quantizer(tmp_path):
    """Where both have one symmetric scale a channel; its Conv has one a tensor, and loses 5 dB."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = packaged(*MAGIKA)
    quantize_dynamic(path, tmp_path / "q.onnx", per_channel=True, weight_type=QuantType.QInt8)
    theirs = constants(onnx.load(tmp_path / "q.onnx"))
    ours = {w.name: w for w in interop.report(path, interop.quantize_weights(path)).weights}
    weights = constants(onnx.load(path))
    same = 0
    for name, row in ours.items():
        if f"{name}_quantized" not in theirs:
            assert row.params is None
            continue
        codes, scale = theirs[f"{name}_quantized"], theirs[f"{name}_scale"]
        if scale.size > 1:
            assert bits(scale) == bits(row.params.scale)
            assert bits(codes) == bits(row.params.quantize(weights[name]))
            same += 1
        else:
            whole = zp.QuantParams(scale.item(), 0, "int8", convention="onnx")
            assert bits(codes) == bits(whole.quantize(weights[name]))
            assert row.stats.sqnr_db > zp.error_stats(weights[name], whole).sqnr_db + 5
    assert same == 2
