"""Checkpoints of published models' shapes, with weights and a tokenizer made from a seed, and their bundles."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_check.record import Record
from gpu_check.settings import Settings
from monograph_export import export

# All are measured with texts of 512 tokens, also where the published model truncates at 256.
_MAX_LENGTH = 512
# Of the small shapes: their width is a quarter, so that everything runs on two cores of a CPU in five minutes.
_SMALL = {"num_hidden_layers": 2, "vocab_size": 4000}
_NARROWER = 4


@dataclass(frozen=True)
class Shape:
    """The shape of a published model, a BERT: layers, width, heads, rows of the table, and what follows it."""

    name: str
    layers: int
    width: int
    vocabulary: int
    pooling: str = "mean"
    dense: bool = False

    def config(self, *, small: bool) -> dict[str, Any]:
        """Return the arguments of transformers' configuration, ``small`` with few and narrow layers and few tokens."""
        width = self.width // _NARROWER if small else self.width
        full = {
            "model_type": "bert",
            "vocab_size": self.vocabulary,
            "hidden_size": width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 12,
            "intermediate_size": 4 * width,
            "max_position_embeddings": _MAX_LENGTH,
        }
        return full | _SMALL if small else full


MINILM = Shape("minilm", 6, 384, 30_522)
BERT_BASE = Shape("bert-base", 12, 768, 30_522)
LABSE = Shape("labse", 12, 768, 501_153, pooling="cls", dense=True)


def export_minilm(settings: Settings, record: Record) -> None:
    """Build and export MiniLM's shape, which most stages use."""
    prepare(MINILM, settings, record)


def prepare(shape: Shape, settings: Settings, record: Record) -> tuple[Path, Path]:
    """Return the checkpoint and the float16 bundle of a shape, both made if they are not there."""
    checkpoint = _checkpoint(shape, settings)
    bundle = settings.folder / f"{shape.name}-fp16"
    if not bundle.exists():
        begin = time.perf_counter()
        made = export(checkpoint, bundle, precision="fp16", table="fp32", show_progress_bar=False)
        results = made.manifest.quality.verifications
        record.put(
            export_seconds=round(time.perf_counter() - begin, 1),
            bundle_bytes=sum(one.bytes for one in made.manifest.files.values()),
            verified_at_export=[f"{one.engine} on {one.device}: {one.reason or 'passed'}" for one in results],
        )
    return checkpoint, bundle


def export_int8_weights(settings: Settings) -> Path:
    """Export MiniLM's shape with int8 weights; its random weights are not held to any quality."""
    bundle = settings.folder / "minilm-int8-weights"
    if not bundle.exists():
        export(
            _checkpoint(MINILM, settings),
            bundle,
            precision="int8-weights",
            min_mean_cosine=0.5,
            min_worst_cosine=0.5,
            min_neighbour_agreement=0.0,
            show_progress_bar=False,
        )
    return bundle


def _checkpoint(shape: Shape, settings: Settings) -> Path:
    if settings.checkpoint and shape is MINILM:
        return Path(settings.checkpoint)
    checkpoint = settings.folder / shape.name
    if not checkpoint.exists():
        # Imports transformers and sentence-transformers, which takes seconds that other stages do not have.
        from gpu_check.seeded_models import build

        config = shape.config(small=settings.shapes == "small")
        build(checkpoint, config, _MAX_LENGTH, pooling=shape.pooling, dense=shape.dense)
    return checkpoint
