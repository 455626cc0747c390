"""`monograph info`: what a bundle is and what its verification measured."""

from __future__ import annotations

import argparse
import json

from monograph.bundle import Bundle, Manifest, open_bundle
from monograph.bundle.manifest import TokenizerSpec
from monograph.bundle.sources import locate_bundle
from monograph.commands import options
from monograph.commands.quality import (
    describe_compression,
    describe_output,
    describe_reference,
    describe_verification,
    describe_vocabulary,
)

HELP = "print what a bundle is"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest, in words or as JSON."""
    bundle = open_bundle(locate_bundle(arguments.bundle))
    if arguments.json:
        print(json.dumps(bundle.manifest.to_json(), ensure_ascii=False, indent=2))
        return 0
    for label, value in _rows(bundle):
        print(f"{label:<13}{value}")
    return 0


def _rows(bundle: Bundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    rows = [
        ("task", manifest.task),
        ("source", " ".join(filter(None, (manifest.source.name, manifest.source.revision)))),
        ("license", manifest.source.license or "not stated"),
        *_result_rows(manifest),
    ]
    given = "texts" if manifest.rerank is None else "pairs"
    rows += [(given, _texts(route, tokenizer)) for route, tokenizer in manifest.tokenizers.items()]
    if manifest.routing is not None:
        tasks = ", ".join(f"{task!r} by {route}" for task, route in manifest.routing.tasks.items())
        rows.append(("tasks", f"{tasks}; without one {manifest.routing.default or 'refused'}"))
    rows.append(("prompts", ", ".join(f"{name}={text!r}" for name, text in manifest.prompts.items()) or "none"))
    if manifest.default_prompt_name:
        rows.append(("by default", f"prompt {manifest.default_prompt_name!r}"))
    for graph in manifest.graphs:
        inputs = ", ".join(graph.inputs)
        rows.append(("graph", f"{graph.file}: {graph.precision}, opset {graph.opset}, {inputs}"))
    if vocabulary := manifest.quality.get("vocabulary"):
        rows.append(("vocabulary", describe_vocabulary(vocabulary)))
    compression = manifest.quality.get("compression")
    if compression is not None:
        rows.append(("compressed", describe_compression(compression)))
    rows += [
        ("verified", describe_verification(verdict, describe_reference(manifest.quality)))
        for verdict in manifest.quality["verdicts"]
    ]
    rows += [("cannot run", f"{device}: {why}") for device, why in manifest.quality.get("not_run", {}).items()]
    rows.append(("size", f"{bundle.size_bytes / 1e6:,.1f} MB"))
    rows += [("", f"{entry.bytes / 1e6:>9,.1f} MB  {name}") for name, entry in manifest.files.items()]
    rows += [
        ("", f"  about {size / 1e6:,.1f} MB of it {name}")
        for graph in manifest.graphs
        for name, size in graph.parts.items()
    ]
    rows.append(("made by", ", ".join(f"{name} {version}" for name, version in manifest.producer.items())))
    return rows


def _result_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """Return what the vectors are, dense or sparse, or the scores."""
    if (rerank := manifest.rerank) is not None:
        named = f" ({', '.join(rerank.label_names)})" if rerank.label_names else ""
        return [("scores", f"{describe_output(manifest)}{named}, {rerank.activation} by default")]
    if (sparse := manifest.sparse) is not None:
        most = "" if sparse.max_active_dims is None else f", at most {sparse.max_active_dims} of them active"
        return [("sparse", f"{describe_output(manifest)}{most}, {sparse.similarity} similarity")]
    embedding = manifest.need_embedding()
    unit = "unit length" if embedding.normalized else "not normalised"
    rows = [("embedding", f"{describe_output(manifest)}, {unit}, {embedding.similarity} similarity")]
    if embedding.truncate_dim:
        rows.append(("truncated to", f"{embedding.truncate_dim} dimensions by default"))
    return rows


def _texts(route: str | None, tokenizer: TokenizerSpec) -> str:
    length = "no limit" if tokenizer.max_length is None else f"{tokenizer.max_length} tokens"
    by = "" if route is None else f"{route}: "
    return f"{by}{length}, vocabulary of {tokenizer.vocabulary_size:,}"
