"""`monograph eval` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.command import assert_error, monograph, monograph_after_imports
from support.cranfield import Cranfield

ON_CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def sts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sts") / "sts.tsv"
    file.write_text("A boat.\tA ship.\t4\nA boat.\tBread.\t0\nBread and butter.\tA loaf.\t3\n")
    return file


def scored(*arguments: object) -> dict[str, Any]:
    done = monograph_after_imports("eval", *arguments, "--json")
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.slow
def test_all_tasks_beside_sentence_transformers(
    minilm_bundle: Path, minilm: Path, data: Path, tmp_path: Path, sts: Path
) -> None:
    beir = Cranfield(data / "cranfield").write_beir(tmp_path / "beir", queries=5, documents=30)
    english, frisian = (tmp_path / side for side in ("eng", "fry"))
    for file in (english, frisian):
        lines = (data / "tatoeba-laser" / f"tatoeba.fry-eng.{file.name}").read_text("utf-8").splitlines()
        file.write_text("\n".join(lines[:40]), "utf-8")
    report = scored(
        minilm_bundle, *ON_CPU, "--sts", sts, "--translation", frisian, english, "--mse", english, frisian,
        "--teacher", minilm_bundle, "--retrieval", beir, "--reference", f"st:{minilm}", "--threads", 2,
    )  # fmt: skip
    assert report["bundle"] == {"name": str(minilm_bundle), "runs_on": report["bundle"]["runs_on"]}
    assert report["bundle"]["runs_on"].startswith("cpu (onnxruntime ")
    assert report["reference"]["runs_on"].startswith("cpu (torch ")
    metrics = {task: [row["metric"] for row in report["scores"] if row["task"] == task] for task in
               ("sts", "translation", "mse", "retrieval")}  # fmt: skip
    assert metrics == {
        "sts": ["pearson_cosine", "spearman_cosine"],
        "translation": ["src2trg_accuracy", "trg2src_accuracy", "mean_accuracy"],
        "mse": ["mse"],
        "retrieval": ["ndcg@10", "map@100", "recall@10", "recall@100"],
    }
    for row in report["scores"]:
        assert abs(row["difference"]) <= 0.01, row
        assert row["difference"] == row["score"] - row["reference"]
    assert report["scores"][2]["files"] == [str(frisian), str(english)]
    assert report["scores"][2]["pairs"] == 40
    assert report["scores"][-1]["documents"] == 30


def test_the_table_and_what_a_reference_costs(tiny_bundle: Path, tiny_checkpoint: Path, sts: Path) -> None:
    done = monograph_after_imports(
        "eval", tiny_bundle, *ON_CPU, "--sts", sts, "--sts", sts, "--reference", f"st:{tiny_checkpoint}"
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith(f"{tiny_bundle}: cpu (onnxruntime ")
    assert lines[1].startswith(f"reference st:{tiny_checkpoint}: cpu (torch ")
    assert lines[2].split() == ["data", "set", "metric", "score", "reference", "difference"]
    assert [line.split()[3] for line in lines[3:7]] == ["pearson_cosine", "spearman_cosine"] * 2
    assert all(line.startswith(f"{sts} (3 pairs)") for line in lines[3:7])
    assert all(float(line.split()[-1]) == 0 for line in lines[3:7])
    assert lines[7] == "(points of 100)"


def test_bad_files_are_errors_before_a_model_is_opened(tmp_path: Path, sts: Path) -> None:
    bad = tmp_path / "bad.tsv"
    bad.write_text("A boat.\tA ship.\t4\nA boat.\tBread.\tnone\n")
    assert_error(monograph("eval", "no-bundle", "--sts", sts, "--sts", bad), 1, f"{bad} line 2: 'none' is not a score")
    assert_error(monograph("eval", "no-bundle", "--sts", tmp_path / "absent"), 1, "absent: No such file")
    assert_error(monograph("eval", "no-bundle", "--sts", sts), 1, "no-bundle")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to evaluate: give --sts, --translation, --mse, --retrieval or --rerank"),
        (["--sts", "a", "b", "c"], "--sts takes one file or two"),
        (["--mse", "a"], "--mse needs --teacher"),
        (["--sts", "a", "--teacher", "t"], "--teacher needs --mse"),
    ],
)
def test_bad_usage(options: list[str], words: str) -> None:
    assert_error(monograph("eval", "bundle", *options), 2, words)


@pytest.mark.parametrize("forbidden", ["torch", "scipy"])
def test_a_bundle_needs_no_torch_and_a_missing_package_is_named(
    tiny_bundle: Path, sts: Path, tmp_path: Path, forbidden: str
) -> None:
    (tmp_path / f"{forbidden}.py").write_text("raise ModuleNotFoundError('hidden', name=__name__)\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "monograph", "eval", str(tiny_bundle), *ON_CPU, "--sts", str(sts)]

    def run(*options: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *options], env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False
        )

    if forbidden == "scipy":
        assert_error(run(), 1, "eval needs scipy: pip install 'monograph[bench]'")
        return
    assert run().returncode == 0
    assert_error(run("--reference", "st:anything"), 1, "st: needs torch: pip install 'monograph[bench,export]'")
