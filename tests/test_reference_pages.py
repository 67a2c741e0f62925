"""The pages of docs/reference that are written from the code.

``python -m tests.test_reference_pages`` writes them anew: the command line from its own help, C and
C++ from the comments of the two headers.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from zeropoint import _cli

from .test_public_questions import between, table

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs/reference"
INCLUDE = ROOT / "cpp/include/zeropoint"
#: in prose: options and names that only code has
CODE = r"(?<![\w`:.-])(?:--[\w-]+|(?:\w+(?:::|\.))*(?:\w+::\w+|\w*_\w+)(?:\(\))?)"
BLOCKS = re.DOTALL | re.MULTILINE


# ---------------------------------------------------------------------------------------------
# The command line


def command_line() -> str:
    parser = _cli._parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    brief = {each.dest: each.help for each in commands._choices_actions}
    rows = [[f"[`{name}`](#zeropoint-{name})", prose(brief[name])] for name in commands.choices]
    text = ["", table("command", "what it does", rows=rows)]
    text += [options(parser, "Options without a command")]
    codes = re.findall(r"^  (\d+) +(.*(?:\n {7}.*)*)", parser.epilog or "", re.MULTILINE)
    text += ["**Exit codes**\n", table("code", "meaning", rows=[[n, prose(m)] for n, m in codes])]
    for name, command in commands.choices.items():
        example = (command.epilog or "").removeprefix("example:\n").strip()
        text += [f"## zeropoint {name}\n", f"{prose(command.description)}\n"]
        text += [f"`{usage(command)}`\n", options(command), f"Example: `{example}`\n"]
    return "\n".join(text)


def usage(command: argparse.ArgumentParser) -> str:
    words = [
        " ".join([*action.option_strings[:1], str(action.metavar)])
        for action in sorted(command._actions, key=lambda action: bool(action.option_strings))
        if action.required
    ]
    return " ".join([command.prog, *words, "[options]"])


def options(parser: argparse.ArgumentParser, title: str = "") -> str:
    """A table of each group of arguments."""
    text = []
    for group in parser._action_groups:
        rows = [
            [named(action), meaning(action)] for action in group._group_actions if shown(action)
        ]
        if rows:
            of = title or str(group.title).capitalize()
            head = "argument" if of.startswith("Positional") else "option"
            lead = "" if of in ("Options", "Positional arguments") else f"{of.rstrip(':')}:\n\n"
            text.append(lead + table(head, "meaning", rows=rows))
    return "\n".join(text)


def shown(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)


def named(action: argparse.Action) -> str:
    value = f" {action.metavar}" if action.metavar else ""
    names = action.option_strings or [""]
    return ", ".join(f"`{(name + value).strip()}`" for name in names).replace("|", "\\|")


def meaning(action: argparse.Action) -> str:
    *choices, last = [f"`{choice}`" for choice in action.choices or ()] or [""]
    given = f"{', '.join(choices)} or {last}" if choices else last
    return ": ".join(filter(None, [given, prose(action.help)]))


def prose(text: str | None) -> str:
    """Text of help or of a comment as Markdown on one line."""
    parts = re.split(r"(`[^`]*`)", " ".join((text or "").split()))
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(CODE, r"`\g<0>`", re.sub(r"([*|<\[])", r"\\\1", parts[i]))
    return "".join(parts)


# ---------------------------------------------------------------------------------------------
# C and C++: a heading for each part of the header, and for each comment with what it belongs to


def c_interface() -> str:
    text = (INCLUDE / "zeropoint.h").read_text()
    about, _, rest = text.partition("#ifndef")
    body = rest[rest.index("// ----") :].partition("#ifdef __cplusplus")[0]
    return reference(about, body, "//", "c")


def cpp_interface() -> str:
    text = (INCLUDE / "zeropoint.hpp").read_text()
    about, _, rest = text.partition("#pragma once")
    body = rest[rest.index("// ----") :].rpartition("}  // namespace")[0]
    body = re.sub(r"^// ---- for the templates.*?^}  // namespace detail\n", "", body, flags=BLOCKS)
    # what it takes from the core as the core has it
    body = re.sub(r"^using core::(\w+);$", lambda found: of_core(found[1]), body, flags=BLOCKS)
    own = "template <class Q>\nstruct Choice"
    body = body.replace(own, f"namespace core {{\n{of_core('Choice')}\n}}\n{own}")
    return reference(about, without_bodies(body), "///", "cpp")


def of_core(name: str) -> str:
    """The declaration of a function or a type."""
    core, table = ((INCLUDE / each).read_text() for each in ("core.hpp", "conventions.def"))
    names = ", ".join(re.findall(r"^ZEROPOINT_CONVENTION\((\w+)\)", table, re.MULTILINE))
    listed = r'\n#define ZEROPOINT_CONVENTION.*?conventions.def"\n'
    core = re.sub(listed, f" {names} ", core, flags=re.DOTALL)
    kinds = rf"(?:enum class|struct) {name}\b.*?\}};", rf"\w[^\n]* {name}\([^;]*;"
    found = re.search(rf"^(?:{'|'.join(kinds)})", core, BLOCKS)
    assert found, name
    return found[0]


def reference(about: str, body: str, mark: str, language: str) -> str:
    text = ["", *markdown(about, language)]
    for part in re.split(r"^// ---- ", body, flags=re.MULTILINE)[1:]:
        title, _, rest = part.partition("\n\n")
        title, _, more = " ".join(re.findall(r"[^/\n]+", title.rstrip("-\n "))).partition(": ")
        text += [f"## {title.strip().capitalize()}\n"]
        text += [f"{prose(more[0].upper() + more[1:])}.\n"] if more else []
        last = ""
        for comment, declared in groups(rest, mark):
            names = ", ".join(names_of(declared))
            text += [f"### {names}\n"] if names != last else []
            text += [*markdown(comment, language), fenced(language, declared)]
            last = names
    return "\n".join(text)


def groups(text: str, mark: str) -> list[tuple[str, str]]:
    """Comments that begin a line, each with the declarations after it, to the next or to a gap."""
    found: list[list[str]] = []
    depth, fresh = 0, True
    for line in text.splitlines():
        comment = depth == 0 and line.startswith(mark)
        if depth == 0 and not line:
            fresh = True
        elif fresh or (comment and found[-1][1]):
            found.append(["", ""])
            fresh = False
        if line or depth:
            found[-1][not comment] += f"{line}\n"
        depth += line.count("{") - line.count("}")
    return [(comment, declared) for comment, declared in found]


def without_bodies(text: str) -> str:
    """C++ without the bodies of functions, and without what is private."""
    text = re.sub(r"\nprivate:\n.*?(?=^};)", "", text, flags=BLOCKS)
    # outside of parentheses a body comes after their end; initialisers of a constructor go too
    head = re.compile(r"(\)(?: const)?(?: noexcept)?)(?:\s+: .*)?\s*\Z", re.DOTALL)
    out, inside, begin, i = "", 0, 0, 0
    while i < len(text):
        if text.startswith("//", i):
            end = text.index("\n", i)
            out, i = out + text[i:end], end
            continue
        letter = text[i]
        inside += (letter == "(") - (letter == ")")
        if letter == "{" and not inside and (found := head.search(out, begin)):
            out = f"{out[: found.start()]}{found[1]};"
            i = closing(text, i) + 1
        else:
            out, i = out + letter, i + 1
        if letter in ";{}" and not inside:
            begin = len(out)
    return out


def closing(text: str, begin: int) -> int:
    """Where the brace at `begin` is closed."""
    depth = 0
    for i in range(begin, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i
    raise AssertionError(f"not closed: {text[begin : begin + 80]}")


def names_of(declared: str) -> list[str]:
    """What is declared, outside of braces."""
    text = re.sub(r"//.*", "", declared)
    while "{" in text:
        begin = text.index("{")
        text = f"{text[:begin]} {text[closing(text, begin) + 1 :]}"
    found = []
    for each in text.split(";"):
        statement = re.sub(r"^\s*template <[^>]*>\s*|\n", "", each).strip()
        name = (
            re.search(r"(\w+)\(", statement)
            or re.match(r"(?:typedef )?(?:struct|class|enum class) (\w+)", statement)
            or re.match(r"using (\w+) =", statement)
            or re.search(r"^\w.*\b(\w+)$", statement)
        )
        if name and statement != "enum":
            found.append(name[1].removeprefix("zeropoint_"))
    return list(dict.fromkeys(found))


def markdown(comment: str, language: str) -> list[str]:
    """The text of a comment; what is indented in it is code."""
    lines = [re.sub(r"^/+ ?", "", line) for line in comment.strip().splitlines()]
    blocks = re.split(r"\n\n", "\n".join(lines).strip("\n"))
    return [
        fenced(language if ";" in block else "text", textwrap.dedent(block) + "\n")
        if block.startswith("    ")
        else f"{prose(block)}\n"
        for block in blocks
        if block
    ]


def fenced(language: str, code: str) -> str:
    """A block of code; between backticks test_docs.py would run it."""
    return f"~~~{language}\n{code}~~~\n"


# ---------------------------------------------------------------------------------------------


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "command-line.md": ("commands", command_line),
    "c-api.md": ("header", c_interface),
    "cpp-api.md": ("header", cpp_interface),
}


def written(name: str) -> str:
    marker, make = PAGES[name]
    return between((REFERENCE / name).read_text(), marker, make())


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    assert written(name) == (REFERENCE / name).read_text()  # this module, run, writes it anew


def test_no_name_is_lost() -> None:
    c, cpp = ((INCLUDE / name).read_text() for name in ("zeropoint.h", "zeropoint.hpp"))
    c = re.sub(r"//.*", "", c.partition("#define")[2])
    names = set(re.findall(r"\bZEROPOINT_[A-Z0-9_]+|\bzeropoint_\w+", c))
    assert names - {"ZEROPOINT_ZEROPOINT_H"} <= words("c-api.md")
    cpp = re.sub(r"^namespace detail.*?^}  // namespace detail", "", cpp, flags=BLOCKS)
    functions = set(re.findall(r"^\w[\w:<>, ]*[ >](\w+)\(", cpp, re.MULTILINE))
    types = set(re.findall(r"^(?:class|struct|enum class) (\w+)", cpp, re.MULTILINE))
    assert len(functions) > 15
    assert len(types) > 10
    assert functions | types <= words("cpp-api.md")


def words(page: str) -> set[str]:
    return set(re.findall(r"\w+", (REFERENCE / page).read_text()))


if __name__ == "__main__":
    for page in PAGES:
        (REFERENCE / page).write_text(written(page))
