"""Run a reader on the conformance suite, or write the suite."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from conformance.check import CommandReader, find_failures
from conformance.suite import write_suite


def main() -> int:
    """Print each case that fails and the counts; return 1 if any does."""
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the suite into a new folder and stop")
    parser.add_argument("--suite", type=Path, help="a folder that --write wrote")
    parser.add_argument("--without", default="", help="features that the reader does not have, separated by commas")
    parser.add_argument("reader", nargs="*", help="the reader's command")
    arguments = parser.parse_args()
    if arguments.write:
        write_suite(arguments.write)
        return 0
    if not arguments.reader:
        parser.error("the reader's command is missing")
    with tempfile.TemporaryDirectory() as folder:
        suite = arguments.suite or Path(folder)
        if arguments.suite is None:
            write_suite(suite)
        results = list(find_failures(CommandReader(arguments.reader), suite, arguments.without.split(",")))
    for name, failure in results:
        if failure:
            print(f"{name}: {failure}")
    failed = sum(bool(failure) for _, failure in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
