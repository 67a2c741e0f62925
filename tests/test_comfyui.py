"""ComfyUI's int8_tensorwise: the bits of its formula; tests/parity asks comfy-kitchen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import files

from . import checkpoints

DTYPES = ("float32", "bfloat16", "float16")


def quantized_by_formula(x: np.ndarray, per_row: bool) -> tuple[np.ndarray, np.ndarray]:
    """The format's own arithmetic, in float32."""
    x = x.astype(np.float32)
    largest = np.abs(x).max(axis=1, keepdims=True) if per_row else np.abs(x).max()
    scale = np.maximum(largest / np.float32(127), np.float32(1e-30))
    return np.clip(np.rint(x / scale), -128, 127).astype(np.int8), scale


def edges() -> dict[str, np.ndarray]:
    """Linear weights at which a recipe can go wrong."""
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [
            np.zeros((1, 64)),
            np.full((1, 64), 1e-33),
            np.arange(64)[None] * 2 - 64.5,  # half steps at the scale 1/2 ...
            np.full((1, 64), -3.0),
            rng.normal(0, 1, (60, 64)),
        ]
    )
    rows[2, 0] = 63.5  # ... that this value gives
    tiny = np.full((8, 64), 1e-38)
    return {
        "edges.weight": rows.astype(np.float32),
        "zeros.weight": np.zeros((8, 64), np.float32),
        "tiny.weight": tiny.astype(np.float32),
    }


def layers(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The quantized layers of a file: their parts by name."""
    tensors = checkpoints.read(path)
    found = {}
    for name in tensors:
        layer, _, last = name.rpartition(".")
        if last == "comfy_quant":
            parts = ("weight", "weight_scale", "comfy_quant")
            found[layer] = {part: tensors[f"{layer}.{part}"] for part in parts}
    return found


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_are_those_of_the_formula(tmp_path, note, dtype, per_row):
    source = checkpoints.diffusion(tmp_path / "model.safetensors", dtype, **edges())
    out = tmp_path / "out.safetensors"
    files.quantize_checkpoint(source, out, format="comfyui", per_row=per_row)
    weights, compared = checkpoints.read(source), 0
    found = layers(out)
    assert len(found) == 1 + 2 * 3 + 3
    for layer, parts in found.items():
        codes, scale = quantized_by_formula(weights[f"{layer}.weight"], per_row)
        np.testing.assert_array_equal(parts["weight"], codes)
        assert (parts["weight_scale"].dtype, parts["weight_scale"].shape) == ("<f4", scale.shape)
        np.testing.assert_array_equal(parts["weight_scale"], scale)
        compared += codes.size
    note(f"ComfyUI formula {dtype} per_row={per_row}: {compared:,} codes, 0 differences")


@pytest.mark.parametrize("per_row", [False, True])
def test_what_the_file_says(tmp_path, per_row):
    """The marker of each layer, the metadata of the file, and everything else as it was."""
    source = checkpoints.diffusion(tmp_path / "model.safetensors")
    out = tmp_path / "out.safetensors"
    files.quantize_checkpoint(source, out, format="comfyui", per_row=per_row)
    found, metadata = layers(out), checkpoints.metadata(out)
    said = {"format": "int8_tensorwise"} | ({"per_row": True} if per_row else {})
    listed = json.loads(metadata["_quantization_metadata"])
    assert listed["format_version"] == "1.0"
    assert listed["layers"].keys() == found.keys()
    for layer, parts in found.items():
        assert parts["comfy_quant"].dtype == np.uint8
        marker = json.loads(parts["comfy_quant"].tobytes())
        assert marker == listed["layers"][layer]
        assert marker.items() >= said.items()
        assert marker.keys() <= said.keys() | {"orig_dtype"}
    assert metadata["modelspec.title"] == "small"
    assert metadata.keys() - {"modelspec.title"} == {"_quantization_metadata", "zeropoint.writer"}
    before, after = checkpoints.read(source), checkpoints.read(out)
    added = {f"{layer}.{part}" for layer in found for part in ("weight_scale", "comfy_quant")}
    assert after.keys() == before.keys() | added
    for name in before.keys() - {f"{layer}.weight" for layer in found}:
        assert after[name].tobytes() == before[name].tobytes()


def theirs(path: Path, marker: dict[str, Any], scale: np.ndarray, **metadata: str) -> Path:
    """A file as other converters write it."""
    text = json.dumps(marker).encode()
    tensors = {
        "a.weight": np.arange(-64, 64, dtype=np.int8).reshape(4, 32),
        "a.weight_scale": scale,
        "a.bias": np.zeros(4, ml_dtypes.bfloat16),
    }
    if marker:
        tensors["a.comfy_quant"] = np.frombuffer(text, np.uint8)
    return checkpoints.write(path / "theirs.safetensors", tensors, metadata or None)


def test_what_is_said_of_other_layers_stays(tmp_path):
    """Layers of fp8 are copied, and so is what the metadata say of them."""
    marked = {"format": "int8_tensorwise"}
    path = theirs(tmp_path, marked, SCALAR)
    other = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}
    listed = {"format_version": "1.0", "layers": {"a": marked, "b": other}, "more": 1}
    tensors = checkpoints.read(path)
    tensors["b.weight"] = np.ones((4, 32), ml_dtypes.float8_e4m3fn)
    tensors["b.weight_scale"] = np.float32(2).reshape(())
    metadata = {"_quantization_metadata": json.dumps(listed), "title": "t"}
    checkpoints.write(path, tensors, metadata)
    back = tmp_path / "back.safetensors"
    files.dequantize_file(path, back)
    found = checkpoints.metadata(back)
    assert json.loads(found.pop("_quantization_metadata")) == listed | {"layers": {"b": other}}
    assert found == {"title": "t"}
    assert checkpoints.read(back)["b.weight"].tobytes() == tensors["b.weight"].tobytes()


def test_a_file_with_the_rest_of_a_model(tmp_path):
    """ComfyUI reads text encoders and VAEs of such a file as values; include takes them."""
    layers = ("conditioner.embedders.0.model.fc", "cond_stage_model.a.q", "text_encoders.t5xxl.q")
    layers += ("first_stage_model.decoder.q", "vae.q")
    x = np.ones((32, 32), np.float32)
    tensors = {f"{layer}.weight": x for layer in (*layers, "model.diffusion_model.vae.q")}
    path = checkpoints.write(tmp_path / "all.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    summary = files.quantize_checkpoint(path, out, format="comfyui")
    why = {one.name.removesuffix(".weight"): one.kept for one in summary.tensors}
    assert all("text encoder or a VAE" in why[layer] for layer in layers)
    assert why["model.diffusion_model.vae.q"] is None
    summary = files.quantize_checkpoint(path, out, format="comfyui", include=["vae.q"])
    assert {one.name for one in summary.tensors if one.kept is None} == {"vae.q.weight"}


SCALAR = np.float32(0.25).reshape(())
ROWS = np.float32([[0.1], [0.2], [0.3], [0.4]])


@pytest.mark.parametrize(
    ("marker", "scale", "metadata"),
    [
        ({"format": "int8_tensorwise"}, SCALAR, {}),
        ({"format": "int8_tensorwise"}, SCALAR.reshape(1), {}),
        ({"format": "int8_tensorwise"}, SCALAR.reshape(1, 1), {}),
        ({"format": "int8_tensorwise", "per_row": True}, ROWS, {}),
        ({"format": "int8_tensorwise"}, ROWS, {}),  # ComfyUI looks at the scale's shape
        ({"format": "int8_tensorwise", "convrot": False, "orig_dtype": "torch.float32"}, ROWS, {}),
        ({"format": "int8_tensorwise", "full_precision_matrix_mult": True}, SCALAR, {}),
        ({}, SCALAR, {"a": {"format": "int8_tensorwise"}}),
        (
            {"format": "int8_tensorwise", "per_row": True},
            ROWS,
            {"a": {"format": "int8_tensorwise"}},
        ),
    ],
)
def test_what_others_wrote(tmp_path, marker, scale, metadata):
    listed = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": metadata})}
    path = theirs(tmp_path, marker, scale, **(listed if metadata else {}))
    back = tmp_path / "back.safetensors"
    files.dequantize_file(path, back)
    dtype = np.float32 if "orig_dtype" in marker else ml_dtypes.bfloat16
    codes = checkpoints.read(path)["a.weight"]
    expected = (codes.astype(np.float32) * scale).astype(dtype)
    found = checkpoints.read(back)
    assert found.keys() == {"a.weight", "a.bias"}
    assert found["a.weight"].dtype == dtype
    assert found["a.weight"].tobytes() == expected.tobytes()
    assert "_quantization_metadata" not in checkpoints.metadata(back)
    loaded, params = files.load(path)["a.weight"]
    assert zp.dequantize(loaded, params, dtype=dtype).tobytes() == expected.tobytes()
    one = {each.name: each.quantized for each in files.inspect_file(path).tensors}["a.weight"]
    assert one is not None
    assert one["format"] == "comfyui int8_tensorwise"


@pytest.mark.parametrize(
    ("marker", "scale", "match"),
    [
        ({"format": "int8_tensorwise", "convrot": True}, ROWS, "'a.weight'.*convrot"),
        ({"format": "int8_tensorwise", "params": {"convrot": True}}, ROWS, "'a.weight'.*convrot"),
        ({"format": "int8_blockwise", "group_size": 128}, ROWS, "'a.weight'.*int8_blockwise"),
        ({"format": "int8_tensorwise"}, ROWS[:3], "'a.weight_scale'"),
        ({"format": "int8_tensorwise"}, ROWS.reshape(4), "'a.weight_scale'"),
        ({"format": "int8_tensorwise"}, ROWS.astype(np.int32), "'a.weight_scale'"),
        ({"format": "int8_tensorwise"}, -ROWS, "'a.weight'.*scale"),
        ({"format": "int8_tensorwise", "orig_dtype": "torch.int4"}, ROWS, "torch.int4"),
        ({"format": 8}, ROWS, "'a.comfy_quant'"),
        ([1], ROWS, "'a.comfy_quant'"),
    ],
)
def test_what_is_refused(tmp_path, marker, scale, match):
    """What has no values here, or is damaged: an error that names it, and nothing is written."""
    path = theirs(tmp_path, marker, scale)
    with pytest.raises(ValueError, match=match):
        files.dequantize_file(path, tmp_path / "back.safetensors")
    if "convrot" in match or "blockwise" in match:  # there is nothing wrong with the file
        assert files.inspect_file(path).tensors[0].quantized is None
    assert [each.name for each in tmp_path.iterdir()] == ["theirs.safetensors"]
