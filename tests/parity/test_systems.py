"""The systems of the recipes equal sentence-transformers, and plain torch where a model card prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from monograph import Embedder
from monograph_export import export
from monograph_export.probe_texts import probe_sentences
from monograph_export.recipes import Recipe, read_recipe, recipe_names
from support import checkpoints
from support.command import monograph

KABARDIAN = "LaBSE-kbd-v0.2"
# With real weights in half of the tests, and at its full size below.
# LaBSE has what the others have; these run by night.
OTHERS = tuple(name for name in recipe_names() if "LaBSE" not in name)


def shrunk(recipe: Recipe) -> Recipe:
    """Return the recipe with a table of 2,000 rows and one narrow layer: the same structure, a fraction of the work."""
    config = dict(recipe.architecture["config"])
    distilled = config["model_type"] == "distilbert"
    config["vocab_size"] = 2000
    config["n_layers" if distilled else "num_hidden_layers"] = 1
    config["hidden_dim" if distilled else "intermediate_size"] = 512
    return Recipe(**{**vars(recipe), "architecture": {**recipe.architecture, "config": config}})


def embed_both(checkpoint: Path, bundle: Path, texts: list[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    reference = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    with Embedder(bundle, device="cpu") as model:
        return model.encode(texts), reference.encode(texts, batch_size=1, show_progress_bar=False)


# The Kabardian model has a test of its own below.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in OTHERS else name
        for name in recipe_names()
        if name != KABARDIAN
    ],
)
def test_recipe_exports_and_equals_torch(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    checkpoint = checkpoints.from_recipe(shrunk(recipe), tmp_path)
    bundle = export(checkpoint, tmp_path / "bundle", recipe=name)
    texts = [*probe_sentences(), "", "long " * 600]
    actual, expected = embed_both(checkpoint, bundle.path, texts)
    assert actual.shape == (len(texts), recipe.dimension)
    assert np.abs(actual - expected).max() <= recipe.tolerance * max(1.0, float(np.abs(expected).max()))
    assert bundle.manifest.section.normalized == recipe.normalized
    assert bundle.manifest.source.name == (recipe.repository or name)


# LaBSE at its size, and with it the Kabardian model's, is scripts/full-size.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipe_names() if "LaBSE" not in name])
def test_recipe_at_its_exact_size(name: str, tmp_path: Path) -> None:
    """Export, verify and use by the command line, with all the rows, layers and dimensions that the recipe has."""
    recipe = read_recipe(name)
    checkpoint = checkpoints.from_recipe(recipe, tmp_path)
    exported = monograph("export", checkpoint, tmp_path / "bundle", "--recipe", name, "--table", "fp32")
    assert exported.returncode == 0, exported.stderr
    verified = monograph("verify", tmp_path / "bundle")
    assert verified.returncode == 0, verified.stderr
    actual, expected = embed_both(checkpoint, tmp_path / "bundle", [*probe_sentences(), "", "long " * 600])
    difference = np.abs(actual - expected).max() / max(1.0, float(np.abs(expected).max()))
    size = (tmp_path / "bundle" / "model.onnx.data").stat().st_size
    print(f"\n{name}: {size / 1e6:,.0f} MB of weights, max abs difference {difference:.1e}")
    assert difference <= recipe.tolerance


@pytest.mark.slow
def test_128_dimension_model_equals_the_cards_mean_pooling(tmp_path: Path) -> None:
    """The masked mean that model cards print, in plain torch and transformers, from the same weights."""
    checkpoint = checkpoints.from_recipe(read_recipe("bert-mean-128"), tmp_path)
    bundle = export(checkpoint, tmp_path / "bundle")
    texts = probe_sentences()
    tokenizer, encoder = AutoTokenizer.from_pretrained(checkpoint), AutoModel.from_pretrained(checkpoint)
    encoder.eval()
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1).float()
    expected = ((hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)).numpy()
    with Embedder(bundle.path, device="cpu") as model:
        actual = model.encode(texts)
    assert actual.shape == (len(texts), 128)
    assert np.abs(actual - expected).max() <= 1e-5 * max(1.0, float(np.abs(expected).max()))
    assert np.abs(np.linalg.norm(actual, axis=1) - 1).min() > 0.1, "without Normalize vectors are not of unit length"


def test_kabardian_layout_gives_the_same_modules_and_vectors(tmp_path: Path) -> None:
    """The spelling of sentence-transformers 3.4.1: models.* types, a flag a pooling mode, include_prompt."""
    recipe = read_recipe(KABARDIAN)
    checkpoint = checkpoints.from_recipe(shrunk(recipe), tmp_path)
    before = SentenceTransformer(str(checkpoint), device="cpu")
    legacy = export(checkpoints.respell_as_legacy(checkpoint), tmp_path / "legacy", recipe=KABARDIAN)
    kinds = [type(module).__name__ for module in SentenceTransformer(str(checkpoint), device="cpu")]
    assert kinds == ["Transformer", "Pooling", "Dense", "Normalize"]
    texts = [*probe_sentences(), "Нобэ дунейр дахэщ.", "псыхъуэ Ӏуфэ", "", "long " * 600]
    actual, expected = embed_both(checkpoint, legacy.path, texts)
    assert actual.shape == (len(texts), 768)
    assert np.abs(actual - expected).max() <= recipe.tolerance
    assert legacy.manifest.source.name == recipe.repository
    np.testing.assert_array_equal(before.encode(texts, batch_size=1, show_progress_bar=False), expected)
