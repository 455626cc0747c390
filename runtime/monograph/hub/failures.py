"""What huggingface_hub raises, in one line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from monograph.errors import MonographError, first_line

_LOGIN = "set HF_TOKEN or run `hf auth login`"
# Errors of the disk that the cache is on; other OSErrors are of the connection.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)


@contextmanager
def explained(name: object) -> Iterator[None]:
    """Turn any exception into one that says in a line why ``name`` cannot be had.

    Raises:
        MonographError: in place of whatever was raised.

    """
    try:
        yield
    except MonographError:
        raise
    except ImportError as error:
        raise MonographError(
            f"{name} is on a Hub, which needs huggingface_hub: pip install 'monograph[hub]'"
        ) from error
    except Exception as error:
        raise MonographError(_explanation(name, error)) from error


def _explanation(name: object, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return _refusal(name, error, error.response.status_code)
    if isinstance(error, OSError) and error.errno in _DISK:
        return (
            f"{name} cannot be stored in {constants.HF_HUB_CACHE} ({error.strerror}): make room or give it rights, or "
            "set HF_HOME to another folder"
        )
    if constants.is_offline_mode():
        return f"{name} is not wholly in the cache, and HF_HUB_OFFLINE is set: unset it to download"
    detail = _root(error)
    return (
        f"{name} cannot be downloaded from {constants.ENDPOINT} ({detail}) and is not wholly in the cache: check the "
        "connection and HF_ENDPOINT, or try again later"
    )


def _refusal(name: object, error: Exception, status: int) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return f"{name} is gated: ask for access on its page, then {_LOGIN}"
    if isinstance(error, RevisionNotFoundError):
        return f"{name}: there is no such revision in the repository: check the name of the branch, tag or commit"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no repository {name} on the Hub, or it is private: check the name, or {_LOGIN}"
    if status in (401, 403):
        return f"the Hub does not let you read {name} ({status}): {_LOGIN} with a token that may"
    return f"the Hub answers {status} for {name}: try again later"


def _root(error: BaseException) -> str:
    """Return the first line of what an exception was raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
