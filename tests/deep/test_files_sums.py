"""Limits on the sum at full size: headers of 100 MB, 100,000 quantized tensors, read one by one.

The short forms are in ``tests/test_files_hostile.py``.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zeropoint as zp
from zeropoint import _files, files

from ..test_files_hostile import many

LENGTH = 100_000_000
JOB = r"""
import re, sys, time
from zeropoint import files
start = time.process_time()
try:
    files.inspect_file(sys.argv[1])
except ValueError as error:
    print(str(error)[:300])
print(time.process_time() - start)
print(int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) >> 10)
"""
OURS = b'{"__metadata__":{"zeropoint.version":"1","zeropoint.tensors":"{'
HEADERS = {
    "tensors": (b'{"a":{},', b'"b":{},', b'"c":{}}'),
    "a tensor": (b'{"a":[', b"{},", b"{}]}"),
    "a shape": (b'{"a":{"shape":[', b"{},", b"{}]}}"),
    "an unknown member": (b'{"a":{"x":[', b"{},", b"{}]}}"),
    "metadata": (b'{"__metadata__":{"a":[', b"{},", b"{}]}}"),
    "our metadata": (OURS + rb"\"a\":[", b"{},", b'{}]}"}}'),
    "our tensors": (OURS, rb"\"a\":{},", rb'\"b\":{}}"}}'),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_empty_objects(tmp_path: Path, name: str) -> None:
    """It took 2.6 GB and 16 s."""
    first, unit, last = HEADERS[name]
    text = first + unit * ((LENGTH - len(first) - len(last)) // len(unit)) + last
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(path)], check=True, capture_output=True, text=True
    )
    told, seconds, peak = done.stdout.splitlines()
    assert "x.safetensors: " in told
    assert float(seconds) < 8
    assert int(peak) < 600


def test_all_parameters_of_a_hundred_thousand_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "q.safetensors"
    path.write_bytes(many(100_000))
    monkeypatch.setattr(_files, "_last", None)
    time.sleep(2.5)  # until the file is no longer a recent one
    start = time.process_time()
    for i in range(100_000):
        assert files.read_params(path, f"w{i}").scale == i + 1
    seconds = time.process_time() - start
    with capsys.disabled():
        print(f"\n100,000 times read_params: {seconds:.1f} s")
    assert seconds < 60
    assert files.read_params(path, "w7") == zp.QuantParams(
        files.read_tensor(path, "w7_scale")[()], 0
    )
