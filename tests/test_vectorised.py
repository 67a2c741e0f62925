"""A kernel that stops vectorising is caught here, without timing anything: the packed instructions
of every kernel are counted in the installed library."""

from __future__ import annotations

import functools
import importlib.resources
import platform
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import zeropoint as zp

from .test_symbols import tool

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 instructions"),
]

TYPES = {"f32": "f", "f64": "d", "i8": "a", "u8": "h", "i16": "s", "u16": "t", "i32": "i"}
TYPES |= {"u32": "j", "i64": "l", "u64": "m"}
#: the register that a packed instruction of the ISA works on, and one that is packed
PACKED = {
    "avx512": re.compile(r"\tv\w+ .*%zmm"),
    "avx2": re.compile(r"\tv\w+ .*%ymm"),
    "baseline": re.compile(r"\t(\w+p[sd]|p\w+) .*%xmm"),
}
#: where the instructions of an operation are, if not in a function of its own name
PARTS = {"convert": ("ConvertTo",), "histogram": ("histogram_row", "histogram_columns")}
#: what has no vector form, and why
SCALAR = {
    "convert f64 f16": "rounds once by integer arithmetic of varying shifts",
    "convert f64 bf16": "likewise",
    "avx2 convert i64 f32": "AVX2 has no such instruction",
    "avx2 convert u64 f32": "likewise",
    "avx2 saturate i64 i64": "compares 64-bit integers in pairs at best",
    "baseline convert i64 f32": "SSE2 has no such instruction",
    "baseline convert u64 f32": "likewise",
    "baseline saturate i64 i64": "SSE2 cannot compare 64-bit integers",
    "baseline convert f32 f16": "selects between shifts that SSE2 does not have",
}


def kernels() -> list[tuple[str, str, str]]:
    text = (ROOT / "cpp" / "src" / "kernels.def").read_text()
    return re.findall(r"^ZP_KERNEL\((\w+), (\w+), (\w+)\)", text, re.MULTILINE)


@functools.cache
def disassembled() -> dict[str, str]:
    """The instructions of each ISA's object, which is known by the table that it defines."""
    library = str(importlib.resources.files("zeropoint").joinpath("lib", "libzeropoint.a"))
    command = [tool("objdump"), "--syms", "--disassemble", "--no-show-raw-insn", library]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = shown.split("\nloops.")[1:]
    return {re.findall(r"table_(\w+)E$", each, re.MULTILINE)[0]: each for each in objects}


def packed_instructions(isa: str) -> Counter[str]:
    """Packed instructions in each function of the object, by its mangled name."""
    counts: Counter[str] = Counter()
    function = ""
    for line in disassembled()[isa].splitlines():
        label = re.match(r"[0-9a-f]+ <(_Z\w+)(\.\w+)*>:", line)
        if label:
            function = label[1]
        elif PACKED[isa].search(line):
            counts[function] += 1
    return counts


def part(name: str) -> str:
    """A template argument as it stands in a mangled name."""
    return TYPES.get(name) or rf"NS_{len(name)}{name}E"


@pytest.mark.parametrize("isa", PACKED)
def test_every_kernel_has_packed_instructions(isa: str) -> None:
    counts = packed_instructions(isa)
    scalar = []
    for operation, a, b in kernels():
        # its own function, or the run that it fills where the compiler keeps that apart
        homes = (operation, *PARTS.get(operation, ()))
        names = "|".join(f"{len(home)}{home}" for home in homes)
        ending = rf"({names})I({part(a)}|S1_)({part(b)}|S1_)E"
        pattern = re.compile(rf"_ZN12_GLOBAL__N_1({ending}|8fill_runI{part(a)}\w*?{ending})")
        count = sum(n for name, n in counts.items() if pattern.match(name))
        kernel = f"{operation} {a} {b}"
        excused = kernel in SCALAR or f"{isa} {kernel}" in SCALAR
        if operation == "certify" and isa == "baseline":
            continue  # there is no FMA, so nothing to certify
        if count < 6 and not excused:
            scalar.append(f"{kernel}: {count}")
    assert not scalar, f"{isa}: kernels with hardly any packed instruction: {scalar}"


def test_the_guard_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKED, "avx2", PACKED["avx512"])  # which AVX2 code has none of
    with pytest.raises(AssertionError, match="quantize f64 numpy"):
        test_every_kernel_has_packed_instructions("avx2")
