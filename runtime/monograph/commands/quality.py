"""What a manifest says of a bundle's quality, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def verdict_in_words(verdict: Mapping[str, Any], *, compressed: bool) -> str:
    """Return where a verdict was found, how near the vectors were, and over how many probes.

    A ``compressed`` bundle is compared with torch that rounds as the graph does.
    """
    if verdict["passed"]:
        near = "equal" if verdict["tolerance"].startswith("max abs") else "close"
        outcome = f"{near} to torch{' with the same rounding' if compressed else ''}"
    else:
        outcome = f"WRONG: {verdict['reason']}"
    return (
        f"{verdict['device']} ({verdict['engine']} {verdict['version']}) {verdict['compute_dtype']}: {outcome}, "
        f"max abs difference {verdict['max_abs_difference']:.1e}, worst cosine {verdict['min_cosine']:.6f} over "
        f"{verdict['probes']} probes"
    )


def compression_in_words(compression: Mapping[str, Any]) -> str:
    """Return what was compressed, with which texts, and what it cost."""
    found = compression["agreement"]
    done = [f"table {compression['table']}"]
    if layers := compression.get("layers"):
        kept = len(layers["float32_inputs"])
        done.append(f"layers {layers['precision']}{f', {kept} of them with float32 inputs' if kept else ''}")
        done.append(f"calibrated with {layers['calibration']}")
    return (
        f"{', '.join(done)}; on ONNX Runtime, over {found['texts']} other texts, mean cosine to the original "
        f"{found['mean_cosine']:.4f}, 1st percentile {found['percentile_1_cosine']:.4f}, worst "
        f"{found['worst_cosine']:.4f}, rank correlation of similarities {found['spearman']:.4f}, same nearest "
        f"neighbour {found['neighbour_agreement']:.1%}"
    )
