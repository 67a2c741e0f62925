"""``.gguf`` files; the `gguf` package is the oracle, files of damaged headers are made by hand."""

import json
import math
import struct
import time
import tracemalloc

import numpy as np
import pytest

from zeropoint import files
from zeropoint._files import gguf as ours
from zeropoint._files import open_container

from .gguf_parts import ARRAY, STRING, info, made, pair, text, u32

ONE = bytes(512)  # the data of a tensor of `info`
PAIR = u32("k", 1)


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf")


# ---------------------------------------------------------------------------------------------
# Beside the package


def everything(gguf, writer, rng):
    """Metadata of all types, and tensors of all types."""
    kinds = gguf.GGUFValueType
    for number, kind in enumerate(kinds):
        if kind not in (kinds.STRING, kinds.ARRAY):
            value = True if kind == kinds.BOOL else 1.5 if "FLOAT" in kind.name else 100 + number
            writer.add_key_value(f"a.{kind.name}", value, kind)
            writer.add_key_value(f"b.{kind.name}", [value] * 5, kinds.ARRAY, kind)
    writer.add_string("general.name", "é \u2028 {{ template }}\n")
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "", "é", "x" * 300])
    writer.add_file_type(1)
    writer.add_key_value("last", 7, kinds.UINT8)
    for layer in (10, 2, 0):
        for kind, (elements, size) in gguf.GGML_QUANT_SIZES.items():
            shape = (2, 3, elements * 2)
            data = rng.integers(0, 256, math.prod(shape) // elements * size, np.uint8)
            data = data.reshape(*shape[:-1], -1)
            writer.add_tensor(f"blk.{layer}.{kind.name}.weight", data, raw_dtype=kind)
    writer.add_tensor("output.weight", np.arange(32, dtype=np.float32))
    writer.add_tensor("scalar", np.float32(3).reshape(()))
    writer.add_tensor("Zero", np.zeros((0, 4), np.float16))


def written(gguf, path, fill, alignment=None):
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def fields(reader):
    """Key: the types, and the bytes of the value."""
    return {
        name: (field.types, [part.tobytes() for part in field.parts[2:]])
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }


@pytest.mark.parametrize("alignment", [None, 8, 32, 256])
def test_the_reader_beside_the_package(gguf, tmp_path, alignment):
    rng = np.random.default_rng(0)
    path = tmp_path / "all.gguf"
    written(gguf, path, lambda writer: everything(gguf, writer, rng), alignment)
    reader = gguf.GGUFReader(path)
    with open_container(path) as container:
        (source,) = container.shards
        assert source.format == "gguf"
        assert list(source.metadata) == list(fields(reader))
        assert len(source.tensors) == len(reader.tensors) > 90
        for tensor, theirs in zip(source.tensors.values(), reader.tensors, strict=True):
            assert tensor.name == theirs.name
            assert tensor.label == theirs.tensor_type.name
            assert tensor.shape == tuple(int(length) for length in theirs.shape[::-1])
            assert (tensor.start, tensor.bytes) == (theirs.data_offset, theirs.n_bytes)
            with source.stream(tensor) as stream:
                assert stream.array(tensor.bytes, np.dtype("u1")).tobytes() == theirs.data.tobytes()
    for theirs in reader.tensors:
        if theirs.tensor_type.name in ("F16", "F32", "F64", "I8", "I16", "I32", "I64"):
            values = files.read_tensor(path, theirs.name)
            assert values.dtype == theirs.data.dtype
            assert values.tobytes() == theirs.data.tobytes()
    told = files.inspect_file(path)
    assert told.format == "gguf"
    assert told.metadata["general.name"] == "é \u2028 {{ template }}\n"
    assert told.metadata["a.FLOAT32"] == "1.5"
    assert told.metadata["tokenizer.ggml.tokens"] == "[4 values]"
    json.dumps(told.to_dict())


def test_every_type_of_the_package(gguf):
    theirs = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert theirs.items() <= ours._TYPES.items()
    names = {kind.name: int(kind) for kind in gguf.LlamaFileType}
    for word, number in ours.FILE_TYPES.items():
        assert number == names["ALL_F32" if word == "F32" else f"MOSTLY_{word}"]


@pytest.mark.parametrize("alignment", [None, 64])
def test_the_header_is_the_packages(gguf, tmp_path, alignment):
    """The same bytes, for what the package can write, in llama-quantize's order."""
    order = ["output.weight", "z.weight", "blk.0.b", "blk.2.a", "blk.10.a"]
    data = {name: np.arange(33, dtype=np.float32) for name in order}

    def fill(writer):
        writer.add_array("tokenizer.ggml.tokens", ["<s>", "é"])
        writer.add_float32("eps", 1e-5)
        writer.add_quantization_version(2)
        writer.add_file_type(7)
        for name, values in data.items():
            writer.add_tensor(name, values)

    path = written(gguf, tmp_path / "a.gguf", fill, alignment)
    with open_container(path) as container:
        (source,) = container.shards
        mixed = dict.fromkeys(sorted(order), ("F32", (33,)))
        head, starts, total = ours.write_header(mixed, source.header, 7, path)
        assert starts == {tensor.name: tensor.start for tensor in source.tensors.values()}
    content = path.read_bytes()
    assert head == content[: len(head)]
    assert total == len(content)


# ---------------------------------------------------------------------------------------------
# What the package cannot write


def test_pairs_are_kept_to_the_bit():
    nan = struct.pack("<I", 0x7FA00001)  # signaling, with a payload
    kept = [
        u32("general.file_type", 1),
        pair("nan", 6, nan),
        pair("not UTF-8", STRING, text(b"\xff\xfe\x00")),
        pair("", STRING, text("")),
        pair("nested", ARRAY, struct.pack("<IQIQ", ARRAY, 1, STRING, 2) + text("a") + text("")),
        pair("none", ARRAY, struct.pack("<IQ", ARRAY, 0)),
        pair("true", 7, b"\2"),
        u32("general.quantization_version", 1),
        u32("z", 5),
    ]
    content = made(kept, [info("w")], ONE)
    with open_bytes(content) as source:
        head, starts, total = ours.write_header(
            {"w": ("F32", (4, 32))}, source.header, 7, source.path
        )
    last = [u32("general.quantization_version", 2), u32("general.file_type", 7)]
    assert head == made([*kept[1:-2], kept[-1], *last], [info("w")])
    assert (starts, total) == ({"w": len(head)}, len(head) + 512)


class open_bytes:
    """A source of these bytes."""

    def __init__(self, content):
        import tempfile
        from pathlib import Path

        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "x.gguf"
        path.write_bytes(content)
        self._context = open_container(path)

    def __enter__(self):
        return self._context.__enter__()

    def __exit__(self, *error):
        self._context.__exit__(*error)
        self._folder.cleanup()


# ---------------------------------------------------------------------------------------------
# Damaged and hostile

HUGE = struct.pack("<Q", 2**63 + 5)
NESTED = struct.pack("<IQ", ARRAY, 1)
BAD = {
    "empty": (b"", "ends inside its header, at byte 0"),
    "magic": (b"GGUX" + bytes(20), "does not start as a .gguf file"),
    "version 1": (made(version=1), "version 1 is unknown"),
    "version 4": (made(version=4), "version 4 is unknown"),
    "big-endian": (made(version=3 << 24), "big-endian; convert it with gguf-convert-endian"),
    "tensors": (made(counts=(2**63, 0)), "ends inside"),
    "pairs": (made(counts=(0, 2**64 - 1)), "ends inside"),
    "key twice": (made([PAIR, PAIR]), "key 'k' occurs twice"),
    "key of no text": (made([u32(b"\xff", 1)]), "a key is not UTF-8"),
    "key too long": (made([HUGE + b"k"]), "its header of more than .* is too large"),
    "type of a value": (made([pair("k", 13, bytes(40))]), "value of 'k' is of type 13"),
    "type in an array": (
        made([pair("k", ARRAY, struct.pack("<IQ", 13, 1) + bytes(40))]),
        "value of 'k' is of type 13",
    ),
    "array of numbers": (
        made([pair("k", ARRAY, struct.pack("<I", 0) + HUGE)]),
        "its header of more than",
    ),
    "array of strings": (
        made([pair("k", ARRAY, struct.pack("<I", STRING) + HUGE)]),
        "its header of more than",
    ),
    "array of a string": (
        made([pair("k", ARRAY, struct.pack("<IQ", STRING, 1) + HUGE)]),
        "its header of more than",
    ),
    "array of arrays": (
        made([pair("k", ARRAY, struct.pack("<I", ARRAY) + HUGE)]),
        "ends inside",
    ),
    "nested": (made([pair("k", ARRAY, NESTED * 5000)]), "nested more than 8 times"),
    "alignment 0": (made([u32("general.alignment", 0)]), "general.alignment is no power"),
    "alignment 48": (made([u32("general.alignment", 48)]), "general.alignment is no power"),
    "alignment 2^31": (made([u32("general.alignment", 2**31)]), "general.alignment is no power"),
    "alignment of int32": (
        made([pair("general.alignment", 5, struct.pack("<i", 32))]),
        "general.alignment is no power",
    ),
    "name of no text": (made([], [info(b"\xff")], ONE), "name of a tensor is not UTF-8"),
    "name twice": (
        made([], [info("w"), info("w", offset=512)], ONE * 2),
        "tensor 'w' occurs twice",
    ),
    "dimensions": (made([], [text("w") + struct.pack("<I", 2**32 - 1)]), "has 4294967295 dim"),
    "shape": (made([], [info("w", (2**40, 2**40))]), "shape that is too large"),
    "length": (made([], [info("w", (2**63,))]), "not an integer in"),
    "type": (made([], [info("w", kind=31)], ONE), "of the unknown type 31; .*upgrade zeropoint"),
    "blocks": (made([], [info("w", (4, 33), 8)], ONE), r"of Q8_0 cannot have the shape \(4, 33\)"),
    "no axis": (made([], [info("w", (), 8)], ONE), r"of Q8_0 cannot have the shape \(\)"),
    "hole": (made([], [info("w", offset=32)], bytes(32) + ONE), "'w' starts at 32, not at 0"),
    "overlap": (made([], [info("v"), info("w", offset=480)], ONE * 2), "at 480, not at 512"),
    "offset": (made([], [info("w", offset=2**64 - 1)], ONE), "not at 0"),
    "truncated": (made([], [info("w")], ONE[:-1]), "its tensors end at byte"),
    "without data": (made([], [info("w")]), "its tensors end at byte"),
    "trailing": (made([], [info("w")], ONE + b"\0"), "its tensors end at byte"),
    "trailing, padded": (made([], [info("w", (3, 5))], bytes(65)), "its tensors end at byte"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_and_hostile_headers(tmp_path, case):
    content, words = BAD[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    for job in (files.inspect_file, files.load, lambda path: files.read_tensor(path, "w")):
        tracemalloc.start()
        start = time.monotonic()
        with pytest.raises(ValueError, match=rf"bad\.gguf: .*{words}") as error:
            job(path)
        assert "; " in str(error.value)
        assert len(str(error.value)) < 700 + len(str(path))
        assert time.monotonic() - start < 1
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


def test_cut_at_every_byte(tmp_path):
    content = made(
        [PAIR, pair("s", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text("b"))],
        [info("v", (0, 4)), info("w", (4, 33))],
        bytes(528),  # the last tensor's padding may be missing
    )
    path = tmp_path / "cut.gguf"
    path.write_bytes(content)
    assert [each.name for each in files.inspect_file(path).tensors] == ["v", "w"]
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut.gguf"):
            files.inspect_file(path)


@pytest.mark.parametrize("padding", [0, 5, 32 - 28])
def test_padding_at_the_end_may_be_short(tmp_path, padding):
    path = tmp_path / "short.gguf"
    path.write_bytes(made([], [info("w", (7,))], bytes(28 + padding % 5)))
    assert files.read_tensor(path, "w").shape == (7,)


def test_metadata_alone(tmp_path):
    path = tmp_path / "vocab.gguf"
    for more in (b"", bytes(-len(made([PAIR])) % 32)):
        path.write_bytes(made([PAIR]) + more)
        told = files.inspect_file(path)
        assert (told.metadata, told.tensors) == ({"k": "1"}, ())


def test_a_large_vocabulary_is_read_in_a_second(tmp_path):
    count = 400_000
    strings = b"".join(text(f"token {number}") for number in range(count))
    tokens = pair("tokens", ARRAY, struct.pack("<IQ", STRING, count) + strings)
    path = tmp_path / "v.gguf"
    path.write_bytes(made([tokens, PAIR]))
    start = time.process_time()
    assert files.inspect_file(path).metadata == {"tokens": f"[{count} values]", "k": "1"}
    assert time.process_time() - start < 2


# ---------------------------------------------------------------------------------------------
# Which tensors: what llama-quantize (built from its source) did


QUANTIZED = [
    "output.weight",
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "weight",
    "v.blk.0.weight",
]
KEPT = [
    *("blk.0.attn_q.bias", "blk.0.attn_norm.weight", "blk.1.ffn_gate_inp.weight", "weights"),
    *("position_embd.weight", "token_types.weight", "blk.0.ssm_conv1d.weight", "altup_proj.weight"),
    *("blk.0.time_mix_w1.weight", "blk.0.time_mix_decay_w2.weight", "enc.blk.0.attn_rel_b.weight"),
    *("v.patch_embd.weight", "v.position_embd.weight", "mm.a.code_embd.weight"),
    *("blk.3.shortconv.conv.weight", "blk.0.indexer.k_proj.weight", "per_layer_model_proj.weight"),
]


def tensor_of(name, shape=(4, 64)):
    return ours.Tensor(name, "F32", "F32", False, shape, False, 0, 0)


@pytest.mark.parametrize("name", QUANTIZED + KEPT)
def test_which_names(name):
    assert (ours.reason_to_keep(tensor_of(name), "llama") is None) == (name in QUANTIZED)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((64,), "2 and 3 axes"),
        ((1, 64), "2 and 3 axes"),
        ((1, 1, 2, 64), None),
        ((2, 3, 64), None),
        ((2, 2, 3, 64), "2 and 3 axes"),
        ((64, 1), "32 does not divide its rows of 1"),
        ((4, 33), "32 does not divide its rows of 33"),
    ],
)
def test_which_shapes(shape, words):
    reason = ours.reason_to_keep(tensor_of("w.weight", shape), "llama")
    assert reason is None if words is None else words in reason


def test_rules_of_one_architecture():
    tensor = tensor_of("blk.0.attn_k_b.weight")
    assert ours.reason_to_keep(tensor, "glm5-next") is not None
    assert ours.reason_to_keep(tensor, "deepseek2") is None
