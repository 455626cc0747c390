"""Arithmetic whose last bits do not depend on threads or on variables of the environment.

torch multiplies matrices with MKL, whose sums depend on the number of threads unless it computes in the strict mode of
its "conditional numerical reproducibility". With that, MiniLM's vectors are bit-identical on one and on two threads,
and took no longer. MKL reads the mode with its first computation in a process and cannot change it afterwards; where
it has another mode, or torch has no MKL, torch computes on one thread.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)
# With these torch, MKL and oneDNN compute with other instructions than the CPU has, or at another precision.
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)
_MODE, _STRICT_MODE = "MKL_CBWR", "AUTO,STRICT"
# Whether torch was imported within an export, which hid the variables.
_imported_without = threading.Event()
# MKL_CBWR_ALL, and the bit MKL_CBWR_STRICT of what is returned for it.
_ALL, _STRICT_BIT = -1, 0x10000


@contextmanager
def reproducible_environment() -> Iterator[None]:
    """Hide the variables that select instructions from this process and those that it starts, and set MKL's mode.

    They are as before at the end. Libraries read them once, so a warning names those that torch has read already.
    """
    hidden = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    imported = "torch" in sys.modules
    if hidden and imported and not _imported_without.is_set():
        stated = ", ".join(f"{name}={value}" for name, value in hidden.items())
        logger.warning(
            "torch was imported with %s, so the bytes of this export may differ from those of others: import torch "
            "without, or export in a new process",
            stated,
        )
    mode = os.environ.get(_MODE)
    os.environ[_MODE] = _STRICT_MODE
    try:
        yield
    finally:
        if not imported and "torch" in sys.modules:
            _imported_without.set()
        os.environ.update(hidden)
        if mode is None:
            del os.environ[_MODE]
        else:
            os.environ[_MODE] = mode


@contextmanager
def reproducible_torch() -> Iterator[None]:
    """Have torch compute with the caller's number of threads if MKL is in its strict mode, and on one thread if not."""
    import torch

    if _is_strict(Path(torch.__file__).parent):
        yield
        return
    logger.info(
        "torch computes on one thread: it has no MKL, or has computed in this process before the export; the bytes of "
        "its reference may differ from those of an export in a new process"
    )
    with one_thread():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on one thread: MKL's strict mode covers products of matrices, but not factorizations."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _is_strict(torch_folder: Path) -> bool:
    """Tell whether MKL computes in its strict mode, which this call settles if nothing was computed yet."""
    # Linked into this library; torch has no name for it.
    library = torch_folder / "lib" / "libtorch_cpu.so"
    try:
        mode: int = ctypes.CDLL(str(library)).mkl_serv_cbwr_get(_ALL)
    except (OSError, AttributeError):
        return False
    return mode > 0 and bool(mode & _STRICT_BIT)
