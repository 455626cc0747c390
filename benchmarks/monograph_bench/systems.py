"""What is measured: a bundle on a device, or a peer, each in the environment that has its packages."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.engines import dtypes_for, installed_devices
from monograph.errors import DeviceError, InputError
from monograph.inference.routes import load_tokenizer
from monograph.inputs import Input
from monograph.progress import Progress
from monograph_bench.profiles import TaskProfile, profile_of

# The kinds of system that reports tell apart.
OURS, PEER = "monograph", "peer"
ALL = "all"


@dataclass(frozen=True)
class System:
    """A system under measurement, by the name that the report gives it.

    ``python`` is its environment's interpreter; ``adapter`` the module of ``worker/adapters`` that loads it, with
    ``options`` as keywords, JSON values; ``batch_sizes`` are tried before the fastest is measured, None being the
    system's own choice; ``usage`` describes how the adapter calls it.
    """

    name: str
    kind: str
    python: Path
    adapter: str
    options: Mapping[str, object]
    batch_sizes: tuple[int | None, ...]
    usage: str


@dataclass(frozen=True)
class Unavailable:
    """A system that cannot be measured here, and why."""

    kind: str
    reason: str


def open_bundles(names: Sequence[str], progress: Progress | None = None) -> dict[str, Bundle]:
    """Return bundles by the short names that the report gives them: their folders' names.

    ``progress`` is that of ``locate_bundle``.

    Raises:
        BundleError: one is damaged.
        InputError: two folders have the same name, or one is given twice.

    """
    bundles: dict[str, Bundle] = {}
    for name in names:
        bundle = open_bundle(locate_bundle(name, progress=progress))
        short = Path(bundle.path).resolve().name
        if short in bundles:
            raise InputError(f"two bundles are named {short}: the report could not tell them apart, rename a folder")
        bundles[short] = bundle
    return bundles


def common_profile(bundles: Mapping[str, Bundle]) -> TaskProfile:
    """Return the profile of the task of bundles that are measured beside each other.

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
    return profile_of(task, first)


def bundle_systems(
    bundles: Mapping[str, Bundle], device: str, compute_dtype: str, threads: int
) -> dict[str, System | Unavailable]:
    """Return a system for each bundle, requested device and type, or why there is none, by name.

    ``device`` and ``compute_dtype`` may be "all".
    """
    systems: dict[str, System | Unavailable] = {}
    for short, bundle in bundles.items():
        for kind in installed_devices() if device == ALL else (device,):
            try:
                dtypes = dtypes_for(bundle, kind) if compute_dtype == ALL and kind != "auto" else (compute_dtype,)
            except DeviceError as error:
                systems[_name(short, kind)] = Unavailable(OURS, str(error))
                continue
            for dtype in dtypes:
                dtype = "auto" if dtype == ALL else dtype
                name = _name(short, kind, dtype)
                systems[name] = bundle_system(name, bundle, kind, dtype, threads)
    return systems


def bundle_system(name: str, bundle: Bundle, device: str, compute_dtype: str, threads: int) -> System:
    """Return the system of a bundle on a device at a type."""
    profile = profile_of(bundle.manifest.task, name)
    options = {"bundle": str(bundle.path), "device": device, "compute_dtype": compute_dtype, "threads": threads}
    return System(
        name=name,
        kind=OURS,
        python=Path(sys.executable),
        adapter="monograph_bundle",
        options=options | profile.bundle_options,
        batch_sizes=(None,),
        usage=f"{profile.class_name}(bundle).{profile.bundle_call.method}; it plans its batches by tokens.",
    )


def token_lengths(bundle: Bundle, texts: Sequence[Input]) -> NDArray[np.int64]:
    """Return the tokens of each text or pair as the bundle's model sees it, truncated, with special ones: int64 [n]."""
    return load_tokenizer(bundle, bundle.manifest.tokenizer)(texts).lengths


def _name(short: str, device: str, dtype: str = "auto") -> str:
    # With the bundle, also where there is only one: saved results are compared by these names.
    return " ".join([OURS, short, device, *([] if dtype == "auto" else [dtype])])
