"""The requirements of CUDA: ONNX Runtime's build for it, NVIDIA's libraries of its version, a driver."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_WINDOWS = os.name == "nt"
DRIVER = "nvcuda.dll" if _WINDOWS else "libcuda.so.1"
_PROVIDER = "onnxruntime_providers_cuda.dll" if _WINDOWS else "libonnxruntime_providers_cuda.so"
_PROVIDER_NAME = "CUDAExecutionProvider"
_CUDNN = "cudnn"
_WITH_CUDA, _WITHOUT = "onnxruntime-gpu", "onnxruntime"


def find_package_problems(runtime: ModuleType | None) -> list[str]:
    """Return the problems of ONNX Runtime's packages, each with its fix.

    ``runtime`` is the module that an import gives, None where there is none. The module decides, for a build with CUDA
    may precede another one on the path; the names of the installed packages only explain it.
    """
    if runtime is None:
        return [f"{_WITH_CUDA} is not installed: pip install 'monograph[cuda]'"]
    if _PROVIDER_NAME in runtime.get_available_providers():
        return []
    if _is_installed(_WITH_CUDA):
        return [
            f"{_WITHOUT}, which has no CUDA, is imported in place of {_WITH_CUDA}, which is installed as well: pip "
            "uninstall both, then pip install 'monograph[cuda]'"
        ]
    return [f"{_WITHOUT} is installed, which has no CUDA: pip uninstall it, then pip install 'monograph[cuda]'"]


def find_driver_problems(major: int | None = None, load: Callable[[str], Any] = ctypes.CDLL) -> list[str]:
    """Return the problems of the NVIDIA driver, which must run CUDA ``major``, None for any version."""
    try:
        library = load(DRIVER)
    except OSError:
        return [f"there is no NVIDIA driver ({DRIVER}): install it, and check with nvidia-smi"]
    version = ctypes.c_int()
    if failed := library.cuDriverGetVersion(ctypes.byref(version)):
        return [f"the NVIDIA driver does not say its version (error {failed}): check with nvidia-smi"]
    supported = version.value // 1000
    if major is not None and supported < major:
        return [
            f"the NVIDIA driver runs CUDA {supported} and the installed {_WITH_CUDA} is built for CUDA {major}: update "
            f"the driver, or install a build of {_WITH_CUDA} for CUDA {supported}"
        ]
    return []


def find_library_problems(runtime: ModuleType) -> list[str]:
    """Load NVIDIA's libraries from their packages or the system and return what ONNX Runtime lacks.

    The driver is left to ``find_driver_problems``.
    """
    # It prints the names of missing libraries and continues.
    with contextlib.redirect_stdout(io.StringIO()):
        # By itself it looks only beside its own package, and NVIDIA's may be in another folder of the path.
        for folder in _find_library_folders(read_cuda_major(runtime)):
            of_cudnn = folder.parent.name == _CUDNN
            runtime.preload_dlls(cuda=not of_cudnn, cudnn=of_cudnn, directory=str(folder))
        runtime.preload_dlls()
    provider = Path(str(runtime.__file__)).parent / "capi" / _PROVIDER
    try:
        # The second needs the first, which it does not search for in its own folder.
        ctypes.CDLL(str(provider.with_name(provider.name.replace("cuda", "shared"))), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(provider))
    except OSError as error:
        if DRIVER in str(error):
            return []
        return [
            f"a library that {_WITH_CUDA} needs cannot be loaded ({error}): pip install 'monograph[cuda]', or install "
            f"CUDA {read_cuda_major(runtime)} and cuDNN 9"
        ]
    return []


def read_cuda_major(runtime: ModuleType) -> int | None:
    """Return the CUDA version that the installed ONNX Runtime is built for, None where it states none."""
    version = str(getattr(runtime, "cuda_version", "") or "")
    return int(version.partition(".")[0]) if version[:1].isdigit() else None


def _find_library_folders(major: int | None) -> Iterator[Path]:
    """Yield the folders of the path that have NVIDIA's libraries for Linux: of CUDA ``major``, then cuDNN's."""
    spec = importlib.util.find_spec("nvidia")
    packages = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    for name in (f"cu{major}", _CUDNN):
        yield from (folder for package in packages if (folder := package / name / "lib").is_dir())


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
