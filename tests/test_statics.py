"""The tables of docs/threads.md name all that can change and outlives a call, and nothing else."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

import zeropoint as zp

from . import statics
from .test_symbols import tool

PAGE = (statics.ROOT / "docs" / "threads.md").read_text()


def documented(heading: str) -> set[str]:
    """The names in the first column of the table of a section."""
    section = re.split(r"^### ", PAGE, flags=re.M)
    [text] = [each for each in section if each.startswith(f"{heading}\n")]
    rows = re.findall(r"^\| (`.*?) \|", text, re.M)
    found = [name for row in rows for name in re.findall(r"`(.+?)`", row)]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.skipif(len(zp.backends()) == 1, reason="the compiled core is absent")
def test_the_core() -> None:
    files = statics.built()
    if not files:
        pytest.skip(
            "a wheel has no names: install with -e, or set SKBUILD_BUILD_DIR as .ci/run does"
        )
    found, known = statics.of_objects(files, tool("objdump")), documented("The core")
    patterns = {name for name in known if "*" in name}
    by_pattern = {name for name in found if any(fnmatch.fnmatch(name, p) for p in patterns)}
    assert found - by_pattern == known - patterns


def test_python() -> None:
    assert statics.of_python() == documented("The Python modules")


def test_a_static_is_found(tmp_path: Path) -> None:
    source, built = tmp_path / "one.cpp", tmp_path / "one.o"
    source.write_text("""
        #include <atomic>
        #include <string>
        namespace { int counter; std::atomic<bool> flag{true}; const int fixed = 3; }
        thread_local int mine = 1;
        constexpr const char* name = "text";
        const char* const* names() { static const char* const all[] = {name}; return all; }
        struct Kept { inline static int shared = 0; };
        const std::string& text() { static const std::string made(100, 'a'); return made; }
        int next() { return flag ? ++counter + ++mine + fixed + ++Kept::shared : 0; }
    """)
    subprocess.run([tool("g++"), "-std=c++17", "-fPIC", "-c", "-o", built, source], check=True)
    found = statics.of_objects([built], tool("objdump"))
    expected = {"counter", "flag", "mine", "Kept::shared", "text::made"}
    assert {name for name in found if not name.startswith("DW.ref.")} == expected


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = {}\ndef f(): x[0] = 1", {"x"}),
        ("x = []\ndef f():\n    def g(): x.append(1)", {"x"}),
        ("x = []\nf = lambda: x.append(1)", {"x"}),
        ("def f(x): x[0] = 1", set()),
        ("def f():\n    x = {}\n    def g(): x[0] = 1", set()),
        ("x = 0\ndef f():\n    global x\n    x = 1", {"x"}),
        ("x = [1]\ndef f():\n    x[0] += 1\n    del x[0]", {"x"}),
        ("import numpy as np\ndef f(x): return np.sort(x)", set()),
        ("from a import x\ndef f(): x.pop()", {"x"}),
        ("@functools.cache\ndef f(): ...", {"f"}),
        ("class A:\n    @cached_property\n    def f(self): ...", {"A.f"}),
        ("x = functools.lru_cache(f)", {"x"}),
        ("x = ContextVar('x')", {"x"}),
        ("x = np.zeros(3)", {"x"}),
        ("x = re.compile('a')", set()),
        ("class A:\n    def __init__(self): self.x = 1", set()),
        ("class A:\n    def f(self): self.x = 1", {"A"}),
        ("class A:\n    def f(self): self.x, y = 1, 2", {"A"}),
        ("class A:\n    def f(self): self.x.clear()", {"A"}),
        ("class A:\n    x = []\n    @classmethod\n    def f(cls): cls.x.append(1)", {"A"}),
        ("def f(x): object.__setattr__(x, 'a', 1)", {"f"}),
        ("def f(x): globals()['a'] = x", {"f"}),
        ("def f(x): x.__dict__['a'] = x", {"f"}),
        ("def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1", {"f.g"}),
    ],
)
def test_a_change_is_found(source: str, found: set[str]) -> None:
    assert statics.in_source(source) == found
