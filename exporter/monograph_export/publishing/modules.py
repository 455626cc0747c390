"""What a checkpoint's modules do, for software that loads an ONNX file of the encoder and knows only some modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monograph.errors import ExportError
from monograph_export.checkpoint.checkpoint import Checkpoint, ModuleEntry, read_checkpoint, read_optional_object
from monograph_export.checkpoint.module_settings import TOKENIZER_CONFIG, read_pooling
from monograph_export.checkpoint.transformer import max_length_of, module_names, transformer_of


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
        ExportError: a file is missing or malformed, or no other software loads these modules.

    """
    checkpoint = read_checkpoint(folder)
    names = module_names(checkpoint)
    if names and (names[:2] != ["Transformer", "Pooling"] or names.count("Pooling") != 1):
        raise ExportError(
            f"{folder} lists {', '.join(names)}: other software loads a Transformer with one Pooling after it"
        )
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


def _mean_pooling(checkpoint: Checkpoint) -> ModuleEntry:
    settings = {"pooling_mode": "mean", "embedding_dimension": checkpoint.token_width}
    return ModuleEntry("Pooling", "Pooling", 1, checkpoint.folder / "1_Pooling", settings)
