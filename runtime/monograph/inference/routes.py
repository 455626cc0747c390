"""The pipelines of a bundle: one, or one per route for a model that embeds queries and documents differently."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

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
    """A bundle's pipelines by their route, all on the same device; without routes the one pipeline is under None.

    ``additional_pipelines`` are those of outputs after the graphs' first, by the output's name.
    """

    bundle: Bundle
    pipelines: Mapping[str | None, Pipeline]
    additional_pipelines: Mapping[str, Mapping[str | None, Pipeline]] = field(default_factory=dict)

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

    @property
    def stated_max_length(self) -> int | None:
        """What ``max_length`` is by the bundle, whatever limit was set."""
        lengths = [pipeline.tokenizer.stated_max_length for pipeline in self.pipelines.values()]
        known = [length for length in lengths if length is not None]
        return max(known) if len(known) == len(lengths) else None

    def limit_length(self, max_length: int | None) -> None:
        """Truncate the texts of every route to so many tokens, and at most to what the bundle says; None for that.

        Raises:
            InputError: the bundle's limit is lower, or special tokens leave no room.

        """
        stated = self.stated_max_length
        if max_length is not None and stated is not None and max_length > stated:
            raise InputError(
                f"max_seq_length {max_length} is more than the {stated} tokens that this bundle was exported for: "
                f"set at most {stated}, or raise the maximum of the checkpoint and export that"
            )
        for tokenizer in dict.fromkeys(pipeline.tokenizer for pipeline in self.pipelines.values()):
            tokenizer.limit(max_length)

    def of_output(self, output: str | None) -> Mapping[str | None, Pipeline]:
        """Return the pipelines of an output of the graphs by their route; None for the first."""
        return self.pipelines if output is None else self.additional_pipelines.get(output, {})

    def for_task(self, task: str | None, output: str | None = None) -> Pipeline:
        """Return the pipeline that a task takes, of an output of the graphs, None for the first.

        Raises:
            InputError: the model does not know the task, or requires one and was given none; or it has no such output.

        """
        pipelines = self.of_output(output)
        if not pipelines:
            raise InputError(
                f"this bundle has no {output!r}: export it with --outputs {self.bundle.task.output},{output}"
            )
        if task is not None and not isinstance(task, str):
            raise InputError(f"task must be a str, got {type(task).__name__}")
        routing = self.bundle.manifest.routing
        if routing is None:
            if task is not None:
                raise InputError(f"task {task!r}: this model embeds every text in one way, so leave task out")
            return next(iter(pipelines.values()))
        route = routing.route_of(task)
        if route is None:
            known = ", ".join(map(repr, routing.tasks))
            problem = (
                "no task was given, and this model has no default" if task is None else f"task {task!r} is unknown"
            )
            raise InputError(
                f"{problem}; it has {known}: name one (task=, --task), or use encode_query and encode_document"
            )
        return pipelines[route]

    def close(self) -> None:
        """Free the engines, all of them also where one fails to close."""
        with ExitStack() as stack:
            # Routes may share one.
            for engine in dict.fromkeys(pipeline.engine for pipeline in self.pipelines.values()):
                stack.callback(engine.close)


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
    additional: dict[str, dict[str | None, Pipeline]] = {}
    try:
        shared: BatchRunner | None = None
        for route, tokenizer in tokenizers.items():
            specification = manifest.tokenizers[route]
            runner = shared
            if runner is None:
                engine = open_engine(bundle, options, route, check_verifications=check_verifications)
                runner = BatchRunner(engine, specification, manifest.output_width, max_tokens_per_batch)
            if manifest.shares_graph:
                shared = runner
            pipelines[route] = Pipeline(tokenizer, specification, runner)
            for output, stated in list(runner.engine.graph.outputs.items())[1:]:
                width = int(stated.shape[-1])
                other = BatchRunner(runner.engine, specification, width, max_tokens_per_batch, output)
                additional.setdefault(output, {})[route] = Pipeline(tokenizer, specification, other)
    except BaseException:
        Routes(bundle, pipelines).close()
        raise
    return Routes(bundle, pipelines, additional)


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
        loaded = {(one.file, one.max_length): load_tokenizer(bundle, one) for one in specifications.values()}
    except MemoryError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, needed, purpose) from error
    return {route: loaded[one.file, one.max_length] for route, one in specifications.items()}


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
