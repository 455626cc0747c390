"""Embed texts with a published folder in sentence-transformers: FOLDER TEXTS.json VECTORS.json."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from sentence_transformers import SentenceTransformer

folder, texts, output = sys.argv[1:]
model = SentenceTransformer(folder, backend="onnx", device="cpu", model_kwargs={"provider": "CPUExecutionProvider"})
vectors = model.encode(json.loads(Path(texts).read_text("utf-8")))
versions = ", ".join(f"{name} {version(name)}" for name in ("sentence-transformers", "onnxruntime"))
results = {f'{versions}: SentenceTransformer(backend="onnx")': vectors.tolist()}
Path(output).write_text(json.dumps(results), "utf-8")
