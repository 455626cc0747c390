"""Exports that are verified on one engine only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from monograph_export import parity


@contextmanager
def verified_on_cpu() -> Iterator[None]:
    """Export as if ONNX Runtime were the only engine: saves a process, and a second, in each export.

    For tests whose subject is no engine, and for those that compare each engine's vectors with torch's themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "installed_devices", lambda: [parity.REQUIRED_DEVICE])
        yield
