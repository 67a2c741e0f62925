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
        writer.add_file_type(0)
        writer.add_quantization_version(2)
        for name, values in data.items():
            writer.add_tensor(name, values)

    path = written(gguf, tmp_path / "a.gguf", fill, alignment)
    with open_container(path) as container:
        (source,) = container.shards
        same = dict.fromkeys(sorted(order), ("F32", (33,)))
        head, starts, total = ours.write_header(same, source.header, path)
        assert starts == {tensor.name: tensor.start for tensor in source.tensors.values()}
    content = path.read_bytes()
    assert head == content[: len(head)]
    assert total == len(content)


# ---------------------------------------------------------------------------------------------
# What the package cannot write


def test_pairs_are_kept_to_the_bit(tmp_path):
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
    path = tmp_path / "x.gguf"
    path.write_bytes(made(kept, [info("w.weight", kind=1)], bytes(256)))
    files.quantize_file(path, tmp_path / "q.gguf")
    last = [u32("general.quantization_version", 2), u32("general.file_type", 7)]
    head = made([*kept[1:-2], kept[-1], *last], [info("w.weight", kind=8)])
    assert (tmp_path / "q.gguf").read_bytes() == head + bytes(4 * 34 + 24)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_keys_of_a_split(tmp_path, count):
    """Those of a part stay, those of a whole that gguf-split merged go, as in llama-quantize."""
    split = [pair("split.count", 2, struct.pack("<H", count)), pair("split.no", 2, bytes(2))]
    path = tmp_path / "x.gguf"
    path.write_bytes(made([*split, PAIR], [info("w.weight")], ONE))
    target = tmp_path / ("q-00001-of-00003.gguf" if count > 1 else "q.gguf")
    files.quantize_file(path, target)
    told = files.inspect_file(target).metadata
    assert ("split.count" in told, "split.no" in told) == (count > 1, count > 1)
    assert told["k"] == "1"


def test_a_part_keeps_the_name_of_one(tmp_path):
    """llama.cpp finds the others by it."""
    split = [pair("split.no", 2, b"\1\0"), pair("split.count", 2, b"\2\0")]
    source, part = tmp_path / "x-00002-of-00002.gguf", tmp_path / "q-00002-of-00002.gguf"
    source.write_bytes(made(split, [info("w.weight")], ONE))
    files.quantize_file(source, part)
    for name in ("q.gguf", "q-00001-of-00002.gguf"):
        for function, path in (files.quantize_file, source), (files.dequantize_file, part):
            with pytest.raises(ValueError, match="part 2 of 2, .* ends in '-00002-of-00002.gguf'"):
                function(path, tmp_path / name)
    files.dequantize_file(part, tmp_path / "b-00002-of-00002.gguf")
    assert len([*tmp_path.iterdir()]) == 3


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


def test_a_header_of_a_whole_large_file_is_not_read(tmp_path):
    path = tmp_path / "large.gguf"
    path.write_bytes(made([pair("k", STRING, struct.pack("<Q", 1 << 29))]))
    with open(path, "r+b") as file:
        file.truncate(1 << 30)  # a hole
    tracemalloc.start()
    with pytest.raises(ValueError, match="its header of more than 100000000 bytes is too large"):
        files.inspect_file(path)
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


def nested(depth):
    value = NESTED * (depth - 1) + struct.pack("<IQ", 0, 1) + b"a"
    return made([pair("k", ARRAY, value)])


def of_rank(rank):
    return made([], [info("w", (1,) * rank)], bytes(4))


def aligned_to(alignment):
    return made([u32("general.alignment", alignment)], [info("w")], ONE, aligned=alignment)


@pytest.mark.parametrize(
    ("make", "last", "first"),
    [(nested, 8, 9), (of_rank, 64, 65), (aligned_to, 1 << 20, 1 << 21), (aligned_to, 1, 3)],
)
def test_limits_of_a_header(tmp_path, make, last, first):
    path = tmp_path / "x.gguf"
    path.write_bytes(make(last))
    files.inspect_file(path)
    path.write_bytes(make(first))
    with pytest.raises(ValueError, match=r"x\.gguf"):
        files.inspect_file(path)


@pytest.mark.parametrize("padding", range(5))
def test_padding_at_the_end_may_be_short(tmp_path, padding):
    path = tmp_path / "short.gguf"
    path.write_bytes(made([], [info("w", (7,))], bytes(28 + padding)))
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
        ((1, 2, 64), None),
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


# ---------------------------------------------------------------------------------------------
# From file to file


def model(gguf, path, kind, rng):
    """Two layers and their frame, of floats of one kind; a norm and integers."""

    def fill(writer):
        writer.add_file_type(1)
        writer.add_array("tokenizer.ggml.tokens", ["<s>", "é"])
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        for name, shape in {
            "token_embd.weight": (70, 64),
            "output_norm.weight": (64,),
            "blk.10.ffn_up_exps.weight": (3, 5, 96),
            "blk.2.attn_q.weight": (64, 64),
            "blk.2.odd.weight": (4, 33),
            "output.weight": (70, 64),
        }.items():
            x = rng.normal(size=shape).astype(np.float32) * np.exp(rng.uniform(-9, 4))
            if kind == "BF16":
                data = gguf.quants.quantize(x, gguf.GGMLQuantizationType.BF16)
                writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.BF16)
            else:
                writer.add_tensor(name, x.astype("f2" if kind == "F16" else "f4"))
        writer.add_tensor("wide.weight", rng.normal(size=(2, 32)))
        writer.add_tensor("table.weight", np.arange(64, dtype=np.int32).reshape(2, 32))

    return written(gguf, path, fill)


def tensors(gguf, path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_there_and_back(gguf, tmp_path, kind):
    """Bytes, metadata and values are the package's."""
    source = model(gguf, tmp_path / "m.gguf", kind, np.random.default_rng(0))
    target = tmp_path / "q.gguf"
    done = files.quantize_file(source, target, stats=True)
    before, after = tensors(gguf, source), tensors(gguf, target)
    assert {one.name: one.kept for one in done.tensors if one.kept} == {
        "output_norm.weight": "llama.cpp quantizes tensors of 2 and 3 axes",
        "blk.2.odd.weight": "32 does not divide its rows of 33",
        "wide.weight": "llama.cpp quantizes F32, F16 and BF16",
        "table.weight": "its dtype is not quantized",
    }
    assert [one.name for one in done.tensors] == list(before)
    layered = ["blk.2.attn_q.weight", "blk.2.odd.weight", "blk.10.ffn_up_exps.weight"]
    assert list(after)[-3:] == layered
    assert list(after)[:-3] == sorted(set(before) - set(layered))
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    values = {}
    for one in done.tensors:
        old, new = before[one.name], after[one.name]
        assert old.shape.tolist() == new.shape.tolist()
        assert one.bytes_out == new.n_bytes
        if one.kept:
            assert new.tensor_type == old.tensor_type
            assert new.data.tobytes() == old.data.tobytes()
            continue
        x = gguf.quants.dequantize(old.data, old.tensor_type).astype(np.float32)
        assert new.tensor_type == q8_0
        assert new.data.tobytes() == gguf.quants.quantize(x, q8_0).tobytes()
        values[one.name] = again = gguf.quants.dequantize(new.data, q8_0)
        error = np.abs(again - x).max()
        assert one.error_bound / 3 < error <= one.error_bound * (1 + 1e-6)
        noise = (again.astype(np.float64) - x).ravel()
        signal = x.astype(np.float64).ravel()
        sqnr = 10 * np.log10(np.vdot(signal, signal) / np.vdot(noise, noise))
        assert one.sqnr_db == pytest.approx(sqnr, rel=1e-9)
        codes, params = files.read_tensor(target, one.name), files.read_params(target, one.name)
        assert (codes.dtype, codes.shape) == (np.int8, one.shape)
        assert params.dequantize(codes).tobytes() == again.tobytes()
        assert (params.convention, params.block_size) == ("ggml", 32)
        assert (params.dtype, params.qmin, params.qmax) == (np.int8, -127, 127)
        assert one.axis == params.axis == len(one.shape) - 1
    expected = fields(gguf.GGUFReader(source))
    set_here = {"general.file_type": 7, "general.quantization_version": 2}
    for key, value in set_here.items():
        assert gguf.GGUFReader(target).fields[key].contents() == value
        expected.pop(key, None)
    found = fields(gguf.GGUFReader(target))
    assert {key: value for key, value in found.items() if key not in set_here} == expected
    assert list(found) == [*expected, "general.quantization_version", "general.file_type"]
    loaded = files.load(target)
    assert loaded.keys() == values.keys()
    for name, (codes, params) in loaded.items():
        assert params.dequantize(codes).tobytes() == values[name].tobytes()
    for dtype, number in ((None, 1), ("float32", 0), ("bfloat16", 32)):
        back = tmp_path / "b.gguf"
        for one in files.dequantize_file(target, back, dtype=dtype).tensors:
            if one.name in values:
                assert one.error_bound == loaded[one.name][1].scale.max() / 2
        reader = gguf.GGUFReader(back)
        assert reader.fields["general.file_type"].contents() == number
        for tensor in reader.tensors:
            if tensor.name not in values:
                assert tensor.data.tobytes() == before[tensor.name].data.tobytes()
            elif dtype == "bfloat16":
                there = gguf.quants.quantize(values[tensor.name], tensor.tensor_type)
                assert tensor.data.tobytes() == there.tobytes()
            else:
                assert tensor.data.dtype == (dtype or "float16")
                assert tensor.data.tobytes() == values[tensor.name].astype(dtype or "f2").tobytes()


def blocks_of(path, x):
    """A file of one tensor of Q8_0, quantized from `x`."""
    path.write_bytes(
        made([], [info("w.weight", x.shape)], np.ascontiguousarray(x, "<f4").tobytes())
    )
    files.quantize_file(path, path.with_name("q.gguf"))
    return path.with_name("q.gguf")


def test_blocks_without_a_scale(gguf, tmp_path):
    """Zeros, and what is too small for a scale in float16: the values are 0, signs are kept."""
    x = np.zeros((6, 32), np.float32)
    x[1] = -0.0
    x[2] = np.linspace(-1, 1, 32) * 1e-42
    x[3] = np.linspace(-1, 1, 32) * 3e-37
    x[4] = np.linspace(-1, 1, 32) * 1e-9
    x[5] = np.linspace(-1, 1, 32) * 1e-3
    path = blocks_of(tmp_path / "x.gguf", x)
    stored = tensors(gguf, path)["w.weight"].data
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType.Q8_0)
        assert stored[:, 1:3].any()  # codes that stand for nothing
    files.dequantize_file(path, tmp_path / "b.gguf", dtype="float32")
    assert files.read_tensor(tmp_path / "b.gguf", "w.weight").tobytes() == expected.tobytes()
    codes, params = files.read_tensor(path, "w.weight"), files.read_params(path, "w.weight")
    np.testing.assert_array_equal(params.dequantize(codes), expected)
    assert not codes[:5].any()


@pytest.mark.parametrize("step", [1e-10, 2.97e-8, 2.99e-8, 4.4e-8, 1e-6, 6.1e-5, 1e-3, 65519.9])
def test_the_bound_holds_where_the_scale_is_rounded(tmp_path, step):
    x = np.full((2, 32), np.float32(127 * step))
    x[0] = np.linspace(-127, 127, 32) * step
    path = tmp_path / "x.gguf"
    path.write_bytes(made([], [info("w.weight", x.shape)], x.tobytes()))
    (done,) = files.quantize_file(path, tmp_path / "q.gguf").tensors
    codes, params = files.load(tmp_path / "q.gguf")["w.weight"]
    error = np.abs(params.dequantize(codes).astype(np.float64) - x).max()
    assert error <= done.error_bound * (1 + 1e-6) < 4e-6 + 0.57 * step


def test_values_beyond_float16_are_told(tmp_path):
    path = blocks_of(tmp_path / "x.gguf", np.full((2, 32), 70000.0, np.float32))
    done = files.dequantize_file(path, tmp_path / "b.gguf")
    assert done.tensors[0].error_bound == np.inf
    done = files.dequantize_file(path, tmp_path / "b.gguf", dtype="float32")
    assert done.tensors[0].error_bound < 300
    largest = np.full((2, 32), 65504, np.float16)  # in steps of 516
    path.write_bytes(made([], [info("w.weight", largest.shape, 1)], largest.tobytes()))
    done = files.quantize_file(path, tmp_path / "r.gguf")
    assert done.tensors[0].error_bound == np.inf


def q4_k(name, offset):
    return info(name, (2, 256), 12, offset)


REFUSED = {
    "Inf": (
        made([], [info("w.weight", (2, 64))], np.float32([0] * 70 + [np.inf] * 58).tobytes()),
        r"'w.weight' has 58 NaN or Inf of 128 elements, the first \(inf\) at index \(1, 6\)",
    ),
    "a large scale": (
        made([], [info("w.weight", (2, 32))], np.float32([0] * 32 + [8321040] * 32).tobytes()),
        "'w.weight', from element 0 on: the scale of block 1 would be 65520.*; or exclude it",
    ),
    "K-quants": (
        made([], [info("v.weight"), q4_k("w.weight", 512)], bytes(512 + 288)),
        "quantized already: tensor 'w.weight' is of Q4_K; pass the file",
    ),
    "Q8_0": (
        made([], [info("w.weight", (4, 32), 8), info("n", (3,), 0, 160)], bytes(160 + 32)),
        "quantized already: tensor 'w.weight' is of Q8_0; pass the file",
    ),
    "nothing": (made([], [info("w.bias")], ONE), "nothing is left to quantize"),
    "no tensors": (made([PAIR]), "no float tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_quantized(tmp_path, case):
    content, words = REFUSED[case]
    source, target = tmp_path / "x.gguf", tmp_path / "q.gguf"
    source.write_bytes(content)
    target.write_bytes(b"the old file")
    with pytest.raises((TypeError, ValueError), match=rf"x\.gguf: .*{words}"):
        files.quantize_file(source, target)
    assert target.read_bytes() == b"the old file"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["q.gguf", "x.gguf"]


def test_what_is_quantized_already_is_copied(tmp_path):
    """Of Q8_0 beside floats; of another type where it was not wanted, there and back."""
    infos = [info("a.weight"), info("b.weight", (4, 32), 8, 512), q4_k("c.weight", 672)]
    source, target = tmp_path / "x.gguf", tmp_path / "q.gguf"
    data = np.random.default_rng(0).integers(0, 50, 288, np.uint8).tobytes()
    source.write_bytes(made([], infos, bytes(672) + data))
    done = files.quantize_file(source, target, exclude="c.weight")
    assert [one.codes for one in done.tensors] == ["int8", None, None]
    files.dequantize_file(target, tmp_path / "b.gguf", dtype="float32")
    told = {one.name: one.dtype for one in files.inspect_file(tmp_path / "b.gguf").tensors}
    assert told == {"a.weight": "F32", "b.weight": "F32", "c.weight": "Q4_K"}
    assert (tmp_path / "b.gguf").read_bytes().endswith(data)
    with pytest.raises(ValueError, match="'c.weight' is of Q4_K; convert it to F32"):
        files.read_tensor(target, "c.weight")
    source.write_bytes(made([], [*infos[:1], q4_k("c.weight", 512)], bytes(512) + data))
    told = "'c.weight' of Q4_K is quantized by llama.cpp; these are read: .*, Q8_0 of .gguf"
    with pytest.raises(ValueError, match=told):
        files.read_params(source, "c.weight")
    with pytest.raises(ValueError, match=told):
        files.dequantize_file(source, tmp_path / "d.gguf")


def test_options_and_names_that_do_not_fit(tmp_path):
    source = tmp_path / "x.gguf"
    source.write_bytes(made([], [info("w.weight")], ONE))
    target = tmp_path / "q.gguf"
    for keywords in ({"axis": 0}, {"dtype": "int8"}, {"symmetric": True}, {"block_size": 64}):
        (name,) = keywords
        with pytest.raises(ValueError, match=f"{name} is .* is quantized to Q8_0"):
            files.quantize_file(source, target, **keywords)
    with pytest.raises(ValueError, match=r"dst .* must be the name of a \.gguf file"):
        files.quantize_file(source, tmp_path / "q.safetensors")
    files.quantize_file(source, target)
    with pytest.raises(ValueError, match=r"dst .* must be the name of a \.gguf file"):
        files.dequantize_file(target, tmp_path / "b.npy")
    with pytest.raises(TypeError, match="dtype float64 is of no use in a .gguf file"):
        files.dequantize_file(target, tmp_path / "b.gguf", dtype="float64")
    with pytest.raises(ValueError, match="no quantized tensor"):
        files.dequantize_file(source, tmp_path / "b.gguf")
    np.save(tmp_path / "w.npy", np.zeros((4, 32), np.float32))
    with pytest.raises(ValueError, match=r"dst .* of a \.safetensors file; a \.gguf file is made"):
        files.quantize_file(tmp_path / "w.npy", target)


def test_scales_that_are_none(tmp_path):
    """NaN in a block of another's making."""
    path = tmp_path / "x.gguf"
    path.write_bytes(made([], [info("w", (3, 32), 8)], bytes(34) + b"\0\x7e" + bytes(92)))
    for job in (
        files.load,
        lambda path: files.read_params(path, "w"),
        lambda path: files.dequantize_file(path, tmp_path / "b.gguf"),
    ):
        with pytest.raises(ValueError, match=r"x\.gguf: tensor 'w'.* scale of block 1 is nan"):
            job(path)
    path.write_bytes(made([], [info("w", (1, 32), 8)], b"\0\xbc" + bytes(62)))  # -1
    with pytest.raises(ValueError, match="'w'.*scale"):
        files.read_params(path, "w")


def test_progress_counts_to_the_end(gguf, tmp_path):
    source = model(gguf, tmp_path / "m.gguf", "F16", np.random.default_rng(1))
    seen = []
    files.quantize_file(source, tmp_path / "q.gguf", progress=lambda *at: seen.append(at))
    assert seen[-1] == (sum(one.n_bytes for one in tensors(gguf, source).values()),) * 2
    assert seen == sorted(seen)
    seen.clear()
    files.dequantize_file(tmp_path / "q.gguf", source, progress=lambda *at: seen.append(at))
    assert seen[-1][0] == seen[-1][1] > 0
