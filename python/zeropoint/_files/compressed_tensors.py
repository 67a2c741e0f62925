"""compressed-tensors, which vLLM and transformers load: int8 weights of linear layers in a folder.

==========  ========================  ============================================
of layer X  ``int-quantized`` (W8A8)  ``pack-quantized`` (W8A16)
==========  ========================  ============================================
codes       ``X.weight`` I8           ``X.weight_packed`` I32 (out, in / 4): bytes
            (out, in)                 are codes + 128, and each row is padded
scales      ``X.weight_scale``        ``X.weight_scale`` (out, in / 128), or
            (out, 1)                  (out, 1)
shape                                 ``X.weight_shape`` I64 (2)
==========  ========================  ============================================

Scales are of the model's dtype, and zero points 0.  ``config.json`` tells the engine.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _checks
from .._reference import Array
from . import folder
from .container import Container
from .linear import HEAD, HEADS, kinds_of, layer_of
from .quantized import (
    INT8,
    Apart,
    Format,
    ModelFormat,
    Output,
    Plan,
    Planned,
    Quantized,
    Reader,
    Ready,
    Symmetric,
    apart,
    check_free,
)
from .source import AGAIN, REALS, ForeignError, Source, Stream, Tensor, fault, real_dtype
from .target import Region

NAME = "compressed-tensors"
SCHEMES = ("W8A8", "W8A16")
GROUP = 128  #: elements of a row that share a scale, of W8A16
_CODES = 4  # of a packed int32
_BYTE = np.dtype(np.uint8)


# ---------------------------------------------------------------------------------------------
# Reading


def _names(container: Container) -> Iterable[str]:
    tensors = container.tensors
    for name, tensor in tensors.items():
        if name.endswith("weight_packed"):
            name = name.removesuffix("_packed")
        elif not (name.endswith("weight") and tensor.word == "I8"):
            continue
        if f"{name}_scale" in tensors:
            yield name


def _one(container: Container, name: str) -> Quantized:
    tensors = container.tensors
    scale, packed = tensors[f"{name}_scale"], tensors.get(f"{name}_packed")
    codes = tensors[name] if packed is None else packed
    path = container.path_of(codes)

    def wrong(what: str, fix: str = AGAIN) -> ValueError:
        return fault(path, f"tensor {name!r} of {NAME}: {what}", fix, ForeignError)

    if f"{name}_g_idx" in tensors:
        raise wrong("its groups are in another order than its columns", "this is not supported")
    if scale.word not in REALS:
        raise wrong(f"its scales are of {scale.label}")
    zero, parts = tensors.get(f"{name}_zero_point"), [codes, scale]
    if packed is None:
        shape = codes.shape
    else:
        shape = _shape(container, name, wrong)
        parts.append(tensors[f"{name}_shape"])
        if codes.word != "I32" or codes.shape != (shape[0], -(-shape[1] // _CODES)):
            raise wrong(
                f"{codes.name!r} is of {codes.label} {codes.shape}, and codes of 8 bits in the "
                f"shape {shape} are I32 {(shape[0], -(-shape[1] // _CODES))}",
                "other widths are not supported",
            )
    if len(shape) != 2:
        raise wrong(f"its shape {shape} is not that of a matrix")
    if zero is not None:
        parts.append(zero)
        stored = "I8", scale.shape
        if packed is not None:  # four rows in one integer
            stored = "I32", (-(-scale.shape[0] // _CODES), *scale.shape[1:])
        if (zero.word, zero.shape) != stored or len(scale.shape) != 2:
            raise wrong(f"its zero points are of {zero.label} {zero.shape}")
    # static ones of the layer's inputs, of no use without codes
    inputs = (f"{name.removesuffix('weight')}input_{part}" for part in ("scale", "zero_point"))
    parts += [tensors[each] for each in inputs if each in tensors]
    fields = INT8 | _granularity(shape, scale, wrong)
    reader = functools.partial(_read, codes, scale, zero, None if packed is None else shape[1])
    form = f"{NAME} {'int' if packed is None else 'pack'}-quantized"
    return Quantized(name, REALS[scale.word], fields, shape, form, tuple(parts), reader)


def _shape(container: Container, name: str, wrong: Any) -> tuple[int, int]:
    tensor = container.tensors.get(f"{name}_shape")
    if tensor is None or tensor.word not in ("I64", "I32") or tensor.shape != (2,):
        raise wrong(f"it lacks {name}_shape, two integers")
    with container.stream(tensor) as stream:
        rows, columns = stream.array(2).tolist()
    if not (0 <= rows < 2**40 and 0 <= columns < 2**40):
        raise wrong(f"{name}_shape is {(rows, columns)}")
    return rows, columns


def _granularity(shape: tuple[int, ...], scale: Tensor, wrong: Any) -> dict[str, int | None]:
    rows, columns = shape
    if scale.shape in ((), (1,), (1, 1)) and rows != 1:
        return {"axis": None, "block_size": None}
    if scale.shape in ((rows,), (rows, 1)):
        return {"axis": 0, "block_size": None}
    groups = scale.shape[1] if len(scale.shape) == 2 and scale.shape[0] == rows else 0
    if groups == 0 or columns % groups:
        raise wrong(f"scales of the shape {scale.shape} fit no weight of the shape {shape}")
    return {"axis": 1, "block_size": columns // groups}


@contextlib.contextmanager
def _read(
    codes: Tensor, scale: Tensor, zero: Tensor | None, columns: int | None, container: Container
) -> Iterator[Reader]:
    if columns is None:
        with apart(container, codes, scale, zero) as reader:
            yield reader
        return
    zeros = None
    if zero is not None:
        rows, groups = scale.shape
        with container.stream(zero) as stream:
            four = _codes(stream.array((zero.shape[0], groups, _CODES), _BYTE))
        zeros = Ready(four.transpose(0, 2, 1).reshape(-1, groups)[:rows])
    with apart(container, codes, scale, zeros, _Packed(columns)) as reader:
        yield reader


def _codes(packed: Array) -> Array:
    return (packed ^ np.uint8(0x80)).view(np.int8)


class _Packed:
    """The codes of rows whose ends are padded."""

    def __init__(self, columns: int) -> None:
        self._columns, self._padding = columns, -columns % _CODES
        self._at = 0  #: column of the next code

    def __call__(self, stream: Stream, shape: tuple[int, ...]) -> Array:
        if not self._padding:
            return _codes(stream.array(shape, _BYTE))
        found = np.empty(shape, _BYTE)
        flat, done = found.reshape(-1), 0
        while done < flat.size:
            rows = 0 if self._at else (flat.size - done) // self._columns
            if rows:
                padded = stream.array((rows, self._columns + self._padding), _BYTE)
                some = padded[:, : self._columns].reshape(-1)
            else:
                some = stream.array(min(flat.size - done, self._columns - self._at), _BYTE)
                self._at += some.size
                if self._at == self._columns:
                    stream.array(self._padding, _BYTE)
                    self._at = 0
            flat[done : done + some.size] = some
            done += some.size
        return _codes(found)


FORMAT = Format(_names, _one)


# ---------------------------------------------------------------------------------------------
# Writing


@_checks.initialised_once
@dataclass(frozen=True)
class CompressedTensors:
    """The scheme: W8A8 has a scale for each row, W8A16 for each group of 128."""

    scheme: str
    divisor: float

    def reason_to_keep(self, tensor: Tensor) -> str | None:
        if self.scheme == "W8A16" and tensor.shape[1] % GROUP:
            return f"{GROUP} does not divide its rows of {tensor.shape[1]}"
        return None

    def plan(self, container: Container, tensor: Tensor) -> Plan:
        name, shape, word = tensor.name, tensor.shape, tensor.word or ""
        dtype = REALS[word]
        # an all-zero channel gets the scale that the format's own tool gives it
        of_zeros = 2.0**-7 if word == "BF16" else float(np.finfo(real_dtype(dtype)).eps)
        choose = Symmetric(dtype, self.divisor, of_zeros=of_zeros).params
        outputs: dict[str, Output]
        if self.scheme == "W8A8":
            per: dict[str, Any] = {"axis": 0, "block_size": None}
            outputs = {name: ("I8", shape), f"{name}_scale": (word, (shape[0], 1))}
            writer: Any = functools.partial(Apart, real=dtype)
        else:
            per = {"axis": 1, "block_size": GROUP}
            outputs = {
                f"{name}_packed": ("I32", (shape[0], shape[1] // _CODES)),
                f"{name}_scale": (word, (shape[0], shape[1] // GROUP)),
                f"{name}_shape": ("I64", (2,)),
            }
            writer = functools.partial(_packing, shape, dtype)
        check_free(container, tensor, outputs)
        error = self.divisor + 0.5 - 127  # of the largest value, which `Symmetric` may clip so far
        return Plan(INT8 | per, choose, outputs, writer, error)

    def metadata(self, source: Source, planned: Planned) -> dict[str, str]:
        return source.metadata

    def config(self, container: Container, planned: Planned) -> dict[str, Any]:
        if container.folder is None or folder.config(container.folder) is None:
            what = f"it has no {folder.CONFIG}, by which an engine knows {NAME}"
            raise fault(container.path, what, "copy that of the model into the folder")
        _check_experts(container, planned)
        W8A8 = self.scheme == "W8A8"
        taken, kept = set[str](), dict[str, None]()
        for name, tensor in container.tensors.items():
            layer = layer_of(tensor)
            if name in planned:
                taken.add(layer)
            elif layer and len(tensor.shape) == 2:
                kept[layer] = None  # an embedding's does no harm, and not all are what they seem
        codes: dict[str, Any] = {"num_bits": 8, "type": "int", "symmetric": True}
        group = {"strategy": "channel"} if W8A8 else {"strategy": "group", "group_size": GROUP}
        inputs = codes | {"strategy": "token", "dynamic": True} if W8A8 else None
        return {
            "quantization_config": {
                "quant_method": NAME,
                "format": "int-quantized" if W8A8 else "pack-quantized",
                "quantization_status": "compressed",
                "ignore": _ignored(kept, taken),
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": codes | group | {"dynamic": False},
                        "input_activations": inputs,
                    }
                },
            }
        }


def _ignored(kept: Collection[str], taken: Collection[str]) -> list[str]:
    """The linear layers of the engine's model that have no codes.

    It may have other names for them, in front of those in the file or by its kinds of layers, and
    an output head that is in no file, being tied to the embeddings.  So there is a pattern for each
    kind, and for all that are called alike but for their numbers, unless it fits a layer of codes.
    """
    patterns = [
        kind.layers
        for kind in kinds_of(NAME)
        if (kind is HEADS or _any_fits(kind.layers, kept)) and not _any_fits(kind.layers, taken)
    ]
    first = [HEAD] if HEADS.layers in patterns else []
    ends = {end for layer in taken for end in _ends(layer)}
    alike = {_alike(end) for end in ends}
    rest = dict[str, None]()
    for layer in kept:
        if any(re.fullmatch(pattern, layer) for pattern in patterns):
            continue
        if _alike(layer) not in alike:
            rest[_alike(layer)] = None
        elif layer not in ends:
            rest[re.escape(layer)] = None
    if rest:  # in one, since Python's cache of patterns is small
        patterns.append(rf"(?:.*\.)?(?:{'|'.join(rest)})")
    names = [layer for layer in kept if not layer.startswith("re:") and layer not in first]
    return [*first, *(f"re:(?:{each})$" for each in patterns), *names]


def _any_fits(pattern: str, layers: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, layer) for layer in layers)


def _ends(layer: str) -> Iterator[str]:
    """What a name in front of it leaves of the name of a layer, itself too."""
    words = layer.split(".")
    return (".".join(words[i:]) for i in range(len(words)))


def _alike(layer: str) -> str:
    """A regular expression of the names that differ from that of a layer in whole numbers alone."""
    return r"\.".join(r"\d+" if word.isdecimal() else re.escape(word) for word in layer.split("."))


def _check_experts(container: Container, planned: Planned) -> None:
    """ValueError where some of a layer's experts are quantized and others are not.

    Engines load them as one; transformers draws the others at random, with a warning.
    """
    seen: dict[str, tuple[bool, str]] = {}
    for name, tensor in container.tensors.items():
        layer, experts, _ = name.partition(".experts.")
        if not (experts and layer_of(tensor) and len(tensor.shape) == 2):
            continue
        first, other = seen.setdefault(layer, (name in planned, name))
        if first != (name in planned):
            one, kept = (other, name) if first else (name, other)
            raise fault(
                container.path_of(tensor),
                f"the expert {one!r} would be quantized and {kept!r} not, and no engine loads both",
                f"quantize all of them or none: W8A8 takes rows that {GROUP} does not divide",
            )


def _packing(shape: tuple[int, ...], scale: str, regions: list[Region]) -> Apart:
    codes, scales, dimensions = regions
    dimensions.write(np.asarray(shape, np.int64))
    return Apart([codes, scales], scale, _packed)


def _packed(codes: Array) -> Array:
    return codes.view(np.uint8) ^ np.uint8(0x80)


def _scheme(scheme: Any = "W8A8", scale_divisor: Any = 127.0) -> CompressedTensors:
    name = _checks.name(scheme, "scheme", SCHEMES)
    if not 127 <= _checks.number(scale_divisor, "scale_divisor") <= 128:
        raise ValueError(
            f"scale_divisor must be from 127 to 128, not {scale_divisor}; 127.5 is that of "
            "compressed-tensors' own tool"
        )
    return CompressedTensors(name, float(scale_divisor))


MODEL = ModelFormat(_scheme, ("scheme", "scale_divisor"), of_folders=True)
