"""Find a bundle: a folder as it is, or a repository of a Hub brought into the cache as real files."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from monograph.atomic import remove_left_behind, whole_folder
from monograph.bundle.bundle import check_staged, open_bundle, parse_manifest
from monograph.bundle.files import is_plain_name
from monograph.bundle.manifest import MANIFEST_FILE
from monograph.cache import VARIABLE, cache_folder
from monograph.errors import BundleError, MonographError
from monograph.hub import HubName, commit_of, download_files, hub_name

logger = logging.getLogger(__name__)


def locate_bundle(source: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a bundle.

    A path is returned as it is, whatever is there. A str ``org/name`` or ``org/name@revision`` that is no path here is
    a repository of a Hub: its bundle is brought to ``bundles/`` in the cache folder, checked whole, and used from there
    the next time; where its files were damaged or removed since, it is brought again. Without a commit the Hub is asked
    each time which one is meant.

    Raises:
        BundleError: it is no str or path, cannot be had from the Hub, is not a whole bundle, or cannot be written to
            the cache.
        InputError: ``cache_dir`` is not a path.

    """
    if not isinstance(source, (str, os.PathLike)):
        raise BundleError(source, [f"it must be a str or a path, got {type(source).__name__}"])
    name = hub_name(source) if isinstance(source, str) else None
    if name is None or os.path.lexists(source):
        return Path(source)
    bundles = cache_folder(cache_dir) / "bundles" / name.folder_name
    try:
        commit = commit_of(name)
    except MonographError as error:
        raise _not_had(name, error) from error
    _ensure(name, commit, bundles / commit)
    return bundles / commit


def _ensure(name: HubName, commit: str, folder: Path) -> None:
    """Bring the bundle of a commit into ``folder``, unless it is there whole."""
    found = folder.exists()
    damage = _damage(folder)
    if not damage:
        return
    logger.info("bringing %s to %s", name, folder)
    try:
        _bring(name, commit, folder)
    except BundleError:
        raise
    except MonographError as error:
        if not found:
            raise _not_had(name, error) from error
        problem = f"{folder} is damaged ({'; '.join(damage)}) and cannot be brought anew: remove that folder, try again"
        raise BundleError(name, [f"{problem} ({error})"]) from error


def _not_had(name: HubName, error: MonographError) -> BundleError:
    # What looks like a name may be a path that was mistyped.
    advice = "a bundle of your own is made with `monograph export SOURCE OUTPUT`"
    return BundleError(name, [f"there is no folder {name}; as a repository on the Hub: {error}; {advice}"])


def _damage(folder: Path) -> tuple[str, ...]:
    """Return what the fast check finds wrong with a bundle in the cache."""
    try:
        open_bundle(folder)
    except BundleError as error:
        return error.problems
    return ()


def _bring(name: HubName, commit: str, folder: Path) -> None:
    """Write the bundle of a commit into ``folder``; a damaged one that is there goes when the whole one is ready."""
    snapshot = download_files(name.repository, commit, lambda names: _manifest_of(name, names))
    try:
        listed = _listed(name, snapshot)
        # Those that the repository lacks are named by the check of the folder.
        download_files(name.repository, commit, lambda names: [MANIFEST_FILE, *listed & set(names)])
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(folder)
        with whole_folder(folder) as staging:
            for file in (MANIFEST_FILE, *listed):
                _link_or_copy(snapshot / file, staging / file)
            check_staged(staging, name)
            if _damage(folder):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        # Another process may have been faster; what it renamed is as whole as this.
        if _damage(folder):
            advice = f"pass cache_dir or set {VARIABLE} to a folder that can be written and has room"
            if folder.exists():
                advice = f"it is damaged there, remove that folder, or {advice}"
            raise BundleError(name, [f"it cannot be brought to {folder} ({error}): {advice}"]) from error


def _manifest_of(name: HubName, names: Collection[str]) -> list[str]:
    if MANIFEST_FILE not in names:
        raise BundleError(name, [f"the repository has no {MANIFEST_FILE}: export the model with `monograph export`"])
    return [MANIFEST_FILE]


def _listed(name: HubName, snapshot: Path) -> set[str]:
    """Return the files that the manifest lists."""
    manifest, problems = parse_manifest(name, (snapshot / MANIFEST_FILE).read_bytes())
    # Before anything is downloaded or written by these names.
    problems += [
        f"{file!r} is not a plain file name and could leave the folder"
        for file in manifest.files
        if not is_plain_name(file)
    ]
    if problems:
        raise BundleError(name, problems)
    return set(manifest.files) - {MANIFEST_FILE}


def _link_or_copy(cached: Path, place: Path) -> None:
    """Put the file that a link in the cache leads to at ``place``, without a second copy where the disk allows."""
    if not cached.exists():
        return
    blob = cached.resolve()
    try:
        place.hardlink_to(blob)
    except OSError:
        # Another disk, or one without hard links.
        shutil.copyfile(blob, place)
