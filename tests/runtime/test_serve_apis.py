"""`monograph serve`: each route answers what the model's class computes, in the form of its API."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import CrossEncoder, Embedder, MultiVectorEncoder, SparseEncoder
from support import manifests
from support.server import RunningServer, running_server

DATA = Path(__file__).parents[1] / "data"
TEXTS = ["The weather is lovely today.", "It's so sunny outside!", "", "He drove to the stadium.", "A text. " * 30]
DEVICE = ("--device", "cpu", "--compute-dtype", "float32", "--threads", "1")


@pytest.fixture(scope="module")
def matryoshka_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a bundle that says that its first 8 dimensions may be used alone, and nothing of unit length."""
    folder = Path(shutil.copytree(DATA / "embedding", tmp_path_factory.mktemp("matryoshka") / "bundle"))

    def allow(manifest: dict[str, Any]) -> None:
        manifest["embedding"] |= {"matryoshka_dimensions": [8], "normalized": False}

    manifests.edit_manifest(folder, allow)
    return folder


@pytest.fixture(scope="module")
def server(matryoshka_bundle: Path) -> Iterator[RunningServer]:
    """A server with a bundle of each task."""
    names = ("embedding", "embedding-int8", "rerank", "sparse", "sparse-routes", "embedding-tokens", "multi-vector")
    with running_server(*(DATA / name for name in names), f"short={matryoshka_bundle}", *DEVICE) as started:
        yield started


def opened(kind: type, name: str) -> Any:
    return kind(DATA / name, device="cpu", compute_dtype="float32", threads=1)


def as_float32(values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.float32)


def vectors(response: Any) -> np.ndarray[Any, Any]:
    return np.array([one["embedding"] for one in response["data"]], dtype=np.float32)


@pytest.mark.parametrize("name", ["embedding", "embedding-int8"])
def test_vectors_equal_those_of_encode_to_the_last_bit(server: RunningServer, name: str) -> None:
    with opened(Embedder, name) as model:
        for texts in (TEXTS, TEXTS[:1], [f"text {number} " * (number % 13 + 1) for number in range(300)], TEXTS * 2):
            expected = model.encode(texts)
            response = server.ok("/v1/embeddings", {"model": name, "input": texts})
            assert [one["index"] for one in response["data"]] == list(range(len(texts)))
            np.testing.assert_array_equal(vectors(response), expected)
            packed = server.ok("/v1/embeddings", {"model": name, "input": texts, "encoding_format": "base64"})
            decoded = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed["data"]]
            np.testing.assert_array_equal(np.array(decoded), expected)
        single = server.ok("/v1/embeddings", {"model": name, "input": TEXTS[0]})
        np.testing.assert_array_equal(vectors(single)[0], model.encode(TEXTS[0]))


def test_concurrent_requests_are_batched_within_the_tolerance(server: RunningServer) -> None:
    texts = [f"text {number} " * (number % 17 + 1) for number in range(200)]
    before = server.metric("monograph_batch_rows_count")
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(lambda text: server.ok("/v1/embeddings", {"model": "embedding", "input": text}), texts)
        )
    with opened(Embedder, "embedding") as model:
        np.testing.assert_allclose(
            np.concatenate([vectors(answer) for answer in answers]), model.encode(texts), rtol=0, atol=1e-5
        )
    # Some waited for others, and were computed together.
    assert server.metric("monograph_batch_rows_count") - before < len(texts)


def test_usage_counts_the_tokens_that_are_computed(server: RunningServer) -> None:
    with opened(Embedder, "embedding") as model:
        tokens = int(model._open.routes.main.tokenizer(TEXTS).lengths.sum())
    usage = server.ok("/v1/embeddings", {"model": "embedding", "input": TEXTS})["usage"]
    assert usage == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_dimensions_are_those_that_the_model_allows(server: RunningServer) -> None:
    response = server.ok("/v1/embeddings", {"model": "short", "input": TEXTS[:2], "dimensions": 8})
    with opened(Embedder, "embedding") as model:
        expected = model.encode(TEXTS[:2], truncate_dim=8, normalize_embeddings=True)
        np.testing.assert_array_equal(vectors(response), expected)
        whole = server.ok("/v1/embeddings", {"model": "short", "input": TEXTS[:2], "dimensions": model.dimension})
        np.testing.assert_array_equal(vectors(whole), model.encode(TEXTS[:2]))
    for name, dimensions in (("embedding", 8), ("short", 9)):
        refused = server.post("/v1/embeddings", {"model": name, "input": "a", "dimensions": dimensions})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_hint_for_langchain(server: RunningServer, tokens: Any) -> None:
    refused = server.post("/v1/embeddings", {"model": "embedding", "input": tokens})
    assert refused.status_code == 400
    assert "check_embedding_ctx_length=False" in refused.json()["error"]["message"]
    assert "check_embedding_ctx_length=False" in server.post("/embed", {"inputs": tokens}).json()["error"]


def test_prompts_by_role_and_name(server: RunningServer) -> None:
    with opened(Embedder, "embedding") as model:
        for fields, expected in (
            ({"input_type": "query"}, model.encode_query(TEXTS)),
            ({"input_type": "search_document"}, model.encode_document(TEXTS)),
            ({"prompt_name": "passage"}, model.encode(TEXTS, prompt_name="passage")),
        ):
            response = server.ok("/v1/embeddings", {"model": "embedding", "input": TEXTS, **fields})
            np.testing.assert_array_equal(vectors(response), expected)
            tei = server.ok("/embed", {"inputs": TEXTS, "normalize": False, **fields})
            np.testing.assert_array_equal(np.array(tei, np.float32), expected)
    for fields in ({"input_type": "other"}, {"prompt_name": "other"}):
        assert server.post("/v1/embeddings", {"model": "embedding", "input": "a", **fields}).status_code == 400
        assert server.post("/embed", {"inputs": "a", **fields}).status_code == 422


def test_truncation_is_a_policy_of_the_request(server: RunningServer) -> None:
    long = "one two three four five six seven " * 100
    with opened(Embedder, "embedding") as model:
        limit = model.max_length
        cut = server.ok("/v1/embeddings", {"model": "embedding", "input": long})
        np.testing.assert_array_equal(vectors(cut)[0], model.encode(long))
        assert cut["usage"]["total_tokens"] == limit
        refused = server.post("/v1/embeddings", {"model": "embedding", "input": ["short", long], "truncate": False})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, "context_length_exceeded")
        assert f"text 1 has more than {limit} tokens" in error["message"]
        assert server.post("/embed", {"inputs": long, "truncate": False}).status_code == 413
        assert server.post("/embed", {"inputs": "short", "truncate": False}).status_code == 200
        ending = server.ok("/embed", {"inputs": long, "truncation_direction": "Left", "normalize": False})
        words = long.split()
        # A word is at least one token: the last of them are more than remain.
        tail = server.ok(
            "/embed", {"inputs": " ".join(words[-limit:]), "truncation_direction": "left", "normalize": False}
        )
        np.testing.assert_allclose(ending, tail, rtol=0, atol=1e-5)
        assert not np.allclose(ending, vectors(cut), atol=1e-3)


def test_models_are_listed(server: RunningServer) -> None:
    listed = server.client.get("/v1/models").json()["data"]
    assert [one["id"] for one in listed] == [
        "embedding",
        "embedding-int8",
        "rerank",
        "sparse",
        "sparse-routes",
        "embedding-tokens",
        "multi-vector",
        "short",
    ]
    assert server.client.get("/v1/models/rerank").json()["task"] == "rerank"
    missing = server.client.get("/v1/models/other")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_a_model_of_another_name_or_task_is_an_error(server: RunningServer) -> None:
    unknown = server.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": "a"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert "'embedding'" in unknown.json()["error"]["message"]
    other = server.post("/v1/embeddings", {"model": "rerank", "input": "a"})
    assert (other.status_code, other.json()["error"]["param"]) == (400, "model")


def test_rerank_gives_scores_in_order(server: RunningServer) -> None:
    query, documents = "Where is the stadium?", [*TEXTS, "The stadium is here.", "Nothing."]
    with opened(CrossEncoder, "rerank") as model:
        scores = model.predict([(query, document) for document in documents], activation_fn="Sigmoid")
        logits = model.predict([(query, document) for document in documents], activation_fn="Identity")
    order = np.argsort(-scores, kind="stable").tolist()
    body = {"model": "rerank", "query": query, "documents": [{"text": documents[0]}, *documents[1:]]}
    for path in ("/v1/rerank", "/v2/rerank"):
        response = server.ok(path, body | {"top_n": 3, "return_documents": True})
        assert [one["index"] for one in response["results"]] == order[:3]
        assert [one["document"]["text"] for one in response["results"]] == [documents[place] for place in order[:3]]
        relevance = as_float32([one["relevance_score"] for one in response["results"]])
        np.testing.assert_array_equal(relevance, scores[order[:3]])
        assert response["usage"]["total_tokens"] > 0
    tei = server.ok("/rerank", {"query": query, "texts": documents, "return_text": True})
    assert [one["text"] for one in tei] == [documents[place] for place in order]
    raw = server.ok("/rerank", {"query": query, "texts": documents, "raw_scores": True})
    np.testing.assert_array_equal(as_float32([one["score"] for one in raw]), logits[np.argsort(-logits, kind="stable")])


def test_predict_takes_texts_and_pairs(server: RunningServer) -> None:
    with opened(CrossEncoder, "rerank") as model:
        pairs = [("a", "b"), ("c", "d")]
        scores = model.predict(pairs)
    answers = server.ok("/predict", {"inputs": [list(pair) for pair in pairs]})
    np.testing.assert_array_equal(as_float32([answer[0]["score"] for answer in answers]), scores)
    assert answers[0][0]["label"] == "LABEL_0"
    assert server.ok("/predict", {"inputs": ["a", "b"]}) == answers[0]
    assert len(server.ok("/predict", {"inputs": "a"})) == 1


def test_embed_normalizes_as_text_embeddings_inference_does(server: RunningServer) -> None:
    with opened(Embedder, "embedding") as model:
        # Of unit length already: normalizing again would change the last bits.
        np.testing.assert_array_equal(as_float32(server.ok("/embed", {"inputs": TEXTS})), model.encode(TEXTS))
        for fields, expected in (
            ({}, model.encode(TEXTS, normalize_embeddings=True)),
            ({"normalize": False}, model.encode(TEXTS)),
            ({"dimensions": 8}, model.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)),
            ({"dimensions": 8, "normalize": False}, model.encode(TEXTS, truncate_dim=8)),
        ):
            answer = server.ok("/embed", {"model": "short", "inputs": TEXTS, **fields})
            np.testing.assert_array_equal(as_float32(answer), expected)
        raw = np.array(server.ok("/", {"inputs": TEXTS[0], "normalize": False}), np.float32)
        np.testing.assert_array_equal(raw[0], model.encode(TEXTS[0]))


@pytest.mark.parametrize("name", ["sparse", "sparse-routes"])
def test_sparse_vectors_equal_those_of_encode(server: RunningServer, name: str) -> None:
    with opened(SparseEncoder, name) as model:
        task = None if name == "sparse" else "document"
        expected = model.encode_active(TEXTS[:2], task=task)
    fields = {} if task is None else {"input_type": "document"}
    answers = server.ok("/embed_sparse", {"model": name, "inputs": TEXTS[:2], **fields})
    for answer, vector in zip(answers, expected, strict=True):
        assert [one["index"] for one in answer] == vector.indices.tolist()
        np.testing.assert_array_equal(np.array([one["value"] for one in answer], np.float32), vector.values)


def test_vectors_of_tokens_equal_those_of_encode(server: RunningServer) -> None:
    with opened(Embedder, "embedding-tokens") as model:
        expected = model.encode(TEXTS, output_value="token_embeddings")
    for fields in ({}, {"model": "embedding-tokens"}):
        assert_matrices(server.ok("/embed_all", {"inputs": TEXTS, **fields}), expected)
    with opened(MultiVectorEncoder, "multi-vector") as model:
        texts = [*TEXTS, "a", ". , !", "a"]
        by_role = {"query": model.encode_query(texts), "document": model.encode_document(texts)}
    for role, matrices in by_role.items():
        body: dict[str, Any] = {"model": "multi-vector", "inputs": texts, "input_type": role}
        assert_matrices(server.ok("/embed_all", body), matrices)
        single = server.ok("/embed_all", body | {"inputs": texts[0]})
        assert_matrices(single, matrices[:1])


def test_token_vectors_of_concurrent_requests(server: RunningServer) -> None:
    """Texts of several requests share batches: each has its own expansion and skipped tokens."""
    texts = [f"line {number}, {'boat ' * (number % 7)}." for number in range(40)]
    with opened(MultiVectorEncoder, "multi-vector") as model:
        expected = model.encode_query(texts)
    fields = {"model": "multi-vector", "input_type": "query"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda text: server.ok("/embed_all", {**fields, "inputs": text}), texts))
    assert_matrices([answer[0] for answer in answers], expected)


def assert_matrices(actual: Any, expected: Any) -> None:
    assert [len(matrix) for matrix in actual] == [len(matrix) for matrix in expected]
    for matrix, vectors in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.array(matrix, np.float32).reshape(vectors.shape), vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "embedding", "inputs": "a"}, "this bundle has no 'token_embeddings': export it with --outputs"),
        ({"model": "sparse", "inputs": "a"}, "is for the task 'sparse', and this route for multi_vector or embedding"),
        ({"model": "multi-vector", "inputs": "a"}, "no task was given, and this model has no default"),
        ({"model": "multi-vector", "inputs": "a " * 99, "input_type": "document", "truncate": False}, "has more than"),
    ],
)
def test_requests_for_token_vectors_that_are_refused(
    server: RunningServer, fields: dict[str, Any], message: str
) -> None:
    answer = server.post("/embed_all", fields)
    assert 400 <= answer.status_code < 500
    assert message in answer.json()["error"]


def test_tokenize_shows_ids_and_places(server: RunningServer) -> None:
    [tokens] = server.ok("/tokenize", {"inputs": "Hello stadium"})
    with opened(Embedder, "embedding") as model:
        assert [token["id"] for token in tokens] == model._open.routes.main.tokenizer(["Hello stadium"]).ids.tolist()
    assert (tokens[0]["special"], tokens[0]["start"]) == (True, None)
    assert "".join("Hello stadium"[token["start"] : token["stop"]] for token in tokens[1:-1]) == "Hellostadium"
    [bare] = server.ok("/tokenize", {"inputs": "Hello stadium", "add_special_tokens": False})
    assert bare == tokens[1:-1]
    assert len(server.ok("/tokenize", {"inputs": "word " * 1000})[0]) > 1000


def test_info_and_health(server: RunningServer) -> None:
    info = server.client.get("/info").json()
    with opened(Embedder, "embedding") as model:
        assert info["max_input_length"] == model.max_length
        assert info["models"][0]["fingerprint"] == model.fingerprint
    assert "probes at the export" in info["models"][0]["verified"]
    for path in ("/health", "/health/live", "/health/ready"):
        assert server.client.get(path).status_code == 200


def test_figures_count_requests_and_texts(server: RunningServer) -> None:
    before = server.metric("monograph_texts_total")
    server.ok("/v1/embeddings", {"model": "embedding", "input": TEXTS})
    assert server.metric("monograph_texts_total") - before == len(TEXTS)
    assert 'monograph_requests_total{route="/v1/embeddings",status="200"}' in server.client.get("/metrics").text
    server.client.get("/nothing/of/this/name")
    assert "/nothing" not in server.client.get("/metrics").text


def test_no_text_is_logged(server: RunningServer) -> None:
    server.ok("/v1/embeddings", {"model": "embedding", "input": "a rather private text"})
    server.post("/v1/embeddings", {"model": "a rather private text", "input": 7})
    assert server.log.read_text() == ""


def test_the_document_describes_the_routes(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    assert {"/v1/embeddings", "/v1/models", "/v1/rerank", "/embed", "/rerank", "/predict"} <= set(document["paths"])
    assert {"/embed_all", "/embed_sparse"} <= set(document["paths"])
    assert json.dumps(document).count("HTTPValidationError") == 0


def test_the_page_loads_nothing_from_elsewhere(server: RunningServer) -> None:
    page = server.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("http://www.w3.org", "")
