"""What callers of sentence-transformers expect of a model's tokenizer, of evaluators and of ``load``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import BundleError, CrossEncoder, Embedder, InputError, load

LONG = "The ferry leaves at noon, so bring the blue suitcase. " * 12
TEXTS = ["A boat.", LONG]


def test_the_tokenizer_speaks_as_that_of_transformers(embedder: Embedder) -> None:
    tokenizer = embedder.tokenizer
    ids = tokenizer.encode("A boat.")
    assert tokenizer("A boat.")["input_ids"] == ids
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids  # type: ignore[arg-type]
    unknown = tokenizer.get_vocab()["[UNK]"]
    assert tokenizer.unk_token_id == tokenizer.convert_tokens_to_ids("zzqqx") == unknown
    assert tokenizer.convert_tokens_to_ids(["zzqqx", "[CLS]"]) == [unknown, ids[0]]
    assert ids[1:-1] == tokenizer.encode("A boat.", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids[1:-1]) == tokenizer.tokenize("A boat.")
    assert tokenizer.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids[1:-1])
    assert len(tokenizer.get_vocab()) == len(tokenizer) >= tokenizer.vocab_size
    # Untruncated, as in transformers; the model itself still truncates.
    assert len(tokenizer.encode(LONG)) > 96
    assert tokenizer.model_max_length == 96
    batch = tokenizer(["A boat.", "A ship."])
    assert batch["input_ids"][0] == ids
    assert tokenizer([("a", "b")])["token_type_ids"][0][-1] == 1
    with pytest.raises(AttributeError):
        tokenizer.truncation_side = "left"  # type: ignore[attr-defined]
    assert tokenizer.batch_decode([ids, ids], skip_special_tokens=True) == [tokenizer.decode(ids[1:-1])] * 2


def test_the_tokenizer_pads_and_truncates_where_a_call_says_so(embedder: Embedder) -> None:
    tokenizer = embedder.tokenizer
    padded = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")
    expected = embedder.preprocess(TEXTS)
    for name in ("input_ids", "attention_mask"):
        assert padded[name].dtype == np.int64
        np.testing.assert_array_equal(padded[name], expected[name])
    assert tokenizer("A boat.", return_tensors="np")["input_ids"].shape == (1, len(tokenizer.encode("A boat.")))
    assert tokenizer([], padding=True, return_tensors="np")["input_ids"].shape == (0, 0)
    assert [len(row) for row in tokenizer(TEXTS, padding="max_length", truncation=True)["input_ids"]] == [96, 96]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_tensors": "np"}, "needs texts of one length: give padding=True"),
        ({"return_tensors": "tf"}, "return_tensors must be 'np', 'pt' or None"),
        ({"return_tensors": "pt"}, "pip install torch"),
        ({"padding": "left"}, "padding must be"),
        ({"truncation": "only_first"}, "truncation must be"),
        ({"truncation": True, "max_length": 1}, "leaves no room"),
        ({"max_length": 0}, "max_length must be a positive integer"),
        ({"text_pair": ["one"]}, "as many texts as text, 2, got 1"),
        ({"text_pair": "one"}, "must both be a str"),
        ({"stride": 3}, "the tokenizer of a bundle has no argument 'stride'"),
    ],
)
def test_what_the_tokenizer_does_not_do_is_refused(embedder: Embedder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder.tokenizer(TEXTS, **options)
    with pytest.raises(AttributeError, match="the tokenizer of a bundle has no 'pad'"):
        embedder.tokenizer.pad  # type: ignore[attr-defined]  # noqa: B018


def test_texts_are_tokenized_as_for_the_graph(embedder: Embedder, cross_encoder: CrossEncoder) -> None:
    features = embedder.tokenize(TEXTS)
    assert features["input_ids"].shape == features["attention_mask"].shape == (2, 96)
    assert features["attention_mask"].sum(axis=1).tolist() == [len(embedder.tokenizer.encode("A boat.")), 96]
    longer = embedder.preprocess(["A boat."], prompt="search: ")["input_ids"]
    assert longer.shape[1] > len(embedder.tokenizer.encode("A boat."))
    assert cross_encoder.preprocess([("a query", "a document")])["token_type_ids"].max() == 1


def test_it_is_a_model_of_text(embedder: Embedder) -> None:
    assert embedder.modalities == ["text"]
    assert embedder.supports("text")
    assert not embedder.supports("image")


def test_an_evaluator_is_called_with_the_model(embedder: Embedder, tmp_path: Path) -> None:
    assert embedder.evaluate(lambda model, path: (model is embedder, path), str(tmp_path / "results")) == (
        True,
        str(tmp_path / "results"),
    )
    assert (tmp_path / "results").is_dir()


def test_a_checkpoint_is_an_error_that_prints_the_command(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match=f"monograph export {tmp_path} OUTPUT"):
        Embedder(tmp_path)
    with pytest.raises(BundleError, match="monograph export all-MiniLM-L6-v2 OUTPUT"):
        Embedder("all-MiniLM-L6-v2")


def test_load_takes_no_device_as_any(tiny_bundle: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with load(copied, device=None) as model:
        assert model.encode("x").shape == (24,)
