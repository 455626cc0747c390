"""Compare the readers on aarch64, under qemu, with Python on this machine: run it by scripts/arm-check."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from conformance.check import CommandReader, compare
from conformance.suite import expect, expected_of, write_suite

PROJECT = Path(__file__).resolve().parents[1]
# An old core without dot products, and everything that qemu has, matrix products included.
CPUS = ("cortex-a72", "max")


def readers(arm: Path, cpu: str) -> Iterator[tuple[str, CommandReader]]:
    """Yield the readers by name, as commands that run on a model of a CPU."""
    (library,) = (arm / "site" / "onnxruntime" / "capi").glob("libonnxruntime.so.*")
    environment = os.environ | {
        "QEMU_LD_PREFIX": str(arm / "root"),
        "PYTHONHOME": str(arm / "root" / "usr"),
        "PYTHONPATH": os.pathsep.join(map(str, (arm / "site", PROJECT / "runtime", PROJECT / "tests"))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MONOGRAPH_ONNXRUNTIME": str(library),
        # A thread of OpenBLAS for each core makes an emulated start slower.
        "OPENBLAS_NUM_THREADS": "1",
    }
    environment.pop("OPENBLAS_CORETYPE", None)
    qemu = [str(arm / "qemu" / "usr" / "bin" / "qemu-aarch64"), "-cpu", cpu]
    python = [str(arm / "root" / "usr" / "bin" / "python3.13"), "-m", "conformance.python_reader"]
    yield "c", CommandReader([*qemu, str(PROJECT / "c" / "build" / "aarch64" / "monograph-c")], environment, 3600)
    yield "python", CommandReader([*qemu, *python], environment, 3600)


def main() -> int:
    """Print a line for each reader, CPU and bundle; return 1 if one differs."""
    parser = argparse.ArgumentParser(prog="scripts/arm-check")
    parser.add_argument("arm", type=Path)
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth probe of the bundles only")
    arguments = parser.parse_intermixed_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        if arguments.bundles:
            cases = [(bundle, expect(bundle, odd=False, step=arguments.every)) for bundle in arguments.bundles]
        else:
            write_suite(Path(folder) / "suite")
            cases = list(expected_of(Path(folder) / "suite"))
        for cpu in CPUS:
            for name, reader in readers(arguments.arm, cpu):
                for bundle, expected in cases:
                    result = compare(reader, bundle, expected)
                    failed += bool(result.failure)
                    outcome = result.failure or (
                        f"{len(expected['texts'])} texts, max abs difference {result.max_abs_difference:.1e}, "
                        f"worst cosine {result.worst_cosine:.6f}"
                    )
                    print(f"{cpu} {name} {bundle.name} {expected['precision']}: {outcome}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
