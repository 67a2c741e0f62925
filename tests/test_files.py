"""`zeropoint.files`: right results, bounded memory, whole files or none, no trust in any file."""

import contextlib
import json
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zeropoint as zp
from zeropoint import files

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


@pytest.fixture
def small_chunks(monkeypatch):
    """So that small arrays take many chunks and boxes."""
    monkeypatch.setattr(files, "CHUNK", 1000)


def saved(folder, x, name="w"):
    path = folder / f"{name}.npy"
    np.save(path, x)
    return path


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(0.3, 2, shape)).astype(dtype)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------------------------------
# Right results


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(tmp_path, small_chunks, shape, dtype, order):
    x = np.asarray(numbers(shape, dtype), order=order)
    source = saved(tmp_path, x)
    summary = files.quantize_file(source, tmp_path / "q.safetensors")
    params = zp.choose_params(x)
    assert summary.params == params
    assert (summary.tensor, summary.shape, summary.dtype) == ("w", shape, x.dtype.name)
    assert summary.error_bound == float(params.scale) / 2

    # the safetensors library is the judge of the file
    with safetensors.safe_open(tmp_path / "q.safetensors", "numpy") as judge:
        codes = judge.get_tensor("w")
        assert judge.get_tensor("w_scale") == params.scale
        assert judge.get_tensor("w_scale").dtype == params.scale.dtype
        assert judge.get_tensor("w_zero_point") == params.zero_point
        assert judge.get_tensor("w_zero_point").dtype == np.int32
        metadata = judge.metadata()
    assert metadata["zeropoint.version"] == "1"
    entry = json.loads(metadata["zeropoint.tensors"])["w"]
    assert zp.QuantParams.from_dict(entry["params"]) == params
    np.testing.assert_array_equal(codes, zp.quantize(x, params), strict=True)

    back_summary = files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "back.npy")
    back = np.load(tmp_path / "back.npy", allow_pickle=False)
    expected = zp.dequantize(codes, params, dtype=x.dtype.name)
    np.testing.assert_array_equal(back, expected, strict=True)
    assert back.flags.c_contiguous
    rounding = np.abs(x).max() * 2 * np.finfo(x.dtype).eps
    error = np.abs(back.astype(np.float64) - x.astype(np.float64)).max()
    assert error <= summary.error_bound + rounding
    assert back_summary.bytes_in == summary.bytes_out
    assert back_summary.bytes_out == (tmp_path / "back.npy").stat().st_size


@pytest.mark.parametrize(
    "keywords",
    [
        {"dtype": "int8"},
        {"zero_point_from": "max"},
        {"zero_point_from": "least_error", "include_zero": False},
        {"symmetric": True, "dtype": "int8"},
        {"qmin": 3, "qmax": 90},
        {"convention": "onnxruntime"},
        {"convention": "torch"},
        {"convention": "tflite", "dtype": "int8"},
    ],
    ids=str,
)
def test_keywords_are_those_of_choose_params(tmp_path, keywords):
    x = numbers((40, 50), "f4") + 3
    summary = files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", **keywords)
    params = zp.choose_params(x, **keywords)
    assert summary.params == params
    codes = safetensors.numpy.load_file(tmp_path / "q.safetensors")["w"]
    np.testing.assert_array_equal(codes, zp.quantize(x, params), strict=True)
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    assert np.abs(np.load(tmp_path / "b.npy") - x).max() <= summary.error_bound * 1.0001


def test_every_backend_writes_the_same_bytes(tmp_path, backend):
    source = saved(tmp_path, numbers((30, 11), "f4"))
    files.quantize_file(source, tmp_path / "q.safetensors")
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    with zp.use_backend("numpy"):
        files.quantize_file(source, tmp_path / "r.safetensors")
        files.dequantize_file(tmp_path / "r.safetensors", tmp_path / "c.npy")
    assert (tmp_path / "q.safetensors").read_bytes() == (tmp_path / "r.safetensors").read_bytes()
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dequantize_to_another_dtype(tmp_path, dtype):
    files.quantize_file(saved(tmp_path, numbers((9, 8), "f4")), tmp_path / "q.safetensors")
    summary = files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy", dtype=dtype)
    assert summary.dtype == np.load(tmp_path / "b.npy").dtype.name == dtype


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.lists(st.integers(1, 40), min_size=2, max_size=4).filter(
        lambda s: np.prod(s) < 20_000
    ),
    chunk=st.integers(1, 3000),
)
def test_boxes_cut_a_fortran_array_without_loss(tmp_path, shape, chunk):
    x = np.asfortranarray(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    old, files.CHUNK = files.CHUNK, chunk
    try:
        files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors")
    finally:
        files.CHUNK = old
    codes = safetensors.numpy.load_file(tmp_path / "q.safetensors")["w"]
    np.testing.assert_array_equal(codes, zp.quantize_dynamic(x)[0])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions(tmp_path, version):
    x = numbers((5, 6), "f4")
    with open(tmp_path / "w.npy", "wb") as file:
        np.lib.format.write_array(file, x, version)
    assert files.quantize_file(tmp_path / "w.npy", tmp_path / "q.safetensors").shape == (5, 6)


def test_progress_rises_to_the_total(tmp_path, small_chunks):
    calls = []
    source = saved(tmp_path, numbers((50, 60), "f4"))
    files.quantize_file(source, tmp_path / "q.safetensors", progress=lambda *now: calls.append(now))
    assert calls == [(1000 * i, 6000) for i in range(1, 7)]
    calls.clear()
    files.dequantize_file(
        tmp_path / "q.safetensors", tmp_path / "b.npy", progress=lambda *now: calls.append(now)
    )
    assert calls == [(1000, 3000), (2000, 3000), (3000, 3000)]


def test_inspect(tmp_path):
    source = saved(tmp_path, np.asfortranarray(numbers((4, 6), ">f8")))
    info = files.inspect_file(source)
    assert (info.format, info.bytes) == ("npy", source.stat().st_size)
    [tensor] = info.tensors
    assert (tensor.name, tensor.dtype, tensor.shape) == ("w", ">f8", (4, 6))
    assert (tensor.order, tensor.bytes, tensor.params) == ("F", 192, None)

    summary = files.quantize_file(source, tmp_path / "q.safetensors", dtype="int8")
    info = files.inspect_file(tmp_path / "q.safetensors")
    by_name = {tensor.name: tensor for tensor in info.tensors}
    assert {name: tensor.dtype for name, tensor in by_name.items()} == {
        "w": "I8",
        "w_scale": "F64",
        "w_zero_point": "I32",
    }
    assert by_name["w"].params == summary.params
    assert by_name["w"].source_dtype == "float64"
    assert by_name["w_scale"].params is None
    json.dumps([info.to_dict(), summary.to_dict()])  # plain values


def test_inspect_reads_the_librarys_files(tmp_path):
    tensors = {"a": np.zeros((2, 3), np.int64), "b": np.zeros(0, np.float32), "c": np.ones(5, bool)}
    safetensors.numpy.save_file(tensors, tmp_path / "t.safetensors", {"made": "here"})
    info = files.inspect_file(tmp_path / "t.safetensors")
    assert {t.name: (t.dtype, t.shape, t.bytes) for t in info.tensors} == {
        "a": ("I64", (2, 3), 48),
        "b": ("F32", (0,), 0),
        "c": ("BOOL", (5,), 5),
    }
    with pytest.raises(ValueError, match="holds 0 arrays that zeropoint quantized"):
        files.dequantize_file(tmp_path / "t.safetensors", tmp_path / "b.npy")


def test_inspect_npy_of_other_dtypes(tmp_path):
    source = saved(tmp_path, np.arange(6).astype("<i8"))
    assert files.inspect_file(source).tensors[0].dtype == "<i8"


# ---------------------------------------------------------------------------------------------
# Bounded memory


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_does_not_grow_with_the_file(tmp_path, order):
    shape = (4096, 4096)  # 64 MiB
    np.lib.format.open_memmap(
        tmp_path / "w.npy", "w+", np.float32, shape, fortran_order=order == "F"
    ).flush()
    tracemalloc.start()
    try:
        files.quantize_file(tmp_path / "w.npy", tmp_path / "q.safetensors")
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


# ---------------------------------------------------------------------------------------------
# The target: the old file or the new one


@pytest.mark.parametrize("old", [None, b"the old file"])
@pytest.mark.parametrize("calls", [1, 3, 5])
def test_interruption_leaves_the_target(tmp_path, small_chunks, old, calls):
    class StopError(BaseException):
        pass

    def stop(done, total):
        nonlocal calls
        calls -= 1
        if calls == 0:
            raise StopError

    source = saved(tmp_path, numbers((50, 60), "f4"))
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
    with pytest.raises(OSError, match="No space left"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    with pytest.raises(OSError, match="No space left"):
        files.dequantize_file(tmp_path / "good.safetensors", tmp_path / "b.npy")
    assert entries(tmp_path) == before
    assert (tmp_path / "q.safetensors").read_bytes() == b"the old file"
    assert (tmp_path / "b.npy").read_bytes() == b"the old file"


def test_file_and_directory_are_synced_around_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(fd):
        events.append("directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")
        fsync(fd)

    def watched_replace(*names):
        events.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    files.quantize_file(saved(tmp_path, numbers(4, "f4")), tmp_path / "q.safetensors")
    assert events[1:] == ["rename", "directory"] if os.path.exists("/proc/self/fd") else events


def test_source_that_becomes_shorter(tmp_path, small_chunks):
    source = saved(tmp_path, numbers((50, 60), "f4"))

    def cut(done, total):
        os.truncate(source, 4000)

    with pytest.raises(ValueError, match=r"w\.npy: it became shorter while it was read"):
        files.quantize_file(source, tmp_path / "q.safetensors", progress=cut)
    assert entries(tmp_path) == ["w.npy"]


def test_symbolic_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "q.safetensors"
    link.symlink_to(tmp_path / "real" / "there.safetensors")
    files.quantize_file(saved(tmp_path, numbers(4, "f4")), link)
    assert link.is_symlink()
    assert entries(tmp_path / "real") == ["there.safetensors"]


def test_source_and_target_the_same(tmp_path):
    source = saved(tmp_path, numbers(4, "f4"))
    before = source.read_bytes()
    os.link(source, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="src and dst are the same file"):
        files.quantize_file(source, tmp_path / "w.safetensors")
    assert source.read_bytes() == before


def test_target_that_is_no_file(tmp_path):
    source = saved(tmp_path, numbers(4, "f4"))
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(ValueError, match="not a regular file"):
        files.quantize_file(source, tmp_path / "d.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        files.quantize_file(source, tmp_path / "none" / "d.safetensors")
    with pytest.raises(FileNotFoundError):
        files.quantize_file(tmp_path / "none.npy", tmp_path / "q.safetensors")


# ---------------------------------------------------------------------------------------------
# Arguments and data


def test_names(tmp_path):
    source = saved(tmp_path, numbers(4, "f4"))
    with pytest.raises(
        ValueError, match=r"dst '.*q\.npy' must be the name of a \.safetensors file"
    ):
        files.quantize_file(source, tmp_path / "q.npy")
    with pytest.raises(ValueError, match=r"src .* must be the name of a \.safetensors file"):
        files.dequantize_file(source, tmp_path / "b.npy")
    with pytest.raises(ValueError, match=r"does not end in \.npy or \.safetensors"):
        files.inspect_file(tmp_path / "w.txt")
    reserved = saved(tmp_path, numbers(4, "f4"), "__metadata__")
    with pytest.raises(ValueError, match="cannot name a safetensors tensor"):
        files.quantize_file(reserved, tmp_path / "q.safetensors")


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"axis": 0}, ValueError, "a file is quantized per tensor; leave axis out"),
        ({"block_size": 4}, ValueError, "a file is quantized per tensor; leave block_size out"),
        ({"dtype": "int16"}, ValueError, "choose uint8 or int8"),
        ({"zero_point_from": "mean"}, ValueError, "zero_point_from 'mean' is unknown"),
        ({"qmin": 9, "qmax": 3}, ValueError, "must be less than"),
        ({"colour": "red"}, TypeError, "no keyword 'colour'"),
    ],
)
def test_bad_keywords_are_told_before_reading(tmp_path, keywords, error, match):
    with pytest.raises(error, match=match):  # even before the missing file is
        files.quantize_file(tmp_path / "none.npy", tmp_path / "q.safetensors", **keywords)


def test_bad_dequantize_dtype(tmp_path):
    for dtype in ("int8", "bfloat17"):
        with pytest.raises(TypeError, match="dtype"):
            files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy", dtype=dtype)
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    with pytest.raises(TypeError, match="is not a dtype of .npy files"):
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy", dtype=bfloat16)


@pytest.mark.parametrize("dtype", ["<i4", "|b1", "<c8", "|u1", "<U3", "<f16"])
def test_other_dtypes_are_a_type_error(tmp_path, dtype):
    source = saved(tmp_path, np.zeros(4, dtype))
    with pytest.raises(TypeError, match=r"w\.npy: it holds .*; convert it to one of float16"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    assert entries(tmp_path) == ["w.npy"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_nan_and_inf_are_counted_over_the_whole_array(tmp_path, small_chunks, order):
    x = np.asarray(numbers((50, 60), "f4"), order=order)
    x[49, 0] = np.nan  # first in Fortran order
    x[7, 31] = np.inf  # first in C order
    x[20, 20] = -np.inf
    pattern = r"it has 3 NaN or Inf of 3000 elements, the first \(inf\) at index \(7, 31\); replace"
    with pytest.raises(ValueError, match=pattern):
        files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors")
    assert entries(tmp_path) == ["w.npy"]


def test_data_without_parameters(tmp_path):
    empty = saved(tmp_path, np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match=r"no data \(shape \(0, 3\)\)"):
        files.quantize_file(empty, tmp_path / "q.safetensors")
    constant = saved(tmp_path, np.ones(5, np.float32))
    with pytest.raises(ValueError, match=r"w\.npy: x is constant"):
        files.quantize_file(constant, tmp_path / "q.safetensors", include_zero=False)
    assert entries(tmp_path) == ["w.npy"]


# ---------------------------------------------------------------------------------------------
# Hostile files


def npy(header, data=b"", version=b"\x01\x00", length=None):
    text = header if isinstance(header, bytes) else header.encode("latin1")
    form = "<H" if version == b"\x01\x00" else "<I"
    return b"\x93NUMPY" + version + struct.pack(form, length or len(text)) + text + data


def head(descr="'<f4'", fortran="False", shape="(3,)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


TWELVE = bytes(12)

HOSTILE_NPY = {
    "empty": b"",
    "not npy": b"PK\x03\x04 a zip file, perhaps",
    "pickle": pickle.dumps([1.0, 2.0]),
    "magic alone": b"\x93NUMPY",
    "unknown version": npy(head(), TWELVE, b"\x04\x00"),
    "unknown minor": npy(head(), TWELVE, b"\x01\x01"),
    "ends in length": b"\x93NUMPY\x02\x00\x10",
    "header beyond file": npy(head(), b"", length=60_000),
    "huge header": npy(b" " * 70_000 + head().encode(), TWELVE, b"\x02\x00"),
    "4 GiB header": npy(head(), TWELVE, b"\x02\x00", length=2**32 - 1),
    "no dict": npy("[1, 2]\n", TWELVE),
    "no Python": npy("{'descr': \n", TWELVE),
    "a call": npy("__import__('os').abort()\n", TWELVE),
    "deep": npy("(" * 30_000, TWELVE),
    "deep minus": npy("-" * 60_000 + "1", TWELVE),
    "bad utf-8": npy(b"\xff\xfe{}", TWELVE, b"\x03\x00"),
    "unhashable key": npy("{[]: 1}\n", TWELVE),
    "missing key": npy("{'descr': '<f4', 'shape': (3,)}\n", TWELVE),
    "extra key": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 1}", TWELVE),
    "short data": npy(head(), TWELVE[:-1]),
    "no data at all": npy(head()),
    "trailing bytes": npy(head(), TWELVE + b"\0"),
    "wider dtype": npy(head("'<f8'"), TWELVE),
    "negative dimension": npy(head(shape="(-3,)"), TWELVE),
    "two negatives": npy(head(shape="(-3, -1)"), TWELVE),
    "float dimension": npy(head(shape="(3.0,)"), TWELVE),
    "bool dimension": npy(head(shape="(True, 3)"), TWELVE),
    "shape no tuple": npy(head(shape="3"), TWELVE),
    "huge shape": npy(head(shape="(1000000000000,)"), TWELVE),
    "shape overflows to 3": npy(head(shape="(18446744073709551619,)"), TWELVE),
    "product overflows": npy(head(shape="(4294967296, 4294967296, 3)"), TWELVE),
    "endless dimension": npy(head(shape="(0x" + "f" * 40_000 + ",)"), TWELVE),
    "many dimensions": npy(head(shape="(" + "1," * 65 + ")"), bytes(4)),
    "order no bool": npy(head(fortran="1"), TWELVE),
    "objects": npy(head("'|O'"), TWELVE),
    "objects in file": npy(head("'|O8'"), pickle.dumps([None] * 3)),
    "records": npy(head("[('a', '<f4')]"), TWELVE),
    "dtype no string": npy(head("4"), TWELVE),
    "no dtype": npy(head("'spam'"), TWELVE),
    "no such float": npy(head("'<f3'"), TWELVE),
    "comma dtype": npy(head("'f4,f4'"), TWELVE),
    "huge dtype": npy(head("'|S99999999999'"), TWELVE),
}


@pytest.mark.parametrize("content", HOSTILE_NPY.values(), ids=HOSTILE_NPY.keys())
def test_hostile_npy(tmp_path, content):
    refuses(tmp_path, "bad.npy", content, "q.safetensors", files.quantize_file)


def tensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="U8", shape=(3,), offsets=(0, 3)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE_SAFETENSORS = {
    "empty": b"",
    "seven bytes": b"\x02\0\0\0\0\0\0",
    "header beyond file": tensors(b"{}", length=50),
    "huge header": tensors(b"{}", length=2**63),
    "header over the limit": tensors(b"{}", length=100_000_001),
    "no header": tensors(b""),
    "no JSON": tensors(b"{'a': 1}"),
    "not an object": tensors(b"[1, 2]"),
    "space before": tensors(b"  {}"),
    "deep": tensors(b'{"a":' + b"[" * 100_000),
    "endless number": tensors(b'{"a":' + b"9" * 100_000 + b"}"),
    "bad utf-8": tensors(b'{"\xff": 1}'),
    "nan": tensors(b'{"a": NaN}'),
    "duplicate tensor": tensors(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"x",
    ),
    "duplicate field": tensors(
        b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"
    ),
    "entry no dict": tensors({"a": 5}),
    "missing field": tensors({"a": {"dtype": "U8", "shape": [3]}}, b"xyz"),
    "extra field": tensors({"a": {**entry(), "x": 1}}, b"xyz"),
    "unknown dtype": tensors({"a": entry("U9")}, b"xyz"),
    "dtype no string": tensors({"a": entry([])}, b"xyz"),
    "shape no list": tensors({"a": {**entry(), "shape": 3}}, b"xyz"),
    "negative dimension": tensors({"a": entry(shape=(-3,))}, b"xyz"),
    "bool dimension": tensors({"a": entry(shape=(True, 3))}, b"xyz"),
    "float dimension": tensors({"a": entry(shape=(3.0,))}, b"xyz"),
    "huge shape": tensors({"a": entry(shape=(2**60, 2**60))}, b"xyz"),
    "shape overflows to 3": tensors({"a": entry(shape=(2**64 + 3,))}, b"xyz"),
    "many dimensions": tensors({"a": entry(shape=(1,) * 65 + (3,))}, b"xyz"),
    "wrong size": tensors({"a": entry("F32")}, b"xyz"),
    "negative offset": tensors({"a": entry(offsets=(-3, 0))}, b"xyz"),
    "swapped offsets": tensors({"a": entry(shape=(0,), offsets=(3, 0))}, b"xyz"),
    "three offsets": tensors({"a": entry(offsets=(0, 3, 3))}, b"xyz"),
    "float offset": tensors({"a": entry(offsets=(0, 3.0))}, b"xyz"),
    "bool offset": tensors({"a": entry(shape=(1,), offsets=(False, True))}, b"x"),
    "truncated": tensors({"a": entry()}, b"xy"),
    "trailing bytes": tensors({"a": entry()}, b"xyz+"),
    "bytes without tensors": tensors({}, b"x"),
    "hole at the start": tensors({"a": entry(offsets=(1, 4))}, b"-xyz"),
    "hole": tensors({"a": entry(), "b": entry(offsets=(4, 7))}, b"xyz-xyz"),
    "overlap": tensors({"a": entry(), "b": entry(offsets=(2, 5))}, b"xyzyz"),
    "same place": tensors({"a": entry(), "b": entry()}, b"xyz"),
    "metadata no dict": tensors({"__metadata__": "x"}),
    "metadata no strings": tensors({"__metadata__": {"a": 1}}),
    "endless name": tensors({"a" * 100_000: 5}),
}


@pytest.mark.parametrize("content", HOSTILE_SAFETENSORS.values(), ids=HOSTILE_SAFETENSORS.keys())
def test_hostile_safetensors(tmp_path, content):
    refuses(tmp_path, "bad.safetensors", content, "b.npy", files.dequantize_file)


def refuses(folder: Path, name, content, target, function):
    """ValueError that names the file, in few words and little memory; nothing is written."""
    (folder / name).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{name}: .*; ") as told:
            function(folder / name, folder / target)
        with pytest.raises(ValueError, match=rf"{name}: .*; "):
            files.inspect_file(folder / name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(told.value) is ValueError
    assert len(str(told.value)) < 700 + len(str(folder))
    assert peak < (1 << 20) + 40 * len(content)
    assert entries(folder) == [name]


GOOD = {"dtype": "float32", "params": zp.QuantParams(0.5, 3).to_dict()}


def quantized(entries=None, version="1", scale=0.5, zero=3, codes="U8", name="w", text=None):
    """A file like ours, with a fault in one place."""
    metadata = {"zeropoint.version": version}
    metadata["zeropoint.tensors"] = text or json.dumps({"w": GOOD} if entries is None else entries)
    header = {
        "__metadata__": metadata,
        f"{name}_scale": entry("F32", (), (0, 4)),
        "w_zero_point": entry("I32", (), (4, 8)),
        "w": entry(codes, (3,), (8, 11)),
    }
    return tensors(header, struct.pack("<fi", scale, zero) + b"abc")


def changed(**fields):
    return {"w": {**GOOD, "params": {**GOOD["params"], **fields}}}


CORRUPT = {
    "newer version": quantized(version="2"),
    "no JSON": quantized(text="{"),
    "no object": quantized(text="[]"),
    "twice": quantized(text=f'{{"w": {json.dumps(GOOD)}, "w": {json.dumps(GOOD)}}}'),
    "entry no dict": quantized({"w": 1}),
    "no dtype": quantized({"w": {"params": GOOD["params"]}}),
    "unknown dtype": quantized({"w": {**GOOD, "dtype": "object"}}),
    "dtype no string": quantized({"w": {**GOOD, "dtype": {}}}),
    "params no dict": quantized({"w": {**GOOD, "params": 3}}),
    "scale zero": quantized(changed(scale=0)),
    "scale a string": quantized(changed(scale="0.5")),
    "scale too large": quantized(changed(scale=10**400)),
    "scale nested": quantized(changed(scale=[[0.5], 1])),
    "zero point out of range": quantized(changed(zero_point=300)),
    "zero point huge": quantized(changed(zero_point=10**30)),
    "unknown convention": quantized(changed(convention="spam")),
    "convention no string": quantized(changed(convention=[])),
    "unknown key": quantized(changed(spam=1)),
    "per channel": quantized(changed(scale=[0.5] * 3, zero_point=[3] * 3, axis=0)),
    "other scale": quantized(scale=0.25),
    "nan scale": quantized(scale=float("nan")),
    "other zero point": quantized(zero=4),
    "other codes": quantized(codes="I8"),
    "codes are bool": quantized(codes="BOOL"),
    "no scale tensor": quantized(name="v"),
    "no codes": quantized({"v": GOOD}),
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT.keys())
def test_corrupt_parameters(tmp_path, content):
    refuses(tmp_path, "bad.safetensors", content, "b.npy", files.dequantize_file)


def test_the_corrupt_files_would_be_good_without_their_fault(tmp_path):
    (tmp_path / "q.safetensors").write_bytes(quantized())
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    expected = (np.frombuffer(b"abc", np.uint8).astype(np.float32) - 3) * np.float32(0.5)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), expected, strict=True)


def test_no_tensor_or_two(tmp_path):
    (tmp_path / "q.safetensors").write_bytes(quantized({}))
    with pytest.raises(ValueError, match="it holds 0 arrays"):
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_a_value_error_or_harmless(tmp_path, data):
    """Bytes of the headers are changed at random: never a crash, never another error."""
    x = numbers((5, 3), "f4")
    files.quantize_file(saved(tmp_path, x), tmp_path / "good.safetensors")
    name, target, function = data.draw(
        st.sampled_from(
            [
                ("w.npy", "o.safetensors", files.quantize_file),
                ("good.safetensors", "o.npy", files.dequantize_file),
            ]
        )
    )
    content = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    bad = tmp_path / f"bad{Path(name).suffix}"
    bad.write_bytes(content)
    # a TypeError tells of a dtype that is well-formed but not float
    with contextlib.suppress(ValueError, TypeError):
        function(bad, tmp_path / target)
    assert not [name for name in entries(tmp_path) if name.endswith(".part")]
