"""Which convention an engine has, asked of the engines themselves by `zeropoint.probe`.

    python -m bench.engines             print the table of docs/conventions.md
    python -m bench.engines --update    put it between its markers, ``<!-- engines:begin -->``

A recipe is a function of parameters that gives the quantizer of an engine, `function(x) -> codes`.
What a probe cannot know is written here: what was compared in tests/parity, and how much of it.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import zeropoint as zp
from zeropoint._recipes import CATALOGUE
from zeropoint.testing import KINDS

from . import report
from .machine import ROOT
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
    """Codes from its values, which are multiples of the scale, rounded once."""
    torch = module("torch")
    s, z, ends = params.scale, params.zero_point, (params.qmin, params.qmax)

    def codes(y: Any, s: Any, z: Any) -> Array:
        return np.asarray(np.rint(y.numpy() / s) + z).astype(params.dtype)

    def per_tensor(x: Array) -> Array:
        y = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), float(s), z, *ends)
        return codes(y, s, z)

    def per_channel(x: Array) -> Array:
        numbers = torch.tensor(s), torch.tensor(z), params.axis
        y = torch.fake_quantize_per_channel_affine(torch.from_numpy(x), *numbers, *ends)
        return codes(y, *(np.expand_dims(each, 1 - params.axis) for each in (s, z)))

    return per_tensor if params.axis is None else per_channel


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


def litert_tensor(name: str, dtype: str, shape: tuple[int, ...], quantization: Any = None) -> Any:
    schema = module("ai_edge_litert.schema_py_generated")
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.quantization = name, list(shape), quantization
    tensor.type = getattr(schema.TensorType, dtype.upper())
    tensor.buffer = 0  # the empty one: not a constant
    return tensor


def litert_quantization(scale: Any, zero_point: Any, axis: int = 0) -> Any:
    numbers = module("ai_edge_litert.schema_py_generated").QuantizationParametersT()
    numbers.scale = np.atleast_1d(scale).tolist()
    numbers.zeroPoint = np.atleast_1d(zero_point).tolist()
    numbers.quantizedDimension = axis
    return numbers


def litert_model(
    operator: str, code: str, shape: tuple[int, ...], scale: Any, zero_point: Any, axis: int
) -> bytes:
    """A model of one QUANTIZE or DEQUANTIZE."""
    numbers = litert_quantization(scale, zero_point, axis)
    tensors = [litert_tensor("x", "float32", shape), litert_tensor("q", code, shape, numbers)]
    return litert_chains(operator, [tensors[:: -1 if operator == "DEQUANTIZE" else 1]])


def litert_chains(operator: str, pairs: Sequence[Sequence[Any]]) -> bytes:
    """A model of one operator for each pair of tensors, from the first to the second."""
    schema, flatbuffers = module("ai_edge_litert.schema_py_generated"), module("flatbuffers")
    graph = schema.SubGraphT()
    graph.tensors = [tensor for pair in pairs for tensor in pair]
    graph.inputs, graph.outputs = [[*range(i, 2 * len(pairs), 2)] for i in (0, 1)]
    graph.operators = []
    for i in graph.inputs:
        call = schema.OperatorT()
        call.opcodeIndex, call.inputs, call.outputs = 0, [i], [i + 1]
        graph.operators.append(call)
    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode = getattr(schema.BuiltinOperator, operator)
    operator_code.deprecatedBuiltinCode = operator_code.builtinCode
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


# ---------------------------------------------------------------------------------------------
# The table

#: scale, and zero point counted from the first code: by these all conventions differ
NUMBERS = ((0.1, 13), (1.96185386, 200))
INT8, BOTH = ("int8",), ("uint8", "int8")


class Engine(NamedTuple):
    title: str  #: you run
    beside: str  #: with what zeropoint is compared in tests/parity
    compared: str  #: how much, each backend; there is no difference
    recipe: Callable[[Any], Quantizer] | None = None  #: None where no probe can call it
    convention: str = "torch"  #: of the parameters that it gets; what it has where it has no recipe
    axes: tuple[int | None, ...] = (None,)
    dtypes: tuple[str, ...] = BOTH
    alias: str = ""  #: or the function of zeropoint


class Answer(NamedTuple):
    """What the probes of an engine say."""

    convention: str
    mistakes: tuple[str, ...]  #: names of those that all probes see
    asked: int
    others: dict[str, int]  #: codes that are not the convention's, by kind

    def cells(self, alias: str) -> tuple[str, str]:
        name = f"`{self.convention}`{f' ({alias})' if alias else ''}"
        if self.mistakes:
            name += f", but {' and '.join(self.mistakes)}"
        kinds = ", ".join(f"{kind} {self.others[kind]}" for kind in KINDS if kind in self.others)
        count = f"{sum(self.others.values()):,} of {self.asked:,}: {kinds}"
        return name, count if kinds else f"none of {self.asked:,}"


ENGINES = (
    Engine(
        "NumPy written by hand",
        "the code of the tutorial",
        "property tests over arrays, ranges, both rules",
        numpy,
    ),
    Engine(
        "ONNX Runtime, ONNX `QuantizeLinear`",
        "ONNX Runtime 1.32: per tensor, axis, blocks, NaN and Inf; float16",
        "1,313,280 per dtype (float32), 4,190,340 per dtype (float16)",
        onnxruntime,
        axes=(None, 0, 1),
    ),
    Engine(
        "ONNX Runtime `DynamicQuantizeLinear`",
        "ONNX Runtime 1.32",
        "1,886,927 codes, 10,096 scales and zero points",
        convention="onnx",
        alias="`quantize_dynamic`",
    ),
    Engine(
        "torch `fake_quantize_per_tensor_affine`",
        "torch 2.13, 7 ranges, float32, float16, bfloat16",
        "875,520 per range",
        torch_fake_quantize,
    ),
    Engine(
        "torch's PT2E, torchao: `quantized_decomposed.quantize_per_tensor`",
        "",
        "",
        torch_pt2e,
    ),
    Engine(
        "torch `fake_quantize_per_channel_affine`",
        "torch 2.13, 7 ranges x 3 axes x 3 dtypes",
        "145,920 each",
        torch_fake_quantize,
        axes=(0, 1),
    ),
    Engine("torch `quantize_per_tensor`, deprecated", "", "", torch_deprecated),
    Engine(
        "torch `MinMaxObserver`, `PerChannelMinMaxObserver`",
        "torch 2.13",
        "8,096 and 1,200 each",
        alias="`choose_params`",
    ),
    Engine(
        "LiteRT `QUANTIZE`, default kernels: XNNPACK",
        "LiteRT 2.3",
        "1,313,280 per dtype",
        partial(litert, kernels="AUTO"),
        alias="`litert`",
    ),
    Engine(
        "LiteRT `QUANTIZE`, default kernels without a delegate",
        "LiteRT 2.3",
        "1,313,280 per dtype, within 2^30 steps",
        partial(litert, kernels="BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
        alias="`litert`",
    ),
    Engine(
        "LiteRT `QUANTIZE`, reference kernels",
        "LiteRT 2.3",
        "1,313,280 per dtype, within 2^30 steps",
        partial(litert, kernels="BUILTIN_REF"),
        alias="`litert_reference`",
    ),
    Engine(
        "LiteRT `QUANTIZE`, **per channel**, any kernels",
        "LiteRT 2.3",
        "48,640 per dtype and axis, within 2^30 steps",
        partial(litert, kernels="AUTO"),
        axes=(0, 1),
        alias="`litert_reference`",
    ),
    Engine(
        "llama.cpp's Q8_0, `gguf.quants`",
        "gguf 0.19: half steps, real weights, every float16",
        "9,606,432 elements in blocks",
        convention="ggml",
        alias="`interop.gguf`",
    ),
    Engine(
        "compressed-tensors, W8A8 and W8A16, in float32",
        "compressed-tensors 0.20, at its own scales (`--scale-divisor 127.5`) and ours",
        "9,371,648 in each scheme",
        compressed_tensors,
        dtypes=INT8,
        alias="`files.quantize_checkpoint`",
    ),
    Engine(
        "ComfyUI `int8_tensorwise`",
        "its formula, and comfy-kitchen 0.2.40 for float32",
        "138,752",
        convention="numpy",
        alias="`files.quantize_checkpoint`",
    ),
    Engine(
        "TFLite's `ChooseQuantizationParams`",
        "its formula, written again in float64",
        "3,048 ranges each",
        convention="tflite",
        alias="`choose_params`",
    ),
    Engine(
        "xarray, netCDF4; h5netcdf, Zarr and Dask through xarray",
        "xarray 2026.9, netCDF4 1.7.5: encode and decode, with a fill value and without, float32 "
        "and float64",
        "more than 1,000,000 codes and values",
        xarray,
        "cf",
        alias="`zeropoint.xarray`",
    ),
    Engine(
        "faiss, QT_8bit and QT_8bit_uniform, 1 to 385 dimensions",
        "faiss-cpu 1.15: half steps, all codes, every way of training",
        "4,370,000 codes, 4,650,000 values, 2,480 trained vectors",
        faiss,
        "faiss",
        (None, 1),
        ("uint8",),
        "`zeropoint.embeddings`",
    ),
    Engine(
        "sentence-transformers, int8 and uint8",
        "sentence-transformers 6.2: float16, float32, float64",
        "16,200,000 codes",
        sentence_transformers,
        "sentence-transformers",
        (1,),
        alias="`zeropoint.embeddings`",
    ),
)


def ask(engine: Engine) -> Answer:
    """Its convention, by probes of all parameters; ImportError where it is not installed."""
    assert engine.recipe is not None
    probes = []
    for params in _params(engine):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probes.append(zp.probe(engine.recipe(params), params))
    conventions = {found.best.convention for found in probes}
    if len(conventions) > 1:
        raise ValueError(f"{engine.title} has several conventions: {', '.join(conventions)}")
    common = set.intersection(*({*found.best.mistakes} for found in probes))
    others: dict[str, int] = {}
    for found in probes:
        for each in found.differences:
            others[each.kind] = others.get(each.kind, 0) + each.count
    return Answer(
        conventions.pop(),
        tuple(sorted(mistake.name for mistake in CATALOGUE if mistake.key in common)),
        sum(found.size for found in probes),
        others,
    )


def _params(engine: Engine) -> Iterator[Any]:
    numbers = np.array(NUMBERS, np.float32)
    for dtype in engine.dtypes:
        for axis in engine.axes:
            for scale, zero in numbers if axis is None else [numbers.T]:
                yield _made(engine.convention, dtype, axis, scale, zero)


def _made(convention: str, dtype: str, axis: int | None, scale: Any, zero: Any) -> Any:
    if convention in zp.CONVENTIONS:
        codes = np.iinfo(dtype).min + zero.astype(np.int32)
        return zp.QuantParams(scale, codes, dtype, axis=axis, convention=convention)
    offset = -scale * zero
    if convention == "cf":
        return zp.OffsetParams(scale, offset, dtype, axis=axis)
    span = (offset + 255 * scale) - offset  # which a tool gets back from both ends of the range
    return zp.OffsetParams(None, offset, dtype, span=span, axis=axis, convention=convention)


def table(engines: Sequence[Engine] = ENGINES) -> str:
    """Markdown."""
    titles = (
        *("you run", "convention", "other codes, of those probed"),
        *("compared with", "how much, each backend"),
    )
    rows = [titles, ["---"] * len(titles)]
    for engine in engines:
        cells = (f"`{engine.convention}` ({engine.alias})", "")
        if engine.recipe:
            cells = ask(engine).cells(engine.alias)
        rows.append((engine.title, *cells, engine.beside, engine.compared))
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return text.replace("|  |", "| |").replace("|  |", "| |").replace(" --- ", "---")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=__doc__)
    parser.add_argument("--update", action="store_true", help="rewrite docs/conventions.md")
    options = parser.parse_args(arguments)
    return report.put(table(), ROOT / "docs/conventions.md" if options.update else None, "engines")


if __name__ == "__main__":
    raise SystemExit(main())
