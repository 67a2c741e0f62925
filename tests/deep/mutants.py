"""Mutants: small wrong edits made by rule, and which of them no test sees.

    python -m tests.deep.mutants [--list] [--only FILE[:LINE]]... [--changed REV]
                                 [--sample N] [--seed S] [--jobs N] [--work DIR]

The seeded faults (faults.py) are those that people thought of.  These are made by a generator, from
Python by its syntax tree and from C++ by its tokens: a comparison with its neighbour, an integer
one more or less, ``and`` for ``or``, ``min`` for ``max``, a sum for a difference, a condition
negated, a check that never raises.  They are numbered by file, line and rule, so that a sample is
the same again.

A mutant of Python is tried in a fork of one process that has collected the tests: its function gets
the other code, and then the tests run that ran its line before, the quick and different ones first.
One of C++, or of code that runs at import, is built into a copy of the tree, and the programs and
files of `TRIED` run.  No test that fails, and it survived: it is equivalent (a row of
`EXCLUDED`, with the reason), or the tests have a hole.
"""

from __future__ import annotations

import argparse
import ast
import collections
import concurrent.futures
import contextlib
import gc
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .faults import ROOT, Copy

PY = "python/zeropoint/"
PYTHON = [
    *(PY + name for name in ("_reference.py", "_checks.py", "_params.py", "_api.py", "_lookup.py")),
    *(PY + name for name in ("_choice.py", "_layout.py", "_conventions.py", "_clipping.py")),
    *(PY + name for name in ("observers.py", "_chunks.py")),
    *(PY + "_files/" + name for name in ("npy.py", "npz.py", "safetensors.py", "source.py")),
    *(PY + "_files/" + name for name in ("target.py", "tiles.py", "quantized.py", "work.py")),
    *(PY + "_files/" + name for name in ("folder.py", "gguf.py")),
]
CPP = [
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "cpp/src/loops").glob("*.h"))),
    *("cpp/src/" + name for name in ("scalar.h", "layout.cpp", "choose.cpp")),
    *("cpp/src/" + name for name in ("params.cpp", "core.cpp", "rescale.cpp", "zeropoint.cpp")),
    *("cpp/bindings/" + name for name in ("arrays.h", "gil.h", "parameters.h")),
    *("cpp/bindings/" + name for name in ("fast.h", "general.h")),
]

#: what runs for a mutant of C++; "!" is a program of tests/cpp
KERNELS, CHOOSE, THREADS = "!kernels --every 10", "!choose", "!threads"
STREAMED = "!ZEROPOINT_STREAM_FROM=0 kernels --every 10"
BINDINGS = ("bindings", "golden", "boundaries", "bad_input", "params", "views", "observers")
TRIED = {
    "scalar.h": (KERNELS, CHOOSE, "boundaries", "golden", "kernels", "observers"),
    "loops": (KERNELS, STREAMED, "boundaries", "golden", "observers", "kernels", "threads"),
    "layout.cpp": (KERNELS, THREADS, "!host", "boundaries", "layouts", "threads", "kernels"),
    "choose.cpp": (CHOOSE, "boundaries", "golden", "choice", "params"),
    "params.cpp": (KERNELS, "boundaries", "golden", "params", "host_state"),
    "core.cpp": (KERNELS, THREADS, "boundaries", "golden", "params", "kernels"),
    "rescale.cpp": ("cpp_package",),
    "zeropoint.cpp": ("cpp_package",),
    "gil.h": (*BINDINGS, "threads", "host_process"),
    **dict.fromkeys(("arrays.h", "parameters.h", "fast.h", "general.h"), BINDINGS),
}
#: for a mutant of Python that runs at import: by the first pattern that fits its file
AT_IMPORT = {
    "_files/": ("boundaries", "files_hostile", "files", "folders"),
    "observers|_clipping": ("boundaries", "observers"),
    "": ("boundaries", "golden", "bad_input", "details", "params"),
}
#: for one whose line none of those below runs
ELSEWHERE = ("interop_torch", "cli")
#: for all other mutants of Python: they need no engine, start no process, and are quick
COLLECTED = (
    *("article", "bad_input", "boundaries", "choice", "compare", "details", "files", "folders"),
    *("files_hostile", "golden", "lookup", "observers", "params", "chunks", "reference"),
)
ENOUGH = 20.0  # seconds of tests, by their time without a mutant, for one of Python
PATIENCE = 20.0  # seconds more than ten times its time, and a test hangs


class Excluded(NamedTuple):
    """Mutants that no test can see: those of `file` in which `pattern` is found.

    It is looked for in "function: statement [old -> new]".
    """

    file: str  #: a regular expression for its end
    pattern: str
    reason: str


EXCLUDED = [
    Excluded(r"\.py", r"^(\w+\.)?(__repr__|_seen|_?shown|listed|_told): ", "text for people"),
    Excluded(r"\.py", r"\berror = |\bcounted = |\btold = ", "the text of a message"),
    Excluded(r"_choice\.py", r"lru_cache|_by_the_core\(x, None, False", "speed alone"),
    Excluded(r"_checks\.py", r"^: _SHORT", "how much of a value a message shows"),
    Excluded(r"_chunks\.py", r"^: _SIZE|size // within|size // y\.shape", "the size of a chunk"),
    Excluded(r"_files/tiles\.py", r"^: (TILE|RESIDENT) = ", "the size of a tile"),
    Excluded(r"_files/target\.py", r"^: _TILE|^_edges: ", "the size of a tile: speed alone"),
    Excluded(r"_files/target\.py", r"^: _BLOCK = ", "the size of a block: speed alone"),
    Excluded(r"_files/target\.py", r"^: _HERE, .*\[(-|100) ->", "absolute paths need no directory"),
    Excluded(r"_files/folder\.py", r"^: (_LONGEST|_MOST) = ", "a round number, far away"),
    Excluded(r"_files/folder\.py", r"^Folder: ", "nothing assigns to it"),
    Excluded(r"observers\.py", r"^: (_CHUNK|_FEW|_ROWS) = |_CHUNK // ", "the size of a chunk"),
    Excluded(r"observers\.py", r"x\.size < _FEW", "which of two equal ways is quicker"),
    Excluded(r"_files/np[yz]\.py", r"^: (_LONGEST|_DIRECTORY) = ", "a round number, far away"),
    Excluded(r"\.py", r"strict=True.*\[True -> False\]", "the lengths are equal by construction"),
    Excluded(r"_chunks\.py", r"np\.argsort\(\[-abs", "any order of the chunks is right"),
    Excluded(r"_reference\.py", r"\[0x40 -> 65\]", "the payload of a NaN is nobody's promise"),
    Excluded(r"npy\.py", r"fortran and .*\[(> -> >=|1 -> 0|0 -> -1)\]", "both orders are the same"),
    Excluded(r"tiles\.py", r"elif unit \* inner > limit: \[> -> >=\]", "both cuts are the same"),
    Excluded(
        r"quantized\.py", r"np\.ones\(\(1,\) \* rank\).*\[1 -> 2\]", "its rank alone is looked at"
    ),
    Excluded(r"source\.py", r"what = what\[:300\]", "the length of a message"),
    Excluded(r"observers\.py", r"ends\[0\]\.shape \[0 -> 1\]", "both ends have one shape"),
    Excluded(r"observers\.py", r"^_with_zeros: .*\[0 -> -1\]", "no count is 0 there"),
    Excluded(r"choose\.cpp", r"0x1p-900", "any small number keeps the sign"),
    Excluded(r"\.cpp", r"__builtin_prefetch|\bahead\b|byte < ", "prefetching: speed alone"),
    Excluded(r"core\.cpp", r"worth_a_proof|most_proofs|non_temporal", "speed alone"),
    Excluded(r"loops/.*", r"is_long|to_line|worth_tables =", "which of two equal ways"),
    Excluded(r"loops/.*", r"constexpr size_t (line|block|spare|turn|lanes|batch)", "sizes"),
    Excluded(r"layout\.cpp", r"constexpr std::size_t (slice|chunk|narrow|wide|worth)", "sizes"),
    Excluded(r"layout\.cpp", r"sysconf|cache\b|ZEROPOINT_STREAM|strtoull", "the size of a cache"),
    Excluded(r"layout\.cpp", r"layout\.outer >= 8|worth_a_thread", "speed alone"),
    Excluded(r"layout\.cpp", r"chunks_\.size = std::max", "sizes"),
    Excluded(r"gil\.h", r"release_gil_from|between_checks|sleep_for", "when others get a turn"),
    Excluded(r"(arrays|general)\.h", r"case |_MSC_VER|sizeof\(long\)", "another platform"),
]


class Mutant(NamedTuple):
    file: str
    line: int
    start: int  #: characters of the text
    end: int
    new: str
    old: str
    where: str  #: "function: statement", one line of code
    lines: tuple[int, int]  #: of the statement, the first and the last
    reason: str  #: why no test can see it, or nothing

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.where} [{self.old} -> {self.new}]"

    def apply(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]


def mutants_of(file: str, text: str) -> list[Mutant]:
    """All mutants of a file, in the order of the text."""
    edits = _Python(text).edits if file.endswith(".py") else list(_cpp_edits(text))
    found = []
    for start, end, new, where, lines in sorted(set(edits)):
        line, old = text.count("\n", 0, start) + 1, text[start:end]
        where = re.sub(r"\s+", " ", where)
        told = f"{where} [{old} -> {new}]"
        reasons = (
            row.reason
            for row in EXCLUDED
            if re.search(row.file + "$", file) and re.search(row.pattern, told)
        )
        found.append(Mutant(file, line, start, end, new, old, where, lines, next(reasons, "")))
    return found


# ---------------------------------------------------------------------------------------------
# Python

_COMPARED = {
    ast.Lt: ("<", "<=", ">="),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_COMPUTED = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
}
_NAMES = {"min": "max", "minimum": "maximum", "any": "all", "floor": "ceil", "argmin": "argmax"}
_NAMES |= {new: old for old, new in _NAMES.items()}

Edit = tuple[int, int, str, str, tuple[int, int]]


class _Python(ast.NodeVisitor):
    def __init__(self, text: str) -> None:
        self.edits: list[Edit] = []
        self._text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._lines = text.splitlines()
        self._function: list[str] = []
        self._statement: ast.stmt | None = None
        self.visit(ast.parse(text))

    # -- places ---------------------------------------------------------------------------------

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def _start(self, node: Any) -> int:
        return self._at(node.lineno, node.col_offset)

    def _end(self, node: Any) -> int:
        return self._at(node.end_lineno, node.end_col_offset)

    def _edit(self, start: int, end: int, new: str) -> None:
        statement = self._statement
        assert statement is not None
        body = getattr(statement, "body", None)
        last = max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno
        assert last is not None
        source = "\n".join(self._lines[statement.lineno - 1 : last])
        where = f"{'.'.join(self._function)}: {source.strip()}"
        self.edits.append((start, end, new, where[:300], (statement.lineno, last)))

    def _between(self, before: Any, after: Any, symbols: tuple[str, ...]) -> None:
        """Edits of the operator between two operands."""
        start = self._end(before)
        at = start + self._text[start : self._start(after)].index(symbols[0])
        for new in symbols[1:]:
            self._edit(at, at + len(symbols[0]), new)

    # -- what has no mutants --------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)):
            return  # messages
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node
        super().visit(node)
        self._statement = outer

    def _visit_function(self, node: Any) -> None:
        self._function.append(node.name)
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        for part in [*node.decorator_list, *node.body]:  # and no annotations
            self.visit(part)
        self._function.pop()

    visit_FunctionDef = _visit_function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._function.append(node.name)
        self.generic_visit(node)
        self._function.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    # -- the rules ------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for op, before, after in zip(node.ops, operands, operands[1:], strict=False):
            self._between(before, after, _COMPARED[type(op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        symbols = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for before, after in zip(node.values, node.values[1:], strict=False):
            self._between(before, after, symbols)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in _COMPUTED:
            self._between(node.left, node.right, _COMPUTED[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._between(node.target, node.value, _COMPUTED[type(node.op)])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start, length = self._start(node), 3 if isinstance(node.op, ast.Not) else 1
        if not isinstance(node.op, ast.UAdd):
            self._edit(start, start + length, "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        edit = self._start(node), self._end(node)
        if isinstance(node.value, bool):
            self._edit(*edit, str(not node.value))
        elif isinstance(node.value, int):
            self._edit(*edit, str(node.value + 1))
            self._edit(*edit, str(node.value - 1))
        elif isinstance(node.value, float):
            self._edit(*edit, repr(node.value * 2))

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if isinstance(node.func, ast.Name):
            name = node.func.id
        if name in _NAMES:
            end = self._end(node.func)
            self._edit(end - len(name), end, _NAMES[name])
        self.generic_visit(node)

    def _visit_condition(self, node: Any) -> None:
        start, end = self._start(node.test), self._end(node.test)
        guard = isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise)
        self._edit(start, end, "False" if guard else f"not ({self._text[start:end]})")
        self.generic_visit(node)

    visit_If = _visit_condition
    visit_IfExp = _visit_condition

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None and not isinstance(bound, ast.Constant):
                self._edit(self._end(bound), self._end(bound), " + 1")
        self.generic_visit(node)


# ---------------------------------------------------------------------------------------------
# C++

_TOKENS = {
    " < ": (" <= ", " >= "),
    " <= ": (" < ", " > "),
    " > ": (" >= ", " <= "),
    " >= ": (" > ", " < "),
    " == ": (" != ",),
    " != ": (" == ",),
    " && ": (" || ",),
    " || ": (" && ",),
    " + ": (" - ",),
    " - ": (" + ",),
    " * ": (" / ",),
    " / ": (" * ",),
    " % ": (" * ",),
    " += ": (" -= ",),
    " -= ": (" += ",),
    " << ": (" >> ",),
    " >> ": (" << ",),
    " & ": (" | ",),
    " | ": (" & ",),
    "std::min": ("std::max",),
    "std::max": ("std::min",),
    "true": ("false",),
    "false": ("true",),
    "!": ("",),
}
_UNSEEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_TOKEN = re.compile(
    r"(?P<symbol>std::min\b|std::max\b|\btrue\b|\bfalse\b|!(?=[\w(])"
    r"| (?:<=|>=|==|!=|&&|\|\||\+=|-=|<<|>>|[-+*/%<>&|]) )"
    r"|(?<![\w.])(?P<integer>0[xX][0-9A-Fa-f]+|[0-9]+)(?P<suffix>[uUlL]*)(?![\w.])"
    r"|(?<=p)(?P<exponent>[-+]?[0-9]+)(?=f?\b)"
)
_FUNCTION = re.compile(r"\b(?:static_assert|static_cast<Op>|using|template)\b|text << ")


def _cpp_edits(text: str) -> Iterator[Edit]:
    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found[0])

    code = _DIRECTIVE.sub(blank, _UNSEEN.sub(blank, text))
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    for token in _TOKEN.finditer(code):
        number = code.count("\n", 0, token.start()) + 1
        line = text[starts[number - 1] :].partition("\n")[0].strip()
        if _FUNCTION.search(line):
            continue
        if token["symbol"]:
            news = _TOKENS[token["symbol"]]
            span = token.span("symbol")
        elif token["integer"]:
            value = int(token["integer"], 0)
            as_text = hex if token["integer"][:2].lower() == "0x" else str
            news = tuple(as_text(n) for n in (value + 1, value - 1) if n >= 0)
            span = token.span("integer")
        else:
            span = token.span("exponent")
            news = tuple(f"{int(token['exponent']) + by:+d}" for by in (1, -1))
        for new in news:
            yield (*span, new, f": {line}", (number, number))


# ---------------------------------------------------------------------------------------------
# Python's mutants: one process that has collected the tests, and forks of it


class Forks:
    """The process: a plugin of pytest in whose place of the loop over tests requests are answered.

    A request names tests, and perhaps a file and its text.  The answers are lines: the number of
    the process that runs the tests, each test as it starts, what came of it, and "ended".
    """

    def __init__(self, requests: Any, replies: int) -> None:
        self._requests, self._replies = requests, replies

    def _reply(self, *told: Any) -> None:
        os.write(self._replies, json.dumps(told).encode() + b"\n")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        self._reply("collected", list(items))
        everything = gc.get_objects()
        self._functions = [f for f in everything if isinstance(f, types.FunctionType)]
        del everything
        gc.freeze()
        for line in self._requests:
            request = json.loads(line)
            child = os.fork()
            if child == 0:
                os.setsid()
                self._reply("process", os.getpid())
                with contextlib.suppress(BaseException):
                    self._answer(request, [items[name] for name in request["tests"]])
                os._exit(0)
            self._reply("ended", os.waitpid(child, 0)[1])
        return True

    def _answer(self, request: dict[str, Any], items: list[pytest.Item]) -> None:
        sys.dont_write_bytecode = True
        if "file" in request and not self._swap(Path(request["file"]), request["text"]):
            self._reply("at import")
            return
        trace = _Trace(request["trace"]) if "trace" in request else None
        for item, following in zip(items, [*items[1:], None], strict=True):
            self._reply("test", item.nodeid)
            start = time.perf_counter()
            if trace:
                trace.start()
            failed = any(report.failed for report in _run_item(item, following))
            if trace:  # what fails anyway catches nothing
                lines = trace.end()
                seconds = time.perf_counter() - start
                self._reply("traced", item.nodeid, seconds, {} if failed else lines)
            elif failed:
                self._reply("failed", item.nodeid)
                return
        self._reply("passed")

    def _swap(self, path: Path, text: str) -> bool:
        """Give the functions of a module the code of another text; False where code at import
        differs, or where no function has the code."""
        old, new = (compile(each, str(path), "exec") for each in (path.read_text(), text))
        pairs = _differing(old, new)
        mine = [f for f in self._functions if f.__code__.co_filename == str(path)]
        for before, after in pairs:
            found = [f for f in mine if f.__code__ == before]
            for function in found:
                function.__code__ = after
            if not found:
                return False
        return bool(pairs)


def _run_item(item: pytest.Item, following: pytest.Item | None) -> list[pytest.TestReport]:
    from _pytest.runner import runtestprotocol

    return runtestprotocol(item, log=False, nextitem=following)


class _Trace:
    """Which lines of some files run between `start` and `end`."""

    def __init__(self, files: list[str]) -> None:
        self._lines: dict[str, set[int]] = {file: set() for file in files}

    def start(self) -> None:
        threading.settrace(self._called)
        sys.settrace(self._called)

    def _called(self, frame: types.FrameType, event: str, argument: object) -> Any:
        lines = self._lines.get(frame.f_code.co_filename)
        if lines is None:
            return None
        add = lines.add

        def local(frame: types.FrameType, event: str, argument: object) -> Any:
            add(frame.f_lineno)
            return local

        return local

    def end(self) -> dict[str, list[int]]:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        found = {file: sorted(lines) for file, lines in self._lines.items() if lines}
        for lines in self._lines.values():
            lines.clear()
        return found


def _differing(old: types.CodeType, new: types.CodeType) -> list[tuple[Any, Any]]:
    """Pairs of functions' code that differ; none if anything else differs."""
    if old.co_flags & 2:  # CO_NEWLOCALS: a function
        return [] if old == new else [(old, new)]
    nested = [[c for c in code.co_consts if isinstance(c, types.CodeType)] for code in (old, new)]
    plain = [
        (code.co_code, [c for c in code.co_consts if not isinstance(c, types.CodeType)])
        for code in (old, new)
    ]
    if len(nested[0]) != len(nested[1]) or repr(plain[0]) != repr(plain[1]):
        return []
    pairs = zip(*nested, strict=True)
    return [pair for before, after in pairs for pair in _differing(before, after)]


def serve(replies: int) -> None:
    """What runs in the copy."""
    requests = os.fdopen(os.dup(0))
    log = os.open("mutants.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.set_inheritable(replies, False)
    files = [f"tests/test_{name}.py" for name in COLLECTED]
    options = ["-q", "-s", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-W", "ignore"]
    pytest.main([*options, *files], plugins=[Forks(requests, replies)])


class Server:
    """`Forks` in a copy, from here."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        reading, writing = os.pipe()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOINT_")}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"}
        code = f"from tests.deep.mutants import serve; serve({writing})"
        self._job = subprocess.Popen(
            [copy.python, "-c", code],
            cwd=copy.tree,
            env=environment,
            stdin=subprocess.PIPE,
            pass_fds=[writing],
            text=True,
        )
        os.close(writing)
        self._replies, self._buffer = reading, b""
        self._tests = set(self._next(600)[1])
        self._seconds: dict[str, float] = {}
        self._ran: dict[tuple[str, int], list[str]] = collections.defaultdict(list)

    def _next(self, seconds: float) -> list[Any]:
        while b"\n" not in self._buffer:
            if not select.select([self._replies], [], [], seconds)[0]:
                raise TimeoutError
            data = os.read(self._replies, 1 << 16)
            if not data:
                sys.exit(f"the tests of the copy end: see {self._copy.tree}/mutants.log")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)  # type: ignore[no-any-return]

    def _ask(self, **request: Any) -> Iterator[list[Any]]:
        """The answers; one more, "hangs", if a test takes too long."""
        assert self._job.stdin is not None
        self._job.stdin.write(json.dumps(request) + "\n")
        self._job.stdin.flush()
        process, seconds = 0, 120.0
        while True:
            try:
                answer = self._next(seconds)
            except TimeoutError:
                os.killpg(process, signal.SIGKILL)
                yield ["hangs"]
                continue
            if answer[0] == "process":
                process = answer[1]
                continue
            if answer[0] == "test":
                seconds = 10 * self._seconds.get(answer[1], 20.0) + PATIENCE
            yield answer
            if answer[0] == "ended":
                with contextlib.suppress(ProcessLookupError):  # what a test has left behind
                    os.killpg(process, signal.SIGKILL)
                return

    def trace(self, kept: Path) -> None:
        """Learn which test runs which line: what an earlier run kept, and from the tests since."""
        known = (
            [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
        )
        missing = sorted(set(self._tests) - {name for name, _, _ in known})
        files = {str(self._copy.tree / file): file for file in PYTHON}
        with open(kept, "a") as file:
            for kind, *told in self._ask(trace=list(files), tests=missing):
                if kind == "traced":
                    name, seconds, lines = told
                    known.append([name, seconds, {files[f]: ran for f, ran in lines.items()}])
                    file.write(json.dumps(known[-1]) + "\n")
                    if len(known) % 500 == 0:
                        print(f"{len(known)} of {len(self._tests)} tests traced", flush=True)
        for name, seconds, ran in known:
            self._seconds[name] = seconds
            if name in self._tests:
                for file_name, lines in ran.items():
                    for line in lines:
                        self._ran[file_name, line].append(name)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Those that run its statement: of each function and backend the quickest one, then all
        others, the quick ones first."""
        first, last = mutant.lines
        names = {name for line in range(first, last + 1) for name in self._ran[mutant.file, line]}
        seen, ranked, total = set(), [], 0.0
        for seconds, name in sorted((self._seconds[name], name) for name in names):
            function, _, parameters = name.partition("[")
            backend = re.search("reference|baseline|avx2|avx512", parameters)
            kind = function + (backend[0] if backend else "")
            total += seconds
            if total < ENOUGH or not ranked:
                ranked.append((kind in seen, seconds, name))
            seen.add(kind)
        return [name for _, _, name in sorted(ranked)]

    def attempt(self, mutant: Mutant, text: str, tests: list[str]) -> str | None:
        """What sees it: a test, or how the process ended; "at import", or None for nothing."""
        path = self._copy.tree / mutant.file
        result = None
        for kind, *told in self._ask(file=str(path), text=text, tests=tests):
            if kind == "failed":
                result = told[0]
            elif kind == "hangs":
                result = "none: a test hangs"
            elif kind == "at import":
                result = kind
            elif kind == "ended" and told[0] and result is None:
                result = "none: the interpreter dies"
        return result

    def close(self) -> None:
        assert self._job.stdin is not None
        self._job.stdin.close()
        self._job.wait()


# ---------------------------------------------------------------------------------------------


class Worker:
    """A copy of the tree in which mutants are tried, one after the other."""

    def __init__(self, work: Path, python: bool) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._copy = Copy(work, "tests/cpp", ("_core", "zeropoint_tests"))
        self._server = None
        if python:
            self._server = Server(self._copy)
            texts = "".join((ROOT / file).read_text() for file in PYTHON)
            self._server.trace(work / f"lines-{zlib.crc32(texts.encode()):08x}.jsonl")

    def attempt(self, mutant: Mutant, at_once: bool) -> str | None:
        """What sees a mutant, None for nothing; "later" where a fork cannot say, if `at_once`."""
        with self._copy.restored(mutant.file) as path:
            text = mutant.apply(path.read_text())
            if mutant.file.endswith(".py"):
                assert self._server is not None
                tests = self._server.tests_of(mutant)
                seen = self._server.attempt(mutant, text, tests)
                at_import = seen == "at import"
                if not at_import and (seen or tests):
                    return seen
                if at_once:
                    return "later"
                path.write_text(text)
                fitting = (t for part, t in AT_IMPORT.items() if re.search(part, mutant.file))
                return self._run(next(fitting) if at_import else ELSEWHERE)
            path.write_text(text)
            try:
                self._copy.build()
            except SystemExit:
                return "none: the compiler refuses it"
            path = Path(mutant.file)
            return self._run(TRIED.get(path.name) or TRIED[path.parent.name])

    def _run(self, names: tuple[str, ...]) -> str | None:
        for name in names:
            if name.startswith("!"):
                seen = self._program(name[1:])
            else:
                seen = self._copy.tests([f"tests/test_{name}.py"], 240)
            if seen:
                return seen
        return None

    def _program(self, arguments: str) -> str | None:
        words = arguments.split()
        variables = [word for word in words if "=" in word]
        program = str(self._copy.built / "zeropoint_tests")
        command = ["env", *variables, program, *(word for word in words if "=" not in word)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=30)
        except subprocess.TimeoutExpired:
            return f"none: zeropoint_tests {arguments} hangs"
        return f"zeropoint_tests {arguments}" if done.returncode else None

    def close(self) -> None:
        """The copy as it was before all mutants, built."""
        if self._server:
            self._server.close()
        self._copy.build()


def changed_lines(revision: str) -> set[tuple[str, int]]:
    """Lines of the tree that differ from a revision."""
    command = ["git", "diff", "-U0", "--no-color", revision, "--", *PYTHON, *CPP]
    diff = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    found, file = set(), ""
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            file = line[len("+++ b/") :]
        elif hunk := re.match(r"@@ .* \+(\d+)(?:,(\d+))? @@", line):
            first = int(hunk[1])
            found |= {(file, n) for n in range(first, first + int(hunk[2] or 1))}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutants, and which of them no test sees.")
    parser.add_argument("--list", action="store_true", help="print the mutants and end")
    parser.add_argument(
        "--only", metavar="FILE[:LINE]", action="append", help="a part of its path, a line"
    )
    parser.add_argument("--changed", metavar="REV", help="of lines that changed since then")
    parser.add_argument("--sample", metavar="N", type=int, help="so many of them, by chance")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="for --sample")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="so many at once")
    parser.add_argument("--work", metavar="DIR", type=Path, help="keep the copies there")
    options = parser.parse_args()

    mutants = [m for file in PYTHON + CPP for m in mutants_of(file, (ROOT / file).read_text())]
    if options.only:
        wanted = [each.partition(":") for each in options.only]
        mutants = [
            m
            for m in mutants
            if any(part in m.file and line in ("", str(m.line)) for part, _, line in wanted)
        ]
    if options.changed:
        lines = changed_lines(options.changed)
        mutants = [m for m in mutants if (m.file, m.line) in lines]
    excluded = sum(bool(m.reason) for m in mutants)
    mutants = [m for m in mutants if not m.reason]
    print(f"{len(mutants)} mutants, {excluded} more excluded", flush=True)
    if options.sample and options.sample < len(mutants):
        mutants = random.Random(options.seed).sample(mutants, options.sample)
    if options.list:
        print(*mutants, sep="\n")
        return 0
    if not mutants:
        parser.error("there is no such mutant")
    with contextlib.ExitStack() as stack:
        work = options.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))
        return _try(mutants, Path(work).resolve(), options.jobs)


def _try(mutants: list[Mutant], work: Path, jobs: int) -> int:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def judged(worker: Worker, mutant: Mutant, at_once: bool) -> bool:
        start = time.monotonic()
        seen = worker.attempt(mutant, at_once)
        if seen == "later":
            return False
        hangs = seen is not None and seen.startswith("none: ") and "hang" in seen
        kind = "hangs" if hangs else "killed" if seen else "SURVIVED"
        counts[mutant.file][kind] += 1
        seconds = f"({time.monotonic() - start:.1f} s)"
        print(f"{kind} {mutant}: {seen or 'nothing'} {seconds}", flush=True)
        return True

    def one_job(number: int) -> None:
        own = sorted(mutants[number::jobs])
        worker = Worker(work / str(number), any(m.file.endswith(".py") for m in own))
        later = [mutant for mutant in own if not judged(worker, mutant, at_once=True)]
        for mutant in later:
            judged(worker, mutant, at_once=False)
        worker.close()

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(one_job, number) for number in range(jobs)]:
            done.result()
    print(f"\n{'file':36} {'tried':>6} {'killed':>7} {'hang':>5} {'survived':>9}")
    total: collections.Counter[str] = sum(counts.values(), collections.Counter())
    for file, found in [*sorted(counts.items()), ("all", total)]:
        print(
            f"{file:36} {found.total():6} {found['killed']:7} {found['hangs']:5} "
            f"{found['SURVIVED']:9}"
        )
    return bool(total["SURVIVED"])


if __name__ == "__main__":
    sys.exit(main())
