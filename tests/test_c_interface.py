"""The C interface: zeropoint.h, libzeropoint.so and its package, as other languages find them.

A `cmake --install` whose objects are those of the installed Python package: nothing is compiled
twice.  Results equal Python's by bits, through ctypes by the prototypes of the header itself.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp

from .test_cpp_package import cmake, run
from .test_docs import sections
from .test_symbols import exported, tool

pytestmark = [
    pytest.mark.slow("links the library, and compiles C"),
    pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent"),
    pytest.mark.skipif(sys.platform != "linux", reason="of ELF files"),
]

ROOT = Path(__file__).resolve().parents[1]
HEADER = ROOT / "cpp" / "include" / "zeropoint" / "zeropoint.h"
EXPORTS = (ROOT / "cpp" / "exports.txt").read_text().split()
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
Array = np.ndarray[Any, np.dtype[Any]]

# ---------------------------------------------------------------------------------------------
# The header

TEXT = re.sub(r"//.*", "", HEADER.read_text())
CALLBACK = re.compile(r"double \(\*\w+\)\(double \w+, void\* \w+\)")
#: of each function: its result and its arguments, as C types
PROTOTYPES = {
    name: (result.strip(), re.findall(r"([^,]*?)\w+(?:,|$)", CALLBACK.sub("void* f", arguments)))
    for result, name, arguments in re.findall(
        r"^(\w[\w *]*[ *])(zeropoint_\w+)\(([^;]*)\);", TEXT, re.MULTILINE
    )
}
CONSTANTS = {name: int(value) for name, value in re.findall(r"ZEROPOINT_(\w+) = (\d+)", TEXT)}
NUMBERS = {
    "size_t": ctypes.c_size_t,
    **{f"int{bits}_t": getattr(ctypes, f"c_int{bits}") for bits in (32, 64)},
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    **dict.fromkeys(re.findall(r"typedef int32_t (\w+);", TEXT), ctypes.c_int32),
}


def ctype(text: str) -> Any:
    """The ctypes type for one of C: pointers are addresses, but for a text."""
    words = text.replace("const", "").split()
    if words == ["void"]:
        return None
    if words == ["char*"]:
        return ctypes.c_char_p
    return ctypes.c_void_p if "*" in text else NUMBERS[words[0]]


def structure(name: str) -> type[ctypes.Structure]:
    body = re.search(rf"typedef struct {name} \{{(.*?)\}} {name};", TEXT, re.DOTALL)
    assert body
    fields: list[tuple[str, Any]] = []
    for line in body[1].split(";")[:-1]:
        first, *more = line.strip().split(", ")
        kind, _, name = first.rpartition(" ")
        fields += [(field, ctype(kind)) for field in (name, *more)]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


Params: Any = structure("zeropoint_params")
AxisParams: Any = structure("zeropoint_axis_params")
Choice: Any = structure("zeropoint_choice")


def test_the_list_of_exports_is_that_of_the_header() -> None:
    assert sorted(PROTOTYPES) == EXPORTS
    page = (ROOT / "docs/how-to/c.md").read_text()
    named = set(re.findall(r"`(zeropoint_\w+)", page))
    assert set(EXPORTS) <= named <= set(EXPORTS) | set(re.findall(r"\bzeropoint_\w+", TEXT))


def test_names_and_numbers_are_those_of_python() -> None:
    names = [name.lower() for name in CONSTANTS]
    start = names.index("numpy")
    assert names[start : start + len(zp.CONVENTIONS)] == list(zp.CONVENTIONS)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++", "clang++"])
def test_the_header_compiles_alone(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is absent")
    language = ["-x", "c++", "-std=c++17"] if "+" in compiler else ["-x", "c", "-std=c11"]
    (tmp_path / "main").write_text(
        "#include <zeropoint/zeropoint.h>\nint main(void) { return 0; }\n"
    )
    run(compiler, *language, *STRICT, "-fsyntax-only", f"-I{HEADER.parents[1]}", tmp_path / "main")


# ---------------------------------------------------------------------------------------------
# The package

#: stands before the compiler, and has the object at once where the Python package has it
LAUNCHER = """#!/bin/sh
for word; do
    case $before in -o) out=$word ;; esac
    case $word in *.cpp) name=${word##*/} ;; -DZEROPOINT_ISA=*) isa=${word#*=} ;; esac
    before=$word
done
if [ -f "$OBJECTS/$isa$name.o" ]; then cp "$OBJECTS/$isa$name.o" "$out"; else exec "$@"; fi
"""


def objects(folder: Path) -> None:
    """Those of the package's static library, by name; the loops' with their ISA before it."""
    folder.mkdir()
    package = run(sys.executable, "-m", "zeropoint", "--includes").strip()[2:]
    library = Path(package).parent / "lib" / "libzeropoint.a"
    members = exported(library)
    for name, symbols in members:
        isa = re.search(r"table_(\w+)E", " ".join(symbols)) if "loops" in name else None
        number = sum(name == other for other, _ in members[: members.index((name, symbols)) + 1])
        run(tool("ar"), "xN", number, library, name, cwd=folder)
        (folder / name).rename(folder / f"{isa[1] if isa else ''}{name}")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed."""
    where = tmp_path_factory.mktemp("c")
    objects(where / "objects")
    launcher = where / "launcher"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    os.environ["OBJECTS"] = str(where / "objects")
    try:
        build = cmake(
            *(ROOT, where / "build"),
            f"CMAKE_CXX_COMPILER_LAUNCHER={launcher}",
            f"CMAKE_INSTALL_PREFIX={where / 'first'}",
        )
    finally:
        del os.environ["OBJECTS"]
    run("cmake", "--install", build)
    (where / "first").rename(where / "moved")  # it must not know where it is
    return where / "moved"


def package(prefix: Path, *options: str) -> list[str]:
    if shutil.which("pkg-config") is None:  # .ci/run installs it
        pytest.skip("NOT RUN, for want of pkg-config: apt-get install pkg-config")
    found = run(
        *("pkg-config", "--cflags", "--libs", *options, "zeropoint"),
        env={**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")},
    )
    return shlex.split(found)


def test_it_exports_the_list_alone(prefix: Path) -> None:
    nm = [tool("nm"), "--dynamic", "--defined-only", "--format=posix"]
    lines = run(*nm, prefix / "lib" / "libzeropoint.so").splitlines()
    assert sorted(line.split()[0] for line in lines) == EXPORTS
    assert {line.split()[1] for line in lines} == {"T"}
    objects = dict(exported(prefix / "lib" / "libzeropoint.a"))
    assert sorted(name for name in objects["c_api.cpp.o"] if name.startswith("zero")) == EXPORTS


def test_what_it_is_to_the_linker(prefix: Path) -> None:
    library = prefix / "lib" / "libzeropoint.so"
    shown = run(tool("readelf"), "--wide", "--segments", "--dynamic", library)
    minor = ".".join(zp.__version__.split(".")[:2])
    assert re.findall(r"soname: \[(.*)\]", shown) == [f"libzeropoint.so.{minor}"]
    assert library.resolve().name == f"libzeropoint.so.{zp.__version__}"
    assert (prefix / "lib" / f"libzeropoint.so.{minor}").resolve() == library.resolve()
    needed = set(re.findall(r"Shared library: \[(\w+)", shown))
    assert needed <= {"libstdc", "libm", "libgcc_s", "libc", "ld", "libpthread"}
    assert "GNU_RELRO" in shown
    assert "RPATH" not in shown
    assert "RUNPATH" not in shown
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b|\(FLAGS_1\).*\bNOW\b", shown)
    assert re.search(r"GNU_STACK .* RW ", shown)


# ---------------------------------------------------------------------------------------------
# Programs in C

EXAMPLE = ROOT / "examples" / "c"


def compiled(source: Path, program: Path, *options: str) -> Path:
    found = [tool("gcc"), "-std=c11", "-O2", *STRICT, "-Wconversion", "-Wno-sign-conversion"]
    run(*found, source, "-o", program, *options)
    return program


def layer(program: Path, where: Path, library: Path | None) -> None:
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=(n, 257)).astype(np.float32) for n in (33, 19))
    x.tofile(where / "x.f32")
    w.tofile(where / "w.f32")
    found = {**os.environ, "LD_LIBRARY_PATH": str(library)} if library else dict(os.environ)
    said = run(program, "x.f32", "w.f32", "y.f32", "257", cwd=where, env=found)
    assert said.startswith(f"zeropoint {zp.__version__} on {zp.backends()[0]}: 33 x 257 by 19, ")

    qw, w_params = zp.quantize_dynamic(w, "int8", axis=0, symmetric=True)
    qx, x_params = zp.quantize_dynamic(x, "int8")
    acc = (qx.astype(np.int32) - x_params.zero_point) @ qw.T.astype(np.int32)
    acc_scale = np.float64(x_params.scale) * w_params.scale
    params = zp.choose_params((acc * acc_scale).astype(np.float32), "int8")
    per_unit = zp.QuantParams(np.full(19, params.scale), params.zero_point, "int8", axis=1)
    steps = np.float32(127 - params.zero_point)
    y_params = zp.QuantParams(np.float32(params.scale) * steps / np.float32(255), -128, "int8")
    relu = zp.Lookup(lambda x: np.maximum(x, 0), params, y_params)
    y = y_params.dequantize(relu(zp.requantize(acc, acc_scale, per_unit)))
    assert np.abs(y - np.maximum(x @ w.T, 0)).max() < 0.02 * np.abs(y).max()
    assert (where / "y.f32").read_bytes() == y.tobytes()


def test_example_by_pkg_config(prefix: Path, tmp_path: Path) -> None:
    program = compiled(EXAMPLE / "main.c", tmp_path / "layer", *package(prefix))
    layer(program, tmp_path, prefix / "lib")
    refused = subprocess.run(
        [program, "x.f32", "w.f32", "y.f32", "256"],
        cwd=tmp_path,
        env={**os.environ, "LD_LIBRARY_PATH": str(prefix / "lib")},
        capture_output=True,
        text=True,
    )
    assert (refused.returncode, refused.stderr) == (1, "layer: depth: no divisor of both sizes\n")


def test_example_linked_statically(prefix: Path, tmp_path: Path) -> None:
    program = compiled(
        EXAMPLE / "main.c", tmp_path / "layer", "-static", *package(prefix, "--static")
    )
    layer(program, tmp_path, None)


def test_example_by_cmake(prefix: Path, tmp_path: Path) -> None:
    build = cmake(EXAMPLE, tmp_path / "build", f"CMAKE_PREFIX_PATH={prefix}")
    layer(build / "layer", tmp_path, None)  # it knows where the library is


def test_the_page_works_when_pasted(prefix: Path, tmp_path: Path) -> None:
    """And the library of the wheel, by the page's own command."""
    [blocks] = sections(ROOT / "docs/how-to/c.md").values()
    code = {block.language: block.code for block in blocks}
    (tmp_path / "main.c").write_text(code["c"])
    shell = [
        line for block in blocks if block.language == "bash" for line in block.code.splitlines()
    ]
    own, wheel = (line for line in shell if line.startswith("cc main.c"))
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": python,
        "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"),
        "LD_LIBRARY_PATH": str(prefix / "lib"),
    }
    outputs = set()
    for command in (own, wheel):
        run("sh", "-ec", command, cwd=tmp_path, env=environment)
        outputs.add(run("./main", cwd=tmp_path, env=environment))
    assert len(outputs) == 1
    (tmp_path / "CMakeLists.txt").write_text(code["cmake"])
    build = cmake(tmp_path, tmp_path / "build", f"CMAKE_PREFIX_PATH={prefix}")
    assert {run(build / "main")} == outputs


# ---------------------------------------------------------------------------------------------
# Every function, through ctypes


class Failed(Exception):
    pass


class Library(NamedTuple):
    loaded: ctypes.CDLL

    def __call__(self, name: str, *arguments: Any) -> Any:
        """What a function returns; where it is a status, nothing, or an error with the message."""
        return_type, argument_types = PROTOTYPES[f"zeropoint_{name}"]
        function = self.loaded[f"zeropoint_{name}"]
        function.restype = ctype(return_type)
        function.argtypes = [ctype(text) for text in argument_types if text]
        found = function(*map(address, arguments))
        if return_type != "zeropoint_status":
            return found.decode() if isinstance(found, bytes) else found
        if found != CONSTANTS["OK"]:
            assert found == CONSTANTS["INVALID_ARGUMENT"]
            raise Failed(self("message"))
        return None


def address(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, Function):
        return ctypes.cast(value, ctypes.c_void_p)
    if isinstance(value, ctypes.Structure | ctypes.c_void_p | ctypes._SimpleCData):
        return ctypes.addressof(value)
    return value


@pytest.fixture(scope="module")
def c(prefix: Path) -> Library:
    return Library(ctypes.CDLL(str(prefix / "lib" / "libzeropoint.so")))


def dtype_of(dtype: Any) -> int:
    return CONSTANTS[np.dtype(dtype).name.upper()]


def in_c(params: zp.QuantParams) -> Any:
    """The structure; arrays live as long as it does."""
    more = {
        "qmin": params.qmin,
        "qmax": params.qmax,
        "dtype": dtype_of(params.dtype),
        "convention": CONSTANTS[params.convention.upper()],
        "include_zero": 1,
    }
    if params.axis is None:
        return Params(float(params.scale), int(params.zero_point), **more)
    scale = np.ascontiguousarray(params.scale)
    zero_point = np.ascontiguousarray(params.zero_point, np.int32)
    made = AxisParams(
        *(address(scale), address(zero_point), scale.size, zero_point.size),
        axis=params.axis,
        block_size=params.block_size or 0,
        **more,
    )
    made.arrays = scale, zero_point
    return made


def choice_of(c: Library, dtype: str, **chosen: Any) -> Any:
    choice = Choice()
    c("make_choice", dtype_of(dtype), choice)
    for name, value in chosen.items():
        setattr(choice, name, value)
    return choice


class Made:
    """A handle, and its end."""

    def __init__(self, c: Library, kind: str, *arguments: Any) -> None:
        self.c, self.kind, self.handle = c, kind, ctypes.c_void_p(1)
        name = f"{kind}_create"
        if isinstance(arguments[0], str):  # what a lookup is made of
            what, *arguments = arguments  # type: ignore[assignment]
            name += f"_{what}" if what else ""
        shaped = isinstance(arguments[-1], tuple)
        if shaped:
            *arguments, shape = arguments  # type: ignore[assignment]
            arguments = (*arguments, np.array(shape, np.uintp), len(shape))
        c(f"{name}{'_axis' if shaped else ''}", *arguments, self.handle)

    def __call__(self, name: str, *arguments: Any) -> None:
        self.c(f"{self.kind}_{name}", self.handle.value, *arguments)

    def __del__(self) -> None:
        if self.handle.value != 1:
            self.c(f"{self.kind}_destroy", self.handle.value)


SHAPE = 6, 7, 64
X = (np.random.default_rng(2).normal(size=SHAPE) * 3).astype(np.float32)
X.flat[:8] = [0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-45]
DATA = [X, X.astype(np.float16), X.astype(ml_dtypes.bfloat16)]
ACC = (np.arange(X.size, dtype=np.uint32) * np.uint32(2654435761)).view(np.int32).reshape(SHAPE)


def same(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def empty(dtype: Any) -> Array:
    return np.empty(SHAPE, dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("convention", zp.CONVENTIONS)
def test_operations_equal_python(c: Library, dtype: str, convention: str) -> None:
    params = zp.choose_params(X, dtype, convention=convention)
    theirs = in_c(params)
    handle = Made(c, "quantizer", theirs)
    for x in DATA:
        kind = dtype_of(x.dtype)
        q = params.quantize(x)
        back = params.dequantize(q, dtype=x.dtype)
        for call, last in ((handle, ()), (c, (theirs,))):
            found, real, fake = empty(dtype), empty(x.dtype), empty(x.dtype)
            call("quantize", x, kind, found, x.size, *last)
            call("dequantize", q, real, kind, x.size, *last)
            call("fake_quantize", x, fake, kind, x.size, *last)
            same(found, q)
            same(real, back)
            same(fake, params.fake_quantize(x))
    expected = zp.requantize(ACC, 3e-9, params)
    found = empty(dtype)
    Made(c, "requantizer", 3e-9, theirs)("requantize", ACC, found, ACC.size)
    same(found, expected)
    c("requantize", ACC, found, ACC.size, 1e-9, theirs)
    same(found, zp.requantize(ACC, 1e-9, params))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("block", [None, 4])
def test_axes_equal_python(c: Library, dtype: str, axis: int, block: int | None) -> None:
    shape = np.array(SHAPE, np.uintp)
    for convention in zp.CONVENTIONS:
        q, params = zp.quantize_dynamic(
            X, dtype, axis=axis, block_size=block, convention=convention
        )
        choice = choice_of(c, dtype, convention=CONSTANTS[convention.upper()])
        count = ctypes.c_size_t()
        c("parameter_count", shape, 3, axis, block or 0, count)
        assert count.value == params.scale.size
        scale, zero_point = np.empty(count.value, np.float32), np.empty(count.value, np.int32)
        found = AxisParams()
        c(
            *("choose_axis_params", X, dtype_of(X.dtype), shape, 3, axis, block or 0, choice),
            *(scale, zero_point, count.value, found),
        )
        same(scale, np.asarray(params.scale).reshape(-1))
        np.testing.assert_array_equal(zero_point, np.asarray(params.zero_point).reshape(-1))
        assert found.scale == address(scale)
        expected = in_c(params)
        fixed = [name for name, _ in AxisParams._fields_[4:]]
        assert [getattr(found, n) for n in fixed] == [getattr(expected, n) for n in fixed]
        handle = Made(c, "quantizer", found, SHAPE)
        codes, real, fake = empty(dtype), empty(np.float32), empty(np.float32)
        handle("quantize", X, CONSTANTS["FLOAT32"], codes, X.size)
        handle("dequantize", q, real, CONSTANTS["FLOAT32"], X.size)
        handle("fake_quantize", X, fake, CONSTANTS["FLOAT32"], X.size)
        same(codes, q)
        same(real, params.dequantize(q))
        same(fake, params.fake_quantize(X))
        if block:
            continue
        scales = np.arange(1, count.value + 1) * 1e-9
        for given in (scales, scales[:1]):
            made = Made(c, "requantizer", given, given.size, found, SHAPE)
            made("requantize", ACC, codes, ACC.size)
            same(codes, zp.requantize(ACC, np.broadcast_to(given, scales.shape), params))


def test_zero_points_beyond_the_codes(c: Library) -> None:
    x = X + 100
    for axis in (None, 1):
        params = zp.choose_params(x, axis=axis, zero_point_from="min", include_zero=False)
        assert np.all(np.asarray(params.zero_point) < 0)
        theirs = in_c(params)
        shape = () if axis is None else (SHAPE,)
        with pytest.raises(Failed, match=r"zero_point.* outside \[0, 255\]; clip it"):
            Made(c, "quantizer", theirs, *shape)
        theirs.include_zero = 0
        found = empty(np.uint8)
        Made(c, "quantizer", theirs, *shape)("quantize", x, F32, found, x.size)
        same(found, params.quantize(x))


def test_one_zero_point_for_all(c: Library) -> None:
    params = in_c(zp.choose_params(X, axis=1, symmetric=True))
    expected, found = empty(np.uint8), empty(np.uint8)
    Made(c, "quantizer", params, SHAPE)("quantize", X, CONSTANTS["FLOAT32"], expected, X.size)
    params.zero_point_count = 1
    Made(c, "quantizer", params, SHAPE)("quantize", X, CONSTANTS["FLOAT32"], found, X.size)
    same(found, expected)


RULES = {"max": "FROM_MAX", "min": "FROM_MIN", "least_error": "LEAST_ERROR"}


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_choices_equal_python(c: Library, dtype: str) -> None:
    def compare(params: zp.QuantParams, include_zero: int = 1, **chosen: int) -> None:
        choice = choice_of(c, dtype, include_zero=include_zero, **chosen)
        found, dynamic, q = Params(), Params(), empty(dtype)
        c("choose_params", X, CONSTANTS["FLOAT32"], X.size, choice, found)
        c("quantize_dynamic", X, CONSTANTS["FLOAT32"], q, X.size, choice, dynamic)
        expected = in_c(params)
        expected.include_zero = include_zero
        assert bytes(found) == bytes(dynamic) == bytes(expected)
        same(q, params.quantize(X))

    compare(zp.choose_params(X, dtype))
    compare(zp.choose_params(X, dtype, symmetric=True), symmetric=1)
    for rule, name in RULES.items():
        for free in (False, True):
            params = zp.choose_params(X, dtype, zero_point_from=rule, include_zero=not free)
            compare(params, int(not free), zero_point_from=CONSTANTS[name])
    lowest = int(np.iinfo(dtype).min)
    params = zp.choose_params(X, dtype, qmin=lowest + 3, qmax=lowest + 99)
    compare(params, qmin=lowest + 3, qmax=lowest + 99)
    made = Params()
    c("make_params", 0.5, lowest, dtype_of(dtype), CONSTANTS["ONNX"], made)
    assert bytes(made) == bytes(in_c(zp.QuantParams(0.5, lowest, dtype, convention="onnx")))


def test_other_functions_equal_python(c: Library) -> None:
    for x in DATA:
        kind = dtype_of(x.dtype)
        y, low, high = empty(x.dtype), ctypes.c_float(), ctypes.c_float()
        c("saturate", x, y, kind, x.size, -2, 3)
        same(y, zp.saturate(x, -2, 3))
        for ties in ("even", "away"):
            c("round", x, y, kind, x.size, CONSTANTS[f"TIES_{ties.upper()}"])
            same(y, zp.round(x, ties=ties))
        for dtype in ("uint8", "int8"):
            q = empty(dtype)
            c("saturate_cast", x, kind, q, dtype_of(dtype), x.size)
            same(q, zp.saturate_cast(x, dtype))
        c("min_max", x, kind, x.size, low, high)
        assert (low.value, high.value) == tuple(map(float, zp.min_max(x)))


ARITHMETICS = {"exact": "EXACT", "litert": "LITERT", "float": "IN_FLOAT"}
ARITHMETICS["litert_reference"] = "LITERT_REFERENCE"
CODES = np.arange(X.size, dtype=np.uint32).astype(np.uint8).reshape(SHAPE)
Function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_void_p)


def compare_lookup(c: Library, handle: Made, lookup: zp.Lookup, q: Array) -> None:
    """With what Python has: codes in another place and in their own, the table, the error."""
    expected = lookup(q)
    found = np.empty_like(expected)
    handle("apply", q, found, q.size)
    same(found, expected)
    here = q.copy()
    handle("apply", here, here, q.size)
    same(here.view(expected.dtype), expected)
    error, table, count = ctypes.c_double(), ctypes.c_void_p(), ctypes.c_size_t()
    handle("max_abs_error", error)
    handle("table", table, count)
    assert error.value == lookup.max_abs_error
    expected = np.atleast_2d(lookup.table)
    if q.dtype == np.int8:  # in the order of the bytes
        expected = np.roll(expected, 128, axis=1)
    bytes_ = ctypes.string_at(table.value, 256 * count.value)
    codes = np.frombuffer(bytes_, expected.dtype).reshape(-1, 256)
    np.testing.assert_array_equal(codes, np.broadcast_to(expected, codes.shape))


@pytest.mark.parametrize("dtypes", [(a, b) for a in ("uint8", "int8") for b in ("uint8", "int8")])
def test_codes_to_codes_equal_python(c: Library, dtypes: tuple[str, str]) -> None:
    a, b = dtypes
    q = CODES.view(a)
    source = zp.QuantParams(0.05, np.iinfo(a).min + 130, a)
    square = Function(lambda x, _: x * x)
    along_a, along_b = (zp.choose_params(X * k, d, axis=1) for k, d in ((1, a), (0.7, b)))
    for convention in ("numpy", "tflite"):
        target = zp.QuantParams(0.04, np.iinfo(b).min + 110, b, convention=convention)
        both = in_c(source), in_c(target)
        for name, constant in ARITHMETICS.items():
            number = CONSTANTS[constant]
            expected = zp.rescale(q, source, target, arithmetic=name)
            found = np.empty_like(expected)
            c("rescale", q, found, q.size, *both, number)
            same(found, expected)
            handle = Made(c, "lookup", "rescale", *both, number)
            handle("apply", q, found, q.size)
            same(found, expected)
            for given in ((along_a, along_b), (source, along_b), (along_a, target)):
                three = [in_c_along(params) for params in given]
                handle = Made(c, "lookup", "rescale", *three, number, SHAPE)
                handle("apply", q, found, q.size)
                same(found, zp.rescale(q, *given, arithmetic=name))
        handle = Made(c, "lookup", "", square, None, *both)
        compare_lookup(c, handle, zp.Lookup(np.square, source, target), q)
        given = along_a, along_b
        handle = Made(c, "lookup", "", square, None, *map(in_c_along, given), SHAPE)
        compare_lookup(c, handle, zp.Lookup(np.square, *given), q)
    one = [in_c_along(params) for params in (source, target)]  # a table, and not one a channel
    handle, count = Made(c, "lookup", "rescale", *one, 0, SHAPE), ctypes.c_size_t()
    handle("table", ctypes.c_void_p(), count)
    handle("apply", q, found, q.size)
    same(found, zp.rescale(q, source, target))
    assert count.value == 1
    with pytest.raises(Failed, match="the shape has"):
        handle("apply", q, found, q.size - 1)


def in_c_along(params: zp.QuantParams) -> Any:
    """A tensor's as those of an axis: one for all."""
    if params.axis is not None:
        return in_c(params)
    one = zp.QuantParams(
        *([params.scale], params.zero_point, params.dtype), convention=params.convention, axis=0
    )
    return in_c(one)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_images_equal_python(c: Library, dtype: str) -> None:
    params = zp.choose_params(X, dtype)
    along = zp.choose_params(X, dtype, axis=1)
    mean, std = np.linspace(0.3, 0.5, 7), np.linspace(0.2, 0.3, 7)
    numbers = mean, 7, std, 7
    last = np.array(SHAPE, np.uintp), 3, 1
    handle = Made(c, "lookup", "image", *numbers, 255, in_c(params), *last)
    compare_lookup(c, handle, zp.image_lookup(mean, std, params, channel_axis=1), CODES)
    handle = Made(c, "lookup", "image", mean, 1, std, 1, 1, in_c(params), *last)
    lookup = zp.image_lookup(mean[0], std[0], params, scale=1, channel_axis=1)
    compare_lookup(c, handle, lookup, CODES)
    handle = Made(c, "lookup", "image_axis", *numbers, 255, in_c(along), *last)
    compare_lookup(c, handle, zp.image_lookup(mean, std, along, channel_axis=1), CODES)


def test_the_machine(c: Library) -> None:
    names = list(zp.backends()[:-1])
    assert c("version") == zp.__version__
    assert [c("isa_name", i) for i in range(len(names) + 2)] == [*names, None, None]
    expected = zp.quantize(X, zp.QuantParams(0.05, 3))
    try:
        for name in names:
            c("set_isa", name.encode())
            assert c("isa") == name
            found = empty(np.uint8)
            c("quantize", X, 2, found, X.size, in_c(zp.QuantParams(0.05, 3)))
            same(found, expected)
        with pytest.raises(Failed, match='isa "mmx" is not one that this machine can run; choose'):
            c("set_isa", b"mmx")
        assert c("isa") == names[-1]
        for best in (b"", None):
            c("set_isa", names[-1].encode())
            c("set_isa", best)
            assert c("isa") == names[0]
        c("set_num_threads", 3)
        assert c("get_num_threads") == 3
    finally:
        c("set_num_threads", 0)
        c("set_isa", None)


# ---------------------------------------------------------------------------------------------
# Errors

F32, I8 = CONSTANTS["FLOAT32"], CONSTANTS["INT8"]
GOOD = zp.QuantParams(0.05, 3, "int8")
ALONG = zp.choose_params(X, "int8", axis=1)
LENGTHS = np.array(SHAPE, np.uintp)
OUT = np.full(X.size, 77, np.int8)


def other(params: Any, **changed: Any) -> Any:
    made = type(params).from_buffer_copy(params)
    made.kept = params
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def axis_params(c: Library, **changed: Any) -> Any:
    return Made(c, "quantizer", other(in_c(ALONG), **changed), SHAPE)


MANY = 2**64 - 1
MISTAKES: dict[str, tuple[str, Callable[[Library], Any]]] = {
    "x": ("x is NULL; 4 elements need memory", lambda c: c("quantize", 0, F32, OUT, 4, in_c(GOOD))),
    "q": ("q is NULL; 4 elements", lambda c: c("quantize", X, F32, None, 4, in_c(GOOD))),
    "params": ("params is NULL", lambda c: c("quantize", X, F32, OUT, 4, None)),
    "aligned": (
        "x is not aligned to its elements of 4 bytes; copy it",
        lambda c: c("quantize", address(X) + 2, F32, OUT, 4, in_c(GOOD)),
    ),
    "below 0": (
        f"n is {MANY}: memory cannot hold as many elements; check that it is not below 0",
        lambda c: c("quantize", X, F32, OUT, MANY, in_c(GOOD)),
    ),
    "dtype": (
        "dtype 5 is not one of data; use ZEROPOINT_FLOAT32, _FLOAT16 or _BFLOAT16",
        lambda c: c("quantize", X, CONSTANTS["UINT8"], OUT, 4, in_c(GOOD)),
    ),
    "codes": (
        "dtype 0 is not one of codes; use ZEROPOINT_UINT8 or ZEROPOINT_INT8",
        lambda c: c("quantize", X, F32, OUT, 4, other(in_c(GOOD), dtype=0)),
    ),
    "convention": (
        "convention 256 is unknown; zeropoint.h lists them",
        lambda c: c("quantize", X, F32, OUT, 4, other(in_c(GOOD), convention=256)),
    ),
    "scale": (
        "scale is -1: it must be finite and > 0",
        lambda c: c("dequantize", OUT, X.copy(), F32, 4, other(in_c(GOOD), scale=-1)),
    ),
    "range": (
        "qmin 5 must be less than qmax 5; swap them or widen the range",
        lambda c: c("fake_quantize", X, X.copy(), F32, 4, other(in_c(GOOD), qmin=5, qmax=5)),
    ),
    "make_params": (
        "zero_point is 300, outside [0, 255]; clip it",
        lambda c: c("make_params", 1, 300, CONSTANTS["UINT8"], 0, Params()),
    ),
    "choice": ("choice is NULL", lambda c: c("choose_params", X, F32, 4, None, Params())),
    "chosen": (
        "params is NULL",
        lambda c: c("quantize_dynamic", X, F32, OUT, 4, choice_of(c, "int8"), None),
    ),
    "rule": (
        "zero_point_from 4 is unknown",
        lambda c: c(
            *("choose_params", X, F32, 4, choice_of(c, "int8", zero_point_from=4), Params())
        ),
    ),
    "no data": (
        "x has no data, so it has no range; pass at least one element",
        lambda c: c("quantize_dynamic", None, F32, OUT, 0, choice_of(c, "int8"), Params()),
    ),
    "not finite": (
        "x has 1 NaN or Inf of 2 elements, the first at index 1; replace them first",
        lambda c: c(
            *("quantize_dynamic", np.array([1, np.nan], "f4"), F32, OUT, 2),
            *(choice_of(c, "int8"), Params()),
        ),
    ),
    "low": (
        "low is NULL",
        lambda c: c("min_max", X, F32, 4, None, ctypes.c_float()),
    ),
    "count": (
        "count is NULL",
        lambda c: c("parameter_count", LENGTHS, 3, 0, 0, None),
    ),
    "shape": (
        "shape is NULL; 3 elements need memory",
        lambda c: c("parameter_count", None, 3, 0, 0, ctypes.c_size_t()),
    ),
    "dimensions": (
        "dimensions is 65, more than 64",
        lambda c: c("parameter_count", LENGTHS, 65, 0, 0, ctypes.c_size_t()),
    ),
    "axis": (
        "axis 3 is out of bounds for a shape of 3 dimensions; it counts from 0",
        lambda c: c("parameter_count", LENGTHS, 3, 3, 0, ctypes.c_size_t()),
    ),
    "room": (
        "count is 6, and this shape has 7 parameters along its axis; make room for as many",
        lambda c: c(
            *("choose_axis_params", X, F32, LENGTHS, 3, 1, 0, choice_of(c, "int8")),
            *(np.empty(7, "f4"), np.empty(7, "i4"), 6, AxisParams()),
        ),
    ),
    "scales": ("scale is NULL; 7 elements", lambda c: axis_params(c, scale=None)),
    "zero points": (
        "zero_point has 3 elements and scale has 7; they must be as many",
        lambda c: axis_params(c, zero_point_count=3),
    ),
    "too few": ("scale has 2 elements", lambda c: axis_params(c, count=2, zero_point_count=2)),
    "handle": ("the handle is NULL", lambda c: c("quantizer_quantize", None, X, F32, OUT, 4)),
    "out": ("quantizer is NULL", lambda c: c("quantizer_create", in_c(GOOD), None)),
    "length": (
        "n is 4, and the shape has 2688 elements; pass as many",
        lambda c: axis_params(c)("quantize", X, F32, OUT, 4),
    ),
    "acc": (
        "acc is NULL; 1 elements",
        lambda c: c("requantize", None, OUT, 1, 1, in_c(GOOD)),
    ),
    "acc_scale": (
        "acc_scale is 0: it must be finite and > 0",
        lambda c: c("requantize", ACC, OUT, 4, 0, in_c(GOOD)),
    ),
    "acc_scales": (
        "acc_scale has 2 elements; it must be one, or as many as scale (7)",
        lambda c: Made(c, "requantizer", np.ones(2), 2, in_c(ALONG), SHAPE),
    ),
    "source": ("source is NULL", lambda c: c("rescale", CODES, OUT, 4, None, in_c(GOOD), 0)),
    "target": (
        "target is NULL",
        lambda c: Made(c, "lookup", "rescale", in_c(ALONG), None, 0, SHAPE),
    ),
    "arithmetic": (
        "arithmetic 4 is unknown",
        lambda c: c("rescale", CODES, OUT, 4, in_c(GOOD), in_c(GOOD), 4),
    ),
    "function": (
        "function is NULL",
        lambda c: Made(c, "lookup", "", None, None, in_c(GOOD), in_c(GOOD)),
    ),
    "channels": (
        "mean has 2 elements; it needs 7",
        lambda c: Made(
            *(c, "lookup", "image", np.ones(2), 2, np.ones(1), 1, 255, in_c(GOOD)),
            *(LENGTHS, 3, 1),
        ),
    ),
    "std": (
        "std is NULL; 1 elements",
        lambda c: Made(
            c, "lookup", "image", np.ones(1), 1, None, 1, 255, in_c(GOOD), LENGTHS, 3, 1
        ),
    ),
    "no lookup": ("the handle is NULL", lambda c: c("lookup_apply", None, CODES, OUT, 4)),
    "error": (
        "error is NULL",
        lambda c: Made(c, "lookup", "rescale", in_c(GOOD), in_c(GOOD), 0)("max_abs_error", None),
    ),
    "bounds": (
        "qmin 3 must not be greater than qmax 2; swap them",
        lambda c: c("saturate", X, OUT, F32, 4, 3, 2),
    ),
    "ties": ("ties 2 is unknown", lambda c: c("round", X, X.copy(), F32, 4, 2)),
    "cast": (
        "dtype 2 is not one of codes",
        lambda c: c("saturate_cast", X, F32, OUT, F32, 4),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(c: Library, mistake: str) -> None:
    text, call = MISTAKES[mistake]
    before = X.copy()
    OUT[:] = 77
    with pytest.raises(Failed) as error:
        call(c)
    assert str(error.value).startswith(text)
    assert (OUT == 77).all()
    same(X, before)


def test_an_error_leaves_no_handle(c: Library) -> None:
    handle = ctypes.c_void_p(1)
    with pytest.raises(Failed):
        c("quantizer_create", other(in_c(GOOD), scale=0), handle)
    assert handle.value is None
    for kind in ("quantizer", "requantizer", "lookup"):
        c(f"{kind}_destroy", None)


def test_arrays_without_elements(c: Library) -> None:
    c("quantize", None, F32, None, 0, in_c(GOOD))
    none = in_c(zp.QuantParams(np.empty(0, np.float32), 0, "int8", axis=0))
    Made(c, "quantizer", none, (0, 3))("quantize", None, F32, None, 0)


def test_threads_share_a_handle(c: Library) -> None:
    handle = Made(c, "quantizer", in_c(ALONG), SHAPE)
    expected, wrong = ALONG.quantize(X), []

    def repeat() -> None:
        found = empty(np.int8)
        for _ in range(100):
            handle("quantize", X, F32, found, X.size)
            if found.tobytes() != expected.tobytes():
                wrong.append(found)

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_messages_are_of_the_thread(c: Library) -> None:
    with pytest.raises(Failed):
        c("quantize", X, F32, OUT, 4, None)
    there: list[str] = []

    def elsewhere() -> None:
        there.append(c("message"))
        with pytest.raises(Failed):
            c("quantize", X, F32, None, 4, in_c(GOOD))
        there.append(c("message"))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert there == ["", "q is NULL; 4 elements need memory"]
    assert c("message") == "params is NULL"
    with pytest.raises(Failed):
        c("set_isa", b"x" * 5000)
    assert len(c("message")) == 511
