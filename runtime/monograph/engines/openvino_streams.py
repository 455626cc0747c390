"""Many batches through a compiled model whose streams run side by side, a thread or few each.

Two streams of one thread do more batches in the same time than one stream of two threads (docs/performance.md); a
single batch takes longer, so that calls of few texts do not come here.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import TokenBatch
from monograph.engines.native import NativeObject

# One more than there are streams: while its result is fetched, no stream waits.
_MORE_REQUESTS = 1


class Streams:
    """A model of several streams, compiled when it is first needed; any number of threads may use it at once."""

    def __init__(self, compile_model: Callable[[], Any]) -> None:
        self._compile = compile_model
        self._compiling = threading.Lock()
        self._process = os.getpid()
        self._requests: NativeObject[SimpleQueue[Any]] | None = None

    def outputs(
        self,
        batches: Iterable[TokenBatch],
        elsewhere: Callable[[Mapping[str, NDArray[np.int64]]], NDArray[np.float32]],
    ) -> Iterator[tuple[TokenBatch, NDArray[np.float32]]]:
        """Run batches side by side and yield each with its output, float32 [b, d].

        Where other callers have all requests a batch is run ``elsewhere`` and not waited for: they may be waiting for
        this caller.

        Raises:
            RuntimeError: OpenVINO's own: the model cannot be compiled, or a batch failed.

        """
        free = self._free()
        taken: list[Any] = []
        running: deque[tuple[Any, TokenBatch]] = deque()
        try:
            for batch in batches:
                finished = None
                request = _take(free, taken)
                if request is None and running:
                    request, earlier = running.popleft()
                    finished = earlier, _result(request)
                if request is None:
                    finished = batch, elsewhere(batch.inputs)
                else:
                    # The arrays are shared: the batch keeps them until its result is fetched.
                    running.append((request, batch))
                    request.start_async(dict(batch.inputs), share_inputs=True)
                if finished is not None:
                    yield finished
            while running:
                request, earlier = running.popleft()
                yield earlier, _result(request)
        finally:
            for request in taken:
                # The error of a batch that nobody will have.
                with contextlib.suppress(RuntimeError):
                    request.wait()
                free.put(request)

    def close(self) -> None:
        """Free the model once no run uses it any more, and compile none from now on."""
        if self._process != os.getpid():
            # A fork may have copied the lock as another thread held it, and the model cannot be freed there.
            return
        with self._compiling:
            if self._requests is None:
                self._requests = NativeObject(SimpleQueue())
            self._requests.release()

    def _free(self) -> SimpleQueue[Any]:
        """Return the requests that nobody uses."""
        with self._compiling:
            if self._requests is None:
                compiled = self._compile()
                free: SimpleQueue[Any] = SimpleQueue()
                for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + _MORE_REQUESTS):
                    free.put(compiled.create_infer_request())
                self._requests = NativeObject(free)
        return self._requests.get()


def _take(free: SimpleQueue[Any], taken: list[Any]) -> Any | None:
    try:
        request = free.get_nowait()
    except Empty:
        return None
    taken.append(request)
    return request


def _result(request: Any) -> NDArray[np.float32]:
    request.wait()
    return np.array(request.get_output_tensor(0).data, dtype=np.float32)
