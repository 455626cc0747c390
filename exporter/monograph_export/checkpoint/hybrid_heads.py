"""The linear layers of bge-m3's kind: a weight and a vector for each token, beside the vector of the text.

Source: Chen et al., "BGE M3-Embedding" (2024), section 3.2.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from sentence_transformers.base.model import BaseModel
from torch import Tensor, nn

from monograph.errors import ExportError, UnsupportedModuleError
from monograph.tasks.embedding import HYBRID_EMBEDDINGS, HybridSection, hybrid_width
from monograph_export.checkpoint.checkpoint import COLBERT_HEAD, SPARSE_HEAD, Checkpoint
from monograph_export.checkpoint.features import TOKEN_EMBEDDINGS
from monograph_export.checkpoint.modules import SENTENCE_EMBEDDING
from monograph_export.foreign_errors import plain_line


class HybridHead(nn.Module):
    """Adds ``hybrid_embeddings`` to the features: the text's vector, then the vector and the weight of each token."""

    def __init__(self, sparse: nn.Linear, colbert: nn.Linear) -> None:
        super().__init__()
        self.sparse = sparse
        self.colbert = colbert

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add float32 [batch, sequence, ``hybrid_width``], of ``token_embeddings`` [batch, sequence, hidden].

        The first token has no vector of its own: its place holds ``sentence_embedding`` [batch, dimension].
        """
        text, hidden = features[SENTENCE_EMBEDDING], features[TOKEN_EMBEDDINGS][:, 1:]
        vectors = nn.functional.normalize(self.colbert(hidden), dim=-1)
        weights = torch.relu(self.sparse(hidden))
        width = hybrid_width(text.shape[-1], vectors.shape[-1])
        first = nn.functional.pad(text, (0, width - text.shape[-1])).unsqueeze(1)
        token_vectors = nn.functional.pad(vectors, (0, width - 1 - vectors.shape[-1]))
        packed = torch.cat([first, torch.cat([token_vectors, weights], dim=-1)], dim=1)
        return features | {HYBRID_EMBEDDINGS: packed}


def add_hybrid_head(model: BaseModel, checkpoint: Checkpoint) -> None:
    """Append the head of a checkpoint to the modules of its model.

    Raises:
        ExportError: a file of it is missing, damaged, or does not fit the encoder.
        UnsupportedModuleError: the model's modules do not go with it.

    """
    folder = checkpoint.folder
    first, *others = (type(module).__name__ for module in model)
    if first != "Transformer" or "Router" in others:
        raise UnsupportedModuleError(
            f"{folder}: {COLBERT_HEAD} and {SPARSE_HEAD} with the modules {', '.join((first, *others))} are not "
            f"exported, only behind a Transformer: give --outputs {SENTENCE_EMBEDDING}"
        )
    width = checkpoint.token_width
    head = HybridHead(_read_linear(folder / SPARSE_HEAD, width, 1), _read_linear(folder / COLBERT_HEAD, width, None))
    model.append(head.eval().requires_grad_(False))


def hybrid_section(model: BaseModel) -> HybridSection:
    """Describe the output of a model whose last module is its head.

    Sparse vectors leave out special tokens: those around texts, padding and unknown.
    """
    tokenizer = model.tokenizer
    ids = (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    return HybridSection(int(model[-1].colbert.out_features), tuple(sorted({int(i) for i in ids if i is not None})))


def _read_linear(path: Path, width: int, rows: int | None) -> nn.Linear:
    """Return the linear layer of a file, [rows, width], any number of rows for None, at float32.

    Raises:
        ExportError: the file is missing or damaged, holds more than tensors, or they have other shapes.

    """
    try:
        with warnings.catch_warnings():
            # Of a pickle that is not torch's own, which is then refused or read.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ExportError(
            f"{path} holds more than tensors and is not loaded (weights_only), or is damaged: download it again, or "
            f"export with --outputs {SENTENCE_EMBEDDING}"
        ) from error
    # torch raises many types for files that are not its own.
    except Exception as error:
        raise ExportError(f"{path} cannot be read ({plain_line(error)}): download it again") from error
    weight, bias = (state.get(name) if isinstance(state, dict) else None for name in ("weight", "bias"))
    due = f"weight [{'dimension' if rows is None else rows}, {width}] and bias"
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor) or len(state) != len(("weight", "bias")):
        raise ExportError(f"{path} must hold {due}, as FlagEmbedding saves them")
    if (
        weight.ndim != 2
        or weight.shape[1] != width
        or rows not in (None, len(weight))
        or bias.shape != weight.shape[:1]
    ):
        raise ExportError(f"{path} must hold {due}, and has {list(weight.shape)} and {list(bias.shape)}")
    layer = nn.Linear(width, len(weight))
    layer.weight.data, layer.bias.data = weight.float(), bias.float()
    return layer
