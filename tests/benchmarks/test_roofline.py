"""What the machine could do at most, and what a graph needs of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from monograph_bench.measurement import memory_reads
from monograph_bench.measurement.machine_rates import machine_rates
from monograph_bench.measurement.roofline import Weights, Work, count_weights, count_work


def test_the_work_of_minilm_is_counted(minilm_bundle: Path) -> None:
    work = count_work(minilm_bundle / "model.onnx")
    # 6 layers: query, key, value and output of 384 x 384, two of 384 x 1,536; scores and sums of 384.
    assert work.per_token == 6 * 2 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert work.per_pair == 6 * 2 * 2 * 384
    assert work.of(np.array([10, 20])) == work.per_token * 30 + work.per_pair * 500 + work.per_text * 2


def test_a_table_that_is_the_last_layer_is_work_of_each_token(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
            helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["embedded", "turned"], ["logits"]),
        ],
        "tied",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "t", 50])],
        [numpy_helper.from_array(np.zeros((50, 8), np.float32), "table")],
        value_info=[helper.make_tensor_value_info("turned", TensorProto.FLOAT, [8, 50])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert count_work(tmp_path / "model.onnx") == Work(per_token=2 * 50 * 8, per_pair=0, per_text=0)
    assert count_weights(tmp_path / "model.onnx") == Weights(float32=4 * 50 * 8, others=0)


def test_tables_that_only_rows_are_read_of_are_no_weights_of_a_call(tmp_path: Path) -> None:
    weights: dict[str, NDArray[Any]] = {
        "table": np.zeros((50, 8), np.int8),
        "row_scales": np.zeros((50, 1), np.float32),
        "first": np.zeros((8, 6), np.int8),
        "scales": np.zeros(6, np.float32),
        "second": np.zeros((6, 4), np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Gather", ["row_scales", "input_ids"], ["row_scale"]),
            helper.make_node("Cast", ["rows"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["cast", "row_scale"], ["embedded"]),
            helper.make_node("DequantizeLinear", ["first", "scales"], ["widened"], axis=1),
            helper.make_node("MatMul", ["embedded", "widened"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "second"], ["result"]),
        ],
        "tables",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", "t", 4])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    counted = count_weights(tmp_path / "model.onnx")
    assert counted == Weights(float32=4 * (6 + 6 * 4), others=8 * 6)
    # OpenVINO keeps float32 weights in bfloat16 where it computes in that.
    assert (counted.read_at("float32"), counted.read_at("bfloat16")) == (4 * 30 + 48, 2 * 30 + 48)


@pytest.mark.slow
def test_the_rates_of_the_machine_are_measured() -> None:
    rates = machine_rates(sorted(os.sched_getaffinity(0))[:1])
    assert rates.products["float32"] > 1e9
    assert rates.memory_bandwidth is None or rates.memory_bandwidth > 1e8


def test_no_memory_is_read_where_too_little_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = psutil.virtual_memory()._replace(available=1 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert memory_reads.memory_bandwidth(1) is None
