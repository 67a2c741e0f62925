"""An embedding table in Ray Data: one pass fits a quantizer, another makes the codes.

    pip install ".[arrow]" "ray[data]>=2.50"
    python examples/scale_out/ray_embeddings.py TABLE.parquet CODES [COLUMN]

CODES becomes a folder of Parquet, with the quantizer beside it in CODES.json.  On a cluster, where
zeropoint must be installed on every node, use `ray job submit`.  `table.py` beside this file makes
a table, and checks that the codes are those of one process.
"""

import json
import sys
import time
from pathlib import Path

try:
    import pyarrow as pa
    import ray
    import ray.data
    from ray.data import SaveMode

    from zeropoint import arrow
    from zeropoint.embeddings import EmbeddingQuantizer
except ImportError as error:
    sys.exit(f"ray_embeddings.py: {error}; its first lines say what to install")

# Arrow tables of so many rows, as they lie in Ray's memory
BATCHES = {"batch_format": "pyarrow", "batch_size": 1 << 16, "zero_copy_batch": True}


def fit(dataset, column):
    """A quantizer that has seen the whole column, however Ray splits it."""

    def seen(batch):
        quantizer = EmbeddingQuantizer("sentence-transformers", "int8")
        for x in arrow.rows(batch):
            quantizer.partial_fit(x)
        return pa.table({"quantizer": [json.dumps(quantizer.to_dict())]})

    quantizer = EmbeddingQuantizer("sentence-transformers", "int8")
    for row in dataset.select_columns([column]).map_batches(seen, **BATCHES).iter_rows():
        # in any order: the same bits
        quantizer.merge(EmbeddingQuantizer.from_dict(json.loads(row["quantizer"])))
    return quantizer


def coded(dataset, column, quantizer):
    """The dataset with codes in that column, FixedSizeList<int8>, and what they mean beside it."""
    how = {"columns": {column: quantizer}}
    return dataset.map_batches(arrow.quantize_table, fn_kwargs=how, **BATCHES)


def main(table, target, column="embedding"):
    ray.init(ignore_reinit_error=True)  # the cluster of RAY_ADDRESS, or one of its own
    try:
        dataset = ray.data.read_parquet(table)
        started = time.perf_counter()
        quantizer = fit(dataset, column)
        Path(f"{target}.json").write_text(json.dumps(quantizer.to_dict()), encoding="utf-8")
        middle = time.perf_counter()
        coded(dataset, column, quantizer).write_parquet(target, mode=SaveMode.ERROR)
        seconds = middle - started, time.perf_counter() - middle
    finally:
        ray.shutdown()
    print("fitted in {:.2f} s, coded in {:.2f} s".format(*seconds))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) in (3, 4) else sys.exit(__doc__)
