"""Tiny cross-encoders with random weights: those that sentence-transformers saves, and older ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from tokenizers import processors
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from support.architectures import ARCHITECTURES, MAX_LENGTH

IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
# Wide enough that scores differ from pair to pair; as models are initialised, all are nearly 0.
_SPREAD = 0.2


def save_classifier(architecture: str, folder: Path, **config: Any) -> Path:
    """Save a classifier of transformers, and nothing of sentence-transformers, and return its folder."""
    spec = ARCHITECTURES[architecture]
    settings = dict(spec.config) | {"initializer_range": _SPREAD} | config
    if "id2label" not in settings:
        settings = {"num_labels": 1} | settings
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(settings.pop("model_type"), **settings), dtype=torch.float32
    )
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases of 0 and scales of 1, as they are initialised, would hide one that an export drops.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    tokenizer = spec.tokenizer()
    if settings["vocab_size"] == _UNIGRAM_SIZE:
        tokenizer.backend_tokenizer.post_processor = _XLMR_PAIRS
    tokenizer.model_max_length = MAX_LENGTH
    tokenizer.save_pretrained(folder)
    return folder


def save_cross_encoder(
    architecture: str,
    folder: Path,
    *,
    activation: nn.Module | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    **config: Any,
) -> Path:
    """Save a cross-encoder as sentence-transformers does and return its folder."""
    body = save_classifier(architecture, folder / "classifier", **config)
    model: Any = CrossEncoder(
        str(body),
        device="cpu",
        activation_fn=activation,
        prompts=None if prompts is None else dict(prompts),
        default_prompt_name=default_prompt_name,
    )
    model.save(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"


def edit_config(folder: Path, **values: Any) -> Path:
    """Put values into a folder's config.json and return the folder."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


# The tokenizer's vocabulary, by which its kind is known, and how XLM-R joins two texts.
_UNIGRAM_SIZE = 1002
_XLMR_PAIRS = processors.TemplateProcessing(
    single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
)
