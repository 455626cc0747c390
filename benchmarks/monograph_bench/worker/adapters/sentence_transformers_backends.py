"""What adapters of sentence-transformers' classes have in common: torch, ONNX Runtime or OpenVINO behind them."""

from __future__ import annotations

from typing import Any

import torch

from adapters.contract import versions

# What each backend brings along, and its file in the form of the checkpoint that it loads.
_PACKAGES = {"torch": ("torch",), "onnx": ("optimum-onnx", "onnxruntime"), "openvino": ("optimum-intel", "openvino")}
_ONNX_FILE, _OPENVINO_FILE = "onnx/model.onnx", "openvino_model.xml"


def model_options(backend: str, compute_dtype: str, threads: int) -> dict[str, Any]:
    """Return what a model is loaded with; ``compute_dtype`` is torch's, or "auto" in OpenVINO.

    Raises:
        ValueError: the backend does not compute in that type.

    """
    # The modules behind the transformer run in torch whatever the backend is.
    torch.set_num_threads(threads)
    match backend, compute_dtype:
        case "torch", "float32" | "bfloat16":
            return {"dtype": getattr(torch, compute_dtype)}
        case "onnx", "float32":
            import onnxruntime

            session = onnxruntime.SessionOptions()
            session.intra_op_num_threads = threads
            return {"file_name": _ONNX_FILE, "session_options": session, "provider": "CPUExecutionProvider"}
        case "openvino", "auto":
            return {"file_name": _OPENVINO_FILE, "ov_config": {"INFERENCE_NUM_THREADS": threads}}
    raise ValueError(f"the backend {backend} is not measured at {compute_dtype}")


def described(model: Any, backend: str) -> dict[str, str]:
    """Return what a loaded model says of itself."""
    told = {"torch": _told_of_torch, "onnx": _told_of_onnx, "openvino": _told_of_openvino}[backend]
    packages = ["sentence-transformers", "transformers", *_PACKAGES[backend]]
    return versions(packages) | {"backend": backend} | told(model[0].auto_model)


def _told_of_torch(model: Any) -> dict[str, str]:
    return {
        "device": str(model.device),
        "compute_dtype": str(model.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
    }


def _told_of_onnx(model: Any) -> dict[str, str]:
    return {
        "device": ", ".join(model.session.get_providers()),
        "compute_dtype": "float32",
        "threads": str(model.session.get_session_options().intra_op_num_threads),
    }


def _told_of_openvino(model: Any) -> dict[str, str]:
    # Here only, for the other backends' environment has no OpenVINO.
    from adapters.openvino_types import type_name

    compiled = model.request
    return {
        "device": ", ".join(compiled.get_property("EXECUTION_DEVICES")),
        "compute_dtype": type_name(compiled.get_property("INFERENCE_PRECISION_HINT")),
        "threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
    }
