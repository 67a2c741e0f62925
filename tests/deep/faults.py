"""Seeded faults: every one of them must make a test fail.

    python tests/deep/faults.py [--check] [--list] [--only NAME] [--work DIR]

Each fault of faults.txt is a small wrong edit of the C++ or Python code, of the kind that people
make: a tail off by one, ties away from zero, a reciprocal for a division, a swapped lane.  They are
applied one by one to a copy of the tree; the tree itself is only read, and --check looks in a
second whether each still fits it.  First the tests that the table names run on the copy as it is,
since a test that fails anyway catches nothing.  Then, for each fault, those that should see it
first, and where they do not all others, before it counts as survived.

Needs the packages of ``pip install -e ".[test,parity]"``, dask, zarr, pybind11 and a C++ compiler.
With ``--work`` the copy stays in that directory, and the next run builds less.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SECONDS = 900  # for one run of pytest; a fault that makes it hang is caught by that too
#: not among "all others": they compile, or look at how the code was compiled, or look at the text
SLOW = {"test_cpp_package", "test_vectorised", "test_docs", "test_layering"}


class Fault(NamedTuple):
    name: str
    old: str  #: the code, as in faults.txt
    new: str
    tests: tuple[str, ...]  #: those that should see it first
    isa: str  #: the fault is in code for this one alone

    @property
    def pattern(self) -> re.Pattern[str]:
        """Of `old`, however its lines break; $name is any identifier."""
        pattern, before, names = "", "", set[str]()
        for token in re.findall(r"\$?\w+|\S", self.old):
            words = re.match(r"[\w$]", token) and re.match(r"[\w$]", before)
            pattern += r"\s+" if words else r"\s*"
            name = token.removeprefix("$")
            if name == token:
                pattern += re.escape(token)
            elif name in names:
                pattern += rf"\b(?P={name})\b"
            else:
                pattern += rf"\b(?P<{name}>[a-zA-Z_]\w*)\b"
                names.add(name)
            before = token
        starts, ends = (r"\b" if re.match(r"\w", c) else "" for c in (self.old[0], before[-1]))
        return re.compile(starts + pattern.removeprefix(r"\s*") + ends)

    def places(self, texts: dict[str, str]) -> list[str]:
        """The files that hold the code, as often as they do."""
        words, pattern = re.findall(r"(?<![$\w])\w+", self.old), self.pattern
        likely = {f: text for f, text in texts.items() if all(word in text for word in words)}
        return [file for file, text in likely.items() for _ in pattern.findall(text)]

    def applied(self, text: str) -> str:
        def new(found: re.Match[str]) -> str:
            return re.sub(r"\$(\w+)", lambda name: found[name[1]], self.new)

        return self.pattern.sub(new, text)


def faults() -> list[Fault]:
    """The table of faults.txt."""
    found = []
    for paragraph in (HERE / "faults.txt").read_text().split("\n\n"):
        lines = [line for line in paragraph.strip().splitlines() if not line.startswith("#")]
        if lines:
            name, *fields = lines
            given = {key: value for key, _, value in (line.partition(" ") for line in fields)}
            tests = (test.partition("::") for test in given["?"].split())
            ids = (f"tests/test_{file}.py{colons}{test}" for file, colons, test in tests)
            found.append(Fault(name, given["-"], given["+"], tuple(ids), given.get("isa", "")))
    return found


def sources() -> dict[str, str]:
    """The core and the package: the text of each file."""
    found = [path for suffix in ("h", "hpp", "cpp") for path in (ROOT / "cpp").rglob(f"*.{suffix}")]
    found += (ROOT / "python").rglob("*.py")
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(found)}


def problems() -> list[str]:
    """What is wrong with the table: nothing, if every fault can be made and its tests exist."""
    table, texts = faults(), sources()
    names = [fault.name for fault in table]
    found = [f"{name}: two faults have this name" for name in names if names.count(name) > 1]
    for fault in table:
        places = fault.places(texts)
        if len(places) != 1:
            found.append(f"{fault.name}: in {places or 'no file'}, not once: {fault.old}")
        elif places[0].endswith(".py"):
            try:
                compile(fault.applied(texts[places[0]]), places[0], "exec")
            except SyntaxError as error:
                found.append(f"{fault.name}: it is no Python: {error}")
        for test in fault.tests:
            path, _, function = test.partition("::")
            text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
            if not text or (function and f"def {function}(" not in text):
                found.append(f"{fault.name}: there is no {test}")
    return found


# ---------------------------------------------------------------------------------------------
# The copy


class Copy:
    """The tree in a directory of its own, its module compiled, with an interpreter for it.

    `project` is the directory whose CMakeLists.txt is built, and `targets` what is built of it.
    """

    def __init__(self, work: Path, project: str = ".", targets: tuple[str, ...] = ()) -> None:
        self._project, self._targets = project, targets
        self.tree, self.built, self._room = work / "tree", work / "build", work / "venv"
        tracked = _run("git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard")
        self._fill([Path(name) for name in tracked.split("\0") if name])
        # the values are those of -O3, which takes three times as long to compile
        self._edit("CMakeLists.txt", "set(loop_options -O3 ", "set(loop_options -O1 ")
        self._environment()
        self._configure()
        self.build()
        where = "import zeropoint as zp; print(zp.__file__, *zp.backends())"
        found, *self.backends = _run(self.python, "-c", where, cwd=self.tree).split()
        if not Path(found).is_relative_to(self.tree) or self.backends == ["reference"]:
            sys.exit(f"the copy is not what is imported: {found}, {self.backends}")

    def _fill(self, names: list[Path]) -> None:
        """Only what differs is written, so that a kept copy is not compiled again."""
        names = [name for name in names if (ROOT / name).is_file()]
        for old in [path for path in self.tree.rglob("*") if path.is_file()]:
            if old.suffix != ".so" and old.relative_to(self.tree) not in names:
                old.unlink()
        for name in names:
            source, target = ROOT / name, self.tree / name
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def _environment(self) -> None:
        """The packages of this interpreter, and before them the copy's.

        What a .pth file names is put on the path, but the .pth files there, that of an editable
        zeropoint among them, are not read.
        """
        _run(sys.executable, "-m", "venv", "--without-pip", str(self._room))
        (packages,) = self._room.glob("lib/python*/site-packages")
        paths = [str(self.tree / "python"), *(p for p in sys.path if p.endswith("site-packages"))]
        (packages / "copy.pth").write_text("\n".join(paths) + "\n")
        self.python = str(self._room / "bin" / "python")

    def _configure(self) -> None:
        _run(
            *("cmake", "-G", "Ninja", "-S", str(self.tree / self._project), "-B", str(self.built)),
            "-DSKBUILD=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={_run(sys.executable, '-m', 'pybind11', '--cmakedir').strip()}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={self.tree / 'python' / 'zeropoint'}",
        )

    def build(self) -> None:
        targets = ["--target", *self._targets] if self._targets else []
        _run("cmake", "--build", str(self.built), *targets)

    def _edit(self, file: str, old: str, new: str) -> None:
        path = self.tree / file
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{file}: found {text.count(old)} times, not once:\n{old}")
        path.write_text(text.replace(old, new))

    @contextlib.contextmanager
    def with_fault(self, fault: Fault, file: str) -> Iterator[None]:
        with self.restored(file) as path:
            path.write_text(fault.applied(path.read_text()))
            if file.startswith("cpp/"):
                self.build()
            yield

    @contextlib.contextmanager
    def restored(self, file: str) -> Iterator[Path]:
        """A file of the copy, which has its text again in the end."""
        path = self.tree / file
        text = path.read_text()
        try:
            yield path
        finally:
            path.write_text(text)

    def tests(self, ids: list[str], seconds: float = SECONDS) -> str | None:
        """The first test that fails, None if all pass."""
        command = [self.python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOINT_")}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
        job = subprocess.Popen(
            [*command, "--hypothesis-seed=0", *ids],
            cwd=self.tree,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = job.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()
            return "none: they hang"
        if job.returncode == 0:
            return None
        if job.returncode < 0:
            return f"none: the interpreter dies of {signal.Signals(-job.returncode).name}"
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
        if failed is None:
            sys.exit(f"pytest {' '.join(ids)} ended with {job.returncode}:\n{output}")
        return failed[1]

    def others(self) -> list[str]:
        found = [path for path in self.tree.glob("tests/test_*.py") if path.stem not in SLOW]
        return sorted(str(path.relative_to(self.tree)) for path in found)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


# ---------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description="Seeded faults, and the tests that see them.")
    parser.add_argument("--check", action="store_true", help="look at the table alone, and end")
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--only", metavar="NAME", help="the faults with this in their name or file")
    parser.add_argument("--work", metavar="DIR", type=Path, help="keep the copy there")
    options = parser.parse_args()
    wrong = problems()
    if wrong:
        sys.exit("\n".join(wrong))
    texts = sources()
    chosen = {fault: fault.places(texts)[0] for fault in faults()}
    if options.only:
        chosen = {f: file for f, file in chosen.items() if options.only in f"{f.name} {file}"}
    if not chosen:
        parser.error(f"no fault has {options.only!r} in its name or file")
    if options.check:
        print(f"{len(chosen)} faults can be made, and their tests exist")
        return 0
    if options.list:
        for fault, file in chosen.items():
            print(f"{file}: {fault.name}")
        return 0
    with contextlib.ExitStack() as stack:
        work = options.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
        Path(work).mkdir(parents=True, exist_ok=True)
        return _try(chosen, Copy(Path(work).resolve()))


def _try(faults: dict[Fault, str], copy: Copy) -> int:
    start = time.monotonic()
    ids = sorted({test for fault in faults for test in fault.tests})
    for _, together in itertools.groupby(ids, lambda test: test.partition("::")[0]):
        failed = copy.tests(list(together))
        if failed:
            sys.exit(f"without any fault this fails: {failed}")
    print(f"without a fault all pass ({time.monotonic() - start:.0f} s)", flush=True)
    survived = 0
    # those in Python first, while all is compiled as it is
    for fault, file in sorted(faults.items(), key=lambda item: item[1].startswith("cpp/")):
        start = time.monotonic()
        if fault.isa and fault.isa not in copy.backends:
            print(f"NOT TRIED {fault.name}: this machine lacks {fault.isa}", flush=True)
            continue
        with copy.with_fault(fault, file):
            test = copy.tests(list(fault.tests))
            late = ""
            if test is None:
                test, late = copy.tests(copy.others()), ", by none of the first"
                if test and "::" in test and copy.tests([test]) is None:
                    test = None  # it failed by chance
        survived += test is None
        outcome = f"caught   {fault.name}: {test}{late}" if test else f"SURVIVED {fault.name}"
        print(f"{outcome} ({time.monotonic() - start:.1f} s)", flush=True)
    tried = sum(not fault.isa or fault.isa in copy.backends for fault in faults)
    print(f"{tried - survived} passed, {survived} failed")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
