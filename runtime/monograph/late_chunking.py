"""Late chunking: a long text is computed as a whole, and then a vector is pooled for each of its parts.

A token so has a vector that knows what the parts before and after say.

Source: Günther et al., "Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models" (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monograph.errors import InputError
from monograph.inference.pipeline import Pipeline
from monograph.inputs import check_count
from monograph.tokenization import TextWithOffsets, TokenizedTexts

# The first character of a part, and the one after the last.
Span = tuple[int, int]
Chunker = Callable[[str], Sequence[Span]]
# Of a window, the part that it has in common with the next.
_OVERLAP_SHARE = 4
_LONGEST_WITHOUT_LIMIT = 8192


def pool_spans(
    pipeline: Pipeline, text: str, chunks: Sequence[Span] | Chunker, prompt: str = "", overlap: int | None = None
) -> NDArray[np.float32]:
    """Return the mean vector of the tokens of each part of a text, float32 [k, width].

    ``pipeline`` gives the vectors of tokens; ``overlap`` are the tokens that windows share, None for a quarter.

    Raises:
        InputError: a part is not a pair of characters of the text, or has no token; or the overlap is no number of
            tokens below that of a window.

    """
    spans = _check_spans(chunks(text) if callable(chunks) else chunks, len(text))
    tokens = pipeline.tokenizer.with_offsets(prompt + text)
    if int(tokens.ids.max(initial=0)) >= pipeline.specification.vocabulary_size:
        name = pipeline.tokenizer.token(int(tokens.ids.max()))
        raise InputError(f"the text holds the token {name!r}, for which this model has no embedding: take it out")
    room = (pipeline.tokenizer.max_length or _LONGEST_WITHOUT_LIMIT) - len(tokens.before) - len(tokens.after)
    vectors = _token_vectors(pipeline, tokens, list(windows(len(tokens.ids), room, _check_overlap(overlap, room))))
    # A token may have no character, as one that only marks the beginning of a word.
    begins, ends = (tokens.offsets - len(prompt)).T
    pooled = np.empty((len(spans), pipeline.runner.output_width), dtype=np.float32)
    for place, (begin, end) in enumerate(spans):
        within = (begins < ends) & (ends > begin) & (ends <= end)
        if not within.any():
            raise InputError(f"chunks[{place}], {text[begin:end][:40]!r}, has no token: leave it out")
        pooled[place] = vectors[within].mean(axis=0, dtype=np.float64)
    return pooled


def windows(count: int, room: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield windows of at most ``room`` of ``count`` tokens: begin and end, and of which tokens the vectors are taken.

    Neighbours have ``overlap`` tokens in common, the last two maybe more, and the middle of these is where the vectors
    of one end and those of the other begin.
    """
    starts = [0]
    while starts[-1] + room < count:
        starts.append(min(starts[-1] + room - overlap, count - room))
    edges = [0, *((second + first + room + 1) // 2 for first, second in pairwise(starts)), count]
    for place, start in enumerate(starts):
        yield start, min(start + room, count), edges[place], edges[place + 1]


def _token_vectors(
    pipeline: Pipeline, tokens: TextWithOffsets, parts: Sequence[tuple[int, int, int, int]]
) -> NDArray[np.float32]:
    """Return the vector of each token of a text, float32 [t, width], computed in windows."""
    framed = [np.concatenate((tokens.before, tokens.ids[begin:end], tokens.after)) for begin, end, _, _ in parts]
    ids = np.concatenate(framed).astype(np.int64)
    starts = np.concatenate(([0], np.cumsum([len(one) for one in framed])))
    matrices = pipeline.compute(TokenizedTexts(ids, np.zeros_like(ids), starts))
    vectors = np.empty((len(tokens.ids), pipeline.runner.output_width), dtype=np.float32)
    offset = len(tokens.before)
    for matrix, (begin, _, first, last) in zip(matrices, parts, strict=True):
        vectors[first:last] = matrix[offset + first - begin : offset + last - begin]
    return vectors


def _check_spans(spans: Sequence[Span], length: int) -> list[Span]:
    checked = []
    for place, span in enumerate(spans):
        try:
            begin, end = span
            begin, end = int(begin), int(end)
        except (TypeError, ValueError) as error:
            raise InputError(f"chunks[{place}] must be a pair of characters, begin and end, got {span!r}") from error
        if not 0 <= begin < end <= length:
            raise InputError(f"chunks[{place}] is {begin} to {end}, and the text has {length} characters")
        checked.append((begin, end))
    return checked


def _check_overlap(overlap: int | None, room: int) -> int:
    if overlap is None:
        return room // _OVERLAP_SHARE
    if isinstance(overlap, int) and overlap == 0:
        return 0
    return check_count(overlap, "overlap", room - 1)
