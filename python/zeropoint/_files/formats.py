"""THE table of the ways in which quantized tensors are stored, and what a container holds."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable

from . import comfyui, compressed_tensors, folder, gguf, own
from .container import Container
from .quantized import Format, ModelFormat, Quantized
from .source import ForeignError, Tensor, fault

#: a tensor that two of them could have found is the first one's
FORMATS: tuple[Format, ...] = (
    own.FORMAT,
    comfyui.FORMAT,
    compressed_tensors.FORMAT,
    gguf.FORMAT,
)
#: those in which models are written, by their names for the caller; the first is the default
MODELS: dict[str, ModelFormat] = {
    compressed_tensors.NAME: compressed_tensors.MODEL,
    comfyui.NAME: comfyui.MODEL,
    own.NAME: own.MODEL,
}


def quantized(container: Container) -> dict[str, Quantized]:
    """The quantized tensors of a container, their parts checked, by the names of the values."""
    return {name: form.one(container, name) for name, form in _found(container).items()}


def readable(container: Container) -> dict[str, Quantized]:
    """The same, without those that are stored in a way that is not read here."""
    found = {}
    for name, form in _found(container).items():
        with contextlib.suppress(ForeignError):
            found[name] = form.one(container, name)
    return found


def quantized_one(container: Container, name: str) -> Quantized | None:
    """One of them; the others are not checked."""
    form = _found(container).get(name)
    return None if form is None else form.one(container, name)


def taken(found: Iterable[Quantized]) -> set[str]:
    """The names of all tensors that quantized ones are stored in."""
    return {part.name for one in found for part in one.parts}


def forget(metadata: dict[str, str], names: Collection[str]) -> dict[str, str]:
    """A file's metadata but for what it says of tensors that are values again."""
    for form in FORMATS:
        metadata = form.forget(metadata, names)
    return metadata


_READ = "zeropoint, compressed-tensors of 8 bits, int8_tensorwise of ComfyUI, Q8_0 of .gguf"
_ADVICE = "pass the model in float16, bfloat16 or float32"


def check_unquantized(container: Container, but: str | None = None) -> None:
    """ValueError if there is a quantized tensor, but for those of one format."""
    for name, one in quantized(container).items():
        if one.format != but:
            what = f"it is quantized already: {name!r} by {one.format}"
            raise fault(container.path, what, _ADVICE)


def check_values(container: Container) -> None:
    """ValueError for a model that is quantized already, in a way that is read here or not."""
    config = folder.config(container.folder) if container.folder else None
    for part, key in folder.quantizations(config):
        by = part[key]
        method = by.get("quant_method") if isinstance(by, dict) else by
        raise fault(
            container.path, f"it is quantized already, as config.json says: {method}", _ADVICE
        )
    check_unquantized(container)
    for tensor in container.tensors.values():
        if what := _foreign(tensor):
            where = container.path_of(tensor)
            raise fault(where, f"tensor {tensor.name!r} of {tensor.label} is {what}", _ADVICE)


def none_of(container: Container) -> ValueError:
    """The error for a container without a quantized tensor that is read here."""
    foreign = (tensor for tensor in container.tensors.values() if _foreign(tensor))
    if found := next(foreign, None):
        return not_quantized(container, found)
    what = f"it holds no quantized tensor ({container.first_few()})"
    return fault(container.path, what, "pass a model or a file that is quantized")


def not_quantized(container: Container, tensor: Tensor) -> ValueError:
    """The error for a tensor that is not quantized, or not in a way that is read here."""
    where, what = container.path_of(tensor), f"tensor {tensor.name!r} of {tensor.label}"
    if found := _foreign(tensor):
        return fault(where, f"{what} is {found}", f"these are read: {_READ}")
    return fault(where, f"{what} is not quantized", "read_tensor gives its values")


def _foreign(tensor: Tensor) -> str | None:
    """What a tensor is in a way to quantize that is not read here, or None."""
    word = tensor.word or ""
    if word.startswith("F8_"):
        return "fp8"
    if word != "Q8_0" and gguf.is_blocks(word):
        return "quantized by llama.cpp"
    if tensor.name.endswith(".qweight"):
        return "codes of GPTQ or AWQ"
    if tensor.name.endswith(".SCB"):
        return "scales of bitsandbytes"
    if tensor.name.endswith(".comfy_quant"):
        return "the mark of a layer that is quantized for ComfyUI"
    return None


def _found(container: Container) -> dict[str, Format]:
    if container.formats is None:
        container.formats = _found_anew(container)
    return container.formats


def _found_anew(container: Container) -> dict[str, Format]:
    found: dict[str, Format] = {}
    for form in FORMATS:
        for name in form.names(container):
            found.setdefault(name, form)
    return found
