"""What lives longer than a call and can change: read off the compiled core, and off the Python
sources.  `test_statics.py` compares it with the table of docs/threads.md."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "zeropoint"

# ---------------------------------------------------------------------------------------------
# The core


def of_objects(files: list[Path], objdump: str) -> set[str]:
    """Every variable in memory that can be written once the loader is done, by its short name."""
    command = [objdump, "--syms", "--demangle", *map(str, files)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = set()
    for line in shown.splitlines():
        # address, flags, section, size, name; a section is a symbol too
        symbol = re.match(r"[0-9a-f]+ (.{7}) (\S+)\t[0-9a-f]+ +(?:\.hidden )?(.+)$", line)
        if not symbol or "d" in symbol[1]:
            continue
        section = symbol[2]
        if section == "*COM*" or re.match(r"\.(t?bss|t?data)(?!\.rel\.ro)", section):
            found.add(short(symbol[3]))
    return found


def short(name: str) -> str:
    """Without what every name has, the arguments of functions, and that a guard is one."""
    name = re.sub(
        r"^(guard variable for|TLS init function for|TLS wrapper function for) ", "", name
    )
    name = re.sub(r"\(anonymous namespace\)::|\bzeropoint::|\bcore::|\[abi:cxx11\]", "", name)
    while (shorter := re.sub(r"\([^()]*\)|<[^<>]*>(?=::get_instance)", "", name)) != name:
        name = shorter
    return name


def built() -> list[Path]:
    """The module and the library where they were compiled, with the names of all they have."""
    given = os.environ.get("SKBUILD_BUILD_DIR")
    homes = [Path(given)] if given else [each.parent for each in ROOT.glob("build/*/_core*.so")]
    of_core = [path for home in homes for path in home.glob("_core*.so")]
    if not of_core:
        return []
    newest = max(of_core, key=lambda path: path.stat().st_mtime)
    return [newest, newest.parent / "libzeropoint.a"]


# ---------------------------------------------------------------------------------------------
# Python

#: what makes objects that cannot be changed, or no objects at all
CONSTANT = {
    *("re.compile", "np.dtype", "np.iinfo", "np.float32", "struct.Struct", "tuple", "range"),
    *("TypeVar", "ParamSpec", "MappingProxyType", "get_type_hints", "sorted"),
    *("dict", "os.environ.get", "number_from_environment"),  # a dict, as a display, is not changed
    *("Format", "Kind", "ModelFormat"),  # ours, immutable
}
CHANGES = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "fill", "insert", "pop"),
    *("popitem", "popleft", "remove", "reverse", "setdefault", "setflags", "sort", "update"),
    *("intersection_update", "difference_update", "move_to_end", "resize", "put"),
}
CACHES = {"cache", "lru_cache", "cached_property"}
#: what changes the attributes of things behind their backs
BEHIND = {"setattr", "delattr", "object.__setattr__"}


def of_python() -> set[str]:
    """`module.name` of what changes, and of the functions and classes that change things in ways
    that the language does not show: a cache, `setattr`, `globals`, an attribute of `self` that is
    set outside of `__init__`."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        module = module.removesuffix(".__init__").replace("__init__", "zeropoint")
        text = path.read_text()
        found |= {f"{module}.{name}" for name in in_source(text)}
    return found


def in_source(text: str) -> set[str]:
    tree = ast.parse(text)
    found = {name for node in tree.body for name in made(node)}
    modules = {
        (alias.asname or alias.name).split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    whole = Scope((), tree, frozenset(), frozenset(modules))
    return found | {name for scope in scopes(tree, whole) for name in changed(scope)}


def made(node: ast.stmt) -> Iterator[str]:
    """The module's names of objects that are made by calls of what may return mutable ones."""
    value = getattr(node, "value", None)
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(value, ast.Call):
        called = ast.unparse(value.func).split("[")[0]
        if called not in CONSTANT:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


class Scope(NamedTuple):
    names: tuple[str, ...]  #: of the class and the function, and what they are in
    node: ast.AST
    local: frozenset[str]  #: names that are not the module's
    modules: frozenset[str]  #: names of modules

    def inner(self, node: ast.AST) -> Scope:
        names, local = (*self.names, getattr(node, "name", "lambda")), self.local
        if not isinstance(node, ast.ClassDef):  # whose names its functions do not see
            here = [node, *own(node)]
            given = node.args  # type: ignore[attr-defined]
            arguments = {each.arg for each in ast.walk(given) if isinstance(each, ast.arg)}
            stored = {
                e.id for e in here if isinstance(e, ast.Name) and isinstance(e.ctx, ast.Store)
            }
            imported = {
                (alias.asname or alias.name).split(".")[0]
                for e in here
                if isinstance(e, (ast.Import, ast.ImportFrom))
                for alias in e.names
            }
            shared = {name for e in here if isinstance(e, ast.Global) for name in e.names}
            local |= (arguments | stored | imported) - shared
        return Scope(names, node, frozenset(local), self.modules)


NEW = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


def own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, without those of scopes in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, NEW):
            yield child
            yield from own(child)


def scopes(node: ast.AST, scope: Scope) -> Iterator[Scope]:
    """The module, and every function and class in it."""
    if isinstance(node, ast.Module):
        yield scope
    for child in ast.iter_child_nodes(node):
        inner = scope.inner(child) if isinstance(child, NEW) else scope
        if inner is not scope:
            yield inner
        yield from scopes(child, inner)


def changed(scope: Scope) -> Iterator[str]:
    name = ".".join(scope.names)
    for decorator in getattr(scope.node, "decorator_list", ()):
        if CACHES & set(re.findall(r"\w+", ast.unparse(decorator))):
            yield name
    for each in own(scope.node):
        if isinstance(each, ast.Global):
            yield from each.names
        if isinstance(each, ast.Nonlocal):
            yield name
        if isinstance(each, ast.Call) and scope.names:
            called = ast.unparse(each.func)
            if called.split(".")[-1] in CACHES or called in BEHIND:
                yield name
        for root, attribute in targets(each):
            if root in ("self", "cls"):
                if scope.names[-1] not in ("__init__", "__post_init__"):
                    yield scope.names[0]
            elif attribute == "__dict__" or root in ("globals()", "vars()"):
                yield name
            elif root.endswith(")"):
                continue  # what a call returns
            elif isinstance(each, ast.Call) and root in scope.modules:
                continue  # numpy.sort
            elif scope.names and root not in scope.local:
                yield root


def targets(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names of objects that a statement or a call of a method changes, and the attribute."""
    if isinstance(node, (ast.Assign, ast.Delete)):
        whole = list(node.targets)
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        whole = [node.target]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in CHANGES:
        whole = [node.func]
    else:
        return
    for target in whole:
        for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
            attribute = ""
            while isinstance(part, (ast.Attribute, ast.Subscript, ast.Starred)):
                attribute = getattr(part, "attr", attribute)
                part = part.value
                if isinstance(part, (ast.Name, ast.Call)):
                    yield ast.unparse(part), attribute
