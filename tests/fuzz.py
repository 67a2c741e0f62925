"""A small fuzzer for all that reads what others wrote: files, dictionaries, models.

Mutants of the files in ``tests/corpus`` go through a parser.  A mutant with a new outcome (another
line that refuses it, other tensors that are accepted) becomes a seed of more mutants.  What may
come out is a result that proves itself, or a ValueError, TypeError or OSError; never another
exception, a warning, a crash, a file that is half written, or `MEMORY` more bytes.

    python -m tests.fuzz npz --seconds 60 --seed 1      # the same seed, the same mutants
    python -m tests.fuzz npz --input bad.npz            # one input
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import faulthandler
import io
import json
import math
import os
import pickle
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zeropoint as zp
from zeropoint import _params, files, observers
from zeropoint._files import open_container
from zeropoint._files.folder import config as read_config
from zeropoint._files.folder import read as read_folder
from zeropoint.interop import gguf as q8_0

from . import gguf_parts as parts

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(__file__).parent / "corpus"
MEMORY = 256 << 20  # of address space, beyond what the process has when it starts
FORESEEN = (ValueError, TypeError, OSError)
_POOL = 2000  # seeds
_LARGEST = 1 << 14  # bytes of a mutant


# ---------------------------------------------------------------------------------------------
# Mutants of bytes

_INTEGERS = (0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 65535, 65536)
_LARGE = (*(2**n + d for n in (31, 32, 53, 62, 63, 64) for d in (-1, 0, 1)), 10**30)
_WORDS = [
    *(str(n) for n in (*_INTEGERS, *_LARGE, -1, -(2**31), -(2**63))),
    *("NaN", "Infinity", "1e999", "-0.0", "null", "true", "True", "False", "{}", "[]", "()", "(3)"),
    *(
        "'descr'",
        "'<f8'",
        "'>f4'",
        "'|O'",
        "'<c16'",
        "'<f2'",
        "'shape'",
        "L",
        ",",
        ":",
        '"',
        "\\u0",
    ),
    *('"F32"', '"BF16"', '"F4"', '"U8"', '"dtype"', '"__metadata__"', "\\ud800", "\x00", "\n"),
    *("PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "a.npy", "_scale", "_zero_point"),
]


def mutated(rng: random.Random, data: bytes, others: list[Any]) -> bytes:
    """`data` with one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        data = _changed(rng, data, others)[:_LARGEST]
    return data


def _changed(rng: random.Random, data: bytes, others: list[Any]) -> bytes:
    at = rng.randint(0, len(data))
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 16, 64)))
    width = rng.choice((1, 2, 4, 8))
    match rng.randrange(9):
        case 0:  # a bit
            return (
                data[:at]
                + bytes(b ^ 1 << rng.randrange(8) for b in data[at : at + 1])
                + data[at + 1 :]
            )
        case 1:
            return data[:at] + rng.randbytes(end - at) + data[end:]
        case 2:
            return data[:at] + data[end:]
        case 3:  # again
            return data[:end] + data[at:end] * rng.choice((1, 2, 30)) + data[end:]
        case 4:
            return data[:at]
        case 5:  # a number in a header of fixed width
            number = rng.choice((*_INTEGERS, *_LARGE, -1, len(data))) % 256**width
            return data[:at] + number.to_bytes(width, "little") + data[at + width :]
        case 6:
            word = rng.choice(_WORDS).encode("latin1")
            return data[:at] + word + data[rng.choice((at, end)) :]
        case 7:  # a number in a text
            numbers = list(re.finditer(rb"[0-9]+", data))
            if numbers:
                found = rng.choice(numbers)
                return (
                    data[: found.start()]
                    + rng.choice(_WORDS).encode("latin1")
                    + data[found.end() :]
                )
            return data
        case _:  # a chunk of another seed
            other = rng.choice(others)
            first = rng.randint(0, len(other))
            return data[:at] + other[first : first + rng.choice((4, 32, 256))] + data[end:]


def npy_mutant(rng: random.Random, data: bytes, others: list[Any]) -> bytes:
    """Bytes changed anywhere, or the text of the header with its length put right, or good."""
    match rng.randrange(3):
        case 0:
            return mutated(rng, data, others)
        case 1:
            long = data[6:7] != b"\x01"
            first = 12 if long else 10
            length = int.from_bytes(data[8:first], "little")
            text = mutated(rng, data[first : first + length], others)
            size = len(text).to_bytes(first - 8, "little")
            return data[:8] + size + text + data[first + length :]
        case _:
            return _good_npy(rng)


def _good_npy(rng: random.Random) -> bytes:
    shape = tuple(rng.randint(0 if rng.random() < 0.1 else 1, 5) for _ in range(rng.randint(0, 4)))
    kind = rng.choice(("f2", "f4", "f4", "f8", "i1", "u1", "b1", "i8", "c8", "c16", "U3", "M8[ns]"))
    dtype = np.dtype(rng.choice("<>") + kind)
    count = math.prod(shape)
    if kind[0] == "f" and rng.random() < 0.8:  # finite
        draw = [rng.gauss(0, 10 ** rng.uniform(-6, 4)) for _ in range(count)]
        values = np.array(draw).astype(dtype)
    else:
        values = np.frombuffer(rng.randbytes(count * dtype.itemsize), dtype)
    file = io.BytesIO()
    order = rng.choice("CF")
    np.lib.format.write_array(
        file, values.reshape(shape, order=order), rng.choice([(1, 0), (2, 0), (3, 0)])
    )
    return file.getvalue()


def npz_mutant(rng: random.Random, data: bytes, others: list[Any]) -> bytes:
    """Bytes changed anywhere, or a new archive of members that are mutants themselves."""
    if rng.random() < 0.4:
        return mutated(rng, data, others)
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as made:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name in rng.sample(
            ("a", "b", "a_scale", "", "../c", "__metadata__", "é"), rng.randint(1, 3)
        ):
            member = _good_npy(rng)
            if rng.random() < 0.3:
                member = npy_mutant(rng, member, [member])
            method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            made.writestr(f"{name}.npy", member, method)
    data = file.getvalue()
    return mutated(rng, data, others) if rng.random() < 0.3 else data


def safetensors_mutant(rng: random.Random, data: bytes, others: list[Any]) -> bytes:
    """Bytes changed anywhere, or the header changed as text or as JSON, its length put right."""
    length = int.from_bytes(data[:8], "little")
    text, rest = data[8 : 8 + length], data[8 + length :]
    kind = rng.randrange(4)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if kind == 0 or (kind > 1 and not isinstance(header, dict)):
        return mutated(rng, data, others)
    if kind == 1:
        text = mutated(rng, text, others)
    else:
        metadata = header.get("__metadata__")
        inner = metadata.get("zeropoint.tensors") if isinstance(metadata, dict) else None
        if inner is not None and rng.random() < 0.5:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                tree = tree_mutant(rng, json.loads(inner), [], _PLAIN)
                metadata["zeropoint.tensors"] = json.dumps(tree)
        else:
            header = tree_mutant(rng, header, [], _PLAIN)
        if kind == 3:
            rest = _fitted(rng, header, rest)
        try:
            text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode(
                errors="surrogatepass"
            )
        except (ValueError, RecursionError):
            return mutated(rng, data, others)
    return struct.pack("<Q", len(text)) + text + rest


def _fitted(rng: random.Random, header: Any, rest: bytes) -> bytes:
    """The data that the header needs; its offsets are put right."""
    widths = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "I8": 1}
    end = 0
    for entry in header.values() if isinstance(header, dict) else ():
        with contextlib.suppress(TypeError, KeyError, AttributeError, OverflowError):
            if not all(isinstance(length, int) for length in entry["shape"]):
                continue  # strings and lists are multiplied too, until the memory is full
            size = widths[entry["dtype"]] * math.prod(entry["shape"])
            if 0 <= size < _LARGEST:
                entry["data_offsets"] = [end, end + size]
                end += size
    return (rest + bytes([rng.randrange(256)]) * max(0, end - len(rest)))[:end]


def gguf_mutant(rng: random.Random, data: bytes, others: list[Any]) -> bytes:
    """Bytes changed anywhere, or a good file, or one of good parts that do not belong together."""
    if rng.random() < 0.4:
        return mutated(rng, data, others)
    infos, values, end = [], b"", 0
    for _ in range(rng.randint(0, 3)):
        name = rng.choice(("a.weight", "blk.0.b.weight", "token_embd.weight", "c", "", "é.weight"))
        shape = [rng.choice((1, 2, 3)) for _ in range(rng.randint(0, 3))]
        kind, width = rng.choice(((0, 4), (1, 2), (30, 2), (28, 8), (24, 1), (8, 34), (12, 144)))
        shape += [rng.choice((32, 32, 64, 256, 3))]
        infos.append(parts.info(name, shape, kind, end))
        size = math.prod(shape) // {34: 32, 144: 256}.get(width, 1) * width
        draw = [rng.gauss(0, 10 ** rng.uniform(-9, 5)) for _ in range(size // width)]
        if kind in (0, 1):
            with np.errstate(over="ignore"):
                each = np.array(draw).astype(f"<f{width}").tobytes()
        else:
            each = rng.randbytes(size)
        values += each + bytes(-size % 32)
        end = len(values)
    pairs = [
        rng.choice(
            (
                parts.u32("general.file_type", rng.choice(_INTEGERS[:8])),
                parts.u32("general.alignment", rng.choice((32, 32, 8, 0, 48, 64))),
                parts.pair("s", parts.STRING, parts.text("x" * rng.choice((0, 1, 70)))),
                parts.pair("f", 6, rng.randbytes(4)),
                parts.pair("a", parts.ARRAY, struct.pack("<IQ", 1, 3) + b"abc"),
                parts.pair("n", parts.ARRAY, struct.pack("<IQ", parts.ARRAY, 1) * 3),
            )
        )
        for _ in range(rng.choice((0, 1, 2)))
    ]
    data = parts.made(pairs, infos, values)[:_LARGEST]
    return mutated(rng, data, others) if rng.random() < 0.3 else data


# ---------------------------------------------------------------------------------------------
# Mutants of dictionaries


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


_PLAIN: list[Callable[[random.Random], Any]] = [
    lambda rng: rng.choice((None, True, False)),
    lambda rng: rng.choice(_INTEGERS) * rng.choice((1, -1)),
    lambda rng: rng.choice(_LARGE) * rng.choice((1, -1)),
    lambda rng: rng.choice((0.0, -0.0, 0.5, 1e-45, 1e-39, 3.4e38, 3.5e38, 5e-324, 1.7e308)),
    lambda rng: rng.choice((math.nan, math.inf, -math.inf)),
    lambda rng: rng.gauss(0, 1) * 10.0 ** rng.randint(-40, 38),
    lambda rng: rng.choice(
        ("", "a", "\ud800", "é", "x" * 1000, "numpy", "torch", "onnx", "tflite")
    ),
    lambda rng: rng.choice(("uint8", "int8", "float32", "float64", "bfloat16", "F32", "U8", "I8")),
    lambda rng: [rng.choice((0, 1, 2, 0.5, 255)) for _ in range(rng.randint(0, 4))],
    lambda rng: rng.choice(({}, {"a": 1}, [[]], [[1], [2, 3]], [[1, 2], [3, 4]])),
    lambda rng: _nested(rng.choice((2, 33, 65, 200, 480, 900, 960, 980))),
]
_ANY = [
    *_PLAIN,
    lambda rng: rng.choice((1j, b"a", (1, 2), {1}, range(3), object(), int, "f4,f4", ...)),
    lambda rng: rng.choice((np.float16(2), np.float64(2), np.int64(3), np.uint8(3), np.bool_(1))),
    lambda rng: np.array(rng.choice(([], [1], [1, 2], [1.5], ["a"], [None], 3, [[1], [2]]))),
    lambda rng: _nested(100_000),
]


def tree_mutant(
    rng: random.Random, tree: Any, others: list[Any], values: list[Callable[..., Any]] = _ANY
) -> Any:
    """A copy of nested dictionaries and lists with one to three changes."""
    tree = _copied(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        _walk(tree, places)
        if not places or rng.random() < 0.02:
            return rng.choice(values)(rng)
        at, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del at[key]
            case 1 if isinstance(at, dict):
                at[rng.choice(("spam", 3, "", None))] = rng.choice(values)(rng)
            case 1:
                at.insert(key, at[key])
            case 2:  # what stands elsewhere in it
                other, place = rng.choice(places)
                with contextlib.suppress(LookupError):
                    at[key] = _copied(other[place])
            case 3 if others:
                with contextlib.suppress(LookupError, TypeError):
                    at[key] = _copied(rng.choice(others)[key])
            case _:
                at[key] = rng.choice(values)(rng)
    return tree


def _copied(tree: Any) -> Any:
    try:
        return copy.deepcopy(tree)
    except RecursionError:
        return copy.copy(tree)


def _walk(tree: Any, places: list[tuple[Any, Any]], depth: int = 0) -> None:
    if not isinstance(tree, (dict, list)) or depth > 20:
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        places.append((tree, key))
        _walk(value, places, depth + 1)


# ---------------------------------------------------------------------------------------------
# The parsers; each says whether it took the input, and an AssertionError that its result is bad


class Parser(NamedTuple):
    mutant: Callable[[random.Random, Any, list[Any]], Any]
    run: Callable[[Any, Path], Any]
    suffix: str
    needs: str = "numpy"  #: the package without which it cannot run


OLD = b"the old file"
INDEX = "model.safetensors.index.json"


_CHOSEN = (
    {},
    {"axis": 0},
    {"axis": -1, "block_size": 2},
    {"convention": "cf", "nan_code": 0, "skip_nan": True},
    {"convention": "faiss", "axis": -1},
)


def _file(suffix: str) -> Callable[[bytes, Path], str]:
    """Everything that `zeropoint.files` does with one file."""

    def run(data: bytes, folder: Path) -> str:
        source = folder / f"input{suffix}"
        source.write_bytes(data)
        outcomes = []
        info = _told(lambda: files.inspect_file(source), source, outcomes)
        for tensor in info.tensors if info else ():
            name, shape = tensor.name, tensor.shape
            values = _told(lambda name=name: files.read_tensor(source, name), source, outcomes)
            assert values is None or values.shape == shape
            if tensor.quantized and values is not None:
                params = _told(lambda name=name: files.read_params(source, name), source, outcomes)
                assert params is None or _params.from_dict(params.to_dict()) == params
        _told(lambda: files.load(source), source, outcomes)
        # hash() of bytes differs from run to run
        chosen: dict[str, Any] = _CHOSEN[sum(data) % len(_CHOSEN)]
        if suffix == ".gguf":
            chosen = {}
        kept = ".gguf" if suffix == ".gguf" else ".safetensors"
        jobs: list[tuple[str, Callable[[Path], Any]]] = [
            (f"q{kept}", lambda target: files.quantize_file(source, target, **chosen))
        ]
        if suffix == ".gguf":
            jobs.append(("b.gguf", lambda target: files.dequantize_file(source, target)))
        if suffix == ".safetensors":
            jobs += [
                ("b.safetensors", lambda target: files.dequantize_file(source, target)),
                ("b.npy", lambda target: files.dequantize_file(source, target)),
            ]
        for name, job in jobs:
            _job(source, folder / name, job, outcomes)
        return " ".join(outcomes)

    return run


def folder_mutant(rng: random.Random, data: bytes, others: list[Any]) -> bytes:
    """An index changed as text or as JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        index = json.loads(data)
        if rng.random() < 0.6:
            return json.dumps(tree_mutant(rng, index, [], _OF_FOLDERS)).encode()
    return mutated(rng, data, others)


_OF_FOLDERS = [
    *_PLAIN,
    lambda rng: rng.choice(("a", "b", "..", ".", "/", "sub/a", "../outside")) + ".safetensors",
    lambda rng: rng.choice(
        ("config.json", "a.safetensors\0", "C:a.safetensors", "\\a.safetensors")
    ),
]


def _folder(data: bytes, folder: Path) -> str:
    """A folder of two shards; the text is its index and its config.json too."""
    source, target = folder / "input", folder / "q"
    source.mkdir(exist_ok=True)
    for place, name in ((source, "a"), (source, "b"), (folder, "outside")):
        head = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        body = struct.pack("<Q", len(head)) + head + struct.pack("<2f", -1, 2)
        (place / f"{name}.safetensors").write_bytes(body)
    for name in (INDEX, "config.json"):
        (source / name).write_bytes(data)
    outcomes: list[str] = []
    _told(lambda: read_config(read_folder(source)), source, outcomes)
    info = _told(lambda: files.inspect_file(source), source, outcomes)
    assert info is None or {tensor.name for tensor in info.tensors} <= {"a", "b"}
    if len(data) % 2:
        target.mkdir()
        (target / "config.json").write_bytes(OLD)
    summary = _told(lambda: files.quantize_file(source, target), source, outcomes)
    left = {path.name for path in folder.iterdir()} - {"input", "outside.safetensors"}
    assert left == ({"q"} if summary or len(data) % 2 else set()), left
    if summary is not None:
        names = {tensor.name for tensor in files.inspect_file(target).tensors}
        assert names == json.loads((target / INDEX).read_text())["weight_map"].keys()
        assert (target / "config.json").read_bytes() == data
    elif left:
        assert [path.read_bytes() for path in target.iterdir()] == [OLD]
    shutil.rmtree(target, ignore_errors=True)
    return " ".join(outcomes)


def _told(job: Callable[[], Any], source: Path, outcomes: list[str]) -> Any:
    """What `job` returns; None if it refuses, in a few words that name the file."""
    try:
        found = job()
    except FORESEEN as error:
        text = str(error)
        assert str(source) in text, text[:2000]
        assert len(text) < 1000 + len(str(source)), text[:2000]
        outcomes.append(_place(error))
        return None
    outcomes.append("good")
    return found


def _job(source: Path, target: Path, job: Callable[[Path], Any], outcomes: list[str]) -> None:
    """One job; its target holds the old file or a good new one, and nothing else is left."""
    old = len(outcomes) % 2 == 0
    if old:
        target.write_bytes(OLD)
    summary = _told(lambda: job(target), source, outcomes)
    left = {path.name for path in target.parent.iterdir()} - {source.name}
    if summary is None:
        assert left == ({target.name} if old else set()), left
        assert not old or target.read_bytes() == OLD
        target.unlink(missing_ok=True)
        return
    assert left == {target.name}, left
    if target.suffix == ".gguf":
        _holds_blocks(source, target, summary)
        target.unlink()
        return
    if target.suffix == ".npy":
        assert np.load(target).shape == summary.tensors[0].shape
    else:
        _opens(target)
    for one in summary.tensors if target.name != "b.npy" else ():
        if one.kept is None and summary.target.endswith("q.safetensors"):
            values = files.read_tensor(source, one.name)
            params = files.read_params(target, one.name)
            codes = files.read_tensor(target, one.name)
            np.testing.assert_array_equal(zp.quantize(values, params), codes, strict=True)
        elif one.kept is None:
            codes, params = files.load(source)[one.name]
            values = zp.dequantize(codes, params, dtype=one.dtype)
            np.testing.assert_array_equal(values, files.read_tensor(target, one.name), strict=True)
    target.unlink()


def _holds_blocks(source: Path, target: Path, summary: files.FileSummary) -> None:
    """Blocks and values are those of `zeropoint.interop.gguf`; NaN are equal to NaN."""
    for one in summary.tensors:
        if one.kept is None and target.name == "q.gguf":
            blocks = q8_0.quantize_q8_0(files.read_tensor(source, one.name))
            np.testing.assert_array_equal(_bytes(target, one.name), blocks.ravel(), strict=True)
        elif one.kept is None:
            blocks = _bytes(source, one.name).reshape(*one.shape[:-1], -1)
            values = q8_0.dequantize_q8_0(blocks, dtype=one.dtype)
            np.testing.assert_array_equal(values, files.read_tensor(target, one.name), strict=True)
        else:
            assert _bytes(source, one.name).tobytes() == _bytes(target, one.name).tobytes()


def _bytes(path: Path, name: str) -> Any:
    with open_container(path) as container, container.stream(container.tensors[name]) as stream:
        return stream.array(container.tensors[name].bytes, np.dtype(np.uint8))


def _opens(path: Path) -> None:
    """The safetensors library reads the same tensors; NaN are equal to NaN."""
    import safetensors

    theirs = dict(safetensors.deserialize(path.read_bytes()))
    ours = {tensor.name: tensor for tensor in files.inspect_file(path).tensors}
    assert theirs.keys() == ours.keys()
    for name, found in theirs.items():
        shape, dtype = tuple(found["shape"]), found["dtype"]
        assert (shape, dtype) == (ours[name].shape, ours[name].dtype)


def _dictionary(kind: Any) -> Callable[[Any, Path], str]:
    """``kind.from_dict``: what it takes it writes, and reads again as the same."""

    def run(data: Any, folder: Path) -> str:
        found = kind.from_dict(data)
        fields = found.to_dict()
        assert kind.from_dict(fields) == found
        again = kind.from_dict(json.loads(json.dumps(fields, allow_nan=False)))
        assert again == found
        assert again.to_dict() == fields
        return "good"

    return run


def _observer(kind: Any) -> Callable[[Any, Path], str]:
    """As for any dictionary; and an observer with data chooses parameters."""
    plain = _dictionary(kind)

    def run(data: Any, folder: Path) -> str:
        plain(data, folder)
        found = kind.from_dict(data)
        repr(found)
        twice = kind.from_dict(data).merge(found)
        assert twice.to_dict()["min"] == found.to_dict()["min"]
        found.params()
        return "good"

    return run


def _litert(data: Any, folder: Path) -> str:
    from zeropoint.interop import litert

    params = litert.params(data)
    assert zp.QuantParams.from_dict(params.to_dict()) == params
    return "good"


def _onnx(data: bytes, folder: Path) -> str:
    from zeropoint.interop import onnx as adapter

    path = folder / "input.onnx"
    path.write_bytes(data)
    outcomes = []
    for name in ("x", "xq", "w", "wq", "y"):
        try:
            params = adapter.params(path, name)
        except FORESEEN as error:
            outcomes.append(_place(error))
            continue
        assert zp.QuantParams.from_dict(params.to_dict()) == params
        outcomes.append("good")
    return " ".join(outcomes)


def _codec() -> Any:
    from zeropoint.zarr import AffineCodec

    return AffineCodec


PARSERS = {
    "npy": Parser(npy_mutant, _file(".npy"), ".npy"),
    "npz": Parser(npz_mutant, _file(".npz"), ".npz"),
    "safetensors": Parser(safetensors_mutant, _file(".safetensors"), ".safetensors"),
    "gguf": Parser(gguf_mutant, _file(".gguf"), ".gguf"),
    "folder": Parser(folder_mutant, _folder, ".index"),
    "params": Parser(tree_mutant, _dictionary(_params), ".json"),
    "minmax": Parser(tree_mutant, _observer(observers.MinMaxObserver), ".json"),
    "histogram": Parser(tree_mutant, _observer(observers.HistogramObserver), ".json"),
    "litert": Parser(tree_mutant, _litert, ".json"),
    "onnx": Parser(mutated, _onnx, ".onnx", "onnx"),
    "zarr": Parser(
        tree_mutant, lambda data, folder: _dictionary(_codec())(data, folder), ".json", "zarr"
    ),
}


# ---------------------------------------------------------------------------------------------
# The engine


def _place(error: BaseException) -> str:
    """The lines of zeropoint that an error came through."""
    found = [type(error).__name__]
    for frame in traceback.extract_tb(error.__traceback__):
        if "zeropoint" in frame.filename and frame.filename != __file__:
            found.append(f"{Path(frame.filename).stem}:{frame.lineno}")
    return " ".join(found)


def seeds(name: str) -> list[Any]:
    """The corpus of a parser."""
    found = sorted((CORPUS / name).iterdir())
    assert found, CORPUS / name
    return [_read(path) for path in found]


def _read(path: Path) -> Any:
    if path.suffix == ".pickle":  # written by `fuzz` below
        return pickle.loads(path.read_bytes())
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()


def outcome(name: str, data: Any, folder: Path) -> str:
    """What became of one input; anything that breaks a promise is raised."""
    try:
        return str(PARSERS[name].run(data, folder))
    except FORESEEN as error:
        return _place(error)


def fuzz(name: str, seconds: float, seed: int, folder: Path) -> tuple[int, int]:
    """Mutants for so many seconds: how many, and how many different outcomes."""
    rng, pool, seen, count = random.Random(seed), seeds(name), set(), 0
    queue = list(pool)  # unchanged at first
    end = time.monotonic() + seconds
    while queue or time.monotonic() < end:
        data = queue.pop() if queue else PARSERS[name].mutant(rng, rng.choice(pool), pool)
        try:
            found = outcome(name, data, folder)
        except BaseException:
            kept = Path.cwd() / f"fuzz-{name}-{seed}-{count}"
            if isinstance(data, bytes):
                kept = kept.with_suffix(PARSERS[name].suffix)
                kept.write_bytes(data)
            else:
                with contextlib.suppress(Exception):  # too deep
                    print(f"input: {data!r}"[:3000], file=sys.stderr)
                    kept = kept.with_suffix(".pickle")
                    kept.write_bytes(pickle.dumps(data))
            print(f"mutant {count} of seed {seed}, kept as {kept.name}", file=sys.stderr)
            raise
        count += 1
        if found not in seen:
            seen.add(found)
            if len(pool) < _POOL:
                pool.append(data)
    return count, len(seen)


def report(name: str, seconds: float, seed: int) -> str:
    """Fuzz in a process of its own; the line that it ends with, or an AssertionError."""
    command = [sys.executable, "-m", "tests.fuzz", name, f"--seconds={seconds}", f"--seed={seed}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr[-6000:]}"
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parser", choices=PARSERS)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=Path, help="run this input alone")
    given = parser.parse_args()
    faulthandler.enable()
    zp.set_num_threads(1)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk is ten times slower
    with tempfile.TemporaryDirectory(dir=memory) as name:
        folder = Path(name)
        outcome(given.parser, seeds(given.parser)[0], folder)  # imports what it needs
        warnings.simplefilter("error")
        now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))
        if given.input:
            print(outcome(given.parser, _read(given.input), folder))
            return
        count, kinds = fuzz(given.parser, given.seconds, given.seed, folder)
    print(f"fuzz {given.parser}: {count} inputs, {kinds} outcomes, no failure (seed {given.seed})")


if __name__ == "__main__":
    main()
