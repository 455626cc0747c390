"""pyarrow, and the error where it is missing."""

from __future__ import annotations

from monograph.errors import MonographError


class MissingPackageError(MonographError, ImportError):
    """A package is not installed that an option needs."""


def missing_package(purpose: str, package: str, extra: str, error: ImportError) -> MissingPackageError:
    """Return the error for a package that cannot be imported, to be raised from ``error``."""
    return MissingPackageError(f"{purpose} needs {package}: pip install 'monograph[{extra}]' ({error})")


try:
    import pyarrow
except ImportError as error:
    raise missing_package("reading and writing tables", "pyarrow", "arrow", error) from error

__all__ = ["MissingPackageError", "missing_package", "pyarrow"]
