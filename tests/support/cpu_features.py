"""What tests of int8 and bfloat16 need of the CPU they run on."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest


def _sums_products_in_16_bits() -> bool:
    """Return whether ONNX Runtime's 8-bit products saturate here: on x86 without VNNI."""
    information = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and information.exists() and "vnni" not in information.read_text("utf-8")


needs_exact_int8 = pytest.mark.skipif(
    _sums_products_in_16_bits(), reason="8-bit products of random weights saturate on a CPU without VNNI"
)
