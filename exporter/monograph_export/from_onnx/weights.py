"""The weights of a small module, read from its safetensors file without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from monograph.errors import ExportError

_FILE, _PICKLE = "model.safetensors", "pytorch_model.bin"


def _from_bfloat16(data: bytes) -> NDArray[np.float32]:
    # The upper half of a float32. NumPy has no such type.
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


_READERS: Mapping[str, Callable[[bytes], NDArray[np.floating]]] = {
    "F32": lambda data: np.frombuffer(data, "<f4"),
    "F16": lambda data: np.frombuffer(data, "<f2"),
    "F64": lambda data: np.frombuffer(data, "<f8"),
    "BF16": _from_bfloat16,
}


def read_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a module's folder by name, as float32.

    Raises:
        ExportError: there is no safetensors file, it cannot be read, or a tensor is of no float type.

    """
    file = folder / _FILE
    if not file.exists() and (folder / _PICKLE).exists():
        raise ExportError(
            f"{folder} has its weights as {_PICKLE}, which only torch reads: save the checkpoint as safetensors"
        )
    try:
        stored = deserialize(file.read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{file} cannot be read: {error}") from error
    foreign = sorted({str(tensor["dtype"]) for _, tensor in stored} - _READERS.keys())
    if foreign:
        raise ExportError(f"{file} has weights of type {', '.join(foreign)}: save the checkpoint at float32")
    return {
        name: _READERS[tensor["dtype"]](tensor["data"]).astype(np.float32).reshape(tensor["shape"])
        for name, tensor in stored
    }
