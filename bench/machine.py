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
            "cpus": os.cpu_count(),
            "governor": _governor(),
            "virtual": "hypervisor" in _cpuinfo("flags").split(),
            "memory_gb": None if (free := memory()) is None else round(free / 1e9, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "zeropoint": {
            "version": zp.__version__,
            "backends": list(zp.backends()),
            **_backend.core_info(),
        },
        "versions": {"python": platform.python_version(), **versions(packages)},
    }


def doubts(head: dict[str, Any]) -> list[str]:
    """What makes the figures of a run less sure, from what `describe` found."""
    machine, ours = head["machine"], head["zeropoint"]
    load, cores, cpus = (machine.get(name) for name in ("load", "cores", "cpus"))
    governor = machine.get("governor")
    found = []
    if load is not None and load > 0.5 * cores:
        found.append(f"load {load:g} on {cores} CPUs before it began: others took their time")
    if cpus and cores < cpus:
        found.append(f"bound to {cores} of {cpus} CPUs")
    if governor and governor != "performance":
        found.append(f"frequency governor {governor!r}: clocks change while it measures")
    if machine.get("virtual"):
        found.append("a virtual machine: what its neighbours do cannot be seen")
    if not ours.get("compiler"):
        found.append("zeropoint has no compiled core here: its NumPy reference is measured")
    elif ours["backends"][0] != "avx512" and "x86" in machine["system"]:
        found.append(f"no AVX-512: the best backend is {ours['backends'][0]}")
    if set(head["versions"]) - {"python", "zeropoint"} == {"numpy"}:
        found.append("NumPy alone is measured beside it: 'the fastest other' is NumPy")
    if str(head["commit"]).endswith("-dirty"):
        found.append("the checkout has changes that are not committed")
    return found


def memory() -> int | None:
    """Bytes that can be had now, None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(each.split()[1]) for each in lines if "MemAvailable" in each)
    except (OSError, StopIteration):
        return None


def _governor() -> str | None:
    try:
        policy = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return policy.read_text().strip()
    except OSError:
        return None


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


def versions(packages: list[str]) -> dict[str, str]:
    """The version of each distribution, "unknown" where it is not installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
