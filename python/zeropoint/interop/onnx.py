"""ONNX: the parameters of a quantized model's tensors, and a float model's weights in 8 bits.

`params` reads scale and zero point from a QDQ model (QuantizeLinear and DequantizeLinear nodes
around float operators); `quantize_weights` stores float weights as codes, and `report` says what
that did to each; `calibrate` finds ranges of activations for ONNX Runtime's static quantizer, and
`calibration_reader` feeds its own calibration.

>>> p = params("quantized.onnx", "input")  # its codes are those of the model's QuantizeLinear
>>> small = quantize_weights("float.onnx")
>>> print(report("float.onnx", small))
>>> onnx.save(small, "small.onnx")
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import zeropoint as zp

from .. import _checks
from ._onnx_calibration import Calibration, calibrate
from ._onnx_graph import Model, Scope, is_linear, linear_maker, load, node_params, scopes
from ._onnx_weights import Report, Weight, quantize_weights, report

if TYPE_CHECKING:  # where onnx is missing, _onnx_graph says so
    import onnx

__all__ = [
    "Calibration",
    "Report",
    "Weight",
    "calibrate",
    "calibration_reader",
    "params",
    "quantize_weights",
    "report",
]


def params(model: Model, tensor: str) -> zp.QuantParams:
    """Scale and zero point of one tensor of a QDQ model, in the convention ``onnx``.

    They are those of the QuantizeLinear or DequantizeLinear that takes the tensor as its data or,
    where none does, of the one that makes it.  So the name may be that of the real values or of
    their codes.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``, or the path of a model.
    tensor
        The name of any tensor: an input or an output, a constant, what a node takes or makes; in
        the bodies of If, Loop and Scan too, in model-local functions not.

    Returns
    -------
    QuantParams
        Per tensor (also where the scale is an array of one element), per channel or per block.  A
        missing zero point is 0; the codes are then uint8, or what ``output_dtype`` says, or for a
        DequantizeLinear what its data are.  Scales of float16 and bfloat16 widen to float32; from
        opset 23 on QuantizeLinear divides in float16 by a float16 scale, and that arithmetic is not
        matched.

    Raises
    ------
    TypeError
        `model` is neither of the two; `tensor` is not a string.
    ValueError
        The model makes two tensors of one name.  There is no such tensor; it is not quantized, or
        in more than one way; its codes are not uint8 or int8 (but int4, int16, int32, float8, ...);
        a scale or a zero point that is made at run time, lies in an external file that is not
        loaded, or that `QuantParams` refuses.
    """
    if not isinstance(tensor, str):
        raise TypeError(
            f"tensor must be the name of a tensor, not {type(tensor).__name__} "
            f"{_checks.shown(tensor)}; see model.graph"
        )
    takers: list[tuple[onnx.NodeProto, Scope]] = []
    makers: list[tuple[onnx.NodeProto, Scope]] = []
    names: set[str] = set()
    for scope in scopes(load(model).graph):
        names.update(scope.makers, scope.types)
        for node in scope.graph.node:
            names.update(node.input)
            if is_linear(node) and node.input[0] == tensor:
                takers.append((node, scope))
        maker = linear_maker(tensor, scope)
        if maker is not None:  # from each graph that sees it; one set of parameters all the same
            makers.append((maker, scope))
    found = [node_params(node, scope) for node, scope in takers or makers]
    if not found and tensor not in names:
        close = difflib.get_close_matches(tensor, names, 3)
        fix = f"did you mean {' or '.join(map(repr, close))}?" if close else "see model.graph"
        raise ValueError(f"tensor {tensor!r} is not in the model; {fix}")
    if not found:
        raise ValueError(
            f"tensor {tensor!r} is not quantized: no QuantizeLinear or DequantizeLinear takes or "
            "makes it; name one beside such a node"
        )
    if len(set(found)) > 1:
        raise ValueError(
            f"tensor {tensor!r} is quantized in {len(set(found))} ways; name the codes that you "
            "mean, the output of one of its QuantizeLinear nodes"
        )
    return found[0]


class _Reader:
    def __init__(self, samples: Iterable[Mapping[str, Any]]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._samples, None)


def calibration_reader(samples: Iterable[Mapping[str, Any]]) -> _Reader:
    """What ``onnxruntime.quantization.quantize_static`` takes as its ``CalibrationDataReader``.

    Parameters
    ----------
    samples
        Any iterable of dictionaries, each the inputs of one run: name to array.  It is read once,
        as the calibration goes on.

    Raises
    ------
    TypeError
        `samples` cannot be iterated over.
    """
    return _Reader(samples)
