"""CF packing: attributes by hand, `encoding`, `pack`, `unpack`; nothing wraps, nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

xr = pytest.importorskip("xarray")

import zeropoint.xarray as zx  # noqa: E402

NAN = np.nan
F4, F8 = np.float32, np.float64


def array(values: Any, dtype: Any = F4, **attrs: Any) -> Any:
    return xr.DataArray(np.asarray(values, dtype), dims="x", name="t", attrs=attrs)


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Equal values of equal types, in the same order."""
    return [(k, type(v), v) for k, v in found.items()] == [
        (k, type(v), v) for k, v in expected.items()
    ]


# ---------------------------------------------------------------------------------------------
# to_cf and from_cf, by hand


def test_attributes_of_real_offsets() -> None:
    params = zp.OffsetParams(F4(0.25), F4(250), nan_code=255)
    expected = {"scale_factor": F4(0.25), "add_offset": F4(250), "_FillValue": np.uint8(255)}
    assert same(params.to_cf(), expected | {"dtype": np.dtype("uint8")})
    params = zp.OffsetParams(F8(0.25), F8(-3), "int8")
    expected = {"scale_factor": F8(0.25), "add_offset": F8(-3), "dtype": np.dtype("int8")}
    assert same(params.to_cf(), expected)


def test_attributes_of_zero_points() -> None:
    params = zp.QuantParams(F4(0.5), 10, nan_code=0)
    expected = {"scale_factor": F4(0.5), "add_offset": F4(-5), "_FillValue": np.uint8(0)}
    assert same(params.to_cf(), expected | {"dtype": np.dtype("uint8")})
    found = zp.QuantParams(F8(0.1), -3, "int8").to_cf()
    assert same(
        found, {"scale_factor": F8(0.1), "add_offset": F8(3 * 0.1), "dtype": np.dtype("int8")}
    )
    assert not np.signbit(zp.QuantParams(0.5, 0).to_cf()["add_offset"])
    # the product is rounded once: 3 * float32(0.1) has 26 bits
    found = zp.QuantParams(F4(0.1), 3).to_cf()["add_offset"]
    assert found == -F4(3 * 0.1)
    assert type(found) is F4


@pytest.mark.parametrize(
    "params",
    [
        zp.OffsetParams(F4(0.1), F4(-273.15), nan_code=255),
        zp.OffsetParams(F8(0.1), F8(-273.15), "int8", nan_code=-128),
        zp.OffsetParams(F4(3), F4(0)),
    ],
)
def test_real_offsets_there_and_back(params: Any) -> None:
    assert zp.OffsetParams.from_cf(params.to_cf()) == params


def test_zero_points_there_and_back() -> None:
    rng = np.random.default_rng(0)
    for real in F4, F8:
        for scale in np.exp(rng.uniform(-80, 80, 60)):
            for dtype, zero in ("uint8", 0), ("uint8", 255), ("uint8", 77), ("int8", -128):
                params = zp.QuantParams(real(scale), zero, dtype)
                assert zp.QuantParams.from_cf(params.to_cf()) == params


@pytest.mark.parametrize(
    ("attributes", "dtype", "scale", "offset"),
    [
        ({"scale_factor": F4(0.5), "add_offset": F4(7)}, "uint8", F4(0.5), F4(7)),
        ({"scale_factor": F8(0.5), "add_offset": F4(7)}, "uint8", F8(0.5), F8(7)),
        ({"scale_factor": 0.5, "add_offset": 7.0}, "int8", F8(0.5), F8(7)),  # as Zarr has them
        ({"scale_factor": F4(0.5)}, "uint8", F4(0.5), F4(0)),
        ({"scale_factor": 2}, "uint8", F8(2), F8(0)),
        ({"add_offset": F4(7)}, "uint8", F8(1), F8(7)),  # xarray's rule for a lone offset
        ({"add_offset": F4(7), "scale_factor": None}, "uint8", F8(1), F8(7)),
        ({"scale_factor": np.float32([0.5]), "add_offset": F4(7)}, "uint8", F8(0.5), F8(7)),
    ],
)
def test_precision_is_that_of_xarray(attributes: Any, dtype: str, scale: Any, offset: Any) -> None:
    params = zp.OffsetParams.from_cf(attributes, dtype)
    assert (params.scale, params.offset) == (scale, offset)
    assert type(params.scale) is type(params.offset) is type(scale)
    assert params.dtype == dtype
    assert params.nan_code is None
    x = np.arange(256, dtype=np.uint8).view(dtype)
    encoded = xr.Variable("x", x, {k: v for k, v in attributes.items() if v is not None})
    if "scale_factor" not in attributes or np.ndim(attributes["scale_factor"]) == 0:
        if isinstance(attributes.get("scale_factor"), int):
            encoded.attrs["scale_factor"] = float(encoded.attrs["scale_factor"])
        decoded = xr.decode_cf(xr.Dataset({"t": encoded})).t.values
        values = params.dequantize(x, dtype=params.scale.dtype)
        assert values.dtype == decoded.dtype
        assert values.tobytes() == decoded.tobytes()


def test_fill_values() -> None:
    how = {"scale_factor": F4(1), "add_offset": F4(0)}
    read = zp.OffsetParams.from_cf
    assert read(how | {"_FillValue": np.uint8(255)}, "uint8").nan_code == 255
    assert read(how | {"_FillValue": 255.0}, "uint8").qmax == 254
    assert read(how | {"missing_value": np.int8([-128])}, "int8").nan_code == -128
    assert read(how | {"missing_value": 0, "_FillValue": 0}, "uint8").qmin == 1
    assert read(how | {"_FillValue": None}, "uint8").nan_code is None
    assert zp.QuantParams.from_cf(how | {"_FillValue": 255}, "uint8").nan_code == 255
    # inside the range only where the range is given
    found = read(how | {"_FillValue": 100}, "uint8", qmin=101)
    assert (found.qmin, found.qmax, found.nan_code) == (101, 255, 100)
    found = read(how | {"_FillValue": 0, "valid_range": np.int8([1, 127])}, "int8")
    assert (found.qmin, found.qmax, found.nan_code) == (1, 127, 0)


def test_valid_ranges() -> None:
    how = {"scale_factor": F4(1), "add_offset": F4(0)}

    def ends(**attributes: Any) -> tuple[int, int]:
        found = zp.OffsetParams.from_cf(how | attributes, "uint8")
        return found.qmin, found.qmax

    assert ends(valid_range=np.uint8([3, 200])) == (3, 200)
    assert ends(valid_min=np.uint8(3)) == (3, 255)
    assert ends(valid_max=200) == (0, 200)
    assert ends(valid_range=np.float32([3, 200])) == (0, 255)  # real numbers: the unpacked data
    assert zp.OffsetParams.from_cf(how | {"valid_max": 9}, "uint8", qmax=10).qmax == 10


def test_unsigned_bytes() -> None:
    how = {"scale_factor": F4(1), "add_offset": F4(0), "_Unsigned": "true"}
    params = zp.OffsetParams.from_cf(how | {"_FillValue": np.int8(-1)}, "int8")
    assert (params.dtype, params.nan_code, params.qmax) == (np.uint8, 255, 254)
    params = zp.OffsetParams.from_cf(how | {"_FillValue": -1}, "int8")  # as Zarr has it
    assert params.nan_code == 255
    params = zp.OffsetParams.from_cf(how | {"_Unsigned": "false", "_FillValue": 128}, "uint8")
    assert (params.dtype, params.nan_code) == (np.int8, -128)
    assert zp.QuantParams.from_cf(how, "int8").dtype == np.uint8


def test_offsets_that_are_multiples() -> None:
    read = zp.QuantParams.from_cf
    assert read({"scale_factor": 0.1, "add_offset": -0.3}, "uint8").zero_point == 3  # 3 * 0.1 > 0.3
    assert read({"scale_factor": F4(0.1), "add_offset": F4(-0.3)}, "uint8").zero_point == 3
    # the scale is rounded too, and nine times what it has lost is more than the offset has
    assert read({"scale_factor": F4(0.01), "add_offset": F4(-0.09)}, "uint8").zero_point == 9
    assert read({"scale_factor": 0.01, "add_offset": -0.35}, "uint8").zero_point == 35
    assert read({"scale_factor": F4(0.1)}, "uint8") == zp.QuantParams(F4(0.1), 0)
    assert read({"add_offset": -7.0}, "uint8") == zp.QuantParams(F8(1), 7)
    far = read({"scale_factor": 0.5, "add_offset": 250.0}, "uint8")
    assert (far.zero_point, far.include_zero) == (-500, False)
    assert (
        read({"scale_factor": 0.5, "add_offset": -4.0}, "int8", convention="onnx").zero_point == 8
    )
    for offset, text in (-0.3000001, r"3 \+ 1e-06"), (-0.26, r"3 - 0\.4"):
        with pytest.raises(ValueError, match=f"no multiple.*would be {text}; use OffsetParams"):
            read({"scale_factor": 0.1, "add_offset": offset}, "uint8")


HOW = {"scale_factor": 0.5, "add_offset": 1.0}


@pytest.mark.parametrize(
    ("attributes", "dtype", "error", "text"),
    [
        ([("scale_factor", 1.0)], "uint8", TypeError, "must be a mapping.*not list"),
        ({}, "uint8", ValueError, "neither scale_factor nor add_offset.*none: nothing is packed"),
        ({"units": "K"}, "uint8", ValueError, "but \\['units'\\]"),
        (HOW, None, ValueError, "which dtype the codes have; pass dtype='uint8'"),
        (HOW, "int16", TypeError, "int16"),
        (HOW | {"scale_factor": "0.5"}, "uint8", TypeError, "scale_factor must be a real number"),
        (HOW | {"scale_factor": True}, "uint8", TypeError, "scale_factor must be a real number"),
        (HOW | {"add_offset": 1j}, "uint8", TypeError, "add_offset must be a real number"),
        (
            HOW | {"scale_factor": [1.0, 2.0]},
            "uint8",
            ValueError,
            "scale_factor must be one number",
        ),
        (HOW | {"scale_factor": 0.0}, "uint8", ValueError, "scale_factor is 0.0.*finite and > 0"),
        (HOW | {"scale_factor": -1.0}, "uint8", ValueError, "scale_factor is -1.0"),
        (HOW | {"scale_factor": NAN}, "uint8", ValueError, "scale_factor is nan"),
        (HOW | {"add_offset": np.inf}, "uint8", ValueError, "add_offset is inf"),
        (
            HOW | {"_FillValue": -1},
            "uint8",
            ValueError,
            "_FillValue -1 is no code of uint8, 0 to 255",
        ),
        (HOW | {"_FillValue": NAN}, "uint8", ValueError, "_FillValue nan is no code"),
        (HOW | {"_FillValue": 1.5}, "uint8", ValueError, "_FillValue 1.5 is no code"),
        (HOW | {"_FillValue": "255"}, "uint8", ValueError, "_FillValue '255' is no code"),
        (
            HOW | {"missing_value": 1e20},
            "int8",
            ValueError,
            "missing_value 1e\\+20 is no code of int8",
        ),
        (
            HOW | {"_FillValue": 0, "missing_value": 255},
            "uint8",
            ValueError,
            "name 2 codes, \\[0, 255\\]",
        ),
        (HOW | {"missing_value": [0, 255]}, "uint8", ValueError, "name 2 codes"),
        (HOW | {"_FillValue": 100}, "uint8", ValueError, "100 lies inside"),
        (HOW | {"_Unsigned": "maybe"}, "int8", ValueError, "_Unsigned 'maybe' must be 'true'"),
        (HOW | {"valid_range": [1, 2, 3]}, "uint8", ValueError, "valid_range .* two codes"),
        (HOW | {"valid_max": 300}, "uint8", ValueError, "300 is no code of uint8"),
    ],
)
def test_bad_attributes(attributes: Any, dtype: Any, error: Any, text: str) -> None:
    for kind in zp.OffsetParams, zp.QuantParams:
        with pytest.raises(error, match=text):
            kind.from_cf(attributes, dtype)


def test_attributes_are_for_one_scale() -> None:
    for params in zp.OffsetParams([1, 2], [0, 0], axis=0), zp.QuantParams([1, 2], 0, axis=0):
        with pytest.raises(ValueError, match="axis 0.*one scale"):
            params.to_cf()
    with pytest.raises(ValueError, match="add_offset would be -inf as float32.*float64 scale"):
        zp.QuantParams(F4(1e38), 255).to_cf()
    for convention in "faiss", "sentence-transformers":
        with pytest.raises(ValueError, match=f"{convention}.*cf"):
            zp.OffsetParams(None, 0.0, span=1.0, convention=convention).to_cf()


# ---------------------------------------------------------------------------------------------
# encoding


def test_encoding_by_hand() -> None:
    found = zx.encoding(array([250, 275.5, NAN, 313.5]))
    assert list(found) == ["t"]
    expected = {"scale_factor": F4(0.25), "add_offset": F4(250), "_FillValue": np.uint8(255)}
    assert same(found["t"], expected | {"dtype": np.dtype("uint8")})
    found = zx.encoding(array([-127, 0, 127], F8), "int8")["t"]
    expected = {"scale_factor": F8(1), "add_offset": F8(0), "_FillValue": np.int8(-128)}
    assert same(found, expected | {"dtype": np.dtype("int8")})
    found = zx.encoding(array([0, 255], F8), nan_code=None)["t"]
    assert same(found, {"scale_factor": F8(1), "add_offset": F8(0), "dtype": np.dtype("uint8")})
    assert zx.encoding(array([0, 254]), nan_code=0)["t"]["add_offset"] == -1


def dataset() -> Any:
    rng = np.random.default_rng(3)
    lat = np.linspace(-60, 60, 5)
    t = rng.normal(280, 9, (4, 5, 6)).astype(F4)
    t[1, 2, 3:] = NAN
    return xr.Dataset(
        {
            "t": (("time", "lat", "lon"), t, {"units": "K", "long_name": "temperature"}),
            "p": (("time", "lat"), rng.normal(1e5, 900, (4, 5)), {"units": "Pa"}),
            "all_nan": ("lat", np.full(5, NAN, F4)),
            "constant": ("lat", np.full(5, 1013.2, F8)),
            "one": ((), F4(-3.7)),
            "nothing": ("none", np.zeros(0, F4)),
            "count": ("lat", np.arange(5)),
            "flag": ("lat", np.arange(5) > 2),
            "name": ("lat", np.array(list("abcde"))),
            "when": ("time", np.array(["2026-01-01"] * 4, "datetime64[ns]")),
            "lat_bnds": (("lat", "two"), np.stack([lat - 15, lat + 15], 1)),
        },
        {
            "lat": ("lat", lat, {"bounds": "lat_bnds"}),
            "time": np.arange(4.0),
            "height": ((), 2.0),
        },
        {"title": "by hand"},
    )


def test_which_variables() -> None:
    data = dataset()
    assert list(zx.encoding(data)) == ["t", "p", "all_nan", "constant", "one", "nothing"]
    assert list(zx.encoding(data, variables=["p", "lat_bnds"])) == ["p", "lat_bnds"]
    assert list(zx.encoding(data, variables="p")) == ["p"]
    assert zx.encoding(data, variables=[]) == {}
    # bounds that xarray has taken from the attributes when it opened a file, and those of climates
    del data["lat"].attrs["bounds"]
    data["lat"].encoding["bounds"] = "lat_bnds"
    assert "lat_bnds" not in zx.encoding(data)
    data["lat"].encoding = {}
    assert "lat_bnds" in zx.encoding(data)
    data["time"].attrs["climatology"] = "lat_bnds"
    assert "lat_bnds" not in zx.encoding(data)
    longer = xr.Dataset({"t": ("x", np.zeros(3, np.longdouble))})
    assert zx.encoding(longer) == {}
    with pytest.raises(TypeError, match="'t' is of float128|longdouble"):
        zx.pack(longer, variables=["t"])
    numbered = data.rename(p=7)
    assert list(zx.encoding(numbered, variables=7)) == [7]
    assert list(zx.encoding(numbered, variables=(7, "t"))) == [7, "t"]
    assert zx.encoding(xr.Dataset()) == {}


def test_precision_of_the_data() -> None:
    for name, found in zx.encoding(dataset()).items():
        real = F8 if name in ("p", "constant") else F4
        assert type(found["scale_factor"]) is type(found["add_offset"]) is real
    assert type(zx.pack(array([1, 2], np.float16)).scale_factor) is F4


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("nan_code", ["auto", 0, 255, -128])
def test_half_a_step(dtype: str, nan_code: Any) -> None:
    info = np.iinfo(dtype)
    if nan_code != "auto" and nan_code not in (info.min, info.max):
        pytest.skip("no end of this dtype")
    data = dataset()
    packed = zx.pack(data, dtype, nan_code=nan_code)
    back = zx.unpack(packed)
    for name in zx.encoding(data):
        assert packed[name].dtype == dtype
        assert back[name].dtype == data[name].dtype
        x, y = data[name].values.astype(F8), back[name].values.astype(F8)
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        step = float(packed[name].attrs["scale_factor"])
        ulp = np.spacing(np.nanmax(np.abs(data[name].values))) if name == "t" else 0
        if name in ("constant", "one", "nothing", "all_nan"):
            np.testing.assert_array_equal(x, y)
        else:
            assert np.nanmax(np.abs(x - y)) <= step / 2 * (1 + 1e-5) + ulp
        assert packed[name].attrs["_FillValue"] == packed[name].dtype.type(
            {"uint8": 255, "int8": -128}[dtype] if nan_code == "auto" else nan_code
        )


def test_what_is_kept() -> None:
    data = dataset()
    data["t"].encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -1, "zlib": True}
    before = data.copy(deep=True)
    packed = zx.pack(data)
    back = zx.unpack(packed)
    xr.testing.assert_identical(data, before)  # untouched
    assert data["t"].encoding["scale_factor"] == 0.1
    assert packed["t"].encoding == back["t"].encoding == {}
    for result in packed, back:
        assert list(result.variables) == list(data.variables)
        assert list(result.coords) == list(data.coords)
        assert dict(result.sizes) == dict(data.sizes)
        assert result.attrs == data.attrs
        for name in ("count", "flag", "name", "when", "lat_bnds", "lat", "time", "height"):
            xr.testing.assert_identical(result[name], data[name])
    assert packed["t"].attrs == data["t"].attrs | {
        k: v for k, v in zx.encoding(data)["t"].items() if k != "dtype"
    }
    assert back["t"].attrs == data["t"].attrs


def test_arrays() -> None:
    data = dataset()
    t = data["t"]
    packed = zx.pack(t)
    assert isinstance(packed, xr.DataArray)
    xr.testing.assert_identical(packed, zx.pack(data)["t"])
    xr.testing.assert_identical(zx.unpack(packed), zx.unpack(zx.pack(data))["t"])
    nameless = zx.pack(t.rename(None))
    assert nameless.name is None
    xr.testing.assert_identical(nameless.rename("t"), packed)
    xr.testing.assert_identical(zx.unpack(nameless).rename("t"), zx.unpack(packed))
    lat = data["lat"]  # a coordinate, as an array
    assert zx.pack(lat).dtype == np.uint8
    assert zx.pack(lat).name == "lat"


def test_saturates_by_hand() -> None:
    how = {"t": {"scale_factor": F4(1), "add_offset": F4(0), "dtype": "uint8"}}
    x = array([300, -5, 0.5, 1.5, 2.5, 254.5, 255.5, np.inf, -np.inf, 44])
    expected = [255, 0, 0, 2, 2, 254, 255, 255, 0, 44]
    assert zx.pack(x, encoding=how).values.tolist() == expected
    how["t"]["_FillValue"] = np.uint8(255)
    x = array([300, -5, 254.5, 255, NAN, -NAN, 1])
    assert zx.pack(x, encoding=how).values.tolist() == [254, 0, 254, 254, 255, 255, 1]
    how["t"]["dtype"], how["t"]["_FillValue"] = np.dtype("int8"), np.int8(-128)
    x = array([300, -300, -128, -127.5, NAN, 126.5])
    assert zx.pack(x, encoding=how).values.tolist() == [127, -127, -127, -127, -128, 126]


def test_other_data_by_the_same_encoding() -> None:
    data = dataset()
    how = zx.encoding(data)
    xr.testing.assert_identical(zx.pack(data, encoding=how), zx.pack(data))
    with_more = {name: {**each, "zlib": True} for name, each in how.items()}
    xr.testing.assert_identical(zx.pack(data, encoding=with_more), zx.pack(data))
    warmer = data.assign(t=data["t"] + 100)
    codes = zx.pack(warmer, encoding=how)["t"].values
    assert (codes[~np.isnan(data["t"].values)] == 254).all()
    assert zx.pack(data, encoding={"p": how["p"]})["t"].dtype == F4


def test_valid_ranges_become_codes() -> None:
    x = array([0, 50.2, 101.6], valid_range=np.float32([20.1, 90]), valid_max=F4(1e9))
    packed = zx.pack(x)  # steps of 0.4
    assert packed.attrs["valid_range"].tolist() == [50, 225]
    assert packed.attrs["valid_range"].dtype == packed.attrs["valid_max"].dtype == np.uint8
    assert packed.attrs["valid_max"] == 254  # beside the fill code
    back = zx.unpack(packed)
    np.testing.assert_allclose(back.attrs["valid_range"], [20, 90], rtol=1e-6)
    assert back.attrs["valid_range"].dtype == F4
    with pytest.raises(
        ValueError, match="'t': has the attribute valid_max.*netCDF4 compares it.*use pack"
    ):
        zx.encoding(x)
    with pytest.raises(ValueError, match="'t': valid_min 3 is of int64, as codes are"):
        zx.pack(array([1, 2], valid_min=3))
    with pytest.raises(ValueError, match="'t': valid_min .*nan.* has NaN.*remove it"):
        zx.pack(array([1, 2], valid_min=F4(NAN)))


# ---------------------------------------------------------------------------------------------
# Ranges that are hard


@pytest.mark.parametrize("real", [F4, F8])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("nan_code", ["auto", None, 0])
def test_a_range_far_from_zero(real: Any, dtype: str, nan_code: Any) -> None:
    """Where the offset is rounded by more than a step, no end of the range may saturate."""
    if dtype == "int8" and nan_code == 0:
        nan_code = 127
    for start in 1e6, -1e6, 16777216.0, 3e8, 1e30, -123456789.0:
        low = real(start)
        for ulps in 1, 2, 3, 16, 255, 256, 1000:
            x = low + np.spacing(np.abs(low)) * np.linspace(0, ulps, min(ulps + 1, 300)).astype(
                real
            )
            packed = zx.pack(array(x, real), dtype, nan_code=nan_code)
            how = packed.attrs
            # what xarray computes, before it casts to the dtype of the codes
            unclipped = np.rint((x - how["add_offset"]) / how["scale_factor"])
            np.testing.assert_array_equal(unclipped, packed.values)
            error = np.abs(zx.unpack(packed).values.astype(F8) - x.astype(F8)).max()
            assert error <= how["scale_factor"] / 2 + 1.5 * np.spacing(np.abs(low))


def test_constants_come_back() -> None:
    for real in F4, F8:
        tops = np.finfo(real)
        for value in 0, -0.0, 1, 1e-30, 273.15, -1e20, 16777217.0, tops.tiny, tops.max, -tops.max:
            for dtype, nan_code in (
                ("uint8", "auto"),
                ("uint8", 0),
                ("int8", "auto"),
                ("int8", None),
            ):
                x = array([value, value], real)
                back = zx.unpack(zx.pack(x, dtype, nan_code=nan_code))
                np.testing.assert_array_equal(back.values, x.values)


# ---------------------------------------------------------------------------------------------
# Bad input


def test_bad_arguments() -> None:
    t = array([1, 2, NAN])
    for function in zx.encoding, zx.pack, zx.unpack:
        with pytest.raises(TypeError, match="xarray Dataset or DataArray, not ndarray"):
            function(t.values)
    with pytest.raises(ValueError, match="data has no name"):
        zx.encoding(t.rename(None))
    for function in zx.encoding, zx.pack:
        with pytest.raises(TypeError, match="int16"):
            function(t, "int16")
        with pytest.raises(ValueError, match="nan_code 'none'.*auto"):
            function(t, nan_code="none")
        with pytest.raises(ValueError, match="nan_code 100 lies inside"):
            function(t, nan_code=100)
        with pytest.raises(
            ValueError, match="variables names 'u', which is no data.*there are 't'"
        ):
            function(t, variables=["u"])
        with pytest.raises(TypeError, match="'count' is of int64; pack float16, float32"):
            function(dataset(), variables="count")
        with pytest.raises(ValueError, match="'lat', which is no data variable"):
            function(dataset(), variables="lat")
    how = zx.encoding(t)
    for more in {"dtype": "uint8"}, {"variables": ["t"]}, {"nan_code": None}:
        with pytest.raises(ValueError, match="encoding says which variables"):
            zx.pack(t, encoding=how, **more)
    with pytest.raises(TypeError, match="encoding must be a mapping"):
        zx.pack(t, encoding=["t"])
    with pytest.raises(ValueError, match="encoding names 'u'"):
        zx.pack(t, encoding={"u": how["t"]})
    with pytest.raises(TypeError, match="'t': attributes must be a mapping"):
        zx.pack(t, encoding={"t": 0.5})
    with pytest.raises(TypeError, match="int32"):
        zx.unpack(zx.pack(t), dtype="int32")
    with pytest.raises(ValueError, match="'t': scale_factor is 0.0"):
        zx.unpack(zx.pack(t).assign_attrs(scale_factor=0.0))


def test_bad_data() -> None:
    for function in zx.encoding, zx.pack:
        with pytest.raises(
            ValueError, match=r"'t' has 2 Inf, the first \(-inf\) at \(1,\); replace"
        ):
            function(array([NAN, -np.inf, np.inf]))
        with pytest.raises(
            ValueError, match=r"'t' has 1 NaN or Inf, the first \(nan\) at \(1,\); pass a nan_code"
        ):
            function(array([1, NAN]), nan_code=None)
        with pytest.raises(ValueError, match="'t': the range of x is too wide"):
            function(array([-3e38, 3e38]))
        for name in "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned":
            with pytest.raises(ValueError, match=f"'t': has the attribute {name} = 1; open with"):
                function(array([1, 2], **{name: 1}))
    with pytest.raises(ValueError, match="'t': xarray packs float16 in float16"):
        zx.encoding(array([1, 2], np.float16))
    how = zx.encoding(array([1, 2]), nan_code=None)
    with pytest.raises(ValueError, match="'t' has 1 NaN and its encoding no _FillValue"):
        zx.pack(array([1, NAN]), encoding=how)


# ---------------------------------------------------------------------------------------------
# What unpack reads


def test_unsigned_bytes_are_unpacked() -> None:
    how = {"scale_factor": F4(1), "add_offset": F4(10), "_Unsigned": "true"}
    x = array([-128, -1, 0, 127], np.int8, **how, _FillValue=np.int8(-1), valid_max=np.int16(200))
    back = zx.unpack(x)
    np.testing.assert_array_equal(back.values, F4([138, NAN, 10, 137]))
    assert back.attrs == {"valid_max": 210}
    x = array([128, 255, 0], np.uint8, **how | {"_Unsigned": "false"}, valid_max=np.int16(200))
    back = zx.unpack(x)
    np.testing.assert_array_equal(back.values, F4([-118, 9, 10]))
    assert back.attrs == {"valid_max": 200}  # no code


def test_inner_fill_codes_and_both_of_them() -> None:
    q = np.arange(256, dtype=np.uint8)
    how = {"scale_factor": F4(0.5), "add_offset": F4(10)}
    for fill in 0, 1, 100, 200, 254, 255:
        back = zx.unpack(array(q, np.uint8, **how, _FillValue=np.uint8(fill)))
        expected = np.where(q == fill, NAN, q * F4(0.5) + F4(10))
        np.testing.assert_array_equal(back.values, expected)
        back = zx.unpack(array(q.view(np.int8), np.int8, **how, missing_value=fill - 128))
        q_signed = q.view(np.int8)
        np.testing.assert_array_equal(
            back.values, np.where(q_signed == fill - 128, NAN, q_signed * F4(0.5) + F4(10))
        )


def test_what_unpack_leaves_alone() -> None:
    data = xr.Dataset(
        {
            "short": ("x", np.int16([1, 2]), {"scale_factor": 0.1, "add_offset": 3.0}),
            "mask": ("x", np.uint8([1, 2]), {"_FillValue": np.uint8(2)}),
            "real": ("x", F4([1, 2]), {"units": "m"}),
        }
    )
    xr.testing.assert_identical(zx.unpack(data), data)


def test_links_to_other_variables_are_kept(tmp_path: Path) -> None:
    """`decode_coords="all"` moves them to the encoding, which is replaced."""
    pytest.importorskip("netCDF4")
    data = array([250, 275.5, NAN, 313.5], grid_mapping="crs", cell_measures="area: cell")
    data = data.to_dataset().assign(crs=((), 0), cell=("x", F4([1, 2, 3, 4])))
    path = tmp_path / "source.nc"
    data.to_netcdf(path)
    with xr.open_dataset(path, decode_coords="all") as opened:
        read = opened.load()
    links = {"grid_mapping": "crs", "cell_measures": "area: cell"}
    assert zx.encoding(read)["t"].items() >= links.items()
    assert zx.pack(read)["t"].encoding == zx.unpack(zx.pack(read))["t"].encoding == links
    how = {"by_pack": (zx.pack(read), None), "by_encoding": (read, zx.encoding(read))}
    for name, (written, encoding) in how.items():
        path = tmp_path / f"{name}.nc"
        written.to_netcdf(path, encoding=encoding)
        with xr.open_dataset(path) as found:
            assert found["t"].attrs == links
            np.testing.assert_allclose(found["t"], read["t"], atol=0.126)


def test_packed_coordinates() -> None:
    how = {"scale_factor": F4(0.5), "add_offset": F4(-10)}
    data = xr.Dataset(
        {"t": ("x", np.uint8([1, 2]), how)},
        {"x": ("x", np.int8([3, 4]), how), "h": ("x", np.uint8([5, 6]), how)},
    )
    back = zx.unpack(data)
    assert back["x"].values.tolist() == [-8.5, -8]
    assert back.indexes["x"].tolist() == [-8.5, -8]
    assert back["h"].values.tolist() == [-7.5, -7]
    assert set(back.coords) == {"x", "h"}
    assert zx.unpack(data["t"])["h"].values.tolist() == [-7.5, -7]


@pytest.mark.parametrize("dtype", [np.float16, F4, F8])
def test_dtype_of_values(dtype: Any) -> None:
    packed = zx.pack(array([250, 275.5, NAN, 313.5]))
    back = zx.unpack(packed, dtype=dtype)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.values, np.array([250, 275.5, NAN, 313.5], dtype))


# ---------------------------------------------------------------------------------------------
# Dask


def same_bits(one: Any, other: Any) -> None:
    xr.testing.assert_identical(one, other)
    for name in one.variables:
        assert one[name].values.tobytes() == other[name].values.tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_chunks_change_nothing(dtype: str) -> None:
    da = pytest.importorskip("dask.array")
    data = dataset()
    for chunks in {"time": 1, "lat": 2}, {"lon": 5}, {}:
        lazy = data.chunk(chunks)
        lazy["one"] = lazy["one"].copy(data=da.from_array(data["one"].values))
        assert zx.encoding(lazy, dtype) == zx.encoding(data, dtype)
        packed = zx.pack(lazy, dtype)
        assert packed["t"].chunks == lazy["t"].chunks
        assert packed["one"].chunks == ()
        same_bits(packed.compute(), zx.pack(data, dtype))
        back = zx.unpack(packed)
        assert back["t"].chunks == lazy["t"].chunks
        assert back["t"].dtype == F4
        same_bits(back.compute(), zx.unpack(zx.pack(data, dtype)))


def test_one_pass_over_all_variables() -> None:
    da = pytest.importorskip("dask.array")
    seen: list[int] = []

    def made(block_id: Any = None) -> Any:
        seen.append(block_id[0])
        return np.arange(4, dtype=F4) + block_id[0]

    x = da.map_blocks(made, chunks=((4,) * 5,), dtype=F4, meta=np.zeros(0, F4))
    data = xr.Dataset({"a": ("x", x), "b": ("x", x * 2)})
    how = zx.encoding(data)
    assert sorted(seen) == [0, 1, 2, 3, 4]  # each chunk once, for both
    seen.clear()
    packed = zx.pack(data, encoding=how)
    assert seen == []  # lazy
    assert packed["a"].values.tolist() == zx.pack(data.compute(), encoding=how)["a"].values.tolist()


def test_faults_in_chunks() -> None:
    pytest.importorskip("dask.array")
    x = np.zeros((6, 4), F4)
    x[4, 1], x[5, 3], x[3, 2] = np.inf, -np.inf, NAN
    data = xr.DataArray(x, dims=("y", "x"), name="t").chunk({"y": 2, "x": 3})
    for function in zx.encoding, zx.pack:
        with pytest.raises(ValueError, match=r"'t' has 2 Inf, the first \(inf\) at \(4, 1\)"):
            function(data)
        with pytest.raises(
            ValueError, match=r"'t' has 3 NaN or Inf, the first \(nan\) at \(3, 2\)"
        ):
            function(data, nan_code=None)
    how = {"t": {"scale_factor": F4(1), "add_offset": F4(0), "dtype": "uint8"}}
    packed = zx.pack(data, encoding=how)
    with pytest.raises(ValueError, match="'t' has 1 NaN and its encoding no _FillValue"):
        packed.compute()


# ---------------------------------------------------------------------------------------------
# Files


ENGINES = [("netcdf4", "netCDF4"), ("h5netcdf", "h5py"), ("zarr2", "zarr"), ("zarr3", "zarr")]


def write(data: Any, path: Path, engine: str, **keywords: Any) -> None:
    if engine.startswith("zarr"):
        data.to_zarr(path, zarr_format=int(engine[-1]), consolidated=False, **keywords)
    else:
        data.to_netcdf(path, engine=engine, **keywords)


def read(path: Path, engine: str, **keywords: Any) -> Any:
    if engine.startswith("zarr"):
        data = xr.open_zarr(path, consolidated=False, chunks=None, **keywords)
    else:
        data = xr.open_dataset(path, engine=engine, **keywords)
    with data:
        return data.load()


@pytest.mark.parametrize(("engine", "package"), ENGINES)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_through_files(engine: str, package: str, dtype: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    data = dataset().drop_vars(["nothing", "name"])  # strings: not in every version of Zarr
    packed = zx.pack(data, dtype)
    write(packed, tmp_path / "ours", engine)
    write(data, tmp_path / "theirs", engine, encoding=zx.encoding(data, dtype))
    raw = {name: read(tmp_path / name, engine, mask_and_scale=False) for name in ("ours", "theirs")}
    decoded = {name: read(tmp_path / name, engine) for name in ("ours", "theirs")}
    for name in zx.encoding(data):
        # xarray's packing of the data that the attributes were chosen for is ours
        for each in raw.values():
            assert each[name].dtype == dtype
            np.testing.assert_array_equal(each[name].values, packed[name].values)
        # what xarray decodes is what we unpack, from either
        for which, each in decoded.items():
            values = zx.unpack(raw[which])[name]
            assert values.dtype == each[name].dtype
            assert values.values.tobytes() == each[name].values.tobytes()
            np.testing.assert_array_equal(np.isnan(values), np.isnan(data[name]))
        # and netCDF keeps the precision of the attributes
        if not engine.startswith("zarr"):
            assert raw["ours"][name].attrs["scale_factor"].dtype == data[name].dtype
            same = zx.unpack(packed)[name].values
            assert same.tobytes() == decoded["ours"][name].values.tobytes()


def test_xarray_wraps_where_pack_saturates(tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    x = array([300, -5])
    how = {"t": {"scale_factor": F4(1), "add_offset": F4(0), "_FillValue": None, "dtype": "uint8"}}
    assert zx.pack(x, encoding=how).values.tolist() == [255, 0]
    packed = zx.pack(x, encoding=how)
    packed.to_netcdf(tmp_path / "ours.nc", engine="netcdf4")
    assert read(tmp_path / "ours.nc", "netcdf4")["t"].values.tolist() == [255, 0]
