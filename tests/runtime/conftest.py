"""Fixtures of the runtime's own tests: committed bundles in place of exported ones, and some that a test may damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph.bundle.files import sha256_of

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

    def edit(change: Callable[[dict[str, Any]], object]) -> None:
        path = bundle_copy / "manifest.json"
        value = json.loads(path.read_bytes())
        change(value)
        path.write_text(json.dumps(value), encoding="utf-8")

    return edit


@pytest.fixture
def replace_file(
    bundle_copy: Path, edit_manifest: Callable[[Callable[[dict[str, Any]], object]], None]
) -> Callable[[str, bytes], None]:
    """Give a file of ``bundle_copy`` other content, with size and hash in the manifest to match."""

    def replace(name: str, content: bytes) -> None:
        path = bundle_copy / name
        path.write_bytes(content)
        entry = {"bytes": len(content), "sha256": sha256_of(path)}
        edit_manifest(lambda value: value["files"].update({name: entry}))

    return replace
