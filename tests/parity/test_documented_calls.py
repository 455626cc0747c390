"""sentence-transformers' documented calls, with nothing changed but the import: which run, and with which results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sklearn.cluster import KMeans

import monograph
from monograph import MonographError, util
from support.documented_calls import PAGES, Outcome, run, statements

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "from-sentence-transformers.md"
# What is no result.
NO_RESULTS = (
    "model",
    "embedder",
    "bi_encoder",
    "cross_encoder",
    "sparse_model",
    "reranker",
    "pool",
    "evaluator",
)
# Of scores of up to 3, with sums in other orders.
TOLERANCE = 2e-4
# Results with tokens: a column without one, which the tiny model has, is None there and "" here.
TOKENS = ("decoded", "shared", "token")
Both = tuple[list[Outcome], list[Outcome]]


class Float32Embedder(monograph.Embedder):
    """In the type that sentence-transformers computes in, for the results; calls are the same in any other."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, compute_dtype="float32", **options)


class Float32CrossEncoder(monograph.CrossEncoder):
    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, compute_dtype="float32", **options)


class Float32SparseEncoder(monograph.SparseEncoder):
    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, compute_dtype="float32", **options)


@pytest.fixture(scope="module")
def names(
    minilm: Path,
    minilm_bundle: Path,
    tiny_cross_checkpoint: Path,
    tiny_cross_bundle: Path,
    tiny_sparse_checkpoint: Path,
    tiny_sparse_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the pages import, and the models they name: of sentence-transformers, and here."""
    common = {
        "np": np,
        "torch": torch,
        "KMeans": KMeans,
        "EmbeddingSimilarityEvaluator": EmbeddingSimilarityEvaluator,
        "FOLDER": str(tmp_path_factory.mktemp("saved") / "model"),
    }
    theirs = common | {
        "SentenceTransformer": sentence_transformers.SentenceTransformer,
        "CrossEncoder": sentence_transformers.CrossEncoder,
        "SparseEncoder": sentence_transformers.SparseEncoder,
        "SimilarityFunction": sentence_transformers.SimilarityFunction,
        "quantize_embeddings": sentence_transformers.quantize_embeddings,
        "util": sentence_transformers.util,
        "EMBEDDING": str(minilm),
        "RERANKER": str(tiny_cross_checkpoint),
        "SPARSE": str(tiny_sparse_checkpoint),
        # Its ONNX extra cannot be installed beside transformers 5.
        "BACKEND": "torch",
        # Each is a process that imports torch.
        "DEVICES": ["cpu"],
    }
    ours = common | {
        "SentenceTransformer": Float32Embedder,
        "CrossEncoder": Float32CrossEncoder,
        "SparseEncoder": Float32SparseEncoder,
        "SimilarityFunction": util.SimilarityFunction,
        "quantize_embeddings": util.quantize_embeddings,
        "util": util,
        "EMBEDDING": str(minilm_bundle),
        "RERANKER": str(tiny_cross_bundle),
        "SPARSE": str(tiny_sparse_bundle),
        "BACKEND": "onnx",
        "DEVICES": ["cpu", "cpu"],
    }
    return theirs, ours


@pytest.fixture(scope="module")
def both(names: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Both]:
    """Every page run by sentence-transformers and here."""
    theirs, ours = names
    return {page: (run(page, theirs, NO_RESULTS), run(page, ours, NO_RESULTS)) for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_every_transcribed_call_runs_in_sentence_transformers(page: str, both: dict[str, Both]) -> None:
    """A call that does not would be a mistake of the transcription."""
    assert [(outcome.statement, outcome.error) for outcome in both[page][0] if outcome.error] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_results_are_those_of_sentence_transformers(page: str, both: dict[str, Both]) -> None:
    """Those of each statement as soon as it ran: a later one may set the same variable."""
    compared = 0
    for theirs, ours in zip(*both[page], strict=True):
        if ours.error is not None:
            continue
        assert theirs.results.keys() == ours.results.keys(), ours.statement
        for name, expected in theirs.results.items():
            assert_alike(expected, ours.results[name], name)
            compared += 1
    assert compared


def test_no_page_loses_more_calls_than_the_documentation_says(both: dict[str, Both]) -> None:
    failed = {outcome.statement: outcome.error for results in both.values() for outcome in results[1] if outcome.error}
    assert set(failed) == documented_differences()
    assert all(isinstance(error, (MonographError, AttributeError)) for error in failed.values())
    total = sum(len(list(statements(page))) for page in PAGES)
    text = PAGE.read_text(encoding="utf-8")
    assert f"{total - len(failed)} of {total}" in text


def documented_differences() -> set[str]:
    """Return the calls in the first column of the documentation's table of what does not run."""
    text = PAGE.read_text(encoding="utf-8").split("## Calls that differ")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def assert_alike(theirs: Any, ours: Any, name: str) -> None:
    """Compare two values of a variable by their content, whatever holds it."""
    if isinstance(theirs, Mapping):
        assert list(theirs) == list(ours), name
        for key in theirs:
            assert_alike(theirs[key], ours[key], f"{name}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert len(theirs) == len(ours), name
        for place, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            assert_alike(one, other, f"{name}[{place}]")
    elif isinstance(theirs, torch.Tensor | np.ndarray | np.generic | float):
        expected, actual = to_numpy(theirs), to_numpy(ours)
        assert expected.shape == actual.shape, name
        difference = np.abs(expected.astype(np.float64) - actual.astype(np.float64)).max(initial=0)
        # A value at the edge of two levels of int8 may get the other one.
        allowed = 1 if expected.dtype == np.int8 and "binary" not in name else TOLERANCE
        assert difference <= allowed, (name, difference)
    elif theirs is None and name.startswith(TOKENS):
        assert ours == "", name
    else:
        assert type(theirs) is type(ours), name
        assert theirs == ours, name


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    if hasattr(value, "tocsr"):
        return np.asarray(value.toarray())
    if isinstance(value, torch.Tensor):
        return value.detach().to_dense().numpy()
    return np.asarray(value)


def test_convert_to_tensor_without_torch_says_what_to_do(minilm_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with monograph.Embedder(minilm_bundle, device="cpu") as model:
        with pytest.raises(monograph.InputError, match="pip install torch"):
            model.encode("a text", convert_to_tensor=True)
        with pytest.raises(monograph.InputError, match="pip install torch"):
            model.encode("a text", convert_to_numpy=False)


@pytest.fixture(autouse=True)
def quiet_pages(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()
