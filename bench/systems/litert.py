"""LiteRT (XNNPACK): a model of one operator, built in memory; only `invoke` is timed.

The data are in the interpreter's memory before the call, and the result stays there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..check import ANY, Arithmetic, convention
from ..jobs import HUGE, Case
from .base import Call, Declined, System, float32_only, module

TORCH = convention("torch")


class LiteRT(System):
    name = "litert"
    package = "ai-edge-litert"
    note = (
        "only invoke is timed: its input is in the interpreter before, and its result stays there"
    )
    moves_arrays = False

    def __init__(self) -> None:
        self._schema = module("ai_edge_litert.schema_py_generated")
        self._flatbuffers = module("flatbuffers")
        self._interpreter = module("ai_edge_litert.interpreter").Interpreter

    def prepare(self, case: Case, threads: int) -> Call:
        float32_only(case)
        if case.job.axis is not None:
            raise Declined("its operators are per tensor")
        if case.size >= HUGE:
            raise Declined("keeps its own copies of 1 Gi elements of data")
        return super().prepare(case, threads)

    def quantize(self, case: Case, threads: int) -> Call:
        return self._call(case, threads, ["real", "codes"], TORCH)

    def dequantize(self, case: Case, threads: int) -> Call:
        return self._call(case, threads, ["codes", "real"], ANY)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        return self._call(case, threads, ["real", "codes", "real"], TORCH)

    def _call(self, case: Case, threads: int, tensors: list[str], arithmetic: Arithmetic) -> Call:
        interpreter = self._interpreter(
            model_content=self._model(case, tensors), num_threads=threads
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], case.source)
        output = interpreter.get_output_details()[0]["index"]
        return Call(interpreter.invoke, lambda _: (interpreter.get_tensor(output),), arithmetic)

    def _model(self, case: Case, tensors: list[str]) -> bytes:
        """A chain of QUANTIZE and DEQUANTIZE through the given tensors ("real" or "codes")."""
        schema = self._schema
        operator = schema.BuiltinOperator
        graph = schema.SubGraphT()
        graph.tensors = [self._tensor(case, kind, i) for i, kind in enumerate(tensors)]
        graph.inputs, graph.outputs = [0], [len(tensors) - 1]
        graph.operators = []
        for i, kind in enumerate(tensors[1:]):
            step = schema.OperatorT()
            step.opcodeIndex = 0 if kind == "codes" else 1
            step.inputs, step.outputs = [i], [i + 1]
            graph.operators.append(step)

        model = schema.ModelT()
        model.version = 3
        model.operatorCodes = []
        for code in (operator.QUANTIZE, operator.DEQUANTIZE):
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 2  # the first that knows int8
            model.operatorCodes.append(entry)
        model.buffers = [schema.BufferT()]  # buffer 0 is the empty one
        model.subgraphs = [graph]
        builder = self._flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, case: Case, kind: str, index: int) -> Any:
        schema = self._schema
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"{kind}{index}", list(case.shape), 0
        tensor.type = schema.TensorType.FLOAT32
        if kind == "codes":
            tensor.type = getattr(schema.TensorType, case.job.codes.upper())
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(case.scale)
            tensor.quantization.zeroPoint = np.atleast_1d(np.int64(case.zero_point))
        return tensor
