"""The examples run as a user runs them, on the real MiniLM."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import CrossEncoder, Embedder

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def searching() -> ModuleType:
    return load("semantic_search")


@pytest.fixture(scope="module")
def mining() -> ModuleType:
    return load("parallel_sentence_mining")


def test_search_prints_the_right_text_first(minilm_bundle: Path, searching: ModuleType) -> None:
    lines = run("semantic_search", minilm_bundle, "--device", "cpu").splitlines()
    first = [lines[i + 1].split(maxsplit=1)[1] for i, line in enumerate(lines) if line in searching.QUESTIONS]
    words = ("Refunds", "braking", "upper path", "router")
    assert len(first) == len(words)
    assert all(word in text for word, text in zip(words, first, strict=True))


def test_search_in_a_file(minilm_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("A saw cuts wood.\nThe moon is full tonight.\n", encoding="utf-8")
    output = run(
        "semantic_search", minilm_bundle, "what is in the sky?", "--texts", file, "--top", "5", "--device", "cpu"
    )
    assert [line.split(maxsplit=1)[1] for line in output.splitlines()[1:]] == [
        "The moon is full tonight.",
        "A saw cuts wood.",
    ]


def test_search_over_several_blocks_is_that_over_all(tiny_embedder: Embedder, searching: ModuleType) -> None:
    texts = [f"sentence number {number}" for number in range(2500)]
    questions = ["sentence number 7", "number 2400"]
    scores, positions = searching.search(tiny_embedder, questions, iter(texts), 5)
    every = tiny_embedder.similarity(tiny_embedder.encode_query(questions), tiny_embedder.encode_document(texts))
    np.testing.assert_allclose(scores, -np.sort(-every, axis=1)[:, :5], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(every, positions, axis=1), scores, atol=1e-6)


def test_mining_pairs_every_paraphrase_with_its_own(minilm_bundle: Path, mining: ModuleType) -> None:
    output = run("parallel_sentence_mining", minilm_bundle, "--device", "cpu")
    pairs = {tuple(line.split("\t")[1:]) for line in output.splitlines()}
    target = {text[:8]: text for text in mining.TARGET}
    # In the order of the source; its last two sentences have no counterpart.
    starts = (
        "From 5 a",
        "The topp",
        "She was ",
        "Due to s",
        "Mobile p",
        "Honeybee",
        "In his f",
        "Along th",
        "Homes co",
        "Once mor",
    )
    assert pairs == {(one, target[start]) for one, start in zip(mining.SOURCE, starts, strict=False)}


def unit(rows: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_nearest_in_blocks_is_nearest_over_all(mining: ModuleType, block: int) -> None:
    source, target = unit(20, 1), unit(33, 2)
    cosines, positions = mining.nearest(source, target, 4, block)
    every = source @ target.T
    np.testing.assert_allclose(-np.sort(-cosines, axis=1), -np.sort(-every, axis=1)[:, :4], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(every, positions, axis=1), cosines, atol=1e-6)


def test_the_margin_is_that_of_the_definition(mining: ModuleType) -> None:
    source, target = np.abs(unit(9, 3)), np.abs(unit(11, 4))
    every, k = source @ target.T, 3
    rows = -np.sort(-every, axis=1)[:, :k].sum(axis=1) / (2 * k)
    columns = -np.sort(-every, axis=0)[:k].sum(axis=0) / (2 * k)
    margins = every / (rows[:, np.newaxis] + columns)
    pairs = mining.mine(source, target, k)
    assert pairs
    for margin, one, other in pairs:
        assert margin == pytest.approx(margins[one, other], abs=1e-5)
    assert len({one for _, one, _ in pairs}) == len({other for _, _, other in pairs}) == len(pairs)


def test_mining_of_nothing_finds_nothing(mining: ModuleType) -> None:
    assert mining.mine(unit(0, 1), unit(5, 2), 4) == []


def test_candidates_are_sorted_by_the_cross_encoder(minilm_bundle: Path, tiny_cross_bundle: Path) -> None:
    """One with random weights: which texts it prefers means nothing, that they are its own choice does."""
    example = load("retrieve_and_rerank")
    output = run("retrieve_and_rerank", minilm_bundle, tiny_cross_bundle, "--device", "cpu").splitlines()
    with Embedder(minilm_bundle, device="cpu") as embedder, CrossEncoder(tiny_cross_bundle, device="cpu") as model:
        candidates = example.retrieve(embedder, example.QUESTIONS, example.TEXTS, 5)
        for question, positions, start in zip(example.QUESTIONS, candidates, (0, 4), strict=True):
            assert output[start] == question
            texts = [example.TEXTS[position] for position in positions]
            expected = [one.get("text") for one in model.rank(question, texts, top_k=3, return_documents=True)]
            assert [line.split(")  ", 1)[1] for line in output[start + 1 : start + 4]] == expected
    assert {"Refunds", "Without"} <= {example.TEXTS[position].split()[0] for position in candidates[0]}
