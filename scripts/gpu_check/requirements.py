"""Say at once all that is missing here: packages by the names they are imported by, CUDA's libraries, the driver."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check.record import Record
from gpu_check.settings import Settings
from monograph.engines.cuda_libraries import (
    find_driver_problems,
    find_library_problems,
    find_package_problems,
    read_cuda_major,
)
from monograph.engines.onnxruntime import import_onnxruntime, open_session, session_options

# By the names they are imported by; each with the distribution that has it.
_REQUIRED = {
    "numpy": "numpy",
    "tokenizers": "tokenizers",
    "tqdm": "tqdm",
    "torch": "torch",
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime-gpu",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "fontTools": "fonttools",
    "huggingface_hub": "huggingface-hub",
    "packaging": "packaging",
    "google.protobuf": "protobuf",
}
_OPTIONAL = {"flash_attn": "flash-attn", "triton": "triton"}
_TENSORRT_LIBRARY = "libnvinfer.so.10"


class MissingError(Exception):
    """Something that no stage works without is not here."""


def check(settings: Settings, record: Record) -> None:
    """Record what is here, and raise with everything that is missing."""
    missing = [f"{name} (pip install {where})" for name, where in _REQUIRED.items() if not _is_there(name)]
    record.put(
        python=sys.version.split()[0],
        cpu=platform.processor() or platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        free_disk_gb=round(shutil.disk_usage(settings.work).free / 1e9, 1),
        packages={name: _version(where) for name, where in (_REQUIRED | _OPTIONAL).items() if _is_there(name)},
        missing_packages=missing,
    )
    if missing:
        raise MissingError(f"missing packages: {', '.join(missing)}")
    problems = _check_onnxruntime(record, needs_cuda=settings.on_gpu)
    if problems and settings.on_gpu:
        raise MissingError("; ".join(problems))
    record.put(tensorrt_library=_loads(_TENSORRT_LIBRARY), nvidia_smi=_nvidia_smi())
    provider: Any = "CPUExecutionProvider"
    if settings.on_gpu:
        provider = ("CUDAExecutionProvider", {"device_id": settings.device.partition(":")[2] or "0"})
    record.put(largest_difference_of_a_product=_multiply(provider))
    _check_torch(record, needs_cuda=settings.on_gpu)


def _check_onnxruntime(record: Record, *, needs_cuda: bool) -> list[str]:
    runtime = import_onnxruntime()
    problems = find_package_problems(runtime)
    if not problems:
        problems = find_library_problems(runtime)
    problems += find_driver_problems(read_cuda_major(runtime))
    record.put(
        onnxruntime={
            "version": runtime.__version__,
            "file": runtime.__file__,
            "cuda": read_cuda_major(runtime),
            "providers": runtime.get_available_providers(),
        },
        cuda_problems=problems,
        problems_matter=needs_cuda,
    )
    return problems


def _multiply(provider: Any) -> float:
    """Return the largest difference of a float16 product and normalization to NumPy's: whether kernels run at all."""
    from onnx import TensorProto, helper, save

    shape, half = [64, 64], TensorProto.FLOAT16
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["a", "b"], ["product"]),
            helper.make_node("Softmax", ["product"], ["y"], axis=-1),
        ],
        "check",
        [helper.make_tensor_value_info(name, half, shape) for name in "ab"],
        [helper.make_tensor_value_info("y", half, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    runtime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "check.onnx"
        save(model, file)
        options = session_options(runtime, 1)
        # Why a provider does not start is a warning.
        options.log_severity_level = 2
        session = open_session(runtime, file, options, [provider, "CPUExecutionProvider"])
    name = provider if isinstance(provider, str) else provider[0]
    if session.get_providers()[0] != name:
        raise MissingError(f"ONNX Runtime runs on {session.get_providers()[0]} where {name} was due: see check.log")
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal(shape).astype(np.float16) for _ in "ab")
    product = a.astype(np.float32) @ b.astype(np.float32)
    weights = np.exp(product - product.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    difference = float(np.abs(session.run(None, {"a": a, "b": b})[0] - weights).max())
    if difference > 0.02:
        raise MissingError(f"a product differs by {difference} from NumPy's: the engine's kernels do not fit this GPU")
    return difference


def _check_torch(record: Record, *, needs_cuda: bool) -> None:
    import torch

    gpu = torch.cuda.is_available()
    record.put(
        torch_cuda=torch.version.cuda,
        gpu=torch.cuda.get_device_name() if gpu else None,
        gpu_memory_gb=round(torch.cuda.mem_get_info()[1] / 1e9, 1) if gpu else None,
    )
    if needs_cuda and not gpu:
        raise MissingError("torch cannot use the GPU: the peers cannot be measured")


def _is_there(name: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(name) is not None
    return False


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "nvidia-smi is not there"
    fields = "name,driver_version,memory.total,memory.used,clocks.max.sm"
    done = subprocess.run(
        [program, f"--query-gpu={fields}", "--format=csv"], capture_output=True, text=True, check=False, timeout=15
    )
    return done.stdout + done.stderr
