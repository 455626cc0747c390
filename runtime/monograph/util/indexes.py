"""Search in faiss or usearch, with vectors of lower precision rescored by the queries' floats."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monograph.errors import InputError, first_line
from monograph.inputs import check_count
from monograph.similarity import check_vectors
from monograph.tasks.embedding import SCALAR_PRECISIONS, Precision
from monograph.util.quantization import dequantize, find_ranges, quantize_embeddings
from monograph.util.search import SearchHit
from monograph.util.similarity import Vectors

logger = logging.getLogger(__name__)
_LINKS = 16


@dataclass(frozen=True)
class _Candidates:
    """What an index found: scores, positions, and where there is one, [n, k] each."""

    scores: NDArray[Any]
    positions: NDArray[Any]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class _Index:
    """An index of either library, by what is needed of it.

    ``search`` takes queries at the corpus' precision and a number of hits. ``vectors`` returns what is stored at
    positions [n, k], as [n, k, width].
    """

    index: Any
    search: Callable[[NDArray[Any], int], _Candidates]
    vectors: Callable[[_Candidates], NDArray[Any]]


def semantic_search_faiss(
    query_embeddings: Vectors,
    corpus_embeddings: Vectors | None = None,
    corpus_index: Any = None,
    corpus_precision: Precision = "float32",
    top_k: int = 10,
    ranges: ArrayLike | None = None,
    calibration_embeddings: Vectors | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> tuple[Any, ...]:
    """Search with faiss, in a corpus of "float32", "uint8" or "ubinary" vectors.

    Args:
        query_embeddings: Vectors [n, d]. If they are floats and the corpus is of lower precision, they are quantized
            for the search, and rescore its candidates.
        corpus_embeddings: Vectors [m, d] at ``corpus_precision``; or else:
        corpus_index: An index of such vectors, as a former call returned it.
        corpus_precision: The precision of the corpus.
        top_k: The maximum number of hits for a query.
        ranges: The ranges that the corpus was quantized with, for "uint8"; see ``quantize_embeddings``.
        calibration_embeddings: The vectors that these ranges come from.
        rescore: Rescore ``top_k * rescore_multiplier`` candidates by the product with the query's floats.
        rescore_multiplier: The number of candidates for each hit.
        exact: Compare with all vectors, and not approximately by a graph (HNSW).
        output_index: Also return the index.

    Returns:
        The hits of each query, lists of ``corpus_id`` and ``score``, the closest first, and the seconds that the search
        took; with ``output_index`` the index as well. A score is the dot product with the query's floats; that of a
        search in "ubinary" vectors which is not rescored is the number of bits that differ.

    Raises:
        InputError: an argument is not valid, or faiss is not installed.

    """
    _check_corpus(corpus_embeddings, corpus_index, corpus_precision, ("float32", "uint8", "ubinary"))
    faiss = _import("faiss", "faiss-cpu")
    if corpus_index is None:
        corpus = np.ascontiguousarray(np.atleast_2d(check_vectors(corpus_embeddings, "corpus_embeddings")))
        width = corpus.shape[1]
        if corpus_precision == "ubinary":
            corpus_index = faiss.IndexBinaryFlat(width * 8) if exact else faiss.IndexBinaryHNSW(width * 8, _LINKS)
        elif exact:
            corpus_index = faiss.IndexFlatIP(width)
        else:
            corpus_index = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_INNER_PRODUCT)
        corpus_index.add(corpus)

    def search(queries: NDArray[Any], count: int) -> _Candidates:
        scores, positions = corpus_index.search(queries, count)
        # Where there are fewer vectors, faiss fills up with -1.
        return _Candidates(scores, positions, positions != -1)

    def vectors(found: _Candidates) -> NDArray[Any]:
        # Zeros where there is no vector.
        width, dtype = (
            (corpus_index.d // 8, np.uint8) if corpus_precision == "ubinary" else (corpus_index.d, np.float32)
        )
        stored = np.zeros((*found.positions.shape, width), dtype)
        for place in np.argwhere(found.valid):
            stored[tuple(place)] = corpus_index.reconstruct(int(found.positions[tuple(place)]))
        return stored

    index = _Index(corpus_index, search, vectors)
    limits = (top_k, rescore_multiplier)
    return _search(
        index, query_embeddings, corpus_precision, limits, ranges, calibration_embeddings, rescore, output_index
    )


def semantic_search_usearch(
    query_embeddings: Vectors,
    corpus_embeddings: Vectors | None = None,
    corpus_index: Any = None,
    corpus_precision: Precision = "float32",
    top_k: int = 10,
    ranges: ArrayLike | None = None,
    calibration_embeddings: Vectors | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 2,
    exact: bool = True,
    output_index: bool = False,
) -> tuple[Any, ...]:
    """Search with usearch, in a corpus of "float32", "int8", "binary" or "ubinary" vectors.

    The arguments, results and errors are those of ``semantic_search_faiss``, with "int8" in place of "uint8", and
    other scores: what is not rescored, and that is every search in "float32", has usearch's distance as score, of which
    the lowest is the closest. It is 1 less the cosine for "float32", 1 less the dot product for "int8", and the number
    of bits that differ for "binary" and "ubinary".
    """
    _check_corpus(corpus_embeddings, corpus_index, corpus_precision, ("float32", "int8", "ubinary", "binary"))
    usearch = _import("usearch.index", "usearch")
    is_binary = corpus_precision in ("binary", "ubinary")
    if corpus_index is None:
        corpus = np.ascontiguousarray(np.atleast_2d(check_vectors(corpus_embeddings, "corpus_embeddings")))
        metric, dtype = {"float32": ("cos", "f32"), "int8": ("ip", "i8")}.get(corpus_precision, ("hamming", "b1"))
        corpus_index = usearch.Index(ndim=corpus.shape[1] * (8 if is_binary else 1), metric=metric, dtype=dtype)
        corpus_index.add(np.arange(len(corpus)), _bytes(corpus, corpus_precision))

    def search(queries: NDArray[Any], count: int) -> _Candidates:
        matches = corpus_index.search(_bytes(queries, corpus_precision), count=count, exact=exact)
        scores, positions = np.atleast_2d(matches.distances), np.atleast_2d(matches.keys)
        # The number of hits of each query; a single one has no padding.
        counts: NDArray[Any] = np.reshape(np.asarray(getattr(matches, "counts", positions.shape[1])), (-1, 1))
        return _Candidates(scores, positions, np.arange(positions.shape[1]) < counts)

    def vectors(found: _Candidates) -> NDArray[Any]:
        # Any vector where there is none, for it is not rescored.
        known = np.where(found.valid, found.positions, found.positions[found.valid][:1])
        stored = np.array([corpus_index.get(row) for row in known])
        return stored.view(np.uint8) if is_binary else stored

    index = _Index(corpus_index, search, vectors)
    limits = (top_k, rescore_multiplier)
    return _search(
        index, query_embeddings, corpus_precision, limits, ranges, calibration_embeddings, rescore, output_index
    )


def _search(
    index: _Index,
    query_embeddings: Vectors,
    precision: Precision,
    limits: tuple[int, int],
    ranges: ArrayLike | None,
    calibration_embeddings: Vectors | None,
    rescore: bool,
    output_index: bool,
) -> tuple[Any, ...]:
    top_k, multiplier = check_count(limits[0], "top_k"), check_count(limits[1], "rescore_multiplier")
    queries = np.atleast_2d(check_vectors(query_embeddings, "query_embeddings"))
    are_floats = queries.dtype.kind == "f"
    rescoring = rescore and are_floats and precision != "float32"
    if rescore and not rescoring:
        logger.warning("rescore needs queries of floats and a corpus of lower precision: nothing is rescored")
    levels = None
    if are_floats and precision in SCALAR_PRECISIONS:
        levels = find_ranges(queries, precision, ranges, calibration_embeddings)
    searched = quantize_embeddings(queries, precision, levels) if are_floats else queries
    start = time.perf_counter()
    found = index.search(searched, top_k * multiplier if rescoring else top_k)
    if rescoring and found.valid.any():
        found = _rescore(found, queries, _values(index.vectors(found), precision, queries.shape[1], levels), top_k)
    seconds = time.perf_counter() - start
    hits: list[list[SearchHit]] = [
        [
            {"corpus_id": int(position), "score": float(score)}
            for score, position, valid in zip(*row, strict=True)
            if valid
        ]
        for row in zip(found.scores, found.positions, found.valid, strict=True)
    ]
    return (hits, seconds, index.index) if output_index else (hits, seconds)


def _rescore(found: _Candidates, queries: NDArray[Any], values: NDArray[Any], top_k: int) -> _Candidates:
    """Order what was found by the product of the query's floats [n, d] with the stored values [n, k, d]."""
    scores = np.where(found.valid, np.einsum("nd,nkd->nk", queries, values).astype(np.float64), -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return _Candidates(
        np.take_along_axis(scores, order, axis=1),
        np.take_along_axis(found.positions, order, axis=1),
        np.take_along_axis(found.valid, order, axis=1),
    )


def _values(
    stored: NDArray[Any], precision: Precision, dimension: int, ranges: NDArray[np.float32] | None
) -> NDArray[Any]:
    """Return the numbers [n, k, d] that stored vectors stand for: bits, or the values of levels."""
    if ranges is not None:
        return dequantize(stored, precision, ranges)
    # Bits behind the last dimension fill its byte.
    return np.unpackbits(stored, axis=-1)[..., :dimension]


def _bytes(vectors: NDArray[Any], precision: Precision) -> NDArray[Any]:
    """Return vectors as usearch reads them; "binary" is the unsigned byte less 128."""
    return vectors.view(np.uint8) ^ 0x80 if precision == "binary" else vectors


def _check_corpus(embeddings: Vectors, index: Any, precision: str, supported: tuple[str, ...]) -> None:
    if (embeddings is None) == (index is None):
        raise InputError("give either corpus_embeddings or corpus_index")
    if precision not in supported:
        raise InputError(f"corpus_precision {precision!r} is not one of {', '.join(supported)}")


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        problem = first_line(error)
        raise InputError(
            f"this search needs {package} ({problem}): pip install {package}, or take semantic_search"
        ) from error
