"""The benchmark's check of its peers: whose arithmetic, and what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from bench import (
    checkpoints,
    embeddings,
    latency,
    loads,
    machine,
    readme,
    recall,
    report,
    suite,
    targets,
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
    report.save(path, {"command": "x"}, "rows", [dataclasses.asdict(row)])
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


@pytest.mark.parametrize(("page", "text"), readme.PAGES.items())
def test_the_pages_show_the_committed_run(page: str, text: Callable[..., str]) -> None:
    shown = (machine.ROOT / page).read_text().split("<!-- bench:begin -->\n")[1]
    run = report.load(machine.ROOT / "bench/results/suite.json")
    assert shown.split("\n<!-- bench:end -->")[0] == text(*run)


def test_the_page_shows_the_committed_run_of_real_offsets() -> None:
    page = (machine.ROOT / "docs/speed.md").read_text()
    shown = page.split("<!-- offsets:begin -->\n")[1].split("\n<!-- offsets:end -->")[0]
    assert shown == readme.offsets(*report.load(machine.ROOT / "bench/results/offsets.json"))


def test_the_page_shows_the_committed_run_of_codes_to_codes() -> None:
    page = (machine.ROOT / "docs/speed.md").read_text()
    shown = page.split("<!-- lookups:begin -->\n")[1].split("\n<!-- lookups:end -->")[0]
    assert shown == readme.lookups(*report.load(machine.ROOT / "bench/results/lookups.json"))


def test_the_table_of_codes_to_codes() -> None:
    size = Case(JOB["image_lookup"], 2**20).size
    rows = [
        of_one_run("lookup", "zeropoint", 4e-6, 2**16, of_bare_loop=0.8, vs_fastest_peer=7.0),
        of_one_run("lookup", "opencv", 28e-6, 2**16, vs_fastest_peer=1.0),
        of_one_run("lookup", "zeropoint-avx2", 8e-6, 2**16, of_bare_loop=0.4),
        of_one_run("image_lookup", "zeropoint", 8e-5, size, vs_fastest_peer=None),
    ]
    text = readme._lookups({1: readme._found(rows, 1)})
    assert text.splitlines()[-2:] == [
        "| `lookup`: uint8 -> tanh -> uint8 | 64 Ki | 4 us | 1.25 x | 2.50 x | 7.00 x opencv |",
        "| `image_lookup`: pixels of 224 x 224 -> int8, one table per index of axis 3 | 6 images "
        "| 80 us |  |  |  |",
    ]
    assert readme._lookups({1: {}}) == ""


def test_the_table_of_formats() -> None:
    def row(job: str, system: str, seconds: float, role: str = "peer") -> suite.Row:
        (size,) = JOB[job].sizes_of(None)
        return dataclasses.replace(
            ROW,
            job=job,
            size=size,
            system=system,
            role=role,
            seconds=seconds,
            vs_fastest_peer={"zeropoint": 40.0, "gguf": 1.0}.get(system),
        )

    rows = [row("q8_0", "zeropoint", 2.0**24 * 0.2e-9), row("q8_0", "gguf", 2.0**24 * 8e-9)]
    rows += [row("files_W8A8", "zeropoint", 1.25), row("files_W8A8", "file-copy", 1.0, "yardstick")]
    text = readme._formats({1: readme._found(rows, 1), 2: readme._found(rows, 2)})
    assert "| `q8_0`: float32 -> Q8_0, shape (4096, 4096) | 0.20 ns |  | 40.0 x gguf |" in text
    assert text.endswith("| 18.63 ns |  | 1.25 x a copy's |")
    assert readme._formats({1: {}}) == ""


def of_one_run(job: str, system: str, seconds: float, size: int, **changes: Any) -> suite.Row:
    changes = {"role": "ours" if system == "zeropoint" else "peer"} | changes
    speed = size / seconds / 1e9
    return dataclasses.replace(
        ROW, job=job, system=system, seconds=seconds, size=size, gelem_per_s=speed, **changes
    )


def test_the_table_of_tools() -> None:
    (size,) = JOB["faiss"].sizes_of(None)
    rows = [
        of_one_run("faiss", "zeropoint", size * 0.1e-9, size, vs_fastest_peer=6.0),
        of_one_run("faiss", "faiss", size * 0.8e-9, size, vs_fastest_peer=0.75),
        of_one_run("faiss", "numba", size * 0.6e-9, size, vs_fastest_peer=1.0),
    ]
    text = readme._tools({1: readme._found(rows, 1), 2: {}})
    assert text.endswith(" | 0.10 ns |  | faiss | 8.00 x |  | 6.00 x numba |")
    assert "faiss" not in readme._parts(readme._found(rows, 1))
    assert readme._tools({1: {}}) == ""


def test_the_table_of_real_offsets() -> None:
    size = Case(JOB["quantize_cf_384"], 2**16).size
    rows = [
        of_one_run("quantize", "zeropoint", 8e-6, 2**16),
        of_one_run("quantize_cf", "zeropoint", 1e-5, 2**16),
        of_one_run("quantize_missing", "zeropoint", 2e-5, 2**16),
        of_one_run("quantize_numpy_384", "zeropoint", 1e-5, size),
        of_one_run("quantize_cf_384", "zeropoint", 1e-5, size),
    ]
    text = readme._offsets(readme._found(rows, 1))
    assert text.splitlines()[-3:] == [
        "| `cf`, per tensor, uint8 | 6.6 (80%) |  |  |  |",
        "| `numpy`, per tensor, uint8, missing values | 3.3 (40%) |  |  |  |",
        "| `cf`, 384 columns, int8 | 6.5 (100%) |  |  |  |",
    ]
    assert readme._offsets({}) == ""


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
        for timing in (target.ours, *target.others):
            assert timing.system in names
            assert timing.job in JOB
            assert JOB[timing.job].shape is None or Case(JOB[timing.job], timing.size).size == (
                math.prod(JOB[timing.job].shape or ())
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
