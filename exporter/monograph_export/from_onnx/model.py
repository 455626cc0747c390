"""A model whose encoder is an ONNX file: its modules are appended to that graph, without torch.

The reference is the file itself, run by ONNX Runtime, with the modules in NumPy.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monograph.bundle import Probes
from monograph.bundle.files import sha256_of
from monograph.bundle.manifest import Graph, Source
from monograph.errors import ExportError
from monograph.fields import Fields
from monograph.progress import Progress
from monograph.similarity import SIMILARITIES
from monograph.tasks.embedding import EMBEDDING, EmbeddingSection
from monograph_export.checkpoint.checkpoint import SETTINGS_FILE, Checkpoint, read_optional_object
from monograph_export.checkpoint.max_length import describe_truncation
from monograph_export.checkpoint.rust_tokenizer import read_written
from monograph_export.from_onnx.encoder import Encoder, open_encoder, table_of
from monograph_export.from_onnx.graph import append_modules
from monograph_export.from_onnx.head import read_head
from monograph_export.from_onnx.reference import FileRunner, check_modules, longest_text, make_probes
from monograph_export.from_onnx.tokenizer import CheckpointTokenizer, read_tokenizer
from monograph_export.graph.store import BuiltGraph
from monograph_export.model import ExportRequest, LoadedModel, Tokenizers
from monograph_export.probe_texts import chosen_tokens, probe_texts, usable_inputs
from monograph_export.tasks.base import check_varied

logger = logging.getLogger(__name__)
# ONNX Runtime's CPU computes float16 at float32, and rounds the vectors of tokens only where they are an output.
_ROUNDING_OF_OUTPUT = {"fp16": 1e-3}
# Prompts that every model has.
_PROMPT_NAMES = ("query", "document")


def load_onnx_model(checkpoint: Checkpoint, encoder_file: Path, request: ExportRequest) -> OnnxModel:
    """Open an encoder's ONNX file, and read the rest of its checkpoint.

    Raises:
        ExportError: the file has operators, inputs or outputs that no bundle can have, or a file of the checkpoint
            cannot be read.
        UnsupportedModuleError: naming a module or setting that cannot be appended.

    """
    request.task.check_checkpoint(checkpoint)
    return OnnxModel(checkpoint, encoder_file)


class OnnxModel(LoadedModel):
    """An encoder's ONNX file, and the rest of its checkpoint."""

    packages = ("onnxruntime", "onnx-ir", "numpy", "tokenizers")

    def __init__(self, checkpoint: Checkpoint, encoder_file: Path) -> None:
        self._head = read_head(checkpoint)
        self._encoder = open_encoder(encoder_file)
        self._settings = _read_settings(checkpoint)
        self._tokenizer = self._limited(read_tokenizer(self._head.transformer, self._head.transformer_settings))
        self.prompts: Mapping[str, str] = self._settings.prompts
        self.default_prompt_name = self._settings.default_prompt_name
        self.encoder_file = encoder_file.name
        self.source = _source_of(checkpoint, self._encoder)

    def _limited(self, tokenizer: CheckpointTokenizer) -> CheckpointTokenizer:
        """Lower the maximum length to what the encoder has positions for, with a warning."""
        positions = read_optional_object(self._head.transformer / "config.json").get("max_position_embeddings")
        positions = positions if type(positions) is int and positions > 0 else None
        limit = tokenizer.max_length
        longest = longest_text(self._encoder, limit, positions)
        if longest is None:
            return tokenizer
        logger.warning("%s", describe_truncation(self._head.transformer, limit, longest, EMBEDDING.inputs))
        return replace(tokenizer, max_length=longest)

    def store_tokenizers(self, folder: Path) -> Tokenizers:
        """Write the tokenizer."""
        table = table_of(self._encoder)
        rows = None if table is None else int(table.shape.numpy()[0])
        return {None: self._tokenizer.store(folder, rows)}

    def describe_outputs(self) -> EmbeddingSection:
        """Return the task's section of the manifest."""
        head, settings = self._head, self._settings
        return EmbeddingSection(head.width, head.normalized, settings.similarity, (), settings.truncate_dim)

    def describe_reference(self, compressed: object) -> str:  # noqa: ARG002
        """Return in words what the outputs of ``make_probes`` are."""
        return (
            f"ONNX Runtime {importlib.metadata.version('onnxruntime')} running the encoder's file {self.encoder_file}, "
            "each text alone, then pooling and what follows it in NumPy at float64"
        )

    def make_probes(self, folder: Path, tokenizers: Tokenizers, progress: Progress) -> list[Probes]:
        """Return the texts that the bundle is verified with, and what the file and NumPy give for them."""
        specification, runner = tokenizers[None], _runner(folder, tokenizers)
        spelled = [
            token
            for token in chosen_tokens(self._tokenizer.tokenizer, ())
            if usable_inputs(runner.tokenizer, specification, [token])
        ]
        texts = probe_texts(self._tokenizer.tokenizer, specification.max_length, spelled)
        usable = usable_inputs(runner.tokenizer, specification, texts)
        with progress.step("Computing the reference", len(usable), "texts") as step:
            probes = make_probes(self._encoder, self._head, runner, usable, step.advance)
        check_varied(probes.vectors, "texts")
        return [probes]

    def build_graphs(self, precision: str, progress: Progress) -> Mapping[str | None, BuiltGraph]:
        """Append the modules to the encoder's graph, whose precision is the file's."""
        # Read before the graph is changed.
        precision, max_batch_size = self._encoder.precision, self._encoder.max_batch_size
        with progress.step("Appending the modules"):
            parts = append_modules(self._encoder, self._head)
        return {None: BuiltGraph(self._encoder.model, precision, parts, max_batch_size)}

    def check_graphs(
        self,
        folder: Path,
        tokenizers: Tokenizers,
        graphs: Sequence[Graph],
        probes: Sequence[Probes],
        tolerance: float,
        progress: Progress,
    ) -> None:
        """Compare a graph that rounds by itself with the reference, run alike."""
        for graph in graphs:
            if graph.precision != "fp32":
                allowed = max(tolerance, _ROUNDING_OF_OUTPUT.get(graph.precision, 0))
                with progress.step("Comparing the graph with the file", len(probes[0].texts), "texts") as step:
                    runner = _runner(folder, tokenizers)
                    check_modules(folder / graph.file, runner, probes[0], allowed, step.advance)


def _runner(folder: Path, tokenizers: Tokenizers) -> FileRunner:
    tokenizer = tokenizers[None]
    return FileRunner(read_written(folder / tokenizer.file), tokenizer.pad_id)


@dataclass(frozen=True)
class _ModelSettings:
    """Prompts by name, which of them is the default, the similarity function and the default truncation."""

    prompts: dict[str, str]
    default_prompt_name: str | None
    similarity: str
    truncate_dim: int | None


def _read_settings(checkpoint: Checkpoint) -> _ModelSettings:
    """Return the settings of a checkpoint as Sentence Transformers reads them, the defaults where it states none."""
    problems: list[str] = []
    # Without modules.json Sentence Transformers does not read them.
    fields = Fields(checkpoint.settings if checkpoint.modules else {}, "", problems)
    stated = fields.maybe("prompts", dict) or {}
    prompts = dict.fromkeys(_PROMPT_NAMES, "") | {str(name): text or "" for name, text in stated.items()}
    default = fields.maybe("default_prompt_name", str)
    if default is not None and default not in prompts:
        problems.append(f"default_prompt_name {default!r} is not among prompts")
    similarity = fields.maybe("similarity_fn_name", str)
    settings = _ModelSettings(
        prompts, default, similarity if similarity in SIMILARITIES else "cosine", fields.maybe("truncate_dim", int)
    )
    problems += [f"prompts.{name} must be a string" for name, text in prompts.items() if not isinstance(text, str)]
    if problems:
        raise ExportError(f"{checkpoint.folder / SETTINGS_FILE}: {'; '.join(problems)}")
    return settings


def _source_of(checkpoint: Checkpoint, encoder: Encoder) -> Source:
    """Describe the checkpoint; to the hashes of its weights come those of the encoder's files."""
    hashes = {_name_in(checkpoint.folder, file): sha256_of(file) for file in encoder.files}
    return replace(checkpoint.source, sha256=checkpoint.source.sha256 | hashes)


def _name_in(folder: Path, file: Path) -> str:
    """Return a file's path within the checkpoint, or its name where it lies elsewhere."""
    absolute = Path(os.path.abspath(file))  # noqa: PTH100 - not resolved: a Hub's cache is of links
    root = Path(os.path.abspath(folder))  # noqa: PTH100
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.name
