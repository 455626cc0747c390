"""Ctrl-C ends a command at once, with one line and without a half-written file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from support.command import restore_ctrl_c


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
        assert b"runs on" in process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().decode()
        assert process.wait(timeout=60) == 130
    assert rest == "monograph: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
