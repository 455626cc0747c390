"""`monograph bench`."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType

from monograph.commands.options import add_threads, path, positive
from monograph.commands.reporting import add_quiet, reported
from monograph.engines.registry import compute_dtype_names
from monograph.errors import InputError, MonographError, printable
from monograph_bench.peers.catalog import PEERS, peers_for
from monograph_bench.peers.environments import set_up
from monograph_bench.results import Settings
from monograph_bench.texts import MIXES

HELP = "measure speed, latency, start-up, memory and accuracy of bundles on this machine, and compare other software"
_ALL = "all"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "bundles",
        nargs="*",
        metavar="BUNDLE",
        help="folders that `monograph export` wrote; all must be of the same task",
    )
    parser.add_argument("--device", default=_ALL, help="all installed devices (default), auto, cpu, openvino, ...")
    parser.add_argument(
        "--compute-dtype",
        default=_ALL,
        choices=(_ALL, *compute_dtype_names()),
        help="type that bundles compute in; default: all types of each device",
    )
    add_threads(parser)
    _add_measurement(parser.add_argument_group("what is measured"))
    _add_peers(parser.add_argument_group("other software"))
    _add_results(parser.add_argument_group("results"))
    add_quiet(parser)


def _add_measurement(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mix",
        action="append",
        default=[],
        choices=tuple(MIXES),
        help="mix of text lengths, not for rerankers; may be repeated; default: mixed, or none with --texts",
    )
    group.add_argument(
        "--texts",
        type=path,
        metavar="FILE",
        help="measure with your own texts, one text per line; for rerankers, one query, a tab and a passage per line",
    )
    group.add_argument(
        "--count",
        type=positive,
        help="number of texts or pairs in each mix and from the file; default: 1000, 200 for the mix long, and the "
        "whole file",
    )
    group.add_argument(
        "--sts",
        type=path,
        metavar="FILE",
        help="pairs of sentences with gold scores, as one file of `monograph eval --sts`: adds the Spearman "
        "correlation of every system's cosines to the report",
    )
    group.add_argument(
        "--rounds",
        type=positive,
        default=Settings.rounds,
        help=f"number of passes over the texts; default: {Settings.rounds}",
    )
    group.add_argument(
        "--starts",
        type=positive,
        default=Settings.starts,
        help=f"how many times the process of each system is started and timed; default: {Settings.starts}",
    )
    group.add_argument(
        "--timeout",
        type=positive,
        default=Settings.timeout,
        metavar="SECONDS",
        help=f"time limit for each start of a system and each pass over the texts; default: {Settings.timeout}",
    )


def _add_peers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--against",
        type=_peers,
        default=[],
        metavar="PEERS",
        help=f"other software to measure and compare: {','.join(PEERS)}, or all; rerankers and sparse encoders are "
        f"measured with {', '.join(peers_for(None))} only",
    )
    group.add_argument(
        "--checkpoint", type=path, metavar="FOLDER", help="folder of the original model, which the peers load"
    )
    group.add_argument(
        "--setup-peers",
        type=_peers,
        nargs="?",
        const=list(PEERS),
        metavar="PEERS",
        help="create the virtual environments of all peers, or of those named, and exit without measuring",
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output", type=path, metavar="FILE.json", help="write the results to this file, including every round"
    )
    group.add_argument(
        "--page", type=path, metavar="FILE.html", help="write the report to this file as a single page with plots"
    )
    group.add_argument(
        "--compare",
        type=path,
        nargs=2,
        metavar=("OLD.json", "NEW.json"),
        help="compare two result files without measuring: list what became slower beyond noise, and exit 1 if anything "
        "did",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the tables; or set up peers, or compare two runs."""
    if arguments.bundles and (arguments.setup_peers is not None or arguments.compare is not None):
        raise InputError("--setup-peers and --compare measure nothing: give no BUNDLE with them")
    if arguments.setup_peers is not None:
        with reported(arguments) as progress:
            set_up(arguments.setup_peers, report=print, progress=progress)
        return 0
    bench = import_implementation("bench", "monograph_bench.bench")
    if arguments.compare is not None:
        changes = bench.changes(*arguments.compare)
        print("\n".join(map(printable, changes)) or "nothing became slower beyond noise")
        return 1 if changes else 0
    _check(arguments)
    request = bench.Request(
        bundles=arguments.bundles,
        device=arguments.device,
        compute_dtype=arguments.compute_dtype,
        threads=arguments.threads,
        mixes=arguments.mix,
        texts=arguments.texts,
        count=arguments.count,
        peers=arguments.against,
        checkpoint=arguments.checkpoint,
        sts=arguments.sts,
    )
    settings = Settings(rounds=arguments.rounds, starts=arguments.starts, timeout=arguments.timeout)
    with reported(arguments) as progress:
        for line in bench.measure(request, settings, arguments.output, arguments.page, progress):
            print(printable(line))
    return 0


def import_implementation(command: str, module: str) -> ModuleType:
    """Import what a command does, late: the command line reads the commands where only the runtime is installed.

    Raises:
        MonographError: a package of the extra is missing.

    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MonographError(f"{command} needs {error.name}: pip install 'monograph[bench]'") from error


def _check(arguments: argparse.Namespace) -> None:
    """Refuse before the measuring what would lose its results, or cannot be measured."""
    if not arguments.bundles:
        raise InputError("give at least one BUNDLE, or --setup-peers, or --compare OLD.json NEW.json")
    if bool(arguments.against) != (arguments.checkpoint is not None):
        raise InputError(
            "--against PEERS measures other software, which loads a checkpoint, --checkpoint FOLDER: give both"
        )
    if arguments.checkpoint is not None and not arguments.checkpoint.is_dir():
        raise InputError(f"--checkpoint {arguments.checkpoint} is no folder: give that of the model that peers load")
    for option in (arguments.output, arguments.page):
        if option is not None and not option.absolute().parent.is_dir():
            raise InputError(f"{option.parent} is no folder: {option.name} could not be written after the run")
        if option is not None and option.is_dir():
            raise InputError(f"{option} is a folder: name a file")


def _peers(names: str) -> list[str]:
    chosen = list(PEERS) if names == _ALL else [name for name in names.split(",") if name]
    unknown = [name for name in chosen if name not in PEERS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"{names!r}: choose from {', '.join(PEERS)}, with commas, or {_ALL}")
    return chosen
