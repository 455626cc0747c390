"""Embed texts with a published folder in fastembed: FOLDER TEXTS.json VECTORS.json DIMENSION."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

folder, texts, output, dimension = sys.argv[1:]
results = {}
# As the model card says, and as users of models by their tokens do.
for name, pooling, output_name in (
    ("whole", PoolingType.DISABLED, "sentence_embedding"),
    ("tokens", PoolingType.MEAN, None),
):
    TextEmbedding.add_custom_model(
        model=f"published/{name}",
        pooling=pooling,
        normalization=output_name is None,
        output_name=output_name,
        sources=ModelSource(hf=f"published/{name}"),
        dim=int(dimension),
        model_file="onnx/model.onnx",
        additional_files=["onnx/model.onnx_data"],
    )
    model = TextEmbedding(f"published/{name}", specific_model_path=folder, providers=["CPUExecutionProvider"])
    vectors = [vector.tolist() for vector in model.embed(json.loads(Path(texts).read_text("utf-8")))]
    versions = f"fastembed {version('fastembed')}, onnxruntime {version('onnxruntime')}"
    results[f"{versions}: {'mean pooling' if output_name is None else output_name}"] = vectors
Path(output).write_text(json.dumps(results), "utf-8")
