"""Texts are truncated at what a model has positions for, whatever its settings allow, and the caller is warned."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from monograph import ExportError
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.checkpoint.max_length import NO_LIMIT, lowered_length
from monograph_export.tasks.base import ExportTask
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from monograph_export.tasks.rerank import RERANK_EXPORT
from support.architectures import ARCHITECTURES
from support.checkpoints import build_model, byte_level_bpe, save_transformer
from support.cross_encoders import save_classifier

# Of a table with 100 rows.
POSITIONS = {
    "BERT": 100, "DistilBERT": 512, "RoBERTa": 98, "XLM-R": 98, "CamemBERT": 98, "MPNet": 98, "Qwen2": None,
    "T5 encoder": None,
}  # fmt: skip


def with_limits(checkpoint: Path, stated: object, of_tokenizer: object = 10**30) -> Path:
    for file, values in (
        ("sentence_bert_config.json", {"max_seq_length": stated}),
        ("tokenizer_config.json", {"model_max_length": of_tokenizer}),
    ):
        path = checkpoint / file
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | values))
    return checkpoint


def loaded_length(checkpoint: Path, task: ExportTask[Any] = EMBEDDING_EXPORT) -> int:
    return int(task.load(read_checkpoint(checkpoint)).main.max_seq_length)


@pytest.mark.parametrize("architecture", POSITIONS)
def test_a_limit_beyond_the_positions_is_lowered(
    architecture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = with_limits(ARCHITECTURES[architecture].save(tmp_path), 600)
    positions = POSITIONS[architecture]
    assert loaded_length(checkpoint) == (600 if positions is None else positions)
    assert (f"has positions for {positions}: texts are truncated" in caplog.text) == (positions is not None)


@pytest.mark.parametrize("stated", [None, 10**30])
def test_no_limit_is_that_of_the_positions(stated: object, tmp_path: Path) -> None:
    assert loaded_length(with_limits(ARCHITECTURES["RoBERTa"].save(tmp_path), stated)) == 98


def test_no_limit_stays_none_without_positions(tmp_path: Path) -> None:
    assert loaded_length(with_limits(ARCHITECTURES["T5 encoder"].save(tmp_path), None)) >= NO_LIMIT


@pytest.mark.parametrize(("stated", "expected"), [(98, 98), (64, 64)])
def test_a_limit_within_the_positions_is_left(
    stated: int, expected: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert loaded_length(with_limits(ARCHITECTURES["RoBERTa"].save(tmp_path), stated)) == expected
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_rows_in_front_that_the_config_does_not_count_are_used(tmp_path: Path) -> None:
    """OPT's table has two rows more than its config states."""
    config = {
        "model_type": "opt", "vocab_size": 1500, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "ffn_dim": 64, "max_position_embeddings": 66, "word_embed_proj_dim": 32,
    }  # fmt: skip
    body = save_transformer(config, byte_level_bpe(1500), tmp_path / "transformer")
    model = build_model(body, max_length=68)
    assert EMBEDDING_EXPORT.copy(model).main.max_seq_length == 66
    assert model.max_seq_length == 68, "the caller's own model"


def test_pairs_are_truncated_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_classifier("XLM-R", tmp_path / "classifier")
    assert loaded_length(with_limits(folder, None, 100), RERANK_EXPORT) == 98
    assert "pairs are truncated at 98" in caplog.text


@pytest.mark.parametrize("stated", [-1, 0, True])
def test_a_limit_that_is_no_number_of_tokens_is_refused(stated: object, tmp_path: Path) -> None:
    checkpoint = with_limits(ARCHITECTURES["RoBERTa"].save(tmp_path), stated)
    with pytest.raises(ExportError, match="not a number of tokens: set max_seq_length"):
        loaded_length(checkpoint)


def test_a_limit_that_special_tokens_fill_is_refused(tmp_path: Path) -> None:
    """Sentence Transformers then truncates nothing, and fails at a long text."""
    checkpoint = with_limits(ARCHITECTURES["RoBERTa"].save(tmp_path), 1)
    with pytest.raises(ExportError, match="a maximum length of 1 tokens leaves no room"):
        loaded_length(checkpoint)


@pytest.mark.parametrize("table", [1, 2, 63, 64, 97, 500])
@pytest.mark.parametrize("guesses", [(), (64, 62), (500, 1)])
def test_the_longest_is_searched_for(table: int, guesses: tuple[int, ...]) -> None:
    tried: list[int] = []

    def runs(length: int) -> bool:
        tried.append(length)
        return length <= table

    assert lowered_length(runs, 500, 1000, guesses) == (table if table < 500 else None)
    assert len(tried) < 13
    assert lowered_length(lambda _: False, 500, 1000, guesses) is None
    assert lowered_length(runs, None, 499, guesses) == (table if table < 500 else None)
