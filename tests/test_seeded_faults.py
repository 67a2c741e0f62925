"""The table of seeded faults fits the code: `nox -s faults` applies them, this keeps them alive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .deep.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_can_be_made_and_its_tests_exist(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text()
    assert text.count(fault.old) == 1, f"{fault.file} must hold {fault.old!r} once"
    for test in fault.ids:
        path, _, name = test.partition("::")
        function = re.sub(r"\[.*", "", name)
        assert f"def {function}" in (ROOT / path).read_text(), test
