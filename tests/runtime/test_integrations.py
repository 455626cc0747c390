"""Integrations need their framework only where it is used."""

from __future__ import annotations

import copy
import importlib
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import monograph.integrations
from monograph import CrossEncoder, Embedder, InputError, MonographError, SparseEncoder
from monograph.integrations import frameworks
from support.frameworks import FRAMEWORKS, IMPORTED_WITHOUT, OF_SERVER, RECIPES, is_installed

DATA = Path(__file__).parents[1] / "data"
REQUIREMENTS = Path(__file__).parents[1] / "integrations" / "requirements"
LOADED = """
import sys
from monograph import Embedder
import monograph.integrations
print(sorted(set(sys.modules) & set(sys.argv[1:])))
"""


def test_importing_monograph_imports_no_framework() -> None:
    command = [sys.executable, "-c", LOADED, *FRAMEWORKS.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_integration_has_requirements_and_tests() -> None:
    (folder,) = monograph.integrations.__path__
    modules = {file.stem for file in Path(folder).glob("*.py")} - {"__init__", "frameworks"}
    assert modules == FRAMEWORKS.keys()
    tested = modules | RECIPES.keys() | OF_SERVER.keys()
    assert {file.stem for file in REQUIREMENTS.glob("*.txt")} == tested
    assert {file.stem for file in REQUIREMENTS.parent.glob("test_*.py")} == {f"test_{name}" for name in tested}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_missing_framework_is_an_error_that_says_what_to_install(name: str) -> None:
    if is_installed(name):
        pytest.skip(f"{name} is installed here")
    if name in IMPORTED_WITHOUT:
        importlib.import_module(f"monograph.integrations.{name}")
        return
    package = (REQUIREMENTS / f"{name}.txt").read_text("utf-8").split()[0]
    with pytest.raises(ImportError, match=f"pip install --upgrade {package} ") as caught:
        importlib.import_module(f"monograph.integrations.{name}")
    assert isinstance(caught.value, MonographError)


@pytest.fixture
def two_folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders with another bundle of the same name in each."""
    for name, bundle in {"first": "embedding", "second": "embedding-int8"}.items():
        shutil.copytree(DATA / bundle, tmp_path / name / "bundle")
    return tmp_path / "first", tmp_path / "second"


def test_a_shared_model_is_that_of_the_folder_at_the_time(
    two_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for folder in two_folders:
        monkeypatch.chdir(folder)
        models.append(frameworks.open_shared("bundle", "cpu", None))
        assert frameworks.absolute("bundle") == str(folder / "bundle")
        # By any name of the folder.
        assert frameworks.open_shared(folder / "bundle", "cpu", None) is models[-1]
    assert [model.graph_precision for model in models] == ["fp32", "int8"]
    with pytest.raises(InputError, match="is not the bundle that embedded what is stored"):
        frameworks.open_shared("bundle", "cpu", frameworks.identity_of(models[0]))


def test_a_shared_model_that_was_closed_is_opened_again(tiny_bundle: Path) -> None:
    first = frameworks.open_shared(tiny_bundle, "cpu", None)
    first.close()
    second = frameworks.open_shared(tiny_bundle, "cpu", None)
    assert (first.closed, second.closed) == (True, False)
    assert second.encode("one text").shape == (24,)


def test_a_lazy_model_is_opened_once_by_several_threads(tiny_bundle: Path) -> None:
    opened: list[Embedder] = []

    def slowly(model: Any, device: str | None) -> Embedder:
        time.sleep(0.1)
        opened.append(frameworks.open_embedder(model, device))
        return opened[-1]

    lazy = frameworks.LazyModel(slowly)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: lazy.get(tiny_bundle, "cpu"), range(4)))
    assert len(opened) == 1
    assert all(model is opened[0] for model in models)
    shared = copy.copy(lazy)
    assert shared.get(tiny_bundle, "cpu") is opened[0]
    assert shared.get(tiny_bundle, "openvino:CPU") is opened[1]
    assert lazy.get(tiny_bundle, "cpu") is opened[0]
    assert len(opened) == 2


def test_one_text_is_no_collection_and_several_are_no_query() -> None:
    assert frameworks.check_texts_of(("a", "b")) == ("a", "b")
    for text in ("abc", b"abc"):
        with pytest.raises(InputError, match=r"put it in a list, \[text\]"):
            frameworks.check_texts_of(text)
    assert frameworks.check_query("a") == "a"
    with pytest.raises(InputError, match="give one at a time"):
        frameworks.check_query(["a", "b"])
    with pytest.raises(InputError, match="a query must be a str, got None"):
        frameworks.check_query(None)


@pytest.mark.parametrize("kind", [Embedder, CrossEncoder, SparseEncoder])
def test_classes_are_named_so_that_keybert_and_bertopic_refuse_them(kind: type) -> None:
    """They search the representation of a model's type, and replace what they do not find there by another model."""
    assert "sentence_transformers" in str(kind)
    assert f"monograph.{kind.__module__.partition('.')[2]}.{kind.__name__}" in str(kind)
    # The names that they search before.
    assert not any(name in str(kind) for name in ("model2vec", "flair", "spacy", "gensim", "saved_model", "pipeline"))
