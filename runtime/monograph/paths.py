"""Paths as users write them: "~" is a home folder, in an option of the command line as in a call."""

from __future__ import annotations

import os
from pathlib import Path

from monograph.errors import InputError


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path, of which a leading "~" or "~user" is replaced by the home folder.

    A shell does so for a word of its own, and not within ``--output=~/vectors.npy``. A folder that is named so is
    reached by the str "./~" or by its whole path.

    Raises:
        InputError: there is no such user.

    """
    text = os.fspath(path)
    if not text.startswith("~"):
        named = Path(text)
        # Of "./~" a Path is "~", which would be expanded where it is passed on.
        return Path(os.path.abspath(named)) if str(named).startswith("~") else named  # noqa: PTH100
    # Not Path.expanduser, which raises a RuntimeError.
    expanded = os.path.expanduser(text)  # noqa: PTH111
    if expanded == text:
        user = Path(text).parts[0]
        raise InputError(
            f"{text}: {user} has no home folder here: write the whole path, or ./{user} for a folder so named"
        )
    return Path(expanded)
