"""Quantize an exported ONNX model as sentence-transformers documents it: quantize_onnx.py MODEL OUTPUT CONFIGURATION.

Run in the environment that has its packages. CONFIGURATION is sentence-transformers' name for a kind of CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model


def main(model: str, output: str, configuration: Any) -> None:
    """Write OUTPUT/onnx/model_quantized.onnx."""
    options = {"file_name": "onnx/model.onnx", "provider": "CPUExecutionProvider"}
    loaded = SentenceTransformer(model, device="cpu", backend="onnx", model_kwargs=options, local_files_only=True)
    # A name that does not depend on the CPU.
    export_dynamic_quantized_onnx_model(loaded, configuration, output, file_suffix="quantized")
    file = Path(output) / "onnx" / "model_quantized.onnx"
    if not file.is_file():
        raise FileNotFoundError(f"{file.name} was not written")


if __name__ == "__main__":
    main(*sys.argv[1:])
