"""What the files of a Transformer and a Pooling state, in the old spelling or the new one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monograph.errors import ExportError, UnsupportedModuleError
from monograph_export.checkpoint.checkpoint import ModuleEntry, read_optional_object
from monograph_export.checkpoint.max_length import checked_length

TOKENIZER_CONFIG = "tokenizer_config.json"
# The flags of old configs, in the order in which their vectors are concatenated, and the names of their modes.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLING_MODES = tuple(POOLING_FLAGS.values())


def read_pooling(entry: ModuleEntry) -> tuple[int, tuple[str, ...]]:
    """Return the width of a token's vector and the modes of a Pooling, whose vectors are concatenated in this order.

    Raises:
        ExportError: the config states no width.
        UnsupportedModuleError: the config states an unknown mode.

    """
    config = entry.settings
    stated = config.get("pooling_mode")
    if stated is None:
        modes = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    else:
        modes = [stated] if isinstance(stated, str) else stated
    if not isinstance(modes, list) or not modes or not all(mode in _POOLING_MODES for mode in modes):
        raise UnsupportedModuleError(f"{entry.folder}: pooling_mode {stated!r}; there are {', '.join(_POOLING_MODES)}")
    width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    if type(width) is not int or width < 1:
        raise ExportError(
            f"{entry.folder / 'config.json'} must state embedding_dimension, the width of a token's vector"
        )
    return width, tuple(modes)


def read_max_length(folder: Path, settings: Mapping[str, Any]) -> int | None:
    """Return the maximum length in tokens of a Transformer module with these settings, special tokens included.

    Where the settings state none, it is that of the tokenizer and the encoder's positions; None where there is none.

    Raises:
        ExportError: it is not a number of tokens, or a file cannot be read.

    """
    stated = settings.get("max_seq_length")
    if stated is not None:
        return checked_length(stated, folder, "max_seq_length")
    limits = [read_optional_object(folder / TOKENIZER_CONFIG).get("model_max_length")]
    encoder = read_optional_object(folder / "config.json")
    # XLNet states -1 in code, whatever its config says.
    if encoder.get("model_type") != "xlnet" and encoder.get("max_position_embeddings") != -1:
        limits.append(encoder.get("max_position_embeddings"))
    checked = (checked_length(limit, folder, "the maximum length") for limit in limits)
    return min((limit for limit in checked if limit is not None), default=None)
