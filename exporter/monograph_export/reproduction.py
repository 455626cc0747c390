"""Compare a bundle with another export of the same checkpoint, file by file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from monograph.bundle import Bundle
from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import MANIFEST_FILE, MEASUREMENTS_FILE

_PREFIX = 12
# Keys of the manifest that are named.
_NAMED = 12


@dataclass(frozen=True)
class ComparedFile:
    """A file's SHA-256 in either bundle, None where it has no such file."""

    name: str
    exported: str | None
    expected: str | None

    @property
    def equal(self) -> bool:
        """Whether both bundles have the file, with the same bytes."""
        return self.exported == self.expected

    def describe(self) -> str:
        """Return the comparison as one line."""
        exported, expected = (digest[:_PREFIX] if digest else "missing" for digest in (self.exported, self.expected))
        return f"{self.name}: equal, {exported}" if self.equal else f"{self.name}: differs, {exported} and {expected}"


@dataclass(frozen=True)
class BundleComparison:
    """How an export differs from a bundle.

    Attributes:
        files: Every file but the measurements, which engines make anew each time.
        manifest_keys: The keys of manifest.json whose values differ, such as "quality.reference".
        versions: The packages of ``producer`` whose versions differ: that of the export and that of the bundle.
        measurements: measurements.json, which does not count; None where neither has one.

    """

    files: tuple[ComparedFile, ...]
    manifest_keys: tuple[str, ...]
    versions: Mapping[str, tuple[str, str]]
    measurements: ComparedFile | None

    @property
    def differing(self) -> tuple[str, ...]:
        """The names of the files that differ; none if the bundle was reproduced."""
        return tuple(file.name for file in self.files if not file.equal)

    def describe(self) -> Iterator[str]:
        """Yield the comparison line by line."""
        for file in self.files:
            yield file.describe()
        if self.manifest_keys:
            more = len(self.manifest_keys) - _NAMED
            named = ", ".join(self.manifest_keys[:_NAMED])
            yield f"keys of {MANIFEST_FILE} that differ: {named}{f' and {more} more' if more > 0 else ''}"
        if self.measurements is not None:
            yield f"{self.measurements.describe()} (not compared: measured anew by each export)"

    def describe_versions(self) -> str:
        """Return the differing versions in words, "" for none."""
        return ", ".join(f"{name} {ours} instead of {theirs}" for name, (ours, theirs) in self.versions.items())


def compare_bundles(exported: Bundle, expected: Bundle) -> BundleComparison:
    """Compare an export with a bundle by the hashes in their manifests, which opening with ``check="full"`` proves.

    Examples:
        >>> from monograph_export import export
        >>> bundles = [export(checkpoint, folder) for folder in ("first", "second")]
        >>> compare_bundles(*bundles).differing
        ()

    """
    names = dict.fromkeys([*exported.manifest.files, *expected.manifest.files])
    files = [ComparedFile(name, _listed(exported, name), _listed(expected, name)) for name in names]
    files.append(ComparedFile(MANIFEST_FILE, exported.manifest_sha256, expected.manifest_sha256))
    ours, theirs = exported.manifest.producer, expected.manifest.producer
    versions = {
        name: (ours.get(name, "none"), theirs.get(name, "none"))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    }
    measured = ComparedFile(MEASUREMENTS_FILE, *map(_measured, (exported, expected)))
    return BundleComparison(
        tuple(files),
        tuple(_differing_keys(_manifest_of(exported), _manifest_of(expected))),
        versions,
        None if measured.exported is measured.expected is None else measured,
    )


def _listed(bundle: Bundle, name: str) -> str | None:
    entry = bundle.manifest.files.get(name)
    return None if entry is None else entry.sha256


def _measured(bundle: Bundle) -> str | None:
    path = bundle.path / MEASUREMENTS_FILE
    return sha256_of(path) if path.exists() else None


def _manifest_of(bundle: Bundle) -> object:
    return json.loads((bundle.path / MANIFEST_FILE).read_bytes())


def _differing_keys(first: object, second: object, name: str = "") -> Iterator[str]:
    """Yield the dotted names of the innermost values that differ; an absent key and null are the same."""
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for position, pair in enumerate(zip(first, second, strict=True)):
            yield from _differing_keys(*pair, f"{name}[{position}]")
    elif isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _differing_keys(first.get(key), second.get(key), f"{name}.{key}" if name else key)
    elif first != second:
        yield name
