"""The core's reliability, checked in the ways that need tools of their own.

    python tests/cpp/check.py MODE [--build DIR] [--seconds N] [--every N] [--keep]

Each mode compiles what it needs below --build (default build/checks), runs it, and ends with a line
that counts what was checked.  Exit code 0: all of it passed; 1: something failed; 2: a tool is
missing, and the message says what to install.  Nothing is installed here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORPUS = HERE / "corpus.txt"

#: the first finding ends the program, and none is suppressed
ASAN = "-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
#: for sources of ours; that a size is unsigned is no news
WARNINGS = "-Wall -Wextra -Wconversion -Wno-sign-conversion -Wpedantic -Werror"
#: long results go past the caches, however small they are
STREAMING = {"ZEROPOINT_STREAM_FROM": "0"}
#: what a build needs, by the name of the program
DEBIAN = {
    "g++": "g++",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
    "qemu-x86_64": "qemu-user",
    "valgrind": "valgrind",
    "clang++": "clang libclang-rt-dev",
    "setarch": "util-linux",
    "clang-tidy": "clang-tidy",
}
#: what of the suite cannot run in an instrumented process
NOT_FOR_ASAN = (
    "parity",  # the engines themselves, which are not ours to check
    "test_symbols.py",  # of a library that is not instrumented
    "test_vectorised.py",  # of the same library
    "test_build.py",  # it asks the compiler, and runs nothing of ours
    "test_cpp_package.py",  # builds instrumented programs of its own
    "test_docs.py::test_cpp_works_when_pasted",  # so does this
    "test_files.py::test_resident_memory_of_a_process",  # a sanitizer's memory would count
    "test_examples_onnx_embeddings.py",  # it compares times
)
#: of the suite, where callers and threads meet
FOR_PYTHON_TSAN = ("threads", "calls", "lookup")


class Failed(Exception):
    """Something was checked and is wrong."""


class Missing(Exception):
    """A tool is not there."""


class Count:
    """Checks that passed, elements compared, and the ISAs that they ran on."""

    def __init__(self) -> None:
        self.checks = self.elements = 0
        self.isas: list[str] = []

    def add(self, output: str) -> None:
        """Read the line of counts that a program of ours ends with."""
        for line in output.splitlines():
            if line.startswith("NOT RUN"):
                print(line)
        last = re.search(
            r"^(\d+) passed, (\d+) failed(?:; (\d+) elements compared on (.+))?\Z",
            output.rstrip(),
            re.MULTILINE,
        )
        if last is None or int(last[2]):
            raise Failed("the last line has no count of checks without a failure")
        self.checks += int(last[1])
        self.elements += int(last[3] or 0)
        self.isas += [isa for isa in (last[4] or "").split() if isa not in self.isas]

    def __str__(self) -> str:
        elements = f", {self.elements:,} elements compared" if self.elements else ""
        isas = f" on {', '.join(self.isas)}" if self.isas else ""
        return f"{self.checks:,} passed, 0 failed{elements}{isas}"


def tool(name: str) -> str:
    """The path of a program, or Missing with the package that has it."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is missing: apt-get install {DEBIAN[name]}")
    return path


def module(name: str) -> None:
    """Missing unless this Python has the module."""
    if importlib.util.find_spec(name) is None:
        raise Missing(f"{sys.executable} has no module {name}: pip install {name}")


def start(command: Iterable[object], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    words = [str(word) for word in command]
    print("+", *(f"{k}={v}" for k, v in (env or {}).items()), *words, file=sys.stderr)
    return subprocess.Popen(
        words,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    """The outputs of programs that run side by side and must all succeed."""
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        if process.returncode != 0:
            print(output)
            raise Failed(f"exit code {process.returncode} of {process.args!r}")
    return outputs


def run(command: Iterable[object], env: dict[str, str] | None = None) -> str:
    return finish(start(command, env))[0]


def build(where: Path, targets: str, flags: str, *definitions: str) -> Path:
    """Compile `targets` and everything below them with `flags`; returns where they lie.

    CMAKE_BUILD_TYPE names no flags of its own, so that these are all there are; the loops keep
    the -O3 and the ISA flags of CMakeLists.txt.
    """
    if shutil.which("cmake") is None:
        raise Missing("cmake is missing: pip install cmake, or apt-get install cmake")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    given = [f"-DCMAKE_CXX_FLAGS={flags}", "-DCMAKE_BUILD_TYPE=Checked", *definitions]
    run(["cmake", *generator, "-S", HERE, "-B", where, *given])
    command = ["cmake", "--build", where, "--parallel", os.cpu_count() or 1, "--target"]
    run([*command, *targets.split()])
    return where


def with_python() -> list[str]:
    """The definitions with which a build has the Python module, the target _core."""
    module("pybind11")
    cmakedir = run([sys.executable, "-m", "pybind11", "--cmakedir"]).strip()
    return ["-DSKBUILD=ON", f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={cmakedir}"]


def package(where: Path, **env: str) -> dict[str, str]:
    """The environment in which this Python imports zeropoint with the core of the build `where`."""
    site = where / "site"
    shutil.rmtree(site, ignore_errors=True)
    ignored = shutil.ignore_patterns("_core.*.so", "__pycache__")
    shutil.copytree(ROOT / "python" / "zeropoint", site / "zeropoint", ignore=ignored)
    run(["cmake", "--install", where / "core", "--prefix", site])
    paths = [str(site), *(path for path in sys.path if path.endswith("site-packages"))]
    return env | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


def verified(report: str, backends: list[str] | None, count: Count) -> None:
    """Count what `zeropoint verify --json` compared; Failed if anything differs."""
    found = json.loads(report[report.index("{") :])
    if found["differences"] != 0 or backends not in (None, found["backends"]):
        raise Failed(f"backends {found['backends']}, {found['differences']} wrong")
    count.checks += sum(row["cases"] for row in found["rows"])
    count.elements += sum(row["elements"] for row in found["rows"])


def same_digests(outputs: dict[str, str], count: Count) -> None:
    """Count the checks of C++ tests, by who ran them; Failed if a digest differs among them."""
    digests: dict[str, dict[str, str]] = defaultdict(dict)
    for who, output in outputs.items():
        count.add(output)
        for kind, isa, digest in re.findall(r"^digest\t(.+)\t(.+)\t(.+)$", output, re.M):
            digests[kind][f"{who} {isa}"] = digest
    everywhere = {name for found in digests.values() for name in found}
    for kind, found in digests.items():
        if found.keys() != everywhere or len(set(found.values())) != 1:
            raise Failed(f"{kind}: the digests are {found}")
    if not digests:
        raise Failed("there are no digests")
    print(f"{len(digests)} digests are the same on: {', '.join(sorted(everywhere))}")
    count.checks += len(digests)


# ---------------------------------------------------------------------------------------------
# The modes


def sanitized(options: argparse.Namespace, targets: str) -> Path:
    """Clang's build under ASan and UBSan, which the C++ tests and libFuzzer share."""
    compiler = tool("clang++")
    flags = f"{ASAN} -fsanitize=fuzzer-no-link -g -O1 {WARNINGS}"
    where = options.build / "sanitized"
    return build(where, targets, flags, f"-DCMAKE_CXX_COMPILER={compiler}")


def prepare(options: argparse.Namespace, count: Count) -> None:
    """Clang's build for `compilers` and `fuzz`, and no more: CI makes it while pip downloads."""
    sanitized(options, "all zeropoint_fuzz")


def compilers(options: argparse.Namespace, count: Count) -> None:
    """GCC and Clang: no warnings in our sources, the C++ tests, and the same digests from both.

    GCC's library is the one that this Python has installed.  Clang's is under ASan and UBSan, which
    also run with caches passed, and over the fuzzer's corpus.
    """
    module("zeropoint")
    installed = run([sys.executable, "-m", "zeropoint", "--cmakedir"]).strip()
    includes = [f"-I{ROOT / 'cpp' / name}" for name in ("include", "src")]
    pybind11 = run([sys.executable, "-m", "pybind11", "--includes"]).replace("-I", "-isystem")
    for compiler in (tool("g++"), tool("clang++")):
        print(run([compiler, "--version"]).splitlines()[0])
        compiling = ["-std=c++17", *WARNINGS.split(), *includes, *pybind11.split()]
        for source in (
            ROOT / "tests" / "outside" / "api.cpp",  # the templates of the typed API, made
            ROOT / "cpp" / "bindings" / "module.cpp",
        ):
            run([compiler, "-fsyntax-only", *compiling, source])
    gcc = build(
        options.build / "installed",
        "zeropoint_tests",
        f"-O1 {WARNINGS}",
        "-DCMAKE_CXX_COMPILER=g++",
        "-DZEROPOINT_INSTALLED=ON",
        f"-DCMAKE_PREFIX_PATH={installed}",
    )
    clang = sanitized(options, "all")
    tests = ["--digests", "--every", options.every]
    replay = clang / "zeropoint_replay", CORPUS
    of_gcc, of_clang, *more = finish(
        start([gcc / "zeropoint_tests", *tests]),
        start([clang / "zeropoint_tests", *tests]),
        # few of the calls are long enough to notice
        start([clang / "zeropoint_tests", "kernels", "--every", 3 * options.every], STREAMING),
        start(replay),
        start(replay, STREAMING),
    )
    same_digests({"GCC": of_gcc, "Clang": of_clang}, count)
    for output in more:
        count.add(output)


def tsan(options: argparse.Namespace, count: Count) -> None:
    """TSan over threads, concurrent callers, forks and calls that stop."""
    tool("g++")
    flags = "-fsanitize=thread -g -O1"
    where = build(options.build / "tsan", "zeropoint_tests", flags, "-DCMAKE_CXX_COMPILER=g++")
    # TSan's shadow memory does not fit every randomisation of addresses
    fixed = [tool("setarch"), "-R"]
    # by default it ends a child that starts threads, though it can go on
    env = {"TSAN_OPTIONS": "die_after_fork=0"}
    tests = [*fixed, where / "zeropoint_tests", "threads", "fork", "host"]
    for output in finish(start(tests, env), start(tests, {**env, **STREAMING})):
        count.add(output)


def valgrind(options: argparse.Namespace, count: Count) -> None:
    """Valgrind's memcheck over the C++ tests, up to AVX2: it emulates no AVX-512."""
    tool("g++")
    where = build(options.build / "plain", "zeropoint_tests", "-g -O1")
    tests = [where / "zeropoint_tests", "--every", options.every]
    command = [tool("valgrind"), "--quiet", "--error-exitcode=1", *tests]
    for output in finish(start(command), start([*command, "kernels"], STREAMING)):
        count.add(output)
    if count.isas != ["avx2", "baseline"]:
        raise Failed(f"what ran is {count.isas}, not AVX2 and the baseline")


def aarch64(options: argparse.Namespace, count: Count) -> None:
    """The C++ tests as an aarch64 program, and the digests of all results equal to x86-64's."""
    compiler, emulator = tool("aarch64-linux-gnu-g++"), tool("qemu-aarch64")
    native = build(options.build / "native", "zeropoint_tests", "-O2")
    foreign = build(
        options.build / "aarch64",
        "zeropoint_tests",
        "-O2",
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={compiler}",
    )
    # not fork: QEMU's user mode fails in the children of a process with threads
    arguments = ["kernels", "threads", "host", "choose", "--digests", "--every", options.every]
    emulated = [emulator, "-L", "/usr/aarch64-linux-gnu", foreign / "zeropoint_tests"]
    outputs = finish(
        start([native / "zeropoint_tests", *arguments]), start([*emulated, *arguments])
    )
    same_digests(dict(zip(("x86-64", "aarch64"), outputs, strict=True)), count)


def qemu(options: argparse.Namespace, count: Count) -> None:
    """This Python's zeropoint on CPUs without AVX and without AVX-512: import, then verify."""
    emulator = tool("qemu-x86_64")
    module("zeropoint")
    for cpu, expected in (("Nehalem", ["baseline"]), ("Haswell", ["avx2", "baseline"])):
        command = [emulator, "-cpu", cpu, sys.executable, "-m", "zeropoint", "verify", "--json"]
        # OpenBLAS, which comes with NumPy, may be told to use kernels that this CPU lacks
        clean = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
        print("+ env -u OPENBLAS_CORETYPE", *command, file=sys.stderr)
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"on {cpu}, exit code {done.returncode}:\n{done.stdout}{done.stderr}")
        verified(done.stdout, expected, count)
        print(f"{cpu}: {', '.join(expected)}, and no illegal instruction")


def fuzz(options: argparse.Namespace, count: Count) -> None:
    """libFuzzer with ASan and UBSan for --seconds, from the corpus on; --keep renews that."""
    where = sanitized(options, "zeropoint_fuzz")
    inputs = where / "inputs"
    shutil.rmtree(inputs, ignore_errors=True)
    inputs.mkdir()
    for i, line in enumerate(CORPUS.read_text().split()):
        (inputs / f"corpus-{i:04}").write_bytes(bytes.fromhex(line))
    common = [where / "zeropoint_fuzz", "-max_len=128", "-len_control=0", "-timeout=60"]
    command = [*common, "-print_final_stats=1", f"-max_total_time={options.seconds}"]
    command += [f"-artifact_prefix={where}/", inputs]
    for output in finish(start([*command, "-seed=1"]), start([*command, "-seed=2"], STREAMING)):
        print(*re.findall(r"^.*DONE.*$", output, re.M))
        count.checks += int(re.findall(r"number_of_executed_units: (\d+)", output)[0])
    if options.keep:
        kept = where / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        # few: one for each branch of the code, however often it is taken
        run([*common, "-use_counters=0", "-merge=1", kept, inputs])
        lines = sorted(path.read_bytes().hex() for path in kept.iterdir())
        CORPUS.write_text("".join(f"{line}\n" for line in lines))
        print(f"{len(lines)} inputs are in {CORPUS}")


def python_asan(options: argparse.Namespace, count: Count) -> None:
    """ASan and UBSan over the Python suite, with the core and its bindings instrumented.

    Leaks are not looked for, as NumPy and Python themselves leave memory at exit.
    """
    compiler = tool("g++")
    for name in ("pytest", "hypothesis"):
        module(name)
    where = build(
        options.build / "python-asan",
        "_core",
        f"{ASAN} -g -O1",
        *with_python(),
        f"-DCMAKE_CXX_COMPILER={compiler}",
    )
    libraries = [
        run([compiler, f"-print-file-name={name}"]).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    # ASan looks for the exceptions of libstdc++ when it starts, before Python loads that
    env = package(where, LD_PRELOAD=" ".join(libraries), ASAN_OPTIONS="detect_leaks=0")
    core = run([sys.executable, "-c", "import zeropoint._core as c; print(c.__file__)"], env)
    if not Path(core.strip()).is_relative_to(where):
        raise Failed(f"Python would test {core.strip()}: is zeropoint installed as editable?")
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ROOT / "tests"]
    left_out = (
        f"--deselect=tests/{name}" if "::" in name else f"--ignore={ROOT / 'tests' / name}"
        for name in NOT_FOR_ASAN
    )
    output = run([*tests, f"--rootdir={ROOT}", *left_out], env)
    print(output)
    count.checks += int(re.findall(r"(\d+) passed", output)[-1])


def python_tsan(options: argparse.Namespace, count: Count) -> None:
    """TSan over Python's callers, in a build that gives up its lock for the smallest calls too.

    CPython is not instrumented: its own locks are seen, and of its memory what the core touches.
    What is found in other extensions, such as onnxruntime, is counted and is not ours.
    """
    compiler = tool("g++")
    module("pytest")
    flags = "-fsanitize=thread -g -O1 -DZEROPOINT_RELEASE_GIL_FROM=0"
    where = build(
        options.build / "python-tsan",
        "_core",
        flags,
        *with_python(),
        f"-DCMAKE_CXX_COMPILER={compiler}",
    )
    log = where / "found"  # pytest would keep it to itself
    for path in where.glob("found.*"):
        path.unlink()
    # NumPy's BLAS has threads of its own, which TSan knows nothing of
    env = package(
        where,
        LD_PRELOAD=run([compiler, "-print-file-name=libtsan.so"]).strip(),
        TSAN_OPTIONS=f"die_after_fork=0 exitcode=0 log_path={log}",
        OPENBLAS_NUM_THREADS="1",
    )
    python = [tool("setarch"), "-R", sys.executable]
    core = run([*python, "-c", "import zeropoint._core as c; print(c.__file__)"], env)
    if not Path(core.strip()).is_relative_to(where):
        raise Failed(f"Python would test {core.strip()}: is zeropoint installed as editable?")
    names = [ROOT / "tests" / f"test_{name}.py" for name in FOR_PYTHON_TSAN]
    tests = [*python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *names]
    output = run([*tests, f"--rootdir={ROOT}", "-k", "not fork and not children"], env)
    print(output)
    found = "".join(path.read_text() for path in where.glob("found.*")).split("WARNING: ")[1:]
    if ours := [text for text in found if re.search(r"\b_core\.cpython|/cpp/", text)]:
        raise Failed(f"{len(ours)} findings, the first:\n{ours[0]}")
    print(f"{len(found)} findings in others' code, none in ours")
    count.checks += int(re.findall(r"(\d+) passed", output)[-1])


def tidy(options: argparse.Namespace, count: Count) -> None:
    """clang-tidy over the core, its typed API and the bindings: what noexcept functions throw."""
    linter = tool("clang-tidy")
    module("pybind11")
    pybind11 = (
        run([sys.executable, "-m", "pybind11", "--includes"]).replace("-I", "-isystem").split()
    )
    sources = [
        *sorted((ROOT / "cpp" / "src").glob("*.cpp")),
        ROOT / "tests" / "outside" / "api.cpp",  # the templates of the typed API, made
        ROOT / "cpp" / "bindings" / "module.cpp",
    ]
    x86 = ["-DZEROPOINT_X86"] if platform.machine() == "x86_64" else []
    includes = [f"-I{ROOT / 'cpp' / name}" for name in ("include", "src")]
    flags = ["-std=c++17", *x86, "-DZEROPOINT_ISA=baseline", *includes, *pybind11]
    checks = ["--quiet", "--checks=-*,bugprone-exception-escape", "--warnings-as-errors=*"]
    finish(*(start([linter, *checks, source, "--", *flags]) for source in sources))
    count.checks += len(sources)


Mode = Callable[[argparse.Namespace, Count], None]
MODES: dict[str, Mode] = {
    "tidy": tidy,
    "prepare": prepare,
    "compilers": compilers,
    "tsan": tsan,
    "valgrind": valgrind,
    "aarch64": aarch64,
    "qemu": qemu,
    "fuzz": fuzz,
    "python-asan": python_asan,
    "python-tsan": python_tsan,
}


def main(modes: dict[str, Mode], description: str) -> int:
    lines = "\n".join(f"  {name:14} {str(f.__doc__).splitlines()[0]}" for name, f in modes.items())
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"modes:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mode", choices=modes, metavar="MODE")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "checks", metavar="DIR")
    parser.add_argument("--seconds", type=int, default=300, help="fuzz: how long (%(default)s)")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="one in N of the calls of all layouts"
    )
    parser.add_argument("--keep", action="store_true", help="fuzz: make what it found the corpus")
    options = parser.parse_args()
    options.build = options.build.resolve()
    count, began = Count(), time.monotonic()
    try:
        modes[options.mode](options, count)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    except Failed as failed:
        print(f"{options.mode}: FAILED: {failed}", file=sys.stderr)
        return 1
    print(f"{options.mode}: {count}; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(MODES, str(__doc__)))
