"""What the traced graph has before the passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from sentence_transformers import SentenceTransformer
from torch import nn

from monograph import ExportError
from monograph_export.graph.trace import trace
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support import checkpoints


def test_layers_weights_stay_as_torch_has_them(tmp_path: Path) -> None:
    """Transposed in the file, they are a copy more in OpenVINO, which transposes them back."""
    dense = [{"in_features": 32, "out_features": 16, "activation": "Tanh"}]
    model = SentenceTransformer(str(checkpoints.tiny(tmp_path, dense=dense)), device="cpu")
    traced = trace(model, EMBEDDING_EXPORT)
    # Without BERT's pooler, whose output no Sentence Transformer reads.
    layers = [part for name, part in model.named_modules() if isinstance(part, nn.Linear) and "pooler" not in name]
    assert len(layers) > 6
    transposed = [node.inputs[0] for node in traced.graph if node.op_type == "Transpose"]
    # A product of matrices, behind the pooling, transposes by an attribute.
    transposed += [
        node.inputs[1] for node in traced.graph if node.op_type == "Gemm" and node.attributes["transB"].value
    ]
    weights = [value for value in transposed if value is not None and value.is_initializer()]
    assert sorted(_shape(value) for value in weights) == sorted(tuple(layer.weight.shape) for layer in layers)
    products = [node.inputs[1] for node in traced.graph if node.op_type == "MatMul"]
    assert not any(value is not None and value.is_initializer() for value in products)


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())


UNTRACEABLE: dict[str, tuple[dict[str, Any], str]] = {
    "Longformer": (
        {"model_type": "longformer", "attention_window": [8], "sep_token_id": 2},
        "modeling_longformer.py",
    ),
    "Qwen3Moe": (
        {
            "model_type": "qwen3_moe",
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
        },
        "ONNX has no form of its operator",
    ),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind == "Qwen3Moe" else kind for kind in UNTRACEABLE]
)
def test_what_cannot_be_traced_is_one_line_with_its_cause(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, words = UNTRACEABLE[kind]
    small = {
        "vocab_size": 1500, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 100, "bos_token_id": 0, "pad_token_id": 1,
        "eos_token_id": 2,
    }  # fmt: skip
    body = checkpoints.save_transformer(small | config, checkpoints.byte_level_bpe(1500), tmp_path)
    model = checkpoints.build_model(body, max_length=64)
    capfd.readouterr()
    with pytest.raises(ExportError, match=f"torch cannot trace {kind}Model: ") as caught:
        trace(model, EMBEDDING_EXPORT)
    message = str(caught.value)
    assert words in message
    assert "--from-onnx" in message
    assert message.isprintable(), "control codes or several lines"
    printed = capfd.readouterr()
    assert "\x1b" not in printed.err
    assert "torch.ops" not in printed.err + printed.out, "the graph of a failure is for --debug"
