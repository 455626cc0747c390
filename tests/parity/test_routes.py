"""Models with a Router: every task takes the route that it takes in sentence-transformers."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from monograph import BundleError, Embedder, ExportError, InputError, MonographError, UnsupportedModuleError
from monograph.bundle import open_bundle, read_probes
from monograph.inference.opening import open_routes
from monograph.inference.verification import verify
from monograph_export import export
from monograph_export.checkpoint.checkpoint import read_checkpoint
from monograph_export.probe_texts import probe_sentences
from monograph_export.tasks.embedding import EMBEDDING_EXPORT
from support import checkpoints
from support.command import monograph
from support.parity import assert_close

LEGACY = "sentence_transformers.models.Asym"
TEXTS = [*probe_sentences()[:12], "", "one", "many words " * 60]


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    return checkpoints.save_transformer(checkpoints.TINY_BERT, checkpoints.wordpiece(1000, lowercase=True), folder)


@pytest.fixture(scope="module")
def asymmetric(transformer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries by a bag of embeddings, documents by a transformer, as sentence-transformers saves them."""
    documents = checkpoints.build_model(transformer, max_length=64, normalize=False)
    queries = StaticEmbedding(checkpoints.wordpiece(800, lowercase=False), embedding_dim=32)
    router = Router.for_query_document([queries], list(documents))
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu", prompts={"query": "find: "})
    folder = tmp_path_factory.mktemp("asymmetric")
    model.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def asymmetric_bundle(asymmetric: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(asymmetric, tmp_path_factory.mktemp("bundle") / "asymmetric").path


@pytest.mark.parametrize("device", ["cpu", "openvino", "auto"])
def test_queries_and_documents_take_their_routes(asymmetric: Path, asymmetric_bundle: Path, device: str) -> None:
    reference: Any = SentenceTransformer(str(asymmetric), device="cpu")
    with Embedder(asymmetric_bundle, device=device, compute_dtype="float32") as model:
        query, document = model.encode_query(TEXTS), model.encode_document(TEXTS)
        assert_close(query, reference.encode_query(TEXTS, batch_size=1))
        assert_close(document, reference.encode_document(TEXTS, batch_size=1))
        assert_close(model.encode(TEXTS), reference.encode(TEXTS, batch_size=1))
        assert_close(model.encode(TEXTS, task="query"), reference.encode(TEXTS, task="query", batch_size=1))
        assert_close(np.concatenate(list(model.encode_iter(iter(TEXTS), prompt="find: ", task="query"))), query)
        assert np.abs(query - document).max() > 0.1
        # The longer of both routes: a bag of embeddings has no limit.
        assert model.max_length is None


def test_a_route_without_a_limit_has_padding_buckets_of_its_own(asymmetric_bundle: Path) -> None:
    with Embedder(asymmetric_bundle, device="openvino") as model:
        padding_buckets = {
            name: pipeline.engine.padding_buckets for name, pipeline in model._open.routes.pipelines.items()
        }
    assert padding_buckets["document"] is not None
    assert padding_buckets["query"] is not None
    assert padding_buckets["document"][-1] == 64 < padding_buckets["query"][-1]


def test_a_model_with_routes_pickles_and_closes(asymmetric_bundle: Path) -> None:
    with Embedder(asymmetric_bundle, device="cpu") as model:
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.encode_query(TEXTS), model.encode_query(TEXTS))
        np.testing.assert_array_equal(again.encode_document(TEXTS), model.encode_document(TEXTS))
        assert again.fingerprint == model.fingerprint
    for encode in (model.encode_query, model.encode_document):
        with pytest.raises(MonographError, match="closed"):
            encode(TEXTS)
    again.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda sets: sets[:1], "no probes of the route 'query'"),
        (lambda sets: [*sets, replace(sets[0], route="other")], "the route 'other', which no graph has"),
    ],
)
def test_probes_that_do_not_fit_the_routes_are_refused(change: Any, words: str, asymmetric_bundle: Path) -> None:
    sets = change(list(read_probes(asymmetric_bundle)))
    routes = open_routes(open_bundle(asymmetric_bundle), device="cpu", compute_dtype="float32", threads=1)
    with pytest.raises(BundleError, match=words):
        verify(routes, sets)
    routes.close()


def test_every_route_is_verified(asymmetric_bundle: Path) -> None:
    assert {probes.route for probes in read_probes(asymmetric_bundle)} == {"query", "document"}
    # Who reads no routes takes the first graph, the tokenizer and the first probes: those of encode without a task.
    assert read_probes(asymmetric_bundle)[0].route == "document"
    manifest = json.loads((asymmetric_bundle / "manifest.json").read_text())
    assert manifest["graphs"][0]["route"] == manifest["routing"]["default"] == "document"
    assert manifest["tokenizer"] == manifest["routing"]["tokenizers"]["document"]
    assert manifest["quality"]["verifications"] == []
    for result in json.loads((asymmetric_bundle / "measurements.json").read_text())["verifications"]:
        assert result["passed"]
        assert {case["case"].partition(":")[0] for case in result["cases"]} == {"query", "document"}


def test_the_command_line_takes_a_task(asymmetric: Path, asymmetric_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one text\nanother text\n")
    output = tmp_path / "vectors.npy"
    options = ("--task", "query", "--prompt", "", "--device", "cpu", "-o", output)
    assert monograph("embed", asymmetric_bundle, tmp_path / "texts.txt", *options).returncode == 0
    reference: Any = SentenceTransformer(str(asymmetric), device="cpu")
    assert_close(np.load(output), reference.encode(["one text", "another text"], task="query", prompt=""))
    printed = monograph("info", asymmetric_bundle).stdout.decode()
    assert "'query' by query, 'document' by document" in printed
    verified = monograph("verify", asymmetric_bundle, "--device", "cpu")
    assert verified.returncode == 0
    assert "query: alone, unpadded" in verified.stdout.decode()


@pytest.mark.slow
def test_heads_behind_one_transformer_share_its_weights(transformer: Path, tmp_path: Path) -> None:
    """The layout of older asymmetric models: routes by names of their own, and none without a task."""
    model = checkpoints.build_model(transformer, max_length=64, normalize=False)
    model.append(Router({"QRY": [Dense(32, 24)], "DOC": [Dense(32, 24)]}, allow_empty_key=False))
    bundle = export(model, tmp_path / "bundle")
    body = (transformer / "model.safetensors").stat().st_size
    assert (bundle.path / "model.onnx.data").stat().st_size < 1.2 * body
    with Embedder(bundle.path, device="cpu") as embedder:
        for task in ("QRY", "DOC"):
            expected = model.encode(TEXTS, task=task, batch_size=1)
            assert_close(embedder.encode(TEXTS, task=task), expected)
        for wrong in (None, "query"):
            with pytest.raises(InputError, match="'QRY', 'DOC'"):
                embedder.encode(TEXTS, task=wrong)
        with pytest.raises(InputError, match="'QRY', 'DOC'"):
            embedder.encode_query(TEXTS)


def test_the_older_name_and_config_of_a_router_are_read(asymmetric: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(asymmetric, tmp_path / "checkpoint"))
    listing = checkpoint / "modules.json"
    listing.write_text(listing.read_text().replace("sentence_transformers.base.modules.router.Router", LEGACY))
    assert LEGACY in listing.read_text()
    assert [entry.name for entry in read_checkpoint(checkpoint).modules] == ["Router", "Normalize"]


@pytest.mark.parametrize(
    ("types", "error", "words"),
    [
        ({"a": "sentence_transformers.models.CNN"}, UnsupportedModuleError, "models.CNN"),
        ({"": LEGACY}, UnsupportedModuleError, "within another Router"),
        ({"../..": "sentence_transformers.models.Dense"}, ExportError, "leaves the folder"),
        (["a"], ExportError, "under types"),
        (None, ExportError, "under types"),
    ],
)
def test_a_router_that_cannot_be_exported_is_refused_before_it_is_loaded(
    types: Any, error: type[ExportError], words: str, asymmetric: Path, tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(asymmetric, tmp_path / "checkpoint"))
    config = checkpoint / "router_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "types": types}))
    with pytest.raises(error, match=words):
        EMBEDDING_EXPORT.check_checkpoint(read_checkpoint(checkpoint))


def test_a_task_is_refused_where_there_are_no_routes(tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match="leave task out"):
        tiny_embedder.encode("a", task="query")
    with pytest.raises(InputError, match="must be a str"):
        tiny_embedder.encode("a", task=["query"])  # type: ignore[call-overload]
    with pytest.raises(InputError, match="leave task out"):
        tiny_embedder.encode_iter(["a"], task="query")


def test_what_a_router_cannot_have_is_refused(asymmetric: Path, transformer: Path, tmp_path: Path) -> None:
    wrong: tuple[dict[str, Any], ...] = ({"precision": "int8"}, {"table": "int8"}, {"keep_scripts": "Latn"})
    for options in wrong:
        with pytest.raises(ExportError, match=r"Router.* leave out --"):
            export(asymmetric, tmp_path / "bundle", **options)
    model = checkpoints.build_model(transformer, max_length=64, normalize=False)
    model.append(Router({"query": [Dense(32, 24)], "document": [Dense(32, 16)]}))
    with pytest.raises(ExportError, match="different dimensions"):
        export(model, tmp_path / "bundle")
    model[2] = Router({"query": [Router({"a": [Dense(32, 24)]})], "document": [Dense(32, 24)]})
    with pytest.raises(UnsupportedModuleError, match="another Router"):
        export(model, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
