"""Two exports of models at full size, in every precision, have the same bytes on one thread and on several.

Weights are random but for MiniLM's: this is about bytes. It takes an hour and a half on two cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from monograph_export.recipes import read_recipe
from support.checkpoints import from_recipe
from support.cross_encoders import save_cross_encoder
from support.same_bytes import ANY, assert_same_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * 3600)]
PRECISIONS = ["fp32", "fp16", "int8", "int8-weights"]
# ms-marco-MiniLM-L6-v2's. At this width the range of tiny models would amplify rounding beyond any tolerance.
CROSS_ENCODER: dict[str, Any] = {
    "num_hidden_layers": 6,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "initializer_range": 0.05,
}


def recipe_checkpoint(name: str, vocabulary: str | None, data: Path, folder: Path) -> Path:
    return from_recipe(read_recipe(name), folder, None if vocabulary is None else data / vocabulary / "vocab.txt")


MODELS: dict[str, Callable[[Path, Path], Path]] = {
    "LaBSE": partial(recipe_checkpoint, "LaBSE", "labse-scale-vocab"),
    "DistilUSE": partial(recipe_checkpoint, "distiluse-base-multilingual-cased", "mbert-vocab"),
    "multilingual-MiniLM": partial(recipe_checkpoint, "paraphrase-multilingual-MiniLM-L12-v2", None),
    "ms-marco-MiniLM": lambda _, folder: save_cross_encoder("BERT", folder, **CROSS_ENCODER),
}


def options_of(model: str) -> dict[str, Any]:
    # Random weights do not keep to the limits that trained ones do.
    limits = {"min_rank_correlation": -1, "max_score_move": 100} if model == "ms-marco-MiniLM" else ANY
    return {"precision": PRECISIONS, **limits}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_of_full_size_has_the_same_bytes(model: str, data: Path, tmp_path: Path) -> None:
    checkpoint = MODELS[model](data, tmp_path / "model")
    assert_same_bytes([(checkpoint, options_of(model))], tmp_path)


def test_minilm_has_the_same_bytes_on_one_core(minilm: Path, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    cases: list[tuple[Path, dict[str, Any]]] = [(minilm, {"precision": PRECISIONS}), (minilm, {"precision": "int8"})]
    assert_same_bytes(cases, tmp_path, partial(os.sched_setaffinity, 0, {core}))
