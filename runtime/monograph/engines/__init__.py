"""What runs a graph: one module an engine behind the interface in base."""

from monograph.engines.base import Engine
from monograph.engines.devices import installed_devices, open_engine

__all__ = ["Engine", "installed_devices", "open_engine"]
