"""Models whose weights and tokenizer are made from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizerFast

from monograph_export import compression
from monograph_export.probe_texts import probe_sentences
from monograph_export.text_files import read_sentences
from support.checkpoints import build_model, save_transformer

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# More than there are pieces in the sentences.
_MAX_VOCABULARY = 30_522


def build(checkpoint: Path, config: dict[str, Any], max_length: int, *, pooling: str, dense: bool) -> None:
    """Save a checkpoint of a BERT of this configuration, with pooling, a dense layer if wanted, and normalization."""
    tokenizer = train_wordpiece(min(config["vocab_size"], _MAX_VOCABULARY), lowercase=not dense)
    transformer = save_transformer(config, tokenizer, checkpoint.with_name(f"{checkpoint.name}-transformer"))
    width = config["hidden_size"]
    layer = {"in_features": width, "out_features": width, "bias": True, "activation": "Tanh"}
    model = build_model(transformer, max_length=max_length, pooling=pooling, dense=[layer] if dense else [])
    model.save(str(checkpoint), create_model_card=False)


def train_wordpiece(vocabulary: int, *, lowercase: bool) -> BertTokenizerFast:
    """Train a WordPiece tokenizer on the project's own sentences.

    With many tokens whole words are among them, so that it takes as long for a text as a published one.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=_SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=_SPECIAL, show_progress=False)
    sentences = [*probe_sentences(), *read_sentences(compression.__name__, "sentences.txt")]
    tokenizer.train_from_iterator(sentences, trainer)
    return BertTokenizerFast(vocab=tokenizer.get_vocab(with_added_tokens=True), do_lower_case=lowercase)
