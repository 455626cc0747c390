"""Choose among the precisions of a bundle: by a stated loss, the quickest that a device runs."""

from __future__ import annotations

from monograph.bundle import Bundle
from monograph.engines.devices import dtypes_for
from monograph.engines.registry import EngineEntry, engine_for
from monograph.errors import DeviceError, InputError
from monograph.quality import LEVELS, QualityLevel


def check_quality(quality: object) -> None:
    """Raise ``InputError`` unless this is a quality level or None."""
    if quality is not None and quality not in LEVELS:
        raise InputError(f"quality must be {', '.join(map(repr, LEVELS))} or None, got {quality!r}")


def level_of(bundle: Bundle) -> QualityLevel:
    """Return the best quality level that the first precision of a bundle reaches."""
    manifest = bundle.manifest
    return bundle.task.level_of(manifest.precisions[0], manifest.quality)


def select_precision(bundle: Bundle, device: str, quality: QualityLevel | None, compute_dtype: str = "auto") -> Bundle:
    """Return the bundle restricted to the precision to run on a device.

    ``quality`` None is the default, the first precision that the device runs. A level is the quickest of the precisions
    that reach it and run on the device, and of those in ``compute_dtype`` if one does.

    Raises:
        DeviceError: no precision reaches the level on the device, or the device is not known or not installed.

    """
    entry = engine_for(device)
    possible = [one for one in bundle.by_precision if _runs(entry, one)]
    if not possible:
        # Opening the device explains why.
        return bundle
    if quality is None:
        return possible[0]
    sufficient = [one for one in possible if LEVELS.index(level_of(one)) <= LEVELS.index(quality)]
    if not sufficient:
        raise DeviceError(_missing(bundle, possible, device, quality))
    if compute_dtype != "auto":
        sufficient = [one for one in sufficient if compute_dtype in dtypes_for(one, device)] or sufficient
    speeds = list(entry.precisions)
    return max(sufficient, key=lambda one: speeds.index(one.manifest.precisions[0]))


def _runs(entry: EngineEntry, bundle: Bundle) -> bool:
    graphs = bundle.manifest.graphs
    return any(graph.precision in entry.precisions and entry.kind in graph.devices for graph in graphs)


def _missing(bundle: Bundle, possible: list[Bundle], device: str, quality: QualityLevel) -> str:
    """Return in words which levels the device could run, and how to export what is missing."""
    present = " and ".join(f"{one.manifest.precisions[0]} of quality {level_of(one)!r}" for one in possible)
    precisions = bundle.manifest.precisions
    advice = "--table fp32" if "fp32" in precisions else f"--precision {','.join([*precisions, 'fp32'])}"
    return (
        f"bundle {bundle.path} has no graph of quality {quality!r} for {device!r}, only {present}: choose another "
        f"quality, or export it with {advice}"
    )
