"""Columns of Arrow: codes are those of the NumPy array, nulls stay nulls, and nothing leaks."""

from __future__ import annotations

import functools
import json
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zeropoint as zp
from zeropoint import _columns, arrow
from zeropoint.embeddings import EmbeddingQuantizer

N = 5
REALS = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}
PER_TENSOR = zp.QuantParams(0.05, 3, "int8")
OFFSETS = {
    name: zp.choose_params(
        np.random.default_rng(9).normal(0, 3, (50, N)).astype(np.float32), convention=name, axis=-1
    )
    for name in ("cf", "faiss", "sentence-transformers")
}
PER_ELEMENT = zp.QuantParams(
    np.float32([0.1, 0.05, 0.2, 0.01, 0.4]), [0, 9, 128, 200, 255], axis=-1
)


def array(x: np.ndarray, kind: Any, valid: np.ndarray | None, rng: np.random.Generator) -> pa.Array:
    """The rows of `x` in a type of lists: a slice of a longer array, with rubbish under nulls."""
    before, after = rng.integers(0, 4, 2)
    count, n = x.shape
    rows = np.full((before + count + after, n), np.nan, x.dtype)
    rows[before : before + count] = x
    there = np.ones(len(rows), bool)
    if valid is not None:
        there[before : before + count] = valid
        rows[~there] = np.nan
    mask = None if there.all() else pa.array(~there)
    pad = int(rng.integers(0, 3))  # an offset of the elements, beside that of the rows
    item = REALS[x.dtype.name]
    if kind == "fixed":
        values = pa.array(np.concatenate([np.zeros(pad * n, x.dtype), rows.ravel()]), item)[
            pad * n :
        ]
        whole = pa.FixedSizeListArray.from_arrays(values, n, mask=mask)
    else:
        lengths = np.full(len(rows), n)
        if kind.endswith("short"):  # nothing under nulls
            lengths[~there] = 0
        elif kind.endswith("ragged"):  # anything under nulls
            lengths[~there] = rng.integers(0, 2 * n, np.count_nonzero(~there))
        parts = [
            row if ok else np.full(length, np.nan, x.dtype)
            for row, ok, length in zip(rows, there, lengths, strict=True)
        ]
        values = pa.array(np.concatenate([np.zeros(pad, x.dtype), *parts]), item)
        large = kind.startswith("large")
        offsets = pa.array(pad + np.cumsum([0, *lengths]), pa.int64() if large else pa.int32())
        make = pa.LargeListArray if large else pa.ListArray
        whole = make.from_arrays(offsets, values, mask=mask)
    return whole.slice(before, count)


KINDS = ["fixed", "list", "list short", "list ragged", "large list", "large short", "large ragged"]


def check(codes: arrow.Column, x: np.ndarray, valid: np.ndarray, params: Any) -> None:
    """The codes of the valid rows, nulls where they were, and zeros under them."""
    codes.data.validate(full=True)
    assert (
        codes.field.type
        == codes.data.type
        == pa.list_(getattr(pa, params.dtype.name)(), x.shape[1])
    )
    assert [row is not None for row in codes.data.to_pylist()] == valid.tolist()
    q = np.array([row for row in codes.data.to_pylist() if row is not None], params.dtype)
    want = zp.quantize(x[valid], params) if valid.any() else np.empty(0, params.dtype)
    np.testing.assert_array_equal(q.reshape(want.shape), want)
    for chunk in codes.data.chunks:
        under = np.frombuffer(chunk.values.buffers()[1], params.dtype).reshape(-1, x.shape[1])
        there = chunk.is_valid().to_numpy(zero_copy_only=False)
        assert not under[: len(there)][~there].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    "params",
    [PER_TENSOR, PER_ELEMENT, OFFSETS["faiss"]],
    ids=["tensor", "axis", "offsets"],
)
def test_codes_are_those_of_numpy(kind: str, dtype: str, params: Any) -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 7, 8, 9, 100):  # validity is bits, eight a byte
        for nulls in (0, 0.3, 1):
            x = rng.normal(0, 3, (count, N)).astype(dtype)
            valid = rng.random(count) >= nulls
            if nulls == 1 and params.axis is None and kind != "fixed":
                continue  # nothing says how long the rows are: see below
            if count == 0 and params.axis is None and kind != "fixed":
                continue
            pieces = np.split(np.arange(count), sorted(rng.integers(0, count + 1, 2)))
            given = pa.chunked_array(
                [array(x[i], kind, valid[i] if nulls else None, rng) for i in pieces]
            )
            given.validate(full=True)
            codes = arrow.quantize(given, params)
            check(codes, x, valid, params)
            assert len(codes.data.chunks) == len(given.chunks)
            lists = arrow.quantize(given, params, kind="list")
            lists.data.validate(full=True)
            assert lists.data.to_pylist() == codes.data.to_pylist()
            assert sum(len(chunk.values) for chunk in lists.data.chunks) == valid.sum() * N
            # and back, by the metadata alone
            back = arrow.dequantize(codes)
            back.data.validate(full=True)
            assert back.field == pa.field("", pa.list_(REALS[dtype], N))
            assert not back.field.metadata
            want = zp.dequantize(zp.quantize(x, params), params, dtype=dtype)
            rows = back.data.to_pylist()
            assert [row is not None for row in rows] == valid.tolist()
            got = np.array([row for row in rows if row is not None], dtype)
            assert got.tobytes() == want[valid].tobytes()
            seen = [*arrow.rows(given)]
            assert sum(map(len, seen)) == valid.sum()
            if seen:
                np.testing.assert_array_equal(np.concatenate(seen), x[valid])


@pytest.mark.parametrize("dtype", REALS)
def test_single_numbers(dtype: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, 50).astype(dtype)
    valid = rng.random(50) > 0.3
    given = pa.chunked_array([pa.array(np.where(valid, x, np.nan).astype(dtype), mask=~valid)])
    codes = arrow.quantize(given[7:], PER_TENSOR, name="x")
    want = [int(q) if ok else None for q, ok in zip(zp.quantize(x, PER_TENSOR), valid, strict=True)]
    assert codes.field.type == pa.int8()
    assert codes.data.to_pylist() == want[7:]
    values = zp.dequantize(zp.quantize(x, PER_TENSOR), PER_TENSOR, dtype=dtype)
    back = arrow.dequantize(codes)
    assert back.field == pa.field("x", REALS[dtype])
    assert (
        back.data.to_pylist()
        == [v if ok else None for v, ok in zip(values.tolist(), valid, strict=True)][7:]
    )
    with pytest.raises(ValueError, match="holds single numbers and params have axis -1"):
        arrow.quantize(given, PER_ELEMENT)


def test_memory_is_viewed_where_it_lies() -> None:
    x = np.arange(40, dtype=np.float32).reshape(8, N)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), N)
    memory = fixed.values.buffers()[1].address
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 41, N), pa.int32()), fixed.values)
    with_null = pa.ListArray.from_arrays(
        pa.array([0, 5, 10, 10, 15], pa.int32()),
        fixed.values,
        mask=pa.array([False, False, True, False]),
    )
    for column in (fixed, lists, fixed[3:], pa.chunked_array([lists[2:5]]), with_null):
        (rows,) = arrow.rows(column)
        first = _columns.column_of(column, "column", None).data.chunk(0)
        start = 3 if column is not fixed and len(first) == 5 else 2 if len(first) == 3 else 0
        assert rows.__array_interface__["data"][0] == memory + start * 4 * N
        assert not rows.flags.owndata
    # codes: the array that quantize made is the buffer
    codes = arrow.quantize(fixed, PER_TENSOR)
    assert codes.data.chunk(0).values.buffers()[1].size == x.size


# ---------------------------------------------------------------------------------------------
# Other libraries

X = np.random.default_rng(2).normal(0, 2, (6, N)).astype(np.float32)
VALID = np.array([True, False, True, True, True, False])
ROWS = [row.tolist() if ok else None for row, ok in zip(X, VALID, strict=True)]


def columns() -> dict[str, Any]:
    lists = pa.array(ROWS, pa.list_(pa.float32()))
    frame = pl.DataFrame({"e": pl.Series("e", ROWS, dtype=pl.List(pl.Float32))})
    fixed = pl.Series("e", ROWS, dtype=pl.Array(pl.Float32, N))
    source = pa.table({"e": lists})
    return {
        "polars List": frame["e"],
        "polars Array": fixed,
        "polars DataFrame": frame,
        "pandas": pd.Series(lists, dtype=pd.ArrowDtype(lists.type), name="e"),
        "pandas DataFrame": pd.DataFrame({"e": pd.Series(lists, dtype=pd.ArrowDtype(lists.type))}),
        "duckdb": duckdb.sql("select e from source"),
        "duckdb array": duckdb.sql(f"select e::float[{N}] as e from source"),
        "pyarrow table": source,
        "pyarrow batch": source.to_batches()[0],
        "pyarrow array": lists,
        "a stream alone": Stream(source["e"]),
        "an array alone": Capsules(lists),
    }


class Stream:
    def __init__(self, column: Any) -> None:
        self.__arrow_c_stream__ = column.__arrow_c_stream__


class Capsules:
    def __init__(self, column: Any) -> None:
        self.__arrow_c_array__ = column.__arrow_c_array__


@pytest.mark.parametrize("source", columns())
def test_columns_of_other_libraries(source: str) -> None:
    column = columns()[source]
    for params in (PER_TENSOR, PER_ELEMENT):
        codes = arrow.quantize(column, params)
        check(codes, X, VALID, params)
        alone = source.startswith(("a", "pyarrow array"))
        assert codes.field.name == ("" if alone else "e")
        assert arrow.quantize(column, params, name="other").field.name == "other"
    assert np.concatenate([*arrow.rows(column)]).tobytes() == X[VALID].tobytes()


def test_other_libraries_read_the_codes() -> None:
    codes = arrow.quantize(pl.Series("e", ROWS, dtype=pl.List(pl.Float32)), PER_TENSOR)
    want = [
        row.tolist() if ok else None
        for row, ok in zip(zp.quantize(X, PER_TENSOR), VALID, strict=True)
    ]
    series = pl.Series(codes).alias("e")
    assert series.dtype == pl.Array(pl.Int8, N)
    assert series.to_list() == want  # no null became a code
    assert pa.chunked_array(codes).to_pylist() == want
    assert pa.field(codes).metadata == codes.field.metadata
    source = pa.table({"id": range(6)}).append_column(*codes)
    assert duckdb.sql("select e from source").to_arrow_table()["e"].to_pylist() == want
    assert duckdb.sql("select count(e) from source").fetchall() == [(4,)]
    assert source.to_pandas(types_mapper=pd.ArrowDtype)["e"].isna().tolist() == [*~VALID]
    # back from a library that keeps no metadata
    for column in (series, duckdb.sql("select e from source")):
        with pytest.raises(
            ValueError, match=r"^column 'e' has no zeropoint.params in the metadata"
        ):
            arrow.dequantize(column)
        back = arrow.dequantize(column, PER_TENSOR)
        assert back.field.type == pa.list_(pa.float32(), N)
        again = [
            None if q is None else zp.dequantize(np.int8(q), PER_TENSOR).tolist() for q in want
        ]
        assert back.data.to_pylist() == again


def test_a_polars_null_never_becomes_a_code() -> None:
    frame = pl.DataFrame({"x": [0.5, None, -1.0, None]}, schema={"x": pl.Float32})
    codes = arrow.quantize(frame["x"], PER_TENSOR)
    assert pl.Series(codes).to_list() == [13, None, -17, None]


def test_extension_types_are_taken_by_their_storage() -> None:
    storage = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), N)
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [N]), storage)
    check(arrow.quantize(tensor, PER_TENSOR), X, np.ones(6, bool), PER_TENSOR)
    # one that pyarrow does not know is metadata, which must not go on with the codes
    field = pa.field("e", storage.type, metadata={"ARROW:extension:name": "other", "mine": "kept"})
    codes = arrow.quantize(pa.table([storage], schema=pa.schema([field])), PER_TENSOR)
    assert {*codes.field.metadata} == {b"mine", arrow.PARAMS, arrow.DTYPE}


# ---------------------------------------------------------------------------------------------
# Tables


def table() -> pa.Table:
    fields = [
        pa.field("id", pa.int64(), metadata={"unit": "none"}),
        pa.field("e", pa.list_(pa.float32()), metadata={"model": "m"}),
        pa.field("x", pa.float64(), nullable=False),
    ]
    data = [pa.array(range(6)), pa.array(ROWS, fields[1].type), pa.array(np.arange(6.0))]
    return pa.table(data, schema=pa.schema(fields, metadata={"file": "kept"}))


def test_tables_keep_all_else() -> None:
    given = table()
    for whole in (given, given.to_batches()[0], pl.from_arrow(given)):
        codes = arrow.quantize_table(whole, {"e": PER_ELEMENT, "x": PER_TENSOR})
        assert type(codes) is (type(whole) if isinstance(whole, pa.RecordBatch) else pa.Table)
        assert codes.schema.names == given.schema.names
        assert codes["e"].type == pa.list_(pa.uint8(), N)
        assert codes["x"].type == pa.int8()
        assert codes["id"].to_pylist() == [*range(6)]
        back = arrow.dequantize_table(codes)
        assert back["e"].type == pa.list_(pa.float32(), N)
        assert (
            back["x"].to_numpy().tolist()
            == PER_TENSOR.dequantize(PER_TENSOR.quantize(np.arange(6.0)), dtype="float64").tolist()
        )
        if isinstance(whole, pl.DataFrame):
            continue
        assert codes.schema.metadata == {b"file": b"kept"}
        assert codes.schema.field("id") == given.schema.field("id")
        assert codes.schema.field("id").metadata == {b"unit": b"none"}
        assert codes.schema.field("e").metadata[b"model"] == b"m"
        assert json.loads(codes.schema.field("e").metadata[arrow.PARAMS]) == PER_ELEMENT.to_dict()
        assert not codes.schema.field("x").nullable
        assert back.schema.metadata == {b"file": b"kept"}
        assert back.schema.field("e").metadata == {b"model": b"m"}
        some = arrow.dequantize_table(codes, {"x": None}, dtype="float32")
        assert some["e"].type == codes["e"].type
        assert some["x"].type == pa.float32()


def test_a_parquet_file_explains_itself(tmp_path: Any) -> None:
    codes = arrow.quantize_table(table(), {"e": PER_ELEMENT})
    pq.write_table(codes, tmp_path / "codes.parquet")
    again = pq.read_table(tmp_path / "codes.parquet")
    assert again["e"].type == pa.list_(pa.uint8(), N)
    back = arrow.dequantize_table(again)
    want = PER_ELEMENT.dequantize(PER_ELEMENT.quantize(X))
    assert [row for row in back["e"].to_pylist() if row] == want[VALID].tolist()


@pytest.mark.parametrize("kind", ["list", "binary"])
def test_batches_as_spark_passes_them(kind: str) -> None:
    batches = table().to_batches(max_chunksize=2)
    code = functools.partial(
        arrow.quantize_batches, columns={"e": PER_ELEMENT, "x": PER_TENSOR}, kind=kind
    )
    coded = [*code(iter(batches))]
    assert [len(batch) for batch in coded] == [2, 2, 2]
    whole = pa.Table.from_batches(coded)
    whole.validate(full=True)
    assert whole["e"].type == (pa.list_(pa.uint8()) if kind == "list" else pa.binary())
    assert whole["x"].type == pa.int8()
    q = PER_ELEMENT.quantize(X)
    want = [(row.tolist() if kind == "list" else row.tobytes()) for row in q]
    want = [row if ok else None for row, ok in zip(want, VALID, strict=True)]
    assert whole["e"].to_pylist() == want
    plain = whole.replace_schema_metadata(None).cast(
        pa.schema([(f.name, f.type) for f in whole.schema])
    )
    back = [
        *arrow.dequantize_batches(
            plain.to_batches(), {"e": PER_ELEMENT, "x": PER_TENSOR}, kind="list"
        )
    ]
    values = pa.Table.from_batches(back)
    assert values["e"].type == pa.list_(pa.float32())
    got = [row for row in values["e"].to_pylist() if row is not None]
    assert got == PER_ELEMENT.dequantize(q)[VALID].tolist()


@pytest.mark.parametrize("type", [pa.binary(), pa.large_binary(), pa.binary(N)])
def test_bytes_are_codes_of_the_dtype_of_the_parameters(type: pa.DataType) -> None:
    params = PER_ELEMENT.replace(dtype="int8", zero_point=0, qmin=-128, qmax=127)
    q = params.quantize(X)
    rows = [row.tobytes() if ok else None for row, ok in zip(q, VALID, strict=True)]
    for column in (pa.array(rows, type), pa.array([None, b"\x01" * N, *rows], type)[2:]):
        back = arrow.dequantize(column, params)
        got = [row for row in back.data.to_pylist() if row is not None]
        assert got == params.dequantize(q)[VALID].tolist()
        assert back.data.null_count == 2


# ---------------------------------------------------------------------------------------------
# Missing values: a null is one of Arrow's, a NaN one of the numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("convention", ["numpy", "cf"])
def test_nan_has_a_code_and_a_null_has_none(kind: str, convention: str) -> None:
    x = X.copy()
    x[0, 1] = x[3, 4] = np.nan
    params = zp.choose_params(x[VALID], nan_code=255, skip_nan=True, convention=convention)
    codes = arrow.quantize(array(x, kind, VALID, np.random.default_rng(4)), params)
    check(codes, x, VALID, params)
    q = np.array([row for row in codes.data.to_pylist() if row])
    np.testing.assert_array_equal(q == 255, np.isnan(x[VALID]))
    back = arrow.dequantize(codes).data.to_pylist()
    assert [row is None for row in back] == [*~VALID]
    np.testing.assert_array_equal(np.isnan([row for row in back if row]), np.isnan(x[VALID]))
    x[2, 2] = np.inf
    with pytest.raises(ValueError, match="^the column has inf in row 2, element 2; no code stands"):
        arrow.quantize(array(x, kind, VALID, np.random.default_rng(4)), params)


# ---------------------------------------------------------------------------------------------
# Quantizers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["sentence-transformers", "faiss"])
@pytest.mark.parametrize("dtype", REALS)
def test_a_quantizer_codes_columns(kind: str, style: str, dtype: str) -> None:
    """As it codes arrays, and what lies under nulls, NaN here, does not reach it."""
    x = X.astype(dtype)
    quantizer = EmbeddingQuantizer(style).fit(x)
    column = array(x, kind, VALID, np.random.default_rng(3))
    codes = arrow.quantize(column, quantizer)
    q = np.array([row for row in codes.data.to_pylist() if row], quantizer.dtype)
    np.testing.assert_array_equal(q, quantizer.transform(x[VALID]))
    assert json.loads(codes.field.metadata[arrow.PARAMS]) == quantizer.params.to_dict()
    back = np.array([row for row in arrow.dequantize(codes).data.to_pylist() if row], dtype)
    assert back.tobytes() == quantizer.inverse_transform(q, dtype=dtype).tobytes()
    again = np.array([row for row in arrow.dequantize(codes, quantizer).data.to_pylist() if row])
    np.testing.assert_array_equal(again, back)
    # one row by the ranges of the table
    np.testing.assert_array_equal(arrow.quantize(column[3:4], quantizer).data.to_pylist()[0], q[2])
    fitted = EmbeddingQuantizer(style)
    for rows in arrow.rows(pa.chunked_array([column[:2], column[2:]])):
        fitted.partial_fit(rows)
    assert fitted.params == EmbeddingQuantizer(style).partial_fit(x[VALID]).params


def test_a_quantizer_without_parameters_for_all_rows_is_refused() -> None:
    column = array(X, "fixed", None, np.random.default_rng(3))
    with pytest.raises(ValueError, match="^style 'rows' has no parameters that all rows share"):
        arrow.quantize(column, EmbeddingQuantizer("rows"))
    with pytest.raises(ValueError, match="not fitted"):
        arrow.quantize(column, EmbeddingQuantizer("faiss"))


# ---------------------------------------------------------------------------------------------
# Bad input

LISTS = pa.list_(pa.float32())


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1, 2], None, [3]], LISTS), "the column has 1 elements in row 2 where 2 are"),
        (
            pa.chunked_array([[[1.0, 2]], [None, [1, 2]], [[]]], LISTS),
            "the column has 0 elements in row 3 where 2 are expected; pad the rows",
        ),
        (
            pa.array([[1, 2], None, [3, None]], LISTS),
            "the column has a null within row 2; fill it, or make the whole row null",
        ),
        (
            pa.array([None, [3, None]], pa.list_(pa.float32(), 2)),
            "the column has a null within row 1; fill it",
        ),
        (
            pa.array([[1, 2], None, [3, np.nan]], LISTS),
            "the column has nan in row 2, element 1; no code stands for it: make the row null",
        ),
        (pa.array([None, -np.inf], pa.float32()), "the column has -inf in row 1; no code"),
        (pa.array([], LISTS), "the column has no row that says how long the lists are; pass"),
        (pa.array([None], LISTS), "the column has no row that says how long the lists are"),
    ],
)
def test_bad_rows(column: Any, message: str) -> None:
    for given in (column, pl.Series(column) if len(column) else column):
        with pytest.raises(ValueError, match="^the column has") as caught:
            arrow.quantize(given, PER_TENSOR)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            pa.array([1, 2]),
            "the column has type int64 and must have float16 or float32 or",
        ),
        (pa.array(["a"]), "the column has type string and must"),
        (pa.nulls(3), "the column has type null"),
        (pa.array([[[1.0]]]), "the column has type list<item: list<item: double>>"),
        (pa.array([[True]]), "the column has type list<item: bool>"),
        (pa.array([1.0]).dictionary_encode(), "the column has type dictionary"),
        (table(), "column is a table ('id' (int64), 'e' (list<element: float>), 'x' (double)); pa"),
        ([[1.0]], "column must be a column of Arrow, such as a pyarrow array or what has __arrow_"),
        (X, "column must be a column of Arrow"),
        (
            pa.StructArray.from_arrays([pa.array([1.0, 2])], ["x"], mask=pa.array([True, False])),
            "column is of structs, and some are null",
        ),
    ],
)
def test_bad_columns(column: Any, message: str) -> None:
    message = message.replace("element:", "item:")
    with pytest.raises(TypeError) as caught:
        arrow.quantize(column, PER_TENSOR)
    assert str(caught.value).startswith(message)


def test_bad_arguments() -> None:
    given = table()
    fixed = arrow.quantize(given.select(["e"]), PER_TENSOR)
    with pytest.raises(TypeError, match="^params must be a QuantParams, .* not dict$"):
        arrow.quantize(given.select(["e"]), {})
    with pytest.raises(TypeError, match="^params must be a QuantParams, .* not MinMaxObserver$"):
        arrow.quantize(given.select(["e"]), zp.MinMaxObserver())
    with pytest.raises(
        ValueError, match="^column 'e' has lists of 5 elements and params have 2 sc"
    ):
        arrow.quantize(
            fixed.data.cast(pa.list_(pa.float32(), N)), zp.QuantParams([1, 2], 0, axis=1), name="e"
        )
    for axis in (0, -2):
        with pytest.raises(ValueError, match=f"params have axis {axis}, a scale for each row"):
            arrow.quantize(given.select(["e"]), zp.QuantParams([1.0] * 6, 0, axis=axis))
    blocks = zp.QuantParams(np.ones((6, 1)), 0, axis=1, block_size=5)
    with pytest.raises(ValueError, match="params have axis 1 and block_size 5, a scale for each"):
        arrow.quantize(given.select(["e"]), blocks)
    with pytest.raises(ValueError, match="^kind 'array' is unknown; choose 'fixed_size_list' or"):
        arrow.quantize(given.select(["e"]), PER_TENSOR, kind="array")
    with pytest.raises(ValueError, match="^kind 'binary' is unknown"):
        arrow.dequantize(fixed, kind="binary")
    with pytest.raises(TypeError, match="check_finite"):
        arrow.quantize(given.select(["e"]), PER_TENSOR, check_finite=1)
    with pytest.raises(TypeError, match="^column 'e' has type .*these are codes already$"):
        arrow.quantize(fixed, PER_TENSOR)
    with pytest.raises(TypeError, match="^column 'e' has type .*int8.* must have uint8, or lists"):
        arrow.dequantize(fixed, PER_ELEMENT)
    with pytest.raises(TypeError, match="dtype"):
        arrow.dequantize(fixed, dtype="int32")
    with pytest.raises(
        ValueError, match=r"^table has no column 'f'; it has 'id' \(int64\), 'e' \("
    ):
        arrow.quantize_table(given, {"f": PER_TENSOR})
    twice = pa.table([[1.0], [2.0]], names=["x", "x"])
    with pytest.raises(ValueError, match="^table has 2 columns 'x'; rename all but one$"):
        arrow.quantize_table(twice, {"x": PER_TENSOR})
    for columns in (PER_TENSOR, {}, ["e"], None):
        with pytest.raises(TypeError, match="^columns must be a dict such as"):
            arrow.quantize_table(given, columns)
    for wrong in (given["e"], X, {"e": X}):
        with pytest.raises(TypeError, match="^table must be a table of Arrow"):
            arrow.quantize_table(wrong, {"e": PER_TENSOR})
    with pytest.raises(ValueError, match="^no column has parameters in its metadata"):
        arrow.dequantize_table(given)
    with pytest.raises(ValueError, match="^column 'e': zeropoint|^column 'e' has 1 elements"):
        arrow.quantize_table(pa.table({"e": [[1.0, 2], [1]]}), {"e": PER_TENSOR})


def test_nan_and_inf_can_be_let_through() -> None:
    column = pa.array([[np.nan, np.inf], [-np.inf, 1]], LISTS)
    codes = arrow.quantize(column, PER_TENSOR, check_finite=False)
    assert codes.data.to_pylist() == [[-128, 127], [-128, 23]]


@pytest.mark.parametrize(
    "metadata",
    [
        {arrow.PARAMS: b"{"},
        {arrow.PARAMS: b"\xff"},
        {arrow.PARAMS: b"[1]"},
        {arrow.PARAMS: b"{}"},
        {arrow.PARAMS: b"[" * 100_000},
        {arrow.PARAMS: b'{"scale": 0.0, "zero_point": 0}'},
        {arrow.PARAMS: b'{"scale": 1e999, "zero_point": 0}'},
        {arrow.PARAMS: b'{"scale": [1, 2], "zero_point": 0, "axis": -1}'},
        {arrow.PARAMS: b'{"scale": [1, 2], "zero_point": 0, "axis": 0}'},
        {arrow.PARAMS: b'{"scale": 1, "zero_point": 0}', arrow.DTYPE: b"int8"},
        {arrow.PARAMS: b'{"scale": 1, "zero_point": 0}', arrow.DTYPE: b"\xff"},
    ],
)
def test_hostile_metadata(metadata: dict[bytes, bytes]) -> None:
    field = pa.field("e", pa.list_(pa.uint8()), metadata=metadata)
    given = pa.table([pa.array([[1, 2, 3]], field.type)], schema=pa.schema([field]))
    with pytest.raises(ValueError, match="^column 'e'"):
        arrow.dequantize(given)
    with pytest.raises(ValueError, match="^column 'e'"):
        arrow.dequantize_table(given)
