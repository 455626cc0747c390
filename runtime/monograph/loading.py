"""``load``: a bundle as a model of its task's class."""

from __future__ import annotations

import importlib
import os
from typing import Any

from monograph.bundle import Bundle, Check
from monograph.inference.opening import ModelSource
from monograph.model import Model, model_source


def load(
    path: str | os.PathLike[str],
    device: str = "auto",
    compute_dtype: str = "auto",
    threads: int | None = None,
    check: Check = "fast",
    cache_dir: str | os.PathLike[str] | None = None,
    max_tokens_per_batch: int | None = None,
) -> Model[Any]:
    """Open a bundle as a model of the class of its task: an Embedder, a CrossEncoder or a SparseEncoder.

    >>> model = load(bundle, device="cpu")
    >>> type(model).__name__
    'Embedder'

    The arguments are those of ``Embedder``.

    Raises:
        BundleError: the bundle is missing or damaged, with every problem.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.
        InputError: an option is not usable.

    """
    source = model_source(path, device, compute_dtype, threads, check, cache_dir, max_tokens_per_batch)
    return open_model(source, source.open_bundle())


def open_model(source: ModelSource, bundle: Bundle) -> Model[Any]:
    """Open a bundle that was read already as a model of its task's class.

    Raises:
        BundleError: a file does not fit the manifest.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.

    """
    module, _, name = bundle.task.model.partition(":")
    model_class: type[Model[Any]] = getattr(importlib.import_module(module), name)
    return model_class.of_bundle(source, bundle)
