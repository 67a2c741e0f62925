"""The command line: what it prints where, and its exit codes."""

import importlib.util
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import zeropoint as zp
from zeropoint import _backend, _cli, _demo, _exhaustive, _extras, _selfcheck, files
from zeropoint._files import tiles

HAS_TABLE = importlib.util.find_spec("wordllama") is not None


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """weights.npy in the current directory."""
    x = np.random.default_rng(0).normal(0.1, 1, (40, 50)).astype(np.float32)
    np.save(tmp_path / "weights.npy", x)
    monkeypatch.chdir(tmp_path)
    return x


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(_selfcheck, "_SIZES", [0, 1, 7, 33])
    for name in ("_LONG", "_MANY", "_TILED"):
        monkeypatch.setattr(_selfcheck, name, ())


def run(capsys, *arguments, code=0):
    """stdout and stderr of one command."""
    found = _cli.main(list(arguments))
    assert found == code or (code is None and found == 0)
    return capsys.readouterr()


def as_json(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ---------------------------------------------------------------------------------------------
# As a program


@pytest.mark.slow("processes")
@pytest.mark.parametrize(
    "program",
    [["-m", "zeropoint"], ["-c", "from zeropoint._cli import main; raise SystemExit(main())"]],
)
def test_as_a_program(weights, program):
    def zeropoint(*arguments):
        command = [sys.executable, "-W", "error", *program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    done = zeropoint("quantize", "weights.npy", "-o", "weights.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    done = zeropoint("dequantize", "weights.safetensors", "-o", "back.npy", "--json")
    [tensor] = as_json(done.stdout)["tensors"]
    assert (done.returncode, tensor["name"]) == (0, "weights")
    assert np.abs(np.load("back.npy") - weights).max() <= tensor["error_bound"] * 1.0001

    done = zeropoint("inspect", "none.npy")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "zeropoint: [Errno 2] No such file or directory: 'none.npy'\n"
    done = zeropoint("quantise")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_had_enough(weights):
    """No traceback and no complaint when stdout is closed early, as by `head`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "zeropoint", "info"],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_without_streams(weights, closed):
    command = f'"$0" -m zeropoint quantize weights.npy -o q.safetensors {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert zp.files.read_tensor("q.safetensors", "weights").shape == weights.shape


def test_a_name_that_stdout_cannot_show(weights):
    np.savez("unicode.npz", 层=weights)
    command = [sys.executable, "-m", "zeropoint", "quantize", "unicode.npz", "-o", "q.safetensors"]
    how = {"env": {**os.environ, "PYTHONIOENCODING": "ascii"}, "capture_output": True}
    done = subprocess.run(command, text=True, timeout=60, **how)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u5c42" in done.stdout


def test_import_of_the_package_leaves_the_files_alone():
    code = "import sys, zeropoint; assert not {'zeropoint.files', 'argparse'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---------------------------------------------------------------------------------------------
# Usage and errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("spam",),
        ("quantize",),
        ("quantize", "a.npy"),
        ("quantize", "a.npy", "-o", "b.safetensors", "--dtype", "int4"),
        ("quantize", "a.npy", "-o", "b.safetensors", "--qmin", "low"),
        ("quantize", "a.npy", "-o", "b.safetensors", "--axis", "rows"),
        ("quantize", "a.npy", "-o", "b.safetensors", "--include"),
        ("quantize", "a.npy", "-o", "b.safetensors", "--symmetric", "--zero-point-from", "max"),
        ("dequantize", "a.safetensors", "-o", "b.npy", "--dtype", "int8"),
        ("compare", "a.npy", "--axis", "rows"),
    ],
)
def test_usage_errors(capsys, arguments):
    printed = run(capsys, *arguments, code=2)
    assert printed.out == ""
    assert printed.err.startswith("usage: zeropoint")


def test_alone_it_shows_its_help(capsys):
    printed = run(capsys)
    assert printed.err == ""
    assert printed.out == run(capsys, "--help").out
    codes = re.findall(r"^  (\d+)  ", printed.out.split("\nexit codes:\n")[1], re.MULTILINE)
    assert codes == ["0", "1", "2", "130"]


COMMANDS = (
    *("demo", "info", "verify", "quantize", "dequantize", "inspect", "compare", "report"),
    *("diagnose", "calibrate"),
)


@pytest.mark.slow("runs every command")
def test_help_of_each_command_ends_with_an_example_that_works(capsys, weights, brief, monkeypatch):
    monkeypatch.setattr(_demo, "_embedding_table", lambda: (weights, "0"))
    tensors = {"fc.weight": weights, "fc.bias": weights[0]}
    safetensors.numpy.save_file(tensors, "model.safetensors")
    np.save("codes.npy", zp.quantize(weights, zp.QuantParams(0.02, 128)))
    np.savez("samples.npz", x=weights)
    onnx = pytest.importorskip("onnx")
    text = """<ir_version: 10, opset_import: ["" : 21]>
        small (float[N, 50] x) => (float[N, 50] y) {y = Relu(x)}"""
    onnx.save(onnx.parser.parse_model(text), "model.onnx")
    assert re.findall(r"^    (\w+)(?:  |$)", run(capsys, "--help").out, re.MULTILINE) == [*COMMANDS]
    for command in COMMANDS:
        [example] = run(capsys, command, "--help").out.split("\nexample:\n  zeropoint ")[1:]
        assert example.startswith(command)
        run(capsys, *shlex.split(example), code=None)


@pytest.mark.parametrize("arguments", [("--help",), ("quantize", "--help"), ("--version",)])
def test_help(capsys, arguments):
    printed = run(capsys, *arguments)
    assert printed.err == ""
    assert "zeropoint" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quantize", "none.npy", "-o", "q.safetensors"), "No such file"),
        (("quantize", "weights.npy", "-o", "q.npy"), "must be the name of a .safetensors file"),
        (("quantize", "weights.npy", "-o", "no/q.safetensors"), "there is no directory"),
        (
            ("quantize", "weights.npy", "-o", "q.safetensors", "--symmetric", "--no-include-zero"),
            "leave one out",
        ),
        (("quantize", "ints.npy", "-o", "q.safetensors"), "convert one to float16"),
        (("quantize", "bad.npy", "-o", "q.safetensors"), "does not start as a .npy file"),
        (("quantize", "weights.npy", "-o", "q.safetensors", "--axis", "2"), "none of them 2"),
        (("quantize", "weights.npy", "-o", "q.safetensors", "--block-size", "2"), "needs an axis"),
        (("quantize", "weights.npy", "-o", "q.safetensors", "--include", "x"), "matches no name"),
        (("inspect", "bad.npy"), "does not start as a .npy file"),
        (("compare", "bad.npy"), "does not start as a .npy file"),
        (("compare", "objects.npy"), "never loaded"),
        (("compare", "ints.npy"), "x has dtype int64"),
        (("compare", "weights.npy", "--axis", "2"), "axis 2 is out of bounds"),
        (("compare", "weights.txt"), "does not end in .npy, .npz, .safetensors or .gguf"),
        (("compare", "several.npz"), "has 2 float tensors; name one by --tensor: a, b"),
        (("compare", "several.npz", "--tensor", "c"), "has no tensor 'c'"),
        (("compare", "several.npz", "--tensor", "ids"), "x has dtype int64"),
        (("compare", "none.npz"), "has no float tensors"),
        (("compare", "codes.safetensors"), "has no float tensors"),  # but the scales of codes
        (("quantize", "weights.npy", "-o", "q.safetensors", "--qmin", "300"), "300"),
        (("compare", "weights.npy", "--axis", "0", "--block-size", "0"), "block_size"),
    ],
)
def test_failures_are_one_line(capsys, weights, arguments, message):
    np.save("ints.npy", np.arange(4))
    np.save("objects.npy", np.array([None]), allow_pickle=True)
    np.savez("several.npz", a=weights, b=weights[0], ids=np.arange(3))
    np.savez("none.npz")
    files.quantize_file("weights.npy", "codes.safetensors")
    with open("bad.npy", "wb") as file:
        file.write(b"spam")
    printed = run(capsys, *arguments, code=1)
    assert printed.out == ""
    assert printed.err.startswith("zeropoint: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not os.path.exists("q.safetensors")


def test_ctrl_c(capsys, weights, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "quantize_file", interrupted)
    printed = run(capsys, "quantize", "weights.npy", "-o", "q.safetensors", code=130)
    assert (printed.out, printed.err) == ("", "")


def test_out_of_memory(capsys, weights, monkeypatch):
    def hungry(*_, **__):
        raise MemoryError

    monkeypatch.setattr(zp, "compare", hungry)
    assert run(capsys, "compare", "weights.npy", code=1).err == "zeropoint: not enough memory\n"


# ---------------------------------------------------------------------------------------------
# Files


def test_quantize_options_reach_choose_params(capsys, weights):
    options = "--dtype int8 --zero-point-from max --no-include-zero --qmin -100 --qmax 100"
    run(capsys, "quantize", "weights.npy", "-o", "q.safetensors", *options.split())
    params = zp.choose_params(
        weights, "int8", zero_point_from="max", include_zero=False, qmin=-100, qmax=100
    )
    assert files.read_params("q.safetensors", "weights") == params
    codes = safetensors.numpy.load_file("q.safetensors")["weights"]
    np.testing.assert_array_equal(codes, zp.quantize(weights, params), strict=True)

    options = "--symmetric --convention xnnpack --axis 1 --block-size 7"
    run(capsys, "quantize", "weights.npy", "-o", "q.safetensors", *options.split())
    params = zp.choose_params(weights, symmetric=True, convention="torch", axis=1, block_size=7)
    assert files.read_params("q.safetensors", "weights") == params


def test_every_keyword_of_choose_params_is_an_option_with_help():
    parser = _cli._parser()
    [commands] = parser._subparsers._group_actions
    options = {action.dest: action for action in commands.choices["quantize"]._actions}
    for name in inspect.signature(zp.choose_params).parameters:
        assert name == "x" or options[name].help, name


def test_quantize_and_dequantize_report_what_they_did(capsys, weights):
    printed = run(capsys, "quantize", "weights.npy", "-o", "q.safetensors")
    assert "target  q.safetensors" in printed.out
    assert re.search(
        r"weights  float32  \[40, 50\]  8,000 -> 2,008  .* uint8 per tensor", printed.out
    )
    printed = run(capsys, "dequantize", "q.safetensors", "-o", "b.npy", "--dtype", "float64")
    assert re.search(r"weights  float64  \[40, 50\]  2,008 -> 16,000", printed.out)
    assert np.load("b.npy").dtype == np.float64
    run(capsys, "dequantize", "q.safetensors", "-o", "b.safetensors", "--dtype", "bfloat16")
    assert files.inspect_file("b.safetensors").tensors[0].dtype == "BF16"


def test_several_tensors(capsys, weights):
    np.savez("all.npz", **{"a.weight": weights, "a.bias": weights[0], "ids": np.arange(4)})
    command = ("quantize", "all.npz", "-o", "q.safetensors", "--axis", "0")
    printed = run(capsys, *command, "--include", "a.*", "--include", "i*", "--exclude", "*.bias")
    assert "uint8 along axis 0" in printed.out
    assert "kept: it is excluded" in printed.out
    assert "kept: its dtype is not quantized" in printed.out
    printed = run(capsys, *command, "--block-size", "8", "--json")
    assert {t["name"]: t["kept"] for t in as_json(printed.out)["tensors"]} == {
        "a.weight": None,
        "a.bias": None,
        "ids": "its dtype is not quantized",
    }
    printed = run(capsys, "inspect", "q.safetensors")
    assert (
        "codes of float32, zeropoint, numpy convention, along axis 0 in blocks of 8, scales [5, 50]"
        in printed.out
    )


def test_quiet(capsys, weights):
    printed = run(capsys, "quantize", "weights.npy", "-o", "q.safetensors", "--quiet")
    assert (printed.out, printed.err) == ("", "")
    printed = run(capsys, "dequantize", "q.safetensors", "-o", "b.npy", "-q", "--json")
    assert as_json(printed.out)["bytes_in"] == os.path.getsize("q.safetensors")


def test_inspect(capsys, weights):
    run(capsys, "quantize", "weights.npy", "-o", "q.safetensors")
    printed = run(capsys, "inspect", "weights.npy")
    assert "weights.npy: npy, 8,128 bytes" in printed.out
    printed = run(capsys, "inspect", "q.safetensors")
    assert "codes of float32, zeropoint, numpy convention, per tensor" in printed.out
    printed = run(capsys, "inspect", "q.safetensors", "--json")
    assert as_json(printed.out)["tensors"][2]["name"] == "weights"


def test_names_from_files_are_safe_to_print(capsys, tmp_path):
    path = tmp_path / "t.safetensors"
    safetensors.numpy.save_file({"a\x1b[31m": np.zeros(3, np.float32)}, path)
    assert "\x1b" not in run(capsys, "inspect", str(path)).out


@pytest.mark.parametrize("name", ["npy", "npz", "safetensors", "bfloat16"])
def test_compare_takes_what_inspect_takes(capsys, weights, name):
    others = {"ids": np.arange(4), "w": weights}
    if name == "npz":
        np.savez("x.npz", **others)
    elif name == "npy":
        np.save("x.npy", np.asfortranarray(weights.astype(">f4")))
    else:
        if name == "bfloat16":
            others["w"] = weights.astype(ml_dtypes.bfloat16)
        safetensors.numpy.save_file(others, "x.safetensors")
    file = f"x.{name.replace('bfloat16', 'safetensors')}"
    printed = run(capsys, "compare", file)
    assert printed.out == f"{zp.compare(others['w'])}\n"
    if name != "npy":
        assert run(capsys, "compare", file, "--tensor", "w").out == printed.out
    run(capsys, "inspect", file)


def test_one_spelling_of_dtypes(capsys, weights):
    """Of NumPy's names, in every command, whatever the words of the file are."""
    tensors = {"a": weights, "b": weights.astype(np.float16), "c": weights.astype(">f8")}
    np.savez("x.npz", **tensors, ids=np.arange(4), flag=np.array(True), z=np.array("text"))
    found = {"a": "float32", "b": "float16", "c": "float64", "ids": "int64", "flag": "bool"}
    printed = run(capsys, "inspect", "x.npz", "--json")
    dtypes = {each["name"]: each["dtype"] for each in as_json(printed.out)["tensors"]}
    assert dtypes == found | {"z": "str128"}
    np.savez("x.npz", **tensors, ids=np.arange(4), flag=np.array(True))
    for command in (
        ("quantize", "x.npz", "-o", "q.safetensors"),
        ("inspect", "x.npz"),
        ("dequantize", "q.safetensors", "-o", "back.safetensors"),
        ("inspect", "back.safetensors"),
    ):
        printed = run(capsys, *command)
        for name, dtype in found.items():
            assert re.search(rf"^{name}\s+{dtype}\s", printed.out, re.MULTILINE), printed.out
        printed = run(capsys, *command, "--json")
        assert {t["name"]: t["dtype"] for t in as_json(printed.out)["tensors"]} == found
    safetensors.numpy.save_file({"w": weights.astype(ml_dtypes.bfloat16)}, "h.safetensors")
    assert " bfloat16 " in run(capsys, "inspect", "h.safetensors").out
    raw = b'{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    with open("f8.safetensors", "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw + b"\0\0")
    assert " F8_E4M3 " in run(capsys, "inspect", "f8.safetensors").out  # NumPy has no name for it


def test_compare(capsys, weights):
    printed = run(capsys, "compare", "weights.npy")
    assert printed.out == f"{zp.compare(weights)}\n"
    printed = run(capsys, "compare", "weights.npy", "--json", "--axis", "0")
    assert as_json(printed.out)["best"] == zp.compare(weights, axis=0).to_dict()["best"]
    printed = run(capsys, "compare", "weights.npy", "--axis", "1", "--block-size", "16")
    assert printed.out == f"{zp.compare(weights, axis=1, block_size=16)}\n"


def test_json_has_no_infinity(capsys, weights):
    np.save("exact.npy", np.array([0, 255], np.float32))  # SQNR: infinite
    printed = run(capsys, "compare", "exact.npy", "--json")
    assert as_json(printed.out)["rows"][0]["stats"]["sqnr_db"] is None


# ---------------------------------------------------------------------------------------------
# Progress


class Terminal:
    """What is written to stderr, which says that it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def in_a_terminal(monkeypatch):
    """A terminal for stderr, and files in chunks that move its bar."""
    found = Terminal()
    monkeypatch.setattr(tiles, "TILE", 500)
    monkeypatch.setattr(tiles, "RESIDENT", 2000)
    monkeypatch.setattr(sys, "stderr", found)
    return found


def test_progress_in_a_terminal_is_a_bar(weights, monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    assert _cli.main(["quantize", "weights.npy", "-o", "q.safetensors"]) == 0
    bars = terminal.text.rstrip("\n").split("\r")[1:]
    assert bars[0] == f"quantize weights.npy [{'#' * 3:30}]  12%"
    assert bars[-1] == f"quantize weights.npy [{'#' * 30}] 100%"
    assert terminal.text.endswith("\n")
    terminal.text = ""
    assert _cli.main(["dequantize", "q.safetensors", "-o", "b.npy"]) == 0
    assert terminal.text.startswith("\rdequantize q.safetensors [")


def test_quiet_in_a_terminal(weights, monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    assert _cli.main(["quantize", "weights.npy", "-o", "q.safetensors", "-q"]) == 0
    assert terminal.text == ""


def test_an_error_leaves_the_line_of_the_bar(weights, monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    weights[-1, -1] = np.nan
    np.save("weights.npy", weights)
    assert _cli.main(["quantize", "weights.npy", "-o", "q.safetensors"]) == 1
    assert terminal.text.split("\n")[1].startswith(
        "zeropoint: weights.npy: tensor 'weights' has 1 NaN or Inf"
    )


def test_progress_in_a_log(capsys, weights, monkeypatch):
    """Files are silent; verify, which can take long, reports each quarter."""
    monkeypatch.setattr(tiles, "TILE", 10)
    assert run(capsys, "quantize", "weights.npy", "-o", "q.safetensors").err == ""
    rows = [_selfcheck.Row("avx2", "round", 10, 1000, 0, "")] * len(_selfcheck.OPERATIONS)
    monkeypatch.setattr(_selfcheck, "run", lambda: iter(rows))
    monkeypatch.setattr(zp, "backends", lambda: ("avx2", "reference"))
    printed = run(capsys, "verify")
    quarters = [line for line in printed.err.splitlines() if not line.startswith("NOT RUN")]
    assert quarters == [f"verify: {n}%" for n in (25, 50, 75, 100)]


# ---------------------------------------------------------------------------------------------
# This machine


def test_info(capsys, backend):
    printed = run(capsys, "info")
    assert printed.err == ""
    assert zp.__version__ in printed.out
    assert f"{backend} (named by use_backend or ZEROPOINT_BACKEND)" in printed.out
    facts = as_json(run(capsys, "info", "--json").out)
    assert facts["backends"] == list(zp.backends())
    assert facts["backend"] == backend
    assert facts["kernels"] == len(_backend.core_info().get("kernels", []))
    assert facts["vbmi"] == _backend.core_info().get("vbmi", False)
    assert ("; AVX-512 with VBMI" in printed.out) == facts["vbmi"]
    assert facts["numpy"] == np.__version__


def test_info_without_the_core(capsys, monkeypatch):
    monkeypatch.setattr(_backend, "core_info", dict)
    printed = run(capsys, "info")
    assert "absent, so calls run on NumPy" in printed.out
    assert _extras.reinstall() in printed.out
    facts = as_json(run(capsys, "info", "--json").out)
    assert (facts["kernels"], facts["compiler"]) == (0, None)


def test_verify(capsys, monkeypatch):
    """What it prints; that it finds what is wrong, and nothing else, is for test_selfcheck."""
    rows = [
        _selfcheck.Row(backend, operation, 300, 60_000, 0, "")
        for operation in _selfcheck.OPERATIONS
        for backend in zp.backends()[:-1]
    ]
    monkeypatch.setattr(_selfcheck, "run", lambda: iter(rows))
    short = run(capsys, "verify").out.splitlines()
    printed = run(capsys, "verify", "--verbose")
    for name in zp.backends()[:-1]:
        [line] = [line for line in short if line.startswith(f"{name}: ")]
        assert line.startswith(f"{name}: {len(_selfcheck.OPERATIONS)} operations, ")
        assert line.endswith(" elements, 0 differences")
    assert len(short) <= len(zp.backends())
    assert short[-1] == printed.out.splitlines()[-1]
    native = [name for name in zp.backends() if name != "reference"]
    for name in native:
        assert printed.out.count(f"\n{name} ") == len(_selfcheck.OPERATIONS)
    for kernel in _backend.core_info().get("kernels", []):
        assert kernel in " ".join(printed.out.split())
    assert ("equal the NumPy reference to the bit" in printed.out) == bool(native)
    result = as_json(run(capsys, "verify", "--json").out)
    assert result["differences"] == 0
    assert result["backends"] == native


def test_verify_fails_on_a_difference(capsys, monkeypatch):
    rows = [
        _selfcheck.Row("avx2", "quantize", 10, 1000, 0, ""),
        _selfcheck.Row("avx2", "round", 10, 1000, 3, "round_into on avx2 differs"),
    ]
    monkeypatch.setattr(_selfcheck, "run", lambda: iter(rows))
    printed = run(capsys, "verify", code=1)
    assert "3 calls differ from the NumPy reference" in printed.out
    assert "round_into on avx2 differs" in printed.out
    assert "avx2     quantize" not in printed.out  # what is fine is summed up
    printed = run(capsys, "verify", "--verbose", code=1)
    assert "avx2     quantize" in printed.out
    assert "round_into on avx2 differs" in printed.out
    assert as_json(run(capsys, "verify", "--json", code=1).out)["differences"] == 3


def test_verify_without_the_core(capsys, monkeypatch):
    monkeypatch.setattr(_backend, "core_info", dict)
    monkeypatch.setattr(_selfcheck, "run", lambda: iter([]))
    printed = run(capsys, "verify", code=1)
    assert "Nothing was verified" in printed.out
    assert "compiled core is absent" in printed.err
    assert as_json(run(capsys, "verify", "--json", code=1).out)["checked"] == []


class Answer(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("answer", "arguments", "begun"),
    [("y\n", (), True), ("", (), False), ("n\n", (), False), ("no\n", ("--yes",), True)],
)
def test_verify_of_all_zero_points_asks(capsys, monkeypatch, answer, arguments, begun):
    rows = [_selfcheck.Row("avx2", "quantize", 10, 1000, 0, "")] if begun else None
    monkeypatch.setattr(zp, "backends", lambda: ("avx2", "reference"))
    monkeypatch.setattr(_exhaustive, "hours", lambda: 7.25)
    monkeypatch.setattr(_exhaustive, "run", lambda *_, **__: iter(rows))
    monkeypatch.setattr(sys, "stdin", Answer(answer))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    command = ("verify", "--deep", "--all-zero-points", *arguments)
    printed = run(capsys, *command, code=0 if begun else 1)
    assert "all-zero-points: about 7.2 hours here (" in terminal.text
    assert ("Begin? [y/N] " in terminal.text) == (not arguments)
    assert ("All 1,000 elements are as they must be" in printed.out) == begun


def test_verify_of_all_zero_points_needs_yes_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(zp, "backends", lambda: ("avx2", "reference"))
    monkeypatch.setattr(_exhaustive, "hours", lambda: 12.3)
    monkeypatch.setattr(_exhaustive, "run", None)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    printed = run(capsys, "verify", "--all-zero-points", code=2)
    assert "about 12 hours here" in printed.err
    assert printed.err.endswith(
        "zeropoint: there is no terminal to ask whether to begin; pass --yes\n"
    )
    assert printed.out == ""


def test_verify_names_what_the_cpu_lacks(capsys, monkeypatch):
    rows = [_selfcheck.Row("avx2", "round", 10, 1000, 0, "")]
    monkeypatch.setattr(_selfcheck, "run", lambda: iter(rows))
    monkeypatch.setattr(zp, "backends", lambda: ("avx2", "reference"))
    monkeypatch.setattr(_backend, "core_info", lambda: {"isas": ["avx512", "avx2"], "kernels": []})
    assert "NOT RUN: avx512: this CPU lacks it" in run(capsys, "verify").err
    assert as_json(run(capsys, "verify", "--json").out)["not_run"] == ["avx512"]


# ---------------------------------------------------------------------------------------------
# The demo


EXAMPLE = """\
1. Three numbers in 8 bits

   numbers        -0.75         -0.45         1.75          float32: 12 bytes
   codes          0             30            254           uint8: 3 bytes, round(number / scale + \
zero point)
   numbers again  -0.74509805   -0.4509804    1.7450981     (code - zero point) * scale
   difference     0.0049019456  -0.000980407  -0.004901886  never more than half a scale
   scale 0.009803922, zero point 76 (from the maximum in place of the minimum: 77, \
codes [0, 31, 255])

"""


def test_demo_prints_the_true_numbers(capsys, monkeypatch):
    """Those that the code of the tutorial computes, which its text does not print."""
    monkeypatch.setattr(_demo, "_embedding_table", lambda: None)
    printed = run(capsys, "demo", code=1)
    assert printed.out == EXAMPLE
    assert _extras.command("demo") in printed.err


def test_demo_without_the_table_as_json(capsys, monkeypatch):
    monkeypatch.setattr(_demo, "_embedding_table", lambda: None)
    result = as_json(run(capsys, "demo", "--json", code=1).out)
    assert result["example"]["input"] == [-0.75, -0.45, 1.75]
    assert result["example"]["min"]["codes"] == [0, 30, 254]
    assert result["example"]["max"] == {
        "scale": 0.009803922,
        "zero_point": 77,
        "codes": [0, 31, 255],
        "dequantized": [-0.754902, -0.4509804, 1.7450981],
        "difference": [-0.004902005, -0.000980407, -0.004901886],
    }
    assert result["array"] is None


def test_the_table_is_absent_where_wordllama_is(monkeypatch):
    monkeypatch.setattr(_demo, "_PACKAGE", "no_such_package")
    assert _demo._embedding_table() is None


def test_demo_measures_what_it_says(capsys, monkeypatch):
    """On a small table; each figure computed here in another way."""
    stored = np.random.default_rng(0).normal(0, 0.9, (300, 16)).astype(np.float16)
    monkeypatch.setattr(_demo, "_embedding_table", lambda: (stored, "1.0"))
    monkeypatch.setattr(_demo, "_AT_ONCE", 7)  # which does not divide 300
    found = as_json(run(capsys, "demo", "--json").out)["array"]
    whole, ours, usual = found["rows"]
    x = stored.astype(np.float64)
    assert (whole["bytes"], ours["bytes"], usual["bytes"]) == (19200, 4800 + 300 * 4, 4800)
    assert found["same_codes"]
    assert found["ratio"] == found["numpy_seconds"] / ours["seconds"]

    params = zp.choose_params(stored, "int8", axis=0, symmetric=True)
    back = zp.fake_quantize(x, params)
    wrapped = (x * 127).astype(np.int64).astype(np.int8)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    for row, values in ((ours, back), (usual, wrapped / 127)):
        assert row["max_error"] == pytest.approx(np.abs(values - x).max(), rel=1e-5)
        error = np.sqrt(np.mean((values - x) ** 2) / np.mean(x**2))
        assert row["relative_error"] == pytest.approx(error, rel=1e-4)
        assert row["recall"] == pytest.approx(recall(x, values), abs=1e-3)
    assert found["unit_recall"] == pytest.approx(
        recall(x, (x / lengths * 127).astype(np.int8)), abs=1e-3
    )
    assert found["wrapped"] == pytest.approx(np.mean((x * 127 >= 128) | (x * 127 <= -129)))
    assert usual["recall"] < 0.7 < ours["recall"]

    printed = run(capsys, "demo").out.split("2. A real table: ")[1]
    assert printed.startswith("300 word vectors of 16 numbers\n")
    assert f"{10 * ours['recall']:.2f} of the 10 nearest rows" in printed
    assert f"finds {10 * usual['recall']:.2f}: {100 * found['wrapped']:.0f} % of" in printed
    assert "for the same codes" in printed
    assert max(map(len, printed.splitlines())) <= 100


def recall(x, values):
    """Of the 10 rows nearest to each by cosine, the share that `values` has too."""

    def nearest(rows, row):
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(x[row])
        order = np.argsort(-(rows @ x[row]) / np.where(norms == 0, 1, norms))
        return set([each for each in order.tolist() if each != row][:10])

    values = values.astype(np.float64)
    return np.mean([len(nearest(x, i) & nearest(values, i)) for i in range(len(x))]) / 10


@pytest.mark.slow("a real table")
@pytest.mark.skipif(not HAS_TABLE, reason="wordllama is not installed (the demo extra)")
def test_demo_on_the_embedding_table(capsys):
    before = "wordllama" in sys.modules  # by another test
    printed = run(capsys, "demo")
    assert printed.err == ""
    assert "32,000 word vectors of 256 numbers\n   (embedding.weight of wordllama" in printed.out
    assert "for the same codes" in printed.out
    assert ("wordllama" in sys.modules) == before
    _, ours, usual, *_ = re.findall(r"   .* (\d\.\d{4})  +[-\d.]+$", printed.out, re.MULTILINE)
    assert float(ours) > 0.99
    assert float(usual) < 0.2
