"""What a manifest says of a bundle's quality, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def verdict_in_words(verdict: Mapping[str, Any]) -> str:
    """Return where a verdict was found, how near the vectors were, and over how many probes."""
    if verdict["passed"]:
        outcome = f"{'equal' if verdict['tolerance'].startswith('max abs') else 'close'} to torch"
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
        done.append(f"layers {layers['precision']}{f' but {kept} with float32 inputs' if kept else ''}")
        done.append(f"calibrated with {layers['calibration']}")
    return (
        f"{', '.join(done)}; over {found['texts']} other texts mean cosine to the original {found['mean_cosine']:.4f}, "
        f"1st percentile {found['percentile_1_cosine']:.4f}, worst {found['worst_cosine']:.4f}, rank correlation of "
        f"similarities {found['spearman']:.4f}, same nearest neighbour {found['neighbour_agreement']:.1%}"
    )
