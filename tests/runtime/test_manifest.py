"""Reading manifest.json: what is right comes back whole, what is wrong is named, all of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from monograph.bundle import Manifest
from monograph.bundle.manifest import (
    FORMAT_VERSION,
    FileEntry,
    Graph,
    Routing,
    Source,
    TensorSpec,
    TokenizerSpec,
)
from monograph.bundle.manifest_reader import read_manifest
from monograph.quality import Quality, Tolerance, VerificationResult
from monograph.tasks.embedding import EmbeddingSection
from monograph.tasks.rerank import RerankSection

Steps = Sequence[str | int]
VERIFICATION = VerificationResult(
    engine="onnxruntime",
    version="1.31.1",
    device="cpu",
    compute_dtype="float32",
    passed=True,
    tolerance=Tolerance(max_abs_difference=1e-5),
    max_abs_difference=1e-7,
    worst_cosine=1.0,
    probes=195,
    reason="",
)


def sample() -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        task="embedding",
        source=Source("some/model", "abc123", "apache-2.0", {"model.safetensors": "00" * 32}),
        graphs=(
            Graph(
                file="model.onnx",
                devices=("cpu",),
                precision="fp32",
                opset=23,
                inputs={"input_ids": TensorSpec("int64", ("batch", "sequence"))},
                outputs={"sentence_embedding": TensorSpec("float32", ("batch", 4))},
                op_domains=("", "ai.onnx", "com.microsoft"),
                max_batch_size=8,
            ),
        ),
        tokenizer=TokenizerSpec("tokenizer.json", 128, "right", 0, 1000),
        section=EmbeddingSection(4, True, "cosine", (4, 2), 2, ((-1.0, -0.5, 0.0, 0.25), (1.0, 0.5, 2.0, 0.75))),
        prompts={"query": "search: ", "document": ""},
        default_prompt_name="document",
        quality=Quality("torch", (VERIFICATION,)),
        producer={"monograph": "0.1.0"},
        files={
            "model.onnx": FileEntry(10, "11" * 32),
            "model.onnx.data": FileEntry(30, "33" * 32),
            "tokenizer.json": FileEntry(20, "22" * 32),
            "probes.json": FileEntry(40, "44" * 32),
        },
    )


def value() -> dict[str, Any]:
    """Return the sample as a JSON file would give it, to be spoilt."""
    return dict(json.loads(json.dumps(sample().to_json())))


def routed() -> Manifest:
    """The sample with two routes, each with a graph and a tokenizer of its own."""
    manifest = sample()
    other = TokenizerSpec("tokenizer.1.json", None, "right", 0, 500, special_ids=(1, 2))
    graph = manifest.graphs[0]
    return replace(
        manifest,
        graphs=(replace(graph, route="document"), replace(graph, file="model.1.onnx", route="query")),
        routing=Routing({"document": manifest.tokenizer, "query": other}, {"query": "query"}, "document"),
        files=manifest.files | {name: FileEntry(10, "55" * 32) for name in ("model.1.onnx", "tokenizer.1.json")},
    )


def reranking() -> Manifest:
    """The sample as that of a cross-encoder."""
    manifest = sample()
    outputs = {"logits": TensorSpec("float32", ("batch", 3))}
    return replace(
        manifest,
        task="rerank",
        section=RerankSection(3, "Identity", ("no", "yes", "perhaps")),
        graphs=(replace(manifest.graphs[0], outputs=outputs),),
    )


def spoil(whole: dict[str, Any], path: Steps, bad: object) -> None:
    at: Any = whole
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = bad


def drop(whole: dict[str, Any], path: Steps) -> None:
    at: Any = whole
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]


def dotted(path: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def problems_with(path: Steps, bad: object) -> list[str]:
    whole = value()
    spoil(whole, path, bad)
    return read_manifest(whole)[1]


def test_a_manifest_comes_back_equal_through_json() -> None:
    assert read_manifest(value()) == (sample(), [])


def test_a_manifest_with_routes_comes_back_equal_through_json() -> None:
    assert read_manifest(json.loads(json.dumps(routed().to_json()))) == (routed(), [])
    assert list(routed().tokenizers) == ["document", "query"]
    assert list(sample().tokenizers) == [None]


@pytest.mark.parametrize(
    ("path", "bad", "words"),
    [
        (("routing", "tasks", "query"), "absent", "unknown route 'absent'"),
        (("routing", "default"), "absent", "unknown route 'absent'"),
        (("routing", "tokenizers"), {}, "tokenizers must have 1 to 8 routes"),
        (("routing",), None, "graphs are of the routes 'document', 'query', and tokenizers of none"),
        (("graphs", 1, "route"), None, "graphs are of the routes 'document', none"),
        (("graphs", 1, "route"), 3, "graphs[1].route must be a string"),
        (("routing", "tokenizers", "query", "padding_side"), "left", "routing.tokenizers.query.padding_side 'left'"),
        (("routing", "tokenizers", "query", "pad_id"), 500, "routing.tokenizers.query.pad_id"),
        (("routing", "tokenizers", "query", "special_ids"), ["a"], "special_ids must hold integers"),
        (("routing", "tokenizers", "query", "special_ids"), [-1], "query.special_ids must be at least 0"),
        (("routing", "default"), "query", "'query' is not the route of the first graph, 'document'"),
        (("tokenizer", "pad_id"), 3, "tokenizer is not that of the first graph's route"),
        (("graphs", 1, "precision"), "int8", "different precisions"),
        (("routing", "tokenizers", "query", "file"), "absent.json", "absent.json is used but not listed"),
        (("routing", "tasks"), {"query": 1}, "routing.tasks must hold strings"),
    ],
    ids=lambda value: dotted(value) if isinstance(value, tuple) else "",
)
def test_routes_that_do_not_fit_together_are_named(path: Steps, bad: object, words: str) -> None:
    whole = json.loads(json.dumps(routed().to_json()))
    spoil(whole, path, bad)
    problems = read_manifest(whole)[1]
    assert any(words in problem for problem in problems), problems


def test_a_manifest_of_a_cross_encoder_comes_back_equal_through_json() -> None:
    assert read_manifest(json.loads(json.dumps(reranking().to_json()))) == (reranking(), [])
    assert (reranking().output_width, sample().output_width) == (3, 4)


@pytest.mark.parametrize(
    ("path", "bad", "problem"),
    [
        (("rerank",), None, "rerank is missing"),
        (("rerank",), 3, "rerank must be an object"),
        (("rerank", "num_labels"), None, "rerank.num_labels must be an integer"),
        (("rerank", "num_labels"), True, "rerank.num_labels must be an integer"),
        (
            ("rerank", "num_labels"),
            2,
            "graphs[0].outputs.logits has the shape ['batch', 3], and rerank.num_labels is 2",
        ),
        (("rerank", "activation"), "Tanh", "rerank.activation 'Tanh' is not one of Identity, Sigmoid"),
        (("rerank", "activation"), None, "rerank.activation must be a string"),
        (("rerank", "label_names"), ["no", 1, "yes"], "rerank.label_names must hold strings only"),
        (("rerank", "label_names"), ["no", "yes"], "rerank.label_names has 2 names for 3 labels"),
        (("embedding",), value()["embedding"], "embedding is there, and the task is 'rerank'"),
        (("task",), "embedding", "embedding is missing"),
        (
            ("quality", "verifications", 0, "worst_cosine"),
            "1",
            "quality.verifications[0].worst_cosine must be a number",
        ),
    ],
    ids=lambda item: dotted(item) if isinstance(item, tuple) else "",
)
def test_what_is_wrong_with_the_section_of_scores_is_named(path: Steps, bad: object, problem: str) -> None:
    whole = json.loads(json.dumps(reranking().to_json()))
    spoil(whole, path, bad)
    assert problem in read_manifest(whole)[1]


@pytest.mark.parametrize(
    "path", [("rerank", "label_names"), ("quality", "verifications", 0, "worst_cosine")], ids=dotted
)
def test_an_optional_field_of_scores_may_be_absent_or_null(path: Steps) -> None:
    whole = json.loads(json.dumps(reranking().to_json()))
    spoil(whole, path, None)
    assert read_manifest(whole)[1] == []
    drop(whole, path)
    assert read_manifest(whole)[1] == []


OPTIONAL: list[Steps] = [
    ("source", "revision"), ("source", "license"), ("tokenizer", "max_length"), ("embedding", "truncate_dim"),
    ("embedding", "ranges"), ("default_prompt_name",), ("routing",), ("graphs", 0, "route"),
    ("graphs", 0, "max_batch_size"),
    ("tokenizer", "special_ids"),
]  # fmt: skip
REQUIRED: list[Steps] = [
    ("format_version",), ("task",), ("source",), ("source", "name"), ("source", "sha256"), ("graphs",),
    ("graphs", 0, "file"), ("graphs", 0, "devices"), ("graphs", 0, "precision"),
    ("graphs", 0, "opset"), ("graphs", 0, "inputs"), ("graphs", 0, "inputs", "input_ids", "dtype"),
    ("graphs", 0, "outputs"), ("graphs", 0, "outputs", "sentence_embedding", "shape"), ("graphs", 0, "op_domains"),
    ("tokenizer",), ("tokenizer", "file"), ("tokenizer", "padding_side"), ("tokenizer", "pad_id"),
    ("tokenizer", "vocabulary_size"), ("embedding",), ("embedding", "dimension"), ("embedding", "normalized"),
    ("embedding", "similarity"), ("embedding", "matryoshka_dimensions"), ("prompts",), ("quality",), ("producer",),
    ("files",), ("files", "model.onnx", "bytes"), ("files", "model.onnx", "sha256"),
]  # fmt: skip


@pytest.mark.parametrize("path", OPTIONAL, ids=dotted)
def test_an_optional_field_may_be_absent_or_null(path: Steps) -> None:
    whole = value()
    drop(whole, path)
    assert read_manifest(whole)[1] == []
    assert problems_with(path, None) == []


@pytest.mark.parametrize("path", REQUIRED, ids=dotted)
def test_a_required_field_that_is_absent_is_named(path: Steps) -> None:
    whole = value()
    drop(whole, path)
    assert f"{dotted(path)} is missing" in read_manifest(whole)[1]


@pytest.mark.parametrize(
    ("path", "bad", "kind"),
    [
        (("task",), 3, "be a string"),
        (("task",), None, "be a string"),
        (("source",), ["some/model"], "be an object"),
        (("source", "name"), {}, "be a string"),
        (("source", "revision"), 12, "be a string"),
        (("source", "sha256"), {"model.safetensors": 1}, "hold strings only"),
        (("graphs",), {"0": {}}, "be a list"),
        (("graphs", 0), "model.onnx", "be an object"),
        (("graphs", 0, "devices"), "cpu", "be a list"),
        (("graphs", 0, "devices"), ["cpu", None], "hold strings only"),
        (("graphs", 0, "opset"), "23", "be an integer"),
        (("graphs", 0, "opset"), True, "be an integer"),
        (("graphs", 0, "max_batch_size"), True, "be an integer"),
        (("graphs", 0, "inputs"), ["input_ids"], "be an object"),
        (("graphs", 0, "inputs", "input_ids"), "int64", "be an object"),
        (("graphs", 0, "inputs", "input_ids", "shape"), "batch", "be a list"),
        (("tokenizer",), None, "be an object"),
        (("tokenizer", "max_length"), "128", "be an integer"),
        (("tokenizer", "max_length"), True, "be an integer"),
        (("tokenizer", "pad_id"), 0.0, "be an integer"),
        (("tokenizer", "pad_id"), False, "be an integer"),
        (("embedding", "dimension"), 4.5, "be an integer"),
        (("embedding", "dimension"), True, "be an integer"),
        (("embedding", "normalized"), 1, "be true or false"),
        (("embedding", "matryoshka_dimensions"), [4, True], "hold integers only"),
        (("embedding", "matryoshka_dimensions"), [4, "2"], "hold integers only"),
        (("embedding", "truncate_dim"), True, "be an integer"),
        (("embedding", "ranges"), {"min": [], "max": []}, "be a list"),
        (("prompts",), ["query"], "be an object"),
        (("prompts",), {"query": None}, "hold strings only"),
        (("default_prompt_name",), 0, "be a string"),
        (("quality",), [], "be an object"),
        (("producer",), {"monograph": 0.1}, "hold strings only"),
        (("files",), ["model.onnx"], "be an object"),
        (("files", "model.onnx"), "11" * 32, "be an object"),
        (("files", "model.onnx", "bytes"), True, "be an integer"),
        (("files", "model.onnx", "sha256"), 11, "be a string"),
    ],
    ids=lambda item: dotted(item) if isinstance(item, tuple) else repr(item),
)
def test_a_field_of_the_wrong_kind_is_named(path: Steps, bad: object, kind: str) -> None:
    assert f"{dotted(path)} must {kind}" in problems_with(path, bad)


@pytest.mark.parametrize("whole", [None, [], "manifest", 1, True])
def test_a_file_that_is_no_object_is_refused(whole: object) -> None:
    assert read_manifest(whole)[1][0] == "the file must be an object"


def test_every_malformed_field_is_noted_not_only_the_first() -> None:
    whole = value()
    drop(whole, ("source", "name"))
    spoil(whole, ("graphs", 0, "opset"), True)
    spoil(whole, ("tokenizer", "pad_id"), "0")
    spoil(whole, ("embedding", "similarity"), None)
    drop(whole, ("files", "tokenizer.json", "bytes"))
    assert read_manifest(whole)[1] == [
        "embedding.similarity must be a string",
        "source.name is missing",
        "graphs[0].opset must be an integer",
        "tokenizer.pad_id must be an integer",
        "files.tokenizer.json.bytes is missing",
    ]


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        [[0.0] * 4],
        [[0.0] * 4] * 3,
        [[0.0] * 4, [0.0] * 3],
        [[0.0] * 5, [0.0] * 5],
        [[0.0] * 4, ["1"] * 4],
        [[0.0] * 4, [None] * 4],
        [0.0, 1.0],
    ],
)
def test_ranges_of_another_shape_are_refused(ranges: object) -> None:
    problems = problems_with(("embedding", "ranges"), ranges)
    assert problems
    assert all(problem.startswith("embedding.ranges") for problem in problems)


@pytest.mark.parametrize(
    ("path", "bad", "problem"),
    [
        (("task",), "poetry", "task 'poetry' is not one of embedding, multi_vector, rerank, sparse"),
        (("graphs",), [], "graphs is empty"),
        (("graphs", 0, "op_domains"), ["", "com.example"], "graphs[0].op_domains has the unknown com.example"),
        (("graphs", 0, "max_batch_size"), 0, "graphs[0].max_batch_size must be at least 1"),
        (("graphs", 0, "file"), "other.onnx", "other.onnx is used but not listed in files"),
        (("tokenizer", "file"), "other.json", "other.json is used but not listed in files"),
        (("tokenizer", "padding_side"), "left", "tokenizer.padding_side 'left' is not 'right'"),
        (("tokenizer", "max_length"), 0, "tokenizer.max_length must be at least 1"),
        (("tokenizer", "vocabulary_size"), -1, "tokenizer.vocabulary_size must be at least 1"),
        (("embedding", "truncate_dim"), 0, "embedding.truncate_dim must be at least 1"),
        (
            ("embedding", "similarity"),
            "jaccard",
            "embedding.similarity 'jaccard' is not one of cosine, dot, euclidean, manhattan",
        ),
        (("default_prompt_name",), "passage", "default_prompt_name 'passage' is not among prompts"),
    ],
)
def test_fields_that_contradict_are_named(path: Steps, bad: object, problem: str) -> None:
    assert problems_with(path, bad) == [problem]


def test_every_contradiction_is_noted_not_only_the_first() -> None:
    whole = value()
    spoil(whole, ("task",), "poetry")
    spoil(whole, ("graphs", 0, "op_domains"), ["b.example", "ai.onnx", "a.example"])
    spoil(whole, ("default_prompt_name",), "passage")
    spoil(whole, ("tokenizer", "file"), "other.json")
    problems = read_manifest(whole)[1]
    assert len(problems) == 4
    assert "graphs[0].op_domains has the unknown a.example, b.example" in problems


@pytest.mark.parametrize(
    ("version", "advice"), [(FORMAT_VERSION + 1, "upgrade monograph"), (FORMAT_VERSION - 1, "export the model again")]
)
def test_another_format_version_says_what_to_do_whatever_shape_its_fields_have(version: int, advice: str) -> None:
    whole = value() | {"format_version": version, "tokenizer": "elsewhere"}
    problems = read_manifest(whole)[1]
    assert len(problems) == 1
    assert f"format_version {version} is not known" in problems[0]
    assert problems[0].endswith(advice)
    # Where the shape is the known one, contradictions are reported as well.
    assert len(read_manifest(value() | {"format_version": version, "task": "poetry"})[1]) == 2
