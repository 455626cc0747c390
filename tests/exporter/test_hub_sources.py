"""Checkpoints on a Hub: what SOURCE of an export may be, what is downloaded, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monograph import ExportError
from monograph.bundle import open_bundle
from monograph_export import export
from monograph_export.checkpoint.source import locate_checkpoint, needed_files, recipe_of
from monograph_export.recipes import read_recipe
from support import checkpoints
from support.command import PROGRESS
from support.hub import Hub, Repository, environment, python, serve

NAME = "some-org/tiny"
RECIPE = read_recipe("all-MiniLM-L6-v2")
# What the command line says of each source, in one process: importing torch takes seconds.
EXPORT_EACH = """
import contextlib, io, json, sys
from pathlib import Path
from monograph.commands import main
results = {}
for number, source in enumerate(sys.argv[2:]):
    output = Path(sys.argv[1]) / f"bundle-{number}"
    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.redirect_stdout(io.StringIO()):
        code = main(["export", source, str(output)])
    results[source] = [code, stderr.getvalue(), output.exists()]
print(json.dumps(results))
"""
# Without torch: what of an export comes before the loading.
LOCATE = """
import sys
from monograph import ExportError
from monograph_export.checkpoint.source import locate_checkpoint
try:
    print(locate_checkpoint(sys.argv[1]))
except ExportError as error:
    sys.exit(str(error))
"""
LOCATE_WITH_ENCODER = """
import sys
from monograph import ExportError
from monograph_export.checkpoint.source import locate_with_encoder
try:
    print(*locate_with_encoder(*sys.argv[1:]), sep="\\n")
except ExportError as error:
    sys.exit(str(error))
"""
# What a published repository holds beside what loading reads.
IGNORED = (
    ".gitattributes",
    "model.py",
    "onnx/model.onnx",
    "onnx/config.json",
    "openvino/openvino_model.bin",
    "openvino/openvino_model.xml",
    "tf_model.h5",
    "flax_model.msgpack",
    "rust_model.ot",
    "training_args.bin",
    "checkpoint-500/optimizer.pt",
    "checkpoint-500/model.safetensors",
    "checkpoint-500/trainer_state.json",
    "pytorch_model.bin",
)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


def export_each(hub: Hub, home: Path, *sources: str) -> dict[str, tuple[int, str, bool]]:
    done = python(EXPORT_EACH, home, *sources, env=environment(hub, home))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {source: tuple(results) for source, results in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def exported(
    hub: Hub, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Repository, list[str]]:
    """The tiny checkpoint and a recipe exported from the Hub, the first one's repository, what was requested of it."""
    home = tmp_path_factory.mktemp("exported")
    repository = hub.add(NAME, tiny_checkpoint)
    repository.files |= dict.fromkeys(IGNORED, b"not to be downloaded")
    repository.files["README.md"] = b"---\nlicense: apache-2.0\n---\n"
    add_recipe(hub, tmp_path_factory.mktemp("recipe"))
    for code, message, exists in export_each(hub, home, NAME, RECIPE.name).values():
        assert (code, exists) == (0, True), message
    return home, repository, hub.requests_to(NAME)


def add_recipe(hub: Hub, folder: Path) -> None:
    """A checkpoint of the recipe's shape, one layer of it, at no revision but the one that the recipe pins."""
    assert RECIPE.repository is not None
    shape = dict(RECIPE.architecture["config"], vocab_size=1200, num_hidden_layers=1, intermediate_size=64)
    checkpoint = checkpoints.tiny(folder, config=shape, max_length=RECIPE.max_length)
    repository = hub.add(RECIPE.repository, checkpoint)
    repository.pinned, repository.revisions = RECIPE.revision, ()


def test_an_export_from_a_hub_names_repository_and_revision(
    exported: tuple[Path, Repository, list[str]], tiny_bundle: Path
) -> None:
    home, repository, _ = exported
    bundle = open_bundle(home / "bundle-0", "full")
    source = bundle.manifest.source
    assert (source.name, source.revision, source.license) == (NAME, repository.commit, "Apache-2.0")
    assert source.sha256 == open_bundle(tiny_bundle).manifest.source.sha256
    assert (home / "bundle-0" / "model.onnx.data").read_bytes() == (tiny_bundle / "model.onnx.data").read_bytes()


def test_only_what_loading_reads_is_downloaded_and_each_once(exported: tuple[Path, Repository, list[str]]) -> None:
    _, repository, requests = exported
    assert len(requests) == len(set(requests))
    files = {path.split(f"/{repository.commit}/")[1] for path in requests if "/resolve/" in path}
    assert files == set(repository.files) - set(IGNORED)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_second_use_works_offline(
    pinned: bool, exported: tuple[Path, Repository, list[str]], hub: Hub, tiny_checkpoint: Path
) -> None:
    home, repository, _ = exported
    hub.requests.clear()
    source = f"{NAME}@{repository.commit}" if pinned else NAME
    done = python(LOCATE, source, env=environment(hub, home, HF_HUB_OFFLINE="1"))
    assert done.returncode == 0, done.stderr
    for path in tiny_checkpoint.rglob("*"):
        if path.is_file():
            assert (Path(done.stdout.strip()) / path.relative_to(tiny_checkpoint)).read_bytes() == path.read_bytes()
    assert hub.requests == []


def test_the_name_of_a_recipe_downloads_its_pinned_revision_and_is_applied(
    exported: tuple[Path, Repository, list[str]],
) -> None:
    home, _, _ = exported
    source = open_bundle(home / "bundle-1").manifest.source
    assert (source.name, source.revision, source.license) == (RECIPE.repository, RECIPE.revision, RECIPE.license)


def refused(hub: Hub, checkpoint: Path) -> dict[str, tuple[str, ...]]:
    """Have the server fail in one way a repository; return for each source the words that its error has."""
    faults: dict[str, dict[str, Any]] = {
        "cut-short": {"faults": {"model.safetensors": "cut short"}},
        "stalled": {"faults": {"model.safetensors": "stalled"}},
        "changed-small": {"faults": {"config.json": "changed"}},
        "changed": {"faults": {"model.safetensors": "changed"}},
        "silent": {"silent": True},
        "unauthorized": {"refused": (401, None)},
        "gated": {"refused": (403, "GatedRepo")},
    }
    for name, options in faults.items():
        repository = hub.add(f"bad/{name}", checkpoint)
        for option, value in options.items():
            setattr(repository, option, value)
    hub.repositories["bad/empty"] = Repository({"README.md": b"nothing else"})
    return {
        "bad/absent": ("no repository bad/absent", "HF_TOKEN", "hf auth login"),
        "bad/changed@v9": ("no such revision", "v9"),
        "bad/unauthorized": ("HF_TOKEN", "hf auth login"),
        "bad/gated": ("gated", "HF_TOKEN"),
        "bad/cut-short": ("model.safetensors", "try again"),
        "bad/stalled": ("model.safetensors", "try again"),
        "bad/changed-small": ("config.json", "damaged", "try again"),
        "bad/changed": ("model.safetensors", "damaged", "try again"),
        "bad/silent": ("timed out", "check the connection"),
        "bad/empty": ("bad/empty", "it is not a checkpoint"),
        "bert-mean-128": ("recipe bert-mean-128 names no repository", "folder"),
        "nothing-known": ("nothing-known is not a folder", "ORG/NAME", "all-MiniLM-L6-v2"),
    }


def test_each_failure_is_one_line_and_no_output(hub: Hub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    words = refused(hub, tiny_checkpoint)
    results = export_each(hub, tmp_path, *words)
    for source, (code, message, exists) in results.items():
        assert (code, exists) == (1, False), source
        *steps, message = message.splitlines()
        assert message.startswith("monograph: error: "), source
        assert all(PROGRESS.fullmatch(step) for step in steps), steps
        for word in words[source]:
            assert word in message, (source, message)
        requests = hub.requests_to(source.split("@")[0])
        assert all(requests.count(path) <= 2 for path in requests), source
        assert len(requests) <= 30, source
    assert not list(tmp_path.glob("bundle*"))
    assert not list(tmp_path.glob(".bundle*"))


@pytest.mark.parametrize("source", ["all-MiniLM-L6-v2", "some-org/x"])
def test_no_hub_at_all_is_one_line(source: str, hub: Hub, tmp_path: Path) -> None:
    done = python(LOCATE, source, env=environment(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "refused" in done.stderr
    assert "HF_ENDPOINT" in done.stderr


def test_the_output_is_looked_at_before_anything_is_downloaded(tmp_path: Path) -> None:
    """This process may not download, and would say so."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match="exists already"):
        export(NAME, tmp_path)
    with pytest.raises(ExportError, match="HF_HUB_OFFLINE"):
        export("some-org/that-nobody-has", tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("source", [None, 5, b"folder"])
def test_what_is_no_source_is_an_export_error(source: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=f"must be .* a path or a loaded model of sentence-transformers, got {type(source).__name__}"
    ):
        export(source, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_path_is_refused_as_missing() -> None:
    with pytest.raises(ExportError, match=r"^there is no folder out/minilm; as a repository on the Hub: "):
        locate_checkpoint("out/minilm")


def test_a_folder_wins_over_a_recipe_and_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("LaBSE", "some-org/tiny"):
        Path(source).mkdir(parents=True)
        assert locate_checkpoint(source) == Path(source)
        assert recipe_of(source, None) is None
    assert recipe_of("all-MiniLM-L6-v2", None) == read_recipe("all-MiniLM-L6-v2")
    assert recipe_of(Path("all-MiniLM-L6-v2"), None) is None


def test_two_recipes_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="leave out one"):
        export("all-MiniLM-L6-v2", tmp_path / "x", recipe="LaBSE")
    assert recipe_of("LaBSE", "LaBSE") == read_recipe("LaBSE")


def test_weights_are_safetensors_where_a_folder_has_them() -> None:
    names = [
        "modules.json", "model.safetensors", "pytorch_model.bin", "1_Pooling/config.json", "2_Dense/config.json",
        "2_Dense/pytorch_model.bin", "sentencepiece.bpe.model", "vocab.txt", "onnx/model.onnx",
    ]  # fmt: skip
    chosen = needed_files(names, {"", "1_Pooling", "2_Dense"})
    assert sorted(chosen) == sorted(set(names) - {"pytorch_model.bin", "onnx/model.onnx"})


def test_with_from_onnx_the_encoder_s_file_is_downloaded_and_no_other_weights_of_it(
    hub: Hub, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    repository = hub.add("some-org/onnx", tiny_checkpoint)
    graph = {"onnx/model.onnx": b"graph", "onnx/model.onnx_data": b"its weights"}
    repository.files |= graph | {"onnx/model_quint8_avx2.onnx": b"another"}
    env = environment(hub, tmp_path)
    done = python(LOCATE_WITH_ENCODER, "some-org/onnx", "onnx/model.onnx", env=env)
    assert done.returncode == 0, done.stderr
    folder, file = (Path(line) for line in done.stdout.splitlines())
    assert file == folder / "onnx" / "model.onnx"
    downloaded = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    weights = {"model.safetensors", "onnx/model_quint8_avx2.onnx"}
    assert downloaded == set(repository.files) - weights
    absent = python(LOCATE_WITH_ENCODER, "some-org/onnx", "onnx/model_O4.onnx", env=env)
    assert absent.returncode == 1
    assert "has no onnx/model_O4.onnx; ONNX files that it has: onnx/model.onnx, onnx/model_quint8" in absent.stderr


@pytest.mark.parametrize("folder", ["", "1_Router/"])
def test_the_modules_within_a_router_are_downloaded_as_well(folder: str, hub: Hub, tmp_path: Path) -> None:
    modules = [{"idx": 0, "name": "0", "path": folder.rstrip("/"), "type": "sentence_transformers.models.Router"}]
    types = {"query_0_StaticEmbedding": "StaticEmbedding", "document_0_Transformer": "Transformer"}
    wanted = {
        "modules.json": json.dumps(modules).encode(),
        f"{folder}router_config.json": json.dumps({"types": types}).encode(),
        f"{folder}query_0_StaticEmbedding/model.safetensors": b"rows",
        f"{folder}query_0_StaticEmbedding/tokenizer.json": b"{}",
        f"{folder}document_0_Transformer/model.safetensors": b"layers",
    }
    others = {f"{folder}checkpoint-500/model.safetensors": b"old", "model.safetensors": b"none of a module"}
    name = f"some-org/routed-{len(folder)}"
    repository = hub.add(name, tmp_path)
    repository.files.clear()
    # A root without a module has no weights that count.
    repository.files |= wanted | {file: content for file, content in others.items() if folder or "/" in file}
    done = python(LOCATE, name, env=environment(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    located = Path(done.stdout.strip())
    assert {path.relative_to(located).as_posix() for path in located.rglob("*") if path.is_file()} == set(wanted)


def test_a_transformer_in_a_folder_needs_no_weights_at_the_root() -> None:
    names = ["modules.json", "pytorch_model.bin", "0_Transformer/config.json", "0_Transformer/pytorch_model.bin"]
    chosen = needed_files(names, {"0_Transformer"})
    assert sorted(chosen) == sorted(set(names) - {"pytorch_model.bin"})
