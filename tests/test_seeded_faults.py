"""Every seeded fault can be made: `nox -s faults` applies them, this keeps their anchors alive."""

from __future__ import annotations

from .deep.faults import problems


def test_every_fault_can_be_made_and_its_tests_exist() -> None:
    assert not problems()
