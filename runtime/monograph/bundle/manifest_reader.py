"""Read a manifest from JSON values, noting every problem."""

from __future__ import annotations

from typing import Any

from monograph.bundle.consistency import inconsistencies
from monograph.bundle.fields import Fields
from monograph.bundle.manifest import (
    FORMAT_VERSION,
    Embedding,
    FileEntry,
    Graph,
    Manifest,
    Rerank,
    Routing,
    Source,
    Sparse,
    TensorSpec,
    TokenizerSpec,
)

_LARGEST_FLOAT32 = 3.4e38
_LARGEST_SIZE = 2**63 - 1


def read_manifest(value: object) -> tuple[Manifest, list[str]]:
    """Turn parsed JSON into a manifest.

    Returns the manifest and every problem found; it is usable only where there is none. A field that is
    missing or of the wrong type holds an empty value.
    """
    problems: list[str] = []
    top = Fields(value, "", problems)
    version = top.need("format_version", int)
    known_version = bool(problems) or version == FORMAT_VERSION
    manifest = Manifest(
        format_version=version,
        task=top.need("task", str),
        source=_read_source(top.child("source")),
        graphs=tuple(_read_graph(graph) for graph in top.children("graphs")),
        tokenizer=_read_tokenizer(top.child("tokenizer")),
        embedding=_read_embedding(top),
        prompts=top.string_map("prompts"),
        default_prompt_name=top.maybe("default_prompt_name", str),
        quality=_read_quality(top),
        producer=top.string_map("producer"),
        files=_read_files(top),
        routing=_read_routing(top),
        rerank=_read_rerank(top),
        sparse=_read_sparse(top),
    )
    well_formed = not problems
    if not known_version:
        # Another version may shape its fields otherwise, so their shape says nothing.
        problems = [_unknown_version(version)]
    if well_formed:
        problems.extend(inconsistencies(manifest))
    return manifest, problems


def _unknown_version(version: int) -> str:
    advice = "upgrade monograph" if version > FORMAT_VERSION else "export the model again"
    return f"format_version {version} is not known to this release, which reads {FORMAT_VERSION}: {advice}"


def _read_files(top: Fields) -> dict[str, FileEntry]:
    files = {}
    for name, fields in top.items("files"):
        noted = len(fields.problems)
        entry = FileEntry(fields.need("bytes", int), fields.need("sha256", str))
        if len(fields.problems) == noted:
            files[name] = entry
    return files


def _read_quality(top: Fields) -> dict[str, Any]:
    quality = top.child("quality")
    for verdict in quality.children("verdicts"):
        for key in ("engine", "version", "device", "compute_dtype", "reason", "tolerance"):
            verdict.need(key, str)
        verdict.need("passed", bool)
        verdict.need("probes", int)
        verdict.number("max_abs_difference")
        # Scores have none.
        if verdict.has("min_cosine"):
            verdict.number("min_cosine")
    if quality.maybe("not_run", dict) is not None:
        quality.string_map("not_run")
    if quality.maybe("graft", dict) is not None:
        quality.child("graft").need("encoder", str)
    if quality.maybe("vocabulary", dict) is not None:
        _check_vocabulary(quality.child("vocabulary"))
    if quality.maybe("compression", dict) is not None:
        _check_compression(quality.child("compression"))
    return top.need("quality", dict)


def _check_compression(fields: Fields) -> None:
    fields.need("table", str)
    found = fields.child("agreement")
    if found.has("pairs"):
        for key in ("pairs", "spearman", "mean_difference", "worst_difference"):
            found.number(key)
    else:
        for key in ("texts", "mean_cosine", "percentile_1_cosine", "worst_cosine", "spearman", "neighbour_agreement"):
            found.number(key)
    if found.has("active_overlap"):
        found.number("active_overlap")
    if fields.maybe("layers", dict) is not None:
        layers = fields.child("layers")
        layers.need("precision", str)
        # Layers of float16 are not calibrated.
        layers.maybe("calibration", str)
        if layers.maybe("float32_inputs", list) is not None:
            layers.strings("float32_inputs")


def _check_vocabulary(fields: Fields) -> None:
    for key in ("kept", "of", "same_tokens", "same_vectors"):
        fields.need(key, int)
    fields.number("max_abs_difference")
    fields.maybe("corpus", str)
    for key in ("scripts", "character_scripts"):
        fields.strings(key)
    if fields.maybe("coverage", dict) is not None:
        coverage = fields.child("coverage")
        coverage.need("name", str)
        coverage.need("texts", int)
        for key in ("unchanged", "unknown_before", "unknown", "growth"):
            coverage.number(key)


def _read_source(fields: Fields) -> Source:
    return Source(
        name=fields.need("name", str),
        revision=fields.maybe("revision", str),
        license=fields.maybe("license", str),
        sha256=fields.string_map("sha256"),
    )


def _read_graph(fields: Fields) -> Graph:
    return Graph(
        file=fields.need("file", str),
        engines=fields.strings("engines"),
        devices=fields.strings("devices"),
        precision=fields.need("precision", str),
        opset=fields.need("opset", int),
        inputs=_read_tensors(fields, "inputs"),
        outputs=_read_tensors(fields, "outputs"),
        op_domains=fields.strings("op_domains"),
        parts=_read_parts(fields),
        max_batch_size=fields.maybe("max_batch_size", int),
        route=fields.maybe("route", str),
    )


def _read_parts(fields: Fields) -> dict[str, int]:
    names = fields.maybe("parts", dict) or {}
    sizes = {name: fields.child("parts").need(name, int) for name in names}
    if any(not 0 <= size <= _LARGEST_SIZE for size in sizes.values()):
        fields.problems.append("parts: a size that no file has")
    return sizes


def _read_tensors(fields: Fields, key: str) -> dict[str, TensorSpec]:
    return {name: TensorSpec(tensor.need("dtype", str), tensor.axes("shape")) for name, tensor in fields.items(key)}


def _read_tokenizer(fields: Fields) -> TokenizerSpec:
    return TokenizerSpec(
        file=fields.need("file", str),
        max_length=fields.maybe("max_length", int),
        padding_side=fields.need("padding_side", str),
        pad_id=fields.need("pad_id", int),
        vocabulary_size=fields.need("vocabulary_size", int),
        special_ids=() if fields.maybe("special_ids", list) is None else fields.integers("special_ids"),
    )


def _read_routing(top: Fields) -> Routing | None:
    if top.maybe("routing", dict) is None:
        return None
    fields = top.child("routing")
    return Routing(
        tokenizers={name: _read_tokenizer(tokenizer) for name, tokenizer in fields.items("tokenizers")},
        tasks=fields.string_map("tasks"),
        default=fields.maybe("default", str),
    )


def _read_rerank(top: Fields) -> Rerank | None:
    if not top.has("rerank"):
        return None
    fields = top.child("rerank")
    return Rerank(
        num_labels=fields.need("num_labels", int),
        activation=fields.need("activation", str),
        label_names=fields.strings("label_names") if fields.has("label_names") else (),
    )


def _read_sparse(top: Fields) -> Sparse | None:
    if not top.has("sparse"):
        return None
    fields = top.child("sparse")
    return Sparse(
        dimension=fields.need("dimension", int),
        similarity=fields.need("similarity", str),
        max_active_dims=fields.maybe("max_active_dims", int),
    )


def _read_embedding(top: Fields) -> Embedding | None:
    if not top.has("embedding"):
        return None
    fields = top.child("embedding")
    ranges = fields.maybe("ranges", list)
    dimension = fields.need("dimension", int)
    if ranges is not None and not _are_ranges(ranges, dimension):
        fields.problems.append(f"embedding.ranges must be two lists of {dimension} numbers")
        ranges = None
    return Embedding(
        dimension=dimension,
        normalized=fields.need("normalized", bool),
        similarity=fields.need("similarity", str),
        matryoshka_dimensions=fields.integers("matryoshka_dimensions"),
        truncate_dim=fields.maybe("truncate_dim", int),
        ranges=None if ranges is None else (tuple(ranges[0]), tuple(ranges[1])),
    )


def _are_ranges(value: list[Any], dimension: int) -> bool:
    return len(value) == 2 and all(
        isinstance(row, list) and len(row) == dimension and all(_is_finite(x) for x in row) for row in value
    )


def _is_finite(value: object) -> bool:
    # Compared, not converted: JSON integers have no limit, and NaN compares as false.
    return type(value) in (int, float) and abs(value) <= _LARGEST_FLOAT32  # type: ignore[arg-type]
