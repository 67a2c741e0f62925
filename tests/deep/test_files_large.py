"""A file of 3 GiB, or a folder of 6, passes in less than 512 MiB; not for every run:
``pytest tests/deep``.

It needs 12 GB on a disk: a file system in memory would count, and `TMPDIR` must not be one.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import files
from zeropoint.interop.gguf import quantize_q8_0

from ..gguf_parts import ARRAY, STRING, info, made, pair, text

ROWS, COLUMNS = 3 << 10, 1 << 18  # of float32: 3 GiB
LIMIT = 512  # MiB

JOB = r"""
import re, sys
from zeropoint import files
source, target, keywords = sys.argv[1:]
if keywords == "back":
    files.dequantize_file(source, target)
else:
    files.quantize_file(source, target, **eval(keywords))
print(int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) >> 10)
"""


def row(i):
    return np.random.default_rng(i).standard_normal(COLUMNS, np.float32)


@pytest.fixture(scope="module")
def place():
    """A folder on a disk; all is deleted at the end."""
    with tempfile.TemporaryDirectory() as name:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
        on = max((m for m in mounts if os.path.realpath(name).startswith(m[0])), key=len)
        assert on[1] not in ("tmpfs", "ramfs"), f"{name} is in memory; set TMPDIR to a disk"
        yield Path(name)


@pytest.fixture(scope="module")
def large(place):
    """A folder with a large .npy in C order."""
    with open(place / "w.npy", "wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (ROWS, COLUMNS)}
        np.lib.format.write_array_header_1_0(file, head)
        for i in range(ROWS):
            file.write(row(i).tobytes())
    return place


@pytest.fixture(scope="module")
def model(place):
    """A model's folder with a sparse tensor of 6 GiB in one of two shards."""
    folder = place / "model"
    folder.mkdir()
    shapes = {"large": (3 << 10, 1 << 19), "small": (64, 64)}
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        entry = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
        head = json.dumps(entry).encode()
        with open(folder / f"{name}.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(head)) + head + row(0)[:64].tobytes())
            file.truncate(8 + len(head) + size)
    index = {"weight_map": {name: f"{name}.safetensors" for name in shapes}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with open(folder / "vocabulary.txt", "wb") as file:
        file.truncate(1 << 30)
    yield folder
    shutil.rmtree(folder)


def peak(*arguments):
    command = [sys.executable, "-c", JOB, *map(str, arguments)]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.parametrize(
    "keywords",
    [{}, {"axis": 0}, {"axis": 1}, {"axis": 1, "block_size": 32}, {"axis": 0, "block_size": 16}],
    ids=str,
)
def test_resident_memory(large, keywords, capsys):
    target = large / "q.safetensors"
    there = peak(large / "w.npy", target, keywords)
    back = peak(target, large / "b.npy", "back")
    with capsys.disabled():
        print(f"\n{keywords}: quantize {there} MiB, dequantize {back} MiB at the most")
    assert max(there, back) < LIMIT

    # the values: some rows through the functions, with the parameters of the file
    assert (large / "b.npy").stat().st_size == (large / "w.npy").stat().st_size
    params = files.read_params(target, "w")
    found = np.load(large / "b.npy", mmap_mode="r")
    for i in (0, ROWS // 2, ROWS - 1):
        x, one = row(i), of_row(params, i)
        np.testing.assert_array_equal(found[i], zp.dequantize(zp.quantize(x, one), one))


@pytest.mark.parametrize("keywords", [{}, {"axis": 0}, {"axis": 1, "block_size": 128}], ids=str)
def test_resident_memory_of_a_folder(model, keywords, capsys):
    target = model.with_name("q")
    there = peak(model, target, keywords)
    with capsys.disabled():
        print(f"\n{keywords}: quantize a folder {there} MiB at the most")
    assert there < LIMIT
    x, params = row(0)[:64], files.read_params(target, "small")
    codes = zp.quantize(x, of_row(params, 0))
    np.testing.assert_array_equal(files.read_tensor(target, "small")[0], codes)
    assert sorted(os.listdir(target)) == sorted(os.listdir(model))


def test_resident_memory_of_a_folder_back(model, capsys):
    """From the target of the last one."""
    target, back = model.with_name("q"), model.with_name("model2")
    used = peak(target, back, "back")
    with capsys.disabled():
        print(f"\ndequantize a folder {used} MiB at the most")
    assert used < LIMIT
    for path in model.iterdir():
        large = path.suffix == ".safetensors"  # headers differ
        sizes = [(folder / path.name).stat().st_size >> 10 * large for folder in (model, back)]
        assert sizes[0] == sizes[1] or path.suffix == ".json"
    x, params = row(0)[:64], files.read_params(target, "small")
    values = zp.dequantize(zp.quantize(x, of_row(params, 0)), of_row(params, 0))
    np.testing.assert_array_equal(files.read_tensor(back, "small")[0], values)


def test_resident_memory_of_a_gguf_file(place, capsys):
    """Mostly a hole of 3 GiB, behind a vocabulary."""
    tokens = b"".join(text(f"token {number}") for number in range(130_000))
    pairs = [pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 130_000) + tokens)]
    head = made(pairs, [info("w.weight", (ROWS * 2, COLUMNS), 1)])
    source, target, back = (place / f"{name}.gguf" for name in ("m", "q", "b"))
    x = row(0).astype("<f2")
    with open(source, "wb") as file:
        file.write(head + x.tobytes())
        file.truncate(len(head) + 4 * ROWS * COLUMNS)
    used = peak(source, target, {}), peak(target, back, "back")
    with capsys.disabled():
        print(f"\n.gguf: quantize {used[0]} MiB, dequantize {used[1]} MiB at the most")
    assert max(used) < 100
    blocks = quantize_q8_0(x)
    with open(target, "rb") as file:
        file.seek(-2 * ROWS * COLUMNS // 32 * 34, os.SEEK_END)
        assert file.read(blocks.nbytes) == blocks.tobytes()
    assert back.stat().st_size - source.stat().st_size < 1000
    for path in (source, target, back):
        path.unlink()


def of_row(params, i):
    """The parameters of row i: one, one a column, or one a block of columns."""
    scale, zero, axis, block = params.scale, params.zero_point, None, None
    if params.block_size is not None:
        at = i if params.axis == 1 else i // params.block_size
        scale, zero, axis = scale[at], zero[at], 0
        block = params.block_size if params.axis == 1 else None
    elif params.axis == 0:
        scale, zero = scale[i], int(zero[i])
    elif params.axis == 1:
        axis = 0
    return zp.QuantParams(scale, zero, axis=axis, block_size=block)
