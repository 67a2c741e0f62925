"""The Zarr codec: what is read is `dequantize(quantize(x))` to the bit, whatever is around it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

zarr = pytest.importorskip("zarr", minversion="3.1.3")

from zarr.codecs import BloscCodec, BytesCodec, ShardingCodec, ZstdCodec  # noqa: E402
from zarr.dtype import Float16, Float32, Float64  # noqa: E402

from zeropoint.zarr import AffineCodec  # noqa: E402

# zarr advises against sharding after a filter, and puts filters inside by itself; both must work
shards_after = pytest.mark.filterwarnings(
    "ignore:Combining a `sharding_indexed` codec disables partial:zarr.errors.ZarrUserWarning"
)
EIGHTH = zp.QuantParams(0.125, 100)  # values -12.5 ... 19.375, every operation on them exact


def normal(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).normal(size=shape).astype(dtype)


def stored(x: np.ndarray[Any, Any], codec: AffineCodec, **keywords: Any) -> Any:
    """`x` through a store in memory, opened again by its metadata."""
    store: dict[str, Any] = {}
    zarr.create_array(store, data=x, filters=[codec], **keywords)
    return zarr.open_array(store)


# ---------------------------------------------------------------------------------------------
# The bits


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("code", ["uint8", "int8"])
@pytest.mark.parametrize("convention", ["numpy", "tflite", "cf", "faiss", "sentence-transformers"])
def test_reads_what_dequantize_gives(dtype: Any, code: str, convention: str) -> None:
    x = normal((50, 33), dtype)  # chunks that are cut at both edges
    params = zp.choose_params(x, code, convention=convention)
    array = stored(x, AffineCodec(params), chunks=(16, 10))
    assert array.dtype == x.dtype.newbyteorder("=")
    np.testing.assert_array_equal(
        array[:], params.dequantize(params.quantize(x), dtype=x.dtype.type)
    )
    np.testing.assert_array_equal(array[17:40:3, 5], params.fake_quantize(x)[17:40:3, 5])


def test_the_store_holds_the_codes(tmp_path: Path) -> None:
    x = normal((40, 30))
    params = zp.choose_params(x, "int8")
    zarr.create_array(
        tmp_path, data=x, chunks=(20, 30), filters=[AffineCodec(params)], compressors=None
    )
    for i in range(2):
        codes = np.fromfile(tmp_path / "c" / str(i) / "0", np.int8)
        np.testing.assert_array_equal(codes.reshape(20, 30), params.quantize(x[20 * i :][:20]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_round_trip_moves_nothing_by_more_than_half_a_step(dtype: Any) -> None:
    x = np.arange(-12.5, 19.4375, 1 / 32).astype(dtype)  # ends and ties included, all of it exact
    back = stored(x, AffineCodec(EIGHTH), chunks=(100,))[:]
    error = np.abs(x.astype(np.float64) - back.astype(np.float64))
    assert error.max() == 0.0625


@pytest.mark.parametrize(
    "around",
    [
        {"compressors": None},
        {"compressors": [ZstdCodec(level=3)]},
        {"compressors": [BloscCodec(cname="lz4", shuffle="shuffle", typesize=1)]},
        {"shards": (32, 20)},
        pytest.param(
            {"serializer": ShardingCodec(chunk_shape=(8, 5)), "compressors": None},
            marks=shards_after,
        ),
        {"serializer": BytesCodec(endian="big"), "compressors": None},
    ],
    ids=["bare", "zstd", "blosc", "in shards", "before shards", "big endian"],
)
def test_whatever_follows(around: dict[str, Any]) -> None:
    x = normal((50, 33))
    params = zp.choose_params(x)
    array = stored(x, AffineCodec(params), chunks=(16, 10), **around)
    np.testing.assert_array_equal(array[:], params.fake_quantize(x))
    np.testing.assert_array_equal(array[3:5, 11:], params.fake_quantize(x)[3:5, 11:])


def test_codes_compress() -> None:
    x = np.repeat(normal((64,)), 1000)
    array = stored(x, AffineCodec(zp.choose_params(x)), compressors=[ZstdCodec()])
    assert array.nbytes_stored() < x.size / 10


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    x = np.full(shape, 1.5, np.float32)
    np.testing.assert_array_equal(stored(x, AffineCodec(EIGHTH))[...], x)


def test_writing_a_part_keeps_the_rest() -> None:
    x = normal((64,))
    params = zp.choose_params(x)
    array = stored(x, AffineCodec(params), chunks=(64,))
    for i in range(8):
        array[8 * i + 3 : 8 * i + 6] = [0.25, -0.5, 1]
        x[8 * i + 3 : 8 * i + 6] = [0.25, -0.5, 1]
    np.testing.assert_array_equal(array[:], params.fake_quantize(x))


def test_overwriting_in_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    x = normal((300,))
    params = zp.choose_params(x.astype(np.float64))  # a float64 scale
    for name in "ab":
        zarr.create_array(tmp_path / name, data=x, chunks=(100,), filters=[AffineCodec(params)])
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


# ---------------------------------------------------------------------------------------------
# Metadata


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@pytest.mark.parametrize(
    "params",
    [
        zp.QuantParams(0.1, 3, "int8", qmin=-127, convention="tflite"),
        zp.QuantParams(np.float64(0.1), 3),
        zp.QuantParams(np.array([0.1, 0.2], np.float32), [3, 4], axis=-1),
        zp.QuantParams(0.5, -300, include_zero=False),
        zp.QuantParams(0.5, 3, nan_code=255),
        zp.OffsetParams(0.1, 280, "int8", nan_code=-128),
        zp.OffsetParams(np.float64(0.1), 3),
        zp.OffsetParams(None, [1, 1.5], span=[1, 0.75], axis=-1, convention="faiss", nan_code=0),
        zp.OffsetParams(None, 3, span=2, convention="sentence-transformers"),
    ],
)
@pytest.mark.parametrize("check_finite", [False, True])
def test_the_metadata_holds_the_codec(params: zp.QuantParams, check_finite: bool) -> None:
    codec = AffineCodec(params, check_finite=check_finite)
    text = json.dumps(codec.to_dict(), allow_nan=False)
    assert AffineCodec.from_dict(json.loads(text)) == codec
    assert pickle.loads(pickle.dumps(codec)) == codec
    codes = np.full((1, 2), params.qmin, params.dtype)
    low = float(np.max(params.dequantize(codes)))
    store: dict[str, Any] = {}
    zarr.create_array(
        store, shape=(4, 2), chunks=(2, 2), dtype="float32", filters=[codec], fill_value=low
    )
    document = json.loads(store["zarr.json"].to_bytes(), parse_constant=refuse)
    assert document["codecs"][0] == json.loads(text)
    assert zarr.open_array(store).filters == (codec,)


@pytest.mark.parametrize(
    "configuration",
    [None, {}, [], {"params": {"scale": 1.0, "zero_point": 0}, "more": 1}, {"check_finite": True}],
)
def test_a_foreign_configuration(configuration: Any) -> None:
    with pytest.raises(ValueError, match="configuration of codec 'zeropoint.affine'"):
        AffineCodec.from_dict({"name": "zeropoint.affine", "configuration": configuration})


def test_damaged_parameters_are_reported() -> None:
    params = EIGHTH.to_dict() | {"scale": -1.0}
    with pytest.raises(ValueError, match="a scale must be finite and > 0"):
        AffineCodec.from_dict({"name": "zeropoint.affine", "configuration": {"params": params}})


def test_zarr_finds_the_codec_by_itself(tmp_path: Path) -> None:
    x = normal((64,))
    params = zp.choose_params(x)
    zarr.create_array(tmp_path / "x.zarr", data=x, chunks=(16,), filters=[AffineCodec(params)])
    code = (
        "import sys, zarr; values = zarr.open_array(sys.argv[1])[:]; "
        "sys.stdout.buffer.write(values.tobytes())"
    )
    read = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.zarr")], capture_output=True, check=True
    )
    assert read.stdout == params.fake_quantize(x).tobytes()


# ---------------------------------------------------------------------------------------------
# What is not written, and what cannot be


def test_chunks_that_were_never_written_read_as_the_fill_value() -> None:
    store: dict[str, Any] = {}
    codec = AffineCodec(EIGHTH)
    array = zarr.create_array(
        store, shape=(64,), chunks=(16,), dtype="float32", filters=[codec], fill_value=0.3
    )
    array[20:24] = 1
    assert sorted(store) == ["c/1", "zarr.json"]
    fill = np.float32(0.3)
    assert (array[:16] == fill).all()
    assert (array[16:20] == EIGHTH.fake_quantize(fill[None])).all()
    assert (array[20:24] == 1).all()


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, -12.6, 19.5])
def test_a_fill_value_that_no_code_stands_for(fill: float) -> None:
    with pytest.raises(ValueError, match=r"fill_value .* pass fill_value=0\.0"):
        zarr.create_array(
            {}, shape=4, dtype="float32", filters=[AffineCodec(EIGHTH)], fill_value=fill
        )


def test_a_range_without_zero_needs_a_fill_value() -> None:
    codec = AffineCodec(zp.QuantParams(0.5, -300, include_zero=False))
    with pytest.raises(
        ValueError, match=r"fill_value 0\.0 .* pass a fill_value from 150\.0 to 277\.5"
    ):
        zarr.create_array({}, shape=4, dtype="float32", filters=[codec])
    array = zarr.create_array({}, shape=4, dtype="float32", filters=[codec], fill_value=150)
    array[:2] = 151.5
    assert array[:].tolist() == [151.5, 151.5, 150, 150]


def test_nan_and_inf() -> None:
    x = np.array([1, np.nan, np.inf, -np.inf, 1e30], np.float32)
    codec = AffineCodec(EIGHTH, check_finite=False)
    assert stored(x, codec)[:].tolist() == [1, -12.5, 19.375, -12.5, 19.375]
    for codec in (AffineCodec(EIGHTH), AffineCodec(EIGHTH, check_finite=True)):
        store: dict[str, Any] = {}
        array = zarr.create_array(store, shape=5, chunks=5, dtype="float32", filters=[codec])
        with pytest.raises(ValueError, match=r"3 NaN or Inf of 5 .*check_finite=False.* NaN as 0"):
            zarr.open_array(store)[:] = x  # the metadata carries the wish
        assert sorted(store) == ["zarr.json"]
        array[:] = 2
        assert array[:].tolist() == [2] * 5


def test_nan_is_a_value_where_it_has_a_code(tmp_path: Path) -> None:
    x = normal((50, 33)) * 3 + 280
    x[::3, ::2] = np.nan
    x.view(np.uint32)[3, 4] = 0xFFC00001  # another NaN
    for params in (
        zp.choose_params(x, convention="cf", nan_code=255, skip_nan=True),
        zp.choose_params(x, "int8", nan_code=-128, skip_nan=True),
        zp.choose_params(x, convention="faiss", axis=1, nan_code=0, skip_nan=True),
    ):
        chunks = (16, 33) if params.axis else (16, 10)
        array = stored(x, AffineCodec(params), chunks=chunks, fill_value=np.nan)
        found = array[:]
        np.testing.assert_array_equal(found, params.fake_quantize(x))
        np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
        array[20:25] = 281
        assert np.abs(array[20:25] - 281).max() <= np.max(params.scale)
        with pytest.raises(ValueError, match=r"chunk has 2 Inf of .* stores Inf as \d+, or"):
            array[0, :2] = -np.inf
        rest = ~np.isnan(found)
        rest[20:25] = False
        np.testing.assert_array_equal(array[:][rest], found[rest])


def test_chunks_of_nothing_but_nan_are_not_stored() -> None:
    store: dict[str, Any] = {}
    x = np.full(64, np.nan, np.float32)
    x[20] = 1.5
    codec = AffineCodec(EIGHTH.replace(nan_code=255))
    array = zarr.create_array(store, data=x, chunks=(16,), filters=[codec], fill_value=np.nan)
    assert sorted(store) == ["c/1", "zarr.json"]
    np.testing.assert_array_equal(array[:], x)
    array = zarr.create_array(
        {}, shape=8, chunks=4, dtype="float32", filters=[codec], fill_value="NaN"
    )
    array[2] = 1
    np.testing.assert_array_equal(array[:], np.float32([np.nan, np.nan, 1] + [np.nan] * 5))


def test_inf_with_a_code_for_nan() -> None:
    x = np.array([1, np.nan, np.inf, -np.inf, 1e30], np.float32)
    params = EIGHTH.replace(nan_code=255)
    found = stored(x, AffineCodec(params, check_finite=False))[:]
    np.testing.assert_array_equal(found, np.float32([1, np.nan, 19.25, -12.5, 19.25]))
    array = zarr.create_array({}, shape=5, dtype="float32", filters=[AffineCodec(params)])
    with pytest.raises(ValueError, match=r"2 Inf of 5 .*\(inf\) at index \(2,\); "):
        array[:] = x
    array = zarr.create_array({}, shape=5, dtype="float32", filters=[AffineCodec(EIGHTH)])
    with pytest.raises(ValueError, match=r"parameters with a nan_code, which keep NaN"):
        array[:] = x


@pytest.mark.parametrize(
    ("params", "fix"),
    [
        (EIGHTH, r"pass fill_value=0\.0 or parameters with a nan_code, and fill_value=nan"),
        (zp.OffsetParams(0.5, 150), r"pass a fill_value from 150\.0 to 277\.5 or parameters with"),
        (zp.OffsetParams(None, 150, span=255, convention="faiss"), r"from 150\.5 to 405\.5 or"),
        (
            zp.OffsetParams([0.5, 0.5], [0, 150], axis=0),
            r"; pass parameters with a nan_code, and fill_value=nan$",
        ),
    ],
)
def test_nan_as_fill_value_needs_a_code(params: Any, fix: str) -> None:
    for fill in (np.nan, 1000.0):
        if fill == 1000 and "from" in fix:
            fix = fix.partition(" or")[0] + "$"
        if fill == 1000 and params is EIGHTH:
            fix = r"pass fill_value=0\.0$"
        with pytest.raises(ValueError, match=f"fill_value {fill} .*{fix}"):
            zarr.create_array(
                {}, shape=2, dtype="float32", filters=[AffineCodec(params)], fill_value=fill
            )


@pytest.mark.parametrize("fill", [149.7, 277.8, np.inf, 0])
def test_a_fill_value_beyond_a_real_offset(fill: float) -> None:
    for params in (zp.OffsetParams(0.5, 150), zp.OffsetParams(0.5, 150, nan_code=255)):
        with pytest.raises(ValueError, match=r"pass a fill_value from 150\.0 to 277"):
            zarr.create_array(
                {}, shape=4, dtype="float32", filters=[AffineCodec(params)], fill_value=fill
            )
    zarr.create_array({}, shape=4, dtype="f4", filters=[AffineCodec(params)], fill_value=149.75)


def test_the_fill_value_of_constant_data() -> None:
    """A span of 0 has one value."""
    params = zp.choose_params(np.full(4, 2.5, np.float32), convention="faiss")
    x = np.full(4, 2.5, np.float32)
    np.testing.assert_array_equal(stored(x, AffineCodec(params), fill_value=2.5)[:], x)
    with pytest.raises(ValueError, match=r"pass a fill_value from 2\.5 to 2\.5"):
        stored(x, AffineCodec(params), fill_value=2.6)


def test_metadata_without_check_finite_means_the_default() -> None:
    """Only a hand-made document lacks it; it is on there too."""
    configuration = {"params": EIGHTH.to_dict()}
    found = AffineCodec.from_dict({"name": "zeropoint.affine", "configuration": configuration})
    assert found == AffineCodec(EIGHTH)
    assert found.check_finite


def test_params_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"params must be a QuantParams or an OffsetParams, not 0"):
        AffineCodec(0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="check_finite must be True or False"):
        AffineCodec(EIGHTH, check_finite=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
def test_arrays_of_other_dtypes(dtype: str) -> None:
    with pytest.raises(TypeError, match="the array's dtype"):
        zarr.create_array({}, shape=4, dtype=dtype, filters=[AffineCodec(EIGHTH)])


def test_a_scale_that_the_array_cannot_hold() -> None:
    codec = AffineCodec(zp.QuantParams(np.float64(1e-60), 3))
    with pytest.raises(ValueError, match=r"scale, cast to float32"):
        zarr.create_array({}, shape=4, dtype="float32", filters=[codec])
    x = np.array([0, 1e-60, 2e-60])
    np.testing.assert_array_equal(stored(x, codec)[:], codec.params.fake_quantize(x))


# ---------------------------------------------------------------------------------------------
# Parameters along an axis


@pytest.mark.parametrize(
    "around",
    [
        {},
        pytest.param({"serializer": ShardingCodec(chunk_shape=(5, 4))}, marks=shards_after),
    ],
    ids=["", "before shards"],
)
def test_one_chunk_spans_the_axis(around: dict[str, Any]) -> None:
    x = normal((50, 8)) * 2.0 ** np.arange(8, dtype=np.float32)
    params = zp.choose_params(x, axis=-1)
    array = stored(x, AffineCodec(params), chunks=(10, 8), **around)
    np.testing.assert_array_equal(array[:], params.fake_quantize(x))


@pytest.mark.parametrize("keywords", [{"axis": 1}, {"axis": 1, "block_size": 10}])
def test_no_axis_inside_shards(keywords: dict[str, Any]) -> None:
    """There the codec sees chunks alone: these would fit, and the array has twice the channels."""
    x = normal((20, 100))
    codec = AffineCodec(zp.choose_params(x[:5, :50], **keywords))
    stored(x[:5, :50], codec, chunks=(5, 50))  # where it fits, which says nothing of the next array
    with pytest.raises(ValueError, match=r"axis 1, and inside a sharding .* serializer=Sharding"):
        stored(x, codec, chunks=(5, 50), shards=(20, 100))
    array = zarr.create_array(
        {}, shape=x.shape, dtype="f4", chunks=(5, 50), shards=(20, 100), filters=[codec]
    )
    with pytest.raises(ValueError, match="inside a sharding codec"):
        array[:5, :50] = x[:5, :50]


def test_an_axis_is_validated_where_an_array_is_opened(tmp_path: Path) -> None:
    x = normal((20, 8))
    params = zp.choose_params(x, axis=1)
    zarr.create_array(tmp_path / "x", data=x, chunks=(5, 8), filters=[AffineCodec(params)])
    array = zarr.open_array(tmp_path / "x")
    for each in (array, pickle.loads(pickle.dumps(array))):
        np.testing.assert_array_equal(each[3:], params.fake_quantize(x)[3:])


def test_blocks_need_one_chunk() -> None:
    x = normal((6, 50))
    params = zp.choose_params(x, axis=1, block_size=16)
    array = stored(x, AffineCodec(params), chunks=(6, 50))
    np.testing.assert_array_equal(array[:], params.fake_quantize(x))
    with pytest.raises(ValueError, match=r"chunks \(3, 50\) cut .* pass chunks=\(6, 50\)"):
        stored(x, AffineCodec(params), chunks=(3, 50))


@pytest.mark.parametrize("chunks", [(10, 4), (10, 9), (10, 3)])
def test_chunks_that_cut_the_axis(chunks: tuple[int, int]) -> None:
    params = zp.QuantParams(np.ones(8, np.float32), 0, axis=1)
    with pytest.raises(ValueError, match=r"pass chunks=\(10, 8\), or parameters without axis"):
        stored(normal((50, 8)), AffineCodec(params), chunks=chunks)


def test_an_array_of_another_length() -> None:
    codec = AffineCodec(zp.QuantParams(np.ones(8, np.float32), 0, axis=0))
    for chunks in ((8,), (4,)):
        with pytest.raises(ValueError, match=r"scale has shape \(8,\); data of shape \(16,\)"):
            zarr.create_array({}, shape=16, chunks=chunks, dtype="float32", filters=[codec])
    with pytest.raises(ValueError, match=r"scale has shape \(8,\); data of shape \(4,\)"):
        zarr.create_array(
            {}, shape=(8,), chunks=(4,), shards=(8,), dtype="float32", filters=[codec]
        )
    array = zarr.create_array({}, shape=8, chunks=8, dtype="float32", filters=[codec])
    with pytest.raises(ValueError, match=r"scale has shape \(8,\); data of shape \(16,\)"):
        array.resize((16,))


@shards_after
@pytest.mark.parametrize("code", [0, 1, 100, 255])
def test_a_shard_of_equal_codes_is_kept(code: int) -> None:
    # a sharding codec leaves out what is its fill value throughout, and ours would then read as
    # the array's
    x = np.full(4, code, np.float32)
    codec = AffineCodec(zp.QuantParams(1, 0))
    serializer = ShardingCodec(chunk_shape=(2,))
    array = stored(x, codec, chunks=4, serializer=serializer, fill_value=0.25)
    np.testing.assert_array_equal(array[:], x)


@pytest.mark.parametrize(("dtype", "size"), [(Float16, 2), (Float32, 4), (Float64, 8)])
def test_encoded_size(dtype: Any, size: int) -> None:
    spec = SimpleNamespace(dtype=dtype())
    assert AffineCodec(EIGHTH).compute_encoded_size(16 * size, spec) == 16


# ---------------------------------------------------------------------------------------------
# xarray


def test_xarray_writes_and_opens(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    x = normal((100, 37))
    params = zp.choose_params(x, axis=1)
    dataset = xarray.Dataset({"x": (("time", "feature"), x)}, attrs={"unit": "mV"})
    encoding = {"filters": [AffineCodec(params)], "chunks": (32, 37), "fill_value": 0.0}
    dataset.to_zarr(tmp_path / "a", zarr_format=3, consolidated=False, encoding={"x": encoding})
    opened = xarray.open_zarr(tmp_path / "a", consolidated=False)  # dask arrays, read lazily
    expected = params.fake_quantize(x)
    np.testing.assert_array_equal(opened.x.values, expected)
    assert opened.x.dims == ("time", "feature")
    opened.to_zarr(tmp_path / "b", zarr_format=3, consolidated=False)  # xarray keeps the codec
    again = zarr.open_group(tmp_path / "b")["x"]
    assert again.filters == (AffineCodec(params),)
    np.testing.assert_array_equal(again[:], expected)


@pytest.mark.parametrize("fill", [{"fill_value": np.nan}, {"_FillValue": np.nan}, {}])
def test_xarray_keeps_nan(tmp_path: Path, fill: dict[str, Any]) -> None:
    """With a code for NaN, as Zarr's fill value or not, and lazily by dask."""
    xarray = pytest.importorskip("xarray")
    x = normal((100, 37))
    x[::7, 3:9] = np.nan
    x[32:64] = np.nan
    params = zp.choose_params(x, convention="cf", nan_code=255, skip_nan=True)
    dataset = xarray.Dataset({"t2m": (("time", "place"), x)}, attrs={"unit": "K"})
    encoding = {"filters": [AffineCodec(params)], "chunks": (32, 37), **fill}
    dataset.to_zarr(tmp_path / "a", zarr_format=3, consolidated=False, encoding={"t2m": encoding})
    opened = xarray.open_zarr(tmp_path / "a", consolidated=False)
    expected = params.fake_quantize(x)
    np.testing.assert_array_equal(opened.t2m.values, expected)
    np.testing.assert_array_equal(np.isnan(opened.t2m.values), np.isnan(x))
    opened.to_zarr(tmp_path / "b", zarr_format=3, consolidated=False)
    again = zarr.open_group(tmp_path / "b")["t2m"]
    assert again.filters == (AffineCodec(params),)
    np.testing.assert_array_equal(again[:], expected)
    region = xarray.Dataset({"t2m": (("time", "place"), x[:32] + 0)})
    region.to_zarr(tmp_path / "a", region={"time": slice(64, 96)}, consolidated=False)
    found = xarray.open_zarr(tmp_path / "a", consolidated=False).t2m.values
    np.testing.assert_array_equal(found[64:96], expected[:32])
