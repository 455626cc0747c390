"""An export reports real steps: each is opened by itself, and counts to the total that it stated."""

from __future__ import annotations

from pathlib import Path

import pytest

from monograph_export import export
from support.encoders import save_encoder
from support.recorder import Recorder

BEFORE = ["Loading the model"]
INT8 = [
    "Computing the original's outputs",
    "Quantizing the table of token embeddings",
    "Recording activation statistics",
    "Calibrating layers",
    "Measuring the compressed model",
]
TABLE = [
    "Computing the original's outputs",
    "Quantizing the table of token embeddings",
    "Measuring the compressed model",
]
AFTER = [
    "Computing the reference",
    "Tracing the model",
    "Rewriting the graph",
    "Writing the weights",
    "Hashing the files",
    "Loading on cpu at float32",
    "Verifying on cpu at float32",
]
MEASURED = ["Measuring the loss of the bundle"]
LAST = ["Syncing to disk"]


def test_an_export_with_int8_layers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    export(
        tiny_checkpoint, tmp_path / "bundle", precision="int8", show_progress_bar=recorder, min_mean_cosine=0.5,
        min_worst_cosine=0, min_neighbour_agreement=0,
    )  # fmt: skip
    assert recorder.names == [*BEFORE, *INT8, *AFTER, *MEASURED, *LAST]
    recorder.assert_complete()


@pytest.mark.slow
def test_an_export_with_a_pruned_vocabulary(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("A boat sails.\nThe harbour is full of boats.\n", encoding="utf-8")
    recorder = Recorder()
    export(tiny_checkpoint, tmp_path / "bundle", keep_vocab=tmp_path / "corpus.txt", show_progress_bar=recorder)
    pruning = ["Choosing the tokens to retain", "Comparing vectors with the whole vocabulary's"]
    assert recorder.names == [*BEFORE, *pruning, *AFTER, *LAST]
    recorder.assert_complete()


@pytest.mark.slow
def test_an_export_of_a_sparse_encoder(tiny_sparse_checkpoint: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    export(
        tiny_sparse_checkpoint, tmp_path / "bundle", table="int8", show_progress_bar=recorder, min_mean_cosine=0.5,
        min_worst_cosine=0, min_neighbour_agreement=0, min_active_overlap=0,
    )  # fmt: skip
    assert recorder.names == [*BEFORE, *TABLE, *AFTER, *MEASURED, *LAST]
    recorder.assert_complete()


@pytest.mark.slow
def test_an_export_of_a_cross_encoder(tiny_cross_checkpoint: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    export(tiny_cross_checkpoint, tmp_path / "bundle", show_progress_bar=recorder)
    assert recorder.names == [*BEFORE, *AFTER, *LAST]
    recorder.assert_complete()
    assert {step.unit for step in recorder.steps if step.name.startswith(("Computing", "Verifying"))} == {"pairs"}


def test_an_export_of_an_onnx_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    encoder = save_encoder(tiny_checkpoint, tmp_path / "model.onnx")
    recorder = Recorder()
    export(tiny_checkpoint, tmp_path / "bundle", from_onnx=encoder, show_progress_bar=recorder)
    of_file = ["Appending the modules" if name == "Tracing the model" else name for name in AFTER]
    of_file.remove("Rewriting the graph")
    assert recorder.names == [*BEFORE, *of_file, *LAST]
    recorder.assert_complete()
