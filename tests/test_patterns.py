"""Names that are chosen by patterns: in files, on the command line, in the adapters."""

import time

import numpy as np
import pytest
import safetensors.numpy

from zeropoint import _cli, _patterns, files

NAMES = ["model.a.weight", "model.a.bias", "layer[0]", "layer0", "layer[1]"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.weight"], {"model.a.weight"}),
        (["model.?.*"], {"model.a.weight", "model.a.bias"}),
        (["layer[0]"], {"layer[0]"}),  # the name itself, before the pattern that fits layer0
        (["layer[01]"], {"layer0"}),
        (["layer[[]?]"], {"layer[0]", "layer[1]"}),
        (["layer[0]", "*.bias"], {"layer[0]", "model.a.bias"}),
        (["*"], set(NAMES)),
        ([], set()),
    ],
)
def test_chosen(patterns, expected):
    assert _patterns.chosen(patterns, NAMES, "include") == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("MODEL.A.BIAS", "the nearest are 'model.a.bias'"),
        ("*.wieght", "the nearest are 'model.a.weight'"),
        ("layers[0]", r"the nearest are 'layer\[0\]', 'layer\[1\]', 'layer0'"),
        ("zzz", r"there are 'model.a.weight', 'model.a.bias', 'layer\[0\]', \.\.\."),
        ("", "there are 'model.a.weight'"),
    ],
)
def test_a_pattern_that_matches_nothing(pattern, message):
    with pytest.raises(ValueError, match=rf"^exclude .* matches no name; {message}"):
        _patterns.chosen(["*", pattern], NAMES, "exclude")


def test_many_and_long_names_cost_little():
    """Names and patterns come from files and users, so any number of any length."""
    names = [f"model.layers.{i}.weight" for i in range(100_000)]
    start = time.process_time()
    assert _patterns.chosen(names, names, "include") == set(names)
    with pytest.raises(ValueError, match="matches no name"):
        _patterns.chosen(["model.layer.5.weight" * 10_000], ["a" * 10**6, *names], "include")
    assert time.process_time() - start < 10
    with pytest.raises(ValueError, match="there are none"):
        _patterns.chosen(["a"], ["a" * 10**6], "include")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "s.safetensors"
    x = np.random.default_rng(0).normal(size=(8, 40)).astype("<f4")
    safetensors.numpy.save_file(dict.fromkeys(NAMES, x) | {"ids": np.arange(4)}, path)
    return path


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_files(tmp_path, source, argument):
    with pytest.raises(ValueError, match=rf"{argument} '\*\.wieght' matches no name; the nearest"):
        files.quantize_file(source, tmp_path / "q.safetensors", **{argument: ["*", "*.wieght"]})
    assert not (tmp_path / "q.safetensors").exists()
    done = files.quantize_file(source, tmp_path / "q.safetensors", **{argument: "layer[0]"})
    chosen = {one.name for one in done.tensors if one.kept is None}
    assert chosen == ({"layer[0]"} if argument == "include" else set(NAMES) - {"layer[0]"})


def test_the_command_line(tmp_path, source, capsys):
    command = ["quantize", str(source), "-o", str(tmp_path / "q.safetensors"), "--exclude"]
    assert _cli.main([*command, "*.biass"]) == 1
    assert "exclude '*.biass' matches no name; the nearest are 'model.a.bias'" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "q.safetensors").exists()
    assert _cli.main([*command, "layer[0]"]) == 0
    info = {one.name: one.dtype for one in files.inspect_file(tmp_path / "q.safetensors").tensors}
    assert (info["layer[0]"], info["layer0"]) == ("F32", "U8")


def test_read_tensor_names_the_nearest(source):
    with pytest.raises(ValueError, match="no tensor 'model.a.wieght'; .*are 'model.a.weight'"):
        files.read_tensor(source, "model.a.wieght")
    with pytest.raises(ValueError, match="tensor 'ids' of I64 is not quantized"):
        files.read_params(source, "ids")


def test_onnx():
    onnx = pytest.importorskip("onnx")
    from zeropoint.interop import onnx as interop

    weight = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "model.weight")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "model.weight"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 4])],
        [weight],
    )
    model = onnx.helper.make_model(graph)
    with pytest.raises(ValueError, match=r"no such constant; the nearest are 'model\.weight'"):
        interop.quantize_weights(model, exclude=["model.wieght"])
