"""The example of columns runs, and prints the figures that it is there for."""

from __future__ import annotations

import re

import pytest

from .test_examples_onnx_embeddings import printed

pytestmark = pytest.mark.slow("real data")


def test_columns() -> None:
    text = printed("columns.py", "wordllama", "pyarrow", "polars", "duckdb")
    assert "32,000 rows of 256, 320 of them null" in text
    sizes = [int(each.replace(",", "")) for each in re.findall(r"([\d,]+) bytes", text)]
    assert sizes[0] == 32_000 * 256 * 4
    assert sizes[2] < sizes[0] / 4
    assert sizes[2] < sizes[1] / 2  # whose floats had only 16 bits
    assert re.search(r"the same codes +True", text)
    [recall] = re.findall(r"recall.* ([\d.]+)$", text, re.MULTILINE)
    assert float(recall) > 0.98
