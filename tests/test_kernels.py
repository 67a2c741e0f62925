"""Every kernel against the reference: each ISA, dtype, convention, size, alignment and layout.

The `isa` fixture runs the tests under `verify()`, which compares every element's bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint._layout import Layout
from zeropoint._reference import working_dtype

from .exact import half_steps, neighbours

REALS = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
#: j * 2^k +- 1 up to four vectors of the widest ISA, and beyond one staged chunk
SIZES = sorted(
    {j << k for j in (1, 3) for k in range(9)}
    | {(j << k) + 1 for j in (1, 3) for k in range(9)}
    | {(j << k) - 1 for j in (1, 3) for k in range(9)}
    | {1023, 1024, 1025, 3071, 5000}
)
RNG = np.random.default_rng(20261123)
INTEGERS = [65504, 2**23, 2**23 + 1, 2**31, -(2**31), 2**32, 10**10]
HALVES = [0.5, -0.5, 1.5, 2.5, 127.5, 128.5, 254.5, 255.5, -128.5]
ENDS = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38]
HARD = np.array([*INTEGERS, *HALVES, *ENDS], np.float32)


@pytest.fixture
def threads() -> Iterator[None]:
    before = zp.get_num_threads()
    yield
    zp.set_num_threads(before)


def sample(
    n: int, dtype: np.dtype[Any], scale: float = 0.03, zero: int = 100
) -> np.ndarray[Any, Any]:
    """Random values, half steps with their neighbours and hard cases, shuffled."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = half_steps(RNG.integers(-300, 300, max(n // 3, 1)), scale)
        spread = RNG.normal(size=n).astype(np.float32) * np.float32(scale * 90)
        values = np.concatenate([HARD, steps, spread]).astype(dtype)
    return RNG.permutation(values)[:n] if n < values.size else values


def offset(x: np.ndarray[Any, Any], elements: int) -> np.ndarray[Any, Any]:
    """The same values at an address that is `elements` past an aligned one."""
    room = np.empty(x.size + elements, x.dtype)
    room[elements:] = x.ravel()
    return room[elements:].reshape(x.shape)


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_sizes(isa: str, convention: str, dtype: np.dtype[Any]) -> None:
    params = {
        "uint8": zp.QuantParams(0.03, 100, convention=convention),
        "int8": zp.QuantParams(np.float64(0.07), -3, "int8", qmin=-100, convention=convention),
    }
    for size in SIZES:
        x = sample(size, dtype)[:size]
        for p in params.values():
            q = p.quantize(x)
            p.fake_quantize(x)
            p.dequantize(q, dtype=dtype)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_other_operations(isa: str, dtype: np.dtype[Any]) -> None:
    for size in SIZES:
        x = sample(size, dtype)[:size]
        zp.round(x)
        zp.round(x, ties="away")
        zp.saturate(x, -4, 4)
        zp.saturate_cast(x, "uint8")
        zp.saturate_cast(x, "int8")
        finite = np.where(np.isfinite(x), x, np.asarray(1, dtype)).astype(dtype)
        if size:
            zp.min_max(finite)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_nonfinite_values_of_min_max(native: str, dtype: np.dtype[Any]) -> None:
    """A NaN or an Inf anywhere spoils both results of its own row or column, and no other."""
    core = zp._backend._core
    for n in (1, 3, 15, 16, 17, 33, 95, 300):
        for rows in (1, 3, 37):
            x = RNG.normal(size=(rows, n)).astype(dtype)
            low, high = (f(x.astype(working_dtype(dtype)), 1) for f in (np.min, np.max))
            for element in range(0, x.size, max(1, x.size // 97)):
                row, column = divmod(element, n)
                for bad in (np.nan, -np.nan, np.inf, -np.inf):
                    y = x.copy()
                    y[row, column] = bad
                    for axis, z in ((0, y), (1, np.ascontiguousarray(y.T))):
                        found = core.ranges(zp.backends().index(native), z, axis, 0, False)
                        for got, want in zip(found, (low, high), strict=True):
                            assert np.isnan(got).tolist() == (np.arange(rows) == row).tolist()
                            assert np.delete(got, row).tolist() == np.delete(want, row).tolist()


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers(isa: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    for size in SIZES:
        x = RNG.integers(info.min, info.max, size, dtype, endpoint=True)
        near = RNG.integers(max(info.min, -300), min(info.max, 300), size).astype(dtype)
        for values in (x, near):
            zp.saturate_cast(values, "uint8")
            zp.saturate_cast(values, "int8")
            if dtype in ("i1", "i2", "i4", "i8"):
                zp.saturate(values, -100, 100)
            if dtype in ("i1", "u1"):
                zp.saturate(values, 7, 100)
                zp.saturate(values, 7, 7)
            if dtype == "i4":
                zp.requantize(values, 3e-9, zp.QuantParams(0.05, 9))


@pytest.mark.parametrize("shift", range(1, 17, 3))
def test_alignments(isa: str, shift: int) -> None:
    params = zp.QuantParams(0.03, 100)
    for size in (15, 16, 17, 64, 100, 1000):
        x = offset(sample(size, np.dtype(np.float32)), shift)
        q = offset(np.zeros(x.size, np.uint8), shift)
        params.quantize(x, out=q)
        y = offset(np.zeros(x.size, np.float32), (shift * 3) % 16)
        params.dequantize(q, out=y)
        params.fake_quantize(x, out=y)
        params.fake_quantize(x, out=x)


SHAPES = [
    (7,),
    (33,),
    (3, 5),
    (5, 300),
    (300, 5),
    (4, 3, 1),
    (9, 4, 7),
    (2, 64, 33),
    (40, 3, 11),
    (2, 1, 70),
]


@pytest.mark.parametrize("dtype", [REALS[0], REALS[2], REALS[3]], ids=str)
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_channels(isa: str, convention: str, dtype: np.dtype[Any]) -> None:
    for shape in SHAPES:
        channels_of(shape, convention, dtype)


def with_range(x: np.ndarray, convention: str) -> np.ndarray:
    """`x` without NaN and Inf, and for some conventions without ranges whose 1 / scale is Inf."""
    least = 1e-30 if convention in zp._reference.BY_RECIPROCAL else 0
    return np.where(np.isfinite(x) & (np.abs(x) >= least), x, np.asarray(0.3, x.dtype))


def channels_of(shape: tuple[int, ...], convention: str, dtype: np.dtype[Any]) -> None:
    x = np.resize(sample(int(np.prod(shape)), dtype), shape)
    finite = with_range(x, convention)
    for axis in range(len(shape)):
        n = shape[axis]
        scale = RNG.uniform(0.01, 0.1, n).astype(np.float64 if n % 2 else np.float32)
        params = zp.QuantParams(
            scale, RNG.integers(0, 256, n), axis=axis - len(shape), convention=convention
        )
        q = params.quantize(x)
        params.dequantize(q, dtype=dtype)
        params.fake_quantize(x)
        low, high = zp.min_max(finite, channel_axis=axis)
        assert low.shape == high.shape == (n,)
        zp.choose_params(finite, axis=axis, convention=convention)
        if convention == "onnx":
            acc = RNG.integers(-1000, 1000, shape, np.int32)
            zp.requantize(acc, RNG.uniform(1e-4, 1e-3, n), params)


@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize("block", [1, 2, 3, 32, 64])
def test_blocks(isa: str, block: int, convention: str) -> None:
    for shape in SHAPES:
        blocks_of(shape, block, convention)


def blocks_of(shape: tuple[int, ...], block: int, convention: str) -> None:
    x = np.resize(sample(int(np.prod(shape)), REALS[2]), shape)
    finite = with_range(x, convention)
    for axis in range(len(shape)):
        params = zp.choose_params(finite, axis=axis, block_size=block, convention=convention)
        q = params.quantize(x)
        params.dequantize(q)
        params.fake_quantize(x)


@pytest.mark.slow("millions of elements")
def test_many_elements_without_the_gil(isa: str) -> None:
    x = sample(3_000_001, REALS[2])[:3_000_001]
    params = zp.QuantParams(0.03, 100)
    q = params.quantize(x)
    params.dequantize(q)
    zp.min_max(np.nan_to_num(x))


def test_all_float16(isa: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for convention in zp.CONVENTIONS:
        for scale, zero in [(0.03, 100), (2.0**-24, 0), (300.0, 255)]:
            params = zp.QuantParams(scale, zero, convention=convention)
            params.quantize(every)
            params.fake_quantize(every)
    zp.round(every)
    zp.round(every, ties="away")
    zp.saturate(every, -7, 2048)


@pytest.mark.parametrize("convention", ["numpy", "onnx", "tflite"])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_products_give_the_codes_of_the_quotient(isa: str, dtype: str, convention: str) -> None:
    """Long runs multiply where `certify` proved it right; here is where that might fail: every half
    step of the code range and the floats around it, at random and at known bad scales."""
    info = np.iinfo(dtype)
    steps = np.arange(info.min - 300, info.max + 300)
    scales = np.exp(RNG.uniform(np.log(1e-6), np.log(1e3), 30)).astype(np.float32)
    bad = [1.96185386, 0.1, 1 / 3, 1e-30, 1e-38, 1e30, 1.0, 2.0**-7]
    for scale in [*scales, *np.float32(bad)]:
        zero = int(RNG.integers(info.min, info.max, endpoint=True))
        with np.errstate(over="ignore"):
            x = half_steps(steps - zero, scale)
            x = np.concatenate([x, neighbours(x), HARD, RNG.normal(size=1000) * 80 * scale])
        x = np.resize(x.astype(np.float32), max(x.size, 8192))
        zp.QuantParams(scale, zero, dtype, convention=convention).quantize(x)
    far = zp.QuantParams(0.1, -(10**6), dtype, include_zero=False)
    far.quantize(np.resize(half_steps(steps + 10**6, 0.1), 9000))


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_errors(isa: str, convention: str, dtype: np.dtype[Any]) -> None:
    """Sizes by turns, every granularity and precision of the scale; some zeros, some clipped."""
    shapes = [(size,) for size in SIZES[1 + REALS.index(dtype) :: len(REALS)]] + SHAPES
    for i, shape in enumerate(shapes):
        x = np.resize(sample(int(np.prod(shape)), dtype), shape)
        x = np.where(np.isfinite(x) & (RNG.random(shape) > 0.1), x, np.asarray(0, dtype))
        for axis in (None, *range(len(shape))):
            block = (None, None, 3, 64)[(i + (axis or 0)) % 4] if axis is not None else None
            layout = Layout(shape, axis, block).params_shape
            scale = RNG.uniform(0.01, 0.1, layout).astype(np.float64 if i % 3 else np.float32)
            zero = RNG.integers(1, 256, layout)
            params = zp.QuantParams(
                *(scale, zero if layout else int(zero)),
                qmin=i % 2,
                axis=axis,
                block_size=block,
                convention=convention,
            )
            zp.error_stats(x.astype(dtype), params)


@pytest.mark.parametrize(
    "shape", [(70_000, 3), (3, 70_000), (300, 1300), (1300, 300), (2, 2000, 70)]
)
def test_errors_of_many_channels(isa: str, shape: tuple[int, ...]) -> None:
    """More channels than are counted at once, more elements than one thread takes at a time."""
    x = RNG.normal(size=shape).astype(np.float32)
    for axis in range(len(shape)):
        zp.error_stats(x, zp.choose_params(x, axis=axis))
        zp.error_stats(x, zp.choose_params(x, axis=axis, block_size=100))


# ---- codes to codes -----------------------------------------------------------------------------


def looked_up(q: np.ndarray, axis: int | None, dtype: str, out: np.ndarray | None = None) -> None:
    """Codes by a table of all codes in any order, or of one for each channel."""
    n = 1 if axis is None else q.shape[axis]
    table = RNG.permuted(np.tile(np.arange(256, dtype=np.uint8), (n, 1)), axis=1).view(dtype)
    table = table[0] if axis is None else table
    native = zp._backend.native_tables(table, q.dtype, axis)
    zp._backend.look_up(q, table, axis, native, out)


def codes(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8).view(dtype)


def test_lookup(isa: str) -> None:
    for i, size in enumerate((*SIZES, 70_001)):
        source, target = (("uint8", "int8")[i >> k & 1] for k in (0, 1))
        looked_up(codes((size,), source), None, target)
        looked_up(codes((3, size), source), 0, target)  # a table for each row


@pytest.mark.parametrize("channels", [*range(1, 10), 64, 65])
def test_lookup_of_channels_in_turn(isa: str, channels: int) -> None:
    for rows in (0, 1, 2, 21, 43, 63, 64, 65, 127, 128, 129, 191, 1025):
        looked_up(codes((rows, channels)), 1, "int8")
        looked_up(codes((3, rows, channels), "int8")[:, :, ::-1], -1, "uint8")
        looked_up(codes((2, channels, rows)), 1, "uint8")
        looked_up(codes((rows, channels)).T, 0, "uint8")  # to channels in rows
    looked_up(codes((3, 700, channels))[:, 100:400], 2, "uint8")  # long rows of short ones


@pytest.mark.parametrize("shift", range(0, 65, 5))
def test_lookup_at_any_address(isa: str, shift: int) -> None:
    for size in (31, 127, 128, 129, 192, 193, 1000):
        for shape, axis in [((size,), None), ((size, 3), 1), ((size, 4), 1), ((2, size), 0)]:
            q, out = offset(codes(shape), shift), offset(codes(shape), shift * 7 % 64)
            looked_up(q, axis, "uint8", out)


@pytest.mark.parametrize("shape", [(33,), (1000,), (70_001,), (500, 2), (500, 3), (500, 4), (9, 7)])
def test_lookup_in_place(native: str, shape: tuple[int, ...]) -> None:
    """`verify()` would compute the reference's result of what has been written; so without it."""
    axis = None if len(shape) == 1 else 1
    table = RNG.integers(0, 256, (*shape[1:], 256)[-2:], np.uint8)
    tables = zp._backend.native_tables(table, np.dtype(np.uint8), axis)
    for shift in (0, 1, 32, 61):
        q = offset(codes(shape), shift)
        want = zp._reference.lookup(q, table, axis)
        zp._backend._core.lookup_into(zp.backends().index(native), q, q, tables)
        np.testing.assert_array_equal(q, want)


def test_every_kernel_is_a_known_operation() -> None:
    if zp.backends() == ("reference",):
        pytest.skip("the core is absent")
    kernels = zp._backend.core_info()["kernels"]
    assert len(kernels) == len(set(kernels)) > 30
    operations = {kernel.split()[0] for kernel in kernels}
    quantize = {"quantize", "quantize_runs", "certify", "mark", "min_max_present", "clipped_offset"}
    quantize |= {"quantize_offset", "dequantize_offset", "fake_quantize_offset"}
    rest = {"dequantize", "fake_quantize", "convert", "saturate", "round", "min_max", "histogram"}
    moved = {"gather", "scatter", "transpose", "swap_bytes"}
    measured = {"clipped", "errors", "tally", "fewest"}
    assert operations == quantize | rest | moved | measured | {"to_q8_0", "from_q8_0", "lookup"}


def test_a_wrong_kernel_is_caught(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """verify() can fail: with a reference of another tie rule the first tie raises."""
    monkeypatch.setitem(zp._reference.CODE, "onnx", zp._reference.CODE["tflite"])
    x = np.array([0.0, 1.0, 2.5], np.float32)
    params = zp.QuantParams(1.0, 0, convention="onnx")
    with pytest.raises(zp.VerificationError, match=r"index \(2,\): got .*2.*, reference .*3"):
        params.quantize(x)


def test_the_fast_path_equals_the_general_one(backend: str) -> None:
    """`verify()` turns the fast path off, so here it is compared with the path behind it."""
    x = sample(24 * 35, REALS[2])[: 24 * 35].reshape(24, 35)
    finite = np.where(np.abs(x) < 6e4, x, np.float32(0.3))
    for axis, block in [(None, None), (0, None), (1, None), (-1, 7), (0, 5), (1, 64), (0, 24)]:
        for dtype in (np.float16, np.float32, np.float64):
            data = finite.astype(dtype)
            params = zp.choose_params(data, axis=axis, block_size=block)
            q, chosen = zp.quantize_dynamic(data, axis=axis, block_size=block)
            strided = np.repeat(data, 2, axis=1)[:, ::2]  # declined by the fast path
            assert chosen == params == zp.choose_params(strided, axis=axis, block_size=block)
            assert q.tobytes() == params.quantize(strided).tobytes()
            assert params.quantize(data).tobytes() == q.tobytes()
            back = params.dequantize(np.repeat(q, 2, axis=1)[:, ::2])
            assert params.dequantize(q).tobytes() == back.tobytes()
            assert params.fake_quantize(data).tobytes() == params.fake_quantize(strided).tobytes()


# ---- ranges, parameters and codes group by group -----------------------------------------------

#: runs of every length: a part of a group of 128 KiB, a whole one, more; one parameter, and more
#: than are chosen at once; last blocks that are short; blocks of columns, few and too many
GROUPED = [
    *[((37, 41), 0, None), ((5, 9001), 0, None), ((3, 70_001), 0, None), ((70_000, 3), 0, None)],
    *[((64, 96), -1, 32), ((37, 41), -1, 16), ((700, 101), 1, 25), ((100_000,), 0, 7)],
    *[((2, 40_011), 1, 8200), ((90_000,), 0, 90_000), ((1000, 3), 1, 1), ((2, 3, 50), 1, 2)],
    *[((64, 96), 0, 32), ((70, 1000), 0, 33), ((5, 2048), 0, 3), ((5, 2049), 0, 3)],
]


@pytest.mark.parametrize(("shape", "axis", "block"), GROUPED, ids=str)
def test_dynamic_in_groups(
    native: str, threads: None, shape: tuple[int, ...], axis: int, block: int | None
) -> None:
    """Fresh codes are made group by group, those for `out` after all ranges: the same bits."""
    for dtype in REALS:
        size = 10.0 ** RNG.integers(-3, 4, (*shape[:-1], 1))
        x = ((RNG.normal(size=shape) + RNG.integers(-2, 3, size.shape)) * size).astype(dtype)
        x[np.isinf(x)] = 1
        x.flat[:40] = 0  # no ordinary range
        for convention in zp.CONVENTIONS:
            for symmetric in (False, True):
                keywords = {"symmetric": symmetric, "convention": convention}
                keywords |= {"axis": axis, "block_size": block}
                out = np.empty(shape, np.int8)
                _, want = zp.quantize_dynamic(x, "int8", out=out, **keywords)
                for n in (1, 3):
                    zp.set_num_threads(n)
                    q, params = zp.quantize_dynamic(x, "int8", **keywords)
                    assert params == want
                    assert q.tobytes() == out.tobytes()


@pytest.mark.parametrize(("shape", "axis", "block"), GROUPED[::3], ids=str)
def test_dynamic_in_groups_at_fault(
    native: str, threads: None, shape: tuple[int, ...], axis: int, block: int | None
) -> None:
    for n in (1, 3):
        zp.set_num_threads(n)
        for element in (0, np.prod(shape) // 2, -1):
            x = RNG.normal(size=shape).astype(np.float32)
            x.flat[element] = np.nan
            index = np.unravel_index(np.arange(x.size)[element], shape)
            text = rf"x has 1 NaN or Inf of .* at index \({', '.join(map(str, index))},?\)"
            with pytest.raises(ValueError, match=text):
                zp.quantize_dynamic(x, axis=axis, block_size=block)


# ---- runs of thousands of elements ------------------------------------------------------------

PARTS_OF_THE_CODES = [("uint8", 3, 200), ("uint8", 0, 255), ("int8", -100, 90), ("int8", 5, 9)]


@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize(("dtype", "qmin", "qmax"), PARTS_OF_THE_CODES)
def test_part_of_the_codes(isa: str, dtype: str, qmin: int, qmax: int, convention: str) -> None:
    for scale in (0.25, 0.1):
        steps = RNG.integers(-400, 400, 9001) + RNG.choice([0, 0.5, 0.25], 9001)
        x = RNG.permutation(np.concatenate([HARD, steps * scale]).astype(np.float32))
        for zero in (qmin, qmax):
            params = zp.QuantParams(scale, zero, dtype, qmin=qmin, qmax=qmax, convention=convention)
            params.quantize(x)
            params.fake_quantize(x)


@pytest.mark.parametrize("real", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
@pytest.mark.parametrize(("shape", "axis"), [((3, 9000), 0), ((2, 3, 2500), 1), ((1500, 2), 0)])
def test_long_channels(
    isa: str, shape: tuple[int, ...], axis: int, convention: str, real: type
) -> None:
    """Every channel is longer than what is done at once, and has parameters of its own."""
    n = shape[axis]
    x = RNG.normal(size=shape).astype(real)
    scale = np.geomspace(0.005, 0.05, n)
    zero = np.arange(100, 100 + n) % 256
    params = zp.QuantParams(scale, zero, axis=axis, convention=convention)
    q = params.quantize(x)
    params.dequantize(q, dtype=real)
    params.fake_quantize(x)
    zp.min_max(x, channel_axis=axis)


@pytest.mark.parametrize("axis", [-1, 0])
def test_long_blocks(isa: str, axis: int) -> None:
    x = RNG.normal(size=(4, 7000)[:: -1 if axis == 0 else 1]).astype(np.float16)
    params = zp.choose_params(x, axis=axis, block_size=3000)
    params.dequantize(params.quantize(x), dtype=np.float16)
    params.fake_quantize(x)
