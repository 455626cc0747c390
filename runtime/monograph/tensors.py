"""torch tensors at the boundary: taken where a caller has them, made where a caller asks for them.

Nothing else here needs torch. A caller who has a tensor has imported torch; it is imported here only for the flags of
sentence-transformers that ask for tensors.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def is_tensor(value: object) -> bool:
    """Return whether a value is a torch tensor, without importing torch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def is_sparse(vectors: Any) -> bool:
    """Return whether vectors are a sparse array, a sparse tensor, or a list of either."""
    first = vectors[0] if isinstance(vectors, (list, tuple)) and len(vectors) else vectors
    if is_tensor(first):
        # Of every layout: coordinates, rows, blocks.
        return first.layout is not sys.modules["torch"].strided
    return hasattr(first, "tocsr")


def first_tensor(*values: Any) -> Any:
    """Return the first tensor among values, or among the items of a list or tuple; None where there is none."""
    for value in values:
        item = value[0] if isinstance(value, (list, tuple)) and len(value) else value
        if is_tensor(item):
            return item
    return None


def to_array(values: Any) -> Any:
    """Return a dense tensor, or a list of dense tensors, as a NumPy array; anything else as it is."""
    if isinstance(values, (list, tuple)) and first_tensor(values) is not None:
        return np.stack([to_array(value) for value in values])
    if not is_tensor(values):
        return values
    values = values.detach().cpu()
    # NumPy has no bfloat16, and half precision makes ties of scores that differ.
    return (values.float() if values.is_floating_point() and values.itemsize < 4 else values).numpy()


def like(result: NDArray[Any], *sources: Any) -> NDArray[Any] | Tensor:
    """Return a result as a tensor, on the device of its sources, if one of these is a tensor; else as it is."""
    tensor = first_tensor(*sources)
    if tensor is None:
        return result
    made: Tensor = sys.modules["torch"].from_numpy(result).to(tensor.device)
    return made


def import_torch() -> Any:
    """Import torch for an argument of sentence-transformers that asks for tensors.

    Call this before anything is computed, too, which may take hours.

    Raises:
        InputError: torch is not installed.

    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError(
            "convert_to_tensor=True, convert_to_numpy=False, convert_to_sparse_tensor= and return_tensors='pt' ask for "
            "torch tensors, and torch is not installed: leave these out for arrays, or pip install torch"
        ) from error
    return torch


def to_torch(result: NDArray[Any], *, as_list: bool) -> Tensor | list[Tensor]:
    """Return a result [n, ...] as a tensor, or as a list of n tensors.

    Raises:
        InputError: torch is not installed.

    """
    tensor: Tensor = import_torch().from_numpy(result)
    return list(tensor) if as_list else tensor
