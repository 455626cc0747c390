"""What a bundle's manifest says of the checkpoint folder it was made of, and of the recipe that is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard
from yaml import YAMLError

from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import Embedding, Source, TokenizerSpec
from monograph.errors import ExportError
from monograph_export.recipes import Recipe

# What the libraries load; a folder may hold optimiser states and other exports beside it.
_WEIGHT_PATTERNS = ("model*.safetensors", "pytorch_model*.bin")


def source_of(folder: Path) -> Source:
    """Describe a checkpoint folder: its name, the licence of its model card, the hashes of its weights."""
    folder = folder.resolve()
    weights = sorted(path for pattern in _WEIGHT_PATTERNS for path in folder.rglob(pattern) if path.is_file())
    name, revision = _name_and_revision(folder)
    return Source(
        name=name,
        revision=revision,
        license=_license(folder / "README.md"),
        sha256={path.relative_to(folder).as_posix(): sha256_of(path) for path in weights},
    )


def check_shape(recipe: Recipe, embedding: Embedding, tokenizer: TokenizerSpec) -> None:
    """Compare a checkpoint with the recipe it is said to be of.

    Raises:
        ExportError: naming every difference.

    """
    pairs = {
        "task": ("embedding", recipe.task),
        "dimensions": (embedding.dimension, recipe.dimension),
        "normalized": (embedding.normalized, recipe.normalized),
        "similarity": (embedding.similarity, recipe.similarity),
        "max_length": (tokenizer.max_length, recipe.max_length),
    }
    differing = [f"{name} {found} instead of {stated}" for name, (found, stated) in pairs.items() if found != stated]
    if differing:
        raise ExportError(f"the checkpoint is not of recipe {recipe.name}: {', '.join(differing)}")


def with_recipe(recipe: Recipe, source: Source, embedding: Embedding) -> tuple[Source, Embedding]:
    """Return both with what the recipe knows and the checkpoint does not say.

    The recipe's revision is not taken: of which revision a folder is, nobody here has seen.
    """
    return (
        replace(
            source,
            name=recipe.repository or recipe.name,
            license=source.license or recipe.license,
        ),
        replace(embedding, matryoshka_dimensions=recipe.matryoshka_dimensions),
    )


def _name_and_revision(folder: Path) -> tuple[str, str | None]:
    """Return what the folder's path tells: a hub's cache keeps models--ORG--NAME/snapshots/REVISION."""
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return folder.parents[1].name.removeprefix("models--").replace("--", "/"), folder.name
    return folder.name, None


def _license(card: Path) -> str | None:
    if not card.exists():
        return None
    try:
        stated = ModelCard.load(card).data.license
    except (ValueError, YAMLError):
        # A card whose YAML head is malformed: the checkpoint is as good without it.
        return None
    return str(stated) if stated else None
