"""What the bindings promise beside results: what they take at once, look at first, and refuse."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Never

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint._choice import Choice

from .test_backend import IMPORT_FROM, python, without_core

CORE: Any = zp._backend._core
X = np.random.default_rng(5).normal(size=(40, 6)).astype(ml_dtypes.bfloat16)

pytestmark = pytest.mark.skipif(CORE is None, reason="the compiled core is absent")


def test_bfloat16_takes_the_fast_path(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = np.empty_like(X)

    def results() -> list[Any]:
        found: list[Any] = []
        for params in (zp.choose_params(X), zp.choose_params(X, "int8", axis=1)):
            codes = zp.quantize(X, params)
            found += [params, codes, zp.fake_quantize(X, params)]
            found += [zp.dequantize(codes, params, out=out).copy()]
        return [*found, *zp.min_max(X), *zp.quantize_dynamic(X)]

    with zp.use_backend("reference"):
        expected = results()

    def general(*_: Any) -> Never:
        raise AssertionError("not the fast path")

    for name in ("elementwise", "min_max", "choose"):
        monkeypatch.setattr(zp._backend, name, general)
    for got, want in zip(results(), expected, strict=True):
        if isinstance(got, zp.QuantParams):
            assert got == want
        else:
            assert got.dtype == want.dtype
            assert got.tobytes() == want.tobytes()


def test_another_type_of_two_bytes_is_not_bfloat16() -> None:
    # a user's dtype too, with a number like bfloat16's
    params = zp.QuantParams(0.1, 3)
    for dtype in (ml_dtypes.float8_e4m3fn, "V2", "S2"):
        with pytest.raises(TypeError, match="x has dtype"):
            zp.quantize(np.zeros(4, dtype), params)


def test_out_is_looked_at_before_the_data() -> None:
    # the data lie on a page without the right to read, so that a read ends the process
    code = """
    import inspect, mmap, numpy as np, zeropoint as zp
    def quantize_dynamic(*_, **__): ...
    quantize_dynamic.__signature__ = inspect.signature(zp.quantize_dynamic)
    (dynamic,) = zp._backend.builtins(quantize_dynamic)
    x = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE, prot=0), np.float32)
    for out in (np.empty(2 * x.size, np.uint8), np.empty(x.size, np.int8), [0] * x.size):
        print(dynamic(x, out=out))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "None\n" * 3), done.stderr


def run(code: str) -> str:
    """What a process prints that does this; it may end it."""
    code = "import numpy as np\nimport zeropoint as zp\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.parametrize(
    "call",
    [
        "zp.saturate_cast(x, dtype)",
        "zp.quantize_dynamic(x, dtype)[0]",
        "zp.choose_params(x, dtype).quantize(x)",
    ],
)
def test_a_dtype_may_move_the_data(call: str) -> None:
    # what a dtype object's own code does to the array is done when the array is looked at
    code = f"""
    x, n = np.ones(1 << 22, np.float32), 1 << 24
    class Moves:
        @property
        def dtype(self):
            x.resize(n, refcheck=False)
            return np.dtype("int8")
    dtype = Moves()
    found = {call}
    print(found.shape == (n,), x.shape == (n,))
    """
    assert run(code) == "True True\n"


def test_a_dtype_may_drop_the_parameters() -> None:
    code = """
    params = zp.QuantParams(np.full(1 << 16, 0.5), 3, axis=0)
    q = np.full(1 << 16, 5, np.uint8)
    class Drops:
        @property
        def dtype(self):
            object.__setattr__(params, "_native", None)
            self.kept = [np.full(1 << 16, np.nan) for _ in range(8)]
            return np.dtype("float32")
    found = zp.dequantize(q, params, dtype=Drops())
    print(set(found.tolist()))
    """
    assert run(code) == "{1.0}\n"


def test_what_the_core_holds_takes_no_attributes() -> None:
    for held in (zp.QuantParams(0.1, 3)._native, Choice().native):
        with pytest.raises(TypeError, match="immutable type"):
            type(held).x = 3  # type: ignore[attr-defined]
        assert not hasattr(held, "x")


def test_parameters_without_values_are_explained_by_python(backend: str) -> None:
    empty = zp.QuantParams.__new__(zp.QuantParams)
    x, q, acc = np.ones(3, np.float32), np.ones(3, np.uint8), np.ones(3, np.int32)
    for call in (
        lambda: zp.quantize(x, empty),
        lambda: zp.fake_quantize(x, empty),
        lambda: zp.dequantize(q, empty),
        lambda: zp.requantize(acc, 0.1, empty),
    ):
        with pytest.raises(AttributeError) as native:
            call()
        with zp.use_backend("reference"), pytest.raises(AttributeError) as expected:
            call()
        assert str(native.value) == str(expected.value)


def test_requantize_makes_no_parameters(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = zp.QuantParams([0.1, 0.2], [3, 4], axis=1)
    acc = np.array([[100, 200], [-50, 7]], np.int32)

    def made(*_: Any, **__: Any) -> Never:
        raise AssertionError("parameters were made")

    monkeypatch.setattr(zp.QuantParams, "__init__", made)
    assert zp.requantize(acc, 0.01, params).tolist() == [[13, 14], [0, 4]]


def make_choice(**changes: Any) -> Any:
    """The core's, of keywords that nothing has checked."""
    return CORE.make_choice(*(Choice().keywords | changes).values(), None)


def test_names_are_those_of_the_core() -> None:
    assert CORE.conventions() == list(zp.CONVENTIONS)
    one, zero = np.ones((), np.float32), np.zeros((), np.int32)
    for name in (*zp.CONVENTIONS, "gguf"):
        known = name in zp.CONVENTIONS
        for make in (
            lambda name: CORE.make_params(one, zero, 0, 255, False, name, None, 0, None),
            lambda name: make_choice(convention=name),
        ):
            if known:
                make(name)
            else:
                with pytest.raises(ValueError, match="unknown name: gguf"):
                    make(name)
    with pytest.raises(ValueError, match="unknown name: mean"):
        make_choice(zero_point_from="mean")
    assert CORE.offset_conventions() == list(zp.OFFSET_CONVENTIONS)
    rest = None, 0, None, False
    for name in zp.OFFSET_CONVENTIONS:
        CORE.make_offset_params(one, one, 0, 255, False, name, *rest)
    with pytest.raises(ValueError, match="unknown name: numpy"):
        CORE.make_offset_params(one, one, 0, 255, False, "numpy", *rest)


@pytest.mark.parametrize("conventions", ["", "def conventions(): return ['numpy', 'ggml']"])
def test_a_core_of_another_version(tmp_path: Path, conventions: str) -> None:
    """It can be imported, as a reinstallation does, and the first use says what to do."""
    path = without_core(tmp_path)
    (tmp_path / "zeropoint" / "_core.py").write_text(
        textwrap.dedent("""
        isas = lambda: ["baseline"]
        enter_ieee = lambda: 0
        leave_ieee = lambda *_: None
        """)
        + conventions
    )
    for use in ("QuantParams(1, 2)", "choose_params([1.0])", "round([1.5])", "min_max([1.0])"):
        done = python(IMPORT_FROM.format(path) + f"import zeropoint as zp\nprint(0)\nzp.{use}")
        assert done.stdout == "0\n", done.stderr
        assert "ImportError: the compiled core is of another version" in done.stderr


@pytest.mark.parametrize(("source", "target"), [("f4", "f8"), ("f4", "f2"), ("u2", "u2")])
def test_saturate_takes_one_dtype_that_it_has_a_loop_for(source: str, target: str) -> None:
    x, out = np.ones(4, source), np.ones(4, target)
    with pytest.raises(ValueError, match="dtypes that there is a loop for"):
        CORE.saturate_into(0, x, out, 0, 1)
