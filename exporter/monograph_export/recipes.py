"""Recipes: what is known of a published model, one TOML file each in models/."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monograph.bundle.manifest import Source, TokenizerSpec
from monograph.errors import ExportError
from monograph.fields import Fields
from monograph.tasks.embedding import EmbeddingSection

# In a wheel the recipes lie inside this package, in a checkout beside the source roots.
_INSTALLED = Path(__file__).parent / "models"
_CHECKOUT = Path(__file__).parents[2] / "models"


@dataclass(frozen=True)
class Recipe:
    """A published model: where it is, what its vectors are, how it is built.

    ``tolerance`` is the max abs difference allowed at float32 for vectors of values up to 1; ``architecture`` says
    how to build a checkpoint of the same shape with random weights.
    """

    name: str
    task: str
    repository: str | None
    revision: str | None
    license: str | None
    dimension: int
    normalized: bool
    similarity: str
    matryoshka_dimensions: tuple[int, ...]
    max_length: int
    tolerance: float
    prompts: dict[str, str]
    architecture: dict[str, Any]
    notes: str


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def read_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ExportError: there is none of that name, or its file is malformed.

    """
    if name not in recipe_names():
        raise ExportError(f"there is no recipe {name!r}; there are {', '.join(recipe_names())}")
    problems: list[str] = []
    try:
        content = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"recipe {name} is not TOML: {error}") from error
    top = Fields(content, "", problems)
    source, embedding = top.child("source"), top.child("embedding")
    recipe = Recipe(
        name=name,
        task=top.need("task", str),
        repository=source.maybe("repository", str),
        revision=source.maybe("revision", str),
        license=source.maybe("license", str),
        dimension=embedding.need("dimension", int),
        normalized=embedding.need("normalized", bool),
        similarity=embedding.need("similarity", str),
        matryoshka_dimensions=embedding.integers("matryoshka_dimensions"),
        max_length=top.child("tokenizer").need("max_length", int),
        tolerance=top.child("tolerance").need("float32", float),
        prompts=top.string_map("prompts"),
        architecture=top.need("architecture", dict),
        notes=top.need("notes", str),
    )
    if problems:
        raise ExportError(f"recipe {name}: {'; '.join(problems)}")
    return recipe


def apply_recipe(
    recipe: Recipe, source: Source, section: EmbeddingSection, tokenizer: TokenizerSpec, prompts: dict[str, str]
) -> tuple[Source, EmbeddingSection, dict[str, str]]:
    """Return source, section and prompts with what the recipe knows and the checkpoint does not state.

    The recipe's revision is not taken: nothing shows which revision a folder is.

    Raises:
        ExportError: the checkpoint is of another shape; every difference is named.

    """
    pairs = {
        "task": ("embedding", recipe.task),
        "dimensions": (section.dimension, recipe.dimension),
        "normalized": (section.normalized, recipe.normalized),
        "similarity": (section.similarity, recipe.similarity),
        "max_length": (tokenizer.max_length, recipe.max_length),
    }
    differing = [f"{name} {actual} instead of {stated}" for name, (actual, stated) in pairs.items() if actual != stated]
    if differing:
        raise ExportError(f"the checkpoint is not of recipe {recipe.name}: {', '.join(differing)}")
    return (
        replace(source, name=recipe.repository or recipe.name, license=source.license or recipe.license),
        replace(section, matryoshka_dimensions=recipe.matryoshka_dimensions),
        prompts | {name: text for name, text in recipe.prompts.items() if not prompts.get(name)},
    )


def _folder() -> Path:
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
