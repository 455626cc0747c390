"""`monograph prepare`: faster starts and smaller processes, for room on the disk."""

from __future__ import annotations

import argparse

from monograph.commands import options
from monograph.preparation import prepare

HELP = "write to the cache what later starts on this machine can take from there, packed weights above all"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    options.add_engine(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prepare, and say what takes how much room."""
    folders = prepare(arguments.bundle, arguments.device, arguments.compute_dtype, arguments.threads)
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"packed weights, {size / 1e6:,.1f} MB: {folder}")
    if not folders:
        print("compiled; of packed weights this device has none: they are for --device cpu")
    return 0
