"""ComfyUI's ``int8_tensorwise``: linear weights in int8, with one scale a tensor or one a row.

For a layer X: the codes ``X.weight`` (I8), the scales ``X.weight_scale`` (F32, of shape () or
(rows, 1), by which ComfyUI tells one from many), and ``X.comfy_quant``, JSON in a U8 tensor.
``_quantization_metadata`` lists the layers once more, and is all that some files have.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _checks
from .container import Container
from .jsontext import Reader
from .quantized import (
    INT8,
    Apart,
    Format,
    ModelFormat,
    Output,
    Plan,
    Planned,
    Quantized,
    Symmetric,
    Writer,
    apart,
    check_free,
)
from .source import AGAIN, REALS, ForeignError, Header, Source, Tensor, fault
from .target import Region

NAME = "comfyui"
_FORMAT = "int8_tensorwise"
_LISTED, _WRITER = "_quantization_metadata", "zeropoint.writer"
_LONGEST = 10_000  # bytes of a marker
_CHOOSE = Symmetric("float32", least=1e-30, of_zeros=1e-30).params


def _names(container: Container) -> Iterable[str]:
    for source in container.shards:
        listed = _listed(source.metadata.get(_LISTED), source.path)
        for name, tensor in source.tensors.items():
            layer, _, last = name.rpartition(".")
            marked = layer in listed or f"{layer}.comfy_quant" in source.tensors
            if last == "weight" and tensor.word == "I8" and marked:
                yield name


@functools.lru_cache(maxsize=2)
def _listed(text: str | None, path: Path) -> dict[str, Any]:
    """What the metadata of a file says of each layer."""
    found: dict[str, Any] = {}
    if text is not None:
        reader = Reader(text.encode(), path, _LISTED)
        for key in reader.members():
            if key == "layers":
                found |= {layer: reader.value() for layer in reader.members()}
            else:
                reader.skip()
        reader.end()
    return found


def _one(container: Container, name: str) -> Quantized:
    codes, layer = container.tensors[name], name.removesuffix(".weight")
    path, source = container.path_of(codes), container.home(codes)
    marker = container.tensors.get(f"{layer}.comfy_quant")
    scale = container.tensors.get(f"{layer}.weight_scale")
    said = _listed(source.metadata.get(_LISTED), path).get(layer, {})
    if marker is not None:  # the fuller one, where both are there
        said = _marker(container, marker)
    if not isinstance(said, dict) or not isinstance(said.get("format"), str):
        raise fault(
            path, f"{layer + '.comfy_quant'!r} holds no format: {_checks.shown(said)}", AGAIN
        )
    more = said.get("params")
    rotated = said.get("convrot") or (isinstance(more, dict) and more.get("convrot"))
    if said["format"] != _FORMAT or rotated:
        form = said["format"] + " with convrot" * bool(rotated)
        what, fix = f"tensor {name!r} is stored as {form}", f"only plain {_FORMAT} is read"
        raise fault(path, what, fix, ForeignError)
    shape = (*codes.shape[:1], 1)
    if scale is None or scale.word != "F32" or scale.shape not in ((), (1,), (1, 1), shape):
        what = f"it has no tensor {layer + '.weight_scale'!r} of F32, shape () or {shape}"
        raise fault(path, what, AGAIN)
    axis = 0 if scale.shape == shape else None
    fields = INT8 | {"axis": axis, "block_size": None}
    parts = (codes, scale, *(() if marker is None else (marker,)))
    reader = functools.partial(apart, codes=codes, step=scale)
    dtype = _dtype(source, said.get("orig_dtype"))
    return Quantized(name, dtype, fields, codes.shape, f"{NAME} {_FORMAT}", parts, reader)


def _marker(container: Container, tensor: Tensor) -> Any:
    """The JSON that a marker holds."""
    path = container.path_of(tensor)
    if tensor.word != "U8" or len(tensor.shape) != 1 or tensor.size > _LONGEST:
        what = f"tensor {tensor.name!r} is of {tensor.label}, shape {tensor.shape}, and no text"
        raise fault(path, what, AGAIN)
    with container.stream(tensor) as stream:
        reader = Reader(stream.array(tensor.size).tobytes(), path, repr(tensor.name))
    value = reader.value()
    reader.end()
    return value


def _dtype(source: Source, said: Any) -> str:
    """The dtype of the values: what their marker says, else that of most tensors in the file."""
    if said is None:
        return _usual(source.header)
    dtype = str(said).removeprefix("torch.")
    if dtype not in REALS.values():
        what = f"orig_dtype {_checks.shown(said)} is unknown"
        raise fault(source.path, what, f"it is one of {_checks.listed(REALS.values())}")
    return dtype


@functools.lru_cache(maxsize=2)
def _usual(header: Header) -> str:
    kept = (one for name, one in header.tensors.items() if not name.endswith(".weight_scale"))
    words = Counter(one.word for one in kept)
    return REALS[max(("F32", *REALS), key=words.__getitem__)]


def _forget(metadata: dict[str, str], names: Collection[str]) -> dict[str, str]:
    kept = {key: text for key, text in metadata.items() if key not in (_LISTED, _WRITER)}
    listed = json.loads(metadata.get(_LISTED, "{}"))  # `_listed` has checked it
    layers = listed.get("layers", {})
    layers = {layer: said for layer, said in layers.items() if f"{layer}.weight" not in names}
    if layers:
        kept[_LISTED] = json.dumps(listed | {"layers": layers})
    return kept


FORMAT = Format(_names, _one, _forget)


@_checks.initialised_once
@dataclass(frozen=True)
class ComfyUI:
    """The scheme."""

    per_row: bool = False

    def reason_to_keep(self, tensor: Tensor) -> None:
        """Every matrix can be stored so."""

    def plan(self, container: Container, tensor: Tensor) -> Plan:
        layer, rows = tensor.name.removesuffix(".weight"), tensor.shape[0]
        marker = json.dumps(self._said(tensor)).encode()
        outputs: dict[str, Output] = {
            tensor.name: ("I8", tensor.shape),
            f"{layer}.weight_scale": ("F32", (rows, 1) if self.per_row else ()),
            f"{layer}.comfy_quant": ("U8", (len(marker),)),
        }
        check_free(container, tensor, outputs)
        fields = INT8 | {"axis": 0 if self.per_row else None, "block_size": None}
        return Plan(fields, _CHOOSE, outputs, functools.partial(_writer, marker))

    def metadata(self, source: Source, planned: Planned) -> dict[str, str]:
        if not planned:
            return source.metadata
        layers = {
            name.removesuffix(".weight"): self._said(tensor)
            for name, (tensor, _) in planned.items()
        }
        text = json.dumps({"format_version": "1.0", "layers": layers}, ensure_ascii=False)
        return source.metadata | {_LISTED: text, _WRITER: "1"}

    def config(self, *_: Any) -> None:
        """ComfyUI reads none."""

    def _said(self, tensor: Tensor) -> dict[str, Any]:
        more = {"per_row": True} if self.per_row else {}
        return {"format": _FORMAT, **more, "orig_dtype": f"torch.{tensor.dtype.name}"}


MODEL = ModelFormat(ComfyUI, ("per_row",))


def _writer(marker: bytes, regions: list[Region]) -> Writer:
    *rest, region = regions
    region.write(np.frombuffer(marker, np.uint8))
    return Apart(rest, "float32")
