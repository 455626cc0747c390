"""Recipes are complete, and name what the systems are."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from monograph import ExportError
from monograph_export.recipes import read_recipe, recipe_names

DENSE_SYSTEMS = {
    "LaBSE": (768, "cls", True),
    "LaBSE-kbd-v0.2": (768, "cls", True),
    "all-MiniLM-L6-v2": (384, "mean", True),
    "bert-mean-128": (128, "mean", False),
    "distiluse-base-multilingual-cased": (512, "mean", False),
    "paraphrase-multilingual-MiniLM-L12-v2": (384, "mean", False),
}


def test_every_dense_system_has_a_recipe() -> None:
    assert set(recipe_names()) == set(DENSE_SYSTEMS)


@pytest.mark.parametrize("name", DENSE_SYSTEMS)
def test_recipe_says_what_the_model_is(name: str) -> None:
    recipe = read_recipe(name)
    assert (recipe.dimension, recipe.architecture["pooling"], recipe.normalized) == DENSE_SYSTEMS[name]
    config = dict(recipe.architecture["config"])
    known = AutoConfig.for_model(config.pop("model_type"))
    assert set(config) <= set(known.to_dict()) | set(known.attribute_map), "a setting transformers does not know"


def test_labse_is_labse() -> None:
    config = read_recipe("LaBSE").architecture["config"]
    assert (config["vocab_size"], config["num_hidden_layers"], config["hidden_size"]) == (501_153, 12, 768)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ExportError, match="bert-mean-128"):
        read_recipe("LaBSE-2")
