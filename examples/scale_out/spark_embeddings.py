"""An embedding table in Spark: one pass fits a quantizer, another makes the codes.

    pip install ".[arrow]" "pyspark[sql]>=4.1"     # and Java 17 or later
    python examples/scale_out/spark_embeddings.py TABLE.parquet CODES [COLUMN]

CODES becomes a folder of Parquet, with the quantizer beside it in CODES.json.  On a cluster, where
zeropoint must be installed for the executors' Python too, use spark-submit.  `table.py` beside this
file makes a table, and checks that the codes are those of one process.
"""

import functools
import json
import sys
import time
from pathlib import Path

try:
    import pyarrow as pa
    from pyspark.sql import SparkSession
    from pyspark.sql.types import ArrayType, ByteType, StructField, StructType

    from zeropoint import arrow
    from zeropoint.embeddings import EmbeddingQuantizer
except ImportError as error:
    sys.exit(f"spark_embeddings.py: {error}; its first lines say what to install")

STATE = "quantizer string"  # a quantizer as JSON: the schema of the first pass


def fit(frame, column):
    """A quantizer that has seen the whole column, however Spark splits it."""

    def seen(batches):
        quantizer = EmbeddingQuantizer("sentence-transformers", "int8")
        for batch in batches:
            for x in arrow.rows(batch.select([column])):
                quantizer.partial_fit(x)
        yield state(quantizer)

    def merged(batches):  # in any order: the same bits
        states = (text for batch in batches for text in batch["quantizer"].to_pylist())
        yield state(functools.reduce(EmbeddingQuantizer.merge, map(quantizer_of, states)))

    def state(quantizer):
        return pa.record_batch({"quantizer": [json.dumps(quantizer.to_dict())]})

    def quantizer_of(state):
        return EmbeddingQuantizer.from_dict(json.loads(state))

    # one state for each partition, and one task that merges them: the driver gets a single row
    states = frame.select(column).mapInArrow(seen, STATE)
    [row] = states.repartition(1).mapInArrow(merged, STATE).collect()
    return quantizer_of(row.quantizer)


def coded(frame, column, quantizer):
    """The frame with codes in that column: array<tinyint>, since Spark has no fixed-size lists."""
    metadata = {"zeropoint.params": json.dumps(quantizer.params.to_dict())}
    field = StructField(column, ArrayType(ByteType(), containsNull=False), metadata=metadata)
    schema = StructType([field if each.name == column else each for each in frame.schema])
    codes = functools.partial(arrow.quantize_batches, columns={column: quantizer}, kind="list")
    return frame.mapInArrow(codes, schema)


def main(table, target, column="embedding"):
    spark = SparkSession.builder.getOrCreate()
    try:
        frame = spark.read.parquet(table)
        started = time.perf_counter()
        quantizer = fit(frame, column)
        Path(f"{target}.json").write_text(json.dumps(quantizer.to_dict()), encoding="utf-8")
        middle = time.perf_counter()
        coded(frame, column, quantizer).write.parquet(target)
        seconds = middle - started, time.perf_counter() - middle
    finally:
        spark.stop()
    print("fitted in {:.2f} s, coded in {:.2f} s".format(*seconds))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) in (3, 4) else sys.exit(__doc__)
