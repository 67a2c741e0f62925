"""The engine of ``zeropoint verify``: it runs everything, and it can fail."""

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _api, _backend, _reference, _selfcheck

NATIVE = [name for name in zp.backends() if name != "reference"]
needs_core = pytest.mark.skipif(not NATIVE, reason="the compiled core is absent")


@pytest.fixture
def brief(monkeypatch):
    """Few sizes, so that a run takes a moment."""
    monkeypatch.setattr(_selfcheck, "_SIZES", [0, 1, 7, 33, 100, 130])
    for name in ("_LONG", "_MANY", "_TILED"):
        monkeypatch.setattr(_selfcheck, name, ())


@pytest.mark.slow("every kernel at every size")
def test_no_backend_differs_from_the_reference():
    rows = list(_selfcheck.run())
    assert [row[:2] for row in rows] == [(b, o) for o in _selfcheck.OPERATIONS for b in NATIVE]
    for row in rows:
        assert row.differences == 0, row.first
        assert row.first == ""
        assert row.cases > 200
        assert row.elements > 50_000


def test_the_reference_is_not_its_own_oracle():
    assert list(_selfcheck.run(["reference"])) == []


BROKEN = {
    "clip": ("quantize", "fake_quantize", "quantize_dynamic", "errors"),
    "unclipped_by_offset": ("quantize", "fake_quantize", "quantize_dynamic", "errors"),
    "dequantize": ("dequantize", "fake_quantize", "errors"),
    "dequantize_by_offset": ("dequantize", "fake_quantize", "errors"),
    "requantize": ("requantize",),
    "saturate": ("saturate",),
    "saturate_cast": ("saturate_cast",),
    "round": ("round",),
    "min_max": ("min_max", "quantize_dynamic", "histogram", "errors"),
    "histogram": ("histogram",),
    "fewest": ("errors",),
    "choose": ("min_max", "quantize_dynamic"),
}


@pytest.mark.slow("the whole check, ten times")
@needs_core
@pytest.mark.parametrize("function", BROKEN)
def test_a_wrong_result_is_found(brief, monkeypatch, function):
    """One wrong element in the reference's answers is seen where that function takes part."""
    right = getattr(_reference, function)

    def wrong(*arguments, **keywords):
        result = right(*arguments, **keywords)
        first = result[0] if isinstance(result, tuple) else result
        if first.size == 33 or function in ("min_max", "choose"):
            first = first.copy()
            first.flat[-1:] = first.flat[-1:] == 0  # 1 for 0, 0 for anything else
        return (first, *result[1:]) if isinstance(result, tuple) else first

    monkeypatch.setattr(_reference, function, wrong)
    rows = list(_selfcheck.run(NATIVE[-1:]))
    found = {row.operation for row in rows if row.differences}
    assert found == set(BROKEN[function])
    for row in rows:
        assert (row.differences > 0) == bool(row.first)
        if row.first:
            assert f"on {NATIVE[-1]} differs from the reference" in row.first


@needs_core
def test_a_wrong_fast_path_is_found(brief, monkeypatch):
    def wrong(x, params, out=None):
        codes = zp.quantize(x, params, out=out)
        if codes.size == 33 and not _backend.current().verify:  # so this call takes the fast path
            codes.flat[20] ^= 1
        return codes

    monkeypatch.setitem(_selfcheck.OPERATIONS, "quantize", lambda: _selfcheck._quantize(wrong))
    rows = list(_selfcheck.run(NATIVE[-1:]))
    assert {row.operation for row in rows if row.differences} == {"quantize"}
    assert rows[0].first == f"{NATIVE[-1]}: the fast path and the general path differ"


WRITERS = ("requantize", "saturate", "saturate_cast", "round")


def rows_of_writers() -> Iterator[_selfcheck.Row]:
    for operation in WRITERS:
        cases = [case for case in _selfcheck.OPERATIONS[operation]() if case.elements > 2]
        yield from _selfcheck._rows(NATIVE[-1:], operation, iter(cases))


@needs_core
def test_a_kernel_that_writes_nothing_is_found(brief, monkeypatch):
    """Whatever the memory held: often it is an earlier result, and right."""
    right = _backend._run

    def lazy(kernel, isa, x, dtype, out, native, expected):
        if not _backend.current().verify:
            return right(kernel, isa, x, dtype, out, native, expected)
        monkeypatch.setattr(_backend, "_core", SimpleNamespace(**{kernel: lambda *_: None}))
        try:
            return right(kernel, isa, x, dtype, out, native, expected)
        finally:
            monkeypatch.setattr(_backend, "_core", core)

    core = _backend._core
    monkeypatch.setattr(_backend, "_run", lazy)
    for row in rows_of_writers():
        assert row.differences == row.cases, row.operation


@needs_core
def test_a_fast_path_that_writes_nothing_is_found(brief, monkeypatch):
    """The same, where the fresh memory that it returns does hold the right result."""
    for operation in WRITERS:
        right = getattr(_api, operation)

        def lazy(*arguments, right=right, out=None, **keywords):
            if out is None or _backend.current().verify:
                return right(*arguments, out=out, **keywords)
            return out

        monkeypatch.setattr(_api, operation, lazy)
    for row in rows_of_writers():
        assert row.differences == row.cases, row.operation


@pytest.mark.parametrize(
    "kernel", ["transmogrify f32 f32", "quantize f32 newconvention", "dequantize u4 f32"]
)
def test_a_kernel_that_nothing_runs_is_an_error(monkeypatch, kernel):
    monkeypatch.setattr(_backend, "core_info", lambda: {"kernels": ["round f32 even", kernel]})
    with pytest.raises(RuntimeError, match=kernel):
        next(_selfcheck.run())


def native(dtype):
    return dtype if dtype.isnative else dtype.newbyteorder()


def test_the_inputs_are_the_hard_ones():
    """NaN, both Infs, both zeros, and exact half steps reach quantize in every dtype."""
    special = {dtype: set() for dtype in _selfcheck.REALS}
    half_steps = dict.fromkeys(_selfcheck.REALS, 0)
    for case in _selfcheck.OPERATIONS["quantize"]():
        x, params = case.call.args
        y = np.asarray(x, np.float64)
        found = y[np.isnan(y) | np.isinf(y) | (y == 0)]
        dtype = native(x.dtype)
        special[dtype] |= {str(value) for value in found}
        if params.axis is None:
            with np.errstate(all="ignore"):
                steps = y / float(params.scale)
            half_steps[dtype] += np.count_nonzero(steps[np.isfinite(steps)] % 1 == 0.5)
    for dtype in _selfcheck.REALS:
        assert special[dtype] == {"nan", "inf", "-inf", "0.0", "-0.0"}, dtype
        assert half_steps[dtype] > 100, dtype


@pytest.mark.slow("draws all inputs of the check")
@pytest.mark.parametrize("operation", _selfcheck.OPERATIONS)
def test_every_dtype_meets_every_size_per_tensor(operation):
    seen = {}
    for case in _selfcheck.OPERATIONS[operation]():
        x = case.call.args[0]
        if x.ndim == 1:
            seen.setdefault(native(x.dtype), set()).add(x.size)
    for dtype, sizes in seen.items():
        assert set(_selfcheck._SIZES) <= sizes, dtype


@pytest.mark.slow("every kernel once more, in a process")
def test_results_streamed_past_the_caches() -> None:
    """With a threshold of nothing every result that is long enough is streamed; some are short."""
    code = (
        "from zeropoint import _selfcheck as check; check._SIZES = [1025, 4099]; "
        "few = dict.fromkeys(('min_max', 'histogram', 'errors'), lambda: iter(())); "
        "check.OPERATIONS.update(few); "
        "wrong = [row for row in check.run() if row.differences]; assert not wrong, wrong"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ZEROPOINT_STREAM_FROM": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
