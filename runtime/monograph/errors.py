"""The errors that monograph raises.

MonographError
├── BundleError               a bundle is missing, damaged, or of a format this release does not read
├── DeviceError               the requested device or engine cannot run here
├── InputError                a text or an option of a call is not usable
└── ExportError               a checkpoint cannot become a bundle
    ├── UnsupportedModuleError   a module of the checkpoint has no exact graph; it is named
    └── ParityError              the graph does not equal the PyTorch model; no bundle was written

A message is one line that says what is wrong and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence


class MonographError(Exception):
    """Root of all errors of this package."""


class BundleError(MonographError):
    """A bundle cannot be used; ``problems`` lists everything that is wrong with it."""

    def __init__(self, bundle: object, problems: Sequence[str]) -> None:
        self.bundle = str(bundle)
        self.problems = tuple(problems)
        super().__init__(self.bundle, self.problems)

    def __str__(self) -> str:
        return f"bundle {self.bundle}: {'; '.join(self.problems)}"


class DeviceError(MonographError):
    """The requested device cannot run the bundle here; there is no silent fallback."""


class InputError(MonographError):
    """A text or an option of a call is not usable."""


class ExportError(MonographError):
    """A checkpoint cannot become a bundle; none was written."""


class UnsupportedModuleError(ExportError):
    """A module of the checkpoint, or a setting of it, has no exact graph."""


class ParityError(ExportError):
    """The exported graph gives other vectors than the PyTorch model."""


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's message, its type where the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
