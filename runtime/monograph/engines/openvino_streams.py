"""Many batches through a compiled model with parallel streams of few threads each.

Two streams of one thread have a higher throughput than one stream of two threads (docs/performance.md); a single batch
takes longer, so calls of few texts do not use them.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph.batching import TokenBatch
from monograph.engines.native import NativeObject, check_process, is_raised_by
from monograph.engines.openvino_models import Model

# Beyond the number of streams, so that none idles while a result is fetched.
_EXTRA_REQUESTS = 1


class Streams:
    """A model of several streams, compiled on first use; safe from many threads.

    ``main`` is the model of one stream, which runs what other callers leave no request for.
    """

    def __init__(self, main: NativeObject[Model], compile_model: Callable[[], Any]) -> None:
        self._main = main
        self._compile = compile_model
        self._compiling = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self._requests: NativeObject[deque[Any]] | None = None

    def run(self, batches: Iterable[TokenBatch]) -> Iterator[tuple[TokenBatch, NDArray[np.float32]]]:
        """Run batches in parallel and yield each with its output, float32 [b, d].

        Where other callers hold all requests, the main model runs the batch: waiting for them could be a deadlock.

        Raises:
            Exception: what OpenVINO raises where the model cannot be compiled, or a batch failed.

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
                    finished = earlier, _fetch(request)
                if request is None:
                    finished = batch, self._main.get().infer(batch.inputs)
                else:
                    # The batch owns the shared arrays until its result is fetched.
                    running.append((request, batch))
                    request.start_async(dict(batch.inputs), share_inputs=True)
                if finished is not None:
                    yield finished
                    check_process(self._process)
            while running:
                request, earlier = running.popleft()
                yield earlier, _fetch(request)
                check_process(self._process)
        finally:
            try:
                self._give_back(taken, free)
            except BaseException:
                # An interrupt: a request must not go on with the arrays of a batch that is freed.
                self._give_back(taken, free)
                raise

    def close(self) -> None:
        """Free the model once no run uses it any more, and never compile it again."""
        # Without the lock, which a fork may have copied, or the thread hold that a signal handler interrupted.
        self._closed = True
        if self._requests is not None:
            self._requests.release()

    def _give_back(self, taken: list[Any], free: deque[Any]) -> None:
        while taken:
            if self._process == os.getpid():
                # Nobody will fetch this batch.
                try:
                    taken[-1].wait()
                except Exception as error:
                    if not is_raised_by("openvino", error):
                        raise
            # In one step of Python, as in _take.
            free.extend(map(list.pop, (taken,)))

    def _free(self) -> deque[Any]:
        """Return the queue of idle requests."""
        with self._compiling:
            if self._requests is None:
                self._requests = NativeObject(deque(() if self._closed else self._create_requests()))
            if self._closed:
                self._requests.release()
        return self._requests.get()

    def _create_requests(self) -> Iterator[Any]:
        compiled = self._compile()
        for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + _EXTRA_REQUESTS):
            yield compiled.create_infer_request()


def _take(free: deque[Any], taken: list[Any]) -> Any:
    """Move an idle request to ``taken`` and return it, None where there is none."""
    try:
        # In one step of Python: an interrupt between two would lose the request.
        taken.extend(map(deque.pop, (free,)))
    except IndexError:
        return None
    return taken[-1]


def _fetch(request: Any) -> NDArray[np.float32]:
    request.wait()
    return np.array(request.get_output_tensor(0).data, dtype=np.float32)
