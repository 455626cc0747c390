"""manifest.json: the only contract between the exporter and a runtime.

Raise ``FORMAT_VERSION`` when a reader of the previous version would give wrong vectors or fail on a bundle
of the new one; a new optional field that such a reader may ignore does not raise it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from monograph.errors import BundleError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
EMBEDDING, RERANK, SPARSE = TASKS = ("embedding", "rerank", "sparse")
# What may be done with a logit to make it a score.
ACTIVATIONS = ("Identity", "Sigmoid")
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# What a runtime knows how to fill in.
TOKENIZER_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# 1 for the tokens that are pooled: of models that leave a prompt out of their pooling.
POOLING_MASK = "pooling_mask"
GRAPH_INPUTS = (*TOKENIZER_INPUTS, POOLING_MASK)
PROBES_FILE = "probes.json"
# Weights are external data beside their graph.
WEIGHTS_SUFFIX = ".onnx.data"
# Domains of operators that the engines bring themselves. Anything else would need a library of custom
# operators, and such a library is code: it is never loaded from a bundle.
OP_DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True)
class Source:
    """The checkpoint a bundle was made of; ``sha256`` maps its weight files to their hashes."""

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

    ``parts`` are about the bytes of its parts. ``max_batch_size`` bounds the texts of a batch, None for any number: 1 where
    a text's vector depends on its neighbours. ``route`` is the one of the model's routes that it computes, None in a
    bundle without routes.
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
    max_batch_size: int | None = None
    route: str | None = None


@dataclass(frozen=True)
class TokenizerSpec:
    """How texts become token ids; ``max_length`` counts tokens, special ones included.

    ``special_ids`` are those that do not belong to a prompt when they end it; only models whose prompts are left out of
    the pooling have them.
    """

    file: str
    max_length: int | None
    padding_side: str
    pad_id: int
    vocabulary_size: int
    special_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Routing:
    """The routes of a model that embeds queries and documents in ways of their own.

    ``tokenizers`` has each route's; ``tasks`` says which route a task takes ("query", "document" and whatever else the
    model knows); ``default`` is the route of texts without a task, None where the model wants one.
    """

    tokenizers: dict[str, TokenizerSpec]
    tasks: dict[str, str]
    default: str | None

    def route_of(self, task: str | None) -> str | None:
        """Return the route of a task, or of texts without one; None where the model has none for it."""
        return self.default if task is None else self.tasks.get(task)


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
class Rerank:
    """What the graph of a cross-encoder gives for a pair of texts: ``num_labels`` logits.

    ``activation`` is what makes scores of them by default; ``label_names`` are the model's names of the labels, none
    where it has none.
    """

    num_labels: int
    activation: str
    label_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sparse:
    """What the vectors of a sparse encoder are: a weight for each of ``dimension`` tokens, most of them 0.

    ``max_active_dims`` is how many of a vector's largest weights are kept by default, None for all.
    """

    dimension: int
    similarity: str
    max_active_dims: int | None = None


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of a file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime knows of a bundle before it opens another file.

    ``embedding``, ``rerank`` and ``sparse`` are the sections of their tasks: a bundle has that of its own and no other.
    """

    format_version: int
    task: str
    source: Source
    graphs: tuple[Graph, ...]
    tokenizer: TokenizerSpec
    embedding: Embedding | None
    prompts: dict[str, str]
    default_prompt_name: str | None
    quality: dict[str, Any]
    producer: dict[str, str]
    files: dict[str, FileEntry] = field(default_factory=dict)
    routing: Routing | None = None
    rerank: Rerank | None = None
    sparse: Sparse | None = None

    @property
    def tokenizers(self) -> dict[str | None, TokenizerSpec]:
        """The tokenizer of each route; of a bundle without routes the one tokenizer, under None."""
        return dict([(None, self.tokenizer)] if self.routing is None else self.routing.tokenizers.items())

    @property
    def output_width(self) -> int:
        """Columns of the graphs' output, 0 where the task's section is missing."""
        if self.rerank is not None:
            return self.rerank.num_labels
        vectors = self.embedding or self.sparse
        return 0 if vectors is None else vectors.dimension

    def need_embedding(self) -> Embedding:
        """Return what the vectors are.

        Raises:
            BundleError: the bundle is of another task.

        """
        if self.embedding is None:
            raise BundleError(self.source.name, [f"its task is {self.task!r}, so it has no vectors"])
        return self.embedding

    def need_rerank(self) -> Rerank:
        """Return what the scores are.

        Raises:
            BundleError: the bundle is of another task.

        """
        if self.rerank is None:
            raise BundleError(self.source.name, [f"its task is {self.task!r}, so it has no scores of pairs"])
        return self.rerank

    def need_sparse(self) -> Sparse:
        """Return what the sparse vectors are.

        Raises:
            BundleError: the bundle is of another task.

        """
        if self.sparse is None:
            raise BundleError(self.source.name, [f"its task is {self.task!r}, so it has no sparse vectors"])
        return self.sparse

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return asdict(self)
