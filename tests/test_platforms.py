"""docs/platforms.md: each command in its table is one that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "docs" / "platforms.md").read_text()


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def modes(path: str) -> set[str]:
    """The keys of its dict MODES."""
    text = (ROOT / path).read_text()
    return set(re.findall(r'^    "(.+)": \w+,$', text[text.index("\nMODES: ") :], re.M))


def test_commands_of_the_table_exist() -> None:
    commands = re.findall(r"`nox -s (\w+)(?: -- ([\w-]+))?[^`]*`", TABLE)
    assert len(commands) >= 10
    known = {
        "checks": modes("tests/cpp/check.py"),
        "platforms": modes("tests/cpp/platforms.py"),
    }
    for session, mode in commands:
        assert session in functions("noxfile.py")
        if mode:
            assert mode in known[session]
    assert {mode for session, mode in commands if session == "platforms"} == known["platforms"]


def test_no_session_runs_a_mode_that_there_is_not() -> None:
    text = (ROOT / "noxfile.py").read_text()
    session = text[text.index("def platforms(") :]
    named = re.findall(r'"([\w-]+)"', session[session.index("modes = ") :].splitlines()[0])
    assert set(named) == modes("tests/cpp/platforms.py")


def test_rows_say_how_much_was_shown() -> None:
    rows = [row.split("|")[1:-1] for row in TABLE.splitlines() if row.startswith("| ")]
    words = r"(tested natively|tested under emulation|compiled|refused|unproved|what .threads)"
    for platform, seen, how, count, date in rows[1:]:
        assert re.search(words, seen), platform
        if "**tested" in seen:
            assert all(cell.strip() for cell in (how, count, date)), platform
