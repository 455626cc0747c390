"""What a bundle has of a checkpoint's configuration, where callers of sentence-transformers look for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """``model.config`` of a cross-encoder."""

    num_labels: int

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"a bundle has no {name!r} of a configuration: read config.json of the checkpoint")


@dataclass(frozen=True, slots=True)
class ModelWithConfig:
    """``model.model`` of a cross-encoder, in place of a torch model."""

    config: LabelConfig

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"there is no torch model here, and no {name!r} of one: call predict or rank")
