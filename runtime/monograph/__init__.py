"""Embed texts and score pairs with a bundle that monograph exported: no torch, no network but for bundles on a Hub."""

from monograph.bundle import Bundle, Manifest
from monograph.cross_encoder import CrossEncoder
from monograph.embedder import Embedder
from monograph.errors import (
    BundleError,
    DeviceError,
    ExportError,
    InputError,
    MonographError,
    ParityError,
    UnsupportedModuleError,
)
from monograph.model import load
from monograph.preparation import prepare
from monograph.sparse.rows import SparseVector
from monograph.sparse_encoder import SparseEncoder
from monograph.version import __version__

__all__ = [
    "Bundle",
    "BundleError",
    "CrossEncoder",
    "DeviceError",
    "Embedder",
    "ExportError",
    "InputError",
    "Manifest",
    "MonographError",
    "ParityError",
    "SparseEncoder",
    "SparseVector",
    "UnsupportedModuleError",
    "__version__",
    "load",
    "prepare",
]
