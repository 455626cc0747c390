"""What runs a graph: one module an engine behind the interface in base."""

from monograph.engines.base import Engine, EngineOptions
from monograph.engines.devices import (
    automatic_devices,
    dtypes_for,
    dtypes_of,
    installed_devices,
    open_engine,
    runs_precision_of,
)

__all__ = [
    "Engine",
    "EngineOptions",
    "automatic_devices",
    "dtypes_for",
    "dtypes_of",
    "installed_devices",
    "open_engine",
    "runs_precision_of",
]
