"""The benchmark's check of its peers: whose arithmetic, and what is wrong."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from bench import (
    against,
    checkpoints,
    cli,
    compare,
    embeddings,
    groups,
    latency,
    loads,
    machine,
    page,
    recall,
    report,
    speed,
    suite,
    targets,
    timing,
)
from bench.check import Arithmetic, Oracle
from bench.files import content, folder
from bench.jobs import JOBS, Case, Job
from bench.systems import SYSTEMS, Call, Declined
from bench.systems.numpy import NumPyByHand, NumPyWithOut
from bench.systems.ours import Best, BestFresh
from bench.systems.torch import FORMULAS, Torch, nearest
from zeropoint import files

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


ROW = suite.Row(
    *("quantize", 64, 1, "torch", "peer", True, "rint(x / s + z)", 0, 5, 1e-6, 3),
    *(1.0, 5.0, 1.0, None, None),
)


def test_a_run_is_written_and_read(tmp_path: pathlib.Path) -> None:
    path, row = tmp_path / "run.json", dataclasses.replace(ROW, seconds=1.23456789e-6)
    report.save(path, {**HEAD, "command": "x"}, "rows", [dataclasses.asdict(row)])
    head, rows = report.load(path)
    assert (head["command"], rows) == ("x", [dataclasses.replace(ROW, seconds=1.23457e-6)])
    report.save(path, {}, "targets", [{"name": "a target"}])
    with pytest.raises(ValueError, match="is not a run of this suite"):
        report.load(path)


def test_what_the_table_says() -> None:
    row = ROW
    assert report.cell_table([row]).splitlines()[-1].endswith(" 5")
    another = dataclasses.replace(row, another=7)
    text = report.cell_table([another])
    assert text.splitlines()[-1].endswith("5, another arithmetic on this CPU: 7")
    assert "WRONG" not in text
    assert "another arithmetic on this CPU" in report.LEGEND
    wrong = dataclasses.replace(row, wrong=9)
    assert report.cell_table([wrong]).splitlines()[-1].endswith("WRONG: 9")


@pytest.mark.parametrize(("where", "text"), speed.PARTS.items())
def test_the_pages_show_the_committed_run(where: Any, text: Callable[..., str]) -> None:
    page, what = where
    shown = (machine.ROOT / page).read_text("utf-8").split(f"<!-- {what}:begin -->\n")[1]
    run = report.load(machine.ROOT / "bench/results/suite.json")
    assert shown.split(f"\n<!-- {what}:end -->")[0] == text(*run)


def test_links_of_the_answers_lead_to_the_headings_of_the_cells() -> None:
    page = (machine.ROOT / "docs/speed.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^### (.+)$", page, re.MULTILINE)
    }
    found = re.findall(r"^\| \[.+?\]\(#(.+?)\)", page, re.MULTILINE)
    assert len(found) > 5
    assert set(found) <= anchors


def of_one_run(job: str, system: str, seconds: float, size: int, **changes: Any) -> suite.Row:
    changes = {"role": "ours" if system == "zeropoint" else "peer"} | changes
    speed = size / seconds / 1e9
    return dataclasses.replace(
        ROW, job=job, system=system, seconds=seconds, size=size, gelem_per_s=speed, **changes
    )


def test_each_job_is_in_one_group_and_the_groups_hold_all() -> None:
    assert sorted(job.name for group in groups.GROUPS for job in group.jobs) == sorted(JOB)
    assert len({group.name for group in groups.GROUPS}) == len(groups.GROUPS)
    where = {job.name: group.name for group in groups.GROUPS for job in group.jobs}
    for job, group in {
        "quantize_onnx": "quantize",
        "dequantize_float16": "half",
        "dynamic_rows": "dynamic",
        "block32_axis0": "channels",
        "embeddings_rows": "embeddings",
        "quantize_faiss_384": "embeddings",
        "image_lookup": "codes",
        "crop": "layouts",
        "cf_back": "arrays",
        "weights_groups": "files",
        "files_q8_0": "files",
        "compare": "ranges",
        "round": "calls",
        "quantize_busy": "loaded",
    }.items():
        assert where[job] == group, job
    assert groups.group_of(ROW) is groups.CALLS  # 64 elements, whatever the job
    other = dataclasses.replace(ROW, job="of another version", size=2**20)
    assert groups.group_of(other) is groups.OTHER


def test_a_group_in_one_line() -> None:
    rows = [
        of_one_run("quantize", "zeropoint", 1e-6, 2**16, vs_numpy=4.0, vs_fastest_peer=0.5),
        of_one_run("quantize", "zeropoint", 1e-6, 2**20, vs_numpy=16.0, vs_fastest_peer=None),
        of_one_run("quantize", "zeropoint", 1e-6, 2**10, threads=2, vs_numpy=1.0),
        of_one_run("quantize", "numpy", 1e-6, 2**16, vs_numpy=1.0),
        of_one_run("quantize", "zeropoint-avx2", 1e-6, 2**16, vs_fastest_peer=0.25),
        of_one_run("quantize", "zeropoint", 1e-6, 1, vs_numpy=1.0),  # not the one shown
        of_one_run("quantize", "zeropoint-fresh", 1e-6, 1, vs_numpy=2.0, vs_fastest_peer=3.0),
        # xarray makes new results, and so do we beside it
        of_one_run("cf", "zeropoint", 1e-6, 2**20, vs_fastest_peer=9.0),
        of_one_run("cf", "zeropoint-fresh", 1e-6, 2**20, vs_fastest_peer=8.0),
    ]
    found = groups.answers(rows)
    assert [(each.group.name, each.cells, str(each.numpy), str(each.peer)) for each in found] == [
        ("quantize", 2, "8.00 x (4.00 to 16.0)", "0.50 x"),
        ("arrays", 1, "", "8.00 x"),
        ("calls", 1, "2.00 x", "3.00 x"),
    ]
    assert [str(each.peer) for each in groups.answers(rows, isa="avx2")] == ["0.25 x"]
    assert [each.cells for each in groups.answers(rows, 2)] == [1]
    assert groups.answers_text(rows).splitlines()[2].split()[:4] == ["Quantize", "2", "8.00", "x"]


def test_the_table_of_a_group() -> None:
    ours = {"of_bare_loop": 0.8, "vs_fastest_peer": 7.0, "of_plain": 0.5}
    rows = [
        of_one_run("lookup", "zeropoint", 4e-6, 2**16, **ours),
        of_one_run("lookup", "opencv", 28e-6, 2**16, vs_fastest_peer=1.0),
        of_one_run("lookup", "zeropoint-avx2", 8e-6, 2**16, vs_fastest_peer=3.5),
        of_one_run("lookup", "zeropoint", 2e-6, 2**16, threads=2, vs_fastest_peer=None),
    ]
    titles, lines = groups.table(groups.CODES, rows)
    assert dict(zip(titles, lines[0], strict=True)) == {
        "work": "`lookup`: uint8 -> tanh -> uint8",
        "elements": "64 Ki",
        "time, 1 thread": "4 us",
        "Gelem/s": "16",
        "as the fastest other, 1 thread": "7.00 x opencv",
        "as the fastest other, AVX2 alone": "3.50 x",
        "part of plain speed": "50%",
        "time of a copy": "1.25 x",
        "time, 2 threads": "2 us",
    }
    files = [of_one_run("files_W8A8", system, t, 2**26) for system, t in (("zeropoint", 1.25),)]
    files.append(of_one_run("files_W8A8", "file-copy", 1.0, 2**26, role="yardstick"))
    titles, lines = groups.table(groups.FILES_, files)
    assert lines[0][titles.index("time of a copy")] == "1.25 x"
    small = [of_one_run("quantize", "zeropoint-fresh", 2e-7, 1, role="ours")]
    small.append(of_one_run("quantize", "np.rint", 4e-7, 1, role="yardstick"))
    assert groups.table(groups.CALLS, small) == (
        [
            "work",
            "elements",
            "time, 1 thread",
            "calls of np.rint",
            "as the fastest other, 1 thread",
        ],
        [["`quantize`: float32 -> uint8", "1", "200 ns", "0.5", "1.00 x"]],
    )


def test_numbers_of_real_offsets_are_the_rules_of_the_range() -> None:
    """What peers get are the numbers that choose_params would find."""
    for job in JOBS:
        if job.has_offset:
            case = small(job)
            low, high = (np.asarray(end) for end in case.ends)
            ends = np.stack([low, high])
            how = {} if job.axis is None else {"axis": 1}
            how |= {"convention": job.convention, "nan_code": case.nan_code}
            chosen = zp.choose_params(ends, job.codes, **how)
            params = case.params(job.convention)
            assert params == chosen.replace(fused=params.fused)  # the ends are a matrix of two rows
            scale = case.numbers[0]
            kept = params.span if job.convention == "faiss" else params.scale
            np.testing.assert_array_equal(scale, kept)
            np.testing.assert_array_equal(case.numbers[1], params.offset)


def test_missing_values_are_there_and_have_a_code() -> None:
    for job in JOBS:
        case = small(job)
        assert (case.nan_code is None) == (not job.missing)
        if job.missing:
            assert 0 < np.isnan(case.x).mean() < 1 / 32
            qmin, qmax = case.code_range
            assert case.nan_code is not None
            assert not qmin <= case.nan_code <= qmax
        if job.missing and job.convention == "cf":
            x, code = case.x, zp.quantize(case.x, case.params("cf"))
            np.testing.assert_array_equal(np.isnan(x), code == case.nan_code)


def test_the_data_of_cf_are_within_the_range() -> None:
    """Beyond it xarray's codes wrap."""
    case = Case(dataclasses.replace(JOB["cf"], shape=None), 2**20)
    low, high = case.ends
    assert low < np.nanmin(case.x)
    assert np.nanmax(case.x) < high


def test_a_system_declines_conventions_that_it_does_not_follow() -> None:
    for kind, job, why in (
        (NumPyWithOut, "quantize_cf", "does not follow the cf convention"),
        (NumPyWithOut, "quantize_missing", "knows no missing values"),
        (NumPyByHand, "dequantize_faiss", "NumPy has no fused multiply-add"),
        (NumPyByHand, "quantize_onnx", "does not follow the onnx convention"),
    ):
        with pytest.raises(Declined, match=why):
            kind().prepare(small(JOB[job]), 1)


def small(job: Job) -> Case:
    """The job on few elements, in its own number of dimensions."""
    if job.shape is not None:
        smaller = {n: min(n, 128 if n == job.shape[job.axis or -1] else 8) for n in job.shape}
        job = dataclasses.replace(job, shape=tuple(smaller[n] for n in job.shape))
    return Case(job, math.prod(job.shape or (64 * 64,)))


@pytest.mark.slow("every job through each of the systems")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # torch warns at the first call
@pytest.mark.parametrize("kind", SYSTEMS, ids=lambda kind: kind.name)
def test_nobody_is_wrong(kind: Any) -> None:
    """What is wrong would not count as a peer, and nobody would miss it."""
    try:
        system = kind()
    except ImportError as error:
        pytest.skip(str(error))
    if system.role == "yardstick":
        pytest.skip("a yardstick gives no result")
    done = 0
    for job in JOBS:
        case = small(job)
        if case.why_not():
            continue
        entry = suite.Entrance(case).enter(system, 1)
        if isinstance(entry, suite.Entry):
            assert entry.verdict.wrong == 0, job.name
            done += 1
    assert done > 1


@pytest.mark.parametrize("kind", [Best, BestFresh])
def test_each_job_has_a_title_a_plain_one_and_its_traffic(kind: type[Best]) -> None:
    assert len(JOB) == len(JOBS)
    for job in JOBS:
        case = small(job)
        assert job.title
        assert job.bytes_per_element >= 0
        assert (case.plain().job.axis, case.plain().job.view, case.plain().size) == (
            *(None, ""),
            case.size,
        )
        with contextlib.suppress(Declined):
            if case.why_not() is None:
                kind().prepare(case, 1).run()


def test_the_data_lie_in_memory_as_a_job_says() -> None:
    images = small(JOB["nhwc3"])
    assert images.x.transpose(0, 3, 1, 2).flags.c_contiguous
    assert images.out.strides == tuple(stride // 4 for stride in images.x.strides)
    assert small(JOB["every_other"]).x.strides[-1] == 8
    assert not small(JOB["crop"]).x.flags.c_contiguous
    assert not small(JOB["big_endian"]).x.dtype.isnative
    assert isinstance(small(JOB["a_list"]).x, list)


@pytest.mark.parametrize("name", ["files_W8A8", "files_q8_0"])
def test_files_are_made_copied_and_cleared(name: str) -> None:
    made = small(JOB[name]).files
    folder = made.floats.parent
    before = content(made.floats)
    made.copy()
    (target,) = (path for path in folder.iterdir() if path != made.floats)
    if made.floats.is_dir():  # of a .gguf file the version of the quantization is written
        np.testing.assert_array_equal(content(target), before)
    assert sum(path.stat().st_size for path in files_of(target)) >= small(JOB[name]).x.nbytes
    made.clear()
    assert list(folder.iterdir()) == [made.floats]
    made.clear()
    del made
    assert not folder.exists()


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def test_a_folder_in_shards_is_read(tmp_path: pathlib.Path) -> None:
    x = {f"{i}.weight": np.full((4, 32), i, np.float32) for i in range(5)}
    shapes = dict.fromkeys(x, (4, 32))
    made = folder(tmp_path / "model", shapes, lambda name: [x[name]], "float32", 2 * 4 * 32 * 4)
    assert len(list(made.glob("*.safetensors"))) == 3
    for name, values in x.items():
        np.testing.assert_array_equal(files.read_tensor(made, name), values)


def test_what_comes_before_a_call_is_not_timed() -> None:
    order: list[str] = []
    call = Call(lambda: order.append("run"), lambda _: (), None, lambda: order.append("before"))  # type: ignore[arg-type]
    entry = suite.Entry(Best(), call, suite.Verdict(0, 0), 1)
    with entry.timed()._context():
        assert order == ["before"]


def converted(job: str, system: str, seconds: float, on_disk: bool = False) -> checkpoints.Row:
    return checkpoints.Row("tiny", 10**9, on_disk, job, system, seconds, 1.5, 50, 2 * 10**9, 10**9)


def test_the_tables_of_checkpoints() -> None:
    head = {
        "machine": {"cpu": "a CPU", "cores": 2, "load": 0.1},
        "versions": {"gguf": "0.19", "torch": "unknown"},
        "date": "2026-11-29T00:00:00",
        "commit": "abc",
    }
    rows = [
        converted("Q8_0", "gguf", 8.0),
        converted("Q8_0", "zeropoint", 0.5),
        converted("copy", "zeropoint", 0.4),
        converted("W8A8", "zeropoint", 30.0, on_disk=True),
    ]
    text = checkpoints.tables(head, rows)
    assert "| Q8_0 | 0.50 s | 0.50 ns | 50 MiB | gguf | 8.0 s | 16.0 x | 50 MiB |" in text
    assert "| copy | 0.40 s | 0.40 ns | 50 MiB | | | | |" in text
    assert "| W8A8 | 2.0 GB | 1.0 GB | 30 s | 1.5 s | 30.00 ns | 50 MiB |" in text
    assert text.index("in memory (tmpfs)") < text.index("| Q8_0") < text.index("on a disk")
    assert "a CPU, 2 cores, load 0.1 before; gguf 0.19; 2026-11-29, commit abc" in text


def test_docs_show_the_committed_checkpoints() -> None:
    page = (machine.ROOT / "docs/measured.md").read_text()
    shown = page.split("<!-- checkpoints:begin -->\n")[1].split("\n<!-- checkpoints:end -->")[0]
    run = machine.ROOT / "bench/results/checkpoints.json"
    assert shown == checkpoints.tables(*report.load_rows(run, checkpoints.Row))


@pytest.mark.slow("a process for each conversion")
@pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="needs wordllama")
def test_small_checkpoints_are_converted(tmp_path: pathlib.Path) -> None:
    rows: list[checkpoints.Row] = []
    for of in checkpoints.SOURCES:
        rows += checkpoints.measure("tiny", of, tmp_path, True, ["zeropoint"])
        assert {checkpoints._part(row) for row in rows[-1:]} == {f"large-{of}"}
    assert [row.job for row in rows] == [
        *("copy", "W8A8", "W8A8 dequantized", "W8A16", "ComfyUI", "Q8_0", "Q8_0 dequantized"),
    ]
    by_job = {row.job: row for row in rows}
    assert by_job["copy"].bytes_read == by_job["copy"].bytes_written > 2 * rows[0].elements
    assert by_job["Q8_0"].bytes_written < 0.6 * by_job["Q8_0"].bytes_read
    assert by_job["W8A8 dequantized"].bytes_read == by_job["W8A8"].bytes_written
    assert all(row.peak_mib > 10 and row.seconds > 0 for row in rows)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------
# Two runs

HEAD: dict[str, Any] = {
    "format": report.FORMAT,
    "command": "python -m bench",
    "seconds_per_system_and_cell": 0.2,
    "notes": {"numba": "a note <b>"},
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc",
    "machine": {
        "cpu": "A CPU <i>",
        "cores": 2,
        "caches": {"L2": "2M"},
        "load": 0.1,
        "system": "x86",
    },
    "zeropoint": {"version": "1", "backends": ["avx512", "avx2"], "compiler": "GCC <12>"},
    "versions": {"numpy": "2", "numba": "1"},
    "skipped": [{"system": "torch", "reason": "No module <torch>", "jobs": ["every job"]}],
}


def a_run(speed: float = 1.0, others: float = 1.0, noise: float = 1.02, **ours: float) -> list[Any]:
    """Ours and ten cells of others; each batch but the best takes up to `noise` times as long."""
    rows = []
    for i, size in enumerate(2**k for k in range(10, 20)):
        for system, factor in (("zeropoint", speed), ("numpy", others)):
            seconds = size * 1e-10 * (1 + 0.01 * (i % 3)) / factor
            seconds *= ours.get(f"at_{size}", 1.0) if system == "zeropoint" else 1.0
            steps = np.linspace(seconds, seconds * noise, timing.BATCHES)
            rows.append(
                of_one_run("quantize", system, seconds, size, batches=tuple(map(float, steps)))
            )
    return rows


def compared(a: list[Any], b: list[Any], head: dict[str, Any] = HEAD, **how: Any) -> Any:
    return compare.compare((HEAD, a), (head, b), how.get("systems", ["zeropoint", "zeropoint-*"]))


def test_batches_are_the_best_of_each_part() -> None:
    assert timing.batches([5.0, 3.0, 4.0]) == (5, 3, 4)
    times = [9.0, *map(float, range(20, 0, -1))]  # the first sample does not count
    assert timing.batches(times) == tuple(float(k) for k in range(19, 0, -2))
    assert min(timing.batches([1.0] * 7 + [0.5] + [1.0] * 93)) == 0.5
    found = timing.best_times(
        {"x": timing.Timed(lambda: None, contextlib.nullcontext)}, 0.02, rest=False
    )["x"]
    assert 1 <= len(found.batches) <= timing.BATCHES
    assert found.seconds <= min(found.batches) <= found.median


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, "within noise"), (1.01, "within noise"), (1.2, "faster"), (1 / 1.2, "slower")],
)
def test_a_change_beyond_noise_has_a_name(factor: float, verdict: str) -> None:
    found = compared(a_run(), a_run(factor))
    assert {change.verdict for change in found.changes} == {verdict}
    assert all(change.ratio == pytest.approx(factor) for change in found.changes)
    (low, high) = found.changes[0].interval
    assert low < factor < high
    assert high / low == pytest.approx(1.01**2, rel=1e-3)  # medians of batches, on both sides
    assert len(found.regressions(1.1)) == (10 if verdict == "slower" else 0)
    assert not found.regressions(1.3)


def test_one_row_that_is_slower_is_found() -> None:
    found = compared(a_run(), a_run(at_4096=1.3))
    assert [(change.a.size, change.verdict) for change in found.regressions(1.1)] == [
        (4096, "slower")
    ]
    assert "1.30" not in compare.text(compared(a_run(), a_run()))
    text = compare.text(found)
    assert re.search(r"slower +quantize +4 Ki +1 +zeropoint +\d+ ns +\d+ ns +0.77 x", text)
    assert len(re.findall("within noise +quantize", text)) == 0
    assert len(re.findall("within noise +quantize", compare.text(found, True))) == 9


def test_what_did_not_change_widens_the_interval() -> None:
    """All times rose by a fifth, those of NumPy too: that is the machine, not the code."""
    found = compared(a_run(), a_run(1 / 1.2, others=1 / 1.2))
    assert {change.verdict for change in found.changes} == {"within noise"}
    assert found.drift.factor == pytest.approx(1.2)
    assert found.drift.rows == 10
    # up and down: who gained as much may have gained it for no reason
    for others in (1.2, 1 / 1.2):
        assert not compared(a_run(), a_run(1.2, others=others)).of("faster")
    # of two machines it is the machine, which is what was asked for
    machines = {**HEAD, "machine": {**HEAD["machine"], "cores": 4}}
    assert len(compared(a_run(), a_run(1.2, others=1.2), machines).of("faster")) == 10
    # another NumPy is no measure, and few rows are none
    other = {**HEAD, "versions": {"numpy": "3"}}
    assert compared(a_run(), a_run(1 / 1.2, others=1 / 1.2), other).drift.rows == 0
    few = compared(a_run()[:6], a_run(1 / 1.2, others=1 / 1.2))
    assert {change.verdict for change in few.changes} == {"within noise"}
    assert "3 rows of others are few to tell two runs without a change" in few.doubts


def test_the_extremes_of_what_did_not_change_do_not_count() -> None:
    drift = compare._drift([0.5, *[1 / 1.04] * 9, *[1.03] * 29, 3.0])
    assert drift == compare.Drift(pytest.approx(1.04), 40)
    assert compare._drift([0.5, *[1.03] * 7]) == compare.Drift(2, 8)  # few: all count
    assert compare._drift([0.5, *[1.03] * 6]) == compare.Drift(2, 7)
    assert compare._drift([]) == compare.Drift()


def test_damaged_runs_are_refused(tmp_path: pathlib.Path) -> None:
    rows = [dataclasses.asdict(row) for row in a_run()]

    def refused(because: str, first: dict[str, Any], **head: Any) -> None:
        run = {**HEAD, "rows": [{**rows[0], **first}, *rows[1:]], **head}
        (tmp_path / "x.json").write_text(json.dumps(run))
        with pytest.raises(ValueError, match=f"x.json is damaged: .*{because}.*; run it again"):
            report.load(tmp_path / "x.json")

    for seconds in (0, -1, float("nan"), float("inf"), "1", None):
        refused(" s", {"seconds": seconds})
        refused(" s", {"batches": [1.0, seconds]})
    refused("is there twice", {"size": rows[2]["size"]})
    refused("no machine", {}, machine=None)
    refused("no backends", {}, zeropoint={})


def test_against_compares_and_writes_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        against.main([against.sys.executable, "--json", "x.json"])
    assert "--html FILE writes a page of the comparison" in capsys.readouterr().err
    wrong, right = (dataclasses.replace(a_run()[0], wrong=n, seconds=n + 1) for n in (1, 0))
    assert against.merged([(HEAD, [right]), (HEAD, [wrong])])[1][0].wrong == 1


def test_noise_hides_a_change() -> None:
    assert not compared(a_run(noise=1.6), a_run(1 / 1.2, noise=1.6)).of("slower")
    old = [dataclasses.replace(row, batches=(), median_seconds=2 * row.seconds) for row in a_run()]
    found = compared(old, old)  # of a version that kept the median alone
    assert found.changes[0].interval == (0.5, 2)


def test_what_differs_between_two_runs_is_said() -> None:
    other = {
        **HEAD,
        "machine": {**HEAD["machine"], "cpu": "B CPU", "load": 3.0, "virtual": True},
        "zeropoint": {**HEAD["zeropoint"], "compiler": "Clang", "backends": ["avx2"]},
        "versions": {"numpy": "3", "numba": "1"},
        "seconds_per_system_and_cell": 0.1,
        "commit": "def-dirty",
    }
    more = [dataclasses.replace(row, threads=2) for row in a_run()]
    found = compared(a_run()[:-2], [*a_run(1.5), *more], other)
    said = "\n".join(found.doubts)
    for text in (
        "two machines, cpu: A CPU <i> and B CPU",
        "compilers: GCC <12> and Clang",
        "best backends: avx512 and avx2",
        "versions of numpy: 2 and 3",
        "seconds for each cell: 0.2 and 0.1",
        "B: load 3 on 2 CPUs",
        "B: a virtual machine",
        "B: the checkout has changes",
        "only in B, threads: 2",
        "only in B, sizes: 512 Ki",
    ):
        assert text in said
    assert found.drift == compare.Drift()
    assert "of the samples alone" in compare.allowance(found)
    assert compared(a_run(), a_run()).doubts == []


def written(path: pathlib.Path, rows: list[Any], **changes: Any) -> str:
    report.save(path, {**HEAD, **changes}, "rows", [dataclasses.asdict(row) for row in rows])
    return str(path)


def test_compare_as_a_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written(tmp_path / "a.json", a_run())
    after = written(tmp_path / "b.json", a_run(at_4096=1.3))
    html = tmp_path / "page.html"
    assert cli.main(["compare", before, after, "--html", str(html)]) == 0
    assert "slower" in capsys.readouterr().out
    assert "4 Ki" in html.read_text()
    assert cli.main(["compare", before, after, "--fail-over", "1.1"]) == 1
    assert "1 rows take more than 1.1 times as long" in capsys.readouterr().out
    assert cli.main(["compare", before, after, "--fail-over", "1.5"]) == 0
    assert cli.main(["compare", before, before, "--fail-over", "1"]) == 0
    for file, message in (
        (written(tmp_path / "c.json", a_run()[:2]), ""),
        (
            written(tmp_path / "d.json", a_run()[1::2]),
            "no row of zeropoint, zeropoint-* is in both",
        ),
        (written(tmp_path / "e.json", []), "only in A, jobs: quantize"),
        (str(tmp_path / "absent.json"), "absent.json"),
        (str(machine.ROOT / "bench/results/recall.json"), "recall.json is another kind of run"),
        (str(machine.ROOT / "README.md"), "README.md is no JSON"),
    ):
        assert cli.main(["compare", before, file]) == (2 if message else 0)
        assert message in capsys.readouterr().err
    old = tmp_path / "old.json"
    old.write_text('{"format": 0, "rows": []}')
    assert cli.main(["compare", before, str(old)]) == 2
    assert f"(format 0, not {report.FORMAT}); run it again" in capsys.readouterr().err
    for factor in ("0.9", "inf", "much"):
        with pytest.raises(SystemExit):
            cli.main(["compare", before, after, "--fail-over", factor])
        assert "is not a factor of at least 1 such as 1.1" in capsys.readouterr().err


def test_a_field_that_a_later_version_added_is_read_over(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run.json"
    row = {**dataclasses.asdict(ROW), "of_later": 1}
    report.save(path, HEAD, "rows", [row])
    assert report.load(path)[1] == [ROW]


def test_two_installations_in_turns(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The runs are not made: what is called, in which order, and what is done with the results."""
    called = []

    def run(command: list[str], **how: Any) -> Any:
        called.append(command)
        theirs = command[0] != against.sys.executable
        slower = 1.0 + 0.01 * len(called)
        written(pathlib.Path(command[-1]), a_run(0.5 if theirs else 1.0, at_4096=slower))
        return subprocess.CompletedProcess(command, 0, "", "")

    other = tmp_path / "python"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setattr(against.subprocess, "run", run)
    assert cli.main(["against", str(other), "--rounds", "3", "--jobs", "quantize"]) == 0
    theirs = [command[0] == str(other) for command in called]
    assert theirs == [True, False, False, True, True, False]
    assert called[0][1:5] == ["-m", "bench", "--jobs", "quantize"]
    assert "zeropoint*,numpy" in called[0][6]
    shown = capsys.readouterr().out
    assert len(re.findall("faster   quantize .* 2.00 x", shown)) == 9  # and 4 Ki, by less

    rows = [a_run(1.0)[2], a_run(0.9)[2], a_run(0.8)[2]]
    _, (row,) = against.merged([(HEAD, [each]) for each in rows])
    assert row.seconds == rows[0].seconds
    assert row.batches == tuple(each.seconds for each in rows)
    assert row.samples == 9

    def fails(command: list[str], **how: Any) -> Any:
        return subprocess.CompletedProcess(command, 3, "", "what went wrong\n")

    monkeypatch.setattr(against.subprocess, "run", fails)
    assert cli.main(["against", str(other)]) == 3
    assert "what went wrong" in capsys.readouterr().err
    assert cli.main(["against", str(tmp_path / "absent")]) == 2
    assert "is no program: give a python" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["against", str(other), "--rounds", "1"])


# ---------------------------------------------------------------------------------------------
# The command, the machine, the pages


@pytest.mark.parametrize("of_run", [True, False])
def test_a_page_is_well_formed_and_escaped(of_run: bool) -> None:
    from .test_html import Parsed

    rows = [*a_run(), of_one_run("lookup", "zeropoint", 1e-6, 2**16, vs_numpy=0.25)]
    text = page.of_run(HEAD, rows) if of_run else page.of_comparison(compared(a_run(), a_run(0.5)))
    found = Parsed(text)
    assert found.found[0] == ("html", {"lang": "en"})
    assert "A CPU <i>" in "".join(found.texts)
    assert not re.search("<script|https?:|@import|url[(]", text)
    ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
    assert len(set(ids)) == len(ids) >= 1
    links = [attributes["href"] for tag, attributes in found.found if tag == "a"]
    assert {str(link) for link in links} <= {f"#{name}" for name in ids}
    if of_run:
        assert len(links) == 2
        assert "No module <torch>" in "".join(found.texts)
        assert "numba: a note <b>." in found.texts
    else:
        assert "slower" in found.texts
    assert len({len(row) for row in found.rows[:2]}) == 1
    assert "Nothing was measured" in page.of_run(HEAD, [])


def test_bars_are_within_their_picture() -> None:
    for ratio in (1e-9, 0.1, 0.99, 1.0, 1.01, 10.0, 1e9):
        ((x, width),) = re.findall(r'<rect x="(.+?)" y="2" width="(.+?)"', page._bar(ratio))
        assert 0 <= float(x) <= float(x) + float(width) <= 80
        assert (float(x) < 20) == (ratio < 1)


def test_what_makes_a_run_unsure() -> None:
    def said(**changes: Any) -> list[str]:
        return machine.doubts({**HEAD, "machine": {**HEAD["machine"], **changes}})

    assert said() == said(cpus=2, governor="performance", virtual=False, load=None) == []
    assert said(load=1.5) == ["load 1.5 on 2 CPUs before it began: others took their time"]
    assert said(cpus=8) == ["bound to 2 of 8 CPUs"]
    assert said(governor="powersave")[0].startswith("frequency governor 'powersave'")
    assert said(virtual=True)[0].startswith("a virtual machine")
    alone = {**HEAD, "versions": {"python": "3", "numpy": "2", "zeropoint": "1"}}
    assert machine.doubts(alone)[0].startswith("NumPy alone is measured")
    slow = {**HEAD, "zeropoint": {"backends": ["avx2"], "compiler": "x"}}
    assert machine.doubts(slow) == ["no AVX-512: the best backend is avx2"]
    pure = {**HEAD, "zeropoint": {"backends": ["reference"]}}
    assert machine.doubts(pure)[0].startswith("zeropoint has no compiled core")
    assert set(machine.describe(["numpy"])) <= set(HEAD)
    assert machine.doubts(machine.describe([])) is not None


def test_a_case_that_does_not_fit_into_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.jobs.memory", lambda: 10**9)
    assert Case(JOB["quantize"], 2**20).why_not() is None
    assert Case(JOB["quantize"], 2**26).why_not() == (
        "needs about 1.1 GB of memory, and 1.0 GB are free"
    )
    monkeypatch.setattr("bench.jobs.memory", lambda: None)
    assert Case(JOB["quantize"], 2**26).why_not() is None


def test_the_benchmark_measures_and_writes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, html = tmp_path / "run.json", tmp_path / "run.html"
    how = ["--jobs", "quantize,crop", "--sizes", "1,1000", "--threads", "1", "--seconds", "0.001"]
    how += ["--systems", "zeropoint,zeropoint-fresh,numpy"]
    assert cli.main([*how, "--json", str(run), "--html", str(html)]) == 0
    shown = capsys.readouterr()
    assert "[2/2] quantize, 1000 elements, 1 thread" in shown.err
    assert "skipped: everybody: none of these sizes; its own are" in shown.out
    assert "How many times as fast as\n  on 1 thread" in shown.out
    head, rows = report.load(run)
    assert {row.size for row in rows} == {1, 1000}
    assert all(row.batches for row in rows)
    assert head["command"] == f"python -m bench {' '.join(how)}"
    assert html.read_text() == page.of_run(head, rows)

    again = tmp_path / "again.html"
    assert cli.main(["show", str(run), "--html", str(again)]) == 0
    assert "NumPy by hand" in capsys.readouterr().out
    assert again.read_text() == html.read_text()
    assert cli.main(["show", str(tmp_path / "absent.json")]) == 2
    assert cli.main(["compare", str(run), str(run), "--fail-over", "1"]) == 0


def test_the_commands_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one that the parsers take, and every field of a row is explained."""
    guide = (machine.ROOT / "docs/how-to/benchmark.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    python -m (bench\S*)(.*)$", guide, re.MULTILINE)
    assert len(lines) > 10

    class Parsed(Exception):
        pass

    def stop(self: Any, *arguments: Any) -> Any:
        parsed(self, *arguments)
        raise Parsed

    parsed = argparse.ArgumentParser.parse_known_args
    for module, rest in lines:
        main = importlib.import_module("bench.cli" if module == "bench" else module).main
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
            with pytest.raises(Parsed):
                main(shlex.split(rest, comments=True))
    head = machine.describe([])
    fields = (field.name for field in dataclasses.fields(suite.Row))
    for name in (*fields, *head, *head["machine"]):
        assert f"`{name}`" in guide, name


def test_several_runs_as_one(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one.json", a_run()[:4], command="first")
    two = written(tmp_path / "two.json", a_run(2.0)[2:], command="second", versions={"torch": "3"})
    out = tmp_path / "out.json"
    assert cli.main(["show", one, two, "--json", str(out)]) == 0
    head, rows = report.load(out)
    assert len(rows) == len(a_run())
    assert rows[2].seconds == pytest.approx(a_run(2.0)[2].seconds, rel=1e-5)  # the later
    assert (head["command"], sorted(head["versions"])) == (
        "first; second",
        ["numba", "numpy", "torch"],
    )
    assert len(head["skipped"]) == 2
    capsys.readouterr()
    for changes, message in (
        ({"commit": "def"}, "runs of several commits are not one: abc, def"),
        ({"machine": {**HEAD["machine"], "cores": 8}}, "runs of two machines are not one: cores"),
    ):
        other = written(tmp_path / "other.json", a_run(), **changes)
        assert cli.main(["show", one, other]) == 2
        assert message in capsys.readouterr().err


def test_the_list_of_what_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert "\nembeddings: Embeddings (" in shown
    assert all(f"\n    {name}" in shown for name in (*JOB, *(kind.name for kind in SYSTEMS)))
    options = cli._parser().parse_args(["--group", "codes,files"])
    assert [job.name for job in options.jobs][:1] == ["rescale"]
    assert cli._parser().parse_args([]).jobs == JOBS
    with pytest.raises(SystemExit):
        cli.main(["--group", "nothing"])
    assert "'nothing' is none of quantize, dequantize" in capsys.readouterr().err
    quick = cli._parser().parse_args(cli.QUICK)
    assert all(job.sizes_of(quick.sizes) for job in quick.jobs)


# ---------------------------------------------------------------------------------------------
# Embeddings


def test_docs_show_the_committed_recall() -> None:
    page = (machine.ROOT / "docs/measured.md").read_text()
    shown = page.split("<!-- recall:begin -->\n")[1].split("\n<!-- recall:end -->")[0]
    run = machine.ROOT / "bench/results/recall.json"
    head, rows = report.load_rows(run, recall.Row)
    assert shown == recall.text(head, rows)
    drawing = (machine.ROOT / "docs/recall.svg").read_text()
    assert all(f">{row.style}</text>" in drawing for row in rows[1:])
    assert f"{head['data']['rows']:,} sentences" in drawing


def test_docs_show_the_committed_times_of_embeddings() -> None:
    page = (machine.ROOT / "docs/measured.md").read_text()
    shown = page.split("<!-- embeddings:begin -->\n")[1].split("<!-- embeddings:end -->")[0]
    run = machine.ROOT / "bench/results/embeddings.json"
    wanted = embeddings.text(*report.load_rows(run, embeddings.Row)) if run.exists() else ""
    assert shown.strip() == wanted


@pytest.mark.slow("imports the other tools, starts a process")
def test_a_small_table_of_embeddings(tmp_path: pathlib.Path) -> None:
    """Every system that is here; those of one style give the same bits."""
    path = tmp_path / "table.f32"
    x = np.random.default_rng(0).normal(size=(500, embeddings.DIMENSIONS)).astype(np.float32)
    path.write_bytes(x.tobytes())
    sums: dict[str, Any] = {}
    for style, system in embeddings.SYSTEMS:
        package = "sentence_transformers" if system == "sentence-transformers" else system
        if not system.startswith("zeropoint") and importlib.util.find_spec(package) is None:
            continue
        make_codes, make_values = embeddings.SYSTEMS[style, system](path)
        codes = make_codes()
        values = None if make_values is None else make_values(codes)
        if style != "rows":
            assert (codes == sums.setdefault(style, codes)).all()
            assert codes.shape == x.shape
        if values is not None:
            assert np.abs(values - x).max() < 0.05
            assert (values == sums.setdefault(f"{style}, values", values)).all()
    found = embeddings._in_a_process("sentence-transformers", "zeropoint", path, 1)
    assert found is not None
    assert len(found.pop("sums")) == 2
    rows = [embeddings.Row("sentence-transformers", "zeropoint", 1, len(x), **found)]
    text = embeddings.text(machine.describe(["numpy"]), rows)
    assert "| `sentence-transformers` | zeropoint | 1 | 0.0" in text
    assert "500 rows of 384, float32: 0 MiB" in text


# ---------------------------------------------------------------------------------------------
# Latency


def test_docs_show_the_committed_latency() -> None:
    page = (machine.ROOT / "docs/measured.md").read_text()
    shown = page.split("<!-- latency:begin -->\n")[1].split("\n<!-- latency:end -->")[0]
    run = report.load_rows(machine.ROOT / "bench/results/latency.json", latency.Row)
    assert shown == latency.text(*run)


@pytest.mark.slow("a real model")
def test_a_short_run_of_latency() -> None:
    for package in ("ai_edge_litert", "flatbuffers", "pymicro_wakeword"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    rows = list(latency.measure(0.001))
    assert {row.way for row in rows} == {*latency.WAYS, *zp.backends()[1:-1]}
    assert all(row.alone > 0 < row.seconds for row in rows)
    text = latency.text(machine.describe(["numpy", "ai-edge-litert"]), rows)
    assert text.startswith("| us a step | wake word | more than LiteRT | by itself | image |")


# ---------------------------------------------------------------------------------------------
# Targets

ONE, TWO = (targets.Timing(name, "quantize", 1) for name in ("zeropoint", "np.rint"))


@pytest.mark.parametrize(
    ("slower", "ours", "other", "ratio", "verdict"),
    [
        (False, 1.0, 2.0, 2.0, "met"),
        (False, 1.0, 1.5, 1.5, "met"),  # the bound itself
        (False, 1.0, 1.2, 1.2, "missed by 20%"),
        (False, 2.0, 1.0, 0.5, "missed by 67%"),
        (True, 1.0, 1.0, 1.0, "met"),
        (True, 3.0, 2.0, 1.5, "met"),
        (True, 3.0, 1.0, 3.0, "missed by 100%"),
    ],
)
def test_verdict_of_a_target(
    slower: bool, ours: float, other: float, ratio: float, verdict: str
) -> None:
    target = targets.Target("a row", ONE, (TWO,), 1.5, slower)
    result = targets.Result(target, ours, TWO, other)
    assert (result.ratio, result.verdict) == (pytest.approx(ratio), verdict)
    assert targets.line(result).startswith(verdict)
    assert f"{'<=' if slower else '>='} 1.5" in targets.line(result)


def best(seconds: float) -> targets.Best:
    return targets.Best(seconds, 3, 10 * seconds)


def test_a_target_counts_the_fastest_and_takes_off_the_fixed_cost() -> None:
    peers = tuple(targets.Timing(name, "quantize", 64) for name in ("numba", "torch", "litert"))
    ours = targets.Timing("zeropoint", "quantize", 64)
    times = dict(zip((ours, *peers[:2]), map(best, (2.0, 4.0, 3.0)), strict=True))
    found = targets.result_of(targets.Target("a row", ours, peers, 1), {}, times)
    assert (found.other, found.ratio) == (peers[1], 1.5)
    median = targets.result_of(targets.Target("a row", ours, peers, 1, median=True), {}, times)
    assert median.seconds == 20

    times |= {each._replace(size=1): best(1.0) for each in (ours, peers[0])}
    target = targets.Target("a row", ours._replace(less=1), (peers[0]._replace(less=1),), 1)
    assert targets.result_of(target, {}, times).ratio == 3


def test_a_target_without_a_peer_is_skipped_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    ours, peer = (targets.Timing(name, "quantize", 64) for name in ("zeropoint", "litert"))
    entered: dict[targets.Timing, Any] = {peer: "No module named 'ai_edge_litert'"}
    found = targets.result_of(targets.Target("a row", ours, (peer,), 1), entered, {ours: best(1.0)})
    assert found.verdict == "skipped"
    assert targets.line(found).endswith("a row: litert: No module named 'ai_edge_litert'")


def test_every_target_can_be_measured() -> None:
    names = {kind.name for kind in SYSTEMS} | {targets.AVX2}
    for target in targets.TARGETS:
        for each in (target.ours, *target.others):
            assert each.system in names
            assert each.job in JOB
            assert JOB[each.job].shape is None or Case(JOB[each.job], each.size).size == (
                math.prod(JOB[each.job].shape or ())
            )
    assert len({target.name for target in targets.TARGETS}) == len(targets.TARGETS)


def test_the_command_measures_and_writes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["--rows", "one element round,40 elements float16", "--seconds", "0.01"]
    assert targets.main([*rows, "--json", str(tmp_path / "run.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0].split("element")[0][15:] for line in lines[:2]] == [" one ", " 40 "]
    run = json.loads((tmp_path / "run.json").read_text())
    assert [each["name"] for each in run["targets"]] == [
        "one element round",
        "40 elements float16",
    ]
    assert all(each["ratio"] > 0 for each in run["targets"])
    assert targets.main(["--rows", "nothing of that name"]) == 2


# ---------------------------------------------------------------------------------------------
# Loads


def test_a_second_caller_calls_only_while_it_is_let() -> None:
    calls = [0]

    def call() -> None:
        calls[0] += 1
        time.sleep(1e-3)

    caller = loads.SecondCaller(call, contextlib.nullcontext())
    try:
        assert calls == [0]
        with caller.calling():
            deadline = time.monotonic() + 10
            while calls[0] < 3 and time.monotonic() < deadline:
                time.sleep(1e-3)
        done = calls[0]
        assert done >= 3
        time.sleep(0.02)
        assert calls[0] == done
    finally:
        caller.end()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="tells not which CPUs are ours")
def test_busy_cpus_are_busy_and_then_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = subprocess.Popen

    def watched(*args: Any, **how: Any) -> Any:
        started.append(popen(*args, **how))
        return started[-1]

    monkeypatch.setattr(loads.subprocess, "Popen", watched)
    with loads.busy_cpus():
        assert len(started) == len(os.sched_getaffinity(0)) - 1
        assert all(process.poll() is None for process in started)
    assert all(process.poll() is not None for process in started)


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
