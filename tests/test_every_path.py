"""One set of data, cut and shuffled at random, gives the same bits on every path.

Paths: the whole array in one call, a stream of chunks, observers merged in any nesting, threads of
the caller's own, the library's threads, Dask, and files.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zeropoint as zp
from zeropoint import files

Array = np.ndarray[Any, np.dtype[Any]]
METHODS = "minmax", "percentile", "mse", "entropy"

pytestmark = pytest.mark.slow("random data through every path")


@st.composite
def cut_data(draw: st.DrawFn) -> tuple[Array, list[Array], int | None]:
    """An array of rows, its rows in chunks and in another order, and an axis or None."""
    rows, cols = draw(st.integers(1, 300)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    spread = np.exp2(draw(st.integers(-10, 10)))
    x = (rng.standard_t(3, (rows, cols)) * spread).clip(-6e4, 6e4).astype(dtype)
    if draw(st.booleans()):
        x = np.abs(x)
    cuts = sorted(draw(st.lists(st.integers(0, rows), max_size=6)))
    chunks = np.split(rng.permutation(x, axis=0), cuts)
    return x, chunks, draw(st.sampled_from([None, 1]))


def merged(observers: list[Any], rng: np.random.Generator) -> Any:
    """All of them in one, two at a time in any order."""
    while len(observers) > 1:
        a, b = (observers.pop(int(rng.integers(len(observers)))) for _ in range(2))
        observers.append(a.merge(b))
    return observers[0]


@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=cut_data(), seed=st.integers(0, 99))
@pytest.mark.parametrize("kind", [zp.MinMaxObserver, zp.HistogramObserver])
def test_observers(kind: Any, data: Any, seed: int) -> None:
    dask_array = pytest.importorskip("dask.array")
    import zeropoint.dask as zd

    x, chunks, axis = data
    rng = np.random.default_rng(seed)
    whole = kind(axis=axis).update(x)
    states = {"whole": whole}
    stream = kind(axis=axis)
    for chunk in chunks:
        stream.update(chunk)
    states["stream"] = stream
    states["merged"] = merged([kind(axis=axis).update(p) for p in chunks], rng)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda p: kind(axis=axis).update(p), chunks))
    states["threads"] = merged(parts, rng)
    chunks = tuple(int(rng.integers(1, n + 1)) for n in x.shape)
    lazy = dask_array.from_array(x, chunks=chunks)
    states["dask"] = zd.observe(lazy, kind(axis=axis))
    with zp.use_backend("reference"):
        states["reference"] = kind(axis=axis).update(x)
    for name, state in states.items():
        assert state == whole, name
        assert state.to_dict() == whole.to_dict(), name

    direct = zp.choose_params(x, "int8", axis=axis)
    methods = METHODS if kind is zp.HistogramObserver else ("minmax",)
    for method in methods:
        keywords = {"method": method} if kind is zp.HistogramObserver else {}
        params = whole.params("int8", **keywords)
        if method == "minmax":
            assert params == direct
        for name, state in states.items():
            assert state.params("int8", **keywords) == params, (name, method)


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=cut_data(), block=st.sampled_from([None, 2, 5]))
def test_parameters_and_codes(data: Any, block: int | None, tmp_path: Path) -> None:
    dask_array = pytest.importorskip("dask.array")
    import zeropoint.dask as zd

    x, _, axis = data
    keywords = {"axis": axis, "block_size": block if axis is not None else None}
    params = zp.choose_params(x, "int8", **keywords)
    q = zp.quantize(x, params)

    lazy = dask_array.from_array(x, chunks=(max(1, x.shape[0] // 3), max(1, x.shape[1] // 2)))
    assert zd.choose_params(lazy, "int8", **keywords) == params
    np.testing.assert_array_equal(zd.quantize(lazy, params).compute(scheduler="threads"), q)

    stored = q.nbytes + np.asarray(params.scale).nbytes + np.asarray(params.zero_point).size * 4
    if axis is not None and stored >= x.nbytes:
        return  # files keep what would not get smaller
    np.save(tmp_path / "x.npy", x)
    files.quantize_file(tmp_path / "x.npy", tmp_path / "q.safetensors", dtype="int8", **keywords)
    assert files.read_params(tmp_path / "q.safetensors", "x") == params
    np.testing.assert_array_equal(files.read_tensor(tmp_path / "q.safetensors", "x"), q)


def test_threads_of_the_library() -> None:
    x = np.random.default_rng(0).standard_t(3, (3000, 700)).astype(np.float32)
    before = zp.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 7):
            zp.set_num_threads(threads)
            states = [
                kind(axis=axis).update(x)
                for kind in (zp.MinMaxObserver, zp.HistogramObserver)
                for axis in (None, 0, 1)
            ]
            found.append([state.to_dict() for state in states])
    finally:
        zp.set_num_threads(before)
    assert found[0] == found[1] == found[2]
