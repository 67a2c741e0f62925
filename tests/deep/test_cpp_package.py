"""The C++ package by a ``cmake --install`` under flags that change results where they are obeyed.

CI has a parent project under such flags (``test_packaging.py``).
"""

from __future__ import annotations

import pytest

from ..test_cpp_package import (
    installed,
    test_every_function_equals_python,
    test_example_equals_python,
)

__all__ = ["test_every_function_equals_python", "test_example_equals_python"]

#: linked with these, the project is in flush-to-zero when it calls
FAST_MATH = "-Ofast -ffast-math -funsigned-char"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return installed(tmp_path_factory.mktemp("package"), f"CMAKE_CXX_FLAGS={FAST_MATH}")
