"""Time a Ray cluster against local workers on the same tables: `PYTHONPATH=tests python scripts/ray_speed.py BUNDLE`.

Both embed with one thread for each worker, with one worker and with two, in interleaved rounds. The cluster has three
nodes of one CPU on this machine. What is timed begins when each worker has finished its first table, and ends with the
last table, by the times of the files: not the start of processes, the opening of models, and what is fetched once. (Ray
reports a table only when the next one is finished.) The processor time of Ray's own processes, which are all but the
actors and the driver, is of about the same interval. Actors run at the priority of this
process, and not at Ray's, which is lower. Run it on a machine without other work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from bulk_check import corpus

from monograph.bulk.encoder import EncoderOptions
from monograph.bulk.job import Summary, plan_job, plan_shards, run_job
from monograph.bulk.rows import Selection
from monograph.bulk.sources import find_sources
from monograph.inference.opening import model_source
from monograph.progress import SILENT
from support.ray_nodes import Cluster, require_token

NODES = 3
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Processors:
    """The processor time of a cluster's processes, also of those that have ended since, and of this one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._actors: set[int] = set()
        self._seconds: dict[int, float] = {}

    def read(self) -> dict[str, float]:
        """Return the seconds so far of Ray's own processes, of the actors, and of this process."""
        for process in self._cluster.processes():
            try:
                title = Path(f"/proc/{process}/cmdline").read_bytes()
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # Not any more, once it waits for its end.
            if b"ShardActor" in title:
                self._actors.add(process)
            self._seconds[process] = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
        times = os.times()
        actors = sum(self._seconds[process] for process in self._actors)
        return {
            "ray": sum(self._seconds.values()) - actors,
            "actors": actors,
            "driver": times.user + times.system,
        }


@dataclass
class Timed(Summary):
    """Notes the processor time of the cluster when each worker has had a table, and at the end."""

    workers: int = 1
    processors: Processors | None = None
    outcomes: int = 0
    readings: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def add(self, outcome: Any) -> None:
        """Count an outcome."""
        super().add(outcome)
        self.outcomes += 1
        if self.processors is not None and self.outcomes >= self.workers:
            self.readings = [*self.readings[:1], (time.monotonic(), self.processors.read())]

    def figures(self, output: Path, rows: int) -> dict[str, float]:
        """Return texts per second, the seconds that were timed, and the cores that Ray's own processes took.

        ``output`` is the folder of the tables, each of which has as many rows.
        """
        if self.failures:
            raise SystemExit(self.failures[0])
        times = sorted(path.stat().st_mtime for path in output.rglob("*.parquet"))[self.workers - 1 :]
        seconds = times[-1] - times[0]
        figures = {"texts_per_second": rows * (len(times) - 1) / seconds, "seconds": seconds}
        if self.readings:
            (begin, before), (end, after) = self.readings
            for kind in ("ray", "driver", "actors"):
                figures[f"cores_of_{kind}"] = (after[kind] - before[kind]) / (end - begin)
        return {name: round(value, 3) for name, value in figures.items()}


def main() -> int:
    """Run the rounds and print their figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MONOGRAPH_DATA", "../shared/data")))
    parser.add_argument("--rows", type=int, default=2048, help="of a table")
    parser.add_argument("--tables", type=int, default=6, help="for each worker")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    require_token()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # added to that of the node
    from monograph.bulk.cluster import run_on_ray

    texts = random.Random(0).sample(corpus(arguments.data), arguments.rows)  # noqa: S311
    options = EncoderOptions(model_source(arguments.bundle, arguments.device, "auto", 1, "fast", None, None))
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as place, Cluster() as cluster:
        cluster.add_nodes(NODES)
        folder = Path(place)
        for number in range(2 * arguments.tables):
            # The same texts in another order: all tables take as long.
            table = pa.table({"id": range(len(texts)), "text": random.Random(number).sample(texts, len(texts))})  # noqa: S311
            pyarrow.parquet.write_table(table, folder / f"{number:03}.parquet")
        sources = find_sources([str(folder)])
        for _ in range(arguments.rounds):
            rounds.append({})
            for workers in (1, 2):
                own = sources[: workers * arguments.tables]
                job = plan_job(own, Selection("text", ("id",)), "embedding", "parquet")
                for where in ("local", "ray"):
                    shards, _ = plan_shards(own, folder / "out", None)
                    summary = Timed(workers=workers, processors=Processors(cluster) if where == "ray" else None)
                    if where == "ray":
                        run_on_ray(shards, job, options, cluster.address, workers, SILENT, summary)
                    else:
                        run_job(shards, job, options, workers, SILENT, summary)
                    rounds[-1][f"{where}_{workers}"] = summary.figures(folder / "out", len(texts))
                    shutil.rmtree(folder / "out")
                    print(f"{where}, {workers}: {rounds[-1][f'{where}_{workers}']}", file=sys.stderr, flush=True)
    print(json.dumps({"rounds": rounds, **ratios(rounds)}, indent=1))
    return 0


def ratios(rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Return the medians of the ratios of each round."""
    pairs = {
        "ray_to_local_with_1_worker": ("ray_1", "local_1"),
        "ray_to_local_with_2_workers": ("ray_2", "local_2"),
        "2_workers_to_1_on_ray": ("ray_2", "ray_1"),
        "2_workers_to_1_here": ("local_2", "local_1"),
    }
    rates = [{name: each["texts_per_second"] for name, each in one.items()} for one in rounds]
    return {
        name: round(statistics.median(one[first] / one[second] for one in rates), 3)
        for name, (first, second) in pairs.items()
    }


if __name__ == "__main__":
    sys.exit(main())
