"""Keep huggingface_hub from asking a Hub that fails again and again.

Left alone, it waits for ever for the answer to some requests, and makes others seven times, with up to a minute for
each. Within ``bounded_requests`` every wait ends and no request is made more than twice: a dead Hub is known within
half a minute, at the default timeouts of 10 seconds.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_TRIES = 2
# Statuses on which huggingface_hub sleeps, for as long as the server says, before it asks again.
_BUSY = (408, 429)


class NoAnswerError(Exception):
    """The Hub did not answer a request, or broke off, as often as it was made."""


@contextmanager
def bounded_requests() -> Iterator[None]:
    """Bound the requests that this thread makes through huggingface_hub, and keep its warnings off stderr."""
    from huggingface_hub import get_session

    limits = _Limits()
    client: Any = get_session()
    hooks = client.event_hooks
    hooks["request"].append(limits.before)
    hooks["response"].append(limits.after)
    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(limits.shown)
    try:
        yield
    finally:
        hooks["request"].remove(limits.before)
        hooks["response"].remove(limits.after)
        for handler in handlers:
            handler.removeFilter(limits.shown)


class _Limits:
    """Hooks of what all threads share; they act on the requests and warnings of the thread that made them."""

    def __init__(self) -> None:
        from huggingface_hub import constants

        self._thread = threading.get_ident()
        self._longest = max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._made: Counter[tuple[str, str, str | None]] = Counter()

    def before(self, request: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        # The range is a part of it: a download that goes on behind what has come makes progress.
        key = (request.method, str(request.url), request.headers.get("Range"))
        self._made[key] += 1
        if self._made[key] > MAX_TRIES:
            raise NoAnswerError(f"no whole answer to {request.method} {request.url}")
        waits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: min(waits.get(kind) or self._longest, self._longest) for kind in ("connect", "read", "write", "pool")
        }

    def after(self, response: Any) -> None:
        if threading.get_ident() == self._thread and response.status_code in _BUSY:
            from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # not in its __all__

            hf_raise_for_status(response)

    def shown(self, record: logging.LogRecord) -> bool:
        # It warns of what it tries again; what fails in the end is an exception.
        return record.levelno != logging.WARNING or threading.get_ident() != self._thread
