"""Which tensors of a model are the weights of its linear layers, by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .. import _patterns
from . import folder
from .container import Container
from .source import REALS, Tensor, fault


class Kind(NamedTuple):
    """Layers that are kept, as they are called."""

    what: str
    layers: str  #: a regular expression that fits their whole names
    only: str | None = None  #: the format that keeps them


_ANY, _NUMBERS = r"(?:.*\.)?", r"(?:\.\d+)*"
HEAD = "lm_head"  #: in a list of what to ignore it stands for all output heads
HEADS = Kind(
    "an output head",
    rf"{_ANY}(?:[^.]*lm_heads?|(?:lm_head|head|[^.]*predictions)\.decoder|lm_head\.out_proj|embed_out"
    rf"|output_layer|lm_loss|vocab_projector|pred_layer\.proj|unembedding_projection){_NUMBERS}"
    r"|decoder|head|proj_out|output_projection|(?:language_model\.)?output",
)
EMBEDDINGS = Kind(
    "an embedding",
    rf"{_ANY}(?:[^.]*embed[^.]*|[^.]*emb|[^.]*tokens?|wte|wpe|shared|relative_attention_bias|pe_k"
    rf"|bias_values){_NUMBERS}|transformer\.w",
)
#: THE table of them; a layer is of the first that fits
KINDS = (
    HEADS,
    EMBEDDINGS,
    Kind(
        "a router",
        rf"{_ANY}(?:gate|router|shared_expert_gate|wg|classifier_gate|router\.[^.]+){_NUMBERS}",
    ),
    Kind("a norm", rf"{_ANY}(?:[^.]*norm[^.]*|ln_[^.]*){_NUMBERS}"),
    Kind(
        "a part of a vision or audio tower",
        rf"{_ANY}(?:visual|vision_tower|vision_model|multi_modal_projector|audio_tower)\..*",
        "compressed-tensors",
    ),
    Kind(
        "a part of a text encoder or a VAE",
        r"(?:conditioner|cond_stage_model|text_encoders|first_stage_model|vae)\..*",
        "comfyui",
    ),
)
#: models whose layers are Conv1D, which keeps its weight as (in, out)
_CONV1D_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_CONV1D = ("c_attn", "c_proj", "c_fc", "q_attn")


def layer_of(tensor: Tensor) -> str:
    """The name of the layer that `tensor` is the weight of, "" if it is none."""
    name = tensor.name
    if name == "weight":
        return ""
    return name.removesuffix(".weight") if name.endswith(".weight") else ""


def selection(
    container: Container, ignore: list[str], include: list[str] | None, format: str
) -> Callable[[Tensor], str | None]:
    """A function that tells why a tensor is to be kept in a format, or None.

    The patterns fit a tensor's name, its layer's, or the last word of that.  What `include` asks
    for is taken whatever its layer is called, but for what is ignored.
    """
    names = [name for name, tensor in container.tensors.items() if tensor.word in REALS]
    asked = None if include is None else _chosen(include, names, "include")
    ignored = _chosen([each for each in ignore if each != HEAD], names, "ignore")
    heads = {name for name in names if _fits(HEAD, name)} if HEAD in ignore else set()
    transposed = _transposed(container)

    def reason_to_keep(tensor: Tensor) -> str | None:
        layer, rank = layer_of(tensor), len(tensor.shape)
        if tensor.name in ignored:
            return "it is ignored"
        if tensor.name in heads:
            return f"it is {HEADS.what}"
        if asked is not None:
            if tensor.name not in asked:
                return "it is not included"
            if rank != 2:
                raise fault(
                    container.path_of(tensor),
                    f"tensor {tensor.name!r} has {len(tensor.shape)} axes, and include asks for it",
                    "only matrices (out, in) are quantized in this format; leave it out",
                )
            if format == "compressed-tensors" and kind_of(layer, format) is EMBEDDINGS:
                what = f"tensor {tensor.name!r} is {EMBEDDINGS.what}, and include asks for it"
                fix = f"in {format} only linear layers have codes; leave it out"
                raise fault(container.path_of(tensor), what, fix)
            return None
        if not layer and rank == 3 and ".experts." in f".{tensor.name}":
            return "it is all experts' weights in one, with 3 axes, and only matrices are quantized"
        if not layer:
            return "it is not the weight of a layer"
        if rank != 2:
            return f"it has {rank} ax{'i' if rank == 1 else 'e'}s, and a linear layer's weight 2"
        kind = kind_of(layer, format)
        if kind is not None and (kind is not HEADS or HEAD in ignore):
            return f"it is {kind.what}"
        if _last(layer) == "out_proj" and f"{layer[:-8]}in_proj_weight" in container.tensors:
            return "it is a part of torch's MultiheadAttention, which takes no codes"
        if _last(layer) in transposed:
            raise fault(
                container.path_of(tensor),
                f"tensor {tensor.name!r} of shape {tensor.shape} lies transposed, (in, out) as "
                "Conv1D of GPT-2 has it, so that scales for its rows are none for its outputs",
                "ignore such layers, or name them in include to quantize them as they lie",
            )
        return None

    return reason_to_keep


def _chosen(patterns: list[str], names: list[str], argument: str) -> set[str]:
    """The names that patterns fit; ValueError for a pattern that fits none."""
    found = set()
    for pattern in patterns:
        fitting = {name for name in names if _fits(pattern, name)}
        if not fitting:
            raise ValueError(f"{argument} {pattern!r} {_patterns.no_match(pattern, names)}")
        found |= fitting
    return found


def _fits(pattern: str, name: str) -> bool:
    layer = name.removesuffix(".weight")
    return any(_patterns.matches([pattern], each) for each in (name, layer, _last(layer)))


def _last(layer: str) -> str:
    return layer.rpartition(".")[2]


def kinds_of(format: str | None) -> list[Kind]:
    """The kinds of layers that a format keeps."""
    return [kind for kind in KINDS if kind.only in (None, format)]


def kind_of(layer: str, format: str | None = None) -> Kind | None:
    """What a layer is, None for a linear one."""
    return next((kind for kind in kinds_of(format) if re.fullmatch(kind.layers, layer)), None)


def _transposed(container: Container) -> set[str]:
    """The last words of the names of layers whose weights lie as (in, out).

    The length of a bias tells, which is that of the outputs; square weights have the words of those
    that are not.
    """
    found = set()
    for name, tensor in container.tensors.items():
        layer, bias = layer_of(tensor), container.tensors.get(name.removesuffix("weight") + "bias")
        shape = tensor.shape
        if layer and bias and len(shape) == 2 and shape[0] != shape[1] and bias.shape == shape[1:]:
            found.add(_last(layer))
    config = folder.config(container.folder) if container.folder else None
    if (config or {}).get("model_type") in _CONV1D_MODELS:
        found.update(_CONV1D)
    return found
