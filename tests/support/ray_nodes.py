"""A Ray cluster of several nodes on this machine, which needs a token and ends with the process that started it."""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
START += ["--object-store-memory", "100000000", "--include-log-monitor", "false"]
# Nodes of one machine would give the ports of one range to their workers, and one port to their agents.
START += ["--min-worker-port", "0", "--max-worker-port", "0"]
HEAD = ["--head", "--include-dashboard", "false", "--no-monitor"]
# A node may fail to start on a busy machine, or where another process has taken its port.
_ATTEMPTS = 3
_SECONDS = 900

# Waits until as many nodes are alive as are named, as long as the process lives that is to be one of them.
_WAIT = """
import os, sys, time, ray
address, count, process, seconds = sys.argv[1], *map(int, sys.argv[2:])
end = time.monotonic() + seconds
def wait():
    if time.monotonic() > end:
        raise SystemExit("not all nodes were started in time")
    with open(f"/proc/{process}/stat") as file:
        if file.read().rpartition(")")[2].split()[0] == "Z":
            raise SystemExit("the node has ended")
    time.sleep(0.3)
while True:
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
        break
    except ConnectionError:
        wait()
while sum(node["Alive"] for node in ray.nodes()) != count:
    wait()
"""


def require_token() -> None:
    """Have Ray ask for a token of this process and what it starts. Before ray is imported, which reads it once.

    Otherwise it is the user's home that decides: `ray start` asks for the token that is in it, if there is one, for
    example since somebody called ``ray.init()``, and clients that name an address do not give it.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


class Node:
    """A node, with a session of processes of its own."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*START, *arguments], env=os.environ | {"RAY_TMPDIR": str(folder)} | dict(env or {}),
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does."""
        stopped: set[int] = set()
        # Stopped first, so that none starts another between the list and the end.
        while new := set(processes_of_session(self.process.pid)) - stopped:
            for process in new:
                _send(process, signal.SIGSTOP)
            stopped |= new
        for process in stopped:
            _send(process, signal.SIGKILL)
        self.process.wait()
        # Those whose parent has ended are collected by another process.
        while processes_of_session(self.process.pid):
            time.sleep(0.05)


class Cluster:
    """A head node at ``address``, and others; ``with`` starts the head, and ends them all."""

    def __init__(self, cpus: int = 1) -> None:
        self.cpus = cpus
        self.nodes: list[Node] = []

    def __enter__(self) -> Self:
        # Not pytest's folder, whose path is too long for a socket's name.
        self.folder = Path(tempfile.mkdtemp(prefix="mg"))
        try:
            for attempt in range(_ATTEMPTS):
                port = _free_port()
                self.address = f"127.0.0.1:{port}"
                if self._start(attempt, *HEAD, "--port", str(port)):
                    break
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def add_nodes(self, count: int, env: Mapping[str, str] | None = None) -> None:
        """Start nodes until there are ``count``; ``env`` are further variables of the new ones."""
        # One after the other: nodes of one machine that start together take each other's ports.
        while len(self.nodes) < count:
            for attempt in range(_ATTEMPTS):
                if self._start(attempt, "--address", self.address, env=env):
                    break

    def remove_node(self) -> None:
        """Kill the node that was started last, which is not the head."""
        assert len(self.nodes) > 1
        self.nodes.pop().kill()

    def processes(self) -> list[int]:
        """Return the processes of all nodes."""
        return [process for node in self.nodes for process in processes_of_session(node.process.pid)]

    def _start(self, attempt: int, *arguments: str, env: Mapping[str, str] | None = None) -> bool:
        """Start a node, and return whether it became one; the last attempt raises if not."""
        node = Node(self.folder, "--num-cpus", str(self.cpus), *arguments, env=env)
        self.nodes.append(node)
        wait = [sys.executable, "-c", _WAIT, self.address, str(len(self.nodes)), str(node.process.pid), str(_SECONDS)]
        done = subprocess.run(wait, check=False, capture_output=True, text=True)
        if done.returncode:
            self.nodes.remove(node)
            node.kill()
            if attempt == _ATTEMPTS - 1:
                raise RuntimeError(done.stderr)
        return not done.returncode

    def _end(self) -> None:
        while self.nodes:
            self.nodes.pop().kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def processes_of_session(session: int) -> list[int]:
    """Return the living processes of a session, whatever their parents are."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    found.append(int(folder.name))
    return found


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
