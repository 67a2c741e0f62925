"""The `cf` convention beside xarray's and netCDF4's own packing, within their range.

Equal to the bit wherever the parameters have the precision of the data, and in all that is
decoded.  `test_where_xarray_rounds_otherwise` has the rest: combinations in which xarray rounds
more than the formula does, and why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

from ..exact import half_steps

xr = pytest.importorskip("xarray")
netCDF4 = pytest.importorskip("netCDF4")

Array = np.ndarray[Any, np.dtype[Any]]
Record = Callable[[str, str, str, int, int], None]
REALS = (np.float32, np.float64)
#: dtype of the codes, its fill code or none
CODES = [("uint8", None), ("uint8", 255), ("int8", None), ("int8", -128), ("uint8", 0)]
FILES = [("netcdf4", "netCDF4"), ("h5netcdf", "h5py"), ("zarr2", "zarr"), ("zarr3", "zarr")]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """xarray warns of codes without a fill value, which are meant here."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "saving variable", xr.SerializationWarning)
        yield


def parameters(dtype: str, fill: int | None, real: Any, count: int = 40) -> Iterator[Any]:
    rng = np.random.default_rng(5)
    pairs = [(0.25, 250), (0.1, -273.15), (1 / 3, 0), (1.96185386, 1e4), (0.01, -3.2), (5e-324, 0)]
    for _ in range(count):
        scale = np.exp(rng.uniform(-20, 10))
        pairs.append((scale, scale * rng.uniform(-1000, 1000)))
    for scale, offset in pairs:
        if real(scale) > 0:
            yield zp.OffsetParams(real(scale), real(offset), dtype, nan_code=fill)


def data(params: Any, real: Any) -> Array:
    """Within the range: half steps, their neighbours, random values; NaN where there is a fill."""
    steps = np.arange(params.qmin, params.qmax)
    scale, offset = float(params.scale), float(params.offset)
    halves = half_steps(steps + offset / scale, scale, real)
    inside = np.random.default_rng(6).uniform(params.qmin, params.qmax, 800) * scale + offset
    x = np.concatenate([halves, inside.astype(real)])
    code = (x.astype(np.longdouble) - offset) / scale
    x = x[(code > params.qmin - 0.49) & (code < params.qmax + 0.49)]
    if params.nan_code is not None:
        x[::50] = np.nan
    return x


def encoded(x: Any, encoding: dict[str, Any], unsigned: bool = False) -> Array:
    """What xarray would write."""
    variable = xr.Variable("x", x, encoding=encoding)
    return np.asarray(xr.conventions.encode_cf_variable(variable, name="t").values)


def decoded(q: Array, attributes: dict[str, Any]) -> Array:
    """What xarray would read."""
    variable = xr.Variable("x", q, attributes)
    return np.asarray(xr.conventions.decode_cf_variable("t", variable).values)


def attributes(params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.to_cf().items() if name != "dtype"}


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("dtype", "fill"), CODES)
def test_codes(real: Any, dtype: str, fill: int | None, backend: str, record: Record) -> None:
    pytest.importorskip("dask.array")
    n = 0
    for params in parameters(dtype, fill, real):
        x = data(params, real)
        ours = params.quantize(x)
        np.testing.assert_array_equal(encoded(x, params.to_cf()), ours)
        n += x.size
    lazy = xr.Variable("x", x).chunk({"x": 500}).data
    np.testing.assert_array_equal(encoded(lazy, params.to_cf()), ours)
    record("xarray", f"codes, {np.dtype(real).name}", backend, n, 0)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("dtype", "fill"), CODES)
def test_values(real: Any, dtype: str, fill: int | None, backend: str, record: Record) -> None:
    q = np.arange(256, dtype=np.uint8).view(dtype)
    n = 0
    for params in parameters(dtype, fill, real, 400):
        values = params.dequantize(q, dtype=real)
        theirs = decoded(q, attributes(params))
        assert theirs.dtype == values.dtype
        assert theirs.tobytes() == values.tobytes()
        n += q.size
    record("xarray", f"values, {np.dtype(real).name}", backend, n, 0)


@pytest.mark.parametrize(("engine", "package"), FILES)
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("dtype", "fill"), CODES)
def test_files_of_xarray(
    engine: str, package: str, real: Any, dtype: str, fill: int | None, tmp_path: Path
) -> None:
    """Codes and values of a file; the parameters as they are read from it."""
    pytest.importorskip(package)
    params = [*parameters(dtype, fill, real, 0)][1]
    x = data(params, real)
    dataset = xr.Dataset({"t": ("x", x)})
    path = tmp_path / "file"
    if engine.startswith("zarr"):
        pytest.importorskip("dask.array")  # what open_zarr asks for
        how = {"zarr_format": int(engine[-1]), "consolidated": False}
        dataset.to_zarr(path, encoding={"t": params.to_cf()}, **how)
        raw, read = (
            xr.open_zarr(path, consolidated=False, chunks=None, mask_and_scale=flag).t.load()
            for flag in (False, True)
        )
    else:
        dataset.to_netcdf(path, encoding={"t": params.to_cf()}, engine=engine)
        with (
            xr.open_dataset(path, engine=engine, mask_and_scale=False) as raw,
            xr.open_dataset(path, engine=engine) as read,
        ):
            raw, read = raw.t.load(), read.t.load()
    np.testing.assert_array_equal(raw.values, params.quantize(x))
    found = zp.OffsetParams.from_cf(raw.attrs, raw.dtype)
    if engine.startswith("zarr"):  # whose attributes are JSON: the same numbers as float64
        assert (found.scale, found.offset) == (params.scale, params.offset)
        assert found.scale.dtype == np.float64
    else:
        assert found == params
    values = found.dequantize(raw.values, dtype=found.scale.dtype)
    assert values.dtype == read.dtype
    assert values.tobytes() == read.values.tobytes()


@pytest.mark.parametrize("of_data", REALS)
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("dtype", "fill"), CODES)
def test_files_of_netcdf4(
    of_data: Any,
    real: Any,
    dtype: str,
    fill: int | None,
    backend: str,
    record: Record,
    tmp_path: Path,
) -> None:
    """Its automatic packing takes the wider precision, as ours does: all combinations are equal."""
    n = 0
    sets = [*parameters(dtype, fill, real, 8)]
    with netCDF4.Dataset(tmp_path / "file", "w") as file:
        for i, params in enumerate(sets):
            x = data(params, of_data)
            file.createDimension(f"x{i}", x.size)
            # False: no fill code, not even netCDF's own 255 and -127
            wanted = False if fill is None else fill
            variable = file.createVariable(f"t{i}", dtype, (f"x{i}",), fill_value=wanted)
            variable.setncatts({k: v for k, v in attributes(params).items() if k != "_FillValue"})
            variable[:] = x if fill is None else np.ma.masked_invalid(x)
    with netCDF4.Dataset(tmp_path / "file") as file:
        for i, params in enumerate(sets):
            variable = file[f"t{i}"]
            values = np.ma.filled(variable[:], np.nan)
            variable.set_auto_maskandscale(False)
            codes = variable[:]
            np.testing.assert_array_equal(codes, params.quantize(data(params, of_data)))
            assert zp.OffsetParams.from_cf(variable.__dict__, variable.dtype) == params
            ours = params.dequantize(codes, dtype=real)
            assert ours.dtype == values.dtype
            np.testing.assert_array_equal(ours, values)
            n += codes.size
    names = np.dtype(of_data).name, np.dtype(real).name
    record("netCDF4", f"codes and values, {names[0]} data, {names[1]} attributes", backend, n, 0)


def test_netcdf4_without_a_fill_code(tmp_path: Path) -> None:
    """netCDF4 masks its own default fill code, so `zeropoint.xarray` always names one."""
    with netCDF4.Dataset(tmp_path / "file", "w") as file:
        file.createDimension("x", 256)
        for dtype in "uint8", "int8":
            variable = file.createVariable(dtype, dtype, ("x",))
            variable[:] = np.arange(256, dtype=np.uint8).view(dtype)
    with netCDF4.Dataset(tmp_path / "file") as file:
        for dtype, code in ("uint8", 255), ("int8", -127):
            read = file[dtype][:]
            assert np.ma.count_masked(read) == 1
            assert read.data[np.ma.getmaskarray(read)] == code


def test_unsigned_bytes() -> None:
    """NetCDF 3 has no unsigned bytes: int8 with `_Unsigned` are codes of uint8."""
    q = np.arange(256, dtype=np.uint8)
    for fill in 255, 0, 200:
        how = {
            "scale_factor": np.float32(0.1),
            "add_offset": np.float32(-7),
            "_Unsigned": "true",
            "_FillValue": np.uint8(fill).view(np.int8),
        }
        ends = {} if fill in (0, 255) else {"qmax": fill - 1}
        params = zp.OffsetParams.from_cf(how, "int8", **ends)
        ours = params.dequantize(q, dtype=np.float32)
        assert ours.tobytes() == decoded(q.view(np.int8), how).tobytes()


def test_wrapping(backend: str) -> None:
    """What xarray and netCDF4 make of values beyond the range, by hand; ours saturate."""
    params = zp.OffsetParams(np.float32(1), np.float32(0))
    x = np.float32([300, -5, 256, 255.5])
    assert params.quantize(x).tolist() == [255, 0, 255, 255]
    assert params.replace(dtype="int8", qmin=None, qmax=None).quantize(x).tolist() == [
        *(127, -5, 127, 127)
    ]
    # a cast of float to uint8 beyond its range is undefined, and depends on the machine
    if np.array_equal(np.float32([300, -5]).astype(np.uint8), [44, 251]):
        assert encoded(x[:2], params.to_cf()).tolist() == [44, 251]


def test_where_xarray_rounds_otherwise(record: Record) -> None:
    """Combinations in which xarray's arithmetic is not the formula's, in full."""
    rng = np.random.default_rng(7)
    n = 400_000
    with zp.use_backend("reference"):
        params = zp.OffsetParams(np.float64(0.1), np.float64(-273.15), nan_code=255)
        x = rng.uniform(-273, -248, n).astype(np.float32)
        # Float32 data, float64 attributes, _FillValue: in place, each operation in float64 and
        # rounded to float32, so twice rounded
        theirs = encoded(x, params.to_cf())
        moved = (x.astype(np.float64) - params.offset).astype(np.float32)
        quotient = (moved.astype(np.float64) / params.scale).astype(np.float32)
        np.testing.assert_array_equal(theirs, np.rint(quotient))
        differ = np.count_nonzero(theirs != params.quantize(x))
        assert 0 < differ < n / 1e4
        note = "float32 data, float64 attributes, _FillValue"
        record("xarray", f"codes, {note} (rounded twice)", "reference", n, differ)
        # ... and not without _FillValue, where it converts the data first, nor with Dask
        whole = params.replace(nan_code=None, qmax=255)
        np.testing.assert_array_equal(encoded(x, whole.to_cf()), whole.quantize(x))
        lazy = xr.Variable("x", x).chunk().data
        np.testing.assert_array_equal(encoded(lazy, params.to_cf()), params.quantize(x))

        # Python floats, _FillValue: float32 arithmetic, though they are read back as float64
        how = {"scale_factor": 0.1, "add_offset": -273.15, "_FillValue": 255, "dtype": "uint8"}
        single = zp.OffsetParams(np.float32(0.1), np.float32(-273.15), nan_code=255)
        np.testing.assert_array_equal(encoded(x, how), single.quantize(x))

        # Float64 data, float32 attributes, no _FillValue: the data are rounded to float32 first
        whole = single.replace(nan_code=None, qmax=255)
        y = rng.uniform(-273, -248, n)
        theirs = encoded(y, whole.to_cf())
        np.testing.assert_array_equal(theirs, whole.quantize(y.astype(np.float32)))
        differ = np.count_nonzero(theirs != whole.quantize(y))
        assert 0 < differ < n / 1e4
        note = "float64 data, float32 attributes, no _FillValue"
        record("xarray", f"codes, {note} (rounded first)", "reference", n, differ)
        np.testing.assert_array_equal(encoded(y, single.to_cf()), single.quantize(y))

        # Float16 data, _FillValue: in float16
        half = rng.uniform(0, 25, n).astype(np.float16)
        params = zp.OffsetParams(np.float32(0.1), np.float32(-0.3), nan_code=255)
        theirs = encoded(half, params.to_cf())
        moved = (half.astype(np.float32) - params.offset).astype(np.float16)
        quotient = (moved.astype(np.float32) / params.scale).astype(np.float16)
        np.testing.assert_array_equal(theirs, np.rint(quotient))
        differ = np.count_nonzero(theirs != params.quantize(half))
        record("xarray", "codes, float16 data, _FillValue (in float16)", "reference", n, differ)
        assert differ > n / 1000
