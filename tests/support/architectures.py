"""Tiny models of the architectures that Sentence Transformers are made of, with the pooling each usually has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from support.checkpoints import build_model, byte_level_bpe, save_transformer, unigram, wordpiece

MAX_LENGTH = 64


@dataclass(frozen=True)
class Architecture:
    """A transformers config with its kind of tokenizer, and what comes after it.

    ``left`` has the tokenizer pad on the left, as those of generative models do.
    """

    tokenizer: Callable[[], Any]
    config: Mapping[str, Any]
    pooling: str = "mean"
    dense: tuple[dict[str, Any], ...] = ()
    left: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Save a checkpoint with random weights, as sentence-transformers does, and return its folder."""
        tokenizer = self.tokenizer()
        tokenizer.padding_side = "left" if self.left else "right"
        body = save_transformer(dict(self.config), tokenizer, folder / "transformer")
        model: SentenceTransformer = build_model(body, max_length=MAX_LENGTH, pooling=self.pooling, dense=self.dense)
        model.save(str(folder / "checkpoint"), create_model_card=False)
        return folder / "checkpoint"


def _wordpiece() -> Any:
    return wordpiece(1000, lowercase=True)


def _unigram() -> Any:
    return unigram(1000)


def _bpe() -> Any:
    return byte_level_bpe(1500)


# Two layers where a model treats them differently (windows, shared weights), else one: torch traces each anew.
# Weights larger than those that training starts from: with these, texts of a model with CLS pooling are nearly alike.
_BODY: dict[str, Any] = {
    "initializer_range": 0.3,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 100,
}
_IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
# Smaller ones: bfloat16 gave Qwen2 a cosine of 0.9986 with the others.
_GENERATIVE = {**_BODY, **_IDS, "initializer_range": 0.1, "num_key_value_heads": 2, "vocab_size": 1500}


def _dense(width: int, out: int) -> dict[str, Any]:
    return {"in_features": width, "out_features": out, "bias": False, "activation": "Identity"}


ARCHITECTURES: dict[str, Architecture] = {
    "BERT": Architecture(_wordpiece, {"model_type": "bert", "vocab_size": 1000, **_BODY}),
    "DistilBERT": Architecture(
        _wordpiece,
        {
            "model_type": "distilbert",
            "vocab_size": 1000,
            "dim": 32,
            "n_layers": 1,
            "n_heads": 4,
            "hidden_dim": 64,
            "initializer_range": 0.3,
        },
    ),
    "RoBERTa": Architecture(_bpe, {"model_type": "roberta", "vocab_size": 1500, **_BODY, **_IDS}),
    "XLM-R": Architecture(_unigram, {"model_type": "xlm-roberta", "vocab_size": 1002, **_BODY, **_IDS}),
    "CamemBERT": Architecture(_unigram, {"model_type": "camembert", "vocab_size": 1002, **_BODY, **_IDS}),
    # With larger weights its cosine at bfloat16 differed from run to run, by 0.0005 to 0.0014 from 1.
    "MPNet": Architecture(
        _unigram, {"model_type": "mpnet", "vocab_size": 1002, **_BODY, **_IDS, "initializer_range": 0.1}
    ),
    "ELECTRA": Architecture(
        _wordpiece, {"model_type": "electra", "vocab_size": 1000, "embedding_size": 16, **_BODY}, "cls"
    ),
    "ALBERT": Architecture(
        _unigram,
        {"model_type": "albert", "vocab_size": 1002, "embedding_size": 16, **_BODY, **_IDS, "num_hidden_layers": 2},
    ),
    "DeBERTa-v2": Architecture(
        _unigram,
        {
            "model_type": "deberta-v2",
            "vocab_size": 1002,
            **_BODY,
            **_IDS,
            "relative_attention": True,
            "position_buckets": 16,
            "max_relative_positions": -1,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
        },
        "cls",
    ),
    "ModernBERT": Architecture(
        _bpe,
        {
            "model_type": "modernbert",
            "vocab_size": 1500,
            **_BODY,
            **_IDS,
            "num_hidden_layers": 2,
            "local_attention": 16,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 0,
            "sep_token_id": 2,
        },
    ),
    "NomicBERT": Architecture(_wordpiece, {"model_type": "nomic_bert", "vocab_size": 1000, **_BODY}),
    "GTE": Architecture(_wordpiece, {"model_type": "gte", "vocab_size": 1000, **_BODY}, "cls"),
    "T5 encoder": Architecture(
        _unigram,
        {
            "model_type": "t5",
            "vocab_size": 1002,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 1,
            "num_heads": 4,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        dense=(_dense(32, 24),),
    ),
    "Mistral": Architecture(
        _bpe, {"model_type": "mistral", **_GENERATIVE, "head_dim": 8, "sliding_window": 16}, "lasttoken"
    ),
    "Qwen2": Architecture(_bpe, {"model_type": "qwen2", **_GENERATIVE}, "lasttoken", left=True),
    "Qwen3": Architecture(_bpe, {"model_type": "qwen3", **_GENERATIVE, "head_dim": 8}, "lasttoken", left=True),
    "Gemma 3 text": Architecture(
        _bpe,
        {
            "model_type": "gemma3_text",
            **_GENERATIVE,
            "head_dim": 8,
            "num_hidden_layers": 2,
            "use_bidirectional_attention": True,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 8,
        },
        dense=(_dense(32, 64), _dense(64, 32)),
    ),
}
