"""Embedding models: a dense vector a text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from monograph import Embedder
from monograph.tasks.embedding import EMBEDDING
from monograph_bench.evaluation.parallel_texts import ParallelTexts, distance_scores, translation_scores
from monograph_bench.evaluation.retrieval import retrieval_scores
from monograph_bench.evaluation.sts import StsPairs, sts_scores
from monograph_bench.peers.catalog import Peer
from monograph_bench.peers.environments import PeerError
from monograph_bench.peers.exported_models import ExportSource
from monograph_bench.profiles.base import Call, Evaluations, TextProfile
from monograph_export.checkpoint.checkpoint import read_checkpoint, read_object
from monograph_export.compression.options import LARGE_VOCABULARY
from monograph_export.publishing.modules import Modules, read_modules
from monograph_export.publishing.settings import write_settings
from monograph_export.tasks.embedding import EMBEDDING_EXPORT


def _evaluate_sts(model: Any, pairs: StsPairs) -> dict[str, float]:
    """Score by cosine, and by the model's own function where that is another."""
    own = model.manifest.section.similarity if isinstance(model, Embedder) else model.similarity_fn_name
    return sts_scores(model, pairs, list(dict.fromkeys(("cosine", own))))


def _evaluate_distance(
    model: Any, data: tuple[Callable[[], AbstractContextManager[Any]], ParallelTexts]
) -> dict[str, float]:
    open_teacher, texts = data
    with open_teacher() as teacher:
        return distance_scores(model, teacher.model, texts)


class EmbeddingProfile(TextProfile):
    """How embedding models are measured and evaluated."""

    task = EMBEDDING
    models = "embedding models"
    bundle_call = Call("encode", {"prompt": ""})
    library_class = "SentenceTransformer"
    library_call = Call("encode", {"prompt": "", "convert_to_numpy": True})
    exported_part = "the encoder as optimum exports it, torch for the modules behind it"
    evaluations: ClassVar[Evaluations] = {
        "sts": _evaluate_sts,
        "translation": translation_scores,
        "mse": _evaluate_distance,
        "retrieval": retrieval_scores,
    }

    def export_source(self, checkpoint: Path, peer: Peer) -> ExportSource:
        """Return the encoder of a checkpoint with its modules' settings."""
        modules = read_modules(checkpoint)
        options = {} if peer.poolings is None else _pooling_options(peer, peer.poolings, modules)
        config = read_object(modules.transformer / "config.json")
        _check_model_type(peer, config.get("model_type"))
        write = partial(write_settings, checkpoint, modules)
        language = None if config.get("vocab_size", 0) > LARGE_VOCABULARY else "en"
        return ExportSource(checkpoint, modules.transformer, "feature-extraction", write, options, language)

    def load_in_torch(self, folder: Path) -> Any:
        """Load a SentenceTransformer."""
        return EMBEDDING_EXPORT.load(read_checkpoint(folder)).whole


def _pooling_options(peer: Peer, poolings: frozenset[str], modules: Modules) -> dict[str, object]:
    """Return the modules behind the encoder as options of a peer that does not load them.

    Raises:
        PeerError: it does not compute them; its vectors would be others.

    """
    beyond = modules.beyond_pooling()
    if beyond:
        raise PeerError(f"{peer.name} leaves out what this checkpoint has: {', '.join(beyond)}")
    if len(modules.poolings) != 1 or modules.poolings[0] not in poolings:
        raise PeerError(
            f"{peer.name} is measured with pooling {' or '.join(sorted(poolings))}, and this checkpoint has "
            f"{' + '.join(modules.poolings)}"
        )
    return {"pooling": modules.poolings[0], "normalize": modules.normalized, "max_length": modules.max_length}


def _check_model_type(peer: Peer, model_type: object) -> None:
    if peer.model_types is not None and model_type not in peer.model_types:
        known = ", ".join(sorted(peer.model_types))
        raise PeerError(f"{peer.name} has no encoder of the model type {model_type}: it converts {known}")


PROFILE = EmbeddingProfile()
