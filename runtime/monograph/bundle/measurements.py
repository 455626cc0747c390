"""measurements.json: what engines measured at the export, apart from the files that every export makes alike."""

from __future__ import annotations

from pathlib import Path

from monograph.bundle.manifest import MEASUREMENTS_FILE
from monograph.fields import Fields
from monograph.json_files import json_bytes, parse_json, read_bounded
from monograph.quality import Agreement, Measurements, read_measurements

# Hundreds of times what the file has.
MAX_MEASUREMENTS_BYTES = 8 * 2**20


def write_measurements(folder: Path, measurements: Measurements) -> None:
    """Write measurements.json into a bundle's folder."""
    (folder / MEASUREMENTS_FILE).write_bytes(json_bytes(measurements.to_json()))


def open_measurements(
    folder: Path, manifest_sha256: str, agreement_type: type[Agreement]
) -> tuple[Measurements | None, list[str]]:
    """Read the measurements of a bundle whose manifest has a hash; return them, None for no file, and every problem.

    Without the file a bundle is as usable as with it: older ones have their measurements in the manifest.
    """
    path = folder / MEASUREMENTS_FILE
    if path.is_symlink():
        return None, [f"{MEASUREMENTS_FILE} is a link; a bundle holds real files"]
    try:
        value = parse_json(read_bounded(path, MAX_MEASUREMENTS_BYTES))
    except FileNotFoundError:
        return None, []
    except (OSError, ValueError) as error:
        return None, [f"{MEASUREMENTS_FILE} cannot be read ({error}): remove it, or export the model again"]
    problems: list[str] = []
    measurements = read_measurements(Fields(value, "", problems), agreement_type)
    if problems:
        return None, [f"{MEASUREMENTS_FILE}: {problem}" for problem in problems]
    if measurements.manifest_sha256 != manifest_sha256:
        return None, [
            f"{MEASUREMENTS_FILE} belongs to another manifest.json, by its sha256: copy both from the same bundle, or "
            f"remove {MEASUREMENTS_FILE}"
        ]
    return measurements, []
