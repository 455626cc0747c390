"""The machine's own rate of matrix products: python -m monograph_bench.measurement.matrix_rate CPUS.

In a process of its own, as the systems are, with as many CPUs as they may use.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from monograph.engines.onnxruntime import import_onnxruntime
from monograph.engines.openvino import import_openvino
from monograph.errors import MonographError
from monograph_bench.process import variables

# Rows, inner size and columns of the product: large enough that nothing but the product counts.
SIZE = 2048
_SECONDS = 0.5
_FEWEST_PASSES = 5
_TIMEOUT = 300


def matrix_rates(cpus: Sequence[int]) -> dict[str, float]:
    """Return the rate of one large product in FLOP/s, by type, of the fastest installed engine.

    Raises:
        MonographError: it cannot be measured.

    """
    command = [sys.executable, "-P", "-m", __name__, ",".join(map(str, cpus))]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command,
            env=variables(len(cpus), Path(sys.executable)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise MonographError(f"the machine's matrix rate was not measured within {_TIMEOUT} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MonographError(f"the machine's matrix rate cannot be measured: {last}")
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def main(cpus: str) -> None:
    """Print the rates as JSON."""
    numbers = [int(cpu) for cpu in cpus.split(",")]
    os.sched_setaffinity(0, numbers)
    rates: dict[str, float] = {}
    makers = [_onnxruntime_products, _openvino_products]
    for package, products in zip(("onnxruntime", "openvino"), makers, strict=True):
        if importlib.util.find_spec(package) is not None:
            for dtype, run in products(len(numbers)).items():
                rates[dtype] = max(rates.get(dtype, 0.0), _rate(run))
    sys.stdout.write(json.dumps(rates) + "\n")


def _rate(run: Callable[[], object]) -> float:
    """Return the FLOP/s of the fastest pass."""
    run()
    times: list[float] = []
    while len(times) < _FEWEST_PASSES or sum(times) < _SECONDS:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 2 * SIZE**3 / min(times)


def _openvino_products(threads: int) -> dict[str, Callable[[], object]]:
    # The engines' modules import them with their telemetry off.
    openvino = import_openvino()
    opset15 = importlib.import_module("openvino.opset15")

    def product(dtype: str) -> Callable[[], object]:
        values = opset15.parameter([SIZE, SIZE], np.float32)
        weight = opset15.constant(np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32))
        model = openvino.Model([opset15.matmul(values, weight, False, False)], [values])
        hint = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        request.set_input_tensor(openvino.Tensor(np.random.default_rng(1).random((SIZE, SIZE), dtype=np.float32)))
        run: Callable[[], object] = request.infer
        return run

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    dtypes = ["float32", *(["bfloat16"] if "BF16" in capabilities else [])]
    return {dtype: product(dtype) for dtype in dtypes}


def _onnxruntime_products(threads: int) -> dict[str, Callable[[], object]]:
    onnxruntime = import_onnxruntime()
    generator = np.random.default_rng(0)

    def product(op: str, element: int, values: Any, weight: Any) -> Callable[[], object]:
        result = TensorProto.INT32 if op == "MatMulInteger" else element
        graph = helper.make_graph(
            [helper.make_node(op, ["values", "weight"], ["product"])],
            "product",
            [helper.make_tensor_value_info("values", element, [SIZE, SIZE])],
            [helper.make_tensor_value_info("product", result, [SIZE, SIZE])],
            [numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"values": values})

    shape = (SIZE, SIZE)
    return {
        "float32": product("MatMul", TensorProto.FLOAT, *(generator.random(shape, dtype=np.float32) for _ in range(2))),
        "int8": product(
            "MatMulInteger",
            TensorProto.UINT8,
            generator.integers(0, 255, shape, dtype=np.uint8),
            generator.integers(-127, 127, shape, dtype=np.int8),
        ),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
