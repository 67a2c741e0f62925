"""Calibration of ONNX models: `zeropoint.interop.onnx.calibrate` beside ONNX Runtime's calibrators.

    python -m bench.onnx_calibration FILE.json --measure         run, and write FILE.json
    python -m bench.onnx_calibration FILE.json --measure cost    or only this part, or quality
    python -m bench.onnx_calibration FILE.json                   print its tables
    python -m bench.onnx_calibration FILE.json --update PAGE.md  put them between the page's markers

Cost: time and peak memory of calibrating magika, whose batch is one file, and silero-vad, whose
batch is 36 ms of sound.  Each row is a process of its own.  What would need more than half of the
memory that is free is not run.

Quality: the model that quantize_static makes of the ranges, int8 weights per channel, beside the
float model, on data that no calibration has seen; the mean of several draws of the data.

Both models have their MatMul and Conv quantized: as a whole in 8 bits neither works, by any
calibrator (magika computes layer norms and x**3, silero squares), and ONNX Runtime's Percentile
refuses magika's activations ("Too many bins for data range").

Needs the packages magika and silero-vad (for their models alone), onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .calibration import inside
from .machine import describe
from .report import put, save
from .systems.base import module
from .systems.onnxruntime import calibrated

Array = np.ndarray[Any, np.dtype[Any]]
Feed = Mapping[str, Any]

OPERATORS = ["MatMul", "Conv"]  #: of the models whose outputs are compared
BATCHES = [20, 200, 2000]
OURS: dict[str, dict[str, Any]] = {  #: keywords of save_ort_cache
    "mse": {"method": "mse"},
    "minmax": {"method": "minmax"},
    "percentile": {"method": "percentile"},
    "percentile 99.9999": {"method": "percentile", "percentile": 99.9999},
    "entropy": {"method": "entropy"},
}
THEIRS = ("MinMax", "Percentile", "Entropy")
MODELS = {
    "magika": ("magika", "models/standard_v3_3/model.onnx"),
    "silero": ("silero_vad", "data/silero_vad_16k_op15.onnx"),
}


@dataclass(frozen=True)
class Cost:
    system: str  #: a calibrator, or "run" for the activations alone
    model: str
    batches: int
    seconds: float | None  #: None where it was not run
    peak_mib: float  #: above the process before; where it was not run, what it would be


@dataclass(frozen=True)
class Quality:
    system: str
    model: str
    draws: int
    sqnr_db: float
    agreement: float  #: share of the decisions of the float model


# ---------------------------------------------------------------------------------------------
# The data


def session(path: str | Path) -> Any:
    onnxruntime = module("onnxruntime")
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def real_files(each: int = 12) -> list[Path]:
    """Files of Python's installation and of two packages, at most so many of a suffix."""
    found: dict[str, list[Path]] = {}
    installed = sysconfig.get_path("stdlib")
    for root in Path(installed), Path(np.__file__).parent, inside("onnx", ""):
        for folder, inner, names in os.walk(root):
            inner[:] = sorted({*inner} - {"site-packages", "__pycache__"})
            for path in (Path(folder, name) for name in sorted(names)):
                if path.suffix:
                    found.setdefault(path.suffix, []).append(path)
    picked = [paths[:: -(-len(paths) // each)] for _, paths in sorted(found.items())]
    some = [Path(sys.executable).resolve(), *(path for paths in picked for path in paths)]
    return [path for path in some if path.stat().st_size > 16]


def magika_feed(paths: Sequence[Path]) -> Feed:
    """The first and last 1024 bytes of files, as the package gives them to its model."""
    rows = []
    for path in paths:
        data = path.read_bytes()
        first, last = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
        rows.append([*first, *[256] * (2048 - len(first) - len(last)), *last])  # 256: no byte
    return {"bytes": np.array(rows, np.int32)}


def voice(rng: np.random.Generator, seconds: float) -> Array:
    """Overtones around three moving formants, in syllables, of any loudness; and noise."""
    t = np.arange(int(seconds * 16000)) / 16000
    pitch = rng.uniform(80, 280) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * t))
    overtones = np.arange(1, 40)[:, None]
    formants = (
        (rng.uniform(300, 800) + rng.uniform(50, 300) * np.sin(rng.uniform(5, 15) * t), 90),
        (rng.uniform(900, 2300) + 400 * np.sin(rng.uniform(4, 10) * t + 1), 120),
        (rng.uniform(2300, 3200), 160),
    )
    loud = sum(1 / (1 + ((overtones * pitch - f) / width) ** 2) for f, width in formants)
    x = np.sum(loud * np.sin(2 * np.pi * overtones * np.cumsum(pitch) / 16000), axis=0)
    x *= np.clip(np.sin(rng.uniform(12, 25) * t) + 0.4, 0, 1) * (t % 2 < 1.3)
    x *= 10 ** rng.uniform(-1.3, -0.1) / np.abs(x).max()
    return np.asarray(x + rng.normal(0, 10 ** rng.uniform(-4, -2), len(t)), np.float32)


def silero_feeds(model: Any, sound: Array) -> Iterator[Feed]:
    """Chunks of sound, each with the float model's state after the one before."""
    state = np.zeros((2, 1, 128), np.float32)
    for start in range(0, sound.size - 576, 512):
        chunk = sound[None, start : start + 576]
        feed = {"input": chunk, "state": state, "sr": np.array(16000, np.int64)}
        yield feed
        _, state = model.run(None, feed)


def draw(model: str, seed: int, count: int) -> tuple[list[Feed], list[Feed]]:
    """Feeds to calibrate with, and four times as many (silero: as many) to compare outputs on."""
    rng = np.random.default_rng(seed)
    if model == "magika":
        files = real_files()
        order = [files[i] for i in rng.permutation(len(files))[: 8 * 5 * count]]
        batches = [magika_feed(order[i : i + 8]) for i in range(0, len(order) - 7, 8)]
        return batches[:count], batches[count:]
    float_model = session(inside(*MODELS["silero"]))
    halves = [[voice(rng, 2) for _ in range(count)] for _ in range(2)]
    first, second = (
        [feed for sound in sounds for feed in silero_feeds(float_model, sound)] for sounds in halves
    )
    return first, second


# ---------------------------------------------------------------------------------------------
# Quality


def outputs(path: Path, feeds: Sequence[Feed]) -> list[Array]:
    model = session(path)
    runs = [model.run(None, feed) for feed in feeds]
    return [np.concatenate([run[i] for run in runs]) for i in range(len(runs[0]))]


def sqnr(true: Array, found: Array) -> float:
    error = np.sum((true.astype(np.float64) - found) ** 2)
    return float(10 * np.log10(np.sum(true.astype(np.float64) ** 2) / error))


def agreement(true: Array, found: Array) -> float:
    """Of the types of files, or of speech and other sound."""
    if true.shape[1] == 1:
        return float(np.mean((true > 0.5) == (found > 0.5)))
    return float(np.mean(true.argmax(axis=1) == found.argmax(axis=1)))


def quantized(
    path: Path, system: str, feeds: Sequence[Feed], calibration: Any, out: Path, **options: Any
) -> Path:
    """The model that quantize_static makes, by one of `THEIRS`, or of our `calibration`."""
    quantization = module("onnxruntime.quantization")
    logging.disable(logging.WARNING)  # it recommends a preparation
    reader, cache = None, None
    if system in THEIRS:
        reader = module("zeropoint.interop.onnx").calibration_reader(feeds)
        options["calibrate_method"] = quantization.CalibrationMethod[system]
    else:
        cache = out.with_suffix(".json")
        calibration.save_ort_cache(cache, **OURS[system])
    with contextlib.redirect_stdout(io.StringIO()):
        quantization.quantize_static(
            path,
            out,
            reader,
            calibration_cache_path=cache,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            **options,
        )
    return out


def qualities(model: str, draws: int, count: int) -> Iterator[Quality]:
    path = inside(*MODELS[model])
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*OURS, *THEIRS)}
    for seed in range(draws):
        feeds, unseen = draw(model, seed, count)
        true = outputs(path, unseen)
        calibration = module("zeropoint.interop.onnx").calibrate(path, feeds)
        for system, each in found.items():
            with tempfile.TemporaryDirectory() as folder:
                out = quantized(path, system, feeds, calibration, Path(folder, "q.onnx"))
                got = outputs(out, unseen)
            # silero's result is its state: its probability is nearly always close to 0 or 1
            each.append((sqnr(true[-1], got[-1]), agreement(true[0], got[0])))
    for system, each in found.items():
        mean = np.mean(each, axis=0)
        yield Quality(system, model, draws, float(mean[0]), float(mean[1]))


# ---------------------------------------------------------------------------------------------
# Cost


def endless(model: str) -> Iterator[Feed]:
    rng = np.random.default_rng(0)
    if model == "magika":
        files = real_files()
        while True:
            yield from (magika_feed([path]) for path in files)
    float_model = session(inside(*MODELS["silero"]))
    while True:
        yield from silero_feeds(float_model, voice(rng, 2))


def activations(path: Path) -> list[str]:
    """What the operators to quantize take and make."""
    graph = module("onnx").load(path).graph
    constants = {each.name for each in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    nodes = [node for node in graph.node if node.op_type in OPERATORS]
    return [name for node in nodes for name in (*node.input, *node.output) if name not in constants]


class Reader:
    """The first feeds, for ONNX Runtime's calibrators and for ours."""

    def __init__(self, model: str, count: int) -> None:
        self.feeds, self.left = endless(model), count

    def get_next(self) -> Feed | None:
        self.left -= 1
        return next(self.feeds) if self.left >= 0 else None


def one(system: str, model: str, count: int) -> Cost:
    """Calibrate in this process."""
    path, reader = inside(*MODELS[model]), Reader(model, count)
    interop = module("zeropoint.interop.onnx")
    module("onnxruntime.quantization")  # which is not to be timed
    names = activations(path)
    work: Callable[[str], object]
    if system == "run":
        run = module("zeropoint.interop._onnx_calibration")._Run(path, names, (), None)

        def work(folder: str) -> None:
            for feed in iter(reader.get_next, None):
                for _ in run(feed, ""):
                    pass

    elif system in OURS:

        def work(folder: str) -> None:
            found = interop.calibrate(path, reader, method=system, tensors=names)
            found.save_ort_cache(Path(folder, "cache.json"))

    else:

        def work(folder: str) -> None:
            calibrated(path, reader, system, Path(folder), OPERATORS)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        before, start = peak_mib(), time.perf_counter()
        work(folder)
        seconds = time.perf_counter() - start
    return Cost(system, model, count, seconds, peak_mib() - before)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def costs(counts: Sequence[int]) -> Iterator[Cost]:
    room = free_mib() / 2
    for model in MODELS:
        for system in ("run", "mse", "minmax", *THEIRS):
            before: list[Cost] = []
            for count in counts:
                needed = 0.0
                if len(before) > 1:
                    last, first = before[-1], before[-2]
                    growth = (last.peak_mib - first.peak_mib) / (last.batches - first.batches)
                    needed = last.peak_mib + growth * (count - last.batches)
                if needed > room:
                    yield Cost(system, model, count, None, needed)
                    continue
                command = [sys.executable, "-m", "bench.onnx_calibration"]
                command += ["--one", system, model, str(count)]
                ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                before.append(Cost(**json.loads(ran.stdout)))
                yield before[-1]


def free_mib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) / 1024
    raise OSError("/proc/meminfo does not say what is free")


# ---------------------------------------------------------------------------------------------
# The tables

_NAMES = {
    "run": "the model alone, all activations fetched",
    **{name: f"zeropoint {name}" for name in OURS},
    **{name: f"ONNX Runtime {name}" for name in THEIRS},
}


def markdown(head: Mapping[str, Any], rows: Sequence[Cost], found: Sequence[Quality]) -> str:
    versions = {name: head["versions"][name] for name in PACKAGES if name in head["versions"]}
    lines = [
        f"zeropoint {head['zeropoint']['version']}, "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; {head['machine']['cpu']}, {head['machine']['cores']} cores.",
        "",
    ]
    for model in MODELS:
        table = {(row.system, row.batches): row for row in rows if row.model == model}
        counts = sorted({count for _, count in table})
        if not counts:
            continue  # the cost was not measured
        lines.append(f"| {model}, batches | " + " | ".join(f"{n:,}" for n in counts) + " |")
        lines.append("|---" * (len(counts) + 1) + "|")
        for system in dict.fromkeys(name for name, _ in table):
            cells = [_cost(table[system, count]) for count in counts]
            lines.append(f"| {_NAMES[system]} | {' | '.join(cells)} |")
        lines.append("")
    lines.append("| | " + " | ".join(f"{model}, SQNR | same answer" for model in MODELS) + " |")
    lines.append("|---" * (2 * len(MODELS) + 1) + "|")
    best = {
        model: max(each.sqnr_db for each in found if each.model == model)
        for model in dict.fromkeys(each.model for each in found)
    }
    for system in dict.fromkeys(each.system for each in found):
        cells = []
        for each in found:
            if each.system == system:
                bold = "**" * (each.sqnr_db == best[each.model])
                cells += [f"{bold}{each.sqnr_db:.1f} dB{bold}", f"{each.agreement:.1%}"]
        lines.append(f"| {_NAMES[system]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cost(row: Cost) -> str:
    size = f"{row.peak_mib:,.0f} MiB" if row.peak_mib < 10_000 else f"{row.peak_mib / 1024:.0f} GiB"
    return f"would need {size}" if row.seconds is None else f"{row.seconds:.3g} s, {size}"


def _row(row: dict[str, Any]) -> Cost | Quality:
    return Quality(**row) if "draws" in row else Cost(**row)


PACKAGES = ["onnxruntime", "magika", "silero-vad"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.onnx_calibration", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, metavar="FILE.json", nargs="?")
    parts = ("cost", "quality")
    parser.add_argument("--measure", nargs="*", choices=parts, help="run first (all), and write")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--draws", type=int, nargs=2, default=[4, 16], help="of magika, of silero")
    parser.add_argument("--update", type=Path, metavar="PAGE.md", help="the page to rewrite")
    parser.add_argument("--one", nargs=3, metavar="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        system, model, count = options.one
        print(json.dumps(asdict(one(system, model, int(count)))))
        return 0
    if options.run is None:
        parser.error("the following arguments are required: FILE.json")
    if options.measure is not None:
        wanted = options.measure or parts
        head = describe([*PACKAGES, "onnx", "numpy"])
        rows: list[Cost | Quality] = []
        if wanted != ["quality"]:
            rows += costs(sorted(options.batches))
        if wanted != ["cost"]:
            for model, draws, count in zip(MODELS, options.draws, (6, 6), strict=True):
                rows += qualities(model, draws, count)
        kinds = {type(row) for row in rows}
        old = json.loads(options.run.read_text())["rows"] if options.run.exists() else []
        rows += [kept for kept in map(_row, old) if type(kept) not in kinds]
        save(options.run, head, "rows", [asdict(row) for row in rows])
    document = json.loads(options.run.read_text(encoding="utf-8"))
    found = [_row(row) for row in document.pop("rows")]
    text = markdown(
        document,
        [row for row in found if isinstance(row, Cost)],
        [row for row in found if isinstance(row, Quality)],
    )
    return put(text, options.update, "onnx-calibration")


if __name__ == "__main__":
    raise SystemExit(main())
