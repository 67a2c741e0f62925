"""The table of docs/conventions.md is what the engines say when they are probed."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

import zeropoint as zp
from bench import engines
from bench.engines import ENGINES, Engine

PAGE = (Path(__file__).resolve().parents[2] / "docs/conventions.md").read_text()
ROWS = PAGE.split("<!-- engines:begin -->\n")[1].split("\n<!-- engines:end -->")[0].splitlines()
PROBED = [engine for engine in ENGINES if engine.recipe]
MACHINE = platform.machine() in ("x86_64", "AMD64")  #: that of the page


def test_every_row_is_there() -> None:
    assert [row.split(" | ")[0] for row in ROWS[2:]] == [f"| {engine.title}" for engine in ENGINES]
    for engine, row in zip(ENGINES, ROWS[2:], strict=True):
        assert row.endswith(f"| {engine.beside} | {engine.compared} |".replace("|  |  |", "| | |"))


@pytest.mark.parametrize("dtype", engines.BOTH)
def test_the_numbers_tell_all_conventions_apart(dtype: str) -> None:
    for title, convention in itertools.product(("NumPy", "LiteRT", "faiss"), zp.CONVENTIONS):
        engine = next(each for each in PROBED if each.title.startswith(title))
        if title == "faiss":
            convention = "sentence-transformers"
        for params in engines._params(engine._replace(dtypes=(dtype,))):
            how = {"fused": None} if title == "faiss" else {}
            other = params.replace(convention=convention, **how)
            assert zp.probe(other.quantize, params).same == (convention,)


@pytest.mark.slow("imports of the engines")
@pytest.mark.parametrize("engine", PROBED, ids=lambda engine: engine.title)
def test_engine(engine: Engine, note: Callable[..., None]) -> None:
    """Its convention, on any machine; and on that of the page, all that the probe says."""
    try:
        answer = engines.ask(engine)
    except ImportError as error:
        pytest.skip(f"NOT RUN: {error}")
    name, others = answer.cells(engine.alias)
    note(f"probe of {engine.title}: {name}; other codes: {others}")
    _, title, convention, codes, *_ = ROWS[2 + ENGINES.index(engine)].split("|")
    assert title.strip() == engine.title
    assert convention.split()[0].strip(",") == f"`{answer.convention}`"
    if MACHINE:
        assert (convention.strip(), codes.strip()) == (name, others)
