"""The CPU: how many cores this process may use, and the model and instruction sets that results depend on."""

from __future__ import annotations

import functools
import math
import os
import platform
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_CPU_INFO = Path("/proc/cpuinfo")
_IDENTITY_KEYS = ("model name", "cpu family", "model", "stepping", "flags", "Features", "CPU part")


def available_cpus() -> int:
    """Return the number of CPUs allowed by the affinity mask and the cgroup quota, at least 1.

    The engines count the host's CPUs: a container with a quota of two on a machine of 64 runs 64 threads
    (onnxruntime#29510).
    """
    # Affinity masks exist on Linux and a few other systems.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cpu_quota()
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def cgroup_cpu_quota(root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> float | None:
    """Return the lowest CPU quota of the cgroup (version 1 or 2) and its ancestors, None where unlimited."""
    folders = cgroup_folders("cpu", root, membership)
    quotas = (read(folder) for folder in folders for read in (_quota_v2, _quota_v1))
    return min((quota for quota in quotas if quota is not None), default=None)


def cgroup_folders(controller: str, root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> list[Path]:
    """Return the folders of a controller's cgroup and its ancestors, of version 2 and of version 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in filter(None, lines):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folders += _ancestors(root, path)
        elif controller in controllers.split(","):
            # Controllers of one mount are in its name, or in names of links to it.
            folders += [*_ancestors(root / controllers, path), *_ancestors(root / controller, path)]
    return folders


def _ancestors(root: Path, path: str) -> list[Path]:
    # In a container the group may be mounted as the root itself, so the root is read too.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _quota_v2(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if limit <= 0 or period <= 0 else limit / period


@functools.cache
def cpu_identity() -> str:
    """Return the CPU's model and enabled instruction sets as one string."""
    try:
        first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        # Not Linux: this names only the CPU family.
        return f"{platform.machine()} {platform.processor()}"
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in _IDENTITY_KEYS]
    return "\n".join([platform.machine(), *lines])
