"""Fill the cache, so that later starts are faster and processes use less memory."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

from monograph.atomic import find_full_disk, publish_folder
from monograph.bundle import Bundle, open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.cache import CACHE_ADVICE, PRIVATE_FOLDER, cache_folder, check_cache, make_private_folder
from monograph.engines import EngineOptions
from monograph.engines.packed_weights import find_packed_graph
from monograph.errors import MonographError
from monograph.inference.opening import open_routes
from monograph.progress import Progress, progress_for
from monograph.quality import QualityLevel
from monograph.staging import staging_folder


def prepare(
    path: str | os.PathLike[str],
    device: str = "auto",
    compute_dtype: str = "auto",
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    show_progress_bar: bool | Progress | None = None,
    quality: QualityLevel | None = None,
) -> tuple[Path, ...]:
    """Fill the cache for faster starts: with graphs compiled by OpenVINO, or weights packed by ONNX Runtime on the CPU.

    The arguments are those of ``Embedder``. ONNX Runtime memory-maps the packed weights, so processes start faster and
    share them. Packed weights take about twice the disk space of the bundle's weights and are valid for one bundle,
    version of ONNX Runtime and kind of CPU. They are used only after the bundle has been verified with them, in another
    process.

    ``show_progress_bar`` is that of ``Embedder.encode``, or a ``monograph.progress.Progress`` that receives the steps.

    Returns:
        The folders of packed weights, one per graph; empty for devices that do not pack weights.

    Raises:
        BundleError: the bundle is missing or damaged.
        DeviceError: the device cannot run the bundle here.
        MonographError: the cache cannot be used or written, or the packed weights gave wrong vectors.

    Examples:
        >>> all(folder.is_dir() for folder in prepare(bundle, device="cpu"))
        True

    """
    progress = progress_for(show_progress_bar)
    folder = cache_folder(cache_dir)
    cache, problem = check_cache(folder)
    if problem:
        raise MonographError(f"the cache {folder} cannot be used ({problem}): {CACHE_ADVICE}")
    # By default a download shows huggingface_hub's own bars, as opening a model by its name does.
    downloads = None if show_progress_bar is None else progress
    bundle = open_bundle(locate_bundle(path, cache_dir, downloads))
    try:
        make_private_folder(cache)
        with progress.step(f"Loading on {device} at {compute_dtype}"):
            routes = open_routes(
                bundle, device=device, compute_dtype=compute_dtype, threads=threads, cache_dir=cache, quality=quality
            )
        with (
            closing(routes),
            # A cache folder of its own, within the other: the same disk, and the process that proves it finds it.
            staging_folder(cache / "prepared", mode=PRIVATE_FOLDER) as staged,
        ):
            engines = [pipeline.engine for pipeline in routes.pipelines.values()]
            with progress.step("Filling the cache", len(engines), "graphs") as step:
                places = []
                for engine in engines:
                    places += [place] if (place := engine.prepare(staged)) is not None else []
                    step.advance()
            new = [place for place in places if (staged / place).exists()]
            if new and (failure := _find_failure(routes.bundle, engines[0].threads, staged, progress)):
                raise MonographError(f"with packed weights the bundle is wrong, and they were removed: {failure}")
            for place in new:
                _publish(staged / place, cache / place)
    except OSError as error:
        problem = find_full_disk(error, cache) or f"{error.filename or cache} cannot be written ({error.strerror})"
        megabytes = 2 * sum(bundle.weights_bytes(graph) for graph in bundle.manifest.graphs) / 1e6
        raise MonographError(f"{problem}, or {CACHE_ADVICE}; packed weights take about {megabytes:,.0f} MB") from error
    return tuple(cache / place for place in places)


def _publish(staged: Path, folder: Path) -> None:
    """Rename proven packed weights into use, in place of any that cannot be used."""
    make_private_folder(folder.parent)
    if folder.exists() and find_packed_graph(folder) is None:
        shutil.rmtree(folder)
    try:
        publish_folder(staged, folder)
    except OSError:
        # Another process may have proven the same first.
        if find_packed_graph(folder) is None:
            raise


def _find_failure(bundle: Bundle, threads: int, staged: Path, progress: Progress) -> str:
    """Verify the bundle with packed weights in a process that may crash; return the failure, "" for none."""
    # Not wanted by those who import the package and prepare nothing.
    from monograph.inference.verifier_process import verify_in_subprocess

    try:
        options = EngineOptions("cpu", "auto", threads, staged, packed_only=True)
        return verify_in_subprocess(bundle, options, progress=progress).reason
    except MonographError as error:
        return str(error)
