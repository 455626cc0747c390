"""Find a bundle: a local folder, or a Hub repository that is downloaded to the cache as real files."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from monograph.atomic import atomic_folder, remove_abandoned
from monograph.bundle.bundle import MAX_MANIFEST_BYTES, check_staged, open_bundle, parse_manifest
from monograph.bundle.files import is_plain_name
from monograph.bundle.manifest import MANIFEST_FILE
from monograph.cache import VARIABLE, cache_folder
from monograph.errors import BundleError, MonographError
from monograph.hub import HubName, download_files, parse_hub_name, resolve_commit
from monograph.json_files import read_bounded

logger = logging.getLogger(__name__)


def locate_bundle(source: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a bundle.

    A path is returned unchecked. A str ``org/name`` or ``org/name@revision`` that does not exist here is a repository
    of a Hub: its bundle is downloaded to ``bundles/`` in the cache folder, hashed, and used from there afterwards;
    where files were damaged or removed since, it is downloaded again. A name without a commit is resolved each time.

    Raises:
        BundleError: it is no str or path, is not available from the Hub, is not a complete bundle, or cannot be written
            to the cache.
        InputError: ``cache_dir`` is not a path.

    """
    if not isinstance(source, (str, os.PathLike)):
        raise BundleError(source, [f"it must be a str or a path, got {type(source).__name__}"])
    name = parse_hub_name(source) if isinstance(source, str) else None
    if name is None or os.path.lexists(source):
        return Path(source)
    bundles = cache_folder(cache_dir) / "bundles" / name.folder_name
    try:
        commit = resolve_commit(name)
    except MonographError as error:
        raise _not_available(name, error) from error
    _ensure(name, commit, bundles / commit)
    return bundles / commit


def _ensure(name: HubName, commit: str, folder: Path) -> None:
    """Download the bundle of a commit into ``folder``, unless it is there undamaged."""
    existed = folder.exists()
    problems = _find_problems(folder)
    if not problems:
        return
    logger.info("downloading %s to %s", name, folder)
    try:
        _download(name, commit, folder)
    except BundleError:
        raise
    except MonographError as error:
        if not existed:
            raise _not_available(name, error) from error
        problem = f"{folder} is damaged ({'; '.join(problems)}) and cannot be downloaded again ({error})"
        raise BundleError(name, [f"{problem}: remove that folder, try again"]) from error


def _not_available(name: HubName, error: MonographError) -> BundleError:
    # What looks like a repository may be a mistyped path.
    advice = "a bundle of your own is made with `monograph export SOURCE OUTPUT`"
    return BundleError(name, [f"there is no folder {name}; as a repository on the Hub: {error}; {advice}"])


def _find_problems(folder: Path) -> tuple[str, ...]:
    """Return the problems that the fast check finds in a cached bundle."""
    try:
        open_bundle(folder)
    except BundleError as error:
        return error.problems
    return ()


def _download(name: HubName, commit: str, folder: Path) -> None:
    """Write the bundle of a commit into ``folder``; a damaged one there is replaced once the new one is complete."""
    snapshot = download_files(name.repository, commit, lambda names: _choose_manifest(name, names))
    try:
        files = _list_files(name, snapshot)
        # Those that the repository lacks are reported by the check of the folder.
        download_files(name.repository, commit, lambda names: [MANIFEST_FILE, *files & set(names)])
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        with atomic_folder(folder) as staging:
            for file in (MANIFEST_FILE, *files):
                _link_or_copy(snapshot / file, staging / file)
            check_staged(staging, name)
            if _find_problems(folder):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        # Another process may have written the same bundle first.
        if _find_problems(folder):
            advice = f"pass cache_dir or set {VARIABLE} to a folder that is writable and has enough space"
            if folder.exists():
                advice = f"it is damaged there, remove that folder, or {advice}"
            raise BundleError(name, [f"it cannot be written to {folder} ({error}): {advice}"]) from error


def _choose_manifest(name: HubName, names: Collection[str]) -> list[str]:
    if MANIFEST_FILE not in names:
        raise BundleError(name, [f"the repository has no {MANIFEST_FILE}: export the model with `monograph export`"])
    return [MANIFEST_FILE]


def _list_files(name: HubName, snapshot: Path) -> set[str]:
    """Return the files that the manifest lists."""
    try:
        content = read_bounded((snapshot / MANIFEST_FILE).resolve(), MAX_MANIFEST_BYTES)
    except ValueError as error:
        raise BundleError(name, [f"{MANIFEST_FILE} cannot be read ({error})"]) from error
    manifest, problems = parse_manifest(name, content)
    # Checked before these names are used for downloads and files.
    problems += [
        f"{file!r} is not a plain file name and could leave the folder"
        for file in manifest.files
        if not is_plain_name(file)
    ]
    if problems:
        raise BundleError(name, problems)
    return set(manifest.files) - {MANIFEST_FILE}


def _link_or_copy(cached: Path, target: Path) -> None:
    """Hard-link the target of a link in the cache, or copy it where the disk allows no hard link."""
    if not cached.exists():
        return
    blob = cached.resolve()
    try:
        target.hardlink_to(blob)
    except OSError:
        shutil.copyfile(blob, target)
