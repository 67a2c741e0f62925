"""ONNX Runtime's QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

The convention is ``onnx``.  Models of one operator are made in memory; scale and zero point are
inputs, so that one session serves every case.
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

from . import data

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ENGINE = "onnxruntime"
OPSET = 21  # the first with blocks; with float16 see test_opset_23_divides_in_float16
AXES = (0, 1, 2)
FLOATS = ("float32", "float16")
# shape, axis, block size: whole blocks and a short last one, on every axis
BLOCKS = (
    ((64, 6, 50), 0, 16),
    ((67, 6, 50), 0, 16),
    ((5, 96, 40), 1, 32),
    ((5, 99, 40), 1, 32),
    ((40, 512), -1, 32),
    ((40, 517), -1, 32),
    ((40, 101), 1, 2),
    ((3, 20), 1, 64),
)


def onnx_type(dtype: str) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@functools.cache
def session(
    operator: str,
    real: str,
    code: str,
    opset: int = OPSET,
    scale: str | None = None,
    **attributes: Any,
) -> Any:
    """A model of one operator; `real` and `code` are dtypes, `scale` is one if not as `real`."""
    make = onnx.helper.make_tensor_value_info
    values, codes = onnx_type(real), onnx_type(code)
    if operator == "DynamicQuantizeLinear":
        inputs = [make("x", values, None)]
        outputs = [make("y", codes, None), make("s", values, None), make("z", codes, None)]
    else:
        quantizes = operator == "QuantizeLinear"
        inputs = [
            make("x", values if quantizes else codes, None),
            make("s", onnx_type(scale or real), None),
            make("z", codes, None),
        ]
        outputs = [make("y", codes if quantizes else values, None)]
    node = onnx.helper.make_node(
        operator, [i.name for i in inputs], [o.name for o in outputs], **attributes
    )
    graph = onnx.helper.make_graph([node], "one_operator", inputs, outputs)
    versions = [onnx.helper.make_opsetid("", opset)]
    # an IR version that runtimes of that opset read, and not the newest that onnx would write
    model = onnx.helper.make_model(
        graph,
        opset_imports=versions,
        ir_version=onnx.helper.find_min_ir_version_for(versions, ignore_unknown=True),
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(its_session: Any, x: Any, scale: Any, zero_point: Any, code: str) -> data.Array:
    feeds = {"x": x, "s": np.asarray(scale), "z": np.asarray(zero_point, code)}
    return its_session.run(None, feeds)[0]


def params(scale: Any, zero_point: Any, code: str, **layout: Any) -> zp.QuantParams:
    return zp.QuantParams(np.float32(scale), zero_point, code, convention="onnx", **layout)


# ---------------------------------------------------------------------------------------------
# QuantizeLinear

# What the engine answers is computed once and serves every backend.


@functools.cache
def quantized(code: str) -> list[tuple[data.Case, data.Array]]:
    engine = session("QuantizeLinear", "float32", code)
    return [
        (case, run(engine, case.x, case.scale, case.zero_point, code))
        for case in data.cases(*data.span(code), 180)
    ]


@pytest.mark.parametrize("code", data.DTYPES)
def test_quantize(backend, record, code):
    tally = data.Tally()
    for case, theirs in quantized(code):
        ours = zp.quantize(case.x, params(case.scale, case.zero_point, code))
        tally.add(ours, theirs, case.x, case[:2])
    record(ENGINE, f"QuantizeLinear {code}", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@functools.cache
def quantized_float16(code: str) -> list[tuple[np.float16, int, data.Array]]:
    engine = session("QuantizeLinear", "float16", code)
    x = data.all_float16()
    scales = np.concatenate([data.scales(10), [3e-7]]).astype(np.float16)  # 3e-7 is subnormal
    return [
        (scale, z, run(engine, x, scale, z, code))
        for scale in scales
        for z in data.zero_points(*data.span(code))
    ]


@pytest.mark.parametrize("code", data.DTYPES)
def test_quantize_every_float16(backend, record, code):
    tally = data.Tally()
    x = data.all_float16()
    for scale, z, theirs in quantized_float16(code):
        tally.add(zp.quantize(x, params(scale, z, code)), theirs, x, (scale, z))
    record(ENGINE, f"QuantizeLinear {code} from float16", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


def in_float(found: data.Channels, real: str) -> data.Channels:
    """Data and scales in the float dtype `real`; a scale too small for float16 is raised."""
    if real == "float32":
        return found
    with np.errstate(over="ignore"):  # large values become Inf, which is a fair input
        x = found.x.astype(np.float16)
    scale = np.maximum(found.scale.astype(np.float16), np.float16(1e-6))
    return data.Channels(scale, found.zero_point, x)


@functools.cache
def quantized_channels(real: str, code: str, axis: int) -> tuple[data.Channels, data.Array]:
    found = in_float(data.channels(*data.span(code), 60, axis), real)
    engine = session("QuantizeLinear", real, code, axis=axis)
    return found, run(engine, found.x, found.scale, found.zero_point, code)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("real", FLOATS)
def test_quantize_axis(backend, record, real, code, axis):
    found, theirs = quantized_channels(real, code, axis)
    ours = zp.quantize(found.x, params(found.scale, found.zero_point, code, axis=axis))
    tally = data.Tally()
    tally.add(ours, theirs, found.x, f"axis {axis}")
    what = f"QuantizeLinear {code} from {real}, axis {axis}"
    record(ENGINE, what, backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@functools.cache
def quantized_blocks(real: str, code: str) -> list[tuple[data.Channels, data.Array]]:
    results = []
    for shape, axis, block_size in BLOCKS:
        found = in_float(data.blocks(shape, axis, block_size, *data.span(code)), real)
        engine = session("QuantizeLinear", real, code, axis=axis, block_size=block_size)
        results.append((found, run(engine, found.x, found.scale, found.zero_point, code)))
    return results


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("real", FLOATS)
def test_quantize_blocks(backend, record, real, code):
    tally = data.Tally()
    answers = quantized_blocks(real, code)
    for (_, axis, block_size), (found, theirs) in zip(BLOCKS, answers, strict=True):
        p = params(found.scale, found.zero_point, code, axis=axis, block_size=block_size)
        tally.add(zp.quantize(found.x, p), theirs, found.x, (axis, block_size))
    record(
        ENGINE, f"QuantizeLinear {code} from {real}, blocks", backend, tally.n, tally.differences
    )
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("real", FLOATS)
def test_nan(backend, record, real, code):
    """ONNX leaves NaN open; ours is qmin everywhere, ONNX Runtime's is qmin on x86-64."""
    tally = data.Tally()
    x = np.tile(data.nans(real), (3, 1))
    for layout, shape in (
        ({}, ()),
        ({"axis": 0}, (3,)),
        ({"axis": 1}, (331,)),
        ({"axis": 1, "block_size": 32}, (3, 11)),
    ):
        scale = np.full(shape, 0.1, real)
        z = np.full(shape, 13, np.int32)
        p = params(scale, z if shape else 13, code, **layout)
        ours = zp.quantize(x, p)
        assert (ours[np.isnan(x)] == p.qmin).all()
        engine = session("QuantizeLinear", real, code, **layout)
        tally.add(ours, run(engine, x, scale, z, code), x, layout)
    record(ENGINE, f"QuantizeLinear {code} from {real}, NaN", backend, tally.n, tally.differences)
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(
            f"what ONNX Runtime makes of NaN on {platform.machine()} is recorded, not judged"
        )
    assert tally.differences == 0, tally.first


def test_opset_23_divides_in_float16(backend, record, note):
    """From opset 23 on, float16 data with a float16 scale are divided in float16.

    Below, and with a float32 scale or ``precision=FLOAT``, the division is float32's, which is what
    the onnx convention does with float16 data.
    """
    x = data.all_float16()
    with_float32, with_float16 = data.Tally(), data.Tally()
    try:
        engines = [
            session("QuantizeLinear", "float16", "uint8", 23, "float32"),
            session("QuantizeLinear", "float16", "uint8", 23, precision=onnx_type("float32")),
            session("QuantizeLinear", "float16", "uint8", 23),
        ]
    except Exception as error:  # an older onnxruntime: its own exception types are private
        pytest.skip(f"this onnxruntime does not run QuantizeLinear of opset 23: {error}")
    for scale in data.scales(10).astype(np.float16):
        ours = zp.quantize(x, params(scale, 100, "uint8"))
        wide = run(engines[0], x, np.float32(scale), 100, "uint8")
        with_float32.add(ours, wide, x, scale)
        with_float32.add(ours, run(engines[1], x, scale, 100, "uint8"), x, scale)
        narrow = run(engines[2], x, scale, 100, "uint8")
        with_float16.add(ours, narrow, x, scale)
        with np.errstate(over="ignore"):
            formula = np.rint(x / scale).astype(np.float32) + 100
        np.testing.assert_array_equal(narrow, np.clip(formula, 0, 255).astype(np.uint8))
    what = "QuantizeLinear-23 uint8 from float16, float32 precision"
    record(ENGINE, what, backend, with_float32.n, with_float32.differences)
    assert with_float32.differences == 0, with_float32.first
    note(
        f"{ENGINE} QuantizeLinear-23 with a float16 scale divides in float16 and is not matched: "
        f"{with_float16.differences:,} of {with_float16.n:,} codes differ",
        backend,
    )
    assert with_float16.differences > 0


# ---------------------------------------------------------------------------------------------
# DequantizeLinear


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("real", FLOATS)
def test_dequantize(backend, record, real, code):
    tally = data.Tally()
    engine = session("DequantizeLinear", real, code)
    codes = data.all_codes(code)
    for scale in np.maximum(data.scales(100), np.float32(1e-6)).astype(real):
        for z in data.zero_points(*data.span(code)):
            ours = zp.dequantize(codes, params(scale, z, code), dtype=real)
            tally.add(ours, run(engine, codes, scale, z, code), codes, (scale, z))
    record(ENGINE, f"DequantizeLinear {code} to {real}", backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


@pytest.mark.parametrize("code", data.DTYPES)
@pytest.mark.parametrize("real", FLOATS)
def test_dequantize_axis_and_blocks(backend, record, real, code):
    tally = data.Tally()
    layouts = [((30, 40, 50), axis, None) for axis in AXES] + list(BLOCKS)
    rng = np.random.default_rng(0)
    for shape, axis, block_size in layouts:
        found = in_float(data.blocks(shape, axis, block_size or 1, *data.span(code)), real)
        scale, z = found.scale, found.zero_point
        layout: dict[str, Any] = {"axis": axis, "block_size": block_size}
        if block_size is None:  # one parameter a channel: the first along every other axis
            others = tuple(slice(None) if i == axis else 0 for i in range(len(shape)))
            scale, z = scale[others], z[others]
            layout = {"axis": axis}
        codes = rng.choice(data.all_codes(code), shape)
        ours = zp.dequantize(codes, params(scale, z, code, **layout), dtype=real)
        engine = session("DequantizeLinear", real, code, **layout)
        tally.add(ours, run(engine, codes, scale, z, code), codes, layout)
    what = f"DequantizeLinear {code} to {real}, axis and blocks"
    record(ENGINE, what, backend, tally.n, tally.differences)
    assert tally.differences == 0, tally.first


# ---------------------------------------------------------------------------------------------
# DynamicQuantizeLinear


def dynamic(x: data.Array) -> list[data.Array]:
    return session("DynamicQuantizeLinear", "float32", "uint8", 11).run(None, {"x": x})


@functools.cache
def dynamically_quantized() -> list[tuple[data.Array, list[data.Array]]]:
    return [(x, dynamic(x)) for x in data.ranges(4000)]


def test_dynamic(backend, record):
    codes, chosen = data.Tally(), data.Tally()
    for x, (their_codes, their_scale, their_zero) in dynamically_quantized():
        q, p = zp.quantize_dynamic(x, convention="onnx")
        codes.add(q, their_codes, x, p)
        chosen.add(p.scale, their_scale, about=p)
        chosen.add(np.uint8(p.zero_point), their_zero, about=p)
    record(ENGINE, "DynamicQuantizeLinear codes", backend, codes.n, codes.differences)
    what = "DynamicQuantizeLinear scales and zero points"
    record(ENGINE, what, backend, chosen.n, chosen.differences)
    assert chosen.differences == 0, chosen.first
    assert codes.differences == 0, codes.first


def test_dynamic_of_zeros(backend):
    """All-zero data: ONNX Runtime chooses scale 1 and zero point 0, and so do we."""
    x = np.zeros(5, np.float32)
    codes, scale, zero = dynamic(x)
    q, p = zp.quantize_dynamic(x, convention="onnx")
    assert (scale, zero) == (p.scale, p.zero_point) == (1, 0)
    np.testing.assert_array_equal(q, codes)


@pytest.mark.parametrize(
    ("x", "their_scale"), [([-3e38, 3e38], np.inf), ([0.0, 1e-45, 2e-45], 0.0)]
)
def test_dynamic_ranges_that_the_engine_loses(backend, x, their_scale):
    """There ONNX Runtime's scale is Inf or 0 and its codes mean nothing; ours stays usable."""
    x = np.array(x, np.float32)
    assert dynamic(x)[1] == their_scale
    q, p = zp.quantize_dynamic(x, convention="onnx")
    assert 0 < p.scale < np.inf
    error = np.abs(zp.dequantize(q, p).astype(np.float64) - x)
    assert (error <= p.scale / 2).all()
