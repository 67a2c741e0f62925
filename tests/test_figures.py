"""The committed figures of the docs are what docs/figures.py draws."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIGURES = runpy.run_path(str(DOCS / "figures.py"), run_name="figures")["FIGURES"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_current(name: str) -> None:
    drawn, path = str(FIGURES[name]()), DOCS / f"{name}.svg"
    assert path.read_text() == drawn, "python docs/figures.py"
    ElementTree.fromstring(drawn)
    assert "e+" not in drawn  # no number too long for %g
    pages = "".join(page.read_text() for page in DOCS.glob("*.md"))
    assert f"]({name}.svg)" in pages
