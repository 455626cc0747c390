"""The vectors that torch gives for the texts a bundle is verified with, and for any others."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from monograph.bundle import Probes
from monograph.errors import ExportError, first_line
from monograph_export.probe_texts import probe_texts


def make_probes(model: SentenceTransformer) -> Probes:
    """Return texts of many languages, oddities and lengths with the reference for each.

    The reference is the model itself, each text alone: float32 [n, d], before any truncation of dimensions.

    Raises:
        ExportError: torch cannot run the model, or gives vectors that are not finite.

    """
    texts = probe_texts(model.tokenizer.backend_tokenizer, model.max_seq_length)
    vectors = reference_vectors(model, texts)
    check_finite(vectors)
    counts = tuple(int(model.preprocess([text])["input_ids"].shape[1]) for text in texts)
    return Probes(tuple(texts), counts, vectors)


def check_finite(vectors: NDArray[np.float32]) -> None:
    """Refuse reference vectors, float32 [n, d], that are not numbers.

    Raises:
        ExportError: one is not finite.

    """
    if not np.isfinite(vectors).all():
        raise ExportError(
            "torch itself gives vectors that are not finite: the checkpoint is damaged, or with --precision fp16 its "
            "values pass what float16 holds"
        )


def reference_vectors(model: SentenceTransformer, texts: list[str], batch_size: int = 1) -> NDArray[np.float32]:
    """Return what sentence-transformers gives for each text, alone or in padded batches, float32 [n, d]."""
    with torch.inference_mode(), model.truncate_embeddings(None):
        try:
            # An empty prompt, so that the model's default prompt is not added.
            vectors = model.encode(texts, prompt="", batch_size=batch_size, show_progress_bar=False)
        except Exception as error:
            raise ExportError(
                f"torch cannot run the model on texts of up to its maximum length: {first_line(error)}"
            ) from error
    return np.asarray(vectors, dtype=np.float32)
