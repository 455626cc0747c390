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
from pathlib import Path
from types import ModuleType

from monograph.commands.signals import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, heeding_termination
from monograph.errors import MonographError, first_line
from monograph.version import __version__

# A command is a module with HELP (str), configure(parser) and run(arguments) -> exit code. The runtime has
# these; other packages add theirs through the entry point group below.
BUILT_IN = ("embed", "similarity", "rank", "info", "verify", "pack", "unpack", "prepare")
ENTRY_POINT_GROUP = "monograph.commands"

EXIT_ERROR = 1
_COMMON = ("--debug", "-v", "--verbose")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 success, 1 an error, 2 bad usage, 130 or 143 a signal."""
    argv = sys.argv[1:] if argv is None else argv
    _occupy_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Texts of any script are printed; a terminal that cannot show one gets its escape instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with heeding_termination():
            return _run(argv)
    except Terminated as stop:
        print(f"monograph: {_with_notes('terminated', stop, ': ')}", file=sys.stderr)
        return EXIT_TERMINATED
    except KeyboardInterrupt as stop:
        print(f"monograph: {_with_notes('interrupted', stop, ': ')}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _occupy_closed_streams() -> None:
    """Give a standard stream that is closed (`2>&-`) an end that takes everything.

    Else the next file that is opened would get its number, and with it whatever a library prints there. What reads
    standard input is to know that it is closed, so sys.stdin stays None.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Open until the process ends.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _run(argv: Sequence[str]) -> int:
    debug = "--debug" in argv
    try:
        arguments = _parser(argv).parse_args(argv)
        debug = arguments.debug
        if arguments.verbose:
            _log(arguments.run.__module__)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. What is still buffered has nowhere to go, and
        # Python would complain of that at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (MonographError, OSError) as error:
        if debug:
            raise
        print(f"monograph: error: {_one_line(error)}", file=sys.stderr)
        return EXIT_ERROR


def _log(module: str) -> None:
    """Have this package and the one that a command's ``module`` is of log what they do."""
    logging.basicConfig(format="%(name)s: %(message)s")
    for name in (__name__, module):
        logging.getLogger(name.partition(".")[0]).setLevel(logging.INFO)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="monograph", description="One Sentence Transformer, one ONNX graph: export it, embed without torch."
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_common(parser, default=False)
    # A command's default would overwrite what was given before its name.
    common = _Intermixed(add_help=False)
    _add_common(common, default=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Intermixed)
    asked = next((word for word in argv if word not in _COMMON), "")
    for name, module in _commands(asked).items():
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP, parents=[common])
        module.configure(sub)
        sub.set_defaults(run=module.run)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, default: object) -> None:
    """Add the options of ``_COMMON``, which stand before the command or behind it."""
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help="log what is done")


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
    """Return the command's module, or all that can be imported where none is asked for, as for help.

    Raises:
        MonographError: the command that was asked for cannot be imported.

    """
    if asked in BUILT_IN:
        return {asked: _built_in(asked)}
    points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    if asked in points:
        return {asked: _loaded(points[asked])}
    found = {name: _built_in(name) for name in BUILT_IN}
    for name in sorted(points.keys() - found.keys()):
        try:
            found[name] = _loaded(points[name])
        except MonographError as error:
            print(f"monograph: warning: {_one_line(error)}", file=sys.stderr)
    return found


def _built_in(name: str) -> ModuleType:
    return importlib.import_module(f"monograph.commands.{name}")


def _loaded(point: importlib.metadata.EntryPoint) -> ModuleType:
    try:
        module: ModuleType = point.load()
    except Exception as error:
        package = "its package" if point.dist is None else point.dist.name
        raise MonographError(
            f"the command {point.name} cannot be imported ({first_line(error)}): install {package} anew, or remove it"
        ) from error
    return module


def _one_line(error: Exception) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    return _with_notes(message, error, "; ")


def _with_notes(message: str, error: BaseException, separator: str) -> str:
    # What a command leaves behind is a note: it goes with whatever ended the command.
    return separator.join([message, *getattr(error, "__notes__", ())])
