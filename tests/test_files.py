"""`zeropoint.files`: right results, bounded memory, whole files or none."""

import contextlib
import json
import math
import os
import re
import shlex
import signal
import stat
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zeropoint as zp
from zeropoint import _cli, files
from zeropoint._files import jobs, target, tiles

SHAPES = [
    (),
    (1,),
    (7,),
    (300, 70),
    (2, 4000),
    (4000, 2),
    (3, 900, 3),
    (2, 3, 500, 2),
    (1, 5, 1, 90),
]
REALS = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]


@contextlib.contextmanager
def cut(tile, resident, moved):
    """So that small arrays take many chunks, tiles and transpositions.

    They are quantized even where their parameters take more room than is saved.  `resident` is in
    elements of float32.
    """
    before = tiles.TILE, tiles.RESIDENT, target._TILE, jobs._reason_not_worth_it
    tiles.TILE, tiles.RESIDENT, target._TILE = tile, 4 * resident, moved
    jobs._reason_not_worth_it = lambda planned: None
    try:
        yield
    finally:
        tiles.TILE, tiles.RESIDENT, target._TILE, jobs._reason_not_worth_it = before


@pytest.fixture
def small_chunks():
    with cut(1000, 1000, 1000):
        yield


def saved(folder, x, name="w"):
    path = folder / f"{name}.npy"
    np.save(path, x)
    return path


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0.3, 2, shape)).astype(dtype)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def read_back(path):
    """Tensors and metadata of a file, by the safetensors library."""
    with safetensors.safe_open(path, "numpy") as oracle:
        return {name: oracle.get_tensor(name) for name in oracle.keys()}, oracle.metadata()  # noqa: SIM118


def offsets(path):
    """Where the tensors lie, from the header; its length is a multiple of 8."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    return {name: entry["data_offsets"] for name, entry in header.items() if name[0] != "_"}


def same(found, expected):
    """The same shape, dtype and bits."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tobytes() == expected.tobytes()


def is_quantized(tensors, name, x, **keywords):
    """The tensors of `name` are to the bit what the functions give for the array `x`."""
    params = zp.choose_params(x, **keywords)
    same(tensors[name], zp.quantize(x, params))
    same(tensors[f"{name}_scale"], params.scale)
    same(tensors[f"{name}_zero_point"], np.asarray(params.zero_point, np.int32))
    return params


# ---------------------------------------------------------------------------------------------
# Right results


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(tmp_path, small_chunks, shape, dtype, order):
    x = np.asarray(numbers(shape, dtype), order=order)
    source = saved(tmp_path, x)
    summary = files.quantize_file(source, tmp_path / "q.safetensors")
    tensors, metadata = read_back(tmp_path / "q.safetensors")
    params = is_quantized(tensors, "w", x)
    assert files.read_params(tmp_path / "q.safetensors", "w") == params
    assert metadata["zeropoint.version"] == "1"
    assert json.loads(metadata["zeropoint.tensors"]) == {
        "w": {
            "dtype": x.dtype.name,
            "params": {
                "dtype": "uint8",
                "qmin": 0,
                "qmax": 255,
                "axis": None,
                "block_size": None,
                "convention": "numpy",
                "include_zero": True,
                "nan_code": None,
            },
        }
    }
    assert summary.bytes_in == source.stat().st_size
    assert summary.bytes_out == (tmp_path / "q.safetensors").stat().st_size
    assert summary.tensors == (
        files.TensorSummary(
            name="w",
            shape=shape,
            dtype=x.dtype.name,
            codes="uint8",
            axis=None,
            block_size=None,
            bytes_in=x.nbytes,
            bytes_out=x.size + params.scale.nbytes + 4,
            error_bound=float(params.scale) / 2,
            kept=None,
            convention="numpy",
        ),
    )

    back_summary = files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "back.npy")
    back = np.load(tmp_path / "back.npy", allow_pickle=False)
    same(back, zp.dequantize(zp.quantize(x, params), params, dtype=x.dtype.name))
    assert back.flags.c_contiguous
    rounding = np.abs(x).max() * 2 * np.finfo(x.dtype).eps
    error = np.abs(back.astype(np.float64) - x.astype(np.float64)).max()
    assert error <= summary.tensors[0].error_bound + rounding
    assert back_summary.tensors[0].error_bound == summary.tensors[0].error_bound
    assert back_summary.bytes_in == summary.bytes_out
    assert back_summary.bytes_out == (tmp_path / "back.npy").stat().st_size


@pytest.mark.slow("many random cuts")
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_cut_gives_the_bits_of_the_whole_array(tmp_path, monkeypatch, data):
    """Shapes, axes, blocks, dtypes, orders, and boundaries between chunks everywhere."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    shape = data.draw(st.lists(st.integers(1, 9), max_size=4).map(tuple), "shape")
    keywords = {}
    if shape and data.draw(st.booleans()):
        keywords["axis"] = data.draw(st.integers(-len(shape), len(shape) - 1), "axis")
        keywords["block_size"] = data.draw(st.none() | st.integers(1, 10), "block_size")
    keywords["dtype"] = data.draw(st.sampled_from(["uint8", "int8"]))
    keywords["convention"] = data.draw(st.sampled_from(list(zp.CONVENTIONS)))
    dtype = data.draw(st.sampled_from(REALS), "dtype")
    order = data.draw(st.sampled_from("CF"), "order")
    x = np.asarray(numbers(shape, dtype, data.draw(st.integers(0, 99))), order=order)
    source = saved(tmp_path, x)
    calls = []
    with cut(*data.draw(st.tuples(*[st.integers(1, 20)] * 3), "tile, resident, moved")):
        files.quantize_file(
            source,
            tmp_path / "q.safetensors",
            progress=lambda *now: calls.append(now),
            **keywords,
        )
        done, totals = zip(*calls, strict=True)
        assert done[-1] == totals[0]
        assert list(done) == sorted(done)
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.safetensors")
    tensors, _ = read_back(tmp_path / "q.safetensors")
    params = is_quantized(tensors, "w", x, **keywords)
    back = zp.dequantize(tensors["w"], params, dtype=x.dtype.name)
    same(np.load(tmp_path / "b.npy"), back)
    same(read_back(tmp_path / "b.safetensors")[0]["w"], back)
    found = files.read_params(tmp_path / "q.safetensors", "w")
    assert found.axis == (params.axis if params.axis is None else params.axis % len(shape))
    assert (found.block_size, found.convention) == (params.block_size, params.convention)
    same(found.scale, params.scale)


@pytest.mark.parametrize(
    ("shape", "axis", "block", "chunk", "resident"),
    [
        ((12,), 0, 5, 3, 4),  # tiles inside of blocks, which are read twice
        ((12,), 0, 5, 3, 5),  # the same from memory
        ((3, 12, 2), 1, 5, 7, 9),
        ((3, 12, 2), 1, 5, 10, 9),  # one block a tile
        ((3, 12, 2), 1, 5, 21, 9),  # two of three blocks
        ((3, 12, 2), 1, 5, 50, 60),  # two of three rows of blocks
        ((2, 3, 8), 1, 2, 5, 6),  # tiles within a row
        ((2, 3, 8), 1, None, 5, 6),
        ((4, 9), 0, None, 4, 5),  # channels that are read twice
        ((4, 9), 0, None, 20, 9),  # two channels a chunk
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_boundaries(tmp_path, shape, axis, block, chunk, resident, order):
    if order == "F":
        shape, axis = shape[::-1], len(shape) - 1 - axis
    x = np.asarray(numbers(shape, "f4"), order=order)
    with cut(chunk, resident, 5):
        files.quantize_file(
            saved(tmp_path, x), tmp_path / "q.safetensors", axis=axis, block_size=block
        )
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    tensors, _ = read_back(tmp_path / "q.safetensors")
    params = is_quantized(tensors, "w", x, axis=axis, block_size=block)
    same(np.load(tmp_path / "b.npy"), zp.dequantize(tensors["w"], params))


@pytest.mark.parametrize(("dtype", "passes"), [("f2", 1), ("f4", 2), ("f8", 2)])
def test_tensors_that_are_small_in_bytes_are_read_once(tmp_path, dtype, passes):
    x, calls = numbers(150, dtype), []
    with cut(10, 100, 10):
        files.quantize_file(
            saved(tmp_path, x), tmp_path / "q.safetensors", progress=lambda *now: calls.append(now)
        )
    assert calls[-1] == (passes * x.nbytes, passes * x.nbytes)


@given(st.lists(st.integers(1, 1 << 40), min_size=2, max_size=5), st.integers(1, 1 << 22))
def test_tiles_of_a_transposition_fit(shape, tile):
    with cut(1, 1, tile):
        edges = target._edges(tuple(shape))
    assert 1 <= math.prod(edges) <= tile
    assert all(1 <= edge <= length for edge, length in zip(edges, shape, strict=True))


@pytest.mark.parametrize(
    "keywords",
    [
        {"dtype": "int8"},
        {"zero_point_from": "max"},
        {"zero_point_from": "least_error", "include_zero": False},
        {"zero_point_from": "min", "include_zero": False, "axis": 1},
        {"symmetric": True, "dtype": "int8"},
        {"symmetric": True, "dtype": "int8", "axis": 0, "block_size": 7},
        {"qmin": 3, "qmax": 90},
        {"axis": np.int64(1), "block_size": np.uint8(3), "qmin": np.int8(3)},
        {"convention": "onnxruntime"},
        {"convention": "torch"},
        {"convention": "tflite", "dtype": "int8"},
    ],
    ids=str,
)
def test_keywords_are_those_of_choose_params(tmp_path, keywords):
    x = numbers((40, 50), "f4") + 3
    files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", **keywords)
    params = is_quantized(read_back(tmp_path / "q.safetensors")[0], "w", x, **keywords)
    assert files.read_params(tmp_path / "q.safetensors", "w") == params
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    error = np.abs(np.load(tmp_path / "b.npy") - x).max()
    assert error <= np.max(params.scale) / 2 * 1.0001


def test_every_backend_writes_the_same_bytes(tmp_path, backend):
    source = saved(tmp_path, numbers((30, 11), "f4"))
    for keywords in ({}, {"axis": 1}, {"axis": 1, "block_size": 4}):
        files.quantize_file(source, tmp_path / "q.safetensors", **keywords)
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
        with zp.use_backend("reference"):
            files.quantize_file(source, tmp_path / "r.safetensors", **keywords)
            files.dequantize_file(tmp_path / "r.safetensors", tmp_path / "c.npy")
        assert (tmp_path / "q.safetensors").read_bytes() == (
            tmp_path / "r.safetensors"
        ).read_bytes()
        assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", np.float64, "bfloat16"])
def test_dequantize_to_another_dtype(tmp_path, dtype):
    x = numbers((9, 8), "f4")
    files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors")
    params = zp.choose_params(x)
    expected = zp.dequantize(zp.quantize(x, params), params, dtype=dtype)
    summary = files.dequantize_file(
        tmp_path / "q.safetensors", tmp_path / "b.safetensors", dtype=dtype
    )
    assert summary.tensors[0].dtype == expected.dtype.name
    same(files.read_tensor(tmp_path / "b.safetensors", "w"), expected)
    if expected.dtype.name != "bfloat16":
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy", dtype=dtype)
        same(np.load(tmp_path / "b.npy"), expected)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions(tmp_path, version):
    x = numbers((5, 6), "f4")
    with open(tmp_path / "w.npy", "wb") as file:
        np.lib.format.write_array(file, x, version)
    files.quantize_file(tmp_path / "w.npy", tmp_path / "q.safetensors")
    is_quantized(read_back(tmp_path / "q.safetensors")[0], "w", x)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
        '{"shape":(2,3),"fortran_order":False,"descr":"<f4"}',
        "{'descr': '=f4', 'fortran_order': False, 'shape': (2L, 3L)}",
        "  { 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2 , 3 , ) , }  \n\n",
    ],
)
def test_npy_headers_of_other_writers(tmp_path, header):
    x = numbers((2, 3), "<f4")
    text = header.encode()
    path = tmp_path / "w.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + x.tobytes())
    same(files.read_tensor(path, "w"), x)


# ---------------------------------------------------------------------------------------------
# Files of several tensors

MIXED = {
    "model.a.weight": numbers((40, 30), "<f4", 1),
    "model.a.bias": numbers(40, "<f4", 2),
    "model.b.weight": numbers((4, 5, 60), "<f2", 3),
    "model.c": numbers((30, 2), "<f8", 4),
    "ids": np.arange(7),
    "mask": np.array([[True, False]]),
    "empty": np.zeros((0, 3), np.float32),
    "ünïcode \n": numbers((2, 2), "<f4", 5),
    "complex": np.array([1 + 2j], np.complex64),
}


def mixed(folder, suffix):
    """A file of `MIXED`, in the file's own way."""
    path = folder / f"mixed{suffix}"
    if suffix == ".safetensors":
        safetensors.numpy.save_file(MIXED, path, {"format": "pt", "made": "here"})
        return path
    arrays = {
        name: np.asfortranarray(x) if i % 2 else x.astype(x.dtype.newbyteorder(">"))
        for i, (name, x) in enumerate(MIXED.items())
    }
    {".npz": np.savez, ".z.npz": np.savez_compressed}[suffix](path, **arrays)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".z.npz"])
@pytest.mark.parametrize("keywords", [{}, {"axis": 1}, {"axis": -1, "block_size": 4}], ids=str)
def test_all_float_tensors(tmp_path, small_chunks, suffix, keywords):
    source = mixed(tmp_path, suffix)
    summary = files.quantize_file(source, tmp_path / "q.safetensors", **keywords)
    tensors, metadata = read_back(tmp_path / "q.safetensors")
    for tensor, (start, _) in offsets(tmp_path / "q.safetensors").items():
        assert start % tensors[tensor].itemsize == 0  # the data itself starts at k * 8
    kept = {one.name: one.kept for one in summary.tensors if one.kept}
    for name, x in MIXED.items():
        if name in kept:
            same(tensors.pop(name), x)
        else:
            is_quantized(tensors, name, x, **keywords)
            for key in (name, f"{name}_scale", f"{name}_zero_point"):
                tensors.pop(key)
    assert tensors == {}
    expected = {
        "ids": "its dtype is not quantized",
        "mask": "its dtype is not quantized",
        "complex": "its dtype is not quantized",
        "empty": "it has no elements",
    }
    if keywords.get("axis") == 1:
        expected["model.a.bias"] = "it has 1 axes, none of them 1"
    assert kept == expected
    if suffix == ".safetensors":
        assert metadata["format"] == "pt"

    back = files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.safetensors")
    restored, metadata = read_back(tmp_path / "b.safetensors")
    assert metadata == ({"format": "pt", "made": "here"} if suffix == ".safetensors" else None)
    assert restored.keys() == MIXED.keys()
    for one in back.tensors:
        x = MIXED[one.name]
        if one.kept:
            same(restored[one.name], x)
        else:
            params = files.read_params(tmp_path / "q.safetensors", one.name)
            same(restored[one.name], zp.dequantize(zp.quantize(x, params), params, dtype=x.dtype))
    json.dumps([summary.to_dict(), back.to_dict()])


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ("*.weight", None, {"model.a.weight", "model.b.weight"}),
        (["*.weight", "model.c"], "*.b.*", {"model.a.weight", "model.c"}),
        (None, ["*.?.*", "*\n"], {"model.c"}),
        ("model.[bc]*", [], {"model.b.weight", "model.c"}),
        ([], None, set()),
    ],
)
def test_include_and_exclude(tmp_path, include, exclude, expected):
    source = mixed(tmp_path, ".safetensors")

    def quantize():
        return files.quantize_file(
            source, tmp_path / "q.safetensors", include=include, exclude=exclude
        )

    if expected:
        assert {one.name for one in quantize().tensors if one.kept is None} == expected
        tensors, _ = read_back(tmp_path / "q.safetensors")
        for name in MIXED.keys() - expected:
            same(tensors[name], MIXED[name])
    else:
        with pytest.raises(ValueError, match=r"nothing is left to quantize \(.*it is not included"):
            quantize()


def test_a_quantized_file_can_be_quantized_further(tmp_path):
    """One scheme for some tensors, another for the others: what is done stays as it is."""
    source = mixed(tmp_path, ".safetensors")
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    files.quantize_file(source, first, include="*.weight", axis=0, dtype="int8")
    files.quantize_file(first, second)
    tensors, _ = read_back(second)
    is_quantized(tensors, "model.a.weight", MIXED["model.a.weight"], axis=0, dtype="int8")
    is_quantized(tensors, "model.c", MIXED["model.c"])
    assert set(tensors) == MIXED.keys() | {
        f"{name}_{part}"
        for name in ("model.a.weight", "model.b.weight", "model.a.bias", "model.c", "ünïcode \n")
        for part in ("scale", "zero_point")
    }
    files.dequantize_file(second, tmp_path / "b.safetensors")
    assert read_back(tmp_path / "b.safetensors")[0].keys() == MIXED.keys()
    with pytest.raises(ValueError, match="nothing is left to quantize"):
        files.quantize_file(second, tmp_path / "3.safetensors")


@pytest.mark.parametrize("word", ["F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"])
def test_other_dtypes_of_a_byte_are_copied(tmp_path, word):
    header = {
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "v": {"dtype": word, "shape": [3], "data_offsets": [8, 11]},
    }
    text = json.dumps(header).encode()
    source, target = tmp_path / "s.safetensors", tmp_path / "q.safetensors"
    source.write_bytes(struct.pack("<Q", len(text)) + text + np.float32([1, 2]).tobytes() + b"abc")
    files.quantize_file(source, target)
    with safetensors.safe_open(target, "numpy") as oracle:
        assert oracle.get_slice("v").get_dtype() == word
    assert b"abc" in target.read_bytes()


def test_bfloat16(tmp_path):
    x = numbers((20, 30), ml_dtypes.bfloat16)
    header = json.dumps(
        {
            "w": {"dtype": "BF16", "shape": [20, 30], "data_offsets": [0, 1200]},
            "v": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [1200, 1203]},
        }
    ).encode()
    source = tmp_path / "s.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + x.tobytes() + b"abc")
    same(files.read_tensor(source, "w"), x)
    files.quantize_file(source, tmp_path / "q.safetensors", axis=1)
    with safetensors.safe_open(tmp_path / "q.safetensors", "numpy") as oracle:
        tensors = {name: oracle.get_tensor(name) for name in oracle.keys() if name != "v"}  # noqa: SIM118
    params = is_quantized(tensors, "w", x, axis=1)
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.safetensors")
    back = files.read_tensor(tmp_path / "b.safetensors", "w")
    same(back, zp.dequantize(tensors["w"], params, dtype=x.dtype))
    assert (tmp_path / "b.safetensors").read_bytes().endswith(back.tobytes() + b"abc")
    with pytest.raises(TypeError, match="bfloat16 is not a dtype of .npy files; choose float32"):
        files.dequantize_file(quantized_alone(tmp_path, x), tmp_path / "b.npy")


def quantized_alone(folder, x):
    """A quantized file of the bfloat16 array x alone."""
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": x.shape, "data_offsets": [0, x.nbytes]}}
    ).encode()
    path = folder / "alone.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + x.tobytes())
    files.quantize_file(path, folder / "q1.safetensors")
    return folder / "q1.safetensors"


def test_bfloat16_without_ml_dtypes(tmp_path, monkeypatch):
    quantized = quantized_alone(tmp_path, numbers((2, 3), ml_dtypes.bfloat16))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    before = entries(tmp_path)
    for job, source in (
        (files.quantize_file, "alone.safetensors"),
        (files.dequantize_file, quantized.name),
    ):
        with pytest.raises(ImportError, match="bfloat16 needs ml_dtypes>=0.5: pip install"):
            job(tmp_path / source, tmp_path / "new.safetensors")
    assert entries(tmp_path) == before
    assert files.inspect_file(quantized).tensors[-1].quantized["dtype"] == "bfloat16"
    files.dequantize_file(quantized, tmp_path / "b.npy", dtype="float32")


def test_names_that_are_taken(tmp_path):
    source = tmp_path / "s.safetensors"
    x = numbers(4, "f4")
    safetensors.numpy.save_file({"w": x, "w_scale": x}, source)
    with pytest.raises(ValueError, match=r"a tensor 'w_scale', the name of the parameters of 'w'"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    assert entries(tmp_path) == ["s.safetensors"]
    files.quantize_file(source, tmp_path / "q.safetensors", exclude="w")
    is_quantized(read_back(tmp_path / "q.safetensors")[0], "w_scale", x)


def test_dtypes_that_safetensors_lacks(tmp_path):
    source = tmp_path / "s.npz"
    np.savez(source, w=numbers(4, "f4"), names=np.array(["a"]))
    with pytest.raises(TypeError, match=r"tensor 'names' holds <U1, which safetensors lacks"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    assert entries(tmp_path) == ["s.npz"]


def test_a_npy_holds_one_tensor(tmp_path):
    files.quantize_file(mixed(tmp_path, ".safetensors"), tmp_path / "q.safetensors")
    with pytest.raises(ValueError, match="it holds 9 tensors, and a .npy file one"):
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")


def test_inspect(tmp_path):
    source = saved(tmp_path, np.asfortranarray(numbers((4, 6), ">f8")))
    info = files.inspect_file(source)
    assert (info.format, info.bytes, info.metadata) == ("npy", source.stat().st_size, {})
    assert info.tensors == (files.TensorInfo("w", ">f8", (4, 6), "F", 192, None),)

    files.quantize_file(source, tmp_path / "q.safetensors", dtype="int8", axis=1)
    info = files.inspect_file(tmp_path / "q.safetensors")
    by_name = {tensor.name: tensor for tensor in info.tensors}
    assert {name: tensor.dtype for name, tensor in by_name.items()} == {
        "w": "I8",
        "w_scale": "F64",
        "w_zero_point": "I32",
    }
    entry = by_name["w"].quantized
    assert (entry["dtype"], entry["params_shape"], entry["params"]["axis"]) == ("float64", (6,), 1)
    assert by_name["w_scale"].quantized is None
    json.dumps(info.to_dict())

    info = files.inspect_file(mixed(tmp_path, ".z.npz"))
    assert (info.format, len(info.tensors)) == ("npz", len(MIXED))
    info = files.inspect_file(mixed(tmp_path, ".safetensors"))
    assert info.metadata == {"format": "pt", "made": "here"}
    assert {t.name: (t.dtype, t.shape, t.bytes) for t in info.tensors}["ids"] == ("I64", (7,), 56)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".z.npz"])
def test_read_tensor(tmp_path, suffix):
    source = mixed(tmp_path, suffix)
    for name, x in MIXED.items():
        np.testing.assert_array_equal(files.read_tensor(source, name), x, strict=True)
    with pytest.raises(ValueError, match="it has no tensor 'spam'; there are 'complex'|'ids'|'mod"):
        files.read_tensor(source, "spam")


def test_read_params_of_a_tensor_that_has_none(tmp_path):
    source = mixed(tmp_path, ".safetensors")
    with pytest.raises(ValueError, match="tensor 'ids' of I64 is not quantized; read_tensor"):
        files.read_params(source, "ids")


@pytest.mark.parametrize(
    ("keywords", "passes"),
    [
        ({}, 2),
        ({"axis": 0}, 1),
        ({"axis": 1}, 2),
        ({"axis": 0, "block_size": 16}, 1),
        ({"axis": 0, "block_size": 17}, 2),  # 1020 elements are more than may be held
        ({"axis": 1, "block_size": 4}, 1),
    ],
    ids=str,
)
def test_what_fits_the_memory_is_read_once(tmp_path, small_chunks, keywords, passes):
    totals = set()
    files.quantize_file(
        saved(tmp_path, numbers((50, 60), "f4")),
        tmp_path / "q.safetensors",
        progress=lambda done, total: totals.add(total),
        **keywords,
    )
    assert totals == {12000 * passes}


def test_progress(tmp_path, small_chunks):
    """In bytes; a tensor that is larger than the memory may hold is read twice."""
    calls = []
    source = saved(tmp_path, numbers((50, 60), "f4"))
    files.quantize_file(source, tmp_path / "q.safetensors", progress=lambda *now: calls.append(now))
    assert calls == [(4000 * i, 24000) for i in range(1, 7)]
    calls.clear()
    files.dequantize_file(
        tmp_path / "q.safetensors", tmp_path / "b.npy", progress=lambda *now: calls.append(now)
    )
    assert calls == [(1000, 3000), (2000, 3000), (3000, 3000)]


PAGES = Path(__file__).resolve().parents[1] / "docs/how-to"


def blocks(language, page):
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


def test_the_commands_of_the_docs(tmp_path, monkeypatch):
    shell = blocks("sh", "files.md")[0]  # the others need a model
    x = numbers((6, 130), "f4")
    monkeypatch.chdir(tmp_path)
    safetensors.numpy.save_file({"layer.0.weight": x, "a.bias": x[0]}, "model.safetensors")
    for line in shell.splitlines():
        assert _cli.main(shlex.split(line)[1:]) == 0
    tensors, _ = read_back("model.q8.safetensors")
    is_quantized(tensors, "layer.0.weight", x, dtype="int8", axis=0, symmetric=True)
    same(tensors["a.bias"], x[0])


def test_the_code_of_the_docs(tmp_path, monkeypatch):
    """Each block runs by itself, in an empty folder."""
    found = []
    code = blocks("python", "files.md") + blocks("python", "safetensors.md")[1:]
    for number, block in enumerate(code):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        found.append({"__name__": "docs"})
        exec(block, found[-1])
    x = np.load("../0/model.npz")["layer.0.weight"]
    params = zp.choose_params(x, axis=-1, block_size=64)
    same(found[0]["x"], zp.dequantize(zp.quantize(x, params), params))
    x = np.load("w.npy")
    params = zp.choose_params(x, axis=0)
    same(found[2]["x"], zp.dequantize(zp.quantize(x, params), params))
    [(name, pair)] = files.load("../1/table.safetensors").items()
    assert name == "embeddings"
    same(pair[0], found[1]["codes"])
    assert pair[1] == found[1]["params"]


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"axis": 0},
        {"axis": 1},
        {"axis": -1, "dtype": "int8"},
        {"axis": 0, "block_size": 3},  # the last block is shorter
        {"axis": 1, "block_size": 7},
        {"axis": 2, "block_size": 64},
        {"axis": 1, "include_zero": False, "zero_point_from": "min"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2"])
def test_the_formula_of_the_docs(tmp_path, monkeypatch, keywords, dtype):
    """Of tensor, axis and block, to the bit."""
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(blocks("python", "safetensors.md")[-1], found)
    x = numbers((7, 20, 30), dtype) + np.asarray(3, dtype)
    with cut(1000, 1000, 1000):
        files.quantize_file(saved(tmp_path, x), "q.safetensors", **keywords)
    files.dequantize_file("q.safetensors", "b.safetensors")
    with safetensors.safe_open("q.safetensors", "numpy") as file:
        values = found["values"](file, "w")
    assert values.dtype == (np.float64 if dtype == "<f8" else np.float32)
    same(values.astype(dtype), read_back("b.safetensors")[0]["w"])


# ---------------------------------------------------------------------------------------------
# Bounded memory


@pytest.mark.slow("files of 40 MiB")
@pytest.mark.parametrize(
    "keywords", [{}, {"axis": 0}, {"axis": 1}, {"axis": 1, "block_size": 32}], ids=str
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_does_not_grow_with_the_file(tmp_path, order, keywords):
    shape = (2560, 4096)  # 40 MiB, more than a resident chunk
    np.lib.format.open_memmap(
        tmp_path / "w.npy", "w+", np.float32, shape, fortran_order=order == "F"
    ).flush()
    tracemalloc.start()
    try:
        files.quantize_file(tmp_path / "w.npy", tmp_path / "q.safetensors", **keywords)
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20


@pytest.mark.slow("128 MiB of data")
def test_a_zip_bomb_is_streamed(tmp_path):
    source = tmp_path / "bomb.npz"
    np.savez_compressed(source, w=np.zeros(1 << 25, np.float32))
    assert source.stat().st_size < 1 << 18  # 128 MiB from 128 KiB
    tracemalloc.start()
    try:
        files.quantize_file(source, tmp_path / "q.safetensors")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20


PEAK = r"""
import re, sys
from zeropoint import _cli, files
def peak():
    return int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) >> 10
before = peak()
files.quantize_file(sys.argv[1], sys.argv[2], **eval(sys.argv[3]))
print(peak() - before)
"""


@pytest.mark.slow("a file of 300 MiB")
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_resident_memory_of_a_process(tmp_path):
    """Peak resident memory, as the system counts it: 300 MiB pass in less than 48 MiB."""
    with open(tmp_path / "w.npy", "wb") as file:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (300, 1 << 18)}
        np.lib.format.write_array_header_1_0(file, shape)
        file.write(struct.pack("<4f", -1, 2, 3, 4))
        file.truncate(file.tell() - 16 + (300 << 20))
    command = [sys.executable, "-c", PEAK, tmp_path / "w.npy", tmp_path / "q.safetensors"]
    done = subprocess.run([*command, "{}"], check=True, capture_output=True, timeout=120)
    assert int(done.stdout) < 48
    codes = files.read_tensor(tmp_path / "q.safetensors", "w")
    assert codes[0, :4].tolist() == [0, 153, 204, 255]
    assert (codes.reshape(-1)[4:] == 51).all()


# ---------------------------------------------------------------------------------------------
# The target: the old file or the new one


@pytest.mark.parametrize("old", [None, b"the old file"])
@pytest.mark.parametrize("calls", [1, 3, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_interruption_leaves_the_target(tmp_path, small_chunks, old, calls, order):
    class StopError(BaseException):
        pass

    def stop(done, total):
        nonlocal calls
        calls -= 1
        if calls == 0:
            raise StopError

    source = saved(tmp_path, np.asarray(numbers((50, 60), "f4"), order=order))
    target = tmp_path / "q.safetensors"
    if old is not None:
        target.write_bytes(old)
    before = entries(tmp_path)
    with pytest.raises(StopError):
        files.quantize_file(source, target, progress=stop)
    assert entries(tmp_path) == before
    assert old is None or target.read_bytes() == old


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failing_disk_leaves_the_target(tmp_path, monkeypatch, function):
    source = saved(tmp_path, numbers((5, 6), "f4"))
    files.quantize_file(source, tmp_path / "good.safetensors")
    for name in ("q.safetensors", "b.npy"):
        (tmp_path / name).write_bytes(b"the old file")
    before = entries(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left.*q.safetensors'"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    with pytest.raises(OSError, match="No space left.*b.npy'"):
        files.dequantize_file(tmp_path / "good.safetensors", tmp_path / "b.npy")
    assert entries(tmp_path) == before
    assert (tmp_path / "q.safetensors").read_bytes() == b"the old file"
    assert (tmp_path / "b.npy").read_bytes() == b"the old file"


FULL = """
import resource, sys
from zeropoint import _cli, files
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
files.quantize_file("w.npy", "q.safetensors")
"""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("limit", [0, 100, 40_000])
def test_a_write_that_fails(tmp_path, order, limit):
    """The system refuses to let the file grow, as it does on a full disk."""
    saved(tmp_path, np.asarray(numbers((300, 200), "f4"), order=order))
    (tmp_path / "q.safetensors").write_bytes(b"the old file")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit)], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert f"OSError: [Errno 27] File too large: '{tmp_path}/q.safetensors'" in done.stderr.decode()
    assert entries(tmp_path) == ["q.safetensors", "w.npy"]
    assert (tmp_path / "q.safetensors").read_bytes() == b"the old file"


KILLED = """
import os, sys, time
from zeropoint import _cli, files
from zeropoint._files import tiles
tiles.TILE, tiles.RESIDENT = 1000, 4000
left = int(sys.argv[2])
def stop(*_):
    global left
    left -= 1
    if left == 0:
        print("now", flush=True)
        time.sleep(60)
where = sys.argv[1]
if where == "progress":
    files.quantize_file("w.npy", "q.safetensors", progress=stop)
else:
    function = getattr(os, where)
    def before(*arguments):
        stop()
        return function(*arguments)
    setattr(os, where, before)
    files.quantize_file("w.npy", "q.safetensors")
"""


@pytest.mark.slow("processes")
@pytest.mark.parametrize(
    ("where", "call", "new"),
    [
        ("progress", 1, False),
        ("progress", 5, False),
        ("progress", 6, False),
        ("fsync", 1, False),
        ("replace", 1, False),
        ("fsync", 2, True),
    ],
)
@pytest.mark.parametrize("old", [None, b"the old file"])
def test_a_killed_job(tmp_path, where, call, new, old):
    """Killed at once, without a chance to tidy up: the old file or the new one, never a part."""
    source = saved(tmp_path, numbers((50, 60), "f4"))
    files.quantize_file(source, tmp_path / "good.safetensors")
    target = tmp_path / "q.safetensors"
    if old:
        target.write_bytes(old)
    command = [sys.executable, "-c", KILLED, where, str(call)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as job:
        assert job.stdout.readline() == b"now\n"
        job.send_signal(signal.SIGKILL)
    expected = (tmp_path / "good.safetensors").read_bytes() if new else old
    assert (target.read_bytes() if target.exists() else None) == expected
    # what may be left has a name of its own, and harms no later job
    left = set(entries(tmp_path)) - {"w.npy", "good.safetensors", "q.safetensors"}
    assert all(re.fullmatch(r"\.zeropoint-[0-9a-f]{16}\.part", name) for name in left)
    files.quantize_file(source, target)
    assert target.read_bytes() == (tmp_path / "good.safetensors").read_bytes()


def test_file_and_directory_are_synced_around_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.replace

    def watched_fsync(fd):
        events.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def watched_replace(*names):
        events.append("rename")
        rename(*names)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    files.quantize_file(saved(tmp_path, numbers(4, "f4")), tmp_path / "q.safetensors")
    assert events == ["file", "rename", "directory"]


@pytest.mark.parametrize(("number", "reported"), [(5, True), (22, False)])  # EIO, EINVAL
def test_a_directory_that_cannot_be_synced(tmp_path, monkeypatch, number, reported):
    """An error of the disk is reported; a file system without that call is not an error."""
    fsync = os.fsync

    def fail(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    source = saved(tmp_path, numbers(4, "f4"))
    with pytest.raises(OSError, match="Input/output") if reported else contextlib.nullcontext():
        files.quantize_file(source, tmp_path / "q.safetensors")
    read_back(tmp_path / "q.safetensors")
    assert entries(tmp_path) == ["q.safetensors", "w.npy"]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_source_that_becomes_shorter(tmp_path, small_chunks, suffix):
    source = tmp_path / f"w{suffix}"
    x = numbers((50, 60), "f4")
    np.save(source, x) if suffix == ".npy" else np.savez(source, w=x)

    def shorten(done, total):
        os.truncate(source, 4500)

    with pytest.raises(ValueError, match=r"w\.np.: (it ends inside|the archive is damaged|a file)"):
        files.quantize_file(source, tmp_path / "q.safetensors", progress=shorten)
    assert entries(tmp_path) == [source.name]


def test_source_that_changes(tmp_path, small_chunks):
    """Between the two passes, in place: the range of one array, the codes of another."""
    x = numbers((50, 60), "f4")
    source = saved(tmp_path, x)

    def change(done, total):
        if done == total // 2:
            np.save(source, x * 100)

    with pytest.raises(ValueError, match="it changed while it was read"):
        files.quantize_file(source, tmp_path / "q.safetensors", progress=change)
    assert entries(tmp_path) == ["w.npy"]


def test_symbolic_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "q.safetensors"
    link.symlink_to(tmp_path / "real" / "there.bin")
    files.quantize_file(saved(tmp_path, numbers(4, "f4")), link)
    assert link.is_symlink()
    assert entries(tmp_path / "real") == ["there.bin"]


def test_the_permissions_of_a_file_outlive_its_replacement(tmp_path):
    source, target = saved(tmp_path, numbers(4, "f4")), tmp_path / "q.safetensors"
    target.write_bytes(b"a secret")
    target.chmod(0o600)
    files.quantize_file(source, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_source_and_target_the_same(tmp_path):
    source = saved(tmp_path, numbers(4, "f4"))
    before = source.read_bytes()
    os.link(source, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="src and dst are the same file"):
        files.quantize_file(source, tmp_path / "w.safetensors")
    assert source.read_bytes() == before


def test_files_that_are_no_files(tmp_path):
    source = saved(tmp_path, numbers(4, "f4"))
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(ValueError, match="not a regular file"):
        files.quantize_file(source, tmp_path / "d.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        files.quantize_file(source, tmp_path / "none" / "d.safetensors")
    with pytest.raises(FileNotFoundError):
        files.quantize_file(tmp_path / "none.npy", tmp_path / "q.safetensors")
    os.mkfifo(tmp_path / "fifo.npy")
    with pytest.raises(ValueError, match="it is not a regular file"):
        files.quantize_file(tmp_path / "fifo.npy", tmp_path / "q.safetensors")


# ---------------------------------------------------------------------------------------------
# Arguments and data


def test_names(tmp_path):
    source = saved(tmp_path, numbers(4, "f4"))
    with pytest.raises(
        ValueError, match=r"dst '.*q\.npy' must be the name of a \.safetensors file"
    ):
        files.quantize_file(source, tmp_path / "q.npy")
    with pytest.raises(
        ValueError, match=r"src .* must be the name of a \.safetensors or \.gguf or \.parquet"
    ):
        files.dequantize_file(source, tmp_path / "b.npy")
    with pytest.raises(ValueError, match=r"does not end in \.npy, \.npz, \.safetensors or \.gguf"):
        files.inspect_file(tmp_path / "w.txt")
    for name in ("__metadata__", os.fsdecode(b"\xff")):
        reserved = saved(tmp_path, numbers(4, "f4"), name)
        with pytest.raises(ValueError, match="safetensors cannot name a tensor"):
            files.quantize_file(reserved, tmp_path / "q.safetensors")
    assert "q.safetensors" not in entries(tmp_path)


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"block_size": 4}, ValueError, "block_size 4 needs an axis; pass axis=-1"),
        ({"axis": 0.5}, TypeError, "axis must be an integer"),
        ({"axis": 0, "block_size": 0}, ValueError, "block_size 0 must be at least 1"),
        ({"dtype": "int16"}, TypeError, "choose uint8 or int8"),
        ({"zero_point_from": "mean"}, ValueError, "zero_point_from 'mean' is unknown"),
        ({"qmin": 9, "qmax": 3}, ValueError, "must be less than"),
        ({"colour": "red"}, TypeError, "no keyword 'colour'"),
        ({"include": [1]}, TypeError, "include must hold patterns of names, not 1"),
        ({"exclude": 5}, TypeError, "exclude must hold patterns of names, not 5"),
    ],
)
def test_bad_keywords_are_reported_before_reading(tmp_path, keywords, error, match):
    with pytest.raises(error, match=match):  # even before the missing file is
        files.quantize_file(tmp_path / "none.npy", tmp_path / "q.safetensors", **keywords)


def test_values_beyond_the_dtype_have_no_bound(tmp_path):
    quantized = tmp_path / "q.safetensors"
    files.quantize_file(saved(tmp_path, np.float32([-6e4, 7e37])), quantized)
    for dtype, overflows in (("float16", True), ("bfloat16", False), ("float64", False)):
        summary = files.dequantize_file(quantized, tmp_path / "b.safetensors", dtype=dtype)
        assert np.isinf(summary.tensors[0].error_bound) == overflows
        values = files.read_tensor(tmp_path / "b.safetensors", "w").astype(np.float64)
        assert np.isinf(values).any() == overflows
    # codes that would overflow, but that no element has
    files.quantize_file(saved(tmp_path, np.float16([-65504, 65504, 1])), quantized)
    summary = files.dequantize_file(quantized, tmp_path / "b.npy")
    values = np.load(tmp_path / "b.npy")
    assert np.isinf(values).any() == np.isinf(summary.tensors[0].error_bound)


def test_bad_dequantize_dtype(tmp_path):
    for dtype in ("int8", "bfloat17"):
        with pytest.raises(TypeError, match="dtype"):
            files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy", dtype=dtype)
    files.quantize_file(saved(tmp_path, numbers(4, "f4")), tmp_path / "q.safetensors")
    with pytest.raises(TypeError, match="is not a dtype of .npy files"):
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy", dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["<i4", "|b1", "<c8", "|u1"])
def test_other_dtypes_are_a_type_error(tmp_path, dtype):
    source = saved(tmp_path, np.zeros(4, dtype))
    with pytest.raises(TypeError, match=r"w\.npy: it holds no float tensor \('w' of .*convert"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    assert entries(tmp_path) == ["w.npy"]


@pytest.mark.parametrize("dtype", ["<U3", "|S2", "<f16", "<c16", "<M8[s]", "|V3"])
def test_dtypes_beyond_safetensors_are_a_type_error(tmp_path, dtype):
    source = saved(tmp_path, np.zeros(4, dtype))
    with pytest.raises(TypeError, match="which safetensors lacks"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    assert entries(tmp_path) == ["w.npy"]
    assert files.inspect_file(source).tensors[0].dtype == dtype


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "keywords", [{}, {"axis": 0}, {"axis": 1}, {"axis": 0, "block_size": 3}], ids=str
)
def test_nan_and_inf_are_counted_over_the_whole_tensor(tmp_path, small_chunks, order, keywords):
    x = np.asarray(numbers((50, 60), "f4"), order=order)
    x[49, 0] = np.nan  # first in Fortran order
    x[7, 31] = np.inf  # first in C order
    x[20, 20] = -np.inf
    pattern = (
        r"w\.npy: tensor 'w' has 3 NaN or Inf of 3000 elements, the first \(inf\) at index "
        r"\(7, 31\); exclude the tensor, or put a value of your data's range in their place, "
        r"for example numpy.where\(numpy.isfinite\(x\), x, 0\)"
    )
    with pytest.raises(ValueError, match=pattern):
        files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", **keywords)
    assert entries(tmp_path) == ["w.npy"]


def test_data_without_parameters(tmp_path):
    empty = saved(tmp_path, np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match=r"nothing is left to quantize \('w': it has no elements"):
        files.quantize_file(empty, tmp_path / "q.safetensors")
    constant = saved(tmp_path, np.ones(5, np.float32))
    with pytest.raises(ValueError, match=r"w\.npy: tensor 'w': x is constant"):
        files.quantize_file(constant, tmp_path / "q.safetensors", include_zero=False)
    with pytest.raises(ValueError, match=r"'w': it has 1 axes, none of them 1"):
        files.quantize_file(constant, tmp_path / "q.safetensors", axis=1)
    assert entries(tmp_path) == ["w.npy"]


def test_a_channel_comes_with_where_it_is_counted_from(tmp_path, small_chunks):
    x = np.full((100, 30), 1e-38, np.float32)
    x[:90] = 1
    with pytest.raises(ValueError, match=r"channel 24 .*\(counted from element 1980 on\)"):
        files.quantize_file(
            saved(tmp_path, x),
            tmp_path / "q.safetensors",
            axis=0,
            symmetric=True,
            convention="torch",
        )
