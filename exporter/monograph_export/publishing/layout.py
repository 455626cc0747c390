"""Where a published repository has its graphs, as optimum and transformers.js look for them."""

from __future__ import annotations

FOLDER = "onnx"
# By the precision of a bundle.
GRAPH_FILES = {
    "fp32": "model.onnx",
    "fp16": "model_fp16.onnx",
    "int8": "model_quantized.onnx",
    "int8-weights": "model_int8.onnx",
}
