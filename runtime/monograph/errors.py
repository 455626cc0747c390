"""The errors that monograph raises.

MonographError
├── BundleError               a bundle is missing, damaged, or in a format that this release does not read
├── DeviceError               the requested device or engine cannot run here
├── InputError                a text or an option of a call is not valid; a ValueError, too
└── ExportError               a checkpoint cannot be exported
    ├── UnsupportedModuleError   a module of the checkpoint has no exact graph; the message names it
    └── ParityError              the graph does not match the PyTorch model; no bundle was written

A message is one line that says what is wrong and what to do. It has a bounded length and no control characters, even if
it quotes foreign text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Long enough for the problems of an honest bundle, and short enough for a screen.
_MAX_MESSAGE = 4_000
# Characters of a foreign error that are quoted.
_MAX_QUOTE = 1_000
# Spaces of other widths, and the joiners within words of Persian and Hindi: str.isprintable excludes them, too.
_HARMLESS = frozenset(
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200c\u200d\u202f\u205f\u3000"
)
_NOT_ASCII_PRINTABLE = re.compile(r"[^ -~]")


class MonographError(Exception):
    """Base class of all errors of this package.

    Examples:
        >>> from monograph import load
        >>> try:
        ...     load("no/such/folder")
        ... except MonographError as error:
        ...     print(error)
        bundle no/such/folder: there is no such folder: check the path, ...

    """

    def __str__(self) -> str:
        return printable(super().__str__(), _MAX_MESSAGE)


class BundleError(MonographError):
    """A bundle cannot be used.

    Attributes:
        bundle: Its path or name.
        problems: Everything that is wrong with it, one str per problem, which says what to do.

    Examples:
        >>> from monograph import load
        >>> try:
        ...     load("no/such/folder")
        ... except BundleError as error:
        ...     print(len(error.problems))
        1

    """

    def __init__(self, bundle: object, problems: Sequence[str]) -> None:
        self.bundle = str(bundle)
        self.problems = tuple(problems)
        super().__init__(self.bundle, self.problems)

    def __str__(self) -> str:
        return printable(f"bundle {self.bundle}: {'; '.join(self.problems)}", _MAX_MESSAGE)


class DeviceError(MonographError):
    """The requested device cannot run the bundle here; there is no silent fallback.

    Examples:
        >>> from monograph import load
        >>> try:
        ...     load(bundle, device="gpu")
        ... except DeviceError as error:
        ...     print(error)
        device 'gpu' is not known to this release; it has 'auto', ...

    """


class InputError(MonographError, ValueError):
    """A text or an option of a call is not valid.

    It is a ``ValueError``, too: what callers of sentence-transformers catch.

    Examples:
        >>> from monograph import load
        >>> try:
        ...     load(bundle, device="cpu").encode(["a text", None])
        ... except InputError as error:
        ...     print(error)
        text 1 must be a str, got None

    """


class ExportError(MonographError):
    """A checkpoint cannot be exported; no bundle was written.

    Examples:
        >>> try:
        ...     export("no/such/checkpoint", "bundle")
        ... except ExportError as error:
        ...     print(error)
        no/such/checkpoint is not a folder: ...

    """


class UnsupportedModuleError(ExportError):
    """A module of the checkpoint, or one of its settings, has no exact graph; the message names it.

    Examples:
        >>> try:
        ...     export(checkpoint_with_lstm, "bundle")
        ... except UnsupportedModuleError as error:
        ...     "LSTM" in str(error)
        True

    """


class ParityError(ExportError):
    """The exported graph's vectors differ from those of the PyTorch model, or of the file given as ``from_onnx``.

    Examples:
        >>> from monograph import ExportError, ParityError
        >>> issubclass(ParityError, ExportError)
        True

    """


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's message, its type where the message is empty."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return printable(line, _MAX_QUOTE)


def printable(text: object, limit: int | None = None) -> str:
    """Return foreign text as it may be printed: on one line, and without characters that control a terminal.

    Control characters, line separators, marks that change the direction of text and lone surrogates are escaped. Of a
    text of more than ``limit`` characters the middle is left out, because what to do often stands at the end.
    """
    string = str(text)
    if limit is not None and len(string) > limit:
        end = limit // 4
        string = f"{string[: limit - end]}… {len(string) - limit:,} characters … {string[-end:]}"
    return string if string.isprintable() else _NOT_ASCII_PRINTABLE.sub(_escape, string)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable() or character in _HARMLESS:
        return character
    return character.encode("unicode_escape").decode("ascii")
