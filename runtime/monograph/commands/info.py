"""`monograph info`: a bundle's manifest in words."""

from __future__ import annotations

import argparse
import json

from monograph.bundle import Bundle, open_bundle
from monograph.bundle.manifest import MEASUREMENTS_FILE, Graph, TokenizerSpec
from monograph.bundle.sources import locate_bundle
from monograph.commands import options
from monograph.engines import level_of
from monograph.errors import printable

HELP = "print what a bundle is"
# Characters of a value: a prompt may be a page, and an untrusted one anything.
_MAX_VALUE = 2_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest as a table or as JSON."""
    bundle = open_bundle(locate_bundle(arguments.bundle))
    if arguments.json:
        print(json.dumps(bundle.manifest.to_json(), indent=2))
        return 0
    for label, value in (*_contract_rows(bundle), *_quality_rows(bundle), *_file_rows(bundle)):
        print(f"{label:<13}{printable(value, _MAX_VALUE)}")
    return 0


def _contract_rows(bundle: Bundle) -> list[tuple[str, str]]:
    """Return the rows on the model's inputs and outputs."""
    manifest = bundle.manifest
    rows = [
        ("task", manifest.task),
        ("source", " ".join(filter(None, (manifest.source.name, manifest.source.revision)))),
        ("license", manifest.source.license or "not stated"),
        *bundle.task.describe(manifest.section),
        *((bundle.task.inputs, _describe_limits(*item)) for item in manifest.tokenizers.items()),
    ]
    if manifest.routing is not None:
        tasks = ", ".join(f"{task!r} by {route}" for task, route in manifest.routing.tasks.items())
        rows.append(("tasks", f"{tasks}; without one {manifest.routing.default or 'refused'}"))
    rows.append(("prompts", ", ".join(f"{name}={text!r}" for name, text in manifest.prompts.items()) or "none"))
    if manifest.default_prompt_name:
        rows.append(("by default", f"prompt {manifest.default_prompt_name!r}"))
    for graph in manifest.graphs:
        inputs = ", ".join(graph.inputs)
        size = f"{bundle.weights_bytes(graph) / 1e6:,.1f} MB of weights"
        rows.append(("graph", f"{graph.file}: {graph.precision}, opset {graph.opset}, {size}, {inputs}"))
    return rows


def _quality_rows(bundle: Bundle) -> list[tuple[str, str]]:
    """Return the rows on what the export decided and measured."""
    vocabulary = bundle.manifest.quality.vocabulary
    rows = [] if vocabulary is None else [("vocabulary", vocabulary.describe())]
    for number, one in enumerate(bundle.by_precision):
        if len(bundle.manifest.precisions) > 1:
            rows.append(("precision", f"{one.precision}{', the default' if number == 0 else ''}"))
        rows += _rows_of_precision(one)
    return rows


def _rows_of_precision(bundle: Bundle) -> list[tuple[str, str]]:
    quality = bundle.manifest.quality
    rows = [("quality", _describe_level(bundle))]
    if quality.compression is not None:
        rows.append(("compressed", quality.compression.describe()))
    rows += [("verified", result.describe(quality.reference_name)) for result in quality.verifications]
    if not quality.verifications:
        rows.append(("measured", f"unknown, {MEASUREMENTS_FILE} is missing; `monograph verify` measures anew"))
    return rows + [("cannot run", f"{device}: {reason}") for device, reason in quality.not_run.items()]


def _describe_level(bundle: Bundle) -> str:
    """Return the quality level of a bundle of one precision, with the stated loss that it follows from."""
    level, compression = level_of(bundle), bundle.manifest.quality.compression
    if compression is None:
        return f"{level}: {'not compressed' if level == 'lossless' else 'the loss of the ONNX file is not known'}"
    stated = "measured" if compression.agreement is not None else "limits of the export"
    bounds = bundle.task.loss_bounds.values()
    figures = dict.fromkeys(bound.figure for group in bounds for bound in group)
    losses = [
        f"{name.replace('_', ' ')} {compression.figures[name]:.4f}" for name in figures if name in compression.figures
    ]
    return f"{level}: {', '.join(losses)} ({stated})"


def _file_rows(bundle: Bundle) -> list[tuple[str, str]]:
    """Return the rows on sizes and the producer."""
    manifest = bundle.manifest
    rows = [("size", f"{bundle.size_bytes / 1e6:,.1f} MB")]
    rows += [("", f"{entry.bytes / 1e6:>9,.1f} MB  {name}") for name, entry in manifest.files.items()]
    rows += [
        ("", f"  of which about {size / 1e6:,.1f} MB: {name}{_at_precision(bundle, graph)}")
        for graph in manifest.graphs
        for name, size in graph.parts.items()
        if size
    ]
    return [*rows, ("made by", ", ".join(f"{name} {version}" for name, version in manifest.producer.items()))]


def _at_precision(bundle: Bundle, graph: Graph) -> str:
    return f" at {graph.precision}" if len(bundle.manifest.precisions) > 1 else ""


def _describe_limits(route: str | None, tokenizer: TokenizerSpec) -> str:
    length = "no limit" if tokenizer.max_length is None else f"{tokenizer.max_length} tokens"
    prefix = "" if route is None else f"{route}: "
    return f"{prefix}{length}, vocabulary of {tokenizer.vocabulary_size:,}"
