"""Which cross-encoders are exported, which are refused by name, and what their graphs compute."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import nn

from monograph import ExportError, UnsupportedModuleError
from monograph.bundle import read_probes
from monograph.quality import LayersReport
from monograph.tasks.rerank import ScoreAgreement
from monograph_export import export
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.compression.options import Limits, RequestedLimits
from monograph_export.graph.passes import apply_passes
from monograph_export.graph.trace import trace
from monograph_export.tasks import task_of
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from monograph_export.tasks.rerank import RERANK_EXPORT
from support.checkpoints import TINY_BERT, save_transformer, wordpiece
from support.command import monograph
from support.cross_encoders import edit_config, save_classifier


@pytest.fixture
def checkpoint(tiny_cross_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny cross-encoder to damage."""
    return Path(shutil.copytree(tiny_cross_checkpoint, tmp_path / "checkpoint"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def assert_refused(source: Any, tmp_path: Path, error: type[ExportError], *words: str, **options: Any) -> None:
    with pytest.raises(error) as caught:
        export(source, tmp_path / "bundle", **options)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("missing", ["classifier", "pooler"])
def test_a_classifier_that_was_never_trained_is_refused(missing: str, checkpoint: Path, tmp_path: Path) -> None:
    file = checkpoint / "model.safetensors"
    weights = load_file(file)
    remaining = {name: value for name, value in weights.items() if missing not in name}
    assert len(remaining) < len(weights)
    save_file(remaining, file, metadata={"format": "pt"})
    assert_refused(checkpoint, tmp_path, ExportError, "incomplete", missing)


def test_an_encoder_that_is_called_a_cross_encoder_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "encoder"))
    (folder / "modules.json").unlink()
    edit(folder / "config_sentence_transformers.json", lambda config: {**config, "model_type": "CrossEncoder"})
    assert_refused(folder, tmp_path, UnsupportedModuleError, "BertModel is not exported")


@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.Tanh", "own_package.Identity", "Sigmoid"])
def test_another_activation_is_named(activation: str, checkpoint: Path, tmp_path: Path) -> None:
    settings = checkpoint / "config_sentence_transformers.json"
    edit(settings, lambda config: {**config, "activation_fn": activation})
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, f"activation {activation} is not exported")
    (checkpoint / "modules.json").unlink()
    edit_config(checkpoint, sbert_ce_default_activation_function=activation)
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, f"activation {activation} is not exported")


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["base.modules.Transformer", "cross_encoder.modules.logit_score.LogitScore"], "logit_score.LogitScore"),
        (["base.modules.Transformer", "models.Pooling", "base.modules.Dense"], "models.Pooling"),
        (["own.Transformer"], "own.Transformer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_modules_are_named(kinds: list[str], words: str, checkpoint: Path, tmp_path: Path) -> None:
    modules = [
        {"idx": i, "name": str(i), "path": "", "type": f"sentence_transformers.{k}"} for i, k in enumerate(kinds)
    ]
    (checkpoint / "modules.json").write_text(json.dumps(modules))
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, words, "only a Transformer that is a classifier")


def test_a_generative_reranker_is_named(checkpoint: Path, tmp_path: Path) -> None:
    edit_config(checkpoint, architectures=["Qwen3ForCausalLM"])
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, "Qwen3ForCausalLM")
    for file in ("modules.json", "config_sentence_transformers.json"):
        (checkpoint / file).unlink()
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, "Qwen3ForCausalLM", task="rerank")


def test_settings_that_change_scores_are_named(checkpoint: Path, tmp_path: Path) -> None:
    changed = {"transformer_task": "text-generation", "processing_kwargs": {"text": {"max_length": 8}}}
    edit(checkpoint / "sentence_bert_config.json", lambda config: {**config, **changed})
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, "text-generation", "processing_kwargs")


def test_the_other_task_is_refused_by_what_the_checkpoint_is(
    checkpoint: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    assert_refused(checkpoint, tmp_path, ExportError, "is a cross-encoder, not an embedding model", task="embedding")
    assert_refused(tiny_checkpoint, tmp_path, ExportError, "is an embedding model, not a cross-encoder", task="rerank")
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    assert_refused(model, tmp_path, ExportError, "the model is an embedding model", task="rerank")
    assert_refused(tiny_checkpoint, tmp_path, ExportError, "is an embedding model, not a sparse encoder", task="sparse")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_worst_cosine": 0.5, "min_mean_cosine": 0.9}, "--min-mean-cosine, --min-worst-cosine"),
        ({"keep_scripts": "Latn"}, "--keep-vocab or --keep-scripts"),
        ({"recipe": "all-MiniLM-L6-v2"}, "--recipe"),
    ],
    ids=str,
)
def test_options_of_embedding_models_are_refused(
    options: dict[str, Any], words: str, checkpoint: Path, tmp_path: Path
) -> None:
    assert_refused(checkpoint, tmp_path, ExportError, "this is a cross-encoder, which has no", words, **options)


def test_a_compressed_one_is_measured_by_its_scores(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(checkpoint, tmp_path / "bundle", precision="fp16", table="int8")
    compression = bundle.manifest.quality.compression
    assert compression is not None
    assert (compression.table, compression.layers) == ("int8", LayersReport("fp16"))
    agreement = compression.agreement
    assert isinstance(agreement, ScoreAgreement)
    assert agreement.spearman > 0.99
    assert 0 < agreement.mean_difference <= agreement.worst_difference < 0.1
    assert bundle.manifest.graphs[0].precision == "fp16"
    words = monograph("info", bundle.path).stdout.decode()
    assert "table int8, layers fp16" in words
    assert "rank correlation of scores" in words


def test_scores_that_move_too_far_violate_the_limits() -> None:
    reference = np.linspace(-5, 5, 101, dtype=np.float32)[:, np.newaxis]
    agreement = RERANK_EXPORT.agreement
    exact = agreement(reference, reference)
    assert exact.spearman == pytest.approx(1)
    assert (exact.mean_difference, exact.worst_difference) == (0, 0)
    moved = reference.copy()
    moved[3] += 1.5
    limits = RequestedLimits({}, "fp32").of(RERANK_EXPORT.limits)
    assert limits.violations(exact) == ()
    words = "a score moves by 15.00% of the spread, above 10.00%"
    assert limits.violations(agreement(reference, moved)) == (words,)
    for logits in (-reference, np.zeros_like(reference), np.full_like(reference, np.nan)):
        assert len(limits.violations(agreement(reference, logits))) == 2
    wider = Limits(dict(zip(RERANK_EXPORT.limits, (0.9, 0.2), strict=True)))
    assert wider.violations(agreement(reference, moved)) == ()


def test_a_cross_encoder_is_not_exported_from_an_onnx_file(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.onnx").write_bytes(b"")
    assert_refused(
        checkpoint,
        tmp_path,
        ExportError,
        "a cross-encoder cannot be exported from an ONNX file",
        from_onnx="model.onnx",
    )


@pytest.mark.slow
def test_a_loaded_model_is_exported_and_left_as_it_is(checkpoint: Path, tmp_path: Path) -> None:
    model = CrossEncoder(str(checkpoint), device="cpu", activation_fn=nn.Identity())
    linear = "0.model.classifier"
    model.set_keep_in_fp32_modules([linear])
    bundle = export(model, tmp_path / "bundle")
    assert bundle.manifest.section.activation == "Identity"
    assert model.keep_in_fp32_modules == [linear]
    model.activation_fn = nn.Tanh()
    with pytest.raises(UnsupportedModuleError, match="Tanh is not exported"):
        export(model, tmp_path / "other")


def test_probes_are_pairs_of_every_length(tiny_cross_bundle: Path) -> None:
    [probes] = read_probes(tiny_cross_bundle)
    assert all(isinstance(pair, tuple) for pair in probes.texts)
    assert ("", "") in probes.texts
    assert {*range(3, 65)} <= set(probes.token_counts)
    assert max(probes.token_counts) == 64
    firsts = [len(pair[0].split()) for pair in probes.texts]
    assert sum(count > 64 for count in firsts) == 2


@pytest.mark.parametrize("architecture", ["BERT", "ELECTRA"])
def test_the_last_layer_is_computed_for_the_first_token(architecture: str, tmp_path: Path) -> None:
    config = {"num_hidden_layers": 2}
    model = CrossEncoder(str(save_classifier(architecture, tmp_path / "model", **config)), device="cpu")
    graph = apply_passes(trace(model, RERANK_EXPORT)).graph
    products = [node for node in graph if node.op_type == "MatMul" and len(node.outputs[0].shape or ()) == 3]
    of_one = [node for node in products if list(node.outputs[0].shape or ())[1] == 1]
    # Query, attention output and the two of the feed-forward. Of all tokens are keys and values, and the layer before.
    assert len(of_one) == 4
    assert len(products) == len(of_one) + 2 + 6 + len(_before_layers(architecture))


def _before_layers(architecture: str) -> list[str]:
    """ELECTRA widens its embeddings by a product of their own."""
    return ["embeddings_project"] if architecture == "ELECTRA" else []


def test_a_classifier_that_names_no_architecture_is_known_by_its_head(tmp_path: Path) -> None:
    folder = edit_config(save_classifier("BERT", tmp_path / "classifier"), architectures=None)
    for requested in (None, "rerank"):
        task = task_of(read_checkpoint(folder), requested)
        assert task is RERANK_EXPORT
        assert task.load(read_checkpoint(folder)).main.num_labels == 1


def test_a_body_that_names_no_architecture_has_no_head(tmp_path: Path) -> None:
    folder = save_transformer({**TINY_BERT}, wordpiece(1000, lowercase=True), tmp_path / "body")
    edit_config(folder, architectures=None)
    assert task_of(read_checkpoint(folder), None) is EMBEDDING_EXPORT
    with pytest.raises(ExportError, match=r"classifier.* the checkpoint is incomplete"):
        task_of(read_checkpoint(folder), "rerank").load(read_checkpoint(folder))


@pytest.mark.slow
def test_texts_are_padded_with_the_id_that_a_decoder_s_classifier_takes_for_padding(tmp_path: Path) -> None:
    """It scores at the last token that is another; its tokenizer may pad with one of another id."""
    folder = save_classifier("Qwen2", tmp_path / "classifier", pad_token_id=3)
    manifest = export(folder, tmp_path / "padded").manifest
    assert manifest.tokenizer.pad_id == 3 != CrossEncoder(str(folder), device="cpu").tokenizer.pad_token_id
    # Verified in ragged batches.
    assert all(result.passed for result in manifest.quality.verifications)
    edit_config(folder, pad_token_id=None)
    assert_refused(folder, tmp_path, ExportError, "its config.json has no pad_token_id")
