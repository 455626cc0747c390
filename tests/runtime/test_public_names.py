"""The names that callers may rely on: a change here is a change of the public interface."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import monograph
from monograph import CrossEncoder, Embedder, SparseEncoder

OPEN = ["self", "path", "device", "compute_dtype", "threads", "check", "cache_dir", "max_tokens_per_batch"]
ENCODE_OPTIONS = ["prompt_name", "prompt", "batch_size"]
RESULT_OPTIONS = ["precision", "ranges", "normalize_embeddings", "truncate_dim"]
ENCODE = ["self", "texts", *ENCODE_OPTIONS, "show_progress_bar", *RESULT_OPTIONS]

SPARSE = ["self", "texts", *ENCODE_OPTIONS, "show_progress_bar", "max_active_dims"]


def test_the_package_exports_exactly_these_names() -> None:
    assert sorted(monograph.__all__) == [
        "Bundle",
        "BundleError",
        "CrossEncoder",
        "DeviceError",
        "Embedder",
        "ExportError",
        "InputError",
        "Manifest",
        "MonographError",
        "ParityError",
        "SparseEncoder",
        "UnsupportedModuleError",
        "__version__",
        "prepare",
    ]


def test_every_exported_name_exists() -> None:
    assert all(hasattr(monograph, name) for name in monograph.__all__)


def test_an_embedder_has_exactly_these_public_names() -> None:
    assert {name for name in dir(Embedder) if not name.startswith("_")} == {
        "close",
        "compute_dtype",
        "device",
        "dimension",
        "encode",
        "encode_document",
        "encode_iter",
        "encode_query",
        "engine",
        "fingerprint",
        "manifest",
        "max_length",
        "similarity",
        "similarity_pairwise",
        "threads",
        "warmup",
    }


def test_a_cross_encoder_has_exactly_these_public_names() -> None:
    assert {name for name in dir(CrossEncoder) if not name.startswith("_")} == {
        "close",
        "compute_dtype",
        "device",
        "engine",
        "fingerprint",
        "manifest",
        "max_length",
        "num_labels",
        "predict",
        "rank",
        "threads",
        "warmup",
    }


def test_a_sparse_encoder_has_exactly_these_public_names() -> None:
    assert {name for name in dir(SparseEncoder) if not name.startswith("_")} == {
        "close",
        "compute_dtype",
        "decode",
        "device",
        "dimension",
        "encode",
        "encode_active",
        "encode_active_iter",
        "encode_document",
        "encode_iter",
        "encode_query",
        "engine",
        "fingerprint",
        "intersection",
        "manifest",
        "max_length",
        "similarity",
        "similarity_pairwise",
        "sparsity",
        "threads",
        "warmup",
    }


def test_an_opened_embedder_adds_no_public_attribute(tiny_embedder: Embedder) -> None:
    assert all(name.startswith("_") for name in vars(tiny_embedder))


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Embedder.__init__, OPEN),
        (Embedder.encode, [*ENCODE, "task"]),
        (Embedder.encode_query, ENCODE),
        (Embedder.encode_document, ENCODE),
        (Embedder.encode_iter, ["self", "texts", *ENCODE_OPTIONS, *RESULT_OPTIONS, "on_texts", "task"]),
        (Embedder.similarity, ["self", "first", "second"]),
        (Embedder.similarity_pairwise, ["self", "first", "second"]),
        (Embedder.close, ["self"]),
        (CrossEncoder.__init__, OPEN),
        (
            CrossEncoder.predict,
            ["self", "inputs", *ENCODE_OPTIONS, "show_progress_bar", "activation_fn", "apply_softmax"],
        ),
        (
            CrossEncoder.rank,
            [
                *("self", "query", "documents", "top_k", "return_documents"),
                *(*ENCODE_OPTIONS, "show_progress_bar", "activation_fn"),
            ],
        ),
        (SparseEncoder.__init__, OPEN),
        (SparseEncoder.encode, [*SPARSE, "task"]),
        (SparseEncoder.encode_active, [*SPARSE, "task"]),
        (SparseEncoder.encode_query, SPARSE),
        (SparseEncoder.encode_document, SPARSE),
        (SparseEncoder.encode_iter, ["self", "texts", *ENCODE_OPTIONS, "max_active_dims", "on_texts", "task"]),
        (SparseEncoder.decode, ["self", "embeddings", "top_k"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_method_takes_these_parameters_in_this_order(method: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


@pytest.mark.parametrize(
    "name", ["compute_dtype", "device", "dimension", "engine", "fingerprint", "manifest", "max_length", "threads"]
)
def test_what_an_embedder_says_of_itself_is_read_only(tiny_embedder: Embedder, name: str) -> None:
    assert isinstance(inspect.getattr_static(Embedder, name), property)
    with pytest.raises(AttributeError):
        setattr(tiny_embedder, name, None)
