"""What forms of a sparse encoder are made of: a masked language model with SPLADE's pooling behind it."""

from __future__ import annotations

import shutil
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

# The transformer is a class of its own in the spelling of sentence-transformers 5.
_KNOWN = (["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"])


def sparse_source(checkpoint: Path) -> FormSource:
    """Return the source of forms of a sparse encoder's folder.

    Raises:
        CheckpointError: a file is missing or malformed, or there are other modules.

    """
    listing = checkpoint / "modules.json"
    if not listing.exists():
        raise CheckpointError(f"{checkpoint} has no modules.json: it is not a sparse encoder")
    modules = read_listing(listing)
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    places = [str(module.get("path", "")) for module in modules]
    if kinds not in _KNOWN or places[0] not in ("", "."):
        raise CheckpointError(
            f"{listing} lists {', '.join(kinds)}: peers load a sparse encoder that is a Transformer with SpladePooling"
        )
    transformer = Module(kinds[0], checkpoint, read_object(checkpoint / TRANSFORMER_SETTINGS))
    write = partial(_write, checkpoint, places[1], max_length_of(transformer))
    return FormSource(checkpoint, checkpoint, "fill-mask", write)


def _write(checkpoint: Path, pooling: str, max_length: int, folder: Path) -> None:
    write_tokenizer(checkpoint, max_length, folder)
    # As they are: the peers' release reads what this one writes.
    shutil.copyfile(checkpoint / "modules.json", folder / "modules.json")
    (folder / pooling).mkdir(parents=True)
    shutil.copyfile(checkpoint / pooling / "config.json", folder / pooling / "config.json")
