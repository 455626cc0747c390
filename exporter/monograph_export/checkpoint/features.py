"""What modules in a row pass to each other: features by name, of each token or of a whole text.

Sentence Transformers lets Dense and Normalize read and write any name. Composed as they are, the graph is right with
any names; what is refused here would fail in torch, or give a matrix of a text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from monograph.bundle.manifest import GRAPH_INPUTS
from monograph_export.checkpoint.modules import SENTENCE_EMBEDDING

TOKEN_EMBEDDINGS = "token_embeddings"  # noqa: S105 - a feature's name
# What texts are given as, and what Pooling reads beside vectors: no module may write it.
_RESERVED = (*GRAPH_INPUTS, "prompt_length", "modality", "token_weights_sum", "cu_seq_lens_q", "seq_idx")


@dataclass(frozen=True)
class Feature:
    """Vectors of the tokens of a text or of the text; ``normalized`` if Normalize made them."""

    per_token: bool
    normalized: bool = False


class FeatureError(ValueError):
    """A module reads what is not there, or writes what it must not; it and its setting are named."""


def features_of(modules: Iterable[Any]) -> dict[str, Feature]:
    """Return what modules of a dense model leave, the first of which takes texts; they may be in any order behind it.

    Raises:
        FeatureError: they do not make one vector of a text.

    """
    features = _left_by(modules)
    result = features.get(SENTENCE_EMBEDDING)
    if result is None:
        raise FeatureError(f"no module writes {SENTENCE_EMBEDDING}, the vector of a text: there is {_listed(features)}")
    if result.per_token:
        raise FeatureError(f"the modules leave vectors of tokens as {SENTENCE_EMBEDDING}: pool them last")
    return features


def token_feature_of(modules: Iterable[Any]) -> Feature:
    """Return the vectors of tokens that modules of a multi-vector model leave.

    Raises:
        FeatureError: they leave none.

    """
    features = _left_by(modules)
    result = features.get(TOKEN_EMBEDDINGS)
    if result is None or not result.per_token:
        raise FeatureError(f"no module writes {TOKEN_EMBEDDINGS}, the vectors of tokens: there is {_listed(features)}")
    return result


def _left_by(modules: Iterable[Any]) -> dict[str, Feature]:
    first, *others = modules
    if type(first).__name__ == "StaticEmbedding":
        features = {SENTENCE_EMBEDDING: Feature(per_token=False)}
    else:
        features = {first.module_output_name: Feature(per_token=True)}
    for position, module in enumerate(others, start=1):
        _apply(features, module, f"module {type(module).__name__} (idx {position})")
    return features


def _apply(features: dict[str, Feature], module: Any, title: str) -> None:
    """Replace what a module writes."""
    kind = type(module).__name__
    if kind == "Pooling":
        if not _read(features, TOKEN_EMBEDDINGS, title, "").per_token:
            raise FeatureError(f"{title} pools {TOKEN_EMBEDDINGS}, in which a module before it leaves vectors of texts")
        features[SENTENCE_EMBEDDING] = Feature(per_token=False)
    elif kind in ("Dense", "Normalize"):
        source, target = module.module_input_name, module.module_output_name
        if target in _RESERVED:
            raise FeatureError(f"{title}: module_output_name {target!r} is no feature of vectors")
        if kind == "Normalize" and source not in features and source not in _RESERVED:
            # It then does nothing.
            return
        before = _read(features, source, title, f": module_input_name {source!r}")
        features[target] = Feature(before.per_token, normalized=kind == "Normalize")
    elif kind in ("LayerNorm", "Dropout"):
        before = _read(features, SENTENCE_EMBEDDING, title, "")
        features[SENTENCE_EMBEDDING] = Feature(before.per_token, before.normalized and kind == "Dropout")


def _read(features: dict[str, Feature], name: str, title: str, setting: str) -> Feature:
    if name not in features:
        raise FeatureError(f"{title}{setting}: no module before it writes {name}, there is {_listed(features)}")
    return features[name]


def _listed(features: dict[str, Feature]) -> str:
    return ", ".join(map(str, features))
