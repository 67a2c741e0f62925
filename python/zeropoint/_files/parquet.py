"""Columns of a Parquet file as 8-bit codes, and back: one row group in memory at a time.

Of the floats of a row group there is never more than a batch.  Lists stay what they were: pyarrow
before 26 cannot read a FixedSizeList with nulls from a Parquet file, and so a List is not made one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import _backend, _checks
from .._choice import Choice
from .._extras import missing
from .._params import Params, from_dict
from .._reference import Array, widen, working_dtype
from . import likely, work
from .jobs import FileSummary, Progress, TensorSummary, counter
from .source import AGAIN, fault, opened, state_of
from .target import Report, replacing

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise missing("arrow", "a .parquet file") from error

from .._columns import (
    DTYPE,
    PARAMS,
    REALS,
    Column,
    Form,
    called,
    check_finite,
    dequantized,
    index_of,
    is_list,
    listed,
    params_in,
    params_of,
    quantized,
    rows_of,
)

_BATCH = 1 << 23  # bytes of a batch, as the file counts them before it compresses
_LONGEST_JSON = 1 << 28
_BUFFER = 1 << 20  # bytes of one read
#: metadata of other tools that say what the types were: they would read codes as floats
_OF_TYPES = (b"org.apache.spark.sql.parquet.row.metadata", b"huggingface")


class _Table:
    """An open Parquet file."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self._file, self._state = path, file, state_of(file)
        self.bytes = self._state[2]
        with _reading(path):
            how = {"pre_buffer": False, "buffer_size": _BUFFER, "page_checksum_verification": True}
            self._parquet = pq.ParquetFile(file, **how)
            self.meta = self._parquet.metadata
            self.schema = self._parquet.schema_arrow
        counts = [_leaves(field.type) for field in self.schema]
        if sum(counts) != self.meta.num_columns:
            raise fault(path, "its columns are not those of its schema", AGAIN)
        ends = np.cumsum([0, *counts]).tolist()
        #: for each column the numbers of what Parquet stores for it
        self.leaves = [range(*each) for each in itertools.pairwise(ends)]

    @property
    def rows(self) -> int:
        return int(self.meta.num_rows)

    @property
    def groups(self) -> range:
        return range(self.meta.num_row_groups)

    def size(self, column: int, group: int | None = None, meta: Any = None) -> int:
        """The bytes of a column in the file, or in another with the same columns."""
        meta = meta or self.meta
        return sum(
            meta.row_group(i).column(leaf).total_compressed_size
            for i in (range(meta.num_row_groups) if group is None else (group,))
            for leaf in self.leaves[column]
        )

    def batches(self, group: int, columns: Sequence[int], report: Report) -> Iterator[Any]:
        """The rows of a row group with these columns, all others may be there too."""
        found = self.meta.row_group(group)
        count, size = found.num_rows, max(1, found.total_byte_size)
        step = max(1, min(1 << 16, _BATCH * count // size))
        every = len(columns) == len(self.schema)
        names = None if every else [self.schema.field(i).name for i in columns]
        bytes, seen, told = sum(self.size(i, group) for i in columns), 0, 0
        with _reading(self.path):
            batches = self._parquet.iter_batches(step, row_groups=[group], columns=names)
        while True:
            with _reading(self.path):
                batch = next(batches, None)
            if batch is None:
                break
            yield batch
            seen += len(batch)
            done = bytes * seen // max(1, count)
            report(done - told)
            told = done
        if seen != count:
            raise fault(self.path, f"row group {group} has {seen} rows in place of {count}", AGAIN)

    def column(self, name: str, data: Any = None) -> Column:
        """A column, with these data or none."""
        field = self.schema.field(self.index(name))
        return Column(field, pa.chunked_array([] if data is None else [data], field.type))

    def index(self, name: str) -> int:
        with _naming(self.path):
            return index_of(self.schema, name, "the file")

    def check_unchanged(self) -> None:
        if state_of(self._file) != self._state:
            raise fault(self.path, "it changed while it was read", "keep it unchanged meanwhile")


def _leaves(kind: Any) -> int:
    """How many columns Parquet has for one of Arrow."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if pa.types.is_dictionary(kind):
        return 1
    return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields)) or 1


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Table]:
    if path.is_dir():
        raise fault(path, "it is a folder, as Spark writes them", "pass one of its files")
    with opened(path) as file:
        try:
            table = _Table(path, file)
        except ValueError:
            file.seek(0)
            if found := likely.what(file.read(likely.HEAD), path.suffix):
                raise fault(path, *found) from None
            raise
        yield table


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of the Parquet library as errors of the file; those of the system stay."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        what = " ".join(str(error).split())
        raise fault(path, f"it cannot be read as Parquet: {what[:200]}", AGAIN) from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of a column with the name of the file."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(_checks.printable(f"{path}: {error}")) from None


# ---------------------------------------------------------------------------------------------
# Quantize, dequantize, inspect


def quantize(
    path: Path,
    dst: Path,
    target: Path,
    progress: Progress | None,
    names: Sequence[str] | None,
    given: Any,
    choice: Choice | None,
    axis: int | None,
    skip_nan: bool,
    *,
    stats: bool,
) -> FileSummary:
    """Write `target`, in which the columns `names` are codes.

    By `given`, parameters or a quantizer; or by those that `choice` gives for each column.
    """
    with _opened(path) as table:
        if not names:
            what = f"which column to quantize is not said, and it has {listed(table.schema)}"
            raise fault(path, what, "name one as column")
        at = [table.index(name) for name in names]
        if len(set(at)) != len(at):
            raise fault(path, f"columns {list(names)} name one twice", "name each once")
        for name in names:
            with _naming(path):
                _check_axis(Form.of(table.column(name), REALS, called(table.column(name))), axis)
        sizes = {i: table.size(i) for i in range(len(table.schema))}
        passes = sum(sizes.values()) + (sum(sizes[i] for i in at) if choice else 0)
        report = counter(passes, progress)
        jobs = {}
        for i, name in zip(at, names, strict=True):
            if choice is not None:
                length, params = _fit(table, name, choice, axis, skip_nan, report)
            else:
                form = Form.of(table.column(name), REALS, called(table.column(name)))
                length, params = _length(table, name, form, params_of(given)), given
            jobs[i] = _Coded(table, name, params, length, choice is None, stats)
        return _write(table, jobs, dst, target, report)


def dequantize(
    path: Path, dst: Path, target: Path, progress: Progress | None, dtype: np.dtype[Any] | None
) -> FileSummary:
    """Write `target`, in which the columns of codes are values."""
    with _opened(path) as table:
        names = [each.name for each in table.schema if PARAMS in (each.metadata or {})]
        if not names:
            raise fault(
                path,
                f"no column has parameters in its metadata ({listed(table.schema)})",
                "whoever has them can call zeropoint.arrow.dequantize_table",
            )
        report = counter(sum(table.size(i) for i in range(len(table.schema))), progress)
        jobs = {table.index(name): _Decoded(table, name, dtype) for name in names}
        return _write(table, jobs, dst, target, report)


def inspect(path: Path) -> dict[str, Any]:
    """What `FileInfo` says, and for each column what `TensorInfo` does."""
    with _opened(path) as table:
        columns = []
        for i, field in enumerate(table.schema):
            kind, shape = _label(field.type), _shape(table, field.type)
            one = None
            if PARAMS in (field.metadata or {}):
                with _naming(path):
                    params = params_in(field.metadata, called(table.column(field.name)))
                dtype = field.metadata.get(DTYPE, b"float32").decode("utf-8", "replace")
                one = {
                    "name": field.name,
                    "format": "zeropoint",
                    "dtype": dtype,
                    "shape": shape,
                    "params": params._recipe() | {"dtype": params.dtype.name},
                    "params_shape": params._arrays[0].shape,
                    "parts": (field.name,),
                }
            size = table.size(i)
            about = {"name": field.name, "dtype": kind, "shape": shape, "order": "C"}
            columns.append(about | {"bytes": size, "quantized": one})
        metadata = {
            key.decode("utf-8", "replace"): text.decode("utf-8", "replace")
            for key, text in (table.schema.metadata or {}).items()
        }
        return {
            "path": str(path),
            "format": "parquet",
            "bytes": table.bytes,
            "metadata": metadata,
            "tensors": columns,
        }


def read_params(path: Path, name: str) -> Params:
    """The parameters of a column of codes."""
    with _opened(path) as table:
        field = table.schema.field(table.index(name))
        with _naming(path):
            return params_in(field.metadata or {}, f"column {_checks.shown(name)}")


# ---------------------------------------------------------------------------------------------
# The parameters


def given(fit: Any) -> Any:
    """Parameters or a quantizer: as given, or read from a file of JSON."""
    if isinstance(fit, (str, os.PathLike)):
        path = Path(fit)
        if path.suffix != ".json":
            raise ValueError(
                f"fit {_checks.shown(str(fit))} must be 'all' or the name of a .json file"
            )
        try:
            with opened(path) as file:
                found = json.loads(file.read(_LONGEST_JSON))
            if isinstance(found, dict) and "style" in found:
                from ..embeddings import EmbeddingQuantizer

                fit = EmbeddingQuantizer.from_dict(found)
            else:
                fit = from_dict(found)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            what = f"it does not hold parameters or a quantizer: {error}"
            raise fault(path, what, "write the JSON of their to_dict()") from None
    try:
        params_of(fit)
    except (TypeError, ValueError) as error:
        raise type(error)(f"fit: {error}") from None
    return fit


def _check_axis(form: Form, axis: int | None) -> None:
    if axis is None:
        return
    if not form.is_list:
        raise ValueError(f"axis {axis} is of lists, and the column holds single numbers; leave it")
    if axis not in (1, -1):
        raise ValueError(
            f"axis {axis} would be a scale for each row; pass axis=-1, one for each element of the "
            "lists, or none"
        )


def _length(table: _Table, name: str, form: Form, params: Params) -> int | None:
    """The elements of each row, from the first that is not null where nothing else says so."""
    found = form.length(table.column(name).data, params)
    if found is not None or not form.is_list:
        return found
    for group in table.groups:
        for batch in table.batches(group, [table.index(name)], lambda _: None):
            data = table.column(name, batch.column(index_of(batch.schema, name))).data
            if (found := form.length(data, None)) is not None:
                return found
    return None


def _fit(
    table: _Table,
    name: str,
    choice: Choice,
    axis: int | None,
    skip_nan: bool,
    report: Report,
) -> tuple[int | None, Params]:
    """The elements of each row, and the parameters for the range of the whole column."""
    column = table.column(name)
    what, form = called(column), Form.of(column, REALS, called(column))
    dtype = working_dtype(np.dtype(REALS[form.item]))
    length, first, ends = form.length(column.data, None), 0, None
    fix = "make the row null"
    fix += "" if skip_nan else ", or pass nan_code and skip_nan, which leaves NaN out"
    for group in table.groups:
        for batch in table.batches(group, [table.index(name)], report):
            data = table.column(name, batch.column(index_of(batch.schema, name))).data
            if length is None:
                length = form.length(data, None)
            with _naming(table.path):
                for part in form.parts(data, length, what, first):
                    x = part.without_nulls().values
                    if x.size:
                        found = _backend.min_max(x, None if axis is None else 1, None, skip_nan)
                        if not np.isfinite(found).all():
                            check_finite(part, what, fix, nan=skip_nan)
                        ends = found if ends is None else _wider(ends, found)
            first += len(batch)
    with _naming(table.path):
        if ends is None or np.any(ends[0] > ends[1]):
            left = "no row that is not null"
            if ends is not None:
                empty = ends[0] > ends[1]
                place = f" in element {int(np.argmax(empty))} of all rows" * bool(empty.ndim)
                left = f"nothing but NaN{place}"
            raise ValueError(
                f"{what} has {left}, so it has no range; pass fit, parameters from other data"
            )
        low, high = (np.asarray(end, dtype) for end in ends)
        # for faiss single numbers have one dimension
        return length, choice.params(low, high, axis, None, 1 if length is None else length)


@_backend.ieee
def _wider(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


# ---------------------------------------------------------------------------------------------
# The target


class _Coded:
    """A column that becomes codes."""

    kept = "it is not chosen"

    def __init__(
        self, table: _Table, name: str, given: Any, length: int | None, measure: bool, stats: bool
    ) -> None:
        self.params, self._length = params_of(given), length
        self.shape = () if length is None else (length,)
        column = table.column(name)
        form = Form.of(column, REALS, called(column))
        self._work = functools.partial(quantized, params=given, kind=form.kind, length=length)
        self._again = functools.partial(
            dequantized, params=self.params, kind=form.kind, length=length
        )
        with _naming(table.path):
            self.field = self._work(column).field
        self.dtype = np.dtype(REALS[form.item])
        # of given parameters nothing says that the data are within their range
        step, may_overflow = _steps(self.params, self.dtype)
        self._measure = measure or stats or may_overflow
        self.bound = 0.0 if measure else step / 2
        self.sums = work.Sums() if stats else None

    def __call__(self, column: Column, first: int) -> Any:
        done = self._work(column, first=first)
        if self._measure:
            again = self._again(done, dtype=self.dtype)
            for x, y in zip(
                *(rows_of(each, self._length) for each in (column, again)), strict=True
            ):
                self.bound = max(self.bound, _furthest(x, y))
                if self.sums is not None:
                    self.sums.add(x, y)
        return done.data


class _Decoded:
    """A column of codes that becomes values."""

    kept = "it is not quantized"
    sums = None

    def __init__(self, table: _Table, name: str, dtype: np.dtype[Any] | None) -> None:
        column = table.column(name)
        with _naming(table.path):
            self.params = params_in(column.field.metadata, called(column))
            form = Form.of_codes(column, self.params, called(column))
            length = _length(table, name, form, self.params)
            self._work = functools.partial(dequantized, dtype=dtype, kind=form.kind, length=length)
            self.field = self._work(column).field
        self.shape = () if length is None else (length,)
        kind = self.field.type
        self.dtype = np.dtype(REALS[kind.value_type if is_list(kind) else kind])
        step, self._may_overflow = _steps(self.params, self.dtype)
        self.bound = step / 2

    def __call__(self, column: Column, first: int) -> Any:
        done = self._work(column, first=first)
        if self._may_overflow and any(map(work._is_inf, rows_of(done))):
            self.bound = np.inf
        return done.data


def _steps(params: Any, dtype: np.dtype[Any]) -> tuple[float, bool]:
    """The largest step, and whether a code may stand for more than `dtype` holds."""
    if not np.size(params.scale):
        return 0.0, False
    return float(np.max(params.scale)), work._overflows(params, dtype)


def _furthest(x: Array, again: Array) -> float:
    """The largest error of a value that is a number; Inf where one became Inf."""
    with np.errstate(all="ignore"):
        error = np.abs(widen(again).astype(np.float64) - widen(x))
    return float(np.nanmax(error, initial=0))


def _write(
    table: _Table,
    jobs: dict[int, Any],
    dst: Path,
    target: Path,
    report: Report,
) -> FileSummary:
    """Write the table with these columns changed, all else as it is."""
    fields = list(table.schema)
    for i, job in jobs.items():
        fields[i] = job.field
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k not in _OF_TYPES}
    schema = pa.schema(fields, metadata or None)
    every, first = range(len(fields)), 0
    with replacing(target) as out:
        with pq.ParquetWriter(out, schema, **_settings(table, schema, jobs)) as writer:
            for group in table.groups:
                batches = []
                for batch in table.batches(group, every, report):
                    data = list(batch.columns)
                    for i, job in jobs.items():
                        column = Column(table.schema.field(i), pa.chunked_array([data[i]]))
                        with _naming(table.path):
                            data[i] = job(column, first).chunk(0)
                    batches.append(pa.RecordBatch.from_arrays(data, schema=schema))
                    first += len(batch)
                if batches:
                    rows = sum(map(len, batches))
                    writer.write_table(pa.Table.from_batches(batches), row_group_size=rows)
        table.check_unchanged()
        size = out.tell()
        out.flush()
        written = pq.read_metadata(out.name)
    return FileSummary(
        source=str(table.path),
        target=os.fspath(dst),
        bytes_in=table.bytes,
        bytes_out=size,
        tensors=tuple(_summary(table, written, i, jobs) for i in every),
    )


def _summary(table: _Table, written: Any, i: int, jobs: dict[int, Any]) -> TensorSummary:
    field, job = table.schema.field(i), jobs.get(i)
    about: dict[str, Any] = {"kept": next(iter(jobs.values())).kept}
    shape, dtype = _shape(table, field.type), _label(field.type)
    if job is not None:
        sqnr = None if job.sums is None else job.sums.sqnr_db
        about = {"error_bound": job.bound, "sqnr_db": sqnr}
        about |= {"convention": job.params.convention, "nan_code": job.params.nan_code}
        shape, dtype = (table.rows, *job.shape), job.dtype.name
    return TensorSummary(
        name=field.name,
        shape=shape,
        dtype=dtype,
        codes=job and job.params.dtype.name,
        axis=1 if job is not None and job.params.axis is not None else None,
        block_size=None,
        bytes_in=table.size(i),
        bytes_out=table.size(i, meta=written),
        **about,
    )


def _settings(table: _Table, schema: Any, jobs: dict[int, Any]) -> dict[str, Any]:
    """How the file is written: as the source was, as far as that can be seen.

    Codes always have a dictionary, of at most 256 entries: without one each would take 32 bits.
    """
    how = {"store_schema": True, "write_page_checksum": True}
    if not len(table.groups):
        return how
    paths = _paths(schema)
    leaves = [table.meta.row_group(0).column(i) for i in range(len(paths))]
    codes = {leaf for i in jobs for leaf in table.leaves[i]}
    with_dictionary = [
        path
        for i, (path, leaf) in enumerate(zip(paths, leaves, strict=True))
        if i in codes or any("DICTIONARY" in each for each in leaf.encodings)
    ]
    with_statistics = [
        path for path, leaf in zip(paths, leaves, strict=True) if leaf.statistics is not None
    ]
    order = {table.meta.row_group(i).sorting_columns for i in table.groups}
    by_codes = any(each.column_index in codes for columns in order for each in columns)
    return how | {
        "compression": {
            path: _codec(leaf.compression) for path, leaf in zip(paths, leaves, strict=True)
        },
        "use_dictionary": with_dictionary,
        "write_statistics": with_statistics,
        "write_page_index": any(leaf.has_column_index for leaf in leaves),
        "sorting_columns": [*order.pop()] or None if len(order) == 1 and not by_codes else None,
    }


def _paths(schema: Any) -> list[str]:
    """The names of what Parquet stores."""
    out = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), out)
    found = pq.read_metadata(pa.BufferReader(out.getvalue())).schema
    return [found.column(i).path for i in range(len(found))]


def _codec(name: str) -> str:
    """A codec that can be written; LZ4 has several names."""
    name = name.split("_")[0].lower()
    if name == "uncompressed":
        return "none"
    return name if pa.Codec.is_available(name) else "snappy"


def _label(kind: Any) -> str:
    """The dtype of a column: NumPy's name of floats and codes, also in lists, else Arrow's."""
    item = kind.value_type if is_list(kind) else kind
    numbers = REALS | {pa.uint8(): "uint8", pa.int8(): "int8"}
    return str(numbers.get(item, kind))


def _shape(table: _Table, kind: Any) -> tuple[int, ...]:
    """The shape so far as the schema says it."""
    return (table.rows, kind.list_size) if pa.types.is_fixed_size_list(kind) else (table.rows,)
