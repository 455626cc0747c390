"""`monograph serve` with clients that send too much, too slowly, or no request: they get errors, others are served."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.server import RunningServer, running_server

DATA = Path(__file__).parents[1] / "data"
MODELS = ("embedding", "rerank", "sparse", "embedding-tokens")
WORDS = (*(DATA / name for name in MODELS), "--device", "cpu", "--threads", "1")
# The routes with a body, a valid one of each, and where its error message stands.
ROUTES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "/v1/embeddings": ({"model": "embedding", "input": "a"}, ("error", "message")),
    "/v1/rerank": ({"query": "a", "documents": ["b"]}, ("message",)),
    "/v2/rerank": ({"query": "a", "documents": ["b"]}, ("message",)),
    "/embed": ({"inputs": "a"}, ("error",)),
    "/embed_all": ({"inputs": "a"}, ("error",)),
    "/embed_sparse": ({"inputs": "a"}, ("error",)),
    "/rerank": ({"query": "a", "texts": ["b"]}, ("error",)),
    "/predict": ({"inputs": "a"}, ("error",)),
    "/tokenize": ({"inputs": "a"}, ("error",)),
    "/": ({"inputs": "a"}, ("error",)),
}
NOT_JSON = {
    "nothing": b"",
    "not JSON": b"{",
    "NaN": b'{"input": NaN, "model": "embedding"}',
    "a lone surrogate": b'{"input": "\\ud800", "inputs": "\\ud800", "query": "\\ud800", "model": "embedding"}',
    "no UTF-8": b'{"input": "\xff", "inputs": "\xff", "model": "embedding"}',
    "nested lists": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"input":' * 100_000 + b"1" + b"}" * 100_000,
    "a list": b"[]",
    "a text": b'"text"',
    "null": b"null",
    "many empty lists": b'{"model":"embedding","input":[' + b"[]," * 1_000_000 + b"[]]}",
    "many numbers": b'{"model":"embedding","inputs":[' + b"1.5," * 1_000_000 + b"1]}",
    "many fields": b"{" + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}",
    "a long number": b'{"model":"embedding","input":' + b"1" * 100_000 + b"}",
}
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**30, "", [], {}, [[]], [None], [""], [[""]], ["a", 1], [["a"] * 3]),
    *({"text": 1}, [{"text": None}], [{"a": "b"}], "x" * 70_000, ["a"] * 3_000, "\u0000", "left"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that soon loses patience."""
    with running_server(*WORDS, "--receive-timeout", 1, "--idle-timeout", 2) as started:
        yield started


def message_of(body: Any, places: tuple[str, ...]) -> str:
    for place in places:
        body = body[place]
    return str(body)


def test_the_valid_bodies_are_answered(server: RunningServer) -> None:
    for path, (body, _) in ROUTES.items():
        server.ok(path, body)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_request_is_an_error_in_the_form_of_the_api(server: RunningServer, path: str, name: str) -> None:
    response = server.client.post(path, content=NOT_JSON[name], headers={"Content-Type": "application/json"})
    assert 400 <= response.status_code < 500
    assert message_of(response.json(), ROUTES[path][1])


@pytest.mark.parametrize("path", ROUTES)
def test_fields_of_any_type_are_answered_or_refused(server: RunningServer, path: str) -> None:
    valid, places = ROUTES[path]
    fields = {*valid, "model", "encoding_format", "dimensions", "input_type", "prompt_name", "truncate", "top_n"}
    fields |= {"truncation_direction", "normalize", "raw_scores", "return_text", "return_documents", "inputs"}
    for field in sorted(fields):
        for value in VALUES:
            response = server.post(path, valid | {field: value})
            if response.status_code != 200:
                assert 400 <= response.status_code < 500, (field, value, response.text)
                assert message_of(response.json(), places)
    server.ok(path, valid)


def test_a_body_that_is_too_large_is_refused(server: RunningServer) -> None:
    large = b"x" * 100_000_000
    for content in (large, (large[start : start + 2**20] for start in range(0, len(large), 2**20))):
        headers = {"Content-Type": "application/json"}
        with ExitStack() as stack:
            # The server may close the connection while the client still sends.
            try:
                response = stack.enter_context(server.client.stream("POST", "/embed", content=content, headers=headers))
            except Exception as error:  # noqa: BLE001
                assert "reset" in str(error).lower() or "broken pipe" in str(error).lower()  # noqa: PT017
                continue
            assert response.status_code == 413
    server.ok("/embed", {"inputs": "a"})


def test_a_body_has_to_be_declared_as_json(server: RunningServer) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = server.client.post("/embed", content=b'{"inputs": "a"}', headers={"Content-Type": content_type})
        assert response.status_code == 415
    gzip = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert server.client.post("/embed", content=b"{}", headers=gzip).status_code == 415


def test_too_many_texts_and_none_are_refused(server: RunningServer) -> None:
    assert server.post("/v1/embeddings", {"model": "embedding", "input": ["a"] * 2049}).status_code == 413
    empty = server.post("/v1/embeddings", {"model": "embedding", "input": []})
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "input")
    assert server.post("/embed", {"inputs": []}).json()["error_type"] == "Empty"


def test_unknown_paths_and_methods(server: RunningServer) -> None:
    assert server.client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert server.client.get("/nothing").json()["error_type"] == "Validation"
    assert server.client.get("/v1/embeddings").status_code == 405
    assert server.client.get("/v1/rerank").json()["message"]


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_slow_senders_are_refused_while_others_are_served(server: RunningServer) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(20)]
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        server.ok("/embed", {"inputs": "a"})
        answers = [read_all(connection) for connection in slow]
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert json.loads(answers[0].partition(b"\r\n\r\n")[2])["error"]


def test_connections_without_a_request_are_closed(server: RunningServer) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(5)]
        idle[1].sendall(b"POST /em")
        idle[2].sendall(b"\r\n\r\n")
        idle[3].sendall(HEAD)
        begin = time.monotonic()
        server.ok("/embed", {"inputs": "a"})
        assert [read_all(connection) for connection in idle] == [b""] * 5
        assert time.monotonic() - begin < 20


def test_headers_without_end_are_refused(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD)
        try:
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            pytest.fail("10 MB of headers were accepted")
    server.ok("/embed", {"inputs": "a"})


def test_a_thousand_idle_connections_leave_others_served(server: RunningServer) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    try:
        with ExitStack() as stack:
            for _ in range(1000):
                stack.enter_context(connect(server))
            server.ok("/embed", {"inputs": "a"})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_garbage_is_no_request(server: RunningServer) -> None:
    for garbage in (b"\x00" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"POST / HTTP/9.9\r\n\r\n"):
        with connect(server) as connection:
            connection.sendall(garbage)
            answer = read_all(connection)
            assert not answer or answer.startswith(b"HTTP/1.1 4")
    server.ok("/embed", {"inputs": "a"})


def large_request(texts: int = 2000) -> dict[str, Any]:
    return {"model": "embedding", "input": [f"{number} " + "word " * 100 for number in range(texts)]}


def test_a_full_queue_is_an_answer_with_a_time_to_retry() -> None:
    # A request has 56,000 tokens.
    with running_server(*WORDS, "--max-queue-tokens", 65_000) as server:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: server.post("/v1/embeddings", large_request(600)), range(8)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 0 < len(refused) < len(answers)
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert refused[0].json()["error"]["type"] == "rate_limit_error"
        assert server.metric("monograph_queued_tokens") == 0
        # What could never wait is not worth a retry.
        with running_server(*WORDS, "--max-queue-tokens", 10) as small:
            assert small.post("/v1/embeddings", large_request(10)).status_code == 413


def test_a_request_that_takes_too_long_is_ended() -> None:
    with running_server(*WORDS, "--timeout", 0.05) as server:
        answer = server.post("/v1/embeddings", large_request())
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        server.ok("/embed", {"inputs": "a"})


def test_requests_of_clients_that_have_gone_are_not_computed(server: RunningServer) -> None:
    body = json.dumps(large_request()).encode()
    before = server.metric("monograph_batch_tokens_total")
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(6)]
        for connection in connections:
            connection.sendall(HEAD.replace(b"/embed", b"/v1/embeddings") + b"Content-Length: %d\r\n\r\n" % len(body))
            connection.sendall(body)
        # Each has about 190,000 tokens; where tokenization is slower than the engine, two never wait at a time.
        while server.metric("monograph_queued_tokens") < 120_000:
            time.sleep(0.01)
    deadline = time.monotonic() + 30
    while server.metric("monograph_queued_tokens") > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.metric("monograph_queued_tokens") == 0
    assert server.metric("monograph_batch_tokens_total") - before < 800_000
    server.ok("/embed", {"inputs": "a"})


def test_a_long_text_keeps_nobody_waiting(server: RunningServer) -> None:
    """A text of 1 MB, tokenized meanwhile, takes longer than all short requests together."""
    long = {"model": "embedding", "input": "a few words and numbers such as 123 " * 28_000}
    with ThreadPoolExecutor(3) as threads:
        begin = time.monotonic()
        pending = [threads.submit(server.ok, "/v1/embeddings", long) for _ in range(3)]
        served = 0
        while not any(one.done() for one in pending):
            server.ok("/embed", {"inputs": "a short text"})
            served += 1
        seconds = time.monotonic() - begin
        for one in pending:
            one.result()
    assert served >= 5, (served, seconds)
