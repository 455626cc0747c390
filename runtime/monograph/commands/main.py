"""Parse the command line, run one command, turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import io
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from monograph import __version__
from monograph.commands.signals import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, heeding_termination
from monograph.errors import MonographError

# A command is a module with HELP (str), configure(parser) and run(arguments) -> exit code. The runtime has
# these; other packages add theirs through the entry point group below.
BUILT_IN = ("embed", "similarity", "info", "verify", "pack", "unpack")
ENTRY_POINT_GROUP = "monograph.commands"

EXIT_ERROR = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 success, 1 an error, 2 bad usage, 130 or 143 a signal."""
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Texts of any script are printed; a terminal that cannot show one gets its escape instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with heeding_termination():
            return _run(_parser(argv).parse_args(argv))
    except Terminated as stop:
        print(f"monograph: {_with_notes('terminated', stop, ': ')}", file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt as stop:
        print(f"monograph: {_with_notes('interrupted', stop, ': ')}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    if arguments.verbose:
        logging.basicConfig(format="%(name)s: %(message)s")
        for package in ("monograph", "monograph_export"):
            logging.getLogger(package).setLevel(logging.INFO)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. What is still buffered has nowhere to go, and
        # Python would complain of that at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (MonographError, OSError) as error:
        if arguments.debug:
            raise
        print(f"monograph: error: {_one_line(error)}", file=sys.stderr)
        return EXIT_ERROR


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    common = _Intermixed(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common.add_argument("-v", "--verbose", action="store_true", help="log what is done")
    parser = argparse.ArgumentParser(
        prog="monograph", description="One Sentence Transformer, one ONNX graph: export it, embed without torch."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Intermixed)
    for name, module in _commands(next(iter(argv), "")).items():
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP, parents=[common])
        module.configure(sub)
        sub.set_defaults(run=module.run)
    return parser


class _Intermixed(argparse.ArgumentParser):
    """A parser that takes FILE also behind options; argparse otherwise gives an optional one up at the first option."""

    _parsing = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        if self._parsing:
            return super().parse_known_args(args, namespace)
        self._parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._parsing = False


def _commands(asked: str) -> dict[str, ModuleType]:
    """Return the command's module, and all of them only where help or another package's command is asked for."""
    if asked in BUILT_IN:
        return {asked: importlib.import_module(f"monograph.commands.{asked}")}
    found = {name: importlib.import_module(f"monograph.commands.{name}") for name in BUILT_IN}
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(point.name, point.load())
    return found


def _one_line(error: Exception) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    return _with_notes(message, error, "; ")


def _with_notes(message: str, error: BaseException, separator: str) -> str:
    # What a command leaves behind is a note: it goes with whatever ended the command.
    return separator.join([message, *getattr(error, "__notes__", ())])
