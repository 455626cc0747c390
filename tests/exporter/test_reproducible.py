"""Exports of one checkpoint have the same bytes, whatever threads and instructions a process uses."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from monograph.bundle import open_bundle
from monograph_export import arithmetic, compare_bundles, export
from monograph_export.probe_texts import probe_sentences
from support import encoders
from support.architectures import ARCHITECTURES
from support.checkpoints import byte_level_bpe, unigram, wordpiece
from support.command import assert_error, monograph, monograph_after_imports
from support.manifests import edit_manifest
from support.same_bytes import ANY, ONE_THREAD, assert_same_bytes, hashes

# Each test exports in several new processes, which import torch.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("train", [partial(wordpiece, lowercase=True), unigram, byte_level_bpe])
def test_the_tokenizers_of_the_tests_are_the_same_each_time(train: Callable[[int], Any]) -> None:
    first, second = (train(1000).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_the_bytes_are_the_same(tiny_checkpoint: Path, tiny_sparse_checkpoint: Path, tmp_path: Path) -> None:
    cases: list[tuple[Path, dict[str, Any]]] = [
        (tiny_checkpoint, {"precision": "int8"} | ANY),
        (ARCHITECTURES["XLM-R"].save(tmp_path / "unigram"), {"table": "int8"} | ANY),
        (tiny_sparse_checkpoint, {}),
    ]
    assert_same_bytes(cases, tmp_path)


@pytest.mark.slow
def test_every_precision_has_the_same_bytes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    precisions: list[dict[str, Any]] = [{"precision": precision} | ANY for precision in ("fp16", "int8")]
    assert_same_bytes([(tiny_checkpoint, options) for options in ({}, *precisions)], tmp_path)


@pytest.mark.slow
def test_every_kind_of_vocabulary_has_the_same_bytes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(probe_sentences()[:25]), encoding="utf-8")
    encoder = encoders.save_encoder(tiny_checkpoint, tmp_path / "encoder.onnx")
    cases: list[tuple[Path, dict[str, Any]]] = [
        (tiny_checkpoint, {"keep_vocab": str(corpus)}),
        (tiny_checkpoint, {"from_onnx": str(encoder)}),
        (ARCHITECTURES["XLM-R"].save(tmp_path / "unigram"), {"table": "int8"} | ANY),
        (ARCHITECTURES["MPNet"].save(tmp_path / "mpnet"), {}),
    ]
    assert_same_bytes(cases, tmp_path)


@pytest.mark.slow
def test_every_task_has_the_same_bytes(
    tiny_cross_checkpoint: Path, tiny_sparse_checkpoint: Path, tmp_path: Path
) -> None:
    cases: list[tuple[Path, dict[str, Any]]] = [
        (tiny_cross_checkpoint, {"precision": "int8", "min_rank_correlation": -1, "max_score_move": 100}),
        (tiny_sparse_checkpoint, {"table": "int8", "min_active_overlap": 0} | ANY),
    ]
    assert_same_bytes(cases, tmp_path)


def test_variables_are_hidden_and_back_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    with caplog.at_level(logging.WARNING), arithmetic.reproducible_environment():
        assert "ATEN_CPU_CAPABILITY" not in os.environ
        assert os.environ["MKL_CBWR"] == "AUTO,STRICT"
    assert os.environ["ATEN_CPU_CAPABILITY"] == "default"
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ
    (record,) = caplog.records
    assert record.getMessage().startswith("torch was imported with ATEN_CPU_CAPABILITY=default, so ")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    monkeypatch.delenv("MKL_CBWR")
    with arithmetic.reproducible_environment():
        pass
    assert "MKL_CBWR" not in os.environ
    assert len(caplog.records) == 1


@pytest.mark.parametrize("strict", [True, False])
def test_without_the_strict_mode_torch_computes_on_one_thread(strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "_is_strict", lambda _: strict)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with arithmetic.reproducible_torch():
            assert torch.get_num_threads() == (2 if strict else 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_library_without_mkl_is_not_strict(tmp_path: Path) -> None:
    assert not arithmetic._is_strict(tmp_path)


def test_an_export_is_compared_file_by_file(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    first, second = open_bundle(tiny_bundle), open_bundle(shutil.copytree(tiny_bundle, tmp_path / "second"))
    same = compare_bundles(first, second)
    assert same.differing == same.manifest_keys == ()
    assert [file.name for file in same.files] == [*first.manifest.files, "manifest.json"]
    int8 = compare_bundles(export(tiny_checkpoint, tmp_path / "int8", table="int8", **ANY), second)
    assert set(int8.differing) == {"model.onnx", "model.onnx.data", "probes.json", "manifest.json"}
    assert {"compression", "quality.reference", "files.model.onnx.bytes"} <= set(int8.manifest_keys)
    assert "tokenizer.json" not in str(int8.manifest_keys)
    lines = list(int8.describe())
    assert any(line.startswith("probes.json: differs, ") for line in lines)
    assert any(line.startswith("tokenizer.json: equal, ") for line in lines)
    assert lines[-1].startswith("measurements.json: differs, ")


def test_a_bundle_that_lacks_files_and_versions_is_compared(tiny_bundle: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(tiny_bundle, tmp_path / "older"))
    (older / "more.onnx.data").write_bytes(b"more")
    entry = {"bytes": 4, "sha256": hashlib.sha256(b"more").hexdigest()}
    edit_manifest(
        older,
        lambda value: (value["producer"].update(torch="2.0"), value["files"].update({"more.onnx.data": entry})),
    )
    comparison = compare_bundles(open_bundle(tiny_bundle), open_bundle(older))
    assert comparison.differing == ("more.onnx.data", "manifest.json")
    assert comparison.manifest_keys == ("producer.torch", "files.more.onnx.data")
    assert comparison.describe_versions() == f"torch {torch.__version__} instead of 2.0"
    assert "more.onnx.data: differs, missing and " in "\n".join(comparison.describe())
    assert "measurements.json: differs, " in "\n".join(comparison.describe())


def test_the_command_reproduces_a_bundle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert monograph("export", tiny_checkpoint, tmp_path / "bundle", "--quiet").returncode == 0
    before = hashes(tmp_path / "bundle")
    done = monograph("export", tiny_checkpoint, "--reproduce", tmp_path / "bundle", "--quiet", env=ONE_THREAD)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    *lines, measured, last = done.stdout.decode().splitlines()
    assert len(lines) == 5
    assert all(": equal, " in line for line in lines)
    assert measured.startswith("measurements.json: ")
    assert last == f"{tmp_path / 'bundle'}: reproduced"
    assert hashes(tmp_path / "bundle") == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_command_names_what_differs(tiny_checkpoint: Path, tiny_bundle: Path) -> None:
    done = monograph_after_imports(
        "export", tiny_checkpoint, "--reproduce", tiny_bundle, "--table", "int8", "--min-mean-cosine", -1,
        "--min-worst-cosine", -1, "--min-neighbour-agreement", 0, "--quiet",
    )  # fmt: skip
    words = ("the export differs from ", "give the checkpoint and the options that it was made with")
    assert_error(done, 1, *words)
    assert "keys of manifest.json that differ: " in done.stdout.decode()


@pytest.mark.parametrize("arguments", [[], ["bundle", "--reproduce", "other"]])
def test_the_command_takes_an_output_or_a_bundle(arguments: list[str], tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = monograph_after_imports(
        "export", tiny_checkpoint, *(tmp_path / one if "-" not in one else one for one in arguments)
    )
    assert_error(done, 2, "give either OUTPUT, the folder to write, or --reproduce BUNDLE")


def test_the_command_names_a_bundle_that_is_missing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = monograph_after_imports("export", tiny_checkpoint, "--reproduce", tmp_path / "absent")
    assert_error(done, 1, "there is no such folder")
