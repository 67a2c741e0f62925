"""Dask arrays: the bits of the whole array in memory, for any chunks, scheduler and accident."""

from __future__ import annotations

import doctest
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

import dask.array as da  # noqa: E402

import zeropoint.dask as zd  # noqa: E402
import zeropoint.zarr as zz  # noqa: E402

Array = np.ndarray[Any, Any]
GRANULARITIES: list[dict[str, Any]] = [
    {},
    {"axis": 0},
    {"axis": 1},
    {"axis": -1},
    {"axis": 0, "block_size": 16},
    {"axis": 1, "block_size": 7},
    {"axis": -1, "block_size": 4},
]
OBSERVERS = [zp.MinMaxObserver, zp.HistogramObserver]
OFFSETS = ["cf", "faiss", "sentence-transformers"]


def normal(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    return np.random.default_rng(7).normal(size=shape).astype(dtype)


def with_nan(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """A third of them NaN, and all where the first two axes begin; none in the last rows."""
    x = normal(shape, dtype)
    x[:-2][np.random.default_rng(8).random(shape)[:-2] < 1 / 3] = np.nan
    x[:2, :2] = np.nan
    return x


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes on this machine."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(
    params=["threads", pytest.param("workers", marks=pytest.mark.slow("a cluster of processes"))]
)
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    """Computes on Dask's threads, and on two worker processes."""
    if request.param == "threads":
        with dask.config.set(scheduler="threads", num_workers=4):
            yield
    else:
        client = request.getfixturevalue("client")
        with client.as_current():
            assert dask.base.get_scheduler() == client.get
            yield


# ---------------------------------------------------------------------------------------------
# The same bits


@pytest.mark.parametrize("keywords", GRANULARITIES, ids=str)
@pytest.mark.usefixtures("scheduler")
def test_same_as_in_memory(keywords: dict[str, Any]) -> None:
    x = normal((50, 33, 9))
    a = da.from_array(x, chunks=(20, 10, (4, 5)))
    params = zd.choose_params(a, "int8", convention="onnx", **keywords)
    assert params == zp.choose_params(x, "int8", convention="onnx", **keywords)
    q = zd.quantize(a, params)
    codes = zp.quantize(x, params)
    y = zd.dequantize(q, params, dtype="float64")
    f = zd.fake_quantize(a, params)
    for lazy, expected in (
        (q, codes),
        (y, zp.dequantize(codes, params, dtype="float64")),
        (f, zp.fake_quantize(x, params)),
    ):
        assert isinstance(lazy, da.Array)
        assert (lazy.dtype, lazy.shape) == (expected.dtype, expected.shape)
        found = lazy.compute()
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.usefixtures("scheduler")
def test_observers(observer: Any, axis: int | None) -> None:
    x = normal((50, 33)) * np.exp(normal((50, 1)) * 3)
    a = da.from_array(x, chunks=(20, 10))
    mine = observer(axis=axis)
    assert zd.observe(a, mine) is mine
    whole = observer(axis=axis).update(x)
    assert mine == whole
    more = np.s_[:, :20] if axis == 0 else np.s_[:30]
    zd.observe(a[more], mine)  # it need not be fresh
    assert mine == whole.update(x[more])


@pytest.mark.parametrize("observer", OBSERVERS)
def test_merging_leaves_alone_what_dask_may_ask_for_again(observer: Any) -> None:
    x = normal((2, 50))
    x[1] *= 10
    each = [observer().update(x[0]), observer().update(x[1])]
    for _ in range(2):
        assert zd._merged(each, fresh=observer) == observer().update(x)
    assert each == [observer().update(x[0]), observer().update(x[1])]


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("axis", [None, 1])
def test_methods_of_the_histogram(method: str, axis: int | None) -> None:
    x = normal((5000, 3))
    found = zd.observe(da.from_array(x, chunks=(999, 2)), zp.HistogramObserver(axis=axis))
    whole = zp.HistogramObserver(axis=axis).update(x)
    assert found.params(method=method) == whole.params(method=method)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "bfloat16"])
@pytest.mark.parametrize("keywords", GRANULARITIES[:1] + GRANULARITIES[4:5], ids=str)
def test_dtypes(dtype: str, keywords: dict[str, Any]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = normal((40, 6)).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    a = da.from_array(x, chunks=(11, 4))
    params = zd.choose_params(a, **keywords)
    assert params == zp.choose_params(x, **keywords)
    np.testing.assert_array_equal(zd.quantize(a, params).compute(), zp.quantize(x, params))
    back = zd.fake_quantize(a, params)
    assert back.dtype == back.compute().dtype == x.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back.compute(), zp.fake_quantize(x, params))


def test_any_chunks() -> None:
    random = np.random.default_rng(3)
    with dask.config.set(scheduler="synchronous"):
        for _ in range(25):
            shape = tuple(random.integers(1, 14, random.integers(1, 4)))
            x = random.normal(size=shape).astype(np.float32)
            chunks = tuple(
                tuple(np.diff([0, *np.sort(random.integers(0, n + 1, 2)), n]).tolist())
                for n in shape
            )  # some without elements
            a = da.from_array(x, chunks=chunks)
            axis = int(random.integers(-x.ndim, x.ndim))
            block: dict[str, Any] = {"axis": axis, "block_size": int(random.integers(1, 16))}
            for keywords in ({}, {"axis": axis}, block):
                params = zd.choose_params(a, **keywords)
                assert params == zp.choose_params(x, **keywords), (shape, chunks, keywords)
                q = zd.quantize(a, params)
                np.testing.assert_array_equal(q.compute(), zp.quantize(x, params))
                y = zd.dequantize(q, params)
                np.testing.assert_array_equal(y.compute(), zp.fake_quantize(x, params))
            for observer in OBSERVERS:
                assert zd.observe(a, observer(axis=axis)) == observer(axis=axis).update(x)


def test_keywords_of_the_tutorial() -> None:
    x = normal((100,)) + 3
    how: dict[str, Any] = {"zero_point_from": "least_error", "include_zero": False, "qmax": 100}
    assert zd.choose_params(da.from_array(x, chunks=7), **how) == zp.choose_params(x, **how)
    how = {"symmetric": True, "qmin": -127}
    a = da.from_array(x, chunks=7)
    assert zd.choose_params(a, "int8", **how) == zp.choose_params(x, "int8", **how)


# ---------------------------------------------------------------------------------------------
# Real offsets and missing values


def same_in_all_passes(a: Any, x: Array, **keywords: Any) -> None:
    params = zd.choose_params(a, **keywords)
    assert params == zp.choose_params(x, **keywords)
    q, codes = zd.quantize(a, params), zp.quantize(x, params)
    assert (q.dtype, q.shape) == (codes.dtype, codes.shape)
    np.testing.assert_array_equal(q.compute(), codes)
    y, f = zd.dequantize(q, params), zd.fake_quantize(a, params)
    bits = f"u{x.itemsize}"
    np.testing.assert_array_equal(y.compute().view("u4"), zp.dequantize(codes, params).view("u4"))
    np.testing.assert_array_equal(f.compute().view(bits), zp.fake_quantize(x, params).view(bits))


@pytest.mark.parametrize("keywords", GRANULARITIES, ids=str)
@pytest.mark.parametrize("convention", OFFSETS)
def test_real_offsets(convention: str, keywords: dict[str, Any]) -> None:
    x = normal((50, 33, 8)) + 3  # of 8 dimensions, where faiss fuses, though no chunk has so many
    a = da.from_array(x, chunks=(20, 10, (4, 3, 1)))
    same_in_all_passes(a, x, dtype="int8", convention=convention, **keywords)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("convention", OFFSETS)
def test_real_offsets_of_other_dtypes(convention: str, dtype: str) -> None:
    for length in (8, 9):
        x = normal((40, length), dtype) - 5
        a = da.from_array(x, chunks=(11, 8))
        for axis in (None, 0, 1):
            same_in_all_passes(a, x, convention=convention, axis=axis)


@pytest.mark.parametrize("keywords", GRANULARITIES[:5], ids=str)
@pytest.mark.parametrize("convention", ["onnx", *OFFSETS])
def test_missing_values(convention: str, keywords: dict[str, Any]) -> None:
    x = with_nan((50, 33, 9))
    a = da.from_array(x, chunks=(20, 10, (4, 5)))
    keywords = {"skip_nan": True, "nan_code": 255, "convention": convention} | keywords
    same_in_all_passes(a, x, **keywords)
    params = zd.choose_params(a, **keywords)
    np.testing.assert_array_equal(zd.quantize(a, params) == 255, np.isnan(x))
    np.testing.assert_array_equal(
        zd.dequantize(zd.quantize(a, params), params), params.fake_quantize(x)
    )


@pytest.mark.slow("a cluster of processes")
@pytest.mark.parametrize("convention", ["onnx", "cf"])
def test_missing_values_on_two_workers(client: Any, convention: str) -> None:
    x = with_nan((50, 33, 8))
    a = da.from_array(x, chunks=(20, 10, (4, 3, 1)))
    with client.as_current():
        for keywords in GRANULARITIES[:5:2]:
            same_in_all_passes(a, x, skip_nan=True, nan_code=255, convention=convention, **keywords)
        observer = zp.HistogramObserver(axis=1, skip_nan=True)
        assert zd.observe(a, observer) == zp.HistogramObserver(axis=1, skip_nan=True).update(x)


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_observers_leave_out_nan(observer: Any, axis: int | None) -> None:
    x = with_nan((50, 33))
    x[:, 0] = np.nan  # channels and chunks without data
    x[20:40, 10:20] = np.nan
    x[5] = np.nan
    a = da.from_array(x, chunks=(20, 10))
    whole = observer(axis=axis, skip_nan=True).update(x)
    assert zd.observe(a, observer(axis=axis, skip_nan=True)) == whole
    if axis is None:
        assert whole.params() == observer(axis=axis).update(x[~np.isnan(x)]).params()


def test_missing_values_in_any_chunks() -> None:
    random = np.random.default_rng(4)
    with dask.config.set(scheduler="synchronous"):
        for _ in range(12):
            shape = tuple(random.integers(1, 14, random.integers(1, 4)))
            x = random.normal(size=shape).astype(np.float32)
            x[random.random(shape) < 0.3] = np.nan
            chunks = tuple(
                tuple(np.diff([0, *np.sort(random.integers(0, n + 1, 2)), n]).tolist())
                for n in shape
            )
            a = da.from_array(x, chunks=chunks)
            axis = int(random.integers(-x.ndim, x.ndim))
            block: dict[str, Any] = {"axis": axis, "block_size": int(random.integers(1, 16))}
            keywords: dict[str, Any]
            for keywords in ({}, {"axis": axis}, block):
                keywords |= {"skip_nan": True, "nan_code": 0}
                keywords["convention"] = ["numpy", *OFFSETS][random.integers(4)]
                try:
                    same_in_all_passes(a, x, **keywords)
                except ValueError:
                    with pytest.raises(ValueError, match="x has nothing but NaN") as expected:
                        zp.choose_params(x, **keywords)
                    with pytest.raises(ValueError, match="nothing but NaN") as found:
                        zd.choose_params(a, **keywords)
                    assert str(found.value) == str(expected.value).replace("x", "a", 1)
            for observer in OBSERVERS:
                mine, whole = (observer(axis=axis, skip_nan=True) for _ in range(2))
                assert zd.observe(a, mine) == whole.update(x)


def test_inf_is_refused_where_nan_is_not() -> None:
    x = with_nan((50, 33))
    x[41, 2], x[20, 31] = np.inf, -np.inf
    a = da.from_array(x, chunks=(25, 10))
    message = r"a has 2 Inf of 1650 elements, the first \(-inf\) at index \(20, 31\); .*for exam"
    for axis in (None, 1):
        with pytest.raises(ValueError, match=message) as caught:
            zd.choose_params(a, skip_nan=True, axis=axis)
        fixed = eval(str(caught.value).partition("for example ")[2], {"dask": dask, "a": a})
        assert axis is None or fixed.shape == a.shape
        zd.choose_params(fixed, skip_nan=True, axis=axis)
        with pytest.raises(ValueError, match=message):
            zd.observe(a, zp.MinMaxObserver(axis=axis, skip_nan=True))
    with pytest.raises(
        ValueError, match=r"\d+ NaN or Inf of .*; pass skip_nan=True to leave out NaN"
    ):
        zd.choose_params(a)
    with pytest.raises(ValueError, match="; observe with skip_nan=True to leave out NaN"):
        zd.observe(a, zp.MinMaxObserver())
    params = zp.OffsetParams(0.1, -5.0, nan_code=255)
    q = zd.quantize(a, params, check_finite=True)
    np.testing.assert_array_equal(q[:25, :30], zp.quantize(x[:25, :30], params))
    with pytest.raises(
        ValueError, match=r"a has 1 Inf of 250 elements in chunk \(1, 0\), the first"
    ):
        q[25:, :10].compute()
    with pytest.raises(ValueError, match=r"a has \d+ NaN or Inf of 250 elements in chunk"):
        zd.quantize(a, zp.OffsetParams(0.1, -5.0), check_finite=True)[:25, :10].compute()


def test_nothing_but_nan() -> None:
    x = with_nan((50, 33))
    x[:, 32] = np.nan
    a = da.from_array(x, chunks=(25, 10))
    with pytest.raises(ValueError, match="a has nothing but NaN in channel 32, so it has no data"):
        zd.choose_params(a, skip_nan=True, axis=1)
    with pytest.raises(ValueError, match="a has nothing but NaN, so it has no data; pass at least"):
        zd.choose_params(a[:, 32:], skip_nan=True)
    with pytest.raises(TypeError, match="skip_nan must be True or False"):
        zd.choose_params(a, skip_nan=1)  # type: ignore[arg-type]


def test_faiss_where_sizes_are_unknown() -> None:
    x = normal((20, 24))
    for count in (16, 11):
        mask = np.arange(24) < count
        a = da.from_array(x, chunks=(7, 9))[:, da.from_array(mask, chunks=9)]
        assert np.isnan(a.shape[1])
        params = zd.choose_params(a, convention="faiss", axis=1)
        assert params == zp.choose_params(x[:, mask], convention="faiss", axis=1)
        assert params.fused == (count == 16)
        for axis in (None, 0):
            with pytest.raises(ValueError, match="unknown sizes .* where values of faiss, which"):
                zd.choose_params(a, convention="faiss", axis=axis)
            assert zd.choose_params(a, convention="cf", axis=axis) == zp.choose_params(
                x[:, mask], convention="cf", axis=axis
            )
        a.compute_chunk_sizes()
        for axis in (None, 0):
            same_in_all_passes(a, x[:, mask], convention="faiss", axis=axis)


# ---------------------------------------------------------------------------------------------
# Chunks


def test_chunks_stay_where_they_can() -> None:
    a = da.zeros((40, 30), chunks=(16, 7), dtype=np.float32)
    rows = zp.QuantParams(np.ones(40, np.float32), 0, axis=0)
    assert zd.quantize(a, rows).chunks == a.chunks
    blocks = zp.QuantParams(np.ones((5, 30), np.float32), 0, axis=0, block_size=8)
    assert zd.quantize(a, blocks).chunks == a.chunks
    blocks = zp.QuantParams(np.ones((4, 30), np.float32), 0, axis=0, block_size=10)
    assert zd.quantize(a, blocks).chunks == ((20, 20), a.chunks[1])


def test_a_task_carries_the_parameters_of_its_chunk_alone() -> None:
    n = 1 << 16
    params = zp.QuantParams(np.ones(n, np.float32), 0, axis=0)
    a = da.zeros((n, 16), chunks=(n // 8, 1), dtype=np.float32)
    graph = dict(zd.quantize(a, params).__dask_graph__())
    assert len(graph) >= 8 * 16
    assert len(pickle.dumps(graph)) < 2 * n * 8  # scale and zero point, once


def test_unknown_sizes() -> None:
    x = normal((40, 6))
    mask = x[:, 0] > 0
    a = da.from_array(x, chunks=(11, 4))[da.from_array(mask, chunks=11)]
    assert np.isnan(a.shape[0])
    for axis in (None, 0, 1):
        params = zd.choose_params(a, axis=axis)
        assert params == zp.choose_params(x[mask], axis=axis)
        assert zd.observe(a, zp.MinMaxObserver(axis=axis)).params() == params
        if axis != 0:
            q = zd.quantize(a, params)
            assert np.isnan(q.shape[0])
            np.testing.assert_array_equal(q.compute(), zp.quantize(x[mask], params))
    params = zp.choose_params(x[mask], axis=0)
    with pytest.raises(ValueError, match="unknown sizes of chunks.*call its compute_chunk_sizes"):
        zd.quantize(a, params)
    with pytest.raises(ValueError, match="unknown sizes of chunks.*call its compute_chunk_sizes"):
        zd.choose_params(a, axis=1, block_size=2)
    a.compute_chunk_sizes()
    np.testing.assert_array_equal(zd.quantize(a, params), zp.quantize(x[mask], params))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_no_data(shape: tuple[int, ...]) -> None:
    a = da.zeros(shape, dtype=np.float32)
    for keywords in ({}, {"axis": 0}, {"axis": 0, "block_size": 2}):
        with pytest.raises(ValueError, match=r"a has no data \(shape .*\); pass at least one"):
            zd.choose_params(a, **keywords)
    for observer in OBSERVERS:
        assert zd.observe(a, observer(axis=0)) == observer(axis=0)
    q = zd.quantize(a, zp.QuantParams(1, 0)).compute()
    assert (q.dtype, q.shape) == (np.uint8, shape)


def test_no_dimensions() -> None:
    a = da.from_array(np.float32(2.5).reshape(()))
    params = zd.choose_params(a)
    assert params == zp.choose_params(np.float32(2.5))
    assert zd.quantize(a, params).compute() == 255
    with pytest.raises(ValueError, match=r"1 NaN or Inf of 1 elements, .* at index \(\)"):
        zd.choose_params(a * np.inf)


# ---------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(
    "look",
    [
        zd.choose_params,
        lambda a: zd.choose_params(a, axis=0),
        lambda a: zd.choose_params(a, axis=1, block_size=7),
        lambda a: zd.observe(a, zp.HistogramObserver(axis=1)),
    ],
    ids=["tensor", "axis", "block", "observer"],
)
def test_nan_and_inf_are_counted_over_the_whole_array(look: Callable[[Any], Any]) -> None:
    x = normal((50, 33))
    x[41, 2] = np.nan
    x[20, 31] = -np.inf  # the first in C order, though not in the order of the chunks
    x[21, 0] = np.inf
    message = (
        r"a has 3 NaN or Inf of 1650 elements, the first \(-inf\) at index \(20, 31\); .*for exam"
    )
    a = da.from_array(x, chunks=(25, 10))
    with pytest.raises(ValueError, match=message) as caught:
        look(a)
    code = str(caught.value).partition("for example ")[2]
    fixed = eval(code, {"dask": dask, "a": a})
    look(fixed)
    assert zd.choose_params(fixed) == zp.choose_params(x[np.isfinite(x)])


def test_check_finite_looks_at_each_chunk_once_it_is_computed() -> None:
    x = normal((50, 33))
    x[41, 2], x[43, 0], x[3, 30] = np.nan, np.inf, -np.inf
    a = da.from_array(x, chunks=(20, 10))
    for params in (zp.QuantParams(0.1, 128), zp.choose_params(normal((50, 33)), axis=1)):
        q = zd.quantize(a, params, check_finite=True)  # lazy
        assert (q.dtype, q.chunks) == (np.uint8, a.chunks)
        np.testing.assert_array_equal(q[:20, :20], zd.quantize(a, params)[:20, :20])
        with pytest.raises(
            ValueError,
            match=r"a has 2 NaN or Inf of 100 elements in chunk \(2, 0\), the first \(nan\) at "
            r"index \(41, 2\); put .* dask\.array\.where\(",
        ):
            q[40:, :10].compute()
        with pytest.raises(ValueError, match=r"the first \(-inf\) at index \(3, 30\); "):
            q[:20].compute()
        assert zd.quantize(a, params, check_finite=False)[41, 2].compute() == params.qmin
    half = da.from_array(normal((50, 33)).astype(np.float16), chunks=20)
    params = zp.QuantParams(0.1, 128)
    np.testing.assert_array_equal(
        zd.quantize(half, params, check_finite=True), zd.quantize(half, params)
    )
    with pytest.raises(TypeError, match="check_finite must be True or False"):
        zd.quantize(a, params, check_finite=1)


def test_nan_where_sizes_are_unknown() -> None:
    x = normal((40,))
    x[30] = np.nan
    a = da.from_array(x, chunks=10)
    with pytest.raises(ValueError, match=r"a has 1 NaN or Inf, .* at index \(.*\) of chunk \(3,\)"):
        zd.choose_params(a[da.isnan(a) | (a > 0)])
    q = zd.quantize(a[da.isnan(a) | (a > 0)], zp.QuantParams(0.1, 128), check_finite=True)
    with pytest.raises(ValueError, match=r"of \d+ elements in chunk \(3,\), .* of chunk \(3,\); "):
        q.compute()


def test_an_observer_is_left_alone_by_bad_data() -> None:
    x = normal((40,))
    observer = zp.HistogramObserver().update(x)
    before = zp.HistogramObserver().update(x)
    x[30] = np.inf
    with pytest.raises(ValueError, match="1 NaN or Inf"):
        zd.observe(da.from_array(x, chunks=10), observer)
    assert observer == before
    seen = zp.HistogramObserver(axis=0).update(x[:3])
    unknown = da.from_array(x[:30], chunks=10)[da.zeros(30, chunks=10) == 0]
    with pytest.raises(ValueError, match="30 channels"):
        zd.observe(unknown, seen)
    assert seen == zp.HistogramObserver(axis=0).update(x[:3])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64", "O"])
def test_other_dtypes(dtype: str) -> None:
    a = da.from_array(np.zeros(4, dtype), chunks=4)
    for call in (zd.choose_params, lambda a: zd.quantize(a, zp.QuantParams(1, 0))):
        with pytest.raises(TypeError, match="a has dtype"):
            call(a)
    with pytest.raises(TypeError, match="a has dtype"):
        zd.observe(a, zp.MinMaxObserver())


def test_masked_arrays() -> None:
    a = da.ma.masked_array(da.zeros(4, dtype="f4"), mask=[0, 1, 0, 0])
    with pytest.raises(TypeError, match="a is a masked array; fill it first"):
        zd.choose_params(a)
    with pytest.raises(TypeError, match="x is a masked array; fill it first"):
        zp.quantize(a, zp.QuantParams(1, 0))  # which computes it
    with pytest.raises(TypeError, match="q is a masked array; fill it first"):
        zd.dequantize(a.astype("u1"), zp.QuantParams(1, 0))


@pytest.mark.parametrize("wrong", [np.zeros(4, np.float32), [1.0], None])
def test_what_is_no_dask_array(wrong: Any) -> None:
    message = "is not a Dask array but .*for arrays in memory there is zeropoint itself"
    params = zp.QuantParams(1, 0)
    for call in (
        zd.choose_params,
        lambda a: zd.quantize(a, params),
        lambda a: zd.fake_quantize(a, params),
        lambda a: zd.dequantize(a, params),
        lambda a: zd.observe(a, zp.MinMaxObserver()),
    ):
        with pytest.raises(TypeError, match=message):
            call(wrong)


def test_bad_arguments_are_reported_at_once() -> None:
    def never(x: Array) -> Array:
        raise AssertionError("computed")

    a = da.zeros((8, 6), chunks=4, dtype="f4").map_blocks(
        never, dtype="f4", meta=np.zeros((0, 0), "f4")
    )
    for error, match, keywords in (
        (TypeError, "no keyword 'scale'", {"scale": 1}),
        (ValueError, "zero_point_from", {"zero_point_from": "mean"}),
        (np.exceptions.AxisError, "axis 2 is out of bounds", {"axis": 2}),
        (TypeError, "axis must be an integer", {"axis": 0.5}),
        (ValueError, "block_size 2 needs an axis", {"block_size": 2}),
        (ValueError, "block_size 0 must be at least 1", {"axis": 0, "block_size": 0}),
    ):
        with pytest.raises(error, match=match):
            zd.choose_params(a, **keywords)
    with pytest.raises(TypeError, match="observer must be a MinMaxObserver or a HistogramObserver"):
        zd.observe(a, zp.MinMaxObserver)  # type: ignore[type-var]
    with pytest.raises(np.exceptions.AxisError):
        zd.observe(a, zp.MinMaxObserver(axis=2))
    with pytest.raises(ValueError, match="a has 8 channels along axis 0, the observer has seen 3"):
        zd.observe(a, zp.MinMaxObserver(axis=0).update(normal((3, 6))))
    with pytest.raises(TypeError, match="params must be a QuantParams"):
        zd.quantize(a, 0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"zd\.quantize\(a, zp\.QuantParams\(0\.1, 0\)\)"):
        zd.quantize(a, 0.1, 0)  # type: ignore[arg-type]
    for function, advice in (
        (zd.quantize, r"zd\.quantize\(a, params, check_finite=True\)"),
        (zd.dequantize, r"zd\.dequantize\(q, params, dtype=dtype\)"),
        (zd.fake_quantize, r"zd\.fake_quantize\(a, params\)"),
    ):
        with pytest.raises(TypeError, match=f"1 came by position; pass for example {advice}"):
            function(a, zp.QuantParams(1, 0), None)
    with pytest.raises(TypeError, match="block_size must be an integer, not an array"):
        zd.choose_params(a, axis=0, block_size=np.array([1, 2]))  # type: ignore[arg-type]
    rows = zp.QuantParams(np.ones(6, np.float32), 0, axis=0)
    blocks = zp.QuantParams(np.ones((3, 6), np.float32), 0, axis=0, block_size=4)
    for params, match in ((rows, r"scale has shape \(6,\)"), (blocks, r"scale has shape \(3, 6\)")):
        with pytest.raises(ValueError, match=match):
            zd.quantize(a, params)
    with pytest.raises(ValueError, match="scale, cast to float32"):
        zd.quantize(a, zp.QuantParams(np.float64(1e-60), 0))
    with pytest.raises(TypeError, match="q has dtype float32 where uint8 is needed"):
        zd.dequantize(a, zp.QuantParams(1, 0))
    codes = da.zeros((8, 6), dtype="u1")
    with pytest.raises(TypeError, match="dtype 'int32' is not supported"):
        zd.dequantize(codes, zp.QuantParams(1, 0), dtype="int32")


@pytest.mark.parametrize("module", [zd, zz])
def test_the_examples_of_the_modules(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 3
    assert not found.failed


# ---------------------------------------------------------------------------------------------
# Together with Zarr


@pytest.mark.usefixtures("scheduler")
def test_from_zarr_to_zarr(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    x = normal((60, 8))
    zarr.create_array(tmp_path / "x.zarr", data=x, chunks=(10, 8))
    a = da.from_zarr(tmp_path / "x.zarr")
    params = zd.choose_params(a, axis=1)
    target = zarr.create_array(
        tmp_path / "q.zarr",
        shape=a.shape,
        chunks=(10, 8),
        dtype=a.dtype,
        filters=[zz.AffineCodec(params)],
    )
    a.store(target, lock=False)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "q.zarr")[:], params.fake_quantize(x))
    np.testing.assert_array_equal(da.from_zarr(tmp_path / "q.zarr"), params.fake_quantize(x))
