"""The names that callers may rely on: a change here is a change of the public interface."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import monograph
from monograph import CrossEncoder, Embedder, SparseEncoder
from monograph.embedder import EmbedOptions
from monograph.sparse_encoder import SparseOptions

OPEN = "self, path, device, compute_dtype, threads, check, cache_dir, max_tokens_per_batch, quality"
CALL = "prompt_name, prompt, batch_size, show_progress_bar"
ITER = "self, texts, prompt_name, prompt, batch_size, *, task, on_texts, **options"


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
        "SparseVector",
        "UnsupportedModuleError",
        "__version__",
        "load",
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
        "graph_precision",
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
        "graph_precision",
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
        "graph_precision",
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
        (monograph.load, OPEN.removeprefix("self, ")),
        (Embedder.__init__, OPEN),
        (Embedder.encode, f"self, texts, {CALL}, *, task, precision, ranges, normalize_embeddings, truncate_dim"),
        (Embedder.encode_query, f"self, texts, {CALL}, **options"),
        (Embedder.encode_document, f"self, texts, {CALL}, **options"),
        (Embedder.encode_iter, ITER),
        (Embedder.similarity, "self, first, second"),
        (Embedder.similarity_pairwise, "self, first, second"),
        (Embedder.close, "self"),
        (CrossEncoder.__init__, OPEN),
        (CrossEncoder.predict, f"self, inputs, {CALL}, *, activation_fn, apply_softmax"),
        (CrossEncoder.rank, f"self, query, documents, top_k, return_documents, {CALL}, *, activation_fn"),
        (SparseEncoder.__init__, OPEN),
        (SparseEncoder.encode, f"self, texts, {CALL}, *, task, max_active_dims"),
        (SparseEncoder.encode_active, f"self, texts, {CALL}, *, task, max_active_dims"),
        (SparseEncoder.encode_query, f"self, texts, {CALL}, **options"),
        (SparseEncoder.encode_document, f"self, texts, {CALL}, **options"),
        (SparseEncoder.encode_iter, ITER),
        (SparseEncoder.encode_active_iter, ITER),
        (SparseEncoder.decode, "self, embeddings, top_k"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_method_takes_these_parameters_in_this_order(method: Callable[..., Any], parameters: str) -> None:
    """Those before the star are in the order of sentence-transformers; those behind it go by name only."""
    shown: list[str] = []
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        shown.append(f"**{parameter.name}" if parameter.kind is parameter.VAR_KEYWORD else parameter.name)
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
