"""A kernel that stops vectorising is caught here, without timing anything: the packed instructions
of every kernel are counted in the installed library."""

from __future__ import annotations

import functools
import importlib.resources
import os
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

TYPES = {"f32": "float", "f64": "double", "i8": "signed char", "u8": "unsigned char"}
TYPES |= {"i16": "short", "u16": "unsigned short", "i32": "int", "u32": "unsigned int"}
TYPES |= {"i64": "long", "u64": "unsigned long"}
#: the register that a packed instruction of the ISA works on, and one that is packed
PACKED = {
    "avx512vbmi": re.compile(r"\tv\w+ .*%zmm"),
    "avx512": re.compile(r"\tv\w+ .*%zmm"),
    "avx2": re.compile(r"\tv\w+ .*%ymm"),
    "baseline": re.compile(r"\t(\w+p[sd]|p\w+) .*%xmm"),
}
#: packed instructions of a kernel at least; the baseline's loops are not unrolled
ENOUGH = {"avx512vbmi": 6, "avx512": 6, "avx2": 6, "baseline": 2}
#: where the instructions of an operation are, if not in a function of its own name
HOMES = {
    "convert": [r"(fill|plain)_run<.*ConvertTo<{a}, {b}>"],
    "histogram": [r"histogram_(row|columns)<{a}, {b}>"],
    "quantize": [
        r"(short_rows|long_row)<RowsOf<Coder, {b}, {a}>",
        r"(fill|plain)_run<.*quantize_plainly<{a}, {b}>",
        r"quantize_plainly<{a}, {b}>",
    ],
    "quantize_runs": [r"(short_rows|long_row)<CertifiedRow<{b}>"],
    "fake_quantize": [
        r"(short_rows|long_row)<RowsOf<Faker, {b}, {a}>",
        r"(fill|plain)_run<.*fake_quantize_plainly<{b}>",
        r"fake_quantize_plainly<{b}>",
    ],
    "quantize_offset": [
        r"(short_rows|long_row)<OffsetRows<OffsetCoder>",
        r"plain_run<.*quantize_offset_plainly<{a}>",
        r"quantize_offset_plainly<{a}>",
    ],
    "fake_quantize_offset": [
        r"(short_rows|long_row)<OffsetRows<Offset(Faker|Coder)>",
        r"plain_run<.*quantize_offset_plainly<{a}>",
    ],
    "dequantize_offset": [
        r"(short_rows|long_row)<OffsetValuesOfRows",
        r"plain_run<.*dequantize_offset_plainly<{b}>",
    ],
    "min_max_present": [r"present_in_(row|columns)<.*{a}>"],
    "to_q8_0": ["blocks_of"],
    "from_q8_0": ["values_of"],
    "dequantize": [
        r"(short_rows|long_row)<ValuesOfRows<{a}>",
        r"(fill|plain)_run<.*ValueOf<{a}, {b}>",
    ],
    "transpose": [r"transpose_blocks?<{a}>"],
    "lookup": [r"look_up_groups<", r"Finder::"],
}
#: what has no vector form, and why
SCALAR = {
    **{f"scatter {a} {a}": "no store has a stride" for a in ("u8", "u16", "u32", "u64")},
    **{
        f"{isa} transpose {a} {a}": "in 128 bits"
        for isa in ("avx512", "avx2")
        for a in ("u8", "u16")
    },
    "convert f64 f16": "rounds once by integer arithmetic of varying shifts",
    "convert f64 bf16": "likewise",
    "avx2 convert i64 f32": "AVX2 has no such instruction",
    "avx2 convert u64 f32": "likewise",
    "avx2 saturate i64 i64": "compares 64-bit integers in pairs at best",
    "baseline convert i64 f32": "SSE2 has no such instruction",
    "baseline convert u64 f32": "likewise",
    "baseline saturate i64 i64": "SSE2 cannot compare 64-bit integers",
    "baseline lookup u8 u8": "SSE2 cannot shuffle by what is in a register",
    "baseline swap_bytes u32 u32": "general registers have an instruction for it",
    "baseline swap_bytes u64 u64": "likewise",
    "baseline convert f32 f16": "selects between shifts that SSE2 does not have",
}


def kernels(isa: str) -> list[tuple[str, str, str]]:
    text = (ROOT / "cpp" / "src" / "kernels.def").read_text()
    kinds = {"avx512vbmi": "ZP_VBMI_KERNEL", "avx512": "ZP_KERNEL"}
    kinds["avx2"] = "ZP_(?:SHARED_|VBMI_)?KERNEL"
    shared = kinds.get(isa, "ZP_(?:SHARED_|VBMI_|BASE_)?KERNEL")
    return re.findall(rf"^{shared}\((\w+), (\w+), (\w+)\)", text, re.MULTILINE)


@functools.cache
def disassembled() -> dict[str, str]:
    """The instructions of each ISA's object, which is known by the table that it defines."""
    built = os.environ.get("SKBUILD_BUILD_DIR")  # of the installed wheel, whose own is stripped
    home = Path(built) if built else importlib.resources.files("zeropoint").joinpath("lib")
    library = str(home.joinpath("libzeropoint.a"))
    options = "--syms", "--disassemble", "--no-show-raw-insn", "--demangle"
    command = [tool("objdump"), *options, library]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "<void (anonymous namespace)::" not in shown:
        pytest.skip(
            "a wheel's library has no names of its loops: install with -e, or set "
            "SKBUILD_BUILD_DIR for the installation and for this test"
        )
    objects = shown.split("\nloops.")[1:]
    # the table that it shares kernels of is undefined there
    own = re.compile(r"^(?!.*\*UND\*).*table_(\w+)$", re.MULTILINE)
    return {own.findall(each)[0]: each for each in objects}


def packed_instructions(isa: str) -> Counter[str]:
    """Packed instructions in each function of the object, by its name without the namespace."""
    counts: Counter[str] = Counter()
    function = ""
    for line in disassembled()[isa].splitlines():
        label = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        if label:
            function = label[1].replace("(anonymous namespace)::", "").removeprefix("void ")
        elif PACKED[isa].search(line):
            counts[function] += 1
    return counts


def packed_in(counts: Counter[str], operation: str, a: str, b: str) -> int:
    own = rf"{operation}<{{a}}, {{b}}>"
    patterns = [own, rf"(fill|plain)_run<.*{own}", *HOMES.get(operation, ())]
    types = {"a": TYPES.get(a, a), "b": TYPES.get(b, b)}
    names = re.compile("|".join(each.format(**types) for each in patterns))
    return sum(n for name, n in counts.items() if names.match(name))


@pytest.mark.parametrize("isa", PACKED)
def test_every_kernel_has_packed_instructions(isa: str) -> None:
    counts = packed_instructions(isa)
    scalar = []
    for operation, a, b in kernels(isa):
        kernel = f"{operation} {a} {b}"
        excused = kernel in SCALAR or f"{isa} {kernel}" in SCALAR
        if operation == "certify" and isa == "baseline":
            continue  # there is no FMA, so nothing to certify
        count = packed_in(counts, operation, a, b)
        if operation in ("quantize", "fake_quantize") and a in ("f16", "bf16"):
            count = count or packed_in(counts, operation, "f32", b)  # which does it for them
        if operation == "quantize_runs" and isa == "baseline":
            count = count or packed_in(counts, "quantize", a, b)
        if count < ENOUGH[isa] and not excused:
            scalar.append(f"{kernel}: {count}")
    assert not scalar, f"{isa}: kernels with hardly any packed instruction: {scalar}"


def test_the_guard_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKED, "avx2", PACKED["avx512"])  # which AVX2 code has none of
    with pytest.raises(AssertionError, match="quantize f64 numpy"):
        test_every_kernel_has_packed_instructions("avx2")
