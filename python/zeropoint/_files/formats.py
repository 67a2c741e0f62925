"""THE table of the ways in which quantized tensors are stored, and what a container holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from . import comfyui, compressed_tensors, folder, gguf, own
from .container import Container
from .quantized import Format, Quantized
from .source import ForeignError, fault

#: a tensor that two of them could have found is the first one's
FORMATS: tuple[Format, ...] = (
    own.FORMAT,
    comfyui.FORMAT,
    compressed_tensors.FORMAT,
    gguf.FORMAT,
)


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


def without_keys(metadata: dict[str, str]) -> dict[str, str]:
    """A file's metadata but for what speaks of codes."""
    keys = {key for form in FORMATS for key in form.keys}
    return {key: text for key, text in metadata.items() if key not in keys}


_ADVICE = "pass the model in float16, bfloat16 or float32"


def check_unquantized(container: Container, but: str | None = None) -> None:
    """ValueError if there is a quantized tensor, but for those of one format."""
    for name, one in quantized(container).items():
        if one.format != but:
            what = f"it is quantized already: {name!r} by {one.format}"
            raise fault(container.path, what, _ADVICE)


def check_values(container: Container) -> None:
    """ValueError for a model that is quantized already, in a way that is read here or not."""
    config = (folder.config(container.folder) if container.folder else None) or {}
    by = config.get("quantization_config")
    if by is not None:
        method = by.get("quant_method") if isinstance(by, dict) else by
        raise fault(
            container.path, f"it is quantized already, as config.json says: {method}", _ADVICE
        )
    check_unquantized(container)
    for tensor in container.tensors.values():
        what = "fp8" if (tensor.word or "").startswith("F8_") else None
        if tensor.name.endswith(".qweight"):
            what = "codes of GPTQ or AWQ"
        elif tensor.name.endswith(".SCB"):
            what = "scales of bitsandbytes"
        elif tensor.name.endswith(".comfy_quant"):
            what = "the mark of a layer that is quantized for ComfyUI"
        if what:
            where = container.path_of(tensor)
            raise fault(where, f"tensor {tensor.name!r} of {tensor.label} is {what}", _ADVICE)


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
