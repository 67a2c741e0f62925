"""Every public name is on a page of docs/reference/api, and its docstring says what it must."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python/zeropoint"
PAGES = ROOT / "docs/reference/api"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if not re.search(r"/_", path.relative_to(PACKAGE.parent).as_posix().replace("__init__", ""))
    and path != PACKAGE / "interop/__init__.py"  # which has no names of its own
)
#: classes whose methods another library calls, which says what goes in and out
OF_OTHERS = {"zeropoint.zarr.AffineCodec"}
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
SECTIONS = ("Parameters", "Returns", "Yields", "Raises", "Notes", "Examples")


class Symbol(NamedTuple):
    name: str  #: from ``zeropoint`` on
    value: Any  #: a function, a class or a property

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.value) or ""

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        found = inspect.signature(self.value).parameters
        return {n: p for n, p in found.items() if n not in ("self", "cls", "wrong")}


def star(parameter: inspect.Parameter) -> str:
    """The name, as a docstring has it."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    return stars.get(parameter.kind, "") + parameter.name


def imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        pytest.skip(f"NOT RUN: {error}")


def listed(module: str) -> list[tuple[str, str]]:
    """The names on the page of a module, with the modules that they come from."""
    page = (PAGES / f"{module}.md").read_text()
    blocks = re.findall(r"^:::\{symbols\} (\S+)\n([\w\n]*):::$", page, re.MULTILINE)
    return [(home, name) for home, names in blocks for name in names.split()]


@cache
def symbols(module: str) -> tuple[Symbol, ...]:
    found = []
    for home, name in listed(module):
        value = getattr(importlib.import_module(home), name)
        if callable(value):
            found.append(Symbol(f"{home}.{name}", value))
        if isinstance(value, type) and f"{home}.{name}" not in OF_OTHERS:
            found += members(f"{home}.{name}", value)
    return tuple(found)


def members(name: str, value: type) -> Iterator[Symbol]:
    """Public methods and properties that a class, or one of ours above it, defines."""
    for each in dir(value):
        home = next(base for base in value.__mro__ if each in vars(base))
        if not home.__module__.startswith("zeropoint"):
            continue
        inside = inspect.getattr_static(value, each)
        if each.startswith("_") and (each != "__call__" or not callable(inside)):
            continue
        if isinstance(inside, property):
            yield Symbol(f"{name}.{each}", inside)
        elif isinstance(inside, classmethod) or inspect.isfunction(inside):
            yield Symbol(f"{name}.{each}", getattr(value, each))


def sections(doc: str) -> dict[str, str]:
    """The text of a docstring by its headings; what comes first has none."""
    parts = SECTION.split(doc)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(doc: str) -> list[str]:
    """The names in the section of parameters."""
    lines = re.findall(r"^(\S.*)$", sections(doc).get("Parameters", ""), re.MULTILINE)
    return [name.strip() for line in lines for name in line.partition(" : ")[0].split(",")]


def cited(symbol: Symbol, seen: tuple[str, ...] = ()) -> str:
    """The docstrings of what a docstring names, from which it takes what it does not say."""
    found = []
    for name in re.findall(r"(?<!`)`([\w.]+)(?:\([^`]*\))?`(?!`)", symbol.doc):
        inside = symbol.name.split(".")
        paths = [".".join([*inside[:k], name]) for k in range(len(inside) - 1, 0, -1)]
        for path in [*paths, name]:
            value = resolved(path)
            if value is not None and path not in seen and path != symbol.name:
                other = Symbol(path, value)
                found += [other.doc, cited(other, (*seen, symbol.name, path))]
                break
    return "\n".join(found)


def resolved(path: str) -> Any:
    """The class or function of that name, if it is one."""
    first, *names = path.split(".")
    value: Any = importlib.import_module("zeropoint") if first == "zeropoint" else None
    for name in names:
        value = getattr(value, name, None)
    return value if callable(value) else None


# ---------------------------------------------------------------------------------------------


def test_every_module_has_a_page() -> None:
    assert {page.stem for page in PAGES.glob("zeropoint*.md")} == set(MODULES)
    index = (PAGES / "index.md").read_text()
    for module in MODULES:
        assert f"[{module}]({module}.md)" in index
        assert f"\n{module}\n" in index
        page = (PAGES / f"{module}.md").read_text()
        assert page.startswith(f"# {module}\n\n:::{{docstring}} {module}\n:::\n")


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_on_the_page(module: str) -> None:
    names = [name for home, name in listed(module) if home == module]
    assert sorted(names) == sorted(imported(module).__all__)


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    imported(module)
    faults = [fault for symbol in symbols(module) for fault in faults_of(symbol)]
    assert not faults, "\n".join(faults)


def faults_of(symbol: Symbol) -> Iterator[str]:
    name, value, doc = symbol.name, symbol.value, symbol.doc
    if not doc:
        yield f"{name} has no docstring"
        return
    if not re.fullmatch(r"\S.*[.:]", doc.partition("\n")[0]):
        yield f"{name}: the first line is no sentence"
    parts = sections(doc)
    if [*parts] != ["", *(each for each in SECTIONS if each in parts)]:
        yield f"{name}: sections {[*parts][1:]} are others than {SECTIONS}, or in another order"
    if isinstance(value, property) or (isinstance(value, type) and "Parameters" not in parts):
        return  # the second are results, whose fields are on the page
    known = described(doc)
    for each in known:
        if each not in ("**keywords", *map(star, symbol.parameters.values())):
            yield f"{name} has no parameter {each}"
    more = cited(symbol)
    for each, parameter in symbol.parameters.items():
        by_keywords = parameter.kind is parameter.KEYWORD_ONLY and "**keywords" in known
        here = star(parameter) in known or re.search(rf"`[^`\n]*\b{each}\b[^`\n]*`", doc)
        there = re.search(rf"^(\*?\w+, )*\*?{each}(,|$)", more, re.MULTILINE)
        if not (here or there or by_keywords):
            yield f"{name}: parameter {each} is not described"
    if symbol.parameters and "Error" not in doc and "Error" not in more:
        yield f"{name} does not say what it raises"
    told = "Returns" in parts or re.search(r"\breturns\b", doc) or "Returns\n---" in more
    if not (told or isinstance(value, type)) and returned(value) == "Any":
        yield f"{name} does not say what it returns"


def returned(value: Any) -> str:
    kind = inspect.signature(value).return_annotation
    return "" if kind is inspect.Signature.empty else str(kind)
