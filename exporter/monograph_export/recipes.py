"""Recipes: what is known of a published model, one TOML file each in models/."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monograph.fields import Fields
from monograph.errors import ExportError

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


def _folder() -> Path:
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
