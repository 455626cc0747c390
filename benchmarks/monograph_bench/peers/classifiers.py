"""What forms of a cross-encoder are made of: a classifier of transformers, with nothing behind it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from monograph_bench.peers.forms import FormSource
from monograph_bench.peers.modules import (
    TRANSFORMER_SETTINGS,
    CheckpointError,
    Module,
    max_length_of,
    read_listing,
    read_object,
)
from monograph_bench.peers.settings import write_tokenizer

_KIND = "Transformer"


def classifier_source(checkpoint: Path) -> FormSource:
    """Return the source of forms of a cross-encoder's folder, in the old spelling of its files or the new one.

    The form has no modules.json: without one every release of sentence-transformers loads a classifier.

    Raises:
        CheckpointError: a file is missing or malformed, or there are other modules than one transformer.

    """
    listing = checkpoint / "modules.json"
    kinds = [str(item["type"]).rsplit(".", 1)[-1] for item in read_listing(listing)] if listing.exists() else [_KIND]
    if kinds != [_KIND]:
        raise CheckpointError(f"{listing} lists {', '.join(kinds)}: peers load a cross-encoder that is one Transformer")
    if not (checkpoint / "config.json").exists():
        raise CheckpointError(f"{checkpoint} has no config.json: it is not a cross-encoder")
    transformer = Module(_KIND, checkpoint, read_object(checkpoint / TRANSFORMER_SETTINGS))
    write = partial(write_tokenizer, checkpoint, max_length_of(transformer))
    return FormSource(checkpoint, checkpoint, "text-classification", write)
