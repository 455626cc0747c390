"""Open a bundle on the device a user names, or on the best one that proves right (device="auto")."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monograph.bundle import Bundle, Check, open_bundle
from monograph.bundle.files import state_of
from monograph.bundle.manifest import WEIGHTS_SUFFIX
from monograph.bundle.sources import locate_bundle
from monograph.cache import read_cached, usable_cache, write_cached
from monograph.cpu import available_cpus, cpu_identity
from monograph.defaults import CallDefaults
from monograph.engines import EngineOptions, automatic_devices, check_quality, dtypes_for, engines, select_precision
from monograph.engines.devices import check_compute_dtype, check_options, installed_version, was_verified
from monograph.engines.registry import engine_for
from monograph.errors import BundleError, DeviceError, MonographError
from monograph.hub import DEFAULT_ACCESS, HubAccess
from monograph.inference.routes import Routes, Tokenizers, load_routes, load_tokenizers
from monograph.inference.verification import ProofError, quick_failure, wrong_on_probes
from monograph.inputs import check_count
from monograph.quality import QualityLevel
from monograph.version import __version__

logger = logging.getLogger(__name__)
_PASSED = b"passed"
# More than any machine has; a larger number is a mistake, and engines fail on it in ways of their own.
_MAX_THREADS = 4096


@dataclass(frozen=True)
class OpenModel:
    """A bundle of the precision that was selected, what runs it, the absolute path of its folder, and its defaults."""

    bundle: Bundle
    routes: Routes
    folder: Path
    defaults: CallDefaults[Any]


@dataclass(frozen=True)
class ModelSource:
    """What a model is opened from and with; a pickled model is this, and the hash of the manifest that it had.

    ``defaults`` are what a user set in place of the bundle's own, None for these.
    """

    path: str | os.PathLike[str]
    device: str
    compute_dtype: str
    threads: int | None
    check: Check
    cache_dir: str | os.PathLike[str] | None
    max_tokens_per_batch: int | None = None
    manifest_sha256: str | None = None
    quality: QualityLevel | None = None
    access: HubAccess = DEFAULT_ACCESS
    defaults: CallDefaults[Any] | None = None

    def open_bundle(self) -> Bundle:
        """Read and check the bundle.

        Raises:
            BundleError: it is missing or damaged, or is not the one that was pickled.

        """
        bundle = open_bundle(locate_bundle(self.path, self.cache_dir, access=self.access), self.check)
        if self.manifest_sha256 not in (None, bundle.manifest_sha256):
            raise BundleError(self.path, ["it is another bundle than the one that was pickled: pickle the model again"])
        return bundle

    def open(self, bundle: Bundle, task: str) -> OpenModel:
        """Open the bundle on its device.

        Raises:
            BundleError: it is of another task than ``task``, or a file does not fit its manifest.
            DeviceError: the device cannot run it here.

        """
        if (other := bundle.task).name != task:
            opener = f"{other.model.partition(':')[2]} ({other.command})"
            raise BundleError(
                self.path, [f"its task is {other.name!r}, and this class runs {task!r}: open it with {opener}"]
            )
        routes = open_routes(
            bundle,
            device=self.device,
            compute_dtype=self.compute_dtype,
            threads=self.threads,
            cache_dir=self.cache_dir,
            max_tokens_per_batch=self.max_tokens_per_batch,
            quality=self.quality,
        )
        defaults = self.defaults or CallDefaults.of(bundle.manifest)
        if defaults.max_length is not None:
            routes.limit_length(defaults.max_length)
        return OpenModel(routes.bundle, routes, bundle.path.absolute(), defaults)


def model_source(
    path: str | os.PathLike[str],
    device: str | None,
    compute_dtype: str,
    threads: int | None,
    check: Check,
    cache_dir: str | os.PathLike[str] | None,
    max_tokens_per_batch: int | None,
    quality: QualityLevel | None = None,
) -> ModelSource:
    """Return the checked arguments that a model is opened with.

    Raises:
        InputError: a number is not a count, or the quality is not known.

    """
    threads = None if threads is None else check_count(threads, "threads", _MAX_THREADS)
    if max_tokens_per_batch is not None:
        max_tokens_per_batch = check_count(max_tokens_per_batch, "max_tokens_per_batch")
    check_quality(quality)
    device = "auto" if device is None else device
    return ModelSource(path, device, compute_dtype, threads, check, cache_dir, max_tokens_per_batch, quality=quality)


def open_routes(
    bundle: Bundle,
    *,
    device: str,
    compute_dtype: str,
    threads: int | None,
    cache_dir: str | os.PathLike[str] | None = None,
    max_tokens_per_batch: int | None = None,
    quality: QualityLevel | None = None,
) -> Routes:
    """Load the tokenizer and the graph of a bundle, of each of its routes.

    Args:
        bundle: The bundle.
        device: "auto", or a kind of device with an optional ":" and a name.
        compute_dtype: "auto", or a type.
        threads: CPU threads; None for every CPU allowed.
        cache_dir: Folder for what can be computed again; None for the user's cache.
        max_tokens_per_batch: As in ``BatchRunner``.
        quality: The quality level that the graph has to reach; None for the bundle's first precision.

    Raises:
        BundleError: a file cannot be loaded or does not fit the manifest.
        DeviceError: the device cannot run the bundle here, or has no graph of the quality; for "auto", no engine can.
        InputError: the quality is not known.

    """
    for name, value in {"device": device, "compute_dtype": compute_dtype}.items():
        if not isinstance(value, str):
            advice = "leave it at 'auto', or name it as the documentation does: 'cuda:0', 'float32'"
            raise DeviceError(f"{name} must be a str, got {value!r}: {advice}")
    check_compute_dtype(compute_dtype)
    check_quality(quality)
    tokenizers = load_tokenizers(bundle)
    cache = usable_cache(cache_dir)
    options = EngineOptions(device, compute_dtype, available_cpus() if threads is None else threads, cache)
    opener = _Opener(bundle, tokenizers, cache, max_tokens_per_batch)
    if device == "auto":
        return opener.open_preferred(options, quality)
    chosen = replace(opener, bundle=select_precision(bundle, device, quality, compute_dtype))
    return chosen.open_proven(options, trust_export=True)


@dataclass(frozen=True)
class _Opener:
    """Opens a bundle with its tokenizers on one device after another."""

    bundle: Bundle
    tokenizers: Tokenizers
    cache: Path | None
    max_tokens_per_batch: int | None

    def open_preferred(self, options: EngineOptions, quality: QualityLevel | None) -> Routes:
        """Open the first engine, in order of preference, that gives the reference on a few probes.

        Each engine is tried with one precision of the bundle, that of the ``quality``.
        """
        refusals: list[MonographError] = []
        ended, suspected = "", False
        tried = automatic_devices()
        others = ", ".join(entry.kind for entry in engines() if entry.kind not in tried) or "none"
        logger.info("device 'auto' tries %s; not installed, or not for this CPU: %s", ", ".join(tried), others)
        for bundle, device, compute_dtype in _candidates(self.bundle, options.compute_dtype, quality, refusals):
            # What has ended a process in one type is not tried in another.
            if device == ended:
                continue
            try:
                chosen = replace(options, device=device, compute_dtype=compute_dtype)
                opener = replace(self, bundle=bundle)
                routes = opener.open_proven(chosen, trust_export=False, in_subprocess=suspected)
            except (DeviceError, BundleError) as error:
                refusals.append(error)
                # What one engine failed on may crash another.
                suspected = suspected or isinstance(error, (ProofError, BundleError))
                ended = device if isinstance(error, ProofError) and error.ended else ended
                continue
            # Where no engine is left, the error says the same.
            for refusal in refusals:
                logger.warning("device 'auto' goes on to the next engine: %s", refusal)
            return routes
        if all(isinstance(error, BundleError) for error in refusals):
            raise refusals[-1]
        raise DeviceError(f"no installed engine can run bundle {self.bundle.path}: {'; '.join(map(str, refusals))}")

    def open_proven(self, options: EngineOptions, *, trust_export: bool, in_subprocess: bool = False) -> Routes:
        """Open an engine that gives the reference on a few probes, or where the export verified it if that suffices.

        The export's word does not suffice of an engine that a damaged graph may crash: it is the bundle's own. Such an
        engine computes the probes in another process first, and any other where ``in_subprocess``.

        Raises:
            DeviceError: it does not.

        """
        may_crash = engine_for(options.device).may_crash
        if may_crash or in_subprocess:
            self._prove_in_subprocess(options)
        with ExitStack() as on_failure:
            routes = load_routes(self.bundle, self.tokenizers, options, max_tokens_per_batch=self.max_tokens_per_batch)
            on_failure.callback(routes.close)
            engine = routes.main.engine
            trusted = may_crash or in_subprocess or (trust_export and was_verified(self.bundle, engine))
            failure = "" if trusted else self._failure_on_probes(routes, options)
            if not failure:
                on_failure.pop_all()
                return routes
        raise ProofError(wrong_on_probes(options.device, engine.compute_dtype, failure))

    def _prove_in_subprocess(self, options: EngineOptions) -> None:
        """Have a few probes computed in another process, unless an engine that may crash once did so on this CPU.

        Raises:
            BundleError: the engine cannot load the graph.
            DeviceError: the device cannot run the bundle here.

        """
        check_options(self.bundle, options)
        entry = engine_for(options.device)
        cached = entry.may_crash
        # Another engine is not imported here yet.
        version = installed_version(entry) if cached else ""
        if cached and _has_passed(self._proof(options, version)):
            return
        # Takes longer to import than a cached result to be read.
        from monograph.inference.verifier_process import prove

        compute_dtype = prove(self.bundle, options)
        for proven in {options.compute_dtype, compute_dtype} if cached else ():
            _record_pass(self._proof(replace(options, compute_dtype=proven), version))

    def _failure_on_probes(self, routes: Routes, options: EngineOptions) -> str:
        """Return what is wrong with the engine's vectors, "" for nothing; what passed once on this CPU is trusted."""
        engine = routes.main.engine
        proof = self._proof(replace(options, compute_dtype=engine.compute_dtype), engine.version)
        if _has_passed(proof):
            return ""
        failure = quick_failure(routes)
        if not failure:
            _record_pass(proof)
        return failure

    def _proof(self, options: EngineOptions, version: str) -> Path | None:
        """Return where the cache has the proof that a version of the engine is right, None without a cache.

        Weights are not hashed at a start, and others of the same size could crash an engine: it is for these alone.
        """
        if self.cache is None:
            return None
        weights = (self.bundle.path / name for name in self.bundle.manifest.files if name.endswith(WEIGHTS_SUFFIX))
        key = (
            *(__version__, self.bundle.identity, options.device, options.compute_dtype, version),
            *(engine_for(options.device).engine, cpu_identity(), *(str(state_of(file)) for file in weights)),
        )
        return self.cache / "verifications" / hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


def _candidates(
    bundle: Bundle, compute_dtype: str, quality: QualityLevel | None, refusals: list[MonographError]
) -> Iterator[tuple[Bundle, str, str]]:
    """Yield devices and types in order of preference, each with the bundle restricted to the precision to run there.

    What a device refuses by itself goes to ``refusals``.
    """
    for device in automatic_devices():
        try:
            selected = select_precision(bundle, device, quality, compute_dtype)
            dtypes = dtypes_for(selected, device)
        except DeviceError as error:
            refusals.append(error)
            continue
        possible = [dtype for dtype in dtypes if compute_dtype in ("auto", dtype)]
        if not possible:
            refusals.append(
                DeviceError(
                    f"{device} computes in {' or '.join(dtypes)}, not in {compute_dtype}: leave compute_dtype at 'auto'"
                )
            )
        yield from ((selected, device, dtype) for dtype in possible)


def _has_passed(proof: Path | None) -> bool:
    return proof is not None and read_cached(proof) == _PASSED


def _record_pass(proof: Path | None) -> None:
    if proof is not None:
        write_cached(proof, _PASSED)
