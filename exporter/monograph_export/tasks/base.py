"""What an export does otherwise for a task: detect, load, probe, trace and measure its models.

A task is one object; ``monograph_export.tasks`` lists them. Nothing here imports torch before a method needs it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from monograph.bundle.manifest import TokenizerSpec
from monograph.errors import ExportError, first_line
from monograph.inputs import InputT
from monograph.progress import Step
from monograph.quality import Agreement
from monograph.tasks import Task
from monograph_export.checkpoint.checkpoint import Checkpoint
from monograph_export.checkpoint.modules import SENTENCE_EMBEDDING, ModelKind
from monograph_export.compression.options import CompressionOptions, Limit, Limits
from monograph_export.compression.texts import Calibration
from monograph_export.vocabulary.options import NamedTexts

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel
    from torch import nn

    from monograph_export.checkpoint.routes import RoutedModel

# Options that only some tasks have, as errors name them.
PRUNING, RECIPE, FROM_ONNX = "--keep-vocab or --keep-scripts", "--recipe", "--from-onnx"
# Inputs that are compared at a time. A model of int8 layers widens all its weights at every call in torch, so batches
# save most of the time; padding moves a vector by no more than a rounding that goes the other way. What is written is
# measured anew, in ONNX Runtime.
COMPARED_AT_A_TIME = 16


class ExportTask(ABC, Generic[InputT]):
    """A task of the runtime as the exporter sees it.

    Attributes:
        task: The runtime's task.
        kind: The class of its models in Sentence Transformers, and the modules that they may have.
        limits: What a compressed model of it has to keep.
        options: Those of ``PRUNING``, ``RECIPE`` and ``FROM_ONNX`` that go with it.
        architectures: Endings of the classes of transformers that are of this task without modules.json, and
            ``requested_architectures`` of those that are if the task is requested.
        int8_for_large_tables: Whether large tables of token embeddings are int8 by default.
        empty_input: The shortest of its inputs.
        feature: The name under which the modules leave their output.
        samples: Three inputs of different length to trace a model with; axes of size 0 or 1 would be taken for
            constants.
        used: What is done with inputs, in a word.
        costs: What ``cost`` measures, in words that follow "the layers that cost most".

    """

    task: ClassVar[Task[Any]]
    kind: ClassVar[ModelKind]
    limits: ClassVar[Sequence[Limit]]
    options: ClassVar[tuple[str, ...]] = ()
    architectures: ClassVar[tuple[str, ...]] = ()
    requested_architectures: ClassVar[tuple[str, ...]] = ()
    int8_for_large_tables: ClassVar[bool] = True
    empty_input: ClassVar[Any] = ""
    feature: ClassVar[str] = SENTENCE_EMBEDDING
    samples: ClassVar[Sequence[Any]] = ("one short text", "another text, which is a little longer", "a third")
    used: ClassVar[str] = "embedded"
    costs: ClassVar[str]

    @property
    def name(self) -> str:
        """The manifest's ``task``."""
        return self.task.name

    @property
    def title(self) -> str:
        """What a model of the task is called."""
        return self.task.title

    def check_options(self, options: Sequence[str]) -> None:
        """Refuse options that models of the task do not have.

        Raises:
            ExportError: naming each.

        """
        known = (*self.options, *(limit.option for limit in self.limits))
        if refused := [option for option in options if option not in known]:
            raise ExportError(f"this is {self.title}, which has no {', '.join(refused)}: leave it out")

    def detects(self, checkpoint: Checkpoint, *, requested: bool) -> bool:
        """Tell whether a checkpoint that names no class of Sentence Transformers is of this task."""
        endings = (*self.architectures, *(self.requested_architectures if requested else ()))
        return not checkpoint.modules and any(name.endswith(endings) for name in checkpoint.architectures)

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint without an exact graph before anything is loaded.

        Raises:
            ExportError: a file of it cannot be read.
            UnsupportedModuleError: naming each module and setting that has no exact graph.

        """
        checkpoint.check_modules(self.kind)

    def default_outputs(self, checkpoint: Checkpoint) -> tuple[str, ...]:  # noqa: ARG002
        """Return the outputs after the task's own that a checkpoint's graph has by default.

        Raises:
            ExportError: files that an output needs are missing.

        """
        return ()

    def load(self, checkpoint: Checkpoint, additional_outputs: Sequence[str] = ()) -> RoutedModel:  # noqa: ARG002
        """Load a checkpoint in float32 on the CPU, and give each of its routes.

        ``additional_outputs`` are those of the graph after the task's own, whose modules are loaded as well.

        Raises:
            ExportError: the checkpoint is damaged, incomplete, or needs code of its own.
            UnsupportedModuleError: naming what has no exact graph.

        """
        from monograph_export.checkpoint.load import load_checkpoint

        self.check_checkpoint(checkpoint)
        return self._prepare(load_checkpoint(checkpoint, self.kind), checkpoint.folder)

    def copy(self, model: BaseModel) -> RoutedModel:
        """Return a float32 copy on the CPU of a model that the caller goes on using.

        Raises:
            ExportError: its tokenizer has no Rust form.
            UnsupportedModuleError: naming what has no exact graph.

        """
        return self._prepare(copy.deepcopy(model).to("cpu"), "the model")

    def _prepare(self, model: BaseModel, name: object) -> RoutedModel:
        from monograph_export.checkpoint.length_dependence import settle_length_dependence
        from monograph_export.checkpoint.load import check_modules
        from monograph_export.checkpoint.loaded_tokenizer import mark_padding
        from monograph_export.checkpoint.positions import limit_length
        from monograph_export.checkpoint.routes import routes_of

        check_modules(model, name, self.kind)
        model = model.float().eval()
        model.requires_grad_(False)
        routed = routes_of(model, self.kind)
        for route, part in routed.routes.items():
            named = name if route is None else f"{name}, route {route}"
            self.check_route(part, named)
            mark_padding(part)
            # Before the model computes anything, which would make BigBird choose.
            settle_length_dependence(part, named)
            limit_length(part, named, self.samples, self.task.inputs)
        return routed

    def check_route(self, model: BaseModel, name: object) -> None:
        """Refuse modules in a row that do not make an output of the task.

        Raises:
            ExportError: the tokenizer has no Rust form.
            UnsupportedModuleError: naming the modules.

        """
        from monograph_export.checkpoint.load import check_order

        check_order(model, name, self.kind)

    @abstractmethod
    def describe_outputs(self, routed: RoutedModel, additional_outputs: Sequence[str] = ()) -> Any:
        """Return the task's section of the manifest; ``additional_outputs`` are those of the graph after its own.

        Raises:
            ExportError: the routes of the model do not fit each other.

        """

    def finish_tokenizer(
        self,
        model: BaseModel,  # noqa: ARG002
        specification: TokenizerSpec,
    ) -> TokenizerSpec:
        """Return the manifest's entry of a route's tokenizer with what the task adds to it."""
        return specification

    @abstractmethod
    def probe_inputs(self, tokenizer: Tokenizer, max_length: int | None, spelled: Sequence[str]) -> list[InputT]:
        """Return the inputs that a bundle is verified with.

        They are of many languages, oddities, of every length, and spell the tokens ``spelled``.
        """

    def outputs(
        self,
        model: BaseModel,
        inputs: Sequence[InputT],
        batch_size: int = 1,
        prompt: str = "",
        step: Step | None = None,
    ) -> NDArray[Any]:
        """Return what Sentence Transformers gives for each input, alone or in padded batches, float32 [n, width].

        Of a task that is ``per_token`` objects [n], each float32 [tokens, width].

        The model's default prompt is not added, and nothing is truncated that the graph leaves whole. ``step`` advances
        by the inputs of each batch.

        Raises:
            ExportError: torch cannot run the model.

        """
        import torch

        with torch.inference_mode(), self._counted(model, step):
            try:
                outputs = self._compute(model, list(inputs), batch_size, prompt)
            except Exception as error:
                raise ExportError(
                    f"torch cannot run the model on {self.task.inputs} of up to its maximum length: {first_line(error)}"
                ) from error
            return self._as_outputs(outputs, len(inputs))

    def _as_outputs(self, outputs: Any, count: int) -> NDArray[Any]:
        """Return what ``_compute`` gave for so many inputs as the runtime has it."""
        return np.asarray(outputs, dtype=np.float32).reshape(count, -1)

    def compute_additional_output(
        self, model: BaseModel, inputs: Sequence[InputT], output: str, batch_size: int = 1
    ) -> NDArray[Any]:
        """Return an output of the tokens, after the task's own, for each input alone or in padded batches: objects [n].

        Raises:
            ExportError: the task has no such output.

        """
        raise ExportError(
            f"{self.title} has no output {output} for {len(inputs)} inputs of {type(model).__name__} in batches of "
            f"{batch_size}"
        )

    @contextmanager
    def _counted(self, model: BaseModel, step: Step | None) -> Iterator[None]:
        """Have a step advance by the inputs of each batch that leaves the model's last module."""
        if step is None:
            yield
            return
        handle = model[-1].register_forward_hook(
            lambda _module, _inputs, output: step.advance(len(output[self.feature]))
        )
        try:
            yield
        finally:
            handle.remove()

    @abstractmethod
    def _compute(self, model: BaseModel, inputs: list[InputT], batch_size: int, prompt: str) -> Any:
        """Return the outputs as an array, or a tensor on the CPU."""

    def outputs_to_compare(self, model: BaseModel, inputs: Sequence[InputT], step: Step | None = None) -> NDArray[Any]:
        """Return a model's outputs for ``agreement``, as ``outputs`` does; they are computed in batches."""
        return self.outputs(model, inputs, self._batch_size(model), step=step)

    def _batch_size(self, model: BaseModel) -> int:  # noqa: ARG002
        return COMPARED_AT_A_TIME

    def graph_modules(self, model: BaseModel) -> AbstractContextManager[Sequence[nn.Module]]:
        """Give the modules to trace in a row; the model may be another within."""
        return nullcontext(list(model))

    def compress_head(self, model: BaseModel) -> None:
        """Compress in place what shares the weights of an int8 table, where models of the task have that."""

    @abstractmethod
    def calibration(self, options: CompressionOptions, corpus: NamedTexts | None) -> Calibration[InputT]:
        """Return inputs to calibrate with and held-out ones: the user's, those of a vocabulary's corpus, or built-in.

        Raises:
            ExportError: a line of the user's is no input of the task.

        """

    @abstractmethod
    def agreement(self, reference: NDArray[Any], outputs: NDArray[Any]) -> Agreement:
        """Compare a model's outputs with the original's for the same inputs, both as ``outputs`` gives them."""

    def with_token_agreements(
        self,
        agreement: Agreement,
        section: Any,  # noqa: ARG002
        reference: Mapping[str, NDArray[Any]],  # noqa: ARG002
        outputs: Mapping[str, NDArray[Any]],  # noqa: ARG002
    ) -> Agreement:
        """Return the agreement of two models with that of their outputs after the task's own, which are objects [n].

        ``section`` is the task's of the manifest.
        """
        return agreement

    def violations(self, limits: Limits, agreement: Agreement) -> tuple[str, ...]:
        """Return in words which limits an agreement violates."""
        return limits.violations(agreement)

    @abstractmethod
    def cost(self, reference: NDArray[Any], outputs: NDArray[Any]) -> float:
        """Return one figure of what was lost, by which layers are sorted: 0 for nothing."""


def check_finite(reference: NDArray[Any]) -> None:
    """Refuse reference outputs, float32 [n, d] or objects [n], that are not numbers.

    Raises:
        ExportError: one is not finite.

    """
    if not all(np.isfinite(row).all() for row in reference):
        raise ExportError(
            "torch itself gives vectors that are not finite: the checkpoint is damaged, or with --precision fp16 its "
            "values pass what float16 holds"
        )


def check_varied(reference: NDArray[Any], inputs: str) -> None:
    """Refuse outputs, float32 [n, d] or objects [n], that are the same for all inputs, which ``inputs`` names.

    Raises:
        ExportError: they are.

    """
    if len(reference) > 1 and all(np.array_equal(row, reference[0]) for row in reference):
        raise ExportError(
            f"all {len(reference)} {inputs} that the model is verified with have one and the same output: the "
            "checkpoint is incomplete or damaged, in its vocabulary or its weights, so download it again"
        )
