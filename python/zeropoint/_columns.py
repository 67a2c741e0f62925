"""One column of Arrow: how its rows lie in memory, and the column of codes or of values.

Memory is viewed where it lies.  What lies under nulls is neither looked at nor passed on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import _backend, _checks
from ._extras import missing
from ._params import Params, from_dict
from ._reference import Array, working_dtype

try:
    import pyarrow as pa
except ImportError as error:
    raise missing("arrow", "zeropoint.arrow") from error

PARAMS = b"zeropoint.params"  #: of a field's metadata: the parameters, as JSON
DTYPE = b"zeropoint.dtype"  #: of a field's metadata: the dtype of the values before

KINDS = ("fixed_size_list", "list", "binary")
REALS = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
CODES = {pa.uint8(): "uint8", pa.int8(): "int8"}
_TYPES = {name: kind for kind, name in (REALS | CODES).items()}
_SIZE = 1 << 20  # elements of a search for NaN at a time
#: what helps against NaN and Inf where there is no nan_code, and where there is one
_FIX = (
    "no code stands for it: make the row null, or use parameters with a nan_code",
    "no code stands for it: make the row null",
)
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
# Quantize and dequantize one column


def quantized(
    column: Column,
    params: Any,
    kind: str = KINDS[0],
    must_be_finite: bool = True,
    first: int = 0,
    length: int | None = None,
) -> Column:
    """The column of codes.

    `params` may be a quantizer.  `first` is the number of the first row, for messages, `length` the
    elements of each row where no row may be there to tell.
    """
    what = called(column)
    quantizer = None if isinstance(params, Params) else params
    params = params_of(params)
    _checks.name(kind, "kind", KINDS)
    must_be_finite = _checks.flag(must_be_finite, "check_finite")
    form = Form.of(column, REALS, what)
    dtype = np.dtype(REALS[form.item])
    length = _length(form, column.data, params, kind, what) if length is None else length
    _check_fit(params, length, what)
    params._check_precision(working_dtype(dtype))
    has_nan_code = params.nan_code is not None
    found = []
    for part in form.parts(column.data, length, what, first):
        if must_be_finite:
            check_finite(part, what, _FIX[has_nan_code], nan=has_nan_code)
        if quantizer is not None:
            part = part.without_nulls()  # it would refuse a NaN under a null
            codes = quantizer.transform(part.values)
        else:
            codes = params.quantize(part.values)
        found.append(_built(part, codes, length, kind))
    item = _TYPES[params.dtype.name]
    metadata = {
        PARAMS: json.dumps(params.to_dict()).encode(),
        DTYPE: dtype.name.encode(),
    }
    return _result(column, found, _list_type(item, length, kind), metadata)


def dequantized(
    column: Column,
    params: Any = None,
    dtype: Any = None,
    kind: str = KINDS[0],
    first: int = 0,
    length: int | None = None,
) -> Column:
    """The column of values; `first` and `length` are as in `quantized`."""
    what = called(column)
    metadata = column.field.metadata or {}
    params = params_in(metadata, what) if params is None else params_of(params)
    if dtype is None:
        dtype = metadata.get(DTYPE, b"float32").decode("ascii", "replace")
        if dtype not in REALS.values():
            raise ValueError(
                f"{what}: {DTYPE.decode()} in its metadata is {_checks.shown(dtype)}; pass dtype="
            )
    wanted = _checks.real_dtype(dtype)
    if wanted.name not in REALS.values():
        raise TypeError(
            f"dtype {wanted} is unknown to Arrow; choose {_checks.listed(REALS.values())}"
        )
    _checks.name(kind, "kind", KINDS[:2])
    form = Form.of_codes(column, params, what)
    length = _length(form, column.data, params, kind, what) if length is None else length
    _check_fit(params, length, what)
    found = [
        _built(part, params.dequantize(part.values, dtype=wanted), length, kind)
        for part in form.parts(column.data, length, what, first)
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


def params_of(given: Any) -> Params:
    """Parameters, or those of a fitted quantizer."""
    found = given if isinstance(given, Params) else getattr(given, "params", None)
    if not isinstance(found, Params):
        raise TypeError(
            "params must be a QuantParams, an OffsetParams or a fitted quantizer, not "
            f"{type(given).__name__}"
        )
    return found


def params_in(metadata: Mapping[bytes, bytes], what: str) -> Params:
    """The parameters in the metadata of a field."""
    if PARAMS not in metadata:
        raise ValueError(
            f"{what} has no {PARAMS.decode()} in the metadata of its field; pass the parameters, "
            'or the field too: table.select(["NAME"]) in place of table["NAME"]'
        )
    try:
        return from_dict(json.loads(metadata[PARAMS]))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(
            _checks.printable(f"{what}: {PARAMS.decode()} in its metadata: {error}", 400)
        ) from None


def _check_fit(params: Params, length: int | None, what: str) -> None:
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
    count = params._arrays[0].size
    if count != length:
        raise ValueError(
            f"{what} has lists of {length} elements and params have {count} scales; pass the "
            "parameters of this column"
        )


def _length(form: Form, data: Any, params: Params, kind: str, what: str) -> int | None:
    """The elements of each row."""
    found = form.length(data, params)
    if found is None and form.is_list:
        if kind == "fixed_size_list":
            raise ValueError(
                f"{what} has no row that says how long the lists are; pass parameters with "
                'axis=-1, which know, a FixedSizeList, or kind="list"'
            )
        return 0
    return found


def check_finite(part: Part, what: str, fix: str, *, nan: bool = False) -> None:
    """ValueError for NaN (if not `nan`) and Inf in a row that is not null."""
    x = part.values
    if x.size == 0 or not np.isnan(_backend.min_max(x, None, None)[0]):
        return  # the usual case, found in a fraction of the time
    rows = x.reshape(len(x), -1)
    step = max(1, _SIZE // rows.shape[1])
    for first in range(0, len(rows), step):
        some = rows[first : first + step]
        bad = np.isinf(some) if nan else ~np.isfinite(some)
        if part.valid is not None and not part.packed:
            bad &= part.valid[first : first + step, None]
        if bad.any():
            row, element = divmod(int(np.argmax(bad)), rows.shape[1])
            where = f"row {part.row(first + row)}" + f", element {element}" * (x.ndim == 2)
            raise ValueError(f"{what} has {some[row, element]} in {where}; {fix}")


# ---------------------------------------------------------------------------------------------
# One column


def index_of(schema: Any, name: str, where: str = "table") -> int:
    """The place of the one column of that name; else ValueError."""
    at: list[int] = schema.get_all_field_indices(name) if isinstance(name, str) else []
    if len(at) != 1:
        has = f"{len(at)} columns" if at else "no column"
        fix = "rename all but one" if at else f"it has {listed(schema)}"
        raise ValueError(f"{where} has {has} {_checks.shown(name)}; {fix}")
    return at[0]


def listed(schema: Any) -> str:
    """What is there: names and types."""
    return _checks.printable(
        ", ".join(f"{field.name!r} ({field.type})" for field in schema) or "no columns", 500
    )


def speaks_arrow(given: Any) -> bool:
    return hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__")


def column_of(given: Any, argument: str, name: str | None) -> Column:
    """`given` as a column, without a copy."""
    if not isinstance(name, str | None):
        raise TypeError(f"name must be a string, not {type(name).__name__} {_checks.shown(name)}")
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
    elif hasattr(getattr(given, "array", None), "__arrow_array__"):  # a Series of pandas before 3
        data = pa.chunked_array(pa.array(given.array))
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
                f"{argument} is a table ({listed(data.type)}); pass one column of it, or use the "
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


def called(column: Column) -> str:
    name = column.field.name
    return f"column {_checks.shown(name)}" if name else "the column"


def rows_of(column: Column, length: int | None = None) -> Iterator[Array]:
    """The rows that are not null, one array for each chunk, which has none where all are null."""
    what = called(column)
    form = Form.of(column, REALS, what)
    length = form.length(column.data, None) if length is None else length
    for part in form.parts(column.data, length, what):
        yield part.without_nulls().values


class Part(NamedTuple):
    """One chunk of a column."""

    values: Array  #: [rows, n], or [rows] of single numbers
    valid: Array | None  #: bool [rows], where some are null
    packed: bool  #: `values` has no rows for the null ones
    first: int  #: the number of its first row in the column

    def without_nulls(self) -> Part:
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


class Form(NamedTuple):
    """How the rows of a column lie in memory."""

    item: Any  #: the type of an element
    is_list: bool
    size: int | None  #: the elements of each row, where the type says so

    @staticmethod
    def of(column: Column, items: Mapping[Any, str], what: str, *, codes: bool = False) -> Form:
        """TypeError unless it is one of `items`, or lists of them."""
        kind = _stored(column.field.type)
        if kind in items:
            return Form(kind, False, None)
        if is_list(kind) and kind.value_type in items:
            size = kind.list_size if pa.types.is_fixed_size_list(kind) else None
            return Form(kind.value_type, True, size)
        if codes and _is_binary(kind):
            fixed = pa.types.is_fixed_size_binary(kind)
            return Form(next(iter(items)), True, kind.byte_width if fixed else None)
        wanted = " or ".join(items.values())
        fix = f"{wanted}, or lists of them (FixedSizeList, List, LargeList)"
        is_codes = kind in CODES or (is_list(kind) and kind.value_type in CODES)
        if is_codes and not codes:
            fix += "; these are codes already" if PARAMS in (column.field.metadata or {}) else ""
        raise TypeError(f"{what} has type {kind} and must have {fix}")

    @property
    def kind(self) -> str:
        """What holds the rows, in the words of `quantized`."""
        return "list" if self.size is None else "fixed_size_list"

    @staticmethod
    def of_codes(column: Column, params: Params, what: str) -> Form:
        """The same for codes of `params`."""
        return Form.of(column, {_TYPES[params.dtype.name]: params.dtype.name}, what, codes=True)

    def length(self, data: Any, params: Params | None) -> int | None:
        """The elements of each row, as the type, the parameters or the first row say; or None."""
        if not self.is_list or self.size is not None:
            return self.size
        if params is not None and params.axis is not None:
            return params._arrays[0].size
        for chunk in map(_plain, data.chunks):
            offsets = _offsets(chunk)
            at = np.flatnonzero(_valid(chunk)) if chunk.null_count else range(len(chunk))
            if len(at):
                return int(offsets[at[0] + 1] - offsets[at[0]])
        return None

    def parts(self, data: Any, length: int | None, what: str, first: int = 0) -> Iterator[Part]:
        """The chunks, each in memory as it lies; `first` is the number of the first row."""
        for chunk in map(_plain, data.chunks):
            yield self._part(chunk, length, first, what)
            first += len(chunk)

    def _part(self, chunk: Any, length: int | None, first: int, what: str) -> Part:
        count = len(chunk)
        valid = _valid(chunk) if chunk.null_count else None
        if length is None:
            if not self.is_list:
                return Part(_numbers(chunk), valid, False, first)
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
        part = Part(_numbers(child).reshape(shape), valid, packed, first)
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


def is_list(kind: Any) -> bool:
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
    dtype = np.dtype((REALS | CODES)[array.type])
    if len(array) == 0:
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def _list_type(item: Any, length: int | None, kind: str) -> Any:
    if length is None:
        return item
    if kind == "binary":
        return pa.binary()
    return pa.list_(item, length) if kind == "fixed_size_list" else pa.list_(item)


def _built(part: Part, values: Array, length: int | None, kind: str) -> Any:
    """An array of these values, with the nulls of `part`: zeros under them, or nothing."""
    valid, validity = part.valid, None
    count = len(values) if valid is None else len(valid)
    if valid is not None:
        validity = pa.py_buffer(np.packbits(valid, bitorder="little"))
    item = _TYPES[values.dtype.name]
    if length is None or kind == "fixed_size_list":
        if valid is not None and part.packed:
            full = np.zeros((count, *values.shape[1:]), values.dtype)
            full[valid] = values
            values = full
        elif valid is not None:
            values[~valid] = 0
        memory = pa.py_buffer(values.reshape(-1))
        if length is None:
            return pa.Array.from_buffers(item, count, [validity, memory])
        child = pa.Array.from_buffers(item, count * length, [None, memory])
        type = _list_type(item, length, kind)
        return pa.Array.from_buffers(type, count, [validity], children=[child])
    if valid is not None and not part.packed:
        values = values[valid]
    if values.size > _LONGEST:
        raise ValueError(
            f"a chunk of {count} rows of {length} is too long for kind {kind!r}; pass fewer rows "
            'at a time, or kind="fixed_size_list"'
        )
    lengths = np.full(count, length) if valid is None else valid * length
    offsets = pa.py_buffer(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    memory, type = pa.py_buffer(values.reshape(-1)), _list_type(item, length, kind)
    if kind == "binary":
        return pa.Array.from_buffers(type, count, [validity, offsets, memory])
    child = pa.Array.from_buffers(item, values.size, [None, memory])
    return pa.Array.from_buffers(type, count, [validity, offsets], children=[child])
