"""Verification finds a fault that shows at one width only, alone or beside other texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monograph.bundle import Probes, open_bundle, read_probes
from monograph.engines import Engine, dtypes_of
from monograph.inference.opening import open_routes
from monograph.inference.pipeline import BatchRunner, Pipeline
from monograph.inference.routes import Routes
from monograph.inference.verification import verify
from monograph_export import export
from support import checkpoints


class FaultyAtOneWidth(Engine):
    """A real engine whose vectors are rolled where a batch is ``width`` tokens wide and has so many rows."""

    name = "faulty"

    def __init__(self, engine: Engine, width: int, rows: range) -> None:
        self.engine, self.width, self.rows = engine, width, rows
        self.graph, self.device, self.compute_dtype = engine.graph, engine.device, engine.compute_dtype
        self.threads, self.version, self.padding_buckets = engine.threads, engine.version, engine.padding_buckets
        self.tokens_per_batch = engine.tokens_per_batch

    def run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
        rows, width = inputs["input_ids"].shape
        vectors = self.engine.run(inputs, output)
        return np.roll(vectors, 1, axis=1) if width == self.width and rows in self.rows else vectors

    def close(self) -> None:
        self.engine.close()


def with_engine(routes: Routes, engine: Engine) -> Routes:
    main, specification = routes.main, routes.main.specification
    runner = BatchRunner(engine, specification, main.runner.output_width, None)
    return replace(routes, pipelines={None: Pipeline(main.tokenizer, specification, runner)})


@pytest.fixture(scope="module")
def long_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with texts of up to 256 tokens."""
    folder = tmp_path_factory.mktemp("long")
    return export(checkpoints.tiny(folder, max_length=256), folder / "bundle").path


@pytest.fixture(scope="module")
def probes(long_bundle: Path) -> Probes:
    (probes,) = read_probes(long_bundle)
    return probes


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def routes(long_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Routes]:
    opened = open_routes(open_bundle(long_bundle), device=request.param, compute_dtype="float32", threads=None)
    yield opened
    opened.close()


def test_probes_have_every_length_to_130_and_some_to_the_longest(probes: Probes) -> None:
    # Two tokens are the special ones: no text has fewer.
    assert set(range(2, 131)) <= set(probes.token_counts)
    assert {191, 192, 255, 256} <= set(probes.token_counts)


def test_a_right_engine_passes(routes: Routes, probes: Probes) -> None:
    result = verify(routes, [probes])
    assert result.passed, result.reason
    assert result.max_abs_difference <= 1e-5


@pytest.mark.parametrize("rows", [range(1, 2), range(2, 100)], ids=["alone", "beside others"])
@pytest.mark.parametrize("width", [2, 6, 16, 30, 32, 64, 128, 256])
def test_a_fault_at_one_width_does_not_pass(routes: Routes, probes: Probes, width: int, rows: range) -> None:
    faulty = with_engine(routes, FaultyAtOneWidth(routes.main.engine, width, rows))
    result = verify(faulty, [probes])
    assert not result.passed
    assert "max abs difference" in result.reason
    # The reason names the text that is worst; an engine with few padding buckets pads it to the faulty one.
    worst = int(result.reason.split(" tokens")[0].rsplit(" ", 1)[1])
    assert worst <= width


@pytest.mark.parametrize("width", [3, 31, 33, 129])
def test_a_fault_at_a_width_between_does_not_pass_where_the_engine_runs_it(
    routes: Routes, probes: Probes, width: int
) -> None:
    faulty = with_engine(routes, FaultyAtOneWidth(routes.main.engine, width, range(1, 100)))
    runs_it = routes.main.engine.padding_buckets is None or width in routes.main.engine.padding_buckets
    assert verify(faulty, [probes]).passed != runs_it


def test_nan_does_not_pass(routes: Routes, probes: Probes) -> None:
    class NotANumber(FaultyAtOneWidth):
        def run(self, inputs: Mapping[str, NDArray[np.int64]], output: str | None = None) -> NDArray[np.float32]:
            return super().run(inputs, output) * (np.nan if inputs["input_ids"].shape[1] == self.width else 1)

    faulty = with_engine(routes, NotANumber(routes.main.engine, 32, range(0)))
    result = verify(faulty, [probes])
    assert not result.passed
    # What is no number has none in JSON either.
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize("compute_dtype", dtypes_of("openvino"))
def test_every_type_is_verified_with_the_tolerance_of_its_own(
    long_bundle: Path, probes: Probes, compute_dtype: str
) -> None:
    opened = open_routes(open_bundle(long_bundle), device="openvino", compute_dtype=compute_dtype, threads=None)
    result = verify(opened, [probes])
    opened.close()
    assert result.passed, result.reason
    assert result.compute_dtype == compute_dtype
    assert result.tolerance.exact is (compute_dtype == "float32")
    assert (result.tolerance.min_cosine is None) is result.tolerance.exact
