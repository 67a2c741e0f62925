"""What to install: messages, README and examples agree with pyproject.toml, and it works."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zeropoint import _extras

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


# ---------------------------------------------------------------------------------------------
# Messages


def test_the_packages_are_those_of_the_project() -> None:
    for_users = {
        name: packages
        for name, packages in PROJECT["optional-dependencies"].items()
        if name not in ("test", "parity", "bench", "docs")
    }
    assert for_users == _extras.EXTRAS


def test_the_command_works_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert _extras.command("torch") == 'pip install ".[torch]"'
    assert _extras.reinstall() == "pip install --force-reinstall --no-deps ."
    for text in (None, '[project]\nname = "other"', "[project]", "project = 3", "[", b"\xff"):
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (tmp_path / "pyproject.toml").write_bytes(data)
        monkeypatch.chdir(tmp_path)
        assert _extras.command("torch") == 'pip install "torch>=2.6" "ml_dtypes>=0.5"'
        assert "a checkout of the project" in _extras.reinstall()
    (tmp_path / "pyproject.toml").unlink()
    (tmp_path / "pyproject.toml").mkdir()
    assert _extras.command("dask") == 'pip install "dask[array]>=2025.1"'
    monkeypatch.chdir(ROOT / "docs")  # where "." is no project
    assert _extras.command("onnx") == 'pip install "onnx>=1.19"'


def test_publishing_changes_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_extras, "PUBLISHED", True)
    monkeypatch.chdir(tmp_path)
    assert _extras.command("onnx") == 'pip install "zeropoint[onnx]"'
    assert _extras.reinstall().endswith(" zeropoint")
    monkeypatch.chdir(ROOT)
    assert _extras.command("onnx") == 'pip install ".[onnx]"'


GUARDED = {  # modules, and the extra of each
    "zeropoint.arrow": "arrow",
    "zeropoint.dask": "dask",
    "zeropoint.plot": "plot",
    "zeropoint.xarray": "xarray",
    "zeropoint.zarr": "zarr",
    "zeropoint.interop.onnx": "onnx",
    "zeropoint.interop.torch": "torch",
}
WITHOUT = """
import importlib, sys
for name in sys.argv[1:]:
    package = name.split(".")[-1]
    sys.modules[{"arrow": "pyarrow", "plot": "matplotlib"}.get(package, package)] = None
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(error)
sys.modules["ml_dtypes"] = None
from zeropoint._files.source import real_dtype
try:
    real_dtype("bfloat16")
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("checkout", [True, False])
def test_without_the_packages(
    checkout: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cwd = ROOT if checkout else tmp_path
    command = [sys.executable, "-c", WITHOUT, *GUARDED]
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    monkeypatch.chdir(cwd)
    wanted = [_extras.missing(extra, name) for name, extra in GUARDED.items()]
    wanted.append(_extras.missing("bfloat16", "bfloat16"))
    assert ran.stdout.splitlines() == list(map(str, wanted)), ran.stderr
    assert ('pip install ".[zarr]"' in ran.stdout) == checkout
    assert ('needs zarr>=3.1.3,<3.2: pip install "zarr>=3.1.3,<3.2"' in ran.stdout) != checkout


def test_every_module_that_imports_a_package_is_guarded() -> None:
    for path in (ROOT / "python").rglob("*.py"):
        text = path.read_text()
        if re.search(r"^ +raise missing\(", text, re.MULTILINE):
            continue
        needed = {name for name in imported(ast.parse(text)) if name not in ("numpy", "zeropoint")}
        assert not needed or (path.name, needed) in (
            ("_selfcheck.py", {"ml_dtypes"}),  # which goes without it
            ("_onnx_weights.py", {"onnx"}),  # imported after _onnx_graph, by the same package
            ("onnx.py", {"onnx"}),  # for types alone
        ), path


def test_no_text_takes_the_project_from_an_index() -> None:
    """Nobody has published it there: the name could be a stranger's."""
    here = ("README.md", "CONTRIBUTING.md", "docs", "examples", "python", "bench", "tests", ".ci")
    paths = [found for name in here for found in [ROOT / name, *(ROOT / name).rglob("*")]]
    advice = re.compile(r"""pip install [^\n`&]*?(?<=["' ])zeropoint\b""")
    for path in paths:
        if path.is_file() and path.suffix in (".md", ".py", ".hpp", ""):
            found = advice.findall(path.read_text())
            assert not found or path.name in ("_extras.py", "test_extras.py"), path


# ---------------------------------------------------------------------------------------------
# Examples


def imported(tree: ast.AST) -> set[str]:
    """The modules outside of the standard library that a source imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names)


def used(text: str) -> set[str]:
    """The packages that a source needs: what it imports, and what it finds without an import."""
    tree = ast.parse(text)
    found = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "distribution"
        and isinstance(node.args[0], ast.Constant)
    }
    return {normal(str(name)) for name in imported(tree) | found} - {"numpy", "zeropoint"}


def normal(requirement: str) -> str:
    """The name of the module: no version, no extra, underscores."""
    return re.split(r"[\[<>=!~]", requirement)[0].replace("-", "_").lower()


def named(commands: list[str]) -> tuple[set[str], list[set[str]]]:
    """The packages that commands install by name, and those of each extra."""
    alone, extras = set(), []
    for command in commands:
        for word in shlex.split(command.removeprefix("pip install ")):
            if word.startswith("."):
                for extra in word[2:-1].split(","):
                    extras.append(set(map(normal, _extras.EXTRAS[extra])))
            elif not word.startswith("-"):
                alone.add(normal(word))
    return alone, extras


def recipe(example: Path) -> str:
    """The how-to page that has a link to an example, or nothing."""
    pages = (page.read_text() for page in sorted(ROOT.glob("docs/how-to/*.md")))
    return next((page for page in pages if f"/examples/{example.name})" in page), "")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_what_an_example_names_is_what_it_needs(example: Path) -> None:
    text = example.read_text()
    commands = re.findall(r"^    (pip install .+)$", ast.get_docstring(ast.parse(text)) or "", re.M)
    alone, extras = named(commands)
    needed = used(text)
    assert commands
    assert needed <= alone.union(*extras)
    assert alone <= needed
    assert all(extra & needed for extra in extras)
    if page := recipe(example):
        assert re.findall(r"`(pip install [^`]+)`", page) == commands
        # and what a heading names, which its reader has
        there = set(map(normal, re.findall(r"[\w-]+", " ".join(re.findall(r"^#.*", page, re.M)))))
        for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            assert used(code) <= there.union(alone, *extras)
    # what CI runs it with
    pinned = re.findall(r"[\w-]+==[\w.]+", " ".join(commands))
    ci = (ROOT / "pyproject.toml").read_text() + (ROOT / "noxfile.py").read_text()
    assert all(pin in ci for pin in pinned)


def test_ci_has_what_the_pages_import() -> None:
    """So that no block of a page is left out there."""
    extras = PROJECT["optional-dependencies"]
    ci = (ROOT / "noxfile.py").read_text()  # as .ci/run: these for their models alone
    models = re.findall(r'"--no-deps", (.+?)\)', ci)[0].replace('"', "").split(", ")
    there = {normal(name) for name in extras["test"] + extras["parity"] + extras["demo"] + models}
    pages = [page.read_text() for page in ROOT.glob("docs/**/*.md")]
    blocks = [
        code for page in pages for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    ]
    needed = set().union(*map(used, blocks))
    assert {"faiss", "duckdb", "magika"} <= needed
    assert {"faiss_cpu" if name == "faiss" else name for name in needed} <= there


HIDE = """
import importlib.machinery, importlib.metadata, json, runpy, sys
from unittest.mock import MagicMock

path, *packages = sys.argv[1:]
del sys.argv[1:]

class Finder:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0].lower()
        if top == hidden:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
        if top in packages:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return MagicMock()

    def exec_module(self, module):
        pass

def distribution(name):
    if name.replace("-", "_").lower() == hidden:
        raise importlib.metadata.PackageNotFoundError(name)
    return MagicMock()

sys.meta_path.insert(0, Finder())
importlib.metadata.distribution = distribution
said = {}
for hidden in ["zeropoint", *packages]:
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as stop:
        said[hidden] = stop.code
    for name in list(sys.modules):
        ours = name.startswith(("zeropoint.interop", "zeropoint.xarray"))
        if ours or name.split(".")[0].lower() in packages:
            del sys.modules[name]
print(json.dumps(said))
"""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_is_missing(example: Path) -> None:
    """In one line, whichever of its packages it is; the others are stand-ins, so none is needed."""
    packages = sorted(used(example.read_text()))
    command = [sys.executable, "-c", HIDE, str(example), *packages]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(ran.stdout)
    assert list(said) == ["zeropoint", *packages]
    for hidden, line in said.items():
        name = hidden.replace("_", "[-_]")
        end = "; its first lines say what to install"
        text = rf"{example.name}: .*\b{name}\b.*{end}"
        assert re.fullmatch(text, line, re.IGNORECASE), line


def test_such_an_example_ends_with_1_and_a_line(tmp_path: Path) -> None:
    program = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-c", program, str(ROOT / "examples/torch_observers.py")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "torch_observers.py: import of torch halted; None in sys.modules; its first lines say what "
        "to install\n"
    )
