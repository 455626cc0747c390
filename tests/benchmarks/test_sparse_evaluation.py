"""Retrieval with sparse vectors: a case worked out by hand, and sentence-transformers' own evaluator."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

from monograph.errors import InputError
from monograph_bench.evaluation.beir import BeirFolder, read_beir
from monograph_bench.evaluation.data_sets import check_fit
from monograph_bench.evaluation.encoder import EvaluationError
from monograph_bench.evaluation.models import locate_model
from monograph_bench.evaluation.retrieval import ranked
from monograph_bench.evaluation.sparse_retrieval import embed_sparse, load_torch_sparse, sparse_retrieval_scores
from monograph_export.probe_texts import probe_sentences
from support.command import assert_error, monograph_after_imports
from support.fixed_sparse_encoder import FixedSparseEncoder
from support.sparse_encoders import save_splade

CORPUS = {"d1": "near", "d2": "nearest", "d3": "far", "d4": "farthest"}
VECTORS = {
    "query": [2, 1, 0, 0],
    "nearest": [3, 0, 0, 0],
    "near": [1, 1, 1, 0],
    "far": [0, 1, 1, 2],
    "farthest": [0] * 4,
}


def written(folder: Path, corpus: dict[str, str], queries: dict[str, str], qrels: list[str]) -> BeirFolder:
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]) + "\n", "utf-8")
    return read_beir(folder)


def test_retrieval_by_hand(tmp_path: Path) -> None:
    encoder = FixedSparseEncoder(VECTORS)
    # Ranked d2, d1, d3, d4: the first and the third are relevant.
    scores = sparse_retrieval_scores(encoder, written(tmp_path, CORPUS, {"q": "query"}, ["q\td2\t1", "q\td3\t1"]))
    assert scores["map@100"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert scores["ndcg@10"] == pytest.approx(100 * (1 + 1 / 2) / (1 + 1 / math.log2(3)))
    assert scores["recall@10"] == scores["recall@100"] == 100
    # Dimensions, and no points of 100: (1 + 3 + 3 + 0) / 4 of documents.
    assert (scores["query_active_dims"], scores["corpus_active_dims"]) == (2, 7 / 4)
    assert encoder.calls == [("encode_query", "query"), *(("encode_document", text) for text in CORPUS.values())]


def test_ranking_does_not_depend_on_blocks() -> None:
    documents = list(CORPUS.items())
    encoder = FixedSparseEncoder(VECTORS)
    assert ranked(encoder, ["query"], documents, 3, block_size=3, embed=embed_sparse) == [["d2", "d1", "d3"]]
    assert encoder.compared == [(1, 3), (1, 1)]


def test_vectors_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    encoder = FixedSparseEncoder(VECTORS | {"far": [0, math.inf, math.nan, 0]})
    data = written(tmp_path, CORPUS, {"q": "query"}, ["q\td2\t1"])
    with pytest.raises(EvaluationError, match="1 of 4 vectors have values that are not finite, that of 'far'"):
        sparse_retrieval_scores(encoder, data)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_splade("BERT", tmp_path_factory.mktemp("sparse"))


def test_scores_equal_sentence_transformers(checkpoint: Path, tmp_path: Path) -> None:
    sentences = [sentence for sentence in probe_sentences() if sentence.isascii()]
    corpus = {f"d{number}": text for number, text in enumerate(sentences)}
    # A query is a part of the document that answers it.
    queries = {f"q{number}": text[: len(text) // 2] for number, text in enumerate(sentences[::2])}
    qrels = [f"q{number}\td{2 * number + other}\t1" for number in range(len(queries) - 1) for other in (0, 1)]
    data = written(tmp_path, corpus, queries, qrels)
    ours = sparse_retrieval_scores(load_torch_sparse(checkpoint), data)
    theirs = SparseInformationRetrievalEvaluator(
        data.queries, corpus, {query: set(documents) for query, documents in data.relevant.items()},
        precision_recall_at_k=[10, 100],
    )(SparseEncoder(str(checkpoint), device="cpu"))  # fmt: skip
    assert len(ours) == 6
    for name, score in ours.items():
        expected = theirs[name] if name.endswith("active_dims") else 100 * theirs[f"dot_{name}"]
        assert score == pytest.approx(expected, abs=1e-4), name
    assert 0 < ours["ndcg@10"] < 100
    assert 0 < ours["corpus_active_dims"] < 900


def test_a_sparse_checkpoint_is_known_and_refused_for_what_needs_dense_vectors(checkpoint: Path) -> None:
    located = locate_model(f"st:{checkpoint}")
    assert located.profile.task.name == "sparse"
    check_fit("retrieval", located)
    for kind in ("sts", "translation", "mse", "rerank"):
        with pytest.raises(InputError, match=f"^--{kind} is for .* is of the task sparse: give it --retrieval$"):
            check_fit(kind, located)


def test_a_dense_bundle_is_compared_with_a_sparse_reference(
    tiny_bundle: Path, checkpoint: Path, tmp_path: Path
) -> None:
    written(tmp_path / "beir", CORPUS, {"q": "query"}, ["q\td2\t1"])
    reference = f"st:{checkpoint}"
    done = monograph_after_imports(
        "eval", tiny_bundle, "--retrieval", tmp_path / "beir", "--reference", reference, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr.decode()
    # What only the reference has is not printed.
    assert done.stdout.decode().splitlines()[-1] == "(points of 100)"
    (tmp_path / "sts").write_text("A boat.\tA ship.\t4\nA boat.\tBread.\t0\n")
    done = monograph_after_imports("eval", tiny_bundle, "--sts", tmp_path / "sts", "--reference", reference)
    assert_error(done, 1, f"--sts is for models of the task embedding, and {reference} is of the task sparse")
