"""Three models to the 8-bit files that vLLM, llama.cpp and ComfyUI load, each by one command.

    pip install ".[torch]" transformers compressed-tensors gguf safetensors
    python examples/checkpoints.py

The models are small and made on the spot, with random weights.  What comes out is compared with the
engines' own packages: transformers loads it and computes, gguf quantizes the same weights, and
comfy-kitchen too where it is installed (ComfyUI's own formula where it is not).
"""

import contextlib
import importlib
import io
import os
import subprocess
import sys
import tempfile
from importlib.metadata import distribution

try:
    import gguf
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, logging

    from zeropoint import files

    distribution("compressed-tensors")  # transformers imports it to load what we wrote
except ImportError as error:
    sys.exit(f"checkpoints.py: {error}; its first lines say what to install")

CONFIG = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def zeropoint(*arguments):
    """Run the command, as it is printed."""
    print(f"$ zeropoint {' '.join(arguments)}")
    subprocess.run([sys.executable, "-m", "zeropoint", *arguments, "--quiet"], check=True)


def report(source, target, verdict):
    before, after = (files.inspect_file(path).bytes for path in (source, target))
    print(f"  {before:,} -> {after:,} bytes ({after / before:.2f} x); {verdict}\n")


def vllm():
    """A Llama in bfloat16, in shards, as transformers saves it."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG)).to(torch.bfloat16).eval()
    model.save_pretrained("llama", max_shard_size="3MB")
    tokens = torch.randint(0, CONFIG["vocab_size"], (4, 64))
    with torch.no_grad():
        wanted = model(tokens).logits.float().flatten()
        for scheme in "W8A8", "W8A16":
            target = f"llama-{scheme.lower()}"
            options = ["--format", "compressed-tensors", "--scheme", scheme]
            zeropoint("quantize", "llama", "-o", target, *options)
            with contextlib.redirect_stderr(io.StringIO()):  # bars of what reads it
                loaded = AutoModelForCausalLM.from_pretrained(target)
                found = loaded(tokens).logits.float().flatten()
            cosine = torch.cosine_similarity(wanted, found, dim=0).item()
            report("llama", target, f"loaded by transformers: cosine of the logits {cosine:.5f}")
            yield cosine > 0.999
    zeropoint("dequantize", "llama-w8a8", "-o", "llama-again")
    again = LlamaForCausalLM.from_pretrained("llama-again").state_dict()
    error = max((again[name] - x).abs().max().item() for name, x in model.state_dict().items())
    print(f"  back in {again['lm_head.weight'].dtype}: no weight is further off than {error:.2g}\n")
    yield error < 1e-3


def llama_cpp():
    """A model in float16, as llama.cpp's convert_hf_to_gguf writes it."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter("model-f16.gguf", "llama")
    writer.add_block_count(4)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    weights = {"token_embd.weight": (512, 256), "output.weight": (512, 256)}
    for i in range(4):
        weights |= {f"blk.{i}.{name}.weight": (256, 256) for name in ("attn_q", "attn_output")}
        weights |= {f"blk.{i}.ffn_up.weight": (768, 256), f"blk.{i}.ffn_down.weight": (256, 768)}
        writer.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(256, np.float32))
    x = {name: rng.normal(0, 0.02, shape).astype(np.float16) for name, shape in weights.items()}
    for name, values in x.items():
        writer.add_tensor(name, values)
    for write in "header_to_file", "kv_data_to_file", "tensors_to_file":
        getattr(writer, f"write_{write}")()
    writer.close()

    zeropoint("quantize", "model-f16.gguf", "-o", "model-q8_0.gguf")
    read = {tensor.name: tensor for tensor in gguf.GGUFReader("model-q8_0.gguf").tensors}
    q8_0, same, differ = gguf.GGMLQuantizationType.Q8_0, 0, 0
    for name, values in x.items():
        blocks = gguf.quants.quantize(values.astype(np.float32), q8_0)
        wrong = np.count_nonzero(blocks != read[name].data)
        differ += wrong
        same += blocks.size - wrong
    verdict = f"{differ} of {same + differ:,} bytes differ from gguf's own quantizer"
    report("model-f16.gguf", "model-q8_0.gguf", verdict)
    yield differ == 0 and all(read[name].tensor_type == q8_0 for name in x)


def comfyui():
    """A diffusion model's file: linear layers, and convolutions and biases, which stay."""
    torch.manual_seed(0)
    x = {"model.diffusion_model.out.weight": torch.randn(8, 256, 3, 3)}
    for i in range(4):
        block = f"model.diffusion_model.blocks.{i}"
        x |= {f"{block}.attn.qkv.weight": torch.randn(768, 256) * 0.02}
        x |= {
            f"{block}.mlp.weight": torch.randn(256, 256) * 0.02,
            f"{block}.mlp.bias": torch.randn(256),
        }
    save_file(x, "image.safetensors")

    options = ["--format", "comfyui", "--per-row"]
    zeropoint("quantize", "image.safetensors", "-o", "image-int8.safetensors", *options)
    found = load_file("image-int8.safetensors")
    quantize, oracle = comfy_quantizer()
    same, differ = 0, 0
    for name, values in x.items():
        if values.ndim == 2:
            codes, scale = quantize(values)
            wrong = torch.count_nonzero(codes != found[name]).item()
            wrong += torch.count_nonzero(scale != found[f"{name}_scale"]).item()
            differ += wrong
            same += codes.numel() + scale.numel() - wrong
        else:
            differ += not torch.equal(values, found[name])
    verdict = f"{differ} of {same + differ:,} codes and scales differ from {oracle}"
    report("image.safetensors", "image-int8.safetensors", verdict)
    yield differ == 0


def comfy_quantizer():
    """The function that ComfyUI quantizes rows with, or its formula."""
    try:
        kitchen = importlib.import_module("comfy_kitchen.backends.eager.quantization")
    except ImportError:
        return formula, "ComfyUI's formula (comfy-kitchen is not installed)"
    return kitchen.quantize_int8_rowwise, "comfy-kitchen's own quantizer"


def formula(x):
    scale = (x.abs().amax(dim=1, keepdim=True) / 127).clamp(min=1e-30)
    return (x / scale).round().clamp(-128, 127).to(torch.int8), scale


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        fine = [each for path in (vllm, llama_cpp, comfyui) for each in path()]
        os.chdir("/")
    sys.exit(None if all(fine) else "a model is not as its engine would have it")


if __name__ == "__main__":
    main()
