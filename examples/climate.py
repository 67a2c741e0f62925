"""Real climate data as 8-bit netCDF: smaller files, missing values kept, and nothing wraps around.

    pip install ".[xarray]" netCDF4 iris-sample-data==2.5.2
    python examples/climate.py

The data are of the Met Office, as the package iris-sample-data ships them: the sea's surface
temperature near the equator in 54 months (OSTIA; land is missing), and the air temperature of
North America in 240 years, of a run of a climate model (scenario A1B).
"""

import sys
import tempfile
import warnings
from importlib.metadata import distribution
from pathlib import Path

try:
    import netCDF4
    import numpy as np
    import xarray as xr

    import zeropoint.xarray as zx

    DATA = distribution("iris-sample-data").locate_file("iris_sample_data/sample_data")
except ImportError as error:
    sys.exit(f"climate.py: {error}; its first lines say what to install")


def sea(folder):
    """What is written and read: size, missing values, error."""
    with xr.open_dataset(DATA / "ostia_monthly.nc", decode_times=False) as file:
        data = file[["surface_temperature"]].load()
    data.surface_temperature.encoding = {}
    packed = zx.pack(data)
    sizes = []
    for zlib in False, True:
        for name, each in ("float", data), ("codes", packed):
            how = {"surface_temperature": {"zlib": zlib}}
            each.to_netcdf(folder / f"{name}.nc", encoding=how, engine="netcdf4")
            sizes.append((folder / f"{name}.nc").stat().st_size / 1e3)

    before = data.surface_temperature.values
    after = xr.load_dataset(folder / "codes.nc").surface_temperature.values
    with netCDF4.Dataset(folder / "codes.nc") as file:
        also = np.ma.filled(file["surface_temperature"][:], np.nan)
    ours = zx.unpack(packed).surface_temperature.values
    if not after.tobytes() == also.tobytes() == ours.tobytes():
        sys.exit("xarray, netCDF4 and zeropoint read different values")
    if (np.isnan(before) != np.isnan(after)).any():
        sys.exit("missing values were lost")

    print(f"sea surface, {before.size:,} values         float32    uint8")
    print(f"file, kB                         {sizes[0]:11.1f}{sizes[1]:9.1f}")
    print(f"file with zlib, kB               {sizes[2]:11.1f}{sizes[3]:9.1f}")
    print(f"missing values                   {np.isnan(before).sum():11}{np.isnan(after).sum():9}")
    error = np.nanmax(np.abs(after - before))
    step = packed.surface_temperature.attrs["scale_factor"]
    print(f"largest error, half a step, K    {error:11.4f}{step / 2:9.4f}")


def air(folder):
    """Attributes chosen for the first decade, used for all that come."""
    with xr.open_dataset(DATA / "A1B_north_america.nc", decode_times=False) as file:
        data = file[["air_temperature"]].load()
    first, later = data.isel(time=slice(10)), data.isel(time=slice(10, None))
    encoding = zx.encoding(first)

    with warnings.catch_warnings():  # NumPy's, of casts beyond uint8
        warnings.simplefilter("ignore", RuntimeWarning)
        later.to_netcdf(folder / "theirs.nc", encoding=encoding, engine="netcdf4")
    zx.pack(later, encoding=encoding).to_netcdf(folder / "ours.nc", engine="netcdf4")

    x = later.air_temperature.values
    step = encoding["air_temperature"]["scale_factor"]
    found = [
        xr.load_dataset(folder / name, decode_times=False).air_temperature.values
        for name in ("theirs.nc", "ours.nc")
    ]
    print(f"\nair, {x.size:,} values beyond 10 years      xarray     pack")
    counts = [np.isnan(values).sum() for values in found]
    print(f"values that became missing       {counts[0]:11}{counts[1]:9}")
    counts = [(np.abs(values - x) > 100 * step).sum() for values in found]
    print(f"values that wrapped around       {counts[0]:11}{counts[1]:9}")
    errors = [np.nanmax(np.abs(values - x)) for values in found]
    print(f"largest error, K                 {errors[0]:11.1f}{errors[1]:9.1f}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        sea(Path(folder))
        air(Path(folder))


if __name__ == "__main__":
    main()
