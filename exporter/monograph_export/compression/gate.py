"""The gate of a compression: the outputs of held-out inputs, compared with the original's within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from numpy.typing import NDArray

from monograph.inputs import InputT
from monograph.progress import Step
from monograph.quality import Agreement
from monograph_export.compression.options import Limits
from monograph_export.tasks.base import COMPARED_AT_A_TIME, ExportTask

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

# At most so many held-out inputs have their outputs of tokens compared, drawn evenly, and of so many characters: these
# outputs are large.
_FEW_INPUTS = 128
_FEW_CHARACTERS = 200_000


@dataclass(frozen=True)
class HeldOutOutputs:
    """A model's outputs for held-out inputs.

    ``main`` are those of the task, float32 [n, d] or objects [n]; ``additional`` has for each output of tokens those of
    a few of the inputs, objects [m], each float32 [tokens, width].
    """

    main: NDArray[Any]
    additional: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate(Generic[InputT]):
    """What lets a compressed model pass: its outputs for held-out inputs are near enough to the original's.

    ``section`` is the task's of the manifest, which describes the outputs after the task's own, ``additional_outputs``.
    """

    task: ExportTask[InputT]
    limits: Limits
    inputs: tuple[InputT, ...]
    section: Any = None
    additional_outputs: tuple[str, ...] = ()

    @property
    def few(self) -> Sequence[InputT]:
        """The inputs whose outputs of tokens are compared."""
        few = self.inputs[:: max(1, -(-len(self.inputs) // _FEW_INPUTS))]
        while len(few) > 1 and sum(map(len, few)) > _FEW_CHARACTERS:
            few = few[::2]
        return few

    @property
    def computed(self) -> int:
        """How many inputs are computed for a model's outputs."""
        return len(self.inputs) + len(self.additional_outputs) * len(self.few)

    def outputs_of_model(self, model: BaseModel, step: Step) -> HeldOutOutputs:
        """Return the outputs of a model in torch.

        Raises:
            ExportError: torch cannot run the model.

        """
        main = self.task.outputs_to_compare(model, self.inputs, step)
        additional = {}
        for name in self.additional_outputs:
            additional[name] = self.task.compute_additional_output(model, self.few, name, COMPARED_AT_A_TIME)
            step.advance(len(self.few))
        return HeldOutOutputs(main, additional)

    def agreement(self, reference: HeldOutOutputs, outputs: HeldOutOutputs) -> Agreement:
        """Compare a model's outputs with the original's."""
        agreement = self.task.agreement(reference.main, outputs.main)
        return self.task.with_token_agreements(agreement, self.section, reference.additional, outputs.additional)

    def violations(self, agreement: Agreement) -> tuple[str, ...]:
        """Return in words which limits an agreement violates."""
        return self.task.violations(self.limits, agreement)
