"""Downloads that were cut short: the file that is missing or damaged is named, in one line that says what to do."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModel

from monograph import ExportError
from monograph_export import export


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def page(path: Path) -> None:
    path.write_bytes(b"<!doctype html>\x1b[31mEntry not found\n")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../blobs/absent")


def assert_named(checkpoint: Path, tmp_path: Path, *words: str) -> None:
    with pytest.raises(ExportError) as caught:
        export(checkpoint, tmp_path / "bundle")
    message = str(caught.value)
    assert message.isprintable()
    assert all(word in message for word in words), message
    assert not (tmp_path / "bundle").exists()


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


# Without its tokenizer_config.json, as a folder or a link to nothing of that name is, transformers loads a tokenizer.
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *itertools.product(
            ["tokenizer.json", "model.safetensors", "2_Dense/model.safetensors"], [cut, empty, page, folder, link]
        ),
        *itertools.product(["tokenizer_config.json"], [cut, empty, page]),
    ],
)
def test_a_damaged_file_is_named(file: str, damage: Callable[[Path], None], checkpoint: Path, tmp_path: Path) -> None:
    damage(checkpoint / file)
    assert_named(checkpoint, tmp_path, file, "download")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("1_Pooling/config.json", ("config.json of its Pooling does not state 'embedding_dimension'",)),
        ("2_Dense/config.json", ("config.json of its Dense does not state 'in_features' and 'out_features'",)),
        ("2_Dense/model.safetensors", ("2_Dense has no weights of its Dense",)),
    ],
)
def test_a_missing_file_of_a_module_is_named(
    file: str, words: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / file).unlink()
    assert_named(checkpoint, tmp_path, *words, "download")


@pytest.mark.parametrize("lost", ["model-00002-of-", "model.safetensors.index.json"])
def test_a_missing_shard_or_index_is_named(lost: str, checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="50KB")
    shard = next(file for file in sorted(checkpoint.iterdir()) if file.name.startswith(lost))
    shard.unlink()
    assert_named(checkpoint, tmp_path, shard.name)
