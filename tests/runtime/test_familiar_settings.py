"""What callers of sentence-transformers set on a model: it works, or is an error that says what to do."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import CrossEncoder, Embedder, InputError, SparseEncoder
from monograph.defaults import CallDefaults
from monograph.util import SimilarityFunction

LONG = "The ferry leaves at noon, so bring the blue suitcase. " * 12
TEXTS = ["A boat.", LONG]


class Subclass(Embedder):
    def __init__(self, path: Path) -> None:
        super().__init__(path, device="cpu")
        self.label = "mine"


def test_a_lower_maximum_length_cuts_texts_there(embedder: Embedder) -> None:
    whole = embedder.encode(TEXTS)
    assert embedder.max_seq_length == embedder.max_length == embedder.get_max_seq_length() == 96
    embedder.max_seq_length = 8
    assert embedder.max_seq_length == embedder.max_length == 8
    cut = embedder.encode(TEXTS)
    np.testing.assert_allclose(cut[0], whole[0], atol=1e-6)
    assert np.abs(cut[1] - whole[1]).max() > 1e-3
    assert embedder.preprocess(TEXTS)["input_ids"].shape == (2, 8)
    embedder.max_seq_length = 96
    np.testing.assert_allclose(embedder.encode(TEXTS), whole, atol=1e-6)


def test_a_pair_is_cut_as_well(cross_encoder: CrossEncoder) -> None:
    whole = cross_encoder.predict(("a query", LONG))
    cross_encoder.max_seq_length = 12
    assert cross_encoder.predict(("a query", LONG)) != whole


@pytest.mark.parametrize("value", [97, 0, -1, 2, 1.5, "8", None, True])
def test_a_maximum_length_that_cannot_be_is_refused(embedder: Embedder, value: Any) -> None:
    """More than the bundle was exported for, no room beside [CLS] and [SEP], or no count."""
    with pytest.raises(InputError, match=r"max_seq_length|leaves no room"):
        embedder.max_seq_length = value
    assert embedder.max_seq_length == 96


def test_the_length_can_be_set_while_other_threads_embed(embedder: Embedder) -> None:
    """Each text is cut at one of the lengths that were set, and none at another."""
    texts = [f"{LONG} {number}" for number in range(16)]
    expected = {}
    for length in (8, 90):
        embedder.max_seq_length = length
        expected[length] = embedder.encode(texts)
    assert np.abs(expected[8] - expected[90]).max(axis=1).min() > 1e-3
    results: list[NDArray[Any]] = []

    def embed() -> None:
        results.extend(embedder.encode(texts) for _ in range(10))

    threads = [threading.Thread(target=embed) for _ in range(3)]
    for thread in threads:
        thread.start()
    changes = 0
    while any(thread.is_alive() for thread in threads):
        embedder.max_seq_length = (8, 90)[changes % 2]
        changes += 1
    assert (len(results), changes > 3) == (30, True)
    for vectors in results:
        differences = [np.abs(vectors - known).max(axis=1) for known in expected.values()]
        assert np.minimum(*differences).max() < 1e-4


@pytest.mark.parametrize("name", ["max_seq_len", "device", "dimension", "manifest", "encode", "_private", "tokenizer"])
def test_assigning_anything_else_is_an_error_that_names_it(embedder: Embedder, name: str) -> None:
    with pytest.raises(InputError, match=f"{name!r} of Embedder cannot be set.*max_seq_length") as caught:
        setattr(embedder, name, 4)
    # Python's own error for it, too.
    assert isinstance(caught.value, AttributeError)


def test_a_subclass_may_have_attributes_of_its_own(tiny_bundle: Path) -> None:
    class Counting(Embedder):
        def __init__(self, path: Path) -> None:
            super().__init__(path, device="cpu")
            self.calls = 0

    with Counting(tiny_bundle) as model:
        model.calls += 1
        assert model.calls == 1
        for copied in (copy.copy(model), copy.deepcopy(model)):
            assert copied.calls == 1
            np.testing.assert_array_equal(copied.encode("x"), model.encode("x"))
            copied.close()
        assert not model.closed
    with Subclass(tiny_bundle) as picklable, pickle.loads(pickle.dumps(picklable)) as loaded:
        assert (type(loaded), loaded.label) == (Subclass, "mine")


def test_a_missing_method_says_what_to_do_and_is_not_there(embedder: Embedder) -> None:
    assert not hasattr(embedder, "half")
    advice_by_name = {
        "half": 'compute_dtype="float16"',
        "fit": "export it again",
        "save": "monograph pack",
        "save_pretrained": "monograph publish BUNDLE --checkpoint SOURCE --to",
        "push_to_hub": "monograph publish BUNDLE --checkpoint SOURCE --to",
    }
    for name, advice in advice_by_name.items():
        with pytest.raises(AttributeError, match=advice):
            getattr(embedder, name)
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = embedder.anything  # type: ignore[attr-defined]


def test_prompts_can_be_changed(embedder: Embedder) -> None:
    assert embedder.prompts == {"query": "search: ", "document": "", "passage": "text: "}
    by_hand = embedder.encode("A boat.", prompt="find: ")
    embedder.prompts["query"] = "find: "
    np.testing.assert_array_equal(embedder.encode_query("A boat."), by_hand)
    embedder.prompts = {"other": "find: "}
    np.testing.assert_array_equal(embedder.encode("A boat.", prompt_name="other"), by_hand)
    embedder.default_prompt_name = "other"
    np.testing.assert_array_equal(embedder.encode("A boat."), by_hand)
    with pytest.raises(InputError, match="default_prompt_name 'other' is not among the prompts"):
        embedder.prompts = {"query": "x"}
    with pytest.raises(InputError, match="'nothing' is not among"):
        embedder.default_prompt_name = "nothing"
    assert embedder.manifest.prompts["query"] == "search: "


def test_documents_have_the_prompt_of_documents(tiny_bundle: Path, tiny_sparse_bundle: Path) -> None:
    """Which is empty in the bundles of these tests, so that vectors without one would be equal."""
    prompts = {"document": "store: ", "query": "search: "}
    with Embedder(tiny_bundle, device="cpu", prompts=prompts) as model:
        assert np.abs(model.encode_document(TEXTS) - model.encode(TEXTS)).max() > 1e-3
        np.testing.assert_array_equal(model.encode_document(TEXTS), model.encode(TEXTS, prompt="store: "))
        np.testing.assert_array_equal(model.encode_document(TEXTS, prompt=""), model.encode(TEXTS))
        assert model.prompt_and_task("document") == ("document", None)
        assert model.prompt_and_task("query", prompt="") == (None, None)
    with SparseEncoder(tiny_sparse_bundle, device="cpu", prompts=prompts) as sparse:
        assert (sparse.encode_document(TEXTS) != sparse.encode(TEXTS)).nnz > 0
        assert (sparse.encode_document(TEXTS) != sparse.encode(TEXTS, prompt="store: ")).nnz == 0


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("x", "prompts must be a dict of prompts by name, got str"),
        ([("a", "b")], "prompts must be a dict of prompts by name, got list"),
        ({"query": 1}, "the prompt 'query' must be a str, got int"),
        ({1: "query"}, "the name of a prompt must be a str, got int"),
    ],
)
def test_what_are_no_prompts_is_refused(embedder: Embedder, prompts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder.prompts = prompts
    embedder.prompts["query"] = 5  # type: ignore[assignment]
    with pytest.raises(InputError, match="prompt must be a str"):
        embedder.encode_query("A boat.")


def test_dimensions_can_be_cut_by_default(embedder: Embedder) -> None:
    whole = embedder.encode("A boat.")
    with embedder.truncate_embeddings(8):
        assert embedder.dimension == embedder.get_embedding_dimension() == embedder.truncate_dim == 8
        np.testing.assert_array_equal(embedder.encode("A boat."), whole[:8])
    with embedder.truncate_sentence_embeddings(truncate_dim=4):
        assert embedder.get_sentence_embedding_dimension() == 4
    assert embedder.truncate_dim is None
    embedder.truncate_dim = 6
    assert embedder.encode(TEXTS).shape == (2, 6)
    with pytest.raises(InputError, match="truncate_dim"):
        embedder.truncate_dim = 0


def test_the_similarity_function_can_be_changed(embedder: Embedder) -> None:
    assert embedder.similarity_fn_name == "cosine"
    vectors = embedder.encode(TEXTS) * 2
    embedder.similarity_fn_name = SimilarityFunction.DOT_PRODUCT  # type: ignore[assignment]
    assert embedder.similarity_fn_name == "dot"
    np.testing.assert_allclose(embedder.similarity(vectors, vectors), vectors @ vectors.T, atol=1e-5)
    with pytest.raises(InputError, match="'maxsim' is not one of cosine"):
        embedder.similarity_fn_name = "maxsim"
    embedder.similarity_fn_name = None
    assert embedder.similarity_fn_name == "cosine"


def test_arguments_have_the_names_of_sentence_transformers(
    tiny_bundle: Path, tiny_cross_bundle: Path, tiny_sparse_bundle: Path
) -> None:
    with (
        Embedder(model_name_or_path=tiny_bundle, device="cpu") as embedder,
        CrossEncoder(model_name_or_path=tiny_cross_bundle, device="cpu") as cross_encoder,
        SparseEncoder(model_name_or_path=tiny_sparse_bundle, device="cpu") as sparse_encoder,
    ):
        cross_encoder.max_length = 16
        assert cross_encoder.max_seq_length == cross_encoder.max_length == 16
        models: tuple[Any, ...] = (embedder, sparse_encoder)
        for model in models:
            vectors = model.encode(TEXTS)
            assert model.similarity(embeddings1=vectors, embeddings2=vectors).shape == (2, 2)
            assert model.similarity_pairwise(embeddings1=vectors, embeddings2=vectors).shape == (2,)
            assert model.similarity_pairwise(vectors[0], vectors[1]).shape == ()
        shared = sparse_encoder.intersection(embeddings_1=vectors[0], embeddings_2=vectors)
        assert shared.shape == vectors.shape
        for kind in (Embedder, CrossEncoder, SparseEncoder):
            kind.stop_multi_process_pool(embedder.start_multi_process_pool())


def test_what_was_set_outlives_pickling(embedder: Embedder) -> None:
    embedder.max_seq_length, embedder.truncate_dim, embedder.prompts = 8, 4, {"query": "find: "}
    expected = embedder.encode_query(TEXTS)
    with pickle.loads(pickle.dumps(embedder)) as copied:
        np.testing.assert_array_equal(copied.encode_query(TEXTS), expected)
        assert (copied.max_seq_length, copied.prompts) == (8, {"query": "find: "})
        assert copied.model_card_data.metrics == {}


def test_settings_of_several_threads_are_all_made(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is made of what another thread changes meanwhile."""
    started = threading.Event()
    with_options = CallDefaults.with_options

    def slowly(defaults: CallDefaults[Any], **options: Any) -> CallDefaults[Any]:
        if "truncate_dim" in options:
            started.set()
            time.sleep(0.2)
        return with_options(defaults, **options)

    monkeypatch.setattr(CallDefaults, "with_options", slowly)
    thread = threading.Thread(target=setattr, args=(embedder, "truncate_dim", 8))
    thread.start()
    assert started.wait(10)
    embedder.similarity_fn_name, embedder.max_seq_length = "dot", 12
    embedder.prompts, embedder.default_prompt_name = {"query": "find: "}, "query"
    thread.join()
    assert (embedder.truncate_dim, embedder.similarity_fn_name, embedder.max_seq_length) == (8, "dot", 12)
    assert (embedder.prompts, embedder.default_prompt_name) == ({"query": "find: "}, "query")
