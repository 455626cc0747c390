"""The peers: what users would pick instead of monograph, by the names that the command line and the report use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Sizes that are tried before the best is measured; most peers' own default, 32, is among them.
_BATCH_SIZES = (8, 16, 32, 64)
# The form of a peer that loads the checkpoint's own folder.
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Peer:
    """A system that is measured beside monograph.

    ``environment`` is the one that has its packages, ``adapter`` the module of ``worker/adapters`` that loads it with
    ``options``; ``form`` is what it loads: the CHECKPOINT, or one that ``forms`` makes of it, "onnx" or "openvino".
    ``usage`` says in words how it is called. ``poolings`` are those it computes; None is a peer that loads the modules
    of Sentence Transformers themselves.
    """

    name: str
    environment: str
    adapter: str
    form: str
    usage: str
    options: Mapping[str, object] = field(default_factory=dict)
    poolings: frozenset[str] | None = None
    batch_sizes: tuple[int, ...] = _BATCH_SIZES


_ALL = (
    Peer(
        name="sentence-transformers",
        environment="torch",
        adapter="sentence_transformers_model",
        form=CHECKPOINT,
        options={"backend": "torch", "compute_dtype": "float32"},
        usage="SentenceTransformer(checkpoint).encode in torch at float32; it sorts by length itself.",
    ),
    Peer(
        name="st-bf16",
        environment="torch",
        adapter="sentence_transformers_model",
        form=CHECKPOINT,
        options={"backend": "torch", "compute_dtype": "bfloat16"},
        usage="SentenceTransformer(checkpoint).encode with the whole model in bfloat16; it sorts by length itself.",
    ),
    Peer(
        name="st-onnx",
        environment="optimum",
        adapter="sentence_transformers_model",
        form="onnx",
        options={"backend": "onnx", "compute_dtype": "float32"},
        usage='SentenceTransformer(backend="onnx").encode: ONNX Runtime for the encoder as optimum exports it, torch '
        "for the modules behind it.",
    ),
    Peer(
        name="st-openvino",
        environment="openvino",
        adapter="sentence_transformers_model",
        form="openvino",
        options={"backend": "openvino", "compute_dtype": "auto"},
        usage='SentenceTransformer(backend="openvino").encode: OpenVINO, in the type that it takes by itself, for the '
        "encoder as optimum exports it, torch for the modules behind it.",
    ),
    Peer(
        name="optimum",
        environment="optimum",
        adapter="optimum_model",
        form="onnx",
        poolings=frozenset({"mean", "cls"}),
        usage="ORTModelForFeatureExtraction and AutoTokenizer on NumPy arrays, a batch a call in order of length; "
        "pooling and normalisation are the lines of NumPy that its users write.",
    ),
    Peer(
        name="fastembed",
        environment="onnxruntime",
        adapter="fastembed_model",
        form="onnx",
        poolings=frozenset({"mean", "cls"}),
        usage="TextEmbedding.embed of a local model that add_custom_model describes; it batches in the order given.",
    ),
    Peer(
        name="light-embed",
        environment="onnxruntime",
        adapter="light_embed_model",
        form="onnx",
        poolings=frozenset({"mean", "cls"}),
        usage="TextEmbedding.encode of a local model; it sorts by length itself.",
    ),
    Peer(
        name="openvino-genai",
        environment="openvino",
        adapter="openvino_genai_model",
        form="openvino",
        poolings=frozenset({"mean", "cls"}),
        usage="TextEmbeddingPipeline.embed_documents, a batch a call in order of length, in the type that OpenVINO "
        "takes by itself.",
    ),
)
PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _ALL}
