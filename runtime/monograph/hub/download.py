"""Files of a repository, in huggingface_hub's own cache, each compared with its hash."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monograph.errors import MonographError
from monograph.hub.failures import explained
from monograph.hub.limits import bounded_requests
from monograph.hub.names import HubName

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_BLOCK = 1 << 20


def commit_of(name: HubName) -> str:
    """Return the commit that a name stands for now; where the Hub cannot be reached, what it last stood for.

    Raises:
        MonographError: there is no such repository or revision, it may not be read, or the Hub cannot be reached.

    """
    if name.commit is not None:
        return name.commit
    with explained(name):
        from huggingface_hub import resolve_revision

        with bounded_requests():
            return str(resolve_revision(name.repository, revision=name.revision).resolved)


def download_files(repository: str, commit: str, choose: Callable[[Collection[str]], Iterable[str]]) -> Path:
    """Bring files of a commit into huggingface_hub's cache and return the folder with links to them.

    ``choose`` gets the names of all files of the commit and returns those that are needed. Where they are in the
    cache, nothing is asked of the network.

    Every file is compared with its hash each time, and not only after a download: a process that is killed between
    the two would leave a file that nobody ever compares. Whoever calls this reads the files once, to export them or to
    bring them elsewhere, and hashing 1.9 GB takes a second or two of that.

    Raises:
        MonographError: one of them cannot be had, or is not what the Hub says it is.

    """
    name = HubName(repository, commit)
    with explained(name):
        with bounded_requests():
            cached = _cached_names(name)
            chosen = sorted(choose(_asked_names(name) if cached is None else cached))
            paths = _download(name, chosen)
            if cached is None:
                _keep_names(name, chosen)
        # What was damaged within the cache comes whole the second time.
        paths |= _download(name, _removed_damage(paths))
        damaged = _removed_damage(paths)
        if damaged:
            raise MonographError(
                f"{', '.join(damaged)} of {name} is damaged: its hash is not the Hub's; it was removed, try again"
            )
    file, path = next(iter(paths.items()))
    return path.parents[file.count("/")]


def _download(name: HubName, files: Iterable[str]) -> dict[str, Path]:
    from huggingface_hub import hf_hub_download

    with bounded_requests():
        # One after the other: of a Hub that fails, one file is asked for and not eight at once.
        return {file: Path(hf_hub_download(name.repository, file, revision=name.revision)) for file in files}


def _cached_names(name: HubName) -> list[str] | None:
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return [file.path for file in get_cached_repo_tree(name.repository, revision=name.revision)]
    except CachedRepoTreeNotFoundError:
        return None


def _asked_names(name: HubName) -> list[str]:
    from huggingface_hub import model_info

    return [file.rfilename for file in model_info(name.repository, revision=name.revision).siblings or ()]


def _keep_names(name: HubName, present: list[str]) -> None:
    """Have the cache keep the names of all files of the commit; those ``present`` are in it already.

    Without them nobody could tell offline what the commit holds, and whether the cache has all that is needed of it.
    """
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(file) for file in present]
    snapshot_download(name.repository, revision=name.revision, allow_patterns=patterns, tqdm_class=_NoBar)


class _NoBar(tqdm):  # type: ignore[misc]
    """Shows nothing, for huggingface_hub shows this bar even where there is no terminal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **(options | {"disable": True}))


def _removed_damage(paths: Mapping[str, Path]) -> list[str]:
    """Return the files that are not what their hashes say; they were removed from the cache, to be downloaded again."""
    return [file for file, link in paths.items() if not _is_sound(link)]


def _is_sound(link: Path) -> bool:
    """Compare a file with its hash, by which the cache names the blob that it links to; huggingface_hub does not.

    The name of a blob is its ETag: the SHA-256 of a large file, git's SHA-1 of a small one. Any other form says nothing
    of the content, and a cache on a disk without links has no such names. A file that differs is removed.
    """
    if not link.is_symlink():
        return True
    # One step only: with Xet the blob is itself a link, to a file that is named by another kind of hash.
    blob = link.parent / link.readlink()
    if _SHA256.fullmatch(blob.name):
        digest = hashlib.sha256()
    elif _SHA1.fullmatch(blob.name):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:
        return True
    with blob.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() == blob.name:
        return True
    for wrong in (blob.resolve(), blob, link):
        wrong.unlink(missing_ok=True)
    return False
