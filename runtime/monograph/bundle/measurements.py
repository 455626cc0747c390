"""measurements.json: what engines measured at the export, apart from the files that every export makes alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from monograph.bundle.manifest import MEASUREMENTS_FILE, Manifest
from monograph.fields import Fields
from monograph.json_files import json_bytes, parse_json, read_bounded
from monograph.quality import Agreement, Measurements, read_measurements

# Hundreds of times what the file has.
MAX_MEASUREMENTS_BYTES = 8 * 2**20


@dataclass(frozen=True)
class MeasurementsFile:
    """The content of measurements.json: what was measured of each precision, and the hash of its manifest.json."""

    manifest_sha256: str
    first: Measurements
    further_precisions: dict[str, Measurements]

    def add_to(self, manifest: Manifest) -> Manifest:
        """Return a manifest with these measurements in its quality, for each precision that has some."""
        further = {
            name: replace(entry, quality=entry.quality.with_measurements(self.further_precisions[name]))
            if name in self.further_precisions
            else entry
            for name, entry in manifest.further_precisions.items()
        }
        return replace(manifest, quality=manifest.quality.with_measurements(self.first), further_precisions=further)


def write_measurements(folder: Path, manifest: Manifest, manifest_sha256: str) -> None:
    """Write measurements.json into a bundle's folder, with what the quality of its manifest has measured."""
    further = {name: entry.quality.measurements.to_json() for name, entry in manifest.further_precisions.items()}
    values = {
        "manifest_sha256": manifest_sha256,
        **manifest.quality.measurements.to_json(),
        **({"further_precisions": further} if further else {}),
    }
    (folder / MEASUREMENTS_FILE).write_bytes(json_bytes(values))


def open_measurements(
    folder: Path, manifest_sha256: str, agreement_type: type[Agreement]
) -> tuple[MeasurementsFile | None, list[str]]:
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
    fields = Fields(value, "", problems)
    measurements = MeasurementsFile(
        fields.need("manifest_sha256", str),
        read_measurements(fields, agreement_type),
        {name: read_measurements(entry, agreement_type) for name, entry in fields.entries("further_precisions")},
    )
    if problems:
        return None, [f"{MEASUREMENTS_FILE}: {problem}" for problem in problems]
    if measurements.manifest_sha256 != manifest_sha256:
        return None, [
            f"{MEASUREMENTS_FILE} belongs to another manifest.json, by its sha256: copy both from the same bundle, or "
            f"remove {MEASUREMENTS_FILE}"
        ]
    return measurements, []
