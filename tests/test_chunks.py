"""Large arrays chunk by chunk: the chunks, and what is done in them."""

from __future__ import annotations

import itertools
import math
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _compare
from zeropoint._chunks import chunks, contiguous
from zeropoint._layout import Layout

Array = np.ndarray[Any, Any]
SHAPES = [
    (),
    (1,),
    (7,),
    (0,),
    (3, 0),
    (0, 3),
    (5, 4),
    (2, 3, 4),
    (1, 1, 9),
    (9, 1, 1),
    (2, 1, 5, 3),
]
LONG = (3, 700_001)  # cut along its second axis
WIDE = 1 << 21
RNG = np.random.default_rng(31)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 12, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_element_is_in_one_piece(shape: tuple[int, ...], size: int) -> None:
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    found = [x[chunk] for chunk in chunks(shape, size)]
    assert all(0 < part.size <= size for part in found)
    assert [*itertools.chain.from_iterable(part.ravel() for part in found)] == [
        *x.ravel()
    ]  # C order


def misaligned(x: Array) -> Array:
    return np.frombuffer(b"\0" + x.tobytes(), "u1")[1:].view(x.dtype).reshape(x.shape)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[:, ::-1],
    "strided": lambda x: x[:, ::2],
    "swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "misaligned": misaligned,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_contiguous(layout: str) -> None:
    x = RNG.standard_normal(LONG).astype(np.float32)
    view = LAYOUTS[layout](x)
    found = contiguous(view)
    assert found is not view
    assert contiguous(found) is found
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    assert found.flags.aligned
    np.testing.assert_array_equal(found, view)


@pytest.mark.slow("large arrays")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_arrays_of_any_layout(backend: str, layout: str) -> None:
    x = RNG.standard_normal(LONG).astype(np.float32)
    params = zp.QuantParams(0.02, 100)
    expected = LAYOUTS[layout](params.quantize(x)) if layout != "swapped" else params.quantize(x)
    q = params.quantize(LAYOUTS[layout](x))
    np.testing.assert_array_equal(q, expected)
    out = np.zeros((*q.shape, 2), np.uint8)[..., 0]
    params.quantize(LAYOUTS[layout](x), out=out)
    np.testing.assert_array_equal(out, q)
    codes, moved = zp.flip_signedness(out, params)
    np.testing.assert_array_equal(codes.astype(int), q.astype(int) - 128)
    assert codes.flags.c_contiguous
    assert moved.zero_point == -28


@pytest.mark.parametrize("where", [(0, 0), (0, 600_000), (1, 5), (2, 700_000)])
def test_nan_and_inf_beyond_the_first_piece(backend: str, where: tuple[int, int]) -> None:
    x = np.zeros(LONG, np.float32)
    x[2, 690_000:690_005] = np.inf
    x[where] = np.nan
    told = r"has 6 NaN or Inf of 2100003 elements, the first \((nan|inf)\) at index "
    told += re.escape(str(min(where, (2, 690_000))))
    with pytest.raises(ValueError, match=told):
        zp.quantize(x, zp.QuantParams(1, 0), check_finite=True)
    with pytest.raises(ValueError, match=told):
        zp.min_max(x)
    with pytest.raises(ValueError, match=told):
        zp.error_stats(x, zp.QuantParams(1, 0))


@pytest.mark.slow("arrays of 64 MiB")
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("kind", [zp.MinMaxObserver, zp.HistogramObserver])
@pytest.mark.parametrize("layout", ["transposed", "strided"])
def test_observers_take_views_in_pieces(kind: Any, layout: str, axis: int | None) -> None:
    """A view of more than memory must not be copied."""
    x = RNG.standard_normal((4, 1 << 22)).astype(np.float32)  # 64 MiB
    view = LAYOUTS[layout](x)
    if axis is not None:
        axis = int(np.argmin(view.shape)) if axis == 0 else int(np.argmin(view.shape)) - view.ndim
    whole = kind(axis=axis).update(np.ascontiguousarray(view))
    tracemalloc.start()
    try:
        found = kind(axis=axis).update(view)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == whole
    assert peak < 40 << 20
    view[-1, -1] = np.nan
    before = found.to_dict()
    told = rf"has 1 NaN or Inf of {view.size} elements, the first \(nan\) at index"
    with pytest.raises(ValueError, match=told):
        found.update(view)
    assert found.to_dict() == before


def test_error_stats_counts_codes_in_every_piece() -> None:
    x = np.zeros(WIDE, np.float32)
    x[::100_000] = np.arange(len(x[::100_000]))
    stats = zp.error_stats(x, zp.QuantParams(1, 0))
    assert stats.codes_used == len(x[::100_000])
    assert stats.mse == 0


ALONG: list[dict[str, int]] = [{}, {"axis": 0}, {"axis": 1}, {"axis": 1, "block_size": 100}]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_error_stats_of_a_view_copies_nothing(layout: str) -> None:
    x = RNG.standard_normal((1 << 10, 1 << 11)).astype(np.float32)  # 8 MiB
    view, params = LAYOUTS[layout](x), zp.QuantParams(0.02, 100)
    along = params._check_fits(view.shape)
    expected = zp.error_stats(contiguous(view), params)
    tracemalloc.start()
    try:  # the public function has put the bytes in order
        found = _compare._measured(view, params, along, lambda: zp.min_max(view), view.size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == expected == zp.error_stats(view, params)
    assert peak < 2 << 20


@pytest.mark.parametrize("along", ALONG, ids=str)
@pytest.mark.parametrize("length", [255, 256, 257, 1024, 3001, 16_384, 16_385])
def test_error_stats_of_transposed_rows(length: int, along: dict[str, int]) -> None:
    """Rows that are read in parts, of which a slice of 64 Ki elements has some and ends in one."""
    x = RNG.standard_normal((length, 200_000 // length)).astype(np.float32).T
    params = zp.choose_params(x, **along)
    assert zp.error_stats(x, params) == zp.error_stats(contiguous(x), params)


@pytest.mark.parametrize("along", ALONG, ids=str)
@pytest.mark.parametrize("kind", ["reference", "verify"])
def test_the_reference_measures_errors_in_little_memory(kind: str, along: dict[str, int]) -> None:
    x = RNG.standard_normal((1 << 10, 1 << 11)).astype(np.float32)  # 8 MiB
    params = zp.choose_params(x, **along)
    with zp.use_backend("reference") if kind == "reference" else zp.verify():
        tracemalloc.start()
        try:
            zp.error_stats(x, params)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 6 << 20


@pytest.mark.parametrize("along", ALONG, ids=str)
def test_the_tiles_of_the_reference_have_the_bits_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, along: dict[str, int]
) -> None:
    x = RNG.standard_normal((37, 333)).astype(np.float32)
    x[::3, ::5] = 0
    params = zp.choose_params(x, **along, qmax=200)
    with zp.use_backend("reference"):
        monkeypatch.setattr(_compare, "_TILE", x.size)
        monkeypatch.setattr(_compare, "_TOGETHER", x.size)
        whole = [zp.error_stats(v, params) for v in (x, x.astype("f8"))]
        for size, together in ((50, 1), (1024, 36), (3 * 333, 333), (5000, 7)):
            monkeypatch.setattr(_compare, "_TILE", size)
            monkeypatch.setattr(_compare, "_TOGETHER", together)
            assert [zp.error_stats(v, params) for v in (x, x.astype("f8"))] == whole
            swapped = x.astype(x.dtype.newbyteorder("S"))
            assert zp.error_stats(swapped, params) == whole[0]


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 7, 3)])
def test_the_parameters_of_a_tile(shape: tuple[int, ...]) -> None:
    """Chunks of any size, which cut through blocks, against the parameters spread over all."""
    x = np.zeros(shape)
    for axis in (None, *range(len(shape))):
        for block in (None, 1, 2, 3, 9) if axis is not None else (None,):
            layout = Layout(shape, axis, block)
            parameter = np.arange(math.prod(layout.params_shape)).reshape(layout.params_shape)
            whole = np.broadcast_to(layout.spread(parameter), shape)
            by_flat = layout.flat.spread(parameter.reshape(layout.flat.params_shape))
            assert (np.broadcast_to(by_flat, layout.flat.shape).ravel() == whole.ravel()).all()
            for size in range(1, x.size + 1):
                for chunk in chunks(shape, size):
                    spread = layout.spread_over(parameter, chunk)
                    assert (np.broadcast_to(spread, x[chunk].shape) == whole[chunk]).all()
                    needed = parameter[layout.params_index(chunk)]
                    assert set(needed.ravel()) == set(whole[chunk].ravel())
