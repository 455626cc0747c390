"""Opening and closing an Embedder, its properties, and its progress bar."""

from __future__ import annotations

import logging
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import BundleError, DeviceError, Embedder, InputError, MonographError
from monograph.cpu import available_cpus

EditManifest = Callable[[Callable[[dict[str, Any]], object]], None]


def test_an_embedder_says_what_it_runs_on(tiny_embedder: Embedder, tiny_bundle: Path) -> None:
    assert tiny_embedder.device == "cpu"
    assert re.fullmatch(r"onnxruntime \d+\.\d+.*", tiny_embedder.engine)
    assert tiny_embedder.compute_dtype == "float32"
    assert tiny_embedder.threads == available_cpus()
    assert tiny_embedder.dimension == 24
    assert tiny_embedder.max_length == 96
    assert tiny_embedder.manifest.prompts == {"query": "search: ", "passage": "text: ", "document": ""}
    for part in (str(tiny_bundle), "cpu", "dimension=24", tiny_embedder.engine, "float32"):
        assert part in repr(tiny_embedder)


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "cpu:", "CPU", "", "openvino:", "openvino:cpu", "openvino:X", 0])
def test_a_device_that_is_not_here_is_refused_by_its_name(tiny_bundle: Path, device: Any) -> None:
    with pytest.raises(DeviceError, match=re.escape(repr(device))):
        Embedder(tiny_bundle, device=device)


@pytest.mark.parametrize("device", ["cpu", "openvino", "auto"])
@pytest.mark.parametrize("compute_dtype", ["float16", "nonsense", "FLOAT32", None])
def test_a_type_that_the_device_lacks_is_refused_by_its_name(
    tiny_bundle: Path, device: str, compute_dtype: Any
) -> None:
    with pytest.raises(DeviceError, match=str(compute_dtype)):
        Embedder(tiny_bundle, device=device, compute_dtype=compute_dtype)


@pytest.mark.parametrize("threads", [0, -2, True, False, 1.0, "2"])
def test_a_number_of_threads_that_is_no_positive_integer_is_refused(tiny_bundle: Path, threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be a positive integer or None"):
        Embedder(tiny_bundle, threads=threads)


@pytest.mark.parametrize("max_tokens", [0, -2, True, 1.0, "2"])
def test_a_bound_of_tokens_that_is_no_positive_integer_is_refused(tiny_bundle: Path, max_tokens: Any) -> None:
    with pytest.raises(InputError, match="max_tokens_per_batch must be a positive integer or None"):
        Embedder(tiny_bundle, max_tokens_per_batch=max_tokens)


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_batches_stay_within_the_bound_of_tokens(
    tiny_bundle: Path, tiny_embedder: Embedder, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join(["boat"] * length) for length in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)]
    with Embedder(tiny_bundle, device, "float32", max_tokens_per_batch=64) as model:
        shapes = shapes_that_run(model, monkeypatch)
        vectors = model.encode(texts, batch_size=5)
        with pickle.loads(pickle.dumps(model)) as copied:
            copied.encode(texts[:1])
            assert copied._open.routes.main.runner._max_tokens == 64
    assert np.abs(vectors - tiny_embedder.encode(texts)).max() <= 1e-5
    assert all(rows == 1 or rows * width <= 64 for rows, width in shapes)
    assert {rows for rows, _ in shapes} > {1}


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_a_warm_up_runs_what_short_texts_will_run(
    tiny_bundle: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Embedder(tiny_bundle, device) as opened:
        model = pickle.loads(pickle.dumps(opened))
    # One that is not opened yet is opened.
    with model:
        warm = shapes_that_run(model, monkeypatch)
        model.warmup()
        done = set(warm)
        warm.clear()
        for length in range(1, 60):
            model.encode(" ".join(["boat"] * length))
        if device == "openvino":
            short = {shape for shape in warm if shape[1] <= 64}
            assert len(short) > 10
            assert short <= done
        assert max(done) == (1, 64)
    with pytest.raises(MonographError, match="closed"):
        model.warmup()


def shapes_that_run(model: Embedder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that grows by the shape, rows and width, of each batch that the engine runs by itself."""
    engine = model._open.routes.main.engine
    shapes: list[tuple[int, ...]] = []
    run = engine.run

    def noted(inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        shapes.append(inputs["input_ids"].shape)
        return run(inputs, output)

    monkeypatch.setattr(engine, "run", noted)
    return shapes


@pytest.mark.parametrize("threads", [1, 3])
def test_the_engine_gets_the_requested_threads(tiny_bundle: Path, threads: int) -> None:
    with Embedder(tiny_bundle, device="cpu", threads=threads) as model:
        assert model.threads == threads
        assert f"threads={threads}" in repr(model)


def test_a_missing_bundle_and_a_wrong_check_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        Embedder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="check must be"):
        Embedder(tiny_bundle, check="other")  # type: ignore[arg-type]


def test_the_fingerprint_is_stable_and_follows_the_bundle_s_content(
    tiny_bundle: Path, bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    def fingerprint(path: Path, device: str = "cpu", **options: Any) -> str:
        with Embedder(path, device, **options) as model:
            return model.fingerprint

    first = fingerprint(tiny_bundle)
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert fingerprint(tiny_bundle) == first
    assert fingerprint(bundle_copy) == first
    assert fingerprint(tiny_bundle, threads=1, check="full") == first
    assert fingerprint(tiny_bundle, "openvino", compute_dtype="float32") != first
    edit_manifest(lambda value: value["prompts"].update(query="find: "))
    assert fingerprint(bundle_copy) != first


def test_a_bundle_that_failed_verification_on_this_device_is_not_run(
    bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    edit_manifest(lambda value: value["quality"]["verifications"][0].update(passed=False, reason="off by 0.5"))
    with pytest.raises(DeviceError, match=r"failed verification on 'cpu' at float32.*\(off by 0\.5\)"):
        Embedder(bundle_copy, device="cpu")


@pytest.mark.parametrize("change", [{"device": "gpu"}, {"engine": "another"}, {"compute_dtype": "bfloat16"}])
def test_a_verification_of_something_else_does_not_stand_in_the_way(
    bundle_copy: Path, edit_manifest: EditManifest, change: dict[str, str]
) -> None:
    edit_manifest(lambda value: value["quality"]["verifications"][0].update(passed=False, **change))
    with Embedder(bundle_copy, device="cpu") as model:
        assert model.encode("A boat.").shape == (24,)


def test_a_bundle_without_a_graph_for_the_device_says_so(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda value: value["graphs"][0].update(devices=["gpu"]))
    with pytest.raises(DeviceError, match="has no graph for 'cpu'"):
        Embedder(bundle_copy, device="cpu")


def test_a_tokenizer_that_cuts_elsewhere_than_the_manifest_says_is_refused(
    bundle_copy: Path, edit_manifest: EditManifest
) -> None:
    edit_manifest(lambda value: value["tokenizer"].update(max_length=100))
    with pytest.raises(BundleError, match="truncates to 96 tokens, the manifest says 100"):
        Embedder(bundle_copy)


def test_the_model_s_own_cut_and_prompt_are_the_defaults(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda value: value["embedding"].update(truncate_dim=10))
    edit_manifest(lambda value: value.update(default_prompt_name="query"))
    with Embedder(bundle_copy) as model:
        assert model.dimension == 10
        assert model.encode("A boat.").shape == (10,)
        assert model.encode("A boat.", truncate_dim=24).shape == (24,)
        explicit, default = model.encode("search: A boat.", prompt=""), model.encode("A boat.")
        assert abs(explicit - default).max() < 1e-6
        assert abs(model.encode("A boat.", prompt="") - default).max() > 0.001


def test_a_closed_model_raises_and_may_be_closed_again(tiny_bundle: Path) -> None:
    model = Embedder(tiny_bundle)
    assert model.encode("A boat.").shape == (24,)
    model.close()
    for encode in (model.encode, model.encode_query, model.encode_document):
        with pytest.raises(MonographError, match="closed"):
            encode("A boat.")
    with pytest.raises(MonographError, match="closed"):
        next(model.encode_iter(["A boat."]))
    model.close()


def test_a_with_statement_closes_the_model_whatever_happens(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle) as model:
        model.encode("A boat.")
    with pytest.raises(MonographError, match="closed"):
        model.encode("A boat.")
    with pytest.raises(LookupError), Embedder(tiny_bundle) as other:
        raise LookupError
    with pytest.raises(MonographError, match="closed"):
        other.encode("A boat.")


def test_an_open_model_needs_its_folder_no_more(bundle_copy: Path) -> None:
    with Embedder(bundle_copy) as model:
        before = model.encode("A boat.")
        shutil.rmtree(bundle_copy)
        assert abs(model.encode("A boat.") - before).max() < 1e-6


@pytest.mark.parametrize(
    ("level", "requested", "shown"),
    [
        (logging.WARNING, None, False),
        (logging.INFO, None, True),
        (logging.DEBUG, None, True),
        (logging.WARNING, True, True),
        (logging.INFO, False, False),
    ],
)
def test_a_progress_bar_is_shown_where_requested_or_at_info(
    tiny_embedder: Embedder,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    level: int,
    requested: bool | None,
    shown: bool,
) -> None:
    caplog.set_level(level, logger="monograph")
    tiny_embedder.encode(["A boat.", "A radio.", "A song."], show_progress_bar=requested)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("3/3" in captured.err) == shown
    assert bool(captured.err) == shown


def test_no_progress_bar_is_shown_where_no_level_was_set(
    tiny_embedder: Embedder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Another test may have left a level behind, as `monograph --verbose` does.
    caplog.set_level(logging.NOTSET, logger="monograph")
    tiny_embedder.encode(["A boat.", "A radio."])
    assert capsys.readouterr() == ("", "")
