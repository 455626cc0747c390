"""`monograph unpack`: a bundle out of a file of `monograph pack`."""

from __future__ import annotations

import argparse

from monograph.bundle.archive import unpack_bundle
from monograph.commands import options
from monograph.commands.reporting import add_quiet, reported
from monograph.errors import printable

HELP = "extract the bundle of a packed file into a folder and hash every file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", metavar="FILE", type=options.path, help="file that `monograph pack` wrote")
    parser.add_argument(
        "output", metavar="OUTPUT", type=options.path, help="folder to write; must be empty or not exist"
    )
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Unpack the bundle and print its folder."""
    with reported(arguments) as progress:
        folder = unpack_bundle(arguments.file, arguments.output, progress)
        print(f"{printable(folder)}: unpacked, every hash matches")
    return 0
