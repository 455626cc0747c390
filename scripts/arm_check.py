"""Compare the readers on aarch64, under qemu, with Python on this machine: run it by scripts/arm-check."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from conformance.check import CommandReader, compare
from conformance.suite import expect, expected_of, write_suite

PROJECT = Path(__file__).resolve().parents[1]
# An old core without dot products, and everything that qemu has, matrix products included.
CPUS = ("cortex-a72", "max")
READERS = ("c", "python")
# For a whole run of a reader: all probes of a real model take a quarter of an hour on an idle core.
_SECONDS = 4 * 3600


def reader(arm: Path, cpu: str, name: str) -> CommandReader:
    """Return one of READERS as a command that runs on a model of a CPU."""
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
    command = {
        "c": [str(PROJECT / "c" / "build" / "aarch64" / "monograph-c")],
        "python": [str(arm / "root" / "usr" / "bin" / "python3.13"), "-m", "conformance.python_reader"],
    }
    return CommandReader([*qemu, *command[name]], environment, _SECONDS)


def main() -> int:
    """Print a line for each CPU, reader and bundle before its run and one with its result; return 1 if one differs."""
    parser = argparse.ArgumentParser(prog="scripts/arm-check")
    parser.add_argument("arm", type=Path)
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth probe of the bundles only")
    parser.add_argument(
        "--first", type=int, default=0, metavar="K", help="begin with probe K: with --every N, N short runs take all"
    )
    parser.add_argument("--cpu", choices=CPUS, help="emulate one CPU only")
    parser.add_argument("--reader", choices=READERS, help="run one reader only")
    arguments = parser.parse_intermixed_args()
    cpus = [arguments.cpu] if arguments.cpu else CPUS
    names = [arguments.reader] if arguments.reader else READERS
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        if arguments.bundles:
            chosen: dict[str, int] = {"step": arguments.every, "first": arguments.first}
            cases = [(bundle, expect(bundle, odd=False, **chosen)) for bundle in arguments.bundles]
        else:
            write_suite(Path(folder) / "suite")
            cases = list(expected_of(Path(folder) / "suite"))
        runs = [(cpu, name, *case) for cpu in cpus for name in names for case in cases]
        for place, (cpu, name, bundle, expected) in enumerate(runs, 1):
            label = f"{cpu} {name} {bundle.name} {expected['precision']}"
            print(f"[{place}/{len(runs)}] {label}: {len(expected['texts'])} texts, alone and batched ...", flush=True)
            start = time.monotonic()
            result = compare(reader(arguments.arm, cpu, name), bundle, expected)
            failed += bool(result.failure)
            outcome = result.failure or (
                f"max abs difference {result.max_abs_difference:.1e}, worst cosine {result.worst_cosine:.6f}"
            )
            print(f"[{place}/{len(runs)}] {label}: {outcome} ({time.monotonic() - start:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
