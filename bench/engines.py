"""Which convention an engine has, asked of the engines themselves by `zeropoint.probe`.

    python -m bench.engines                              print the table of docs/conventions.md
    python -m bench.engines --update docs/conventions.md put it between its markers

A recipe is a function of parameters that gives the quantizer of an engine, `function(x) -> codes`.
What a probe cannot know is written here: what was compared in tests/parity, and how much of it.
"""

from __future__ import annotations

import argparse
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zeropoint as zp
from zeropoint import testing

from . import report
from .systems.base import module

Array = np.ndarray[Any, np.dtype[Any]]
Quantizer = Callable[[Array], Any]


def numpy(params: Any) -> Quantizer:
    """The tutorial's."""
    s, z = params.scale, np.float32(params.zero_point)

    def quantize(x: Array) -> Array:
        q = np.clip(np.round(x / s + z), params.qmin, params.qmax)
        return np.asarray(q.astype(params.dtype))

    return quantize


def onnxruntime(params: Any) -> Quantizer:
    runtime, onnx = module("onnxruntime"), module("onnx")
    code, axis = params.dtype.name, params.axis
    shape, attribute = ("", "") if axis is None else (f"[{params.scale.size}]", f"<axis = {axis}>")
    dims = ", ".join("NM") if axis is not None else "N"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> one (float[{dims}] x, float{shape} s, '
        f"{code}{shape} z) => ({code}[{dims}] q) {{ q = QuantizeLinear {attribute} (x, s, z) }}"
    )
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    numbers = {"s": np.asarray(params.scale), "z": np.asarray(params.zero_point, params.dtype)}
    return lambda x: session.run(None, {"x": x, **numbers})[0]


def torch_fake_quantize(params: Any) -> Quantizer:
    """Codes from values: those are exact multiples of the scale, rounded once."""
    torch = module("torch")
    s, z, ends = params.scale, params.zero_point, (params.qmin, params.qmax)

    def quantize(x: Array) -> Array:
        given = torch.from_numpy(x)
        if params.axis is None:
            y = torch.fake_quantize_per_tensor_affine(given, float(s), z, *ends)
        else:
            numbers = torch.tensor(s), torch.tensor(z)
            y = torch.fake_quantize_per_channel_affine(given, *numbers, params.axis, *ends)
        scale, zero = (
            (np.expand_dims(each, 1 - (params.axis or 0)) for each in (s, z))
            if (params.axis is not None)
            else (s, z)
        )
        return np.asarray(np.rint(y.numpy() / scale) + zero).astype(params.dtype)

    return quantize


def torch_pt2e(params: Any) -> Quantizer:
    """quantized_decomposed.quantize_per_tensor, which PT2E and torchao put into graphs."""
    torch = module("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module("torch.ao.quantization.fx._decomposed")
    call = torch.ops.quantized_decomposed.quantize_per_tensor
    how = float(params.scale), params.zero_point, params.qmin, params.qmax
    kind = getattr(torch, params.dtype.name)
    return lambda x: call(torch.from_numpy(x), *how, kind)


def torch_deprecated(params: Any) -> Quantizer:
    torch = module("torch")
    kind = {"uint8": torch.quint8, "int8": torch.qint8}[params.dtype.name]

    def quantize(x: Array) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = torch.from_numpy(x)
            q = torch.quantize_per_tensor(given, float(params.scale), params.zero_point, kind)
        return q.int_repr()

    return quantize


def litert(params: Any, kernels: str) -> Quantizer:
    """`kernels` is a name of OpResolverType."""
    interpreter = module("ai_edge_litert.interpreter")

    def quantize(x: Array) -> Any:
        axis = params.axis or 0
        content = litert_model(
            "QUANTIZE", params.dtype.name, x.shape, params.scale, params.zero_point, axis
        )
        engine = interpreter.Interpreter(
            model_content=content,
            experimental_op_resolver_type=getattr(interpreter.OpResolverType, kernels),
            num_threads=1,
        )
        engine.allocate_tensors()
        engine.set_tensor(engine.get_input_details()[0]["index"], x)
        engine.invoke()
        return engine.get_tensor(engine.get_output_details()[0]["index"])

    return quantize


def litert_model(
    operator: str, code: str, shape: tuple[int, ...], scale: Any, zero_point: Any, axis: int
) -> bytes:
    """A model of one QUANTIZE or DEQUANTIZE."""
    schema, flatbuffers = module("ai_edge_litert.schema_py_generated"), module("flatbuffers")
    numbers = schema.QuantizationParametersT()
    numbers.scale = np.atleast_1d(scale).tolist()
    numbers.zeroPoint = np.atleast_1d(zero_point).tolist()
    numbers.quantizedDimension = axis
    graph = schema.SubGraphT()
    graph.tensors = []
    for name, kind, quantization in (("x", "float32", None), ("q", code, numbers)):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.quantization = name, list(shape), quantization
        tensor.type = getattr(schema.TensorType, kind.upper())
        tensor.buffer = 0  # the empty one: not a constant
        graph.tensors.append(tensor)
    if operator == "DEQUANTIZE":
        graph.tensors.reverse()
    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode = getattr(schema.BuiltinOperator, operator)
    operator_code.deprecatedBuiltinCode = operator_code.builtinCode
    call = schema.OperatorT()
    call.opcodeIndex, call.inputs, call.outputs = 0, [0], [1]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [call]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [operator_code], [graph]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def compressed_tensors(params: Any) -> Quantizer:
    torch = module("torch")
    quantization = module("compressed_tensors.quantization")
    with_args = module("compressed_tensors.quantization.lifecycle.forward").quantize
    args = quantization.QuantizationArgs(num_bits=8, type="int", symmetric=True)
    numbers = torch.tensor(params.scale), torch.tensor(params.zero_point)
    return lambda x: with_args(torch.from_numpy(x), *numbers, args=args, dtype=torch.int8)


def faiss(params: Any) -> Quantizer:
    faiss = module("faiss")
    uniform = params.axis is None
    kind = faiss.ScalarQuantizer.QT_8bit_uniform if uniform else faiss.ScalarQuantizer.QT_8bit
    low, span = (np.atleast_1d(each) for each in (params.offset, params.span))

    def quantize(x: Array) -> Array:
        codec = faiss.ScalarQuantizer(1 if uniform else x.shape[1], kind)
        faiss.copy_array_to_vector(np.concatenate([low, span]), codec.trained)
        return np.asarray(codec.compute_codes(x.reshape(len(x), -1))).reshape(x.shape)

    return quantize


def sentence_transformers(params: Any) -> Quantizer:
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    quantize = module("sentence_transformers.util.quantization").quantize_embeddings
    ranges = np.stack([params.offset, params.offset + params.span])
    return lambda x: quantize(x, params.dtype.name, ranges=ranges)


def xarray(params: Any) -> Quantizer:
    xarray = module("xarray")

    def quantize(x: Array) -> Array:
        variable = xarray.Variable([f"d{i}" for i in range(x.ndim)], x, encoding=params.to_cf())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(xarray.conventions.encode_cf_variable(variable, name="x").values)

    return quantize
