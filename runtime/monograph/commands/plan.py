"""`monograph plan`: what a corpus will take, before machines are rented for it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from monograph.commands import options
from monograph.errors import InputError
from monograph.progress import format_seconds

if TYPE_CHECKING:
    from monograph.bulk.machines import Machine
    from monograph.bulk.plan import Disturbances, Estimate, Rate

HELP = "estimate hours, memory, disk, network and cost of embedding a corpus, from a measurement on this machine"
_MEAN_TOKENS = 60.0
# Of any number that is given: more is a mistake.
_LARGEST = 1e15
# With a machine lost more often than every six minutes, a file would hardly ever be finished.
_MAX_LOSSES = 10.0
_BYTES_OF_VALUE = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "uint8": 1.0, "binary": 0.125, "ubinary": 0.125}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument("--texts", type=_positive_number, required=True, metavar="N", help="number of texts: 1e9")
    parser.add_argument(
        "--mean-tokens", type=_positive_number, metavar="T", help=f"of a text; assumed by default: {_MEAN_TOKENS:g}"
    )
    parser.add_argument(
        "--machines",
        action="append",
        metavar="NAME",
        help="instances such as c8i.4xlarge, or cores and GiB of memory such as 8:32; default: c8i.4xlarge",
    )
    parser.add_argument(
        "--nodes", type=options.positive, default=1, metavar="N", help="machines of each kind; default: 1"
    )
    parser.add_argument(
        "--price",
        type=_prices,
        metavar="DOLLARS",
        help="of a machine per hour, for several --machines as many with commas between; default: no costs",
    )
    parser.add_argument(
        "--tokens-per-second",
        type=_positive_number,
        metavar="X",
        help="of one core, as measured on such a machine; default: it is measured here, in some seconds",
    )
    parser.add_argument("--precision", choices=tuple(_BYTES_OF_VALUE), default="float32", help="default: float32")
    parser.add_argument("--truncate-dim", type=options.positive, help="dimensions that are kept")
    parser.add_argument("--bytes-per-text", type=_positive_number, help="of the input; assumed by default: 4 a token")
    parser.add_argument(
        "--losses", type=_losses, metavar="P", help="how often an hour a machine is lost; assumed by default: 0.002"
    )
    options.add_engine(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure the model, and print an estimate for each kind of machine and what is measured, given and assumed."""
    from monograph.bulk.plan import BYTES_PER_TOKEN, Corpus, Disturbances, Rate, estimate, measure
    from monograph.embedder import Embedder

    machines = _machines(arguments)
    disturbances = Disturbances()
    if arguments.losses is not None:
        disturbances = Disturbances(losses_per_node_hour=arguments.losses)
    mean_tokens = arguments.mean_tokens or _MEAN_TOKENS
    with Embedder(
        arguments.bundle,
        arguments.device,
        arguments.compute_dtype,
        arguments.threads,
        quality=arguments.quality,
    ) as model:
        rate = measure(model, mean_tokens)
        if arguments.tokens_per_second is not None:
            rate = Rate(arguments.tokens_per_second, rate.process_bytes, rate.shared_bytes, "given")
        dimension = min(arguments.truncate_dim or model.dimension, model.dimension)
        computed_tokens = min(mean_tokens, model.max_length or mean_tokens)
        description = f"{arguments.bundle}, {model.graph_precision} on {model.device} at {model.compute_dtype}"
    corpus = Corpus(
        arguments.texts,
        computed_tokens,
        arguments.bytes_per_text or BYTES_PER_TOKEN * mean_tokens,
        dimension * _BYTES_OF_VALUE[arguments.precision],
    )
    estimates = [estimate(corpus, rate, machine, arguments.nodes, disturbances) for machine in machines]
    inputs = _inputs(arguments, rate, disturbances, computed_tokens)
    if arguments.json:
        values = {"rate": asdict(rate), "corpus": asdict(corpus), "disturbances": asdict(disturbances)}
        print(json.dumps(values | {"inputs": inputs, "estimates": [asdict(each) for each in estimates]}))
    else:
        _print(description, rate, mean_tokens, estimates, arguments)
        for kind, phrases in inputs.items():
            print(f"{kind}: {'; '.join(phrases)}")
    return 0


def _machines(arguments: argparse.Namespace) -> list[Machine]:
    from monograph.bulk.machines import machine_named

    names = [name for words in arguments.machines or ["c8i.4xlarge"] for name in words.split(",")]
    prices = arguments.price or [None] * len(names)
    if len(prices) != len(names):
        raise InputError(f"--price has {len(prices)} prices for {len(names)} --machines: give one for each")
    return [machine_named(name, price) for name, price in zip(names, prices, strict=True)]


def _inputs(
    arguments: argparse.Namespace, rate: Rate, disturbances: Disturbances, computed_tokens: float
) -> dict[str, list[str]]:
    """Return what the estimate rests on, by where it is from: "measured here", "given" and "assumed"."""
    from monograph.bulk.plan import BYTES_PER_TOKEN, PACKED_SIZE

    measured = [
        f"{rate.process_bytes / 1e6:,.0f} MB of memory a process, beside {rate.shared_bytes / 1e6:,.1f} MB of weights"
    ]
    given = [f"{arguments.texts:,.0f} texts"]
    seconds, tables, nodes = disturbances.table_seconds, disturbances.table_spread, disturbances.node_spread
    assumed = [
        f"{'the given' if arguments.tokens_per_second else 'this'} rate on every core of the machines",
        f"weights in memory take {PACKED_SIZE} times their size in the bundle",
        f"a file takes a core about {seconds:g} s, files vary by {tables:.0%} and nodes by {nodes:.0%}",
        f"a lost node is replaced after {disturbances.replacement_seconds:g} s",
    ]
    measured_rate = f"{rate.tokens_per_second:,.0f} tokens/s"
    (given if arguments.tokens_per_second else measured).insert(0, measured_rate)
    mean_tokens = arguments.mean_tokens or _MEAN_TOKENS
    cut = f", of which the model reads {computed_tokens:g}" if computed_tokens < mean_tokens else ""
    (given if arguments.mean_tokens else assumed).append(f"{mean_tokens:g} tokens a text{cut}")
    if arguments.bytes_per_text:
        given.append(f"{arguments.bytes_per_text:g} bytes a text")
    else:
        assumed.append(f"{BYTES_PER_TOKEN:g} bytes of text a token")
    (assumed if arguments.losses is None else given).append(
        f"a node is lost {disturbances.losses_per_node_hour:g} times an hour"
    )
    if arguments.price:
        given.append("prices")
    return {"measured here": measured, "given": given, "assumed": assumed}


def _print(
    description: str, rate: Rate, mean_tokens: float, estimates: list[Estimate], arguments: argparse.Namespace
) -> None:
    print(f"{description}: {rate.tokens_per_second:,.0f} tokens/s on a core, {rate.source}")
    first = estimates[0]
    print(
        f"{arguments.texts:,.0f} texts of {mean_tokens:g} tokens: {first.input_gib:,.1f} GiB of text, "
        f"{first.output_gib:,.1f} GiB of {arguments.precision} vectors"
    )
    for each in estimates:
        machine = each.machine
        kind = f"{each.nodes:,} x {machine.name}" if each.nodes > 1 else machine.name
        print(
            f"{kind} ({machine.cores} cores, {machine.memory_gib:g} GiB): {format_seconds(each.hours * 3600)}, "
            f"{_disturbed(each)}; {_cost(each)}; {each.memory_gib:,.1f} GiB of memory a machine; reads "
            f"{each.read_mb_per_second:,.1f} MB/s, writes {each.written_mb_per_second:,.1f} MB/s in all"
        )
        if each.memory_gib > machine.memory_gib:
            print(f"  {machine.name} has too little memory for a process on each core: use fewer --workers of `embed`")


def _disturbed(estimate: Estimate) -> str:
    if estimate.likely_hours is None or estimate.worst_hours is None or estimate.lost_share is None:
        return "slow and lost nodes not simulated"
    return (
        f"{format_seconds(estimate.likely_hours * 3600)} with slow and lost nodes as simulated "
        f"(worst {format_seconds(estimate.worst_hours * 3600)}, {estimate.lost_share:.2%} done again)"
    )


def _cost(estimate: Estimate) -> str:
    if estimate.dollars is None or estimate.dollars_per_million_texts is None:
        return "no --price"
    price = estimate.machine.dollars_per_hour
    return f"${estimate.dollars:,.0f} at ${price:g} an hour, ${estimate.dollars_per_million_texts:,.2f} a million texts"


def _prices(value: str) -> list[float]:
    return [_positive_number(word) for word in value.split(",")]


def _positive_number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= _LARGEST:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most {_LARGEST:g}, not {value!r}")
    return number


def _losses(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _MAX_LOSSES:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {_MAX_LOSSES:g}, not {value!r}")
    return number
