"""Models whose weights and tokenizer are made from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monograph_export import compression
from monograph_export.probe_texts import probe_sentences
from monograph_export.text_files import read_sentences
from support.checkpoints import build_model, save_transformer, wordpiece

# More than there are pieces in the sentences.
_MAX_VOCABULARY = 30_522


def build(checkpoint: Path, config: dict[str, Any], max_length: int, *, pooling: str, dense: bool) -> None:
    """Save a checkpoint of a BERT of this configuration, with pooling, a dense layer if wanted, and normalization."""
    # With many tokens whole words are among them, so that it takes as long for a text as a published tokenizer.
    sentences = [*probe_sentences(), *read_sentences(compression.__name__, "sentences.txt")]
    tokenizer = wordpiece(min(config["vocab_size"], _MAX_VOCABULARY), not dense, sentences)
    transformer = save_transformer(config, tokenizer, checkpoint.with_name(f"{checkpoint.name}-transformer"))
    width = config["hidden_size"]
    layer = {"in_features": width, "out_features": width, "bias": True, "activation": "Tanh"}
    model = build_model(transformer, max_length=max_length, pooling=pooling, dense=[layer] if dense else [])
    model.save(str(checkpoint), create_model_card=False)
