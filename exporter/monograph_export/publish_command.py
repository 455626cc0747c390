"""`monograph publish`."""

from __future__ import annotations

import argparse

from monograph.commands.reporting import add_quiet, reported
from monograph.errors import printable
from monograph_export.publishing import publish

HELP = "make a model repository of bundles that sentence-transformers, transformers.js and fastembed load too"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "bundles",
        metavar="BUNDLE",
        nargs="+",
        help="bundles of one embedding model, each of another precision, one of them fp32; monograph opens the first",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        required=True,
        help="the checkpoint that they were exported from, as SOURCE of `monograph export`",
    )
    parser.add_argument(
        "--to",
        metavar="FOLDER|ORG/NAME",
        required=True,
        help="folder to write, which must be empty or not exist, or repository on the Hub; ./ORG/NAME is a folder",
    )
    parser.add_argument("--private", action="store_true", help="make the repository on the Hub private")
    parser.add_argument(
        "--dry-run", action="store_true", help="write and check everything, and only list the files that would be there"
    )
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Publish and list the files."""
    with reported(arguments) as progress:
        published = publish(
            arguments.bundles,
            arguments.checkpoint,
            arguments.to,
            private=arguments.private,
            dry_run=arguments.dry_run,
            show_progress_bar=progress,
        )
        for name, size in published.files.items():
            print(printable(f"{size / 1e6:10,.3f} MB  {name}"))
        for name in published.deleted:
            print(printable(f"   deleted  {name}"))
        total = sum(published.files.values()) / 1e6
        target = published.target
        if arguments.dry_run:
            outcome = f"{len(published.files)} files of {total:,.1f} MB would be published to {target}"
            if not published.is_folder:
                outcome += "; other files of onnx/ there, and a model.onnx at the top, would be deleted"
        elif published.commit is None:
            outcome = f"{target}: {len(published.files)} files, {total:,.1f} MB"
        else:
            outcome = f"{target}: {len(published.files)} files, {total:,.1f} MB, commit {published.commit}"
        print(printable(outcome))
        return 0
