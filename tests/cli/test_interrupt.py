"""Ctrl-C ends a command at once, with one line and without a half-written file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.command import restore_ctrl_c

# A command in a call of native code that holds the interpreter, and whose end nobody waits for.
IN_NATIVE_CODE = """
import hashlib, sys
from monograph.commands import info
from monograph.commands.main import main
def run(arguments):
    print("running", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
info.run = run
sys.exit(main(["info", "bundle"]))
"""


def test_ctrl_c_leaves_no_output(minilm_bundle: Path, tmp_path: Path) -> None:
    texts = tmp_path / "in.txt"
    # Each another text, for one that comes again is computed once.
    texts.write_text(
        "".join(f"{n}: " + "a rather long text about boats and harbours " * 40 + "\n" for n in range(3000))
    )
    output = tmp_path / "out.npy"
    command = [sys.executable, "-m", "monograph", "embed", str(minilm_bundle), str(texts), "-o", str(output), "-v"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=restore_ctrl_c) as process:
        assert process.stderr is not None
        # The model says at INFO that it is ready; the embedding is under way a moment later.
        while b"runs on" not in (line := process.stderr.readline()):
            assert line
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().decode()
        assert process.wait(timeout=60) == 130
    assert rest == "monograph: interrupted: no vectors were saved yet: repeat the command to start again\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs sysv_signal of GNU's C library")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_native_code(number: signal.Signals) -> None:
    command = [sys.executable, "-c", IN_NATIVE_CODE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=restore_ctrl_c) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        # Python runs a handler at once until it has entered the native call.
        time.sleep(0.5)
        process.send_signal(number)
        # Two that come at once are one.
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == -number


def test_handlers_of_an_application_are_left_alone_and_ours_removed() -> None:
    from monograph.commands.main import main

    def handle(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, handle), signal.getsignal(signal.SIGINT)
    try:
        assert main(["info", "no-such-folder"]) == 1
        assert signal.getsignal(signal.SIGTERM) is handle
        assert signal.getsignal(signal.SIGINT) is before[1]
    finally:
        signal.signal(signal.SIGTERM, before[0])
