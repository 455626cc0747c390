"""The memory of a command and of the processes that it starts, on Linux."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_SECONDS_BETWEEN = 0.05


def run_measured(command: Sequence[str]) -> int:
    """Run a command and return the peak of its processes' proportional set size together, in bytes.

    A page that several of them have mapped counts once. It is sampled, so that shorter peaks are missed.
    """
    peak = 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_proportional_set_size, _family(process.pid))))
            time.sleep(_SECONDS_BETWEEN)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


def _family(root: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        # Some end meanwhile.
        with suppress(OSError):
            if folder.name.isdigit():
                # The parent comes after the name in brackets, which may have spaces, and the state.
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(folder.name))
    rest = [root]
    while rest:
        yield rest[-1]
        rest += children.get(rest.pop(), [])


def _proportional_set_size(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
