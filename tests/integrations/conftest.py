"""Tests of the frameworks that are installed: scripts/integrations runs each in an environment that has it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monograph import Embedder
from support.frameworks import DOCUMENT_PROMPT, FRAMEWORKS, OF_SERVER, RECIPES, is_installed, snippets
from support.manifests import edit_manifest
from support.ray_nodes import require_token

collect_ignore = [f"test_{name}.py" for name in (*FRAMEWORKS, *RECIPES) if not is_installed(name)]
collect_ignore += [
    f"test_{name}.py"
    for name, modules in OF_SERVER.items()
    if not all(importlib.util.find_spec(module) for module in modules)
]
DATA = Path(__file__).parents[1] / "data"
MakeOnce = Callable[[str, Callable[[Path], Path]], Path]
RunSnippet = Callable[[str], str]


def pytest_configure() -> None:
    require_token()


@pytest.fixture(scope="session")
def minilm_bundle(minilm: Path, make_once: MakeOnce) -> Path:
    """The bundle that scripts/integrations exported for all environments; without it, one of this run."""
    if "MONOGRAPH_MINILM" in os.environ:
        return Path(os.environ["MONOGRAPH_MINILM"])
    from monograph_export import export

    return make_once("minilm-bundle", lambda folder: export(minilm, folder / "bundle", recipe="all-MiniLM-L6-v2").path)


@pytest.fixture(scope="session")
def tiny_bundle(make_once: MakeOnce) -> Path:
    """A bundle with a prompt for documents, too, so that their vectors are others than those without one."""

    def make(folder: Path) -> Path:
        copied = Path(shutil.copytree(DATA / "embedding", folder / "bundle"))
        edit_manifest(copied, lambda manifest: manifest["prompts"].update(document=DOCUMENT_PROMPT))
        return copied

    return make_once("prompted-bundle", make)


@pytest.fixture(scope="session")
def tiny_embedder(tiny_bundle: Path) -> Iterator[Embedder]:
    """Of this folder's bundle: a fixture of the session that other tests have used has theirs."""
    with Embedder(tiny_bundle, device="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def tiny_sparse_bundle() -> Path:
    return DATA / "sparse"


@pytest.fixture
def run_snippet(minilm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSnippet:
    """Return a function that runs an integration's snippet of the page, and returns what it prints."""
    folder = tmp_path / "snippet"
    folder.mkdir()
    for name, bundle in {"minilm": minilm_bundle, "reranker": DATA / "rerank", "splade": DATA / "sparse"}.items():
        (folder / name).symlink_to(bundle)
    monkeypatch.chdir(folder)

    def run(name: str) -> str:
        (code,) = snippets(name)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, f"frameworks.md {name}", "exec", dont_inherit=True), {"__name__": name})  # noqa: S102  # our own page
        return output.getvalue()

    return run
