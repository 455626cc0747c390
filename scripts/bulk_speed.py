"""Time worker processes that read, embed and write Parquet against `Embedder.encode` of the same texts in memory.

`PYTHONPATH=tests:scripts python scripts/bulk_speed.py BUNDLE`. Interleaved rounds on one machine, with as many threads
in all: workers of one thread each, and one model with all. What is timed begins when the models are open. The median of
the rounds' ratios is printed, with each round.
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
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from bulk_check import corpus

from monograph import Embedder
from monograph.bulk.encoder import EncoderOptions
from monograph.bulk.job import make_folders, plan_job, plan_shards
from monograph.bulk.rows import Selection
from monograph.bulk.shards import embed_shard
from monograph.bulk.sources import find_sources
from monograph.bulk.workers import Failure, Workers, share_cpus
from monograph.inference.opening import model_source


def main() -> int:
    """Run the rounds and print their figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MONOGRAPH_DATA", "../shared/data")))
    parser.add_argument("--texts", type=int, default=6000)
    parser.add_argument("--tables", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    texts = random.Random(0).sample(corpus(arguments.data), arguments.texts)  # noqa: S311
    source = model_source(arguments.bundle, arguments.device, "auto", None, "fast", None, None)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        step = arguments.texts // arguments.tables
        for number in range(arguments.tables):
            part = texts[number * step : (number + 1) * step]
            table = pa.table({"id": range(len(part)), "text": part})
            pyarrow.parquet.write_table(table, folder / f"{number}.parquet")
        sources = find_sources([str(folder)])
        job = plan_job(sources, Selection("text", ("id",)), "embedding", "parquet")
        rounds = []
        with (
            Embedder(arguments.bundle, arguments.device) as model,
            Workers(EncoderOptions(source), share_cpus(arguments.workers)) as workers,
        ):
            model.encode(texts[:200])
            for number in range(arguments.rounds):
                begin = time.monotonic()
                model.encode(texts)
                in_memory = time.monotonic() - begin
                output = folder / "out" / str(number)
                shards, _ = plan_shards(sources, output, None)
                make_folders(shards)
                begin = time.monotonic()
                for outcome in workers.map(embed_shard, shards, job):
                    if isinstance(outcome.result, Failure):
                        raise SystemExit(outcome.result.message)
                seconds = time.monotonic() - begin
                shutil.rmtree(output)
                rounds.append({"encode": len(texts) / in_memory, "workers": len(texts) / seconds})
                print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    ratios = [each["workers"] / each["encode"] for each in rounds]
    print(json.dumps({"texts_per_second": rounds, "ratios": ratios, "median_ratio": statistics.median(ratios)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
