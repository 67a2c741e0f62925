"""torch's fake_quantize, per tensor and per channel, and its MinMax observers.

The convention is ``torch``.  Values are compared bit for bit.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

from . import data

torch = pytest.importorskip("torch")

ENGINE = "torch"
# dtype, qmin, qmax: whole, seven bits (reduce_range), symmetric weights, four bits
RANGES = (
    ("uint8", 0, 255),
    ("int8", -128, 127),
    ("uint8", 0, 127),
    ("int8", -64, 63),
    ("int8", -127, 127),
    ("uint8", 0, 15),
    ("int8", -8, 7),
)
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# per channel, torch converts x / s to int64 before it clips, so Inf and what is beyond 2**63 wrap
INT64 = 2.0**62


def params(scale: Any, zero_point: Any, code: str, qmin: int, qmax: int, **axis: int) -> Any:
    return zp.QuantParams(scale, zero_point, code, qmin=qmin, qmax=qmax, convention="torch", **axis)


def bits(tensor: Any) -> data.Array:
    """A 16-bit tensor as its bits: NumPy itself has no bfloat16."""
    return tensor.view(torch.int16).numpy()


# ---------------------------------------------------------------------------------------------
# fake_quantize_per_tensor_affine


@functools.cache
def fake_quantized(qmin: int, qmax: int) -> list[tuple[data.Case, data.Array]]:
    return [
        (
            case,
            torch.fake_quantize_per_tensor_affine(
                torch.from_numpy(case.x), float(case.scale), case.zero_point, qmin, qmax
            ).numpy(),
        )
        for case in data.cases(qmin, qmax, 120)
    ]


@pytest.mark.parametrize(("code", "qmin", "qmax"), RANGES)
def test_per_tensor(backend, record, code, qmin, qmax):
    """In one pass, and as quantize and dequantize."""
    fused, apart = data.Tally(), data.Tally()
    for case, theirs in fake_quantized(qmin, qmax):
        p = params(case.scale, case.zero_point, code, qmin, qmax)
        fused.add(zp.fake_quantize(case.x, p), theirs, case.x, p)
        apart.add(zp.dequantize(zp.quantize(case.x, p), p), theirs, case.x, p)
    what = f"fake_quantize_per_tensor_affine {code} [{qmin}, {qmax}]"
    record(ENGINE, what, backend, fused.n, fused.differences + apart.differences)
    assert fused.differences == 0, fused.first
    assert apart.differences == 0, apart.first


@functools.cache
def fake_quantized_halves(real: str, qmin: int, qmax: int) -> list[tuple[Any, int, data.Array]]:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(HALVES[real])
    x = every[~torch.isnan(every)]
    return x, [
        (
            scale,
            z,
            bits(torch.fake_quantize_per_tensor_affine(x, float(scale), z, qmin, qmax)),
        )
        for scale in data.scales(9)
        for z in data.zero_points(qmin, qmax)
    ]


@pytest.mark.parametrize(("code", "qmin", "qmax"), RANGES[:2])
@pytest.mark.parametrize("real", HALVES)
def test_per_tensor_every_half(backend, record, real, code, qmin, qmax):
    """Every float16 and every bfloat16 there is."""
    tally = data.Tally()
    x, answers = fake_quantized_halves(real, qmin, qmax)
    for scale, z, theirs in answers:
        ours = zp.fake_quantize(x, params(scale, z, code, qmin, qmax)).view(np.int16)
        tally.add(ours, theirs, bits(x), (scale, z))
    what = f"fake_quantize_per_tensor_affine {code} of {real}"
    record(ENGINE, what, backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize(("code", "qmin", "qmax"), RANGES[:2])
def test_nan(backend, record, code, qmin, qmax):
    """torch's CPU kernel, like us, makes qmin of NaN; its documentation promises nothing."""
    tally = data.Tally()
    x = data.nans()
    for z in data.zero_points(qmin, qmax):
        theirs = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), 0.1, z, qmin, qmax)
        ours = zp.fake_quantize(x, params(np.float32(0.1), z, code, qmin, qmax))
        assert (ours[np.isnan(x)] == np.float32(qmin - z) * np.float32(0.1)).all()
        tally.add(ours, theirs.numpy(), x, z)
    what = f"fake_quantize_per_tensor_affine {code}, NaN"
    record(ENGINE, what, backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


def test_float64_mixes_precisions(backend, note):
    """torch rounds the scale and its reciprocal to float32 even for float64 data: not matched.

    We compute float64 data in float64.  The formula below is torch's, so that this stays known.
    """
    differing = total = 0
    for scale in (0.1, 0.0078, 1 / 255):
        x = np.linspace(-200, 200, 8001) * scale
        theirs = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), scale, 100, 0, 255)
        single = np.float32(scale)
        code = np.clip(np.rint(x * np.float64(1 / single)) + 100, 0, 255)
        formula = ((code - 100).astype(np.float32) * single).astype(np.float64)
        np.testing.assert_array_equal(theirs.numpy(), formula)
        ours = zp.fake_quantize(x, params(np.float64(scale), 100, "uint8", 0, 255))
        differing += np.count_nonzero(ours != theirs.numpy())
        total += x.size
    assert differing > 0
    note(
        f"{ENGINE} fake_quantize_per_tensor_affine of float64 computes partly in float32 and is "
        f"not matched: {differing:,} of {total:,} values differ",
        backend,
    )


# ---------------------------------------------------------------------------------------------
# fake_quantize_per_channel_affine


@functools.cache
def fake_quantized_channels(
    qmin: int, qmax: int, axis: int
) -> tuple[data.Channels, dict[str, data.Array]]:
    found = data.channels(qmin, qmax, 40, axis, reach=INT64)
    scale, z, x = map(torch.from_numpy, found)
    answers = {}
    for real in ("float32", *HALVES):
        y = torch.fake_quantize_per_channel_affine(in_float(x, real), scale, z, axis, qmin, qmax)
        answers[real] = y.numpy() if real == "float32" else bits(y)
    return found, answers


def in_float(x: Any, real: str) -> Any:
    """The tensor in another float dtype, what overflows there at its largest number."""
    if real == "float32":
        return x
    largest = torch.finfo(HALVES[real]).max
    return x.clamp(-largest, largest).to(HALVES[real])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("code", "qmin", "qmax"), RANGES)
def test_per_channel(backend, record, code, qmin, qmax, axis):
    found, answers = fake_quantized_channels(qmin, qmax, axis)
    p = params(found.scale, found.zero_point, code, qmin, qmax, axis=axis)
    tally = data.Tally()
    for real, theirs in answers.items():
        x = in_float(torch.from_numpy(found.x), real)
        ours = zp.fake_quantize(x, p)
        tally.add(ours if real == "float32" else ours.view(np.int16), theirs, found.x, (axis, real))
    what = f"fake_quantize_per_channel_affine {code} [{qmin}, {qmax}], axis {axis}, 3 float dtypes"
    record(ENGINE, what, backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize(("code", "qmin", "qmax"), RANGES[:2])
def test_per_channel_wraps_beyond_int64(backend, note, code, qmin, qmax):
    """Inf, and what lies 2**63 steps up: ours saturates, torch's conversion to int64 is undefined.

    Per tensor torch saturates too (`test_per_tensor` has Inf in its data).
    """
    x = np.array([[np.inf, 1e30, 1.0]], np.float32)
    scale, z = np.array([0.5], np.float32), np.array([3], np.int32)
    theirs = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(x), torch.from_numpy(scale), torch.from_numpy(z), 0, qmin, qmax
    ).numpy()
    ours = zp.fake_quantize(x, params(scale, z, code, qmin, qmax, axis=0))
    np.testing.assert_array_equal(ours, [[(qmax - 3) * 0.5, (qmax - 3) * 0.5, 1.0]])
    note(
        f"{ENGINE} fake_quantize_per_channel_affine {code} makes {theirs[0, :2].tolist()} of "
        f"[inf, 1e30] on this CPU, ours {ours[0, :2].tolist()}: not matched",
        backend,
    )


# ---------------------------------------------------------------------------------------------
# Observers


def observer(kind: str, **keywords: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use quant_min and quant_max", UserWarning)
        warnings.filterwarnings("ignore", ".*deprecated", DeprecationWarning)
        return getattr(torch.ao.quantization, kind)(**keywords)


@functools.cache
def observed(code: str, reduce_range: bool) -> tuple[int, int, list[tuple[Any, Any, Any]]]:
    """The observer's qmin and qmax; data with its scale and zero point."""
    kind = {"uint8": torch.quint8, "int8": torch.qint8}[code]
    answers = []
    for x in data.ranges(1000):
        o = observer(
            "MinMaxObserver",
            dtype=kind,
            qscheme=torch.per_tensor_affine,
            reduce_range=reduce_range,
        )
        o(torch.from_numpy(x))
        scale, z = o.calculate_qparams()
        answers.append((x, scale.numpy()[0], z.numpy()[0]))
    return o.quant_min, o.quant_max, answers


@pytest.mark.parametrize("reduce_range", [False, True])
@pytest.mark.parametrize("code", data.DTYPES)
def test_min_max_observer(backend, record, code, reduce_range):
    qmin, qmax, answers = observed(code, reduce_range)
    tally = data.Tally()
    for x, scale, z in answers:
        p = zp.choose_params(x, code, qmin=qmin, qmax=qmax, convention="torch")
        tally.add(p.scale, scale, about=p)
        tally.add(np.int32(p.zero_point), z, about=p)
    what = f"MinMaxObserver {code} [{qmin}, {qmax}], scales and zero points"
    record(ENGINE, what, backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize("reduce_range", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("code", data.DTYPES)
def test_per_channel_min_max_observer(backend, record, code, axis, reduce_range):
    kind = {"uint8": torch.quint8, "int8": torch.qint8}[code]
    rng = np.random.default_rng(axis)
    tally = data.Tally()
    for _ in range(10):
        shape = [5, 6, 7]
        shape[axis] = 60
        along = [60 if i == axis else 1 for i in range(3)]
        spread = np.exp(rng.uniform(np.log(1e-6), np.log(1e3), along))
        offset = rng.normal(size=along) * np.exp(rng.uniform(np.log(1e-6), np.log(1e3), along))
        x = (rng.normal(size=shape) * spread + offset).astype(np.float32)
        o = observer(
            "PerChannelMinMaxObserver",
            ch_axis=axis,
            dtype=kind,
            qscheme=torch.per_channel_affine,
            reduce_range=reduce_range,
        )
        o(torch.from_numpy(x))
        scale, z = o.calculate_qparams()
        p = zp.choose_params(
            x, code, qmin=o.quant_min, qmax=o.quant_max, axis=axis, convention="torch"
        )
        tally.add(p.scale, scale.numpy(), about=p)
        tally.add(p.zero_point, z.numpy(), about=p)
    what = f"PerChannelMinMaxObserver {code} [{o.quant_min}, {o.quant_max}], axis {axis}"
    record(ENGINE, what, backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("x", [[0.0], [0.0, 1e-6], [-1e-45, 2e-45], [3.0], [-3.0, -3.0]])
def test_observer_of_poor_data(backend, code, x):
    """Zeros, constants and ranges below torch's least scale (2**-23): torch's own answer."""
    x = torch.tensor(x)
    o = observer("MinMaxObserver", dtype={"uint8": torch.quint8, "int8": torch.qint8}[code])
    o(x)
    scale, z = o.calculate_qparams()
    p = zp.choose_params(x, code, convention="torch")
    assert p.scale == scale.numpy()[0]
    assert p.zero_point == int(z)


def test_observer_overflows_where_ours_does_not(backend):
    """A range beyond float32: torch's scale is Inf, ours is finite."""
    x = torch.tensor([-3e38, 3e38])
    o = observer("MinMaxObserver", dtype=torch.quint8)
    o(x)
    assert torch.isinf(o.calculate_qparams()[0]).all()
    assert np.isfinite(zp.choose_params(x, convention="torch").scale)
