"""A bundle as one file: a reproducible, uncompressed tar.

The members are regular files with plain names: manifest.json, the files in its order, and measurements.json where the
bundle has it. Headers hold nothing of the machine or the time. The format is POSIX ustar, which every tar reads; for
files of 8 GiB or more it uses GNU's binary size, which GNU tar, bsdtar, BusyBox and Python read.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from monograph.atomic import atomic_file, atomic_folder, find_folder_problem, find_full_disk, find_parent_problem
from monograph.bundle.bundle import MAX_MANIFEST_BYTES, check_staged, open_bundle, parse_manifest
from monograph.bundle.files import is_plain_name
from monograph.bundle.manifest import MANIFEST_FILE, MEASUREMENTS_FILE
from monograph.bundle.measurements import MAX_MEASUREMENTS_BYTES
from monograph.bundle.sources import locate_bundle
from monograph.errors import BundleError
from monograph.paths import user_path
from monograph.progress import BYTES, SILENT, Progress

_MAX_USTAR_BYTES = 8 * 2**30
_BLOCK = 2**20
_MAX_NAME_BYTES = 100
_ADVICE = "unpack a file that `monograph pack` wrote, and copy it again if it is one"


def pack_bundle(bundle_path: str | os.PathLike[str], file: str | os.PathLike[str], progress: Progress = SILENT) -> Path:
    """Hash every file of a bundle, write it into one archive and return that.

    ``bundle_path`` is its folder, or org/name or org/name@revision of a bundle on a Hub. The steps are reported to
    ``progress``.

    Raises:
        BundleError: the bundle is damaged or not available, or ``file`` exists or cannot be written.

    """
    target = user_path(file)
    if os.path.lexists(target):
        raise BundleError(bundle_path, [f"{target} exists already: remove it, or choose another name"])
    if problem := find_parent_problem(target):
        raise BundleError(bundle_path, [problem])
    bundle = open_bundle(locate_bundle(bundle_path, progress=progress), "full", progress)
    names = [MANIFEST_FILE, *(name for name in bundle.manifest.files if name != MANIFEST_FILE)]
    if (bundle.path / MEASUREMENTS_FILE).exists():
        names.append(MEASUREMENTS_FILE)
    too_long = [f"the name {name} is too long for a tar" for name in names if len(name.encode()) > _MAX_NAME_BYTES]
    if too_long:
        raise BundleError(bundle.path, too_long)
    try:
        total = sum((bundle.path / name).stat().st_size for name in names)
        with progress.step("Packing the files", total, BYTES) as step, atomic_file(target) as archive:
            for name in names:
                _append(archive, bundle.path / name, step.advance)
            archive.write(bytes(2 * tarfile.BLOCKSIZE))
    except OSError as error:
        problem = find_full_disk(error, target) or f"it cannot be packed into {target} ({error})"
        raise BundleError(bundle.path, [problem]) from error
    return target


def unpack_bundle(file: str | os.PathLike[str], folder: str | os.PathLike[str], progress: Progress = SILENT) -> Path:
    """Extract a bundle from an archive into ``folder``, hash every file and return the folder.

    Only files that the manifest lists are written, of the size that it states, and measurements.json. The steps are
    reported to ``progress``.

    Raises:
        BundleError: the archive is not one of ``pack_bundle``, is damaged, or ``folder`` is not empty or cannot be
            written.

    """
    # Not resolve(), which would follow a link that folder may be.
    source, target = user_path(file), Path(os.path.abspath(user_path(folder)))  # noqa: PTH100
    if not source.exists():
        raise BundleError(source, [f"there is no file {source}: name one that `monograph pack` wrote"])
    if problem := find_folder_problem(target):
        raise BundleError(source, [problem])
    try:
        with source.open("rb") as archive, atomic_folder(target) as staging:
            with progress.step("Unpacking the files", source.stat().st_size, BYTES) as step:
                _extract(source, archive, staging, step.advance)
            check_staged(staging, source, progress)
    except OSError as error:
        problem = find_full_disk(error, target) or f"it cannot be unpacked into {target} ({error})"
        raise BundleError(source, [problem]) from error
    return target


def _append(archive: IO[bytes], path: Path, on_bytes: Callable[[int], object] = lambda _: None) -> None:
    """Append a file to a tar, of exactly the size that its header states."""
    member = tarfile.TarInfo(path.name)
    with path.open("rb") as content:
        member.size = os.fstat(content.fileno()).st_size
        small = member.size < _MAX_USTAR_BYTES
        archive.write(member.tobuf(tarfile.USTAR_FORMAT if small else tarfile.GNU_FORMAT, "utf-8"))
        if _copy(content, archive, member.size, on_bytes):
            raise OSError(f"{path} was truncated while it was packed")
    archive.write(bytes(_padding_bytes(member)))


def _extract(source: Path, archive: IO[bytes], staging: Path, on_bytes: Callable[[int], object]) -> None:
    """Write manifest.json, the files that it lists and measurements.json, in the archive's order."""
    first = _read_header(source, archive)
    if first is None or first.name != MANIFEST_FILE or first.size > MAX_MANIFEST_BYTES:
        raise BundleError(source, [f"its first file is not {MANIFEST_FILE}: {_ADVICE}"])
    _write(source, archive, first, staging, on_bytes)
    manifest, problems = parse_manifest(source, (staging / MANIFEST_FILE).read_bytes())
    if problems:
        raise BundleError(source, problems)
    missing = {name: entry.bytes for name, entry in manifest.files.items() if name != MANIFEST_FILE}
    while (member := _read_header(source, archive)) is not None:
        if member.name == MEASUREMENTS_FILE and not (staging / MEASUREMENTS_FILE).exists():
            if member.size > MAX_MEASUREMENTS_BYTES:
                raise BundleError(source, [f"{member.name} has {member.size:,} bytes, more than any bundle's"])
            _write(source, archive, member, staging, on_bytes)
            continue
        size = missing.pop(member.name, None)
        if size is None:
            raise BundleError(source, [f"{member.name!r} is in it twice, or is not a file that its manifest lists"])
        if size != member.size:
            raise BundleError(source, [f"{member.name} has {member.size:,} bytes instead of {size:,}"])
        _write(source, archive, member, staging, on_bytes)
    if missing:
        raise BundleError(source, [f"{name} is missing" for name in missing])


def _read_header(source: Path, archive: IO[bytes]) -> tarfile.TarInfo | None:
    """Read a header of the kind that ``pack_bundle`` writes, None at the end of the archive.

    tarfile's reader would follow extensions that name, resize and link files, and keep all members in memory.
    """
    header = archive.read(tarfile.BLOCKSIZE)
    if len(header) < tarfile.BLOCKSIZE:
        raise BundleError(source, [f"it is truncated, or is not a tar: {_ADVICE}"])
    if not any(header):
        return None
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise BundleError(source, [f"it is damaged, or is not a tar ({error}): {_ADVICE}"]) from error
    if not is_plain_name(member.name):
        raise BundleError(source, [f"{member.name!r} is not a plain file name and could leave the folder"])
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size < 0:
        raise BundleError(source, [f"{member.name!r} is not a regular file: {_ADVICE}"])
    return member


def _write(
    source: Path, archive: IO[bytes], member: tarfile.TarInfo, staging: Path, on_bytes: Callable[[int], object]
) -> None:
    with (staging / member.name).open("xb") as file:
        lacking = _copy(archive, file, member.size, on_bytes)
    if lacking or len(archive.read(_padding_bytes(member))) != _padding_bytes(member):
        raise BundleError(source, [f"it is truncated within {member.name}"])


def _copy(source: IO[bytes], target: IO[bytes], size: int, on_bytes: Callable[[int], object]) -> int:
    """Copy ``size`` bytes and return how many were missing."""
    while size and (block := source.read(min(_BLOCK, size))):
        target.write(block)
        size -= len(block)
        on_bytes(len(block))
    return size


def _padding_bytes(member: tarfile.TarInfo) -> int:
    return -member.size % tarfile.BLOCKSIZE
