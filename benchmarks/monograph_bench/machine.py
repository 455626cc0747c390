"""What a measurement was made on: the machine, its CPUs, its speed at the moment, and versions."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import time
from typing import Any

import psutil

from monograph.cpu import available_cpus, cpu_identity
from monograph.engines.registry import engines
from monograph.errors import InputError

# The instruction sets that embedding speed depends on, by their names among the flags of /proc/cpuinfo.
TELLING_FLAGS = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
# Passes over bytes whose hash is timed.
_PASSES = 3
_BYTES = bytes(1 << 24)


def describe_machine() -> dict[str, Any]:
    """Return the CPU, what it can do, memory in bytes, system, versions and time, as JSON values."""
    identity, fields = _cpu_fields()
    distributions = [engine.distribution for engine in engines()]
    packages = ["monograph", "numpy", "tokenizers", *distributions, "torch", "sentence-transformers"]
    return {
        "cpu": fields.get("model name", identity),
        "instruction_sets": instruction_sets(),
        "available_cpus": available_cpus(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := _version(name)) is not None},
        "variables": {name: os.environ[name] for name in ("ONEDNN_MAX_CPU_ISA",) if name in os.environ},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def instruction_sets() -> list[str]:
    """Return those of ``TELLING_FLAGS`` that the CPU has."""
    _, fields = _cpu_fields()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return [flag for flag in TELLING_FLAGS if flag in flags]


def _cpu_fields() -> tuple[str, dict[str, str]]:
    """Return the kind of CPU, and what the system says of it by name."""
    first, *lines = cpu_identity().splitlines()
    return first, {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cpus_for(threads: int | None) -> list[int]:
    """Return the numbers of the CPUs that each system may use, as many as there are threads.

    Raises:
        InputError: there are fewer, or this system has no affinity masks.

    """
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("monograph bench holds every system to the same CPUs, for which it needs Linux")
    usable = sorted(os.sched_getaffinity(0))[: available_cpus()]
    if threads is not None and not 1 <= threads <= len(usable):
        raise InputError(f"{threads} threads cannot be measured: this process may use {len(usable)} CPUs")
    return usable[:threads]


def machine_speed_seconds() -> float:
    """Return how fast the machine is at the moment: the seconds of the fastest of a few hashes of the same 16 MB.

    Shared machines have slow phases, and two runs meet different ones. On one thread, which is gone when it is done: a
    product of matrices would leave threads that spin beside what is measured next, and would be another one with
    another release of NumPy.
    """
    times = []
    for _ in range(_PASSES):
        begin = time.perf_counter()
        hashlib.sha256(_BYTES).digest()
        times.append(time.perf_counter() - begin)
    return min(times)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
