"""A disk of a few megabytes, in memory, for tests that fill it; only root can mount one."""

from __future__ import annotations

import random
import string
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MOUNT, _UNMOUNT = "/bin/mount", "/bin/umount"


class SmallDisk:
    """A file system at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, megabytes: int) -> None:
        """Give it another size."""
        subprocess.run([_MOUNT, "-o", f"remount,size={megabytes}m", str(self.path)], check=True)


@contextmanager
def mounted(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a new file system at an empty folder; skip the test where that cannot be done."""
    options = f"size={megabytes}m,mode=0700"
    if not Path(_MOUNT).exists():
        pytest.skip("there is no command mount")
    done = subprocess.run([_MOUNT, "-t", "tmpfs", "-o", options, "none", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.decode().strip()}")
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: a process that is still ending may have a file open.
        subprocess.run([_UNMOUNT, "--lazy", str(path)], check=True)


def incompressible_texts(count: int, characters: int) -> list[str]:
    """Return random texts, which take about as many bytes in a compressed column."""
    draw = random.Random(0)  # noqa: S311
    letters = string.ascii_letters + string.digits + " +"
    return ["".join(draw.choices(letters, k=characters)) for _ in range(count)]
