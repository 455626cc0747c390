"""What the machine itself reaches, of matrix products and of reading memory.

``python -m monograph_bench.measurement.machine_rates CPUS`` measures it in a process of its own, as the systems are,
with as many CPUs as they may use.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monograph.engines.registry import engines
from monograph.errors import MonographError
from monograph_bench.measurement.matrix_products import PRODUCTS, SIZE
from monograph_bench.measurement.memory_reads import memory_bandwidth
from monograph_bench.process import environment_variables

_SECONDS = 0.5
_MIN_PASSES = 5
_TIMEOUT = 300


@dataclass(frozen=True)
class MachineRates:
    """The rates of the machine.

    ``products`` is that of one large matrix product in FLOP/s, by type, of the fastest installed engine;
    ``memory_bandwidth`` is that of reading memory in bytes/s. What could not be measured is missing or None.
    """

    products: Mapping[str, float] = field(default_factory=dict)
    memory_bandwidth: float | None = None


def machine_rates(cpus: Sequence[int]) -> MachineRates:
    """Measure the rates with a thread on each of some CPUs.

    Raises:
        MonographError: they cannot be measured.

    """
    command = [sys.executable, "-P", "-m", __name__, ",".join(map(str, cpus))]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command,
            env=environment_variables(len(cpus), Path(sys.executable)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise MonographError(f"the machine's rates were not measured within {_TIMEOUT} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MonographError(f"the machine's rates cannot be measured: {last}")
    return MachineRates(**json.loads(done.stdout.splitlines()[-1]))


def main(cpus: str) -> None:
    """Print the rates as JSON."""
    numbers = [int(cpu) for cpu in cpus.split(",")]
    os.sched_setaffinity(0, numbers)
    # The engines' threads are still to come, and would spin beside those that read.
    bandwidth = memory_bandwidth(len(numbers))
    rates: dict[str, float] = {}
    for engine in engines():
        if engine.installed and engine.kind in PRODUCTS:
            for dtype, run in PRODUCTS[engine.kind](len(numbers)).items():
                rates[dtype] = max(rates.get(dtype, 0.0), _rate(run))
    sys.stdout.write(json.dumps(dataclasses.asdict(MachineRates(rates, bandwidth))) + "\n")


def _rate(run: Callable[[], object]) -> float:
    """Return the FLOP/s of the fastest pass."""
    run()
    times: list[float] = []
    while len(times) < _MIN_PASSES or sum(times) < _SECONDS:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 2 * SIZE**3 / min(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
