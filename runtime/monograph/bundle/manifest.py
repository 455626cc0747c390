"""manifest.json: the only contract between the exporter and a runtime.

Raise ``FORMAT_VERSION`` when a reader of the previous version would give wrong vectors or fail on a bundle
of the new one; a new optional field that such a reader may ignore does not raise it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from monograph.bundle.fields import Fields

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
TASKS = ("embedding", "rerank", "sparse")
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# What a runtime knows how to fill in.
GRAPH_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
PROBES_FILE = "probes.json"
# Weights are external data beside their graph.
WEIGHTS_SUFFIX = ".onnx.data"
# Domains of operators that the engines bring themselves. Anything else would need a library of custom
# operators, and such a library is code: it is never loaded from a bundle.
OP_DOMAINS = ("", "ai.onnx", "com.microsoft")
_LARGEST_FLOAT32 = 3.4e38
_LARGEST_SIZE = 2**63 - 1
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Source:
    """The checkpoint a bundle was made of; ``sha256`` maps its weight files to their hashes."""

    name: str
    revision: str | None
    licence: str | None
    sha256: dict[str, str]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; ``shape`` holds names for the axes that vary."""

    dtype: str
    shape: tuple[str | int, ...]


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of the bundle, and where it may run; ``parts`` are about the bytes of its parts.

    ``max_rows`` is the most texts of a batch, None for any number: 1 where a text's vector depends on its neighbours.
    """

    file: str
    engines: tuple[str, ...]
    devices: tuple[str, ...]
    precision: str
    opset: int
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    op_domains: tuple[str, ...]
    parts: dict[str, int] = field(default_factory=dict)
    max_rows: int | None = None


@dataclass(frozen=True)
class TokenizerSpec:
    """How texts become token ids; ``max_length`` counts tokens, special ones included."""

    file: str
    max_length: int | None
    padding_side: str
    pad_id: int
    vocabulary_size: int


@dataclass(frozen=True)
class Embedding:
    """What the vectors are; ``truncate_dim`` is the model's default cut, ``ranges`` its int8 minima, maxima."""

    dimension: int
    normalized: bool
    similarity: str
    matryoshka_dimensions: tuple[int, ...]
    truncate_dim: int | None = None
    ranges: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of a file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime knows of a bundle before it opens another file."""

    format_version: int
    task: str
    source: Source
    graphs: tuple[Graph, ...]
    tokenizer: TokenizerSpec
    embedding: Embedding
    prompts: dict[str, str]
    default_prompt_name: str | None
    quality: dict[str, Any]
    producer: dict[str, str]
    files: dict[str, FileEntry] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return asdict(self)


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
        embedding=_read_embedding(top.child("embedding")),
        prompts=top.string_map("prompts"),
        default_prompt_name=top.maybe("default_prompt_name", str),
        quality=_read_quality(top),
        producer=top.string_map("producer"),
        files=_read_files(top),
    )
    well_formed = not problems
    if not known_version:
        # Another version may shape its fields otherwise, so their shape says nothing.
        problems = [_unknown_version(version)]
    if well_formed:
        problems.extend(_inconsistencies(manifest))
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
    for key in ("texts", "mean_cosine", "percentile_1_cosine", "worst_cosine", "spearman", "neighbour_agreement"):
        found.number(key)
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
        licence=fields.maybe("licence", str),
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
        max_rows=fields.maybe("max_rows", int),
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
    )


def _read_embedding(fields: Fields) -> Embedding:
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


def _inconsistencies(manifest: Manifest) -> list[str]:
    """Return what is wrong between fields that are each well formed."""
    found: list[str] = []
    if manifest.task not in TASKS:
        found.append(f"task {manifest.task!r} is not one of {', '.join(TASKS)}")
    found.extend(_number_problems(manifest))
    if manifest.embedding.similarity not in SIMILARITIES:
        found.append(f"embedding.similarity {manifest.embedding.similarity!r} is not one of {', '.join(SIMILARITIES)}")
    if manifest.tokenizer.padding_side != "right":
        found.append(f"tokenizer.padding_side {manifest.tokenizer.padding_side!r} is not 'right'")
    name = manifest.default_prompt_name
    if name is not None and name not in manifest.prompts:
        found.append(f"default_prompt_name {name!r} is not among prompts")
    if not manifest.graphs:
        found.append("graphs is empty")
    for position, graph in enumerate(manifest.graphs):
        found.extend(
            f"graphs[{position}].{problem}" for problem in _graph_problems(graph, manifest.embedding.dimension)
        )
    found.extend(_unlisted(manifest.files, manifest))
    return found


def _graph_problems(graph: Graph, dimension: int) -> list[str]:
    found = []
    unknown = sorted(set(graph.op_domains) - set(OP_DOMAINS))
    if unknown:
        found.append(f"op_domains has the unknown {', '.join(unknown)}")
    foreign = sorted(set(graph.inputs) - set(GRAPH_INPUTS))
    if foreign or "input_ids" not in graph.inputs:
        found.append(f"inputs must have input_ids and may have {', '.join(GRAPH_INPUTS[1:])}, not {', '.join(foreign)}")
    if graph.max_rows is not None and graph.max_rows < 1:
        found.append("max_rows must be at least 1")
    if len(graph.outputs) != 1:
        found.append("outputs must name one output")
    found.extend(
        f"outputs.{name} has the shape {list(output.shape)}, and embedding.dimension is {dimension}"
        for name, output in graph.outputs.items()
        if output.shape[-1:] != (dimension,)
    )
    return found


def _number_problems(manifest: Manifest) -> list[str]:
    least_one = {
        "embedding.dimension": manifest.embedding.dimension,
        "embedding.truncate_dim": manifest.embedding.truncate_dim,
        "tokenizer.max_length": manifest.tokenizer.max_length,
        "tokenizer.vocabulary_size": manifest.tokenizer.vocabulary_size,
    }
    if manifest.tokenizer.vocabulary_size > _LARGEST_INT32:
        return ["tokenizer.vocabulary_size is not a size of a vocabulary"]
    found = [f"{name} must be at least 1" for name, value in least_one.items() if value is not None and value < 1]
    if not 0 <= manifest.tokenizer.pad_id < max(1, manifest.tokenizer.vocabulary_size):
        found.append("tokenizer.pad_id must be at least 0 and below vocabulary_size")
    return found


def _unlisted(files: Mapping[str, FileEntry], manifest: Manifest) -> list[str]:
    named = [graph.file for graph in manifest.graphs] + [manifest.tokenizer.file, PROBES_FILE]
    found = [f"{name} is used but not listed in files" for name in named if name not in files]
    # By ending, for variants of a graph may share one file of weights.
    if not any(name.endswith(WEIGHTS_SUFFIX) for name in files):
        found.append(f"files lists no weights (*{WEIGHTS_SUFFIX})")
    return found
