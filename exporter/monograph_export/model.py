"""What an export works on: a request, and the loaded model that it makes a bundle of.

There are two kinds of loaded model: ``TorchModel``, which is traced, and ``OnnxModel``, whose encoder is an ONNX file.
"""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from monograph.bundle import Probes
from monograph.bundle.manifest import Graph, Routing, Source, TokenizerSpec
from monograph.progress import Progress
from monograph.tasks.base import FLOAT32_TOLERANCE
from monograph.version import __version__
from monograph_export.compression.options import (
    CompressionOptions,
    Limits,
)
from monograph_export.compression.texts import Calibration
from monograph_export.graph.store import BuiltGraph
from monograph_export.recipes import Recipe
from monograph_export.tasks import ExportTask
from monograph_export.vocabulary.options import VocabularyOptions

if TYPE_CHECKING:
    from monograph_export.compression.compress import Compressed
    from monograph_export.vocabulary.prune import PrunedVocabulary

Tokenizers = Mapping[str | None, TokenizerSpec]


@dataclass(frozen=True)
class ExportRequest:
    """The checked options of an export, or of one precision of an export of several, which ``precisions`` has all of.

    ``target`` is an absolute path that may be written; ``additional_outputs`` are those of the graph after the task's
    own.
    """

    target: Path
    task: ExportTask[Any]
    compression: CompressionOptions
    limits: Limits
    calibration: Calibration[Any]
    vocabulary: VocabularyOptions
    recipe: Recipe | None
    precisions: tuple[str, ...]
    additional_outputs: tuple[str, ...] = ()

    @property
    def tolerance(self) -> float:
        """The max abs difference allowed at float32 for values up to 1."""
        return FLOAT32_TOLERANCE if self.recipe is None else self.recipe.tolerance


class LoadedModel(ABC):
    """A model whose outputs a bundle has to give.

    Attributes:
        source: What the manifest says of where it comes from.
        prompts: Its prompts by name, and ``default_prompt_name`` the one that is used by default.
        encoder_file: The name of the ONNX file of its encoder, None where the model is traced.
        packages: What makes the bundle, beside monograph; the manifest has the versions.

    """

    source: Source
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    encoder_file: str | None = None
    packages: ClassVar[tuple[str, ...]]

    @property
    def producer(self) -> dict[str, str]:
        """The versions of what makes the bundle."""
        return {"monograph": __version__, **{name: importlib.metadata.version(name) for name in self.packages}}

    def arithmetic(self) -> AbstractContextManager[None]:
        """Within this context the model computes the same bits on any number of threads."""
        return nullcontext()

    def prune_vocabulary(self, request: ExportRequest, progress: Progress) -> PrunedVocabulary | None:  # noqa: ARG002
        """Prune the vocabulary in place as requested, or return None where nothing is to be done."""
        return None

    @abstractmethod
    def store_tokenizers(self, folder: Path) -> Tokenizers:
        """Write the tokenizer of each route; routes with the same share a file.

        Raises:
            ExportError: a tokenizer is not that of the model's table of embeddings.

        """

    @abstractmethod
    def describe_outputs(self) -> Any:
        """Return the task's section of the manifest."""

    def routing(self, tokenizers: Tokenizers) -> Routing | None:  # noqa: ARG002
        """Return how texts are routed, None for a model without routes."""
        return None

    def compress(
        self,
        request: ExportRequest,  # noqa: ARG002
        pruned: PrunedVocabulary | None,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> Compressed[Any] | None:
        """Compress the model in place as requested, or return None where nothing is to be done."""
        return None

    @abstractmethod
    def describe_reference(self, compressed: Compressed[Any] | None) -> str:
        """Return in words what the outputs of ``make_probes`` are."""

    @abstractmethod
    def make_probes(self, folder: Path, tokenizers: Tokenizers, progress: Progress) -> list[Probes]:
        """Return the inputs that the bundle is verified with, and the model's own outputs for them.

        Raises:
            ExportError: the model cannot run, or gives values that are not finite.
            ParityError: a tokenizer that was written gives other tokens than the model's.

        """

    @abstractmethod
    def build_graphs(self, precision: str, progress: Progress) -> Mapping[str | None, BuiltGraph]:
        """Return the graph of each route, whose weights are the model's; it computes nothing afterwards.

        Raises:
            ExportError: it has none.

        """

    def release_weights(self) -> None:  # noqa: B027 - nothing by default
        """Free the weights once they are written; the model is not usable afterwards."""

    def check_graphs(  # noqa: B027 - nothing by default
        self,
        folder: Path,
        tokenizers: Tokenizers,
        graphs: Sequence[Graph],
        probes: Sequence[Probes],
        tolerance: float,
        progress: Progress,
    ) -> None:
        """Check of the written graphs what no engine's verification would show.

        Raises:
            ParityError: a graph computes something else.

        """
