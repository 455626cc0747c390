"""Parse the command line, run a command, turn errors and signals into one line and an exit code."""

from __future__ import annotations

import argparse
import ctypes
import errno
import importlib
import importlib.metadata
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import NoReturn

from monograph.errors import MonographError, first_line, printable
from monograph.memory import check_memory_of_numpy, out_of_memory
from monograph.version import __version__

# A command is a module with HELP (str), configure(parser) and run(arguments) -> exit code. These are the runtime's;
# other packages add theirs through the entry point group below.
BUILT_IN = ("embed", "similarity", "rank", "info", "verify", "pack", "unpack", "prepare", "plan", "serve")
ENTRY_POINT_GROUP = "monograph.commands"

EXIT_ERROR = 1
# The exit codes that shells report for processes ended by a signal.
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
_COMMON = ("--debug", "-v", "--verbose")
# Characters of an error's line.
_MAX_MESSAGE = 5_000


class Terminated(KeyboardInterrupt):
    """SIGTERM; it ends a command as Ctrl-C does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 success, 1 an error, 2 bad usage, 130 or 143 a signal."""
    argv = sys.argv[1:] if argv is None else argv
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Characters that the terminal cannot show are escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _ended_by_signals():
            return _run(argv)
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        message = _with_notes("terminated" if terminated else "interrupted", interrupt, ": ")
        print(f"monograph: {message}", file=sys.stderr)
        return EXIT_TERMINATED if terminated else EXIT_INTERRUPTED


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` on Ctrl-C, ``Terminated`` on SIGTERM; end the process at once on a second one.

    SIGTERM would otherwise leave half-written files. An exception has to wait for the end of a native call, which may
    last long, and so would a second one.
    """
    handlers = {}
    # Only the main thread may set a handler, and an application's handlers are left alone.
    if threading.current_thread() is threading.main_thread():
        before = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        handlers = {number: handler for number, handler in before.items() if signal.getsignal(number) == handler}
    for number in handlers:
        signal.signal(number, _interrupt)
        _handle_once(number)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    for either in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(either) == _interrupt:
            signal.signal(either, signal.SIG_DFL)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _handle_once(number: int) -> None:
    """Have the system restore a signal's default as it delivers the signal, and not Python after a native call."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        # Of GNU's C library alone; elsewhere the second signal waits for the end of the native call.
        if hasattr(library, "sysv_signal"):
            for function in (library.signal, library.sysv_signal):
                function.argtypes, function.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
            library.sysv_signal(number, library.signal(number, None))


def _open_closed_streams() -> None:
    """Connect closed standard streams (`2>&-`) to the null device.

    Otherwise the next file to be opened gets their number, and with it what libraries print. sys.stdin stays None, so
    that readers see that it is closed.
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
        check_memory_of_numpy()
        arguments = _parser(argv).parse_args(argv)
        debug = arguments.debug
        if arguments.verbose:
            _log(arguments.run.__module__)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output has closed it, as `head` does. Python would fail at exit to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (MonographError, OSError, MemoryError) as error:
        if debug:
            raise
        if isinstance(error, MemoryError):
            error = out_of_memory(error, 0, "go on")
        print(f"monograph: error: {_one_line(error)}", file=sys.stderr)
        return EXIT_ERROR


def _log(module: str) -> None:
    """Enable logging for this package and that of a command's ``module``."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter("%(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    for name in (__name__, module):
        logging.getLogger(name.partition(".")[0]).setLevel(logging.INFO)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="monograph", description="One Sentence Transformer, one ONNX graph: export it, embed without torch."
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_common(parser, default=False)
    # A command's default would overwrite an option given before its name.
    common = _Intermixed(add_help=False)
    _add_common(common, default=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Intermixed)
    command = next((word for word in argv if word not in _COMMON), "")
    for name, module in _import_commands(command).items():
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP, parents=[common])
        module.configure(sub)
        sub.set_defaults(run=module.run)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, default: object) -> None:
    """Add the options of ``_COMMON``, which may be before the command or after it."""
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help="log what is done")


class _LineFormatter(logging.Formatter):
    """Formats a record as one line, whatever it quotes."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, whatever the arguments are."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message, _MAX_MESSAGE))


class _Intermixed(_Parser):
    """A parser that accepts an optional FILE after options too, which argparse by default does not."""

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


def _import_commands(command: str) -> dict[str, ModuleType]:
    """Return the command's module; for any other word, as in ``--help``, all that can be imported."""
    points = {}
    if command not in BUILT_IN:
        points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
        if command in points:
            return {command: _load(points[command])}
    names = (command,) if command in BUILT_IN else BUILT_IN
    modules = {name: importlib.import_module(f"monograph.commands.{name}") for name in names}
    for name in sorted(points.keys() - modules.keys()):
        try:
            modules[name] = _load(points[name])
        except MonographError as error:
            print(f"monograph: warning: {_one_line(error)}", file=sys.stderr)
    return modules


def _load(point: importlib.metadata.EntryPoint) -> ModuleType:
    try:
        module: ModuleType = point.load()
    except Exception as error:
        package = "its package" if point.dist is None else point.dist.name
        raise MonographError(
            f"the command {point.name} cannot be imported ({first_line(error)}): reinstall {package}, or remove it"
        ) from error
    return module


def _one_line(error: Exception) -> str:
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        # Every other file has its name.
        message = f"standard output cannot be written ({error.strerror}): free space on the disk of its file"
    return _with_notes(message, error, "; ")


def _with_notes(message: str, error: BaseException, separator: str) -> str:
    # Notes name the files that an interrupted command has left.
    return printable(separator.join([message, *getattr(error, "__notes__", ())]), _MAX_MESSAGE)
