"""Models of bge-m3's kind: XLM-R with CLS pooling, linear layers of token weights and vectors, and their formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from monograph import HybridEmbeddings
from support.architectures import ARCHITECTURES
from support.checkpoints import build_model, save_transformer

MAX_LENGTH = 64


def save_hybrid(
    folder: Path,
    *,
    dimension: int = 24,
    config: Mapping[str, Any] | None = None,
    max_length: int = MAX_LENGTH,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Save a checkpoint in bge-m3's layout and return its folder; ``dimension`` is that of tokens' vectors."""
    spec = ARCHITECTURES["XLM-R"]
    body = save_transformer({**spec.config, **(config or {})}, spec.tokenizer(), folder / "transformer")
    model = build_model(body, max_length=max_length, pooling="cls")
    model.save(str(folder / "checkpoint"), create_model_card=False)
    width = model[0].get_embedding_dimension()
    torch.manual_seed(2)
    for name, rows in (("sparse_linear", 1), ("colbert_linear", dimension)):
        layer = nn.Linear(width, rows).to(dtype)
        torch.save(layer.state_dict(), folder / "checkpoint" / f"{name}.pt")
    return folder / "checkpoint"


@dataclass(frozen=True)
class InTorch:
    """Section 3.2 of the paper with transformers' own model, for one text at a time.

    H are the hidden states of a text. Dense: H[0], normalized. Lexical: for each token t, the largest relu(w H[i]) of
    the places i where it stands. Multi-vector: W H[i], normalized, for all i but 0.
    """

    tokenizer: Any
    body: Any
    lexical: nn.Linear
    multi_vector: nn.Linear
    max_length: int = MAX_LENGTH

    @classmethod
    def of(cls, checkpoint: Path, max_length: int = MAX_LENGTH) -> InTorch:
        layers: list[nn.Linear] = []
        for name in ("sparse_linear", "colbert_linear"):
            state = torch.load(checkpoint / f"{name}.pt", weights_only=True)
            layer = nn.Linear(state["weight"].shape[1], state["weight"].shape[0])
            layer.load_state_dict(state)
            layers.append(layer.float())
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        body = AutoModel.from_pretrained(checkpoint, local_files_only=True).float().eval()
        return cls(tokenizer, body, layers[0], layers[1], max_length)

    @torch.inference_mode()
    def encode(self, text: str) -> tuple[Tensor, dict[int, float], Tensor]:
        ids = self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"]
        hidden = self.body(torch.tensor([ids])).last_hidden_state[0]
        special = {self.tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>", "<pad>", "<unk>")}
        weights: dict[int, float] = {}
        for token, vector in zip(ids, hidden, strict=True):
            weight = float(torch.clamp(self.lexical(vector), min=0))
            if token not in special and weight > 0:
                weights[token] = max(weight, weights.get(token, 0.0))
        of_tokens = [self.multi_vector(vector) / self.multi_vector(vector).norm() for vector in hidden[1:]]
        return hidden[0] / hidden[0].norm(), weights, torch.stack(of_tokens)

    def scores(self, query: str, document: str) -> tuple[float, float, float]:
        """Return s_dense, s_lex and s_mul."""
        (dense, weights, vectors), (other_dense, other_weights, other_vectors) = map(self.encode, (query, document))
        lexical = sum(weight * other_weights.get(token, 0.0) for token, weight in weights.items())
        interaction = sum(max(float(vector @ other) for other in other_vectors) for vector in vectors) / len(vectors)
        return float(dense @ other_dense), lexical, interaction


def largest_differences(
    actual: HybridEmbeddings, expected: Sequence[tuple[Tensor, dict[int, float], Tensor]]
) -> dict[str, float]:
    """Return the largest absolute differences from what ``InTorch.encode`` gave for the same texts, by kind."""
    largest = {"dense": 0.0, "sparse": 0.0, "multi_vector": 0.0}
    for position, (dense, weights, vectors) in enumerate(expected):
        of_tokens = dict(zip(*(values.tolist() for values in actual.sparse[position]), strict=True))
        by_token = [abs(of_tokens.get(token, 0) - weights.get(token, 0)) for token in of_tokens.keys() | weights.keys()]
        differences = {
            "dense": np.abs(actual.dense[position] - dense.numpy()).max(),
            "sparse": max(by_token, default=0.0),
            "multi_vector": np.abs(actual.multi_vector[position] - vectors.numpy()).max(),
        }
        largest = {kind: max(largest[kind], float(difference)) for kind, difference in differences.items()}
    return largest
