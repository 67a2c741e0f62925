"""``.gguf`` files: pairs of keys and values, tensors of llama.cpp's types, the data aligned.

The header is read and written here: the `gguf` package takes 8 s and 600 MB for a vocabulary of
128k tokens, maps the file, and never returns from a count that is hostile.  It is the oracle of
the tests.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import _checks
from .._layout import Layout
from .._q8_0 import BLOCK, BYTES, dequantize, quantize, split
from .._reference import Array
from .container import Container
from .quantized import INT8, BlockPlan, Format, Output, Planned, Quantized
from .source import (
    AGAIN,
    DIMENSIONS,
    Header,
    Source,
    Stream,
    Tensor,
    check_shape,
    fault,
    size_of,
)

_LONGEST = 100_000_000  # bytes of a header, the limit of safetensors; vocabularies take some 10 MB
_STEP = 1 << 20  # bytes of one read
_DEEPEST = 8  # arrays of arrays
_WIDEST = 1 << 20  # bytes of an alignment
_ALIGNMENT, _ALIGNED = "general.alignment", 32
_U32, _STRING, _ARRAY = 4, 8, 9
#: dtypes of the plain values, by their numbers in the format
_VALUES = dict(
    zip(
        (0, 1, 2, 3, _U32, 5, 6, 7, 10, 11, 12),
        ("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "|b1", "<u8", "<i8", "<f8"),
        strict=True,
    )
)
#: of every type of tensors: its number, name, and the elements and bytes of a block
_TABLE = """
0 F32 1 4, 1 F16 1 2, 2 Q4_0 32 18, 3 Q4_1 32 20, 6 Q5_0 32 22, 7 Q5_1 32 24, 8 Q8_0 32 34,
9 Q8_1 32 40, 10 Q2_K 256 84, 11 Q3_K 256 110, 12 Q4_K 256 144, 13 Q5_K 256 176, 14 Q6_K 256 210,
15 Q8_K 256 292, 16 IQ2_XXS 256 66, 17 IQ2_XS 256 74, 18 IQ3_XXS 256 98, 19 IQ1_S 256 50,
20 IQ4_NL 32 18, 21 IQ3_S 256 110, 22 IQ2_S 256 82, 23 IQ4_XS 256 136, 24 I8 1 1, 25 I16 1 2,
26 I32 1 4, 27 I64 1 8, 28 F64 1 8, 29 IQ1_M 256 56, 30 BF16 1 2, 34 TQ1_0 256 54,
35 TQ2_0 256 66, 39 MXFP4 32 17, 40 NVFP4 64 36, 41 Q1_0 128 18, 42 Q2_0 64 18"""
_TYPES = {
    int(number): (name, int(elements), int(size))
    for number, name, elements, size in (row.split() for row in _TABLE.split(","))
}
NUMBERS = {name: number for number, (name, _, _) in _TYPES.items()}
#: llama.cpp's numbers for what most tensors of a file are, general.file_type
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
_VERSION, _TYPE = "general.quantization_version", "general.file_type"


def source(file: BinaryIO, path: Path) -> Source:
    """Tensors in the order of the file, and metadata; the header is checked against the size."""
    head = _Head(file, path)
    if head.take(4) != b"GGUF":
        raise fault(path, "it does not start as a .gguf file", AGAIN)
    version = head.number("<I")
    if version & 0xFFFF == 0:
        raise fault(path, "it is big-endian", "convert it with gguf-convert-endian first")
    if version not in (2, 3):
        raise fault(path, f"its GGUF version {version} is unknown", "convert the model again")
    tensors, pairs = head.number("<Q"), head.number("<Q")
    raw, texts = _pairs(head, pairs)
    found = [_info(head) for _ in range(tensors)]
    aligned = _aligned(raw, path)
    start = _padded(head.at, aligned)
    placed: dict[str, Tensor] = {}
    end = start if found else head.at
    for name, kind, shape, offset in found:
        if end != start + offset:
            raise fault(path, f"tensor {name!r} starts at {offset}, not at {end - start}", AGAIN)
        if name in placed:
            raise fault(path, f"tensor {name!r} occurs twice", AGAIN)
        length = size(kind, shape)
        placed[name] = Tensor(name, kind, kind, False, shape, False, end, length)
        last, end = end + length, _padded(end + length, aligned)
    if not (last if found else end) <= size_of(file) <= _padded(end, aligned):
        raise fault(path, f"its tensors end at byte {end} of {size_of(file)}", AGAIN)
    return Source(path, file, Header(list(placed.values()), texts, raw))


class _Head:
    """The bytes of a header, front to back; no more than a step beyond it is read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.at = 0
        self.path = path
        self._file, self._raw, self._total = file, bytearray(), size_of(file)

    def _need(self, end: int) -> None:
        if end > _LONGEST:
            raise fault(self.path, f"its header of more than {_LONGEST} bytes is too large", AGAIN)
        while end > len(self._raw):
            more = self._file.read(_STEP)
            if not more:
                raise fault(self.path, f"it ends inside its header, at byte {self._total}", AGAIN)
            self._raw += more

    def take(self, count: int) -> bytes:
        first, end = self.at, self.at + count
        self._need(end)
        self.at = end
        return bytes(self._raw[first:end])

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def string(self) -> bytes:
        return self.take(self.number("<Q"))

    def since(self, first: int) -> bytes:
        return bytes(self._raw[first : self.at])

    def pass_strings(self, count: int) -> None:
        """Read past an array of strings, a vocabulary for example."""
        self._need(self.at + 8 * count)
        raw, at = self._raw, self.at
        for _ in range(count):
            start = at + 8
            if start > len(raw):
                self._need(start)
            at = start + int.from_bytes(raw[at:start], "little")
        self._need(at)
        self.at = at


def _pairs(head: _Head, count: int) -> tuple[dict[str, bytes], dict[str, str]]:
    """The metadata by key: the bytes of each pair, and its value as text."""
    raw, texts = dict[str, bytes](), dict[str, str]()
    for _ in range(count):
        first = head.at
        key = _name(head, "a key")
        text = _value(head, key, head.number("<I"))
        if key in raw:
            raise fault(head.path, f"the key {key!r} occurs twice", AGAIN)
        raw[key], texts[key] = head.since(first), text
    return raw, texts


def _value(head: _Head, key: str, kind: int, depth: int = 0) -> str:
    """The text of the value that comes next; of an array its length."""
    if kind in _VALUES:
        dtype = np.dtype(_VALUES[kind])
        return str(np.frombuffer(head.take(dtype.itemsize), dtype)[0])
    if kind == _STRING:
        return head.string().decode(errors="replace")
    if kind != _ARRAY or depth == _DEEPEST:
        what = f"nested more than {_DEEPEST} times" if kind == _ARRAY else f"of type {kind}"
        raise fault(head.path, f"the value of {key!r} is {what}", AGAIN)
    inner, count = head.number("<I"), head.number("<Q")
    if inner in _VALUES:
        head.take(count * np.dtype(_VALUES[inner]).itemsize)
    elif inner == _STRING:
        head.pass_strings(count)
    else:
        for _ in range(count):
            _value(head, key, inner, depth + 1)
    return f"[{count} values]"


def _name(head: _Head, what: str) -> str:
    raw = head.string()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise fault(head.path, f"{what} is not UTF-8: {raw[:60]!r}", AGAIN) from None


def _info(head: _Head) -> tuple[str, str, tuple[int, ...], int]:
    """Name, type, shape and offset of the next tensor."""
    name = _name(head, "the name of a tensor")
    rank = head.number("<I")
    if rank > DIMENSIONS:
        raise fault(head.path, f"tensor {name!r} has {rank} dimensions", AGAIN)
    shape = struct.unpack(f"<{rank}Q", head.take(8 * rank))[::-1]
    check_shape(shape, head.path, name)
    kind = head.number("<I")
    if kind not in _TYPES:
        what = f"tensor {name!r} is of the unknown type {kind}"
        raise fault(head.path, what, "convert the model again, or upgrade zeropoint")
    word, elements, _ = _TYPES[kind]
    if (shape or (1,))[-1] % elements:
        raise fault(head.path, f"tensor {name!r} of {word} cannot have the shape {shape}", AGAIN)
    return name, word, shape, head.number("<Q")


def is_blocks(word: str) -> bool:
    """Whether it is the word of a type that is quantized."""
    return word in NUMBERS and _TYPES[NUMBERS[word]][1] > 1


def size(word: str, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor."""
    _, elements, length = _TYPES[NUMBERS[word]]
    return math.prod(shape) // elements * length


def _aligned(pairs: Mapping[str, bytes], path: Path) -> int:
    """The alignment of the data."""
    raw = pairs.get(_ALIGNMENT)
    if raw is None:
        return _ALIGNED
    kind, value = struct.unpack_from("<II", raw, 8 + len(_ALIGNMENT))
    if kind != _U32 or not 0 < value <= _WIDEST or value & (value - 1):
        raise fault(
            path, f"its {_ALIGNMENT} is no power of two of type uint32, up to {_WIDEST}", AGAIN
        )
    return int(value)


def _padded(at: int, aligned: int) -> int:
    return at + -at % aligned


def write_header(
    tensors: Mapping[str, Output], header: Header, path: Path
) -> tuple[bytes, dict[str, int], int]:
    """The header for tensors of these types (words) and shapes, where each starts, and the size.

    Order and metadata are those of llama-quantize: layer by layer, then by name; the pairs as they
    are, then the version of the quantization and the type that tensors are converted to; what
    gguf-split leaves in a file that it merged goes.  Padding is zeros.  `path` is for the errors.
    """
    pairs = dict(header.pairs)
    if header.metadata.get("split.count") in ("0", "1"):
        for key in ("split.no", "split.count", "split.tensors.count"):
            pairs.pop(key, None)
    pairs.pop(_VERSION, None)
    pairs[_VERSION] = _pair(_VERSION, 2)
    for name, (word, _) in tensors.items():
        if word != header.tensors[name].word:
            pairs.pop(_TYPE, None)
            pairs[_TYPE] = _pair(_TYPE, FILE_TYPES[word])
            break
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)))
    head += b"".join(pairs.values())
    aligned, starts, end = _aligned(pairs, path), {}, 0
    for name in sorted(tensors, key=_order):
        word, shape = tensors[name]
        head += _string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        head += struct.pack("<IQ", NUMBERS[word], end)
        starts[name] = end
        end = _padded(end + size(word, shape), aligned)
    head += bytes(-len(head) % aligned)
    return bytes(head), {name: len(head) + at for name, at in starts.items()}, len(head) + end


def check_part(metadata: Mapping[str, str], dst: Path) -> None:
    """ValueError for a part of a split model whose name would not be that of one."""
    number, count = (metadata.get(f"split.{key}", "0") for key in ("no", "count"))
    if not (number.isdecimal() and count.isdecimal()) or int(count) < 2:
        return
    end = f"-{int(number) + 1:05}-of-{int(count):05}.gguf"
    if not dst.name.endswith(end):
        raise ValueError(
            f"dst {str(dst)!r} is to be part {int(number) + 1} of {count}, and llama.cpp looks for "
            f"parts by their names; choose one that ends in {end!r}, or merge the parts first"
        )


def _pair(key: str, value: int) -> bytes:
    return _string(key) + struct.pack("<II", _U32, value)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _order(name: str) -> tuple[int, bytes]:
    layer = re.match(r"blk\.(\d{1,9})", name)
    return int(layer[1]) if layer else -1, name.encode()


# ---------------------------------------------------------------------------------------------
# Which tensors: the rules of llama-quantize (llama.cpp, src/llama-quant.cpp, October 2026)

_KEPT = re.compile(
    r"""_norm\.weight | ffn_gate_(?:inp|tid2eid)\.weight | altup | laurel | per_layer_model_proj
    | ^(?:position_embd|token_types)\.weight$ | ssm_conv1d | shortconv\.conv\.weight
    | indexer\.[kq]_proj\.weight | attn_rel_b\.weight
    | time_mix_(?:first|w[012]|v[012]|a[012]|g[12]|decay_w[12]|lerp_fused)\.weight
    | \.position_embd | sam\.(?:pos_embd|neck\.|net_) | \.rel_pos | \.patch_(?:embd|merger)
    | a\.rvq\.codebook | mm\.a\.code_embd""",
    re.VERBOSE,
)
_KEPT_OF = {  # by general.architecture
    "glm5-next": re.compile(
        r"""hc_ | indexer\.(?:attn_q_b|attn_k|proj) | indexer_compressor_(?:gate|ape)
        | ssm_(?:f_a|f_b|g_a|g_b|beta)\.weight | attn_(?:kv_a_mqa|k_b|v_b)\.weight""",
        re.VERBOSE,
    )
}


def reason_to_keep(tensor: Tensor, architecture: str) -> str | None:
    """Why a tensor of floats is not to be quantized to Q8_0, or None."""
    shape = tensor.shape
    while shape[:1] == (1,):  # llama.cpp does not count them
        shape = shape[1:]
    if not 2 <= len(shape) <= 3:
        return "llama.cpp quantizes tensors of 2 and 3 axes"
    special = _KEPT_OF.get(architecture)
    if (
        not tensor.name.endswith("weight")
        or _KEPT.search(tensor.name)
        or (special and special.search(tensor.name))
    ):
        return "llama.cpp keeps tensors of this name"
    if shape[-1] % BLOCK:
        return f"{BLOCK} does not divide its rows of {shape[-1]}"
    return None


# ---------------------------------------------------------------------------------------------
# Q8_0: the parameters and the codes of a block lie together

_NOTHING = np.float32(1e-30)  # for a scale of 0, which QuantParams cannot be: its codes are 0 too


class _Blocks:
    """The reader; of a chunk the blocks are read with its parameters."""

    def __init__(self, stream: Stream, path: Path, name: str) -> None:
        self._stream, self._path, self._name = stream, path, name
        self._codes, self._at = np.empty(0, np.int8), 0

    def params(self, chunk: Layout) -> tuple[Array, Array]:
        shape = chunk.size // BLOCK, BYTES
        try:
            scale, codes = split(self._stream.array(shape, np.dtype(np.uint8)))
        except ValueError as error:
            raise fault(self._path, f"tensor {self._name!r}: {error}", AGAIN) from None
        nothing = scale == 0
        scale[nothing], codes[nothing] = _NOTHING, 0
        self._codes, self._at = codes.reshape(-1), 0
        return scale.reshape(chunk.params_shape), np.zeros(chunk.params_shape, np.int32)

    def codes(self, shape: tuple[int, ...]) -> Array:
        first = self._at
        self._at += math.prod(shape)
        return self._codes[first : self._at].reshape(shape)


@contextlib.contextmanager
def _reader(container: Container, tensor: Tensor) -> Iterator[_Blocks]:
    with container.stream(tensor) as stream:
        yield _Blocks(stream, container.path_of(tensor), tensor.name)


def _names(container: Container) -> list[str]:
    return [name for name, tensor in container.tensors.items() if tensor.word == "Q8_0"]


def _one(container: Container, name: str) -> Quantized:
    tensor = container.tensors[name]
    reader = functools.partial(_reader, tensor=tensor)
    # nothing says what the values were; most are converted from float16
    return Quantized(
        name, "float16", _fields(tensor), tensor.shape, "gguf", (tensor,), reader, _decode
    )


def _fields(tensor: Tensor) -> dict[str, Any]:
    axis = len(tensor.shape) - 1
    return INT8 | {"qmin": -127, "convention": "ggml", "axis": axis, "block_size": BLOCK}


FORMAT = Format(_names, _one)


def _encode(x: Array) -> tuple[Array, float]:
    blocks = quantize(x)
    step = _step(blocks)
    # half of the step that was chosen, and what a code of 127 loses as that is rounded to float16
    error = step / 2 + 127.5 * max(step / 2**11, 2.0**-25)
    return blocks, math.inf if _overflows(blocks, x.dtype, step) else error


def _decode(blocks: Array, dtype: np.dtype[Any]) -> tuple[Array, float]:
    step = _step(blocks)
    error = math.inf if _overflows(blocks, dtype, step) else step / 2
    return dequantize(blocks, dtype), error


def _overflows(blocks: Array, dtype: np.dtype[Any], step: float) -> bool:
    """Whether a value is beyond `dtype`; `step` is the largest scale."""
    far = dtype == np.float16 and 127 * step > 65504
    return far and bool(np.isinf(dequantize(blocks, dtype)).any())


def _step(blocks: Array) -> float:
    """The largest scale; of floats without a sign it has the largest bits."""
    bits = blocks.view("<u2")[:, 0] & np.uint16(0x7FFF)
    return float(bits.max(initial=0).astype(np.uint16).view(np.float16))


@_checks.initialised_once
@dataclass(frozen=True)
class Scheme:
    """Q8_0 for what llama-quantize gives it to."""

    architecture: str

    @classmethod
    def of(cls, container: Container, unwanted: Callable[[Tensor], str | None]) -> Scheme:
        """That for a container; ValueError if it is quantized already."""
        made = cls(container.metadata.get("general.architecture", ""))
        tensors = [
            tensor
            for tensor in container.tensors.values()
            if unwanted(tensor) is None and made.reason_to_keep(tensor) is None
        ]
        done = [tensor for tensor in tensors if is_blocks(tensor.label)]
        others = [tensor for tensor in done if tensor.word != "Q8_0"]
        if others or (done and len(done) == len(tensors)):
            first = (others or done)[0]
            raise fault(
                container.path,
                f"it is quantized already: tensor {first.name!r} is of {first.label}",
                "pass the file of F32, F16 or BF16 that it was made of, or exclude the tensor",
            )
        return made

    def reason_to_keep(self, tensor: Tensor) -> str | None:
        if tensor.word == "F64":
            return "llama.cpp quantizes F32, F16 and BF16"
        return reason_to_keep(tensor, self.architecture)

    def plan(self, container: Container, tensor: Tensor) -> BlockPlan:
        outputs = {tensor.name: ("Q8_0", tensor.shape)}
        return BlockPlan(_fields(tensor), outputs, _encode, _decode)

    def metadata(self, source: Source, planned: Planned) -> dict[str, str]:
        """The header is made of the source's."""
        return {}

    def config(self, *_: Any) -> None:
        """There is none in a file."""
