"""Open a bundle: a folder with a graph, its tokenizer and reference vectors."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from monograph.bundle.files import find_file_problems
from monograph.bundle.graph_scanner import MAX_GRAPH_BYTES, WeightsFile, find_graph_problems
from monograph.bundle.manifest import MANIFEST_FILE, PROBES_FILE, Graph, Manifest
from monograph.bundle.manifest_reader import read_manifest
from monograph.bundle.measurements import open_measurements
from monograph.errors import BundleError, InputError
from monograph.json_files import parse_json, read_bounded
from monograph.paths import user_path
from monograph.progress import SILENT, Progress
from monograph.tasks import Task, task_named

Check = Literal["fast", "full"]
# Hundreds of times what a manifest has.
MAX_MANIFEST_BYTES = 8 * 2**20
# The files by which the folder of a checkpoint is recognized.
_CHECKPOINT_FILES = ("modules.json", "config.json")


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder, whose files have been checked.

    Attributes:
        path: The folder.
        manifest: The contents of its manifest.json, with what measurements.json has of its quality.
        manifest_sha256: SHA-256 of manifest.json, which contains that of every other file: 64 hexadecimal digits.
        precision: The precision that the manifest was restricted to, of a bundle with several; otherwise None.
        probes_file: The name of the file of its probes.

    Examples:
        >>> from monograph.bundle import open_bundle
        >>> opened = open_bundle(bundle, check="full")
        >>> opened.task.name, opened.size_bytes > 0
        ('embedding', True)

    """

    path: Path
    manifest: Manifest
    manifest_sha256: str
    precision: str | None = None
    probes_file: str = PROBES_FILE

    @property
    def identity(self) -> str:
        """A string that differs for bundles, and for the precisions of a bundle, whose outputs may differ."""
        return self.manifest_sha256 if self.precision is None else f"{self.manifest_sha256} {self.precision}"

    def restricted_to(self, precision: str) -> Bundle:
        """Return the bundle as one that has a single one of its precisions; itself, if it has only one."""
        if self.manifest.precisions == (precision,):
            return self
        further = self.manifest.further_precisions.get(precision)
        probes = self.probes_file if further is None else further.probes
        return replace(self, manifest=self.manifest.restricted_to(precision), precision=precision, probes_file=probes)

    @property
    def by_precision(self) -> tuple[Bundle, ...]:
        """The bundle restricted to each of its precisions, the default first."""
        return tuple(map(self.restricted_to, self.manifest.precisions))

    @property
    def task(self) -> Task[Any]:
        """The bundle's task."""
        task = task_named(self.manifest.task)
        if task is None:
            raise BundleError(self.path, [f"task {self.manifest.task!r} is not known to this release"])
        return task

    def weights_path(self, graph: Graph) -> Path:
        """Return the path of a graph's weights; several graphs may share a file."""
        return self.path / self.manifest.weights_file(graph)

    def weights_bytes(self, graph: Graph) -> int:
        """Return the size of a graph's weights; of graphs of one precision that share a file, of the whole file."""
        size = self.manifest.files[self.weights_path(graph).name].bytes
        return size if graph.weights_bytes is None else min(size, graph.weights_bytes)

    @property
    def size_bytes(self) -> int:
        """The total size of the files that the manifest lists."""
        return sum(entry.bytes for entry in self.manifest.files.values())


def open_bundle(path: str | os.PathLike[str], check: Check = "fast", progress: Progress = SILENT) -> Bundle:
    """Read and check a bundle.

    ``check="fast"`` compares the hashes of the small files and the size of the weights, ``"full"`` hashes all, which is
    a step of ``progress``. Both read the graphs, so that no engine is given one that reaches for anything but its
    weights.

    Raises:
        BundleError: with every problem.
        InputError: ``check`` is something else.

    """
    if not isinstance(check, str) or check not in ("fast", "full"):
        raise InputError(f"check must be 'fast' or 'full', got {check!r}")
    folder = user_path(path)
    content = _read_manifest_bytes(folder)
    manifest, problems = parse_manifest(folder, content)
    file_problems = find_file_problems(folder, manifest.files, full=check == "full", progress=progress)
    graph_problems = [] if problems else _find_graph_problems(folder, manifest, file_problems)
    digest = hashlib.sha256(content).hexdigest()
    if not problems:
        manifest, problems = _with_measurements(folder, manifest, digest)
    problems += [*dict.fromkeys(file_problems.values()), *graph_problems]
    if problems:
        raise BundleError(folder, problems)
    return Bundle(folder, manifest, digest)


def check_staged(staging: Path, name: object, progress: Progress = SILENT) -> None:
    """Hash every file of a bundle in a staging folder; raise ``BundleError`` with every problem, under ``name``."""
    try:
        open_bundle(staging, "full", progress)
    except BundleError as error:
        raise BundleError(name, error.problems) from error


def parse_manifest(bundle: object, content: bytes) -> tuple[Manifest, list[str]]:
    """Parse manifest.json into a manifest and its problems; ``bundle`` is the name in errors.

    Raises:
        BundleError: it is not JSON.

    """
    try:
        value = parse_json(content)
    except ValueError as error:
        raise BundleError(bundle, [f"{MANIFEST_FILE} is not JSON ({error}): export the model again"]) from error
    return read_manifest(value)


def _with_measurements(folder: Path, manifest: Manifest, manifest_sha256: str) -> tuple[Manifest, list[str]]:
    """Return a valid manifest with the measurements beside it, if there are any, and the problems of these."""
    task = task_named(manifest.task)
    if task is None:
        return manifest, []
    measurements, problems = open_measurements(folder, manifest_sha256, task.agreement_type)
    if measurements is None:
        return manifest, problems
    return measurements.add_to(manifest), []


def _find_graph_problems(folder: Path, manifest: Manifest, damaged: Container[str]) -> list[str]:
    """Return the problems of the graphs of a valid manifest whose files are not ``damaged``."""
    problems = []
    scans = dict.fromkeys((graph.file, graph.op_domains, manifest.weights_file(graph)) for graph in manifest.graphs)
    if (total := sum(manifest.files[file].bytes for file, _, _ in scans)) > MAX_GRAPH_BYTES:
        return [
            f"its graphs have {total:,} bytes, more than {MAX_GRAPH_BYTES:,}: export the model again, with its weights "
            "apart"
        ]
    for file, op_domains, weights in scans:
        if file not in damaged:
            size = manifest.files[weights].bytes
            problems += find_graph_problems(folder / file, WeightsFile(weights, size), op_domains)
    return problems


def _read_manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST_FILE
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise BundleError(folder, [f"{MANIFEST_FILE} is a link; a bundle holds real files"])
        if not stat.S_ISREG(mode):
            raise BundleError(folder, [f"{MANIFEST_FILE} is not a regular file"])
        return read_bounded(path, MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(folder, [_describe_missing(folder)]) from error
    except (OSError, ValueError) as error:
        raise BundleError(folder, [f"{MANIFEST_FILE} cannot be read ({error})"]) from error


def _describe_missing(folder: Path) -> str:
    """Return in words what a path without a manifest is, and what to do."""
    if folder.is_file():
        return "this is a file, and a bundle is a folder: extract a packed bundle with `monograph unpack FILE FOLDER`"
    if any((folder / name).is_file() for name in _CHECKPOINT_FILES):
        return f"this is a checkpoint: make a bundle of it with `monograph export {folder} OUTPUT`"
    if folder.exists():
        return f"there is no {MANIFEST_FILE}: this is not a bundle, make one with `monograph export SOURCE OUTPUT`"
    return describe_absent(folder)


def describe_absent(source: str | os.PathLike[str]) -> str:
    """Return what to do where there is nothing at a path, given as the caller wrote it."""
    text = os.fspath(source)
    if Path(text).name == text:
        # A single word may be the name of a model, which sentence-transformers would download.
        return f"there is no such folder: check the path; if it names a model, first `monograph export {text} OUTPUT`"
    return f"there is no such folder: check the path, or make a bundle there with `monograph export SOURCE {text}`"
