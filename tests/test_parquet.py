"""Parquet files: codes of whole columns, all else kept, and nothing half written."""

from __future__ import annotations

import errno
import io
import json
import re
import resource
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zeropoint as zp
from zeropoint import _cli, files
from zeropoint.embeddings import EmbeddingQuantizer

N, ROWS, GROUP = 8, 300, 70
RNG = np.random.default_rng(0)
X = RNG.normal(0.3, 2, (ROWS, N))
VALID = RNG.random(ROWS) > 0.2
VALID[GROUP : 2 * GROUP] = False  # a row group of nulls alone
KINDS = {
    "fixed": lambda item: pa.list_(item, N),
    "list": pa.list_,
    "large list": pa.large_list,
    "single": lambda item: item,
}
REALS = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}


def data(kind: str, dtype: str) -> np.ndarray:
    return (X[:, 0] if kind == "single" else X).astype(dtype)


def column(kind: str, dtype: str, valid: np.ndarray = VALID) -> pa.Array:
    rows = [row if ok else None for row, ok in zip(data(kind, dtype), valid, strict=True)]
    return pa.array(rows, KINDS[kind](REALS[dtype]))


def table(kind: str = "fixed", dtype: str = "float32") -> pa.Table:
    fields = [
        pa.field("id", pa.int64(), nullable=False, metadata={"unit": "none"}),
        pa.field("e", KINDS[kind](REALS[dtype]), metadata={"model": "m"}),
        pa.field("text", pa.string()),
        pa.field("nested", pa.struct([("a", pa.list_(pa.int8())), ("b", pa.timestamp("ns"))])),
        pa.field("day", pa.dictionary(pa.int32(), pa.string())),
    ]
    rows = range(ROWS)
    columns = [
        pa.array(rows, pa.int64()),
        column(kind, dtype),
        pa.array([None if i % 7 == 0 else f"text {i}" for i in rows]),
        pa.array([{"a": [1] * (i % 3), "b": i} for i in rows], fields[3].type),
        pa.array([f"day {i % 5}" for i in rows]).dictionary_encode(),
    ]
    return pa.table(columns, schema=pa.schema(fields, metadata={"file": "kept"}))


def written(path: Path, content: pa.Table | None = None, **how: Any) -> Path:
    pq.write_table(table() if content is None else content, path, row_group_size=GROUP, **how)
    return path


def numbers(found: Any, dtype: Any) -> np.ndarray:
    return np.array([row for row in found.to_pylist() if row is not None], dtype)


# ---------------------------------------------------------------------------------------------
# Codes and values


CHOICES: list[dict[str, Any]] = [
    {"dtype": "uint8"},
    {"dtype": "int8", "symmetric": True, "axis": -1},
    {"dtype": "int8", "convention": "torch", "axis": 1},
    {"dtype": "uint8", "convention": "cf", "axis": -1, "nan_code": 255},
    {"dtype": "uint8", "convention": "faiss", "axis": -1},
    {"dtype": "uint8", "convention": "faiss"},
    {"dtype": "int8", "convention": "sentence-transformers", "axis": -1},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("how", CHOICES, ids=str)
def test_codes_and_values(kind: str, dtype: str, how: dict[str, Any], tmp_path: Path) -> None:
    if kind == "single":
        how = {name: value for name, value in how.items() if name != "axis"}
    source = written(tmp_path / "floats.parquet", table(kind, dtype))
    target, again = tmp_path / "codes.parquet", tmp_path / "again.parquet"
    done = files.quantize_file(source, target, column="e", **how)
    x = data(kind, dtype)[VALID]
    params = zp.choose_params(x.reshape(len(x), -1), **how)
    assert files.read_params(target, "e") == params
    codes = pq.read_table(target)["e"]
    lists = {"single": lambda item: item, "fixed": KINDS["fixed"]}.get(kind, pa.list_)
    assert codes.type == lists(getattr(pa, how["dtype"])())
    np.testing.assert_array_equal(codes.is_valid().to_numpy(), VALID)
    np.testing.assert_array_equal(numbers(codes, how["dtype"]), zp.quantize(x, params))
    one = next(each for each in done.tensors if each.name == "e")
    assert one.shape == ((ROWS,) if kind == "single" else (ROWS, N))
    assert (one.dtype, one.codes) == (dtype, how["dtype"])
    values = zp.dequantize(zp.quantize(x, params), params, dtype="float64")
    assert one.error_bound is not None
    assert np.abs(values - x.astype(np.float64)).max() <= one.error_bound * (1 + 1e-2)
    files.dequantize_file(target, again)
    back = pq.read_table(again)
    item = REALS[dtype]
    assert back["e"].type == lists(item)
    want = zp.dequantize(zp.quantize(x, params), params, dtype=dtype)
    assert numbers(back["e"], dtype).tobytes() == want.tobytes()
    np.testing.assert_array_equal(back["e"].is_valid().to_numpy(), VALID)
    wider = files.dequantize_file(target, again, dtype="float64")
    assert pq.read_table(again)["e"].type == lists(pa.float64())
    assert wider.tensors[1].dtype == "float64"


def test_all_else_is_kept(tmp_path: Path) -> None:
    whole = table()
    compression = {
        "id": "zstd",
        "e.list.element": "none",
        "text": "snappy",
        "nested.a.list.element": "gzip",
        "nested.b": "brotli",
        "day": "lz4",
    }
    order = [pq.SortingColumn(0)]
    source = written(
        tmp_path / "a.parquet",
        whole,
        compression=compression,
        use_dictionary=["day"],
        write_statistics=["id", "text"],
        sorting_columns=order,
        write_page_index=True,
    )
    target, again = tmp_path / "b.parquet", tmp_path / "c.parquet"
    done = files.quantize_file(source, target, column="e", dtype="int8")
    files.dequantize_file(target, again)
    before = pq.read_metadata(source)
    for path in (target, again):
        found = pq.read_table(path)
        others = [name for name in whole.column_names if name != "e"]
        assert found.select(others).equals(
            pq.read_table(source).select(others), check_metadata=True
        )
        assert found.schema.metadata == {b"file": b"kept"}
        assert found.schema.field("e").metadata[b"model"] == b"m"
        after = pq.read_metadata(path)
        assert after.num_row_groups == before.num_row_groups == 5
        for i in range(5):
            groups = before.row_group(i), after.row_group(i)
            assert groups[0].num_rows == groups[1].num_rows
            assert groups[0].sorting_columns == groups[1].sorting_columns
            for leaf in range(before.num_columns):
                a, b = (group.column(leaf) for group in groups)
                assert a.path_in_schema == b.path_in_schema
                assert a.compression == b.compression
                assert a.has_column_index == b.has_column_index
                if a.path_in_schema != "e.list.element":
                    assert (a.statistics is None) == (b.statistics is None)
                    assert ("RLE_DICTIONARY" in a.encodings) == ("RLE_DICTIONARY" in b.encodings)
    size = pq.read_metadata(target)
    codes = sum(size.row_group(i).column(1).total_compressed_size for i in range(5))
    kept = {each.name: each for each in done.tensors}
    assert kept["e"].bytes_out == codes
    assert (done.bytes_in, done.bytes_out) == (source.stat().st_size, target.stat().st_size)
    assert kept["text"].kept == "it is not chosen"
    assert [each.kept for each in done.tensors].count(None) == 1
    assert files.dequantize_file(target, again).tensors[0].kept == "it is not quantized"


def test_codes_take_one_byte(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(5000, 64)).astype(np.float32)
    content = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 64)})
    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for how in ({}, {"use_dictionary": False}, {"compression": "none"}):
        pq.write_table(content, source, **how)
        done = files.quantize_file(source, target, column="e", axis=-1)
        assert done.tensors[0].bytes_out < 1.1 * x.size


def test_several_columns_each_have_their_own_range(tmp_path: Path) -> None:
    content = pa.table({"a": X[:, 0], "b": X[:, 1] * 100, "c.d": X[:, 2]})
    source = written(tmp_path / "a.parquet", content)
    files.quantize_file(source, tmp_path / "b.parquet", column=["c.d", "a"], stats=True)
    found = pq.read_table(tmp_path / "b.parquet")
    for i, name in ((0, "a"), (2, "c.d")):
        want, params = zp.quantize_dynamic(X[:, i])
        assert files.read_params(tmp_path / "b.parquet", name) == params
        np.testing.assert_array_equal(found[name].to_numpy(), want)
    assert found["b"].equals(content["b"])


def test_stats(tmp_path: Path) -> None:
    source = written(tmp_path / "a.parquet")
    done = files.quantize_file(source, tmp_path / "b.parquet", column="e", stats=True)
    x = data("fixed", "float32")[VALID]
    stats = zp.error_stats(x, zp.choose_params(x))
    assert done.tensors[1].sqnr_db == pytest.approx(stats.sqnr_db, rel=1e-12)
    assert done.tensors[0].sqnr_db is None


# ---------------------------------------------------------------------------------------------
# Parameters that are given


def test_fit_takes_parameters_and_quantizers(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    x = data("fixed", "float32")[VALID]
    narrow = zp.choose_params(x / 2, "int8", axis=-1)  # some values saturate
    offset = zp.choose_params(x, "uint8", axis=-1, convention="faiss")
    quantizer = EmbeddingQuantizer("sentence-transformers").fit(x)
    for i, given in enumerate((narrow, offset, quantizer)):
        path = tmp_path / f"{i}.json"
        path.write_text(json.dumps(given.to_dict()))
        for fit in (given, path, str(path)):
            done = files.quantize_file(source, target, column="e", fit=fit)
            params = given if isinstance(given, (zp.QuantParams, zp.OffsetParams)) else given.params
            want = given.transform(x) if given is quantizer else given.quantize(x)
            np.testing.assert_array_equal(numbers(pq.read_table(target)["e"], params.dtype), want)
            assert files.read_params(target, "e") == params
            error = np.abs(zp.dequantize(want, params).astype(np.float64) - x).max()
            assert done.tensors[1].error_bound == error


def test_bits_of_a_faiss_quantizer_of_float64(tmp_path: Path) -> None:
    """faiss rounds float64 to float32 first, and so does the quantizer, not its parameters."""
    source, target = (
        written(tmp_path / "a.parquet", table("list", "float64")),
        tmp_path / "b.parquet",
    )
    x = data("list", "float64")[VALID]
    quantizer = EmbeddingQuantizer("faiss").fit(x)
    files.quantize_file(source, target, column="e", fit=quantizer)
    np.testing.assert_array_equal(numbers(pq.read_table(target)["e"], "u1"), quantizer.transform(x))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it does not hold parameters or a quantizer: Expecting value"),
        ("[]", "it does not hold parameters or a quantizer: from_dict takes a dict, not list"),
        ('{"a": 1}', "it does not hold parameters or a quantizer: not the dictionary of a QuantPa"),
        ('{"style": "other"}', "it does not hold parameters or a quantizer: not the dictionary of"),
        ("[" * 100_000, "it does not hold parameters or a quantizer: maximum recursion depth"),
        ("\x00", "it does not hold parameters"),
    ],
)
def test_bad_files_of_parameters(content: str, message: str, tmp_path: Path) -> None:
    source, fit = written(tmp_path / "a.parquet"), tmp_path / "fit.json"
    fit.write_text(content)
    with pytest.raises(ValueError, match="write the JSON of their to_dict") as caught:
        files.quantize_file(source, tmp_path / "b.parquet", column="e", fit=fit)
    assert str(caught.value).startswith(f"{fit}: {message}")


@pytest.mark.parametrize("name", ["all null", "no rows"])
def test_parameters_that_are_given_need_no_rows(name: str, tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet", edge(name)), tmp_path / "b.parquet"
    for params in (zp.QuantParams(1, 0, "int8"), zp.QuantParams([1] * N, 0, "int8", axis=-1)):
        files.quantize_file(source, target, column="e", fit=params)
        found = pq.read_table(target)["e"]
        assert found.type == pa.list_(pa.int8())
        assert found.to_pylist() == pq.read_table(source)["e"].to_pylist()
        files.dequantize_file(target, tmp_path / "c.parquet")
        again = pq.read_table(tmp_path / "c.parquet")["e"]
        assert again.type == pa.list_(pa.float32())
        assert again.null_count == found.null_count == len(found)


# ---------------------------------------------------------------------------------------------
# NaN


def test_nan(tmp_path: Path) -> None:
    x = X.astype(np.float32)
    x[150, 3] = x[290, 0] = np.nan
    content = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), N)})
    source, target = written(tmp_path / "a.parquet", content), tmp_path / "b.parquet"
    with pytest.raises(
        ValueError, match=r"column 'e' has nan in row 150, element 3; make the row nu"
    ):
        files.quantize_file(source, target, column="e")
    with pytest.raises(
        ValueError, match="column 'e' has nan in row 150, element 3; no code stands for it"
    ):
        files.quantize_file(source, target, column="e", fit=zp.QuantParams(1, 0))
    with pytest.raises(ValueError, match="skip_nan=True needs a nan_code"):
        files.quantize_file(source, target, column="e", skip_nan=True)
    assert not target.exists()
    for axis in (None, -1):
        how = {"nan_code": 255, "skip_nan": True, "axis": axis}
        done = files.quantize_file(source, target, column="e", stats=True, **how)
        params = zp.choose_params(x, **how)
        assert files.read_params(target, "e") == params
        codes = numbers(pq.read_table(target)["e"], "u1")
        np.testing.assert_array_equal(codes, zp.quantize(x, params))
        assert (codes == 255).sum() == 2
        assert np.isfinite(done.tensors[0].sqnr_db)
        assert files.inspect_file(target).tensors[0].quantized["params"]["nan_code"] == 255
        files.dequantize_file(target, tmp_path / "c.parquet")
        back = numbers(pq.read_table(tmp_path / "c.parquet")["e"], np.float32)
        np.testing.assert_array_equal(np.isnan(back), np.isnan(x))
    x[200, 2] = np.inf
    content = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), N)})
    written(source, content)
    with pytest.raises(
        ValueError, match="column 'e' has inf in row 200, element 2; make the row null"
    ):
        files.quantize_file(source, target, column="e", **how)
    x[:, 2] = np.nan
    content = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), N)})
    written(source, content)
    with pytest.raises(ValueError, match="column 'e' has nothing but NaN in element 2 of all rows"):
        files.quantize_file(source, target, column="e", **how)


# ---------------------------------------------------------------------------------------------
# Other tools


def test_polars_and_duckdb_read_what_was_written(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    files.quantize_file(source, target, column="e", dtype="int8", axis=-1)
    x = data("fixed", "float32")
    q = zp.quantize(x, zp.choose_params(x[VALID], "int8", axis=-1)).tolist()
    want = [row if ok else None for row, ok in zip(q, VALID, strict=True)]
    frame = pl.read_parquet(target)
    assert frame["e"].to_list() == want
    assert frame["e"].dtype in (pl.Array(pl.Int8, N), pl.List(pl.Int8))
    assert duckdb.sql(f"select e from '{target}'").fetchall() == [(row,) for row in want]
    assert pd.read_parquet(target)["e"].isna().tolist() == [*~VALID]


@pytest.mark.parametrize("writer", ["polars", "polars array", "duckdb", "pandas"])
def test_files_of_other_tools(writer: str, tmp_path: Path) -> None:
    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    x = data("list", "float32")
    rows = column("list", "float32")
    content = pa.table({"id": range(ROWS), "e": rows})
    if writer == "polars":
        pl.from_arrow(content).write_parquet(source, row_group_size=GROUP)
    elif writer == "polars array":
        frame = pl.from_arrow(content)
        frame = frame.with_columns(frame["e"].cast(pl.Array(pl.Float32, N)))
        frame.write_parquet(source, row_group_size=GROUP)
    elif writer == "duckdb":
        duckdb.sql(f"copy content to '{source}'")
    else:
        content.to_pandas().to_parquet(source)
    done = files.quantize_file(source, target, column="e", dtype="int8", axis=-1)
    params = zp.choose_params(x[VALID], "int8", axis=-1)
    codes = pq.read_table(target)["e"]
    np.testing.assert_array_equal(numbers(codes, "i1"), zp.quantize(x[VALID], params))
    np.testing.assert_array_equal(codes.is_valid().to_numpy(), VALID)
    assert done.tensors[0].kept
    if writer == "pandas":
        assert pd.read_parquet(target)["id"].tolist() == [*range(ROWS)]
        assert b"pandas" in pq.read_schema(target).metadata
    again = tmp_path / "c.parquet"
    files.dequantize_file(target, again)
    assert pl.read_parquet(again)["e"].null_count() == (~VALID).sum()


def test_metadata_that_would_read_codes_as_floats_goes(tmp_path: Path) -> None:
    metadata = {"org.apache.spark.sql.parquet.row.metadata": "{}", "huggingface": "{}", "a": "b"}
    source = written(tmp_path / "a.parquet", table().replace_schema_metadata(metadata))
    files.quantize_file(source, tmp_path / "b.parquet", column="e")
    assert pq.read_schema(tmp_path / "b.parquet").metadata == {b"a": b"b"}


# ---------------------------------------------------------------------------------------------
# Inspect


def test_inspect(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    info = files.inspect_file(source)
    assert (info.format, info.bytes) == ("parquet", source.stat().st_size)
    assert info.metadata == {"file": "kept"}
    assert [each.name for each in info.tensors] == ["id", "e", "text", "nested", "day"]
    assert info.tensors[0].dtype == "int64"
    assert (info.tensors[1].dtype, info.tensors[1].shape) == ("float32", (ROWS, N))
    assert info.tensors[2].shape == (ROWS,)
    assert not any(each.quantized for each in info.tensors)
    files.quantize_file(source, target, column="e", axis=-1, convention="faiss")
    info = files.inspect_file(target)
    json.dumps(info.to_dict())
    one = info.tensors[1]
    assert (one.dtype, one.shape) == ("uint8", (ROWS, N))
    assert one.quantized is not None
    assert one.quantized["dtype"] == "float32"
    assert one.quantized["params"]["convention"] == "faiss"
    assert one.quantized["params_shape"] == (N,)


# ---------------------------------------------------------------------------------------------
# Bad input: nothing is written


def edge(name: str) -> pa.Table:
    whole = column("list", "float32", np.ones(ROWS, bool))
    rows = whole.to_pylist()
    if name == "ragged":
        rows[200] = rows[200][:5]
    elif name == "null within":
        rows[200][3] = None
    elif name == "no rows":
        rows = []
    elif name == "all null":
        rows = [None] * ROWS
    elif name == "twice":
        return pa.table([whole, whole], names=["e", "e"])
    elif name == "text":
        return pa.table({"e": ["a"], "f": [1]})
    return pa.table({"e": pa.array(rows, whole.type)})


@pytest.mark.parametrize(
    ("name", "how", "error", "message"),
    [
        ("ragged", {}, ValueError, "column 'e' has 5 elements in row 200 where 8 are expected"),
        (
            "ragged",
            {"fit": zp.QuantParams(1, 0)},
            ValueError,
            "column 'e' has 5 elements in row 200 where 8 are expected",
        ),
        ("null within", {}, ValueError, "column 'e' has a null within row 200; fill it, or"),
        ("no rows", {}, ValueError, "column 'e' has no row that is not null, so it has no range"),
        ("all null", {}, ValueError, "column 'e' has no row that is not null, so it has no range"),
        ("twice", {}, ValueError, "the file has 2 columns 'e'; rename all but one"),
        (
            "text",
            {},
            TypeError,
            "column 'e' has type string and must have float16 or float32 or fl",
        ),
        (
            "text",
            {"column": "g"},
            ValueError,
            "the file has no column 'g'; it has 'e' (string), 'f'",
        ),
        (
            "text",
            {"column": None},
            ValueError,
            "which column to quantize is not said, and it has 'e'",
        ),
        (
            "",
            {"column": ["e", "e"]},
            ValueError,
            "columns ['e', 'e'] name one twice; name each once",
        ),
        ("", {"axis": 0}, ValueError, "axis 0 would be a scale for each row; pass axis=-1"),
        (
            "",
            {"fit": zp.QuantParams([1, 2], 0, axis=-1)},
            ValueError,
            "column 'e' has 8 elements in ",
        ),
    ],
    ids=str,
)
def test_bad_columns(
    name: str, how: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    source, target = written(tmp_path / "a.parquet", edge(name)), tmp_path / "b.parquet"
    target.write_bytes(b"old")
    with pytest.raises(error) as caught:
        files.quantize_file(source, target, **{"column": "e"} | how)
    assert str(caught.value).startswith(f"{source}: {message}")
    assert target.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "b.parquet"}


def test_bad_arguments(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    other = tmp_path / "a.npy"
    np.save(other, X)

    def refuses(message: str, error: type[Exception] = ValueError, **how: Any) -> None:
        with pytest.raises(error, match=message):
            files.quantize_file(how.pop("src", source), how.pop("dst", target), **how)
        assert not target.exists()

    refuses(
        "^column is for .parquet files, and src is",
        src=other,
        dst=tmp_path / "c.safetensors",
        column="e",
    )
    refuses("^fit is for .parquet files", src=other, dst=tmp_path / "c.safetensors", fit="all")
    refuses(
        "^dst .* must be the name of a .parquet file$", dst=tmp_path / "c.safetensors", column="e"
    )
    refuses("^dst .* must be the name of a .safetensors file", src=other)
    refuses("^include is not for .parquet files; name the columns as column", include="e")
    refuses("^exclude is not for .parquet files", exclude="e", column="e")
    refuses("^column must be a name or a list of names, not 3", TypeError, column=3)
    refuses("^column must be a name or a list of names", TypeError, column=["e", 3])
    refuses("^block_size 4 is not for columns; leave it out", column="e", axis=-1, block_size=4)
    refuses(
        "^axis is for fit='all'; parameters that are", column="e", axis=-1, fit=zp.QuantParams(1, 0)
    )
    refuses("^dtype is for fit='all'", column="e", dtype="int8", fit=zp.QuantParams(1, 0))
    refuses("^fit 'other' must be 'all' or the name of a .json file$", column="e", fit="other")
    refuses("^fit: params must be a QuantParams", TypeError, column="e", fit=3)
    refuses("^fit: .*not fitted", column="e", fit=EmbeddingQuantizer("faiss"))
    refuses("^fit: style 'rows' has no parameters", column="e", fit=EmbeddingQuantizer("rows"))
    refuses("has no keyword 'foo'", TypeError, column="e", foo=1)
    folder = tmp_path / "spark.parquet"
    folder.mkdir()
    refuses("spark.parquet: it is a folder, as Spark writes them; pass one", column="e", src=folder)
    with pytest.raises(ValueError, match="it is a folder, as Spark writes them"):
        files.inspect_file(folder)
    refuses("^src and dst are the same file", column="e", dst=source)
    refuses("No such file", OSError, column="e", src=tmp_path / "none.parquet")
    with pytest.raises(
        ValueError, match="no column has parameters in its metadata.*dequantize_table"
    ):
        files.dequantize_file(source, target)
    files.quantize_file(source, target, column="e")
    with pytest.raises(TypeError, match="column 'e' has type .*; these are codes already$"):
        files.quantize_file(target, tmp_path / "c.parquet", column="e")
    with pytest.raises(
        TypeError, match="dtype bfloat16 is unknown to Arrow; choose float16, float32"
    ):
        files.dequantize_file(target, tmp_path / "c.parquet", dtype="bfloat16")
    with pytest.raises(ValueError, match="column 'id' has no zeropoint.params in the metadata"):
        files.read_params(target, "id")
    with pytest.raises(ValueError, match="the file has no column 'f'; it has"):
        files.read_params(target, "f")


def test_damaged_files(tmp_path: Path) -> None:
    """Whatever was done to it, the file is refused or read, and the target is whole or absent."""
    content = written(tmp_path / "a.parquet", write_page_checksum=True).read_bytes()
    source, target = tmp_path / "bad.parquet", tmp_path / "b.parquet"
    rng = np.random.default_rng(0)
    cases = [
        content[:length] for length in (0, 4, 8, 11, 12, 100, len(content) // 2, len(content) - 1)
    ]
    cases += [content[:4] + rng.bytes(200) + content[204:], content + b"x"]
    for count in range(120):
        changed = bytearray(content)
        low = len(content) - 3000 if count % 2 else 0
        for place in rng.integers(low, len(content), 8):
            changed[place] = rng.integers(256)
        cases.append(bytes(changed))
    said = []
    for case in cases:
        source.write_bytes(case)
        for call in (
            lambda: files.inspect_file(source),
            lambda: files.quantize_file(source, target, column="e"),
        ):
            try:
                call()
            except (ValueError, TypeError) as error:
                said.append(str(error))
                assert not target.exists()
        target.unlink(missing_ok=True)
    assert len(said) > len(cases)
    assert all(text.startswith(str(source)) for text in said), said
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "bad.parquet"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"<html><body>",
            "it is an HTML page, such as a server's page of login or error; download",
        ),
        (b"\x93NUMPY" + bytes(20), "it is a .npy file; give it its own suffix"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
        (b"PAR1" + bytes(20), "it cannot be read as Parquet: "),
    ],
)
def test_files_of_another_kind(content: bytes, message: str, tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    source.write_bytes(content)
    with pytest.raises(ValueError, match="a.parquet: it ") as caught:
        files.inspect_file(source)
    assert str(caught.value).startswith(f"{source}: {message}")
    other = tmp_path / "a.npy"
    written(source)
    shutil.copy(source, other)
    with pytest.raises(ValueError, match="it is a .parquet file; give it its own suffix"):
        files.inspect_file(other)


def test_hostile_metadata(tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    for text in (b"{", b"\xff", b"[" * 100_000, b'{"scale": -1.0, "zero_point": 0}'):
        field = pa.field("e", pa.list_(pa.uint8(), 2), metadata={"zeropoint.params": text})
        content = pa.table([pa.array([[1, 2]], field.type)], schema=pa.schema([field]))
        pq.write_table(content, source)
        for call in (
            lambda: files.inspect_file(source),
            lambda: files.dequantize_file(source, tmp_path / "b.parquet"),
            lambda: files.read_params(source, "e"),
        ):
            with pytest.raises(ValueError, match="column 'e': zeropoint.params in its metadata: "):
                call()
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


# ---------------------------------------------------------------------------------------------
# The target is whole, memory bounded, progress told


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    files.quantize_file(source, target, column="e")
    largest = target.stat().st_size
    target.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in range(0, largest, largest // 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(OSError) as caught:  # noqa: PT011
                files.quantize_file(source, target, column="e")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.errno == errno.EFBIG
        assert caught.value.filename == str(target)
        assert target.read_bytes() == b"old"
        assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "b.parquet"}


class Broken(io.FileIO):
    """A file on a disk that fails."""

    left = 0

    def read(self, size: int | None = -1) -> bytes:
        Broken.left -= 1
        if Broken.left < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size) or b""


def test_an_error_of_the_disk_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    monkeypatch.setattr("zeropoint._files.parquet.opened", Broken)
    for Broken.left in range(40):
        try:
            files.quantize_file(source, target, column="e")
        except OSError as error:
            code = error.errno
        else:
            code = None
        assert (code == errno.EIO) == (not target.exists())
        target.unlink(missing_ok=True)
        assert {path.name for path in tmp_path.iterdir()} == {"a.parquet"}
    assert code is None  # it is not that often that the file is read


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    target.write_bytes(b"old")
    told = []

    def stop(done: int, total: int) -> None:
        told.append(done)
        if len(told) > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.quantize_file(source, target, column="e", progress=stop)
    assert target.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "b.parquet"}


def test_a_source_that_changes_is_noticed(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"

    def change(done: int, total: int) -> None:
        with source.open("r+b") as file:
            file.write(b"PAR1")

    with pytest.raises(ValueError, match="it changed while it was read"):
        files.quantize_file(source, target, column="e", progress=change)
    assert not target.exists()


@pytest.mark.parametrize("fit", ["all", zp.QuantParams(0.1, 128)], ids=["all", "given"])
def test_progress(fit: Any, tmp_path: Path) -> None:
    source, target = written(tmp_path / "a.parquet"), tmp_path / "b.parquet"
    told: list[tuple[int, int]] = []
    files.quantize_file(source, target, column="e", fit=fit, progress=lambda *n: told.append(n))
    done, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert done[-1] == totals[0]
    assert len(told) == (10 if fit == "all" else 5)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2000, 128)).astype(np.float32)  # 1 MB
    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    group = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 128)})
    with pq.ParquetWriter(source, group.schema) as writer:
        for _ in range(40):
            writer.write_table(group)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        files.quantize_file(source, target, column="e", axis=-1)
        most = pool.max_memory() + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert most < 12 << 20  # of 40 MB


# ---------------------------------------------------------------------------------------------
# The command line


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, again = (tmp_path / f"{name}.parquet" for name in "abc")
    written(source)
    command = ["quantize", str(source), "-o", str(target), "--column", "e"]
    assert _cli.main([*command, "--dtype", "int8", "--axis", "-1", "--fit", "all", "--stats"]) == 0
    text = capsys.readouterr().out
    assert "int8 along axis 1" in text
    assert "kept: it is not chosen" in text
    x = data("fixed", "float32")[VALID]
    params = zp.choose_params(x, "int8", axis=-1)
    np.testing.assert_array_equal(numbers(pq.read_table(target)["e"], "i1"), params.quantize(x))
    assert _cli.main(["inspect", str(target)]) == 0
    assert _cli.main(["inspect", "--stats", str(target)]) == 2
    text = capsys.readouterr().out
    assert "codes of float32, zeropoint, numpy convention, along axis -1, scales [8]" in text
    assert "struct<a: list<element: int8>, b: timestamp[ns]>" in text
    assert _cli.main(["dequantize", str(target), "-o", str(again), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"][1]["dtype"] == "float32"
    np.testing.assert_array_equal(
        numbers(pq.read_table(again)["e"], "f4"), params.dequantize(params.quantize(x))
    )
    fit = tmp_path / "fit.json"
    fit.write_text(json.dumps(EmbeddingQuantizer("faiss").fit(x).to_dict()))
    assert _cli.main([*command, "--fit", str(fit)]) == 0
    assert files.read_params(target, "e").convention == "faiss"
    capsys.readouterr()
    for extra, code, message in (
        (["--include", "e"], 2, "--include is an option of --format zeropoint"),
        (["--block-size", "4"], 2, "--block-size is an option of --format zeropoint"),
        (
            ["--format", "zeropoint"],
            2,
            "--format zeropoint and -o .* do not go together: parquet, and",
        ),
        (["--column", "f"], 1, "the file has no column 'f'"),
        (["--fit", str(fit), "--dtype", "uint8"], 2, "--dtype is for --fit all"),
    ):
        assert _cli.main([*command, *extra]) == code
        assert re.search(message, capsys.readouterr().err)
    assert _cli.main(["quantize", str(source), "-o", str(tmp_path / "x.gguf")]) == 1
    assert _cli.main([*command[:2], "-o", str(tmp_path / "x"), "--format", "parquet"]) == 2
    assert "parquet, and no other format, is written to an OUT" in capsys.readouterr().err
