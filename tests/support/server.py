"""`monograph serve` in a process of its own, on a port that the system chooses."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_READY = re.compile(r"serving .* at (https?)://[^ ]*:(\d+) after [\d.]+ s\n")
_SECONDS = 120


@dataclass
class RunningServer:
    """A server, its URL, and a client of it."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client
    log: Path

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """Send JSON and return the response, whatever its status."""
        return self.client.post(path, json=body, **options)

    def ok(self, path: str, body: Any, **options: Any) -> Any:
        """Send JSON and return the JSON of the response, which must be a success."""
        response = self.post(path, body, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def metric(self, name: str) -> float:
        """Return the sum of a figure over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Have the server end, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(_SECONDS)


def _end_with_parent() -> None:
    """Have a process end when the tests do, however they end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def running_server(
    *words: object, env: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, verify: Any = True
) -> Iterator[RunningServer]:
    """Start a server, wait until it serves, and end it.

    ``words`` are those of the command behind `serve`; ``headers`` and ``verify`` are of the client.
    """
    command = [sys.executable, "-m", "monograph", "serve", *map(str, words), "--port", "0", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=_end_with_parent,
                env=os.environ | dict(env or {}),
            )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = _READY.fullmatch(line)
            assert match is not None, line + log.read_text()
            url = f"{match[1]}://127.0.0.1:{match[2]}"
            with httpx.Client(base_url=url, headers=headers, timeout=_SECONDS, verify=verify) as client:
                yield RunningServer(process, url, client, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            if process.stdout is not None:
                process.stdout.close()
