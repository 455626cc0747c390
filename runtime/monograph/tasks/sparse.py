"""The task "sparse": a weight for each token of a vocabulary, mostly 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from monograph.inputs import check_count
from monograph.similarity import SIMILARITIES
from monograph.sparse.rows import SparseRows, active_rows, join_rows
from monograph.tasks.base import EmbedOption, LossBound, Outputs, Task
from monograph.tasks.embedding import EmbeddingTask, VectorAgreement
from monograph.vector_file.formats import SPARSE_FORMATS


@dataclass(frozen=True)
class SparseSection:
    """The vectors of a sparse encoder: a weight for each of ``dimension`` tokens, mostly 0.

    ``max_active_dims`` is the number of a vector's largest weights to keep by default, None for all.
    """

    dimension: int
    similarity: str
    max_active_dims: int | None = None


@dataclass(frozen=True)
class SparseAgreement(VectorAgreement):
    """The agreement of two models' sparse vectors of the same texts.

    ``active_overlap``: of the dimensions active in either vector of a text, the mean share that is active in both.
    """

    active_overlap: float

    def describe(self) -> str:
        """Return the figures in words."""
        return f"{super().describe()}, same active dimensions {self.active_overlap:.1%}"


@dataclass(frozen=True)
class SparsePostProcess:
    """Keep what is not 0, and of that at most ``max_active_dims`` values, the largest; None for all."""

    max_active_dims: int | None

    def __call__(self, outputs: Outputs) -> SparseRows:
        """Turn the graph's vectors (float32 [n, d]) into rows of active dimensions."""
        return active_rows(outputs, self.max_active_dims)

    def collect(self, parts: Iterable[tuple[NDArray[np.intp], SparseRows]], count: int) -> SparseRows:
        """Return ``count`` rows in order from parts, each with the positions of its rows (intp [b])."""
        positions, rows = [np.empty(0, np.intp)], []
        for places, part in parts:
            positions.append(places)
            rows.append(part)
        order = np.argsort(np.concatenate(positions))
        if len(order) != count:
            raise ValueError(f"{len(order)} rows instead of {count}")
        return join_rows(rows).take(order)

    def take(self, results: SparseRows, positions: NDArray[np.intp]) -> SparseRows:
        """Return the rows at some positions (intp [n])."""
        return results.take(positions)

    @property
    def settings(self) -> dict[str, str]:
        """What the vectors depend on beside the texts and the model."""
        return {"active dimensions": str(self.max_active_dims)}


class SparseTask(Task[SparseSection]):
    """Sparse encoding: texts to vectors over a vocabulary."""

    name = "sparse"
    title = "a sparse encoder"
    model = "monograph.sparse_encoder:SparseEncoder"
    command = "monograph embed"
    output = "sentence_embedding"
    width_field = "dimension"
    section_type = SparseSection
    agreement_type = SparseAgreement
    # A dimension that is active in one vector only has a small weight, so that overlaps are lower than cosines.
    loss_bounds: ClassVar = {
        "lossless": (*EmbeddingTask.loss_bounds["lossless"], LossBound("active_overlap", minimum=0.99)),
        "high": (*EmbeddingTask.loss_bounds["high"], LossBound("active_overlap", minimum=0.95)),
    }
    embed_options: ClassVar = (
        EmbedOption("--max-active-dims", "max_active_dims", "keep only so many of the largest values of a vector"),
    )
    vector_formats = SPARSE_FORMATS

    def section_problems(self, section: SparseSection) -> list[str]:
        """Return what is wrong with the values of a section."""
        problems = []
        if section.similarity not in SIMILARITIES:
            problems.append(f"similarity {section.similarity!r} is not one of {', '.join(SIMILARITIES)}")
        if section.dimension < 1:
            problems.append("dimension must be at least 1")
        if section.max_active_dims is not None and section.max_active_dims < 1:
            problems.append("max_active_dims must be at least 1")
        return problems

    def describe(self, section: SparseSection) -> list[tuple[str, str]]:
        """Return what `monograph info` prints of a section."""
        limit = "" if section.max_active_dims is None else f", at most {section.max_active_dims} of them active"
        return [("sparse", f"{self.describe_output(section)}{limit}, {section.similarity} similarity")]

    def post_process(  # type: ignore[override]
        self, section: SparseSection, *, max_active_dims: int | None = None
    ) -> SparsePostProcess:
        """Check the options of a call against the model and return what follows the graph.

        Raises:
            InputError: ``max_active_dims`` is not a count.

        """
        if max_active_dims is None:
            return SparsePostProcess(section.max_active_dims)
        return SparsePostProcess(check_count(max_active_dims, "max_active_dims"))


SPARSE = TASK = SparseTask()
