"""What a checkpoint's modules do, so that a peer which knows only some of them is refused before it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monograph_bench.peers.environments import PeerError
from monograph_export.checkpoint.checkpoint import Checkpoint, ModuleEntry, read_checkpoint, read_optional_object
from monograph_export.checkpoint.module_settings import TOKENIZER_CONFIG, read_max_length, read_pooling


@dataclass(frozen=True)
class Modules:
    """The modules of a checkpoint in order, without those that do nothing.

    ``poolings`` are the modes whose vectors, ``token_width`` wide, are concatenated; ``max_length`` is in tokens, with
    the special ones; ``lowercase`` says that texts are lower-cased outside the tokenizer.
    """

    entries: tuple[ModuleEntry, ...]
    poolings: tuple[str, ...]
    token_width: int
    max_length: int
    lowercase: bool

    @property
    def transformer(self) -> Path:
        """The folder of the transformer and its tokenizer."""
        return self.entries[0].folder

    @property
    def normalized(self) -> bool:
        """Whether vectors are normalized."""
        return any(entry.name == "Normalize" for entry in self.entries)

    def beyond_pooling(self) -> list[str]:
        """Return what is done to vectors that is neither the encoder, nor pooling, nor normalization after it."""
        others = [str(entry.name) for entry in self.entries[1:] if entry.name not in ("Pooling", "Normalize")]
        return others + (["lower-casing outside the tokenizer"] if self.lowercase else [])


def read_modules(folder: Path) -> Modules:
    """Read the modules of an embedding model's folder, in the old spelling of its files or the new one.

    A folder without modules.json is a bare transformer, for which Sentence Transformers adds mean pooling.

    Raises:
        ExportError: a file is missing or malformed.
        PeerError: no peer loads these modules.

    """
    checkpoint = read_checkpoint(folder)
    names = module_names(checkpoint)
    if names and (names[:2] != ["Transformer", "Pooling"] or names.count("Pooling") != 1):
        raise PeerError(f"{folder} lists {', '.join(names)}: peers load a Transformer with one Pooling behind it")
    transformer = transformer_of(checkpoint)
    pooling, *following = checkpoint.modules[1:] or [_mean_pooling(checkpoint)]
    width, modes = read_pooling(pooling)
    tokenizer = read_optional_object(transformer.folder / TOKENIZER_CONFIG)
    return Modules(
        # Dropout does nothing in inference.
        entries=(transformer, pooling, *(entry for entry in following if entry.name != "Dropout")),
        poolings=modes,
        token_width=width,
        max_length=max_length_of(transformer),
        lowercase=bool(transformer.settings.get("do_lower_case")) and not tokenizer.get("do_lower_case"),
    )


def module_names(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the modules that modules.json lists, none without that file.

    Raises:
        PeerError: a module is not of Sentence Transformers.

    """
    for entry in checkpoint.modules:
        if entry.name is None:
            raise PeerError(f"module {entry.type} is not of Sentence Transformers: no peer is measured with it")
    return [str(entry.name) for entry in checkpoint.modules]


def transformer_of(checkpoint: Checkpoint) -> ModuleEntry:
    """Return the first module, which without modules.json is the folder itself."""
    return next(iter(checkpoint.modules), ModuleEntry("Transformer", "Transformer", 0, checkpoint.folder, {}))


def max_length_of(transformer: ModuleEntry) -> int:
    """Return the tokens at which a transformer module truncates a text, special ones included.

    Raises:
        ExportError: a file is malformed.
        PeerError: the files do not state it.

    """
    limit = read_max_length(transformer.folder, transformer.settings)
    if limit is None:
        raise PeerError(f"{transformer.folder} does not state how many tokens the model reads")
    return limit


def _mean_pooling(checkpoint: Checkpoint) -> ModuleEntry:
    settings = {"pooling_mode": "mean", "embedding_dimension": checkpoint.token_width}
    return ModuleEntry("Pooling", "Pooling", 1, checkpoint.folder / "1_Pooling", settings)
