"""Export of cross-encoders: one graph of pairs of texts, compared with Sentence Transformers pair by pair."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from monograph.errors import ExportError, UnsupportedModuleError
from monograph.inputs import Pair
from monograph.tasks.rerank import ACTIVATIONS, RERANK, RerankSection, ScoreAgreement
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.checkpoint.modules import ModelKind, setting_problems
from monograph_export.compression.agreements import rank_correlation
from monograph_export.compression.options import (
    RANK_CORRELATION,
    SCORE_MOVE,
    CompressionOptions,
)
from monograph_export.compression.texts import (
    BUILT_IN,
    CALIBRATION_LIMIT,
    HELD_OUT_LIMIT,
    Calibration,
    CalibrationFile,
    built_in_sentences,
)
from monograph_export.probe_texts import probe_pairs
from monograph_export.tasks.base import ExportTask
from monograph_export.vocabulary.options import NamedTexts

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

    from monograph_export.checkpoint.routes import RoutedModel

_CLASSIFIER = "ForSequenceClassification"
# What transformers calls the head of a classifier: of most models, of generative ones, of BART's kind.
_HEADS = ("classifier.", "score.", "classification_head.")
_ONLY = "only a Transformer that is a classifier (...ForSequenceClassification) is"
_LINE = "a query, a tab and a passage"
# What transformers calls labels that nobody has named.
_UNNAMED = re.compile(r"LABEL_\d+")
_SECOND = "one short text"


class RerankExport(ExportTask[Pair]):
    """Cross-encoders that are one classifier of transformers."""

    task = RERANK
    # A classifier computes its logits from the pooler, so none of its weights may be missing.
    kind = ModelKind("CrossEncoder", ("Transformer",), transformer_task="sequence-classification")
    limits = (RANK_CORRELATION, SCORE_MOVE)
    architectures = (_CLASSIFIER,)
    # Sentence Transformers would make a score of the next token of a generative model; it is refused by its name.
    requested_architectures = ("ForCausalLM",)
    int8_for_large_tables = False
    empty_input = ("", "")
    # Before any activation.
    feature = "scores"
    samples = tuple((text, _SECOND) for text in ExportTask.samples)
    used = "scored"
    costs = "by what they move scores on average, relative to their spread"

    def detects(self, checkpoint: Checkpoint, *, requested: bool) -> bool:
        """Tell whether a checkpoint is a classifier, by its weights where it names no class of transformers."""
        if super().detects(checkpoint, requested=requested):
            return True
        if checkpoint.modules or checkpoint.architectures:
            return False
        return requested or _stated_activation(checkpoint) is not None or _has_classifier(checkpoint)

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Accept a cross-encoder that is one classifier of transformers.

        Raises:
            ExportError: a file of it cannot be read.
            UnsupportedModuleError: naming each module, and setting, that has no exact graph.

        """
        folder = checkpoint.folder
        if checkpoint.modules:
            transformer, *others = checkpoint.modules
            if others or transformer.name != "Transformer":
                types = ", ".join(entry.type for entry in checkpoint.modules)
                raise UnsupportedModuleError(f"{folder}: a CrossEncoder of {types} is not exported, {_ONLY}")
            if transformer.folder != folder:
                raise UnsupportedModuleError(f"{folder}: a CrossEncoder in {transformer.folder} is not exported")
            if problems := setting_problems("Transformer", transformer.settings, self.kind):
                raise UnsupportedModuleError(f"{folder}: module Transformer: {'; '.join(problems)}")
        names = checkpoint.architectures
        # Where none is named, Sentence Transformers loads a classifier, and a head that is missing is refused then.
        if names and not any(name.endswith(_CLASSIFIER) for name in names):
            raise UnsupportedModuleError(f"{folder}: {', '.join(names)} is not exported, {_ONLY}")
        _check_activation(folder, _stated_activation(checkpoint))

    def check_route(self, model: BaseModel, name: object) -> None:
        """Refuse another activation than a runtime has, and have no layer that is float32 whatever the others are.

        Raises:
            ExportError: the tokenizer has no Rust form.
            UnsupportedModuleError: naming the modules, or the activation.

        """
        super().check_route(model, name)
        loaded: Any = model
        if len(loaded) != 1:
            raise UnsupportedModuleError(f"{name}: a CrossEncoder of {len(loaded)} modules is not exported")
        activation = type(loaded.activation_fn)
        _check_activation(name, f"{activation.__module__}.{activation.__qualname__}")
        # Layers that stay in float32 under autocast; without it they are as all others.
        loaded.set_keep_in_fp32_modules([])

    def describe_outputs(self, routed: RoutedModel, additional_outputs: Sequence[str] = ()) -> RerankSection:  # noqa: ARG002
        """Return the task's section of the manifest."""
        model: Any = routed.whole
        labels = int(model.num_labels)
        by_label = getattr(model.config, "id2label", None) or {}
        names = tuple(str(by_label.get(label, "")) for label in range(labels))
        given = all(name and not _UNNAMED.fullmatch(name) for name in names)
        return RerankSection(labels, type(model.activation_fn).__name__, names if given else ())

    def probe_inputs(self, tokenizer: Tokenizer, max_length: int | None, spelled: Sequence[str]) -> list[Pair]:
        """Return the pairs that a bundle is verified with."""
        return probe_pairs(tokenizer, max_length, spelled)

    def _compute(self, model: BaseModel, inputs: list[Pair], batch_size: int, prompt: str) -> Any:
        import torch

        scorer: Any = model
        return scorer.predict(
            inputs, prompt=prompt, batch_size=batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )

    def calibration(self, options: CompressionOptions, corpus: NamedTexts | None) -> Calibration[Pair]:  # noqa: ARG002
        """Return pairs to calibrate with and held-out ones.

        Raises:
            ExportError: a line of the user's is no pair.

        """
        return built_in_pairs() if options.calibration is None else pairs_of(options.calibration)

    def agreement(self, reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> ScoreAgreement:
        """Compare the logits of the same pairs, float32 [n, labels] each."""
        spread = np.maximum(np.ptp(reference, axis=0), np.finfo(np.float32).tiny)
        moved = np.abs(outputs - reference) / spread
        return ScoreAgreement(
            pairs=len(reference),
            spearman=min(rank_correlation(*columns) for columns in zip(reference.T, outputs.T, strict=True)),
            mean_difference=float(moved.mean(axis=0).max()),
            worst_difference=float(moved.max()),
        )

    def cost(self, reference: NDArray[np.float32], outputs: NDArray[np.float32]) -> float:
        """Return how far a score moves on average, relative to the spread."""
        return self.agreement(reference, outputs).mean_difference


RERANK_EXPORT = TASK = RerankExport()


def _stated_activation(checkpoint: Checkpoint) -> str | None:
    """Return the class that a checkpoint names as its activation, from the first place that names one."""
    of_version_4 = checkpoint.config.get("sentence_transformers")
    places = (
        checkpoint.settings.get("activation_fn") if checkpoint.modules else None,
        of_version_4.get("activation_fn") if isinstance(of_version_4, dict) else None,
        checkpoint.config.get("sbert_ce_default_activation_function"),
    )
    return next((str(place) for place in places if place is not None), None)


def _has_classifier(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint's weights have the head of a classifier, by its name in transformers."""
    return any(name.startswith(_HEADS) for name in checkpoint.weight_names)


def _check_activation(name: object, activation: str | None) -> None:
    """Refuse an activation that a runtime does not have; None is the default of Sentence Transformers."""
    # One that is not of torch would be replaced by the default, with a warning: other scores than its author's.
    if activation is None or (activation.startswith("torch.") and activation.rpartition(".")[2] in ACTIVATIONS):
        return
    known = " and ".join(f"torch.nn.{known}" for known in ACTIVATIONS)
    raise UnsupportedModuleError(f"{name}: the activation {activation} is not exported, {known} are")


def built_in_pairs() -> Calibration[Pair]:
    """Return pairs of sentences of many languages; no sentence is in a pair of either purpose."""
    texts = built_in_sentences()
    return Calibration(_paired(texts.calibration), _paired(texts.held_out), f"pairs of {BUILT_IN}")


def _paired(texts: Sequence[str]) -> tuple[Pair, ...]:
    """Return each text beside the next, and every other one beside itself."""
    return (*zip(texts, [*texts[1:], texts[0]], strict=True), *((text, text) for text in texts[::2]))


def pairs_of(file: CalibrationFile) -> Calibration[Pair]:
    """Return a file's different pairs, those of half of its queries to calibrate with and the others held out.

    The built-in held-out pairs are among the latter, as with texts.

    Raises:
        ExportError: a line that is not blank is something else; the first is named.

    """
    lines = ((number, line) for number, line in enumerate(file.lines, start=1) if line.strip())
    pairs = list(dict.fromkeys(_pair(file.name, number, line) for number, line in lines))
    queries = list(dict.fromkeys(query for query, _ in pairs))
    # They may be in any order, and those at the beginning of one kind.
    generator = np.random.default_rng(0)
    chosen = {queries[i] for i in generator.permutation(len(queries))[::2]}
    shuffled = [pairs[i] for i in generator.permutation(len(pairs))]
    calibration = [pair for pair in shuffled if pair[0] in chosen][:CALIBRATION_LIMIT]
    held_out = [pair for pair in shuffled if pair[0] not in chosen][:HELD_OUT_LIMIT]
    others = [pair for pair in built_in_pairs().held_out if pair not in calibration]
    origin = f"{len(calibration)} of the {len(pairs)} different pairs of {file.name}"
    return Calibration(tuple(calibration), tuple(dict.fromkeys([*held_out, *others])), origin)


def _pair(name: str, number: int, line: str) -> Pair:
    parts = line.split("\t")
    if len(parts) != 2:
        raise ExportError(
            f"{name} line {number} has {len(parts) - 1} tabs: a cross-encoder is calibrated with pairs, so each line "
            f"must be {_LINE}"
        )
    query, passage = parts
    if not query.strip() or not passage.strip():
        raise ExportError(f"{name} line {number} has an empty text: each line must be {_LINE}")
    return query, passage
