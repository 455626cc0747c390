"""A command on a terminal, and what is to be seen there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from support.command import restore_ctrl_c

COLUMNS, ROWS = 80, 24
_TOKEN = re.compile(r"\x1b\[A|\r|\n|[^\r\n\x1b]+")


@dataclass(frozen=True)
class Session:
    """How a command ended, its standard output, and all that it wrote to the terminal, which was its standard error."""

    returncode: int
    stdout: str
    written: str

    @property
    def lines(self) -> list[str]:
        """The lines that are to be seen in the end, without spaces at their ends."""
        return screen(self.written)


def on_terminal(*arguments: object, interrupt_at: str | None = None, cwd: Path | None = None) -> Session:
    """Run the command with a terminal for standard error; send Ctrl-C once what matches ``interrupt_at`` is there."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "monograph", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, cwd=cwd, preexec_fn=restore_ctrl_c
    ) as process:
        os.close(terminal)
        written = b""
        deadline = time.monotonic() + 240
        try:
            while chunk := _read(controller):
                written += chunk
                assert time.monotonic() < deadline, written
                if interrupt_at is not None and re.search(interrupt_at.encode(), written):
                    process.send_signal(signal.SIGINT)
                    interrupt_at = None
        finally:
            os.close(controller)
        assert process.stdout is not None
        stdout = process.stdout.read().decode()
    return Session(process.returncode, stdout, written.decode())


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65_536)
    # What Linux gives once the last process has closed the terminal.
    except OSError:
        return b""


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows of what was written, as far as it holds what bars write."""
    assert "".join(_TOKEN.findall(written)) == written, "a control sequence that is not known here"
    lines, row, column = [""], 0, 0
    last = ""
    for token in _TOKEN.findall(written):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\x1b[A":
            row -= 1
        else:
            # What goes on in the next row cannot be written over.
            assert last != "\r" or len(token) <= COLUMNS, f"wrapped: {token!r}"
            line = lines[row].ljust(column)
            lines[row] = line[:column] + token + line[column + len(token) :]
            column += len(token)
        last = token
    return [line.rstrip() for line in lines if line.strip()]
