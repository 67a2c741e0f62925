"""Where a run took place: a figure without its machine says nothing."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import zeropoint as zp
from zeropoint import _backend

ROOT = Path(__file__).resolve().parent.parent
SIMD = ("sse", "avx", "fma", "f16c", "asimd", "neon", "sve")


def describe(packages: list[str]) -> dict[str, Any]:
    """Machine, compiler, versions of `packages`, date and commit, fit for JSON."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "simd": _simd(),
            "caches": _caches(),
            "load": _load(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "zeropoint": {
            "version": zp.__version__,
            "backends": list(zp.backends()),
            **_backend.core_info(),
        },
        "versions": {"python": platform.python_version(), **_versions(packages)},
    }


def _cpuinfo(*keys: str) -> str:
    """The first value of one of the keys in /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def _cpu() -> str:
    """The model's name, and its numbers where that is a hypervisor's vague one."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name} (family {family}, model {model})" if family and model else name


def _simd() -> list[str]:
    return sorted(f for f in _cpuinfo("flags", "Features").split() if f.startswith(SIMD))


def _caches() -> dict[str, str]:
    """Size of each level of cache of the first core, as Linux tells it."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        caches[f"L{level}{'' if kind == 'Unified' else kind[0].lower()}"] = size
    return caches


def _load() -> float | None:
    """Processes that ran in the last minute, before we began: a busy machine spoils a run."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _commit() -> str:
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _versions(packages: list[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
