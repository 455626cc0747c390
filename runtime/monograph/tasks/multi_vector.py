"""The task "multi_vector": a vector for each token of a text, compared by late interaction (ColBERT)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError
from monograph.inputs import check_flag
from monograph.maxsim import MAXSIM_FUNCTIONS
from monograph.similarity import normalize
from monograph.tasks.base import EmbedOption, LossBound, Outputs, Task, scatter_rows
from monograph.tasks.embedding import NORMALIZE, PRECISION, VectorAgreement, quantize
from monograph.token_pooling import import_scipy_clusters, pool_tokens
from monograph.vector_file.formats import TOKEN_FORMATS

TokenPrecision = Literal["float32", "float16", "int8", "binary", "ubinary"]
TOKEN_PRECISIONS: tuple[TokenPrecision, ...] = ("float32", "float16", "int8", "binary", "ubinary")
# What a value of 1, the largest of a vector of unit length, becomes as int8.
_INT8_LEVELS = 127
# Python's and NumPy's.
_COUNTS = (int, np.integer)
_NUMBERS = (*_COUNTS, float, np.floating)
POOL_FACTOR = EmbedOption(
    "--pool-factor",
    "pool_factor",
    "of multi-vector encoders: divide the number of a document's vectors by this, usually 2 to 4, by replacing similar "
    "ones by their mean; default: 1. Needs the extra sparse",
    is_factor=True,
)


@dataclass(frozen=True)
class MultiVectorSection:
    """The vectors of a multi-vector encoder: one of ``dimension`` values for each token.

    ``normalized`` says whether they have unit length; ``similarity`` is "maxsim", or "meanmaxsim", which divides by the
    number of the query's vectors.
    """

    dimension: int
    normalized: bool
    similarity: str


@dataclass(frozen=True)
class MultiVectorAgreement(VectorAgreement):
    """The agreement of two models' token vectors of the same texts.

    The cosines are those of a token's two vectors, averaged over each text: MaxSim is a sum over tokens. The other
    figures are those of MaxSim, with each text as a query among the others.
    """

    def describe(self) -> str:
        """Return the figures in words."""
        return f"{super().describe()} (by MaxSim; a text's cosine is the mean over its tokens)"


@dataclass(frozen=True)
class TokenPostProcess:
    """Normalize, pool and quantize the vectors of each text's tokens.

    ``pool_factor`` and ``protected_tokens`` are those of ``pool_tokens``; 1 for no pooling.
    """

    dimension: int
    normalize: bool
    precision: TokenPrecision
    pool_factor: float = 1.0
    protected_tokens: int = 1

    @property
    def width(self) -> int:
        """Columns of a token's vector: bytes for the binary precisions, dimensions otherwise."""
        return -(-self.dimension // 8) if self.precision in ("binary", "ubinary") else self.dimension

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the vectors' values."""
        return np.dtype({"binary": "int8", "ubinary": "uint8"}.get(self.precision, self.precision))

    def __call__(self, outputs: Outputs) -> Outputs:
        """Turn the matrices of texts (objects [n] of float32 [tokens, d]) into those of the precision."""
        results = np.empty(len(outputs), dtype=np.object_)
        for position, matrix in enumerate(outputs):
            vectors = normalize(matrix) if self.normalize else matrix
            if self.pool_factor > 1:
                vectors = pool_tokens(vectors, self.pool_factor, self.protected_tokens)
            results[position] = quantize_tokens(vectors, self.precision)
        return results

    def collect(self, parts: Iterable[tuple[NDArray[np.intp], Outputs]], count: int) -> Outputs:
        """Return the matrices of ``count`` texts in order from parts, each with the positions of its texts."""
        return scatter_rows(parts, (count,), np.object_)

    def take(self, results: Outputs, positions: NDArray[np.intp]) -> Outputs:
        """Return the matrices at some positions (intp [n]); one that repeats is copied."""
        taken = results[positions]
        seen = set[int]()
        for place, position in enumerate(positions.tolist()):
            if position in seen:
                taken[place] = taken[place].copy()
            seen.add(position)
        return taken

    @property
    def settings(self) -> dict[str, str]:
        """What the vectors depend on beside the texts and the model."""
        pooled = {"pooling": f"{self.pool_factor:g}, {self.protected_tokens} protected"} if self.pool_factor > 1 else {}
        return {"normalize": str(self.normalize), "precision": self.precision, **pooled}


class MultiVectorTask(Task[MultiVectorSection]):
    """Multi-vector encoding: texts to a vector for each token."""

    name = "multi_vector"
    title = "a multi-vector encoder"
    model = "monograph.multi_vector_encoder:MultiVectorEncoder"
    command = "monograph rank"
    output = "token_embeddings"
    width_field = "dimension"
    per_token = True
    section_type = MultiVectorSection
    agreement_type = MultiVectorAgreement
    embed_options: ClassVar = (NORMALIZE, PRECISION, POOL_FACTOR)
    vector_formats = TOKEN_FORMATS
    loss_bounds: ClassVar = {
        "lossless": (LossBound("mean_cosine", minimum=0.9999), LossBound("spearman", minimum=0.999)),
        "high": (LossBound("mean_cosine", minimum=0.999), LossBound("spearman", minimum=0.99)),
    }

    def section_problems(self, section: MultiVectorSection) -> list[str]:
        """Return what is wrong with the values of a section."""
        problems = []
        if section.similarity not in MAXSIM_FUNCTIONS:
            problems.append(f"similarity {section.similarity!r} is not one of {', '.join(MAXSIM_FUNCTIONS)}")
        if section.dimension < 1:
            problems.append("dimension must be at least 1")
        return problems

    def describe(self, section: MultiVectorSection) -> list[tuple[str, str]]:
        """Return what `monograph info` prints of a section."""
        length = "unit length" if section.normalized else "not normalized"
        return [("multi-vector", f"{self.describe_output(section)}, {length}, {section.similarity} similarity")]

    def describe_output(self, section: MultiVectorSection) -> str:
        """Return what the graph gives, in a few words."""
        return f"{section.dimension} dimensions for each token"

    def post_process(  # type: ignore[override]
        self,
        section: MultiVectorSection,
        *,
        normalize_embeddings: bool = False,
        precision: str | None = "float32",
        pool_factor: float = 1,
        protected_tokens: int = 1,
    ) -> TokenPostProcess:
        """Check the options of a call against the model and return what follows the graph.

        Raises:
            InputError: an option is unknown, or int8 or pooling is requested of vectors that have not unit length.
            MonographError: pooling is requested, and SciPy is not installed.

        """
        precision = "float32" if precision is None else precision
        if not isinstance(precision, str) or precision not in TOKEN_PRECISIONS:
            raise InputError(f"precision {precision!r} is not one of {', '.join(TOKEN_PRECISIONS)}")
        normalizes = check_flag(normalize_embeddings, "normalize_embeddings")
        if precision == "int8" and not (section.normalized or normalizes):
            raise InputError(
                "precision 'int8' is for vectors of unit length, and this model's are not: add "
                "normalize_embeddings=True (--normalize), or choose float16"
            )
        factor, protected = _check_pooling(pool_factor, protected_tokens)
        if factor > 1 and not (section.normalized or normalizes):
            raise InputError(
                "pool_factor is for vectors of unit length, and this model's are not: add normalize_embeddings=True "
                "(--normalize)"
            )
        return TokenPostProcess(section.dimension, normalizes and not section.normalized, precision, factor, protected)


MULTI_VECTOR = TASK = MultiVectorTask()


def _check_pooling(pool_factor: object, protected_tokens: object) -> tuple[float, int]:
    """Return checked options of pooling; raise ``MonographError`` where it is requested without SciPy."""
    if isinstance(pool_factor, bool) or not isinstance(pool_factor, _NUMBERS) or not 1 <= pool_factor < math.inf:
        raise InputError(f"pool_factor must be a number of at least 1, got {pool_factor!r}")
    if isinstance(protected_tokens, bool) or not isinstance(protected_tokens, _COUNTS) or protected_tokens < 0:
        raise InputError(f"protected_tokens must be a number of tokens, 0 or more, got {protected_tokens!r}")
    if pool_factor > 1:
        # At the call, and not after the first batch.
        import_scipy_clusters()
    return float(pool_factor), int(protected_tokens)


def quantize_tokens(vectors: NDArray[np.float32], precision: TokenPrecision) -> NDArray[Any]:
    """Return token vectors, float32 [tokens, d], at a precision.

    float16 [tokens, d]; int8 [tokens, d], where 1 becomes 127; one bit a dimension, whether it is above 0, as int8
    (binary) or uint8 (ubinary) [tokens, ceil(d / 8)].
    """
    if precision == "float16":
        # Of values that float16 does not hold the nearest: infinity has no MaxSim.
        limit = np.finfo(np.float16).max
        return np.clip(vectors, -limit, limit).astype(np.float16)
    if precision == "int8":
        return np.clip(np.rint(vectors * _INT8_LEVELS), -_INT8_LEVELS, _INT8_LEVELS).astype(np.int8)
    return quantize(vectors, precision, None)


def dequantize_tokens(matrix: NDArray[Any], dimension: int) -> NDArray[np.float32]:
    """Return token vectors at any precision of ``quantize_tokens``, [tokens, columns], as float32 [tokens, d].

    ``dimension`` is d. Bits count as 1 and -1, at unit length.
    """
    if matrix.dtype == np.int8 and matrix.shape[1] == dimension:
        return np.asarray(matrix / np.float32(_INT8_LEVELS), dtype=np.float32)
    if matrix.dtype in (np.int8, np.uint8) and matrix.shape[1] == -(-dimension // 8):
        # int8 is the byte less 128, that is, with its highest bit inverted.
        packed = matrix.view(np.uint8) ^ np.uint8(0 if matrix.dtype == np.uint8 else 0x80)
        bits = np.unpackbits(packed, axis=1, count=dimension).astype(np.float32)
        return np.asarray((2 * bits - 1) / np.sqrt(np.float32(dimension)), dtype=np.float32)
    return np.asarray(matrix, dtype=np.float32)
