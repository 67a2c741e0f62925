"""What the build does with flags that change results: nothing, or an error that names them.

The compiler itself is asked for the state of each of its options.  .ci/run builds under such flags
and verifies what came out.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .test_layering import ALLOWED

ROOT = Path(__file__).resolve().parents[1]
ARITHMETIC = ROOT / "cpp" / "src" / "arithmetic.h"
HOSTILE = (
    "-Ofast -ffast-math -funsafe-math-optimizations -ffinite-math-only -fassociative-math "
    "-freciprocal-math -fno-signed-zeros -frounding-math -fsingle-precision-constant "
    "-ffp-contract=fast -fshort-enums -fno-exceptions -fno-rtti -fno-threadsafe-statics "
    "-funsigned-char"
)
if os.uname().machine == "x86_64":
    HOSTILE += " -mfpmath=387 -mrecip -mno-ieee-fp"
#: of these, options that change nothing here
HARMLESS = {
    "-fcx-limited-range",  # there are no complex numbers
    "-fexcess-precision",  # there is none: arithmetic.h sees to it
    "-fsemantic-interposition",  # nothing is exported
}


def gcc() -> str:
    """GCC, which prints the state of its options."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.fail("g++ is missing: apt-get install g++")
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    if "Free Software Foundation" not in said.stdout:
        pytest.skip(f"{compiler} is not GCC")
    return compiler


def configured(
    source: Path, build: Path, *definitions: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    for tool in ("cmake", "ninja"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is missing: pip install {tool}")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CMAKE_")}
    return subprocess.run(
        [
            *("cmake", "-G", "Ninja", "-S", source, "-B", build),
            "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
            *(f"-D{definition}" for definition in definitions),
        ],
        env=clean | {"CXX": gcc()} | environment,
        capture_output=True,
        text=True,
    )


def module(folder: Path) -> list[str]:
    """Definitions with which `_core` is configured too, without pybind11."""
    package = folder / "pybind11"
    package.mkdir()
    (package / "pybind11ConfigVersion.cmake").write_text("set(PACKAGE_VERSION_COMPATIBLE TRUE)\n")
    (package / "pybind11Config.cmake").write_text(
        "function(pybind11_add_module name kind extras source)\n"
        "    add_library(${name} MODULE ${source})\n"
        "endfunction()\n"
    )
    return ["SKBUILD=ON", f"pybind11_DIR={package}", f"Python_EXECUTABLE={sys.executable}"]


def options(build: Path) -> dict[str, dict[str, str]]:
    """Of each object file: the state of every option of the compiler."""
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        command = shlex.split(entry["command"])
        at = command.index("-o")
        kinds = [f"--help={kind}" for kind in ("common", "target", "c++", "optimizers")]
        # of the preprocessor: nothing is compiled
        done = subprocess.run(
            [*command[:at], entry["file"], "-Q", *kinds], capture_output=True, text=True, check=True
        )
        states = dict(re.findall(r"^  (-[fmO]\S*)[ \t]+(\S+)$", done.stdout, re.MULTILINE))
        assert len(states) > 500
        found[Path(command[at + 1]).as_posix().partition("CMakeFiles/")[2]] = states
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The options of a build without flags."""
    folder = tmp_path_factory.mktemp("plain")
    done = configured(ROOT, folder / "build", *module(folder))
    assert done.returncode == 0, done.stderr
    return options(folder / "build")


def link_of(build: Path, *more: str, target: str = "_core") -> str:
    """What GCC would run to link it."""
    shown = subprocess.run(
        ["ninja", "-C", build, "-t", "commands", target],
        capture_output=True,
        text=True,
        check=True,
    )
    command = next(line for line in reversed(shown.stdout.splitlines()) if "-shared" in line)
    words = shlex.split(command.partition("&&")[2].rpartition("&&")[0])
    done = subprocess.run([*words, *more, "-###"], capture_output=True, text=True, check=True)
    return done.stderr


def changes(plain: dict[str, str], states: dict[str, str]) -> dict[str, tuple[str | None, str]]:
    return {
        option: (plain.get(option), state)
        for option, state in states.items()
        if state != plain.get(option) and option.partition("=")[0] not in HARMLESS
    }


@pytest.mark.slow("configures a build")
def test_flags_change_no_option(plain: dict[str, dict[str, str]], tmp_path: Path) -> None:
    """From all that CMake makes a command of; -O2 is here for what the plain build has."""
    build = tmp_path / "build"
    done = configured(
        *(ROOT, build),
        *module(tmp_path),
        "CMAKE_BUILD_TYPE=Debug",
        f"CMAKE_CXX_FLAGS_DEBUG={HOSTILE} -O2 -DNDEBUG",
        CXX=f"{gcc()} {HOSTILE}",
        CXXFLAGS=HOSTILE,
        LDFLAGS=HOSTILE,
    )
    assert done.returncode == 0, done.stderr
    for name, states in options(build).items():
        assert changes(plain[name], states) == {}, name
    # GCC's object file that switches a process to flush-to-zero
    assert "crtfastmath.o" not in link_of(build)
    assert "crtfastmath.o" in link_of(build, "-ffast-math")
    shared = tmp_path / "shared"
    assert configured(ROOT, shared, LDFLAGS=HOSTILE).returncode == 0
    assert "crtfastmath.o" not in link_of(shared, target="zeropoint_shared")


@pytest.mark.slow("configures a build")
def test_a_parent_project_changes_no_option(
    plain: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\n"
        "project(parent LANGUAGES CXX)\n"
        "set(CMAKE_BUILD_TYPE Release)\n"
        # CMake drops an option that it has seen before
        "add_compile_options(-fno-finite-math-only -ffp-contract=off)\n"
        f"add_compile_options({HOSTILE})\n"
        f"add_subdirectory({ROOT} zeropoint)\n"
    )
    build = tmp_path / "build"
    done = configured(tmp_path, build)
    assert done.returncode == 0, done.stderr
    found = options(build)
    assert set(found) == {name for name in plain if "_core" not in name}
    for name, states in found.items():
        assert changes(plain[name], states) == {}, name


@pytest.mark.slow("configures builds")
def test_what_cannot_be_undone_stops_the_configuration(tmp_path: Path) -> None:
    defines = module(tmp_path)
    done = configured(ROOT, tmp_path / "build", *defines, CXXFLAGS="-O2 -mpc32")
    assert done.returncode != 0
    assert "-mpc32 in CMAKE_CXX_FLAGS (CXX, CXXFLAGS, LDFLAGS)" in done.stderr
    for name, flag in (
        ("CMAKE_CXX_FLAGS_RELEASE", "-mpc64"),
        ("CMAKE_MODULE_LINKER_FLAGS_RELEASE", "-mpc32"),
        ("CMAKE_SHARED_LINKER_FLAGS", "-mpc64"),
        ("CMAKE_CXX_STANDARD_LIBRARIES", "-ffast-math"),
    ):
        where = tmp_path / name
        done = configured(ROOT, where, *defines, f"{name}={flag}")
        assert done.returncode != 0, name
        assert f"{flag} in {name} " in done.stderr


#: where it comes after our own options
STOPPED = [
    *("-ffast-math", "-Ofast", "-ffinite-math-only", "-fno-signed-zeros", "-freciprocal-math"),
    *("-funsafe-math-optimizations", "-fsingle-precision-constant", "-fpack-struct"),
]
if os.uname().machine == "x86_64":
    STOPPED.append("-mfpmath=387")


def checked(flags: str) -> subprocess.CompletedProcess[str]:
    command = [gcc(), "-std=c++17", "-fsyntax-only", "-x", "c++", ARITHMETIC, *flags.split()]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("flag", STOPPED)
def test_a_flag_that_comes_later_stops_the_compiler(flag: str) -> None:
    done = checked(flag)
    assert done.returncode != 0
    assert re.search(rf"error: .*{re.escape(flag)}", done.stderr), done.stderr


@pytest.mark.parametrize("flags", ["-O0", "-O3 -march=native -flto", "-Os -funsigned-char -fwrapv"])
def test_harmless_flags_pass(flags: str) -> None:
    done = checked(flags)
    assert done.returncode == 0, done.stderr


def test_every_source_that_computes_is_checked() -> None:
    def reaches(name: str) -> bool:
        names = ALLOWED.get(name, ())
        included = {f"{'include' if n.startswith('zeropoint/') else 'src'}/{n}" for n in names}
        return "src/arithmetic.h" in included or any(map(reaches, included))

    sources = {name for name in ALLOWED if name.startswith("src/") and name.endswith(".cpp")}
    assert {name for name in sources if not reaches(name)} == {"src/machine.cpp", "src/pool.cpp"}


# ---- pyproject.toml ----------------------------------------------------------------------------


def test_the_build_is_described_well() -> None:
    """tests/deep/test_packaging.py tries all of this out."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for requirement in described["build-system"]["requires"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", requirement)
    settings = described["tool"]["scikit-build"]
    assert "build-dir" not in settings  # so that builds at one time share no folder
    assert settings["wheel"]["reproducible"] is True
    assert "metadata" not in settings  # deprecated
