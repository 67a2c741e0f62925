"""The C++ package by a ``cmake --install``: under sanitizers, and under flags that change results
where they are obeyed.  The library and the project have the same flags.

Of what a parent project sets, `test_packaging.py` has a build, and `test_build.py` the options.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ..test_cpp_package import (
    ROOT,
    cmake,
    run,
    test_every_function_equals_python,
    test_example_equals_python,
)

__all__ = ["test_every_function_equals_python", "test_example_equals_python"]

SANITIZE = "-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -g"
#: linked with these, the project is in flush-to-zero when it calls
FAST_MATH = "-Ofast -ffast-math -funsigned-char"


@pytest.fixture(scope="module", params=[SANITIZE, FAST_MATH], ids=["sanitized", "fast-math"])
def prefix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The definitions, those of the library among them, after a `cmake --install`."""
    where = tmp_path_factory.mktemp("package")
    flags = [f"CMAKE_CXX_FLAGS={request.param}", f"CMAKE_C_FLAGS={request.param}"]
    if request.param == SANITIZE:
        flags.append("CMAKE_BUILD_TYPE=Debug")
    cmake(ROOT, where / "build", f"CMAKE_INSTALL_PREFIX={where / 'prefix'}", *flags)
    run("cmake", "--install", where / "build")
    return [f"CMAKE_PREFIX_PATH={where / 'prefix'}", *flags]


def test_c_example(prefix: list[str], tmp_path: Path) -> None:
    build = cmake(ROOT / "examples" / "c", tmp_path / "build", *prefix)
    np.linspace(-1, 3, 24, dtype=np.float32).tofile(tmp_path / "x.f32")
    run(build / "layer", "x.f32", "x.f32", "y.f32", "6", cwd=tmp_path)
    assert (tmp_path / "y.f32").stat().st_size == 4 * 4 * 4
