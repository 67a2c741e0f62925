"""A worker of Dask that is killed in mid-job: its chunks are computed again, to the same bits."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import zeropoint as zp

from ..test_dask import Array, client, da, zd

__all__ = ["client"]


def loaded(folder: str, block_id: tuple[int, ...] = ()) -> Array:
    """One chunk, slowly; leaves a note who loads it."""
    Path(folder, f"{block_id[0]}-{os.getpid()}").touch()
    time.sleep(0.1)
    return np.random.default_rng(block_id[0]).normal(size=(1000, 4)).astype(np.float32)


def kill_a_worker(folder: Path, pids: set[int]) -> None:
    """SIGKILL to the worker that begins the sixth chunk, while it is at it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        notes = sorted(folder.iterdir(), key=lambda note: note.stat().st_mtime_ns)
        if len(notes) >= 6:
            pid = int(notes[-1].name.split("-")[1])
            assert pid in pids
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.005)


def test_a_worker_killed_in_mid_job(client: Any, tmp_path: Path) -> None:
    x = np.concatenate([loaded(str(tmp_path), (i,)) for i in range(16)])
    whole = zp.HistogramObserver(axis=1).update(x)

    def job(name: str) -> tuple[Any, threading.Thread]:
        folder = tmp_path / name
        folder.mkdir()
        pids = set(client.run(os.getpid).values())
        assert len(pids) == 2
        a = da.map_blocks(loaded, str(folder), chunks=((1000,) * 16, (4,)), dtype="f4", meta=x[:0])
        killer = threading.Thread(target=kill_a_worker, args=(folder, pids))
        killer.start()
        return a, killer

    with client.as_current():
        a, killer = job("observe")
        found = zd.observe(a, zp.HistogramObserver(axis=1))
        killer.join()
        assert found == whole
        params = found.params(method="mse")

        client.wait_for_workers(2, timeout=60)  # the nanny starts another in its place
        a, killer = job("quantize")
        codes = zd.quantize(a, params).compute()
        killer.join()
        np.testing.assert_array_equal(codes, zp.quantize(x, params))
    for name in ("observe", "quantize"):  # it was a chunk in work that was lost, and done again
        chunks = [note.name.split("-")[0] for note in (tmp_path / name).iterdir()]
        assert len(chunks) > len(set(chunks)) == 16
