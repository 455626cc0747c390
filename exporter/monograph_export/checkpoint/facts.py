"""What a bundle's manifest says of the loaded model it was made of."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Dropout
from torch import nn

from monograph.bundle.manifest import Embedding, Source


def source_of_loaded(model: SentenceTransformer) -> Source:
    """Describe a model that was handed over in memory, of which there is no file to hash."""
    name = getattr(model[0].auto_model.config, "_name_or_path", "") or type(model).__name__
    return Source(name=Path(name).name, revision=None, licence=None, sha256={})


def embedding_of(model: SentenceTransformer) -> Embedding:
    """Describe the vectors of a model, before its own truncation of dimensions."""
    with model.truncate_embeddings(None):
        dimension = model.get_embedding_dimension()
    return Embedding(
        dimension=int(dimension),
        normalized=isinstance([module for module in model if not isinstance(module, Dropout)][-1], Normalize),
        similarity=str(model.similarity_fn_name),
        matryoshka_dimensions=(),
        truncate_dim=model.truncate_dim,
    )


def sizes_by_part(model: SentenceTransformer) -> dict[str, int]:
    """Return the bytes of a model's table of token embeddings, of its other layers, and of the modules after them.

    The graph may leave out what no vector depends on, so the sum is only about that of its weights.
    """
    transformer, *others = model
    table = _size(transformer.auto_model.get_input_embeddings())
    return {"table": table, "layers": _size(transformer) - table, "head": sum(map(_size, others))}


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
