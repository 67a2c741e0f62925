"""The benchmark's check of its peers: whose arithmetic, and what is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench import machine, readme, report, suite
from bench.check import Arithmetic, Oracle
from bench.jobs import JOBS, Case
from bench.systems import Call, Declined
from bench.systems.torch import FORMULAS, Torch, nearest

JOB = {job.name: job for job in JOBS}


def clipped(code: Any) -> Any:
    return np.clip(code, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", FORMULAS)
def test_each_formula_is_told_from_the_others(name: str) -> None:
    assert nearest(lambda x, s, z: clipped(FORMULAS[name](x, s, z))) == (name, True)


def test_an_arithmetic_that_is_none_of_the_formulas() -> None:
    """As of a vector body with FMA and a tail without."""
    body, tail = (FORMULAS[name] for name in ("rint(fma(x, 1/s, z))", "rint(x * (1/s)) + z"))

    def mixed(x: Any, s: Any, z: Any) -> Any:
        whole = x.size // 16 * 16
        return clipped(np.concatenate([body(x[:whole], s, z), tail(x[whole:], s, z)]))

    assert nearest(mixed) == ("rint(fma(x, 1/s, z))", False)


def away(codes: Any, by: int) -> Any:
    found = codes.copy()
    found[3] = found[3] - by if found[3] > 128 else found[3] + by
    return found


@pytest.mark.parametrize(
    ("exact", "by", "wrong", "another"),
    [(True, 0, 0, 0), (False, 0, 0, 0), (True, 1, 1, 0), (False, 1, 0, 1), (False, 2, 1, 0)],
)
def test_verdict(exact: bool, by: int, wrong: int, another: int) -> None:
    case = Case(JOB["quantize"], 100)
    own = np.arange(100, dtype=np.uint8)
    arithmetic = Arithmetic("ours", lambda _: (own,), exact)
    verdict = Oracle(case).verdict(Call(lambda: away(own, by), lambda q: (q,), arithmetic))
    assert verdict[::2] == (wrong, another)
    assert verdict.differ > 90  # for it is not the data's


def test_what_the_table_says() -> None:
    row = suite.Row(
        *("quantize", 64, 1, "torch", "peer", True, "rint(x / s + z)", 0, 5, 1e-6, 3),
        *(1.0, 5.0, 1.0, None, None),
    )
    assert report.cell_table([row]).splitlines()[-1].endswith(" 5")
    another = dataclasses.replace(row, another=7)
    text = report.cell_table([another])
    assert text.splitlines()[-1].endswith("5, another arithmetic on this CPU: 7")
    assert "WRONG" not in text
    assert "another arithmetic on this CPU" in report.LEGEND
    wrong = dataclasses.replace(row, wrong=9)
    assert report.cell_table([wrong]).splitlines()[-1].endswith("WRONG: 9")


@pytest.mark.parametrize(("page", "text"), readme.PAGES.items())
def test_the_pages_show_the_committed_run(page: str, text: Callable[..., str]) -> None:
    shown = (machine.ROOT / page).read_text().split("<!-- bench:begin -->\n")[1]
    run = report.load(machine.ROOT / "bench/results/suite.json")
    assert shown.split("\n<!-- bench:end -->")[0] == text(*run)


@pytest.mark.slow("large arrays through torch")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("job", [job.name for job in JOBS])
def test_torch_is_not_wrong_on_this_cpu(job: str) -> None:
    torch = Torch()
    case = Case(JOB[job], 64 * 64)
    try:
        call = torch.prepare(case, 1)
    except Declined:
        pytest.skip("torch has no such job")
    assert Oracle(case).verdict(call).wrong == 0


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # torch warns at the first call
def test_torch_with_an_arithmetic_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What made it WRONG: quantize_per_tensor computes by another formula than on other CPUs."""
    import torch

    def elsewhere(x: Any, scale: float, zero: int, dtype: Any) -> Any:
        codes = clipped(FORMULAS["rint(x / s) + z"](x.numpy(), np.float32(scale), zero))
        return torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), scale, zero)

    monkeypatch.setattr(torch, "quantize_per_tensor", elsewhere)
    case = Case(JOB["quantize"], 64 * 64)
    x = (np.arange(case.size, dtype=np.float64) % 250 - 125 + 0.5) * np.float64(case.scale)
    monkeypatch.setitem(vars(case), "x", x.astype(np.float32))
    call = Torch().prepare(case, 1)
    assert call.arithmetic.name == "rint(x / s) + z"
    assert Oracle(case).verdict(call).wrong == 0
