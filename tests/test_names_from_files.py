"""What others wrote is shown and not obeyed: names and texts of files, wherever text is made.

A name may hold escape sequences of the terminal, ends of lines, and marks that turn the direction
of the text.  Every message, table and line of the command line is walked with such names.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import _checks, _cli, files
from zeropoint.interop import litert

from . import gguf_parts as gguf

#: ESC, BEL, CR, LF, CSI in one character, a bidi override and isolate, a line separator, DEL
MARKS = "\x1b]0;owned\x07\x1b[31m\r\n\x9b2J\u202e\u2066\u2028\x7f"
READABLE = "größe.重み"  # as it stands
PATH = f"{READABLE}{MARKS}\udc9b"  # what a file may be called: half a surrogate pair is a byte
TEXT = f"{READABLE}{MARKS}\0"  # what UTF-8 can hold
NAME = f"{READABLE}{MARKS}\0\udc9b"  # what a string can hold
LONG = 10_000 * "\x1b[1m"


def check(text: str, *, lines: int = 1, readable: bool = True) -> None:
    """Nothing in `text` but printable characters, in so many lines."""
    found = text.removesuffix("\n").split("\n")
    assert len(found) == lines, text
    for line in found:
        assert line.isprintable(), ascii(line)
    assert not readable or READABLE in text, text


def refusal(call: Callable[..., object], *args: Any, readable: bool = True, **keywords: Any) -> str:
    """The message of the error, checked."""
    with pytest.raises((ValueError, TypeError, OSError)) as raised:
        call(*args, **keywords)
    check(str(raised.value), readable=readable)
    return str(raised.value)


def checked(call: Callable[..., object], *args: Any, **keywords: Any) -> object:
    """The result; the message is checked if there is none."""
    try:
        return call(*args, **keywords)
    except (ValueError, TypeError, OSError) as error:
        check(str(error), readable=False)
        return error


def mutants(value: Any) -> Iterator[Any]:
    """`value` with each part of it, at any depth, replaced by a hostile string, or named by one."""
    yield NAME
    if isinstance(value, dict):
        for key, item in value.items():
            rest = {k: v for k, v in value.items() if k != key}
            yield {**rest, NAME: item}
            yield from ({**value, key: mutant} for mutant in mutants(item))
        yield {**value, NAME: NAME}
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from ([*value[:i], mutant, *value[i + 1 :]] for mutant in mutants(item))


# ---------------------------------------------------------------------------------------------
# The one function


def test_printable() -> None:
    assert _checks.printable(READABLE) == READABLE  # nothing to do
    assert _checks.printable("a\\x1b 'b'") == "a\\x1b 'b'"
    assert _checks.printable("a\x1b\r\n\u202e\0\udc9b\x9b") == r"a\x1b\r\n\u202e\x00\udc9b\x9b"
    assert _checks.printable(3.5) == "3.5"
    assert _checks.printable("0123456789", 10) == "0123456789"
    assert _checks.printable("0123456789x", 10) == "01234...6789x"
    for code in (*range(0xE000), 0xE0001):  # every control, mark and half of a pair among them
        assert _checks.printable(f"a{chr(code)}b").isprintable()


def test_shown() -> None:
    class Odd:
        def __repr__(self) -> str:
            return NAME

    check(_checks.shown(Odd()))
    check(_checks.shown([NAME, {NAME: NAME}]))
    assert _checks.shown(READABLE) == repr(READABLE)


# ---------------------------------------------------------------------------------------------
# Files


def safetensors(header: Any, data: bytes = b"", path: Path = Path()) -> Path:
    raw = json.dumps(header).encode()  # with every character as an escape of JSON
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def quantized(tmp_path: Path) -> Path:
    """A file of one quantized tensor and metadata, all with hostile names."""
    source = tmp_path / f"{PATH}.safetensors"
    header = {
        "__metadata__": {TEXT: TEXT},
        TEXT: {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
    }
    safetensors(header, np.linspace(-1, 1, 12, dtype="<f4").tobytes(), source)
    target = tmp_path / f"{PATH}.q8.safetensors"
    files.quantize_file(source, target, axis=0)
    return target


def test_every_part_of_a_header(tmp_path: Path) -> None:
    good = quantized(tmp_path).read_bytes()
    (length,) = struct.unpack("<Q", good[:8])
    header, data = json.loads(good[8 : 8 + length]), good[8 + length :]
    inner = json.loads(header["__metadata__"]["zeropoint.tensors"])
    found = list(mutants(header))
    for mutant in mutants(inner):
        metadata = header["__metadata__"] | {"zeropoint.tensors": json.dumps(mutant)}
        found.append(header | {"__metadata__": metadata})
    assert len(found) > 60
    refused = 0
    for mutant in found:
        path = safetensors(mutant, data, tmp_path / f"{PATH}.mutant.safetensors")
        found_there = checked(files.inspect_file, path)
        check(repr(found_there), readable=False)
        refused += isinstance(found_there, Exception)
        checked(files.read_params, path, TEXT)
        checked(files.read_tensor, path, NAME)
    assert refused > 40


def test_names_and_keys_of_a_gguf_file(tmp_path: Path) -> None:
    path, target = tmp_path / f"{PATH}.gguf", tmp_path / f"{PATH}.q.gguf"
    key, weight = gguf.u32(TEXT, 1), f"{TEXT}.weight"
    numbers = np.linspace(-1, 1, 128, dtype="<f4").tobytes()
    refused = {
        "twice": gguf.made([key, key]),
        "of type 13": gguf.made([gguf.pair(TEXT, 13, b"")]),
        "unknown type": gguf.made([], [gguf.info(TEXT, kind=31)]),
        "cannot have the shape": gguf.made([], [gguf.info(TEXT, (3,), 8)]),
        "starts at 7": gguf.made([], [gguf.info(TEXT, offset=7)], numbers),
        "quantized already": gguf.made([], [gguf.info(weight, (2, 256), 12)], bytes(288)),
        "NaN": gguf.made([], [gguf.info(weight)], b"\xff" * 512),
        "float16 cannot hold": gguf.made([], [gguf.info(weight)], b"\x7f" * 512),
        "nothing is left": gguf.made([], [gguf.info(TEXT)], numbers),
    }
    for words, content in refused.items():
        path.write_bytes(content)
        assert words in refusal(files.quantize_file, path, target)
    path.write_bytes(
        gguf.made([key, gguf.pair("a", gguf.STRING, gguf.text(TEXT))], [gguf.info(weight)], numbers)
    )
    for done in (files.quantize_file(path, target), files.inspect_file(path)):
        check(repr(done))
    assert checked(files.read_params, target, weight) == files.read_params(target, weight)


def test_errors_of_files_with_hostile_names(tmp_path: Path) -> None:
    def at(name: str) -> Path:
        return tmp_path / f"{PATH}{name}"

    target = at(".out.safetensors")
    for suffix in (".npy", ".npz", ".safetensors", ".gguf"):
        at(suffix).write_bytes(b"no such file")
        refusal(files.inspect_file, at(suffix))
        refusal(files.quantize_file, at(suffix), target)
        at(f".directory{suffix}").mkdir()
        refusal(files.inspect_file, at(f".directory{suffix}"))
        refusal(files.inspect_file, at(f".missing{suffix}"))
    refusal(files.inspect_file, at(".csv"))
    refusal(files.quantize_file, at(".npy"), at(".csv"))
    refusal(files.quantize_file, at(".npy"), at(".npy"))
    refusal(files.quantize_file, at(".npy"), tmp_path / PATH / "no.safetensors")
    np.save(at(".ints.npy"), np.arange(3))
    assert "no float tensor" in refusal(files.quantize_file, at(".ints.npy"), target)
    np.save(at(".dates.npy"), np.zeros(3, "M8[s]"))
    np.save(at(".nan.npy"), np.float32([1, np.nan]))
    refusal(files.quantize_file, at(".nan.npy"), target)
    np.save(at(".same.npy"), np.ones(3, np.float32))
    refusal(files.quantize_file, at(".same.npy"), target, include_zero=False)
    refusal(files.quantize_file, at(".same.npy"), target, axis=3)
    refusal(files.dequantize_file, at(".same.npy"), target)
    refusal(files.quantize_file, at(".same.npy"), target, convention=NAME)
    refusal(files.quantize_file, at(".same.npy"), target, **{NAME: 3})
    checked(files.quantize_file, at(".same.npy"), target, exclude=NAME)
    q8 = quantized(tmp_path)
    for function in (files.read_tensor, files.read_params):
        refusal(function, q8, NAME)
    refusal(files.dequantize_file, q8, at(".npy"), dtype=NAME)
    content = q8.read_bytes()
    q8.write_bytes(content[:-1])
    refusal(files.dequantize_file, q8, target)


def test_members_of_archives(tmp_path: Path) -> None:
    member = TEXT[:-1]  # the directory of a zip file ends names at a NUL
    path = tmp_path / f"{PATH}.npz"

    def written(*members: tuple[str, bytes]) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path

    def npy(x: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, x, allow_pickle=True)
        return file.getvalue()

    good = npy(np.ones((3, 4), np.float32))
    written((f"{member}.npy", good))
    (tensor,) = files.inspect_file(path).tensors
    assert tensor.name == member
    checked(files.quantize_file, path, tmp_path / "q.safetensors", axis=5)
    for members in (
        [(member, good)],
        [(f"{member}.npy", good[:-1])],
        [(f"{member}.npy", good[:20])],
        [(f"{member}.npy", b"no array")],
        [(f"{member}.npy", npy(np.array([None])))],
        [(f"{member}.npy", npy(np.zeros(2, [("x", "f4")])))],
        [(f"{member}.npy", good.replace(b"'<f4'", b"'\x1b4'"))],
        [(f"{member}.npy", good.replace(b"NUMPY\x01", b"NUMPY\x1b"))],
    ):
        refusal(files.inspect_file, written(*members))
    content = written((f"{member}.npy", good)).read_bytes()
    path.write_bytes(content.replace(member.encode(), member.encode()[::-1], 1))
    refusal(files.quantize_file, path, tmp_path / "q.safetensors", readable=False)
    path.write_bytes(content[:-30])
    refusal(files.inspect_file, path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[str, str]:
    """What the command line prints, on terminals."""
    out, err = Terminal(), Terminal()
    monkeypatch.setenv("COLUMNS", "400")  # the bar has room for the whole path
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    _cli.main(list(map(str, arguments)))
    monkeypatch.undo()
    return out.getvalue(), err.getvalue()


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q8 = quantized(tmp_path)
    source = tmp_path / f"{PATH}.safetensors"
    target = tmp_path / f"{PATH}.out.safetensors"
    out, err = run(monkeypatch, "inspect", q8)
    check(out, lines=4)
    assert not err
    out, err = run(monkeypatch, "quantize", source, "-o", target)
    check(out, lines=8)
    for bar in err.removesuffix("\n").split("\r")[1:]:  # its own, at the start of each bar
        check(bar)
    out, err = run(monkeypatch, "dequantize", q8, "-o", target)
    assert err.startswith("\rdequantize ")
    check(out, lines=8)
    for command in (
        ["inspect", q8, "--json"],
        ["quantize", source, "-o", target, "--json"],
        ["dequantize", q8, "-o", target, "--json", "-q"],
    ):
        out, _ = run(monkeypatch, *command)
        json.loads(out)
        assert all(line.isprintable() for line in out.splitlines())
        assert "\\u001b" in out
    np.save(tmp_path / f"{PATH}.npy", np.ones(3))
    for arguments in (
        ["inspect", tmp_path / f"{PATH}.npz"],
        ["inspect", tmp_path / PATH],
        ["compare", q8],
        ["compare", tmp_path / f"{PATH}.npz"],
        ["compare", tmp_path / f"{PATH}.npy", "--axis", "3"],
        ["quantize", q8, "-o", q8],
        ["quantize", source, "-o", target, "--exclude", "*"],
    ):
        out, err = run(monkeypatch, *arguments)
        assert out == ""
        check(err, readable=False)
        assert "\\x1b" in err or "axis" in err
    for arguments in (["inspect", source, q8], [PATH], ["quantize", q8, f"--{PATH}"]):
        out, err = run(monkeypatch, *arguments)  # usage, then the error
        assert err
        assert all(line.isprintable() for line in err.splitlines()), err


def test_a_long_name_does_not_fill_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = {
        name: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]}
        for i, name in enumerate([LONG, *map(str, range(100))])
    }
    path = safetensors(header, bytes(101), tmp_path / "x.safetensors")
    out, _ = run(monkeypatch, "inspect", path)
    check(out, lines=104, readable=False)
    assert len(out) < 100_000


# ---------------------------------------------------------------------------------------------
# Dictionaries: of parameters, of observers, in the metadata of Zarr


def test_dictionaries_of_parameters_and_observers() -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    for made in (
        zp.QuantParams(0.5, 3),
        zp.QuantParams([0.5, 1], [3, 4], axis=0),
        zp.MinMaxObserver().update(x),
        zp.HistogramObserver(axis=0).update(x),
    ):
        fields = made.to_dict()
        refused = 0
        for mutant in mutants(fields):
            refused += isinstance(checked(type(made).from_dict, mutant), Exception)
        assert refused >= len(fields)


def test_codecs_of_zarr() -> None:
    zz = pytest.importorskip("zeropoint.zarr", exc_type=ImportError)
    codec = zz.AffineCodec(zp.QuantParams(0.5, 3))
    for mutant in mutants(codec.to_dict()):
        checked(zz.AffineCodec.from_dict, mutant)
    refusal(zz.AffineCodec, NAME)
    refusal(zz.AffineCodec, zp.QuantParams(0.5, 3), NAME)


def test_arrays_of_dask() -> None:
    zd = pytest.importorskip("zeropoint.dask", exc_type=ImportError)
    da = pytest.importorskip("dask.array")
    bad = da.from_array(np.float32([[1, np.nan]]), name=NAME)
    for call in (
        lambda: zd.choose_params(bad),
        lambda: zd.observe(bad, zp.MinMaxObserver()),
        lambda: zd.quantize(bad, zp.QuantParams([1, 1, 1], 0, axis=1)),
        lambda: zd.choose_params(bad[bad > 0], axis=0, block_size=2),
    ):
        refusal(call, readable=False)
    refusal(zd.observe, bad, NAME)
    refusal(zd.choose_params, bad, NAME)
    refusal(zd.choose_params, bad, **{NAME: 3})


# ---------------------------------------------------------------------------------------------
# LiteRT


class Interpreter:
    def __init__(self, *details: Any) -> None:
        self.get_input_details = lambda: details
        self.get_output_details = tuple


def test_details_of_litert() -> None:
    detail = {
        "name": NAME,
        "index": 7,
        "shape": [2, 3],
        "dtype": "int8",
        "quantization_parameters": {
            "scales": [0.5, 0.25],
            "zero_points": [3, 3],
            "quantized_dimension": 0,
            "block_size": 0,
        },
    }
    litert.params(detail)
    refused = 0
    for mutant in mutants(detail):
        for call in (litert.params, lambda found: litert.Runner(Interpreter(found))):
            refused += isinstance(checked(call, mutant), Exception)
    assert refused > 30
    for change in ({"dtype": "f4"}, {"shape": [3, 3]}, {"shape": [-1]}, {"index": -1}):
        refusal(lambda change=change: litert.Runner(Interpreter(detail | change)))
    refusal(litert.params, detail, convention=NAME)
    run = litert.Runner(Interpreter(detail, detail | {"name": "other"}))
    refusal(run, np.ones((2, 3)))
    refusal(run, other=1, **{f"{NAME}.": 1})
    refusal(run, np.ones((2, 3), np.int32), np.ones((2, 3)))
    refusal(litert.Runner(Interpreter(detail, detail)), **{NAME: 1})


# ---------------------------------------------------------------------------------------------
# ONNX


def test_models_of_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    interop = pytest.importorskip("zeropoint.interop.onnx", exc_type=ImportError)
    weights = np.linspace(-1, 1, 1600, dtype=np.float32).reshape(40, 40)

    def tensor(name: str, x: Any) -> Any:
        return numpy_helper.from_array(np.asarray(x), name)

    def model(nodes: list[Any], *initializers: Any, inputs: Any = (), opset: int = 21) -> Any:
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
        graph = helper.make_graph(nodes, TEXT, given, [], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])

    def node(kind: str, *inputs: str, output: str = f"{TEXT}.out", **attributes: Any) -> Any:
        return helper.make_node(kind, inputs, [output], name=TEXT, **attributes)

    take = node("MatMul", "x", TEXT)
    plain = model([take], tensor(TEXT, weights))
    small = interop.quantize_weights(plain)
    report = interop.report(plain, small)
    check(str(report), lines=4)
    check(repr(report), readable=True)
    assert report.weights[0].name == TEXT
    check(repr(interop.params(small, TEXT)), readable=False)

    # weights
    refusal(interop.quantize_weights, plain, exclude=[NAME])
    refusal(interop.quantize_weights, plain, exclude=NAME)
    refusal(interop.quantize_weights, plain, NAME)
    refusal(interop.quantize_weights, plain, axis=NAME)
    refusal(interop.quantize_weights, plain, axis=5)
    refusal(interop.quantize_weights, model([take], tensor(TEXT, weights), tensor(TEXT, weights)))
    refusal(interop.quantize_weights, model([take], tensor(TEXT, weights), inputs=[TEXT]))
    refusal(interop.quantize_weights, model([node("QuantizeLinear", TEXT)]))
    outside = tensor(TEXT, weights)
    onnx.external_data_helper.set_external_data(outside, TEXT)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    refusal(interop.quantize_weights, model([take], outside))
    short = tensor(TEXT, weights)
    short.raw_data = b"short"
    refusal(interop.quantize_weights, model([take], short))
    refusal(interop.report, plain, model([]))
    refusal(interop.report, plain, model([node("DequantizeLinear", "q", "s", "z", output=TEXT)]))
    codes = (
        tensor("q", np.ones((3, 3), np.int8)),
        tensor("s", np.float32(1)),
        tensor("z", np.int8(0)),
    )
    other = model([node("DequantizeLinear", "q", "s", "z", output=TEXT)], *codes)
    refusal(interop.report, plain, other)

    # parameters
    def linear(scale: Any, *zero: Any, opset: int = 21) -> Any:
        inputs = [tensor(f"{TEXT}.s", scale), *(tensor(f"{TEXT}.z", z) for z in zero)]
        made = node("QuantizeLinear", TEXT, *(each.name for each in inputs))
        return model([made], *inputs, opset=opset)

    refusal(interop.params, plain, f"{NAME}.")
    refusal(interop.params, plain, [NAME])
    refusal(interop.params, plain, TEXT)
    refusal(interop.params, linear(np.float32(0)), TEXT)
    refusal(interop.params, linear(np.float32([1, 2]), np.int8([1, 2, 3])), TEXT)
    refusal(interop.params, linear(np.float32(1), np.int16(0)), TEXT)
    refusal(interop.params, model([node("QuantizeLinear", TEXT, "s")]), TEXT)
    refusal(interop.params, model([node("DequantizeLinear", TEXT, "s")]), TEXT)
    twice = [node("QuantizeLinear", TEXT, f"{TEXT}.{i}", output=f"{i}") for i in (1, 2)]
    scales = (tensor(f"{TEXT}.{i}", np.float32(i)) for i in (1, 2))
    refusal(interop.params, model(twice, *scales), TEXT)

    # files
    path = tmp_path / f"{PATH}.onnx"
    refusal(interop.params, path, TEXT)
    path.write_bytes(b"no model")
    refusal(interop.params, path, TEXT)
    path.write_bytes(model([take], outside).SerializeToString())
    refusal(interop.quantize_weights, path)


def test_file_systems_of_this_machine_take_such_names(tmp_path: Path) -> None:
    (tmp_path / PATH).touch()
    assert os.listdir(tmp_path) == [PATH]
