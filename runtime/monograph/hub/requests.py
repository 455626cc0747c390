"""Requests to a Hub: bounded in time and number, their failures in one line that says what to do.

By default huggingface_hub waits forever for some responses and retries other requests seven times, with up to a minute
for each. Within ``bound_requests`` every wait ends and no request is made more than twice: an unreachable Hub is
reported within half a minute, at the default timeouts of 10 seconds.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from monograph.errors import MonographError, first_line
from monograph.signal_handlers import passed_a_signal_handler

LOGIN = "set HF_TOKEN or run `hf auth login`"
# Errors of the disk with the cache; other OSErrors are of the connection.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)
_MAX_TRIES = 2
# Whose errors a download raises.
_LIBRARIES = (
    "huggingface_hub",
    *("hf_xet", "httpx", "httpx2", "httpcore", "httpcore2", "h11", "anyio", "requests", "urllib3", "http"),
    *("ssl", "socket", "json", "filelock", "zlib"),
)
# Statuses on which huggingface_hub sleeps for as long as the server says, and retries.
_BUSY = (408, 429)


class _NoResponseError(Exception):
    """The Hub did not respond completely to a request, however often it was made."""


@contextmanager
def explain_errors(name: object, *, local_files_only: bool = False) -> Iterator[None]:
    """Turn any exception into a ``MonographError`` whose one line says why ``name`` is not available."""
    try:
        yield
    except MonographError:
        raise
    except ImportError as error:
        raise MonographError(
            f"{name} is on a Hub, which needs huggingface_hub: pip install 'monograph[hub]'"
        ) from error
    except Exception as error:
        if not _is_of_transfer(error):
            raise
        if local_files_only and not (isinstance(error, OSError) and error.errno in _DISK):
            raise not_in_cache(name) from error
        raise MonographError(_explain(name, error)) from error


def not_in_cache(name: object) -> MonographError:
    """Return the error for files that are not in the cache, where ``local_files_only`` says to download none."""
    return MonographError(
        f"{name} is not completely in the cache, and local_files_only is set: leave it out to download"
    )


@contextmanager
def explain_upload_errors(name: object) -> Iterator[None]:
    """Turn any exception of an upload into a ``MonographError`` whose one line says why ``name`` was not written."""
    try:
        yield
    except MonographError:
        raise
    except ImportError as error:
        raise MonographError(
            f"{name} is on a Hub, which needs huggingface_hub: pip install 'monograph[hub]'"
        ) from error
    except Exception as error:
        if not _is_of_transfer(error):
            raise
        raise MonographError(_explain_upload(name, error)) from error


def _explain_upload(name: object, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return f"the Hub denies writing to {name} ({status}): {LOGIN} with a token that may write there"
        return f"the Hub answers {status} to the upload of {name} ({first_line(error)}): try again later"
    if constants.is_offline_mode():
        return f"{name} cannot be uploaded while HF_HUB_OFFLINE is set: unset it"
    return (
        f"{name} cannot be uploaded to {constants.ENDPOINT} ({first_line(_innermost(error))}): check the connection "
        "and HF_ENDPOINT, or try again later"
    )


def _is_of_transfer(error: Exception) -> bool:
    """Return whether an error is of the transfer, and not the caller's, whose signals are handled meanwhile."""
    module = type(error).__module__
    if module in ("builtins", __name__):
        built_in = isinstance(error, (OSError, ValueError, RuntimeError, _NoResponseError))
        return built_in and not passed_a_signal_handler(error)
    return module.partition(".")[0] in _LIBRARIES


def _explain(name: object, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return _explain_status(name, error, error.response.status_code)
    if isinstance(error, OSError) and error.errno in _DISK:
        return (
            f"{name} cannot be stored in {constants.HF_HUB_CACHE} ({error.strerror}): free space or grant access, or "
            "set HF_HOME to another folder"
        )
    if constants.is_offline_mode():
        return f"{name} is not completely in the cache, and HF_HUB_OFFLINE is set: unset it to download"
    return (
        f"{name} cannot be downloaded from {constants.ENDPOINT} ({first_line(_innermost(error))}) and is not "
        "completely in the cache: check the connection and HF_ENDPOINT, or try again later"
    )


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _explain_status(name: object, error: Exception, status: int) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return f"{name} is gated: request access on its page, then {LOGIN}"
    if isinstance(error, RevisionNotFoundError):
        return f"{name}: there is no such revision in the repository: check the name of the branch, tag or commit"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no repository {name} on the Hub, or it is private: check the name, or {LOGIN}"
    if status in (401, 403):
        return f"the Hub denies access to {name} ({status}): {LOGIN} with a token that has it"
    return f"the Hub answers {status} for {name}: try again later"


@contextmanager
def bound_requests() -> Iterator[None]:
    """Bound the requests that this thread makes through huggingface_hub, and hide the warnings of its retries."""
    from huggingface_hub import get_session

    limits = _Limits()
    client: Any = get_session()
    hooks = client.event_hooks
    hooks["request"].append(limits.before_request)
    hooks["response"].append(limits.after_response)
    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(limits.is_shown)
    try:
        yield
    finally:
        hooks["request"].remove(limits.before_request)
        hooks["response"].remove(limits.after_response)
        for handler in handlers:
            handler.removeFilter(limits.is_shown)


class _Limits:
    """Hooks of the shared session and log; they act only on the thread that made them."""

    def __init__(self) -> None:
        from huggingface_hub import constants

        self._thread = threading.get_ident()
        self._max_seconds = max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._tries: Counter[tuple[str, str, str | None]] = Counter()

    def before_request(self, request: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        # The range is part of the key: a download that resumes further on makes progress.
        key = (request.method, str(request.url), request.headers.get("Range"))
        self._tries[key] += 1
        if self._tries[key] > _MAX_TRIES:
            raise _NoResponseError(f"no complete response to {request.method} {request.url}")
        timeouts = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: min(timeouts.get(kind) or self._max_seconds, self._max_seconds)
            for kind in ("connect", "read", "write", "pool")
        }

    def after_response(self, response: Any) -> None:
        if threading.get_ident() == self._thread and response.status_code in _BUSY:
            from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # not in its __all__

            hf_raise_for_status(response)

    def is_shown(self, record: logging.LogRecord) -> bool:
        # A final failure is an exception, not a warning.
        return record.levelno != logging.WARNING or threading.get_ident() != self._thread
