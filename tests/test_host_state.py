"""The host's rounding mode and FTZ/DAZ change nothing in the kernels, and are left alone."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import zeropoint as zp

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="sets MXCSR through glibc's fenv_t on x86-64",
)

MXCSR = 28  # its offset in glibc's fenv_t
ROUND = {"nearest": 0x0000, "down": 0x2000, "up": 0x4000, "zero": 0x6000}
FTZ_DAZ = 0x8040
NEEDED = 0x1F80
STICKY = 0x003F


def libm() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("m"))


def mxcsr() -> int:
    state = (ctypes.c_ubyte * 32)()
    libm().fegetenv(state)
    return int.from_bytes(bytes(state[MXCSR : MXCSR + 4]), "little")


@contextmanager
def host_state(bits: int) -> Iterator[None]:
    saved = (ctypes.c_ubyte * 32)()
    libm().fegetenv(saved)
    changed = (ctypes.c_ubyte * 32)(*saved)
    changed[MXCSR : MXCSR + 4] = list((NEEDED | bits).to_bytes(4, "little"))
    libm().fesetenv(changed)
    try:
        yield
    finally:
        libm().fesetenv(saved)


@pytest.mark.parametrize("flush", [0, FTZ_DAZ], ids=["ieee", "ftz+daz"])
@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("convention", list(zp.CONVENTIONS))
def test_same_bits_and_state_kept(native: str, convention: str, mode: str, flush: int) -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate(
        [
            rng.normal(size=5000) * 4,
            (rng.integers(-300, 300, 500) + 0.5) * 0.03,
            rng.normal(size=500) * 1e-40,
        ]
    ).astype(np.float32)
    scales = (0.03, 3e-38 if convention == "torch" else 1e-40)
    for data in (x, x.astype(np.float16), x.astype(np.float64)):
        for scale in scales:
            params = zp.QuantParams(scale, 100, convention=convention)
            with zp.use_backend("numpy"):
                codes, values = params.quantize(data), params.fake_quantize(data)
            # a fresh QuantParams: the reciprocal is computed at its first use, in the host's state
            params = zp.QuantParams(scale, 100, convention=convention)
            with host_state(ROUND[mode] | flush):
                before = mxcsr()
                got = params.quantize(data), params.fake_quantize(data)
                after = mxcsr()
            assert got[0].tobytes() == codes.tobytes()
            assert got[1].tobytes() == values.tobytes()
            assert after & ~STICKY == before & ~STICKY  # Python itself may raise flags


def test_import_leaves_the_state_alone() -> None:
    import subprocess
    import sys

    code = (
        "import ctypes, ctypes.util, numpy\n"
        "def state():\n"
        "    s = (ctypes.c_ubyte * 32)(); ctypes.CDLL(ctypes.util.find_library('m')).fegetenv(s)\n"
        f"    return bytes(s[{MXCSR}:{MXCSR + 4}])\n"
        "a = state(); import zeropoint; assert state()[1] == a[1], (a, state())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
