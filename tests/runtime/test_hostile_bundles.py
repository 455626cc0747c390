"""Values that no export writes: each is a MonographError at opening, never another exception or a wrong vector."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monograph import BundleError, DeviceError, Embedder, InputError
from monograph.bundle import open_bundle, read_probes
from monograph.commands import main
from support.command import PROGRESS

Edit = Callable[[Callable[[dict[str, Any]], object]], None]
Replace = Callable[[str, bytes], None]

MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "verifications of strings": lambda value: value["quality"].update(verifications=["x"]),
    "verifications of null": lambda value: value["quality"].update(verifications=None),
    "verification without numbers": lambda value: value["quality"].update(verifications=[{"passed": True}]),
    "another dimension than the graph": lambda value: value["embedding"].update(dimension=23),
    "ranges of booleans": lambda value: value["embedding"].update(ranges=[[True] * 24, [False] * 24]),
    "ranges of a huge integer": lambda value: value["embedding"].update(ranges=[[10**400] * 24, [1.0] * 24]),
    "ranges of NaN": lambda value: value["embedding"].update(ranges=[[float("nan")] * 24, [1.0] * 24]),
    "a shape of lists": lambda value: value["graphs"][0]["inputs"]["input_ids"].update(shape=[[1], {}, None]),
    "no inputs": lambda value: value["graphs"][0].update(inputs={}),
    "a foreign input": lambda value: value["graphs"][0]["inputs"].update(
        pixel_values={"dtype": "float32", "shape": []}
    ),
    "an input less than the graph": lambda value: value["graphs"][0]["inputs"].pop("token_type_ids"),
    "another output": lambda value: value["graphs"][0].update(
        outputs={"logits": {"dtype": "float32", "shape": ["batch", 24]}}
    ),
    "another width than the graph's": lambda value: (
        value["embedding"].update(dimension=12),
        value["graphs"][0]["outputs"]["sentence_embedding"].update(shape=["batch", 12]),
    ),
    "a measurement beyond a float": lambda value: value["quality"]["verifications"][0].update(worst_cosine=10**400),
    "a part beyond any": lambda value: value["graphs"][0].update(parts={"table": 10**400}),
    "a part of less than nothing": lambda value: value["graphs"][0].update(parts={"table": -1}),
    "a compression without figures": lambda value: value["quality"].update(compression={"table": "int8"}),
    "a vocabulary without figures": lambda value: value["quality"].update(vocabulary={"kept": 3}),
    "a vocabulary of words": lambda value: value["quality"].update(vocabulary="small"),
    "a compression of words": lambda value: value["quality"].update(compression="int8"),
    "a vocabulary beyond any": lambda value: value["tokenizer"].update(vocabulary_size=2**70, pad_id=2**69),
    "a padding id outside the vocabulary": lambda value: value["tokenizer"].update(pad_id=99_999),
    "a file name of a lone surrogate": lambda value: value["files"].update({"\ud800": {"bytes": 1, "sha256": "a"}}),
    "a file name of two lines": lambda value: value["files"].update({"a\nb": {"bytes": 1, "sha256": "a"}}),
    "weights not listed": lambda value: value["files"].pop("model.onnx.data"),
    "an output wider than any": lambda value: (
        value["embedding"].update(dimension=2**30),
        value["graphs"][0]["outputs"]["sentence_embedding"].update(shape=["batch", 2**30]),
    ),
    "very many graphs": lambda value: value.update(
        graphs=[value["graphs"][0] | {"op_domains": ["ai.onnx"] * number} for number in range(1, 400)]
    ),
    "very many routes": lambda value: value.update(
        graphs=[value["graphs"][0] | {"route": str(number)} for number in range(100)],
        routing={"tokenizers": {str(n): value["tokenizer"] for n in range(100)}, "tasks": {}, "default": "0"},
    ),
    "probes not listed": lambda value: value["files"].pop("probes.json"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_no_export_writes_is_a_bundle_error(name: str, bundle_copy: Path, edit_manifest: Edit) -> None:
    edit_manifest(MANIFESTS[name])
    with pytest.raises(BundleError) as caught:
        Embedder(bundle_copy, device="cpu")
    assert "\n" not in str(caught.value)


def test_files_that_take_long_to_hash_are_not_read(bundle_copy: Path, edit_manifest: Edit) -> None:
    names = [f"file-{number}" for number in range(40)]
    for name in names:
        with (bundle_copy / name).open("wb") as file:
            file.truncate(2**29)
    edit_manifest(lambda value: value["files"].update({name: {"bytes": 2**29, "sha256": "0"} for name in names}))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle_copy)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("version", ["1", True, None])
def test_a_format_version_of_the_wrong_kind_is_refused_as_no_integer(
    version: Any, bundle_copy: Path, edit_manifest: Edit
) -> None:
    edit_manifest(lambda value: value.update(format_version=version))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle_copy)
    assert caught.value.problems == ("format_version must be an integer",)


@pytest.mark.parametrize("file", ["manifest.json", "probes.json"])
def test_json_nested_without_end_is_a_bundle_error(file: str, bundle_copy: Path) -> None:
    (bundle_copy / file).write_text("[" * 100_000)
    with pytest.raises(BundleError):
        open_bundle(bundle_copy) if file == "manifest.json" else read_probes(bundle_copy)


@pytest.mark.parametrize(
    "vectors",
    [
        {"base64": "abc"},
        {"base64": "é"},
        {"base64": base64.b64encode(b"12345").decode()},
        {"shape": [0, -5], "base64": ""},
        {"shape": [0, 24], "base64": ""},
        {"dtype": "float64"},
        {"shape": [195, 1], "base64": base64.b64encode(np.full(195, np.inf, "<f4").tobytes()).decode()},
    ],
    ids=str,
)
def test_probes_that_cannot_be_decoded_are_a_bundle_error(
    vectors: dict[str, Any], bundle_copy: Path, replace_file: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads((bundle_copy / "probes.json").read_bytes())
    value["vectors"].update(vectors)
    replace_file("probes.json", json.dumps(value).encode())
    with pytest.raises(BundleError, match=r"probes\.json"):
        read_probes(bundle_copy)
    assert main(["verify", str(bundle_copy)]) == 1
    *steps, message = capsys.readouterr().err.splitlines()
    assert message.startswith("monograph: error: ")
    assert all(PROGRESS.fullmatch(step) for step in steps), steps


def test_a_prompt_that_is_no_utf8_is_refused(bundle_copy: Path, edit_manifest: Edit, tiny_embedder: Embedder) -> None:
    edit_manifest(lambda value: value["prompts"].update(query="\ud800"))
    with pytest.raises(BundleError, match="lone surrogate"):
        open_bundle(bundle_copy)
    options: dict[str, Any]
    for options in ({"prompt": "a\udfff"}, {"prompt_name": "query\udfff"}, {"prompt_name": ["query"]}):
        with pytest.raises(InputError, match="prompt"):
            tiny_embedder.encode(["a"], **options)


@pytest.mark.parametrize(
    "ranges",
    [
        [["a"] * 24, ["b"] * 24],
        [[1, 2], [3]],
        np.full((2, 24), np.nan),
        [[10**400] * 24] * 2,
        [[None] * 24] * 2,
        object(),
    ],
    ids=lambda ranges: str(ranges)[:20],
)
def test_ranges_that_are_no_finite_numbers_are_an_input_error(ranges: Any, tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match="ranges"):
        tiny_embedder.encode(["a"], precision="int8", ranges=ranges)


def test_a_number_of_threads_that_no_machine_has_is_an_input_error(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="threads"):
        Embedder(tiny_bundle, device="cpu", threads=10**12)


ARGUMENTS: dict[str, Callable[[Embedder], object]] = {
    "texts of no dimension": lambda model: model.encode(np.array("a")),
    "a stream of no dimension": lambda model: list(model.encode_iter(np.array(5))),
    "a flag of two": lambda model: model.encode("a", normalize_embeddings=np.array([True, False])),  # type: ignore[call-overload]
    "a precision of two": lambda model: model.encode("a", precision=np.array(["int8", "uint8"])),  # type: ignore[call-overload]
    "integers beyond a float": lambda model: model.similarity([10**400], [1.0]),
    "vectors of objects": lambda model: model.similarity([object()], [1.0]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_that_numpy_fails_on_is_an_input_error(name: str, tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError):
        ARGUMENTS[name](tiny_embedder)


@pytest.mark.parametrize("option", ["device", "compute_dtype", "check"])
def test_an_option_that_is_no_str_is_refused(option: str, tiny_bundle: Path) -> None:
    with pytest.raises((DeviceError, InputError), match=option):
        Embedder(tiny_bundle, **{option: np.array(["cpu", "float32"])})  # type: ignore[arg-type]


def test_a_str_with_methods_of_its_own_is_a_text_like_others(tiny_embedder: Embedder) -> None:
    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError

    assert (tiny_embedder.encode(Odd("a text")) == tiny_embedder.encode("a text")).all()
