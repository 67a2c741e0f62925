"""zeropoint.interop.litert on four real int8 models, beside LiteRT's own operators.

The models are the wake words of pymicro-wakeword: they keep a state from step to step, take int8
and give uint8, and have per-channel weights.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _checks
from zeropoint.interop import litert

flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter

from bench import engines  # noqa: E402

from .exact import half_steps  # noqa: E402
from .parity import data  # noqa: E402
from .parity import test_litert as engine  # noqa: E402

MODELS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
SCALE = np.float32(26 / 255)  #: of every model's input


@pytest.fixture(params=MODELS)
def content(request: pytest.FixtureRequest) -> bytes:
    return model(request.param)


def model(name: str) -> bytes:
    try:  # the file alone: importing the package loads an engine of its own
        package = metadata.distribution("pymicro-wakeword")
    except metadata.PackageNotFoundError:
        pytest.skip("needs pymicro-wakeword: pip install '.[parity]'")
    return Path(package.locate_file(f"pymicro_wakeword/models/{name}.tflite")).read_bytes()


def opened(content: bytes) -> Any:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def spectrogram() -> data.Array:
    """400 inputs [1, 3, 40]: made-up voices that the models respond to, most values at a tie.

    Three of four values are moved to the nearest half step or a float neighbour of it.
    """
    band, frames = np.arange(40), []
    for seed in (1440, 752, 113, 1407):  # found by trying: each is one model's word, or near it
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 2, (300, 40))
        loud = 18 * (np.sin(np.arange(300) / 12 + seed) > -0.3)[:, None]
        for start in (8, 18, 28):
            centre = start + np.cumsum(rng.normal(0, 0.7, (300, 1)), axis=0)
            x += loud * np.exp(-0.5 * ((band - centre) / 1.7) ** 2)
        frames.append(x)
    x = np.concatenate(frames)
    below, half, above = np.split(half_steps(np.floor(x / SCALE), SCALE), 3)
    x = np.choose(rng.integers(0, 4, x.shape), [half, below, above, x.astype(np.float32)])
    return x.reshape(-1, 1, 3, 40)


# ---------------------------------------------------------------------------------------------
# Parameters of the real models


def test_inputs_and_outputs(content):
    interpreter = opened(content)
    (given,), (taken,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert litert.params(given) == zp.QuantParams(
        given["quantization_parameters"]["scales"][0], -128, "int8", convention="litert"
    )
    assert litert.params(given).scale == SCALE
    assert litert.params(taken) == zp.QuantParams(1 / 256, 0, "uint8", convention="litert")


def test_input_codes_are_those_of_quantize(content, backend):
    """Bit for bit LiteRT's QUANTIZE with the same scale and zero point, default kernels."""
    p = litert.params(opened(content).get_input_details()[0])
    x = spectrogram()
    assert (x > p.dequantize(np.int8([127]))).any()  # some saturate
    theirs = engine.run("QUANTIZE", "default kernels", "int8", x, p.scale, p.zero_point)
    np.testing.assert_array_equal(zp.quantize(x, p), theirs)


def test_reference_kernels_are_the_other_convention(content):
    detail = opened(content).get_input_details()[0]
    p = litert.params(detail, convention="litert_reference")
    x = spectrogram()
    theirs = engine.run("QUANTIZE", "reference kernels", "int8", x, p.scale, p.zero_point)
    np.testing.assert_array_equal(zp.quantize(x, p), theirs)
    assert (zp.quantize(x, litert.params(detail)) != theirs).any()


def test_outputs_are_those_of_dequantize(content, backend):
    p = litert.params(opened(content).get_output_details()[0])
    codes = data.all_codes("uint8")
    theirs = engine.run("DEQUANTIZE", "default kernels", "uint8", codes, p.scale, p.zero_point)
    np.testing.assert_array_equal(zp.dequantize(codes, p), theirs)


def test_every_tensor_of_the_model(content):
    """8-bit tensors with scales have parameters; all others say why they have none."""
    per_tensor = per_channel = refused = 0
    for detail in opened(content).get_tensor_details():
        found = detail["quantization_parameters"]
        if detail["dtype"] not in (np.uint8, np.int8):
            with pytest.raises(ValueError, match="only uint8 and int8 tensors are supported"):
                litert.params(detail)
            refused += 1
            continue
        p = litert.params(detail)
        np.testing.assert_array_equal(p.scale, found["scales"].squeeze())
        np.testing.assert_array_equal(p.zero_point, found["zero_points"].squeeze())
        assert p.dtype == detail["dtype"]
        if p.axis is None:
            assert p.convention == "torch"
            per_tensor += 1
        else:
            assert p.convention == "tflite"
            assert p.axis == found["quantized_dimension"]
            per_channel += 1
    assert min(per_tensor, per_channel, refused) >= 8


@pytest.mark.parametrize("kernels", engine.KERNELS)
def test_weights_per_channel(kernels):
    """The bits of DEQUANTIZE, and of QUANTIZE whichever the kernels."""
    interpreter = opened(model("okay_nabu"))
    axes, differs = set(), False
    for detail in interpreter.get_tensor_details():
        if detail["dtype"] is not np.int8 or detail["quantization_parameters"]["scales"].size < 2:
            continue
        p = litert.params(detail)
        how = kernels, "int8"
        axes.add(p.axis)
        codes = interpreter.get_tensor(detail["index"])
        x = zp.dequantize(codes, p)
        theirs = engine.run("DEQUANTIZE", *how, codes, p.scale, p.zero_point, p.axis)
        np.testing.assert_array_equal(x, theirs)
        scale = p.scale.reshape([-1 if i == p.axis else 1 for i in range(codes.ndim)])
        x = (x + scale / 2).astype(np.float32)  # the half steps, as nearly as float32 has them
        theirs = engine.run("QUANTIZE", *how, x, p.scale, p.zero_point, p.axis)
        np.testing.assert_array_equal(zp.quantize(x, p), theirs)
        differs |= (zp.quantize(x, litert.params(detail, convention="litert")) != theirs).any()
    assert axes == {0, 3}
    assert differs  # so the convention of per-channel tensors matters


# ---------------------------------------------------------------------------------------------
# What has no parameters


def detail(dtype: Any = np.int8, shape: tuple[int, ...] = (2, 3), **found: Any) -> dict[str, Any]:
    """An entry as `get_tensor_details` gives it, for tensors that no real model has."""
    quantization = {
        "scales": np.array([0.5], np.float32),
        "zero_points": np.array([3], np.int32),
        "quantized_dimension": 0,
        "block_size": 0,
    }
    return {
        "name": "x",
        "index": 7,
        "shape": np.array(shape, np.int32),
        "dtype": dtype,
        "quantization_parameters": {**quantization, **found},
    }


def array(*values: float) -> data.Array:
    return np.array(values, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int32, np.object_])
def test_other_dtypes(dtype):
    with pytest.raises(ValueError, match=r"tensor 'x' is (float32|int16|int32|object): only uint8"):
        litert.params(detail(dtype))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"scales": array()}, "'x' is int8 without scales: these are plain integers"),
        ({"block_size": 32, "scales": np.ones(4, np.float16)}, "'x' is quantized in blocks of 32"),
        ({"scales": array(1, 1, 1)}, r"'x' has 3 scales along dimension 0, .* shape \(2, 3\)"),
        ({"scales": array(1, 1), "quantized_dimension": 2}, "2 scales along dimension 2"),
        ({"scales": array(1, 1, 1), "quantized_dimension": -1}, "3 scales along dimension -1"),
        ({"scales": array(0)}, "tensor 'x': scale is 0.0: a scale must be finite and > 0"),
        ({"scales": array(1, np.inf)}, "tensor 'x': scale of channel 1 is inf"),
        ({"scales": array(1, 1), "zero_points": np.int32([1, 2, 3])}, "tensor 'x': zero_point has"),
        ({"zero_points": np.int32([])}, "tensor 'x': zero_point has shape"),
        ({"zero_points": np.int32([200])}, "tensor 'x': zero_point 200 is outside"),
    ],
)
def test_damaged(found, message):
    with pytest.raises(ValueError, match=message):
        litert.params(detail(**found))


def test_what_is_no_entry():
    with pytest.raises(TypeError, match=r"not list; for example .*get_input_details\(\)\[0\]"):
        litert.params([detail()])
    whole = detail()
    for key in ("name", "dtype", "shape", "quantization_parameters"):
        with pytest.raises(
            ValueError, match=f"detail has no .*{key}.*; pass an entry of get_input"
        ):
            litert.params({k: v for k, v in whole.items() if k != key})
    for key in ("scales", "zero_points", "quantized_dimension"):
        found = {k: v for k, v in whole["quantization_parameters"].items() if k != key}
        with pytest.raises(ValueError, match=f"detail has no {key}; pass"):
            litert.params({**whole, "quantization_parameters": found})


class Anything:
    """What NumPy makes nothing of."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array")

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


ODD = [
    None,
    "3",
    b"3",
    2.5,
    [[1], [2, 3]],
    [None],
    ["a"],
    [1.5 + 2j],
    {},
    np.ones((2, 2)),
    Anything(),
]
INTEGERS = ("shape", "zero_points")  #: 1-D arrays of them


def changed(field: str, value: Any) -> dict[str, Any]:
    """A detail with one field of another value."""
    whole = detail()
    where = whole if field in whole else whole["quantization_parameters"]
    where[field] = value
    return whole


class Stub:
    """An interpreter of one input."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def get_input_details(self) -> list[Any]:
        return [self.given]

    def get_output_details(self) -> list[Any]:
        return []


def refusals(given: Any) -> list[Exception]:
    """What `params` and `Runner` say of it."""
    found = []
    for call in (litert.params, lambda given: litert.Runner(Stub(given))):
        try:
            call(given)
        except (TypeError, ValueError) as error:
            found.append(error)
    return found


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("scales", ODD),
        *((field, [*ODD, [1.0]]) for field in INTEGERS),
        ("quantized_dimension", [*ODD, [0], True]),
        ("block_size", [*ODD[1:], [32], np.array([32]), np.int32([32, 32]), True]),
        ("dtype", [None, "no dtype", 3, Anything()]),
    ],
)
def test_a_field_of_another_type(field, values):
    """The error names the tensor, the field and its value, and says what to pass."""
    for value in values:
        refused = refusals(changed(field, value))
        assert [type(error) for error in refused] == [TypeError, TypeError], value
        for error in map(str, refused):
            assert error.startswith("tensor 'x'"), error
            assert f" {field} " in error
            assert _checks.shown(value) in error or type(value) is np.ndarray, error
            assert "pass an entry of get_input_details(), " in error or "or pass an" in error


@pytest.mark.parametrize("value", [*ODD, True, [7], np.array([7])])
def test_an_index_that_is_none(value):
    assert litert.params(changed("index", value)) == litert.params(detail())  # no part of them
    with pytest.raises(TypeError, match=r"tensor 'x': index must be an integer, not .*; pass"):
        litert.Runner(Stub(changed("index", value)))


def test_values_that_no_interpreter_gives():
    with pytest.raises(ValueError, match="tensor 'x' has index -1, which must be >= 0; pass an"):
        litert.Runner(Stub(changed("index", -1)))
    for error in refusals(changed("shape", [-2, 3])):
        assert isinstance(error, ValueError)
        assert r"tensor 'x' has a length < 0 in its shape (-2, 3); pass an entry" in str(error)
    given = detail()
    del given["index"]
    with pytest.raises(ValueError, match="detail has no index; pass an entry of get_input_details"):
        litert.Runner(Stub(given))
    for interpreter in (None, "model.tflite"):
        with pytest.raises(TypeError, match="must be an Interpreter of LiteRT, not .* it has no"):
            litert.Runner(interpreter)


def test_blocks_without_scales():
    """Nothing but block_size says that such codes are no plain integers."""
    given = detail(scales=array(), zero_points=np.int32([]), block_size=32)
    refused = refusals(given)
    assert [type(error) for error in refused] == [ValueError, ValueError]
    for error in refused:
        assert str(error).startswith("tensor 'x' is quantized in blocks of 32; only scales")
    given["quantization_parameters"]["block_size"] = 0
    assert str(refusals(given)[0]) == "tensor 'x' is int8 without scales: these are plain integers"
    assert len(refusals(given)) == 1  # a runner passes these on as they are


@pytest.mark.parametrize("count", [4, 0])
def test_blocks_of_a_real_interpreter(count):
    """A tensor in blocks, as input and output; its scales lie in a tensor of their own."""
    quantization, details = schema.QuantizationParametersT(), schema.BlockwiseQuantizationT()
    details.scales, details.zeroPoints, details.blockSize = 1, 2, 4
    quantization.details, quantization.quantizedDimension = details, 1
    quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    graph, whole = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [
        engines.litert_tensor("w", "int8", (2, 8), quantization),
        engines.litert_tensor("scales", "float32", (count,)),
        engines.litert_tensor("zeros", "int8", (count,)),
    ]
    graph.tensors[1].type = schema.TensorType.FLOAT16
    graph.inputs, graph.outputs, graph.operators, whole.operatorCodes = [], [0], [], []
    whole.version, whole.subgraphs, whole.buffers = 3, [graph], [schema.BufferT()]
    interpreter = Interpreter(model_content=packed(whole))
    (given,) = interpreter.get_output_details()
    found = given["quantization_parameters"]
    assert (found["block_size"], found["scales"].size) == (4, count)
    for call in (lambda: litert.params(given), lambda: litert.Runner(interpreter)):
        with pytest.raises(
            ValueError, match="tensor 'w' is quantized in blocks of 4; only scales per"
        ):
            call()


def test_inputs_of_one_name():
    """By name, one value would go to both."""
    stub = Stub(detail())
    stub.get_input_details = lambda: [detail(), detail()]  # type: ignore[method-assign]
    run = litert.Runner(stub)
    with pytest.raises(
        TypeError, match=r"\['x', 'x'\]: names occur twice, so pass all by position"
    ):
        run(x=np.zeros((2, 3), np.float32))


def test_interpreters_without_block_size():
    given = detail()
    del given["quantization_parameters"]["block_size"]
    assert litert.params(given) == zp.QuantParams(0.5, 3, "int8", convention="litert")


def test_compressed_zero_points():
    """An option of the interpreter makes one of many equal zero points."""
    content = engines.litert_model("QUANTIZE", "int8", (2, 8), [0.5, 0.25], [3, 3], 0)
    interpreter = Interpreter(
        model_content=content, experimental_compress_quantization_zero_points=True
    )
    given = interpreter.get_output_details()[0]
    assert given["quantization_parameters"]["zero_points"].size == 1
    p = zp.QuantParams([0.5, 0.25], [3, 3], "int8", axis=0, convention="litert_reference")
    assert litert.params(given) == p


# ---------------------------------------------------------------------------------------------
# A whole model


def with_real_ends(content: bytes, source: zp.QuantParams | None = None) -> bytes:
    """The same model with QUANTIZE before it and DEQUANTIZE behind it, as a converter adds them.

    It takes codes of `source` if that is given.
    """
    whole = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = whole.subgraphs[0]

    def operator(name: str, source: int, target: int) -> Any:
        code, call = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 2  # the first that knows int8
        call.opcodeIndex, call.inputs, call.outputs = len(whole.operatorCodes), [source], [target]
        whole.operatorCodes.append(code)
        return call

    (given,), (taken,), n = graph.inputs, graph.outputs, len(graph.tensors)
    for i in (given, taken):
        graph.tensors.append(
            engines.litert_tensor(f"real {i}", "float32", tuple(graph.tensors[i].shape))
        )
    if source is not None:
        graph.tensors[n].quantization = scaled(float(source.scale), source.zero_point)
        graph.tensors[n].type = getattr(schema.TensorType, source.dtype.name.upper())
    before, behind = operator("QUANTIZE", n, given), operator("DEQUANTIZE", taken, n + 1)
    graph.operators = [before, *graph.operators, behind]
    graph.inputs, graph.outputs, whole.signatureDefs = [n], [n + 1], []
    return packed(whole)


def scaled(scale: float, zero_point: int) -> Any:
    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint = [scale], [zero_point]
    return made


def packed(whole: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_runner_equals_litert_itself(content, backend):
    """Beside the same model with LiteRT's own QUANTIZE and DEQUANTIZE in it, over many steps."""
    run, theirs = litert.Runner(opened(content)), opened(with_real_ends(content))
    given, taken = theirs.get_input_details()[0], theirs.get_output_details()[0]
    assert given["dtype"] == taken["dtype"] == np.float32
    seen = []
    for x in spectrogram():
        theirs.set_tensor(given["index"], x)
        theirs.invoke()
        (y,) = run(x)
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, theirs.get_tensor(taken["index"]))
        seen.append(float(y[0, 0]))
    assert max(seen) > 0.1  # the model heard something


def test_runner_equals_the_steps_by_hand(content):
    by_hand = opened(content)
    given, taken = by_hand.get_input_details()[0], by_hand.get_output_details()[0]
    p, r = litert.params(given), litert.params(taken)
    run = litert.Runner(opened(content))
    for x in spectrogram()[:50]:
        by_hand.set_tensor(given["index"], zp.quantize(x, p))
        by_hand.invoke()
        y = zp.dequantize(by_hand.get_tensor(taken["index"]), r)
        np.testing.assert_array_equal(run(x)[0], y)


def test_runner_keeps_the_state():
    """One made midway goes on where the interpreter stands."""
    content = model("hey_mycroft")
    x = spectrogram()[200:250]
    once = litert.Runner(opened(content))
    expected = np.array([once(step)[0] for step in x])
    interpreter = opened(content)
    found = [litert.Runner(interpreter)(step)[0] for step in x]
    np.testing.assert_array_equal(found, expected)
    fresh = [litert.Runner(opened(content))(step)[0] for step in x]
    assert (np.array(fresh) != expected).any()


def two_by_two() -> bytes:
    """Inputs "codes" (int8) and "real" (float32); outputs "back" (float32) and "q" (uint8)."""
    graph, whole = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [
        engines.litert_tensor("codes", "int8", (2, 3), scaled(0.1, -5)),
        engines.litert_tensor("real", "float32", (4,)),
        engines.litert_tensor("back", "float32", (2, 3)),
        engines.litert_tensor("q", "uint8", (4,), scaled(0.3, 100)),
    ]
    graph.inputs, graph.outputs, graph.operators, whole.operatorCodes = [0, 1], [2, 3], [], []
    for i, name in enumerate(("DEQUANTIZE", "QUANTIZE")):
        code, call = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 2
        whole.operatorCodes.append(code)
        call.opcodeIndex, call.inputs, call.outputs = i, [i], [i + 2]
        graph.operators.append(call)
    whole.version, whole.subgraphs, whole.buffers = 3, [graph], [schema.BufferT()]
    return packed(whole)


A = np.linspace(-20, 20, 6, dtype=np.float32).reshape(2, 3)
B = np.linspace(-40, 60, 4, dtype=np.float32)


@pytest.mark.parametrize(
    "call",
    [
        lambda run: run(A, B),
        lambda run: run(A, real=B),
        lambda run: run(real=B, codes=A),
        lambda run: run(A.astype(">f4"), real=B),
        lambda run: run(A.tolist(), B),
    ],
)
def test_several_inputs_and_outputs(call):
    """By position and by name; what is float in the model passes as it is."""
    back, q = call(litert.Runner(opened(two_by_two())))
    codes = zp.QuantParams(0.1, -5, "int8", convention="litert")
    np.testing.assert_array_equal(back, codes.fake_quantize(A))
    p = zp.QuantParams(0.3, 100, "uint8", convention="litert")
    np.testing.assert_array_equal(q, p.fake_quantize(B))
    assert back.dtype == q.dtype == np.float32


@pytest.mark.parametrize(
    "call",
    [
        lambda run: run(A),
        lambda run: run(A, B, A),
        lambda run: run(A, B, real=B),
        lambda run: run(A, codes=A),
        lambda run: run(codes=A),
        lambda run: run(A, other=B),
    ],
)
def test_inputs_that_do_not_fit_the_model(call):
    run = litert.Runner(opened(two_by_two()))
    with pytest.raises(TypeError, match=r"inputs are \['codes', 'real'\], each needed once; given"):
        call(run)


def test_bad_values():
    interpreter = opened(two_by_two())
    run = litert.Runner(interpreter)
    expected = run(A, B)
    with pytest.raises(TypeError, match="input 'codes': x has dtype int8"):
        run(A.astype(np.int8), -B)
    with pytest.raises(ValueError, match=r"codes.: it has shape \(3, 2\) where \(2, 3\) is"):
        run(A.T, B)
    with pytest.raises(ValueError, match="FLOAT64 but expected type FLOAT32"):
        run(A, B.astype(np.float64))
    interpreter.invoke()  # nothing was set by what was refused before LiteRT saw it
    np.testing.assert_array_equal(interpreter.get_tensor(2), expected[0])


def test_interpreter_that_is_not_allocated():
    run = litert.Runner(Interpreter(model_content=two_by_two()))
    with pytest.raises(ValueError, match="allocate_tensors"):
        run(A, B)


def test_codes_that_are_not_8_bit():
    """int16 activations would come out as codes that look like values."""
    content = engines.litert_model("QUANTIZE", "int8", (4,), 0.5, 0, 0)
    whole = schema.ModelT.InitFromPackedBuf(content, 0)
    whole.subgraphs[0].tensors[1].type = schema.TensorType.INT16
    with pytest.raises(ValueError, match="tensor 'q' is int16"):
        litert.Runner(Interpreter(model_content=packed(whole)))


def test_convention_of_the_runner():
    x = np.float32([[0.25]])  # half a step: to even it is 0, away from 0 it is 1
    content = engines.litert_model("DEQUANTIZE", "int8", (1, 1), 0.5, 0, 0)
    assert litert.Runner(opened(content))(x)[0] == 0
    assert litert.Runner(opened(content), convention="litert_reference")(x)[0] == 0.5


# ---------------------------------------------------------------------------------------------
# Codes and pixels in, results into arrays that are given


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("scale", [SCALE, 0.07, 0.25])
def test_codes_of_other_parameters_equal_litert_itself(dtype, scale):
    """Beside the same model with LiteRT's own QUANTIZE from codes to codes in it."""
    source = zp.QuantParams(scale, np.iinfo(dtype).min + 3, dtype)
    content = model("hey_jarvis")
    theirs = opened(with_real_ends(content, source))
    run = litert.Runner(opened(content), sources=[source])
    given, taken = theirs.get_input_details()[0], theirs.get_output_details()[0]
    assert given["dtype"] == np.dtype(dtype)
    for q in source.quantize(spectrogram()[:150]):
        theirs.set_tensor(given["index"], q)
        theirs.invoke()
        np.testing.assert_array_equal(run(q)[0], theirs.get_tensor(taken["index"]))


def image(dequantized: tuple[int, ...] = (1, 4, 5, 3)) -> Any:
    """The interpreter of a model that takes int8 and returns their values."""
    return opened(engines.litert_model("DEQUANTIZE", "int8", dequantized, 0.0187, -14, 0))


def test_a_runner_shows_its_parameters():
    run = litert.Runner(image())
    given = litert.params(image().get_input_details()[0])
    assert repr(run).startswith(f"Runner({{'q': {given}}} -> {{'")


def test_pixels(backend):
    """With the batch and without it, in any memory order, and as a list."""
    interpreter = image()
    p = litert.params(interpreter.get_input_details()[0])
    lookup = zp.image_lookup((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), p)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    for sources in ([lookup], {"q": lookup}):
        run = litert.Runner(interpreter, sources=sources)
        for given in (pixels, pixels[np.newaxis], np.asfortranarray(pixels), pixels[::-1][::-1]):
            (y,) = run(given)
            np.testing.assert_array_equal(y[0], p.dequantize(lookup(pixels)))
    with pytest.raises(TypeError, match="'q': q has dtype float32.*; the source .* takes uint8$"):
        run(pixels.astype(np.float32))
    with pytest.raises(TypeError, match=r"dtype uint8.*; or make .* sources=: for pixels .*lookup"):
        litert.Runner(interpreter)(pixels)
    with pytest.raises(ValueError, match=r"'q': it has shape \(5, 3\) where \(1, 4, 5, 3\) is"):
        run(pixels[0])


def test_a_first_dimension_of_1_may_be_left_out():
    run = litert.Runner(image())
    x = np.linspace(-3, 3, 60, dtype=np.float32).reshape(1, 4, 5, 3)
    for given in (x[0], x[0].tolist(), x.tolist(), x[0].astype(np.float64)):
        np.testing.assert_array_equal(run(given)[0], run(x)[0])


def test_the_reference_kernels_arithmetic():
    """It rounds twice, and so many codes of a quarter of the scale differ."""
    source, q = (
        zp.QuantParams(np.float32(0.0187 / 4), 0, "int8"),
        data.all_codes("int8")[np.newaxis],
    )
    found = []
    for convention, arithmetic in ((None, "litert"), ("litert_reference", "litert_reference")):
        interpreter = image(q.shape)
        run = litert.Runner(interpreter, convention=convention, sources=[source])
        p = litert.params(interpreter.get_input_details()[0])
        codes = zp.rescale(q, source, p, arithmetic=arithmetic)
        found += run(q)
        np.testing.assert_array_equal(found[-1], p.dequantize(codes))
    assert (found[0] != found[1]).sum() > 50


def test_sources_that_do_not_fit():
    interpreter = opened(two_by_two())
    p = litert.params(interpreter.get_input_details()[0])
    for sources, error, message in (
        (p, TypeError, r"sources must be a list .* \['codes', 'real'\], .*, not QuantParams"),
        ("codes", TypeError, "sources must be a list .*, not 'codes'"),
        ([p], ValueError, r"sources must be a list .* \['codes', 'real'\], .*, not \[QuantParams"),
        ({"other": p}, ValueError, r"a dictionary by their names .*, not \{'other': QuantParams"),
        ([None, p], ValueError, "input 'real' is not quantized, so it has no source; pass None"),
        ({"codes": 0.5}, TypeError, "'codes': a source must be None, parameters or a Lookup, not"),
        ({"codes": p.replace(axis=0, scale=[1, 2], block_size=1)}, ValueError, "'codes': .*block"),
        ({"codes": zp.OffsetParams(0.5, 3)}, ValueError, "'codes': .* no real offsets"),
        (
            {"codes": zp.Lookup(np.tanh, p, p.replace(zero_point=0))},
            ValueError,
            "'codes' has QuantParams.*zero_point=-5.* makes codes of .*zero_point=0.*litert.params",
        ),
    ):
        with pytest.raises(error, match=message):
            litert.Runner(interpreter, sources=sources)
    same = zp.Lookup(np.tanh, p, p.replace(convention="numpy"))  # another rule, the same scale
    litert.Runner(interpreter, sources=(same, None))
    twice = Stub(detail())
    twice.get_input_details = lambda: [detail(), detail()]  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match=r"the inputs \['x', 'x'\], or a .* by their names if these"
    ):
        litert.Runner(twice, sources={"x": None})


def test_results_into_given_arrays(backend):
    run = litert.Runner(opened(two_by_two()))
    expected = run(A, B)
    for out in ([np.zeros((2, 3), np.float32), None], (None, np.zeros(8, np.float32)[::2])):
        for _ in range(2):
            found = run(A, real=B, out=out)
            for one, mine, given in zip(expected, found, out, strict=True):
                np.testing.assert_array_equal(mine, one)
                assert given is None or mine is given


def refused_outs() -> list[tuple[Any, type[Exception], str]]:
    good, bad = np.zeros((2, 3), np.float32), np.zeros(4, np.float32)
    bad.flags.writeable = False
    return [
        (good, TypeError, r"out must be a list of an array or None for .* \['back', 'q'\], not"),
        ([good], TypeError, "out must be a list"),
        ([good, bad], ValueError, "output 'q': out is read-only"),
        ([good, [0.0] * 4], TypeError, "output 'q': out must be a NumPy array"),
        ([good, np.zeros(4)], TypeError, "output 'q': out has dtype float64 where native float32"),
        ([good.T, None], ValueError, r"output 'back': out has shape \(3, 2\) where \(2, 3\)"),
        ([good.astype(int), None], TypeError, "output 'back': out has dtype int64"),
    ]


def test_arrays_that_do_not_fit_are_refused_before_anything_is_set():
    """And what is refused, and kept, stops no later call."""
    interpreter = opened(two_by_two())
    run = litert.Runner(interpreter)
    expected = run(A, B)
    run(A, B, out=[np.zeros((2, 3), np.float32), np.zeros(4, np.float32)])
    kept = []
    for out, error, message in refused_outs():
        with pytest.raises(error, match=message) as caught:
            run(-A, -B, out=out)
        kept.append(caught.value)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(2), expected[0])
    np.testing.assert_array_equal(run(A, B)[1], expected[1])


def test_a_tensor_that_is_resized():
    content = engines.litert_model("QUANTIZE", "int8", (1, 3), 0.5, 0, 0)
    back = engines.litert_model("DEQUANTIZE", "int8", (1, 3), 0.5, 0, 0)
    for model in (content, back):
        interpreter = opened(model)
        run = litert.Runner(interpreter)
        y = np.zeros((1, 3), np.float32)
        assert run(np.ones((1, 3), np.float32), out=[y])[0] is y
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (1, 5, 2))
        interpreter.allocate_tensors()
        x, y = np.full((1, 5, 2), 2.5, np.float32), np.zeros((1, 5, 2), np.float32)
        for given in (x, x[0]) if model is back else (x,):
            assert (run(given)[0] == 2.5).all()
            assert (run(given, out=[y])[0] == 2.5).all()
        with pytest.raises(ValueError, match=r"out has shape \(1, 3\) where \(1, 5, 2\) is"):
            run(x, out=[np.zeros((1, 3), np.float32)])


def test_a_batch_that_grows_and_shrinks():
    interpreter = image((1, 4, 4, 3))
    detail = interpreter.get_input_details()[0]
    run = litert.Runner(interpreter, sources=[zp.image_lookup(0.5, 0.25, litert.params(detail))])
    pixels, one = np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32)
    expected = run(pixels, out=[one])[0].copy()
    interpreter.resize_tensor_input(detail["index"], (2, 4, 4, 3))
    interpreter.allocate_tensors()
    with pytest.raises(ValueError, match=r"output '.*out has shape"):  # before the model runs
        run(np.stack([pixels, pixels]), out=[one])
    assert run(np.stack([pixels, pixels]))[0].shape == (2, 4, 4, 3)
    interpreter.resize_tensor_input(detail["index"], (1, 4, 4, 3))
    interpreter.allocate_tensors()
    np.testing.assert_array_equal(run(pixels, out=[one])[0], expected)


def test_a_step_allocates_no_array():
    pixels = image((1, 64, 64, 3))
    p = litert.params(pixels.get_input_details()[0])
    lookup = zp.image_lookup(0.5, 0.25, p)
    large = np.zeros((64, 64, 3), np.uint8)
    for run, given, shape in (
        (litert.Runner(pixels, sources=[lookup]), (large,), (1, 64, 64, 3)),
        (litert.Runner(image((1, 64, 64, 3))), (large[None].astype("f4"),), (1, 64, 64, 3)),
        (litert.Runner(opened(two_by_two())), (A, B), (2, 3)),
    ):
        out = [np.zeros(shape, np.float32), np.zeros(4, np.float32)][: len(given)]
        run(*given, out=out)
        tracemalloc.start()
        try:
            for _ in range(3):
                run(*given, out=out)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(50):
                run(*given, out=out)
            after, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 500
        assert most - before < 2000  # what Python itself needs for a call


def test_needs_no_package():
    code = (
        "import sys, zeropoint.interop.litert; "
        "print([m for m in sys.modules if 'litert' in m or 'tensorflow' in m])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['zeropoint.interop.litert']"
