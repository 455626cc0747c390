"""The logits that torch gives for the pairs a bundle is verified with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from monograph.bundle import Probes
from monograph.errors import ExportError, first_line
from monograph.inputs import Pair
from monograph_export.checkpoint.loaded_tokenizer import token_ids, tokenizer_of
from monograph_export.checkpoint.rust_tokenizer import max_length_of
from monograph_export.probe_texts import probe_pairs
from monograph_export.probes import check_finite


def make_pair_probes(model: CrossEncoder) -> Probes:
    """Return pairs of many languages, oddities and lengths with the logits of each, computed alone.

    Raises:
        ExportError: torch cannot run the model, or gives logits that are not finite.

    """
    tokenizer = tokenizer_of(model)
    pairs = probe_pairs(tokenizer, max_length_of(tokenizer))
    logits = reference_logits(model, pairs)
    check_finite(logits)
    return Probes(tuple(pairs), tuple(len(token_ids(model, pair)) for pair in pairs), logits)


def reference_logits(model: CrossEncoder, pairs: Sequence[Pair], batch_size: int = 1) -> NDArray[np.float32]:
    """Return what sentence-transformers gives for each pair before any activation, float32 [n, labels].

    Each is computed alone, or in padded batches.
    The model's own default prompt is not added.
    """
    try:
        logits = model.predict(
            list(pairs),
            prompt="",
            batch_size=batch_size,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
    except Exception as error:
        raise ExportError(
            f"torch cannot run the model on pairs of up to its maximum length: {first_line(error)}"
        ) from error
    return np.asarray(logits, dtype=np.float32).reshape(len(pairs), -1)
