"""Float weights of an ONNX model in 8 bits: `quantize_weights` and its `report`."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import zeropoint as zp

from .. import _checks, _patterns
from .._compare import table
from ._onnx_graph import (
    Model,
    Scope,
    attribute,
    constant,
    constants,
    linear_maker,
    load,
    node_params,
    scopes,
    value,
)

_FLOATS = {
    int(onnx.TensorProto.FLOAT): "float32",
    int(onnx.TensorProto.FLOAT16): "float16",
    int(onnx.TensorProto.BFLOAT16): "bfloat16",
}
# Operators whose float constants are scales, or stand for integers already: ONNX's own
# (QuantizeLinear, QLinearConv, ...) and ONNX Runtime's (MatMulNBits, QAttention, MatMulBnb4, ...).
_QUANTIZED = re.compile("[Qq]uant|^Q|Integer|NBits|Bnb4|FpQ4")


def quantize_weights(
    model: Model,
    dtype: Any = "int8",
    *,
    axis: int | str | None = "channel",
    block_size: int | None = None,
    symmetric: bool = True,
    min_size: int = 1024,
    exclude: Collection[str] = (),
) -> onnx.ModelProto:
    """Store float weights as 8-bit initializers, with a DequantizeLinear before their consumers.

    A weight is an initializer or the value of a Constant node, of float32, float16 or bfloat16,
    with at least two axes longer than 1; in the bodies of If, Loop and Scan too, in model-local
    functions not.  The consumers see what `zeropoint.dequantize` gives (through a Cast for float16
    and bfloat16), under the name that the weight had; inputs, outputs and all other nodes stay as
    they are, and nothing is calibrated.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``, which is not modified, or the path of a model.
    dtype
        ``"int8"`` or ``"uint8"``, the type of the codes.
    axis
        ``"channel"``: one scale for each output channel of the operator that takes the weight: the
        last axis for MatMul, what ``transB`` says for Gemm, axis 1 for ConvTranspose, LSTM, GRU and
        RNN, the axis along which Gather picks, and otherwise the first axis longer than 1.  None:
        one scale per tensor.  A number: that axis of every weight.
    block_size
        One scale for each block of so many elements along `axis`; with ``"channel"`` along the
        longest other axis, so that no block holds two channels.
    symmetric
        Zero point in the middle of the codes, which runtimes expect of weights; False: the codes
        span the weights' range, as in `zeropoint.choose_params`.
    min_size
        Tensors of fewer elements are left alone.
    exclude
        Names of further tensors to leave alone.

    Returns
    -------
    onnx.ModelProto
        Also left alone are tensors with NaN or Inf (masks), those that would not become smaller,
        and what a quantized operator takes.  `report` lists them.

    Raises
    ------
    TypeError
        `model` is neither of the two; `dtype` is not uint8 or int8; `exclude` is not a collection
        of names.
    ValueError
        An opset that DequantizeLinear needs to be higher: 10 for one scale per tensor, 13 per
        channel, 21 for blocks.  A weight that is an input of its graph too, lies in an external
        file that is not loaded, hides another of its name, or lacks the axis.  A name in `exclude`
        that no tensor has.  A model that makes two tensors of one name.

    Notes
    -----
    What ONNX Runtime 1.32 makes of it: the codes stay in memory.  MatMul and Gemm become its
    MatMulNBits, which is fast and rounds the activations to 8 bits too, unless the session's entry
    ``session.qdq_matmulnbits_accuracy_level`` is ``"1"``; for all other operators the whole weight
    is dequantized anew in every run, which takes time where the batch is small.  After
    ``session_options.add_session_config_entry("session.disable_quant_qdq", "1")`` everything is
    dequantized once, when the session is made: as exact, as fast and as large in memory as a float
    model, and only the file is small.

    A model of more than 2 GB is written by ``onnx.save(..., save_as_external_data=True)``.
    """
    code, symmetric = _checks.code_dtype(dtype), _checks.flag(symmetric, "symmetric")
    axis, block_size = _granularity(axis, block_size)
    min_size = _checks.integer(min_size, "min_size")
    result = load(model)
    if result is model:
        result = onnx.ModelProto()
        result.CopyFrom(model)
    _check_opset(result, 21 if block_size else 10 if axis is None else 13)

    all_scopes = list(scopes(result.graph))
    names = _names(all_scopes)
    uses = _uses(all_scopes)
    left = _excluded(exclude, all_scopes)
    left |= {
        name for name, found in uses.items() if any(_QUANTIZED.search(n.op_type) for n, _ in found)
    }
    for scope in all_scopes:
        graph = scope.graph
        nodes: list[onnx.NodeProto] = []
        done: set[str] = set()
        for name, tensor in list(constants(graph)):
            if name in left or not _is_weight(tensor, min_size):
                continue
            _check_name(name, scope)
            x = value(tensor, name)
            if not np.isfinite(x).all():
                continue
            own_axis = axis
            if isinstance(own_axis, str):
                own_axis = _channel_axis(x.shape, uses[name], block_size)
            try:
                found = zp.choose_params(
                    x,
                    code,
                    symmetric=symmetric,
                    axis=own_axis,
                    block_size=block_size,
                    convention="onnx",
                )
            except ValueError as error:
                raise ValueError(f"weight {name!r}: {error}; or name it in exclude") from None
            stored = {
                "quantized": zp.quantize(x, found),
                "scale": np.asarray(found.scale),
                "zero_point": np.asarray(found.zero_point, code),
            }
            if sum(array.nbytes for array in stored.values()) >= x.nbytes:
                continue
            inputs = [_fresh(f"{name}_{suffix}", names) for suffix in stored]
            graph.initializer.extend(map(numpy_helper.from_array, stored.values(), inputs))
            nodes += _dequantizer(name, inputs, found, tensor.data_type, names)
            done.add(name)
        _delete(graph.initializer, [t.name in done for t in graph.initializer])
        is_done = [n.op_type == "Constant" and n.output[0] in done for n in graph.node]
        _delete(graph.node, is_done)
        for node in reversed(nodes):
            graph.node.insert(0, node)
    return result


def _granularity(axis: Any, block_size: Any) -> tuple[Any, int | None]:
    if isinstance(axis, str):
        _checks.name(axis, "axis", ("channel",), ", an integer or None")
    elif axis is not None:
        axis = _checks.axis(axis)
    elif block_size is not None:
        raise ValueError(f"block_size {block_size} needs an axis; pass axis='channel'")
    return axis, _checks.block(block_size, axis)


def _check_opset(model: onnx.ModelProto, needed: int) -> None:
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < needed:
        per = {10: "", 13: "one scale per channel of ", 21: "blocks of "}[needed]
        fix = ", or pass axis=None" if needed == 13 and opset >= 10 else ""
        raise ValueError(
            f"model is of opset {opset}, and {per}DequantizeLinear needs opset {needed}; pass "
            f"onnx.version_converter.convert_version(model, {needed}){fix}"
        )


def _check_name(name: str, scope: Scope) -> None:
    """ValueError where no node may make a tensor of that name in place of the weight."""
    if name in scope.makers.parents or name in scope.types.parents:
        raise ValueError(
            f"weight {name!r} hides a tensor of the same name in a graph around its own; rename "
            "one, or name them in exclude"
        )
    if any(value.name == name for value in scope.graph.input):
        raise ValueError(
            f"weight {name!r} is an input of its graph too, so a caller may replace it; remove it "
            "from graph.input (with ir_version >= 4), or name it in exclude"
        )


def _excluded(exclude: Any, all_scopes: list[Scope]) -> set[str]:
    if isinstance(exclude, str) or not isinstance(exclude, Collection):
        raise TypeError(f"exclude must be a collection of names, not {exclude!r}; pass a list")
    known = {name for scope in all_scopes for name, _ in constants(scope.graph)}
    if unknown := set(exclude) - known:
        name, near = min(unknown), _patterns.nearest(min(unknown), sorted(known))
        raise ValueError(f"exclude names {name!r}, and the model has no such constant; {near}")
    return set(exclude)


def _names(all_scopes: list[Scope]) -> set[str]:
    """The names of all tensors and nodes."""
    tensors = {name for scope in all_scopes for name in (*scope.makers, *scope.types)}
    return tensors | {node.name for scope in all_scopes for node in scope.graph.node}


def _uses(all_scopes: list[Scope]) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    """The nodes that take a tensor, and as which of their inputs, in all graphs.

    Tensors of sibling graphs may have one name; that can cost one of them its best axis, no more.
    """
    uses = defaultdict(list)
    for scope in all_scopes:
        for node in scope.graph.node:
            for place, name in enumerate(node.input):
                uses[name].append((node, place))
    return uses


def _is_weight(tensor: onnx.TensorProto, min_size: int) -> bool:
    """Of a float type, large enough, and not a vector (a bias, the scales of a normalization)."""
    large = math.prod(tensor.dims) >= max(min_size, 1) and sum(n > 1 for n in tensor.dims) > 1
    return large and tensor.data_type in _FLOATS


def _channel_axis(
    shape: tuple[int, ...], uses: list[tuple[onnx.NodeProto, int]], block_size: int | None
) -> int:
    """The axis of the output channels, by the first use that shows it; or that of the blocks."""
    channel = next(i for i, n in enumerate(shape) if n > 1)
    for node, place in uses:
        match node.op_type, place:
            case "MatMul", 0 | 1:
                channel = len(shape) - 2 + place
            case "Gemm", 0 | 1:
                channel = place ^ attribute(node, "transB" if place else "transA", 0)
            case ("ConvTranspose", 1) | ("LSTM" | "GRU" | "RNN", 1 | 2):
                channel = 1
            case "Gather", 0:
                channel = attribute(node, "axis", 0) % len(shape)
            case _:
                continue
        break
    if block_size is None:
        return channel
    return max((i for i in range(len(shape)) if i != channel), key=shape.__getitem__)


def _dequantizer(
    name: str, inputs: list[str], params: zp.QuantParams, data_type: int, names: set[str]
) -> list[onnx.NodeProto]:
    """The nodes that make the weight `name` again from its codes, scale and zero point.

    float16 and bfloat16 weights are dequantized in float32, as in zeropoint: a scale in float16
    would lose bits, all of them below 6e-8, and needs opset 19.
    """
    attributes: dict[str, Any] = {} if params.axis is None else {"axis": params.axis}
    if params.block_size is not None:
        attributes["block_size"] = params.block_size

    def node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        own_name = _fresh(f"{name}_{op_type}", names)
        return helper.make_node(op_type, inputs, [output], own_name, **attributes)

    if data_type == onnx.TensorProto.FLOAT:
        return [node("DequantizeLinear", inputs, name, **attributes)]
    real = _fresh(f"{name}_float32", names)
    return [
        node("DequantizeLinear", inputs, real, **attributes),
        node("Cast", [real], name, to=data_type),
    ]


def _fresh(name: str, names: set[str]) -> str:
    """`name`, or it with a number, such that no tensor and no node has it."""
    found, i = name, 1
    while found in names:
        found, i = f"{name}_{i}", i + 1
    names.add(found)
    return found


def _delete(items: Any, unwanted: list[bool]) -> None:
    for i in reversed(np.flatnonzero(unwanted).tolist()):
        del items[i]


# ---------------------------------------------------------------------------------------------
# The report


@_checks.initialised_once
@dataclass(frozen=True)
class Weight:
    """A float tensor of a model, before and after quantization."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    quantized_bytes: int  #: of codes, scales and zero points; `bytes` where it was left alone
    params: zp.QuantParams | None  #: None where it was left alone
    stats: zp.ErrorStats | None

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {
            **vars(self),
            "shape": list(self.shape),
            "params": self.params.to_dict() if self.params else None,
            "stats": self.stats.to_dict() if self.stats else None,
        }


@_checks.initialised_once
@dataclass(frozen=True)
class Report:
    """Every float tensor of a model that `quantize_weights` has seen; `str()` is a table."""

    weights: tuple[Weight, ...]

    @property
    def bytes(self) -> int:
        """Those of all weights."""
        return sum(weight.bytes for weight in self.weights)

    @property
    def quantized_bytes(self) -> int:
        """Those of all weights."""
        return sum(weight.quantized_bytes for weight in self.weights)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {
            "bytes": self.bytes,
            "quantized_bytes": self.quantized_bytes,
            "weights": [weight.to_dict() for weight in self.weights],
        }

    def __str__(self) -> str:
        lines = [["weight", "dtype", "shape", "bytes", "8-bit", "max error", "SQNR dB", "scales"]]
        left = [weight for weight in self.weights if weight.params is None]
        for weight in self.weights:
            if weight.params is not None and weight.stats is not None:
                cells = [
                    _checks.printable(weight.name, 200),
                    weight.dtype,
                    str(list(weight.shape)),
                    f"{weight.bytes:,}",
                ]
                cells += [f"{weight.quantized_bytes:,}", f"{weight.stats.max_abs_error:.4g}"]
                lines.append([*cells, f"{weight.stats.sqnr_db:.2f}", _scales(weight.params)])
        left_bytes = sum(weight.bytes for weight in left)
        few = sum(
            weight.stats is not None and bool(weight.stats.few_codes) for weight in self.weights
        )
        warning = (
            f"  Few codes are in use in {few} of them: see their stats.warning." if few else ""
        )
        ratio = self.quantized_bytes / self.bytes if self.bytes else 1
        return (
            f"{table(lines, left=3)}\n\n"
            f"Left alone: {len(left)} of {len(self.weights)} float tensors, {left_bytes:,} bytes.  "
            f"All: {self.bytes:,} -> {self.quantized_bytes:,} bytes ({ratio:.1%})."
            f"{warning}"
        )


def _scales(params: zp.QuantParams) -> str:
    text = f"{np.size(params.scale):,}"
    if params.axis is not None:
        text += f", axis {params.axis}"
    return text if params.block_size is None else f"{text} in blocks of {params.block_size}"


def report(model: Model, quantized: Model) -> Report:
    """Size and error of every float tensor of `model`, as `quantized` holds it.

    Parameters
    ----------
    model
        The float model: an ``onnx.ModelProto`` or a path.
    quantized
        What `quantize_weights` made of it; the scales and zero points are read from here.

    Raises
    ------
    ValueError
        `quantized` was not made from `model`.
    """
    before, after = (list(scopes(load(given).graph)) for given in (model, quantized))
    if len(before) != len(after):
        raise ValueError(
            f"quantized has {len(after)} graphs where model has {len(before)}: it was not made "
            "from model"
        )
    rows: list[Weight] = []
    for old, new in zip(before, after, strict=True):
        for name, tensor in constants(old.graph):
            if tensor.data_type in _FLOATS:
                rows.append(_row(name, tensor, new))
    return Report(tuple(rows))


def _row(name: str, tensor: onnx.TensorProto, scope: Scope) -> Weight:
    x, dtype = value(tensor, name), _FLOATS[int(tensor.data_type)]
    if name not in scope.makers:
        raise ValueError(f"quantized has no tensor {name!r}: it was not made from model")
    node = linear_maker(name, scope)
    if node is None:
        return Weight(name, x.shape, dtype, x.nbytes, x.nbytes, None, None)
    found = node_params(node, scope)
    inputs = [constant(each, scope, f"the DequantizeLinear of {name!r}") for each in node.input]
    if inputs[0].shape != x.shape:
        raise ValueError(
            f"quantized has {name!r} in the shape {inputs[0].shape}, and model in {x.shape}: it "
            "was not made from it"
        )
    size = sum(array.nbytes for array in inputs)
    return Weight(name, x.shape, dtype, x.nbytes, size, found, zp.error_stats(x, found))
