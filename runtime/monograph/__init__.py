"""Embed texts and score pairs with a bundle that monograph exported: no torch, no network but for bundles on a Hub."""

import importlib
from typing import TYPE_CHECKING, Any

from monograph.errors import (
    BundleError,
    DeviceError,
    ExportError,
    InputError,
    MonographError,
    ParityError,
    UnsupportedModuleError,
)
from monograph.memory import check_memory_of_numpy
from monograph.version import __version__

if TYPE_CHECKING:
    from monograph.bundle import Bundle, Manifest
    from monograph.cross_encoder import CrossEncoder
    from monograph.embedder import Embedder
    from monograph.hybrid import HybridEmbeddings, HybridScores
    from monograph.model import load
    from monograph.multi_vector_encoder import MultiVectorEncoder
    from monograph.preparation import prepare
    from monograph.sparse.rows import SparseVector
    from monograph.sparse_encoder import SparseEncoder

__all__ = [
    "Bundle",
    "BundleError",
    "CrossEncoder",
    "DeviceError",
    "Embedder",
    "ExportError",
    "HybridEmbeddings",
    "HybridScores",
    "InputError",
    "Manifest",
    "MonographError",
    "MultiVectorEncoder",
    "ParityError",
    "SparseEncoder",
    "SparseVector",
    "UnsupportedModuleError",
    "__version__",
    "load",
    "prepare",
]
# What imports NumPy, at its first use: without enough memory for it, that would end the process.
_MODULES = {
    "Bundle": "bundle",
    "CrossEncoder": "cross_encoder",
    "Embedder": "embedder",
    "HybridEmbeddings": "hybrid",
    "HybridScores": "hybrid",
    "Manifest": "bundle",
    "MultiVectorEncoder": "multi_vector_encoder",
    "SparseEncoder": "sparse_encoder",
    "SparseVector": "sparse.rows",
    "load": "model",
    "prepare": "preparation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES and name != "util":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_memory_of_numpy()
    if name == "util":
        return importlib.import_module(f"{__name__}.util")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
