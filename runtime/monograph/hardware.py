"""What this machine's CPU is, as far as results may depend on it."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_TELLING = ("model name", "cpu family", "model", "stepping", "flags", "Features", "CPU part")


@functools.cache
def cpu_identity() -> str:
    """Return the CPU's model and the instruction sets that the system lets it use, as one string."""
    try:
        first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        # Not Linux. What there is names the family of CPUs.
        return f"{platform.machine()} {platform.processor()}"
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in _TELLING]
    return "\n".join([platform.machine(), *lines])
