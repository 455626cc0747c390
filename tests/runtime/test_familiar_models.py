"""What callers of sentence-transformers give and ask: it works, or is an error that says what to do."""

from __future__ import annotations

import copy
import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import BundleError, CrossEncoder, DeviceError, Embedder, InputError, SparseEncoder, load
from monograph.defaults import CallDefaults
from monograph.util import SimilarityFunction

LONG = "The ferry leaves at noon, so bring the blue suitcase. " * 12
TEXTS = ["A boat.", LONG]


class Subclass(Embedder):
    def __init__(self, path: Path) -> None:
        super().__init__(path, device="cpu")
        self.label = "mine"


@pytest.fixture
def embedder(tiny_bundle: Path) -> Iterator[Embedder]:
    """A model whose settings a test may change."""
    with Embedder(tiny_bundle, device="cpu") as model:
        yield model


@pytest.fixture
def cross_encoder(tiny_cross_bundle: Path) -> Iterator[CrossEncoder]:
    with CrossEncoder(tiny_cross_bundle, device="cpu") as model:
        yield model


@pytest.fixture
def sparse_encoder(tiny_sparse_bundle: Path) -> Iterator[SparseEncoder]:
    with SparseEncoder(tiny_sparse_bundle, device="cpu") as model:
        yield model


def test_a_lower_maximum_length_cuts_texts_there(embedder: Embedder) -> None:
    whole = embedder.encode(TEXTS)
    assert embedder.max_seq_length == embedder.max_length == embedder.get_max_seq_length() == 96
    embedder.max_seq_length = 8
    assert embedder.max_seq_length == embedder.max_length == 8
    cut = embedder.encode(TEXTS)
    np.testing.assert_allclose(cut[0], whole[0], atol=1e-6)
    assert np.abs(cut[1] - whole[1]).max() > 1e-3
    assert embedder.preprocess(TEXTS)["input_ids"].shape == (2, 8)
    embedder.max_seq_length = 96
    np.testing.assert_allclose(embedder.encode(TEXTS), whole, atol=1e-6)


def test_a_pair_is_cut_as_well(cross_encoder: CrossEncoder) -> None:
    whole = cross_encoder.predict(("a query", LONG))
    cross_encoder.max_seq_length = 12
    assert cross_encoder.predict(("a query", LONG)) != whole


@pytest.mark.parametrize("value", [97, 0, -1, 2, 1.5, "8", None, True])
def test_a_maximum_length_that_cannot_be_is_refused(embedder: Embedder, value: Any) -> None:
    """More than the bundle was exported for, no room beside [CLS] and [SEP], or no count."""
    with pytest.raises(InputError, match=r"max_seq_length|leaves no room"):
        embedder.max_seq_length = value
    assert embedder.max_seq_length == 96


def test_the_length_can_be_set_while_other_threads_embed(embedder: Embedder) -> None:
    """Each text is cut at one of the lengths that were set, and none at another."""
    texts = [f"{LONG} {number}" for number in range(16)]
    expected = {}
    for length in (8, 90):
        embedder.max_seq_length = length
        expected[length] = embedder.encode(texts)
    assert np.abs(expected[8] - expected[90]).max(axis=1).min() > 1e-3
    results: list[NDArray[Any]] = []

    def embed() -> None:
        results.extend(embedder.encode(texts) for _ in range(10))

    threads = [threading.Thread(target=embed) for _ in range(3)]
    for thread in threads:
        thread.start()
    changes = 0
    while any(thread.is_alive() for thread in threads):
        embedder.max_seq_length = (8, 90)[changes % 2]
        changes += 1
    assert (len(results), changes > 3) == (30, True)
    for vectors in results:
        differences = [np.abs(vectors - known).max(axis=1) for known in expected.values()]
        assert np.minimum(*differences).max() < 1e-4


@pytest.mark.parametrize("name", ["max_seq_len", "device", "dimension", "manifest", "encode", "_private", "tokenizer"])
def test_assigning_anything_else_is_an_error_that_names_it(embedder: Embedder, name: str) -> None:
    with pytest.raises(InputError, match=f"{name!r} of Embedder cannot be set.*max_seq_length") as caught:
        setattr(embedder, name, 4)
    # Python's own error for it, too.
    assert isinstance(caught.value, AttributeError)


def test_a_subclass_may_have_attributes_of_its_own(tiny_bundle: Path) -> None:
    class Counting(Embedder):
        def __init__(self, path: Path) -> None:
            super().__init__(path, device="cpu")
            self.calls = 0

    with Counting(tiny_bundle) as model:
        model.calls += 1
        assert model.calls == 1
        for copied in (copy.copy(model), copy.deepcopy(model)):
            assert copied.calls == 1
            np.testing.assert_array_equal(copied.encode("x"), model.encode("x"))
            copied.close()
        assert not model.closed
    with Subclass(tiny_bundle) as picklable, pickle.loads(pickle.dumps(picklable)) as loaded:
        assert (type(loaded), loaded.label) == (Subclass, "mine")


def test_a_missing_method_says_what_to_do_and_is_not_there(embedder: Embedder) -> None:
    assert not hasattr(embedder, "half")
    advice_by_name = {
        "half": 'compute_dtype="float16"',
        "fit": "export it again",
        "save": "monograph pack",
        "save_pretrained": "monograph publish BUNDLE --checkpoint SOURCE --to",
        "push_to_hub": "monograph publish BUNDLE --checkpoint SOURCE --to",
    }
    for name, advice in advice_by_name.items():
        with pytest.raises(AttributeError, match=advice):
            getattr(embedder, name)
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = embedder.anything  # type: ignore[attr-defined]


def test_prompts_can_be_changed(embedder: Embedder) -> None:
    assert embedder.prompts == {"query": "search: ", "document": "", "passage": "text: "}
    by_hand = embedder.encode("A boat.", prompt="find: ")
    embedder.prompts["query"] = "find: "
    np.testing.assert_array_equal(embedder.encode_query("A boat."), by_hand)
    embedder.prompts = {"other": "find: "}
    np.testing.assert_array_equal(embedder.encode("A boat.", prompt_name="other"), by_hand)
    embedder.default_prompt_name = "other"
    np.testing.assert_array_equal(embedder.encode("A boat."), by_hand)
    with pytest.raises(InputError, match="default_prompt_name 'other' is not among the prompts"):
        embedder.prompts = {"query": "x"}
    with pytest.raises(InputError, match="'nothing' is not among"):
        embedder.default_prompt_name = "nothing"
    assert embedder.manifest.prompts["query"] == "search: "


def test_documents_have_the_prompt_of_documents(tiny_bundle: Path, tiny_sparse_bundle: Path) -> None:
    """Which is empty in the bundles of these tests, so that vectors without one would be equal."""
    prompts = {"document": "store: ", "query": "search: "}
    with Embedder(tiny_bundle, device="cpu", prompts=prompts) as model:
        assert np.abs(model.encode_document(TEXTS) - model.encode(TEXTS)).max() > 1e-3
        np.testing.assert_array_equal(model.encode_document(TEXTS), model.encode(TEXTS, prompt="store: "))
        np.testing.assert_array_equal(model.encode_document(TEXTS, prompt=""), model.encode(TEXTS))
        assert model.prompt_and_task("document") == ("document", None)
        assert model.prompt_and_task("query", prompt="") == (None, None)
    with SparseEncoder(tiny_sparse_bundle, device="cpu", prompts=prompts) as sparse:
        assert (sparse.encode_document(TEXTS) != sparse.encode(TEXTS)).nnz > 0
        assert (sparse.encode_document(TEXTS) != sparse.encode(TEXTS, prompt="store: ")).nnz == 0


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("x", "prompts must be a dict of prompts by name, got str"),
        ([("a", "b")], "prompts must be a dict of prompts by name, got list"),
        ({"query": 1}, "the prompt 'query' must be a str, got int"),
        ({1: "query"}, "the name of a prompt must be a str, got int"),
    ],
)
def test_what_are_no_prompts_is_refused(embedder: Embedder, prompts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder.prompts = prompts
    embedder.prompts["query"] = 5  # type: ignore[assignment]
    with pytest.raises(InputError, match="prompt must be a str"):
        embedder.encode_query("A boat.")


def test_dimensions_can_be_cut_by_default(embedder: Embedder) -> None:
    whole = embedder.encode("A boat.")
    with embedder.truncate_embeddings(8):
        assert embedder.dimension == embedder.get_embedding_dimension() == embedder.truncate_dim == 8
        np.testing.assert_array_equal(embedder.encode("A boat."), whole[:8])
    with embedder.truncate_sentence_embeddings(truncate_dim=4):
        assert embedder.get_sentence_embedding_dimension() == 4
    assert embedder.truncate_dim is None
    embedder.truncate_dim = 6
    assert embedder.encode(TEXTS).shape == (2, 6)
    with pytest.raises(InputError, match="truncate_dim"):
        embedder.truncate_dim = 0


def test_the_similarity_function_can_be_changed(embedder: Embedder) -> None:
    assert embedder.similarity_fn_name == "cosine"
    vectors = embedder.encode(TEXTS) * 2
    embedder.similarity_fn_name = SimilarityFunction.DOT_PRODUCT  # type: ignore[assignment]
    assert embedder.similarity_fn_name == "dot"
    np.testing.assert_allclose(embedder.similarity(vectors, vectors), vectors @ vectors.T, atol=1e-5)
    with pytest.raises(InputError, match="'maxsim' is not one of cosine"):
        embedder.similarity_fn_name = "maxsim"
    embedder.similarity_fn_name = None
    assert embedder.similarity_fn_name == "cosine"


def test_arguments_have_the_names_of_sentence_transformers(
    tiny_bundle: Path, tiny_cross_bundle: Path, tiny_sparse_bundle: Path
) -> None:
    with (
        Embedder(model_name_or_path=tiny_bundle, device="cpu") as embedder,
        CrossEncoder(model_name_or_path=tiny_cross_bundle, device="cpu") as cross_encoder,
        SparseEncoder(model_name_or_path=tiny_sparse_bundle, device="cpu") as sparse_encoder,
    ):
        cross_encoder.max_length = 16
        assert cross_encoder.max_seq_length == cross_encoder.max_length == 16
        models: tuple[Any, ...] = (embedder, sparse_encoder)
        for model in models:
            vectors = model.encode(TEXTS)
            assert model.similarity(embeddings1=vectors, embeddings2=vectors).shape == (2, 2)
            assert model.similarity_pairwise(embeddings1=vectors, embeddings2=vectors).shape == (2,)
            assert model.similarity_pairwise(vectors[0], vectors[1]).shape == ()
        shared = sparse_encoder.intersection(embeddings_1=vectors[0], embeddings_2=vectors)
        assert shared.shape == vectors.shape
        for kind in (Embedder, CrossEncoder, SparseEncoder):
            kind.stop_multi_process_pool(embedder.start_multi_process_pool())


def test_what_was_set_outlives_pickling(embedder: Embedder) -> None:
    embedder.max_seq_length, embedder.truncate_dim, embedder.prompts = 8, 4, {"query": "find: "}
    expected = embedder.encode_query(TEXTS)
    with pickle.loads(pickle.dumps(embedder)) as copied:
        np.testing.assert_array_equal(copied.encode_query(TEXTS), expected)
        assert (copied.max_seq_length, copied.prompts) == (8, {"query": "find: "})
        assert copied.model_card_data.metrics == {}


def test_settings_of_several_threads_are_all_made(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is made of what another thread changes meanwhile."""
    started = threading.Event()
    with_options = CallDefaults.with_options

    def slowly(defaults: CallDefaults[Any], **options: Any) -> CallDefaults[Any]:
        if "truncate_dim" in options:
            started.set()
            time.sleep(0.2)
        return with_options(defaults, **options)

    monkeypatch.setattr(CallDefaults, "with_options", slowly)
    thread = threading.Thread(target=setattr, args=(embedder, "truncate_dim", 8))
    thread.start()
    assert started.wait(10)
    embedder.similarity_fn_name, embedder.max_seq_length = "dot", 12
    embedder.prompts, embedder.default_prompt_name = {"query": "find: "}, "query"
    thread.join()
    assert (embedder.truncate_dim, embedder.similarity_fn_name, embedder.max_seq_length) == (8, "dot", 12)
    assert (embedder.prompts, embedder.default_prompt_name) == ({"query": "find: "}, "query")


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


def test_the_tokenizer_speaks_as_that_of_transformers(embedder: Embedder) -> None:
    tokenizer = embedder.tokenizer
    ids = tokenizer.encode("A boat.")
    assert tokenizer("A boat.")["input_ids"] == ids
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids  # type: ignore[arg-type]
    unknown = tokenizer.get_vocab()["[UNK]"]
    assert tokenizer.unk_token_id == tokenizer.convert_tokens_to_ids("zzqqx") == unknown
    assert tokenizer.convert_tokens_to_ids(["zzqqx", "[CLS]"]) == [unknown, ids[0]]
    assert ids[1:-1] == tokenizer.encode("A boat.", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids[1:-1]) == tokenizer.tokenize("A boat.")
    assert tokenizer.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids[1:-1])
    assert len(tokenizer.get_vocab()) == len(tokenizer) >= tokenizer.vocab_size
    # Untruncated, as in transformers; the model itself still truncates.
    assert len(tokenizer.encode(LONG)) > 96
    assert tokenizer.model_max_length == 96
    batch = tokenizer(["A boat.", "A ship."])
    assert batch["input_ids"][0] == ids
    assert tokenizer([("a", "b")])["token_type_ids"][0][-1] == 1
    with pytest.raises(AttributeError):
        tokenizer.truncation_side = "left"  # type: ignore[attr-defined]
    assert tokenizer.batch_decode([ids, ids], skip_special_tokens=True) == [tokenizer.decode(ids[1:-1])] * 2


def test_the_tokenizer_pads_and_truncates_where_a_call_says_so(embedder: Embedder) -> None:
    tokenizer = embedder.tokenizer
    padded = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")
    expected = embedder.preprocess(TEXTS)
    for name in ("input_ids", "attention_mask"):
        assert padded[name].dtype == np.int64
        np.testing.assert_array_equal(padded[name], expected[name])
    assert tokenizer("A boat.", return_tensors="np")["input_ids"].shape == (1, len(tokenizer.encode("A boat.")))
    assert tokenizer([], padding=True, return_tensors="np")["input_ids"].shape == (0, 0)
    assert [len(row) for row in tokenizer(TEXTS, padding="max_length", truncation=True)["input_ids"]] == [96, 96]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_tensors": "np"}, "needs texts of one length: give padding=True"),
        ({"return_tensors": "tf"}, "return_tensors must be 'np', 'pt' or None"),
        ({"return_tensors": "pt"}, "pip install torch"),
        ({"padding": "left"}, "padding must be"),
        ({"truncation": "only_first"}, "truncation must be"),
        ({"truncation": True, "max_length": 1}, "leaves no room"),
        ({"max_length": 0}, "max_length must be a positive integer"),
        ({"text_pair": ["one"]}, "as many texts as text, 2, got 1"),
        ({"text_pair": "one"}, "must both be a str"),
        ({"stride": 3}, "the tokenizer of a bundle has no argument 'stride'"),
    ],
)
def test_what_the_tokenizer_does_not_do_is_refused(embedder: Embedder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder.tokenizer(TEXTS, **options)
    with pytest.raises(AttributeError, match="the tokenizer of a bundle has no 'pad'"):
        embedder.tokenizer.pad  # type: ignore[attr-defined]  # noqa: B018


def test_texts_are_tokenized_as_for_the_graph(embedder: Embedder, cross_encoder: CrossEncoder) -> None:
    features = embedder.tokenize(TEXTS)
    assert features["input_ids"].shape == features["attention_mask"].shape == (2, 96)
    assert features["attention_mask"].sum(axis=1).tolist() == [len(embedder.tokenizer.encode("A boat.")), 96]
    longer = embedder.preprocess(["A boat."], prompt="search: ")["input_ids"]
    assert longer.shape[1] > len(embedder.tokenizer.encode("A boat."))
    assert cross_encoder.preprocess([("a query", "a document")])["token_type_ids"].max() == 1


def test_it_is_a_model_of_text(embedder: Embedder) -> None:
    assert embedder.modalities == ["text"]
    assert embedder.supports("text")
    assert not embedder.supports("image")


def test_an_evaluator_is_called_with_the_model(embedder: Embedder, tmp_path: Path) -> None:
    assert embedder.evaluate(lambda model, path: (model is embedder, path), str(tmp_path / "results")) == (
        True,
        str(tmp_path / "results"),
    )
    assert (tmp_path / "results").is_dir()


def test_a_checkpoint_is_an_error_that_prints_the_command(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match=f"monograph export {tmp_path} OUTPUT"):
        Embedder(tmp_path)
    with pytest.raises(BundleError, match="monograph export all-MiniLM-L6-v2 OUTPUT"):
        Embedder("all-MiniLM-L6-v2")


def test_load_takes_no_device_as_any(tiny_bundle: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with load(copied, device=None) as model:
        assert model.encode("x").shape == (24,)
