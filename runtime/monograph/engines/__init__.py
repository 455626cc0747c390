"""Engines run graphs: one module each behind the interface in base, listed in the registry."""

from monograph.engines.base import Engine, EngineOptions
from monograph.engines.devices import dtypes_for, dtypes_of, open_engine, supports_precision_of
from monograph.engines.precisions import check_quality, level_of, select_precision
from monograph.engines.registry import (
    EngineEntry,
    automatic_devices,
    engines,
    installed_devices,
    register_engine,
)

__all__ = [
    "Engine",
    "EngineEntry",
    "EngineOptions",
    "automatic_devices",
    "check_quality",
    "dtypes_for",
    "dtypes_of",
    "engines",
    "installed_devices",
    "level_of",
    "open_engine",
    "register_engine",
    "select_precision",
    "supports_precision_of",
]
