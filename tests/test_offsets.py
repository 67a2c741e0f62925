"""Kernels of real offsets, of codes for NaN, and of data without NaN: the reference's bits.

On every ISA and dtype, in every size, granularity and layout; by the general path, under
`verify()`, and by the fast path beside the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint._layout import Layout
from zeropoint._params import Params

from .exact import neighbours

Array = np.ndarray[Any, np.dtype[Any]]
REALS = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
OFFSETS = list(zp.OFFSET_CONVENTIONS)
SIZES = sorted({(j << k) + d for j in (1, 3) for k in range(9) for d in (-1, 0, 1)} | {1023, 5000})
RNG = np.random.default_rng(1)
ENDS = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 65504]


def by_offset(convention: str, step: Any, offset: Any, **rest: Any) -> zp.OffsetParams:
    """Steps of this size, of 255 in the span."""
    if convention == "cf":
        return zp.OffsetParams(step, offset, **rest)
    return zp.OffsetParams(None, offset, span=step * 255, convention=convention, **rest)


def sample(n: int, dtype: np.dtype[Any], step: float = 0.03, offset: float = -1.7) -> Array:
    """Where codes change and beside, elements at random and hard ones, shuffled."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = neighbours(RNG.integers(-20, 560, max(n // 6, 1)) / 2 * step + offset)
        spread = RNG.normal(size=n) * step * 90 + offset
        values = np.concatenate([ENDS, steps, spread]).astype(dtype)
    return np.resize(RNG.permutation(values), n)


def given(convention: str) -> list[zp.OffsetParams]:
    """Each precision and type of codes, part of the codes, a code for NaN, fused and not."""
    double = np.float64
    some = [
        by_offset(convention, 0.03, -1.7),
        by_offset(convention, double(0.03), double(-1.7), dtype="int8"),
        by_offset(convention, 0.03, -1.7, dtype="int8", qmin=-100, qmax=90, nan_code=-128),
        by_offset(convention, double(0.03), double(-1.7), nan_code=0),
        by_offset(convention, 0.03, -1.7, nan_code=255),
    ]
    if convention == "faiss":
        some += [some[0].replace(fused=False), some[2].replace(fused=False)]
    return some


def use(params: Params, x: Array) -> None:
    params.dequantize(params.quantize(x), dtype=x.dtype)
    params.fake_quantize(x)


def bits(x: Array) -> bytes:
    """Of any NaN the same."""
    if x.dtype.kind != "u" and x.dtype.kind != "i":
        x = np.where(np.isnan(x), np.asarray(np.nan, x.dtype), x)
    return x.tobytes()


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("convention", OFFSETS)
def test_sizes(isa: str, convention: str, dtype: np.dtype[Any]) -> None:
    for size in SIZES:
        x = sample(size, dtype)
        for params in given(convention):
            use(params, x)


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("convention", OFFSETS)
def test_the_fast_path(native: str, convention: str, dtype: np.dtype[Any]) -> None:
    """A plain call, without `verify()`: into fresh memory, and into `out`."""
    for size in (0, 1, 7, 64, 100, 5000):
        x = sample(size, dtype)
        for params in given(convention):
            with zp.use_backend("reference"):
                q, y = params.quantize(x), params.fake_quantize(x)
                back = [params.dequantize(q, dtype=d) for d in REALS]
            assert params.quantize(x).tobytes() == q.tobytes()
            assert params.quantize(x, out=np.empty_like(q)).tobytes() == q.tobytes()
            assert bits(params.fake_quantize(x)) == bits(y)
            assert bits(params.fake_quantize(x, out=x.copy())) == bits(y)
            for want in back:
                assert bits(params.dequantize(q, dtype=want.dtype)) == bits(want)
                assert bits(params.dequantize(q, out=np.empty_like(want))) == bits(want)


SHAPES = [(7,), (3, 5), (5, 300), (300, 5), (4, 3, 1), (9, 4, 7), (2, 64, 33), (40, 3, 11)]


def granularities(shape: tuple[int, ...]) -> Iterator[Layout]:
    yield Layout(shape)
    for axis in range(len(shape)):
        for block in (None, 1, 3, 32):
            yield Layout(shape, axis, block)


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("convention", OFFSETS)
def test_channels_and_blocks(isa: str, convention: str, dtype: np.dtype[Any]) -> None:
    for i, shape in enumerate(SHAPES):
        x = sample(int(np.prod(shape)), dtype).reshape(shape)
        for layout in granularities(shape):
            real = np.float64 if (i + layout.axis if layout.axis else i) % 3 == 0 else np.float32
            step = RNG.uniform(0.01, 0.1, layout.params_shape).astype(real)
            if convention != "cf":
                step *= RNG.random(step.shape) > 0.1  # spans of 0 among them
            offset = (RNG.normal(size=step.shape) * 3).astype(real)
            how = {"axis": layout.axis, "block_size": layout.block, "nan_code": (None, 0)[i % 2]}
            use(by_offset(convention, step[()], offset[()], **how), x)


@pytest.mark.parametrize("convention", OFFSETS)
@pytest.mark.parametrize(("shape", "axis"), [((20_011,), None), ((3, 9000), 0), ((1500, 2), 0)])
def test_long_runs(isa: str, convention: str, shape: tuple[int, ...], axis: int | None) -> None:
    for dtype in REALS:
        x = sample(int(np.prod(shape)), dtype).reshape(shape)
        for params in given(convention)[:3]:
            if axis is not None:
                numbers = (np.full(shape[axis], each) for each in params._arrays)
                params = params._made(*numbers, params._recipe() | {"axis": axis})
            use(params, x)


def misaligned(x: Array) -> Array:
    view = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


VIEWS: dict[str, Callable[[Array], Array]] = {
    "strided": lambda x: x[::2, 1::3, ::5],
    "negative": lambda x: x[::-1, :, ::-2],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "fortran": np.asfortranarray,
    "transposed": lambda x: x.transpose(2, 0, 1),
    "misaligned": misaligned,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder()),
    "big-endian strided": lambda x: x.astype(x.dtype.newbyteorder())[::3, ::-1],
    "empty": lambda x: x[:0, ::2],
}


@pytest.mark.parametrize("dtype", [REALS[0], *REALS[2:]], ids=str)
@pytest.mark.parametrize("kind", VIEWS)
def test_views(backend: str, kind: str, dtype: np.dtype[Any]) -> None:
    x = VIEWS[kind](sample(12 * 10 * 8, dtype).reshape(12, 10, 8))
    plain = np.ascontiguousarray(x, dtype)
    n = x.shape[1]
    for convention in OFFSETS:
        step, offset = np.linspace(0.01, 0.05, n), np.linspace(-3, 3, n)
        how = {"axis": 1, "nan_code": 255}
        for params in (given(convention)[2], by_offset(convention, step, offset, **how)):
            q = params.quantize(plain)
            assert params.quantize(x).tobytes() == q.tobytes()
            assert bits(params.fake_quantize(x)) == bits(params.fake_quantize(plain))
            out = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77, params.dtype)
            assert params.quantize(x, out=out[..., ::2]).tobytes() == q.tobytes()
            assert (out[..., 1::2] == 77).all()
            values = params.dequantize(q, dtype=dtype)
            room = np.zeros(x.shape[::-1], dtype).T
            assert bits(params.dequantize(out[..., ::2], out=room)) == bits(values)


@pytest.mark.parametrize("convention", OFFSETS)
def test_overlap(backend: str, convention: str) -> None:
    params = given(convention)[4]
    for shift in (-3, 0, 1):
        room = sample(400, REALS[2])
        want = params.fake_quantize(room[10:300].copy())
        out = room[10 + shift : 300 + shift]
        assert bits(params.fake_quantize(room[10:300], out=out)) == bits(want)
    room = sample(400, REALS[2])
    codes = params.quantize(room.copy())
    assert params.quantize(room, out=room.view(np.uint8)[:400]).tobytes() == codes.tobytes()


@pytest.mark.parametrize("convention", OFFSETS)
def test_any_number_of_threads(native: str, convention: str) -> None:
    x = sample(700_001, REALS[2])
    params = given(convention)[2]
    zp.set_num_threads(1)
    q, y = params.quantize(x), params.fake_quantize(x)
    zp.set_num_threads(3)
    assert params.quantize(x).tobytes() == q.tobytes()
    assert bits(params.fake_quantize(x)) == bits(y)
    assert zp.min_max(x[np.isfinite(x)]) == zp.min_max(
        np.where(np.isfinite(x), x, np.nan), skip_nan=True
    )


# ---- a code for NaN --------------------------------------------------------------------------

EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)
#: NaN of every kind, and all else that is special, by the bits of float32 and float64
NANS = {
    4: np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFBFFFFF, 0x7FFFFFFF], np.uint32),
    8: np.array([0x7FF8 << 48, 0xFFF8 << 48, (0x7FF0 << 48) + 1, (1 << 64) - 1], np.uint64),
}


def every_value(dtype: np.dtype[Any]) -> Array:
    """All of 16 bits; of wider types NaN of every kind, the ends, and others of any size."""
    if dtype.itemsize == 2:
        return EVERY_HALF.view(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    top = int(np.iinfo(unsigned).max)
    random = RNG.integers(0, top, 3000, unsigned, endpoint=True)
    with np.errstate(over="ignore"):
        ends = np.array([*ENDS, 1e300, -1e300], np.float64).astype(dtype)
    return np.concatenate([random.view(dtype), NANS[dtype.itemsize].view(dtype), ends])


CODES: list[dict[str, Any]] = [
    *({"nan_code": 0}, {"nan_code": 255}, {"qmin": 9, "qmax": 30, "nan_code": 200}),
    *({"qmin": 9, "qmax": 30, "nan_code": 9}, {"qmin": 9, "qmax": 30, "nan_code": 30}),
    *({"dtype": "int8", "nan_code": -128}, {"dtype": "int8", "nan_code": 127}),
    {"dtype": "int8", "qmin": -1, "qmax": 1, "nan_code": 0 - 100},
]


def with_a_code_for_nan(codes: dict[str, Any]) -> Iterator[Params]:
    low = codes.get("qmin", np.iinfo(codes.get("dtype", "uint8")).min) + 1
    for convention in zp.CONVENTIONS:
        yield zp.QuantParams(0.25, low, convention=convention, **codes)
        yield zp.QuantParams(np.float64(0.3), low, convention=convention, **codes)
    for convention in OFFSETS:
        yield by_offset(convention, 0.25, -2.5, **codes)
        yield by_offset(convention, np.float64(0.3), np.float64(4), **codes)


@pytest.mark.parametrize("codes", CODES, ids=str)
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_nan_and_nothing_else_has_the_code(
    backend: str, dtype: np.dtype[Any], codes: dict[str, Any]
) -> None:
    x = every_value(dtype)
    with np.errstate(invalid="ignore"):
        missing = np.isnan(x.astype(np.float64))
    for params in with_a_code_for_nan(codes):
        q = params.quantize(x)
        assert ((q == params.nan_code) == missing).all()
        there = q[~missing]
        assert there.min() >= params.qmin
        assert there.max() <= params.qmax
        # but for NaN the codes are those of the same range without a code for it
        plain = params.replace(nan_code=None)
        assert there.tobytes() == plain.quantize(x)[~missing].tobytes()
        for target in REALS:
            values = params.dequantize(q, dtype=target)
            assert (np.isnan(values.astype(np.float32)) == missing).all()
            assert values[~missing].tobytes() == plain.dequantize(there, dtype=target).tobytes()
        assert bits(params.fake_quantize(x)) == bits(params.dequantize(q, dtype=dtype))


@pytest.mark.parametrize("convention", [*zp.CONVENTIONS, *OFFSETS])
def test_a_code_for_nan_in_every_layout(isa: str, convention: str) -> None:
    for dtype in REALS:
        for shape in SHAPES:
            x = sample(int(np.prod(shape)), dtype).reshape(shape)
            x[RNG.random(shape) < 0.3] = np.nan
            for axis in range(len(shape)):
                n = shape[axis]
                numbers = {"axis": axis, "nan_code": (0, 255)[axis % 2], "convention": convention}
                step = RNG.uniform(0.01, 0.1, n)
                if convention in OFFSETS:
                    del numbers["convention"]
                    use(by_offset(convention, step, step * -30, **numbers), x)
                else:
                    use(zp.QuantParams(step, RNG.integers(1, 255, n), **numbers), x)


@pytest.mark.parametrize("convention", [*zp.CONVENTIONS, *OFFSETS])
def test_check_finite_with_a_code_for_nan(backend: str, convention: str) -> None:
    x = np.array([1, np.nan, 2], np.float32)
    params = zp.choose_params(x, convention=convention, nan_code=0, skip_nan=True)
    assert zp.quantize(x, params, check_finite=True).tolist() == params.quantize(x).tolist()
    out = np.full(3, 77, np.uint8)
    x[2] = np.inf
    with pytest.raises(ValueError, match=r"x has 1 Inf of 3 elements, .* at index \(2,\)"):
        zp.quantize(x, params, check_finite=True, out=out)
    assert out.tolist() == [77] * 3


# ---- data without NaN ------------------------------------------------------------------------


def present(x: Array) -> Array:
    return x[~np.isnan(x.astype(np.float64))]


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_ranges_without_nan(isa: str, dtype: np.dtype[Any]) -> None:
    for size in SIZES[1:]:
        x = (RNG.normal(size=size) * 100).astype(dtype)
        for share in (0, 0.1, 0.5, 0.97):
            y = np.where(RNG.random(size) < share, np.asarray(np.nan, dtype), x)
            if present(y).size:
                found = zp.min_max(y, skip_nan=True)
                assert found == zp.min_max(present(y))
                assert zp.choose_params(y, skip_nan=True) == zp.choose_params(present(y))
            else:
                with pytest.raises(ValueError, match="no data"):
                    zp.min_max(y, skip_nan=True)


@pytest.mark.parametrize("convention", ["numpy", "onnx", "torch", "tflite", *OFFSETS])
def test_channels_without_nan(isa: str, convention: str) -> None:
    """Parameters and codes of each channel and block are those of its data without NaN."""
    for dtype in REALS:
        for shape in [(5, 300), (9, 4, 7), (40, 3, 11)]:
            x = (RNG.normal(size=shape) * 3 + 1).astype(dtype)
            x[RNG.random(shape) < 0.3] = np.nan
            x.flat[:: max(shape)] = 0.5  # something in each channel
            for axis in range(len(shape)):
                how = {"convention": convention, "nan_code": 0}
                if np.isnan(x).all(axis=tuple(i for i in range(x.ndim) if i != axis)).any():
                    continue
                q, params = zp.quantize_dynamic(x, axis=axis, skip_nan=True, **how)
                assert params == zp.choose_params(x, axis=axis, skip_nan=True, **how)
                assert q.tobytes() == params.quantize(x).tobytes()
                for i, channel in enumerate(np.moveaxis(x, axis, 0)):
                    want = zp.choose_params(present(channel), **how)
                    for mine, theirs in zip(params._arrays, want._arrays, strict=True):
                        assert mine[i] == theirs


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_inf_anywhere_is_found(native: str, dtype: np.dtype[Any]) -> None:
    """Among NaN too, in its own channel alone."""
    core = zp._backend._core
    isa = zp.backends().index(native)
    for n in (1, 3, 16, 17, 95, 300):
        x = RNG.normal(size=(5, n)).astype(dtype)
        x[RNG.random(x.shape) < 0.4] = np.nan
        for element in range(0, x.size, max(1, x.size // 37)):
            row, column = divmod(element, n)
            for bad in (np.inf, -np.inf):
                y = x.copy()
                y[row, column] = bad
                for axis, z in ((0, y), (1, np.ascontiguousarray(y.T))):
                    low, high = core.ranges(isa, z, axis, 0, True)
                    # Inf is an end of the range; without data it goes from Inf to -Inf
                    infinite = np.where(low > high, False, np.isinf(low) | np.isinf(high))
                    assert infinite.tolist() == (np.arange(5) == row).tolist()
                    with pytest.raises(ValueError, match=r"x has 1 Inf of"):
                        zp.choose_params(z, skip_nan=True)
