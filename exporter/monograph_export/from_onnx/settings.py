"""What config_sentence_transformers.json says of a model's vectors and prompts, as Sentence Transformers reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monograph.fields import Fields
from monograph.bundle.manifest import SIMILARITIES
from monograph.errors import ExportError
from monograph_export.checkpoint.layout import read_object

_FILE = "config_sentence_transformers.json"
# Prompts that every model has.
_NAMES = ("query", "document")


@dataclass(frozen=True)
class ModelSettings:
    """Prompts by name, which of them is the default, the similarity function and the default cut of dimensions."""

    prompts: dict[str, str]
    default_prompt_name: str | None
    similarity: str
    truncate_dim: int | None


def read_settings(folder: Path) -> ModelSettings:
    """Return the settings of a checkpoint, the defaults where it states none.

    Raises:
        ExportError: the file cannot be read, or a setting is of the wrong type.

    """
    # Without modules.json Sentence Transformers does not look at it.
    stated = (folder / "modules.json").exists() and (folder / _FILE).exists()
    problems: list[str] = []
    fields = Fields(read_object(folder / _FILE) if stated else {}, "", problems)
    prompts = dict.fromkeys(_NAMES, "") | {
        str(name): text or "" for name, text in (fields.maybe("prompts", dict) or {}).items()
    }
    default = fields.maybe("default_prompt_name", str)
    if default is not None and default not in prompts:
        problems.append(f"default_prompt_name {default!r} is not among prompts")
    similarity = fields.maybe("similarity_fn_name", str)
    settings = ModelSettings(
        prompts, default, similarity if similarity in SIMILARITIES else "cosine", fields.maybe("truncate_dim", int)
    )
    problems += [f"prompts.{name} must be a string" for name, text in prompts.items() if not isinstance(text, str)]
    if problems:
        raise ExportError(f"{folder / _FILE}: {'; '.join(problems)}")
    return settings
