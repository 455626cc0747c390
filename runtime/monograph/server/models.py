"""The models that a server has opened, by name, and how a request's texts go through one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from monograph.batching import deduplicate, split_into_windows
from monograph.errors import InputError, MonographError
from monograph.inputs import Input, UnusableTextError, count_characters
from monograph.model import Call, Model, Role, prepare_call, prepare_token_call, routes_of
from monograph.server.engine_queue import EngineQueue, Job
from monograph.server.errors import Failure, RequestError
from monograph.server.limits import Limits
from monograph.server.metrics import Metrics
from monograph.tasks.embedding import TOKEN_EMBEDDINGS
from monograph.tasks.multi_vector import MULTI_VECTOR
from monograph.tokenization import Side, TokenizedTexts

_T = TypeVar("_T")
# Characters of texts that the event loop's thread tokenizes itself: they take it less time than to wake another thread.
_FEW_CHARACTERS = 2_000
# More take so long that they have a thread of their own, and no other request waits behind them.
_MANY_CHARACTERS = 100_000
_TOKENIZER_THREADS = 2
_MAX_RETRY_SECONDS = 60
# Until the first batch has shown it.
_TOKENS_PER_SECOND = 10_000.0


@dataclass(frozen=True)
class CallOptions:
    """What a request may say about the computation, whatever the task.

    ``role`` chooses prompt and route of queries or documents. ``truncate`` is None for the server's default, ``side``
    None for the model's.
    """

    prompt_name: str | None = None
    role: Role | None = None
    truncate: bool | None = None
    side: Side | None = None


@dataclass(frozen=True)
class Computed(Generic[_T]):
    """The results of a request's texts in their order, and each text's tokens, special ones included (int64 [n])."""

    results: _T
    token_counts: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """The tokens of all texts."""
        return int(self.token_counts.sum())


class TooLongError(UnusableTextError):
    """A text, or pair, that would be truncated in a request that does not want that."""

    def at(self, position: int) -> TooLongError:
        """Return the error for the same text at another position."""
        return TooLongError(self.noun, position, self.problem)


class Tokenizing:
    """The threads that tokenize; a long text takes none that short ones need."""

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(_TOKENIZER_THREADS, "tokenizer")
        self.long = ThreadPoolExecutor(1, "tokenizer of long texts")

    def threads_for(self, characters: int) -> ThreadPoolExecutor | None:
        """Return the threads that texts with so many characters go to, None for the caller's own."""
        if characters <= _FEW_CHARACTERS:
            return None
        return self.long if characters > _MANY_CHARACTERS else self._short

    def close(self) -> None:
        """End the threads."""
        for threads in (self._short, self.long):
            threads.shutdown(cancel_futures=True)


class ServedModel:
    """An open model under a name, with a queue in front of each of its engines.

    ``has_token_vectors`` tells whether ``token_call`` is possible.
    """

    def __init__(self, name: str, model: Model[Any], limits: Limits, metrics: Metrics, tokenizing: Tokenizing) -> None:
        self.name = name
        self.model = model
        self.task = model.manifest.task
        self.verified = ""
        self._limits = limits
        self._metrics = metrics.of_model(name)
        self._tokenizing = tokenizing
        self.created = int(time.time())
        self.queued_tokens = 0
        routes = routes_of(model)
        token_pipelines = routes.of_output(TOKEN_EMBEDDINGS)
        self.has_token_vectors = bool(token_pipelines) or self.task == MULTI_VECTOR.name
        self._queues = {
            pipeline: EngineQueue(pipeline.runner, name, self._metrics.count_batch)
            for pipeline in (*routes.pipelines.values(), *token_pipelines.values())
        }

    @property
    def tokens_per_batch(self) -> int:
        """The tokens of the largest batches of short texts."""
        return max(pipeline.engine.tokens_per_batch for pipeline in self._queues)

    @property
    def is_running(self) -> bool:
        """Whether requests are computed."""
        return all(queue.is_running for queue in self._queues.values())

    def call(self, options: CallOptions, **task_options: Any) -> Call[Any]:
        """Check the options of a request.

        Raises:
            RequestError: one is not usable.

        """
        try:
            return prepare_call(self.model, options.prompt_name, None, None, None, role=options.role, **task_options)
        except InputError as error:
            raise RequestError(Failure.INVALID, str(error)) from error

    def token_call(self, options: CallOptions) -> Call[Any]:
        """Check the options of a request for the vectors of tokens.

        Raises:
            RequestError: one is not usable, or the model has no such vectors.

        """
        try:
            return prepare_token_call(self.model, options.prompt_name, options.role)
        except InputError as error:
            raise RequestError(Failure.INVALID, str(error)) from error

    async def compute(self, inputs: Sequence[Input], call: Call[Any], options: CallOptions) -> Computed[Any]:
        """Return the results of texts or pairs, as a call of the model's class does.

        Raises:
            RequestError: a text is not usable, or the queue is full.
            asyncio.CancelledError: what was not computed yet is then left out.

        """
        distinct, positions = deduplicate(inputs)
        results, counts, start = [], [], 0
        # One after the other, so that texts share batches with those that they share them with in encode.
        for window in split_into_windows(distinct):
            try:
                tokens = await self._tokenize(window, call, options)
            except UnusableTextError as error:
                place = start + error.position
                raise as_request_error(error.at(place if positions is None else _first(positions, place))) from error
            results.append(await self._run(tokens, call))
            counts.append(tokens.lengths)
            start += len(window)
        if len(results) == 1:
            computed, lengths = results[0], counts[0]
        else:
            ends = np.cumsum([len(one) for one in counts])
            parts = [
                (np.arange(end - len(one), end, dtype=np.intp), result)
                for end, one, result in zip(ends.tolist(), counts, results, strict=True)
            ]
            computed, lengths = call.post_process.collect(parts, len(distinct)), np.concatenate(counts)
        if positions is not None:
            computed, lengths = call.post_process.take(computed, positions), lengths[positions]
        self._metrics.texts.inc(len(inputs))
        self._metrics.tokens.inc(int(lengths.sum()))
        return Computed(computed, lengths)

    async def _tokenize(self, texts: Sequence[Input], call: Call[Any], options: CallOptions) -> TokenizedTexts:
        threads = self._tokenizing.threads_for(sum(map(count_characters, texts)))
        if threads is None and options.side is None:
            return self._tokenized(texts, call, options)
        # The other side needs a copy of the tokenizer, which takes long to make.
        return await asyncio.get_running_loop().run_in_executor(threads, self._tokenized, texts, call, options)

    def _tokenized(self, texts: Sequence[Input], call: Call[Any], options: CallOptions) -> TokenizedTexts:
        truncate = self._limits.truncate if options.truncate is None else options.truncate
        pipeline = call.pipeline
        if truncate and options.side is None:
            return pipeline.tokenize(texts, call.prompt)
        tokens, cut = pipeline.tokenize_with_cuts(texts, call.prompt, options.side)
        if not truncate and cut.any():
            position = int(cut.argmax())
            raise TooLongError(
                "text" if isinstance(texts[position], str) else "pair",
                position,
                f"has more than {pipeline.tokenizer.max_length} tokens, the most that {self.name!r} reads: shorten it, "
                "or send truncate: true",
            )
        return tokens

    async def _run(self, tokens: TokenizedTexts, call: Call[Any]) -> Any:
        size = len(tokens.ids)
        self._check_room(size)
        queue = self._queues[call.pipeline]
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[Job] = loop.create_future()

        def on_done(job: Job) -> None:
            loop.call_soon_threadsafe(_resolve, finished, job)

        job = Job(tokens, call.post_process, on_done)
        self.queued_tokens += size
        self._metrics.queued_tokens.set(self.queued_tokens)
        queue.submit(job)
        try:
            await finished
        finally:
            job.cancelled = True
            self.queued_tokens -= size
            self._metrics.queued_tokens.set(self.queued_tokens)
        self._metrics.waited.observe(job.waited)
        self._metrics.computed.observe(job.computed)
        if job.error is not None:
            raise job.error
        return job.result

    def _check_room(self, size: int) -> None:
        limit = self._limits.max_queue_tokens
        if size > limit:
            raise RequestError(
                Failure.TOO_LARGE, f"the request has {size:,} tokens, and at most {limit:,} may wait: send fewer texts"
            )
        if self.queued_tokens + size > limit:
            speeds = [queue.tokens_per_second for queue in self._queues.values()]
            seconds = self.queued_tokens / (max(speeds, default=0.0) or _TOKENS_PER_SECOND)
            raise RequestError(
                Failure.OVERLOADED,
                f"{self.queued_tokens:,} tokens wait for {self.name!r} already: send the request again later",
                retry_after=max(1, min(_MAX_RETRY_SECONDS, round(seconds / 2))),
            )

    async def in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Return what a function returns that takes as long as to tokenize a long text."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing.long, function, *arguments)

    def close(self) -> None:
        """Compute what waits, and close the model."""
        for queue in self._queues.values():
            queue.close()
        self.model.close()


class Registry:
    """The models of a server, in the order they were named; the first of a task answers requests that name none."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models: Mapping[str, ServedModel] = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str | None, *tasks: str) -> ServedModel:
        """Return the model of a name, or the first of one of the tasks.

        Raises:
            RequestError: there is none, or it is of another task.

        """
        fitting = [model for model in self._models.values() if model.task in tasks]
        if name is None:
            if not fitting:
                served = ", ".join(repr(model.name) for model in self._models.values())
                raise RequestError(
                    Failure.MODEL_NOT_FOUND,
                    f"this route is for models of the task {' or '.join(tasks)}, and this server has {served}",
                )
            return fitting[0]
        if name not in self._models:
            known = ", ".join(repr(model.name) for model in fitting) or "none of this task"
            raise RequestError(
                Failure.MODEL_NOT_FOUND, f"the model {name!r} is not served here; there is {known}", parameter="model"
            )
        model = self._models[name]
        if model.task not in tasks:
            raise RequestError(
                Failure.INVALID,
                f"the model {name!r} is for the task {model.task!r}, and this route for {' or '.join(tasks)}",
                parameter="model",
            )
        return model

    def close(self) -> None:
        """Close all models, also where one fails to close."""
        with ExitStack() as stack:
            for model in self._models.values():
                stack.callback(model.close)


def tokenize_in_callers_thread() -> None:
    """Have tokenizers use no threads of its own in this process.

    There are as many as CPUs, for all callers: as many long texts would keep every other text waiting.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def as_request_error(error: MonographError) -> RequestError:
    """Return the error of a request for one of the runtime."""
    failure = Failure.INVALID if isinstance(error, InputError) else Failure.ENGINE
    if isinstance(error, TooLongError):
        failure = Failure.TOO_LONG
    return RequestError(failure, str(error))


def _resolve(future: asyncio.Future[Job], job: Job) -> None:
    if not future.done():
        future.set_result(job)


def _first(positions: NDArray[np.intp], place: int) -> int:
    """Return which input is the first that is the distinct one at a place."""
    return int((positions == place).argmax())
