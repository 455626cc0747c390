"""`monograph embed`: a file of texts to a file of vectors."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from monograph.commands import options
from monograph.embedder import Embedder
from monograph.errors import InputError

HELP = "embed the lines of a file, or of standard input"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="a text a line, UTF-8; - for standard input (default)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="file to write, .npy or .jsonl; default: JSON lines on standard output"
    )
    options.add_engine(parser)
    options.add_prompt(parser)
    parser.add_argument("--batch-size", type=options.positive, help="texts in a batch; default: by their tokens")
    parser.add_argument("--truncate-dim", type=options.positive, help="keep only the first dimensions")
    parser.add_argument("--normalize", action="store_true", help="bring each vector to length 1")
    parser.add_argument("--precision", default="float32", choices=("float32", "binary", "ubinary"))
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Embed and write; the output file appears only when it is whole."""
    output: Path | None = arguments.output
    if output is not None and output.suffix not in (".npy", ".jsonl"):
        raise InputError(f"cannot tell the format of {output}: name it .npy or .jsonl")
    texts = _read_lines(arguments.file)
    with Embedder(arguments.bundle, arguments.device, arguments.compute_dtype, arguments.threads) as model:
        vectors = model.encode(
            texts,
            prompt_name=arguments.prompt_name,
            prompt=arguments.prompt,
            batch_size=arguments.batch_size,
            show_progress_bar=not arguments.quiet and sys.stderr.isatty(),
            precision=arguments.precision,
            normalize_embeddings=arguments.normalize,
            truncate_dim=arguments.truncate_dim,
        )
    _write(vectors, output)
    return 0


def _read_lines(name: str) -> list[str]:
    content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        # Only line feeds end a line: str.splitlines would also cut at a form feed or U+2028 within a text.
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8 (byte {error.start}): convert it, with `iconv -t UTF-8` for example"
        ) from error
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _write(vectors: NDArray[Any], output: Path | None) -> None:
    if output is None:
        for line in _json_lines(vectors):
            sys.stdout.write(line)
        return
    with _whole_file(output) as file:
        if output.suffix == ".npy":
            np.save(file, vectors)
        else:
            file.writelines(line.encode("ascii") for line in _json_lines(vectors))


def _json_lines(vectors: NDArray[Any]) -> Iterator[str]:
    # float32 values in the shortest decimals that give them back exactly.
    for vector in vectors:
        yield json.dumps([float(str(value)) for value in vector] if vector.dtype.kind == "f" else vector.tolist())
        yield "\n"


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` that takes its place once it is written without an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
