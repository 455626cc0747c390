"""transformers.js in a Node process of its own; ``transformers_js_model.mjs`` is what runs there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.base import DEFAULT_BATCH_SIZE, Model

_PROGRAM = "node"
_SCRIPT = Path(__file__).with_suffix(".mjs")


class _TransformersJs(Model):
    def __init__(self, options: dict[str, object]) -> None:
        # It ends when its standard input does.
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [_PROGRAM, str(_SCRIPT), sys.prefix, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._described: dict[str, str] = self._answer()

    def encode(self, texts: list[str], batch_size: int | None) -> None:
        """Embed texts; the vectors stay in Node, where its users get them."""
        self._request({"do": "encode", "texts": texts, "batch_size": batch_size or DEFAULT_BATCH_SIZE})

    def to_array(self, results: None) -> NDArray[np.float32]:  # noqa: ARG002 - they are those of the last call
        return np.asarray(self._request({"do": "vectors"}), dtype=np.float32)

    def describe(self) -> dict[str, str]:
        return self._described

    def _request(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - likewise
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{_PROGRAM} ended with exit status {self._process.wait()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer["answer"]


def load(*, checkpoint: str, threads: int, dtype: str, pooling: str, normalize: bool, max_length: int) -> Model:  # noqa: ARG001 - the length is in the tokenizer's settings
    """Load a checkpoint exported to ONNX, quantized for the dtype "q8"."""
    options: dict[str, object] = {
        "folder": checkpoint,
        "dtype": dtype,
        "pooling": pooling,
        "normalize": normalize,
        "threads": threads,
    }
    return _TransformersJs(options)
