"""The command line on models: options of the formats, summaries of many tensors, folders."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from tests import checkpoints
from zeropoint import _cli, _cli_files, _cli_output, files
from zeropoint._files import tiles

CT = "compressed-tensors"
Q = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of two shards in the folder `model` of the current directory."""
    monkeypatch.chdir(tmp_path)
    return checkpoints.llama(tmp_path / "model", shards=2)


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of 30 layers in one small file."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    tensors = {"embed.weight": rng.normal(size=(4, 8)).astype(np.float32)}
    for layer in range(30):
        tensors[f"layers.{layer}.weight"] = rng.normal(size=(8, 8)).astype(np.float32)
        tensors[f"layers.{layer}.bias"] = rng.normal(size=8).astype(np.float32)
        tensors[f"layers.{layer}.ids"] = np.arange(2)
    tensors["layers.0.weight"] *= 2
    return checkpoints.write(tmp_path / "many.safetensors", tensors)


def run(capsys: Any, *arguments: str, code: int = 0) -> Any:
    """stdout and stderr of one command."""
    assert _cli.main([*arguments]) == code
    return capsys.readouterr()


# ---------------------------------------------------------------------------------------------
# Options

#: by the keyword that it sets: the option, and the value that the keyword then has
OPTIONS: dict[str, tuple[list[str], object]] = {
    "dtype": (["--dtype", "int8"], "int8"),
    "zero_point_from": (["--zero-point-from", "max"], "max"),
    "include_zero": (["--no-include-zero"], False),
    "symmetric": (["--symmetric"], True),
    "qmin": (["--qmin", "-100"], -100),
    "qmax": (["--qmax", "100"], 100),
    "convention": (["--convention", "onnx"], "onnx"),
    "nan_code": (["--nan-code", "-128"], -128),
    "skip_nan": (["--skip-nan"], True),
    "axis": (["--axis", "-1"], -1),
    "block_size": (["--block-size", "16"], 16),
    "include": (["--include", "a*", "--include", "b"], ["a*", "b"]),
    "exclude": (["--exclude", "c*"], ["c*"]),
    "ignore": (["--ignore", "d", "--ignore", "e"], ["lm_head", "d", "e"]),
    "scheme": (["--scheme", "W8A16"], "W8A16"),
    "scale_divisor": (["--scale-divisor", "127.5"], 127.5),
    "per_row": (["--per-row"], True),
    "column": (["--column", "a", "--column", "b"], ["a", "b"]),
    "fit": (["--fit", "params.json"], "params.json"),
}
FORMATS = {
    "zeropoint": {*OPTIONS} - {"ignore", "scheme", "scale_divisor", "per_row", "column", "fit"},
    CT: {"include", "ignore", "scheme", "scale_divisor"},
    "comfyui": {"include", "ignore", "per_row"},
    "gguf": {"include", "exclude"},
    "parquet": {"column", "fit"},
}
FORMATS["parquet"] |= FORMATS["zeropoint"] - {"block_size", "include", "exclude"}
PAIRS = [(form, name) for form in FORMATS for name in OPTIONS]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The names and keywords of functions that were called in place of the real ones."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def instead(name: str) -> Any:
        def function(src: str, dst: str, *, progress: Any, **keywords: Any) -> files.FileSummary:
            calls.append((name, keywords))
            shown = files.TensorSummary("w", (2,), "float32", "int8", None, None, 8, 6, 0.5)
            return files.FileSummary(src, dst, 8, 6, (shown,))

        return function

    for name in ("quantize_file", "quantize_checkpoint", "dequantize_file"):
        monkeypatch.setattr(files, name, instead(name))
    return calls


def command(form: str, *more: str) -> list[str]:
    target = f"q.{form}" if form in ("gguf", "parquet") else "q"
    return ["quantize", "model", "-o", target, "--format", form, *more]


@pytest.mark.parametrize("form", FORMATS)
def test_every_option_of_a_format_reaches_its_function(form, called, capsys):
    for name in FORMATS[form] - {"symmetric"}:
        words, value = OPTIONS[name]
        run(capsys, *command(form, *words))
        function, keywords = called.pop()
        if form in (CT, "comfyui"):
            assert (function, keywords.pop("format")) == ("quantize_checkpoint", form)
        else:
            assert function == "quantize_file"
        assert keywords == {name: value, "stats": False}
    run(capsys, *command(form, "--stats"))
    assert called.pop()[1]["stats"] is True


@pytest.mark.parametrize(
    ("form", "name"), [pair for pair in PAIRS if pair[1] not in FORMATS[pair[0]]]
)
def test_an_option_of_another_format_is_wrong_usage(form, name, called, capsys):
    words, _ = OPTIONS[name]
    printed = run(capsys, *command(form, *words), code=2)
    assert not called
    assert printed.out == ""
    assert printed.err.startswith(f"zeropoint: {words[0]} is an option of --format ")
    assert f"the format here is {form}, which takes --" in printed.err
    assert printed.err.count("\n") == 1
    owners = printed.err.split("--format ")[1].split(";")[0].split(" or ")
    assert owners == [form for form, names in FORMATS.items() if name in names]


def test_the_format_follows_from_the_target(called, capsys):
    run(capsys, "quantize", "m.gguf", "-o", "q.gguf", "--exclude", "output.weight")
    run(capsys, "quantize", "m", "-o", "q", "--axis", "0")
    assert [name for name, _ in called] == ["quantize_file"] * 2
    printed = run(capsys, "quantize", "m.gguf", "-o", "q.gguf", "--axis", "0", code=2)
    assert (
        "--axis is an option of --format zeropoint or parquet; the format here is gguf, the default"
        in printed.err
    )
    printed = run(capsys, "quantize", "m", "-o", "q", "--per-row", code=2)
    assert "option of --format comfyui; the format here is zeropoint, the default" in printed.err


@pytest.mark.parametrize("form", [CT, "comfyui", "zeropoint"])
def test_a_gguf_file_is_of_one_format(form, called, capsys):
    printed = run(capsys, "quantize", "m", "-o", "q\x1b.gguf", "--format", form, code=2)
    assert f"--format {form} and -o q\\x1b.gguf do not go together" in printed.err
    printed = run(capsys, "quantize", "m", "-o", "q", "--format", "gguf", code=2)
    assert "--format gguf and -o q do not go together" in printed.err
    assert not called


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "gptq"),
        ("--format", CT, "--scheme", "W4A16"),
        ("--format", CT, "--scale-divisor", "x"),
        ("--format", CT, "--ignore"),
    ],
)
def test_wrong_values(words, called, capsys):
    printed = run(capsys, "quantize", "m", "-o", "q", *words, code=2)
    assert printed.err.startswith("usage: zeropoint quantize")
    assert not called


def test_every_option_is_of_some_format():
    """Those of the parser, of the table and of this file are the same."""
    [commands] = _cli._parser()._subparsers._group_actions
    every = {each.dest for each in commands.choices["quantize"]._actions}
    common = {"help", "json", "file", "output", "format", "stats", "verbose", "quiet"}
    assert every - common == {*OPTIONS}
    assert {form: {*names} for form, names in _cli_files._FORMATS.items()} == FORMATS


# ---------------------------------------------------------------------------------------------
# Summaries


def test_the_summary_of_a_model(llama, capsys):
    (llama / "pytorch_model.bin").write_bytes(b"other")
    printed = run(capsys, "quantize", "model", "-o", "q", "--format", CT, "--stats").out
    done = files.quantize_checkpoint("model", "r", format=CT, stats=True)
    header = re.search(r"^tensor +dtype +shape +bytes +error +SQNR dB$", printed, re.MULTILINE)
    assert header
    for each in done.tensors:
        [line] = re.findall(rf"^{re.escape(each.name)} .*$", printed, re.MULTILINE)
        if each.kept is None:
            sizes = f"{each.bytes_in:,} -> {each.bytes_out:,}"
            figures = f"{each.error_bound:.4g} +{each.sqnr_db:.1f}"
            assert re.search(rf" {sizes} +{figures}  int8 along axis 0$", line)
        else:
            assert line.endswith(f"  kept: {each.kept}")
            assert f" {each.bytes_in:,} " in line
    changed = [each for each in done.tensors if each.kept is None]
    before, after = sum(t.bytes_in for t in changed), sum(t.bytes_out for t in changed)
    assert f"\nquantized: 14 tensors, {before:,} -> {after:,} bytes\nkept: 7 tensors, " in printed
    assert (
        "\nleft out: pytorch_model.bin: it may hold weights in another form; they are read from "
        in printed
    )
    assert printed.splitlines()[0] == f"source  model ({done.bytes_in:,} bytes)"
    assert printed.splitlines()[1] == f"target  q ({done.bytes_out:,} bytes)"

    printed = run(capsys, "dequantize", "q", "-o", "back").out
    assert f"\ndequantized: 14 tensors, {after:,} -> {before:,} bytes\n" in printed
    assert "SQNR" not in printed


def test_many_tensors_are_groups(many, capsys):
    options = ["-o", "q.safetensors", "--exclude", "*.bias", "--exclude", "embed*", "--stats"]
    printed = run(capsys, "quantize", "many.safetensors", *options).out
    done = files.quantize_file(many, "r.safetensors", exclude=["*.bias", "embed*"], stats=True)
    changed = [each for each in done.tensors if each.kept is None]
    bound = max(each.error_bound for each in changed)
    low, high = (pick(each.sqnr_db for each in changed) for pick in (min, max))
    assert f"{low:.1f}" < f"{high:.1f}"
    rows = printed.split("\n\n")[1].splitlines()
    assert " ".join(rows[0].split()) == "tensor dtype tensors shape bytes error SQNR dB"
    assert re.fullmatch(
        rf"layers\.\*\.weight  float32 +30 +\[8, 8\]  7,680 -> 2,160  {bound:.4g}"
        rf"  {low:.1f} to {high:.1f}  uint8 per tensor",
        rows[1],
    )
    assert len(rows) == 2
    assert printed.split("\n\n")[2].splitlines()[:4] == [
        "quantized: 30 tensors, 7,680 -> 2,160 bytes",
        "kept: 61 tensors, 1,568 bytes",
        "  embed.weight, layers.*.bias (30): it is excluded",
        "  layers.*.ids (30): its dtype is not quantized",
    ]


def test_every_tensor_of_many_on_demand(many, capsys):
    command = ["quantize", "many.safetensors", "-o", "q.safetensors"]
    printed = run(capsys, *command, "--verbose").out
    names = {each.name for each in files.inspect_file(many).tensors}
    assert {line.split()[0] for line in printed.split("\n\n")[1].splitlines()[1:]} == names
    printed = run(capsys, *command, "--json").out
    assert {each["name"] for each in json.loads(printed)["tensors"]} == names


def test_what_shares_a_row():
    def tensor(name: str, **fields: Any) -> files.TensorSummary:
        usual = {"shape": (4, 4), "dtype": "float32", "codes": "int8", "axis": 0}
        usual |= {"block_size": None, "bytes_in": 64, "bytes_out": 32}
        return files.TensorSummary(name, **usual | fields)

    groups = _cli_files._alike(
        [
            tensor("h.0.w1", error_bound=1.0),
            tensor("h.1.w1", error_bound=2.0),
            tensor("h.0.w2"),
            tensor("h.2.w1", shape=(16,)),
            tensor("h.10.w1"),
        ]
    )
    names = [[each.name for each in group] for group in groups]
    assert names == [["h.0.w1", "h.1.w1", "h.10.w1"], ["h.0.w2"], ["h.2.w1"]]
    assert [_cli_files._pattern(each) for each in names] == ["h.*.w1", "h.0.w2", "h.2.w1"]
    spread = [tensor(f"h.{i}", sqnr_db=each) for i, each in enumerate((43.21, 110.0, 100.0, 43.2))]
    assert _cli_files._row(spread)["SQNR dB"] == "43.2 to 110.0"
    assert _cli_files._row([spread[0], spread[3]])["SQNR dB"] == "43.2"
    assert _cli_files._pattern(["a.1.b.0", "a.1.b.1"]) == "a.1.b.*"
    assert _cli_files._pattern(["m-01-of-02.bin", "m-02-of-02.bin"]) == "m-*-of-02.bin"
    assert _cli_files._listed([f"x{c}" for c in "abcdefghijkl"]) == (
        "xa, xb, xc, xd, xe, xf, xg, xh, xi, xj and 2 more"
    )


def test_what_is_left_out_of_many_files(llama, capsys):
    for i in range(12):
        (llama / f"pytorch_model-{i:05}-of-00012.bin").write_bytes(b"other")
    printed = run(capsys, "quantize", "model", "-o", "q").out
    [line] = [line for line in printed.splitlines() if line.startswith("left out")]
    assert line.startswith("left out: pytorch_model-*-of-00012.bin (12): it may hold weights in")


# ---------------------------------------------------------------------------------------------
# Inspect and compare


@pytest.mark.parametrize("scheme", ["W8A8", "W8A16"])
def test_inspect_shows_a_row_for_each_tensor_that_people_know(llama, capsys, scheme):
    files.quantize_checkpoint("model", "q", format=CT, scheme=scheme)
    printed = run(capsys, "inspect", "q").out.splitlines()
    info = files.inspect_file("q")
    assert printed[0] == f"q: folder, 2 files, {info.bytes:,} bytes"
    assert printed[1].split() == ["tensor", "dtype", "shape", "bytes", "file"]
    rows = printed[2:-1]
    names = {each.name for each in files.inspect_file(llama).tensors}
    assert {row.split()[0] for row in rows} == names
    assert len(rows) == len(names)
    parts = [each for each in info.tensors if each.name.startswith(Q)]
    size = sum(each.bytes for each in parts)
    [row] = [row for row in rows if row.startswith(Q)]
    high, wide = files.read_tensor(llama, Q).shape
    where = f"0, scales [{high}]"
    if scheme == "W8A16":
        where = f"1 in blocks of 128, scales [{high}, {wide // 128}]"
    assert re.fullmatch(
        rf"{Q} +int8 +\[{high}, {wide}\] +{size:,}  model-00001-of-00002.safetensors  codes of "
        rf"float32, {CT} (int|pack)-quantized, numpy convention, along axis {re.escape(where)}",
        row,
    )
    total = sum(each.bytes for each in info.tensors)
    assert printed[-1].startswith(f"21 tensors, {total:,} bytes; 14 quantized, ")

    found = json.loads(run(capsys, "inspect", "q", "--json").out)
    assert [each["name"] for each in found["tensors"]] == [each.name for each in info.tensors]
    assert {each["file"] for each in found["tensors"]} == {
        *json.loads((llama / "model.safetensors.index.json").read_text())["weight_map"].values()
    }
    every = [each["quantized"] for each in found["tensors"] if each["quantized"]]
    assert len(every) == 14
    [described] = [each for each in every if each["name"] == Q]
    assert described["shape"] == [high, wide]
    assert {*described["parts"]} == {each.name for each in parts}


def test_inspect_of_one_file_has_no_column_of_files(tmp_path, capsys):
    model = checkpoints.llama(tmp_path / "model")
    printed = run(capsys, "inspect", str(model)).out.splitlines()
    assert printed[0].startswith(f"{model}: folder, ")
    assert printed[1].split() == ["tensor", "dtype", "shape", "bytes"]
    assert files.inspect_file(model / "model.safetensors").tensors[0].file is None
    assert printed[-1].startswith("21 tensors, ")


def test_compare_takes_a_tensor_of_a_folder(llama, capsys):
    norm = "model.norm.weight"
    printed = run(capsys, "compare", "model", "--tensor", norm).out
    assert printed == f"{zp.compare(files.read_tensor(llama, norm))}\n"
    assert "has 21 float tensors; name one by --tensor: " in (
        run(capsys, "compare", "model", code=1).err
    )
    run(capsys, "quantize", "model", "-o", "out", "--format", CT, "--scheme", "W8A16")
    query = "model.layers.0.self_attn.q_proj.weight"
    for name in (query, f"{query}_packed"):
        printed = run(capsys, "compare", "out", "--tensor", name, code=1)
        assert f"out: {name} is quantized already; pass the file that" in printed.err


# ---------------------------------------------------------------------------------------------
# Progress


class Terminal:
    """What is written to stderr, which says that it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found


def test_progress_is_that_of_the_whole_folder(llama, monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    monkeypatch.setattr(tiles, "TILE", 10_000)
    monkeypatch.setattr(_cli_output, "_SHOWN_AFTER", 0)
    arguments = ["quantize", "model", "-o", "q", "--format", CT]
    assert _cli.main(arguments) == 0
    bars = terminal.text.rstrip("\n").split("\r")[1:]
    shown = [
        int(re.fullmatch(r"quantize model \[#* *\] +(\d+)%  [\d,]+ MB/s .* left *", bar)[1])
        for bar in bars
    ]
    assert shown == sorted({*shown})
    assert len(shown) > 20
    assert shown[-1] == 100


def test_a_long_job_shows_its_pace(monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    clock = [0.0]
    monkeypatch.setattr(_cli_output.time, "monotonic", lambda: clock[0])
    with _cli_output.Progress("quantize m", of_bytes=True) as bar:
        for clock[0], done in (
            (0.5, 1),
            (1.0, 100),
            (2.0, 200),
            (2.5, 201),
            (4.0, 202),
            (5.0, 2000),
        ):
            bar(done * 10**6, 2000 * 10**6)
    assert terminal.text.split("\r")[1:] == [
        f"quantize m [{'':30}]   0%",
        f"quantize m [{'#':30}]   5%",
        f"quantize m [{'###':30}]  10%  100 MB/s  0:00:18 left",
        f"quantize m [{'###':30}]  10%  50 MB/s  0:00:36 left ",  # covers the longer line
        f"quantize m [{'#' * 30}] 100%  400 MB/s  0:00:00 left\n",
    ]
    terminal.text = ""
    clock[0] = 0.0
    with _cli_output.Progress("verify") as bar:
        clock[0] = 10.0
        bar(1, 2)
    assert terminal.text == f"\rverify [{'#' * 15:30}]  50%\n"


def test_a_bar_fits_its_terminal(monkeypatch):
    """A line that wraps would stay, one for each step."""
    terminal = in_a_terminal(monkeypatch)
    monkeypatch.setattr(_cli_output, "_SHOWN_AFTER", 0)
    for columns in 80, 100, 140:
        monkeypatch.setenv("COLUMNS", str(columns))
        terminal.text = ""
        with _cli_output.Progress(f"quantize {'a' * 50}/{'b' * 50}", of_bytes=True) as bar:
            bar(1, 100)
        line = terminal.text.strip("\r\n")
        assert line.startswith("quantize")
        assert re.search(r"b \[ {30}\]   1%  [\d,]+ MB/s  .* left$", line)
        assert columns - 5 < len(line) < columns


def test_options_that_were_not_given_are_absent():
    """What `choose_params` and the others have as defaults stands in one place."""
    options = _cli._parser().parse_args(["quantize", "m", "-o", "q"])
    assert isinstance(options, argparse.Namespace)
    assert not {*vars(options)} & {*OPTIONS}
