"""Token embeddings and late chunking: the vectors of tokens, and of parts of long texts, equal those of torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from monograph import Bundle, BundleError, Embedder, ExportError, InputError
from monograph.bundle import open_bundle, read_probes
from monograph.late_chunking import windows
from monograph_export import export
from monograph_export.probe_texts import probe_sentences
from support.checkpoints import tiny
from support.parity import assert_close

OUTPUTS = "sentence_embedding,token_embeddings"
DEVICES = ["cpu", "openvino"]
SENTENCE = "seven grey geese flew over the quiet harbour, before the rain began; and nobody in the café looked up."
TEXTS = [SENTENCE, "a", "", SENTENCE.upper(), "naïve ﬁ 👩‍👩‍👧", SENTENCE * 9, "a"]
MAX_LENGTH = 48


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = {"query": "search: "}
    return tiny(tmp_path_factory.mktemp("tokens"), max_length=MAX_LENGTH, prompts=prompts)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    return SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(checkpoint, tmp_path_factory.mktemp("bundle") / "bundle", outputs=OUTPUTS)


@pytest.fixture(scope="module", params=DEVICES)
def model(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Embedder]:
    with Embedder(bundle.path, request.param, "float32") as opened:
        yield opened


@pytest.mark.parametrize("prompt", ["", "search: "])
def test_token_embeddings_equal_sentence_transformers(model: Embedder, reference: Any, prompt: str) -> None:
    expected = [reference.encode(text, output_value="token_embeddings", prompt=prompt).numpy() for text in TEXTS]
    for actual in (
        model.encode(TEXTS, output_value="token_embeddings", prompt=prompt),
        [model.encode(text, output_value="token_embeddings", prompt=prompt) for text in TEXTS],
    ):
        for matrix, vectors in zip(actual, expected, strict=True):
            assert isinstance(matrix, np.ndarray)
            assert_close(matrix, vectors)


def test_sentence_embeddings_are_what_they_were(model: Embedder, reference: Any) -> None:
    assert_close(model.encode(TEXTS), np.stack([reference.encode(text) for text in TEXTS]))


def long_texts() -> list[str]:
    """Fifty texts of 5 to 600 tokens, in several languages."""
    sentences = probe_sentences()
    generator = np.random.default_rng(0)
    return [
        "\n".join(sentences[place] for place in generator.integers(len(sentences), size=1 + number))
        for number in range(50)
    ]


def spans_of(text: str) -> list[tuple[int, int]]:
    """The lines of a text."""
    begins = [0, *(place + 1 for place, character in enumerate(text) if character == "\n")]
    return list(zip(begins, [*(begin - 1 for begin in begins[1:]), len(text)], strict=True))


def in_torch(reference: Any, text: str, spans: list[tuple[int, int]], overlap: int) -> NDArray[np.float32]:
    """Late chunking as it is defined, with transformers' own tokenizer and model, a window at a time."""
    tokenizer, body = reference.tokenizer, reference[0].auto_model
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)
    ids, offsets, room = encoded["input_ids"], encoded["offset_mapping"], MAX_LENGTH - 2
    vectors = [torch.empty(0)] * len(ids)
    distances = [-1.0] * len(ids)
    start = 0
    while True:
        start = max(0, min(start, len(ids) - room))
        window = [tokenizer.cls_token_id, *ids[start : start + room], tokenizer.sep_token_id]
        with torch.inference_mode():
            hidden = body(torch.tensor([window])).last_hidden_state[0, 1:-1]
        for place, vector in enumerate(hidden):
            # How far the token is from the ends of the window; of an end of the text there is no distance.
            left = float("inf") if start == 0 else place + 0.5
            right = float("inf") if start + room >= len(ids) else len(hidden) - place - 0.5
            if min(left, right) > distances[start + place]:
                vectors[start + place], distances[start + place] = vector, min(left, right)
        if start + room >= len(ids):
            break
        start += room - overlap
    pooled = [
        torch.stack([vector for vector, (_, last) in zip(vectors, offsets, strict=True) if begin < last <= end]).mean(0)
        for begin, end in spans
    ]
    return np.asarray(torch.nn.functional.normalize(torch.stack(pooled), dim=1).numpy())


@pytest.mark.parametrize("overlap", [None, 0, 20])
def test_late_chunking_equals_torch(model: Embedder, reference: Any, overlap: int | None) -> None:
    stated = (MAX_LENGTH - 2) // 4 if overlap is None else overlap
    texts = long_texts() if overlap is None else long_texts()[::7]
    for text in texts:
        spans = spans_of(text)
        assert_close(model.encode_chunks(text, spans, overlap=overlap), in_torch(reference, text, spans, stated))


def test_a_chunker_and_a_prompt(model: Embedder, reference: Any) -> None:
    text = f"{SENTENCE}\nA second line."
    actual = model.encode_chunks(text, spans_of, "query")
    prompted = [(begin + len("search: "), end + len("search: ")) for begin, end in spans_of(text)]
    assert_close(actual, in_torch(reference, f"search: {text}", prompted, 11))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([(0, 4), (3, 3)], r"chunks\[1\] is 3 to 3, and the text has 7 characters"),
        ([(0, 8)], r"chunks\[0\] is 0 to 8"),
        (["ab", 3], r"chunks\[0\] must be a pair of characters"),
        ([(3, 4)], r"chunks\[0\], ' ', has no token"),
    ],
)
def test_chunks_that_are_refused(model: Embedder, chunks: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.encode_chunks("one two", chunks)


@pytest.mark.parametrize(
    "options", [{"precision": "int8"}, {"normalize_embeddings": True}, {"truncate_dim": 4}], ids=lambda o: next(iter(o))
)
def test_token_embeddings_have_no_post_processing(model: Embedder, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="token embeddings are returned as they are"):
        model.encode("a", output_value="token_embeddings", **options)


def test_windows_cover_every_token_once() -> None:
    for count in (0, 1, 9, 10, 11, 25, 26, 100):
        for overlap in (0, 1, 5, 9):
            parts = list(windows(count, 10, overlap))
            taken = [place for begin, end, first, last in parts for place in range(first, last)]
            assert taken == list(range(count))
            assert all(begin <= first <= last <= end and end - begin <= 10 for begin, end, first, last in parts)


def test_the_manifest_states_both_outputs_and_probes_prove_them(bundle: Bundle, tmp_path: Path) -> None:
    [graph] = bundle.manifest.graphs
    assert list(graph.outputs) == ["sentence_embedding", "token_embeddings"]
    assert bundle.manifest.section.token_pooling == "mean"
    assert [probes.output for probes in read_probes(bundle.path)] == [None, "token_embeddings"]
    value = json.loads((bundle.path / "manifest.json").read_bytes())
    value["graphs"][0]["outputs"]["other"] = {"dtype": "float32", "shape": ["batch", 32]}
    other = tmp_path / "other"
    other.mkdir()
    for file in bundle.path.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(BundleError, match="outputs must name one output, and may name token_embeddings"):
        open_bundle(other)


def test_a_bundle_without_token_embeddings_says_how_to_get_them(tiny_embedder: Embedder) -> None:
    with pytest.raises(InputError, match=f"no 'token_embeddings': export it with --outputs {OUTPUTS}"):
        tiny_embedder.encode("a", output_value="token_embeddings")
    with pytest.raises(InputError, match="encode_chunks needs a bundle of a model with mean pooling"):
        tiny_embedder.encode_chunks("a text", [(0, 6)])


@pytest.mark.slow
def test_first_token_models_and_int8_have_token_embeddings(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, pooling="cls")
    # Random weights do not keep to the limits that trained ones do.
    limits: dict[str, Any] = {"min_mean_cosine": -1, "min_worst_cosine": -1, "min_neighbour_agreement": 0}
    bundle = export(checkpoint, tmp_path / "bundle", outputs=OUTPUTS, table="int8", **limits)
    assert bundle.manifest.section.token_pooling is None
    with Embedder(bundle.path, "cpu") as model:
        matrix = model.encode("a boat", output_value="token_embeddings")
        assert isinstance(matrix, np.ndarray)
        assert matrix.shape == (model.preprocess(["a boat"])["input_ids"].shape[1], 32)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("token_embeddings", "--outputs of an embedding model are sentence_embedding, followed by token_embeddings or"),
        ("sentence_embedding,logits", "--outputs of an embedding model are"),
    ],
)
def test_outputs_that_are_refused(checkpoint: Path, tmp_path: Path, outputs: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(checkpoint, tmp_path / "bundle", outputs=outputs)
