"""What goes in beside ndarrays: torch tensors, DLPack, buffers; without a copy, without torch."""

from __future__ import annotations

import array
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _checks

PARAMS = zp.QuantParams(0.05, 100)
VALUES = np.linspace(-4, 4, 60).reshape(5, 12)


@pytest.fixture(scope="session")
def torch() -> Any:
    return pytest.importorskip("torch")


def address(x: Any) -> int:
    """Where the first element is that zeropoint sees."""
    return _checks.array(x, "x").__array_interface__["data"][0]


# Ways to have a tensor that is not contiguous, as indexing and as transposing.
LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.T,
    "every third column": lambda t: t[:, ::3],
    "a slice": lambda t: t[1:4, 2:9],
    "one column": lambda t: t[:, 5],
    "one element": lambda t: t[2, 3],
    "nothing": lambda t: t[:0],
}
# torch's dtype: the same in NumPy
REALS = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("real", REALS)
def test_tensor_is_viewed(torch, real, layout):
    """The same memory, strides and all."""
    tensor = LAYOUTS[layout](torch.from_numpy(VALUES).to(getattr(torch, real)))
    seen = _checks.array(tensor, "x")
    assert seen.dtype == REALS[real]
    assert seen.shape == tuple(tensor.shape)
    if seen.size:
        assert address(tensor) == tensor.data_ptr()
        assert seen.strides == tuple(s * tensor.element_size() for s in tensor.stride())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("real", REALS)
def test_tensor_equals_array(torch, backend, real, layout):
    """Every function makes of a tensor what it makes of the array."""
    tensor = LAYOUTS[layout](torch.from_numpy(VALUES).to(getattr(torch, real)))
    x = LAYOUTS[layout](VALUES.astype(REALS[real]))
    q = zp.quantize(x, PARAMS)
    np.testing.assert_array_equal(zp.quantize(tensor, PARAMS), q)
    found = zp.fake_quantize(tensor, PARAMS)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, zp.fake_quantize(x, PARAMS))
    codes = torch.from_numpy(np.asarray(q))
    np.testing.assert_array_equal(zp.dequantize(codes, PARAMS), zp.dequantize(q, PARAMS))
    if x.size:
        assert zp.choose_params(tensor) == zp.choose_params(x)


@pytest.mark.parametrize("code", ["uint8", "int8"])
def test_tensor_of_codes_is_viewed(torch, code):
    tensor = torch.arange(60, dtype=getattr(torch, code)).reshape(5, 12)[:, ::2]
    assert address(tensor) == tensor.data_ptr()
    assert _checks.array(tensor, "q").dtype == code


def test_what_changes_in_the_tensor_is_seen(torch, backend):
    tensor = torch.zeros(4)
    seen = _checks.array(tensor, "x")
    tensor += 1
    np.testing.assert_array_equal(seen, np.ones(4))
    np.testing.assert_array_equal(zp.quantize(tensor, PARAMS), [120] * 4)


def functions(x: Any) -> list[Any]:
    """Calls that take real values, one for each function."""
    return [
        lambda: zp.quantize(x, PARAMS),
        lambda: zp.fake_quantize(x, PARAMS),
        lambda: zp.choose_params(x),
        lambda: zp.quantize_dynamic(x),
        lambda: zp.min_max(x),
    ]


@pytest.mark.parametrize("real", REALS)
def test_tensor_that_requires_grad(torch, backend, real):
    tensor = torch.ones(3, dtype=getattr(torch, real), requires_grad=True)
    for call in functions(tensor):
        with pytest.raises(TypeError, match=r"requires grad; pass x\.detach\(\)"):
            call()
    np.testing.assert_array_equal(zp.quantize(tensor.detach(), PARAMS), [120] * 3)


def test_tensor_that_is_lazily_negated(torch, backend):
    # its memory holds the values with the other sign
    tensor = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    for call in functions(tensor):
        with pytest.raises(TypeError, match=r"negative bit set; pass x\.resolve_neg\(\)"):
            call()
    np.testing.assert_array_equal(
        zp.quantize(tensor.resolve_neg(), PARAMS), PARAMS.quantize(-np.float32([2, -4]))
    )


def test_integer_tensor(torch, backend):
    for call in functions(torch.arange(3)):
        with pytest.raises(TypeError, match="x has dtype int64"):
            call()


class OnDevice:
    """Something that speaks DLPack and lives on a device; its memory must not be asked for."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("the device should have been refused")


@pytest.mark.parametrize("kind", [2, 4, 8, 10], ids=["CUDA", "OpenCL", "Metal", "ROCm"])
def test_other_device(backend, kind):
    for call in functions(OnDevice(kind)):
        with pytest.raises(
            TypeError, match=r"not on the CPU; copy it first, for example x\.cpu\(\)"
        ):
            call()
    with pytest.raises(TypeError, match=r"q is on device .*copy it first"):
        zp.dequantize(OnDevice(kind), PARAMS)


class Exported:
    """An array that can only be had through DLPack, as from another library."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.x.__dlpack__(**keywords)


@pytest.mark.parametrize("real", ["float16", "float32", "float64"])
def test_dlpack_without_torch(backend, real):
    x = VALUES.astype(real)[:, ::2]
    assert address(Exported(x)) == x.__array_interface__["data"][0]
    np.testing.assert_array_equal(zp.quantize(Exported(x), PARAMS), zp.quantize(x, PARAMS))


BUFFERS = {
    "array.array of float32": array.array("f", [-1, 0.5, 1]),
    "array.array of float64": array.array("d", [-1, 0.5, 1]),
    "memoryview": memoryview(array.array("f", [-1, 0.5, 1])),
    "read-only memoryview": memoryview(np.array([-1, 0.5, 1], np.float32).tobytes()).cast("f"),
    "strided memoryview": memoryview(array.array("f", [-1, 9, 0.5, 9, 1]))[::2],
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers(backend, name):
    buffer = BUFFERS[name]
    assert np.shares_memory(_checks.array(buffer, "x"), np.asarray(buffer))
    np.testing.assert_array_equal(zp.quantize(buffer, PARAMS), [80, 110, 120])
    np.testing.assert_array_equal(
        zp.fake_quantize(buffer, PARAMS), zp.fake_quantize(np.asarray(buffer), PARAMS)
    )
    assert zp.choose_params(buffer) == zp.choose_params(np.asarray(buffer))


def test_buffer_of_codes(backend):
    expected = np.array([-5, 0, 7.75], np.float32)
    for buffer in (bytearray([0, 100, 255]), array.array("B", [0, 100, 255])):
        np.testing.assert_array_equal(zp.dequantize(memoryview(buffer), PARAMS), expected)


def test_import_does_not_import_others():
    """`import zeropoint`, and a call, load neither torch nor any other optional package."""
    program = (
        "import sys, numpy, zeropoint as zp; x = numpy.ones(3, 'f'); "
        "zp.quantize(x, zp.choose_params(x)); "
        "print([m for m in ('torch', 'ml_dtypes', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]", ran.stdout
