"""What adapters of monograph's own classes have in common."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.contract import versions
from monograph.bundle import open_bundle
from monograph.inputs import Input
from monograph.model import Model
from monograph.opening import open_routes


def padding_share(bundle: str, model: Model, texts: Sequence[Input]) -> float:
    """Return the share of padding among the tokens that an open bundle computes for texts or pairs."""
    # An engine of its own, for the model's is its own affair.
    routes = open_routes(
        open_bundle(bundle), device=model.device, compute_dtype=model.compute_dtype, threads=model.threads
    )
    try:
        pipeline = routes.main
        tokens = pipeline.tokenize(texts)
        batches = pipeline.batches(tokens, pipeline.plan(tokens))
        computed = sum(batch.inputs["input_ids"].size for batch in batches)
    finally:
        routes.close()
    return 1 - int(tokens.lengths.sum()) / computed


def described(model: Model) -> dict[str, str]:
    """Return what an open bundle says of itself."""
    return versions(["monograph"]) | {
        "bundle": model.fingerprint,
        "engine": model.engine,
        "device": model.device,
        "compute_dtype": model.compute_dtype,
        "threads": str(model.threads),
    }
