"""Details of the checks and of the arithmetic that no other test looks at: mutants found them."""

from __future__ import annotations

import io
import statistics
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _clipping, _params, files, observers
from zeropoint._files import npy, npz

from . import exact

X = np.linspace(-1, 3, 24, dtype=np.float32).reshape(4, 6)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"axis": True}, TypeError, "axis must be an integer, not bool True"),
        ({"axis": np.True_}, TypeError, "axis must be an integer, not bool"),
        ({"axis": 1.0}, TypeError, "axis must be an integer, not float 1.0"),
        ({"axis": 2**70}, ValueError, "axis 1180591620717411303424 is beyond"),
        (
            {"axis": 1, "block_size": True},
            TypeError,
            "block_size must be an integer, not bool True",
        ),
        ({"axis": 1, "block_size": 2.0}, TypeError, "block_size must be an integer, not float 2.0"),
        ({"axis": 1, "block_size": 0}, ValueError, "block_size 0 must be at least 1"),
        ({"axis": 1, "block_size": -1}, ValueError, "block_size -1 must be at least 1"),
        ({"axis": 1, "block_size": 2**63}, ValueError, "block_size 9223372036854775808 must be"),
        ({"block_size": 2}, ValueError, "block_size 2 needs an axis"),
    ],
)
def test_axis_and_block_size_of_the_choice(
    backend: str, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    """What the fast entry cannot take is explained, and not rounded, nor cut to a machine word."""
    for function in (zp.choose_params, zp.quantize_dynamic):
        with pytest.raises(error, match=message):
            function(X, **keywords)


@pytest.mark.parametrize("kind", [int, np.int8, np.int64])
def test_any_integer_is_an_axis(backend: str, kind: type) -> None:
    expected = zp.choose_params(X, axis=1, block_size=4)
    found = zp.choose_params(X, axis=kind(-1), block_size=kind(4))
    assert (found.scale == expected.scale).all()
    assert zp.min_max(X, channel_axis=kind(1))[0].tolist() == X.min(axis=0).tolist()
    with pytest.raises(TypeError, match="axis must be an integer, not bool True"):
        zp.min_max(X, channel_axis=True)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_one_bad_scale_of_many_accumulators(backend: str, bad: float) -> None:
    acc = np.zeros((4, 3), np.int32)
    params = zp.QuantParams([0.5, 0.5, 0.5], 0, axis=1)
    with pytest.raises(ValueError, match="acc_scale .* must be finite and > 0"):
        zp.requantize(acc, np.array([1.0, bad, 1.0]), params)
    with pytest.raises(ValueError, match="must be a positive float32; .* is too far from"):
        zp.requantize(acc, np.array([1.0, 1e-60 if bad == 0 else 1e60, 1.0]), params)


def test_errors_name_the_channel_that_is_wrong(backend: str) -> None:
    x = np.array([[0, 255], [2**31 + 1, 2**31 + 256], [1, 256]], np.float64)
    with pytest.raises(ValueError, match=r"zero point would be -2147483649\.0, beyond int32"):
        zp.choose_params(x, axis=0, include_zero=False)
    with pytest.raises(ValueError, match=r"x is constant \(7\.0\)"):
        zp.choose_params(
            np.array([[0, 255], [7, 7], [1, 2]], np.float64), axis=0, include_zero=False
        )


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_min_max_gives_scalars_or_rows(backend: str, real: type) -> None:
    for x in (X.astype(real), X.astype(real)[:, ::2]):  # plain, and not plain
        low, high = zp.min_max(x)
        assert type(low) is type(high) is real
        low, high = zp.min_max(x, channel_axis=0)
        assert low.shape == high.shape == (4,)


def test_bounds_that_bfloat16_holds(backend: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([-300, 0, 300], ml_dtypes.bfloat16)
    for edge in (255, 256, 258):
        assert zp.saturate(x, -edge, edge).tolist() == [-edge, 0, edge]
    for bounds in ((0, 257), (-257, 0)):
        with pytest.raises(ValueError, match="257 is not a bfloat16"):
            zp.saturate(x, *bounds)


# ---------------------------------------------------------------------------------------------
# Parameters


def test_include_zero_is_numpys_alone() -> None:
    for convention in ("onnx", "torch", "tflite", "ggml"):
        with pytest.raises(
            ValueError, match="include_zero=False is for the numpy convention alone"
        ):
            zp.QuantParams(0.5, 0, convention=convention, include_zero=False)


def test_the_dictionary_of_no_channels_needs_no_shape() -> None:
    none = zp.QuantParams(np.zeros(0, np.float32), 0, axis=0)
    assert "shape" not in none.to_dict()
    assert zp.QuantParams.from_dict(none.to_dict()) == none
    no_blocks = zp.QuantParams(np.zeros((0, 3), np.float32), 0, axis=1, block_size=2)
    assert no_blocks.to_dict()["shape"] == [0, 3]


def test_lists_are_read_to_the_depth_of_an_array() -> None:
    def nested(depth: int) -> Any:
        value: Any = 1.0
        for _ in range(depth):
            value = [value]
        return value

    assert _params._holds_only(nested(64), (float,))
    assert not _params._holds_only(nested(65), (float,))
    assert not _params._holds_only(nested(100_000), (float,))
    assert not _params._holds_only([1.0, True], (float, int))


# ---------------------------------------------------------------------------------------------
# The search for a range


def sample(name: str) -> np.ndarray[Any, Any]:
    """Quantiles of a distribution: the same data everywhere."""
    n, normal = 300 if name.startswith("few") else 4000, statistics.NormalDist()
    x = np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])
    kinds = {
        "normal": x,
        "tails": np.sinh(2 * x),
        "skew": np.exp(x),
        "outlier": np.append(x, 300.0),
        "clumps": np.repeat(np.sinh(x[::100]), 100),
    }
    return kinds[name.removeprefix("few ")].astype(np.float32)


@pytest.mark.parametrize(
    ("name", "method", "expected"),
    [
        ("normal", "percentile", [(0.02454044, 0), (0.02463706, 0), (0.02454044, 0)]),
        ("normal", "mse", [(0.02872361, 0), (0.02825949, 0), (0.02872361, 0)]),
        ("normal", "entropy", [(0.02872361, 0), (0.02883669, 0), (0.02872361, 0)]),
        ("few normal", "percentile", [(0.02301739, 0), (0.02310801, 0), (0.02301739, 0)]),
        ("few normal", "mse", [(0.02302079, 0), (0.02311181, 0), (0.02302079, 0)]),
        ("few normal", "entropy", [(0.02302117, 0), (0.02311181, 0), (0.02302117, 0)]),
        ("tails", "percentile", [(2.047059, 0), (2.055118, 0), (2.047059, 0)]),
        ("tails", "mse", [(5.949125, 0), (5.972547, 0), (5.949125, 0)]),
        ("tails", "entropy", [(0.9333333, 0), (0.9370078, 0), (0.9333333, 0)]),
        ("few tails", "percentile", [(1.389593, 0), (1.395064, 0), (1.389593, 0)]),
        ("few tails", "mse", [(1.389755, 0), (1.395226, 0), (1.389755, 0)]),
        ("few tails", "entropy", [(1.389755, 0), (1.395226, 0), (1.389755, 0)]),
        ("skew", "percentile", [(0.08964461, -128), (0.1799951, 0), (0.08946078, -129)]),
        ("skew", "mse", [(0.1527238, -128), (0.300396, 0), (0.1526415, -128)]),
        ("skew", "entropy", [(0.07444853, -128), (0.1497293, 0), (0.07434785, -128)]),
        ("outlier", "percentile", [(0.02475417, -2), (0.02509793, 0), (0.02475417, -2)]),
        ("outlier", "mse", [(1.190774, -125), (2.314961, 0), (1.190774, -125)]),
        ("outlier", "entropy", [(0.1251461, -99), (0.1259843, 0), (0.1251461, -99)]),
        ("clumps", "percentile", [(0.08999424, 88), (0.1532422, 0), (0.08999424, 88)]),
        ("clumps", "mse", [(0.08999477, 88), (0.1532425, 0), (0.08999477, 88)]),
        ("clumps", "entropy", [(0.08999477, 88), (0.1532425, 0), (0.08999477, 88)]),
        ("few clumps", "percentile", [(0.03856958, 115), (0.07390598, 0), (0.03856958, 115)]),
        ("few clumps", "mse", [(0.03856966, 115), (0.07390605, 0), (0.03856966, 115)]),
        ("few clumps", "entropy", [(0.03856966, 115), (0.07390606, 0), (0.03856966, 115)]),
    ],
)
def test_the_methods_choose_what_they_chose(
    name: str, method: str, expected: list[tuple[float, int]]
) -> None:
    """Not that these are the best ranges, but that no change of the search goes unseen."""
    observer = observers.HistogramObserver().update(sample(name))
    keywords: list[dict[str, Any]] = [{}, {"symmetric": True}, {"include_zero": False}]
    for how, (scale, zero_point) in zip(keywords, expected, strict=True):
        params = observer.params("int8", method=method, percentile=99.9, **how)
        assert float(params.scale) == pytest.approx(scale, rel=1e-6), how
        assert params.zero_point == zero_point, how


def test_symmetric_codes_of_a_range_that_is_not_centred() -> None:
    """uint8's zero point is 128, and 127 codes lie above it."""
    observer = observers.HistogramObserver().update(sample("tails"))
    for method in ("mse", "entropy"):
        params = observer.params(method=method, symmetric=True)
        assert params.zero_point == 128
        assert params.scale == observer.params("int8", method=method, symmetric=True).scale


# ---------------------------------------------------------------------------------------------
# Headers of .npy files


@pytest.mark.parametrize("shape", [(), (0,), (3,), (10**9, 7), (1,) * 64])
def test_the_data_of_a_npy_start_at_a_multiple_of_64(shape: tuple[int, ...]) -> None:
    header = npy.write_header(np.dtype(np.float32), shape)
    assert len(header) % 64 == 0
    assert len(header) - 10 == int.from_bytes(header[8:10], "little")
    assert header.endswith(b"\n")


@pytest.mark.parametrize("label", ["O", "|O", "|O8", "<O"])
def test_objects_in_a_npy_are_called_so(label: str) -> None:
    with pytest.raises(npy.NoArrayError, match="holds Python objects, which are never loaded"):
        npy._dtype(label, Path("w.npy"), "w")


def test_a_member_that_ends_early_fills_what_it_has() -> None:
    member = npz._Member(io.BytesIO(b"abc"), Path("w.npz"))
    room = bytearray(b"-----")
    assert member.readinto(memoryview(room)) == 3
    assert room == b"abc--"
    assert member.readinto(memoryview(room)) == 0


def test_clumps_by_hand() -> None:
    """The variance of neighbours over their mean, at most 3 sqrt(n), at least 1."""
    edges = np.array([[0, 1, 2, 3, 3], [0, 1, 2, 3, 4]], np.float64)  # the last bin of one is none
    counts = np.array([[4, 0, 4, 0], [100, 100, 100, 100]])
    found = _clipping._clumps(_clipping.Histograms(edges, counts))
    assert found.tolist() == [[4, 1, 4, 1], [1, 1, 1, 1]]


# ---------------------------------------------------------------------------------------------
# The rule of the least error


def test_least_error_where_the_rules_differ(backend: str) -> None:
    """The errors of both ends by exact fractions, for zero points that differ far from 0."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.normal(size=(40_000, 2)), axis=1) + rng.normal(size=(40_000, 1)) * 100
    x = x.astype(np.float32)
    found = {
        rule: zp.choose_params(x, axis=0, include_zero=False, zero_point_from=rule)
        for rule in ("max", "min", "least_error")
    }

    def error(end: np.float32, scale: np.float32, z: int) -> Fraction:
        code = exact.code(end, scale, z, 0, 255, "numpy", "float32")
        value = exact.value(code, scale, z, "float32", "float32")
        assert isinstance(value, Fraction)
        return abs(value - Fraction(float(end)))

    seen = set()
    rows = np.flatnonzero(found["max"].zero_point != found["min"].zero_point)
    for row in rows:
        scale = found["max"].scale[row]
        by_max, by_min = (int(found[rule].zero_point[row]) for rule in ("max", "min"))
        errors = [max(error(end, scale, z) for end in x[row]) for z in (by_max, by_min)]
        expected = by_max if errors[0] < errors[1] else by_min
        assert found["least_error"].zero_point[row] == expected, x[row]
        seen.add((expected == by_max, errors[0] == errors[1]))
    assert seen == {(True, False), (False, True), (False, False)}


def test_a_small_file_with_nan(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32([1, np.nan, 2]))
    with pytest.raises(
        ValueError, match=r"has 1 NaN or Inf of 3 elements, the first \(nan\) at index"
    ):
        files.quantize_file(tmp_path / "x.npy", tmp_path / "q.safetensors")


@pytest.mark.parametrize("real", [np.float16, np.float32, np.float64])
def test_saturate_keeps_the_sign_of_a_zero_at_its_bounds(backend: str, real: type) -> None:
    x = np.array([-0.0, 0.0] * 70, real)
    for bounds in ((-5, 0), (0, 5)):
        assert np.signbit(zp.saturate(x, *bounds)).tolist() == np.signbit(x).tolist()
