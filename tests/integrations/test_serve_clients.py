"""`monograph serve`: the clients that people have for other servers get what the models' classes compute."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import huggingface_hub
import numpy as np
import openai
import pytest
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

from monograph import CrossEncoder, Embedder
from support.frameworks import DOCUMENTS, QUERIES
from support.server import RunningServer, running_server

DATA = Path(__file__).parents[1] / "data"
KEY = "the-key-of-these-tests"
# Of texts that are computed beside others.
TOLERANCE = 1e-5


def as_float32(values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.float32)


@pytest.fixture(scope="module")
def bundle(minilm_bundle: Path) -> Path:
    return minilm_bundle


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    words = (f"minilm={bundle}", f"reranker={DATA / 'rerank'}", "--device", "cpu", "--api-keys", keys)
    with running_server(*words, headers={"Authorization": f"Bearer {KEY}"}) as started:
        yield started


@pytest.fixture(scope="module")
def model(bundle: Path) -> Iterator[Embedder]:
    with Embedder(bundle, device="cpu") as opened:
        yield opened


def test_openai(server: RunningServer, model: Embedder) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
    assert [one.id for one in client.models.list()] == ["minilm", "reranker"]
    # Without a format it asks for base64, and decodes it.
    found = client.embeddings.create(model="minilm", input=DOCUMENTS)
    floats = client.embeddings.create(model="minilm", input=DOCUMENTS, encoding_format="float")
    for response in (found, floats):
        np.testing.assert_array_equal(as_float32([one.embedding for one in response.data]), model.encode(DOCUMENTS))
        assert response.usage.total_tokens > len(DOCUMENTS)
    with pytest.raises(openai.BadRequestError, match="dimensions") as refused:
        client.embeddings.create(model="minilm", input="a", dimensions=7)
    assert refused.value.param == "dimensions"
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="other", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong").embeddings.create(model="minilm", input="a")
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="minilm", input=[[1, 2, 3]])


def test_openai_async_in_parallel(server: RunningServer, model: Embedder) -> None:
    async def embed() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
            tasks = [client.embeddings.create(model="minilm", input=text) for text in DOCUMENTS * 3]
            return [one.data[0].embedding for one in await asyncio.gather(*tasks)]

    found = as_float32(asyncio.run(embed()))
    np.testing.assert_allclose(found, model.encode(DOCUMENTS * 3), rtol=0, atol=TOLERANCE)


def test_langchain(server: RunningServer, model: Embedder) -> None:
    options = {"model": "minilm", "base_url": f"{server.url}/v1", "api_key": KEY}
    embeddings = OpenAIEmbeddings(check_embedding_ctx_length=False, **options)
    found = as_float32(embeddings.embed_documents(DOCUMENTS))
    np.testing.assert_array_equal(found, model.encode(DOCUMENTS))
    np.testing.assert_array_equal(as_float32(embeddings.embed_query(QUERIES[0])), model.encode(QUERIES[0]))


def test_langchain_is_told_that_it_sends_token_ids(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    # Without the network, that its vocabulary comes from.
    ranks = {bytes([value]): value for value in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: encoding)
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _: encoding)
    embeddings = OpenAIEmbeddings(model="minilm", base_url=f"{server.url}/v1", api_key=KEY)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        embeddings.embed_documents(DOCUMENTS)


def test_llama_index(server: RunningServer, model: Embedder) -> None:
    embeddings = OpenAILikeEmbedding(model_name="minilm", api_base=f"{server.url}/v1", api_key=KEY, embed_batch_size=10)
    found = as_float32(embeddings.get_text_embedding_batch(DOCUMENTS))
    # It replaces the ends of lines.
    np.testing.assert_array_equal(found, model.encode([text.replace("\n", " ") for text in DOCUMENTS]))
    query = as_float32(embeddings.get_query_embedding(QUERIES[0]))
    np.testing.assert_array_equal(query, model.encode(QUERIES[0]))


def test_haystack(server: RunningServer, model: Embedder) -> None:
    options = {"model": "minilm", "api_base_url": f"{server.url}/v1", "api_key": Secret.from_token(KEY)}
    texts = OpenAITextEmbedder(**options)
    found = as_float32(texts.run(QUERIES[0])["embedding"])
    np.testing.assert_array_equal(found, model.encode(QUERIES[0]))
    documents = OpenAIDocumentEmbedder(**options, progress_bar=False)
    embedded = documents.run([Document(content=text) for text in DOCUMENTS])["documents"]
    found = as_float32([one.embedding for one in embedded])
    np.testing.assert_array_equal(found, model.encode([one.content for one in embedded]))


@pytest.mark.parametrize("path", ["", "/embed"])
def test_hugging_face_inference_client(
    server: RunningServer, model: Embedder, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tests run with HF_HUB_OFFLINE; this server is no Hub.
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    client = huggingface_hub.InferenceClient(base_url=f"{server.url}{path}", api_key=KEY)
    found = as_float32(client.feature_extraction(QUERIES[0]))
    np.testing.assert_array_equal(found[0], model.encode(QUERIES[0]))
    again = client.feature_extraction(QUERIES[0], normalize=True, truncate=True, truncation_direction="right")
    np.testing.assert_array_equal(as_float32(again), found)


def test_cohere(server: RunningServer) -> None:
    with CrossEncoder(DATA / "rerank", device="cpu") as reranker:
        expected = reranker.rank(QUERIES[0], DOCUMENTS, top_k=3, activation_fn="Sigmoid")
    for client in (cohere.Client(KEY, base_url=server.url), cohere.ClientV2(KEY, base_url=server.url)):
        answer = client.rerank(model="reranker", query=QUERIES[0], documents=DOCUMENTS, top_n=3)
        assert [one.index for one in answer.results] == [one["corpus_id"] for one in expected]
        np.testing.assert_allclose(
            [one.relevance_score for one in answer.results], [one["score"] for one in expected], atol=1e-6
        )


def test_the_text_embeddings_inference_routes(server: RunningServer, model: Embedder) -> None:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        found = client.post("/embed", json={"inputs": DOCUMENTS}).json()
    np.testing.assert_array_equal(as_float32(found), model.encode(DOCUMENTS))
