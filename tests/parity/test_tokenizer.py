"""``model.tokenizer`` called with the arguments of transformers gives what its tokenizers give."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from monograph import Embedder

WORDS = ["the", "ferry", "leaves", "at", "noon", "so", "bring", "the", "blue", "suitcase"]
Both = tuple[Any, Any]


@pytest.fixture(scope="module")
def both(tiny_bundle: Path) -> Both:
    """The tokenizer of a bundle, and its file opened by transformers."""
    with Embedder(tiny_bundle, device="cpu") as model:
        ours = model.tokenizer
        file = str(tiny_bundle / "tokenizer.json")
        theirs = PreTrainedTokenizerFast(tokenizer_file=file, pad_token="[PAD]", model_max_length=model.max_seq_length)
        theirs.backend_tokenizer.no_truncation()
        return ours, theirs


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
def test_padding_and_truncation_are_those_of_transformers(both: Both) -> None:
    """Of texts and pairs, shorter and longer than the limit, equal lengths and odd ones included."""
    ours, theirs = both
    choice = random.Random(1)  # noqa: S311  # for texts
    for _ in range(400):
        count = choice.randrange(1, 5)
        firsts, seconds = ([" ".join(choice.choices(WORDS, k=choice.randrange(14))) for _ in range(count)]
                           for _ in range(2))  # fmt: skip
        options: dict[str, Any] = {
            "text_pair": choice.choice([None, seconds]),
            "padding": choice.choice([False, True, "longest", "max_length"]),
            "truncation": choice.choice([None, False, True, "longest_first"]),
            "add_special_tokens": choice.random() < 0.7,
        }
        if choice.random() < 0.8:
            options["max_length"] = choice.randrange(3, 25)
        expected, actual = theirs(firsts, **options), ours(firsts, **options)
        for name in ("input_ids", "attention_mask"):
            assert actual[name] == expected[name], options


@pytest.mark.parametrize("return_tensors", ["np", "pt"])
def test_tensors_are_those_of_transformers(return_tensors: str, both: Both) -> None:
    ours, theirs = both
    texts = ["the ferry", "the ferry leaves at noon"]
    options: dict[str, Any] = {"padding": True, "truncation": True, "return_tensors": return_tensors}
    expected, actual = theirs(texts, **options), ours(texts, **options)
    for name in ("input_ids", "attention_mask"):
        assert type(actual[name]) is type(expected[name])
        assert actual[name].dtype == expected[name].dtype in (np.int64, torch.int64)
        np.testing.assert_array_equal(np.asarray(actual[name]), np.asarray(expected[name]))
