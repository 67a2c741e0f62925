"""All numbers of threads, many callers, a thousand forks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import zeropoint as zp

from ..test_host_state import found_in_a_process, in_threads
from ..test_threads import many_callers, many_forks, meet, same_bits


@pytest.fixture(autouse=True)
def automatic() -> Iterator[None]:
    yield
    zp.set_num_threads(0)


def test_same_bits_for_one_to_sixteen(native: str, capsys: Any) -> None:
    same_bits(range(2, 17))
    with capsys.disabled():
        print(f"\nthreads, {native}: the same bits for 1 to 16")


def test_many_callers(native: str, capsys: Any) -> None:
    many_callers(8, 300)
    with capsys.disabled():
        print(f"\nthreads, {native}: 8 callers, 2,400 calls: 0 differ")


def test_first_uses_at_once(capsys: Any) -> None:
    for _ in range(20):
        meet(8, 100)
    with capsys.disabled():
        print("\nthreads: 8 callers at 26,000 first uses: 0 differ")


def test_a_thousand_forks(capsys: Any) -> None:
    many_forks(1000)
    with capsys.disabled():
        print("\n1,000 forks while calls run: every child answers")


def test_every_operation_in_every_state(native: str) -> None:
    """Of the host's floating-point arithmetic, where CI takes six."""
    *wrong, calls = found_in_a_process(in_threads, native, "all").splitlines()
    assert not wrong, "\n".join(wrong)
    assert int(calls) > 2000
