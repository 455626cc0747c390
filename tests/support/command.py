"""The `monograph` command as a user runs it."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

from monograph.commands.main import main

# For a process whose limits coverage would run into.
NOT_MEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
# A line of a step on what is no terminal.
PROGRESS = re.compile(r"\[ *\d+\.\d s\] \S.*")


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
        env=os.environ | (NOT_MEASURED if before else {}) | dict(env or {}),
    )  # fmt: skip


def forkserver() -> ForkServerContext:
    """Processes that have imported torch already, which takes seconds, but have run none of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monograph_export.torch_model"])
    return context


def monograph_after_imports(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command that needs torch, as ``monograph`` does, in a process that has imported it."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        output, error = Path(folder) / "output", Path(folder) / "error"
        process = forkserver().Process(target=_run, args=(words, Path.cwd(), output, error))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, 300)
        return subprocess.CompletedProcess(words, process.exitcode, output.read_bytes(), error.read_bytes())


def _run(words: list[str], cwd: Path, output: Path, error: Path) -> None:
    os.chdir(cwd)
    for descriptor, file in (0, Path(os.devnull)), (1, output), (2, error):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), descriptor)
    sys.exit(main(words))


def restore_ctrl_c() -> None:
    """Let a child process end at Ctrl-C: a shell that starts the tests in the background has its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def assert_error(done: subprocess.CompletedProcess[bytes], code: int, *words: str) -> None:
    """Check the exit code, and that an error is one line that holds the words."""
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert "Traceback" not in message
    for word in words:
        assert word in message
    if code == 1:
        *before, last = message.splitlines()
        assert last.startswith("monograph: error: ")
        # Of the steps that went well before.
        assert [line for line in before if not PROGRESS.fullmatch(line)] == []


def assert_reported(done: subprocess.CompletedProcess[bytes], *steps: str) -> None:
    """Check that a command wrote nothing but its progress, in lines, and these steps in this order."""
    assert done.returncode == 0, done.stderr.decode()
    *lines, last = done.stderr.decode().splitlines()
    assert [line for line in lines if not PROGRESS.fullmatch(line)] == []
    assert re.fullmatch(r"finished in (\d+ min )?\d+(\.\d)? s", last)
    remaining = iter(lines)
    for step in steps:
        assert any(step in line for line in remaining), (step, lines)
