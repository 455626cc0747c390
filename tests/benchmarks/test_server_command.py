"""`monograph bench-server` on a real server, and on one that answers wrongly."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monograph.errors import InputError, MonographError
from monograph_bench import server_command
from support.server import RunningServer, running_server

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(DATA / "embedding", "--device", "cpu") as started:
        yield started


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    server_command.configure(parser)
    options = ("--seconds", 1, "--rounds", 1, "--count", 50, "--clients", 4, "--quiet")
    return server_command.run(parser.parse_args([*map(str, words), *map(str, options)]))


def test_the_runs_are_counted_and_checked(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    before = server.metric("monograph_texts_total")
    words = (f"ours={server.url}", "--model", "embedding", "--texts-per-request", 5, "--rates", "20")
    assert run(*words, "--bundle", DATA / "embedding", "--json") == 0
    runs = json.loads(capsys.readouterr().out)
    assert [(one["server"], one["kind"]) for one in runs] == [("ours", "single"), ("ours", "closed"), ("ours", "open")]
    answered = sum(one["statuses"]["200"] for one in runs)
    # And the request that it checks the server with.
    assert server.metric("monograph_texts_total") - before == 5 * (answered + 1)
    assert runs[2]["statuses"] == {"200": 20}
    assert all(one["lost"] == one["wrong"] == 0 and one["client_cpu_seconds"] > 0 for one in runs)
    assert all(0 < one["p50_seconds"] <= one["p99_seconds"] for one in runs)


def test_servers_are_measured_in_turns(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"a={server.url}", f"b={server.url}", "--model", "embedding", "--rates", "5") == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [[name, kind] for kind in ("single", "closed", "open") for name in "ab"]


class Wrong(BaseHTTPRequestHandler):
    """Answers with a vector of zeros, and each tenth request not at all."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        type(self).count += 1
        if self.count % 10 == 0:
            self.close_connection = True
            return
        data = [{"index": index, "embedding": [0.0] * 24} for index in range(len(texts))]
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def test_wrong_and_lost_answers_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert run(url, "--model", "any", "--rates", "50", "--bundle", DATA / "embedding", "--json") == 1
        runs = json.loads(capsys.readouterr().out)
        assert sum(one["wrong"] for one in runs) == sum(one["statuses"]["200"] for one in runs) > 0
        assert runs[2]["lost"] == 5
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_cannot_be_measured_is_an_error(server: RunningServer) -> None:
    with pytest.raises(InputError, match="no URL"):
        run("localhost", "--model", "a")
    with pytest.raises(MonographError, match="cannot be reached"):
        run("http://127.0.0.1:1", "--model", "a")
    with pytest.raises(MonographError, match="status 404"):
        run(server.url, "--model", "other")
