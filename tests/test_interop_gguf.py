"""zeropoint.interop.gguf by hand and on bad input; `tests/parity/test_gguf.py` has the engine."""

from __future__ import annotations

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _q8_0
from zeropoint.interop.gguf import dequantize_q8_0, quantize_q8_0

ONE = np.float32([127, -127, 0.5, -0.5, 1.5, 0.49999997, 2.5, *[0] * 25])  # d is 1


def test_a_block(backend: str) -> None:
    blocks = quantize_q8_0(ONE)
    assert (
        blocks.tobytes() == b"\x00\x3c" + np.int8([127, -127, 1, -1, 2, 0, 3, *[0] * 25]).tobytes()
    )
    assert dequantize_q8_0(blocks).tolist() == [127, -127, 1, -1, 2, 0, 3, *[0] * 25]


def test_scales_at_the_ends(backend: str) -> None:
    # the scale is stored as 0, not so the codes
    assert quantize_q8_0(np.float32([1e-10] * 32)).tobytes() == b"\0\0" + b"\x7f" * 32
    # 1 / d is Inf: the codes are 0 too
    assert not quantize_q8_0(np.float32([1e-37] * 32)).any()
    assert quantize_q8_0(np.float32([1e-35] * 32)).any()
    largest = np.nextafter(np.float32(65520 * 127), np.float32(0))
    assert quantize_q8_0(np.float32([largest] * 32))[:2].tobytes() == b"\xff\x7b"
    x = np.zeros((3, 4, 64), np.float32)
    x[2, 1, 40] = -65520 * 127
    with pytest.raises(ValueError, match=r"the scale of block 19 would be 65520.0, which float16"):
        quantize_q8_0(x)
    with pytest.raises(ValueError, match=r"the scale of block 0 would be inf"):
        quantize_q8_0(np.full(32, 1e300))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8"])
def test_nonfinite(backend: str, dtype: str, bad: float) -> None:
    x = np.ones((3, 5, 96), dtype)
    x[1, 2, 40:42] = bad
    with pytest.raises(ValueError, match=r"x has 2 NaN or Inf of 1440 elements.*\(1, 2, 40\)"):
        quantize_q8_0(x)
    blocks = np.zeros((2, 68), np.uint8)
    blocks[1, 34:36] = np.array(bad, "<f2").reshape(1).view(np.uint8)
    with pytest.raises(ValueError, match=f"the scale of block 3 is {bad}"):
        dequantize_q8_0(blocks)
    with pytest.raises(ValueError, match=f"the scale of block 3 is {bad}"):
        _q8_0.split(blocks)


def test_bad_shapes_and_types() -> None:
    for shape in [(), (31,), (32, 33)]:
        with pytest.raises(ValueError, match=r"x has shape .* divides by 32; pad it with zeros"):
            quantize_q8_0(np.ones(shape, np.float32))
        with pytest.raises(ValueError, match=r"blocks has shape .* divides by 34"):
            dequantize_q8_0(np.ones(shape, np.uint8))
    with pytest.raises(TypeError, match="x has dtype int8"):
        quantize_q8_0(np.ones(32, np.int8))
    with pytest.raises(TypeError, match="blocks has dtype int8 where uint8 is needed"):
        dequantize_q8_0(np.ones(34, np.int8))
    with pytest.raises(TypeError, match="dtype 'int8' is not supported"):
        dequantize_q8_0(np.zeros(34, np.uint8), dtype="int8")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_shapes_and_dtypes(backend: str, dtype: str) -> None:
    real = np.dtype(getattr(pytest.importorskip("ml_dtypes"), dtype, dtype))
    for shape in [(0,), (2, 0), (0, 64), (96,), (3, 2, 64)]:
        x = np.random.default_rng(0).normal(size=shape).astype(real)
        blocks = quantize_q8_0(x)
        assert blocks.shape == (*shape[:-1], shape[-1] // 32 * 34)
        values = dequantize_q8_0(blocks, dtype=dtype)
        assert values.shape == shape
        assert values.dtype == real
        wide = dequantize_q8_0(np.asfortranarray(blocks))
        assert values.tobytes() == wide.astype(real).tobytes()


def test_blocks_are_parameters_and_codes(backend: str) -> None:
    """What `zp.quantize` makes by blocks of 32 in the ggml convention."""
    x = np.random.default_rng(1).normal(size=(40, 96)).astype(np.float32)
    how = {"axis": 1, "block_size": 32, "convention": "ggml", "symmetric": True, "qmin": -127}
    codes, params = zp.quantize_dynamic(x, "int8", **how)
    blocks = quantize_q8_0(x)
    scale, same = _q8_0.split(blocks)
    assert same.tobytes() == codes.tobytes()
    assert scale.tobytes() == params.scale.astype(np.float16).astype(np.float32).tobytes()
    stored = zp.QuantParams(scale.reshape(40, 3), 0, "int8", axis=1, block_size=32)
    assert stored.dequantize(codes).tobytes() == dequantize_q8_0(blocks).tobytes()
