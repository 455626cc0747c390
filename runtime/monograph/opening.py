"""Open a bundle on the device a user names, or on the best one that proves right (device="auto")."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from monograph.bundle import Bundle, Check, Probes, open_bundle, read_probes
from monograph.bundle.sources import locate_bundle
from monograph.cache import cache_folder, read_cached, write_cached
from monograph.engines import EngineOptions, automatic_devices, dtypes_for
from monograph.engines.devices import check_compute_dtype, was_verified
from monograph.errors import BundleError, DeviceError, MonographError
from monograph.hardware import cpu_identity
from monograph.routes import Routes, Tokenizers, load_routes, load_tokenizers
from monograph.threads import available_cpus
from monograph.verification import quick_failure

logger = logging.getLogger(__name__)
# Longer texts would be felt at a first start.
QUICK_PROBE_TOKENS = 128
_PASSED = b"passed"
# What opens the bundles of a task; `embed` does on the command line, and `rank` those of a cross-encoder.
_CLASSES = {
    "embedding": "Embedder (monograph embed)",
    "rerank": "CrossEncoder (monograph rank)",
    "sparse": "SparseEncoder (monograph embed)",
}


@dataclass(frozen=True)
class OpenModel:
    """A bundle, what runs it, and its folder wherever the process goes on to work."""

    bundle: Bundle
    routes: Routes
    folder: Path


@dataclass(frozen=True)
class ModelSource:
    """What a model is opened from and with; a pickled model is this, and the hash of the manifest that it had."""

    path: str | os.PathLike[str]
    task: str
    device: str
    compute_dtype: str
    threads: int | None
    check: Check
    cache_dir: str | os.PathLike[str] | None
    max_tokens_per_batch: int | None = None
    manifest_sha256: str | None = None

    def open(self) -> OpenModel:
        """Open the bundle on its device.

        Raises:
            BundleError: it is missing or damaged, is of another task, or is not the one that was pickled.
            DeviceError: the device cannot run it here.

        """
        bundle = open_bundle(locate_bundle(self.path, self.cache_dir), self.check)
        if bundle.manifest.task != self.task:
            told = f"its task is {bundle.manifest.task!r}, and this class runs {self.task!r}"
            raise BundleError(self.path, [f"{told}: open it with {_CLASSES[bundle.manifest.task]}"])
        if self.manifest_sha256 not in (None, bundle.manifest_sha256):
            raise BundleError(self.path, ["it is another bundle than the one that was pickled: pickle the model again"])
        routes = open_routes(
            bundle,
            device=self.device,
            compute_dtype=self.compute_dtype,
            threads=self.threads,
            cache_dir=self.cache_dir,
        )
        return OpenModel(bundle, routes.bounded(self.max_tokens_per_batch), bundle.path.absolute())


def open_routes(
    bundle: Bundle,
    *,
    device: str,
    compute_dtype: str,
    threads: int | None,
    cache_dir: str | os.PathLike[str] | None = None,
    check_verifications: bool = True,
) -> Routes:
    """Load the tokenizer and the graph of a bundle, of each of its routes; ``threads`` of None means every CPU allowed.

    ``device`` is "auto" or a kind with an optional ":" and a name; ``compute_dtype`` is "auto" or a type; ``cache_dir``
    is for what can be computed again, None for the user's cache. A device named without ``check_verifications`` is opened
    though the export found the bundle wrong on it, to be verified anew.

    Raises:
        BundleError: a file cannot be loaded or does not fit the manifest.
        DeviceError: the device cannot run the bundle here; for "auto", no engine can.

    """
    check_compute_dtype(compute_dtype)
    tokenizers = load_tokenizers(bundle)
    cache = cache_folder(cache_dir)
    options = EngineOptions(device, compute_dtype, available_cpus() if threads is None else threads, cache)
    if device == "auto":
        return _open_preferred(bundle, tokenizers, options, cache)
    if not check_verifications:
        return load_routes(bundle, tokenizers, options, check_verifications=False)
    return _open_right(bundle, tokenizers, options, cache, judged=True)


def _open_preferred(bundle: Bundle, tokenizers: Tokenizers, options: EngineOptions, cache: Path) -> Routes:
    """Open the first engine, in order of preference, that gives the reference on a few probes."""
    refusals: list[MonographError] = []
    for device, compute_dtype in _candidates(bundle, options.compute_dtype, refusals):
        try:
            chosen = replace(options, device=device, compute_dtype=compute_dtype)
            return _open_right(bundle, tokenizers, chosen, cache, judged=False)
        except (DeviceError, BundleError) as error:
            logger.warning("device 'auto' goes on to the next engine: %s", error)
            refusals.append(error)
    if all(isinstance(error, BundleError) for error in refusals):
        raise refusals[-1]
    raise DeviceError(f"no installed engine can run bundle {bundle.path}: {'; '.join(map(str, refusals))}")


def _open_right(bundle: Bundle, tokenizers: Tokenizers, options: EngineOptions, cache: Path, *, judged: bool) -> Routes:
    """Open an engine that gives the reference on a few probes; ``judged``, the export's verdict is enough.

    Raises:
        DeviceError: it does not.

    """
    with ExitStack() as unless_right:
        routes = load_routes(bundle, tokenizers, options)
        unless_right.callback(routes.close)
        engine = routes.main.engine
        failure = "" if judged and was_verified(bundle, engine) else _failure_on_probes(bundle, routes, cache)
        if not failure:
            unless_right.pop_all()
            return routes
    raise DeviceError(f"{options.device} at {engine.compute_dtype} fails on the bundle's probes: {failure}")


def _candidates(bundle: Bundle, compute_dtype: str, refusals: list[MonographError]) -> Iterator[tuple[str, str]]:
    """Yield devices and types in order of preference; what a device refuses by itself goes to ``refusals``."""
    for device in automatic_devices():
        try:
            dtypes = dtypes_for(bundle, device)
        except DeviceError as error:
            logger.warning("device 'auto' goes on to the next engine: %s", error)
            refusals.append(error)
            continue
        possible = [dtype for dtype in dtypes if compute_dtype in ("auto", dtype)]
        if not possible:
            refusals.append(DeviceError(f"{device} computes in {' or '.join(dtypes)}, not in {compute_dtype}"))
        yield from ((device, dtype) for dtype in possible)


def _failure_on_probes(bundle: Bundle, routes: Routes, cache: Path) -> str:
    """Return what is wrong with the engine's vectors, "" for nothing; what passed once on this CPU is believed."""
    engine = routes.main.engine
    told = (bundle.manifest_sha256, engine.name, engine.version, engine.device, engine.compute_dtype, cpu_identity())
    kept = cache / "verdicts" / hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]
    if read_cached(kept) == _PASSED:
        return ""
    try:
        failure = quick_failure(
            routes, [_few(probes) for probes in read_probes(bundle.path, bundle.manifest.output_width)]
        )
    except MonographError as error:
        # An engine that loads a graph and cannot run it is no better than one that cannot load it.
        failure = str(error)
    if not failure:
        write_cached(kept, _PASSED)
    return failure


def _few(probes: Probes) -> Probes:
    """Return the shortest probe, one between, and the longest that is quick."""
    order = sorted(range(len(probes.texts)), key=lambda i: probes.token_counts[i])
    quick = [i for i in order if probes.token_counts[i] <= QUICK_PROBE_TOKENS] or order[:1]
    chosen = sorted({quick[0], quick[len(quick) // 2], quick[-1]})
    return replace(
        probes,
        texts=tuple(probes.texts[i] for i in chosen),
        token_counts=tuple(probes.token_counts[i] for i in chosen),
        vectors=probes.vectors[chosen],
    )
