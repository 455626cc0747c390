"""What is wrong between fields of a manifest that are each well formed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from monograph.bundle.manifest import (
    ACTIVATIONS,
    GRAPH_INPUTS,
    OP_DOMAINS,
    PROBES_FILE,
    SIMILARITIES,
    TASKS,
    WEIGHTS_SUFFIX,
    FileEntry,
    Graph,
    Manifest,
    TokenizerSpec,
)

_LARGEST_INT32 = 2**31 - 1


def inconsistencies(manifest: Manifest) -> list[str]:
    """Return what is wrong between fields that are each well formed."""
    found: list[str] = []
    if manifest.task not in TASKS:
        found.append(f"task {manifest.task!r} is not one of {', '.join(TASKS)}")
    found.extend(_section_problems(manifest))
    found.extend(_number_problems(manifest))
    name = manifest.default_prompt_name
    if name is not None and name not in manifest.prompts:
        found.append(f"default_prompt_name {name!r} is not among prompts")
    if not manifest.graphs:
        found.append("graphs is empty")
    for position, graph in enumerate(manifest.graphs):
        found.extend(f"graphs[{position}].{problem}" for problem in _graph_problems(graph, manifest))
    found.extend(_routing_problems(manifest))
    found.extend(_unlisted(manifest.files, manifest))
    return found


def _section_problems(manifest: Manifest) -> list[str]:
    """Return where the section of the task is missing or wrong, or that of another task is there."""
    found = []
    for task, section in _sections(manifest).items():
        if section is None and task == manifest.task:
            found.append(f"{task} is missing")
        elif section is not None and task != manifest.task and manifest.task in TASKS:
            found.append(f"{task} is there, and the task is {manifest.task!r}")
    rerank = manifest.rerank
    found.extend(
        f"{task}.similarity {vectors.similarity!r} is not one of {', '.join(SIMILARITIES)}"
        for task, vectors in (("embedding", manifest.embedding), ("sparse", manifest.sparse))
        if vectors is not None and vectors.similarity not in SIMILARITIES
    )
    if rerank is not None and rerank.activation not in ACTIVATIONS:
        found.append(f"rerank.activation {rerank.activation!r} is not one of {', '.join(ACTIVATIONS)}")
    if rerank is not None and len(rerank.label_names) not in (0, rerank.num_labels):
        found.append(f"rerank.label_names has {len(rerank.label_names)} names for {rerank.num_labels} labels")
    if rerank is not None and manifest.routing is not None:
        found.append("routing is there, and the task is 'rerank'")
    return found


def _sections(manifest: Manifest) -> dict[str, object | None]:
    """Return the section of each task."""
    return {"embedding": manifest.embedding, "rerank": manifest.rerank, "sparse": manifest.sparse}


def _routing_problems(manifest: Manifest) -> list[str]:
    """Return where tokenizers, tasks and graphs are not of the same routes."""
    found = []
    routes = set(manifest.tokenizers)
    routing = manifest.routing
    if routing is not None:
        if not routes:
            found.append("routing.tokenizers is empty")
        named = [*routing.tasks.values(), *([] if routing.default is None else [routing.default])]
        found.extend(
            f"routing has the unknown route {route!r}" for route in dict.fromkeys(named) if route not in routes
        )
        first = next(iter(manifest.graphs), None)
        if first is not None and routing.default not in (None, first.route):
            found.append(f"routing.default {routing.default!r} is not the route of the first graph, {first.route!r}")
        if first is not None and routing.tokenizers.get(first.route or "") != manifest.tokenizer:
            found.append("tokenizer is not that of the first graph's route")
    if len({graph.precision for graph in manifest.graphs}) > 1 and routing is not None:
        found.append("the graphs of the routes are of different precisions")
    of_graphs = {graph.route for graph in manifest.graphs}
    if of_graphs and routes and of_graphs != routes:
        found.append(f"graphs are of the routes {_listed(of_graphs)}, and tokenizers of {_listed(routes)}")
    return found


def _listed(routes: Collection[str | None]) -> str:
    return ", ".join(sorted("none" if route is None else repr(route) for route in routes))


def _graph_problems(graph: Graph, manifest: Manifest) -> list[str]:
    found = []
    unknown = sorted(set(graph.op_domains) - set(OP_DOMAINS))
    if unknown:
        found.append(f"op_domains has the unknown {', '.join(unknown)}")
    foreign = sorted(set(graph.inputs) - set(GRAPH_INPUTS))
    if foreign or "input_ids" not in graph.inputs:
        found.append(f"inputs must have input_ids and may have {', '.join(GRAPH_INPUTS[1:])}, not {', '.join(foreign)}")
    if graph.max_batch_size is not None and graph.max_batch_size < 1:
        found.append("max_batch_size must be at least 1")
    if len(graph.outputs) != 1:
        found.append("outputs must name one output")
    width = manifest.output_width
    stated = "rerank.num_labels" if manifest.task == "rerank" else f"{manifest.task}.dimension"
    found.extend(
        f"outputs.{name} has the shape {list(output.shape)}, and {stated} is {width}"
        for name, output in graph.outputs.items()
        if width and output.shape[-1:] != (width,)
    )
    return found


def _number_problems(manifest: Manifest) -> list[str]:
    embedding, rerank, sparse = manifest.embedding, manifest.rerank, manifest.sparse
    least_one = {
        "embedding.dimension": None if embedding is None else embedding.dimension,
        "embedding.truncate_dim": None if embedding is None else embedding.truncate_dim,
        "rerank.num_labels": None if rerank is None else rerank.num_labels,
        "sparse.dimension": None if sparse is None else sparse.dimension,
        "sparse.max_active_dims": None if sparse is None else sparse.max_active_dims,
    }
    found = [f"{name} must be at least 1" for name, value in least_one.items() if value is not None and value < 1]
    found.extend(_tokenizer_problems("tokenizer", manifest.tokenizer))
    for name, tokenizer in () if manifest.routing is None else manifest.routing.tokenizers.items():
        found.extend(_tokenizer_problems(f"routing.tokenizers.{name}", tokenizer))
    return found


def _tokenizer_problems(name: str, tokenizer: TokenizerSpec) -> list[str]:
    found = []
    if tokenizer.padding_side != "right":
        found.append(f"{name}.padding_side {tokenizer.padding_side!r} is not 'right'")
    if tokenizer.vocabulary_size > _LARGEST_INT32:
        return [*found, f"{name}.vocabulary_size is not a size of a vocabulary"]
    least_one = {"max_length": tokenizer.max_length, "vocabulary_size": tokenizer.vocabulary_size}
    found += [f"{name}.{key} must be at least 1" for key, value in least_one.items() if value is not None and value < 1]
    if not 0 <= tokenizer.pad_id < max(1, tokenizer.vocabulary_size):
        found.append(f"{name}.pad_id must be at least 0 and below vocabulary_size")
    if not all(0 <= one < max(1, tokenizer.vocabulary_size) for one in tokenizer.special_ids):
        found.append(f"{name}.special_ids must be at least 0 and below vocabulary_size")
    return found


def _unlisted(files: Mapping[str, FileEntry], manifest: Manifest) -> list[str]:
    tokenizers = {manifest.tokenizer.file, *(tokenizer.file for tokenizer in manifest.tokenizers.values())}
    named = [*(graph.file for graph in manifest.graphs), *sorted(tokenizers), PROBES_FILE]
    found = [f"{name} is used but not listed in files" for name in named if name not in files]
    # By ending, for variants of a graph may share one file of weights.
    if not any(name.endswith(WEIGHTS_SUFFIX) for name in files):
        found.append(f"files lists no weights (*{WEIGHTS_SUFFIX})")
    return found
