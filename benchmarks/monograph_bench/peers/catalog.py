"""The peers: what users would pick instead of monograph, by the names that the command line and the report use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monograph.bundle.manifest import EMBEDDING, RERANK, SPARSE

# Sizes that are tried before the best is measured; most peers' own default, 32, is among them.
_BATCH_SIZES = (8, 16, 32, 64)
# The form of a peer that loads the checkpoint's own folder.
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Call:
    """How a peer is called for models of a task: by a module of ``worker/adapters``, and in words."""

    adapter: str
    usage: str


@dataclass(frozen=True)
class Peer:
    """A system that is measured beside monograph.

    ``environment`` is the one that has its packages. ``calls`` has an entry for each task that it is measured with; the
    adapter of that loads it with ``options``. ``form`` is what it loads: the CHECKPOINT, or one that ``forms`` makes of
    it, "onnx" or "openvino". ``poolings`` are those it computes; None is a peer that loads the modules of Sentence
    Transformers themselves.
    """

    name: str
    environment: str
    form: str
    calls: Mapping[str, Call]
    options: Mapping[str, object] = field(default_factory=dict)
    poolings: frozenset[str] | None = None
    batch_sizes: tuple[int, ...] = _BATCH_SIZES


_ALL = (
    Peer(
        name="sentence-transformers",
        environment="torch",
        form=CHECKPOINT,
        options={"backend": "torch", "compute_dtype": "float32"},
        calls={
            EMBEDDING: Call(
                "sentence_transformers_model",
                "SentenceTransformer(checkpoint).encode in torch at float32; it sorts by length itself.",
            ),
            RERANK: Call(
                "sentence_transformers_cross_encoder",
                "CrossEncoder(checkpoint).predict in torch at float32; it sorts by length itself.",
            ),
            SPARSE: Call(
                "sentence_transformers_sparse_encoder",
                "SparseEncoder(checkpoint).encode in torch at float32; it sorts by length itself.",
            ),
        },
    ),
    Peer(
        name="st-bf16",
        environment="torch",
        form=CHECKPOINT,
        options={"backend": "torch", "compute_dtype": "bfloat16"},
        calls={
            EMBEDDING: Call(
                "sentence_transformers_model",
                "SentenceTransformer(checkpoint).encode with the whole model in bfloat16; it sorts by length itself.",
            ),
            RERANK: Call(
                "sentence_transformers_cross_encoder",
                "CrossEncoder(checkpoint).predict with the whole model in bfloat16; it sorts by length itself.",
            ),
            SPARSE: Call(
                "sentence_transformers_sparse_encoder",
                "SparseEncoder(checkpoint).encode with the whole model in bfloat16; it sorts by length itself.",
            ),
        },
    ),
    Peer(
        name="st-onnx",
        environment="optimum",
        form="onnx",
        options={"backend": "onnx", "compute_dtype": "float32"},
        calls={
            EMBEDDING: Call(
                "sentence_transformers_model",
                'SentenceTransformer(backend="onnx").encode: ONNX Runtime for the encoder as optimum exports it, torch '
                "for the modules behind it.",
            ),
            RERANK: Call(
                "sentence_transformers_cross_encoder",
                'CrossEncoder(backend="onnx").predict: ONNX Runtime for the classifier as optimum exports it; it sorts '
                "by length itself.",
            ),
            SPARSE: Call(
                "sentence_transformers_sparse_encoder",
                'SparseEncoder(backend="onnx").encode: ONNX Runtime for the masked language model as optimum exports '
                "it, torch for the pooling behind it.",
            ),
        },
    ),
    Peer(
        name="st-openvino",
        environment="openvino",
        form="openvino",
        options={"backend": "openvino", "compute_dtype": "auto"},
        calls={
            EMBEDDING: Call(
                "sentence_transformers_model",
                'SentenceTransformer(backend="openvino").encode: OpenVINO, in the type that it takes by itself, for '
                "the encoder as optimum exports it, torch for the modules behind it.",
            ),
        },
    ),
    Peer(
        name="optimum",
        environment="optimum",
        form="onnx",
        poolings=frozenset({"mean", "cls"}),
        calls={
            EMBEDDING: Call(
                "optimum_model",
                "ORTModelForFeatureExtraction and AutoTokenizer on NumPy arrays, a batch a call in order of length; "
                "pooling and normalisation are the lines of NumPy that its users write.",
            ),
        },
    ),
    Peer(
        name="fastembed",
        environment="onnxruntime",
        form="onnx",
        poolings=frozenset({"mean", "cls"}),
        calls={
            EMBEDDING: Call(
                "fastembed_model",
                "TextEmbedding.embed of a local model that add_custom_model describes; it batches in the order given.",
            ),
        },
    ),
    Peer(
        name="light-embed",
        environment="onnxruntime",
        form="onnx",
        poolings=frozenset({"mean", "cls"}),
        calls={
            EMBEDDING: Call(
                "light_embed_model",
                "TextEmbedding.encode of a local model; it sorts by length itself.",
            ),
        },
    ),
    Peer(
        name="openvino-genai",
        environment="openvino",
        form="openvino",
        poolings=frozenset({"mean", "cls"}),
        calls={
            EMBEDDING: Call(
                "openvino_genai_model",
                "TextEmbeddingPipeline.embed_documents, a batch a call in order of length, in the type that OpenVINO "
                "takes by itself.",
            ),
        },
    ),
)
PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _ALL}


def peers_of(task: str) -> list[str]:
    """Return the names of the peers that are measured beside bundles of a task."""
    return [peer.name for peer in PEERS.values() if task in peer.calls]
