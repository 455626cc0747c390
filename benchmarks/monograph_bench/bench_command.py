"""`monograph bench`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from types import ModuleType

from monograph.commands.options import add_threads, positive
from monograph.engines.registry import compute_dtype_names
from monograph.errors import InputError, MonographError
from monograph_bench.peers.catalog import PEERS, peers_for
from monograph_bench.peers.environments import set_up
from monograph_bench.results import Settings
from monograph_bench.texts import MIXES

HELP = "measure speed, latency, start-up, memory and equality of bundles on this machine, beside what else there is"
_ALL = "all"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    # A run takes minutes: its progress goes to stderr as with -v.
    parser.set_defaults(verbose=True)
    parser.add_argument(
        "bundles", nargs="*", metavar="BUNDLE", help="folders that `monograph export` wrote, all of one task"
    )
    parser.add_argument("--device", default=_ALL, help="all that is installed (default), auto, cpu, openvino, ...")
    parser.add_argument("--compute-dtype", default=_ALL, choices=(_ALL, *compute_dtype_names()), help="default: all")
    add_threads(parser)
    parser.add_argument(
        "--mix",
        action="append",
        default=[],
        choices=tuple(MIXES),
        help="length mix, of models of texts only; may be repeated; default: mixed, or none with --texts",
    )
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="measure with your own texts, one a line; rerankers: pairs, a tab between query and passage",
    )
    parser.add_argument(
        "--count", type=positive, help="texts, or pairs, of each; default: 1000, of long ones 200, of a file all"
    )
    parser.add_argument("--rounds", type=positive, default=Settings.rounds, help=f"default: {Settings.rounds}")
    parser.add_argument(
        "--starts", type=positive, default=Settings.starts, help=f"of each system's process; default: {Settings.starts}"
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=Settings.timeout,
        metavar="SECONDS",
        help=f"that a system may take for a start, or a pass over the texts; default: {Settings.timeout}",
    )
    parser.add_argument(
        "--against",
        type=_peers,
        default=[],
        metavar="PEERS",
        help=f"measure beside them: {','.join(PEERS)}, or all; with other than embedding models "
        f"only {', '.join(peers_for(None))}",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="the model that the peers load")
    parser.add_argument(
        "--setup-peers",
        type=_peers,
        nargs="?",
        const=list(PEERS),
        metavar="PEERS",
        help="make the environments of all peers, or of those named, and measure nothing",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the results, with every round")
    parser.add_argument("--page", type=Path, metavar="FILE.html", help="write the report as one page with plots")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("OLD.json", "NEW.json"),
        help="measure nothing: name what became slower beyond noise, and exit 1 where something did",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the tables; or set up peers, or compare two runs."""
    if arguments.bundles and (arguments.setup_peers is not None or arguments.compare is not None):
        raise InputError("--setup-peers and --compare measure nothing: give no BUNDLE with them")
    if arguments.setup_peers is not None:
        set_up(arguments.setup_peers, report=print)
        return 0
    bench = import_implementation("bench", "monograph_bench.bench")
    if arguments.compare is not None:
        changes = bench.changes(*arguments.compare)
        print("\n".join(changes) or "nothing became slower beyond noise")
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
    )
    settings = Settings(rounds=arguments.rounds, starts=arguments.starts, timeout=arguments.timeout)
    for line in bench.measure(request, settings, arguments.output, arguments.page):
        print(line)
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
