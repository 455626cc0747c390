"""Several signals at once fit on the stack that they are handled on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# The size that OpenVINO's CPU plugin sets up where the state of a thread takes 12 KB.
SMALL = 20_144
STACK = f"""
import ctypes, sys
from monograph import Embedder
from monograph.engines.signal_stack import _Stack, enlarge_signal_stack
libc = ctypes.CDLL(None)
memory = ctypes.create_string_buffer(4_000_000)
def use(size):
    assert libc.sigaltstack(ctypes.byref(_Stack(ctypes.addressof(memory), 0, size)), None) == 0
def size():
    current = _Stack()
    assert libc.sigaltstack(None, ctypes.byref(current)) == 0
    return None if current.flags & 2 else current.size
enlarge_signal_stack()
assert size() is None
use(3_000_000)
enlarge_signal_stack()
assert size() == 3_000_000
use({SMALL})
enlarge_signal_stack()
assert size() == 1 << 20
use({SMALL})
with Embedder(sys.argv[1], "openvino") as model:
    assert size() == 1 << 20
"""


@pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are enlarged on Linux only")
def test_a_small_signal_stack_is_replaced_when_openvino_starts(tiny_bundle: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STACK, str(tiny_bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
