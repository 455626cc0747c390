"""`monograph serve`: schemathesis makes requests from its OpenAPI document, right and wrong ones."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server import RunningServer, running_server

DATA = Path(__file__).parents[1] / "data"
KEY = "the-key-of-these-tests"
# Requests of each route. `SCHEMATHESIS_EXAMPLES` makes more of them, before a release.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "50")
# What a response must not be: an error of the server's, of another status, type or form than the document has, or a
# success for what the document excludes.
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "unsupported_method", "ignored_auth"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    bundles = [DATA / name for name in ("embedding", "rerank", "sparse")]
    headers = {"Authorization": f"Bearer {KEY}"}
    with running_server(*bundles, "--device", "cpu", "--api-keys", keys, headers=headers) as started:
        yield started


def test_all_responses_are_as_the_document_says(server: RunningServer, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_bytes(server.client.get("/openapi.json").content)
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", server.url]
    command += ["--header", f"Authorization: Bearer {KEY}", "--max-examples", EXAMPLES, "--checks", ",".join(CHECKS)]
    command += ["--phases", "examples,coverage,fuzzing", "--mode", "all", "--seed", "1", "--no-color", "--workers", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    # Of requests that are no HTTP.
    assert set(server.log.read_text().splitlines()) <= {"Invalid HTTP request received."}
    server.ok("/embed", {"inputs": "a"})
