"""`zeropoint.rescale` beside engines that go from codes to codes.

LiteRT's QUANTIZE of an 8-bit tensor to other parameters, on three sets of kernels, and ONNX
Runtime's pair of DequantizeLinear and QuantizeLinear.  One model holds all pairs of parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import pytest

import zeropoint as zp
from bench.engines import litert_chains, litert_quantization, litert_tensor

from . import data

PAIRS = [(a, b) for a in data.DTYPES for b in data.DTYPES]
#: name: the resolver type of LiteRT, and our arithmetic
KERNELS = {
    "default kernels": ("AUTO", "litert"),
    "default kernels without delegates": ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", "litert"),
    "reference kernels": ("BUILTIN_REF", "litert_reference"),
}


class Pair(NamedTuple):
    scale: np.float32
    zero_point: int
    into: np.float32
    zero_point_into: int

    def params(self, source: str, target: str, convention: str) -> list[zp.QuantParams]:
        return [
            zp.QuantParams(self.scale, self.zero_point, source, convention=convention),
            zp.QuantParams(self.into, self.zero_point_into, target, convention=convention),
        ]


def pairs(source: str, target: str, count: int) -> Iterator[Pair]:
    """Ratios inside and outside of [2**-8, 2**7] and at their ends, of small integers, and equal
    parameters; zero points of any kind, the same, and the same but for the signedness."""
    rng = np.random.default_rng(count)
    (low, high), (low_into, high_into) = data.span(source), data.span(target)
    named = [2.0**-8, 2.0**7, 1.0, 0.5, 2.0, 1 / 3, 1.5, 2.0**-12, 2.0**9]
    for i in range(count):
        scale = np.float32(np.exp(rng.uniform(np.log(1e-5), np.log(1e2))))
        ratio = 2.0 ** rng.uniform(-8, 7)
        if i % 4 == 1:
            ratio = named[i // 4 % len(named)]
        elif i % 8 == 2:
            ratio = 2.0 ** rng.uniform(-40, 30)
        into = np.float32(scale / np.float32(ratio))
        if i % 16 == 5:
            into = np.nextafter(into, np.float32(rng.choice([0, np.inf])))
        zero = int(rng.integers(low, high + 1))
        other = int(rng.integers(low_into, high_into + 1))
        if i % 3 == 0:
            other = zero + (low_into - low if i % 2 else 0)
        yield Pair(scale, zero, into, int(np.clip(other, low_into, high_into)))


def compared(
    theirs: Any, found: list[Pair], source: str, target: str, arithmetic: str, convention: str
) -> data.Tally:
    codes, tally = data.all_codes(source), data.Tally()
    for pair, want in zip(found, theirs, strict=True):
        a, b = pair.params(source, target, convention)
        tally.add(zp.rescale(codes, a, b, arithmetic=arithmetic), want, codes, (a, b))
    return tally


def chosen(theirs: Any, found: list[Pair], which: list[bool]) -> tuple[Any, list[Pair]]:
    return [*compress(theirs, which)], [*compress(found, which)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("kernels", KERNELS)
def test_litert(record, note, kernels, source, target):
    pytest.importorskip("flatbuffers")
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    found = list(pairs(source, target, 252))
    tensors = [
        [
            litert_tensor(f"x{i}", source, (256,), litert_quantization(*pair[:2])),
            litert_tensor(f"y{i}", target, (256,), litert_quantization(*pair[2:])),
        ]
        for i, pair in enumerate(found)
    ]
    resolver, arithmetic = KERNELS[kernels]
    engine = interpreter.Interpreter(
        model_content=litert_chains("QUANTIZE", tensors),
        experimental_op_resolver_type=getattr(interpreter.OpResolverType, resolver),
        num_threads=1,
    )
    engine.allocate_tensors()
    for detail in engine.get_input_details():
        engine.set_tensor(detail["index"], data.all_codes(source))
    engine.invoke()
    theirs = [engine.get_tensor(detail["index"]) for detail in engine.get_output_details()]
    what = f"QUANTIZE {source} to {target}, {kernels}"
    if kernels == "default kernels without delegates" and source == target:
        # for these ratios the delegate has a kernel of its own, which `arithmetic="litert"` is
        inside = [2.0**-8 <= pair.scale / pair.into <= 2.0**7 for pair in found]
        other = compared(*chosen(theirs, found, inside), source, target, arithmetic, "litert")
        assert 0 < other.differences < other.n / 10
        note(
            f"LiteRT {what}, ratios for which the delegate has a kernel: not matched, "
            f"{other.differences:,} of {other.n:,} codes differ"
        )
        theirs, found = chosen(theirs, found, [not each for each in inside])
        what += ", other ratios"
    tally = compared(theirs, found, source, target, arithmetic, "litert")
    record("LiteRT", what, zp.backend(), tally.n, tally.differences)
    assert tally.differences == 0, tally.first


def onnx_pairs(found: list[Pair], source: str, target: str, optimised: bool) -> Any:
    """What ONNX Runtime makes of all codes by DequantizeLinear and QuantizeLinear."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    nodes, numbers = [], []
    for i, pair in enumerate(found):
        kinds = np.float32, source, np.float32, target
        names = [f"{name}{i}" for name in ("s", "z", "t", "y")]
        numbers += [
            onnx.numpy_helper.from_array(np.asarray(value, kind), name)
            for value, kind, name in zip(pair, kinds, names, strict=True)
        ]
        nodes.append(onnx.helper.make_node("DequantizeLinear", ["x", *names[:2]], [f"v{i}"]))
        nodes.append(onnx.helper.make_node("QuantizeLinear", [f"v{i}", *names[2:]], [f"q{i}"]))
    types = {name: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in data.DTYPES}
    graph = onnx.helper.make_graph(
        nodes,
        "pairs",
        [onnx.helper.make_tensor_value_info("x", types[source], [256])],
        [
            onnx.helper.make_tensor_value_info(f"q{i}", types[target], [256])
            for i in range(len(found))
        ],
        numbers,
    )
    opset = onnx.helper.make_opsetid("", 21)
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[opset])
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    level = "ORT_ENABLE_ALL" if optimised else "ORT_DISABLE_ALL"
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": data.all_codes(source)})


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("optimised", [False, True])
def test_onnxruntime(record, optimised, source, target):
    found = list(pairs(source, target, 250))
    theirs = onnx_pairs(found, source, target, optimised)
    tally = compared(theirs, found, source, target, "float", "onnx")
    graph = "optimised" if optimised else "as written"
    what = f"DequantizeLinear-QuantizeLinear {source} to {target}, graph {graph}"
    record("ONNX Runtime", what, zp.backend(), tally.n, tally.differences)
    assert tally.differences == 0, tally.first
