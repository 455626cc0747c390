"""CrossEncoder: which pairs are accepted, the shapes of the results, and the errors for all else."""

from __future__ import annotations

import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import BundleError, CrossEncoder, Embedder, InputError, MonographError
from monograph.batching import split_into_windows

PAIRS = [("a boat", "the harbour"), ("", "a radio"), ("a boat", "a boat"), ("nineteen eggs", "")]


def test_one_pair_is_a_scalar_and_many_are_a_row(tiny_cross_encoder: CrossEncoder) -> None:
    scores = tiny_cross_encoder.predict(PAIRS)
    assert scores.shape == (4,)
    one = tiny_cross_encoder.predict(PAIRS[0])
    assert one.shape == ()
    assert abs(float(one) - scores[0]) < 1e-6
    none = tiny_cross_encoder.predict([])
    assert none.shape == (0,)
    assert {scores.dtype, one.dtype, none.dtype} == {np.dtype(np.float32)}
    assert tiny_cross_encoder.rank("a boat", []) == []


@pytest.mark.parametrize(
    "pairs",
    [
        [list(pair) for pair in PAIRS],
        tuple(PAIRS),
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        (pair for pair in PAIRS),
        zip(*zip(*PAIRS, strict=True), strict=True),
        [[np.str_(text) for text in pair] for pair in PAIRS],
    ],
    ids=["lists", "tuple", "U array", "object array", "generator", "zip", "numpy.str_"],
)
def test_pairs_come_in_many_containers(pairs: Any, tiny_cross_encoder: CrossEncoder) -> None:
    np.testing.assert_array_equal(tiny_cross_encoder.predict(pairs), tiny_cross_encoder.predict(PAIRS))


@pytest.mark.parametrize(
    "pair", [["a boat", "the harbour"], np.array(["a boat", "the harbour"])], ids=["list", "array"]
)
def test_a_single_pair_may_be_a_list_or_an_array(pair: Any, tiny_cross_encoder: CrossEncoder) -> None:
    assert tiny_cross_encoder.predict(pair).shape == ()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("a boat", "inputs must be a pair of str, or a list of pairs, got str"),
        (None, "inputs must be a pair of str, or a list of pairs, got None"),
        ({"a": "b"}, "inputs must be a pair of str, or a list of pairs, got dict"),
        ({("a", "b")}, "got set"),
        (["a boat"], "got 1 of str: put each query with its document"),
        (["a", "b", "c"], "got 3 of str: put each query with its document"),
        ([("a", "b"), "ab"], "pair 1 must be two texts, got str"),
        ([("a", "b"), None], "pair 1 must be two texts, got None"),
        ([("a", "b"), ("a", "b", "c")], "pair 1 must be two texts, got 3"),
        ([("a", "b"), ()], "pair 1 must be two texts, got 0"),
        ([("a", "b"), ("a", None)], "the second text of pair 1 must be a str, got None"),
        ([("a", "b"), (2.5, "b")], "the first text of pair 1 must be a str, got float (2.5)"),
        (("a", None), "the second text of pair 0 must be a str, got None"),
        ([("a", "b"), ("x\ud800", "b")], "the first text of pair 1 holds a lone surrogate (U+D800 at character 1)"),
    ],
)
def test_what_is_no_pair_is_named(inputs: Any, words: str, tiny_cross_encoder: CrossEncoder) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        tiny_cross_encoder.predict(inputs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation_fn": "Tanh"}, "activation_fn 'Tanh' is not known: give 'Identity' or 'Sigmoid'"),
        ({"activation_fn": np.tanh}, "is not known"),
        ({"prompt_name": "absent"}, "prompt_name 'absent' is not a prompt of this model; it has: "),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"top_k": 0}, "top_k must be a positive integer"),
        ({"query": None}, "query must be a str, got None"),
        ({"query": "\udc00"}, "query holds a lone surrogate"),
        ({"documents": "a text"}, "documents must be a list of str, got one str"),
        ({"documents": ["a", None]}, "document 1 must be a str, got None"),
    ],
    ids=str,
)
def test_what_rank_cannot_use_is_named(options: dict[str, Any], words: str, tiny_cross_encoder: CrossEncoder) -> None:
    arguments: dict[str, Any] = {"query": "a boat", "documents": ["a", "b"]}
    with pytest.raises(InputError, match=re.escape(words)):
        tiny_cross_encoder.rank(**arguments | options)


def test_prompts_go_before_the_first_text_alone(tiny_cross_encoder: CrossEncoder) -> None:
    written = [(f"search: {first}", second) for first, second in PAIRS]
    expected = tiny_cross_encoder.predict(written, prompt="")
    for scores in (tiny_cross_encoder.predict(PAIRS), tiny_cross_encoder.predict(PAIRS, prompt_name="query")):
        np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.abs(tiny_cross_encoder.predict(PAIRS, prompt="") - expected).max() > 1e-4


def test_equal_documents_keep_their_order(tiny_cross_encoder: CrossEncoder) -> None:
    documents = ["the harbour", "a boat", "the harbour", "a boat", "the harbour"]
    ranking = tiny_cross_encoder.rank("a boat", documents)
    places = [match["corpus_id"] for match in ranking]
    assert places in ([0, 2, 4, 1, 3], [1, 3, 0, 2, 4])
    assert len({match["score"] for match in ranking}) == 2


def test_it_says_what_it_runs_on(tiny_cross_encoder: CrossEncoder, tiny_cross_bundle: Path) -> None:
    assert tiny_cross_encoder.num_labels == 1
    assert tiny_cross_encoder.max_length == 64
    assert re.fullmatch("[0-9a-f]{16}", tiny_cross_encoder.fingerprint)
    assert repr(tiny_cross_encoder).startswith(f"CrossEncoder('{tiny_cross_bundle}', device='cpu'")


def test_a_bundle_of_another_task_is_refused(tiny_bundle: Path, tiny_cross_bundle: Path) -> None:
    with pytest.raises(BundleError, match="its task is 'rerank', and this class runs 'embedding'"):
        Embedder(tiny_cross_bundle)
    with pytest.raises(BundleError, match="its task is 'embedding', and this class runs 'rerank'"):
        CrossEncoder(tiny_bundle)


def test_it_pickles_and_closes(tiny_cross_bundle: Path) -> None:
    with CrossEncoder(tiny_cross_bundle, device="cpu") as model:
        expected = model.predict(PAIRS)
        again = pickle.loads(pickle.dumps(model))
        assert "not opened yet" in repr(again)
        np.testing.assert_allclose(again.predict(PAIRS), expected, atol=1e-6)
        again.close()
    with pytest.raises(MonographError, match="closed"):
        model.predict(PAIRS)


def test_a_progress_bar_counts_pairs(tiny_cross_encoder: CrossEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_cross_encoder.predict([*PAIRS, *PAIRS], show_progress_bar=True)
    assert "8/8" in capsys.readouterr().err
    tiny_cross_encoder.predict(PAIRS[0], show_progress_bar=True)
    assert "1/1" in capsys.readouterr().err
    tiny_cross_encoder.predict(PAIRS, show_progress_bar=False)
    assert capsys.readouterr() == ("", "")


def test_scores_of_many_windows_are_those_of_one(
    tiny_cross_encoder: CrossEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tiny_cross_encoder.predict(PAIRS)
    monkeypatch.setattr(
        "monograph.inference.pipeline.split_into_windows", partial(split_into_windows, max_texts=2, max_characters=12)
    )
    np.testing.assert_allclose(tiny_cross_encoder.predict(PAIRS), expected, atol=1e-6)
