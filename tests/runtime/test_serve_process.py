"""`monograph serve` as a process: keys, addresses, how it ends, and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from monograph.bundle.files import sha256_of
from support import manifests
from support.command import assert_error, monograph
from support.server import RunningServer, running_server

DATA = Path(__file__).parents[1] / "data"
WORDS = (DATA / "embedding", "--device", "cpu")
KEYS = ("a-first-secret-key", "a-second-secret-key")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# of the tests\n{KEYS[0]}\n\n{KEYS[1]}\n")
    return file


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_keys_are_required_and_read_again(key_file: Path) -> None:
    with running_server(*WORDS, "--api-keys", key_file) as server:
        for headers in (
            {},
            bearer("wrong"),
            {"Authorization": KEYS[0]},
            {"Authorization": "Bearer"},
            bearer(KEYS[0] + "x"),
        ):
            refused = server.post("/v1/embeddings", {"model": "embedding", "input": "a"}, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert server.post("/embed", {"inputs": "a"}, headers=headers).json()["error_type"] == "Unauthorized"
            assert server.post("/v1/rerank", {}, headers=headers).json()["message"]
            assert server.client.get("/metrics", headers=headers).status_code == 401
            assert server.post("/", {"inputs": "a"}, headers=headers).status_code == 401
        for key in KEYS:
            server.ok("/embed", {"inputs": "a"}, headers=bearer(key))
        for path in ("/health", "/health/live", "/health/ready", "/"):
            assert server.client.get(path).status_code == 200
        key_file.write_text("another-secret-key\n")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(
            lambda: server.post("/embed", {"inputs": "a"}, headers=bearer("another-secret-key")).status_code == 200
        )
        assert server.post("/embed", {"inputs": "a"}, headers=bearer(KEYS[0])).status_code == 401
        # A file that cannot be used changes nothing.
        key_file.write_text("")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "has none" in server.log.read_text())
        server.ok("/embed", {"inputs": "a"}, headers=bearer("another-secret-key"))
        assert "secret" not in server.log.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "--without-keys"),  # noqa: S104
        (["--host", "0.0.0.0", "--api-keys", "nothing"], "cannot be read"),  # noqa: S104
        (["--ssl-certfile", "nothing"], "--ssl-keyfile"),
        (["no/such/folder"], "there is no such folder"),
        ([f"embedding={DATA / 'rerank'}"], "two bundles"),
        (["--device", "nothing"], "not known"),
    ],
)
def test_what_cannot_be_served_is_one_line(words: list[str], message: str) -> None:
    assert_error(monograph("serve", DATA / "embedding", *words, "--port", 0, "--quiet"), 1, message)


@pytest.mark.parametrize("words", [["--port", "x"], ["--workers", "0"], ["--timeout", "-1"]])
def test_bad_usage(words: list[str]) -> None:
    assert monograph("serve", DATA / "embedding", *words).returncode == 2


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", "with a space in it\n", "ключ-ключ-ключ\n"])
def test_a_file_without_usable_keys_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(content, encoding="utf-8")
    done = monograph("serve", DATA / "embedding", "--api-keys", file, "--port", 0, "--quiet")
    assert_error(done, 1, "API keys")
    assert content.strip() not in done.stderr.decode() or not content.strip()


def test_an_address_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert_error(monograph("serve", *WORDS, "--port", other.getsockname()[1], "--quiet"), 1, "in use")


def test_a_bundle_is_verified_at_the_start() -> None:
    with running_server(*WORDS, "--verify") as server:
        assert "at the start" in server.client.get("/info").json()["models"][0]["verified"]


def test_a_bundle_that_fails_its_probes_is_not_served(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DATA / "embedding", tmp_path / "bundle"))
    probes = json.loads((folder / "probes.json").read_text("utf-8"))
    probes["texts"][0] += " and more"
    (folder / "probes.json").write_text(json.dumps(probes), "utf-8")
    manifests.state_file(folder, "probes.json", sha256_of(folder / "probes.json"))
    done = monograph("serve", folder, "--device", "cpu", "--verify", "--port", 0, "--quiet")
    assert_error(done, 1, "failed verification")


def test_requests_over_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.create_default_context(cafile=str(certificate))
    words = (*WORDS, "--ssl-certfile", certificate, "--ssl-keyfile", key)
    with running_server(*words, verify=context) as server:
        assert server.url.startswith("https")
        server.ok("/embed", {"inputs": "a"})


class Load:
    """Clients that send one request after the other until they are stopped, each on a connection of its own."""

    def __init__(self, server: RunningServer, clients: int, body: dict[str, Any]) -> None:
        self._stopping = threading.Event()
        self._body = body
        self.statuses: Counter[int] = Counter()
        self.lost: list[str] = []
        self.refused = 0
        self._threads = ThreadPoolExecutor(clients)
        self._running = [self._threads.submit(self._send, server.url) for _ in range(clients)]

    def _send(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not self._stopping.is_set():
                try:
                    response = client.post("/embed", json=self._body)
                except httpx.ConnectError:
                    # It was not accepted.
                    self.refused += 1
                    return
                except httpx.HTTPError as error:
                    self.lost.append(repr(error))
                    return
                self.statuses[response.status_code] += 1
                assert len(response.json()) == len(self._body["inputs"])

    def stop(self) -> None:
        """End all clients."""
        self._stopping.set()
        for one in self._running:
            one.result()
        self._threads.shutdown()


@contextmanager
def loaded(server: RunningServer, clients: int = 16, texts: int = 20) -> Iterator[Load]:
    load = Load(server, clients, {"inputs": [f"text {number} " * 20 for number in range(texts)]})
    try:
        yield load
    finally:
        load.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_accepted_request_is_answered_at_the_end(workers: int) -> None:
    with running_server(*WORDS, "--workers", workers) as server, loaded(server) as load:
        assert eventually(lambda: load.statuses[200] > 50)
        assert server.stop(signal.SIGTERM) == 0
        load.stop()
        assert load.lost == []
        assert set(load.statuses) == {200}


def test_a_second_signal_ends_it_at_once() -> None:
    with running_server(*WORDS, "--timeout", 600) as server:
        body = {"inputs": ["word " * 90] * 2000 + [f"text {number} " * 30 for number in range(48)]}
        with ThreadPoolExecutor(8) as threads:
            pending = [threads.submit(server.post, "/embed", body) for _ in range(8)]
            assert eventually(lambda: server.metric("monograph_queued_tokens") > 0)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(60)
            for one in pending:
                one.exception()


def children_of(server: RunningServer) -> list[int]:
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(word) for word in path.read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_is_killed_comes_back_and_others_go_on() -> None:
    with running_server(*WORDS, "--workers", 2) as server:
        before = children_of(server)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        # What it had not accepted yet ends with it.
        assert eventually(lambda: not is_running(before[0]))
        # Others serve at once, on new connections.
        for _ in range(20):
            with httpx.Client(base_url=server.url, timeout=60) as client:
                assert client.post("/embed", json={"inputs": "a"}).status_code == 200
        assert eventually(lambda: len(children_of(server)) == 2 and before[0] not in children_of(server))
        assert before[1] in children_of(server)
        assert "is started again" in server.log.read_text()
        new = next(child for child in children_of(server) if child != before[1])

        def new_one_serves() -> bool:
            os.kill(before[1], signal.SIGSTOP)
            try:
                with httpx.Client(base_url=server.url, timeout=2) as client:
                    return client.post("/embed", json={"inputs": "a"}).status_code == 200
            except httpx.HTTPError:
                return False
            finally:
                os.kill(before[1], signal.SIGCONT)

        assert eventually(new_one_serves)
        assert server.stop() == 0
        assert not Path(f"/proc/{new}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_connections_are_spread_over_the_workers() -> None:
    def sockets_of(process: int) -> int:
        links = (one.readlink() for one in Path(f"/proc/{process}/fd").iterdir())
        return sum(str(link).startswith("socket:") for link in links)

    with running_server(*WORDS, "--workers", 2) as server, ExitStack() as stack:
        workers = children_of(server)
        before = [sockets_of(worker) for worker in workers]
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert eventually(lambda: sum(map(sockets_of, workers)) == sum(before) + 40)
        assert all(sockets_of(worker) >= count + 4 for worker, count in zip(workers, before, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_that_another_server_has_is_refused(workers: int) -> None:
    with running_server(*WORDS, "--workers", 2) as server:
        done = monograph("serve", *WORDS, "--workers", workers, "--port", server.port, "--quiet")
        assert_error(done, 1, "in use", f"port {server.port} of ", "--port")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    # A killed process leaves its folder for temporary files behind.
    with running_server(*WORDS, "--workers", 2, env={"TMPDIR": str(tmp_path)}) as server:
        workers = children_of(server)
        server.stop(signal.SIGKILL)
        assert eventually(lambda: not any(is_running(worker) for worker in workers))


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_figures_are_those_of_all_workers() -> None:
    with running_server(*WORDS, "--workers", 2) as server:
        for _ in range(10):
            with httpx.Client(base_url=server.url, timeout=60) as client:
                client.post("/embed", json={"inputs": ["a", "b"]})
        assert server.metric("monograph_texts_total") == 20


def test_a_worker_that_cannot_start_ends_the_server(tmp_path: Path) -> None:
    done = monograph("serve", tmp_path, "--workers", 2, "--port", 0, "--quiet")
    assert_error(done, 1, "manifest.json")
