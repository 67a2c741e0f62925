"""The pages of docs/reference that are written from the code.

``python -m tests.test_reference_pages`` writes them anew: the command line from its own help.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from zeropoint import _cli

from .test_public_questions import between, table

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs/reference"


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
    """Text of help as Markdown on one line."""
    escaped = re.sub(r"([*|<\[])", r"\\\1", " ".join((text or "").split()))
    return re.sub(r"(?<!\S)--[\w-]+", r"`\g<0>`", escaped)


# ---------------------------------------------------------------------------------------------


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "command-line.md": ("commands", command_line),
}


def written(name: str) -> str:
    marker, make = PAGES[name]
    return between((REFERENCE / name).read_text(), marker, make())


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    assert written(name) == (REFERENCE / name).read_text()  # this module, run, writes it anew


if __name__ == "__main__":
    for page in PAGES:
        (REFERENCE / page).write_text(written(page))
