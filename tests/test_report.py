"""`zeropoint.report`: its figures are those of `error_stats`, and the page needs no other file."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import zeropoint as zp
from zeropoint import _cli, _profile, _report_page, files, report
from zeropoint._files import mapped, open_container, tiles
from zeropoint.interop.gguf import dequantize_q8_0, quantize_q8_0

from .gguf_parts import info, made

RNG = np.random.default_rng(17)
F32, Q8_0 = np.float32, 8
TENSORS: dict[str, np.ndarray[Any, Any]] = {
    "model.embed.weight": RNG.normal(size=(60, 70)).astype(np.float16),
    "model.0.weight": (RNG.standard_t(3, size=(40, 64)) * 0.02).astype(F32),
    "model.0.bias": RNG.normal(size=40),
    "conv": RNG.normal(size=(4, 3, 40)).astype(F32),
    "zeros": np.zeros((9, 9), F32),
    "scalar": np.array(3, F32),
}
HOSTILE = {
    "<script>alert('1')</script>": RNG.normal(size=(4, 5)).astype(F32),
    'größe "重み" & \u202e.w': RNG.normal(size=9).astype(F32),
    "empty": np.zeros((0, 4), F32),
    "nan": np.array([1, np.nan, 2], F32),
    "inf": np.array([[1, np.inf]], F32),
    "outlier": np.where(np.arange(2000) == 7, 1e6, RNG.normal(size=2000)).astype(F32),
    "ids": np.arange(9),
    "wide": np.array([1e308, -1.7e308, 3.0]),
}


class Page(html.parser.HTMLParser):
    """The tables of a page, as text; and what it has of tags and attributes."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = Path(path).read_text("utf-8")
        self._in_cell = False
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "table"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    safetensors.numpy.save_file(TENSORS, "model.safetensors")
    return "model.safetensors"


def counted(codes: np.ndarray[Any, Any]) -> list[int]:
    """How many elements have each code of int8."""
    found: list[int] = np.bincount(codes.ravel().astype(int) + 128, minlength=256).tolist()
    return found


def shown(decibels: float) -> str:
    return "∞" if decibels == math.inf else f"{decibels:.2f}"


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"axis": 0, "symmetric": True},
        {"axis": -1, "block_size": 32},
        {"dtype": "uint8", "convention": "torch", "qmax": 200},
        {"convention": "cf"},
    ],
    ids=str,
)
def test_figures_are_those_of_error_stats(model: str, keywords: dict[str, Any]) -> None:
    found = report.write(model, "report.html", **keywords)
    page = Page("report.html")
    overview, *of_sections = page.tables
    rows = {row[0]: row for row in overview[1:]}
    how = dict(keywords)
    dtype = how.pop("dtype", "int8")
    assert len(found.measured) >= 3
    for each in found.measured:
        x = TENSORS[each.name]
        params = zp.choose_params(x, dtype, **how)
        stats = zp.error_stats(x, params)
        assert each.stats == stats
        _, sqnr, _, error, saturated, used, size, name, shape = rows[each.name]
        assert (sqnr, error) == (shown(stats.sqnr_db), f"{stats.max_abs_error:.4g}")
        assert (saturated, used) == (str(stats.saturated), str(stats.codes_used))
        assert (size, name, shape) == (f"{x.nbytes:,}", x.dtype.name, str(list(x.shape)))
        assert (each.minimum, each.maximum) == (x.min(), x.max())
        counts = np.bincount(params.quantize(x).astype(int).ravel() - params.qmin)
        assert each.codes == (*counts.tolist(), *[0] * (len(each.codes) - counts.size))
        assert len(each.codes) == params.qmax - params.qmin + 1
        assert sum(each.clipped) == stats.saturated
    for each, table in zip(found.measured, of_sections, strict=True):
        assert table[1][:3] == [
            found.how + " (least error)" * table[1][0].endswith(" (least error)"),
            shown(each.sqnr_db),
            f"{each.max_abs_error:.6g}",
        ]
        comparison = zp.compare(TENSORS[each.name])
        ways = {way.name: way for way in each.ways}
        assert [*ways] == [comparison._title(row) for row in comparison.rows if row.stats]
        for row in comparison.rows:
            if row.stats and row.params:
                way = ways[comparison._title(row)]
                assert way.mse == row.stats.mse
                assert way.few == row.few
        for name, sqnr, *_ in table[2:]:
            assert sqnr == shown(ways[name.removesuffix(" (least error)")].sqnr_db)
        assert sum("(least error)" in row[0] for row in table) == 1
    order = [each.sqnr_db for each in found.measured if not each.few]
    assert order == sorted(order)


def test_sizes_are_those_of_quantize_file(model: str) -> None:
    for keywords in ({}, {"axis": 0}, {"axis": -1, "block_size": 32}):
        found = report.write(model, "report.html", **keywords)  # type: ignore[arg-type]
        done = files.quantize_file(model, "q.safetensors", dtype="int8", **keywords)  # type: ignore[arg-type]
        by_name = {each.name: each for each in found.tensors}
        for tensor in done.tensors:
            each = by_name[tensor.name]
            assert (each.bytes_in, each.bytes_out) == (tensor.bytes_in, tensor.bytes_out)
            assert each.note == tensor.kept
            assert (each.stats is None) == (tensor.kept is not None)


def test_costs_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error counts against the tensor's own values, and by its elements."""
    monkeypatch.chdir(tmp_path)
    steps = np.array([0, 255, 100.25, 0], F32)  # a scale of 1: an error of 0.25
    np.savez("x.npz", a=steps, b=np.tile(steps / 4, 3), c=steps[:2])
    found = {each.name: each for each in report.write("x.npz", "r.html", dtype="uint8").tensors}
    assert [found[name].cost for name in "abc"] == [0.25, 0.75, 0.0]
    assert found["a"].sqnr_db == pytest.approx(10 * math.log10((255**2 + 100.25**2) / 0.25**2))


def test_large_tensors_go_in_slabs(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"more": np.random.default_rng(3).normal(size=(4000, 64)).astype(np.float16)}
    safetensors.numpy.save_file(TENSORS | more, model)
    before = report.write(model, "report.html")
    monkeypatch.setattr(report, "_AT_ONCE", 1000)
    after = report.write(model, "report.html")
    [one] = [each for each in before.measured if each.name == "more"]
    assert max(way.saturated for way in one.ways if way.axis is not None) > 0
    for one, other in zip(before.measured, after.measured, strict=True):
        assert other.stats == one.stats
        assert other.advice == one.advice
        for way, slabs in zip(one.ways, other.ways, strict=True):
            same = {"mse", "sqnr_db", "codes_used"}
            for name, value in dataclasses.asdict(way).items():
                if name not in same:
                    assert getattr(slabs, name) == value, (one.name, way.name, name)
            assert slabs.mse == pytest.approx(way.mse, rel=1e-12)
            assert slabs.sqnr_db == pytest.approx(way.sqnr_db, rel=1e-12)
            assert slabs.codes_used <= way.codes_used


def test_hostile_tensors_are_said_and_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("hostile.npz", **HOSTILE, objects=np.array([{}], object))  # type: ignore[arg-type]
    found = report.write("hostile.npz", "report.html")
    by_name = {each.name: each for each in found.tensors}
    notes = {name: each.note for name, each in by_name.items() if each.note}
    assert notes == {
        "empty": "it has no elements",
        "nan": "it has 1 NaN or Inf of 3 elements, the first (nan) at index (1,)",
        "inf": "it has 1 NaN or Inf of 2 elements, the first (inf) at index (0, 1)",
        "ids": "its dtype is not quantized",
        "objects": "holds Python objects, which are never loaded",
    }
    assert found.tensors[0].name == "outlier"  # a good SQNR, and two codes
    assert found.tensors[0].advice is not None
    assert found.tensors[0].advice.startswith("Few codes are in use: 90 % of the nonzero elements")
    page = Page("report.html")
    assert not {"script", "link", "img", "iframe", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=", page.source)
    assert all(attrs.get("href", "#").startswith("#") for _, attrs in page.tags)  # type: ignore[union-attr]
    names = [row[0] for row in page.tables[0][1:]]
    assert "<script>alert('1')</script>" in names
    assert 'größe "重み" & \\u202e.w' in names
    with_nan = report.write("hostile.npz", "report.html", skip_nan=True, nan_code=-128, qmin=-127)
    [nan] = [each for each in with_nan.tensors if each.name == "nan"]
    x = HOSTILE["nan"]
    params = zp.choose_params(x, "int8", skip_nan=True, nan_code=-128, qmin=-127)
    assert nan.stats == zp.error_stats(x, params, skip_nan=True)
    assert sum(nan.codes) == 2


def test_pictures_have_words_and_links_have_places(model: str) -> None:
    report.write(model, "report.html")
    page = Page("report.html")
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(pictures) == 6 + 4  # a histogram each, a strip where there are channels
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)
    places = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert links == {f"#{place}" for place in places}
    assert len(places) == len({*places}) == 6


def test_the_strip_by_hand() -> None:
    x = np.array([[1, 2, 2.75], [0, 0, 0], [np.nan, 9, -9]], F32)
    params = zp.QuantParams(1, 3, qmax=6)
    found = _profile.profile(x, params, 0)
    assert found.counts.tolist() == [1, 0, 0, 3, 1, 1, 2]
    assert found.clipped == (1, 1)
    np.testing.assert_array_equal(found.signal, [1 + 4 + 2.75**2, 0, 162])
    np.testing.assert_array_equal(found.noise, [0.0625, 0, 72])
    np.testing.assert_array_equal(found.relative, np.sqrt([0.0625 / 12.5625, 0, 72 / 162]))
    assert found.worst == 6
    assert found.sqnr_db == pytest.approx(10 * math.log10(174.5625 / 72.0625))


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("block", [None, 3])
def test_profiles_chunk_by_chunk(
    axis: int | None, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_profile, "_TILE", 7)
    x = np.asfortranarray(RNG.normal(size=(5, 4, 6)).astype(">f4"))
    block = None if axis is None else block
    params = zp.choose_params(x, "int8", axis=axis, block_size=block)
    params = params.replace(scale=params.scale * 0.8)
    stats = zp.error_stats(x, params)
    codes = params.quantize(x)
    back = params.dequantize(codes).astype(float)
    for by in (None, 0, 1, 2):
        found = _profile.profile(x, params, by, saturated=stats.saturated)
        assert found.worst == stats.max_abs_error
        assert found.sqnr_db == pytest.approx(stats.sqnr_db, rel=1e-12)
        assert sum(found.clipped) == stats.saturated > 0
        assert (
            found.counts.tolist()
            == np.bincount(codes.ravel().astype(int) + 128, minlength=256).tolist()
        )
        others = tuple(i for i in range(3) if i != by)
        noise = ((back - x.astype(float)) ** 2).sum(axis=others)
        np.testing.assert_allclose(found.noise, np.atleast_1d(noise), rtol=1e-12)


def gguf_of(x: np.ndarray[Any, Any]) -> bytes:
    return made(infos=[info("w", x.shape)], data=x.tobytes())


@pytest.mark.parametrize("resident", [True, False])
def test_tensors_as_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, resident: bool
) -> None:
    if not resident:
        monkeypatch.setattr(mapped, "RESIDENT", 0)
    x = RNG.normal(size=(6, 32)).astype(F32)
    np.save(tmp_path / "w.npy", x)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    np.save(tmp_path / "big.npy", x.astype(">f4"))
    np.savez(tmp_path / "stored.npz", w=x)
    np.savez_compressed(tmp_path / "deflated.npz", w=np.asfortranarray(x))
    # behind one byte of another tensor, so that it lies at an odd place
    entries = {"a": ("BOOL", [1], [0, 1]), "w": ("F32", [*x.shape], [1, 1 + x.nbytes])}
    keys = "dtype", "shape", "data_offsets"
    head = json.dumps({name: dict(zip(keys, one, strict=True)) for name, one in entries.items()})
    start = len(head).to_bytes(8, "little") + head.encode() + b"\1"
    (tmp_path / "odd.safetensors").write_bytes(start + x.tobytes())
    (tmp_path / "w.gguf").write_bytes(gguf_of(x))
    seen = 0
    for path in sorted(tmp_path.iterdir()):
        with open_container(path) as container:
            for tensor in container.tensors.values():
                if tensor.shape != x.shape:
                    continue
                with mapped.view(container, tensor, tmp_path) as found:
                    np.testing.assert_array_equal(found, x)
                    assert found.flags.writeable == resident
                    seen += 1
    assert seen == 7
    assert len([*tmp_path.iterdir()]) == 7  # temporary files have no name


def test_against_is_the_error_of_the_other_file(model: str) -> None:
    files.quantize_file(model, "other.safetensors", dtype="int8", axis=0)
    found = report.write(model, "report.html", against="other.safetensors", axis=0)
    assert found.against == "other.safetensors"
    for each in found.measured:
        assert each.against is not None
        assert each.stats is not None
        assert each.against.max_abs_error == each.stats.max_abs_error
        assert each.against.sqnr_db == pytest.approx(each.stats.sqnr_db, rel=1e-12)
        assert each.against.codes_used == each.stats.codes_used
        assert each.against.stored == "int8 along axis 0, zeropoint"
        assert each.against.bytes == each.bytes_out
    page = Page("report.html")
    assert page.tables[1][1][0] == "other.safetensors: int8 along axis 0, zeropoint"


def test_against_floats_and_blocks_and_other_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x = RNG.normal(size=(64, 96)).astype(F32)
    np.savez("x.npz", w=x, other=x)
    np.savez("half.npz", w=x.astype(np.float16), other=x[:5])
    tensors = report.write("x.npz", "r.html", against="half.npz").tensors
    found = {each.name: each for each in tensors}
    against = found["w"].against
    error = x.astype(np.float16).astype(float) - x
    assert against is not None
    assert against.max_abs_error == np.abs(error).max()
    ratio = (x.astype(float) ** 2).sum() / (error**2).sum()
    assert against.sqnr_db == pytest.approx(10 * np.log10(ratio))
    assert (against.stored, against.codes_used) == ("float16, not quantized", None)
    assert found["other"].note == "half.npz has it with shape [5, 96]"
    assert found["other"].stats is None  # so that all figures are of the same file
    # one tensor each: they belong together, whatever their names are
    Path("w.gguf").write_bytes(gguf_of(x))
    np.save("x.npy", x)
    [each] = report.write("x.npy", "r.html", against="w.gguf").tensors
    assert each.sqnr_db == math.inf
    blocks = quantize_q8_0(x)
    Path("q.gguf").write_bytes(made(infos=[info("w", x.shape, Q8_0)], data=blocks.tobytes()))
    [each] = report.write("x.npy", "r.html", against="q.gguf").tensors
    assert each.against is not None
    assert each.against.max_abs_error == np.abs(dequantize_q8_0(blocks).astype(float) - x).max()
    assert each.against.stored == "int8 along axis 1 in blocks of 32, gguf"
    assert each.against.bytes == blocks.nbytes
    assert (each.first_code, len(each.codes)) == (-127, 255)


def test_advice_is_for_the_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = (RNG.normal(size=(32, 64)) * 4.0 ** np.arange(-16, 16)[:, None]).astype(F32)
    np.save("x.npy", x)
    [each] = report.write("x.npy", "r.html").tensors
    assert each.advice is not None
    assert "a scale per channel (--axis 0)" in each.advice
    files.quantize_file("x.npy", "q.safetensors", dtype="int8", axis=0)
    [each] = report.write("x.npy", "r.html", against="q.safetensors").tensors
    assert each.advice is not None
    assert "a scale per channel" not in each.advice  # it has one
    [each] = report.write("x.npy", "r.html", against="x.npy").tensors
    assert each.advice == "Nothing is lost."
    y = x.copy()
    y[3, 5] = np.nan
    np.save("y.npy", y)
    [each] = report.write("x.npy", "r.html", against="y.npy").tensors
    assert each.advice == "Values have become NaN or Inf."
    assert math.isnan(each.max_abs_error)
    assert each.sqnr_db == -math.inf
    with pytest.raises(ValueError, match="has no float or quantized tensor that q.safetensors has"):
        report.write("q.safetensors", "r.html", against="x.npy")


def test_advice_names_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", (100 + np.linspace(0, 1, 500)).astype(F32))
    [each] = report.write("x.npy", "r.html", symmetric=True).tensors
    assert each.advice is not None
    assert "zero not included (without --symmetric --no-include-zero)" in each.advice
    [each] = report.write("x.npy", "r.html", include_zero=False).tensors
    assert each.advice == "Nothing that was tried gains 1 dB."
    np.save("x.npy", np.linspace(-1, 1, 500, dtype=F32))
    [each] = report.write("x.npy", "r.html", qmin=0, qmax=15).tensors
    assert each.advice is not None
    assert each.advice.endswith("all 256 codes).")


def test_against_tells_codes_from_copies(capsys: pytest.CaptureFixture[str], model: str) -> None:
    files.quantize_file(model, "other.safetensors", include=["*weight"])
    text = run(capsys, "report", model, "-o", "r.html", "--against", "other.safetensors")
    found = report.write(model, "r.html", against="other.safetensors")
    n, all_of_them = len(found.measured), len(found.tensors)
    assert 0 < len(found.quantized) < n
    assert f"\n{n} of {all_of_them} tensors compared with other.safetensors, " in text
    assert f" {len(found.quantized)} of them quantized there\n" in text
    worst = min(each.sqnr_db for each in found.quantized)
    assert f"worst SQNR<dd>{worst:.2f} dB" in Page("r.html").source
    told = [each.advice for each in found.quantized if each.advice and "less error" in each.advice]
    assert told
    assert all(each.startswith("In zeropoint's own format less error: ") for each in told)


def test_nothing_measured(capsys: pytest.CaptureFixture[str], model: str) -> None:
    text = run(capsys, "report", model, "-o", "r.html", "--axis", "7").splitlines()
    assert text[2] == "0 of 6 tensors measured: int8, axis 7"
    assert len(text) == 3 + 3
    assert all(line.endswith("none of them 7") for line in text[3:])
    assert "nan" not in Page("r.html").source


def test_codes_alone(model: str) -> None:
    files.quantize_file(model, "q.safetensors", dtype="int8", axis=0)
    found = report.write("q.safetensors", "report.html")
    codes = files.load("q.safetensors")
    by_name = {each.name: each for each in found.tensors}
    for name, (q, _) in codes.items():
        each = by_name[name]
        assert list(each.codes) == counted(q)
        assert each.stats is None
        assert each.note is not None
        assert each.note.startswith("it is quantized already (int8 along axis 0, zeropoint): ")
        assert each.note.endswith("for its error report the file of the floats, against this one")
    assert found.bytes_in == sum(each.bytes for each in files.inspect_file("q.safetensors").tensors)
    assert [each.name for each in found.measured] == ["model.0.bias", "scalar"]  # not in codes
    assert Page("report.html").source.count("<details") == len(found.tensors) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "r.htm"}, "target 'r.htm' must be the name of a .html file"),
        ({"target": "no/r.html"}, "there is no directory"),
        ({"source": "no.npy"}, "No such file"),
        ({"source": "x.txt"}, "does not end in .npy, .npz, .safetensors or .gguf"),
        ({"dtype": "int4"}, "int4"),
        ({"axes": 1}, "write has no keyword 'axes'; it has dtype, "),
        ({"block_size": 32}, "block_size 32 needs an axis"),
        ({"against": "x.npy"}, "x.npy: against has no float or quantized tensor that model.saf"),
    ],
)
def test_wrong_arguments_leave_nothing(model: str, arguments: dict[str, Any], message: str) -> None:
    np.save("x.npy", np.arange(3))
    before = sorted(Path().iterdir())
    how = {"source": model, "target": "r.html"} | arguments
    with pytest.raises((ValueError, TypeError, OSError), match=re.escape(message)):
        report.write(how.pop("source"), how.pop("target"), **how)
    assert sorted(Path().iterdir()) == before


def test_the_old_page_stays_until_the_new_one_is_whole(model: str) -> None:
    Path("r.html").write_text("old")

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report.write(model, "r.html", progress=stop)
    assert Path("r.html").read_text() == "old"
    assert sorted(each.name for each in Path().iterdir()) == ["model.safetensors", "r.html"]
    steps: list[tuple[int, int]] = []
    report.write(model, "r.html", progress=lambda *step: steps.append(step))
    total = sum(each.nbytes for each in TENSORS.values())
    assert steps == sorted(steps)
    assert steps[-1] == (total, total)
    assert len(steps) > 6 * 10
    assert Path("r.html").read_text().startswith("<!doctype html>")


def test_a_page_of_many_tensors_is_small(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    some = report.write(model, "report.html", axis=0).measured[:3]
    layer = "model.layers.%d.self_attention.query_projection.weight"
    many = [dataclasses.replace(some[i % 3], name=layer % i) for i in range(1000)]
    many[7] = dataclasses.replace(many[7], name="<script>")
    one = report.Report("model", "int8, per tensor", 1, 1, tuple(many))
    page = _report_page.html(one)
    assert len(page.encode()) < 2_000_000
    assert page.count("<details") == page.count("<a href=#t") - 3 == 1000
    assert "<script>" not in page
    long = [dataclasses.replace(each, name=f"{i}{'重' * 190}") for i, each in enumerate(many)]
    page = _report_page.html(dataclasses.replace(one, tensors=tuple(long)))
    assert len(page.encode()) < 2_000_000
    monkeypatch.setattr(_report_page, "_ROOM", 300_000)
    page = _report_page.html(one)
    assert 20 < page.count("<details") == page.count("<a href=#t") - 3 < 100
    assert 270_000 < len(page.encode()) < 310_000
    assert f"The other {1000 - page.count('<details')} tensors are left out" in page


JOB = """
import resource, sys
import numpy as np
from zeropoint import report
report.write("small.npy", "r.html")  # starts the threads
held = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (held + int(sys.argv[1]), -1))
try:
    whole = np.ones(33 << 18, np.float32)
except MemoryError:
    report.write(sys.argv[2], "r.html")
    print("fine")
"""


@pytest.mark.slow("a process, and 34 MiB")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_a_tensor_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("small.npy", np.ones((64, 64), F32))
    x = np.zeros((2112, 4096), F32)
    x[::64] = RNG.normal(size=(33, 4096))
    np.savez_compressed("large.npz", w=x)
    assert x.nbytes > tiles.RESIDENT
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(30 << 20), "large.npz"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert _cli.main([*arguments]) == 0
    return capsys.readouterr().out


def test_the_command(capsys: pytest.CaptureFixture[str], model: str) -> None:
    text = run(capsys, "report", model, "-o", "r.html", "--axis", "0", "--symmetric")
    lines = text.splitlines()
    total = sum(each.nbytes for each in TENSORS.values())
    assert lines[0] == f"source  {model} ({total:,} bytes of tensors)"
    assert lines[1] == f"target  r.html ({Path('r.html').stat().st_size:,} bytes)"
    assert lines[2] == "4 of 6 tensors measured: int8, symmetric, axis 0"
    assert len(lines) == 3 + 3
    assert run(capsys, "report", model, "-o", "r.html", "--quiet") == ""
    found = json.loads(run(capsys, "report", model, "-o", "r.html", "--json"))
    again = report.write(model, "r.html")
    assert [each["name"] for each in found["tensors"]] == [each.name for each in again.tensors]
    assert found["tensors"][0]["stats"]["mse"] == again.tensors[0].stats.mse  # type: ignore[union-attr]
    assert "codes" not in found["tensors"][0]


def test_inspect_has_the_same_figures(capsys: pytest.CaptureFixture[str], model: str) -> None:
    lines = run(capsys, "inspect", "--stats", model).splitlines()
    assert lines[1].split()[-6:] == ["SQNR", "dB", "max", "error", "saturated", "codes"]
    found = json.loads(run(capsys, "inspect", "--stats", "--json", model))
    for each in found["tensors"]:
        x = TENSORS[each["name"]]
        stats = zp.error_stats(x, zp.choose_params(x))
        if math.isfinite(stats.sqnr_db):
            assert each["stats"] == stats.to_dict()
        [line] = [line for line in lines if line.startswith(each["name"] + " ")]
        figures = [f"{stats.sqnr_db:.2f}", f"{stats.max_abs_error:.6g}"]
        assert line.split()[-4:] == [*figures, str(stats.saturated), str(stats.codes_used)]
    assert "stats" not in json.loads(run(capsys, "inspect", "--json", model))["tensors"][0]
