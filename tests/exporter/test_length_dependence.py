"""Models that compute long texts otherwise: exported for lengths at which they have one form, or refused by cause."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from monograph import Embedder, UnsupportedModuleError
from monograph_export import export
from support import checkpoints
from support.parity import assert_close

# Of 5 + 2 blocks of 8 tokens, and of 40 positions.
BLOCKS, POSITIONS = 56, 40
TEXTS = ["", "A quiet evening", "harbour lights " * 12, "word " * 200]
_BODY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
BIG_BIRD = {
    **_BODY,
    "model_type": "big_bird",
    "vocab_size": 1002,
    "max_position_embeddings": 130,
    "attention_type": "block_sparse",
    "block_size": 8,
    "num_random_blocks": 1,
}
_ROTARY = {**_BODY, "vocab_size": 1500, "num_key_value_heads": 2, "head_dim": 8}
DYNAMIC = {
    **_ROTARY,
    "model_type": "llama",
    "max_position_embeddings": POSITIONS,
    "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
}
LONGROPE = {
    **_ROTARY,
    "model_type": "phi3",
    "max_position_embeddings": 160,
    "original_max_position_embeddings": POSITIONS,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [4.0, 5.0, 6.0, 7.0],
        "original_max_position_embeddings": POSITIONS,
    },
}
CASES = {
    "BigBird": (BIG_BIRD, BLOCKS, "BigBirdModel attends to blocks of the text"),
    "dynamic": (DYNAMIC, POSITIONS, "rotary positions (rope_type dynamic) change"),
    "longrope": (LONGROPE, POSITIONS, "rotary positions (rope_type longrope) change"),
}


def saved(config: dict[str, Any], folder: Path, max_length: int) -> Path:
    tokenizer = checkpoints.unigram(1000) if config is BIG_BIRD else checkpoints.byte_level_bpe(1500)
    body = checkpoints.save_transformer(config, tokenizer, folder / "transformer")
    checkpoints.build_model(body, max_length=max_length).save(str(folder / "checkpoint"), create_model_card=False)
    return folder / "checkpoint"


@pytest.mark.parametrize(
    ("config", "limit", "words"),
    [pytest.param(*case, id=name, marks=() if name == "BigBird" else pytest.mark.slow) for name, case in CASES.items()],
)
def test_texts_of_one_form_have_their_vectors(config: dict[str, Any], limit: int, words: str, tmp_path: Path) -> None:
    checkpoint = saved(config, tmp_path, limit)
    export(checkpoint, tmp_path / "bundle")
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    expected = np.stack([reference.encode(text, show_progress_bar=False) for text in TEXTS])
    with Embedder(tmp_path / "bundle", "cpu") as model:
        assert_close(model.encode(TEXTS), expected)
        assert_close(model.encode(TEXTS, batch_size=1), expected)
    longer = SentenceTransformer(str(checkpoint), device="cpu")
    longer.max_seq_length = limit + 1
    with pytest.raises(UnsupportedModuleError, match=f"{re.escape(words)}.* more than {limit} tokens.*: set max_seq_"):
        export(longer, tmp_path / "other")


@pytest.mark.parametrize(
    "config", [pytest.param(DYNAMIC, marks=pytest.mark.slow), LONGROPE], ids=["dynamic", "longrope"]
)
def test_what_a_long_text_has_changed_is_not_exported(config: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = saved(config, tmp_path, POSITIONS)
    expected = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS[:3], batch_size=1)
    used = SentenceTransformer(str(checkpoint), device="cpu")
    used.max_seq_length = 3 * POSITIONS
    used.encode(TEXTS[3])
    used.max_seq_length = POSITIONS
    export(used, tmp_path / "bundle")
    with Embedder(tmp_path / "bundle", "cpu") as model:
        assert_close(model.encode(TEXTS[:3]), expected)
