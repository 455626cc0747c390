"""What is missing for CUDA on this machine. The engine itself is not part of this release."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os

_DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


def missing_for_cuda() -> list[str]:
    """Return everything that stands between this machine and CUDA, each with what to do about it."""
    missing = []
    if not _has_driver():
        missing.append(f"there is no NVIDIA driver ({_DRIVER}): install it, and check with nvidia-smi")
    if not _is_installed("onnxruntime-gpu"):
        missing.append("onnxruntime-gpu is not installed: pip install onnxruntime-gpu, and not onnxruntime beside it")
    elif _is_installed("onnxruntime"):
        missing.append("onnxruntime and onnxruntime-gpu are both installed and overwrite each other: uninstall one")
    missing.append("this release has no CUDA engine yet: use 'cpu' or 'openvino'")
    return missing


def _has_driver() -> bool:
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
