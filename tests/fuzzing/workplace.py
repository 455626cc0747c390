"""The folders of a case: a bundle that is changed and restored, and files that nothing may open."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.outcomes import Violation
from fuzzing.watch import OpenedFiles
from monograph.bundle.probes import Probes, read_probes, write_probes

DATA = Path(__file__).parents[1] / "data"
BUNDLES = ("embedding", "embedding-int8", "rerank", "sparse", "sparse-routes")
MANIFEST = "manifest.json"
MEASUREMENTS = "measurements.json"
# Large enough for every length and offset that a graph may ask for.
_BAIT_BYTES = 1 << 18
# Verification of all probes would be most of the time.
_MAX_PROBES = 12


@dataclass(frozen=True)
class Special:
    """What is in the place of a file: a "link" to a target, a "folder", a "fifo", or a "sparse" file of a size."""

    kind: str
    target: str = ""
    bytes: int = 0


Content = bytes | Special
Files = Mapping[str, Content]


class Workplace:
    """A folder with copies of the committed bundles, with fewer probes, beside which lies what no bundle lists.

    ``originals`` are the files of each bundle, ``probes`` its probes, ``outside`` a file that nothing may open.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outside = root / "outside.bin"
        self.outside.write_bytes(b"\x42" * _BAIT_BYTES)
        self.opened = OpenedFiles()
        self.opened.add(root)
        self.originals = {name: _copy_with_fewer_probes(DATA / name, root / name) for name in BUNDLES}
        self.probes = {name: read_probes(root / name) for name in BUNDLES}
        for name in BUNDLES:
            self.opened.add(root / name)

    def folder(self, bundle: str) -> Path:
        """Return the folder of a bundle."""
        return self.root / bundle

    def apply(self, bundle: str, files: Files) -> None:
        """Make the bundle's folder hold ``files``."""
        folder, original = self.folder(bundle), self.originals[bundle]
        for name in original.keys() - files.keys():
            (folder / name).unlink()
        for name, content in files.items():
            if original.get(name) is not content:
                _write(folder / name, content)
        self.opened.take()

    def restore(self, bundle: str, files: Files) -> None:
        """Undo ``apply``."""
        folder, original = self.folder(bundle), self.originals[bundle]
        for name, content in files.items():
            if original.get(name) is not content:
                _remove(folder / name)
        for name, content in original.items():
            if files.get(name) is not content:
                _write(folder / name, content)

    def check_opened(self, bundle: str, files: Files) -> None:
        """Raise ``Violation`` if a file was opened that is not the bundle's."""
        folder = self.folder(bundle)
        listed = {MANIFEST, MEASUREMENTS, *_listed_names(files.get(MANIFEST))}
        foreign = sorted(
            str(path.relative_to(self.root))
            for path in self.opened.take()
            if not (path.parent == folder and path.name in listed)
        )
        if foreign:
            raise Violation("read of an unlisted file", ", ".join(foreign))


def state_files(files: dict[str, Content]) -> None:
    """Write sizes and hashes of the files that the manifest lists into it, as an attacker would."""
    manifest = json.loads(_bytes_of(files[MANIFEST]))
    for name, entry in manifest["files"].items():
        content = files.get(name)
        if isinstance(content, bytes):
            entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    files[MANIFEST] = json.dumps(manifest).encode()


def manifest_of(files: Files) -> Any:
    """Return the parsed manifest."""
    return json.loads(_bytes_of(files[MANIFEST]))


def _listed_names(content: Content | None) -> list[str]:
    try:
        files = json.loads(_bytes_of(content))["files"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return list(files) if isinstance(files, dict) else []


def _bytes_of(content: Content | None) -> bytes:
    if not isinstance(content, bytes):
        raise TypeError("not a regular file")
    return content


def _copy_with_fewer_probes(source: Path, folder: Path) -> dict[str, Content]:
    shutil.copytree(source, folder)
    write_probes(folder, [_fewer(probes) for probes in read_probes(source)])
    files: dict[str, Content] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    state_files(files)
    _write(folder / MANIFEST, files[MANIFEST])
    return files


def _fewer(probes: Probes) -> Probes:
    order = np.argsort(probes.token_counts, kind="stable")
    chosen = np.unique(order[np.linspace(0, len(order) - 1, _MAX_PROBES).astype(int)])
    return replace(
        probes,
        texts=tuple(probes.texts[i] for i in chosen),
        token_counts=tuple(probes.token_counts[i] for i in chosen),
        vectors=probes.vectors[chosen],
    )


def _write(path: Path, content: Content) -> None:
    _remove(path)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content.kind == "link":
        path.symlink_to(content.target)
    elif content.kind == "folder":
        path.mkdir()
    elif content.kind == "fifo":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(content.bytes)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
