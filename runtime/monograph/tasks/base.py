"""What a task is: its section of the manifest, what follows its graph, and how its outputs are compared.

A task is one object. ``monograph.tasks`` registers those of this release, and ``register_task`` adds another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from monograph.quality import LEVELS, Agreement, CompressionReport, Deviation, Quality, QualityLevel, Tolerance
from monograph.vector_file.formats import VectorFormat

SectionT = TypeVar("SectionT")
ResultT = TypeVar("ResultT")
# Float32 [n, width]; of a task that is ``per_token`` objects [n], each a matrix float32 [tokens, width].
Outputs = NDArray[Any]

# At float32: max abs difference <= this x max(1, largest |reference|).
FLOAT32_TOLERANCE = 1e-5
# The cosine that graphs keep which round by themselves, by their precision. Engines reach the levels of an int8 graph
# by arithmetic of their own: a value between two levels goes either way.
MIN_COSINE_BY_PRECISION = {"fp16": 0.999, "int8": 0.99}
# Where a graph or an engine rounds, a weight of a token may differ by this x the largest of the reference.
WEIGHT_TOLERANCE = 5e-2
WEIGHT_TOLERANCE_BY_PRECISION = {"int8": 0.5}
# How long a vector may be, relative to the longest of the reference, where the reference is zero and an engine rounds.
_MAX_NORM_FOR_ZERO = 1e-2


@dataclass(frozen=True)
class LossBound:
    """What a quality level requires of a figure of the agreement: a ``minimum``, or a ``maximum``."""

    figure: str
    minimum: float | None = None
    maximum: float | None = None

    def holds(self, figures: Mapping[str, Any]) -> bool:
        """Return whether the figure is there and within the bound. NaN is not."""
        value = figures.get(self.figure)
        if value is None:
            return False
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


@dataclass(frozen=True)
class OutputPart:
    """A part of an output that is compared with the reference by itself.

    ``values`` are float32 [n, width] or objects [n], each a matrix; ``name`` is "" for all of an output. ``weights``
    are single numbers, which have no direction: where an engine rounds, they are compared by their differences.
    """

    name: str
    values: Outputs
    weights: bool = False


class PostProcess(Protocol[ResultT]):
    """What follows the graph, row by row, with the options of one call."""

    def __call__(self, outputs: Outputs, /) -> ResultT:
        """Return the results for the graph's outputs, float32 [b, width]."""

    def collect(self, parts: Iterable[tuple[NDArray[np.intp], ResultT]], count: int, /) -> ResultT:
        """Return ``count`` results in order from parts, each with the positions of its rows (intp [b])."""

    def take(self, results: ResultT, positions: NDArray[np.intp], /) -> ResultT:
        """Return the results at some positions (intp [n]), which may repeat."""

    @property
    def settings(self) -> dict[str, str]:
        """What the results depend on beside the inputs and the model, by the names that an error gives them."""


class DensePostProcess(ABC):
    """Post-processing whose results are an array ``dtype`` [n, ``width``]."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Columns of the results."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of the results' values."""

    @abstractmethod
    def __call__(self, outputs: Outputs) -> NDArray[Any]:
        """Return the results for the graph's outputs, float32 [b, d] to ``dtype`` [b, ``width``]."""

    def collect(self, parts: Iterable[tuple[NDArray[np.intp], NDArray[Any]]], count: int) -> NDArray[Any]:
        """Return ``count`` rows in order from parts, each with the positions of its rows (intp [b])."""
        return scatter_rows(parts, (count, self.width), self.dtype)

    def take(self, results: NDArray[Any], positions: NDArray[np.intp]) -> NDArray[Any]:
        """Return the rows at some positions (intp [n])."""
        return results[positions]

    @property
    def settings(self) -> dict[str, str]:
        """What the results depend on beside the inputs and the model."""
        return {}


@dataclass(frozen=True)
class EmbedOption:
    """An option of `monograph embed` that one task has: ``keyword`` of its ``post_process``.

    It is one of ``choices``, of which the first is the default; or a flag; or a factor, a number of at least 1, which
    is the default; or else a count of at least 1.
    """

    flag: str
    keyword: str
    help: str
    choices: tuple[str, ...] = ()
    is_flag: bool = False
    is_factor: bool = False

    @property
    def default(self) -> object:
        """The value where the option is not given."""
        if self.is_factor:
            return 1.0
        return False if self.is_flag else next(iter(self.choices), None)


class Task(ABC, Generic[SectionT]):
    """A task: what a bundle's graph computes, and all that the runtime does otherwise for it.

    ``name`` is the manifest's ``task`` and the key of its section; ``title`` is what a model of it is called;
    ``model`` its public class, as "module:Class", and ``command`` the command that runs it. ``output`` is the name of
    the graph's output, whose columns the section's field ``width_field`` counts; a row of it is a text, or a token of
    one if the task is ``per_token``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    model: ClassVar[str]
    command: ClassVar[str]
    inputs: ClassVar[str] = "texts"
    output: ClassVar[str]
    width_field: ClassVar[str]
    has_routes: ClassVar[bool] = True
    per_token: ClassVar[bool] = False
    # Outputs of the tokens that a graph may have after the first.
    additional_outputs: ClassVar[tuple[str, ...]] = ()
    section_type: ClassVar[type[Any]]
    agreement_type: ClassVar[type[Agreement]]
    # What a compressed model has to keep at the levels before "fast", for which an export's own limits suffice.
    loss_bounds: ClassVar[Mapping[QualityLevel, Sequence[LossBound]]] = {}
    # Of `monograph embed`: its options, and the formats of its files by their suffix, .jsonl among them. A task without
    # formats has no vectors to write.
    embed_options: ClassVar[Sequence[EmbedOption]] = ()
    vector_formats: ClassVar[Mapping[str, Callable[[Any], VectorFormat[Any]]]] = {}
    # Whether precisions of its vectors need the range of each dimension.
    takes_ranges: ClassVar[bool] = False

    @abstractmethod
    def section_problems(self, section: SectionT) -> list[str]:
        """Return what is wrong with the values of a section whose fields are well formed."""

    def output_width(self, section: SectionT) -> int:
        """Return the columns of the graph's output."""
        return int(getattr(section, self.width_field))

    def additional_width(self, section: SectionT, output: str) -> int | None:  # noqa: ARG002
        """Return the columns of an output after the first, None where the section does not state them."""
        return None

    def parts(self, section: SectionT, output: str | None, outputs: Outputs) -> Sequence[OutputPart]:  # noqa: ARG002
        """Return what is compared by itself of the outputs named ``output``, None for the first: usually all of them.

        The outputs are float32 [n, width] or objects [n], each a matrix float32 [tokens, width].
        """
        return (OutputPart("", outputs),)

    @abstractmethod
    def describe(self, section: SectionT) -> list[tuple[str, str]]:
        """Return what `monograph info` prints of a section, as labels and values."""

    def describe_output(self, section: SectionT) -> str:
        """Return what the graph gives, in a few words."""
        return f"{self.output_width(section)} dimensions"

    @abstractmethod
    def post_process(self, section: SectionT, **options: Any) -> PostProcess[Any]:
        """Check the options of a call and return what follows the graph.

        Raises:
            InputError: an option is not usable.

        """

    def level_of(self, precision: str, quality: Quality) -> QualityLevel:
        """Return the best quality level that graphs of a precision reach, by the loss that their bundle states.

        What was not compressed is lossless, unless it is an ONNX file that was: nothing says what that cost.
        """
        if quality.compression is None:
            return "lossless" if quality.encoder_file is None or precision == "fp32" else "fast"
        stated = self.stated_loss(quality.compression)
        for level, bounds in self.loss_bounds.items():
            if all(bound.holds(figures) for figures in stated for bound in bounds):
                return level
        return LEVELS[-1]

    def stated_loss(self, compression: CompressionReport) -> Sequence[Mapping[str, Any]]:
        """Return the figures that ``loss_bounds`` are about, of each output that is compared by itself."""
        return (compression.figures,)

    def tolerance(self, reference: Outputs, float32: float, precision: str, min_cosine: float | None) -> Tolerance:
        """Return what is allowed of a graph of a precision on an engine, relative to ``reference``, float32 [n, d].

        ``float32`` is the difference allowed for values up to 1 where nothing rounds; ``min_cosine`` the cosine that
        the engine keeps in the type it computes in, None at float32.
        """
        rounded = MIN_COSINE_BY_PRECISION.get(precision, min_cosine)
        if rounded is not None:
            return Tolerance(min_cosine=rounded, exact=False)
        matrices = reference if reference.dtype == np.object_ else [reference]
        return Tolerance(max_abs_difference=float32 * max(map(largest_magnitude, matrices), default=1.0))

    def part_tolerance(self, part: OutputPart, float32: float, precision: str, min_cosine: float | None) -> Tolerance:
        """Return what is allowed relative to a part of the reference; other arguments are those of ``tolerance``."""
        if not part.weights or MIN_COSINE_BY_PRECISION.get(precision, min_cosine) is None:
            return self.tolerance(part.values, float32, precision, min_cosine)
        largest = max((float(np.abs(values).max(initial=0)) for values in part.values), default=0.0)
        allowed = WEIGHT_TOLERANCE_BY_PRECISION.get(precision, WEIGHT_TOLERANCE)
        return Tolerance(max_abs_difference=allowed * largest, exact=False)

    def compare(self, case: str, outputs: Outputs, reference: Outputs, token_counts: Sequence[int]) -> Deviation:
        """Return how far outputs are from the reference, float32 [n, d] each, of inputs with these token counts.

        Of outputs with a vector for each token, objects [n], the cosine is the least mean of a text's tokens.
        """
        if reference.dtype == np.object_:
            differences = matrix_differences(outputs, reference)
            cosine: float | None = float(np.nan_to_num(text_cosines(outputs, reference), nan=-1.0).min(initial=1.0))
        else:
            differences, cosine = np.abs(outputs - reference).max(axis=1), self.worst_cosine(outputs, reference)
        # NaN compares as neither larger nor smaller, and must fail. Not infinity, which JSON has no number for.
        differences = np.where(np.isfinite(differences), differences, np.finfo(np.float32).max)
        worst = int(np.argmax(differences))
        return Deviation(case, float(differences[worst]), cosine, token_counts[worst])

    def worst_cosine(self, outputs: Outputs, reference: Outputs) -> float | None:
        """Return the least cosine of rows, float32 [n, d] each; None for outputs that have no direction."""
        norms = np.sqrt(_dots(outputs, outputs)), np.sqrt(_dots(reference, reference))
        cosines = _dots(outputs, reference) / np.maximum(norms[0] * norms[1], 1e-30)
        # A text without tokens is all zeros in a bag of embeddings, and one without a known word may be in a sparse
        # encoder. Zeros have no direction to be wrong, and a vector that is tiny beside the others is as near.
        zero = (norms[1] == 0) & (norms[0] <= _MAX_NORM_FOR_ZERO * norms[1].max(initial=0))
        return float(np.nan_to_num(np.where(zero, 1.0, cosines), nan=-1.0).min())


def as_matrices(matrices: Sequence[NDArray[np.float32]]) -> NDArray[np.object_]:
    """Return matrices as an array of objects [n], also where all are of one shape."""
    array = np.empty(len(matrices), dtype=np.object_)
    for position, matrix in enumerate(matrices):
        array[position] = matrix
    return array


def scatter_rows(
    parts: Iterable[tuple[NDArray[np.intp], NDArray[Any]]], shape: tuple[int, ...], dtype: np.dtype[Any] | type[Any]
) -> NDArray[Any]:
    """Return an array of a shape and type from its rows in parts, each with the positions of its rows (intp [b])."""
    rows = np.empty(shape, dtype=dtype)
    for positions, part in parts:
        rows[positions] = part
    return rows


def matrix_differences(outputs: Outputs, reference: Outputs) -> NDArray[np.float64]:
    """Return the largest difference of each text's token vectors, float64 [n]; NaN where they do not fit."""
    return np.array([_difference(*pair) for pair in zip(outputs, reference, strict=True)], np.float64)


def text_cosines(outputs: Outputs, reference: Outputs) -> NDArray[np.float64]:
    """Return for each text the mean cosine of its tokens' two vectors, float64 [n]; NaN where they do not fit."""
    return np.array([_mean_cosine(*pair) for pair in zip(outputs, reference, strict=True)], np.float64)


def _difference(output: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    if output.shape != reference.shape:
        return float("nan")
    return float(np.abs(output - reference).max(initial=0))


def _mean_cosine(output: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    if output.shape != reference.shape:
        return float("nan")
    if not len(reference):
        return 1.0
    norms = np.sqrt(_dots(output, output) * _dots(reference, reference))
    return float((_dots(output, reference) / np.maximum(norms, 1e-30)).mean())


def largest_magnitude(reference: Outputs) -> float:
    """Return the largest absolute value of a reference, at least 1: tolerances are relative to it."""
    return max(1.0, float(np.abs(reference).max(initial=0)))


def _dots(first: Outputs, second: Outputs) -> NDArray[np.float64]:
    """Return the product of each row with the other's, float64 [n], summed in float64 without copies of that type."""
    return np.asarray(np.einsum("nd,nd->n", first, second, dtype=np.float64))
