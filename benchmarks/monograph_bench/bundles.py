"""Bundles as systems under measurement, and what is known of them without running them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.manifest import EMBEDDING, RERANK, SPARSE
from monograph.bundle.sources import locate_bundle
from monograph.engines import dtypes_for, installed_devices
from monograph.errors import DeviceError, InputError
from monograph.inputs import Input
from monograph.pipeline import load_tokenizer
from monograph_bench.systems import OURS, System, Unavailable

ALL = "all"
# By the task of the bundle, the adapter that loads it, and how that calls it.
_ADAPTERS = {
    EMBEDDING: ("monograph_embedder", "Embedder(bundle).encode; it plans its batches by tokens."),
    RERANK: ("monograph_cross_encoder", "CrossEncoder(bundle).predict; it plans its batches by tokens."),
    SPARSE: ("monograph_sparse_encoder", "SparseEncoder(bundle).encode; it plans its batches by tokens."),
}


def open_bundles(names: Sequence[str]) -> dict[str, Bundle]:
    """Return bundles by the short names that the report gives them: their folders' names.

    Raises:
        BundleError: one is damaged.
        InputError: two folders have the same name, or one is given twice.

    """
    bundles: dict[str, Bundle] = {}
    for name in names:
        bundle = open_bundle(locate_bundle(name))
        short = Path(bundle.path).resolve().name
        if short in bundles:
            raise InputError(f"two bundles are named {short}: the report could not tell them apart, rename a folder")
        bundles[short] = bundle
    return bundles


def task_of(bundles: Mapping[str, Bundle]) -> str:
    """Return the task of bundles that are measured beside each other.

    Raises:
        InputError: they are of several tasks, or of one that is not measured.

    """
    (first, bundle), *others = bundles.items()
    task = bundle.manifest.task
    for name, other in others:
        if other.manifest.task != task:
            raise InputError(
                f"{first} is of the task {task} and {name} of the task {other.manifest.task}, which compute different "
                "things: measure them in runs of their own"
            )
    if task not in _ADAPTERS:
        raise InputError(f"{first} is of the task {task}, which this release does not measure")
    return task


def bundle_systems(
    bundles: dict[str, Bundle], device: str, compute_dtype: str, threads: int
) -> dict[str, System | Unavailable]:
    """Return a system for each bundle, device and type that is asked for, or why there is none, by name.

    ``device`` and ``compute_dtype`` may be "all".
    """
    found: dict[str, System | Unavailable] = {}
    for short, bundle in bundles.items():
        adapter, usage = _ADAPTERS[bundle.manifest.task]
        for kind in installed_devices() if device == ALL else (device,):
            try:
                dtypes = dtypes_for(bundle, kind) if compute_dtype == ALL and kind != "auto" else (compute_dtype,)
            except DeviceError as error:
                found[_name(short, kind)] = Unavailable(OURS, str(error))
                continue
            for dtype in dtypes:
                asked = "auto" if dtype == ALL else dtype
                name = _name(short, kind, asked)
                options = {"bundle": str(bundle.path), "device": kind, "compute_dtype": asked, "threads": threads}
                found[name] = System(name, OURS, Path(sys.executable), adapter, options, (None,), usage)
    return found


def token_lengths(bundle: Bundle, texts: Sequence[Input]) -> NDArray[np.int64]:
    """Return the tokens of each text or pair as the bundle's model sees it, truncated, with special ones: int64 [n]."""
    return load_tokenizer(bundle, bundle.manifest.tokenizer)(texts).lengths


def _name(short: str, device: str, dtype: str = "auto") -> str:
    # With the bundle, also where there is one only: kept results are compared by these names.
    return " ".join([OURS, short, device, *([] if dtype == "auto" else [dtype])])
