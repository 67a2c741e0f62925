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
>>> print(codes.field.type, dequantize(codes).field.type)
fixed_size_list<item: uint8>[3] fixed_size_list<item: float>[3]
>>> table = pa.table({"id": [1, 2]}).append_column(*codes)
>>> dequantize_table(table).column_names
['id', 'embedding']
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import _backend, _checks
from ._chunks import chunks
from ._extras import missing
from ._params import QuantParams
from ._reference import Array, working_dtype

try:
    import pyarrow as pa
except ImportError as error:
    raise missing("arrow", "zeropoint.arrow") from error

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

PARAMS = b"zeropoint.params"  #: of a field's metadata: the parameters, as JSON
DTYPE = b"zeropoint.dtype"  #: of a field's metadata: the dtype of the values before

KINDS = ("fixed_size_list", "list", "binary")
_REALS = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
_CODES = {pa.uint8(): "uint8", pa.int8(): "int8"}
_TYPES = {name: kind for kind, name in (_REALS | _CODES).items()}
_LONGEST = np.iinfo(np.int32).max  # what the offsets of a list hold


@_checks.initialised_once
@dataclass(frozen=True, eq=False)
class Column:
    """A field and its data: ``table.append_column(*column)``; other libraries take it as it is."""

    # no tuple: polars would see a sequence of two

    field: Any  #: a pyarrow.Field: name, type, metadata
    data: Any  #: a pyarrow.ChunkedArray

    def __iter__(self) -> Iterator[Any]:
        return iter((self.field, self.data))

    def __arrow_c_schema__(self) -> object:
        return self.field.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.data.__arrow_c_stream__(requested_schema)


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
        `zeropoint.quantize`.

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
    return _quantized(_column(column, "column", name), params, kind, check_finite)


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
    return _dequantized(_column(column, "column", name), params, dtype, kind)


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
        lambda column, params: _quantized(column, params, kind, check_finite),
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
                f"no column has parameters in its metadata ({_listed(found.schema)}); pass "
                'columns={"NAME": params}'
            )
    _check_columns(columns)
    return _replaced(
        found, columns, lambda column, params: _dequantized(column, params, dtype, kind)
    )


def quantize_batches(
    batches: Iterable[Any],
    columns: Mapping[str, Any],
    *,
    kind: str = "fixed_size_list",
    check_finite: bool = True,
) -> Iterator[Any]:
    """`quantize_table` for each of an iterator of RecordBatches, as Spark passes them.

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
    """`dequantize_table` for each of an iterator of RecordBatches, as Spark passes them."""
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
    found = _column(column, "column", None)
    what = _called(found)
    form = _Form.of(found, _REALS, what)
    length = form.length(found.data, None)
    for part in form.parts(found.data, length, what):
        if len(values := part.without_nulls().values):
            yield values


# ---------------------------------------------------------------------------------------------
# Quantize and dequantize one column


def _quantized(
    column: Column, params: Any, kind: str, check_finite: bool, first: int = 0
) -> Column:
    what = _called(column)
    quantizer = None if isinstance(params, QuantParams) else params
    params = _params_of(params)
    _checks.name(kind, "kind", KINDS)
    check_finite = _checks.flag(check_finite, "check_finite")
    form = _Form.of(column, _REALS, what)
    dtype = np.dtype(_REALS[form.item])
    length = _length(form, column.data, params, kind, what)
    _check_fit(params, length, what)
    params._check_precision(working_dtype(dtype))

    found = []
    for part in form.parts(column.data, length, what, first):
        if check_finite:
            _check_finite(part, params, what)
        if quantizer is not None:  # which refuses what lies under nulls
            part = part.without_nulls()
            found.append(_built(part, quantizer.transform(part.values), length, kind))
        else:
            found.append(_built(part, params.quantize(part.values), length, kind))
    item = _TYPES[params.dtype.name]
    metadata = {
        PARAMS: json.dumps(params.to_dict()).encode(),
        DTYPE: dtype.name.encode(),
    }
    return _result(column, found, _list_type(item, length, kind), metadata)


def _dequantized(column: Column, params: Any, dtype: Any, kind: str) -> Column:
    what = _called(column)
    metadata = column.field.metadata or {}
    params = _params_in(metadata, what) if params is None else _params_of(params)
    if dtype is None:
        dtype = metadata.get(DTYPE, b"float32").decode("ascii", "replace")
        if dtype not in _REALS.values():
            raise ValueError(
                f"{what}: {DTYPE.decode()} in its metadata is {_checks.shown(dtype)}; pass dtype="
            )
    wanted = _checks.real_dtype(dtype)
    if wanted.name not in _REALS.values():
        raise TypeError(f"dtype {wanted} is unknown to Arrow; choose {_checks.listed(_TYPES)}")
    _checks.name(kind, "kind", KINDS[:2])
    form = _Form.of(column, {_TYPES[params.dtype.name]: ""}, what, codes=True)
    length = _length(form, column.data, params, kind, what)
    _check_fit(params, length, what)
    found = [
        _built(part, params.dequantize(part.values, dtype=wanted), length, kind)
        for part in form.parts(column.data, length, what)
    ]
    return _result(column, found, _list_type(_TYPES[wanted.name], length, kind), {})


def _result(column: Column, found: list[Any], type: Any, metadata: dict[bytes, bytes]) -> Column:
    """The column of these arrays; metadata of others are kept, but not those of an extension."""
    old = column.field.metadata or {}
    kept = {
        key: text
        for key, text in old.items()
        if key not in (PARAMS, DTYPE) and not key.startswith(b"ARROW:extension:")
    }
    field = pa.field(column.field.name, type, column.field.nullable, kept | metadata or None)
    return Column(field, pa.chunked_array(found, type))


def _params_of(given: Any) -> QuantParams:
    """Parameters, or those of a fitted quantizer."""
    found: Any = given if isinstance(given, QuantParams) else getattr(given, "params", None)
    if not isinstance(found, QuantParams):
        raise TypeError(
            f"params must be a QuantParams, an OffsetParams or a fitted quantizer that has one, "
            f"not {type(given).__name__}"
        )
    return found


def params_from_dict(fields: Any) -> QuantParams:
    """What `to_dict` of parameters of either kind wrote."""
    return QuantParams.from_dict(fields)


def _params_in(metadata: Mapping[bytes, bytes], what: str) -> QuantParams:
    """The parameters in the metadata of a field."""
    if PARAMS not in metadata:
        raise ValueError(
            f"{what} has no {PARAMS.decode()} in the metadata of its field; pass the parameters, "
            'or the field too: table.select(["NAME"]) in place of table["NAME"]'
        )
    try:
        return params_from_dict(json.loads(metadata[PARAMS]))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(
            _checks.printable(f"{what}: {PARAMS.decode()} in its metadata: {error}", 400)
        ) from None


def _check_fit(params: QuantParams, length: int | None, what: str) -> None:
    """ValueError unless each row can use the parameters."""
    if params.axis is None:
        return
    if length is None:
        raise ValueError(
            f"{what} holds single numbers and params have axis {params.axis}; pass parameters "
            "without an axis"
        )
    if params.axis not in (1, -1) or params.block_size is not None:
        blocks = "" if params.block_size is None else f" and block_size {params.block_size}"
        raise ValueError(
            f"{what}: params have axis {params.axis}{blocks}, a scale for each row, and those of a "
            "column serve every row; pass parameters without an axis, or with axis=-1: one scale "
            "for each element of a list"
        )
    count = np.size(params.scale)
    if count != length:
        raise ValueError(
            f"{what} has lists of {length} elements and params have {count} scales; pass the "
            "parameters of this column"
        )


def _length(form: _Form, data: Any, params: QuantParams, kind: str, what: str) -> int | None:
    """The elements of each row."""
    found = form.length(data, int(np.size(params.scale)) if params.axis is not None else None)
    if found is None and form.is_list:
        if kind == "fixed_size_list":
            raise ValueError(
                f"{what} has no row that says how long the lists are; pass parameters with "
                'axis=-1, which know, a FixedSizeList, or kind="list"'
            )
        return 0
    return found


def _check_finite(part: _Part, params: QuantParams, what: str) -> None:
    """ValueError where no code stands for an element of a row that is not null."""
    x = part.values
    nan_code = getattr(params, "nan_code", None)
    if x.size == 0 or (nan_code is None and not np.isnan(_backend.min_max(x, None, None)[0])):
        return  # in a fraction of the time
    is_bad = np.isinf if nan_code is not None else lambda x: ~np.isfinite(x)
    for chunk in chunks(x.shape):
        bad = is_bad(x[chunk])
        for place in np.argwhere(bad) if bad.any() else ():
            index = [int(i) for i in place]
            for axis, along in enumerate(chunk):
                if isinstance(along, slice):
                    index[axis] += along.start
            row = part.row(index[0])
            if row is None:
                continue
            where = f"row {row}" + "".join(f", element {i}" for i in index[1:])
            ways = "pass check_finite=False, which stores NaN as qmin and Inf as qmax or qmin"
            if nan_code is None:
                ways = f"pass parameters with a nan_code, which stands for NaN, or {ways[5:]}"
            raise ValueError(
                f"{what} has {x[tuple(index)]} in {where}, and no code stands for it; make the "
                f"row null or {ways}"
            )


# ---------------------------------------------------------------------------------------------
# Tables


def _table(given: Any) -> Any:
    """`given` as a pyarrow.Table or RecordBatch."""
    if isinstance(given, (pa.Table, pa.RecordBatch)):
        return given
    if isinstance(given, (pa.Array, pa.ChunkedArray, Column)) or not _speaks_arrow(given):
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


def index_of(schema: Any, name: str, where: str = "table") -> int:
    """The place of the one column of that name; else ValueError."""
    at: list[int] = schema.get_all_field_indices(name) if isinstance(name, str) else []
    if len(at) != 1:
        has = f"{len(at)} columns" if at else "no column"
        fix = "rename all but one" if at else f"it has {_listed(schema)}"
        raise ValueError(f"{where} has {has} {_checks.shown(name)}; {fix}")
    return at[0]


def _listed(schema: Any) -> str:
    """What is there: names and types."""
    return _checks.printable(
        ", ".join(f"{field.name!r} ({field.type})" for field in schema) or "no columns", 500
    )


# ---------------------------------------------------------------------------------------------
# One column


def _speaks_arrow(given: Any) -> bool:
    return hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__")


def _column(given: Any, argument: str, name: str | None) -> Column:
    """`given` as a column, without a copy."""
    if isinstance(given, Column):
        field, data = given
    elif isinstance(given, pa.ChunkedArray):
        field, data = pa.field("", given.type), given
    elif hasattr(given, "__arrow_c_stream__"):
        data = pa.chunked_array(given)
        field = _field(given, data.type)
    elif hasattr(given, "__arrow_c_array__"):
        array = pa.array(given)
        data = pa.chunked_array([array], array.type)
        field = _field(given, data.type)
    else:
        raise TypeError(
            f"{argument} must be a column of Arrow, such as a pyarrow array or what has "
            f"__arrow_c_stream__, not {type(given).__name__}; make one, for example "
            f"pyarrow.FixedSizeListArray.from_arrays(x.ravel(), x.shape[1])"
        )
    if pa.types.is_struct(data.type):  # a table
        if data.type.num_fields != 1:
            raise TypeError(
                f"{argument} is a table ({_listed(data.type)}); pass one column of it, or use the "
                "function for tables"
            )
        if data.null_count:
            raise TypeError(f"{argument} is of structs, and some are null; pass their field alone")
        field = data.type.field(0)
        data = pa.chunked_array([chunk.field(0) for chunk in data.chunks], field.type)
    return Column(field if name is None else field.with_name(name), data)


def _field(given: Any, type: Any) -> Any:
    """The field of a column of another library."""
    if hasattr(given, "__arrow_c_schema__"):
        return pa.field(given)
    name = getattr(given, "name", None)
    return pa.field(name if isinstance(name, str) else "", type)


def _called(column: Column) -> str:
    name = column.field.name
    return f"column {_checks.shown(name)}" if name else "the column"


class _Part(NamedTuple):
    """One chunk of a column."""

    values: Array  #: [rows, n], or [rows] of single numbers
    valid: Array | None  #: bool [rows], where some are null
    packed: bool  #: `values` has no rows for the null ones
    first: int  #: the number of its first row in the column

    def without_nulls(self) -> _Part:
        """The same without the rows that are null: a copy where there are some."""
        if self.valid is None or self.packed:
            return self
        return self._replace(values=self.values[self.valid], packed=True)

    def row(self, index: int) -> int | None:
        """The number in the column of row `index` of `values`; None for a null one."""
        if self.valid is not None and self.packed:
            index = int(np.flatnonzero(self.valid)[index])
        elif self.valid is not None and not self.valid[index]:
            return None
        return self.first + index


class _Form(NamedTuple):
    """How the rows of a column lie in memory."""

    item: Any  #: the type of an element
    is_list: bool
    size: int | None  #: the elements of each row, where the type says so

    @staticmethod
    def of(column: Column, items: Mapping[Any, str], what: str, *, codes: bool = False) -> _Form:
        """TypeError unless it is one of `items`, or lists of them."""
        kind = _stored(column.field.type)
        if kind in items:
            return _Form(kind, False, None)
        if _is_list(kind) and kind.value_type in items:
            size = kind.list_size if pa.types.is_fixed_size_list(kind) else None
            return _Form(kind.value_type, True, size)
        if codes and _is_binary(kind):
            fixed = pa.types.is_fixed_size_binary(kind)
            return _Form(next(iter(items)), True, kind.byte_width if fixed else None)
        wanted = " or ".join(map(str, items))
        fix = f"{wanted}, or lists of them (FixedSizeList, List, LargeList)"
        is_codes = kind in _CODES or (_is_list(kind) and kind.value_type in _CODES)
        if is_codes and not codes:
            fix += "; these are codes already" if PARAMS in (column.field.metadata or {}) else ""
        raise TypeError(f"{what} has type {kind} and must have {fix}")

    def length(self, data: Any, known: int | None) -> int | None:
        """The elements of each row: of the type, else `known`, else of the first row; or None."""
        if not self.is_list or self.size is not None:
            return self.size
        if known is not None:
            return known
        for chunk in map(_plain, data.chunks):
            offsets = _offsets(chunk)
            at = np.flatnonzero(_valid(chunk)) if chunk.null_count else range(len(chunk))
            if len(at):
                return int(offsets[at[0] + 1] - offsets[at[0]])
        return None

    def parts(self, data: Any, length: int | None, what: str, first: int = 0) -> Iterator[_Part]:
        """The chunks, each in memory as it lies; `first` is the number of the first row."""
        for chunk in map(_plain, data.chunks):
            yield self._part(chunk, length, first, what)
            first += len(chunk)

    def _part(self, chunk: Any, length: int | None, first: int, what: str) -> _Part:
        count = len(chunk)
        valid = _valid(chunk) if chunk.null_count else None
        if length is None:
            if not self.is_list:
                return _Part(_numbers(chunk), valid, False, first)
            length = 0
        packed = False
        if self.size is not None:
            child = _child(chunk, self.item).slice(chunk.offset * length, count * length)
        else:
            offsets = _offsets(chunk)
            lengths = np.diff(offsets)
            fits = lengths == length
            wrong = ~fits if valid is None else ~fits & valid
            if wrong.any():
                row = int(np.argmax(wrong))
                raise ValueError(
                    f"{what} has {lengths[row]} elements in row {first + row} where {length} are "
                    "expected; pad the rows to one length, or make those null"
                )
            child = _child(chunk, self.item)
            packed = not fits.all()
            if packed and lengths[~fits].any():  # null rows with something else beneath
                places = (offsets[:-1][valid][:, None] + np.arange(length)).ravel()
                child = child.take(pa.array(places))
            else:
                start, end = (int(offsets[0]), int(offsets[-1])) if count else (0, 0)
                child = child.slice(start, end - start)
        shape = (int(np.count_nonzero(valid)) if valid is not None and packed else count, length)
        part = _Part(_numbers(child).reshape(shape), valid, packed, first)
        if child.null_count:
            for index in np.flatnonzero((~_valid(child)).reshape(shape).any(axis=1)):
                if (number := part.row(int(index))) is not None:
                    raise ValueError(
                        f"{what} has a null within row {number}; fill it, or make the whole row "
                        "null"
                    )
        return part


def _stored(kind: Any) -> Any:
    """The type of the storage, of an extension such as a tensor."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _plain(array: Any) -> Any:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def _is_binary(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_fixed_size_binary(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )


def _valid(array: Any) -> Array:
    found: Array = array.is_valid().to_numpy(zero_copy_only=False)
    return found


def _offsets(array: Any) -> Array:
    """Where the rows of lists, or of bytes, begin and end among the elements."""
    if len(array) == 0:  # then they need not be there
        return np.zeros(1, np.int64)
    kind = array.type
    large = pa.types.is_large_list(kind) or pa.types.is_large_binary(kind)
    dtype = np.dtype(np.int64 if large else np.int32)
    start = array.offset * dtype.itemsize
    return np.frombuffer(array.buffers()[1], dtype, len(array) + 1, start)


def _child(array: Any, item: Any) -> Any:
    """All elements that the rows are made of, whatever slice the array is."""
    if not _is_binary(array.type):
        return array.values
    memory = array.buffers()[-1]
    return pa.Array.from_buffers(item, memory.size if memory else 0, [None, memory])


def _numbers(array: Any) -> Array:
    """The memory of an array of numbers; what a null has there is anything."""
    dtype = np.dtype((_REALS | _CODES)[array.type])
    if len(array) == 0:
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def _list_type(item: Any, length: int | None, kind: str) -> Any:
    if length is None:
        return item
    if kind == "binary":
        return pa.binary()
    return pa.list_(item, length) if kind == "fixed_size_list" else pa.list_(item)


def _built(part: _Part, values: Array, length: int | None, kind: str) -> Any:
    """An array of these values, with the nulls of `part`, and zeros under them."""
    valid, validity = part.valid, None
    count = len(values) if valid is None else len(valid)
    if valid is not None:
        if part.packed:
            full = np.zeros((count, *values.shape[1:]), values.dtype)
            full[valid] = values
            values = full
        else:
            values[~valid] = 0
        validity = pa.py_buffer(np.packbits(valid, bitorder="little"))
    memory, item = pa.py_buffer(values.reshape(-1)), _TYPES[values.dtype.name]
    if length is None:
        return pa.Array.from_buffers(item, count, [validity, memory])
    type = _list_type(item, length, kind)
    child = pa.Array.from_buffers(item, count * length, [None, memory])
    if kind == "fixed_size_list":
        return pa.Array.from_buffers(type, count, [validity], children=[child])
    if count * length > _LONGEST:
        raise ValueError(
            f"a chunk of {count} rows of {length} is too long for kind {kind!r}; pass fewer rows "
            'at a time, or kind="fixed_size_list"'
        )
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int32) * np.int32(length))
    if kind == "binary":
        return pa.Array.from_buffers(type, count, [validity, offsets, memory])
    return pa.Array.from_buffers(type, count, [validity, offsets], children=[child])
