"""Many batches side by side: the same vectors, no caller that waits for itself, nothing lost where one stops."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph import Embedder, MonographError
from monograph.batching import TokenBatch
from monograph.bundle import open_bundle
from monograph.engines import EngineOptions, open_engine
from monograph.engines.openvino import _MANY_BATCHES, OpenVinoEngine
from monograph.engines.openvino_streams import Streams

TEXTS = [f"text number {number} of many" + " and more words" * (number % 9) for number in range(60)]
# Few enough that the texts fill more than _MANY_BATCHES batches.
ROWS = 2


@pytest.fixture
def engine(tiny_bundle: Path, tmp_path: Path) -> Iterator[OpenVinoEngine]:
    opened = open_engine(open_bundle(tiny_bundle), EngineOptions("openvino", "float32", 2, tmp_path))
    assert isinstance(opened, OpenVinoEngine)
    yield opened
    opened.close()


@pytest.fixture
def model(tiny_bundle: Path) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, "openvino", "float32", threads=2) as opened:
        yield opened


def batches(engine: OpenVinoEngine, count: int) -> Iterator[TokenBatch]:
    random = np.random.default_rng(0)
    for number in range(count):
        shape = (2, int(random.integers(2, 30)))
        ids = random.integers(5, 900, shape)
        inputs = {name: ids if name == "input_ids" else np.ones(shape, np.int64) for name in engine.graph.inputs}
        if "token_type_ids" in inputs:
            inputs["token_type_ids"] = np.zeros(shape, np.int64)
        yield TokenBatch(np.array([number]), inputs)


def single(embedder: Embedder) -> NDArray[np.float32]:
    return np.stack([embedder.encode(text) for text in TEXTS])


def test_each_batch_gets_its_own_output(engine: OpenVinoEngine) -> None:
    outputs = {int(batch.rows[0]): output for batch, output in engine.stream(batches(engine, 3 * _MANY_BATCHES))}
    assert engine._streams is not None
    assert engine._streams._requests is not None
    assert len(outputs) == 3 * _MANY_BATCHES
    for batch in batches(engine, 3 * _MANY_BATCHES):
        np.testing.assert_allclose(outputs[int(batch.rows[0])], engine.run(batch.inputs), atol=1e-6)


def test_few_batches_compile_nothing_more(engine: OpenVinoEngine) -> None:
    assert len(list(engine.stream(batches(engine, _MANY_BATCHES - 1)))) == _MANY_BATCHES - 1
    assert engine._streams is not None
    assert engine._streams._requests is None


def test_one_thread_has_no_streams(tiny_bundle: Path, tmp_path: Path) -> None:
    opened = open_engine(open_bundle(tiny_bundle), EngineOptions("openvino", "float32", 1, tmp_path))
    assert isinstance(opened, OpenVinoEngine)
    assert len(list(opened.stream(batches(opened, _MANY_BATCHES)))) == _MANY_BATCHES
    assert opened._streams is None
    opened.close()


def test_who_stops_early_gives_every_request_back(engine: OpenVinoEngine) -> None:
    for _ in range(10):
        outputs = engine.stream(batches(engine, 2 * _MANY_BATCHES))
        next(outputs)
        assert isinstance(outputs, Generator)
        outputs.close()
    assert len(list(engine.stream(batches(engine, _MANY_BATCHES)))) == _MANY_BATCHES


def test_a_batch_that_fails_is_an_error_and_the_next_call_works(engine: OpenVinoEngine) -> None:
    good = list(batches(engine, _MANY_BATCHES))
    bad = TokenBatch(np.array([0]), {"another": np.ones((1, 4), dtype=np.int64)})
    with pytest.raises(MonographError, match="OpenVINO failed"):
        list(engine.stream([*good, bad, *good]))
    assert len(list(engine.stream(good))) == _MANY_BATCHES


def test_a_callback_may_embed_with_the_same_model(model: Embedder) -> None:
    """It has what is left of the requests, or the model of one stream: it waits for nobody."""
    expected = single(model)
    inner: list[NDArray[np.float32]] = []

    def on_texts(_: int) -> None:
        if len(inner) < 3:
            inner.append(model.encode(TEXTS, batch_size=ROWS))

    done = threading.Event()

    def run() -> None:
        [outer] = model.encode_iter(TEXTS, batch_size=ROWS, on_texts=on_texts)
        inner.append(outer)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(60)
    assert len(inner) == 4
    for vectors in inner:
        np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_many_callers_at_once_get_their_own_vectors(model: Embedder) -> None:
    expected = single(model)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: model.encode(TEXTS, batch_size=ROWS), range(24)))
    for vectors in results:
        np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_a_closed_model_says_so(engine: OpenVinoEngine) -> None:
    list(engine.stream(batches(engine, _MANY_BATCHES)))
    engine.close()
    with pytest.raises(MonographError, match="closed"):
        list(engine.stream(batches(engine, _MANY_BATCHES)))


def test_streams_that_are_closed_before_they_are_needed_compile_nothing(engine: OpenVinoEngine) -> None:
    def compile_model() -> None:
        raise AssertionError("compiled")

    streams = Streams(engine._model, compile_model)
    streams.close()
    with pytest.raises(MonographError, match="closed"):
        streams._free()


def test_a_forked_child_closes_streams_that_were_being_compiled(
    engine: OpenVinoEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(engine._model, lambda: None)
    # As a fork copies it while another thread compiles.
    streams._compiling.acquire()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    streams.close()
