"""The layering of the design, section 5, read off the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CPP = ROOT / "cpp"
PACKAGE = ROOT / "python" / "zeropoint"

#: what each C++ file may include of ours; everything else is the standard library or an ISA header
ALLOWED = {
    "include/zeropoint/core.hpp": {"zeropoint/conventions.def"},
    "include/zeropoint/zeropoint.hpp": {"zeropoint/core.hpp"},
    "include/zeropoint/zeropoint.h": set(),
    "src/arithmetic.h": set(),
    "src/types.h": {"arithmetic.h", "zeropoint/conventions.def"},
    "src/scalar.h": {"types.h"},
    "src/fpstate.h": {"arithmetic.h"},
    "src/loops/run.h": {"scalar.h", "types.h"},
    "src/loops/lanes.h": {"loops/run.h"},
    "src/loops/quantize.h": {
        *("loops/elements.h", "loops/lanes.h"),
        "zeropoint/conventions.def",
    },
    "src/loops/offset.h": {"loops/quantize.h"},
    "src/loops/q8_0.h": {"loops/elements.h", "loops/quantize.h"},
    "src/loops/elements.h": {"loops/run.h"},
    "src/loops/mark.h": {"loops/run.h"},
    "src/loops/min_max.h": {"loops/elements.h", "loops/lanes.h"},
    "src/loops/strided.h": {"loops/run.h"},
    "src/loops/lookup.h": {"loops/run.h"},
    "src/loops/errors.h": {"loops/lanes.h", "loops/offset.h"},
    "src/loops/histogram.h": {"loops/elements.h", "loops/min_max.h"},
    "src/loops.cpp": {
        *("loops/elements.h", "loops/errors.h", "loops/histogram.h"),
        "loops/lookup.h",
        *("loops/mark.h", "loops/min_max.h", "loops/offset.h"),
        *("loops/q8_0.h", "loops/quantize.h", "loops/strided.h"),
        *("kernels.def", "zeropoint/conventions.def"),
    },
    "src/targets.h": {"types.h"},
    "src/targets.cpp": {"targets.h"},
    "src/params.h": {"types.h", "zeropoint/core.hpp"},
    "src/params.cpp": {"params.h", "fpstate.h"},
    "src/views.h": {"types.h", "zeropoint/core.hpp"},
    "src/views.cpp": {"layout.h", "views.h"},
    "src/layout.h": {"types.h", "views.h", "zeropoint/core.hpp"},
    "src/tiles.h": {"layout.h", "views.h"},
    "src/tiles.cpp": {"tiles.h"},
    "src/pool.h": {"zeropoint/core.hpp"},
    "src/machine.h": set(),
    "src/machine.cpp": {"machine.h"},
    "src/pool.cpp": {"pool.h", "machine.h"},
    "src/layout.cpp": {"layout.h", "fpstate.h", "machine.h", "pool.h", "tiles.h"},
    "src/choose.cpp": {
        *("zeropoint/core.hpp", "fpstate.h", "scalar.h"),
        "zeropoint/conventions.def",
    },
    "src/errors.h": {"layout.h", "views.h"},
    "src/errors.cpp": {"errors.h", "fpstate.h", "pool.h"},
    "src/core.cpp": {
        *("zeropoint/core.hpp", "errors.h", "fpstate.h", "layout.h", "params.h", "targets.h"),
        "views.h",
        "kernels.def",
    },
    "src/refuse.h": set(),
    "src/rescale.cpp": {"zeropoint/zeropoint.hpp", "fpstate.h", "refuse.h"},
    "src/zeropoint.cpp": {"zeropoint/zeropoint.hpp", "fpstate.h", "refuse.h"},
    "src/c_api.cpp": {"arithmetic.h", "zeropoint/zeropoint.hpp", "zeropoint/zeropoint.h"},
    "bindings/arrays.h": {"zeropoint/core.hpp"},
    "bindings/gil.h": {"zeropoint/core.hpp"},
    "bindings/parameters.h": {"arrays.h"},
    "bindings/fast.h": {"arrays.h", "gil.h", "parameters.h"},
    "bindings/entries.h": set(),
    "bindings/objects.h": {"arrays.h", "parameters.h"},
    "bindings/constructor.h": {"arrays.h", "entries.h", "objects.h", "parameters.h"},
    "bindings/calls.h": {
        *("arrays.h", "constructor.h", "entries.h", "fast.h", "gil.h", "objects.h", "parameters.h"),
    },
    "bindings/general.h": {"arrays.h", "fast.h", "gil.h", "parameters.h"},
    "bindings/module.cpp": {"arrays.h", "calls.h", "fast.h", "general.h", "parameters.h"},
}


def sources() -> list[Path]:
    return sorted(p for p in CPP.rglob("*") if p.suffix in (".h", ".hpp", ".cpp"))


def test_every_source_is_listed() -> None:
    assert {str(p.relative_to(CPP)) for p in sources()} == set(ALLOWED)


@pytest.mark.parametrize("name", ALLOWED)
def test_includes(name: str) -> None:
    text = (CPP / name).read_text()
    assert set(re.findall(r'#include "(.+)"', text)) == ALLOWED[name]
    if not name.startswith("bindings/"):
        assert "pybind11" not in text
        assert "Python.h" not in text


def test_only_targets_asks_the_cpu() -> None:
    for path in sources():
        asks = re.search(r"__builtin_cpu_supports|cpuid", path.read_text())
        assert not asks or path.name == "targets.cpp", path


def test_only_loops_gets_isa_flags() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    function = text[text.index("function(zeropoint_isa") : text.index("endfunction()")]
    assert "cpp/src/loops.cpp" in function
    for line in text.splitlines():
        if "-mavx" in line or "/arch:" in line:
            before = text[: text.index(line)]
            assert "zeropoint_isa(" in line or before.rstrip().splitlines()[-1].strip().startswith(
                "zeropoint_isa("
            )


def test_files_with_isa_flags_use_no_inline_functions_of_std() -> None:
    # a weak symbol compiled for AVX-512 could be the one that the linker keeps for every CPU
    loops = [CPP / "src/loops.cpp", CPP / "src/scalar.h", CPP / "src/types.h"]
    for path in (*loops, *(CPP / "src/loops").iterdir()):
        text = path.read_text()
        assert set(re.findall(r"#include <(.+)>", text)) <= {
            "cstddef",
            "cstdint",
            "arm_neon.h",
            "emmintrin.h",
            "immintrin.h",
        }
        assert set(re.findall(r"std::(\w+)", text)) <= {"size_t", "uintptr_t"} | set(
            re.findall(r"u?int\d+_t", text)
        )


def imports(path: Path) -> set[str]:
    """The modules that `path` imports at any depth, ours as ".name"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            found |= {f".{node.module or alias.name}" for alias in node.names}
    return found


def test_the_reference_imports_numpy_alone() -> None:
    outside = imports(PACKAGE / "_reference.py") - set(sys.stdlib_module_names)
    assert outside == {"numpy"}


def test_only_backend_touches_the_core() -> None:
    for path in PACKAGE.rglob("*.py"):
        touches = re.search(r"\b_core\b", path.read_text())
        assert not touches or path.name == "_backend.py", path


def test_python_layers() -> None:
    """Each module imports only from the layers below it."""
    layers = [
        *("_reference", "_chunks", "_layout", "_conventions", "_foreign", "_checks", "_backend"),
        *("_params", "_choice", "_api", "_clipping", "observers", "_compare"),
    ]
    for i, layer in enumerate(layers):
        ours = {name[1:] for name in imports(PACKAGE / f"{layer}.py") if name.startswith(".")}
        assert not ours & set(layers[i:]), layer


def test_import_pulls_in_numpy_alone() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import zeropoint; "
        "print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(out.stdout.split()) - set(sys.stdlib_module_names) - {"numpy"} <= {
        "zeropoint",
        "__editable___zeropoint_finder",
    }
    for optional in ("argparse", "asyncio", "email", "importlib.metadata"):
        assert optional not in out.stdout.split()
