"""An embedding column in Parquet, polars and DuckDB: its size in 8 bits, and what is found in it.

    pip install ".[arrow,demo]" polars duckdb
    python examples/columns.py

The table is real: the token embeddings of wordllama, float16 [32000, 256], inside its wheel.  Every
hundredth row is made null, as in tables whose rows are not all embedded yet.
"""

import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path

try:
    import duckdb
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zeropoint import arrow, files

    # found and not imported: the package's own dependencies play no part
    TABLE = distribution("wordllama").locate_file("wordllama/weights/l2_supercat_256.safetensors")
except ImportError as error:
    sys.exit(f"columns.py: {error}; its first lines say what to install")


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)


def main(folder):
    x = np.float32(files.read_tensor(TABLE, "embedding.weight"))
    there = np.arange(len(x)) % 100 != 0
    column = pa.FixedSizeListArray.from_arrays(x.ravel(), x.shape[1], mask=pa.array(~there))
    source, target = folder / "floats.parquet", folder / "codes.parquet"
    table = pa.table({"id": np.arange(len(x)), "embedding": column})
    pq.write_table(table, source, compression="zstd", row_group_size=8_000)

    # from file to file, a row group at a time: the command line does the same
    start = time.perf_counter()
    how = {"dtype": "int8", "axis": -1, "convention": "sentence-transformers"}
    done = files.quantize_file(source, target, column="embedding", **how)
    spent = time.perf_counter() - start
    params = files.read_params(target, "embedding")

    # in memory, of a polars column: the same codes
    frame = pl.read_parquet(source)
    frame = frame.with_columns(embedding=pl.Series(arrow.quantize(frame["embedding"], params)))
    same = frame.equals(pl.read_parquet(target))

    # what a query finds: scores of the values against those of the floats, nulls left out
    found = duckdb.sql(f"select embedding from '{target}' where embedding is not null")
    values = arrow.dequantize(found, params)
    back = np.concatenate([*arrow.rows(values)])
    rows, queries = unit(x[there]), np.random.default_rng(0).choice(there.sum(), 500, replace=False)
    true, ours = (
        np.argpartition(-(rows[queries] @ each.T), 10, axis=1)[:, :10]
        for each in (rows, unit(back))
    )
    recall = np.mean([np.isin(*pair).mean() for pair in zip(true, ours, strict=True)])

    nulls = frame["embedding"].null_count()
    print(f"{len(x):,} rows of {x.shape[1]}, {nulls} of them null\n")
    print(f"{'float32 in memory':32}{x.nbytes:12,} bytes")
    print(f"{'float32 in Parquet, zstd':32}{done.bytes_in:12,} bytes")
    print(f"{'int8 in Parquet, zstd':32}{done.bytes_out:12,} bytes{spent:8.2f} s")
    print(f"{'polars: the same codes':32}{same!s:>12}")
    print(f"{'largest error':32}{np.abs(back - x[there]).max():12.5f}")
    print(f"{'recall@10 of 500 queries':32}{recall:12.4f}")
    good = same and nulls == (~there).sum() and recall > 0.98 and done.bytes_out < x.nbytes / 4
    sys.exit(None if good else "the codes are not good enough")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
