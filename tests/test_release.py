"""Metadata, wheels, workflows and releases: one source of each fact, least rights."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import zeropoint as zp

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEELS = PROJECT["tool"]["cibuildwheel"]
RELEASE = runpy.run_path(str(ROOT / "tools" / "release.py"))
LINKS = runpy.run_path(str(ROOT / "tools" / "long_description.py"))
#: the runners, and the wheels that cibuildwheel makes on each
RUNNERS = {
    "ubuntu-24.04": "manylinux and musllinux x86-64",
    "ubuntu-24.04-arm": "manylinux and musllinux aarch64",
    "macos-15": "macOS arm64",
    "macos-15-intel": "macOS x86-64",
    "windows-2025": "Windows AMD64",
    "windows-11-arm": "Windows ARM64",
}


def workflow(name: str) -> dict[Any, Any]:
    yaml = pytest.importorskip("yaml")
    if not (ROOT / ".github").exists():
        pytest.skip("an sdist has no workflows")
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


# ---- metadata -----------------------------------------------------------------------------------


def test_the_version_has_one_source() -> None:
    """CMake, the metadata and the site read it; nothing else says it."""
    assert importlib.metadata.version("zeropoint") == zp.__version__
    assert "version" in PROJECT["project"]["dynamic"]
    said = re.compile(rf"(?<![\d.]){re.escape(zp.__version__)}(?![\d.])")
    names = ["pyproject.toml", "CMakeLists.txt", "CITATION.cff", "README.md", "docs/conf.py"]
    names += [str(path.relative_to(ROOT)) for path in ROOT.glob("cpp/**/*.[chd]*")]
    assert [name for name in names if said.search((ROOT / name).read_text())] == []
    assert f"## {zp.__version__} - " in (ROOT / "CHANGELOG.md").read_text()


def test_the_addresses_have_one_source() -> None:
    """Where the placeholders stand; a release moves them."""
    urls = PROJECT["project"]["urls"]
    (host,) = {url.split("/")[2] for url in urls.values()}
    folders = (".github", "bench", "cpp", "docs", "examples", "python", "tests", "tools")
    files = [path for name in folders for path in (ROOT / name).rglob("*.*")]
    texts = (".md", ".toml", ".yml", ".cff", ".py", ".txt", ".h", ".hpp", ".cpp")
    found = [
        path.name
        for path in [*ROOT.glob("*.*"), *files]
        if path.suffix in texts and path.is_file() and host in path.read_text(encoding="utf-8")
    ]
    assert found == ["pyproject.toml"]


def test_what_an_index_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """README, whose links lead to the files of this version."""
    urls, source = PROJECT["project"]["urls"], PROJECT["project"]["urls"]["Source"]
    assert "readme" in PROJECT["project"]["dynamic"]
    monkeypatch.chdir(ROOT)
    project = {"urls": urls, "version": zp.__version__}
    readme = LINKS["dynamic_metadata"]({}, project)["readme"]
    assert readme["content-type"] == "text/markdown"
    shown = readme["text"]
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) > 10
    assert [link for link in links if "://" not in link and not link.startswith("#")] == []
    for link in links:
        if link.startswith(source):
            kind, tag, path = link.removeprefix(f"{source}/").split("/", 2)
            assert tag == f"v{zp.__version__}"
            path = path.partition("#")[0]
            assert (ROOT / path).exists()
            assert (kind == "raw") == path.endswith(".svg")


def test_links_that_lead_elsewhere_stay() -> None:
    absolute = LINKS["absolute"]
    text = "[a](docs/a.md#b) ![c](d/e.svg) [f](#g) [h](https://i.example/j) [k](mailto:l@m.example)"
    assert absolute(text, "https://n", "1.2.3") == (
        "[a](https://n/blob/v1.2.3/docs/a.md#b) ![c](https://n/raw/v1.2.3/d/e.svg) "
        "[f](#g) [h](https://i.example/j) [k](mailto:l@m.example)"
    )


# ---- the wheels ---------------------------------------------------------------------------------


def test_every_python_that_is_named_has_wheels() -> None:
    built = set(WHEELS["build"].split())
    named = re.findall(r":: (3)\.(\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert {f"cp{major}{minor}-*" for major, minor in named} <= built
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])
    assert least
    assert min(int(re.findall(r"\d+", name)[0]) for name in built) == int(f"3{least[1]}")


def test_no_wheel_without_the_core_is_published() -> None:
    """pip would take it before the sdist, which compiles."""
    for environment in (WHEELS["environment"], WHEELS["macos"]["environment"]):
        assert environment["ZEROPOINT_REQUIRE_CORE"] == "1"


def needed(path: Path, seen: set[Path]) -> set[str]:
    """The packages that a file of tests imports, and what it takes from the files beside it."""
    seen.add(path)
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                beside = path.parent / f"{name}.py"
                found |= set() if beside in seen else needed(beside, seen)
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found - sys.stdlib_module_names


def test_the_tests_of_a_wheel_need_numpy_and_pytest_alone() -> None:
    assert WHEELS["test-requires"] == ["pytest"]
    (command,) = (line for line in WHEELS["test-command"] if "pytest" in line)
    files = [Path(word.format(project=ROOT)) for word in command.split() if "{project}" in word]
    assert len(files) > 5
    for path in [ROOT / "tests" / "conftest.py", *files]:
        assert needed(path, set()) <= {"numpy", "pytest", "zeropoint"}, path.name


# ---- the workflows ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tests", "release"])
def test_each_job_has_the_least_rights(name: str) -> None:
    read = workflow(name)
    assert read["permissions"] == {}
    for key, job in read["jobs"].items():
        wanted = {"id-token": "write"} if key == "publish" else {"contents": "read"}
        assert job["permissions"] == wanted, key
        assert job["timeout-minutes"] <= 120
    for step in steps(name):
        if "actions/checkout@" in step.get("uses", ""):
            assert step["with"] == {"persist-credentials": False}
        assert "${{" not in step.get("run", ""), "what others can name must not become code"
        assert "secrets." not in str(step)


def test_actions_are_pinned_by_hash() -> None:
    workflow("release")  # or skip
    pins: dict[str, set[tuple[str, str]]] = {}
    for path in (ROOT / ".github").rglob("*.yml"):
        text = path.read_text()
        lines = re.findall(r"uses: (.*)", text)
        for line in lines:
            match = re.fullmatch(r"([\w./-]+)@([0-9a-f]{40})  # (v\d+\.\d+\.\d+)", line)
            assert match, f"{path.name}: {line}"
            pins.setdefault(match[1], set()).add((match[2], match[3]))
    assert len(pins) == 6
    assert [name for name, found in pins.items() if len(found) > 1] == []


def test_the_matrix_covers_every_platform() -> None:
    for name in ("tests", "release"):
        job = workflow(name)["jobs"]["wheels"]
        assert set(job["strategy"]["matrix"]["os"]) == set(RUNNERS)
        assert any("pypa/cibuildwheel@" in step.get("uses", "") for step in job["steps"])
    assert WHEELS["archs"] == "auto64"


def test_only_what_passed_is_published() -> None:
    jobs = workflow("release")["jobs"]
    publish = jobs["publish"]
    assert set(publish["needs"]) == set(jobs) - {"publish"}
    assert publish["if"] == jobs["check"]["if"] == "github.event_name == 'push'"
    assert publish["environment"] == "pypi"
    assert workflow("release")[True] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}
    assert "cache" not in str(jobs)
    ours, theirs = publish["steps"]
    assert ours["with"]["pattern"] == "dist-*"
    assert theirs["with"] == {"attestations": True}


# ---- what is a release --------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that a release is told by, as they will be."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    package = tmp_path / "python" / "zeropoint"
    package.mkdir(parents=True)
    for name in ("__init__.py", "_extras.py"):
        shutil.copy(ROOT / "python" / "zeropoint" / name, package / name)
    host = PROJECT["project"]["urls"]["Homepage"]
    replace(tmp_path / "pyproject.toml", f"{host}/source", "https://github.com/who/zeropoint")
    replace(tmp_path / "pyproject.toml", host, "https://github.com/who/zeropoint")
    replace(package / "_extras.py", "PUBLISHED = False", "PUBLISHED = True")
    replace(tmp_path / "CHANGELOG.md", f"{zp.__version__} - unreleased", "0.1.0 - 2027-01-02")
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new))


def test_a_release(tree: Path) -> None:
    assert RELEASE["faults"](tree, f"v{zp.__version__}", "who/zeropoint") == []


@pytest.mark.parametrize("tag", ["v0.1.1", "0.1.0", "v0.1.0rc1", "v0.1.0 "])
def test_another_tag_is_refused(tree: Path, tag: str) -> None:
    (fault,) = RELEASE["faults"](tree, tag, "who/zeropoint")
    assert fault == f"the tag is {tag}, and __version__ asks for v{zp.__version__}"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            *("pyproject.toml", 'Documentation = "https://github.com/who/zeropoint/docs"'),
            'Documentation = "https://x.example/docs"',
            "[project.urls] Documentation is still a placeholder: https://x.example/docs",
        ),
        (
            *(
                "pyproject.toml",
                'Source = "https://github.com/who/',
                'Source = "https://x.org/who/',
            ),
            "[project.urls] Source is https://x.org/who/zeropoint, and this is https://github.com",
        ),
        (
            *("python/zeropoint/_extras.py", "PUBLISHED = True", "PUBLISHED = False"),
            "_extras.PUBLISHED is not True",
        ),
        (
            *("CHANGELOG.md", "0.1.0 - 2027-01-02", "0.1.0 - unreleased"),
            "CHANGELOG.md has no heading '## 0.1.0 - YYYY-MM-DD'",
        ),
    ],
)
def test_what_is_no_release_is_refused(
    tree: Path, file: str, old: str, new: str, said: str
) -> None:
    replace(tree / file, old, new)
    (fault,) = RELEASE["faults"](tree, f"v{zp.__version__}", "who/zeropoint")
    assert fault.startswith(said)


def test_this_tree_is_no_release_yet() -> None:
    """All is said at once, and nothing is published."""
    ran = subprocess.run(
        [sys.executable, ROOT / "tools" / "release.py", "v9", "who/zeropoint"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 9
    assert all(line.startswith("not a release: ") for line in ran.stderr.splitlines())
