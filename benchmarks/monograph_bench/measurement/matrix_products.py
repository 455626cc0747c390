"""How each engine multiplies matrices on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from monograph.engines.onnxruntime import import_onnxruntime
from monograph.engines.openvino import import_openvino

# Rows, inner size and columns of the product: large enough that nothing but the product counts.
SIZE = 2048
Products = Mapping[str, Callable[[], object]]


def _openvino_products(threads: int) -> Products:
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


def _onnxruntime_products(threads: int) -> Products:
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


# By the kind of device that is this machine's CPU: what makes a product of SIZE x SIZE for each type, for a number of
# threads. The rates of other engines are not measured.
PRODUCTS: Mapping[str, Callable[[int], Products]] = {"cpu": _onnxruntime_products, "openvino": _openvino_products}
