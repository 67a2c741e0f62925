"""The C++ package as outside projects find it: built from there, and equal to Python by bits.

Here it comes with the installed Python package; in ``tests/deep`` by a ``cmake --install`` with
AddressSanitizer and UndefinedBehaviorSanitizer, and by one under flags that change results where
they are obeyed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _lookup

from .test_environment import NONSENSE, RIGHT

pytestmark = pytest.mark.slow("builds of projects that use it")

ROOT = Path(__file__).resolve().parents[1]
SHAPE = 6, 7, 64
Array = np.ndarray[Any, np.dtype[Any]]


def run(*command: object, **more: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def cmake(source: Path, build: Path, *defines: str) -> Path:
    for tool in ("cmake", "ninja"):
        assert shutil.which(tool), f'{tool} is missing: pip install ".[test]"'
    run("cmake", "-G", "Ninja", "-S", source, "-B", build, *(f"-D{define}" for define in defines))
    run("cmake", "--build", build)
    return build


@pytest.fixture(scope="module")
def prefix() -> list[str]:
    """CMake definitions with which a project finds the package."""
    if not zp.backends()[:-1]:
        pytest.skip("the core is absent")
    return [f"CMAKE_PREFIX_PATH={run(sys.executable, '-m', 'zeropoint', '--cmakedir').strip()}"]


def test_example_equals_python(prefix: list[str], tmp_path: Path) -> None:
    build = cmake(ROOT / "examples" / "cpp", tmp_path / "build", *prefix)
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=(n, 257)).astype(np.float32) for n in (33, 19))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "w.npy", w)
    run(build / "pipeline", "x.npy", "w.npy", "y.npy", cwd=tmp_path)

    qw, w_params = zp.quantize_dynamic(w, "int8", axis=0, symmetric=True)
    qx, x_params = zp.quantize_dynamic(x, "int8")
    acc = (qx.astype(np.int32) - x_params.zero_point) @ qw.T.astype(np.int32)
    acc_scale = np.float64(x_params.scale) * w_params.scale
    y_params = zp.choose_params((acc * acc_scale).astype(np.float32), "int8")
    per_unit = zp.QuantParams(np.full(19, y_params.scale), y_params.zero_point, "int8", axis=1)
    y = zp.dequantize(zp.requantize(acc, acc_scale, per_unit), y_params)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), y)
    error = np.abs(y - x @ w.T)
    assert error.max() < 0.02 * np.abs(x @ w.T).max()

    missing = subprocess.run([build / "pipeline", "no.npy", "w.npy", "y.npy"], cwd=tmp_path)
    assert missing.returncode == 1


def test_every_function_equals_python(prefix: list[str], tmp_path: Path) -> None:
    build = cmake(ROOT / "tests" / "outside", tmp_path / "build", *prefix)
    for isa in zp.backends()[:-1]:
        where = tmp_path / isa
        where.mkdir()
        compared = _compare(where, build / "api", isa)
        print(f"C++ on {isa}: {compared} results equal Python's")

    _check_environment(build / "api")


def _check_environment(program: Path) -> None:
    """The rules are those of Python."""
    name = "ZEROPOINT_STREAM_FROM"
    for text in ["", *RIGHT]:
        assert set(run(program, "environment", env={name: text}).splitlines()) == {"fine"}
    for text in NONSENSE:
        shown = text if len(text) <= 40 else text[:40] + "..."
        expected = f"{name} '{shown}' is not a whole number below 2^64; give bytes, or unset it"
        assert run(program, "environment", env={name: text}).splitlines() == [expected] * 6


def _compare(where: Path, program: Path, isa: str) -> int:
    x = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32) * 3
    x.flat[:8] = [0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-45]
    data = {"float32": x, "float16": x.astype(np.float16), "bfloat16": x.astype(ml_dtypes.bfloat16)}
    x.tofile(where / "x.bin")
    data["float16"].tofile(where / "x_float16.bin")
    data["bfloat16"].tofile(where / "x_bfloat16.bin")
    pairs = _pairs()
    pairs.tofile(where / "pairs.bin")
    every_code = np.arange(x.size, dtype=np.uint32).astype(np.uint8).reshape(SHAPE)
    every_code.tofile(where / "codes.bin")
    inputs = set(where.iterdir())
    assert " 0 failed" in run(program, where, isa)

    expected: dict[str, Array] = {}

    def expect(name: str, value: Any, dtype: Any = None) -> None:
        expected[name] = np.asarray(value, dtype)

    def both(params: zp.QuantParams) -> Array:
        return np.array([params.scale, params.zero_point], np.float64)

    acc = (np.arange(x.size, dtype=np.uint32) * np.uint32(2654435761)).view(np.int32).reshape(SHAPE)
    for dtype in ("uint8", "int8"):
        for convention in zp.CONVENTIONS:
            name = f"{dtype}_{convention}"
            q, params = zp.quantize_dynamic(x, dtype, convention=convention)
            expect(f"{name}_dynamic", q)
            expect(f"{name}_params", both(params))
            for kind, values in data.items():
                codes = params.quantize(values)
                expect(f"{name}_{kind}_quantize", codes)
                expect(f"{name}_{kind}_dequantize", params.dequantize(codes, dtype=values.dtype))
                expect(f"{name}_{kind}_fake_quantize", params.fake_quantize(values))
            for axis in range(3):
                for block in (None, 4):
                    at = f"{name}_axis{axis}_block{block or 0}"
                    q, along = zp.quantize_dynamic(
                        x, dtype, axis=axis, block_size=block, convention=convention
                    )
                    expect(f"{at}_quantize", q)
                    expect(f"{at}_dequantize", along.dequantize(q))
                    expect(f"{at}_fake_quantize", along.fake_quantize(x))
            expect(f"{name}_requantize", zp.requantize(acc, 3e-9, params))
            along = zp.choose_params(x, dtype, axis=1, convention=convention)
            scales = np.array([1e-9, 2e-9, 3e-9, 4e-9, 5e-9, 6e-9, 7e-9])
            expect(f"{name}_requantize_axis1", zp.requantize(acc, scales, along))
        for rule in ("max", "min", "least_error"):
            for label, include_zero in (("zero", True), ("free", False)):
                params = zp.choose_params(x, dtype, zero_point_from=rule, include_zero=include_zero)
                expect(f"{dtype}_{rule}_{label}", both(params))
        expect(f"{dtype}_symmetric", both(zp.choose_params(x, dtype, symmetric=True)))
        expect(f"{dtype}_saturate_cast", zp.saturate_cast(x, dtype))
    for source, target in itertools.product(("uint8", "int8"), repeat=2):
        for name, value in _tables(pairs, every_code, source, target).items():
            expect(f"{source}_{target}_{name}", value)
    expect("round_away", zp.round(x, ties="away"))
    expect("saturate", zp.saturate(x, -2, 3))
    expect("min_max", zp.min_max(x), np.float32)

    written = {path.stem for path in set(where.iterdir()) - inputs}
    assert written == set(expected)
    for name, value in expected.items():
        assert (where / f"{name}.bin").read_bytes() == value.tobytes(), name
    return len(expected)


def _pairs() -> Array:
    """Rows of scale, zero point, those of the target, its convention, and whether zero points lie
    anywhere: ratios that make halves, any, and ones beyond all codes."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(80):
        anywhere = i % 5 == 4 or i >= 60
        scale, zeros = np.float32(np.exp(rng.uniform(-9, 5))), rng.integers(0, 256, 2)
        ratio = (
            rng.choice([0.5, 0.25, 1, 1.5, 3, 2.0**-8, 2.0**7]) if i % 2 else np.exp(rng.normal())
        )
        if i % 10 in (3, 8):
            ratio = 2.0 ** rng.uniform(-50, 31)
        if anywhere:
            zeros = rng.choice([0, 1, 77, 300, -(2**31), 2**31 - 1], 2)
            ratio = rng.choice([ratio, 1e30, 1e-30])
        if i >= 60:  # what leaves 64 bits, and what just does not
            scale, zeros[0] = np.float32(1), -(2**31)
            ratio = 2.0 ** [*range(-46, -36), *range(4, 14)][i - 60]
        into = np.float32(scale / np.float32(ratio))
        if i == 50:
            scale, into = np.float32([1e-44, 1e-42])
        rows.append((scale, zeros[0], into, zeros[1], 0 if anywhere else i % 5, anywhere))
    return np.array(rows, np.float64)


def _tables(pairs: Array, codes: Array, source: str, target: str) -> dict[str, Array]:
    """What api.cpp writes of codes to codes."""

    def square(x: Array) -> Array:
        return x * x - 3 / x  # Inf at 0

    def by_byte(table: Array) -> bytes:
        return np.roll(table, 128 if source == "int8" else 0).tobytes()

    tables, errors = b"", []
    for row in pairs:
        anywhere = bool(row[5])
        a, b = (
            zp.QuantParams(
                np.float32(s),
                int(z) + (0 if anywhere else int(np.iinfo(dtype).min)),
                dtype,
                convention=convention,
                include_zero=not anywhere,
            )
            for s, z, dtype, convention in (
                (*row[:2], source, "numpy"),
                (*row[2:4], target, list(zp.CONVENTIONS)[int(row[4])]),
            )
        )
        for arithmetic in ("exact", "float") + ("litert", "litert_reference") * (not anywhere):
            found = _lookup._rescaling(a, b, arithmetic)
            tables += by_byte(found.table)
            errors.append(found.max_abs_error)
        found = zp.Lookup(square, a, b)
        tables += by_byte(found.table)
        errors.append(found.max_abs_error)
    assert len(tables) == 256 * len(errors)

    scales = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], np.float32)
    a, b = zp.QuantParams(scales, 3, source, axis=1), zp.QuantParams(0.25, 3, target)
    q = codes.view(source)
    mean = [0.5, 0.4, 0.3, 0.5, 0.5, 0.5, 0.5]
    return {
        "tables": np.frombuffer(tables, np.uint8),
        "errors": np.array(errors),
        "rescale0": zp.rescale(q, a, b),
        "rescale1": zp.rescale(q, a, b, arithmetic="litert"),
        "rescale2": zp.rescale(q, a, b, arithmetic="litert_reference"),
        "rescale3": zp.rescale(q, a, b, arithmetic="float"),
        "lookup": zp.Lookup(square, a, b)(q),
        "rescale": zp.rescale(q, zp.QuantParams(0.5, 1, source), b),
        "image": zp.image_lookup(mean, 0.25, b, channel_axis=1)(codes),
    }


def test_scikit_build_core_finds_it() -> None:
    # the group that it searches: the root has share/cmake/zeropoint below it
    [entry] = importlib.metadata.entry_points(group="cmake.root", name="zeropoint")
    root = importlib.resources.files(entry.load())
    assert root.joinpath("share", "cmake", "zeropoint", "zeropointConfig.cmake").is_file()


def test_paths_are_printed() -> None:
    out = run(sys.executable, "-m", "zeropoint", "--includes").strip()
    assert out.startswith("-I")
    assert (Path(out[2:]) / "zeropoint" / "zeropoint.hpp").is_file()
