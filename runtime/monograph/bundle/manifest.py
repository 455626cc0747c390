"""manifest.json: the only contract between the exporter and a runtime, in any language.

Raise ``FORMAT_VERSION`` when a reader of the previous version would give wrong vectors or fail on a bundle
of the new one; a new optional field that such a reader may ignore does not raise it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from monograph.json_files import json_bytes
from monograph.quality import Quality
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
# Domains of operators that the engines bring themselves. Anything else would need a library of custom
# operators, and such a library is code: it is never loaded from a bundle.
OP_DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True)
class Source:
    """The checkpoint a bundle was made of.

    ``license`` is that of its model card, an SPDX identifier where the card has one; ``sha256`` maps its weight files
    to their hashes.
    """

    name: str
    revision: str | None
    license: str | None
    sha256: dict[str, str]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; ``shape`` holds names for the axes that vary."""

    dtype: str
    shape: tuple[str | int, ...]


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of the bundle, and where it may run.

    ``parts`` has the approximate bytes of its parts. ``max_batch_size`` is the largest number of texts in a batch, None
    for any: 1 where a text's vector depends on its neighbours. ``route`` is the route of the model that it computes,
    None in a bundle without routes.
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


@dataclass(frozen=True)
class TokenizerSpec:
    """How texts become token ids; ``max_length`` counts tokens, special ones included, None for no limit.

    ``special_ids`` are tokens that do not belong to a prompt when they end it; only models whose pooling leaves out
    prompts have them. ``vocabulary_size`` is at most the rows of the table of embeddings: a token with an id of that or
    above, which some tokenizers have, has no embedding. ``min_length`` is 1 where the model has no output for a text
    without any token, as the empty one is for tokenizers that add no special tokens.
    """

    file: str
    max_length: int | None
    padding_side: str
    pad_id: int
    vocabulary_size: int
    special_ids: tuple[int, ...] = ()
    min_length: int = 0


@dataclass(frozen=True)
class Routing:
    """The routes of a model that embeds queries and documents differently.

    ``tokenizers`` has each route's; ``tasks`` maps "query", "document" and whatever else the model knows to a route;
    ``default`` is the route of texts without a task, None where the model requires one.
    """

    tokenizers: dict[str, TokenizerSpec]
    tasks: dict[str, str]
    default: str | None

    def route_of(self, task: str | None) -> str | None:
        """Return the route of a task, or of texts without one; None where the model has none for it."""
        return self.default if task is None else self.tasks.get(task)


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of a file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime knows of a bundle before it opens another file.

    Attributes:
        format_version: 1; a bundle of another version is refused.
        task: "embedding", "rerank" or "sparse".
        source: The checkpoint that it was made of.
        graphs: Its graphs; usually there is one.
        tokenizer: How texts become token ids; of a model with routes, the tokenizer of the first graph's route.
        section: The outputs of the task: an EmbeddingSection, RerankSection or SparseSection. In the file its key is
            the task's name.
        prompts: Prompts by name, each put before a text.
        default_prompt_name: Name of the prompt of texts for which the caller names none; None for no prompt.
        quality: What the export decided and measured; the measurements are in a file of their own.
        producer: Versions of the packages that wrote it.
        files: Size and hash of every other file, by name.
        routing: The routes of a model with a Router; None for any other.

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

    @property
    def tokenizers(self) -> dict[str | None, TokenizerSpec]:
        """The tokenizer of each route; of a bundle without routes the one tokenizer, under None."""
        return dict([(None, self.tokenizer)] if self.routing is None else self.routing.tokenizers.items())

    @property
    def output_width(self) -> int:
        """Columns of the graphs' output, 0 where the task's section is missing."""
        task = task_named(self.task)
        return 0 if task is None or self.section is None else task.output_width(self.section)

    def weights_file(self, graph: Graph) -> str:
        """Return the name of a graph's weights: its own file, or the first that is listed, which graphs share."""
        own = f"{graph.file.removesuffix(GRAPH_SUFFIX)}{WEIGHTS_SUFFIX}"
        # A valid manifest lists one.
        return own if own in self.files else next(name for name in self.files if name.endswith(WEIGHTS_SUFFIX))

    def to_json(self) -> dict[str, Any]:
        """Return everything that is known of the bundle as JSON values, measurements included."""
        values = asdict(self)
        return {(self.task if key == "section" else key): value for key, value in values.items()}

    def to_file(self) -> bytes:
        """Return the content of manifest.json, which has no measurements and is the same at every export.

        ``quality.verifications`` is there and empty, for older readers require it.
        """
        values = replace(self, quality=self.quality.without_measurements()).to_json()
        compression = values["quality"].pop("compression")
        if compression is not None:
            del compression["agreement"]
            if compression["layers"] is not None:
                del compression["layers"]["calibration_agreement"]
            values["compression"] = compression
        return json_bytes(values)
