"""The options of sentence-transformers for a Hub: token, local_files_only and revision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub import Hub, Repository, environment, python, serve

NAME = "some-org/tiny"
OPEN = """
import json, sys
from monograph import Embedder, MonographError
try:
    with Embedder(sys.argv[1], device="cpu", **json.loads(sys.argv[2])) as model:
        print(model.dimension)
except MonographError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def repository(hub: Hub, tiny_bundle: Path) -> Repository:
    return hub.add(NAME, tiny_bundle)


def test_the_token_of_the_constructor_takes_precedence(hub: Hub, repository: Repository, tmp_path: Path) -> None:
    variables = environment(hub, tmp_path, HF_TOKEN="hf_of_the_environment")
    done = python(OPEN, NAME, json.dumps({"token": "hf_a_secret"}), env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert hub.tokens == {("api", "Bearer hf_a_secret"), ("some-org", "Bearer hf_a_secret"), ("storage", None)}
    repository.files["README.md"] = b"changed"
    hub.tokens.clear()
    assert python(OPEN, NAME, json.dumps({"token": False}), env=variables).returncode == 0
    assert {token for _, token in hub.tokens} == {None}


def test_local_files_only_makes_no_request(hub: Hub, repository: Repository, tmp_path: Path) -> None:
    variables = environment(hub, tmp_path)
    only_local = json.dumps({"local_files_only": True})
    refused = python(OPEN, NAME, only_local, env=variables)
    assert refused.returncode == 1
    assert "not completely in the cache, and local_files_only is set" in refused.stderr
    assert hub.requests == []
    assert python(OPEN, NAME, "{}", env=variables).returncode == 0
    hub.requests.clear()
    assert python(OPEN, NAME, only_local, env=variables).returncode == 0
    assert hub.requests == []


def test_a_revision_by_its_argument(hub: Hub, repository: Repository, tmp_path: Path) -> None:
    variables = environment(hub, tmp_path)
    assert python(OPEN, NAME, json.dumps({"revision": "main"}), env=variables).returncode == 0
    refused = python(OPEN, NAME, json.dumps({"revision": "v9"}), env=variables)
    assert f"{NAME}@v9" in refused.stderr
    assert "no such revision" in refused.stderr
    twice = python(OPEN, f"{NAME}@main", json.dumps({"revision": "v9"}), env=variables)
    assert "names another one" in twice.stderr
