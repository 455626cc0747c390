"""Embed texts with a bundle that monograph exported: no torch, and no network but for a bundle named on a Hub."""

from monograph.bundle import Bundle, Manifest
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
from monograph.version import __version__

__all__ = [
    "Bundle",
    "BundleError",
    "DeviceError",
    "Embedder",
    "ExportError",
    "InputError",
    "Manifest",
    "MonographError",
    "ParityError",
    "UnsupportedModuleError",
    "__version__",
]
