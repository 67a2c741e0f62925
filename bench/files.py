"""Files of models: made from arrays, and copied by the code that quantizes them."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint import files
from zeropoint._files import gguf, jobs, open_container, safetensors
from zeropoint._files.source import Header, Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Shapes = Mapping[str, tuple[int, ...]]
Values = Callable[[str], Iterable[Array]]  #: those of a tensor, by its name, in pieces

WORDS = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def room() -> str | None:
    """A directory in memory, where there is one, so that no disk is measured."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


def folder(
    path: Path,
    shapes: Shapes,
    values: Values,
    dtype: str,
    shard: int = 1 << 62,
    config: Mapping[str, Any] = CONFIG,
) -> Path:
    """A Hugging Face folder, in shards of `shard` bytes at most."""
    path.mkdir()
    parts: list[list[str]] = [[]]
    left, width = shard, 2 if dtype != "float32" else 4
    for name, shape in shapes.items():
        size = math.prod(shape) * width
        if parts[-1] and size > left:
            parts.append([])
            left = shard
        parts[-1].append(name)
        left -= size
    weight_map: dict[str, str] = {}
    for i, names in enumerate(parts, 1):
        several = f"-{i:05}-of-{len(parts):05}" if len(parts) > 1 else ""
        file = f"model{several}.safetensors"
        outputs = {name: (WORDS[dtype], shapes[name]) for name in names}
        head, _ = safetensors.write_header(outputs, {"format": "pt"}, path)
        _write(path / file, head, names, values)
        weight_map |= dict.fromkeys(names, file)
    if len(parts) > 1:
        total = sum(math.prod(shape) for shape in shapes.values()) * width
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "config.json").write_text(json.dumps({**config, "torch_dtype": dtype}))
    return path


def gguf_file(path: Path, shapes: Shapes, values: Values, dtype: str) -> Path:
    """A ``.gguf`` file; `shapes` in the order of the file, and all of whole blocks of 32 bytes."""
    tensors = [
        Tensor(name, WORDS[dtype], WORDS[dtype], False, shape, False, 0, 0)
        for name, shape in shapes.items()
    ]
    outputs = {tensor.name: (WORDS[dtype], tensor.shape) for tensor in tensors}
    head, starts, _ = gguf.write_header(outputs, Header(tensors), path)
    _write(path, head, sorted(starts, key=starts.__getitem__), values)
    return path


def _write(path: Path, head: bytes, names: list[str], values: Values) -> None:
    with path.open("wb") as file:
        file.write(head)
        for name in names:
            for piece in values(name):
                file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)


def copy(source: Path, target: Path) -> None:
    """Copy as all that is not quantized is copied: tensor by tensor, synced and renamed."""
    with open_container(source) as container:
        jobs.dequantize(container, {}, None, target, target, None)


def content(path: Path) -> Array:
    """The bytes of all files with tensors."""
    paths = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return np.concatenate([np.fromfile(each, np.uint8) for each in paths])


def _place(owner: object) -> Path:
    """A folder that goes with its owner."""
    place = Path(tempfile.mkdtemp(prefix="zeropoint-bench-", dir=room()))
    weakref.finalize(owner, shutil.rmtree, place, ignore_errors=True)
    return place


class Converted:
    """An array of shape (tensors, rows, columns) as a file or folder, and what is made of it."""

    def __init__(self, x: Array, form: str) -> None:
        place = _place(self)
        self._form, suffix = form, ".gguf" * (form == "gguf")
        name = "blk.{}.ffn_up.weight" if suffix else "model.layers.{}.mlp.up_proj.weight"
        by_name = {name.format(i): [one] for i, one in enumerate(x)}
        shapes = dict.fromkeys(by_name, x.shape[1:])
        make = gguf_file if suffix else folder
        self.floats = make(place / f"x{suffix}", shapes, by_name.__getitem__, x.dtype.name)
        self._codes, self._target = (place / f"{name}{suffix}" for name in ("codes", "target"))

    def quantize(self, **keywords: Any) -> files.FileSummary:
        return self._quantize(self._target, keywords)

    def dequantized(self, **keywords: Any) -> Callable[[], files.FileSummary]:
        """A call that makes floats again."""
        if not self._codes.exists():
            self._quantize(self._codes, keywords)
        return partial(files.dequantize_file, self._codes, self._target)

    def _quantize(self, target: Path, keywords: dict[str, Any]) -> files.FileSummary:
        if self._form == "gguf":
            return files.quantize_file(self.floats, target)
        return files.quantize_checkpoint(self.floats, target, **keywords)

    def copy(self) -> None:
        copy(self.floats, self._target)

    def clear(self) -> None:
        """Remove the target: to replace one takes longer."""
        if self._target.is_dir():
            shutil.rmtree(self._target)
        self._target.unlink(missing_ok=True)


class Sampled:
    """An ONNX model of three layers in a file, and an array (batches, rows, columns) as its feeds.

    What else is written beside it goes with it.
    """

    def __init__(self, x: Array) -> None:
        onnx, parser = map(importlib.import_module, ("onnx", "onnx.parser"))
        rows, columns = x.shape[1:]
        model = parser.parse_model(f"""
            <ir_version: 10, opset_import: ["": 21]>
            layers (float[{rows}, {columns}] x) => (float[{rows}, {columns}] y) {{
                a = MatMul(x, w1)  b = Relu(a)  c = MatMul(b, w2)  d = Relu(c)  y = MatMul(d, w3)
            }}""")
        weights = np.random.default_rng(6).normal(0, columns**-0.5, (3, columns, columns))
        for i, each in enumerate(weights.astype(np.float32), 1):
            model.graph.initializer.append(onnx.numpy_helper.from_array(each, f"w{i}"))
        self.path = _place(self) / "model.onnx"
        self.path.write_bytes(model.SerializeToString())
        self.feeds = [{"x": each} for each in x]
