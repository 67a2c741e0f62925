"""zeropoint.interop.onnx.calibrate on small models by hand: what is observed, kept and written."""

from __future__ import annotations

import copy
import json
import pickle
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _cli

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import onnx
from onnx import TensorProto, helper

from zeropoint.interop import onnx as interop
from zeropoint.interop._onnx_calibration import _stored

from .test_interop_onnx import model, node

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3)).astype(np.float32)


def small(**more: Any) -> Any:
    """y = relu(x @ w), and the shape of x, which is not float."""
    nodes = [
        node("MatMul", "x w", "h"),
        node("Relu", "h", "y"),
        node("Shape", "x", "s"),
        node("Tanh", "y", "t"),
    ]
    return model(nodes, ["x"], ["y", "t"], w=W, **more)


def feeds(rows: Any = (3, 1, 5)) -> list[dict[str, Any]]:
    return [{"x": RNG.normal(size=(n, 4)).astype(np.float32)} for n in rows]


# ---------------------------------------------------------------------------------------------
# What is observed


def test_each_activation_of_every_batch_is_observed() -> None:
    batches = feeds()
    found = interop.calibrate(small(), batches, method="minmax")
    assert found.tensors == ("x", "h", "y")  # not t: quantize_static leaves Tanh as it is
    assert (found.batches, found.method, found.percentile) == (3, "minmax", 99.99)
    x = np.concatenate([feed["x"] for feed in batches])
    h = np.concatenate([feed["x"] @ W for feed in batches])
    for name, data in ("x", x), ("h", h), ("y", np.maximum(h, 0)):
        low, high = found.observers[name]._range()
        np.testing.assert_allclose((low, high), (data.min(), data.max()), rtol=1e-6)
    assert found.params("x") == zp.choose_params(x, "int8", convention="onnx")
    assert found.params("x", "uint8") == zp.choose_params(x, convention="onnx")
    assert found.params("x", symmetric=True) == zp.choose_params(
        x, "int8", symmetric=True, convention="onnx"
    )
    assert found.params("x", convention="torch", qmax=100) == zp.choose_params(
        x, "int8", convention="torch", qmax=100
    )


def test_histograms_serve_every_method() -> None:
    batches = feeds()
    found = interop.calibrate(small(), batches, percentile=99)
    observer = zp.HistogramObserver()
    for feed in batches:
        observer.update(feed["x"])
    assert found.observers["x"] == observer
    assert found.params("x") == observer.params("int8", convention="onnx")
    for method in ("minmax", "percentile", "entropy"):
        how = {"method": method, "percentile": 99}
        assert found.params("x", method=method) == observer.params("int8", convention="onnx", **how)
    assert found.params("x", method="percentile", percentile=60) == observer.params(
        "int8", method="percentile", percentile=60, convention="onnx"
    )


def test_nothing_but_the_observers_is_kept() -> None:
    alive: list[Any] = []
    most = 0

    def batches() -> Any:
        nonlocal most
        for feed in feeds([50] * 20):
            alive.append(weakref.ref(feed["x"]))
            most = max(most, sum(ref() is not None for ref in alive))
            yield {"x": feed.pop("x")}

    seen: list[tuple[int, int]] = []
    found = interop.calibrate(small(), batches(), progress=lambda *at: seen.append(at))
    assert seen == [(n, 0) for n in range(1, 21)]
    assert found.batches == 20
    # the list that this test makes holds those to come; of those that came two may be alive
    assert most <= 2 + 19
    assert sum(ref() is not None for ref in alive) == 0


def test_any_split_order_and_merge_gives_the_same_bits() -> None:
    batches = feeds([3, 1, 5, 2])
    whole = interop.calibrate(small(), batches)
    parts = [interop.calibrate(small(), [feed]) for feed in batches]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        merged = copy.deepcopy(parts[order[0]])
        for i in order[1:]:
            assert merged.merge(pickle.loads(pickle.dumps(parts[i]))) is merged
        assert merged == whole
        assert json.dumps(merged.to_dict()) == json.dumps(whole.to_dict())
    assert parts[0] != whole
    assert interop.calibrate(small(), batches[::-1]) == whole
    again = interop.Calibration.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert again == whole
    assert again.params("h") == whole.params("h")


def test_which_tensors() -> None:
    batches = feeds()

    def tensors(**how: Any) -> tuple[str, ...]:
        return interop.calibrate(small(), batches, **how).tensors

    assert tensors(tensors="*") == ("x", "h", "y", "t")  # s is of int64
    assert tensors(tensors=["t", "x"]) == ("x", "t")
    assert tensors(tensors="*", exclude=["h", "s"]) == ("x", "y", "t")
    assert tensors(exclude="x") == ("h", "y")
    with pytest.raises(ValueError, match=r"tensors 'z\*' matches no name; there are 'x', 'h'"):
        tensors(tensors="z*")
    with pytest.raises(ValueError, match="exclude 'Y' matches no name; the nearest are 'y'"):
        tensors(exclude="Y")
    with pytest.raises(ValueError, match=r"no float32 or float16 activations of tensors \['s'"):
        tensors(tensors="s")
    with pytest.raises(ValueError, match=r"activations of tensors \['\*'\] that exclude= leaves"):
        tensors(tensors="*", exclude="*")
    only = model([node("Tanh", "x", "y")], ["x"], ["y"])
    with pytest.raises(ValueError, match=r"that quantize_static quantizes; pass tensors='\*'"):
        interop.calibrate(only, batches)


def test_graphs_in_a_graph_are_left_alone() -> None:
    def body(name: str) -> Any:
        inner = [node("Relu", "x", f"{name}_inner"), node("Neg", f"{name}_inner", name)]
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(inner, name, [], [out])

    nodes = [
        node("If", "c", "h", then_branch=body("a"), else_branch=body("b")),
        node("Relu", "h", "y"),
    ]
    conditional = model(nodes, ["x", ("c", TensorProto.BOOL)], ["y"])
    batches = [{**feed, "c": np.array(n > 0)} for n, feed in enumerate(feeds())]
    assert interop.calibrate(conditional, batches).tensors == ("h", "y")
    assert interop.calibrate(conditional, batches, tensors="*").tensors == ("x", "h", "y")
    inside = model(nodes[:1], ["x", ("c", TensorProto.BOOL)], ["h"])
    with pytest.raises(
        ValueError, match="in the bodies of If, Loop and Scan neither of them looks"
    ):
        interop.calibrate(inside, batches)
    with pytest.raises(ValueError, match="tensors 'a_inner' matches no name"):
        interop.calibrate(conditional, batches, tensors="a_inner")


def test_the_model_stays_and_may_have_external_data(tmp_path: Path) -> None:
    batches = feeds()
    there = small()
    there.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, None))
    there.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    before = there.SerializeToString()
    found = interop.calibrate(there, batches)
    assert there.SerializeToString() == before
    assert found == interop.calibrate(small(), batches)
    path = tmp_path / "folder" / "m.onnx"
    path.parent.mkdir()
    onnx.save(small(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (path.parent / "w.bin").exists()
    assert interop.calibrate(path, batches) == found
    assert interop.calibrate(str(path), batches) == found
    bare = onnx.load(path, load_external_data=False)
    with pytest.raises(ValueError, match="ONNX Runtime does not load the model"):
        interop.calibrate(bare, batches)


def test_models_of_more_than_two_gigabytes_are_given_by_their_path() -> None:
    class Large:
        graph = small().graph

        def SerializeToString(self) -> bytes:
            raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")

    from zeropoint.interop._onnx_graph import with_outputs

    with pytest.raises(ValueError, match="larger than 2 GB.*save_as_external_data=True.*the path"):
        with_outputs(Large(), ["h"])  # type: ignore[arg-type]


def test_inputs_with_a_default_need_not_be_fed() -> None:
    optional = small()
    optional.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    batches = feeds()
    assert interop.calibrate(optional, batches) == interop.calibrate(small(), batches)
    given = [{**feed, "w": 2 * W} for feed in batches]
    found = interop.calibrate(optional, given, method="minmax")
    assert found.params("h").scale > interop.calibrate(small(), batches).params("h").scale


def test_a_reader_of_onnx_runtime_will_do() -> None:
    batches = feeds()
    assert interop.calibrate(small(), interop.calibration_reader(batches)) == interop.calibrate(
        small(), batches
    )


def test_batches_without_elements() -> None:
    found = interop.calibrate(small(), feeds([0]))
    assert found.batches == 1
    with pytest.raises(ValueError, match="tensor 'h': the observer has seen no data"):
        found.params("h")
    assert found.merge(interop.calibrate(small(), feeds([2, 0]))).params("h").scale > 0


# ---------------------------------------------------------------------------------------------
# What is wrong


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_activation_that_is_not_finite_is_named(value: float) -> None:
    batches = feeds()
    batches[1]["x"][0, 2] = value
    with pytest.raises(ValueError, match=r"activation 'x' of batch 1 has 1 NaN or Inf of 4") as at:
        interop.calibrate(small(), batches)
    assert "the first at index (0, 2); leave it out by exclude=" in str(at.value)
    assert "nodes_to_exclude=" in str(at.value)
    with pytest.raises(ValueError, match="activation 'h' of batch 1"):
        interop.calibrate(small(), batches, exclude="x", method="minmax")


def test_bad_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = np.ones((2, 4), np.float32)

    def refuses(kind: type[Exception], text: str, batches: Any = (), **how: Any) -> None:
        given = how.pop("model", None) or small()
        with pytest.raises(kind, match=text):
            interop.calibrate(given, batches, **how)

    refuses(ValueError, "batches is empty; pass at least one feed")
    for known in ("CPUExecutionProvider", ("CPUExecutionProvider", {})):
        refuses(ValueError, "batches is empty", providers=[known])
        refuses(ValueError, "providers 'None' is unknown.*CPU", providers=[known, "None"])
    refuses(TypeError, r"not dict; pass \[feed\]", {"x": x})
    refuses(TypeError, "batches must be an iterable of feeds.*not int", 3)
    refuses(TypeError, r"batch 0 must be {input name: array}, not ndarray", [x])
    refuses(ValueError, r"batch 1 lacks input 'x'; it has \['X'\]", [{"x": x}, {"X": x}])
    refuses(ValueError, "batch 0 has 'y', which is no input.*'x'", [{"x": x, "y": x}])
    refuses(
        ValueError,
        r"batch 0: input 'x' is float64.*x.astype\('float32'\)",
        [{"x": x + np.zeros(1)}],
    )
    refuses(ValueError, "batch 0: ONNX Runtime does not run it:", [{"x": x[:, :3]}])
    refuses(ValueError, "method 'best' is unknown", method="best")
    refuses(ValueError, "percentile 40 must be", percentile=40)
    refuses(TypeError, "tensors must hold patterns", tensors=3)
    refuses(TypeError, "model must be a ModelProto or a path, not int", model=3)
    refuses(OSError, "none.onnx", model=tmp_path / "none.onnx")
    refuses(
        ValueError, "ONNX Runtime does not load", model=model([node("Odd", "x", "y")], "x", "y")
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refuses(ImportError, "calibrate needs onnx>=1.19 and onnxruntime>=1.20: pip install")


def test_bad_calls_of_a_calibration(tmp_path: Path) -> None:
    found = interop.calibrate(small(), feeds(), method="minmax")
    with pytest.raises(TypeError, match="comes from calibrate"):
        interop.Calibration()
    with pytest.raises(ValueError, match="tensor 'Y' was not observed; the nearest are 'y'"):
        found.params("Y")
    with pytest.raises(ValueError, match="method 'mse' needs histograms"):
        found.params("y", method="mse")
    with pytest.raises(TypeError, match="no keyword 'sym'"):
        found.params("y", sym=True)
    with pytest.raises(TypeError, match="int4"):
        found.save_ort_cache(tmp_path / "c.json", "int4")
    assert not [*tmp_path.iterdir()]
    before = copy.deepcopy(found)
    for other, text in (
        (interop.calibrate(small(), feeds()), "other has method 'mse', this calibration 'minmax'"),
        (
            interop.calibrate(small(), feeds(), method="minmax", exclude="h"),
            r"other has tensors \['x', 'y'\], this calibration \['x', 'h', 'y'\]",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            found.merge(other)
    with pytest.raises(TypeError, match="other is a dict"):
        found.merge({})  # type: ignore[arg-type]
    assert found == before
    assert found != 3
    with pytest.raises(TypeError):
        hash(found)


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ((), 3, TypeError),
        (("more",), 1, ValueError),
        (("method",), "best", ValueError),
        (("percentile",), "99", TypeError),
        (("batches",), 0, ValueError),
        (("batches",), True, ValueError),
        (("tensors",), [], ValueError),
        (("tensors", "x"), [], TypeError),
        (("tensors", "x", "dtype"), "float64", ValueError),
        (("tensors", "x", "observer", "min"), "a", TypeError),
        (("tensors", "x", "observer", "observer"), "MinMaxObserver", ValueError),
        (("tensors", "x", "observer", "skip_nan"), True, ValueError),
    ],
)
def test_dictionaries_that_are_none(path: tuple[str, ...], value: Any, kind: Any) -> None:
    fields: Any = interop.calibrate(small(), feeds()).to_dict()
    whole = {"": fields}
    inner: Any = whole
    for key in ("", *path[:-1]) if path else ():
        inner = inner[key]
    inner[path[-1] if path else ""] = value
    with pytest.raises(kind):
        interop.Calibration.from_dict(whole[""])


# ---------------------------------------------------------------------------------------------
# What quantize_static writes


def real_ranges(count: int) -> Any:
    """Ranges with 0 inside, at an end and outside, over most of float32."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        ends = rng.normal(size=2) * 10.0 ** rng.uniform(
            -30, 30, (2, 1) if rng.random() < 0.5 else 1
        )
        ends = np.where(rng.random(2) < 0.1, 0, ends.ravel()[:2])
        yield np.sort(ends).astype(np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_range_that_stands_for_parameters(dtype: str, symmetric: bool) -> None:
    """What `_stored` says of its range is ONNX Runtime's own rule, and the parameters."""
    utils = pytest.importorskip("onnxruntime.quantization.quant_utils")
    kind = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}[dtype]
    qmin, qmax = utils.get_qmin_qmax_for_qType(kind, symmetric=symmetric)
    near = 0
    ranges = [
        *real_ranges(1000),
        np.float32([0, 0]),
        np.float32([0, 1e-43]),
        np.float32([-3e38, 3e38]),
    ]
    for real in np.float32, np.float16:
        for ends in ranges:
            if real is np.float16:
                with np.errstate(over="ignore"):
                    ends = np.clip(ends, -65504, 65504).astype(real)
            params = zp.choose_params(ends, dtype, symmetric=symmetric, convention="onnx")
            (low, high), found = _stored(params, np.dtype(real), symmetric)
            zero, scale = utils.compute_scale_zp(
                np.array(low), np.array(high), qmin, qmax, symmetric
            )
            assert (scale.dtype, scale, zero) == (real, *found)
            assert low <= 0 <= high
            ours = float(params.scale), params.zero_point
            if real is np.float32 and ours[0] > 2.0**-126 and (scale, zero) != ours:
                near += 1
                assert symmetric
                assert dtype == "uint8"
                assert abs(scale / params.scale - 1) <= 2**-23
            if real is np.float16 and 1e-4 < ours[0] < 500:
                assert scale == pytest.approx(ours[0], rel=2**-9)
    assert near < 20


@pytest.mark.parametrize("scale", [1.5293121, 1.8327179, 1.2271576])
@pytest.mark.parametrize("zero", [0, 255])
def test_scales_that_no_multiple_of_255_has(scale: float, zero: int) -> None:
    """No float32 is so near to 255 times these that its 255th part is one of them."""
    params = zp.QuantParams(np.float32(scale), zero, convention="onnx")
    assert np.float32(float(np.float32(255 * float(params.scale))) / 255) != params.scale
    (low, high), found = _stored(params, np.dtype(np.float32), False)
    assert found == (params.scale, zero)
    assert np.float32((float(high) - float(low)) / 255) == params.scale


OPTIONS = [("uint8", False), ("uint8", True), ("int8", False), ("int8", True)]


@pytest.mark.parametrize(("dtype", "symmetric"), OPTIONS)
def test_the_written_parameters_are_ours(dtype: str, symmetric: bool, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    nodes = [
        node("MatMul", "x w", "h"),
        node("Add", "h b", "k"),
        node("Sigmoid", "k", "g"),
        node("Mul", "k g", "y"),
    ]
    deep = model(nodes, ["x"], ["y"], w=W, b=np.float32([0.5, -2, 1]))
    found = interop.calibrate(deep, feeds([40, 7]))
    cache, done = tmp_path / "cache.json", tmp_path / "done.onnx"
    found.save_ort_cache(cache, dtype, symmetric=symmetric)
    quantization.quantize_static(
        deep,
        done,
        None,
        activation_type=quantization.QuantType.from_string("Q" + dtype.title().replace("Ui", "UI")),
        calibration_cache_path=cache,
        extra_options={"ActivationSymmetric": symmetric},
    )
    written = onnx.load(done)
    for tensor in found.tensors:
        assert interop.params(written, tensor) == found.params(tensor, dtype, symmetric=symmetric)


def test_float16_models(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    half = TensorProto.FLOAT16
    nodes = [node("MatMul", "x w", "y")]
    narrow = model(nodes, [("x", half)], [("y", half)], w=W.astype(np.float16))
    found = interop.calibrate(narrow, [{"x": feed["x"].astype(np.float16)} for feed in feeds()])
    assert {each["dtype"] for each in found.to_dict()["tensors"].values()} == {"float16"}
    cache, done = tmp_path / "cache.json", tmp_path / "done.onnx"
    found.save_ort_cache(cache)
    quantization.quantize_static(narrow, done, None, calibration_cache_path=cache)
    written = onnx.load(done)
    for tensor in found.tensors:
        ours = found.params(tensor)
        assert np.float16(ours.scale) == ours.scale
        assert interop.params(written, tensor) == ours


def test_the_cache(tmp_path: Path) -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    found = interop.calibrate(small(), feeds(), tensors="*")
    seen_none = interop.calibrate(small(), feeds([0]), tensors="*")
    path = tmp_path / "cache.json"
    path.write_text("before")
    found.save_ort_cache(path, method="minmax")
    data = calibrate.load_tensors_data(path)
    assert data.calibration_method is calibrate.CalibrationMethod.MinMax
    assert tuple(data.keys()) == found.tensors
    low, high = data["y"].range_value
    assert (low.dtype, low.shape, low) == (np.float32, (), 0)
    np.testing.assert_allclose(high, found.observers["y"]._high, rtol=1e-6)
    again = tmp_path / "again.json"
    calibrate.save_tensors_data(data, again)  # the same text but for the order of keys
    assert json.loads(again.read_text()) == json.loads(path.read_text())
    seen_none.save_ort_cache(path)
    assert json.loads(path.read_text())["data"] == {}


def test_what_is_printed() -> None:
    found = interop.calibrate(small(), feeds())
    assert repr(found) == "<Calibration: 3 tensors, 3 batches, method 'mse'>"
    lines = str(found).splitlines()
    assert lines[0].split() == ["tensor", "min", "max", "scale", "zero", "point"]
    assert [line.split()[0] for line in lines[1:]] == ["x", "h", "y"]
    assert lines[3].split()[3:] == [str(found.params("y").scale), "-128"]
    assert found._repr_html_().count("<tr>") == 4
    empty = interop.calibrate(small(), feeds([0]))
    assert len(str(empty).splitlines()) == empty._repr_html_().count("<tr>") == 1


# ---------------------------------------------------------------------------------------------
# The command


def command(capsys: pytest.CaptureFixture[str], *words: Any, code: int = 0) -> tuple[str, str]:
    assert _cli.main(["calibrate", *map(str, words)]) == code
    found = capsys.readouterr()
    return found.out, found.err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, cache = tmp_path / "m.onnx", tmp_path / "cache.json"
    onnx.save(small(), path)
    x = RNG.normal(size=(7, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    np.save(tmp_path / "x.npy", x)
    folder = tmp_path / "folder"
    folder.mkdir()
    np.savez(folder / "0.npz", x=x[:3])
    np.save(folder / "1.npy", x[3:])
    (folder / "notes.txt").write_text("not data")
    wanted = interop.calibrate(small(), [{"x": x}])
    wanted.save_ort_cache(tmp_path / "wanted.json", "uint8", symmetric=True)
    for data, n in ((tmp_path / "x.npz", 7), (tmp_path / "x.npy", 7), (folder, 2)):
        how = ("--data", data, "-o", cache, "--dtype", "uint8", "--symmetric")
        out, err = command(capsys, path, *how)
        assert cache.read_text() == (tmp_path / "wanted.json").read_text()
        assert f"3 activations, {n} batches: {cache}" in out
        assert str(wanted.params("h", "uint8", symmetric=True).scale) in out
        assert err == ""
    data = ("--data", tmp_path / "x.npz", "-o", cache)
    out, _ = command(capsys, path, *data, "--batch", 4, "--method", "minmax", "--json")
    found = json.loads(out)
    assert (found["batches"], found["method"]) == (2, "minmax")
    assert found["tensors"][0]["name"] == "x"
    assert found["tensors"][0]["min"] == float(x.min())
    assert found["tensors"][0]["scale"] == float(wanted.params("x", method="minmax").scale)
    out, _ = command(capsys, path, *data, "--include", "*", "--exclude", "[hx]")
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["y", "t"]
    assert command(capsys, path, *data, "-q") == ("", "")


def test_several_inputs_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, cache = tmp_path / "m.onnx", tmp_path / "cache.json"
    onnx.save(model([node("Mul", "a b", "y")], ["a", "b"], ["y"]), path)
    data = tmp_path / "x.npz"
    a = RNG.normal(size=(5, 2)).astype(np.float32)
    np.savez(data, a=a, b=np.float32(2))
    out, _ = command(capsys, path, "--data", data, "-o", cache, "--method", "minmax", "--json")
    assert json.loads(out)["batches"] == 5
    assert json.loads(out)["tensors"][2]["max"] == float(2 * a.max())
    for arrays, text in (
        ({"a": a, "b": a[:3]}, "as many of each array, but there are {'a': 5, 'b': 3}"),
        ({"a": np.float32(1), "b": np.float32(1)}, "there are none"),
        ({"a": a}, "batch 0 lacks input 'b'"),
    ):
        np.savez(data, **arrays)
        cache.unlink(missing_ok=True)
        _, err = command(capsys, path, "--data", data, "-o", cache, code=1)
        assert text in err
        assert not cache.exists()
    np.save(tmp_path / "x.npy", a)
    _, err = command(capsys, path, "--data", tmp_path / "x.npy", "-o", cache, code=1)
    assert "the model has 2 inputs (a, b); save a .npz" in err


def test_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, cache = tmp_path / "m.onnx", tmp_path / "cache.json"
    onnx.save(small(), path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("1")
    for data, more, code, text in (
        ("empty", (), 1, "has no .npz and no .npy files"),
        ("x.txt", (), 1, "must be a folder, a .npz or a .npy file"),
        ("none.npz", (), 1, "No such file"),
        ("empty", ("--batch", 3), 2, "--batch must be 1 or more, for --data FILE"),
        ("x.npz", ("--batch", 0), 2, "--batch must be 1 or more"),
        ("x.npz", ("--method", "best"), 2, "invalid choice: 'best'"),
        ("x.npz", ("--percentile", 99), 2, "--percentile is for --method percentile"),
        ("x.npz", ("-o", tmp_path / "no" / "cache.json"), 2, "must name a file, in a folder that"),
        ("x.npz", ("-o", tmp_path), 2, "must name a file, in a folder that exists"),
        ("x.txt", ("-o", path), 2, "m.onnx is a file that is read; choose another"),
        ("x.txt", ("-o", tmp_path / "x.txt"), 2, "is a file that is read"),
    ):
        _, err = command(capsys, path, "--data", tmp_path / data, "-o", cache, *more, code=code)
        assert text in err
    assert not cache.exists()
