"""What cannot be exported exactly is refused by name, and leaves nothing behind."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import CNN, Pooling, WeightedLayerPooling
from torch import nn

from monograph import Bundle, ExportError, ParityError, UnsupportedModuleError
from monograph_export import export
from monograph_export.graph.passes import apply_passes
from support import checkpoints


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def assert_refused(source: Any, tmp_path: Path, error: type[ExportError], *words: str) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error) as caught:
        export(source, tmp_path / "bundle")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before, "something was left behind"


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.models.CNN",
        "sentence_transformers.models.LSTM",
        "sentence_transformers.models.BoW",
        "sentence_transformers.models.WeightedLayerPooling",
        "sentence_transformers.models.NoSuchModule",
        "modeling_custom.OwnModule",
        "os.system",
    ],
)
def test_an_unsupported_module_is_named_before_anything_is_loaded(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    edit(checkpoint / "modules.json", lambda modules: [*modules, {"idx": 9, "name": "9", "path": "", "type": kind}])
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, kind, "Pooling")


def test_every_unsupported_module_and_setting_is_in_one_error(checkpoint: Path, tmp_path: Path) -> None:
    extra = {"idx": 9, "name": "9", "path": "", "type": "sentence_transformers.models.CNN"}
    edit(checkpoint / "modules.json", lambda modules: [*modules, extra])
    edit(checkpoint / "sentence_bert_config.json", lambda config: {**config, "query_length": 32})
    edit(checkpoint / "2_Dense" / "config.json", lambda config: {**config, "activation_function": "own.Swish"})
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, "models.CNN", "query_length", "own.Swish")


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}),
        ("sentence_bert_config.json", {"query_length": 32}),
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "../another"}),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 8}}}),
        ("sentence_bert_config.json", {"modality_config": {"message": {"method": "forward"}}}),
    ],
)
def test_a_setting_that_changes_vectors_is_named(
    file: str, settings: dict[str, Any], checkpoint: Path, tmp_path: Path
) -> None:
    edit(checkpoint / file, lambda config: {**config, **settings})
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, *map(str.strip, settings), "Transformer")


class Doubled(nn.Module):
    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return features | {"sentence_embedding": features["sentence_embedding"] * 2}


class OwnPooling(Pooling):  # type: ignore[misc]
    pass


@pytest.mark.parametrize(
    "module",
    [Doubled(), OwnPooling(24), CNN(24), WeightedLayerPooling(24)],
    ids=lambda module: type(module).__name__,
)
def test_a_loaded_model_with_an_unsupported_module_is_refused(
    module: nn.Module, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    model.append(module)
    assert_refused(model, tmp_path, UnsupportedModuleError, type(module).__name__)


class Payload:
    """A pickle that writes a file where it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "2_Dense/pytorch_model.bin"])
def test_a_pickle_with_code_is_not_run(file: str, checkpoint: Path, tmp_path: Path) -> None:
    path, target = checkpoint / file, tmp_path / "was-run"
    (path.parent / "model.safetensors").unlink()
    path.write_bytes(pickle.dumps({"weight": Payload(target)}))
    assert_refused(checkpoint, tmp_path, ExportError, str(checkpoint))
    assert not target.exists()


def test_old_checkpoints_of_plain_tensors_are_loaded(checkpoint: Path, tmp_path: Path) -> None:
    for folder in (checkpoint, checkpoint / "2_Dense"):
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    assert export(checkpoint, tmp_path / "bundle").manifest.section.dimension == 24


@pytest.mark.parametrize("path", ["../elsewhere", "/etc"])
def test_a_module_path_outside_the_checkpoint_is_refused(path: str, checkpoint: Path, tmp_path: Path) -> None:
    edit(checkpoint / "modules.json", lambda modules: [modules[0], {**modules[1], "path": path}, *modules[2:]])
    assert_refused(checkpoint, tmp_path, ExportError, path, "leaves the folder")


def test_damaged_checkpoints_are_one_line_errors(checkpoint: Path, tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent", tmp_path, ExportError, "not a folder")
    weights = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert_refused(checkpoint, tmp_path, ExportError, "model.safetensors cannot be read", "download it again")
    (checkpoint / "modules.json").write_text("[")
    assert_refused(checkpoint, tmp_path, ExportError, "modules.json")
    (checkpoint / "modules.json").unlink()
    (checkpoint / "config.json").unlink()
    assert_refused(checkpoint, tmp_path, ExportError, "not a checkpoint")


@pytest.mark.parametrize("kind", ["CrossEncoder"])
def test_a_model_of_another_type_is_refused(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    """Sentence Transformers loads it with mean pooling in place of its modules, and says so in a log only."""
    edit(checkpoint / "config_sentence_transformers.json", lambda config: {**config, "model_type": kind})
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, kind)


def test_a_classifier_without_its_head_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "modules.json").unlink()
    edit(checkpoint / "config.json", lambda config: {**config, "architectures": ["BertForSequenceClassification"]})
    assert_refused(checkpoint, tmp_path, ExportError, "incomplete", "classifier")


def test_a_checkpoint_that_lacks_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """transformers fills what is missing with random numbers, and says so in a log only."""
    file = checkpoint / "model.safetensors"
    weights = load_file(file)
    remaining = {name: value for name, value in weights.items() if "layer.0.attention" not in name}
    assert len(remaining) < len(weights)
    save_file(remaining, file, metadata={"format": "pt"})
    assert_refused(checkpoint, tmp_path, ExportError, "incomplete", "layer.0.attention")


def test_a_missing_pooler_is_no_loss(checkpoint: Path, tmp_path: Path) -> None:
    file = checkpoint / "model.safetensors"
    remaining = {name: value for name, value in load_file(file).items() if not name.startswith("pooler.")}
    save_file(remaining, file, metadata={"format": "pt"})
    assert export(checkpoint, tmp_path / "bundle").manifest.quality.verifications[0].passed


def test_weights_that_are_not_finite_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    file = checkpoint / "2_Dense" / "model.safetensors"
    weights = load_file(file)
    weights["linear.bias"][3] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    assert_refused(checkpoint, tmp_path, ExportError, "not finite")


def test_a_checkpoint_without_pooling_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    edit(checkpoint / "modules.json", lambda modules: [modules[0], modules[3]])
    assert_refused(checkpoint, tmp_path, UnsupportedModuleError, "no Pooling")


def of_another_width(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", lambda config: {**config, "hidden_size": 48})


def of_an_unknown_type(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", lambda config: {**config, "model_type": "bert_of_tomorrow"})


def with_code_of_its_own(checkpoint: Path) -> None:
    (checkpoint / "modeling_own.py").write_text("raise SystemExit\n")
    own = {"model_type": "own", "auto_map": {"AutoConfig": "modeling_own.Config", "AutoModel": "modeling_own.Model"}}
    edit(checkpoint / "config.json", lambda config: {**config, **own})


def of_more_layers(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", lambda config: {**config, "num_hidden_layers": 4})


def of_an_unknown_activation(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", lambda config: {**config, "hidden_act": "gelu\x1b[0mown"})


def with_a_function_for_an_activation(checkpoint: Path) -> None:
    edit(checkpoint / "2_Dense" / "config.json", lambda c: {**c, "activation_function": "torch.nn.functional.relu"})


def without_an_activation(checkpoint: Path) -> None:
    edit(checkpoint / "2_Dense" / "config.json", lambda config: {**config, "activation_function": None})


def with_a_page_for_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"<!doctype html>")


def quantized(checkpoint: Path) -> None:
    edit(checkpoint / "config.json", lambda config: {**config, "quantization_config": {"quant_method": "gptq"}})


def an_adapter(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))


def without_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()


def without_a_layer_s_bias(checkpoint: Path) -> None:
    file = checkpoint / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": load_file(file)["linear.weight"]}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (of_another_width, ("of its weights have other shapes than config.json states",)),
        (of_an_unknown_type, ("does not know the model_type 'bert_of_tomorrow'", "pip install -U transformers")),
        (of_more_layers, ("its files lack", "encoder.layer.{1, 2, 3}.", "incomplete")),
        (of_an_unknown_activation, ("has no hidden_act",)),
        (with_a_function_for_an_activation, ("torch.nn.functional.relu, which is no module of torch.nn",)),
        (without_an_activation, ("activation_function None",)),
        (with_a_page_for_weights, ("pytorch_model.bin is no file of weights", "download it again")),
        (with_code_of_its_own, ("needs code of its own (auto_map in config.json)", "never runs")),
        (quantized, ("quantized already (gptq)", "--precision int8")),
        (an_adapter, ("adapter of PEFT", "merge_and_unload")),
        (without_weights, ("it has no weights", "download them too")),
        (without_a_layer_s_bias, ("linear.bias",)),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_its_cause(
    damage: Callable[[Path], None], words: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    damage(checkpoint)
    assert_refused(checkpoint, tmp_path, ExportError, str(checkpoint), *words)


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([Dense(32, 16, module_input_name="absent")], ("'absent'", "no module before it writes", "Dense (idx 2)")),
        ([Dense(32, 16, module_output_name="attention_mask")], ("module_output_name 'attention_mask'",)),
        (
            [Dense(32, 16, module_input_name="token_embeddings", module_output_name="sentence_embedding")],
            ("leave vectors of tokens as sentence_embedding",),
        ),
        ([Dense(32, 32, module_output_name="token_embeddings"), Pooling(32)], ("leaves vectors of texts",)),
    ],
)
def test_features_that_make_no_vector_are_refused_by_module_and_setting(
    modules: list[nn.Module], words: tuple[str, ...], tmp_path: Path
) -> None:
    model = SentenceTransformer(str(checkpoints.tiny(tmp_path / "model", normalize=False)), device="cpu")
    for module in modules:
        model.append(module)
    assert_refused(model, tmp_path, UnsupportedModuleError, *words)


def test_a_model_card_that_is_not_yaml_is_no_obstacle(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "README.md").write_text("---\nlicense: [mit\n---\nA model.\n")
    assert export(checkpoint, tmp_path / "bundle").manifest.source.license is None


def test_a_tokenizer_larger_than_the_table_is_refused(tmp_path: Path) -> None:
    config = {**checkpoints.TINY_BERT, "vocab_size": 900}
    folder = checkpoints.tiny(tmp_path / "model", config=config)
    assert_refused(folder, tmp_path, ExportError, "900 rows")


def test_wrong_options_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"task": "rerank"}, {"precision": "int4"}, {"recipe": "absent"}, {"recipe": "LaBSE"}, {"table": "int4"},
        {"calibration": __file__}, {"reduce_range": True}, {"min_worst_cosine": float("nan")}, {"min_mean_cosine": 2},
        {"precision": "int8", "calibration": tmp_path / "absent"},
    )  # fmt: skip
    for options in wrong:
        with pytest.raises(ExportError):
            export(tiny_checkpoint, tmp_path / "bundle", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_not_touched(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    with pytest.raises(ExportError, match="no folder"):
        export(tiny_checkpoint, tmp_path / "absent" / "bundle")
    for name in ("file", "folder", "link"):
        with pytest.raises(ExportError, match="exists already"):
            export(tiny_checkpoint, tmp_path / name)
    assert (tmp_path / "folder" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"


def test_a_graph_that_differs_from_torch_leaves_no_bundle(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight of the traced graph is moved by a thousandth; the verification must see it."""
    real = apply_passes

    def damaged(*arguments: Any) -> Any:
        import onnx_ir as ir

        model: Any = real(*arguments)
        bias = next(value for name, value in model.graph.initializers.items() if name.endswith("linear.bias"))
        bias.const_value = ir.tensor(bias.const_value.numpy() + 1e-3)
        return model

    monkeypatch.setattr("monograph_export.torch_model.apply_passes", damaged)
    assert_refused(tiny_checkpoint, tmp_path, ParityError, "max abs difference")


def test_export_returns_the_bundle_it_wrote(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    bundle = export(tiny_checkpoint, tmp_path / "empty")
    assert isinstance(bundle, Bundle)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export(tiny_checkpoint, ".").path == tmp_path / "here"
    shutil.rmtree(tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]
    names = {path.name for path in bundle.path.iterdir()}
    assert names == {
        "manifest.json",
        "model.onnx",
        "model.onnx.data",
        "tokenizer.json",
        "probes.json",
        "measurements.json",
    }
