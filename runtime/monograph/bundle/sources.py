"""Find a bundle: a local folder, or a Hub repository that is downloaded to the cache as real files."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from monograph.atomic import atomic_folder, find_full_disk
from monograph.bundle.bundle import MAX_MANIFEST_BYTES, check_staged, describe_absent, open_bundle, parse_manifest
from monograph.bundle.files import is_plain_name
from monograph.bundle.manifest import MANIFEST_FILE, MEASUREMENTS_FILE
from monograph.cache import CACHE_ADVICE, PRIVATE_FOLDER, cache_folder, check_cache, is_private, make_private_folder
from monograph.errors import BundleError, MonographError
from monograph.hub import DEFAULT_ACCESS, HubAccess, HubName, download_files, parse_hub_name, resolve_commit
from monograph.json_files import read_bounded
from monograph.paths import user_path
from monograph.progress import BYTES, SILENT, Progress

logger = logging.getLogger(__name__)


def locate_bundle(
    source: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    access: HubAccess = DEFAULT_ACCESS,
) -> Path:
    """Return the folder of a bundle.

    What is in a folder is not checked. A str ``org/name`` or ``org/name@revision`` that does not exist here is a
    repository of a Hub: its bundle is downloaded to ``bundles/`` in the cache folder, hashed, and used from there
    afterwards; where files were damaged or removed since, it is downloaded again. A name without a commit is resolved
    each time.
    The download is reported to ``progress``; without one huggingface_hub shows bars of its own on a terminal.

    Raises:
        BundleError: it is no str or path, is neither here nor available from the Hub, is not a complete bundle, or
            cannot be written to the cache.
        InputError: ``cache_dir`` is not a path, or the home folder of a "~" is unknown.

    """
    if not isinstance(source, (str, os.PathLike)):
        raise BundleError(source, [f"it must be a str or a path, got {type(source).__name__}"])
    path = user_path(source)
    name = parse_hub_name(source) if isinstance(source, str) else None
    if os.path.lexists(path):
        return path
    if name is None:
        # As the caller wrote it: a Path of "./x" is "x", which would be the name of something else.
        raise BundleError(source, [describe_absent(source)])
    bundles = cache_folder(cache_dir) / "bundles" / name.folder_name
    try:
        commit = resolve_commit(name, access)
    except MonographError as error:
        raise _not_available(name, error) from error
    folder, problem = check_cache(bundles / commit)
    if problem:
        raise BundleError(name, [f"it cannot be written to {folder} ({problem}): {CACHE_ADVICE}"])
    _ensure(name, commit, folder, progress, access)
    return folder


def _ensure(name: HubName, commit: str, folder: Path, progress: Progress | None, access: HubAccess) -> None:
    """Download the bundle of a commit into ``folder``, unless it is there undamaged."""
    existed = folder.exists()
    problems = _find_problems(folder)
    if not problems:
        return
    logger.info("downloading %s to %s", name, folder)
    try:
        _download(name, commit, folder, progress, access)
    except BundleError:
        raise
    except MonographError as error:
        if not existed:
            raise _not_available(name, error) from error
        problem = f"{folder} is damaged ({'; '.join(problems)}) and cannot be downloaded again ({error})"
        raise BundleError(name, [f"{problem}: remove that folder, try again"]) from error


def _not_available(name: HubName, error: MonographError) -> BundleError:
    # What looks like a repository may be a mistyped path, or the name of a checkpoint.
    advice = f"of a checkpoint, make a bundle with `monograph export {name} OUTPUT`"
    return BundleError(name, [f"there is no folder {name}; as a repository on the Hub: {error}; {advice}"])


def _find_problems(folder: Path) -> tuple[str, ...]:
    """Return the problems that the fast check finds in a cached bundle."""
    try:
        open_bundle(folder)
        return () if is_private(folder, folder=True) else ("others may write there",)
    except BundleError as error:
        return error.problems


@contextmanager
def report_download(name: HubName, progress: Progress | None) -> Iterator[Callable[[int], object] | None]:
    """Report a download as a step, and give the ``on_bytes`` of ``download_files``; None without a ``progress``."""
    if progress is None:
        yield None
        return
    with progress.step(f"Downloading {name}", None, BYTES) as step:
        yield step.advance


def _download(name: HubName, commit: str, folder: Path, progress: Progress | None, access: HubAccess) -> None:
    """Write the bundle of a commit into ``folder``; a damaged one there is replaced once the new one is complete."""
    try:
        with report_download(name, progress) as on_bytes:
            download = partial(download_files, name.repository, commit, on_bytes=on_bytes, access=access)
            snapshot = download(lambda names: _choose_manifest(name, names))
            files = _list_files(name, snapshot)
            # Those that the repository lacks are reported by the check of the folder.
            download(lambda names: [MANIFEST_FILE, *files & set(names)])
        make_private_folder(folder.parent)
        with atomic_folder(folder, mode=PRIVATE_FOLDER) as staging:
            for file in (MANIFEST_FILE, *files):
                _link_or_copy(snapshot / file, staging / file)
            check_staged(staging, name, progress or SILENT)
            if _find_problems(folder):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        # Another process may have written the same bundle first.
        if _find_problems(folder):
            problem = find_full_disk(error, folder) or f"it cannot be written to {folder} ({error})"
            damaged = "it is damaged there, remove that folder, or " if folder.exists() else ""
            raise BundleError(name, [f"{problem}: {damaged}{CACHE_ADVICE}"]) from error


def _choose_manifest(name: HubName, names: Collection[str]) -> list[str]:
    if MANIFEST_FILE not in names:
        advice = f"make a bundle of it with `monograph export {name} OUTPUT`"
        raise BundleError(name, [f"the repository has no {MANIFEST_FILE}: {advice}"])
    return [MANIFEST_FILE]


def _list_files(name: HubName, snapshot: Path) -> set[str]:
    """Return the files that the manifest lists, and that of the measurements, which not every bundle has."""
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
    return {*manifest.files, MEASUREMENTS_FILE} - {MANIFEST_FILE}


def _link_or_copy(cached: Path, target: Path) -> None:
    """Hard-link the target of a link in the Hub's cache, or copy it: where others may write it, or without links."""
    if not cached.exists():
        return
    blob = cached.resolve()
    try:
        if is_private(blob, folder=False):
            target.hardlink_to(blob)
            return
    except OSError as error:
        logger.debug("%s is copied: %s", blob, error.strerror)
    shutil.copyfile(blob, target)
