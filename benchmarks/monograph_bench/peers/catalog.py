"""The peers: what users would pick instead of monograph, by the names that the command line and the report use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monograph.tasks.embedding import EMBEDDING

# Sizes that are tried before the fastest is measured; most peers' own default, 32, is among them.
_BATCH_SIZES = (8, 16, 32, 64)
_SENTENCE_TRANSFORMERS = "sentence_transformers_model"
_MEAN_AND_CLS = frozenset({"mean", "cls"})
_TRANSFORMERS_JS = (
    'pipeline("feature-extraction", {{dtype: "%s"}}) in Node.js on a local folder, a batch a call in order of length. '
    "Timed with passing the texts to Node's process as JSON; reading its vectors is not timed. The start includes that "
    "of the Python process that starts Node."
)


@dataclass(frozen=True)
class Peer:
    """A system that is measured beside monograph.

    ``environment`` is the one that has its packages; ``adapter`` a module of ``worker/adapters``, which loads it with
    ``options``. ``tasks`` are those that it is measured with, None for all. ``usage`` describes how it is called, where
    "{class_name}", "{method}" and "{exported_part}" stand for those of the task's profile. ``exported`` is the format
    in which it loads models, one of ``exported_models``, None for the checkpoint's own folder. ``poolings`` are those
    it computes; None is a peer that loads the modules of Sentence Transformers themselves. ``model_types`` are those of
    config.json that it has an implementation of, None for all. ``program`` has to be in PATH, which no environment
    brings.

    Its vectors have at least ``min_cosine`` to those of torch at float32, and its scores differ by at most
    ``max_score_difference`` of their spread, as the tests check.
    """

    name: str
    environment: str
    adapter: str
    usage: str
    tasks: tuple[str, ...] | None = (EMBEDDING.name,)
    exported: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    poolings: frozenset[str] | None = None
    model_types: frozenset[str] | None = None
    program: str | None = None
    batch_sizes: tuple[int, ...] = _BATCH_SIZES
    min_cosine: float = 0.99999
    max_score_difference: float = 1e-5


_ALL = (
    Peer(
        name="sentence-transformers",
        environment="torch",
        adapter=_SENTENCE_TRANSFORMERS,
        usage="{class_name}(checkpoint).{method} in torch at float32; it sorts by length itself.",
        tasks=None,
        options={"backend": "torch", "compute_dtype": "float32"},
    ),
    Peer(
        name="st-bf16",
        environment="torch",
        adapter=_SENTENCE_TRANSFORMERS,
        usage="{class_name}(checkpoint).{method} with the whole model in bfloat16; it sorts by length itself.",
        tasks=None,
        options={"backend": "torch", "compute_dtype": "bfloat16"},
        min_cosine=0.999,
        max_score_difference=0.05,
    ),
    Peer(
        name="st-onnx",
        environment="optimum",
        adapter=_SENTENCE_TRANSFORMERS,
        usage='{class_name}(backend="onnx").{method}: ONNX Runtime for {exported_part}.',
        tasks=None,
        exported="onnx",
        options={"backend": "onnx", "compute_dtype": "float32"},
    ),
    Peer(
        name="st-openvino",
        environment="openvino",
        adapter=_SENTENCE_TRANSFORMERS,
        usage='{class_name}(backend="openvino").{method}: OpenVINO, in the type that it takes by itself, for '
        "{exported_part}.",
        exported="openvino",
        options={"backend": "openvino", "compute_dtype": "auto"},
        # In bfloat16 where the CPU has it.
        min_cosine=0.999,
    ),
    Peer(
        name="st-onnx-qint8",
        environment="optimum",
        adapter=_SENTENCE_TRANSFORMERS,
        usage='{class_name}(backend="onnx").{method} of the file that export_dynamic_quantized_onnx_model makes with '
        "the configuration for this CPU: ONNX Runtime for {exported_part}.",
        exported="onnx-qint8",
        options={"backend": "onnx", "compute_dtype": "int8"},
        min_cosine=0.9,
    ),
    Peer(
        name="st-openvino-qint8",
        environment="openvino",
        adapter=_SENTENCE_TRANSFORMERS,
        usage='{class_name}(backend="openvino").{method} of the file that export_static_quantized_openvino_model '
        "makes, calibrated with texts of the mixes short and mixed: OpenVINO for {exported_part}.",
        exported="openvino-qint8",
        options={"backend": "openvino", "compute_dtype": "int8"},
        # Static ranges: short texts, and those of other languages than the calibration's, lose the most.
        min_cosine=0.7,
    ),
    Peer(
        name="optimum",
        environment="optimum",
        adapter="optimum_model",
        usage="ORTModelForFeatureExtraction and AutoTokenizer on NumPy arrays, a batch a call in order of length; "
        "pooling and normalisation are the lines of NumPy that its users write.",
        exported="onnx",
        poolings=_MEAN_AND_CLS,
    ),
    Peer(
        name="fastembed",
        environment="onnxruntime",
        adapter="fastembed_model",
        usage="TextEmbedding.embed of a local model that add_custom_model describes; it batches in the order given.",
        exported="onnx",
        poolings=_MEAN_AND_CLS,
    ),
    Peer(
        name="light-embed",
        environment="onnxruntime",
        adapter="light_embed_model",
        usage="TextEmbedding.encode of a local model; it sorts by length itself.",
        exported="onnx",
        poolings=_MEAN_AND_CLS,
    ),
    Peer(
        name="openvino-genai",
        environment="openvino",
        adapter="openvino_genai_model",
        usage="TextEmbeddingPipeline.embed_documents, a batch a call in order of length, in the type that OpenVINO "
        "takes by itself.",
        exported="openvino",
        poolings=_MEAN_AND_CLS,
        # Its tokenizer writes the Greek final sigma as any other, so that some words have other tokens.
        min_cosine=0.99,
    ),
    Peer(
        name="ctranslate2",
        environment="onnxruntime",
        adapter="ctranslate2_model",
        usage="Encoder.forward_batch of a model converted with --quantization int8, on the ids of tokenizers, a batch "
        "a call in order of length; pooling and normalization are the lines of NumPy that its users write.",
        exported="ctranslate2-int8",
        poolings=_MEAN_AND_CLS,
        # Those whose encoders its converter knows.
        model_types=frozenset({"bert", "camembert", "distilbert", "roberta", "xlm-roberta"}),
        min_cosine=0.9,
    ),
    Peer(
        name="transformers.js",
        environment="transformers-js",
        adapter="transformers_js_model",
        usage=_TRANSFORMERS_JS % "fp32",
        exported="onnx",
        options={"dtype": "fp32"},
        poolings=_MEAN_AND_CLS,
        program="node",
        # A text that is too long is cut without the token that ends it.
        min_cosine=0.9,
    ),
    Peer(
        name="transformers.js-q8",
        environment="transformers-js",
        adapter="transformers_js_model",
        usage=_TRANSFORMERS_JS % "q8" + " The file is that of st-onnx-qint8.",
        exported="onnx-qint8",
        options={"dtype": "q8"},
        poolings=_MEAN_AND_CLS,
        program="node",
        min_cosine=0.9,
    ),
    Peer(
        name="text-embeddings-inference",
        environment="onnxruntime",
        adapter="text_embeddings_inference_server",
        usage="text-embeddings-router of PATH on a port of this machine's own, a request of /embed a batch in order of "
        "length; the server divides it as it likes. Timed with HTTP and JSON. The start includes that of the Python "
        "process that starts the server.",
        poolings=_MEAN_AND_CLS,
        program="text-embeddings-router",
        batch_sizes=(32, 128, 512),
        # In the type that the build takes by itself.
        min_cosine=0.99,
    ),
)
PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _ALL}


def peers_for(task: str | None) -> list[str]:
    """Return the names of the peers that are measured beside bundles of a task, or with None of every task."""
    return [peer.name for peer in PEERS.values() if peer.tasks is None or task in peer.tasks]
