"""Fill the cache, so that later starts are faster and processes smaller."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.cache import cache_folder
from monograph.cpu import available_cpus
from monograph.engines import EngineOptions
from monograph.errors import MonographError
from monograph.inference.opening import open_routes


def prepare(
    path: str | os.PathLike[str],
    device: str = "auto",
    compute_dtype: str = "auto",
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[Path, ...]:
    """Cache what a device starts from: graphs compiled by OpenVINO, weights packed by ONNX Runtime on the CPU.

    The arguments are those of ``Embedder``. ONNX Runtime then memory-maps the packed weights: processes start faster
    and share them. They take about twice the disk space of the bundle's weights, and are valid for this bundle, version
    of ONNX Runtime and kind of CPU.

    Returns:
        The folders of packed weights, one per graph; none on other devices.

    Raises:
        BundleError: the bundle is missing or damaged.
        DeviceError: the device cannot run the bundle here.
        MonographError: the packed weights cannot be used, or gave wrong vectors and were removed.
        OSError: the cache cannot be written.

    """
    bundle = open_bundle(locate_bundle(path, cache_dir))
    with closing(
        open_routes(bundle, device=device, compute_dtype=compute_dtype, threads=threads, cache_dir=cache_dir)
    ) as routes:
        engines = [pipeline.engine for pipeline in routes.pipelines.values()]
        folders = tuple(folder for engine in engines if (folder := engine.prepare()) is not None)
    if folders and (failure := _verify_apart(bundle, threads, cache_folder(cache_dir))):
        for folder in folders:
            shutil.rmtree(folder)
        raise MonographError(f"with packed weights the bundle is wrong, and they were removed: {failure}")
    return folders


def _verify_apart(bundle: Bundle, threads: int | None, cache: Path) -> str:
    """Verify the bundle in a process that may crash; return the failure, "" for none."""
    # Not wanted by those who import the package and prepare nothing.
    from monograph.inference.verifier_process import verify_apart

    options = EngineOptions("cpu", "auto", available_cpus() if threads is None else threads, cache)
    try:
        return verify_apart(bundle, options).reason
    except MonographError as error:
        return str(error)
