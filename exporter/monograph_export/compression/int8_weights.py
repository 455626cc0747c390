"""Give a transformer's linear layers int8 weights with a scale for each group of inputs; activations stay float32."""

from __future__ import annotations

import torch
from sentence_transformers.base.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional

from monograph.errors import ExportError
from monograph.inputs import Input
from monograph_export.compression.activation_stats import layers_of_encoder
from monograph_export.compression.int8 import quantize_rows

# Inputs of an output that share a scale, at most. With one scale for all inputs MiniLM's mean cosine to float32 is
# 0.99936 and the worst of 768 texts 0.9970; with groups of 128 0.99968 and 0.9988, of 64 0.99977 and 0.9990, of 32
# 0.99981 and 0.9993. Scales are a sixteenth of the weights' bytes with 64, an eighth with 32.
_GROUP_SIZE = 64
# Scales of smaller groups would take up what int8 saves.
_SMALLEST_GROUP = 8


class GroupedInt8Linear(nn.Module):
    """A linear layer of int8 weights, [in, out], with a scale for each group of inputs, [groups, out].

    The product is one of float32: engines widen the weights when they load or as they multiply.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.group_size = group_size_of(linear.in_features)
        groups = linear.weight.detach().float().reshape(-1, self.group_size)
        levels, scales = quantize_rows(groups)
        # Input channels first, as MatMul takes them: no engine has to transpose what it has widened.
        self.register_buffer("weight", levels.reshape(self.out_features, -1).t().contiguous())
        self.register_buffer("weight_scale", scales.reshape(self.out_features, -1).t().contiguous())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float().clone())
        # No buffer, for no graph has it: widening all weights at each call would be most of the time in torch.
        self._widened = (levels * scales).reshape(self.out_features, -1)

    def forward(self, values: Tensor) -> Tensor:
        """Map float32 [..., in] to float32 [..., out]."""
        if not torch.onnx.is_in_onnx_export():
            return functional.linear(values, self._widened, self.bias)
        weight = torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (self.weight, self.weight_scale),
            {"axis": 0, "block_size": self.group_size},
            dtype=torch.float32,
            shape=self.weight.shape,
        )
        product = values @ weight
        return product if self.bias is None else product + self.bias


def group_size_of(in_features: int) -> int:
    """Return how many of a layer's inputs share a scale: a divisor of their number, or all where it has none of use.

    There are at least two groups: with a single one, layers of 32 or 64 inputs compute something else in OpenVINO
    2026.4 at bfloat16 in several streams.
    """
    sizes = range(min(_GROUP_SIZE, in_features // 2), _SMALLEST_GROUP - 1, -1)
    return next((size for size in sizes if in_features % size == 0), in_features)


def quantize_weights(model: BaseModel, sample: Input, feature: str) -> None:
    """Replace the linear layers of a model's transformer, but for those of a head, by layers of int8 weights.

    The decoder of an MLM head shares its weights with the table of token embeddings, and is as that is.

    ``sample`` is any input; running it shows which layers the output depends on. ``feature`` is the output's name among
    the features of the model.

    Raises:
        ExportError: there are none.

    """
    encoder = model[0].auto_model
    decoder = encoder.get_output_embeddings()
    layers = layers_of_encoder(model, sample, feature)
    layers = {name: linear for name, linear in layers.items() if linear is not decoder}
    if not layers:
        raise ExportError("the transformer has no linear layer with an int8 form: choose --precision fp32")
    with torch.no_grad():
        for name, linear in layers.items():
            encoder.set_submodule(name, GroupedInt8Linear(linear))
