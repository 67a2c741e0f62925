"""Whole models converted: time an element and memory, beside the tools of the formats.

    python -m bench.checkpoints FILE.json --measure          run, and write FILE.json
    python -m bench.checkpoints FILE.json                    print its tables
    python -m bench.checkpoints FILE.json --update PAGE.md   put them between the page's markers

Models have the names and shapes of Llama, and the values of a trained table repeated.  A large one
lies on a disk, and is not in the page cache when a conversion begins; a smaller one, which the
other tools can hold, lies in memory.  Each conversion is a process of its own, on all CPUs.
Needs wordllama, and disk space for five bytes a parameter; peers that are not installed are left
out.  The files are removed at the end.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint import files

from .files import Array, Values, copy, folder, gguf_file, room
from .machine import ROOT, describe
from .report import load_rows, put, save

ROUNDS = 3  # of what lies in memory; the best counts
PEERS = "compressed-tensors", "transformers", "gguf", "comfy-kitchen", "torch", "safetensors"


@dataclass(frozen=True)
class Row:
    model: str
    elements: int  #: parameters, in floats of two bytes
    on_disk: bool
    job: str
    system: str
    seconds: float
    cpu_seconds: float  #: of all threads, the system's share included
    peak_mib: int  #: largest resident set, pages of mapped files included
    bytes_read: int
    bytes_written: int

    @property
    def ns(self) -> float:
        return self.seconds / self.elements * 1e9


# ---------------------------------------------------------------------------------------------
# Models


@dataclass(frozen=True)
class Llama:
    hidden: int
    intermediate: int
    key_value: int
    layers: int
    vocabulary: int
    heads: int

    def shapes(self, of: str) -> dict[str, tuple[int, ...]]:
        """In the names of Hugging Face, or of ``gguf``."""
        names = _NAMES[of]
        found: dict[str, tuple[int, ...]] = {names["embeddings"]: (self.vocabulary, self.hidden)}
        for i in range(self.layers):
            for part, rows, columns in self._layer():
                found[names[part].format(i)] = (rows, columns) if rows else (columns,)
        found[names["norm"]] = (self.hidden,)
        found[names["head"]] = (self.vocabulary, self.hidden)
        return found

    def _layer(self) -> Iterator[tuple[str, int, int]]:
        hidden, wide, small = self.hidden, self.intermediate, self.key_value
        yield "q", hidden, hidden
        yield "k", small, hidden
        yield "v", small, hidden
        yield "o", hidden, hidden
        yield "gate", wide, hidden
        yield "up", wide, hidden
        yield "down", hidden, wide
        yield "norm1", 0, hidden
        yield "norm2", 0, hidden

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value * self.heads // self.hidden,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": False,
        }


_LAYER = "model.layers.{}."
_NAMES = {
    "folder": {
        "embeddings": "model.embed_tokens.weight",
        **{part: f"{_LAYER}self_attn.{part}_proj.weight" for part in "qkvo"},
        **{part: f"{_LAYER}mlp.{part}_proj.weight" for part in ("gate", "up", "down")},
        "norm1": f"{_LAYER}input_layernorm.weight",
        "norm2": f"{_LAYER}post_attention_layernorm.weight",
        "norm": "model.norm.weight",
        "head": "lm_head.weight",
    },
    "gguf": {
        "embeddings": "token_embd.weight",
        **{part: f"blk.{{}}.attn_{part}.weight" for part in "qkv"},
        "o": "blk.{}.attn_output.weight",
        **{part: f"blk.{{}}.ffn_{part}.weight" for part in ("gate", "up", "down")},
        "norm1": "blk.{}.attn_norm.weight",
        "norm2": "blk.{}.ffn_norm.weight",
        "norm": "output_norm.weight",
        "head": "output.weight",
    },
}
MODELS = {
    "8B": Llama(4096, 14336, 1024, 32, 128256, 32),
    "1B": Llama(2048, 8192, 512, 16, 64128, 32),
    "tiny": Llama(256, 512, 128, 2, 512, 4),
}


def _trained() -> Array:
    """The values of wordllama's table of embeddings, as float32."""
    place = distribution("wordllama").locate_file("wordllama/weights/l2_supercat_256.safetensors")
    return np.asarray(files.read_tensor(str(place), "embedding.weight"), np.float32).reshape(-1)


def _values(shapes: dict[str, tuple[int, ...]], dtype: str) -> Values:
    """Each tensor begins elsewhere in the trained values, and repeats them."""
    kind = importlib.import_module("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    table = _trained().astype(kind)
    places = {name: i * 1_000_003 % table.size for i, name in enumerate(shapes)}

    def values(name: str) -> Iterator[Array]:
        at, left = places[name], math.prod(shapes[name])
        while left:
            piece = table[at : at + left]
            yield piece
            at, left = 0, left - piece.size

    return values


@contextmanager
def _made(model: str, of: str, place: Path, shard: int) -> Iterator[Path]:
    """The file or folder of a model; it is removed again."""
    llama = MODELS[model]
    shapes, dtype = llama.shapes(of), "float16" if of == "gguf" else "bfloat16"
    values, path = _values(shapes, dtype), place / f"model{'.gguf' * (of == 'gguf')}"
    try:
        if of == "gguf":
            gguf_file(path, shapes, values, dtype)
        else:
            folder(path, shapes, values, dtype, shard, llama.config)
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    paths = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in paths if each.is_file())


# ---------------------------------------------------------------------------------------------
# Conversions: each is called in a process of its own

Convert = Callable[[Path, Path], Callable[[], Any]]  #: prepares, imports included; then does it


def _ours(**keywords: Any) -> Convert:
    return lambda source, target: lambda: files.quantize_checkpoint(source, target, **keywords)


def _by_compressed_tensors(scheme: str) -> Convert:
    """Loaded by transformers, scales and codes in the model's modules, saved again."""

    def prepare(source: Path, target: Path) -> Callable[[], None]:
        import torch

        transformers = importlib.import_module("transformers")
        model_class = transformers.AutoModelForCausalLM
        compressor = importlib.import_module("compressed_tensors").ModelCompressor
        quantization = importlib.import_module("compressed_tensors.quantization")
        utils = importlib.import_module("compressed_tensors.quantization.utils")

        def convert() -> None:
            model = model_class.from_pretrained(source, dtype="auto")
            about = quantization.QuantizationConfig(
                config_groups={"group_0": quantization.preset_name_to_scheme(scheme, ["Linear"])},
                ignore=["lm_head"],
            )
            quantization.apply_quantization_config(model, about)
            for module in model.modules():
                how = getattr(module, "quantization_scheme", None)
                if how is None:
                    continue
                x, size = module.weight.data, how.weights.group_size
                x = x if size is None else x.unflatten(-1, (-1, size))
                ends = x.amin(-1), x.amax(-1)
                scale, _ = utils.calculate_qparams(*ends, how.weights)
                module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
            found = compressor.from_pretrained_model(model)
            with torch.no_grad():
                found.compress_model(model)
            model.save_pretrained(target)
            found.update_config(target)

        return convert

    return prepare


def _by_gguf(source: Path, target: Path) -> Callable[[], None]:
    """Tensor by tensor, as convert_hf_to_gguf writes; the matrices that llama-quantize chooses."""
    gguf = importlib.import_module("gguf")
    quants = importlib.import_module("gguf.quants")
    kind = gguf.GGMLQuantizationType.Q8_0

    def convert() -> None:
        reader = gguf.GGUFReader(source)
        writer = gguf.GGUFWriter(target, "llama")
        chosen = {each.name: len(each.shape) == 2 for each in reader.tensors}
        for each in reader.tensors:
            x, quantized = each.data, chosen[each.name]
            size = x.size // 32 * 34 if quantized else x.nbytes
            raw = kind if quantized else None
            shape = (*x.shape[:-1], x.shape[-1] // 32 * 34) if quantized else x.shape
            dtype = np.dtype(np.uint8) if quantized else x.dtype
            writer.add_tensor_info(each.name, shape, dtype, size, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for each in reader.tensors:
            x = each.data
            writer.write_tensor_data(quants.quantize(x, kind) if chosen[each.name] else x)
        writer.close()

    return convert


def _by_comfy_kitchen(source: Path, target: Path) -> Callable[[], None]:
    """Its plain function for each matrix of a layer, read and written by safetensors."""
    import torch

    eager = importlib.import_module("comfy_kitchen.backends.eager.quantization")
    library = importlib.import_module("safetensors")
    save_file = importlib.import_module("safetensors.torch").save_file

    def convert() -> None:
        made = {}
        with library.safe_open(source, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                x = file.get_tensor(name)
                if x.ndim == 2 and ".layers." in name:
                    made[name], made[f"{name}_scale"] = eager.quantize_int8_tensorwise(x)
                    text = bytearray(b'{"format": "int8_tensorwise"}')
                    made[name.replace("weight", "comfy_quant")] = torch.frombuffer(
                        text, dtype=torch.uint8
                    )
                else:
                    made[name] = x
        save_file(made, target)

    return convert


def _copied(source: Path, target: Path) -> Callable[[], None]:
    return lambda: copy(source, target)


def _q8_0(source: Path, target: Path) -> Callable[[], Any]:
    return lambda: files.quantize_file(source, target)


def _back(source: Path, target: Path) -> Callable[[], Any]:
    return lambda: files.dequantize_file(source, target)


OURS = "zeropoint"
#: by job and system
CONVERSIONS: dict[tuple[str, str], Convert] = {
    ("copy", OURS): _copied,
    ("W8A8", OURS): _ours(format="compressed-tensors", scheme="W8A8"),
    ("W8A8", "compressed-tensors"): _by_compressed_tensors("W8A8"),
    ("W8A16", OURS): _ours(format="compressed-tensors", scheme="W8A16"),
    ("W8A16", "compressed-tensors"): _by_compressed_tensors("W8A16"),
    ("ComfyUI", OURS): _ours(format="comfyui"),
    ("ComfyUI", "comfy-kitchen"): _by_comfy_kitchen,
    ("Q8_0", OURS): _q8_0,
    ("Q8_0", "gguf"): _by_gguf,
    ("W8A8 dequantized", OURS): _back,
    ("Q8_0 dequantized", OURS): _back,
}
#: what a job takes; those of one source follow on each other
SOURCES = {
    "folder": ("copy", "W8A8", "W8A16"),
    "file": ("ComfyUI",),
    "gguf": ("Q8_0",),
}
BACK = {"W8A8": "W8A8 dequantized", "Q8_0": "Q8_0 dequantized"}
PARTS = [f"{size}-{of}" for size in ("large", "small") for of in SOURCES]


def _child(job: str, system: str, source: str, target: str) -> None:
    """Do it, and print the time and the peak memory as JSON."""
    convert = CONVERSIONS[job, system](Path(source), Path(target))
    started, before = time.perf_counter(), time.process_time()
    convert()
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"VmHWM:\s*(\d+)", status)
    found = {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": int(peak[1]) >> 10 if peak else 0}
    print(json.dumps(found))


def _in_a_process(job: str, system: str, source: Path, target: Path) -> dict[str, Any] | str:
    """What `_child` printed, or why the system cannot be had here."""
    code = "import sys; from bench.checkpoints import _child; _child(*sys.argv[1:])"
    command = [sys.executable, "-W", "ignore", "-c", code, job, system, str(source), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if system == OURS or "ModuleNotFoundError" not in last:
            raise RuntimeError(f"{system}, {job}: {last}")
        return last
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _forget(path: Path) -> None:
    """Take files out of the page cache."""
    for each in path.rglob("*") if path.is_dir() else [path]:
        if each.is_file() and hasattr(os, "posix_fadvise"):
            descriptor = os.open(each, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


# ---------------------------------------------------------------------------------------------
# The run


def measure(
    model: str, of: str, place: Path, on_disk: bool, systems: Sequence[str]
) -> Iterator[Row]:
    """The rows of one model in one of the `SOURCES`."""
    shard = 1 << 62 if of == "file" else 4 << 30
    with _made(model, "gguf" if of == "gguf" else "folder", place, shard) as made:
        source = made / "model.safetensors" if of == "file" else made
        for job in SOURCES[of]:
            yield from _measured(model, job, source, place, on_disk, systems)


def _measured(
    model: str, job: str, source: Path, place: Path, on_disk: bool, systems: Sequence[str]
) -> Iterator[Row]:
    target, back = (place / f"{name}{source.suffix}" for name in ("out", "back"))
    steps = [(job, system, source, target) for each, system in CONVERSIONS if each == job]
    steps = [step for step in steps if step[1] in systems]
    steps.sort(key=lambda step: step[1] == OURS)  # ours is the last, and is dequantized
    if job in BACK:
        steps.append((BACK[job], OURS, target, back))
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(1 if on_disk else ROUNDS):
        for name, system, of, to in steps:
            _remove(to)
            if on_disk:
                _forget(of)
            found = _in_a_process(name, system, of, to)
            print(f"bench: {model}, {name}, {system}: {found}", file=sys.stderr, flush=True)
            if isinstance(found, str):
                continue
            found |= {"bytes_read": _size(of), "bytes_written": _size(to)}
            before = best.get((name, system), found)
            best[name, system] = min(found, before, key=lambda each: each["seconds"])
    _remove(target)
    _remove(back)
    llama = MODELS[model]
    elements = sum(math.prod(shape) for shape in llama.shapes("folder").values())
    for (name, system), found in best.items():
        yield Row(model=model, elements=elements, on_disk=on_disk, job=name, system=system, **found)


# ---------------------------------------------------------------------------------------------
# The tables


def tables(head: dict[str, Any], rows: Sequence[Row]) -> str:
    parts = []
    for group in dict.fromkeys((row.model, row.on_disk) for row in rows):
        some = [row for row in rows if (row.model, row.on_disk) == group]
        parts.append(_beside_tools(some) if len({row.system for row in some}) > 1 else _alone(some))
    machine, versions = head["machine"], head["versions"]
    peers = ", ".join(
        f"{name} {number}" for name, number in versions.items() if number != "unknown"
    )
    parts.append(
        f"Measured on {machine['cpu']}, {machine['cores']} cores, load {machine['load']} before; "
        f"{peers}; {head['date'][:10]}, commit {head['commit']}, by "
        "`python -m bench.checkpoints`. A process each on all cores, imports not "
        "counted in the time. Memory is the largest resident set, mapped pages included."
    )
    return "\n\n".join(parts)


def _alone(rows: Sequence[Row]) -> str:
    head = (
        "| conversion | read | written | time | CPU time | an element | peak memory |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    lines = (
        f"| {row.job} | {_gb(row.bytes_read)} | {_gb(row.bytes_written)} | {row.seconds:.0f} s "
        f"| {row.cpu_seconds:.1f} s | {row.ns:.2f} ns | {row.peak_mib} MiB |"
        for row in rows
    )
    return f"{_what(rows[0])}\n\n{head}" + "\n".join(lines)


def _beside_tools(rows: Sequence[Row]) -> str:
    ours = {row.job: row for row in rows if row.system == OURS}
    head = (
        "| conversion | time | an element | peak memory | the format's tool | its time | against "
        "ours | its memory |\n|---|---|---|---|---|---|---|---|\n"
    )
    lines = []
    for job, row in ours.items():
        line = f"| {job} | {row.seconds:.2f} s | {row.ns:.2f} ns | {row.peak_mib} MiB "
        for other in rows:
            if other.job == job and other.system != OURS:
                line += f"| {other.system} | {other.seconds:.1f} s "
                line += f"| {other.seconds / row.seconds:.1f} x | {other.peak_mib} MiB "
                break
        else:
            line += "| | | | "
        lines.append(f"{line}|")
    return f"{_what(rows[0])}\n\n{head}" + "\n".join(lines)


def _what(row: Row) -> str:
    where = "on a disk, not in the page cache" if row.on_disk else "in memory (tmpfs)"
    return (
        f"A Llama of {row.elements / 1e9:.2f} G parameters, {_gb(row.elements * 2)} of bfloat16 "
        f"(float16 in the .gguf), {where}:"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="FILE.json")
    parser.add_argument(
        "--measure",
        nargs="*",
        choices=PARTS,
        metavar="PART",
        help=f"run, and write FILE.json; one of {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument("--update", type=Path, metavar="PAGE.md")
    parser.add_argument("--large", choices=MODELS, default="8B", help="on the disk, ours alone")
    parser.add_argument("--small", choices=MODELS, default="1B", help="in memory, with peers")
    parser.add_argument("--place", type=Path, metavar="FOLDER", help="of the large model's files")
    options = parser.parse_args(arguments)
    if options.measure is not None:
        _measure(options)
    head, rows = load_rows(options.run, Row)
    return put(tables(head, rows), options.update, "checkpoints")


def _measure(options: argparse.Namespace) -> None:
    head = describe(["zeropoint", "numpy", *PEERS])
    everybody = [system for _, system in CONVERSIONS]
    parts = options.measure or PARTS
    rows = load_rows(options.run, Row)[1] if options.run.exists() else []
    rows = [row for row in rows if _part(row) not in parts]
    for part in parts:
        size, of = part.split("-")
        model, systems, where = options.large, [OURS], options.place
        if size == "small":
            model, systems, where = options.small, everybody, room()
        with tempfile.TemporaryDirectory(prefix="zeropoint-bench-", dir=where) as place:
            rows += measure(model, of, Path(place), size == "large", systems)
        rows.sort(key=lambda row: PARTS.index(_part(row)))
        save(options.run, head, "rows", [asdict(row) for row in rows])


def _part(row: Row) -> str:
    jobs = {job: of for of, jobs in SOURCES.items() for job in (*jobs, *map(BACK.get, jobs))}
    return f"{'large' if row.on_disk else 'small'}-{jobs[row.job]}"


if __name__ == "__main__":
    raise SystemExit(main())
