"""MultiVectorEncoder on the committed bundle: results, MaxSim, precisions and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import BundleError, InputError, MultiVectorEncoder, SparseEncoder, load
from monograph.bundle import open_bundle, read_probes
from monograph.bundle.manifest import Expansion
from monograph.inference.token_vectors import expand
from monograph.maxsim import EMPTY_DOCUMENT_SCORE, maxsim
from monograph.sparse.rows import SparseVector
from monograph.tokenization import TokenizedTexts
from support import manifests

BUNDLE = Path(__file__).parents[1] / "data" / "multi-vector"
TEXTS = ["boats, boats; and a harbour.", "a", "", "geese flew over the quiet harbour before the rain", "a"]
# Tokens that the bundle's queries are filled up to.
EXPANDED = 16


@pytest.fixture(scope="module")
def model() -> Iterator[MultiVectorEncoder]:
    with MultiVectorEncoder(BUNDLE, device="cpu") as opened:
        yield opened


def by_hand(query: NDArray[Any], document: NDArray[Any]) -> float:
    return float(sum(max(float(q @ d) for d in document) for q in query))


def test_a_text_has_a_vector_for_each_token(model: MultiVectorEncoder) -> None:
    documents = model.encode_document(TEXTS)
    assert all(matrix.dtype == np.float32 and matrix.shape[1] == model.dimension == 8 for matrix in documents)
    np.testing.assert_allclose([np.linalg.norm(row) for matrix in documents for row in matrix], 1, atol=1e-5)
    # Punctuation has no vector: "," and "." are tokens of the vocabulary, ";" is not.
    prompted = model.preprocess(["passage: " + TEXTS[0]], task="document")["input_ids"][0]
    skipped = model.manifest.tokenizer.skipped_ids
    assert 0 < np.isin(prompted, skipped).sum() == len(prompted) - len(documents[0])


def test_queries_are_filled_up_and_keep_their_punctuation(model: MultiVectorEncoder) -> None:
    assert [len(matrix) for matrix in model.encode_query(TEXTS)] == [EXPANDED] * len(TEXTS)
    inputs = model.preprocess(["a"], task="query")
    expansion = model.manifest.tokenizers["query"].expansion
    assert expansion is not None
    length = int(inputs["attention_mask"].sum())
    assert inputs["input_ids"][0, length:].tolist() == [expansion.id] * (EXPANDED - length)
    assert 0 < length < EXPANDED


def test_one_text_has_one_array_and_none_has_none(model: MultiVectorEncoder) -> None:
    one = model.encode_document("a")
    assert isinstance(one, np.ndarray)
    np.testing.assert_allclose(one, model.encode_document(["a"])[0], atol=1e-6)
    assert model.encode_query([]) == []
    assert model.similarity([], model.encode_document(TEXTS)).shape == (0, len(TEXTS))


def test_results_do_not_depend_on_the_batch_and_are_the_callers_own(model: MultiVectorEncoder) -> None:
    together = model.encode_document(TEXTS)
    for text, matrix in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(model.encode_document(text, batch_size=1), matrix, atol=1e-5)
    # Equal texts are computed once.
    together[1][:] = 0
    assert together[4].any()


def test_a_stream_gives_the_same_in_blocks(model: MultiVectorEncoder) -> None:
    name, task = model.prompt_and_task("document")
    count: list[int] = []
    blocks = list(model.encode_iter(iter(TEXTS), name, task=task, on_texts=count.append))
    streamed = [matrix for block in blocks for matrix in block]
    assert sum(count) == len(TEXTS)
    for actual, expected in zip(streamed, model.encode_document(TEXTS), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_a_text_needs_a_task_where_documents_are_cut_shorter_than_others(model: MultiVectorEncoder) -> None:
    with pytest.raises(InputError, match=r"no task was given, and this model has no default.*encode_query and enc"):
        model.encode("a text")


def test_padded_vectors_have_their_lengths(model: MultiVectorEncoder) -> None:
    documents = model.encode_document(TEXTS)
    padded, lengths = model.pad(documents)
    assert lengths.tolist() == [len(matrix) for matrix in documents]
    for row, matrix in zip(padded, documents, strict=True):
        assert np.array_equal(row[: len(matrix)], matrix)
        assert not row[len(matrix) :].any()
    queries = model.encode_query(TEXTS)
    np.testing.assert_allclose(model.similarity(queries, padded), model.similarity(queries, documents), atol=1e-5)
    with pytest.raises(InputError, match="embeddings must be token vectors of at least one text"):
        model.pad([])


def test_similarity_is_maxsim(model: MultiVectorEncoder) -> None:
    queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
    expected = np.array([[by_hand(query, document) for document in documents] for query in queries])
    np.testing.assert_allclose(model.similarity(queries, documents), expected, atol=1e-4)
    np.testing.assert_allclose(model.similarity_pairwise(queries, documents), np.diag(expected), atol=1e-4)
    np.testing.assert_allclose(model.similarity(queries[0], documents[0]), expected[:1, :1], atol=1e-4)
    with MultiVectorEncoder(BUNDLE, device="cpu", similarity_fn_name="meanmaxsim") as mean:
        np.testing.assert_allclose(mean.similarity(queries, documents), expected / EXPANDED, atol=1e-5)
        mean.similarity_fn_name = "maxsim"
        np.testing.assert_allclose(mean.similarity(queries, documents), expected, atol=1e-4)


def test_rank_sorts_documents(model: MultiVectorEncoder) -> None:
    scores = model.similarity([model.encode_query("a boat")], model.encode_document(TEXTS))[0]
    ranked = model.rank("a boat", TEXTS, return_documents=True)
    assert [match["score"] for match in ranked] == pytest.approx(sorted(scores.tolist(), reverse=True), abs=1e-5)
    assert all(match["text"] == TEXTS[match["corpus_id"]] for match in ranked)
    assert [match["corpus_id"] for match in model.rank("a boat", TEXTS, 2)] == [m["corpus_id"] for m in ranked[:2]]
    with pytest.raises(InputError, match="documents must be a list"):
        model.rank("a boat", "a text")


@pytest.mark.parametrize(
    ("precision", "dtype", "width", "error"),
    [("float16", "float16", 8, 0.02), ("int8", "int8", 8, 0.2), ("binary", "int8", 1, 9), ("ubinary", "uint8", 1, 9)],
)
def test_precisions(model: MultiVectorEncoder, precision: Any, dtype: str, width: int, error: float) -> None:
    documents = model.encode_document(TEXTS, precision=precision)
    assert {(matrix.dtype.name, matrix.shape[1]) for matrix in documents} == {(dtype, width)}
    queries = model.encode_query(TEXTS)
    exact, rounded = (model.similarity(queries, them) for them in (model.encode_document(TEXTS), documents))
    assert 0 < np.abs(exact - rounded).max() < error


def test_bits_are_signs(model: MultiVectorEncoder) -> None:
    [document] = model.encode_document(["a boat"])
    signs = np.where(document > 0, 1, -1).astype(np.float32) / np.sqrt(np.float32(8))
    queries = model.encode_query(TEXTS)
    for precision in ("binary", "ubinary"):
        bits = model.encode_document(["a boat"], precision=precision)
        np.testing.assert_allclose(model.similarity(queries, bits), model.similarity(queries, [signs]), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision 'int4' is not one of float32, float16, int8"),
        ({"normalize_embeddings": "yes"}, "normalize_embeddings"),
        ({"device": "cuda"}, "device 'cuda'"),
        ({"task": "other"}, "task 'other' is unknown"),
    ],
)
def test_options_that_are_refused(model: MultiVectorEncoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.encode(["a"], **options)


def test_int8_needs_vectors_of_unit_length(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    manifests.edit_manifest(copied, lambda value: value["multi_vector"].update(normalized=False))
    with MultiVectorEncoder(copied, device="cpu") as other:
        with pytest.raises(InputError, match="precision 'int8' is for vectors of unit length"):
            other.encode_document(["a"], precision="int8")
        assert other.encode_document(["a"], precision="int8", normalize_embeddings=True)[0].dtype == np.int8


def test_what_cannot_be_compared_is_refused(model: MultiVectorEncoder) -> None:
    documents = model.encode_document(TEXTS)
    with pytest.raises(InputError, match="vectors of 4 and 8 dimensions cannot be compared"):
        model.similarity([np.ones((2, 4), np.float32)], documents)
    with pytest.raises(InputError, match="embeddings1 must be token vectors"):
        model.similarity(np.ones(8, np.float32), documents)
    with pytest.raises(InputError, match=r"embeddings2\[0\] must be numbers \[tokens, d\].*give what encode_query or"):
        model.similarity(documents, ["a text"])
    active = SparseVector(np.arange(2, dtype=np.int32), np.ones(2, np.float32))
    for given in (active, [active]):
        with pytest.raises(
            InputError, match="as encode_query and encode_document return them, and these are SparseVec"
        ):
            model.similarity(documents, given)
    with pytest.raises(InputError, match="as many queries as documents, got 1, 5"):
        model.similarity_pairwise(documents[:1], documents)
    with pytest.raises(InputError, match="similarity_fn_name 'cosine' is not one of maxsim, meanmaxsim"):
        model.similarity_fn_name = "cosine"


def test_maxsim_of_many_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    lengths = [3, 0, 70, 1, 0, 12, 9]
    documents = [generator.standard_normal((length, 6)).astype(np.float32) for length in lengths]
    queries = [generator.standard_normal((length, 6)).astype(np.float32) for length in (4, 0, 33)]
    whole = maxsim("maxsim", queries, documents)
    assert (whole[:, [1, 4]] == EMPTY_DOCUMENT_SCORE).all()
    assert (whole[1, [0, 2, 3, 5, 6]] == 0).all()
    for values in (1, 50, 400):
        monkeypatch.setattr("monograph.maxsim._PRODUCT_VALUES", values)
        monkeypatch.setattr("monograph.maxsim._BLOCK_VALUES", values)
        np.testing.assert_allclose(maxsim("maxsim", queries, documents), whole, rtol=1e-5)


def test_maxsim_has_bounded_memory() -> None:
    generator = np.random.default_rng(0)
    documents = [generator.standard_normal((200, 32)).astype(np.float32) for _ in range(1000)]
    queries = documents[:100]
    # All products at once would be 16 GB.
    tracemalloc.start()
    scores = maxsim("maxsim", queries[:5], documents)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert scores.shape == (5, 1000)
    assert peak < 100e6


def test_expansion_fills_short_texts_at_their_end() -> None:
    tokens = TokenizedTexts(np.array([5, 6, 7, 8, 9, 10]), np.ones(6, np.int64), np.array([0, 2, 2, 6]))
    filled = expand(tokens, Expansion(3, 99, attended=False))
    assert filled.ids.tolist() == [5, 6, 99, 99, 99, 99, 7, 8, 9, 10]
    assert filled.starts.tolist() == [0, 3, 6, 10]
    assert filled.attention is not None
    assert filled.attention.tolist() == [1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert filled.type_ids.tolist() == [1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    attended = expand(tokens, Expansion(3, 99, attended=True)).attention
    assert attended is not None
    assert attended.all()


def test_load_and_pickle_know_the_class(model: MultiVectorEncoder) -> None:
    with load(BUNDLE, device="cpu") as opened:
        assert isinstance(opened, MultiVectorEncoder)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(copied.encode_query("a"), model.encode_query("a"), atol=1e-6)
    with pytest.raises(BundleError, match=r"its task is 'multi_vector'.*MultiVectorEncoder"):
        SparseEncoder(BUNDLE, device="cpu")


def test_both_roles_share_one_engine() -> None:
    with MultiVectorEncoder(BUNDLE, device="cpu") as opened:
        pipelines = opened._open.routes.pipelines
        assert set(pipelines) == {"query", "document"}
        assert len({id(pipeline.engine) for pipeline in pipelines.values()}) == 1


def test_probes_have_a_row_for_each_token() -> None:
    sets = read_probes(BUNDLE)
    assert [probes.route for probes in sets] == ["document", "query"]
    assert all(probes.per_token and probes.width == 8 for probes in sets)
    assert {len(matrix) for matrix in sets[1].vectors} == {EXPANDED}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["vectors"]["rows"].append(1), "rows do not add up"),
        (lambda value: value["vectors"].update(rows=[-1]), "rows do not add up"),
        (lambda value: value["vectors"].pop("rows"), "differ in number"),
        (lambda value: value["texts"].append("one more"), "differ in number"),
    ],
)
def test_damaged_probes_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    copied = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    value = json.loads((copied / "probes.json").read_bytes())
    change(value)
    (copied / "probes.json").write_text(json.dumps(value))
    with pytest.raises(BundleError, match=message):
        read_probes(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["multi_vector"].update(dimension=0), r"multi_vector\.dimension must be at least 1"),
        (lambda value: value["multi_vector"].update(similarity="dot"), "similarity 'dot' is not one of maxsim"),
        (lambda value: value["multi_vector"].update(dimension=9), "multi_vector.dimension is 9"),
        (lambda value: value["tokenizer"].update(skipped_ids=[10**6]), "tokenizer.skipped_ids must be at least 0"),
        (
            lambda value: value["routing"]["tokenizers"]["query"]["expansion"].update(id=10**6),
            "query.expansion.id must be at least 0 and below",
        ),
        (
            lambda value: value["routing"]["tokenizers"]["query"]["expansion"].update(length=10**9),
            "query.expansion.length must be 1 to 32,768",
        ),
        (
            lambda value: value["graphs"][0]["outputs"].update(
                token_embeddings={"dtype": "float32", "shape": ["batch", 8]}
            ),
            "multi_vector has one of 3 axes",
        ),
        (
            lambda value: value.update(tokenizer=value["routing"]["tokenizers"]["query"]),
            "tokenizer is not that of the route 'document'",
        ),
    ],
)
def test_damaged_manifests_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    copied = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    manifests.edit_manifest(copied, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(copied)
