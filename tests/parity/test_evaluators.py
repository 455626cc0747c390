"""sentence-transformers' evaluators take this package's models, and give the scores of its own."""

from __future__ import annotations

from typing import Any

import pytest
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    ParaphraseMiningEvaluator,
    RerankingEvaluator,
    TranslationEvaluator,
    TripletEvaluator,
)
from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

from monograph import CrossEncoder, Embedder, SparseEncoder
from support.tatoeba import Tatoeba

TOLERANCE = 1e-4
TEXTS = 150


@pytest.fixture(scope="module")
def sides(tatoeba: Tatoeba) -> tuple[list[str], list[str]]:
    """English texts, and the same in German, which MiniLM knows some of."""
    return tatoeba.aligned("deu", TEXTS)


@pytest.mark.parametrize(
    "precision",
    [None, pytest.param("float32", marks=pytest.mark.slow), "binary", pytest.param("ubinary", marks=pytest.mark.slow)],
)
def test_embedding_similarity(
    precision: Any, minilm_embedder: Embedder, minilm_torch: Any, sides: tuple[list[str], list[str]]
) -> None:
    scores = [(place * 37 % 100) / 100 for place in range(TEXTS)]
    options = {"precision": precision, "similarity_fn_names": ["cosine", "dot", "euclidean", "manhattan"]}
    evaluator = EmbeddingSimilarityEvaluator(*sides, scores, name="sides", write_csv=False, **options)
    assert_same_scores(evaluator, minilm_embedder, minilm_torch)


def test_information_retrieval(
    minilm_embedder: Embedder, minilm_torch: Any, sides: tuple[list[str], list[str]]
) -> None:
    english, german = ({str(place): text for place, text in enumerate(side)} for side in sides)
    relevant = {name: {name} for name in german}
    evaluator = InformationRetrievalEvaluator(german, english, relevant, write_csv=False, corpus_chunk_size=40)
    assert_same_scores(evaluator, minilm_embedder, minilm_torch)
    # What an evaluator measured stays with the model, as in sentence-transformers.
    assert minilm_embedder.model_card_data.metrics


def test_translation(minilm_embedder: Embedder, minilm_torch: Any, sides: tuple[list[str], list[str]]) -> None:
    assert_same_scores(TranslationEvaluator(*sides, write_csv=False), minilm_embedder, minilm_torch)


@pytest.mark.parametrize("truncate_dim", [None, 64])
@pytest.mark.slow
def test_the_other_evaluators_of_vectors(
    truncate_dim: int | None, minilm_embedder: Embedder, minilm_torch: Any, sides: tuple[list[str], list[str]]
) -> None:
    english, german = sides
    options: dict[str, Any] = {"truncate_dim": truncate_dim, "write_csv": False}
    shuffled = german[1:] + german[:1]
    labels = [1] * TEXTS + [0] * TEXTS
    texts = {str(place): text for place, text in enumerate(english)}
    samples = [
        {"query": text, "positive": [german[place]], "negative": german[:10]}
        for place, text in enumerate(english[10:30], start=10)
    ]
    for evaluator in (
        TripletEvaluator(english, german, shuffled, **options),
        BinaryClassificationEvaluator(english + english, german + shuffled, labels, **options),
        ParaphraseMiningEvaluator(texts, [("0", "1"), ("2", "3")], **options),
        RerankingEvaluator(samples, **options),
    ):
        assert_same_scores(evaluator, minilm_embedder, minilm_torch)


def test_an_evaluator_of_cross_encoders(tiny_cross_encoder: CrossEncoder, tiny_cross_checkpoint: Any) -> None:
    from sentence_transformers import CrossEncoder as TheirCrossEncoder

    samples = [
        {
            "query": f"query {number}",
            "positive": [f"answer {number}"],
            "negative": [f"other {place}" for place in range(9)],
        }
        for number in range(12)
    ]
    evaluator = CrossEncoderRerankingEvaluator(samples, write_csv=False, show_progress_bar=False)
    assert_same_scores(evaluator, tiny_cross_encoder, TheirCrossEncoder(str(tiny_cross_checkpoint), device="cpu"))


def test_an_evaluator_of_sparse_encoders(
    tiny_sparse_encoder: SparseEncoder, tiny_sparse_checkpoint: Any, sides: tuple[list[str], list[str]]
) -> None:
    from sentence_transformers import SparseEncoder as TheirSparseEncoder

    english, german = ({str(place): text for place, text in enumerate(side[:40])} for side in sides)
    relevant = {name: {name} for name in german}
    evaluator = SparseInformationRetrievalEvaluator(german, english, relevant, write_csv=False)
    assert_same_scores(evaluator, tiny_sparse_encoder, TheirSparseEncoder(str(tiny_sparse_checkpoint), device="cpu"))


def assert_same_scores(evaluator: Any, ours: Any, theirs: Any) -> None:
    expected, actual = evaluator(theirs), evaluator(ours)
    assert actual.keys() == expected.keys()
    assert actual == pytest.approx(expected, abs=TOLERANCE)
