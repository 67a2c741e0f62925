"""`quantize_file` beside llama.cpp's own llama-quantize: whole files, byte for byte.

``LLAMA_QUANTIZE`` is the path of the program.  The source distribution of llama-cpp-python carries
llama.cpp, so that it can be built without a clone::

    pip download --no-deps --no-binary :all: llama-cpp-python && tar xzf llama_cpp_python-*.tar.gz
    cmake -S llama_cpp_python-*/vendor/llama.cpp -B build -G Ninja -DBUILD_SHARED_LIBS=OFF \\
        -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DGGML_OPENMP=OFF
    ninja -C build llama-quantize  # a quarter of an hour on two cores

Where the files differ, on purpose: rows that 32 does not divide become F16 there, and are kept
here; axes of length 1 in front are dropped there; an alignment other than 32 is written, but not
followed there (llama.cpp reads such a file no more); a tensor of 4 axes stops it; a name of five
letters, such as "abcde", counts there as one that ends in "weight".
"""

import os
import subprocess

import numpy as np
import pytest

from zeropoint import files

PROGRAM = os.environ.get("LLAMA_QUANTIZE")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="LLAMA_QUANTIZE is not set")
gguf = pytest.importorskip("gguf")


def theirs(source, target, kind, *options):
    command = [PROGRAM, *options, source, target, kind]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return target.read_bytes()


class Model:
    """A small Llama, or what llama-quantize takes for one."""

    def __init__(self, path, kind, seed=0):
        self.rng, self.kind = np.random.default_rng(seed), kind
        self.writer = gguf.GGUFWriter(path, "llama")
        self.writer.add_name("tiny é")
        for key, value in {
            "context_length": 64,
            "embedding_length": 64,
            "block_count": 12,
            "feed_forward_length": 96,
            "attention.head_count": 4,
            "attention.head_count_kv": 2,
            "rope.dimension_count": 16,
            "vocab_size": 320,
        }.items():
            self.writer.add_uint32(f"llama.{key}", value)
        self.writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        self.writer.add_file_type(1)
        self.writer.add_tokenizer_model("llama")
        self.writer.add_token_list([f"t{number}é" for number in range(320)])
        self.writer.add_token_scores([-0.5] * 320)

    def add(self, name, x, kind=None):
        kind = kind or self.kind
        x = np.asarray(x, np.float32)
        if kind == "BF16":
            raw = gguf.GGMLQuantizationType.BF16
            self.writer.add_tensor(name, gguf.quants.quantize(x, raw), raw_dtype=raw)
        else:
            self.writer.add_tensor(name, x.astype("f2" if kind == "F16" else "f4"))

    def matrix(self, name, *shape, kind=None):
        size = np.exp(self.rng.uniform(-8, 3))
        self.add(name, self.rng.normal(size=shape) * size, kind)

    def close(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def llama(path, kind):
    model = Model(path, kind)
    model.writer.add_expert_count(4)
    model.writer.add_expert_used_count(2)
    model.matrix("token_embd.weight", 320, 64)
    model.matrix("output.weight", 320, 64)
    model.matrix("output_norm.weight", 64, kind="F32")
    for layer in range(12):
        before = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            model.matrix(f"{before}{norm}.weight", 64, kind="F32")
        for name, rows in (("q", 64), ("k", 32), ("v", 32), ("output", 64)):
            model.matrix(f"{before}attn_{name}.weight", rows, 64)
        model.matrix(f"{before}ffn_gate_inp.weight", 4, 64, kind="F32")
        for name, shape in (("gate", (96, 64)), ("up", (96, 64)), ("down", (64, 96))):
            model.matrix(f"{before}ffn_{name}_exps.weight", 4, *shape)
    model.close()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_a_model_there_and_back(tmp_path, kind):
    source, ours, other = (tmp_path / f"{name}.gguf" for name in ("m", "q", "l"))
    llama(source, kind)
    files.quantize_file(source, ours)
    assert ours.read_bytes() == theirs(source, other, "Q8_0")
    assert ours.read_bytes() == theirs(source, other, "Q8_0", "--pure")
    for word, dtype in (("F16", "float16"), ("F32", "float32"), ("BF16", "bfloat16")):
        files.dequantize_file(ours, tmp_path / "b.gguf", dtype=dtype)
        back = theirs(ours, other, word, "--allow-requantize")
        assert (tmp_path / "b.gguf").read_bytes() == back


KINDS_OF_NAMES = """attn_q attn_norm norm ffn_gate_inp ffn_gate_inp_shexp ffn_gate_tid2eid altup
laurel_l per_layer_model_proj per_layer_token_embd position_embd token_types token_embd ssm_conv1d
ssm_out shortconv.conv shortconv.in_proj indexer.k_proj indexer.q_proj indexer.proj time_mix_first
time_mix_w0 time_mix_w3 time_mix_v1 time_mix_a2 time_mix_g1 time_mix_g3 time_mix_decay_w1
time_mix_decay time_mix_lerp_fused attn_rel_b patch_embd patch_merger rel_pos hc_x a.rvq.codebook
mm.a.code_embd sam.neck.0 sam.net_2 sam.pos_embd"""


def test_which_tensors(tmp_path):
    source, ours, other = (tmp_path / f"{name}.gguf" for name in ("m", "q", "l"))
    model = Model(source, "F32")
    names = [
        f"{before}{name}.weight"
        for before in ("", "blk.3.", "blk.11.", "v.blk.0.")
        for name in KINDS_OF_NAMES.split()
    ]
    for name in [*names, "output.weight", "xweight", "weights", "a.bias", "cls.output.weight"]:
        model.matrix(name, 4, 64)
    model.close()
    files.quantize_file(source, ours)
    assert ours.read_bytes() == theirs(source, other, "Q8_0")


def test_edges(tmp_path):
    """Zeros, subnormals, scales that float16 rounds to 0 or subnormals, and half steps."""
    source, ours, other = (tmp_path / f"{name}.gguf" for name in ("m", "q", "l"))
    halves = np.float32(np.arange(64) % 32 - 16 + 0.5)
    halves[[0, 32]] = 127
    rng = np.random.default_rng(0)
    rows = [
        np.full(64, 1e-45),
        np.where(np.arange(64) % 2, 0.0, -0.0),
        np.full(64, 65504 * 127.0),
        np.arange(64) * 1e-41,
        np.nextafter(halves, np.float32(0)),
        *(halves * np.float32(step) for step in np.exp(rng.uniform(-90, 9, 400))),
        *(rng.normal(size=64) * step for step in np.exp(rng.uniform(-100, 11, 4000))),
        *(np.full(64, 127 * step) for step in (2.97e-8, 2.98e-8, 2.99e-8, 6e-8, 6.1e-5)),
    ]
    model = Model(source, "F32")
    model.add("output.weight", rows)
    model.close()
    files.quantize_file(source, ours)
    assert ours.read_bytes() == theirs(source, other, "Q8_0")
