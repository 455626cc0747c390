"""Outputs with a vector for each token: which tokens a text has, and which of their vectors are returned.

A batch's output is one array, padded, and a text's is a matrix of its own. Matrices of different length go through the
pipeline as an array of objects [n], which is sliced, scattered and joined as an array of rows is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from monograph.bundle.manifest import Expansion, TokenizerSpec
from monograph.tasks.base import as_matrices
from monograph.tokenization import TokenizedTexts

Matrices = NDArray[np.object_]


def choose_tokens(tokens: TokenizedTexts, specification: TokenizerSpec) -> TokenizedTexts:
    """Return texts with the tokens that a model of token vectors adds, and without the vectors that it leaves out."""
    if specification.expansion is not None:
        tokens = expand(tokens, specification.expansion)
    if specification.skipped_ids:
        tokens = replace(tokens, in_output=~np.isin(tokens.ids, specification.skipped_ids))
    return tokens


def expand(tokens: TokenizedTexts, expansion: Expansion) -> TokenizedTexts:
    """Return texts filled up to the length of an expansion, at their end; longer ones remain as they are."""
    lengths = tokens.lengths
    starts = np.concatenate(([0], np.cumsum(np.maximum(lengths, expansion.length))))
    # Where the tokens of the texts are in the longer row of all.
    places = np.arange(len(tokens.ids)) + np.repeat(starts[:-1] - tokens.starts[:-1], lengths)
    ids = np.full(starts[-1], expansion.id, dtype=np.int64)
    type_ids = np.zeros_like(ids)
    attention = np.full_like(ids, int(expansion.attended))
    ids[places], type_ids[places], attention[places] = tokens.ids, tokens.type_ids, 1
    return replace(tokens, ids=ids, type_ids=type_ids, starts=starts, attention=attention)


def split_by_text(outputs: NDArray[np.float32], tokens: TokenizedTexts, rows: NDArray[np.intp]) -> Matrices:
    """Return the matrices of the texts ``rows`` (intp [b]), each float32 [tokens, d], of a batch [b, s, d].

    They hold copies, for a view would keep the padded batch alive.
    """
    parts = []
    for padded, start, end in zip(outputs, tokens.starts[rows], tokens.starts[rows + 1], strict=True):
        whole = padded[: end - start]
        parts.append(whole.copy() if tokens.in_output is None else whole[tokens.in_output[start:end]])
    return as_matrices(parts)
