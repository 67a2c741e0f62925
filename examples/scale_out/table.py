"""A table of embeddings in Parquet, and a check that its codes are those of one process.

    pip install ".[arrow,demo]"
    python examples/scale_out/table.py make TABLE.parquet [ROWS DIMENSIONS]
    python examples/scale_out/table.py check TABLE.parquet CODES

The embeddings are real: the token embeddings of wordllama, float32 [32000, 256], or, where more
rows are wanted, means of two of them.  CODES is what a recipe beside this file has written.
"""

import json
import sys
from importlib.metadata import distribution
from pathlib import Path

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.dataset
    import pyarrow.parquet

    from zeropoint import arrow
    from zeropoint.embeddings import EmbeddingQuantizer
    from zeropoint.files import read_tensor

    # found and not imported: the package's own dependencies play no part
    TOKENS = distribution("wordllama").locate_file("wordllama/weights/l2_supercat_256.safetensors")
except ImportError as error:
    sys.exit(f"table.py: {error}; its first lines say what to install")

ROW_GROUP = 1 << 14  # rows


def make(path, rows=32000, dimensions=256):
    tokens = read_tensor(TOKENS, "embedding.weight").astype(np.float32)[:, : int(dimensions)]
    random, rows, length = np.random.default_rng(0), int(rows), tokens.shape[1]
    schema = pa.schema({"id": pa.int64(), "embedding": pa.list_(pa.float32(), length)})
    with pa.parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, rows, ROW_GROUP):
            ids = np.arange(start, min(start + ROW_GROUP, rows))
            x = tokens[random.integers(len(tokens), size=(2, len(ids)))].mean(axis=0)
            if rows <= len(tokens):
                x = tokens[ids]
            column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), length)
            writer.write_table(pa.table([pa.array(ids), column], schema=schema))


def one_process(table, column="embedding"):
    """A quantizer, as both recipes make it, that has seen the table batch by batch."""
    quantizer = EmbeddingQuantizer("sentence-transformers", "int8")
    for batch in pa.parquet.ParquetFile(table).iter_batches(columns=[column]):
        for x in arrow.rows(batch):
            quantizer.partial_fit(x)
    return quantizer


def check(table, codes):
    """The numbers of codes that were compared, and of those that differ."""
    quantizer = one_process(table)
    kept = json.loads(Path(f"{codes}.json").read_text(encoding="utf-8"))
    if EmbeddingQuantizer.from_dict(kept) != quantizer:
        sys.exit("the quantizer is not that of one process")
    found = pa.dataset.dataset(codes, format="parquet").to_table().sort_by("id")  # in any order
    flat = found["embedding"].combine_chunks().flatten()
    found_codes = flat.to_numpy().reshape(len(found), quantizer.dimensions)
    start = differing = 0
    for batch in pa.parquet.ParquetFile(table).iter_batches():
        part = slice(start, start := start + len(batch))
        if found["id"][part].to_pylist() != batch["id"].to_pylist():
            sys.exit(f"rows {part.start} to {part.stop} are not those of the table")
        expected = np.concatenate([quantizer.transform(x) for x in arrow.rows(batch["embedding"])])
        differing += np.count_nonzero(found_codes[part] != expected)
    if start != len(found):
        sys.exit(f"{len(found)} rows, and the table has {start}")
    return found_codes.size, int(differing)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", table, *sizes]:
            make(table, *sizes)
        case ["check", table, codes]:
            compared, differing = check(table, codes)
            print(f"{compared:,} codes compared with those of one process, {differing:,} differ")
            sys.exit(differing != 0)
        case _:
            sys.exit(__doc__)
