"""A model calibrated once, quantized by each method: which one suits it, on files it has not seen.

    pip install ".[onnxruntime]"
    pip install --no-deps magika==1.0.3
    python examples/onnx_calibration.py

magika tells the type of a file from its bytes.  Its batches differ in length, which ONNX Runtime's
own Percentile and Entropy calibrators refuse.
"""

import logging
import os
import sys
import sysconfig
import tempfile
from importlib.metadata import distribution
from pathlib import Path

try:
    import numpy as np
    import onnxruntime
    from onnxruntime.quantization import quantize_static

    from zeropoint.interop.onnx import Calibration, calibrate

    # found and not imported: the package's own dependencies play no part
    MODEL = Path(distribution("magika").locate_file("magika/models/standard_v3_3/model.onnx"))
except ImportError as error:
    sys.exit(f"onnx_calibration.py: {error}; its first lines say what to install")

METHODS = "mse", "minmax", "percentile", "entropy"
OPERATORS = ["MatMul", "Conv"]  # the layer norms and cubes between them stay in float32


def files(each=8):
    """Paths in Python's installation, at most so many of a suffix."""
    found = {}
    for folder, inner, names in os.walk(sysconfig.get_path("stdlib")):
        inner[:] = sorted({*inner} - {"site-packages", "__pycache__"})
        for path in (Path(folder, name) for name in sorted(names)):
            found.setdefault(path.suffix, []).append(path)
    paths = [path for some in found.values() for path in some[:: -(-len(some) // each)]]
    paths = [path for path in paths if path.stat().st_size > 16]
    return [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]


def feed(paths):
    """The first and last 1024 bytes of each file; 256 stands for no byte."""
    rows = []
    for path in paths:
        data = path.read_bytes()
        first, last = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
        rows.append([*first, *[256] * (2048 - len(first) - len(last)), *last])
    return {"bytes": np.array(rows, np.int32)}


def answers(path, paths):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, feed(paths[i : i + 8]))[0] for i in range(0, 48, 8)])


def main():
    paths = files()
    seen, unseen = paths[:27], paths[27:75]
    true = answers(MODEL, unseen)
    # two workers, each with a part of the data; what they send each other is JSON
    parts = [
        calibrate(MODEL, (feed(part[i : i + 8]) for i in range(0, len(part), 8))).to_dict()
        for part in (seen[:16], seen[16:])
    ]
    first, second = map(Calibration.from_dict, parts)
    calibration = first.merge(second)
    print(f"{calibration!r}\n\n{'method':12}{'bytes':>12}{'SQNR dB':>12}{'same answer':>14}")
    size = MODEL.stat().st_size
    print(f"{'float':12}{size:12,}")
    found = {}
    logging.disable(logging.WARNING)  # it recommends a preparation
    for method in METHODS:
        with tempfile.TemporaryDirectory() as folder:
            cache, done = Path(folder, "cache.json"), Path(folder, "quantized.onnx")
            calibration.save_ort_cache(cache, method=method)
            quantize_static(
                MODEL,
                done,
                None,  # no data: the cache has what it would have found
                calibration_cache_path=cache,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
            )
            p, size = answers(done, unseen), done.stat().st_size
        sqnr = 10 * np.log10(np.sum(true**2) / np.sum((p - true) ** 2))
        same = np.mean(p.argmax(axis=1) == true.argmax(axis=1))
        print(f"{method:12}{size:12,}{sqnr:12.1f}{same:14.1%}")
        found[method] = sqnr
    return max(found.values()) > 15


if __name__ == "__main__":
    sys.exit(None if main() else "8 bits change the answers")
