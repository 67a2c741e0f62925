"""comfy-kitchen's plain functions, which run on a CPU: the bits of ComfyUI's int8_tensorwise.

The package is large, for its GPU kernels; without it tests/test_comfyui.py has the formula.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from zeropoint import files

from .. import checkpoints
from ..test_comfyui import edges, layers

torch = pytest.importorskip("torch")
eager = pytest.importorskip("comfy_kitchen.backends.eager.quantization", exc_type=ImportError)


@pytest.mark.parametrize("per_row", [False, True])
def test_the_bits_are_those_of_comfy_kitchen(tmp_path, note, per_row):
    """In float32: for halves it divides in their own precision."""
    source = checkpoints.diffusion(tmp_path / "model.safetensors", "float32", **edges())
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    files.quantize_checkpoint(source, out, format="comfyui", per_row=per_row)
    files.dequantize_file(out, back)
    weights, values, compared = checkpoints.read(source), checkpoints.read(back), 0
    function = eager.quantize_int8_rowwise if per_row else eager.quantize_int8_tensorwise
    for layer, parts in layers(out).items():
        codes, scale = function(torch.from_numpy(weights[f"{layer}.weight"].copy()))
        np.testing.assert_array_equal(parts["weight"], codes.numpy())
        np.testing.assert_array_equal(parts["weight_scale"], scale.numpy())
        theirs = eager.dequantize_int8_simple(codes, scale).numpy()
        np.testing.assert_array_equal(values[f"{layer}.weight"], theirs)
        compared += codes.numel()
    note(f"comfy-kitchen per_row={per_row}: {compared:,} codes and values, 0 differences")


@pytest.mark.parametrize("per_row", [False, True])
def test_its_layout_holds_what_we_write(tmp_path, per_row):
    """comfy-kitchen's own tensor class, built of our parts as ComfyUI builds it."""
    tensor = pytest.importorskip("comfy_kitchen.tensor", exc_type=ImportError)
    source = checkpoints.diffusion(tmp_path / "model.safetensors")
    out, back = tmp_path / "out.safetensors", tmp_path / "back.safetensors"
    files.quantize_checkpoint(source, out, format="comfyui", per_row=per_row)
    files.dequantize_file(out, back)
    values = checkpoints.read(back)
    for layer, parts in layers(out).items():
        codes, scale = (torch.from_numpy(parts[k].copy()) for k in ("weight", "weight_scale"))
        params = tensor.TensorWiseINT8Layout.Params(
            scale=scale, orig_dtype=torch.bfloat16, orig_shape=tuple(codes.shape)
        )
        theirs = tensor.TensorWiseINT8Layout.dequantize(codes, params)
        ours = values[f"{layer}.weight"]
        assert ours.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(ours.view(np.int16), theirs.view(torch.int16).numpy())
