"""What a manifest says of a bundle's quality, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monograph.bundle import Manifest


def describe_reference(quality: Mapping[str, Any]) -> str:
    """Return what gave the vectors that a bundle was compared with.

    Where it was compressed, torch that rounds as the graph does; where an encoder's ONNX file was grafted, that.
    """
    if quality.get("graft"):
        return f"{quality['graft']['encoder']} with its modules in NumPy"
    return "torch" if quality.get("compression") is None else "torch with the same rounding"


def describe_verification(verdict: Mapping[str, Any], reference: str) -> str:
    """Return where a verdict was found, how near to the reference the vectors were, and over how many probes."""
    if verdict["passed"]:
        near = "equal" if verdict["tolerance"].startswith("max abs") else "close"
        outcome = f"{near} to {reference}"
    else:
        outcome = f"WRONG: {verdict['reason']}"
    cosine = verdict.get("min_cosine")
    worst = "" if cosine is None else f", worst cosine {cosine:.6f}"
    return (
        f"{verdict['device']} ({verdict['engine']} {verdict['version']}) {verdict['compute_dtype']}: {outcome}, "
        f"max abs difference {verdict['max_abs_difference']:.1e}{worst} over {verdict['probes']} probes"
    )


def describe_output(manifest: Manifest) -> str:
    """Return what the graph gives: vectors of so many dimensions, or logits of so many labels."""
    if (rerank := manifest.rerank) is not None:
        return "1 label" if rerank.num_labels == 1 else f"{rerank.num_labels} labels"
    return f"{manifest.output_width} dimensions"


def describe_compression(compression: Mapping[str, Any]) -> str:
    """Return what was compressed, with which texts, and what it cost."""
    found = compression["agreement"]
    done = [f"table {compression['table']}"]
    if layers := compression.get("layers"):
        kept = len(layers.get("float32_inputs") or ())
        done.append(f"layers {layers['precision']}{f', {kept} of them with float32 inputs' if kept else ''}")
        if layers.get("calibration"):
            done.append(f"calibrated with {layers['calibration']}")
    if "pairs" in found:
        return (
            f"{', '.join(done)}; on ONNX Runtime, over {found['pairs']} pairs, rank correlation of scores with the "
            f"original's {found['spearman']:.4f}, and of their spread scores move by {found['mean_difference']:.2%} on "
            f"average, {found['worst_difference']:.2%} at most"
        )
    words = (
        f"{', '.join(done)}; on ONNX Runtime, over {found['texts']} other texts, mean cosine to the original "
        f"{found['mean_cosine']:.4f}, 1st percentile {found['percentile_1_cosine']:.4f}, worst "
        f"{found['worst_cosine']:.4f}, rank correlation of similarities {found['spearman']:.4f}, same nearest "
        f"neighbour {found['neighbour_agreement']:.1%}"
    )
    overlap = found.get("active_overlap")
    return words if overlap is None else f"{words}, same active dimensions {overlap:.1%}"


def describe_vocabulary(vocabulary: Mapping[str, Any]) -> str:
    """Return which tokens of the original vocabulary were kept, what was proven of them, and how they do elsewhere."""
    kept = []
    if vocabulary.get("corpus"):
        kept.append(f"those that the texts of {vocabulary['corpus']} need")
    if vocabulary["scripts"]:
        kept.append(f"those of {', '.join(vocabulary['scripts'])}")
    kept.append(f"single characters of {', '.join(vocabulary['character_scripts']) or 'no script'}")
    words = (
        f"{vocabulary['kept']:,} of {vocabulary['of']:,} tokens kept: {', '.join(kept)}; {vocabulary['same_tokens']:,} "
        f"texts are split as before, and the vectors of {vocabulary['same_vectors']} of them differ by "
        f"{vocabulary['max_abs_difference']:.1e} at most"
    )
    if (coverage := vocabulary.get("coverage")) is None:
        return words
    return (
        f"{words}; of {coverage['texts']:,} texts of {coverage['name']}, {coverage['unchanged']:.1%} are split as "
        f"before, into {coverage['growth']:.2f} times as many tokens in all, {coverage['unknown']:.2%} of them unknown "
        f"({coverage['unknown_before']:.2%} before)"
    )
