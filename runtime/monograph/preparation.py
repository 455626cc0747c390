"""Do once, before a model is used, what makes its later starts faster and its processes smaller."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.cache import VARIABLE, cache_folder
from monograph.errors import MonographError
from monograph.inference.opening import open_routes


def prepare(
    path: str | os.PathLike[str],
    device: str = "auto",
    compute_dtype: str = "auto",
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[Path, ...]:
    """Write to the cache what a device can take from there: compiled graphs of OpenVINO, packed weights of the CPU.

    The arguments are those of ``Embedder``. ONNX Runtime on the CPU then maps its weights instead of packing them:
    processes start earlier, and share them. That takes about twice the room of the bundle's weights on the disk, and
    holds for this bundle, version of ONNX Runtime and kind of CPU.

    Returns:
        The folders of packed weights, one a graph; none on other devices.

    Raises:
        BundleError: the bundle is missing or damaged.
        DeviceError: the device cannot run the bundle here.
        MonographError: the packed weights cannot be used, or give other vectors and were removed.
        OSError: the cache cannot be written.

    """
    bundle = open_bundle(locate_bundle(path, cache_dir))
    with closing(
        open_routes(bundle, device=device, compute_dtype=compute_dtype, threads=threads, cache_dir=cache_dir)
    ) as routes:
        engines = [pipeline.engine for pipeline in routes.pipelines.values()]
        folders = tuple(folder for engine in engines if (folder := engine.prepare()) is not None)
    if folders and (failure := _failure(bundle, cache_folder(cache_dir))):
        for folder in folders:
            shutil.rmtree(folder)
        raise MonographError(f"with packed weights the bundle is wrong, and they were removed: {failure}")
    return folders


def _failure(bundle: Bundle, cache: Path) -> str:
    """Return why the bundle is wrong as it is opened now, "" where it is right: in a process that may crash."""
    command = [sys.executable, "-P", "-m", "monograph", "verify", str(bundle.path), "--device", "cpu"]
    environment = os.environ | {VARIABLE: str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - ours
    if done.returncode == 0:
        return ""
    said = [line for line in (*done.stdout.splitlines(), *done.stderr.splitlines()) if line]
    return said[-1] if said else f"the process ended with {done.returncode}"
