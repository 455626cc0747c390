"""What is read of a checkpoint's modules, and the settings that are written for other software."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from monograph import ExportError
from monograph_export.publishing.modules import read_modules
from monograph_export.publishing.settings import write_settings
from support import checkpoints
from support.peers import change_json, torch_vectors


def test_both_spellings_read_alike(tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path, max_length=100, pooling="cls")
    new = read_modules(checkpoint)
    old = read_modules(checkpoints.respell_as_legacy(checkpoint))
    for modules in (new, old):
        assert (modules.poolings, modules.token_width, modules.max_length) == (("cls",), 32, 100)
        assert (modules.normalized, modules.lowercase) == (True, False)
        assert [entry.name for entry in modules.entries] == ["Transformer", "Pooling", "Normalize"]
        assert modules.beyond_pooling() == []


def test_a_bare_transformer_has_mean_pooling(tmp_path: Path) -> None:
    tokenizer = checkpoints.wordpiece(1000, lowercase=True)
    checkpoint = checkpoints.save_transformer(checkpoints.TINY_BERT, tokenizer, tmp_path / "bare")
    modules = read_modules(checkpoint)
    limit = SentenceTransformer(str(checkpoint), device="cpu").max_seq_length
    assert (modules.poolings, modules.normalized, modules.max_length) == (("mean",), False, limit)


def test_a_module_of_others_is_a_reason(tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path)
    change_json(checkpoint / "modules.json", lambda modules: modules[1].update(type="somewhere.else.Pooling"))
    with pytest.raises(ExportError, match=r"somewhere\.else\.Pooling is not of Sentence Transformers"):
        read_modules(checkpoint)


def test_lower_casing_outside_the_tokenizer_is_a_reason(tmp_path: Path) -> None:
    checkpoint = checkpoints.respell_as_legacy(checkpoints.tiny(tmp_path))
    change_json(checkpoint / "sentence_bert_config.json", lambda settings: settings.update(do_lower_case=True))
    assert read_modules(checkpoint).beyond_pooling() == []
    change_json(checkpoint / "tokenizer_config.json", lambda settings: settings.update(do_lower_case=False))
    assert read_modules(checkpoint).beyond_pooling() == ["lower-casing outside the tokenizer"]


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "cls", "normalize": False},
        {"pooling": ["cls", "mean"], "max_length": 20},
        {"dense": [{"in_features": 32, "out_features": 16, "activation": "Tanh"}]},
    ],
)
def test_settings_of_an_export_mean_what_the_checkpoints_mean(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path, **options)
    folder = tmp_path / "exported"
    folder.mkdir()
    write_settings(checkpoint, read_modules(checkpoint), folder)
    shutil.copyfile(checkpoint / "model.safetensors", folder / "model.safetensors")
    np.testing.assert_array_equal(torch_vectors(folder), torch_vectors(checkpoint))
    listed = json.loads((folder / "modules.json").read_text())
    assert all(module["type"].startswith("sentence_transformers.models.") for module in listed)


def test_poolings_in_an_order_that_older_releases_have_not_are_refused(tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path, pooling=["mean", "cls"])
    folder = tmp_path / "exported"
    folder.mkdir()
    with pytest.raises(ExportError, match=r"pooling mean \+ cls, in this order"):
        write_settings(checkpoint, read_modules(checkpoint), folder)
