"""Pauses of coverage's tracer while torch is imported and exports a graph, which it would slow by half.

Nothing of the project runs there but what a graph is made of, and that is seen in a call of the model before.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _paused() -> Iterator[None]:
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def install() -> None:
    """Import torch and what is imported with it, and replace ``torch.onnx.export`` in this process."""
    with _paused():
        import onnxscript  # noqa: F401
        import sentence_transformers  # noqa: F401
        import torch

    export = torch.onnx.export

    @functools.wraps(export)
    def export_paused(model: Any, inputs: tuple[Any, ...], *args: Any, **options: Any) -> Any:
        with torch.no_grad():
            model(*inputs)
        with _paused():
            return export(model, inputs, *args, **options)

    setattr(torch.onnx, "export", export_paused)  # noqa: B010 - of another type, which is the point
