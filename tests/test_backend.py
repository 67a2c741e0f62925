"""Choosing a backend, `verify`, and what happens where there is no core."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

PACKAGE = Path(zp.__file__).parent


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_names() -> None:
    assert zp.backends()[-1] == "reference"
    assert set(zp.backends()) <= {*zp._backend.core_info().get("isas", ()), "reference"}
    if len(zp.backends()) > 1:
        assert zp.backends()[-2] == "baseline"
    assert zp.backend() == zp.backends()[0] or "ZEROPOINT_BACKEND" in os.environ


def test_use_backend_nests_and_restores() -> None:
    outer = zp.backend()
    with zp.use_backend("reference"):
        assert zp.backend() == "reference"
        with zp.use_backend(zp.backends()[0]):
            assert zp.backend() == zp.backends()[0]
        assert zp.backend() == "reference"
        with pytest.raises(RuntimeError), zp.use_backend(zp.backends()[0]):
            raise RuntimeError
        assert zp.backend() == "reference"
    assert zp.backend() == outer


def test_use_backend_is_context_local() -> None:
    seen: list[str] = []
    with zp.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(zp.backend()))
        thread.start()
        thread.join()
        contextvars.copy_context().run(lambda: seen.append(zp.backend()))
    assert seen == [zp.backend(), "reference"]


@pytest.mark.parametrize("name", zp.backends())
def test_environment(name: str) -> None:
    done = python("import zeropoint as zp; print(zp.backend())", ZEROPOINT_BACKEND=name)
    assert done.stdout.strip() == name


def test_unknown_environment_lists_the_choices() -> None:
    done = python("import zeropoint", ZEROPOINT_BACKEND="mmx")
    assert done.returncode == 1
    assert "ZEROPOINT_BACKEND 'mmx' is not a backend of this machine; choose one of" in done.stderr


def test_verify_compares_every_call(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = zp.QuantParams(0.5, 3)
    x = np.arange(5, dtype=np.float32)
    with zp.verify():
        expected = params.quantize(x)
    calls: list[str] = []
    reference = zp._reference.clip

    def spy(*args: Any, **keywords: Any) -> Any:
        calls.append("reference")
        return reference(*args, **keywords)

    monkeypatch.setattr(zp._reference, "clip", spy)
    with zp.verify():
        assert params.quantize(x).tolist() == expected.tolist()
        assert params.quantize(x, out=np.empty(5, np.uint8)).tolist() == expected.tolist()
    assert calls == ["reference"] * 2
    if backend != "reference":
        calls.clear()
        params.quantize(x)
        assert calls == []


@pytest.mark.parametrize(
    "operation", ["dequantize", "min_max", "saturate", "round", "saturate_cast"]
)
def test_verify_can_fail(isa: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(zp._reference, operation)

    def wrong(*args: Any, **keywords: Any) -> Any:
        result = right(*args, **keywords)
        return (result[0] + 1, result[1]) if operation == "min_max" else result + 1

    monkeypatch.setattr(zp._reference, operation, wrong)
    x = np.arange(4, dtype=np.float32)
    call = {
        "dequantize": lambda: zp.QuantParams(1.0, 0).dequantize(np.zeros(3, np.uint8)),
        "min_max": lambda: zp.min_max(x),
        "saturate": lambda: zp.saturate(x, 0, 2),
        "round": lambda: zp.round(x),
        "saturate_cast": lambda: zp.saturate_cast(x, "uint8"),
    }[operation]
    with pytest.raises(zp.VerificationError, match="differs from the reference"):
        call()


def test_another_backend_is_verified_too(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`use_backend` inside `verify` keeps the verification, and after it too."""
    right = zp._reference.round
    monkeypatch.setattr(zp._reference, "round", lambda *args: right(*args) + 1)
    x = np.arange(4, dtype=np.float32)
    for name in zp.backends()[:-1]:
        with (
            zp.use_backend(name),
            pytest.raises(zp.VerificationError, match=f"on {name} differs"),
        ):
            zp.round(x)
    with zp.use_backend("reference"):
        zp.round(x)
    with pytest.raises(zp.VerificationError, match=f"on {isa} differs"):
        zp.round(x)


def without_core(tmp_path: Path) -> str:
    """A copy of the package without the compiled module, as `pip install` leaves it then."""
    target = tmp_path / "zeropoint"
    target.mkdir()
    for source in PACKAGE.rglob("*.py"):
        copy = target / source.relative_to(PACKAGE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(source.read_bytes())
    return str(tmp_path)


#: an editable install finds its own package first; these lines put the copy in front of it
IMPORT_FROM = """
import sys
hooks = [f for f in sys.meta_path if "editable" in type(f).__module__]
sys.meta_path[:] = [f for f in sys.meta_path if f not in hooks]
sys.path.insert(0, {!r})
"""


def in_pure_python(tmp_path: Path, code: str, **environment: str) -> str:
    prelude = IMPORT_FROM.format(without_core(tmp_path))
    done = python(prelude + textwrap.dedent(code), **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_core_numpy_answers_and_warns_once(tmp_path: Path) -> None:
    out = in_pure_python(
        tmp_path,
        """
        import warnings, numpy as np, zeropoint as zp
        print(zp.backends(), zp.backend())
        x = np.array([0.0, 1.0, 2.0], np.float32)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            params = zp.choose_params(x)
            params.quantize(x); params.dequantize(params.quantize(x))
        print(len(caught), caught[0].category.__name__, "compiler" in str(caught[0].message))
        """,
    )
    assert out.splitlines() == ["('reference',) reference", "1 RuntimeWarning True"]


def test_without_the_core_a_named_numpy_backend_does_not_warn(tmp_path: Path) -> None:
    out = in_pure_python(
        tmp_path,
        """
        import warnings, zeropoint as zp
        warnings.simplefilter("error")
        print(zp.round([1.5]))
        """,
        ZEROPOINT_BACKEND="reference",
    )
    assert out.strip() == "[2.]"


def test_a_core_that_fails_to_load_is_an_error(tmp_path: Path) -> None:
    path = without_core(tmp_path)
    (tmp_path / "zeropoint" / "_core.py").write_text("raise ImportError('broken core')")
    done = python(IMPORT_FROM.format(path) + "import zeropoint")
    assert done.returncode == 1
    assert "broken core" in done.stderr
