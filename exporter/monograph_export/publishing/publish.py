"""Publish bundles: write a folder, or upload one to a Hub."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monograph.bundle import open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.errors import ExportError, InputError
from monograph.hub import HubName, parse_hub_name
from monograph.paths import user_path
from monograph.progress import Progress, progress_for
from monograph.version import __version__
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.checkpoint.source import check_files, locate_checkpoint
from monograph_export.parity import check_engine
from monograph_export.writer import check_output, staged


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Attributes:
        target: The folder, or ``ORG/NAME`` on the Hub.
        files: The size of each file in bytes, by its name within the repository.
        commit: The hash of the commit on the Hub, None for a folder and for a dry run.
        deleted: Files of a former commit that this one deleted.
        is_folder: Whether the target is a folder.

    """

    target: str
    files: Mapping[str, int]
    commit: str | None = None
    deleted: tuple[str, ...] = ()
    is_folder: bool = True


def publish(
    bundles: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    checkpoint: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    private: bool = False,
    dry_run: bool = False,
    show_progress_bar: bool | Progress | None = None,
) -> Publication:
    """Publish bundles of one embedding model as a repository that several loaders read.

    Everything is written and verified in a temporary folder first.

    Args:
        bundles: Bundles of one checkpoint, one of them at fp32, each of another precision. The repository is the first
            of them for monograph; all become ONNX files in ``onnx/``.
        checkpoint: The checkpoint that they were exported from, as the ``source`` of ``export``.
        to: A folder, which must be empty or not exist, or ``ORG/NAME`` on a Hub, which is created if it does not exist.
            ``./ORG/NAME`` is always a folder. In a repository that exists, files of ``onnx/`` and a ``model.onnx`` at
            the top are deleted if they are not published again.
        private: The repository on the Hub is private; otherwise a new one is public, unless the organization's settings
            say otherwise.
        dry_run: Write and verify everything, and neither keep nor upload it. The Hub is not contacted.
        show_progress_bar: As in ``export``.

    Raises:
        BundleError: a bundle is damaged.
        ExportError: the bundles cannot be published together, are not of the checkpoint, or have modules that other
            software does not load; or the folder cannot be written.
        ParityError: what was written does not compute what the bundles do.
        InputError: ``private`` is given for a folder.
        MonographError: the Hub denies access or cannot be reached, there is no token, or the repository is public and
            must be private; most of this before anything is made.

    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ExportError("publishing needs sentence-transformers: pip install 'monograph[export,onnx]'")
    check_engine()
    sources = [bundles] if isinstance(bundles, (str, os.PathLike)) else list(bundles)
    name = _hub_name(to)
    if name is None:
        if private:
            raise InputError(f"private is for a repository on the Hub, and {to} is a folder: leave it out")
        check_output(user_path(to).absolute())
    elif not dry_run:
        from monograph_export.publishing.upload import check_access

        check_access(name, private=private)
    # Only now, where all may go well: torch takes seconds to import.
    from monograph_export.publishing.card import write_card
    from monograph_export.publishing.repository import check_bundles, write_repository

    progress = progress_for(show_progress_bar)
    opened = [open_bundle(locate_bundle(source, progress=progress), "full", progress) for source in sources]
    read = read_checkpoint(locate_checkpoint(checkpoint, progress=progress))
    check_files(read)
    check_bundles(opened, read)
    with _folder(None if dry_run or name is not None else user_path(to).absolute(), progress) as folder:
        contents = write_repository(opened, read, folder, progress)
        # Of a folder only the name: where it lies here is nobody's business.
        write_card(contents, user_path(to).absolute().name if name is None else name.repository, folder)
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*"))
                 if path.is_file()}  # fmt: skip
        uploaded = None
        if name is not None and not dry_run:
            from monograph_export.publishing.upload import upload

            with progress.step(f"Uploading to {name}"):
                uploaded = upload(folder, name, f"Publish with monograph {__version__}", private=private)
    target = str(user_path(to) if name is None else name)
    if uploaded is None:
        return Publication(target, files, is_folder=name is None)
    return Publication(target, files, uploaded.commit, uploaded.deleted, is_folder=False)


def _hub_name(to: str | os.PathLike[str]) -> HubName | None:
    """Return the repository on a Hub that is meant, None for a folder.

    Raises:
        ExportError: it may be either.

    """
    name = parse_hub_name(to) if isinstance(to, str) else None
    if name is None:
        return None
    if name.revision is not None:
        raise ExportError(f"{to} names a revision: give {name.repository}, whose main branch gets the commit")
    if Path(name.repository).parent.exists():
        raise ExportError(
            f"{to} may be a folder in {Path(name.repository).parent} or a repository on the Hub: write ./{to} for the "
            "folder, or start from another folder for the Hub"
        )
    return name


@contextmanager
def _folder(output: Path | None, progress: Progress) -> Iterator[Path]:
    """Give an empty folder that becomes ``output`` at the end, or without one is removed."""
    if output is not None:
        with staged(output, progress) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="monograph-") as temporary:
        folder = Path(temporary) / "repository"
        folder.mkdir()
        yield folder
