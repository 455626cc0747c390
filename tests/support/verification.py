"""On which engines the exports of the tests are verified: on ONNX Runtime, or on all that are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from monograph.engines import installed_devices
from monograph_export import parity


@contextmanager
def verified_on_cpu() -> Iterator[None]:
    """Export as if ONNX Runtime were the only engine: that saves a process, and a second of five, in each export.

    Tests that are about another engine compare its vectors with torch's themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "installed_devices", lambda: [parity.REQUIRED_DEVICE])
        yield


@contextmanager
def verified_on_every_engine() -> Iterator[None]:
    """Export as users do, for tests of what is verified and recorded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "installed_devices", installed_devices)
        yield
