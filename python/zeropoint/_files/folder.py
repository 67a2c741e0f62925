"""A model's folder as Hugging Face writes it: weights in one file or in shards, and all else.

Names of files are data: an index may name none outside the folder.  Links are followed, since a
cache's folders are made of them.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from .. import _checks
from .jsontext import Reader
from .source import AGAIN, fault, opened

#: the weights, the first that is there: as transformers, and then diffusers, look for them
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
)
_INDEX = ".safetensors.index.json"
CONFIG = "config.json"
#: other copies of the weights, and their indexes
_COPIES = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.ot", "*.tflite"),
    *("*.gguf", "*.onnx", "*.onnx_data*", "*.onnx.data", "consolidated*"),
    *("*.index.json", "*.index.*.json"),
)
_WITHOUT = {".git": "it is the history of git", ".cache": "it is a cache"}
_OF_SHARDS = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.safetensors\Z")
_DANGLING = "it is a link to nothing"
_TO_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_LONGEST = 100_000_000  # bytes of a text, as of a .safetensors header
_MOST = 10_000  # files and folders; more are not one model's


@_checks.initialised_once
@dataclass(frozen=True)
class Folder:
    """What a model's folder holds; all names are relative to it, with ``/`` between folders."""

    path: Path
    shards: tuple[str, ...]  #: the .safetensors files of the weights, sorted
    weight_map: dict[str, str] | None  #: shard by tensor, from the index; None without one
    index: str | None
    index_metadata: dict[str, Any]  #: all but total_size
    copied: tuple[str, ...]  #: configuration (config.json too), tokenizer, texts, images, ...
    left_out: dict[str, str]  #: other copies of the weights, what is no file, ...; and why


def read(path: Path) -> Folder:
    """The model in the folder at `path`.

    Raises
    ------
    OSError
        What cannot be read.
    ValueError
        No weights, or several; an index that is damaged or hostile; links to nothing, or in a
        circle.
    """
    found = _walk(path)
    weights = _weights(path, found)
    index, weight_map, metadata = None, None, dict[str, Any]()
    shards: tuple[str, ...] = (weights,)
    if found[weights] is None and weights.endswith(".json"):
        index, (weight_map, metadata) = weights, _index(path / weights)
        shards = tuple(sorted(set(weight_map.values())))
    modules = _modules(path) if "modules.json" in found else ()
    copied, left_out = [], {}
    for name, flaw in found.items():
        if name.split("/")[-1].startswith(".zeropoint-"):
            left_out[name] = "an interrupted job left it"
        elif _is_copy(name) and name not in (*shards, index) and name.split("/")[0] not in modules:
            left_out[name] = f"it may hold weights in another form; they are read from {weights}"
        elif flaw and (name in (*shards, weights) or flaw.startswith(_DANGLING)):
            raise fault(path / name, flaw, "download it again")
        elif flaw:
            left_out[name] = flaw
        elif name not in (*shards, index):
            copied.append(name)
    for shard in shards:
        if shard not in found:
            raise fault(path / weights, f"its shard {shard!r} is missing", "download it")
    return Folder(path, shards, weight_map, index, metadata, tuple(copied), left_out)


def check(folder: Folder, names: Mapping[str, Iterable[str]]) -> None:
    """ValueError unless the shards hold the tensors that the index says; `names` by shard."""
    at: dict[str, str] = {}
    for shard, held in names.items():
        for name in held:
            if name in at:
                what = f"tensor {name!r} is in {at[name]!r} and in {shard!r}"
                raise fault(folder.path, what, AGAIN)
            at[name] = shard
    if folder.weight_map is None or folder.weight_map == at:
        return
    name, _ = min(folder.weight_map.items() ^ at.items())
    said, found = folder.weight_map.get(name), at.get(name)
    what = f"tensor {name!r} is in {found!r}, but it says {said!r}"
    if said is None:
        what = f"it lacks tensor {name!r}, which is in {found!r}"
    elif found is None:
        what = f"it says that tensor {name!r} is in {said!r}, which lacks it"
    raise fault(folder.path / str(folder.index), what, "download the folder again")


def config(folder: Folder) -> dict[str, Any] | None:
    """config.json, None if there is none; ValueError if it holds no JSON object.

    It is read as transformers reads it: NaN and Infinity are numbers, and of two members of one
    name the last counts.
    """
    if CONFIG not in folder.copied:
        return None
    found = _json(folder.path / CONFIG)
    if not isinstance(found, dict):
        raise fault(folder.path / CONFIG, "it is no JSON object", AGAIN)
    return found


def quantizations(config: Any) -> list[tuple[dict[str, Any], str]]:
    """Where config.json says how the model, or a part of it, is quantized: objects and their keys.

    Parts are the text model of one that sees, for example; ``compression_config`` is an old name.
    """
    if not isinstance(config, dict):
        return []
    keys = ("quantization_config", "compression_config")
    found = [(config, key) for key in keys if config.get(key) is not None]
    parts = (part for name, part in config.items() if name.endswith("_config") and name not in keys)
    return found + [each for part in parts for each in quantizations(part)]


def write_config(to: Path, config: Mapping[str, Any]) -> None:
    """Write config.json into the folder `to`, its members in their order."""
    _write(to / CONFIG, json.dumps(config, indent=2))


def write_index(to: Path, folder: Folder, weight_map: Mapping[str, str], total_size: int) -> None:
    """Write the index of the new shards into the folder `to`, as transformers writes it.

    `total_size` is that of all tensors, in bytes; `folder` must have an index.
    """
    metadata = folder.index_metadata | {"total_size": total_size}
    index = {"metadata": metadata, "weight_map": dict(weight_map)}
    _write(to / str(folder.index), json.dumps(index, indent=2, sort_keys=True))


def _write(path: Path, text: str) -> None:
    with open(path, "xb") as file:
        file.write(f"{text}\n".encode())


# ---------------------------------------------------------------------------------------------
# What is there


def _walk(top: Path) -> dict[str, str | None]:
    """All files by name, in the order of their names, and why one cannot be copied."""
    found: dict[str, str | None] = {}
    stack: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", (_identity(os.stat(top)),))]
    count = 0
    while stack:
        prefix, above = stack.pop()
        with os.scandir(top / prefix) as entries:
            for entry in entries:
                name, count = prefix + entry.name, count + 1
                if count > _MOST:
                    what = f"it holds more than {_MOST} files and folders"
                    raise fault(top, what, "pass the folder of one model")
                try:
                    state = os.stat(entry.path)
                except OSError as error:
                    if not entry.is_symlink() or error.errno not in _TO_NOTHING:
                        raise
                    found[name] = f"{_DANGLING}, {os.readlink(entry.path)!r}"
                    continue
                if entry.name in _WITHOUT:
                    found[name] = _WITHOUT[entry.name]
                elif stat.S_ISREG(state.st_mode):
                    found[name] = None
                elif not stat.S_ISDIR(state.st_mode):
                    found[name] = "it is not a regular file"
                elif _identity(state) in above:
                    raise fault(top / name, "it is a link to a folder that it is in", "remove it")
                else:
                    stack.append((f"{name}/", (*above, _identity(state))))
    return dict(sorted(found.items()))


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def _is_copy(name: str) -> bool:
    last = name.split("/")[-1].lower()
    return any(fnmatch.fnmatchcase(last, pattern) for pattern in _COPIES)


def _modules(path: Path) -> set[str]:
    """The folders of sentence-transformers' modules, whose weights are parts of the model."""
    found = _json(path / "modules.json")
    modules = found if isinstance(found, list) else []
    return {str(each["path"]) for each in modules if isinstance(each, dict) and "path" in each}


def _weights(path: Path, found: Mapping[str, str | None]) -> str:
    """The file of the weights, or their index."""
    for name in _WEIGHTS:
        if name in found:
            return name
    here = [name for name in found if "/" not in name]
    for end in (_INDEX, ".safetensors"):
        candidates = [name for name in here if name.endswith(end)]
        if candidates and (len(candidates) > 1 or _OF_SHARDS.search(candidates[0])):
            what = f"it holds {_few(candidates)}, and not their index"
            if any(map(_OF_SHARDS.search, candidates)):
                raise fault(path, what, f"download {_WEIGHTS[1]} and all shards")
            raise fault(path, what, "pass one of the files")
        if candidates:
            return candidates[0]
    deeper = {name.rsplit("/", 1)[0] for name in found if name.endswith(".safetensors")}
    if deeper:
        what = f"its weights are in folders of it, {_few(sorted(deeper))}"
        raise fault(path, what, "pass one of them, such as " + repr(str(path / min(deeper))))
    others = [name for name in found if _is_copy(name) and not name.endswith(".json")]
    gguf = [name for name in others if name.endswith(".gguf")]
    if gguf:
        raise fault(path, f"its weights are in {_few(gguf)}", "pass the file")
    if others:
        what = f"it has weights in {_few(others)}, but none in .safetensors"
        raise fault(path, what, "load it with transformers, and save it by save_pretrained")
    what = f"it holds no weights, only {_few(list(found))}" if found else "it is empty"
    raise fault(path, what, "pass a folder with model.safetensors")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


# ---------------------------------------------------------------------------------------------
# Texts


def _index(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """weight_map and metadata of an index; its shards are names of files beside it."""
    reader = Reader(_text(path), path, "it")
    weight_map: dict[str, str] = {}
    metadata: Any = {}
    seen = set()
    for member in reader.members():
        if member in seen:
            raise fault(path, f"{member!r} occurs twice", AGAIN)
        seen.add(member)
        if member == "metadata":
            metadata = reader.value() or {}
        elif member != "weight_map":
            reader.skip()
        else:
            for name in reader.members():
                shard = reader.value()
                if name in weight_map:
                    raise fault(path, f"tensor {name!r} occurs twice", AGAIN)
                if not isinstance(shard, str) or not _is_shard(shard):
                    what = f"tensor {name!r} is in {shard!r}, which is no .safetensors file beside"
                    raise fault(path, f"{what} it", AGAIN)
                weight_map[name] = shard
    reader.end()
    if not weight_map:
        raise fault(path, "it has no weight_map, or an empty one", AGAIN)
    if not isinstance(metadata, dict):
        raise fault(path, "its metadata are no JSON object", AGAIN)
    metadata.pop("total_size", None)
    return weight_map, metadata


@functools.lru_cache(maxsize=1024)
def _is_shard(name: str) -> bool:
    """Whether it is the name of a .safetensors file: no path, on any system."""
    plain = PureWindowsPath(name).name == name and "\0" not in name
    return plain and name.endswith(".safetensors")


def _json(path: Path) -> Any:
    """A JSON text as Python reads it."""
    try:
        return json.loads(_text(path).decode())
    except (ValueError, RecursionError) as error:
        raise fault(path, f"it is not JSON ({error})", AGAIN) from None


def _text(path: Path) -> bytes:
    with opened(path) as file:
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise fault(path, f"it has more than {_LONGEST} bytes", "pass a model's folder")
    return text
