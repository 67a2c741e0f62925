"""How good are the ranges?  Observers beside those of torch and ONNX Runtime, on real data.

    python -m bench.calibration             print the table
    python -m bench.calibration --speed     another: how fast observers take data in

With ``--update docs/measured.md`` the table takes its place there, between markers.

Weights and activations of trained networks that come inside packages: wordllama, magika and
silero-vad.  Every tensor goes to every observer in batches, the range it chooses is quantized to
8 bits by `zeropoint`, and the table shows the signal to quantization noise ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import itertools
import sysconfig
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zeropoint as zp
from zeropoint import files
from zeropoint.observers import METHODS

from . import machine, report
from .jobs import KI, MI
from .systems.base import module
from .timing import Timed, best_times

Array = np.ndarray[Any, np.dtype[Any]]
PACKAGES = "wordllama", "magika", "silero-vad"


class Tensor(NamedTuple):
    name: str
    weights: bool  #: weights become symmetric int8, activations uint8
    batches: list[Array]

    @property
    def dtype(self) -> str:
        return "int8" if self.weights else "uint8"


# ---------------------------------------------------------------------------------------------
# The data


def real_tensors() -> Iterator[Tensor]:
    """Weights and activations of the networks; ImportError names a package that is not there."""
    table = files.read_tensor(
        inside("wordllama", "weights/l2_supercat_256.safetensors"), "embedding.weight"
    )
    yield Tensor("wordllama embeddings", True, [table.astype(np.float32)])
    yield from _magika()
    yield from _silero()


def inside(package: str, path: str) -> Path:
    """A file of a package, which is found and not imported: its dependencies play no part."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{package} is not installed; pip install --no-deps {' '.join(PACKAGES)}")
    return Path(spec.submodule_search_locations[0], path)


_MAGIKA = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/"
_MAGIKA_WEIGHTS = {
    _MAGIKA + "Conv_0/transpose_3:0": "magika convolution",
    "jax2tf_get_logits_/Const_24:0": "magika dense layer",
}
_MAGIKA_ACTIVATIONS = {
    _MAGIKA + "ApplyActivation_0/Mul_5:0": "magika GELU 0",
    _MAGIKA + "LayerNorm_0/AddV2_1:0": "magika normalized",
    _MAGIKA + "Conv_0/AddV2:0": "magika before GELU 1",
    _MAGIKA + "ApplyActivation_1/Mul_2:0": "magika cubes in GELU 1",
    _MAGIKA + "ApplyActivation_1/Mul_5:0": "magika GELU 1",
    _MAGIKA + "LayerNorm_1/AddV2_1:0": "magika pooled",
    _MAGIKA + "Dense_1/AddV2:0": "magika logits",
}
_SILERO_WEIGHTS = {
    "model.stft.forward_basis_buffer": "silero Fourier basis",
    "model.encoder.0.reparam_conv.weight": "silero encoder 0",
    "model.encoder.3.reparam_conv.weight": "silero encoder 3",
    "model.decoder.rnn.weight_ih": "silero LSTM, input",
    "model.decoder.rnn.weight_hh": "silero LSTM, hidden",
    "model.decoder.rnn.bias_hh": "silero LSTM, bias",
}
_SILERO_ACTIVATIONS = {
    "/model/stft/Sqrt_output_0": "silero spectrum",
    "/model/encoder/0/reparam_conv/Conv_output_0": "silero before ReLU 0",
    "/model/encoder/0/activation/Relu_output_0": "silero ReLU 0",
    "/model/encoder/3/activation/Relu_output_0": "silero ReLU 3",
    "stateN": "silero LSTM state",
}


def _magika() -> Iterator[Tensor]:
    """Fed with Python's own library: the first and last 1024 bytes of 16 files."""
    model = _load("magika", "models/standard_v3_3/model.onnx")
    yield from _weights(model, _MAGIKA_WEIGHTS)
    found = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:16]
    rows = np.full((len(found), 2048), 256, np.int32)  # 256 stands for no byte
    for row, path in zip(rows, found, strict=True):
        data = np.frombuffer(path.read_bytes(), np.uint8)
        row[: data[:1024].size] = data[:1024]
        row[2048 - data[-1024:].size :] = data[-1024:]
    run = _runner(model, _MAGIKA_ACTIVATIONS)
    results = [run({"bytes": part}) for part in np.split(rows, 4)]
    for name, title in _MAGIKA_ACTIVATIONS.items():
        yield Tensor(title, False, [result[name] for result in results])


def _silero() -> Iterator[Tensor]:
    """Fed with four seconds of a synthetic voice: no package brings a recording."""
    model = _load("silero_vad", "data/silero_vad_16k_op15.onnx")
    yield from _weights(model, _SILERO_WEIGHTS)
    run = _runner(model, _SILERO_ACTIVATIONS)
    sound, state = _voice(4 * 16000), np.zeros((2, 1, 128), np.float32)
    results = []
    for start in range(0, sound.size - 576, 512):
        chunk = {"input": sound[None, start : start + 576], "sr": np.array(16000, np.int64)}
        results.append(run(chunk | {"state": state}))
        state = results[-1]["stateN"]
    for name, title in _SILERO_ACTIVATIONS.items():
        parts = np.array_split(np.stack([result[name] for result in results]), 8)
        yield Tensor(title, False, parts)


def _voice(n: int) -> Array:
    """Overtones of about 120 Hz around a formant at 700 Hz, on and off, and some noise."""
    t = np.arange(n) / 16000
    phase = 2 * np.pi * np.cumsum(120 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))) / 16000
    voice = sum(
        np.sin(k * phase) / k * np.exp(-(((k * 120 - 700) / 600) ** 2)) for k in range(1, 30)
    )
    noise = np.random.default_rng(0).normal(size=n)
    return np.asarray(0.3 * voice * (np.sin(8 * t) > 0) + 0.005 * noise, np.float32)


def _load(package: str, path: str) -> Any:
    return module("onnx").load(inside(package, path))


def _weights(model: Any, titles: dict[str, str]) -> Iterator[Tensor]:
    to_array = module("onnx.numpy_helper").to_array
    stored = {each.name: each for each in model.graph.initializer}
    for name, title in titles.items():
        yield Tensor(title, True, [to_array(stored[name])])


def _runner(model: Any, names: Collection[str]) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """The network with these inner results as its outputs."""
    inferred = module("onnx.shape_inference").infer_shapes(model).graph.value_info
    inner = {info.name: info for info in inferred}
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(inner[name] for name in names if name not in known)
    session = module("onnxruntime").InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda inputs: dict(zip(names, session.run(list(names), inputs), strict=True))


# ---------------------------------------------------------------------------------------------
# The observers

Observe = Callable[[Sequence[Array], Tensor], zp.QuantParams]


def ours(method: str) -> Observe:
    def observe(batches: Sequence[Array], tensor: Tensor) -> zp.QuantParams:
        observer = zp.HistogramObserver()
        for batch in batches:
            observer.update(batch)
        return observer.params(tensor.dtype, method=method, symmetric=tensor.weights)

    return observe


def torch_histogram(batches: Sequence[Array], tensor: Tensor) -> zp.QuantParams:
    """torch.ao.quantization.HistogramObserver as it comes: 2048 bins, least squared error."""
    torch = module("torch")
    observer = module("torch.ao.quantization.observer").HistogramObserver(
        dtype=torch.qint8 if tensor.weights else torch.quint8,
        qscheme=torch.per_tensor_symmetric if tensor.weights else torch.per_tensor_affine,
    )
    for batch in batches:
        observer(torch.from_numpy(batch))
    scale, zero_point = observer.calculate_qparams()
    return zp.QuantParams(scale.item(), int(zero_point), tensor.dtype, convention="torch")


def onnxruntime_histogram(method: str, bins: int) -> Observe:
    """The collector inside ONNX Runtime's calibrators, fed with arrays."""

    def observe(batches: Sequence[Array], tensor: Tensor) -> zp.QuantParams:
        calibrate = module("onnxruntime.quantization.calibrate")
        collector = calibrate.HistogramCollector(method, tensor.weights, bins, 128, 99.999, "same")
        with contextlib.redirect_stdout(io.StringIO()):  # it tells what it does
            for batch in batches:
                collector.collect({"x": batch})
            low, high = collector.compute_collection_result()["x"][:2]
        ends = np.array([low, high], np.float32)
        return zp.choose_params(ends, tensor.dtype, symmetric=tensor.weights, convention="onnx")

    return observe


OURS = {method: ours(method) for method in METHODS}
PEERS = {
    "torch": torch_histogram,
    "ORT percentile": onnxruntime_histogram("percentile", 2048),
    "ORT entropy": onnxruntime_histogram("entropy", 128),
    "ORT entropy, 2048 bins": onnxruntime_histogram("entropy", 2048),
}


# ---------------------------------------------------------------------------------------------
# The table


def table(tensors: Sequence[Tensor]) -> str:
    """SQNR in dB of every observer's choice for every tensor, and whether it depends on order."""
    observers = OURS | PEERS
    lines = [
        f"| tensor | elements | {' | '.join(observers)} |",
        "|---|---" + "|---" * len(observers) + "|",
    ]
    changed = dict.fromkeys(observers, 0)
    several = [tensor for tensor in tensors if len(tensor.batches) > 1]
    for tensor in tensors:
        x = np.concatenate([batch.ravel() for batch in tensor.batches])
        chosen = {name: observe(tensor.batches, tensor) for name, observe in observers.items()}
        figures = {name: zp.error_stats(x, params).sqnr_db for name, params in chosen.items()}
        best = f"{max(figures.values()):.2f}"
        cells = [f"{figure:.2f}" for figure in figures.values()]
        cells = [f"**{cell}**" if cell == best else cell for cell in cells]
        kind = f"{tensor.name}, {'weights' if tensor.weights else 'activations'}"
        lines.append(f"| {kind} | {x.size:,} | {' | '.join(cells)} |")
        if len(tensor.batches) > 1:
            for name, observe in observers.items():
                changed[name] += observe(tensor.batches[::-1], tensor) != chosen[name]
    counts = " | ".join(f"{count} of {len(several)}" for count in changed.values())
    lines.append(f"| other parameters when the batches come in reverse order | | {counts} |")
    return "\n".join(lines)


def speed() -> str:
    """Gelem/s of `update` beside `min_max`, which looks at the data once and keeps two numbers."""
    lines = [
        "| threads | elements | zp.min_max | MinMaxObserver | HistogramObserver "
        "| torch HistogramObserver | ORT collector |",
        "|---|---|---|---|---|---|---|",
    ]
    torch = module("torch")
    collector = module("onnxruntime.quantization.calibrate").HistogramCollector
    for threads, size in itertools.product((1, 2), (64 * KI, MI, 64 * MI)):
        zp.set_num_threads(threads)
        torch.set_num_threads(threads)
        x = np.random.default_rng(0).standard_normal(size, np.float32)
        ours = [zp.MinMaxObserver().update(x), zp.HistogramObserver().update(x)]
        theirs = module("torch.ao.quantization.observer").HistogramObserver()
        collect = collector("percentile", False, 2048, 128, 99.999, "same").collect_value
        calls: dict[str, Callable[[], Any]] = {
            "min_max": functools.partial(zp.min_max, x),
            **{type(each).__name__: functools.partial(each.update, x) for each in ours},
            "torch": functools.partial(theirs, torch.from_numpy(x)),
            "ORT": functools.partial(collect, {"x": x}),
        }
        timed = {name: Timed(call, contextlib.nullcontext) for name, call in calls.items()}
        found = best_times(timed, 0.5, rest=True)
        rates = [size / best.seconds / 1e9 for best in found.values()]
        cells = [f"{rate:.2f} ({rate / rates[0]:.2f} x)" for rate in rates]
        lines.append(f"| {threads} | {report.size_name(size)} | {' | '.join(cells)} |")
    zp.set_num_threads(0)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.calibration", description=__doc__)
    parser.add_argument("--update", type=Path, metavar="FILE.md", help="the file to rewrite")
    parser.add_argument("--speed", action="store_true", help="a table of the speed of `update`")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # torch's, about its observers
    what = "speed" if options.speed else "calibration"
    packages = ("zeropoint", "torch", "onnxruntime", *(() if options.speed else PACKAGES))
    text = ", ".join(f"{name} {version(name)}" for name in packages)
    if options.speed:
        text += f"; {machine.describe([])['machine']['cpu']}. Gelem/s:\n\n{speed()}"
    else:
        text += f". SQNR in dB:\n\n{table(list(real_tensors()))}"
    return report.put(text, options.update, what)


if __name__ == "__main__":
    raise SystemExit(main())
