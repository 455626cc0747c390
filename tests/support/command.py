"""The `monograph` command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def monograph(
    *arguments: object,
    stdin: bytes = b"",
    cwd: Path | None = None,
    before: Callable[[], object] | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end; ``before`` runs in the new process and may restrict it, ``env`` adds variables."""
    command = [sys.executable, "-m", "monograph", *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, cwd=cwd, timeout=300, check=False, preexec_fn=before,
        env=os.environ | dict(env or {}),
    )  # fmt: skip


def assert_error(done: subprocess.CompletedProcess[bytes], code: int, *words: str) -> None:
    """Check the exit code, and that an error is one line that holds the words."""
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert "Traceback" not in message
    for word in words:
        assert word in message
    if code == 1:
        assert message.startswith("monograph: error: ")
        assert message.count("\n") == 1
