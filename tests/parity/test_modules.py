"""Every pooling mode, their concatenation and Dense activations equal sentence-transformers at batch size 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

from monograph import Embedder
from monograph_export import export
from monograph_export.probe_texts import probe_sentences
from support import checkpoints

TEXTS = [*probe_sentences()[:20], "", "one", "many words " * 60]
# A stack of Dense layers each: an export takes seconds, and one wrong activation makes all behind it wrong.
ACTIVATIONS = (
    ("Tanh", "ReLU", "GELU", "Sigmoid"),
    ("SiLU", "Identity", "LeakyReLU", "ELU"),
    ("Softplus", "Mish", "Hardtanh"),
)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    return checkpoints.save_transformer(checkpoints.TINY_BERT, checkpoints.wordpiece(1000, lowercase=True), folder)


def assert_equal_to_torch(model: SentenceTransformer, folder: Path) -> None:
    bundle = export(model, folder)
    assert all(verdict["passed"] for verdict in bundle.manifest.quality["verdicts"])
    expected = model.encode(TEXTS, batch_size=1, show_progress_bar=False)
    with Embedder(bundle.path, device="cpu") as embedder:
        found = embedder.encode(TEXTS)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, float(np.abs(expected).max()))


# All of them in a row: each mode's part of the vector is compared.
@pytest.mark.parametrize("pooling", [tuple(Pooling.POOLING_MODES), "cls", "weightedmean", ("lasttoken", "mean")])
def test_pooling(pooling: Any, transformer: Path, tmp_path: Path) -> None:
    model = checkpoints.assemble(transformer, max_length=64, pooling=pooling, normalize=False)
    assert_equal_to_torch(model, tmp_path / "bundle")


@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_dense_activations(activations: tuple[str, ...], transformer: Path, tmp_path: Path) -> None:
    layers = [
        {"in_features": 32, "out_features": 32, "bias": activation != "ReLU", "activation": activation}
        for activation in activations
    ]
    model = checkpoints.assemble(transformer, max_length=64, dense=layers, normalize=False)
    assert_equal_to_torch(model, tmp_path / "bundle")


def test_dense_stack_with_residual_layer_norm_dropout_and_normalize(transformer: Path, tmp_path: Path) -> None:
    layers = [
        {"in_features": 64, "out_features": 48, "bias": True, "activation": "Tanh", "use_residual": True},
        {"in_features": 48, "out_features": 16, "bias": False, "activation": "Identity"},
    ]
    model = checkpoints.assemble(transformer, max_length=64, pooling=("mean", "max"), dense=layers)
    norm = LayerNorm(64)
    with torch.no_grad():
        norm.norm.weight.normal_(1, 0.3)
        norm.norm.bias.normal_(0, 0.3)
    model.insert(2, Dropout(0.5))
    model.insert(3, norm)
    assert_equal_to_torch(model, tmp_path / "bundle")


def test_a_loaded_model_is_left_as_it_was(transformer: Path, tmp_path: Path) -> None:
    model = checkpoints.assemble(transformer, max_length=32).half()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, tmp_path / "bundle")
    after = model.state_dict()
    assert all(
        value.dtype == after[name].dtype and bool((value == after[name]).all()) for name, value in before.items()
    )
    assert model.max_seq_length == 32
