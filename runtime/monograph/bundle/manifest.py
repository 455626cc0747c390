"""manifest.json: the only contract between the exporter and a runtime, in any language.

Raise ``FORMAT_VERSION`` when a reader of the previous version would give wrong vectors or fail on a bundle
of the new one; a new optional field that such a reader may ignore does not raise it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from monograph.json_files import json_bytes
from monograph.quality import FurtherPrecision, Quality
from monograph.tasks import task_named

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
# What a runtime can feed to a graph.
TOKENIZER_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# 1 for the tokens that are pooled: an input of models whose pooling leaves out the prompt.
POOLING_MASK = "pooling_mask"
GRAPH_INPUTS = (*TOKENIZER_INPUTS, POOLING_MASK)
PROBES_FILE = "probes.json"
# Not among ``files``, for it has the hash of the manifest.
MEASUREMENTS_FILE = "measurements.json"
GRAPH_SUFFIX = ".onnx"
# Weights are external data beside their graph. Only files of this name may be too large to be hashed at each start.
WEIGHTS_SUFFIX = f"{GRAPH_SUFFIX}.data"
# Fields that a file has only where they are set.
_OPTIONAL = frozenset(("weights_bytes", "token_pooling", "hybrid", "expansion", "skipped_ids"))
# Domains of operators that the engines bring themselves. Anything else would need a library of custom
# operators, and such a library is code: it is never loaded from a bundle.
OP_DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True)
class Source:
    """The checkpoint that a bundle was exported from.

    ``license`` comes from its model card (an SPDX identifier if the card has one); ``sha256`` maps its weight files to
    their hashes.
    """

    name: str
    revision: str | None
    license: str | None
    sha256: dict[str, str]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; dynamic axes have a name in ``shape`` instead of a size."""

    dtype: str
    shape: tuple[str | int, ...]


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of the bundle, and the devices it is for.

    ``parts`` has the approximate bytes of its parts. ``max_batch_size`` is the maximum number of texts in a batch, None
    for no limit; it is 1 if a text's vector depends on the other texts in the batch. ``route`` is the route that the
    graph computes, None in a bundle without routes, or whose routes share one graph. ``weights_bytes`` is the size of
    its weights, None for all of their file.
    """

    file: str
    devices: tuple[str, ...]
    precision: str
    opset: int
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    op_domains: tuple[str, ...]
    parts: dict[str, int] = field(default_factory=dict)
    max_batch_size: int | None = None
    route: str | None = None
    weights_bytes: int | None = None


@dataclass(frozen=True)
class Expansion:
    """How a text of fewer than ``length`` tokens is filled up with the token ``id``, as ColBERT does with queries.

    The filled places have vectors as all others have; other tokens attend to them only if ``attended``.
    """

    length: int
    id: int
    attended: bool


@dataclass(frozen=True)
class TokenizerSpec:
    """How texts become token ids; ``max_length`` counts tokens, special tokens included, None for no limit.

    ``special_ids`` are not counted as part of a prompt if they are its last token; only models that exclude prompts
    from pooling have them. ``vocabulary_size`` is at most the number of rows of the embedding table; some tokenizers
    have tokens with larger ids, which have no embedding. ``min_length`` is 1 if the model has no output for a text
    without tokens, such as the empty text with a tokenizer that adds no special tokens. Of a model of token vectors,
    ``expansion`` fills up short texts, None for none, and ``skipped_ids`` are tokens whose vectors are left out of the
    output.
    """

    file: str
    max_length: int | None
    padding_side: str
    pad_id: int
    vocabulary_size: int
    special_ids: tuple[int, ...] = ()
    min_length: int = 0
    expansion: Expansion | None = None
    skipped_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Routing:
    """The routes of a model that embeds queries and documents differently.

    ``tokenizers`` maps each route to its tokenizer; ``tasks`` maps "query", "document" and any other tasks of the model
    to routes; ``default`` is the route of texts without a task, None if the model requires one.
    """

    tokenizers: dict[str, TokenizerSpec]
    tasks: dict[str, str]
    default: str | None

    def route_of(self, task: str | None) -> str | None:
        """Return the route of a task, or of texts without one; None if there is no such route."""
        return self.default if task is None else self.tasks.get(task)


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of a file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json, which a runtime reads before any other file.

    Attributes:
        format_version: 1; a bundle of another version is refused.
        task: "embedding", "rerank", "sparse" or "multi_vector".
        source: The checkpoint that the bundle was exported from.
        graphs: The graphs; usually one.
        tokenizer: How texts become token ids; with routes, the tokenizer of the first graph's route.
        section: The outputs of the task: an EmbeddingSection, RerankSection, SparseSection or MultiVectorSection. In
            the file its key is the task's name.
        prompts: Prompts by name; a prompt is prepended to a text.
        default_prompt_name: Name of the prompt that is used if the caller gives none; None for no prompt.
        quality: What the export decided and measured of the graphs of the first precision, which is the default; the
            measurements are in a file of their own.
        producer: Versions of the packages that wrote the bundle.
        files: Size and hash of every other file, by name.
        routing: The routes of a model with a Router; None for other models.
        further_precisions: The probes' file and the quality of each precision after the first; usually there is none.

    Examples:
        >>> from monograph import load
        >>> manifest = load(bundle, device="cpu").manifest
        >>> manifest.task, manifest.section.normalized
        ('embedding', True)
        >>> sorted(manifest.files)
        ['model.onnx', 'model.onnx.data', 'probes.json', 'tokenizer.json']
        >>> all(result.passed for result in manifest.quality.verifications)
        True

    """

    format_version: int
    task: str
    source: Source
    graphs: tuple[Graph, ...]
    tokenizer: TokenizerSpec
    section: Any
    prompts: dict[str, str]
    default_prompt_name: str | None
    quality: Quality
    producer: dict[str, str]
    files: dict[str, FileEntry]
    routing: Routing | None = None
    further_precisions: dict[str, FurtherPrecision] = field(default_factory=dict)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions of the graphs; the first is the default."""
        return tuple(dict.fromkeys(graph.precision for graph in self.graphs))

    def restricted_to(self, precision: str) -> Manifest:
        """Return the manifest with the graphs of one of its precisions only, and their quality."""
        further = self.further_precisions.get(precision)
        return replace(
            self,
            graphs=tuple(graph for graph in self.graphs if graph.precision == precision),
            quality=self.quality if further is None else further.quality,
            further_precisions={},
        )

    @property
    def tokenizers(self) -> dict[str | None, TokenizerSpec]:
        """The tokenizer of each route; without routes, the only tokenizer under the key None."""
        return dict([(None, self.tokenizer)] if self.routing is None else self.routing.tokenizers.items())

    @property
    def shares_graph(self) -> bool:
        """Whether one graph computes every route, which differ in their tokenizers alone."""
        return self.routing is not None and all(graph.route is None for graph in self.graphs)

    def graph_tokenizers(self, graph: Graph) -> tuple[TokenizerSpec, ...]:
        """Return the tokenizers of the routes that a graph computes."""
        return tuple(one for route, one in self.tokenizers.items() if graph.route in (None, route))

    @property
    def output_width(self) -> int:
        """Columns of the graphs' output, 0 if the task's section is missing."""
        task = task_named(self.task)
        return 0 if task is None or self.section is None else task.output_width(self.section)

    def weights_file(self, graph: Graph) -> str:
        """Return the name of a graph's file of weights: its own, or the first that is listed, which graphs share."""
        name = f"{graph.file.removesuffix(GRAPH_SUFFIX)}{WEIGHTS_SUFFIX}"
        # A valid manifest lists one.
        return name if name in self.files else next(file for file in self.files if file.endswith(WEIGHTS_SUFFIX))

    def to_json(self) -> dict[str, Any]:
        """Return everything that is known of the bundle as JSON values, measurements included."""
        values = asdict(self)
        return {(self.task if key == "section" else key): value for key, value in values.items()}

    def to_file(self) -> bytes:
        """Return the content of manifest.json, which has no measurements and is the same at every export.

        ``quality.verifications`` is there and empty, for older readers require it.
        """
        further = {
            name: replace(entry, quality=entry.quality.without_measurements())
            for name, entry in self.further_precisions.items()
        }
        stated = replace(self, quality=self.quality.without_measurements(), further_precisions=further)
        values = _without_unset(stated.to_json())
        for entry in (values, *values["further_precisions"].values()):
            _move_compression(entry)
        if not further:
            del values["further_precisions"]
        return json_bytes(values)


def _without_unset(value: Any) -> Any:
    """Return JSON values without the optional fields that are not set, which older bundles do not have."""
    if isinstance(value, (list, tuple)):
        return [_without_unset(one) for one in value]
    if not isinstance(value, dict):
        return value
    set_fields = ((key, one) for key, one in value.items() if key not in _OPTIONAL or one not in (None, ()))
    return {key: _without_unset(one) for key, one in set_fields}


def _move_compression(values: dict[str, Any]) -> None:
    """Move what was decided of the compression out of ``quality``, to stand beside it."""
    compression = values["quality"].pop("compression")
    if compression is None:
        return
    del compression["agreement"]
    if compression["layers"] is not None:
        del compression["layers"]["calibration_agreement"]
        if not compression["layers"]["token_ranges"]:
            del compression["layers"]["token_ranges"]
    values["compression"] = compression
