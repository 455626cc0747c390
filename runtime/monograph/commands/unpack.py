"""`monograph unpack`: the bundle that a file of `monograph pack` holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from monograph.bundle.archive import unpack_bundle

HELP = "write the bundle of a packed file into a folder, every file of it hashed"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="file that `monograph pack` wrote")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder to write; must not exist yet")


def run(arguments: argparse.Namespace) -> int:
    """Unpack and say where the bundle is."""
    folder = unpack_bundle(arguments.file, arguments.output)
    print(f"{folder}: unpacked, every hash is right")
    return 0
