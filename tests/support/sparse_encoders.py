"""Tiny sparse encoders with random weights: SPLADE over several architectures, and token weights behind a Router."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from transformers import AutoConfig, AutoModelForMaskedLM

from support.architectures import ARCHITECTURES, MAX_LENGTH
from support.checkpoints import wordpiece_of

# With weights of twice the size, MPNet's vectors at bfloat16 had a cosine of 0.998.
_SPREAD = 0.15


def save_masked_lm(architecture: str, folder: Path, **config: Any) -> Path:
    """Save a masked language model of transformers, and nothing of sentence-transformers, and return its folder."""
    spec = ARCHITECTURES[architecture]
    settings = dict(spec.config) | {"initializer_range": _SPREAD} | config
    torch.manual_seed(0)
    model: Any = AutoModelForMaskedLM.from_config(
        AutoConfig.for_model(settings.pop("model_type"), **settings), dtype=torch.float32
    )
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases of 0 and scales of 1, as they are initialised, would hide one that an export drops.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        # Of a trained model few weights are above 0.
        model.get_output_embeddings().bias.sub_(1.5)
    model.save_pretrained(folder)
    tokenizer = spec.tokenizer()
    tokenizer.model_max_length = MAX_LENGTH
    tokenizer.save_pretrained(folder)
    return folder


def splade_modules(
    architecture: str, folder: Path, pooling: str = "max", activation: str = "relu", **config: Any
) -> list[Any]:
    """Return the modules of a SPLADE model; what it is made of is saved in a folder."""
    body = save_masked_lm(architecture, folder, **config)
    return [_transformer(body, MAX_LENGTH), SpladePooling(pooling, activation)]


def save_splade(architecture: str, folder: Path, pooling: str = "max", activation: str = "relu", **config: Any) -> Path:
    """Save a SPLADE model with a prompt for queries, as sentence-transformers does, and return its folder."""
    modules = splade_modules(architecture, folder / "masked-lm", pooling, activation, **config)
    return _saved(SparseEncoder(modules=modules, device="cpu", prompts={"query": "the harbour "}), folder)


def save_full_size_splade(folder: Path, vocab_file: Path) -> Path:
    """Save naver/splade-cocondenser-ensembledistil's architecture with random weights and return its folder.

    The bias lets one token of fifty be active, clearly, as in a trained model.
    """
    torch.manual_seed(0)
    model: Any = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert"), dtype=torch.float32)
    bias = model.get_output_embeddings().bias
    with torch.no_grad():
        bias.copy_(torch.where(torch.rand(bias.shape) < 0.02, -0.5, -5.0))
    model.save_pretrained(folder / "masked-lm")
    wordpiece_of(vocab_file, lowercase=True).save_pretrained(folder / "masked-lm")
    transformer = _transformer(folder / "masked-lm", 256)
    return _saved(SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu"), folder)


def save_inference_free(folder: Path, *, config: Mapping[str, Any] | None = None, **options: Any) -> Path:
    """Save a model whose queries are weights of their tokens, and whose documents go through SPLADE."""
    documents = splade_modules("BERT", folder / "masked-lm", **(config or {}))
    queries = _token_weights(documents[0].tokenizer)
    router = Router.for_query_document(query_modules=[queries], document_modules=documents)
    return _saved(SparseEncoder(modules=[router], device="cpu", **options), folder)


def save_token_weights(folder: Path) -> Path:
    """Save a model of weights of tokens, a negative one among them, and return its folder."""
    tokenizer = ARCHITECTURES["BERT"].tokenizer()
    tokenizer.model_max_length = MAX_LENGTH
    return _saved(SparseEncoder(modules=[_token_weights(tokenizer)], device="cpu"), folder)


def _token_weights(tokenizer: Any) -> Any:
    torch.manual_seed(1)
    return SparseStaticEmbedding(tokenizer, weight=torch.rand(ARCHITECTURES["BERT"].config["vocab_size"]) - 0.1)


def _transformer(folder: Path, max_length: int) -> Any:
    options = {"model_kwargs": {"dtype": torch.float32}, "config_kwargs": {"local_files_only": True}}
    return Transformer(str(folder), transformer_task="fill-mask", max_seq_length=max_length, **options)


def _saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"
