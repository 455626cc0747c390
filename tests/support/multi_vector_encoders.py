"""Tiny multi-vector encoders with random weights, over several architectures and in several layouts."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import nn

from support.architectures import ARCHITECTURES
from support.checkpoints import save_transformer

# ColBERT's own, at the size of tiny models.
EXPANSION: Mapping[str, Any] = {"strategy": "fixed", "attend": False, "length": 16}
PROMPTS = {"query": "query: ", "document": "passage: "}


def multi_vector_model(
    architecture: str,
    folder: Path,
    *,
    dimension: int | None = 24,
    normalize: bool = True,
    skiplist: str = string.punctuation,
    document_length: int | None = 48,
    expansion: Mapping[str, Any] | None = EXPANSION,
    config: Mapping[str, Any] | None = None,
    max_length: int = 64,
    **options: Any,
) -> MultiVectorEncoder:
    """Return a model; what it is made of is saved in a folder."""
    spec = ARCHITECTURES[architecture]
    body = save_transformer({**spec.config, **(config or {})}, spec.tokenizer(), folder / "transformer")
    transformer = Transformer(
        str(body),
        max_seq_length=max_length,
        document_length=document_length,
        query_expansion=None if expansion is None else dict(expansion),
        **options,
    )
    modules: list[nn.Module] = [transformer]
    if dimension is not None:
        torch.manual_seed(1)
        width = transformer.get_embedding_dimension()
        modules.append(
            Dense(width, dimension, False, activation_function=nn.Identity(), module_input_name="token_embeddings")
        )
    modules.append(MultiVectorMask(skiplist_words=list(skiplist)))
    if normalize:
        modules.append(Normalize(module_input_name="token_embeddings"))
    return MultiVectorEncoder(modules=modules, device="cpu", prompts=PROMPTS)


def save_multi_vector(architecture: str, folder: Path, **options: Any) -> Path:
    """Save a model as sentence-transformers does, and return its folder."""
    multi_vector_model(architecture, folder, **options).save_pretrained(
        str(folder / "checkpoint"), create_model_card=False
    )
    return folder / "checkpoint"


def save_as_pylate(folder: Path) -> Path:
    """Save a model as PyLate 1 does: a Transformer and a Dense, the rest in one file of settings."""
    checkpoint = save_multi_vector("BERT", folder, expansion=None, document_length=None)
    listing = checkpoint / "modules.json"
    modules = json.loads(listing.read_text())[:2]
    modules[0]["type"], modules[1]["type"] = "sentence_transformers.models.Transformer", "pylate.models.Dense.Dense"
    listing.write_text(json.dumps(modules))
    dense = checkpoint / modules[1]["path"] / "config.json"
    settings = json.loads(dense.read_text())
    dense.write_text(json.dumps({name: settings[name] for name in ("in_features", "out_features", "bias")} | {
        "activation_function": "torch.nn.modules.linear.Identity"
    }))  # fmt: skip
    (checkpoint / "config_sentence_transformers.json").write_text(
        json.dumps(
            {
                "model_type": "ColBERT",
                "prompts": {},
                "default_prompt_name": None,
                "similarity_fn_name": "cosine",
                "query_prefix": "query: ",
                "document_prefix": "passage: ",
                "query_length": 12,
                "document_length": 40,
                "attend_to_expansion_tokens": True,
                "do_query_expansion": True,
                "skiplist_words": list(".,!?"),
            }
        )
    )
    return checkpoint


def save_as_stanford(folder: Path) -> Path:
    """Save a model as Stanford's ColBERT does: one file of weights, and artifact.metadata."""
    built = save_multi_vector("BERT", folder, expansion=None, document_length=None)
    checkpoint = folder / "transformer"
    weights = {f"bert.{name}": value for name, value in load_file(checkpoint / "model.safetensors").items()}
    [dense] = built.glob("*_Dense/model.safetensors")
    weights["linear.weight"] = load_file(dense)["linear.weight"]
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    settings = {"query_maxlen": 20, "doc_maxlen": 44, "attend_to_mask_tokens": False, "mask_punctuation": True}
    (checkpoint / "artifact.metadata").write_text(json.dumps(settings))
    return checkpoint
