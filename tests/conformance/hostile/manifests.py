"""Manifests that are no JSON of the format, or say what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.hostile.changes import change_manifest, change_text, change_values, named
from conformance.hostile.files import WEIGHTS
from support.manifests import edit_manifest

_OPTIONAL = {"default_prompt_name", "routing", "compression"}
_KEYS = (
    "format_version", "task", "source", "graphs", "tokenizer", "embedding", "prompts", "quality", "producer", "files",
)  # fmt: skip
for _key in _KEYS:
    change_manifest(f"without-{_key}", lambda value, key=_key: value.pop(key))  # type: ignore[misc]
    change_manifest(f"null-{_key}", lambda value, key=_key: value.update({key: None}))  # type: ignore[misc]
for _kind, _version in {"next": 2, "zero": 0, "float": 1.0, "string": "1", "true": True, "huge": 10**40}.items():
    change_manifest(f"format-{_kind}", lambda value, version=_version: value.update(format_version=version))  # type: ignore[misc]
change_manifest("task-unknown", lambda value: value.update(task="translation"))
change_manifest("two-sections", lambda value: value.update(rerank={"num_labels": 1, "activation": "Identity"}))
change_manifest("graphs-empty", lambda value: value.update(graphs=[]))
change_manifest("default-prompt-unknown", lambda value: value.update(default_prompt_name="nobody"))
change_manifest("prompts-of-numbers", lambda value: value.update(prompts={"query": 1}))
change_manifest("no-weights", lambda value: value["files"].pop(WEIGHTS))
change_manifest("graph-unlisted", lambda value: value["files"].pop("model.onnx"))
change_manifest("tokenizer-unlisted", lambda value: value["files"].pop("tokenizer.json"))
change_manifest("probes-unlisted", lambda value: value["files"].pop("probes.json"))
change_manifest("bytes-negative", lambda value: value["files"][WEIGHTS].update(bytes=-1))
change_manifest("bytes-true", lambda value: value["files"][WEIGHTS].update(bytes=True))
change_manifest("hash-short", lambda value: value["files"]["tokenizer.json"].update(sha256="0"))
change_values(
    "embedding",
    lambda manifest: manifest["embedding"],
    {
        "dimension": {"zero": 0, "other": 23, "true": True, "huge": 2**62, "float": 24.0},
        "normalized": {"one": 1},
        "similarity": {"unknown": "cosines"},
        "truncate_dim": {"zero": 0, "float": 1.5},
        "matryoshka_dimensions": {"strings": ["8"]},
        "ranges": {"one": [[0.0] * 24], "short": [[0.0], [1.0]], "strings": [["0"] * 24, ["1"] * 24]},
    },
)
change_values(
    "tokenizer",
    lambda manifest: manifest["tokenizer"],
    {
        "file": {"missing": "nobody.json"},
        "max_length": {"zero": 0, "other": 95, "none": None},
        "padding_side": {"left": "left"},
        "pad_id": {"negative": -1, "beyond": 10**6, "string": "0"},
        "vocabulary_size": {"zero": 0, "huge": 2**40},
        "special_ids": {"beyond": [10**6], "strings": ["1"]},
        "min_length": {"two": 2},
    },
)
change_values(
    "graph",
    lambda manifest: manifest["graphs"][0],
    {
        "file": {"suffix": "tokenizer.json"},
        "devices": {"string": "cpu", "none": []},
        "op_domains": {"unknown": ["", "com.example"], "string": ""},
        "max_batch_size": {"zero": 0, "string": "1"},
        "opset": {"string": "23"},
        "outputs": {"none": {}, "other": {"other": {"dtype": "float32", "shape": ["batch", 24]}}},
        "route": {"alone": "query"},
    },
)


@named("manifest-width-of-another-graph")
def _(bundle: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["embedding"]["dimension"] = 23
        value["graphs"][0]["outputs"]["sentence_embedding"]["shape"][-1] = 23

    edit_manifest(bundle, change)


# A precision after the first that no graph has, and the other way round; probes that are not listed.
change_manifest(
    "further-precision-without-graph",
    lambda value: value.update(further_precisions={"int8": {"probes": "probes.json", "quality": value["quality"]}}),
)
change_manifest(
    "further-precision-not-described",
    lambda value: value["graphs"].append(value["graphs"][0] | {"precision": "int8"}),
)


def _describe_second(value: dict[str, Any]) -> None:
    value["graphs"].append(value["graphs"][0] | {"precision": "int8"})
    value["further_precisions"] = {"int8": {"probes": "nobody.json", "quality": value["quality"]}}


change_manifest("further-probes-unlisted", _describe_second)
change_manifest("inputs-without-ids", lambda value: value["graphs"][0]["inputs"].pop("input_ids"))
change_manifest(
    "inputs-unknown", lambda value: value["graphs"][0]["inputs"].update(other={"dtype": "int64", "shape": ["b", "s"]})
)
change_manifest("inputs-dtype", lambda value: value["graphs"][0]["inputs"]["input_ids"].update(dtype="int32"))
change_manifest("inputs-rank", lambda value: value["graphs"][0]["inputs"]["input_ids"].update(shape=["batch"]))
change_manifest(
    "outputs-two", lambda value: value["graphs"][0]["outputs"].update(more={"dtype": "float32", "shape": ["batch", 24]})
)
change_text("not-a-number", '"format_version": 1', '"x": NaN, "format_version": 1')
change_text("infinite", '"format_version": 1', '"x": 1e999, "format_version": 1')
change_text("twice", '"format_version": 1', '"format_version": 1, "format_version": 1')
change_text("lone-surrogate", '"format_version": 1', '"x": "\\ud800", "format_version": 1')
change_text("byte-order-mark", '{"format_version"', '\ufeff{"format_version"')
change_text("deep", '"format_version": 1', f'"x": {"[" * 100_000}{"]" * 100_000}, "format_version": 1')
change_text("control-character", '"format_version": 1', '"x": "\x01", "format_version": 1')
change_text("trailing-comma", '"format_version": 1', '"format_version": 1,')
change_text("leading-zero", '"format_version": 1', '"format_version": 01')


@named("manifest-not-utf-8")
def _(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"format_version"', b'"x\xff": 0, "format_version"', 1))


@named("manifest-list")
def _(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("[]", encoding="utf-8")


@named("manifest-empty")
def _(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"")


@named("manifest-huge")
def _(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes() + b" " * (8 * 2**20))


@named("manifest-many-values")
def _(bundle: Path) -> None:
    content = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(content.rstrip()[:-1] + b', "x": [' + b"0," * 1_100_000 + b"0]}")
