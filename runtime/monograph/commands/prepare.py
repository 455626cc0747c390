"""`monograph prepare`: faster starts and smaller processes, for disk space."""

from __future__ import annotations

import argparse

from monograph.commands import options
from monograph.commands.reporting import add_quiet, reported
from monograph.errors import printable
from monograph.preparation import prepare

HELP = "fill the cache for faster starts on this machine, mainly with packed weights"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    options.add_engine(parser)
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prepare the bundle and print the size of what was cached."""
    with reported(arguments) as progress:
        folders = prepare(
            arguments.bundle,
            arguments.device,
            arguments.compute_dtype,
            arguments.threads,
            show_progress_bar=progress,
            quality=arguments.quality,
        )
        for folder in folders:
            size = sum(file.stat().st_size for file in folder.iterdir())
            print(f"packed weights, {size / 1e6:,.1f} MB: {printable(folder)}")
        if not folders:
            print("compiled; this device has no packed weights: they are for --device cpu")
    return 0
