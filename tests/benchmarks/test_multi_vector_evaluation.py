"""Retrieval by late interaction: a case worked out by hand, and a bundle beside its checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import MultiVectorEncoder
from monograph.bundle import open_bundle
from monograph.errors import InputError
from monograph.maxsim import maxsim
from monograph_bench.evaluation.beir import BeirFolder, read_beir
from monograph_bench.evaluation.data_sets import check_fit
from monograph_bench.evaluation.encoder import EvaluationError
from monograph_bench.evaluation.models import locate_model
from monograph_bench.evaluation.multi_vector_retrieval import multi_vector_retrieval_scores
from monograph_bench.measurement.reference import cosines, read_reference
from support.command import monograph_after_imports
from support.multi_vector_encoders import save_multi_vector

BUNDLE = Path(__file__).parents[1] / "data" / "multi-vector"
CORPUS = {"d1": "near", "d2": "nearest", "d3": "far"}
VECTORS = {
    "query": [[1, 0], [0, 1]],
    # MaxSim of the query: 2, 1.5 and 1.
    "nearest": [[1, 0], [0, 1], [0.1, 0.1]],
    "near": [[0.5, 1]],
    "far": [[0.5, 0.5], [0, 0]],
}


class FixedEncoder:
    """Looks texts up."""

    def __init__(self, vectors: dict[str, Any]) -> None:
        self._vectors = vectors

    def encode_query(self, texts: list[str]) -> list[Any]:
        return [self._vectors[text] for text in texts]

    def encode_document(self, texts: list[str]) -> list[Any]:
        return [self._vectors[text] for text in texts]

    def similarity(self, first: list[NDArray[np.float32]], second: list[NDArray[np.float32]]) -> Any:
        return maxsim("maxsim", first, second)


def written(folder: Path) -> BeirFolder:
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", CORPUS), ("queries", {"q": "query"})):
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td2\t1\nq\td3\t1\n", "utf-8")
    return read_beir(folder)


def test_retrieval_by_hand(tmp_path: Path) -> None:
    # Ranked d2, d1, d3: the first and the third are relevant.
    scores = multi_vector_retrieval_scores(FixedEncoder(VECTORS), written(tmp_path))
    assert scores["map@100"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert scores["ndcg@10"] == pytest.approx(100 * (1 + 1 / 2) / (1 + 1 / math.log2(3)))
    assert (scores["query_vectors"], scores["corpus_vectors"]) == (2, 2)


def test_vectors_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="1 of 3 vectors have values that are not finite, that of 'far'"):
        multi_vector_retrieval_scores(FixedEncoder(VECTORS | {"far": [[math.nan, 0]]}), written(tmp_path))


def test_a_bundle_is_evaluated_beside_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = save_multi_vector("BERT", tmp_path / "model")
    written(tmp_path / "beir")
    located = locate_model(f"st:{checkpoint}")
    assert located.profile.task.name == "multi_vector"
    with pytest.raises(InputError, match=r"^--sts is for .* is of the task multi_vector: give it --retrieval$"):
        check_fit("sts", located)
    options = ("--retrieval", tmp_path / "beir", "--reference", f"st:{checkpoint}", "--device", "cpu", "--json")
    done = monograph_after_imports("eval", BUNDLE, *options)
    assert done.returncode == 0, done.stderr.decode()
    scores = {score["metric"]: score for score in json.loads(done.stdout)["scores"]}
    assert scores["query_vectors"]["score"] == scores["query_vectors"]["reference"] == 16
    assert scores["recall@100"]["score"] == 100


def test_token_vectors_are_compared_row_by_row() -> None:
    reference = read_reference({"bundle": open_bundle(BUNDLE)})
    assert reference is not None
    with MultiVectorEncoder(BUNDLE, device="cpu") as model:
        matrices = model.encode([str(text) for text in reference.texts.texts], prompt="", task="document")
    assert cosines(np.concatenate(matrices), reference)["worst"] == pytest.approx(1, abs=1e-6)
