"""zeropoint on xarray: netCDF and Zarr data as 8-bit codes, by the CF conventions.

A packed variable holds codes and the attributes ``scale_factor``, ``add_offset`` and
``_FillValue``, by which every reader of netCDF gets the values back.  `encoding` chooses these
attributes and leaves the packing to xarray at the time of writing; `pack` makes the codes here,
and they saturate where xarray's wrap around; `unpack` gives the values that xarray's own decoder
gives, to the bit.  Needs the packages of the extra ``xarray``.

>>> import numpy as np, xarray as xr, zeropoint.xarray as zx
>>> t = xr.DataArray(np.float32([250, 275.5, np.nan, 313.5]), dims="x", name="t")
>>> packed = zx.pack(t)  # ready for to_netcdf and to_zarr
>>> packed.values, packed.attrs["scale_factor"], packed.attrs["_FillValue"]
(array([  0, 102, 255, 254], dtype=uint8), np.float32(0.25), np.uint8(255))
>>> zx.unpack(packed).values
array([250. , 275.5,   nan, 313.5], dtype=float32)
>>> zx.pack(t + 100, encoding=zx.encoding(t)).values  # saturates
array([254, 254, 255, 254], dtype=uint8)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from . import _backend, _cf, _checks
from ._choice import Choice
from ._extras import missing
from ._params import OffsetParams
from ._reference import Array, widen

try:
    import xarray as xr
except ImportError as error:
    raise missing("xarray", "zeropoint.xarray") from error

__all__ = ["encoding", "pack", "unpack"]

_Data = TypeVar("_Data", xr.Dataset, xr.DataArray)
#: attributes that say something else once the variable holds codes
_TAKEN = (_cf.SCALE, _cf.OFFSET, *_cf.FILLS, _cf.UNSIGNED)
#: attributes by which a variable names others; ``decode_coords="all"`` moves them to its encoding
_LINKS = (
    "bounds",
    "climatology",
    "grid_mapping",
    "cell_measures",
    "formula_terms",
    "geometry",
    "node_coordinates",
    "node_count",
    "part_node_count",
    "interior_ring",
)
_AUTO = {"uint8": 255, "int8": -128}  #: the end at which the other codes lose least


def encoding(
    data: Any,
    dtype: Any = "uint8",
    *,
    variables: Hashable | Iterable[Hashable] | None = None,
    nan_code: Any = "auto",
) -> dict[Hashable, dict[str, Any]]:
    """Attributes for every float variable: what ``to_netcdf(encoding=)`` and ``to_zarr`` take.

    The range of a variable is that of its data, without NaN.  Dask arrays are read once, chunk by
    chunk, all variables in one pass.

    Parameters
    ----------
    data
        A Dataset, or a DataArray with a name.
    dtype
        ``"uint8"`` or ``"int8"``: the type of the codes.
    variables
        Names of data variables.  None: all of float16, float32 and float64, but for those that
        hold the bounds of a coordinate.  Coordinates, integers, times and strings are left alone.
    nan_code
        The code for missing values, which data never get: by default 255 of uint8 and -128 of
        int8, for every variable, because netCDF4 reads one code as missing where no attribute
        says which.  None: no such code; NaN is an error then.

    Returns
    -------
    dict
        For each variable ``scale_factor`` and ``add_offset`` (float64 for float64 data, else
        float32), ``_FillValue`` and ``dtype``; ``grid_mapping`` and the like, where
        ``decode_coords="all"`` has put them into the variable's encoding, which this one replaces.
        A variable without values has scale 1, offset 0.

    Raises
    ------
    TypeError
        `data` is not of xarray; a variable asked for by name that is not of a supported float
        dtype.
    ValueError
        An Inf; NaN with ``nan_code=None``; a range too wide for its dtype; an unknown variable;
        one that has an attribute of packed data, or ``valid_range`` and the like; float16 data
        that xarray, which packs them in float16, cannot pack.  All name the variable.

    Notes
    -----
    xarray does not saturate: the codes of other data than these wrap around.  `pack` makes codes
    that do not.  Keys such as ``zlib`` can be added to the dictionaries.
    """
    if isinstance(data, xr.DataArray) and data.name is None:
        raise ValueError("data has no name, by which to file the encoding; pass data.rename('t')")
    dataset = _dataset(data)
    chosen = _chosen(dataset, dtype, variables, nan_code)
    for name in chosen:
        variable = dataset.variables[name]
        with _of(name):
            _check_free(variable.attrs, _cf.VALID, "netCDF4 compares it with the codes; use pack")
            if variable.dtype == np.float16:
                raise ValueError(
                    "xarray packs float16 in float16, whose rounding moves codes; use pack, or "
                    "astype('float32')"
                )
    return {
        name: params.to_cf() | _links(dataset.variables[name]) for name, params in chosen.items()
    }


def pack(
    data: _Data,
    dtype: Any = None,
    *,
    encoding: Mapping[Any, Any] | None = None,
    variables: Hashable | Iterable[Hashable] | None = None,
    nan_code: Any = "auto",
) -> _Data:
    """The same data with float variables as codes, and the attributes that give the values back.

    ``to_netcdf`` and ``to_zarr`` write the result as it is; xarray, netCDF4 and others read it as
    floats.  Values beyond the range saturate.

    Parameters
    ----------
    data
        A Dataset or a DataArray.  Dask arrays give lazy codes; choosing the parameters reads them
        once.
    dtype, variables, nan_code
        As in `encoding`; `dtype` is uint8 by default.
    encoding
        What `encoding` returned for these or other data, or ``{name: attributes}`` in that form,
        in place of the three: the variables that it names are packed by it, without a look at
        their range.

    Returns
    -------
    xarray.Dataset or xarray.DataArray
        With the dimensions, coordinates and attributes of `data`.  Attributes ``valid_min``,
        ``valid_max`` and ``valid_range`` become codes, as readers of packed data expect; the
        ``encoding`` of packed variables, which was that of floats, is empty but for
        ``grid_mapping`` and the like.

    Raises
    ------
    TypeError, ValueError
        As `encoding`; what `OffsetParams.from_cf` raises; both `encoding` and one of the three.
        NaN where there is no ``_FillValue``: at once, for Dask arrays once they are computed.
    """
    dataset = _dataset(data)
    if encoding is None:
        chosen = _chosen(dataset, "uint8" if dtype is None else dtype, variables, nan_code)
    elif dtype is None and variables is None and nan_code == "auto":
        chosen = _given(dataset, encoding)
    else:
        raise ValueError(
            "encoding says which variables get which codes, so dtype, variables and nan_code "
            "cannot apply; leave one or the others out"
        )
    packed = {name: _packed(name, dataset.variables[name], p) for name, p in chosen.items()}
    return _like(data, dataset.assign(packed))


def unpack(data: _Data, *, dtype: Any = None) -> _Data:
    """The same data with packed 8-bit variables as floats: the bits of xarray's own decoder.

    Parameters
    ----------
    data
        A Dataset or a DataArray, as `pack` returns it or as a file is read with
        ``mask_and_scale=False``.  Dask arrays stay lazy.
    dtype
        float16, float32 or float64.  None: the precision of the attributes, as xarray has it.

    Returns
    -------
    xarray.Dataset or xarray.DataArray
        NaN where the code is ``_FillValue`` or ``missing_value``.  Variables that are not of uint8
        or int8, or have neither ``scale_factor`` nor ``add_offset``, are left as they are
        (``xarray.decode_cf`` decodes those).

    Raises
    ------
    TypeError, ValueError
        `data` is not of xarray; attributes that `OffsetParams.from_cf` refuses.  The message names
        the variable.
    """
    dataset = _dataset(data)
    real = None if dtype is None else _checks.real_dtype(dtype)
    unpacked = {
        name: _unpacked(name, variable, real)
        for name, variable in dataset.variables.items()
        if variable.dtype in (np.uint8, np.int8)
        and any(variable.attrs.get(key) is not None for key in (_cf.SCALE, _cf.OFFSET))
    }
    return _like(data, dataset.assign(unpacked))


# ---------------------------------------------------------------------------------------------
# Datasets and their variables


def _dataset(data: Any) -> Any:
    """`data` as a Dataset; `_like` is the way back."""
    if isinstance(data, xr.Dataset):
        return data
    if not isinstance(data, xr.DataArray):
        raise TypeError(f"data must be an xarray Dataset or DataArray, not {type(data).__name__}")
    return data.to_dataset(name=_name(data))


def _like(data: _Data, dataset: Any) -> _Data:
    """The Dataset, or its variable that stands for the DataArray `data`."""
    if isinstance(data, xr.Dataset):
        return dataset
    return dataset[_name(data)].rename(data.name)


def _name(data: Any) -> Hashable:
    """That of a DataArray in its Dataset, where it cannot be that of a coordinate."""
    name: Hashable = data.name
    return "this array" if name is None or name in data.coords else name


@contextlib.contextmanager
def _of(name: Hashable) -> Iterator[None]:
    """Errors name the variable."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"variable {name!r}: {error}") from error.__cause__


def _check_free(attributes: Mapping[Any, Any], names: Iterable[str], fix: str) -> None:
    """ValueError for attributes that mean something else once the variable holds codes."""
    for name in names:
        if name in attributes:
            raise ValueError(
                f"has the attribute {name} = {_checks.shown(attributes[name])}; {fix}, or remove it"
            )


def _links(variable: Any) -> dict[str, Any]:
    return {key: variable.encoding[key] for key in _LINKS if key in variable.encoding}


def _is_real(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" and dtype.itemsize <= 8


def _names(dataset: Any, variables: Any) -> list[Hashable]:
    """The data variables to pack; those asked for, or all that are real and no bounds."""
    if variables is None:
        bounds = {
            where.get(key)
            for variable in dataset.variables.values()
            for where in (variable.attrs, variable.encoding)
            for key in ("bounds", "climatology")
        }
        return [
            name
            for name, variable in dataset.data_vars.items()
            if _is_real(variable.dtype) and name not in bounds
        ]
    several = isinstance(variables, Iterable) and not isinstance(variables, str)
    names = list(variables) if several else [variables]
    _check_known(dataset, names, "variables")
    return names


def _check_known(dataset: Any, names: Iterable[Hashable], what: str) -> None:
    for name in names:
        if name not in dataset.data_vars:
            raise ValueError(
                f"{what} names {name!r}, which is no data variable; there are "
                f"{', '.join(map(repr, dataset.data_vars)) or 'none'}"
            )
        dtype = dataset.variables[name].dtype
        if not _is_real(dtype):
            raise TypeError(
                f"variable {name!r} is of {dtype}; pack float16, float32 or float64, or leave it "
                f"out of {what}"
            )


# ---------------------------------------------------------------------------------------------
# Parameters


def _chosen(
    dataset: Any, dtype: Any, variables: Any, nan_code: Any
) -> dict[Hashable, OffsetParams]:
    """Those of each variable for its own data, after one pass over them."""
    dtype = _checks.code_dtype(dtype)
    if isinstance(nan_code, str):
        _checks.name(nan_code, "nan_code", ("auto",), ", a code or None")
        nan_code = _AUTO[dtype.name]
    choice = Choice(dtype, convention="cf", nan_code=nan_code)
    names = _names(dataset, variables)
    for name in names:
        with _of(name):
            _check_free(dataset.variables[name].attrs, _TAKEN, "open with mask_and_scale=True")
    found: dict[Hashable, OffsetParams] = {}
    for name, (low, high) in _ranges(dataset, names, nan_code is not None).items():
        with _of(name):
            if low > high:  # no values
                real = low.dtype.type
                found[name] = OffsetParams(real(1), real(0), dtype, nan_code=nan_code)
            else:
                params: Any = choice.params(low, high)
                found[name] = params
    return found


def _given(dataset: Any, encoding: Any) -> dict[Hashable, OffsetParams]:
    if not isinstance(encoding, Mapping):
        raise TypeError(
            f"encoding must be a mapping from names to attributes, not {type(encoding).__name__}"
        )
    _check_known(dataset, encoding, "encoding")
    found = {}
    for name, attributes in encoding.items():
        with _of(name):
            _check_free(dataset.variables[name].attrs, _TAKEN, "open with mask_and_scale=True")
            found[name] = OffsetParams.from_cf(attributes)
    return found


class _Record(NamedTuple):
    """What a chunk says: its range, and what cannot be packed."""

    low: Any
    high: Any
    faults: int
    first: tuple[int, ...]
    value: str


def _ranges(
    dataset: Any, names: list[Hashable], skip_nan: bool
) -> dict[Hashable, tuple[Array, Array]]:
    """Minimum and maximum of each variable; from Inf to -Inf where there are no values."""
    records: dict[Hashable, Any] = {}
    for name in names:
        variable = dataset.variables[name]
        with _of(name):
            records[name] = _recorded(variable.data, variable.chunks, skip_nan)
    if any(dataset.variables[name].chunks is not None for name in names):
        import dask

        (records,) = dask.compute(records)
    found = {}
    for name, cells in records.items():
        lows, highs, faults, firsts, values = zip(*cells.flat, strict=True)
        if any(faults):
            first, value = min((f, v) for f, v, n in zip(firsts, values, faults, strict=True) if n)
            what = "Inf" if skip_nan else "NaN or Inf"
            raise ValueError(
                f"variable {name!r} has {sum(faults)} {what}, the first ({value}) at {first}; "
                f"{'' if skip_nan else 'pass a nan_code, or '}replace them first, as by "
                "data.where(abs(data) < limit)"
            )
        found[name] = np.minimum.reduce(lows), np.maximum.reduce(highs)
    return found


def _recorded(data: Any, chunks: Any, skip_nan: bool) -> Any:
    """The records of an array's chunks; lazy for a Dask array."""
    if chunks is None:
        return _record(data, skip_nan, [[0]] * data.ndim, (0,) * data.ndim)
    return data.map_blocks(
        _record,
        skip_nan,
        [np.cumsum((0, *sizes)).tolist() for sizes in chunks],
        dtype=object,
        chunks=tuple((1,) * len(sizes) for sizes in chunks),
        meta=np.empty((0,) * data.ndim, object),
    )


@_backend.ieee
def _record(x: Any, skip_nan: bool, starts: list[list[int]], block_id: tuple[int, ...]) -> Array:
    x = _checks.real_array(x, "data")
    inf = widen(np.zeros((), x.dtype)) + np.inf
    low, high = inf, -inf
    if x.size:
        low, high = _backend.min_max(x, None, None, skip_nan)
    count, first, value = 0, tuple[int, ...](), ""
    if np.isnan(low) or (low <= high and np.isinf([low, high]).any()):
        bad = np.isinf(x) if skip_nan else ~np.isfinite(x)
        at = tuple(map(int, np.unravel_index(int(np.argmax(bad)), x.shape)))
        count, value = int(np.count_nonzero(bad)), str(x[at])
        first = tuple(starts[axis][i] + at[axis] for axis, i in enumerate(block_id))
    cell = np.empty((1,) * x.ndim, object)
    cell[(0,) * x.ndim] = _Record(low, high, count, first, value)
    return cell


# ---------------------------------------------------------------------------------------------
# Codes and values


def _packed(name: Hashable, variable: Any, params: OffsetParams) -> Any:
    with _of(name):
        codes = _applied(_codes, variable, params.dtype, name=name, params=params)
        valid = {
            key: params.quantize(_reals(key, variable.attrs[key]))
            for key in _cf.VALID
            if key in variable.attrs
        }
        attributes = params.to_cf()
        del attributes["dtype"]  # the codes have it
        attributes = variable.attrs | valid | attributes
        return xr.Variable(variable.dims, codes, attributes, _links(variable))


def _codes(x: Any, *, name: Hashable, params: OffsetParams) -> Array:
    if params.nan_code is None and (missing := int(np.count_nonzero(np.isnan(x)))):
        raise ValueError(
            f"variable {name!r} has {missing} NaN and its encoding no _FillValue; choose it with a "
            "nan_code, or replace them first"
        )
    return params.quantize(x)


def _reals(name: str, value: Any) -> Array:
    """A valid range in the unit of the data."""
    found = np.asarray(value)
    if found.dtype.kind != "f":
        raise ValueError(
            f"{name} {_checks.shown(value)} is of {found.dtype}, as codes are, and these data are "
            "no codes yet; make it real numbers, or remove it"
        )
    if np.isnan(found).any():
        raise ValueError(f"{name} {_checks.shown(value)} has NaN, which is no bound; remove it")
    return found


def _unpacked(name: Hashable, variable: Any, real: np.dtype[Any] | None) -> Any:
    with _of(name):
        packing = _cf.read(variable.attrs, variable.dtype)
        qmin, qmax = packing.beside_fill()
        params = OffsetParams(*packing[:3], qmin=qmin, qmax=qmax, nan_code=packing.nan_code)
        real = packing.scale.dtype if real is None else real
        values = _applied(_values, variable, real, params=params, real=real)
        attributes = {
            key: _valid_values(value, params) if key in _cf.VALID else value
            for key, value in variable.attrs.items()
            if key not in _TAKEN
        }
        return xr.Variable(variable.dims, values, attributes, _links(variable))


def _values(q: Array, *, params: OffsetParams, real: np.dtype[Any]) -> Array:
    return params.dequantize(q.view(params.dtype), dtype=real)


def _valid_values(value: Any, params: OffsetParams) -> Any:
    """A valid range of codes in the unit of the data; what is none stays."""
    found, info = np.asarray(value), np.iinfo(params.dtype)
    if found.dtype.kind not in "iu" or ((found < info.min) | (found > info.max)).any():
        return value
    return params.dequantize(found.astype(params.dtype), dtype=params.scale.dtype)


def _applied(function: Any, variable: Any, dtype: np.dtype[Any], **keywords: Any) -> Any:
    """`function` of the variable's array; lazy for a Dask array."""
    data = variable.data
    if variable.chunks is None:
        return function(data, **keywords)
    bound = functools.partial(function, **keywords)
    return data.map_blocks(bound, dtype=dtype, meta=np.empty((0,) * data.ndim, dtype))
