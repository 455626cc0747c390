"""Fixtures of the command line."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from support.tables import ON_CPU, EmbedHere

# Not by `from`: the package has the function of that name.
main = importlib.import_module("monograph.commands.main").main


@pytest.fixture
def embed_here(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> EmbedHere:
    """`embed` in this process and in ``tmp_path``, for the many runs whose start takes longer than what they show."""

    def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        words = ["embed", *map(str, (tiny_bundle, *ON_CPU, *arguments))]
        capfdbinary.readouterr()
        code = main(words)
        output, error = capfdbinary.readouterr()
        return subprocess.CompletedProcess(words, code, output, error)

    return run
