"""The objects compiled for an ISA export their table and nothing else: the linker could keep a weak
symbol of theirs for every CPU, and an old one would stop at an illegal instruction.  And what the
Python module is to the dynamic linker."""

from __future__ import annotations

import importlib.resources
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zeropoint as zp

pytestmark = pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent")

ISAS = zp._backend.core_info().get("isas", ())


def tool(name: str) -> str:
    """The path of a program that this file needs; the test fails where there is none."""
    path = shutil.which(name)
    if path is None:
        package = name if name in ("g++", "gcc", "pkg-config") else "binutils"
        pytest.fail(f"{name} is missing: apt-get install {package}")
    return path


def exported(library: Path) -> list[tuple[str, dict[str, str]]]:
    """Each object in a library: its name, and the letter of nm for each symbol that it defines for
    others."""
    command = [tool("nm"), "--defined-only", "--extern-only", "--format=posix", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[tuple[str, dict[str, str]]] = []
    for line in done.stdout.splitlines():
        if name := re.fullmatch(r".*\[(.+)\]:", line):
            found.append((name[1], {}))
        elif line:
            symbol, letter = line.split()[:2]
            found[-1][1][symbol] = letter
    return found


def test_every_isa_exports_its_table_alone() -> None:
    library = Path(str(importlib.resources.files("zeropoint").joinpath("lib", "libzeropoint.a")))
    loops = [symbols for name, symbols in exported(library) if name.startswith("loops.")]
    own = (*ISAS, "avx512vbmi") if "avx512" in ISAS else ISAS
    tables = [f"_ZN9zeropoint4core{len(isa) + 6}table_{isa}E" for isa in own]
    # D: data, read-only once its addresses are relocated; R: where nothing has to be
    found = sorted(
        (symbol, "D" if letter == "R" else letter) for o in loops for symbol, letter in o.items()
    )
    assert found == sorted((table, "D") for table in tables)


def test_the_guard_can_fail(tmp_path: Path) -> None:
    compiler, archiver = tool("g++"), tool("ar")
    source, built, library = (tmp_path / f"weak.{kind}" for kind in ("cpp", "o", "a"))
    source.write_text(
        "#include <algorithm>\nfloat least(float a, float b) { return std::min(a, b); }\n"
    )
    subprocess.run([compiler, "-c", "-O0", "-o", str(built), str(source)], check=True)
    subprocess.run([archiver, "rc", str(library), str(built)], check=True)
    assert exported(library) == [
        ("weak.o", {"_Z5leastff": "T", "_ZSt3minIfERKT_S2_S2_": "W"}),
    ]


@pytest.mark.parametrize("name", ["nm", "ar", "g++", "readelf"])
def test_a_missing_tool_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    package = {"g++": r"g\+\+"}.get(name, "binutils")
    with pytest.raises(pytest.fail.Exception, match=rf"is missing: apt-get install {package}$"):
        tool(name)


@pytest.mark.skipif(sys.platform != "linux", reason="of ELF files")
def test_the_module_is_read_only_once_loaded() -> None:
    """Full RELRO: symbols are bound at load, and their addresses then protected."""
    spec = importlib.util.find_spec("zeropoint._core")
    assert spec is not None
    assert spec.origin
    command = [tool("readelf"), "--wide", "--segments", "--dynamic", spec.origin]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "GNU_RELRO" in shown
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b|\(FLAGS_1\).*\bNOW\b", shown)
