"""Which task a checkpoint is of. Reads its settings and loads nothing."""

from __future__ import annotations

from pathlib import Path

from monograph.bundle.manifest import EMBEDDING, RERANK, SPARSE
from monograph.errors import ExportError
from monograph_export.checkpoint.layout import read_object

CLASSIFIER = "ForSequenceClassification"
_GENERATIVE = "ForCausalLM"
_MASKED_LM = "ForMaskedLM"
_MODEL_TYPES = {"CrossEncoder": RERANK, "SparseEncoder": SPARSE}
# What a model of each task is called.
KINDS = {EMBEDDING: "an embedding model", RERANK: "a cross-encoder", SPARSE: "a sparse encoder"}


def task_of_folder(folder: Path, asked: str | None) -> str:
    """Return the task of a checkpoint folder: "rerank" for a cross-encoder, "sparse" for a sparse encoder.

    Both say so in config_sentence_transformers.json; older cross-encoders are transformers' classifiers and nothing
    else. All else is "embedding", and a bare model of masked words too unless it is ``asked`` for as a sparse encoder.
    What is none of them is refused when its layout is read, and so is a bare generative model that is ``asked`` to
    rerank, for which sentence-transformers would make a score of its next token.

    Raises:
        ExportError: a file of it cannot be read.

    """
    settings = folder / "config_sentence_transformers.json"
    model_type = read_object(settings).get("model_type") if settings.exists() else None
    if model_type in _MODEL_TYPES:
        return _MODEL_TYPES[model_type]
    if (folder / "modules.json").exists() or not (folder / "config.json").exists():
        return EMBEDDING
    architectures = architectures_of(folder)
    if asked == SPARSE and any(name.endswith(_MASKED_LM) for name in architectures):
        return SPARSE
    kinds = (CLASSIFIER, _GENERATIVE) if asked == RERANK else (CLASSIFIER,)
    return RERANK if any(name.endswith(kinds) for name in architectures) else EMBEDDING


def architectures_of(folder: Path) -> list[str]:
    """Return the classes of transformers that a folder's config.json names.

    Raises:
        ExportError: the file cannot be read.

    """
    return [str(name) for name in read_object(folder / "config.json").get("architectures") or ()]


def check_asked(name: object, found: str, asked: str | None) -> None:
    """Compare the task of a checkpoint with the one that is asked for, None for whichever it is.

    Raises:
        ExportError: it is of another.

    """
    if asked not in (None, found):
        raise ExportError(f"{name} is {KINDS[found]}, not {KINDS[str(asked)]}: leave out --task, or give {found!r}")
