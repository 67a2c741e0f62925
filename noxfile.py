"""Sessions for people; `.ci/run` is what CI runs.  List them with `nox -l`."""

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "venv"
CORE = {"ZEROPOINT_REQUIRE_CORE": "1"}


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite."""
    session.install(".[test]", env=CORE)
    session.run("pytest", *session.posargs)


@nox.session
def parity(session: nox.Session) -> None:
    """The judges: the same inputs through the engines themselves."""
    session.install("torch==2.13.0")  # the CPU build, before anything asks for another
    session.install(".[test,parity]", env=CORE)
    session.run("pytest", "tests/parity", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy --strict and clang-format."""
    session.install("-r", "lint-requirements.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    sources = session.run(
        "git", "ls-files", "cpp/*.h", "cpp/*.hpp", "cpp/*.cpp", external=True, silent=True
    )
    session.run("clang-format", "--dry-run", "--Werror", *str(sources).split())


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmark suite beside every peer that installs."""
    session.install("torch==2.13.0")
    session.install(".[test,parity,bench]", env=CORE)
    session.run("python", "-m", "bench", *session.posargs)
