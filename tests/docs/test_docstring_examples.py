"""The examples in docstrings that export something; tests/runtime has the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import monograph
import monograph_export
from support.doctests import check_examples


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["ExportError", "ParityError", "UnsupportedModuleError"])
def test_examples_of_errors_run(name: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    changed = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, changed)
    modules = json.loads((changed / "modules.json").read_text("utf-8"))
    modules.append({"idx": 9, "name": "9", "path": "9_LSTM", "type": "sentence_transformers.models.LSTM"})
    (changed / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    names = {public: getattr(monograph, public) for public in monograph.__all__}
    check_examples(names[name], name, {**names, "export": monograph_export.export, "checkpoint_with_lstm": changed})


@pytest.mark.parametrize("name", monograph_export.__all__)
def test_examples_of_the_exporter_run(name: str, tiny_checkpoint: Path) -> None:
    documented = getattr(monograph_export, name)
    check_examples(documented, name, {name: documented, "checkpoint": tiny_checkpoint})
