"""THE table of the ways in which quantized tensors are stored, and what a container holds."""

from __future__ import annotations

from collections.abc import Iterable

from . import compressed_tensors, gguf, own
from .container import Container
from .quantized import Format, Quantized

#: a tensor that two of them could have found is the first one's
FORMATS: tuple[Format, ...] = (own.FORMAT, compressed_tensors.FORMAT, gguf.FORMAT)


def quantized(container: Container) -> dict[str, Quantized]:
    """The quantized tensors of a container, their parts checked, by the names of the values."""
    return {name: form.one(container, name) for name, form in _found(container).items()}


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


def _found(container: Container) -> dict[str, Format]:
    header = container.shards[0].header
    if header.formats is None:
        header.formats = {}
        for form in FORMATS:
            for name in form.names(container):
                header.formats.setdefault(name, form)
    return header.formats
