"""Quantize an exported OpenVINO model as sentence-transformers documents it: quantize_openvino.py MODEL OUTPUT TEXTS.

Run in the environment that has its packages. TEXTS is a folder with train.jsonl, an object with a "text" per line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model

# What it imports sends an event, unless this package cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
_NAME, _SUFFIX = "openvino_model", "qint8_quantized"


def main(model: str, output: str, texts: str) -> None:
    """Write OUTPUT/openvino_model.xml and its weights."""
    options = {"file_name": f"{_NAME}.xml"}
    loaded = SentenceTransformer(model, device="cpu", backend="openvino", model_kwargs=options, local_files_only=True)
    export_static_quantized_openvino_model(
        loaded,
        quantization_config=None,
        model_name_or_path=output,
        dataset_name=texts,
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
        file_suffix=_SUFFIX,
    )
    # Where the float32 model is in its folder.
    for ending in ("xml", "bin"):
        (Path(output) / "openvino" / f"{_NAME}_{_SUFFIX}.{ending}").rename(Path(output) / f"{_NAME}.{ending}")


if __name__ == "__main__":
    main(*sys.argv[1:])
