"""Git LFS pointers: what stands in place of a large file where a repository was cloned without them."""

from __future__ import annotations

from pathlib import Path

from monograph.errors import ExportError

_BEGINNING = b"version https://git-lfs.github.com/spec/"


def check_no_pointer(file: Path) -> None:
    """Refuse a file that is a pointer to the real one.

    Raises:
        ExportError: it is; saying how to get the real one.

    """
    try:
        with file.open("rb") as opened:
            beginning = opened.read(len(_BEGINNING))
    except OSError:
        # Whoever reads it says why it cannot be read.
        return
    if beginning == _BEGINNING:
        raise ExportError(
            f"{file} is a Git LFS pointer and not the file itself: run `git lfs pull` in {file.parent}, or download "
            "the file"
        )
