"""Files of a Hub repository, ORG/NAME or ORG/NAME@REVISION, in huggingface_hub's cache, with their hashes checked."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monograph.errors import MonographError
from monograph.hub.requests import bound_requests, explain_errors, not_in_cache

# The names that huggingface_hub accepts.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class HubName:
    """A repository of a Hub, at a branch, tag or commit; None for its main branch."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    @property
    def commit(self) -> str | None:
        """The revision if it is a full commit hash, which never changes its files; else None."""
        return self.revision if self.revision is not None and _SHA1.fullmatch(self.revision) else None

    @property
    def folder_name(self) -> str:
        """The repository's name as the name of one folder."""
        return self.repository.replace("/", "--")


@dataclass(frozen=True)
class HubAccess:
    """How a Hub is reached: with which token, or not at all.

    ``token`` is an access token, True for the saved one, False for none, None for the saved one if there is any.
    ``local_files_only`` takes what is in the cache and makes no request.
    """

    token: str | bool | None = None
    local_files_only: bool = False


DEFAULT_ACCESS = HubAccess()


def parse_hub_name(text: str) -> HubName | None:
    """Parse ORG/NAME or ORG/NAME@REVISION; return None for any other text."""
    match = _NAME.fullmatch(text)
    # A Hub allows none of "..", "--" and ".git": they mean something in paths, cached folders and git.
    if match is None or ".." in text or "--" in match["repository"] or match["repository"].endswith(".git"):
        return None
    return HubName(match["repository"], match["revision"])


def resolve_commit(name: HubName, access: HubAccess = DEFAULT_ACCESS) -> str:
    """Return the current commit of a name; where the Hub cannot be reached, the last one that was resolved.

    Raises:
        MonographError: there is no such repository or revision, access is denied, or the Hub cannot be reached.

    """
    if name.commit is not None:
        return name.commit
    with explain_errors(name, local_files_only=access.local_files_only):
        from huggingface_hub import resolve_revision

        with bound_requests():
            resolved = resolve_revision(
                name.repository,
                revision=name.revision,
                local_files_only=access.local_files_only,
                token=access.token,
            )
            return str(resolved.resolved)


def download_files(
    repository: str,
    commit: str,
    choose: Callable[[Collection[str]], Iterable[str]],
    on_bytes: Callable[[int], object] | None = None,
    access: HubAccess = DEFAULT_ACCESS,
) -> Path:
    """Download files of a commit into huggingface_hub's cache and return the folder with links to them.

    ``choose`` gets the names of all files of the commit and returns the needed ones. Where they are cached, the network
    is not used. ``on_bytes`` gets the bytes of files as they arrive; without it huggingface_hub shows bars of its own
    on a terminal.

    The hash of every file is checked each time, not only after a download: a process that is killed between the two
    would leave a file that is never checked. Callers read the files once, to export or copy them, and hashing 1.9 GB
    takes a second or two of that.

    Raises:
        MonographError: a file is not available, or does not match the Hub's hash.

    """
    name = HubName(repository, commit)
    with explain_errors(name, local_files_only=access.local_files_only):
        with bound_requests():
            cached = _list_cached_names(name)
            chosen = sorted(choose(_list_names(name, access) if cached is None else cached))
            paths = _download(name, chosen, on_bytes, access)
            if cached is None:
                _cache_names(name, chosen, access)
        # What was damaged within the cache is intact the second time.
        again = [file for file, link in paths.items() if _remove_if_damaged(link)]
        paths |= _download(name, again, on_bytes, access)
        damaged = [file for file, link in paths.items() if _remove_if_damaged(link)]
        if damaged:
            raise MonographError(
                f"{', '.join(damaged)} of {name} is damaged: its hash is not the Hub's; it was removed, try again"
            )
    file, path = next(iter(paths.items()))
    return path.parents[file.count("/")]


def _download(
    name: HubName, files: Iterable[str], on_bytes: Callable[[int], object] | None, access: HubAccess
) -> dict[str, Path]:
    from huggingface_hub import hf_hub_download

    bar = None if on_bytes is None else _unseen_bar(on_bytes)
    with bound_requests():
        # Sequentially, so that an unreachable Hub gets one request and not eight.
        return {
            file: Path(
                hf_hub_download(
                    name.repository,
                    file,
                    revision=name.revision,
                    token=access.token,
                    local_files_only=access.local_files_only,
                    tqdm_class=bar,
                )
            )
            for file in files
        }


def _unseen_bar(on_bytes: Callable[[int], object] = lambda _: None) -> Any:
    """Return a class of bars that show nothing, in place of huggingface_hub's; ``on_bytes`` gets what they count."""
    from tqdm import tqdm

    class UnseenBar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **(options | {"disable": True}))

        def update(self, n: float | None = 1) -> None:
            on_bytes(int(n or 0))

        # With these huggingface_hub has one bar for a file, and not another one for its transfer.
        def update_transfer(self, n: float | None = 1) -> None:
            pass

        def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None:
            pass

    return UnseenBar


def _list_cached_names(name: HubName) -> list[str] | None:
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return [file.path for file in get_cached_repo_tree(name.repository, revision=name.revision)]
    except CachedRepoTreeNotFoundError:
        return None


def _list_names(name: HubName, access: HubAccess) -> list[str]:
    if access.local_files_only:
        raise not_in_cache(name)
    from huggingface_hub import model_info

    info = model_info(name.repository, revision=name.revision, token=access.token)
    return [file.rfilename for file in info.siblings or ()]


def _cache_names(name: HubName, cached_files: list[str], access: HubAccess) -> None:
    """Cache the names of all files of the commit; ``cached_files`` are cached already.

    Without the names an offline run could not know whether the cache has everything that it needs.
    """
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(file) for file in cached_files]
    # huggingface_hub would show its bar even where there is no terminal.
    snapshot_download(
        name.repository,
        revision=name.revision,
        token=access.token,
        allow_patterns=patterns,
        tqdm_class=_unseen_bar(),
    )


def _remove_if_damaged(link: Path) -> bool:
    """Check a file against its hash, which huggingface_hub does not do; remove it and return True if they differ.

    The cache names the blob behind a link by its ETag: the SHA-256 of a large file, git's SHA-1 of a small one. Any
    other name says nothing about the content, and a cache on a disk without links has no such names.
    """
    if not link.is_symlink():
        return False
    # One step only: with Xet the blob is itself a link, to a file that is named by another kind of hash.
    blob = link.parent / link.readlink()
    if _SHA256.fullmatch(blob.name):
        digest = hashlib.sha256()
    elif _SHA1.fullmatch(blob.name):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:
        return False
    with blob.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() == blob.name:
        return False
    for damaged in (blob.resolve(), blob, link):
        damaged.unlink(missing_ok=True)
    return True
