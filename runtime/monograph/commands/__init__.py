"""The `monograph` command."""

from monograph.commands.main import main

__all__ = ["main"]
