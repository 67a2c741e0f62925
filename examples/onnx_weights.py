"""Two real ONNX models with 8-bit weights: size, error of the weights, and what comes out.

    pip install ".[onnx]" onnxruntime sympy
    pip install --no-deps magika==1.0.3 silero-vad==6.2.3
    python examples/onnx_weights.py

magika tells the type of a file from its bytes, Silero VAD speech from other sound.
"""

import logging
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
    import sympy  # noqa: F401  (onnxruntime's quant_pre_process has need of it)
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from zeropoint.interop.onnx import quantize_weights, report

    # found and not imported: the packages' own dependencies play no part
    MAGIKA = Path(distribution("magika").locate_file("magika"))
    SILERO = Path(distribution("silero-vad").locate_file("silero_vad"))
except ImportError as error:
    sys.exit(f"onnx_weights.py: {error}; its first lines say what to install")


def file_types(session):
    """magika's probabilities, [files, types], for the files of both packages."""
    rows = []
    for path in sorted(MAGIKA.rglob("*")) + sorted(SILERO.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and path.stat().st_size:
            data = path.read_bytes()
            first, last = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
            rows.append([*first, *[256] * (2048 - len(first) - len(last)), *last])  # 256: padding
    return session.run(None, {"bytes": np.array(rows, np.int32)})[0]


def speech(session, rate=16000, seconds=4):
    """Silero's probabilities, [chunks, (other, speech)], for a synthetic voice with pauses."""
    t = np.arange(rate * seconds) / rate
    pitch = 120 + 20 * np.sin(4.4 * t) + 5 * np.sin(31 * t)
    harmonics = np.arange(1, 40)[:, None]
    resonances = (500 + 250 * np.sin(13 * t), 90), (1500 + 600 * np.sin(8 * t + 1), 120)
    loud = sum(1 / (1 + ((harmonics * pitch - f) / width) ** 2) for f, width in resonances)
    voice = np.sum(loud * np.sin(2 * np.pi * harmonics * np.cumsum(pitch) / rate), axis=0)
    voice *= 0.08 * np.clip(np.sin(22 * t) + 0.4, 0, 1) * (t % 2 < 1.3)  # syllables and pauses
    voice += np.random.default_rng(0).normal(0, 0.002, len(t))

    state, before, found = np.zeros((2, 1, 128), np.float32), np.zeros(64), []
    for chunk in np.split(voice, len(voice) // 512):
        x = np.float32([[*before, *chunk]])
        p, state = session.run(None, {"input": x, "state": state, "sr": np.array(rate)})
        before = chunk[-64:]
        found.append([1 - p.item(), p.item()])
    return np.array(found)


def by_onnxruntime(path):
    """Its quantizer without calibration: activations become 8-bit too, when the model runs."""
    logging.disable(logging.WARNING)
    inside = {"EnableSubgraph": True}  # Silero's weights are in the bodies of an If
    with tempfile.TemporaryDirectory() as folder:
        ready, done = Path(folder, "ready.onnx"), Path(folder, "done.onnx")
        quant_pre_process(path, ready, skip_symbolic_shape=True)
        quantize_dynamic(
            ready, done, per_channel=True, weight_type=QuantType.QInt8, extra_options=inside
        )
        return onnx.load(done)


def main(path, probabilities):
    """Print the figures of one model; whether zeropoint's gives the answers of the float model."""
    true = probabilities(onnxruntime.InferenceSession(path))
    ours = quantize_weights(path)
    onnx.checker.check_model(ours, full_check=True)
    print(f"{path.name}\n\n{report(path, ours)}\n")
    print(f"{'':20}{'bytes':>10}{'output SQNR dB':>16}{'max change':>12}{'same answer':>14}")
    print(f"{'float':20}{path.stat().st_size:10,}")
    figures = {}
    for name, model in {
        "zeropoint": ours,
        "one scale per tensor": quantize_weights(path, axis=None),
        "onnxruntime": by_onnxruntime(path),  # one per tensor for Conv, whatever per_channel says
    }.items():
        p = probabilities(onnxruntime.InferenceSession(model.SerializeToString()))
        change, same = np.abs(p - true), np.mean(p.argmax(axis=1) == true.argmax(axis=1))
        sqnr = 10 * np.log10(np.sum(true**2) / np.sum(change**2))
        print(f"{name:20}{model.ByteSize():10,}{sqnr:16.1f}{change.max():12.5f}{same:14.1%}")
        figures[name] = sqnr, same
    print()
    sqnr, same = figures["zeropoint"]
    return sqnr > 30 and same > 0.99


if __name__ == "__main__":
    good = [
        main(MAGIKA / "models/standard_v3_3/model.onnx", file_types),
        main(SILERO / "data/silero_vad.onnx", speech),
    ]
    sys.exit(None if all(good) else "8-bit weights change the answers")
