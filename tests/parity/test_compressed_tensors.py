"""compressed-tensors and transformers: what we write they load, what they write we read.

Values are compared bit for bit.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import files

from .. import checkpoints

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what they import themselves
    pytest.importorskip("compressed_tensors")
    transformers = pytest.importorskip("transformers")
    from compressed_tensors.compressors import BaseCompressor, ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        apply_quantization_config,
        quantize,
    )
    from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme
    from compressed_tensors.quantization.utils import calculate_qparams

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning"),
]

ENGINE = "compressed-tensors"
SCHEMES = ("W8A8", "W8A16")
FORMATS = {"W8A8": "int-quantized", "W8A16": "pack-quantized"}
#: configurations of transformers: hidden size 256 and experts of 128, so that 128 divides all rows
SIZES = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
OLDER = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "llama-tied": lambda: transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
    # 128 does not divide the rows of down_proj: W8A16 leaves it alone
    "llama-odd": lambda: transformers.LlamaConfig(**SIZES | {"intermediate_size": 320}),
    "mixtral": lambda: transformers.MixtralConfig(**SIZES, num_local_experts=4),
    "qwen3-moe": lambda: transformers.Qwen3MoeConfig(
        **SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=128, head_dim=64
    ),
    # the head has another name in the file
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**OLDER),
    # the head is tied, in no file, and has a name of its own
    "bert": lambda: transformers.BertConfig(**OLDER, is_decoder=True),
    # the router has another name in the file, and is a Linear
    "phimoe": lambda: transformers.PhimoeConfig(
        **SIZES | {"num_hidden_layers": 1}, num_local_experts=2
    ),
    # a tower with torch's MultiheadAttention, and all layers have other names in the file
    "gemma3": lambda: transformers.Gemma3Config(
        text_config=SIZES | {"head_dim": 64},
        vision_config=OLDER | {"image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    ),
}


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """No progress bars, no warnings about what is missing: the tests look at it themselves."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield
    transformers.logging.enable_progress_bar()
    transformers.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Models that transformers makes from a configuration and saves, each once."""
    made: dict[tuple[str, str], Path] = {}

    def make(name: str, dtype: str) -> Path:
        if (name, dtype) not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("models") / f"{name}-{dtype}"
            config = MODELS[name]()
            float_model = transformers.AutoModelForCausalLM.from_config(config)
            float_model.to(getattr(torch, dtype)).save_pretrained(path, max_shard_size="2MB")
            made[name, dtype] = path
        return made[name, dtype]

    return make


def array(tensor: Any) -> np.ndarray:
    """A torch tensor as an array; NumPy itself has no bfloat16."""
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def tensor_of(x: np.ndarray) -> Any:
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def logits(path: Path, **keywords: Any) -> Any:
    """Those of 64 tokens; nothing of the model may be missing or left over."""
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype="auto", output_loading_info=True, **keywords
    )
    assert not any(report.values()), report
    tokens = torch.arange(64).reshape(2, 32) * 7 % SIZES["vocab_size"]
    with torch.no_grad():
        return loaded(tokens).logits.double().flatten()


def decompressed(path: Path) -> dict[str, np.ndarray]:
    """The weights of a folder as compressed-tensors has them."""
    about = QuantizationConfig.model_validate(checkpoints.config(path)["quantization_config"])
    (scheme,) = about.config_groups.values()
    compressor = BaseCompressor.get_value_from_registry(about.format)
    tensors = {name: tensor_of(x) for name, x in checkpoints.read(path).items()}
    found = {}
    for name in tensors:
        module, _, last = name.rpartition(".")
        if last == "weight_scale":
            parts = {
                part: tensors[f"{module}.{part}"]
                for part in compressor.compression_param_names(scheme)
            }
            found[f"{module}.weight"] = array(compressor.decompress(parts, scheme)["weight"])
    return found


def same_bits(ours: np.ndarray, theirs: np.ndarray) -> int:
    """The number of elements, which all have the same bits."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    width = np.dtype(f"u{ours.itemsize}")
    np.testing.assert_array_equal(ours.view(width), theirs.view(width))
    return ours.size


def is_read_as_they_do(path: Path, tmp_path: Path) -> int:
    """Every function of ours has exactly the values of compressed-tensors; their number."""
    theirs = decompressed(path)
    loaded = files.load(path)
    values = tmp_path / "values"
    files.dequantize_file(path, values)
    restored = checkpoints.read(values)
    assert theirs.keys() == loaded.keys()
    compared = 0
    for name, x in theirs.items():
        codes, params = loaded[name]
        compared += same_bits(zp.dequantize(codes, params, dtype=x.dtype), x)
        same_bits(restored[name], x)
    assert files.read_params(path, name) == params
    kept = checkpoints.read(path)
    assert restored.keys() == {name for name in kept if "weight_" not in name} | theirs.keys()
    assert "quantization_config" not in checkpoints.config(values)
    described = {one.name: one.quantized for one in files.inspect_file(path).tensors}
    assert sum(one is not None for one in described.values()) == len(theirs)
    return compared


# ---------------------------------------------------------------------------------------------
# What we write


@pytest.mark.parametrize(
    ("name", "dtype", "scheme"),
    [
        ("llama", "float32", "W8A8"),
        ("llama", "float32", "W8A16"),
        ("llama", "bfloat16", "W8A8"),
        ("llama", "bfloat16", "W8A16"),
        ("llama", "float16", "W8A16"),
        ("llama-tied", "bfloat16", "W8A8"),
        ("llama-odd", "bfloat16", "W8A8"),
        ("llama-odd", "float32", "W8A16"),
        ("mixtral", "bfloat16", "W8A16"),
        ("qwen3-moe", "bfloat16", "W8A16"),
        ("gpt-neox", "bfloat16", "W8A16"),
        ("bert", "bfloat16", "W8A8"),
        ("phimoe", "bfloat16", "W8A16"),
        ("gemma3", "bfloat16", "W8A16"),
    ],
)
def test_transformers_loads_it(model, tmp_path, note, name, dtype, scheme):
    """The logits are those of the float model."""
    source, out = model(name, dtype), tmp_path / "out"
    files.quantize_checkpoint(source, out, format="compressed-tensors", scheme=scheme)
    expected, found = logits(source), logits(out)
    cosine = float(torch.nn.functional.cosine_similarity(expected, found, dim=0))
    note(f"transformers {name} {dtype} {scheme}: logits with cosine {cosine:.5f}")
    assert cosine > 0.999


@pytest.mark.parametrize(("name", "scheme"), [("llama", "W8A8"), ("mixtral", "W8A16")])
def test_transformers_has_our_values(model, tmp_path, name, scheme):
    """The logits of what it dequantizes itself, and of what we dequantize."""
    out, values = tmp_path / "out", tmp_path / "values"
    source = model(name, "bfloat16")
    files.quantize_checkpoint(source, out, format="compressed-tensors", scheme=scheme)
    files.dequantize_file(out, values)
    config = transformers.CompressedTensorsConfig(dequantize=True)
    theirs = logits(out, quantization_config=config)
    assert torch.equal(logits(values), theirs)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("llama", "float32"),
        ("llama", "bfloat16"),
        ("llama", "float16"),
        ("mixtral", "bfloat16"),
        ("qwen3-moe", "bfloat16"),
    ],
)
def test_it_decompresses_to_our_values(model, tmp_path, note, name, dtype, scheme):
    out = tmp_path / "out"
    files.quantize_checkpoint(model(name, dtype), out, format="compressed-tensors", scheme=scheme)
    compared = is_read_as_they_do(out, tmp_path)
    note(f"{ENGINE} decompress {scheme} {dtype}: {name}, {compared:,} values, 0 differences")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_edges_decompress_to_our_values(tmp_path, dtype, scheme):
    """Rows of zeros, of one value, of subnormals and of the largest numbers."""
    about = checkpoints.llama(tmp_path / "model", dtype)
    tensors = checkpoints.read(about)
    name = "model.layers.0.self_attn.q_proj.weight"
    x = tensors[name].copy()
    info = ml_dtypes.finfo(x.dtype)
    x[0], x[1], x[2], x[3] = 0, info.max, -info.max, info.smallest_subnormal
    x[4, :128], x[5, 3], x[6] = 0, 100, info.smallest_normal
    checkpoints.write(about / "model.safetensors", tensors | {name: x}, {"format": "pt"})
    out = tmp_path / "out"
    files.quantize_checkpoint(about, out, format="compressed-tensors", scheme=scheme)
    is_read_as_they_do(out, tmp_path)
    scale = checkpoints.read(out)[name.replace("weight", "weight_scale")]
    assert float(scale[0, 0]) == torch.finfo(getattr(torch, dtype)).eps  # theirs for zeros


# ---------------------------------------------------------------------------------------------
# The same codes


def scheme_of(name: str) -> Any:
    return preset_name_to_scheme(name, ["Linear"])


def their_choice(x: Any, args: Any) -> Any:
    """Scales as compressed-tensors' own observer of ranges has them, in the dtype of `x`."""
    grouped = x if args.group_size is None else x.unflatten(-1, (-1, args.group_size))
    low, high = grouped.amin(-1), grouped.amax(-1)
    scale, zero = calculate_qparams(low, high, args)
    return (scale, zero) if scale.ndim == 2 else (scale[:, None], zero[:, None])


def packed(codes: np.ndarray) -> np.ndarray:
    return (codes.view(np.uint8) ^ 0x80).view("<i4")


@pytest.mark.parametrize("divisor", [127, 127.5])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_codes_are_its_own(model, tmp_path, note, scheme, divisor):
    """In float32 by its own quantizer, at our scales; with the divisor 127.5 these are its own."""
    source, out = model("llama", "float32"), tmp_path / "out"
    files.quantize_checkpoint(
        source, out, format="compressed-tensors", scheme=scheme, scale_divisor=divisor
    )
    weights, written, args = checkpoints.read(source), checkpoints.read(out), scheme_of(scheme)
    compared = codes_that_are_theirs(weights, written, args.weights, divisor)
    note(f"{ENGINE} quantize {scheme} max|x| / {divisor}: {compared:,} codes, 0 differences")


def codes_that_are_theirs(weights: Any, written: Any, args: Any, divisor: float) -> int:
    compared = 0
    for name, stored in written.items():
        if not name.endswith("weight_scale"):
            continue
        x = tensor_of(weights[name.replace("weight_scale", "weight")])
        own, _ = their_choice(x, args)
        if divisor == 127.5:
            same_bits(stored, array(own))
        scale = tensor_of(stored)
        codes = array(quantize(x, scale, None, args, dtype=torch.int8))
        if args.group_size is None:
            found = written[name.replace("weight_scale", "weight")]
        else:
            found, codes = written[name.replace("weight_scale", "weight_packed")], packed(codes)
        compared += same_bits(found, codes) * found.itemsize
    assert compared > 0
    return compared


def wordllama() -> np.ndarray:
    """A trained table of embeddings, in float32."""
    try:
        installed = distribution("wordllama")
    except PackageNotFoundError:
        pytest.skip("needs wordllama: pip install wordllama==0.4.0.post1")
    path = installed.locate_file("wordllama/weights/l2_supercat_256.safetensors")
    return checkpoints.read(Path(str(path)))["embedding.weight"].astype(np.float32)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_real_weights(tmp_path, note, scheme):
    """wordllama's table as the weights of a linear layer."""
    table = wordllama()
    about = {"model_type": "llama", "dtype": "float32"}
    source = checkpoints.folder(tmp_path / "model", about, {"model.table.weight": table})
    for divisor in (127, 127.5):
        out = tmp_path / f"out{divisor}"
        files.quantize_checkpoint(
            source, out, format="compressed-tensors", scheme=scheme, scale_divisor=divisor
        )
        args = scheme_of(scheme).weights
        compared = codes_that_are_theirs(
            {"model.table.weight": table}, checkpoints.read(out), args, divisor
        )
        note(f"{ENGINE} {scheme} max|x| / {divisor}: wordllama, {compared:,} codes, 0 differences")


@pytest.mark.parametrize(
    ("dtype", "scheme"), [("bfloat16", "W8A8"), ("bfloat16", "W8A16"), ("float16", "W8A8")]
)
def test_halves_are_chosen_in_float32(model, tmp_path, note, dtype, scheme):
    """Codes for the scale as it is stored, by its quantizer in float32; less noise than its own."""
    source, out = model("llama", dtype), tmp_path / "out"
    files.quantize_checkpoint(source, out, format="compressed-tensors", scheme=scheme)
    weights, args = checkpoints.read(source), scheme_of(scheme).weights
    exact = {name: x.astype(np.float32) for name, x in weights.items()}
    written = {
        name: x.astype(np.float32) if name.endswith("scale") else x
        for name, x in checkpoints.read(out).items()
    }
    codes_that_are_theirs(exact, written, args, 127)
    noise = [0.0, 0.0]
    for stored in (name for name in written if name.endswith("weight_scale")):
        x = tensor_of(weights[stored.replace("weight_scale", "weight")])
        own, _ = their_choice(x, args)
        ours = tensor_of(written[stored])
        for i, (values, scale) in enumerate(((x.float(), ours), (x, own))):
            codes = quantize(values, scale, None, args, dtype=torch.int8).double()
            restored = codes.unflatten(-1, (scale.shape[1], -1)) * scale.double()[..., None]
            noise[i] += float((restored.flatten(-2) - x.double()).square().sum())
    gain = 10 * math.log10(noise[1] / noise[0])
    note(f"{ENGINE} {scheme} {dtype}: {gain:.2f} dB less noise in float32 than in its own dtype")
    assert gain > (0.4 if dtype == "bfloat16" else 0)


# ---------------------------------------------------------------------------------------------
# What it writes itself


def written_by_them(source: Path, out: Path, preset: str, **changes: Any) -> Path:
    """A folder that compressed-tensors compresses and transformers saves."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    scheme = scheme_of(preset)
    for key, value in changes.items():
        setattr(scheme.weights, key, value)
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])
    apply_quantization_config(loaded, config)
    for module in loaded.modules():
        if getattr(module, "quantization_scheme", None) is not None:
            scale, zero = their_choice(module.weight.data, scheme.weights)
            module.weight_scale.data.copy_(scale)
            module.weight_zero_point.data.copy_(zero)
    compressor = ModelCompressor.from_pretrained_model(loaded)
    compressor.compress_model(loaded)
    loaded.save_pretrained(out, max_shard_size="1MB")
    compressor.update_config(str(out))
    return out


CHANNELS = {"strategy": "channel", "group_size": None}


@pytest.mark.parametrize(
    ("dtype", "preset", "changes"),
    [
        ("float32", "W8A8", {}),
        ("bfloat16", "W8A8", {}),
        ("bfloat16", "W8A8", {"symmetric": False}),
        ("float32", "W8A16", {}),
        ("bfloat16", "W8A16", {}),
        ("bfloat16", "W8A16", {"symmetric": False}),
        ("bfloat16", "W8A16", CHANNELS),
        ("float32", "W8A16", CHANNELS | {"symmetric": False}),
        ("bfloat16", "W8A16", {"group_size": 64}),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(map(str, given.values())),
)
def test_what_it_wrote_itself(model, tmp_path, note, dtype, preset, changes):
    path = written_by_them(model("llama", dtype), tmp_path / "theirs", preset, **changes)
    compared = is_read_as_they_do(path, tmp_path)
    note(f"{ENGINE} its own {preset} {changes or ''}, {dtype}: {compared:,} values, 0 differences")


@pytest.mark.parametrize("bits", [4, 7])
def test_other_widths_are_not_read(model, tmp_path, bits):
    path = written_by_them(model("llama", "bfloat16"), tmp_path / "theirs", "W8A16", num_bits=bits)
    with pytest.raises(ValueError, match="_proj.weight'.*8 bits"):
        files.dequantize_file(path, tmp_path / "values")
    assert not (tmp_path / "values").exists()
    assert all(one.quantized is None for one in files.inspect_file(path).tensors)


def test_its_configuration_is_ours(model, tmp_path):
    """What ours says is what theirs says."""
    source = model("llama", "bfloat16")
    for scheme in SCHEMES:
        theirs = checkpoints.config(written_by_them(source, tmp_path / f"{scheme}-theirs", scheme))
        out = tmp_path / scheme
        files.quantize_checkpoint(source, out, format="compressed-tensors", scheme=scheme)
        ours = checkpoints.config(out)
        about, other = (config.pop("quantization_config") for config in (ours, theirs))
        assert ours == theirs
        assert about["format"] == FORMATS[scheme]
        named = {each for each in about["ignore"] if not each.startswith("re:")}
        assert named == {*other["ignore"], "model.embed_tokens"}
        parsed, expected = map(QuantizationConfig.model_validate, (about, other))
        assert parsed.quantization_status == expected.quantization_status
        for group in (parsed.config_groups["group_0"], expected.config_groups["group_0"]):
            group.format = None
        assert parsed.config_groups == expected.config_groups
        index = json.loads((out / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"]) == set(checkpoints.read(out))
