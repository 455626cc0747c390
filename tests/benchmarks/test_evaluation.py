"""Scores equal small cases worked out by hand, and those of sentence-transformers' own evaluators."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    MSEEvaluator,
    TranslationEvaluator,
)
from sklearn.metrics import ndcg_score

from monograph import Embedder
from monograph.similarity import similarity
from monograph_bench.evaluation.beir import BeirFolder, read_beir
from monograph_bench.evaluation.encoder import EvaluationError
from monograph_bench.evaluation.neighbours import nearest_both_ways
from monograph_bench.evaluation.parallel_texts import (
    ParallelTexts,
    distance_scores,
    read_parallel,
    translation_scores,
)
from monograph_bench.evaluation.retrieval import ranked, retrieval_scores
from monograph_bench.evaluation.sts import StsPairs, read_sts, sts_scores
from support.cranfield import Cranfield
from support.fixed_encoder import FixedEncoder

# What a score may differ from the reference's, in points of 100.
POINTS = 0.01
TRACK = "track5.en-en"
# Languages of six scripts, with 1,000 sentences each.
LANGUAGES = ("deu", "fra", "spa", "ita", "rus", "ara", "cmn", "jpn", "hin", "tur")


def as_evaluator(data: BeirFolder, corpus: dict[str, str]) -> InformationRetrievalEvaluator:
    relevant = {query: set(judged) for query, judged in data.relevant.items()}
    return InformationRetrievalEvaluator(
        data.queries, corpus, relevant, precision_recall_at_k=[10, 100], show_progress_bar=False
    )


def write_beir(folder: Path, corpus: dict[str, str], queries: dict[str, str], qrels: list[str]) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]) + "\n", "utf-8")
    return folder


def test_sts_by_hand() -> None:
    encoder = FixedEncoder({"x": [1, 0], "2x": [2, 0], "y": [0, 1], "x+y": [1, 1]})
    pairs = StsPairs(["x", "x", "x"], ["2x", "y", "x+y"], [5.0, 0.0, 1.0])
    scores = sts_scores(encoder, pairs, ["cosine", "dot"])
    # Cosines 1, 0 and 0.7071 beside 5, 0 and 1; dot products 2, 0 and 1.
    assert scores["pearson_cosine"] == pytest.approx(100 * 2.29289 / math.sqrt(0.52860 * 14), abs=0.01)
    assert scores["spearman_cosine"] == pytest.approx(100)
    assert scores["pearson_dot"] == pytest.approx(100 * 5 / math.sqrt(2 * 14))


def test_translation_by_hand() -> None:
    # "one" is nearest to "zwei", and "drei" stands twice: either is right for both of its sources.
    sources: dict[str, list[float]] = {"one": [0.6, 0.8], "two": [0, 1], "three": [-1, 0], "tres": [-1, 0.1]}
    encoder = FixedEncoder({**sources, "eins": [1, 0], "zwei": [0.5, 0.9], "drei": [-1, 0]})
    texts = ParallelTexts(["one", "two", "three", "tres"], ["eins", "zwei", "drei", "drei"])
    scores = translation_scores(encoder, texts)
    assert scores == {"src2trg_accuracy": 75.0, "trg2src_accuracy": 50.0, "mean_accuracy": 62.5}
    theirs = TranslationEvaluator(texts.source, texts.target)(encoder)
    assert scores == {name: 100 * value for name, value in theirs.items()}


def test_distance_by_hand() -> None:
    teacher, student = FixedEncoder({"a": [1, 2], "b": [3, 4]}), FixedEncoder({"A": [1, 0], "B": [3, 4]})
    assert distance_scores(student, teacher, ParallelTexts(["a", "b"], ["A", "B"])) == {"mse": 100.0}


def test_retrieval_by_hand(tmp_path: Path) -> None:
    # Ranked d2, d1, d3, d4: judged 2, not at all, 1, 0. One query has nothing relevant and does not count.
    corpus = {"d1": "near", "d2": "nearest", "d3": "far", "d4": "farthest"}
    qrels = ["q\td2\t2", "q\td3\t1", "q\td4\t0", "none\td1\t0"]
    folder = write_beir(tmp_path, corpus, {"q": "query", "none": "unanswerable"}, qrels)
    encoder = FixedEncoder({"query": [1, 0], "nearest": [1, 0.1], "near": [1, 0.5], "far": [0, 1], "farthest": [-1, 0]})
    scores = retrieval_scores(encoder, read_beir(folder))
    assert scores["ndcg@10"] == pytest.approx(100 * (2 + 1 / 2) / (2 + 1 / math.log2(3)))
    assert scores["map@100"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert scores["recall@10"] == scores["recall@100"] == 100
    assert encoder.calls == [("encode_query", "query"), *(("encode_document", text) for text in corpus.values())]


def test_documents_that_the_corpus_lacks_count_as_never_found(tmp_path: Path) -> None:
    folder = write_beir(tmp_path, {"d1": "near"}, {"q": "query"}, ["q\td1\t1", "q\tgone\t1"])
    data = read_beir(folder)
    assert (data.document_count, data.not_in_corpus) == (1, 1)
    scores = retrieval_scores(FixedEncoder({"query": [1, 0], "near": [1, 0]}), data)
    assert scores["recall@10"] == scores["map@100"] == 50


def random_retrieval(folder: Path, judgements: int) -> tuple[FixedEncoder, BeirFolder, dict[str, str]]:
    """Return an encoder, 40 queries and 500 documents, of which every fifth is a copy of another: ties."""
    rng = np.random.default_rng(0)
    corpus, queries = (
        {f"{kind}{i:03}": f"{kind} {i}" for i in range(count)} for kind, count in (("d", 500), ("q", 40))
    )
    vectors = {text: rng.normal(size=8) for text in (*corpus.values(), *queries.values())}
    vectors |= {f"d {i}": vectors[f"d {(7 * i + 1) % 500}"] for i in range(0, 500, 5)}
    rows = [
        f"{query}\td{document:03}\t{rng.integers(0, judgements + 1)}"
        for query in queries
        for document in rng.choice(500, 60, replace=False)
    ]
    return FixedEncoder(vectors), read_beir(write_beir(folder, corpus, queries, rows)), corpus


def test_retrieval_with_ties_equals_sentence_transformers(tmp_path: Path) -> None:
    encoder, data, corpus = random_retrieval(tmp_path, judgements=1)
    theirs = as_evaluator(data, corpus)(encoder)
    for name, score in retrieval_scores(encoder, data).items():
        assert score == pytest.approx(100 * theirs[f"cosine_{name}"], abs=1e-6), name


def test_graded_ndcg_equals_scikit_learn(tmp_path: Path) -> None:
    encoder, data, corpus = random_retrieval(tmp_path, judgements=4)
    # Without ties, which scikit-learn averages over.
    vectors = encoder.encode(list(corpus.values())) + np.random.default_rng(1).normal(scale=0.01, size=(500, 8))
    queries = list(data.queries.values())
    apart = FixedEncoder(dict(zip([*corpus.values(), *queries], [*vectors, *encoder.encode(queries)], strict=True)))
    expected = 100 * graded_ndcg10(apart, data, corpus)
    assert retrieval_scores(apart, data)["ndcg@10"] == pytest.approx(expected, abs=1e-6)


def test_ranking_does_not_depend_on_blocks_or_the_order_of_the_corpus(tmp_path: Path) -> None:
    encoder, data, _ = random_retrieval(tmp_path, judgements=1)
    queries, documents = list(data.queries.values()), list(data.documents())
    whole = ranked(encoder, queries, documents, 100)
    assert [len(ranking) for ranking in whole] == [100] * 40
    assert ranked(encoder, queries, documents[::-1], 100, block_size=37) == whole
    assert [ranking[:7] for ranking in whole] == ranked(encoder, queries, documents, 7, block_size=500)


def test_nearest_neighbours_do_not_depend_on_blocks() -> None:
    rng = np.random.default_rng(2)
    first, second = (rng.normal(size=(count, 5)).astype(np.float32) for count in (50, 64))
    second[10] = second[3]
    cosines = similarity("cosine", first, second)
    for block in (7, 64):
        there, back = nearest_both_ways(first, second, block)
        np.testing.assert_array_equal(there, cosines.argmax(axis=1))
        np.testing.assert_array_equal(back, cosines.argmax(axis=0))


def test_what_allows_no_score_is_an_error() -> None:
    same = FixedEncoder({"a": [1, 0], "b": [1, 0]})
    with pytest.raises(EvaluationError, match="all 2 pairs have the same cosine similarity"):
        sts_scores(same, StsPairs(["a", "b"], ["b", "a"], [1, 2]), ["cosine"])
    broken = FixedEncoder({"a": [1, 0], "b": [math.nan, 0]})
    with pytest.raises(EvaluationError, match="1 of 2 vectors have values that are not finite, that of 'b'"):
        translation_scores(broken, ParallelTexts(["a", "b"], ["a", "b"]))
    teacher = FixedEncoder({"a": [1, 0, 0]})
    with pytest.raises(EvaluationError, match="the teacher's vectors have 3 dimensions and the model's 2"):
        distance_scores(same, teacher, ParallelTexts(["a"], ["a"]))


def test_sts17_equals_sentence_transformers(minilm_embedder: Embedder, minilm_torch: Any, data: Path) -> None:
    folder = data / "sts17"
    pairs = read_sts(
        folder / "STS2017.eval.v1.1" / f"STS.input.{TRACK}.txt", folder / "STS2017.gs" / f"STS.gs.{TRACK}.txt"
    )
    assert len(pairs.gold) == 250
    ours = sts_scores(minilm_embedder, pairs, ["cosine"])
    theirs = EmbeddingSimilarityEvaluator(pairs.first, pairs.second, pairs.gold)(minilm_torch)
    print(f"\n{TRACK}: {ours}, sentence-transformers {theirs}")
    for name, score in ours.items():
        assert score == pytest.approx(100 * theirs[name], abs=POINTS)


@pytest.mark.parametrize("pairs", [20, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_ten_tatoeba_languages_equal_sentence_transformers(
    minilm_embedder: Embedder, minilm_torch: Any, data: Path, pairs: int
) -> None:
    for language in LANGUAGES:
        source, target = (data / "tatoeba-laser" / f"tatoeba.{language}-eng.{side}" for side in (language, "eng"))
        whole = read_parallel(source, target)
        texts = ParallelTexts(whole.source[:pairs], whole.target[:pairs])
        assert len(texts.source) == pairs
        ours = translation_scores(minilm_embedder, texts)
        theirs = TranslationEvaluator(texts.source, texts.target)(minilm_torch)
        print(f"\n{language}: {ours}, sentence-transformers {theirs}")
        for name, score in ours.items():
            assert score == pytest.approx(100 * theirs[name], abs=POINTS), language


@pytest.mark.slow
def test_distance_equals_sentence_transformers(minilm_embedder: Embedder, minilm_torch: Any, data: Path) -> None:
    # How far Frisian lies from its English, for a model that knows English only.
    folder = data / "tatoeba-laser"
    texts = read_parallel(folder / "tatoeba.fry-eng.eng", folder / "tatoeba.fry-eng.fry")
    ours = distance_scores(minilm_embedder, minilm_embedder, texts)
    theirs = MSEEvaluator(texts.source, texts.target, teacher_model=minilm_torch)(minilm_torch)
    print(f"\n{ours}, sentence-transformers {theirs}")
    assert ours["mse"] == pytest.approx(-theirs["negative_mse"], abs=1e-5)


@pytest.mark.parametrize(
    ("queries", "documents"), [(20, 60), pytest.param(225, 1400, marks=pytest.mark.slow)], ids=["part", "whole"]
)
@pytest.mark.slow
def test_cranfield_equals_scikit_learn_and_sentence_transformers(
    minilm_embedder: Embedder, minilm_torch: Any, data: Path, tmp_path: Path, queries: int, documents: int
) -> None:
    collection = Cranfield(data / "cranfield")
    graded = read_beir(collection.write_beir(tmp_path / "graded", queries=queries, documents=documents))
    corpus = dict(graded.documents())
    assert len(corpus) == documents
    # Each text once by each of the two.
    embedder, torch_model = (embedded(model, graded, corpus) for model in (minilm_embedder, minilm_torch))
    ours = retrieval_scores(embedder, graded)
    by_sklearn = 100 * graded_ndcg10(torch_model, graded, corpus)
    print(f"\n{len(graded.queries)} queries: {ours}, scikit-learn's nDCG@10 {by_sklearn}")
    assert ours["ndcg@10"] == pytest.approx(by_sklearn, abs=POINTS)
    # Sentence-transformers knows no grades: its nDCG is that of judgements that are all 1.
    alike = {query: dict.fromkeys(judged, 1) for query, judged in graded.relevant.items()}
    ours = retrieval_scores(embedder, replace(graded, relevant=alike))
    theirs = as_evaluator(graded, corpus)(torch_model)
    print(f"without grades: {ours}, sentence-transformers {theirs}")
    for name, score in ours.items():
        assert score == pytest.approx(100 * theirs[f"cosine_{name}"], abs=POINTS), name


def embedded(model: Any, data: BeirFolder, corpus: dict[str, str]) -> FixedEncoder:
    queries, documents = list(data.queries.values()), list(corpus.values())
    vectors = [*model.encode_query(queries), *model.encode_document(documents)]
    return FixedEncoder(dict(zip([*queries, *documents], vectors, strict=True)))


def graded_ndcg10(encoder: FixedEncoder, data: BeirFolder, corpus: dict[str, str]) -> float:
    """Return nDCG@10 as scikit-learn computes it from the similarities of all pairs, without ties."""
    gains = [[data.relevant[query].get(document, 0) for document in corpus] for query in data.queries]
    vectors = (encoder.encode(list(texts.values())) for texts in (data.queries, corpus))
    return float(ndcg_score(gains, similarity("cosine", *vectors), k=10))
