"""Ctrl-C in every operation, and the end of many processes.

On a machine that does nothing else: a thread that the system leaves waiting cannot come back.
"""

from __future__ import annotations

from typing import Any

import pytest

from ..test_host_process import (
    CALLS,
    ENDS,
    MOMENTS,
    N,
    end_often,
    fork_in_mid_call,
    in_a_process,
    interrupt_at_moments,
    latencies,
)

SECONDS = 0.1


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c(name: str, threads: int, capsys: Any) -> None:
    found = latencies(name, threads, 12)
    assert len(found) >= 6
    assert max(found) < SECONDS, found
    with capsys.disabled():
        print(
            f"\nCtrl-C in {name} of {N:,}, {threads} threads: {len(found)} calls, back in at most "
            f"{max(found):.3f} s"
        )


@pytest.mark.parametrize("name", MOMENTS)
def test_ctrl_c_at_any_moment(name: str) -> None:
    found = [float(seconds) for seconds in in_a_process(interrupt_at_moments, name, 8).split()]
    assert len(found) >= 3
    assert max(found) < SECONDS, found


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", ["to out", "in place"])
def test_many_forks_in_mid_call(name: str, threads: int, capsys: Any) -> None:
    forks = int(in_a_process(fork_in_mid_call, name, threads, 12))
    assert forks == 12
    with capsys.disabled():
        print(f"\nforks from a handler in mid-call, {name}, {threads} threads: {forks} answer")


@pytest.mark.parametrize("what", ENDS, ids=lambda f: f.__name__)
def test_many_processes_end_well(what: Any, capsys: Any) -> None:
    in_a_process(end_often, what.__name__, 300)
    with capsys.disabled():
        print(f"\n300 processes end well: {what.__name__}")
