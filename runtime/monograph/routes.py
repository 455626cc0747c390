"""The pipelines of a bundle: one, or one a route for a model that embeds queries and documents in ways of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from monograph.bundle import Bundle
from monograph.bundle.manifest import Routing
from monograph.engines import EngineOptions
from monograph.errors import InputError
from monograph.pipeline import Pipeline, load_pipeline, load_tokenizer
from monograph.tokenization import TextTokenizer

# By the name of their route; without routes the one tokenizer is under None.
Tokenizers = Mapping[str | None, TextTokenizer]


@dataclass(frozen=True)
class Routes:
    """Pipelines by the name of their route, all on the same device; without routes the one pipeline is under None."""

    pipelines: Mapping[str | None, Pipeline]
    routing: Routing | None

    @property
    def main(self) -> Pipeline:
        """The pipeline of texts without a task, or the first where the model wants one."""
        default = None if self.routing is None else self.routing.default
        return next(iter(self.pipelines.values())) if default is None else self.pipelines[default]

    @property
    def max_length(self) -> int | None:
        """Tokens that the route with the longest texts keeps of one, special ones included; None for all."""
        lengths = [pipeline.tokenizer.max_length for pipeline in self.pipelines.values()]
        known = [length for length in lengths if length is not None]
        return max(known) if len(known) == len(lengths) else None

    def of_task(self, task: str | None) -> Pipeline:
        """Return the pipeline that a task takes.

        Raises:
            InputError: the model does not know the task, or wants one and was given none.

        """
        if task is not None and not isinstance(task, str):
            raise InputError(f"task must be a str, got {type(task).__name__}")
        if self.routing is None:
            if task is not None:
                raise InputError(f"task {task!r}: this model embeds every text in one way, so leave task out")
            return self.main
        route = self.routing.route_of(task)
        if route is None:
            known = ", ".join(map(repr, self.routing.tasks))
            said = "no task was given, and this model has no default" if task is None else f"task {task!r} is unknown"
            raise InputError(
                f"{said}; it has {known}: name one (task=, --task), or use encode_query and encode_document"
            )
        return self.pipelines[route]

    def bounded(self, max_tokens_per_batch: int | None) -> Routes:
        """Return the same pipelines with a bound of their batches."""
        bounded = {
            route: replace(pipeline, max_tokens_per_batch=max_tokens_per_batch)
            for route, pipeline in self.pipelines.items()
        }
        return replace(self, pipelines=bounded)

    def close(self) -> None:
        """Free the engines, all of them also where one fails to."""
        with ExitStack() as stack:
            for pipeline in self.pipelines.values():
                stack.callback(pipeline.engine.close)


def load_routes(
    bundle: Bundle, tokenizers: Tokenizers, options: EngineOptions, *, check_verifications: bool = True
) -> Routes:
    """Load every route of a bundle on one device, beside its tokenizer; ``check_verifications`` as in ``open_engine``.

    Raises:
        BundleError: the engine cannot load a graph.
        DeviceError: the device cannot run the bundle here.

    """
    pipelines: dict[str | None, Pipeline] = {}
    try:
        for route, tokenizer in tokenizers.items():
            pipelines[route] = load_pipeline(bundle, route, tokenizer, options, check_verifications=check_verifications)
    except BaseException:
        Routes(pipelines, bundle.manifest.routing).close()
        raise
    return Routes(pipelines, bundle.manifest.routing)


def load_tokenizers(bundle: Bundle) -> Tokenizers:
    """Load the tokenizer of each route; routes with the same file share one.

    Raises:
        BundleError: one cannot be loaded, or cuts texts elsewhere than the manifest says.

    """
    specifications = bundle.manifest.tokenizers
    loaded = {specification: load_tokenizer(bundle, specification) for specification in set(specifications.values())}
    return {route: loaded[specification] for route, specification in specifications.items()}
