"""A bundle that is not as it was exported is refused, with everything that is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError, Embedder, InputError
from monograph.bundle import Check, open_bundle
from monograph.bundle.files import sha256_of
from monograph.commands import main

EditManifest = Callable[[Callable[[dict[str, Any]], object]], None]


def problems_of(path: Path, check: Check = "fast") -> tuple[str, ...]:
    with pytest.raises(BundleError) as caught:
        open_bundle(path, check)
    assert caught.value.bundle == str(path)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.problems


def flip_byte(path: Path, position: int = 1000) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("check", ["fast", "full"])
def test_an_untouched_copy_is_opened(bundle_copy: Path, check: Check) -> None:
    bundle = open_bundle(str(bundle_copy), check)
    assert bundle.path == bundle_copy
    assert bundle.manifest_sha256 == sha256_of(bundle_copy / "manifest.json")
    sizes = [path.stat().st_size for path in bundle_copy.iterdir() if path.name != "manifest.json"]
    assert bundle.size_bytes == sum(sizes)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "probes.json"])
def test_a_missing_file_is_named(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    assert problems_of(bundle_copy) == (f"{name} is missing",)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "probes.json"])
def test_the_fast_check_detects_a_changed_small_file(bundle_copy: Path, name: str) -> None:
    flip_byte(bundle_copy / name)
    assert problems_of(bundle_copy) == (f"{name} was changed: its sha256 is not the manifest's",)


def test_the_fast_check_detects_truncated_weights(bundle_copy: Path) -> None:
    weights = bundle_copy / "model.onnx.data"
    size = weights.stat().st_size
    os.truncate(weights, size - 1)
    assert problems_of(bundle_copy) == (f"model.onnx.data has {size - 1:,} bytes instead of {size:,}",)


def test_the_full_check_detects_a_flipped_byte_of_the_weights(
    bundle_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(bundle_copy)]) == 0
    flip_byte(bundle_copy / "model.onnx.data")
    assert open_bundle(bundle_copy, "fast").path == bundle_copy
    problem = "model.onnx.data was changed: its sha256 is not the manifest's"
    assert problems_of(bundle_copy, "full") == (problem,)
    with pytest.raises(BundleError, match=r"model\.onnx\.data was changed"):
        Embedder(bundle_copy, check="full")
    assert main(["verify", str(bundle_copy)]) == 1
    assert problem in capsys.readouterr().err


def test_a_check_of_another_name_is_an_input_error(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="'fast' or 'full', got 'other'"):
        open_bundle(tiny_bundle, "other")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json"])
def test_a_file_that_is_a_link_is_refused_however_right_its_content(
    bundle_copy: Path, tiny_bundle: Path, name: str
) -> None:
    (bundle_copy / name).unlink()
    (bundle_copy / name).symlink_to(tiny_bundle / name)
    assert problems_of(bundle_copy) == (f"{name} is a link; a bundle holds real files",)


@pytest.mark.parametrize("target", ["manifest.json", "nowhere.json"])
def test_a_manifest_that_is_a_link_is_refused(bundle_copy: Path, tiny_bundle: Path, target: str) -> None:
    (bundle_copy / "manifest.json").unlink()
    (bundle_copy / "manifest.json").symlink_to(tiny_bundle / target)
    assert problems_of(bundle_copy) == ("manifest.json is a link; a bundle holds real files",)


def test_a_link_to_the_folder_itself_is_followed(tiny_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tiny_bundle)
    assert open_bundle(link).path == link


@pytest.mark.parametrize(
    "name", ["../beside.txt", "{outside}", "..\\beside.txt", "sub/file.txt", "c:file.txt", "..", ".", "", "a\0b"]
)
def test_a_name_that_could_leave_the_folder_is_refused_unread(
    bundle_copy: Path, tmp_path: Path, edit_manifest: EditManifest, name: str
) -> None:
    outside = tmp_path / "beside.txt"
    outside.write_text("what the bundle must not reach")
    name = name.format(outside=outside)
    entry = {"bytes": outside.stat().st_size, "sha256": sha256_of(outside)}
    edit_manifest(lambda value: value["files"].update({name: entry}))
    assert problems_of(bundle_copy) == (f"{name!r} is not a plain file name and could leave the folder",)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_something_else_in_place_of_a_file_is_refused(bundle_copy: Path, make: Callable[[Path], None]) -> None:
    (bundle_copy / "tokenizer.json").unlink()
    make(bundle_copy / "tokenizer.json")
    assert problems_of(bundle_copy, "full") == ("tokenizer.json is not a regular file",)


@pytest.mark.parametrize("content", [b"", b"{", b'{"task": }', b"\xff\xfe\x00", b"not JSON at all"])
def test_a_manifest_that_is_not_json_is_refused(bundle_copy: Path, content: bytes) -> None:
    (bundle_copy / "manifest.json").write_bytes(content)
    (problem,) = problems_of(bundle_copy)
    assert problem.startswith("manifest.json is not JSON (")
    assert problem.endswith("export the model again")


def test_a_folder_without_a_manifest_is_not_a_bundle(bundle_copy: Path) -> None:
    (bundle_copy / "manifest.json").unlink()
    (problem,) = problems_of(bundle_copy)
    assert problem.startswith("there is no manifest.json")


def test_a_folder_in_place_of_the_manifest_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "manifest.json").unlink()
    (bundle_copy / "manifest.json").mkdir()
    (problem,) = problems_of(bundle_copy)
    assert problem == "manifest.json is not a regular file"


def test_a_file_in_place_of_the_folder_is_not_a_bundle(bundle_copy: Path) -> None:
    (problem,) = problems_of(bundle_copy / "model.onnx")
    assert problem.startswith("this is a file, and a bundle is a folder")
    assert "monograph unpack" in problem


def test_a_checkpoint_is_named_in_the_command_that_exports_it(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    (problem,) = problems_of(tmp_path)
    assert f"monograph export {tmp_path} OUTPUT" in problem


def test_a_folder_that_does_not_exist_says_how_to_make_one(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "nowhere")
    assert problem.startswith("there is no such folder: check the path, or make a bundle there")
    assert f"monograph export SOURCE {tmp_path / 'nowhere'}`" in problem


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("./missing", "monograph export SOURCE ./missing`"),
        ("../missing", "monograph export SOURCE ../missing`"),
        ("missing/", "monograph export SOURCE missing/`"),
        ("all-MiniLM-L6-v2", "if it names a model, first `monograph export all-MiniLM-L6-v2 OUTPUT`"),
    ],
)
def test_a_missing_folder_is_named_as_the_caller_wrote_it(source: str, command: str) -> None:
    """Path("./missing") is "missing", which could be the name of a model."""
    with pytest.raises(BundleError, match=rf"^bundle {re.escape(source)}: there is no such folder: ") as caught:
        Embedder(source)
    assert command in str(caught.value)


def test_five_damages_at_once_are_one_error_with_all_of_them(
    bundle_copy: Path, tiny_bundle: Path, edit_manifest: EditManifest
) -> None:
    edit_manifest(lambda value: value["graphs"][0].update(op_domains=["ai.onnx", "com.example.custom"]))
    (bundle_copy / "tokenizer.json").unlink()
    (bundle_copy / "tokenizer.json").symlink_to(tiny_bundle / "tokenizer.json")
    (bundle_copy / "probes.json").unlink()
    flip_byte(bundle_copy / "model.onnx")
    with (bundle_copy / "model.onnx.data").open("ab") as weights:
        weights.write(b"more")
    size = (bundle_copy / "model.onnx.data").stat().st_size
    assert set(problems_of(bundle_copy)) == {
        "graphs[0].op_domains has the unknown com.example.custom",
        "tokenizer.json is a link; a bundle holds real files",
        "probes.json is missing",
        "model.onnx was changed: its sha256 is not the manifest's",
        f"model.onnx.data has {size:,} bytes instead of {size - 4:,}",
    }


def test_a_bundle_of_another_task_is_not_for_an_embedder(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    section = {"num_labels": 24, "activation": "Identity"}
    edit_manifest(lambda value: value.update(task="rerank", embedding=None, rerank=section))
    with pytest.raises(BundleError, match="its task is 'rerank'"):
        Embedder(bundle_copy)
