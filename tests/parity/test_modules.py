"""Every pooling mode, their concatenation and Dense activations equal sentence-transformers at batch size 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling, StaticEmbedding

from monograph import Embedder, ExportError
from monograph.bundle import open_bundle
from monograph_export import export
from monograph_export.probe_texts import probe_sentences
from support import checkpoints
from support.parity import assert_close

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


def exported(model: Any, folder: Path, **options: Any) -> Path:
    bundle = export(model, folder, **options)
    assert all(result.passed for result in bundle.manifest.quality.verifications)
    return bundle.path


def assert_equal_to_torch(model: SentenceTransformer, folder: Path) -> None:
    with Embedder(exported(model, folder), device="cpu") as embedder:
        actual = embedder.encode(TEXTS)
    assert_close(actual, model.encode(TEXTS, batch_size=1, show_progress_bar=False))


# All of them in a row: each mode's part of the vector is compared. Of "cls" alone the last layer is another.
@pytest.mark.parametrize(
    "pooling",
    [
        tuple(Pooling.POOLING_MODES),
        pytest.param("cls", marks=pytest.mark.slow),
        pytest.param("lasttoken", marks=pytest.mark.slow),
        pytest.param("weightedmean", marks=pytest.mark.slow),
        pytest.param(("lasttoken", "mean"), marks=pytest.mark.slow),
    ],
)
def test_pooling(pooling: Any, transformer: Path, tmp_path: Path) -> None:
    model = checkpoints.build_model(transformer, max_length=64, pooling=pooling, normalize=False)
    assert_equal_to_torch(model, tmp_path / "bundle")


@pytest.mark.parametrize(
    "activations", [ACTIVATIONS[0], *(pytest.param(names, marks=pytest.mark.slow) for names in ACTIVATIONS[1:])]
)
def test_dense_activations(activations: tuple[str, ...], transformer: Path, tmp_path: Path) -> None:
    layers = [
        {"in_features": 32, "out_features": 32, "bias": activation != "ReLU", "activation": activation}
        for activation in activations
    ]
    model = checkpoints.build_model(transformer, max_length=64, dense=layers, normalize=False)
    assert_equal_to_torch(model, tmp_path / "bundle")


def test_dense_stack_with_residual_layer_norm_dropout_and_normalize(transformer: Path, tmp_path: Path) -> None:
    layers = [
        {"in_features": 64, "out_features": 48, "bias": True, "activation": "Tanh", "use_residual": True},
        {"in_features": 48, "out_features": 16, "bias": False, "activation": "Identity"},
    ]
    model = checkpoints.build_model(transformer, max_length=64, pooling=("mean", "max"), dense=layers)
    norm = LayerNorm(64)
    with torch.no_grad():
        norm.norm.weight.normal_(1, 0.3)
        norm.norm.bias.normal_(0, 0.3)
    model.insert(2, Dropout(0.5))
    model.insert(3, norm)
    assert_equal_to_torch(model, tmp_path / "bundle")


def test_features_of_other_names_are_passed_on(transformer: Path, tmp_path: Path) -> None:
    """As two heads have them: the vector is that of the sentence_embedding, whatever the last module writes."""
    model = checkpoints.build_model(transformer, max_length=64, normalize=False)
    torch.manual_seed(4)
    model.insert(1, Dense(32, 24, module_input_name="token_embeddings", module_output_name="own"))
    model.insert(2, Dense(24, 32, module_input_name="own", module_output_name="token_embeddings"))
    model.append(Dense(32, 20, module_output_name="projected"))
    model.append(Normalize(module_input_name="projected", module_output_name="sentence_embedding"))
    model.append(Dense(20, 8, module_output_name="unused"))
    assert_equal_to_torch(model, tmp_path / "bundle")
    section = open_bundle(tmp_path / "bundle").manifest.section
    assert (section.dimension, section.normalized) == (20, True)


PROMPTS = ("represent this: ", "one two three", "x", "a b [SEP]", "☃", "many words " * 40)


# The mean is what Instructor models have; all in a row because each mode leaves tokens out in a way of its own.
@pytest.mark.parametrize(
    "pooling", [pytest.param("mean", marks=pytest.mark.slow), tuple(Pooling.POOLING_MODES)], ids=["mean", "all"]
)
def test_prompts_left_out_of_the_pooling(pooling: Any, transformer: Path, tmp_path: Path) -> None:
    model = checkpoints.build_model(
        transformer, max_length=64, pooling=pooling, normalize=False, prompts={"query": "find: ", "document": ""}
    )
    model.set_pooling_include_prompt(False)
    model.save(str(tmp_path / "checkpoint"), create_model_card=False)
    bundle = export(tmp_path / "checkpoint", tmp_path / "bundle")
    assert "pooling_mask" in bundle.manifest.graphs[0].inputs
    assert any("prompted" in case.case for case in bundle.manifest.quality.verifications[0].cases)
    for device in ("cpu", "openvino"):
        with Embedder(bundle.path, device=device, compute_dtype="float32") as embedder:
            assert_close(embedder.encode(TEXTS), model.encode(TEXTS, batch_size=1))
            assert_close(embedder.encode_query(TEXTS), model.encode_query(TEXTS, batch_size=1))
            # The longest fills a text's 64 tokens: nothing is left to pool, and max is -inf in torch as well.
            for prompt in PROMPTS[: -1 if "max" in pooling else None]:
                assert_close(embedder.encode(TEXTS, prompt=prompt), model.encode(TEXTS, batch_size=1, prompt=prompt))


@pytest.fixture(scope="module")
def static() -> SentenceTransformer:
    torch.manual_seed(0)
    bag = StaticEmbedding(checkpoints.wordpiece(1000, lowercase=True), embedding_dim=48)
    return SentenceTransformer(modules=[bag, Normalize()], device="cpu")


def test_static_embedding(static: SentenceTransformer, tmp_path: Path) -> None:
    static.save(str(tmp_path / "checkpoint"), create_model_card=False)
    bundle = exported(tmp_path / "checkpoint", tmp_path / "bundle")
    expected = static.encode(TEXTS, batch_size=1, show_progress_bar=False)
    assert not expected[TEXTS.index("")].any(), "a text without tokens is zeros, no special token among them"
    for device in ("cpu", "openvino"):
        with Embedder(bundle, device=device) as embedder:
            assert_close(embedder.encode(TEXTS), expected)
            assert embedder.max_length is None


@pytest.mark.slow
def test_static_embedding_with_an_int8_table(static: SentenceTransformer, tmp_path: Path) -> None:
    bundle = exported(static, tmp_path / "bundle", table="int8")
    with Embedder(bundle, device="cpu") as embedder:
        actual, expected = embedder.encode(TEXTS), static.encode(TEXTS, batch_size=1)
    assert 0.9999 <= (actual * expected).sum(axis=1)[expected.any(axis=1)].min() < 1
    assert (bundle / "model.onnx.data").stat().st_size < 1000 * (48 + 4) + 4096


def test_what_a_static_embedding_does_not_have_is_refused(static: SentenceTransformer, tmp_path: Path) -> None:
    wrong: tuple[dict[str, Any], ...] = ({"precision": "int8"}, {"precision": "fp16"}, {"keep_scripts": "Latn"})
    for options in wrong:
        with pytest.raises(ExportError, match=r"StaticEmbedding.* leave out --"):
            export(static, tmp_path / "bundle", **options)


@pytest.mark.slow
def test_a_loaded_model_is_left_as_it_was(transformer: Path, tmp_path: Path) -> None:
    model = checkpoints.build_model(transformer, max_length=32).half()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, tmp_path / "bundle")
    after = model.state_dict()
    assert all(
        value.dtype == after[name].dtype and bool((value == after[name]).all()) for name, value in before.items()
    )
    assert model.max_seq_length == 32
