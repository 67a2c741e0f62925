"""Reading ONNX models: the graphs in a graph, constants, and what Q/DQ nodes say."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import zeropoint as zp

from .._checks import printable
from .._extras import missing

try:
    import onnx
    from onnx import helper, numpy_helper
    from onnx.external_data_helper import uses_external_data
except ImportError as error:
    raise missing("onnx", "zeropoint.interop.onnx") from error

Array = np.ndarray[Any, np.dtype[Any]]
Model: TypeAlias = onnx.ModelProto | str | os.PathLike[str]

#: how many inputs and outputs a node has at minimum, of the operators that are read
_ARITY = {
    "QuantizeLinear": (2, 1),
    "DequantizeLinear": (2, 1),
    "Cast": (1, 1),
    "Identity": (1, 1),
    "Constant": (0, 1),
}
_CODES = {int(onnx.TensorProto.UINT8): "uint8", int(onnx.TensorProto.INT8): "int8"}


def load(model: Model, *, external: bool = True) -> onnx.ModelProto:
    """The model itself, or the one at a path, with its `external` data or without."""
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model must be a ModelProto or a path, not {type(model).__name__}")
    try:
        loaded: onnx.ModelProto = onnx.load(model, load_external_data=external)
    except OSError:
        raise
    except Exception as error:  # protobuf's and onnx's own
        path = printable(os.fspath(model))
        raise ValueError(f"{path} cannot be read as an ONNX model: {printable(error)}") from error
    return loaded


def input_names(model: onnx.ModelProto) -> list[str]:
    """What a run must be fed with: no initializers, which may have the name of an input."""
    given = {each.name for each in model.graph.initializer}
    given.update(each.values.name for each in model.graph.sparse_initializer)
    return [each.name for each in model.graph.input if each.name not in given]


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """The message of a model with more outputs; the model itself stays as it is."""
    more = [onnx.ValueInfoProto(name=name) for name in names]
    try:  # messages that follow each other are one
        found: bytes = model.SerializeToString()
        found += onnx.ModelProto(graph=onnx.GraphProto(output=more)).SerializeToString()
    except Exception as error:  # protobuf's own
        raise ValueError(
            "model is larger than 2 GB, the most of a message; save it by onnx.save(model, path, "
            "save_as_external_data=True), and pass the path"
        ) from error
    return found


# ---------------------------------------------------------------------------------------------
# Graphs and constants


_Maker: TypeAlias = onnx.TensorProto | onnx.SparseTensorProto | onnx.NodeProto


class Scope(NamedTuple):
    """A graph, and the scope of its names: its own first, then those of the graphs around it."""

    graph: onnx.GraphProto
    makers: ChainMap[str, _Maker]
    types: ChainMap[str, int]  # onnx.TensorProto.DataType, of what is declared


def scopes(graph: onnx.GraphProto, outer: Scope | None = None) -> Iterator[Scope]:
    """The graph, then those inside its nodes (bodies of If, Loop and Scan)."""
    for node in graph.node:
        inputs, outputs = _ARITY.get(node.op_type, (0, 0))
        if len(node.input) < inputs or len(node.output) < outputs:
            raise ValueError(
                f"node {node.name!r} of type {node.op_type} lacks inputs or outputs; see "
                "onnx.checker.check_model(model)"
            )
    makers = _makers(graph)
    declared = (*graph.input, *graph.output, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in declared}
    around = (outer.makers.maps, outer.types.maps) if outer else ((), ())
    scope = Scope(graph, ChainMap(makers, *around[0]), ChainMap(types, *around[1]))
    yield scope
    for node in graph.node:
        for found in node.attribute:
            inner = [found.g] if found.HasField("g") else []
            for body in (*inner, *found.graphs):
                yield from scopes(body, scope)


def _makers(graph: onnx.GraphProto) -> dict[str, _Maker]:
    """The initializer or node that makes each tensor of a graph; ValueError where two do."""
    made: list[tuple[str, _Maker]] = [(tensor.name, tensor) for tensor in graph.initializer]
    made += [(sparse.values.name, sparse) for sparse in graph.sparse_initializer]
    found: dict[str, _Maker] = {}
    inputs = {value.name for value in graph.input}  # an initializer may have the name of one
    made += [(name, node) for node in graph.node for name in node.output]
    for name, maker in made:
        if name and (name in found or (name in inputs and isinstance(maker, onnx.NodeProto))):
            raise ValueError(
                f"model is not valid: tensor {name!r} is made twice in one graph, by initializers, "
                "nodes or inputs; rename or remove one, see onnx.checker.check_model(model)"
            )
        if name:  # without one nothing can use it
            found[name] = maker
    return found


def constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Name and value of the initializers and of the tensors in Constant nodes, if they have one."""
    for tensor in graph.initializer:
        if tensor.name:
            yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0]:
            for found in node.attribute:
                if found.name == "value":
                    yield node.output[0], found.t


def constant(name: str, scope: Scope, what: str) -> Array:
    """The value behind a name; `what` uses it, says the error where it is not a constant."""
    tensor = _constant_tensor(name, scope)
    if tensor is None:
        raise ValueError(f"{what} takes {name!r}, which is not a constant but made at run time")
    return value(tensor, name)


def _constant_tensor(name: str, scope: Scope) -> onnx.TensorProto | None:
    maker = scope.makers.get(name)
    if isinstance(maker, onnx.NodeProto) and maker.op_type == "Identity":  # of a reused constant
        maker = scope.makers.get(maker.input[0])
    if isinstance(maker, onnx.NodeProto) and maker.op_type == "Constant":
        for found in maker.attribute:
            if found.name == "value":
                tensor: onnx.TensorProto = found.t
                return tensor
            if found.name in ("value_float", "value_floats"):
                numbers = np.asarray(helper.get_attribute_value(found), np.float32)
                return numpy_helper.from_array(numbers)
    return maker if isinstance(maker, onnx.TensorProto) else None


def value(tensor: onnx.TensorProto, name: str) -> Array:
    """The tensor as an array."""
    if uses_external_data(tensor):
        raise ValueError(
            f"tensor {name!r} lies in an external file that is not loaded; pass the path of the "
            "model, or what onnx.load(path) returns"
        )
    try:
        found: Array = numpy_helper.to_array(tensor)
    except Exception as error:  # onnx's own: an unknown type, too few data
        raise ValueError(f"tensor {name!r} cannot be read: {printable(error)}") from error
    return found


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((int(found.i) for found in node.attribute if found.name == name), default)


# ---------------------------------------------------------------------------------------------
# QuantizeLinear and DequantizeLinear


def is_linear(node: onnx.NodeProto) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def linear_maker(name: str, scope: Scope) -> onnx.NodeProto | None:
    """The QuantizeLinear or DequantizeLinear that makes a tensor; the latter through a Cast too."""
    maker = scope.makers.get(name)
    if isinstance(maker, onnx.NodeProto) and maker.op_type == "Cast":
        maker = scope.makers.get(maker.input[0])
        if isinstance(maker, onnx.NodeProto) and maker.op_type == "QuantizeLinear":
            return None  # codes in another type are no real values
    return maker if isinstance(maker, onnx.NodeProto) and is_linear(maker) else None


def node_params(node: onnx.NodeProto, scope: Scope) -> zp.QuantParams:
    """The parameters of a QuantizeLinear or DequantizeLinear."""
    what = f"the {node.op_type} that makes {node.output[0]!r}"
    kind = _code_type(node, scope)
    if not kind:
        raise ValueError(
            f"{what} has no zero point, and the model does not give the type of {node.input[0]!r}; "
            "pass onnx.shape_inference.infer_shapes(model)"
        )
    if kind not in _CODES:
        known = kind in onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(kind) if known else str(kind)
        raise ValueError(f"{what} has codes of type {name}; only UINT8 and INT8 are supported")
    scale, zero = constant(node.input[1], scope, what), np.zeros((), np.int32)
    if _zero_point(node):
        zero = constant(_zero_point(node), scope, what)
    block_size = attribute(node, "block_size", 0) or None
    axis: int | None = attribute(node, "axis", 1)
    if scale.size == 1 and block_size is None:
        scale, axis = scale.reshape(()), None
    try:
        return zp.QuantParams(
            scale,
            int(zero.item()) if zero.size == 1 else zero,
            _CODES[kind],
            axis=axis,
            block_size=block_size,
            convention="onnx",
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from None


def _zero_point(node: onnx.NodeProto) -> str:
    """The name of a node's zero point, empty where it has none."""
    return str(node.input[2]) if len(node.input) > 2 else ""


def _code_type(node: onnx.NodeProto, scope: Scope) -> int | None:
    """The onnx.TensorProto.DataType of a node's codes; None or 0 if the model lacks it."""
    if node.op_type == "QuantizeLinear" and not _zero_point(node):
        return attribute(node, "output_dtype", 0) or int(onnx.TensorProto.UINT8)
    name = _zero_point(node) or node.input[0]
    tensor = _constant_tensor(name, scope)
    if tensor is not None:
        return int(tensor.data_type)
    maker = scope.makers.get(name)
    if node.op_type == "DequantizeLinear" and (
        isinstance(maker, onnx.NodeProto) and maker.op_type == "QuantizeLinear"
    ):
        return _code_type(maker, scope)
    return scope.types.get(name)
