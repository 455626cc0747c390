"""The bundles of tests/data, one for each kind that the format has: how they are exported, and from what."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monograph_export import export
from support import checkpoints, cross_encoders, hybrid_models, multi_vector_encoders, sparse_encoders

# As small as a real architecture allows; the vocabulary is that of the tokenizers which the checkpoints train.
_SMALL: dict[str, Any] = {"vocab_size": 1000, "hidden_size": 16, "intermediate_size": 32}
# Smaller weights let fewer tokens be active: probes are most of a sparse bundle's size.
_SPARSE = _SMALL | {"initializer_range": 0.12}

# Random weights do not keep to the limits that trained ones do.
_INT8: dict[str, Any] = {
    "precision": "int8",
    "min_mean_cosine": -1,
    "min_worst_cosine": -1,
    "min_neighbour_agreement": 0,
}


def _embedding(folder: Path) -> Path:
    return checkpoints.tiny(
        folder,
        config=checkpoints.TINY_BERT | _SMALL,
        dense=[{"in_features": 16, "out_features": 24, "bias": True, "activation": "Tanh"}],
        prompts={"query": "search: ", "passage": "text: "},
    )


def _embedding_of_means(folder: Path) -> Path:
    return checkpoints.tiny(folder, config=checkpoints.TINY_BERT | _SMALL, max_length=32)


def _hybrid(folder: Path) -> Path:
    return hybrid_models.save_hybrid(folder, dimension=8, config=_SMALL, max_length=32)


def _rerank(folder: Path) -> Path:
    prompts = {"query": "search: ", "other": "find: "}
    return cross_encoders.save_cross_encoder("BERT", folder, prompts=prompts, default_prompt_name="query", **_SMALL)


def _sparse(folder: Path) -> Path:
    # More dimensions than tokens: few texts fill a batch by the size of its outputs.
    return sparse_encoders.save_splade(
        "BERT", folder, **_SPARSE | {"vocab_size": 5000, "hidden_size": 8, "initializer_range": 0.17}
    )


def _multi_vector(folder: Path) -> Path:
    # Few values a token, for the probes have a vector for each.
    return multi_vector_encoders.save_multi_vector(
        "BERT", folder, dimension=8, document_length=24, max_length=32, config=_SMALL | {"max_position_embeddings": 64}
    )


def _sparse_routes(folder: Path) -> Path:
    return sparse_encoders.save_inference_free(folder, config=_SPARSE)


_CHECKPOINTS: Mapping[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "embedding": (_embedding, {}),
    "embedding-int8": (_embedding, _INT8),
    # With measurements.json, which those before have in their manifests.
    "embedding-int8-measured": (_embedding, _INT8),
    "embedding-precisions": (_embedding, _INT8 | {"precision": "fp32,int8"}),
    "embedding-int8-weights": (_embedding, {"precision": "int8-weights"}),
    "embedding-tokens": (_embedding_of_means, {"outputs": "sentence_embedding,token_embeddings"}),
    "embedding-hybrid": (_hybrid, {}),
    "rerank": (_rerank, {}),
    "sparse": (_sparse, {}),
    "sparse-routes": (_sparse_routes, {}),
    "multi-vector": (_multi_vector, {}),
}


def main() -> int:
    """Export those that the output does not have; ``--replace`` is for a format that is not released yet."""
    parser = argparse.ArgumentParser(prog="scripts/make-test-bundles", description=main.__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--replace", action="store_true", help="export those that are there again")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    for name, (save_checkpoint, options) in _CHECKPOINTS.items():
        output = arguments.output / name
        if output.exists() and not arguments.replace:
            continue
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = save_checkpoint(Path(folder)).rename(Path(folder) / name)
            bundle = export(checkpoint, Path(folder) / "bundle", **options).path
            shutil.rmtree(output, ignore_errors=True)
            shutil.copytree(bundle, output, copy_function=shutil.copyfile)
            print(f"{output}: {sum(file.stat().st_size for file in output.iterdir()):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
