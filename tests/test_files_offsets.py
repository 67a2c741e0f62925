"""Files of real offsets, and of missing values: the same bits as of whole arrays, nothing lost."""

import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import zeropoint as zp
from zeropoint import _cli, files

from .test_files import cut, entries, numbers, read_back, same, saved

OFFSETS = ("cf", "faiss", "sentence-transformers")
LAYOUTS = [{}, {"axis": 0}, {"axis": -1}, {"axis": 1, "block_size": 7}]


@pytest.fixture
def small_chunks():
    with cut(1000, 1000, 1000):
        yield


def is_stored(path, name, x, **keywords):
    """All functions give to the bit what those on the array `x` give, whose params are returned."""
    params = zp.choose_params(x, **keywords)
    counted = None if params.axis is None else params.axis % x.ndim
    tensors, metadata = read_back(path)
    same(tensors[name], zp.quantize(x, params))
    arrays = ["scale", "zero_point"] if isinstance(params, zp.QuantParams) else ["scale", "offset"]
    if getattr(params, "span", None) is not None:
        arrays[0] = "span"
    for array in arrays:
        found = np.asarray(getattr(params, array))
        same(
            tensors.pop(f"{name}_{array}"), found.astype("i4") if found.dtype.kind == "i" else found
        )
    tensors.pop(name)
    assert not [other for other in tensors if other.startswith(f"{name}_")]
    assert files.read_params(path, name) == params.replace(axis=counted)
    entry = json.loads(metadata["zeropoint.tensors"])[name]["params"]
    described = files.inspect_file(path).tensors
    assert [each.quantized["params"] for each in described if each.name == name] == [entry]
    for field, value in entry.items():
        assert value == (counted if field == "axis" else getattr(params, field)), field
    return params


# ---------------------------------------------------------------------------------------------
# Real offsets


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
@pytest.mark.parametrize("keywords", LAYOUTS, ids=str)
@pytest.mark.parametrize("convention", OFFSETS)
def test_round_trip(tmp_path, small_chunks, convention, keywords, dtype, order):
    """Of 40 dimensions, which faiss fuses, in chunks of other lengths."""
    x = np.asarray(numbers((70, 40), dtype) + np.float32(5), order=order).astype(dtype)
    keywords = {**keywords, "convention": convention, "dtype": "int8"}
    source = saved(tmp_path, x)
    done = files.quantize_file(source, tmp_path / "q.safetensors", stats=True, **keywords)
    params = is_stored(tmp_path / "q.safetensors", "w", x, **keywords)
    assert params.fused is (convention == "faiss" and x.dtype.itemsize < 8)
    [tensor] = done.tensors
    assert (tensor.convention, tensor.nan_code, tensor.codes) == (convention, None, "int8")
    assert tensor.error_bound == np.max(params.scale) / 2
    values = params.fake_quantize(x)
    error = values.astype("f8") - x.astype("f8")
    assert np.abs(error).max() <= tensor.error_bound + np.abs(x).max() * (3 * np.finfo(x.dtype).eps)
    expected = 10 * math.log10((x.astype("f8") ** 2).sum() / (error**2).sum())
    assert math.isclose(tensor.sqnr_db, expected, abs_tol=0.2 if x.dtype.itemsize == 2 else 1e-3)
    back = files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    assert back.tensors[0].convention == convention
    same(np.load(tmp_path / "b.npy"), np.ascontiguousarray(values))


@pytest.mark.parametrize("length", [7, 8, 12, 16])
def test_faiss_goes_by_the_dimensions_of_the_tensor(tmp_path, small_chunks, length):
    """Whatever the axis of the parameters, and however the tensor is cut."""
    x = numbers((301, length), "f4")
    for keywords in LAYOUTS[:3]:
        source, target = saved(tmp_path, x), tmp_path / "q.safetensors"
        files.quantize_file(source, target, convention="faiss", **keywords)
        params = is_stored(target, "w", x, convention="faiss", **keywords)
        assert params.fused == (length % 8 == 0)
        files.dequantize_file(target, tmp_path / "b.npy")
        same(np.load(tmp_path / "b.npy"), params.dequantize(params.quantize(x)))


@pytest.mark.parametrize("convention", OFFSETS)
def test_constant_tensors(tmp_path, convention):
    """A span of 0 is stored as it is."""
    x = np.full((3, 5), 2.5, np.float32)
    files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", convention=convention)
    is_stored(tmp_path / "q.safetensors", "w", x, convention=convention)
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    same(np.load(tmp_path / "b.npy"), x)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_all_tensors_of_a_file(tmp_path, suffix):
    """bfloat16 and scalars too; an offset has the precision of its tensor."""
    tensors = {"a": numbers((6, 9), "f4"), "b": numbers((4,), "f8"), "c": numbers((), "f2")}
    if suffix == "npz":
        np.savez(tmp_path / "x.npz", **tensors)
    else:
        tensors["d"] = numbers((8, 9), ml_dtypes.bfloat16)
        safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    target = tmp_path / "q.safetensors"
    files.quantize_file(tmp_path / f"x.{suffix}", target, convention="netcdf")
    for name, x in tensors.items():
        assert is_stored(target, name, x, convention="cf").offset.dtype == max(x.dtype, "f4")
    files.dequantize_file(target, tmp_path / "b.safetensors")
    for name, x in tensors.items():
        params = zp.choose_params(x, convention="cf")
        same(files.read_tensor(tmp_path / "b.safetensors", name), params.fake_quantize(x))


def test_a_file_of_many_kinds(tmp_path):
    """A file that is quantized in two goes, and codes that are saved."""
    x = numbers((20, 30), "f4")
    tensors = {"a": x, "b": x + 1, "c": x[0]}
    np.savez(tmp_path / "x.npz", **tensors)
    files.quantize_file(tmp_path / "x.npz", tmp_path / "1.safetensors", include="a", axis=0)
    target = tmp_path / "2.safetensors"
    how = {"convention": "faiss", "axis": -1, "nan_code": 0}
    files.quantize_file(tmp_path / "1.safetensors", target, include="b", **how)
    is_stored(target, "a", x, axis=0)
    is_stored(target, "b", x + 1, **how)
    same(read_back(target)[0]["c"], x[0])
    loaded = files.load(target)
    assert loaded["b"][1] == zp.choose_params(x + 1, **how).replace(axis=1)
    files.save(tmp_path / "s.safetensors", loaded)
    assert files.load(tmp_path / "s.safetensors")["a"][1] == loaded["a"][1]
    assert files.load(tmp_path / "s.safetensors")["b"][1] == loaded["b"][1]
    files.dequantize_file(target, tmp_path / "b.safetensors")
    same(
        files.read_tensor(tmp_path / "b.safetensors", "b"),
        loaded["b"][1].dequantize(loaded["b"][0]),
    )


def test_a_folder(tmp_path):
    """In two shards, with codes of NaN and without."""
    model, x = tmp_path / "m", with_nan(numbers((40, 48), "f4"))
    model.mkdir()
    tensors = {"a.weight": x, "b.weight": x[::-1].copy()}
    for shard, (name, values) in enumerate(tensors.items()):
        safetensors.numpy.save_file({name: values}, model / f"model-{shard}.safetensors")
    index = {name: f"model-{shard}.safetensors" for shard, name in enumerate(tensors)}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    how = {"convention": "sentence-transformers", "axis": 1, "nan_code": 0, "skip_nan": True}
    files.quantize_file(model, tmp_path / "q", **how)
    files.dequantize_file(tmp_path / "q", tmp_path / "b")
    for name, values in tensors.items():
        is_stored(tmp_path / "q" / index[name], name, values, **how)
        params = zp.choose_params(values, **how)
        same(files.read_tensor(tmp_path / "b", name), params.fake_quantize(values))
    with pytest.raises(ValueError, match=r"model-0\.safetensors: tensor 'a\.weight' has .* NaN"):
        files.quantize_file(model, tmp_path / "q2", convention="cf")
    assert entries(tmp_path) == ["b", "m", "q"]


def test_names_that_are_taken(tmp_path):
    """By the parameters of the convention, and by no others."""
    x = numbers((6, 9), "f4")
    np.savez(tmp_path / "x.npz", w=x, w_offset=x[0], v=x, v_span=x[0])
    for convention, name in (("cf", "w_offset"), ("faiss", "w_offset")):
        with pytest.raises(
            ValueError, match=f"it has a tensor '{name}', the name of the parameters"
        ):
            files.quantize_file(
                tmp_path / "x.npz", tmp_path / "q.safetensors", convention=convention
            )
    with pytest.raises(ValueError, match="it has a tensor 'v_span', the name of the parameters"):
        files.quantize_file(
            tmp_path / "x.npz", tmp_path / "q.safetensors", convention="faiss", include="v"
        )
    assert entries(tmp_path) == ["x.npz"]
    files.quantize_file(tmp_path / "x.npz", tmp_path / "q.safetensors")
    pair = zp.quantize_dynamic(x, convention="cf")
    with pytest.raises(
        ValueError, match="tensors has 'w_offset', the name of the parameters of 'w'"
    ):
        files.save(tmp_path / "s.safetensors", {"w": pair, "w_offset": pair})
    files.save(tmp_path / "s.safetensors", {"w": pair, "w_zero_point": pair, "w_span": pair})


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"convention": "cf", "symmetric": True}, "symmetric"),
        ({"convention": "faiss", "zero_point_from": "min"}, "zero_point_from"),
        ({"nan_code": 7}, r"nan_code 7 lies inside \[qmin, qmax\]"),
        ({"nan_code": 300}, "nan_code 300 is outside uint8"),
        ({"skip_nan": True}, r"skip_nan=True needs a nan_code, .* such as nan_code=0"),
    ],
    ids=str,
)
def test_bad_keywords_are_reported_before_reading(tmp_path, keywords, match):
    with pytest.raises(ValueError, match=match):
        files.quantize_file(tmp_path / "none.npy", tmp_path / "q.safetensors", **keywords)


def test_a_range_that_overflows(tmp_path):
    x = np.float32([-3e38, 3e38])
    with pytest.raises(ValueError, match=r"w\.npy: tensor 'w': the range of x is too wide"):
        files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", convention="cf")
    assert entries(tmp_path) == ["w.npy"]


def test_values_beyond_the_dtype_have_no_bound(tmp_path):
    """Half a step above the largest float16 lies Inf, however near the others are."""
    x = np.linspace(65000, 65504, 300).astype(np.float16)
    for convention in ("faiss", "cf"):
        done = files.quantize_file(
            saved(tmp_path, x), tmp_path / "q.safetensors", convention=convention
        )
        assert np.isfinite(done.tensors[0].error_bound)
    x = np.linspace(32000, 65504, 300).astype(np.float16)
    done = files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", include_zero=False)
    assert done.tensors[0].error_bound == math.inf
    x = np.linspace(50000, 65504, 300).astype(np.float16)
    done = files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", convention="faiss")
    assert done.tensors[0].error_bound == math.inf
    done = files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    assert done.tensors[0].error_bound == math.inf
    done = files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy", dtype="float32")
    assert np.isfinite(done.tensors[0].error_bound)


# ---------------------------------------------------------------------------------------------
# Missing values


def with_nan(x, order="C"):
    """NaN of both signs in every 19th element and in most of a row."""
    x = np.array(x, order="C")
    x.reshape(-1)[::19] = np.nan
    x.reshape(-1)[7::41] = -np.float32(np.nan)
    if x.ndim > 1:
        x[1, 2:] = np.nan
    return np.asarray(x, order=order)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
@pytest.mark.parametrize("keywords", LAYOUTS[:3], ids=str)
@pytest.mark.parametrize("convention", ["numpy", "onnx", "torch", *OFFSETS])
def test_missing_values(tmp_path, small_chunks, convention, keywords, dtype, order):
    x = with_nan(numbers((70, 40), dtype), order)
    for code in (0, 255, 3):
        how = {**keywords, "convention": convention, "nan_code": code}
        how |= {"qmin": 10} if code == 3 else {}
        target = tmp_path / "q.safetensors"
        done = files.quantize_file(saved(tmp_path, x), target, skip_nan=True, stats=True, **how)
        params = is_stored(target, "w", x, skip_nan=True, **how)
        codes = read_back(target)[0]["w"]
        np.testing.assert_array_equal(codes == code, np.isnan(x))
        assert (done.tensors[0].nan_code, done.tensors[0].convention) == (code, convention)
        assert 30 < done.tensors[0].sqnr_db < 60
        assert done.tensors[0].error_bound == np.max(params.scale) / 2
        back = files.dequantize_file(target, tmp_path / "b.npy")
        assert back.tensors[0].nan_code == code
        same(np.load(tmp_path / "b.npy"), np.ascontiguousarray(params.fake_quantize(x)))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, "f8"])
def test_statistics_are_those_of_the_data_without_nan(tmp_path, dtype):
    x = with_nan(numbers((500,), dtype))
    present = x[~np.isnan(x)]
    how = {"nan_code": 255, "stats": True}
    safetensors.numpy.save_file({"w": x, "v": present}, tmp_path / "x.safetensors")
    done = files.quantize_file(
        tmp_path / "x.safetensors", tmp_path / "q.safetensors", skip_nan=True, **how
    )
    one, other = sorted(done.tensors, key=lambda each: each.name)
    assert one.error_bound == other.error_bound
    assert math.isclose(one.sqnr_db, other.sqnr_db, rel_tol=1e-12)
    tensors, _ = read_back(tmp_path / "q.safetensors")
    same(tensors["w_scale"], tensors["v_scale"])
    same(tensors["w"][~np.isnan(x.astype("f8"))], tensors["v"])


def test_a_tensor_that_is_read_twice(tmp_path):
    """Longer than a chunk may be: its range comes from all tiles, some of them nothing but NaN."""
    x = numbers((5, 3000), "f4")
    x[0], x[3, 500:] = np.nan, np.nan
    x[4, 100] = 1000
    for keywords in ({}, {"axis": 1}):
        with cut(1000, 1000, 1000):
            files.quantize_file(
                saved(tmp_path, x),
                tmp_path / "q.safetensors",
                nan_code=0,
                skip_nan=True,
                **keywords,
            )
        is_stored(tmp_path / "q.safetensors", "w", x, nan_code=0, skip_nan=True, **keywords)


@pytest.mark.parametrize("convention", ["numpy", *OFFSETS])
def test_every_backend_writes_the_same_bytes(tmp_path, backend, convention):
    """And as if each call were verified."""
    x = with_nan(numbers((70, 40), "f4"))
    how = {"convention": convention, "nan_code": 255, "skip_nan": True, "axis": 1}
    with zp.use_backend("reference"):
        files.quantize_file(saved(tmp_path, x), tmp_path / "r.safetensors", **how)
        files.dequantize_file(tmp_path / "r.safetensors", tmp_path / "r.npy")
    with zp.use_backend(backend), zp.verify():
        files.quantize_file(saved(tmp_path, x), tmp_path / "q.safetensors", **how)
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "q.npy")
    for suffix in ("safetensors", "npy"):
        one, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "rq")
        assert one == other


def test_nan_without_the_keywords_names_them(tmp_path, small_chunks):
    x = with_nan(numbers((50, 60), "f4"))
    source, target = saved(tmp_path, x), tmp_path / "q.safetensors"
    pattern = (
        rf"w\.npy: tensor 'w' has {np.isnan(x).sum()} NaN or Inf of 3000 elements, the first "
        r"\(nan\) at index \(0, 0\); exclude the tensor, or put a value .*; "
        r"nan_code \(--nan-code\) and skip_nan=True \(--skip-nan\) keep NaN as a code of its own"
    )
    for keywords in ({}, {"nan_code": 0}, {"convention": "cf", "axis": 0}):
        with pytest.raises(ValueError, match=pattern):
            files.quantize_file(source, target, **keywords)
    x[7, 31] = np.inf
    for keywords in ({}, {"axis": 1}, {"axis": 0}):
        with pytest.raises(
            ValueError, match=r"has 1 Inf of 3000 .*\(inf\) at index \(7, 31\); [^;]*$"
        ):
            files.quantize_file(saved(tmp_path, x), target, nan_code=0, skip_nan=True, **keywords)
    np.savez(tmp_path / "z.npz", w=np.float32([1, np.inf]))
    with pytest.raises(ValueError, match=r"has 1 NaN or Inf of 2 elements[^;]*; [^;]*$"):
        files.quantize_file(tmp_path / "z.npz", target)
    assert entries(tmp_path) == ["w.npy", "z.npz"]


def test_nothing_but_nan(tmp_path, small_chunks):
    x = numbers((90, 30), "f4")
    x[60] = np.nan
    source, target = saved(tmp_path, x), tmp_path / "q.safetensors"
    how = {"nan_code": 0, "skip_nan": True}
    files.quantize_file(source, target, **how)
    target.unlink()
    pattern = r"tensor 'w': x has nothing but NaN in channel \d+, .*\(counted from element \d+ on\)"
    with pytest.raises(ValueError, match=pattern):
        files.quantize_file(source, target, axis=0, **how)
    with pytest.raises(ValueError, match=r"nothing but NaN in block"):
        files.quantize_file(source, target, axis=1, block_size=10, **how)
    with pytest.raises(ValueError, match=r"tensor 'w': x has nothing but NaN, so it has no data"):
        files.quantize_file(saved(tmp_path, x[60]), target, convention="cf", **how)
    assert entries(tmp_path) == ["w.npy"]


def test_other_formats_have_no_code_for_it(tmp_path, capsys):
    """They refuse NaN as ever, and the keywords."""
    x = with_nan(numbers((32, 64), "f4"))
    safetensors.numpy.save_file({"fc.weight": x}, tmp_path / "x.safetensors")
    for given in ({"format": "comfyui"}, {"format": "zeropoint"}):
        with pytest.raises(ValueError, match=r"'fc.weight' has \d+ NaN or Inf[^;]*; [^;]*$"):
            files.quantize_checkpoint(
                tmp_path / "x.safetensors", tmp_path / "q.safetensors", **given
            )
    with pytest.raises(ValueError, match=r"nan_code is 0, and a \.gguf file"):
        files.quantize_file(tmp_path / "x.gguf", tmp_path / "q.gguf", nan_code=0)
    with pytest.raises(ValueError, match=r"convention is 'cf', and a \.gguf file"):
        files.quantize_file(tmp_path / "x.gguf", tmp_path / "q.gguf", convention="cf")
    for option in (["--nan-code", "0"], ["--skip-nan"], ["--convention", "cf"]):
        command = [
            "quantize",
            str(tmp_path / "x.safetensors"),
            "-o",
            str(tmp_path / "q.safetensors"),
        ]
        assert _cli.main([*command, "--format", "comfyui", *option]) == 2
        assert f"{option[0]} is an option of --format zeropoint" in capsys.readouterr().err
    assert entries(tmp_path) == ["x.safetensors"]


# ---------------------------------------------------------------------------------------------
# The command line


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = with_nan(numbers((40, 48), "f4") + np.float32(280))
    np.savez("x.npz", t2m=x, u10=x[:4, :7])
    command = (
        "quantize x.npz -o q.safetensors --convention xarray --nan-code 255 --skip-nan --stats"
    )
    assert _cli.main(command.split()) == 0
    out = capsys.readouterr().out
    assert "uint8 per tensor, cf, NaN is 255" in out
    is_stored(Path("q.safetensors"), "t2m", x, convention="cf", nan_code=255, skip_nan=True)
    assert _cli.main([*command.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tensors"]
    assert [(each["convention"], each["nan_code"]) for each in found] == [("cf", 255)] * 2
    assert all(each["sqnr_db"] > 30 for each in found)
    assert _cli.main(["inspect", "q.safetensors"]) == 0
    out = capsys.readouterr().out
    assert (
        "codes of float32, zeropoint, cf convention, per tensor, scales and offsets [], NaN is 255"
        in out
    )
    assert _cli.main(["inspect", "q.safetensors", "--json"]) == 0
    [entry] = [
        each["quantized"]["params"]
        for each in json.loads(capsys.readouterr().out)["tensors"]
        if each["name"] == "t2m"
    ]
    assert (entry["convention"], entry["nan_code"], entry["qmax"]) == ("cf", 255, 254)

    assert _cli.main(["compare", "x.npz", "--tensor", "t2m"]) == 1
    assert "skip_nan" in capsys.readouterr().err
    assert (
        _cli.main(["compare", "x.npz", "--tensor", "t2m", "--skip-nan", "--axis", "0", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(zp.compare(x, axis=0, skip_nan=True).to_dict()))

    command = "quantize x.npz -o q.safetensors --convention sentence-transformers --axis 1"
    assert _cli.main([*command.split(), "--include", "t2m"]) == 1
    assert "--nan-code" in capsys.readouterr().err
    assert _cli.main([*command.split(), "--nan-code", "0", "--skip-nan", "--include", "t2m"]) == 0
    assert "uint8 along axis 1, sentence-transformers, NaN is 0" in capsys.readouterr().out
    assert _cli.main(["inspect", "q.safetensors"]) == 0
    assert "spans and offsets [48], NaN is 0" in capsys.readouterr().out
    assert _cli.main(["dequantize", "q.safetensors", "-o", "b.safetensors"]) == 0
    assert "uint8 along axis 1, sentence-transformers, NaN is 0" in capsys.readouterr().out
    back = read_back("b.safetensors")[0]["t2m"]
    np.testing.assert_array_equal(np.isnan(back), np.isnan(x))
