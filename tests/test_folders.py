"""A model's folder: what is weights, what is copied; how a new folder takes the old one's place."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zeropoint as zp
from zeropoint import _files, files
from zeropoint._files import folder, formats, target

from . import checkpoints

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
MAP = {"a.weight": SHARDS[0], "b.weight": SHARDS[1], "b.bias": SHARDS[1]}


def weights(*names: str) -> bytes:
    """A .safetensors file of tensors of one F32 each."""
    entries = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i, name in enumerate(names)
    }
    head = json.dumps(entries).encode()
    return struct.pack("<Q", len(head)) + head + bytes(4 * len(names))


def put(top: Path, **texts: Any) -> Path:
    """Files by name: text, bytes, or what becomes JSON."""
    for name, content in texts.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return top


def sharded(top: Path, **more: Any) -> Path:
    files = {shard: weights(*(n for n in MAP if MAP[n] == shard)) for shard in SHARDS}
    index = {"metadata": {"total_size": 12, "total_parameters": 3}, "weight_map": MAP}
    return put(top, **files | {INDEX: index, "config.json": {"a": 1}} | more)


def content(top: Path) -> dict[str, bytes | None]:
    """All files and folders, by name."""
    return {
        str(path.relative_to(top)): path.read_bytes() if path.is_file() else None
        for path in top.rglob("*")
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "model"


# ---------------------------------------------------------------------------------------------
# What is there


def test_one_file(model: Path) -> None:
    found = folder.read(put(model, **{"model.safetensors": weights("a"), "config.json": "{}"}))
    assert (found.shards, found.weight_map, found.index) == (("model.safetensors",), None, None)
    assert (found.copied, found.left_out, found.index_metadata) == (("config.json",), {}, {})


@pytest.mark.parametrize(
    "index", [INDEX, "diffusion_pytorch_model.safetensors.index.json", "x.safetensors.index.json"]
)
def test_shards(model: Path, index: str) -> None:
    sharded(model)
    (model / INDEX).rename(model / index)
    found = folder.read(model)
    assert (found.shards, found.weight_map, found.index) == (SHARDS, MAP, index)
    assert found.index_metadata == {"total_parameters": 3}
    assert found.copied == ("config.json",)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "flux1-dev.safetensors"])
def test_a_file_of_another_name(model: Path, name: str) -> None:
    assert folder.read(put(model, **{name: weights("a")})).shards == (name,)


def test_of_two_that_diffusers_knows_the_one_it_takes(model: Path) -> None:
    put(model, **{f"diffusion_pytorch_model{v}.safetensors": weights("a") for v in ("", ".fp16")})
    found = folder.read(model)
    assert found.shards == ("diffusion_pytorch_model.safetensors",)
    assert list(found.left_out) == ["diffusion_pytorch_model.fp16.safetensors"]


def test_both_a_file_and_an_index(model: Path) -> None:
    """transformers takes the file, and does not look at the index."""
    sharded(model, **{"model.safetensors": weights("a"), INDEX: "broken"})
    found = folder.read(model)
    assert found.shards == ("model.safetensors",)
    assert found.left_out == dict.fromkeys(
        sorted([*SHARDS, INDEX]),
        "it may hold weights in another form; they are read from model.safetensors",
    )


COPIES = (
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"),
    *("consolidated.00.pth", "consolidated.safetensors", "model.fp16.safetensors", "a.ckpt"),
    *("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1", "rust_model.ot"),
    *("openvino/openvino_model.bin", "model-q8_0.gguf", "model.tflite", "optimizer.pt", "A.PTH"),
    *("diffusion_pytorch_model.safetensors.index.fp16.json", "original/model.safetensors"),
)
COPIED = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "vocab.txt"),
    *("merges.txt", "README.md", "LICENSE", ".gitattributes", "chat_template.jinja", "a/b/c.png"),
    *("1_Pooling/config.json", "modeling_own.py", "qwen.tiktoken", "mel_filters.npz", "bin"),
)


def test_what_is_copied(model: Path) -> None:
    sharded(model, **dict.fromkeys((*COPIES, *COPIED), "{}"))
    parts = ".zeropoint-0.part", "a/.zeropoint-1.part"
    put(model, **{"module/.git": "gitdir: ../.git"})  # of a submodule
    put(model, **{".git/HEAD": "a", ".cache/x": "a"} | dict.fromkeys(parts, "a"))
    found = folder.read(model)
    assert found.copied == tuple(sorted(COPIED))
    assert set(found.left_out) == {*COPIES, ".git", ".cache", "module/.git", *parts}
    assert (
        found.left_out["a.ckpt"]
        == f"it may hold weights in another form; they are read from {INDEX}"
    )
    assert found.left_out[".cache"] == "it is a cache"


def test_modules_of_sentence_transformers_are_parts(model: Path) -> None:
    """Its dense layer lies in a folder of its own, and the model is nothing without it."""
    modules = [{"idx": 0, "path": ""}, {"idx": 1, "path": "2_Dense"}, 3, {"path": [4]}]
    files = {"2_Dense/model.safetensors": weights("d"), "onnx/model.onnx": "", "x.bin": ""}
    put(model, **{"model.safetensors": weights("a"), "modules.json": modules}, **files)
    found = folder.read(model)
    assert found.copied == ("2_Dense/model.safetensors", "modules.json")
    assert set(found.left_out) == {"onnx/model.onnx", "x.bin"}


def test_a_cache_of_links(tmp_path: Path) -> None:
    """As huggingface_hub makes it; the blobs have no suffix."""
    snapshot = tmp_path / "models--a--b/snapshots/0123"
    sharded(tmp_path / "was", **{"1_Pooling/config.json": "{}"})
    for i, name in enumerate(sorted(p for p, c in content(tmp_path / "was").items() if c)):
        blob = tmp_path / "models--a--b/blobs" / f"{i:064x}"
        put(tmp_path, **{str(blob): (tmp_path / "was" / name).read_bytes()})
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    found = folder.read(snapshot)
    assert found.shards == SHARDS
    assert found.copied == ("1_Pooling/config.json", "config.json")
    made = tmp_path / "made"
    made.mkdir()
    target.copy_files(snapshot, (*found.copied, *found.shards), made, lambda more: None)
    assert not any(path.is_symlink() for path in made.rglob("*"))
    (tmp_path / "was" / INDEX).unlink()
    assert content(made) == content(tmp_path / "was")
    with pytest.raises(ValueError, match=r"in folders of it, 'snapshots/0123'; pass one of them, "):
        folder.read(tmp_path / "models--a--b")


@pytest.mark.parametrize("name", ["config.json", SHARDS[0], INDEX, "images/a.png"])
@pytest.mark.parametrize("to", ["../blobs/gone", "round"], ids=["nothing", "circle"])
def test_links_to_nothing(model: Path, name: str, to: str) -> None:
    path = sharded(model, **{"images/b.png": b""}) / name
    path.unlink(missing_ok=True)
    path.symlink_to(to if to != "round" else path)
    with pytest.raises(ValueError, match=rf"{name}: it is a link to nothing, .*; download it"):
        folder.read(model)


def test_a_link_that_may_not_be_followed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sharded(model) / "a.txt").symlink_to("elsewhere")
    real = os.stat

    def refuse(path: Any, **keywords: Any) -> os.stat_result:
        if str(path).endswith("a.txt"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, **keywords)

    monkeypatch.setattr(folder.os, "stat", refuse)
    with pytest.raises(PermissionError, match=r"a\.txt"):
        folder.read(model)


def test_a_copy_may_be_a_link_to_nothing(model: Path) -> None:
    (sharded(model) / "pytorch_model.bin").symlink_to("gone")
    assert list(folder.read(model).left_out) == ["pytorch_model.bin"]


def test_links_to_folders(tmp_path: Path, model: Path) -> None:
    (sharded(model) / "images").symlink_to(put(tmp_path / "elsewhere", **{"a.png": "a"}))
    assert folder.read(model).copied == ("config.json", "images/a.png")
    (tmp_path / "elsewhere" / "back").symlink_to(model)
    with pytest.raises(ValueError, match=r"images/back: it is a link to a folder that it is in; "):
        folder.read(model)


@pytest.mark.parametrize("name", ["fifo", "config.json", SHARDS[1]])
def test_a_fifo(model: Path, name: str) -> None:
    path = sharded(model) / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    if name in SHARDS:
        with pytest.raises(ValueError, match=f"{name}: it is not a regular file"):
            folder.read(model)
    else:
        assert folder.read(model).left_out == {name: "it is not a regular file"}


def test_too_many_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded(model)
    monkeypatch.setattr(folder, "_MOST", 4)
    assert folder.read(model).copied == ("config.json",)
    put(model, more="")
    with pytest.raises(ValueError, match=r"holds more than 4 files and folders; pass the folder"):
        folder.read(model)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "it is empty; pass a folder with model.safetensors"),
        (["a.txt"], "it holds no weights, only 'a.txt'; pass a folder with model.safetensors"),
        (list("abcde"), "only 'a', 'b', 'c' and 2 more"),
        (
            ["pytorch_model.bin", "pytorch_model.bin.index.json"],
            "weights in 'pytorch_model.bin', but none in .safetensors; load it with transformers",
        ),
        (["b.gguf", "a.bin"], "its weights are in 'b.gguf'; pass the file"),
        (["a.safetensors", "b.safetensors"], "it holds 'a.safetensors', 'b.safetensors', and"),
        (["a.safetensors", "b.safetensors"], "; pass one of the files"),
        ([SHARDS[0]], "and not their index; download model.safetensors.index.json and all"),
        (["unet/a.safetensors", "vae/b.safetensors"], r"'unet', 'vae'; pass one of them, such as "),
        ([f"{c}.safetensors.index.json" for c in "ab"], "; pass one of the files"),
    ],
)
def test_no_weights(model: Path, names: list[str], message: str) -> None:
    model.mkdir()
    put(model, **{name: weights("a") for name in names})
    with pytest.raises(ValueError, match=message) as error:
        folder.read(model)
    assert str(error.value).startswith(str(model))


def test_one_shard_that_is_all(model: Path) -> None:
    name = "model-00001-of-00001.safetensors"
    assert folder.read(put(model, **{name: weights("a")})).shards == (name,)


# ---------------------------------------------------------------------------------------------
# Broken indexes


def index(**changed: Any) -> str:
    return json.dumps({"metadata": {"total_size": 12}, "weight_map": MAP} | changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not valid JSON"),
        ("[]", "it is not valid JSON"),
        ("﻿" + index(), "it is not valid JSON"),  # as transformers
        (index() + "x", "text follows its end"),
        (index(weight_map=[]), "an object is missing"),
        (index(weight_map=None), "an object is missing"),
        (index(weight_map={}), "it has no weight_map, or an empty one"),
        ('{"metadata": {}}', "it has no weight_map"),
        (index(metadata=[1]), "its metadata are no JSON object"),
        ('{"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}}', "'a' occurs twice"),
        ('{"weight_map": {}, "weight_map": {}}', "'weight_map' occurs twice"),
        (index(weight_map=MAP | {"c": "model-3.safetensors"}), "'model-3.safetensors' is missing"),
        (index(weight_map=MAP | {"c": 3}), "tensor 'c' is in 3, which is no .safetensors file"),
        (index(weight_map=MAP | {"c": "config.json"}), "'config.json', which is no .safetensors"),
    ],
)
def test_a_broken_index(model: Path, text: str, message: str) -> None:
    put(sharded(model), **{INDEX: text})
    with pytest.raises(ValueError, match=message) as error:
        folder.read(model)
    assert str(error.value).startswith(str(model / INDEX))


@pytest.mark.parametrize(
    "shard",
    ["../x", "/etc/x", "a/x", "a\\x", "..\\x", "C:x", "C:\\x", "./x", "\0x", "//x", "a/../x"],
)
def test_a_shard_outside(tmp_path: Path, model: Path, shard: str) -> None:
    put(tmp_path, **{"x.safetensors": weights("c"), "model/a/x.safetensors": weights("c")})
    put(sharded(model), **{INDEX: index(weight_map=MAP | {"c": f"{shard}.safetensors"})})
    with pytest.raises(ValueError, match=r"which is no .safetensors file beside it"):
        folder.read(model)


def test_a_long_text(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded(model)
    monkeypatch.setattr(folder, "_LONGEST", (model / INDEX).stat().st_size)
    folder.read(model)
    monkeypatch.setattr(folder, "_LONGEST", (model / INDEX).stat().st_size - 1)
    with pytest.raises(ValueError, match=r"index.json: it has more than \d+ bytes"):
        folder.read(model)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({SHARDS[1]: []}, f"it says that tensor 'b.bias' is in '{SHARDS[1]}', which lacks it"),
        ({SHARDS[1]: ["b.weight"]}, f"it says that tensor 'b.bias' is in '{SHARDS[1]}', which la"),
        ({SHARDS[1]: ["b.weight", "b.bias", "c"]}, f"lacks tensor 'c', which is in '{SHARDS[1]}'"),
        ({SHARDS[1]: ["b.weight", "b.bias", "a.weight"]}, f"'a.weight' is in '{SHARDS[0]}' and in"),
        (
            {SHARDS[0]: ["a.weight", "b.bias"], SHARDS[1]: ["b.weight"]},
            f"'b.bias' is in '{SHARDS[0]}', but it says '{SHARDS[1]}'",
        ),
    ],
)
def test_shards_that_hold_something_else(model: Path, names: Any, message: str) -> None:
    found = folder.read(sharded(model))
    right = {SHARDS[0]: ["a.weight"], SHARDS[1]: ["b.weight", "b.bias"]}
    folder.check(found, right)
    with pytest.raises(ValueError, match=message):
        folder.check(found, right | names)


def test_one_file_needs_no_index_to_be_checked(model: Path) -> None:
    found = folder.read(put(model, **{"model.safetensors": weights("a")}))
    folder.check(found, {"model.safetensors": ["a"]})


# ---------------------------------------------------------------------------------------------
# Configuration and index


def test_config_as_transformers_reads_it(model: Path) -> None:
    read = folder.config
    assert read(folder.read(put(model, **{"model.safetensors": weights("a")}))) is None
    put(model, **{"config.json": '{"b": NaN, "a": -Infinity, "b": 2, "c": {"__float__": "NaN"}}'})
    found = read(folder.read(model))
    assert found == {"b": 2, "a": float("-inf"), "c": {"__float__": "NaN"}}
    assert list(found) == ["b", "a", "c"]
    for broken, message in (
        ("", "it is not JSON"),
        ("﻿{}", "it is not JSON"),
        ("[1]", "it is no JSON object"),
        (b"\xff{}", "it is not JSON"),
        ('{"a":' * 100_000, "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"a": 1' + "0" * 5000 + "}", "it is not JSON"),
    ):
        put(model, **{"config.json": broken})
        with pytest.raises(ValueError, match=rf"config.json: {message}"):
            read(folder.read(model))


def test_config_is_written_with_its_members_in_their_order(model: Path) -> None:
    model.mkdir()
    given = {"b": 1, "a": {"y": "é", "x": float("inf")}, "c": "\ud800"}
    folder.write_config(model, given)
    text = (model / "config.json").read_text()
    assert text == json.dumps(given, indent=2) + "\n"
    assert json.loads(text) == given


@pytest.mark.slow("loads torch and transformers")
def test_index_as_transformers_writes_it(tmp_path: Path, model: Path) -> None:
    """The same bytes as those of save_pretrained."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=64,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(model, max_shard_size="20KB")
    found = folder.read(model)
    assert len(found.shards) > 1
    assert found.weight_map is not None
    theirs = (model / INDEX).read_bytes()
    size = json.loads(theirs)["metadata"]["total_size"]
    folder.write_index(tmp_path, found, dict(reversed(found.weight_map.items())), size)
    assert (tmp_path / INDEX).read_bytes() == theirs


# ---------------------------------------------------------------------------------------------
# Copies


def test_copies(tmp_path: Path, model: Path) -> None:
    large = os.urandom(target._BLOCK + 1)
    put(model, **{"a/b/run.sh": "#!/bin/sh", "large": large, "empty": b""})
    (model / "a/b/run.sh").chmod(0o4711)
    (model / "large").chmod(0o400)
    done: list[int] = []
    before = os.umask(0o027)
    try:
        target.copy_files(model, ["a/b/run.sh", "large", "empty"], tmp_path / "to", done.append)
    finally:
        os.umask(before)
    assert content(tmp_path / "to") == content(model)
    assert done == [9, target._BLOCK, 1]
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "to").rglob("*")}
    assert modes == {"a": 0o750, "b": 0o750, "run.sh": 0o750, "large": 0o640, "empty": 0o640}


def test_a_file_that_changes_while_it_is_copied(tmp_path: Path, model: Path) -> None:
    put(model, a="text")
    with pytest.raises(ValueError, match=r"model/a: it changed while it was copied; keep it"):
        target.copy_files(model, ["a"], tmp_path, lambda more: put(model, a="other text") and None)


# ---------------------------------------------------------------------------------------------
# The folder as a whole

OLD = {"config.json": b"old", "sub/a.txt": b"old"}
NEW = {"config.json": b"new", "model.safetensors": b"new", "sub": None, "sub/b.txt": b"new"}


def build(place: Path, names: Any = NEW) -> None:
    put(place, **{name: text for name, text in names.items() if text is not None})


def replace(to: Path, then: Callable[[], object] = lambda: None) -> None:
    """Write the new folder; `then` is called once it is complete."""
    with target.replacing_folder(to) as made:
        build(made)
        then()


@pytest.fixture(params=["at once", "in steps"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of taking the old folder's place."""
    if request.param == "in steps":

        class Old:
            """A file system that cannot exchange two names."""

            def renameat2(self, *_: Any) -> int:
                target.ctypes.set_errno(errno.EINVAL)
                return -1

        monkeypatch.setattr(target.ctypes, "CDLL", lambda *_, **__: Old())
    return str(request.param)


def test_a_new_folder(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with target.replacing_folder(tmp_path / "to") as made:
            assert made.parent == tmp_path
            assert made.name.startswith(".zeropoint-")
            build(made)
            assert not (tmp_path / "to").exists()
    finally:
        os.umask(before)
    assert content(tmp_path / "to") == NEW
    assert stat.S_IMODE((tmp_path / "to").stat().st_mode) == 0o775
    assert os.listdir(tmp_path) == ["to"]


def test_an_old_folder(tmp_path: Path, exchange: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if exchange == "at once":
        monkeypatch.setattr(target.os, "rename", lambda *_: pytest.fail("not at once"))
    build(tmp_path / "to", OLD)
    (tmp_path / "to" / "link").symlink_to(tmp_path)  # it is not followed when the old one goes
    (tmp_path / "to").chmod(0o2711)
    with target.replacing_folder(tmp_path / "to") as made:
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        build(made)
    assert content(tmp_path / "to") == NEW
    assert stat.S_IMODE((tmp_path / "to").stat().st_mode) == 0o2711
    assert os.listdir(tmp_path) == ["to"]


@pytest.mark.parametrize("exists", [True, False], ids=["old", "none"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error(tmp_path: Path, exists: bool, kind: type[BaseException]) -> None:
    if exists:
        build(tmp_path / "to", OLD)
    before = content(tmp_path)

    def fail() -> None:
        raise kind

    with pytest.raises(kind):
        replace(tmp_path / "to", fail)
    assert content(tmp_path) == before


@pytest.mark.parametrize("late", [False, True], ids=["fails", "interrupted after"])
@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize("exchange", ["in steps"], indirect=True)
def test_the_steps_are_undone(
    tmp_path: Path, exchange: str, step: int, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names cannot be exchanged at once."""
    build(tmp_path / "to", OLD)
    before, real, calls = content(tmp_path), os.rename, iter(range(9))

    def rename(*names: Any) -> None:
        at = next(calls) == step
        if late or not at:
            real(*names)
        if at:
            raise KeyboardInterrupt

    monkeypatch.setattr(target.os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path / "to")
    is_new = step + late >= 2
    assert content(tmp_path) == (before if not is_new else {"to": None} | under("to", NEW))


def under(top: str, names: Any) -> dict[str, Any]:
    return {f"{top}/{name}": text for name, text in names.items()}


def test_an_old_folder_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error, and the new folder is there."""
    build(tmp_path / "to", OLD)
    real = target.shutil.rmtree

    def fail(path: Path, ignore_errors: bool = False) -> None:
        real(path / "sub", ignore_errors=True)
        if not ignore_errors:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(target.shutil, "rmtree", fail)
    with pytest.raises(OSError, match="Input/output error"):
        replace(tmp_path / "to")
    assert content(tmp_path / "to") == NEW


def test_a_part_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong first is the error."""

    def fail(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError

    monkeypatch.setattr(target.shutil, "rmtree", fail)
    with pytest.raises(KeyError):
        replace(tmp_path / "to", lambda: {}["a"])


def test_another_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its C library has no renameat2; other errors of it are errors."""
    build(tmp_path / "to", OLD)
    monkeypatch.setattr(target.ctypes, "CDLL", lambda *_, **__: object())
    replace(tmp_path / "to")
    assert content(tmp_path / "to") == NEW

    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match=r"'.*/a' -> '.*/b'"):  # the real one
        target._exchange(tmp_path / "a", tmp_path / "b")

    class Broken:
        def renameat2(self, *_: Any) -> int:
            target.ctypes.set_errno(errno.EIO)
            return -1

    monkeypatch.setattr(target.ctypes, "CDLL", lambda *_, **__: Broken())
    before = content(tmp_path)
    with pytest.raises(OSError, match=r"Input/output error: '.*\.part' -> '.*to'"):
        replace(tmp_path / "to")
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ([], True),
        (["config.json"], True),
        (["x.safetensors", "photo.png"], True),
        (["sub/config.json"], False),
        (["photo.png"], False),
    ],
)
def test_which_folders_are_replaced(tmp_path: Path, names: list[str], allowed: bool) -> None:
    to = tmp_path / "to"
    to.mkdir()
    put(to, **dict.fromkeys(names, "old"))
    before = content(to)
    if allowed:
        replace(to)
        assert content(to) == NEW
        return
    with pytest.raises(ValueError, match=r"to: it is a folder without .*; choose another name, or"):
        replace(to, lambda: pytest.fail("it was begun"))
    assert content(to) == before


def test_what_comes_to_be_there_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a: it is a folder without weights"):
        replace(tmp_path / "a", lambda: put(tmp_path, **{"a/photo.png": "mine"}))
    with pytest.raises(ValueError, match=r"b: it is no folder"):
        replace(tmp_path / "b", lambda: put(tmp_path, b="mine"))
    assert content(tmp_path) == {"a": None, "a/photo.png": b"mine", "b": b"mine"}


def test_folders_that_meet(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded(model)
    (tmp_path / "link").symlink_to(model)
    check = target.check_folders
    for dst in (model, tmp_path / "link", tmp_path / "x/../model", model / "."):
        with pytest.raises(ValueError, match="it is the source; choose another target"):
            check(model, dst)
    for dst in (model / "to", tmp_path / "link" / "to"):
        with pytest.raises(ValueError, match="it lies in the source"):
            check(model, dst)
        with pytest.raises(ValueError, match="it lies in the source"):
            check(tmp_path / "link", dst)
    with pytest.raises(ValueError, match=r"the source, .*, lies in it"):
        check(model, tmp_path)
    assert check(model, tmp_path / "model2") == tmp_path / "model2"
    assert check(tmp_path / "link", tmp_path / "to") == tmp_path / "to"
    assert check(model, put(tmp_path / "a.safetensors", **OLD)) == tmp_path / "a.safetensors"
    (tmp_path / "other").symlink_to("to")
    assert check(model, tmp_path / "other") == tmp_path / "to"
    monkeypatch.chdir(tmp_path)
    assert check(Path("model"), Path("to")) == tmp_path / "to"
    with pytest.raises(FileNotFoundError, match=r"dst 'no/to': there is no directory '.*/no'"):
        check(Path("model"), Path("no/to"))
    with pytest.raises(ValueError, match=r"source is a folder, and this the name of a file; "):
        check(Path("model"), Path("to.safetensors"))
    Path("file").touch()
    with pytest.raises(ValueError, match="it is no folder; choose another name"):
        check(Path("model"), Path("file"))
    with pytest.raises(ValueError, match=r"mount point, which cannot be replaced"):
        check(Path("model"), Path("/proc"))


def test_a_source_of_links_into_the_target(tmp_path: Path, model: Path) -> None:
    """The old target is removed, and with it the weights that the source only seems to have."""
    sharded(tmp_path / "to")
    model.mkdir()
    for name in (*SHARDS, INDEX, "config.json"):
        (model / name).symlink_to(tmp_path / "to" / name)
    found = folder.read(model)
    target.check_folders(model, tmp_path / "to2", found.shards)
    with pytest.raises(
        ValueError, match=rf"'{SHARDS[0]}' of the source, '.*/model', is a link into it; choose"
    ):
        target.check_folders(model, tmp_path / "to", found.shards)


def test_a_parent_that_is_read_only(tmp_path: Path) -> None:
    """For another user, since root may write anywhere."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    (tmp_path / "parent").mkdir()
    build(tmp_path / "parent/to", OLD)
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and not path.stat().st_mode & 0o001:
            path.chmod(0o755)
    job = """
import os, sys
from pathlib import Path
from zeropoint._files.target import replacing_folder
os.setuid(65534)
with replacing_folder(Path(sys.argv[1])):
    raise AssertionError("it was begun")
"""
    for to in ("to", "new"):
        done = subprocess.run(
            [sys.executable, "-c", job, str(tmp_path / "parent" / to)],
            capture_output=True,
            text=True,
        )
        assert "PermissionError: [Errno 13] Permission denied: " in done.stderr, done.stderr
    assert os.listdir(tmp_path / "parent") == ["to"]


@pytest.mark.parametrize("exists", [True, False], ids=["old", "none"])
def test_a_disk_that_is_full(tmp_path: Path, model: Path, exists: bool) -> None:
    """A file that cannot grow, at each place."""
    put(model, a=b"a" * 100, b=b"b" * 50, c=b"c" * 120)
    if exists:
        build(tmp_path / "to", OLD)
    before = content(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in range(0, 120, 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with (
                pytest.raises(OSError, match="File too large"),
                target.replacing_folder(tmp_path / "to") as made,
            ):
                target.copy_files(model, "abc", made, lambda more: None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert content(tmp_path) == before


def test_a_real_disk_that_is_full(tmp_path: Path, model: Path) -> None:
    """A small file system of its own: without room for data, and without room for names."""
    put(model, a=os.urandom(30_000), b=os.urandom(5_000), **{"sub/c": os.urandom(9_000)})
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=128k,nr_inodes=12 none {disk}"
    command = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if os.geteuid() != 0 or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    job = """
import errno, os, sys
from pathlib import Path
from zeropoint._files import target
from tests.test_folders import OLD, build, content
model, disk = map(Path, sys.argv[1:])
build(disk / "to", OLD)
copy = lambda made: target.copy_files(model, ["a", "b", "sub/c"], made, lambda more: None)
full = 0
for empty in range(5):  # inodes
    for room in (0, 4096, 20_000, 35_000, 40_000):
        ballast = disk / "ballast"
        ballast.mkdir()
        count = os.statvfs(disk).f_ffree - empty - 1
        for i in range(count):
            (ballast / str(i)).touch()
        (ballast / "large").write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - room))
        before = content(disk)
        try:
            with target.replacing_folder(disk / "to") as made:
                copy(made)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            full += 1
        assert content(disk) == before, (empty, room)
        target.shutil.rmtree(ballast)
with target.replacing_folder(disk / "to") as made:
    copy(made)
assert content(disk / "to") == content(model)
print(full)
"""
    done = subprocess.run(
        [*command, sys.executable, "-c", job, str(model), str(disk)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout == "25\n", done.stderr


@pytest.mark.parametrize("exists", [True, False], ids=["old", "none"])
def test_everything_is_synced_before_it_has_the_name(
    tmp_path: Path, exists: bool, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rename itself before anything of the old folder goes."""
    if exists:
        build(tmp_path / "to", OLD)
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if synced[-1] == str(tmp_path) and exists:
            [part] = tmp_path.glob(".zeropoint-*.part")
            assert content(part) == {**OLD, "sub": None}
            assert content(tmp_path / "to") == NEW
        real(descriptor)

    monkeypatch.setattr(target.os, "fsync", fsync)
    replace(tmp_path / "to")
    part = synced[-2]
    assert Path(part).name.startswith(".zeropoint-")
    assert sorted(synced) == sorted([str(tmp_path), part, *(f"{part}/{name}" for name in NEW)])
    assert synced.index(f"{part}/sub/b.txt") < synced.index(f"{part}/sub")
    assert synced[-1] == str(tmp_path)


# ---------------------------------------------------------------------------------------------
# Jobs from folder to folder


@pytest.fixture
def values(model: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a model of two shards, with files beside them."""
    sharded(model, **{"pytorch_model.bin": "x", "tokenizer.json": "{}", "sub/config.json": "{}"})
    rng = np.random.default_rng(0)
    made = {name: rng.normal(size=(40, 64)).astype(np.float32) for name in MAP}
    for shard in SHARDS:
        of_shard = {name: made[name] for name in MAP if MAP[name] == shard}
        save_file(of_shard, model / shard, {"format": "pt"})
    return made


def test_a_folder_there_and_back(tmp_path: Path, model: Path, values: Any) -> None:
    """Its source is a cache of links; every tensor has the bits of the functions on arrays."""
    snapshot, before = tmp_path / "snapshots" / "0123", content(model)
    for i, (name, text) in enumerate(sorted(before.items())):
        if text is not None:
            (tmp_path / f"blob{i}").write_bytes(text)
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / name).symlink_to(tmp_path / f"blob{i}")
    done: list[tuple[int, int]] = []
    to = tmp_path / "q"
    for source in (model, snapshot):
        summary = files.quantize_file(
            source, to, axis=0, include="*.weight", progress=lambda *seen: done.append(seen)
        )
        assert done[-1][0] == done[-1][1] == sum(x.nbytes for x in values.values()) + 2 + 2 + 8
        assert [one.name for one in summary.tensors if one.kept is None] == ["a.weight", "b.weight"]
        assert summary.left_out == {
            "pytorch_model.bin": f"it may hold weights in another form; they are read from {INDEX}"
        }
        assert summary.bytes_out == sum((to / shard).stat().st_size for shard in SHARDS)
        assert not any(path.is_symlink() for path in to.rglob("*"))
    new = content(to)
    assert {name for name, text in new.items() if text is not None} == set(before) - {
        "pytorch_model.bin",
        "sub",
    }
    for name in ("config.json", "tokenizer.json", "sub/config.json"):
        assert new[name] == before[name]
    written = json.loads((to / INDEX).read_text())
    loaded = {shard: load_file(to / shard) for shard in SHARDS}
    assert written["weight_map"] == {name: s for s in sorted(loaded) for name in sorted(loaded[s])}
    assert written["metadata"] == {
        "total_parameters": 3,
        "total_size": sum(x.nbytes for some in loaded.values() for x in some.values()),
    }
    back = tmp_path / "back"
    files.dequantize_file(to, back)
    for name, x in values.items():
        found = load_file(back / MAP[name])[name]
        if name.endswith("bias"):
            np.testing.assert_array_equal(found, x)
            continue
        codes, params = zp.quantize_dynamic(x, axis=0)
        np.testing.assert_array_equal(loaded[MAP[name]][name], codes)
        assert files.read_params(to, name) == params
        np.testing.assert_array_equal(files.read_tensor(to, name), codes)
        np.testing.assert_array_equal(found, params.dequantize(codes))
    assert set(content(back)) == set(new)


@pytest.mark.parametrize(
    "broken",
    [
        {INDEX: index(weight_map=MAP | {"c": "model-3.safetensors"})},
        {INDEX: index(weight_map=MAP | {"c": "../c.safetensors"})},
        {INDEX: index(weight_map=MAP | {"c": SHARDS[0]})},
        {SHARDS[1]: weights("b.weight", "b.bias", "a.weight")},
        {SHARDS[1]: weights("b.weight")},
        {SHARDS[1]: weights("b.weight", "b.bias")[:-1]},
        {SHARDS[1]: b"<html>"},
    ],
    ids=range(7),
)
@pytest.mark.parametrize("job", [files.quantize_file, files.dequantize_file])
def test_nothing_is_written_from_a_broken_folder(
    tmp_path: Path, model: Path, values: Any, broken: Any, job: Any
) -> None:
    build(tmp_path / "to", OLD)
    put(tmp_path, **{"c.safetensors": weights("c")})
    put(model, **broken)
    before = content(tmp_path)
    for to in ("to", "new"):
        with pytest.raises(ValueError, match=str(model)):
            job(model, tmp_path / to)
        assert content(tmp_path) == before


def test_a_job_that_is_interrupted(tmp_path: Path, model: Path, values: Any) -> None:
    """At each report; and a shard that is written to meanwhile."""
    build(tmp_path / "to", OLD)
    before = content(tmp_path)
    reports = itertools.count()
    files.quantize_file(model, tmp_path / "new", progress=lambda *_: next(reports))
    target.shutil.rmtree(tmp_path / "new")
    for last in range(next(reports)):
        left = iter(range(last))

        def stop(done: int, total: int, left: Any = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        for to in ("to", "new"):
            with pytest.raises(KeyboardInterrupt):
                files.quantize_file(model, tmp_path / to, progress=stop)
            assert content(tmp_path) == before

    def touch(done: int, total: int) -> None:
        (model / SHARDS[0]).write_bytes((model / SHARDS[0]).read_bytes())

    with pytest.raises(ValueError, match=rf"{SHARDS[0]}: it changed while it was read"):
        files.quantize_file(model, tmp_path / "to", progress=touch)
    assert content(tmp_path) == before


def test_a_folder_of_links_into_the_target_is_not_lost(
    tmp_path: Path, model: Path, values: Any
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name in (*SHARDS, INDEX):
        (links / name).symlink_to(model / name)
    before = content(model)
    with pytest.raises(ValueError, match=r"is a link into it; choose another target"):
        files.quantize_file(links, model)
    assert content(model) == before


# ---------------------------------------------------------------------------------------------
# One tensor per call


@pytest.fixture
def kept(monkeypatch):
    """What was read last is kept, though the files here are new: nobody changes them meanwhile."""
    monkeypatch.setattr(_files, "_last", None)
    monkeypatch.setattr(_files, "_RECENT", -1e18)


def quantized(top: Path, shards: int = 2) -> Path:
    tensors = {f"{name}.weight": np.ones((2, 128), np.float32) for name in "abcd"}
    checkpoints.folder(top / "floats", {}, tensors, shards)
    files.quantize_checkpoint(top / "floats", top / "q")
    return top / "q"


def test_a_folder_and_its_shards_are_not_taken_for_each_other(tmp_path, kept):
    top = quantized(tmp_path)
    for _ in range(2):
        for path, name in (top, "d.weight"), (top / SHARDS[0], "a.weight"), (top, "c.weight"):
            assert files.read_params(path, name).axis == 0
    for path in (top, top / SHARDS[1]):
        assert files.read_params(path, "d.weight").axis == 0
        with pytest.raises(ValueError, match="no tensor 'd.weight'"):
            files.read_params(top / SHARDS[0], "d.weight")


def test_a_folder_that_changes_is_read_anew(tmp_path, kept):
    top = quantized(tmp_path)
    assert files.read_params(top, "d.weight").axis == 0
    values = {name: np.float32([[3]]) for name in ("c.weight", "d.weight")}
    checkpoints.write(top / SHARDS[1], values)
    with pytest.raises(ValueError, match="it says that tensor 'c.weight_scale' is in"):
        files.read_tensor(top, "d.weight")
    index = json.loads((top / INDEX).read_text())
    for name in ("c", "d"):
        del index["weight_map"][f"{name}.weight_scale"]
    put(top, **{INDEX: index})
    with pytest.raises(ValueError, match="'d.weight'"):
        files.read_params(top, "d.weight")
    assert files.read_tensor(top, "d.weight") == 3
    assert files.read_params(top, "a.weight").axis == 0
    index["weight_map"]["d.weight"] = "another.safetensors"
    put(top, **{INDEX: index})
    with pytest.raises(ValueError, match="its shard 'another.safetensors' is missing"):
        files.read_tensor(top, "d.weight")
    checkpoints.write(top / "model.safetensors", {"e.weight": np.float32([[4]])})
    assert files.read_tensor(top, "e.weight") == 4  # it comes before an index
    (top / "model.safetensors").unlink()
    (top / SHARDS[0]).unlink()
    with pytest.raises(ValueError, match="is missing"):
        files.read_tensor(top, "e.weight")


def test_a_folder_that_is_recent_is_read_each_time(tmp_path, kept, monkeypatch):
    top, read = quantized(tmp_path), []
    monkeypatch.setattr(folder, "read", lambda path, real=folder.read: read.append(1) or real(path))
    monkeypatch.setattr(_files, "_RECENT", 1e18)
    for _ in range(3):
        files.read_params(top, "d.weight")
    assert len(read) == 3


def test_a_loop_over_all_tensors_of_a_folder_is_linear(tmp_path, kept, monkeypatch):
    """Index and headers are read once; what is found in them is kept too."""
    names = [f"model.layers.{i // 512}.experts.{i % 512}.w1" for i in range(5000)]
    one, scale = np.ones((1, 4), np.int8), np.float32([[2]])
    tensors = {f"{name}.weight": one for name in names}
    tensors |= {f"{name}.weight_scale": scale for name in names}
    top = checkpoints.folder(tmp_path / "model", {}, tensors, 4)
    read = []

    def counted(module, function):
        real = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *given: read.append(function) or real(*given))

    counted(folder, "read")
    counted(_files, "_read")
    counted(formats, "_found_anew")
    start = time.process_time()
    for name in names[::4]:
        assert files.read_params(top, f"{name}.weight").scale == 2
        assert files.read_tensor(top, f"{name}.weight").tolist() == [[1] * 4]
    assert read == ["read", *["_read"] * 4, "_found_anew"]
    assert time.process_time() - start < 30


def test_the_names_of_shards_are_checked_once(tmp_path, monkeypatch):
    names = {f"w{i}": SHARDS[i % 2] for i in range(10_000)}
    top = put(tmp_path, **{INDEX: {"weight_map": names}})
    asked, real = [], folder.PureWindowsPath
    monkeypatch.setattr(folder, "PureWindowsPath", lambda name: asked.append(name) or real(name))
    folder._is_shard.cache_clear()
    with pytest.raises(ValueError, match="is missing"):
        folder.read(top)
    assert sorted(asked) == sorted(SHARDS)
