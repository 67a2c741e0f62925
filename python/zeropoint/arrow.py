"""Columns of Arrow: lists of floats, such as embeddings, and plain floats as 8-bit codes.

What speaks the Arrow PyCapsule interface is taken: arrays and tables of pyarrow, Series and
DataFrames of polars and pandas, results of DuckDB.  Memory is viewed where it lies, whatever
slices and offsets there are.  Nulls stay nulls, and what lies under them, NaN included, is neither
looked at nor passed on.  Needs the packages of the extra ``arrow``.

The parameters go into the metadata of the column's field, so that a pyarrow table, or a Parquet
file that pyarrow wrote of it, explains itself.  polars, pandas, DuckDB and Spark keep no metadata:
there the parameters are passed once more.

>>> import numpy as np, pyarrow as pa, zeropoint as zp
>>> from zeropoint.arrow import dequantize, dequantize_table, quantize
>>> x = np.linspace(-1, 3, 6, dtype=np.float32).reshape(2, 3)
>>> column = pa.FixedSizeListArray.from_arrays(x.ravel(), 3)
>>> codes = quantize(column, zp.choose_params(x), name="embedding")
>>> str(codes.field.type), str(dequantize(codes).field.type)
('fixed_size_list<item: uint8>[3]', 'fixed_size_list<item: float>[3]')
>>> table = pa.table({"id": [1, 2]}).append_column(*codes)
>>> dequantize_table(table).column_names
['id', 'embedding']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from . import _checks
from ._extras import missing
from ._reference import Array

try:
    import pyarrow as pa
except ImportError as error:
    raise missing("arrow", "zeropoint.arrow") from error

from ._columns import (
    DTYPE,
    PARAMS,
    Column,
    column_of,
    dequantized,
    index_of,
    listed,
    quantized,
    rows_of,
    speaks_arrow,
)

__all__ = [
    "DTYPE",
    "PARAMS",
    "Column",
    "dequantize",
    "dequantize_batches",
    "dequantize_table",
    "quantize",
    "quantize_batches",
    "quantize_table",
    "rows",
]

# ---------------------------------------------------------------------------------------------
# The public functions


def quantize(
    column: Any,
    params: Any,
    *,
    name: str | None = None,
    kind: str = "fixed_size_list",
    check_finite: bool = True,
) -> Column:
    """The codes of a column of float lists of one length, or of floats.

    The codes are those of `zeropoint.quantize` for the array ``[rows, n]``, or ``[rows]``.

    Parameters
    ----------
    column
        ``FixedSizeList``, ``List`` or ``LargeList`` of float16, float32 or float64, or those alone:
        an array, a Series, a table of one column.  A null row stays null; all others must have one
        length, and no null in them.
    params
        A `QuantParams`, an `OffsetParams` or a fitted quantizer: one scale for all, or one for each
        element of a list (``axis=-1``).
    name
        Of the field; by default that of `column`, if it has one.
    kind
        What holds the codes of a list: ``"fixed_size_list"``; ``"list"``, which Spark needs; or
        ``"binary"``, which has the least overhead where ``uint8`` is unknown, as in Spark.
    check_finite
        Refuse NaN and Inf, since no code stands for them; with ``params.nan_code`` Inf alone.
        False turns it off: NaN is then qmin, and +-Inf are qmax and qmin, as by
        `zeropoint.quantize`; a quantizer refuses them all the same.

    Returns
    -------
    Column
        The field, with the parameters in its metadata (``zeropoint.params``), and the codes.

    Raises
    ------
    TypeError
        `column` is of another type, or no Arrow column; `params` is none of the above.
    ValueError
        Rows of different lengths, a null within a row, NaN or Inf (each with the row); parameters
        that do not fit the rows, or of single rows (axis 0).
    """
    return quantized(column_of(column, "column", name), params, kind, check_finite)


def dequantize(
    column: Any,
    params: Any = None,
    *,
    dtype: Any = None,
    name: str | None = None,
    kind: str = "fixed_size_list",
) -> Column:
    """The values of a column of codes; what `quantize` returned needs nothing else.

    Parameters
    ----------
    column
        ``FixedSizeList``, ``List`` or ``LargeList`` of ``params.dtype``, such bytes as binary, or
        the integers alone.
    params
        As in `quantize`; by default those of the field's metadata.  A pyarrow array has no field:
        pass ``table.select(["embedding"])`` or the parameters.
    dtype
        float16, float32 or float64; by default that of the values before, else float32.
    name
        Of the field; by default that of `column`, if it has one.
    kind
        What holds the values of a list: ``"fixed_size_list"`` or ``"list"``.

    Returns
    -------
    Column
        A field without those metadata, and the values: the bits of `zeropoint.dequantize`.

    Raises
    ------
    TypeError
        `column` does not hold codes of ``params.dtype``.
    ValueError
        No parameters, or broken ones, in the metadata; rows of different lengths; a null in a row.
    """
    return dequantized(column_of(column, "column", name), params, dtype, kind)


def quantize_table(
    table: Any,
    columns: Mapping[str, Any],
    *,
    kind: str = "fixed_size_list",
    check_finite: bool = True,
) -> Any:
    """A table in which some columns are codes; the others and all metadata are kept.

    The function for Ray Data: ``dataset.map_batches(zeropoint.arrow.quantize_table,
    batch_format="pyarrow", fn_kwargs={"columns": {"embedding": params}})``.

    Parameters
    ----------
    table
        A pyarrow.Table or RecordBatch, or any table of the PyCapsule interface.
    columns
        ``{name: params}``, the parameters as in `quantize`.
    kind, check_finite
        As in `quantize`.

    Returns
    -------
    pyarrow.Table or pyarrow.RecordBatch
        A batch for a batch, else a table.

    Raises
    ------
    TypeError, ValueError
        As `quantize`, with the name of the column; no such column.
    """
    _check_columns(columns)
    return _replaced(
        table,
        columns,
        lambda column, params: quantized(column, params, kind, check_finite),
    )


def dequantize_table(
    table: Any,
    columns: Mapping[str, Any] | None = None,
    *,
    dtype: Any = None,
    kind: str = "fixed_size_list",
) -> Any:
    """A table in which columns of codes are values again.

    Parameters
    ----------
    table
        As in `quantize_table`.
    columns
        ``{name: params}``; None as parameters: those of the metadata.  By default all columns
        that have parameters in their metadata.
    dtype, kind
        As in `dequantize`.

    Raises
    ------
    TypeError, ValueError
        As `dequantize`, with the name of the column; no such column; none with parameters.
    """
    found = _table(table)
    if columns is None:
        columns = {field.name: None for field in found.schema if PARAMS in (field.metadata or {})}
        if not columns:
            raise ValueError(
                f"no column has parameters in its metadata ({listed(found.schema)}); pass "
                'columns={"NAME": params}'
            )
    _check_columns(columns)
    return _replaced(
        found, columns, lambda column, params: dequantized(column, params, dtype, kind)
    )


def quantize_batches(
    batches: Iterable[Any],
    columns: Mapping[str, Any],
    *,
    kind: str = "fixed_size_list",
    check_finite: bool = True,
) -> Iterator[Any]:
    """`quantize_table` for each of `batches`, an iterator of RecordBatches, as Spark has them.

    ``table.mapInArrow(functools.partial(quantize_batches, columns={"embedding": params},
    kind="list"), "id long, embedding array<tinyint>")``
    """
    for batch in batches:
        yield quantize_table(batch, columns, kind=kind, check_finite=check_finite)


def dequantize_batches(
    batches: Iterable[Any],
    columns: Mapping[str, Any] | None = None,
    *,
    dtype: Any = None,
    kind: str = "fixed_size_list",
) -> Iterator[Any]:
    """`dequantize_table` for each of `batches`, as in `quantize_batches`."""
    for batch in batches:
        yield dequantize_table(batch, columns, dtype=dtype, kind=kind)


def rows(column: Any) -> Iterator[Array]:
    """The rows that are not null as arrays ``[rows, n]``, or ``[rows]``: to fit, to observe.

    One array for each chunk of `column`, which is as in `quantize`: views of its memory where no
    null is among them.  ``for x in rows(column): quantizer.partial_fit(x)``

    Raises
    ------
    TypeError, ValueError
        As `quantize`, but for NaN and Inf, which are left to what takes the arrays.
    """
    for values in rows_of(column_of(column, "column", None)):
        if len(values):
            yield values


# ---------------------------------------------------------------------------------------------
# Tables


def _table(given: Any) -> Any:
    """`given` as a pyarrow.Table or RecordBatch."""
    if isinstance(given, (pa.Table, pa.RecordBatch)):
        return given
    if isinstance(given, (pa.Array, pa.ChunkedArray, Column)) or not speaks_arrow(given):
        raise TypeError(
            f"table must be a table of Arrow, such as pyarrow.Table or what has "
            f"__arrow_c_stream__, not {type(given).__name__}"
        )
    return pa.table(given)


def _check_columns(columns: object) -> None:
    if not isinstance(columns, Mapping) or not columns:
        raise TypeError(
            f'columns must be a dict such as {{"embedding": params}}, not {_checks.shown(columns)}'
        )


def _replaced(table: Any, columns: Mapping[str, Any], work: Callable[[Column, Any], Column]) -> Any:
    """The table with what `work` makes of these columns, all else as it is."""
    found = _table(table)
    is_batch = isinstance(found, pa.RecordBatch)
    fields, data = list(found.schema), list(found.columns)
    for name, params in columns.items():
        at = index_of(found.schema, name)
        whole = pa.chunked_array([data[at]]) if is_batch else data[at]
        fields[at], done = work(Column(fields[at], whole), params)
        data[at] = done.chunk(0) if is_batch else done
    schema = pa.schema(fields, found.schema.metadata)
    return type(found).from_arrays(data, schema=schema)
