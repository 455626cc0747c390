"""The base class of the models of every task: a bundle opened on a device."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, ClassVar, Generic, Literal, Self

from monograph.bundle import Bundle, Check, Manifest
from monograph.defaults import CallDefaults
from monograph.errors import InputError, MonographError
from monograph.hub import DEFAULT_ACCESS
from monograph.inference.opening import ModelSource, OpenModel, model_source
from monograph.inference.pipeline import Pipeline, show_progress
from monograph.inference.routes import Routes
from monograph.inputs import DOCUMENT_PROMPTS, QUERY_PROMPTS, InputT, check_count, find_prompt_name, resolve_prompt
from monograph.memory import is_out_of_memory, out_of_memory
from monograph.quality import QualityLevel
from monograph.tasks.base import PostProcess, ResultT, SectionT, Task
from monograph.tasks.embedding import TOKEN_EMBEDDINGS
from monograph.tasks.multi_vector import TokenPostProcess

logger = logging.getLogger(__name__)

# What a text is in retrieval, and the names of its prompts.
Role = Literal["query", "document"]
_ROLES: dict[Role, tuple[str, ...]] = {"query": QUERY_PROMPTS, "document": DOCUMENT_PROMPTS}


@dataclass(slots=True)
class Call(Generic[ResultT]):
    """The checked options of one call, and what computes it."""

    pipeline: Pipeline
    post_process: PostProcess[ResultT]
    prompt: str
    batch_size: int | None

    def iterate(self, inputs: Iterable[InputT], on_inputs: Callable[[int], object]) -> Iterator[ResultT]:
        """Yield the results of inputs in order: of a list all at once, of another iterable in blocks.

        ``on_inputs`` is called with the number of further inputs that are done, batch by batch.

        Raises:
            MonographError: the tokenizer or the engine failed, or memory is not enough.

        """
        try:
            yield from self.pipeline.map(inputs, self.post_process, self.prompt, self.batch_size, on_inputs)
        except (MonographError, MemoryError) as error:
            if type(error) in (MonographError, MemoryError) and is_out_of_memory(error):
                raise out_of_memory(error, 0, "compute a batch") from error
            raise


class AttributeRefusedError(InputError, AttributeError):
    """An attribute was assigned that a model does not have, or that cannot be set."""


class Model(Generic[SectionT]):
    """A bundle of one task, opened on one device; the classes that users open add what the task computes.

    A model has no other attributes than those of its class: assigning one is an error, and never ignored.
    """

    __slots__ = ("__weakref__", "_closed", "_model", "_opening", "_process", "_source")
    _task: ClassVar[Task[Any]]

    def __setattr__(self, name: str, value: object) -> None:
        try:
            object.__setattr__(self, name, value)
        except AttributeError as error:
            kind = type(self)
            settable = [key for key in dir(kind) if getattr(getattr(kind, key), "fset", None) is not None]
            raise AttributeRefusedError(
                f"{name!r} of {kind.__name__} cannot be set: give it to the constructor or to the call, if these have "
                f"an argument for it; what can be set is {', '.join(settable)}"
            ) from error

    @property
    def bundle(self) -> Bundle:
        """The bundle; of one with several precisions, restricted to the one that runs."""
        return self._open.bundle

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest; of a bundle with several precisions, with graphs and quality of the one that runs."""
        return self._open.bundle.manifest

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens of a text or pair, special tokens included; None for no limit.

        If the model has several routes, it is that of the route with the largest.
        """
        return self._open.routes.max_length

    @property
    def device(self) -> str:
        """The device that runs the graph."""
        return self._open.routes.main.engine.device

    @property
    def engine(self) -> str:
        """The engine that runs the graph, and its version."""
        return f"{self._open.routes.main.engine.name} {self._open.routes.main.engine.version}"

    @property
    def graph_precision(self) -> str:
        """The precision of the graph's layers: "fp32", "fp16", "int8" or "int8-weights"."""
        return self._open.routes.main.engine.graph.precision

    @property
    def compute_dtype(self) -> str:
        """The type in which the engine computes matrix products."""
        return self._open.routes.main.engine.compute_dtype

    @property
    def threads(self) -> int:
        """CPU threads of the engine."""
        return self._open.routes.main.engine.threads

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify bundle, precision, engine, device and type.

        Hosts with equal fingerprints compute alike.
        """
        parts = (self._open.bundle.identity, self.engine, self.device, self.compute_dtype)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def warmup(self) -> None:
        """Do in advance the work that would delay the first short texts.

        OpenVINO packs the weights and compiles kernels for single texts of up to 64 tokens. ONNX Runtime packs weights
        when it opens the model and gains little. Call this in a service before it accepts requests; batch jobs do not
        need it.

        Raises:
            MonographError: the engine failed, or the model was closed.

        """
        for pipeline in self._open.routes.pipelines.values():
            pipeline.runner.warm_up()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Free the engine. Further calls do nothing."""
        with self._lock():
            self._closed = True
            if self._model is not None:
                self._model.routes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> tuple[ModelSource, dict[str, Any]]:
        source, opened = self._source, self._model
        if opened is not None:
            # The token of a download is not needed again.
            source = replace(
                source,
                path=opened.folder,
                manifest_sha256=opened.bundle.manifest_sha256,
                access=DEFAULT_ACCESS,
                defaults=opened.defaults,
            )
        # A subclass may have attributes of its own.
        return source, getattr(self, "__dict__", {})

    def __setstate__(self, state: tuple[ModelSource, dict[str, Any]]) -> None:
        # Opened when it is first used: an error while a worker of multiprocessing unpickles its task reaches nobody,
        # and the caller waits for ever.
        source, attributes = state
        self._set_state(source, None)
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._model is None:
            return f"{name}({os.fspath(self._source.path)!r}, device={self._source.device!r}, not opened yet)"
        # A cross-encoder has none.
        dimension = getattr(self, "dimension", None)
        return (
            f"{name}({str(self._open.bundle.path)!r}, device={self.device!r}, "
            f"{'' if dimension is None else f'dimension={dimension}, '}engine={self.engine!r}, "
            f"compute_dtype={self.compute_dtype!r}, threads={self.threads}"
            f"{'' if self._open.bundle.precision is None else f', graph_precision={self.graph_precision!r}'})"
        )

    def _open_bundle(self, source: ModelSource, bundle: Bundle) -> None:
        self._set_state(source, source.open(bundle, self._task.name))
        logger.info("%s runs on %s", source.path, self)

    def _set_state(self, source: ModelSource, model: OpenModel | None) -> None:
        self._source = source
        self._model = model
        self._closed = False
        # A signal handler may close the model as its thread opens it.
        self._opening, self._process = threading.RLock(), os.getpid()

    def _lock(self) -> threading.RLock:
        if self._process != os.getpid():
            # It may have been held by a thread that is not in this forked process.
            self._opening, self._process = threading.RLock(), os.getpid()
        return self._opening

    @property
    def _open(self) -> OpenModel:
        if self._model is None:
            with self._lock():
                if self._closed:
                    raise MonographError("the model was closed: open it again to go on")
                if self._model is None:
                    opened = self._source.open(self._source.open_bundle(), self._task.name)
                    if self._closed:
                        # By a signal handler, meanwhile.
                        opened.routes.close()
                    self._model = opened
        return self._model

    @property
    def _section(self) -> SectionT:
        section: SectionT = self._open.defaults.section
        return section

    def _change_defaults(self, change: Callable[[CallDefaults[SectionT]], CallDefaults[SectionT]]) -> None:
        """Replace the defaults by what ``change`` makes of them, one thread at a time."""
        with self._lock():
            opened = self._open
            self._model = replace(opened, defaults=change(opened.defaults))

    def _prompt_and_task(
        self, role: Role, prompt_name: str | None, prompt: str | None
    ) -> tuple[str | None, str | None]:
        if prompt_name is None and prompt is None:
            prompt_name = find_prompt_name(self._open.defaults.prompts, _ROLES[role])
        return prompt_name, None if self.manifest.routing is None else role

    def _check_call(
        self,
        post_process: PostProcess[ResultT],
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        task: str | None = None,
        output: str | None = None,
    ) -> Call[ResultT]:
        """Check the options that the calls of every task have; ``output`` is one after the graph's first."""
        self._check_for_task(post_process, task)
        opened = self._open
        defaults = opened.defaults
        return Call(
            opened.routes.for_task(task, output),
            post_process,
            resolve_prompt(defaults.prompts, defaults.default_prompt_name, prompt_name, prompt),
            None if batch_size is None else check_count(batch_size, "batch_size"),
        )

    def _check_for_task(self, post_process: PostProcess[Any], task: str | None) -> None:
        """Raise ``InputError`` where ``post_process`` is not for the ``task`` of a call; subclasses may override it."""

    def _check_token_call(
        self, prompt_name: str | None, prompt: str | None, batch_size: int | None, task: str | None
    ) -> Call[Any]:
        """Check the options of a call for the float32 vectors of tokens, an output after the graph's first."""
        plan = TokenPostProcess(self.manifest.output_width, normalize=False, precision="float32")
        return self._check_call(plan, prompt_name, prompt, batch_size, task, TOKEN_EMBEDDINGS)

    def _run(self, inputs: list[InputT], call: Call[ResultT], show_progress_bar: bool | None) -> ResultT:
        """Return the results of inputs in their order."""
        with show_progress(len(inputs), show_progress_bar, self._task.inputs) as on_inputs:
            return next(call.iterate(inputs, on_inputs))


def prepare_call(
    model: Model[Any],
    prompt_name: str | None,
    prompt: str | None,
    batch_size: int | None,
    task: str | None,
    *,
    role: Role | None = None,
    **options: Any,
) -> Call[Any]:
    """Check the options of a call, those of the task's ``post_process`` included, for any number of inputs.

    ``role`` has prompt and route chosen as ``encode_query`` and ``encode_document`` do.

    Raises:
        InputError: an option is not usable.

    """
    if role is not None:
        prompt_name, task = model._prompt_and_task(role, prompt_name, prompt)
    plan = model._task.post_process(model._section, **options)
    return model._check_call(plan, prompt_name, prompt, batch_size, task)


def prepare_token_call(model: Model[Any], prompt_name: str | None, role: Role | None = None) -> Call[Any]:
    """Check the options of a call for the float32 vectors of tokens; ``role`` is that of ``prepare_call``.

    Raises:
        InputError: an option is not usable, or the bundle has no vectors of tokens.

    """
    if model._task.per_token:
        return prepare_call(model, prompt_name, None, None, None, role=role)
    task = None
    if role is not None:
        prompt_name, task = model._prompt_and_task(role, prompt_name, None)
    return model._check_token_call(prompt_name, None, None, task)


def routes_of(model: Model[Any]) -> Routes:
    """Return a model's pipelines, one for each route."""
    return model._open.routes


def load(
    path: str | os.PathLike[str],
    device: str | None = None,
    compute_dtype: str = "auto",
    threads: int | None = None,
    check: Check = "fast",
    cache_dir: str | os.PathLike[str] | None = None,
    max_tokens_per_batch: int | None = None,
    quality: QualityLevel | None = None,
) -> Any:
    """Open a bundle of any task as an Embedder, a CrossEncoder, a SparseEncoder or a MultiVectorEncoder.

    The arguments are those of ``Embedder``.

    Raises:
        BundleError: the bundle is missing or damaged (with every problem).
        DeviceError: the device or type is not available here, or the bundle failed verification on it.
        InputError: an option is not valid.

    Examples:
        >>> model = load(bundle, device="cpu")
        >>> type(model).__name__
        'Embedder'

    """
    source = model_source(path, device, compute_dtype, threads, check, cache_dir, max_tokens_per_batch, quality)
    return open_model(source, source.open_bundle())


def open_model(source: ModelSource, bundle: Bundle) -> Any:
    """Open a bundle that was read already as a model of its task's class.

    Raises:
        BundleError: a file does not fit the manifest.
        DeviceError: the device or type cannot be had here, or the bundle is known to be wrong on it.

    """
    module, _, name = bundle.task.model.partition(":")
    model: Model[Any] = object.__new__(getattr(importlib.import_module(module), name))
    model._open_bundle(source, bundle)
    return model
