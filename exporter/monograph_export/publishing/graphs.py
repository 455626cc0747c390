"""The graphs of a published repository: those of bundles, with the vectors of all tokens as an additional output.

Weights and computation are the bundle's. What is written is run as other software runs it, in a session with the
default settings, and verified: ``sentence_embedding`` by the bundle's probes, ``last_hidden_state`` by the modules of
Sentence Transformers that follow the encoder, which must make the same sentence embedding of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from monograph.batching import pad_batch
from monograph.bundle import Bundle, Probes, read_probes
from monograph.bundle.manifest import Graph
from monograph.cpu import available_cpus
from monograph.engines.onnxruntime import import_onnxruntime
from monograph.errors import ExportError, ParityError, first_line
from monograph.inference.routes import load_tokenizer
from monograph.progress import BYTES, Progress
from monograph.similarity import similarity_pairwise
from monograph.tasks.base import FLOAT32_TOLERANCE
from monograph_export.graph.token_output import name_token_output, token_values, with_outputs
from monograph_export.publishing.encoder import Encoder
from monograph_export.publishing.layout import FOLDER, GRAPH_FILES

TOKEN_OUTPUT, SENTENCE_OUTPUT = "last_hidden_state", "sentence_embedding"
# A protobuf message has at most 2 GiB. Below that a graph has its weights within: one file to download.
_MAX_INLINE_BYTES = 1_900_000_000
# The last values of a graph that are tried; a few follow the last layer.
_CANDIDATES = 16
_BATCH_ROWS, _BATCH_TOKENS = 8, 16_384
_SHORT_TOKENS = 128
_MASK = "attention_mask"
# The tolerances that a bundle's reader has (docs/reference/bundle-format.md); default sessions may round int8 weights.
_MIN_COSINE = {"fp16": 0.999, "int8": 0.99, "int8-weights": 0.99}


@dataclass(frozen=True)
class PublishedGraph:
    """A graph that was written and verified.

    Attributes:
        file: Its name in the folder ``onnx``.
        precision: That of the bundle.
        external_data: Whether its weights are a file of their own.
        probes: How many texts it was run on.
        max_abs_difference: The largest difference of ``sentence_embedding`` to the probes' reference.
        worst_cosine: The smallest cosine to that reference.
        pooling_difference: The largest difference of ``sentence_embedding`` to what Sentence Transformers' modules make
            of ``last_hidden_state``.

    """

    file: str
    precision: str
    external_data: bool
    probes: int
    max_abs_difference: float
    worst_cosine: float
    pooling_difference: float


def write_graph(bundle: Bundle, encoder: Encoder, folder: Path, progress: Progress) -> PublishedGraph:
    """Write the graph of a bundle of one precision into ``folder``, with both outputs, and verify it.

    Raises:
        ExportError: no value of the graph is the vectors of all tokens, or ONNX Runtime cannot run it.
        ParityError: an output differs from its reference.

    """
    [graph] = (graph for graph in bundle.manifest.graphs if "cpu" in graph.devices)
    file = GRAPH_FILES[graph.precision]
    model = ir.load(bundle.path / graph.file)
    external = _place_weights(model, folder, file, progress)
    runner = _Runner(bundle, graph)
    [probes, *_] = read_probes(bundle.path, bundle.manifest.output_width, bundle.probes_file)
    tokens = _find_tokens(model, runner, encoder, probes, folder)
    sentence = model.graph.outputs[0]
    model = with_outputs(model, [tokens, sentence])
    name_token_output(model.graph.outputs[0], TOKEN_OUTPUT)
    ir.save(model, folder / file)
    with progress.step(f"Verifying {FOLDER}/{file}", len(probes.texts), "texts") as step:
        verification = _Verification(encoder, exact=_is_exact(bundle))
        for rows, inputs, outputs in runner.outputs(folder / file, probes, [TOKEN_OUTPUT, SENTENCE_OUTPUT]):
            verification.add(inputs, outputs[0], outputs[1], probes.vectors[rows])
            step.advance(len(rows))
    return verification.result(file, graph.precision, external_data=external)


def _place_weights(model: ir.Model, folder: Path, file: str, progress: Progress) -> bool:
    """Move a graph's weights beside it, or into it; return whether they are beside it."""
    values = [value for value in model.graph.initializers.values() if isinstance(value.const_value, ir.ExternalTensor)]
    tensors = [value.const_value for value in values if value.const_value is not None]
    size = sum(tensor.nbytes for tensor in tensors)
    if file != GRAPH_FILES["fp32"] and size <= _MAX_INLINE_BYTES:
        ir.external_data.load_to_model(model)
        return False
    # The bundle's own order, so that the file is the bundle's where that has one graph.
    tensors.sort(key=lambda tensor: tensor.offset or 0 if isinstance(tensor, ir.ExternalTensor) else 0)
    with progress.step(f"Writing {FOLDER}/{file}_data", size, BYTES) as step:
        stored = ir.external_data.convert_tensors_to_external(
            tensors, folder, f"{file}_data", callback=lambda tensor, _: step.advance(tensor.nbytes)
        )
    places = {str(tensor.name): tensor for tensor in stored}
    for value in values:
        value.const_value = places[str(value.name)]
    return True


def _find_tokens(model: ir.Model, runner: _Runner, encoder: Encoder, probes: Probes, folder: Path) -> ir.Value:
    """Return the first value of a graph that the modules after the encoder make the graph's own output of."""
    sentence = model.graph.outputs[0]
    candidates = token_values(model, encoder.width)[-_CANDIDATES:]
    tried = with_outputs(model, [*candidates, sentence])
    for number, output in enumerate(list(tried.graph.outputs)[:-1]):
        name_token_output(output, f"candidate_{number}")
    path = folder / "candidates.onnx"
    ir.save(tried, path)
    names = [str(output.name) for output in tried.graph.outputs]
    short = [row for row, count in enumerate(probes.token_counts) if 0 < count <= _SHORT_TOKENS]
    rows = short[:_BATCH_ROWS]
    counts = tuple(probes.token_counts[row] for row in rows)
    some = Probes(tuple(probes.texts[row] for row in rows), counts, probes.vectors[rows])
    [(_, inputs, (*values, expected))] = runner.outputs(path, some, names)
    path.unlink()
    for candidate, value in zip(candidates, values, strict=True):
        if _difference(encoder.pooled(value, inputs[_MASK]), expected) <= _allowed(expected):
            return candidate
    raise ExportError(
        f"{runner.bundle.path}: no value of {runner.graph.file} gives the sentence embedding by the modules of the "
        "checkpoint: give the --checkpoint that the bundle was exported from"
    )


@dataclass(frozen=True)
class _Runner:
    """Runs ONNX files with the inputs of a bundle's graph."""

    bundle: Bundle
    graph: Graph

    def outputs(
        self, path: Path, probes: Probes, names: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.intp], Mapping[str, NDArray[np.int64]], Sequence[NDArray[np.float32]]]]:
        """Yield the rows of each batch (intp [b]), its inputs and attention mask (int64 [b, s]), and its outputs."""
        session = _session(path)
        specification = self.bundle.manifest.tokenizer
        tokens = load_tokenizer(self.bundle, specification)(probes.texts)
        for rows in _batches(tokens.lengths):
            inputs = pad_batch(tokens, rows, {*self.graph.inputs, _MASK}, specification.pad_id).inputs
            feed = {name: inputs[name] for name in self.graph.inputs}
            yield rows, inputs, _run(session, path, names, feed)


def _batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of batches of neighbours, whose lengths differ; long texts are alone."""
    for start in range(0, len(lengths), _BATCH_ROWS):
        rows = np.arange(start, min(start + _BATCH_ROWS, len(lengths)))
        if lengths[rows].max() * len(rows) <= _BATCH_TOKENS:
            yield rows
        else:
            yield from rows[:, np.newaxis]


def _session(path: Path) -> Any:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load {path.name}: {first_line(error)}") from error


def _run(session: Any, path: Path, names: Sequence[str], feed: Mapping[str, Any]) -> Sequence[NDArray[np.float32]]:
    try:
        outputs: Sequence[NDArray[np.float32]] = session.run(list(names), dict(feed))
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot run {path.name}: {first_line(error)}") from error
    return outputs


class _Verification:
    """Collects the differences of a graph's outputs from their references."""

    def __init__(self, encoder: Encoder, *, exact: bool) -> None:
        self._encoder = encoder
        self._exact = exact
        self._sentences: list[NDArray[np.float32]] = []
        self._references: list[NDArray[np.float32]] = []
        self._pooling = self._tokens = 0.0
        self._largest = 1.0

    def add(
        self,
        inputs: Mapping[str, NDArray[np.int64]],
        tokens: NDArray[np.float32],
        sentences: NDArray[np.float32],
        reference: NDArray[np.float32],
    ) -> None:
        """Compare the outputs for a batch, float32 [b, s, hidden] and [b, d], with torch and the probes' [b, d]."""
        self._sentences.append(sentences)
        self._references.append(reference)
        mask = inputs[_MASK]
        if self._exact:
            read = mask.astype(bool)
            expected = self._encoder.tokens(inputs)[read]
            self._tokens = max(self._tokens, _difference(tokens[read], expected))
            self._largest = max(self._largest, float(np.abs(expected).max(initial=0.0)))
        # Some poolings have no vector for a text without tokens.
        rows = mask.any(axis=1)
        if rows.any():
            pooled = self._encoder.pooled(tokens[rows], mask[rows])
            self._pooling = max(self._pooling, _difference(pooled, sentences[rows]))

    def result(self, file: str, precision: str, *, external_data: bool) -> PublishedGraph:
        """Return the graph with all differences.

        Raises:
            ParityError: one is too large.

        """
        sentences, references = np.concatenate(self._sentences), np.concatenate(self._references)
        allowed, difference = _allowed(references), _difference(sentences, references)
        cosine = float(similarity_pairwise("cosine", sentences, references).min())
        failures = []
        if not self._pooling <= allowed:
            failures.append(f"{TOKEN_OUTPUT} pooled differs from {SENTENCE_OUTPUT} by {self._pooling:.1e}")
        if not self._tokens <= FLOAT32_TOLERANCE * self._largest:
            failures.append(f"{TOKEN_OUTPUT} differs from torch's by {self._tokens:.1e}")
        if precision in _MIN_COSINE:
            if not cosine >= _MIN_COSINE[precision]:
                failures.append(f"{SENTENCE_OUTPUT} has a cosine of {cosine:.4f} to the bundle's reference")
        elif not difference <= allowed:
            failures.append(f"{SENTENCE_OUTPUT} differs from the bundle's reference by {difference:.1e}")
        if failures:
            raise ParityError(f"{FOLDER}/{file} in a default session of ONNX Runtime: {', '.join(failures)}")
        return PublishedGraph(file, precision, external_data, len(sentences), difference, cosine, self._pooling)


def _is_exact(bundle: Bundle) -> bool:
    quality = bundle.manifest.quality
    return quality.compression is None and quality.vocabulary is None


def _allowed(reference: NDArray[np.float32]) -> float:
    return FLOAT32_TOLERANCE * max(1.0, float(np.abs(reference).max(initial=0.0)))


def _difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.abs(first - second).max(initial=0.0))
