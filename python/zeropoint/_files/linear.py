"""The weights of linear layers: a checkpoint does not say which of its tensors they are.

Engines quantize those alone.  Names and shapes tell them: ``X.weight`` of two axes, (out, in),
unless X is an embedding or chooses among experts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .container import Container
from .source import Tensor, fault

_EMBEDDING = re.compile(r"embed|^(wte|wpe|shared|relative_attention_bias)$")
_ROUTER = re.compile(r"(^|\.)(gate|shared_expert_gate|wg|router(\..*)?)$")


def reason_to_keep(tensor: Tensor) -> str | None:
    """Why `tensor` is not the weight of a linear layer, or None."""
    layer, _, last = tensor.name.rpartition(".")
    if last != "weight":
        return "it is no weight of a layer"
    if (rank := len(tensor.shape)) != 2:
        return f"it has {rank} {'axis' if rank == 1 else 'axes'}, a linear layer's weight has 2"
    if _EMBEDDING.search(layer.rpartition(".")[2]):
        return "it is an embedding"
    return "it chooses among experts" if _ROUTER.search(layer) else None


def check_upright(container: Container, names: Iterable[str]) -> None:
    """ValueError if one of the tensors `names` lies (in, out), as those of GPT-2's Conv1D layers.

    The bias tells it, which has one element an output.
    """
    found = {name for name in names if _bias(container, name) == container.tensors[name].shape[1:]}
    shapes = {container.tensors[name].shape for name in found}
    if any(rows != columns for rows, columns in shapes):  # else they may lie either way
        name = min(found)
        raise fault(
            container.path,
            f"{len(found)} weights, like {name!r}, lie transposed, (in, out), in layers of Conv1D",
            "name them in include to quantize each row all the same, or transpose them",
        )


def _bias(container: Container, name: str) -> tuple[int, ...] | None:
    bias = container.tensors.get(f"{name.removesuffix('weight')}bias")
    return None if bias is None else bias.shape


def check_values(container: Container, config: dict[str, object] | None) -> None:
    """ValueError if the model is quantized already: config.json says so, or a dtype does."""
    about = (config or {}).get("quantization_config")
    if about is not None:
        method = about.get("quant_method") if isinstance(about, dict) else about
        raise fault(
            container.path,
            f"it is quantized already: its config.json says {method!r}",
            "pass the model that it was made from",
        )
    for tensor in container.tensors.values():
        if tensor.label.startswith(("F8", "F4", "F6")):
            raise fault(
                container.path_of(tensor),
                f"it is quantized already: tensor {tensor.name!r} is of {tensor.label}",
                "pass the model that it was made from",
            )
