"""What a bundle's manifest says of the checkpoint it was made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Dropout
from torch import nn
from yaml import YAMLError

from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import Embedding, Source, TokenizerSpec
from monograph.errors import ExportError
from monograph_export.checkpoint.routes import RoutedModel
from monograph_export.checkpoint.token_table import token_table
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
        licence=_licence(folder / "README.md"),
        sha256={path.relative_to(folder).as_posix(): sha256_of(path) for path in weights},
    )


def source_of_loaded(model: SentenceTransformer) -> Source:
    """Describe a model that was handed over in memory, of which there is no file to hash."""
    config = getattr(model.transformers_model, "config", None)
    name = getattr(config, "_name_or_path", "") or type(model).__name__
    return Source(name=Path(name).name, revision=None, licence=None, sha256={})


def embedding_of(routed: RoutedModel) -> Embedding:
    """Describe the vectors of a model, before its own truncation of dimensions.

    Raises:
        ExportError: its routes give vectors of different dimensions.

    """
    dimensions = {route: _dimension(model) for route, model in routed.routes.items()}
    if len(set(dimensions.values())) != 1:
        raise ExportError(f"the routes give vectors of different dimensions: {dimensions}")
    model = routed.main
    return Embedding(
        dimension=_dimension(model),
        normalized=all(map(_normalizes, routed.routes.values())),
        similarity=str(model.similarity_fn_name),
        matryoshka_dimensions=(),
        truncate_dim=model.truncate_dim,
    )


def _dimension(model: SentenceTransformer) -> int:
    with model.truncate_embeddings(None):
        return int(model.get_embedding_dimension())


def _normalizes(model: SentenceTransformer) -> bool:
    return isinstance([module for module in model if not isinstance(module, Dropout)][-1], Normalize)


def sizes_by_part(model: SentenceTransformer) -> dict[str, int]:
    """Return the bytes of a model's table of token embeddings, of its other layers, and of the modules after them.

    The graph may leave out what no vector depends on, so the sum is only about that of its weights.
    """
    first, *others = model
    table = _size(token_table(model))
    return {"table": table, "layers": _size(first) - table, "head": sum(map(_size, others))}


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


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
            licence=source.licence or recipe.licence,
        ),
        replace(embedding, matryoshka_dimensions=recipe.matryoshka_dimensions),
    )


def _name_and_revision(folder: Path) -> tuple[str, str | None]:
    """Return what the folder's path tells: a hub's cache keeps models--ORG--NAME/snapshots/REVISION."""
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return folder.parents[1].name.removeprefix("models--").replace("--", "/"), folder.name
    return folder.name, None


def _licence(card: Path) -> str | None:
    if not card.exists():
        return None
    try:
        licence = ModelCard.load(card).data.license
    except (ValueError, YAMLError):
        # A card whose YAML head is malformed: the checkpoint is as good without it.
        return None
    return str(licence) if licence else None
