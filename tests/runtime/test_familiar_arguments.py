"""What callers of sentence-transformers give as arguments: it works, or is an error that says what to do."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import CrossEncoder, DeviceError, Embedder, InputError, SparseEncoder

LONG = "The ferry leaves at noon, so bring the blue suitcase. " * 12
TEXTS = ["A boat.", LONG]


def test_the_constructor_takes_the_options_of_sentence_transformers(tiny_bundle: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "truncate_dim": 8,
        "prompts": {"query": "find: ", "new": "new: "},
        "default_prompt_name": "new",
        "similarity_fn_name": "dot",
        "cache_folder": tmp_path,
        "token": "secret",
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": {},
        "processor_kwargs": None,
    }
    with Embedder(tiny_bundle, device="cpu", **options) as model, Embedder(tiny_bundle, device=None) as plain:
        assert model.prompts == {"query": "find: ", "document": "", "passage": "text: ", "new": "new: "}
        assert (model.default_prompt_name, model.similarity_fn_name, model.dimension) == ("new", "dot", 8)
        np.testing.assert_allclose(model.encode("x"), plain.encode("x", prompt="new: ", truncate_dim=8), atol=1e-3)
        assert b"secret" not in pickle.dumps(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate_dim": 0}, "truncate_dim"),
        ({"similarity_fn_name": "maxsim"}, "maxsim"),
        ({"default_prompt_name": "nothing"}, "'nothing' is not among the prompts"),
        ({"prompts": {"query": 3}}, "the prompt 'query' must be a str"),
        ({"revision": "main"}, "leave it out"),
        ({"cache_dir": "a", "cache_folder": "b"}, "two names"),
        ({"token": 5}, "token must be"),
        ({"backend": "tensorrt"}, "'onnx' or 'openvino', got 'tensorrt': leave it out"),
        ({"backend": "onnx", "device": "openvino"}, "leave one of them out"),
        ({"trust_remote_code": "yes"}, "trust_remote_code must be True or False"),
        ({"model_kwargs": {"dtype": "float16", "export": True}}, "give the type itself, compute_dtype='float16'"),
        ({"model_kwargs": {"provider": "CUDAExecutionProvider"}}, "an engine with device="),
        ({"model_kwargs": {"file_name": "onnx/model_qint8.onnx"}}, "quality="),
        ({"tokenizer_kwargs": {"model_max_length": 8}}, "max_seq_length"),
        ({"modules": [1]}, "export its folder with `monograph export`"),
    ],
)
def test_an_option_that_cannot_be_honoured_says_what_to_do(
    tiny_bundle: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Embedder(tiny_bundle, **options)


@pytest.mark.parametrize("kind", [Embedder, CrossEncoder, SparseEncoder])
def test_an_option_that_is_not_known_is_a_type_error_that_names_the_class(kind: Any, tiny_bundle: Path) -> None:
    with pytest.raises(TypeError, match=rf"^{kind.__name__} has no argument 'anything': leave it out; help") as caught:
        kind(tiny_bundle, anything=1)
    assert isinstance(caught.value, InputError)
    for name, advice in {"use_auth_token": "its name is token", "precision": "quality= chooses"}.items():
        with pytest.raises(InputError, match=rf"^{kind.__name__} has no argument '{name}' \(.*{advice}"):
            kind(tiny_bundle, **{name: "x"})


def test_a_device_that_is_not_known_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(DeviceError, match="mps"):
        Embedder(tiny_bundle, device="mps")


@pytest.mark.parametrize(("backend", "device"), [("onnx", "cpu"), ("openvino", "openvino:CPU")])
def test_a_backend_is_an_engine(tiny_bundle: Path, backend: str, device: str) -> None:
    with Embedder(tiny_bundle, backend=backend) as model:
        assert model.device == device
    with Embedder(tiny_bundle, backend=backend, device="cpu") as model:
        assert model.device == device


@pytest.mark.parametrize(
    "options",
    [
        {"trust_remote_code": True},
        {"backend": "torch"},
        {"model_kwargs": {"dtype": "float32", "attn_implementation": "eager", "low_cpu_mem_usage": True}},
        {"model_kwargs": {"torch_dtype": "auto"}, "processor_kwargs": {"use_fast": True}},
        {"tokenizer_kwargs": {}, "config_kwargs": None},
    ],
)
def test_options_that_change_nothing_are_accepted(options: dict[str, Any], embedder: Embedder) -> None:
    with Embedder(embedder.bundle.path, device="cpu", compute_dtype="float32", **options) as model:
        np.testing.assert_array_equal(model.encode(TEXTS), embedder.encode(TEXTS))


def test_lines_that_place_a_torch_module_are_accepted_where_they_change_nothing(embedder: Embedder) -> None:
    model: Any = embedder
    assert model.to("cpu").cpu().eval().train(False).requires_grad_(False) is model
    assert model.to(model.device).to(dtype=model.compute_dtype) is model
    assert model.compile() is None
    assert model.get_backend() == "onnx"
    refused: dict[Callable[[], Any], str] = {
        lambda: model.to("cuda:1"): "open the bundle there, with device='cuda:1'",
        lambda: model.cuda(): "open the bundle there, with device='cuda'",
        lambda: model.cuda(2): "with device='cuda:2'",
        lambda: model.to(dtype="float16"): "compute_dtype='float16'",
        lambda: model.train(): "train the checkpoint",
        lambda: model.requires_grad_(): "train the checkpoint",
    }
    for call, message in refused.items():
        with pytest.raises(InputError, match=message):
            call()


def test_arguments_that_change_nothing_are_accepted(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS)
    pool = embedder.start_multi_process_pool(["cpu", "cpu"])
    for options in (
        {"output_value": "sentence_embedding", "convert_to_numpy": True, "convert_to_tensor": False},
        {"device": "cpu", "pool": None, "chunk_size": None},
        {"device": ["cpu", "cpu"], "chunk_size": 10},
        {"pool": pool},
    ):
        for encode in (embedder.encode, embedder.encode_document):
            result: Any = encode(TEXTS, prompt="", **options)
            np.testing.assert_array_equal(result, vectors)
    embedder.stop_multi_process_pool(pool)
    # In the order of sentence-transformers.
    for encode in (embedder.encode, embedder.encode_document, embedder.encode_query):
        by_position: Any = encode  # of which types know the first five only
        # Of other batches than without a batch size, which round otherwise.
        np.testing.assert_allclose(
            by_position(TEXTS, None, "", 32, False, "sentence_embedding", "float32", True, False, "cpu", False, 8),
            vectors[:, :8],
            atol=1e-6,
        )
        with pytest.raises(TypeError, match="precision"):
            by_position(TEXTS, None, "", 32, False, "sentence_embedding", "float32", precision="int8")


def test_a_sparse_encoder_takes_arguments_by_position(sparse_encoder: SparseEncoder) -> None:
    for encode in (sparse_encoder.encode, sparse_encoder.encode_query, sparse_encoder.encode_document):
        by_position: Any = encode
        assert by_position(TEXTS, None, None, 32, False, None, None, True, "cpu", 3).nnz == 6


def test_texts_go_by_each_of_their_names(embedder: Embedder, sparse_encoder: SparseEncoder) -> None:
    expected = embedder.encode(TEXTS)
    np.testing.assert_array_equal(embedder.encode(inputs=TEXTS), expected)
    np.testing.assert_array_equal(embedder.encode(sentences=TEXTS), expected)
    np.testing.assert_array_equal(embedder.encode_document(sentences=TEXTS, prompt=""), expected)
    assert sparse_encoder.encode(sentences=TEXTS).shape == sparse_encoder.encode_query(inputs=TEXTS).shape
    with pytest.raises(InputError, match="two names of the same argument"):
        embedder.encode(TEXTS, sentences=TEXTS)
    with pytest.raises(InputError, match="got None"):
        embedder.encode()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_value": "token_embeddings"}, "this bundle has no 'token_embeddings': export it with --outputs"),
        ({"output_value": None}, "output_value None is not 'sentence_embedding' or 'token_embeddings'"),
        ({"device": "cuda"}, "runs on 'cpu': leave device out"),
        ({"device": ["cpu", "cuda:1"]}, "share the texts among them"),
        ({"pool": {"processes": [1]}}, "leave it out"),
        ({"pool": 3}, "leave it out"),
        ({"chunk_size": 0}, "chunk_size"),
    ],
)
def test_an_argument_that_cannot_be_honoured_says_what_to_do(
    embedder: Embedder,
    cross_encoder: CrossEncoder,
    sparse_encoder: SparseEncoder,
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        embedder.encode(TEXTS, **options)
    if "output_value" not in options:
        with pytest.raises(InputError, match=message):
            cross_encoder.predict(("a", "b"), **options)
        with pytest.raises(InputError, match=message):
            cross_encoder.rank("a", ["b"], **options)
        with pytest.raises(InputError, match=message):
            sparse_encoder.encode(TEXTS, **options)


def test_tensors_need_torch_and_say_so(
    embedder: Embedder, cross_encoder: CrossEncoder, sparse_encoder: SparseEncoder
) -> None:
    """This environment has no torch."""
    for call in (
        lambda: embedder.encode("x", convert_to_tensor=True),
        lambda: embedder.encode_query(TEXTS, convert_to_numpy=False),
        lambda: cross_encoder.predict(("a", "b"), convert_to_tensor=True),
        lambda: sparse_encoder.encode("x", convert_to_tensor=True),
        lambda: sparse_encoder.encode("x", convert_to_sparse_tensor=False),
    ):
        with pytest.raises(InputError, match="pip install torch"):
            call()


def test_a_cross_encoder_takes_its_own_options(tiny_cross_bundle: Path) -> None:
    pair = ("a query", LONG)
    with (
        CrossEncoder(tiny_cross_bundle, device="cpu", num_labels=1, max_length=12, activation_fn="Identity") as model,
        CrossEncoder(tiny_cross_bundle, device="cpu") as plain,
    ):
        assert (model.max_seq_length, model.activation_fn, plain.activation_fn) == (12, "Identity", "Sigmoid")
        plain.max_seq_length = 12
        assert model.predict(pair) == plain.predict(pair, activation_fn="Identity")
        plain.activation_fn = "Identity"
        assert model.predict(pair) == plain.predict(pair)
        with pytest.raises(InputError, match="'tanh' is not known"):
            plain.activation_fn = "tanh"
    for options, message in (
        ({"num_labels": 3}, "this model has 1"),
        ({"max_length": 5000}, "more than the 64 tokens"),
        ({"activation_fn": np.tanh}, "scores of 'Identity'"),
    ):
        with pytest.raises(InputError, match=message):
            CrossEncoder(tiny_cross_bundle, device="cpu", **options)


def test_a_cross_encoder_takes_former_names(cross_encoder: CrossEncoder) -> None:
    model: Any = cross_encoder
    pair = ("a query", "a document")
    logit = model.predict(pair, activation_fn="Identity")
    assert model.predict(pair, activation_fct="Identity", num_workers=0) == logit != model.predict(pair)
    [ranked] = model.rank(*pair[:1], pair[1:], activation_fct="Identity", num_workers=2, convert_to_tensor=True)
    assert ranked["score"] == pytest.approx(float(logit))
    with pytest.raises(InputError, match="two names of the same argument"):
        model.predict(pair, activation_fct="Identity", activation_fn="Sigmoid")
    assert model.config.num_labels == model.model.config.num_labels == model.num_labels == 1
    with pytest.raises(AttributeError, match=r"no 'id2label' of a configuration: read config\.json"):
        model.config.id2label  # noqa: B018
    with pytest.raises(AttributeError, match=r"default_activation_function.*its name is activation_fn"):
        model.default_activation_function  # noqa: B018


@pytest.mark.parametrize(
    ("query", "documents", "message"),
    [
        (["a query"], ["a document"], "query must be one str, got a list: rank for one query at a time"),
        ("a query", "a document", r"one str: put it in a list, \[document\]"),
        ("a query", None, "documents must be a str or a list of str, got None"),
        ("a query", [("a", "b")], "document 0 must be a str, got tuple: give one str for each"),
        ("a query", ["a", {"text": "b"}], "document 1 must be a str, got dict: give the text in it"),
    ],
)
def test_what_cannot_be_ranked_is_named(cross_encoder: CrossEncoder, query: Any, documents: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cross_encoder.rank(query, documents)


def test_a_sparse_encoder_takes_its_own_options(tiny_sparse_bundle: Path) -> None:
    with SparseEncoder(tiny_sparse_bundle, device="cpu", max_active_dims=5, similarity_fn_name="cosine") as model:
        assert model.encode(TEXTS).nnz == 10
        assert (model.similarity_fn_name, model.get_embedding_dimension()) == ("cosine", model.dimension)
        model.max_active_dims = 3
        assert model.encode(TEXTS, save_to_cpu=True).nnz == 6
