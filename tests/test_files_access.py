"""How `zeropoint.files` opens, guards and replaces files; what it says of files of another kind."""

import json
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import zeropoint as zp
from zeropoint import _cli, files
from zeropoint._files import likely, target


def saved(folder, x, name="w"):
    path = folder / f"{name}.npy"
    np.save(path, x)
    return path


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("<f4")


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# ---------------------------------------------------------------------------------------------
# Permissions


@pytest.mark.parametrize("old", [0o600, 0o640, 0o644, 0o400, 0o4755, 0o2777])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_being_written_is_as_private_as_its_target(tmp_path, old, order):
    source, dst = (
        saved(tmp_path, np.asarray(numbers(30, 40), order=order)),
        tmp_path / "q.safetensors",
    )
    dst.write_bytes(b"a secret")
    dst.chmod(old)
    seen = []

    def look(done, total):
        seen.extend(mode(path) for path in tmp_path.glob(".zeropoint-*.part"))

    before = os.umask(0)
    try:
        files.quantize_file(source, dst, progress=look)
    finally:
        os.umask(before)
    assert set(seen) == {0o600}
    assert mode(dst) == old & 0o777  # no set-user-ID and no set-group-ID


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027])
def test_a_new_file_has_the_mode_of_new_files_from_the_start(tmp_path, umask):
    source, seen = saved(tmp_path, numbers(30, 40)), []

    def look(done, total):
        seen.extend(mode(path) for path in tmp_path.glob(".zeropoint-*.part"))

    before = os.umask(umask)
    try:
        files.quantize_file(source, tmp_path / "q.safetensors", progress=look)
    finally:
        os.umask(before)
    assert set(seen) == {0o666 & ~umask}
    assert mode(tmp_path / "q.safetensors") == 0o666 & ~umask


def test_a_part_never_takes_a_file_that_is_there(tmp_path, monkeypatch):
    """Its name is chosen at random; whoever guesses it cannot have it written through a link."""
    monkeypatch.setattr(target.secrets, "token_hex", lambda n: "0" * 2 * n)
    (tmp_path / f".zeropoint-{'0' * 16}.part").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        files.quantize_file(saved(tmp_path, numbers(30, 40)), tmp_path / "q.safetensors")
    assert not (tmp_path / "victim").exists()


def test_the_group_of_another_file_gets_nothing(tmp_path, monkeypatch):
    source, dst = saved(tmp_path, numbers(30, 40)), tmp_path / "q.safetensors"
    dst.write_bytes(b"a secret")
    dst.chmod(0o664)
    real = os.fstat

    def another(descriptor):
        """As of a file whose group is not that of the target."""
        found = list(real(descriptor))
        found[5] += 1
        return os.stat_result(found)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(target.os, "fstat", another)
    try:
        files.quantize_file(source, dst)
    finally:
        monkeypatch.undo()
    assert mode(dst) == 0o604


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_and_group_outlive_the_replacement(tmp_path):
    source, dst = saved(tmp_path, numbers(30, 40)), tmp_path / "q.safetensors"
    dst.write_bytes(b"a secret")
    os.chown(dst, 12345, 23456)
    dst.chmod(0o640)
    files.quantize_file(source, dst)
    found = os.stat(dst)
    assert (found.st_uid, found.st_gid, mode(dst)) == (12345, 23456, 0o640)


UNREADABLE = """
import os, sys
from zeropoint import _cli, files
os.chdir(sys.argv[1])
if os.geteuid() == 0:  # root reads everything
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    os.listdir("to")
except PermissionError:
    files.quantize_file("w.npy", "to/q.safetensors")
    print("done")
"""


@pytest.mark.parametrize("old", [None, b"the old file"])
def test_a_directory_that_cannot_be_read(old):
    """It may be written to, but not opened to be synced: the file is written all the same."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        saved(folder, numbers(30, 40)).chmod(0o644)
        (folder / "to").mkdir()
        dst = folder / "to" / "q.safetensors"
        if old:
            dst.write_bytes(old)
        (folder / "to").chmod(0o333)
        done = subprocess.run(
            [sys.executable, "-c", UNREADABLE, name], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "done\n", done.stderr
        (folder / "to").chmod(0o755)
        assert [path.name for path in (folder / "to").iterdir()] == ["q.safetensors"]
        assert files.read_tensor(dst, "w").shape == (30, 40)


# ---------------------------------------------------------------------------------------------
# What was opened is what was checked

SWAPPED = """
import sys
from pathlib import Path
from zeropoint import _cli, files
Path.is_file = lambda self: True  # as it was when it was looked at
try:
    files.inspect_file(sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_a_fifo_that_takes_the_place_of_a_file(tmp_path):
    """Its open waits for a writer, for ever."""
    os.mkfifo(tmp_path / "w.npy")
    done = subprocess.run(
        [sys.executable, "-c", SWAPPED, tmp_path / "w.npy"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "w.npy: it is not a regular file; copy its content to a file" in done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "socket"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_what_is_no_file(tmp_path, monkeypatch, kind, suffix):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = Path(f"w{suffix}")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    for job in (
        files.inspect_file,
        lambda path: files.read_tensor(path, "w"),
        lambda path: files.read_params(path, "w"),
        lambda path: files.quantize_file(path, "q.safetensors"),
    ):
        what = rf"w\{suffix}: it is not a regular file"
        if kind == "directory":  # it may be a model's
            what = rf"w\{suffix}: it is empty; pass|the source is a folder, and this the name of a"
        with pytest.raises(ValueError, match=what):
            job(path)
    assert not Path("q.safetensors").exists()


def test_a_source_that_is_rewritten_and_its_time_set_back(tmp_path):
    x = numbers(3000, 1000)  # 12 MB, in three chunks, and read twice
    source = tmp_path / "w.npy"
    np.save(source, x)
    before = os.stat(source)

    def change(done, total):
        if done == total:
            np.save(source, x * 100)
            os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(ValueError, match="it changed while it was read"):
        files.quantize_file(source, tmp_path / "q.safetensors", progress=change)
    assert os.stat(source).st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["w.npy"]


def test_the_header_that_is_kept_is_of_the_file_as_it_is(tmp_path, monkeypatch):
    """`read_tensor` and `read_params` keep the last header, unless the file has changed."""
    import zeropoint._files as reading

    read = []
    monkeypatch.setitem(
        reading._FORMATS,
        ".safetensors",
        lambda file, path: read.append(path) or reading.safetensors.source(file, path),
    )
    monkeypatch.setattr(reading, "_last", None)
    monkeypatch.setattr(reading, "_RECENT", -1e18)  # the files here are all recent
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    safetensors.numpy.save_file({"w": np.float32([1, 2])}, path)
    assert files.read_tensor(path, "w").tolist() == [1, 2]
    assert files.read_tensor(path, "w").tolist() == [1, 2]
    assert read == [path]
    before = os.stat(path)
    content = path.read_bytes()
    with open(path, "r+b") as file:  # in place, the same length, its time set back
        file.write(content.replace(b'"w"', b'"v"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="it has no tensor 'w'"):
        files.read_tensor(path, "w")
    assert files.read_tensor(path, "v").tolist() == [1, 2]
    safetensors.numpy.save_file({"v": np.float32([3, 4])}, other)
    os.replace(other, path)
    assert files.read_tensor(path, "v").tolist() == [3, 4]
    monkeypatch.setattr(reading, "_RECENT", 1e18)  # too recent to differ from a later change
    reading._last = None
    read.clear()
    for _ in range(3):
        files.read_tensor(path, "v")
    assert read == [path] * 3


# ---------------------------------------------------------------------------------------------
# Files of another kind

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
KINDS = {
    "pointer": (POINTER, r"it is a Git LFS pointer.*; fetch the file itself, .* git lfs pull"),
    "HTML": (b"<!DOCTYPE html>\n<html><head>", "it is an HTML page.*; download the file itself"),
    "html": (b"\n <!-- x -->\n<html lang='en'>" + b" " * 600, "it is an HTML page"),
    "HTML, BOM": (b"\xef\xbb\xbf<!doctype  HTML>", "it is an HTML page"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "it is an XML document"),
    "text": (b"Entry not found", "it is text, and starts with 'Entry not found'; look at it"),
    "JSON": (
        b'{"error":"Invalid username or password."}',
        """it is text, and starts with '{"error":"Inv""",
    ),
    "escapes": (b"\x1b[31mEntry not found\x1b[0m", None),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(range(1, 9)), "it is a .gguf file; give it its own suffix"),
    "pickle": (b"\x80\x04\x95\x0b\x01\x02\x03\x04\x05\x06", "it is a Python pickle"),
    "gzip": (b"\x1f\x8b\x08\x08abcdefgh", "it is compressed with gzip; decompress it first"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "it is an HDF5 file"),
    "zip": (b"PK\3\4\x14\0\0\0\x08\0" + bytes(30), "it is a zip archive, such as a .npz"),
    "npy": (b"\x93NUMPY\1\0v\0{'descr'", "it is a .npy file; give it its own suffix"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".gguf"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_another_kind(tmp_path, kind, suffix):
    content, words = KINDS[kind]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    owners = ("zip", ".npz"), ("npy", ".npy"), ("GGUF", ".gguf")
    own = (kind, suffix) in owners or words is None
    target = tmp_path / ("q.gguf" if suffix == ".gguf" else "q.safetensors")
    for job in (
        files.inspect_file,
        lambda path: files.quantize_file(path, target),
    ):
        with pytest.raises(
            ValueError, match=rf"model\{suffix}: {'.*; ' if own else words}"
        ) as error:
            job(path)
        assert "\x1b" not in str(error.value)
        assert not own or not any(text in str(error.value) for text in ("it is a", "it is text"))
    assert not (tmp_path / "q.safetensors").exists()


def test_no_header_is_taken_for_another_kind(tmp_path):
    """A length below 4 GiB may begin as a pickle or a gzip file does."""
    for start in (b"\x80\x02\x01\0", b"\x1f\x8b\x08\0", b"PK\3\4"):
        assert likely.what(start + bytes(4) + b"{", ".safetensors") is None
    text = b"{" + b" " * (0x280 - 2) + b"}"
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 0x280) + text)
    assert files.inspect_file(tmp_path / "x.safetensors").tensors == ()


# ---------------------------------------------------------------------------------------------
# Members of archives that are no arrays


@pytest.fixture
def archive(tmp_path):
    """Arrays of numbers, and what else people put beside them."""
    path = tmp_path / "s.npz"
    np.savez(
        path,
        w=numbers(20, 30),
        names=np.array(["a", "bc"]),
        objects=np.array([{}, None], dtype=object),
        records=np.zeros(3, [("a", "<f4"), ("b", "<i4")]),
        when=np.array(["2020-01-01"], "M8[D]"),
    )
    with zipfile.ZipFile(path, "a") as made:
        made.writestr("README.txt", "spam")
        made.writestr("no.npy", b"no array")
    return path


ODD = {
    "names": (TypeError, "tensor 'names' holds <U2, which safetensors lacks; .*exclude it"),
    "when": (TypeError, r"tensor 'when' holds <M8\[D\], which safetensors lacks"),
    "objects": (ValueError, "its member 'objects' holds Python objects, which are never loaded"),
    "records": (ValueError, "its member 'records' holds records"),
    "README.txt": (ValueError, "its member 'README.txt' is not a .npy file; exclude it"),
    "no": (ValueError, "its member 'no' does not start as a .npy file"),
}


@pytest.mark.parametrize("odd", ODD)
def test_members_that_are_no_arrays_of_numbers(tmp_path, archive, odd):
    error, words = ODD[odd]
    others = [name for name in ODD if name != odd]
    with pytest.raises(error, match=rf"s\.npz: {words}"):
        files.quantize_file(archive, tmp_path / "q.safetensors", exclude=others)
    if error is ValueError:
        with pytest.raises(ValueError, match="s.npz: its member "):
            files.inspect_file(archive)
    assert not (tmp_path / "q.safetensors").exists()


@pytest.mark.parametrize("exclude", [list(ODD), ["[!w]*", "when"]])
def test_what_is_excluded_is_left_out(tmp_path, archive, exclude, capsys):
    done = files.quantize_file(archive, tmp_path / "q.safetensors", exclude=exclude)
    assert [one.name for one in done.tensors] == ["w"]
    assert set(done.left_out) == set(ODD)
    assert done.left_out["names"] == "safetensors lacks its dtype, <U2"
    assert done.left_out["objects"] == "holds Python objects, which are never loaded"
    x = numbers(20, 30)
    np.testing.assert_array_equal(
        files.read_tensor(tmp_path / "q.safetensors", "w"), zp.quantize(x, zp.choose_params(x))
    )
    json.dumps(done.to_dict())
    excluded = [word for pattern in exclude for word in ("--exclude", pattern)]
    command = ["quantize", str(archive), "-o", str(tmp_path / "r.safetensors"), *excluded]
    assert _cli.main(command) == 0
    said = capsys.readouterr().out
    assert all(f"left out: {name}: {why}\n" in said for name, why in done.left_out.items())


# ---------------------------------------------------------------------------------------------
# What an axis would make larger


@pytest.mark.parametrize(
    ("shape", "dtype", "keywords", "kept"),
    [
        ((1024,), "<f4", {"axis": 0}, "it would not get smaller: 4096 -> 9216 bytes"),
        ((1024,), "<f4", {}, None),
        ((1,), "<f4", {}, None),  # one scale is what was asked for
        ((4, 8), "<f2", {"axis": 0}, "it would not get smaller: 64 -> 64 bytes"),
        ((4, 9), "<f2", {"axis": 0}, None),  # 72 -> 68
        ((64,), "<f4", {"axis": 0, "block_size": 2}, "it would not get smaller: 256 -> 320 bytes"),
        ((64,), "<f4", {"axis": 0, "block_size": 3}, None),  # 256 -> 240
        ((64, 2), "<f8", {"axis": 0}, None),  # 1024 -> 896
    ],
)
def test_what_would_not_get_smaller_is_kept(tmp_path, shape, dtype, keywords, kept):
    source = tmp_path / "s.safetensors"
    arrays = {"big": numbers(64, 64).astype("<f8"), "x": numbers(*shape).astype(dtype)}
    safetensors.numpy.save_file(arrays, source)
    done = files.quantize_file(source, tmp_path / "q.safetensors", **keywords)
    found = {one.name: one for one in done.tensors}
    assert found["big"].kept is None
    assert found["x"].kept == kept
    if kept:
        assert (found["x"].bytes_in, found["x"].bytes_out) == (arrays["x"].nbytes,) * 2
        assert found["x"].error_bound is None
        back = files.read_tensor(tmp_path / "q.safetensors", "x")
        np.testing.assert_array_equal(back, arrays["x"], strict=True)


def test_a_file_of_norms_alone_is_an_error_that_says_so(tmp_path):
    with pytest.raises(
        ValueError, match="nothing is left to quantize .'w': it would not get smaller"
    ):
        files.quantize_file(saved(tmp_path, numbers(1024)), tmp_path / "q.safetensors", axis=0)


# ---------------------------------------------------------------------------------------------
# The header


@pytest.mark.parametrize("length", [100_000_000, 100_000_001])
def test_the_limit_of_a_header(tmp_path, length):
    """Both sides of it, as the library has it; the rest of the header is padding."""
    path = tmp_path / "x.safetensors"
    text = b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}'
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", length) + text.ljust(length) + b"xyz")
    if length == 100_000_000:
        with safetensors.safe_open(path, "numpy") as file:
            assert file.get_tensor("a").tolist() == [120, 121, 122]
        assert files.read_tensor(path, "a").tolist() == [120, 121, 122]
        return
    with pytest.raises(safetensors.SafetensorError, match="too large"):
        safetensors.safe_open(path, "numpy")
    with pytest.raises(ValueError, match="its header of 100000001 bytes is too large"):
        files.inspect_file(path)


def test_tensors_are_in_the_order_of_the_library(tmp_path):
    """By width, then by name; not in the order of the source."""
    source, dst = tmp_path / "s.npz", tmp_path / "q.safetensors"
    wide, narrow = numbers(3), np.arange(5, dtype=np.int16)
    np.savez(source, d=wide, z=narrow, b=wide, a=narrow, ids=np.arange(2), c=wide, q=numbers(90))
    files.quantize_file(source, dst, include="q")
    expected = ["ids", "b", "c", "d", "q_scale", "q_zero_point", "a", "z", "q"]
    assert [one.name for one in files.inspect_file(dst).tensors] == expected
    (length,) = struct.unpack("<Q", dst.read_bytes()[:8])
    header = json.loads(dst.read_bytes()[8 : 8 + length])
    assert [name for name in header if name != "__metadata__"] == expected
    # the library writes the same bytes of the same tensors
    tensors = safetensors.numpy.load_file(dst)
    again = safetensors.numpy.save({name: tensors[name] for name in sorted(tensors)})
    assert again[-sum(x.nbytes for x in tensors.values()) :] == dst.read_bytes()[8 + length :]
