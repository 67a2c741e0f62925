"""Small checkpoints, made on the spot: folders as transformers writes them, a diffusion model.

They are written with NumPy alone, and transformers loads them.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

WORDS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
LAYERS, HIDDEN, VOCABULARY, HEADS = 2, 128, 256, 4
EXPERTS = 4


def write(path: Path, tensors: Mapping[str, Array], metadata: dict[str, str] | None = None) -> Path:
    """A .safetensors file; NumPy's own writer lacks bfloat16."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    words = {dtype: word for word, dtype in WORDS.items()}
    at = 0
    for name, x in tensors.items():
        header[name] = {
            "dtype": words[x.dtype],
            "shape": list(x.shape),
            "data_offsets": [at, at + x.nbytes],
        }
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for x in tensors.values():
            file.write(np.ascontiguousarray(x).tobytes())
    return path


def read(path: Path) -> dict[str, Array]:
    """The tensors of a .safetensors file, or of all of a folder's."""
    if path.is_dir():
        found: dict[str, Array] = {}
        for each in sorted(path.glob("*.safetensors")):
            found |= read(each)
        return found
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            content,
            WORDS[one["dtype"]],
            math.prod(one["shape"]),
            8 + length + one["data_offsets"][0],
        ).reshape(one["shape"])
        for name, one in header.items()
    }


def metadata(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    found: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return found


def config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


class _Drawn:
    """Weights as a trained model's: normal, their range differing from row to row."""

    def __init__(self, dtype: str, seed: int) -> None:
        self.tensors: dict[str, Array] = {}
        self._dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        self._rng = np.random.default_rng(seed)

    def linear(self, name: str, *shape: int) -> None:
        rows = self._rng.uniform(0.01, 0.05, (shape[0], *(1,) * (len(shape) - 1)))
        self.tensors[f"{name}.weight"] = (self._rng.normal(0, 1, shape) * rows).astype(self._dtype)

    def vector(self, name: str, length: int, value: float = 1) -> None:
        self.tensors[name] = np.full(length, value, self._dtype)


def folder(path: Path, config: dict[str, Any], tensors: dict[str, Array], shards: int = 1) -> Path:
    """A folder with the files that transformers writes, and some that people add."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (path / "tokenizer.json").write_text('{"version": "1.0"}')
    (path / "README.md").write_text("a small model\n")
    if shards == 1:
        write(path / "model.safetensors", tensors, {"format": "pt"})
        return path
    names = list(tensors)
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[len(names) * i // shards : len(names) * (i + 1) // shards]
        write(path / file, {name: tensors[name] for name in part}, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {
        "metadata": {"total_size": sum(x.nbytes for x in tensors.values())},
        "weight_map": dict(sorted(weight_map.items())),
    }
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return path


def _decoder(dtype: str, architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "dtype": dtype,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2,
        "head_dim": HIDDEN // HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        **more,
    }


def _attention(drawn: _Drawn, layer: str) -> None:
    for name, rows in (("q", HIDDEN), ("k", HIDDEN // 2), ("v", HIDDEN // 2), ("o", HIDDEN)):
        drawn.linear(f"{layer}.self_attn.{name}_proj", rows, HIDDEN)
    for name in ("input_layernorm", "post_attention_layernorm"):
        drawn.vector(f"{layer}.{name}.weight", HIDDEN)


def llama(
    path: Path,
    dtype: str = "float32",
    *,
    shards: int = 1,
    intermediate: int = 2 * HIDDEN,
    tied: bool = False,
    seed: int = 0,
) -> Path:
    """A Llama of two layers; 128 divides all rows, but those of `down_proj` as `intermediate`."""
    drawn = _Drawn(dtype, seed)
    drawn.linear("model.embed_tokens", VOCABULARY, HIDDEN)
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        _attention(drawn, layer)
        drawn.linear(f"{layer}.mlp.gate_proj", intermediate, HIDDEN)
        drawn.linear(f"{layer}.mlp.up_proj", intermediate, HIDDEN)
        drawn.linear(f"{layer}.mlp.down_proj", HIDDEN, intermediate)
    drawn.vector("model.norm.weight", HIDDEN)
    if not tied:
        drawn.linear("lm_head", VOCABULARY, HIDDEN)
    more = {"intermediate_size": intermediate, "tie_word_embeddings": tied}
    about = _decoder(dtype, "LlamaForCausalLM", "llama", **more)
    return folder(path, about, drawn.tensors, shards)


def mixtral(
    path: Path, dtype: str = "bfloat16", *, shards: int = 1, intermediate: int = 2 * HIDDEN
) -> Path:
    """A mixture of experts with the names of Mixtral."""
    drawn = _Drawn(dtype, 0)
    drawn.linear("model.embed_tokens", VOCABULARY, HIDDEN)
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        _attention(drawn, layer)
        drawn.linear(f"{layer}.block_sparse_moe.gate", EXPERTS, HIDDEN)
        for j in range(EXPERTS):
            expert = f"{layer}.block_sparse_moe.experts.{j}"
            drawn.linear(f"{expert}.w1", intermediate, HIDDEN)
            drawn.linear(f"{expert}.w2", HIDDEN, intermediate)
            drawn.linear(f"{expert}.w3", intermediate, HIDDEN)
    drawn.vector("model.norm.weight", HIDDEN)
    drawn.linear("lm_head", VOCABULARY, HIDDEN)
    more = {
        "intermediate_size": intermediate,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": 2,
    }
    about = _decoder(dtype, "MixtralForCausalLM", "mixtral", **more)
    return folder(path, about, drawn.tensors, shards)


def qwen3_moe(path: Path, dtype: str = "bfloat16", *, shards: int = 1) -> Path:
    """A mixture of experts with the names of Qwen3-MoE."""
    drawn = _Drawn(dtype, 0)
    drawn.linear("model.embed_tokens", VOCABULARY, HIDDEN)
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        _attention(drawn, layer)
        for name in ("q_norm", "k_norm"):
            drawn.vector(f"{layer}.self_attn.{name}.weight", HIDDEN // HEADS)
        drawn.linear(f"{layer}.mlp.gate", EXPERTS, HIDDEN)
        for j in range(EXPERTS):
            expert = f"{layer}.mlp.experts.{j}"
            for name in ("gate_proj", "up_proj", "down_proj"):
                drawn.linear(f"{expert}.{name}", HIDDEN, HIDDEN)
    drawn.vector("model.norm.weight", HIDDEN)
    drawn.linear("lm_head", VOCABULARY, HIDDEN)
    more = {
        "intermediate_size": 2 * HIDDEN,
        "moe_intermediate_size": HIDDEN,
        "num_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "norm_topk_prob": True,
    }
    about = _decoder(dtype, "Qwen3MoeForCausalLM", "qwen3_moe", **more)
    return folder(path, about, drawn.tensors, shards)


def gpt2(path: Path, dtype: str = "float32") -> Path:
    """A GPT-2, whose Conv1D layers hold their weights transposed: (in, out)."""
    drawn = _Drawn(dtype, 0)
    drawn.linear("transformer.wte", VOCABULARY, HIDDEN)
    drawn.linear("transformer.wpe", 128, HIDDEN)
    for i in range(LAYERS):
        layer = f"transformer.h.{i}"
        for name, rows, columns in (
            ("attn.c_attn", HIDDEN, 3 * HIDDEN),
            ("attn.c_proj", HIDDEN, HIDDEN),
            ("mlp.c_fc", HIDDEN, 4 * HIDDEN),
            ("mlp.c_proj", 4 * HIDDEN, HIDDEN),
        ):
            drawn.linear(f"{layer}.{name}", rows, columns)
            drawn.vector(f"{layer}.{name}.bias", columns, 0)
        for norm in ("ln_1", "ln_2"):
            drawn.vector(f"{layer}.{norm}.weight", HIDDEN)
            drawn.vector(f"{layer}.{norm}.bias", HIDDEN, 0)
    drawn.vector("transformer.ln_f.weight", HIDDEN)
    drawn.vector("transformer.ln_f.bias", HIDDEN, 0)
    about = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "dtype": dtype,
        "n_embd": HIDDEN,
        "n_head": HEADS,
        "n_layer": LAYERS,
        "n_positions": 128,
        "vocab_size": VOCABULARY,
    }
    return folder(path, about, drawn.tensors)


def cached(path: Path, model: Path) -> Path:
    """The folder `model` as it lies in a Hugging Face cache: links to blobs."""
    blobs, snapshot = path / "blobs", path / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, file in enumerate(sorted(model.iterdir())):
        (blobs / f"blob{i}").write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(os.path.join("..", "..", "blobs", f"blob{i}"))
    return snapshot


def diffusion(path: Path, dtype: str = "bfloat16", **tensors: Array) -> Path:
    """One file with tensors as a diffusion model's: linear layers, convolutions, norms."""
    drawn = _Drawn(dtype, 0)
    prefix = "model.diffusion_model"
    drawn.linear(f"{prefix}.img_in", 96, 16)
    drawn.vector(f"{prefix}.img_in.bias", 96, 0)
    for i in range(2):
        block = f"{prefix}.blocks.{i}"
        drawn.linear(f"{block}.attn.qkv", 288, 96)
        drawn.vector(f"{block}.attn.qkv.bias", 288, 0)
        drawn.linear(f"{block}.mlp.0", 200, 96)
        drawn.linear(f"{block}.mlp.2", 96, 200)
        drawn.vector(f"{block}.norm.weight", 96)
    drawn.linear(f"{prefix}.out.conv", 8, 96, 3, 3)
    return write(path, drawn.tensors | tensors, {"modelspec.title": "small"})
