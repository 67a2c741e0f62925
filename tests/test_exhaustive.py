"""The engine of ``zeropoint verify --deep``: its oracle is exact, it can fail, and samples of what
it does in full (tests/deep)."""

from __future__ import annotations

import itertools
import json
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _api, _cli, _exhaustive, _reference, _selfcheck
from zeropoint._exhaustive import CHUNK, CHUNKS, PAIRS

from . import exact

NATIVE = [name for name in zp.backends() if name != "reference"]
needs_core = pytest.mark.skipif(not NATIVE, reason="the compiled core is absent")
ALL_PARAMS = [*_exhaustive.with_zero_points(PAIRS), *_exhaustive.with_offsets()]
ONE_PAIR = list(_exhaustive.with_zero_points(PAIRS[:1]))


def count(note: Any, what: str, rows: list[_selfcheck.Row]) -> None:
    """No row has a difference; says in the log how much was compared."""
    assert rows
    for row in rows:
        assert not row.differences, row.first
    elements = sum(row.elements for row in rows)
    note(f"{what}: {elements:,} elements on {', '.join(NATIVE)}: 0 differ")


# ---------------------------------------------------------------------------------------------
# The oracle


def as_float(bits: Any) -> np.ndarray[Any, Any]:
    return np.asarray(bits, np.uint32).view(np.float32)


def test_the_pairs_are_the_nasty_ones() -> None:
    assert len(PAIRS) >= 8
    steps = len(_exhaustive.STEPS)
    assert steps - 1 >= 4  # cf takes no step of 0
    offsets = 2 * (steps * len(zp.OFFSET_CONVENTIONS) - 1)
    assert len(ALL_PARAMS) == len(PAIRS) * len(zp.CONVENTIONS) * 2 + offsets
    zeros = {params.zero_point - params.qmin for params in _exhaustive.with_zero_points(PAIRS)}
    assert {0, 128, 255} <= zeros
    scales = np.array([scale for scale, _ in PAIRS], np.float32)
    assert (scales < np.finfo(np.float32).smallest_normal).any()
    assert [zero for _, zero in _exhaustive.ALL_ZERO_POINTS] == list(range(256))


def exact_code(x: Any, params: Any) -> int:
    how = params.convention, "float32"
    if isinstance(params, zp.QuantParams):
        numbers = params.scale, params.zero_point, params.qmin, params.qmax
        return exact.code(x, *numbers, *how)
    return exact.offset_code(x, *params._arrays, params.qmin, params.qmax, *how)


@pytest.mark.parametrize("params", ALL_PARAMS, ids=lambda p: f"{p.convention}-{p.dtype}-{p.scale}")
def test_the_runs_are_those_of_exact_arithmetic(params: Any) -> None:
    """Both sides of every boundary by fractions: between them the code is constant, as it is
    monotone."""
    starts, codes = _exhaustive.code_runs(params)
    assert starts[0] == 0
    assert starts[-1] == 2**32
    assert starts == sorted(starts)
    assert len(codes) == len(starts) - 1
    codes = np.array(codes, np.uint8).view(params.dtype).tolist()
    for i, start in enumerate(starts[:-1]):
        if starts[i + 1] == start:
            continue  # a code that no float has
        for at in {start, starts[i + 1] - 1}:
            x = as_float(at)[()]
            if np.isnan(x):
                want = params.qmin if params.nan_code is None else params.nan_code
            elif np.isinf(x):
                no_span = params.convention == "faiss" and params.span == 0
                want = params.qmax if x > 0 and not no_span else params.qmin
            else:
                want = exact_code(x, params)
            assert codes[i] == want, (params, x)


def test_exact_products() -> None:
    for name in ("float32", "float64"):
        for number in range(2):
            s = _exhaustive._scales(number, np.dtype(name))
            assert (np.isfinite(s) & (s > 0)).all()
            products = _exhaustive._exact_products(s)
            for i, k in itertools.product(range(8), range(511)):
                got, product = products[i, k], (k - 255) * Fraction(float(s[i]))
                if abs(product) >= 2**1024:  # beyond what `exact` takes
                    assert got == np.copysign(np.inf, k - 255)
                else:
                    assert exact.as_fraction(got) == exact.rounded(product, name)


@pytest.mark.parametrize("convention", list(zp.OFFSET_CONVENTIONS))
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("fused", [False, True])
def test_exact_values(convention: str, real: str, fused: bool) -> None:
    """By fractions; of those that fractions decide in the engine too some are half way."""
    if fused and (convention != "faiss" or real == "float64"):
        return
    every = np.arange(256, dtype=np.uint8)[None]
    for number in range(3):
        numbers = _exhaustive._steps_and_offsets(number, np.dtype(real), convention)
        recipe = {"axis": 0, "convention": convention, "fused": fused}
        params = zp.OffsetParams._made(*numbers, recipe)
        values = _exhaustive._exact_values(np.repeat(every, len(numbers[0]), axis=0), params)
        assert np.isfinite(values).all()
        for i, (kept, offset) in enumerate(zip(*numbers, strict=True)):
            for code in (0, 1, 100, 127, 128, 254, 255):
                want = exact.offset_value(code, kept, offset, 0, 255, convention, real, real, fused)
                assert exact.as_fraction(values[i, code]) == want


def test_half_way_between_two_floats() -> None:
    """3/8 * (1 + 2^-23) is half way, and an offset that float64 loses decides."""
    for sign in (1, -1):
        recipe = {"axis": 0, "convention": "faiss", "fused": True, "qmax": 4}
        numbers = np.float32([1 + 2**-23]), np.float32([sign * 2.0**-100])
        params = zp.OffsetParams._made(*numbers, recipe)
        found = _exhaustive._exact_values(np.array([[1]], np.uint8), params)
        assert found[0, 0] == (12582914 if sign > 0 else 12582913) * 2.0**-25


def test_the_ranges_are_of_all_kinds() -> None:
    for ranges in (_exhaustive._hard_ranges(), _exhaustive._random_ranges(_exhaustive.RANGES)):
        low, high = ranges.T
        assert ranges.dtype == np.float32
        assert np.isfinite(ranges).all()
        assert (low <= high).all()
        with np.errstate(over="ignore"):
            step = (high - low) / np.float32(255)
        assert np.isinf(step).any()  # overflow
        assert ((step > 0) & (step < np.finfo(np.float32).smallest_normal)).any()
        assert (low > 0).any()
        assert (high < 0).any()


# ---------------------------------------------------------------------------------------------
# Samples


@pytest.mark.slow("millions of elements")
@needs_core
def test_some_float32(note: Any) -> None:
    stage = _exhaustive.quantize_float32(NATIVE, ALL_PARAMS, CHUNKS[::1321])
    count(note, "quantize, every 1321st chunk of 2^32 float32", _exhaustive.rows(stage))


@pytest.mark.slow("millions of elements")
@needs_core
def test_some_float32_and_back(note: Any) -> None:
    stage = _exhaustive.fake_quantize_float32(NATIVE, ALL_PARAMS, CHUNKS[::1321])
    count(note, "fake_quantize, every 1321st chunk of 2^32 float32", _exhaustive.rows(stage))


@needs_core
def test_every_boundary(note: Any) -> None:
    """The floats beside every boundary between two codes, in long runs and in short ones."""
    compared = 0
    for params in ALL_PARAMS:
        starts, codes = _exhaustive.code_runs(params)
        bits = np.add.outer(starts, np.arange(-16, 17)).ravel() % 2**32
        bits = np.resize(bits, -(-max(bits.size, 8192) // 64) * 64)
        want = np.array(codes, np.uint8)[np.searchsorted(starts, bits, "right") - 1]
        x = as_float(bits)
        by_row = _exhaustive._by_row(params, 64)
        for name in NATIVE:
            with zp.use_backend(name):
                assert zp.quantize(x, params).tobytes() == want.tobytes()
                assert zp.quantize(x.reshape(64, -1), by_row).tobytes() == want.tobytes()
            compared += 2 * x.size
    note(f"quantize beside every boundary: {compared:,} elements: 0 differ")


@needs_core
def test_every_float16_and_bfloat16(note: Any) -> None:
    stage = _exhaustive.quantize_halves(NATIVE, ALL_PARAMS)
    assert len(stage.chunks) == 2 * len(ALL_PARAMS)
    count(note, "quantize, every float16 and bfloat16", _exhaustive.rows(stage))


@needs_core
def test_dequantize_by_some_scales(note: Any) -> None:
    stage = _exhaustive.dequantize(NATIVE, 300)
    what = "dequantize, 256 codes x 256 zero points x 300 scales"
    count(note, what, _exhaustive.rows(stage))


@needs_core
def test_dequantize_by_some_offsets(note: Any) -> None:
    stage = _exhaustive.dequantize_by_offset(NATIVE, 1000)
    count(note, "dequantize, 256 codes x 1,000 real offsets", _exhaustive.rows(stage))


@needs_core
def test_choose_params_for_some_ranges(note: Any) -> None:
    stage = _exhaustive.choose_params(NATIVE, 20_000)
    ranges = sum(len(chunk) for chunk in stage.chunks)
    count(note, f"choose_params for {ranges:,} ranges", _exhaustive.rows(stage))


# ---------------------------------------------------------------------------------------------
# It can fail


def differences(stage: _exhaustive.Stage) -> tuple[int, str]:
    rows = _exhaustive.rows(stage)
    return sum(row.differences for row in rows), next((r.first for r in rows if r.first), "")


@needs_core
@pytest.mark.parametrize(
    ("bits", "inside"),
    [
        (0x40490FDB, True),  # a chunk with one run of codes
        (0x3DCCCCCD, True),  # one with many
        (0x7FC00000, True),
        (0xFFFFFFFF, True),
        (0x3DCCCCCD + CHUNK, False),
    ],
)
def test_one_wrong_code_is_found(monkeypatch: Any, bits: int, inside: bool) -> None:
    right = zp.quantize

    def wrong(x: Any, params: zp.QuantParams, *, out: Any) -> None:
        right(x, params, out=out)
        if params.axis is None:
            out[x.view(np.uint32) == bits] ^= 1

    monkeypatch.setattr(_api, "quantize", wrong)
    chunk = bits // CHUNK - (not inside)
    stage = _exhaustive.quantize_float32(
        NATIVE[-1:], list(_exhaustive.with_zero_points([(0.1, 100)])), [chunk]
    )
    number, first = differences(stage)
    assert number == inside * len(zp.CONVENTIONS) * 2
    assert not inside or f"(0x{bits:08X}) gives" in first


@needs_core
def test_a_wrong_short_run_is_found(monkeypatch: Any) -> None:
    right = zp.quantize

    def wrong(x: Any, params: zp.QuantParams, *, out: Any) -> None:
        right(x, params, out=out)
        if params.axis == 0:
            out[-1, -1] ^= 1

    monkeypatch.setattr(_api, "quantize", wrong)
    chunks = CHUNKS[8000:8001]
    assert differences(_exhaustive.quantize_float32(NATIVE, ONE_PAIR, chunks))[0]
    shallow = _exhaustive.quantize_float32(NATIVE, ONE_PAIR, chunks, short_runs=False)
    assert differences(shallow) == (0, "")


@needs_core
@pytest.mark.parametrize("short", [False, True])
def test_codes_that_are_not_written_are_found(monkeypatch: Any, short: bool) -> None:
    """The memory holds the right codes of the call before."""
    right = zp.quantize

    def lazy(x: Any, params: zp.QuantParams, *, out: Any) -> None:
        if (params.axis == 0) != short:
            right(x, params, out=out)

    monkeypatch.setattr(_api, "quantize", lazy)
    for chunks in (CHUNKS[8000:8001], [0x3DCCCCCD // CHUNK]):  # one run of codes, and many
        number, _ = differences(_exhaustive.quantize_float32(NATIVE, ONE_PAIR, chunks))
        assert number == len(NATIVE) * len(zp.CONVENTIONS) * 2
    number, _ = differences(_exhaustive.quantize_halves(NATIVE, ONE_PAIR))
    assert number == 2 * len(NATIVE) * len(zp.CONVENTIONS) * 2


@needs_core
def test_values_that_are_not_written_are_found(monkeypatch: Any) -> None:
    right = zp.dequantize

    def lazy(q: Any, params: zp.QuantParams, *, out: Any) -> None:
        if zp.backend() == NATIVE[0]:
            right(q, params, out=out)

    monkeypatch.setattr(_api, "dequantize", lazy)
    number, _ = differences(_exhaustive.dequantize(NATIVE, 1))
    assert number == 2 * 25 * 2 * (len(NATIVE) - 1)


@needs_core
def test_values_by_offset_that_are_wrong_are_found(monkeypatch: Any) -> None:
    """One that is not written, and one that is the next float."""
    right = zp.dequantize

    def lazy(q: Any, params: Any, *, out: Any) -> None:
        if zp.backend() == NATIVE[0]:
            right(q, params, out=out)

    def wrong(q: Any, params: Any, *, out: Any) -> None:
        right(q, params, out=out)
        out[-1, 7] = np.nextafter(out[-1, 7], np.inf)

    for function, backends in ((lazy, len(NATIVE) - 1), (wrong, len(NATIVE))):
        monkeypatch.setattr(_api, "dequantize", function)
        number, first = differences(_exhaustive.dequantize_by_offset(NATIVE, 1))
        assert number == 2 * 7 * backends
    assert re.match(r"code 7 by .* from .*, cf, fused False: .*, exactly rounded ", first)


@needs_core
def test_a_wrong_half_is_found(monkeypatch: Any) -> None:
    right = _reference.clip

    def wrong(code: Any, x: Any, **keywords: Any) -> Any:
        return right(code, x, **keywords) ^ (x.view(np.uint16) == 0xFE00)

    monkeypatch.setattr(_reference, "clip", wrong)
    number, first = differences(_exhaustive.quantize_halves(NATIVE, ONE_PAIR))
    assert number == 2 * 2 * len(NATIVE) * len(zp.CONVENTIONS) * 2
    assert "(0xFE00) gives 0, the reference 1" in first


@needs_core
def test_a_wrong_value_is_found(monkeypatch: Any) -> None:
    right = _exhaustive._exact_products

    def wrong(s: Any) -> Any:
        products = right(s)
        products[-1, 255 + 7] = np.nextafter(products[-1, 255 + 7], 0)
        return products

    monkeypatch.setattr(_exhaustive, "_exact_products", wrong)
    number, first = differences(_exhaustive.dequantize(NATIVE, 1))
    assert number == 2 * 25 * 2 * len(NATIVE)
    assert "code 7 by scale" in first
    assert "zero point 0" in first


@needs_core
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": np.inf}, "scale"),
        ({"zero_point": 300}, "zero point 300"),
        ({"zero_point": 12}, "the reference"),
    ],
)
def test_wrong_parameters_are_found(monkeypatch: Any, change: Any, message: str) -> None:
    right = zp.choose_params

    class Wrong:
        def __init__(self, params: zp.QuantParams) -> None:
            self.scale, self.zero_point = params.scale.copy(), params.zero_point.copy()
            self.qmin, self.qmax, self.dtype = params.qmin, params.qmax, params.dtype
            for name, value in change.items():
                getattr(self, name)[-1] = value

    monkeypatch.setattr(_api, "choose_params", lambda *a, **k: Wrong(right(*a, **k)))
    number, first = differences(_exhaustive.choose_params(NATIVE, 1))
    assert number
    assert message in first


def test_an_error_of_more_than_half_a_step_is_found() -> None:
    """The bound itself is allowed, the next number is not; they are printed apart exactly."""
    scale = np.array([0.1], np.float32)
    params = zp.QuantParams(scale, 10, axis=0)
    want = scale, np.array([10.0])
    bound = Fraction(float(scale[0])) * (Fraction(1, 2) + Fraction(1, 2**14))
    codes = np.float32(1e-9), np.float32(2.5 * scale[0])
    assert _exhaustive._broken_promise(params, np.array([codes]), want) == ""
    over = np.float64(255.5 + 2.0**-13 - 10) * scale[0]  # a code too far, in float64
    x = np.array([[0.0, over]])
    assert "off by 0.5" in _exhaustive._broken_promise(params, x, want)
    top = Fraction(245) * Fraction(float(scale[0])) + bound
    x = np.array([[0.0, float(top)]])
    assert Fraction(float(top)) == top  # in doubt, and fine
    assert _exhaustive._broken_promise(params, x, want) == ""


# ---------------------------------------------------------------------------------------------
# The command


@pytest.fixture
def brief(monkeypatch: Any) -> None:
    monkeypatch.setattr(_exhaustive, "CHUNKS", CHUNKS[8000:8003])
    monkeypatch.setattr(_exhaustive, "SCALES", 50)
    monkeypatch.setattr(_exhaustive, "RANGES", 100)
    monkeypatch.setattr(_exhaustive, "ALL_ZERO_POINTS", _exhaustive.ALL_ZERO_POINTS[:2])


@pytest.mark.slow("millions of elements")
@needs_core
@pytest.mark.usefixtures("brief")
def test_the_command(capsys: Any) -> None:
    assert _cli.main(["verify", "--deep", "--verbose"]) == 0
    printed = capsys.readouterr()
    for name in NATIVE:
        conventions = len(zp.CONVENTIONS) + len(zp.OFFSET_CONVENTIONS)
        values = 2 + 2 * len(zp.OFFSET_CONVENTIONS)
        rows = conventions * 4 + values + len(_exhaustive.HOW)
        assert printed.out.count(f"\n{name} ") == rows
    assert "elements are as they must be" in printed.out
    assert "all 4,294,967,296 float32" in printed.out
    assert printed.err.splitlines()[-1] == "verify --deep: 100%"

    assert _cli.main(["verify", "--all-zero-points", "--json", "--yes"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"--all-zero-points: about \d[\d.]* hours here", printed.err)
    result = json.loads(printed.out)
    assert result["differences"] == 0
    assert "all 256 zero points" in result["checked"][0]
    rows = [row for row in result["rows"] if row["operation"] == "quantize float32 onnx"]
    assert [row["elements"] for row in rows] == [3 * CHUNK * 2 * 2] * len(NATIVE)


@needs_core
@pytest.mark.usefixtures("brief")
def test_the_command_fails_on_a_difference(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(_reference.CODE, "onnx", lambda x, s, z: np.rint(x / s + z))
    half_step = 0xBC400000  # -1.5 * 2^-7; one of the scales is 2^-7, its zero point odd
    monkeypatch.setattr(_exhaustive, "CHUNKS", [half_step // CHUNK])
    assert _cli.main(["verify", "--deep"]) == 1
    printed = capsys.readouterr()
    assert "calls differ from what they must be" in printed.out
    assert "(0xBC400000) gives" in printed.out


def test_the_command_without_the_core(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(zp._backend, "_ALL", ("reference",))
    assert _cli.main(["verify", "--deep"]) == 1
    assert "Nothing was verified" in capsys.readouterr().out
