"""An embedding table in int8: how many neighbours are still found, beside the usual one-liner.

    pip install ".[demo]"
    python examples/embeddings.py [VECTORS.npy]

The table is real: the token embeddings of wordllama, float16 [32000, 256], inside its wheel.  With
VECTORS.npy it is yours, of floats [rows, dimensions], and then `pip install .` will do.
"""

import sys
import time
from importlib.metadata import distribution

try:
    import numpy as np

    import zeropoint as zp
    from zeropoint.embeddings import EmbeddingQuantizer
    from zeropoint.files import read_tensor

    if len(sys.argv) < 2:  # found and not imported: the package's own dependencies play no part
        TABLE = distribution("wordllama").locate_file(
            "wordllama/weights/l2_supercat_256.safetensors"
        )
except ImportError as error:
    sys.exit(f"embeddings.py: {error}; its first lines say what to install")

QUERIES, NEIGHBOURS = 2000, 10


def unit(x):
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)


def neighbours(table, rows, chosen):
    """The nearest rows of `table` for each of the chosen rows, by cosine, without itself."""
    table, found = unit(table), []
    for start in range(0, len(chosen), 50):  # as many as the cache holds
        chunk = chosen[start : start + 50]
        scores = rows[chunk] @ table.T
        scores[np.arange(len(chunk)), chunk] = -2  # the row itself does not count
        found.append(np.argpartition(scores, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:])
    return np.concatenate(found)


def timed(call):
    """The result, and milliseconds: the best of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, 1e3 * min(seconds)


def main():
    yours = len(sys.argv) > 1
    table = np.load(sys.argv[1]) if yours else read_tensor(TABLE, "embedding.weight")
    if table.ndim != 2 or table.dtype.kind != "f" or len(table) <= NEIGHBOURS:
        sys.exit(f"embeddings.py: {table.dtype} {table.shape} is no table of 11 rows of floats")
    rows = unit(table)
    chosen = np.random.default_rng(0).choice(len(rows), min(QUERIES, len(rows)), replace=False)
    true = neighbours(table, rows, chosen)

    # one scale per row: rows differ in length, and each can use all codes
    how = {"dtype": "int8", "axis": 0, "symmetric": True}
    (codes, params), ms = timed(lambda: zp.quantize_dynamic(table, **how))
    (alike, of_unit), unit_ms = timed(lambda: zp.quantize_dynamic(rows, **how))
    # a range per dimension, as sentence-transformers and faiss have it
    quantizer = EmbeddingQuantizer("sentence-transformers").fit(rows)
    theirs, theirs_ms = timed(lambda: quantizer.transform(rows))
    # what is often written instead: values beyond 1 wrap, and nothing is rounded
    with np.errstate(invalid="ignore"):
        wrapped, wrapped_ms = timed(lambda: (table * 127).astype(np.int8))
    # the same with unit vectors: nothing wraps, but few codes are used
    coarse, coarse_ms = timed(lambda: (unit(table) * 127).astype(np.int8))

    print(
        f"{len(table):,} rows of {table.shape[1]}; {len(chosen)} queries, {NEIGHBOURS} neighbours\n"
    )
    print(f"{'':32}{'bytes':>12}{'mean cosine':>13}{'min':>9}{'recall@10':>11}{'ms':>8}")
    print(f"{'float32':32}{rows.nbytes:12,}")
    print(f"{f'{table.dtype}, as stored':32}{table.nbytes:12,}{1:13.5f}{1:9.5f}{1:11.4f}{'-':>8}")
    figures = {}
    for name, back, size, spent in (
        ("zeropoint, one scale per row", zp.dequantize(codes, params), params.scale.nbytes, ms),
        ("zeropoint, of unit rows", zp.dequantize(alike, of_unit), of_unit.scale.nbytes, unit_ms),
        ("sentence-transformers' codes", quantizer.inverse_transform(theirs), 0, theirs_ms),
        ("(x * 127).astype(int8)", wrapped, 0, wrapped_ms),
        ("(unit rows * 127).astype(int8)", coarse, 0, coarse_ms),
    ):
        cosine = np.sum(rows * unit(back), axis=1)
        pairs = zip(true, neighbours(back, rows, chosen), strict=True)
        recall = np.mean([np.isin(*pair).mean() for pair in pairs])  # the share of the true ones
        print(f"{name:32}{codes.nbytes + size:12,}{cosine.mean():13.5f}{cosine.min():9.5f}", end="")
        print(f"{recall:11.4f}{spent:8.1f}")
        figures[name] = cosine.min(), recall
    worst, recall = figures["zeropoint, one scale per row"]
    good = yours or (worst > 0.9999 and recall > 0.99)
    sys.exit(None if good else "the int8 table is not good enough")


if __name__ == "__main__":
    main()
