"""The names that callers may rely on: a change here is a change of the public interface."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import monograph
from monograph import CrossEncoder, Embedder, MultiVectorEncoder, SparseEncoder
from monograph.compat.options import EmbedOptions, SparseOptions

OPEN = "self, model_name_or_path, device, compute_dtype, threads, check, cache_dir, max_tokens_per_batch, quality"
CALL = "prompt_name, prompt, batch_size, show_progress_bar"
# Where sentence-transformers shares texts among devices and processes.
SHARED = "pool, chunk_size"
ITER = "self, texts, prompt_name, prompt, batch_size, *, task, on_texts, **options"


# Of torch.nn.Module and sentence-transformers, for whatever task.
MODULE = {"compile", "cpu", "cuda", "eval", "get_backend", "requires_grad_", "to", "train"}


def test_the_package_exports_exactly_these_names() -> None:
    assert sorted(monograph.__all__) == [
        "Bundle",
        "BundleError",
        "CrossEncoder",
        "DeviceError",
        "Embedder",
        "ExportError",
        "HybridEmbeddings",
        "HybridScores",
        "InputError",
        "Manifest",
        "MonographError",
        "MultiVectorEncoder",
        "ParityError",
        "SparseEncoder",
        "SparseVector",
        "UnsupportedModuleError",
        "__version__",
        "load",
        "prepare",
    ]


def test_every_exported_name_exists() -> None:
    assert all(hasattr(monograph, name) for name in monograph.__all__)


def test_an_embedder_has_exactly_these_public_names() -> None:
    assert {name for name in dir(Embedder) if not name.startswith("_")} == MODULE | {
        "bundle",
        "close",
        "closed",
        "compute_dtype",
        "default_prompt_name",
        "device",
        "dimension",
        "encode",
        "encode_all",
        "encode_all_iter",
        "encode_chunks",
        "encode_document",
        "encode_iter",
        "encode_query",
        "engine",
        "evaluate",
        "fingerprint",
        "get_embedding_dimension",
        "get_max_seq_length",
        "get_sentence_embedding_dimension",
        "graph_precision",
        "hybrid_similarity",
        "hybrid_similarity_pairwise",
        "manifest",
        "max_length",
        "max_seq_length",
        "modalities",
        "model_card_data",
        "preprocess",
        "prompt_and_task",
        "prompts",
        "similarity",
        "similarity_fn_name",
        "similarity_pairwise",
        "start_multi_process_pool",
        "stop_multi_process_pool",
        "supports",
        "threads",
        "tokenize",
        "tokenizer",
        "truncate_dim",
        "truncate_embeddings",
        "truncate_sentence_embeddings",
        "warmup",
    }


def test_a_cross_encoder_has_exactly_these_public_names() -> None:
    assert {name for name in dir(CrossEncoder) if not name.startswith("_")} == MODULE | {
        "activation_fn",
        "bundle",
        "close",
        "closed",
        "compute_dtype",
        "config",
        "default_prompt_name",
        "device",
        "engine",
        "evaluate",
        "fingerprint",
        "get_max_seq_length",
        "graph_precision",
        "manifest",
        "max_length",
        "max_seq_length",
        "modalities",
        "model",
        "model_card_data",
        "num_labels",
        "predict",
        "preprocess",
        "prompts",
        "rank",
        "start_multi_process_pool",
        "stop_multi_process_pool",
        "supports",
        "threads",
        "tokenize",
        "tokenizer",
        "warmup",
    }


def test_a_sparse_encoder_has_exactly_these_public_names() -> None:
    assert {name for name in dir(SparseEncoder) if not name.startswith("_")} == MODULE | {
        "bundle",
        "close",
        "closed",
        "compute_dtype",
        "decode",
        "default_prompt_name",
        "device",
        "dimension",
        "encode",
        "encode_active",
        "encode_active_iter",
        "encode_document",
        "encode_iter",
        "encode_query",
        "engine",
        "evaluate",
        "fingerprint",
        "get_embedding_dimension",
        "get_max_seq_length",
        "get_sentence_embedding_dimension",
        "graph_precision",
        "intersection",
        "manifest",
        "max_active_dims",
        "max_length",
        "max_seq_length",
        "modalities",
        "model_card_data",
        "preprocess",
        "prompt_and_task",
        "prompts",
        "similarity",
        "similarity_fn_name",
        "similarity_pairwise",
        "sparsity",
        "start_multi_process_pool",
        "stop_multi_process_pool",
        "supports",
        "threads",
        "tokenize",
        "tokenizer",
        "warmup",
    }


def test_a_multi_vector_encoder_has_exactly_these_public_names() -> None:
    own = {"pad", "rank"}
    of_embedders = {
        *("encode_all", "encode_all_iter", "encode_chunks", "hybrid_similarity", "hybrid_similarity_pairwise"),
        *("truncate_dim", "truncate_embeddings", "truncate_sentence_embeddings"),
    }
    names = {name for name in dir(Embedder) if not name.startswith("_")} - of_embedders
    assert {name for name in dir(MultiVectorEncoder) if not name.startswith("_")} == names | own


def test_an_opened_embedder_has_no_other_attributes(tiny_embedder: Embedder) -> None:
    assert not hasattr(tiny_embedder, "__dict__")


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (monograph.load, OPEN.replace("self, model_name_or_path", "path")),
        (Embedder.__init__, f"{OPEN}, *, truncate_dim, similarity_fn_name, **options"),
        (
            Embedder.encode,
            f"self, inputs, {CALL}, output_value, precision, convert_to_numpy, convert_to_tensor, device, "
            f"normalize_embeddings, truncate_dim, {SHARED}, *, task, ranges, sentences",
        ),
        (Embedder.encode_query, f"self, inputs, {CALL}, *more, **options"),
        (Embedder.encode_document, f"self, inputs, {CALL}, *more, **options"),
        (Embedder.encode_iter, ITER),
        (Embedder.encode_chunks, "self, text, chunks, prompt_name, prompt, *, task, overlap"),
        (Embedder.encode_all, f"self, texts, {CALL}, *, task"),
        (Embedder.encode_all_iter, "self, texts, prompt_name, prompt, batch_size, *, task, on_texts"),
        (Embedder.hybrid_similarity, "queries, documents, weights"),
        (Embedder.hybrid_similarity_pairwise, "queries, documents, weights"),
        (Embedder.similarity, "self, embeddings1, embeddings2"),
        (Embedder.similarity_pairwise, "self, embeddings1, embeddings2"),
        (Embedder.close, "self"),
        (CrossEncoder.__init__, f"{OPEN}, *, num_labels, max_length, activation_fn, **options"),
        (
            CrossEncoder.predict,
            f"self, inputs, {CALL}, activation_fn, apply_softmax, convert_to_numpy, convert_to_tensor, device, "
            f"{SHARED}, *, sentences, activation_fct, num_workers",
        ),
        (
            CrossEncoder.rank,
            f"self, query, documents, top_k, return_documents, {CALL}, activation_fn, device, {SHARED}, "
            "*, activation_fct, num_workers, apply_softmax, convert_to_numpy, convert_to_tensor",
        ),
        (SparseEncoder.__init__, f"{OPEN}, *, max_active_dims, similarity_fn_name, **options"),
        (
            SparseEncoder.encode,
            f"self, inputs, {CALL}, convert_to_tensor, convert_to_sparse_tensor, save_to_cpu, device, max_active_dims, "
            f"{SHARED}, *, task, sentences",
        ),
        (SparseEncoder.encode_active, f"self, texts, {CALL}, *, task, max_active_dims"),
        (SparseEncoder.encode_query, f"self, inputs, {CALL}, *more, **options"),
        (SparseEncoder.encode_document, f"self, inputs, {CALL}, *more, **options"),
        (SparseEncoder.encode_iter, ITER),
        (SparseEncoder.encode_active_iter, ITER),
        (SparseEncoder.decode, "self, embeddings, top_k"),
        (MultiVectorEncoder.__init__, f"{OPEN}, *, similarity_fn_name, **options"),
        (MultiVectorEncoder.encode, f"self, inputs, {CALL}, *, task, **options"),
        (MultiVectorEncoder.encode_query, f"self, inputs, {CALL}, **options"),
        (MultiVectorEncoder.encode_document, f"self, inputs, {CALL}, **options"),
        (MultiVectorEncoder.encode_iter, ITER),
        (MultiVectorEncoder.similarity, "self, embeddings1, embeddings2"),
        (
            MultiVectorEncoder.rank,
            "self, query, documents, top_k, return_documents, batch_size, show_progress_bar",
        ),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_method_takes_these_parameters_in_this_order(method: Callable[..., Any], parameters: str) -> None:
    """Those before the star are in the order of sentence-transformers; those behind it go by name only."""
    shown: list[str] = []
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        shown.append(f"{stars.get(parameter.kind, '')}{parameter.name}")
    assert ", ".join(shown) == parameters


def test_options_that_are_passed_on_are_those_of_encode() -> None:
    for options, method in ((EmbedOptions, Embedder.encode), (SparseOptions, SparseEncoder.encode)):
        assert options.__annotations__.keys() <= inspect.signature(method).parameters.keys()


@pytest.mark.parametrize(
    "name", ["compute_dtype", "device", "dimension", "engine", "fingerprint", "manifest", "max_length", "threads"]
)
def test_what_an_embedder_says_of_itself_is_read_only(tiny_embedder: Embedder, name: str) -> None:
    assert isinstance(inspect.getattr_static(Embedder, name), property)
    with pytest.raises(AttributeError):
        setattr(tiny_embedder, name, None)
