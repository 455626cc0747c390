"""sentence-transformers' own classes: torch, ONNX Runtime or OpenVINO behind a model of any task."""

from __future__ import annotations

from typing import Any

import numpy as np
import sentence_transformers
import torch
from numpy.typing import NDArray

from adapters.base import (
    DEFAULT_BATCH_SIZE,
    Call,
    LibraryModel,
    Model,
    describe_session,
    openvino_type_name,
    versions,
)

# What each backend brings along, and its file in the exported checkpoint that it loads.
_PACKAGES = {"torch": ("torch",), "onnx": ("optimum-onnx", "onnxruntime"), "openvino": ("optimum-intel", "openvino")}
_ONNX_FILES = {"float32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}
_OPENVINO_FILE = "openvino_model.xml"


class _SentenceTransformers(LibraryModel):
    def __init__(self, backend: str, compute_dtype: str, model: Any, call: Call) -> None:
        super().__init__(model, call)
        self._backend = backend
        self._compute_dtype = compute_dtype

    def encode(self, texts: list[Any], batch_size: int | None) -> Any:
        return super().encode(texts, batch_size or DEFAULT_BATCH_SIZE)

    def to_array(self, results: Any) -> NDArray[np.float32]:
        # Sparse vectors are a tensor.
        return super().to_array(results.float().to_dense() if isinstance(results, torch.Tensor) else results)

    def describe(self) -> dict[str, str]:
        describe = {"torch": _describe_torch, "onnx": _describe_onnx, "openvino": _describe_openvino}[self._backend]
        packages = ["sentence-transformers", "transformers", *_PACKAGES[self._backend]]
        described = versions(packages) | {"backend": self._backend} | describe(self._model[0].auto_model)
        # The engines tell the type of what is not quantized.
        return described | ({"compute_dtype": self._compute_dtype} if self._compute_dtype == "int8" else {})


def load(
    *, checkpoint: str, backend: str, compute_dtype: str, threads: int, class_name: str, call: dict[str, Any]
) -> Model:
    """Load a checkpoint, as it was exported for the backend; ``compute_dtype`` is torch's, "auto" in OpenVINO, "int8".

    Raises:
        ValueError: the backend does not compute in that type.

    """
    options = _model_options(backend, compute_dtype, threads)
    model_class = getattr(sentence_transformers, class_name)
    model = model_class(checkpoint, device="cpu", backend=backend, model_kwargs=options, local_files_only=True)
    arguments = call["arguments"] | {"show_progress_bar": False}
    if "activation_fn" in arguments:
        arguments["activation_fn"] = getattr(torch.nn, arguments["activation_fn"])()
    return _SentenceTransformers(backend, compute_dtype, model, Call(**(call | {"arguments": arguments})))


def _model_options(backend: str, compute_dtype: str, threads: int) -> dict[str, Any]:
    # The modules behind the transformer run in torch whatever the backend is.
    torch.set_num_threads(threads)
    match backend, compute_dtype:
        case "torch", "float32" | "bfloat16":
            return {"dtype": getattr(torch, compute_dtype)}
        case "onnx", "float32" | "int8":
            import onnxruntime

            session = onnxruntime.SessionOptions()
            session.intra_op_num_threads = threads
            return {
                "file_name": _ONNX_FILES[compute_dtype],
                "session_options": session,
                "provider": "CPUExecutionProvider",
            }
        case "openvino", "auto" | "int8":
            return {"file_name": _OPENVINO_FILE, "ov_config": {"INFERENCE_NUM_THREADS": threads}}
    raise ValueError(f"the backend {backend} is not measured at {compute_dtype}")


def _describe_torch(model: Any) -> dict[str, str]:
    return {
        "device": str(model.device),
        "compute_dtype": str(model.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
    }


def _describe_onnx(model: Any) -> dict[str, str]:
    return describe_session(model.session)


def _describe_openvino(model: Any) -> dict[str, str]:
    compiled = model.request
    return {
        "device": ", ".join(compiled.get_property("EXECUTION_DEVICES")),
        "compute_dtype": openvino_type_name(compiled.get_property("INFERENCE_PRECISION_HINT")),
        "threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
    }
