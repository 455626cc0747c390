"""Read a manifest from JSON values, noting every problem: fields of the wrong type, and fields that disagree."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from monograph.bundle.manifest import (
    FORMAT_VERSION,
    GRAPH_INPUTS,
    GRAPH_SUFFIX,
    OP_DOMAINS,
    PROBES_FILE,
    WEIGHTS_SUFFIX,
    Graph,
    Manifest,
    Routing,
    TokenizerSpec,
)
from monograph.fields import Fields
from monograph.quality import read_further_precisions, read_quality
from monograph.tasks import Task, task_named, task_names

_MAX_INT32 = 2**31 - 1
_MAX_FILE_BYTES = 2**63 - 1
# Every route is opened with the model; published ones have two.
_MAX_ROUTES = 8
# A row is made whole; the widest, of sparse encoders, have 250,002 columns.
_MAX_WIDTH = 2**20
# Tokens that a text is filled up to; published models have 32 to 512.
_MAX_EXPANSION = 32_768
# Batch, sequence and dimension.
_TOKEN_AXES = 3


def read_manifest(value: object) -> tuple[Manifest, list[str]]:
    """Turn parsed JSON into a manifest.

    Returns the manifest and every problem found; it is usable only where there is none. A field that is
    missing or of the wrong type holds an empty value.
    """
    problems: list[str] = []
    top = Fields(value, "", problems)
    version = top.need("format_version", int)
    known_version = bool(problems) or version == FORMAT_VERSION
    name = top.need("task", str)
    task = task_named(name)
    agreement_type = None if task is None else task.agreement_type
    manifest = top.read(
        Manifest,
        format_version=version,
        task=name,
        section=_read_section(top, task),
        quality=read_quality(top, agreement_type),
        further_precisions=read_further_precisions(top, agreement_type),
    )
    well_formed = not problems
    if not known_version:
        # Another version may shape its fields differently, so their shape says nothing.
        problems = [_unknown_version(version)]
    if well_formed:
        problems.extend(_inconsistencies(manifest, task))
    return manifest, problems


def _unknown_version(version: int) -> str:
    advice = "upgrade monograph" if version > FORMAT_VERSION else "export the model again"
    return f"format_version {version} is not known to this release, which reads {FORMAT_VERSION}: {advice}"


def _read_section(top: Fields, task: Task[Any] | None) -> object:
    """Return the section of the task; note where it is missing, and where that of another task is there."""
    if task is None:
        return None
    for name in task_names():
        if name != task.name and top.has(name):
            top.problems.append(f"{name} is there, and the task is {task.name!r}")
    if top.has(task.name):
        return top.child(task.name).read(task.section_type)
    top.problems.append(f"{task.name} is missing")
    return None


def _inconsistencies(manifest: Manifest, task: Task[Any] | None) -> Iterator[str]:
    """Yield what is wrong between fields that are each well formed."""
    if task is None:
        yield f"task {manifest.task!r} is not one of {', '.join(task_names())}"
    else:
        yield from (f"{task.name}.{problem}" for problem in task.section_problems(manifest.section))
        if manifest.output_width > _MAX_WIDTH:
            yield f"{task.name}.{task.width_field} must be at most {_MAX_WIDTH:,}"
    yield from _tokenizer_problems("tokenizer", manifest.tokenizer)
    name = manifest.default_prompt_name
    if name is not None and name not in manifest.prompts:
        yield f"default_prompt_name {name!r} is not among prompts"
    if not manifest.graphs:
        yield "graphs is empty"
    for position, graph in enumerate(manifest.graphs):
        yield from (f"graphs[{position}].{problem}" for problem in _graph_problems(graph, manifest, task))
    yield from _precision_problems(manifest)
    yield from _routing_problems(manifest, task)
    yield from _unlisted_files(manifest)


def _precision_problems(manifest: Manifest) -> Iterator[str]:
    """Yield precisions after the first without probes and quality of their own, and these without a graph."""
    graphs, described = set(manifest.precisions[1:]), set(manifest.further_precisions)
    for precision in sorted(graphs - described):
        yield f"graphs have the precision {precision!r}, which further_precisions does not have"
    for precision in sorted(described - graphs):
        yield f"further_precisions has {precision!r}, which is not the precision of a graph after the first"


def _routing_problems(manifest: Manifest, task: Task[Any] | None) -> Iterator[str]:
    """Yield where tokenizers, tasks and graphs are not of the same routes."""
    if manifest.routing is not None:
        if task is not None and not task.has_routes:
            yield f"routing is there, and the task is {task.name!r}"
        yield from _problems_within_routing(manifest.routing)
        yield from _problems_with_first_graph(manifest, manifest.routing, task)
    graph_routes, tokenizer_routes = {graph.route for graph in manifest.graphs}, set(manifest.tokenizers)
    if task is not None and task.per_token and graph_routes == {None}:
        # One graph for all routes.
        return
    if graph_routes and tokenizer_routes and graph_routes != tokenizer_routes:
        yield f"graphs are of the routes {_quote(graph_routes)}, and tokenizers of {_quote(tokenizer_routes)}"


def _problems_within_routing(routing: Routing) -> Iterator[str]:
    for route, tokenizer in routing.tokenizers.items():
        yield from _tokenizer_problems(f"routing.tokenizers.{route}", tokenizer)
    if not 1 <= len(routing.tokenizers) <= _MAX_ROUTES:
        yield f"routing.tokenizers must have 1 to {_MAX_ROUTES} routes"
    for route in dict.fromkeys([*routing.tasks.values(), *([] if routing.default is None else [routing.default])]):
        if route not in routing.tokenizers:
            yield f"routing has the unknown route {route!r}"


def _problems_with_first_graph(manifest: Manifest, routing: Routing, task: Task[Any] | None) -> Iterator[str]:
    if task is not None and task.per_token and manifest.shares_graph:
        route = next(iter(routing.tokenizers), "") if routing.default is None else routing.default
        if routing.tokenizers.get(route) != manifest.tokenizer:
            yield f"tokenizer is not that of the route {route!r}"
        return
    for first in manifest.graphs[:1]:
        if routing.default not in (None, first.route):
            yield f"routing.default {routing.default!r} is not the route of the first graph, {first.route!r}"
        if routing.tokenizers.get(first.route or "") != manifest.tokenizer:
            yield "tokenizer is not that of the first graph's route"
    if len({graph.precision for graph in manifest.graphs}) > 1:
        yield "the graphs of the routes are of different precisions"


def _quote(routes: Collection[str | None]) -> str:
    return ", ".join(sorted("none" if route is None else repr(route) for route in routes))


def _graph_problems(graph: Graph, manifest: Manifest, task: Task[Any] | None) -> Iterator[str]:
    if unknown := sorted(set(graph.op_domains) - set(OP_DOMAINS)):
        yield f"op_domains has the unknown {', '.join(unknown)}"
    if "input_ids" not in graph.inputs:
        yield "inputs must have input_ids"
    if foreign := sorted(set(graph.inputs) - set(GRAPH_INPUTS)):
        yield f"inputs may have {', '.join(GRAPH_INPUTS)}, not {', '.join(foreign)}"
    if graph.max_batch_size is not None and graph.max_batch_size < 1:
        yield "max_batch_size must be at least 1"
    if any(not 0 <= size <= _MAX_FILE_BYTES for size in graph.parts.values()):
        yield "parts has a size that no file has"
    if not 0 <= (graph.weights_bytes or 0) <= _MAX_FILE_BYTES:
        yield "weights_bytes is not a size of weights"
    yield from _output_problems(graph, manifest, task)


def _output_problems(graph: Graph, manifest: Manifest, task: Task[Any] | None) -> Iterator[str]:
    additional = () if task is None else task.additional_outputs
    unknown = set(list(graph.outputs)[1:]) - set(additional)
    if not graph.outputs or unknown:
        yield f"outputs must name one output{''.join(f', and may name {name}' for name in additional)}"
    width = manifest.output_width
    stated = "" if task is None else f"{task.name}.{task.width_field}"
    for name, output in graph.outputs.items():
        if task is not None and name in additional and name != next(iter(graph.outputs)):
            if len(output.shape) != _TOKEN_AXES or not isinstance(output.shape[-1], int):
                yield f"outputs.{name} has the shape {list(output.shape)} instead of batch, sequence and a number"
                continue
            due = task.additional_width(manifest.section, name)
            if due not in (None, output.shape[-1]):
                yield f"outputs.{name} has {output.shape[-1]} columns, and by {task.name} it has {due or 'none'}"
        elif width and output.shape[-1:] != (width,):
            yield f"outputs.{name} has the shape {list(output.shape)}, and {stated} is {width}"
        elif task is not None and task.per_token and len(output.shape) != _TOKEN_AXES:
            yield f"outputs.{name} has the shape {list(output.shape)}, and {task.name} has one of {_TOKEN_AXES} axes"


def _tokenizer_problems(name: str, tokenizer: TokenizerSpec) -> Iterator[str]:
    if tokenizer.padding_side != "right":
        yield f"{name}.padding_side {tokenizer.padding_side!r} is not 'right'"
    size = tokenizer.vocabulary_size
    if size > _MAX_INT32:
        yield f"{name}.vocabulary_size is not a size of a vocabulary"
        return
    for key, value in {"max_length": tokenizer.max_length, "vocabulary_size": size}.items():
        if value is not None and value < 1:
            yield f"{name}.{key} must be at least 1"
    if tokenizer.min_length not in (0, 1):
        yield f"{name}.min_length must be 0 or 1"
    if not 0 <= tokenizer.pad_id < max(1, size):
        yield f"{name}.pad_id must be at least 0 and below vocabulary_size"
    expansion = tokenizer.expansion
    by_key = {
        "special_ids": tokenizer.special_ids,
        "skipped_ids": tokenizer.skipped_ids,
        "expansion.id": () if expansion is None else (expansion.id,),
    }
    for key, ids in by_key.items():
        if not all(0 <= one < max(1, size) for one in ids):
            yield f"{name}.{key} must be at least 0 and below vocabulary_size"
    if expansion is not None and not 1 <= expansion.length <= _MAX_EXPANSION:
        yield f"{name}.expansion.length must be 1 to {_MAX_EXPANSION:,}"


def _unlisted_files(manifest: Manifest) -> Iterator[str]:
    files: Mapping[str, object] = manifest.files
    tokenizers = {manifest.tokenizer.file, *(tokenizer.file for tokenizer in manifest.tokenizers.values())}
    probes = sorted({entry.probes for entry in manifest.further_precisions.values()})
    for name in (*(graph.file for graph in manifest.graphs), *sorted(tokenizers), PROBES_FILE, *probes):
        if name not in files:
            yield f"{name} is used but not listed in files"
    for name in sorted({graph.file for graph in manifest.graphs}):
        # By other names engines take a file for another format, or its hash is not compared.
        if not name.endswith(GRAPH_SUFFIX):
            yield f"the graph {name!r} is not named *{GRAPH_SUFFIX}"
    for name in sorted(tokenizers):
        if name.endswith(WEIGHTS_SUFFIX):
            yield f"the tokenizer {name!r} is named as weights are"
    for name in probes:
        if name.endswith(WEIGHTS_SUFFIX):
            yield f"the probes {name!r} are named as weights are"
    # By suffix, for variants of a graph may share one file of weights.
    if not any(name.endswith(WEIGHTS_SUFFIX) for name in files):
        yield f"files lists no weights (*{WEIGHTS_SUFFIX})"
