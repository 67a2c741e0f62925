"""Arrays of 2^31 + 67 elements and a few more, through every operation of every ISA.

The memory is a few windows mapped many times over.  Those around the places where a count of
elements or bytes could overflow have memory of their own, and so has the last; they are compared
with the reference.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _reference

from ..memory import WINDOW, repeated

Array = np.ndarray[Any, Any]

NATIVE = [name for name in zp.backends() if name != "reference"]
N = 2**31 + 67
#: windows at 0, and on both sides of 2^31 and 2^32 bytes of 1, 2, 4 and 8 byte elements
OWN = [0, *(2**k // WINDOW + d for k in (28, 29, 30, 31) for d in (-1, 0))][:-1]

P = zp.QuantParams(0.1, 100)
REALS = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
U8 = np.dtype(np.uint8)


class Layout(NamedTuple):
    """How N elements, or a few more, lie along an axis, and which parameter each has."""

    shape: tuple[int, ...]
    axis: int
    block: int | None
    number: Callable[[Array], Array]  #: of the parameter of the i-th element


ROW = 2**30 + 34
LAYOUTS = {
    "rows": Layout((2, ROW), 0, None, lambda i: i // ROW),
    "columns": Layout((ROW // 2, 4), 1, None, lambda i: i % 4),
    "planes": Layout((ROW // 2, 2, 2), 1, None, lambda i: i // 2 % 2),
    "blocks": Layout((2, ROW), 1, 999, lambda i: i // ROW * -(-ROW // 999) + i % ROW // 999),
}


class Case(NamedTuple):
    source: np.dtype[Any]
    target: np.dtype[Any]
    call: Callable[[Array, Array], object]
    shape: tuple[int, ...] = (N,)
    #: of elements and their numbers, where a part of the array does not know its parameters
    expected: Callable[[Array, Array], Array] | None = None


def cases() -> Iterator[tuple[str, Case]]:
    for real in REALS:
        yield f"quantize {real}", Case(real, U8, lambda x, out: P.quantize(x, out=out))
        yield f"dequantize {real}", Case(U8, real, lambda q, out: P.dequantize(q, out=out))
        yield f"fake_quantize {real}", Case(real, real, lambda x, out: P.fake_quantize(x, out=out))
        yield f"round {real}", Case(real, real, lambda x, out: zp.round(x, ties="away", out=out))
        yield f"saturate {real}", Case(real, real, lambda x, out: zp.saturate(x, -1, 1, out=out))
        yield (
            f"saturate_cast {real}",
            Case(real, U8, lambda x, out: zp.saturate_cast(x, "uint8", out=out)),
        )
    for convention in zp.CONVENTIONS:
        p = zp.QuantParams(0.07, 3, "int8", convention=convention)
        yield (
            f"quantize int8 {convention}",
            Case(REALS[2], p.dtype, lambda x, out, p=p: p.quantize(x, out=out)),  # type: ignore[misc]
        )
    int32 = np.dtype(np.int32)
    yield "requantize", Case(int32, U8, lambda x, out: zp.requantize(x, 1e-8, P, out=out))
    yield "saturate int32", Case(int32, int32, lambda x, out: zp.saturate(x, -9, 9, out=out))
    yield (
        "saturate_cast int32",
        Case(int32, np.dtype("i1"), lambda x, out: zp.saturate_cast(x, "int8", out=out)),
    )
    for name, layout in LAYOUTS.items():
        for operation in ("quantize", "dequantize", "fake_quantize", "requantize"):
            if layout.block is None or operation != "requantize":
                yield f"{operation} {name}", along(layout, operation)
        for real in (REALS[0], REALS[1], REALS[3]):
            yield f"quantize {real} {name}", along(layout, "quantize", real)


def along(layout: Layout, operation: str, real: np.dtype[Any] = REALS[2]) -> Case:
    size = math.prod(layout.shape)
    form: tuple[int, ...] = (layout.shape[layout.axis],)
    if layout.block:
        form = tuple(
            -(-n // layout.block) if i == layout.axis else n for i, n in enumerate(layout.shape)
        )
    rng = np.random.default_rng(2)
    scale = rng.uniform(0.01, 0.3, form).astype(np.float32)
    zero = rng.integers(0, 256, form).astype(np.int32)
    p = zp.QuantParams(scale, zero, axis=layout.axis, block_size=layout.block)

    def expected(x: Array, i: Array) -> Array:
        k = layout.number(i)
        s, z = scale.ravel()[k], zero.ravel()[k]
        if operation == "requantize":
            m = (1e-8 / s.astype(np.float64)).astype(np.float32)
            return _reference.requantize(x, m, z, qmin=0, qmax=255, dtype=U8)
        if operation != "dequantize":
            how = {"qmin": 0, "qmax": 255, "convention": "numpy", "dtype": U8}
            x = _reference.quantize(x, s, z, **how)
        return x if operation == "quantize" else _reference.dequantize(x, s, z, dtype=REALS[2])

    def call(x: Array, out: Array) -> object:
        x, out = x.reshape(layout.shape), out.reshape(layout.shape)
        if operation == "requantize":
            return zp.requantize(x, 1e-8, p, out=out)
        return getattr(p, operation)(x, out=out)

    source = {"dequantize": U8, "requantize": np.dtype(np.int32)}.get(operation, real)
    target = U8 if operation in ("quantize", "requantize") else REALS[2]
    return Case(source, target, call, (size,), expected)


CASES = dict(cases())


@contextmanager
def source_of(n: int, dtype: np.dtype[Any]) -> Iterator[Array]:
    """n elements; every whole window is the same numbers."""
    rng = np.random.default_rng(3)
    with repeated(n, dtype) as x:
        for part in (x[:WINDOW], x[n - n % WINDOW :]):
            if dtype.kind in "iu":
                part.view(np.uint8)[:] = rng.integers(0, 256, part.nbytes, np.uint8)
            else:
                part[:] = rng.normal(size=part.size) * 9
        yield x


@pytest.mark.parametrize("name", CASES)
def test_more_than_2_to_the_31_elements(name: str, capsys: Any) -> None:
    case = CASES[name]
    n = case.shape[0]
    windows = [*OWN, n // WINDOW]
    start = time.perf_counter()
    with source_of(n, case.source) as x, repeated(n, case.target, OWN) as out:
        parts = [slice(w * WINDOW, min((w + 1) * WINDOW, n)) for w in windows]
        wanted = []
        with zp.use_backend("reference"):
            for part in parts:
                if case.expected:
                    wanted.append(case.expected(x[part], np.arange(part.start, part.stop)))
                elif part.start and part.stop - part.start == WINDOW:
                    wanted.append(wanted[0])  # the same numbers
                else:
                    result = np.empty(x[part].shape, case.target)
                    case.call(x[part], result)
                    wanted.append(result)
        for backend in NATIVE:
            for part in parts:
                out[part].view(np.uint8)[:] = 0xA5
            with zp.use_backend(backend):
                case.call(x, out)
            for part, want in zip(parts, wanted, strict=True):
                assert out[part].tobytes() == want.tobytes(), (backend, part)
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f"\n{name}: {n:,} elements on {', '.join(NATIVE)}, {seconds:.0f} s: 0 differ")


@pytest.mark.parametrize("real", REALS, ids=str)
def test_histogram_of_more_than_2_to_the_31(native: str, real: np.dtype[Any], capsys: Any) -> None:
    """It is that of one window, merged with itself nine times, and the rest."""
    assert N // WINDOW == 2**9
    with source_of(N, real) as x:
        got = zp.HistogramObserver().update(x)
        with zp.use_backend("reference"):
            want = zp.HistogramObserver().update(x[:WINDOW])
            rest = zp.HistogramObserver().update(x[N - N % WINDOW :])
        for _ in range(9):
            want.merge(want)
        assert got == want.merge(rest)
    with capsys.disabled():
        print(f"\nhistogram, {native}, {real}: {N:,} elements: right")


def test_histograms_of_columns(native: str, capsys: Any) -> None:
    n = N + 1
    with source_of(n, REALS[2]) as x:
        got = zp.HistogramObserver(axis=1).update(x.reshape(-1, 4))
        with zp.use_backend("reference"):
            want = zp.HistogramObserver(axis=1).update(x[:WINDOW].reshape(-1, 4))
            rest = zp.HistogramObserver(axis=1).update(x[n - n % WINDOW :].reshape(-1, 4))
        for _ in range(9):
            want.merge(want)
        assert got == want.merge(rest)
    with capsys.disabled():
        print(f"\nhistograms of columns, {native}: {n:,} elements: right")


@pytest.mark.parametrize("real", REALS, ids=str)
def test_ranges_of_more_than_2_to_the_31(native: str, real: np.dtype[Any], capsys: Any) -> None:
    """The extremes are the last and the first element, one row's each."""
    n = 2 * ROW
    with source_of(n, real) as x:
        ends = x[n - n % WINDOW :]
        ends[-1], ends[0] = 99, -77
        assert zp.min_max(x) == (-77, 99)
        rows = zp.min_max(x.reshape(2, ROW), channel_axis=0)
        first = x[:WINDOW].astype(np.float64)
        assert [v.tolist() for v in rows] == [[first.min(), -77], [first.max(), 99]]
        low, high = zp.min_max(x.reshape(-1, 4), channel_axis=1)
        assert (low.min(), high.max()) == (-77, 99)
        assert int(np.argmax(high)) == 3
        chosen = zp.choose_params(np.array([-77, 99], real))
        assert zp.choose_params(x) == chosen
        of_rows = zp.choose_params(np.stack(rows, axis=1).astype(real), axis=0)
        assert zp.choose_params(x.reshape(2, ROW), axis=0) == of_rows
        blocks = zp.choose_params(x.reshape(2, ROW), axis=1, block_size=WINDOW)
        for row, k in itertools.product((0, 1), (0, 1, 255, 256)):
            part = x[row * ROW + k * WINDOW : min(row * ROW + (k + 1) * WINDOW, (row + 1) * ROW)]
            with zp.use_backend("reference"):
                want_block = zp.choose_params(part)
            assert blocks.scale[row, k] == want_block.scale, (row, k)
            assert blocks.zero_point[row, k] == want_block.zero_point, (row, k)
        if real == np.float32:
            with repeated(n, np.uint8, OWN) as out:
                q, params = zp.quantize_dynamic(x.reshape(2, ROW), axis=0, out=out.reshape(2, ROW))
                assert params == of_rows
                with zp.use_backend("reference"):
                    want = params.quantize(np.stack([x[:67], ends[-67:]]))
                assert np.array_equal(q[0, :67], want[0])
                assert np.array_equal(q[1, -67:], want[1])
            with repeated(n, np.uint8, OWN) as out:
                q, params = zp.quantize_dynamic(x, out=out)
                assert params == chosen
                with zp.use_backend("reference"):
                    want = params.quantize(x[:WINDOW]), params.quantize(ends)
                for w in OWN:
                    assert q[w * WINDOW : (w + 1) * WINDOW].tobytes() == want[0].tobytes()
                assert q[n - n % WINDOW :].tobytes() == want[1].tobytes()
        with capsys.disabled():
            print(f"\nmin_max, choose_params, {native}, {real}: {n:,} elements: right")


def test_shift_of_more_than_2_to_the_31() -> None:
    with source_of(N, U8) as q:
        moved, params = zp.flip_signedness(q, P)
        assert params.zero_point == -28
        for start in (0, 2**31 - WINDOW, N - N % WINDOW):
            part = slice(start, start + WINDOW)
            assert np.array_equal(moved[part], (q[part].astype(int) - 128).astype(np.int8))


def test_a_nan_after_2_to_the_31() -> None:
    with source_of(N, REALS[2]) as x, repeated(N, U8) as out:
        x[-1] = np.nan
        with pytest.raises(ValueError, match=rf"has 1 NaN or Inf .* at index \({N - 1},\)"):
            zp.quantize(x, P, out=out, check_finite=True)


def test_error_stats_of_more_than_2_to_the_31() -> None:
    with source_of(N, REALS[2]) as x:
        got = zp.error_stats(x, P)
        window, rest = (zp.error_stats(part, P) for part in (x[:WINDOW], x[N - N % WINDOW :]))
    many, few = N // WINDOW, N % WINDOW
    assert got.saturated == many * window.saturated + rest.saturated
    assert got.max_abs_error == max(window.max_abs_error, rest.max_abs_error)
    assert got.codes_used >= window.codes_used
    mse = (many * WINDOW * window.mse + few * rest.mse) / N
    assert got.mse == pytest.approx(mse, rel=1e-9)
