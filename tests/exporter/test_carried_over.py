"""What a checkpoint says of itself reaches the bundle and acts as it does in sentence-transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from sentence_transformers import SentenceTransformer

from monograph import Embedder
from monograph.tasks.embedding import PRECISIONS
from monograph_export import export
from monograph_export.checkpoint.checkpoint import read_checkpoint
from support import checkpoints

TEXTS = ["A Quiet Evening", "THE HARBOUR lights", "", "one two three four five six seven eight nine ten " * 4]
PROMPTS = {"query": "find: ", "passage": "read: ", "topic": "topic? "}


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer whose tokenizer keeps case, so that do_lower_case has something to do."""
    folder = tmp_path_factory.mktemp("cased")
    return checkpoints.save_transformer(checkpoints.TINY_BERT, checkpoints.wordpiece(1000, lowercase=False), folder)


@pytest.fixture(scope="module")
def pair(cased: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SentenceTransformer, Path]:
    model = checkpoints.build_model(
        cased,
        max_length=16,
        lowercase=True,
        normalize=False,
        prompts=PROMPTS,
        default_prompt_name="topic",
        similarity_fn_name="euclidean",
        truncate_dim=20,
    )
    output = tmp_path_factory.mktemp("carried") / "bundle"
    export(model, output)
    return model, output


def assert_close(actual: Any, expected: Any) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * max(1.0, float(np.abs(expected).max()))


def test_encode_with_every_prompt_equals_torch(pair: tuple[SentenceTransformer, Path]) -> None:
    reference, folder = pair
    ways: list[dict[str, Any]] = [{}, {"prompt": "own: "}, {"prompt": ""}, *({"prompt_name": name} for name in PROMPTS)]
    with Embedder(folder, device="cpu") as model:
        for way in ways:
            assert_close(model.encode(TEXTS, **way), reference.encode(TEXTS, batch_size=1, **way))
        assert_close(model.encode_query(TEXTS), reference.encode_query(TEXTS, batch_size=1))
        assert_close(model.encode_document(TEXTS), reference.encode_document(TEXTS, batch_size=1))
        assert_close(model.encode(TEXTS[0]), reference.encode(TEXTS[0]))


def test_settings_are_the_models(pair: tuple[SentenceTransformer, Path]) -> None:
    reference, folder = pair
    with Embedder(folder, device="cpu") as model:
        assert model.max_length == reference.max_seq_length == 16
        assert model.dimension == 20
        assert model.manifest.section.dimension == 32
        assert model.manifest.prompts == reference.prompts
        assert model.manifest.default_prompt_name == "topic"
        vectors = model.encode(TEXTS)
        assert_close(model.similarity(vectors, vectors), reference.similarity(vectors, vectors))
        assert_close(model.similarity_pairwise(vectors, vectors[::-1].copy()),
                     reference.similarity_pairwise(vectors, vectors[::-1].copy()))  # fmt: skip


def test_truncation_of_dimensions_equals_torch(pair: tuple[SentenceTransformer, Path]) -> None:
    reference, folder = pair
    with Embedder(folder, device="cpu") as model:
        for cut in (1, 7, 32, 64):
            for normalize in (False, True):
                options: dict[str, Any] = {"truncate_dim": cut, "normalize_embeddings": normalize}
                assert_close(model.encode(TEXTS, **options), reference.encode(TEXTS, batch_size=1, **options))


def test_output_precisions_equal_torch_bit_for_bit_of_the_same_vectors(tiny_embedder: Embedder) -> None:
    from sentence_transformers.util import quantize_embeddings

    vectors = tiny_embedder.encode(TEXTS)
    ranges = np.stack([vectors.min(0), vectors.max(0)])
    for precision in PRECISIONS[1:]:
        actual = tiny_embedder.encode(TEXTS, precision=precision, ranges=ranges)
        np.testing.assert_array_equal(actual, quantize_embeddings(vectors, precision, ranges=ranges))


def test_the_graph_is_one_with_external_weights_and_dynamic_axes(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    (graph,) = manifest["graphs"]
    assert list(graph["inputs"]) == ["input_ids", "attention_mask", "token_type_ids"]
    assert graph["inputs"]["input_ids"] == {"dtype": "int64", "shape": ["batch", "sequence"]}
    assert graph["outputs"] == {"sentence_embedding": {"dtype": "float32", "shape": ["batch", 24]}}
    assert graph["op_domains"] == ["ai.onnx"]
    model = ir.load(tiny_bundle / graph["file"])
    large = [value for value in model.graph.initializers.values() if value.const_value.nbytes >= 1024]  # type: ignore[union-attr]
    assert large
    assert all(isinstance(value.const_value, ir.ExternalTensor) for value in large)


def test_the_bundle_says_nothing_of_the_machine(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    """Rules A1 and A2: torch writes stack traces with file paths into every node."""
    for file in ("model.onnx", "manifest.json", "tokenizer.json", "probes.json", "measurements.json"):
        content = (tiny_bundle / file).read_bytes()
        for word in (b"site-packages", b"stack_trace", str(tiny_checkpoint.parent).encode(), str(Path.home()).encode()):
            assert word not in content, (file, word)


def test_probes_have_every_length_and_many_languages(minilm_bundle: Path) -> None:
    probes = json.loads((minilm_bundle / "probes.json").read_text())
    assert set(range(3, 131)) | {191, 192, 255, 256} <= set(probes["token_counts"])
    assert max(probes["token_counts"]) == 256
    assert len(probes["texts"]) > 150


def test_source_has_hashes_and_license(minilm: Path, minilm_bundle: Path) -> None:
    import hashlib

    source = json.loads((minilm_bundle / "manifest.json").read_text())["source"]
    digest = hashlib.sha256((minilm / "model.safetensors").read_bytes()).hexdigest()
    assert source["sha256"] == {"model.safetensors": digest}
    assert source["license"] == "Apache-2.0"
    assert source["name"] == "sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.slow
def test_a_bare_transformer_gets_mean_pooling_as_in_sentence_transformers(cased: Path, tmp_path: Path) -> None:
    reference = SentenceTransformer(str(cased), device="cpu")
    bundle = export(cased, tmp_path / "bundle")
    with Embedder(bundle.path, device="cpu") as model:
        assert_close(model.encode(TEXTS), reference.encode(TEXTS, batch_size=1))


def test_a_hubs_cache_tells_name_and_revision(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    from monograph_export.checkpoint.checkpoint import read_checkpoint

    revision = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--some-lab--small-model" / "snapshots" / revision
    shutil.copytree(tiny_checkpoint, cached)
    source = read_checkpoint(cached).source
    assert (source.name, source.revision) == ("some-lab/small-model", revision)
    source = read_checkpoint(tiny_checkpoint).source
    assert (source.name, source.revision) == ("checkpoint", None)


@pytest.mark.parametrize(
    ("stated", "spdx"),
    [
        ("mit", "MIT"),
        ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
        ("openrail", "LicenseRef-openrail"),
        ("a b/c", "LicenseRef-a-b-c"),
    ],
)
def test_a_license_is_an_spdx_expression(stated: str, spdx: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    (folder / "README.md").write_text(f"---\nlicense: {stated}\n---\nA model.\n")
    assert read_checkpoint(folder).source.license == spdx
