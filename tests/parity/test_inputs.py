"""What goes in beside ndarrays: torch tensors, columns, DLPack, buffers; without importing them."""

from __future__ import annotations

import array
import contextlib
import ctypes
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
        lambda: zp.round(x),
        lambda: zp.compare(x),
        lambda: zp.error_stats(x, PARAMS),
        lambda: zp.MinMaxObserver().update(x),
        lambda: zp.HistogramObserver().update(x),
        lambda: zp.quantize([x, x], PARAMS),
    ]


def other_functions(x: Any) -> list[Any]:
    """Calls that take codes, accumulators or parameters."""
    return [
        lambda: zp.saturate(x, 0, 5),
        lambda: zp.saturate_cast(x, "uint8"),
        lambda: zp.dequantize(x, PARAMS),
        lambda: zp.requantize(x, 0.1, PARAMS),
        lambda: zp.requantize(np.zeros((1, 3), np.int32), x, zp.QuantParams([1.0] * 3, 0, axis=1)),
        lambda: zp.QuantParams(x, 0, axis=0),
        lambda: zp.QuantParams([1.0] * 3, x, axis=0),
        lambda: zp.QuantParams([1.0], 0, axis=x),
        lambda: zp.choose_params(VALUES, axis=0, block_size=x),
    ]


@pytest.mark.parametrize("real", REALS)
def test_tensor_that_requires_grad(torch, backend, real):
    tensor = torch.ones(3, dtype=getattr(torch, real), requires_grad=True)
    for call in functions(tensor):
        with pytest.raises(TypeError, match=r"(x|x\[0\]) requires grad; pass \1\.detach\(\)"):
            call()
    np.testing.assert_array_equal(zp.quantize(tensor.detach(), PARAMS), [120] * 3)


def test_tensor_that_is_lazily_negated(torch, backend):
    # its memory holds the values with the other sign
    tensor = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    for call in functions(tensor):
        with pytest.raises(
            TypeError, match=r"^(x|x\[0\]) .*negative bit set; pass \1\.resolve_neg\(\)"
        ):
            call()
    np.testing.assert_array_equal(
        zp.quantize(tensor.resolve_neg(), PARAMS), PARAMS.quantize(-np.float32([2, -4]))
    )


def test_integer_tensor(torch, backend):
    for call in functions(torch.arange(3)):
        with pytest.raises(TypeError, match="x has dtype int64"):
            call()


def without_memory(torch: Any) -> dict[str, Any]:
    """Tensors that only look as if their memory held their values."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls, inner: Any) -> Any:
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        @classmethod
        def __torch_dispatch__(
            cls, function: Any, types: Any, args: Any = (), keywords: Any = None
        ) -> Any:
            return function(*(getattr(a, "inner", a) for a in args), **(keywords or {}))

    def freed(x: Any) -> Any:
        x.untyped_storage().resize_(0)
        return x

    found = {
        "meta": torch.ones(3, device="meta"),
        "sparse": torch.ones(3).to_sparse(),
        "functional": torch._to_functional_tensor(torch.ones(3)),
        "zero": torch._efficientzerotensor(3),
        "freed": freed(torch.ones(3)),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
        "MKL-DNN": torch.ones(3).to_mkldnn(),
    }
    fake = FakeTensorMode()
    for dtype in (torch.float32, torch.bfloat16, torch.int32, torch.uint8):
        found[f"fake {dtype}"] = fake.from_tensor(torch.ones(3, dtype=dtype))
        found[f"wrapper {dtype}"] = Wrapper(torch.ones(3, dtype=dtype))
        found[f"freed {dtype}"] = freed(torch.ones(3, dtype=dtype))
    return found


@pytest.mark.filterwarnings("ignore")  # torch has some for what it will no longer make
def test_tensors_without_memory(torch):
    """Not one call reads what happens to be there."""
    for name, tensor in without_memory(torch).items():
        for number, call in enumerate(functions(tensor) + other_functions(tensor)):
            with pytest.raises(TypeError, match="^(x|q|acc|scale|zero_point|axis|block_size)"):
                pytest.fail(f"{name}, call {number} gives {call()}")


def test_tensors_of_a_transform(torch):
    def under(x: Any) -> Any:
        for call in functions(x) + other_functions(x):
            with pytest.raises(TypeError, match="cannot be viewed|requires grad|no memory"):
                pytest.fail(f"gives {call()}")
        return x.sum()

    torch.func.vmap(under)(torch.ones(2, 3))
    torch.func.grad(under)(torch.ones(3))
    torch.func.functionalize(under)(torch.ones(3))


def test_scale_and_zero_point_of_tensors(torch):
    """One reader for both, and for `acc_scale`."""
    expected = zp.QuantParams(np.float32([0.5, 0.25]), [1, 2], axis=0)
    scale, zero = torch.tensor([0.5, 0.25]), torch.tensor([1, 2])
    assert zp.QuantParams(scale, zero, axis=0) == expected
    assert zp.QuantParams(list(scale), list(zero), axis=0) == expected
    assert zp.QuantParams(scale.bfloat16(), zero.to(torch.int8), axis=0) == expected
    assert zp.QuantParams(scale[0], zero[0]) == zp.QuantParams(0.5, 1)
    assert zp.QuantParams(scale.double(), zero, axis=0).scale.dtype == np.float64
    acc = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.testing.assert_array_equal(
        zp.requantize(torch.from_numpy(acc), scale, expected),
        zp.requantize(acc, [0.5, 0.25], expected),
    )
    for wrong, message in {
        scale.requires_grad_(): r"{} requires grad; pass {}\.detach\(\)",
        torch.ones(2, device="meta"): "{} is on device meta and has no data",
        torch.ones(2).to_sparse(): r"{} cannot be viewed .*to_dense\(\)",
    }.items():
        for call, name in (
            (lambda wrong: zp.QuantParams(wrong, 0, axis=0), "scale"),
            (lambda wrong: zp.QuantParams([1.0, 1.0], wrong, axis=0), "zero_point"),
            (lambda wrong: zp.requantize(acc, wrong, expected), "acc_scale"),
        ):
            with pytest.raises(TypeError, match=message.replace("{}", name)):
                call(wrong)
    for wrong in (torch.tensor(3.0), torch.tensor(True), torch.tensor([True, False])):
        with pytest.raises(TypeError, match="zero_point must"):
            zp.QuantParams(1.0, wrong)
    with pytest.raises(TypeError, match="zero_point must hold integers, not float32"):
        zp.QuantParams([1.0, 1.0], torch.ones(2), axis=0)
    with pytest.raises(ValueError, match=r"zero_point has shape \(1,\)"):
        zp.QuantParams(1.0, torch.tensor([3]))
    with pytest.raises(TypeError, match="qmin must be an integer"):
        zp.saturate(VALUES, torch.tensor(False), 5)


# ---------------------------------------------------------------------------------------------
# Columns and tables


def advised(error: Any, x: Any) -> Any:
    """What each way that a message advises makes of `x`."""
    ways = str(error.value).partition("for example ")[2].split(" or ")
    return [eval(way, {"x": x, "numpy": np}) for way in ways]


def tables(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """By a name: columns and tables that miss something, and the same without a gap."""
    given: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for found, gap in zip(given, (None, 2), strict=True):
        if kind == "pandas":
            pd = pytest.importorskip("pandas")
            for dtype in ("Float32", "Float64", "UInt8"):
                found[dtype] = pd.Series([1, gap, 3], dtype=dtype)
            found["array"] = pd.array([1, gap, 3], dtype="Float32")
            found["index"] = pd.Index(pd.array([1, gap, 3], dtype="Float32"))
            found["table"] = pd.DataFrame({"a": found["Float32"], "b": np.ones(3, np.float32)})
            with contextlib.suppress(ImportError):
                found["Arrow"] = pd.Series([1, gap, 3], dtype="float[pyarrow]")
                found["Arrow table"] = pd.DataFrame({"a": found["Arrow"]})
        elif kind == "pyarrow":
            pa = pytest.importorskip("pyarrow")
            for dtype in (pa.float32(), pa.float64(), pa.uint8()):
                found[str(dtype)] = pa.array([1, gap, 3], dtype)
            found["slice"] = pa.array([1, gap, 3], pa.float32())[1:]
            found["chunks"] = pa.chunked_array([pa.array([1, gap, 3], pa.float32())])
            found["table"] = pa.table({"a": found["float"]})
            found["batch"] = pa.record_batch({"a": found["float"]})
        else:
            pl = pytest.importorskip("polars")
            for dtype in (pl.Float32, pl.Float64, pl.UInt8):
                found[str(dtype)] = pl.Series([1, gap, 3], dtype=dtype)
            found["table"] = pl.DataFrame({"a": found["Float32"]})
            rows = [[1, 2], gap and [gap, gap], [3, 4]]
            found["rows"] = pl.Series(rows, dtype=pl.Array(pl.Float32, 2))
            found["in a row"] = pl.Series([[1, 2], [gap, 3]], dtype=pl.Array(pl.Float32, 2))
    return given


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "polars"])
def test_missing_values(kind):
    """They have no code: they came out as qmin."""
    missing, full = tables(kind)
    for name, x in missing.items():
        for call in functions(x) + other_functions(x)[:7]:
            with pytest.raises(TypeError, match="missing values .*, 1 in number; fill"):
                pytest.fail(f"{name} gives {call()}")
        with pytest.raises(TypeError) as error:
            zp.quantize(x, PARAMS)
        for result in advised(error, x):
            if "8" not in name and name not in ("table", "Arrow table"):
                assert 0 < zp.quantize(result, PARAMS).size <= np.asarray(x).size
            elif "8" in name:
                assert zp.dequantize(np.asarray(result, np.uint8), PARAMS).size in (2, 3)
    for name, x in full.items():
        if "8" not in name and (kind, name) != ("pandas", "table"):
            np.testing.assert_array_equal(
                zp.quantize(x, PARAMS), zp.quantize(np.asarray(x), PARAMS)
            )


def test_nan_in_a_column_is_a_value():
    pd = pytest.importorskip("pandas")
    x = pd.Series([1, np.nan, 3], dtype="float32")
    np.testing.assert_array_equal(zp.quantize(x, PARAMS), [120, 0, 160])
    x = pytest.importorskip("polars").Series([1.0, np.nan, 3.0])
    np.testing.assert_array_equal(zp.quantize(x, PARAMS), [120, 0, 160])


def test_columns_of_rows():
    """The advice works, and gives the values in their order."""
    pd, pa, pl = map(pytest.importorskip, ("pandas", "pyarrow", "polars"))
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    fixed = pa.array(rows.tolist(), pa.list_(pa.float32(), 2))
    for x in (
        pd.Series(rows.tolist()),
        pd.Series(list(rows), index=[5, 3, 1]),
        pd.Series(pd.arrays.ArrowExtensionArray(fixed)),
        fixed,
        pa.concat_arrays([fixed, fixed])[2:5].take(pa.array([1, 2, 0])),
        pa.chunked_array([fixed[:1], fixed[1:]]),
        pa.array(rows.tolist(), pa.list_(pa.float32())),
        pa.array([[row] for row in rows.tolist()], pa.list_(pa.list_(pa.float32(), 2), 1)),
        pl.Series(rows.tolist(), dtype=pl.List(pl.Float32)),
    ):
        with pytest.raises(TypeError, match="x has dtype object .*for example ") as error:
            zp.quantize(x, PARAMS)
        (stacked,) = advised(error, x)
        if len(x) == 3 and not np.array_equal(stacked, rows):
            assert sorted(stacked.tolist()) == rows.tolist()
        np.testing.assert_array_equal(
            zp.quantize(stacked, PARAMS), zp.quantize(np.float32(stacked), PARAMS)
        )
    with_gap = pa.array([[1, 2], None], pa.list_(pa.float32(), 2))
    within = pa.array([[1, None], [3, 4]], pa.list_(pa.float32(), 2))
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), within)
    for x in (
        with_gap,
        within,
        tensors,
        pa.chunked_array([within]),
        pl.Series([[1.0, None], [3.0]]),
    ):
        with pytest.raises(TypeError, match="missing values") as error:
            zp.quantize(x, PARAMS)
        if not isinstance(x, pl.Series):
            for result in advised(error, x):
                assert len(result) in (1, 2)
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), fixed)
    np.testing.assert_array_equal(zp.quantize(tensors, PARAMS), zp.quantize(rows, PARAMS))
    with pytest.raises(TypeError, match="its rows have 1 to 2 elements"):
        zp.quantize(pd.Series([[1.0], [1.0, 2.0]]), PARAMS)


def test_the_advice_for_other_dtypes(torch):
    pd, pa, pl = map(pytest.importorskip, ("pandas", "pyarrow", "polars"))
    for x in (
        torch.arange(3),
        pd.Series([1, 2]),
        pd.Series([1, 2], dtype="Int32"),
        pd.DataFrame({"a": [1, 2]}),
        pa.array([1, 2]),
        pa.table({"a": [1, 2]}),
        pa.scalar(1.0),
        pl.Series([1, 2]),
        torch.ones(3).to(torch.float8_e4m3fn),
    ):
        with pytest.raises(TypeError, match="for example ") as error:
            zp.quantize(x, PARAMS)
        (result,) = advised(error, x)
        assert zp.quantize(result, PARAMS).dtype == np.uint8
    with pytest.raises(TypeError, match=r"LazyFrame; .* x\.collect\(\)"):
        zp.quantize(pl.LazyFrame({"a": [1.0]}), PARAMS)


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "polars"])
def test_scale_and_zero_point_of_columns(kind):
    package = pytest.importorskip(kind)
    column = package.array if kind == "pyarrow" else package.Series
    scale, zero = column([0.5, 0.25]), column([1, 2])
    params = zp.QuantParams(scale, zero, axis=0)
    assert params == zp.QuantParams(np.array([0.5, 0.25]), [1, 2], axis=0)
    with pytest.raises(TypeError, match="zero_point has missing values"):
        zp.QuantParams(
            scale,
            package.array([1, None], "Int8") if kind == "pandas" else column([1, None]),
            axis=0,
        )


class OnDevice:
    """Something that speaks DLPack and lives on a device; its memory must not be asked for."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("the device should have been refused")


class Pinned:
    """An array that says through DLPack that its memory belongs to another device."""

    def __init__(self, x: Any, kind: int, address: bool = True) -> None:
        self.x, self.kind, self.address = x, kind, address

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, **_: Any) -> Any:
        capsule = self.x.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        tensor = pointer(capsule, b"dltensor")  # its data, then the type of its device
        ctypes.c_int32.from_address(tensor + ctypes.sizeof(ctypes.c_void_p)).value = self.kind
        if not self.address:
            ctypes.c_void_p.from_address(tensor).value = None
        return capsule


@pytest.mark.parametrize("kind", [1, 3, 11, 13], ids=["CPU", "CUDA's host", "ROCm's", "managed"])
def test_memory_that_the_cpu_can_read(backend, kind):
    x = VALUES.astype(np.float32)
    assert np.shares_memory(_checks.array(Pinned(x, kind), "x"), x)
    np.testing.assert_array_equal(zp.quantize(Pinned(x, kind), PARAMS), zp.quantize(x, PARAMS))
    for call in functions(Pinned(x, kind, address=False)):
        with pytest.raises(TypeError, match="no memory: DLPack gives no address"):
            call()


@pytest.mark.parametrize("kind", [2, 4, 8, 10], ids=["CUDA", "OpenCL", "Metal", "ROCm"])
def test_other_device(backend, kind):
    for call in functions(OnDevice(kind)):
        with pytest.raises(
            TypeError, match=r"^(.*) is on .*not on the CPU; copy it .* example \1\.cpu\(\)"
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
        "zp.quantize(x, zp.choose_params(x)); zp.choose_params([1.0, 2.0]); "
        "others = ('torch', 'ml_dtypes', 'onnx', 'onnxruntime', 'pandas', 'pyarrow', 'polars'); "
        "print([m for m in others if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]", ran.stdout
