"""A bundle of several precisions: which one is opened, for which loss, and that each has its own probes and quality."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import BundleError, DeviceError, Embedder, InputError, load
from monograph.bundle import Bundle, open_bundle, read_probes, write_probes
from monograph.bundle.archive import pack_bundle, unpack_bundle
from monograph.bundle.files import sha256_of
from monograph.bundle.manifest_reader import read_manifest
from monograph.commands.main import main
from monograph.engines import level_of, select_precision
from monograph.preparation import prepare
from monograph.quality import CompressionReport, Quality, QualityLevel
from monograph.tasks import task_named
from support.manifests import edit_manifest, state_file

DATA = Path(__file__).parents[1] / "data"
TEXTS = ["a boat in the harbour", "", "third"]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the bundle, of fp32 and int8, that belongs to the test."""
    return Path(shutil.copytree(DATA / "embedding-precisions", tmp_path / "copied"))


def measure(bundle: Path, mean_cosine: float, worst_cosine: float) -> None:
    """Have the export measured a loss of the int8 graph."""
    path = bundle / "measurements.json"
    value = json.loads(path.read_bytes())
    value["further_precisions"]["int8"]["agreement"].update(mean_cosine=mean_cosine, worst_cosine=worst_cosine)
    path.write_text(json.dumps(value), encoding="utf-8")


def spoil_probes(bundle: Path, file: str) -> None:
    """Have probes expect what no graph gives."""
    sets = [replace(probes, vectors=probes.vectors[::-1].copy()) for probes in read_probes(bundle, file=file)]
    write_probes(bundle, sets, file)
    measurements = (bundle / "measurements.json").read_bytes()
    state_file(bundle, file, sha256_of(bundle / file))
    value = json.loads(measurements)
    value["manifest_sha256"] = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    (bundle / "measurements.json").write_text(json.dumps(value), encoding="utf-8")


def int8_first(bundle: Path) -> Bundle:
    """Return the bundle as if int8 were its default, for int8 does not run on CUDA."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    further = {"fp32": replace(manifest.further_precisions["int8"], quality=manifest.quality)}
    return replace(opened, manifest=replace(manifest, graphs=manifest.graphs[::-1], further_precisions=further))


@pytest.mark.parametrize("device", ["cpu", "openvino", "auto"])
def test_the_first_precision_is_the_default_and_a_quality_selects(copied: Path, device: str) -> None:
    measure(copied, 0.9995, 0.995)
    precisions: dict[QualityLevel | None, str] = {None: "fp32", "lossless": "fp32", "high": "int8", "fast": "int8"}
    models: dict[str, Embedder] = {}
    for quality, precision in precisions.items():
        model = Embedder(copied, device, quality=quality)
        with model:
            assert model.graph_precision == precision
            assert model.manifest.precisions == (precision,)
            vectors = model.encode(TEXTS)
        assert f"graph_precision='{precision}'" in repr(model)
        same = models.setdefault(precision, model)
        assert same.fingerprint == model.fingerprint
        del vectors
    assert models["fp32"].fingerprint != models["int8"].fingerprint


def test_each_precision_computes_what_its_probes_say(copied: Path) -> None:
    measure(copied, 0.9995, 0.995)
    bundle = open_bundle(copied)
    assert bundle.manifest.precisions == ("fp32", "int8")
    references = []
    qualities: tuple[QualityLevel, ...] = ("lossless", "fast")
    for one, quality in zip(bundle.by_precision, qualities, strict=True):
        (probes,) = read_probes(bundle.path, file=one.probes_file)
        with Embedder(bundle.path, "cpu", quality=quality) as model:
            # The 8-bit products of this bundle's weights saturate on a CPU without VNNI.
            atol = 1e-5 if one.precision == "fp32" else 2e-3
            np.testing.assert_allclose(model.encode(probes.single_texts), probes.vectors, atol=atol)
        references.append(probes.vectors)
    # Random weights lose less than trained ones.
    assert np.abs(references[0] - references[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("mean_cosine", "worst_cosine", "level"),
    [(0.9999, 0.999, "lossless"), (0.9999, 0.99, "high"), (0.999, 0.99, "high"), (0.9989, 0.99, "fast")],
)
def test_the_level_is_that_of_the_measured_loss(
    copied: Path, mean_cosine: float, worst_cosine: float, level: QualityLevel
) -> None:
    measure(copied, mean_cosine, worst_cosine)
    fp32, int8 = open_bundle(copied).by_precision
    assert (level_of(fp32), level_of(int8)) == ("lossless", level)


@pytest.mark.parametrize(("limit", "level"), [(-1, "fast"), (0.9999, "lossless")])
def test_without_measurements_the_limits_of_the_export_count(copied: Path, limit: float, level: QualityLevel) -> None:
    def tighten(value: dict[str, Any]) -> None:
        value["further_precisions"]["int8"]["compression"]["limits"].update(mean_cosine=limit, worst_cosine=limit)

    edit_manifest(copied, tighten)
    assert level_of(open_bundle(copied).by_precision[1]) == level


@pytest.mark.parametrize(
    ("task", "figures", "level"),
    [
        ("rerank", {"spearman": 0.9999, "worst_difference": 0.01}, "lossless"),
        ("rerank", {"spearman": 0.9999, "worst_difference": 0.05}, "high"),
        ("rerank", {"spearman": 0.9999, "worst_difference": 0.25}, "fast"),
        ("rerank", {"spearman": float("nan"), "worst_difference": 0}, "fast"),
        ("sparse", {"mean_cosine": 1, "worst_cosine": 1, "active_overlap": 0.99}, "lossless"),
        ("sparse", {"mean_cosine": 1, "worst_cosine": 1, "active_overlap": 0.95}, "high"),
        ("sparse", {"mean_cosine": 1, "worst_cosine": 1, "active_overlap": 0.8}, "fast"),
        ("sparse", {"mean_cosine": 1, "worst_cosine": 1}, "fast"),
    ],
)
def test_every_task_has_levels(task: str, figures: dict[str, float], level: QualityLevel) -> None:
    known = task_named(task)
    assert known is not None
    assert known.level_of("int8", Quality("torch", (), compression=CompressionReport("int8", figures, None))) == level
    assert known.level_of("int8", Quality("torch", ())) == "lossless"
    assert known.level_of("int8", Quality("a file", (), encoder_file="model.onnx")) == "fast"
    assert known.level_of("fp32", Quality("a file", (), encoder_file="model.onnx")) == "lossless"


def test_what_reaches_no_level_is_refused_with_what_to_export(copied: Path) -> None:
    source = DATA / "embedding-int8-measured"
    copied = Path(shutil.copytree(source, copied.parent / "int8"))
    (copied / "measurements.json").unlink()
    for device in ("cpu", "auto"):
        with pytest.raises(DeviceError, match=r"int8 of quality 'fast'.*export it with --precision int8,fp32"):
            load(copied, device, quality="high")
    with load(copied, "cpu", quality="fast") as model:
        assert model.graph_precision == "int8"
        with load(copied, "cpu") as same:
            assert same.fingerprint == model.fingerprint


@pytest.mark.parametrize("quality", ["best", "", 1, ["fast"]])
def test_an_unknown_quality_is_refused(quality: Any) -> None:
    with pytest.raises(InputError, match="quality must be 'lossless', 'high', 'fast' or None"):
        load(DATA / "embedding-precisions", "cpu", quality=quality)


def test_a_device_takes_the_first_precision_that_it_runs(copied: Path) -> None:
    # The engine is not opened: this needs no GPU.
    bundle = int8_first(copied)
    assert select_precision(bundle, "cpu", None).manifest.precisions == ("int8",)
    on_gpu = select_precision(bundle, "cuda", None)
    assert on_gpu.manifest.precisions == select_precision(bundle, "cuda", "fast").manifest.precisions == ("fp32",)
    assert on_gpu.probes_file == "probes.int8.json"


def test_a_compute_dtype_takes_a_precision_that_has_it(copied: Path) -> None:
    measure(copied, 1.0, 1.0)
    with Embedder(copied, "cpu", "float32", quality="lossless") as model:
        assert model.graph_precision == "int8"
    with Embedder(copied, "openvino", quality="lossless") as model:
        assert (model.graph_precision, model.compute_dtype) == ("int8", "float32")


def test_a_pickled_model_keeps_its_quality() -> None:
    with (
        Embedder(DATA / "embedding-precisions", "cpu", quality="fast") as model,
        pickle.loads(pickle.dumps(model)) as same,
    ):
        assert same.graph_precision == "int8"
        assert same.fingerprint == model.fingerprint


def test_an_engine_is_proven_with_each_precision_by_itself(copied: Path, tmp_path: Path) -> None:
    spoil_probes(copied, "probes.int8.json")
    cache = tmp_path / "cache"
    with Embedder(copied, "openvino", cache_dir=cache) as model:
        assert model.graph_precision == "fp32"
    with pytest.raises(DeviceError, match="fails on the bundle's probes"):
        Embedder(copied, "openvino", quality="fast", cache_dir=cache)


def test_auto_goes_on_to_the_next_engine(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoil_probes(copied, "probes.int8.json")
    with pytest.raises(DeviceError, match="no installed engine can run"):
        Embedder(copied, quality="fast")
    with Embedder(copied) as model, caplog.at_level(logging.WARNING):
        assert model.graph_precision == "fp32"


def test_verify_runs_every_precision_or_that_of_a_quality(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify", str(copied), "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [result["precision"] for result in printed["verifications"]] == ["fp32", "int8"]
    measure(copied, 0.9995, 0.995)
    spoil_probes(copied, "probes.int8.json")
    assert main(command) == 1
    output = capsys.readouterr().out
    assert "fp32 graph on cpu" in output
    assert "int8 graph on cpu" in output
    assert "FAILED" in output
    assert main([*command, "--quality", "lossless"]) == 0
    assert main([*command, "--quality", "fast"]) == 1
    assert main(["verify", str(copied), "--device", "auto", "--quality", "lossless"]) == 0


def test_info_states_level_and_loss_of_each(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(copied, 0.9995, 0.995)
    assert main(["info", str(copied)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "precision    fp32, the default" in lines
    assert "quality      lossless: not compressed" in lines
    assert "precision    int8" in lines
    assert "quality      high: mean cosine 0.9995, worst cosine 0.9950 (measured)" in lines
    (copied / "measurements.json").unlink()
    assert main(["info", str(copied)]) == 0
    assert (
        "quality      fast: mean cosine -1.0000, worst cosine -1.0000 (limits of the export)" in capsys.readouterr().out
    )


def test_commands_take_a_quality(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(copied, 0.9995, 0.995)
    (tmp_path / "texts.txt").write_text("a boat\nthe harbour\n", encoding="utf-8")
    printed = []
    for quality in ("lossless", "fast"):
        options = ["--device", "cpu", "--quality", quality]
        assert main(["embed", str(copied), str(tmp_path / "texts.txt"), "--quiet", *options]) == 0
        assert main(["similarity", str(copied), "a boat", "the harbour", *options]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] != printed[1]


def test_a_graph_is_priced_by_its_own_weights() -> None:
    bundle = open_bundle(DATA / "embedding-precisions")
    total = bundle.manifest.files["model.onnx.data"].bytes
    fp32, int8 = (bundle.weights_bytes(graph) for graph in bundle.manifest.graphs)
    assert int8 < fp32 < total <= int8 + fp32
    (alone,) = open_bundle(DATA / "embedding").manifest.graphs
    assert alone.weights_bytes is None


def test_prepare_packs_the_weights_of_a_quality(copied: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folders = [prepare(copied, "openvino", cache_dir=cache, quality=quality) for quality in (None, "fast")]
    assert folders == [(), ()]
    assert len(list((cache / "openvino").glob("*.blob"))) == 2


def test_it_is_packed_and_unpacked(tmp_path: Path) -> None:
    pack_bundle(DATA / "embedding-precisions", tmp_path / "bundle.tar")
    unpack_bundle(tmp_path / "bundle.tar", tmp_path / "unpacked")
    unpacked = open_bundle(tmp_path / "unpacked", "full")
    assert unpacked.manifest == open_bundle(DATA / "embedding-precisions").manifest


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (
            lambda value: value.pop("further_precisions"),
            ["graphs have the precision 'int8', which further_precisions does not have"],
        ),
        (
            lambda value: value["further_precisions"].update(fp16=value["further_precisions"]["int8"]),
            ["further_precisions has 'fp16', which is not the precision of a graph after the first"],
        ),
        (
            lambda value: value["further_precisions"]["int8"].update(probes="absent.json"),
            ["absent.json is used but not listed in files"],
        ),
        (
            lambda value: value["further_precisions"]["int8"].update(probes="model.onnx.data"),
            ["the probes 'model.onnx.data' are named as weights are"],
        ),
        (
            lambda value: value["further_precisions"]["int8"].pop("quality"),
            ["further_precisions.int8.quality is missing"],
        ),
        (lambda value: value.update(further_precisions=[]), ["further_precisions must be an object"]),
        (lambda value: value["further_precisions"].update(int8=1), ["further_precisions.int8 must be an object"]),
        (
            lambda value: value["graphs"][0].update(weights_bytes=-1),
            ["graphs[0].weights_bytes is not a size of weights"],
        ),
    ],
)
def test_what_is_wrong_in_the_manifest_is_named(change: Change, problems: Sequence[str]) -> None:
    value = json.loads((DATA / "embedding-precisions" / "manifest.json").read_bytes())
    assert read_manifest(json.loads(json.dumps(value)))[1] == []
    change(value)
    assert set(problems) <= set(read_manifest(value)[1])


def test_what_is_read_is_written_with_the_same_bytes() -> None:
    bundle = open_bundle(DATA / "embedding-precisions")
    assert bundle.manifest.to_file() == (bundle.path / "manifest.json").read_bytes()


def test_damaged_probes_of_a_further_precision_are_found(copied: Path) -> None:
    (copied / "probes.int8.json").write_text("{}")
    with pytest.raises(BundleError, match=r"probes\.int8\.json"):
        open_bundle(copied)
