"""README says what the code says: its tables come from the code, its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import zeropoint as zp

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def code_blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_conventions_table() -> None:
    table = README.split("<!-- conventions:begin -->")[1].split("<!-- conventions:end -->")[0]
    rows = []
    for name, row in zp.CONVENTIONS.items():
        aliases = f" ({', '.join(f'`{alias}`' for alias in row.aliases)})" if row.aliases else ""
        cells = f"`{name}`{aliases}", f"`{row.formula}`", row.same_bits_as, row.own_rule
        rows.append(f"| {' | '.join(cells)} |")
    assert table.strip().splitlines()[2:] == rows


def test_first_example_runs() -> None:
    code = code_blocks("python")[0]
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["q"], np.ndarray)


def test_quick_start_is_two_lines() -> None:
    section = README.split("## Quick start\n")[1]
    assert section.lstrip().startswith("```sh\n")
    assert len(code_blocks("sh", section)[0].strip().splitlines()) == 2


def test_the_articles_functions() -> None:
    x = np.array([-0.75, -0.45, 1.75], np.float32)
    section = README.split("## From the article")[1].split("\n## ")[0]
    ours = re.findall(r"\| `[^`]+` \| `(zp\.[^`]+)` \|", section)
    assert len(ours) == 5
    scope = {"zp": zp, "x": x, "qmin": 0, "qmax": 255, "params": zp.choose_params(x)}
    scope["q"] = zp.quantize(x, scope["params"])
    for expression in ours:
        eval(expression, scope)


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert "://" in target or (ROOT / target).exists(), target


def test_version_is_in_the_changelog() -> None:
    assert f"## {zp.__version__}" in (ROOT / "CHANGELOG.md").read_text()
