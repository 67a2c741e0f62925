"""Any strides, alignment and byte order give what a contiguous native copy gives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeropoint as zp

P = zp.QuantParams(0.03, 100)
BASE = (np.random.default_rng(7).normal(size=(12, 10, 8)) * 3).astype(np.float32)


def misaligned(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raw = np.empty(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    view = x.view()
    view.flags.writeable = False
    return view


VIEWS = {
    "strided": BASE[::2, 1::3, ::5],
    "negative": BASE[::-1, :, ::-2],
    "broadcast": np.broadcast_to(BASE[:1], BASE.shape),
    "fortran": np.asfortranarray(BASE),
    "transposed": BASE.transpose(2, 0, 1),
    "misaligned": misaligned(BASE),
    "misaligned number": misaligned(BASE[0, 0, 0]),
    "windows": np.lib.stride_tricks.sliding_window_view(BASE, 3, axis=1)[..., 0, :],
    "big-endian": BASE.astype(">f4"),
    "big-endian strided": BASE.astype(">f4")[::3],
    "read-only": read_only(BASE),
    "subclass": BASE.view(np.recarray),
    "empty strided": BASE[:0, ::2],
}


@pytest.mark.parametrize("kind", VIEWS)
def test_views(backend: str, kind: str) -> None:
    x = VIEWS[kind]
    plain = np.ascontiguousarray(np.asarray(x), np.float32)
    q = P.quantize(x)
    assert type(q) is np.ndarray
    assert q.flags.c_contiguous
    assert q.tobytes() == P.quantize(plain).tobytes()
    assert zp.round(x).tobytes() == zp.round(plain).tobytes()
    assert zp.saturate(x, -1, 1).tobytes() == zp.saturate(plain, -1, 1).tobytes()
    assert P.fake_quantize(x).tobytes() == P.fake_quantize(plain).tobytes()
    if x.ndim == 0:
        return
    if x.size:
        assert zp.choose_params(x) == zp.choose_params(plain)
        assert zp.min_max(x) == zp.min_max(plain)
        assert zp.choose_params(x, axis=1) == zp.choose_params(plain, axis=1)
        blocks = zp.choose_params(plain, axis=0, block_size=5)
        assert zp.choose_params(x, axis=0, block_size=5) == blocks
        assert blocks.quantize(x).tobytes() == blocks.quantize(plain).tobytes()
    codes = q[..., ::-1]
    assert P.dequantize(codes).tobytes() == P.dequantize(codes.copy()).tobytes()


@pytest.mark.parametrize("step", [2, -1, -3])
def test_strided_out(backend: str, step: int) -> None:
    x = BASE[0]
    room = np.full((10, 8 * 3), 7, np.uint8)
    out = room[:, ::step][:, :8]
    assert P.quantize(x, out=out) is out
    assert out.tolist() == P.quantize(x).tolist()
    untouched = room.copy()
    untouched[:, ::step][:, :8] = 7
    assert (untouched == 7).all()
    values = np.zeros((8, 10), np.float32).T
    assert P.dequantize(out, out=values) is values
    assert values.tolist() == P.dequantize(out.copy()).tolist()


def test_overlap(backend: str) -> None:
    for shift in (-3, -1, 0, 1, 3):
        room = np.random.default_rng(1).normal(size=400).astype(np.float32)
        expected = P.fake_quantize(room[10:300].copy())
        out = room[10 + shift : 300 + shift]
        assert P.fake_quantize(room[10:300], out=out) is out
        assert out.tobytes() == expected.tobytes()
    x = np.random.default_rng(1).normal(size=400).astype(np.float32)
    expected8 = P.quantize(x.copy())
    for start in (0, 100, 1200):
        room = x.copy()
        out8 = room.view(np.uint8)[start : start + 400]
        assert P.quantize(room, out=out8).tobytes() == expected8.tobytes()
    room = np.zeros(400, np.float32)
    q = room.view(np.uint8)[800:1200]
    q[:] = expected8
    assert P.dequantize(q, out=room).tobytes() == P.dequantize(expected8).tobytes()
    for function in (zp.round, lambda x, out: zp.saturate(x, -1, 1, out=out)):
        room = x.copy() * 3
        want = function(room.copy(), out=np.empty_like(room))
        assert function(room, out=room) is room
        assert room.tobytes() == want.tobytes()
        room = x.copy() * 3
        reversed_ = room[::-1]
        want = function(room.copy(), out=np.empty_like(room))
        assert function(room, out=reversed_) is reversed_
        assert reversed_.tobytes() == want.tobytes()


slices = st.builds(
    slice, st.integers(-12, 12), st.integers(-12, 12), st.integers(-3, 3).filter(bool)
)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.tuples(slices, slices, slices), st.permutations(range(3)), st.booleans(), st.booleans())
def test_random_views(cut: Any, order: Any, swapped: bool, odd: bool) -> None:
    base = BASE.astype(">f4") if swapped else BASE
    x = (misaligned(base) if odd else base)[cut].transpose(order)
    plain = np.array(x, np.float32, order="C")
    for name in zp.backends():
        with zp.use_backend(name):
            out = np.zeros(tuple(2 * n for n in x.shape), np.uint8)[::2, ::-2, ::2]
            assert P.quantize(x, out=out).tobytes() == P.quantize(plain).tobytes()


def test_lists_and_buffers(backend: str) -> None:
    import array

    assert P.quantize([0.0, 0.3]).tolist() == [100, 110]
    assert P.quantize(0.3).shape == ()
    assert P.quantize(array.array("f", [0.3])).tolist() == [110]
    assert P.quantize(memoryview(np.float32([0.3]))).tolist() == [110]
    assert zp.choose_params([0.0, 1.0]).scale.dtype == np.float64


@pytest.mark.parametrize("real", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(300, 700), (2, 70, 40, 30), (3, 5000), (5000, 3), (9, 3000), (40, 9, 130)]
)
def test_axes_in_another_order(backend: str, shape: tuple[int, ...], real: type) -> None:
    """Many tiles, the last of them cut short; a parameter for all, for each channel, for blocks."""
    whole = np.random.default_rng(5).normal(size=shape).astype(real)
    x = whole.transpose(*range(1, len(shape)), 0)
    plain = np.ascontiguousarray(x)
    kinds = [P, *(zp.choose_params(plain, axis=axis) for axis in range(x.ndim))]
    kinds.append(zp.choose_params(plain, axis=0, block_size=5))
    for params in kinds:
        codes = params.quantize(plain)
        assert params.quantize(x).tobytes() == codes.tobytes()
        same = np.empty_like(x, np.uint8)
        assert params.quantize(x, out=same).tobytes() == codes.tobytes()
        values = params.dequantize(codes, dtype=real)
        assert params.dequantize(same, dtype=real).tobytes() == values.tobytes()
        assert params.fake_quantize(x).tobytes() == params.fake_quantize(plain).tobytes()


@pytest.mark.parametrize("channels", range(2, 16))
def test_few_channels_in_another_order(backend: str, channels: int) -> None:
    """Tiles of as many rows as there is room for, in numbers that are mostly not round."""
    rng = np.random.default_rng(channels)
    for rows in (k * (16384 // channels) for k in (1, 2, 3)):
        for real in (np.float16, np.float32):
            x = (rng.normal(size=(channels, rows)) * 3).astype(real).T
            plain = np.ascontiguousarray(x)
            codes = P.quantize(plain)
            assert P.quantize(x, out=np.empty_like(codes)).tobytes() == codes.tobytes()
            faked = P.fake_quantize(plain)
            assert P.fake_quantize(x, out=np.empty_like(plain)).tobytes() == faked.tobytes()
            same = np.empty_like(x, np.uint8)  # in the order of x
            same[...] = codes
            values = P.dequantize(codes, dtype=real)
            assert P.dequantize(same, out=np.empty_like(plain)).tobytes() == values.tobytes()


def seconds_of_views() -> None:
    """Prints how long calls take whose results are moved to where they belong afterwards."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 512, 512)).astype(np.float32)
    codes, every_other = P.quantize(x.ravel()), np.empty(2 * x.size, np.float32)[::2]
    out = np.empty((512, 512, 3), np.uint8)
    calls: tuple[Callable[[], object], ...] = (
        lambda: P.quantize(x.transpose(1, 2, 0), out=out),
        lambda: P.dequantize(codes, out=every_other),
    )
    for call in calls:
        found = []
        for _ in range(40):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
        print(min(found))


@pytest.mark.slow("takes the times of two processes")
@pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent")
def test_what_is_read_again_at_once_stays_in_the_caches() -> None:
    """However large the results are: here all of them count as large, or none.

    It takes three to eight times as long where it does not; the machine may be busy once or twice.
    """
    found: list[list[float]] = []
    while len(found) < 6 and not (found and are_alike(*found[-2:])):
        found += [seconds_with(stream_from) for stream_from in ("0", str(2**40))]
    assert are_alike(*found[-2:]), found


def are_alike(large: list[float], small: list[float]) -> bool:
    return all(a < 2 * b for a, b in zip(large, small, strict=True))


def seconds_with(stream_from: str) -> list[float]:
    code = f"from {__name__} import seconds_of_views as f; f()"
    how = {"ZEROPOINT_STREAM_FROM": stream_from, "ZEROPOINT_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **how},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(seconds) for seconds in done.stdout.split()]
