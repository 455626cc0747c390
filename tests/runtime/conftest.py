"""Fixtures of the runtime's own tests: committed bundles in place of exported ones, and some that a test may damage."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monograph import CrossEncoder, Embedder, SparseEncoder
from monograph.bundle.files import sha256_of
from support import manifests

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    return DATA / "embedding"


@pytest.fixture(scope="session")
def tiny_int8_bundle() -> Path:
    return DATA / "embedding-int8"


@pytest.fixture(scope="session")
def tiny_cross_bundle() -> Path:
    return DATA / "rerank"


@pytest.fixture(scope="session")
def tiny_sparse_bundle() -> Path:
    return DATA / "sparse"


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that belongs to the test."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copied"))


@pytest.fixture
def edit_manifest(bundle_copy: Path) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Apply a change to the parsed manifest of ``bundle_copy`` and write it back."""
    return functools.partial(manifests.edit_manifest, bundle_copy)


@pytest.fixture
def replace_file(bundle_copy: Path) -> Callable[[str, bytes], None]:
    """Give a file of ``bundle_copy`` other content, with size and hash in the manifest to match."""

    def replace(name: str, content: bytes) -> None:
        path = bundle_copy / name
        path.write_bytes(content)
        manifests.state_file(bundle_copy, name, sha256_of(path))

    return replace


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
