"""MTEB: tasks on local data score a bundle as MTEB's own wrapper scores sentence-transformers."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import CrossEncoderWrapper, SentenceTransformerEncoderWrapper
from mteb.models.models_protocols import CrossEncoderProtocol, EncoderProtocol
from mteb.types import PromptType

from monograph import Embedder
from monograph.integrations.mteb import MonographCrossEncoder, MonographEncoder
from support.cranfield import Cranfield
from support.frameworks import DOCUMENT_PROMPT, DOCUMENTS, QUERIES


def metadata(name: str, kind: str, score: str) -> Any:
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=score,
        description="local data",
        dataset={"path": "local", "revision": "1"},
        eval_langs=["eng-Latn"],
        modalities=["text"],
    )


class LocalSTS(AbsTaskSTS):
    metadata = metadata("LocalSTS", "STS", "cosine_spearman")
    min_score, max_score = 0, 5

    # MTEB frees a task's data after each model.
    def load_data(self, **options: Any) -> None:  # noqa: ARG002  # MTEB's signature
        self.dataset, self.data_loaded = DatasetDict({"test": self.rows}), True


class LocalRetrieval(AbsTaskRetrieval):
    metadata = metadata("LocalRetrieval", "Retrieval", "ndcg_at_10")

    def load_data(self, **options: Any) -> None:  # noqa: ARG002  # MTEB's signature
        self.dataset, self.data_loaded = {"default": {"test": dict(self.rows)}}, True


class LocalReranking(LocalRetrieval):
    metadata = metadata("LocalReranking", "Reranking", "map_at_1000")


@pytest.fixture(scope="module")
def sts(data: Path) -> LocalSTS:
    """STS17 en-en."""
    pairs = (data / "sts17" / "STS2017.eval.v1.1" / "STS.input.track5.en-en.txt").read_text("utf-8").splitlines()
    gold = (data / "sts17" / "STS2017.gs" / "STS.gs.track5.en-en.txt").read_text("utf-8").split()
    first, second = zip(*(pair.split("\t")[:2] for pair in pairs), strict=True)
    task = LocalSTS()
    task.rows = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": [float(one) for one in gold]})
    return task


def retrieval(kind: type[Any], queries: list[str], documents: list[str], gains: dict[tuple[int, int], int]) -> Any:
    relevant: dict[str, dict[str, int]] = {f"q{place}": {} for place in range(len(queries))}
    for (query, document), gain in gains.items():
        relevant[f"q{query}"][f"d{document}"] = gain
    ids = [f"d{place}" for place in range(len(documents))]
    task = kind()
    task.rows = {
        "corpus": Dataset.from_dict({"id": ids, "title": [""] * len(documents), "text": documents}),
        "queries": Dataset.from_dict({"id": list(relevant), "text": queries}),
        "relevant_docs": relevant,
        "top_ranked": dict.fromkeys(relevant, ids) if kind is LocalReranking else None,
    }
    return task


@pytest.fixture(scope="module")
def cranfield(data: Path) -> Any:
    """The first 20 questions that have an answer among the first 200 abstracts of Cranfield."""
    whole = Cranfield(data / "cranfield")
    gains = {pair: gain for pair, gain in whole.gains.items() if pair[1] < 200}
    answered = {query: place for place, query in enumerate(sorted({query for query, _ in gains})[:20])}
    few = {(answered[query], document): gain for (query, document), gain in gains.items() if query in answered}
    return retrieval(LocalRetrieval, [whole.queries[query] for query in answered], whole.documents[:200], few)


def scores(model: Any, task: Any) -> dict[str, float]:
    """Return what MTEB measures of a model, for each metric."""
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    [subset] = result.task_results[0].scores["test"]
    measured = {name: value for name, value in subset.items() if isinstance(value, float)}
    assert len(measured) > 5
    return measured


@pytest.mark.parametrize("name", ["sts", "cranfield"])
def test_scores_are_those_of_sentence_transformers(
    name: str, minilm_embedder: Embedder, minilm_torch: Any, request: pytest.FixtureRequest
) -> None:
    task = request.getfixturevalue(name)
    model = MonographEncoder(minilm_embedder)
    assert isinstance(model, EncoderProtocol)
    ours, theirs = scores(model, task), scores(SentenceTransformerEncoderWrapper(minilm_torch), task)
    assert ours["main_score"] > 0.3
    assert ours == pytest.approx(theirs, abs=1e-4, nan_ok=True)


def test_a_cross_encoder_reranks_as_that_of_sentence_transformers(
    tiny_cross_bundle: Path, tiny_cross_checkpoint: Path
) -> None:
    task = retrieval(LocalReranking, QUERIES, DOCUMENTS, {(0, 2): 1, (1, 7): 1, (2, 1): 1, (3, 4): 1})
    model = MonographCrossEncoder(tiny_cross_bundle, device="cpu")
    assert isinstance(model, CrossEncoderProtocol)
    theirs = CrossEncoderWrapper(str(tiny_cross_checkpoint), device="cpu")
    assert scores(model, task) == pytest.approx(scores(theirs, task), abs=1e-4, nan_ok=True)


@pytest.mark.parametrize(
    ("prompts", "task", "prompt_type", "expected"),
    [
        ({"LocalSTS": "name: ", "STS": "type: "}, LocalSTS, None, "name: "),
        ({"STS": "type: "}, LocalSTS, None, "type: "),
        (
            {"Retrieval-query": "type of query: ", "Retrieval": "type: "},
            LocalRetrieval,
            PromptType.query,
            "type of query: ",
        ),
        ({"Retrieval-query": "type of query: ", "Retrieval": "type: "}, LocalRetrieval, PromptType.document, "type: "),
        ({}, LocalRetrieval, PromptType.query, "search: "),
        ({}, LocalRetrieval, PromptType.document, DOCUMENT_PROMPT),
        ({}, LocalSTS, None, ""),
    ],
)
def test_texts_have_the_prompt_of_their_task(
    prompts: dict[str, str], task: Any, prompt_type: Any, expected: str, tiny_embedder: Embedder
) -> None:
    """The model itself has prompts for queries, documents and passages."""
    model = MonographEncoder(tiny_embedder, model_prompts=prompts)
    batches = [{"text": DOCUMENTS[:6]}, {"text": DOCUMENTS[6:]}]
    vectors = model.encode(
        batches, task_metadata=task.metadata, hf_split="test", hf_subset="default", prompt_type=prompt_type
    )
    np.testing.assert_allclose(vectors, tiny_embedder.encode(DOCUMENTS, prompt=expected), atol=1e-6)


def test_results_are_stored_by_name_and_fingerprint(tiny_bundle: Path, minilm_embedder: Embedder) -> None:
    metas = [
        MonographEncoder(tiny_bundle, device="cpu").mteb_model_meta,
        MonographEncoder(minilm_embedder).mteb_model_meta,
    ]
    assert metas[1].revision == minilm_embedder.fingerprint != metas[0].revision
    assert metas[1].embed_dim == 384
    for meta in metas:
        assert meta.name.count("/") == 1
        # What MTEB writes beside results.
        assert meta.to_dict()["framework"] == ["ONNX"]


def test_a_raw_embedder_is_refused(minilm_embedder: Embedder, sts: LocalSTS) -> None:
    """By MTEB itself, which knows no such model; it does not evaluate another one."""
    with pytest.raises(Exception, match="No model implementation is available"):
        mteb.evaluate(minilm_embedder, sts, cache=None, show_progress_bar=False)


def test_the_snippet_runs(run_snippet: Any) -> None:
    assert float(run_snippet("mteb")) > 0
