"""The recipes for Spark and Ray Data: the bits of one process, nulls kept, no process left."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow("starts Java, or Ray's processes: nox -s spark_ray")

NEEDED = {"Spark": ["pyspark", "pandas"], "Ray Data": ["ray"]}


@pytest.fixture(params=["Spark", "Ray Data"])
def system(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    for package in ["pyarrow", "wordllama", *NEEDED[name]]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{name} needs {package}")
    if name == "Spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    return name


def test_the_bits_of_one_process(system: str, tmp_path: Path) -> None:
    from bench import scale_out

    table = tmp_path / "table.parquet"
    scale_out.run([*scale_out.TABLE, "make", str(table), "50000", "24"])
    row = scale_out.measured(system, 2, 50000, table)
    assert (row.codes, row.differing) == (50000 * 24, 0)


def test_nulls_and_other_columns(system: str, tmp_path: Path) -> None:
    """A table of many files, some rows null, and a column that is not looked at."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bench import scale_out
    from zeropoint import arrow
    from zeropoint.embeddings import EmbeddingQuantizer

    random = np.random.default_rng(5)
    x = random.normal(size=(3000, 12)).astype(np.float32)
    missing = random.random(3000) < 0.2
    missing[1000:1500] = True  # all of a file
    folder = tmp_path / "table"
    folder.mkdir()
    for start in range(0, 3000, 500):
        part = slice(start, start + 500)
        mask = pa.array(missing[part])
        columns = {
            "id": np.arange(start, start + 500),
            "embedding": pa.FixedSizeListArray.from_arrays(x[part].ravel(), 12, mask=mask),
            "text": [f"row {i}" for i in range(start, start + 500)],
        }
        pq.write_table(pa.table(columns), folder / f"{start}.parquet")

    codes = tmp_path / "codes"
    scale_out.recipe(system, 2, folder, codes)
    quantizer = EmbeddingQuantizer("sentence-transformers", "int8").fit(x[~missing])
    state = json.loads(Path(f"{codes}.json").read_text())
    assert state == quantizer.to_dict()

    found = pq.read_table(codes).sort_by("id")
    assert found["text"].to_pylist() == [f"row {i}" for i in range(3000)]
    expected: list[Any] = quantizer.transform(x).tolist()
    rows = [None if null else row for null, row in zip(missing, expected, strict=True)]
    assert found["embedding"].to_pylist() == rows

    # Ray keeps what the codes mean beside them; from Spark it is passed once more
    params = {"embedding": EmbeddingQuantizer.from_dict(state).params}
    values = arrow.dequantize_table(found, params if system == "Spark" else None)
    flat = values["embedding"].combine_chunks().flatten()
    back = quantizer.inverse_transform(quantizer.transform(x[~missing]))
    np.testing.assert_array_equal(flat.to_numpy().view("u4"), back.ravel().view("u4"))


def test_a_target_that_exists_is_left_alone(system: str, tmp_path: Path) -> None:
    from bench import scale_out

    table = tmp_path / "table.parquet"
    scale_out.run([*scale_out.TABLE, "make", str(table), "1000", "8"])
    codes = tmp_path / "codes"
    codes.mkdir()
    (codes / "mine").write_text("kept")
    with pytest.raises(RuntimeError, match="exists"):
        scale_out.recipe(system, 2, table, codes)
    assert [path.name for path in codes.iterdir()] == ["mine"]
