"""The task "embedding": a dense vector for each text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph.errors import InputError
from monograph.inputs import check_count, check_flag
from monograph.quality import CompressionReport
from monograph.similarity import SIMILARITIES, check_vectors, normalize
from monograph.tasks.base import DensePostProcess, EmbedOption, LossBound, OutputPart, Outputs, Task, as_matrices
from monograph.vector_file.formats import DENSE_FORMATS

# The output with the vectors of all tokens, which an export may add.
TOKEN_EMBEDDINGS = "token_embeddings"  # noqa: S105 - an output's name
# The output with a text's vector, and the weight and the vector of each token, of models that have all three.
HYBRID_EMBEDDINGS = "hybrid_embeddings"
# The part of that output which is a text's own vector.
DENSE_PART = "dense"
Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8", "uint8", "binary", "ubinary")
# The precisions that need the range of each dimension.
SCALAR_PRECISIONS = ("int8", "uint8")
Ranges = NDArray[np.float32]
_MAX_FLOAT32 = 3.4e38


@dataclass(frozen=True)
class HybridSection:
    """The output ``hybrid_embeddings`` of a model that also weights tokens and has a vector for each (bge-m3).

    ``dimension`` is that of tokens' vectors; ``unweighted_ids`` are the tokens whose weights are left out.
    """

    dimension: int
    unweighted_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class EmbeddingSection:
    """The vectors of an embedding model.

    ``normalized`` says whether they have unit length; ``truncate_dim`` is the number of dimensions to keep by default,
    None for all; ``ranges`` has the smallest and largest value of each dimension, for int8 and uint8 vectors.
    ``token_pooling`` is "mean" if the graph also gives the vectors of tokens and a text's vector is their mean,
    normalized if ``normalized``; otherwise None. ``hybrid`` describes the output ``hybrid_embeddings``, None without.
    """

    dimension: int
    normalized: bool
    similarity: str
    matryoshka_dimensions: tuple[int, ...]
    truncate_dim: int | None = None
    ranges: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    token_pooling: str | None = None
    hybrid: HybridSection | None = None


@dataclass(frozen=True)
class VectorAgreement:
    """The agreement of two models' vectors of the same texts.

    Cosines are those of a text's two vectors. ``spearman`` is the rank correlation of the similarities of all pairs of
    texts, 0 if it is undefined (all are equal, or there are fewer than three texts); ``neighbour_agreement`` is the
    share of texts whose nearest neighbour among the others is the same.
    """

    texts: int
    mean_cosine: float
    percentile_1_cosine: float
    worst_cosine: float
    spearman: float
    neighbour_agreement: float

    def describe(self) -> str:
        """Return the figures in words."""
        return (
            f"over {self.texts} held-out texts, mean cosine to the original {self.mean_cosine:.4f}, 1st percentile "
            f"{self.percentile_1_cosine:.4f}, worst {self.worst_cosine:.4f}, rank correlation of similarities "
            f"{self.spearman:.4f}, same nearest neighbour {self.neighbour_agreement:.1%}"
        )


@dataclass(frozen=True)
class TokenAgreement:
    """The agreement of two models' vectors, or weights, of the tokens of the same texts.

    ``mean_cosine`` and ``worst_cosine`` are over texts: of vectors, a text's is the mean of the cosines of its tokens'
    two vectors; of weights, the cosine of its two lists of weights. ``spearman`` is the rank correlation, of vectors
    that of the MaxSim of all pairs of texts, of weights that of all tokens' weights. ``neighbour_agreement`` is the
    share of texts whose nearest neighbour by MaxSim is the same, None of weights.
    """

    texts: int
    mean_cosine: float
    worst_cosine: float
    spearman: float
    neighbour_agreement: float | None = None

    def describe(self) -> str:
        """Return the figures in words."""
        line = f"mean cosine {self.mean_cosine:.4f}, worst of a text {self.worst_cosine:.4f}, rank correlation "
        line += f"{self.spearman:.4f}"
        if self.neighbour_agreement is not None:
            line += f", same nearest neighbour by MaxSim {self.neighbour_agreement:.1%}"
        return f"{line} over {self.texts} texts"


@dataclass(frozen=True)
class EmbeddingAgreement(VectorAgreement):
    """The agreement of two embedding models' vectors of the same texts, and of what they give for tokens.

    ``of_tokens`` has that of each part of the outputs after the first, by its name; None of vectors of texts alone.
    """

    of_tokens: dict[str, TokenAgreement] | None = None

    def describe(self) -> str:
        """Return the figures in words."""
        return "; ".join(
            [super().describe(), *(f"{name}: {one.describe()}" for name, one in (self.of_tokens or {}).items())]
        )


@dataclass(frozen=True)
class VectorPostProcess(DensePostProcess):
    """Truncate, normalize and quantize, in the order of ``SentenceTransformer.encode``.

    ``ranges`` (float32 [2, ``dimension``]) holds the smallest and largest value of each dimension, and is there exactly
    where ``precision`` needs it.
    """

    dimension: int
    normalize: bool
    precision: Precision
    ranges: Ranges | None

    @property
    def width(self) -> int:
        """Columns of the result: bytes for the binary precisions, dimensions otherwise."""
        return -(-self.dimension // 8) if self.precision in ("binary", "ubinary") else self.dimension

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result's values."""
        return np.dtype({"binary": "int8", "ubinary": "uint8"}.get(self.precision, self.precision))

    def __call__(self, outputs: Outputs) -> NDArray[Any]:
        """Turn the graph's vectors (float32 [n, d]) into the result (``dtype`` [n, ``width``])."""
        vectors = outputs[:, : self.dimension]
        if self.normalize:
            vectors = normalize(vectors)
        return quantize(vectors, self.precision, self.ranges)

    @property
    def settings(self) -> dict[str, str]:
        """What the vectors depend on beside the texts and the model."""
        return {
            "dimensions": str(self.dimension),
            "normalize": str(self.normalize),
            "precision": self.precision,
            **({} if self.ranges is None else {"ranges": hashlib.sha256(self.ranges.tobytes()).hexdigest()}),
        }


NORMALIZE = EmbedOption("--normalize", "normalize_embeddings", "bring each dense vector to length 1", is_flag=True)
PRECISION = EmbedOption(
    "--precision",
    "precision",
    "of dense vectors; int8 and uint8 need --ranges, unless the bundle has them; float16 is for tables. Of vectors of "
    "tokens float16, int8, binary and ubinary, without ranges",
    # float16 is no precision of dense vectors in Sentence Transformers: tables have it as a type of numbers.
    choices=(PRECISIONS[0], "float16", *PRECISIONS[1:]),
)


class EmbeddingTask(Task[EmbeddingSection]):
    """Embedding: texts to dense vectors."""

    name = "embedding"
    title = "an embedding model"
    model = "monograph.embedder:Embedder"
    command = "monograph embed"
    output = "sentence_embedding"
    additional_outputs = (TOKEN_EMBEDDINGS, HYBRID_EMBEDDINGS)
    width_field = "dimension"
    section_type = EmbeddingSection
    agreement_type = EmbeddingAgreement
    # bfloat16, which engines take by themselves, has a mean of 0.99999 and a worst of 0.99995 (MiniLM).
    loss_bounds: ClassVar = {
        "lossless": (LossBound("mean_cosine", minimum=0.9999), LossBound("worst_cosine", minimum=0.999)),
        "high": (LossBound("mean_cosine", minimum=0.999), LossBound("worst_cosine", minimum=0.99)),
    }
    embed_options: ClassVar = (
        EmbedOption("--truncate-dim", "truncate_dim", "keep only the first dimensions of a dense vector"),
        NORMALIZE,
        PRECISION,
    )
    takes_ranges = True
    vector_formats = DENSE_FORMATS

    def section_problems(self, section: EmbeddingSection) -> list[str]:
        """Return what is wrong with the values of a section."""
        problems = []
        if section.similarity not in SIMILARITIES:
            problems.append(f"similarity {section.similarity!r} is not one of {', '.join(SIMILARITIES)}")
        if section.dimension < 1:
            problems.append("dimension must be at least 1")
        if section.truncate_dim is not None and section.truncate_dim < 1:
            problems.append("truncate_dim must be at least 1")
        if section.ranges is not None and not all(
            len(row) == section.dimension and all(math.isfinite(x) and abs(x) <= _MAX_FLOAT32 for x in row)
            for row in section.ranges
        ):
            problems.append(f"ranges must be two lists of {section.dimension} numbers")
        if section.token_pooling not in (None, "mean"):
            problems.append(f"token_pooling {section.token_pooling!r} is not 'mean'")
        if section.hybrid is not None and section.hybrid.dimension < 1:
            problems.append("hybrid.dimension must be at least 1")
        return problems

    def additional_width(self, section: EmbeddingSection, output: str) -> int | None:
        """Return the columns of ``hybrid_embeddings``, 0 where the section describes none; None for another output."""
        if output != HYBRID_EMBEDDINGS:
            return None
        return 0 if section.hybrid is None else hybrid_width(section.dimension, section.hybrid.dimension)

    def parts(self, section: EmbeddingSection, output: str | None, outputs: Outputs) -> Sequence[OutputPart]:
        """Return the three parts of ``hybrid_embeddings``, or another output as it is."""
        if output != HYBRID_EMBEDDINGS or section.hybrid is None:
            return super().parts(section, output, outputs)
        width = section.hybrid.dimension
        return (
            OutputPart(DENSE_PART, as_matrices([matrix[:1, : section.dimension] for matrix in outputs])),
            OutputPart("token weights", as_matrices([matrix[1:, -1:] for matrix in outputs]), weights=True),
            OutputPart("token vectors", as_matrices([matrix[1:, :width] for matrix in outputs])),
        )

    def stated_loss(self, compression: CompressionReport) -> Sequence[Mapping[str, Any]]:
        """Return the figures of the vectors of texts, and of what the graph gives for tokens."""
        agreement = compression.agreement
        token_agreements = agreement.of_tokens if isinstance(agreement, EmbeddingAgreement) else None
        return (compression.figures, *map(vars, (token_agreements or {}).values()))

    def describe(self, section: EmbeddingSection) -> list[tuple[str, str]]:
        """Return what `monograph info` prints of a section."""
        length = "unit length" if section.normalized else "not normalized"
        rows = [("embedding", f"{super().describe_output(section)}, {length}, {section.similarity} similarity")]
        if section.truncate_dim:
            rows.append(("truncated to", f"{section.truncate_dim} dimensions by default"))
        if section.hybrid is not None:
            rows.append(("of each token", f"a weight, and a vector of {section.hybrid.dimension} dimensions"))
        return rows

    def describe_output(self, section: EmbeddingSection) -> str:
        """Return what the graph gives, in a few words."""
        dense = super().describe_output(section)
        if section.hybrid is None:
            return dense
        return f"{dense}, and a weight and {section.hybrid.dimension} dimensions for each token ({HYBRID_EMBEDDINGS})"

    def post_process(  # type: ignore[override]
        self,
        section: EmbeddingSection,
        *,
        truncate_dim: int | None = None,
        normalize_embeddings: bool = False,
        precision: str | None = "float32",
        ranges: ArrayLike | None = None,
    ) -> VectorPostProcess:
        """Check the options of a call against the model and return what follows the graph.

        Raises:
            InputError: an option is unknown or does not fit the model.

        """
        precision = "float32" if precision is None else precision
        if not isinstance(precision, str) or precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        normalize_embeddings = check_flag(normalize_embeddings, "normalize_embeddings")
        dimension = section.dimension
        truncated = section.truncate_dim if truncate_dim is None else truncate_dim
        if truncated is not None:
            dimension = min(check_count(truncated, "truncate_dim"), dimension)
        if precision not in SCALAR_PRECISIONS:
            return VectorPostProcess(dimension, normalize_embeddings, precision, None)
        # The bundle's ranges were taken from whole vectors as the graph gives them.
        if ranges is None and dimension == section.dimension and (section.normalized or not normalize_embeddings):
            ranges = section.ranges
        if ranges is None:
            raise InputError(
                f"precision {precision!r} needs ranges= (--ranges FILE.npy), the smallest and largest value of each "
                f"dimension as an array [2, {dimension}]: numpy.stack([sample.min(0), sample.max(0)]) of vectors of "
                "your own texts"
            )
        return VectorPostProcess(dimension, normalize_embeddings, precision, check_ranges(ranges, dimension))


EMBEDDING = TASK = EmbeddingTask()


def hybrid_width(dimension: int, token_dimension: int) -> int:
    """Return the columns of ``hybrid_embeddings``.

    A text's first row holds its own vector, of ``dimension`` values; the others each a token's vector, of
    ``token_dimension`` values, and in the last column its weight.
    """
    return max(dimension, token_dimension) + 1


def quantize(vectors: NDArray[np.float32], precision: Precision, ranges: Ranges | None) -> NDArray[Any]:
    """Return the vectors at a lower precision, bit for bit as ``quantize_embeddings`` of Sentence Transformers.

    ``vectors`` is float32 [n, d]; the result is int8 or uint8 [n, d] for "int8" and "uint8", and one bit a
    dimension, [n, ceil(d / 8)], for "binary" (int8) and "ubinary" (uint8). ``ranges`` is float32 [2, d].

    Raises:
        InputError: ``precision`` needs ranges, and there are none.

    """
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        # int8 is the unsigned byte less 128, that is, with its highest bit inverted.
        return (bits ^ 0x80).view(np.int8) if precision == "binary" else bits
    if ranges is None:
        raise InputError(f"precision {precision!r} needs ranges")
    steps = (ranges[1] - ranges[0]) / 255
    steps = np.where(steps == 0, 1, steps)
    levels = np.clip(np.floor((vectors - ranges[0]) / steps), 0, 255)
    return np.asarray(levels, dtype=np.uint8) if precision == "uint8" else np.asarray(levels - 128, dtype=np.int8)


def check_ranges(ranges: Any, dimension: int) -> Ranges:
    """Return the smallest and largest value of each dimension, an array or tensor, as float32 [2, ``dimension``].

    Raises:
        InputError: they have another shape, or are not finite numbers.

    """
    array = check_vectors(ranges, "ranges")
    if array.shape != (2, dimension):
        raise InputError(f"ranges must have the shape (2, {dimension}), got {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError("ranges must be finite numbers")
    return array
