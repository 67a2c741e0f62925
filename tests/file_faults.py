"""Faults in the middle of a file job: strace fails, or kills at, each system call in turn.

A job runs once unharmed, and the log tells which calls it makes on the files of its folder.  Then
it runs again for each of them, with an error or SIGKILL in its place.  The target must be the old
or the new file or folder, byte for byte, and after errors nothing else may be left.
"""

from __future__ import annotations

import errno
import inspect
import json
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OLD = b"the old file"
_DISK = ("ENOSPC", "EIO", "KILL")
#: what is done to each call; a kill at one that changes nothing is one at the next that does
FAULTS = {
    **dict.fromkeys(("read", "newfstatat", "fstat", "stat"), ("EIO",)),
    **dict.fromkeys(("openat", "open", "write", "pwrite64", "fsync", "fdatasync", "close"), _DISK),
    **dict.fromkeys(("rename", "renameat", "renameat2"), _DISK),
    **dict.fromkeys(("mkdir", "mkdirat"), _DISK),
    **dict.fromkeys(("chmod", "fchmod", "fchmodat"), ("EIO", "KILL")),
    **dict.fromkeys(("getdents64", "unlink", "unlinkat", "rmdir"), ("EIO", "KILL")),
}
#: job, suffix of the target, and whether it exists
CASES = [
    (job, suffix, exists)
    for job, suffix in (
        ("quantize", ".safetensors"),
        ("dequantize", ".safetensors"),
        ("dequantize", ".npy"),
        ("save", ".safetensors"),
        ("quantize", ""),
        ("dequantize", ""),
    )
    for exists in (True, False)
]


def work(job: str, source: str, target: str) -> None:
    from zeropoint import files

    if job == "quantize":
        files.quantize_file(source, target, axis=0)
    elif job == "dequantize":
        files.dequantize_file(source, target)
    else:
        files.save(target, files.load(source))


JOB = f"import sys\n{inspect.getsource(work)}\nwork(*sys.argv[1:])"


class Fault(NamedTuple):
    """The call `name` fails when it is made the `when`-th time in the process."""

    name: str
    when: int
    how: str  #: an error, or KILL


class Job:
    """A job in a folder of its own.

    Parameters
    ----------
    folder
        An empty one.
    job
        ``"quantize"``, ``"dequantize"`` or ``"save"``.
    suffix
        Of the target, which is a folder without one.
    exists
        Whether the target is there, as the old file or folder.
    """

    def __init__(self, folder: Path, job: str, suffix: str, exists: bool) -> None:
        self.name, self.exists, self._folder = job, exists, folder
        self.source = _source(folder, job, suffix)
        self.target = folder / f"target{suffix}"
        self._run(None)  # compiles the modules, so that the next runs make the same calls
        self.calls = self._calls()
        self.new = held(self.target)
        files = self.new.values() if isinstance(self.new, dict) else [self.new]
        self.largest = max(len(content or b"") for content in files)  #: bytes of one file

    def faults(self) -> Iterator[Fault]:
        """Every fault at every call."""
        for name, when in self.calls:
            for how in FAULTS[name]:
                yield Fault(name, when, how)

    def run(self, fault: Fault) -> str:
        """What a fault did: ``"old"`` or ``"new"``, and a plus for a part that SIGKILL left."""
        done, log = self._run(fault)
        assert "(INJECTED)" in log or fault.how == "KILL", f"{fault} was never made:\n{log[-2000:]}"
        said = f"{self.name} {fault}: exit {done.returncode}\n{done.stderr[-3000:]}"
        left = {path.name for path in self._folder.iterdir()} - {self.source.name, "log"}
        found = held(self.target)
        assert found in (self.new, self._old), f"torn: {said}"
        new, left_over = found == self.new, left - {self.target.name}
        if fault.how == "KILL":
            assert done.returncode < 0, said
            assert all(re.fullmatch(r"\.zeropoint-\w+\.part", name) for name in left_over), said
        else:
            # what is left of the old folder, where that cannot be removed
            assert not left_over or (new and not self.target.suffix), f"{left_over} left: {said}"
            # a call whose error changes nothing (is there such a file?) may go unnoticed
            assert done.returncode == 1 or (done.returncode == 0 and new), said
            assert done.returncode == 0 or "OSError: [Errno " in done.stderr, said
        return ("new" if new else "old") + "+" * bool(left_over)

    def fill_disk(self, room: int) -> None:
        """The same for files that cannot grow beyond `room` bytes: a write stops half way."""
        self._clear()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            work(self.name, str(self.source), str(self.target))
        except OSError as error:
            found = error.errno
        else:
            found = 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert found == errno.EFBIG, f"room for {room} of {self.largest} bytes: {found}"
        left = {path.name for path in self._folder.iterdir()} - {self.source.name, "log"}
        assert left == ({self.target.name} if self.exists else set()), (room, left)
        assert held(self.target) == self._old, room

    def _clear(self) -> None:
        for path in self._folder.iterdir():
            if path.is_dir() and path != self.source:
                shutil.rmtree(path)
            elif path != self.source:
                path.unlink()
        if self.exists and self.target.suffix:
            self.target.write_bytes(OLD)
            self.target.chmod(0o640)
        elif self.exists:
            (self.target / "sub").mkdir(parents=True)
            for name in ("config.json", "sub/old.txt"):
                (self.target / name).write_bytes(OLD)
        self._old = held(self.target)

    def _run(self, fault: Fault | None) -> tuple[subprocess.CompletedProcess[str], str]:
        strace = shutil.which("strace")
        assert strace, "strace is missing: apt-get install strace"
        self._clear()
        log = self._folder / "log"
        names = [fault.name] if fault else [f"?{name}" for name in FAULTS]  # ?: if there is one
        command = [strace, "-f", "-y", "-o", str(log), "-e", f"trace={','.join(names)}"]
        command += ["-e", "signal=none"]
        if fault:
            how = "signal=KILL" if fault.how == "KILL" else f"error={fault.how}"
            command += ["-e", f"inject={fault.name}:{how}:when={fault.when}"]
        command += [sys.executable, "-c", JOB, self.name, str(self.source), str(self.target)]
        done = subprocess.run(command, capture_output=True, text=True)
        text = log.read_text() if log.exists() else ""
        assert text, f"strace cannot trace here, it needs ptrace: {done.stderr}"
        assert fault or done.returncode == 0, done.stderr
        return done, text

    def _calls(self) -> list[tuple[str, int]]:
        """The calls of a job without a fault, each with its number among those of its name."""
        _, log = self._run(None)
        counts: Counter[str] = Counter()
        found, pids = [], set()
        for line in log.splitlines():
            call = re.match(r"(\d+) +(\w+)\(", line)
            if not call:
                continue
            pids.add(call[1])
            counts[call[2]] += 1
            if str(self._folder) in line:  # not those of Python's imports
                found.append((call[2], counts[call[2]]))
        assert len(pids) == 1, "strace counts the calls of each thread by itself"
        return found


def held(path: Path) -> bytes | dict[str, bytes | None] | None:
    """The bytes of a file, what a folder holds by name, or None if there is nothing."""
    if not path.is_dir():
        return path.read_bytes() if path.exists() else None
    return {
        str(each.relative_to(path)): None if each.is_dir() else each.read_bytes()
        for each in path.rglob("*")
    }


def _source(folder: Path, job: str, suffix: str) -> Path:
    """A file of several tensors, one in Fortran order; for .npy one alone; or a folder."""
    from zeropoint import files

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 90)).astype(np.float32)
    source = folder / ("source.npz" if suffix else "source")
    if not suffix:
        _model(source, {"a": x, "b": x[:7].T})
    elif suffix == ".npy":
        np.savez(source, a=x)
    else:
        np.savez(source, a=x, b=x[:7].T, c=np.arange(5))
    if job == "quantize":
        return source
    floats = source.rename(folder / f"floats{source.suffix}")
    source = folder / ("source.safetensors" if suffix else "source")
    files.quantize_file(floats, source, axis=0)
    shutil.rmtree(floats) if floats.is_dir() else floats.unlink()
    return source


def _model(folder: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    """A shard for each tensor, an index, and files to copy."""
    from safetensors.numpy import save_file

    (folder / "sub").mkdir(parents=True)
    for name, tensor in tensors.items():
        save_file({name: np.ascontiguousarray(tensor)}, folder / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "sub/config.json"):
        (folder / name).write_text("{}")
