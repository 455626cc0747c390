"""The pipelines of a bundle: one, or one per route for a model that embeds queries and documents differently."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from monograph.bundle import Bundle
from monograph.bundle.manifest import TokenizerSpec
from monograph.engines import EngineOptions, open_engine
from monograph.errors import BundleError, InputError
from monograph.inference.pipeline import BatchRunner, Pipeline
from monograph.memory import check_memory, is_out_of_memory, out_of_memory
from monograph.tokenization import TextTokenizer

# What a tokenizer takes in memory, relative to its file: LaBSE's 115 MB for 13, MiniLM's 7 for 0.5.
_TOKENIZER_SHARE = 8
# By the name of their route; without routes the one tokenizer is under None.
Tokenizers = Mapping[str | None, TextTokenizer]


@dataclass(frozen=True)
class Routes:
    """A bundle's pipelines by their route, all on the same device; without routes the one pipeline is under None."""

    bundle: Bundle
    pipelines: Mapping[str | None, Pipeline]

    @property
    def main(self) -> Pipeline:
        """The pipeline of texts without a task, or the first where the model requires one."""
        routing = self.bundle.manifest.routing
        default = None if routing is None else routing.default
        return next(iter(self.pipelines.values())) if default is None else self.pipelines[default]

    @property
    def max_length(self) -> int | None:
        """Tokens that the route with the longest texts retains of one, special ones included; None for all."""
        lengths = [pipeline.tokenizer.max_length for pipeline in self.pipelines.values()]
        known = [length for length in lengths if length is not None]
        return max(known) if len(known) == len(lengths) else None

    def for_task(self, task: str | None) -> Pipeline:
        """Return the pipeline that a task takes.

        Raises:
            InputError: the model does not know the task, or requires one and was given none.

        """
        if task is not None and not isinstance(task, str):
            raise InputError(f"task must be a str, got {type(task).__name__}")
        routing = self.bundle.manifest.routing
        if routing is None:
            if task is not None:
                raise InputError(f"task {task!r}: this model embeds every text in one way, so leave task out")
            return self.main
        route = routing.route_of(task)
        if route is None:
            known = ", ".join(map(repr, routing.tasks))
            problem = (
                "no task was given, and this model has no default" if task is None else f"task {task!r} is unknown"
            )
            raise InputError(
                f"{problem}; it has {known}: name one (task=, --task), or use encode_query and encode_document"
            )
        return self.pipelines[route]

    def close(self) -> None:
        """Free the engines, all of them also where one fails to close."""
        with ExitStack() as stack:
            for pipeline in self.pipelines.values():
                stack.callback(pipeline.engine.close)


def load_routes(
    bundle: Bundle,
    tokenizers: Tokenizers,
    options: EngineOptions,
    *,
    check_verifications: bool = True,
    max_tokens_per_batch: int | None = None,
) -> Routes:
    """Load every route of a bundle on one device, beside its tokenizer.

    ``check_verifications`` is that of ``open_engine``, ``max_tokens_per_batch`` that of ``BatchRunner``.

    Raises:
        BundleError: the engine cannot load a graph.
        DeviceError: the device cannot run the bundle here.

    """
    manifest = bundle.manifest
    pipelines: dict[str | None, Pipeline] = {}
    try:
        for route, tokenizer in tokenizers.items():
            engine = open_engine(bundle, options, route, check_verifications=check_verifications)
            specification = manifest.tokenizers[route]
            runner = BatchRunner(engine, specification, manifest.output_width, max_tokens_per_batch)
            pipelines[route] = Pipeline(tokenizer, specification, runner)
    except BaseException:
        Routes(bundle, pipelines).close()
        raise
    return Routes(bundle, pipelines)


def load_tokenizers(bundle: Bundle) -> Tokenizers:
    """Load the tokenizer of each route; routes with the same file share one.

    Raises:
        BundleError: one cannot be loaded, or truncates texts elsewhere than the manifest says.

    """
    specifications = bundle.manifest.tokenizers
    size = sum(bundle.manifest.files[file].bytes for file in {one.file for one in specifications.values()})
    needed, purpose = _TOKENIZER_SHARE * size, f"load the tokenizer of bundle {bundle.path}"
    check_memory(needed, purpose)
    try:
        loaded = {one: load_tokenizer(bundle, one) for one in set(specifications.values())}
    except MemoryError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, needed, purpose) from error
    return {route: loaded[specification] for route, specification in specifications.items()}


def load_tokenizer(bundle: Bundle, specification: TokenizerSpec) -> TextTokenizer:
    """Load a tokenizer of a bundle.

    Raises:
        BundleError: it cannot be loaded, or truncates texts elsewhere than the manifest says.

    """
    tokenizer = TextTokenizer(bundle.path / specification.file)
    actual, stated = tokenizer.max_length, specification.max_length
    if actual != stated:
        raise BundleError(bundle.path, [f"the tokenizer truncates to {actual} tokens, the manifest says {stated}"])
    return tokenizer
