"""`files.save` and `files.load`: codes and parameters in memory, to a file and back to the bit."""

import os
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import zeropoint as zp
from zeropoint import _cli, files

X = np.random.default_rng(0).normal(0.3, 2, (6, 5, 70)).astype(np.float32)
KEYWORDS = [
    {},
    {"dtype": "int8", "symmetric": True},
    {"axis": 0},
    {"axis": -1, "dtype": "int8", "qmin": -127, "qmax": 100},
    {"axis": 0, "block_size": 4, "convention": "torch"},
    {"axis": -1, "block_size": 64, "convention": "tflite"},
    {"axis": -3, "block_size": 6, "convention": "onnx"},
    {"include_zero": False, "zero_point_from": "max"},
]


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def made(x, **keywords):
    params = zp.choose_params(x, **keywords)
    return zp.quantize(x, params), params


def unequal_axes(params):
    """The same with the axis counted from 0, as it stands in a file."""
    axis = None if params.axis is None else params.axis % X.ndim
    return zp.QuantParams.from_dict(params.to_dict() | {"axis": axis})


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
def test_round_trip(tmp_path, keywords, dtype):
    """Every function that reads a file of `quantize_file` reads this one, with the same result."""
    path, x = tmp_path / "s.safetensors", X.astype(dtype)
    codes, params = made(x, **keywords)
    files.save(path, {"layer.0": (codes, params), "é": made(x[0, 0])})
    assert entries(tmp_path) == ["s.safetensors"]
    loaded = files.load(path)
    assert list(loaded) == ["layer.0", "é"]
    np.testing.assert_array_equal(loaded["layer.0"][0], codes, strict=True)
    assert loaded["layer.0"][1] == unequal_axes(params) == files.read_params(path, "layer.0")
    np.testing.assert_array_equal(files.read_tensor(path, "layer.0"), codes, strict=True)

    np.savez(tmp_path / "x.npz", **{"layer.0": x, "é": x[0, 0]})
    files.quantize_file(tmp_path / "x.npz", tmp_path / "q.safetensors", include="l*", **keywords)
    ours, theirs = (safetensors.numpy.load_file(tmp_path / f"{n}.safetensors") for n in "sq")
    for name in ("layer.0", "layer.0_scale", "layer.0_zero_point"):
        np.testing.assert_array_equal(ours[name], theirs[name], strict=True)
    quantized = [files.inspect_file(tmp_path / f"{n}.safetensors").tensors for n in "sq"]
    first, second = ([t for t in each if t.name == "layer.0"] for each in quantized)
    assert first == second
    assert first[0].quantized["dtype"] == x.dtype.name

    files.dequantize_file(path, tmp_path / "b.safetensors")
    values = files.read_tensor(tmp_path / "b.safetensors", "layer.0")
    np.testing.assert_array_equal(values, zp.dequantize(codes, params, dtype=x.dtype), strict=True)


@pytest.mark.parametrize(
    ("shape", "keywords"),
    [((), {}), ((1,), {"axis": 0}), ((0, 3), {}), ((0, 3), {"axis": 1}), ((0, 3), {"axis": 0}),
     ((3, 0), {"axis": 1, "block_size": 2})],
    ids=str,
)  # fmt: skip
def test_small_and_empty(tmp_path, shape, keywords):
    like = zp.choose_params(np.ones([n or 2 for n in shape], np.float32), **keywords)
    scale = np.asarray(like.scale)
    if "block_size" in keywords or keywords.get("axis") == 0:
        scale = scale[:, :0] if scale.ndim > 1 else scale[: shape[0]]
    params = zp.QuantParams(scale[()], 0, **keywords)
    codes = np.zeros(shape, np.uint8)
    files.save(tmp_path / "s.safetensors", {"x": (codes, params)})
    found, same = files.load(tmp_path / "s.safetensors")["x"]
    np.testing.assert_array_equal(found, codes, strict=True)
    assert same == params


def test_a_file_of_quantize_file(tmp_path):
    """What is not quantized is left out, and codes of bfloat16 need nothing of theirs."""
    tensors = {"w": X.astype(ml_dtypes.bfloat16), "bias": X[0, 0], "n": np.arange(3)}
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    files.quantize_file(tmp_path / "x.safetensors", tmp_path / "q.safetensors", include="w", axis=0)
    codes, params = made(tensors["w"], axis=0)
    loaded = files.load(tmp_path / "q.safetensors")
    assert list(loaded) == ["w"]
    np.testing.assert_array_equal(loaded["w"][0], codes, strict=True)
    assert loaded["w"][1] == params


def test_any_memory_of_codes(tmp_path, monkeypatch):
    """Strided, read-only, and as another library's array: read as `dequantize` reads them."""
    torch = pytest.importorskip("torch")
    codes, params = made(X)
    codes.flags.writeable = False
    strided = np.repeat(codes, 2, axis=1)[:, ::-2]
    monkeypatch.setattr("zeropoint.files.chunks", lambda shape: _cut(shape))
    files.save(
        tmp_path / "s.safetensors",
        {"a": (strided, params), "b": (codes.T, params), "c": (torch.tensor(codes), params)},
    )
    loaded = files.load(tmp_path / "s.safetensors")
    for name, expected in {"a": strided, "b": codes.T, "c": codes}.items():
        np.testing.assert_array_equal(loaded[name][0], expected, strict=True)


def _cut(shape):
    from zeropoint._chunks import chunks

    return chunks(shape, 37)


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "s.safetensors"
    files.save(path, {"x": made(X)})
    old = path.read_bytes()

    def fails(*_):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="no room"):
            files.save(path, {"y": made(X[0])})
    assert path.read_bytes() == old
    assert entries(tmp_path) == ["s.safetensors"]
    files.save(path, {"y": made(X[0])})
    assert list(files.load(path)) == ["y"]


PAIR = made(X)
BAD = {
    "no mapping": ([("x", PAIR)], TypeError, "tensors must be a dict"),
    "nothing": ({}, ValueError, "tensors is empty"),
    "name": ({1: PAIR}, TypeError, "tensors has the name 1; names must be strings"),
    "codes alone": ({"x": PAIR[0]}, TypeError, r"tensors\['x'\] must be a tuple \(codes, Quant"),
    "three": ({"x": (*PAIR, 1)}, TypeError, r"not tuple of \['ndarray', 'QuantParams', 'int'\]"),
    "a list": ({"x": [*PAIR]}, TypeError, "not list; pass what"),
    "the other way round": ({"x": PAIR[::-1]}, TypeError, "zeropoint.quantize_dynamic returns"),
    "dtype": (
        {"x": (PAIR[0].view(np.int8), PAIR[1])},
        TypeError,
        r"tensors\['x'\] has dtype int8 where uint8 is needed",
    ),
    "floats": ({"x": (X, PAIR[1])}, TypeError, r"tensors\['x'\] has dtype float32"),
    "shape": (
        {"a": PAIR, "x": (PAIR[0][:3], made(X, axis=0)[1])},
        ValueError,
        r"tensors\['x'\]: scale has shape \(6,\)",
    ),
    "axis": ({"x": (PAIR[0][0, 0], made(X, axis=1)[1])}, ValueError, r"tensors\['x'\]: axis 1"),
    "scales": (
        {"x": PAIR, "x_scale": PAIR},
        ValueError,
        "tensors has 'x_scale', the name of the parameters of 'x'; rename one",
    ),
    "zero points": ({"x_zero_point": PAIR, "x": PAIR}, ValueError, "tensors has 'x_zero_point'"),
    "metadata": ({"__metadata__": PAIR}, ValueError, "safetensors cannot name a tensor"),
    "surrogate": ({"\udcff": PAIR}, ValueError, "safetensors cannot name a tensor"),
}


@pytest.mark.parametrize(("tensors", "error", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_writes_nothing(tmp_path, tensors, error, match):
    with pytest.raises(error, match=match):
        files.save(tmp_path / "new.safetensors", tensors)
    (tmp_path / "old.safetensors").write_bytes(b"the old file")
    with pytest.raises(error, match=match):
        files.save(tmp_path / "old.safetensors", tensors)
    assert entries(tmp_path) == ["old.safetensors"]
    assert (tmp_path / "old.safetensors").read_bytes() == b"the old file"


def test_paths(tmp_path):
    with pytest.raises(ValueError, match=r"path '.*s\.npz' must be the name of a \.safetensors"):
        files.save(tmp_path / "s.npz", {"x": PAIR})
    with pytest.raises(FileNotFoundError, match="path '.*': there is no directory"):
        files.save(tmp_path / "none" / "s.safetensors", {"x": PAIR})
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(ValueError, match="path '.*' is not a regular file"):
        files.save(tmp_path / "d.safetensors", {"x": PAIR})
    with pytest.raises(FileNotFoundError):
        files.load(tmp_path / "none.safetensors")
    np.save(tmp_path / "x.npy", X)
    safetensors.numpy.save_file({"x": X}, tmp_path / "x.safetensors")
    for name in ("x.npy", "x.safetensors"):
        with pytest.raises(ValueError, match=f"{name}: it holds no quantized tensor"):
            files.load(tmp_path / name)


def test_the_command_line_reads_it(tmp_path, capsys):
    path = tmp_path / "s.safetensors"
    files.save(path, {"table": made(X, axis=0)})
    assert _cli.main(["inspect", str(path)]) == 0
    assert (
        "codes of float32, zeropoint, numpy convention, along axis 0, scales [6]"
        in capsys.readouterr().out
    )
    assert _cli.main(["dequantize", str(path), "-o", str(tmp_path / "b.npy"), "-q"]) == 0
    codes, params = made(X, axis=0)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), zp.dequantize(codes, params))


def test_memory(tmp_path):
    """`save` needs none that grows with the codes, and `load` that of its result."""
    codes, params = np.zeros((1 << 12, 1 << 12), np.uint8).T, PAIR[1]
    tracemalloc.start()
    try:
        files.save(tmp_path / "s.safetensors", {"x": (codes, params)})
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 3 << 20, peak
        tracemalloc.reset_peak()
        loaded = files.load(tmp_path / "s.safetensors")
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < loaded["x"][0].nbytes + (2 << 20), peak
    finally:
        tracemalloc.stop()
