"""`zeropoint.files` trusts no file: ValueError, little memory, nothing written."""

import contextlib
import io
import json
import pickle
import re
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zeropoint as zp
from zeropoint import _files, files
from zeropoint._files import own as entries_of


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def refuses(folder: Path, name, content, target, function, reads=True):
    """ValueError that names the file, in few words and little memory; nothing is written.

    `reads` is for faults in the headers, which are reported to whoever looks at the file.
    """
    (folder / name).write_bytes(content)
    (folder / target).write_bytes(b"the old file")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{name}: .*; ") as error:
            function(folder / name, folder / target)
        if reads:
            with pytest.raises(ValueError, match=rf"{name}: .*; "):
                files.inspect_file(folder / name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(error.value) is ValueError
    assert len(str(error.value)) < 700 + len(str(folder))
    assert peak < (2 << 20) + 6 * len(content)
    assert entries(folder) == sorted([name, target])
    assert (folder / target).read_bytes() == b"the old file"


# ---------------------------------------------------------------------------------------------
# .npy


def npy(header, data=b"", version=b"\x01\x00", length=None):
    text = header if isinstance(header, bytes) else header.encode("latin1")
    form = "<H" if version == b"\x01\x00" else "<I"
    return b"\x93NUMPY" + version + struct.pack(form, length or len(text)) + text + data


def head(descr="'<f4'", fortran="False", shape="(3,)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


TWELVE = bytes(12)

HOSTILE_NPY = {
    "empty": b"",
    "not npy": b"PK\x03\x04 a zip file, perhaps",
    "pickle": pickle.dumps([1.0, 2.0]),
    "magic alone": b"\x93NUMPY",
    "unknown version": npy(head(), TWELVE, b"\x04\x00"),
    "unknown minor": npy(head(), TWELVE, b"\x01\x01"),
    "ends in length": b"\x93NUMPY\x02\x00\x10",
    "header beyond file": npy(head(), b"", length=60_000),
    "huge header": npy(b" " * 70_000 + head().encode(), TWELVE, b"\x02\x00"),
    "4 GiB header": npy(head(), TWELVE, b"\x02\x00", length=2**32 - 1),
    "no dict": npy("[1, 2]\n", TWELVE),
    "no Python": npy("{'descr': \n", TWELVE),
    "a call": npy("__import__('os').abort()\n", TWELVE),
    "a call inside": npy(head(shape="exit()"), TWELVE),
    "an escape": npy(head("'\\x3cf4'"), TWELVE),
    "deep": npy("(" * 30_000, TWELVE),
    "deep shape": npy(head(shape="(" * 30_000), TWELVE),
    "deep minus": npy("-" * 60_000 + "1", TWELVE),
    "bad utf-8": npy(b"\xff\xfe{}", TWELVE, b"\x03\x00"),
    "unhashable key": npy("{[]: 1}\n", TWELVE),
    "missing key": npy("{'descr': '<f4', 'shape': (3,)}\n", TWELVE),
    "extra key": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 'y'}", TWELVE),
    "key twice": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'shape': (3,)}", TWELVE
    ),
    "text behind": npy(head() + "+ 1", TWELVE),
    "short data": npy(head(), TWELVE[:-1]),
    "no data at all": npy(head()),
    "trailing bytes": npy(head(), TWELVE + b"\0"),
    "wider dtype": npy(head("'<f8'"), TWELVE),
    "negative dimension": npy(head(shape="(-3,)"), TWELVE),
    "two negatives": npy(head(shape="(-3, -1)"), TWELVE),
    "float dimension": npy(head(shape="(3.0,)"), TWELVE),
    "bool dimension": npy(head(shape="(True, 3)"), TWELVE),
    "shape no tuple": npy(head(shape="3"), TWELVE),
    "shape in brackets": npy(head(shape="(3)"), TWELVE),
    "empty dimension": npy(head(shape="(,3)"), TWELVE),
    "huge shape": npy(head(shape="(1000000000000,)"), TWELVE),
    "shape overflows to 3": npy(head(shape="(18446744073709551619,)"), TWELVE),
    "product overflows": npy(head(shape="(9223372036854775807, 9223372036854775807)"), TWELVE),
    "product overflows to 3": npy(head(shape="(4294967296, 4294967296, 3)"), TWELVE),
    "endless dimension": npy(head(shape="(" + "9" * 40_000 + ",)"), TWELVE),
    "many dimensions": npy(head(shape="(" + "1," * 65 + ")"), bytes(4)),
    "order no bool": npy(head(fortran="1"), TWELVE),
    "objects": npy(head("'|O'"), TWELVE),
    "objects in file": npy(head("'|O8'"), pickle.dumps([None] * 3)),
    "records": npy(head("[('a', '<f4')]"), TWELVE),
    "dtype no string": npy(head("4"), TWELVE),
    "no dtype": npy(head("'spam'"), TWELVE),
    "no such float": npy(head("'<f3'"), TWELVE),
    "no such unit": npy(head("'<M8[spam]'"), TWELVE),
    "comma dtype": npy(head("'f4,f4'"), TWELVE),
    "huge dtype": npy(head("'|S99999999999'"), TWELVE),
}


@pytest.mark.parametrize("content", HOSTILE_NPY.values(), ids=HOSTILE_NPY.keys())
def test_hostile_npy(tmp_path, content):
    refuses(tmp_path, "bad.npy", content, "q.safetensors", files.quantize_file)


@pytest.mark.parametrize("content", HOSTILE_NPY.values(), ids=HOSTILE_NPY.keys())
def test_hostile_npy_inside_a_npz(tmp_path, content):
    refuses(tmp_path, "bad.npz", archive({"a.npy": content}), "q.safetensors", files.quantize_file)


# ---------------------------------------------------------------------------------------------
# .npz

GOOD_NPY = npy(head(shape="(3000,)"), np.arange(3000, dtype="<f4").tobytes())


def archive(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def patched(content, old, new):
    """`old` replaced wherever it stands, at least once."""
    assert old in content
    assert len(old) == len(new)
    return content.replace(old, new)


def crc(content):
    return struct.pack("<I", zlib.crc32(content))


STORED = archive({"a.npy": GOOD_NPY}, zipfile.ZIP_STORED)
DEFLATED = archive({"a.npy": GOOD_NPY})
DIRECTORY = DEFLATED.index(b"PK\x01\x02")
SIZES = struct.pack("<I", len(GOOD_NPY))
COMPRESSED = zipfile.ZipFile(io.BytesIO(DEFLATED)).infolist()[0].compress_size
HUGE_NPY = npy(head(shape="(536870912,)"))  # 2 GiB are missing


def flagged(content, bit):
    """A member whose flags, in both headers, have one bit more."""
    made = bytearray(content)
    made[6] |= bit
    made[DIRECTORY + 8] |= bit
    return bytes(made)


def overlapping():
    """An archive whose first member holds the second one, header and all, as its data."""
    inner = archive({"b.npy": GOOD_NPY}, zipfile.ZIP_STORED)
    inner = inner[: inner.index(b"PK\x01\x02")]
    outer = npy(head("'|u1'", shape=f"({len(inner)},)"), inner)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.npy", outer)
        info = zipfile.ZipInfo("b.npy")
        info.header_offset = file.getvalue().index(inner)
        info.file_size = info.compress_size = len(GOOD_NPY)
        info.CRC = zlib.crc32(GOOD_NPY)
        made.filelist.append(info)
    return file.getvalue()


LONGER = struct.pack("<I", len(GOOD_NPY) + 20)
HOSTILE_NPZ = {
    "a member inside another": overlapping(),
    "a member that ends inside the directory": patched(STORED, SIZES * 2, LONGER * 2),
    "empty": b"",
    "not zip": GOOD_NPY,
    "pickle": pickle.dumps([1.0, 2.0]),
    "truncated": DEFLATED[:-1],
    "only the end": DEFLATED[-22:],
    "truncated directory": DEFLATED[: DIRECTORY + 20],
    "directory elsewhere": patched(
        DEFLATED, struct.pack("<I", DIRECTORY), struct.pack("<I", DIRECTORY + 7)
    ),
    "huge directory": DEFLATED[:-10] + struct.pack("<I", 1 << 30) + DEFLATED[-6:],
    "two members of a name": patched(
        archive({"a.npy": GOOD_NPY, "b.npy": GOOD_NPY}), b"b.npy", b"a.npy"
    ),
    "no array": archive({"a.npy": GOOD_NPY, "a.txt": b"spam"}),
    "a folder": archive({"a.npy": GOOD_NPY, "a/": b""}),
    "a pickle": archive({"a.pkl": pickle.dumps(1)}),
    "encrypted": flagged(DEFLATED, 1),
    "strongly encrypted": flagged(DEFLATED, 64),
    "patched data": flagged(DEFLATED, 32),
    "bzip2": archive({"a.npy": GOOD_NPY}, zipfile.ZIP_BZIP2),
    "lzma": archive({"a.npy": GOOD_NPY}, zipfile.ZIP_LZMA),
    "another name inside": DEFLATED.replace(b"a.npy", b"b.npy", 1),
    "member is shorter": patched(DEFLATED, SIZES, struct.pack("<I", len(GOOD_NPY) + 4)),
    "member is longer": patched(DEFLATED, SIZES, struct.pack("<I", len(GOOD_NPY) - 4)),
    "member of 4 GiB": patched(DEFLATED, SIZES, b"\xff\xff\xff\xfe"),
    "more than deflate can give": patched(
        archive({"a.npy": HUGE_NPY}),
        struct.pack("<I", len(HUGE_NPY)),
        struct.pack("<I", len(HUGE_NPY) + (1 << 31)),
    ),
    "compressed to more than the file": patched(
        DEFLATED, struct.pack("<I", COMPRESSED), struct.pack("<I", 1 << 30)
    ),
    "no zip64 field": patched(DEFLATED, SIZES, b"\xff\xff\xff\xff"),
    "trailing bytes in the member": archive({"a.npy": GOOD_NPY + b"+"}),
}


def test_members_share_no_bytes(tmp_path):
    """NumPy reads any number of members of the same bytes where Python's zipfile lets it."""
    path = tmp_path / "bad.npz"
    path.write_bytes(HOSTILE_NPZ["a member inside another"])
    with contextlib.suppress(zipfile.BadZipFile), np.load(path) as found:  # as Python 3.13 does
        assert found["b"].nbytes < found["a"].nbytes
    with pytest.raises(ValueError, match=r"its members 'a\.npy' and 'b\.npy' overlap"):
        files.inspect_file(path)
    path.write_bytes(HOSTILE_NPZ["a member that ends inside the directory"])
    with pytest.raises(ValueError, match=r"its member 'a\.npy' overlaps the directory"):
        files.inspect_file(path)


@pytest.mark.parametrize("content", HOSTILE_NPZ.values(), ids=HOSTILE_NPZ.keys())
def test_hostile_npz(tmp_path, content):
    refuses(tmp_path, "bad.npz", content, "q.safetensors", files.quantize_file)


def test_a_directory_as_large_as_the_archive(tmp_path):
    """It would be read at once, so it is refused unread."""
    with open(tmp_path / "bad.npz", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 1 << 30, 0, 0))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a directory of 1073741824 bytes"):
            files.inspect_file(tmp_path / "bad.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


DAMAGED = {
    "stored, a bit": STORED[:5000] + bytes([STORED[5000] ^ 1]) + STORED[5001:],
    "stored, checksum": patched(STORED, crc(GOOD_NPY), b"spam"),
    "deflated, checksum": patched(DEFLATED, crc(GOOD_NPY), b"spam"),
    "deflated, bytes": DEFLATED[:2000] + b"\xff" * 40 + DEFLATED[2040:],
    "deflated, the end": DEFLATED[: DIRECTORY - 30] + bytes(30) + DEFLATED[DIRECTORY:],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("axis", [None, 0])
def test_damage_in_the_data_of_a_npz(tmp_path, content, axis):
    """Reported before the target is replaced, by the checksum at the latest."""
    refuses(
        tmp_path,
        "bad.npz",
        content,
        "q.safetensors",
        lambda *paths: files.quantize_file(*paths, axis=axis),
        reads=False,
    )


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_npz(tmp_path, version, method):
    """What the hostile archives would be without their fault; zip64, and every .npy version."""
    x = np.arange(3000, dtype="<f4")
    path = tmp_path / "good.npz"
    with zipfile.ZipFile(path, "w", method) as made, made.open("a.npy", "w", force_zip64=True) as f:
        np.lib.format.write_array(f, x, version)
    files.quantize_file(path, tmp_path / "q.safetensors")
    codes = safetensors.numpy.load_file(tmp_path / "q.safetensors")["a"]
    np.testing.assert_array_equal(codes, zp.quantize_dynamic(x)[0])


def test_names_that_climb_are_only_names(tmp_path):
    """No name in a file is ever a path."""
    folder = tmp_path / "folder"
    folder.mkdir()
    names = ["../../up", "/etc/root", "C:\\up", "a/b"]
    (folder / "s.npz").write_bytes(archive({f"{name}.npy": GOOD_NPY for name in names}))
    files.quantize_file(folder / "s.npz", folder / "q.safetensors")
    files.dequantize_file(folder / "q.safetensors", folder / "b.safetensors")
    assert safetensors.numpy.load_file(folder / "b.safetensors").keys() == set(names)
    assert entries(folder) == ["b.safetensors", "q.safetensors", "s.npz"]
    assert entries(tmp_path) == ["folder"]


# ---------------------------------------------------------------------------------------------
# .safetensors


def tensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="U8", shape=(3,), offsets=(0, 3)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE_SAFETENSORS = {
    "empty": b"",
    "seven bytes": b"\x02\0\0\0\0\0\0",
    "header beyond file": tensors(b"{}", length=50),
    "huge header": tensors(b"{}", length=2**63),
    "header over the limit": tensors(b"{}", length=100_000_001),
    "no header": tensors(b""),
    "no JSON": tensors(b"{'a': 1}"),
    "not an object": tensors(b"[1, 2]"),
    "two objects": tensors(b"{}{}"),
    "deep": tensors(b'{"a":' + b"[" * 100_000),
    "deep objects": tensors(b'{"a":' * 100_000),
    "endless number": tensors(b'{"a":' + b"9" * 100_000 + b"}"),
    "bad utf-8": tensors(b'{"\xff": 1}'),
    "utf-16": tensors('{"a": 1}'.encode("utf-16")),
    "byte order mark": tensors(b"\xef\xbb\xbf{}"),
    "half a surrogate pair": tensors(
        b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"
    ),
    "half a pair in the metadata": tensors(b'{"__metadata__":{"a":"\\udfff"}}'),
    "nan": tensors(b'{"a": NaN}'),
    "infinity": tensors(b'{"a":{"dtype":"U8","shape":[Infinity],"data_offsets":[0,1]}}', b"x"),
    "duplicate tensor": tensors(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"x",
    ),
    "duplicate tensor, escaped": tensors(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"x",
    ),
    "duplicate metadata": tensors(b'{"__metadata__":{},"__metadata__":{}}'),
    "duplicate field": tensors(
        b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"
    ),
    "entry no dict": tensors({"a": 5}),
    "missing field": tensors({"a": {"dtype": "U8", "shape": [3]}}, b"xyz"),
    "unknown dtype": tensors({"a": entry("U9")}, b"xyz"),
    "dtype no string": tensors({"a": entry([])}, b"xyz"),
    "shape no list": tensors({"a": {**entry(), "shape": 3}}, b"xyz"),
    "negative dimension": tensors({"a": entry(shape=(-3,))}, b"xyz"),
    "two negatives": tensors({"a": entry(shape=(-3, -1))}, b"xyz"),
    "bool dimension": tensors({"a": entry(shape=(True, 3))}, b"xyz"),
    "float dimension": tensors({"a": entry(shape=(3.0,))}, b"xyz"),
    "huge shape": tensors({"a": entry(shape=(2**60, 2**60))}, b"xyz"),
    "shape overflows": tensors({"a": entry(shape=(2**63, 2**63))}, b"xyz"),
    "shape overflows to 3": tensors({"a": entry(shape=(2**64 + 3,))}, b"xyz"),
    "many dimensions": tensors({"a": entry(shape=(1,) * 65 + (3,))}, b"xyz"),
    "wrong size": tensors({"a": entry("F32")}, b"xyz"),
    "half a byte": tensors({"a": entry("F4", (3,), (0, 2))}, b"xy"),
    "negative offset": tensors({"a": entry(offsets=(-3, 0))}, b"xyz"),
    "swapped offsets": tensors({"a": entry(shape=(0,), offsets=(3, 0))}, b"xyz"),
    "three offsets": tensors({"a": entry(offsets=(0, 3, 3))}, b"xyz"),
    "float offset": tensors({"a": entry(offsets=(0, 3.0))}, b"xyz"),
    "bool offset": tensors({"a": entry(shape=(1,), offsets=(False, True))}, b"x"),
    "offset beyond the file": tensors({"a": entry(offsets=(2**62, 2**62 + 3))}, b"xyz"),
    "truncated": tensors({"a": entry()}, b"xy"),
    "trailing bytes": tensors({"a": entry()}, b"xyz+"),
    "bytes without tensors": tensors({}, b"x"),
    "hole at the start": tensors({"a": entry(offsets=(1, 4))}, b"-xyz"),
    "hole": tensors({"a": entry(), "b": entry(offsets=(4, 7))}, b"xyz-xyz"),
    "overlap": tensors({"a": entry(), "b": entry(offsets=(2, 5))}, b"xyzyz"),
    "same place": tensors({"a": entry(), "b": entry()}, b"xyz"),
    "one inside the other": tensors({"a": entry(), "b": entry(shape=(1,), offsets=(1, 2))}, b"xyz"),
    "metadata no dict": tensors({"__metadata__": "x"}),
    "metadata no strings": tensors({"__metadata__": {"a": 1}}),
    "endless name": tensors({"a" * 100_000: 5}),
    # 200 KB each of what a parser would make thirty times as large
    "empty objects as tensors": tensors(b"{" + b'"a":{},' * 30_000 + b'"b":{}}'),
    "empty objects as a tensor": tensors(b'{"a":[' + b"{}," * 60_000 + b"{}]}"),
    "empty objects as a shape": tensors(b'{"a":{"shape":[' + b"{}," * 60_000 + b"{}]}}"),
    "empty objects in an unknown member": tensors(b'{"a":{"x":[' + b"{}," * 60_000 + b"{}]}}"),
    "unknown members": tensors(b'{"a":{' + b'"x":{},' * 30_000 + b'"x":{}}}'),
    "empty objects as metadata": tensors(b'{"__metadata__":[' + b"{}," * 60_000 + b"{}]}"),
    "empty objects in the metadata": tensors(
        b'{"__metadata__":{"a":[' + b"{}," * 60_000 + b"{}]}}"
    ),
    "empty objects in our metadata": tensors(
        b'{"__metadata__":{"zeropoint.version":"1","zeropoint.tensors":"{\\"a\\":['
        + b"{}," * 60_000
        + b'{}]}"}}'
    ),
    "empty objects as our tensors": tensors(
        b'{"__metadata__":{"zeropoint.version":"1","zeropoint.tensors":"{'
        + b'\\"a\\":{},' * 40_000
        + b'\\"b\\":{}}"}}'
    ),
}


@pytest.mark.slow("parses megabytes under tracemalloc")
@pytest.mark.parametrize("job", [files.quantize_file, files.dequantize_file])
@pytest.mark.parametrize("content", HOSTILE_SAFETENSORS.values(), ids=HOSTILE_SAFETENSORS.keys())
def test_hostile_safetensors(tmp_path, content, job):
    refuses(tmp_path, "bad.safetensors", content, "b.safetensors", job)


GOOD = {
    "dtype": "float32",
    "params": {
        "dtype": "uint8",
        "qmin": 0,
        "qmax": 255,
        "axis": None,
        "block_size": None,
        "convention": "numpy",
        "include_zero": True,
        "nan_code": None,
    },
}
OFFSET = {
    "dtype": "float32",
    "params": {
        "dtype": "uint8",
        "qmin": 0,
        "qmax": 255,
        "axis": None,
        "block_size": None,
        "convention": "cf",
        "nan_code": None,
        "fused": False,
    },
}


def quantized(entries=None, version="1", scale=0.5, zero=3, codes="U8", name="w", text=None):
    """A file like ours, with a fault in one place."""
    metadata = {"zeropoint.version": version}
    metadata["zeropoint.tensors"] = text or json.dumps({"w": GOOD} if entries is None else entries)
    header = {
        "__metadata__": metadata,
        f"{name}_scale": entry("F32", (), (0, 4)),
        "w_zero_point": entry("I32", (), (4, 8)),
        "w": entry(codes, (3,), (8, 11)),
    }
    return tensors(header, struct.pack("<fi", scale, zero) + b"abc")


def by_offset(
    step="scale", origin="offset", words=("F32", "F32"), shape=(), numbers=(0.5, 3), **fields
):
    """The same with a real offset; a field that is `...` is left out."""
    params = {k: v for k, v in {**OFFSET["params"], **fields}.items() if v is not ...}
    metadata = {"zeropoint.version": "1"}
    metadata["zeropoint.tensors"] = json.dumps({"w": {**OFFSET, "params": params}})
    codes = {"F32": "f", "F64": "d", "I32": "i"}
    packed = [
        struct.pack("<" + codes[word], int(value) if word == "I32" else value)
        for word, value in zip(words, numbers, strict=True)
    ]
    ends = [0, len(packed[0]), len(packed[0] + packed[1])]
    header = {
        "__metadata__": metadata,
        f"w_{step}": entry(words[0], (), (ends[0], ends[1])),
        f"w_{origin}": entry(words[1], shape, (ends[1], ends[2])),
        "w": entry("U8", (3,), (ends[2], ends[2] + 3)),
    }
    return tensors(header, b"".join(packed) + b"abc")


def changed(**fields):
    return {"w": {**GOOD, "params": {**GOOD["params"], **fields}}}


def lacking(field):
    return {"w": {**GOOD, "params": {k: v for k, v in GOOD["params"].items() if k != field}}}


CORRUPT = {
    "newer version": quantized(version="2"),
    "no JSON": quantized(text="{"),
    "deep": quantized(text='{"w":' * 100_000),
    "no object": quantized(text="[]"),
    "twice": quantized(text=f'{{"w": {json.dumps(GOOD)}, "w": {json.dumps(GOOD)}}}'),
    "entry no dict": quantized({"w": 1}),
    "no dtype": quantized({"w": {"params": GOOD["params"]}}),
    "unknown dtype": quantized({"w": {**GOOD, "dtype": "object"}}),
    "dtype no string": quantized({"w": {**GOOD, "dtype": {}}}),
    "params no dict": quantized({"w": {**GOOD, "params": 3}}),
    "codes of another dtype": quantized(changed(dtype="int16")),
    "codes of a long dtype": quantized(changed(dtype="f4," * 30_000)),
    "unknown convention": quantized(changed(convention="spam")),
    "convention no string": quantized(changed(convention=[])),
    "unknown key": quantized(changed(spam=1)),
    "missing key": quantized(lacking("qmin")),
    "qmin no integer": quantized(changed(qmin=0.5)),
    "qmin a bool": quantized(changed(qmin=False)),
    "qmin above qmax": quantized(changed(qmin=200, qmax=100)),
    "qmax beyond the dtype": quantized(changed(qmax=10**30)),
    "include_zero no bool": quantized(changed(include_zero=1)),
    "nan_code inside": quantized(changed(nan_code=7)),
    "nan_code at an end": quantized(changed(nan_code=255)),
    "nan_code at the other end": quantized(changed(nan_code=0)),
    "nan_code beyond the dtype": quantized(changed(nan_code=256)),
    "nan_code no integer": quantized(changed(nan_code=0.0)),
    "nan_code a bool": quantized(changed(nan_code=True)),
    "nan_code a long text": quantized(changed(nan_code="0" * 10_000)),
    "the fields of a real offset": quantized({"w": OFFSET}),
    "a convention of real offsets": quantized(changed(convention="cf")),
    "an axis without its scales": quantized(changed(axis=0)),
    "axis beyond the shape": quantized(changed(axis=1)),
    "negative axis": quantized(changed(axis=-1)),
    "axis no integer": quantized(changed(axis=0.0)),
    "axis a bool": quantized(changed(axis=False)),
    "a block without its scales": quantized(changed(axis=0, block_size=2)),
    "a block without an axis": quantized(changed(block_size=2)),
    "block of nothing": quantized(changed(axis=0, block_size=0)),
    "endless block": quantized(changed(axis=0, block_size=2**64)),
    "other codes": quantized(codes="I8"),
    "codes are bool": quantized(codes="BOOL"),
    "no scale tensor": quantized(name="v"),
    "no codes": quantized({"v": GOOD}),
}
CORRUPT |= {
    f"offset: {name}": content
    for name, content in {
        "convention of zero points": by_offset(convention="numpy"),
        "include_zero": by_offset(include_zero=True),
        "no fused": by_offset(fused=...),
        "fused no bool": by_offset(fused=1),
        "fused by cf": by_offset(fused=True),
        "nan_code inside": by_offset(nan_code=7),
        "nan_code at an end": by_offset(nan_code=255),
        "an axis without its scales": by_offset(axis=0),
        "a block without its scales": by_offset(axis=0, block_size=2),
        "a scale for a span": by_offset(convention="faiss"),
        "a span for a scale": by_offset(step="span"),
        "a zero point": by_offset(origin="zero_point"),
        "an integer": by_offset(words=("F32", "I32")),
        "a scale of integers": by_offset(words=("I32", "F32")),
        "two precisions": by_offset(words=("F32", "F64")),
        "another shape": by_offset(shape=(1,)),
    }.items()
}
CORRUPT_VALUES = {
    "scale zero": quantized(scale=0),
    "scale negative": quantized(scale=-0.5),
    "scale nan": quantized(scale=float("nan")),
    "scale infinite": quantized(scale=float("inf")),
    "zero point out of range": quantized(zero=300),
    "scale too small for its convention": quantized(changed(convention="torch"), scale=1e-42),
    "offset nan": by_offset(numbers=(1, float("nan"))),
    "offset infinite": by_offset(numbers=(1, float("-inf"))),
    "offset, scale zero": by_offset(numbers=(0, 1)),
    "span negative": by_offset(convention="faiss", step="span", numbers=(-1, 1)),
    "fused in float64": by_offset(
        convention="faiss", step="span", words=("F64", "F64"), fused=True
    ),
    "span nan": by_offset(convention="faiss", step="span", numbers=(float("nan"), 1)),
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT.keys())
def test_corrupt_parameters(tmp_path, content):
    refuses(tmp_path, "bad.safetensors", content, "b.npy", files.dequantize_file)


@pytest.mark.parametrize("content", CORRUPT_VALUES.values(), ids=CORRUPT_VALUES.keys())
def test_corrupt_scales_and_zero_points(tmp_path, content):
    refuses(tmp_path, "bad.safetensors", content, "b.npy", files.dequantize_file, reads=False)
    with pytest.raises(ValueError, match=r"bad.safetensors: tensor 'w': "):
        files.read_params(tmp_path / "bad.safetensors", "w")
    with pytest.raises(ValueError, match=r"bad.safetensors: tensor 'w': "):
        files.load(tmp_path / "bad.safetensors")


def test_the_corrupt_files_would_be_good_without_their_fault(tmp_path):
    (tmp_path / "q.safetensors").write_bytes(quantized())
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    expected = (np.frombuffer(b"abc", np.uint8).astype(np.float32) - 3) * np.float32(0.5)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), expected, strict=True)

    codes = np.frombuffer(b"abc", np.uint8)
    for keywords in ({}, {"nan_code": 255, "qmax": 254}, {"words": ("F64", "F64")}):
        (tmp_path / "q.safetensors").write_bytes(by_offset(**keywords))
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
        expected = codes.astype(np.float32) * np.float32(0.5) + np.float32(3)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), expected, strict=True)
    for fused in (True, False):
        faiss = by_offset(convention="faiss", step="span", fused=fused)
        (tmp_path / "q.safetensors").write_bytes(faiss)
        params = zp.OffsetParams(None, 3, span=0.5, convention="faiss", fused=fused)
        assert files.read_params(tmp_path / "q.safetensors", "w") == params


def test_no_quantized_tensor(tmp_path):
    (tmp_path / "q.safetensors").write_bytes(quantized({}))
    with pytest.raises(ValueError, match=r"it holds no quantized tensor \(.*'w' of U8"):
        files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")


def test_codes_of_no_elements(tmp_path):
    """Never written here, but consistent: nothing to dequantize."""
    header = {
        "__metadata__": {
            "zeropoint.version": "1",
            "zeropoint.tensors": json.dumps(changed(axis=1, block_size=2)),
        },
        "w": entry("U8", (0, 3), (0, 0)),
        "w_scale": entry("F32", (0, 2), (0, 0)),
        "w_zero_point": entry("I32", (0, 2), (0, 0)),
    }
    (tmp_path / "q.safetensors").write_bytes(tensors(header))
    files.dequantize_file(tmp_path / "q.safetensors", tmp_path / "b.npy")
    assert np.load(tmp_path / "b.npy").shape == (0, 3)


# ---------------------------------------------------------------------------------------------
# Many tensors


def many(count):
    """A file of `count` quantized tensors of two elements, w0 = [0, 1] and so on."""
    entries = {f"w{i}": GOOD for i in range(count)}
    metadata = {"zeropoint.version": "1", "zeropoint.tensors": json.dumps(entries)}
    header, at = {"__metadata__": metadata}, 0
    for suffix, dtype, shape, size in (
        ("_scale", "F32", [], 4),
        ("_zero_point", "I32", [], 4),
        ("", "U8", [2], 2),
    ):
        for i in range(count):
            header[f"w{i}{suffix}"] = entry(dtype, shape, (at, at + size))
            at += size
    scales = np.arange(1, count + 1, dtype="<f4")
    text = json.dumps(header, separators=(",", ":")).encode()
    return tensors(text, scales.tobytes() + bytes(4 * count) + bytes([0, 1]) * count)


def test_a_loop_over_all_parameters_is_linear(tmp_path, monkeypatch):
    """The header is read once, and each tensor's entry checked once."""
    path = tmp_path / "q.safetensors"
    path.write_bytes(many(1000))
    parsed, checked = [], []
    monkeypatch.setattr(_files, "_last", None)
    monkeypatch.setattr(_files, "_RECENT", -1e18)  # the file is new, and nobody changes it

    def counted(function, calls):
        return lambda *given: calls.append(1) or function(*given)

    monkeypatch.setattr(entries_of, "_entries", counted(entries_of._entries, parsed))
    monkeypatch.setattr(entries_of, "_quantized", counted(entries_of._quantized, checked))
    start = time.process_time()
    for i in range(1000):
        assert files.read_params(path, f"w{i}") == zp.QuantParams(np.float32(i + 1), 0)
        assert files.read_tensor(path, f"w{i}").tolist() == [0, 1]
    assert (len(parsed), len(checked)) == (1, 1000)
    assert time.process_time() - start < 15  # it was 44


@pytest.mark.slow("a header of megabytes")
def test_a_hundred_thousand_tensors(tmp_path, monkeypatch):
    path = tmp_path / "q.safetensors"
    path.write_bytes(many(33_400))
    monkeypatch.setattr(_files, "_last", None)
    monkeypatch.setattr(_files, "_RECENT", -1e18)
    start = time.process_time()
    info = files.inspect_file(path)
    assert len(info.tensors) == 100_200
    assert sum(one.quantized is not None for one in info.tensors) == 33_400
    for i in range(0, 33_400, 100):
        assert files.read_params(path, f"w{i}").scale == i + 1
    assert time.process_time() - start < 15
    _files._last = None


# ---------------------------------------------------------------------------------------------
# Any damage


@pytest.fixture(scope="module")
def good_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    x = np.random.default_rng(0).normal(size=(5, 12)).astype("<f4")
    np.save(folder / "w.npy", x)
    np.savez(folder / "s.npz", a=x, b=np.asfortranarray(x))
    np.savez_compressed(folder / "d.npz", a=x, b=np.arange(4))
    safetensors.numpy.save_file({"a": x, "b": np.arange(4), "c": x[0]}, folder / "t.safetensors")
    files.quantize_file(folder / "t.safetensors", folder / "q.safetensors", axis=-1, block_size=6)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_a_value_error_or_harmless(tmp_path, good_files, data):
    """Bytes are changed at random: never a crash, never another error, never a part of a file."""
    name = data.draw(st.sampled_from(sorted(good_files)))
    content = bytearray(good_files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    bad = tmp_path / f"bad{Path(name).suffix}"
    bad.write_bytes(content)
    job = files.dequantize_file if name == "q.safetensors" else files.quantize_file
    # a TypeError is for a dtype that is well-formed but not float
    with contextlib.suppress(ValueError, TypeError):
        job(bad, tmp_path / "o.safetensors")
        safetensors.numpy.load_file(tmp_path / "o.safetensors")
    assert not [name for name in entries(tmp_path) if re.search(r"\.part$", name)]


@pytest.mark.parametrize(
    ("offsets", "what"), [([0, 8, 4, 12], "overlaps the one before"), ([0, 8, 8, 16], None)]
)
def test_overlap_where_the_lengths_add_up(
    tmp_path: Path, offsets: list[int], what: str | None
) -> None:
    """Tensors that overlap, in a file whose length is the sum of theirs."""
    entries = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": ends}
        for name, ends in (("a", offsets[:2]), ("b", offsets[2:]))
    }
    text = json.dumps(entries).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    if what is None:
        assert len(files.inspect_file(path).tensors) == 2
        return
    with pytest.raises(ValueError, match=what):
        files.inspect_file(path)
