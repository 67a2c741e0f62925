"""Checkpoints in the formats of engines, by formulas; tests/parity asks the engines themselves."""

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _cli, files

from . import checkpoints

SCHEMES = ("W8A8", "W8A16")
DTYPES = ("float32", "bfloat16", "float16")
GROUP = 128
EPSILON = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}  # torch.finfo's
CT = "compressed-tensors"
Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"


def fingerprint(path: Path) -> dict[str, str]:
    """What a folder holds: names, and digests of contents."""
    return {
        str(each.relative_to(path)): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }


def expected(x, scheme, divisor=127):
    """Codes and scales by the formula: in float32, for the scale as it is stored."""
    wide = x.astype(np.float32)
    if scheme == "W8A16":
        wide = wide.reshape(len(x), -1, GROUP)
    largest = np.abs(wide).max(axis=-1, keepdims=True)
    scale = (largest / np.float32(divisor)).astype(x.dtype)
    scale[scale == 0] = EPSILON[x.dtype.name]
    codes = np.clip(np.rint(wide / scale.astype(np.float32)), -128, 127).astype(np.int8)
    return codes.reshape(x.shape), scale.reshape(len(x), -1)


def parts(codes, scale, scheme, name):
    """The tensors of a layer as compressed-tensors stores them."""
    if scheme == "W8A8":
        return {f"{name}.weight": codes, f"{name}.weight_scale": scale}
    return {
        f"{name}.weight_packed": (codes.view(np.uint8) ^ 0x80).view("<i4"),
        f"{name}.weight_scale": scale,
        f"{name}.weight_shape": np.array(codes.shape, "<i8"),
    }


def same(found, wanted):
    """The same names, dtypes, shapes and bits."""
    assert found.keys() == wanted.keys()
    for name, x in wanted.items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape), name
        assert found[name].tobytes() == x.tobytes(), name


def linear(name):
    """Whether compressed-tensors has the tensor `name` of our models as a Linear to quantize."""
    kept = "embed_tokens", "lm_head", "norm", ".gate."
    return name.endswith(".weight") and not any(each in name for each in kept)


def named(ignored):
    """What is ignored by its name, and not by a pattern."""
    return [each for each in ignored if not each.startswith("re:")]


def ignores(out, layer):
    """Whether engines ignore a layer of that name; they match patterns from the start."""
    return any(
        re.match(each[3:], layer) if each.startswith("re:") else each == layer
        for each in checkpoints.config(out)["quantization_config"]["ignore"]
    )


def model_of(tmp_path, *layers, width=GROUP, **more):
    """A folder with linear layers of these names, and one more, whose weights are all 1."""
    tensors = {f"{name}.weight": np.ones((GROUP, width), np.float32) for name in layers}
    tensors["model.layers.0.fc.weight"] = np.ones((GROUP, GROUP), np.float32)
    return checkpoints.folder(tmp_path / "model", {"dtype": "float32"}, tensors | more)


def kept(summary):
    """Why tensors were kept, by the names of their layers."""
    return {one.name.removesuffix(".weight"): one.kept for one in summary.tensors}


# ---------------------------------------------------------------------------------------------
# What is written


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [checkpoints.llama, checkpoints.mixtral, checkpoints.qwen3_moe])
def test_compressed_tensors(tmp_path, make, dtype, scheme):
    model, out = make(tmp_path / "model", dtype, shards=3), tmp_path / "out"
    before = fingerprint(model)
    summary = files.quantize_checkpoint(model, out, format=CT, scheme=scheme)
    wanted = {}
    for name, x in checkpoints.read(model).items():
        if linear(name):
            wanted |= parts(*expected(x, scheme), scheme, name.removesuffix(".weight"))
        else:
            wanted[name] = x
    same(checkpoints.read(out), wanted)
    assert fingerprint(model) == before
    assert {path.name for path in out.iterdir()} == {path.name for path in model.iterdir()}
    for name in ("README.md", "tokenizer.json"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in wanted.values())
    for name, shard in index["weight_map"].items():
        assert name in checkpoints.read(out / shard)
    assert index["weight_map"].keys() == wanted.keys()
    quantized = {one.name for one in summary.tensors if one.codes is not None}
    assert quantized == {name for name in checkpoints.read(model) if linear(name)}
    assert all(one.kept for one in summary.tensors if one.codes is None)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_configuration(tmp_path, scheme):
    """Everything as it was, and what formats.md says of compressed-tensors."""
    model, out = checkpoints.mixtral(tmp_path / "model"), tmp_path / "out"
    files.quantize_checkpoint(model, out, format=CT, scheme=scheme)
    config = checkpoints.config(out)
    about = config.pop("quantization_config")
    assert config == checkpoints.config(model)
    assert about["quant_method"] == "compressed-tensors"
    assert about["format"] == {"W8A8": "int-quantized", "W8A16": "pack-quantized"}[scheme]
    assert about["quantization_status"] == "compressed"
    # vLLM makes the routers linear layers too, and would look for their scales
    gates = [f"model.layers.{i}.block_sparse_moe.gate" for i in range(2)]
    assert about["ignore"][0] == "lm_head"
    assert sorted(named(about["ignore"][1:])) == ["model.embed_tokens", *gates]
    (group,) = about["config_groups"].values()
    assert group["targets"] == ["Linear"]
    of_weights = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False}
    of_weights |= {
        "W8A8": {"strategy": "channel"},
        "W8A16": {"strategy": "group", "group_size": GROUP},
    }[scheme]
    assert group["weights"].items() >= of_weights.items()
    of_inputs = {"num_bits": 8, "type": "int", "symmetric": True}
    of_inputs |= {"strategy": "token", "dynamic": True}
    if scheme == "W8A8":
        assert group["input_activations"].items() >= of_inputs.items()
    else:
        assert group["input_activations"] is None


def test_rows_that_128_does_not_divide(tmp_path):
    """Left alone, ignored by the engine, and the summary says why."""
    model, out = checkpoints.llama(tmp_path / "model", intermediate=192), tmp_path / "out"
    summary = files.quantize_checkpoint(model, out, format=CT, scheme="W8A16")
    kept = {one.name: one.kept for one in summary.tensors}
    ignored = checkpoints.config(out)["quantization_config"]["ignore"]
    for i in range(2):
        name = DOWN.format(i)
        assert "128" in kept[f"{name}.weight"]
        assert "192" in kept[f"{name}.weight"]
        assert name in ignored
        assert f"{name}.weight" in checkpoints.read(out)
    assert kept[f"{Q}.weight"] is None


def test_tied_embeddings(tmp_path):
    """There is no lm_head to quantize, and an engine that makes one must ignore it."""
    model, out = checkpoints.llama(tmp_path / "model", tied=True), tmp_path / "out"
    files.quantize_checkpoint(model, out, format=CT, scheme="W8A8")
    ignored = checkpoints.config(out)["quantization_config"]["ignore"]
    assert named(ignored) == ["lm_head", "model.embed_tokens"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_divisor(tmp_path, dtype, scheme):
    model, out = checkpoints.llama(tmp_path / "model", dtype), tmp_path / "out"
    files.quantize_checkpoint(model, out, format=CT, scheme=scheme, scale_divisor=127.5)
    codes, scale = expected(checkpoints.read(model)[f"{Q}.weight"], scheme, 127.5)
    found = checkpoints.read(out)
    same({name: x for name, x in found.items() if Q in name}, parts(codes, scale, scheme, Q))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_zeros(tmp_path, dtype, scheme):
    model = checkpoints.llama(tmp_path / "model", dtype)
    tensors = checkpoints.read(model)
    x = tensors[f"{Q}.weight"].copy()
    x[1], x[2, :GROUP] = 0, -0.0
    checkpoints.write(model / "model.safetensors", tensors | {f"{Q}.weight": x})
    out = tmp_path / "out"
    files.quantize_checkpoint(model, out, format=CT, scheme=scheme)
    found = {name: x for name, x in checkpoints.read(out).items() if Q in name}
    same(found, parts(*expected(x, scheme), scheme, Q))
    assert found[f"{Q}.weight_scale"][1, 0] == EPSILON[dtype]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [*DTYPES, "float64"])
def test_the_largest_values(tmp_path, dtype, scheme):
    """The bound is Inf if a value is Inf in the model's dtype, and only then."""
    real = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    most = ml_dtypes.finfo(real).max
    rows = {f"x{i}.weight": np.full((2, GROUP), most / 2 ** (i / 8), real) for i in range(10)}
    model, out = checkpoints.folder(tmp_path / "model", {}, rows), tmp_path / "out"
    summary = files.quantize_checkpoint(model, out, format=CT, scheme=scheme)
    again = files.dequantize_file(out, tmp_path / "back")
    values = checkpoints.read(tmp_path / "back")
    infinite = [bool(np.isinf(x.astype(np.float64)).any()) for x in values.values()]
    assert [one.error_bound == np.inf for one in again.tensors] == infinite
    assert [one.error_bound == np.inf for one in summary.tensors] == infinite
    assert any(infinite)
    assert not all(infinite)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("divisor", [127, 127.5, 128])
def test_the_error_bound(tmp_path, divisor, dtype, scheme):
    """It holds where scales are subnormal in the model's dtype, and clip a little."""
    rng = np.random.default_rng(0)
    real = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    least = float(ml_dtypes.finfo(real).smallest_subnormal)
    sizes = least * 2.0 ** np.linspace(4, 16, 60)
    x = (rng.normal(0, 1, (60, GROUP)) * sizes[:, None]).astype(real)
    tensors = {f"x{i}.weight": row[None].repeat(8, axis=0) for i, row in enumerate(x)}
    model, out = checkpoints.folder(tmp_path / "model", {}, tensors), tmp_path / "out"
    given = {"scheme": scheme, "scale_divisor": divisor}
    summary = files.quantize_checkpoint(model, out, format=CT, **given)
    loaded = files.load(out)
    for one in summary.tensors:
        codes, params = loaded[one.name]
        values = codes.astype(np.float64) * params.scale.astype(np.float64).reshape(-1, 1)
        error = np.abs(values - tensors[one.name].astype(np.float64)).max()
        assert error <= one.error_bound * (1 + 1e-6)


def test_a_part_of_the_experts(tmp_path):
    """transformers would load such a model without a word, and draw the others at random."""
    model = checkpoints.mixtral(tmp_path / "odd", intermediate=192)
    message = refused(tmp_path, model, r"rows that 128 does not divide", scheme="W8A16")
    assert "experts.0.w1.weight' would be quantized" in message
    assert "experts.0.w2.weight' not" in message
    refused(tmp_path, model, "no engine loads both", ignore=["w1"])
    summary = files.quantize_checkpoint(model, tmp_path / "out", format=CT, ignore=["*.experts.*"])
    assert {one.kept is None for one in summary.tensors if "q_proj" in one.name} == {True}
    files.quantize_checkpoint(model, tmp_path / "all", format=CT, scheme="W8A8")


def test_ignore(tmp_path):
    """A whole name, the last word of a layer's, or a pattern; lm_head is no more among them."""
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "out"
    patterns = ["*.0.mlp.*", "v_proj", f"{Q}.weight"]
    summary = files.quantize_checkpoint(model, out, format=CT, ignore=patterns)
    kept = {one.name.removesuffix(".weight") for one in summary.tensors if one.kept}
    expected = {f"model.layers.0.mlp.{name}_proj" for name in ("down", "gate", "up")}
    expected |= {f"model.layers.{i}.self_attn.v_proj" for i in range(2)} | {Q}
    assert {name for name in kept if name.endswith("_proj")} == expected
    assert "lm_head" not in kept
    ignored = checkpoints.config(out)["quantization_config"]["ignore"]
    assert set(named(ignored)) - {"lm_head", "model.embed_tokens"} == expected


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ("model.layers.0.self_attn.q_proj", None),
        ("model.layers.0.mlp.shared_expert.gate_proj", None),
        ("model.layers.0.mlp.experts.7.w1", None),
        ("time_embed.linear_1", None),
        ("embed_out", "output head"),  # of GPT-NeoX
        ("model.embed_tokens", "embedding"),
        ("transformer.wte", "embedding"),
        ("model.vision.embed_positions.3", "embedding"),
        ("encoder.rel_pos_emb", "embedding"),
        ("mask_decoder.iou_token", "embedding"),
        ("shared", "embedding"),
        ("model.layers.0.mlp.gate", "router"),
        ("model.layers.0.mlp.shared_expert_gate", "router"),
        ("transformer.blocks.0.ffn.router.layer", "router"),
        ("model.layers.0.feed_forward.router", "router"),
    ],
)
def test_layers_by_their_names(tmp_path, layer, what):
    """tests/deep/test_linear_layers.py asks transformers' models."""
    x = np.ones((GROUP, GROUP), np.float32)
    tensors = {f"{layer}.weight": x, "a.weight": x}
    path = checkpoints.write(tmp_path / "a.safetensors", tensors)
    out = tmp_path / "b.safetensors"
    first, _ = files.quantize_checkpoint(path, out, format="comfyui").tensors
    assert (first.kept is None) if what is None else what in first.kept


def test_include(tmp_path):
    """Only these; an embedding too, where it is asked for."""
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "out"
    include = ["*.1.mlp.*", "model.embed_tokens.weight"]
    summary = files.quantize_checkpoint(model, out, format="comfyui", include=include)
    chosen = {one.name for one in summary.tensors if not one.kept}
    expected = {f"model.layers.1.mlp.{name}_proj.weight" for name in ("down", "gate", "up")}
    assert chosen == expected | {"model.embed_tokens.weight"}


# ---------------------------------------------------------------------------------------------
# Layers that engines do not have as linear, or under other names


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        *((name, "output head") for name in ("embed_out", "transformer.output_layer", "output")),
        *((name, "output head") for name in ("proj_out", "generator_lm_head", "decoder")),
        *((name, "output head") for name in ("lm_head.decoder", "cls.predictions.decoder")),
        *((name, "embedding") for name in ("transformer.w", "attn.rel_pos_emb", "pos_emb", "emb")),
        *((name, "embedding") for name in ("segment_emb", "a.bias_values", "audio_bos_eos_token")),
        *((name, "embedding") for name in ("embed_positions.pe_k", "embed_in", "shared", "wte")),
        *((name, "router") for name in ("mlp.gate", "mlp.router", "mlp.router.layer", "mlp.wg")),
        *((name, "norm") for name in ("final_norm", "h.0.ln_1")),
        *((f"{name}.fc", "tower") for name in ("visual", "model.vision_tower", "vision_model.a")),
        *((f"{name}.fc", "tower") for name in ("multi_modal_projector", "model.audio_tower")),
    ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_kinds_of_layers(tmp_path, layer, reason, scheme):
    out = tmp_path / "out"
    summary = files.quantize_checkpoint(model_of(tmp_path, layer), out, scheme=scheme)
    assert reason in kept(summary)[layer]
    assert kept(summary)["model.layers.0.fc"] is None
    assert ignores(out, layer)
    assert not ignores(out, "model.layers.0.fc")


@pytest.mark.parametrize(
    "layer",
    [
        *("model.proj_out", "attention.output", "lm_head.dense", "head.fc", "encoder.decoder.fc"),
        *("x.w1", "x.gate_proj", "visualizer.fc", "x.embedder.fc", "mlp.gates"),
    ],
)
def test_linear_layers_with_names_like_theirs(tmp_path, layer):
    out = tmp_path / "out"
    summary = files.quantize_checkpoint(model_of(tmp_path, layer), out)
    assert kept(summary)[layer] is None
    assert not ignores(out, layer)


TIED = (
    *("lm_head", "proj_out", "cls.predictions.decoder", "predictions.decoder", "lm_head.decoder"),
    *("generator_lm_head", "language_model.lm_head", "decoder", "vocab_projector"),
)


def test_heads_that_are_in_no_file(tmp_path):
    """They are tied to embeddings, and engines make linear layers of them."""
    model, out = model_of(tmp_path), tmp_path / "out"
    files.quantize_checkpoint(model, out, ignore=())
    assert all(ignores(out, head) for head in TIED)


def test_an_output_head_that_is_wanted(tmp_path):
    """Engines have another name for it."""
    model, out = model_of(tmp_path, "embed_out"), tmp_path / "out"
    assert kept(files.quantize_checkpoint(model, out, ignore=()))["embed_out"] is None
    assert not any(ignores(out, head) for head in (*TIED, "embed_out"))


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        ("visual.blocks.0.mlp.down_proj", "model.visual.blocks.0.mlp.down_proj"),
        ("visual.blocks.1.fc", "vision_tower.layers.1.fc"),
        ("layers.11.mlp.down_proj", "model.layers.11.mlp.down_proj"),
        ("model.layers.3.block_sparse_moe.gate", "model.layers.3.mlp.router"),
        ("a.b+c", "model.a.b+c"),
        ("re:a", "re:a"),
        ("re:a", "model.re:a"),
    ],
)
def test_other_names_of_the_engine(tmp_path, stored, loaded):
    """Rows of 100 are left alone, and a layer that differs in a number within a word is not."""
    model, out = model_of(tmp_path, stored, width=100), tmp_path / "out"
    tensors = checkpoints.read(model)
    other = np.ones((GROUP, GROUP), np.float32)
    tensors |= {"layers.11.mlp.down_proj2.weight": other, "layers.1.mlp.down.weight": other}
    checkpoints.write(model / "model.safetensors", tensors)
    files.quantize_checkpoint(model, out, scheme="W8A16")
    assert ignores(out, stored)
    assert ignores(out, loaded)
    assert "re:a" not in checkpoints.config(out)["quantization_config"]["ignore"]
    for name in ("layers.11.mlp.down_proj2", "model.layers.1.mlp.down", "axb+c"):
        assert not ignores(out, name)


def test_a_layer_of_many_is_ignored(tmp_path):
    """Others that are called alike have codes, so it is named with its number."""
    model, out = model_of(tmp_path, *(f"layers.{i}.fc" for i in range(3))), tmp_path / "out"
    files.quantize_checkpoint(model, out, ignore=["layers.1.fc"])
    assert [ignores(out, f"model.layers.{i}.fc") for i in range(3)] == [False, True, False]
    assert [ignores(out, f"layers.{i}.fc") for i in range(3)] == [False, True, False]


def test_layers_that_are_called_alike_share_a_pattern(tmp_path):
    model, out = model_of(tmp_path, *(f"layers.{i}.fc1" for i in range(50))), tmp_path / "out"
    files.quantize_checkpoint(model, out, ignore=["fc1"])
    ignored = checkpoints.config(out)["quantization_config"]["ignore"]
    assert len(ignored) - len(named(ignored)) == 2  # with that of heads
    assert ignores(out, "model.layers.7.fc1")


def test_towers_and_embeddings_that_are_asked_for(tmp_path):
    """A tower is quantized, an embedding is refused: its engine reads no codes of it."""
    model, out = model_of(tmp_path, "visual.fc", "model.embed_tokens"), tmp_path / "out"
    summary = files.quantize_checkpoint(model, out, include=["visual.fc"])
    assert kept(summary)["visual.fc"] is None
    assert not ignores(out, "model.visual.fc")
    message = refused(tmp_path, model, "model.embed_tokens.weight", include=["*.embed_tokens"])
    assert "compressed-tensors" in message
    assert "leave it out" in message


@pytest.mark.parametrize("given", [{"format": CT}, {"format": "comfyui"}])
def test_the_output_of_multihead_attention(tmp_path, given):
    """torch takes its weight as numbers, whatever module it is in."""
    projections = {"a.attention.in_proj_weight": np.ones((3 * GROUP, GROUP), np.float32)}
    model = model_of(tmp_path, "a.attention.out_proj", "b.attention.out_proj", **projections)
    why = kept(files.quantize_checkpoint(model, tmp_path / "out", **given))
    assert "MultiheadAttention" in why["a.attention.out_proj"]
    assert why["b.attention.out_proj"] is None


def test_experts_in_one_tensor(tmp_path):
    name = "model.layers.0.mlp.experts.gate_up_proj"
    model = model_of(tmp_path, **{name: np.ones((4, GROUP, GROUP), np.float32)})
    assert "experts' weights in one" in kept(files.quantize_checkpoint(model, tmp_path / "o"))[name]


# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [checkpoints.llama, checkpoints.mixtral])
def test_shards_and_links_change_nothing(tmp_path, make):
    """One file, many, or a cache's links to blobs: the same tensors."""
    whole = make(tmp_path / "whole")
    cut = make(tmp_path / "cut", shards=4)
    sources = whole, cut, checkpoints.cached(tmp_path / "cache", cut)
    found = []
    for i, source in enumerate(sources):
        out = tmp_path / f"out{i}"
        files.quantize_checkpoint(source, out, format=CT, scheme="W8A16")
        assert not any(path.is_symlink() for path in out.rglob("*"))
        found.append(checkpoints.read(out))
    same(found[1], found[0])
    same(found[2], found[0])


@pytest.mark.parametrize("given", [{"format": CT, "scheme": "W8A8"}, {"format": "comfyui"}])
def test_progress_statistics_and_the_summary(tmp_path, given):
    model, out = checkpoints.llama(tmp_path / "model", shards=2), tmp_path / "out"
    calls = []
    summary = files.quantize_checkpoint(
        model, out, stats=True, progress=lambda done, total: calls.append((done, total)), **given
    )
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == calls[-1][1]
    assert len({total for _, total in calls}) == 1
    json.dumps(summary.to_dict())
    weights, loaded = checkpoints.read(model), files.load(out)
    for one in summary.tensors:
        if one.codes is None:
            assert one.sqnr_db is None
            continue
        x = weights[one.name].astype(np.float64)
        codes, params = loaded[one.name]
        error = params.dequantize(codes, dtype="float64") - x
        assert np.abs(error).max() <= one.error_bound * (1 + 1e-6)
        sqnr = 10 * np.log10(np.square(x).sum() / np.square(error).sum())
        assert one.sqnr_db == pytest.approx(sqnr, rel=1e-6)


# ---------------------------------------------------------------------------------------------
# Back again


@pytest.mark.parametrize("given", [{"scheme": "W8A8"}, {"scheme": "W8A16"}, {"format": "comfyui"}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_back_again(tmp_path, dtype, given):
    model, out = checkpoints.llama(tmp_path / "model", dtype, shards=2), tmp_path / "out"
    files.quantize_checkpoint(model, out, **{"format": CT} | given)
    values = tmp_path / "values"
    files.dequantize_file(out, values)
    before, after = checkpoints.read(model), checkpoints.read(values)
    assert {name: (x.dtype, x.shape) for name, x in before.items()} == {
        name: (x.dtype, x.shape) for name, x in after.items()
    }
    assert checkpoints.config(values) == checkpoints.config(model)
    loaded = files.load(out)
    assert loaded.keys() == {name for name in before if linear(name)}
    for name, x in before.items():
        if not linear(name):
            assert after[name].tobytes() == x.tobytes()
            assert files.read_tensor(out, name).tobytes() == x.tobytes()
            continue
        codes, params = loaded[name]
        assert codes.dtype == np.int8
        assert files.read_tensor(out, name).tobytes() == codes.tobytes()
        assert files.read_params(out, name) == params
        assert after[name].tobytes() == zp.dequantize(codes, params, dtype=x.dtype).tobytes()
    other = tmp_path / "other"
    files.dequantize_file(out, other, dtype="float32")
    assert checkpoints.read(other)[f"{Q}.weight"].dtype == np.float32
    info = files.inspect_file(out)
    assert info.format == "folder"
    assert sum(one.quantized is not None for one in info.tensors) == len(loaded)


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_a_configuration_of_a_part_goes_too(tmp_path, key):
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "out"
    files.quantize_checkpoint(model, out, format=CT)
    config = checkpoints.config(model)
    about = checkpoints.config(out)["quantization_config"]
    (out / "config.json").write_text(json.dumps(config | {"text_config": {"a": 1, key: about}}))
    files.dequantize_file(out, tmp_path / "back")
    assert checkpoints.config(tmp_path / "back") == config | {"text_config": {"a": 1}}


def test_scales_of_inputs(tmp_path):
    """Static ones are of no use without codes."""
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "out"
    files.quantize_checkpoint(model, out)
    tensors = checkpoints.read(out)
    inputs = {
        f"{Q}.input_scale": np.ones(1, np.float32),
        f"{Q}.input_zero_point": np.zeros(1, "i1"),
    }
    checkpoints.write(out / "model.safetensors", tensors | inputs)
    described = {one.name: one.quantized for one in files.inspect_file(out).tensors}
    assert {*inputs} <= {*described[f"{Q}.weight"]["parts"]}
    values = tmp_path / "values"
    files.dequantize_file(out, values)
    assert checkpoints.read(values).keys() == checkpoints.read(model).keys()


def test_inspect_names_the_format(tmp_path):
    model = checkpoints.llama(tmp_path / "model")
    for scheme in SCHEMES:
        out = tmp_path / scheme
        files.quantize_checkpoint(model, out, format=CT, scheme=scheme)
        described = [one.quantized for one in files.inspect_file(out).tensors if one.quantized]
        form = {"W8A8": "int-quantized", "W8A16": "pack-quantized"}[scheme]
        assert {one["format"] for one in described} == {f"{CT} {form}"}
        assert all(one["params"]["dtype"] == "int8" for one in described)


def test_the_command(tmp_path, capsys):
    model = checkpoints.llama(tmp_path / "model", shards=2)
    out, back = tmp_path / "out", tmp_path / "back"
    arguments = [
        "--format",
        CT,
        "--scheme",
        "W8A16",
        "--json",
        "--ignore",
        "*.0.mlp.*",
        "--ignore",
        "lm_head",
    ]
    assert _cli.main(["quantize", str(model), "-o", str(out), *arguments]) == 0
    summary = json.loads(capsys.readouterr().out)
    kept = {one["name"] for one in summary["tensors"] if one["kept"]}
    assert "model.layers.0.mlp.up_proj.weight" in kept
    assert "lm_head.weight" in kept
    assert _cli.main(["inspect", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{Q}.weight" in printed
    assert CT in printed
    assert _cli.main(["dequantize", str(out), "-o", str(back)]) == 0
    assert checkpoints.read(back).keys() == checkpoints.read(model).keys()
    divided = tmp_path / "divided"
    arguments = ["--format", CT, "--scheme", "W8A8", "--scale-divisor", "127.5"]
    assert _cli.main(["quantize", str(model), "-o", str(divided), *arguments]) == 0
    codes, _ = expected(checkpoints.read(model)[f"{Q}.weight"], "W8A8", 127.5)
    assert checkpoints.read(divided)[f"{Q}.weight"].tobytes() == codes.tobytes()
    image = checkpoints.diffusion(tmp_path / "image.safetensors")
    small = tmp_path / "small.safetensors"
    arguments = ["--format", "comfyui", "--per-row"]
    assert _cli.main(["quantize", str(image), "-o", str(small), *arguments]) == 0
    assert "model.diffusion_model.img_in.comfy_quant" in checkpoints.read(small)


# ---------------------------------------------------------------------------------------------
# Bad input: a clear error, the source as it was, no target


def refused(tmp_path, model, match, error=ValueError, out=None, **given):
    """Nothing is written: not the target, and nothing beside it."""
    out = tmp_path / "out" if out is None else out
    before, entries = fingerprint(tmp_path), set(tmp_path.rglob("*"))
    with pytest.raises(error, match=match) as caught:
        files.quantize_checkpoint(model, out, **{"format": CT} | given)
    assert fingerprint(tmp_path) == before
    assert set(tmp_path.rglob("*")) == entries
    return str(caught.value)


def without(model, name):
    (model / name).unlink()
    return model


def test_a_folder_without_weights(tmp_path):
    model = without(checkpoints.llama(tmp_path / "model"), "model.safetensors")
    refused(tmp_path, model, f"{re.escape(str(model))}.*safetensors")
    (model / "pytorch_model.bin").write_bytes(b"weights")
    refused(tmp_path, model, r"pytorch_model\.bin")


@pytest.mark.parametrize("text", ["", "{", "[]", "nonsense", '{"a": 1} 2', "\xff"])
def test_a_configuration_that_is_no_json(tmp_path, text):
    model = checkpoints.llama(tmp_path / "model")
    (model / "config.json").write_bytes(text.encode("latin-1"))
    refused(tmp_path, model, r"config\.json")


def test_a_folder_without_configuration(tmp_path):
    """compressed-tensors is nothing without it."""
    model = without(checkpoints.llama(tmp_path / "model"), "config.json")
    refused(tmp_path, model, r"config\.json")


def test_nothing_is_left(tmp_path):
    model = checkpoints.llama(tmp_path / "model")
    refused(tmp_path, model, "nothing is left to quantize .*; see include and ignore", ignore="*")


def test_what_is_no_model_of_ours(tmp_path):
    """It is said what a tensor is."""
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "out"
    with pytest.raises(
        ValueError, match=r"no quantized tensor \('model.embed_tokens.weight' of F32"
    ):
        files.dequantize_file(model, out)
    with pytest.raises(ValueError, match=f"'{Q}.weight' of F32 is not quantized; read_tensor"):
        files.read_params(model, f"{Q}.weight")
    with pytest.raises(ValueError, match=f"no tensor 'q_proj'.*{Q}"):
        files.read_params(model, "q_proj")
    codes = np.zeros((4, 4), np.int32)
    checkpoints.write(model / "model.safetensors", {"a.qweight": codes})
    for function in (files.load, lambda path: files.dequantize_file(path, out)):
        with pytest.raises(ValueError, match="'a.qweight' of I32 is codes of GPTQ or AWQ; these"):
            function(model)
    assert not out.exists()


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("gptq", {"bits": 4}),
        ("awq", {"bits": 4}),
        ("bitsandbytes", {"load_in_8bit": True}),
        ("fp8", {"weight_block_size": [128, 128]}),
        ("compressed-tensors", {"format": "pack-quantized"}),
    ],
)
def test_a_configuration_of_a_quantized_model(tmp_path, method, more):
    model = checkpoints.llama(tmp_path / "model")
    config = checkpoints.config(model) | {"quantization_config": {"quant_method": method} | more}
    (model / "config.json").write_text(json.dumps(config))
    refused(tmp_path, model, f"quantized already.*{method}")
    about = config.pop("quantization_config")
    for part in ({"text_config": {"quantization_config": about}}, {"compression_config": about}):
        (model / "config.json").write_text(json.dumps(config | part))
        refused(tmp_path, model, f"quantized already.*{method}")


@pytest.mark.parametrize("given", [{"scheme": "W8A8"}, {"scheme": "W8A16"}, {"format": "comfyui"}])
def test_what_we_quantized_ourselves(tmp_path, given):
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "quantized"
    files.quantize_checkpoint(model, out, **{"format": CT} | given)
    refused(tmp_path, out, "quantized already.*" + given.get("format", CT))
    refused(tmp_path, out, "quantized already", format="comfyui")


def test_fp8(tmp_path):
    model = checkpoints.llama(tmp_path / "model", "bfloat16")
    tensors = checkpoints.read(model)
    x = tensors[f"{Q}.weight"].astype(ml_dtypes.float8_e4m3fn)
    checkpoints.write(model / "model.safetensors", tensors | {f"{Q}.weight": x})
    refused(tmp_path, model, f"{re.escape(Q)}.*F8_E4M3")
    refused(tmp_path, model, f"{re.escape(Q)}.*F8_E4M3", format="comfyui")


def test_transposed_layers(tmp_path):
    """GPT-2's weights lie (in, out): one scale a row would be one an input."""
    model = checkpoints.gpt2(tmp_path / "model")
    message = refused(tmp_path, model, "Conv1D")
    assert "transformer.h.0.attn.c_attn.weight" in message
    config = checkpoints.config(model)
    del config["model_type"]  # the biases tell it too
    (model / "config.json").write_text(json.dumps(config))
    refused(tmp_path, model, "Conv1D")
    name = "transformer.h.0.attn.c_attn.weight"
    files.quantize_checkpoint(model, tmp_path / "out", format=CT, scheme="W8A8", include=[name])
    codes, _ = expected(checkpoints.read(model)[name], "W8A8")
    assert checkpoints.read(tmp_path / "out")[name].tobytes() == codes.tobytes()


@pytest.mark.parametrize("given", [{"scheme": "W8A8"}, {"scheme": "W8A16"}, {"format": "comfyui"}])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(tmp_path, value, given):
    model = checkpoints.llama(tmp_path / "model", shards=3)
    name = f"{DOWN.format(1)}.weight"
    index = json.loads((model / "model.safetensors.index.json").read_text())
    shard = model / index["weight_map"][name]
    tensors = checkpoints.read(shard)
    x = tensors[name].copy()
    x[3, 100] = x[7, 1] = value
    checkpoints.write(shard, tensors | {name: x})
    message = refused(tmp_path, model, "2 NaN or Inf.*; ignore the tensor, or put", **given)
    assert repr(name) in message
    assert "(3, 100)" in message


@pytest.mark.parametrize("given", [{"scheme": "W8A8"}, {"scheme": "W8A16"}, {"format": "comfyui"}])
def test_an_unexpected_rank(tmp_path, given):
    """Kept; refused where it is named."""
    model = checkpoints.llama(tmp_path / "model")
    tensors = checkpoints.read(model)
    more = {"a.weight": np.ones((4, 128, 128), np.float32), "b.weight": np.ones(128, np.float32)}
    checkpoints.write(model / "model.safetensors", tensors | more)
    out = tmp_path / "fine"
    summary = files.quantize_checkpoint(model, out, **{"format": CT} | given)
    kept = {one.name: one.kept for one in summary.tensors}
    assert "3 axes" in kept["a.weight"]
    assert "1 axis" in kept["b.weight"]
    refused(tmp_path, model, r"'a\.weight'.*3 axes", include=["a.weight", f"{Q}*"], **given)


@pytest.mark.parametrize("inside", ["", "sub"])
def test_a_target_inside_the_source(tmp_path, inside):
    model = checkpoints.llama(tmp_path / "model")
    refused(tmp_path, model, re.escape(str(model)), out=model / inside if inside else model)
    link = tmp_path / "link"
    link.symlink_to(model)
    refused(tmp_path, model, "source|inside", out=link / inside if inside else link)


def test_a_source_inside_the_target(tmp_path):
    model = checkpoints.llama(tmp_path / "a" / "model")
    refused(tmp_path, model, "source|inside", out=tmp_path / "a")


def test_a_target_of_other_things(tmp_path):
    """A folder that is no checkpoint is not replaced."""
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="thesis"):
        files.quantize_checkpoint(model, out, format=CT, scheme="W8A8")
    assert (out / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"format": "gptq"}, ValueError, "format.*'gptq'.*compressed-tensors"),
        ({"format": 8}, (TypeError, ValueError), "format"),
        ({"scheme": "W4A16"}, ValueError, "scheme.*'W4A16'.*W8A8"),
        ({"format": "comfyui", "scheme": "W8A8"}, ValueError, "scheme"),
        ({"per_row": True}, ValueError, "per_row"),
        ({"format": "comfyui", "scale_divisor": 127.5}, ValueError, "divisor"),
        ({"scale_divisor": 0}, ValueError, "scale_divisor"),
        ({"scale_divisor": -1.0}, ValueError, "scale_divisor"),
        ({"scale_divisor": float("nan")}, ValueError, "scale_divisor"),
        ({"scale_divisor": "127"}, TypeError, "scale_divisor"),
        ({"ignore": "*"}, ValueError, "nothing is left"),
        ({"ignore": ["lm_head", "nobody"]}, ValueError, "ignore.*nobody"),
        ({"include": ["nobody"]}, ValueError, "include.*nobody"),
        ({"ignore": 5}, TypeError, "ignore"),
    ],
)
def test_bad_arguments(tmp_path, given, error, match):
    model = checkpoints.llama(tmp_path / "model")
    refused(tmp_path, model, match, error, **given)


def test_a_file_is_no_folder(tmp_path):
    """compressed-tensors is a folder; the file of one is not taken for it."""
    model = checkpoints.llama(tmp_path / "model")
    out = tmp_path / "out.safetensors"
    for target in (out, tmp_path / "out"):
        refused(tmp_path, model / "model.safetensors", "is a file.*folder of the model", out=target)


def test_an_absent_source(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.quantize_checkpoint(tmp_path / "no", tmp_path / "out", format=CT, scheme="W8A8")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path, monkeypatch):
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "out"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{out}'"):
        files.quantize_checkpoint(model, out, format=CT, scheme="W8A8")
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_target_that_cannot_be_written(tmp_path):
    model, closed = checkpoints.llama(tmp_path / "model"), tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        files.quantize_checkpoint(model, closed / "out", format=CT, scheme="W8A8")


@pytest.mark.parametrize("given", [{"format": CT}, {"format": "comfyui"}])
def test_our_own_format_is_not_mixed_with_another(tmp_path, given):
    model, out = checkpoints.llama(tmp_path / "model"), tmp_path / "out"
    files.quantize_checkpoint(model, out, **given)
    with pytest.raises(ValueError, match=rf"quantized already: .* by {given['format']}"):
        files.quantize_file(out, tmp_path / "more")
    assert not (tmp_path / "more").exists()
