"""What cannot be exported from an ONNX file is refused by name, before anything is written."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from monograph import ExportError, ParityError, UnsupportedModuleError
from monograph_export import export
from monograph_export.from_onnx.encoder import open_encoder
from monograph_export.from_onnx.tokenizer import read_tokenizer
from monograph_export.from_onnx.weights import read_weights
from monograph_export.recipes import read_recipe
from support import encoders

Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.save_encoder(tiny_checkpoint, tmp_path_factory.mktemp("encoder") / "model.onnx")


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def edit(path: Path, change: Change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def assert_refused(source: Any, file: Path | str, error: type[ExportError], *words: str, **options: Any) -> None:
    output = (file if isinstance(file, Path) else Path(source)).parent / "bundle"
    with pytest.raises(error) as caught:
        export(source, output, from_onnx=file, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"precision": "int8"}, "--precision"),
        ({"precision": "fp16", "table": "int8"}, "--precision, --table"),
        ({"keep_scripts": "Latn"}, "--keep-scripts"),
        ({"keep_vocab": __file__}, "--keep-vocab"),
        ({"min_worst_cosine": 0.5}, "--min-worst-cosine"),
        ({"max_score_move": 0.5}, "--max-score-move"),
    ],
)
def test_options_that_change_weights(options: dict[str, Any], named: str, tiny_checkpoint: Path, encoder: Path) -> None:
    assert_refused(tiny_checkpoint, encoder, ExportError, f"{named} cannot go with --from-onnx", **options)


def test_a_loaded_model(tiny_checkpoint: Path, encoder: Path) -> None:
    model = SentenceTransformer(str(tiny_checkpoint), device="cpu")
    assert_refused(model, encoder, ExportError, "SentenceTransformer", "save the model")


def test_a_file_that_is_not_there_or_no_graph(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert_refused(tiny_checkpoint, tmp_path / "absent.onnx", ExportError, "there is no file", str(tiny_checkpoint))
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    assert_refused(tiny_checkpoint, tmp_path / "model.onnx", ExportError, "cannot be read as an ONNX graph")


def test_another_task_and_another_recipe(tiny_checkpoint: Path, encoder: Path) -> None:
    assert_refused(tiny_checkpoint, encoder, ExportError, "is an embedding model, not a cross-encoder", task="rerank")
    assert_refused(tiny_checkpoint, encoder, ExportError, "not of recipe LaBSE", recipe="LaBSE")
    assert read_recipe("LaBSE").dimension != 24


@pytest.mark.parametrize(
    ("extra", "error", "words"),
    [
        ({"type": "sentence_transformers.models.CNN"}, UnsupportedModuleError, "sentence_transformers.models.CNN"),
        ({"type": "sentence_transformers.models.StaticEmbedding"}, UnsupportedModuleError, "StaticEmbedding"),
        ({"type": "own.Pooling"}, UnsupportedModuleError, "own.Pooling"),
        ({"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}, UnsupportedModuleError, "one Pooling"),
    ],
)
def test_modules(extra: dict[str, Any], error: type[ExportError], words: str, checkpoint: Path, encoder: Path) -> None:
    module = {"idx": 9, "name": "9", "path": "", **extra}
    edit(checkpoint / "modules.json", lambda modules: [*modules, module])
    assert_refused(checkpoint, encoder, error, words)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt=False"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pooling_mode 'attention'"),
        ("2_Dense/config.json", {"activation_function": "own.Swish"}, "own.Swish"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.PReLU"}, "activation.PReLU"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name 'token_embeddings'"),
        ("sentence_bert_config.json", {"query_length": 32}, "setting query_length"),
        ("sentence_bert_config.json", {"processor_kwargs": {"model_max_length": 8}}, "setting processor_kwargs"),
        ("sentence_bert_config.json", {"module_output_name": "sentence_embedding"}, "module_output_name"),
    ],
)
def test_settings(file: str, change: dict[str, Any], words: str, checkpoint: Path, encoder: Path) -> None:
    edit(checkpoint / file, lambda config: {**config, **change})
    assert_refused(checkpoint, encoder, UnsupportedModuleError, words)


def test_weights_of_small_modules(checkpoint: Path, encoder: Path) -> None:
    folder = checkpoint / "2_Dense"
    weights = load_file(folder / "model.safetensors")
    save_file({"linear.weight": weights["linear.weight"]}, folder / "model.safetensors")
    assert_refused(checkpoint, encoder, ExportError, "lack linear.bias", "incomplete")
    save_file({**weights, "linear.bias": torch.zeros(3)}, folder / "model.safetensors")
    assert_refused(checkpoint, encoder, ExportError, "linear.bias is [3] and not [24]")
    save_file({**weights, "linear.bias": torch.zeros(24, dtype=torch.int32)}, folder / "model.safetensors")
    assert_refused(checkpoint, encoder, ExportError, "type I32")
    save_file({**weights, "linear.bias": torch.full((24,), torch.nan)}, folder / "model.safetensors")
    assert_refused(checkpoint, encoder, ExportError, "not finite")
    (folder / "model.safetensors").write_bytes(b"cut")
    assert_refused(checkpoint, encoder, ExportError, "cannot be read")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert_refused(checkpoint, encoder, ExportError, "only torch reads", "safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.bfloat16])
def test_weights_of_every_float_type_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    value = torch.randn(5, 7).to(dtype)
    save_file({"a": value}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(read_weights(tmp_path)["a"], value.float().numpy())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"add_eos_token": True}, "add_eos_token"),
        ({"add_bos_token": False}, "add_bos_token"),
        ({"eos_token": "<|end|>"}, "'<|end|>'"),
        ({"added_tokens_decoder": {"7": {"content": "<added>"}}}, "'<added>'"),
        # A word of the vocabulary becomes a token that is matched before the text is split.
        ({"extra_special_tokens": ["boat"]}, "'boat'"),
        ({"additional_special_tokens": [{"content": "boat"}]}, "'boat'"),
        ({"src_lang": "de_DE"}, "src_lang"),
        ({"fix_mistral_regex": True}, "fix_mistral_regex"),
    ],
)
def test_a_tokenizer_of_which_transformers_makes_another(
    settings: dict[str, Any], words: str, checkpoint: Path, encoder: Path
) -> None:
    edit(checkpoint / "tokenizer_config.json", lambda config: config | settings)
    assert_refused(checkpoint, encoder, ExportError, words, "export the checkpoint itself")


def test_a_name_that_is_a_file_here_and_another_in_the_checkpoint(
    checkpoint: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    for folder in (checkpoint, tmp_path / "here"):
        shutil.copy(encoder, folder / "model.onnx")
    monkeypatch.chdir(tmp_path / "here")
    assert_refused(checkpoint, "model.onnx", ExportError, "and another in", "whole path")
    monkeypatch.chdir(checkpoint)
    assert export(checkpoint, tmp_path / "bundle", from_onnx="model.onnx").manifest.section.dimension == 24


def test_weights_behind_a_link_that_leaves_the_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = onnx.load(encoders.save_encoder(tiny_checkpoint, tmp_path / "whole.onnx"))
    (tmp_path / "onnx").mkdir()
    onnx.save(model, tmp_path / "onnx" / "model.onnx", save_as_external_data=True, location="model.onnx_data")
    (tmp_path / "onnx" / "model.onnx_data").rename(tmp_path / "secret")
    (tmp_path / "onnx" / "model.onnx_data").symlink_to(tmp_path / "secret")
    assert_refused(
        tiny_checkpoint, tmp_path / "onnx" / "model.onnx", ExportError, "a link to", "outside the checkpoint"
    )


def test_a_tokenizer_that_is_missing_or_another_model_s(checkpoint: Path, encoder: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer.json").rename(tmp_path / "aside.json")
    assert_refused(checkpoint, encoder, ExportError, "has no tokenizer.json", "AutoTokenizer")
    more = json.loads((tmp_path / "aside.json").read_text())
    more["model"]["vocab"]["beyond"] = 1200
    (checkpoint / "tokenizer.json").write_text(json.dumps(more))
    assert_refused(checkpoint, encoder, ExportError, "1200 rows", "another model's")


def test_an_encoder_of_another_width(checkpoint: Path, encoder: Path) -> None:
    edit(checkpoint / "1_Pooling" / "config.json", lambda config: {**config, "embedding_dimension": 16})
    dense = checkpoint / "2_Dense"
    save_file({"linear.weight": torch.zeros(24, 16), "linear.bias": torch.zeros(24)}, dense / "model.safetensors")
    assert_refused(checkpoint, encoder, ExportError, "pools vectors of 16", "another model's")


def test_a_maximum_length_beyond_the_positions_is_lowered(
    checkpoint: Path, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(checkpoint / "sentence_bert_config.json", lambda config: {**config, "max_seq_length": 400})
    bundle = export(checkpoint, tmp_path / "lowered", from_onnx=encoder)
    assert bundle.manifest.tokenizer.max_length == 300
    assert "states a maximum length of 400 tokens, and has positions for 300" in caplog.text


def graph(**changed: Any) -> onnx.ModelProto:
    """Return a little graph with the structure of an encoder, and what of that is changed."""
    axes = ["batch", "sequence"]
    spec: dict[str, Any] = {
        "inputs": {"input_ids": (TensorProto.INT64, axes), "attention_mask": (TensorProto.INT64, axes)},
        "outputs": {"last_hidden_state": (TensorProto.FLOAT, [*axes, 32])},
        "opset": 14,
        "domain": "",
        **changed,
    }
    table = numpy_helper.from_array(np.zeros((1200, 32), np.float32), "table")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], [name], domain=spec["domain"]) for name in spec["outputs"]
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in spec[kind].items()]
        for kind in ("inputs", "outputs")
    )
    domains = {"": spec["opset"]} | ({spec["domain"]: 1} if spec["domain"] else {})
    return helper.make_model(
        helper.make_graph(nodes, "encoder", inputs, outputs, [table]),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in domains.items()],
    )


AXES = ["b", "s"]
BOTH = {"input_ids": (TensorProto.INT64, AXES), "attention_mask": (TensorProto.INT64, AXES)}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"inputs": {**BOTH, "position_ids": (TensorProto.INT64, AXES)}}, "needs the inputs position_ids"),
        ({"inputs": {**BOTH, "past_key_values.0.key": (TensorProto.FLOAT, AXES)}}, "past_key_values.0.key"),
        ({"inputs": {"input_ids": (TensorProto.INT64, AXES)}}, "has no input attention_mask"),
        ({"inputs": {**BOTH, "attention_mask": (TensorProto.INT64, [1, 128])}}, "any number of texts"),
        ({"inputs": {**BOTH, "attention_mask": (TensorProto.INT32, AXES)}}, "attention_mask is INT32"),
        (
            {"outputs": {"sentence_embedding": (TensorProto.FLOAT, ["b", 32])}},
            "gives sentence_embedding, and no vectors",
        ),
        ({"outputs": {"logits": (TensorProto.FLOAT, [*AXES, 32])}}, "gives logits"),
        ({"outputs": {"last_hidden_state": (TensorProto.FLOAT, ["b", 32])}}, "no vectors of tokens"),
        ({"outputs": {"last_hidden_state": (TensorProto.DOUBLE, [*AXES, 32])}}, "is DOUBLE"),
        ({"opset": 10}, "of opset 10"),
        ({"domain": "com.example"}, "operators of com.example"),
    ],
)
def test_graphs(changed: dict[str, Any], words: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    onnx.save(graph(**changed), tmp_path / "model.onnx")
    assert_refused(tiny_checkpoint, tmp_path / "model.onnx", ExportError, words, "export it again")


def test_weights_outside_the_folder_or_not_there(tiny_checkpoint: Path, encoder: Path, tmp_path: Path) -> None:
    file = tmp_path / "onnx" / "model.onnx"
    file.parent.mkdir()
    onnx.save(onnx.load(encoder), file, save_as_external_data=True, location="weights")
    (file.parent / "weights").rename(tmp_path / "weights")
    assert_refused(tiny_checkpoint, file, ExportError, "weights", "not there", "No such file")
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../weights" if entry.key == "location" else entry.value
    onnx.save(model, file)
    assert_refused(tiny_checkpoint, file, ExportError, "outside its folder")


def hidden(location: str) -> dict[str, Callable[[onnx.ModelProto], object]]:
    """Put a tensor of another file where onnx-ir reads none: only ONNX Runtime, which gives the reference, would."""
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("w", 1, [4])], [tensor])
    chosen = helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch)
    function = helper.make_function("local", "F", [], ["w"], [constant], [helper.make_opsetid("", 18)])
    return {
        "constant": lambda model: model.graph.node.append(constant),
        "branch": lambda model: model.graph.node.append(chosen),
        "function": lambda model: model.functions.append(function),
        "sparse initializer": lambda model: model.graph.sparse_initializer.add().values.CopyFrom(tensor),
        "training information": lambda model: model.training_info.add().algorithm.initializer.append(tensor),
        "two locations": lambda model: (
            model.graph.initializer.append(tensor),
            model.graph.initializer[-1].external_data.add(key="location", value="model.onnx"),
        ),
    }


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "*/_ORT_MEM_ADDR_/*", "none", "linked/secret", "."])
@pytest.mark.parametrize("place", hidden(""))
def test_weights_in_any_part_of_the_file_lie_in_its_folder(place: str, location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "linked").symlink_to(tmp_path)
    model = graph()
    hidden(location)[place](model)
    onnx.save(model, tmp_path / "onnx" / "model.onnx")
    with pytest.raises(ExportError, match=r"outside|not there|no file") as caught:
        open_encoder(tmp_path / "onnx" / "model.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operator", ["Loop", "Scan"])
def test_a_loop(operator: str, tmp_path: Path) -> None:
    model = graph()
    model.graph.node.append(helper.make_node(operator, [], ["looped"], body=helper.make_graph([], "body", [], [])))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=f"has {operator}, which no bundle may have"):
        open_encoder(tmp_path / "model.onnx")


def test_functions_that_call_functions_without_end(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(12):
        operator, domain = (f"level{level - 1}", "own") if level else ("Neg", "")
        names = ["x", *(f"step{step}" for step in range(9)), "y"]
        nodes = [helper.make_node(operator, names[i : i + 1], names[i + 1 : i + 2], domain=domain) for i in range(10)]
        functions.append(helper.make_function("own", f"level{level}", ["x"], ["y"], nodes, opsets))
    value = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", 24])
    node = helper.make_node("level11", ["x"], ["last_hidden_state"], domain="own")
    graph = helper.make_graph([node], "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)], [value])
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, functions=functions, opset_imports=opsets), file)
    with pytest.raises(ExportError, match="nodes within its functions"):
        open_encoder(file)


def test_a_graph_that_differs_leaves_no_bundle(
    tiny_checkpoint: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One module computes otherwise in ONNX than in NumPy; the verification must see it."""
    modules = importlib.import_module("monograph_export.from_onnx.modules")
    monkeypatch.setattr(modules.Normalize, "append", lambda _, append, value: append.op("Neg", value))
    assert_refused(tiny_checkpoint, encoder, ParityError, "with its modules in NumPy")


def test_a_missing_package_is_named_with_the_extra(
    tiny_checkpoint: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    words = "export from an ONNX file needs safetensors: pip install 'monograph[from-onnx,onnx]'"
    assert_refused(tiny_checkpoint, encoder, ExportError, words)


def test_a_tokenizer_that_cannot_be_read_is_named(checkpoint: Path, encoder: Path) -> None:
    (checkpoint / "tokenizer.json").write_text("{}")
    assert_refused(checkpoint, encoder, ExportError, "tokenizer.json cannot be read")
    (checkpoint / "tokenizer.json").unlink()
    assert_refused(checkpoint, encoder, ExportError, "has no tokenizer.json", "save it there")


@pytest.mark.parametrize("limit", [0, True, "many"])
def test_a_limit_that_is_no_number_of_tokens_is_named(limit: object, checkpoint: Path, encoder: Path) -> None:
    edit(checkpoint / "sentence_bert_config.json", lambda value: {**value, "max_seq_length": limit})
    assert_refused(checkpoint, encoder, ExportError, f"max_seq_length is {limit!r} and not a number of tokens")


def test_a_limit_that_special_tokens_fill_is_named(checkpoint: Path, encoder: Path) -> None:
    edit(checkpoint / "sentence_bert_config.json", lambda value: {**value, "max_seq_length": 1})
    assert_refused(checkpoint, encoder, ExportError, "a maximum length of 1 tokens leaves no room")


def test_a_padding_token_with_its_properties_is_read(checkpoint: Path) -> None:
    """As old configs have it; without one it is that of tokenizer.json."""
    config = checkpoint / "tokenizer_config.json"
    for token, expected in (({"content": "[MASK]", "lstrip": True}, "[MASK]"), ("[SEP]", "[SEP]")):
        edit(config, lambda value, token=token: {**value, "pad_token": token})  # type: ignore[misc]
        read = read_tokenizer(checkpoint, {})
        assert read.pad_id == read.tokenizer.token_to_id(expected)


def test_lower_casing_comes_first_whatever_the_tokenizer_does(checkpoint: Path) -> None:
    file = checkpoint / "tokenizer.json"
    nfkc = {"type": "NFKC"}
    for normalizer in (None, nfkc, {"type": "Sequence", "normalizers": [nfkc]}, {"type": "Lowercase"}):
        edit(file, lambda value, normalizer=normalizer: {**value, "normalizer": normalizer})  # type: ignore[misc]
        steps = read_tokenizer(checkpoint, {"do_lower_case": True}).tokenizer.normalizer
        assert steps.normalize_str("\u00c9CLAIR \ufb01") == (
            "éclair ﬁ" if normalizer in (None, {"type": "Lowercase"}) else "éclair fi"
        )
