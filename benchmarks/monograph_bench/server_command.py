"""`monograph bench-server`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from typing import Any

from monograph.commands.options import add_json, path, positive
from monograph.commands.reporting import add_quiet, reported
from monograph.errors import InputError, printable
from monograph_bench.bench_command import import_implementation
from monograph_bench.texts import MIXES

HELP = "load servers with OpenAI's API for embeddings, and measure throughput and latency"
_KEY = "MONOGRAPH_API_KEY"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "servers",
        nargs="+",
        metavar="[NAME=]URL",
        help="servers to measure, interleaved, such as http://127.0.0.1:8080",
    )
    parser.add_argument("--model", required=True, help="the model's name in requests")
    parser.add_argument("--key", default=os.environ.get(_KEY), help=f"API key; default: the variable {_KEY}")
    parser.add_argument("--mix", choices=tuple(MIXES), default="mixed", help="lengths of the texts; default: mixed")
    parser.add_argument("--texts", type=path, metavar="FILE", help="your own texts, one a line")
    parser.add_argument("--count", type=positive, default=1024, help="texts to send in turn; default: 1024")
    parser.add_argument("--texts-per-request", type=positive, default=1, metavar="N", help="default: 1")
    parser.add_argument("--clients", type=positive, default=64, metavar="N", help="for the saturated rate; default: 64")
    parser.add_argument("--seconds", type=positive, default=10, metavar="S", help="of each run; default: 10")
    parser.add_argument("--rounds", type=positive, default=3, help="default: 3")
    parser.add_argument(
        "--rates",
        type=_rates,
        metavar="R,R",
        help="offered requests a second; default: shares of each server's saturated rate",
    )
    parser.add_argument(
        "--bundle", metavar="BUNDLE", help="compare every vector with that of this bundle, and count wrong answers"
    )
    parser.add_argument(
        "--min-cosine",
        type=float,
        default=0.9999,
        metavar="C",
        help="of a right vector; default: 0.9999",
    )
    add_json(parser)
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print a table; return 1 if a request was lost or answered wrongly."""
    client = import_implementation("bench-server", "monograph_bench.server.client")
    measure = import_implementation("bench-server", "monograph_bench.server.measure")
    texts = import_implementation("bench-server", "monograph_bench.texts")
    targets = {}
    for word in arguments.servers:
        name, separator, url = word.partition("=")
        if not separator or "://" in name:
            name, url = word, word
        if name in targets:
            raise InputError(f"two servers are named {name!r}: give one another name, NAME={url}")
        targets[name] = client.Target.of(url, arguments.key)
    chosen = (
        texts.texts_of_mix(arguments.mix, arguments.count, None)
        if arguments.texts is None
        else texts.file_workload(arguments.texts, arguments.count).texts
    )
    plan = measure.Plan(
        chosen,
        arguments.model,
        arguments.texts_per_request,
        arguments.clients,
        float(arguments.seconds),
        arguments.rounds,
        arguments.rates,
        arguments.min_cosine,
    )
    reference = None
    if arguments.bundle is not None:
        from monograph import Embedder

        reference = Embedder(arguments.bundle)
    with reported(arguments) as progress:
        runs = list(measure.measure(targets, plan, reference, progress))
        if arguments.json:
            print(json.dumps([one.to_json() for one in runs], indent=2))
        else:
            for line in _table(runs):
                print(printable(line))
    return 1 if any(one.outcome.lost or one.outcome.wrong for one in runs) else 0


def _table(runs: Iterable[Any]) -> list[str]:
    """Return the runs as lines; the client's CPU is its share of one core, which the server did not have."""
    columns = "server | kind | offered/s | requests/s | texts/s | p50 ms | p99 ms | errors | lost | wrong | client CPU"
    rows = [columns.split(" | ")]
    for one in runs:
        outcome = one.outcome
        errors = sum(count for status, count in outcome.statuses.items() if status != 200)
        rows.append(
            [
                one.server,
                one.kind,
                f"{outcome.offered:.1f}" if outcome.offered else "-",
                f"{outcome.rate:.1f}",
                f"{outcome.rate * one.texts_per_request:.1f}",
                f"{outcome.percentile(50) * 1e3:.1f}",
                f"{outcome.percentile(99) * 1e3:.1f}",
                str(errors),
                str(outcome.lost),
                str(outcome.wrong),
                f"{outcome.client_cpu / max(outcome.duration, 1e-9):.0%}",
            ]
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _rates(value: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in value.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(rate > 0 for rate in rates):
        raise argparse.ArgumentTypeError(f"must be numbers above 0, with commas, not {value!r}")
    return rates
