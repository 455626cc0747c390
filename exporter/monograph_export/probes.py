"""The vectors that torch gives for the texts a bundle is verified with, and for any others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SparseEncoder

from monograph.bundle import Probes
from monograph.errors import ExportError, first_line
from monograph_export.checkpoint.loaded_tokenizer import pools_without_prompt, token_ids, tokenizer_of
from monograph_export.checkpoint.routes import VectorModel
from monograph_export.checkpoint.rust_tokenizer import max_length_of
from monograph_export.probe_texts import probe_texts, short_probe_texts

# Put before texts of models that leave prompts out of their pooling and bring none.
_PROMPT = "Represent the sentence: "


def make_probes(model: VectorModel, route: str | None) -> list[Probes]:
    """Return texts of many languages, oddities and lengths with the reference for each.

    The reference is the model itself, each text alone: float32 [n, d], before any truncation of dimensions. A model
    that leaves prompts out of its pooling has a second set, with a prompt.

    Raises:
        ExportError: torch cannot run the model, or gives vectors that are not finite.

    """
    tokenizer = tokenizer_of(model)
    sets = [_probes(model, route, "", probe_texts(tokenizer, max_length_of(tokenizer)))]
    if pools_without_prompt(model):
        prompt = next(filter(None, model.prompts.values()), _PROMPT)
        sets.append(_probes(model, route, prompt, short_probe_texts()))
    return sets


def _probes(model: VectorModel, route: str | None, prompt: str, texts: list[str]) -> Probes:
    vectors = reference_vectors(model, texts, prompt=prompt)
    check_finite(vectors)
    counts = tuple(len(token_ids(model, prompt + text)) for text in texts)
    return Probes(tuple(texts), counts, vectors, route, prompt)


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


def reference_vectors(
    model: VectorModel, texts: list[str], batch_size: int = 1, prompt: str = ""
) -> NDArray[np.float32]:
    """Return what sentence-transformers gives for each text, alone or in padded batches, float32 [n, d].

    The model's own default prompt is not added, and its vectors are whole.
    """
    with torch.inference_mode(), _whole_vectors(model):
        try:
            vectors = model.encode(
                texts, prompt=prompt, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True
            )
        except Exception as error:
            raise ExportError(
                f"torch cannot run the model on texts of up to its maximum length: {first_line(error)}"
            ) from error
        return np.asarray(vectors.to_dense(), dtype=np.float32).reshape(len(texts), -1)


@contextmanager
def _whole_vectors(model: VectorModel) -> Iterator[None]:
    """Have a model give its vectors as they leave the last module."""
    if not isinstance(model, SparseEncoder):
        with model.truncate_embeddings(None):
            yield
        return
    most, model.max_active_dims = model.max_active_dims, None
    try:
        yield
    finally:
        model.max_active_dims = most
