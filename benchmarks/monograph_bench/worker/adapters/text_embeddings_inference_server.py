"""text-embeddings-inference: its server in a process of its own, and requests over HTTP on the loopback interface."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.base import Model, in_length_order

_PROGRAM, _HOST = "text-embeddings-router", "127.0.0.1"
# The most that a request may have; its default is 32.
_MAX_TEXTS = 512
_SECONDS_BETWEEN_TRIES = 0.05


class _Server(Model):
    def __init__(self, arguments: list[str], threads: int, normalize: bool) -> None:
        port = _free_port()
        command = [_PROGRAM, *arguments, "--hostname", _HOST, "--port", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the program under measurement
        self._connection = http.client.HTTPConnection(_HOST, port)
        self._threads = threads
        self._normalize = normalize
        self._wait()

    def encode(self, texts: list[str], batch_size: int | None) -> NDArray[np.float32]:
        return in_length_order(texts, batch_size, self._embed)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        request = {"inputs": texts, "normalize": self._normalize, "truncate": True}
        return np.asarray(self._request("POST", "/embed", json.dumps(request)), dtype=np.float32)

    def describe(self) -> dict[str, str]:
        info = self._request("GET", "/info")
        return {
            "text-embeddings-inference": str(info["version"]),
            "device": "cpu",
            "compute_dtype": str(info["model_dtype"]),
            "threads": str(self._threads),
        }

    def _request(self, method: str, path: str, body: str | None = None) -> Any:
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"{path} answered {response.status}: {content.decode(errors='replace')}")
        return json.loads(content)

    def _wait(self) -> None:
        """Return when the server takes requests; the time limit is that of the whole start."""
        while self._process.poll() is None:
            try:
                self._connection.request("GET", "/health")
                response = self._connection.getresponse()
                response.read()
                if response.status == http.client.OK:
                    return
            except OSError:
                # It listens once it has loaded the model.
                self._connection.close()
            time.sleep(_SECONDS_BETWEEN_TRIES)
        raise RuntimeError(f"{_PROGRAM} ended with exit status {self._process.returncode}")


def load(*, checkpoint: str, threads: int, pooling: str, normalize: bool, max_length: int) -> Model:  # noqa: ARG001 - the server reads the length from the checkpoint
    """Start the server on a checkpoint's folder."""
    arguments = ["--model-id", checkpoint, "--pooling", pooling, "--auto-truncate"]
    limits = ["--max-client-batch-size", str(_MAX_TEXTS), "--tokenization-workers", str(threads)]
    return _Server([*arguments, *limits], threads, normalize)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        port: int = listener.getsockname()[1]
        return port
