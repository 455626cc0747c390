"""SparseEncoder on a tiny bundle: what it returns, takes and refuses, and rows of active dimensions by themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from monograph import BundleError, Embedder, InputError, SparseEncoder
from monograph.batching import MAX_COST_RATIO, batch_cost, plan_batches
from monograph.inference.pipeline import MAX_OUTPUT_VALUES
from monograph.sparse.rows import SparseRows, active_rows, join_rows
from monograph.tasks.sparse import SparsePostProcess

TEXTS = ["the harbour", "", "a radio under the table", "the harbour", "третья строка"]


def dense(rows: SparseRows, width: int) -> NDArray[np.float32]:
    result = np.zeros((len(rows.counts), width), np.float32)
    for row, (columns, values) in zip(result, rows.vectors(), strict=True):
        row[columns] = values
    return result


@pytest.fixture
def outputs() -> NDArray[np.float32]:
    values = np.random.default_rng(0).standard_normal((7, 40)).astype(np.float32).clip(min=0)
    values[3] = 0
    return values


def test_active_rows_are_what_is_not_zero(outputs: NDArray[np.float32]) -> None:
    rows = active_rows(outputs, None)
    assert np.array_equal(dense(rows, 40), outputs)
    assert (str(rows.columns.dtype), str(rows.values.dtype)) == ("int32", "float32")
    assert all((np.diff(columns) > 0).all() for columns, _ in rows.vectors())


def test_only_the_largest_values_are_retained_and_of_equal_ones_the_first() -> None:
    rows = active_rows(np.array([[1, 3, 2, 3, 3], [0, 0, 5, 0, 1], [0, 0, 0, 0, 0]], np.float32), 2)
    assert [(columns.tolist(), values.tolist()) for columns, values in rows.vectors()] == [
        ([1, 3], [3.0, 3.0]),
        ([2, 4], [5.0, 1.0]),
        ([], []),
    ]


def test_rows_come_back_in_their_order(outputs: NDArray[np.float32]) -> None:
    order = [np.array([5, 0]), np.array([3, 6, 1]), np.array([2, 4])]
    rows = SparsePostProcess(None).collect(((places, active_rows(outputs[places], None)) for places in order), 7)
    assert np.array_equal(dense(rows, 40), outputs)
    with pytest.raises(ValueError, match="7 rows instead of 8"):
        SparsePostProcess(None).collect(((places, active_rows(outputs[places], None)) for places in order), 8)


def test_rows_are_taken_by_position(outputs: NDArray[np.float32]) -> None:
    positions = np.array([6, 3, 3, 0, 6])
    assert np.array_equal(dense(active_rows(outputs, None).take(positions), 40), outputs[positions])
    assert join_rows([]).vectors() == []


def test_results_have_the_shapes_of_what_was_given(tiny_sparse_encoder: SparseEncoder) -> None:
    many, one, none = (tiny_sparse_encoder.encode(given) for given in (TEXTS, TEXTS[0], []))
    assert (many.shape, one.shape, none.shape) == ((5, 5000), (5000,), (0, 5000))
    assert all(isinstance(vectors, csr_array) and vectors.dtype == np.float32 for vectors in (many, one, none))
    assert np.array_equal(one.toarray(), many.toarray()[0])
    assert np.array_equal(many.toarray()[0], many.toarray()[3])
    for given in (np.array(TEXTS), tuple(TEXTS)):
        assert np.array_equal(tiny_sparse_encoder.encode(given).toarray(), many.toarray())


def test_active_dimensions_are_those_of_the_array(tiny_sparse_encoder: SparseEncoder) -> None:
    array = tiny_sparse_encoder.encode(TEXTS)
    for row, (columns, values) in zip(array.toarray(), tiny_sparse_encoder.encode_active(TEXTS), strict=True):
        assert columns.tolist() == np.flatnonzero(row).tolist()
        assert np.array_equal(values, row[columns])
    assert len(tiny_sparse_encoder.encode_active("a text")) == 1
    assert tiny_sparse_encoder.encode_active([]) == []


def test_a_stream_gives_the_same_in_blocks(tiny_sparse_encoder: SparseEncoder) -> None:
    def stream() -> Iterator[str]:
        yield from TEXTS

    done: list[int] = []
    blocks = list(tiny_sparse_encoder.encode_iter(stream(), on_texts=done.append))
    assert np.abs(blocks[0].toarray() - tiny_sparse_encoder.encode(TEXTS).toarray()).max() <= 1e-5
    assert sum(done) == len(TEXTS)


@pytest.mark.parametrize(
    "options",
    [{"max_active_dims": 0}, {"max_active_dims": True}, {"batch_size": -1}, {"prompt_name": "none"}, {"task": "q"}],
)
def test_options_are_refused(options: dict[str, Any], tiny_sparse_encoder: SparseEncoder) -> None:
    with pytest.raises(InputError):
        tiny_sparse_encoder.encode(TEXTS, **options)


@pytest.mark.parametrize("texts", [None, [1], ["a", None], b"a", {"a": 1}, ["\ud800"]])
def test_what_is_no_text_is_refused(texts: Any, tiny_sparse_encoder: SparseEncoder) -> None:
    with pytest.raises(InputError):
        tiny_sparse_encoder.encode(texts)


@pytest.mark.parametrize("vectors", ["a text", [["a"]], np.zeros((2, 2, 2)), None, csr_array(np.ones((1, 5000)) * 1j)])
def test_what_is_no_vector_is_refused(vectors: Any, tiny_sparse_encoder: SparseEncoder) -> None:
    for method in (tiny_sparse_encoder.decode, tiny_sparse_encoder.sparsity):
        with pytest.raises(InputError):
            method(vectors)


def test_vectors_of_other_dimensions_are_not_compared(tiny_sparse_encoder: SparseEncoder) -> None:
    vectors = tiny_sparse_encoder.encode(TEXTS)
    for method in (tiny_sparse_encoder.similarity, tiny_sparse_encoder.similarity_pairwise):
        with pytest.raises(InputError):
            method(vectors, vectors[:, :7])
    with pytest.raises(InputError, match="one vector meets"):
        tiny_sparse_encoder.intersection(vectors, vectors)


def test_arrays_of_ones_own_are_read_as_they_mean(tiny_sparse_encoder: SparseEncoder) -> None:
    # Not in order, one column twice, and a zero that is stored.
    given = csr_array(
        (np.array([1, 2, 3, 0], np.float32), np.array([9, 4, 9, 7]), np.array([0, 4, 4])), shape=(2, 5000)
    )
    before = given.data.copy(), given.indices.copy()
    plain = given.toarray()
    decoded = tiny_sparse_encoder.decode(given)
    assert [weight for _, weight in decoded[0]] == [4.0, 2.0]
    assert decoded[1] == []
    assert tiny_sparse_encoder.sparsity(given)["active_dims"] == 1.0
    assert np.array_equal(tiny_sparse_encoder.similarity(given, plain), plain @ plain.T)
    assert tiny_sparse_encoder.decode(plain[0]) == decoded[0]
    assert np.array_equal(given.data, before[0])
    assert np.array_equal(given.indices, before[1])


def test_the_largest_are_so_by_size_and_products_above_zero(tiny_sparse_encoder: SparseEncoder) -> None:
    rows = active_rows(np.array([[-3, 1, 2, 0]], np.float32), 2)
    assert rows.vectors()[0][0].tolist() == [0, 2]
    first, second = np.zeros((2, 5000), np.float32)
    first[:3], second[:3] = [-1, 2, 3], [1, 1, -1]
    assert tiny_sparse_encoder.intersection(first, second).nonzero()[0].tolist() == [1]


def test_a_bundle_of_another_task_is_refused(tiny_bundle: Path, tiny_sparse_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"'embedding'.*'sparse'"):
        SparseEncoder(tiny_bundle)
    with pytest.raises(BundleError, match=r"'sparse'.*'embedding'"):
        Embedder(tiny_sparse_bundle)


def test_columns_and_values_need_no_scipy(tiny_sparse_bundle: Path) -> None:
    code = """
import sys
sys.modules["scipy"] = sys.modules["scipy.sparse"] = None
from monograph import MonographError, SparseEncoder
with SparseEncoder(sys.argv[1], device="cpu") as model:
    print(len(model.encode_active(["a text"])[0][0]) > 0)
    try:
        model.encode("a text")
    except MonographError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, tiny_sparse_bundle], capture_output=True, text=True, check=True)
    works, refusal = done.stdout.splitlines()
    assert works == "True"
    assert "pip install 'monograph[sparse]'" in refusal
    assert "encode_active" in refusal


def test_the_cost_of_a_batch_of_a_given_size_is_bounded() -> None:
    lengths = np.full(64, 256, np.int64)
    plan = list(plan_batches(lengths, 512, 32))
    assert {len(rows) for rows in plan[:-1]} == {int(512 * MAX_COST_RATIO // batch_cost(1, 256))}
    assert sorted(np.concatenate(plan).tolist()) == list(range(64))
    short = list(plan_batches(np.full(64, 4, np.int64), 512, 32))
    assert [len(rows) for rows in short] == [32, 32]


def test_a_batch_is_held_to_the_size_of_its_outputs(tiny_sparse_encoder: SparseEncoder) -> None:
    pipeline = tiny_sparse_encoder._open.routes.main
    tokens = pipeline.tokenize([f"{number}" for number in range(3000)])
    assert max(len(rows) for rows in pipeline.runner.plan(tokens, batch_size=3000)) <= MAX_OUTPUT_VALUES // 5000
