"""`monograph pack`: a bundle as one file."""

from __future__ import annotations

import argparse

from monograph.bundle.archive import pack_bundle
from monograph.commands import options
from monograph.commands.reporting import add_quiet, reported
from monograph.errors import printable

HELP = "hash every file of a bundle and write it as one file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument("file", metavar="FILE", type=options.path, help="tar to write; must not exist yet")
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Pack the bundle and print the size of the file."""
    with reported(arguments) as progress:
        file = pack_bundle(arguments.bundle, arguments.file, progress)
        print(f"{printable(file)}: {file.stat().st_size / 1e6:,.1f} MB")
    return 0
