"""What a bundle's manifest says of the loaded model it was made of."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Dropout
from torch import nn
from transformers import PreTrainedModel

from monograph.bundle.manifest import Embedding, Source, Sparse
from monograph.errors import ExportError
from monograph.version import __version__
from monograph_export.checkpoint.routes import RoutedModel, VectorModel
from monograph_export.checkpoint.token_table import has_transformer, rows_of, token_table

_PRODUCERS = ("torch", "transformers", "sentence-transformers", "onnx-ir", "onnxscript")


def producers() -> dict[str, str]:
    """Return the versions of what writes a bundle."""
    return {"monograph": __version__, **{name: importlib.metadata.version(name) for name in _PRODUCERS}}


def source_of_loaded(model: BaseModel) -> Source:
    """Describe a model that was handed over in memory, of which there is no file to hash."""
    config = getattr(model.transformers_model, "config", None)
    name = getattr(config, "_name_or_path", "") or type(model).__name__
    return Source(name=Path(name).name, revision=None, license=None, sha256={})


def vectors_of(routed: RoutedModel) -> Embedding | Sparse:
    """Describe the vectors of a model, before its own truncation of dimensions or of active ones.

    Raises:
        ExportError: its routes give vectors of different dimensions.

    """
    dimensions = {route: _dimension(model) for route, model in routed.routes.items()}
    if len(set(dimensions.values())) != 1:
        raise ExportError(f"the routes give vectors of different dimensions: {dimensions}")
    model = routed.whole
    dimension = next(iter(dimensions.values()))
    if isinstance(model, SparseEncoder):
        return Sparse(dimension, str(model.similarity_fn_name), model.max_active_dims)
    return Embedding(
        dimension=dimension,
        normalized=all(map(_normalizes, routed.routes.values())),
        similarity=str(model.similarity_fn_name),
        matryoshka_dimensions=(),
        truncate_dim=model.truncate_dim,
    )


def _dimension(model: VectorModel) -> int:
    if isinstance(model, SparseEncoder):
        # SpladePooling knows only once it has seen logits.
        return (
            rows_of(model)
            if not has_transformer(model)
            else int(model[0].auto_model.get_output_embeddings().out_features)
        )
    with model.truncate_embeddings(None):
        return int(model.get_embedding_dimension())


def _normalizes(model: SentenceTransformer) -> bool:
    return isinstance([module for module in model if not isinstance(module, Dropout)][-1], Normalize)


def sizes_by_part(model: BaseModel) -> dict[str, int]:
    """Return the bytes of a model's table of token embeddings, of its other layers, and of what comes after them.

    The graph may leave out what no vector depends on, and has a table that is also the head's once, so the sum is only
    about that of its weights.
    """
    first, *others = model
    table = _size(token_table(model))
    # The head of a classifier, or of a model of masked words, is within its Transformer.
    layers = _size(first.auto_model.base_model) if has_transformer(model) else _size(first)
    head = _size(first) - layers + sum(map(_size, others))
    if has_transformer(model) and _is_tied(first.auto_model):
        # What it multiplies with, though the file has it once.
        head += table
    return {"table": table, "layers": layers - table, "head": head}


def _is_tied(transformer: PreTrainedModel) -> bool:
    decoder = transformer.get_output_embeddings()
    return decoder is not None and getattr(decoder, "weight", None) is getattr(
        transformer.get_input_embeddings(), "weight", None
    )


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
