"""zeropoint's own format: a quantized tensor in a ``.safetensors`` file.

For NAME: the codes ``NAME``, the two arrays of the parameters by their names (``NAME_scale`` and
``NAME_zero_point``; with a real offset ``NAME_scale`` or ``NAME_span``, and ``NAME_offset``), and
an entry in the JSON under ``zeropoint.tensors`` in the metadata, which holds all else.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _checks
from .._choice import Choice, choose_params
from .._layout import Layout
from .._params import Params
from .._reference import working_dtype
from .container import Container
from .jsontext import Reader
from .quantized import (
    Apart,
    Format,
    ModelFormat,
    Output,
    Plan,
    Planned,
    Quantized,
    apart,
    check_free,
    type_of,
)
from .source import AGAIN, REALS, Source, Tensor, fault

NAME = "zeropoint"
_VERSION = "zeropoint.version"
_TENSORS = "zeropoint.tensors"
_FLAT = re.compile(rb" *+\{[^{}\\]*+\{[^{}\\]*+\}[^{}\\]*+\}")  # an entry, as it is written here


def companions(name: str, params: Params) -> tuple[str, str]:
    """The names of the tensors of the parameters' two arrays."""
    step, origin = params._names
    return f"{name}_{step}", f"{name}_{origin}"


def fields_of(params: Params, axis: int | None) -> dict[str, Any]:
    """The fields that go into the metadata, with the axis counted from 0."""
    return params._recipe() | {"dtype": params.dtype.name, "axis": axis}


def metadata_of(
    metadata: dict[str, str], tensors: dict[str, tuple[str, dict[str, Any]]]
) -> dict[str, str]:
    """The same metadata for a file with these quantized tensors: (dtype, fields)."""
    kept = {key: text for key, text in metadata.items() if key not in (_VERSION, _TENSORS)}
    if not tensors:
        return kept
    entries = {
        name: {"dtype": dtype, "params": fields} for name, (dtype, fields) in tensors.items()
    }
    return kept | {_VERSION: "1", _TENSORS: json.dumps(entries, ensure_ascii=False)}


def _read_entries(source: Source) -> dict[str, dict[str, Any]]:
    """The entries of the quantized tensors in the metadata, by name; read once per header."""
    if _VERSION not in source.metadata:
        return {}
    if source.metadata[_VERSION] != "1":
        raise fault(
            source.path, f"{_VERSION} {source.metadata[_VERSION]!r} is unknown", "upgrade zeropoint"
        )
    if source.header.entries is None:
        source.header.entries = _entries(source)
    return source.header.entries


def _entries(source: Source) -> dict[str, dict[str, Any]]:
    """Of each quantized tensor its dtype, and params of plain values."""
    path, found = source.path, dict[str, dict[str, Any]]()
    reader = Reader(source.metadata.get(_TENSORS, "").encode(), path, _TENSORS)
    seen: dict[bytes, dict[str, Any]] = {}  # most of many tensors have the same
    for name in reader.members():
        text = _FLAT.match(reader.raw, reader.at)
        if text and text[0] in seen:
            reader.at = text.end()
            entry = seen[text[0]]
        else:
            entry = _entry(reader.value(), f"{_TENSORS}, {name!r}: ", path)
            if text:
                seen[text[0]] = entry
        if name in found:
            raise fault(path, f"{_TENSORS}, {name!r}: it occurs twice", AGAIN)
        found[name] = entry
    reader.end()
    return found


def _entry(entry: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "params"}:
        raise fault(path, f"{what}it lacks its dtype or params", AGAIN)
    fields = entry["params"]
    convention = fields.get("convention") if isinstance(fields, dict) else None
    names = type_of(convention if isinstance(convention, str) else None)._RECIPE
    if not isinstance(fields, dict) or set(fields) != set(names):
        raise fault(path, f"{what}its params are not {', '.join(names)}", AGAIN)
    for field, value in (("dtype", entry["dtype"]), *fields.items()):
        if isinstance(value, (dict, list)):
            raise fault(path, f"{what}{field} is {_checks.shown(value)}", AGAIN)
    return entry


def _names(container: Container) -> Iterable[str]:
    return [name for source in container.shards for name in _read_entries(source)]


def _one(container: Container, name: str) -> Quantized:
    for source in container.shards:
        if name in (entries := _read_entries(source)):
            return _quantized(container, source.path, name, entries[name])
    raise KeyError(name)


def _quantized(container: Container, path: Path, name: str, entry: dict[str, Any]) -> Quantized:
    what = f"{_TENSORS}, {name!r}: "
    dtype, fields = entry["dtype"], entry["params"]
    if dtype not in REALS.values():
        raise fault(path, f"{what}dtype {_checks.shown(dtype)} is unknown", AGAIN)
    if fields["dtype"] not in ("uint8", "int8"):  # not all that NumPy would read
        raise fault(
            path, f"{what}codes of dtype {_checks.shown(fields['dtype'])} are unknown", AGAIN
        )
    codes = container.tensors.get(name)
    if codes is None or codes.word != {"uint8": "U8", "int8": "I8"}[fields["dtype"]]:
        raise fault(path, f"it has no tensor {name!r} of {fields['dtype']}", AGAIN)
    axis, block = fields["axis"], fields["block_size"]
    rank = 0 if axis is None else 1 if block is None else len(codes.shape)
    try:
        like = _like(rank, tuple((field, type(value), value) for field, value in fields.items()))
    except (TypeError, ValueError, OverflowError) as error:
        raise fault(path, f"{what}{error}", AGAIN) from None
    if axis is not None and not 0 <= axis < len(codes.shape):
        raise fault(path, f"{what}axis {axis} is not one of {len(codes.shape)}", AGAIN)
    shape = Layout(codes.shape, axis, block).params_shape
    parts = [codes]
    words: tuple[str, ...] = ("F32", "F64")
    for key, array in zip(companions(name, like), like._arrays, strict=True):
        words = ("I32",) if array.dtype.kind == "i" else words
        tensor = container.tensors.get(key)
        if tensor is None or tensor.word not in words or tensor.shape != shape:
            raise fault(
                path, f"it has no tensor {key!r} of {' or '.join(words)}, shape {shape}", AGAIN
            )
        parts.append(tensor)
        words = (tensor.word,)
    _, step, origin = parts
    reader = functools.partial(apart, codes=codes, step=step, origin=origin)
    return Quantized(name, dtype, fields, codes.shape, NAME, tuple(parts), reader)


@functools.lru_cache(maxsize=64)
def _like(rank: int, fields: tuple[tuple[str, type, Any], ...]) -> Params:
    """Parameters of these fields; their arrays are checked when they are read."""
    given = {name: value for name, _, value in fields}
    if given["nan_code"] is not None and given["nan_code"] in (given["qmin"], given["qmax"]):
        raise ValueError(f"nan_code {given['nan_code']} is a code of data too")
    ones = np.ones((1,) * rank, np.float32)
    return type_of(given["convention"])._made(ones, given["qmin"], given)


FORMAT = Format(_names, _one, lambda metadata, _: metadata_of(metadata, {}))


@_checks.initialised_once
@dataclass(frozen=True)
class Own:
    """The scheme: any parameters that `choose_params` gives."""

    choice: Choice
    axis: int | None
    block: int | None
    skip_nan: bool | None = None

    def reason_to_keep(self, tensor: Tensor) -> str | None:
        rank = len(tensor.shape)
        if self.axis is not None and not -rank <= self.axis < rank:
            return f"it has {rank} axes, none of them {self.axis}"
        return None

    def plan(self, container: Container, tensor: Tensor) -> Plan:
        name, shape = tensor.name, tensor.shape
        axis = None if self.axis is None else self.axis % len(shape)
        per = Layout(shape, axis, self.block).params_shape
        choose = functools.partial(self.choice.params, length=shape[-1] if shape else 1)
        low = np.zeros((1,) * len(per), working_dtype(tensor.dtype))
        like = choose(low, low + 1, axis, self.block)  # but for the arrays, those of any range
        word = "F64" if tensor.word == "F64" else "F32"
        outputs: dict[str, Output] = {name: ("I8" if like.dtype == np.int8 else "U8", shape)}
        for key, array in zip(companions(name, like), like._arrays, strict=True):
            outputs[key] = ("I32" if array.dtype.kind == "i" else word, per)
        check_free(container, tensor, outputs)
        writer = functools.partial(Apart, real=REALS[word])
        return Plan(fields_of(like, axis), choose, outputs, writer, skip_nan=self.skip_nan)

    def metadata(self, source: Source, planned: Planned) -> dict[str, str]:
        entries = {
            name: (one["dtype"], one["params"]) for name, one in _read_entries(source).items()
        }
        for name, (tensor, plan) in planned.items():
            entries[name] = tensor.dtype.name, plan.fields
        return metadata_of(source.metadata, entries)

    def config(self, *_: Any) -> None:
        """No engine reads the format."""


def _rows() -> Own:
    return Own(Choice.of(choose_params, "int8", {"symmetric": True}), 0, None)


MODEL = ModelFormat(_rows)
