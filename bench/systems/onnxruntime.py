"""ONNX Runtime: a model of one operator, input and output bound to our arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..check import ANY, Arithmetic, convention
from ..jobs import Array, Case
from ..operations import Result
from .base import Call, Declined, System, float32_only, module

OPSET = 21  # the first with block_size
ONNX = convention("onnx")


def calibrated(
    path: Path, reader: Any, method: str, folder: Path, operators: Sequence[str] | None = None
) -> Any:
    """The ranges of a model's activations, by one of its own calibrators."""
    calibrator = module("onnxruntime.quantization.calibrate").create_calibrator(
        path,
        operators,
        str(folder / "augmented.onnx"),
        module("onnxruntime.quantization").CalibrationMethod[method],
    )
    calibrator.collect_data(reader)
    return calibrator.compute_data()


class ONNXRuntime(System):
    name = "onnxruntime"
    package = "onnxruntime"
    keywords = ("method",)
    gives_out: ClassVar[bool] = True

    def __init__(self) -> None:
        self._runtime = module("onnxruntime")
        self._onnx = module("onnx")

    def quantize(self, case: Case, threads: int) -> Call:
        node = self._node("QuantizeLinear", ["x", "scale", "zero"], ["y"], **_layout(case))
        return self._call(case, threads, [node], {"y": case.out}, ONNX)

    def dequantize(self, case: Case, threads: int) -> Call:
        node = self._node("DequantizeLinear", ["x", "scale", "zero"], ["y"])
        return self._call(case, threads, [node], {"y": case.out}, ANY)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        nodes = [
            self._node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            self._node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ]
        return self._call(case, threads, nodes, {"y": case.out}, ONNX)

    def quantize_dynamic(self, case: Case, threads: int) -> Call:
        float32_only(case)
        if case.job.axis is not None:
            raise Declined("DynamicQuantizeLinear is per tensor")
        node = self._node("DynamicQuantizeLinear", ["x"], ["y", "y_scale", "y_zero"])
        outputs = {"y": case.out, "y_scale": np.empty((), "f4"), "y_zero": np.empty((), "u1")}
        return self._call(case, threads, [node], outputs, ONNX)

    def min_max(self, case: Case, threads: int) -> Call:
        nodes = [
            self._node("ReduceMin", ["x"], ["low"], keepdims=0),
            self._node("ReduceMax", ["x"], ["high"], keepdims=0),
        ]
        outputs = {"low": np.empty((), "f4"), "high": np.empty((), "f4")}
        return self._call(case, threads, nodes, outputs, ANY)

    def calibrate(self, case: Case, threads: int) -> Call:
        if case.job.keywords != (("method", "minmax"),) or not self.gives_out:
            raise Declined("measured by minmax, in the row onnxruntime")
        samples = case.samples
        reader = module("zeropoint.interop.onnx").calibration_reader

        def run() -> Any:
            return calibrated(samples.path, reader(samples.feeds), "MinMax", samples.path.parent)

        def result(found: Any) -> Result:
            ranges = [each.range_value for _, each in sorted(found.data.items())]
            return tuple(end.reshape(()) for ends in ranges for end in ends)

        return Call(run, result, ANY)

    def _node(self, *args: Any, **attributes: Any) -> Any:
        return self._onnx.helper.make_node(*args, **attributes)

    def _call(
        self,
        case: Case,
        threads: int,
        nodes: list[Any],
        outputs: dict[str, Array],
        arithmetic: Arithmetic,
    ) -> Call:
        session = self._session(case, threads, nodes, outputs)
        if not self.gives_out:
            run = partial(session.run, list(outputs), {"x": case.source})
            return Call(run, tuple, arithmetic)
        binding = session.io_binding()
        arrays = {"x": case.source, **outputs}
        for name, array in arrays.items():
            bind = binding.bind_output if name in outputs else binding.bind_input
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def result(_: Any) -> Result:
            return tuple(outputs.values())

        return Call(partial(session.run_with_iobinding, binding), result, arithmetic)

    def _session(
        self, case: Case, threads: int, nodes: list[Any], outputs: dict[str, Array]
    ) -> Any:
        helper, numpy_helper = self._onnx.helper, self._onnx.numpy_helper
        constants = {
            "scale": np.asarray(case.scale, case.job.real),
            "zero": np.asarray(case.zero_point, case.job.codes),
        }
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "job",
            [self._value("x", case.source)],
            [self._value(name, array) for name, array in outputs.items()],
            [numpy_helper.from_array(a, name) for name, a in constants.items() if name in used],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
        )
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads
        return self._runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def _value(self, name: str, array: Array) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return self._onnx.helper.make_tensor_value_info(name, kind, array.shape)


class ONNXRuntimeFresh(ONNXRuntime):
    """A new array for each result, which is how `run` is mostly called."""

    name = "onnxruntime-fresh"
    gives_out = False


def _layout(case: Case) -> dict[str, int]:
    layout = {"axis": case.job.axis, "block_size": case.job.block}
    return {name: value for name, value in layout.items() if value is not None}
