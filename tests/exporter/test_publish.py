"""Publishing: what a repository holds, that it computes what the bundles do, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

from monograph import Embedder, ExportError, InputError
from monograph.bundle import open_bundle
from monograph.similarity import similarity, similarity_pairwise
from monograph_export import export
from monograph_export.publishing import Publication, publish
from support import checkpoints
from support.hub import Hub, Repository, environment, python, serve
from support.manifests import state_file

TEXTS = ["one short text", "another text, which is a little longer", "", "третий"]
# Random weights lose their neighbours to any rounding.
NO_LIMITS: dict[str, Any] = {"min_mean_cosine": 0.1, "min_worst_cosine": 0.1, "min_neighbour_agreement": 0.01}
# Weights as large as these tests' saturate 8-bit products on CPUs without VNNI.
PRECISIONS: dict[str, dict[str, Any]] = {"fp32": {}, "int8": {**NO_LIMITS, "reduce_range": True}, "fp16": NO_LIMITS}
# By the module of the command: the upload's variables are read when huggingface_hub is imported.
PUBLISH = """
import argparse
import sys
from monograph_export.publish_command import configure, run
parser = argparse.ArgumentParser()
configure(parser)
print(run(parser.parse_args(sys.argv[1:])))
"""
EMBED = """
import sys
from monograph import Embedder
with Embedder(sys.argv[1], device="cpu") as model:
    print(model.encode("one short text").tolist())
"""


CARD = """---
license: mit
language: [en, ru]
base_model: some-org/parent
datasets: [some-org/pairs]
---

# some-org/tiny-model

A model.
"""
TOKEN_TEXTS = [*TEXTS, "a text " * 20]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A checkpoint whose last layer the graphs compute for the first token only, at three precisions."""
    folder = tmp_path_factory.mktemp("published")
    checkpoint = checkpoints.tiny(
        folder,
        # Smaller weights give all texts the same vector, to 1e-5.
        config=checkpoints.TINY_BERT | {"initializer_range": 1.0},
        pooling="cls",
        dense=[{"in_features": 32, "out_features": 16, "activation": "Tanh"}],
    )
    (checkpoint / "README.md").write_text(CARD, "utf-8")
    made = [
        export(checkpoint, folder / precision, precision=precision, **options).path
        for precision, options in PRECISIONS.items()
    ]
    return checkpoint, made


@pytest.fixture(scope="module")
def published(bundles: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Publication]:
    checkpoint, made = bundles
    folder = tmp_path_factory.mktemp("repository") / "tiny-onnx"
    return folder, publish(made, checkpoint, folder)


def test_a_repository_is_the_first_bundle_for_monograph(
    published: tuple[Path, Publication], bundles: tuple[Path, list[Path]]
) -> None:
    folder, publication = published
    assert publication.commit is None
    assert set(publication.files) == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    opened, original = open_bundle(folder, "full"), open_bundle(bundles[1][0], "full")
    assert {entry.sha256 for entry in opened.manifest.files.values()} == {
        entry.sha256 for entry in original.manifest.files.values()
    }
    assert opened.manifest.quality == original.manifest.quality
    with Embedder(folder, device="cpu") as own, Embedder(bundles[1][0], device="cpu") as other:
        np.testing.assert_array_equal(own.encode(TEXTS), other.encode(TEXTS))


def test_no_file_at_the_top_takes_the_place_of_the_graphs_for_others(published: tuple[Path, Publication]) -> None:
    # sentence-transformers and optimum prefer it to onnx/model.onnx.
    assert not (published[0] / "model.onnx").exists()


@pytest.mark.parametrize(
    ("file", "min_cosine", "share"),
    # At int8 a single token may differ by more.
    [("model.onnx", 1 - 1e-6, 1.0), ("model_quantized.onnx", 0.98, 0.95), ("model_fp16.onnx", 0.9999, 1.0)],
)
def test_the_token_output_is_that_of_torch_and_makes_the_sentence_embedding(
    file: str, min_cosine: float, share: float, published: tuple[Path, Publication], bundles: tuple[Path, list[Path]]
) -> None:
    """A share of the tokens and of the texts is closer to its own reference than any two of these are to each other."""
    folder, _ = published
    session = onnxruntime.InferenceSession(folder / "onnx" / file)
    assert [output.name for output in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    model = SentenceTransformer(str(bundles[0]), device="cpu")
    features = model.preprocess(TOKEN_TEXTS)
    names = [one.name for one in session.get_inputs()]
    tokens, sentences = session.run(None, {name: features[name].numpy() for name in names})
    read = features["attention_mask"].numpy().astype(bool)
    expected = model[0](dict(features))["token_embeddings"].detach().numpy()
    for actual, reference in ((tokens[read], expected[read]), (sentences, model.encode(TOKEN_TEXTS))):
        among_themselves = similarity("cosine", reference, reference) - 2 * np.eye(len(reference))
        assert np.median(among_themselves.max(axis=1)) < min_cosine
        assert np.quantile(similarity_pairwise("cosine", actual, reference), 1 - share) > min_cosine


def test_weights_do_not_change(published: tuple[Path, Publication], bundles: tuple[Path, list[Path]]) -> None:
    folder, _ = published
    for file, bundle in zip(("model.onnx", "model_quantized.onnx", "model_fp16.onnx"), bundles[1], strict=True):
        own, original = (weights_of(path) for path in (folder / "onnx" / file, bundle / "model.onnx"))
        assert own == original
    assert (folder / "onnx/model.onnx_data").read_bytes() == (bundles[1][0] / "model.onnx.data").read_bytes()


def weights_of(path: Path) -> dict[str, bytes]:
    model = onnx.load(path)
    return {tensor.name: onnx.numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}


def test_the_settings_are_those_of_the_checkpoint(
    published: tuple[Path, Publication], bundles: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    folder = shutil.copytree(published[0], tmp_path / "with-weights")
    shutil.copyfile(bundles[0] / "model.safetensors", folder / "model.safetensors")
    own, original = (SentenceTransformer(str(path), device="cpu") for path in (folder, bundles[0]))
    np.testing.assert_array_equal(own.encode(TEXTS), original.encode(TEXTS))
    config = json.loads((folder / "config.json").read_bytes())
    assert config["transformers.js_config"] == {"use_external_data_format": {"model.onnx": True}}


def test_the_model_card_states_what_was_measured(published: tuple[Path, Publication]) -> None:
    folder, _ = published
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.language) == ("mit", ["en", "ru"])
    assert (card.data.base_model, card.data.datasets) == ("some-org/parent", ["some-org/pairs"])
    # The Hub shows how this library loads the repository, and sentence-transformers' default way needs other weights.
    assert card.data.library_name == "transformers.js"
    assert {"onnx", "transformers.js"} <= set(card.data.tags)
    assert "sentence-transformers" not in card.data.tags
    # By the checkpoint's card, and not by folders, which may have any name.
    assert card.text.strip().startswith("# tiny-model\n\nsome-org/tiny-model in ONNX, ")
    for words in ("| cpu (onnxruntime", "`onnx/model_fp16.onnx` | fp16", 'backend="onnx"', "sentence_embedding"):
        assert words in card.text
    # With a Dense module the pipeline would give other vectors.
    assert "pipeline(" not in card.text
    assert str(folder.parent) not in card.text
    # Neither is there before a release.
    assert "pypi.org/project/monograph" not in card.text
    assert 'pip install "monograph' not in card.text


def test_a_pipeline_is_shown_where_it_gives_the_vectors(tmp_path: Path) -> None:
    checkpoint = checkpoints.tiny(tmp_path)
    publish(export(checkpoint, tmp_path / "bundle").path, checkpoint, tmp_path / "mean")
    assert '{ pooling: "mean", normalize: true }' in (tmp_path / "mean" / "README.md").read_text("utf-8")


def test_a_dry_run_writes_nothing(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    publication = publish(tiny_bundle, tiny_checkpoint, tmp_path / "folder", dry_run=True)
    assert publication.files["onnx/model.onnx"] > 0
    assert list(tmp_path.iterdir()) == []


def test_bundles_that_do_not_go_together_are_refused(
    bundles: tuple[Path, list[Path]], tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    checkpoint, (fp32, int8, _) = bundles
    output = tmp_path / "output"
    with pytest.raises(ExportError, match="none of the bundles is of the precision fp32"):
        publish(int8, checkpoint, output)
    with pytest.raises(ExportError, match="more than one of the bundles has the precision fp32"):
        publish([fp32, fp32], checkpoint, output)
    with pytest.raises(ExportError, match="is not the checkpoint that it was exported from"):
        publish(fp32, tiny_checkpoint, output)
    assert not output.exists()


def test_a_checkpoint_with_other_modules_is_refused(bundles: tuple[Path, list[Path]], tmp_path: Path) -> None:
    """Its weights are the same, and the graph's own pooling is another."""
    checkpoint = shutil.copytree(bundles[0], tmp_path / "checkpoint")
    pooling = checkpoint / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_bytes())
    pooling.write_text(json.dumps(settings | {"pooling_mode": "mean"}), "utf-8")
    with pytest.raises(ExportError, match="give the --checkpoint that the bundle was exported from"):
        publish(bundles[1][0], checkpoint, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_other_tasks_are_refused(tiny_cross_checkpoint: Path, tiny_cross_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="its task is rerank; only embedding models are published"):
        publish(tiny_cross_bundle, tiny_cross_checkpoint, tmp_path / "output")


def test_a_wrong_reference_leaves_no_folder(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(tiny_bundle, tmp_path / "damaged")
    probes = json.loads((damaged / "probes.json").read_bytes())
    # Of other texts, in order: the vectors are of the first.
    probes["texts"] = probes["texts"][1:] + probes["texts"][:1]
    probes["token_counts"] = probes["token_counts"][1:] + probes["token_counts"][:1]
    (damaged / "probes.json").write_text(json.dumps(probes), "utf-8")
    state_file(damaged, "probes.json", hashlib.sha256((damaged / "probes.json").read_bytes()).hexdigest())
    with pytest.raises(ExportError, match=r"onnx/model\.onnx in a default session of ONNX Runtime: .* by "):
        publish(damaged, tiny_checkpoint, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_a_name_that_may_be_a_folder_is_refused(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match=r"write \./out/minilm for the folder"):
        publish(tiny_bundle, tiny_checkpoint, "out/minilm")
    with pytest.raises(ExportError, match="names a revision: give org/name"):
        publish(tiny_bundle, tiny_checkpoint, "org/name@main")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


def test_an_upload_is_opened_by_its_name(hub: Hub, tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = (tiny_bundle, "--checkpoint", tiny_checkpoint, "--to", "some-org/tiny-onnx", "--quiet")
    variables = environment(hub, tmp_path, HF_TOKEN="hf_test", HF_HUB_DISABLE_XET="1")
    variables.pop("HF_HUB_OFFLINE", None)
    listed = python(PUBLISH, *arguments, "--dry-run", env=variables)
    assert listed.returncode == 0, listed.stderr
    assert "would be published to some-org/tiny-onnx" in listed.stdout
    assert hub.requests == []
    done = python(PUBLISH, *arguments, env=variables)
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["some-org/tiny-onnx"]
    assert set(listed_names(listed.stdout)) == set(listed_names(done.stdout)) == set(repository.files)
    assert repository.commit in done.stdout
    assert not repository.private
    [message] = hub.commits
    assert message.startswith("Publish with monograph")
    embedded = python(EMBED, "some-org/tiny-onnx", env=variables)
    assert embedded.returncode == 0, embedded.stderr
    with Embedder(tiny_bundle, device="cpu") as model:
        assert json.loads(embedded.stdout.splitlines()[-1]) == model.encode("one short text").tolist()


def test_a_second_upload_deletes_the_graphs_of_the_first(
    hub: Hub, bundles: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    checkpoint, (fp32, int8, _) = bundles
    arguments = ("--checkpoint", checkpoint, "--to", "some-org/tiny-onnx", "--quiet")
    variables = environment(hub, tmp_path, HF_TOKEN="hf_test", HF_HUB_DISABLE_XET="1")
    variables.pop("HF_HUB_OFFLINE", None)
    assert python(PUBLISH, fp32, int8, *arguments, env=variables).returncode == 0
    files = hub.repositories["some-org/tiny-onnx"].files
    assert "onnx/model_quantized.onnx" in files
    # What a repository may have from other exporters, and what is of no loader.
    files |= {"model.onnx": b"older", "onnx/model_O4.onnx": b"older", "notes.txt": b"mine"}
    before = set(files)
    listed = python(PUBLISH, fp32, *arguments, "--dry-run", env=variables)
    assert "other files of onnx/ there, and a model.onnx at the top, would be deleted" in listed.stdout
    assert set(files) == before
    done = python(PUBLISH, fp32, *arguments, env=variables)
    assert done.returncode == 0, done.stderr
    stale = {"model.onnx", "onnx/model_O4.onnx", "onnx/model_quantized.onnx"}
    assert set(files) == before - stale
    assert {line.split()[1] for line in done.stdout.splitlines() if line.startswith("   deleted")} == stale
    assert "model_quantized" not in files["README.md"].decode()
    # One commit each.
    assert len(hub.commits) == 2


@pytest.mark.slow
def test_a_repository_is_private_where_that_was_asked_for(
    hub: Hub, tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    arguments = (tiny_bundle, "--checkpoint", tiny_checkpoint, "--quiet", "--private", "--to")
    variables = environment(hub, tmp_path, HF_TOKEN="hf_test", HF_HUB_DISABLE_XET="1")
    variables.pop("HF_HUB_OFFLINE", None)
    for _ in range(2):
        done = python(PUBLISH, *arguments, "some-org/hidden", env=variables)
        assert done.returncode == 0, done.stderr
    assert hub.repositories["some-org/hidden"].private
    hub.repositories["some-org/open"] = Repository({})
    done = python(PUBLISH, *arguments, "some-org/open", env=variables)
    assert "some-org/open exists and is public: make it private in its settings" in done.stderr
    assert hub.repositories["some-org/open"].files == {}
    with pytest.raises(InputError, match="is a folder: leave it out"):
        publish(tiny_bundle, tiny_checkpoint, tmp_path / "folder", private=True)


def listed_names(output: str) -> list[str]:
    return [line.split(" MB  ")[1] for line in output.splitlines() if " MB  " in line]


def test_a_refused_upload_says_what_to_do(hub: Hub, tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    hub.repositories["some-org/closed"] = Repository({}, refused=(403, None))
    variables = environment(hub, tmp_path, HF_TOKEN="hf_test")
    done = python(PUBLISH, tiny_bundle, "--checkpoint", tiny_checkpoint, "--to", "some-org/closed", env=variables)
    assert "MonographError: the Hub denies writing to some-org/closed (403): set HF_TOKEN or run" in done.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be uploaded to http://127.0.0.1:9"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set: unset it"),
        ({"HF_TOKEN": ""}, "an upload to some-org/tiny needs a token that may write there: set HF_TOKEN or run"),
        ({"HF_TOKEN": "hf_unknown"}, "the Hub denies writing to some-org/tiny (401)"),
        ({"HF_TOKEN": "hf_reader"}, "the token may only read"),
        ({}, "some-org/tiny exists and is public: make it private"),
    ],
)
def test_what_an_upload_needs_is_checked_before_anything_is_made(
    changed: dict[str, str], message: str, hub: Hub, tmp_path: Path
) -> None:
    """There is not even a bundle."""
    hub.repositories["some-org/tiny"] = Repository({})
    variables = environment(hub, tmp_path, HF_TOKEN="hf_test")
    variables.pop("HF_HUB_OFFLINE", None)
    arguments = ("absent", "--checkpoint", "absent", "--to", "some-org/tiny", "--private", "--quiet")
    done = python(PUBLISH, *arguments, env=variables | changed)
    assert message in done.stderr.splitlines()[-1]
