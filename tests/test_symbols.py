"""The objects compiled for an ISA export their table and nothing else: the linker could keep a weak
symbol of theirs for every CPU, and an old one would stop at an illegal instruction."""

from __future__ import annotations

import importlib.resources
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import zeropoint as zp

pytestmark = pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent")

ISAS = {"baseline"}
if platform.machine() in ("x86_64", "AMD64"):
    ISAS |= {"avx2", "avx512"}


def exported(library: Path) -> list[tuple[str, dict[str, str]]]:
    """Each object in a library: its name, and the letter of nm for each symbol that it defines for
    others."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.fail("nm is missing: apt-get install binutils")
    command = [nm, "--defined-only", "--extern-only", "--format=posix", str(library)]
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
    tables = [f"_ZN9zeropoint4core{len(isa) + 6}table_{isa}E" for isa in ISAS]
    # D: data, read-only once its addresses are relocated; R: where nothing has to be
    found = sorted(
        (symbol, "D" if letter == "R" else letter) for o in loops for symbol, letter in o.items()
    )
    assert found == sorted((table, "D") for table in tables)


def test_the_guard_can_fail(tmp_path: Path) -> None:
    compiler, archiver = shutil.which("g++"), shutil.which("ar")
    if not (compiler and archiver):
        pytest.skip("needs g++ and ar")
    source, built, library = (tmp_path / f"weak.{kind}" for kind in ("cpp", "o", "a"))
    source.write_text(
        "#include <algorithm>\nfloat least(float a, float b) { return std::min(a, b); }\n"
    )
    subprocess.run([compiler, "-c", "-O0", "-o", str(built), str(source)], check=True)
    subprocess.run([archiver, "rc", str(library), str(built)], check=True)
    assert exported(library) == [
        ("weak.o", {"_Z5leastff": "T", "_ZSt3minIfERKT_S2_S2_": "W"}),
    ]
