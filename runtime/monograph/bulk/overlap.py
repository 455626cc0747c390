"""Read ahead and write behind in threads of their own, so that a processor never waits for a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

ItemT = TypeVar("ItemT")
Parameters = ParamSpec("Parameters")
# Items between the two threads: one in work, one ready.
_DEPTH = 2


class _End:
    """Comes after the last item."""


_END: Final = _End()


@contextmanager
def ahead(items: Iterator[ItemT]) -> Iterator[Iterator[ItemT]]:
    """Give an iterator over the same items, which are made in another thread up to ``_DEPTH`` ahead.

    What making one raises is raised where it would be used.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="monograph-read") as thread:
        made: deque[Future[ItemT | _End]] = deque(thread.submit(next, items, _END) for _ in range(_DEPTH))

        def taken() -> Iterator[ItemT]:
            while not isinstance(item := made.popleft().result(), _End):
                made.append(thread.submit(next, items, _END))
                yield item

        try:
            yield taken()
        finally:
            thread.shutdown(cancel_futures=True)


@contextmanager
def behind(function: Callable[Parameters, object]) -> Iterator[Callable[Parameters, None]]:
    """Give a function that has ``function`` called in another thread, in order and at most ``_DEPTH`` calls behind.

    At the end all calls have been made. What one raises is raised by a later one, or at the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="monograph-write") as thread:
        calls: deque[Future[Any]] = deque()

        def call(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> None:
            if len(calls) >= _DEPTH:
                calls.popleft().result()
            calls.append(thread.submit(function, *arguments, **keywords))

        try:
            yield call
            while calls:
                calls.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)
