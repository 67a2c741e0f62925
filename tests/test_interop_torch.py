"""zeropoint.interop.torch beside torch: its observers' parameters, the bits of its operators."""

from __future__ import annotations

import subprocess
import sys
import types
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _extras

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.ao import quantization as ao  # noqa: E402
from torch.ao.quantization.fx import _decomposed  # noqa: E402, F401  (registers OPERATORS)

from zeropoint.interop import torch as zpt  # noqa: E402

from .parity import data  # noqa: E402

OPERATORS = torch.ops.quantized_decomposed
PARAMS = zp.QuantParams(0.05, 100, convention="torch")
VALUES = torch.linspace(-4, 9, 60).reshape(5, 12)
REALS = {
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float32: np.float32,
    torch.float64: np.float64,
}
LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.T,
    "every third column": lambda t: t[:, ::3],
    "one row, repeated": lambda t: t[1].expand(4, 12),
    "one element": lambda t: t[2, 3],
    "nothing": lambda t: t[:0],
}


def made(maker: Any, **keywords: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use quant_min and quant_max", UserWarning)
        return maker(**keywords)


# name: how to make an observer or a fake-quantize module; what it has is asked of torch itself
MODULES = {
    "MinMax": lambda: ao.MinMaxObserver(),
    "MinMax qint8": lambda: ao.MinMaxObserver(dtype=torch.qint8),
    "MinMax uint8": lambda: ao.MinMaxObserver(dtype=torch.uint8),
    "MinMax int8": lambda: ao.MinMaxObserver(dtype=torch.int8),
    "reduced quint8": lambda: made(ao.MinMaxObserver, reduce_range=True),
    "reduced qint8": lambda: made(ao.MinMaxObserver, dtype=torch.qint8, reduce_range=True),
    "4 bits": lambda: ao.MinMaxObserver(quant_min=0, quant_max=15),
    "symmetric": lambda: ao.MinMaxObserver(qscheme=torch.per_tensor_symmetric, dtype=torch.qint8),
    "symmetric quint8": lambda: ao.MinMaxObserver(qscheme=torch.per_tensor_symmetric),
    "symmetric -127": ao.weight_observer_range_neg_127_to_127,
    "MovingAverage": lambda: ao.MovingAverageMinMaxObserver(),
    "Histogram": lambda: ao.HistogramObserver(),
    "Fixed": lambda: ao.FixedQParamsObserver(1 / 256, 0),
    "FakeQuantize": ao.default_fake_quant,
    "FakeQuantize of weights": ao.default_weight_fake_quant,
    "FixedQParamsFakeQuantize": ao.default_fixed_qparams_range_neg1to1_fake_quant,
    "Fused": ao.FusedMovingAvgObsFakeQuantize,
    "PerChannel": lambda: ao.PerChannelMinMaxObserver(),
    "PerChannel, last axis": lambda: ao.PerChannelMinMaxObserver(ch_axis=2, dtype=torch.int8),
    "PerChannel symmetric": ao.default_per_channel_weight_observer,
    "PerChannel reduced": lambda: made(ao.PerChannelMinMaxObserver, reduce_range=True, ch_axis=1),
    "PerChannel MovingAverage": lambda: ao.MovingAveragePerChannelMinMaxObserver(ch_axis=1),
    "PerChannel FakeQuantize": ao.default_per_channel_weight_fake_quant,
    "PerChannel Fused": ao.default_fused_per_channel_wt_fake_quant,
}


def observed(name: str) -> Any:
    """The module after three batches."""
    module, generator = made(MODULES[name]), torch.Generator().manual_seed(7)
    for _ in range(3):
        spread = torch.rand(6, 1, 1, generator=generator) * 3
        module(torch.randn(6, 5, 7, generator=generator) * spread + 0.3)
    return module


def edges(p: zp.QuantParams) -> Any:
    """Data of three axes where recipes part: half steps and their neighbours, far values."""
    rng = np.random.default_rng(3)
    scales, zeros = np.atleast_1d(p.scale), np.atleast_1d(p.zero_point)
    rows = [
        data.values(s, int(z), p.qmin, p.qmax, rng, reach=2.0**60)
        for s, z in zip(scales, zeros, strict=True)
    ]
    x = np.stack(rows).reshape(len(rows), -1, 16)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 0, p.axis or 0)))


# ---------------------------------------------------------------------------------------------
# Parameters, and the bits of torch's operators with them


@pytest.mark.parametrize("name", MODULES)
def test_params_are_the_modules(name):
    module = observed(name)
    scale, zero_point = module.calculate_qparams()
    observer = getattr(module, "activation_post_process", module)
    p = zpt.from_torch(module)
    np.testing.assert_array_equal(np.atleast_1d(p.scale), scale.numpy())
    np.testing.assert_array_equal(np.atleast_1d(p.zero_point), zero_point.numpy())
    assert (p.qmin, p.qmax) == (observer.quant_min, observer.quant_max)
    assert p.dtype.name in str(module.dtype).replace("qint", "int").replace("quint", "uint")
    assert (p.dtype == np.uint8) == ("uint8" in str(module.dtype))
    assert p.axis == (observer.ch_axis if name.startswith("PerChannel") else None)
    assert p.convention == "torch"


@pytest.mark.parametrize("name", MODULES)
def test_codes_are_those_of_torch(name, backend):
    """quantize and dequantize of PT2E, and fake_quantize, bit for bit, with ``to_torch``."""
    p = zpt.from_torch(observed(name))
    scale, zero_point, qmin, qmax, dtype = zpt.to_torch(p)
    x = edges(p)
    if p.axis is None:
        how = scale, zero_point, qmin, qmax
        q = OPERATORS.quantize_per_tensor(x, *how, dtype)
        y = OPERATORS.dequantize_per_tensor(q, *how, dtype)
        fake = torch.fake_quantize_per_tensor_affine(x, *how)
    else:
        how = scale, zero_point, p.axis, qmin, qmax
        q = OPERATORS.quantize_per_channel(x, *how, dtype)
        y = OPERATORS.dequantize_per_channel(q, *how, dtype)
        fake = torch.fake_quantize_per_channel_affine(x, *how)
    same(zpt.quantize(x, p), q)
    same(zpt.dequantize(q, p), y)
    same(zpt.fake_quantize(x, p), fake)


def same(ours: Any, theirs: Any) -> None:
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))


@pytest.mark.parametrize("name", ["FakeQuantize", "FakeQuantize of weights"])
def test_fake_quantize_modules(name):
    """What the module itself makes of data, once its observer rests."""
    module = observed(name)
    ao.disable_observer(module)
    p = zpt.from_torch(module)
    x = edges(p)
    same(zpt.fake_quantize(x, p), module(x))


def test_round_trip_through_to_torch():
    for p in (PARAMS, zp.QuantParams(np.float32([0.1, 3]), [-5, 7], "int8", qmin=-127, axis=1)):
        scale, zero_point, qmin, qmax, dtype = zpt.to_torch(p)
        assert dtype == {"uint8": torch.uint8, "int8": torch.int8}[p.dtype.name]
        if p.axis is None:
            assert (type(scale), type(zero_point)) == (float, int)
        else:
            assert (scale.dtype, zero_point.dtype) == (torch.float32, torch.int32)
            scale, zero_point = scale.numpy(), zero_point.numpy()
        back = zp.QuantParams(
            np.float32(scale), zero_point, str(dtype)[6:], qmin=qmin, qmax=qmax, axis=p.axis,
            convention=p.convention,
        )  # fmt: skip
        assert back == p
        fresh = zpt.to_torch(p)[0]
        if p.axis is not None:
            fresh[0] = 9  # their memory is their own
            assert p.scale[0] == np.float32(0.1)


def test_float64_scales_are_rounded_as_torch_does():
    p = zp.QuantParams(np.float64(0.1), 3, convention="torch")
    scale, zero_point, qmin, qmax, dtype = zpt.to_torch(p)
    assert scale == float(np.float32(0.1)) != p.scale
    x = edges(p)
    theirs = OPERATORS.quantize_per_tensor(x, scale, zero_point, qmin, qmax, dtype)
    same(zpt.quantize(x, p), theirs)


def test_params_that_torch_cannot_have():
    with pytest.raises(ValueError, match=r"block_size 2, .* use quantize of this module"):
        zpt.to_torch(zp.QuantParams([[0.1, 0.2]], 0, axis=1, block_size=2))
    with pytest.raises(ValueError, match=r"zero_point 300 is outside \[0, 255\]"):
        zpt.to_torch(zp.QuantParams(0.1, 300, include_zero=False))
    with pytest.raises(ValueError, match=r"scale is 1\.0.*e-39: 1/scale must be finite"):
        zpt.to_torch(zp.QuantParams(np.float32(1e-39), 0))
    for lost in (1e-60, 1e60):
        with pytest.raises(ValueError, match="a scale must be finite and > 0"):
            zpt.to_torch(zp.QuantParams(np.float64(lost), 0))
    with pytest.raises(TypeError, match="params must be a QuantParams, not tuple"):
        zpt.to_torch((0.1, 3))
    with pytest.raises(TypeError, match="not OffsetParams: these operators have an integer zero"):
        zpt.to_torch(zp.OffsetParams(0.1, 3))
    missing = zp.QuantParams(0.1, 3, nan_code=255)
    with pytest.raises(ValueError, match=r"nan_code 255, .* or params.replace\(nan_code=None\)"):
        zpt.to_torch(missing)
    assert zpt.to_torch(missing.replace(nan_code=None))[3] == 254


@pytest.mark.parametrize("convention", ["numpy", "cf", "faiss"])
def test_missing_values_and_real_offsets(convention):
    """Tensors in and out are those of zeropoint itself."""
    x = VALUES.clone()
    x[1::7] = torch.nan
    keywords = {"convention": convention, "nan_code": 255, "skip_nan": True}
    p = zpt.choose_params(x, torch.uint8, **keywords)
    q, same_p = zpt.quantize_dynamic(x, torch.uint8, **keywords)
    assert p == same_p == zp.choose_params(x.numpy(), **keywords)
    same(q, torch.from_numpy(zp.quantize(x.numpy(), p)))
    assert torch.equal(q == 255, x.isnan())
    assert torch.equal(zpt.dequantize(q, p).isnan(), x.isnan())
    assert torch.equal(zpt.fake_quantize(x, p).isnan(), x.isnan())
    np.testing.assert_array_equal(zpt.dequantize(q, p).numpy(), zp.dequantize(q.numpy(), p))


# ---------------------------------------------------------------------------------------------
# Modules without parameters


@pytest.mark.parametrize("dtype", ["qint32", "int16", "int32", "uint16", "quint4x2"])
def test_other_dtypes(dtype):
    module = ao.MinMaxObserver(dtype=getattr(torch, dtype))
    module(VALUES)
    with pytest.raises(ValueError, match=f"has dtype torch.{dtype}; choose torch.uint8 or torch.i"):
        zpt.from_torch(module)


@pytest.mark.parametrize("name", ["PlaceholderObserver", "NoopObserver"])
def test_placeholders(name):
    with pytest.raises(ValueError, match=rf"{name} has dtype torch\.float"):
        zpt.from_torch(getattr(ao, name)())
    with pytest.raises(ValueError, match="RecordingObserver has no parameters"):
        zpt.from_torch(ao.RecordingObserver())


@pytest.mark.parametrize("name", ["MinMax", "Histogram", "FakeQuantize", "Fused", "PerChannel"])
def test_no_data(name):
    with pytest.raises(ValueError, match="has seen no data, or NaN; call a new one on"):
        zpt.from_torch(made(MODULES[name]))


def test_poor_data():
    module = ao.MinMaxObserver()
    module(torch.tensor([1.0, torch.nan]))
    with pytest.raises(ValueError, match="has seen no data, or NaN"):
        zpt.from_torch(module)
    module = ao.MinMaxObserver()
    module(torch.tensor([1.0, torch.inf]))
    with pytest.raises(ValueError, match="scale is inf: a scale must be finite"):
        zpt.from_torch(module)


def test_zero_points_that_are_not_integers():
    module = ao.default_float_qparams_observer()
    module(VALUES)
    with pytest.raises(
        ValueError, match="is torch.per_channel_affine_float_qparams; choose one in"
    ):
        zpt.from_torch(module)


def test_range_that_the_dtype_does_not_hold():
    module = ao.MinMaxObserver(quant_min=-128, quant_max=127)  # of quint8
    module(VALUES)
    with pytest.raises(ValueError, match="qmin -128 is outside uint8"):
        zpt.from_torch(module)


@pytest.mark.parametrize("wrong", [torch.nn.Linear(2, 2), VALUES, (0.1, 3), None])
def test_no_observer(wrong):
    with pytest.raises(TypeError, match=r"not \w+: it has no calculate_qparams\(\)"):
        zpt.from_torch(wrong)


class AffineQuantized:
    """As torchao's own observers are: target_dtype, granularity, and ranges that may be None."""

    def __init__(self, granularity: Any, shape: tuple[int, ...], dtype: Any = torch.int8) -> None:
        self.granularity, self.target_dtype = granularity, dtype
        self.quant_min = self.quant_max = None
        self.scale = torch.full(shape, 0.5, dtype=torch.bfloat16)
        self.zero_point = torch.full(shape, 3, dtype=torch.int8)

    def calculate_qparams(self) -> tuple[Any, Any]:
        return self.scale, self.zero_point


def test_torchao():
    per_axis = types.SimpleNamespace(axis=1)
    for shape in ((4,), (1, 4, 1)):  # with and without keepdim
        p = zpt.from_torch(AffineQuantized(per_axis, shape))
        assert p == zp.QuantParams([0.5] * 4, 3, "int8", axis=1, convention="torch")
    p = zpt.from_torch(AffineQuantized(types.SimpleNamespace(), (1,), torch.uint8))
    assert p == zp.QuantParams(0.5, 3, "uint8", convention="torch")
    with pytest.raises(
        ValueError, match="is namespace.*; choose one integer zero point per tensor or per"
    ):
        zpt.from_torch(AffineQuantized(types.SimpleNamespace(group_size=2), (2, 4)))
    with pytest.raises(ValueError, match="has dtype torch.float8_e4m3fn"):
        zpt.from_torch(AffineQuantized(per_axis, (4,), torch.float8_e4m3fn))


# ---------------------------------------------------------------------------------------------
# Tensors in, tensors out


def address(x: Any) -> int:
    return x.__array_interface__["data"][0]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What zeropoint's functions are given, and the arrays that they return."""
    calls: list[tuple[Any, Any]] = []

    def watched(function: Any) -> Any:
        def call(x: Any, *args: Any, **keywords: Any) -> Any:
            result = function(x, *args, **keywords)
            calls.append((x, result[0] if isinstance(result, tuple) else result))
            return result

        return call

    for name in ("quantize", "dequantize", "fake_quantize", "quantize_dynamic"):
        monkeypatch.setattr(zp, name, watched(getattr(zp, name)))
    return calls


FUNCTIONS = {
    "quantize": lambda x: zpt.quantize(x, PARAMS),
    "fake_quantize": lambda x: zpt.fake_quantize(x, PARAMS),
    "quantize_dynamic": lambda x: zpt.quantize_dynamic(x)[0],
}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "nothing"])
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_copied(seen, name, real, layout):
    tensor = LAYOUTS[layout](VALUES.to(real))
    result = FUNCTIONS[name](tensor)
    x, made = seen[0]
    assert x.dtype == REALS[real]
    assert x.shape == tuple(tensor.shape) == tuple(result.shape)
    assert address(x) == tensor.data_ptr()
    assert x.strides == tuple(s * tensor.element_size() for s in tensor.stride())
    assert result.dtype == (real if name == "fake_quantize" else torch.uint8)
    assert address(made) == result.data_ptr()


@pytest.mark.parametrize("real", REALS)
def test_nothing_is_copied_by_dequantize(seen, real):
    q = torch.arange(60, dtype=torch.uint8).reshape(5, 12)[:, ::2]
    x = zpt.dequantize(q, PARAMS, dtype=real)
    ((codes, made),) = seen
    assert x.dtype == real
    assert address(codes) == q.data_ptr()
    assert address(made) == x.data_ptr()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("real", REALS)
def test_values_are_those_of_arrays(backend, real, layout):
    tensor = LAYOUTS[layout](VALUES.to(real))
    x = tensor.double().numpy().astype(REALS[real])
    q = zp.quantize(x, PARAMS)
    assert_equal(zpt.quantize(tensor, PARAMS), q)
    assert_equal(zpt.fake_quantize(tensor, PARAMS), zp.fake_quantize(x, PARAMS))
    y = zpt.dequantize(torch.from_numpy(q), PARAMS, dtype=real)
    assert_equal(y, zp.dequantize(q, PARAMS, dtype=REALS[real]))
    if x.size:
        assert zpt.choose_params(tensor, torch.int8) == zp.choose_params(x, "int8")
        codes, found = zpt.quantize_dynamic(tensor, torch.int8, symmetric=True)
        expected, p = zp.quantize_dynamic(x, "int8", symmetric=True)
        assert found == p
        assert_equal(codes, expected)


def assert_equal(tensor: Any, array: Any) -> None:
    """A tensor and an array of the same dtype, shape and values (float64 holds them all)."""
    assert str(tensor.dtype) == f"torch.{array.dtype.name}"
    np.testing.assert_array_equal(tensor.double().numpy(), array.astype(np.float64), strict=True)


def test_dequantize_without_a_dtype():
    assert zpt.dequantize(torch.zeros(3, dtype=torch.uint8), PARAMS).dtype == torch.float32


@pytest.mark.parametrize("real", REALS)
def test_out(backend, real):
    x = VALUES.to(real)
    whole = torch.zeros(5, 24, dtype=torch.uint8)
    out = whole[:, ::2]  # strides too
    assert zpt.quantize(x, PARAMS, out=out) is out
    assert torch.equal(out, zpt.quantize(x, PARAMS))
    assert not whole[:, 1::2].any()
    back = torch.empty_like(x)
    assert zpt.dequantize(out, PARAMS, out=back) is back
    assert torch.equal(back, zpt.dequantize(out, PARAMS, dtype=real))
    q, p = zpt.quantize_dynamic(x, torch.uint8, out=out)
    assert q is out
    assert torch.equal(out, zpt.quantize(x, p))
    expected = zpt.fake_quantize(x, PARAMS)
    assert zpt.fake_quantize(x, PARAMS, out=x) is x  # in place
    assert torch.equal(x, expected)


def test_autograd_learns_of_writes():
    """A tensor that autograd still needs is not changed behind its back."""
    weight, out = torch.ones(3, requires_grad=True), torch.ones(3)
    loss = (weight * out).sum()
    zpt.dequantize(torch.zeros(3, dtype=torch.uint8), PARAMS, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def freed(x):
    """A tensor whose storage was given back, as FSDP does."""
    x.untyped_storage().resize_(0)
    return x


CALLS = {
    **FUNCTIONS,
    "choose_params": zpt.choose_params,
    "dequantize": lambda x: zpt.dequantize(x, PARAMS),
    "out": lambda out: zpt.fake_quantize(torch.ones(3), PARAMS, out=out),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.ones(3, requires_grad=True), r"{} requires grad; pass {}\.detach\(\)"),
        (torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16)), "{} requires grad"),
        (torch.ones(3, device="meta"), "{} is on device meta and has no data"),
        (torch.ones(3, device="meta", dtype=torch.bfloat16), "{} is on device meta"),
        (FakeTensorMode().from_tensor(torch.ones(3)), "{} .*FakeTensor has its values elsewhere"),
        (freed(torch.ones(3)), "{} has no memory of its own"),
        (freed(torch.ones(3).bfloat16()), "{} has no memory of its own"),
        (torch.ones(3).to_sparse(), "{} cannot be viewed as an array: .*[Ss]parse"),
        (torch._neg_view(torch.ones(3)), r"{} cannot be viewed as an array: .*resolve_neg\(\)"),
        (torch._neg_view(torch.ones(3).bfloat16()), "{} cannot be viewed as an array: .*negative"),
        (np.ones(3, np.float32), "{} must be a torch.Tensor, not ndarray"),
        ([1.0], "{} must be a torch.Tensor, not list"),
    ],
)
def test_tensors_that_cannot_be_read(name, wrong, message):
    argument = {"dequantize": "q", "out": "out"}.get(name, "x")
    with pytest.raises(TypeError, match=message.replace("{}", argument)):
        CALLS[name](wrong)


def test_a_storage_that_shrank_under_its_tensor():
    x = torch.ones(3, 4)
    beyond = {"whole": x, "last columns": x[:, 2:], "transposed": x.T, "last row": x[2:]}
    within = x[:, 1:3]
    x.untyped_storage().resize_(4 * 11)
    for view in beyond.values():
        with pytest.raises(TypeError, match="x has no memory of its own"):
            zpt.quantize(view, PARAMS)
    np.testing.assert_array_equal(zpt.quantize(within, PARAMS), [[120] * 2] * 3)
    np.testing.assert_array_equal(zpt.quantize(torch.ones(1).expand(5), PARAMS), [120] * 5)


def test_out_that_shares_memory():
    for out in (torch.ones(1).expand(3), torch.ones(5).as_strided((2, 2), (1, 1))):
        with pytest.raises(ValueError, match="out has strides .*its elements share memory"):
            zpt.fake_quantize(torch.ones(out.shape) * 3.33, PARAMS, out=out)
        assert (out == 1).all()
        with pytest.raises(ValueError, match="out has strides .*its elements share memory"):
            zpt.fake_quantize(out, PARAMS, out=out)


def test_scale_and_zero_point_by_position():
    for function in (zpt.quantize, zpt.fake_quantize):
        with pytest.raises(TypeError, match=r"zp\.\w*quantize\(x, zp\.QuantParams\(0\.1, 0\)\)"):
            function(VALUES, 0.1, 0)
    with pytest.raises(TypeError, match=r"zp\.dequantize\(q, params, out=out\)"):
        zpt.dequantize(torch.zeros(3, dtype=torch.uint8), PARAMS, torch.float32)


def test_zeropoints_own_errors():
    with pytest.raises(TypeError, match="x has dtype int64"):
        zpt.quantize(torch.arange(3), PARAMS)
    with pytest.raises(TypeError, match="q has dtype float32 where uint8 is needed"):
        zpt.dequantize(VALUES, PARAMS)
    with pytest.raises(TypeError, match="out has dtype float32 where native uint8 is needed"):
        zpt.quantize(VALUES, PARAMS, out=torch.empty(5, 12))
    with pytest.raises(ValueError, match=r"out has shape \(3,\) where \(5, 12\) is needed"):
        zpt.quantize(VALUES, PARAMS, out=torch.empty(3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="x has 1 NaN or Inf of 2 elements"):
        zpt.quantize(torch.tensor([1, torch.nan]), PARAMS, check_finite=True)
    with pytest.raises(TypeError, match="check_finite must be True or False"):
        zpt.quantize(VALUES, PARAMS, check_finite=None)
    with pytest.raises(TypeError, match="dtype 'int8' is not supported"):
        zpt.dequantize(torch.zeros(3, dtype=torch.uint8), PARAMS, dtype=torch.int8)
    with pytest.raises(TypeError, match=r"dtype torch\.int16 is not a type of codes"):
        zpt.choose_params(VALUES, torch.int16)


def test_bfloat16_without_ml_dtypes():
    program = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import torch, zeropoint as zp; from zeropoint.interop import torch as zpt\n"
        "x, p = torch.ones(3), zp.QuantParams(1, 0)\n"
        "zpt.quantize(x, p), zp.quantize(x, p)  # no need of it\n"
        "for module in zpt, zp:\n"
        "    try:\n        module.quantize(x.bfloat16(), p)\n"
        "    except ImportError as error:\n        print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == 2 * f"{_extras.missing('bfloat16', 'bfloat16')}\n", ran.stderr
